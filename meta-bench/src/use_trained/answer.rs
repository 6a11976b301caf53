//! Answers in words: labels with probabilities, values with intervals, from a learner's predictions.

use meta_core::{
    calibration::softmax,
    data::{Lexicon, Task},
    train::{
        answer::{LEVELS, Predictions},
        eval::highest,
    },
};
use rayon::prelude::*;
use serde::Serialize;

use crate::run::calibration::Calibration;

/// Quantiles of a value: the names of [`LEVELS`], and how many deviations they are from the mean of a normal.
const QUANTILES: [(&str, f64); 5] = [
    ("0.05", -1.6448536269514722),
    ("0.25", -0.6744897501960817),
    ("0.5", 0.0),
    ("0.75", 0.6744897501960817),
    ("0.95", 1.6448536269514722),
];

/// A class and how probable it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranked {
    /// Its name.
    pub label: String,
    /// Its probability.
    pub probability: f64,
}

/// A value of a regression.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Value {
    /// Mean.
    pub mean: f64,
    /// Standard deviation, where it is known: by the learner, or from `meta calibrate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    /// Quantiles by level: of the learner's distribution, else of the normal with that mean and deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantiles: Option<std::collections::BTreeMap<&'static str, f64>>,
    /// The conformal interval, after `meta calibrate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
}

/// The answer for one item.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Answer {
    /// The item's name.
    pub item: String,
    /// The most probable class, or what a sentence stands for; none of an item that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// The next ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Ranked>,
    /// The highest class score: the lower, the less an item is like any class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Whether the score is below the threshold of `meta calibrate`: none of these classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<bool>,
    /// The classes of the conformal set, after `meta calibrate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<Vec<String>>,
    /// The values of a regression.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Value>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How predictions become answers.
#[derive(Clone, Debug)]
pub struct Wording<'a> {
    /// Classification or regression.
    pub task: Task,
    /// Names of the classes, in the order of their labels.
    pub classes: &'a [String],
    /// Classes that an answer names.
    pub top: usize,
    /// What is known of the probabilities.
    pub calibration: Option<&'a Calibration>,
    /// What words and symbols are called, of a run on sentences.
    pub lexicon: Option<&'a Lexicon>,
}

impl Wording<'_> {
    /// The temperature that probabilities have.
    pub fn temperature(&self) -> f64 {
        let classes = self.calibration.and_then(|known| known.classes);
        classes.map_or(1.0, |known| known.temperature)
    }

    /// The answers for items of these names.
    pub fn answers(&self, names: Vec<String>, predictions: &Predictions) -> Vec<Answer> {
        let rows: Vec<&[f64]> = predictions.rows().collect();
        let rows = names.into_par_iter().zip(rows).enumerate();
        rows.map(|(row, (item, scores))| match self.task {
            // Policies are refused before: they answer for no items.
            Task::Classification | Task::Acting { .. } => self.class(item, scores),
            Task::Regression { outputs } => {
                let deviations = predictions.deviations.as_ref();
                let own = deviations.map(|all| &all[row * outputs..(row + 1) * outputs]);
                let width = outputs * LEVELS.len();
                let quantiles = predictions.quantiles.as_ref();
                let quantiles = quantiles.map(|all| &all[row * width..(row + 1) * width]);
                self.value(item, scores, own, quantiles)
            }
            Task::Sequences { symbols, .. } => self.sequence(item, scores, symbols + 1),
        })
        .collect()
    }

    fn class(&self, item: String, scores: &[f64]) -> Answer {
        // A head may have outputs for classes that the support does not have.
        let scores = &scores[..scores.len().min(self.classes.len())];
        let probabilities = softmax(scores, self.temperature());
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // Stable: of equal scores, the first class.
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let ranked = |&class: &usize| Ranked {
            label: self.classes[class].clone(),
            probability: probabilities[class],
        };
        let Some(first) = order.first() else {
            return Answer::default();
        };
        let score = scores[*first];
        let best = ranked(first);
        let known = self.calibration.and_then(|known| known.classes);
        let set = known.map(|known| {
            let inside = order
                .iter()
                .filter(|&&class| 1.0 - probabilities[class] <= known.quantile);
            inside.map(|&class| self.classes[class].clone()).collect()
        });
        Answer {
            item,
            others: order
                .iter()
                .skip(1)
                .take(self.top - 1)
                .map(ranked)
                .collect(),
            label: Some(best.label),
            probability: Some(best.probability),
            score: Some(score),
            rejected: known.map(|known| score < known.threshold),
            set,
            ..Answer::default()
        }
    }

    /// The sequence of the highest scores, `n` at each place, the last of them that of the end.
    fn sequence(&self, item: String, scores: &[f64], n: usize) -> Answer {
        let said = scores.chunks(n).filter_map(highest);
        let said = said.take_while(|&symbol| symbol + 1 < n);
        let said: Vec<u32> = said.map(|symbol| symbol as u32).collect();
        let named = |lexicon: &Lexicon| lexicon.said(&said);
        let numbers = || {
            said.iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        Answer {
            item,
            label: Some(self.lexicon.map_or_else(numbers, named)),
            ..Answer::default()
        }
    }

    fn value(
        &self,
        item: String,
        means: &[f64],
        deviations: Option<&[f64]>,
        quantiles: Option<&[f64]>,
    ) -> Answer {
        let known = self.calibration.and_then(|known| known.values);
        let value = |(place, &mean): (usize, &f64)| {
            let own = deviations.map(|own| own[place]);
            let deviation = own.or(known.map(|known| known.deviation));
            let unit = own.unwrap_or(1.0);
            Value {
                mean,
                deviation,
                quantiles: match quantiles {
                    Some(all) => {
                        let own = all[place * LEVELS.len()..].iter().copied();
                        let names = QUANTILES.into_iter().map(|(level, _)| level);
                        Some(names.zip(own).collect())
                    }
                    None => deviation.map(|deviation| {
                        let at = |(level, distance)| (level, mean + distance * deviation);
                        QUANTILES.into_iter().map(at).collect()
                    }),
                },
                interval: known.map(|known| {
                    let half = known.quantile * unit;
                    (mean - half, mean + half)
                }),
            }
        };
        Answer {
            item,
            values: means.iter().enumerate().map(value).collect(),
            ..Answer::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::calibration::{OfClasses, OfValues};

    fn calibration() -> Calibration {
        Calibration {
            parameters: String::new(),
            episodes: 1,
            queries: 1,
            shape: String::new(),
            alpha: 0.1,
            modes: None,
            classes: Some(OfClasses {
                temperature: 2.0,
                threshold: 1.0,
                accepted: 0.95,
                quantile: 0.7,
                error_before: 0.0,
                error_after: 0.0,
            }),
            values: Some(OfValues {
                deviation: 3.0,
                quantile: 2.0,
            }),
            on_test: None,
        }
    }

    fn predictions(values: &[f64], outputs: usize) -> Predictions {
        Predictions {
            values: values.to_vec(),
            deviations: None,
            quantiles: None,
            outputs,
        }
    }

    #[test]
    fn classes_are_ranked_with_their_probabilities() {
        let classes = ["a", "b", "c"].map(str::to_owned);
        let plain = Wording {
            lexicon: None,
            task: Task::Classification,
            classes: &classes,
            top: 2,
            calibration: None,
        };
        // One output more than there are classes.
        let scores = predictions(&[0.0, 9f64.ln(), 0.0, 50.0], 4);
        let found = &plain.answers(vec!["x".to_owned()], &scores)[0];
        assert_eq!(found.label.as_deref(), Some("b"));
        assert!((found.probability.expect("a probability") - 9.0 / 11.0).abs() < 1e-12);
        assert_eq!(found.others.len(), 1);
        assert_eq!(found.others[0].label, "a");
        assert_eq!((found.rejected, &found.set), (None, &None));
        let calibration = calibration();
        let calibrated = Wording {
            lexicon: None,
            calibration: Some(&calibration),
            ..plain
        };
        let found = &calibrated.answers(vec!["x".to_owned()], &scores)[0];
        // softmax(0, ln 3, 0)
        assert!((found.probability.expect("a probability") - 0.6).abs() < 1e-12);
        assert_eq!(found.rejected, Some(false));
        assert_eq!(found.set.as_deref(), Some(&["b".to_owned()][..]));
    }

    #[test]
    fn values_have_deviations_quantiles_and_intervals_where_known() {
        let mut wording = Wording {
            lexicon: None,
            task: Task::Regression { outputs: 1 },
            classes: &[],
            top: 1,
            calibration: None,
        };
        let mut means = predictions(&[1.0], 1);
        let answer = |wording: &Wording<'_>, means: &Predictions| {
            wording
                .answers(vec!["0".to_owned()], means)
                .remove(0)
                .values
                .remove(0)
        };
        let plain = answer(&wording, &means);
        assert_eq!((plain.deviation, plain.interval), (None, None));
        let calibration = calibration();
        wording.calibration = Some(&calibration);
        let known = answer(&wording, &means);
        assert_eq!(
            (known.deviation, known.interval),
            (Some(3.0), Some((-1.0, 3.0)))
        );
        means.deviations = Some(vec![0.5]);
        let own = answer(&wording, &means);
        assert_eq!((own.deviation, own.interval), (Some(0.5), Some((0.0, 2.0))));
        let quantiles = own.quantiles.expect("of a normal");
        assert_eq!(quantiles["0.5"], 1.0);
        assert!((quantiles["0.95"] - 1.8224268).abs() < 1e-7);
    }
}
