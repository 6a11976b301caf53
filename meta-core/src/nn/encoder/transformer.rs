//! A transformer over the steps of an item.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use serde::{Deserialize, Serialize};

use super::{Encoder, Steps, at_least_one, record_blocks};
use crate::{
    Result,
    data::ItemShape,
    nn::{
        Pass,
        attention::{
            Block, BlockSettings, MultiHeadSettings, check_heads, mask,
            position::{Positions, place, sinusoidal},
            stack,
        },
        dropout::dropout,
        init::Initializer,
        linear::Linear,
        norm::{Norm, Statistics},
    },
    primitives::Primitives,
};

/// Settings of [`Transformer`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransformerSettings {
    /// Width of a token and of the embedding, at least 1. The steps of an item are its rows, or, for a
    /// vector, its features.
    pub width: usize,
    /// Attention heads; must divide the width. With rotary positions, the width of a head must be
    /// even.
    pub heads: usize,
    /// Transformer blocks, at least 1.
    pub layers: usize,
    /// Width of the hidden feed-forward layer, at least 1.
    pub hidden: usize,
    /// How steps are told their positions: `sinusoidal`, `learned`, `rotary`, `none`.
    pub positions: Positions,
    /// Whether a step sees those before it alone; the embedding is then the last step, else the mean
    /// over steps.
    pub causal: bool,
    /// Probability with which a value is dropped in training: of a map, of what a part of a block adds,
    /// and of the embedded steps; in [0, 1).
    pub dropout: f64,
}

impl Default for TransformerSettings {
    fn default() -> Self {
        TransformerSettings {
            width: 64,
            heads: 4,
            layers: 2,
            hidden: 128,
            positions: Positions::Sinusoidal,
            causal: false,
            dropout: 0.1,
        }
    }
}

impl TransformerSettings {
    pub(super) const FAMILY: &str = "sequence";
    pub(super) const SUMMARY: &str = "rows or features attend to each other as a sequence";
    pub(super) const PAPER: &str = "Vaswani et al., Attention is all you need, NIPS 2017, section 3; normalised first, Xiong et al., ICML 2020";

    fn attention(&self) -> MultiHeadSettings {
        MultiHeadSettings {
            dropout: self.dropout,
            rotary: self.positions == Positions::Rotary,
            ..MultiHeadSettings::of_width(self.width, self.heads)
        }
    }

    pub(super) fn check(&self, item: ItemShape) -> Result<()> {
        for (key, value) in [
            ("width", self.width),
            ("layers", self.layers),
            ("hidden", self.hidden),
        ] {
            at_least_one(key, value)?;
        }
        check_heads("encoder.heads", self.heads, "encoder.width", self.width)?;
        self.attention().check("encoder")?;
        Steps::check("transformer", item)
    }

    pub(super) fn width(&self, _item: ItemShape) -> usize {
        self.width
    }

    pub(super) fn activations(&self, item: ItemShape) -> usize {
        let steps = Steps::of(item).length;
        let block = BlockSettings {
            width: self.width,
            heads: self.heads,
            hidden: self.hidden,
        };
        item.features() + self.layers * block.activations(steps, steps) + self.width
    }

    pub(super) fn statistics(&self) -> Statistics {
        Statistics::Layer
    }
}

/// Embeds the steps of an item, tells them their positions, lets them attend to each other in
/// transformer blocks, and takes the mean over steps, or the last one where the mask is causal.
#[derive(Module, Debug)]
pub struct Transformer<B: Backend> {
    embedding: Linear<B>,
    /// Learned position of each step, `[1|t, 1, l·d]`.
    positions: Option<Param<Tensor<B, 3>>>,
    blocks: Vec<Block<B>>,
    norm: Norm<B>,
    #[module(skip)]
    steps: Steps,
    #[module(skip)]
    settings: TransformerSettings,
}

impl<B: Backend> Transformer<B> {
    pub(super) fn new(
        item: ItemShape,
        settings: &TransformerSettings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let steps = Steps::of(item);
        let width = settings.width;
        Transformer {
            embedding: Linear::glorot(steps.features, width, initializer, device),
            positions: (settings.positions == Positions::Learned)
                .then(|| initializer.normal([1, 1, steps.length * width], 0.02, device)),
            blocks: (0..settings.layers)
                .map(|_| {
                    Block::with(settings.attention(), settings.hidden, initializer, device)
                        .expect("checked with the settings")
                })
                .collect(),
            norm: Norm::new(width, Statistics::Layer, "", device),
            steps,
            settings: settings.clone(),
        }
    }
}

impl<B: Primitives> Transformer<B> {
    /// The embeddings `[t, b, d]` and the attention map of each block, `[t·b, heads, l, l]`.
    pub fn forward_with_maps(
        &self,
        x: Tensor<B, 3>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Vec<Tensor<B, 4>>) {
        let [t, b, _] = x.dims();
        let (length, device) = (self.steps.length, x.device());
        let TransformerSettings {
            width,
            positions,
            causal,
            dropout: rate,
            ..
        } = self.settings;
        let embedded = self.embedding.forward(self.steps.rows(x));
        let placed = match (positions, &self.positions) {
            (Positions::Sinusoidal, _) => place(embedded, sinusoidal(length, width, &device)),
            (_, Some(learned)) => place(embedded, learned.val()),
            _ => embedded,
        };
        let placed = dropout(placed, rate, t, pass);
        let hidden = causal.then(|| mask::causal(length, &device));
        let (seen, maps) = stack(&self.blocks, placed, length, hidden.as_ref(), pass);
        record_blocks(&maps, &self.steps.axis(), pass);
        let seen = self.norm.forward(seen, b * length, pass);
        let seen = seen.reshape([t * b, length, width]);
        let embedding = match causal {
            true => seen.narrow(1, length - 1, 1),
            false => seen.mean_dim(1),
        };
        (embedding.reshape([t, b, width]), maps)
    }
}

impl<B: Primitives> Encoder<B> for Transformer<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        self.forward_with_maps(x, pass).0
    }
}
