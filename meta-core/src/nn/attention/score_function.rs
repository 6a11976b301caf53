//! Hard attention with an unbiased gradient: the score-function estimator.

use burn::tensor::{Bool, Tensor, backend::Backend};

use super::{
    AttentionInfo,
    mask::HIDDEN,
    normalise::{highest, perturbed},
};
use crate::{nn::Pass, primitives::Primitives};

pub(super) const SCORE_FUNCTION: AttentionInfo = AttentionInfo {
    name: "score_function",
    family: "map",
    summary: "a key drawn at random; gradient by its log-probability and a baseline (unbiased at every order)",
    paper: "Xu et al., Show, attend and tell, ICML 2015, section 4.1; Foerster et al., DiCE, ICML 2018, section 4",
};

/// Keys that were drawn, one for each query.
#[derive(Clone, Debug)]
pub struct Sample<B: Backend> {
    /// One-hot, `[n, heads, l, m]`, a constant; 0 in rows that are hidden as a whole.
    pub map: Tensor<B, 4>,
    /// `ln π`, the logarithm of the probability of all draws of a task together, `[t]`.
    pub log_probability: Tensor<B, 1>,
}

/// Draws a key for each query with the probability that the softmax of its scores gives it:
/// `scores [n, heads, l, m]` of `tasks` tasks, `hidden` of a shape that broadcasts to it (true: not
/// read).
///
/// Where the pass draws nothing, the key of the highest score is taken, with certainty: then
/// `ln π = 0`, and no gradient reaches the scores.
pub fn sample<B: Primitives>(
    scores: Tensor<B, 4>,
    hidden: Option<&Tensor<B, 4, Bool>>,
    tasks: usize,
    pass: &Pass<B>,
) -> Sample<B> {
    match perturbed(&scores, tasks, pass) {
        Some(perturbed) => Sample::given(highest(perturbed, hidden), scores, hidden, tasks),
        None => Sample {
            log_probability: Tensor::<B, 1>::zeros([tasks], &scores.device()).cast(scores.dtype()),
            map: highest(scores, hidden),
        },
    }
}

impl<B: Backend> Sample<B> {
    /// The sample that chose the keys of the one-hot `map`, and how probable it was.
    pub fn given(
        map: Tensor<B, 4>,
        scores: Tensor<B, 4>,
        hidden: Option<&Tensor<B, 4, Bool>>,
        tasks: usize,
    ) -> Self {
        let [n, heads, l, _] = scores.dims();
        let scores = match hidden {
            Some(hidden) => scores.mask_fill(hidden.clone().expand(map.dims()), HIDDEN),
            None => scores,
        };
        // ln softmax at the chosen key; the largest score of a row goes from both terms.
        let scores = scores.clone() - scores.max_dim(3);
        let chosen = (scores.clone() * map.clone()).sum_dim(3);
        let log_probabilities = chosen - scores.exp().sum_dim(3).log();
        let nothing = map.clone().sum_dim(3).equal_elem(0.0);
        let of_task = log_probabilities
            .mask_fill(nothing, 0.0)
            .reshape([tasks, n * heads * l / tasks]);
        Sample {
            map,
            log_probability: of_task.sum_dim(1).reshape([tasks]),
        }
    }

    /// A loss with the value of `loss [t]` and the gradient of its expectation over draws.
    ///
    /// ```text
    /// L + (L − b) (□ − 1),    □ = exp(ln π − ⊥(ln π)) = 1
    /// ∇ = ∇L + (L − b) ∇ ln π
    /// ```
    ///
    /// where `⊥` is a constant at every level. The estimate is unbiased for derivatives of any order
    /// (DiCE: Foerster et al., ICML 2018, eq. 6), as long as the baseline `b [t]` of a task does not
    /// depend on its own draws; it then only lowers the variance. At first order it is the estimator
    /// of Williams (1992), with which Xu et al. (2015, eq. 12) train hard attention.
    pub fn surrogate(&self, loss: Tensor<B, 1>, baseline: Tensor<B, 1>) -> Tensor<B, 1> {
        let certain = constant(self.log_probability.clone());
        let excess = (self.log_probability.clone() - certain)
            .exp()
            .sub_scalar(1.0);
        loss.clone() + (loss - baseline) * excess
    }
}

/// The mean loss of all other tasks, `[t]` to `[t]`, a baseline that is independent of a task's own
/// draws (Kool, van Hoof and Welling, 2019); 0 for a single task.
pub fn leave_one_out<B: Primitives>(losses: Tensor<B, 1>) -> Tensor<B, 1> {
    let others = losses.dims()[0] - 1;
    (losses.clone().sum() - losses).mul_scalar(1.0 / others.max(1) as f64)
}

/// The value of `x`, a constant on every autodiff level: `detach` would cut the topmost alone.
fn constant<B: Backend>(x: Tensor<B, 1>) -> Tensor<B, 1> {
    let (device, dtype) = (x.device(), x.dtype());
    Tensor::from_data(x.into_data(), (&device, dtype))
}
