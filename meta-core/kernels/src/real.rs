//! The element types, and functions compiled for the instructions of the processor.

use std::cell::RefCell;
use std::ops::{Add, AddAssign, Mul, Sub};

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
    /// `tanh x`, to four units in the last place.
    fn tanh(self) -> Self;
    /// `σ(x) = ½ (1 + tanh(x / 2))`.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        let half = Self::from_f64(0.5);
        (self * half).tanh() * half + half
    }
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
    ($type:ty, $exp:path, $tanh:path) => {
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

            #[inline(always)]
            fn tanh(self) -> Self {
                $tanh(self)
            }
        }
    };
}

real!(f32, exp_f32, tanh_f32);
real!(f64, f64::exp, f64::tanh);

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

/// `tanh x` as the quotient of two polynomials, the approximation of XLA and Eigen (degrees 13 and 6):
/// without branches, so that loops over it become vector instructions. A NaN stays.
#[inline(always)]
fn tanh_f32(x: f32) -> f32 {
    /// Beyond, the nearest number is 1 or the one before it.
    const END: f32 = 7.905_311;
    let inside = if x > END { END } else { x };
    let inside = if inside < -END { -END } else { inside };
    let square = inside * inside;
    let mut above = -2.760_768_5e-16f32;
    for coefficient in [
        2.000_188e-13,
        -8.604_672e-11,
        5.122_297e-8,
        1.485_722_4e-5,
        6.372_619_3e-4,
        4.893_524_6e-3,
    ] {
        above = above * square + coefficient;
    }
    let mut below = 1.198_258_4e-6f32;
    for coefficient in [1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3] {
        below = below * square + coefficient;
    }
    inside * above / below
}

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
pub(super) use wide;

#[cfg(test)]
mod tests {
    use super::*;

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
    fn tanh_is_accurate_and_keeps_its_limits() {
        for i in -100_000..100_000 {
            let x = i as f32 * 1e-4;
            let (found, exact) = (f64::from(Real::tanh(x)), f64::from(x).tanh());
            assert!(
                (found - exact).abs() <= 4e-7 * exact.abs(),
                "{x}: {found} {exact}"
            );
        }
        for x in [1e-30f32, 1e-8, 1e-3] {
            assert!((Real::tanh(x) / x - 1.0).abs() < 1e-6);
        }
        let limits = [f32::NEG_INFINITY, -1e30, 0.0, 1e30, f32::INFINITY].map(Real::tanh);
        for (found, exact) in limits.into_iter().zip([-1.0f32, -1.0, 0.0, 1.0, 1.0]) {
            assert!((found - exact).abs() < 2e-7, "{found} {exact}");
        }
        assert!(Real::tanh(f32::NAN).is_nan() && Real::sigmoid(f32::NAN).is_nan());
        assert_eq!([0.0f32, 1e30, -1e30].map(Real::sigmoid)[0], 0.5);
    }
}
