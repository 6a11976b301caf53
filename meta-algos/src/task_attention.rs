//! Task attention: attention over the support says with which parameters a task starts.
//!
//! The way of three papers, in one learner: Vuorio, Sun, Hu and Lim, *Multimodal model-agnostic
//! meta-learning via task-aware modulation*, NeurIPS 2019 (a task embedding modulates what MAML
//! starts from); Requeima, Gordon, Bronskill, Nowozin and Turner, *Fast and flexible multi-task
//! classification using conditional neural adaptive processes*, NeurIPS 2019 (feature-wise modulation
//! from a set encoding of the support, no gradient step); Rusu, Rao, Sygnowski, Vinyals, Pascanu,
//! Osindero and Hadsell, *Meta-learning with latent embedding optimization*, ICLR 2019 (parameters
//! generated in few dimensions).
//!
//! With an encoder `φ_θ`, `m` learned seeds `e` attend to the support; what they read is the embedding
//! `z` of the task, from which a network `g` generates its parameters:
//!
//! ```text
//! uᵢ = relu(U [φ_θ(xᵢ), yᵢ])        yᵢ: the values, or the mean embedding of the class of xᵢ
//! z = norm([read₁ … read_m]),       read_j = multi-head attention of e_j over u₁ … u_s
//! θ⁰ = θ ⊕ g(z)                     layer by layer: FiLM, or W + U_ℓ V(z) of low rank
//! θⁱ⁺¹ = θⁱ − α ∇L_s(θⁱ),           i = 0 … K − 1
//! meta-gradient = ∇_(θ, e, g) mean over tasks of L_q(θᴷ)
//! ```
//!
//! In classification the head of `θ⁰` is that of the class means at the modulated encoder, so that the
//! first scores are `−‖φ_θ⁰(x) − c_n‖²`; in regression it is learned and modulated like any layer. `g` is
//! zero at the start: the learner then is a prototypical network (with `K` gradient steps), or MAML.
//! `z` does not depend on the order of the support. The meta-gradient is exact.
//!
//! With `attention = "uniform"` every seed reads the mean of the support. With `descriptions = true`, `uᵢ` has the
//! vector of the class of `xᵢ`, too: what describes the task then says how it is learned.
//!
//! # Differences from the papers
//! * Vuorio et al. read the support with a recurrent network and modulate without an identity at the
//!   start; here attention reads it.
//! * Requeima et al. average over the support, with an encoder of its own, and keep a pre-trained
//!   network fixed; their head comes from a network on the class means, here it is that of the means.
//! * Rusu et al. draw the latent code and adapt it; here `V(z)` is generated, and `θ⁰` adapts.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use meta_core::{
    Error, Result,
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
    primitives::{MatrixProduct, Primitives, broadcast_rows},
    rng::Seed,
    settings,
    task::{TargetBatch, TaskBatch, TaskSpec},
};
use serde_json::json;

/// Prefix of the paths of what reads the support.
const READER: &str = "reader";

settings! {
    /// Settings of task attention.
    pub struct TaskAttentionSettings {
        /// How the task's parameters follow from the shared ones: `film` (outputs of layers scaled
        /// and shifted) or `low_rank` (a matrix of low rank added to each weight).
        modulation: Modulation = Modulation::Film;
        /// Rank of what is added to a weight; with `modulation = "low_rank"`.
        rank: usize = 4, size(1);
        /// Seeds `m` that read the support.
        seeds: usize = 4, size(1);
        /// Width of a seed and of a token.
        width: usize = 64, size(1);
        /// Attention heads; must divide the width.
        heads: usize = 4, size(0);
        /// Hidden width of the network that generates parameters.
        hidden: usize = 64, size(1);
        /// What the seeds read the support by: `softmax` (attention) or `uniform` (the mean; for
        /// comparison).
        attention: Weighting = Weighting::Softmax;
        /// Whether the vector that the source has for each class (`data.name_vectors`, `data.class_vectors`)
        /// stands beside each support item of it: the task's description is then read with its items.
        #[added("0.2")]
        descriptions: bool = false;
        /// Inner steps `K` in training and at test; 0 for none.
        inner_steps: usize = 0, size(0);
        /// `α`.
        inner_lr: f64 = 0.01, above(0.0);
        /// Whether the graph of only one inner step is held at a time: less memory, more time, the
        /// same gradient.
        checkpoint_inner_steps: bool = false;
    }
}

impl LearnerSettings for TaskAttentionSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "task_attention",
        family: Family::Attention,
        summary: "attention over the support generates a task's first parameters, which may adapt",
        paper: "Vuorio et al., Multimodal model-agnostic meta-learning, NeurIPS 2019; Requeima et al., CNAPs, NeurIPS 2019; Rusu et al., LEO, ICLR 2019",
        regression: true,
        any_way: true,
    };

    // `burn-tch` seems to write into the views that `swap_dims` and `permute` make.
    const WRONG_ON: &'static [&'static str] = &["tch"];

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        if self.descriptions && spec.extras.class_vector == 0 {
            let expected = "reads vectors of classes, and the source has none: set `data.name_vectors` or \
                            `data.class_vectors`";
            let key = "learner.descriptions";
            return Err(Error::setting(key, self.descriptions, expected));
        }
        check_heads("learner.heads", self.heads, "learner.width", self.width)
    }

    fn steps(&self) -> Steps {
        self.inner_loop().cost()
    }

    fn gradient_of() -> GradientOf {
        let small = |modulation: &str, attention: &str, inner_steps: usize| {
            json!({
                "modulation": modulation, "rank": 1, "seeds": 2, "width": 4, "heads": 2, "hidden": 3,
                "attention": attention, "inner_steps": inner_steps, "inner_lr": 0.01
            })
        };
        GradientOf::Queries(vec![
            small("film", "softmax", 0),
            small("film", "uniform", 1),
            small("low_rank", "softmax", 1),
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
        let rule = TaskAttention {
            described: match self.descriptions {
                true => new.spec.extras.class_vector,
                false => 0,
            },
            settings: self,
            start,
        };
        let own = Seed(new.seed.stream(READER, 0, "seed").next_u64());
        let reader = rule.reader::<B>(&mut Initializer::seeded(own), new.device);
        let parameters = theta.join(Params::of(&reader).with_prefix(READER));
        UnrolledLearner::boxed(rule, network, parameters)
    }
}

/// What reads the support and generates parameters.
#[derive(Module, Debug)]
struct Reader<B: Backend> {
    token: Linear<B>,
    /// `e`, `[1|t, 1, m·w]`.
    seeds: Param<Tensor<B, 3>>,
    attention: MultiHeadAttention<B>,
    norm: Norm<B>,
    modulator: Modulator<B>,
}

impl<B: Primitives> Reader<B> {
    /// `z [t, 1, m·w]` from the tokens of the support, `[t, s, …]`.
    fn read(&self, tokens: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let tokens = self.token.forward_relu(tokens);
        let [t, _, w] = tokens.dims();
        let seeds = broadcast_rows(self.seeds.val(), t, 1);
        let m = seeds.dims()[2] / w;
        let seeds = seeds.reshape([t, m, w]);
        let (read, map) = self.attention.attend(seeds, tokens, 1, None, pass);
        pass.record(
            "task embedding",
            MapAxis::Other("seed"),
            MapAxis::Support,
            &map,
        );
        self.norm.forward(read.reshape([t, 1, m * w]), 1, pass)
    }
}

impl TaskAttentionSettings {
    fn inner_loop(&self) -> InnerLoop {
        InnerLoop {
            steps: self.inner_steps,
            test_steps: self.inner_steps,
            checkpoint: self.checkpoint_inner_steps,
        }
    }
}

/// How task attention starts and adapts; its parameters are `θ`, then the reader below its prefix.
struct TaskAttention {
    settings: TaskAttentionSettings,
    start: GeneratedStart,
    /// Width of the vector of a class; 0 where it is not read.
    described: usize,
}

impl TaskAttention {
    fn reader<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Reader<L> {
        let settings = &self.settings;
        let w = settings.width;
        let embedding = settings.seeds * w;
        let attention = MultiHeadSettings {
            weighting: settings.attention,
            ..MultiHeadSettings::of_width(w, settings.heads)
        };
        Reader {
            token: Linear::he(self.start.token + self.described, w, initializer, device),
            seeds: initializer.normal([1, 1, embedding], 1.0, device),
            attention: MultiHeadAttention::with(attention, initializer, device)
                .expect("checked with the settings"),
            norm: Norm::new(embedding, Statistics::Layer, "", device),
            modulator: Modulator::new(
                (settings.modulation, settings.rank),
                self.start.layers.clone(),
                [embedding, settings.hidden],
                initializer,
                device,
            ),
        }
    }
}

impl TaskAttention {
    /// Tokens of the support, `[t, s, w]`, with the vectors of their classes behind them where these are read.
    fn described<L: Primitives>(&self, tokens: Tensor<L, 3>, tasks: &TaskBatch<L>) -> Tensor<L, 3> {
        let (Some(vectors), TargetBatch::Classes(labels)) =
            (&tasks.class_vectors, &tasks.support.targets)
        else {
            return tokens;
        };
        if self.described == 0 {
            return tokens;
        }
        let membership = distance::membership(labels.clone(), tasks.shape.way.0, &tokens);
        Tensor::cat(vec![tokens, membership.product(vectors.clone())], 2)
    }
}

impl Unrolled for TaskAttention {
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
        let theta = shared.outside(READER);
        let generate = |tokens, theta| {
            let skeleton = self.reader(&mut Initializer::zeros(), network.device());
            let reader = shared.under(READER).write_into(skeleton);
            let embedding = reader.read(self.described(tokens, tasks), pass);
            reader.modulator.forward(embedding, theta)
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
    use burn::tensor::activation::log_softmax;
    use meta_core::backend::Cpu;

    type B = Cpu;

    fn answer(learner: &dyn Learner<B>, tasks: &TaskBatch<B>) -> Tensor<B, 3> {
        learner.predict(tasks, PredictAt::LastStep).remove(0)
    }

    /// `learner` with everything that generates parameters moved off zero.
    fn generating(mut learner: Box<dyn Learner<B>>) -> Box<dyn Learner<B>> {
        let parameters = learner.parameters();
        let output = parameters.filter(|name| name.contains("modulator.output"));
        let moved = output.constants(0.05, <[usize]>::to_vec);
        learner.set_parameters(parameters.overwrite(moved));
        learner
    }

    /// What generates is zero at the start: without a step the learner is a prototypical network, in
    /// regression it is MAML with the same steps.
    #[test]
    fn the_start_is_the_base_learner() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        for modulation in ["film", "low_rank"] {
            let settings = json!({"modulation": modulation});
            let own = answer(learner("task_attention", settings, &spec).as_ref(), &tasks);
            let base = answer(learner("protonet", json!({}), &spec).as_ref(), &tasks);
            assert_close(
                &values(log_softmax(own, 2)),
                &values(log_softmax(base, 2)),
                1e-4,
            );
            let (spec, tasks) = regression();
            for steps in [1, 2] {
                let settings = json!({
                    "modulation": modulation, "inner_steps": steps, "inner_lr": 0.1
                });
                let own = learner("task_attention", settings, &spec);
                let settings = json!({
                    "inner_steps": steps, "test_steps": steps, "inner_lr": 0.1
                });
                let base = learner("maml", settings, &spec);
                assert_close(
                    &values(answer(own.as_ref(), &tasks)),
                    &values(answer(base.as_ref(), &tasks)),
                    1e-6,
                );
            }
        }
    }

    /// With 0 steps there is one answer, and nothing moves.
    #[test]
    fn no_step_is_taken_where_none_is_asked_for() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        for steps in [0, 2] {
            let learner = learner("task_attention", json!({"inner_steps": steps}), &spec);
            let explanation = generating(learner).explain(&tasks);
            assert_eq!(explanation.predictions.len(), steps + 1);
            assert_eq!(explanation.movement.is_empty(), steps == 0);
        }
    }

    /// Shuffling the support shuffles the weights of its items and leaves the answer.
    #[test]
    fn the_embedding_does_not_depend_on_the_order_of_the_support() {
        let spec = spec(3, 2);
        let plain = tasks(&spec);
        let mut shuffled = plain.clone();
        let order = [4, 1, 5, 0, 3, 2];
        let index = Tensor::from_data(order, &Default::default());
        shuffled.support.inputs = plain.support.inputs.clone().select(1, index.clone());
        let labels = plain.support.targets.labels().select(1, index.clone());
        shuffled.support.targets = meta_core::task::TargetBatch::Classes(labels);
        let learner = generating(learner("task_attention", json!({}), &spec));
        let [before, after] = [&plain, &shuffled].map(|tasks| learner.explain(tasks));
        let weights = before.maps[0].weights.clone().select(3, index);
        assert_close(
            &values(after.maps[0].weights.clone()),
            &values(weights),
            1e-6,
        );
        let [before, after] = [before, after].map(|mut shown| values(shown.predictions.remove(0)));
        assert_close(&after, &before, 1e-4);
    }

    /// With uniform weights every seed reads the mean, with the same parameters.
    #[test]
    fn uniform_weights() {
        let spec = spec(3, 2);
        let make = |attention: &str| {
            generating(learner(
                "task_attention",
                json!({"attention": attention}),
                &spec,
            ))
        };
        let (softmax, uniform) = (make("softmax"), make("uniform"));
        assert_eq!(
            softmax.parameters().to_data(),
            uniform.parameters().to_data()
        );
        let map = uniform.explain(&tasks(&spec)).maps.remove(0);
        assert_eq!(map.weights.dims(), [2, 4, 4, 6]);
        let weights = values(map.weights);
        assert!(
            weights
                .iter()
                .all(|weight| (weight - 1.0 / 6.0).abs() < 1e-6)
        );
        let tasks = tasks(&spec);
        assert_ne!(
            values(answer(softmax.as_ref(), &tasks)),
            values(answer(uniform.as_ref(), &tasks))
        );
    }

    /// Vectors of classes move the start where they are read; where there are none that is refused.
    #[test]
    fn descriptions_are_read() {
        let settings = json!({"descriptions": true});
        let message = refusal("task_attention", settings.clone(), &spec(3, 2));
        assert!(message.contains("`learner.descriptions"), "{message}");
        let mut spec = spec(3, 2);
        spec.extras.class_vector = 4;
        let learner = generating(learner("task_attention", settings, &spec));
        let mut tasks = tasks(&spec);
        let vectors = Tensor::<B, 1, burn::tensor::Int>::arange(0..24, &Default::default());
        let vectors = vectors.float().reshape([2, 3, 4]).mul_scalar(0.1);
        tasks.class_vectors = Some(vectors.clone());
        let before = values(answer(learner.as_ref(), &tasks));
        tasks.class_vectors = Some(vectors.neg());
        assert_ne!(values(answer(learner.as_ref(), &tasks)), before);
    }

    #[test]
    fn heads_must_divide_the_width() {
        let message = refusal("task_attention", json!({"width": 6}), &spec(3, 1));
        assert!(message.contains("`learner.heads = 4`"), "{message}");
    }
}
