//! Distributional signatures: attention over words from statistics of them, not from the words.
//!
//! Bao, Wu, Chang and Barzilay, *Few-shot text classification with distributional signatures*, ICLR 2020.
//!
//! Which words matter differs from class to class, but how it shows does not: rare words of the source pool
//! weigh more, and so do words that tell the classes of a task apart. With word vectors `x_i` that stay as they
//! are, `P` the share of a word in the source pool and `s(x_i) = ε / (ε + P(x_i))`:
//!
//! ```text
//! W = Xᵀ (X Xᵀ + I)⁻¹ Y           X: means of the words of each support text, Y: its one-hot label
//! t(x_i) = H(softmax(x_i W))⁻¹     H: entropy                                  (section 4.1, eq. 2)
//! h = BiLSTM([s(x_i), t(x_i)]),    α_i = softmax_i(v · h_i)                     (eq. 3)
//! φ(x) = Σ α_i x_i                                                               (section 4.2)
//! ŷ = a φ(x) R + b,                R = Φᵀ (Φ Φᵀ + s λ I)⁻¹ Y of the support     (eq. 4 and 5)
//! ```
//!
//! `v`, the LSTM, `λ`, `a` and `b` are learned, over all tasks; nothing of the words themselves is. Shapes: texts
//! `[t, b, l, d]`, statistics `[t, b·l, 2]`, weights `[t·b, 1, 1, l]`, scores `[t, q, n]`.
//!
//! `t` grows as there are fewer classes, so train with as many as are asked for: trained 20-way and asked 5-way, the
//! LSTM sees statistics that it never read, and the weights are worse than none.
//!
//! `s` comes with the tokens: `data.word_statistics = true` and `statistics = 1`. Without it `s = 1`. Queries do
//! not see each other: `W` and `R` are of the support.
//!
//! The weights multiply the rows of an item, times their number, before the encoder, so that `bag`, the mean of
//! rows, gives the `φ` of the paper; any other encoder reads rows that are weighted so. With
//! `attention = "uniform"` all rows have the same weight, with the same parameters.
//!
//! # Differences from the paper
//! * `λ` is relative to the number of support items; the authors' starts at 0.1 for all of them together. `a` starts
//!   at 10, theirs at 1.
//! * No dropout before `v`. Entropies below 0.001 count as that, so that `t` is finite.

use burn::{
    module::{Module, Param},
    tensor::{
        Tensor,
        activation::{log_softmax, softmax},
        backend::Backend,
    },
};
use meta_core::{
    Error, Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass,
        attention::{MapAxis, Weighting, soft},
        distance,
        encoder::{Architecture, Steps},
        init::{Initializer, constant},
        recurrent::BiLstm,
        solve::ridge_regression,
    },
    primitives::{MatrixProduct, Primitives, linear},
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

/// The smallest entropy that is told from others.
const LEAST_ENTROPY: f64 = 1e-3;

settings! {
    /// Settings of [`DistributionalSignatures`].
    pub struct DistributionalSignaturesSettings {
        /// 1 where the last number of each row of an item is `s`, the statistic of its word
        /// (`data.word_statistics`), else 0.
        statistics: usize = 0, between(0, 1);
        /// Width of the state of the LSTM that reads the statistics, in each direction.
        hidden: usize = 25, size(1);
        /// First value of `λ`.
        lambda: f64 = 0.01, above(0.0);
        /// First value of `a`.
        scale: f64 = 10.0, above(0.0);
        /// What words are weighted by: `softmax` (their statistics) or `uniform` (all alike; for comparison).
        attention: Weighting = Weighting::Softmax;
    }
}

impl LearnerSettings for DistributionalSignaturesSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "distributional_signatures",
        family: Family::Attention,
        summary: "weights words by what statistics say of them, then fits a ridge regression to the support",
        paper: "Bao et al., Few-shot text classification with distributional signatures, ICLR 2020",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_classification(Self::INFO.name, "signatures are of words in classes")?;
        let steps = Steps::of(spec.item);
        if steps.length < 2 {
            let expected = format!(
                "weighs the rows of an item, or the features of a vector, and items of {} have one",
                spec.item
            );
            return Err(Error::setting("learner.name", Self::INFO.name, expected));
        }
        if steps.features <= self.statistics {
            let expected = format!("leaves nothing of the rows of an item of {}", spec.item);
            return Err(Error::setting(
                "learner.statistics",
                self.statistics,
                expected,
            ));
        }
        Ok(())
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({"hidden": 2, "statistics": 0}),
            json!({"hidden": 2, "statistics": 1}),
            json!({"hidden": 2, "attention": "uniform"}),
        ])
    }

    fn toy() -> Toy {
        Toy {
            maps: 1,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = DistributionalSignatures {
            steps: Steps::of(new.spec.item),
            architecture: new.architecture,
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// An encoder, what reads the statistics, and the three learned numbers of the head.
#[derive(Module, Debug)]
pub struct SignatureModel<B: Backend, E> {
    encoder: E,
    reader: BiLstm<B>,
    /// `v`, `[1, 2h, 1]`.
    query: Param<Tensor<B, 3>>,
    /// `log λ`, `[1, 1, 1]`.
    log_lambda: Param<Tensor<B, 3>>,
    /// `a`, `[1, 1, 1]`.
    scale: Param<Tensor<B, 3>>,
    /// `b`, `[1, 1, 1]`.
    offset: Param<Tensor<B, 3>>,
}

/// How words are weighted and texts classified.
pub struct DistributionalSignatures<A> {
    settings: DistributionalSignaturesSettings,
    architecture: A,
    steps: Steps,
}

/// Items as rows of words.
struct Words<L: Primitives> {
    /// Word vectors, zeros where none is, `[t, b·l, d]`.
    vectors: Tensor<L, 3>,
    /// `s`, `[t, b·l, 1]`.
    share: Tensor<L, 3>,
    /// 1 where a word is, else 0, `[t, b·l, 1]`.
    there: Tensor<L, 3>,
}

impl<A> DistributionalSignatures<A> {
    /// What the rows of items `[t, b, f]` hold.
    fn words<L: Primitives>(&self, items: &Tensor<L, 3>) -> Words<L> {
        let rows = self.steps.rows(items.clone());
        let there = self.steps.there(items);
        let d = self.steps.features - self.settings.statistics;
        Words {
            share: match self.settings.statistics {
                0 => there.clone(),
                _ => rows.clone().narrow(2, d, 1),
            },
            vectors: rows.narrow(2, 0, d),
            there,
        }
    }

    /// The mean of the words of each of `b` items, `[t, b, d]`.
    fn means<L: Primitives>(&self, words: &Words<L>) -> Tensor<L, 3> {
        let [t, rows, d] = words.vectors.dims();
        let length = self.steps.length;
        let n = t * rows / length;
        let there = words.there.clone().reshape([n, 1, length]);
        let count = there.clone().sum_dim(2).clamp_min(1.0);
        let sums = there.product(words.vectors.clone().reshape([n, length, d]));
        (sums / count).reshape([t, rows / length, d])
    }

    /// `t` of words `[t, r, d]` by the support: `[t, r, 1]`.
    fn signature<L: Primitives>(&self, words: Tensor<L, 3>, tasks: &TaskBatch<L>) -> Tensor<L, 3> {
        let means = self.means(&self.words(&tasks.support.inputs));
        let labels = tasks.support.targets.labels();
        let targets = distance::membership(labels, tasks.shape.way.0, &means);
        let one = targets.clone().narrow(1, 0, 1).narrow(2, 0, 1).ones_like();
        let scores = words.product(ridge_regression(means, targets, one));
        let entropy = softmax(scores.clone(), 2) * log_softmax(scores, 2);
        let entropy = entropy.sum_dim(2).neg().clamp_min(LEAST_ENTROPY);
        entropy.powf_scalar(-1.0)
    }
}

impl<A: Architecture> DistributionalSignatures<A> {
    /// Items `[t, b, f]` with their rows weighted, and the weights `[t·b, 1, 1, l]`.
    fn weighted<L: Primitives>(
        &self,
        model: &SignatureModel<L, A::Model<L>>,
        items: Tensor<L, 3>,
        tasks: &TaskBatch<L>,
    ) -> (Tensor<L, 3>, Tensor<L, 4>) {
        let [t, b, f] = items.dims();
        let Steps {
            length, features, ..
        } = self.steps;
        let words = self.words(&items);
        let signature = self.signature(words.vectors.clone(), tasks);
        let read = Tensor::cat(vec![words.share, signature], 2);
        let reading = self.steps.reading(&items, true);
        let (forwards, backwards) = model.reader.forward(read, &reading);
        let states = Tensor::cat(vec![forwards, backwards], 2);
        let scores = linear(states, model.query.val()).reshape([t * b, 1, 1, length]);
        let hidden = self.steps.padding(&items);
        let map = soft(self.settings.attention.scores(scores), Some(&hidden));
        let count = words.there.reshape([t * b, length]).sum_dim(1);
        let weights = map.clone().reshape([t * b, length]) * count;
        let rows = words
            .vectors
            .reshape([t * b * length, features - self.settings.statistics]);
        let rows = rows * weights.reshape([t * b * length, 1]);
        let rows = match self.settings.statistics {
            0 => rows,
            // The statistic is no part of what is classified.
            _ => {
                let nothing = rows.clone().narrow(1, 0, 1).zeros_like();
                Tensor::cat(vec![rows, nothing], 1)
            }
        };
        (rows.reshape([t, b, f]), map)
    }
}

impl<A: Architecture> SinglePass for DistributionalSignatures<A> {
    type Model<L: Primitives> = SignatureModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let hidden = self.settings.hidden;
        let number = |value: f64| constant(value, [1, 1, 1], device);
        SignatureModel {
            encoder: self.architecture.init(initializer, device),
            reader: BiLstm::new(2, hidden, initializer, device),
            query: initializer.glorot([1, 2 * hidden, 1], 2 * hidden, 1, device),
            log_lambda: number(self.settings.lambda.ln()),
            scale: number(self.settings.scale),
            offset: number(0.0),
        }
    }

    /// `ŷ`, `[t, q, n]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let mut weighted = tasks.clone();
        let (support, of_support) = self.weighted(model, tasks.support.inputs.clone(), tasks);
        let (query, of_queries) = self.weighted(model, tasks.query.inputs.clone(), tasks);
        weighted.support.inputs = support;
        weighted.query.inputs = query;
        let t = tasks.tasks();
        let by_task = |map: Tensor<L, 4>| {
            let [n, _, _, length] = map.dims();
            map.reshape([t, n / t, 1, length])
        };
        let maps = Tensor::cat(vec![by_task(of_support), by_task(of_queries)], 1);
        let [_, items, _, length] = maps.dims();
        let maps = maps.reshape([t * items, 1, 1, length]);
        let axis = MapAxis::Other("text");
        pass.record("signatures", axis, self.steps.axis(), &maps);

        let (support, query) = embed_together(&model.encoder, &weighted, pass);
        let labels = tasks.support.targets.labels();
        let targets = distance::membership(labels, tasks.shape.way.0, &support);
        let penalty = model.log_lambda.val().exp();
        let penalty = penalty.mul_scalar(support.dims()[1] as f64);
        let fitted = query.product(ridge_regression(support, targets, penalty));
        fitted * model.scale.val() + model.offset.val()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, assert_close, learner, refusal, spec, tasks, values};
    use meta_core::{backend::Cpu, data::ItemShape, nn::encoder::EncoderSpec, rng::Seed};

    type B = Cpu;

    /// Texts of three words of a number and a statistic each.
    fn texts() -> TaskSpec {
        TaskSpec {
            item: ItemShape {
                height: 3,
                width: 1,
                channels: 2,
            },
            ..spec(3, 2)
        }
    }

    fn of_texts(settings: serde_json::Value) -> Box<dyn Learner<B>> {
        let bag = EncoderSpec::new("bag", &json!({}), texts().item).expect("bag");
        let name = "distributional_signatures";
        crate::build(name, &settings, bag, &texts(), Seed(1), &Default::default()).expect("texts")
    }

    /// The statistic moves the weights, and is not classified by.
    #[test]
    fn statistics_move_the_weights_alone() {
        let plain = tasks(&spec(3, 2));
        let mut changed = plain.clone();
        let [t, q, f] = plain.query.inputs.dims();
        let rows = plain.query.inputs.clone().reshape([t, q, f / 2, 2]);
        let moved = Tensor::cat(
            vec![
                rows.clone().narrow(3, 0, 1),
                rows.narrow(3, 1, 1).mul_scalar(2.0),
            ],
            3,
        );
        changed.query.inputs = moved.reshape([t, q, f]);
        let answer = |settings, tasks: &TaskBatch<B>| {
            values(
                of_texts(settings)
                    .predict(tasks, PredictAt::LastStep)
                    .remove(0),
            )
        };
        let softmax = json!({"statistics": 1});
        assert_ne!(answer(softmax.clone(), &plain), answer(softmax, &changed));
        let uniform = json!({"statistics": 1, "attention": "uniform"});
        assert_close(
            &answer(uniform.clone(), &plain),
            &answer(uniform, &changed),
            1e-5,
        );
    }

    #[test]
    fn one_map_of_all_texts() {
        let spec = spec(3, 2);
        let learner = learner("distributional_signatures", json!({}), &spec);
        let map = learner.explain(&tasks(&spec)).maps.remove(0);
        // 6 support items and 6 queries of two tasks; the features of a vector are its words.
        assert_eq!(map.weights.dims(), [24, 1, 1, 6]);
    }

    #[test]
    fn something_must_be_left_of_a_word() {
        let name = "distributional_signatures";
        let message = refusal(name, json!({"statistics": 1}), &spec(3, 1));
        assert!(message.contains("`learner.statistics = 1`"), "{message}");
    }
}
