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
    Result,
    adapt::Adaptable,
    learner::{Family, Learner, LearnerInfo, LearnerSettings, MetaGradient},
    nn::encoder::Architecture,
    params::Params,
    primitives::Primitives,
    rng::Seed,
    settings::{above_zero, at_least_one},
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
        above_zero("learner.inner_lr", self.inner_lr)?;
        at_least_one("learner.inner_steps", self.inner_steps)?;
        at_least_one("learner.test_steps", self.test_steps)?;
        spec.require_one_way(Self::INFO.name)
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
    network: Adaptable<A, B>,
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
        let network = Adaptable::new(architecture, outputs, device);
        Maml {
            parameters: network.draw(seed),
            settings,
            network,
        }
    }

    /// One inner step, `θ ← θ − α ∇ Σ_tasks L_s(θ)`: exact fine-tuning on a plain backend, and
    /// differentiable in `θ` on an autodiff level.
    fn inner_step<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
        support: &ItemBatch<L>,
        training: bool,
    ) -> Params<L> {
        let gradients = self
            .network
            .support_gradient(&parameters, support, training);
        parameters.zip(&gradients, |theta, gradient| {
            L::descend(theta, gradient, self.settings.inner_lr)
        })
    }
}

impl<A: Architecture, B: Primitives> Learner<B> for Maml<A, B> {
    fn parameters(&self) -> Params<B> {
        self.parameters.clone()
    }

    fn set_parameters(&mut self, parameters: Params<B>) {
        // Through a network, which checks names and shapes.
        self.parameters = Params::of(&self.network.network(parameters));
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
                self.network.query_gradient(&leaves, fast, &lifted)
            }
            Order::First => {
                let fast = (0..self.settings.inner_steps)
                    .fold(self.parameters.clone().fan_out(tasks.tasks()), |fast, _| {
                        self.inner_step(fast, &tasks.support, true)
                    });
                let leaves = fast.lift::<Autodiff<B>>();
                let mut result = self
                    .network
                    .query_gradient(&leaves, leaves.clone(), &lifted);
                result.gradients = result.gradients.sum_tasks();
                result
            }
        }
    }

    fn predict(&self, tasks: &TaskBatch<B>) -> Vec<Tensor<B, 3>> {
        let start = self.parameters.clone().fan_out(tasks.tasks());
        self.network
            .predict(tasks, start, self.settings.test_steps, |_, fast| {
                self.inner_step(fast, &tasks.support, false)
            })
    }
}
