//! Arguments of `meta bench`.

use std::path::PathBuf;

use clap::Args;
use meta_core::{
    backend::{self, backends},
    settings::LARGEST_SIZE,
};

use crate::failure::{CommandError, Result};

/// How much is measured.
#[derive(Clone, Copy, Debug, Args)]
pub struct Effort {
    /// Tasks of a meta-batch [default: those of the workload].
    #[arg(long, value_name = "N")]
    pub tasks: Option<usize>,
    /// Inner steps, in training and at test [default: those of the workload].
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Query items of each class [default: those of the workload].
    #[arg(long, value_name = "N")]
    pub query: Option<usize>,
    /// Width of the network: channels, width of a token, or of each hidden layer [default: that of the
    /// encoder].
    #[arg(long, value_name = "N")]
    pub width: Option<usize>,
    /// Tasks of a computation graph [default: as in a run, by the memory it may take].
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub task_chunk: usize,
    /// Samples of each process, at most.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub samples: usize,
    /// Seconds after which a process takes no more samples; three are always taken.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// Threads, 0 for one per core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Seed of the initial parameters and of the episodes.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Measure speed and memory on fixed workloads, alone or against PyTorch and JAX.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Workloads [default: all].
    #[arg(value_name = "WORKLOAD")]
    pub workloads: Vec<String>,
    /// Backends, separated by commas [default: all of this build; with --peers the first of them].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub backends: Vec<String>,
    /// How much is measured.
    #[command(flatten)]
    pub effort: Effort,
    /// Processes that measure each workload, one after the other, interleaved with the others
    /// [default: 1; with --peers 3].
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,
    /// File for everything that was measured, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Add what was measured to this file, one line of JSON for each call.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["peers", "export", "scaling", "plot"])]
    pub history: Option<PathBuf>,
    /// Report what became slower than in this file, of --json or --history (its last line); exit code 1
    /// where something did, beyond the noise.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["peers", "export", "scaling", "plot"])]
    pub compare: Option<PathBuf>,
    /// Measure the throughput of every backend over the number of tasks, and draw that into this SVG
    /// file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["peers", "export", "scaling"])]
    pub plot: Option<PathBuf>,
    /// Count the kernels that a meta-iteration launches, on backends that launch kernels; times are
    /// not measured.
    #[arg(long, conflicts_with_all = ["peers", "export", "scaling", "plot", "history", "compare"])]
    pub launches: bool,
    /// Write initial parameters, episodes and first step of each workload to this folder; measures
    /// nothing unless --peers is given.
    #[arg(long, value_name = "DIR")]
    pub export: Option<PathBuf>,
    /// Measure over the number of tasks, inner steps and query items, and draw that into this SVG
    /// file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["peers", "export"])]
    pub scaling: Option<PathBuf>,
    /// Measure PyTorch and JAX on the same workloads, too.
    #[arg(long)]
    pub peers: bool,
    /// Python with the peers installed.
    #[arg(long, value_name = "PATH", default_value = "python3")]
    pub python: PathBuf,
    /// Only these peers, separated by commas [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Where the peers compute [default: cuda beside the backend `cuda`, else cpu].
    #[arg(long, value_name = "DEVICE", value_parser = ["cpu", "cuda"])]
    pub peer_device: Option<String>,
    /// Seconds after which a peer's process is stopped.
    #[arg(long, value_name = "S", default_value_t = 600.0)]
    pub peer_timeout: f64,
}

/// The longest time that a measurement may take: a year.
const MOST_SECONDS: f64 = 31_536_000.0;

impl BenchArgs {
    /// The backends that are measured.
    ///
    /// # Errors
    /// For a backend that does not exist or is not compiled in.
    pub fn chosen_backends(&self) -> Result<Vec<String>> {
        if self.backends.is_empty() {
            return Ok(backends()
                .iter()
                .filter(|info| info.compiled)
                .map(|info| info.name.to_owned())
                .collect());
        }
        for name in &self.backends {
            backend::check(name)?;
        }
        Ok(self.backends.clone())
    }

    /// How much is measured.
    ///
    /// # Errors
    /// For a number that must be above 0 and is not, or that nobody can measure.
    pub fn checked_effort(&self) -> Result<Effort> {
        let effort = self.effort;
        let positive = |option: &str, value: Option<usize>| match value {
            Some(0) => Err(CommandError::Usage(format!(
                "`{option} 0`: must be at least 1"
            ))),
            Some(size) if size > LARGEST_SIZE => Err(CommandError::Usage(format!(
                "`{option} {size}`: must be at most {LARGEST_SIZE}"
            ))),
            _ => Ok(()),
        };
        positive("--tasks", effort.tasks)?;
        positive("--steps", effort.steps)?;
        positive("--query", effort.query)?;
        positive("--width", effort.width)?;
        positive("--task-chunk", Some(effort.task_chunk.max(1)))?;
        positive("--threads", Some(effort.threads.max(1)))?;
        positive("--samples", Some(effort.samples))?;
        positive("--rounds", self.rounds)?;
        for (option, value) in [
            ("--seconds", effort.seconds),
            ("--peer-timeout", self.peer_timeout),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(CommandError::Usage(format!(
                    "`{option} {value}`: must be above 0"
                )));
            }
            if value > MOST_SECONDS {
                return Err(CommandError::Usage(format!(
                    "`{option} {value}`: must be at most {MOST_SECONDS}"
                )));
            }
        }
        Ok(effort)
    }
}
