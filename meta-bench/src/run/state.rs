//! Reads how far runs are from their folders.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::folder::{FAILURE, Found, TIMING, inspect, is_busy, read_json};

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
    /// Something that is not a run is in its place; what it is.
    Foreign(String),
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
            State::Foreign(_) => "not a run",
        }
    }

    /// Why there is no result and will be none, unless somebody does something.
    pub fn failure(&self) -> Option<&str> {
        match self {
            State::Failed(why) | State::Foreign(why) => Some(why),
            _ => None,
        }
    }

    /// The state of the run folder at `path`.
    pub fn of(path: &Path) -> State {
        let found = match inspect(path) {
            Ok(Found::Finished) => return State::Finished,
            Ok(found) => found,
            Err(error) => return State::Foreign(error.to_string()),
        };
        if is_busy(path) {
            State::Running
        } else if path.join(FAILURE).exists() {
            let error = read_json(&path.join(FAILURE))
                .ok()
                .and_then(|failure| failure["error"].as_str().map(str::to_owned));
            State::Failed(error.unwrap_or_else(|| "its failure.json cannot be read".to_owned()))
        } else if found == Found::Unfinished {
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
    let bytes = fs::read(folder.join(TIMING)).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|line| line.ends_with('}'))?;
    serde_json::from_str::<Value>(line).ok()?["iteration"].as_u64()
}
