//! Command-line arguments: the list of commands, one line each.
//!
//! A command owns its arguments: its file has them, their help, and what it does ([`Execute`]).

use std::sync::LazyLock;

use clap::{Parser, Subcommand};
use meta_core::{backend, processes, toolkit::Toolkit};

use crate::{
    bench::{self, messages::MessagesArgs, process::BenchOneArgs},
    command::Execute,
    contact_sheet::ContactSheetArgs,
    docs::DocsArgs,
    experiment::{check::CheckArgs, trial::TrialArgs},
    explain::ExplainArgs,
    export::ExportArgs,
    failure::Result,
    finished::{
        compare::CompareArgs, diff::DiffArgs, plot::PlotArgs, report::ReportArgs, runs::RunsArgs,
    },
    gradcheck::{
        GradcheckArgs,
        equivalence::{EquivalenceArgs, EquivalenceOneArgs},
    },
    init::InitArgs,
    list::ListArgs,
    machine::commit,
    run::{RunArgs, eval::EvalArgs},
    shell::{CompletionsArgs, ManArgs},
    sweep::{SweepArgs, worker::SweepWorkerArgs},
    use_trained::{
        calibrate::CalibrateArgs,
        embed::EmbedArgs,
        fit::FitArgs,
        predict::PredictArgs,
        serve::{self, ServeArgs},
    },
    watch::{self, WatchArgs},
};

/// Few-shot meta-learning, from a manifest to a number you can trust.
#[derive(Debug, Parser)]
#[command(name = "meta", version = version(), arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Log level of the diagnostics on stderr: error, warn, info, debug, trace, or a filter such as
    /// `meta_core=debug`.
    #[arg(long, global = true, default_value = "warn", value_name = "LEVEL")]
    pub log: String,
}

/// What `--version` prints after the name: version, commit, and the features of this build.
fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let commit = commit();
        let backends = backend::backends().into_iter().filter(|info| info.compiled);
        let features: Vec<_> = backends
            .map(|info| info.feature)
            .chain(backend::options())
            .chain(serve::COMPILED.then_some("serve"))
            .chain(watch::COMPILED.then_some("watch"))
            .chain(processes::MPI.then_some("mpi"))
            .collect();
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "{version} (commit {commit}, features {})",
            features.join(" ")
        )
    });
    &VERSION
}

/// Declares the commands by their arguments, whose documentation is their help.
macro_rules! commands {
    ($($name:ident($arguments:ty),)*) => {
        // The variants have no documentation of their own: it would hide that of the arguments.
        #[derive(Debug, Subcommand)]
        pub enum Command {
            $($name($arguments),)*
        }

        impl Command {
            /// Does what the command asks for.
            ///
            /// # Errors
            /// As the command.
            pub fn execute<T: Toolkit>(self) -> Result<()> {
                match self {
                    $(Command::$name(arguments) => arguments.execute::<T>(),)*
                }
            }
        }
    };
}

commands! {
    Init(InitArgs),
    Run(RunArgs),
    Sweep(SweepArgs),
    SweepWorker(SweepWorkerArgs),
    Watch(WatchArgs),
    Compare(CompareArgs),
    Diff(DiffArgs),
    Runs(RunsArgs),
    Report(ReportArgs),
    Eval(EvalArgs),
    Fit(FitArgs),
    Predict(PredictArgs),
    Serve(ServeArgs),
    Embed(EmbedArgs),
    Calibrate(CalibrateArgs),
    Export(ExportArgs),
    Explain(ExplainArgs),
    Check(CheckArgs),
    Trial(TrialArgs),
    List(ListArgs),
    ContactSheet(ContactSheetArgs),
    Plot(PlotArgs),
    Bench(bench::BenchArgs),
    BenchOne(BenchOneArgs),
    Messages(MessagesArgs),
    Gradcheck(GradcheckArgs),
    Equivalence(EquivalenceArgs),
    EquivalenceOne(EquivalenceOneArgs),
    Docs(DocsArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}
