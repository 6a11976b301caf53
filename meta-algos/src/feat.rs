//! FEAT: prototypes adapted to each other by self-attention.
//!
//! Ye, Hu, Zhan and Sha, *Few-shot learning via embedding adaptation with set-to-set functions*, CVPR
//! 2020.
//!
//! The prototypes of a task attend to each other and are thereby adapted to the task; a query belongs
//! to the class whose adapted prototype is nearest:
//!
//! ```text
//! c_n = mean over the support of class n of φ(x)
//! {c'_n} = norm(c_n + attention({c_n}))                 (section 4.1, eq. 4 to 7)
//! p(y = n | x) = softmax_n(−‖φ(x) − c'_n‖² / τ)         (eq. 2)
//! ```
//!
//! `attention` is multi-head self-attention, without positions: the prototypes are a set. With
//! `attention = "uniform"` every prototype reads the mean of all.
//!
//! # Differences from the paper
//! * The auxiliary contrastive loss (eq. 9), the dropout and the pre-training of the encoder on all
//!   training classes are left out.
//! * The projections of the attention have biases; the authors' have none but for the last.
//! * Where the encoder is a plain one, `τ = 1` suits better than the paper's 64, which is for
//!   embeddings of width 640; set `temperature`.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass,
        attention::{MapAxis, MultiHeadSelfAttention, MultiHeadSettings, Weighting, check_heads},
        distance,
        encoder::{Architecture, FeatureAttention, Masked},
        init::Initializer,
        norm::{Norm, Statistics},
    },
    primitives::Primitives,
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of FEAT; the defaults are those of the authors' code for 5-way 1-shot tasks.
    pub struct FeatSettings {
        /// Attention heads; must divide the width of the embedding.
        heads: usize = 1, size(1);
        /// `τ`, by which distances are divided.
        temperature: f64 = 64.0, above(0.0);
        /// What a prototype reads the others by: `softmax` (attention) or `uniform` (their mean;
        /// for comparison).
        attention: Weighting = Weighting::Softmax;
        /// How the channels of the embeddings are weighted for a task, by its support: `none`,
        /// `soft` (gates) or `hard` (a choice).
        feature_attention: FeatureAttention = FeatureAttention::None;
    }
}

impl LearnerSettings for FeatSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "feat",
        family: Family::Metric,
        summary: "adapts prototypes to each other by self-attention; the nearest one wins",
        paper: "Ye et al., Embedding adaptation with set-to-set functions, CVPR 2020",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_classification(Self::INFO.name, "prototypes are of classes")?;
        let (width, what) = (architecture.width(), "the width of the embedding");
        check_heads("learner.heads", self.heads, what, width)
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({"temperature": 2.0}),
            json!({"temperature": 2.0, "attention": "uniform"}),
            json!({"temperature": 2.0, "feature_attention": "soft"}),
        ])
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"temperature": 1.0}),
            maps: 1,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = Feat {
            architecture: Masked::new(new.architecture, self.feature_attention),
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// An encoder and the set function on its prototypes.
#[derive(Module, Debug)]
pub struct FeatModel<B: Backend, E> {
    encoder: E,
    attention: MultiHeadSelfAttention<B>,
    norm: Norm<B>,
}

/// How FEAT compares.
pub struct Feat<A> {
    settings: FeatSettings,
    architecture: A,
}

impl<A: Architecture> SinglePass for Feat<A> {
    type Model<L: Primitives> = FeatModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let width = self.architecture.width();
        let attention = MultiHeadSettings {
            weighting: self.settings.attention,
            ..MultiHeadSettings::of_width(width, self.settings.heads)
        };
        FeatModel {
            encoder: self.architecture.init(initializer, device),
            attention: MultiHeadSelfAttention::with(attention, initializer, device)
                .expect("checked with the settings"),
            norm: Norm::new(width, Statistics::Layer, "norm", device),
        }
    }

    crate::embeds_items_apart!();

    /// Scores `−‖φ(x) − c'_n‖² / τ`, `[t, q, n]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(&model.encoder, tasks, pass);
        let n = tasks.shape.way.0;
        let prototypes = distance::class_means(support, tasks.support.targets.labels(), n);
        let (read, map) = model.attention.forward(prototypes.clone(), n);
        pass.record("prototypes", MapAxis::Class, MapAxis::Class, &map);
        let adapted = model.norm.forward(prototypes + read, n, pass);
        distance::squared_distances(query, adapted).mul_scalar(-1.0 / self.settings.temperature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, learner, refusal, spec, tasks, values};

    #[test]
    fn heads_must_divide_the_width_of_the_embedding() {
        let message = refusal("feat", json!({"heads": 2}), &spec(3, 1));
        assert!(message.contains("`learner.heads = 2`"), "{message}");
        assert!(message.contains("width of the embedding = 7"), "{message}");
    }

    /// Uniform weights change the answer and no parameter.
    #[test]
    fn uniform_weights_have_the_same_parameters() {
        let spec = spec(3, 1);
        let feat = |attention: &str| learner("feat", json!({"attention": attention}), &spec);
        let (softmax, uniform) = (feat("softmax"), feat("uniform"));
        assert_eq!(
            softmax.parameters().to_data(),
            uniform.parameters().to_data()
        );
        let answer = |learner: &dyn meta_core::learner::Learner<_>| {
            values(
                learner
                    .predict(&tasks(&spec), PredictAt::LastStep)
                    .remove(0),
            )
        };
        assert_ne!(answer(softmax.as_ref()), answer(uniform.as_ref()));
        let maps = uniform.explain(&tasks(&spec)).maps;
        let third = values(maps[0].weights.clone());
        assert!(third.iter().all(|weight| (weight - 1.0 / 3.0).abs() < 1e-6));
    }

    /// The prototypes see each other: another class in the task moves the scores of this one.
    #[test]
    fn classes_depend_on_each_other() {
        let spec = spec(3, 1);
        let (plain, mut changed) = (tasks(&spec), tasks(&spec));
        let inputs = changed.support.inputs.clone();
        changed.support.inputs = Tensor::cat(
            vec![inputs.clone().narrow(1, 0, 2), inputs.narrow(1, 2, 1).neg()],
            1,
        );
        let first = |name: &str, tasks: &TaskBatch<_>| {
            let scores = learner(name, json!({}), &spec)
                .predict(tasks, PredictAt::EveryStep)
                .remove(0);
            values(scores.narrow(2, 0, 1))
        };
        assert_ne!(first("feat", &plain), first("feat", &changed));
        assert_eq!(first("protonet", &plain), first("protonet", &changed));
    }
}
