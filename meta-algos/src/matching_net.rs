//! Matching networks: attention over the support.
//!
//! Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra, *Matching networks for one shot learning*,
//! NIPS 2016.
//!
//! With an embedding `φ`, a query's class probabilities are the labels of the support, read by an
//! attention over it:
//!
//! ```text
//! a(x, xᵢ) = softmaxᵢ(τ cos(φ(x), φ(xᵢ)))             (section 2.1.1)
//! p(y = n | x) = Σ over the support of class n of a(x, xᵢ)     (eq. 1)
//! ```
//!
//! The class scores are `log p`.
//!
//! # Differences from the paper
//! * No full-context embeddings (section 2.1.2): support and queries share one encoder, and an
//!   item's embedding does not depend on the rest of the support.
//! * The paper's softmax has no temperature (`τ = 1`, the default), with which a confident prediction
//!   is out of reach for cosines; `temperature` can be raised.

use burn::tensor::{Tensor, activation::log_softmax};
use meta_core::{
    Result,
    compare::{Comparison, MetricLearner, embed_together},
    learner::{Family, GradientOf, Learner, LearnerInfo, LearnerSettings},
    nn::{Pass, encoder::Architecture, init::Initializer, metric},
    primitives::Primitives,
    rng::Seed,
    settings::above_zero,
    task::{TaskBatch, TaskSpec},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Settings of matching networks; the defaults are the paper's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MatchingNetSettings {
    /// `τ`, which multiplies the cosines before the softmax, above 0.
    pub temperature: f64,
}

impl Default for MatchingNetSettings {
    fn default() -> Self {
        MatchingNetSettings { temperature: 1.0 }
    }
}

impl LearnerSettings for MatchingNetSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "matching_net",
        family: Family::Metric,
        summary: "reads the support's labels by cosine attention of the query over the support",
        paper: "Vinyals et al., Matching networks, NIPS 2016",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_classification(Self::INFO.name, "it reads labels")?;
        above_zero("learner.temperature", self.temperature)
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![json!({}), json!({"temperature": 8.0})])
    }

    fn build<A: Architecture, B: Primitives>(
        self,
        architecture: A,
        spec: &TaskSpec,
        seed: Seed,
        device: &B::Device,
    ) -> Result<Box<dyn Learner<B>>> {
        self.check(&architecture, spec)?;
        let comparison = MatchingNet {
            settings: self,
            architecture,
        };
        Ok(Box::new(MetricLearner::new(comparison, seed, device)))
    }
}

/// How a matching network compares.
pub struct MatchingNet<A> {
    settings: MatchingNetSettings,
    architecture: A,
}

impl<A: Architecture> Comparison for MatchingNet<A> {
    type Model<L: Primitives> = A::Model<L>;

    // The model is the encoder itself.
    const ENCODER: Option<&str> = None;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> A::Model<L> {
        self.architecture.init(initializer, device)
    }

    /// `log a(x, xᵢ)`, `[t, q, s]`.
    fn compare<L: Primitives>(
        &self,
        encoder: &A::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(encoder, tasks, pass);
        let cosines = metric::cosines(query, support);
        log_softmax(cosines.mul_scalar(self.settings.temperature), 2)
    }

    /// `log Σ over the support of class n of a(x, xᵢ)`, `[t, q, n]`.
    fn scores<L: Primitives>(&self, compared: Tensor<L, 3>, tasks: &TaskBatch<L>) -> Tensor<L, 3> {
        let [t, q, s] = compared.dims();
        let n = tasks.shape.way.0;
        let labels = tasks.support.targets.labels();
        let membership = metric::membership(labels, n, &compared).swap_dims(1, 2);
        // Items of other classes are put out of the sum by a logarithm far below any other.
        let elsewhere = membership.sub_scalar(1.0).mul_scalar(1e4);
        let of_class = compared.reshape([t, q, 1, s]) + elsewhere.reshape([t, 1, n, s]);
        let highest = of_class.clone().max_dim(3);
        let sum = (of_class - highest.clone()).exp().sum_dim(3);
        (sum.log() + highest).reshape([t, q, n])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Answers, assert_close, learner, spec, tasks, values};
    use meta_core::task::TargetBatch;

    /// The scores are log-probabilities, for any shot, and finite however sharp the softmax.
    #[test]
    fn scores_are_log_probabilities() {
        let spec = spec(3, 4);
        for temperature in [1.0, 1000.0] {
            let settings = json!({"temperature": temperature});
            let scores = learner("matching_net", settings, &spec)
                .predict(&tasks(&spec), Answers::EveryStep)
                .remove(0);
            let sums = values(scores.clone().exp().sum_dim(2));
            assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{sums:?}");
            assert!(values(scores).iter().all(|score| score.is_finite()));
        }
    }

    /// Two copies of every support item are no other information.
    #[test]
    fn a_support_twice_is_the_support() {
        let spec = spec(3, 2);
        let plain = tasks(&spec);
        let mut twice = plain.clone();
        let support = plain.support.inputs.clone();
        let labels = plain.support.targets.labels();
        twice.support.inputs = Tensor::cat(vec![support.clone(), support], 1);
        twice.support.targets = TargetBatch::Classes(Tensor::cat(vec![labels.clone(), labels], 1));
        let matching = learner("matching_net", json!({"temperature": 5.0}), &spec);
        let answer =
            |tasks: &TaskBatch<_>| values(matching.predict(tasks, Answers::EveryStep).remove(0));
        assert_close(&answer(&twice), &answer(&plain), 1e-5);
    }
}
