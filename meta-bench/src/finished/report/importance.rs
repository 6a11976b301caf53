//! Says how much of the variation of a score each setting of many runs accounts for.
//!
//! A setting sorts the runs into levels: its values, or quarters of the runs in the order of a number with
//! many values. Of the variance of the scores the share between levels is `η² = SS_between / SS_total`; that of
//! levels drawn by chance is above zero, too, which `ω² = (SS_between − (k − 1) MS_within) / (SS_total +
//! MS_within)` corrects (Hays, 1963), `k` levels. It is an effect of the setting alone, without interactions,
//! and one of the runs that there are: what a sweep chose by results is no balanced design.

use serde_json::Value;

use crate::{finished::store::Stored, manifest::Manifest};

/// Numbers with more values than this are sorted into quarters.
const MOST_LEVELS: usize = 6;

/// A setting and what it accounts for.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// The setting.
    pub key: String,
    /// Settings that sort the runs into the same levels: what they account for cannot be told apart.
    pub with: Vec<String>,
    /// Share of the variance, `ω²`, from 0 to 1.
    pub share: f64,
    /// The level of each run.
    pub levels: Vec<usize>,
    /// What the levels are called.
    pub names: Vec<String>,
}

/// The settings that differ between `runs`, with `scores` one a run; the most important first.
pub fn importance(runs: &[&Stored], scores: &[f64]) -> Vec<Importance> {
    let mut keys: Vec<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    keys.sort();
    keys.dedup();
    let of_key = |key: &String| {
        // What only some learners have comes with the choice of the learner.
        let all_have = runs
            .iter()
            .all(|run| run.settings.contains_key(key.as_str()));
        if !(all_have && Manifest::is_identity(key) && differs(runs, key)) {
            return None;
        }
        let (levels, names) = levels(runs, key);
        let share = omega_squared(scores, &levels, names.len())?;
        Some(Importance {
            key: key.clone(),
            with: Vec::new(),
            share,
            levels,
            names,
        })
    };
    let mut found: Vec<Importance> = Vec::new();
    // A choice stands for the settings that it brings.
    keys.sort_by_key(|key| !(key.ends_with(".name") || *key == "data.source"));
    for one in keys.into_iter().filter_map(of_key) {
        let parts = partition(&one.levels);
        match found
            .iter_mut()
            .find(|other| partition(&other.levels) == parts)
        {
            Some(other) => other.with.push(one.key),
            None => found.push(one),
        }
    }
    found.sort_by(|a, b| b.share.total_cmp(&a.share));
    found
}

/// Levels numbered in the order in which they are met.
fn partition(levels: &[usize]) -> Vec<usize> {
    let mut met: Vec<usize> = Vec::new();
    let number = |level: &usize| {
        met.iter()
            .position(|other| other == level)
            .unwrap_or_else(|| {
                met.push(*level);
                met.len() - 1
            })
    };
    levels.iter().map(number).collect()
}

fn differs(runs: &[&Stored], key: &str) -> bool {
    let first = runs.first().and_then(|run| run.settings.get(key));
    runs.iter().any(|run| run.settings.get(key) != first)
}

/// The level of each run, and what the levels are called.
fn levels(runs: &[&Stored], key: &str) -> (Vec<usize>, Vec<String>) {
    let numbers: Option<Vec<f64>> = runs
        .iter()
        .map(|run| run.settings.get(key).and_then(Value::as_f64))
        .collect();
    let mut names: Vec<String> = Vec::new();
    if let Some(numbers) = numbers {
        let mut values = numbers.clone();
        values.sort_by(f64::total_cmp);
        values.dedup();
        if values.len() > MOST_LEVELS {
            let mut order: Vec<usize> = (0..numbers.len()).collect();
            order.sort_by(|&a, &b| numbers[a].total_cmp(&numbers[b]));
            let mut levels = vec![0; numbers.len()];
            for (place, &run) in order.iter().enumerate() {
                levels[run] = 4 * place / numbers.len();
            }
            let names: Vec<String> = (0..4)
                .map(|level| {
                    let of_level = numbers.iter().zip(&levels).filter(|(_, of)| **of == level);
                    let (low, high) = of_level.fold(
                        (f64::INFINITY, f64::NEG_INFINITY),
                        |(low, high), (number, _)| (low.min(*number), high.max(*number)),
                    );
                    format!("{low:.3e} … {high:.3e}")
                })
                .collect();
            return (levels, names);
        }
        names = values.iter().map(f64::to_string).collect();
        let level = |number: &f64| values.iter().position(|value| value == number).unwrap_or(0);
        return (numbers.iter().map(level).collect(), names);
    }
    let levels = runs.iter().map(|run| {
        let shown = run.shown(key);
        names
            .iter()
            .position(|name| *name == shown)
            .unwrap_or_else(|| {
                names.push(shown);
                names.len() - 1
            })
    });
    (levels.collect(), names)
}

/// `ω²`, at least 0; none where a level per run or equal scores leave nothing to compare.
fn omega_squared(scores: &[f64], levels: &[usize], count: usize) -> Option<f64> {
    let runs = scores.len();
    if count < 2 || count >= runs {
        return None;
    }
    let mean = scores.iter().sum::<f64>() / runs as f64;
    let total: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
    let between: f64 = (0..count)
        .map(|level| {
            let of: Vec<f64> = scores
                .iter()
                .zip(levels)
                .filter(|(_, of)| **of == level)
                .map(|(score, _)| *score)
                .collect();
            let own = of.iter().sum::<f64>() / of.len().max(1) as f64;
            of.len() as f64 * (own - mean).powi(2)
        })
        .sum();
    let within = (total - between).max(0.0) / (runs - count) as f64;
    let share = (between - (count - 1) as f64 * within) / (total + within);
    share.is_finite().then_some(share.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_other_names_are_the_same() {
        assert_eq!(partition(&[3, 3, 0, 3, 1]), [0, 0, 1, 0, 2]);
        assert_eq!(partition(&[0, 0, 1]), partition(&[1, 1, 0]));
    }

    /// By hand: levels {1, 2} and {5, 6}: mean 3.5, SS_total 17, SS_between 16, MS_within 1/2, so that
    /// ω² = (16 − 0.5) / 17.5.
    #[test]
    fn the_share_by_hand() {
        let share = omega_squared(&[1.0, 2.0, 5.0, 6.0], &[0, 0, 1, 1], 2).unwrap();
        assert!((share - 15.5 / 17.5).abs() < 1e-15, "{share}");
        // Levels that say nothing: SS_between 1, MS_within 8.
        assert_eq!(
            omega_squared(&[1.0, 5.0, 2.0, 6.0], &[0, 0, 1, 1], 2),
            Some(0.0)
        );
        assert_eq!(omega_squared(&[1.0, 1.0, 1.0], &[0, 0, 1], 2), None);
        assert_eq!(
            omega_squared(&[1.0, 2.0], &[0, 1], 2),
            None,
            "a level per run"
        );
    }
}
