//! An encoder with a linear head: the network of the gradient learners.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use super::embed;
use crate::{
    nn::{
        Pass,
        encoder::{Architecture, Encoder},
        init::Initializer,
        linear::Linear,
        norm::Statistics,
    },
    primitives::Primitives,
    task::TaskBatch,
};

/// `x ↦ W φ(x) + b`, `φ` an encoder.
#[derive(Module, Debug)]
pub struct Network<B: Backend, E> {
    /// `φ`.
    pub encoder: E,
    /// `W`, `b`.
    pub head: Linear<B>,
}

impl<B: Primitives, E: Encoder<B>> Network<B, E> {
    /// The encoder with a Glorot-initialised head of `outputs` scores or values.
    pub fn new<A: Architecture<Model<B> = E>>(
        architecture: &A,
        outputs: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let encoder = architecture.init::<B>(initializer, device);
        let head = Linear::glorot(architecture.width(), outputs, initializer, device);
        Network { encoder, head }
    }

    /// `x [t, b, f]` to `[t, b, outputs]`.
    pub fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        self.head.forward(self.encoder.forward(x, pass))
    }

    /// Predictions for the queries, `[t, q, outputs]`, and the pass that made them
    /// ([`embed::forward_queries`]).
    pub fn forward_queries(
        &self,
        tasks: &TaskBatch<B>,
        statistics: Statistics,
        pass: Pass<B>,
    ) -> (Tensor<B, 3>, Pass<B>) {
        let forward = |items, pass: &Pass<B>| self.forward(items, pass);
        embed::forward_queries(forward, statistics, tasks, pass)
    }
}
