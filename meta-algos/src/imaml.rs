//! Implicit MAML: the meta-gradient from where adaptation ends, not from its path.
//!
//! Rajeswaran, Finn, Kakade and Levine, *Meta-learning with implicit gradients*, NeurIPS 2019.
//!
//! The parameters of a task minimise its support loss, held near the shared ones (eq. 4):
//!
//! ```text
//! φ* = argmin_φ L_s(φ) + λ/2 ‖φ − θ‖²
//! ```
//!
//! `φ` is reached by `K` steps of gradient descent, of which nothing is remembered. At the minimum
//! the meta-gradient of a task is `(I + ∇²L_s(φ) / λ)⁻¹ ∇L_q(φ)` (lemma 1). The system is solved for
//! all tasks at once by conjugate gradient (algorithm 2), whose products `∇²L_s(φ) v` are gradients
//! of `⟨∇L_s(φ), v⟩`; each task has step sizes of its own.
//!
//! # Differences from the paper
//! * Gradient descent in the inner loop; the paper's Hessian-free variant for Omniglot is left out.
//! * `pull = "once"`, as in the authors' code: all steps are along `∇L_s`, and after the last one of training
//!   one is taken towards `θ`, `φ ← φ − α λ (φ − θ)`; none at test. With `pull = "every"` each step is along the
//!   whole gradient of eq. 4, at test too; `α λ` then says how far a task can get from `θ` at all.
//! * Without damping the meta-gradient is that of lemma 1, but far from a minimum a direction of
//!   negative curvature can occur; conjugate gradient then stops for that task where it is. The
//!   authors' code adds 10 to `λ` (`cg_damping`) and 1 to the identity.

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, MetaGradient, New, PredictAt,
        Steps, Toy, adapt::Adaptable,
    },
    nn::{Mode, encoder::Architecture},
    params::{Params, conjugate_gradient},
    primitives::Primitives,
    settings,
    task::{ItemBatch, TaskBatch, TaskSpec},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// When a task is pulled towards the shared parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// After the last inner step of training.
    #[default]
    Once,
    /// In every inner step.
    Every,
}

settings! {
    /// Settings of [`ImplicitMaml`]; the defaults are those of the authors' code for 5-way 1-shot Omniglot,
    /// without its damping.
    pub struct ImamlSettings {
        /// Rate of the inner gradient descent.
        inner_lr: f64 = 0.1, above(0.0);
        /// Inner steps `K` in training; the meta-gradient supposes that they reach `φ*`.
        inner_steps: usize = 16, size(1);
        /// Inner steps at validation and test.
        test_steps: usize = 16, size(1);
        /// `λ`: how strongly a task is held near the shared parameters.
        lambda: f64 = 2.0, above(0.0);
        /// When a task is pulled towards the shared parameters: `once`, after the last inner step of training
        /// (the authors' code), or in `every` inner step (the paper's equation 4).
        pull: Pull = Pull::Once;
        /// Steps of conjugate gradient.
        cg_steps: usize = 5, size(1);
        /// What is added to `λ` in the system that conjugate gradient solves: where the support
        /// loss curves down, more than 0 keeps the system positive definite.
        cg_damping: f64 = 0.0, at_least(0.0);
    }
}

impl LearnerSettings for ImamlSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "imaml",
        family: Family::Gradient,
        summary: "adapts near the initialisation; its meta-gradient is implicit, not through steps",
        paper: "Rajeswaran et al., Meta-learning with implicit gradients, NeurIPS 2019",
        regression: true,
        any_way: false,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_one_way(Self::INFO.name)
    }

    /// No graph goes across steps: that of one is held at a time.
    fn steps(&self) -> Steps {
        Steps {
            train: self.inner_steps,
            held: 1,
            test: self.test_steps,
            ..Steps::default()
        }
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Neither(
            "implicit: exact where adaptation and conjugate gradient have converged \
             (identities::imaml_is_the_closed_form_of_a_quadratic)",
            vec![
                json!({"inner_lr": 0.1, "inner_steps": 3, "cg_steps": 3, "pull": "every"}),
                // Damped as in the authors' code: far from a minimum the system can be nearly singular.
                json!({"inner_lr": 0.1, "inner_steps": 3, "cg_steps": 3, "cg_damping": 10.0}),
            ],
        )
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"inner_lr": 0.1, "inner_steps": 10, "test_steps": 10, "lambda": 0.5}),
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let network = new.network();
        Box::new(ImplicitMaml {
            parameters: network.draw(new.seed),
            settings: self,
            network,
        })
    }
}

/// Implicit MAML on the backend `B`.
pub struct ImplicitMaml<A: Architecture, B: Primitives> {
    settings: ImamlSettings,
    network: Adaptable<A, B::Device>,
    /// `θ`, each `[1, …]`.
    parameters: Params<B>,
}

impl<A: Architecture, B: Primitives> ImplicitMaml<A, B> {
    /// `λ (φ − θ)`.
    fn away(&self, fast: &Params<B>, start: &Params<B>) -> Params<B> {
        let away = fast.clone().trainable().plus(&start.clone().scale(-1.0));
        away.scale(self.settings.lambda)
    }

    /// `φ ← φ − α (∇ Σ_tasks L_s(φ) + λ (φ − θ))`, the second term where every step pulls.
    fn inner_step(
        &self,
        fast: Params<B>,
        start: &Params<B>,
        support: &ItemBatch<B>,
        mode: &Mode,
    ) -> Params<B> {
        let gradients = self.network.support_gradient(&fast, support, mode);
        let direction = match self.settings.pull {
            Pull::Once => gradients,
            Pull::Every => gradients.plus(&self.away(&fast, start)),
        };
        fast.plus(&direction.scale(-self.settings.inner_lr))
    }

    /// `v + ∇²L_s(φ) v / λ`, `λ` damped.
    fn product(&self, fast: &Params<B>, v: &Params<B>, support: &ItemBatch<B>) -> Params<B> {
        let leaves = fast.clone().lift::<Autodiff<B>>();
        let gradients =
            self.network
                .support_gradient(&leaves, &support.lift(), &Mode::training(None));
        let along = gradients.dot_tasks(&v.clone().lift_constant()).sum();
        let curved = leaves.gradients(&along.backward());
        let ImamlSettings {
            lambda, cg_damping, ..
        } = self.settings;
        v.clone().plus(&curved.scale(1.0 / (lambda + cg_damping)))
    }

    /// `x` with `(I + ∇²L_s(φ) / λ) x = g`, by conjugate gradient from `x = 0`.
    fn solve(&self, fast: &Params<B>, g: Params<B>, support: &ItemBatch<B>) -> Params<B> {
        let product = |v: &Params<B>| self.product(fast, v, support);
        conjugate_gradient(self.settings.cg_steps, g, product)
    }
}

impl<A: Architecture, B: Primitives> Learner<B> for ImplicitMaml<A, B> {
    fn parameters(&self) -> Params<B> {
        self.parameters.clone()
    }

    fn set_parameters(&mut self, parameters: Params<B>) {
        self.parameters
            .check_like(&parameters.shapes())
            .unwrap_or_else(|difference| panic!("{difference}"));
        self.parameters = parameters;
    }

    fn meta_gradient(&self, tasks: &TaskBatch<B>) -> MetaGradient<B> {
        let start = self.parameters.clone().fan_out(tasks.tasks());
        let fast = (0..self.settings.inner_steps).fold(start.clone(), |fast, step| {
            let mode = Mode::learning(tasks, "support", step);
            self.inner_step(fast, &start, &tasks.support, &mode)
        });
        let fast = match self.settings.pull {
            Pull::Once => {
                let away = self.away(&fast, &start);
                fast.plus(&away.scale(-self.settings.inner_lr))
            }
            Pull::Every => fast,
        };
        let leaves = fast.clone().lift::<Autodiff<B>>();
        let mut result = self
            .network
            .query_gradient(&leaves, leaves.clone(), &tasks.lift());
        result.gradients = self
            .solve(&fast, result.gradients, &tasks.support)
            .sum_tasks();
        result
    }

    fn predict(&self, tasks: &TaskBatch<B>, at: PredictAt) -> Vec<Tensor<B, 3>> {
        let start = self.parameters.clone().fan_out(tasks.tasks());
        self.network.predict_by_step(
            tasks,
            at,
            start.clone(),
            self.settings.test_steps,
            |_, fast| self.inner_step(fast, &start, &tasks.support, &Mode::default()),
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::toy::{PredictAt, assert_close, learner, spec, tasks, values};
    use serde_json::json;

    /// A large `λ` holds every task at the shared parameters.
    #[test]
    fn a_large_lambda_holds_the_task_at_the_start() {
        let spec = spec(3, 2);
        let settings = json!({"lambda": 1e4, "inner_lr": 1e-4, "test_steps": 20, "pull": "every"});
        let answers =
            learner("imaml", settings, &spec).predict(&tasks(&spec), PredictAt::EveryStep);
        let (first, last) = (answers[0].clone(), answers[20].clone());
        let moved = (last - first).abs().max().into_scalar();
        assert!(moved < 1e-2, "{moved}");
    }

    /// Damping weakens the pull of the curvature: much of it leaves the gradient of the query loss.
    #[test]
    fn damping_goes_towards_first_order() {
        let spec = spec(3, 2);
        let gradient = |damping: f64, steps: usize| {
            let settings = json!({"lambda": 0.1, "cg_steps": steps, "cg_damping": damping});
            let result = learner("imaml", settings, &spec).meta_gradient(&tasks(&spec));
            values(result.gradients.flatten())
        };
        let apart = |damping| {
            let pairs = gradient(damping, 10).into_iter().zip(gradient(1e9, 1));
            pairs
                .map(|(d, first)| (d - first).abs())
                .fold(0.0, f32::max)
        };
        assert!(apart(1e6) < 1e-4, "{}", apart(1e6));
        assert!(apart(0.0) > 1e-2, "{}", apart(0.0));
    }

    /// More steps of conjugate gradient than there are unknowns to find change nothing, and nothing
    /// that is not a number comes of it.
    #[test]
    fn conjugate_gradient_stops_where_it_is_done() {
        let spec = spec(3, 2);
        let settings = json!({"lambda": 1e6, "inner_lr": 1e-7, "cg_steps": 40});
        let result = learner("imaml", settings, &spec).meta_gradient(&tasks(&spec));
        assert!(values(result.gradients.squared_norm())[0].is_finite());
    }

    /// With `α λ = 1` the pull arrives at the shared parameters, whatever the steps before it, so the losses of
    /// queries are those there. Answers at test do not depend on `λ`.
    #[test]
    fn one_pull_of_full_length_arrives_at_the_start() {
        let spec = spec(3, 2);
        let found = |inner_lr: f64, steps: usize| {
            let settings = json!({
                "inner_lr": inner_lr, "lambda": 1.0 / inner_lr, "inner_steps": steps, "cg_steps": 1,
                "cg_damping": 1e9
            });
            let learner = learner("imaml", settings, &spec);
            values(learner.meta_gradient(&tasks(&spec)).losses)
        };
        let (few, many) = (found(0.5, 1), found(0.5, 4));
        assert_close(&few, &many, 1e-5);
        let at_test = |lambda: f64| {
            let settings = json!({"lambda": lambda, "inner_lr": 0.1, "test_steps": 3});
            let answers =
                learner("imaml", settings, &spec).predict(&tasks(&spec), PredictAt::LastStep);
            values(answers[0].clone())
        };
        assert_eq!(at_test(0.1), at_test(5.0));
    }
}
