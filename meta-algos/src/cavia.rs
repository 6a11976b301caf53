//! Fast context adaptation: a few context parameters adapt, the network does not.
//!
//! Zintgraf, Shiarlis, Kurin, Hofmann and Whiteson, *Fast context adaptation via meta-learning*
//! (CAVIA), ICML 2019.
//!
//! Context parameters `c` are an input of the network; they start at zero in every task and are the
//! only ones that adapt. All others, `θ`, are shared (section 3.1):
//!
//! ```text
//! c⁰ = 0,   cⁱ⁺¹ = cⁱ − α ∇_c L_s(cⁱ, θ)             (eq. 3)
//! meta-gradient = ∇_θ mean over tasks of L_q(cᴷ, θ)     (eq. 4)
//! ```
//!
//! The context modulates a hidden layer between encoder `φ` and head, feature by feature (FiLM,
//! section 3.3):
//!
//! ```text
//! (γ, β) = c W_c + b_c
//! y = W relu((1 + γ) ∘ (φ(x) V + v) + β) + b
//! ```
//!
//! # Differences from the paper
//! * The paper's networks concatenate `c` to the first layer's input (regression) or modulate the
//!   third of four convolutions (classification). Here the modulated layer is one of its own, after
//!   any encoder; without `γ` it is the concatenation of `c` to that layer's input. The encoder does
//!   not depend on `c`, so it runs once, whatever the number of steps.

use burn::{
    module::Module,
    tensor::{Tensor, activation::relu, backend::Backend},
};
use burn_autodiff::Autodiff;
use meta_core::{
    Result,
    adapt::{Embedded, predictions},
    learner::{Answers, Family, GradientOf, Learner, LearnerInfo, LearnerSettings, MetaGradient},
    nn::{encoder::Architecture, init::Initializer, linear::Linear, loss},
    optim::OptimizerKind,
    params::Params,
    primitives::{Primitives, add_rows, scale},
    rng::Seed,
    settings::{above_zero, at_least_one},
    task::{ItemBatch, TaskBatch, TaskSpec},
    unroll::InnerOptimizer,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Settings of [`Cavia`]; the defaults are those of the authors' code for 5-way classification, but for
/// the width of the modulated layer, which is ours. For sine waves that code has one step and 5 context
/// parameters.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaviaSettings {
    /// `α`, above 0.
    pub inner_lr: f64,
    /// Inner steps `K` in training, at least 1.
    pub inner_steps: usize,
    /// Inner steps at validation and test, at least 1.
    pub test_steps: usize,
    /// Number of context parameters, at least 1.
    pub context: usize,
    /// Width of the modulated layer, at least 1.
    pub hidden: usize,
    /// Rule of the inner steps: `sgd`, `adam` or `adamw`; differentiated like everything else.
    pub inner_optimizer: OptimizerKind,
    /// Momentum of an inner `sgd`, in [0, 1).
    pub inner_momentum: f64,
}

impl Default for CaviaSettings {
    fn default() -> Self {
        CaviaSettings {
            inner_lr: 1.0,
            inner_steps: 2,
            test_steps: 2,
            context: 100,
            hidden: 64,
            inner_optimizer: OptimizerKind::Sgd,
            inner_momentum: 0.0,
        }
    }
}

impl LearnerSettings for CaviaSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "cavia",
        family: Family::Gradient,
        summary: "adapts only a few context parameters, which modulate a shared network",
        paper: "Zintgraf et al., Fast context adaptation via meta-learning, ICML 2019",
        regression: true,
        any_way: false,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        above_zero("learner.inner_lr", self.inner_lr)?;
        at_least_one("learner.inner_steps", self.inner_steps)?;
        at_least_one("learner.test_steps", self.test_steps)?;
        at_least_one("learner.context", self.context)?;
        at_least_one("learner.hidden", self.hidden)?;
        let momentum = self.inner_momentum;
        InnerOptimizer::check_momentum("learner.inner_momentum", self.inner_optimizer, momentum)?;
        spec.require_one_way(Self::INFO.name)
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({"inner_lr": 0.5, "inner_steps": 1, "test_steps": 1, "context": 3, "hidden": 4}),
            json!({"inner_lr": 0.5, "inner_steps": 3, "test_steps": 3, "context": 3, "hidden": 4}),
            json!({
                "inner_lr": 0.1, "inner_steps": 2, "test_steps": 2, "context": 3, "hidden": 4,
                "inner_momentum": 0.8
            }),
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
        let mut learner = Cavia::<A, B> {
            settings: self,
            architecture,
            outputs: spec.outputs(),
            device: device.clone(),
            parameters: Params::default(),
        };
        let model = learner.init::<B>(&mut Initializer::seeded(seed));
        learner.parameters = Params::of(&model);
        Ok(Box::new(learner))
    }
}

/// What stands after the encoder: the modulated layer and the head.
#[derive(Module, Debug)]
struct Modulated<B: Backend> {
    /// `W_c`, `b_c`: context to `γ` and `β`.
    modulation: Linear<B>,
    /// `V`, `v`.
    hidden: Linear<B>,
    /// `W`, `b`.
    head: Linear<B>,
}

impl<B: Primitives> Modulated<B> {
    /// Embeddings `[t, b, d]` and context `[t, 1, c]` to `[t, b, outputs]`.
    fn forward(&self, embeddings: Tensor<B, 3>, context: Tensor<B, 3>) -> Tensor<B, 3> {
        let hidden = self.hidden.forward(embeddings);
        let width = hidden.dims()[2];
        let film = self.modulation.forward(context);
        let gamma = film.clone().narrow(2, 0, width).add_scalar(1.0);
        let beta = film.narrow(2, width, width);
        self.head
            .forward(relu(add_rows(scale(hidden, gamma), beta)))
    }
}

/// The encoder and what stands after it.
#[derive(Module, Debug)]
struct Model<B: Backend, E> {
    encoder: E,
    modulated: Modulated<B>,
}

/// CAVIA on the backend `B`.
pub struct Cavia<A: Architecture, B: Primitives> {
    settings: CaviaSettings,
    architecture: A,
    outputs: usize,
    device: B::Device,
    /// `θ`, each `[1, …]`.
    parameters: Params<B>,
}

/// Path of `c` among the parameters that adapt.
const CONTEXT: &str = "context";

impl<A: Architecture, B: Primitives> Cavia<A, B> {
    fn init<L: Primitives<Device = B::Device>>(
        &self,
        initializer: &mut Initializer,
    ) -> Model<L, A::Model<L>> {
        let CaviaSettings {
            context, hidden, ..
        } = self.settings;
        let (width, device) = (self.architecture.width(), &self.device);
        Model {
            encoder: self.architecture.init(initializer, device),
            modulated: Modulated {
                modulation: Linear::glorot(context, 2 * hidden, initializer, device),
                hidden: Linear::glorot(width, hidden, initializer, device),
                head: Linear::glorot(hidden, self.outputs, initializer, device),
            },
        }
    }

    /// The model on a level, with `parameters` in place.
    fn model<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
    ) -> Model<L, A::Model<L>> {
        parameters.write_into(self.init(&mut Initializer::zeros()))
    }

    /// The part after the encoder on a level, with `parameters` in place.
    fn modulated<L: Primitives<Device = B::Device>>(&self, parameters: Params<L>) -> Modulated<L> {
        parameters.write_into(self.init(&mut Initializer::zeros()).modulated)
    }

    /// `c⁰` of every task, `[t, 1, c]`.
    fn start<L: Primitives<Device = B::Device>>(&self, tasks: usize) -> Params<L> {
        let mut context = Params::default();
        context.push(
            CONTEXT,
            Tensor::<L, 3>::zeros([tasks, 1, self.settings.context], &self.device),
        );
        context
    }

    /// `c ← c − α ∇_c Σ_tasks L_s(c, θ)`, on the embedded support, or the step of the inner optimiser
    /// along that gradient; differentiable in `c`, `θ` and the embeddings on an autodiff level.
    fn inner_step<L: Primitives<Device = B::Device>>(
        &self,
        index: usize,
        state: Params<L>,
        modulated: &Params<L>,
        support: &ItemBatch<L>,
    ) -> Params<L> {
        let fast = InnerOptimizer::weights(&state).lift::<Autodiff<L>>();
        let support = support.lift();
        let predictions = self
            .modulated(modulated.clone().lift_constant())
            .forward(support.inputs, value(&fast));
        let loss = loss::loss(predictions, &support.targets).sum();
        let gradients = fast.gradients(&loss.backward());
        let CaviaSettings {
            inner_optimizer,
            inner_lr,
            inner_momentum,
            ..
        } = self.settings;
        InnerOptimizer::new(inner_optimizer, inner_lr, inner_momentum)
            .step(index, state, &gradients)
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
}

/// `c` as a tensor.
fn value<L: Primitives>(context: &Params<L>) -> Tensor<L, 3> {
    context.get(CONTEXT).expect("the one entry")
}

impl<A: Architecture, B: Primitives> Learner<B> for Cavia<A, B> {
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
        let modulated = leaves.under("modulated");
        let start = self.start(tasks.tasks());
        let context = (0..self.settings.inner_steps).fold(start, |state, index| {
            self.inner_step(index, state, &modulated, &embedded.support)
        });
        let predictions = self
            .modulated(modulated)
            .forward(embedded.query, value(&context));
        let targets = &lifted.query.targets;
        let losses = loss::loss(predictions.clone(), targets);
        let buffers = embedded.pass.statistics.take().with_prefix("encoder");
        MetaGradient::of(&leaves, losses, predictions, targets, buffers)
    }

    fn predict(&self, tasks: &TaskBatch<B>, answers: Answers) -> Vec<Tensor<B, 3>> {
        let embedded = self.embed(self.parameters.clone(), tasks, false);
        let parameters = self.parameters.under("modulated");
        let modulated = self.modulated(parameters.clone());
        predictions(
            answers,
            self.start(tasks.tasks()),
            self.settings.test_steps,
            |index, state| self.inner_step(index, state, &parameters, &embedded.support),
            |context| modulated.forward(embedded.query.clone(), value(context)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{learner, spec, tasks, values};

    /// The context starts at zero: before the first step the support says nothing.
    #[test]
    fn without_a_step_all_tasks_share_one_network() {
        let spec = spec(3, 2);
        let (plain, mut changed) = (tasks(&spec), tasks(&spec));
        changed.support.inputs = changed.support.inputs.neg();
        let cavia = learner("cavia", json!({"context": 4, "hidden": 9}), &spec);
        let (plain, changed) = (
            cavia.predict(&plain, Answers::EveryStep),
            cavia.predict(&changed, Answers::EveryStep),
        );
        assert_eq!(values(plain[0].clone()), values(changed[0].clone()));
        assert_ne!(values(plain[2].clone()), values(changed[2].clone()));
    }

    /// A momentum has nothing to carry on at the first step, and something at the second.
    #[test]
    fn momentum_starts_with_the_second_step() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let answers = |momentum: f64| {
            let settings = json!({"context": 4, "hidden": 9, "inner_momentum": momentum});
            let answers = learner("cavia", settings, &spec).predict(&tasks, Answers::EveryStep);
            answers.into_iter().map(values).collect::<Vec<_>>()
        };
        let (without, with) = (answers(0.0), answers(0.9));
        assert_eq!(without[1], with[1]);
        assert_ne!(without[2], with[2]);
    }

    /// Adapting leaves the shared network as it is: it has no entry for the context.
    #[test]
    fn the_context_is_no_meta_parameter() {
        let cavia = learner("cavia", json!({"context": 4, "hidden": 9}), &spec(3, 2));
        let shapes = cavia.parameters().shapes();
        assert!(shapes.iter().all(|(name, _)| !name.contains(CONTEXT)));
        let film = ("modulated.modulation.weight".to_owned(), vec![1, 4, 18]);
        assert!(shapes.contains(&film), "{shapes:?}");
    }
}
