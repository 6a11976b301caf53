//! From scores to a map: soft attention, and hard attention by gradients that are straight through.
//!
//! | map | value | gradient |
//! |---|---|---|
//! | [`soft`] | softmax | exact |
//! | [`straight_through`] | the key of the highest score | that of the softmax: biased |
//! | [`gumbel_softmax`] | a softmax of perturbed scores | exact for that relaxed map; biased for the sampled one, less so (with more variance) as the temperature falls |
//! | [`gumbel_straight_through`] | a key drawn with the probabilities of the softmax | that of the relaxed map: biased |
//! | [`sample`](super::sample) | the same | unbiased, by [`Sample::surrogate`](super::Sample::surrogate) |
//!
//! What is drawn comes from the [`Pass`]. Where it draws nothing (in evaluation, and in training
//! without a seed), the sampled maps are their deterministic limit: the key of the highest score,
//! differentiated straight through.
//!
//! The second derivative of a straight-through gradient is that of this gradient as a function: the
//! softmax in it is differentiated, the key of the highest score is constant.

use burn::tensor::{Bool, Int, Tensor};

use serde::{Deserialize, Serialize};

use super::{AttentionInfo, mask::softmax_over};
use crate::{nn::Pass, primitives::Primitives};

pub(super) const SOFT: AttentionInfo = AttentionInfo {
    name: "soft",
    family: "map",
    summary: "softmax of the scores: every key is read by its share",
    paper: "Bahdanau et al., Neural machine translation by jointly learning to align and translate, ICLR 2015, section 3.1",
};

pub(super) const STRAIGHT_THROUGH: AttentionInfo = AttentionInfo {
    name: "straight_through",
    family: "map",
    summary: "the key of the highest score alone; gradient of the softmax in its place (biased)",
    paper: "Bengio et al., Estimating or propagating gradients through stochastic neurons, 2013, section 4",
};

pub(super) const GUMBEL_SOFTMAX: AttentionInfo = AttentionInfo {
    name: "gumbel_softmax",
    family: "map",
    summary: "softmax of scores with Gumbel noise, relaxed or straight through (biased for a sampled key)",
    paper: "Jang et al., Categorical reparameterization with Gumbel-softmax, ICLR 2017, section 2",
};

/// What the weights of an attention follow from: the switch of every ablation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weighting {
    /// The softmax of the scores.
    #[default]
    Softmax,
    /// Nothing: every key that is not hidden has the same weight, whatever the scores. What remains is
    /// mean pooling with the same parameters, to compare attention with.
    Uniform,
}

impl Weighting {
    /// The scores that lead to these weights: all 0 for uniform ones.
    pub fn scores<B: Primitives, const D: usize>(self, scores: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Weighting::Softmax => scores,
            Weighting::Uniform => scores.zeros_like(),
        }
    }
}

/// Softmax over the keys that are not hidden: `scores [n, heads, l, m]`, `hidden` of a shape that
/// broadcasts to it (true: not read), result `[n, heads, l, m]`.
///
/// A row sums to 1; a row that is hidden as a whole is 0.
pub fn soft<B: Primitives>(
    scores: Tensor<B, 4>,
    hidden: Option<&Tensor<B, 4, Bool>>,
) -> Tensor<B, 4> {
    softmax_over(scores, hidden.cloned(), 1.0)
}

/// 1 at the highest score of each row that is not hidden, else 0; shapes as of [`soft`]. A constant.
pub(super) fn highest<B: Primitives>(
    scores: Tensor<B, 4>,
    hidden: Option<&Tensor<B, 4, Bool>>,
) -> Tensor<B, 4> {
    let (shape, dtype, device) = (scores.dims(), scores.dtype(), scores.device());
    let hidden = hidden.map(|hidden| hidden.clone().expand(shape));
    let candidates = match &hidden {
        Some(hidden) => scores.mask_fill(hidden.clone(), super::mask::HIDDEN),
        None => scores,
    };
    let keys = Tensor::<B, 1, Int>::arange(0..shape[3] as i64, &device);
    let keys = keys.reshape([1, 1, 1, shape[3]]).expand(shape);
    let winners = candidates.argmax(3).expand(shape);
    let one_hot = keys.equal(winners).float().cast(dtype);
    match hidden {
        Some(hidden) => one_hot.mask_fill(hidden, 0.0),
        None => one_hot,
    }
}

/// The key of the highest score of each row, `A = onehot(argmax)`, with the gradient of the softmax:
/// shapes as of [`soft`]. A biased gradient (Bengio, Léonard and Courville, 2013).
pub fn straight_through<B: Primitives>(
    scores: Tensor<B, 4>,
    hidden: Option<&Tensor<B, 4, Bool>>,
) -> Tensor<B, 4> {
    let hard = highest(scores.clone(), hidden);
    let soft = soft(scores, hidden);
    // Exactly 0, with the gradient of the softmax.
    hard + (soft.clone() - soft.detach())
}

/// `softmax((s + g) / τ)`, `g = −ln(−ln u)` (Jang, Gu and Poole, ICLR 2017, eq. 2; Maddison, Mnih and
/// Teh, ICLR 2017): shapes as of [`soft`], of `tasks` tasks.
///
/// As `τ → 0` a key is drawn with the probability that the softmax gives it.
pub fn gumbel_softmax<B: Primitives>(
    scores: Tensor<B, 4>,
    hidden: Option<&Tensor<B, 4, Bool>>,
    temperature: f64,
    tasks: usize,
    pass: &Pass<B>,
) -> Tensor<B, 4> {
    match perturbed(&scores, tasks, pass) {
        Some(perturbed) => soft(perturbed.mul_scalar(1.0 / temperature), hidden),
        None => straight_through(scores.mul_scalar(1.0 / temperature), hidden),
    }
}

/// A key drawn with the probability that the softmax gives it, with the gradient of
/// [`gumbel_softmax`]: the straight-through estimator of Jang, Gu and Poole (section 2.2).
pub fn gumbel_straight_through<B: Primitives>(
    scores: Tensor<B, 4>,
    hidden: Option<&Tensor<B, 4, Bool>>,
    temperature: f64,
    tasks: usize,
    pass: &Pass<B>,
) -> Tensor<B, 4> {
    let scores = perturbed(&scores, tasks, pass).unwrap_or(scores);
    straight_through(scores.mul_scalar(1.0 / temperature), hidden)
}

/// Scores with Gumbel noise, where the pass draws: the highest of a row is at a key with the
/// probability that the softmax of the scores gives it.
pub(super) fn perturbed<B: Primitives>(
    scores: &Tensor<B, 4>,
    tasks: usize,
    pass: &Pass<B>,
) -> Option<Tensor<B, 4>> {
    let shape = scores.shape();
    let uniform = pass.uniform(shape.num_elements() / tasks, &scores.device())?;
    let noise = uniform.log().neg().log().neg();
    Some(scores.clone() + noise.reshape(shape).cast(scores.dtype()))
}
