//! `meta plot`: draws one run, or many over a setting.

use std::path::PathBuf;

use clap::Args;
use meta_core::toolkit::Toolkit;

use super::{plot_run::plot_run, plot_setting::plot_setting};
use crate::{command::Execute, failure::Result, run::result::read_result};

/// Draw the scores of a finished run over training and over adaptation steps, or those of many
/// runs over a setting, into an SVG file.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// The run folder; with `--x`, a folder of run folders.
    run_dir: PathBuf,
    /// The picture to write.
    out: PathBuf,
    /// Draw the scores of all finished runs over this numeric setting, such as `data.tasks`.
    #[arg(long, value_name = "KEY")]
    x: Option<String>,
    /// Make the axis of that setting logarithmic.
    #[arg(long, requires = "x")]
    log_x: bool,
    /// Only runs that meet this condition, as for `meta compare`; several must all be met.
    #[arg(long = "where", value_name = "CONDITION", requires = "x")]
    conditions: Vec<String>,
}

impl Execute for PlotArgs {
    /// Draws the picture.
    ///
    /// # Errors
    /// When there is no such run, or a file cannot be read or written.
    fn execute<T: Toolkit>(self) -> Result<()> {
        match &self.x {
            Some(key) => plot_setting(&self.run_dir, key, self.log_x, &self.conditions, &self.out),
            None => plot_run(&self.run_dir, &read_result(&self.run_dir)?, &self.out),
        }
    }
}
