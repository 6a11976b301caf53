//! BD-CSPN: prototypes that are rectified by the queries.
//!
//! Liu, Song and Qin, *Prototype rectification for few-shot learning*, ECCV 2020.
//!
//! Queries are shifted by the difference of the means of support and queries (eq. 7, against the bias
//! between them), labelled by the nearest prototype in angle, and the `Z` most confident ones of each class
//! join its support; the prototype of a class is then a weighted mean of these `x'_i` (eq. 4 and 5, against
//! the bias within classes):
//!
//! ```text
//! ξ = mean of the support − mean of the queries,   x_q ← x_q + ξ
//! P'_n = Σ_i w_in x'_in,   w_in = exp(ε cos(x'_in, P_n)) / Σ_j exp(ε cos(x'_jn, P_n))
//! score of class n = ε cos(x_q, P'_n)
//! ```
//!
//! Confidence is the softmax of `ε cos(x_q, P_n)`. The queries are seen together: the learner is
//! transductive.
//!
//! # Differences from the paper
//! * A class that fewer than `Z` queries are labelled with takes all of them; queries that are as
//!   confident as the last one join, too.

use burn::tensor::{Tensor, activation::softmax};
use meta_core::{
    Result,
    data::Split,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        feature_rule::{self, FeatureBatch, FeatureLearner, FeatureRule},
        feature_transform::{Centre, FeatureTransform},
    },
    nn::{Pass, distance, encoder::Architecture},
    primitives::{MatrixProduct, Primitives},
    settings,
    task::TaskSpec,
};

settings! {
    /// Settings of BD-CSPN; the defaults are the paper's.
    pub struct BdCspnSettings {
        /// `ε`, what cosines are multiplied by.
        scale: f64 = 10.0, above(0.0);
        /// `Z`, the queries that join a class's support, at most.
        pseudo_labels: usize = 8, size(1);
        /// What is subtracted from the features first: `none`, `support` (the mean of the task's
        /// support) or `training` (the mean over items of training tasks).
        centre: Centre = Centre::None;
        /// Whether features are then divided by their Euclidean norms.
        normalise: bool = true;
    }
}

impl LearnerSettings for BdCspnSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "bd_cspn",
        family: Family::Baseline,
        summary: "rectifies prototypes by confident queries, after shifting queries onto the support",
        paper: "Liu et al., Prototype rectification for few-shot learning, ECCV 2020",
        regression: false,
        any_way: true,
    };

    const TRANSDUCTIVE: bool = true;

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        feature_rule::check::<Self>(spec)
    }

    fn calibration(&self) -> &'static [Split] {
        feature_rule::calibration(self)
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

impl FeatureRule for BdCspnSettings {
    fn transform(&self) -> FeatureTransform {
        FeatureTransform {
            centre: self.centre,
            normalise: self.normalise,
        }
    }

    fn scores<B: Primitives>(
        &self,
        features: &FeatureBatch<B>,
        _number: f64,
        _pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let (support, prototypes) = (features.support.clone(), features.prototypes());
        let shift = support.clone().mean_dim(1) - features.query.clone().mean_dim(1);
        let query = features.query.clone() + shift;
        let similar = |items: &Tensor<B, 3>, to: &Tensor<B, 3>| {
            distance::cosines(items.clone(), to.clone()).mul_scalar(self.scale)
        };
        let of_query = similar(&query, &prototypes);
        let [t, q, n] = of_query.dims();
        let confidence = softmax(of_query.clone(), 2);
        let labels = of_query.clone().argmax(2);
        let is_labelled = labels.one_hot::<4>(n).float().cast(of_query.dtype());
        let is_labelled = is_labelled.reshape(of_query.dims());
        let confidence = confidence * is_labelled.clone();
        let (best, _) = confidence
            .clone()
            .topk_with_indices(self.pseudo_labels.min(q), 1);
        let last = best
            .clone()
            .narrow(1, best.dims()[1] - 1, 1)
            .expand([t, q, n]);
        let is_confident = confidence
            .greater_equal(last)
            .float()
            .cast(of_query.dtype());
        // Cosines are at most 1: nothing overflows.
        let raise = |similar: Tensor<B, 3>| similar.sub_scalar(self.scale).exp();
        let weights = Tensor::cat(
            vec![
                raise(similar(&support, &prototypes)) * features.membership(),
                raise(of_query) * is_labelled * is_confident,
            ],
            1,
        );
        let weights = weights.clone() / weights.sum_dim(1);
        let all = Tensor::cat(vec![support, query.clone()], 1);
        let rectified = weights.swap_dims(1, 2).product(all);
        similar(&query, &rectified)
    }
}
