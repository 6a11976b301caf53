//! In-context learning: a transformer reads the support as context, and no parameter moves.
//!
//! Garg, Tsipras, Liang and Valiant, *What can transformers learn in-context? A case study of simple
//! function classes*, NeurIPS 2022; Kirsch, Harrison, Sohl-Dickstein and Metz, *General-purpose
//! in-context learning by meta-learning transformers*, 2022; Müller, Hollmann, Pineda Arango, Grabocka
//! and Hutter, *Transformers can do Bayesian inference*, ICLR 2022 (prior-data fitted networks).
//!
//! Every item of a task is a token, and all of them pass through a transformer in which a token reads
//! the tokens of the support:
//!
//! ```text
//! sᵢ = W [φ(xᵢ) ; yᵢ ; 0] + b        a support item: its embedding and its label
//! q  = W [φ(x) ; 0 ; 1] + b          a query: its embedding, and that its label is unknown
//! z ← z + attention(z, {sᵢ}),  z ← z + f(z)      in every layer, of all tokens
//! answer = V norm(q)                  class scores, or values
//! ```
//!
//! `yᵢ` is one-hot in classification. What is learned is how to learn from the context, by the query
//! loss alone. A query is read by nothing, neither by the support nor by another query: any number of
//! queries can be asked, and none of them leaks.
//!
//! Tokens have no positions, so the support is a set: its order is no information. The learner is not
//! equivariant to the names of the classes: a class is a unit of the input and one of the output, each
//! with its own weights, and the way is that of training. That a name means nothing is learned from
//! tasks that name their classes at random.
//!
//! # Differences from the papers
//! * Garg et al. and Kirsch et al. read a sequence causally, and train on the prediction at each of its
//!   prefixes; here the support is read as a set, as by Müller et al., and has the shot of the task.
//!   Their sequences alternate inputs and outputs, or shift the labels by one; here an item and its
//!   label are one token, as by Müller et al. (section 3).
//! * Müller et al. predict a density over bins in regression, here it is a value with a squared error.
//! * The defaults are the sizes of Garg et al. (appendix A.1); blocks are those of
//!   [`meta_core::nn::attention::Block`], with a ReLU. No dropout, no curriculum.

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
        attention::{Block, MapAxis, MultiHeadSettings, Weighting, check_heads},
        encoder::Architecture,
        init::Initializer,
        linear::Linear,
        norm::{Norm, Statistics},
    },
    primitives::Primitives,
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of in-context learning; the defaults are those of Garg et al.
    pub struct InContextSettings {
        /// Blocks of the transformer.
        layers: usize = 12, size(1);
        /// Width of a token.
        width: usize = 256, size(1);
        /// Attention heads; must divide `width`.
        heads: usize = 8, size(1);
        /// Hidden units of the feed-forward part of a block.
        hidden: usize = 1024, size(1);
        /// Weights of a read: `softmax` of the scores, or `uniform` (the mean of the support).
        attention: Weighting = Weighting::Softmax;
    }
}

impl LearnerSettings for InContextSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "in_context",
        family: Family::InContext,
        summary: "a transformer reads the support as context and answers without a gradient step",
        paper: "Garg et al., What can transformers learn in-context?, NeurIPS 2022",
        regression: true,
        any_way: false,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_one_way(Self::INFO.name)?;
        check_heads("learner.heads", self.heads, "learner.width", self.width)
    }

    fn gradient_of() -> GradientOf {
        let small = json!({"layers": 2, "width": 4, "heads": 2, "hidden": 5});
        let uniform =
            json!({"layers": 1, "width": 4, "heads": 1, "hidden": 3, "attention": "uniform"});
        GradientOf::Queries(vec![small, uniform])
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"layers": 2, "width": 32, "heads": 4, "hidden": 64}),
            iterations: 1200,
            maps: 2,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = InContext {
            outputs: new.spec.outputs(),
            architecture: new.architecture,
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// An encoder, and a transformer on its items.
#[derive(Module, Debug)]
pub struct InContextModel<B: Backend, E> {
    encoder: E,
    /// `W`, `b`.
    token: Linear<B>,
    blocks: Vec<Block<B>>,
    norm: Norm<B>,
    /// `V`.
    head: Linear<B>,
}

/// How a transformer answers from the context.
pub struct InContext<A> {
    settings: InContextSettings,
    architecture: A,
    /// Classes, or values of an answer.
    outputs: usize,
}

impl<A: Architecture> SinglePass for InContext<A> {
    type Model<L: Primitives> = InContextModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let InContextSettings {
            layers,
            width,
            heads,
            hidden,
            attention,
        } = self.settings;
        let attention = MultiHeadSettings {
            weighting: attention,
            ..MultiHeadSettings::of_width(width, heads)
        };
        let encoder = self.architecture.init(initializer, device);
        let features = self.architecture.width() + self.outputs + 1;
        let token = Linear::glorot(features, width, initializer, device);
        let mut block = |_| {
            Block::with(attention, hidden, initializer, device)
                .unwrap_or_else(|error| panic!("checked settings: {error}"))
        };
        InContextModel {
            encoder,
            token,
            blocks: (0..layers).map(&mut block).collect(),
            norm: Norm::new(width, Statistics::Layer, "norm", device),
            head: Linear::glorot(width, self.outputs, initializer, device),
        }
    }

    /// Class scores or values, `[t, q, outputs]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(&model.encoder, tasks, pass);
        let ([t, s, _], [_, q, _]) = (support.dims(), query.dims());
        let labels = tasks.support.targets.encoded(self.outputs, &support);
        let constant = |items, width, value: f64| {
            Tensor::<L, 3>::full([t, items, width], value, &support.device()).cast(support.dtype())
        };
        let known = Tensor::cat(vec![support.clone(), labels, constant(s, 1, 0.0)], 2);
        let unknown = vec![query, constant(q, self.outputs, 0.0), constant(q, 1, 1.0)];
        let items = Tensor::cat(vec![known, Tensor::cat(unknown, 2)], 1);
        let mut tokens = model.token.forward(items);
        for (layer, block) in model.blocks.iter().enumerate() {
            // All tokens read those of the support alone: the mask of a query is not to be there.
            let context = tokens.clone().narrow(1, 0, s);
            let (next, map) = block.attend(tokens, context, 1, pass);
            let map = map.narrow(2, s, q);
            pass.record(
                &format!("layer {layer}"),
                MapAxis::Query,
                MapAxis::Support,
                &map,
            );
            tokens = next;
        }
        let answers = model.norm.forward(tokens.narrow(1, s, q), q, pass);
        model.head.forward(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, assert_close, learner, refusal, spec, tasks, values};
    use meta_core::task::TargetBatch;

    const SMALL: fn() -> serde_json::Value =
        || json!({"layers": 2, "width": 8, "heads": 2, "hidden": 9});

    #[test]
    fn heads_must_divide_the_width() {
        let message = refusal("in_context", json!({"width": 6, "heads": 4}), &spec(3, 1));
        assert!(message.contains("`learner.heads = 4`"), "{message}");
        assert!(message.contains("learner.width = 6"), "{message}");
    }

    /// The answer to a query is the same, whichever queries are asked beside it.
    #[test]
    fn queries_are_answered_one_by_one() {
        let spec = spec(3, 2);
        let all = tasks(&spec);
        let mut alone = all.clone();
        alone.query.inputs = all.query.inputs.clone().narrow(1, 4, 1);
        alone.query.targets = TargetBatch::Classes(all.query.targets.labels().narrow(1, 4, 1));
        let learner = learner("in_context", SMALL(), &spec);
        let answer = |tasks: &TaskBatch<_>| learner.predict(tasks, PredictAt::LastStep).remove(0);
        assert_close(
            &values(answer(&alone)),
            &values(answer(&all).narrow(1, 4, 1)),
            1e-5,
        );
    }

    /// The labels of the support are read: with other ones the answers are others.
    #[test]
    fn labels_are_part_of_the_context() {
        let spec = spec(3, 2);
        let plain = tasks(&spec);
        let mut renamed = plain.clone();
        let labels = plain.support.targets.labels();
        renamed.support.targets = TargetBatch::Classes(labels.neg().add_scalar(2));
        let learner = learner("in_context", SMALL(), &spec);
        let answer =
            |tasks: &TaskBatch<_>| values(learner.predict(tasks, PredictAt::LastStep).remove(0));
        assert_ne!(answer(&plain), answer(&renamed));
    }

    /// A map of every layer; with uniform weights every support item has its share.
    #[test]
    fn uniform_attention_reads_the_mean() {
        let spec = spec(3, 2);
        let mut settings = SMALL();
        settings["attention"] = json!("uniform");
        let maps = learner("in_context", settings, &spec)
            .explain(&tasks(&spec))
            .maps;
        assert_eq!(maps.len(), 2);
        for map in maps {
            assert_eq!(map.weights.dims(), [2, 2, 6, 6]);
            let weights = values(map.weights);
            assert_close(&weights, &vec![1.0 / 6.0; weights.len()], 1e-6);
        }
    }
}
