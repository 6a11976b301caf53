//! The binary `meta` as a library: manifests, runs, evaluation and reports.
//!
//! A crate with learners of its own gets the whole binary by declaring a [`Toolkit`] and calling
//! [`main_with`] in its `main`.

mod child;
mod cli;
mod compare;
mod curve;
pub mod experiment;
mod explain;
pub mod failure;
mod floor;
mod forecast;
mod gradcheck;
mod list;
pub mod manifest;
mod picture;
mod plot;
mod progress;
mod reference;
pub mod report;
mod results;
mod runner;
mod runs;
mod store;
mod sweep;
mod table;
mod throughput;

use std::{io::Write, path::Path, process::ExitCode};

use clap::Parser;
use meta_core::{Error, data::Split, rng::Seed};

use cli::{CheckArgs, Cli, Command, ContactSheetArgs, DocsKind, ListArgs, ManifestArgs};
use experiment::{Experiment, start_threads};
use failure::{Failure, Result};
use manifest::Manifest;
pub use meta_algos::BuiltIn;
pub use meta_core::toolkit::{Catalogue, Toolkit};
use report::TestResult;

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
        Failure::Usage(format!(
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
        Command::Run(args) => show(&runner::run::<T>(&args)?, args.json, args.quiet),
        Command::Sweep(args) => sweep::sweep::<T>(&args),
        Command::SweepWorker(args) => sweep::worker::work::<T>(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Diff(args) => compare::diff::<T>(&args),
        Command::Runs(args) => runs::runs(&args),
        Command::Eval(args) => show(&runner::eval::<T>(&args)?, args.json, args.quiet),
        Command::Explain(args) => explain::explain::<T>(&args),
        Command::Check(args) => check::<T>(&args),
        Command::Trial(args) => forecast::trial::<T>(&args),
        Command::List(args) => list::<T>(&args),
        Command::ContactSheet(args) => contact_sheet::<T>(&args),
        Command::Plot(args) => match &args.x {
            Some(key) => {
                curve::plot_curve(&args.run_dir, key, args.log_x, &args.conditions, &args.out)
            }
            None => plot::plot_run(
                &args.run_dir,
                &runner::read_result(&args.run_dir)?,
                &args.out,
            ),
        },
        Command::Bench(args) => throughput::bench::<T>(&args),
        Command::BenchOne(args) => throughput::bench_one::<T>(&args),
        Command::Gradcheck(args) => gradcheck::gradcheck::<T>(&args),
        Command::Equivalence(args) => gradcheck::equivalence::equivalence(&args),
        Command::EquivalenceOne(args) => gradcheck::equivalence::one::<T>(&args),
        Command::Docs(args) => match args.what {
            DocsKind::Manifest => print(&reference::manifest_reference(&Catalogue::of::<T>())),
            DocsKind::Learners => print(&list::learner_table(&Catalogue::of::<T>())),
            DocsKind::Results { runs, data } => {
                print(&results::results::<T>(&runs, data.as_deref())?)
            }
            DocsKind::Searches { sweeps } => print(&sweep::compare_searches(&sweeps)?),
        },
    }
}

/// Prints to stdout; a reader that has gone (`meta list | head -1`) is no error.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io(Path::new("stdout"), "write", error).into())
        }
        _ => Ok(()),
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
        forecast::trial_of(&args.manifest)?.lines()
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
