//! Hierarchical attention: within each sequence, then over the sequences.

use burn::{
    module::{Module, Param},
    tensor::{Bool, Tensor, backend::Backend},
};

use super::{AttentionInfo, normalise::soft};
use crate::{
    nn::{init::Initializer, linear::Linear},
    primitives::{MatrixProduct, Primitives, linear, tanh},
};

pub(super) const HIERARCHICAL: AttentionInfo = AttentionInfo {
    name: "hierarchical",
    family: "layer",
    summary: "reads each sequence by a learned query, then the sequences",
    paper: "Yang et al., Hierarchical attention networks for document classification, NAACL 2016, section 2.2",
};

/// Reads a sequence by a query that is learned (Yang et al., NAACL 2016, eq. 5 to 7), with weights
/// shared or per task:
///
/// ```text
/// u_i = tanh(x_i W + b),    α = softmax(u_i · u),    s = Σ α_i x_i
/// ```
#[derive(Module, Debug)]
pub struct AttentionPool<B: Backend> {
    /// `W`, `b`.
    hidden: Linear<B>,
    /// The query `u`, `[1|t, h, 1]`.
    query: Param<Tensor<B, 3>>,
}

impl<B: Backend> AttentionPool<B> {
    /// Glorot-uniform weights for tokens of this width; `hidden` is the width of `u`.
    pub fn new(
        width: usize,
        hidden: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        AttentionPool {
            hidden: Linear::glorot(width, hidden, initializer, device),
            query: initializer.glorot([1, hidden, 1], hidden, 1, device),
        }
    }
}

impl<B: Primitives> AttentionPool<B> {
    /// Sequences of `length` tokens, `x [t, b·l, d]`, to what is read of each, `[t, b, d]`, and the map
    /// `[t·b, 1, 1, l]`. `hidden` says what is not read, in a shape that broadcasts to that of the map.
    ///
    /// # Panics
    /// When `length` does not divide the tokens.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        length: usize,
        hidden: Option<&Tensor<B, 4, Bool>>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let [t, tokens, d] = x.dims();
        let sequences = tokens / length;
        let map = soft(self.scores(x.clone(), length), hidden);
        let values = x.reshape([t * sequences, 1, length, d]);
        let read = map.clone().product(values);
        (read.reshape([t, sequences, d]), map)
    }

    /// The scores `u_i · u` of the tokens, `x [t, b·l, d]` to `[t·b, 1, 1, l]`.
    ///
    /// # Panics
    /// When `length` does not divide the tokens.
    pub fn scores(&self, x: Tensor<B, 3>, length: usize) -> Tensor<B, 4> {
        let [t, tokens, _] = x.dims();
        assert_eq!(tokens % length, 0, "{tokens} tokens, sequences of {length}");
        let scores = linear(tanh(self.hidden.forward(x)), self.query.val());
        scores.reshape([t * (tokens / length), 1, 1, length])
    }
}

/// Attention within sequences, then over them: words of sentences, sentences of documents.
///
/// # Differences from the paper
/// The recurrent layers that precede each level there (section 2.2, bidirectional GRU) are left to
/// the caller: [`BiGru`](crate::nn::recurrent::BiGru).
#[derive(Module, Debug)]
pub struct Hierarchical<B: Backend> {
    /// Reads the tokens of a sequence.
    pub within: AttentionPool<B>,
    /// Reads the sequences of an item.
    pub over: AttentionPool<B>,
}

/// The maps of [`Hierarchical`].
#[derive(Clone, Debug)]
pub struct HierarchicalMaps<B: Backend> {
    /// Over the tokens of each sequence, `[t·b·s, 1, 1, l]`.
    pub within: Tensor<B, 4>,
    /// Over the sequences of each item, `[t·b, 1, 1, s]`.
    pub over: Tensor<B, 4>,
}

/// What [`Hierarchical`] does not read: masks of a shape that broadcasts to that of its maps.
#[derive(Clone, Debug, Default)]
pub struct HierarchicalMasks<B: Backend> {
    /// Tokens that are not read.
    pub within: Option<Tensor<B, 4, Bool>>,
    /// Sequences that are not read.
    pub over: Option<Tensor<B, 4, Bool>>,
}

impl<B: Backend> Hierarchical<B> {
    /// Two pools for tokens of this width.
    pub fn new(
        width: usize,
        hidden: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let mut pool = || AttentionPool::new(width, hidden, initializer, device);
        Hierarchical {
            within: pool(),
            over: pool(),
        }
    }
}

impl<B: Primitives> Hierarchical<B> {
    /// Items of `sequences` sequences of `length` tokens, `x [t, b·s·l, d]`, to `[t, b, d]`, and the
    /// maps of both levels.
    ///
    /// # Panics
    /// When the tokens are no whole number of items.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        sequences: usize,
        length: usize,
        hidden: &HierarchicalMasks<B>,
    ) -> (Tensor<B, 3>, HierarchicalMaps<B>) {
        let (read, within) = self.within.forward(x, length, hidden.within.as_ref());
        let (read, over) = self.over.forward(read, sequences, hidden.over.as_ref());
        (read, HierarchicalMaps { within, over })
    }
}
