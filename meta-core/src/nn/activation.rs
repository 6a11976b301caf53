//! Activations that Burn computes with a loss of precision in f64, or without their slope at 0.

use burn::tensor::{Tensor, backend::Backend};

use crate::primitives::{Primitives, tanh};

/// `σ(x) = ½ (1 + tanh(x / 2))`: Burn's own sigmoid loses precision in f64.
pub fn sigmoid<B: Primitives, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    tanh(x.mul_scalar(0.5)).add_scalar(1.0).mul_scalar(0.5)
}

/// `ln(1 + eˣ) = m + ln(e^(x − m) + e^(−m))` with `m = max(x, 0)`, without overflow. `m` is a constant: what a
/// derivative in it adds up to is zero. With `max(x, 0) + ln(1 + e^(−|x|))`, the slope at 0 would not be ½.
pub fn softplus<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    let m = x.clone().detach().clamp_min(0.0);
    ((x - m.clone()).exp() + m.clone().neg().exp()).log() + m
}
