//! Measures cost over the number of tasks, inner steps and query items (`meta bench --scaling`).
//!
//! One of the three varies, the others stay as in the workload. All sizes are measured in turn, in several
//! rounds: a disturbance of the machine then does not affect one size alone. A straight line is fitted to
//! the medians by least squares.

use std::path::Path;

use plotters::prelude::*;
use serde::Serialize;
use serde_json::json;

use super::{
    args::{BenchArgs, Effort},
    process::measured,
    report::{Spread, environment, environment_line, number},
    workloads::Workload,
};
use crate::{
    failure::Result,
    output::{
        chart::{axes, chart, draw_charts, draw_legend, error_bar, legend_line, write_picture},
        drawing::{Area, Drawing, Drawn, LINES},
        print,
        target::{MEASUREMENT, write_over},
    },
};

/// Rounds, unless asked otherwise.
const ROUNDS: usize = 3;

/// What is varied: its name, the sizes, how an effort asks for one, and whether the workload has it.
struct Axis {
    name: &'static str,
    sizes: &'static [usize],
    set: fn(&mut Effort, usize),
    applies: fn(&Workload) -> bool,
}

static AXES: [Axis; 3] = [
    Axis {
        name: "tasks",
        sizes: &[2, 4, 8, 16, 24, 32],
        set: |effort, size| effort.tasks = Some(size),
        applies: |_| true,
    },
    Axis {
        name: "inner steps",
        sizes: &[1, 2, 4, 6, 8, 10],
        set: |effort, size| effort.steps = Some(size),
        applies: Workload::has_steps,
    },
    Axis {
        name: "query items per class",
        // A class of `glyphs` has 20 items, of which some are the support.
        sizes: &[3, 6, 9, 12, 15],
        set: |effort, size| effort.query = Some(size),
        applies: |_| true,
    },
];

/// What was measured at one size.
#[derive(Serialize)]
struct Place {
    size: usize,
    samples_ms: Vec<f64>,
    peak_bytes: Option<u64>,
}

/// The cost of a workload along one axis.
#[derive(Serialize)]
struct Curve {
    workload: &'static str,
    axis: &'static str,
    places: Vec<Place>,
    /// Milliseconds at size 0, and for each unit of size.
    line: (f64, f64),
    /// Share of the variance of the medians that the line explains.
    r_squared: f64,
}

impl Curve {
    fn new(workload: &'static str, axis: &'static str, places: Vec<Place>) -> Self {
        let points: Vec<(f64, f64)> = places
            .iter()
            .map(|place| (place.size as f64, Spread::of(&place.samples_ms).median))
            .collect();
        let (line, r_squared) = fit(&points);
        Curve {
            workload,
            axis,
            places,
            line,
            r_squared,
        }
    }
}

/// Intercept and slope of the least-squares line, and its coefficient of determination.
fn fit(points: &[(f64, f64)]) -> ((f64, f64), f64) {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let sum =
        |of: &dyn Fn(f64, f64) -> f64| -> f64 { points.iter().map(|p| of(p.0 - x, p.1 - y)).sum() };
    let slope = sum(&|dx, dy| dx * dy) / sum(&|dx, _| dx * dx);
    let unexplained = sum(&|dx, dy| (dy - slope * dx).powi(2));
    let total = sum(&|_, dy| dy * dy);
    ((y - slope * x, slope), 1.0 - unexplained / total)
}

/// Measures, draws and prints a table.
///
/// # Errors
/// As a measurement, and when the picture cannot be written.
pub fn scaling(
    args: &BenchArgs,
    workloads: &[&'static Workload],
    backend: &str,
    picture: &Path,
) -> Result<()> {
    let effort = args.checked_effort()?;
    let mut curves = Vec::new();
    for &workload in workloads {
        for axis in AXES.iter().filter(|axis| (axis.applies)(workload)) {
            let mut places: Vec<Place> = axis
                .sizes
                .iter()
                .map(|&size| Place {
                    size,
                    samples_ms: Vec::new(),
                    peak_bytes: None,
                })
                .collect();
            for round in 0..args.rounds.unwrap_or(ROUNDS) {
                eprintln!("{}: {}, round {}", workload.name, axis.name, round + 1);
                for place in &mut places {
                    let mut effort = effort;
                    (axis.set)(&mut effort, place.size);
                    let found = measured(workload, backend, effort)?;
                    place.samples_ms.extend(found.samples_ms);
                    place.peak_bytes = place.peak_bytes.max(found.peak_bytes);
                }
            }
            curves.push(Curve::new(workload.name, axis.name, places));
        }
    }
    if let Some(path) = &args.json {
        let all = json!({
            "kind": "meta bench --scaling",
            "environment": environment(effort),
            "backend": backend,
            "curves": curves,
        });
        write_over(path, format!("{all:#}\n").as_bytes(), MEASUREMENT)?;
    }
    write_picture(picture, &draw(&curves)?)?;
    print(&markdown(&curves))
}

fn markdown(curves: &[Curve]) -> String {
    let mut out = format!(
        "{}\n\n| workload | over | from | to | ms at the ends | ms for each | R² | peak memory at \
         the ends |\n|---|---|--:|--:|--:|--:|--:|--:|\n",
        environment_line()
    );
    for curve in curves {
        let (Some(first), Some(last)) = (curve.places.first(), curve.places.last()) else {
            continue;
        };
        let median = |place: &Place| number(Spread::of(&place.samples_ms).median);
        let memory = |place: &Place| super::report::megabytes(place.peak_bytes);
        out.push_str(&format!(
            "| `{}` | {} | {} | {} | {}, {} | {} | {:.4} | {}, {} |\n",
            curve.workload,
            curve.axis,
            first.size,
            last.size,
            median(first),
            median(last),
            number(curve.line.1),
            curve.r_squared,
            memory(first),
            memory(last),
        ));
    }
    out
}

/// One panel for each axis.
fn draw(curves: &[Curve]) -> Result<Drawing> {
    let panels: Vec<(&Axis, Vec<&Curve>)> = AXES
        .iter()
        .map(|axis| {
            let own = curves.iter().filter(|curve| curve.axis == axis.name);
            (axis, own.collect::<Vec<_>>())
        })
        .filter(|(_, own)| !own.is_empty())
        .collect();
    let size = (380.0 * panels.len() as f64, 380.0);
    let title = "milliseconds per meta-iteration: medians, quartiles, least-squares line";
    draw_charts(size, title, &[], |area| {
        let areas = area.split_evenly((1, panels.len()));
        for (area, (axis, own)) in areas.iter().zip(&panels) {
            draw_panel(area, axis, own)?;
        }
        Ok(())
    })
}

/// The costs along an axis, one line for each workload.
fn draw_panel(area: &Area, axis: &Axis, curves: &[&Curve]) -> Drawn {
    let spreads = curves.iter().flat_map(|curve| &curve.places);
    let top = spreads
        .map(|place| Spread::of(&place.samples_ms).upper)
        .fold(0.0, f64::max);
    let last = *axis.sizes.last().unwrap_or(&1) as f64;
    let mut chart = chart(area).build_cartesian_2d(0.0..1.05 * last, 0.0..1.3 * top)?;
    axes(&mut chart, axis.name, "ms")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for (curve, colour) in curves.iter().zip(LINES.iter().cycle()) {
        let (intercept, slope) = curve.line;
        let label = format!("{} (R² {:.3})", curve.workload, curve.r_squared);
        chart
            .draw_series(LineSeries::new(
                [(0.0, intercept), (last, intercept + slope * last)],
                colour.stroke_width(1),
            ))?
            .label(label)
            .legend(legend_line(colour.stroke_width(2)));
        chart.draw_series(curve.places.iter().map(|place| {
            let Spread {
                lower,
                median,
                upper,
            } = Spread::of(&place.samples_ms);
            let x = place.size as f64;
            error_bar(x, (lower, median, upper), *colour)
        }))?;
    }
    draw_legend(&mut chart, SeriesLabelPosition::UpperLeft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_a_parabola_is_not_one() {
        let line: Vec<_> = [1.0, 2.0, 4.0].map(|x| (x, 3.0 + 2.0 * x)).to_vec();
        let ((intercept, slope), r_squared) = fit(&line);
        assert!((intercept - 3.0).abs() < 1e-12 && (slope - 2.0).abs() < 1e-12);
        assert!((r_squared - 1.0).abs() < 1e-12);
        let parabola: Vec<_> = [-1.0, 0.0, 1.0].map(|x: f64| (x, x * x)).to_vec();
        assert!(fit(&parabola).1.abs() < 1e-12);
    }
}
