//! Convolution, with weights shared or per task.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::init::Initializer;
use crate::primitives::{Primitives, conv2d};

/// Two-dimensional cross-correlation without bias: the normalisation that follows has one.
#[derive(Module, Debug)]
pub struct Conv2d<B: Backend> {
    /// `[1|t, k·k, c, o]`.
    pub weight: Param<Tensor<B, 4>>,
    /// Stride and zero padding.
    #[module(skip)]
    geometry: (usize, usize),
}

impl<B: Backend> Conv2d<B> {
    /// He-normal weights; a `kernel × kernel` window.
    pub fn he(
        channels: [usize; 2],
        kernel: usize,
        stride: usize,
        padding: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let [inputs, outputs] = channels;
        let taps = kernel * kernel;
        Conv2d {
            weight: initializer.he([1, taps, inputs, outputs], taps * inputs, device),
            geometry: (stride, padding),
        }
    }
}

impl<B: Primitives> Conv2d<B> {
    /// `x [t, b, h, w, c]` to `[t, b, h', w', o]`.
    pub fn forward(&self, x: Tensor<B, 5>) -> Tensor<B, 5> {
        let (stride, padding) = self.geometry;
        conv2d(x, self.weight.val(), stride, padding)
    }
}
