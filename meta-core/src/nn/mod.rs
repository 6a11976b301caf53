//! Networks: layers, attention and encoders, all with the task axis and all differentiable twice.
//!
//! A layer's parameters are `[1, …]` when all tasks share them and `[t, …]` when each task has its
//! own; its forward pass takes and returns `[t, b, …]` either way. A batched pass equals a loop over
//! tasks, to rounding.

pub mod attention;
pub mod conv;
pub mod dropout;
pub mod encoder;
pub mod init;
pub mod linear;
pub mod loss;
pub mod metric;
pub mod network;
pub mod noise;
pub mod norm;
pub mod recurrent;
pub mod solve;

use std::cell::{Cell, RefCell};

use burn::tensor::{Tensor, backend::Backend};

use crate::params::Params;
pub use noise::{Mode, Noise};

/// One forward pass: whether it is part of learning, what is drawn at random in it, and what
/// statistics it may use.
///
/// Normalisation and whatever draws (dropout, sampled attention) look at it.
#[derive(Default)]
pub struct Pass<B: Backend> {
    /// Training or evaluation: where statistics come from, and what is drawn.
    pub mode: Mode,
    /// Items of each task, counted from the first, that statistics are taken from; all where absent.
    pub reference_items: Option<usize>,
    /// New running statistics, left here by layers that keep them.
    pub statistics: RefCell<Params<B>>,
    /// Draws made so far.
    draws: Cell<u64>,
}

impl<B: Backend> Pass<B> {
    /// A pass in `mode`.
    pub fn new(mode: Mode) -> Self {
        Pass {
            mode,
            ..Pass::default()
        }
    }

    /// A pass of training in which nothing is drawn.
    pub fn training() -> Self {
        Pass::new(Mode::training(None))
    }

    /// A pass of evaluation.
    pub fn evaluation() -> Self {
        Pass::new(Mode::default())
    }

    /// The same pass with statistics taken from the first `items` items of each task.
    pub fn with_reference(self, items: usize) -> Self {
        Pass {
            reference_items: Some(items),
            ..self
        }
    }

    /// Uniform numbers on (0, 1), `per_task` for each task: `[t, per_task]`; none in a pass without
    /// noise. Every call draws others.
    pub fn uniform(&self, per_task: usize, device: &B::Device) -> Option<Tensor<B, 2>> {
        let noise = self.mode.noise.as_ref()?;
        let draw = self.draws.replace(self.draws.get() + 1);
        Some(noise.uniform(draw, per_task, device))
    }
}
