//! Attention: score, normalise, read.

mod additive;
mod block;
pub mod mask;

pub use additive::AdditiveScores;
pub use block::{Block, BlockSettings};

use burn::{
    module::Module,
    tensor::{Bool, Tensor, activation::softmax, backend::Backend},
};

use super::{init::Initializer, linear::Linear};
use crate::primitives::{Primitives, attention_read, attention_scores, scaled_softmax};

/// `A = softmax(q kᵀ / √d)` and `A v`: scaled dot-product attention (Vaswani et al., NIPS 2017,
/// eq. 1).
///
/// `q [n, heads, l, d]`, `k [n, heads, m, d]`, `v [n, heads, m, e]`; returns the read
/// `[n, heads, l, e]` and the map `A [n, heads, l, m]`, whose rows sum to 1.
pub fn scaled_dot_product<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let d = q.dims()[3];
    assert_eq!(d, k.dims()[3], "q {:?}, k {:?}", q.dims(), k.dims());
    let scores = q
        .matmul(k.swap_dims(2, 3))
        .mul_scalar(1.0 / (d as f64).sqrt());
    let map = softmax(scores, 3);
    (map.clone().matmul(v), map)
}

/// Scaled dot-product attention of every head, heads side by side in the features of a token: `q [t,
/// b·l, heads·d]`, `k` and `v` `[t, b·m, heads·d]` for `b` sequences of `[l, m]` queries and keys per
/// task, to the read `[t, b·l, heads·d]` and the map `[t·b, heads, l, m]`.
///
/// `hidden` broadcasts to the map (true: not read; see [`mask`]).
///
/// # Panics
/// When the shapes do not fit.
pub fn multi_head_attention<B: Primitives>(
    q: Tensor<B, 3>,
    k: Tensor<B, 3>,
    v: Tensor<B, 3>,
    heads: usize,
    lengths: [usize; 2],
    hidden: Option<Tensor<B, 4, Bool>>,
) -> (Tensor<B, 3>, Tensor<B, 4>) {
    let factor = (heads as f64 / q.dims()[2] as f64).sqrt();
    let scores = attention_scores(q, k, heads, lengths);
    let scores = match hidden {
        Some(hidden) => mask::hide(scores, hidden),
        None => scores,
    };
    let map = scaled_softmax(scores, factor);
    (attention_read(map.clone(), v), map)
}

/// Multi-head self-attention (Vaswani et al., NIPS 2017, section 3.2.2), with weights shared or per
/// task.
///
/// `head_i = attention(x W_i^Q, x W_i^K, x W_i^V)`, result `concat(head_i) W^O`. Unlike Burn's
/// `nn::MultiHeadAttention` it is differentiable twice, refuses heads that do not divide the width,
/// and its linear layers have a task axis.
#[derive(Module, Debug)]
pub struct MultiHeadSelfAttention<B: Backend> {
    query: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    output: Linear<B>,
    #[module(skip)]
    heads: usize,
}

impl<B: Backend> MultiHeadSelfAttention<B> {
    /// Glorot-uniform projections, `width → width` each.
    ///
    /// # Panics
    /// When `heads` does not divide `width`.
    pub fn new(
        width: usize,
        heads: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        assert!(
            heads >= 1 && width.is_multiple_of(heads),
            "{heads} heads do not divide a width of {width}"
        );
        let mut projection = || Linear::glorot(width, width, initializer, device);
        MultiHeadSelfAttention {
            query: projection(),
            key: projection(),
            value: projection(),
            output: projection(),
            heads,
        }
    }
}

impl<B: Primitives> MultiHeadSelfAttention<B> {
    /// Attends within sequences of `length` tokens: `x [t, b·l, d]` to the same shape, and the map
    /// `[t·b, heads, l, l]`.
    ///
    /// # Panics
    /// When `length` does not divide the tokens.
    pub fn forward(&self, x: Tensor<B, 3>, length: usize) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let tokens = x.dims()[1];
        assert_eq!(tokens % length, 0, "{tokens} tokens, sequences of {length}");
        let (read, map) = multi_head_attention(
            self.query.forward(x.clone()),
            self.key.forward(x.clone()),
            self.value.forward(x),
            self.heads,
            [length, length],
            None,
        );
        (self.output.forward(read), map)
    }
}
