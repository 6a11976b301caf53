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
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Steps, Toy,
        adapt::Adaptable,
        inner_loop::{InnerLoop, InnerStep, Order, Unrolled, UnrolledLearner},
    },
    nn::{
        Pass,
        encoder::Architecture,
        norm::{Statistics, belongs_to_norm},
    },
    params::Params,
    primitives::Primitives,
    settings,
    task::{TaskBatch, TaskSpec},
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

settings! {
    /// Settings of MAML++; the defaults are the paper's for Omniglot (section 5.2, and the
    /// configurations of the authors' code).
    pub struct MamlPpSettings {
        /// First value of every rate `α`.
        inner_lr: f64 = 0.1, above(0.0);
        /// Inner steps `K`, in training and at test.
        inner_steps: usize = 5, size(1);
        /// After which steps the query loss counts: `annealed` (multi-step loss, moving to the last
        /// step), `every` or `last`.
        losses: StepLosses = StepLosses::Annealed;
        /// Share of training in which `annealed` losses move to the last step.
        anneal_fraction: f64 = 0.1, above(0.0);
        /// Share of training with inner gradients as constants (first order).
        first_order_fraction: f64 = 0.0, below_one();
        /// Whether every step has weights, biases and running statistics of normalisations of its
        /// own, which do not adapt; otherwise weights and biases adapt like other parameters.
        per_step_norm: bool = true;
        /// Whether the graph of only one inner step is held at a time: less memory, more time, the
        /// same gradient.
        checkpoint_inner_steps: bool = false;
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
        spec.require_one_way(Self::INFO.name)
    }

    fn steps(&self) -> Steps {
        self.inner_loop().cost()
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

    fn toy() -> Toy {
        Toy {
            settings: json!({"inner_lr": 0.1, "inner_steps": 2}),
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        // A normalisation that averages over nothing is a bias, which adapts.
        let per_step = self.per_step_norm && new.architecture.statistics() != Statistics::None;
        let network = new.network();
        let theta = network.draw(new.seed);
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
        let rule = MamlPlusPlus {
            settings: self,
            per_step,
        };
        UnrolledLearner::boxed(rule, network, parameters)
    }
}

impl MamlPpSettings {
    fn inner_loop(&self) -> InnerLoop {
        InnerLoop {
            steps: self.inner_steps,
            test_steps: self.inner_steps,
            checkpoint: self.checkpoint_inner_steps,
        }
    }
}

/// How MAML++ adapts.
///
/// Its parameters are `θ` with the normalisations of step 0, then `α` below `rates.<step>` and the
/// normalisations of the other steps below `norms.<step>`.
struct MamlPlusPlus {
    settings: MamlPpSettings,
    /// Whether every step has normalisations of its own.
    per_step: bool,
}

impl Unrolled for MamlPlusPlus {
    fn inner_loop(&self) -> InnerLoop {
        self.settings.inner_loop()
    }

    fn order(&self, progress: f64) -> Order {
        if progress < self.settings.first_order_fraction {
            Order::First
        } else {
            Order::Second
        }
    }

    fn loss_weights(&self, progress: f64) -> Vec<f64> {
        let steps = self.settings.inner_steps;
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
    fn start<A: Architecture, L: Primitives>(
        &self,
        _network: &Adaptable<A, L::Device>,
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
        _pass: &Pass<L>,
    ) -> Params<L> {
        let theta = shared.outside(RATES).outside(NORMS);
        let adapted = if self.per_step {
            theta.filter(|path| !belongs_to_norm(path))
        } else {
            theta
        };
        adapted.fan_out(tasks.tasks())
    }

    /// `θ_l ← θ_l − α_l ∇_l Σ_tasks L_s(θ)`, with the rates of this step.
    fn step<L: Primitives>(
        &self,
        at: &InnerStep<L>,
        theta: Params<L>,
        gradients: &Params<L>,
        shared: &Params<L>,
    ) -> Params<L> {
        let rates = shared.under(&format!("{RATES}.{}", at.index));
        let steps = rates.zip(gradients, |rate, gradient| L::float_mul(gradient, rate));
        theta.zip(&steps, |theta, step| L::float_sub(theta, step))
    }

    fn weights<L: Primitives>(
        &self,
        state: &Params<L>,
        shared: &Params<L>,
        steps: usize,
    ) -> Params<L> {
        self.weights_of_step(state, shared, steps.saturating_sub(1))
    }

    /// The adapted weights, with the normalisations of step `index`.
    fn weights_of_step<L: Primitives>(
        &self,
        state: &Params<L>,
        shared: &Params<L>,
        index: usize,
    ) -> Params<L> {
        if self.per_step {
            shared
                .outside(RATES)
                .outside(NORMS)
                .overwrite(shared.under(&format!("{NORMS}.{index}")))
                .overwrite(state.clone())
        } else {
            state.clone()
        }
    }

    fn buffers<L: Primitives>(
        &self,
        index: usize,
        support: Params<L>,
        query: Option<Params<L>>,
    ) -> Params<L> {
        let last = index + 1 == self.settings.inner_steps;
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
    use crate::toy::{learner, spec, tasks, values};
    use meta_core::{backend::Cpu, nn::encoder::EncoderSpec, rng::Seed};
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
        let maml_pp = MamlPlusPlus {
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
