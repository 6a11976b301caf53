//! `meta calibrate`: measures on validation episodes how far a run's probabilities can be believed.

use std::path::{Path, PathBuf};

use clap::Args;
use meta_core::{
    backend::{WithBackend, dispatch},
    calibration::{Reliability, Scored, conformal_quantile, temperature, threshold},
    data::{Split, Targets, Task},
    files::write_atomically,
    learner::LearnerList,
    nn::encoder::Architecture,
    primitives::Primitives,
    stats::mean,
    toolkit::Toolkit,
    train::{
        answer::Queries,
        eval::{FrozenEpisodes, Metric, score_items},
        outsiders::{answers_of, there},
    },
};

use super::calibration::{Calibration, Modes, OfClasses, OfValues};
use crate::{
    command::Execute,
    experiment::{Experiment, memory::Needed},
    failure::{CommandError, Result},
    output::print,
    run::{
        elsewhere::{Changes, trained},
        eval::best_parameters,
        folder::{CALIBRATION, json_bytes},
    },
};

/// Share of items of known classes that are accepted.
const ACCEPTED: f64 = 0.95;

/// Measure temperature, threshold of rejection and conformal quantiles of a run on validation episodes, and
/// keep them in its folder, where `meta fit` and `meta predict` find them.
#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// The run folder.
    run_dir: PathBuf,
    /// Changes to `data.way`, `data.shot`, `data.query`, `learner.*`, `backend` or `threads`: of the tasks
    /// that the run is calibrated for.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Folder with the data sets [default: that of the run].
    #[arg(long, env = "META_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Validation episodes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    episodes: u32,
    /// Share of wrong answers that conformal sets and intervals allow, between 0 and 1.
    #[arg(long, default_value_t = 0.1)]
    alpha: f64,
    /// Print what is kept as JSON.
    #[arg(long)]
    json: bool,
    /// Nothing on stderr but errors.
    #[arg(long)]
    quiet: bool,
    /// Start even if it needs more memory than there is, by an estimate.
    #[arg(long)]
    force: bool,
}

impl Execute for CalibrateArgs {
    /// Writes the calibration into the run folder.
    ///
    /// # Errors
    /// Whatever is wrong with the run or its data.
    fn execute<T: Toolkit>(self) -> Result<()> {
        if !(self.alpha > 0.0 && self.alpha < 1.0) {
            return Err(CommandError::Usage(format!(
                "`--alpha {}`: expected a number between 0 and 1",
                self.alpha
            )));
        }
        let changes = Changes {
            overrides: &self.overrides,
            on: None,
            data: self.data.as_deref(),
        };
        let run = trained::<T>(&self.run_dir, changes)?;
        if let Some(other) = &run.elsewhere {
            return Err(CommandError::Usage(format!(
                "{}: `{other}` is other data than that of the run, whose validation classes it is \
                 calibrated on",
                self.run_dir.display()
            )));
        }
        let target = run.experiment.manifest.run.target();
        let calibrator = Calibrator {
            experiment: &run.experiment,
            args: &self,
        };
        let found = dispatch(&target, calibrator)??;
        let path = self.run_dir.join(CALIBRATION);
        let value = serde_json::to_value(&found).expect("a calibration serialises");
        write_atomically(&path, &json_bytes(&value))?;
        if self.json {
            return print(&format!("{value}\n"));
        }
        print(&summary(&found, &path))
    }
}

/// What a calibration says, for people.
fn summary(found: &Calibration, path: &Path) -> String {
    let mut out = format!(
        "{} validation episodes, {}, {} queries\n",
        found.episodes, found.shape, found.queries
    );
    if let Some(classes) = found.classes {
        out.push_str(&format!(
            "  temperature        {:.4}\n  calibration error  {:.2} %, {:.2} % with it\n  rejection          \
             below a score of {:.4}: {:.0} % of known classes are accepted\n  conformal sets     1 − p up to \
             {:.4}, for at least {:.0} %\n",
            classes.temperature,
            100.0 * classes.error_before,
            100.0 * classes.error_after,
            classes.threshold,
            100.0 * classes.accepted,
            classes.quantile,
            100.0 * (1.0 - found.alpha)
        ));
    }
    if let Some(values) = found.values {
        out.push_str(&format!(
            "  deviation          {:.4}\n  intervals          ± {:.4} deviations, for at least {:.0} %\n",
            values.deviation,
            values.quantile,
            100.0 * (1.0 - found.alpha)
        ));
    }
    out.push_str(&format!("kept in {}\n", path.display()));
    out
}

struct Calibrator<'a, T: Toolkit> {
    experiment: &'a Experiment<T>,
    args: &'a CalibrateArgs,
}

/// What validation episodes come to.
#[derive(Default)]
struct Collected {
    queries: Vec<Scored>,
    /// `|y − m|`, and the same in deviations of the learner.
    errors: Vec<f64>,
    relative: Vec<f64>,
    /// Scores of the episodes, answered one by one and together.
    alone: Vec<f64>,
    together: Vec<f64>,
}

impl<T: Toolkit> WithBackend for Calibrator<'_, T> {
    type Output = Result<Calibration>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let (experiment, args) = (self.experiment, self.args);
        let spec = &experiment.spec;
        let manifest = &experiment.manifest;
        let at = |error| manifest.locate(error);
        experiment
            .source
            .check(Split::Validation, spec.test)
            .map_err(at)?;
        let mut learner = experiment.fitting_learner::<B>(Needed::ForTest, &device, args.force)?;
        let best = best_parameters(&args.run_dir, &learner.parameters(), &device)?;
        learner.set_parameters(best.parameters);
        let set = FrozenEpisodes {
            source: experiment.source.clone(),
            split: Split::Validation,
            seed: experiment.frozen_seed(),
            shape: spec.test,
            count: args.episodes as usize,
        };
        let architecture = &experiment.architecture;
        let transductive =
            architecture.statistics().transductive() || experiment.learner.transductive();
        let mut all = Collected::default();
        for index in 0..set.count {
            let episode = set
                .source
                .episode(set.seed, set.split, set.shape, index as u64)?;
            let query = there(&episode.query, spec.item.features());
            let how = match transductive {
                true => Queries::one_by_one(true, spec.test, architecture.activations()),
                // Those of an episode are as many everywhere.
                false => Queries::Together,
            };
            let answer = |how| {
                answers_of(
                    learner.as_ref(),
                    spec,
                    &episode,
                    &query.inputs,
                    how,
                    &device,
                )
            };
            let found = answer(how)?;
            let score = |values: &[f64]| score_items(values, found.outputs, &query.targets).0;
            all.alone.push(score(&found.values));
            if transductive {
                all.together.push(score(&answer(Queries::Together)?.values));
            }
            match &query.targets {
                Targets::Classes(labels) => {
                    let rows = found.rows().zip(labels);
                    all.queries.extend(rows.map(|(scores, &label)| Scored {
                        scores: scores.to_vec(),
                        class: label as usize,
                    }));
                }
                Targets::Values(values) => {
                    let errors = found.values.iter().zip(values);
                    let errors: Vec<f64> = errors.map(|(m, &y)| (f64::from(y) - m).abs()).collect();
                    if let Some(deviations) = &found.deviations {
                        let relative = errors.iter().zip(deviations);
                        all.relative
                            .extend(relative.map(|(error, deviation)| error / deviation));
                    }
                    all.errors.extend(errors);
                }
            }
        }
        let modes = transductive.then(|| Modes {
            metric: Metric::of(spec.task),
            one_by_one: mean(&all.alone),
            together: mean(&all.together),
        });
        if let Some(modes) = modes
            && !args.quiet
        {
            say(&manifest.learner.name, modes);
        }
        let found = calibration(all, spec.task, args, best.hash, spec.test.to_string());
        Ok(Calibration { modes, ..found })
    }
}

/// Says how the two modes of a learner compare.
pub fn say(learner: &str, modes: Modes) {
    let (text, is_worse) = modes.text();
    let warning = if is_worse { "warning: " } else { "" };
    eprintln!("{warning}`{learner}` on validation episodes: {text}");
}

fn calibration(
    all: Collected,
    task: Task,
    args: &CalibrateArgs,
    parameters: String,
    shape: String,
) -> Calibration {
    let is_classes = task == Task::Classification;
    let classes = is_classes.then(|| of_classes(&all.queries, args.alpha));
    let values = (!is_classes).then(|| {
        let squares: f64 = all.errors.iter().map(|error| error * error).sum();
        let own = if all.relative.is_empty() {
            &all.errors
        } else {
            &all.relative
        };
        OfValues {
            deviation: (squares / all.errors.len().max(1) as f64).sqrt(),
            quantile: finite(conformal_quantile(own, args.alpha)),
        }
    });
    Calibration {
        parameters,
        episodes: args.episodes as usize,
        queries: all.queries.len().max(all.errors.len()),
        shape,
        alpha: args.alpha,
        modes: None,
        classes,
        values,
    }
}

fn of_classes(queries: &[Scored], alpha: f64) -> OfClasses {
    let temperature = temperature(queries);
    let error_at = |temperature: f64| {
        let answers = queries.iter().map(|query| query.confidence(temperature));
        Reliability::of(answers).error()
    };
    let top = |query: &Scored| {
        query
            .scores
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max)
    };
    let tops: Vec<f64> = queries.iter().map(top).collect();
    let strange = queries
        .iter()
        .map(|query| 1.0 - (-query.negative_log_likelihood(temperature)).exp());
    OfClasses {
        temperature,
        threshold: finite(threshold(&tops, ACCEPTED).unwrap_or(f64::NEG_INFINITY)),
        accepted: ACCEPTED,
        quantile: conformal_quantile(&strange.collect::<Vec<_>>(), alpha).min(1.0),
        error_before: error_at(1.0),
        error_after: error_at(temperature),
    }
}

/// JSON has no infinite numbers.
fn finite(number: f64) -> f64 {
    number.clamp(-f64::MAX, f64::MAX)
}
