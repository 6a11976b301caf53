//! Self-attention over the parts of an item.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use serde_json::{Value, json};

use super::{Encoder, EncoderInfo, EncoderSettings, Operations, products, record_blocks};
use crate::{
    Error, Result,
    data::ItemShape,
    nn::{
        Pass,
        attention::{Block, BlockSettings, MapAxis, check_heads, position::place, stack},
        init::Initializer,
        linear::Linear,
        norm::{Norm, Statistics},
    },
    primitives::{Primitives, add_rows, conv2d, sum_rows},
    settings,
};

settings! {
    /// Settings of [`AttentionEncoder`].
    pub struct AttentionSettings {
        /// Height and width of the patches an image is cut into, in pixels; must divide both. Items
        /// that are vectors have one token per feature, whatever this says.
        patch: usize = 7, size(0);
        /// Width of a token and of the embedding.
        width: usize = 64, size(1);
        /// Attention heads; must divide the width.
        heads: usize = 4, size(0);
        /// Transformer blocks.
        layers: usize = 2, size(1);
        /// Width of the hidden feed-forward layer.
        hidden: usize = 128, size(1);
    }
}

/// How an item is cut into tokens.
#[derive(Clone, Copy, Debug)]
struct Tokens {
    rows: usize,
    columns: usize,
    patch: usize,
    channels: usize,
}

impl Tokens {
    fn of(item: ItemShape, patch: usize) -> Self {
        match (item.height, item.width) {
            (1, 1) => Tokens {
                rows: 1,
                columns: item.channels,
                patch: 1,
                channels: 1,
            },
            (height, width) => Tokens {
                rows: height / patch,
                columns: width / patch,
                patch,
                channels: item.channels,
            },
        }
    }

    fn count(self) -> usize {
        self.rows * self.columns
    }

    fn features(self) -> usize {
        self.patch * self.patch * self.channels
    }
}

impl AttentionSettings {
    fn block(&self) -> BlockSettings {
        BlockSettings {
            width: self.width,
            heads: self.heads,
            hidden: self.hidden,
        }
    }
}

impl EncoderSettings for AttentionSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "attention",
        input: "image or vector",
        summary: "patches of an item attend to each other; mean over them",
        paper: "Vaswani et al., NIPS 2017, section 3; patches as Dosovitskiy et al., ICLR 2021, section 3.1",
    };

    type Encoder<B: Primitives> = AttentionEncoder<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        check_heads("encoder.heads", self.heads, "encoder.width", self.width)?;
        let vector = (item.height, item.width) == (1, 1);
        let fits = item.height.is_multiple_of(self.patch) && item.width.is_multiple_of(self.patch);
        if !vector && !fits {
            return Err(Error::setting(
                "encoder.patch",
                self.patch,
                format!("must divide the image, {}×{}", item.height, item.width),
            ));
        }
        Ok(())
    }

    fn width(&self, _item: ItemShape) -> usize {
        self.width
    }

    fn activations(&self, item: ItemShape) -> usize {
        let tokens = Tokens::of(item, self.patch).count();
        let layers = self
            .layers
            .saturating_mul(self.block().activations(tokens, tokens));
        layers.saturating_add(item.features() + self.width)
    }

    fn statistics(&self) -> Statistics {
        Statistics::Layer
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let tokens = Tokens::of(item, self.patch).count();
        let features = item.features() / tokens;
        Operations {
            first: products(&[tokens, features, self.width]),
            rest: self.layers as f64 * self.block().operations(tokens, tokens),
        }
    }

    fn widen(&mut self, width: usize) {
        self.width = width;
    }

    fn small() -> Vec<Value> {
        vec![json!({"patch": 2, "width": 4, "heads": 2, "layers": 1, "hidden": 5})]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> AttentionEncoder<B> {
        AttentionEncoder::new(item, self, initializer, device)
    }
}

/// Cuts an item into tokens, embeds them with a learned position each, lets them attend to each
/// other in transformer blocks, and averages them.
#[derive(Module, Debug)]
pub struct AttentionEncoder<B: Backend> {
    embedding: Linear<B>,
    /// Learned position of each token, `[1|t, 1, l·d]`.
    positions: Param<Tensor<B, 3>>,
    blocks: Vec<Block<B>>,
    norm: Norm<B>,
    #[module(skip)]
    tokens: Tokens,
}

impl<B: Backend> AttentionEncoder<B> {
    pub(super) fn new(
        item: ItemShape,
        settings: &AttentionSettings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let tokens = Tokens::of(item, settings.patch);
        AttentionEncoder {
            embedding: Linear::glorot(tokens.features(), settings.width, initializer, device),
            positions: initializer.normal([1, 1, tokens.count() * settings.width], 0.02, device),
            blocks: (0..settings.layers)
                .map(|_| Block::new(settings.block(), initializer, device))
                .collect(),
            norm: Norm::new(settings.width, Statistics::Layer, "", device),
            tokens,
        }
    }
}

impl<B: Primitives> AttentionEncoder<B> {
    /// The embeddings `[t, b, d]` and the attention map of each block, `[t·b, heads, l, l]`.
    pub fn forward_with_maps(
        &self,
        x: Tensor<B, 3>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Vec<Tensor<B, 4>>) {
        let [t, b, _] = x.dims();
        let Tokens {
            rows,
            columns,
            patch,
            channels,
        } = self.tokens;
        let length = self.tokens.count();
        // Patches that touch each other are the windows of a convolution.
        let images = x.reshape([t, b, rows * patch, columns * patch, channels]);
        let Linear { weight, bias } = &self.embedding;
        let [tasks, _, d] = weight.dims();
        let kernel = weight.val().reshape([tasks, patch * patch, channels, d]);
        let embedded = conv2d(images, kernel, patch, 0).reshape([t, b * length, d]);
        let embedded = add_rows(embedded, bias.val());
        let placed = place(embedded, self.positions.val());
        let (hidden, maps) = stack(&self.blocks, placed, length, None, pass);
        record_blocks(&maps, &MapAxis::Part(rows, columns), pass);
        let hidden = self.norm.forward(hidden, b * length, pass);
        let sums = sum_rows(hidden.reshape([t * b, length, d]));
        let mean = sums.reshape([t, b, d]).mul_scalar(1.0 / length as f64);
        (mean, maps)
    }
}

impl<B: Primitives> Encoder<B> for AttentionEncoder<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        self.forward_with_maps(x, pass).0
    }
}
