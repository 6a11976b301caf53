//! Meta-SGD: MAML with a learned rate for every parameter.
//!
//! Li, Zhou, Chen and Li, *Meta-SGD: learning to learn quickly for few-shot learning*,
//! arXiv:1707.09835, 2017.
//!
//! The rates `α` have the shape of the parameters `θ` and are learned with them (section 3.2):
//!
//! ```text
//! θⁱ⁺¹ = θⁱ − α ∘ ∇L_s(θⁱ)                        (eq. 2; ∘ element by element)
//! meta-gradient = ∇_(θ, α) mean over tasks of L_q(θᴷ)   (eq. 3, algorithm 1)
//! ```
//!
//! The meta-gradient is exact, through every inner step. A rate may become negative.
//!
//! # Differences from the paper
//! * All rates start at `inner_lr`; the paper draws them uniformly from [0.005, 0.1].
//! * The paper takes one inner step; `inner_steps` allows more, with the same rates at each.

use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Steps, Toy,
        adapt::Adaptable,
        inner_loop::{InnerLoop, InnerStep, Unrolled, UnrolledLearner},
    },
    nn::{Pass, encoder::Architecture},
    params::Params,
    primitives::Primitives,
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

/// Prefix of the paths of the rates.
const RATES: &str = "rates";

settings! {
    /// Settings of Meta-SGD.
    pub struct MetaSgdSettings {
        /// First value of every rate `α`.
        inner_lr: f64 = 0.1, above(0.0);
        /// Inner steps `K` in training.
        inner_steps: usize = 1, size(1);
        /// Inner steps at validation and test.
        test_steps: usize = 1, size(1);
        /// Whether the graph of only one inner step is held at a time: less memory, more time, the
        /// same gradient.
        checkpoint_inner_steps: bool = false;
    }
}

impl LearnerSettings for MetaSgdSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "meta_sgd",
        family: Family::Gradient,
        summary: "MAML that also learns an inner learning rate for every parameter",
        paper: "Li et al., Meta-SGD, arXiv:1707.09835, 2017",
        regression: true,
        any_way: false,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_one_way(Self::INFO.name)
    }

    fn steps(&self) -> Steps {
        self.inner_loop().cost()
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({"inner_lr": 0.1, "inner_steps": 1, "test_steps": 1}),
            json!({"inner_lr": 0.1, "inner_steps": 3, "test_steps": 3}),
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
        let rates = theta.constants(self.inner_lr, <[usize]>::to_vec);
        let parameters = theta.join(rates.with_prefix(RATES));
        UnrolledLearner::boxed(self, network, parameters)
    }
}

impl Unrolled for MetaSgdSettings {
    fn inner_loop(&self) -> InnerLoop {
        InnerLoop {
            steps: self.inner_steps,
            test_steps: self.test_steps,
            checkpoint: self.checkpoint_inner_steps,
        }
    }

    /// `θ` of every task; `α` is shared.
    fn start<A: Architecture, L: Primitives>(
        &self,
        _network: &Adaptable<A, L::Device>,
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
        _pass: &Pass<L>,
    ) -> Params<L> {
        shared.outside(RATES).fan_out(tasks.tasks())
    }

    /// `θ ← θ − α ∘ ∇ Σ_tasks L_s(θ)`.
    fn step<L: Primitives>(
        &self,
        _at: &InnerStep<L>,
        theta: Params<L>,
        gradients: &Params<L>,
        shared: &Params<L>,
    ) -> Params<L> {
        let rates = shared.under(RATES);
        let steps = gradients
            .clone()
            .zip(&rates, |gradient, rate| L::float_mul(gradient, rate));
        theta.zip(&steps, |theta, step| L::float_sub(theta, step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, learner, spec, tasks, values};

    /// Where every rate is 0, no step moves anything.
    #[test]
    fn a_rate_of_zero_holds_its_parameter() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let mut still = learner("meta_sgd", json!({"test_steps": 3}), &spec);
        let parameters = still.parameters();
        let rates = parameters.under(RATES).scale(0.0).with_prefix(RATES);
        still.set_parameters(parameters.overwrite(rates));
        let answers: Vec<_> = still
            .predict(&tasks, PredictAt::EveryStep)
            .into_iter()
            .map(values)
            .collect();
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
        let moving = learner("meta_sgd", json!({"test_steps": 1}), &spec)
            .predict(&tasks, PredictAt::EveryStep);
        assert_ne!(values(moving[0].clone()), values(moving[1].clone()));
    }

    #[test]
    #[should_panic(expected = "`rates.head.bias`")]
    fn parameters_without_rates_are_refused() {
        let spec = spec(3, 1);
        let mut meta_sgd = learner("meta_sgd", json!({}), &spec);
        let parameters = meta_sgd.parameters();
        let mut rates = parameters.under(RATES);
        rates = rates.outside("head").join({
            let mut weight = meta_core::params::Params::default();
            weight.push("head.weight", rates.get::<3>("head.weight").unwrap());
            weight
        });
        meta_sgd.set_parameters(parameters.outside(RATES).join(rates.with_prefix(RATES)));
    }
}
