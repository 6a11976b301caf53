//! Conv-4 whose feature map attends to itself.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use serde_json::{Value, json};

use super::{
    Encoder, EncoderInfo, EncoderSettings, Operations,
    conv4::{Conv4, Conv4Settings, flattened},
    products,
};
use crate::{
    Error, Result,
    data::ItemShape,
    nn::{
        Pass,
        attention::{MapAxis, MultiHeadAttention, MultiHeadSettings},
        init::{Initializer, constant},
        norm::Statistics,
    },
    primitives::{Primitives, scale},
    settings,
};

settings! {
    /// Settings of [`Conv4Attention`]; those of Conv-4 are the defaults there.
    pub struct Conv4AttentionSettings {
        /// Channels of every block.
        channels: usize = Conv4Settings::default().channels, size(1);
        /// Number of blocks; each halves height and width.
        blocks: usize = Conv4Settings::default().blocks, size(1);
        /// What each block is normalised over: `episode`, `support`, `running`, `none`, `layer`.
        norm: Statistics = Conv4Settings::default().norm;
        /// After how many blocks the positions of the map attend to each other, in 1..=blocks; at
        /// least two positions must be left there.
        after: usize = 3, size(0);
        /// Attention heads; must divide the channels over `reduction`.
        heads: usize = 1, size(0);
        /// How much narrower than the map its queries, keys and values are: must divide the channels.
        reduction: usize = 8, size(1);
    }
}

impl Conv4AttentionSettings {
    fn conv4(&self) -> Conv4Settings {
        Conv4Settings {
            channels: self.channels,
            blocks: self.blocks,
            norm: self.norm,
        }
    }

    fn attention(&self) -> MultiHeadSettings {
        let narrow = self.channels / self.reduction;
        MultiHeadSettings {
            key_width: narrow,
            value_width: narrow,
            ..MultiHeadSettings::of_width(self.channels, self.heads)
        }
    }
}

impl EncoderSettings for Conv4AttentionSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "conv4_attention",
        input: "image",
        summary: "Conv-4 in which the positions of the feature map attend to each other after a block",
        paper: "Zhang et al., Self-attention generative adversarial networks, ICML 2019, section 3; Conv-4 as Vinyals et al., NIPS 2016",
    };

    type Encoder<B: Primitives> = Conv4Attention<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        self.conv4().check(item)?;
        if !(1..=self.blocks).contains(&self.after) {
            return Err(Error::setting(
                "encoder.after",
                self.after,
                format!("must be in 1..={}, the number of blocks", self.blocks),
            ));
        }
        let [height, width] = [item.height, item.width].map(|side| side >> self.after);
        if height * width < 2 {
            return Err(Error::setting(
                "encoder.after",
                self.after,
                format!(
                    "leaves one position of {}×{}, and nothing to attend to",
                    item.height, item.width
                ),
            ));
        }
        if !self.channels.is_multiple_of(self.reduction) {
            return Err(Error::setting(
                "encoder.reduction",
                self.reduction,
                format!("must divide encoder.channels = {}", self.channels),
            ));
        }
        self.attention().check("encoder")
    }

    fn width(&self, item: ItemShape) -> usize {
        self.conv4().width(item)
    }

    fn feature_map(&self, item: ItemShape) -> Option<ItemShape> {
        self.conv4().feature_map(item)
    }

    /// Those of Conv-4; projections, maps, read and sum of the attention.
    fn activations(&self, item: ItemShape) -> usize {
        let positions = (item.height >> self.after) * (item.width >> self.after);
        let projections = 4 * positions * (self.channels / self.reduction);
        let maps = self.heads.saturating_mul(positions * positions);
        let others = self.conv4().activations(item) + projections;
        maps.saturating_add(others + 2 * positions * self.channels)
    }

    fn statistics(&self) -> Statistics {
        self.norm
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let conv4 = self.conv4().operations(item);
        let narrow = self.channels / self.reduction;
        let positions = (item.height >> self.after) * (item.width >> self.after);
        // Queries, keys, values and output; scores and read.
        let attention = 4.0 * products(&[positions, self.channels, narrow])
            + 2.0 * products(&[positions, positions, narrow]);
        Operations {
            rest: conv4.rest + attention,
            ..conv4
        }
    }

    fn widen(&mut self, width: usize) {
        self.channels = width;
    }

    fn small() -> Vec<Value> {
        vec![json!({"channels": 4, "blocks": 2, "after": 1, "heads": 2, "reduction": 2})]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Conv4Attention<B> {
        Conv4Attention::new(item, self, initializer, device)
    }
}

/// `x + γ attention(x)` over the positions of a feature map of Conv-4 (Zhang et al., ICML 2019,
/// eq. 3), `γ` a learned number that starts at 0: the network starts as Conv-4.
///
/// # Differences from the paper
/// Scores are divided by the root of their width, projections have biases, and there may be several
/// heads.
#[derive(Module, Debug)]
pub struct Conv4Attention<B: Backend> {
    conv4: Conv4<B>,
    attention: MultiHeadAttention<B>,
    /// `γ`, `[1|t, 1, 1]`.
    gamma: Param<Tensor<B, 3>>,
    #[module(skip)]
    after: usize,
}

impl<B: Backend> Conv4Attention<B> {
    pub(super) fn new(
        item: ItemShape,
        settings: &Conv4AttentionSettings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        Conv4Attention {
            conv4: Conv4::at("conv4.", item, &settings.conv4(), initializer, device),
            attention: MultiHeadAttention::with(settings.attention(), initializer, device)
                .expect("checked with the settings"),
            gamma: constant(0.0, [1, 1, 1], device),
            after: settings.after,
        }
    }
}

impl<B: Primitives> Conv4Attention<B> {
    /// The embeddings `[t, b, d]` and the map of the attention, `[t·b, heads, h·w, h·w]`.
    pub fn forward_with_map(
        &self,
        x: Tensor<B, 3>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let below = self.conv4.images(x);
        let below = self.conv4.pass_blocks(..self.after, below, pass);
        let [t, b, h, w, c] = below.dims();
        let tokens = below.reshape([t, b * h * w, c]);
        let (read, map) = self.attention.forward(tokens.clone(), h * w);
        pass.record(
            "encoder.attention",
            MapAxis::Part(h, w),
            MapAxis::Part(h, w),
            &map,
        );
        let gamma = self.gamma.val();
        let gamma_tasks = gamma.dims()[0];
        let attended = tokens + scale(read, gamma.expand([gamma_tasks, 1, c]));
        let attended = attended.reshape([t, b, h, w, c]);
        let above = self.conv4.pass_blocks(self.after.., attended, pass);
        (flattened(above), map)
    }
}

impl<B: Primitives> Encoder<B> for Conv4Attention<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        self.forward_with_map(x, pass).0
    }
}
