//! `meta run`: turns a checked experiment into a run folder with a result.

pub mod calibration;
pub mod checksums;
pub mod curve;
mod earlier;
pub mod elsewhere;
pub mod eval;
pub mod evaluations;
pub mod events;
pub mod folder;
pub mod follow;
pub mod interrupt;
mod memory_limit;
mod metrics;
pub mod predictions;
pub mod record;
pub mod regret;
pub mod result;
pub mod session;
pub mod spent;
pub mod state;
mod tail;
pub mod together;

use std::path::{Path, PathBuf};

use clap::Args;
use meta_core::toolkit::Toolkit;

use crate::{
    command::Execute,
    experiment::{Experiment, start_threads},
    failure::{CommandError, Result},
    manifest::args::ManifestArgs,
};
use earlier::Earlier;
use elsewhere::{Changes, trained};
use eval::evaluate_run;
use folder::{Found, RunFolder, inspect, read_json};
use result::{TestResult, read_result, show};
use session::{Session, locked, same_run};
use together::Together;

/// Train as a manifest says, and test the best parameters.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The manifest.
    #[command(flatten)]
    manifest: ManifestArgs,
    /// Resume from the last checkpoint; start where there is none.
    #[arg(long)]
    resume: bool,
    /// The run folder [default: runs/NAME-HASH].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the result as one JSON object on stdout.
    #[arg(long)]
    json: bool,
    /// No progress on stderr.
    #[arg(long)]
    quiet: bool,
    /// Start even if the run needs more memory than there is, by an estimate.
    #[arg(long)]
    force: bool,
}

impl Execute for RunArgs {
    /// Trains and tests, or resumes, or shows the result of a run that is finished.
    ///
    /// # Errors
    /// Whatever is wrong with manifest, data, folder or training.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let together = Together::start()?;
        match together.close(self.run::<T>(&together))? {
            Some(result) => show(&result, self.json, self.quiet),
            None => Ok(()),
        }
    }
}

/// What is to be done for a run.
enum Due {
    /// Nothing: it has its result.
    Nothing(Box<TestResult>),
    /// Another test of the trained run in this folder.
    Test(PathBuf),
    /// To begin it, or to resume the run of this hash.
    Work(Option<RunFolder>, String),
}

impl RunArgs {
    /// The result, on the first process.
    fn run<T: Toolkit>(&self, together: &Together) -> Result<Option<TestResult>> {
        let experiment = together.agree(self.prepare::<T>(together))?;
        together.compare(&experiment)?;
        let path = match &self.dir {
            Some(path) => path.clone(),
            None => experiment.default_folder(),
        };
        let due = match together.is_first() {
            true => self.due(&experiment, &path),
            false => Ok(Due::Work(None, experiment.hash())),
        };
        let due = together.agree(due)?;
        if !together.first_says(matches!(due, Due::Work(..)))? {
            return match due {
                Due::Nothing(result) => Ok(Some(*result)),
                Due::Test(folder) => self.test_again(&experiment, &folder).map(Some),
                Due::Work(..) => Ok(None),
            };
        }
        let Due::Work(locked, hash) = due else {
            return Ok(None);
        };
        interrupt::listen()?;
        Session {
            experiment,
            hash,
            path,
            locked,
            quiet: self.quiet,
            until: u64::MAX,
            force: self.force,
            together: together.clone(),
        }
        .work()
    }

    fn prepare<T: Toolkit>(&self, together: &Together) -> Result<Experiment<T>> {
        let manifest = self.manifest.resolve::<T>()?;
        if let Some(origin) = &manifest.sweep {
            return Err(CommandError::Usage(format!(
                "{origin}: [sweep] makes this manifest many runs; start them with `meta sweep {}`",
                self.manifest.manifest.display()
            )));
        }
        start_threads(together.threads(manifest.run.threads))?;
        Experiment::<T>::prepare(manifest, self.manifest.data.as_deref())
    }

    /// What is to be done for `experiment`, with the folder at `path`.
    fn due<T: Toolkit>(&self, experiment: &Experiment<T>, path: &Path) -> Result<Due> {
        match inspect(path)? {
            Found::Nothing => {
                if self.dir.is_none() {
                    match earlier::find(experiment, path)? {
                        Some(Earlier::Trained(folder)) => return Ok(Due::Test(folder)),
                        Some(Earlier::Differs(difference)) if !self.quiet => {
                            eprintln!("a new run: {difference}");
                        }
                        _ => {}
                    }
                }
                Ok(Due::Work(None, experiment.hash()))
            }
            Found::Finished => {
                if let Err(other) = same_run(path, experiment) {
                    return match earlier::is_trained_as(path, experiment)? {
                        true => Ok(Due::Test(path.to_owned())),
                        false => Err(other),
                    };
                }
                if !self.quiet {
                    eprintln!("{}: this run is finished; its result:", path.display());
                }
                Ok(Due::Nothing(Box::new(read_result(path)?)))
            }
            Found::Unfinished => {
                let (folder, hash) = locked(path, experiment)?;
                if !self.resume {
                    return Err(CommandError::Usage(format!(
                        "{}: this run was started and is not finished; continue it with --resume, or \
                         remove the folder to start anew",
                        path.display()
                    )));
                }
                Ok(Due::Work(Some(folder), hash))
            }
        }
    }

    /// Tests the finished run in `folder`, which is trained as `experiment` says, with its test settings.
    fn test_again<T: Toolkit>(
        &self,
        experiment: &Experiment<T>,
        folder: &Path,
    ) -> Result<TestResult> {
        let record = read_json(&folder.join(folder::RECORD))?;
        let overrides = experiment.manifest.test_overrides(&record["manifest"]);
        if !self.quiet {
            eprintln!(
                "{}: this run is trained; it is tested with {}",
                folder.display(),
                overrides.join(", ")
            );
        }
        let changes = Changes {
            overrides: &overrides,
            on: None,
            data: self.manifest.data.as_deref(),
        };
        let run = trained::<T>(folder, changes)?;
        evaluate_run(run, folder, self.quiet, self.force)
    }
}
