//! `meta calibrate`: measures on validation episodes how far a run's probabilities can be believed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Args;
use meta_core::{
    backend::{WithBackend, dispatch},
    calibration::{
        Pooled, Reliability, Scored, conformal_quantile, coverage, softmax, temperature, threshold,
    },
    data::{Split, Targets, Task},
    files::write_atomically,
    learner::{Learner, LearnerList},
    nn::encoder::Architecture,
    primitives::Primitives,
    stats::{Interval, mean},
    toolkit::Toolkit,
    train::{
        answer::Queries,
        eval::{FrozenEpisodes, Metric, score_items},
        outsiders::{answers_of, there},
    },
};

use crate::{
    command::Execute,
    experiment::Experiment,
    failure::{CommandError, Result},
    output::print,
    run::{
        calibration::{Calibration, Modes, OfClasses, OfValues, OnTest},
        elsewhere::{Changes, trained},
        eval::best_learner,
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
    /// Test episodes on which the calibration is checked: the calibration error, and how often conformal sets
    /// or intervals hold the right answer [default: none].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    test_episodes: Option<u32>,
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
    if let Some(test) = &found.on_test {
        out.push_str(&test_summary(test, found.alpha));
    }
    out.push_str(&format!("kept in {}\n", path.display()));
    out
}

/// What a calibration comes to on test episodes, for people.
fn test_summary(test: &OnTest, alpha: f64) -> String {
    let percent =
        |figure: &Pooled| format!("{:.2} ± {:.2} %", 100.0 * figure.mean, 100.0 * figure.ci95);
    let mut out = format!(
        "{} test episodes\n  coverage           {} ({:.0} % are asked for)\n",
        test.episodes,
        percent(&test.coverage),
        100.0 * (1.0 - alpha)
    );
    if let (Some(before), Some(after)) = (&test.error_before, &test.error_after) {
        let (before, after) = (percent(before), percent(after));
        out.push_str(&format!(
            "  calibration error  {before}, {after} with the temperature\n"
        ));
    }
    if let Some(size) = &test.set_size {
        out.push_str(&format!(
            "  classes in a set   {:.2} ± {:.2}\n",
            size.mean, size.ci95
        ));
    }
    if let Some(accepted) = &test.accepted {
        out.push_str(&format!(
            "  accepted           {} of the queries\n",
            percent(accepted)
        ));
    }
    out
}

struct Calibrator<'a, T: Toolkit> {
    experiment: &'a Experiment<T>,
    args: &'a CalibrateArgs,
}

/// What an episode comes to.
#[derive(Default)]
struct Answered {
    queries: Vec<Scored>,
    /// The class of each query, in the source.
    classes: Vec<u32>,
    /// `|y − m|`, in deviations where the learner predicts such.
    errors: Vec<f64>,
    relative: Vec<f64>,
    /// Scores, answered one by one, and together where that differs.
    alone: f64,
    together: Option<f64>,
}

impl Answered {
    /// The errors in units of the intervals.
    fn in_units(&self) -> &[f64] {
        match self.relative.is_empty() {
            true => &self.errors,
            false => &self.relative,
        }
    }
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
        let (learner, best) = best_learner::<T, B>(experiment, &args.run_dir, &device, args.force)?;
        let found = self.answered(learner.as_ref(), Split::Validation, args.episodes, &device)?;
        let modes = modes(&found, Metric::of(spec.task));
        if let Some(modes) = modes
            && !args.quiet
        {
            say(&manifest.learner.name, modes);
        }
        let calibration = calibration(&found, spec.task, args, best.hash, spec.test.to_string());
        let on_test = match args.test_episodes {
            None => None,
            Some(count) => {
                experiment
                    .source
                    .check(Split::Test, spec.test)
                    .map_err(at)?;
                let test = self.answered(learner.as_ref(), Split::Test, count, &device)?;
                Some(on_test(&found, &test, &calibration))
            }
        };
        Ok(Calibration {
            modes,
            on_test,
            ..calibration
        })
    }
}

impl<T: Toolkit> Calibrator<'_, T> {
    /// What frozen episodes of a split come to, each query answered as `meta predict` does.
    fn answered<B: Primitives>(
        &self,
        learner: &dyn Learner<B>,
        split: Split,
        count: u32,
        device: &B::Device,
    ) -> Result<Vec<Answered>> {
        let experiment = self.experiment;
        let spec = &experiment.spec;
        let set = FrozenEpisodes {
            source: experiment.source.clone(),
            split,
            seed: experiment.frozen_seed(),
            shape: spec.test,
            count: count as usize,
        };
        let architecture = &experiment.architecture;
        let transductive =
            architecture.statistics().transductive() || experiment.learner.transductive();
        let how = match transductive {
            true => Queries::one_by_one(true, spec.test, architecture.activations()),
            // Those of an episode are as many everywhere.
            false => Queries::Together,
        };
        let mut all = Vec::with_capacity(set.count);
        for index in 0..set.count {
            let episode = set
                .source
                .episode(set.seed, set.split, set.shape, index as u64)?;
            let query = there(&episode.query, spec.item.features());
            let answer = |how| answers_of(learner, spec, &episode, &query.inputs, how, device);
            let found = answer(how)?;
            let score = |values: &[f64]| score_items(values, found.outputs, &query.targets).0;
            let mut own = Answered {
                alone: score(&found.values),
                ..Answered::default()
            };
            if transductive {
                own.together = Some(score(&answer(Queries::Together)?.values));
            }
            match &query.targets {
                Targets::Classes(labels) => {
                    let rows = found.rows().zip(labels);
                    let rows = rows.map(|(scores, &label)| Scored {
                        scores: scores.to_vec(),
                        class: label as usize,
                    });
                    own.queries = rows.collect();
                    let labels = labels.iter().map(|&label| label as usize);
                    own.classes = labels.map(|label| episode.classes[label].class).collect();
                }
                // A sequence is right or wrong as a whole: there is nothing to calibrate.
                Targets::Sequences(_) => {}
                Targets::Values(values) => {
                    let errors = found.values.iter().zip(values);
                    own.errors = errors.map(|(m, &y)| (f64::from(y) - m).abs()).collect();
                    if let Some(deviations) = &found.deviations {
                        let relative = own.errors.iter().zip(deviations);
                        own.relative = relative.map(|(error, own)| error / own).collect();
                    }
                }
            }
            all.push(own);
        }
        Ok(all)
    }
}

/// How the two modes compare, of a learner that has two.
fn modes(found: &[Answered], metric: Metric) -> Option<Modes> {
    let together: Option<Vec<f64>> = found.iter().map(|episode| episode.together).collect();
    let alone: Vec<f64> = found.iter().map(|episode| episode.alone).collect();
    Some(Modes {
        metric,
        one_by_one: mean(&alone),
        together: mean(&together?),
    })
}

/// Says how the two modes of a learner compare.
pub fn say(learner: &str, modes: Modes) {
    let (text, is_worse) = modes.text();
    let warning = if is_worse { "warning: " } else { "" };
    eprintln!("{warning}`{learner}` on validation episodes: {text}");
}

fn calibration(
    found: &[Answered],
    task: Task,
    args: &CalibrateArgs,
    parameters: String,
    shape: String,
) -> Calibration {
    let is_classes = task == Task::Classification;
    let queries = found.iter().map(|own| own.queries.len()).sum::<usize>();
    let errors: Vec<f64> = found.iter().flat_map(|own| own.errors.clone()).collect();
    let classes = is_classes.then(|| of_classes(found, args.alpha));
    let values = (!is_classes).then(|| {
        let squares: f64 = errors.iter().map(|error| error * error).sum();
        let tasks = nonconformity(found, None);
        let tasks = tasks.iter().map(Vec::as_slice);
        OfValues {
            deviation: (squares / errors.len().max(1) as f64).sqrt(),
            quantile: finite(conformal_quantile(tasks, args.alpha)),
        }
    });
    Calibration {
        parameters,
        episodes: args.episodes as usize,
        queries: queries.max(errors.len()),
        shape,
        alpha: args.alpha,
        modes: None,
        classes,
        values,
        on_test: None,
    }
}

/// How strange right answers are: `1 − p` of the queries of each class of the source, in the order of its classes,
/// at a temperature; without one, the errors of each task.
fn nonconformity(found: &[Answered], temperature: Option<f64>) -> Vec<Vec<f64>> {
    let Some(temperature) = temperature else {
        return found.iter().map(|own| own.in_units().to_vec()).collect();
    };
    let mut classes = BTreeMap::<u32, Vec<f64>>::new();
    for own in found {
        for (query, &class) in own.queries.iter().zip(&own.classes) {
            let strange = 1.0 - (-query.negative_log_likelihood(temperature)).exp();
            classes.entry(class).or_default().push(strange);
        }
    }
    classes.into_values().collect()
}

/// What a calibration on `validation` comes to on episodes that it has not seen.
fn on_test(validation: &[Answered], found: &[Answered], calibration: &Calibration) -> OnTest {
    let over = |of_episode: &dyn Fn(&Answered) -> f64| {
        let interval = Interval::t95(&found.iter().map(of_episode).collect::<Vec<_>>());
        Pooled {
            mean: interval.mean,
            ci95: interval.half_width,
        }
    };
    let temperature = calibration.classes.map(|classes| classes.temperature);
    let empty = OnTest {
        episodes: found.len(),
        coverage: coverage(
            &nonconformity(validation, temperature),
            &nonconformity(found, temperature),
            calibration.alpha,
        ),
        set_size: None,
        accepted: None,
        error_before: None,
        error_after: None,
    };
    let Some(classes) = calibration.classes else {
        return empty;
    };
    let temperature = classes.temperature;
    let size = |query: &Scored| {
        let probabilities = softmax(&query.scores, temperature);
        let inside = probabilities
            .iter()
            .filter(|&&p| 1.0 - p <= classes.quantile);
        inside.count() as f64
    };
    OnTest {
        set_size: Some(over(&|own| {
            mean(&own.queries.iter().map(size).collect::<Vec<_>>())
        })),
        accepted: Some(over(&|own| {
            share(&own.queries, |query| top(query) >= classes.threshold)
        })),
        error_before: calibration_error(found, 1.0),
        error_after: calibration_error(found, temperature),
        ..empty
    }
}

/// The expected calibration error at a temperature, with the jackknife's interval over episodes.
fn calibration_error(found: &[Answered], temperature: f64) -> Option<Pooled> {
    let of_episode = |own: &Answered| {
        let queries = own.queries.iter();
        Reliability::of(queries.map(|query| query.confidence(temperature)))
    };
    Reliability::pooled_error(&found.iter().map(of_episode).collect::<Vec<_>>())
}

/// The share of items that are so.
fn share<T>(items: &[T], is: impl Fn(&T) -> bool) -> f64 {
    items.iter().filter(|item| is(item)).count() as f64 / items.len().max(1) as f64
}

/// The highest class score.
fn top(query: &Scored) -> f64 {
    let scores = query.scores.iter().copied();
    scores.fold(f64::NEG_INFINITY, f64::max)
}

fn of_classes(found: &[Answered], alpha: f64) -> OfClasses {
    let queries: Vec<Scored> = found.iter().flat_map(|own| own.queries.clone()).collect();
    let temperature = temperature(&queries);
    let error_at = |temperature: f64| {
        let answers = queries.iter().map(|query| query.confidence(temperature));
        Reliability::of(answers).error()
    };
    let tops: Vec<f64> = queries.iter().map(top).collect();
    let strange = nonconformity(found, Some(temperature));
    let strange = strange.iter().map(Vec::as_slice);
    OfClasses {
        temperature,
        threshold: finite(threshold(&tops, ACCEPTED).unwrap_or(f64::NEG_INFINITY)),
        accepted: ACCEPTED,
        quantile: conformal_quantile(strange, alpha).min(1.0),
        error_before: error_at(1.0),
        error_after: error_at(temperature),
    }
}

/// JSON has no infinite numbers.
fn finite(number: f64) -> f64 {
    number.clamp(-f64::MAX, f64::MAX)
}
