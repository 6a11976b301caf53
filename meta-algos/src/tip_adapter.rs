//! Tip-Adapter: a cache of the support, read by attention of the queries.
//!
//! Zhang, Zhang, Fang, Gao, Li, Dai, Qiao and Li, *Tip-Adapter: training-free adaption of CLIP for few-shot
//! classification*, ECCV 2022.
//!
//! With unit features `f` of a query and `F` of the support (the keys), one-hot labels `L` (the values) and
//! a unit vector `w_n` of each class, such as the text embedding of its name:
//!
//! ```text
//! a = exp(−β (1 − f Fᵀ))              (eq. 4)
//! logits = α a L + 100 f Wᵀ           (eq. 5)
//! ```
//!
//! Without class vectors the second term is left out. With `fine_tune` the keys are learned on the support
//! before, by AdamW on the cross-entropy of the same logits (Tip-Adapter-F), all of the support in a step:
//!
//! ```text
//! ∂L/∂F = β (a ∘ α G Lᵀ)ᵀ f,   G = (softmax(logits) − L) / s
//! ```
//!
//! # Differences from the paper
//! * `α` and `β` are not searched for on test images, as in the authors' code.
//! * Keys are the features of the support itself, not means over ten augmentations.

use burn::tensor::{Tensor, activation::softmax};
use meta_core::{
    Error, Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        feature_rule::{self, FeatureBatch, FeatureLearner, FeatureRule},
    },
    nn::{Pass, attention::MapAxis, distance, encoder::Architecture},
    primitives::{MatrixProduct, Primitives},
    settings,
    task::TaskSpec,
};

/// What cosines with class vectors are multiplied by: CLIP's.
const CLASS_SCALE: f64 = 100.0;

/// AdamW as the authors use it: `β₁`, `β₂`, `ε` and the weight decay.
const MOMENTS: (f64, f64) = (0.9, 0.999);
const EPSILON: f64 = 1e-4;
const DECAY: f64 = 1e-2;

settings! {
    /// Settings of Tip-Adapter; the defaults are the paper's.
    pub struct TipAdapterSettings {
        /// `α`, the weight of the cache.
        alpha: f64 = 1.0, above(0.0);
        /// `β`, how sharply the cache is read.
        beta: f64 = 5.5, above(0.0);
        /// Whether the keys are learned on the support before (Tip-Adapter-F).
        fine_tune: bool = false;
        /// Steps of that.
        steps: usize = 20, size(1);
        /// Its learning rate, which falls to 0 along half a cosine.
        lr: f64 = 1e-3, above(0.0);
    }
}

impl LearnerSettings for TipAdapterSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "tip_adapter",
        family: Family::Baseline,
        summary: "reads a cache of the support by attention, beside vectors of the classes",
        paper: "Zhang et al., Tip-Adapter, ECCV 2022",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, architecture: &A, spec: &TaskSpec) -> Result<()> {
        let (given, width) = (spec.extras.class_vector, architecture.width());
        if given != 0 && given != width {
            let expected = format!(
                "compares features with the vectors of classes, but those have {given} numbers and features \
                 {width}"
            );
            return Err(Error::setting("learner.name", Self::INFO.name, expected));
        }
        feature_rule::check::<Self>(spec)
    }

    fn gradient_of() -> GradientOf {
        feature_rule::gradient_of()
    }

    fn toy() -> Toy {
        Toy {
            maps: 1,
            ..feature_rule::toy()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        FeatureLearner::boxed(self, new)
    }
}

impl FeatureRule for TipAdapterSettings {
    fn scores<B: Primitives>(
        &self,
        features: &FeatureBatch<B>,
        _number: f64,
        pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let support = distance::unit(features.support.clone());
        let query = distance::unit(features.query.clone());
        let classes = features.class_vectors.clone().map(distance::unit);
        let values = features.membership();
        let keys = match self.fine_tune {
            true => self.learned_keys(&support, &values, classes.as_ref()),
            false => support,
        };
        let affinities = self.affinities(&query, &keys);
        let weights = affinities.clone() / affinities.clone().sum_dim(2);
        pass.record(
            "cache",
            MapAxis::Query,
            MapAxis::Support,
            &weights.unsqueeze_dim(1),
        );
        self.logits(affinities, &values, &query, classes.as_ref())
    }
}

impl TipAdapterSettings {
    /// `exp(−β (1 − f Fᵀ))`: `[t, b, d]` and `[t, s, d]` to `[t, b, s]`.
    fn affinities<B: Primitives>(&self, items: &Tensor<B, 3>, keys: &Tensor<B, 3>) -> Tensor<B, 3> {
        let cosines = items.clone().product(keys.clone().swap_dims(1, 2));
        cosines.sub_scalar(1.0).mul_scalar(self.beta).exp()
    }

    /// Logits `[t, b, n]` of items from their affinities.
    fn logits<B: Primitives>(
        &self,
        affinities: Tensor<B, 3>,
        values: &Tensor<B, 3>,
        items: &Tensor<B, 3>,
        classes: Option<&Tensor<B, 3>>,
    ) -> Tensor<B, 3> {
        let cached = affinities.product(values.clone()).mul_scalar(self.alpha);
        match classes {
            Some(classes) => {
                let cosines = items.clone().product(classes.clone().swap_dims(1, 2));
                cached + cosines.mul_scalar(CLASS_SCALE)
            }
            None => cached,
        }
    }

    /// The keys after learning on the support.
    fn learned_keys<B: Primitives>(
        &self,
        support: &Tensor<B, 3>,
        values: &Tensor<B, 3>,
        classes: Option<&Tensor<B, 3>>,
    ) -> Tensor<B, 3> {
        let s = support.dims()[1];
        let mut keys = support.clone();
        let (mut first, mut second) = (keys.zeros_like(), keys.zeros_like());
        for step in 0..self.steps {
            let affinities = self.affinities(support, &keys);
            let logits = self.logits(affinities.clone(), values, support, classes);
            let error = (softmax(logits, 2) - values.clone()).mul_scalar(1.0 / s as f64);
            let back = error
                .product(values.clone().swap_dims(1, 2))
                .mul_scalar(self.alpha);
            let gradient = (affinities * back).swap_dims(1, 2).product(support.clone());
            let gradient = gradient.mul_scalar(self.beta);
            let part = std::f64::consts::PI * step as f64 / self.steps as f64;
            let lr = self.lr * 0.5 * (1.0 + part.cos());
            let (one, two) = MOMENTS;
            first = first.mul_scalar(one) + gradient.clone().mul_scalar(1.0 - one);
            second = second.mul_scalar(two) + (gradient.clone() * gradient).mul_scalar(1.0 - two);
            let count = step as i32 + 1;
            let mean = first.clone().mul_scalar(1.0 / (1.0 - one.powi(count)));
            let deviation = second
                .clone()
                .mul_scalar(1.0 / (1.0 - two.powi(count)))
                .sqrt();
            keys = keys.mul_scalar(1.0 - lr * DECAY)
                - (mean / deviation.add_scalar(EPSILON)).mul_scalar(lr);
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use meta_core::{backend::Cpu, settings::Settings};
    use serde_json::json;

    /// Class vectors add their cosines; a cache that weighs next to nothing leaves them alone.
    #[test]
    fn class_vectors_are_a_classifier_of_their_own() {
        let device = Default::default();
        let numbers = |count: usize, start: f32| -> Vec<f32> {
            (0..count)
                .map(|index| (start + 0.7 * index as f32).sin())
                .collect()
        };
        let tensor = |rows: usize, start: f32| {
            let data = TensorData::new(numbers(rows * 4, start), [1, rows, 4]);
            Tensor::<Cpu, 3>::from_data(data, &device)
        };
        let features = FeatureBatch {
            support: tensor(3, 0.1),
            labels: Tensor::from_data(TensorData::new(vec![0, 1, 2], [1, 3]), &device),
            values: None,
            there: None,
            query: tensor(5, 0.5),
            way: 3,
            class_vectors: Some(tensor(3, 1.3)),
        };
        let settings = TipAdapterSettings::from_value("learner", &json!({"alpha": 1e-6})).unwrap();
        let scores = settings.scores(&features, 1.0, &Pass::evaluation());
        let cosines = distance::cosines(features.query, features.class_vectors.unwrap());
        let difference = (scores - cosines.mul_scalar(100.0))
            .abs()
            .max()
            .into_scalar();
        assert!(difference < 1e-3, "{difference}");
    }
}
