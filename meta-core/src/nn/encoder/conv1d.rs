//! Convolutions along the steps of an item.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use serde_json::{Value, json};

use super::{
    Encoder, EncoderInfo, EncoderSettings, Operations, StepPooling, Steps, products,
    sequence::only_there,
};
use crate::{
    Error, Result,
    data::ItemShape,
    nn::{
        Pass,
        init::Initializer,
        norm::{Norm, Statistics},
        temporal::{StepConv, Window},
    },
    primitives::Primitives,
    settings,
};

settings! {
    /// Settings of [`Conv1d`].
    pub struct Conv1dSettings {
        /// Filters of each layer. The steps of an item are its rows, or, for a vector, its features.
        filters: Vec<usize> = vec![64, 64, 64], size(1);
        /// Steps that a filter of each layer sees, as many before its own as behind it, or one more behind.
        kernels: Vec<usize> = vec![8, 5, 3], size(1);
        /// What the answers of a layer at a step are normalised by: `layer` (each other), or `none`.
        norm: Statistics = Statistics::Layer;
        /// What of the last layer is the embedding: `mean` over steps, `max`, the `last` step, or `none` for all
        /// steps, one after the other, where the learner reads steps.
        pool: StepPooling = StepPooling::Mean;
    }
}

impl Conv1dSettings {
    /// Channels that each layer reads, its filters and its kernel.
    fn layers(&self, item: ItemShape) -> impl Iterator<Item = [usize; 3]> {
        let inputs = std::iter::once(Steps::of(item).features).chain(self.filters.iter().copied());
        let sizes = self.filters.iter().zip(&self.kernels);
        inputs
            .zip(sizes)
            .map(|(inputs, (&filters, &kernel))| [inputs, filters, kernel])
    }
}

impl EncoderSettings for Conv1dSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "conv1d",
        input: "sequence",
        summary: "layers of convolutions along rows, and a mean over them, without rows of zeros",
        paper: "Wang et al., Time series classification from scratch with deep neural networks, IJCNN 2017, section II.B",
    };

    type Encoder<B: Primitives> = Conv1d<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        Steps::check(Self::INFO.name, item)?;
        let (filters, kernels) = (self.filters.len(), self.kernels.len());
        if filters == 0 {
            let expected = "needs at least one layer";
            return Err(Error::setting("encoder.filters", "[]", expected));
        }
        if filters != kernels {
            let expected = format!("must have one number for each of the {filters} layers");
            let found = format!("{:?}", self.kernels);
            return Err(Error::setting("encoder.kernels", found, expected));
        }
        check_norm(self.norm)
    }

    fn width(&self, item: ItemShape) -> usize {
        let last = self.filters.last().copied().unwrap_or(0);
        self.pool.width(Steps::of(item).length, last)
    }

    /// Windows, and what filters say of them.
    fn activations(&self, item: ItemShape) -> usize {
        let length = Steps::of(item).length;
        let layers = self.layers(item).map(|[inputs, filters, kernel]| {
            let seen = kernel.saturating_mul(inputs);
            length.saturating_mul(seen.saturating_add(4 * filters))
        });
        layers.fold(item.features(), usize::saturating_add)
    }

    fn statistics(&self) -> Statistics {
        self.norm
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let length = Steps::of(item).length;
        let mut layers = self
            .layers(item)
            .map(|[inputs, filters, kernel]| products(&[length, kernel, inputs, filters]));
        Operations {
            first: layers.next().unwrap_or(0.0),
            rest: layers.sum(),
        }
    }

    fn widen(&mut self, width: usize) {
        self.filters.fill(width);
    }

    fn small() -> Vec<Value> {
        let of = |norm: &str, pool: &str| json!({"filters": [3, 2], "kernels": [3, 2], "norm": norm, "pool": pool});
        vec![of("layer", "mean"), of("none", "max"), of("layer", "last")]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Conv1d<B> {
        let layers = self.layers(item).map(|[inputs, filters, kernel]| Layer {
            conv: StepConv::he(
                [inputs, filters],
                Window::centred(kernel),
                initializer,
                device,
            ),
            norm: Norm::new(filters, self.norm, "", device),
        });
        Conv1d {
            layers: layers.collect(),
            steps: Steps::of(item),
            pool: self.pool,
        }
    }
}

/// Refuses normalisations that average over steps: some of them may not be there.
pub(super) fn check_norm(norm: Statistics) -> Result<()> {
    if matches!(norm, Statistics::Layer | Statistics::None) {
        return Ok(());
    }
    let name = serde_json::to_value(norm).unwrap_or_default();
    let expected = "must be `layer` or `none`: others average over rows that are not there";
    let name = name.as_str().unwrap_or_default().to_owned();
    Err(Error::setting("encoder.norm", name, expected))
}

/// A convolution and the normalisation behind it.
#[derive(Module, Debug)]
struct Layer<B: Backend> {
    conv: StepConv<B>,
    norm: Norm<B>,
}

/// Layers `x_i ← relu(norm(W [x_{i−a}, …, x_i, …, x_{i+b}]))` along the steps of an item, then the mean over its
/// steps. Before the first step and behind the last are zeros; a row of zeros is not there, in any layer.
///
/// # Differences from the paper
/// The normalisation is over the channels of a step, where the paper's is over batches: what pads an item
/// would enter their statistics, and tasks are small.
#[derive(Module, Debug)]
pub struct Conv1d<B: Backend> {
    layers: Vec<Layer<B>>,
    #[module(skip)]
    steps: Steps,
    #[module(skip)]
    pool: StepPooling,
}

impl<B: Primitives> Encoder<B> for Conv1d<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let length = self.steps.length;
        let there = self.steps.there(&x);
        let rows = self.layers.iter().fold(self.steps.rows(x), |rows, layer| {
            let answers = layer.conv.forward(rows, length);
            let count = answers.dims()[1];
            only_there(layer.norm.forward_relu(answers, count, pass), &there)
        });
        self.pool.of(rows, &there, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIES: ItemShape = ItemShape {
        height: 12,
        width: 1,
        channels: 2,
    };

    #[test]
    fn every_layer_has_a_kernel() {
        let settings = Conv1dSettings {
            kernels: vec![3],
            ..Conv1dSettings::default()
        };
        let message = settings.check(SERIES).expect_err("one kernel").to_string();
        assert!(message.contains("`encoder.kernels = [3]`"), "{message}");
        let settings = Conv1dSettings {
            norm: Statistics::Episode,
            ..Conv1dSettings::default()
        };
        let message = settings.check(SERIES).expect_err("episode").to_string();
        assert!(message.contains("`encoder.norm = episode`"), "{message}");
    }

    #[test]
    fn all_steps_are_an_embedding() {
        let settings = Conv1dSettings {
            pool: StepPooling::None,
            ..Conv1dSettings::default()
        };
        assert_eq!(settings.width(SERIES), 12 * 64);
        assert_eq!(Conv1dSettings::default().width(SERIES), 64);
    }
}
