//! A transformer block.

use burn::{
    module::Module,
    tensor::{Bool, Tensor, backend::Backend},
};

use super::multi_head::{MultiHeadAttention, MultiHeadSettings};
use crate::{
    Result,
    nn::{
        Pass,
        dropout::dropout,
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

impl BlockSettings {
    /// Numbers that the forward pass of one item leaves for the backward pass, where `queries` tokens
    /// read `keys`: two normalisations, three projections, read, output and the feed-forward layer;
    /// the map of every head.
    pub fn activations(self, queries: usize, keys: usize) -> usize {
        let of_tokens = (5 * queries + 3 * keys) * self.width + 2 * queries * self.hidden;
        of_tokens.saturating_add(self.heads.saturating_mul(queries.saturating_mul(keys)))
    }

    /// Useful operations of the forward pass of one item, where `queries` tokens read `keys`: four
    /// projections, scores and read, the feed-forward layer; a multiply-add counts as two.
    pub fn operations(self, queries: usize, keys: usize) -> f64 {
        let products =
            |factors: [usize; 3]| 2.0 * factors.map(|f| f as f64).iter().product::<f64>();
        let (d, hidden) = (self.width, self.hidden);
        2.0 * (products([queries, d, d]) + products([keys, d, d]))
            + 2.0 * products([queries, keys, d])
            + 2.0 * products([queries, d, hidden])
    }
}

/// `y = x + attention(norm(x))`, then `y + W₂ relu(W₁ norm(y))`: a block with the normalisation
/// before each part (Xiong et al., ICML 2020), layer normalisation per token.
///
/// Where it attends from one sequence to another, both pass through the same first normalisation.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    attention_norm: Norm<B>,
    attention: MultiHeadAttention<B>,
    feed_forward_norm: Norm<B>,
    expand: Linear<B>,
    contract: Linear<B>,
    #[module(skip)]
    dropout: f64,
}

impl<B: Backend> Block<B> {
    /// A block with parameters from `initializer`, without dropout and positions.
    ///
    /// # Panics
    /// When the heads do not divide the width.
    pub fn new(settings: BlockSettings, initializer: &mut Initializer, device: &B::Device) -> Self {
        let BlockSettings {
            width,
            heads,
            hidden,
        } = settings;
        let attention = MultiHeadSettings::of_width(width, heads);
        Self::with(attention, hidden, initializer, device).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A block with this attention, whose dropout is applied to what both parts add, too (Vaswani et
    /// al., NIPS 2017, section 5.4), and `hidden` hidden units of the feed-forward part.
    ///
    /// # Errors
    /// Those of [`MultiHeadSettings::check`].
    pub fn with(
        attention: MultiHeadSettings,
        hidden: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Result<Self> {
        let width = attention.queries;
        let norm = || Norm::new(width, Statistics::Layer, "", device);
        Ok(Block {
            attention_norm: norm(),
            dropout: attention.dropout,
            attention: MultiHeadAttention::with(attention, initializer, device)?,
            feed_forward_norm: norm(),
            expand: Linear::he(width, hidden, initializer, device),
            contract: Linear::glorot(hidden, width, initializer, device),
        })
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
        self.forward_masked(x, length, None, pass)
    }

    /// The same where `hidden` says what is not read, in a shape that broadcasts to that of the map.
    pub fn forward_masked(
        &self,
        x: Tensor<B, 3>,
        length: usize,
        hidden: Option<&Tensor<B, 4, Bool>>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let items = x.dims()[1] / length;
        let normalised = self.normalised(x.clone(), pass);
        self.add(x, normalised.clone(), normalised, items, hidden, pass)
    }

    /// Queries `[t, b·l, d]` attend to the memory `[t, b·m, d]` of the same of `items` items: to the
    /// shape of the queries, and the attention map `[t·b, heads, l, m]`.
    pub fn attend(
        &self,
        queries: Tensor<B, 3>,
        memory: Tensor<B, 3>,
        items: usize,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        self.attend_masked(queries, memory, items, None, pass)
    }

    /// The same where `hidden` says what is not read, in a shape that broadcasts to that of the map.
    pub fn attend_masked(
        &self,
        queries: Tensor<B, 3>,
        memory: Tensor<B, 3>,
        items: usize,
        hidden: Option<&Tensor<B, 4, Bool>>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let normalised = self.normalised(queries.clone(), pass);
        let memory = self.normalised(memory, pass);
        self.add(queries, normalised, memory, items, hidden, pass)
    }

    /// The last token of `n` sequences, `tokens [n, m, d]`, reads all of them but those that `hidden [n, 1, 1,
    /// m]` hides: `[n, 1, d]`. What [`Block::forward_masked`] gives for it where later tokens are hidden.
    pub fn last(
        &self,
        tokens: Tensor<B, 3>,
        hidden: Option<&Tensor<B, 4, Bool>>,
        pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let [_, m, _] = tokens.dims();
        let last = tokens.clone().narrow(1, m - 1, 1);
        let normalised = self.normalised(tokens, pass);
        let query = normalised.clone().narrow(1, m - 1, 1);
        self.add(last, query, normalised, 1, hidden, pass).0
    }

    fn normalised(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let tokens = x.dims()[1];
        self.attention_norm.forward(x, tokens, pass)
    }

    /// Both parts, from normalised queries and memory.
    fn add(
        &self,
        x: Tensor<B, 3>,
        queries: Tensor<B, 3>,
        memory: Tensor<B, 3>,
        items: usize,
        hidden: Option<&Tensor<B, 4, Bool>>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let [_, tokens, _] = x.dims();
        let dropped = |part| dropout(part, self.dropout, pass);
        let (read, map) = self.attention.attend(queries, memory, items, hidden, pass);
        let x = x + dropped(read);
        let normalised = self.feed_forward_norm.forward(x.clone(), tokens, pass);
        let hidden = self.expand.forward_relu(normalised);
        (x + dropped(self.contract.forward(hidden)), map)
    }
}

/// Blocks one after the other on sequences `x [t, b·l, d]` of `length` tokens: to the same shape, and
/// the map of each block. `hidden` says what no block reads.
pub fn stack<B: Primitives>(
    blocks: &[Block<B>],
    x: Tensor<B, 3>,
    length: usize,
    hidden: Option<&Tensor<B, 4, Bool>>,
    pass: &Pass<B>,
) -> (Tensor<B, 3>, Vec<Tensor<B, 4>>) {
    let mut maps = Vec::with_capacity(blocks.len());
    let x = blocks.iter().fold(x, |x, block| {
        let (next, map) = block.forward_masked(x, length, hidden, pass);
        maps.push(map);
        next
    });
    (x, maps)
}
