//! TIM: transductive information maximisation.
//!
//! Boudiaf, Ziko, Rony, Dolz, Piantanida and Ben Ayed, *Information maximization for few-shot learning*,
//! NeurIPS 2020.
//!
//! Class vectors `w_n` that start at the mean features and give `p_in = softmax_n(−τ/2 ‖x_i − w_n‖²)` are
//! sought that fit the support (cross-entropy, weight `λ`), answer queries decidedly (conditional entropy,
//! weight `α`) and use all classes alike (marginal entropy). The alternating direction method (proposition
//! 1, eq. 7 and 8) repeats, for queries `Q` and support `S` with one-hot labels `y`:
//!
//! ```text
//! q_in ∝ p_in^(1+α) / (Σ_{j∈Q} p_jn^(1+α))^½
//! w'_n = (λ/(1+α) Σ_{i∈S} (y_in x_i + p_in (w_n − x_i)) + |S|/|Q| Σ_{i∈Q} (q_in x_i + p_in (w_n − x_i)))
//!        / (λ/(1+α) Σ_{i∈S} y_in + |S|/|Q| Σ_{i∈Q} q_in)
//! ```
//!
//! Scores are `−τ/2 ‖x − w_n‖²`. The queries are seen together: the learner is transductive.
//!
//! # Differences from the paper
//! * None for TIM-ADM; TIM-GD, which minimises the same loss by gradient steps, is not built.

use burn::tensor::{Tensor, activation::log_softmax};
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
use serde_json::json;

settings! {
    /// Settings of TIM-ADM; the defaults are the authors'.
    pub struct TimSettings {
        /// `τ`, how fast a class's share falls with the distance.
        temperature: f64 = 15.0, above(0.0);
        /// `λ`, the weight of the support's cross-entropy.
        lambda: f64 = 0.1, above(0.0);
        /// `α`, the weight of the queries' conditional entropy.
        alpha: f64 = 0.1, above(0.0);
        /// Repetitions.
        updates: usize = 150, size(1);
        /// What is subtracted from the features first: `none`, `support` (the mean of the task's
        /// support) or `training` (the mean over items of training tasks).
        centre: Centre = Centre::None;
        /// Whether features are then divided by their Euclidean norms.
        normalise: bool = true;
    }
}

impl LearnerSettings for TimSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "tim",
        family: Family::Baseline,
        summary: "maximises the information between queries and answers (TIM-ADM)",
        paper: "Boudiaf et al., Information maximization for few-shot learning, NeurIPS 2020",
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

    /// With few updates: each sharpens the answers, and so does with differences from rounding.
    fn gradient_of() -> GradientOf {
        feature_rule::gradient_with(json!({ "updates": 10 }))
    }

    fn toy() -> Toy {
        feature_rule::toy()
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        FeatureLearner::boxed(self, new)
    }
}

impl FeatureRule for TimSettings {
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
        let (support, query) = (features.support.clone(), features.query.clone());
        let ([t, s, _], [_, q, _]) = (support.dims(), query.dims());
        let labels = features.membership();
        let logits = |items: &Tensor<B, 3>, weights: &Tensor<B, 3>| {
            distance::squared_distances(items.clone(), weights.clone())
                .mul_scalar(-0.5 * self.temperature)
        };
        let power = 1.0 + self.alpha;
        let of_support = self.lambda / power;
        let of_query = s as f64 / q as f64;
        let mut weights = features.prototypes();
        for _ in 0..self.updates {
            let log_query = log_softmax(logits(&query, &weights), 2);
            let p_query = log_query.clone().exp();
            let p_support = log_softmax(logits(&support, &weights), 2).exp();
            // In logarithms: a class that no query is near has no share to divide by.
            let raised = log_query.mul_scalar(power);
            let highest = raised.clone().max_dim(1);
            let total = (raised.clone() - highest.clone()).exp().sum_dim(1).log() + highest;
            let shares = log_softmax(raised - total.mul_scalar(0.5), 2).exp();
            // Σ_i (target_in x_i + p_in (w_n − x_i))
            let pull = |targets: &Tensor<B, 3>, p: Tensor<B, 3>, items: &Tensor<B, 3>| {
                let counts = p.clone().sum_dim(1).reshape([t, features.way, 1]);
                (targets.clone() - p).swap_dims(1, 2).product(items.clone())
                    + weights.clone() * counts
            };
            let count =
                |targets: &Tensor<B, 3>| targets.clone().sum_dim(1).reshape([t, features.way, 1]);
            let sum = pull(&labels, p_support, &support).mul_scalar(of_support)
                + pull(&shares, p_query, &query).mul_scalar(of_query);
            let all = count(&labels).mul_scalar(of_support) + count(&shares).mul_scalar(of_query);
            weights = sum / all;
        }
        logits(&query, &weights)
    }
}
