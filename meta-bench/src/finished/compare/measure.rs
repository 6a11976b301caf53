//! What is compared: a score, a log-likelihood, or a number of the result.

use meta_core::{Error, train::eval::Metric};

use crate::{
    failure::{CommandError, Result},
    run::result::TestResult,
};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The score of the test, after all adaptation steps or so many.
    Score(Option<usize>),
    /// The log-likelihood of the queries, of learners that predict densities.
    LogLikelihood,
    /// Area under the curve of true over false positives, of tasks of two classes.
    Auroc,
    /// A number of the result.
    Field(&'static str),
}

const FIELDS: [&str; 5] = [
    "loss",
    "validation",
    "train_seconds",
    "iterations",
    "parameters",
];

impl Measure {
    /// The measure that `--metric` names.
    ///
    /// # Errors
    /// For a name that does not exist, with the nearest one.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "score" {
            return Ok(Measure::Score(None));
        }
        if text == "log_likelihood" {
            return Ok(Measure::LogLikelihood);
        }
        if text == "auroc" {
            return Ok(Measure::Auroc);
        }
        if let Some(step) = text.strip_prefix("score@") {
            let step = step.parse().map_err(|_| {
                CommandError::Usage(format!(
                    "`--metric {text}`: expected score@N, N adaptation steps"
                ))
            })?;
            return Ok(Measure::Score(Some(step)));
        }
        let field = FIELDS.into_iter().find(|field| *field == text);
        let known = ["score", "score@N", "log_likelihood", "auroc"]
            .into_iter()
            .chain(FIELDS);
        Ok(Measure::Field(
            field.ok_or_else(|| Error::unknown("metric", text, known))?,
        ))
    }

    /// The value of a run.
    pub fn of(self, result: &TestResult) -> Option<f64> {
        let value = match self {
            Measure::Score(None) => result.mean,
            Measure::Score(Some(step)) => {
                result.by_step.iter().find(|score| score.step == step)?.mean
            }
            Measure::LogLikelihood => result.log_likelihood?.learner.mean,
            Measure::Auroc => result.probabilities.as_ref()?.auroc?.mean,
            Measure::Field("loss") => result.loss,
            Measure::Field("validation") => result.best_value?,
            Measure::Field("train_seconds") => result.train_seconds,
            Measure::Field("iterations") => result.iterations as f64,
            Measure::Field(_) => result.parameters as f64,
        };
        Some(value)
    }

    /// Its name in tables, where scores are by `metric`.
    pub fn name(self, metric: Metric) -> String {
        match self {
            Measure::Score(None) => metric.name().to_owned(),
            Measure::Score(Some(step)) => format!("{}@{step}", metric.name()),
            Measure::LogLikelihood => "log_likelihood".to_owned(),
            Measure::Auroc => "auroc".to_owned(),
            Measure::Field(field) => field.to_owned(),
        }
    }

    /// Whether larger is better.
    pub fn rises(self, metric: Metric) -> bool {
        match self {
            Measure::Score(_) => metric.higher_is_better(),
            Measure::LogLikelihood | Measure::Auroc => true,
            Measure::Field("validation") => metric.higher_is_better(),
            Measure::Field(_) => false,
        }
    }

    /// Whether it is known of every episode.
    pub fn by_episode(self) -> bool {
        !matches!(self, Measure::Field(_))
    }

    /// For people: factor, decimals, unit.
    pub fn unit(self, metric: Metric) -> (f64, usize, &'static str) {
        match (self, metric) {
            (Measure::Score(_), Metric::Accuracy) => (100.0, 2, " %"),
            (Measure::Score(_), Metric::Return) => (1.0, 2, ""),
            (Measure::LogLikelihood, _) => (1.0, 4, " nats"),
            (Measure::Field("train_seconds"), _) => (1.0, 1, " s"),
            (Measure::Field("iterations" | "parameters"), _) => (1.0, 0, ""),
            _ => (1.0, 4, ""),
        }
    }
}
