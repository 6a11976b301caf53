//! Per-channel operations on rows: scale, add, broadcast, and their adjoints, which are sums over
//! rows.
//!
//! `x [t, r, c]` are the rows of every task; a channel vector is `[1, c]`, shared by all tasks, or
//! `[t, c]`. Sums add at most `TREE` rows in the element type and everything above that in
//! double precision, so a sum of a million `f32` rows is as accurate as a sum of eight; only sums of
//! no more than `FEW_ROWS` rows stay in the element type, in groups of `TREE`.

use std::ops::{Add, Mul, Sub};

use super::blocks::{PIECE_ELEMENTS, RowBlock, add_partials, check_len, row_blocks};
use super::buffers::{Fresh, build, build_zeroed};
use super::real::{Real, wide};

/// Rows added in the element type before they join a double-precision sum.
const TREE: usize = 8;

/// Rows of a task up to which a sum needs no double precision.
const FEW_ROWS: usize = 8 * TREE;

/// Rows narrower than this are treated as wider rows holding several, to fill vector registers.
const NARROW: usize = 32;

/// `y = x ⊙ a`: every row of task `t` times the channel vector of task `t`.
///
/// `x [t, r, c]`, `a [ta, c]` with `ta ∈ {1, t}`, told apart by the length of `a` → `y [t, r, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn scale<T: Real>(shape: [usize; 3], x: &[T], a: &[T]) -> Vec<T> {
    check_len("x", x.len(), shape.iter().product());
    let [tasks, rows, c] = fold(shape, vector_tasks(shape, a));
    with_vector(tasks, rows, c, a, |piece, a, y| {
        let x = piece.of(x, rows, c);
        for x in x.chunks(a.len()) {
            y.put(x.iter().zip(a).map(|(&x, &a)| x * a));
        }
    })
}

/// `y = φ(x ⊙ a + b)`, where `rectified` makes φ a ReLU, which keeps a NaN.
///
/// `x [t, r, c]`, `a [ta, c]` and `b [tb, c]` with `ta, tb ∈ {1, t}` → `y [t, r, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn scale_add<T: Real>(shape: [usize; 3], x: &[T], a: &[T], b: &[T], rectified: bool) -> Vec<T> {
    check_len("x", x.len(), shape.iter().product());
    let c = shape[2];
    let vectors = vector_tasks(shape, a).max(vector_tasks(shape, b));
    let [tasks, rows, _] = fold(shape, vectors);
    // Both vectors of a task side by side, `[a | b]`.
    let pair = |task: usize| {
        let of = |vector: &[T]| {
            let start = if vector.len() == c { 0 } else { task * c };
            vector[start..start + c].to_vec()
        };
        [repeat(&of(a), c), repeat(&of(b), c)].concat()
    };
    let pairs: Vec<T> = (0..tasks).flat_map(pair).collect();
    if c == 0 {
        return Vec::new();
    }
    let width = c * lanes(c);
    build(
        &row_blocks(tasks, rows, PIECE_ELEMENTS / c),
        |piece| piece.len() * c,
        4 * tasks * rows * c,
        |piece, y| {
            let (a, b) = pairs[2 * piece.task * width..][..2 * width].split_at(width);
            let x = piece.of(x, rows, c);
            if !rectified {
                scale_add_rows(x, a, b, y, &|sum| sum)
            } else {
                scale_add_rows(x, a, b, y, &rectified_value)
            }
        },
    )
}

/// `max(v, 0)`; a NaN stays.
#[inline(always)]
pub(super) fn rectified_value<T: Real>(value: T) -> T {
    if value <= T::ZERO { T::ZERO } else { value }
}

wide! {
    fn scale_add_rows[T: Real, F: Fn(T) -> T](
        x: &[T],
        a: &[T],
        b: &[T],
        y: &mut Fresh<'_, T>,
        activation: &F,
    ) {
        for x in x.chunks(a.len()) {
            y.put(x.iter().zip(a).zip(b).map(|((&x, &a), &b)| activation(x * a + b)));
        }
    }
}

/// `y = x + b`: the channel vector added to every row.
///
/// `x [t, r, c]`, `b [tb, c]` with `tb ∈ {1, t}` → `y [t, r, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn add_rows<T: Real>(shape: [usize; 3], x: &[T], b: &[T]) -> Vec<T> {
    check_len("x", x.len(), shape.iter().product());
    let [tasks, rows, c] = fold(shape, vector_tasks(shape, b));
    with_vector(tasks, rows, c, b, |piece, b, y| {
        let x = piece.of(x, rows, c);
        for x in x.chunks(b.len()) {
            y.put(x.iter().zip(b).map(|(&x, &b)| x + b));
        }
    })
}

/// `y[t, r, ·] = b[t, ·]`: the channel vector repeated over the rows, the adjoint of [`sum_rows`].
///
/// `b [tb, c]` with `tb ∈ {1, t}` → `y [t, r, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn broadcast_rows<T: Real>(shape: [usize; 3], b: &[T]) -> Vec<T> {
    let [tasks, rows, c] = fold(shape, vector_tasks(shape, b));
    with_vector(tasks, rows, c, b, |_, b, y| {
        while y.left() > 0 {
            y.put(b[..b.len().min(y.left())].iter().copied());
        }
    })
}

/// `s[t, ·] = Σ_r x[t, r, ·]`, summed over tasks too when `vector_tasks` is 1; the adjoint of
/// [`broadcast_rows`] and of [`add_rows`] in `b`.
///
/// `x [t, r, c]` → `s [vector_tasks, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn sum_rows<T: Real>(shape: [usize; 3], vector_tasks: usize, x: &[T]) -> Vec<T> {
    check_len("x", x.len(), shape.iter().product());
    let [tasks, rows, c] = fold(shape, vector_tasks);
    if rows > FEW_ROWS || c == 0 {
        return summed([tasks, rows, c], [x], |[x]| x);
    }
    build_zeroed(
        &row_blocks(1, tasks, PIECE_ELEMENTS.div_ceil(rows.max(1) * c)),
        |piece| piece.len() * c,
        x.len(),
        |piece, sums| add_few(rows, c, piece.of(x, tasks, rows * c), sums),
    )
}

wide! {
    /// The sums of few rows per task, in the element type: a sum of groups of [`TREE`] rows.
    fn add_few[T: Real](rows: usize, c: usize, x: &[T], sums: &mut [T]) {
        let mut group = vec![T::ZERO; c];
        for (task, sums) in sums.chunks_exact_mut(c).enumerate() {
            let rows = x[task * rows * c..][..rows * c].chunks(TREE * c);
            for rows in rows {
                group.fill(T::ZERO);
                for row in rows.chunks_exact(c) {
                    for (sum, &value) in group.iter_mut().zip(row) {
                        *sum += value;
                    }
                }
                for (sum, &value) in sums.iter_mut().zip(&group) {
                    *sum += value;
                }
            }
        }
    }
}

/// `s[t, ·] = Σ_r x[t, r, ·] ⊙ y[t, r, ·]`, summed over tasks too when `vector_tasks` is 1; the
/// adjoint of [`scale`] in `a`.
///
/// `x [t, r, c]`, `y [t, r, c]` → `s [vector_tasks, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn scale_weight<T: Real>(shape: [usize; 3], vector_tasks: usize, x: &[T], y: &[T]) -> Vec<T> {
    check_len("x", x.len(), shape.iter().product());
    check_len("y", y.len(), shape.iter().product());
    summed(fold(shape, vector_tasks), [x, y], |[x, y]| x * y)
}

/// The leading axis of a channel vector.
pub(super) fn vector_tasks<T>([tasks, _, c]: [usize; 3], vector: &[T]) -> usize {
    if vector.len() == c {
        1
    } else {
        check_len("the channel vector", vector.len(), tasks * c);
        tasks
    }
}

/// A shared channel vector sees the rows of all tasks as rows of one task.
pub(super) fn fold([tasks, rows, c]: [usize; 3], vector_tasks: usize) -> [usize; 3] {
    assert!(
        vector_tasks == 1 || vector_tasks == tasks,
        "the channel vector has {vector_tasks} tasks, must have 1 or {tasks}"
    );
    if vector_tasks == tasks {
        [tasks, rows, c]
    } else {
        [1, tasks * rows, c]
    }
}

/// Fills `[tasks, rows, c]` piece by piece; `fill` gets the task's channel vector, repeated to a
/// comfortable width, and the piece's rows.
pub(super) fn with_vector<T: Real>(
    tasks: usize,
    rows: usize,
    c: usize,
    vector: &[T],
    fill: impl Fn(&RowBlock, &[T], &mut Fresh<'_, T>) + Sync,
) -> Vec<T> {
    if c == 0 {
        return Vec::new();
    }
    let repeated = repeat(vector, c);
    build(
        &row_blocks(tasks, rows, PIECE_ELEMENTS / c),
        |piece| piece.len() * c,
        4 * tasks * rows * c,
        |piece, y| {
            let width = c * lanes(c);
            fill(piece, &repeated[piece.task * width..][..width], y);
        },
    )
}

/// How many rows of width `c` make one comfortable row: a multiple of [`LANES`], at least
/// [`NARROW`].
pub(super) fn lanes(c: usize) -> usize {
    if c == 0 {
        return 1;
    }
    let whole = LANES >> c.trailing_zeros().min(LANES.trailing_zeros());
    whole * NARROW.div_ceil(whole * c)
}

/// Each vector of `[tasks, c]` repeated [`lanes`] times: `[tasks, lanes·c]`.
pub(super) fn repeat<T: Copy>(vectors: &[T], c: usize) -> Vec<T> {
    let mut repeated = Vec::with_capacity(vectors.len() * lanes(c));
    for vector in vectors.chunks_exact(c.max(1)) {
        for _ in 0..lanes(c) {
            repeated.extend_from_slice(vector);
        }
    }
    repeated
}

/// `Σ_r term(arrays[·][t, r, c])` → `[tasks, c]`.
fn summed<T: Real, const N: usize>(
    [tasks, rows, c]: [usize; 3],
    arrays: [&[T]; N],
    term: impl Fn([Lanes<T>; N]) -> Lanes<T> + Copy + Sync,
) -> Vec<T> {
    let centres = vec![T::ZERO; tasks * N * c];
    let sums = row_sums([tasks, rows, c], arrays, &centres, |values| [term(values)]);
    sums.into_iter().map(T::from_f64).collect()
}

/// `Σ_r term_m(arrays[·][t, r, c] − centres[t, ·, c])` → `[tasks, M, c]`, in double precision. Terms
/// of zeros must be zero.
///
/// `centres [tasks, N, c]`.
pub(super) fn row_sums<T: Real, const N: usize, const M: usize>(
    [tasks, rows, c]: [usize; 3],
    arrays: [&[T]; N],
    centres: &[T],
    terms: impl Fn([Lanes<T>; N]) -> [Lanes<T>; M] + Copy + Sync,
) -> Vec<f64> {
    // Empty rows still have a sum.
    if rows == 0 {
        return vec![0.0; tasks * M * c];
    }
    let (centres, width) = (repeat(centres, c), c * lanes(c));
    let partials = build_zeroed(
        &row_blocks(tasks, rows, PIECE_ELEMENTS / c.max(1)),
        |_| M * c,
        4 * N * tasks * rows * c,
        |piece, sums| {
            let arrays = arrays.map(|x| piece.of(x, rows, c));
            let centres = &centres[piece.task * N * width..][..N * width];
            column_sums(c, arrays, centres, sums, terms);
        },
    );
    add_partials(partials, tasks, M * c)
}

/// `sums[m, j] += Σ_r term_m(arrays[·][r, j] − centres[·, j])` over rows of width `c`. Terms of
/// zeros must be zero.
///
/// `centres [N, lanes·c]` is repeated like [`repeat`] does; `sums [M, c]`.
pub(super) fn column_sums<T: Real, const N: usize, const M: usize>(
    c: usize,
    arrays: [&[T]; N],
    centres: &[T],
    sums: &mut [f64],
    term: impl Fn([Lanes<T>; N]) -> [Lanes<T>; M],
) {
    let width = c * lanes(c);
    if width == c {
        add_columns(width, arrays, centres, sums, term);
        return;
    }
    let mut wide_sums = vec![0.0; M * width];
    add_columns(width, arrays, centres, &mut wide_sums, term);
    for (wide_sums, sums) in wide_sums.chunks_exact(width).zip(sums.chunks_exact_mut(c)) {
        for lane in wide_sums.chunks_exact(c) {
            for (sum, &value) in sums.iter_mut().zip(lane) {
                *sum += value;
            }
        }
    }
}

/// Columns summed together.
const LANES: usize = 8;

/// Adjacent columns of one row, with the arithmetic of each: simple enough for the compiler to
/// make one vector instruction of every operation.
#[derive(Clone, Copy)]
pub(super) struct Lanes<T>([T; LANES]);

impl<T: Real> Lanes<T> {
    const ZERO: Self = Self([T::ZERO; LANES]);

    #[inline(always)]
    fn load(values: &[T]) -> Self {
        let mut lanes = [T::ZERO; LANES];
        lanes.copy_from_slice(&values[..LANES]);
        Self(lanes)
    }

    #[inline(always)]
    fn zip(mut self, other: Self, f: impl Fn(T, T) -> T) -> Self {
        for lane in 0..LANES {
            self.0[lane] = f(self.0[lane], other.0[lane]);
        }
        self
    }
}

impl<T: Real> Add for Lanes<T> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
}

impl<T: Real> Sub for Lanes<T> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
}

impl<T: Real> Mul for Lanes<T> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
}

/// [`column_sums`] over rows of `width`, a multiple of [`LANES`]; the last may be short.
fn add_columns<T: Real, const N: usize, const M: usize>(
    width: usize,
    arrays: [&[T]; N],
    centres: &[T],
    sums: &mut [f64],
    term: impl Fn([Lanes<T>; N]) -> [Lanes<T>; M],
) {
    if width == 0 {
        return;
    }
    let len = arrays.first().map_or(0, |x| x.len());
    let whole = len / width * width;
    add_trees(width, arrays.map(|x| &x[..whole]), centres, sums, &term);
    if whole < len {
        // What is missing from the last row counts as the centre, and so as nothing.
        let mut last = centres.to_vec();
        for (x, last) in arrays.iter().zip(last.chunks_exact_mut(width)) {
            last[..len - whole].copy_from_slice(&x[whole..]);
        }
        let mut parts = last.chunks_exact(width);
        let last = arrays.map(|_| parts.next().unwrap_or_default());
        add_trees(width, last, centres, sums, &term);
    }
}

wide! {
    /// Sums groups of `TREE` rows: each in the element type, the groups in double precision.
    fn add_trees[
        T: Real,
        const N: usize,
        const M: usize,
        F: Fn([Lanes<T>; N]) -> [Lanes<T>; M],
    ](
        width: usize,
        arrays: [&[T]; N],
        centres: &[T],
        sums: &mut [f64],
        term: &F,
    ) {
        let len = arrays.first().map_or(0, |x| x.len());
        for start in (0..len).step_by(TREE * width) {
            let end = len.min(start + TREE * width);
            let rows = arrays.map(|x| &x[start..end]);
            if end - start == TREE * width {
                // A constant count lets the compiler unroll the rows.
                add_tree(width, TREE, rows, centres, sums, term);
            } else {
                add_tree(width, (end - start) / width, rows, centres, sums, term);
            }
        }
    }
}

/// Sums `count` rows in the element type, and adds that to `sums`.
#[inline(always)]
fn add_tree<T: Real, const N: usize, const M: usize>(
    width: usize,
    count: usize,
    rows: [&[T]; N],
    centres: &[T],
    sums: &mut [f64],
    term: &impl Fn([Lanes<T>; N]) -> [Lanes<T>; M],
) {
    for column in (0..width).step_by(LANES) {
        let mut centre = [Lanes::ZERO; N];
        for k in 0..N {
            centre[k] = Lanes::load(&centres[k * width + column..]);
        }
        let mut total = [Lanes::ZERO; M];
        for row in 0..count {
            let mut values = [Lanes::ZERO; N];
            for k in 0..N {
                values[k] = Lanes::load(&rows[k][row * width + column..]) - centre[k];
            }
            let terms = term(values);
            for m in 0..M {
                total[m] = total[m] + terms[m];
            }
        }
        for m in 0..M {
            let sums = &mut sums[m * width + column..][..LANES];
            for (sum, value) in sums.iter_mut().zip(total[m].0) {
                *sum += value.to_f64();
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

    const SHAPES: [[usize; 3]; 9] = [
        [1, 1, 1],
        [1, 9, 3],
        [4, 1, 8],
        [3, 50, 65],
        [2, 700, 64],
        [5, 33, 2],
        [1, 5000, 5],
        [7, 20, 31],
        [2, 0, 3],
    ];

    fn check<T: Real>() {
        for shape in SHAPES {
            let [tasks, rows, c] = shape;
            let len = tasks * rows * c;
            let x: Vec<T> = noise(1, len);
            let y: Vec<T> = noise(2, len);
            for vector_tasks in [1, tasks] {
                let a: Vec<T> = noise(3, vector_tasks * c);
                let of = |i: usize| {
                    let task = if vector_tasks == 1 { 0 } else { i / (rows * c) };
                    task * c + i % c
                };
                let (mut scaled, mut added, mut spread) = (Vec::new(), Vec::new(), Vec::new());
                let (mut sum, mut weight) =
                    (vec![0.0; vector_tasks * c], vec![0.0; vector_tasks * c]);
                for i in 0..len {
                    let (x, y, a) = (x[i].to_f64(), y[i].to_f64(), a[of(i)].to_f64());
                    scaled.push(x * a);
                    added.push(x + a);
                    spread.push(a);
                    sum[of(i)] += x;
                    weight[of(i)] += x * y;
                }
                let tolerance = tolerance::<T>();
                assert_close(&scale(shape, &x, &a), &scaled, tolerance, "scale");
                assert_close(&add_rows(shape, &x, &a), &added, tolerance, "add_rows");
                assert_close(&broadcast_rows(shape, &a), &spread, 0.0, "broadcast_rows");
                for bias_tasks in [1, tasks] {
                    let b: Vec<T> = noise(4, bias_tasks * c);
                    for rectified in [false, true] {
                        let affine = scaled.iter().enumerate().map(|(i, scaled)| {
                            let task = if bias_tasks == 1 { 0 } else { i / (rows * c) };
                            let y = scaled + b[task * c + i % c].to_f64();
                            if rectified { y.max(0.0) } else { y }
                        });
                        let expected: Vec<f64> = affine.collect();
                        let y = scale_add(shape, &x, &a, &b, rectified);
                        assert_close(&y, &expected, tolerance, "scale_add");
                    }
                }
                let actual = sum_rows(shape, vector_tasks, &x);
                assert_close(&actual, &sum, tolerance, "sum_rows");
                let actual = scale_weight(shape, vector_tasks, &x, &y);
                assert_close(&actual, &weight, tolerance, "scale_weight");
            }
        }
    }

    #[test]
    fn equals_the_loops() {
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn sums_are_the_adjoints_of_broadcasts() {
        for shape in SHAPES {
            let [tasks, rows, c] = shape;
            let x: Vec<f64> = noise(1, tasks * rows * c);
            let y: Vec<f64> = noise(2, tasks * rows * c);
            for vector_tasks in [1, tasks] {
                let a: Vec<f64> = noise(3, vector_tasks * c);
                let whole = dot(&scale(shape, &x, &a), &y);
                let by_x = dot(&x, &scale(shape, &y, &a));
                let by_a = dot(&a, &scale_weight(shape, vector_tasks, &x, &y));
                assert!((whole - by_x).abs() < 1e-10 && (whole - by_a).abs() < 1e-10);
                let left = dot(&broadcast_rows(shape, &a), &x);
                let right = dot(&a, &sum_rows(shape, vector_tasks, &x));
                assert!((left - right).abs() < 1e-10);
            }
        }
    }

    #[test]
    fn a_long_f32_sum_is_accurate() {
        // Naive accumulation in f32 is off by 1e-4 and more here.
        let rows = 200_000;
        let x: Vec<f32> = noise(1, rows * 2).iter().map(|v: &f32| v + 1.0).collect();
        let wide = widen(&x);
        let expected = [0, 1].map(|j| wide.iter().skip(j).step_by(2).sum::<f64>());
        assert_close(&sum_rows([1, rows, 2], 1, &x), &expected, 1e-7, "long sum");
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let shape = [3, 3000, 40];
        let x: Vec<f32> = noise(1, 3 * 3000 * 40);
        let y: Vec<f32> = noise(2, 3 * 3000 * 40);
        for vector_tasks in [1, 3] {
            let a: Vec<f32> = noise(3, vector_tasks * 40);
            assert_same_for_any_threads(|| scale(shape, &x, &a));
            assert_same_for_any_threads(|| add_rows(shape, &x, &a));
            assert_same_for_any_threads(|| scale_add(shape, &x, &a, &a, true));
            assert_same_for_any_threads(|| broadcast_rows(shape, &a));
            assert_same_for_any_threads(|| sum_rows(shape, vector_tasks, &x));
            assert_same_for_any_threads(|| scale_weight(shape, vector_tasks, &x, &y));
        }
    }
}
