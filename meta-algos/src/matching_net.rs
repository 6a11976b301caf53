//! Matching networks: attention over the support.
//!
//! Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra, *Matching networks for one shot learning*,
//! NIPS 2016.
//!
//! With an embedding `f` of queries and `g` of support items, the answer to a query is what the support
//! says, read by an attention over it:
//!
//! ```text
//! a(x, xᵢ) = softmaxᵢ(τ cos(f(x), g(xᵢ)))             (section 2.1.1)
//! p(y = n | x) = Σ over the support of class n of a(x, xᵢ)     (eq. 1)
//! ```
//!
//! The class scores are `log p`; in regression the answer is `Σᵢ a(x, xᵢ) yᵢ`.
//!
//! Without context, `f = g = φ`, the encoder. With full context (section 2.1.2, appendix A), a support
//! item is embedded with the others in view, and a query with the support, which it reads `K` times:
//!
//! ```text
//! g(xᵢ) = h→ᵢ + h←ᵢ + φ(xᵢ),   h→, h← a bidirectional LSTM over φ(x₁) … φ(x_s)
//! ĥₖ, cₖ = LSTM([φ(x), rₖ₋₁], hₖ₋₁, cₖ₋₁),   hₖ = ĥₖ + φ(x)      (eq. 3 and 4)
//! rₖ₋₁ = Σᵢ softmaxᵢ(hₖ₋₁ · g(xᵢ)) g(xᵢ)                         (eq. 5 and 6)
//! f(x) = h_K
//! ```
//!
//! With `attention = "uniform"`, to compare with, nothing is weighted by content within a class: a class
//! is compared as the mean of its items, `log p(y = n | x) = log softmaxₙ(τ cos(f(x), mean of g over
//! class n))`, and every read of a full context is the mean of the support; in regression the answer
//! is the mean of the support's values. (Uniform weights over the whole support would tie all classes.)
//! At one shot and without context the two are the same.
//!
//! # Differences from the paper
//! * Support and queries share one encoder; so may the paper's.
//! * The paper's softmax has no temperature (`τ = 1`, the default), with which a confident prediction
//!   is out of reach for cosines; `temperature` can be raised.
//! * The LSTM over the support reads it in the order of the batch, class by class; the paper's order
//!   is random. Before the first read `h₀`, `r₀` and `c₀` are zeros.
//! * The paper does not give `K`; and it has no regression.

use burn::{
    module::Module,
    tensor::{
        Tensor,
        activation::{log_softmax, softmax},
        backend::Backend,
    },
};
use meta_core::{
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass,
        attention::{MapAxis, Weighting},
        distance,
        encoder::{Architecture, FeatureAttention, Masked},
        init::Initializer,
        recurrent::{BiLstm, LstmCell, LstmState, Reading},
    },
    primitives::{MatrixProduct, Primitives},
    settings,
    task::{TargetBatch, TaskBatch},
};
use serde_json::json;

settings! {
    /// Settings of matching networks; the defaults are the paper's.
    pub struct MatchingNetSettings {
        /// `τ`, which multiplies the cosines before the softmax.
        temperature: f64 = 1.0, above(0.0);
        /// Whether items are embedded with the support in view (full-context embeddings).
        full_context: bool = false;
        /// How often a query reads the support before it is compared, `K`; with `full_context`.
        reads: usize = 5, size(1);
        /// What the support is read by: `softmax` (attention) or `uniform` (means; for comparison).
        attention: Weighting = Weighting::Softmax;
        /// How the channels of the embeddings are weighted for a task, by its support: `none`,
        /// `soft` (gates) or `hard` (a choice).
        feature_attention: FeatureAttention = FeatureAttention::None;
    }
}

impl LearnerSettings for MatchingNetSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "matching_net",
        family: Family::Metric,
        summary: "reads the support's targets by cosine attention of the query over the support",
        paper: "Vinyals et al., Matching networks, NIPS 2016",
        regression: true,
        any_way: true,
    };

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({}),
            json!({"temperature": 8.0}),
            json!({"full_context": true, "reads": 2}),
            json!({"full_context": true, "reads": 2, "attention": "uniform"}),
            json!({"temperature": 8.0, "feature_attention": "soft"}),
        ])
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"temperature": 10.0}),
            maps: 1,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = MatchingNet {
            architecture: Masked::new(new.architecture, self.feature_attention),
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// An encoder, and what sees the support as a whole.
#[derive(Module, Debug)]
pub struct MatchingModel<B: Backend, E> {
    encoder: E,
    context: Option<Context<B>>,
}

/// The two functions that embed items with the support in view.
#[derive(Module, Debug)]
struct Context<B: Backend> {
    /// Over the support, for `g`.
    support: BiLstm<B>,
    /// Over the reads, for `f`: sees `[φ(x), r]`.
    query: LstmCell<B>,
}

impl<B: Primitives> Context<B> {
    /// `g`: `φ(xᵢ) [t, s, d]` to `[t, s, d]`.
    fn support(&self, embedded: Tensor<B, 3>) -> Tensor<B, 3> {
        let reading = Reading::of(embedded.dims()[1]);
        let (forwards, backwards) = self.support.forward(embedded.clone(), &reading);
        forwards + backwards + embedded
    }

    /// `f`: `φ(x) [t, q, d]` and `g(xᵢ) [t, s, d]` to `[t, q, d]`.
    fn query(
        &self,
        embedded: Tensor<B, 3>,
        support: Tensor<B, 3>,
        reads: usize,
        attention: Weighting,
    ) -> Tensor<B, 3> {
        let [t, q, d] = embedded.dims();
        let mut state = LstmState::zeros(t, q, d, &embedded.device());
        let mut read = state.hidden();
        // `φ(x)` is added to the hidden state, nothing to the cell.
        let added = LstmState::new(embedded.clone(), read.clone()).both;
        for _ in 0..reads {
            let seen = Tensor::cat(vec![embedded.clone(), read], 2);
            state = self.query.forward(seen, state);
            state.both = state.both + added.clone();
            let scores = state.hidden().product(support.clone().swap_dims(1, 2));
            read = softmax(attention.scores(scores), 2).product(support.clone());
        }
        state.hidden()
    }
}

/// How a matching network compares.
pub struct MatchingNet<A> {
    settings: MatchingNetSettings,
    architecture: A,
}

impl<A> MatchingNet<A> {
    /// `log softmax(τ cos)` of queries `[t, q, d]` over what they are compared with, `[t, m, d]`:
    /// `[t, q, m]`.
    fn logarithms<L: Primitives>(&self, query: Tensor<L, 3>, with: Tensor<L, 3>) -> Tensor<L, 3> {
        let cosines = distance::cosines(query, with);
        log_softmax(cosines.mul_scalar(self.settings.temperature), 2)
    }

    /// The weights `[t, q, s]` that share the probability of a class, compared as the mean of its
    /// items, equally among them; in regression the whole support equally.
    fn by_class<L: Primitives>(
        &self,
        query: Tensor<L, 3>,
        support: Tensor<L, 3>,
        tasks: &TaskBatch<L>,
    ) -> Tensor<L, 3> {
        let ([t, q, _], [_, s, _]) = (query.dims(), support.dims());
        let TargetBatch::Classes(labels) = &tasks.support.targets else {
            let nothing = query.zeros_like().narrow(2, 0, 1).expand([t, q, s]);
            return nothing.sub_scalar((s as f64).ln());
        };
        let n = tasks.shape.way.0;
        let means = distance::class_means(support.clone(), labels.clone(), n);
        let of_item = distance::membership(labels.clone(), n, &support).swap_dims(1, 2);
        let counts = of_item.clone().sum_dim(2).swap_dims(1, 2);
        self.logarithms(query, means).product(of_item.clone()) - counts.product(of_item).log()
    }
}

impl<A: Architecture> SinglePass for MatchingNet<A> {
    type Model<L: Primitives> = MatchingModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let d = self.architecture.width();
        let encoder = self.architecture.init(initializer, device);
        let context = || Context {
            support: BiLstm::new(d, d, initializer, device),
            query: LstmCell::new(2 * d, d, initializer, device),
        };
        MatchingModel {
            encoder,
            context: self.settings.full_context.then(context),
        }
    }

    crate::embeds_items_apart!();

    /// `log a(x, xᵢ)`, `[t, q, s]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(&model.encoder, tasks, pass);
        let (support, query) = match &model.context {
            Some(context) => {
                let support = context.support(support);
                let MatchingNetSettings {
                    reads, attention, ..
                } = self.settings;
                let query = context.query(query, support.clone(), reads, attention);
                (support, query)
            }
            None => (support, query),
        };
        let logarithms = match self.settings.attention {
            Weighting::Softmax => self.logarithms(query, support),
            Weighting::Uniform => self.by_class(query, support, tasks),
        };
        let map = logarithms.clone().exp().unsqueeze_dim(1);
        pass.record("support", MapAxis::Query, MapAxis::Support, &map);
        logarithms
    }

    /// `log Σ over the support of class n of a(x, xᵢ)`, `[t, q, n]`; in regression `Σᵢ a(x, xᵢ) yᵢ`.
    fn predictions<L: Primitives>(
        &self,
        output: Tensor<L, 3>,
        tasks: &TaskBatch<L>,
    ) -> Tensor<L, 3> {
        let labels = match &tasks.support.targets {
            TargetBatch::Values(values) => return output.exp().product(values.clone()),
            TargetBatch::Classes(labels) => labels.clone(),
            TargetBatch::Sequences(_) => unreachable!("sequences are refused"),
        };
        let [t, q, s] = output.dims();
        let n = tasks.shape.way.0;
        let membership = distance::membership(labels, n, &output).swap_dims(1, 2);
        // Items of other classes are put out of the sum by a logarithm far below any other.
        let elsewhere = membership.sub_scalar(1.0).mul_scalar(1e4);
        let of_class = output.reshape([t, q, 1, s]) + elsewhere.reshape([t, 1, n, s]);
        let highest = of_class.clone().max_dim(3);
        let sum = (of_class - highest.clone()).exp().sum_dim(3);
        (sum.log() + highest).reshape([t, q, n])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, assert_close, learner, spec, tasks, values};
    use meta_core::task::TaskSpec;
    use meta_core::{data::Task, params::Params};

    /// The scores are log-probabilities, for any shot, and finite however sharp the softmax.
    #[test]
    fn scores_are_log_probabilities() {
        let spec = spec(3, 4);
        for temperature in [1.0, 1000.0] {
            let settings = json!({"temperature": temperature});
            let scores = learner("matching_net", settings, &spec)
                .predict(&tasks(&spec), PredictAt::EveryStep)
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
            |tasks: &TaskBatch<_>| values(matching.predict(tasks, PredictAt::EveryStep).remove(0));
        assert_close(&answer(&twice), &answer(&plain), 1e-5);
    }

    /// At one shot and without context a class is its item, whatever the weights within it; with more
    /// shots, or reads of the support, attention says something.
    #[test]
    fn uniform_weights_are_those_within_a_class() {
        let answer = |shot: usize, full_context: bool, attention: &str| {
            let spec = spec(3, shot);
            let settings = json!({
                "temperature": 5.0, "full_context": full_context, "attention": attention
            });
            let learner = learner("matching_net", settings, &spec);
            let scores = learner
                .predict(&tasks(&spec), PredictAt::LastStep)
                .remove(0);
            let sums = values(scores.clone().exp().sum_dim(2));
            assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{sums:?}");
            values(scores)
        };
        let one = answer(1, false, "softmax");
        assert_close(&answer(1, false, "uniform"), &one, 1e-5);
        for (shot, full_context) in [(3, false), (1, true)] {
            assert_ne!(
                answer(shot, full_context, "uniform"),
                answer(shot, full_context, "softmax")
            );
        }
    }

    /// With full context a support item is embedded with the others in view, a query with all of them,
    /// once more with every read.
    #[test]
    fn full_context_sees_the_support() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let answer = |settings| {
            let learner = learner("matching_net", settings, &spec);
            values(learner.predict(&tasks, PredictAt::LastStep).remove(0))
        };
        let once = answer(json!({"full_context": true, "reads": 1}));
        assert_ne!(once, answer(json!({})));
        assert_ne!(once, answer(json!({"full_context": true, "reads": 2})));
    }

    /// Where the LSTMs say nothing, their gates' weights being zero, the embeddings are those of the
    /// encoder.
    #[test]
    fn a_silent_context_is_none() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let plain = learner("matching_net", json!({}), &spec);
        let mut silent = learner("matching_net", json!({"full_context": true}), &spec);
        let parameters = silent.parameters();
        let context = parameters
            .under("context")
            .scale(0.0)
            .with_prefix("context");
        let encoder: Params<_> = plain.parameters();
        silent.set_parameters(parameters.overwrite(context).overwrite(encoder));
        let answer = |learner: &dyn Learner<_>| {
            values(learner.predict(&tasks, PredictAt::LastStep).remove(0))
        };
        assert_close(&answer(silent.as_ref()), &answer(plain.as_ref()), 1e-6);
    }

    /// A regression answer is a mean of the support's values, so within their range.
    #[test]
    fn regression_reads_values() {
        let spec = TaskSpec {
            task: Task::Regression { outputs: 1 },
            ..spec(3, 2)
        };
        let mut tasks = tasks(&super::tests::spec(3, 2));
        let values_of = tasks.support.targets.labels().float().unsqueeze_dim::<3>(2);
        tasks.support.targets = TargetBatch::Values(values_of);
        let matching = learner("matching_net", json!({"temperature": 3.0}), &spec);
        let answers = values(matching.predict(&tasks, PredictAt::LastStep).remove(0));
        assert_eq!(answers.len(), 12);
        assert!(
            answers.iter().all(|answer| (0.0..=2.0).contains(answer)),
            "{answers:?}"
        );
    }
}
