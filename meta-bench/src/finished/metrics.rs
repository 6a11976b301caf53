//! Reads the curves of a run: what `metrics.jsonl` has of its meta-batches and validations.

use std::path::Path;

use meta_core::{Error, files::read_text};
use serde_json::Value;

use crate::{failure::Result, run::folder::METRICS};

/// The largest file of metrics.
const MOST_BYTES: u64 = 1 << 30;

/// What was logged of a meta-batch or a validation.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    /// Iterations done.
    pub iteration: u64,
    /// Mean score.
    pub score: f64,
    /// Half of the 95 % interval's width; infinite where it has none.
    pub half_width: f64,
    /// Its other numbers, by name: the loss, the norm of the gradient, the learning rate.
    pub numbers: Vec<(String, f64)>,
}

/// The curves of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curves {
    /// Meta-batches.
    pub train: Vec<Logged>,
    /// Validations.
    pub validation: Vec<Logged>,
}

impl Curves {
    /// Reads those of the run in `folder`.
    ///
    /// # Errors
    /// When there are none, or a line is none of them. What a kill left of a last line is left out.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(METRICS);
        let text = read_text(&path, MOST_BYTES)?;
        let mut curves = Curves::default();
        let lines = text.split_inclusive('\n');
        for (number, line) in lines.enumerate().filter(|(_, line)| line.ends_with('\n')) {
            let damaged = |what: &str| Error::data(&path, format!("line {}: {what}", number + 1));
            let line: Value = serde_json::from_str(line)
                .map_err(|error| damaged(&format!("not a line of metrics: {error}")))?;
            let logged = logged(&line).ok_or_else(|| damaged("has no iteration"))?;
            match line["kind"].as_str() {
                Some("train") => curves.train.push(logged),
                Some("validation") => curves.validation.push(logged),
                _ => return Err(damaged("expected the kind `train` or `validation`").into()),
            }
        }
        Ok(curves)
    }
}

fn logged(line: &Value) -> Option<Logged> {
    let numbers = line.as_object()?.iter();
    let numbers = numbers.filter(|(name, _)| *name != "iteration");
    Some(Logged {
        iteration: line["iteration"].as_u64()?,
        score: line["score"]["mean"].as_f64().unwrap_or(f64::NAN),
        half_width: line["score"]["half_width"]
            .as_f64()
            .unwrap_or(f64::INFINITY),
        numbers: numbers
            .filter_map(|(name, value)| {
                let value = value
                    .as_f64()
                    .or_else(|| value["mean"].as_f64().filter(|_| name != "score"));
                Some((name.clone(), value?))
            })
            .collect(),
    })
}

/// Means of stretches of a curve, at most `most` of them: single meta-batches are noise.
pub fn smoothed(curve: &[Logged], most: usize) -> Vec<(f64, f64)> {
    let length = curve.len().div_ceil(most.max(1)).max(1);
    let stretches = curve.chunks(length).map(|stretch| {
        let count = stretch.len() as f64;
        let mean = |of: fn(&Logged) -> f64| stretch.iter().map(of).sum::<f64>() / count;
        (
            mean(|logged| logged.iteration as f64),
            mean(|logged| logged.score),
        )
    });
    stretches.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn curves_are_read_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| fs::write(folder.path().join(METRICS), text).unwrap();
        write(
            "{\"kind\":\"train\",\"iteration\":10,\"loss\":1.5,\
             \"score\":{\"mean\":0.25,\"half_width\":0.1},\"lr\":0.5}\n\
             {\"kind\":\"validation\",\"iteration\":10,\"score\":{\"mean\":0.5,\"half_width\":null}}\n\
             {\"kind\":\"tra",
        );
        let curves = Curves::read(folder.path()).unwrap();
        assert_eq!((curves.train.len(), curves.validation.len()), (1, 1));
        let first = &curves.train[0];
        assert_eq!(
            (first.iteration, first.score, first.half_width),
            (10, 0.25, 0.1)
        );
        let mut names: Vec<&str> = first
            .numbers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["loss", "lr"]);
        assert!(curves.validation[0].half_width.is_infinite());
        for text in ["x\n", "{}\n", "{\"kind\":\"x\",\"iteration\":1}\n"] {
            write(text);
            let message = Curves::read(folder.path()).unwrap_err().to_string();
            assert!(
                message.contains("metrics.jsonl") && message.contains("line 1"),
                "{message}"
            );
        }
    }

    #[test]
    fn stretches_are_averaged() {
        let curve: Vec<Logged> = (1..=5)
            .map(|iteration| Logged {
                iteration,
                score: iteration as f64,
                half_width: 0.0,
                numbers: Vec::new(),
            })
            .collect();
        assert_eq!(smoothed(&curve, 2), [(2.0, 2.0), (4.5, 4.5)]);
        assert_eq!(smoothed(&curve, 9).len(), 5);
        assert!(smoothed(&[], 3).is_empty());
    }
}
