//! Normalisation along the channels of every row, its adjoint, and the derivative of the adjoint.
//!
//! The equations are those of [`standardize`](super::standardize), with the channels of one row in
//! place of the rows of one channel: all three results are `Σ_k α_k (z_k − z̄_k)`, `z ∈ {x, g, u}`,
//! with numbers `α_k` made of the row's covariances.

use super::blocks::{PIECE_ELEMENTS, check_len, row_blocks};
use super::buffers::build_zeroed;
use super::real::{Real, wide};
use super::softmax::sum;
use super::standardize::{adjoint_factors, curvature_factors};

/// `y = (x − mean)·(var + eps)^(−1/2)` along the last axis; biased variance.
///
/// `x [t, r, c]` → `y [t, r, c]`.
///
/// # Panics
/// If `x` does not have the length its shape says.
pub fn layer_standardize<T: Real>(shape: [usize; 3], x: &[T], eps: f64) -> Vec<T> {
    combine(shape, [x], [(0, 0)], &|[variance]| {
        [(variance + eps).sqrt().recip()]
    })
}

/// The Jacobian of [`layer_standardize`] at `x`, which is symmetric, applied to `g`.
///
/// `x [t, r, c]`, `g [t, r, c]` → `[t, r, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn layer_standardize_adjoint<T: Real>(shape: [usize; 3], x: &[T], g: &[T], eps: f64) -> Vec<T> {
    let pairs = [(0, 0), (0, 1)];
    combine(shape, [x, g], pairs, &|covariances| {
        adjoint_factors(covariances, eps)
    })
}

/// `∂/∂x ⟨u, J(x) g⟩` where `J` is the Jacobian of [`layer_standardize`].
///
/// `x [t, r, c]`, `g` and `u` alike → `[t, r, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn layer_standardize_curvature<T: Real>(
    shape: [usize; 3],
    x: &[T],
    g: &[T],
    u: &[T],
    eps: f64,
) -> Vec<T> {
    let pairs = [(0, 0), (0, 1), (0, 2), (1, 2)];
    combine(shape, [x, g, u], pairs, &|covariances| {
        curvature_factors(covariances, eps)
    })
}

/// `Σ_k α_k (z_k − mean z_k)` of every row, where `factors` makes the α from the covariances of the
/// pairs of arrays.
fn combine<T: Real, const N: usize, const P: usize>(
    [tasks, rows, c]: [usize; 3],
    arrays: [&[T]; N],
    pairs: [(usize, usize); P],
    factors: &(impl Fn([f64; P]) -> [f64; N] + Sync),
) -> Vec<T> {
    for array in arrays {
        check_len("an operand", array.len(), tasks * rows * c);
    }
    if c == 0 {
        return Vec::new();
    }
    build_zeroed(
        &row_blocks(1, tasks * rows, PIECE_ELEMENTS.div_ceil(c)),
        |piece| piece.len() * c,
        6 * N * tasks * rows * c,
        |piece, y| {
            combine_rows(
                c,
                arrays.map(|array| piece.of(array, 0, c)),
                pairs,
                factors,
                y,
            );
        },
    )
}

wide! {
    fn combine_rows[T: Real, const N: usize, const P: usize, F: Fn([f64; P]) -> [f64; N]](
        c: usize,
        arrays: [&[T]; N],
        pairs: [(usize, usize); P],
        factors: &F,
        y: &mut [T],
    ) {
        for (row, y) in y.chunks_exact_mut(c).enumerate() {
            // Loops rather than `map`, whose closures would be compiled without these instructions.
            let mut rows = [&[] as &[T]; N];
            let mut means = [T::ZERO; N];
            for k in 0..N {
                rows[k] = &arrays[k][row * c..][..c];
                means[k] = T::from_f64(sum([rows[k]], |[z]| z).to_f64() / c as f64);
            }
            let mut covariances = [0.0; P];
            for (covariance, (k, l)) in covariances.iter_mut().zip(pairs) {
                let (mean_k, mean_l) = (means[k], means[l]);
                let product = |[z, w]: [T; 2]| (z - mean_k) * (w - mean_l);
                *covariance = sum([rows[k], rows[l]], product).to_f64() / c as f64;
            }
            let alphas = factors(covariances);
            for k in 0..N {
                let (mean, alpha) = (means[k], T::from_f64(alphas[k]));
                for (y, &z) in y.iter_mut().zip(rows[k]) {
                    *y += alpha * (z - mean);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::standardize::{standardize, standardize_adjoint, standardize_curvature};
    use super::super::testing::{assert_close, assert_same_for_any_threads, noise, tolerance};
    use super::*;

    /// A row is a task of one channel of the normalisation over rows.
    fn check<T: Real>() {
        for [tasks, rows, c] in [
            [1, 1, 1],
            [1, 3, 5],
            [4, 7, 8],
            [2, 300, 64],
            [3, 2, 65],
            [2, 0, 3],
        ] {
            let (shape, over_rows, len) =
                ([tasks, rows, c], [tasks * rows, c, 1], tasks * rows * c);
            let x: Vec<T> = noise(1, len);
            let x: Vec<T> = x.iter().map(|v| T::from_f64(v.to_f64() + 0.5)).collect();
            let g: Vec<T> = noise(2, len);
            let u: Vec<T> = noise(3, len);
            let wide = |v: &[T]| -> Vec<f64> { v.iter().map(|v| v.to_f64()).collect() };
            let (x64, g64, u64) = (wide(&x), wide(&g), wide(&u));
            let eps = 1e-2;
            for (found, expected) in [
                (
                    layer_standardize(shape, &x, eps),
                    standardize(over_rows, &x64, eps),
                ),
                (
                    layer_standardize_adjoint(shape, &x, &g, eps),
                    standardize_adjoint(over_rows, &x64, &g64, eps),
                ),
                (
                    layer_standardize_curvature(shape, &x, &g, &u, eps),
                    standardize_curvature(over_rows, &x64, &g64, &u64, eps),
                ),
            ] {
                assert_close(&found, &expected, 4.0 * tolerance::<T>(), "layer");
            }
        }
    }

    #[test]
    fn equals_the_normalisation_over_rows() {
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let shape = [3, 3000, 40];
        let x: Vec<f32> = noise(1, 3 * 3000 * 40);
        let g: Vec<f32> = noise(2, 3 * 3000 * 40);
        assert_same_for_any_threads(|| layer_standardize(shape, &x, 1e-5));
        assert_same_for_any_threads(|| layer_standardize_adjoint(shape, &x, &g, 1e-5));
        assert_same_for_any_threads(|| layer_standardize_curvature(shape, &x, &g, &g, 1e-5));
    }
}
