//! Lion, an outer optimiser of this crate alone: Chen et al., *Symbolic discovery of optimization
//! algorithms*, NeurIPS 2023, algorithm 2.
//!
//! ```text
//! c ← β m + (1 − β) g,   θ ← θ − η (sign(c) + λ θ),   m ← β₂ m + (1 − β₂) g
//! ```

use burn::tensor::backend::Backend;
use meta_core::{
    optim::{OptimizerRule, OptimizerState, UpdateSettings},
    params::Params,
    settings,
};

settings! {
    /// What only Lion has; `β₂` and `λ` are `train.beta2` and `train.weight_decay`.
    pub struct LionSettings {
        /// `β`, the share of the momentum in the direction of a step.
        interpolation: f64 = 0.9, below_one();
    }
}

impl OptimizerRule for LionSettings {
    const NAME: &str = "lion";
    const SUMMARY: &str = "steps of one length along the sign of the momentum";

    fn step<B: Backend>(
        &self,
        update: &UpdateSettings,
        lr: f64,
        parameters: Params<B>,
        gradients: &Params<B>,
        state: OptimizerState<B>,
    ) -> (Params<B>, OptimizerState<B>) {
        let momentum = match state.moments.into_iter().next() {
            Some(momentum) => momentum,
            None => gradients.clone().scale(0.0),
        };
        let direction = momentum
            .clone()
            .mix(self.interpolation, gradients)
            .map(B::float_sign);
        let momentum = momentum.mix(update.beta2, gradients);
        let decayed = parameters.scale(1.0 - lr * update.weight_decay);
        let state = OptimizerState {
            step: state.step + 1,
            moments: vec![momentum],
        };
        let parameters = decayed.zip(&direction, |theta, d| {
            B::float_sub(theta, B::float_mul_scalar(d, lr.into()))
        });
        (parameters, state)
    }
}
