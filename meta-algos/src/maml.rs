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

use meta_core::{
    Result,
    adapt::Adaptable,
    learner::{Family, GradientOf, Learner, LearnerInfo, LearnerSettings},
    nn::encoder::Architecture,
    optim::OptimizerKind,
    params::Params,
    primitives::Primitives,
    rng::Seed,
    settings::{above_zero, at_least_one},
    task::TaskSpec,
    unroll::{InnerOptimizer, InnerStep, Order, Unrolled, UnrolledLearner},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

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
    /// Order of the meta-gradient: `second` (exact) or `first` (FOMAML).
    pub order: Order,
    /// Rule of the inner steps: `sgd`, `adam` or `adamw`; differentiated like everything else.
    pub inner_optimizer: OptimizerKind,
    /// Momentum of an inner `sgd`, in [0, 1).
    pub inner_momentum: f64,
    /// Whether the graph of only one inner step is held at a time: less memory, more time, the same
    /// gradient.
    pub checkpoint_inner_steps: bool,
}

impl Default for MamlSettings {
    fn default() -> Self {
        MamlSettings {
            inner_lr: 0.4,
            inner_steps: 1,
            test_steps: 3,
            order: Order::Second,
            inner_optimizer: OptimizerKind::Sgd,
            inner_momentum: 0.0,
            checkpoint_inner_steps: false,
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
        let momentum = self.inner_momentum;
        InnerOptimizer::check_momentum("learner.inner_momentum", self.inner_optimizer, momentum)?;
        spec.require_one_way(Self::INFO.name)
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({"inner_lr": 0.1, "inner_steps": 1, "test_steps": 1}),
            json!({"inner_lr": 0.1, "inner_steps": 3, "test_steps": 3}),
            json!({"inner_lr": 0.1, "inner_steps": 3, "test_steps": 3, "inner_momentum": 0.8}),
            json!({"inner_lr": 0.01, "inner_steps": 2, "test_steps": 2, "inner_optimizer": "adam"}),
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
        Ok(Box::new(UnrolledLearner::<A, _>::new(Maml::<A, B>::new(
            self,
            architecture,
            spec.outputs(),
            seed,
            device,
        ))))
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
}

impl<A: Architecture, B: Primitives> Unrolled<A, B> for Maml<A, B> {
    fn network(&self) -> &Adaptable<A, B> {
        &self.network
    }

    fn parameters(&self) -> &Params<B> {
        &self.parameters
    }

    fn set_parameters(&mut self, parameters: Params<B>) {
        self.parameters = parameters;
    }

    fn steps(&self) -> usize {
        self.settings.inner_steps
    }

    fn test_steps(&self) -> usize {
        self.settings.test_steps
    }

    fn order(&self, _progress: f64) -> Order {
        self.settings.order
    }

    fn checkpoint_inner_steps(&self) -> bool {
        self.settings.checkpoint_inner_steps
    }

    /// `θ ← θ − α ∇ Σ_tasks L_s(θ)`, or the step of the inner optimiser along that gradient.
    fn step<L: Primitives<Device = B::Device>>(
        &self,
        at: &InnerStep<L>,
        state: Params<L>,
        shared: &Params<L>,
    ) -> Params<L> {
        let settings = &self.settings;
        let optimizer = InnerOptimizer::new(
            settings.inner_optimizer,
            settings.inner_lr,
            settings.inner_momentum,
        );
        let gradients = at.gradient(&self.network, &self.weights(&state, shared, at.index));
        optimizer.step(at.index, state, &gradients)
    }
}
