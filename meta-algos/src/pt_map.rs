//! PT-MAP: features made Gaussian-like, and balanced assignment of the queries by optimal transport.
//!
//! Hu, Gripon and Pateux, *Leveraging the feature distribution in transfer-based few-shot learning*, ICANN
//! 2021.
//!
//! Features are raised to a power (eq. 1), divided by their norm, centred (support and queries each by their
//! own mean) and divided by their norm again. Class centres `c_n` start at the support's means; then, some
//! times, the queries are assigned by the optimal transport plan `P` with entropy regularisation `λ`
//! (Sinkhorn, eq. 5) in which every query counts once and every class `q/n` times, and each centre moves by
//! a share `α` to the mean of its support and queries (eq. 6 and 7):
//!
//! ```text
//! x ← (x + 10⁻⁶)^β,  x ← x/‖x‖,  x ← x − mean,  x ← x/‖x‖
//! P = Sinkhorn of exp(−λ ‖x_q − c_n‖²)
//! c_n ← c_n + α (Σ_i P_in x_i / Σ_i P_in − c_n)
//! ```
//!
//! Scores are the logarithms of the last plan. The queries are seen together, **and are taken to be as many
//! for every class**: the learner is transductive and knows of the balance.
//!
//! # Differences from the paper
//! * Features below 0, which a network without a last ReLU gives, are raised as `−(|x| + 10⁻⁶)^β`.
//! * As many Sinkhorn updates as the settings say; the authors stop at a tolerance of 10⁻⁶.
//! * The authors rotate the features to as many numbers as a task has items, which changes no distance.

use burn::tensor::Tensor;
use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        feature_rule::{self, FeatureBatch, FeatureLearner, FeatureRule},
    },
    nn::{Pass, distance, encoder::Architecture},
    primitives::{MatrixProduct, Primitives},
    settings,
    task::TaskSpec,
};

/// Added to features before the power.
const OFFSET: f64 = 1e-6;

/// Least share of the plan, whose logarithm is finite.
const LEAST_SHARE: f64 = 1e-30;

settings! {
    /// Settings of PT-MAP; the defaults are the authors'.
    pub struct PtMapSettings {
        /// `β`, the power that features are raised to.
        power: f64 = 0.5, fraction();
        /// `λ`, how sharp the plan is.
        lambda: f64 = 10.0, above(0.0);
        /// `α`, the share of the way that a centre moves.
        step: f64 = 0.2, fraction();
        /// Moves of the centres.
        updates: usize = 20, size(1);
        /// Sinkhorn updates of a plan.
        sinkhorn: usize = 100, size(1);
    }
}

impl LearnerSettings for PtMapSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "pt_map",
        family: Family::Baseline,
        summary: "power transform, then balanced optimal transport of queries to class centres",
        paper: "Hu et al., Leveraging the feature distribution, ICANN 2021",
        regression: false,
        any_way: true,
    };

    const TRANSDUCTIVE: bool = true;

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

impl FeatureRule for PtMapSettings {
    fn scores<B: Primitives>(
        &self,
        features: &FeatureBatch<B>,
        _number: f64,
        _pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let support = self.transformed(features.support.clone());
        let query = self.transformed(features.query.clone());
        let labels = features.membership();
        let all = Tensor::cat(vec![support.clone(), query.clone()], 1);
        let mut centres = distance::class_means(support, features.labels.clone(), features.way);
        for _ in 0..self.updates {
            let plan = Tensor::cat(vec![labels.clone(), self.plan(&query, &centres)], 1);
            let counts = plan.clone().sum_dim(1).swap_dims(1, 2);
            let means = plan.swap_dims(1, 2).product(all.clone()) / counts;
            centres = centres.clone() + (means - centres).mul_scalar(self.step);
        }
        self.plan(&query, &centres).add_scalar(LEAST_SHARE).log()
    }
}

impl PtMapSettings {
    /// Features of a set `[t, b, d]`, raised, centred and of unit length.
    fn transformed<B: Primitives>(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let is_negative = x.clone().lower_elem(0.0);
        let raised = x.abs().add_scalar(OFFSET).powf_scalar(self.power);
        let raised = raised.clone().mask_where(is_negative, raised.neg());
        let unit = distance::unit(raised);
        distance::unit(unit.clone() - unit.mean_dim(1))
    }

    /// The transport plan from queries `[t, q, d]` to centres `[t, n, d]`, `[t, q, n]`: rows sum to 1,
    /// columns to `q/n`.
    fn plan<B: Primitives>(&self, query: &Tensor<B, 3>, centres: &Tensor<B, 3>) -> Tensor<B, 3> {
        let distances = distance::squared_distances(query.clone(), centres.clone());
        let [_, q, n] = distances.dims();
        let mut plan = distances.mul_scalar(-self.lambda).exp();
        for _ in 0..self.sinkhorn {
            plan = plan.clone() / plan.sum_dim(2);
            plan = plan.clone() / plan.sum_dim(1).mul_scalar(n as f64 / q as f64);
        }
        plan
    }
}
