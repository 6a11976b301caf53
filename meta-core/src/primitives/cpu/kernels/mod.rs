//! The arithmetic of the CPU primitives, as pure functions over slices.
//!
//! No tensor type appears here: a kernel takes contiguous row-major slices and a description of
//! their shapes, and returns a new `Vec`. Images are channels-last, every operand leads with the
//! task axis, and a weight is either shared by all tasks (leading axis 1) or per task.
//!
//! Two rules hold in every file:
//! - **Same bytes for any number of threads.** Work is cut into pieces by the shapes alone; a
//!   reduction stores one partial result per piece and adds them in order.
//! - **Shapes are checked once, on entry.** A wrong length panics with both numbers; the caller
//!   turns user errors into [`crate::Error`] values before it gets here.
//!
//! | File | Kernels |
//! |---|---|
//! | `memory` | new vectors written in pieces; scratch |
//! | `gemm` | the one door to the `gemm` crate, with the bounds proof |
//! | `tile` | small matrix products, in registers |
//! | `linear` | batched matrix products |
//! | `conv2d` | convolution, its input gradient, its weight gradient; `winograd` the 3×3 ones |
//! | `rows` | per-channel scale, add, sum, broadcast |
//! | `standardize` | normalisation over rows, its adjoint, its curvature |
//! | `layer` | normalisation along the channels of a row, its adjoint, its curvature |
//! | `pairs` | scores and reads of attention |
//! | `softmax` | softmax, its adjoint, its curvature |
//! | `pool` | max pooling, selection by index, scatter by index |
//! | `standardize_pool` | normalisation and max pooling at once, their adjoint, their curvature |
//! | `descend` | a step of gradient descent |
//! | `relu` | bias and ReLU at once, and the gate that is its adjoint |

pub mod conv2d;
pub mod descend;
mod gemm;
pub mod layer;
pub mod linear;
mod memory;
pub mod pairs;
pub mod pool;
pub mod relu;
pub mod rows;
pub mod softmax;
pub mod standardize;
pub mod standardize_pool;
mod tile;

use std::cell::RefCell;
use std::ops::{Add, AddAssign, Mul, Sub};

use memory::build_zeroed;

/// Element type of the kernels: `f32` or `f64`.
pub trait Real:
    sealed::Sealed
    + Copy
    + Send
    + Sync
    + PartialOrd
    + Default
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + AddAssign
    + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// The value in double precision.
    fn to_f64(self) -> f64;
    /// The nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// `self · factor + term`, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// `eˣ`, to two units in the last place; 0 where that is no normal number.
    fn exp(self) -> Self;
}

mod sealed {
    use std::cell::RefCell;
    use std::thread::LocalKey;

    /// Closes [`super::Real`] and owns its per-thread scratch memory.
    pub trait Sealed: Sized + 'static {
        /// The scratch buffer of this thread.
        fn scratch() -> &'static LocalKey<RefCell<Vec<Self>>>;
    }
}

macro_rules! real {
    ($type:ty, $exp:path) => {
        impl sealed::Sealed for $type {
            fn scratch() -> &'static std::thread::LocalKey<RefCell<Vec<Self>>> {
                thread_local!(static SCRATCH: RefCell<Vec<$type>> = const { RefCell::new(Vec::new()) });
                &SCRATCH
            }
        }

        impl Real for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;

            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }

            #[inline(always)]
            #[allow(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
            fn from_f64(value: f64) -> Self {
                value as $type
            }

            #[inline(always)]
            fn mul_add(self, factor: Self, term: Self) -> Self {
                <$type>::mul_add(self, factor, term)
            }

            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
        }
    };
}

real!(f32, exp_f32);
real!(f64, f64::exp);

/// `eˣ = 2ⁿ eʳ` with `n` the integer nearest to `x / ln 2`, and a polynomial for `eʳ`: without
/// branches, so that loops over it become vector instructions.
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    /// Adding this rounds to an integer, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// `ln 2` in two parts; the first has few enough bits for exact products with `n`.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let (low, high) = (x < -87.0, x > 88.7);
    let inside = if low { -87.0 } else { x };
    let inside = if high { 88.7 } else { inside };
    let shifted = inside * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (inside - n * LN_2[0]) - n * LN_2[1];
    // Cephes, expf: e^r − 1 − r over r², |r| ≤ ln 2 / 2.
    let mut tail = 1.987_569_1e-4f32;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        tail = tail * r + coefficient;
    }
    let fraction = tail * r * r + r + 1.0;
    let scaled = f32::from_bits(fraction.to_bits().wrapping_add(shifted.to_bits() << 23));
    let scaled = if low { 0.0 } else { scaled };
    let scaled = if high { f32::INFINITY } else { scaled };
    if x.is_nan() { x } else { scaled }
}

/// Elements of one piece of an element-wise kernel (64 KiB of `f32`): it stays in the second-level
/// cache between the passes over it.
const PIECE_ELEMENTS: usize = 1 << 14;

/// Defines a function whose body is compiled twice: for the baseline of the target, and for AVX2,
/// which is taken where the processor has it. Both do the same operations in the same order (no
/// fused multiply-adds), so the results have the same bits.
macro_rules! wide {
    (
        $(#[$doc:meta])*
        $visibility:vis fn $name:ident[$($generics:tt)*]($($argument:ident: $type:ty),* $(,)?) $body:block
    ) => {
        $(#[$doc])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $visibility fn $name<$($generics)*>($($argument: $type),*) {
            #[inline(always)]
            fn body<$($generics)*>($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2<$($generics)*>($($argument: $type),*) {
                body($($argument),*);
            }

            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2.
                unsafe { avx2($($argument),*) };
                return;
            }
            body($($argument),*);
        }
    };
}
use wide;

/// A half-open range of rows of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RowBlock {
    task: usize,
    start: usize,
    end: usize,
}

impl RowBlock {
    fn len(&self) -> usize {
        self.end - self.start
    }

    /// The rows of this block in `data [tasks, rows, width]`.
    fn of<'a, T>(&self, data: &'a [T], rows: usize, width: usize) -> &'a [T] {
        let first = self.task * rows;
        &data[(first + self.start) * width..(first + self.end) * width]
    }
}

/// Cuts the `rows` rows of each task into as few even blocks of at most `block` rows as possible.
fn row_blocks(tasks: usize, rows: usize, block: usize) -> Vec<RowBlock> {
    let count = rows.div_ceil(block.max(1));
    (0..tasks)
        .flat_map(|task| {
            (0..count).map(move |i| RowBlock {
                task,
                start: rows * i / count,
                end: rows * (i + 1) / count,
            })
        })
        .collect()
}

/// `Σ_p partials[task, p, ·]`: adds the partial results of each task in order.
///
/// `partials [tasks, count, len]` → `[tasks, len]`.
fn add_partials<T: Real>(partials: Vec<T>, tasks: usize, len: usize) -> Vec<T> {
    if partials.len() == tasks * len {
        return partials;
    }
    let work = partials.len();
    let count = partials.len() / (tasks * len);
    let pieces = row_blocks(tasks, len, PIECE_ELEMENTS);
    build_zeroed(&pieces, RowBlock::len, work, |piece, sum| {
        for p in 0..count {
            let first = (piece.task * count + p) * len;
            let part = &partials[first + piece.start..first + piece.end];
            for (sum, &value) in sum.iter_mut().zip(part) {
                *sum += value;
            }
        }
    })
}

/// Panics with both numbers when a slice does not have the length its shape says.
#[track_caller]
fn check_len(name: &str, actual: usize, expected: usize) {
    assert!(
        actual == expected,
        "{name} has {actual} elements, its shape says {expected}"
    );
}

#[cfg(test)]
mod testing {
    //! What the kernels' tests share: noise, comparison, and runs under several pool sizes.

    use super::Real;

    /// `len` values in (-1, 1) from a counter hash.
    pub fn noise<T: Real>(seed: u64, len: usize) -> Vec<T> {
        (0..len as u64)
            .map(|i| {
                let mut z = (seed << 32 | i).wrapping_add(0x9E37_79B9_7F4A_7C15);
                z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                T::from_f64(((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
            })
            .collect()
    }

    /// 1e-5 for `f32`, 1e-12 for `f64`: rounding of sums of a few thousand terms.
    pub fn tolerance<T: Real>() -> f64 {
        if size_of::<T>() == 4 { 1e-5 } else { 1e-12 }
    }

    /// Panics unless `actual` equals `expected` to `tolerance` relative to the largest expected
    /// magnitude.
    #[track_caller]
    pub fn assert_close<T: Real>(actual: &[T], expected: &[f64], tolerance: f64, what: &str) {
        assert_eq!(actual.len(), expected.len(), "{what}: length");
        let scale = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
            let error = (a.to_f64() - e).abs();
            assert!(
                error <= tolerance * scale,
                "{what}: element {i} is {}, expected {e}",
                a.to_f64()
            );
        }
    }

    /// `⟨a, b⟩` in double precision.
    pub fn dot<T: Real>(a: &[T], b: &[T]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
    }

    /// The values in double precision.
    pub fn widen<T: Real>(values: &[T]) -> Vec<f64> {
        values.iter().map(|v| v.to_f64()).collect()
    }

    /// Runs `f` in pools of 1, 2 and 3 threads and panics unless the results have the same bits.
    #[track_caller]
    pub fn assert_same_for_any_threads<T: Real>(f: impl Fn() -> Vec<T> + Sync) {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool of a few threads");
            let values = pool.install(&f);
            values
                .iter()
                .map(|v| v.to_f64().to_bits())
                .collect::<Vec<_>>()
        };
        let one = run(1);
        assert_eq!(one, run(2), "1 and 2 threads differ");
        assert_eq!(one, run(3), "1 and 3 threads differ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_each_task_in_order() {
        for (rows, block) in [(1, 1), (7, 3), (8, 4), (9, 4), (5, 100), (0, 4)] {
            let blocks = row_blocks(2, rows, block);
            for task in 0..2 {
                let mut next = 0;
                for b in blocks.iter().filter(|b| b.task == task) {
                    assert_eq!(b.start, next);
                    assert!(b.len() <= block && b.len() > 0);
                    next = b.end;
                }
                assert_eq!(next, rows);
            }
        }
    }

    #[test]
    fn exp_is_accurate_and_keeps_its_limits() {
        for i in -86_900..88_700 {
            let x = i as f32 * 1e-3;
            let (found, exact) = (f64::from(Real::exp(x)), f64::from(x).exp());
            assert!((found / exact - 1.0).abs() < 2.5e-7, "{x}: {found} {exact}");
        }
        let limits = [f32::NEG_INFINITY, -1e30, 0.0, 89.0, f32::INFINITY];
        assert_eq!(
            limits.map(Real::exp),
            [0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY]
        );
        assert!(Real::exp(f32::NAN).is_nan());
    }

    #[test]
    fn partials_are_added_per_task() {
        let sum = add_partials(vec![1.0f64, 2.0, 10.0, 20.0, 3.0, 4.0, 30.0, 40.0], 2, 2);
        assert_eq!(sum, [11.0, 22.0, 33.0, 44.0]);
    }
}
