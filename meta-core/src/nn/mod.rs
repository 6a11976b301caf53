//! Networks: layers, attention and encoders, all with the task axis and all differentiable twice.
//!
//! A layer's parameters are `[1, …]` when all tasks share them and `[t, …]` when each task has its
//! own; its forward pass takes and returns `[t, b, …]` either way. A batched pass equals a loop over
//! tasks, to rounding.

pub mod attention;
pub mod conv;
pub mod dropout;
pub mod encoder;
pub mod feed_forward;
pub mod init;
pub mod linear;
pub mod loss;
pub mod metric;
pub mod modulation;
pub mod network;
pub mod noise;
pub mod norm;
pub mod predictive;
pub mod presentation;
pub mod recurrent;
pub mod solve;
pub mod temporal;
pub mod tokens;

use std::cell::{Cell, RefCell};

use burn::tensor::{Tensor, backend::Backend};

use crate::params::Params;
pub use noise::{Mode, Noise};

/// What the rows or the columns of an [`AttentionMap`] are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Queries of the task, in their order.
    Query,
    /// Support items of the task, in their order.
    Support,
    /// Support items, then queries.
    Item,
    /// Classes.
    Class,
    /// Tasks of the meta-batch.
    Task,
    /// Parts of every item (support, then queries), a grid of this many rows and columns: the map is
    /// one matrix per item, `[t·(s + q), heads, …]`.
    Part(usize, usize),
    /// Anything else, by its name: memory slots, steps, seeds.
    Other(&'static str),
}

/// What attended to what in a forward pass.
#[derive(Clone, Debug)]
pub struct AttentionMap<B: Backend> {
    /// Which attention it was: its place in the network or the method.
    pub name: String,
    /// What attended.
    pub rows: Axis,
    /// What was attended to.
    pub columns: Axis,
    /// Weights `[t, heads, rows, columns]`, rows summing to 1.
    pub weights: Tensor<B, 4>,
}

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
    /// What attended to what, where that is asked for.
    maps: Option<RefCell<Vec<AttentionMap<B>>>>,
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

    /// The same pass, keeping what attention leaves with [`Pass::record`].
    pub fn recording(self) -> Self {
        Pass {
            maps: Some(RefCell::default()),
            ..self
        }
    }

    /// Keeps a map where the pass is a recording one.
    pub fn record(&self, name: &str, rows: Axis, columns: Axis, weights: &Tensor<B, 4>) {
        if let Some(maps) = &self.maps {
            maps.borrow_mut().push(AttentionMap {
                name: name.to_owned(),
                rows,
                columns,
                weights: weights.clone(),
            });
        }
    }

    /// What has been recorded, in order.
    pub fn recorded(&self) -> Vec<AttentionMap<B>> {
        self.maps.as_ref().map_or_else(Vec::new, RefCell::take)
    }

    /// Uniform numbers on (0, 1), `per_task` for each task: `[t, per_task]`; none in a pass without
    /// noise. Every call draws others.
    pub fn uniform(&self, per_task: usize, device: &B::Device) -> Option<Tensor<B, 2>> {
        let noise = self.mode.noise.as_ref()?;
        let draw = self.draws.replace(self.draws.get() + 1);
        Some(noise.uniform(draw, per_task, device))
    }
}
