//! Draws the scores of many runs over a setting (`meta plot --x KEY`).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use meta_core::{Error, train::eval::Metric};
use plotters::prelude::*;
use serde_json::Value;

use super::store::{self, Stored};
use crate::{
    failure::{CommandError, Result},
    output::{
        chart::{
            axes, chart, draw_charts, draw_legend, error_bar, far_corner, legend_line, score_axis,
            write_picture,
        },
        drawing::{Area, Drawn, LINES},
    },
    run::folder::METRICS,
};

/// Share of the training, counted from its end, whose meta-batches give the score on training tasks.
const LAST: f64 = 0.1;

/// Scores of a run at its place on the horizontal axis.
struct Scores {
    x: f64,
    /// Test score, and half of its interval's width.
    test: (f64, f64),
    /// Mean score of the last meta-batches, on their queries; none where no metrics are kept.
    train: Option<f64>,
}

/// Draws the finished runs in `folder` for which `conditions` hold over the numeric setting `key`.
///
/// # Errors
/// When there are no such runs, they measure different things, or a file cannot be read or written.
pub fn plot_setting(
    folder: &Path,
    key: &str,
    logarithmic: bool,
    conditions: &[String],
    out: &Path,
) -> Result<()> {
    let (runs, _) = store::read(&[PathBuf::from(folder)])?;
    let runs = store::filter(runs, conditions)?;
    let mut metrics = Vec::new();
    let mut all = Vec::new();
    for run in &runs {
        let Some(result) = &run.result else {
            continue;
        };
        let x = run.settings.get(key).and_then(Value::as_f64);
        let x = x.ok_or_else(|| {
            CommandError::Usage(format!(
                "{}: `{key}` is {}, not a number to draw over",
                run.name(),
                run.shown(key)
            ))
        })?;
        if logarithmic && x <= 0.0 {
            return Err(CommandError::Usage(format!(
                "{}: `{key} = {x}` cannot be drawn on a logarithmic axis",
                run.name()
            )));
        }
        let (factor, _) = score_axis(result.metric);
        metrics.push(result.metric);
        all.push(Scores {
            x: if logarithmic { x.log2() } else { x },
            test: (factor * result.mean, factor * result.ci95),
            train: train_score(run)?.map(|score| factor * score),
        });
    }
    let metric = match metrics.as_slice() {
        [] => {
            return Err(CommandError::Usage(format!(
                "no finished run in {} to draw",
                folder.display()
            )));
        }
        [first, others @ ..] if others.iter().all(|other| other == first) => *first,
        _ => {
            return Err(CommandError::Usage(
                "accuracies and squared errors cannot be drawn in one picture".to_owned(),
            ));
        }
    };
    let curve = Curve {
        title: title(&runs),
        key: key.to_owned(),
        logarithmic,
        metric,
        all,
    };
    let drawing = draw_charts((720.0, 440.0), &curve.title, &[], |area| curve.draw(area))?;
    write_picture(out, &drawing)
}

/// Name, learner, encoder and source, each where all runs share it.
pub fn title(runs: &[Stored]) -> String {
    let shared = |key: &str| {
        let first = runs.first()?.shown(key);
        runs.iter()
            .all(|run| run.shown(key) == first)
            .then_some(first)
    };
    let parts = ["learner.name", "encoder.name", "data.source"].map(shared);
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let name = shared("name").map_or_else(String::new, |name| format!("{name}: "));
    format!("{name}{}", parts.join(", "))
}

/// Mean score of the last meta-batches of a run.
fn train_score(run: &Stored) -> Result<Option<f64>> {
    let path = run.folder.join(METRICS);
    let text = fs::read_to_string(&path).map_err(|error| Error::io(&path, "read", error))?;
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["kind"] == "train");
    let scores: Vec<(f64, f64)> = lines
        .filter_map(|line| Some((line["iteration"].as_f64()?, line["score"]["mean"].as_f64()?)))
        .collect();
    let Some((last, _)) = scores.last() else {
        return Ok(None);
    };
    let first = last * (1.0 - LAST);
    let late = scores.iter().filter(|(iteration, _)| *iteration >= first);
    let late: Vec<f64> = late.map(|(_, score)| *score).collect();
    Ok(Some(late.iter().sum::<f64>() / late.len() as f64))
}

struct Curve {
    title: String,
    key: String,
    logarithmic: bool,
    metric: Metric,
    all: Vec<Scores>,
}

impl Curve {
    /// Mean of a score over the runs at each place, from left to right.
    fn means(&self, of: impl Fn(&Scores) -> Option<f64>) -> Vec<(f64, f64)> {
        let mut places: BTreeMap<u64, (f64, Vec<f64>)> = BTreeMap::new();
        for scores in &self.all {
            if let Some(score) = of(scores) {
                // Bits of positive numbers rise with them; signs do not matter to a key.
                let place = places.entry(scores.x.to_bits()).or_default();
                place.0 = scores.x;
                place.1.push(score);
            }
        }
        let mean =
            |(x, scores): (f64, Vec<f64>)| (x, scores.iter().sum::<f64>() / scores.len() as f64);
        let mut means: Vec<(f64, f64)> = places.into_values().map(mean).collect();
        means.sort_by(|left, right| left.0.total_cmp(&right.0));
        means
    }

    fn draw(&self, area: &Area) -> Drawn {
        let (test, train) = (
            self.means(|scores| Some(scores.test.0)),
            self.means(|scores| scores.train),
        );
        let (left, right) = (test[0].0, test[test.len() - 1].0);
        let air = ((right - left) * 0.03).max(0.1);
        let values = self.all.iter().flat_map(|scores| {
            let (mean, half_width) = scores.test;
            [
                Some(mean - half_width),
                Some(mean + half_width),
                scores.train,
            ]
        });
        let (low, high) = values
            .flatten()
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let (low, high) = match self.metric {
            Metric::Accuracy => (0.0, 100.0),
            Metric::MeanSquaredError | Metric::Return => {
                (0.0f64.min(low), high + 0.05 * (high - low).max(1e-3))
            }
        };
        let mut chart = chart(area).build_cartesian_2d(left - air..right + air, low..high)?;
        let label = |x: &f64| match (self.logarithmic, x.fract().abs() < 1e-9) {
            (true, true) if (0.0..40.0).contains(x) => thousands(1u64 << (*x as u64)),
            (true, true) => format!("2^{x:.0}"),
            (true, false) => String::new(),
            (false, _) => format!("{x}"),
        };
        let labels = if self.logarithmic {
            (right - left).round() as usize + 1
        } else {
            10
        };
        let key = if self.logarithmic {
            format!("{} (logarithmic)", self.key)
        } else {
            self.key.clone()
        };
        axes(&mut chart, &key, score_axis(self.metric).1)
            .x_labels(labels)
            .x_label_formatter(&label)
            .draw()?;
        let (unseen, known) = (LINES[0], LINES[3]);
        if !train.is_empty() {
            chart
                .draw_series(DashedLineSeries::new(
                    train.iter().copied(),
                    6,
                    4,
                    known.stroke_width(2),
                ))?
                .label("training tasks, new items (end of training)")
                .legend(legend_line(known.stroke_width(2)));
            let points = self.all.iter().filter_map(|scores| {
                let train = scores.train?;
                Some(TriangleMarker::new((scores.x, train), 5, known.filled()))
            });
            chart.draw_series(points)?;
        }
        chart
            .draw_series(LineSeries::new(test, unseen.stroke_width(2)))?
            .label("unseen tasks (test), 95 % interval")
            .legend(legend_line(unseen.stroke_width(2)));
        chart.draw_series(self.all.iter().map(|scores| {
            let (mean, half_width) = scores.test;
            let (low, high) = (mean - half_width, mean + half_width);
            error_bar(scores.x, (low, mean, high), unseen)
        }))?;
        draw_legend(&mut chart, far_corner(self.metric))
    }
}

/// `16384` as `16 384`.
fn thousands(number: u64) -> String {
    match number {
        0..=9999 => number.to_string(),
        _ => format!("{} {:03}", thousands(number / 1000), number % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs at one place are averaged; places are in order.
    #[test]
    fn means_are_by_place() {
        let scores = |x: f64, mean: f64| Scores {
            x,
            test: (mean, 1.0),
            train: None,
        };
        let curve = Curve {
            title: String::new(),
            key: "train.lr".to_owned(),
            logarithmic: false,
            metric: Metric::Accuracy,
            all: vec![scores(2.0, 50.0), scores(-1.0, 20.0), scores(2.0, 70.0)],
        };
        let means = curve.means(|scores| Some(scores.test.0));
        assert_eq!(means, [(-1.0, 20.0), (2.0, 60.0)]);
        assert!(curve.means(|scores| scores.train).is_empty());
        let drawing = draw_charts((720.0, 440.0), "runs", &[], |area| curve.draw(area));
        let svg = drawing.expect("drawn").to_svg();
        assert!(svg.contains(r#"aria-label="train.lr""#));
        assert_eq!(thousands(16384), "16 384");
    }
}
