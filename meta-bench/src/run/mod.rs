//! Runs: from a checked experiment to a folder with a result.

pub mod folder;
mod metrics;
pub mod result;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use meta_core::{
    Error,
    backend::{WithBackend, dispatch},
    files::write_atomically,
    learner::{Learner, PredictAt},
    params::Params,
    primitives::Primitives,
    train::{
        Ending, TrainState, Trainer, checkpoint_file,
        eval::{Metric, evaluate},
        parameters_like,
    },
};
use serde_json::{Value, json};

use crate::{
    Catalogue, Toolkit,
    cli::{EvalArgs, RunArgs},
    experiment::{Experiment, start_threads},
    failure::{CommandError, Result},
    manifest::Manifest,
    output::progress::Progress,
    run::result::{TestResult, Trained},
};
use folder::{Found, RunFolder, inspect, json_bytes, read_json};
use metrics::{Extra, Journal, first_checkpoint};

/// The release of Burn that this binary is built on (pinned in the workspace).
pub const BURN_VERSION: &str = "0.21.0";

/// Set by Ctrl-C: training saves its state and stops.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Ctrl-C asks to stop; a second one stops at once, which loses nothing that was saved.
fn listen_for_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .map_err(|error| CommandError::Usage(format!("cannot listen for Ctrl-C: {error}")))
}

/// `meta run`: trains and tests, or continues, or shows the result of a run that is finished.
///
/// # Errors
/// Whatever is wrong with manifest, data, folder or training.
pub fn run<T: Toolkit>(args: &RunArgs) -> Result<TestResult> {
    let manifest = Manifest::resolve(
        &args.manifest.manifest,
        &args.manifest.overrides,
        &Catalogue::of::<T>(),
    )?;
    if let Some(origin) = &manifest.sweep {
        return Err(CommandError::Usage(format!(
            "{origin}: [sweep] makes this manifest many runs; start them with `meta sweep {}`",
            args.manifest.manifest.display()
        )));
    }
    start_threads(manifest.run.threads)?;
    let experiment = Experiment::<T>::prepare(manifest, args.manifest.data.as_deref())?;
    let path = args
        .dir
        .clone()
        .unwrap_or_else(|| experiment.default_folder());
    let mut hash = experiment.hash();
    let locked = match inspect(&path)? {
        Found::Nothing => None,
        Found::Finished => {
            same_run(&path, &experiment)?;
            if !args.quiet {
                eprintln!("{}: this run is finished; its result:", path.display());
            }
            return read_result(&path);
        }
        Found::Unfinished => {
            let folder = RunFolder::open(&path)?;
            hash = same_run(&path, &experiment)?;
            if !args.resume {
                return Err(CommandError::Usage(format!(
                    "{}: this run was started and is not finished; continue it with --resume, or \
                     remove the folder to start anew",
                    path.display()
                )));
            }
            Some(folder)
        }
    };
    listen_for_interrupt()?;
    session::<T>(experiment, hash, path, locked, args.quiet, u64::MAX)
}

/// Starts or continues the run of `experiment` in the folder at `path`, at most up to iteration
/// `until`.
///
/// # Errors
/// [`CommandError::Busy`] when another process works on it, [`CommandError::Interrupted`] when it comes to
/// `until` or is asked to stop, and whatever goes wrong.
pub fn work<T: Toolkit>(
    experiment: Experiment<T>,
    path: PathBuf,
    until: u64,
) -> Result<TestResult> {
    let locked = match inspect(&path)? {
        Found::Nothing => None,
        Found::Finished => return read_result(&path),
        Found::Unfinished => Some(RunFolder::open(&path)?),
    };
    let hash = match locked {
        Some(_) => same_run(&path, &experiment)?,
        None => experiment.hash(),
    };
    session::<T>(experiment, hash, path, locked, true, until)
}

fn session<T: Toolkit>(
    experiment: Experiment<T>,
    hash: String,
    path: PathBuf,
    locked: Option<RunFolder>,
    quiet: bool,
    until: u64,
) -> Result<TestResult> {
    experiment.check_precision_of_training()?;
    let target = experiment.manifest.run.target();
    let folder = path.clone();
    dispatch(
        &target,
        Session::<T> {
            experiment,
            hash,
            path,
            locked,
            quiet,
            until,
            toolkit: std::marker::PhantomData,
        },
    )
    .map_err(|error| match error {
        Error::Device { .. } => lost_device(error, &folder),
        other => other.into(),
    })?
}

/// How to go on after the device has failed.
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

/// The result of the finished run at `path`.
///
/// # Errors
/// When there is none.
pub fn read_result(path: &Path) -> Result<TestResult> {
    let path = path.join(folder::RESULT);
    serde_json::from_value(read_json(&path)?)
        .map_err(|error| CommandError::Usage(format!("{}: not a result: {error}", path.display())))
}

/// Checks that the run at `path` is the one of `experiment`, and returns its hash.
///
/// A run whose device was full goes on with fewer tasks at once: bounds of memory may be others.
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
            || "the data has another content".to_owned(),
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
    locked: Option<RunFolder>,
    quiet: bool,
    until: u64,
    toolkit: std::marker::PhantomData<T>,
}

impl<T: Toolkit> WithBackend for Session<T> {
    type Output = Result<TestResult>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let experiment = &self.experiment;
        let manifest = &experiment.manifest;
        let mut learner = experiment.learner::<B>(&device);
        let parameters = learner.parameters();
        let folder = match self.locked {
            Some(folder) => folder,
            None => {
                let first = first_checkpoint(&self.hash, &parameters, &manifest.train);
                let record = record::<T, B>(experiment, &self.hash, &parameters, &device);
                let checkpoint_path = self.path.join(folder::CHECKPOINT);
                RunFolder::create(
                    &self.path,
                    &[
                        (folder::MANIFEST, manifest.to_toml().into_bytes()),
                        (folder::RECORD, json_bytes(&record)),
                        (
                            folder::CHECKPOINT,
                            checkpoint_file::encode(&checkpoint_path, &first)?,
                        ),
                        (folder::METRICS, Vec::new()),
                        (folder::TIMING, Vec::new()),
                    ],
                )?
            }
        };
        // Tried again: whatever happened before is no longer what is known of it.
        if folder.file(folder::FAILURE).exists() {
            let failure = folder.file(folder::FAILURE);
            std::fs::remove_file(&failure).map_err(|error| Error::io(&failure, "remove", error))?;
        }
        let path = folder.file(folder::CHECKPOINT);
        let (restored, state, extra) = TrainState::from_checkpoint(
            &path,
            checkpoint_file::read(&path)?,
            &parameters,
            &manifest.train,
            &device,
        )?;
        let extra: Extra = serde_json::from_value(extra).map_err(|error| {
            Error::checkpoint(&path, format!("has no record of a run: {error}"))
        })?;
        if extra.hash != self.hash {
            return Err(Error::checkpoint(
                &path,
                format!(
                    "belongs to run {}, expected run {}",
                    extra.hash.get(..12).unwrap_or_default(),
                    &self.hash[..12]
                ),
            )
            .into());
        }
        let interrupted = |iteration: u64| {
            Err(CommandError::Interrupted(format!(
                "interrupted after iteration {iteration}; {} is saved, continue it with --resume",
                folder.path().display()
            )))
        };
        if state.iteration >= self.until && state.iteration < manifest.train.iterations {
            return interrupted(state.iteration);
        }
        learner.set_parameters(restored);
        let progress = Progress::new(
            self.quiet,
            Metric::of(experiment.spec.task),
            state.iteration,
            manifest.train.iterations,
            manifest.train.meta_batch,
        );
        match state.iteration {
            0 => progress.say(&format!("run folder {}", folder.path().display())),
            iteration => progress.say(&format!(
                "continuing {} from iteration {iteration}",
                folder.path().display()
            )),
        }
        let mut journal = Journal::open(
            &folder,
            &extra,
            state.iteration,
            &manifest.train,
            progress,
            &STOP,
            self.until,
        )?;
        let parameters = learner.parameters().num_elements();
        let trainer = Trainer {
            source: experiment.source.clone(),
            spec: experiment.spec,
            optimizer: experiment.optimizer::<B>()?,
            settings: experiment
                .sizes::<B>(parameters)
                .train_settings(&manifest.train),
            seed: experiment.seed(),
            validation_seed: experiment.frozen_seed(),
            validation_graphs: experiment.test_graphs::<B>(parameters),
            device: device.clone(),
        };
        let trained = trainer.run(learner.as_mut(), state, &mut journal);
        let (state, ending) = match trained {
            Ok(done) => done,
            Err(error @ Error::Diverged { .. }) => {
                journal.progress.finish();
                return Err(CommandError::Diverged {
                    error,
                    saved: journal.saved,
                    checkpoint: path,
                });
            }
            Err(error) => return Err(error.into()),
        };
        if ending == Ending::Interrupted || STOP.load(Ordering::Relaxed) {
            journal.progress.finish();
            return interrupted(state.iteration);
        }
        journal.write_best(&state)?;
        let train_seconds = journal.train_seconds();
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
        let result = test(
            experiment,
            learner.as_ref(),
            &device,
            &mut journal.progress,
            self.hash.clone(),
            folder.path(),
            trained,
        )?;
        let (result, scores) = result;
        write_atomically(&folder.file(folder::SCORES), &json_bytes(&scores))?;
        let value = json_bytes(&serde_json::to_value(&result).expect("a result serialises"));
        let checksums = folder::checksums(folder.path(), &value)?;
        write_atomically(&folder.file(folder::CHECKSUMS), &checksums)?;
        // The last file: with it, the run is finished.
        write_atomically(&folder.file(folder::RESULT), &value)?;
        Ok(result)
    }
}

/// Tests `learner`: the result, and the scores of every episode.
fn test<T: Toolkit, B: Primitives>(
    experiment: &Experiment<T>,
    learner: &dyn Learner<B>,
    device: &B::Device,
    progress: &mut Progress,
    hash: String,
    run_dir: &Path,
    trained: Trained,
) -> Result<(TestResult, Value)> {
    let episodes = experiment.test_episodes();
    progress.start_test(episodes.count);
    let started = Instant::now();
    let evaluation = evaluate(
        learner,
        &experiment.spec,
        &episodes,
        PredictAt::EveryStep,
        experiment.test_graphs::<B>(learner.parameters().num_elements()),
        device,
        |done| progress.test(done),
    )?;
    progress.finish();
    let seconds = started.elapsed().as_secs_f64();
    let result = TestResult::new(experiment, hash, run_dir, trained, &evaluation, seconds);
    let mut scores = json!({
        "episode_set": result.episode_set,
        "metric": result.metric,
        "scores": evaluation.scores,
    });
    if let Some(densities) = &evaluation.log_likelihood {
        scores["log_likelihood"] = json!(densities);
    }
    Ok((result, scores))
}

/// What was run, on what, with what.
fn record<T: Toolkit, B: Primitives>(
    experiment: &Experiment<T>,
    hash: &str,
    parameters: &Params<B>,
    device: &B::Device,
) -> Value {
    let dtype = parameters
        .to_data()
        .first()
        .map(|(_, data)| format!("{:?}", data.dtype).to_lowercase());
    let manifest = &experiment.manifest;
    let sizes = experiment.sizes::<B>(parameters.num_elements());
    let settings = sizes.train_settings(&manifest.train);
    let data_folder = experiment
        .data_folder
        .as_ref()
        .map(|folder| std::path::absolute(folder).unwrap_or_else(|_| folder.clone()));
    json!({
        "hash": hash,
        "name": manifest.run.name,
        "seed": manifest.run.seed,
        "backend": manifest.run.backend,
        "device": format!("{device:?}"),
        "dtype": dtype,
        "threads": rayon::current_num_threads(),
        "system": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        "parameters": parameters.num_elements(),
        "task_chunk": settings.task_chunk,
        "versions": { "meta": env!("CARGO_PKG_VERSION"), "burn": BURN_VERSION },
        "commit": option_env!("META_COMMIT"),
        "protocol": experiment.protocol(),
        "data": {
            "source": experiment.source.name(),
            "content": experiment.source.content_hash(),
            "description": experiment.source.describe(),
            "folder": data_folder,
            "test_episode_set": experiment.test_episodes().hash(),
        },
        "manifest": manifest.values(),
        "origins": manifest.origins(),
    })
}

/// Sections and keys that `meta eval` may change: nothing that the trained parameters depend on.
const EVALUATION_KEYS: [&str; 10] = [
    "test.",
    "learner.",
    "data.way=",
    "data.shot=",
    "data.query=",
    "data.path=",
    "backend=",
    "device=",
    "precision=",
    "threads=",
];

/// The experiment of the run at `path`, with changes that its trained parameters do not depend on, and
/// its record; data sets lie in `data`, or where they lay.
///
/// # Errors
/// Whatever is wrong with the folder, the changes or the data.
pub fn trained<T: Toolkit>(
    path: &Path,
    changes: &[String],
    data: Option<&Path>,
) -> Result<(Experiment<T>, Value)> {
    if inspect(path)? == Found::Nothing {
        return Err(CommandError::Usage(format!(
            "{}: expected a run folder, found nothing",
            path.display()
        )));
    }
    for change in changes {
        let squeezed = change.replace(' ', "");
        let allowed = EVALUATION_KEYS.iter().any(|key| squeezed.starts_with(key));
        if !allowed || squeezed.starts_with("learner.name=") {
            return Err(CommandError::Usage(format!(
                "`{change}` cannot change in a run that is trained; what can: test.*, data.way, \
                 data.shot, data.query, data.path, learner.* but its name, backend, device, precision, threads"
            )));
        }
    }
    let manifest = Manifest::resolve(&path.join(folder::MANIFEST), &[], &Catalogue::of::<T>())?;
    let train = manifest.data.train_shape();
    // The training shape stays, whatever the test shape becomes.
    let mut overrides = vec![
        format!("data.train_way={}", train.way),
        format!("data.train_shot={}", train.shot),
        format!("data.train_query={}", train.query),
    ];
    overrides.extend(changes.iter().cloned());
    let manifest = manifest.with_overrides(&overrides)?;
    start_threads(manifest.run.threads)?;
    let record = read_json(&path.join(folder::RECORD))?;
    let recorded = record["data"]["folder"].as_str().map(PathBuf::from);
    let data_folder = data.map(Path::to_owned).or(recorded);
    let experiment = Experiment::<T>::prepare(manifest, data_folder.as_deref())?;
    if record["data"]["content"] != json!(experiment.source.content_hash()) {
        return Err(CommandError::Usage(format!(
            "{}: the data has another content than the data of the run",
            path.display()
        )));
    }
    Ok((experiment, record))
}

/// The best parameters of a run.
pub struct Best<B: Primitives> {
    /// The parameters.
    pub parameters: Params<B>,
    /// Their iteration.
    pub iteration: u64,
    /// What they were chosen by; none where nothing was validated.
    pub value: Option<f64>,
}

/// Reads the best parameters of the run at `path` for a learner with parameters `like` these.
///
/// # Errors
/// When there are none yet, or they belong to another network.
pub fn best_parameters<B: Primitives>(
    path: &Path,
    like: &Params<B>,
    device: &B::Device,
) -> Result<Best<B>> {
    let file = path.join(folder::BEST);
    if !file.exists() {
        return Err(CommandError::Usage(format!(
            "{}: has no {} yet; let the run come to its first validation",
            path.display(),
            folder::BEST
        )));
    }
    let mut best = checkpoint_file::read(&file)?;
    // What was trained in one format may be evaluated in another.
    let format = like.to_data().first().map(|(_, data)| data.dtype);
    let stored = best.take("parameters").into_iter();
    let converted = stored.map(|(name, data)| match format {
        Some(format) if data.dtype != format => (name, data.convert_dtype(format)),
        _ => (name, data),
    });
    Ok(Best {
        parameters: parameters_like(&file, converted.collect(), like, device)?,
        iteration: best.record["iteration"].as_u64().unwrap_or(0),
        value: best.record["value"].as_f64(),
    })
}

/// `meta eval`: tests the best parameters of a run again.
///
/// # Errors
/// Whatever is wrong with the folder, the changes or the data.
pub fn eval<T: Toolkit>(args: &EvalArgs) -> Result<TestResult> {
    let (experiment, record) = trained::<T>(&args.run_dir, &args.overrides, args.data.as_deref())?;
    let target = experiment.manifest.run.target();
    dispatch(
        &target,
        Evaluator::<T> {
            experiment,
            path: args.run_dir.clone(),
            record,
            quiet: args.quiet,
            toolkit: std::marker::PhantomData,
        },
    )?
}

/// An evaluation on a backend whose name is known only now.
struct Evaluator<T: Toolkit> {
    experiment: Experiment<T>,
    path: PathBuf,
    record: Value,
    quiet: bool,
    toolkit: std::marker::PhantomData<T>,
}

impl<T: Toolkit> WithBackend for Evaluator<T> {
    type Output = Result<TestResult>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let mut learner = self.experiment.learner::<B>(&device);
        let best = best_parameters(&self.path, &learner.parameters(), &device)?;
        let count = best.parameters.num_elements();
        learner.set_parameters(best.parameters);
        let before = read_result(&self.path).ok();
        let trained = Trained {
            parameters: count,
            iterations: before
                .as_ref()
                .map_or(best.iteration, |result| result.iterations),
            ending: before
                .as_ref()
                .map_or("unfinished".to_owned(), |result| result.ending.clone()),
            best_iteration: best.iteration,
            best_value: best.value,
            train_seconds: before.as_ref().map_or(0.0, |result| result.train_seconds),
        };
        let hash = self.record["hash"].as_str().unwrap_or_default().to_owned();
        let metric = Metric::of(self.experiment.spec.task);
        let mut progress = Progress::new(self.quiet, metric, 0, 0, 1);
        let (result, _) = test(
            &self.experiment,
            learner.as_ref(),
            &device,
            &mut progress,
            hash,
            &self.path,
            trained,
        )?;
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_version_of_burn_is_the_pinned_one() {
        let workspace = include_str!("../../../Cargo.toml");
        assert!(workspace.contains(&format!("burn = {{ version = \"={BURN_VERSION}\"")));
    }
}
