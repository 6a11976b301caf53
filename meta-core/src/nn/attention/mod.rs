//! Attention: score → mask → normalise → read.
//!
//! Each step is a part of its own, and parts combine freely:
//!
//! | step | parts |
//! |---|---|
//! | score `[n, heads, l, m]` of `l` queries and `m` keys | [`dot_product_scores`], [`AdditiveScores`] |
//! | mask: which keys a query may not read | [`mask::causal`], [`mask::padding`] |
//! | normalise the scores to a map of the same shape | [`soft`], [`straight_through`], [`gumbel_softmax`], [`gumbel_straight_through`], [`sample`] |
//! | read `map · values` | a matrix product; [`dropout`](crate::nn::dropout::dropout) before it |
//!
//! [`scaled_dot_product`] is the common combination. The layers made of them
//! ([`MultiHeadAttention`], [`AttentionPool`], [`Hierarchical`], [`CrossModal`], [`Block`], [`DecoderBlock`]) return
//! their maps beside what they read. [`attentions`] lists them all.

mod additive;
mod block;
mod decoder;
mod hierarchical;
pub mod mask;
mod multi_head;
mod multimodal;
mod normalise;
pub mod position;
mod score;
mod score_function;

pub use super::attention_map::{AttentionMap, MapAxis};
pub use additive::AdditiveScores;
pub use block::{Block, BlockSettings, stack};
pub use decoder::{DecoderBlock, DecoderMemory};
pub use hierarchical::{AttentionPool, Hierarchical, HierarchicalMaps, HierarchicalMasks};
pub use multi_head::{
    MultiHeadAttention, MultiHeadSelfAttention, MultiHeadSettings, ProjectedMemory, check_heads,
};
pub use multimodal::{CrossModal, GatedFusion};
pub use normalise::{Weighting, gumbel_softmax, gumbel_straight_through, soft, straight_through};
pub use score::dot_product_scores;
pub use score_function::{Sample, leave_one_out, sample};

use burn::tensor::Tensor;
use serde::Serialize;

use crate::primitives::{MatrixProduct, Primitives};

/// What the file of an attention mechanism says of it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AttentionInfo {
    /// Its name.
    pub name: &'static str,
    /// Which step or kind it is: `score`, `map`, `layer`, `position`.
    pub family: &'static str,
    /// One line on what it does.
    pub summary: &'static str,
    /// Its source.
    pub paper: &'static str,
}

/// All attention mechanisms, in the order of the steps.
pub fn attentions() -> &'static [AttentionInfo] {
    &[
        additive::ADDITIVE,
        score::SCALED_DOT_PRODUCT,
        normalise::SOFT,
        normalise::STRAIGHT_THROUGH,
        normalise::GUMBEL_SOFTMAX,
        score_function::SCORE_FUNCTION,
        multi_head::MULTI_HEAD,
        hierarchical::HIERARCHICAL,
        multimodal::CROSS_MODAL,
        position::SINUSOIDAL,
        position::LEARNED,
        position::ROTARY,
    ]
}

/// `A = softmax(q kᵀ / √d)` and `A v`: scaled dot-product attention (Vaswani et al., NIPS 2017,
/// eq. 1).
///
/// `q [n, heads, l, d]`, `k [n, heads, m, d]`, `v [n, heads, m, e]`; returns the read
/// `[n, heads, l, e]` and the map `A [n, heads, l, m]`, whose rows sum to 1.
pub fn scaled_dot_product<B: Primitives>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let map = soft(dot_product_scores(q, k), None);
    (map.clone().product(v), map)
}
