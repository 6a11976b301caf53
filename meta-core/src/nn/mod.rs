//! Networks: layers, attention and encoders, all with the task axis and all differentiable twice.
//!
//! A layer's parameters are `[1, …]` when all tasks share them and `[t, …]` when each task has its
//! own; its forward pass takes and returns `[t, b, …]` either way. A batched pass equals a loop over
//! tasks, to rounding.

pub mod attention;
pub mod conv;
pub mod encoder;
pub mod init;
pub mod linear;
pub mod loss;
pub mod metric;
pub mod network;
pub mod norm;
pub mod solve;

use std::cell::RefCell;

use burn::tensor::backend::Backend;

use crate::params::Params;

/// Whether a forward pass is part of learning or of evaluation, and what statistics it may use.
///
/// Only normalisation (and, later, dropout) looks at it.
#[derive(Default)]
pub struct Pass<B: Backend> {
    /// Training: statistics come from the items; evaluation: running statistics where a layer keeps
    /// them.
    pub training: bool,
    /// Items of each task, counted from the first, that statistics are taken from; all where absent.
    pub reference_items: Option<usize>,
    /// New running statistics, left here by layers that keep them.
    pub statistics: RefCell<Params<B>>,
}

impl<B: Backend> Pass<B> {
    /// A pass of training.
    pub fn training() -> Self {
        Pass {
            training: true,
            reference_items: None,
            statistics: RefCell::default(),
        }
    }

    /// A pass of evaluation.
    pub fn evaluation() -> Self {
        Pass {
            training: false,
            ..Pass::training()
        }
    }

    /// The same pass with statistics taken from the first `items` items of each task.
    pub fn with_reference(self, items: usize) -> Self {
        Pass {
            reference_items: Some(items),
            ..self
        }
    }
}
