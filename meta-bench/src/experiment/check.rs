//! `meta check`: shows a resolved manifest and forecasts its run.

use clap::Args;
use meta_core::toolkit::Toolkit;

use super::{Experiment, trial::trial_of};
use crate::{command::Execute, failure::Result, manifest::args::ManifestArgs, output::print};

/// Check a manifest: show every value with its origin, and a forecast of memory and time.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The manifest.
    #[command(flatten)]
    manifest: ManifestArgs,
    /// Run no trial, and print no forecast.
    #[arg(long)]
    no_trial: bool,
    /// Do not refuse a run that needs more memory than there is, by an estimate.
    #[arg(long)]
    force: bool,
}

impl Execute for CheckArgs {
    /// Checks the manifest and prints it.
    ///
    /// # Errors
    /// Whatever is wrong with the manifest or its data, or stops the trial.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let experiment = Experiment::<T>::from_args(&self.manifest)?;
        experiment.check_memory(&experiment.forecast()?, self.force)?;
        let forecast = if self.no_trial {
            String::new()
        } else {
            trial_of(&self.manifest)?.lines()
        };
        print(&format!(
            "{}\n# run folder       {}\n{forecast}",
            experiment.manifest.to_toml(),
            experiment.default_folder().display(),
        ))
    }
}
