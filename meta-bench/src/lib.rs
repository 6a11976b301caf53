//! The binary `meta` as a library: manifests, runs, evaluation and reports.
//!
//! A crate with learners of its own gets the whole binary by declaring a [`Toolkit`] and calling
//! [`main_with`] in its `main`.

mod bench;
mod cli;
mod docs;
pub mod experiment;
mod explain;
pub mod failure;
mod finished;
mod gradcheck;
mod list;
pub mod manifest;
mod output;
pub mod run;
mod sweep;

use std::process::ExitCode;

use clap::Parser;
use meta_core::{Error, data::Split, rng::Seed};

use cli::{CheckArgs, Cli, Command, ContactSheetArgs, DocsKind, ListArgs, ManifestArgs};
use experiment::{Experiment, start_threads};
use failure::{CommandError, Result};
use manifest::Manifest;
pub use meta_algos::BuiltIn;
pub use meta_core::toolkit::{Catalogue, Toolkit};
use output::print;
use run::result::TestResult;

/// The binary with the learners of `meta-algos`.
pub fn main() -> ExitCode {
    main_with::<BuiltIn>()
}

/// The binary with the learners of `L`.
///
/// Exit codes: 0 when done, 1 when a check or a run of a sweep failed, 2 for anything that the user can
/// put right, 130 when interrupted.
pub fn main_with<T: Toolkit>() -> ExitCode {
    let cli = Cli::parse();
    match start_log(&cli.log).and_then(|()| execute::<T>(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn start_log(level: &str) -> Result<()> {
    // A device that fails is an error of the command; CubeCL's warnings would only say it again.
    let level = match level {
        "warn" => "warn,cubecl_common=error",
        other => other,
    };
    let filter = tracing_subscriber::EnvFilter::try_new(level).map_err(|error| {
        CommandError::Usage(format!(
            "`--log {level}`: {error}; expected error, warn, info, debug, trace or a filter"
        ))
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}

fn execute<T: Toolkit>(command: Command) -> Result<()> {
    match command {
        Command::Run(args) => show(&run::run::<T>(&args)?, args.json, args.quiet),
        Command::Sweep(args) => sweep::sweep::<T>(&args),
        Command::SweepWorker(args) => sweep::worker::work::<T>(&args),
        Command::Compare(args) => finished::compare::compare(&args),
        Command::Diff(args) => finished::compare::diff::<T>(&args),
        Command::Runs(args) => finished::runs::runs(&args),
        Command::Eval(args) => show(&run::eval::<T>(&args)?, args.json, args.quiet),
        Command::Explain(args) => explain::explain::<T>(&args),
        Command::Check(args) => check::<T>(&args),
        Command::Trial(args) => experiment::memory::trial::<T>(&args),
        Command::List(args) => list::<T>(&args),
        Command::ContactSheet(args) => contact_sheet::<T>(&args),
        Command::Plot(args) => match &args.x {
            Some(key) => finished::plot_setting::plot_curve(
                &args.run_dir,
                key,
                args.log_x,
                &args.conditions,
                &args.out,
            ),
            None => finished::plot_run::plot_run(
                &args.run_dir,
                &run::read_result(&args.run_dir)?,
                &args.out,
            ),
        },
        Command::Bench(args) => bench::bench::<T>(&args),
        Command::BenchOne(args) => bench::bench_one::<T>(&args),
        Command::Gradcheck(args) => gradcheck::gradcheck::<T>(&args),
        Command::Equivalence(args) => gradcheck::equivalence::equivalence(&args),
        Command::EquivalenceOne(args) => gradcheck::equivalence::one::<T>(&args),
        Command::Docs(args) => match args.what {
            DocsKind::Manifest => print(&docs::manifest::manifest_reference(&Catalogue::of::<T>())),
            DocsKind::Learners => print(&list::learner_table(&Catalogue::of::<T>())),
            DocsKind::Results { runs, data } => {
                print(&finished::results::results::<T>(&runs, data.as_deref())?)
            }
            DocsKind::Searches { sweeps } => print(&sweep::compare_searches(&sweeps)?),
        },
    }
}

fn show(result: &TestResult, json: bool, quiet: bool) -> Result<()> {
    if !json {
        return print(&result.summary());
    }
    if !quiet {
        eprint!("{}", result.summary());
    }
    let json = serde_json::to_string(result).expect("a result serialises");
    print(&format!("{json}\n"))
}

fn prepare<T: Toolkit>(args: &ManifestArgs) -> Result<Experiment<T>> {
    let manifest = Manifest::resolve(&args.manifest, &args.overrides, &Catalogue::of::<T>())?;
    start_threads(manifest.run.threads)?;
    Experiment::<T>::prepare(manifest, args.data.as_deref())
}

fn check<T: Toolkit>(args: &CheckArgs) -> Result<()> {
    let experiment = prepare::<T>(&args.manifest)?;
    let forecast = if args.no_trial {
        String::new()
    } else {
        experiment::memory::trial_of(&args.manifest)?.lines()
    };
    print(&format!(
        "{}\n# run folder       {}\n{forecast}",
        experiment.manifest.to_toml(),
        experiment.default_folder().display(),
    ))
}

fn list<T: Toolkit>(args: &ListArgs) -> Result<()> {
    let lists = list::lists(args.kind, &Catalogue::of::<T>());
    if args.json {
        print(&format!("{lists}\n"))
    } else {
        print(&list::table(&lists))
    }
}

fn contact_sheet<T: Toolkit>(args: &ContactSheetArgs) -> Result<()> {
    let split = Split::ALL
        .into_iter()
        .find(|split| split.name() == args.split)
        .ok_or_else(|| Error::unknown("split", &args.split, Split::ALL.map(Split::name)))?;
    let manifest = Manifest::resolve(&args.manifest, &args.overrides, &Catalogue::of::<T>())?;
    start_threads(manifest.run.threads)?;
    let source = experiment::source::<T>(&manifest, args.data.as_deref())?;
    let seed = Seed(manifest.run.seed);
    let sheet = meta_core::data::contact_sheet(
        source.as_ref(),
        seed,
        split,
        args.classes,
        args.items,
        true,
    )?;
    sheet
        .save(&args.out)
        .map_err(|error| Error::io(&args.out, "write", std::io::Error::other(error)).into())
}
