//! Siamese networks: same or different?
//!
//! Koch, Zemel and Salakhutdinov, *Siamese neural networks for one-shot image recognition*, ICML deep
//! learning workshop 2015.
//!
//! Two items pass the same embedding `φ`; a weighted L1 distance says whether they are of one class:
//!
//! ```text
//! z(x, x') = b + Σ_j α_j |φ_j(x) − φ_j(x')|,   p = σ(z)        (section 3.1)
//! L = −1[same] log p − 1[different] log(1 − p)                  (section 3.2)
//! ```
//!
//! A query belongs to the class whose support is most likely the same: the class score is the mean
//! of `z` over the support of the class.
//!
//! # Differences from the paper
//! * Pairs come from the episode, every query with every support item; same and different pairs have
//!   equal weight in the loss, as the paper's sampling gives them equal numbers.
//! * The embedding is the encoder's, without the paper's sigmoid layer before the distance; `b` is
//!   ours, without which distances of 0 have `p = ½`.
//! * No layer-wise learning rates, momenta and weight penalties: the outer optimiser is the
//!   manifest's.
//! * With several shots, means over the support of a class; the paper has one shot.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use meta_core::{
    Error, Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass, activation, distance,
        encoder::{Architecture, FeatureAttention, Masked},
        init::Initializer,
        linear::Linear,
    },
    primitives::{MatrixProduct, Primitives},
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of siamese networks.
    pub struct SiameseSettings {
        /// How the channels of the embeddings are weighted for a task, by its support: `none`, `soft`
        /// (gates) or `hard` (a choice).
        feature_attention: FeatureAttention = FeatureAttention::None;
    }
}

impl LearnerSettings for SiameseSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "siamese",
        family: Family::Metric,
        summary: "learns whether two items are of one class, by a weighted L1 distance",
        paper: "Koch et al., Siamese neural networks for one-shot image recognition, 2015",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_classification(Self::INFO.name, "pairs are of one class or of two")?;
        if spec.train.way.0 < 2 {
            let expected = "must be at least 2: `siamese` learns from different pairs too";
            return Err(Error::setting("data.way", spec.train.way, expected));
        }
        Ok(())
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Training(
            "cross-entropy of pairs",
            vec![json!({}), json!({"feature_attention": "soft"})],
        )
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = Siamese {
            architecture: Masked::new(new.architecture, self.feature_attention),
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// An encoder and the weights of the distance.
#[derive(Module, Debug)]
pub struct SiameseModel<B: Backend, E> {
    encoder: E,
    /// `α`, `b`.
    distance: Linear<B>,
}

/// How a siamese network compares.
pub struct Siamese<A> {
    architecture: A,
}

impl<A: Architecture> SinglePass for Siamese<A> {
    type Model<L: Primitives> = SiameseModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        SiameseModel {
            encoder: self.architecture.init(initializer, device),
            distance: Linear::glorot(self.architecture.width(), 1, initializer, device),
        }
    }

    /// `z` of every query with every support item, `[t, q, s]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(&model.encoder, tasks, pass);
        let ([t, s, d], [_, q, _]) = (support.dims(), query.dims());
        let difference = query.reshape([t, q, 1, d]) - support.reshape([t, 1, s, d]);
        let distances = difference.abs().reshape([t, q * s, d]);
        model.distance.forward(distances).reshape([t, q, s])
    }

    fn predictions<L: Primitives>(
        &self,
        output: Tensor<L, 3>,
        tasks: &TaskBatch<L>,
    ) -> Tensor<L, 3> {
        let labels = tasks.support.targets.labels();
        let by_item = output.swap_dims(1, 2);
        distance::class_means(by_item, labels, tasks.shape.way.0).swap_dims(1, 2)
    }

    /// Cross-entropy of the pairs: the mean over same pairs and that over different ones, halved.
    fn losses<L: Primitives>(&self, output: Tensor<L, 3>, tasks: &TaskBatch<L>) -> Tensor<L, 1> {
        let [t, q, s] = output.dims();
        let way = tasks.shape.way.0;
        let member = |labels| distance::membership(labels, way, &output);
        let of_query = member(tasks.query.targets.labels());
        let of_support = member(tasks.support.targets.labels());
        let same = of_query.product(of_support.swap_dims(1, 2));
        let mean = |losses: Tensor<L, 3>, chosen: Tensor<L, 3>| {
            let sum = |x: Tensor<L, 3>| x.reshape([t, q * s]).sum_dim(1).reshape([t]);
            sum(losses * chosen.clone()) / sum(chosen)
        };
        let different = same.clone().neg().add_scalar(1.0);
        let of_same = mean(activation::softplus(output.clone().neg()), same);
        let of_different = mean(activation::softplus(output), different);
        (of_same + of_different).mul_scalar(0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{
        PredictAt, assert_close, encoder, learner, refusal, spec, support_as_queries, tasks, values,
    };
    use meta_core::{backend::Cpu, params::Params};

    /// An item is at distance 0 from itself: `z = b`, whatever the weights.
    #[test]
    fn an_item_with_itself_scores_the_bias() {
        let spec = spec(3, 1);
        let tasks = support_as_queries(tasks(&spec));
        let mut siamese = learner("siamese", json!({}), &spec);
        let mut bias = Params::default();
        bias.push(
            "distance.bias",
            Tensor::<Cpu, 3>::full([1, 1, 1], 0.7, &Default::default()),
        );
        siamese.set_parameters(siamese.parameters().overwrite(bias));
        let scores = values(siamese.predict(&tasks, PredictAt::EveryStep).remove(0));
        for task in scores.chunks(9) {
            assert_close(&[task[0], task[4], task[8]], &[0.7; 3], 1e-6);
        }
    }

    /// `z = 0` costs `ln 2`, whatever the numbers of same and different pairs.
    #[test]
    fn an_undecided_pair_costs_ln_2() {
        let spec = spec(3, 2);
        let rule = Siamese {
            architecture: encoder(),
        };
        let undecided = Tensor::<Cpu, 3>::zeros([2, 6, 6], &Default::default());
        let losses = values(rule.losses(undecided, &tasks(&spec)));
        assert_close(&losses, &[std::f32::consts::LN_2; 2], 1e-6);
    }

    #[test]
    fn one_class_is_refused() {
        let message = refusal("siamese", json!({}), &spec(1, 2));
        assert!(message.contains("data.way"), "{message}");
    }
}
