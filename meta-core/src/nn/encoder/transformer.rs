//! A transformer over the steps of an item.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use serde_json::{Value, json};

use super::{
    Encoder, EncoderInfo, EncoderSettings, Operations, StepPooling, Steps, products, record_blocks,
    sequence::only_there,
};
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
    primitives::{Primitives, mean_rows},
    settings,
};

settings! {
    /// Settings of [`Transformer`].
    pub struct TransformerSettings {
        /// Width of a token and of the embedding. The steps of an item are its rows, or, for a
        /// vector, its features.
        width: usize = 64, size(1);
        /// Attention heads; must divide the width. With rotary positions, the width of a head must
        /// be even.
        heads: usize = 4, size(0);
        /// Transformer blocks.
        layers: usize = 2, size(1);
        /// Width of the hidden feed-forward layer.
        hidden: usize = 128, size(1);
        /// How steps are told their positions: `sinusoidal`, `learned`, `rotary`, `none`.
        positions: Positions = Positions::Sinusoidal;
        /// Whether a step sees those before it alone; the embedding is then the last step, else the
        /// mean over steps.
        causal: bool = false;
        /// Probability with which a value is dropped in training: of a map, of what a part of a
        /// block adds, and of the embedded steps; in [0, 1).
        dropout: f64 = 0.1;
        /// Whether rows of zeros are padding, and not attended to: for items of unequal lengths, such as texts
        /// and series.
        #[added("0.2")]
        padding: bool = false;
    }
}

impl TransformerSettings {
    fn attention(&self) -> MultiHeadSettings {
        MultiHeadSettings {
            dropout: self.dropout,
            rotary: self.positions == Positions::Rotary,
            ..MultiHeadSettings::of_width(self.width, self.heads)
        }
    }
}

impl EncoderSettings for TransformerSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "transformer",
        input: "sequence",
        summary: "rows or features attend to each other as a sequence",
        paper: "Vaswani et al., Attention is all you need, NIPS 2017, section 3; normalised first, Xiong et al., ICML 2020",
    };

    type Encoder<B: Primitives> = Transformer<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        check_heads("encoder.heads", self.heads, "encoder.width", self.width)?;
        self.attention().check("encoder")?;
        Steps::check(Self::INFO.name, item)
    }

    fn width(&self, _item: ItemShape) -> usize {
        self.width
    }

    fn activations(&self, item: ItemShape) -> usize {
        let steps = Steps::of(item).length;
        let block = BlockSettings {
            width: self.width,
            heads: self.heads,
            hidden: self.hidden,
        };
        let layers = self.layers.saturating_mul(block.activations(steps, steps));
        layers.saturating_add(item.features() + self.width)
    }

    fn statistics(&self) -> Statistics {
        Statistics::Layer
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let steps = Steps::of(item);
        let block = BlockSettings {
            width: self.width,
            heads: self.heads,
            hidden: self.hidden,
        };
        Operations {
            first: products(&[steps.length, steps.features, self.width]),
            rest: self.layers as f64 * block.operations(steps.length, steps.length),
        }
    }

    fn widen(&mut self, width: usize) {
        self.width = width;
    }

    fn small() -> Vec<Value> {
        vec![json!({
            "width": 4, "heads": 2, "layers": 1, "hidden": 5, "dropout": 0.3,
            "positions": "rotary", "causal": true,
        })]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Transformer<B> {
        Transformer::new(item, self, initializer, device)
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
            padding,
            ..
        } = self.settings;
        let absent = padding.then(|| self.steps.padding(&x));
        let there = padding.then(|| self.steps.there(&x));
        let embedded = self.embedding.forward(self.steps.rows(x));
        let placed = match (positions, &self.positions) {
            (Positions::Sinusoidal, _) => place(embedded, sinusoidal(length, width, &device)),
            (_, Some(learned)) => place(embedded, learned.val()),
            _ => embedded,
        };
        let placed = dropout(placed, rate, pass);
        let later = causal.then(|| mask::causal(length, &device));
        let hidden = match (later, absent) {
            (Some(later), Some(absent)) => {
                let shape = [t * b, 1, length, length];
                Some(later.expand(shape).bool_or(absent.expand(shape)))
            }
            (later, absent) => later.or(absent),
        };
        let (seen, maps) = stack(&self.blocks, placed, length, hidden.as_ref(), pass);
        record_blocks(&maps, &self.steps.axis(), pass);
        let seen = self.norm.forward(seen, b * length, pass);
        if let Some(there) = &there {
            let pooling = if causal {
                StepPooling::Last
            } else {
                StepPooling::Mean
            };
            return (pooling.of(only_there(seen, there), there, length), maps);
        }
        let seen = seen.reshape([t * b, length, width]);
        let embedding = if causal {
            seen.narrow(1, length - 1, 1)
        } else {
            mean_rows(seen)
        };
        (embedding.reshape([t, b, width]), maps)
    }
}

impl<B: Primitives> Encoder<B> for Transformer<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        self.forward_with_maps(x, pass).0
    }
}
