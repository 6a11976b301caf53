//! Draws a run: its scores over training, and over adaptation steps at test.

use std::path::Path;

use meta_core::{Error, train::eval::Metric};
use plotters::{
    element::ErrorBarOrientV,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use serde_json::Value;

use crate::{
    failure::{CommandError, Result},
    output::{
        chart::{
            axes, chart, draw_charts, draw_legend, error_bar, far_corner, label_style, legend_line,
            range, score_axis, write_picture,
        },
        drawing::{Area, Colour, Drawing, Drawn, LINES},
    },
    run::{
        folder::{METRICS, RECORD, read_json},
        result::TestResult,
    },
};

const BLUE_LINE: Colour = LINES[0];
const ORANGE_LINE: Colour = LINES[1];
const GREEN_LINE: Colour = LINES[2];

/// A score at a place on the horizontal axis, with half of its interval's width.
#[derive(Clone, Copy)]
struct Point {
    x: f64,
    mean: f64,
    half_width: f64,
}

impl Point {
    fn bar(&self, colour: Colour) -> ErrorBar<f64, f64, ErrorBarOrientV<f64, f64>> {
        let (low, high) = (self.mean - self.half_width, self.mean + self.half_width);
        error_bar(self.x, (low, self.mean, high), colour)
    }
}

/// Draws the run at `folder`, whose result is `result`, into the SVG file `out`.
///
/// # Errors
/// When the metrics cannot be read or the picture cannot be written.
pub fn plot_run(folder: &Path, result: &TestResult, out: &Path) -> Result<()> {
    let path = folder.join(METRICS);
    let text = std::fs::read_to_string(&path).map_err(|error| Error::io(&path, "read", error))?;
    let lines: Vec<Value> = text
        .lines()
        .map(|line| {
            serde_json::from_str(line).map_err(|error| {
                CommandError::Usage(format!(
                    "{}: not a line of metrics: {error}",
                    path.display()
                ))
            })
        })
        .collect::<Result<_>>()?;
    let (factor, name) = score_axis(result.metric);
    let points = |kind: &str| -> Vec<Point> {
        lines
            .iter()
            .filter(|line| line["kind"] == kind)
            .filter_map(|line| {
                Some(Point {
                    x: line["iteration"].as_f64()?,
                    mean: factor * line["score"]["mean"].as_f64()?,
                    half_width: factor * line["score"]["half_width"].as_f64().unwrap_or(0.0),
                })
            })
            .collect()
    };
    let steps: Vec<Point> = result
        .by_step
        .iter()
        .map(|step| Point {
            x: step.step as f64,
            mean: factor * step.mean,
            half_width: factor * step.ci95,
        })
        .collect();
    // A record of an older version may not say it.
    let record = read_json(&folder.join(RECORD)).unwrap_or_default();
    let shape = |key: &str| {
        record["protocol"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let named = |kind: &str, key: &str| match shape("train") == shape("test") {
        true => format!("{kind} tasks"),
        false => format!("{kind} tasks, {}", shape(key)),
    };
    let picture = Picture {
        tasks: (named("training", "train"), named("validation", "test")),
        title: format!(
            "{}: {} with {}, {}",
            result.name, result.learner, result.encoder, result.source
        ),
        metric: result.metric,
        name,
        train: smooth(&points("train")),
        validation: points("validation"),
        steps,
        test: (factor * result.mean, factor * result.ci95),
    };
    write_picture(out, &picture.draw()?)
}

/// Means of about a hundred stretches of the curve: single meta-batches are noise.
fn smooth(points: &[Point]) -> Vec<Point> {
    let length = points.len().div_ceil(100).max(1);
    points
        .chunks(length)
        .map(|stretch| {
            let mean =
                |of: fn(&Point) -> f64| stretch.iter().map(of).sum::<f64>() / stretch.len() as f64;
            Point {
                x: mean(|point| point.x),
                mean: mean(|point| point.mean),
                half_width: 0.0,
            }
        })
        .collect()
}

struct Picture {
    title: String,
    /// What tasks of training and of validation are called: with their shapes where these differ.
    tasks: (String, String),
    metric: Metric,
    name: &'static str,
    train: Vec<Point>,
    validation: Vec<Point>,
    steps: Vec<Point>,
    test: (f64, f64),
}

impl Picture {
    /// Decimals of a score: hundredths of per cent, thousandths of squared error.
    fn decimals(&self) -> usize {
        if self.falls() { 3 } else { 2 }
    }

    /// Whether lower is better.
    fn falls(&self) -> bool {
        !self.metric.higher_is_better()
    }

    fn draw(&self) -> Result<Drawing> {
        let width = if self.steps.is_empty() { 640.0 } else { 1080.0 };
        draw_charts((width, 400.0), &self.title, &[], |area| {
            if self.steps.is_empty() {
                return self.draw_training(area);
            }
            let (left, right) = area.split_horizontally(600);
            self.draw_training(&left)?;
            self.draw_steps(&right)
        })
    }

    fn draw_training(&self, area: &Area) -> Drawn {
        let all = || self.train.iter().chain(&self.validation);
        let last = all().map(|point| point.x).fold(1.0, f64::max);
        let test = Point {
            x: 0.0,
            mean: self.test.0,
            half_width: self.test.1,
        };
        let mut chart =
            chart(area).build_cartesian_2d(0.0..last, range_of(all().chain([&test])))?;
        axes(&mut chart, "iteration", self.name)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .draw()?;
        chart
            .draw_series(LineSeries::new(
                self.train.iter().map(|point| (point.x, point.mean)),
                BLUE_LINE.mix(0.6).stroke_width(1),
            ))?
            .label(format!("{} (means of stretches)", self.tasks.0))
            .legend(legend_line(BLUE_LINE));
        chart
            .draw_series(LineSeries::new(
                self.validation.iter().map(|point| (point.x, point.mean)),
                ORANGE_LINE.stroke_width(2),
            ))?
            .label(format!("{}, 95 % interval", self.tasks.1))
            .legend(legend_line(ORANGE_LINE.stroke_width(2)));
        chart.draw_series(self.validation.iter().map(|point| point.bar(ORANGE_LINE)))?;
        chart
            .draw_series(DashedLineSeries::new(
                [(0.0, self.test.0), (last, self.test.0)],
                6,
                4,
                GREEN_LINE.stroke_width(2),
            ))?
            .label(format!(
                "test: {:.decimals$} ± {:.decimals$}",
                self.test.0,
                self.test.1,
                decimals = self.decimals()
            ))
            .legend(legend_line(GREEN_LINE.stroke_width(2)));
        draw_legend(&mut chart, far_corner(self.metric))
    }

    fn draw_steps(&self, area: &Area) -> Drawn {
        let last = self.steps.iter().map(|point| point.x).fold(1.0, f64::max);
        let range = range_of(self.steps.iter());
        let lift = (range.end - range.start) * 0.02;
        let mut chart = chart(area).build_cartesian_2d(-0.4..last + 0.6, range)?;
        axes(
            &mut chart,
            "adaptation steps at test (95 % interval)",
            self.name,
        )
        .x_labels(self.steps.len().min(12) + 1)
        .x_label_formatter(&|x| {
            if x.fract().abs() < 1e-9 {
                format!("{x:.0}")
            } else {
                String::new()
            }
        })
        .draw()?;
        chart.draw_series(LineSeries::new(
            self.steps.iter().map(|point| (point.x, point.mean)),
            GREEN_LINE.stroke_width(2),
        ))?;
        chart.draw_series(self.steps.iter().map(|point| point.bar(GREEN_LINE)))?;
        // Beside a line that comes down from the left.
        let side = |point: &Point| match self.falls() && point.x < last {
            true => HPos::Left,
            false => HPos::Center,
        };
        let labelled = self
            .steps
            .iter()
            .filter(|point| self.steps.len() <= 6 || point.x <= 1.0 || point.x == last);
        chart.draw_series(labelled.map(|point| {
            let place = (point.x + 0.08, point.mean + point.half_width + lift);
            let text = format!("{:.decimals$}", point.mean, decimals = self.decimals());
            Text::new(
                text,
                place,
                label_style().pos(Pos::new(side(point), VPos::Bottom)),
            )
        }))?;
        Ok(())
    }
}

/// A range that holds the intervals of all points, with some air.
fn range_of<'a>(points: impl Iterator<Item = &'a Point>) -> std::ops::Range<f64> {
    let ends = |point: &Point| [point.mean - point.half_width, point.mean + point.half_width];
    range(points.flat_map(ends), 0.10)
}
