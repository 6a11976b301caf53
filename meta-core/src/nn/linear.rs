//! Affine layer, with weights shared or per task.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::init::{Initializer, constant};
use crate::primitives::{Activation, Primitives, linear_add};

/// `y = x W + b`.
///
/// Unlike Burn's `nn::Linear` it is differentiable twice and has a task axis.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `W`, `[1|t, i, o]`.
    pub weight: Param<Tensor<B, 3>>,
    /// `b`, `[1|t, 1, o]`.
    pub bias: Param<Tensor<B, 3>>,
}

impl<B: Backend> Linear<B> {
    /// Glorot-uniform weights, zero bias.
    pub fn glorot(
        inputs: usize,
        outputs: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        Linear {
            weight: initializer.glorot([1, inputs, outputs], inputs, outputs, device),
            bias: constant(0.0, [1, 1, outputs], device),
        }
    }

    /// He-normal weights for a layer before a ReLU, zero bias.
    pub fn he(
        inputs: usize,
        outputs: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        Linear {
            weight: initializer.he([1, inputs, outputs], inputs, device),
            bias: constant(0.0, [1, 1, outputs], device),
        }
    }
}

impl<B: Primitives> Linear<B> {
    /// `x [t, b, i]` to `[t, b, o]`.
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.forward_with(x, Activation::Identity)
    }

    /// `max(x W + b, 0)`, product, bias and ReLU at once.
    pub fn forward_relu(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.forward_with(x, Activation::Relu)
    }

    fn forward_with(&self, x: Tensor<B, 3>, activation: Activation) -> Tensor<B, 3> {
        linear_add(x, self.weight.val(), self.bias.val(), activation)
    }
}
