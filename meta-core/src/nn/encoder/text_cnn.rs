//! Convolutions over windows of rows, and the largest answer of each.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use serde_json::{Value, json};

use super::{Encoder, EncoderInfo, EncoderSettings, Operations, Steps, products};
use crate::{
    Error, Result,
    data::ItemShape,
    nn::{Pass, dropout::dropout, init::Initializer, linear::Linear},
    primitives::Primitives,
    settings,
};

settings! {
    /// Settings of [`TextCnn`].
    pub struct TextCnnSettings {
        /// Rows that a filter sees, one width after the other.
        widths: Vec<usize> = vec![3, 4, 5], size(1);
        /// Filters of each width; the embedding has as many numbers for each width.
        filters: usize = 100, size(1);
        /// Probability with which a number of the embedding is dropped in training.
        dropout: f64 = 0.0, below_one();
    }
}

impl EncoderSettings for TextCnnSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "text_cnn",
        input: "sequence",
        summary: "filters over windows of rows; the largest answer of each, without rows of zeros",
        paper: "Kim, Convolutional neural networks for sentence classification, EMNLP 2014, section 2",
    };

    type Encoder<B: Primitives> = TextCnn<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        Steps::check(Self::INFO.name, item)?;
        let length = Steps::of(item).length;
        if self.widths.is_empty() {
            return Err(Error::setting(
                "encoder.widths",
                "[]",
                "needs at least one width",
            ));
        }
        match self.widths.iter().find(|&&width| width > length) {
            None => Ok(()),
            Some(width) => {
                let expected = format!("must be at most {length}, the rows of an item");
                Err(Error::setting("encoder.widths", width, expected))
            }
        }
    }

    fn width(&self, _item: ItemShape) -> usize {
        self.widths.len().saturating_mul(self.filters)
    }

    /// Windows, and what filters say of them.
    fn activations(&self, item: ItemShape) -> usize {
        let Steps {
            length, features, ..
        } = Steps::of(item);
        let windows = self.widths.iter().map(|width| {
            let window = width
                .saturating_mul(features)
                .saturating_add(2 * self.filters);
            window.saturating_mul(length)
        });
        windows.fold(item.features(), usize::saturating_add)
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let Steps {
            length, features, ..
        } = Steps::of(item);
        let of = |width: &usize| products(&[length, *width, features, self.filters]);
        Operations {
            first: self.widths.iter().map(of).sum(),
            rest: 0.0,
        }
    }

    fn widen(&mut self, width: usize) {
        self.filters = width;
    }

    fn small() -> Vec<Value> {
        vec![json!({"widths": [2, 3], "filters": 3})]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> TextCnn<B> {
        let steps = Steps::of(item);
        let filters = self
            .widths
            .iter()
            .map(|width| Linear::he(width * steps.features, self.filters, initializer, device));
        TextCnn {
            filters: filters.collect(),
            steps,
            settings: self.clone(),
        }
    }
}

/// For each width `w` and filter, `max_i relu(W [x_i, …, x_{i+w−1}] + b)` over the rows `i` that are there.
///
/// # Differences from the paper
/// A window begins at every row that is there; behind the last one it sees zeros, where the paper has windows
/// inside the sentence alone and pads what is shorter than a window. Word vectors stay as they are (its
/// `static` variant). No constraint on norms.
#[derive(Module, Debug)]
pub struct TextCnn<B: Backend> {
    /// `[1|t, w·f, filters]` for each width.
    filters: Vec<Linear<B>>,
    #[module(skip)]
    steps: Steps,
    #[module(skip)]
    settings: TextCnnSettings,
}

impl<B: Primitives> Encoder<B> for TextCnn<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let [t, b, _] = x.dims();
        let Steps {
            length, features, ..
        } = self.steps;
        let TextCnnSettings {
            widths,
            filters,
            dropout: rate,
        } = &self.settings;
        let hidden = self.steps.padding(&x).reshape([t * b, length, 1]);
        let largest = widths.iter().copied().max().unwrap_or(1);
        let rows = x.reshape([t, b, length, features]);
        let rows = match largest {
            1 => rows,
            _ => {
                let shape = [t, b, largest - 1, features];
                let behind = Tensor::<B, 4>::zeros(shape, &rows.device()).cast(rows.dtype());
                Tensor::cat(vec![rows, behind], 2)
            }
        };
        let shifted: Vec<Tensor<B, 4>> = (0..largest)
            .map(|by| rows.clone().narrow(2, by, length))
            .collect();
        let answers = widths.iter().zip(&self.filters).map(|(&width, linear)| {
            let windows = Tensor::cat(shifted[..width].to_vec(), 3);
            let seen = linear.forward_relu(windows.reshape([t, b * length, width * features]));
            let seen = seen.reshape([t * b, length, *filters]);
            // No answer is below 0.
            let seen = seen.mask_fill(hidden.clone().expand([t * b, length, *filters]), 0.0);
            seen.max_dim(1).reshape([t, b, *filters])
        });
        dropout(Tensor::cat(answers.collect(), 2), *rate, pass)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::{backend::Cpu, nn::encoder::Architecture, params::Params, rng::Seed};

    /// Against the definition, window by window, in f64; the tolerance is rounding in single precision.
    #[test]
    fn filters_see_windows() {
        let (length, features, filters) = (5, 2, 3);
        let item = ItemShape {
            height: length,
            width: 1,
            channels: features,
        };
        let settings = TextCnnSettings {
            widths: vec![1, 3],
            filters,
            dropout: 0.0,
        };
        let encoder = settings.on(item).expect("small");
        let model: TextCnn<Cpu> =
            encoder.init::<Cpu>(&mut Initializer::seeded(Seed(1)), &Default::default());
        let mut stream = Seed(2).stream("text_cnn", 0, "x");
        // Four rows, and one that is not there.
        let mut x: Vec<f32> = (0..4 * features).map(|_| stream.normal() as f32).collect();
        x.resize(length * features, 0.0);
        let input = TensorData::new(x.clone(), [1, 1, length * features]);
        let input = Tensor::<Cpu, 3>::from_data(input, &Default::default());
        let found = model.forward(input, &Pass::evaluation()).into_data();
        let found: Vec<f32> = found.to_vec().expect("f32");
        let mut expected = Vec::new();
        for (width, linear) in [1, 3].into_iter().zip(&model.filters) {
            let weight: Vec<f32> = linear.weight.val().into_data().to_vec().expect("f32");
            for filter in 0..filters {
                let answer = |first: usize| -> f64 {
                    let seen = (0..width * features).map(|place| {
                        let row = x.get(first * features + place).copied().unwrap_or(0.0);
                        f64::from(row) * f64::from(weight[place * filters + filter])
                    });
                    seen.sum::<f64>().max(0.0)
                };
                expected.push((0..4).map(answer).fold(0.0, f64::max));
            }
        }
        assert_eq!(Params::of(&model).to_data().len(), 4);
        assert!(expected.iter().any(|&answer| answer > 0.1));
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-5,
                "{found} {expected}"
            );
        }
        assert_eq!(found.len(), expected.len());
    }
}
