//! What metric learners compare by: classes of a support, distances, similarities.

use burn::tensor::{Int, Tensor, backend::Backend};

use crate::primitives::{MatrixProduct, Primitives, broadcast_rows};
use crate::task::ItemBatch;

/// 1 where an item is of a class, else 0: labels `[t, b]` to `[t, b, n]`, in the dtype of `like`.
pub fn membership<B: Backend>(
    labels: Tensor<B, 2, Int>,
    way: usize,
    like: &Tensor<B, 3>,
) -> Tensor<B, 3> {
    labels.one_hot::<3>(way).float().cast(like.dtype())
}

/// Each task's rows `n` times: `[t, b, d]` to `[t·n, b, d]`. Written out, for operations on broadcast tensors are slow.
pub fn copies<B: Primitives>(x: &Tensor<B, 3>, n: usize) -> Tensor<B, 3> {
    let [t, b, d] = x.dims();
    broadcast_rows(x.clone().reshape([t, 1, b * d]), t, n).reshape([t * n, b, d])
}

/// Sum over the items of each class: items `[t, s, d]`, labels `[t, s]`, result `[t, n, d]`.
pub fn class_sums<B: Primitives>(
    items: Tensor<B, 3>,
    labels: Tensor<B, 2, Int>,
    way: usize,
) -> Tensor<B, 3> {
    membership(labels, way, &items)
        .swap_dims(1, 2)
        .product(items)
}

/// Mean over the items of each class (prototypes): items `[t, s, d]`, labels `[t, s]`, result
/// `[t, n, d]`.
pub fn class_means<B: Primitives>(
    items: Tensor<B, 3>,
    labels: Tensor<B, 2, Int>,
    way: usize,
) -> Tensor<B, 3> {
    let membership = membership(labels, way, &items);
    let counts = membership.clone().sum_dim(1).swap_dims(1, 2);
    membership.swap_dims(1, 2).product(items) / counts
}

/// [`class_means`] of what `embedded [t, s, d]` holds of `items`, over those that are there; zero of a class
/// that is not.
pub fn prototypes<B: Primitives>(
    embedded: Tensor<B, 3>,
    items: &ItemBatch<B>,
    way: usize,
) -> Tensor<B, 3> {
    let labels = items.targets.labels();
    let Some(mask) = &items.mask else {
        return class_means(embedded, labels, way);
    };
    let [t, s, d] = embedded.dims();
    let absent = mask.items.clone().bool_not().reshape([t, s, 1]);
    let membership =
        membership(labels, way, &embedded).mask_fill(absent.clone().expand([t, s, way]), 0.0);
    let embedded = embedded.mask_fill(absent.expand([t, s, d]), 0.0);
    let counts = membership.clone().sum_dim(1).swap_dims(1, 2).clamp_min(1.0);
    membership.swap_dims(1, 2).product(embedded) / counts
}

/// `‖a − b‖² = ‖a‖² − 2 a·b + ‖b‖²`: `a [t, q, d]`, `b [t, n, d]`, result `[t, q, n]`.
pub fn squared_distances<B: Primitives>(a: Tensor<B, 3>, b: Tensor<B, 3>) -> Tensor<B, 3> {
    let squares = |x: &Tensor<B, 3>| (x.clone() * x.clone()).sum_dim(2);
    let (a_squares, b_squares) = (squares(&a), squares(&b).swap_dims(1, 2));
    a.product(b.swap_dims(1, 2)).mul_scalar(-2.0) + a_squares + b_squares
}

/// The linear classifier whose scores are `−‖x − c_n‖²` up to a term that all classes share, from
/// prototypes `c [t, n, d]`: weight `2 cᵀ [t, d, n]` and bias `−‖c_n‖² [t, 1, n]` (Snell et al., NIPS 2017,
/// section 2.4).
pub fn classifier<B: Backend>(prototypes: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let squares = (prototypes.clone() * prototypes.clone()).sum_dim(2);
    let weight = prototypes.swap_dims(1, 2).mul_scalar(2.0);
    (weight, squares.swap_dims(1, 2).neg())
}

/// Cosine of the angle between each `a [t, q, d]` and each `b [t, n, d]`: `[t, q, n]`.
pub fn cosines<B: Primitives>(a: Tensor<B, 3>, b: Tensor<B, 3>) -> Tensor<B, 3> {
    unit(a).product(unit(b).swap_dims(1, 2))
}

/// `x / ‖x‖` along the last axis.
pub fn unit<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let [t, n, d] = x.dims();
    // As a matrix, since backends are fastest there with one number for each row.
    let x = x.reshape([t * n, d]);
    // The offset keeps the gradient finite at x = 0.
    let norm = (x.clone() * x.clone()).sum_dim(1).add_scalar(1e-12).sqrt();
    (x / norm).reshape([t, n, d])
}

/// 1 for the `k` largest of the last axis, else 0: `closeness [t, q, m]` to `[t, q, m]`, all of them where
/// `k ≥ m`.
pub fn nearest<B: Backend>(closeness: Tensor<B, 3>, k: usize) -> Tensor<B, 3> {
    let [t, q, m] = closeness.dims();
    let (_, places) = closeness.clone().topk_with_indices(k.min(m), 2);
    let chosen = places.one_hot::<4>(m).float().cast(closeness.dtype());
    chosen.sum_dim(2).reshape([t, q, m])
}
