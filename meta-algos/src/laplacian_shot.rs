//! LaplacianShot: nearest class means, and queries that are alike have like answers.
//!
//! Ziko, Dolz, Granger and Ben Ayed, *Laplacian regularized few-shot learning*, ICML 2020.
//!
//! With the mean `m_n` of a class's support, queries `x_q` and `w(x_q, x_p) = 1` where `x_p` is one of the
//! nearest queries of `x_q` (else 0), the answers `y_q` start at the softmax of `−a_q` and are moved, all at
//! once and several times, to the minimum of a bound (eq. 12, algorithm 1):
//!
//! ```text
//! a_qn = ‖x_q − m_n‖²
//! y_qn ∝ exp(−a_qn + λ Σ_p w(x_q, x_p) y_pn)
//! ```
//!
//! Scores are the logarithms of the last `y_q`. The queries are seen together: the learner is transductive.
//!
//! # Differences from the paper
//! * As many updates as the settings say; the authors' code stops earlier when the bound no longer falls.
//! * No rectification of the means, which the authors take for several domains.

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

/// Values of `λ` among which validation episodes choose: the authors'.
const WEIGHTS: [f64; 8] = [0.1, 0.3, 0.5, 0.7, 0.8, 1.0, 1.2, 1.5];

/// Farther than any query: no query is its own neighbour.
const FAR: f64 = 1e9;

settings! {
    /// Settings of LaplacianShot; the defaults are the authors'.
    pub struct LaplacianShotSettings {
        /// `λ`, the weight of the neighbours. 0: chosen on the validation episodes, from 0.1 to 1.5.
        lambda: f64 = 0.0, at_least(0.0);
        /// Nearest queries, the query itself counted.
        neighbours: usize = 3, size(1);
        /// Updates of the answers.
        updates: usize = 20, size(1);
        /// What is subtracted from the features first: `none`, `support` (the mean of the task's
        /// support) or `training` (the mean over items of training tasks).
        centre: Centre = Centre::Training;
        /// Whether features are then divided by their Euclidean norms.
        normalise: bool = true;
    }
}

impl LearnerSettings for LaplacianShotSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "laplacian_shot",
        family: Family::Baseline,
        summary: "moves the answers of nearest class means to those of neighbouring queries",
        paper: "Ziko et al., Laplacian regularized few-shot learning, ICML 2020",
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

impl FeatureRule for LaplacianShotSettings {
    fn transform(&self) -> FeatureTransform {
        FeatureTransform {
            centre: self.centre,
            normalise: self.normalise,
        }
    }

    fn candidates(&self) -> &[f64] {
        feature_rule::chosen_or(&self.lambda, &WEIGHTS)
    }

    fn scores<B: Primitives>(
        &self,
        features: &FeatureBatch<B>,
        number: f64,
        _pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let query = features.query.clone();
        let [_, q, _] = query.dims();
        let unary = distance::squared_distances(query.clone(), features.prototypes()).neg();
        let itself = Tensor::<B, 2>::eye(q, &query.device()).cast(query.dtype());
        let apart = distance::squared_distances(query.clone(), query)
            + itself.mul_scalar(FAR).reshape([1, q, q]);
        let others = (self.neighbours - 1).min(q - 1);
        let weights = match others {
            0 => apart.zeros_like(),
            others => distance::nearest(apart.neg(), others),
        };
        let mut answers = log_softmax(unary.clone(), 2);
        for _ in 0..self.updates {
            let pull = weights.clone().product(answers.exp()).mul_scalar(number);
            answers = log_softmax(unary.clone() + pull, 2);
        }
        answers
    }
}
