//! Induction networks: dynamic routing makes the vector of a class from its support.
//!
//! Geng, Li, Li, Zhu, Jian and Sun, *Induction networks for few-shot text classification*, EMNLP 2019.
//!
//! With an encoder `φ`, embedded support `e_j` of class `n`, and `squash(x) = ‖x‖² / (1 + ‖x‖²) · x / ‖x‖`:
//!
//! ```text
//! ê_j = squash(W_s e_j + b_s)                                                   (eq. 5)
//! b = 0, then `iterations` times:
//!   d = softmax over the support of class n of b,   c_n = squash(Σ_j d_j ê_j)   (eq. 6 to 8)
//!   b_j ← b_j + ê_j · c_n                                                       (eq. 9)
//! v_k = relu(c_nᵀ M_k φ(x)),   k = 1 … slices                                   (eq. 10)
//! r_n = σ(W_r v + b_r)                                                          (eq. 11)
//! L = mean over queries and classes of (r_n − 1[y = n])²                        (eq. 12)
//! ```
//!
//! The class scores are what `σ` is applied to, which order the classes as `r` does. Routing is differentiated
//! like everything else. With `attention = "uniform"` all items of a class count alike, with the same parameters.
//! Shapes: support `[t, s, d]`, routing weights `[t, 1, n, s]`, class vectors `[t, n, d]`, scores `[t, q, n]`.
//!
//! # Differences from the paper
//! * The encoder is the manifest's; the paper's, a self-attention over a bidirectional LSTM, is
//!   `attention_pooling`.
//! * The sum over queries and classes is a mean, so that a learning rate means the same for every shape.
//! * 32 slices by default, where the paper has 100.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, activation::relu, backend::Backend},
};
use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass, activation,
        attention::{MapAxis, Weighting, soft},
        distance,
        encoder::Architecture,
        init::Initializer,
        linear::Linear,
    },
    primitives::{MatrixProduct, Primitives, linear},
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of [`InductionNet`].
    pub struct InductionNetSettings {
        /// Rounds of routing.
        iterations: usize = 3, between(1, 32);
        /// Slices `M_k` of the tensor that relates a query to a class.
        slices: usize = 32, between(1, 4096);
        /// What the items of a class are weighted by: `softmax` (routing) or `uniform` (all alike; for
        /// comparison).
        attention: Weighting = Weighting::Softmax;
    }
}

impl LearnerSettings for InductionNetSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "induction_net",
        family: Family::Attention,
        summary: "routes the support of a class to its vector, and learns the relation of a query to it",
        paper: "Geng et al., Induction networks for few-shot text classification, EMNLP 2019",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_classification(Self::INFO.name, "relations are to classes")
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Training(
            "squared error of sigmoids",
            vec![
                json!({"slices": 3}),
                json!({"slices": 3, "iterations": 1, "attention": "uniform"}),
            ],
        )
    }

    fn toy() -> Toy {
        Toy {
            maps: 1,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = InductionNet {
            architecture: new.architecture,
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// An encoder, the transformation before routing, and the relation module.
#[derive(Module, Debug)]
pub struct InductionModel<B: Backend, E> {
    encoder: E,
    /// `W_s`, `b_s`.
    transform: Linear<B>,
    /// `M`, `[1, d, slices·d]`.
    relation: Param<Tensor<B, 3>>,
    /// `W_r`, `b_r`.
    output: Linear<B>,
}

/// How an induction network compares.
pub struct InductionNet<A> {
    settings: InductionNetSettings,
    architecture: A,
}

/// `‖x‖² / (1 + ‖x‖²) · x / ‖x‖` along the last axis.
fn squash<L: Primitives>(x: Tensor<L, 3>) -> Tensor<L, 3> {
    // The offset keeps the gradient finite at x = 0.
    let squared = (x.clone() * x.clone()).sum_dim(2).add_scalar(1e-12);
    x * squared.clone().sqrt() / squared.add_scalar(1.0)
}

impl<A> InductionNet<A> {
    /// Class vectors `[t, n, d]` of the transformed support `[t, s, d]`, and the last weights `[t, 1, n, s]`.
    fn route<L: Primitives>(
        &self,
        support: Tensor<L, 3>,
        tasks: &TaskBatch<L>,
    ) -> (Tensor<L, 3>, Tensor<L, 4>) {
        let ([t, s, _], n) = (support.dims(), tasks.shape.way.0);
        let membership = distance::membership(tasks.support.targets.labels(), n, &support);
        let other = membership.swap_dims(1, 2).equal_elem(0.0);
        let other = other.reshape([t, 1, n, s]);
        let weights = |logits: Tensor<L, 3>| {
            let logits = self.settings.attention.scores(logits);
            soft(logits.reshape([t, 1, n, s]), Some(&other))
        };
        let class = |map: &Tensor<L, 4>| {
            let map = map.clone().reshape([t, n, s]);
            squash(map.product(support.clone()))
        };
        let mut logits = Tensor::<L, 3>::zeros([t, n, s], &support.device()).cast(support.dtype());
        let mut map = weights(logits.clone());
        for _ in 1..self.settings.iterations {
            logits = logits + class(&map).product(support.clone().swap_dims(1, 2));
            map = weights(logits.clone());
        }
        (class(&map), map)
    }
}

impl<A: Architecture> SinglePass for InductionNet<A> {
    type Model<L: Primitives> = InductionModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let (d, slices) = (self.architecture.width(), self.settings.slices);
        InductionModel {
            encoder: self.architecture.init(initializer, device),
            transform: Linear::glorot(d, d, initializer, device),
            relation: initializer.glorot([1, d, slices * d], d, d, device),
            output: Linear::glorot(slices, 1, initializer, device),
        }
    }

    crate::embeds_items_apart!();

    /// `W_r v + b_r`, before `σ`, `[t, q, n]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(&model.encoder, tasks, pass);
        let (classes, map) = self.route(squash(model.transform.forward(support)), tasks);
        pass.record("routing", MapAxis::Class, MapAxis::Support, &map);
        let ([t, n, d], q, slices) = (classes.dims(), query.dims()[1], self.settings.slices);
        let asked = linear(classes, model.relation.val()).reshape([t, n * slices, d]);
        let related = relu(query.product(asked.swap_dims(1, 2)));
        let scores = model.output.forward(related.reshape([t, q * n, slices]));
        scores.reshape([t, q, n])
    }

    fn losses<L: Primitives>(&self, output: Tensor<L, 3>, tasks: &TaskBatch<L>) -> Tensor<L, 1> {
        let [t, q, n] = output.dims();
        let truth = distance::membership(tasks.query.targets.labels(), n, &output);
        let error = activation::sigmoid(output) - truth;
        (error.clone() * error)
            .reshape([t, q * n])
            .mean_dim(1)
            .reshape([t])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{assert_close, learner, spec, tasks, values};
    use meta_core::backend::Cpu;

    /// By hand: (3, 4) has length 5, and 25/26 of it is left along (0.6, 0.8).
    #[test]
    fn squashed_vectors_are_shorter_than_one() {
        let x = Tensor::<Cpu, 3>::from_floats([[[3.0, 4.0], [0.0, 0.0]]], &Default::default());
        let expected = [0.6 * 25.0 / 26.0, 0.8 * 25.0 / 26.0, 0.0, 0.0];
        assert_close(&values(squash(x)), &expected, 1e-6);
    }

    /// Uniform weights are those of no routing; rounds move them; with one shot there is nothing to route.
    #[test]
    fn routing_moves_weights() {
        let map = |shot: usize, settings: serde_json::Value| {
            let spec = spec(3, shot);
            let learner = learner("induction_net", settings, &spec);
            let map = learner.explain(&tasks(&spec)).maps.remove(0).weights;
            assert_eq!(map.dims(), [2, 1, 3, 3 * shot]);
            values(map)
        };
        let uniform = map(2, json!({"attention": "uniform"}));
        assert!(uniform.iter().all(|&w| w == 0.0 || w == 0.5));
        assert_eq!(map(2, json!({"iterations": 1})), uniform);
        assert_ne!(map(2, json!({})), uniform);
        let single = map(1, json!({}));
        assert!(single.iter().all(|&w| w == 0.0 || w == 1.0));
    }
}
