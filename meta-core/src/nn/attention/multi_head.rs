//! Multi-head attention, within a sequence or from one to another.

use burn::{
    module::Module,
    tensor::{Bool, Tensor, backend::Backend},
};

use super::{AttentionInfo, Weighting, mask, position::rotate};
use crate::{
    Error, Result,
    nn::{Pass, dropout::dropout, init::Initializer, linear::Linear},
    primitives::{Primitives, attention_read, attention_scores},
    settings::{at_least, below_one},
};

pub(super) const MULTI_HEAD: AttentionInfo = AttentionInfo {
    name: "multi_head",
    family: "layer",
    summary: "several heads of scaled dot products, each with its projections; within a sequence (self) or across (cross)",
    paper: "Vaswani et al., Attention is all you need, NIPS 2017, section 3.2.2",
};

/// Widths of a [`MultiHeadAttention`].
#[derive(Clone, Copy, Debug)]
pub struct MultiHeadSettings {
    /// Width of the queries, and of the result.
    pub queries: usize,
    /// Width of what is read.
    pub memory: usize,
    /// Heads, at least 1; must divide `key_width` and `value_width`.
    pub heads: usize,
    /// Width of the projected queries and keys, of all heads together.
    pub key_width: usize,
    /// Width of the projected values, of all heads together.
    pub value_width: usize,
    /// Probability with which an entry of the map is dropped in training, after the softmax; in
    /// [0, 1).
    pub dropout: f64,
    /// Whether queries and keys are turned by their positions ([`rotate`]); the width of a head must
    /// then be even.
    pub rotary: bool,
    /// What the weights of a read follow from.
    pub weighting: Weighting,
}

impl MultiHeadSettings {
    /// Queries, memory, keys and values of one width; no dropout, no positions.
    pub fn of_width(width: usize, heads: usize) -> Self {
        MultiHeadSettings {
            queries: width,
            memory: width,
            heads,
            key_width: width,
            value_width: width,
            dropout: 0.0,
            rotary: false,
            weighting: Weighting::Softmax,
        }
    }

    /// Checks the settings; `section` is the path that messages name them under (`encoder`).
    ///
    /// # Errors
    /// [`Error::Setting`] for a width or a number of heads of 0, heads that do not divide a width, a
    /// dropout outside of [0, 1), and heads of odd width that are to be turned.
    pub fn check(&self, section: &str) -> Result<()> {
        let heads = format!("{section}.heads");
        check_heads(&heads, self.heads, "the width of the keys", self.key_width)?;
        check_heads(
            &heads,
            self.heads,
            "the width of the values",
            self.value_width,
        )?;
        let of_head = self.key_width / self.heads;
        if self.rotary && !of_head.is_multiple_of(2) {
            return Err(Error::setting(
                heads,
                self.heads,
                format!("rotary positions turn pairs, and a head of width {of_head} has none left"),
            ));
        }
        below_one().check(format!("{section}.dropout"), &self.dropout)
    }
}

/// Checks that the `heads` of the setting `key` divide a width, which messages call `what`.
///
/// # Errors
/// [`Error::Setting`] when they do not, or one of the two is 0.
pub fn check_heads(key: &str, heads: usize, what: &str, width: usize) -> Result<()> {
    at_least(1).check(key, &heads)?;
    if width >= 1 && width.is_multiple_of(heads) {
        Ok(())
    } else {
        Err(Error::setting(
            key,
            heads,
            format!("must divide {what} = {width}"),
        ))
    }
}

/// Multi-head attention (Vaswani et al., NIPS 2017, section 3.2.2), with weights shared or per task.
///
/// `head_i = attention(x W_i^Q, y W_i^K, y W_i^V)`, result `concat(head_i) W^O`; self-attention where
/// `y` is `x`. Unlike Burn's `nn::MultiHeadAttention` it is differentiable twice, refuses heads that do
/// not divide the width, drops out after the softmax, and its linear layers have a task axis.
///
/// # Differences from the paper
/// The projections have biases, as in PyTorch.
#[derive(Module, Debug)]
pub struct MultiHeadAttention<B: Backend> {
    /// `W^Q`.
    pub query: Linear<B>,
    /// `W^K`.
    pub key: Linear<B>,
    /// `W^V`.
    pub value: Linear<B>,
    /// `W^O`.
    pub output: Linear<B>,
    #[module(skip)]
    settings: MultiHeadSettings,
}

/// Multi-head attention of a sequence to itself.
pub type MultiHeadSelfAttention<B> = MultiHeadAttention<B>;

impl<B: Backend> MultiHeadAttention<B> {
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
        Self::build(
            MultiHeadSettings::of_width(width, heads),
            initializer,
            device,
        )
    }

    /// Glorot-uniform projections of any widths.
    ///
    /// # Errors
    /// Those of [`MultiHeadSettings::check`].
    pub fn with(
        settings: MultiHeadSettings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Result<Self> {
        settings.check("attention")?;
        Ok(Self::build(settings, initializer, device))
    }

    fn build(
        settings: MultiHeadSettings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let MultiHeadSettings {
            queries,
            memory,
            key_width,
            value_width,
            ..
        } = settings;
        let mut projection = |from, to| Linear::glorot(from, to, initializer, device);
        MultiHeadAttention {
            query: projection(queries, key_width),
            key: projection(memory, key_width),
            value: projection(memory, value_width),
            output: projection(value_width, queries),
            settings,
        }
    }
}

impl<B: Primitives> MultiHeadAttention<B> {
    /// Attends within sequences of `length` tokens, without a mask and without dropout: `x [t, b·l, d]`
    /// to the same shape, and the map `[t·b, heads, l, l]`.
    ///
    /// # Panics
    /// When `length` does not divide the tokens.
    pub fn forward(&self, x: Tensor<B, 3>, length: usize) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let tokens = x.dims()[1];
        assert_eq!(tokens % length, 0, "{tokens} tokens, sequences of {length}");
        self.attend(x.clone(), x, tokens / length, None, &Pass::evaluation())
    }

    /// Queries `[t, b·l, d]` read the memory `[t, b·m, e]` of the same of `items` items: the result
    /// `[t, b·l, d]`, and the map before dropout, `[t·b, heads, l, m]`.
    ///
    /// `hidden` says what is not read, in a shape that broadcasts to that of the map
    /// ([`mask`](super::mask)).
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn attend(
        &self,
        queries: Tensor<B, 3>,
        memory: Tensor<B, 3>,
        items: usize,
        hidden: Option<&Tensor<B, 4, Bool>>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        self.read(queries, memory.clone(), memory, items, hidden, pass)
    }

    /// The same where what a query looks for is not what it reads: keys and values `[t, b·m, e]`.
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn read(
        &self,
        queries: Tensor<B, 3>,
        keys: Tensor<B, 3>,
        values: Tensor<B, 3>,
        items: usize,
        hidden: Option<&Tensor<B, 4, Bool>>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        assert!(
            queries.dims()[1].is_multiple_of(items) && keys.dims()[1].is_multiple_of(items),
            "queries {:?} and memory {:?} of {items} items",
            queries.dims(),
            keys.dims()
        );
        let memory = self.project(keys, values, items);
        self.read_projected(queries, &memory, items, hidden, pass)
    }

    /// Keys and values `[t, b·m, e]` of `items` items as they are read, once for any number of reads: with
    /// positions, the first of each item has the first.
    pub fn project(
        &self,
        keys: Tensor<B, 3>,
        values: Tensor<B, 3>,
        items: usize,
    ) -> ProjectedMemory<B> {
        ProjectedMemory {
            keys: self.placed(of_items(self.key.forward(keys), items)),
            values: of_items(self.value.forward(values), items),
        }
    }

    /// [`MultiHeadAttention::attend`] to what is projected already.
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn read_projected(
        &self,
        queries: Tensor<B, 3>,
        memory: &ProjectedMemory<B>,
        items: usize,
        hidden: Option<&Tensor<B, 4, Bool>>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let [t, rows, _] = queries.dims();
        let MultiHeadSettings {
            heads,
            dropout: rate,
            weighting,
            ..
        } = self.settings;
        let (read, map) = soft_read(
            self.placed(of_items(self.query.forward(queries), items)),
            memory.keys.clone(),
            memory.values.clone(),
            heads,
            weighting,
            hidden,
            |map| dropout(map, rate, pass),
        );
        let width = read.dims()[2];
        (self.output.forward(read.reshape([t, rows, width])), map)
    }

    fn placed(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        match self.settings.rotary {
            true => rotate(x, self.settings.heads),
            false => x,
        }
    }
}

/// `[t, b·l, d]` to `[t·b, l, d]`.
fn of_items<B: Backend>(x: Tensor<B, 3>, items: usize) -> Tensor<B, 3> {
    let [t, rows, width] = x.dims();
    x.reshape([t * items, rows / items, width])
}

/// Keys and values of a memory, projected for the attention that reads them: `[n, m, width]` each.
#[derive(Clone, Debug)]
pub struct ProjectedMemory<B: Backend> {
    keys: Tensor<B, 3>,
    values: Tensor<B, 3>,
}

impl<B: Backend> ProjectedMemory<B> {
    /// This memory, and `later` behind it.
    pub fn then(self, later: ProjectedMemory<B>) -> Self {
        ProjectedMemory {
            keys: Tensor::cat(vec![self.keys, later.keys], 1),
            values: Tensor::cat(vec![self.values, later.values], 1),
        }
    }
}

/// Scores, softmax and read of all heads: `q [n, l, heads·d]`, `k [n, m, heads·d]`,
/// `v [n, m, heads·e]` to the read `[n, l, heads·e]` and the map `[n, heads, l, m]`, which `drop` may
/// change before it is read by.
///
/// The whole of soft attention between the projections, in one place.
fn soft_read<B: Primitives>(
    q: Tensor<B, 3>,
    k: Tensor<B, 3>,
    v: Tensor<B, 3>,
    heads: usize,
    weighting: Weighting,
    hidden: Option<&Tensor<B, 4, Bool>>,
    drop: impl Fn(Tensor<B, 4>) -> Tensor<B, 4>,
) -> (Tensor<B, 3>, Tensor<B, 4>) {
    let lengths = [q.dims()[1], k.dims()[1]];
    let factor = (heads as f64 / q.dims()[2] as f64).sqrt();
    let scores = weighting.scores(attention_scores(q, k, heads, lengths));
    let map = mask::softmax_over(scores, hidden.cloned(), factor);
    (attention_read(drop(map.clone()), v), map)
}
