//! Draws curves: adaptation by step, functions, and the deletion check.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use meta_core::{data::Targets, nn::attention::MapAxis, stats::Interval};

use super::{
    deletion::{Curve, Deletion},
    episode_view::EpisodeView,
    maps::{Map, Matrix, Of},
};
use crate::{
    failure::Result,
    output::{
        chart::{axes, chart, draw_charts, draw_legend, label_style, legend_line, range},
        drawing::{Area, Colour, Drawing, Drawn, LINES, SMALL, text_width},
    },
};

/// Numbers of an axis: with as many digits as its range needs.
fn number(range: &std::ops::Range<f64>) -> impl Fn(&f64) -> String + use<> {
    let width = range.end - range.start;
    let decimals = if width > 8.0 {
        0
    } else if width > 0.8 {
        1
    } else if width > 0.08 {
        2
    } else {
        3
    };
    move |value| {
        // No minus sign before a zero.
        let value = if value.abs() < 1e-9 { 0.0 } else { *value };
        format!("{value:.decimals$}")
    }
}

fn whole(value: &f64) -> String {
    if (value - value.round()).abs() < 1e-9 {
        format!("{value:.0}")
    } else {
        String::new()
    }
}

/// What happened in each step of adaptation.
pub struct Trajectory<'a> {
    /// Query loss before the first step and after every one.
    pub losses: &'a [f64],
    /// Accuracy likewise; nothing in regression.
    pub accuracies: &'a [f64],
    /// Layers, and how far each is from its start after every step.
    pub movement: &'a [(String, Vec<f64>)],
}

/// Width of a chart of steps.
const CHART: i32 = 290;

/// Draws the adaptation of one episode.
///
/// # Errors
/// When it cannot be drawn.
pub fn trajectory(view: &EpisodeView, trajectory: &Trajectory) -> Result<Drawing> {
    let what = if trajectory.accuracies.is_empty() {
        "adaptation: squared error of the queries and movement of the parameters, by step"
    } else {
        "adaptation: loss and accuracy of the queries and movement of the parameters, by step"
    };
    let panels = 1 + usize::from(!trajectory.accuracies.is_empty());
    let movement = Movement::of(trajectory.movement);
    let left = CHART * panels as i32;
    let width = f64::from(left) + 30.0 + movement.as_ref().map_or(0.0, Movement::width);
    let lines = [view.setting.as_str(), what];
    draw_charts((width, 400.0), &view.title, &lines, |area| {
        let (left, right) = area.split_horizontally(left);
        let charts = left.split_evenly((1, panels));
        let name = if trajectory.accuracies.is_empty() {
            "mean squared error"
        } else {
            "cross-entropy (nats)"
        };
        steps(&charts[0], name, trajectory.losses, LINES[0])?;
        if let Some(chart) = charts.get(1) {
            let percent: Vec<f64> = trajectory
                .accuracies
                .iter()
                .map(|value| 100.0 * value)
                .collect();
            steps(chart, "accuracy (%)", &percent, LINES[2])?;
        }
        movement.map_or(Ok(()), |movement| movement.draw(&right))
    })
}

fn steps(area: &Area, name: &str, values: &[f64], colour: Colour) -> Drawn {
    let text = |value: f64| {
        if value.abs() >= 10.0 {
            format!("{value:.1}")
        } else {
            format!("{value:.3}")
        }
    };
    let last = (values.len() - 1).max(1) as f64;
    let y = range(values.iter().copied(), 0.14);
    let format = number(&y);
    let lift = 0.03 * (y.end - y.start);
    let rises = values.get(1).is_some_and(|second| *second > values[0]);
    let mut chart = chart(area).build_cartesian_2d(-0.05 * last..1.05 * last, y)?;
    axes(&mut chart, "inner step", name)
        .x_labels(values.len().min(8))
        .x_label_formatter(&whole)
        .y_label_formatter(&format)
        .draw()?;
    let points = || {
        values
            .iter()
            .enumerate()
            .map(|(step, value)| (step as f64, *value))
    };
    chart.draw_series(LineSeries::new(points(), colour.stroke_width(2)))?;
    chart.draw_series(points().map(|point| Circle::new(point, 3, colour.filled())))?;
    // Beside the first point and above the last one: off the line.
    let style = |place| label_style().pos(place);
    let below = Pos::new(HPos::Left, if rises { VPos::Top } else { VPos::Bottom });
    let first = (0.04 * last, values[0] + if rises { 0.0 } else { lift });
    let end = values[values.len() - 1];
    let above = Pos::new(HPos::Right, VPos::Bottom);
    chart.draw_series([
        Text::new(text(values[0]), first, style(below)),
        Text::new(text(end), (1.03 * last, end + lift), style(above)),
    ])?;
    Ok(())
}

/// How far the layers that move farthest are from their start, by step.
struct Movement<'a> {
    farthest: Vec<&'a (String, Vec<f64>)>,
    /// How many layers there are.
    count: usize,
}

impl<'a> Movement<'a> {
    /// As many layers as lines are told apart; none where nothing moves.
    fn of(layers: &'a [(String, Vec<f64>)]) -> Option<Self> {
        let mut farthest: Vec<&(String, Vec<f64>)> = layers.iter().collect();
        let end = |layer: &(String, Vec<f64>)| layer.1.last().copied().unwrap_or(0.0);
        farthest.sort_by(|a, b| end(b).total_cmp(&end(a)));
        farthest.truncate(LINES.len());
        (!farthest.is_empty()).then_some(Movement {
            farthest,
            count: layers.len(),
        })
    }

    /// What stands below the names, where some layers are left out.
    fn note(&self) -> Option<String> {
        let shown = self.farthest.len();
        (shown < self.count).then(|| format!("the {shown} of {} that move most", self.count))
    }

    /// Width of the chart with the names beside it.
    fn width(&self) -> f64 {
        let names = self.farthest.iter().map(|(name, _)| name.as_str());
        let note = self.note();
        let texts = names
            .chain(note.as_deref())
            .map(|text| text_width(text, SMALL));
        f64::from(CHART) + 30.0 + texts.fold(0.0, f64::max)
    }

    fn draw(&self, area: &Area) -> Drawn {
        let steps = self.farthest.iter().map(|(_, by_step)| by_step.len());
        let count = steps.max().unwrap_or(1);
        let values = self.farthest.iter().flat_map(|(_, by_step)| by_step);
        let y = range(values.copied().chain([0.0]), 0.08);
        let format = number(&y);
        let (left, legend) = area.split_horizontally(CHART);
        let last = count as f64;
        let mut chart = chart(&left).build_cartesian_2d(-0.05 * last..1.05 * last, 0.0..y.end)?;
        axes(
            &mut chart,
            "inner step",
            "distance from the start (Euclidean)",
        )
        .x_labels((count + 1).min(8))
        .x_label_formatter(&whole)
        .y_label_formatter(&format)
        .draw()?;
        let entry = |place: usize| 16 + 20 * place as i32;
        for (place, ((name, by_step), colour)) in self.farthest.iter().zip(LINES).enumerate() {
            let steps = (1..).map(f64::from).zip(by_step.iter().copied());
            let points = || std::iter::once((0.0, 0.0)).chain(steps.clone());
            chart.draw_series(LineSeries::new(points(), colour.stroke_width(2)))?;
            chart.draw_series(points().map(|point| Circle::new(point, 2, colour.filled())))?;
            legend.draw(&legend_line(colour.stroke_width(2))((4, entry(place))))?;
            let name = Text::new(name.clone(), (28, entry(place)), beside());
            legend.draw(&name)?;
        }
        if let Some(note) = self.note() {
            let place = (4, entry(self.farthest.len()) + 6);
            legend.draw(&Text::new(note, place, beside()))?;
        }
        Ok(())
    }
}

/// How labels beside a mark are written.
fn beside<'a>() -> TextStyle<'a> {
    label_style().pos(Pos::new(HPos::Left, VPos::Center))
}

/// Draws the function of a regression task with one number in and one out: support points as large as
/// the attention they receive, where queries attend to the support, and the learner's answers.
///
/// # Errors
/// When it cannot be drawn.
pub fn function(view: &EpisodeView, maps: &[Map]) -> Option<Result<Drawing>> {
    let function = FunctionChart::of(view, maps)?;
    let what = match &function.map {
        Some(name) => format!(
            "the task and the answers; a support point is as large as the attention it receives \
             (“{name}”, mean over queries)"
        ),
        None => "the task and the answers".to_owned(),
    };
    let lines = [view.setting.as_str(), &what];
    let drawn = draw_charts((860.0, 470.0), &view.title, &lines, |area| {
        let (chart, legend) = area.split_horizontally(710);
        function.draw(&chart)?;
        function.draw_legend(&legend)
    });
    Some(drawn)
}

/// The points of a function of one number.
struct FunctionChart {
    support: Vec<(f64, f64)>,
    queries: Vec<(f64, f64)>,
    /// Answers to the queries, from left to right.
    answers: Vec<(f64, f64)>,
    /// The map by which queries attend to the support.
    map: Option<String>,
    /// The attention that each support point receives.
    received: Option<Vec<f64>>,
}

/// Radius of the support point that receives the most attention.
const LARGEST: f64 = 12.0;

impl FunctionChart {
    /// None for anything but a function of one number.
    fn of(view: &EpisodeView, maps: &[Map]) -> Option<Self> {
        let Targets::Values(support) = &view.episode.support.targets else {
            return None;
        };
        let Targets::Values(query) = &view.episode.query.targets else {
            return None;
        };
        if !view.numbers() || support.len() != view.support() {
            return None;
        }
        let x = |item: usize| f64::from(view.inputs(item)[0]);
        let (s, q) = (view.support(), view.queries());
        let map = maps.iter().find(|map| {
            (&map.rows, &map.columns, map.of) == (&MapAxis::Query, &MapAxis::Support, Of::Episode)
                && map.dims[2..] == [q, s]
        });
        let mut answers: Vec<(f64, f64)> = (0..q)
            .map(|item| (x(s + item), view.answers[item][0]))
            .collect();
        answers.sort_by(|a, b| a.0.total_cmp(&b.0));
        let points = |values: &[f32], first: usize| -> Vec<(f64, f64)> {
            let places = (first..).map(x);
            places.zip(values.iter().map(|&y| f64::from(y))).collect()
        };
        Some(FunctionChart {
            support: points(&support[..s], 0),
            queries: points(&query[..q], s),
            answers,
            map: map.map(|map| map.name.clone()),
            received: map.map(|map| Matrix::mean(&map.by_head(0)).received()),
        })
    }

    /// The most attention that a support point receives; 0 where none is known.
    fn largest(&self) -> f64 {
        self.received.iter().flatten().copied().fold(0.0, f64::max)
    }

    /// The radius of a support point: its area, not the radius, says how much attention it receives.
    fn radius(&self, item: usize) -> i32 {
        match &self.received {
            Some(received) if self.largest() > 0.0 => {
                (LARGEST * (received[item] / self.largest()).sqrt()).max(2.0) as i32
            }
            _ => 6,
        }
    }

    fn draw(&self, area: &Area) -> Drawn {
        let all = || {
            self.answers
                .iter()
                .chain(&self.queries)
                .chain(&self.support)
        };
        let xs = range(all().map(|point| point.0), 0.06);
        let ys = range(all().map(|point| point.1), 0.08);
        let (x_format, y_format) = (number(&xs), number(&ys));
        let mut chart = chart(area).build_cartesian_2d(xs, ys)?;
        axes(&mut chart, "x", "y")
            .x_label_formatter(&x_format)
            .y_label_formatter(&y_format)
            .draw()?;
        let line = LINES[3].mix(0.5).stroke_width(1);
        chart.draw_series(LineSeries::new(self.answers.iter().copied(), line))?;
        let support = self.support.iter().enumerate();
        chart.draw_series(support.map(|(item, &place)| support_point(place, self.radius(item))))?;
        chart.draw_series(self.queries.iter().map(|&place| truth(place)))?;
        chart.draw_series(self.answers.iter().map(|&place| answer(place)))?;
        Ok(())
    }

    fn draw_legend(&self, area: &Area) -> Drawn {
        let text = |text: &str, place: (i32, i32)| Text::new(text.to_owned(), place, beside());
        area.draw(&support_point((10, 20), 7))?;
        area.draw(&text("support point", (24, 20)))?;
        area.draw(&truth((10, 42)))?;
        area.draw(&text("query, truth", (24, 42)))?;
        area.draw(&answer((10, 64)))?;
        area.draw(&text("query, answer", (24, 64)))?;
        if self.largest() > 0.0 {
            area.draw(&text("attention weight", (4, 102)))?;
            for (place, share) in [(128, 1.0), (156, 0.5), (178, 0.1)] {
                let size = (LARGEST * f64::sqrt(share)) as i32;
                area.draw(&support_point((16, place), size))?;
                let weight = format!("{:.3}", share * self.largest());
                area.draw(&text(&weight, (36, place)))?;
            }
        }
        Ok(())
    }
}

fn support_point<C>(place: C, radius: i32) -> Circle<C, i32> {
    Circle::new(place, radius, LINES[1].mix(0.75).filled())
}

fn truth<C>(place: C) -> Circle<C, i32> {
    Circle::new(place, 4, LINES[0].stroke_width(2))
}

fn answer<C>(place: C) -> Cross<C, i32> {
    Cross::new(place, 4, LINES[3].stroke_width(2))
}

/// Draws a deletion check: the scores over how many were masked, with 95 % intervals over episodes.
///
/// # Errors
/// When it cannot be drawn.
pub fn deletion(title: &str, setting: &str, check: &Deletion) -> Result<Drawing> {
    let what = format!(
        "masking {} by attention and at random; mean and 95 % interval over {} episodes",
        check.masked.name(),
        check.effect().n
    );
    let (factor, name) = if check.accuracy {
        (100.0, "accuracy (%)")
    } else {
        (1.0, "mean squared error")
    };
    let points = |curve: &Curve| -> Vec<(f64, Interval)> {
        check
            .levels
            .iter()
            .zip(&curve.scores)
            .map(|(&level, scores)| (level as f64, Interval::t95(scores).scaled(factor)))
            .collect()
    };
    let curves = [
        ("most attended first", points(&check.attended), LINES[3]),
        ("at random", points(&check.random), LINES[0]),
    ];
    draw_charts((760.0, 440.0), title, &[setting, &what], |area| {
        let values = curves.iter().flat_map(|(_, points, _)| points);
        let y = range(
            values.flat_map(|(_, interval)| [interval.low(), interval.high()]),
            0.1,
        );
        let format = number(&y);
        let last = check.count as f64;
        let masked = format!("{} masked, of {}", check.masked.name(), check.count);
        let mut chart = chart(area).build_cartesian_2d(-0.02 * last..1.02 * last, y)?;
        axes(&mut chart, &masked, name)
            .x_labels((check.count + 1).min(10))
            .x_label_formatter(&whole)
            .y_label_formatter(&format)
            .draw()?;
        for (label, points, colour) in &curves {
            let upper = points.iter().map(|(x, interval)| (*x, interval.high()));
            let lower = points
                .iter()
                .rev()
                .map(|(x, interval)| (*x, interval.low()));
            let band: Vec<(f64, f64)> = upper.chain(lower).collect();
            chart.draw_series([Polygon::new(band, colour.mix(0.2).filled())])?;
            let colour = *colour;
            let line = points.iter().map(|(x, interval)| (*x, interval.mean));
            chart
                .draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))?
                .label(*label)
                .legend(legend_line(colour.stroke_width(2)));
            chart.draw_series(line.map(|point| Circle::new(point, 3, colour.filled())))?;
        }
        let corner = if check.accuracy {
            SeriesLabelPosition::UpperRight
        } else {
            SeriesLabelPosition::LowerRight
        };
        draw_legend(&mut chart, corner)
    })
}
