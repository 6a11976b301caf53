//! Baseline: a pre-trained encoder, and a linear classifier that is learned on the support.
//!
//! Chen, Liu, Kira, Wang and Huang, *A closer look at few-shot classification*, ICLR 2019 (section 3.2).
//!
//! Training learns the encoder as a linear classifier of all training classes ([`feature_rule`]). At test
//! the encoder stays, and a new linear classifier is learned on the support by gradient descent with
//! momentum and weight decay `w`:
//!
//! ```text
//! L(W, b) = mean over the support of −ln softmax(Wᵀ x + b)[y] + ½ w (‖W‖² + ‖b‖²)
//! ```
//!
//! # Differences from the paper
//! * A step sees all of the support, and weights start at 0: neither the order of the support nor a seed
//!   matters. The authors take batches of 4 and start at random.
//! * Pre-training sees the items of episodes of training classes, not batches of single images.

use burn::tensor::{Tensor, activation::softmax};
use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        feature_rule::{self, FeatureBatch, FeatureLearner, FeatureRule},
        support_descent::{Descent, descend},
    },
    nn::{Pass, encoder::Architecture},
    primitives::{MatrixProduct, Primitives},
    settings,
    task::TaskSpec,
};

settings! {
    /// Settings of the baseline; the defaults are the authors'.
    pub struct BaselineSettings {
        /// Steps of the classifier on the support.
        steps: usize = 100, size(1);
        /// Their learning rate.
        lr: f64 = 0.01, above(0.0);
        /// `w`, the weight decay.
        weight_decay: f64 = 1e-3, above(0.0);
    }
}

impl LearnerSettings for BaselineSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "baseline",
        family: Family::Baseline,
        summary: "pre-trains on all training classes, then learns a linear classifier on the support",
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

impl FeatureRule for BaselineSettings {
    fn scores<B: Primitives>(
        &self,
        features: &FeatureBatch<B>,
        _number: f64,
        _pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let with_ones = |x: &Tensor<B, 3>| {
            let ones = x.clone().narrow(2, 0, 1).ones_like();
            Tensor::cat(vec![x.clone(), ones], 2)
        };
        let (support, targets) = (with_ones(&features.support), features.membership());
        let [t, s, d] = support.dims();
        let start = targets
            .clone()
            .narrow(1, 0, 1)
            .expand([t, d, features.way])
            .zeros_like();
        let transposed = support.clone().swap_dims(1, 2);
        let descent = Descent {
            steps: self.steps,
            lr: self.lr,
            weight_decay: self.weight_decay,
        };
        let weights = descend(descent, start, |weights| {
            let error = softmax(support.clone().product(weights.clone()), 2) - targets.clone();
            transposed.clone().product(error.mul_scalar(1.0 / s as f64))
        });
        with_ones(&features.query).product(weights)
    }
}
