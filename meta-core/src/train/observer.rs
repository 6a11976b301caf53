//! Observers of training: what they receive, and when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{eval::Metric, state::TrainState, task_selection::TaskWeights};
use crate::{Result, params::Params, primitives::Primitives, stats::Interval};

/// A logged iteration. Holds nothing that differs between two runs of the same manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IterationRecord {
    /// The iteration, counted from 1.
    pub iteration: u64,
    /// Mean query loss of its tasks.
    pub loss: f64,
    /// Mean query score of its tasks (accuracy, or mean squared error), with the interval over tasks.
    pub score: Interval,
    /// Euclidean norm of the meta-gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Weights of its tasks, where they are selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<TaskWeights>,
}

/// A validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// Iterations done.
    pub iteration: u64,
    /// What `score` is.
    pub metric: Metric,
    /// Mean score on the frozen validation episodes.
    pub score: Interval,
    /// Mean query loss on them.
    pub loss: Interval,
    /// Whether these are the best parameters so far.
    pub best: bool,
}

/// What a training waits for beside the learner's meta-gradients and updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The next meta-batch, where a thread has not made it yet.
    Episodes,
    /// A validation.
    Validation,
}

/// Whoever wants to know how training goes: progress, metrics files, checkpoints.
pub trait Observer<B: Primitives> {
    /// How long training waited for a part.
    fn spent(&mut self, _part: Part, _time: Duration) {}

    /// After every iteration, before anything is read from the device.
    fn tick(&mut self, _iteration: u64) {}

    /// After every `log_every` iterations.
    ///
    /// # Errors
    /// Whatever stops training, such as a full disk.
    fn iteration(&mut self, _record: &IterationRecord) -> Result<()> {
        Ok(())
    }

    /// After every validation.
    ///
    /// # Errors
    /// Whatever stops training.
    fn validation(&mut self, _record: &ValidationRecord) -> Result<()> {
        Ok(())
    }

    /// When the state is to be saved.
    ///
    /// # Errors
    /// Whatever stops training.
    fn checkpoint(&mut self, _parameters: &Params<B>, _state: &TrainState<B>) -> Result<()> {
        Ok(())
    }

    /// Asked after every iteration; training saves its state and stops when true.
    fn should_stop(&self) -> bool {
        false
    }
}

/// An observer that does nothing.
impl<B: Primitives> Observer<B> for () {}

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All iterations are done.
    Finished,
    /// `patience` validations brought no improvement.
    Patience,
    /// The observer asked to stop; the state is saved and can be continued.
    Interrupted,
}
