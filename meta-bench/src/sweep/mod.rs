//! `meta sweep`: starts many runs from manifests and axes.
//!
//! [`selection`] and [`spec`] read what was asked for, and [`expand`] makes points of it. [`plan`] checks
//! and names every run before the first one starts. [`local`] and [`slurm`] start runs; [`halving`] and
//! [`tpe`] choose them by the results of others. A run is named by its content, so finished runs are never
//! repeated, and the same command resumes wherever the last one stopped.

mod expand;
mod halving;
mod live;
mod local;
mod plan;
mod prepare;
mod ranges;
mod runs;
pub mod search;
mod selection;
mod serve;
pub mod slurm;
mod sourced;
pub mod spec;
mod status;
mod task;
mod tpe;
pub mod trials;
pub mod worker;

use std::{collections::HashMap, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use meta_core::{backend::backends, toolkit::Toolkit};
use serde_json::Value;

use crate::{
    command::Execute,
    failure::{CommandError, Result},
    finished,
    machine::{available_bytes, cores},
    output::{
        print,
        table::{Cell, Format, Table},
        target::{RESULTS, check_target, write_over},
        units::{bytes_text, duration_text},
    },
    run::state::State,
};
use halving::halve;
use local::Launcher;
use prepare::Sweep;
use runs::{Run, Swept, count_stopped, label_cells, label_keys, results, tasks};
use selection::SweepSelection;
use tpe::search_by_tpe;

/// Run a manifest, or many, over seeds and settings; resume where it stopped.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct SweepArgs {
    /// Another action than running it.
    #[command(subcommand)]
    action: Option<SweepAction>,
    /// Which runs.
    #[command(flatten)]
    selection: Option<SweepSelection>,
    /// Folder with the run folders.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    runs: PathBuf,
    /// Show what would run, with identities, forecasts and what is already done; start nothing.
    #[arg(long)]
    dry_run: bool,
    /// Runs at the same time, each with its share of the cores [default: one per core, as far as the
    /// forecast memory allows; 1 on a GPU].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Try failed runs again.
    #[arg(long)]
    retry: bool,
    /// Stop all runs as soon as one fails.
    #[arg(long)]
    fail_fast: bool,
    /// Where the runs start.
    #[arg(long, value_enum, default_value_t = LauncherKind::Local)]
    launcher: LauncherKind,
    /// Form of the table.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write the scores of all runs to this Markdown file, beside published ones and those of a baseline
    /// that learns nothing.
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    results: Option<PathBuf>,
    /// No progress on stderr.
    #[arg(long)]
    quiet: bool,
}

/// What else can be done with sweeps.
#[derive(Debug, Subcommand)]
enum SweepAction {
    /// Show how far sweeps are, from the run folders and Slurm's queue.
    Status {
        /// Folders of sweeps [default: all in runs/sweeps].
        #[arg(value_name = "SWEEP_DIR")]
        sweeps: Vec<PathBuf>,
        /// Folder with the run folders.
        #[arg(long, value_name = "DIR", default_value = "runs")]
        runs: PathBuf,
    },
    /// Run the settings that another program asks for, as JSON lines on stdin and stdout.
    Serve {
        /// The manifest, and values for all runs.
        #[command(flatten)]
        selection: SweepSelection,
        /// Folder with the run folders.
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
        /// Threads of the run, of each of its processes.
        #[arg(long, default_value_t = 0)]
        threads: usize,
        /// Processes of the run.
        #[arg(long, default_value_t = 1)]
        processes: u64,
        /// How `srun` connects them.
        #[arg(long, default_value = "pmix")]
        mpi: String,
    },
}

/// Where the runs of a sweep are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LauncherKind {
    /// On this machine, in worker processes.
    Local,
    /// By Slurm, as one job array, with the settings of `[slurm]`.
    Slurm,
}

impl Execute for SweepArgs {
    /// Runs the sweep, or shows what it would run.
    ///
    /// # Errors
    /// Whatever is wrong with a manifest or an axis; [`CommandError::Runs`] when runs failed.
    fn execute<T: Toolkit>(self) -> Result<()> {
        match &self.action {
            Some(SweepAction::Status { sweeps, runs }) => return status::status(sweeps, runs),
            Some(SweepAction::Serve { selection, runs }) => {
                return serve::serve::<T>(selection, runs);
            }
            Some(SweepAction::Task {
                sweep,
                index,
                threads,
                processes,
                mpi,
            }) => {
                let by = slurm::starter(*processes, mpi);
                return slurm::task(sweep, *index, *threads, by);
            }
            None => {}
        }
        let selection = self.selection.as_ref().ok_or_else(|| {
            CommandError::Usage("expected a manifest; `meta sweep --help` shows how".to_owned())
        })?;
        if self.jobs == Some(0) {
            return Err(CommandError::Usage(
                "`--jobs 0`: must be at least 1".to_owned(),
            ));
        }
        if let Some(path) = &self.results {
            check_target(path, RESULTS)?;
        }
        let elsewhere = self.launcher == LauncherKind::Slurm;
        let sweep = Sweep::<T>::new(selection, &self.runs, elsewhere)?;
        let jobs = self.jobs.unwrap_or_else(|| jobs(&sweep.runs));
        if self.dry_run {
            return dry_run(&sweep, &self, jobs);
        }
        let outcome = match self.launcher {
            LauncherKind::Slurm => return slurm::launch(&sweep, self.retry, self.format),
            LauncherKind::Local => run_locally(&sweep, &self, jobs)?,
        };
        print(&results(&outcome.runs, &outcome.left).render(self.format))?;
        if let Some(path) = &self.results {
            let folders = outcome.runs.iter().map(|run| run.planned.folder.clone());
            let finished: Vec<PathBuf> = folders
                .filter(|folder| State::of(folder) == State::Finished)
                .collect();
            let page = finished::results::results::<T>(&finished, sweep.data.as_deref())?;
            write_over(path, page.as_bytes(), RESULTS)?;
        }
        outcome.verdict(&sweep.folder)
    }
}

fn run_locally<T: Toolkit>(sweep: &Sweep<T>, args: &SweepArgs, jobs: usize) -> Result<Swept> {
    let launcher = Launcher {
        sweep: sweep.folder.clone(),
        jobs,
        fail_fast: args.fail_fast,
        quiet: args.quiet,
        by: Vec::new(),
    };
    if sweep.same > 0 {
        launcher.say(&format!(
            "{} runs are the same as others and run once",
            sweep.same
        ));
    }
    if let Some(set) = sweep.tpe() {
        return search_by_tpe(sweep, set, &launcher, args.retry);
    }
    sweep.write_plan(&sweep.runs)?;
    let halving = sweep
        .sets
        .iter()
        .find_map(|set| Some((set.spec.halving?, set.spec.objective)));
    let (stopped, left) = match halving {
        Some((halving, objective)) => {
            halve(&sweep.runs, halving, objective, &launcher, args.retry)?
        }
        None => {
            let tasks = tasks(&sweep.runs, args.retry);
            launcher.say(&format!(
                "{} of {} runs to do, {jobs} side by side; {}",
                tasks.len(),
                sweep.runs.len(),
                sweep.folder.display()
            ));
            (count_stopped(&launcher.run(&tasks)?), HashMap::new())
        }
    };
    for set in &sweep.sets {
        if set.spec.search.is_some() {
            search::write_trials(&sweep.folder, &set.spec, &sweep.runs)?;
        }
    }
    Ok(Swept {
        runs: sweep.runs.clone(),
        stopped,
        fail_fast: args.fail_fast,
        left,
    })
}

/// Workers that the machine has cores and, by the forecast, memory for.
fn jobs(runs: &[Run]) -> usize {
    let gpu = |run: &Run| {
        let name = &run.planned.manifest.run.backend;
        let mut known = backends().into_iter();
        known.any(|info| info.name == name && info.accelerator)
    };
    if runs.iter().any(gpu) {
        return 1;
    }
    let largest = runs
        .iter()
        .map(|run| run.planned.forecast.total_bytes())
        .max()
        .unwrap_or(0);
    let fitting = available_bytes().map_or(usize::MAX, |bytes| {
        // A fifth is left to everything else.
        usize::try_from(bytes / 5 * 4 / largest.max(1)).unwrap_or(usize::MAX)
    });
    cores().min(fitting).min(runs.len()).max(1)
}

fn dry_run<T: Toolkit>(sweep: &Sweep<T>, args: &SweepArgs, jobs: usize) -> Result<()> {
    let runs = &sweep.runs;
    let keys = label_keys(runs.iter().map(|run| run.planned.label.as_slice()));
    let mut columns = vec!["run".to_owned()];
    columns.extend(keys.iter().cloned());
    columns.extend(["state", "time", "memory"].map(str::to_owned));
    let mut table = Table::new(columns);
    let mut seconds = 0.0;
    let mut left = 0;
    let mut unknown = false;
    for run in runs {
        let planned = &run.planned;
        let due = planned.state != State::Finished
            && match planned.state {
                State::Failed(_) => args.retry,
                State::Foreign(_) => false,
                _ => true,
            };
        if due {
            left += 1;
            seconds += planned.seconds.unwrap_or(0.0);
            unknown |= planned.seconds.is_none();
        }
        let mut row = vec![Cell::from(planned.short())];
        row.extend(label_cells(&keys, &planned.label));
        row.push(planned.state.name().into());
        row.push(match planned.seconds {
            Some(seconds) => Cell::new(duration_text(seconds), seconds),
            None => Cell::new("–", Value::Null),
        });
        let bytes = planned.forecast.total_bytes();
        row.push(Cell::new(bytes_text(bytes), bytes));
        table.rows.push(row);
    }
    print(&table.render(args.format))?;
    if sweep.tpe().is_some() {
        eprintln!("the ends of the ranges; the search chooses its runs one after the other");
    }
    let longer = if unknown { " or more" } else { "" };
    eprintln!(
        "{left} of {} runs to do, about {}{longer} with {jobs} side by side; {}",
        runs.len(),
        duration_text(seconds / jobs as f64),
        sweep.folder.display()
    );
    Ok(())
}
