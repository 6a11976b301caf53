//! `meta eval`: tests the best parameters of a run again, on its own data or on others.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use burn::tensor::TensorData;
use clap::Args;
use meta_core::{
    Error,
    backend::{WithBackend, dispatch},
    data::Task,
    learner::{Learner, PredictAt},
    params::Params,
    primitives::Primitives,
    processes::Processes,
    toolkit::Toolkit,
    train::{
        checkpoint_file::{self, Checkpoint},
        eval::{Asked, Evaluation as Scored, Metric, evaluate_together},
        outsiders::rejection,
        parameters_like,
    },
};
use serde_json::{Value, json};

use super::{
    elsewhere::{Changes, TrainedRun, trained},
    evaluations::Evaluation,
    folder,
    result::{Outsiders, TestResult, Trained, Untrained, read_result, scores_of_answers, show},
};
use crate::{
    command::Execute,
    experiment::{Experiment, initial, memory::Needed},
    failure::{CommandError, Result},
    output::{pace::Work, progress::Progress},
};

/// Test a run again, with other test settings if given.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The run folder.
    run_dir: PathBuf,
    /// Changes to `test.*`, `data.way`, `data.shot`, `data.query`, `data.path`, `learner.*`, `backend`
    /// or `threads`; with --on, to all of `data.*`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Test on the data of this manifest, by its `[data]` and `[test]`; what it leaves out is as in the
    /// run. All classes are tested, unless a split is given. Where it has a published figure and the learner of the
    /// run, the result stands beside both it and the untrained learner.
    #[arg(long, value_name = "MANIFEST")]
    on: Option<PathBuf>,
    /// Folder with the data sets [default: that of the run].
    #[arg(long, env = "META_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print the result as one JSON object on stdout.
    #[arg(long)]
    json: bool,
    /// No progress on stderr.
    #[arg(long)]
    quiet: bool,
    /// Start even if the test needs more memory than there is, by an estimate.
    #[arg(long)]
    force: bool,
}

impl Execute for EvalArgs {
    /// Tests the best parameters and prints the result.
    ///
    /// # Errors
    /// Whatever is wrong with the folder, the changes or the data.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let changes = Changes {
            overrides: &self.overrides,
            on: self.on.as_deref(),
            data: self.data.as_deref(),
        };
        let run = trained::<T>(&self.run_dir, changes)?;
        show(
            &evaluate_run(run, &self.run_dir, self.quiet, self.force)?,
            self.json,
            self.quiet,
        )
    }
}

/// Tests the best parameters of a trained run at `path`, and keeps the evaluation beside its own test
/// where it has one.
///
/// # Errors
/// Whatever goes wrong with the test.
pub fn evaluate_run<T: Toolkit>(
    run: TrainedRun<T>,
    path: &Path,
    quiet: bool,
    force: bool,
) -> Result<TestResult> {
    if !quiet && let Some(on) = &run.elsewhere {
        eprintln!("other data than that of the run: {on}");
    }
    let target = run.experiment.manifest.run.target();
    let evaluator = Evaluator {
        run,
        path: path.to_owned(),
        quiet,
        force,
    };
    dispatch(&target, evaluator)?
}

/// What is tested, and by whom.
pub struct Tested<'a> {
    /// Hash of the run.
    pub hash: String,
    /// Its folder.
    pub run_dir: &'a Path,
    /// How it was trained.
    pub trained: Trained,
    /// The processes that test it.
    pub processes: &'a Processes,
}

/// Tests `learner`: the result, and the scores of every episode.
pub fn test<T: Toolkit, B: Primitives>(
    experiment: &Experiment<T>,
    learner: &dyn Learner<B>,
    device: &B::Device,
    progress: &mut Progress,
    tested: Tested<'_>,
) -> Result<(TestResult, Value)> {
    let Tested {
        hash,
        run_dir,
        trained,
        processes,
    } = tested;
    let episodes = experiment.test_episodes();
    progress.start_test(episodes.count);
    let started = Instant::now();
    let outsiders = experiment.manifest.test.outsiders;
    let rejected = (outsiders > 0.0 && experiment.spec.task == Task::Classification)
        .then(|| {
            let spec = &experiment.spec;
            rejection(learner, spec, &episodes, outsiders, device, |_| {})
        })
        .transpose()
        .map_err(|error| experiment.manifest.locate(error))?;
    let every = PredictAt::EveryStep;
    let evaluation = evaluate_test(experiment, processes, learner, every, device, |done| {
        progress.test((done * processes.count()).min(episodes.count));
    });
    progress.finish();
    let evaluation = evaluation.map_err(|error| match error {
        Error::DivergedEpisode { .. } => CommandError::TestDiverged {
            error,
            run_dir: run_dir.to_owned(),
        },
        other => other.into(),
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let mut result = TestResult::new(experiment, hash, run_dir, trained, &evaluation, seconds);
    let mut scores = json!({
        "episode_set": result.episode_set,
        "metric": result.metric,
        "scores": evaluation.scores,
    });
    if let Some(densities) = &evaluation.log_likelihood {
        scores["log_likelihood"] = json!(densities);
    }
    if !evaluation.by_instance.is_empty() {
        scores["by_instance"] = json!(evaluation.by_instance);
    }
    if !evaluation.auroc.is_empty() {
        scores["auroc"] = json!(evaluation.auroc);
    }
    let sets = (0..episodes.count as u64)
        .map(|index| episodes.source.set_of(episodes.split, index))
        .collect::<Option<Vec<String>>>();
    if let Some(sets) = sets {
        scores["sets"] = json!(sets);
    }
    if let (Some(rejected), Some(found)) = (&rejected, &mut result.probabilities) {
        found.outsiders = Some(Outsiders::of(outsiders, rejected));
        scores["outsiders"] = json!(rejected);
    }
    Ok((result, scores))
}

/// The scores of the test episodes, of the answers asked for, by several processes; `progress` receives the number that
/// this one has done.
///
/// # Errors
/// As [`evaluate_together`].
pub fn evaluate_test<T: Toolkit, B: Primitives>(
    experiment: &Experiment<T>,
    processes: &Processes,
    learner: &dyn Learner<B>,
    answers: PredictAt,
    device: &B::Device,
    progress: impl FnMut(usize),
) -> Result<Scored, Error> {
    let asked = Asked {
        spec: &experiment.spec,
        set: &experiment.test_episodes(),
        answers,
        graphs: experiment.test_graphs::<B>(learner.parameters().num_elements()),
        device,
    };
    evaluate_together(processes, learner, &asked, progress)
}

/// Scores of the test episodes by the learner as training found it; none where nothing is trained, or what
/// it answers with is measured on training tasks.
///
/// # Errors
/// As [`evaluate_together`], and where the initial parameters cannot be read.
pub fn untrained<T: Toolkit, B: Primitives>(
    experiment: &Experiment<T>,
    processes: &Processes,
    device: &B::Device,
) -> Result<Option<Vec<f64>>> {
    let manifest = &experiment.manifest;
    let mut learner = experiment.learner::<B>(device);
    let is_trained = manifest.train.iterations > 0 && learner.calibration().is_empty();
    if !is_trained || !manifest.test.untrained {
        return Ok(None);
    }
    let start = initial::start(manifest, learner.parameters(), device)?;
    learner.set_parameters(start);
    let answer = PredictAt::LastStep;
    let tested = evaluate_test(
        experiment,
        processes,
        learner.as_ref(),
        answer,
        device,
        |_| {},
    );
    match tested {
        Ok(mut tested) => Ok(tested.scores.pop()),
        Err(Error::DivergedEpisode { .. }) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// Sets the untrained learner beside a result, and its scores beside those of every episode.
///
/// # Errors
/// As [`untrained`].
pub fn beside_untrained<T: Toolkit, B: Primitives>(
    experiment: &Experiment<T>,
    processes: &Processes,
    device: &B::Device,
    result: &mut TestResult,
    scores: &mut Value,
) -> Result<()> {
    if let Some(before) = untrained::<T, B>(experiment, processes, device)? {
        result.untrained = Some(Untrained::of(&before, &scores_of_answers(scores)));
        scores["untrained"] = json!(before);
    }
    Ok(())
}

/// The best parameters of a run.
pub struct Best<B: Primitives> {
    /// The parameters.
    pub parameters: Params<B>,
    /// Their iteration.
    pub iteration: u64,
    /// What they were chosen by; none where nothing was validated.
    pub value: Option<f64>,
    /// Hash of their file.
    pub hash: String,
}

/// The file of the best parameters of the run at `path`: its hash, and the tensors by name.
///
/// # Errors
/// When there is none yet, or it is damaged.
pub fn best_file(path: &Path) -> Result<(String, Vec<(String, TensorData)>)> {
    let (hash, mut best) = read_best(path)?;
    Ok((hash, best.take("parameters")))
}

fn read_best(path: &Path) -> Result<(String, Checkpoint)> {
    let file = path.join(folder::BEST);
    if !file.exists() {
        return Err(CommandError::Usage(format!(
            "{}: has no {} yet; let the run reach its first validation",
            path.display(),
            folder::BEST
        )));
    }
    let bytes = std::fs::read(&file).map_err(|error| Error::io(&file, "read", error))?;
    let hash = blake3::hash(&bytes).to_hex().to_string();
    Ok((hash, checkpoint_file::verified(&file, bytes)?))
}

/// Parameters like `like` from the `stored` tensors of the file at `path`, in the format of `like`: what was
/// trained in one may be evaluated in another.
///
/// # Errors
/// When they belong to another network.
pub fn stored_parameters<B: Primitives>(
    path: &Path,
    stored: Vec<(String, TensorData)>,
    like: &Params<B>,
    device: &B::Device,
) -> Result<Params<B>> {
    let format = like.to_data().first().map(|(_, data)| data.dtype);
    let converted = stored.into_iter().map(|(name, data)| match format {
        Some(format) if data.dtype != format => (name, data.convert_dtype(format)),
        _ => (name, data),
    });
    Ok(parameters_like(path, converted.collect(), like, device)?)
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
    let (hash, mut best) = read_best(path)?;
    let stored = best.take("parameters");
    Ok(Best {
        parameters: stored_parameters(&path.join(folder::BEST), stored, like, device)?,
        iteration: best.record["iteration"].as_u64().unwrap_or(0),
        value: best.record["value"].as_f64(),
        hash,
    })
}

/// The learner of `experiment` with the best parameters of the run at `path`; with `force` also where its test may
/// not fit into the memory.
///
/// # Errors
/// As [`best_parameters`], and where the test does not fit into the memory.
pub fn best_learner<T: Toolkit, B: Primitives>(
    experiment: &Experiment<T>,
    path: &Path,
    device: &B::Device,
    force: bool,
) -> Result<(Box<dyn Learner<B>>, Best<B>)> {
    let mut learner = experiment.fitting_learner::<B>(Needed::ForTest, device, force)?;
    let best = best_parameters(path, &learner.parameters(), device)?;
    learner.set_parameters(best.parameters.clone());
    Ok((learner, best))
}

/// An evaluation on a backend whose name is known only now.
struct Evaluator<T: Toolkit> {
    run: TrainedRun<T>,
    path: PathBuf,
    quiet: bool,
    force: bool,
}

impl<T: Toolkit> WithBackend for Evaluator<T> {
    type Output = Result<TestResult>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let experiment = &self.run.experiment;
        let (learner, best) = best_learner::<T, B>(experiment, &self.path, &device, self.force)?;
        let count = best.parameters.num_elements();
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
        let hash = self.run.record["hash"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let metric = Metric::of(experiment.spec.task);
        let mut progress = Progress::new(self.quiet, metric, 0, Work::default(), 1);
        let (mut result, mut scores) = test(
            experiment,
            learner.as_ref(),
            &device,
            &mut progress,
            Tested {
                hash,
                run_dir: &self.path,
                trained,
                processes: &Processes::default(),
            },
        )?;
        if let Some(repeats) = &self.run.repeats {
            result.published = Some(repeats.figure.clone());
            let processes = Processes::default();
            beside_untrained::<T, B>(experiment, &processes, &device, &mut result, &mut scores)?;
        } else if self.run.record["data"]["test_episode_set"] != json!(result.episode_set) {
            // The figure is of the run's own test.
            result.published = None;
        }
        if before.is_some() {
            self.keep(&best.hash, &result, scores)?;
        }
        Ok(result)
    }
}

impl<T: Toolkit> Evaluator<T> {
    /// Keeps the evaluation of the parameters whose file has the hash `parameters`.
    fn keep(&self, parameters: &str, result: &TestResult, scores: Value) -> Result<()> {
        let experiment = &self.run.experiment;
        let content = experiment.source.content_hash();
        let manifest = &experiment.manifest;
        let evaluation = Evaluation {
            hash: manifest.hash(&format!("{content}\nparameters {parameters}")),
            is_own_test: manifest.hash(&content) == result.hash,
            on: self.run.elsewhere.clone(),
            repeats: self
                .run
                .repeats
                .as_ref()
                .map(|repeats| repeats.name.clone()),
            manifest: manifest.values(),
            data: json!({
                "source": experiment.source.name(),
                "content": experiment.source.content_hash(),
                "frozen": experiment.source.frozen_hash(),
                "description": experiment.source.describe(),
            }),
            result: result.clone(),
            scores,
        };
        evaluation.write(&self.path)?;
        if !self.quiet {
            eprintln!("kept in {}", evaluation.path(&self.path).display());
        }
        Ok(())
    }
}
