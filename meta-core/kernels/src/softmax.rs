//! Softmax along rows, and its derivatives by its own output `p`: the Jacobian `f (diag p − p pᵀ)`
//! applied to `g`, and the derivative of that in `p`.

use std::ops::Range;

use super::blocks::{PIECE_ELEMENTS, RowBlock, check_len, row_blocks};
use super::buffers::build_zeroed;
use super::real::{Real, wide};

/// Elements summed side by side.
const LANES: usize = 8;

/// `p = softmax(f x)` of every row; a score of −∞ has weight 0, and a row of them is 0 everywhere.
///
/// `x [rows, width]` → `p [rows, width]`.
///
/// # Panics
/// If the rows do not fill `x`.
pub fn softmax<T: Real>(width: usize, x: &[T], factor: f64) -> Vec<T> {
    let factor = T::from_f64(factor);
    on_rows(width, [x], |[x], p| softmax_rows(width, x, factor, p))
}

/// [`softmax`] of what is not hidden: where `hidden` is not 0 the weight is 0.
///
/// `x [n, heads, l, m]`, `hidden [n|1, heads|1, l|1, m]` → `p [n, heads, l, m]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn masked_softmax<T: Real>(
    shape: [usize; 4],
    x: &[T],
    hidden_shape: [usize; 3],
    hidden: &[T],
    factor: f64,
) -> Vec<T> {
    let [n, heads, l, width] = shape;
    check_len("x", x.len(), n * heads * l * width);
    check_len(
        "hidden",
        hidden.len(),
        hidden_shape.iter().product::<usize>() * width,
    );
    if x.is_empty() {
        return Vec::new();
    }
    let factor = T::from_f64(factor);
    // How far a step along each axis goes in `hidden`; 0 where it has one place for all.
    let [first, second, third] = hidden_shape;
    let step = |count: usize, rows: usize| if count == 1 { 0 } else { rows };
    let steps = [
        step(first, second * third),
        step(second, third),
        step(third, 1),
    ];
    let start_of = |row: usize| {
        let at = [row / (heads * l), row / l % heads, row % l];
        at.iter()
            .zip(steps)
            .map(|(at, step)| at * step)
            .sum::<usize>()
            * width
    };
    build_zeroed(
        &row_blocks(1, n * heads * l, PIECE_ELEMENTS.div_ceil(width)),
        |piece: &RowBlock| piece.len() * width,
        8 * x.len(),
        |piece, p| {
            let rows = piece.start..piece.end;
            masked_rows(width, rows, x, hidden, &start_of, factor, p);
        },
    )
}

/// `f p ⊙ (g − ⟨p, g⟩)` of every row.
///
/// `p [rows, width]`, `g` alike → alike.
///
/// # Panics
/// If the rows do not fill the slices, or these differ in length.
pub fn softmax_adjoint<T: Real>(width: usize, p: &[T], g: &[T], factor: f64) -> Vec<T> {
    let factor = T::from_f64(factor);
    on_rows(width, [p, g], |[p, g], y| {
        adjoint_rows(width, p, g, factor, y)
    })
}

/// `f (u ⊙ g − u ⟨p, g⟩ − g ⟨p, u⟩)` of every row.
///
/// `p [rows, width]`, `g` and `u` alike → alike.
///
/// # Panics
/// If the rows do not fill the slices, or these differ in length.
pub fn softmax_curvature<T: Real>(width: usize, p: &[T], g: &[T], u: &[T], factor: f64) -> Vec<T> {
    let factor = T::from_f64(factor);
    on_rows(width, [p, g, u], |[p, g, u], y| {
        curvature_rows(width, p, g, u, factor, y);
    })
}

/// Runs a kernel on pieces of whole rows.
fn on_rows<T: Real, const N: usize>(
    width: usize,
    arrays: [&[T]; N],
    kernel: impl Fn([&[T]; N], &mut [T]) + Sync,
) -> Vec<T> {
    let len = arrays[0].len();
    if len == 0 {
        return Vec::new();
    }
    for array in arrays {
        check_len("an operand", array.len(), len);
    }
    check_len("the rows", len / width * width, len);
    build_zeroed(
        &row_blocks(1, len / width, PIECE_ELEMENTS.div_ceil(width)),
        |piece: &RowBlock| piece.len() * width,
        8 * len,
        |piece, y| kernel(arrays.map(|array| piece.of(array, 0, width)), y),
    )
}

wide! {
    fn softmax_rows[T: Real](width: usize, x: &[T], factor: T, p: &mut [T]) {
        for (x, p) in x.chunks_exact(width).zip(p.chunks_exact_mut(width)) {
            p.copy_from_slice(x);
            below_highest(p);
        }
        weights_of(width, factor, p);
    }
}

wide! {
    fn masked_rows[T: Real, F: Fn(usize) -> usize](
        width: usize,
        rows: Range<usize>,
        x: &[T],
        hidden: &[T],
        start_of: &F,
        factor: T,
        p: &mut [T],
    ) {
        let lowest = T::from_f64(f64::NEG_INFINITY);
        for (row, p) in rows.zip(p.chunks_exact_mut(width)) {
            let (x, hidden) = (&x[row * width..][..width], &hidden[start_of(row)..][..width]);
            for (p, (&x, &hidden)) in p.iter_mut().zip(x.iter().zip(hidden)) {
                *p = if hidden == T::ZERO { x } else { lowest };
            }
            below_highest(p);
        }
        weights_of(width, factor, p);
    }
}

/// What is subtracted from the scores of a row, so that the highest is 0; a row of −∞ stays.
#[inline(always)]
fn below_highest<T: Real>(p: &mut [T]) {
    let highest = largest(p);
    if highest.to_f64() != f64::NEG_INFINITY {
        for p in p {
            *p = *p - highest;
        }
    }
}

/// `softmax(f p)` of rows whose highest score is 0, or −∞: nothing is read there. The powers are taken of all
/// rows in one loop, since short rows would leave most of a vector empty.
#[inline(always)]
fn weights_of<T: Real>(width: usize, factor: T, p: &mut [T]) {
    for p in p.iter_mut() {
        *p = (factor * *p).exp();
    }
    for p in p.chunks_exact_mut(width) {
        let sum = sum([p], |[p]| p).to_f64();
        if sum == 0.0 {
            continue;
        }
        let inverse = T::from_f64(sum.recip());
        for p in p {
            *p = *p * inverse;
        }
    }
}

wide! {
    fn adjoint_rows[T: Real](width: usize, p: &[T], g: &[T], factor: T, y: &mut [T]) {
        let rows = p.chunks_exact(width).zip(g.chunks_exact(width));
        for ((p, g), y) in rows.zip(y.chunks_exact_mut(width)) {
            let mean = sum([p, g], |[p, g]| p * g);
            for (y, (&p, &g)) in y.iter_mut().zip(p.iter().zip(g)) {
                *y = factor * p * (g - mean);
            }
        }
    }
}

wide! {
    fn curvature_rows[T: Real](width: usize, p: &[T], g: &[T], u: &[T], factor: T, y: &mut [T]) {
        let rows = p
            .chunks_exact(width)
            .zip(g.chunks_exact(width))
            .zip(u.chunks_exact(width));
        for (((p, g), u), y) in rows.zip(y.chunks_exact_mut(width)) {
            let g_mean = sum([p, g], |[p, g]| p * g);
            let u_mean = sum([p, u], |[p, u]| p * u);
            for (y, (&g, &u)) in y.iter_mut().zip(g.iter().zip(u)) {
                *y = factor * (u * (g - g_mean) - g * u_mean);
            }
        }
    }
}

/// The largest element of a row that is not empty; a NaN is passed over.
#[inline(always)]
fn largest<T: Real>(x: &[T]) -> T {
    let max = |a: T, b: T| if b > a { b } else { a };
    let (lanes, rest) = x.as_chunks::<LANES>();
    let mut best = [x[0]; LANES];
    for lanes in lanes {
        for lane in 0..LANES {
            best[lane] = max(best[lane], lanes[lane]);
        }
    }
    rest.iter().chain(&best).copied().fold(x[0], max)
}

/// `Σ term` over a row.
#[inline(always)]
pub(super) fn sum<T: Real, const N: usize>(rows: [&[T]; N], term: impl Fn([T; N]) -> T) -> T {
    let len = rows[0].len();
    let mut sums = [T::ZERO; LANES];
    let whole = len / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let mut lanes = [[T::ZERO; LANES]; N];
        for n in 0..N {
            lanes[n].copy_from_slice(&rows[n][start..start + LANES]);
        }
        for lane in 0..LANES {
            let mut values = [T::ZERO; N];
            for n in 0..N {
                values[n] = lanes[n][lane];
            }
            sums[lane] += term(values);
        }
    }
    for at in whole..len {
        let mut values = [T::ZERO; N];
        for n in 0..N {
            values[n] = rows[n][at];
        }
        sums[at - whole] += term(values);
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, assert_same_for_any_threads, noise, tolerance};
    use super::*;

    fn check<T: Real>() {
        for (rows, width) in [(1, 1), (3, 5), (7, 8), (40, 16), (5, 33), (3000, 16)] {
            let factor = 0.7;
            let x: Vec<T> = noise(1, rows * width);
            let x: Vec<T> = x.iter().map(|v| T::from_f64(20.0 * v.to_f64())).collect();
            let g: Vec<T> = noise(2, rows * width);
            let u: Vec<T> = noise(3, rows * width);
            let p = softmax(width, &x, factor);
            let mut expected = [vec![], vec![], vec![]];
            for row in 0..rows {
                let of = |v: &[T]| -> Vec<f64> {
                    v[row * width..][..width]
                        .iter()
                        .map(|v| v.to_f64())
                        .collect()
                };
                let (x, g, u) = (of(&x), of(&g), of(&u));
                let highest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = x.iter().map(|x| (factor * (x - highest)).exp()).collect();
                let total: f64 = weights.iter().sum();
                expected[0].extend(weights.iter().map(|w| w / total));
                // The derivatives are those at the rounded `p`.
                let p = of(&p);
                let mean = |g: &[f64]| p.iter().zip(g).map(|(p, g)| p * g).sum::<f64>();
                let (g_mean, u_mean) = (mean(&g), mean(&u));
                for i in 0..width {
                    expected[1].push(factor * p[i] * (g[i] - g_mean));
                    expected[2].push(factor * (u[i] * g[i] - u[i] * g_mean - g[i] * u_mean));
                }
            }
            let found = [
                p.clone(),
                softmax_adjoint(width, &p, &g, factor),
                softmax_curvature(width, &p, &g, &u, factor),
            ];
            for (found, expected) in found.iter().zip(&expected) {
                assert_close(found, expected, tolerance::<T>(), "softmax");
            }
        }
    }

    #[test]
    fn equals_the_loops() {
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn what_is_hidden_is_not_read_and_a_nan_is_not_hidden() {
        let hidden = f32::NEG_INFINITY;
        let p = softmax(2, &[hidden, 3.0, hidden, hidden, 1e30, -1e30], 1.0);
        assert_eq!(p, [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        assert!(softmax(2, &[f32::NAN, 3.0], 1.0)[1].is_nan());
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let x: Vec<f32> = noise(1, 20_000 * 17);
        assert_same_for_any_threads(|| softmax(17, &x, 2.0));
        assert_same_for_any_threads(|| softmax_adjoint(17, &x, &x, 2.0));
        assert_same_for_any_threads(|| softmax_curvature(17, &x, &x, &x, 2.0));
    }
}
