//! Self-attention over the parts of an item.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use serde::{Deserialize, Serialize};

use super::{Encoder, at_least_one, record_blocks};
use crate::{
    Error, Result,
    data::ItemShape,
    nn::{
        Axis, Pass,
        attention::{Block, BlockSettings, check_heads, position::place, stack},
        init::Initializer,
        linear::Linear,
        norm::{Norm, Statistics},
    },
    primitives::{Primitives, add_rows, conv2d, sum_rows},
};

/// Settings of [`AttentionEncoder`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttentionSettings {
    /// Height and width of the patches an image is cut into, in pixels; must divide both. Items that
    /// are vectors have one token per feature, whatever this says.
    pub patch: usize,
    /// Width of a token and of the embedding, at least 1.
    pub width: usize,
    /// Attention heads; must divide the width.
    pub heads: usize,
    /// Transformer blocks, at least 1.
    pub layers: usize,
    /// Width of the hidden feed-forward layer, at least 1.
    pub hidden: usize,
}

impl Default for AttentionSettings {
    fn default() -> Self {
        AttentionSettings {
            patch: 7,
            width: 64,
            heads: 4,
            layers: 2,
            hidden: 128,
        }
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
    pub(super) const FAMILY: &str = "image or vector";
    pub(super) const SUMMARY: &str = "patches of an item attend to each other; mean over them";
    pub(super) const PAPER: &str = "Vaswani et al., NIPS 2017, section 3; patches as Dosovitskiy et al., ICLR 2021, section 3.1";

    pub(super) fn check(&self, item: ItemShape) -> Result<()> {
        for (key, value) in [
            ("patch", self.patch),
            ("width", self.width),
            ("heads", self.heads),
            ("layers", self.layers),
            ("hidden", self.hidden),
        ] {
            at_least_one(key, value)?;
        }
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

    pub(super) fn width(&self, _item: ItemShape) -> usize {
        self.width
    }

    fn block(&self) -> BlockSettings {
        BlockSettings {
            width: self.width,
            heads: self.heads,
            hidden: self.hidden,
        }
    }

    pub(super) fn activations(&self, item: ItemShape) -> usize {
        let tokens = Tokens::of(item, self.patch).count();
        item.features() + self.layers * self.block().activations(tokens, tokens) + self.width
    }

    pub(super) fn statistics(&self) -> Statistics {
        Statistics::Layer
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
        record_blocks(&maps, &Axis::Part(rows, columns), pass);
        let hidden = self.norm.forward(hidden, b * length, pass);
        let sums = sum_rows(hidden.reshape([t * b, length, d]));
        let mean = sums.reshape([t, b, d]).div_scalar(length as f64);
        (mean, maps)
    }
}

impl<B: Primitives> Encoder<B> for AttentionEncoder<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        self.forward_with_maps(x, pass).0
    }
}
