//! `meta sweep`: many runs from manifests and axes.
//!
//! [`spec`] reads what was asked for, [`expand`] makes points of it, [`plan`] checks and names every
//! run before the first one starts, [`local`] and [`slurm`] start them, [`search`] chooses runs by
//! the results of others. A run is named by its content, so that what is done is never done again,
//! and the same command goes on wherever the last one was stopped.

mod expand;
mod local;
mod plan;
mod search;
mod serve;
mod slurm;
mod spec;
mod status;
pub mod worker;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use meta_core::{files::write_atomically, train::eval};
use serde_json::Value;

pub use plan::{State, folders};
pub use search::compare_searches;
pub use slurm::SlurmSettings;

use crate::{
    Toolkit,
    cli::{LauncherKind, SweepAction, SweepArgs, SweepSelection},
    experiment::memory::bytes_text,
    failure::{CommandError, Result},
    manifest::Base,
    output::print,
    output::progress::{duration_text, score_text},
    output::table::{Cell, Table},
    run::read_result,
};
use expand::Point;
use local::{Launcher, Outcome, Task};
use plan::{Planned, Planner};
use spec::{Method, Spec};

/// Cores of this machine, or those that the environment grants.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A manifest with its sweep.
struct Set {
    base: Base,
    spec: Spec,
}

/// Tells manifests from `key=value`.
fn sort_inputs(inputs: &[String]) -> (Vec<PathBuf>, Vec<String>) {
    let setting = |input: &&String| input.contains('=') && !input.ends_with(".toml");
    let (settings, manifests): (Vec<&String>, Vec<&String>) = inputs.iter().partition(setting);
    (
        manifests.into_iter().map(PathBuf::from).collect(),
        settings.into_iter().cloned().collect(),
    )
}

impl SweepSelection {
    fn read(&self) -> Result<Vec<Set>> {
        let (manifests, settings) = sort_inputs(&self.inputs);
        if manifests.is_empty() {
            return Err(CommandError::Usage(
                "expected at least one manifest, a TOML file, besides axes and values".to_owned(),
            ));
        }
        let memory = match &self.memory {
            None => None,
            Some(text) => Some(spec::bytes(text).ok_or_else(|| {
                CommandError::Usage(format!("`--memory {text}`: {}", spec::MEMORY_FORM))
            })?),
        };
        manifests
            .iter()
            .map(|path| {
                let base = Base::read(path)?;
                let mut spec = Spec::read(&base.documents, &settings, self.trials.as_deref())?;
                spec.search_seed = self.search_seed.unwrap_or(spec.search_seed);
                spec.memory = memory.or(spec.memory);
                spec.check_cap()?;
                Ok(Set { base, spec })
            })
            .collect()
    }
}

/// A planned run with what its manifest's sweep says about it.
#[derive(Clone)]
struct Run {
    planned: Planned,
    memory: Option<u64>,
}

/// A sweep that is planned: every run is good.
struct Sweep<T> {
    sets: Vec<Set>,
    planner: Planner<T>,
    runs: Vec<Run>,
    /// Runs that are the same as others before them.
    same: usize,
    /// The folder of the sweep.
    folder: PathBuf,
    data: Option<PathBuf>,
}

impl<T: Toolkit> Sweep<T> {
    fn new(selection: &SweepSelection, runs_folder: &Path) -> Result<Self> {
        let sets = selection.read()?;
        let planner = Planner::<T>::new(runs_folder, selection.data.as_deref());
        let many = sets.len() > 1;
        let mut runs = Vec::new();
        let mut seen = HashSet::new();
        let mut same = 0;
        let mut identity = blake3::Hasher::new();
        for set in &sets {
            let points = match set
                .spec
                .search
                .as_ref()
                .filter(|search| search.method == Method::Tpe)
            {
                Some(search) => {
                    search::check(&set.spec, many)?;
                    search
                        .corners()
                        .iter()
                        .flat_map(|corner| set.spec.trial(0, corner))
                        .collect()
                }
                None => set.spec.points(),
            };
            let planned = set.plan(&planner, &points, many)?;
            if let Some(search) = &set.spec.search {
                let text = format!("{:?} {}\n", search, set.spec.search_seed);
                identity.update(text.as_bytes());
            }
            let tpe = |search: &spec::Search| search.method == Method::Tpe;
            if set.spec.halving.is_some() || set.spec.search.as_ref().is_some_and(tpe) {
                search::check_runs(&set.spec, &planned)?;
            }
            for planned in planned {
                identity.update(planned.hash.as_bytes());
                if seen.insert(planned.hash.clone()) {
                    runs.push(Run {
                        planned,
                        memory: set.spec.memory,
                    })
                } else {
                    same += 1
                }
            }
        }
        let name = match (sets.as_slice(), runs.first()) {
            ([_], Some(run)) => run.planned.manifest.run.name.clone(),
            _ => "sweep".to_owned(),
        };
        let identity = identity.finalize().to_hex();
        Ok(Sweep {
            folder: runs_folder
                .join("sweeps")
                .join(format!("{name}-{}", &identity[..12])),
            sets,
            planner,
            runs,
            same,
            data: selection.data.clone(),
        })
    }

    /// The search that looks at results, if this is one.
    fn tpe(&self) -> Option<&Set> {
        self.sets.iter().find(|set| {
            set.spec
                .search
                .as_ref()
                .is_some_and(|search| search.method == Method::Tpe)
        })
    }

    fn write_plan(&self, runs: &[Run]) -> Result<()> {
        let lines: Vec<worker::Line> = runs
            .iter()
            .map(|run| worker::Line::new(&run.planned, self.data.as_deref(), run.memory))
            .collect();
        worker::write(&self.folder, &lines)
    }
}

impl Set {
    fn plan<T: Toolkit>(
        &self,
        planner: &Planner<T>,
        points: &[Point],
        named: bool,
    ) -> Result<Vec<Planned>> {
        let mut planned = planner.plan(&self.base, points)?;
        if named {
            for planned in &mut planned {
                let name = planned.manifest.run.name.clone();
                planned.label.insert(0, ("name".to_owned(), name));
            }
        }
        Ok(planned)
    }
}

/// `meta sweep`.
///
/// # Errors
/// Whatever is wrong with a manifest or an axis; [`CommandError::Runs`] when runs failed.
pub fn sweep<T: Toolkit>(args: &SweepArgs) -> Result<()> {
    match &args.action {
        Some(SweepAction::Status { sweeps, runs }) => return status::status(sweeps, runs),
        Some(SweepAction::Serve { selection, runs }) => return serve::serve::<T>(selection, runs),
        Some(SweepAction::Task {
            sweep,
            index,
            threads,
        }) => return slurm::task(sweep, *index, *threads),
        None => {}
    }
    let selection = args.selection.as_ref().ok_or_else(|| {
        CommandError::Usage("expected a manifest; `meta sweep --help` shows how".to_owned())
    })?;
    if args.jobs == Some(0) {
        return Err(CommandError::Usage(
            "`--jobs 0`: must be at least 1".to_owned(),
        ));
    }
    let sweep = Sweep::<T>::new(selection, &args.runs)?;
    let jobs = args.jobs.unwrap_or_else(|| jobs(&sweep.runs));
    if args.dry_run {
        return dry_run(&sweep, args, jobs);
    }
    let outcome = match args.launcher {
        LauncherKind::Slurm => return slurm::launch(&sweep, args),
        LauncherKind::Local => run_locally(&sweep, args, jobs)?,
    };
    print(&results(&outcome.runs, &outcome.left).render(args.format))?;
    if let Some(path) = &args.results {
        let folders = outcome.runs.iter().map(|run| run.planned.folder.clone());
        let finished: Vec<PathBuf> = folders
            .filter(|folder| matches!(State::of(folder), State::Finished))
            .collect();
        let page = crate::finished::results::results::<T>(&finished, sweep.data.as_deref())?;
        write_atomically(path, page.as_bytes())?;
    }
    outcome.verdict(&sweep.folder)
}

/// What became of a sweep.
struct Swept {
    runs: Vec<Run>,
    /// Runs that are not finished because all were asked to stop.
    stopped: usize,
    fail_fast: bool,
    /// Runs that halving left, and at which iteration.
    left: HashMap<String, u64>,
}

impl Swept {
    fn verdict(&self, folder: &Path) -> Result<()> {
        let states = self.runs.iter().map(|run| State::of(&run.planned.folder));
        let failed = states
            .filter(|state| matches!(state, State::Failed(_)))
            .count();
        if self.stopped > 0 && (failed == 0 || !self.fail_fast) {
            return Err(CommandError::Interrupted(format!(
                "interrupted; {} of {} runs are not finished; the same command goes on",
                self.stopped,
                self.runs.len()
            )));
        }
        if failed == 0 {
            return Ok(());
        }
        let not_run = match self.stopped {
            0 => String::new(),
            stopped => format!(", {stopped} were not finished because of --fail-fast"),
        };
        Err(CommandError::Runs(format!(
            "{failed} of {} runs failed{not_run}; --retry tries them again; their logs are in {}",
            self.runs.len(),
            folder.join("logs").display()
        )))
    }
}

fn run_locally<T: Toolkit>(sweep: &Sweep<T>, args: &SweepArgs, jobs: usize) -> Result<Swept> {
    let launcher = Launcher {
        sweep: sweep.folder.clone(),
        jobs,
        fail_fast: args.fail_fast,
        quiet: args.quiet,
    };
    if sweep.same > 0 {
        launcher.say(&format!(
            "{} runs are the same as others and run once",
            sweep.same
        ));
    }
    if let Some(set) = sweep.tpe() {
        return search::tpe(sweep, set, &launcher, args.retry);
    }
    sweep.write_plan(&sweep.runs)?;
    let halving = sweep
        .sets
        .iter()
        .find_map(|set| Some((set.spec.halving?, set.spec.metric)));
    let (stopped, left) = match halving {
        Some((halving, metric)) => {
            search::halve(&sweep.runs, halving, metric, &launcher, args.retry)?
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

fn count_stopped(outcomes: &[Outcome]) -> usize {
    outcomes
        .iter()
        .filter(|outcome| **outcome == Outcome::Stopped)
        .count()
}

/// Runs that are to be worked on: neither finished, nor failed unless they are tried again.
fn tasks(runs: &[Run], retry: bool) -> Vec<Task> {
    let due = |(_, run): &(usize, &Run)| match State::of(&run.planned.folder) {
        State::Finished => false,
        State::Failed(_) => retry,
        _ => true,
    };
    let task = |(index, run): (usize, &Run)| Task {
        index,
        short: run.planned.short().to_owned(),
        folder: run.planned.folder.clone(),
        title: run.planned.title(),
        threads: run.planned.manifest.run.threads,
        memory: run.memory,
        until: None,
    };
    runs.iter().enumerate().filter(due).map(task).collect()
}

/// Workers that the machine has cores and, by the forecast, memory for.
fn jobs(runs: &[Run]) -> usize {
    let gpu = |run: &Run| {
        let name = &run.planned.manifest.run.backend;
        let mut known = meta_core::backend::backends().into_iter();
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
    let fitting = available_memory().map_or(usize::MAX, |bytes| {
        // A fifth is left to everything else.
        (bytes / 5 * 4) / largest.max(1)
    });
    cores().min(fitting).min(runs.len()).max(1)
}

/// Bytes that programs can still have, where the system tells.
fn available_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Keys of the labels of `runs`, in the order in which they come.
fn label_keys<'a>(labels: impl Iterator<Item = &'a [(String, String)]>) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for (key, _) in labels.flatten() {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    keys
}

fn label_cells(keys: &[String], label: &[(String, String)]) -> Vec<Cell> {
    keys.iter()
        .map(|key| match label.iter().find(|(name, _)| name == key) {
            Some((_, value)) => Cell::from(value.clone()),
            None => Cell::new("–", Value::Null),
        })
        .collect()
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
            && (args.retry || !matches!(planned.state, State::Failed(_)));
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

/// The table at the end: what became of every run. It holds nothing that differs between a sweep
/// that was stopped and one that was not.
fn results(runs: &[Run], left: &HashMap<String, u64>) -> Table {
    let keys = label_keys(runs.iter().map(|run| run.planned.label.as_slice()));
    let mut columns = vec!["run".to_owned()];
    columns.extend(keys.iter().cloned());
    columns.extend(["state", "score"].map(str::to_owned));
    let mut table = Table::new(columns);
    for run in runs {
        let planned = &run.planned;
        let state = State::of(&planned.folder);
        let mut row = vec![Cell::from(planned.short())];
        row.extend(label_cells(&keys, &planned.label));
        row.push(match left.get(&planned.hash) {
            Some(iteration) if state == State::Unfinished => {
                format!("left at iteration {iteration}").into()
            }
            _ => state.name().into(),
        });
        row.push(match &state {
            State::Finished => match read_result(&planned.folder) {
                Ok(result) => Cell::new(score(&result), result.mean),
                Err(error) => Cell::new(error.to_string(), Value::Null),
            },
            State::Failed(error) => failure_cell(error),
            _ => Cell::new("–", Value::Null),
        });
        table.rows.push(row);
    }
    table
}

/// Why a run failed, without the advice that a table has no room for.
pub fn failure_cell(error: &str) -> Cell {
    Cell::new(error.split("; ").next().unwrap_or_default(), Value::Null)
}

/// A result's score with its interval over episodes.
pub fn score(result: &crate::run::result::TestResult) -> String {
    let interval = meta_core::stats::Interval {
        mean: result.mean,
        half_width: result.ci95,
        level: 0.95,
        method: result.method,
        n: result.episodes,
    };
    let unit = match result.metric {
        eval::Metric::Accuracy => "",
        eval::Metric::MeanSquaredError => " MSE",
    };
    format!("{}{unit}", score_text(result.metric, interval))
}
