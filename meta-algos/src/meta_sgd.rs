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
    adapt::Adaptable,
    learner::{Family, GradientOf, Learner, LearnerInfo, LearnerSettings},
    nn::{Pass, encoder::Architecture},
    params::Params,
    primitives::Primitives,
    rng::Seed,
    settings::{above_zero, at_least_one},
    task::{TaskBatch, TaskSpec},
    unroll::{InnerStep, Unrolled, UnrolledLearner},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Prefix of the paths of the rates.
const RATES: &str = "rates";

/// Settings of [`MetaSgd`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetaSgdSettings {
    /// First value of every rate `α`, above 0.
    pub inner_lr: f64,
    /// Inner steps `K` in training, at least 1.
    pub inner_steps: usize,
    /// Inner steps at validation and test, at least 1.
    pub test_steps: usize,
    /// Whether the graph of only one inner step is held at a time: less memory, more time, the same
    /// gradient.
    pub checkpoint_inner_steps: bool,
}

impl Default for MetaSgdSettings {
    fn default() -> Self {
        MetaSgdSettings {
            inner_lr: 0.1,
            inner_steps: 1,
            test_steps: 1,
            checkpoint_inner_steps: false,
        }
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
        above_zero("learner.inner_lr", self.inner_lr)?;
        at_least_one("learner.inner_steps", self.inner_steps)?;
        at_least_one("learner.test_steps", self.test_steps)?;
        spec.require_one_way(Self::INFO.name)
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({"inner_lr": 0.1, "inner_steps": 1, "test_steps": 1}),
            json!({"inner_lr": 0.1, "inner_steps": 3, "test_steps": 3}),
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
        let network = Adaptable::<A, B>::new(architecture, spec.outputs(), device);
        let theta = network.draw(seed);
        let rates = theta.constants(self.inner_lr, <[usize]>::to_vec);
        Ok(Box::new(UnrolledLearner::<A, _>::new(MetaSgd {
            parameters: theta.join(rates.with_prefix(RATES)),
            settings: self,
            network,
        })))
    }
}

/// Meta-SGD on the backend `B`.
pub struct MetaSgd<A: Architecture, B: Primitives> {
    settings: MetaSgdSettings,
    network: Adaptable<A, B>,
    /// `θ`, then `α` below `rates`, each `[1, …]`.
    parameters: Params<B>,
}

impl<A: Architecture, B: Primitives> Unrolled<A, B> for MetaSgd<A, B> {
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

    fn checkpoint_inner_steps(&self) -> bool {
        self.settings.checkpoint_inner_steps
    }

    fn start<L: Primitives<Device = B::Device>>(
        &self,
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
        _pass: &Pass<L>,
    ) -> Params<L> {
        shared.outside(RATES).fan_out(tasks.tasks())
    }

    /// `θ ← θ − α ∘ ∇ Σ_tasks L_s(θ)`.
    fn step<L: Primitives<Device = B::Device>>(
        &self,
        at: &InnerStep<L>,
        state: Params<L>,
        shared: &Params<L>,
    ) -> Params<L> {
        let gradients = at.gradient(&self.network, &state);
        let rates = shared.under(RATES);
        let steps = gradients.zip(&rates, |gradient, rate| L::float_mul(gradient, rate));
        state.zip(&steps, |theta, step| L::float_sub(theta, step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Answers, learner, spec, tasks, values};

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
            .predict(&tasks, Answers::EveryStep)
            .into_iter()
            .map(values)
            .collect();
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
        let moving = learner("meta_sgd", json!({"test_steps": 1}), &spec)
            .predict(&tasks, Answers::EveryStep);
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
