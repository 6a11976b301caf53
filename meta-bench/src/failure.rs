//! Why a command failed, and the exit code that reports it.

use std::path::PathBuf;

use meta_core::Error;

/// Why a command failed. Displays as one message that names file, key or value.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The library refused something.
    #[error(transparent)]
    Core(#[from] Error),
    /// The library refused a setting whose origin is known.
    #[error("{origin}: {error}")]
    At {
        /// Where the setting was given: `file.toml:12`, `command line`.
        origin: String,
        /// What is wrong with it.
        error: Error,
    },
    /// A manifest that is not TOML.
    #[error("{}:{line}: {message}", .path.display())]
    Syntax {
        /// The manifest.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// Invalid usage.
    #[error("{0}")]
    Usage(String),
    /// Another process works on the run.
    #[error("{0}")]
    Busy(String),
    /// Some runs of a sweep failed; the others are finished.
    #[error("{0}")]
    Runs(String),
    /// Training produced something that is not a number.
    #[error(
        "{error}; the last good checkpoint, of iteration {saved}, is {} (lower train.lr or \
         learner.inner_lr, or set train.clip_norm)",
        .checkpoint.display()
    )]
    Diverged {
        /// What was not a number, and when.
        error: Error,
        /// Iteration of the last checkpoint.
        saved: u64,
        /// The checkpoint.
        checkpoint: PathBuf,
    },
    /// A test came to something that is no result.
    #[error(
        "{error}; lower learner.inner_lr or learner.test_steps: `meta eval {} KEY=VALUE` tests the trained \
         parameters with other settings",
        .run_dir.display()
    )]
    TestDiverged {
        /// Which episode, and what was not finite.
        error: Error,
        /// The run folder.
        run_dir: PathBuf,
    },
    /// The device failed in the middle of a run.
    #[error(
        "{error}; the run is saved up to iteration {saved}, in {}: resume it with --resume; where the \
         device was full, with fewer tasks in memory at once (a smaller train.task_chunk, or test.chunk \
         for validations and the test)",
        .checkpoint.display()
    )]
    Lost {
        /// What the driver says.
        error: Error,
        /// Iteration of the last checkpoint.
        saved: u64,
        /// The checkpoint.
        checkpoint: PathBuf,
    },
    /// What was checked is wrong.
    #[error("{0}")]
    Wrong(String),
    /// The user interrupted the command; what is done is saved.
    #[error("{0}")]
    Interrupted(String),
    /// All processes of a run know of it, and the first one, this one, is to say it.
    #[error(transparent)]
    Together(Box<CommandError>),
    /// The first process of the run has said what happened; what is left is the exit code.
    #[error("the first process has said what happened")]
    SaidElsewhere(u8),
}

impl CommandError {
    /// 130 for an interruption, 1 for a check or for runs of a sweep that failed, 2 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            CommandError::Interrupted(_) => 130,
            CommandError::Together(error) => error.exit_code(),
            CommandError::SaidElsewhere(code) => *code,
            CommandError::Wrong(_) | CommandError::Runs(_) => 1,
            _ => 2,
        }
    }

    /// Whether all processes of a run have come to it: training diverges, and is interrupted, on all of them.
    pub fn is_known_to_all(&self) -> bool {
        use CommandError::*;
        matches!(
            self,
            Together(_)
                | SaidElsewhere(_)
                | Diverged { .. }
                | TestDiverged { .. }
                | Interrupted(_)
                | Core(Error::Diverged { .. } | Error::DivergedEpisode { .. })
        )
    }

    /// The error itself, where all processes know of it.
    pub fn itself(&self) -> &Self {
        match self {
            CommandError::Together(error) => error,
            other => other,
        }
    }
}

/// Shorthand for results of a command.
pub type Result<T, E = CommandError> = std::result::Result<T, E>;
