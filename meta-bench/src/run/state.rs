//! Reads how far runs are from their folders.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::folder::{FAILURE, RECORD, RESULT, TIMING, is_busy, read_json};

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    New,
    /// It was started and is not finished.
    Unfinished,
    /// A process works on it.
    Running,
    /// It has its result.
    Finished,
    /// It failed, with this error.
    Failed(String),
}

impl State {
    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            State::New => "new",
            State::Unfinished => "unfinished",
            State::Running => "running",
            State::Finished => "finished",
            State::Failed(_) => "failed",
        }
    }

    /// The state of the run folder at `path`.
    pub fn of(path: &Path) -> State {
        if path.join(RESULT).exists() {
            State::Finished
        } else if is_busy(path) {
            State::Running
        } else if path.join(FAILURE).exists() {
            let error = read_json(&path.join(FAILURE))
                .ok()
                .and_then(|failure| failure["error"].as_str().map(str::to_owned));
            State::Failed(error.unwrap_or_else(|| "its failure.json cannot be read".to_owned()))
        } else if path.join(RECORD).exists() {
            State::Unfinished
        } else {
            State::New
        }
    }
}

/// Run folders in `runs` by the twelve digits that end their names.
pub fn folders(runs: &Path) -> HashMap<String, PathBuf> {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (_, digits) = name.rsplit_once('-')?;
            let hash = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            (hash && !name.starts_with('.')).then(|| (digits.to_owned(), entry.path()))
        })
        .collect()
}

/// Reads how far a run is: the iteration of its last checkpoint, from the timing.
pub fn iteration(folder: &Path) -> Option<u64> {
    let text = fs::read_to_string(folder.join(TIMING)).ok()?;
    let line = text.lines().rev().find(|line| line.ends_with('}'))?;
    serde_json::from_str::<Value>(line).ok()?["iteration"].as_u64()
}
