//! Normalisation followed by max pooling, without the normalised map in between.
//!
//! The winner of a window does not depend on the statistics, only on whether the affine map that
//! follows rises or falls, so one pass over `x` finds the winners and the sums. With the symbols of
//! [`standardize`](super::standardize), S the selection of the winners, p = S x̂ and g = Sᵀh:
//!
//! - the adjoint is J g = ρ(g − ḡ − a x̂), where ḡ = Σh/r and a = Σp h/r are sums over winners alone;
//! - its derivative along u is S J u = ρ(S u − ū − b p) in h, and the curvature of
//!   [`standardize_curvature`](super::standardize::standardize_curvature) in x.

use crate::forms::Pooling;

use super::blocks::{add_partials, check_len};
use super::buffers::{Fresh, build, build_two, update};
use super::pool::{pool_planes, pool_select};
use super::real::{Real, wide};
use super::rows::{column_sums, lanes, repeat, row_sums};
use super::standardize::shifts;

/// Mean and `(variance + ε)^(−1/2)` of one task and channel.
pub type Moments = [f64; 2];

/// What the forward pass found, for the kernels of the derivatives.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a, T> {
    /// Sizes; its items are those of all tasks.
    pub pooling: &'a Pooling,
    /// Moments of every task and channel.
    pub moments: &'a [Moments],
    /// `p`, the standardised winners.
    pub pooled: &'a [T],
    /// Position of each winner in its plane.
    pub index: &'a [i32],
}

/// The standardised winners of each window, their positions, and the moments of every task and
/// channel. The largest value wins where `direction` is at least 0, the smallest elsewhere; ties go
/// to the first in row-major order, and a NaN beats everything else.
///
/// `x [t, b, h, w, c]`, `direction [td, c]` with `td ∈ {1, t}` → `p [t, b, ho, wo, c]`, `index`
/// alike, moments `[t, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says, or the window does not fit the image.
pub fn standardize_pool<T: Real>(
    pooling: &Pooling,
    tasks: usize,
    x: &[T],
    direction: &[T],
    eps: f64,
) -> (Vec<T>, Vec<i32>, Vec<Moments>) {
    let g = pooling;
    let [_, rows, c] = rows_of(g, tasks);
    check_len("x", x.len(), g.items * g.in_plane());
    assert!(
        direction.len() == c || direction.len() == tasks * c,
        "the direction has {} elements, not one per channel",
        direction.len()
    );
    let signs: Vec<T> = direction
        .iter()
        .map(|&d| {
            if d < T::ZERO {
                T::ZERO - T::ONE
            } else {
                T::ONE
            }
        })
        .collect();
    let pieces = g.pieces(tasks);
    let shifts = shifts([tasks, rows, c], [x]);
    let (centres, width) = (repeat(&shifts, c), c * lanes(c));
    let items = g.items / tasks;

    let (mut pooled, index, sums) = build_two(
        &pieces,
        |piece| (piece.len() * g.out_plane(), piece.len() * g.out_plane()),
        6 * x.len(),
        |piece, pooled, index| {
            let x = piece.of(x, items, g.in_plane());
            let mut sums = vec![0.0; 2 * c];
            let centres = &centres[piece.task * width..][..width];
            column_sums(c, [x], centres, &mut sums, |[x]| [x, x * x]);
            let signs = &signs[if signs.len() == c { 0 } else { piece.task * c }..][..c];
            pool_planes(g, x, signs, pooled.zeros(), index.zeros());
            sums
        },
    );
    let sums = add_partials(sums.concat(), tasks, 2 * c);

    let moments: Vec<Moments> = (0..tasks * c)
        .map(|at| {
            let (task, channel) = (at / c, at % c);
            let mean = |m: usize| sums[(2 * task + m) * c + channel] / rows as f64;
            let variance = (mean(1) - mean(0) * mean(0)).max(0.0);
            [
                shifts[at].to_f64() + mean(0),
                (variance + eps).sqrt().recip(),
            ]
        })
        .collect();

    let [means, rho] = [0, 1].map(|k| moments.iter().map(|m| T::from_f64(m[k])).collect());
    let (means, rho): (Vec<T>, Vec<T>) = (means, rho);
    update(
        &mut pooled,
        &pieces,
        |piece| piece.len() * g.out_plane(),
        2 * index.len(),
        |piece, pooled| {
            let channels = piece.task * c..(piece.task + 1) * c;
            normalise(pooled, &means[channels.clone()], &rho[channels]);
        },
    );
    (pooled, index, moments)
}

/// The adjoint of [`standardize_pool`] in `x`, applied to `h [t, b, ho, wo, c]`: `[t, b, h, w, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn standardize_pool_adjoint<T: Real>(
    found: &Found<'_, T>,
    tasks: usize,
    x: &[T],
    h: &[T],
) -> Vec<T> {
    let [_, rows, c] = rows_of(found.pooling, tasks);
    let sums = row_sums(
        found.pooled_rows(tasks),
        [found.pooled, h],
        &vec![T::ZERO; tasks * 2 * c],
        |[p, h]| [h, p * h],
    );
    let vectors = found.vectors(tasks, |task, channel, [mean, rho]| {
        let mean_of = |m: usize| sums[(2 * task + m) * c + channel] / rows as f64;
        let (h_mean, a) = (mean_of(0), mean_of(1));
        Vectors {
            centres: [mean],
            factors: [-rho * rho * a],
            constant: -rho * h_mean,
            of_winners: rho,
        }
    });
    found.spread(tasks, [x], &vectors, h)
}

/// The derivatives of `⟨u, A⟩`, `A` being [`standardize_pool_adjoint`], in `x` and in `h`:
/// `([t, b, h, w, c], [t, b, ho, wo, c])`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn standardize_pool_curvature<T: Real>(
    found: &Found<'_, T>,
    tasks: usize,
    x: &[T],
    h: &[T],
    u: &[T],
) -> (Vec<T>, Vec<T>) {
    let shape = rows_of(found.pooling, tasks);
    let [_, rows, c] = shape;
    check_len("x", x.len(), shape.iter().product());
    check_len("u", u.len(), x.len());
    // Over all rows: Σu and Σ(x − m)u, m rounded to the element type.
    let centres: Vec<T> = found
        .moments
        .chunks_exact(c)
        .flat_map(|moments| {
            let means = moments.iter().map(|m| T::from_f64(m[0]));
            means.chain(std::iter::repeat_n(T::ZERO, c))
        })
        .collect();
    let full = row_sums(shape, [x, u], &centres, |[x, u]| [u, x * u]);
    // Over the winners: Σh, Σp h and Σ(S u)h.
    let mut along_h = pool_select(found.pooling, u, found.index);
    let winners = row_sums(
        found.pooled_rows(tasks),
        [found.pooled, h, &along_h],
        &vec![T::ZERO; tasks * 3 * c],
        |[p, h, u]| [h, p * h, u * h],
    );
    let mean_u = |at: usize| full[2 * (at / c) * c + at % c] / rows as f64;
    // b = mean(x̂ u), less what the rounding of m left.
    let b = |at: usize| {
        let [mean, rho] = found.moments[at];
        let rounding = mean - T::from_f64(mean).to_f64();
        let covariance = full[(2 * (at / c) + 1) * c + at % c] / rows as f64;
        rho * (covariance - rounding * mean_u(at))
    };
    let vectors = found.vectors(tasks, |task, channel, [mean, rho]| {
        let at = task * c + channel;
        let mean_of = |m: usize| winners[(3 * task + m) * c + channel] / rows as f64;
        let (h_mean, a, uh) = (mean_of(0), mean_of(1), mean_of(2));
        let (u_mean, b) = (mean_u(at), b(at));
        let s = uh - u_mean * h_mean - a * b;
        let square = -rho * rho;
        Vectors {
            centres: [mean, u_mean],
            factors: [square * rho * (s - 2.0 * a * b), square * a],
            constant: -square * b * h_mean,
            of_winners: square * b,
        }
    });
    let along_x = found.spread(tasks, [x, u], &vectors, h);

    // ρ(S u − ū − b p), in the memory of S u.
    let element = |f: &dyn Fn(usize) -> f64| -> Vec<T> {
        (0..tasks * c).map(|at| T::from_f64(f(at))).collect()
    };
    let u_means = element(&mean_u);
    let rho = element(&|at| found.moments[at][1]);
    let slopes = element(&|at| found.moments[at][1] * b(at));
    let (items, out) = (found.pooling.items / tasks, found.pooling.out_plane());
    update(
        &mut along_h,
        &found.pooling.pieces(tasks),
        |piece| piece.len() * out,
        4 * h.len(),
        |piece, along_h| {
            let channels = piece.task * c..(piece.task + 1) * c;
            normalise(along_h, &u_means[channels.clone()], &rho[channels.clone()]);
            let pooled = piece.of(found.pooled, items, out);
            subtract_scaled(along_h, pooled, &slopes[channels]);
        },
    );
    (along_x, along_h)
}

/// `[t, r, c]` of the images as rows.
fn rows_of(pooling: &Pooling, tasks: usize) -> [usize; 3] {
    pooling.check();
    assert!(
        tasks > 0 && pooling.items.is_multiple_of(tasks),
        "{} images of {tasks} tasks",
        pooling.items
    );
    let rows = pooling.items / tasks * pooling.height * pooling.width;
    [tasks, rows, pooling.channels]
}

/// The coefficients of one channel in `Σ_k factors_k (z_k − centres_k) + constant`, to which each
/// winner adds `of_winners · h`.
struct Vectors<const N: usize> {
    centres: [f64; N],
    factors: [f64; N],
    constant: f64,
    of_winners: f64,
}

impl<T: Real> Found<'_, T> {
    fn pooled_rows(&self, tasks: usize) -> [usize; 3] {
        let c = self.pooling.channels;
        [tasks, self.pooled.len() / (tasks * c), c]
    }

    /// `[centres | factors | constant | of_winners]` of every task, `[t, 2N + 2, c]`.
    fn vectors<const N: usize>(
        &self,
        tasks: usize,
        coefficients: impl Fn(usize, usize, Moments) -> Vectors<N>,
    ) -> Vec<T> {
        let c = self.pooling.channels;
        let mut vectors = vec![T::ZERO; tasks * (2 * N + 2) * c];
        for (task, vectors) in vectors.chunks_exact_mut((2 * N + 2) * c).enumerate() {
            for channel in 0..c {
                let of = coefficients(task, channel, self.moments[task * c + channel]);
                let column = of.centres.into_iter().chain(of.factors);
                let column = column.chain([of.constant, of.of_winners]);
                for (k, value) in column.enumerate() {
                    vectors[k * c + channel] = T::from_f64(value);
                }
            }
        }
        vectors
    }

    /// Applies [`Vectors`] to every pixel.
    fn spread<const N: usize>(
        &self,
        tasks: usize,
        arrays: [&[T]; N],
        vectors: &[T],
        h: &[T],
    ) -> Vec<T> {
        let g = self.pooling;
        let (items, len) = (g.items / tasks, (2 * N + 2) * g.channels);
        for array in arrays {
            check_len("an operand", array.len(), g.items * g.in_plane());
        }
        check_len("h", h.len(), g.items * g.out_plane());
        check_len("index", self.index.len(), h.len());
        build(
            &g.pieces(tasks),
            |piece| piece.len() * g.in_plane(),
            4 * N * g.items * g.in_plane(),
            |piece, y| {
                spread_planes(
                    g,
                    arrays.map(|z| piece.of(z, items, g.in_plane())),
                    &vectors[piece.task * len..][..len],
                    piece.of(h, items, g.out_plane()),
                    piece.of(self.index, items, g.out_plane()),
                    y,
                );
            },
        )
    }
}

wide! {
    /// The planes of one piece, pixel by pixel.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "positions fit i32, checked on entry"
    )]
    fn spread_planes[T: Real, const N: usize](
        g: &Pooling,
        arrays: [&[T]; N],
        vectors: &[T],
        h: &[T],
        index: &[i32],
        y: &mut Fresh<'_, T>,
    ) {
        let c = g.channels;
        let vector = |k: usize| &vectors[k * c..][..c];
        let (constant, of_winners) = (vector(2 * N), vector(2 * N + 1));
        for plane in 0..arrays[0].len() / g.in_plane() {
            for position in 0..g.height * g.width {
                let at = plane * g.in_plane() + position * c;
                let terms = arrays[0][at..][..c].iter().zip(vector(0)).zip(vector(N));
                let terms = terms.zip(constant).map(|(((&z, &centre), &factor), &constant)| {
                    factor * (z - centre) + constant
                });
                let y = y.put(terms);
                for (k, z) in arrays.iter().enumerate().skip(1) {
                    let terms = z[at..][..c].iter().zip(vector(k)).zip(vector(N + k));
                    for (y, ((&z, &centre), &factor)) in y.iter_mut().zip(terms) {
                        *y += factor * (z - centre);
                    }
                }
                let (i, j) = (position / g.width / g.size, position % g.width / g.size);
                if i < g.out_height() && j < g.out_width() {
                    let window = plane * g.out_plane() + (i * g.out_width() + j) * c;
                    let winners = h[window..][..c].iter().zip(&index[window..][..c]);
                    for ((y, (&h, &index)), &factor) in y.iter_mut().zip(winners).zip(of_winners) {
                        *y += if index == position as i32 { factor * h } else { T::ZERO };
                    }
                }
            }
        }
    }
}

wide! {
    /// `x ← ρ(x − m)`, rows of channels.
    fn normalise[T: Real](x: &mut [T], means: &[T], rho: &[T]) {
        for row in x.chunks_exact_mut(means.len()) {
            for ((x, &mean), &rho) in row.iter_mut().zip(means).zip(rho) {
                *x = rho * (*x - mean);
            }
        }
    }
}

wide! {
    /// `x ← x − slopes · p`, rows of channels.
    fn subtract_scaled[T: Real](x: &mut [T], p: &[T], slopes: &[T]) {
        for (row, p) in x.chunks_exact_mut(slopes.len()).zip(p.chunks_exact(slopes.len())) {
            for ((x, &p), &slope) in row.iter_mut().zip(p).zip(slopes) {
                *x = *x - slope * p;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::{max_pool2d, pool_scatter};
    use super::super::standardize::{standardize, standardize_adjoint, standardize_curvature};
    use super::super::testing::{
        assert_close, assert_same_for_any_threads, noise, tolerance, widen,
    };
    use super::*;

    const EPS: f64 = 1e-3;

    fn geometries() -> Vec<(usize, Pooling)> {
        let sizes = [
            (1, 1, 2, 2, 1, 2),
            (2, 3, 7, 5, 3, 2),
            (3, 2, 14, 14, 64, 2),
            (2, 1, 6, 7, 65, 1),
            (1, 4, 9, 10, 8, 3),
            (5, 40, 3, 3, 4, 2),
        ];
        sizes
            .into_iter()
            .map(|(tasks, items, height, width, channels, size)| {
                let pooling = Pooling {
                    items: tasks * items,
                    height,
                    width,
                    channels,
                    size,
                };
                (tasks, pooling)
            })
            .collect()
    }

    /// Against the kernels that it fuses, in double precision.
    fn check<T: Real>() {
        for (tasks, g) in geometries() {
            let shape = rows_of(&g, tasks);
            let len = shape.iter().product();
            let x: Vec<T> = noise(1, len);
            let u: Vec<T> = noise(2, len);
            let h: Vec<T> = noise(3, g.items * g.out_plane());
            for vector_tasks in [1, tasks] {
                let direction: Vec<T> = noise(4, vector_tasks * g.channels);
                let (p, index, moments) = standardize_pool(&g, tasks, &x, &direction, EPS);
                let found = Found {
                    pooling: &g,
                    moments: &moments,
                    pooled: &p,
                    index: &index,
                };
                let (xw, uw, hw) = (widen(&x), widen(&u), widen(&h));
                let signed: Vec<f64> = (0..len)
                    .map(|i| {
                        let task = i / (len / tasks) % vector_tasks;
                        let sign = direction[task * g.channels + i % g.channels];
                        xw[i] * if sign < T::ZERO { -1.0 } else { 1.0 }
                    })
                    .collect();
                assert_eq!(index, max_pool2d(&g, &signed).1, "{g:?}");
                let close = |actual: &[T], expected: &[f64], what: &str| {
                    assert_close(actual, expected, tolerance::<T>(), &format!("{g:?} {what}"));
                };
                close(
                    &p,
                    &pool_select(&g, &standardize(shape, &xw, EPS), &index),
                    "p",
                );
                let scattered = pool_scatter(&g, &hw, &index);
                let adjoint = standardize_adjoint(shape, &xw, &scattered, EPS);
                close(
                    &standardize_pool_adjoint(&found, tasks, &x, &h),
                    &adjoint,
                    "adjoint",
                );
                let (along_x, along_h) = standardize_pool_curvature(&found, tasks, &x, &h, &u);
                let curvature = standardize_curvature(shape, &xw, &scattered, &uw, EPS);
                close(&along_x, &curvature, "along x");
                let tangent = standardize_adjoint(shape, &xw, &uw, EPS);
                close(&along_h, &pool_select(&g, &tangent, &index), "along h");
            }
        }
    }

    #[test]
    fn equals_the_kernels_that_it_fuses() {
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let g = Pooling {
            items: 60,
            height: 28,
            width: 28,
            channels: 32,
            size: 2,
        };
        let x: Vec<f32> = noise(1, g.items * g.in_plane());
        let u: Vec<f32> = noise(2, x.len());
        for tasks in [1, 3] {
            let direction: Vec<f32> = noise(3, g.channels);
            let (p, index, moments) = standardize_pool(&g, tasks, &x, &direction, EPS);
            let h: Vec<f32> = noise(4, p.len());
            let found = Found {
                pooling: &g,
                moments: &moments,
                pooled: &p,
                index: &index,
            };
            assert_same_for_any_threads(|| standardize_pool(&g, tasks, &x, &direction, EPS).0);
            assert_same_for_any_threads(|| standardize_pool_adjoint(&found, tasks, &x, &h));
            let curvature = || standardize_pool_curvature(&found, tasks, &x, &h, &u);
            assert_same_for_any_threads(|| curvature().0);
            assert_same_for_any_threads(|| curvature().1);
        }
    }
}
