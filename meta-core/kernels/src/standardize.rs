//! Normalisation of every channel over the rows of its task, its adjoint, and the derivative of
//! the adjoint.
//!
//! With m, v the mean and biased variance over the r rows of one task and channel,
//! ρ = (v + ε)^(−1/2), x̂ = ρ(x − m), and a bar for the mean over rows:
//!
//! - y = x̂,
//! - its Jacobian is symmetric: J g = ρ(g − ḡ − a x̂) with a = mean(x̂ g),
//! - ∂/∂x ⟨u, J(x) g⟩ = −ρ²[S x̂ + b(g − ḡ − a x̂) + a(u − ū − b x̂)] with b = mean(x̂ u) and
//!   S = mean(u g) − ū ḡ − a b. It follows from ⟨u, J g⟩ = r ρ S, ∂ρ/∂x = −ρ² x̂/r and
//!   ∂a/∂x = J g/r.
//!
//! All three are Σ_k α_k (z_k − z̄_k) with z ∈ {x, g, u} and per-channel α_k made of means and
//! covariances. So each is one pass that gathers these and one that applies them. The first pass
//! sums d_k = z_k − s_k and the products of such differences, where the shift s_k is the mean of a
//! few rows spread over the task: near enough to the mean that the correction
//! cov = Σ d d′/r − (Σ d/r)(Σ d′/r), made in double precision, cancels next to nothing.

use super::blocks::{PIECE_ELEMENTS, check_len, row_blocks};
use super::buffers::{Fresh, build};
use super::real::{Real, wide};
use super::rows::{Lanes, lanes, repeat, row_sums};

/// Rows that the shift is the mean of.
const SHIFT_ROWS: usize = 16;

/// `y = (x − mean)·(var + eps)^(−1/2)`, over the rows of each task and channel; biased variance.
///
/// `x [t, r, c]` → `y [t, r, c]`.
///
/// # Panics
/// If `x` does not have the length its shape says.
pub fn standardize<T: Real>(shape: [usize; 3], x: &[T], eps: f64) -> Vec<T> {
    let terms = |[x]: [Lanes<T>; 1]| [x, x * x];
    affine(shape, [x], terms, [(0, 0)], |[variance]| {
        [(variance + eps).sqrt().recip()]
    })
}

/// `gx = ρ·(g − mean(g) − x̂·mean(x̂ g))`, the adjoint of the Jacobian of [`standardize`] at `x`
/// applied to `g`. The Jacobian is symmetric, so this is its product with `g` as well.
///
/// `x [t, r, c]`, `g [t, r, c]` → `gx [t, r, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn standardize_adjoint<T: Real>(shape: [usize; 3], x: &[T], g: &[T], eps: f64) -> Vec<T> {
    let terms = |[x, g]: [Lanes<T>; 2]| [x, g, x * x, x * g];
    affine(shape, [x, g], terms, [(0, 0), (0, 1)], |covariances| {
        adjoint_factors(covariances, eps)
    })
}

/// The factors of `x` and `g` in `J g`, from the variance of `x` and its covariance with `g`.
pub(super) fn adjoint_factors([variance, xg]: [f64; 2], eps: f64) -> [f64; 2] {
    let rho = (variance + eps).sqrt().recip();
    let a = rho * xg;
    [-rho * rho * a, rho]
}

/// `∂/∂x ⟨u, J(x) g⟩` where `J` is the Jacobian of [`standardize`]: what second-order derivatives
/// need. Symmetric in `g` and `u`.
///
/// `x [t, r, c]`, `g [t, r, c]`, `u [t, r, c]` → `[t, r, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn standardize_curvature<T: Real>(
    shape: [usize; 3],
    x: &[T],
    g: &[T],
    u: &[T],
    eps: f64,
) -> Vec<T> {
    let pairs = [(0, 0), (0, 1), (0, 2), (1, 2)];
    let terms = |[x, g, u]: [Lanes<T>; 3]| [x, g, u, x * x, x * g, x * u, g * u];
    affine(shape, [x, g, u], terms, pairs, |covariances| {
        curvature_factors(covariances, eps)
    })
}

/// The factors of `x`, `g` and `u` in `∂/∂x ⟨u, J g⟩`, from the variance of `x` and the covariances
/// of `x` and `g`, `x` and `u`, `g` and `u`.
pub(super) fn curvature_factors([variance, xg, xu, gu]: [f64; 4], eps: f64) -> [f64; 3] {
    let rho = (variance + eps).sqrt().recip();
    let (a, b) = (rho * xg, rho * xu);
    let s = gu - a * b;
    // −ρ²[(S − 2ab) x̂ + b(g − ḡ) + a(u − ū)]
    let square = -rho * rho;
    [square * rho * (s - 2.0 * a * b), square * b, square * a]
}

/// `Σ_k α_k (z_k − mean z_k)`, where `alpha` makes the α of a channel from the covariances of the
/// pairs of arrays, and `terms` are the N arrays' values followed by the P pairs' products.
fn affine<T: Real, const N: usize, const P: usize, const M: usize>(
    shape: [usize; 3],
    arrays: [&[T]; N],
    terms: impl Fn([Lanes<T>; N]) -> [Lanes<T>; M] + Copy + Sync,
    pairs: [(usize, usize); P],
    alpha: impl Fn([f64; P]) -> [f64; N],
) -> Vec<T> {
    const { assert!(M == N + P) };
    let [tasks, rows, c] = shape;
    for array in arrays {
        check_len("an operand", array.len(), tasks * rows * c);
    }
    if rows == 0 || c == 0 {
        return Vec::new();
    }
    let work = 4 * tasks * rows * c;
    let pieces = row_blocks(tasks, rows, PIECE_ELEMENTS / c);
    let width = c * lanes(c);

    // First pass, about the shifts [tasks, N, c].
    let shifts = shifts(shape, arrays);
    let sums = row_sums(shape, arrays, &shifts, terms);

    // Per task: [means | α], in the element type.
    let mut vectors = vec![T::ZERO; tasks * 2 * N * c];
    for (task, vectors) in vectors.chunks_exact_mut(2 * N * c).enumerate() {
        for j in 0..c {
            let mean = |m: usize| sums[(task * M + m) * c + j] / rows as f64;
            let alphas = alpha(std::array::from_fn(|p| {
                let (k, l) = pairs[p];
                let covariance = mean(N + p) - mean(k) * mean(l);
                // Rounding must not make the variance of a constant channel negative.
                if k == l {
                    covariance.max(0.0)
                } else {
                    covariance
                }
            }));
            for k in 0..N {
                let shift = shifts[(task * N + k) * c + j].to_f64();
                vectors[k * c + j] = T::from_f64(shift + mean(k));
                vectors[(N + k) * c + j] = T::from_f64(alphas[k]);
            }
        }
    }

    // Second pass.
    let repeated = repeat(&vectors, c);
    build(
        &pieces,
        |piece| piece.len() * c,
        work * N,
        |piece, y| {
            let vectors = &repeated[piece.task * 2 * N * width..][..2 * N * width];
            let (means, alphas) = vectors.split_at(N * width);
            let arrays = arrays.map(|z| piece.of(z, rows, c));
            apply(arrays, means, alphas, width, y);
        },
    )
}

/// Means of up to [`SHIFT_ROWS`] evenly spaced rows of each array: `[tasks, N, c]`.
pub(super) fn shifts<T: Real, const N: usize>(
    [tasks, rows, c]: [usize; 3],
    arrays: [&[T]; N],
) -> Vec<T> {
    let count = rows.min(SHIFT_ROWS);
    let mut shifts = Vec::with_capacity(tasks * N * c);
    let mut sum = vec![0.0; c];
    for task in 0..tasks {
        for z in arrays {
            sum.fill(0.0);
            for i in 0..count {
                let row = task * rows + (2 * i + 1) * rows / (2 * count);
                for (sum, value) in sum.iter_mut().zip(&z[row * c..][..c]) {
                    *sum += value.to_f64();
                }
            }
            shifts.extend(sum.iter().map(|sum| T::from_f64(sum / count as f64)));
        }
    }
    shifts
}

wide! {
    /// `y = Σ_k α_k (z_k − m_k)` over rows of `width`; the last may be short.
    fn apply[T: Real, const N: usize](
        arrays: [&[T]; N],
        means: &[T],
        alphas: &[T],
        width: usize,
        y: &mut Fresh<'_, T>,
    ) {
        let len = arrays[0].len();
        for start in (0..len).step_by(width) {
            let row = start..len.min(start + width);
            // One array after the other: loops this plain become vector instructions.
            let terms = arrays[0][row.clone()].iter().zip(&means[..width]).zip(&alphas[..width]);
            let y = y.put(terms.map(|((&z, &mean), &alpha)| alpha * (z - mean)));
            for (k, z) in arrays.iter().enumerate().skip(1) {
                let vector = k * width..(k + 1) * width;
                let terms = z[row.clone()]
                    .iter()
                    .zip(&means[vector.clone()])
                    .zip(&alphas[vector]);
                for (y, ((&z, &mean), &alpha)) in y.iter_mut().zip(terms) {
                    *y += alpha * (z - mean);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        assert_close, assert_same_for_any_threads, dot, noise, tolerance, widen,
    };
    use super::*;

    const EPS: f64 = 1e-3;

    const SHAPES: [[usize; 3]; 8] = [
        [1, 1, 1],
        [2, 5, 3],
        [1, 2, 64],
        [3, 40, 65],
        [1, 3000, 8],
        [2, 700, 64],
        [4, 1, 5],
        [1, 300, 130],
    ];

    /// One channel of one task as a column.
    fn column(x: &[f64], [_, rows, c]: [usize; 3], task: usize, channel: usize) -> Vec<f64> {
        (0..rows)
            .map(|r| x[(task * rows + r) * c + channel])
            .collect()
    }

    fn by_columns(
        shape: [usize; 3],
        arrays: &[&[f64]],
        f: impl Fn(&[Vec<f64>]) -> Vec<f64>,
    ) -> Vec<f64> {
        let [tasks, rows, c] = shape;
        let mut out = vec![0.0; tasks * rows * c];
        for task in 0..tasks {
            for channel in 0..c {
                let columns: Vec<_> = arrays
                    .iter()
                    .map(|x| column(x, shape, task, channel))
                    .collect();
                for (r, value) in f(&columns).into_iter().enumerate() {
                    out[(task * rows + r) * c + channel] = value;
                }
            }
        }
        out
    }

    fn mean(x: &[f64]) -> f64 {
        x.iter().sum::<f64>() / x.len() as f64
    }

    fn normal(x: &[f64]) -> (f64, Vec<f64>) {
        let m = mean(x);
        let v = mean(&x.iter().map(|x| (x - m) * (x - m)).collect::<Vec<_>>());
        let rho = 1.0 / (v + EPS).sqrt();
        (rho, x.iter().map(|x| rho * (x - m)).collect())
    }

    fn jacobian_times(x: &[f64], g: &[f64]) -> Vec<f64> {
        let (rho, xh) = normal(x);
        let (gm, a) = (mean(g), dot(&xh, g) / x.len() as f64);
        g.iter()
            .zip(&xh)
            .map(|(g, xh)| rho * (g - gm - a * xh))
            .collect()
    }

    fn curvature(x: &[f64], g: &[f64], u: &[f64]) -> Vec<f64> {
        let r = x.len() as f64;
        let (rho, xh) = normal(x);
        let (gm, um) = (mean(g), mean(u));
        let (a, b) = (dot(&xh, g) / r, dot(&xh, u) / r);
        let s = dot(u, g) / r - um * gm - a * b;
        (0..x.len())
            .map(|i| {
                -rho * rho * (s * xh[i] + b * (g[i] - gm - a * xh[i]) + a * (u[i] - um - b * xh[i]))
            })
            .collect()
    }

    fn check<T: Real>() {
        for shape in SHAPES {
            let len = shape.iter().product();
            let x: Vec<T> = noise(1, len);
            let g: Vec<T> = noise(2, len);
            let u: Vec<T> = noise(3, len);
            let (xw, gw, uw) = (widen(&x), widen(&g), widen(&u));
            let tolerance = tolerance::<T>();
            let expected = by_columns(shape, &[&xw], |z| normal(&z[0]).1);
            let y = standardize(shape, &x, EPS);
            assert_close(&y, &expected, tolerance, &format!("{shape:?} y"));
            let expected = by_columns(shape, &[&xw, &gw], |z| jacobian_times(&z[0], &z[1]));
            let gx = standardize_adjoint(shape, &x, &g, EPS);
            assert_close(&gx, &expected, tolerance, &format!("{shape:?} adjoint"));
            let expected = by_columns(shape, &[&xw, &gw, &uw], |z| curvature(&z[0], &z[1], &z[2]));
            let second = standardize_curvature(shape, &x, &g, &u, EPS);
            assert_close(
                &second,
                &expected,
                tolerance,
                &format!("{shape:?} curvature"),
            );
        }
    }

    #[test]
    fn equals_the_formulas() {
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn derivatives_equal_central_differences() {
        for shape in [[2, 6, 3], [1, 20, 2]] {
            let len = shape.iter().product();
            let x: Vec<f64> = noise(1, len);
            let g: Vec<f64> = noise(2, len);
            let u: Vec<f64> = noise(3, len);
            let h = 1e-5;
            let difference = |f: &dyn Fn(&[f64]) -> f64| -> Vec<f64> {
                (0..len)
                    .map(|i| {
                        let at = |d: f64| {
                            let mut x = x.clone();
                            x[i] += d;
                            f(&x)
                        };
                        (at(h) - at(-h)) / (2.0 * h)
                    })
                    .collect()
            };
            let first = difference(&|x| dot(&g, &standardize(shape, x, EPS)));
            let adjoint = standardize_adjoint(shape, &x, &g, EPS);
            // Truncation h² plus rounding 1e-16/h.
            assert_close(&adjoint, &first, 1e-7, "adjoint");
            let second = difference(&|x| dot(&u, &standardize_adjoint(shape, x, &g, EPS)));
            let actual = standardize_curvature(shape, &x, &g, &u, EPS);
            assert_close(&actual, &second, 1e-7, "curvature");
        }
    }

    #[test]
    fn jacobian_is_symmetric() {
        for shape in SHAPES {
            let len = shape.iter().product();
            let [x, g, u]: [Vec<f64>; 3] = [1, 2, 3].map(|seed| noise(seed, len));
            let left = dot(&standardize_adjoint(shape, &x, &g, EPS), &u);
            let right = dot(&g, &standardize_adjoint(shape, &x, &u, EPS));
            assert!((left - right).abs() < 1e-9, "{left} {right}");
        }
    }

    #[test]
    fn a_large_mean_costs_no_accuracy() {
        // Variance as mean(x²) − mean(x)² would have no correct digit here.
        let rows = 5000;
        let noise: Vec<f32> = noise(1, rows);
        let x: Vec<f32> = noise.iter().map(|v| v + 1024.0).collect();
        let (_, expected) = normal(&widen(&x));
        let y = standardize([1, rows, 1], &x, EPS);
        // The mean itself is rounded to f32: 1024·2⁻²⁴ over a deviation of 0.58.
        assert_close(&y, &expected, 2e-4, "shifted");
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        for shape in [[1, 9000, 33], [12, 500, 64]] {
            let len = shape.iter().product();
            let [x, g, u]: [Vec<f32>; 3] = [1, 2, 3].map(|seed| noise(seed, len));
            assert_same_for_any_threads(|| standardize(shape, &x, EPS));
            assert_same_for_any_threads(|| standardize_adjoint(shape, &x, &g, EPS));
            assert_same_for_any_threads(|| standardize_curvature(shape, &x, &g, &u, EPS));
        }
    }
}
