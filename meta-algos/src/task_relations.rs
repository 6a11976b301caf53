//! Task relations: a task reads what it is related to before it starts.
//!
//! After Yao, Wu, Tao, Li, Ding, Li and Li, *Automated relational meta-learning*, ICLR 2020 (a task
//! reads a graph of prototypes of earlier tasks, then modulates its initial parameters), and Yao, Wei,
//! Huang and Li, *Hierarchically structured meta-learning*, ICML 2019 (tasks are softly assigned to
//! clusters, whose knowledge tailors the initial parameters). Here attention relates them.
//!
//! A task's representation `r` is the mean over its support; it attends to a memory of `M` kinds of
//! earlier training tasks, and what it then is says where it starts:
//!
//! ```text
//! r = norm(mean over i of relu(U [φ_θ(xᵢ), yᵢ]))       yᵢ: the values, or the mean of the class of xᵢ
//! z = norm(r + multi-head attention of r over m₁ … m_M)
//! θ⁰ = θ ⊕ g(z),   θⁱ⁺¹ = θⁱ − α ∇L_s(θⁱ),  i = 0 … K − 1     (⊕: FiLM, layer by layer)
//! ```
//!
//! The memory is a buffer: parameters are learned by the meta-gradient, the memory by soft clustering
//! of the representations, with responsibilities `a` and a rate `η`,
//!
//! ```text
//! a_k = softmax_k(−‖r − m_k‖² / (2 √w)),   m_k ← m_k + η mean over tasks of a_k (r − m_k)
//! ```
//!
//! It is saved with the parameters. In the meta-gradient it is a constant.
//!
//! In classification the head of `θ⁰` is that of the class means at the modulated encoder; in regression
//! it is learned and modulated like any layer. `g` is zero at the start: the learner then is a
//! prototypical network (with `K` gradient steps), or MAML.
//!
//! # Which tasks are relatives
//! With `relatives = "memory"`, the default, a task sees the memory alone, in training as at test. So a
//! single test task works, an answer does not depend on which tasks share its batch, and neither the
//! batch nor the chunks in which gradients are accumulated change a meta-gradient. (The update of the
//! memory is a mean over tasks, which chunks leave as it is, too.)
//!
//! With `relatives = "batch"` a training task also attends to all tasks of its computation graph, itself
//! included, and gradients flow through them: self-attention across tasks. Their meta-gradient then is
//! that of the tasks together, and depends on the chunks (`train.task_chunk`). At test it is the memory
//! alone again.
//!
//! With `attention = "uniform"` every task reads the mean of its relatives.
//!
//! # Differences from the papers
//! * Yao et al. (2020) build a graph of prototypes within a task as well, and relate by graph
//!   convolution; their vertices are parameters, as are the cluster centres of Yao et al. (2019). Here
//!   the memory holds representations of training tasks, and nothing is reconstructed to learn them.
//! * Both modulate by a gate on the parameters; here by FiLM.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, activation::softmax, backend::Backend},
};
use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Steps, Toy,
        adapt::Adaptable,
        generated_start::GeneratedStart,
        inner_loop::{InnerLoop, InnerStep, Unrolled, UnrolledLearner},
    },
    nn::{
        Pass,
        attention::{MapAxis, MultiHeadAttention, MultiHeadSettings, Weighting, check_heads},
        distance,
        encoder::Architecture,
        init::Initializer,
        linear::Linear,
        modulation::{Modulation, Modulator},
        norm::{Norm, Statistics},
    },
    params::Params,
    primitives::{Primitives, mean_rows},
    rng::Seed,
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Prefix of the paths of what relates tasks.
const RELATIONS: &str = "relations";

/// What a training task attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relatives {
    /// The memory of training tasks.
    Memory,
    /// The memory and the tasks of its computation graph.
    Batch,
}

settings! {
    /// Settings of task relations.
    pub struct TaskRelationsSettings {
        /// What a training task attends to: `memory`, or `batch` (the memory and the other tasks of
        /// its meta-batch). At test it is the memory.
        relatives: Relatives = Relatives::Memory;
        /// Slots `M` of the memory.
        slots: usize = 16, size(1);
        /// `η`, how fast the memory follows, in (0, 1].
        memory_rate: f64 = 0.1, fraction();
        /// Width `w` of a task's representation.
        width: usize = 64, size(1);
        /// Attention heads; must divide the width.
        heads: usize = 4, size(0);
        /// Hidden width of the network that generates parameters.
        hidden: usize = 64, size(1);
        /// What a task reads its relatives by: `softmax` (attention) or `uniform` (the mean; for
        /// comparison).
        attention: Weighting = Weighting::Softmax;
        /// Inner steps `K` in training and at test; 0 for none.
        inner_steps: usize = 0, size(0);
        /// `α`.
        inner_lr: f64 = 0.01, above(0.0);
        /// Whether the graph of only one inner step is held at a time: less memory, more time, the
        /// same gradient.
        checkpoint_inner_steps: bool = false;
    }
}

impl LearnerSettings for TaskRelationsSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "task_relations",
        family: Family::Attention,
        summary: "a task attends to a memory of training tasks, which says where it starts",
        paper: "Yao et al., Automated relational meta-learning, ICLR 2020; Yao et al., Hierarchically structured meta-learning, ICML 2019",
        regression: true,
        any_way: true,
    };

    // `burn-tch` seems to write into the views that `swap_dims` and `permute` make.
    const WRONG_ON: &'static [&'static str] = &["tch"];

    fn check<A: Architecture>(&self, _architecture: &A, _spec: &TaskSpec) -> Result<()> {
        check_heads("learner.heads", self.heads, "learner.width", self.width)
    }

    fn steps(&self) -> Steps {
        self.inner_loop().cost()
    }

    fn gradient_of() -> GradientOf {
        let small = |attention: &str, inner_steps: usize| {
            json!({
                "slots": 3, "width": 4, "heads": 2, "hidden": 3, "attention": attention,
                "inner_steps": inner_steps, "inner_lr": 0.01
            })
        };
        GradientOf::Queries(vec![
            small("softmax", 0),
            small("softmax", 1),
            small("uniform", 0),
        ])
    }

    fn toy() -> Toy {
        Toy {
            maps: 1,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let network = new.network();
        let (start, theta) = GeneratedStart::new(&new, &network, self.inner_steps);
        let rule = TaskRelations {
            settings: self,
            start,
        };
        let own = Seed(new.seed.stream(RELATIONS, 0, "seed").next_u64());
        let relations = rule.relations::<B>(&mut Initializer::seeded(own), new.device);
        let parameters = theta.join(Params::of(&relations).with_prefix(RELATIONS));
        UnrolledLearner::boxed(rule, network, parameters)
    }
}

/// What relates tasks and generates parameters.
#[derive(Module, Debug)]
struct Relations<B: Backend> {
    token: Linear<B>,
    representation_norm: Norm<B>,
    /// `m`, `[1, M, w]`: a buffer.
    running_memory: Param<Tensor<B, 3>>,
    attention: MultiHeadAttention<B>,
    norm: Norm<B>,
    modulator: Modulator<B>,
}

impl<B: Primitives> Relations<B> {
    /// `r [t, 1, w]` from the tokens of the support, `[t, s, …]`.
    fn represent(&self, tokens: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let mean = mean_rows(self.token.forward_relu(tokens));
        self.representation_norm.forward(mean, 1, pass)
    }

    /// `z [t, 1, w]` from `r`.
    fn relate(&self, tasks: Tensor<B, 3>, relatives: Relatives, pass: &Pass<B>) -> Tensor<B, 3> {
        let [t, _, w] = tasks.dims();
        let memory = self.running_memory.val();
        let slots = memory.dims()[1];
        let together = relatives == Relatives::Batch && pass.mode.training;
        let relatives = if together {
            Tensor::cat(vec![memory, tasks.clone().reshape([1, t, w])], 1)
        } else {
            memory
        };
        let m = relatives.dims()[1];
        let relatives = relatives.expand([t, m, w]);
        let (read, map) = self
            .attention
            .attend(tasks.clone(), relatives, 1, None, pass);
        let heads = map.dims()[1];
        let rows = map.reshape([t, heads, m]).swap_dims(0, 1);
        let columns = if m == slots {
            "memory"
        } else {
            "memory and tasks"
        };
        pass.record(
            "relations",
            MapAxis::Task,
            MapAxis::Other(columns),
            &rows.reshape([1, heads, t, m]),
        );
        self.norm.forward(tasks + read, 1, pass)
    }

    /// The memory after these tasks have been seen, `[1, M, w]`.
    fn remember(&self, tasks: Tensor<B, 3>, rate: f64) -> Tensor<B, 3> {
        let [t, _, w] = tasks.dims();
        let memory = self.running_memory.val();
        let slots = memory.dims()[1];
        let memory = memory.expand([t, slots, w]);
        let distances = distance::squared_distances(tasks.clone(), memory.clone());
        let share = softmax(distances.mul_scalar(-0.5 / (w as f64).sqrt()), 2).swap_dims(1, 2);
        let step = (tasks - memory.clone()) * share;
        (memory + step.mul_scalar(rate)).mean_dim(0)
    }
}

impl TaskRelationsSettings {
    fn inner_loop(&self) -> InnerLoop {
        InnerLoop {
            steps: self.inner_steps,
            test_steps: self.inner_steps,
            checkpoint: self.checkpoint_inner_steps,
        }
    }
}

/// How task relations start and adapt; their parameters are `θ`, then the relations below their
/// prefix.
struct TaskRelations {
    settings: TaskRelationsSettings,
    start: GeneratedStart,
}

impl TaskRelations {
    fn relations<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Relations<L> {
        let settings = &self.settings;
        let w = settings.width;
        let attention = MultiHeadSettings {
            weighting: settings.attention,
            ..MultiHeadSettings::of_width(w, settings.heads)
        };
        let norm = || Norm::new(w, Statistics::Layer, "", device);
        Relations {
            token: Linear::he(self.start.token, w, initializer, device),
            representation_norm: norm(),
            running_memory: initializer.normal([1, settings.slots, w], 1.0, device),
            attention: MultiHeadAttention::with(attention, initializer, device)
                .expect("checked with the settings"),
            norm: norm(),
            modulator: Modulator::new(
                (Modulation::Film, 1),
                self.start.layers.clone(),
                [w, settings.hidden],
                initializer,
                device,
            ),
        }
    }
}

impl Unrolled for TaskRelations {
    fn inner_loop(&self) -> InnerLoop {
        self.settings.inner_loop()
    }

    /// `θ⁰`.
    fn start<A: Architecture, L: Primitives>(
        &self,
        network: &Adaptable<A, L::Device>,
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Params<L> {
        let theta = shared.outside(RELATIONS);
        let generate = |tokens, theta| {
            let skeleton = self.relations(&mut Initializer::zeros(), network.device());
            let relations = shared.under(RELATIONS).write_into(skeleton);
            let represented = relations.represent(tokens, pass);
            if pass.mode.training {
                let memory = relations.remember(represented.clone(), self.settings.memory_rate);
                let path = format!("{RELATIONS}.running_memory");
                pass.statistics.borrow_mut().push(path, memory);
            }
            let embedding = relations.relate(represented, self.settings.relatives, pass);
            relations.modulator.forward(embedding, theta)
        };
        self.start.start(network, theta, tasks, pass, generate)
    }

    /// `θ ← θ − α ∇ Σ_tasks L_s(θ)`.
    fn step<L: Primitives>(
        &self,
        _at: &InnerStep<L>,
        theta: Params<L>,
        gradients: &Params<L>,
        _shared: &Params<L>,
    ) -> Params<L> {
        let rate = self.settings.inner_lr;
        theta.zip(gradients, |theta, g| L::sgd_step(theta, g, rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, assert_close, learner, refusal, regression, spec, tasks, values};
    use meta_core::{backend::Cpu, learner::MetaGradient};

    type B = Cpu;

    const MEMORY: &str = "relations.running_memory";

    /// A learner that generates parameters.
    fn generating(settings: serde_json::Value, spec: &TaskSpec) -> Box<dyn Learner<B>> {
        let mut learner = learner("task_relations", settings, spec);
        let parameters = learner.parameters();
        let output = parameters.filter(|name| name.contains("modulator.output"));
        let moved = output.constants(0.05, <[usize]>::to_vec);
        learner.set_parameters(parameters.overwrite(moved));
        learner
    }

    fn answer(learner: &dyn Learner<B>, tasks: &TaskBatch<B>) -> Vec<f32> {
        values(learner.predict(tasks, PredictAt::LastStep).remove(0))
    }

    fn memory(params: &Params<B>) -> Vec<f32> {
        values(params.get::<3>(MEMORY).expect("a memory"))
    }

    /// One of the toy tasks alone.
    fn alone(tasks: &TaskBatch<B>, index: usize) -> TaskBatch<B> {
        let mut one = tasks.clone();
        for (items, all) in [
            (&mut one.support, &tasks.support),
            (&mut one.query, &tasks.query),
        ] {
            items.inputs = all.inputs.clone().narrow(0, index, 1);
            let labels = all.targets.labels().narrow(0, index, 1);
            items.targets = meta_core::task::TargetBatch::Classes(labels);
        }
        one.episodes = tasks.episodes[index..=index].into();
        one
    }

    /// At test a task reads the memory and nothing of the other tasks of its batch, whatever its
    /// relatives were in training.
    #[test]
    fn a_test_task_reads_the_memory_alone() {
        let spec = spec(3, 2);
        let both = tasks(&spec);
        for relatives in ["memory", "batch"] {
            let learner = generating(json!({"relatives": relatives, "slots": 5}), &spec);
            let map = learner.explain(&both).maps.remove(0);
            assert_eq!(map.weights.dims(), [1, 4, 2, 5]);
            assert_eq!(map.columns, MapAxis::Other("memory"));
            let together = answer(learner.as_ref(), &both);
            let (first, second) = together.split_at(together.len() / 2);
            assert_close(&answer(learner.as_ref(), &alone(&both, 0)), first, 1e-5);
            assert_close(&answer(learner.as_ref(), &alone(&both, 1)), second, 1e-5);
        }
    }

    /// What is remembered says where a task starts.
    #[test]
    fn the_memory_matters() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let mut learner = generating(json!({}), &spec);
        let before = answer(learner.as_ref(), &tasks);
        let parameters = learner.parameters();
        let mut moved = Params::default();
        moved.push(MEMORY, parameters.get::<3>(MEMORY).unwrap().neg());
        learner.set_parameters(parameters.overwrite(moved));
        assert_ne!(answer(learner.as_ref(), &tasks), before);
    }

    /// Learning moves every slot towards the tasks, deterministically, and chunks of tasks leave both
    /// the memory and the gradient as they are.
    #[test]
    fn chunks_change_neither_memory_nor_gradient() {
        let spec = spec(3, 2);
        let both = tasks(&spec);
        let learner = generating(json!({"memory_rate": 0.5}), &spec);
        let whole = learner.meta_gradient(&both);
        let chunked = MetaGradient::merge(
            learner.meta_gradient(&alone(&both, 0)),
            learner.meta_gradient(&alone(&both, 1)),
        );
        let (old, new) = (memory(&learner.parameters()), memory(&whole.buffers));
        assert_ne!(old, new);
        assert_close(&memory(&chunked.buffers), &new, 1e-5);
        let flat = |result: &MetaGradient<B>| values(result.gradients.flatten());
        // Of sums of up to a few hundred, in f32.
        assert_close(&flat(&chunked), &flat(&whole), 1e-3);
        assert_eq!(memory(&learner.meta_gradient(&both).buffers), new);
        // Saved with the parameters, given no gradient.
        assert!(!whole.gradients.names().any(|name| name == MEMORY));
        // With the other tasks among the relatives the gradient is another.
        let batch = generating(json!({"relatives": "batch"}), &spec);
        assert_ne!(flat(&batch.meta_gradient(&both)), flat(&whole));
    }

    /// With the memory at one point, more of the same tasks bring it to their mean.
    #[test]
    fn the_memory_goes_to_the_tasks() {
        let spec = spec(3, 2);
        let tasks = alone(&tasks(&spec), 0);
        let mut learner = generating(json!({"slots": 1, "memory_rate": 0.5}), &spec);
        let mut steps = Vec::new();
        for _ in 0..20 {
            let before = memory(&learner.parameters());
            let after = learner.meta_gradient(&tasks).buffers;
            let moved = memory(&after)
                .into_iter()
                .zip(before)
                .map(|(a, b)| (a - b).abs());
            steps.push(moved.sum::<f32>());
            learner.set_parameters(learner.parameters().overwrite(after));
        }
        assert!(steps[19] < 1e-4 * steps[0], "{steps:?}");
    }

    /// What generates is zero at the start: MAML with the same steps.
    #[test]
    fn the_start_is_maml_in_regression() {
        let (spec, tasks) = regression();
        let own = learner(
            "task_relations",
            json!({"inner_steps": 2, "inner_lr": 0.1}),
            &spec,
        );
        let settings = json!({"inner_steps": 2, "test_steps": 2, "inner_lr": 0.1});
        let maml = learner("maml", settings, &spec);
        assert_close(
            &answer(own.as_ref(), &tasks),
            &answer(maml.as_ref(), &tasks),
            1e-6,
        );
    }

    #[test]
    fn uniform_weights_read_the_mean_of_the_memory() {
        let spec = spec(3, 2);
        let learner = generating(json!({"attention": "uniform", "slots": 4}), &spec);
        let weights = values(learner.explain(&tasks(&spec)).maps.remove(0).weights);
        assert!(weights.iter().all(|weight| *weight == 0.25));
    }

    #[test]
    fn a_rate_above_one_is_refused() {
        let message = refusal("task_relations", json!({"memory_rate": 1.5}), &spec(3, 1));
        assert!(message.contains("`learner.memory_rate = 1.5`"), "{message}");
    }
}
