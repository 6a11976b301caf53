//! Activations that Burn computes with a loss of precision in f64.

use burn::tensor::{Tensor, backend::Backend};

use crate::primitives::{Primitives, tanh};

/// `σ(x) = ½ (1 + tanh(x / 2))`: Burn's own sigmoid loses precision in f64.
pub fn sigmoid<B: Primitives, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    tanh(x.mul_scalar(0.5)).add_scalar(1.0).mul_scalar(0.5)
}

/// `ln(1 + eˣ) = max(x, 0) + ln(1 + e^(−|x|))`, without overflow.
pub fn softplus<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    let tail = x.clone().abs().neg().exp().add_scalar(1.0).log();
    x.clamp_min(0.0) + tail
}
