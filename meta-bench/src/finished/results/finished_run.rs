//! A finished run as the page of results needs it.

use std::path::{Path, PathBuf};

use meta_core::{
    stats::{mean, paired_t, standard_deviation},
    toolkit::{Catalogue, Toolkit},
    train::eval::{LogLikelihoods, Metric},
};
use serde_json::Value;

use super::published::published;
use crate::{
    experiment::Experiment,
    failure::{CommandError, Result},
    finished::{baseline, store::short},
    machine::processor,
    manifest::Manifest,
    output::{
        table::{Format, escaped},
        units::duration_text,
    },
    run::{
        folder::{MANIFEST, RECORD, SCORES, read_json},
        result::{TestResult, read_result, scores_of_answers},
    },
};

/// A finished run, and the baseline on the same episodes.
pub struct FinishedRun<T: Toolkit> {
    /// The result of its test.
    pub result: TestResult,
    /// Its record.
    pub record: Value,
    /// What was run.
    pub experiment: Experiment<T>,
    /// Scores by episode.
    pub scores: Vec<f64>,
    /// Log-likelihoods by episode, where the learner predicts densities.
    pub log_likelihoods: LogLikelihoods,
    /// Scores of the baseline by episode.
    pub baseline: Vec<f64>,
}

/// A value for people, in Markdown.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => markdown(text),
        other => markdown(&other.to_string()),
    }
}

/// A name as it shows in Markdown.
pub fn markdown(name: &str) -> String {
    escaped(name, Format::Markdown)
}

/// The score of a run before training, with a mark where training did not better it; a dash where it is not known.
pub fn untrained(result: &TestResult, factor: f64, decimals: usize) -> String {
    result.untrained.map_or("–".to_owned(), |untrained| {
        let mark = match untrained.has_learned(result.metric) {
            true => "",
            false => " (not learned)",
        };
        format!(
            "{:.decimals$} ± {:.decimals$}{mark}",
            factor * untrained.score.mean,
            factor * untrained.score.ci95
        )
    })
}

impl<T: Toolkit> FinishedRun<T> {
    /// Reads the run in `folder`.
    pub fn read(folder: &Path, data: Option<&Path>) -> Result<Self> {
        let result = read_result(folder)?;
        let record = read_json(&folder.join(RECORD))?;
        let experiment = recorded::<T>(folder, &record, data)?;
        let baseline = baseline::scores(&experiment.spec, &experiment.test_episodes())?;
        let stored = read_json(&folder.join(SCORES))?;
        let scores = scores_of_answers(&stored);
        if scores.len() != baseline.len() {
            return Err(CommandError::Usage(format!(
                "{}: expected the scores of {} episodes, found {}",
                folder.join(SCORES).display(),
                baseline.len(),
                scores.len()
            )));
        }
        Ok(FinishedRun {
            result,
            record,
            experiment,
            scores,
            log_likelihoods: serde_json::from_value(stored["log_likelihood"].clone())
                .unwrap_or_default(),
            baseline,
        })
    }

    /// Factor, unit and decimals of its scores.
    fn unit(&self) -> (f64, &'static str, usize) {
        match self.result.metric {
            Metric::Accuracy => (100.0, "%", 2),
            Metric::MeanSquaredError => (1.0, "MSE", 4),
            Metric::Return => (1.0, "return", 2),
        }
    }

    /// By how many standard errors of the paired difference the learner is better than the baseline; none
    /// where all differences are the same.
    fn standard_errors_above(&self) -> Option<f64> {
        let (scores, baseline) = (&self.scores, &self.baseline);
        let better = match self.result.metric {
            Metric::Accuracy | Metric::Return => paired_t(scores, baseline),
            Metric::MeanSquaredError => paired_t(baseline, scores),
        };
        let gaps: Vec<f64> = scores.iter().zip(baseline).map(|(s, b)| s - b).collect();
        let standard_error = standard_deviation(&gaps) / (gaps.len() as f64).sqrt();
        let errors = better.difference.mean / standard_error;
        errors.is_finite().then_some(errors)
    }

    /// The commit of the build that trained it, in short.
    pub fn commit(&self) -> String {
        text(&self.record["commit"]).chars().take(10).collect()
    }

    /// Its row of the table.
    pub fn row(&self) -> String {
        let (factor, unit, decimals) = self.unit();
        let (result, train) = (&self.result, &self.experiment.manifest.train);
        format!(
            "| `{}` | {} | {:.decimals$} ± {:.decimals$} {unit} | {:.decimals$} | {} | {} | {} | {} | {} × \
             {} | {} | {} |\n",
            markdown(&result.name),
            markdown(&result.learner),
            factor * result.mean,
            factor * result.ci95,
            factor * mean(&self.baseline),
            self.standard_errors_above()
                .map_or("–".to_owned(), |errors| format!("{errors:.0}")),
            untrained(result, factor, decimals),
            markdown(&published(result, train)),
            result.episodes,
            result.iterations,
            train.meta_batch,
            duration_text(result.train_seconds),
            self.commit(),
        )
    }

    /// What a reader has to know of its protocol, and its scores by adaptation step.
    pub fn protocol(&self) -> String {
        let (factor, unit, decimals) = self.unit();
        let result = &self.result;
        let recorded = |key: &str| text(&self.record[key]);
        let protocol = |key: &str| text(&self.record["protocol"][key]);
        let transductive = match self.record["protocol"]["transductive"].as_bool() {
            Some(true) => " (transductive)",
            _ => "",
        };
        let mut out = format!(
            "- `{}`: {} with {} on {}, {} threads of {} ({}), {}; trained on {}; tested on {}; \
             normalisation `{}`{transductive}; rotations `{}`; split `{}`; steps at test {}; parameters by \
             validation {}; seed {}; test episodes `{}`; baseline: {}.\n",
            markdown(&result.name),
            markdown(&result.learner),
            markdown(&result.encoder),
            markdown(&result.source),
            recorded("threads"),
            processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            recorded("backend"),
            recorded("dtype"),
            protocol("train"),
            protocol("test"),
            protocol("normalisation"),
            protocol("rotations"),
            protocol("data_split"),
            protocol("test_steps"),
            protocol("checkpoint_choice"),
            result.seed,
            markdown(&short(&result.episode_set)),
            baseline::name(result.metric, result.way),
        );
        for step in &result.by_step {
            if step.step <= 1 || step.step + 1 == result.by_step.len() {
                out.push_str(&format!(
                    "  - after {} steps: {:.decimals$} ± {:.decimals$} {unit}\n",
                    step.step,
                    factor * step.mean,
                    factor * step.ci95,
                ));
            }
        }
        if let Some(instances) = result.instances() {
            out.push_str(&format!("  - by instance, in %: {instances}\n"));
        }
        out
    }
}

/// The experiment of a finished run, on the data it had.
fn recorded<T: Toolkit>(
    folder: &Path,
    record: &Value,
    data: Option<&Path>,
) -> Result<Experiment<T>> {
    let manifest = Manifest::resolve(&folder.join(MANIFEST), &[], &Catalogue::of::<T>())?;
    let own = record["data"]["folder"].as_str().map(PathBuf::from);
    let data = data.map(Path::to_owned).or(own);
    Experiment::<T>::prepare(manifest, data.as_deref())
}
