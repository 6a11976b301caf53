//! Linear discriminant analysis, and its class-wise relative: Mahalanobis distances.
//!
//! Fisher, *The use of multiple measurements in taxonomic problems*, Annals of Eugenics 1936; Bateni, Goyal,
//! Masrani, Wood and Sigal, *Improved few-shot visual classification* (Simple CNAPS), CVPR 2020.
//!
//! With `μ_n` the mean of class `n`, `π_n` its share of the support, `s_n` its items, `x_i` the `s` support
//! features of `d` numbers:
//!
//! ```text
//! covariance = "shared":
//!   S = 1/s Σ_i (x_i − μ_{y_i})(x_i − μ_{y_i})ᵀ
//!   Σ = (1 − γ) S + γ (tr S / d) I
//!   score of class n = μ_nᵀ Σ⁻¹ x − ½ μ_nᵀ Σ⁻¹ μ_n + ln π_n
//! covariance = "class" (Simple CNAPS, eq. 1 and 2):
//!   Q_n = λ_n S_n + (1 − λ_n) S_all + I,   λ_n = s_n / (s_n + 1)
//!   score of class n = −(x − μ_n)ᵀ Q_n⁻¹ (x − μ_n)
//! ```
//!
//! `S_n` and `S_all` are the unbiased covariances of class `n` and of the whole support. All of them have a
//! rank of at most `s`, so the systems that are solved have `s` unknowns (`2 s` for Simple CNAPS) where
//! that is fewer than `d` (Woodbury). The shared covariance is that of scikit-learn's
//! `LinearDiscriminantAnalysis(solver="lsqr", shrinkage=γ)`.
//!
//! # Differences from the papers
//! * One shot a class leaves no spread within classes, so `S = 0`. Then `tr S` is replaced by the
//!   trace of the covariance of the whole support, and `Σ` is a multiple of `I`.
//! * `S_n = 0` for a class of one item; the code of Simple CNAPS adds its features' variance to every
//!   entry of `Q_n` there.
//! * Scores of `"class"` are without the factor ½ of the paper's equation, as in the authors' code.

use burn::tensor::Tensor;
use meta_core::{
    Result,
    data::Split,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        feature_rule::{self, FeatureBatch, FeatureLearner, FeatureRule},
        feature_transform::{Centre, FeatureTransform},
    },
    nn::{Pass, encoder::Architecture, solve::solve_positive_definite},
    primitives::{MatrixProduct, Primitives},
    settings,
    task::TaskSpec,
};
use serde::{Deserialize, Serialize};

/// What a class's covariance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Covariance {
    /// One for all classes, shrunk to a multiple of the identity.
    Shared,
    /// Its own, mixed with that of the task and the identity.
    Class,
}

/// Shrinkages among which validation episodes choose.
const SHRINKAGES: [f64; 8] = [0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0];

/// Smallest share of the support's spread that is taken for a spread within classes.
const LEAST_SPREAD: f64 = 1e-9;

settings! {
    /// Settings of discriminant analysis.
    pub struct LdaSettings {
        /// The covariance of a class: `shared` by all of them, or its own (`class`: Simple CNAPS).
        covariance: Covariance = Covariance::Shared;
        /// `γ`, how far the shared covariance is shrunk to a multiple of the identity. 0: chosen on
        /// the validation episodes, from 0.01 to 1.
        shrinkage: f64 = 0.0, between(0.0, 1.0);
        /// What is subtracted from the features first: `none`, `support` (the mean of the task's
        /// support) or `training` (the mean over items of training tasks).
        centre: Centre = Centre::None;
        /// Whether features are then divided by their Euclidean norms.
        normalise: bool = false;
    }
}

impl LearnerSettings for LdaSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "lda",
        family: Family::Baseline,
        summary: "linear discriminant analysis with shrinkage, or Simple CNAPS' Mahalanobis distances",
        paper: "Fisher, 1936; Bateni et al., Improved few-shot visual classification, CVPR 2020",
        regression: false,
        any_way: true,
    };

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

impl FeatureRule for LdaSettings {
    fn transform(&self) -> FeatureTransform {
        FeatureTransform {
            centre: self.centre,
            normalise: self.normalise,
        }
    }

    fn candidates(&self) -> &[f64] {
        match self.covariance {
            Covariance::Shared => feature_rule::chosen_or(&self.shrinkage, &SHRINKAGES),
            Covariance::Class => &[1.0],
        }
    }

    fn scores<B: Primitives>(
        &self,
        features: &FeatureBatch<B>,
        number: f64,
        _pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        match self.covariance {
            Covariance::Shared => shared(features, number),
            Covariance::Class => class_wise(features),
        }
    }
}

/// Scores with one covariance, `[t, q, n]`, for a shrinkage of `gamma`.
fn shared<B: Primitives>(features: &FeatureBatch<B>, gamma: f64) -> Tensor<B, 3> {
    let [t, s, d] = features.support.dims();
    let membership = features.membership();
    let means = features.prototypes();
    let within = features.support.clone() - membership.clone().product(means.clone());
    let around = features.support.clone() - features.support.clone().mean_dim(1);
    // tr S / d of each task, `[t, 1, 1]`.
    let spread = |x: &Tensor<B, 3>| {
        let squares = (x.clone() * x.clone()).reshape([t, s * d]).sum_dim(1);
        squares.mul_scalar(1.0 / (s * d) as f64).reshape([t, 1, 1])
    };
    let (own, all) = (spread(&within), spread(&around).add_scalar(1e-12));
    let none = own
        .clone()
        .lower_equal(all.clone().mul_scalar(LEAST_SPREAD));
    // Without a spread within classes there is nothing to shrink.
    let scale = own.clone().mul_scalar(gamma).mask_where(none.clone(), all);
    let factor = own.ones_like().mul_scalar((1.0 - gamma) / s as f64);
    let factor = factor.mask_fill(none, 0.0);
    let directions = apply_inverse(within, scale, factor, means.clone().swap_dims(1, 2));
    let squares = (means.swap_dims(1, 2) * directions.clone()).sum_dim(1);
    let shares = membership.mean_dim(1).log();
    features.query.clone().product(directions) - squares.mul_scalar(0.5) + shares
}

/// Scores with a covariance for each class, `[t, q, n]`.
fn class_wise<B: Primitives>(features: &FeatureBatch<B>) -> Tensor<B, 3> {
    let [t, s, _] = features.support.dims();
    let [_, q, _] = features.query.dims();
    let (membership, means) = (features.membership(), features.prototypes());
    let of_task = features.support.clone() - features.support.clone().mean_dim(1);
    let one = membership
        .clone()
        .narrow(1, 0, 1)
        .narrow(2, 0, 1)
        .ones_like();
    let scores = (0..features.way).map(|class| {
        let mean = means.clone().narrow(1, class, 1);
        let is_own = membership.clone().narrow(2, class, 1);
        let count = is_own.clone().sum_dim(1);
        let share = count.clone() / count.clone().add_scalar(1.0);
        // Rows whose outer products add up to the two covariances.
        let own_weight = (share.clone() / count.sub_scalar(1.0).clamp_min(1.0)).sqrt();
        let task_weight = share
            .neg()
            .add_scalar(1.0)
            .mul_scalar(1.0 / ((s.max(2) - 1) as f64))
            .sqrt();
        let own = (features.support.clone() - mean.clone()) * is_own * own_weight;
        let rows = Tensor::cat(vec![own, of_task.clone() * task_weight], 1);
        let difference = (features.query.clone() - mean).swap_dims(1, 2);
        let turned = apply_inverse(rows, one.clone(), one.clone(), difference.clone());
        (difference * turned).sum_dim(1).neg().reshape([t, q, 1])
    });
    Tensor::cat(scores.collect(), 2)
}

/// `(a I + b Zᵀ Z)⁻¹ V` for `a > 0`, `b ≥ 0`: `z [t, r, d]`, `a` and `b` `[t, 1, 1]`, `v [t, d, m]`, result
/// `[t, d, m]`. With fewer rows than columns, by `1/a (V − b Zᵀ (a I + b Z Zᵀ)⁻¹ Z V)`.
fn apply_inverse<B: Primitives>(
    z: Tensor<B, 3>,
    a: Tensor<B, 3>,
    b: Tensor<B, 3>,
    v: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let [_, r, d] = z.dims();
    let identity = |side: usize| {
        let identity = Tensor::<B, 2>::eye(side, &z.device()).cast(z.dtype());
        identity.reshape([1, side, side])
    };
    let transposed = z.clone().swap_dims(1, 2);
    if r < d {
        let system = identity(r) * a.clone() + z.clone().product(transposed.clone()) * b.clone();
        let inner = solve_positive_definite(system, z.product(v.clone()));
        return (v - transposed.product(inner) * b) / a;
    }
    let system = identity(d) * a + transposed.product(z.clone()) * b;
    let [t, _, m] = v.dims();
    if m > d {
        return solve_positive_definite(system, identity(d).expand([t, d, d])).product(v);
    }
    solve_positive_definite(system, v)
}
