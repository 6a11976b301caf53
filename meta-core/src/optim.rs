//! Optimisers as differentiable functions of (parameters, gradients, state).
//!
//! The same code updates meta-parameters in the outer loop (on a plain backend) and fast weights in
//! an inner loop (on an autodiff level, where the update is differentiated).

use burn::tensor::{backend::Backend, ops::FloatTensor};
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    params::Params,
    settings::{above_zero, at_least_zero, in_unit},
};

/// Which update rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Kingma and Ba, *Adam*, ICLR 2015, algorithm 1; weight decay is added to the gradient.
    Adam,
    /// Loshchilov and Hutter, *Decoupled weight decay regularization*, ICLR 2019, algorithm 2.
    AdamW,
    /// Gradient descent, with heavy-ball momentum where `momentum > 0`.
    Sgd,
}

/// Settings of an optimiser; the learning rate is given at each step, by a schedule.
///
/// * `adam`: `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`,
///   `θ ← θ − η · m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ) + ε_root) + ε)`
/// * `sgd`: `m ← μm + g`, `θ ← θ − η m`
///
/// Weight decay `λ` adds `λθ` to `g` (`adam`, `sgd`) or subtracts `ηλθ` from `θ` (`adamw`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OptimizerSettings {
    /// Update rule: `adam`, `adamw` or `sgd`.
    pub optimizer: OptimizerKind,
    /// `μ` of `sgd`, in [0, 1).
    pub momentum: f64,
    /// `β₁` of `adam` and `adamw`, in [0, 1).
    pub beta1: f64,
    /// `β₂` of `adam` and `adamw`, in [0, 1).
    pub beta2: f64,
    /// `ε` of `adam` and `adamw`, above 0.
    pub epsilon: f64,
    /// `ε_root` of `adam` and `adamw`, at least 0; an optimiser that is differentiated needs it above
    /// 0, as the root has no derivative at 0.
    pub epsilon_root: f64,
    /// `λ`, at least 0.
    pub weight_decay: f64,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        OptimizerSettings {
            optimizer: OptimizerKind::Adam,
            momentum: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            epsilon_root: 0.0,
            weight_decay: 0.0,
        }
    }
}

impl OptimizerSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] naming the key under `section`.
    pub fn check(&self, section: &str) -> Result<()> {
        let key = |name: &str| format!("{section}.{name}");
        for (name, value) in [
            ("momentum", self.momentum),
            ("beta1", self.beta1),
            ("beta2", self.beta2),
        ] {
            in_unit(&key(name), value)?;
        }
        above_zero(&key("epsilon"), self.epsilon)?;
        at_least_zero(&key("epsilon_root"), self.epsilon_root)?;
        at_least_zero(&key("weight_decay"), self.weight_decay)
    }
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
pub fn step<B: Backend>(
    settings: &OptimizerSettings,
    lr: f64,
    parameters: Params<B>,
    gradients: &Params<B>,
    state: OptimizerState<B>,
) -> (Params<B>, OptimizerState<B>) {
    let mul = |a: FloatTensor<B>, factor: f64| B::float_mul_scalar(a, factor.into());
    let descend = |parameters: Params<B>, direction: &Params<B>| {
        parameters.zip(direction, |theta, d| B::float_sub(theta, mul(d, lr)))
    };
    let decay = settings.weight_decay;
    let coupled = decay != 0.0 && settings.optimizer != OptimizerKind::AdamW;
    let gradients = match coupled {
        true => gradients
            .clone()
            .zip(&parameters, |g, theta| B::float_add(g, mul(theta, decay))),
        false => gradients.clone(),
    };
    let step = state.step + 1;
    let mut moments = state.moments.into_iter();
    // The moving average `decay · m + (1 − decay) · g`, from zero at the first step.
    let average = |moment: Option<Params<B>>, decay: f64, value: Params<B>| match moment {
        Some(moment) => moment.zip(&value, |m, g| {
            B::float_add(mul(m, decay), mul(g, 1.0 - decay))
        }),
        None => value.scale(1.0 - decay),
    };
    match settings.optimizer {
        OptimizerKind::Sgd if settings.momentum == 0.0 => (
            descend(parameters, &gradients),
            OptimizerState {
                step,
                moments: Vec::new(),
            },
        ),
        OptimizerKind::Sgd => {
            let velocity = match moments.next() {
                Some(velocity) => velocity.scale(settings.momentum).plus(&gradients),
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
            let squares = gradients.clone().map(|g| B::float_mul(g.clone(), g));
            let first = average(moments.next(), settings.beta1, gradients);
            let second = average(moments.next(), settings.beta2, squares);
            let exponent = i32::try_from(step).unwrap_or(i32::MAX);
            let first_correction = 1.0 / (1.0 - settings.beta1.powi(exponent));
            let second_correction = 1.0 / (1.0 - settings.beta2.powi(exponent));
            let direction = first.clone().zip(&second, |m, v| {
                let corrected = mul(v, second_correction);
                let root = B::float_sqrt(match settings.epsilon_root {
                    0.0 => corrected,
                    epsilon => B::float_add_scalar(corrected, epsilon.into()),
                });
                B::float_div(
                    mul(m, first_correction),
                    B::float_add_scalar(root, settings.epsilon.into()),
                )
            });
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
