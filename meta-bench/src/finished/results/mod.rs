//! Writes `docs/results.md`: finished runs as a table, measured beside published.

mod against;
mod published;

use std::path::{Path, PathBuf};

use meta_core::{
    stats::{Interval, mean, paired_t, standard_deviation},
    toolkit::{Catalogue, Toolkit},
    train::eval::{LogLikelihoods, Metric},
};
use serde_json::Value;

use super::baseline;
use against::Against;
use published::published;

use crate::{
    experiment::Experiment,
    failure::{CommandError, Result},
    machine::processor,
    manifest::Manifest,
    output::{
        table::{Format, escaped},
        units::duration_text,
    },
    run::{
        folder::{MANIFEST, RECORD, SCORES, read_json},
        result::{Nats, TestResult, read_result},
    },
};

/// The page for the finished runs in `folders`, in their order. Data sets are in `data`, or where they
/// were recorded.
///
/// # Errors
/// When one of them is not a finished run, or its data is not there.
pub fn results<T: Toolkit>(folders: &[PathBuf], data: Option<&Path>) -> Result<String> {
    let mut protocols = String::new();
    let mut densities = Densities::default();
    let mut tests: Vec<Against> = Vec::new();
    let mut rows = Vec::new();
    for folder in folders {
        let run = FinishedRun::<T>::read(folder, data)?;
        densities.add(&run);
        let known = tests.iter().position(|test| test.is_of(&run));
        match known {
            Some(test) => tests[test].add(&run),
            None => tests.push(Against::new(&run)),
        }
        rows.push((known.unwrap_or(tests.len() - 1), run.row()));
        protocols.push_str(&run.protocol());
    }
    // Runs that share their test with baselines have a table of their own for each test.
    let apart = rows
        .iter()
        .filter(|(test, _)| !tests[*test].has_baselines());
    let mut table: String = apart.map(|(_, row)| row.as_str()).collect();
    let mut against: String = tests.iter().filter_map(Against::section).collect();
    if !against.is_empty() {
        against = format!(
            "Differences are paired by episode, in percentage points. *Better* and *worse*: p < 0.05 by Student's \
             paired t-test, corrected by Holm for the rows of a table.\n\n{against}"
        );
    }
    if !table.is_empty() {
        table = format!(
            "The baseline is the score of a rule that learns nothing across tasks, on the \
             same episodes; beside it, by how many standard errors of the paired difference the learner \
             is better.\n\n\
             | manifest | learner | test score | baseline | standard errors above | published | episodes | \
             iterations × tasks | training | commit |\n|---|---|---|---|---|---|---|---|---|---|\n{table}\n"
        );
    }
    Ok(format!(
        "# Results\n\n\
         Written from finished runs of the shipped manifests, by `meta sweep MANIFEST… --results FILE` or \
         `meta docs results RUN_DIR…`. Intervals are 95 %, over test episodes, one seed; they do not include the \
         variation over training seeds.\n\n{table}{against}\
         {}## Protocol\n\n{protocols}\n\
         The published figures are of other protocols: see the first lines of each manifest for what \
         differs (iterations, classes, rotations, normalisation).\n",
        densities.section()
    ))
}

/// A finished run, and the baseline on the same episodes.
struct FinishedRun<T: Toolkit> {
    result: TestResult,
    record: Value,
    experiment: Experiment<T>,
    /// Scores by episode.
    scores: Vec<f64>,
    /// Log-likelihoods by episode, where the learner predicts densities.
    log_likelihoods: LogLikelihoods,
    /// Scores of the baseline by episode.
    baseline: Vec<f64>,
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
fn markdown(name: &str) -> String {
    escaped(name, Format::Markdown)
}

impl<T: Toolkit> FinishedRun<T> {
    /// Reads the run in `folder`.
    fn read(folder: &Path, data: Option<&Path>) -> Result<Self> {
        let result = read_result(folder)?;
        let record = read_json(&folder.join(RECORD))?;
        let experiment = recorded::<T>(folder, &record, data)?;
        let baseline = baseline::scores(&experiment.spec, &experiment.test_episodes())?;
        let stored = read_json(&folder.join(SCORES))?;
        let scores: Vec<f64> = stored["scores"]
            .as_array()
            .and_then(|steps| serde_json::from_value(steps.last()?.clone()).ok())
            .unwrap_or_default();
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
        }
    }

    /// By how many standard errors of the paired difference the learner is better than the baseline; none
    /// where all differences are the same.
    fn standard_errors_above(&self) -> Option<f64> {
        let (scores, baseline) = (&self.scores, &self.baseline);
        let better = match self.result.metric {
            Metric::Accuracy => paired_t(scores, baseline),
            Metric::MeanSquaredError => paired_t(baseline, scores),
        };
        let gaps: Vec<f64> = scores.iter().zip(baseline).map(|(s, b)| s - b).collect();
        let standard_error = standard_deviation(&gaps) / (gaps.len() as f64).sqrt();
        let errors = better.difference.mean / standard_error;
        errors.is_finite().then_some(errors)
    }

    /// Its row of the table.
    fn row(&self) -> String {
        let (factor, unit, decimals) = self.unit();
        let (result, train) = (&self.result, &self.experiment.manifest.train);
        format!(
            "| `{}` | {} | {:.decimals$} ± {:.decimals$} {unit} | {:.decimals$} | {} | {} | {} | {} × \
             {} | {} | {} |\n",
            markdown(&result.name),
            markdown(&result.learner),
            factor * result.mean,
            factor * result.ci95,
            factor * mean(&self.baseline),
            self.standard_errors_above()
                .map_or("–".to_owned(), |errors| format!("{errors:.0}")),
            published(result, train),
            result.episodes,
            result.iterations,
            train.meta_batch,
            duration_text(result.train_seconds),
            text(&self.record["commit"])
                .chars()
                .take(10)
                .collect::<String>(),
        )
    }

    /// What a reader has to know of its protocol, and its scores by adaptation step.
    fn protocol(&self) -> String {
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
            markdown(&result.episode_set.chars().take(12).collect::<String>()),
            baseline::name(result.metric == Metric::MeanSquaredError),
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
        out
    }
}

/// Log-likelihoods of the learners that predict densities.
#[derive(Default)]
struct Densities {
    rows: String,
    /// The first run on each set of episodes: the set, its learner and its log-likelihoods.
    first: Vec<(String, String, Vec<f64>)>,
}

impl Densities {
    fn add<T: Toolkit>(&mut self, run: &FinishedRun<T>) {
        let result = &run.result;
        let Some(density) = result.log_likelihood else {
            return;
        };
        let own = &run.log_likelihoods.learner;
        let known = self
            .first
            .iter()
            .find(|(set, ..)| *set == result.episode_set);
        let better = match known {
            Some((_, name, others)) if others.len() == own.len() => {
                let Interval {
                    mean, half_width, ..
                } = paired_t(own, others).difference;
                format!("{mean:+.4} ± {half_width:.4} ({})", markdown(name))
            }
            _ => "–".to_owned(),
        };
        if known.is_none() {
            self.first.push((
                result.episode_set.clone(),
                result.learner.clone(),
                own.clone(),
            ));
        }
        let data = match run.experiment.source.describe()["settings"]["kernel"].as_str() {
            Some(kernel) => markdown(&format!("{}, {kernel}", result.source)),
            None => markdown(&result.source),
        };
        let shown = |nats: Option<Nats>| nats.map_or("–".to_owned(), |nats| nats.to_string());
        self.rows.push_str(&format!(
            "| `{}` | {} | {data}, {}-shot | {} | {} | {} | {better} |\n",
            markdown(&result.name),
            markdown(&result.learner),
            result.shot,
            density.learner,
            shown(density.exact),
            shown(density.below_exact),
        ));
    }

    /// The section, nothing where no learner predicts a density.
    fn section(&self) -> String {
        if self.rows.is_empty() {
            String::new()
        } else {
            format!(
                "## Log-likelihood\n\n\
             Mean log-density of the query targets given the support, in nats. The exact posterior \
             is the ceiling: the density by the distribution that the source draws its tasks from. \
             Differences are paired by test episode.\n\n\
             | manifest | learner | data | log-likelihood | exact posterior | below it | against the first \
             run on the same episodes |\n|---|---|---|---|---|---|---|\n{}\n",
                self.rows
            )
        }
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
