//! `meta check`: shows a resolved manifest and forecasts its run.

use clap::Args;
use meta_core::{
    parallel::TaskChunks,
    toolkit::Toolkit,
    train::{check_count, message_bytes},
};

use super::{
    Experiment,
    trial::{Trial, trial_of},
};
use crate::{
    command::Execute,
    failure::Result,
    manifest::args::ManifestArgs,
    output::{
        print,
        units::{bytes_text, duration_text},
    },
};

/// Check a manifest: show every value with its origin, and a forecast of memory and time.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The manifest.
    #[command(flatten)]
    manifest: ManifestArgs,
    /// Run no trial, and print no forecast.
    #[arg(long)]
    no_trial: bool,
    /// Forecast the run for so many processes (docs/distributed.md), each as fast as this one.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        conflicts_with = "no_trial"
    )]
    processes: usize,
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
            let trial = trial_of(&self.manifest)?;
            trial.lines() + &self.shared(&experiment, &trial)?
        };
        print(&format!(
            "{}\n# run folder       {}\n{forecast}",
            experiment.manifest.to_toml(),
            experiment.default_folder().display(),
        ))
    }
}

impl CheckArgs {
    /// The forecast for several processes; nothing for one.
    fn shared<T: Toolkit>(&self, experiment: &Experiment<T>, trial: &Trial) -> Result<String> {
        let (count, meta_batch) = (self.processes, experiment.manifest.train.meta_batch);
        if count <= 1 {
            return Ok(String::new());
        }
        let graphs = TaskChunks {
            tasks: trial.task_chunk,
            concurrent: 1,
        };
        let acts = experiment.spec.task.is_acting();
        check_count(count, meta_batch, graphs, acts)
            .map_err(|error| experiment.manifest.locate(error))?;
        let chunks = meta_batch.div_ceil(trial.task_chunk.max(1)).max(1);
        let train = trial.train_seconds * chunks.div_ceil(count) as f64 / chunks as f64;
        let message = message_bytes(trial.parameters as u64, meta_batch as u64);
        Ok(format!(
            "# {count} processes      about {} of training, {} of testing, each as fast as this one, without \
             messages; {} sent by each in an iteration\n",
            duration_text(train),
            duration_text(trial.test_seconds / count as f64),
            bytes_text(message),
        ))
    }
}
