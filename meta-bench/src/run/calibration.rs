//! What validation episodes say of a run's probabilities, kept in its folder: temperature, thresholds of
//! rejection, and conformal quantiles.

use std::path::Path;

use meta_core::{Error, calibration::Pooled, files::read_text, train::eval::Metric};
use serde::{Deserialize, Serialize};

/// The largest file.
const MOST_BYTES: u64 = 1 << 20;

/// The calibration of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Hash of the file of the parameters that it belongs to.
    pub parameters: String,
    /// Validation episodes that it was measured on.
    pub episodes: usize,
    /// Their queries.
    pub queries: usize,
    /// Shape of the episodes, in words.
    pub shape: String,
    /// Share of wrong answers that conformal sets and intervals allow, `α`.
    pub alpha: f64,
    /// Of learners whose queries see each other: scores of both modes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modes: Option<Modes>,
    /// What is measured of classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<OfClasses>,
    /// What is measured of regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<OfValues>,
    /// What it comes to on test episodes, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_test: Option<OnTest>,
}

/// What a calibration comes to on test episodes, which it has not seen; intervals are over episodes, that of the
/// coverage over the classes, or tasks, of both splits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnTest {
    /// Episodes.
    pub episodes: usize,
    /// Share of queries whose conformal set or interval holds the right answer; `1 − α` is asked for. Of sets,
    /// the mean of the classes' shares.
    pub coverage: Pooled,
    /// Classes in a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_size: Option<Pooled>,
    /// Share of queries that are not rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Pooled>,
    /// Expected calibration error without the temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_before: Option<Pooled>,
    /// And with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_after: Option<Pooled>,
}

/// Mean scores of the validation episodes in the two modes of a learner whose queries see each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Modes {
    /// Accuracy, or mean squared error.
    pub metric: Metric,
    /// Each query by itself, as `meta predict` answers.
    pub one_by_one: f64,
    /// The queries of a task together, as they were tested.
    pub together: f64,
}

impl Modes {
    /// What there is to say, and whether answers one by one are worse.
    pub fn text(&self) -> (String, bool) {
        let (shown, is_worse): (fn(f64) -> String, bool) = match self.metric {
            Metric::Accuracy => (
                |share| format!("{:.2} %", 100.0 * share),
                self.one_by_one < self.together,
            ),
            Metric::MeanSquaredError => (
                |error| format!("{error:.4} MSE"),
                self.one_by_one > self.together,
            ),
            Metric::Return => (
                |score| format!("{score:.2}"),
                self.one_by_one < self.together,
            ),
        };
        let text = format!(
            "{} one by one, {} with the queries of a task together, as it was tested",
            shown(self.one_by_one),
            shown(self.together)
        );
        (text, is_worse)
    }
}

/// The calibration of class scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfClasses {
    /// Class scores are divided by it.
    pub temperature: f64,
    /// The highest class score that an item of a known class has or exceeds in `accepted` of the cases.
    pub threshold: f64,
    /// Share of items of known classes that are accepted.
    pub accepted: f64,
    /// Largest `1 − p` of a class in the conformal set.
    pub quantile: f64,
    /// Expected calibration error on the validation episodes before and after.
    pub error_before: f64,
    /// And after.
    pub error_after: f64,
}

/// The calibration of values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfValues {
    /// Root of the mean squared error: the standard deviation of learners that predict none.
    pub deviation: f64,
    /// Largest `|y − m| / σ` of the conformal interval.
    pub quantile: f64,
}

impl Calibration {
    /// The calibration kept at `path`; none where there is no file, or it belongs to other parameters.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn read(path: &Path, parameters: &str) -> meta_core::Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = read_text(path, MOST_BYTES)?;
        let found: Calibration = serde_json::from_str(&text)
            .map_err(|error| Error::data(path, format!("is no calibration: {error}")))?;
        Ok((found.parameters == parameters).then_some(found))
    }
}
