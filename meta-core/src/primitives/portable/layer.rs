//! Standardisation along the channels.

use burn::tensor::{Tensor, ops::FloatTensor};

use super::super::Primitives;
use crate::primitives::{primitive, tensor};

/// `x` less its mean along the channels.
fn layer_centred<B: Primitives>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    x.clone() - x.mean_dim(2)
}

/// `x̂` and `1/√(σ² + ε)` of every row.
fn layer_standardized<B: Primitives>(
    x: Tensor<B, 3>,
    epsilon: f64,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let centred = layer_centred(x);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    let inverse_deviation = variance.add_scalar(epsilon).powf_scalar(-0.5);
    (centred * inverse_deviation.clone(), inverse_deviation)
}

/// See [`Primitives::layer_standardize`].
pub fn layer_standardize<B: Primitives>(x: FloatTensor<B>, epsilon: f64) -> FloatTensor<B> {
    primitive(layer_standardized::<B>(tensor(x), epsilon).0)
}

/// `g` less its projections on the constant and on `x̂`, and the coefficient `mean(x̂ g)`.
fn layer_project<B: Primitives>(
    x_hat: &Tensor<B, 3>,
    g: Tensor<B, 3>,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let coefficient = (x_hat.clone() * g.clone()).mean_dim(2);
    let projected = layer_centred(g) - x_hat.clone() * coefficient.clone();
    (projected, coefficient)
}

/// See [`Primitives::layer_standardize_adjoint`]; the equation is that of [`super::standardize_adjoint`].
pub fn layer_standardize_adjoint<B: Primitives>(
    x: FloatTensor<B>,
    g: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (x_hat, inverse_deviation) = layer_standardized::<B>(tensor(x), epsilon);
    let (projected, _) = layer_project(&x_hat, tensor(g));
    primitive(projected * inverse_deviation)
}

/// See [`Primitives::layer_standardize_curvature`]; the equation is that of
/// [`super::standardize_curvature`].
pub fn layer_standardize_curvature<B: Primitives>(
    x: FloatTensor<B>,
    g: FloatTensor<B>,
    u: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (x_hat, inverse_deviation) = layer_standardized::<B>(tensor(x), epsilon);
    let (g_projected, a) = layer_project(&x_hat, tensor(g));
    let (u_projected, b) = layer_project(&x_hat, tensor(u));
    let remainder = (inverse_deviation.clone() * inverse_deviation.clone()).mul_scalar(epsilon);
    let s =
        (g_projected.clone() * u_projected.clone()).mean_dim(2) + a.clone() * b.clone() * remainder;
    let sum = x_hat * s + g_projected * b + u_projected * a;
    primitive((sum * (inverse_deviation.clone() * inverse_deviation)).neg())
}
