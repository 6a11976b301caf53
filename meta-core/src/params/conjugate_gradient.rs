//! Systems of equations whose matrix is known by its products alone.

use burn::tensor::Tensor;

use super::Params;
use crate::primitives::Primitives;

/// `x` of each task with `A x = g`, by at most `steps` steps of conjugate gradient from `x = 0` (Hestenes and Stiefel
/// 1952); `product` gives `A v`, of a symmetric `A`. A task that is solved, or whose curvature `vᵀ A v` is not above
/// 0, stays where it is.
pub fn conjugate_gradient<B: Primitives>(
    steps: usize,
    g: Params<B>,
    mut product: impl FnMut(&Params<B>) -> Params<B>,
) -> Params<B> {
    let mut x = g.clone().scale(0.0);
    let mut residual = g;
    let mut direction = residual.clone();
    let mut squared = residual.dot_tasks(&residual);
    for _ in 0..steps {
        let along = product(&direction);
        let curvature = direction.dot_tasks(&along);
        let step = ratio(squared.clone(), curvature);
        x = x.plus(&direction.clone().scale_tasks(&step));
        residual = residual.plus(&along.scale_tasks(&step.neg()));
        let next = residual.dot_tasks(&residual);
        let keep = ratio(next.clone(), squared);
        direction = residual.clone().plus(&direction.scale_tasks(&keep));
        squared = next;
    }
    x
}

/// `a / b` of each task where `b` is above 0, else 0.
fn ratio<B: Primitives>(a: Tensor<B, 1>, b: Tensor<B, 1>) -> Tensor<B, 1> {
    let stop = b.clone().lower_equal_elem(0.0);
    (a / b.mask_fill(stop.clone(), 1.0)).mask_fill(stop, 0.0)
}
