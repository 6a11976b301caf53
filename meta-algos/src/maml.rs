//! Model-agnostic meta-learning.
//!
//! Finn, Abbeel and Levine, *Model-agnostic meta-learning for fast adaptation of deep networks*,
//! ICML 2017.
//!
//! For a task with support loss `L_s` and query loss `L_q`, and shared parameters `θ`:
//!
//! ```text
//! θ⁰ = θ,   θⁱ⁺¹ = θⁱ − α ∇L_s(θⁱ)        (inner steps, section 2.2, eq. 1)
//! meta-gradient = ∇_θ mean over tasks of L_q(θᴷ)     (section 2.3, algorithm 1)
//! ```
//!
//! With `order = "second"` the meta-gradient is exact: it is differentiated through every inner
//! step. With `order = "first"` (FOMAML, section 5.2) the Jacobians `∂θᴷ/∂θ` are taken as the
//! identity: `∇L_q` at `θᴷ`.
//!
//! # Differences from the paper
//! * The outer optimiser, its schedule and the meta-batch are those of the manifest.
//! * The paper's Omniglot network normalises each batch by its own statistics (transductive); here
//!   that is `encoder.norm = "episode"`, and other statistics can be chosen.

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use meta_core::{
    Error, Result,
    data::Task,
    learner::{Family, Learner, LearnerInfo, LearnerSettings, MetaGradient},
    nn::{Pass, encoder::Architecture, init::Initializer, loss, network::Network},
    params::Params,
    primitives::Primitives,
    rng::Seed,
    task::{ItemBatch, TaskBatch, TaskSpec},
};
use serde::{Deserialize, Serialize};

/// Order of the meta-gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Through the inner steps: exact.
    Second,
    /// Past the inner steps: FOMAML.
    First,
}

/// Settings of [`Maml`]; the defaults are the paper's for 5-way Omniglot (appendix A.1).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MamlSettings {
    /// `α`, above 0.
    pub inner_lr: f64,
    /// Inner steps `K` in training, at least 1.
    pub inner_steps: usize,
    /// Inner steps at validation and test, at least 1.
    pub test_steps: usize,
    /// Order of the meta-gradient: `second` (exact) or `first`.
    pub order: Order,
}

impl Default for MamlSettings {
    fn default() -> Self {
        MamlSettings {
            inner_lr: 0.4,
            inner_steps: 1,
            test_steps: 3,
            order: Order::Second,
        }
    }
}

impl LearnerSettings for MamlSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "maml",
        family: Family::Gradient,
        summary: "learns an initialisation from which a few gradient steps solve a task",
        paper: "Finn et al., Model-agnostic meta-learning, ICML 2017",
        regression: true,
        any_way: false,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        if !(self.inner_lr > 0.0 && self.inner_lr.is_finite()) {
            return Err(Error::setting(
                "learner.inner_lr",
                self.inner_lr,
                "must be above 0",
            ));
        }
        for (key, steps) in [
            ("inner_steps", self.inner_steps),
            ("test_steps", self.test_steps),
        ] {
            if steps == 0 {
                return Err(Error::setting(
                    format!("learner.{key}"),
                    steps,
                    "must be at least 1",
                ));
            }
        }
        if spec.task == Task::Classification && spec.train.way != spec.test.way {
            return Err(Error::setting(
                "data.train_way",
                spec.train.way,
                format!(
                    "the head of `maml` has one output per class, so it must equal data.way = {}",
                    spec.test.way
                ),
            ));
        }
        Ok(())
    }

    fn build<A: Architecture, B: Primitives>(
        self,
        architecture: A,
        spec: &TaskSpec,
        seed: Seed,
        device: &B::Device,
    ) -> Result<Box<dyn Learner<B>>> {
        self.check(&architecture, spec)?;
        Ok(Box::new(Maml::<A, B>::new(
            self,
            architecture,
            spec.outputs(),
            seed,
            device,
        )))
    }
}

/// MAML on the backend `B`.
pub struct Maml<A: Architecture, B: Primitives> {
    settings: MamlSettings,
    architecture: A,
    outputs: usize,
    device: B::Device,
    /// `θ`, each `[1, …]`.
    parameters: Params<B>,
}

impl<A: Architecture, B: Primitives> Maml<A, B> {
    /// A learner with parameters drawn from `seed` and a head of `outputs` scores or values.
    pub fn new(
        settings: MamlSettings,
        architecture: A,
        outputs: usize,
        seed: Seed,
        device: &B::Device,
    ) -> Self {
        let network = Network::<B, A::Model<B>>::new(
            &architecture,
            outputs,
            &mut Initializer::seeded(seed),
            device,
        );
        Maml {
            parameters: Params::of(&network),
            settings,
            architecture,
            outputs,
            device: device.clone(),
        }
    }

    /// The network on any level over the backend, with `parameters` in place.
    fn network<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
    ) -> Network<L, A::Model<L>> {
        let skeleton = Network::new(
            &self.architecture,
            self.outputs,
            &mut Initializer::zeros(),
            &self.device,
        );
        parameters.write_into(skeleton)
    }

    /// One inner step, `θ ← θ − α ∇ Σ_tasks L_s(θ)`: exact fine-tuning on a plain backend, and
    /// differentiable in `θ` on an autodiff level.
    fn inner_step<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
        support: &ItemBatch<L>,
        training: bool,
    ) -> Params<L> {
        let fast = parameters.clone().lift::<Autodiff<L>>();
        let support = support.lift();
        let pass = Pass {
            training,
            ..Pass::training()
        };
        let predictions = self.network(fast.clone()).forward(support.inputs, &pass);
        // The sum over tasks keeps their gradients apart: each has its own copy of the parameters.
        let loss = loss::loss(predictions, &support.targets).sum();
        let gradients = fast.gradients(&loss.backward());
        parameters.zip(&gradients, |theta, gradient| {
            L::descend(theta, gradient, self.settings.inner_lr)
        })
    }

    /// `∇` of the mean over tasks of the query loss at `fast`, with respect to `leaves`.
    fn query_gradient(
        &self,
        leaves: &Params<Autodiff<B>>,
        fast: Params<Autodiff<B>>,
        tasks: &TaskBatch<Autodiff<B>>,
    ) -> MetaGradient<B> {
        let (predictions, pass) = self.network(fast).forward_query(
            tasks.support.inputs.clone(),
            tasks.query.inputs.clone(),
            self.architecture.statistics(),
            Pass::training(),
        );
        let losses = loss::loss(predictions.clone(), &tasks.query.targets);
        let gradients = leaves.gradients(&losses.clone().mean().backward());
        let targets = &tasks.query.targets;
        MetaGradient {
            gradients,
            buffers: pass.statistics.take().lower().with_prefix("encoder"),
            scores: loss::score(predictions, targets).inner(),
            losses: losses.inner(),
        }
    }
}

impl<A: Architecture, B: Primitives> Learner<B> for Maml<A, B> {
    fn parameters(&self) -> Params<B> {
        self.parameters.clone()
    }

    fn set_parameters(&mut self, parameters: Params<B>) {
        // Through a network, which checks names and shapes.
        self.parameters = Params::of(&self.network(parameters));
    }

    fn meta_gradient(&self, tasks: &TaskBatch<B>) -> MetaGradient<B> {
        let lifted = tasks.lift::<Autodiff<B>>();
        match self.settings.order {
            Order::Second => {
                let leaves = self.parameters.clone().lift::<Autodiff<B>>();
                let fast = (0..self.settings.inner_steps)
                    .fold(leaves.clone().fan_out(tasks.tasks()), |fast, _| {
                        self.inner_step(fast, &lifted.support, true)
                    });
                self.query_gradient(&leaves, fast, &lifted)
            }
            Order::First => {
                let fast = (0..self.settings.inner_steps)
                    .fold(self.parameters.clone().fan_out(tasks.tasks()), |fast, _| {
                        self.inner_step(fast, &tasks.support, true)
                    });
                let leaves = fast.lift::<Autodiff<B>>();
                let mut result = self.query_gradient(&leaves, leaves.clone(), &lifted);
                result.gradients = result.gradients.sum_tasks();
                result
            }
        }
    }

    fn predict(&self, tasks: &TaskBatch<B>) -> Vec<Tensor<B, 3>> {
        let answer = |parameters: &Params<B>| {
            self.network(parameters.clone())
                .forward_query(
                    tasks.support.inputs.clone(),
                    tasks.query.inputs.clone(),
                    self.architecture.statistics(),
                    Pass::evaluation(),
                )
                .0
        };
        let mut fast = self.parameters.clone().fan_out(tasks.tasks());
        let mut predictions = vec![answer(&fast)];
        for _ in 0..self.settings.test_steps {
            fast = self.inner_step(fast, &tasks.support, false);
            predictions.push(answer(&fast));
        }
        predictions
    }
}
