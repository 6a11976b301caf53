//! `meta eval`: tests the best parameters of a run again.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;
use meta_core::{
    Error,
    backend::{WithBackend, dispatch},
    learner::{Learner, PredictAt},
    params::Params,
    primitives::Primitives,
    toolkit::{Catalogue, Toolkit},
    train::{
        checkpoint_file,
        eval::{Metric, evaluate},
        parameters_like,
    },
};
use serde_json::{Value, json};

use super::{
    checksums::check_fixed,
    folder::{self, Found, inspect, read_json},
    result::{TestResult, Trained, read_result, show},
};
use crate::{
    command::Execute,
    experiment::{Experiment, memory::Needed, start_threads},
    failure::{CommandError, Result},
    manifest::Manifest,
    output::progress::Progress,
};

/// Test a run again, with other test settings if given.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The run folder.
    run_dir: PathBuf,
    /// Changes to `test.*`, `data.way`, `data.shot`, `data.query`, `learner.*`, `backend` or
    /// `threads`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
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
        let (experiment, record) =
            trained::<T>(&self.run_dir, &self.overrides, self.data.as_deref())?;
        let target = experiment.manifest.run.target();
        let evaluator = Evaluator {
            experiment,
            path: self.run_dir,
            record,
            quiet: self.quiet,
            force: self.force,
        };
        show(&dispatch(&target, evaluator)??, self.json, self.quiet)
    }
}

/// Tests `learner`: the result, and the scores of every episode.
pub fn test<T: Toolkit, B: Primitives>(
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
    );
    progress.finish();
    let evaluation = evaluation.map_err(|error| match error {
        Error::DivergedEpisode { .. } => CommandError::TestDiverged {
            error,
            run_dir: run_dir.to_owned(),
        },
        other => other.into(),
    })?;
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
/// its record. Data sets are in `data`, or where they were recorded.
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
    check_fixed(path)?;
    for change in changes {
        let squeezed = change.replace(' ', "");
        let allowed = EVALUATION_KEYS.iter().any(|key| squeezed.starts_with(key));
        if !allowed || squeezed.starts_with("learner.name=") {
            return Err(CommandError::Usage(format!(
                "`{change}` cannot change in a trained run; what can change: test.*, data.way, data.shot, \
                 data.query, data.path, learner.* except its name, backend, device, precision, threads"
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
    let experiment = Experiment::<T>::trained(manifest, data_folder.as_deref())?;
    if record["data"]["content"] != json!(experiment.source.content_hash()) {
        return Err(CommandError::Usage(format!(
            "{}: the data differs from the data of the run",
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
            "{}: has no {} yet; let the run reach its first validation",
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

/// An evaluation on a backend whose name is known only now.
struct Evaluator<T: Toolkit> {
    experiment: Experiment<T>,
    path: PathBuf,
    record: Value,
    quiet: bool,
    force: bool,
}

impl<T: Toolkit> WithBackend for Evaluator<T> {
    type Output = Result<TestResult>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let experiment = &self.experiment;
        let mut learner = experiment.fitting_learner::<B>(Needed::ForTest, &device, self.force)?;
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
