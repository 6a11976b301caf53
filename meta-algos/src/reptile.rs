//! Reptile: towards where fine-tuning leads.
//!
//! Nichol, Achiam and Schulman, *On first-order meta-learning algorithms*, arXiv:1803.02999, 2018.
//!
//! From the shared parameters `θ`, `K` steps of an inner optimiser on the support lead to `θᴷ`; the
//! shared parameters move towards it (algorithms 1 and 2):
//!
//! ```text
//! θ ← θ + ε mean over tasks of (θᴷ − θ)
//! meta-gradient = (θ − mean over tasks of θᴷ) / α
//! ```
//!
//! Divided by the inner rate `α`, the meta-gradient has the size of a gradient: with one step of
//! gradient descent it is that of the joint loss `mean over tasks of L_s` (section 3.4 of the paper
//! discusses outer optimisers fed with it). `optimizer = "sgd"` with `lr = ε α` under `[train]` is
//! the paper's update. The queries of a training task are not learned from; their loss and score are
//! only reported.
//!
//! # Differences from the paper
//! * Each inner step sees the whole support; the paper draws a minibatch of it for each. Give
//!   training tasks more items than test tasks (`data.train_shot`), as the paper does.
//! * The inner Adam starts anew at every task (`β₁ = 0`, `β₂ = 0.999`); the authors' code carries its
//!   state from task to task.

use burn::tensor::Tensor;
use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, MetaGradient, New, PredictAt,
        Steps, Toy, adapt::Adaptable,
    },
    nn::{Mode, Pass, encoder::Architecture, loss},
    optim::{self, OptimizerKind, OptimizerSettings, OptimizerState, UpdateSettings},
    params::Params,
    primitives::Primitives,
    settings,
    task::{ItemBatch, TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of [`Reptile`]; the defaults are those of the paper's comparison on 5-way Omniglot
    /// (appendix A, from memory). The authors' repository tunes them anew for every experiment.
    pub struct ReptileSettings {
        /// `α`, the learning rate of the inner optimiser.
        inner_lr: f64 = 1e-3, above(0.0);
        /// Inner steps `K` in training; with one, Reptile is joint training.
        inner_steps: usize = 5, size(1);
        /// Inner steps at validation and test.
        test_steps: usize = 50, size(1);
        /// Inner optimiser: `adam` (with `β₁ = 0`), `adamw` (the same, no decay) or `sgd`.
        inner_optimizer: OptimizerKind = OptimizerKind::Adam;
    }
}

impl LearnerSettings for ReptileSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "reptile",
        family: Family::Gradient,
        summary: "moves the initialisation towards the parameters that fine-tuning leads to",
        paper: "Nichol et al., On first-order meta-learning algorithms, arXiv:1803.02999, 2018",
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
        }
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Neither(
            "points to where fine-tuning leads \
             (identities::reptile_with_one_step_is_joint_descent)",
            vec![json!({"inner_lr": 0.1, "inner_steps": 2, "inner_optimizer": "sgd"})],
        )
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"inner_lr": 0.1, "test_steps": 20, "inner_optimizer": "sgd"}),
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let network = new.network();
        Box::new(Reptile {
            parameters: network.draw(new.seed),
            settings: self,
            network,
        })
    }
}

/// Reptile on the backend `B`.
pub struct Reptile<A: Architecture, B: Primitives> {
    settings: ReptileSettings,
    network: Adaptable<A, B::Device>,
    /// `θ`, each `[1, …]`.
    parameters: Params<B>,
}

impl<A: Architecture, B: Primitives> Reptile<A, B> {
    /// One step of the inner optimiser on the support.
    fn inner_step(
        &self,
        fast: Params<B>,
        state: OptimizerState<B>,
        support: &ItemBatch<B>,
        mode: &Mode,
    ) -> (Params<B>, OptimizerState<B>) {
        let optimizer = OptimizerSettings {
            optimizer: self.settings.inner_optimizer,
            update: UpdateSettings {
                beta1: 0.0,
                ..UpdateSettings::default()
            },
        };
        let gradients = self.network.support_gradient(&fast, support, mode);
        optim::step(&optimizer, self.settings.inner_lr, fast, &gradients, state)
    }
}

impl<A: Architecture, B: Primitives> Learner<B> for Reptile<A, B> {
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
        let (fast, _) = (0..self.settings.inner_steps).fold(
            (start.clone(), OptimizerState::new()),
            |(fast, state), step| {
                let mode = Mode::learning(tasks, "support", step);
                self.inner_step(fast, state, &tasks.support, &mode)
            },
        );
        let moved = start
            .trainable()
            .zip(&fast, |theta, fast| B::float_sub(theta, fast))
            .sum_tasks();
        let mode = Mode::learning(tasks, "query", 0);
        let (predictions, pass) = self.network.predict_queries(fast, tasks, Pass::new(mode));
        let targets = &tasks.query.targets;
        MetaGradient {
            gradients: moved.scale(1.0 / (tasks.tasks() as f64 * self.settings.inner_lr)),
            buffers: pass.statistics.take().with_prefix("encoder"),
            losses: loss::loss(predictions.clone(), targets),
            scores: loss::score(predictions, targets),
        }
    }

    fn predict(&self, tasks: &TaskBatch<B>, at: PredictAt) -> Vec<Tensor<B, 3>> {
        let start = self.parameters.clone().fan_out(tasks.tasks());
        let mut state = OptimizerState::new();
        let step = |_, fast| {
            let before = std::mem::take(&mut state);
            let (fast, after) = self.inner_step(fast, before, &tasks.support, &Mode::default());
            state = after;
            fast
        };
        self.network
            .predict_by_step(tasks, at, start, self.settings.test_steps, step)
    }
}

#[cfg(test)]
mod tests {

    use crate::toy::{learner, spec, support_as_queries, tasks, values};
    use meta_core::task::TargetBatch;
    use serde_json::json;

    /// The queries of training tasks are reported and not learned from.
    #[test]
    fn the_queries_do_not_move_the_meta_gradient() {
        let spec = spec(3, 2);
        let reptile = learner("reptile", json!({}), &spec);
        let plain = reptile.meta_gradient(&tasks(&spec));
        let other = reptile.meta_gradient(&support_as_queries(tasks(&spec)));
        assert_eq!(plain.gradients.to_data(), other.gradients.to_data());
        assert_ne!(values(plain.losses), values(other.losses));
    }

    /// The first step of Adam with `β₁ = 0` has the size of the rate, whatever the gradient, so the
    /// meta-gradient of one step is a sign.
    #[test]
    fn one_step_of_adam_is_a_sign() {
        let spec = spec(3, 2);
        let mut tasks = tasks(&spec);
        tasks.support.inputs = tasks.support.inputs.narrow(0, 0, 1);
        tasks.support.targets =
            TargetBatch::Classes(tasks.support.targets.labels().narrow(0, 0, 1));
        tasks.query.inputs = tasks.query.inputs.narrow(0, 0, 1);
        tasks.query.targets = TargetBatch::Classes(tasks.query.targets.labels().narrow(0, 0, 1));
        let reptile = learner("reptile", json!({"inner_steps": 1, "inner_lr": 0.5}), &spec);
        let gradients = reptile.meta_gradient(&tasks).gradients;
        for value in values(gradients.get::<3>("head.bias").unwrap()) {
            assert!((value.abs() - 1.0).abs() < 1e-3, "{value}");
        }
    }
}
