//! Optimisers as differentiable functions of (parameters, gradients, state).
//!
//! The same code updates meta-parameters in the outer loop (on a plain backend) and fast weights in
//! an inner loop (on an autodiff level, where the update is differentiated).

use burn::tensor::{backend::Backend, ops::FloatTensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    params::Params,
    primitives::{AdamCorrections, Primitives},
    settings,
    settings::{Field, Settings},
};

/// Which update rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Kingma and Ba, *Adam*, ICLR 2015, algorithm 1; weight decay is added to the gradient.
    #[default]
    Adam,
    /// Loshchilov and Hutter, *Decoupled weight decay regularization*, ICLR 2019, algorithm 2.
    AdamW,
    /// Gradient descent, with heavy-ball momentum where `momentum > 0`.
    Sgd,
}

settings! {
    /// What the update rules can be set to; the learning rate is given at each step, by a schedule.
    ///
    /// * `adam`: `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`,
    ///   `θ ← θ − η · m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ) + ε_root) + ε)`
    /// * `sgd`: `m ← μm + g`, `θ ← θ − η m`
    ///
    /// Weight decay `λ` adds `λθ` to `g` (`adam`, `sgd`) or subtracts `ηλθ` from `θ` (`adamw`).
    pub struct UpdateSettings {
        /// `μ` of `sgd`.
        momentum: f64 = 0.0, below_one();
        /// `β₁` of `adam` and `adamw`.
        beta1: f64 = 0.9, below_one();
        /// `β₂` of `adam` and `adamw`.
        beta2: f64 = 0.999, below_one();
        /// `ε` of `adam` and `adamw`.
        epsilon: f64 = 1e-8, above(0.0);
        /// `ε_root` of `adam` and `adamw`; an optimiser that is differentiated needs it above 0, as
        /// the root has no derivative at 0.
        epsilon_root: f64 = 0.0, at_least(0.0);
        /// `λ`.
        weight_decay: f64 = 0.0, at_least(0.0);
    }
}

/// An update rule of this module with its settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OptimizerSettings {
    /// Which rule.
    pub optimizer: OptimizerKind,
    /// Its settings.
    pub update: UpdateSettings,
}

impl OptimizerKind {
    /// The rule called `name` (`adam`, `adamw`, `sgd`).
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "adam" => Some(OptimizerKind::Adam),
            "adamw" => Some(OptimizerKind::AdamW),
            "sgd" => Some(OptimizerKind::Sgd),
            _ => None,
        }
    }
}

/// An update rule on the backend `B`, as the outer loop uses it.
pub trait Optimizer<B: Backend>: Send + Sync {
    /// One step with learning rate `lr`: new parameters and new state; buffers stay.
    fn step(
        &self,
        lr: f64,
        parameters: Params<B>,
        gradients: &Params<B>,
        state: OptimizerState<B>,
    ) -> (Params<B>, OptimizerState<B>);
}

impl<B: Primitives> Optimizer<B> for OptimizerSettings {
    fn step(
        &self,
        lr: f64,
        parameters: Params<B>,
        gradients: &Params<B>,
        state: OptimizerState<B>,
    ) -> (Params<B>, OptimizerState<B>) {
        step(self, lr, parameters, gradients, state)
    }
}

/// An update rule from another crate. Manifests can name it once it is in a toolkit
/// ([`toolkit!`](crate::toolkit!)).
///
/// Its own settings are keys of `[train]` beside those that every rule has.
pub trait OptimizerRule: Settings {
    /// Its name in manifests.
    const NAME: &str;

    /// What it is, in one line.
    const SUMMARY: &str;

    /// One step with learning rate `lr`: new parameters and new state; buffers stay. `update` are the
    /// keys that every rule has.
    fn step<B: Backend>(
        &self,
        update: &UpdateSettings,
        lr: f64,
        parameters: Params<B>,
        gradients: &Params<B>,
        state: OptimizerState<B>,
    ) -> (Params<B>, OptimizerState<B>);
}

/// A rule with the settings that every rule has.
pub struct OwnOptimizer<R> {
    /// The rule with its own settings.
    pub rule: R,
    /// The settings that every rule has.
    pub update: UpdateSettings,
}

impl<B: Backend, R: OptimizerRule> Optimizer<B> for OwnOptimizer<R> {
    fn step(
        &self,
        lr: f64,
        parameters: Params<B>,
        gradients: &Params<B>,
        state: OptimizerState<B>,
    ) -> (Params<B>, OptimizerState<B>) {
        let update = &self.update;
        self.rule.step(update, lr, parameters, gradients, state)
    }
}

/// An update rule that a manifest can name.
#[derive(Clone, Copy)]
pub struct OptimizerEntry {
    /// Its name.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// The settings that only it has, with their documentation.
    pub fields: fn() -> Vec<Field>,
    /// Their defaults, as an object.
    pub default_settings: fn() -> Value,
}

impl OptimizerEntry {
    /// The entry of the rule `R`.
    pub fn of<R: OptimizerRule>() -> Self {
        OptimizerEntry {
            name: R::NAME,
            summary: R::SUMMARY,
            fields: R::fields,
            default_settings: R::defaults,
        }
    }
}

/// The rules of this module.
pub fn optimizers() -> Vec<OptimizerEntry> {
    let built_in = |name, summary| OptimizerEntry {
        name,
        summary,
        fields: Vec::new,
        default_settings: || Value::Object(Default::default()),
    };
    vec![
        built_in("adam", "Kingma and Ba, Adam, ICLR 2015"),
        built_in(
            "adamw",
            "Adam with decoupled weight decay; Loshchilov and Hutter, ICLR 2019",
        ),
        built_in("sgd", "gradient descent, with momentum where it is above 0"),
    ]
}

/// What an optimiser remembers between steps.
#[derive(Clone, Debug)]
pub struct OptimizerState<B: Backend> {
    /// Steps taken.
    pub step: u64,
    /// `[m, v]` of Adam, `[m]` of momentum, nothing for plain gradient descent or before a step.
    pub moments: Vec<Params<B>>,
}

impl<B: Backend> OptimizerState<B> {
    /// The state before the first step.
    pub fn new() -> Self {
        OptimizerState {
            step: 0,
            moments: Vec::new(),
        }
    }
}

impl<B: Backend> Default for OptimizerState<B> {
    fn default() -> Self {
        Self::new()
    }
}

/// One step with learning rate `lr`: new parameters and new state; buffers stay.
///
/// Differentiable on an autodiff level in parameters, gradients and state.
///
/// # Panics
/// When `gradients` lacks a trainable entry of `parameters`.
pub fn step<B: Primitives>(
    settings: &OptimizerSettings,
    lr: f64,
    parameters: Params<B>,
    gradients: &Params<B>,
    state: OptimizerState<B>,
) -> (Params<B>, OptimizerState<B>) {
    let update = &settings.update;
    let mul = |a: FloatTensor<B>, factor: f64| B::float_mul_scalar(a, factor.into());
    let descend = |parameters: Params<B>, direction: &Params<B>| {
        parameters.zip(direction, |theta, d| B::sgd_step(theta, d, lr))
    };
    let decay = update.weight_decay;
    let coupled = decay != 0.0 && settings.optimizer != OptimizerKind::AdamW;
    let gradients = if coupled {
        gradients
            .clone()
            .zip(&parameters, |g, theta| B::float_add(g, mul(theta, decay)))
    } else {
        gradients.clone()
    };
    let step = state.step + 1;
    let mut moments = state.moments.into_iter();
    // From zero at the first step.
    let average = |moment: Option<Params<B>>, decay: f64, squared: bool| match moment {
        Some(moment) => moment.zip(&gradients, |m, g| B::average(Some(m), g, decay, squared)),
        None => gradients
            .clone()
            .map(|g| B::average(None, g, decay, squared)),
    };
    match settings.optimizer {
        OptimizerKind::Sgd if update.momentum == 0.0 => (
            descend(parameters, &gradients),
            OptimizerState {
                step,
                moments: Vec::new(),
            },
        ),
        OptimizerKind::Sgd => {
            let velocity = match moments.next() {
                Some(velocity) => velocity.scale(update.momentum).plus(&gradients),
                None => gradients,
            };
            (
                descend(parameters, &velocity),
                OptimizerState {
                    step,
                    moments: vec![velocity],
                },
            )
        }
        OptimizerKind::Adam | OptimizerKind::AdamW => {
            let first = average(moments.next(), update.beta1, false);
            let second = average(moments.next(), update.beta2, true);
            let exponent = i32::try_from(step).unwrap_or(i32::MAX);
            let corrections = AdamCorrections {
                first: 1.0 / (1.0 - update.beta1.powi(exponent)),
                second: 1.0 / (1.0 - update.beta2.powi(exponent)),
                epsilon: update.epsilon,
                epsilon_root: update.epsilon_root,
            };
            let direction = first
                .clone()
                .zip(&second, |m, v| B::adam_direction(m, v, &corrections));
            let parameters = match settings.optimizer {
                OptimizerKind::AdamW if decay != 0.0 => parameters.scale(1.0 - lr * decay),
                _ => parameters,
            };
            (
                descend(parameters, &direction),
                OptimizerState {
                    step,
                    moments: vec![first, second],
                },
            )
        }
    }
}
