//! Says what a run is that a sweep works on, and what becomes of it.

use std::path::PathBuf;

/// A run that is to be worked on.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its line in the plan, from 0.
    pub index: usize,
    /// The first digits of its identity.
    pub short: String,
    /// Its folder.
    pub folder: PathBuf,
    /// What tells it from the others.
    pub title: String,
    /// Threads that its manifest asks for, 0 for its share.
    pub threads: usize,
    /// Bytes that it may use.
    pub memory: Option<u64>,
    /// The iteration at which it pauses, if before its last.
    pub until: Option<u64>,
}

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has its result.
    Finished,
    /// It came to `until`.
    Paused,
    /// It failed; the failure is recorded.
    Failed(String),
    /// It was not started, or was asked to stop and has saved itself.
    Stopped,
}
