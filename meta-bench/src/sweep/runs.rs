//! The runs of a sweep: which are due, and how they ended.

use std::{collections::HashMap, path::Path};

use serde_json::Value;

use super::{
    plan::Planned,
    task::{Outcome, Task},
};
use crate::{
    failure::{CommandError, Result},
    output::table::{Cell, Table},
    run::{result::score_cell, state::State},
};

/// A planned run with what its manifest's sweep says about it.
#[derive(Clone)]
pub struct Run {
    /// The run.
    pub planned: Planned,
    /// Bytes that it may use.
    pub memory: Option<u64>,
}

/// How many were stopped.
pub fn count_stopped(outcomes: &[Outcome]) -> usize {
    outcomes
        .iter()
        .filter(|outcome| **outcome == Outcome::Stopped)
        .count()
}

/// Runs that are to be worked on: neither finished, nor failed unless they are tried again.
pub fn tasks(runs: &[Run], retry: bool) -> Vec<Task> {
    let due = |(_, run): &(usize, &Run)| match State::of(&run.planned.folder) {
        State::Finished | State::Foreign(_) => false,
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

/// What became of a sweep.
pub struct Swept {
    /// Its runs.
    pub runs: Vec<Run>,
    /// Runs that are not finished because all were asked to stop.
    pub stopped: usize,
    /// Whether one failure stopped all.
    pub fail_fast: bool,
    /// Runs that halving left, and at which iteration.
    pub left: HashMap<String, u64>,
}

impl Swept {
    /// Whether all went well; `folder` is that of the sweep.
    ///
    /// # Errors
    /// [`CommandError::Interrupted`] or [`CommandError::Runs`].
    pub fn verdict(&self, folder: &Path) -> Result<()> {
        let states = self.runs.iter().map(|run| State::of(&run.planned.folder));
        let states: Vec<State> = states.filter(|state| state.failure().is_some()).collect();
        let failed = states.len();
        let foreign = states.iter().find_map(|state| match state {
            State::Foreign(why) => Some(format!("; {why}")),
            _ => None,
        });
        if self.stopped > 0 && (failed == 0 || !self.fail_fast) {
            return Err(CommandError::Interrupted(format!(
                "interrupted; {} of {} runs are not finished; the same command resumes them",
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
            "{failed} of {} runs failed{not_run}; --retry tries them again; their logs are in {}{}",
            self.runs.len(),
            folder.join("logs").display(),
            foreign.unwrap_or_default()
        )))
    }
}

/// Keys of the labels of `runs`, in the order in which they come.
pub fn label_keys<'a>(labels: impl Iterator<Item = &'a [(String, String)]>) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for (key, _) in labels.flatten() {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    keys
}

/// The values of `keys` in a label.
pub fn label_cells(keys: &[String], label: &[(String, String)]) -> Vec<Cell> {
    keys.iter()
        .map(|key| match label.iter().find(|(name, _)| name == key) {
            Some((_, value)) => Cell::from(value.clone()),
            None => Cell::new("–", Value::Null),
        })
        .collect()
}

/// The table at the end: what became of every run. It holds nothing that differs between a sweep
/// that was stopped and one that was not.
pub fn results(runs: &[Run], left: &HashMap<String, u64>) -> Table {
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
        row.push(score_cell(&planned.folder, &state));
        table.rows.push(row);
    }
    table
}
