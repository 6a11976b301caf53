//! The four-block convolutional encoder of the few-shot literature.

use std::ops::RangeBounds;

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use serde_json::{Value, json};

use super::{Encoder, EncoderInfo, EncoderSettings, Operations, check_halvings, products};
use crate::{
    Result,
    data::ItemShape,
    nn::{
        Pass,
        conv::Conv2d,
        init::Initializer,
        norm::{Norm, Statistics},
    },
    primitives::{Primitives, mean_rows},
    settings,
};

settings! {
    /// Settings of [`Conv4`]; the defaults are those of Vinyals et al. (NIPS 2016, section 4.1).
    pub struct Conv4Settings {
        /// Channels of every block.
        channels: usize = 64, size(1);
        /// Number of blocks; each halves height and width.
        blocks: usize = 4, size(1);
        /// What each block is normalised over: `episode`, `support`, `running`, `none`, `layer`.
        norm: Statistics = Statistics::Episode;
    }
}

impl EncoderSettings for Conv4Settings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "conv4",
        input: "image",
        summary: "blocks of 3×3 convolution, normalisation, ReLU and 2×2 max pooling",
        paper: "Vinyals et al., NIPS 2016, section 4.1",
    };

    type Encoder<B: Primitives> = Conv4<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        check_halvings("blocks", &json!(self.blocks), self.blocks, item)
    }

    fn width(&self, item: ItemShape) -> usize {
        (item.height >> self.blocks) * (item.width >> self.blocks) * self.channels
    }

    fn feature_map(&self, item: ItemShape) -> Option<ItemShape> {
        Some(ItemShape {
            height: item.height >> self.blocks,
            width: item.width >> self.blocks,
            channels: self.channels,
        })
    }

    /// The convolution at the block's resolution, its winners and their ReLU at a quarter of it.
    fn activations(&self, item: ItemShape) -> usize {
        let plane = |block: usize| (item.height >> block) * (item.width >> block);
        let planes: usize = (0..self.blocks).map(plane).sum();
        item.features() + self.channels * (planes + planes / 2)
    }

    fn statistics(&self) -> Statistics {
        self.norm
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let block = |block: usize| {
            let inputs = if block == 0 {
                item.channels
            } else {
                self.channels
            };
            let [height, width] = [item.height >> block, item.width >> block];
            products(&[height, width, 9, inputs, self.channels])
        };
        Operations {
            first: block(0),
            rest: (1..self.blocks).map(block).sum(),
        }
    }

    fn widen(&mut self, width: usize) {
        self.channels = width;
    }

    fn small() -> Vec<Value> {
        vec![
            json!({"channels": 3, "blocks": 2}),
            json!({"channels": 3, "blocks": 2, "norm": "support"}),
        ]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Conv4<B> {
        Conv4::new(item, self, initializer, device)
    }
}

/// One block: 3×3 convolution, normalisation, ReLU, 2×2 max pooling.
#[derive(Module, Debug)]
struct Block<B: Backend> {
    conv: Conv2d<B>,
    norm: Norm<B>,
}

/// Blocks one after the other; the embedding is the last feature map, flattened.
#[derive(Module, Debug)]
pub struct Conv4<B: Backend> {
    blocks: Vec<Block<B>>,
    #[module(skip)]
    item: ItemShape,
}

impl<B: Backend> Conv4<B> {
    pub(super) fn new(
        item: ItemShape,
        settings: &Conv4Settings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        Conv4::at("", item, settings, initializer, device)
    }

    /// The network at this path of another one (`conv4.`).
    pub(super) fn at(
        path: &str,
        item: ItemShape,
        settings: &Conv4Settings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let channels = settings.channels;
        let block = |index: usize| Block {
            conv: Conv2d::he(
                [if index == 0 { item.channels } else { channels }, channels],
                3,
                1,
                1,
                initializer,
                device,
            ),
            norm: Norm::new(
                channels,
                settings.norm,
                &format!("{path}blocks.{index}.norm"),
                device,
            ),
        };
        Conv4 {
            blocks: (0..settings.blocks).map(block).collect(),
            item,
        }
    }
}

impl<B: Primitives> Conv4<B> {
    /// Items `[t, b, f]` as images `[t, b, h, w, c]`.
    pub(super) fn images(&self, x: Tensor<B, 3>) -> Tensor<B, 5> {
        let [t, b, _] = x.dims();
        x.reshape([t, b, self.item.height, self.item.width, self.item.channels])
    }

    /// What some of the blocks make of the feature map of those before them, `[t, b, h, w, c]`.
    pub(super) fn pass_blocks(
        &self,
        blocks: impl RangeBounds<usize>,
        map: Tensor<B, 5>,
        pass: &Pass<B>,
    ) -> Tensor<B, 5> {
        let bounds = (blocks.start_bound().cloned(), blocks.end_bound().cloned());
        self.blocks[bounds].iter().fold(map, |map, block| {
            let convolved = block.conv.forward(map);
            block.norm.forward_pool_relu(convolved, 2, pass)
        })
    }
}

/// A feature map `[t, b, h, w, c]` as an embedding, `[t, b, h·w·c]`.
pub(super) fn flattened<B: Backend>(map: Tensor<B, 5>) -> Tensor<B, 3> {
    let [t, b, h, w, c] = map.dims();
    map.reshape([t, b, h * w * c])
}

/// The mean of a feature map `[t, b, h, w, c]` over its positions, `[t, b, c]`.
pub(super) fn averaged<B: Primitives>(map: Tensor<B, 5>) -> Tensor<B, 3> {
    let [t, b, h, w, c] = map.dims();
    mean_rows(map.reshape([t * b, h * w, c])).reshape([t, b, c])
}

impl<B: Primitives> Encoder<B> for Conv4<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        flattened(self.pass_blocks(.., self.images(x), pass))
    }
}
