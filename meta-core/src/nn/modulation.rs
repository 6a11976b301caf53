//! Parameters of a task from what is known of it: feature-wise modulation and low-rank generation.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use serde::{Deserialize, Serialize};

use super::{
    init::{Initializer, constant},
    linear::Linear,
};
use crate::{
    params::{FeatureLayer, Params},
    primitives::{Primitives, linear},
};

/// How the parameters of a task follow from those that all tasks share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Modulation {
    /// The outputs of each layer are scaled and shifted, feature by feature.
    Film,
    /// A matrix of low rank is added to each weight.
    LowRank,
}

/// Generates a task's parameters from an embedding `z` of the task and the parameters that all tasks
/// share, of every layer with a shift.
///
/// ```text
/// [g_1 … g_L] = W₂ relu(W₁ z + b₁) + b₂
/// film:      (s, δ) = g_ℓ,   W' = W diag(1 + s),   b' = (1 + s) ⊙ b + δ
/// low rank:  (V, δ) = g_ℓ,   W' = W + U_ℓ V,       b' = b + δ
/// ```
///
/// With `film` the layer puts out `(1 + s) ⊙ y + δ` where it put out `y` (Perez et al., *FiLM: Visual
/// reasoning with a general conditioning layer*, AAAI 2018, eq. 1). What generates is zero at the
/// start, so that every task starts with the shared parameters. Layers without a weight (scale and
/// shift of a normalisation) are modulated as by `film` in both cases, and a weight without a shift
/// (a convolution before a normalisation) by low rank alone.
#[derive(Module, Debug)]
pub struct Modulator<B: Backend> {
    hidden: Linear<B>,
    /// Starts at zero.
    output: Linear<B>,
    /// `U_ℓ`, `[1|t, i, r]`; empty for `film`.
    factors: Vec<Param<Tensor<B, 3>>>,
    #[module(skip)]
    kind: Modulation,
    #[module(skip)]
    layers: Vec<FeatureLayer>,
}

impl<B: Backend> Modulator<B> {
    /// A modulator of `layers` for embeddings of this width; `hidden` is the width between, `rank`
    /// that of `U`.
    pub fn new(
        (kind, rank): (Modulation, usize),
        layers: Vec<FeatureLayer>,
        [width, hidden]: [usize; 2],
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let low_rank = kind == Modulation::LowRank;
        let layers: Vec<FeatureLayer> = layers
            .into_iter()
            .filter(|layer| layer.shifts || low_rank)
            .collect();
        let generated = |layer: &FeatureLayer| match (low_rank, layer.inputs) {
            (true, Some(_)) => (rank + 1) * layer.features,
            _ => 2 * layer.features,
        };
        let outputs = layers.iter().map(generated).sum();
        let inputs = layers.iter().filter_map(|layer| layer.inputs);
        Modulator {
            hidden: Linear::he(width, hidden, initializer, device),
            output: Linear {
                weight: constant(0.0, [1, hidden, outputs], device),
                bias: constant(0.0, [1, 1, outputs], device),
            },
            factors: inputs
                .filter(|_| low_rank)
                .map(|i| initializer.glorot([1, i, rank], i, rank, device))
                .collect(),
            kind,
            layers,
        }
    }
}

impl<B: Primitives> Modulator<B> {
    /// The parameters of each task, from its embedding `z [t, 1, w]` and the shared ones, `[1, …]`.
    pub fn forward(&self, embedding: Tensor<B, 3>, shared: Params<B>) -> Params<B> {
        let generated = self.output.forward(self.hidden.forward_relu(embedding));
        let t = generated.dims()[0];
        let mut factors = self.factors.iter();
        let mut start = 0;
        let mut take = |count: usize| {
            start += count;
            generated.clone().narrow(2, start - count, count)
        };
        self.layers.iter().fold(shared, |params, layer| {
            let c = layer.features;
            if self.kind == Modulation::LowRank && layer.inputs.is_some() {
                let left = factors.next().expect("one for each weight").val();
                let [_, i, r] = left.dims();
                let right = take(r * c).reshape([t, r, c]);
                let change = linear(left.expand([t, i, r]), right);
                return params.shift_layer(&layer.path, &change, &take(c));
            }
            let (scale, shift) = (take(c), take(c));
            params.modulate_features(&layer.path, &scale, &shift)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Cpu,
        nn::{
            Pass,
            norm::{Norm, Statistics},
        },
        rng::Seed,
    };

    #[derive(Module, Debug)]
    struct Layers<B: Backend> {
        linear: Linear<B>,
        norm: Norm<B>,
    }

    fn layers() -> Layers<Cpu> {
        let device = Default::default();
        Layers {
            linear: Linear::glorot(2, 3, &mut Initializer::seeded(Seed(1)), &device),
            norm: Norm::new(3, Statistics::Layer, "", &device),
        }
    }

    fn values<const D: usize>(tensor: Tensor<Cpu, D>) -> Vec<f32> {
        tensor.into_data().to_vec().unwrap()
    }

    #[track_caller]
    fn assert_close(found: Tensor<Cpu, 3>, expected: Tensor<Cpu, 3>) {
        assert_eq!(found.dims(), expected.dims());
        assert!(
            values((found - expected).abs())
                .into_iter()
                .all(|off| off < 1e-5)
        );
    }

    #[test]
    fn layers_with_features() {
        let found = Params::of(&layers()).feature_layers();
        let layer = |path: &str, inputs| FeatureLayer {
            path: path.to_owned(),
            features: 3,
            inputs,
            shifts: true,
        };
        assert_eq!(found, [layer("linear", Some(2)), layer("norm", None)]);
    }

    /// Modulated parameters give modulated outputs, of a linear layer and of a normalisation, task by
    /// task.
    #[test]
    fn modulated_parameters_give_modulated_outputs() {
        let device = Default::default();
        let tensor = |values: [[[f32; 3]; 1]; 2]| Tensor::<Cpu, 3>::from_data(values, &device);
        let scale = tensor([[[0.5, -0.25, 1.0]], [[0.0, 2.0, -1.0]]]);
        let shift = tensor([[[1.0, 2.0, 3.0]], [[-1.0, 0.5, 0.0]]]);
        let inputs = Tensor::<Cpu, 3>::from_data([[[1.0, 2.0]], [[-1.0, 0.5]]], &device);
        let plain = layers();
        let rows = plain.linear.forward(inputs.clone());
        let modulated = Params::of(&plain)
            .modulate_features("linear", &scale, &shift)
            .modulate_features("norm", &scale, &shift)
            .write_into(layers());
        let expected = |y: Tensor<Cpu, 3>| y * scale.clone().add_scalar(1.0) + shift.clone();
        assert_close(modulated.linear.forward(inputs), expected(rows.clone()));
        let pass = Pass::evaluation();
        assert_close(
            modulated.norm.forward(rows.clone(), 1, &pass),
            expected(plain.norm.forward(rows, 1, &pass)),
        );
    }

    /// At the start every task has the shared parameters; a change of low rank is `U V`.
    #[test]
    fn nothing_at_the_start_then_low_rank() {
        let device = Default::default();
        let shared = Params::of(&layers());
        for kind in [Modulation::Film, Modulation::LowRank] {
            let init = &mut Initializer::seeded(Seed(2));
            let layers = shared.feature_layers();
            let mut modulator = Modulator::<Cpu>::new((kind, 1), layers, [4, 5], init, &device);
            let embedding = Tensor::ones([2, 1, 4], &device);
            let start = modulator.forward(embedding.clone(), shared.clone());
            assert_eq!(
                start.to_data(),
                shared.clone().fan_out(2).to_data(),
                "{kind:?}"
            );
            if kind == Modulation::LowRank {
                modulator.output.bias = constant(0.5, modulator.output.bias.dims(), &device);
                let weight = |params: &Params<Cpu>| params.get::<3>("linear.weight").unwrap();
                let change = weight(&modulator.forward(embedding, shared.clone()));
                let left = modulator.factors[0].val().mul_scalar(0.5);
                let expected = weight(&shared) + left.expand([1, 2, 3]);
                assert_close(change, expected.expand([2, 2, 3]));
            }
        }
    }
}
