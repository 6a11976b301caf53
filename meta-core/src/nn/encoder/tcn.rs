//! A temporal convolutional network: causal, dilated convolutions with residual connections.

use burn::{
    module::Module,
    tensor::{Tensor, activation::relu, backend::Backend},
};
use serde_json::{Value, json};

use super::{
    Encoder, EncoderInfo, EncoderSettings, Operations, StepPooling, Steps, conv1d::check_norm,
    products, sequence::only_there,
};
use crate::{
    Result,
    data::ItemShape,
    nn::{
        Pass,
        dropout::dropout,
        init::Initializer,
        linear::Linear,
        norm::{Norm, Statistics},
        temporal::{StepConv, Window},
    },
    primitives::Primitives,
    settings,
};

settings! {
    /// Settings of [`Tcn`].
    pub struct TcnSettings {
        /// Filters of each convolution, and width of the embedding. The steps of an item are its rows, or, for
        /// a vector, its features.
        width: usize = 64, size(1);
        /// Steps that a filter sees: its own and those before it, `1, 2, 4, …` steps apart from level to level.
        kernel: usize = 3, between(2, 64);
        /// Levels of two convolutions each; 0 for as many as let the last step see the first.
        levels: usize = 0, between(0, 16);
        /// What the answers of a convolution at a step are normalised by: `layer` (each other), or `none`.
        norm: Statistics = Statistics::Layer;
        /// Probability with which an answer is dropped in training.
        dropout: f64 = 0.0, below_one();
        /// What of the last level is the embedding: the `last` step, the `mean` over steps, `max`, or `none` for
        /// all steps, one after the other, where the learner reads steps.
        pool: StepPooling = StepPooling::Last;
    }
}

impl TcnSettings {
    /// Levels for items of `length` steps: the last step sees `1 + 2 (kernel − 1)(2^levels − 1)` of them.
    fn depth(&self, length: usize) -> usize {
        if self.levels > 0 {
            return self.levels;
        }
        let seen = |levels: u32| 1 + 2 * (self.kernel - 1) * ((1usize << levels) - 1);
        (1..16).find(|&levels| seen(levels) >= length).unwrap_or(16) as usize
    }
}

impl EncoderSettings for TcnSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "tcn",
        input: "sequence",
        summary: "causal convolutions of growing reach along rows; its last step, without rows of zeros",
        paper: "Bai et al., An empirical evaluation of generic convolutional and recurrent networks for sequence modeling, 2018, section 3",
    };

    type Encoder<B: Primitives> = Tcn<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        Steps::check(Self::INFO.name, item)?;
        check_norm(self.norm)
    }

    fn width(&self, item: ItemShape) -> usize {
        self.pool.width(Steps::of(item).length, self.width)
    }

    fn activations(&self, item: ItemShape) -> usize {
        let Steps {
            length, features, ..
        } = Steps::of(item);
        let convolution = (self.kernel + 4).saturating_mul(self.width);
        let levels = (2 * self.depth(length)).saturating_mul(convolution);
        let first = (self.kernel + 1).saturating_mul(features);
        length.saturating_mul(levels.saturating_add(first))
    }

    fn statistics(&self) -> Statistics {
        self.norm
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let Steps {
            length, features, ..
        } = Steps::of(item);
        let convolution = |inputs: usize| products(&[length, self.kernel, inputs, self.width]);
        let skip = match features == self.width {
            true => 0.0,
            false => products(&[length, features, self.width]),
        };
        Operations {
            first: convolution(features) + skip,
            rest: (2 * self.depth(length) - 1) as f64 * convolution(self.width),
        }
    }

    fn widen(&mut self, width: usize) {
        self.width = width;
    }

    fn small() -> Vec<Value> {
        vec![
            json!({"width": 3, "kernel": 2, "levels": 2}),
            json!({"width": 3, "kernel": 2, "levels": 1, "norm": "none", "pool": "mean"}),
        ]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Tcn<B> {
        let steps = Steps::of(item);
        let width = self.width;
        let levels = (0..self.depth(steps.length)).map(|level| {
            let inputs = if level == 0 { steps.features } else { width };
            let window = Window::causal(self.kernel, 1 << level);
            let mut layer = |inputs: usize| Layer {
                conv: StepConv::he([inputs, width], window, initializer, device),
                norm: Norm::new(width, self.norm, "", device),
            };
            let (first, second) = (layer(inputs), layer(width));
            Level {
                first,
                second,
                skip: (inputs != width).then(|| Linear::glorot(inputs, width, initializer, device)),
            }
        });
        Tcn {
            levels: levels.collect(),
            steps,
            settings: self.clone(),
        }
    }
}

/// A convolution and the normalisation behind it.
#[derive(Module, Debug)]
struct Layer<B: Backend> {
    conv: StepConv<B>,
    norm: Norm<B>,
}

/// Two convolutions of one dilation, and what goes past them.
#[derive(Module, Debug)]
struct Level<B: Backend> {
    first: Layer<B>,
    second: Layer<B>,
    /// Where the input has another width.
    skip: Option<Linear<B>>,
}

/// Levels `x ← relu(x + f(f(x)))` along the steps of an item, where `f` is a causal convolution of dilation
/// `2^level`, a normalisation, a ReLU and dropout; the embedding is the last step that is there.
///
/// A row of zeros is not there, in any level.
///
/// # Differences from the paper
/// The answers of a step are normalised, where the paper normalises weights. Dropout is of single numbers, not of
/// whole channels.
#[derive(Module, Debug)]
pub struct Tcn<B: Backend> {
    levels: Vec<Level<B>>,
    #[module(skip)]
    steps: Steps,
    #[module(skip)]
    settings: TcnSettings,
}

impl<B: Primitives> Encoder<B> for Tcn<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let length = self.steps.length;
        let there = self.steps.there(&x);
        let layer = |layer: &Layer<B>, rows: Tensor<B, 3>| {
            let answers = layer.conv.forward(rows, length);
            let count = answers.dims()[1];
            let answers = layer.norm.forward_relu(answers, count, pass);
            only_there(dropout(answers, self.settings.dropout, pass), &there)
        };
        let rows = self.levels.iter().fold(self.steps.rows(x), |rows, level| {
            let seen = layer(&level.second, layer(&level.first, rows.clone()));
            let past = match &level.skip {
                Some(skip) => only_there(skip.forward(rows), &there),
                None => rows,
            };
            relu(past + seen)
        });
        self.settings.pool.of(rows, &there, length)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::{backend::Cpu, nn::encoder::Architecture, rng::Seed};

    /// The last step sees the first, and fewer levels would not do.
    #[test]
    fn the_last_step_sees_the_first() {
        let settings = TcnSettings {
            kernel: 2,
            width: 4,
            ..TcnSettings::default()
        };
        assert_eq!(settings.depth(3), 1);
        assert_eq!(settings.depth(4), 2);
        assert_eq!(settings.depth(7), 2);
        assert_eq!(settings.depth(8), 3);
        let length = 7;
        let item = ItemShape {
            height: length,
            width: 1,
            channels: 1,
        };
        let encoder = settings.on(item).expect("small");
        let model: Tcn<Cpu> =
            encoder.init::<Cpu>(&mut Initializer::seeded(Seed(1)), &Default::default());
        let run = |first: f32| -> Vec<f32> {
            let mut x = vec![0.5; length];
            x[0] = first;
            let x = TensorData::new(x, [1, 1, length]);
            let x = Tensor::<Cpu, 3>::from_data(x, &Default::default());
            let found = model.forward(x, &Pass::evaluation());
            found.into_data().to_vec().expect("f32")
        };
        assert_ne!(run(1.0), run(2.0));
    }
}
