//! What an attention leaves to look at: its weights, and what their rows and columns are.

use burn::tensor::{Tensor, backend::Backend};

/// What the rows or the columns of an [`AttentionMap`] are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapAxis {
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
    pub rows: MapAxis,
    /// What was attended to.
    pub columns: MapAxis,
    /// Weights `[t, heads, rows, columns]`, rows summing to 1.
    pub weights: Tensor<B, 4>,
}
