//! Additive scores.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::AttentionInfo;
use crate::{
    nn::{init::Initializer, linear::Linear},
    primitives::{Primitives, linear, tanh},
};

pub(super) const ADDITIVE: AttentionInfo = AttentionInfo {
    name: "additive",
    family: "score",
    summary: "a small network on query and key, which may differ in width",
    paper: "Bahdanau et al., Neural machine translation by jointly learning to align and translate, ICLR 2015, appendix A.1.2",
};

/// `score(q, k) = vᵀ tanh(q W + k U + b)` (Bahdanau, Cho and Bengio, *Neural machine translation by
/// jointly learning to align and translate*, ICLR 2015, appendix A.1.2), with weights shared or per
/// task.
///
/// Queries and keys may differ in width, so this serves self-attention and cross-attention alike.
#[derive(Module, Debug)]
pub struct AdditiveScores<B: Backend> {
    /// `W`, `b`.
    query: Linear<B>,
    /// `U`, `[1|t, e, h]`.
    key: Param<Tensor<B, 3>>,
    /// `v`, `[1|t, h, 1]`.
    score: Param<Tensor<B, 3>>,
}

impl<B: Backend> AdditiveScores<B> {
    /// Glorot-uniform weights for queries and keys of these widths; `hidden` is the width between.
    pub fn new(
        query_width: usize,
        key_width: usize,
        hidden: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        AdditiveScores {
            query: Linear::glorot(query_width, hidden, initializer, device),
            key: initializer.glorot([1, key_width, hidden], key_width, hidden, device),
            score: initializer.glorot([1, hidden, 1], hidden, 1, device),
        }
    }
}

impl<B: Primitives> AdditiveScores<B> {
    /// Queries `[t, l, d]` and keys `[t, m, e]` to scores `[t, 1, l, m]`, of one head.
    pub fn forward(&self, queries: Tensor<B, 3>, keys: Tensor<B, 3>) -> Tensor<B, 4> {
        self.forward_items(queries, keys, 1)
    }

    /// Queries `[t, b·l, d]` and keys `[t, b·m, e]` of `b = items` items to scores `[t·b, 1, l, m]`, of
    /// one head.
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn forward_items(
        &self,
        queries: Tensor<B, 3>,
        keys: Tensor<B, 3>,
        items: usize,
    ) -> Tensor<B, 4> {
        let ([t, rows, _], [_, key_rows, _]) = (queries.dims(), keys.dims());
        let (n, l, m) = (t * items, rows / items, key_rows / items);
        let queries = self.query.forward(queries);
        let keys = linear(keys, self.key.val());
        let h = queries.dims()[2];
        let pairs = queries.reshape([n, l, 1, h]) + keys.reshape([n, 1, m, h]);
        let hidden = tanh(pairs).reshape([t, items * l * m, h]);
        linear(hidden, self.score.val()).reshape([n, 1, l, m])
    }
}
