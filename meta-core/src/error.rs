//! The one error type of the library: what went wrong, where, and what was expected instead.
//!
//! Every variant that a user can cause names the file, key or value at fault, so that the binary can
//! print it as it stands and exit with code 2. Shape mismatches inside a network are programming
//! errors and panic with both operands named; everything that depends on input is an [`Error`].

use std::path::{Path, PathBuf};

/// Shorthand for results of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting has a value that cannot be used.
    #[error("`{key} = {value}`: {expected}")]
    Setting {
        /// Dotted path of the setting, as in the manifest (`data.way`).
        key: String,
        /// The value that was given.
        value: String,
        /// What was expected, as a clause (`must be at least 1`).
        expected: String,
    },
    /// A name that is not in a list of known names (learner, encoder, source, backend, key).
    #[error("unknown {kind} `{name}`{}; known: {}", nearest_hint(.nearest), .known.join(", "))]
    Unknown {
        /// What kind of thing was named (`learner`).
        kind: &'static str,
        /// The name that was given.
        name: String,
        /// The known name most like it, where one is close enough.
        nearest: Option<String>,
        /// All known names.
        known: Vec<String>,
    },
    /// A data set on disk is missing, incomplete or damaged.
    #[error("{}: {message}", .path.display())]
    Data {
        /// The file or folder at fault.
        path: PathBuf,
        /// What was found, what was looked for, and where it can be had.
        message: String,
    },
    /// A file could not be read or written.
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io {
        /// The file or folder at fault.
        path: PathBuf,
        /// What was being done (`read`, `write`, `create folder`).
        action: &'static str,
        /// The reason from the system.
        source: std::io::Error,
    },
    /// A checkpoint does not fit or is damaged.
    #[error("{}: {message}", .path.display())]
    Checkpoint {
        /// The checkpoint file.
        path: PathBuf,
        /// What does not fit, and what was expected.
        message: String,
    },
    /// A backend that is known but not compiled in or not available on this machine.
    #[error("backend `{name}` {reason}")]
    Backend {
        /// The backend's name.
        name: String,
        /// Why it cannot be used and what to do about it.
        reason: String,
    },
    /// An accelerator failed while it computed: it is gone, or out of memory.
    #[error("backend `{backend}`: the device failed: {reason}")]
    Device {
        /// The backend's name.
        backend: String,
        /// What the driver says.
        reason: String,
    },
    /// A process that shares the work of a run is gone, or differs from the others.
    #[error("{message}")]
    Processes {
        /// Which one, and what is wrong.
        message: String,
    },
    /// Training produced a loss or gradient that is not a number.
    #[error("iteration {iteration}: {what} is {value}, not a finite number")]
    Diverged {
        /// The outer iteration, counted from 1.
        iteration: u64,
        /// Which quantity is not finite (`loss`, `gradient norm`).
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// An evaluation came to something that is no result.
    #[error("{split} episode {episode}: {what} is {value}, expected {expected}")]
    DivergedEpisode {
        /// Part of the source.
        split: String,
        /// Number of the episode, from 0.
        episode: u64,
        /// Which quantity (`loss`, `mean squared error after 3 steps`).
        what: String,
        /// Its value.
        value: f64,
        /// What it should be.
        expected: &'static str,
    },
}

fn nearest_hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!(" (did you mean `{name}`?)"))
        .unwrap_or_default()
}

impl Error {
    /// A setting with a value that cannot be used.
    pub fn setting(
        key: impl Into<String>,
        value: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Error::Setting {
            key: key.into(),
            value: value.to_string(),
            expected: expected.into(),
        }
    }

    /// A name that is not in a list; suggests the known name with the highest Jaro–Winkler similarity.
    pub fn unknown<'a>(
        kind: &'static str,
        name: impl Into<String>,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let name = name.into();
        let known: Vec<String> = known.into_iter().map(str::to_owned).collect();
        let nearest = known
            .iter()
            .map(|candidate| (strsim::jaro_winkler(&name, candidate), candidate))
            .filter(|(similarity, _)| *similarity > 0.75)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, candidate)| candidate.clone());
        Error::Unknown {
            kind,
            name,
            nearest,
            known,
        }
    }

    /// A data set that is missing, incomplete or damaged.
    pub fn data(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Error::Data {
            path: path.as_ref().to_owned(),
            message: message.into(),
        }
    }

    /// A failed file operation.
    pub fn io(path: impl AsRef<Path>, action: &'static str, source: std::io::Error) -> Self {
        Error::Io {
            path: path.as_ref().to_owned(),
            action,
            source,
        }
    }

    /// A checkpoint that does not fit or is damaged.
    pub fn checkpoint(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Error::Checkpoint {
            path: path.as_ref().to_owned(),
            message: message.into(),
        }
    }
}
