//! The twelve-layer residual network of the few-shot literature.

use burn::{
    module::Module,
    tensor::{Tensor, activation::relu, backend::Backend},
};
use serde_json::{Value, json};

use super::{
    Encoder, EncoderInfo, EncoderSettings, Operations, check_halvings,
    conv4::{averaged, flattened},
    products,
};
use crate::{
    Error, Result,
    data::ItemShape,
    nn::{
        Pass,
        conv::Conv2d,
        dropout::{drop_block, dropout},
        init::Initializer,
        norm::{Norm, Statistics},
    },
    primitives::{Primitives, max_pool2d},
    settings,
};

/// Slope of the rectifiers below 0.
const SLOPE: f64 = 0.1;

settings! {
    /// Settings of [`ResNet12`]; the defaults are those of Lee et al. (CVPR 2019, section 4.1).
    pub struct Resnet12Settings {
        /// Channels of each stage; each stage halves height and width. `[64, 128, 256, 512]` are
        /// those of TADAM (Oreshkin et al., NeurIPS 2018).
        widths: Vec<usize> = vec![64, 160, 320, 640], size(1);
        /// What is normalised over: `running`, `episode`, `support`, `none`, `layer`.
        norm: Statistics = Statistics::Running;
        /// Probability with which a value is dropped in training after each stage: single values
        /// after the first stages, blocks after the last two.
        dropout: f64 = 0.1, below_one();
        /// Side of the blocks that are dropped after the last two stages; cut to the map.
        dropblock: usize = 5, size(1);
        /// Whether the last feature map is averaged over its positions, or flattened as it is.
        average: bool = false;
    }
}

impl EncoderSettings for Resnet12Settings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "resnet12",
        input: "image",
        summary: "four residual stages of three 3×3 convolutions, leaky ReLU, max pooling and DropBlock",
        paper: "Lee et al., Meta-learning with differentiable convex optimization, CVPR 2019, section 4.1; Oreshkin et al., TADAM, NeurIPS 2018",
    };

    type Encoder<B: Primitives> = ResNet12<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        if self.widths.is_empty() {
            return Err(Error::setting(
                "encoder.widths",
                "[]",
                "needs at least one stage",
            ));
        }
        check_halvings("widths", &json!(self.widths), self.widths.len(), item)
    }

    fn width(&self, item: ItemShape) -> usize {
        let stages = self.widths.len();
        let positions = if self.average {
            1
        } else {
            (item.height >> stages) * (item.width >> stages)
        };
        positions * self.widths[stages - 1]
    }

    fn feature_map(&self, item: ItemShape) -> Option<ItemShape> {
        let stages = self.widths.len();
        (!self.average).then_some(ItemShape {
            height: item.height >> stages,
            width: item.width >> stages,
            channels: self.widths[stages - 1],
        })
    }

    /// Four convolutions with their normalisations, three rectifiers and the sum of each stage.
    fn activations(&self, item: ItemShape) -> usize {
        let plane = |stage: usize| (item.height >> stage) * (item.width >> stage);
        let stages = self.widths.iter().enumerate();
        let stages = stages.map(|(stage, width)| 12 * width * plane(stage));
        item.features() + stages.sum::<usize>()
    }

    fn statistics(&self) -> Statistics {
        self.norm
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let mut operations = Operations::default();
        let mut inputs = item.channels;
        for (stage, &width) in self.widths.iter().enumerate() {
            let plane = (item.height >> stage) * (item.width >> stage);
            // The first convolution and the shortcut read the stage's input.
            let entry = products(&[plane, 9, inputs, width]) + products(&[plane, inputs, width]);
            match stage {
                0 => operations.first += entry,
                _ => operations.rest += entry,
            }
            operations.rest += 2.0 * products(&[plane, 9, width, width]);
            inputs = width;
        }
        operations
    }

    fn widen(&mut self, width: usize) {
        self.widths.fill(width);
    }

    fn small() -> Vec<Value> {
        vec![json!({"widths": [2, 2], "dropout": 0.3, "dropblock": 2})]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> ResNet12<B> {
        ResNet12::new(item, self, initializer, device)
    }
}

/// A convolution and its normalisation.
#[derive(Module, Debug)]
struct ConvNorm<B: Backend> {
    conv: Conv2d<B>,
    norm: Norm<B>,
}

impl<B: Primitives> ConvNorm<B> {
    fn forward(&self, x: Tensor<B, 5>, pass: &Pass<B>) -> Tensor<B, 5> {
        let map = self.conv.forward(x);
        let [t, b, h, w, c] = map.dims();
        let rows = map.reshape([t, b * h * w, c]);
        self.norm.forward(rows, b, pass).reshape([t, b, h, w, c])
    }
}

/// `pool(leaky(norm(conv³(x)) + norm(conv_{1×1}(x))))`, a leaky ReLU after the first two convolutions
/// too.
#[derive(Module, Debug)]
struct Stage<B: Backend> {
    convs: Vec<ConvNorm<B>>,
    shortcut: ConvNorm<B>,
}

/// `max(x, 0) + SLOPE min(x, 0)`.
fn leaky_relu<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    relu(x.clone()).mul_scalar(1.0 - SLOPE) + x.mul_scalar(SLOPE)
}

impl<B: Primitives> Stage<B> {
    fn forward(&self, x: Tensor<B, 5>, pass: &Pass<B>) -> Tensor<B, 5> {
        let shortcut = self.shortcut.forward(x.clone(), pass);
        let (last, first) = self.convs.split_last().expect("three convolutions");
        let inner = first
            .iter()
            .fold(x, |x, conv| leaky_relu(conv.forward(x, pass)));
        let [t, b, h, w, c] = shortcut.dims();
        let sum = leaky_relu(last.forward(inner, pass) + shortcut);
        max_pool2d(sum.reshape([t * b, h, w, c]), 2).reshape([t, b, h / 2, w / 2, c])
    }
}

/// ResNet-12 (Lee, Maji, Ravichandran and Soatto, CVPR 2019, section 4.1): a stage is three 3×3
/// convolutions with a 1×1 shortcut, each normalised, leaky ReLU of slope 0.1, 2×2 max pooling, and
/// dropout; DropBlock in the last two stages.
///
/// # Differences from the paper
/// * The rate of DropBlock is constant; there it grows over the first 40,000 batches.
/// * Weights are drawn with the variance of their inputs (He et al., 2015), there of their outputs.
/// * What DropBlock keeps is scaled per task, there over the batch.
#[derive(Module, Debug)]
pub struct ResNet12<B: Backend> {
    stages: Vec<Stage<B>>,
    #[module(skip)]
    item: ItemShape,
    #[module(skip)]
    settings: Resnet12Settings,
}

impl<B: Backend> ResNet12<B> {
    pub(super) fn new(
        item: ItemShape,
        settings: &Resnet12Settings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let inputs = std::iter::once(item.channels).chain(settings.widths.iter().copied());
        let mut conv = |channels: [usize; 2], kernel: usize, path: String| ConvNorm {
            conv: Conv2d::he(channels, kernel, 1, kernel / 2, initializer, device),
            norm: Norm::new(channels[1], settings.norm, &format!("{path}.norm"), device),
        };
        let stages = inputs.zip(&settings.widths).enumerate();
        ResNet12 {
            stages: stages
                .map(|(stage, (input, &width))| Stage {
                    convs: [input, width, width]
                        .into_iter()
                        .enumerate()
                        .map(|(number, input)| {
                            conv([input, width], 3, format!("stages.{stage}.convs.{number}"))
                        })
                        .collect(),
                    shortcut: conv([input, width], 1, format!("stages.{stage}.shortcut")),
                })
                .collect(),
            item,
            settings: settings.clone(),
        }
    }
}

impl<B: Primitives> Encoder<B> for ResNet12<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let [t, b, _] = x.dims();
        let rate = self.settings.dropout;
        let image = x.reshape([t, b, self.item.height, self.item.width, self.item.channels]);
        let stages = self.stages.iter().enumerate();
        let map = stages.fold(image, |map, (number, stage)| {
            let map = stage.forward(map, pass);
            if number + 2 >= self.stages.len() {
                drop_block(map, rate, self.settings.dropblock, pass)
            } else {
                dropout(map, rate, pass)
            }
        });
        match self.settings.average {
            true => averaged(map),
            false => flattened(map),
        }
    }
}
