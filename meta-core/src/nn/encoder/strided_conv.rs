//! The convolutional encoder of MAML's and Reptile's experiments on Omniglot: strides instead of pooling.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use serde_json::{Value, json};

use super::{
    Encoder, EncoderInfo, EncoderSettings, Operations,
    conv4::{averaged, flattened},
    products,
};
use crate::{
    Result,
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
    /// Settings of [`StridedConv`]; the defaults are those of Finn et al. (ICML 2017, section 5.2).
    ///
    /// Zeros are padded evenly, where the authors' TensorFlow pads the lower right side alone if sizes are even.
    pub struct StridedConvSettings {
        /// Channels of every block.
        channels: usize = 64, size(1);
        /// Number of blocks; each halves height and width, rounded up.
        blocks: usize = 4, size(1);
        /// What each block is normalised over: `episode`, `support`, `running`, `none`, `layer`.
        norm: Statistics = Statistics::Episode;
        /// Whether the last feature map is averaged over its positions (MAML), or flattened (Reptile).
        average: bool = true;
    }
}

impl StridedConvSettings {
    /// Height and width of the map after so many blocks.
    fn map(item: ItemShape, blocks: usize) -> [usize; 2] {
        let halved = |side: usize| (0..blocks).fold(side, |side, _| side.div_ceil(2));
        [halved(item.height), halved(item.width)]
    }

    fn positions(item: ItemShape, blocks: usize) -> usize {
        Self::map(item, blocks).into_iter().product()
    }
}

impl EncoderSettings for StridedConvSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "strided_conv",
        input: "image",
        summary: "blocks of 3×3 convolution with stride 2, normalisation and ReLU: several times cheaper than `conv4`",
        paper: "Finn et al., ICML 2017, section 5.2; Nichol et al., arXiv:1803.02999, 2018",
    };

    type Encoder<B: Primitives> = StridedConv<B>;

    fn check(&self, _item: ItemShape) -> Result<()> {
        Ok(())
    }

    fn width(&self, item: ItemShape) -> usize {
        match self.average {
            true => self.channels,
            false => Self::positions(item, self.blocks) * self.channels,
        }
    }

    fn feature_map(&self, item: ItemShape) -> Option<ItemShape> {
        let [height, width] = Self::map(item, self.blocks);
        let channels = self.channels;
        (!self.average).then_some(ItemShape {
            height,
            width,
            channels,
        })
    }

    /// The convolution of each block, and its ReLU.
    fn activations(&self, item: ItemShape) -> usize {
        let positions = (1..=self.blocks).map(|blocks| Self::positions(item, blocks));
        item.features() + 2 * self.channels * positions.sum::<usize>()
    }

    fn statistics(&self) -> Statistics {
        self.norm
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let block = |block: usize, inputs: usize| {
            products(&[Self::positions(item, block + 1), 9, inputs, self.channels])
        };
        Operations {
            first: block(0, item.channels),
            rest: (1..self.blocks)
                .map(|number| block(number, self.channels))
                .sum(),
        }
    }

    fn widen(&mut self, width: usize) {
        self.channels = width;
    }

    fn small() -> Vec<Value> {
        vec![
            json!({"channels": 3, "blocks": 2}),
            json!({"channels": 2, "blocks": 1, "average": false}),
        ]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> StridedConv<B> {
        let channels = self.channels;
        let block = |index: usize| Block {
            conv: Conv2d::he(
                [if index == 0 { item.channels } else { channels }, channels],
                3,
                2,
                1,
                initializer,
                device,
            ),
            norm: Norm::new(channels, self.norm, &format!("blocks.{index}.norm"), device),
        };
        StridedConv {
            blocks: (0..self.blocks).map(block).collect(),
            item,
            average: self.average,
        }
    }
}

/// One block: 3×3 convolution with stride 2, normalisation, ReLU.
#[derive(Module, Debug)]
struct Block<B: Backend> {
    conv: Conv2d<B>,
    norm: Norm<B>,
}

/// Blocks one after the other; the embedding is the mean of the last feature map over its positions, or the map.
#[derive(Module, Debug)]
pub struct StridedConv<B: Backend> {
    blocks: Vec<Block<B>>,
    #[module(skip)]
    item: ItemShape,
    #[module(skip)]
    average: bool,
}

impl<B: Primitives> Encoder<B> for StridedConv<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let [t, b, _] = x.dims();
        let image = x.reshape([t, b, self.item.height, self.item.width, self.item.channels]);
        let map = self.blocks.iter().fold(image, |map, block| {
            let convolved = block.conv.forward(map);
            let [t, b, h, w, c] = convolved.dims();
            let rows = convolved.reshape([t, b * h * w, c]);
            block
                .norm
                .forward_relu(rows, b, pass)
                .reshape([t, b, h, w, c])
        });
        match self.average {
            true => averaged(map),
            false => flattened(map),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Cpu, nn::encoder::Architecture};

    /// Of a constant image, a window of ones sums as many pixels as it covers: 4 in the corner of a 2×2 map
    /// that reaches from the padding inwards, 6 beside it and 9 in the middle.
    #[test]
    fn windows_are_two_apart() {
        let item = ItemShape {
            height: 4,
            width: 4,
            channels: 1,
        };
        let settings = StridedConvSettings {
            channels: 1,
            blocks: 1,
            norm: Statistics::None,
            average: false,
        };
        let architecture = settings.on(item).expect("an image");
        assert_eq!(architecture.width(), 4);
        let device = Default::default();
        let mut model = architecture.init::<Cpu>(&mut Initializer::zeros(), &device);
        let weight = &mut model.blocks[0].conv.weight;
        *weight = weight.clone().map(|weight| weight.ones_like());
        let image = Tensor::<Cpu, 3>::ones([1, 1, 16], &device);
        let found = model.forward(image, &Pass::evaluation());
        assert_eq!(
            found.into_data().to_vec::<f32>().unwrap(),
            [4.0, 6.0, 6.0, 9.0]
        );
        let odd = ItemShape {
            height: 7,
            width: 5,
            channels: 1,
        };
        assert_eq!(StridedConvSettings::map(odd, 2), [2, 2]);
    }
}
