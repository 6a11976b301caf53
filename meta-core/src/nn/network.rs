//! An encoder with a linear head: the network of the gradient learners.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use super::{
    Pass,
    encoder::{Architecture, Encoder},
    init::Initializer,
    linear::Linear,
    norm::Statistics,
};
use crate::primitives::Primitives;

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

    /// Predictions for the items of `query`, `[t, q, outputs]`.
    ///
    /// Where statistics come from the support ([`Statistics::Support`]), the support passes through
    /// the network together with the queries; otherwise the queries pass alone.
    pub fn forward_query(
        &self,
        support: Tensor<B, 3>,
        query: Tensor<B, 3>,
        statistics: Statistics,
        pass: Pass<B>,
    ) -> (Tensor<B, 3>, Pass<B>) {
        if statistics != Statistics::Support {
            return (self.forward(query, &pass), pass);
        }
        let ([_, s, _], [_, q, _]) = (support.dims(), query.dims());
        let pass = pass.with_reference(s);
        let predictions = self.forward(Tensor::cat(vec![support, query], 1), &pass);
        (predictions.narrow(1, s, q), pass)
    }
}
