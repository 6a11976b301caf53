//! MAML++: a rate for every layer and step, and a loss after every step.
//!
//! Antoniou, Edwards and Storkey, *How to train your MAML*, ICLR 2019.
//!
//! Every parameter tensor `l` has a learned rate for every inner step, and the queries are scored
//! after every step (section 4):
//!
//! ```text
//! θ_lⁱ⁺¹ = θ_lⁱ − α_lⁱ ∇_l L_s(θⁱ)                               (LSLR)
//! meta-gradient = ∇_(θ, α) mean over tasks of Σᵢ vᵢ L_q(θⁱ), i = 1 … K   (eq. 4, MSL)
//! ```
//!
//! `losses = "every"` weighs the steps equally, `vᵢ = 1 / K`; `losses = "last"` is MAML's loss,
//! `v_K = 1`. The meta-gradient is exact. At test the steps are those of training, since there are
//! rates for no others.
//!
//! # Differences from the paper
//! * No annealing: the paper moves the weights `vᵢ` from equal to the last step and the order of the
//!   derivatives from first to second during training. A learner here does not know the iteration;
//!   the order is second throughout.
//! * No normalisation statistics and biases per step (BNRS, BNWB): `encoder.norm` says what is
//!   averaged over.
//! * The cosine schedule of the outer rate is the manifest's (`train.schedule`).

use burn::tensor::Tensor;
use meta_core::{
    Result,
    adapt::Adaptable,
    learner::{Answers, Family, GradientOf, Learner, LearnerInfo, LearnerSettings, MetaGradient},
    nn::encoder::Architecture,
    params::Params,
    primitives::Primitives,
    rng::Seed,
    settings::{above_zero, at_least_one},
    task::{TaskBatch, TaskSpec},
    unroll::{self, InnerStep, Unrolled},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Prefix of the paths of the rates; the step follows, counted from 0.
const RATES: &str = "rates";

/// After which inner steps the query loss counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepLosses {
    /// After every one, with equal weights.
    Every,
    /// After the last one alone.
    Last,
}

/// Settings of [`MamlPlusPlus`]; the defaults are the paper's for Omniglot (section 5.2).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MamlPpSettings {
    /// First value of every rate `α`, above 0.
    pub inner_lr: f64,
    /// Inner steps `K`, in training and at test, at least 1.
    pub inner_steps: usize,
    /// After which steps the query loss counts: `every` (multi-step loss) or `last`.
    pub losses: StepLosses,
    /// Whether the graph of only one inner step is held at a time: less memory, more time, the same
    /// gradient.
    pub checkpoint_inner_steps: bool,
}

impl Default for MamlPpSettings {
    fn default() -> Self {
        MamlPpSettings {
            inner_lr: 0.1,
            inner_steps: 5,
            losses: StepLosses::Every,
            checkpoint_inner_steps: false,
        }
    }
}

impl LearnerSettings for MamlPpSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "maml_pp",
        family: Family::Gradient,
        summary: "MAML with a learned rate per layer and step, and a query loss after every step",
        paper: "Antoniou et al., How to train your MAML, ICLR 2019",
        regression: true,
        any_way: false,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        above_zero("learner.inner_lr", self.inner_lr)?;
        at_least_one("learner.inner_steps", self.inner_steps)?;
        spec.require_one_way(Self::INFO.name)
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Training(
            "mean of the query losses after every step",
            vec![
                json!({"inner_lr": 0.1, "inner_steps": 2}),
                json!({"inner_lr": 0.1, "inner_steps": 2, "losses": "last"}),
            ],
        )
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
        let rates = theta.constants(self.inner_lr, |shape| vec![1; shape.len()]);
        let parameters = (0..self.inner_steps).fold(theta, |all, step| {
            all.join(rates.clone().with_prefix(&format!("{RATES}.{step}")))
        });
        Ok(Box::new(MamlPlusPlus {
            parameters,
            settings: self,
            network,
        }))
    }
}

/// MAML++ on the backend `B`.
pub struct MamlPlusPlus<A: Architecture, B: Primitives> {
    settings: MamlPpSettings,
    network: Adaptable<A, B>,
    /// `θ`, then `α` below `rates.<step>`, each `[1, …]`.
    parameters: Params<B>,
}

impl<A: Architecture, B: Primitives> Unrolled<A, B> for MamlPlusPlus<A, B> {
    fn network(&self) -> &Adaptable<A, B> {
        &self.network
    }

    fn steps(&self) -> usize {
        self.settings.inner_steps
    }

    fn checkpoint_inner_steps(&self) -> bool {
        self.settings.checkpoint_inner_steps
    }

    fn loss_weights(&self, _progress: f64) -> Vec<f64> {
        let steps = self.steps();
        match self.settings.losses {
            StepLosses::Every => vec![1.0 / steps as f64; steps],
            StepLosses::Last => (1..=steps).map(|step| f64::from(step == steps)).collect(),
        }
    }

    fn start<L: Primitives<Device = B::Device>>(
        &self,
        shared: &Params<L>,
        tasks: usize,
    ) -> Params<L> {
        shared.outside(RATES).fan_out(tasks)
    }

    /// `θ_l ← θ_l − α_l ∇_l Σ_tasks L_s(θ)`, with the rates of this step.
    fn step<L: Primitives<Device = B::Device>>(
        &self,
        at: &InnerStep<L>,
        state: Params<L>,
        shared: &Params<L>,
    ) -> Params<L> {
        let gradients = at.gradient(&self.network, &state);
        let rates = shared.under(RATES).under(&at.index.to_string());
        let steps = gradients.zip(&rates, |gradient, rate| L::float_mul(gradient, rate));
        state.zip(&steps, |theta, step| L::float_sub(theta, step))
    }
}

impl<A: Architecture, B: Primitives> Learner<B> for MamlPlusPlus<A, B> {
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
        unroll::meta_gradient(self, &self.parameters, tasks)
    }

    fn predict(&self, tasks: &TaskBatch<B>, answers: Answers) -> Vec<Tensor<B, 3>> {
        let steps = self.settings.inner_steps;
        unroll::predict(self, &self.parameters, tasks, steps, answers)
    }
}

#[cfg(test)]
mod tests {
    use crate::toy::{learner, spec, tasks, values};
    use serde_json::json;

    /// A rate for every tensor and step; all but the last learn only with a loss after it.
    #[test]
    fn every_step_has_its_rates() {
        let spec = spec(3, 2);
        let maml_pp = learner("maml_pp", json!({"inner_steps": 2}), &spec);
        let theta = maml_pp.parameters().outside("rates").len();
        for step in ["0", "1"] {
            let rates = maml_pp.parameters().under("rates").under(step);
            assert_eq!(rates.len(), theta);
            assert_eq!(rates.num_elements(), theta);
        }
    }

    /// With one step, the loss after every step is that after the last.
    #[test]
    fn one_step_has_one_loss() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let loss = |losses: &str, steps: usize| {
            let settings = json!({"losses": losses, "inner_steps": steps});
            values(
                learner("maml_pp", settings, &spec)
                    .meta_gradient(&tasks)
                    .losses,
            )
        };
        assert_eq!(loss("every", 1), loss("last", 1));
        assert_ne!(loss("every", 3), loss("last", 3));
    }
}
