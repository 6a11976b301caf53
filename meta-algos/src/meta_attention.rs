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
use burn_autodiff::Autodiff;
use meta_core::{
    Result,
    adapt::{Embedded, predictions},
    data::Task,
    learner::{
        Answers, Explanation, Family, GradientOf, Learner, LearnerInfo, LearnerSettings,
        MetaGradient,
    },
    nn::{
        Axis, Pass,
        attention::{MultiHeadAttention, MultiHeadSettings, Weighting, check_heads},
        encoder::Architecture,
        init::{Initializer, constant},
        linear::Linear,
        loss, metric,
    },
    params::Params,
    primitives::Primitives,
    rng::Seed,
    settings::{above_zero, at_least_one},
    task::{ItemBatch, TargetBatch, TaskBatch, TaskSpec},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Path of `ω`: what adapts.
const ATTENTION: &str = "attention";

/// Settings of [`MetaAttention`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetaAttentionSettings {
    /// `α`, above 0.
    pub inner_lr: f64,
    /// Inner steps `K` of the attention in training, at least 1.
    pub inner_steps: usize,
    /// Inner steps of the attention at validation and test, at least 1.
    pub test_steps: usize,
    /// Attention heads; must divide the width of the embedding.
    pub heads: usize,
    /// `τ`, by which distances are divided, above 0.
    pub temperature: f64,
    /// What an item reads the support by: `softmax` (attention) or `uniform` (the mean; for
    /// comparison).
    pub attention: Weighting,
}

impl Default for MetaAttentionSettings {
    fn default() -> Self {
        MetaAttentionSettings {
            inner_lr: 0.1,
            inner_steps: 1,
            test_steps: 1,
            heads: 1,
            temperature: 4.0,
            attention: Weighting::Softmax,
        }
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
        above_zero("learner.inner_lr", self.inner_lr)?;
        at_least_one("learner.inner_steps", self.inner_steps)?;
        at_least_one("learner.test_steps", self.test_steps)?;
        let width = architecture.width();
        check_heads(
            "learner.heads",
            self.heads,
            "the width of the embedding",
            width,
        )?;
        above_zero("learner.temperature", self.temperature)
    }

    fn gradient_of() -> GradientOf {
        let steps = |steps: usize, attention: &str| json!({"inner_steps": steps, "test_steps": steps, "attention": attention});
        GradientOf::Queries(vec![
            steps(1, "softmax"),
            steps(3, "softmax"),
            steps(1, "uniform"),
        ])
    }

    fn build<A: Architecture, B: Primitives>(
        self,
        architecture: A,
        spec: &TaskSpec,
        seed: Seed,
        device: &B::Device,
    ) -> Result<Box<dyn Learner<B>>> {
        self.check(&architecture, spec)?;
        let mut learner = MetaAttention::<A, B> {
            settings: self,
            architecture,
            outputs: match spec.task {
                Task::Classification => None,
                Task::Regression { outputs } => Some(outputs),
            },
            device: device.clone(),
            parameters: Params::default(),
        };
        let model = learner.init::<B>(&mut Initializer::seeded(seed));
        learner.parameters = Params::of(&model);
        Ok(Box::new(learner))
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
    /// Predictions for items `[t, b, d]` from the embedded support, `[t, b, n]`, and what each item
    /// attended to, `[t, heads, b, s]`.
    fn forward(
        &self,
        items: Tensor<B, 3>,
        support: &ItemBatch<B>,
        (way, temperature): (usize, f64),
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let pass = Pass::evaluation();
        let read = |items: Tensor<B, 3>| {
            let memory = support.inputs.clone();
            let (read, map) = self.attention.attend(items.clone(), memory, 1, None, &pass);
            (items + read, map)
        };
        let (items, map) = read(items);
        let predictions = match (&self.head, &support.targets) {
            (None, TargetBatch::Classes(labels)) => {
                let (support, _) = read(support.inputs.clone());
                let means = metric::class_means(support, labels.clone(), way);
                metric::squared_distances(items, means).div_scalar(-temperature)
            }
            (head, _) => head.as_ref().expect("regression has a head").forward(items),
        };
        (predictions, map)
    }
}

/// The encoder and what stands after it.
#[derive(Module, Debug)]
struct Model<B: Backend, E> {
    encoder: E,
    readout: Readout<B>,
}

/// Meta-attention on the backend `B`.
pub struct MetaAttention<A: Architecture, B: Primitives> {
    settings: MetaAttentionSettings,
    architecture: A,
    /// Regression outputs; none in classification.
    outputs: Option<usize>,
    device: B::Device,
    /// `φ`, head and `ω`, each `[1, …]`.
    parameters: Params<B>,
}

impl<A: Architecture, B: Primitives> MetaAttention<A, B> {
    fn init<L: Primitives<Device = B::Device>>(
        &self,
        initializer: &mut Initializer,
    ) -> Model<L, A::Model<L>> {
        let (width, device) = (self.architecture.width(), &self.device);
        let encoder = self.architecture.init(initializer, device);
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
        Model {
            encoder,
            readout: Readout { head, attention },
        }
    }

    /// The model on a level, with `parameters` in place.
    fn model<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
    ) -> Model<L, A::Model<L>> {
        parameters.write_into(self.init(&mut Initializer::zeros()))
    }

    /// The read-out on a level, with the fixed part `shared` and `ω` of each task.
    fn readout<L: Primitives<Device = B::Device>>(
        &self,
        shared: Params<L>,
        attention: Params<L>,
    ) -> Readout<L> {
        shared
            .outside(ATTENTION)
            .join(attention.with_prefix(ATTENTION))
            .write_into(self.init(&mut Initializer::zeros()).readout)
    }

    /// `ω ← ω − α ∇_ω Σ_tasks L_s(ω)`, on the embedded support; differentiable in everything on an
    /// autodiff level.
    fn inner_step<L: Primitives<Device = B::Device>>(
        &self,
        attention: Params<L>,
        shared: &Params<L>,
        support: &ItemBatch<L>,
        way: usize,
    ) -> Params<L> {
        let MetaAttentionSettings {
            inner_lr,
            temperature,
            ..
        } = self.settings;
        let fast = attention.clone().lift::<Autodiff<L>>();
        let support = support.lift();
        let readout = self.readout(shared.clone().lift_constant(), fast.clone());
        let items = support.inputs.clone();
        let (predictions, _) = readout.forward(items, &support, (way, temperature));
        let loss = loss::loss(predictions, &support.targets).sum();
        let gradients = fast.gradients(&loss.backward());
        attention.zip(&gradients, |omega, g| L::descend(omega, g, inner_lr))
    }

    /// The tasks as the encoder in `parameters` sees them.
    fn embed<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
        tasks: &TaskBatch<L>,
        training: bool,
    ) -> Embedded<L> {
        let encoder = self.model(parameters).encoder;
        Embedded::new(&encoder, self.architecture.statistics(), tasks, training)
    }

    /// `ω⁰ … ωᴷ` at test, and the tasks as the encoder sees them.
    fn trajectory(&self, tasks: &TaskBatch<B>) -> (Vec<Params<B>>, Embedded<B>) {
        let embedded = self.embed(self.parameters.clone(), tasks, false);
        let shared = self.parameters.under("readout");
        let start = shared.under(ATTENTION).fan_out(tasks.tasks());
        let way = tasks.shape.way.0;
        let states = predictions(
            Answers::EveryStep,
            start,
            self.settings.test_steps,
            |_, state| self.inner_step(state, &shared, &embedded.support, way),
            Params::clone,
        );
        (states, embedded)
    }

    /// Predictions for the queries at `ω`, and what each query attended to.
    fn answer(
        &self,
        attention: &Params<B>,
        embedded: &Embedded<B>,
        way: usize,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let readout = self.readout(self.parameters.under("readout"), attention.clone());
        let settings = (way, self.settings.temperature);
        readout.forward(embedded.query.clone(), &embedded.support, settings)
    }
}

impl<A: Architecture, B: Primitives> Learner<B> for MetaAttention<A, B> {
    fn parameters(&self) -> Params<B> {
        self.parameters.clone()
    }

    fn set_parameters(&mut self, parameters: Params<B>) {
        // Through a model, which checks names and shapes.
        self.parameters = Params::of(&self.model(parameters));
    }

    fn meta_gradient(&self, tasks: &TaskBatch<B>) -> MetaGradient<B> {
        let lifted = tasks.lift::<Autodiff<B>>();
        let leaves = self.parameters.clone().lift::<Autodiff<B>>();
        let embedded = self.embed(leaves.clone(), &lifted, true);
        let shared = leaves.under("readout");
        let way = tasks.shape.way.0;
        let start = shared.under(ATTENTION).fan_out(tasks.tasks());
        let attention = (0..self.settings.inner_steps).fold(start, |state, _| {
            self.inner_step(state, &shared, &embedded.support, way)
        });
        let settings = (way, self.settings.temperature);
        let (predictions, _) =
            self.readout(shared, attention)
                .forward(embedded.query, &embedded.support, settings);
        let targets = &lifted.query.targets;
        let losses = loss::loss(predictions.clone(), targets);
        let buffers = embedded.pass.statistics.take().with_prefix("encoder");
        MetaGradient::of(&leaves, losses, predictions, targets, buffers)
    }

    fn predict(&self, tasks: &TaskBatch<B>, answers: Answers) -> Vec<Tensor<B, 3>> {
        let (states, embedded) = self.trajectory(tasks);
        let first = match answers {
            Answers::EveryStep => 0,
            Answers::Last => states.len() - 1,
        };
        let way = tasks.shape.way.0;
        let answer = |state| self.answer(state, &embedded, way).0;
        states[first..].iter().map(answer).collect()
    }

    /// What queries attend to before the first step and after the last, and how far the projections
    /// move; nothing else does.
    fn explain(&self, tasks: &TaskBatch<B>) -> Explanation<B> {
        let (states, embedded) = self.trajectory(tasks);
        let way = tasks.shape.way.0;
        let answers = states
            .iter()
            .map(|state| self.answer(state, &embedded, way));
        let (predictions, maps): (Vec<_>, Vec<_>) = answers.unzip();
        let pass = Pass::evaluation().recording();
        for (name, map) in [("before", maps.first()), ("after", maps.last())] {
            let map = map.expect("a start");
            pass.record(
                &format!("support {name} adapting"),
                Axis::Query,
                Axis::Support,
                map,
            );
        }
        let mut movement: Vec<(String, Vec<Tensor<B, 1>>)> = Vec::new();
        for state in &states[1..] {
            for (index, (layer, distance)) in state.distances(&states[0]).into_iter().enumerate() {
                match movement.get_mut(index) {
                    Some((_, distances)) => distances.push(distance),
                    None => movement.push((format!("{ATTENTION}.{layer}"), vec![distance])),
                }
            }
        }
        Explanation {
            predictions,
            maps: pass.recorded(),
            movement,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{assert_close, learner, refusal, regression, spec, tasks, values};
    use meta_core::backend::Cpu;

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
        let base = learner("protonet", json!({}), &spec).predict(&tasks, Answers::Last);
        let answers = own.predict(&tasks, Answers::EveryStep);
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
        let base = learner("protonet", json!({}), &spec).predict(&tasks, Answers::Last);
        for answer in uniform.predict(&tasks, Answers::EveryStep) {
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
        let answers = learner.predict(&tasks, Answers::EveryStep);
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
