//! Softmax with a factor, its adjoint and its curvature.

use burn::tensor::{Tensor, ops::FloatTensor};

use super::super::Primitives;
use crate::primitives::{primitive, tensor};

/// See [`Primitives::scaled_softmax`].
pub fn scaled_softmax<B: Primitives>(x: FloatTensor<B>, factor: f64) -> FloatTensor<B> {
    let x: Tensor<B, 4> = tensor(x);
    let highest = x.clone().max_dim(3);
    // Where nothing is read, the differences would be −∞ + ∞; some backends say the least number there.
    let nothing = highest.clone().lower_equal_elem(f64::from(f32::MIN));
    let weights = (x - highest.mask_fill(nothing, 0.0))
        .mul_scalar(factor)
        .exp();
    let sums = weights.clone().sum_dim(3);
    let nothing = sums.clone().equal_elem(0.0);
    let sums = sums.mask_fill(nothing, 1.0);
    primitive(weights / sums)
}

/// See [`Primitives::masked_softmax`].
pub fn masked_softmax<B: Primitives>(
    x: FloatTensor<B>,
    hidden: FloatTensor<B>,
    factor: f64,
) -> FloatTensor<B> {
    let (x, hidden): (Tensor<B, 4>, Tensor<B, 4>) = (tensor(x), tensor(hidden));
    let hidden = hidden.equal_elem(1.0).expand(x.dims());
    B::scaled_softmax(primitive(x.mask_fill(hidden, f64::NEG_INFINITY)), factor)
}

/// `⟨p, g⟩` along the last axis.
fn along_keys<B: Primitives>(p: &Tensor<B, 4>, g: &Tensor<B, 4>) -> Tensor<B, 4> {
    (p.clone() * g.clone()).sum_dim(3)
}

/// See [`Primitives::scaled_softmax_adjoint`].
pub fn scaled_softmax_adjoint<B: Primitives>(
    p: FloatTensor<B>,
    g: FloatTensor<B>,
    factor: f64,
) -> FloatTensor<B> {
    let (p, g): (Tensor<B, 4>, Tensor<B, 4>) = (tensor(p), tensor(g));
    let mean = along_keys(&p, &g);
    primitive((p * (g - mean)).mul_scalar(factor))
}

/// See [`Primitives::scaled_softmax_curvature`].
pub fn scaled_softmax_curvature<B: Primitives>(
    p: FloatTensor<B>,
    g: FloatTensor<B>,
    u: FloatTensor<B>,
    factor: f64,
) -> FloatTensor<B> {
    let (p, g, u): (Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 4>) = (tensor(p), tensor(g), tensor(u));
    let (g_mean, u_mean) = (along_keys(&p, &g), along_keys(&p, &u));
    let curvature = u.clone() * (g.clone() - g_mean) - g * u_mean;
    primitive(curvature.mul_scalar(factor))
}
