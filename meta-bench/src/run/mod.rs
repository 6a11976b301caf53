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
pub mod result;
pub mod state;
mod tail;

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use clap::Args;
use meta_core::{
    Error,
    backend::{WithBackend, dispatch},
    files::write_atomically,
    learner::{Learner, PredictAt},
    params::Params,
    primitives::Primitives,
    toolkit::{Catalogue, Toolkit},
    train::{
        Ending, TrainState, checkpoint_file,
        eval::{Metric, evaluate},
    },
};
use serde_json::{Value, json};

use crate::{
    command::Execute,
    experiment::{Experiment, initial, memory::Needed, start_threads},
    failure::{CommandError, Result},
    manifest::{Manifest, args::ManifestArgs},
    output::{pace::Work, progress::Progress},
};
use checksums::{Checksums, Extra, check_fixed, check_unfinished};
use earlier::Earlier;
use elsewhere::{Changes, trained};
use eval::evaluate_run;
use folder::{Found, RunFolder, inspect, json_bytes, read_json};
use interrupt::STOP;
use memory_limit::MemoryLimit;
use metrics::{Restored, RunWriter, first_checkpoint};
use record::record;
use result::{TestResult, Trained, Untrained, read_result, scores_of_answers, show};

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
        show(&self.run::<T>()?, self.json, self.quiet)
    }
}

impl RunArgs {
    fn run<T: Toolkit>(&self) -> Result<TestResult> {
        let manifest = self.manifest.resolve::<T>()?;
        if let Some(origin) = &manifest.sweep {
            return Err(CommandError::Usage(format!(
                "{origin}: [sweep] makes this manifest many runs; start them with `meta sweep {}`",
                self.manifest.manifest.display()
            )));
        }
        start_threads(manifest.run.threads)?;
        let experiment = Experiment::<T>::prepare(manifest, self.manifest.data.as_deref())?;
        let path = self
            .dir
            .clone()
            .unwrap_or_else(|| experiment.default_folder());
        let mut hash = experiment.hash();
        let locked = match inspect(&path)? {
            Found::Nothing => {
                if self.dir.is_none() {
                    match earlier::find(&experiment, &path)? {
                        Some(Earlier::Trained(folder)) => {
                            return self.test_again(&experiment, &folder);
                        }
                        Some(Earlier::Differs(difference)) if !self.quiet => {
                            eprintln!("a new run: {difference}");
                        }
                        _ => {}
                    }
                }
                None
            }
            Found::Finished => {
                if let Err(other) = same_run(&path, &experiment) {
                    return match earlier::is_trained_as(&path, &experiment)? {
                        true => self.test_again(&experiment, &path),
                        false => Err(other),
                    };
                }
                if !self.quiet {
                    eprintln!("{}: this run is finished; its result:", path.display());
                }
                return read_result(&path);
            }
            Found::Unfinished => {
                let folder;
                (folder, hash) = locked(&path, &experiment)?;
                if !self.resume {
                    return Err(CommandError::Usage(format!(
                        "{}: this run was started and is not finished; continue it with --resume, or \
                         remove the folder to start anew",
                        path.display()
                    )));
                }
                Some(folder)
            }
        };
        interrupt::listen()?;
        session(Session {
            experiment,
            hash,
            path,
            locked,
            quiet: self.quiet,
            until: u64::MAX,
            force: self.force,
        })
    }
}

impl RunArgs {
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

/// Starts or resumes the run of `experiment` in the folder at `path`, at most up to iteration
/// `until`.
///
/// # Errors
/// [`CommandError::Busy`] when another process works on it, [`CommandError::Interrupted`] when it
/// comes to `until` or is asked to stop, and whatever goes wrong.
pub fn work<T: Toolkit>(
    experiment: Experiment<T>,
    path: PathBuf,
    until: u64,
) -> Result<TestResult> {
    let (locked, hash) = match inspect(&path)? {
        Found::Nothing => (None, experiment.hash()),
        Found::Finished => return read_result(&path),
        Found::Unfinished => {
            let (folder, hash) = locked(&path, &experiment)?;
            (Some(folder), hash)
        }
    };
    session(Session {
        experiment,
        hash,
        path,
        locked,
        quiet: true,
        until,
        // The sweep was planned: what it starts fits, or was forced.
        force: true,
    })
}

fn session<T: Toolkit>(session: Session<T>) -> Result<TestResult> {
    session.experiment.check_precision_of_training()?;
    let target = session.experiment.manifest.run.target();
    let folder = session.path.clone();
    dispatch(&target, session).map_err(|error| match error {
        Error::Device { .. } => lost_device(error, &folder),
        other => other.into(),
    })?
}

/// Says how to resume after the device has failed.
fn lost_device(error: Error, folder: &Path) -> CommandError {
    let path = folder.join(folder::CHECKPOINT);
    let saved = checkpoint_file::read(&path)
        .ok()
        .and_then(|checkpoint| checkpoint.record["train"]["iteration"].as_u64());
    match saved {
        Some(saved) => CommandError::Lost {
            error,
            saved,
            checkpoint: path,
        },
        None => error.into(),
    }
}

/// Locks the unfinished run at `path`, which must be the one of `experiment`, and returns its hash.
fn locked<T: Toolkit>(path: &Path, experiment: &Experiment<T>) -> Result<(RunFolder, String)> {
    let folder = RunFolder::open(path)?;
    check_fixed(path)?;
    let hash = same_run(path, experiment)?;
    Ok((folder, hash))
}

/// Checks that the run at `path` is the one of `experiment`, and returns its hash.
///
/// A run whose device was full resumes with fewer tasks at once: bounds of memory may differ.
fn same_run<T: Toolkit>(path: &Path, experiment: &Experiment<T>) -> Result<String> {
    let record = read_json(&path.join(folder::RECORD))?;
    let manifest = experiment.manifest.with_bounds_of(&record["manifest"]);
    let hash = manifest.hash(&experiment.source.content_hash());
    if record["hash"] == json!(hash) {
        return Ok(hash);
    }
    let difference = manifest
        .first_difference_from(&record["manifest"])
        .map_or_else(
            || "the data differs".to_owned(),
            |(key, here, there)| format!("`{key}` is {there} there and {here} here"),
        );
    Err(CommandError::Usage(format!(
        "{}: holds another run: {difference}; expected the run {}",
        path.display(),
        &hash[..12]
    )))
}

/// A run on a backend whose name is known only now.
struct Session<T: Toolkit> {
    experiment: Experiment<T>,
    hash: String,
    path: PathBuf,
    /// The folder, where it exists.
    locked: Option<RunFolder>,
    quiet: bool,
    /// The iteration at which the session pauses.
    until: u64,
    /// Whether it starts in whatever memory there is.
    force: bool,
}

impl<T: Toolkit> WithBackend for Session<T> {
    type Output = Result<TestResult>;

    fn run<B: Primitives>(mut self, device: B::Device) -> Self::Output {
        let memory = MemoryLimit::watch(self.experiment.manifest.train.memory);
        let experiment = &self.experiment;
        let mut learner = experiment.fitting_learner::<B>(Needed::ForRun, &device, self.force)?;
        let parameters = learner.parameters();
        let settings = &experiment.manifest.train;
        settings
            .check_trainable(&parameters)
            .map_err(|error| experiment.manifest.locate(error))?;
        let folder = match self.locked.take() {
            Some(folder) => folder,
            None => {
                let manifest = &experiment.manifest;
                let start = initial::start(manifest, parameters.clone(), &device)?;
                self.create_folder(&start, &device)?
            }
        };
        forget_failure(&folder)?;
        interrupt::forget(folder.path());
        // A fresh run also starts from the file that it has just written: there is one path for both.
        let settings = &self.experiment.manifest.train;
        let (parameters, state, extra, checksums) = self.restore(&folder, &parameters, &device)?;
        if state.iteration >= self.until && state.iteration < settings.iterations {
            return Err(interrupted(&folder, state.iteration));
        }
        learner.set_parameters(parameters);
        let restored = Restored {
            extra,
            checksums,
            iteration: state.iteration,
        };
        let progress = self.progress(&folder, state.iteration);
        let manifest = &self.experiment.manifest;
        let mut writer = RunWriter::open(&folder, restored, manifest, progress, &STOP, self.until)?;
        let (state, ending) = self.train(learner.as_mut(), state, &mut writer, &device)?;
        if ending == Ending::Interrupted || STOP.load(Ordering::Relaxed) {
            writer.progress.finish();
            interrupt::forget(folder.path());
            if let Some(used) = memory.and_then(MemoryLimit::exceeded_by) {
                return Err(used.ended(folder.path(), state.iteration));
            }
            return Err(interrupted(&folder, state.iteration));
        }
        match learner.calibration() {
            [] => writer.write_best(&state)?,
            _ => writer.rewrite_best(&state)?,
        }
        let train_seconds = writer.train_seconds();
        if let Some(best) = &state.best {
            learner.set_parameters(best.parameters.clone());
        }
        let trained = Trained {
            parameters: learner.parameters().num_elements(),
            iterations: state.iteration,
            ending: match ending {
                Ending::Patience => "patience",
                _ => "finished",
            }
            .to_owned(),
            best_iteration: state.best.as_ref().map_or(0, |best| best.iteration),
            best_value: state.best.as_ref().and_then(|best| best.value),
            train_seconds,
        };
        let (mut result, mut scores) = eval::test(
            &self.experiment,
            learner.as_ref(),
            &device,
            &mut writer.progress,
            self.hash.clone(),
            folder.path(),
            trained,
        )?;
        if let Some(before) = self.untrained::<B>(&device)? {
            result.untrained = Some(Untrained::of(&before, &scores_of_answers(&scores)));
            scores["untrained"] = json!(before);
        }
        finish(&folder, &result, &scores, writer.checksums())?;
        writer.tested(&result)?;
        Ok(result)
    }
}

impl<T: Toolkit> Session<T> {
    /// Scores of the test episodes by the learner as training found it; none where nothing is trained, or what
    /// it answers with is measured on training tasks.
    fn untrained<B: Primitives>(&self, device: &B::Device) -> Result<Option<Vec<f64>>> {
        let experiment = &self.experiment;
        let manifest = &experiment.manifest;
        let mut learner = experiment.learner::<B>(device);
        let is_trained = manifest.train.iterations > 0 && learner.calibration().is_empty();
        if !is_trained || !manifest.test.untrained {
            return Ok(None);
        }
        let start = initial::start(manifest, learner.parameters(), device)?;
        learner.set_parameters(start);
        let graphs = experiment.test_graphs::<B>(learner.parameters().num_elements());
        let tested = evaluate(
            learner.as_ref(),
            &experiment.spec,
            &experiment.test_episodes(),
            PredictAt::LastStep,
            graphs,
            device,
            |_| {},
        );
        match tested {
            Ok(mut tested) => Ok(tested.scores.pop()),
            Err(Error::DivergedEpisode { .. }) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    /// Makes the folder of a run that has not begun.
    fn create_folder<B: Primitives>(
        &self,
        parameters: &Params<B>,
        device: &B::Device,
    ) -> Result<RunFolder> {
        let manifest = &self.experiment.manifest;
        let first = first_checkpoint(&self.hash, parameters, &manifest.train);
        let checkpoint = checkpoint_file::encode(&self.path.join(folder::CHECKPOINT), &first)?;
        let record = record(&self.experiment, &self.hash, parameters, device);
        let mut files = vec![
            (folder::MANIFEST, manifest.to_toml().into_bytes()),
            (folder::RECORD, json_bytes(&record)),
            (folder::CHECKPOINT, checkpoint),
            (folder::METRICS, Vec::new()),
            (folder::TIMING, Vec::new()),
        ];
        let checksums = Checksums::of(&self.path, &files).bytes();
        files.push((folder::CHECKSUMS, checksums));
        RunFolder::create(&self.path, &files)
    }

    /// Reads the last checkpoint, once the files of the run are found to be as they were written:
    /// parameters `like` those of the learner, the state of training, and what the run keeps beside it.
    fn restore<B: Primitives>(
        &self,
        folder: &RunFolder,
        like: &Params<B>,
        device: &B::Device,
    ) -> Result<(Params<B>, TrainState<B>, Extra, Checksums)> {
        let path = folder.file(folder::CHECKPOINT);
        let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, "read", error))?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        let checkpoint = checkpoint_file::verified(&path, bytes)?;
        let checksums = check_unfinished(folder.path(), &checkpoint)?;
        let settings = &self.experiment.manifest.train;
        let (restored, state, extra) =
            TrainState::from_checkpoint(&path, checkpoint, like, settings, device)?;
        let extra = Extra::read(&path, &extra)?;
        if extra.hash != self.hash {
            let belongs = format!(
                "belongs to run {}, expected run {}",
                extra.hash.get(..12).unwrap_or_default(),
                &self.hash[..12]
            );
            return Err(Error::checkpoint(&path, belongs).into());
        }
        let mut checksums = match checksums {
            Some(checksums) => checksums,
            None => self.first_checksums(folder)?,
        };
        checksums.add_hash(folder::CHECKPOINT, hash);
        Ok((restored, state, extra, checksums))
    }

    /// Writes the checksums of a run that an older version has begun, if its manifest is still that of its
    /// record.
    fn first_checksums(&self, folder: &RunFolder) -> Result<Checksums> {
        let path = folder.file(folder::MANIFEST);
        let stored = Manifest::resolve(&path, &[], &Catalogue::of::<T>())?;
        if stored.hash(&self.experiment.source.content_hash()) != self.hash {
            let other = format!(
                "has changed since it was written: it is not that of {}",
                folder::RECORD
            );
            return Err(Error::data(&path, other).into());
        }
        let read = |name| {
            let path = folder.file(name);
            let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, "read", error))?;
            Ok::<_, Error>((name, bytes))
        };
        let files = [read(folder::MANIFEST)?, read(folder::RECORD)?];
        let checksums = Checksums::of(folder.path(), &files);
        checksums.write()?;
        Ok(checksums)
    }

    /// Progress from `iteration` on.
    fn progress(&self, folder: &RunFolder, iteration: u64) -> Progress {
        let manifest = &self.experiment.manifest;
        let settings = &manifest.train;
        let work = Work {
            iterations: settings.iterations,
            validate_every: settings.validate_every,
            tests: manifest.test.episodes as f64 / settings.validation_episodes.max(1) as f64,
        };
        let progress = Progress::new(
            self.quiet,
            Metric::of(self.experiment.spec.task),
            iteration,
            work,
            settings.meta_batch,
        );
        let path = folder.path().display();
        progress.say(&match iteration {
            0 => format!("run folder {path}"),
            iteration => format!("resuming {path} from iteration {iteration}"),
        });
        progress
    }

    fn train<B: Primitives>(
        &self,
        learner: &mut dyn Learner<B>,
        state: TrainState<B>,
        writer: &mut RunWriter<'_>,
        device: &B::Device,
    ) -> Result<(TrainState<B>, Ending)> {
        let parameters = learner.parameters().num_elements();
        let sizes = self.experiment.sizes::<B>(parameters);
        let settings = sizes.train_settings(&self.experiment.manifest.train);
        let trainer = self.experiment.trainer::<B>(settings, parameters, device)?;
        trainer
            .run(learner, state, writer)
            .map_err(|error| match error {
                Error::Diverged { .. } | Error::DivergedEpisode { .. } => {
                    writer.progress.finish();
                    CommandError::Diverged {
                        error,
                        saved: writer.saved,
                        checkpoint: self.path.join(folder::CHECKPOINT),
                    }
                }
                other => other.into(),
            })
    }
}

/// Removes the failure of an earlier try: what happened before is no longer what is known of the run.
fn forget_failure(folder: &RunFolder) -> Result<()> {
    let failure = folder.file(folder::FAILURE);
    if failure.exists() {
        std::fs::remove_file(&failure).map_err(|error| Error::io(&failure, "remove", error))?;
    }
    Ok(())
}

fn interrupted(folder: &RunFolder, iteration: u64) -> CommandError {
    CommandError::Interrupted(format!(
        "interrupted after iteration {iteration}; {} is saved, continue it with --resume",
        folder.path().display()
    ))
}

/// Writes the result of a run, last of all: with it, the run is finished. `checksums` are those of its other
/// files.
fn finish(
    folder: &RunFolder,
    result: &TestResult,
    scores: &Value,
    mut checksums: Checksums,
) -> Result<()> {
    let scores = json_bytes(scores);
    write_atomically(&folder.file(folder::SCORES), &scores)?;
    let value = json_bytes(&serde_json::to_value(result).expect("a result serialises"));
    checksums.add(folder::SCORES, &scores);
    checksums.add(folder::RESULT, &value);
    checksums.write()?;
    Ok(write_atomically(&folder.file(folder::RESULT), &value)?)
}
