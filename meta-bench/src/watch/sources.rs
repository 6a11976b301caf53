//! Finds the runs that are watched, and their logs.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use meta_core::{Error, files::open_regular};

use super::view::Row;
use crate::{
    failure::{CommandError, Result},
    output::text::visible,
    run::{
        folder::{FAILURE, METRICS, RECORD},
        follow::Follower,
    },
    sweep::worker::{self, LOGS, PLAN},
};

/// Bytes that are read of new files in a look, of all runs together.
const BUDGET: usize = 4 << 20;
/// Time after which folders are looked through even where they seem the same.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Bytes of a log that are shown, from its end.
const MOST_LOG: u64 = 1 << 16;
/// Runs that are watched at once.
const MOST_RUNS: usize = 10_000;

/// Where runs come from.
#[derive(Debug)]
pub struct Sources {
    paths: Vec<PathBuf>,
    /// Where a path that is not there yet may come.
    may_come: bool,
    /// When the folders were changed, when they were looked through.
    changed: Vec<Option<SystemTime>>,
    looked: Option<Instant>,
}

impl Sources {
    /// Runs in `paths`, or in `runs` where there are none.
    ///
    /// # Errors
    /// When a path is neither a run, a sweep nor a folder of runs.
    pub fn new(paths: &[PathBuf]) -> Result<Self> {
        let default = || vec![PathBuf::from("runs")];
        let mut sources = Sources {
            may_come: paths.is_empty(),
            paths: if paths.is_empty() {
                default()
            } else {
                paths.to_vec()
            },
            changed: Vec::new(),
            looked: None,
        };
        sources.find()?;
        // What was there and is gone may come back.
        sources.may_come = true;
        Ok(sources)
    }

    /// The paths in words.
    pub fn text(&self) -> String {
        let paths: Vec<String> = self
            .paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        paths.join(" ")
    }

    /// Looks for runs that are new or gone, and reads what is new of those that are there; whether anything
    /// was.
    ///
    /// # Errors
    /// As [`Sources::new`].
    pub fn look(&mut self, rows: &mut Vec<Row>) -> Result<bool> {
        let mut changed = false;
        let now: Vec<Option<SystemTime>> = self.paths.iter().map(|path| modified(path)).collect();
        let due = self
            .looked
            .is_none_or(|looked| looked.elapsed() > LOOK_AGAIN);
        if due || now != self.changed {
            let found = self.find()?;
            changed |= keep(rows, found);
            self.changed = now;
            self.looked = Some(Instant::now());
        }
        let mut budget = BUDGET;
        for row in rows {
            changed |= row.run.look(&mut budget);
        }
        Ok(changed)
    }

    /// Folders of runs, each with its label.
    fn find(&self) -> Result<Vec<(PathBuf, Option<String>)>> {
        let mut found = Vec::new();
        for path in &self.paths {
            if path.join(PLAN).exists() {
                found.extend(runs_of_sweep(path)?);
            } else if path.join(RECORD).exists() {
                found.push((path.clone(), None));
            } else if !self.may_come || path.exists() {
                found.extend(runs_in(path)?.into_iter().map(|run| (run, None)));
            }
        }
        if found.len() > MOST_RUNS {
            return Err(CommandError::Usage(format!(
                "{}: has {} runs, expected at most {MOST_RUNS}; name some of them",
                self.text(),
                found.len()
            )));
        }
        Ok(found)
    }

    /// The last lines that are known of a run: those of its log, where a sweep keeps one, or of its metrics.
    pub fn log(&self, folder: &Path) -> Vec<String> {
        let mut sweeps = self.paths.clone();
        if let Some(runs) = folder.parent() {
            let entries = fs::read_dir(runs.join("sweeps"))
                .into_iter()
                .flatten()
                .flatten();
            sweeps.extend(entries.map(|entry| entry.path()));
        }
        let logs = sweeps.iter().filter_map(|sweep| log_in(sweep, folder));
        let newest = logs.max_by_key(|log| modified(log));
        let (path, what) = match newest {
            Some(log) => (log, "log"),
            None => (
                folder.join(METRICS),
                "no log is kept of this run; its metrics are",
            ),
        };
        let mut lines = vec![format!("{what} {}", path.display())];
        match end_of(&path) {
            Ok(text) => lines.extend(text.lines().map(visible)),
            Err(error) => lines.push(visible(&error.to_string())),
        }
        lines
    }
}

/// The log of the run in `folder` that the sweep in `sweep` keeps.
fn log_in(sweep: &Path, folder: &Path) -> Option<PathBuf> {
    let logs = sweep.join(LOGS);
    let name = folder.file_name()?.to_string_lossy().into_owned();
    let (_, digits) = name.rsplit_once('-')?;
    let own = logs.join(format!("{digits}.log"));
    if own.exists() {
        return Some(own);
    }
    // Slurm names logs by the lines of the plan.
    let plan = worker::read(sweep).ok()?;
    let index = plan.iter().position(|line| line.hash.starts_with(digits))?;
    let end = format!("_{index}.log");
    let entries = fs::read_dir(logs).into_iter().flatten().flatten();
    let of_run = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("slurm-") && name.ends_with(&end)
    });
    of_run.max_by_key(|path| modified(path))
}

/// The last part of a text file.
fn end_of(path: &Path) -> Result<String> {
    let failed = |error| CommandError::from(Error::io(path, "read", error));
    let mut file = open_regular(path, u64::MAX)?.into_inner();
    let length = file.metadata().map_err(failed)?.len();
    let start = length.saturating_sub(MOST_LOG);
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MOST_LOG)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(match text.split_once('\n') {
        // The first line is cut.
        Some((_, rest)) if start > 0 => rest.to_owned(),
        _ => text,
    })
}

/// Runs of a sweep: those that have not begun, too.
fn runs_of_sweep(sweep: &Path) -> Result<Vec<(PathBuf, Option<String>)>> {
    let lines = worker::read(sweep)?;
    let first = lines
        .first()
        .map(|line| line.label.clone())
        .unwrap_or_default();
    // What all of them have tells none from the others.
    let tells = |pair: &(String, String)| {
        !first.contains(pair) || lines.iter().any(|line| !line.label.contains(pair))
    };
    let label = |line: &worker::Line| {
        let pairs = line.label.iter().filter(|pair| tells(pair));
        let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(" ")
    };
    let runs = lines
        .iter()
        .map(|line| (line.folder.clone(), Some(label(line))));
    Ok(runs.collect())
}

/// Run folders in `path`.
fn runs_in(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path).map_err(|error| Error::io(path, "look for runs in", error))?;
    let mut others = 0;
    let mut runs: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_run = path.join(RECORD).exists() || path.join(FAILURE).exists();
            let hidden = name.starts_with('.');
            others += usize::from(!is_run && !hidden && name != "sweeps");
            is_run && !hidden
        })
        .collect();
    if runs.is_empty() && others > 0 {
        return Err(CommandError::Usage(format!(
            "{}: expected a run, a sweep or a folder of runs, found a folder of other things",
            path.display()
        )));
    }
    runs.sort();
    Ok(runs)
}

/// Keeps those of the rows that were found, and adds the others; whether there was a difference.
fn keep(rows: &mut Vec<Row>, found: Vec<(PathBuf, Option<String>)>) -> bool {
    let before = rows.len();
    let mut known: HashMap<PathBuf, Row> = std::mem::take(rows)
        .into_iter()
        .map(|row| (row.run.folder.clone(), row))
        .collect();
    let mut new = 0;
    let mut seen = std::collections::HashSet::new();
    for (folder, label) in found {
        if !seen.insert(folder.clone()) {
            continue;
        }
        let row = known.remove(&folder).unwrap_or_else(|| {
            new += 1;
            let run = Follower::new(folder);
            Row { run, label: None }
        });
        rows.push(Row { label, ..row });
    }
    new > 0 || rows.len() != before
}

fn modified(path: &Path) -> Option<SystemTime> {
    let path = match path.join(PLAN) {
        plan if plan.exists() => plan,
        _ => path.to_owned(),
    };
    fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let record = json!({"hash": "0".repeat(64), "manifest": {}});
        fs::write(folder.join(RECORD), record.to_string()).unwrap();
    }

    #[test]
    fn runs_come_and_go() {
        let root = tempfile::tempdir().unwrap();
        let runs = root.path().join("runs");
        let mut rows = Vec::new();
        let mut sources = Sources::new(std::slice::from_ref(&runs));
        assert!(sources.is_err(), "a path that was named must be there");
        run(&runs.join("a-1"));
        fs::create_dir_all(runs.join("sweeps/x")).unwrap();
        sources = Sources::new(&[runs.clone(), runs.join("a-1")]);
        let mut sources = sources.unwrap();
        assert!(sources.look(&mut rows).unwrap());
        assert_eq!(rows.len(), 1, "each run once");
        run(&runs.join("b-2"));
        sources.looked = None;
        assert!(sources.look(&mut rows).unwrap());
        fs::remove_dir_all(runs.join("a-1")).unwrap();
        sources.looked = None;
        assert!(sources.look(&mut rows).unwrap());
        assert_eq!(rows[0].name(), "b-2");
    }

    #[test]
    fn a_sweep_has_labels_and_logs() {
        let root = tempfile::tempdir().unwrap();
        let sweep = root.path().join("sweeps/grid-1");
        fs::create_dir_all(sweep.join(LOGS)).unwrap();
        let line = |digit: &str, seed: &str| {
            let hash = digit.repeat(64);
            let folder = format!("elsewhere/grid-{}", &hash[..12]);
            let label = [["seed", seed], ["learner.name", "maml"]];
            json!({"hash": hash, "folder": folder, "label": label, "data": null, "memory": null,
                   "manifest": {}, "origins": {}})
        };
        let plan = format!("{}\n{}\n", line("a", "0"), line("b", "1"));
        fs::write(sweep.join(PLAN), plan).unwrap();
        let mut sources = Sources::new(std::slice::from_ref(&sweep)).unwrap();
        let mut rows = Vec::new();
        sources.look(&mut rows).unwrap();
        let titles: Vec<String> = rows.iter().map(Row::title).collect();
        assert_eq!(titles, ["seed=0", "seed=1"]);
        assert_eq!(rows[1].state(), "waiting");
        let folder = rows[1].run.folder.clone();
        assert_eq!(folder, root.path().join(format!("grid-{}", "b".repeat(12))));
        assert!(sources.log(&folder)[0].starts_with("no log is kept"));
        fs::write(
            sweep.join(LOGS).join("slurm-7_1.log"),
            "of slurm\u{1b}[2J\n",
        )
        .unwrap();
        assert_eq!(sources.log(&folder)[1], "of slurm\\u001b[2J");
        let own = sweep.join(LOGS).join(format!("{}.log", "b".repeat(12)));
        fs::write(&own, format!("{}end\n", "long line\n".repeat(10_000))).unwrap();
        let log = sources.log(&folder);
        assert!(log[0].starts_with("log ") && log[1] == "long line");
        assert_eq!(log[log.len() - 1], "end");
        assert!(log.len() < 7000);
    }

    #[test]
    fn other_things_are_refused() {
        let root = tempfile::tempdir().unwrap();
        assert!(
            Sources::new(&[root.path().to_owned()]).is_ok(),
            "runs may come"
        );
        fs::write(root.path().join("thesis.txt"), "x").unwrap();
        let message = Sources::new(&[root.path().to_owned()])
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("expected a run, a sweep or a folder of runs"),
            "{message}"
        );
    }
}
