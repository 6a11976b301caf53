//! SNAIL: temporal convolutions bring the recent past, causal attention any of it.
//!
//! Mishra, Rohaninejad, Chen and Abbeel, *A simple neural attentive meta-learner*, ICLR 2018.
//!
//! A task is a sequence: the items of the support, each with its label, and at last a query without
//! one. A network of two kinds of block reads it, in which a step sees itself and what came before:
//!
//! ```text
//! x_i = [φ(item i) ; y_i],   y = 0 for the query
//! dense block     [x ; tanh(f(x)) ⊙ σ(g(x))],  f, g causal convolutions, dilation r      (fig. 2a)
//! TC block        dense blocks of r = 1, 2, 4, …, until the last step sees the first     (fig. 2b)
//! attention block [x ; Σ_{j ≤ i} softmax_j(k(x_j) · q(x_i) / √d_k) v(x_j)]               (fig. 2c)
//! answer = W · attention ∘ TC ∘ attention ∘ TC ∘ attention (x), at the last step
//! ```
//!
//! (section 3, and the architecture of section 5.1: keys of widths 64, 256 and 512, values of widths
//! 32, 128 and 256, 128 filters.)
//!
//! All queries of a task share one pass over its support: each is an end of its own
//! ([`Timeline`]), sees the support and itself, and no other query. The order of the support is that of
//! [`SupportOrder`]: it mixes the classes, and is a function of the set.
//!
//! Classes are units of input and output; that their names mean nothing is learned from tasks that name
//! them at random.
//!
//! # Differences from the paper
//! * Dilations start at 1; the paper's pseudocode starts at 2, where a step never sees its neighbour.
//! * The encoder is that of the manifest; the paper's ends in 64 features.
//! * The paper has no regression in the supervised setting; here the label is then the value.

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
        support_order::SupportOrder,
    },
    nn::{
        Pass,
        attention::{MapAxis, Weighting},
        encoder::Architecture,
        init::Initializer,
        linear::Linear,
        past::AttentionBlock,
        temporal::{TcBlock, Timeline},
    },
    primitives::Primitives,
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of SNAIL; the defaults are the paper's.
    pub struct SnailSettings {
        /// Widths of the keys `d_k` of the three attention blocks.
        keys: [usize; 3] = [64, 256, 512], size(1);
        /// Widths of the values of the three attention blocks.
        values: [usize; 3] = [32, 128, 256], size(1);
        /// Channels that a dense block adds.
        filters: usize = 128, size(1);
        /// Weights of a read: `softmax` of the scores, or `uniform` (the mean of the past).
        attention: Weighting = Weighting::Softmax;
    }
}

impl LearnerSettings for SnailSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "snail",
        family: Family::Memory,
        summary: "temporal convolutions and causal attention read the support, the query at its end",
        paper: "Mishra et al., A simple neural attentive meta-learner, ICLR 2018",
        regression: true,
        any_way: false,
    };

    /// A query reads itself in the column of its place, so the order of its sums follows the place.
    const QUERIES_ALONE: bool = true;

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_one_way(Self::INFO.name)
    }

    fn gradient_of() -> GradientOf {
        let small = json!({"keys": [2, 3, 4], "values": [2, 2, 3], "filters": 2});
        let mut uniform = small.clone();
        uniform["attention"] = json!("uniform");
        GradientOf::Queries(vec![small, uniform])
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"keys": [16, 16, 16], "values": [16, 16, 16], "filters": 16}),
            iterations: 500,
            maps: 3,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = Snail {
            outputs: new.spec.outputs(),
            steps: new.spec.train.support_items() + 1,
            architecture: new.architecture,
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// An encoder, attention, and two TC blocks each with attention after it.
#[derive(Module, Debug)]
pub struct SnailModel<B: Backend, E> {
    encoder: E,
    attention: Vec<AttentionBlock<B>>,
    temporal: Vec<TcBlock<B>>,
    head: Linear<B>,
}

/// How SNAIL answers.
pub struct Snail<A> {
    settings: SnailSettings,
    architecture: A,
    /// Classes, or values of an answer.
    outputs: usize,
    /// Steps of a training task, the query included.
    steps: usize,
}

impl<A: Architecture> SinglePass for Snail<A> {
    type Model<L: Primitives> = SnailModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let SnailSettings {
            keys,
            values,
            filters,
            ..
        } = self.settings;
        let encoder = self.architecture.init(initializer, device);
        let mut width = self.architecture.width() + self.outputs;
        let (mut attention, mut temporal) = (Vec::new(), Vec::new());
        for (block, widths) in keys.into_iter().zip(values).enumerate() {
            if block > 0 {
                temporal.push(TcBlock::new(
                    width,
                    filters,
                    self.steps,
                    initializer,
                    device,
                ));
                width = TcBlock::<L>::width(width, filters, self.steps);
            }
            let (keys, values) = widths;
            attention.push(AttentionBlock::new(
                width,
                [keys, values],
                initializer,
                device,
            ));
            width += values;
        }
        SnailModel {
            encoder,
            attention,
            temporal,
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
        let none = Tensor::<L, 3>::zeros([t, q, self.outputs], &support.device());
        let known = Tensor::cat(vec![support, labels], 2);
        let known = SupportOrder::of(&tasks.support).present(known);
        let mut x = Tensor::cat(vec![known, Tensor::cat(vec![query, none], 2)], 1);

        let timeline = Timeline { length: s, ends: q };
        let hidden = timeline.hidden(&x.device());
        for (block, attention) in model.attention.iter().enumerate() {
            if block > 0 {
                x = model.temporal[block - 1].forward(x, timeline);
            }
            let (next, map) = attention.forward(x, self.settings.attention, &hidden);
            let map = map.narrow(2, s, q);
            let name = format!("attention {block}");
            pass.record(&name, MapAxis::Query, MapAxis::Other("step"), &map);
            x = next;
        }
        model.head.forward(x.narrow(1, s, q))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, assert_close, learner, refusal, spec, tasks, values};
    use meta_core::task::TargetBatch;

    fn small() -> serde_json::Value {
        json!({"keys": [2, 3, 4], "values": [3, 4, 5], "filters": 3})
    }

    #[test]
    fn widths_are_refused_by_name() {
        let message = refusal("snail", json!({"values": [3, 0, 4]}), &spec(3, 1));
        assert!(message.contains("`learner.values = 0`"), "{message}");
    }

    /// The answer to a query is that of a sequence that ends in it alone.
    #[test]
    fn queries_are_ends_of_their_own() {
        let spec = spec(3, 2);
        let all = tasks(&spec);
        let mut alone = all.clone();
        alone.query.inputs = all.query.inputs.clone().narrow(1, 4, 1);
        alone.query.targets = TargetBatch::Classes(all.query.targets.labels().narrow(1, 4, 1));
        let learner = learner("snail", small(), &spec);
        let answer = |tasks: &TaskBatch<_>| learner.predict(tasks, PredictAt::LastStep).remove(0);
        assert_close(
            &values(answer(&alone)),
            &values(answer(&all).narrow(1, 4, 1)),
            1e-5,
        );
    }

    /// A query reads the steps of the support and itself, no other query.
    #[test]
    fn attention_is_causal() {
        let spec = spec(3, 2);
        let mut settings = small();
        settings["attention"] = json!("uniform");
        let maps = learner("snail", settings, &spec)
            .explain(&tasks(&spec))
            .maps;
        assert_eq!(maps.len(), 3);
        for map in maps {
            assert_eq!(map.weights.dims(), [2, 1, 6, 12]);
            for (row, weights) in values(map.weights).chunks(12).enumerate() {
                for (column, &weight) in weights.iter().enumerate() {
                    let seen = column < 6 || column == 6 + row % 6;
                    let expected = if seen { 1.0 / 7.0 } else { 0.0 };
                    assert!(
                        (weight - expected).abs() < 1e-6,
                        "{row}, {column}: {weight}"
                    );
                }
            }
        }
    }

    /// A support of another shot than in training has another length; the parameters are the same.
    #[test]
    fn the_shot_may_differ_at_test() {
        let train = spec(3, 2);
        let learner = learner("snail", small(), &train);
        let answer = learner
            .predict(&tasks(&spec(3, 5)), PredictAt::LastStep)
            .remove(0);
        assert_eq!(answer.dims(), [2, 6, 3]);
    }
}
