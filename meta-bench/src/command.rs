//! Defines what a command is: arguments that can be executed.

use std::sync::OnceLock;

use clap::Args;
use meta_core::toolkit::Toolkit;

use crate::failure::Result;

/// A command of the binary: its arguments, whose documentation is its help, and what it does.
///
/// A command is one file with a struct that implements this, and one line in `cli.rs`.
pub trait Execute: Args {
    /// Does what the arguments ask for, with the learners, encoders, sources and optimisers of `T`.
    ///
    /// # Errors
    /// What kept it from being done; see [`crate::failure::CommandError::exit_code`].
    fn execute<T: Toolkit>(self) -> Result<()>;
}

/// The program with all of its commands, once it runs.
pub static PROGRAM: OnceLock<clap::Command> = OnceLock::new();
