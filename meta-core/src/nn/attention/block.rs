//! A transformer block.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use super::MultiHeadSelfAttention;
use crate::{
    nn::{
        Pass,
        init::Initializer,
        linear::Linear,
        norm::{Norm, Statistics},
    },
    primitives::Primitives,
};

/// Sizes of a [`Block`].
#[derive(Clone, Copy, Debug)]
pub struct BlockSettings {
    /// Width `d` of a token.
    pub width: usize,
    /// Heads; must divide the width.
    pub heads: usize,
    /// Width of the hidden layer between the two of the feed-forward part.
    pub hidden: usize,
}

/// `y = x + attention(norm(x))`, then `y + W₂ relu(W₁ norm(y))`: a block with the normalisation
/// before each part (Xiong et al., ICML 2020), layer normalisation per token.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    attention_norm: Norm<B>,
    attention: MultiHeadSelfAttention<B>,
    feed_forward_norm: Norm<B>,
    expand: Linear<B>,
    contract: Linear<B>,
}

impl<B: Backend> Block<B> {
    /// A block with parameters from `initializer`.
    pub fn new(settings: BlockSettings, initializer: &mut Initializer, device: &B::Device) -> Self {
        let BlockSettings {
            width,
            heads,
            hidden,
        } = settings;
        let norm = || Norm::new(width, Statistics::Layer, "", device);
        Block {
            attention_norm: norm(),
            attention: MultiHeadSelfAttention::new(width, heads, initializer, device),
            feed_forward_norm: norm(),
            expand: Linear::he(width, hidden, initializer, device),
            contract: Linear::glorot(hidden, width, initializer, device),
        }
    }
}

impl<B: Primitives> Block<B> {
    /// `x [t, b·l, d]`, sequences of `length` tokens, to the same shape, and the attention map
    /// `[t·b, heads, l, l]`.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        length: usize,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let tokens = x.dims()[1];
        let normalised = self.attention_norm.forward(x.clone(), tokens, pass);
        let (read, map) = self.attention.forward(normalised, length);
        let x = x + read;
        let normalised = self.feed_forward_norm.forward(x.clone(), tokens, pass);
        let hidden = self.expand.forward_relu(normalised);
        (x + self.contract.forward(hidden), map)
    }
}
