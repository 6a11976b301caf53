//! A session of a run: begins or resumes it, trains and tests, alone or with other processes.
//!
//! The first process writes the files and shows progress. The others are given its checkpoint, and do their share.

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use meta_core::{
    Error,
    backend::{WithBackend, dispatch},
    files::write_atomically,
    learner::{Learner, PredictAt},
    params::Params,
    primitives::Primitives,
    toolkit::{Catalogue, Toolkit},
    train::{Ending, Observer, TrainState, Trainer, checkpoint_file, eval::Metric},
};
use serde_json::{Value, json};

use super::{
    checksums::{Checksums, Extra, check_fixed, check_unfinished},
    eval::{self, Tested},
    folder::{self, Found, RunFolder, inspect, json_bytes, read_json},
    interrupt::{self, STOP},
    memory_limit::{self, MemoryLimit},
    metrics::{Restored, RunWriter, first_checkpoint},
    record::record,
    result::{TestResult, Trained},
    spent::Spent,
    together::Together,
};
use crate::{
    experiment::{Experiment, initial, memory::Needed},
    failure::{CommandError, Result},
    machine::age,
    manifest::Manifest,
    output::{pace::Work, progress::Progress},
};

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
    together: &Together,
) -> Result<()> {
    let begun = || {
        let (locked, hash) = match inspect(&path)? {
            Found::Nothing => (None, experiment.hash()),
            Found::Finished => return Ok(None),
            Found::Unfinished => {
                let (folder, hash) = locked(&path, &experiment)?;
                (Some(folder), hash)
            }
        };
        Ok(Some((locked, hash)))
    };
    let begun = match together.is_first() {
        true => begun(),
        false => Ok(Some((None, experiment.hash()))),
    };
    let begun = together.agree(begun)?;
    let is_finished = together.first_says(begun.is_none())?;
    let Some((locked, hash)) = begun.filter(|_| !is_finished) else {
        return Ok(());
    };
    let session = Session {
        experiment,
        hash,
        path,
        locked,
        quiet: true,
        until,
        // The sweep was planned: what it starts fits, or was forced.
        force: true,
        together: together.clone(),
    };
    session.work().map(|_| ())
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
pub fn locked<T: Toolkit>(path: &Path, experiment: &Experiment<T>) -> Result<(RunFolder, String)> {
    let folder = RunFolder::open(path)?;
    check_fixed(path)?;
    let hash = same_run(path, experiment)?;
    Ok((folder, hash))
}

/// Checks that the run at `path` is the one of `experiment`, and returns its hash.
///
/// A run whose device was full resumes with fewer tasks at once: bounds of memory may differ.
pub fn same_run<T: Toolkit>(path: &Path, experiment: &Experiment<T>) -> Result<String> {
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
pub struct Session<T: Toolkit> {
    /// What is run.
    pub experiment: Experiment<T>,
    /// Its hash, or that of the folder where it was begun with other bounds of memory.
    pub hash: String,
    /// Its folder.
    pub path: PathBuf,
    /// The folder, where it exists.
    pub locked: Option<RunFolder>,
    /// Whether nothing is shown.
    pub quiet: bool,
    /// The iteration at which the session pauses.
    pub until: u64,
    /// Whether it starts in whatever memory there is.
    pub force: bool,
    /// The processes that share it.
    pub together: Together,
}

/// A run that can begin: what the process that writes its files has found.
struct Begun<B: Primitives> {
    folder: RunFolder,
    parameters: Params<B>,
    state: TrainState<B>,
    restored: Restored,
    /// The checkpoint, for the other processes.
    checkpoint: Vec<u8>,
}

impl<T: Toolkit> Session<T> {
    /// Trains and tests: the result, on the first process.
    ///
    /// # Errors
    /// Whatever goes wrong; [`CommandError::Interrupted`] when it is asked to stop or comes to its pause.
    pub fn work(self) -> Result<Option<TestResult>> {
        let together = &self.together;
        together.agree(self.experiment.check_precision_of_training())?;
        let device = self.together.on_machine();
        let target = self.experiment.manifest.run.target_of(device);
        let folder = self.path.clone();
        dispatch(&target, self).map_err(|error| match error {
            Error::Device { .. } => lost_device(error, &folder),
            other => other.into(),
        })?
    }
}

impl<T: Toolkit> WithBackend for Session<T> {
    type Output = Result<Option<TestResult>>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        match self.together.is_first() {
            true => self.lead::<B>(&device).map(Some),
            false => self.assist::<B>(&device).map(|()| None),
        }
    }
}

impl<T: Toolkit> Session<T> {
    /// Trains, tests, and writes the files of the run.
    fn lead<B: Primitives>(mut self, device: &B::Device) -> Result<TestResult> {
        let memory = MemoryLimit::watch(self.experiment.manifest.train.memory);
        let mut learner = self.together.agree(self.learner::<B>(device))?;
        let begun = self.begin(&learner.parameters(), device);
        let begun = self.together.agree(begun)?;
        self.together.hear_first(begun.checkpoint)?;
        let folder = begun.folder;
        learner.set_parameters(begun.parameters);
        let progress = self.progress(&folder, begun.restored.iteration);
        let manifest = &self.experiment.manifest;
        let mut writer = RunWriter::open(
            &folder,
            begun.restored,
            manifest,
            progress,
            &STOP,
            self.until,
        )?;
        let start = age();
        let (state, ending) = self.train(learner.as_mut(), begun.state, &mut writer, device)?;
        if self.is_stopped(ending)? {
            writer.progress.finish();
            interrupt::forget(folder.path());
            return Err(self.stopped(memory, folder.path(), state.iteration));
        }
        match learner.calibration() {
            [] => writer.write_best(&state)?,
            _ => writer.rewrite_best(&state)?,
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
            train_seconds: writer.train_seconds(),
        };
        if let Some(best) = state.best {
            learner.set_parameters(best.parameters);
        }
        let (training, end) = (trained.train_seconds, age());
        let (mut result, mut scores) = eval::test(
            &self.experiment,
            learner.as_ref(),
            device,
            &mut writer.progress,
            Tested {
                hash: self.hash.clone(),
                run_dir: folder.path(),
                trained,
                processes: self.together.processes(),
            },
        )?;
        let processes = self.together.processes();
        eval::beside_untrained::<T, B>(
            &self.experiment,
            processes,
            device,
            &mut result,
            &mut scores,
        )?;
        let test = (age() - end).as_secs_f64();
        let spent = Spent::of(training, start.as_secs_f64(), writer.beside(), test);
        result.spent = Some(spent);
        finish(&folder, &result, &scores, writer.checksums())?;
        writer.tested(&result)?;
        Ok(result)
    }

    /// Does its share of the training and of the test, and writes nothing.
    fn assist<B: Primitives>(self, device: &B::Device) -> Result<()> {
        let memory = MemoryLimit::watch(self.experiment.manifest.train.memory);
        let mut learner = self.together.agree(self.learner::<B>(device))?;
        self.together.agree(Ok(()))?;
        let bytes = self.together.hear_first(Vec::new())?;
        let path = self.path.join(folder::CHECKPOINT);
        let settings = &self.experiment.manifest.train;
        let (parameters, state, _) = TrainState::from_checkpoint(
            &path,
            checkpoint_file::verified(&path, bytes)?,
            &learner.parameters(),
            settings,
            device,
        )?;
        learner.set_parameters(parameters);
        let trainer = self.trainer::<B>(learner.parameters().num_elements(), device)?;
        let (state, ending) = trainer.run(learner.as_mut(), state, &mut Assistant)?;
        if self.is_stopped(ending)? {
            return Err(self.stopped(memory, &self.path, state.iteration));
        }
        if let Some(best) = state.best {
            learner.set_parameters(best.parameters);
        }
        let processes = self.together.processes();
        eval::evaluate_test(
            &self.experiment,
            processes,
            learner.as_ref(),
            PredictAt::EveryStep,
            device,
            |_| {},
        )?;
        eval::untrained::<T, B>(&self.experiment, processes, device)?;
        Ok(())
    }

    /// The learner, which must fit into memory and be one that processes can share.
    fn learner<B: Primitives>(&self, device: &B::Device) -> Result<Box<dyn Learner<B>>> {
        let experiment = &self.experiment;
        let learner = experiment.fitting_learner::<B>(Needed::ForRun, device, self.force)?;
        let parameters = learner.parameters();
        let at = |error| experiment.manifest.locate(error);
        let settings = &experiment.manifest.train;
        settings
            .check_trainable(&parameters, experiment.spec.task)
            .map_err(at)?;
        let trainer = self.trainer::<B>(parameters.num_elements(), device)?;
        trainer.check_processes().map_err(at)?;
        Ok(learner)
    }

    /// Makes or opens the folder, and reads where the run goes on.
    fn begin<B: Primitives>(&mut self, like: &Params<B>, device: &B::Device) -> Result<Begun<B>> {
        let folder = match self.locked.take() {
            Some(folder) => folder,
            None => {
                let manifest = &self.experiment.manifest;
                let start = initial::start(manifest, like.clone(), device)?;
                self.create_folder(&start, device)?
            }
        };
        forget_failure(&folder)?;
        interrupt::forget(folder.path());
        // A fresh run also starts from the file that it has just written: there is one path for both.
        let (begun, iteration) = self.restore(folder, like, device)?;
        let settings = &self.experiment.manifest.train;
        if iteration >= self.until && iteration < settings.iterations {
            return Err(interrupted(begun.folder.path(), iteration));
        }
        Ok(begun)
    }

    /// Whether training ended before its time, on all processes.
    fn is_stopped(&self, ending: Ending) -> Result<bool> {
        let own = ending == Ending::Interrupted || STOP.load(Ordering::Relaxed);
        Ok(self.together.processes().any(own)?)
    }

    /// Why it did.
    fn stopped(&self, memory: Option<MemoryLimit>, folder: &Path, iteration: u64) -> CommandError {
        let own = match memory.and_then(MemoryLimit::exceeded_by) {
            Some(used) => used.ended(folder, iteration),
            None => interrupted(folder, iteration),
        };
        match self.together.agree::<()>(Err(own)) {
            Err(error) => error,
            Ok(()) => interrupted(folder, iteration),
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
        let mut record = record(&self.experiment, &self.hash, parameters, device);
        if self.together.processes().count() > 1 {
            record["processes"] = json!(self.together.processes().count());
        }
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
    /// parameters `like` those of the learner, the state of training, and what the run keeps beside it; and the
    /// iterations that are done.
    fn restore<B: Primitives>(
        &self,
        folder: RunFolder,
        like: &Params<B>,
        device: &B::Device,
    ) -> Result<(Begun<B>, u64)> {
        let path = folder.file(folder::CHECKPOINT);
        let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, "read", error))?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        let shared = match self.together.processes().count() {
            1 => Vec::new(),
            _ => bytes.clone(),
        };
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
            None => self.first_checksums(&folder)?,
        };
        checksums.add_hash(folder::CHECKPOINT, hash);
        let iteration = state.iteration;
        let begun = Begun {
            folder,
            parameters: restored,
            state,
            restored: Restored {
                extra,
                checksums,
                iteration,
            },
            checkpoint: shared,
        };
        Ok((begun, iteration))
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
        let trainer = self.trainer::<B>(learner.parameters().num_elements(), device)?;
        let trained = trainer.run(learner, state, writer);
        trained.map_err(|error| match error {
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

    /// The outer loop for so many `parameters`.
    fn trainer<B: Primitives>(&self, parameters: usize, device: &B::Device) -> Result<Trainer<B>> {
        let sizes = self.experiment.sizes::<B>(parameters);
        let settings = sizes.train_settings(&self.experiment.manifest.train);
        let mut trainer = self.experiment.trainer::<B>(settings, parameters, device)?;
        trainer.processes = self.together.processes().clone();
        Ok(trainer)
    }
}

/// What a process that writes nothing does while it trains: it only listens for signals.
struct Assistant;

impl<B: Primitives> Observer<B> for Assistant {
    fn should_stop(&self) -> bool {
        STOP.load(Ordering::Relaxed) || memory_limit::is_exceeded()
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

fn interrupted(folder: &Path, iteration: u64) -> CommandError {
    CommandError::Interrupted(format!(
        "interrupted after iteration {iteration}; {} is saved, continue it with --resume",
        folder.display()
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
