//! Attention to what came before: over a whole sequence at once, or step by step with the past kept.

use burn::{
    module::Module,
    tensor::{Bool, Tensor, backend::Backend},
};

use super::{
    attention::{Weighting, mask},
    init::Initializer,
    linear::Linear,
};
use crate::primitives::{Primitives, attention_read, attention_scores, join, masked_softmax};

/// Rows that were seen, of `n` sequences: `[n, steps, c]`, nothing at first.
#[derive(Clone, Debug, Default)]
pub struct Rows<B: Backend>(pub Option<Tensor<B, 3>>);

impl<B: Backend> Rows<B> {
    /// Adds the row of a step, `[n, 1, c]`; all of them.
    pub fn add(&mut self, row: Tensor<B, 3>) -> Tensor<B, 3> {
        let all = match self.0.take() {
            Some(rows) => Tensor::cat(vec![rows, row], 1),
            None => row,
        };
        self.0 = Some(all.clone());
        all
    }
}

/// What an attention block keeps of the steps that it has read.
#[derive(Clone, Debug, Default)]
pub struct Past<B: Backend> {
    keys: Rows<B>,
    values: Rows<B>,
}

/// `[x ; Σ_j softmax_j(k(x_j) · q(x) / √d_k) v(x_j)]`, one head.
#[derive(Module, Debug)]
pub struct AttentionBlock<B: Backend> {
    query: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
}

impl<B: Primitives> AttentionBlock<B> {
    /// Glorot-uniform projections to keys and values of these widths.
    pub fn new(
        inputs: usize,
        [keys, values]: [usize; 2],
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let mut projection = |width| Linear::glorot(inputs, width, initializer, device);
        AttentionBlock {
            query: projection(keys),
            key: projection(keys),
            value: projection(values),
        }
    }

    /// `x [t, l, c]` to `[t, l, c + values]`, and the map `[t, 1, l, l]`.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        weighting: Weighting,
        hidden: &Tensor<B, 4, Bool>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let rows = x.dims()[1];
        let (query, key) = (self.query.forward(x.clone()), self.key.forward(x.clone()));
        let factor = (key.dims()[2] as f64).sqrt().recip();
        let scores = weighting.scores(attention_scores(query, key, 1, [rows, rows]));
        let map = masked_softmax(scores, hidden.clone(), factor);
        let read = attention_read(map.clone(), self.value.forward(x.clone()));
        (join(x, read), map)
    }

    /// One step of `n` sequences, `x [n, 1, c]` to `[n, 1, c + values]`: reads the steps in `past` and itself,
    /// and goes there. `hidden [n, 1, 1, steps]` hides steps, its own among them.
    pub fn step(
        &self,
        x: Tensor<B, 3>,
        past: &mut Past<B>,
        weighting: Weighting,
        hidden: Option<Tensor<B, 4, Bool>>,
    ) -> Tensor<B, 3> {
        let query = self.query.forward(x.clone());
        let key = past.keys.add(self.key.forward(x.clone()));
        let value = past.values.add(self.value.forward(x.clone()));
        let (steps, width) = (key.dims()[1], key.dims()[2]);
        let scores = weighting.scores(attention_scores(query, key, 1, [1, steps]));
        let factor = (width as f64).sqrt().recip();
        let map = mask::softmax_over(scores, hidden, factor);
        join(x, attention_read(map, value))
    }
}
