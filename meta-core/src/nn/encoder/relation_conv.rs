//! The convolutional encoder of relation networks: it keeps a feature map.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use serde_json::{Value, json};

use super::{Encoder, EncoderInfo, EncoderSettings, Operations, conv4::flattened, products};
use crate::{
    Error, Result,
    data::ItemShape,
    nn::{
        Pass,
        conv::Conv2d,
        init::Initializer,
        norm::{Norm, Statistics},
    },
    primitives::Primitives,
    settings,
};

settings! {
    /// Settings of [`RelationConv`]; the defaults are those of Sung et al. (CVPR 2018, section 3.4), with the
    /// paddings of the authors' code.
    pub struct RelationConvSettings {
        /// Channels of every block.
        channels: usize = 64, size(1);
        /// Number of blocks.
        blocks: usize = 4, size(1);
        /// How many of them, the first ones, take a maximum over 2×2 positions; they have no padding. The others
        /// keep height and width. At most `blocks`.
        pooled: usize = 2, size(0);
        /// What each block is normalised over: `episode`, `support`, `running`, `none`, `layer`.
        norm: Statistics = Statistics::Episode;
    }
}

impl RelationConvSettings {
    /// The map of one channel after a block of `inputs`: that of its convolution, and what is left of it.
    fn block(&self, block: usize, [height, width]: [usize; 2]) -> ([usize; 2], [usize; 2]) {
        if block >= self.pooled {
            return ([height, width], [height, width]);
        }
        let convolved = [height, width].map(|side| side.saturating_sub(2));
        (convolved, convolved.map(|side| side / 2))
    }

    /// Height and width of the convolutions of all blocks, and of the map at the end.
    fn maps(&self, item: ItemShape) -> (Vec<[usize; 2]>, [usize; 2]) {
        let mut map = [item.height, item.width];
        let convolved = (0..self.blocks).map(|block| {
            let (convolved, left) = self.block(block, map);
            map = left;
            convolved
        });
        let convolved = convolved.collect();
        (convolved, map)
    }
}

impl EncoderSettings for RelationConvSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "relation_conv",
        input: "image",
        summary: "blocks of 3×3 convolution, normalisation and ReLU, of which only the first pool: keeps a feature map",
        paper: "Sung et al., Learning to compare: relation network for few-shot learning, CVPR 2018, section 3.4",
    };

    type Encoder<B: Primitives> = RelationConv<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        if self.pooled > self.blocks {
            let expected = format!("must be at most encoder.blocks = {}", self.blocks);
            return Err(Error::setting("encoder.pooled", self.pooled, expected));
        }
        let (_, [height, width]) = self.maps(item);
        if height == 0 || width == 0 {
            let expected = format!(
                "each pooling block cuts off 2 pixels and halves what is left, and {}×{} is too small",
                item.height, item.width
            );
            return Err(Error::setting("encoder.pooled", self.pooled, expected));
        }
        Ok(())
    }

    fn width(&self, item: ItemShape) -> usize {
        let (_, [height, width]) = self.maps(item);
        height * width * self.channels
    }

    fn feature_map(&self, item: ItemShape) -> Option<ItemShape> {
        let (_, [height, width]) = self.maps(item);
        let channels = self.channels;
        Some(ItemShape {
            height,
            width,
            channels,
        })
    }

    /// The convolution of each block, and its ReLU.
    fn activations(&self, item: ItemShape) -> usize {
        let (convolved, _) = self.maps(item);
        let positions: usize = convolved.iter().map(|[height, width]| height * width).sum();
        item.features() + 2 * self.channels * positions
    }

    fn statistics(&self) -> Statistics {
        self.norm
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let (convolved, _) = self.maps(item);
        let of = |[height, width]: [usize; 2], inputs: usize| {
            products(&[height, width, 9, inputs, self.channels])
        };
        Operations {
            first: of(convolved[0], item.channels),
            rest: convolved[1..]
                .iter()
                .map(|&map| of(map, self.channels))
                .sum(),
        }
    }

    fn widen(&mut self, width: usize) {
        self.channels = width;
    }

    fn small() -> Vec<Value> {
        vec![json!({"channels": 3, "blocks": 2, "pooled": 1})]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> RelationConv<B> {
        let channels = self.channels;
        let block = |index: usize| Block {
            conv: Conv2d::he(
                [if index == 0 { item.channels } else { channels }, channels],
                3,
                1,
                usize::from(index >= self.pooled),
                initializer,
                device,
            ),
            norm: Norm::new(channels, self.norm, &format!("blocks.{index}.norm"), device),
        };
        RelationConv {
            blocks: (0..self.blocks).map(block).collect(),
            item,
            pooled: self.pooled,
        }
    }
}

/// One block: 3×3 convolution, normalisation, ReLU, and 2×2 max pooling in the first blocks.
#[derive(Module, Debug)]
struct Block<B: Backend> {
    conv: Conv2d<B>,
    norm: Norm<B>,
}

/// Blocks one after the other; the embedding is the last feature map, flattened. Images of 28×28 pixels become
/// maps of 5×5.
#[derive(Module, Debug)]
pub struct RelationConv<B: Backend> {
    blocks: Vec<Block<B>>,
    #[module(skip)]
    item: ItemShape,
    #[module(skip)]
    pooled: usize,
}

impl<B: Primitives> Encoder<B> for RelationConv<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let [t, b, _] = x.dims();
        let image = x.reshape([t, b, self.item.height, self.item.width, self.item.channels]);
        let blocks = self.blocks.iter().enumerate();
        flattened(blocks.fold(image, |map, (number, block)| {
            let convolved = block.conv.forward(map);
            if number < self.pooled {
                return block.norm.forward_pool_relu(convolved, 2, pass);
            }
            let [t, b, h, w, c] = convolved.dims();
            let rows = convolved.reshape([t, b * h * w, c]);
            let normalised = block.norm.forward_relu(rows, b, pass);
            normalised.reshape([t, b, h, w, c])
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Cpu, nn::encoder::Architecture};

    /// 28 → 26 → 13 → 11 → 5, as in the authors' code; what `check` lets pass is never empty.
    #[test]
    fn maps_are_those_of_the_paper() {
        let image = |side: usize| ItemShape {
            height: side,
            width: side,
            channels: 1,
        };
        let paper = RelationConvSettings::default();
        let map = paper.feature_map(image(28)).expect("a map");
        assert_eq!([map.height, map.width, map.channels], [5, 5, 64]);
        let architecture = paper.clone().on(image(28)).expect("large enough");
        let model = architecture.init::<Cpu>(&mut Initializer::zeros(), &Default::default());
        let items = Tensor::<Cpu, 3>::zeros([1, 2, 28 * 28], &Default::default());
        let found = model.forward(items, &Pass::evaluation()).dims();
        assert_eq!(found, [1, 2, architecture.width()]);
        let message = paper.on(image(9)).unwrap_err().to_string();
        assert!(message.contains("`encoder.pooled = 2`"), "{message}");
    }
}
