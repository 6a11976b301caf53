//! The binary `meta` as a library: manifests, runs, evaluation and reports.
//!
//! A crate with learners of its own gets the whole binary by declaring a [`Toolkit`] and calling
//! [`main_with`] in its `main`.
//!
//! # A tour
//!
//! The crate is made of rooms, each of which uses only those above it in this table.
//!
//! | room | what it does |
//! |---|---|
//! | [`failure`], `command`, `machine` | why a command failed; what a command is; what the system reports |
//! | `output` | standard output, tables, progress, units, charts |
//! | [`manifest`] | resolves a manifest: every value with its origin |
//! | [`experiment`] | builds and checks what a manifest names; forecasts memory and time |
//! | [`run`] | one run in its folder: trains, resumes, tests |
//! | `finished` | finds, compares, draws, reports and exports finished runs |
//! | `explain` | shows what a trained learner predicts, attends to and how it adapts |
//! | [`use_trained`] | names what a person brings, by a trained learner |
//! | `export` | writes runs into the files of other tools |
//! | `gradcheck` | checks gradients, and compares backends |
//! | `bench` | measures speed and memory |
//! | `sweep` | many runs: plans all of them, then starts them |
//! | `watch` | shows runs in a terminal while they train |
//! | `docs` | writes the parts of the documentation that come from the code |
//! | `list`, `contact_sheet`, `init`, `shell` | small commands |
//! | [`untrusted`] | readers of what others wrote, for fuzzing and tests |
//! | `cli` | the list of commands, one line each |

/// Writes a line to stderr. As the standard one, but a reader that has gone ends nothing.
macro_rules! eprintln {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod bench;
mod cli;
mod command;
mod contact_sheet;
mod docs;
pub mod experiment;
mod explain;
mod export;
pub mod failure;
mod finished;
mod gradcheck;
mod init;
mod list;
mod machine;
pub mod manifest;
mod output;
pub mod run;
mod shell;
mod sweep;
pub mod untrusted;
pub mod use_trained;
mod watch;

use std::{io::IsTerminal, process::ExitCode};

use clap::{CommandFactory, Parser};

use cli::Cli;
use failure::{CommandError, Result};
pub use meta_algos::BuiltIn;
pub use meta_core::toolkit::{Catalogue, Toolkit};
use output::text::visible;
pub use use_trained::{Answer, Fitted, TrainedLearner};

/// A trained learner with what `meta` has.
pub type Trained = TrainedLearner<BuiltIn>;

/// The binary with the learners, encoders, sources and optimisers of `T`; `meta` has those of [`BuiltIn`].
///
/// Every learner on every backend is compiled where this is called, and only there.
///
/// Exit codes: 0 when done, 1 when a check or a run of a sweep failed, 2 for anything that the user can
/// put right, 130 when interrupted.
pub fn main_with<T: Toolkit>() -> ExitCode {
    machine::age();
    let cli = Cli::parse();
    command::PROGRAM.get_or_init(Cli::command);
    match start_log(&cli.log).and_then(|()| cli.command.execute::<T>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(CommandError::SaidElsewhere(code)) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}", visible(&error.to_string()));
            ExitCode::from(error.exit_code())
        }
    }
}

fn start_log(level: &str) -> Result<()> {
    // A device that fails is an error of the command; CubeCL's warnings would only say it again.
    let level = match level {
        "warn" => "warn,cubecl_common=error",
        other => other,
    };
    let filter = tracing_subscriber::EnvFilter::try_new(level).map_err(|error| {
        CommandError::Usage(format!(
            "`--log {level}`: {error}; expected error, warn, info, debug, trace or a filter"
        ))
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
    Ok(())
}
