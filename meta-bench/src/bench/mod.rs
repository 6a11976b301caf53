//! `meta bench`: how fast the learners are, and how much memory they take.
//!
//! Each workload is measured in a process of its own, so that its peak memory is its own; what a
//! process measures, and how it is made sure that it measured what was asked for, is in `measure`.

mod batches;
mod export;
mod flops;
mod history;
mod launches;
mod measure;
mod peers;
mod report;
mod scaling;
mod workloads;

use meta_core::{
    backend::{self, ComputeTarget, Precision, backends, dispatch},
    files::write_atomically,
};
use serde_json::Value;

use crate::{
    Toolkit,
    cli::{BenchArgs, BenchOneArgs, Effort},
    experiment::start_threads,
    experiment::subprocess::{self, SubprocessError},
    failure::{CommandError, Result},
    output::print,
};
use measure::{GemmPeak, Measurement};
use report::Report;
use workloads::Workload;

/// The name under which a process measures the machine instead of a workload.
const GEMM: &str = "gemm";

/// `meta bench`.
///
/// # Errors
/// For a workload, backend or peer that does not exist or cannot be used, a backend or number type
/// that was not used although it was asked for, or a peer that computes something else.
pub fn bench<T: Toolkit>(args: &BenchArgs) -> Result<()> {
    let workloads = workloads::chosen(&args.workloads)?;
    let backends = chosen_backends(args)?;
    let effort = checked(args)?;
    start_threads(effort.threads)?;
    if args.peers {
        return peers::compare::<T>(args, &workloads, &backends[0]);
    }
    if let Some(folder) = &args.export {
        return export::<T>(folder, &workloads, effort);
    }
    if args.launches {
        return launches::launches(&workloads, &backends, effort);
    }
    if let Some(picture) = &args.plot {
        return batches::batches(args, &workloads, &backends, picture);
    }
    if let Some(picture) = &args.scaling {
        return scaling::scaling(args, &workloads, &backends[0], picture);
    }
    let mut report = Report::new(effort);
    for round in 0..args.rounds.unwrap_or(1) {
        for backend in &backends {
            report.add_peak(backend, gemm_peak(backend, effort)?);
            for workload in &workloads {
                eprintln!("{} on {backend}, round {}", workload.name, round + 1);
                report.add(measured(workload, backend, effort)?);
            }
        }
    }
    finish(args, &report)
}

/// `meta bench-one`: one measurement, as a line of JSON.
///
/// # Errors
/// As [`bench`].
pub fn bench_one<T: Toolkit>(args: &BenchOneArgs) -> Result<()> {
    start_threads(args.effort.threads)?;
    let json = if args.workload == GEMM {
        let peak = dispatch(&ComputeTarget::of(&args.backend), measure::MeasureGemm)?;
        serde_json::to_string(&peak)
    } else {
        let workload = workloads::find(&args.workload)?;
        let backend = args.backend.clone();
        let measure = measure::Measure::<T>::new(workload, &backend, args.effort, args.iterations);
        serde_json::to_string(&dispatch(&ComputeTarget::of(&backend), measure)??)
    };
    print(&format!("{}\n", json.expect("a measurement serialises")))
}

fn chosen_backends(args: &BenchArgs) -> Result<Vec<String>> {
    if args.backends.is_empty() {
        return Ok(backends()
            .iter()
            .filter(|info| info.compiled)
            .map(|info| info.name.to_owned())
            .collect());
    }
    for name in &args.backends {
        backend::check(name)?;
    }
    Ok(args.backends.clone())
}

fn checked(args: &BenchArgs) -> Result<Effort> {
    let effort = args.effort;
    let positive = |option: &str, value: Option<usize>| match value {
        Some(0) => Err(CommandError::Usage(format!(
            "`{option} 0`: must be at least 1"
        ))),
        _ => Ok(()),
    };
    positive("--tasks", effort.tasks)?;
    positive("--steps", effort.steps)?;
    positive("--query", effort.query)?;
    positive("--width", effort.width)?;
    positive("--samples", Some(effort.samples))?;
    positive("--rounds", args.rounds)?;
    for (option, value) in [
        ("--seconds", effort.seconds),
        ("--peer-timeout", args.peer_timeout),
    ] {
        if !(value > 0.0 && value.is_finite()) {
            return Err(CommandError::Usage(format!(
                "`{option} {value}`: must be above 0"
            )));
        }
    }
    Ok(effort)
}

/// Writes what peers read, and nothing else.
fn export<T: Toolkit>(
    folder: &std::path::Path,
    workloads: &[&'static Workload],
    effort: Effort,
) -> Result<()> {
    for &workload in workloads {
        let export = export::Export::<T>::new(folder, workload, effort);
        // What the peers must agree with is computed in f64.
        let target = ComputeTarget {
            precision: Precision::F64,
            ..ComputeTarget::of(export::BACKEND)
        };
        dispatch(&target, export)??;
        eprintln!("{}", folder.join(workload.name).display());
    }
    Ok(())
}

/// Measures in a new process.
fn measured(workload: &Workload, backend: &str, effort: Effort) -> Result<Measurement> {
    serde_json::from_value(child(workload.name, backend, effort)?).map_err(unreadable)
}

fn gemm_peak(backend: &str, effort: Effort) -> Result<GemmPeak> {
    serde_json::from_value(child(GEMM, backend, effort)?).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> CommandError {
    CommandError::Usage(format!("a measuring process wrote no measurement: {error}"))
}

/// Runs `meta bench-one` and reads what it prints.
fn child(workload: &str, backend: &str, effort: Effort) -> Result<Value> {
    child_in(None, workload, backend, effort, &[])
}

/// The same in a folder, with more options.
fn child_in(
    folder: Option<&std::path::Path>,
    workload: &str,
    backend: &str,
    effort: Effort,
    options: &[String],
) -> Result<Value> {
    let answer = subprocess::json_output(|command| {
        command.args(["bench-one", workload, "--backend", backend]);
        command.args(arguments(effort)).args(options);
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
    });
    answer.map_err(|error| {
        let what = match error {
            SubprocessError::Message(message) => message,
            SubprocessError::Ended(status) => status.to_string(),
        };
        CommandError::Usage(format!("measuring {workload} on {backend}: {what}"))
    })
}

/// The options of a measuring process.
fn arguments(effort: Effort) -> Vec<String> {
    let mut options = vec![
        ("--task-chunk", effort.task_chunk.to_string()),
        ("--samples", effort.samples.to_string()),
        ("--seconds", effort.seconds.to_string()),
        ("--threads", effort.threads.to_string()),
        ("--seed", effort.seed.to_string()),
    ];
    for (option, value) in [
        ("--tasks", effort.tasks),
        ("--steps", effort.steps),
        ("--query", effort.query),
        ("--width", effort.width),
    ] {
        options.extend(value.map(|value| (option, value.to_string())));
    }
    options
        .into_iter()
        .flat_map(|(option, value)| [option.to_owned(), value])
        .collect()
}

/// Prints the tables and writes the JSON.
fn finish(args: &BenchArgs, report: &Report) -> Result<()> {
    if let Some(path) = &args.json {
        write_atomically(path, format!("{:#}\n", report.json()).as_bytes())?;
    }
    print(&report.markdown())?;
    // Before this report is a part of the history.
    let compared = match &args.compare {
        Some(path) => history::compare(path, report),
        None => Ok(()),
    };
    if let Some(path) = &args.history {
        history::append(path, report)?;
    }
    compared
}
