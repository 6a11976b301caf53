//! Matrix products of small and middle size, in registers: no packing, no blocking for caches.
//!
//! `C = A·B` is cut into tiles of a few rows and a few vectors of columns. A tile's sums stay in
//! registers while `k` runs: each step loads one row piece of `B` and multiplies it by one element of
//! each row of `A`. Every element of `C` is one chain of multiply-adds in the order of `k`, however
//! the tiles lie, so the last vector of a row may overlap the one before it instead of being short. Only
//! a `C` of one column is summed along vectors.

use std::{cell::Cell, mem::MaybeUninit};

use super::matrix::Matrix;
use super::real::Real;

/// Elements of `B` that are multiplied at a time: they stay in the second-level cache while the rows of
/// `A` pass by.
const RIGHT: usize = 1 << 16;

/// Rows of `B`, and columns of `A`, that are multiplied at a time where those columns are contiguous (a
/// weight's gradient): every tile then reads a line of either at each step, so both stay in the
/// first-level cache, and the next ones are fetched meanwhile.
const DEPTH: usize = 64;

/// Columns beyond which too few rows of `B` would be multiplied at a time.
const MOST_COLUMNS: usize = 512;

/// Rows of a tile.
const ROWS: usize = 6;

/// Writes `C [m, n] = A·B`, or adds `A·B` to it when `add`, and tells whether it did: not where the
/// processor lacks the instructions, `B` has no contiguous rows, or blocking for caches pays. Rows of
/// `C` are `pitch` elements apart.
///
/// # Safety
/// The elements of `C` are initialised when `add`; they are only written when not.
///
/// # Panics
/// If a matrix does not lie in its slice.
#[allow(unsafe_code)]
pub unsafe fn product<T: Real>(
    [m, k, n]: [usize; 3],
    c: &mut [MaybeUninit<T>],
    pitch: usize,
    add: bool,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
) -> bool {
    let call = match (n, b.column) {
        // A column is a row of the transposed product.
        (1, _) if m > 1 && a.row == 1 && pitch == 1 => Call {
            sizes: [1, k, m],
            a: b.transposed(),
            b: a.transposed(),
            pitch: m,
            add,
            ahead: Ahead::default(),
        },
        (_, 1) => Call {
            sizes: [m, k, n],
            a,
            b,
            pitch,
            add,
            ahead: Ahead::default(),
        },
        _ => return false,
    };
    if k == 0 || call.sizes[2] > MOST_COLUMNS {
        return false;
    }
    let Some(multiply) = instructions() else {
        return false;
    };
    let [m, _, n] = call.sizes;
    let by_columns = call.a.row == 1 && call.a.column > 1;
    let depth = if by_columns {
        DEPTH
    } else {
        (RIGHT / n.max(1)).max(1)
    };
    for start in (0..k).step_by(depth) {
        let next = k.saturating_sub(start + depth).min(depth);
        let part = Call {
            sizes: [m, depth.min(k - start), n],
            a: call.a.skip_columns(start),
            b: call.b.skip_rows(start),
            pitch: call.pitch,
            add: call.add || start > 0,
            ahead: Ahead::new(if by_columns { next } else { 0 }, m, n),
        };
        // SAFETY: the processor has the instructions; the caller vouches for `c`, which the first
        // part has written where the others add.
        unsafe { multiply(&part, c) };
    }
    true
}

/// A product by the instructions of a processor that has them.
type Multiply<T> = unsafe fn(&Call<'_, T>, &mut [MaybeUninit<T>]);

/// The widest instructions that this processor has.
fn instructions<T: Real>() -> Option<Multiply<T>> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("fma") {
            return Some(avx512);
        }
        if has!("avx2") && has!("fma") {
            return Some(avx2);
        }
    }
    None
}

/// What is multiplied; `B` has contiguous rows.
struct Call<'a, T> {
    sizes: [usize; 3],
    a: Matrix<'a, T>,
    b: Matrix<'a, T>,
    pitch: usize,
    add: bool,
    /// What is fetched for the part after this one.
    ahead: Ahead,
}

/// Columns of `A` and rows of `B` beyond those of a part, which its tiles fetch into the cache.
#[derive(Default)]
struct Ahead {
    /// How many.
    count: usize,
    /// How many each tile fetches.
    of_tile: usize,
    /// How many have been fetched.
    done: Cell<usize>,
}

impl Ahead {
    fn new(count: usize, m: usize, n: usize) -> Self {
        // About as many as there are; where there are fewer, the last lines are not fetched ahead.
        let tiles = (m / ROWS).max(1) * (n / 32).max(1);
        Ahead {
            count,
            of_tile: count.div_ceil(tiles),
            done: Cell::new(0),
        }
    }

    /// Fetches the share of a tile.
    #[inline(always)]
    fn fetch<T>(&self, call: &Call<'_, T>) {
        let done = self.done.get();
        if done == self.count {
            return;
        }
        let [m, k, n] = call.sizes;
        let until = (done + self.of_tile).min(self.count);
        for p in k + done..k + until {
            fetch_line(&call.a.data[p * call.a.column..], m);
            fetch_line(&call.b.data[p * call.b.row..], n);
        }
        self.done.set(until);
    }
}

/// Asks for the first `count` elements.
#[inline(always)]
fn fetch_line<T>(values: &[T], count: usize) {
    let line = 64 / size_of::<T>();
    for values in values[..count].chunks(line) {
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint about an address inside of a slice, which reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = values;
    }
}

/// # Safety
/// The processor has the features; `c` is initialised when `call.add`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
#[allow(unsafe_code)]
unsafe fn avx512<T: Real>(call: &Call<'_, T>, c: &mut [MaybeUninit<T>]) {
    let vectors = call.sizes[2] * size_of::<T>() / 64;
    // SAFETY: the caller vouches for `c`.
    unsafe {
        match (size_of::<T>(), vectors) {
            (4, 0) => narrow::<T, 8>(call, c),
            (4, _) => panels::<T, 16, 4>(call, c),
            (_, 0) => narrow::<T, 4>(call, c),
            (_, _) => panels::<T, 8, 4>(call, c),
        }
    }
}

/// # Safety
/// As [`avx512`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[allow(unsafe_code)]
unsafe fn avx2<T: Real>(call: &Call<'_, T>, c: &mut [MaybeUninit<T>]) {
    let vectors = call.sizes[2] * size_of::<T>() / 32;
    // SAFETY: the caller vouches for `c`.
    unsafe {
        match (size_of::<T>(), vectors) {
            (4, 0) => narrow::<T, 4>(call, c),
            (4, _) => panels::<T, 8, 2>(call, c),
            (_, 0) => narrow::<T, 2>(call, c),
            (_, _) => panels::<T, 4, 2>(call, c),
        }
    }
}

/// Fewer columns than the widest vector: vectors of `L`, of half of that, or single elements; a single
/// column, where rows of `A` are contiguous as it is, by products of vectors along `k`.
///
/// # Safety
/// `c` is initialised when `call.add`.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn narrow<T: Real, const L: usize>(call: &Call<'_, T>, c: &mut [MaybeUninit<T>]) {
    let n = call.sizes[2];
    // SAFETY: the caller vouches for `c`.
    unsafe {
        if n == 1 && call.a.column == 1 && call.b.row == 1 {
            dots::<T, L>(call, c);
        } else if n >= L {
            panels::<T, L, 2>(call, c);
        } else if L > 4 && n >= 4 {
            panels::<T, 4, 2>(call, c);
        } else {
            for column in 0..n {
                rows::<T, 1, 1>(call, [column], c);
            }
        }
    }
}

/// One column: every element is the product of a row of `A` with `B`, both contiguous, summed in `L` lanes,
/// the lanes pairwise, then what is left of `k`.
///
/// # Safety
/// `c` is initialised when `call.add`.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn dots<T: Real, const L: usize>(call: &Call<'_, T>, c: &mut [MaybeUninit<T>]) {
    let [m, k, _] = call.sizes;
    let (right, right_rest) = call.b.data[..k].as_chunks::<L>();
    for row in 0..m {
        let (left, left_rest) = call.a.data[row * call.a.row..][..k].as_chunks::<L>();
        let mut sums = [T::ZERO; L];
        for (left, right) in left.iter().zip(right) {
            for lane in 0..L {
                sums[lane] = left[lane].mul_add(right[lane], sums[lane]);
            }
        }
        let mut half = L / 2;
        while half > 0 {
            for lane in 0..half {
                sums[lane] += sums[lane + half];
            }
            half /= 2;
        }
        let mut sum = sums[0];
        for (&left, &right) in left_rest.iter().zip(right_rest) {
            sum = left.mul_add(right, sum);
        }
        let slot = &mut c[row * call.pitch];
        if call.add {
            // SAFETY: initialised, as the caller vouches.
            sum += unsafe { slot.assume_init() };
        }
        slot.write(sum);
    }
}

/// All columns, at least `L`, in panels of at most `MOST` ∈ {2, 4} vectors.
///
/// # Safety
/// `c` is initialised when `call.add`.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn panels<T: Real, const L: usize, const MOST: usize>(
    call: &Call<'_, T>,
    c: &mut [MaybeUninit<T>],
) {
    let n = call.sizes[2];
    let vectors = n.div_ceil(L);
    // Even panels: the last vector overlaps one of its own panel, whose sums are all read before any
    // is written.
    let count = vectors.div_ceil(MOST);
    for panel in 0..count {
        let first = vectors * panel / count;
        let start = |vector: usize| ((first + vector) * L).min(n - L);
        // SAFETY: the caller vouches for `c`.
        unsafe {
            match vectors * (panel + 1) / count - first {
                1 => rows::<T, L, 1>(call, [start(0)], c),
                2 => rows::<T, L, 2>(call, [start(0), start(1)], c),
                3 if MOST == 4 => rows::<T, L, 3>(call, [start(0), start(1), start(2)], c),
                _ if MOST == 4 => {
                    rows::<T, L, 4>(call, [start(0), start(1), start(2), start(3)], c);
                }
                _ => unreachable!("a panel has at most {MOST} vectors"),
            }
        }
    }
}

/// All rows of the vectors of columns that begin at `starts`.
///
/// # Safety
/// `c` is initialised when `call.add`.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn rows<T: Real, const L: usize, const V: usize>(
    call: &Call<'_, T>,
    starts: [usize; V],
    c: &mut [MaybeUninit<T>],
) {
    let m = call.sizes[0];
    let mut row = 0;
    // SAFETY: the caller vouches for `c`.
    unsafe {
        while row + ROWS <= m {
            tile::<T, ROWS, L, V>(call, row, starts, c);
            row += ROWS;
        }
        if row + 4 <= m {
            tile::<T, 4, L, V>(call, row, starts, c);
            row += 4;
        }
        if row + 2 <= m {
            tile::<T, 2, L, V>(call, row, starts, c);
            row += 2;
        }
        if row < m {
            tile::<T, 1, L, V>(call, row, starts, c);
        }
    }
}

/// Rows `row..row + R` of `V` vectors of `L` columns.
///
/// # Safety
/// `c` is initialised when `call.add`.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn tile<T: Real, const R: usize, const L: usize, const V: usize>(
    call: &Call<'_, T>,
    row: usize,
    starts: [usize; V],
    c: &mut [MaybeUninit<T>],
) {
    // SAFETY: the caller vouches for `c`.
    unsafe {
        match (call.a.row, call.a.column) {
            // Distances known beforehand leave the loop fewer registers to hold.
            (1, column) => sums::<T, R, L, V>(call, row, starts, c, [1, column]),
            (of_row, 1) => sums::<T, R, L, V>(call, row, starts, c, [of_row, 1]),
            (of_row, column) => sums::<T, R, L, V>(call, row, starts, c, [of_row, column]),
        }
    }
}

/// [`tile`], with the distances between elements of `A`.
///
/// # Safety
/// As [`tile`].
#[expect(
    clippy::needless_range_loop,
    reason = "as the other loops: unrolled, the sums in registers"
)]
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn sums<T: Real, const R: usize, const L: usize, const V: usize>(
    call: &Call<'_, T>,
    row: usize,
    starts: [usize; V],
    c: &mut [MaybeUninit<T>],
    [of_row, of_column]: [usize; 2],
) {
    call.ahead.fetch(call);
    let [_, k, _] = call.sizes;
    let (a, b, pitch) = (&call.a, &call.b, call.pitch);
    let mut sums = [[[T::ZERO; L]; V]; R];
    if call.add {
        for i in 0..R {
            for v in 0..V {
                let old = &c[(row + i) * pitch + starts[v]..][..L];
                for lane in 0..L {
                    // SAFETY: initialised, as the caller vouches.
                    sums[i][v][lane] = unsafe { old[lane].assume_init() };
                }
            }
        }
    }
    // The loop has no room for checks: they would cost as much as its multiply-adds.
    let last = k - 1;
    let left = &a.data[row * of_row..][..(R - 1) * of_row + last * of_column + 1];
    let ends = starts.map(|start| last * b.row + start + L);
    assert!(
        ends.iter().all(|&end| end <= b.data.len()),
        "B has {} elements, fewer than {ends:?}",
        b.data.len()
    );
    let (mut left, mut right) = (left.as_ptr(), b.data.as_ptr());
    for _ in 0..k {
        let mut line = [[T::ZERO; L]; V];
        for v in 0..V {
            // SAFETY: step p reads elements p·b.row + starts[v].. of B, L of them; the last step's
            // lie in it, as asserted.
            line[v] = unsafe { right.add(starts[v]).cast::<[T; L]>().read() };
        }
        for i in 0..R {
            // SAFETY: step p reads element i·of_row + p·of_column of `left`; the last one's, with
            // i = R − 1, is the last of the slice.
            let left = unsafe { *left.add(i * of_row) };
            for v in 0..V {
                for lane in 0..L {
                    sums[i][v][lane] = left.mul_add(line[v][lane], sums[i][v][lane]);
                }
            }
        }
        // After the last step, they may point past the end, where nothing is read.
        left = left.wrapping_add(of_column);
        right = right.wrapping_add(b.row);
    }
    for i in 0..R {
        for v in 0..V {
            let new = &mut c[(row + i) * pitch + starts[v]..][..L];
            for lane in 0..L {
                new[lane].write(sums[i][v][lane]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, noise, tolerance};
    use super::*;

    /// Every instruction set of this processor, every remainder of rows, columns and vectors.
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    fn check<T: Real>() {
        use std::arch::is_x86_feature_detected as has;
        for m in [1, 2, 3, 5, 6, 10, 13] {
            for n in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 40, 64, 72, 80, 130] {
                for k in [1, 2, 9, 40] {
                    let a: Vec<T> = noise(1, m * k);
                    let b: Vec<T> = noise(2, k * n);
                    let old: Vec<T> = noise(3, m * n);
                    for (transposed, add) in [(false, false), (false, true), (true, false)] {
                        let at = |i: usize, p: usize| {
                            if transposed {
                                a[p * m + i].to_f64()
                            } else {
                                a[i * k + p].to_f64()
                            }
                        };
                        let expected: Vec<f64> = (0..m * n)
                            .map(|e| {
                                let (i, j) = (e / n, e % n);
                                let sum = (0..k).map(|p| at(i, p) * b[p * n + j].to_f64());
                                sum.sum::<f64>() + if add { old[e].to_f64() } else { 0.0 }
                            })
                            .collect();
                        let call = Call {
                            sizes: [m, k, n],
                            a: if transposed {
                                Matrix::columns(&a, m)
                            } else {
                                Matrix::rows(&a, k)
                            },
                            b: Matrix::rows(&b, n),
                            pitch: n,
                            add,
                            ahead: Ahead::default(),
                        };
                        for wide in [true, false] {
                            let mut c = vec![MaybeUninit::uninit(); m * n];
                            if add {
                                c = old.iter().map(|&value| MaybeUninit::new(value)).collect();
                            }
                            if wide && has!("avx512f") {
                                // SAFETY: the processor has the features; `c` is initialised.
                                unsafe { avx512(&call, &mut c) };
                            } else if has!("avx2") && has!("fma") {
                                // SAFETY: as above.
                                unsafe { avx2(&call, &mut c) };
                            } else {
                                return;
                            }
                            // SAFETY: every element was written, or the next line shows that one
                            // was not.
                            let c: Vec<T> = c
                                .iter()
                                .map(|value| unsafe { value.assume_init() })
                                .collect();
                            assert_close(&c, &expected, tolerance::<T>(), "tile");
                        }
                    }
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn equals_the_triple_loop() {
        check::<f32>();
        check::<f64>();
    }
}
