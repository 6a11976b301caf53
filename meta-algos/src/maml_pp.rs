//! MAML++: MAML made stable.
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
//! * The weights `vᵢ` are annealed: with `p` the share of the annealed part of training that is done,
//!   `vᵢ = max((1 − p) / K, 0.03 / K)` for `i < K`, and `v_K` is the rest of 1. From the end of that
//!   part on, `v_K = 1` alone counts: MAML's loss.
//! * Derivative-order annealing (DA): the inner gradients are constants in the first part of training
//!   and differentiated in the rest.
//! * Weights and biases of normalisations per step (BNWB): step `i` has its own `γⁱ`, `βⁱ`, learned
//!   and not adapted. Running statistics per step (BNRS), with `encoder.norm = "running"`: so do they.
//!   The queries after step `i` are normalised with those of step `i`.
//!
//! At test the steps are those of training, since there are rates for no others.
//!
//! # Differences from the paper
//! * Rates are per tensor (weights and bias apart), as in the authors' code; the paper speaks of
//!   layers.
//! * The weights are annealed at every iteration, the authors' code does it once an epoch (of 500
//!   iterations, 100 epochs in all). The last step's floor of 0.03 is from the code.
//! * The paper's derivative-order annealing is first order for half of the epochs; the configurations
//!   that the authors publish for their results are second order throughout, and so is the default.
//! * The running statistics of a step are the mean of what the support and the queries after it lead
//!   to. The authors' code collects them, but normalises by the items of the pass even at test, which
//!   is `encoder.norm = "episode"` here.
//! * The cosine schedule of the outer rate is the manifest's (`train.schedule`).

use meta_core::{
    Result,
    adapt::Adaptable,
    learner::{Family, GradientOf, Learner, LearnerInfo, LearnerSettings},
    nn::{
        Pass,
        encoder::Architecture,
        norm::{Statistics, belongs_to_norm},
    },
    params::Params,
    primitives::Primitives,
    rng::Seed,
    settings::{above_zero, at_least_one, in_unit},
    task::{TaskBatch, TaskSpec},
    unroll::{InnerStep, Order, Unrolled, UnrolledLearner},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Prefix of the paths of the rates; the step follows, counted from 0.
const RATES: &str = "rates";

/// Prefix of the paths of the normalisations of all steps but the first; the step follows.
const NORMS: &str = "norms";

/// What is left of the weight of a loss that is annealed away, times the number of steps.
const LOSS_FLOOR: f64 = 0.03;

/// After which inner steps the query loss counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepLosses {
    /// After every one, first with equal weights, then more and more after the last alone.
    Annealed,
    /// After every one, with equal weights.
    Every,
    /// After the last one alone.
    Last,
}

/// Settings of [`MamlPlusPlus`]; the defaults are the paper's for Omniglot (section 5.2, and the
/// configurations of the authors' code).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MamlPpSettings {
    /// First value of every rate `α`, above 0.
    pub inner_lr: f64,
    /// Inner steps `K`, in training and at test, at least 1.
    pub inner_steps: usize,
    /// After which steps the query loss counts: `annealed` (multi-step loss, moving to the last step),
    /// `every` or `last`.
    pub losses: StepLosses,
    /// Share of training in which `annealed` losses move to the last step, above 0.
    pub anneal_fraction: f64,
    /// Share of training with inner gradients as constants (first order), in [0, 1).
    pub first_order_fraction: f64,
    /// Whether every step has weights, biases and running statistics of normalisations of its own,
    /// which do not adapt; otherwise weights and biases adapt like other parameters.
    pub per_step_norm: bool,
    /// Whether the graph of only one inner step is held at a time: less memory, more time, the same
    /// gradient.
    pub checkpoint_inner_steps: bool,
}

impl Default for MamlPpSettings {
    fn default() -> Self {
        MamlPpSettings {
            inner_lr: 0.1,
            inner_steps: 5,
            losses: StepLosses::Annealed,
            anneal_fraction: 0.1,
            first_order_fraction: 0.0,
            per_step_norm: true,
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
        above_zero("learner.anneal_fraction", self.anneal_fraction)?;
        in_unit("learner.first_order_fraction", self.first_order_fraction)?;
        spec.require_one_way(Self::INFO.name)
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Training(
            "weighted query losses after every step",
            vec![
                json!({"inner_lr": 0.1, "inner_steps": 2}),
                json!({"inner_lr": 0.1, "inner_steps": 2, "losses": "last"}),
                json!({"inner_lr": 0.1, "inner_steps": 2, "per_step_norm": false}),
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
        // A normalisation that averages over nothing is a bias, which adapts.
        let per_step = self.per_step_norm && architecture.statistics() != Statistics::None;
        let network = Adaptable::<A, B>::new(architecture, spec.outputs(), device);
        let theta = network.draw(seed);
        let held = |path: &str| per_step && belongs_to_norm(path);
        let norms = theta.filter(held);
        let rates = theta
            .filter(|path| !held(path))
            .constants(self.inner_lr, |shape| vec![1; shape.len()]);
        let steps = 0..self.inner_steps;
        let parameters = steps.clone().fold(theta, |all, step| {
            all.join(rates.clone().with_prefix(&format!("{RATES}.{step}")))
        });
        let parameters = steps.skip(1).fold(parameters, |all, step| {
            all.join(norms.clone().with_prefix(&format!("{NORMS}.{step}")))
        });
        Ok(Box::new(UnrolledLearner::<A, _>::new(MamlPlusPlus {
            parameters,
            settings: self,
            network,
            per_step,
        })))
    }
}

/// MAML++ on the backend `B`.
pub struct MamlPlusPlus<A: Architecture, B: Primitives> {
    settings: MamlPpSettings,
    network: Adaptable<A, B>,
    /// Whether every step has normalisations of its own.
    per_step: bool,
    /// `θ` with the normalisations of step 0, then `α` below `rates.<step>` and the normalisations of
    /// the other steps below `norms.<step>`; each `[1, …]`.
    parameters: Params<B>,
}

impl<A: Architecture, B: Primitives> MamlPlusPlus<A, B> {
    /// The network of a task: its adapted weights `state`, the normalisations of step `index`.
    fn at_step<L: Primitives>(
        &self,
        index: usize,
        state: &Params<L>,
        shared: &Params<L>,
    ) -> Params<L> {
        match self.per_step {
            true => shared
                .outside(RATES)
                .outside(NORMS)
                .overwrite(shared.under(&format!("{NORMS}.{index}")))
                .overwrite(state.clone()),
            false => state.clone(),
        }
    }
}

impl<A: Architecture, B: Primitives> Unrolled<A, B> for MamlPlusPlus<A, B> {
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

    fn order(&self, progress: f64) -> Order {
        match progress < self.settings.first_order_fraction {
            true => Order::First,
            false => Order::Second,
        }
    }

    fn checkpoint_inner_steps(&self) -> bool {
        self.settings.checkpoint_inner_steps
    }

    fn loss_weights(&self, progress: f64) -> Vec<f64> {
        let steps = self.steps();
        let equal = 1.0 / steps as f64;
        let done = progress / self.settings.anneal_fraction;
        let before_last = match self.settings.losses {
            StepLosses::Every => equal,
            StepLosses::Annealed if done < 1.0 => equal * (1.0 - done).max(LOSS_FLOOR),
            StepLosses::Annealed | StepLosses::Last => 0.0,
        };
        let mut weights = vec![before_last; steps];
        weights[steps - 1] = 1.0 - before_last * (steps - 1) as f64;
        weights
    }

    /// What adapts: all but rates and, where every step has its own, normalisations.
    fn start<L: Primitives<Device = B::Device>>(
        &self,
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
        _pass: &Pass<L>,
    ) -> Params<L> {
        let theta = shared.outside(RATES).outside(NORMS);
        let adapted = match self.per_step {
            true => theta.filter(|path| !belongs_to_norm(path)),
            false => theta,
        };
        adapted.fan_out(tasks.tasks())
    }

    /// `θ_l ← θ_l − α_l ∇_l Σ_tasks L_s(θ)`, with the rates of this step.
    fn step<L: Primitives<Device = B::Device>>(
        &self,
        at: &InnerStep<L>,
        state: Params<L>,
        shared: &Params<L>,
    ) -> Params<L> {
        let gradients = at.gradient(&self.network, &self.at_step(at.index, &state, shared));
        let rates = shared.under(&format!("{RATES}.{}", at.index));
        let steps = rates.zip(&gradients, |rate, gradient| L::float_mul(gradient, rate));
        state.zip(&steps, |theta, step| L::float_sub(theta, step))
    }

    fn weights<L: Primitives<Device = B::Device>>(
        &self,
        state: &Params<L>,
        shared: &Params<L>,
        steps: usize,
    ) -> Params<L> {
        self.at_step(steps.saturating_sub(1), state, shared)
    }

    fn buffers<L: Primitives>(
        &self,
        index: usize,
        support: Params<L>,
        query: Option<Params<L>>,
    ) -> Params<L> {
        let last = index + 1 == self.steps();
        match (self.per_step, query) {
            (false, query) => query.filter(|_| last).unwrap_or_default(),
            (true, query) => {
                let both = match query {
                    Some(query) => support.mix(0.5, &query),
                    None => support,
                };
                match index {
                    0 => both,
                    _ => both.with_prefix(&format!("{NORMS}.{index}")),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{encoder, learner, spec, tasks, values};
    use meta_core::{backend::Cpu, nn::encoder::EncoderSpec};
    use serde_json::json;

    /// A rate for every tensor and step.
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

    /// Equal at first, all on the last step after the annealed part, in sum 1 throughout.
    #[test]
    fn losses_move_to_the_last_step() {
        let settings = MamlPpSettings {
            inner_steps: 4,
            anneal_fraction: 0.5,
            ..MamlPpSettings::default()
        };
        let architecture = encoder();
        let maml_pp = MamlPlusPlus::<_, Cpu> {
            network: Adaptable::new(architecture, 3, &Default::default()),
            parameters: Params::default(),
            per_step: false,
            settings,
        };
        for (progress, before_last) in [
            (0.0, 0.25),
            (0.25, 0.125),
            (0.499, 0.03 / 4.0),
            (0.5, 0.0),
            (0.9, 0.0),
        ] {
            let weights = maml_pp.loss_weights(progress);
            let expected = [vec![before_last; 3], vec![1.0 - 3.0 * before_last]].concat();
            for (weight, expected) in weights.iter().zip(expected) {
                assert!((weight - expected).abs() < 1e-15, "{progress}: {weights:?}");
            }
        }
    }

    /// With running statistics every step keeps its own, and what belongs to normalisations has no
    /// rates; without statistics per step there is one set, that of the queries.
    #[test]
    fn every_step_has_its_statistics() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let running =
            EncoderSpec::new("mlp", &json!({"hidden": [8], "norm": "running"}), spec.item);
        let build = |settings| {
            let (encoder, device) = (running.as_ref().unwrap().clone(), Default::default());
            crate::build::<_, Cpu>("maml_pp", &settings, encoder, &spec, Seed(1), &device).unwrap()
        };
        let maml_pp = build(json!({"inner_steps": 3, "losses": "last"}));
        let buffers = maml_pp.meta_gradient(&tasks).buffers;
        let of_step = |step: &str| {
            let of_step = match step {
                "0" => buffers.outside(NORMS),
                step => buffers.under(NORMS).under(step),
            };
            let mean = of_step.get::<3>("encoder.norms.0.running_mean");
            values(mean.expect("a mean for every step"))
        };
        // Weights differ from step to step, so the items look different.
        assert_ne!(of_step("1"), of_step("2"));
        assert_ne!(of_step("0"), of_step("1"));
        assert_eq!(buffers.len(), 6);
        let names = maml_pp.parameters();
        assert!(
            names
                .names()
                .all(|name| !name.starts_with(RATES) || !belongs_to_norm(name))
        );
        let adapting = build(json!({"inner_steps": 3, "per_step_norm": false}));
        assert!(adapting.parameters().under(NORMS).is_empty());
        assert_eq!(adapting.meta_gradient(&tasks).buffers.len(), 2);
    }
}
