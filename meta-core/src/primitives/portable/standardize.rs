//! Standardisation over rows, with its adjoint, its curvature, and pooling after it.

use burn::tensor::{
    Tensor, TensorMetadata,
    ops::{FloatTensor, IntTensor},
};

use super::super::{Pooling, Primitives, Winners};
use super::*;
use crate::primitives::{primitive, tensor};

/// Mean over the rows of each task, `[t, 1, c]`.
fn mean_rows<B: Primitives>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let rows = x.dims()[1];
    crate::primitives::sum_rows(x).mul_scalar(1.0 / rows as f64)
}

/// `x` less its mean over rows.
fn centred<B: Primitives>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let mean = mean_rows(x.clone());
    crate::primitives::add_rows(x, mean.neg())
}

/// `x̂` and `1/√(σ² + ε)`.
fn standardized<B: Primitives>(x: Tensor<B, 3>, epsilon: f64) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let centred = centred(x);
    let variance = mean_rows(centred.clone() * centred.clone());
    let inverse_deviation = variance.add_scalar(epsilon).powf_scalar(-0.5);
    (
        crate::primitives::scale(centred, inverse_deviation.clone()),
        inverse_deviation,
    )
}

/// See [`Primitives::standardize`].
pub fn standardize<B: Primitives>(x: FloatTensor<B>, epsilon: f64) -> FloatTensor<B> {
    primitive(standardized::<B>(tensor(x), epsilon).0)
}

/// `g` less its projections on the constant and on `x̂`, and the coefficient `mean(x̂ g)`.
fn project<B: Primitives>(x_hat: &Tensor<B, 3>, g: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let coefficient = mean_rows(x_hat.clone() * g.clone());
    let projected = centred(g) - crate::primitives::scale(x_hat.clone(), coefficient.clone());
    (projected, coefficient)
}

/// See [`Primitives::standardize_adjoint`]: `J g = ρ (g − ḡ − x̂ · mean(x̂ g))`, `ρ = 1/√(σ² + ε)`.
pub fn standardize_adjoint<B: Primitives>(
    x: FloatTensor<B>,
    g: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (x_hat, inverse_deviation) = standardized::<B>(tensor(x), epsilon);
    let (projected, _) = project(&x_hat, tensor(g));
    primitive(crate::primitives::scale(projected, inverse_deviation))
}

/// See [`Primitives::standardize_curvature`]: with `a = mean(x̂ g)`, `b = mean(x̂ u)`,
/// `s = mean(u g) − ū ḡ − a b`, it is `−ρ² (s x̂ + b (g − ḡ − a x̂) + a (u − ū − b x̂))`.
pub fn standardize_curvature<B: Primitives>(
    x: FloatTensor<B>,
    g: FloatTensor<B>,
    u: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (x_hat, inverse_deviation) = standardized::<B>(tensor(x), epsilon);
    let (g_projected, a) = project(&x_hat, tensor(g));
    let (u_projected, b) = project(&x_hat, tensor(u));
    // Without cancellation: mean(u g) − ū ḡ − a b is the mean of the product of the projections plus
    // a b (1 − mean(x̂²)), and mean(x̂²) = 1 − ε ρ².
    let remainder = (inverse_deviation.clone() * inverse_deviation.clone()).mul_scalar(epsilon);
    let s =
        mean_rows(g_projected.clone() * u_projected.clone()) + a.clone() * b.clone() * remainder;
    let sum = crate::primitives::scale(x_hat, s)
        + crate::primitives::scale(g_projected, b)
        + crate::primitives::scale(u_projected, a);
    let factor = (inverse_deviation.clone() * inverse_deviation).neg();
    primitive(crate::primitives::scale(sum, factor))
}

/// The images of each task as rows, `[t, r, c]`.
fn as_rows<B: Primitives>(tasks: usize, pooling: &Pooling, x: FloatTensor<B>) -> FloatTensor<B> {
    let rows = pooling.items / tasks * pooling.height * pooling.width;
    B::float_reshape(x, [tasks, rows, pooling.channels].into())
}

/// The images of all tasks, `[n, h, w, c]`.
fn as_images<B: Primitives>(pooling: &Pooling, x: FloatTensor<B>) -> FloatTensor<B> {
    let Pooling {
        items,
        height,
        width,
        channels,
        ..
    } = *pooling;
    B::float_reshape(x, [items, height, width, channels].into())
}

/// See [`Primitives::standardize_pool`].
pub fn standardize_pool<B: Primitives>(
    pooling: &Pooling,
    x: FloatTensor<B>,
    direction: FloatTensor<B>,
    epsilon: f64,
) -> (FloatTensor<B>, Winners<IntTensor<B>>) {
    let tasks = x.shape()[0];
    let x_hat = B::standardize(as_rows::<B>(tasks, pooling, x), epsilon);
    let direction: Tensor<B, 3> = tensor(direction);
    let sign = direction
        .ones_like()
        .mask_fill(direction.lower_elem(0.0), -1.0);
    let signed = crate::primitives::scale(tensor::<B, 3>(x_hat.clone()), sign);
    let (_, index) = B::max_pool(pooling, as_images::<B>(pooling, primitive(signed)));
    let winners = Winners {
        pooling: *pooling,
        tasks,
        epsilon,
        index,
        moments: None,
    };
    let p = B::map_linear(&winners.select(), as_images::<B>(pooling, x_hat));
    (B::float_reshape(p, winners.pooled_shape().into()), winners)
}

/// `Sᵀh` as rows.
fn scattered<B: Primitives>(winners: &Winners<IntTensor<B>>, h: FloatTensor<B>) -> FloatTensor<B> {
    let pooling = &winners.pooling;
    let h = B::float_reshape(h, pooled(pooling).into());
    let scattered = B::map_adjoint(&winners.select(), h);
    as_rows::<B>(winners.tasks, pooling, scattered)
}

/// See [`Primitives::standardize_pool_adjoint`].
pub fn standardize_pool_adjoint<B: Primitives>(
    winners: &Winners<IntTensor<B>>,
    x: FloatTensor<B>,
    h: FloatTensor<B>,
) -> FloatTensor<B> {
    let (tasks, pooling) = (winners.tasks, &winners.pooling);
    let x = as_rows::<B>(tasks, pooling, x);
    let adjoint = B::standardize_adjoint(x, scattered::<B>(winners, h), winners.epsilon);
    B::float_reshape(adjoint, winners.full_shape().into())
}

/// See [`Primitives::standardize_pool_curvature`].
pub fn standardize_pool_curvature<B: Primitives>(
    winners: &Winners<IntTensor<B>>,
    x: FloatTensor<B>,
    h: FloatTensor<B>,
    u: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (tasks, pooling, epsilon) = (winners.tasks, &winners.pooling, winners.epsilon);
    let (x, u) = (
        as_rows::<B>(tasks, pooling, x),
        as_rows::<B>(tasks, pooling, u),
    );
    let g = scattered::<B>(winners, h);
    let along_x = B::standardize_curvature(x.clone(), g, u.clone(), epsilon);
    let tangent = as_images::<B>(pooling, B::standardize_adjoint(x, u, epsilon));
    let along_h = B::map_linear(&winners.select(), tangent);
    (
        B::float_reshape(along_x, winners.full_shape().into()),
        B::float_reshape(along_h, winners.pooled_shape().into()),
    )
}
