//! Meta-attention: how to attend is what is learned to learn.
//!
//! Gradient adaptation restricted to the parameters of an attention, as ANIL (Raghu, Raghu, Bengio and
//! Vinyals, *Rapid learning or feature reuse?*, ICLR 2020) restricts it to the head: the encoder is
//! meta-learned and the same for all tasks, the projections of an attention over the support adapt to
//! each of them.
//!
//! With an encoder `φ` and projections `ω = (W_Q, W_K, W_V, W_O)` of a multi-head attention:
//!
//! ```text
//! f_ω(x) = φ(x) + W_O-projected read of φ(x) over φ(x₁) … φ(x_s)      (the support)
//! c_n(ω) = mean over the support of class n of f_ω
//! p(y = n | x) = softmax_n(−‖f_ω(x) − c_n(ω)‖² / τ)                   regression: W f_ω(x) + b
//! ωⁱ⁺¹ = ωⁱ − α ∇_ω L_s(ωⁱ),   ω⁰ = ω
//! meta-gradient = ∇_(φ, ω) mean over tasks of L_q(ωᴷ)
//! ```
//!
//! The attention is a read-out of its own, after any encoder. Support items read the support, too,
//! themselves included; with one shot the step on `L_s` says which features set the task's classes
//! apart. `W_O` is zero at the start: `f_ω = φ`, a prototypical network. The meta-gradient is exact.
//!
//! With `attention = "uniform"` every item reads the mean of the support, which moves all of them
//! alike: in classification no distance changes, and the learner is a prototypical network.
//!
//! # Differences from the paper
//! * This combination is our own; the inner loop and its defaults are those of ANIL. That what adapts is
//!   less than the network, and the head may be fixed, follows Oh, Yoo, Kim and Yun, *BOIL: Towards
//!   representation change for few-shot learning*, ICLR 2021.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use meta_core::{
    Result,
    data::Task,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Steps, Toy,
        inner_loop::{InnerLoop, InnerOptimizer, Order},
        partial::{Embeddings, Partial, PartialLearner},
    },
    nn::{
        Pass,
        attention::{MapAxis, MultiHeadAttention, MultiHeadSettings, Weighting, check_heads},
        distance,
        encoder::Architecture,
        init::{Initializer, constant},
        linear::Linear,
    },
    optim::OptimizerKind,
    params::Params,
    primitives::Primitives,
    settings,
    task::{TargetBatch, TaskSpec},
};
use serde_json::json;

/// Path of `ω`: what adapts.
const ATTENTION: &str = "attention";

settings! {
    /// Settings of meta-attention.
    pub struct MetaAttentionSettings {
        /// `α`.
        inner_lr: f64 = 0.1, above(0.0);
        /// Inner steps `K` of the attention in training.
        inner_steps: usize = 1, size(1);
        /// Inner steps of the attention at validation and test.
        test_steps: usize = 1, size(1);
        /// Attention heads; must divide the width of the embedding.
        heads: usize = 1, size(0);
        /// `τ`, by which distances are divided.
        temperature: f64 = 4.0, above(0.0);
        /// What an item reads the support by: `softmax` (attention) or `uniform` (the mean; for
        /// comparison).
        attention: Weighting = Weighting::Softmax;
        /// Order of the meta-gradient: `second` (exact) or `first` (past the inner gradients).
        #[added("0.2")]
        order: Order = Order::Second;
        /// Whether the graph of only one inner step is held at a time: less memory, more time, the
        /// same gradient.
        #[added("0.2")]
        checkpoint_inner_steps: bool = false;
    }
}

impl LearnerSettings for MetaAttentionSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "meta_attention",
        family: Family::Attention,
        summary: "only the projections of an attention over the support adapt by gradient",
        paper: "our own combination; inner loop of Raghu et al., Rapid learning or feature reuse?, ICLR 2020",
        regression: true,
        any_way: true,
    };

    fn check<A: Architecture>(&self, architecture: &A, _spec: &TaskSpec) -> Result<()> {
        let width = architecture.width();
        let what = "the width of the embedding";
        check_heads("learner.heads", self.heads, what, width)
    }

    fn steps(&self) -> Steps {
        self.inner_loop().cost()
    }

    fn gradient_of() -> GradientOf {
        let steps = |steps: usize, attention: &str| json!({"inner_steps": steps, "test_steps": steps, "attention": attention});
        GradientOf::Queries(vec![
            steps(1, "softmax"),
            steps(3, "softmax"),
            steps(1, "uniform"),
        ])
    }

    fn toy() -> Toy {
        Toy {
            maps: 1,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = MetaAttention {
            outputs: match new.spec.task {
                Task::Regression { outputs } => Some(outputs),
                _ => None,
            },
            settings: self,
        };
        PartialLearner::boxed(rule, new)
    }
}

/// What stands after the encoder.
#[derive(Module, Debug)]
struct Readout<B: Backend> {
    /// `W`, `b`, in regression.
    head: Option<Linear<B>>,
    /// `ω`.
    attention: MultiHeadAttention<B>,
}

impl<B: Primitives> Readout<B> {
    /// `f_ω` of items `[t, b, d]`, and what each attended to, `[t, heads, b, s]`.
    fn read(&self, items: Tensor<B, 3>, support: &Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let (memory, pass) = (support.clone(), Pass::evaluation());
        let (read, map) = self.attention.attend(items.clone(), memory, 1, None, &pass);
        (items + read, map)
    }
}

impl MetaAttentionSettings {
    fn inner_loop(&self) -> InnerLoop {
        InnerLoop {
            steps: self.inner_steps,
            test_steps: self.test_steps,
            checkpoint: self.checkpoint_inner_steps,
        }
    }
}

/// How meta-attention adapts.
struct MetaAttention {
    settings: MetaAttentionSettings,
    /// Regression outputs; none in classification.
    outputs: Option<usize>,
}

impl Partial for MetaAttention {
    const PATH: &str = "readout";

    type Readout<L: Primitives> = Readout<L>;

    fn init<L: Primitives>(
        &self,
        width: usize,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Readout<L> {
        let head = self
            .outputs
            .map(|outputs| Linear::glorot(width, outputs, initializer, device));
        let settings = MultiHeadSettings {
            weighting: self.settings.attention,
            ..MultiHeadSettings::of_width(width, self.settings.heads)
        };
        let mut attention = MultiHeadAttention::with(settings, initializer, device)
            .expect("checked with the settings");
        attention.output = Linear {
            weight: constant(0.0, [1, width, width], device),
            bias: constant(0.0, [1, 1, width], device),
        };
        Readout { head, attention }
    }

    fn inner_loop(&self) -> InnerLoop {
        self.settings.inner_loop()
    }

    fn order(&self) -> Order {
        self.settings.order
    }

    fn optimizer(&self) -> InnerOptimizer {
        InnerOptimizer::new(OptimizerKind::Sgd, self.settings.inner_lr, 0.0)
    }

    /// `ω⁰ = ω` of every task.
    fn start<L: Primitives>(
        &self,
        shared: &Params<L>,
        tasks: usize,
        _device: &L::Device,
    ) -> Params<L> {
        let omega = shared.under(ATTENTION).fan_out(tasks);
        omega.with_prefix(ATTENTION)
    }

    fn place<L: Primitives>(&self, shared: Params<L>, adapted: &Params<L>) -> Params<L> {
        shared.outside(ATTENTION).join(adapted.clone())
    }

    fn forward<L: Primitives>(
        &self,
        readout: &Readout<L>,
        _adapted: &Params<L>,
        items: Tensor<L, 3>,
        support: Embeddings<'_, L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let embedded = &support.items.inputs;
        let (items, map) = readout.read(items, embedded);
        pass.record("support", MapAxis::Query, MapAxis::Support, &map);
        match (&readout.head, &support.items.targets) {
            (None, TargetBatch::Classes(labels)) => {
                let (support_items, _) = readout.read(embedded.clone(), embedded);
                let means = distance::class_means(support_items, labels.clone(), support.way);
                distance::squared_distances(items, means)
                    .mul_scalar(-1.0 / self.settings.temperature)
            }
            (head, _) => head.as_ref().expect("regression has a head").forward(items),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{assert_close, learner, refusal, regression, spec, tasks, values};
    use meta_core::backend::Cpu;
    use meta_core::{learner::PredictAt, nn::loss, rng::Seed};

    type B = Cpu;

    /// A learner whose attention says something.
    fn attending(settings: serde_json::Value, spec: &TaskSpec) -> Box<dyn Learner<B>> {
        let mut learner = learner("meta_attention", settings, spec);
        let parameters = learner.parameters();
        let mut output = Params::default();
        for projection in ["value", "output"] {
            let name = format!("readout.attention.{projection}.weight");
            let drawn = Initializer::seeded(Seed(9)).glorot([1, 7, 7], 7, 7, &Default::default());
            output.push(name, drawn.val());
        }
        learner.set_parameters(parameters.overwrite(output));
        learner
    }

    /// Before the first step `W_O` is zero: a prototypical network, with distances over `τ`.
    #[test]
    fn the_start_is_a_prototypical_network() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let own = learner("meta_attention", json!({"temperature": 1.0}), &spec);
        let base = learner("protonet", json!({}), &spec).predict(&tasks, PredictAt::LastStep);
        let answers = own.predict(&tasks, PredictAt::EveryStep);
        assert_close(&values(answers[0].clone()), &values(base[0].clone()), 1e-5);
        assert_ne!(values(answers[1].clone()), values(base[0].clone()));
    }

    /// The projections of the attention move, and nothing else: encoder and head have no copy for a
    /// task.
    #[test]
    fn only_the_attention_moves() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let learner = attending(json!({"test_steps": 2}), &spec);
        let before = learner.parameters().to_data();
        let shown = learner.explain(&tasks);
        let layers: Vec<&str> = shown
            .movement
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let projections = ["query", "key", "value", "output"];
        assert_eq!(layers, projections.map(|name| format!("attention.{name}")));
        for (layer, distances) in &shown.movement {
            assert_eq!(distances.len(), 2, "{layer}");
            let all = distances.iter().cloned().flat_map(values);
            assert!(all.into_iter().all(|distance| distance > 0.0), "{layer}");
        }
        assert_eq!(learner.parameters().to_data(), before);
    }

    /// The mean of the support moves every item alike: no distance changes.
    #[test]
    fn uniform_weights_are_a_prototypical_network() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let settings = json!({"attention": "uniform", "temperature": 1.0});
        let uniform = attending(settings, &spec);
        let base = learner("protonet", json!({}), &spec).predict(&tasks, PredictAt::LastStep);
        for answer in uniform.predict(&tasks, PredictAt::EveryStep) {
            assert_close(&values(answer), &values(base[0].clone()), 1e-4);
        }
        let softmax = attending(json!({"temperature": 1.0}), &spec);
        assert_eq!(
            softmax.parameters().to_data(),
            uniform.parameters().to_data()
        );
    }

    /// In regression the head is fixed, and a step lowers the loss on the support.
    #[test]
    fn a_step_fits_the_support() {
        let (spec, tasks) = regression();
        let tasks = crate::toy::support_as_queries(tasks);
        let learner = attending(json!({"test_steps": 10, "inner_lr": 0.05}), &spec);
        let answers = learner.predict(&tasks, PredictAt::EveryStep);
        let error = |answer: &Tensor<B, 3>| {
            values(loss::loss(answer.clone(), &tasks.query.targets).mean())[0]
        };
        assert!(error(&answers[10]) < error(&answers[0]));
    }

    #[test]
    fn heads_must_divide_the_width_of_the_embedding() {
        let message = refusal("meta_attention", json!({"heads": 2}), &spec(3, 1));
        assert!(message.contains("width of the embedding = 7"), "{message}");
    }
}
