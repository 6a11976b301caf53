//! `meta sweep-worker`: works on one run of a plan, in a process of its own.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use clap::Args;
use meta_core::{
    Error,
    files::{read_text, remove_abandoned, temporary_of, write_atomically},
    toolkit::{Catalogue, Toolkit},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{local::BUSY, plan::Planned};
use crate::{
    command::Execute,
    experiment::{Experiment, start_threads},
    failure::{CommandError, Result},
    manifest::Manifest,
    run::{interrupt::STOP, session::work, together::Together},
};

/// Work on one run of a sweep, for `meta sweep`.
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct SweepWorkerArgs {
    /// The folder of the sweep.
    sweep: PathBuf,
    /// Line of the plan, from 0.
    index: usize,
    /// Threads, 0 for one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// The iteration at which the run pauses.
    #[arg(long)]
    until: Option<u64>,
}

/// The largest plan.
const MOST_BYTES: u64 = 4 << 30;

/// The file with the runs of a sweep, one a line.
pub const PLAN: &str = "plan.jsonl";
/// The folder with what the workers say.
pub const LOGS: &str = "logs";

/// A run as the plan holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Identity of the run.
    pub hash: String,
    /// Its folder.
    pub folder: PathBuf,
    /// What tells it from the other runs.
    pub label: Vec<(String, String)>,
    /// Folder with the data sets.
    pub data: Option<PathBuf>,
    /// Bytes that it may use.
    pub memory: Option<u64>,
    /// Values of its manifest.
    pub manifest: Value,
    /// Their origins.
    pub origins: BTreeMap<String, String>,
}

impl Line {
    /// The line of a planned run.
    pub fn new(planned: &Planned, data: Option<&Path>, memory: Option<u64>) -> Self {
        let data = data.map(|data| std::path::absolute(data).unwrap_or_else(|_| data.to_owned()));
        Line {
            hash: planned.hash.clone(),
            folder: planned.folder.clone(),
            label: planned.label.clone(),
            data,
            memory,
            manifest: planned.manifest.values(),
            origins: planned.manifest.origins(),
        }
    }
}

/// Files of the folder of a sweep.
const FILES: [&str; 5] = [
    PLAN,
    "search.json",
    "trials.csv",
    "array.sh",
    "slurm-jobs.txt",
];

/// Refuses a folder that is not that of a sweep.
fn check_own(sweep: &Path) -> Result<()> {
    let own = match std::fs::read_to_string(sweep.join(PLAN)) {
        Ok(text) => text
            .lines()
            .all(|line| serde_json::from_str::<Line>(line).is_ok()),
        // One that a kill came before has an empty folder of logs.
        Err(_) => std::fs::read_dir(sweep)
            .into_iter()
            .flatten()
            .flatten()
            .all(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                name == LOGS || temporary_of(&name) == Some(PLAN)
            }),
    };
    if own {
        Ok(())
    } else {
        Err(CommandError::Usage(format!(
            "{}: expected the folder of a sweep or nothing, found a folder without a readable {PLAN}; it is \
             left as it is",
            sweep.display()
        )))
    }
}

/// Writes the plan of the sweep in `sweep`.
///
/// # Errors
/// When it cannot be written, or something else is in the folder.
pub fn write(sweep: &Path, lines: &[Line]) -> Result<()> {
    check_own(sweep)?;
    let logs = sweep.join(LOGS);
    std::fs::create_dir_all(&logs).map_err(|error| Error::io(&logs, "create folder", error))?;
    remove_abandoned(sweep, |name| FILES.contains(&name))?;
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line).expect("a plan serialises"));
        text.push('\n');
    }
    Ok(write_atomically(&sweep.join(PLAN), text.as_bytes())?)
}

/// Reads the plan of the sweep in `sweep`.
///
/// # Errors
/// When there is none.
pub fn read(sweep: &Path) -> Result<Vec<Line>> {
    let path = sweep.join(PLAN);
    let text = read_text(&path, MOST_BYTES)?;
    // The run folders are beside `sweeps`, wherever the plan was written from.
    let runs = sweep.parent().and_then(Path::parent);
    let line = |text: &str| -> Result<Line> {
        let mut line: Line = serde_json::from_str(text).map_err(|error| {
            CommandError::from(Error::data(&path, format!("is damaged: {error}")))
        })?;
        if line.hash.len() != 64 || !line.hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            let found = format!("is damaged: `{}` is no identity of a run", line.hash);
            return Err(Error::data(&path, found).into());
        }
        if let (Some(runs), Some(name)) = (runs, line.folder.file_name()) {
            line.folder = runs.join(name);
        }
        Ok(line)
    };
    text.lines().map(line).collect()
}

impl Execute for SweepWorkerArgs {
    /// Works on one run of a plan until it is done, or standard input ends.
    ///
    /// # Errors
    /// Whatever goes wrong with the run.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let together = Together::start()?;
        together.close(self.work::<T>(&together))
    }
}

impl SweepWorkerArgs {
    fn work<T: Toolkit>(&self, together: &Together) -> Result<()> {
        // Asked to stop, it saves itself, however often it is asked: who wants more kills it.
        ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed))
            .map_err(|error| CommandError::Usage(format!("cannot listen for signals: {error}")))?;
        std::thread::spawn(|| {
            // What comes is nothing; that it ends is the message.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            STOP.store(true, Ordering::Relaxed);
        });
        let (experiment, folder) = together.agree(self.prepare::<T>(together))?;
        together.compare(&experiment)?;
        let until = self.until.unwrap_or(u64::MAX);
        let worked = work::<T>(experiment, folder, until, together);
        if let Err(CommandError::Busy(message)) = worked.as_ref().map_err(CommandError::itself) {
            eprintln!("{message}");
            std::process::exit(i32::from(BUSY))
        }
        worked
    }

    /// The run, and its folder.
    fn prepare<T: Toolkit>(&self, together: &Together) -> Result<(Experiment<T>, PathBuf)> {
        let lines = read(&self.sweep)?;
        let line = lines.get(self.index).ok_or_else(|| {
            CommandError::Usage(format!(
                "{}: has {} runs, no run {}",
                self.sweep.display(),
                lines.len(),
                self.index
            ))
        })?;
        let manifest = Manifest::from_record(&line.manifest, &line.origins, &Catalogue::of::<T>())?;
        start_threads(together.threads(self.threads))?;
        let experiment = Experiment::<T>::prepare(manifest, line.data.as_deref())?;
        if experiment.hash() != line.hash {
            return Err(CommandError::Usage(format!(
                "{}: the data or this program changed since the sweep was planned; start it again",
                self.sweep.display()
            )));
        }
        Ok((experiment, line.folder.clone()))
    }
}
