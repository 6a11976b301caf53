//! `meta bench-one`: takes one measurement in a process of its own; and starts such processes.

use std::path::Path;

use clap::Args;
use meta_core::{
    backend::{ComputeTarget, dispatch},
    toolkit::Toolkit,
};
use serde_json::Value;

use super::{
    args::Effort,
    measure::{GemmPeak, Measure, MeasureGemm, Measurement},
    workloads::{self, Workload},
};
use crate::{
    command::Execute,
    experiment::{
        start_threads,
        subprocess::{self, SubprocessError},
    },
    failure::{CommandError, Result},
    output::print,
};

/// The name under which a process measures the machine instead of a workload.
const GEMM: &str = "gemm";

/// Measure one workload in this process, for `meta bench`.
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct BenchOneArgs {
    /// The workload, or `gemm` for the peak of the machine.
    workload: String,
    /// The backend.
    #[arg(long)]
    backend: String,
    /// This many meta-iterations and nothing else, not even a warm-up.
    #[arg(long, value_name = "N")]
    iterations: Option<usize>,
    /// How much is measured.
    #[command(flatten)]
    effort: Effort,
}

impl Execute for BenchOneArgs {
    /// Prints one measurement, as a line of JSON.
    ///
    /// # Errors
    /// * A workload or backend that does not exist or cannot be used.
    /// * A backend or number type that was asked for, and was not used.
    fn execute<T: Toolkit>(self) -> Result<()> {
        start_threads(self.effort.threads)?;
        let target = ComputeTarget::of(&self.backend);
        let json = if self.workload == GEMM {
            serde_json::to_string(&dispatch(&target, MeasureGemm)?)
        } else {
            let workload = workloads::find(&self.workload)?;
            let measure = Measure::<T>::new(workload, &self.backend, self.effort, self.iterations);
            serde_json::to_string(&dispatch(&target, measure)??)
        };
        print(&format!("{}\n", json.expect("a measurement serialises")))
    }
}

/// Measures in a new process.
///
/// # Errors
/// When the process fails, or measures something else.
pub fn measured(workload: &Workload, backend: &str, effort: Effort) -> Result<Measurement> {
    serde_json::from_value(bench_one(None, workload.name, backend, effort, &[])?)
        .map_err(unreadable)
}

/// Measures the machine in a new process.
///
/// # Errors
/// As [`measured`].
pub fn gemm_peak(backend: &str, effort: Effort) -> Result<GemmPeak> {
    serde_json::from_value(bench_one(None, GEMM, backend, effort, &[])?).map_err(unreadable)
}

/// What a process wrote is no measurement.
pub fn unreadable(error: serde_json::Error) -> CommandError {
    CommandError::Usage(format!("a measuring process wrote no measurement: {error}"))
}

/// Runs `meta bench-one`, in `folder` if given, and returns what it prints.
///
/// # Errors
/// As [`measured`].
pub fn bench_one(
    folder: Option<&Path>,
    workload: &str,
    backend: &str,
    effort: Effort,
    options: &[String],
) -> Result<Value> {
    let printed = subprocess::json_output(|command| {
        command.args(["bench-one", workload, "--backend", backend]);
        command.args(arguments(effort)).args(options);
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
    });
    printed.map_err(|error| {
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
