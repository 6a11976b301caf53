//! What was typed, as types.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use meta_core::backend::Precision;

use crate::output::table::Format;

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
    /// Run a manifest, or many, over seeds and settings; go on where it was stopped.
    Sweep(SweepArgs),
    /// Work on one run of a sweep, for `meta sweep`.
    #[command(hide = true)]
    SweepWorker(SweepWorkerArgs),
    /// Compare finished runs: intervals over seeds and episodes, paired differences.
    Compare(CompareArgs),
    /// Show the settings in which two runs or manifests differ.
    Diff(DiffArgs),
    /// List, tag, remove, clean and verify runs.
    Runs(RunsArgs),
    /// Test a run again, with other test settings if given.
    Eval(EvalArgs),
    /// Show what a trained learner attends to and how it adapts, as pictures and as numbers.
    Explain(ExplainArgs),
    /// Show the resolved manifest with the origin of each value, checked, and a forecast of memory
    /// and time.
    Check(CheckArgs),
    /// Take a few iterations and a chunk of the test, for `meta check`.
    #[command(hide = true)]
    Trial(ManifestArgs),
    /// Show what a manifest can name.
    List(ListArgs),
    /// Draw items of a manifest's data source into a PNG file.
    ContactSheet(ContactSheetArgs),
    /// Draw the scores of a finished run over training and over adaptation steps, or those of many
    /// runs over a setting, into an SVG file.
    Plot(PlotArgs),
    /// Measure speed and memory on fixed workloads, alone or against PyTorch and JAX.
    Bench(BenchArgs),
    /// Measure one workload in this process, for `meta bench`.
    #[command(hide = true)]
    BenchOne(BenchOneArgs),
    /// Hold gradients against central differences in f64, at first and second order.
    Gradcheck(GradcheckArgs),
    /// Compare every backend of this build with a reference in f64: operations, layers, encoders,
    /// learners
    Equivalence(EquivalenceArgs),
    /// The values of one backend, as JSON: what `equivalence` starts
    #[command(hide = true)]
    EquivalenceOne(EquivalenceOneArgs),
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
    /// Try nothing: no forecast.
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

/// Which runs a sweep has.
#[derive(Debug, Args)]
pub struct SweepSelection {
    /// Manifests (`experiments/*.toml`), axes (`seed=0,1,2`) and values for all runs (`train.lr=0.01`).
    #[arg(value_name = "MANIFEST|KEY=VALUE,…", required = true)]
    pub inputs: Vec<String>,
    /// Folder that data sets lie in.
    #[arg(long, env = "META_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// CSV file with trials: a header with keys, a row for each.
    #[arg(long, value_name = "FILE")]
    pub trials: Option<PathBuf>,
    /// Seed of random axes and searches [default: that of the manifest, or 0].
    #[arg(long, value_name = "N")]
    pub search_seed: Option<u64>,
    /// Memory that a run may use, such as `2GB`; one that needs more is stopped and recorded as
    /// failed [default: that of the manifest, or no limit].
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
}

/// Where the runs of a sweep are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LauncherKind {
    /// On this machine, in worker processes.
    Local,
    /// By Slurm, as one job array; `[slurm]` says with what.
    Slurm,
}

/// Arguments of `meta sweep`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct SweepArgs {
    /// Something else than running it.
    #[command(subcommand)]
    pub action: Option<SweepAction>,
    /// Which runs.
    #[command(flatten)]
    pub selection: Option<SweepSelection>,
    /// Folder of the run folders.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub runs: PathBuf,
    /// Show what would run, with identities, forecasts and what is already done; start nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Runs side by side, each with its share of the cores [default: one for each core that the
    /// forecast memory allows; on a GPU 1].
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Try failed runs again.
    #[arg(long)]
    pub retry: bool,
    /// Stop all runs as soon as one fails.
    #[arg(long)]
    pub fail_fast: bool,
    /// Where the runs are started.
    #[arg(long, value_enum, default_value_t = LauncherKind::Local)]
    pub launcher: LauncherKind,
    /// Form of the table.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Write the scores of all runs, beside those of rules that learn nothing and published ones, to
    /// this Markdown file.
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub results: Option<PathBuf>,
    /// No progress on stderr.
    #[arg(long)]
    pub quiet: bool,
}

/// What else can be done with sweeps.
#[derive(Debug, Subcommand)]
pub enum SweepAction {
    /// Show how far sweeps are, from the run folders and Slurm's queue.
    Status {
        /// Folders of sweeps [default: all in runs/sweeps].
        #[arg(value_name = "SWEEP_DIR")]
        sweeps: Vec<PathBuf>,
        /// Folder of the run folders.
        #[arg(long, value_name = "DIR", default_value = "runs")]
        runs: PathBuf,
    },
    /// Run the settings that another program asks for, as JSON lines on stdin and stdout.
    Serve {
        /// The manifest, and values for all runs.
        #[command(flatten)]
        selection: SweepSelection,
        /// Folder of the run folders.
        #[arg(long, value_name = "DIR", default_value = "runs")]
        runs: PathBuf,
    },
    /// Work on runs of a plan, for Slurm.
    #[command(hide = true)]
    Task {
        /// The folder of the sweep.
        sweep: PathBuf,
        /// Line of the plan, from 0.
        index: usize,
        /// Threads of the run.
        #[arg(long, default_value_t = 0)]
        threads: usize,
    },
}

/// Arguments of `meta sweep-worker`.
#[derive(Debug, Args)]
pub struct SweepWorkerArgs {
    /// The folder of the sweep.
    pub sweep: PathBuf,
    /// Line of the plan, from 0.
    pub index: usize,
    /// Threads, 0 for one per core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// The iteration at which the run pauses.
    #[arg(long)]
    pub until: Option<u64>,
}

/// How differences are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TestKind {
    /// Student's paired t-test.
    T,
    /// Wilcoxon's signed-rank test.
    Wilcoxon,
}

/// Which differences are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pairs {
    /// Every pair of groups.
    All,
    /// The first row against every other one.
    First,
    /// None.
    None,
}

/// Arguments of `meta compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Run folders, or folders of run folders [default: runs].
    pub runs: Vec<PathBuf>,
    /// What is compared: `score` (of the test), `score@N` (after N adaptation steps),
    /// `log_likelihood` (of learners that predict densities), `loss`, `validation`,
    /// `train_seconds`, `iterations`, `parameters`.
    #[arg(long, default_value = "score")]
    pub metric: String,
    /// Keys by which runs are grouped, separated by commas [default: every setting but the seed].
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub group_by: Vec<String>,
    /// Column by which rows are sorted: the metric, a key, or `n`; with `-` in front the other way
    /// round [default: best first].
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// Only runs for which this holds, such as `learner.name=maml`, `train.lr<0.01`, `tag=paper`;
    /// several must all hold.
    #[arg(long = "where", value_name = "CONDITION")]
    pub conditions: Vec<String>,
    /// Which differences are shown [default: all for up to 6 rows, first for up to 50, none above].
    #[arg(long, value_enum)]
    pub pairs: Option<Pairs>,
    /// Only differences between rows that are told apart by this one of the keys (an ablation), with
    /// their interval over seeds beside.
    #[arg(long, value_name = "KEY", conflicts_with = "pairs")]
    pub contrast: Option<String>,
    /// How differences are tested.
    #[arg(long, value_enum, default_value_t = TestKind::T)]
    pub test: TestKind,
    /// Form of the tables.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Arguments of `meta diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A run folder or a manifest.
    pub a: PathBuf,
    /// Another one.
    pub b: PathBuf,
    /// Form of the table.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Arguments of `meta runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// What to do [default: list].
    #[command(subcommand)]
    pub action: Option<RunsAction>,
    /// Folder of the run folders.
    #[arg(long, value_name = "DIR", default_value = "runs", global = true)]
    pub runs: PathBuf,
}

/// What can be done with runs. A run is named by its folder, its folder's name or the first digits of
/// its identity.
#[derive(Debug, Subcommand)]
pub enum RunsAction {
    /// List runs.
    List {
        /// Only runs for which this holds, such as `state=failed`, `learner.name=maml`, `tag=paper`.
        #[arg(long = "where", value_name = "CONDITION")]
        conditions: Vec<String>,
        /// Form of the table.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Put a tag on runs, or take it off.
    Tag {
        /// The tag: letters, digits, `-`, `_`, `.`.
        tag: String,
        /// The runs.
        #[arg(required = true, value_name = "RUN")]
        names: Vec<String>,
        /// Take it off.
        #[arg(long)]
        remove: bool,
    },
    /// Move runs to the trash folder, runs/.trash.
    Remove {
        /// The runs.
        #[arg(required = true, value_name = "RUN")]
        names: Vec<String>,
    },
    /// Move all runs without a result to the trash folder, but those that a process works on.
    Clean {
        /// Only show them.
        #[arg(long)]
        dry_run: bool,
    },
    /// Compare the files of finished runs with their checksums.
    Verify {
        /// The runs [default: all].
        #[arg(value_name = "RUN")]
        names: Vec<String>,
    },
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

/// Arguments of `meta explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The run folder.
    pub run_dir: PathBuf,
    /// Changes, as for `meta eval`.
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Numbers of the episodes, separated by commas [default: the first three].
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        conflicts_with = "count"
    )]
    pub episodes: Vec<u64>,
    /// The first so many episodes.
    #[arg(long, value_name = "N")]
    pub count: Option<usize>,
    /// Part of the source: train, validation or test.
    #[arg(long, default_value = "test")]
    pub split: String,
    /// Queries of each class in a picture [default: about ten in all; of regression every one].
    #[arg(long, value_name = "N")]
    pub queries: Option<usize>,
    /// Episodes of the deletion check, the first ones; 0 for none [default: 100].
    #[arg(long, value_name = "N")]
    pub deletion_episodes: Option<usize>,
    /// The folder to write [default: RUN_DIR/explain].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace what an earlier `meta explain` wrote there.
    #[arg(long)]
    pub force: bool,
    /// Folder that data sets lie in [default: that of the run].
    #[arg(long, env = "META_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
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
    /// Optimisers of the outer loop.
    Optimizers,
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
    /// The run folder; with `--x`, a folder of run folders.
    pub run_dir: PathBuf,
    /// The picture to write.
    pub out: PathBuf,
    /// Draw the scores of all finished runs over this numeric setting, such as `data.tasks`.
    #[arg(long, value_name = "KEY")]
    pub x: Option<String>,
    /// Make the axis of that setting logarithmic.
    #[arg(long, requires = "x")]
    pub log_x: bool,
    /// Only runs for which this holds, as for `meta compare`; several must all hold.
    #[arg(long = "where", value_name = "CONDITION", requires = "x")]
    pub conditions: Vec<String>,
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
    /// Add what was measured to this file, one line of JSON for each call.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["peers", "export", "scaling", "plot"])]
    pub history: Option<PathBuf>,
    /// Say what became slower than in this file, of --json or --history (its last line); exit code 1
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
    /// Python that has the peers installed.
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

/// Arguments of `meta bench-one`.
#[derive(Debug, Args)]
pub struct BenchOneArgs {
    /// The workload, or `gemm` for the peak of the machine.
    pub workload: String,
    /// The backend.
    #[arg(long)]
    pub backend: String,
    /// This many meta-iterations and nothing else, not even a warm-up.
    #[arg(long, value_name = "N")]
    pub iterations: Option<usize>,
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

/// Arguments of `meta equivalence`.
#[derive(Debug, Args)]
pub struct EquivalenceArgs {
    /// Backends, separated by commas; one that cannot be run is then an error [default: all that the
    /// toolkit knows, those that cannot be run marked as such]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub backends: Vec<String>,
    /// Print everything as one JSON array on stdout
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `meta equivalence-one`.
#[derive(Debug, Args)]
pub struct EquivalenceOneArgs {
    /// The backend
    #[arg(long, value_name = "NAME")]
    pub backend: String,
    /// The precision
    #[arg(long, value_name = "NAME", value_parser = precision)]
    pub precision: Precision,
}

fn precision(name: &str) -> Result<Precision, String> {
    serde_json::from_value(serde_json::Value::String(name.to_owned()))
        .map_err(|_| "expected f32, f64, f16 or bf16".to_owned())
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
    /// The manifest reference (`docs/manifest.md`), on stdout, from the settings themselves.
    Manifest,
    /// The table of learners of the README, on stdout.
    Learners,
    /// Searches by random and by TPE with equal budgets, on stdout.
    Searches {
        /// Folders of sweeps.
        #[arg(required = true)]
        sweeps: Vec<PathBuf>,
    },
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
