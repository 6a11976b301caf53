//! Measures throughput over the number of tasks, on every backend (`meta bench --plot`).

use std::path::Path;

use plotters::prelude::*;
use serde_json::json;

use super::{
    args::{BenchArgs, Effort},
    measure::Measurement,
    process::measured,
    report::{Spread, environment, environment_line, number, tasks_per_second},
    workloads::Workload,
};
use crate::{
    failure::Result,
    output::{
        chart::{
            axes, chart, draw_charts, draw_legend, error_bar, heading_style, legend_line,
            write_picture,
        },
        drawing::{Area, Drawing, Drawn, LINES},
        print,
        target::{MEASUREMENT, write_over},
    },
};

/// Numbers of tasks that are measured.
const TASKS: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Measures, draws and prints a table.
///
/// # Errors
/// As a measurement, and when the picture cannot be written.
pub fn batches(
    args: &BenchArgs,
    workloads: &[&'static Workload],
    backends: &[String],
    picture: &Path,
) -> Result<()> {
    let effort = args.checked_effort()?;
    let mut found: Vec<(String, Measurement)> = Vec::new();
    for round in 0..args.rounds.unwrap_or(1) {
        for &workload in workloads {
            for backend in backends {
                eprintln!("{} on {backend}, round {}", workload.name, round + 1);
                for tasks in TASKS {
                    let effort = Effort {
                        tasks: Some(tasks),
                        ..effort
                    };
                    let measurement = measured(workload, backend, effort)?;
                    let same = |(name, known): &&mut (String, Measurement)| {
                        name == backend && known.workload == workload.name && known.tasks == tasks
                    };
                    match found.iter_mut().find(same) {
                        Some((_, known)) => known.samples_ms.extend(measurement.samples_ms),
                        None => found.push((backend.clone(), measurement)),
                    }
                }
            }
        }
    }
    if let Some(path) = &args.json {
        let all = json!({
            "kind": "meta bench --plot",
            "environment": environment(effort),
            "measurements": found.iter().map(|(_, measurement)| measurement).collect::<Vec<_>>(),
        });
        write_over(path, format!("{all:#}\n").as_bytes(), MEASUREMENT)?;
    }
    write_picture(picture, &draw(workloads, backends, &found)?)?;
    print(&markdown(workloads, backends, &found))
}

fn markdown(
    workloads: &[&'static Workload],
    backends: &[String],
    found: &[(String, Measurement)],
) -> String {
    let head = |tasks: &usize| match tasks {
        1 => "1 task".to_owned(),
        tasks => format!("{tasks} tasks"),
    };
    let heads: Vec<String> = TASKS.iter().map(head).collect();
    let mut out = format!(
        "{}\n\nTasks per second, medians.\n\n| workload | backend | {} |\n|---|---|{}\n",
        environment_line(),
        heads.join(" | "),
        "--:|".repeat(TASKS.len())
    );
    for workload in workloads {
        for backend in backends {
            let cells: Vec<String> = of(found, workload, backend)
                .map(|measurement| number(tasks_per_second(measurement)))
                .collect();
            out.push_str(&format!(
                "| `{}` | {backend} | {} |\n",
                workload.name,
                cells.join(" | ")
            ));
        }
    }
    out
}

/// The measurements of a workload on a backend, over the number of tasks.
fn of<'a>(
    found: &'a [(String, Measurement)],
    workload: &'a Workload,
    backend: &'a str,
) -> impl Iterator<Item = &'a Measurement> {
    found
        .iter()
        .filter(move |(name, known)| name == backend && known.workload == workload.name)
        .map(|(_, measurement)| measurement)
}

/// One panel for each workload.
fn draw(
    workloads: &[&'static Workload],
    backends: &[String],
    found: &[(String, Measurement)],
) -> Result<Drawing> {
    let columns = workloads.len().clamp(1, 3);
    let rows = workloads.len().div_ceil(columns);
    let size = (380.0 * columns as f64, 40.0 + 320.0 * rows as f64);
    let title = "tasks per second over tasks of a meta-batch: medians and quartiles";
    draw_charts(size, title, &[], |area| {
        for (panel, workload) in area.split_evenly((rows, columns)).iter().zip(workloads) {
            draw_panel(panel, workload, backends, found)?;
        }
        Ok(())
    })
}

/// The rates of a workload, one line for each backend, both axes logarithmic.
fn draw_panel(
    panel: &Area,
    workload: &Workload,
    backends: &[String],
    found: &[(String, Measurement)],
) -> Drawn {
    let rate = |measurement: &Measurement, ms: f64| 1e3 * measurement.tasks as f64 / ms;
    let rates = backends
        .iter()
        .flat_map(|backend| of(found, workload, backend))
        .map(|measurement| rate(measurement, Spread::of(&measurement.samples_ms).median));
    let (low, high) = rates.fold((f64::INFINITY, 0.0f64), |(low, high), rate| {
        (low.min(rate), high.max(rate))
    });
    let last = TASKS[TASKS.len() - 1] as f64;
    let mut chart = chart(panel)
        .caption(workload.name, heading_style())
        .build_cartesian_2d(
            (0.9..1.1 * last).log_scale().base(2.0),
            (0.6 * low..2.5 * high).log_scale(),
        )?;
    axes(&mut chart, "tasks of a meta-batch", "tasks/s")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_labels(4)
        .y_label_formatter(&|&y| {
            if y >= 1000.0 {
                format!("{:.0} k", y / 1000.0)
            } else {
                number(y)
            }
        })
        .draw()?;
    for (backend, colour) in backends.iter().zip(LINES.iter().cycle()) {
        let points: Vec<(f64, Spread)> = of(found, workload, backend)
            .map(|measurement| {
                let spread = Spread::of(&measurement.samples_ms);
                let rates = Spread {
                    lower: rate(measurement, spread.upper),
                    median: rate(measurement, spread.median),
                    upper: rate(measurement, spread.lower),
                };
                (measurement.tasks as f64, rates)
            })
            .collect();
        let line = points.iter().map(|(x, spread)| (*x, spread.median));
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(2)))?
            .label(backend.as_str())
            .legend(legend_line(colour.stroke_width(2)));
        chart.draw_series(points.iter().map(|(x, spread)| {
            error_bar(*x, (spread.lower, spread.median, spread.upper), *colour)
        }))?;
    }
    draw_legend(&mut chart, SeriesLabelPosition::UpperLeft)
}
