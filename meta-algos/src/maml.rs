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
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Steps, Toy,
        inner_loop::{InnerLoop, InnerOptimizer, InnerStep, Order, Unrolled, UnrolledLearner},
    },
    nn::encoder::Architecture,
    optim::OptimizerKind,
    params::Params,
    primitives::Primitives,
    settings,
    task::TaskSpec,
};
use serde_json::json;

settings! {
    /// Settings of MAML; the defaults are the paper's for 5-way Omniglot (appendix A.1).
    pub struct MamlSettings {
        /// `α`.
        inner_lr: f64 = 0.4, above(0.0);
        /// Inner steps `K` in training.
        inner_steps: usize = 1, size(1);
        /// Inner steps at validation and test.
        test_steps: usize = 3, size(1);
        /// Order of the meta-gradient: `second` (exact) or `first` (FOMAML).
        order: Order = Order::Second;
        /// Rule of the inner steps: `sgd`, `adam` or `adamw`; differentiated like everything else.
        inner_optimizer: OptimizerKind = OptimizerKind::Sgd;
        /// Momentum of an inner `sgd`.
        inner_momentum: f64 = 0.0, below_one();
        /// Whether the graph of only one inner step is held at a time: less memory, more time, the
        /// same gradient.
        checkpoint_inner_steps: bool = false;
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
        let momentum = self.inner_momentum;
        InnerOptimizer::check_momentum("learner.inner_momentum", self.inner_optimizer, momentum)?;
        spec.require_one_way(Self::INFO.name)
    }

    fn steps(&self) -> Steps {
        self.inner_loop().cost()
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({"inner_lr": 0.1, "inner_steps": 1, "test_steps": 1}),
            json!({"inner_lr": 0.1, "inner_steps": 3, "test_steps": 3}),
            json!({"inner_lr": 0.1, "inner_steps": 3, "test_steps": 3, "inner_momentum": 0.8}),
            json!({"inner_lr": 0.01, "inner_steps": 2, "test_steps": 2, "inner_optimizer": "adam"}),
        ])
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"inner_lr": 0.1, "inner_steps": 2}),
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let network = new.network();
        let theta = network.draw(new.seed);
        UnrolledLearner::boxed(self, network, theta)
    }
}

impl Unrolled for MamlSettings {
    fn inner_loop(&self) -> InnerLoop {
        InnerLoop {
            steps: self.inner_steps,
            test_steps: self.test_steps,
            checkpoint: self.checkpoint_inner_steps,
        }
    }

    fn order(&self, _progress: f64) -> Order {
        self.order
    }

    /// `θ ← θ − α ∇ Σ_tasks L_s(θ)`, or the step of the inner optimiser along that gradient.
    fn step<L: Primitives>(
        &self,
        at: &InnerStep<L>,
        theta: Params<L>,
        gradients: &Params<L>,
        _shared: &Params<L>,
    ) -> Params<L> {
        InnerOptimizer::new(self.inner_optimizer, self.inner_lr, self.inner_momentum)
            .step(at.index, theta, gradients)
    }
}
