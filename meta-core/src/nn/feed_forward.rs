//! Fully connected layers.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use super::{init::Initializer, linear::Linear};
use crate::primitives::Primitives;

/// Linear layers with ReLU between them, none after the last.
#[derive(Module, Debug)]
pub struct FeedForward<B: Backend> {
    layers: Vec<Linear<B>>,
}

impl<B: Backend> FeedForward<B> {
    /// `layers` layers (at least 1) from `inputs` to `outputs`, with `hidden` units between two.
    pub fn new(
        inputs: usize,
        hidden: usize,
        outputs: usize,
        layers: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let mut width = inputs;
        let mut all = Vec::with_capacity(layers);
        for _ in 1..layers {
            all.push(Linear::he(width, hidden, initializer, device));
            width = hidden;
        }
        all.push(Linear::glorot(width, outputs, initializer, device));
        FeedForward { layers: all }
    }
}

impl<B: Primitives> FeedForward<B> {
    /// `x [t, b, i]` to `[t, b, o]`.
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let last = self.layers.len() - 1;
        let before = &self.layers[..last];
        let hidden = before.iter().fold(x, |x, layer| layer.forward_relu(x));
        self.layers[last].forward(hidden)
    }
}
