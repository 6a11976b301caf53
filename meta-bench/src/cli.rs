//! What was typed, as types.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Few-shot meta-learning, from a manifest to a number you can trust.
#[derive(Debug, Parser)]
#[command(name = "meta", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Log level of the diagnostics on stderr: error, warn, info, debug, trace, or a filter such as
    /// `meta_core=debug`.
    #[arg(long, global = true, default_value = "warn", value_name = "LEVEL")]
    pub log: String,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train as a manifest says, and test the best parameters.
    Run(RunArgs),
    /// Test a run again, with other test settings if given.
    Eval(EvalArgs),
    /// Show the resolved manifest with the origin of each value, checked, and a forecast of memory
    /// and time.
    Check(CheckArgs),
    /// Take two iterations and a chunk of the test, for `meta check`.
    #[command(hide = true)]
    Trial(ManifestArgs),
    /// Show what a manifest can name.
    List(ListArgs),
    /// Draw items of a manifest's data source into a PNG file.
    ContactSheet(ContactSheetArgs),
    /// Draw the scores of a finished run over training and over adaptation steps into an SVG file.
    Plot(PlotArgs),
    /// Measure speed and memory on fixed workloads, alone or against PyTorch and JAX.
    Bench(BenchArgs),
    /// Measure one workload in this process, for `meta bench`.
    #[command(hide = true)]
    BenchOne(BenchOneArgs),
    /// Hold gradients against central differences in f64, at first and second order.
    Gradcheck(GradcheckArgs),
    /// Write the parts of the documentation that come from the code.
    #[command(hide = true)]
    Docs(DocsArgs),
}

/// A manifest and what is changed in it.
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// The manifest, a TOML file.
    pub manifest: PathBuf,
    /// Changes: `key.path=value`, such as `train.lr=0.01` or `learner.name=maml`.
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Folder that data sets lie in.
    #[arg(long, env = "META_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Arguments of `meta check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The manifest.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// Do not try two iterations: no forecast.
    #[arg(long)]
    pub no_trial: bool,
}

/// Arguments of `meta run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The manifest.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// Continue from the last checkpoint; start where there is none.
    #[arg(long)]
    pub resume: bool,
    /// The run folder [default: runs/<name>-<hash>].
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print the result as one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
    /// No progress on stderr.
    #[arg(long)]
    pub quiet: bool,
}

/// Arguments of `meta eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The run folder.
    pub run_dir: PathBuf,
    /// Changes to `test.*`, `data.way`, `data.shot`, `data.query`, `learner.*`, `backend` or
    /// `threads`.
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Folder that data sets lie in [default: that of the run].
    #[arg(long, env = "META_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print the result as one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
    /// No progress on stderr.
    #[arg(long)]
    pub quiet: bool,
}

/// A list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListKind {
    /// Learners.
    Learners,
    /// Encoders.
    Encoders,
    /// Attention.
    Attention,
    /// Data sources.
    Data,
    /// Backends.
    Backends,
}

/// Arguments of `meta list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Which list [default: all].
    pub kind: Option<ListKind>,
    /// Print as one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `meta contact-sheet`.
#[derive(Debug, Args)]
pub struct ContactSheetArgs {
    /// The manifest, a TOML file.
    pub manifest: PathBuf,
    /// The picture to write.
    pub out: PathBuf,
    /// Changes: `key.path=value`.
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Folder that data sets lie in.
    #[arg(long, env = "META_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Classes, one a row.
    #[arg(long, default_value_t = 12)]
    pub classes: usize,
    /// Items of each class, one a column.
    #[arg(long, default_value_t = 16)]
    pub items: usize,
    /// Part of the source: train, validation or test.
    #[arg(long, default_value = "train")]
    pub split: String,
}

/// Arguments of `meta plot`.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// The run folder.
    pub run_dir: PathBuf,
    /// The picture to write.
    pub out: PathBuf,
}

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

/// Arguments of `meta bench`.
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
    /// Python that has the peers installed.
    #[arg(long, value_name = "PATH", default_value = "python3")]
    pub python: PathBuf,
    /// Only these peers, separated by commas [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Seconds after which a peer's process is stopped.
    #[arg(long, value_name = "S", default_value_t = 600.0)]
    pub peer_timeout: f64,
}

/// Arguments of `meta bench-one`.
#[derive(Debug, Args)]
pub struct BenchOneArgs {
    /// The workload, or `gemm` for the peak of the machine.
    pub workload: String,
    /// The backend.
    #[arg(long)]
    pub backend: String,
    /// How much is measured.
    #[command(flatten)]
    pub effort: Effort,
}

/// Arguments of `meta gradcheck`.
#[derive(Debug, Args)]
pub struct GradcheckArgs {
    /// What to check: `op`, `layer`, `encoder`, `learner`, or the name of one of them.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Check everything.
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Print the rows as one JSON array on stdout.
    #[arg(long)]
    pub json: bool,
    /// No progress on stderr.
    #[arg(long)]
    pub quiet: bool,
}

/// Arguments of `meta docs`.
#[derive(Debug, Args)]
pub struct DocsArgs {
    /// What to write.
    #[command(subcommand)]
    pub what: DocsKind,
}

/// Parts of the documentation.
#[derive(Debug, Subcommand)]
pub enum DocsKind {
    /// The manifest reference (`docs/manifest.md`), on stdout, from the doc comments of the settings.
    Manifest {
        /// The root of the repository.
        #[arg(long, default_value = ".")]
        root: PathBuf,
    },
    /// The table of learners of the README, on stdout.
    Learners,
    /// Finished runs beside published figures (`docs/results.md`), on stdout.
    Results {
        /// Run folders.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Folder that data sets lie in [default: that of each run].
        #[arg(long, env = "META_DATA", value_name = "DIR")]
        data: Option<PathBuf>,
    },
}
