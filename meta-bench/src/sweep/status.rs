//! `meta sweep status`: shows how far sweeps are, from the run folders and Slurm's queue.

use std::{
    fs,
    path::{Path, PathBuf},
};

use meta_core::Error;

use super::{
    runs::{label_cells, label_keys},
    slurm, worker,
};
use crate::{
    failure::{CommandError, Result},
    output::{
        print,
        table::{Cell, Format, Table},
    },
    run::{
        result::score_cell,
        state::{State, iteration},
    },
};

/// Shows the runs of one sweep, or the numbers of several.
///
/// # Errors
/// When a folder is not that of a sweep, or Slurm does not answer.
pub fn status(sweeps: &[PathBuf], runs: &Path) -> Result<()> {
    match sweeps {
        [one] => print(&runs_of(one)?),
        [] => {
            let folder = runs.join("sweeps");
            let entries = fs::read_dir(&folder)
                .map_err(|error| Error::io(&folder, "read the sweeps in", error))?;
            let mut all: Vec<PathBuf> = entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.join(worker::PLAN).exists())
                .collect();
            all.sort();
            if all.is_empty() {
                Err(CommandError::Usage(format!(
                    "{}: has no sweep",
                    folder.display()
                )))
            } else {
                print(&numbers(&all)?)
            }
        }
        many => print(&numbers(many)?),
    }
}

/// The state of a run, and that in the queue where it is not yet at work.
fn state(folder: &Path, queued: Option<&String>) -> (State, String) {
    let state = State::of(folder);
    let name = match (&state, queued) {
        (State::Finished | State::Failed(_) | State::Foreign(_) | State::Running, _)
        | (_, None) => state.name().to_owned(),
        (_, Some(queued)) => queued.to_lowercase(),
    };
    (state, name)
}

fn runs_of(sweep: &Path) -> Result<String> {
    let lines = worker::read(sweep)?;
    let queue = slurm::queue(sweep)?;
    let keys = label_keys(lines.iter().map(|line| line.label.as_slice()));
    let columns = ["run".to_owned()].into_iter().chain(keys.clone());
    let columns = columns.chain(["state", "iteration", "score"].map(str::to_owned));
    let mut table = Table::new(columns);
    for (index, line) in lines.iter().enumerate() {
        let (state, name) = state(&line.folder, queue.get(&index));
        let mut row = vec![Cell::from(&line.hash[..12])];
        row.extend(label_cells(&keys, &line.label));
        row.push(name.into());
        let all = &line.manifest["train"]["iterations"];
        let done = iteration(&line.folder).unwrap_or(0);
        row.push(format!("{done}/{all}").into());
        row.push(score_cell(&line.folder, &state));
        table.rows.push(row);
    }
    Ok(table.render(Format::Text))
}

fn numbers(sweeps: &[PathBuf]) -> Result<String> {
    let states = [
        "finished",
        "running",
        "pending",
        "unfinished",
        "failed",
        "new",
    ];
    let mut table = Table::new(["sweep", "runs"].into_iter().chain(states));
    for sweep in sweeps {
        let lines = worker::read(sweep)?;
        let queue = slurm::queue(sweep)?;
        let names: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(index, line)| state(&line.folder, queue.get(&index)).1)
            .collect();
        let mut row = vec![
            Cell::from(sweep.display().to_string()),
            Cell::new(lines.len().to_string(), lines.len()),
        ];
        for state in states {
            let count = names.iter().filter(|name| *name == state).count();
            row.push(Cell::new(count.to_string(), count));
        }
        table.rows.push(row);
    }
    Ok(table.render(Format::Text))
}
