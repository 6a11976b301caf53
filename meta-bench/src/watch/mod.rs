//! `meta watch`: a live view of runs in a terminal, from their folders alone.
//!
//! | file | what it does |
//! |---|---|
//! | `sources` | which runs there are, and their logs |
//! | `view` | what is shown, and what a key does with it |
//! | `screen` | draws it |
//! | `terminal` | the terminal, and the time between two looks |
//!
//! What a run has written is followed by [`crate::run::follow`]. All of it is in builds with the cargo feature
//! `watch`.

#[cfg(feature = "watch")]
mod screen;
#[cfg(feature = "watch")]
mod sources;
#[cfg(feature = "watch")]
mod terminal;
#[cfg(feature = "watch")]
mod view;

use std::{io::IsTerminal, path::PathBuf};

use clap::Args;
use meta_core::toolkit::Toolkit;

use crate::{
    command::Execute,
    failure::{CommandError, Result},
};

/// Whether this build has the live view.
pub const COMPILED: bool = cfg!(feature = "watch");

/// Watch runs while they train, in this terminal: state, progress, time left, best validation, curves (needs the
/// cargo feature `watch`). Reads run folders alone, so it works beside a run or a sweep, over ssh, and for runs of
/// a cluster.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Run folders, folders of sweeps, or folders of run folders [default: runs].
    runs: Vec<PathBuf>,
}

impl Execute for WatchArgs {
    /// Shows the runs until a key or a signal ends it.
    ///
    /// # Errors
    /// Without a terminal, for a path that is neither a run, a sweep nor a folder of runs, and in a build without
    /// the live view.
    fn execute<T: Toolkit>(self) -> Result<()> {
        if !(std::io::stdout().is_terminal() && std::io::stdin().is_terminal()) {
            return Err(CommandError::Usage(
                "meta watch needs a terminal; in a pipe or a file, use `meta runs list` or \
                 `meta sweep status`"
                    .to_owned(),
            ));
        }
        #[cfg(feature = "watch")]
        return terminal::show(&self.runs);
        #[cfg(not(feature = "watch"))]
        Err(CommandError::Usage(
            "`meta watch`: this build has no live view; build with `--features watch`, or see \
             `meta runs list`"
                .to_owned(),
        ))
    }
}
