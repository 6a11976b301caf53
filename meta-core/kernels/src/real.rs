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
}
