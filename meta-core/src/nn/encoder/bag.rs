//! A bag of rows: their mean, in which order does not count.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use serde_json::{Value, json};

use super::{Encoder, EncoderInfo, EncoderSettings, Operations, Steps, products};
use crate::{
    Result,
    data::ItemShape,
    nn::{Pass, init::Initializer, linear::Linear},
    primitives::{MatrixProduct, Primitives},
    settings,
};

settings! {
    /// Settings of [`Bag`].
    pub struct BagSettings {
        /// Widths of layers behind the mean, with a ReLU between them; none for the mean itself, which
        /// has no parameters.
        hidden: Vec<usize> = Vec::new(), size(1);
    }
}

impl EncoderSettings for BagSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "bag",
        input: "sequence",
        summary: "the mean of the rows, without those of zeros; layers behind it where asked for",
        paper: "Iyyer et al., Deep unordered composition rivals syntactic methods for text classification, ACL 2015; weights of Arora et al., ICLR 2017, by `data.frequency_weight`",
    };

    type Encoder<B: Primitives> = Bag<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        Steps::check(Self::INFO.name, item)
    }

    fn width(&self, item: ItemShape) -> usize {
        let mean = Steps::of(item).features;
        self.hidden.last().copied().unwrap_or(mean)
    }

    fn activations(&self, item: ItemShape) -> usize {
        item.features() + Steps::of(item).features + 2 * self.hidden.iter().sum::<usize>()
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let first = std::iter::once(Steps::of(item).features);
        let widths: Vec<usize> = first.chain(self.hidden.iter().copied()).collect();
        Operations {
            first: products(&[item.features()]),
            rest: widths.windows(2).map(products).sum(),
        }
    }

    fn small() -> Vec<Value> {
        vec![json!({"hidden": [5, 3]})]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Bag<B> {
        let steps = Steps::of(item);
        let mut inputs = steps.features;
        let last = self.hidden.len().saturating_sub(1);
        let layers = self.hidden.iter().enumerate().map(|(layer, &width)| {
            let linear = if layer == last {
                Linear::glorot(inputs, width, initializer, device)
            } else {
                Linear::he(inputs, width, initializer, device)
            };
            inputs = width;
            linear
        });
        Bag {
            layers: layers.collect(),
            steps,
        }
    }
}

/// `Σ m_i x_i / Σ m_i` over the rows of an item, where `m_i` is 0 for rows of zeros and else 1; then linear
/// layers with ReLU between them. An item of no row is 0.
#[derive(Module, Debug)]
pub struct Bag<B: Backend> {
    layers: Vec<Linear<B>>,
    #[module(skip)]
    steps: Steps,
}

impl<B: Primitives> Encoder<B> for Bag<B> {
    fn forward(&self, x: Tensor<B, 3>, _pass: &Pass<B>) -> Tensor<B, 3> {
        let [t, b, _] = x.dims();
        let Steps {
            length, features, ..
        } = self.steps;
        let there = self.steps.padding(&x).bool_not().float().cast(x.dtype());
        let count = there.clone().sum_dim(3).clamp_min(1.0);
        let weights = (there / count).reshape([t * b, 1, length]);
        let mean = weights.product(x.reshape([t * b, length, features]));
        let mean = mean.reshape([t, b, features]);
        let Some((last, below)) = self.layers.split_last() else {
            return mean;
        };
        last.forward(below.iter().fold(mean, |x, layer| layer.forward_relu(x)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Cpu, nn::encoder::Architecture};

    /// By hand: the mean of (1, 2), (3, −4) and of nothing else.
    #[test]
    fn rows_of_zeros_do_not_count() {
        let item = ItemShape {
            height: 4,
            width: 1,
            channels: 2,
        };
        let bag = BagSettings::default().on(item).expect("defaults");
        let bag: Bag<Cpu> = bag.init::<Cpu>(&mut Initializer::zeros(), &Default::default());
        let x = Tensor::<Cpu, 3>::from_data(
            [[[1.0, 2.0, 0.0, 0.0, 3.0, -4.0, 0.0, 0.0], [0.0; 8]]],
            &Default::default(),
        );
        let found = bag.forward(x, &Pass::evaluation()).into_data();
        assert_eq!(found.to_vec::<f32>().expect("f32"), [2.0, -1.0, 0.0, 0.0]);
    }
}
