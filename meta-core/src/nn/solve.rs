//! Small linear systems, one per task, solved differentiably.

use crate::primitives::{MatrixProduct, Primitives};
use burn::tensor::Tensor;

/// `A⁻¹ B` for symmetric positive definite `A`: `a [t, s, s]`, `b [t, s, m]`, result `[t, s, m]`.
///
/// Gauss–Jordan elimination, unrolled over the `s` columns: each step divides the pivot row by its
/// pivot and subtracts its multiples from all other rows. Pivots of a positive definite matrix are
/// positive, so none is exchanged. Composed from operations that differentiate to any order; `s` is
/// the number of support items, some tens.
///
/// # Panics
/// When the shapes do not fit.
pub fn solve_positive_definite<B: Primitives>(a: Tensor<B, 3>, b: Tensor<B, 3>) -> Tensor<B, 3> {
    let ([t, s, columns], [b_tasks, b_rows, m]) = (a.dims(), b.dims());
    assert_eq!(
        (t, s, s),
        (b_tasks, b_rows, columns),
        "solve: a {:?}, b {:?}",
        a.dims(),
        b.dims()
    );
    let identity = Tensor::<B, 2>::eye(s, &a.device()).cast(a.dtype());
    let mut rest = Tensor::cat(vec![a, b], 2);
    for step in 0..s {
        // Columns before `step` are those of the identity, and dropped.
        let width = rest.dims()[2];
        let column = rest.clone().narrow(2, 0, 1);
        let pivot = column.clone().narrow(1, step, 1);
        let tail = rest.narrow(2, 1, width - 1);
        let row = tail.clone().narrow(1, step, 1) / pivot;
        let unit = identity.clone().narrow(1, step, 1).reshape([1, s, 1]);
        rest = tail - (column - unit).product(row);
    }
    debug_assert_eq!(rest.dims(), [t, s, m]);
    rest
}

/// `W = Xᵀ (X Xᵀ + p I)⁻¹ Y`, the ridge regressor with the penalty `p`, written so that only an `s × s` system is
/// solved: `x [t, s, d]`, `y [t, s, m]`, `penalty [1|t, 1, 1]`, result `[t, d, m]`.
///
/// # Panics
/// When the shapes do not fit.
pub fn ridge_regression<B: Primitives>(
    x: Tensor<B, 3>,
    y: Tensor<B, 3>,
    penalty: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let s = x.dims()[1];
    let identity = Tensor::<B, 2>::eye(s, &x.device()).cast(x.dtype());
    let gram = x.clone().product(x.clone().swap_dims(1, 2));
    let system = gram + identity.reshape([1, s, s]) * penalty;
    x.swap_dims(1, 2)
        .product(solve_positive_definite(system, y))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Cpu, rng::Seed};
    use burn::tensor::TensorData;

    fn random(shape: [usize; 3], purpose: &str) -> Tensor<Cpu, 3> {
        let mut stream = Seed(9).stream("solve", 0, purpose);
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| stream.normal() as f32)
            .collect();
        Tensor::from_data(TensorData::new(values, shape), &Default::default())
    }

    /// `A X = B`, for systems of one and of many unknowns.
    #[test]
    fn what_is_found_solves_the_system() {
        for (t, s, m) in [(1, 1, 1), (3, 2, 4), (2, 25, 5)] {
            let root = random([t, s, s], "root");
            let identity = Tensor::<Cpu, 2>::eye(s, &Default::default()).reshape([1, s, s]);
            let a = root.clone().matmul(root.swap_dims(1, 2)) + identity;
            let b = random([t, s, m], "right");
            let x = solve_positive_definite(a.clone(), b.clone());
            let error = (a.matmul(x) - b).abs().max().into_scalar();
            assert!(error < 1e-3, "{s} unknowns: {error}");
        }
    }
}
