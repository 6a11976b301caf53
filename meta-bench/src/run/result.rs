//! Results of runs: one JSON object for scripts, a summary for people.

use std::path::Path;

use meta_core::{
    calibration::Pooled,
    data::Split,
    stats::{Interval, IntervalMethod},
    toolkit::Toolkit,
    train::{
        eval::{Evaluation, LogLikelihoods, Metric},
        outsiders::Rejection,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    folder::{RECORD, RESULT, read_json},
    spent::Spent,
    state::State,
};
use crate::{
    experiment::Experiment,
    failure::{CommandError, Result},
    machine::peak_bytes,
    output::{
        print,
        table::Cell,
        text::visible,
        units::{duration_text, score_text},
    },
};

/// JSON has `null` where a number is none; [`TestResult::check`] names it.
fn null_is_nan<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// JSON has `null` for the infinite interval of a single episode.
fn null_is_infinite<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
}

/// The score after an adaptation step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepScore {
    /// Adaptation steps taken; 0 is before adaptation.
    pub step: usize,
    /// Mean over episodes.
    #[serde(deserialize_with = "null_is_nan")]
    pub mean: f64,
    /// Half of the 95 % interval's width.
    #[serde(deserialize_with = "null_is_infinite")]
    pub ci95: f64,
}

/// The accuracy for items of the support when their class is presented for this time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceScore {
    /// How often the class has been presented, counted from 1.
    pub instance: usize,
    /// Over episodes.
    #[serde(flatten)]
    pub accuracy: Nats,
}

/// A mean over episodes, in nats or as a share, and half of its 95 % interval's width.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nats {
    /// Mean.
    #[serde(deserialize_with = "null_is_nan")]
    pub mean: f64,
    /// Half of the 95 % interval's width.
    #[serde(deserialize_with = "null_is_infinite")]
    pub ci95: f64,
}

impl Nats {
    fn of(values: &[f64]) -> Self {
        let interval = Interval::t95(values);
        Nats {
            mean: interval.mean,
            ci95: interval.half_width,
        }
    }
}

impl std::fmt::Display for Nats {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:.4} ± {:.4}", self.mean, self.ci95)
    }
}

/// Log-likelihood of the query targets given the support: mean over queries and outputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLikelihood {
    /// By the learner.
    #[serde(flatten)]
    pub learner: Nats,
    /// By the distribution that the source draws from, where it knows it.
    #[serde(default)]
    pub exact: Option<Nats>,
    /// How far the learner is below that, paired by episode.
    #[serde(default)]
    pub below_exact: Option<Nats>,
}

impl LogLikelihood {
    fn of(densities: &LogLikelihoods) -> Self {
        let LogLikelihoods { learner, exact } = densities;
        let known = exact.len() == learner.len();
        let gaps: Vec<f64> = exact.iter().zip(learner).map(|(e, l)| e - l).collect();
        LogLikelihood {
            learner: Nats::of(learner),
            exact: known.then(|| Nats::of(exact)),
            below_exact: known.then(|| Nats::of(&gaps)),
        }
    }
}

/// How far the probabilities of a test can be believed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probabilities {
    /// Expected calibration error over all queries, 15 bins; the interval is the jackknife's over episodes.
    pub expected_calibration_error: Pooled,
    /// Negative log-likelihood of the right classes, in nats.
    pub negative_log_likelihood: Nats,
    /// Area under the curve of true over false positives, of tasks of two classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auroc: Option<Nats>,
    /// Figures of rejection, with `test.outsiders`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outsiders: Option<Outsiders>,
}

/// How well outsiders are told from the queries of a task's classes, by the highest class score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outsiders {
    /// Share of all queries.
    pub share: f64,
    /// Area under the curve of true over false positives.
    pub auroc: Nats,
    /// Share of outsiders that are accepted where 95 % of the others are.
    pub fpr95: Nats,
    /// Share of what is accepted there that is answered rightly.
    pub accepted_accuracy: Nats,
}

/// The figure that a run repeats the experiment of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The published score: accuracies in per cent.
    pub score: f64,
    /// Where it stands.
    pub paper: String,
}

/// The score of the same learner before it was trained, on the same episodes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Untrained {
    /// Over the test episodes.
    #[serde(flatten)]
    pub score: Nats,
    /// The score after training less that before, paired by episode.
    pub by_training: Nats,
}

impl Untrained {
    /// From the scores of both.
    pub fn of(before: &[f64], after: &[f64]) -> Self {
        let gaps: Vec<f64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        Untrained {
            score: Nats::of(before),
            by_training: Nats::of(&gaps),
        }
    }

    /// Whether training made the score better, by the paired interval.
    pub fn has_learned(&self, metric: Metric) -> bool {
        let Nats { mean, ci95 } = self.by_training;
        match metric {
            Metric::Accuracy | Metric::Return => mean > ci95,
            Metric::MeanSquaredError => -mean > ci95,
        }
    }
}

impl Outsiders {
    /// The figures of a share.
    pub fn of(share: f64, rejection: &Rejection) -> Self {
        Outsiders {
            share,
            auroc: Nats::of(&rejection.auroc),
            fpr95: Nats::of(&rejection.fpr95),
            accepted_accuracy: Nats::of(&rejection.accepted_accuracy),
        }
    }
}

/// The result of a test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// Name of the run.
    pub name: String,
    /// Identity of the run.
    pub hash: String,
    /// The run folder.
    pub run_dir: String,
    /// Learner.
    pub learner: String,
    /// Encoder.
    pub encoder: String,
    /// Data source.
    pub source: String,
    /// Part of the source that was tested.
    pub split: Split,
    /// Classes of a test task.
    pub way: usize,
    /// Support items of a class.
    pub shot: usize,
    /// Query items of a class.
    pub query: usize,
    /// What `mean` is: `accuracy` or `mean_squared_error`.
    pub metric: Metric,
    /// Mean over the test episodes.
    #[serde(deserialize_with = "null_is_nan")]
    pub mean: f64,
    /// Half of the 95 % interval's width: the result is `mean ± ci95`.
    #[serde(deserialize_with = "null_is_infinite")]
    pub ci95: f64,
    /// How the interval was computed, over episodes: `t` is Student's.
    pub method: IntervalMethod,
    /// Test episodes.
    pub episodes: usize,
    /// Hash of the set of test episodes: equal hashes, equal episodes.
    pub episode_set: String,
    /// Mean query loss.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Log-likelihood of the queries, where the learner predicts densities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_likelihood: Option<LogLikelihood>,
    /// How far its probabilities can be believed; none for regression, and of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<Probabilities>,
    /// The score before training; none where nothing is trained, or it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrained: Option<Untrained>,
    /// The score after each adaptation step, from before adaptation on; empty for a learner that does
    /// not adapt by steps.
    pub by_step: Vec<StepScore>,
    /// Accuracy by instance, of a learner that reads the support one item after the other; the queries come after
    /// the last instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_instance: Vec<InstanceScore>,
    /// The published score, where the manifest says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// Seed of the run.
    pub seed: u64,
    /// Seed of the test episodes.
    pub test_seed: u64,
    /// Backend.
    pub backend: String,
    /// Trainable parameters.
    pub parameters: usize,
    /// Iterations trained.
    pub iterations: u64,
    /// Why training ended: `finished` or `patience`.
    pub ending: String,
    /// The iteration whose parameters were tested.
    pub best_iteration: u64,
    /// Their validation value, by which they were chosen.
    pub best_value: Option<f64>,
    /// Seconds of training, validation included.
    pub train_seconds: f64,
    /// Seconds of the test.
    pub test_seconds: f64,
    /// Where the time of the run went; none of a later test, and of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
    /// Peak resident memory of the process that ended the run, where the system reports it.
    #[serde(default)]
    pub peak_bytes: Option<u64>,
}

/// What a result knows of the training before the test.
pub struct Trained {
    /// Trainable parameters.
    pub parameters: usize,
    /// Iterations trained.
    pub iterations: u64,
    /// Why training ended.
    pub ending: String,
    /// The iteration whose parameters were tested.
    pub best_iteration: u64,
    /// Their validation value.
    pub best_value: Option<f64>,
    /// Seconds of training.
    pub train_seconds: f64,
}

impl TestResult {
    /// The result of testing `experiment`, whose run folder is `run_dir`.
    pub fn new<T: Toolkit>(
        experiment: &Experiment<T>,
        hash: String,
        run_dir: &Path,
        trained: Trained,
        evaluation: &Evaluation,
        test_seconds: f64,
    ) -> Self {
        let manifest = &experiment.manifest;
        let score = evaluation.score();
        let steps = evaluation.by_step();
        let by_step = match steps.len() {
            1 => Vec::new(),
            _ => steps
                .iter()
                .enumerate()
                .map(|(step, score)| StepScore {
                    step,
                    mean: score.mean,
                    ci95: score.half_width,
                })
                .collect(),
        };
        TestResult {
            name: manifest.run.name.clone(),
            hash,
            run_dir: run_dir.display().to_string(),
            learner: manifest.learner.name.clone(),
            encoder: manifest.encoder.name.clone(),
            source: manifest.source.name.clone(),
            split: manifest.test.split,
            way: manifest.data.way,
            shot: manifest.data.shot,
            query: manifest.data.query,
            metric: evaluation.metric,
            mean: score.mean,
            ci95: score.half_width,
            method: score.method,
            episodes: score.n,
            episode_set: experiment.test_episodes().hash(),
            loss: evaluation.loss().mean,
            log_likelihood: evaluation.log_likelihood.as_ref().map(LogLikelihood::of),
            probabilities: evaluation
                .calibration_error()
                .map(|expected_calibration_error| Probabilities {
                    expected_calibration_error,
                    negative_log_likelihood: Nats::of(&evaluation.losses),
                    auroc: (!evaluation.auroc.is_empty()).then(|| Nats::of(&evaluation.auroc)),
                    outsiders: None,
                }),
            untrained: None,
            by_step,
            by_instance: (1..)
                .zip(&evaluation.by_instance)
                .map(|(instance, accuracies)| InstanceScore {
                    instance,
                    accuracy: Nats::of(accuracies),
                })
                .collect(),
            published: (manifest.published.score > 0.0).then(|| Published {
                score: manifest.published.score,
                paper: manifest.published.paper.clone(),
            }),
            seed: manifest.run.seed,
            test_seed: manifest.test.seed,
            backend: manifest.run.backend.clone(),
            parameters: trained.parameters,
            iterations: trained.iterations,
            ending: trained.ending,
            best_iteration: trained.best_iteration,
            best_value: trained.best_value,
            train_seconds: trained.train_seconds,
            test_seconds,
            spent: None,
            peak_bytes: peak_bytes(),
        }
    }

    /// Checks that all means are numbers: older versions wrote results of tests that diverged.
    fn check(&self) -> Result<(), String> {
        let own = [("mean", self.mean), ("loss", self.loss)];
        let steps = self.by_step.iter().map(|step| ("by_step", step.mean));
        let densities = self.log_likelihood.iter();
        let densities = densities.map(|density| ("log_likelihood", density.learner.mean));
        match own
            .into_iter()
            .chain(steps)
            .chain(densities)
            .find(|(_, mean)| !mean.is_finite())
        {
            None => Ok(()),
            Some((name, _)) => Err(format!(
                "`{name}` is not a finite number: the test diverged; `meta eval` tests the run with other \
                 settings"
            )),
        }
    }

    /// A mean over the test episodes with its interval.
    pub fn interval(&self, mean: f64, half_width: f64) -> Interval {
        Interval {
            mean,
            half_width,
            level: 0.95,
            method: self.method,
            n: self.episodes,
        }
    }

    /// The score with its interval over episodes, as the cell of a table.
    pub fn cell(&self) -> Cell {
        let unit = match self.metric {
            Metric::Accuracy | Metric::Return => "",
            Metric::MeanSquaredError => " MSE",
        };
        let score = score_text(self.metric, self.interval(self.mean, self.ci95));
        Cell::new(format!("{score}{unit}"), self.mean)
    }

    /// Whether the tested parameters were chosen by their score, by the record of the run; else by the loss.
    fn is_chosen_by_score(&self) -> bool {
        let record = read_json(&Path::new(&self.run_dir).join(RECORD));
        record.is_ok_and(|record| record["protocol"]["checkpoint_choice"] == "accuracy")
    }

    /// The accuracies by instance in one line, in per cent; none where there are none.
    pub fn instances(&self) -> Option<String> {
        let shown = |score: &InstanceScore| {
            let Nats { mean, ci95 } = score.accuracy;
            format!(
                "{}: {:.1} ± {:.1}",
                score.instance,
                100.0 * mean,
                100.0 * ci95
            )
        };
        let all: Vec<String> = self.by_instance.iter().map(shown).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// The summary for people.
    pub fn summary(&self) -> String {
        let shown = |mean: f64, half: f64| score_text(self.metric, self.interval(mean, half));
        let metric = self.metric.name().replace('_', " ");
        let tasks = match self.metric {
            Metric::Accuracy => format!("{}-way {}-shot", self.way, self.shot),
            Metric::MeanSquaredError => format!("{}-shot regression", self.shot),
            Metric::Return => format!("trials of {} episodes", self.shot),
        };
        let mut out = format!(
            "{} with {} on {}, {tasks}, {} split\n\n",
            self.learner, self.encoder, self.source, self.split
        );
        for step in &self.by_step {
            let label = match step.step {
                0 => "before adaptation".to_owned(),
                1 => "after 1 step".to_owned(),
                steps => format!("after {steps} steps"),
            };
            out.push_str(&format!("  {label:<18} {}\n", shown(step.mean, step.ci95)));
        }
        for InstanceScore { instance, accuracy } in &self.by_instance {
            let label = format!("instance {instance}");
            let score = shown(accuracy.mean, accuracy.ci95);
            out.push_str(&format!("  {label:<18} {score}\n"));
        }
        if !(self.by_step.is_empty() && self.by_instance.is_empty()) {
            out.push('\n');
        }
        let label = format!("test {metric}");
        out.push_str(&format!(
            "  {label:<18} {}   (95 % interval, {}, {} episodes)\n",
            shown(self.mean, self.ci95),
            self.method,
            self.episodes
        ));
        if let Some(Published { score, paper }) = &self.published {
            let here = shown(self.mean, self.ci95);
            let label = "published";
            let paper = visible(paper);
            out.push_str(&format!("  {label:<18} {score}, here {here}   ({paper})\n"));
        }
        if let Some(untrained) = &self.untrained {
            let verdict = match untrained.has_learned(self.metric) {
                true => "",
                false => ": training made it no better",
            };
            out.push_str(&format!(
                "  {:<18} {}{verdict}\n",
                "untrained",
                shown(untrained.score.mean, untrained.score.ci95)
            ));
        }
        if let Some(density) = &self.log_likelihood {
            out.push_str(&format!(
                "  {:<18} {} nats\n",
                "log-likelihood", density.learner
            ));
            if let (Some(exact), Some(below)) = (density.exact, density.below_exact) {
                out.push_str(&format!(
                    "  {:<18} {exact} nats, {below} above the learner (paired)\n",
                    "exact posterior"
                ));
            }
        }
        out.push_str(&self.of_probabilities());
        let chosen = self.best_value.map_or_else(String::new, |value| {
            match (self.metric, self.is_chosen_by_score()) {
                (Metric::Accuracy, true) => format!(", best validation {:.2} %", 100.0 * value),
                _ => format!(", best validation {value:.4}"),
            }
        });
        out.push_str(&format!(
            "  parameters of iteration {} of {}{chosen}\n",
            self.best_iteration, self.iterations
        ));
        out.push_str(&format!(
            "  seed {}, backend {}, {} parameters, trained in {}, tested in {}\n",
            self.seed,
            self.backend,
            self.parameters,
            duration_text(self.train_seconds),
            duration_text(self.test_seconds)
        ));
        if let Some(spent) = &self.spent {
            out.push_str(&format!("  time: {}\n", spent.shares()));
        }
        out.push_str(&format!("  {}\n", self.run_dir));
        out
    }

    /// Lines on the probabilities of the answers; none where they have none.
    fn of_probabilities(&self) -> String {
        let mut out = String::new();
        let Some(found) = &self.probabilities else {
            return out;
        };
        let Pooled { mean, ci95 } = found.expected_calibration_error;
        out.push_str(&format!(
            "  {:<18} {} % ± {}\n",
            "calibration error",
            percent(mean),
            percent(ci95)
        ));
        if let Some(auroc) = &found.auroc {
            out.push_str(&format!("  {:<18} {auroc}\n", "AUROC"));
        }
        if let Some(outsiders) = &found.outsiders {
            out.push_str(&format!(
                "  {:<18} {} (AUROC), false positives at 95 %: {}, accuracy on accepted: {}\n",
                "outsiders", outsiders.auroc, outsiders.fpr95, outsiders.accepted_accuracy
            ));
        }
        out
    }
}

fn percent(share: f64) -> String {
    format!("{:.2}", 100.0 * share)
}

/// The scores of a learner's answers by episode, from what a run keeps of its test; empty where it has none.
pub fn scores_of_answers(kept: &Value) -> Vec<f64> {
    let last = kept["scores"].as_array().and_then(|steps| steps.last());
    last.and_then(|step| serde_json::from_value(step.clone()).ok())
        .unwrap_or_default()
}

/// The result of the finished run at `path`.
///
/// # Errors
/// When there is none, or a test that diverged.
pub fn read_result(path: &Path) -> Result<TestResult> {
    let path = path.join(RESULT);
    let refuse = |what| CommandError::Usage(format!("{}: {what}", path.display()));
    let result: TestResult = serde_json::from_value(read_json(&path)?)
        .map_err(|error| refuse(format!("not a result: {error}")))?;
    result.check().map_err(refuse)?;
    Ok(result)
}

/// The cell of a run's score in a table: the score, why the run failed, or a dash.
pub fn score_cell(folder: &Path, state: &State) -> Cell {
    match state {
        State::Finished => match read_result(folder) {
            Ok(result) => result.cell(),
            Err(error) => Cell::new(error.to_string(), Value::Null),
        },
        // Without the advice that a table has no room for.
        State::Failed(error) | State::Foreign(error) => {
            Cell::new(error.split("; ").next().unwrap_or_default(), Value::Null)
        }
        _ => Cell::new("–", Value::Null),
    }
}

/// Prints a result: as one JSON object with its summary on stderr, or the summary alone.
///
/// # Errors
/// When stdout cannot be written.
pub fn show(result: &TestResult, json: bool, quiet: bool) -> Result<()> {
    if !json {
        return print(&result.summary());
    }
    if !quiet {
        eprint!("{}", result.summary());
    }
    let json = serde_json::to_string(result).expect("a result serialises");
    print(&format!("{json}\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is written as `null` is read as what it was.
    #[test]
    fn numbers_that_json_lacks_are_read_back() {
        let step = StepScore {
            step: 0,
            mean: 0.5,
            ci95: f64::INFINITY,
        };
        let written = serde_json::to_value(&step).unwrap();
        assert_eq!(written["ci95"], Value::Null);
        assert_eq!(StepScore::deserialize(written).unwrap(), step);
        let none = StepScore::deserialize(json!({ "step": 0, "mean": null, "ci95": null }));
        assert!(none.unwrap().mean.is_nan(), "and then refused");
    }
}
