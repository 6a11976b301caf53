//! Baseline++: a pre-trained encoder, and a cosine classifier that is learned on the support.
//!
//! Chen, Liu, Kira, Wang and Huang, *A closer look at few-shot classification*, ICLR 2019 (section 3.3).
//!
//! As [`baseline`](super::baseline), but the scores of both classifiers, that of training and that of the
//! support, are cosines between features and a weight vector `w_n` of each class, times a scale `σ`:
//!
//! ```text
//! score of class n = σ cos(x, w_n)
//! ∂ score / ∂w_n = σ (x/‖x‖ − cos(x, w_n) w_n/‖w_n‖) / ‖w_n‖
//! ```
//!
//! # Differences from the paper
//! * Those of [`baseline`](super::baseline), but for the start: weights start at the mean features of the
//!   classes, since a cosine has no gradient at 0.
//! * `σ` is 10 for any number of classes; the authors take 2 up to 200 of them, and learn a length of
//!   each weight vector, which the paper does not have.

use burn::tensor::{Tensor, activation::softmax};
use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        feature_rule::{self, FeatureBatch, FeatureLearner, FeatureRule},
        support_descent::{Descent, descend},
    },
    nn::{Pass, distance, encoder::Architecture},
    primitives::{MatrixProduct, Primitives},
    settings,
    task::TaskSpec,
};

settings! {
    /// Settings of Baseline++.
    pub struct BaselinePpSettings {
        /// `σ`, what cosines are multiplied by.
        scale: f64 = 10.0, above(0.0);
        /// Steps of the classifier on the support.
        steps: usize = 100, size(1);
        /// Their learning rate.
        lr: f64 = 0.01, above(0.0);
        /// The weight decay.
        weight_decay: f64 = 1e-3, above(0.0);
    }
}

impl LearnerSettings for BaselinePpSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "baseline_pp",
        family: Family::Baseline,
        summary: "pre-trains on all training classes, then learns a cosine classifier on the support",
        paper: "Chen et al., A closer look at few-shot classification, ICLR 2019",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        feature_rule::check::<Self>(spec)
    }

    fn gradient_of() -> GradientOf {
        feature_rule::gradient_of()
    }

    fn toy() -> Toy {
        feature_rule::toy()
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        FeatureLearner::boxed(self, new)
    }
}

impl FeatureRule for BaselinePpSettings {
    fn cosine_scale(&self) -> Option<f64> {
        Some(self.scale)
    }

    fn scores<B: Primitives>(
        &self,
        features: &FeatureBatch<B>,
        _number: f64,
        _pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let items = distance::unit(features.support.clone());
        let targets = features.membership();
        let s = items.dims()[1];
        let descent = Descent {
            steps: self.steps,
            lr: self.lr,
            weight_decay: self.weight_decay,
        };
        let weights = descend(descent, features.prototypes(), |weights| {
            let unit = distance::unit(weights.clone());
            let lengths = (weights.clone() * weights.clone())
                .sum_dim(2)
                .add_scalar(1e-12)
                .sqrt();
            let cosines = items.clone().product(unit.clone().swap_dims(1, 2));
            let scores = cosines.clone().mul_scalar(self.scale);
            let error = (softmax(scores, 2) - targets.clone()).mul_scalar(1.0 / s as f64);
            let along = (error.clone() * cosines).sum_dim(1).swap_dims(1, 2);
            let across = error.swap_dims(1, 2).product(items.clone()) - unit * along;
            (across / lengths).mul_scalar(self.scale)
        });
        distance::cosines(features.query.clone(), weights).mul_scalar(self.scale)
    }
}
