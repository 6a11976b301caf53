//! Draws from random bits: exponential ones, points of the simplex, and things by their probabilities.

use super::real::wide;

/// Bytes of random bits that a draw takes.
pub const DRAW: usize = 8;

/// Exponential draws with mean 1, −ln(1 − u), of uniform u on [0, 1), a multiple of 2⁻⁵³: by inversion, from
/// the upper 53 of 64 random bits each, least byte first.
///
/// # Panics
/// If there are not 8 bytes for each draw.
pub fn exponential(bits: &[u8], to: &mut [f64]) {
    assert_eq!(bits.len(), DRAW * to.len(), "random bits");
    inverted(bits, to);
}

/// Divides each row of `width` by its sum: of exponential draws, Dirichlet(1, …, 1). Uniform where the sum is 0.
///
/// # Panics
/// If the numbers are no rows of that width.
pub fn normalise(width: usize, rows: &mut [f64]) {
    assert_eq!(rows.len() % width.max(1), 0, "rows of {width}");
    shares(width.max(1), rows);
}

/// The running sums of each row of `width`.
///
/// # Panics
/// If the numbers are no rows of that width.
pub fn running_sums(width: usize, rows: &[f64]) -> Vec<f64> {
    assert_eq!(rows.len() % width.max(1), 0, "rows of {width}");
    let mut sums = Vec::with_capacity(rows.len());
    for row in rows.chunks_exact(width.max(1)) {
        let mut sum = 0.0;
        sums.extend(row.iter().map(|value| {
            sum += value;
            sum
        }));
    }
    sums
}

/// The first place whose running sum is above `drawn`, or how many there are: of `drawn` uniform on [0, 1), a place
/// by its probability.
pub fn place(sums: &[f64], drawn: f64) -> usize {
    // No branch: which one it is cannot be foretold.
    sums.iter().map(|&sum| usize::from(sum <= drawn)).sum()
}

wide! {
    fn inverted[](bits: &[u8], to: &mut [f64]) {
        for (draw, bits) in to.iter_mut().zip(bits.chunks_exact(DRAW)) {
            let bits = bits.try_into().map_or(0, u64::from_le_bytes);
            *draw = -logarithm(1.0 - (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64));
        }
    }
}

wide! {
    fn shares[](width: usize, rows: &mut [f64]) {
        for row in rows.chunks_exact_mut(width) {
            let total: f64 = row.iter().sum();
            for value in row {
                *value = if total > 0.0 { *value / total } else { 1.0 / width as f64 };
            }
        }
    }
}

/// ln x of a positive normal number below infinity, within one unit of the last place, and the same bits on every
/// machine: x = 2ᵏ m with m in [√½, √2); with f = m − 1 and s = f / (2 + f), ln m = f − f²/2 + s (f²/2 + R(s²)).
/// The polynomial R is that of fdlibm (Sun Microsystems, 1993, `e_log.c`).
#[inline(always)]
fn logarithm(x: f64) -> f64 {
    const ONE: u64 = 1023 << 52;
    const ROOT_OF_HALF: u64 = 0x3fe6_a09e_0000_0000;
    // 2⁵², whose last bits count ones.
    const COUNTER: u64 = 0x4330_0000_0000_0000;
    const LN_2: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];
    const EVEN: [f64; 3] = [
        1.531_383_769_920_937_3e-1,
        2.222_219_843_214_978_4e-1,
        3.999_999_999_940_942e-1,
    ];
    const ODD: [f64; 4] = [
        1.479_819_860_511_658_6e-1,
        1.818_357_216_161_805e-1,
        2.857_142_874_366_239e-1,
        6.666_666_666_666_735e-1,
    ];
    let shifted = x.to_bits() + (ONE - ROOT_OF_HALF);
    let exponent = f64::from_bits(shifted >> 52 | COUNTER) - (f64::from_bits(COUNTER) + 1023.0);
    let mantissa = f64::from_bits((shifted & ((1 << 52) - 1)) + ROOT_OF_HALF);
    let f = mantissa - 1.0;
    let half = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * ((EVEN[0] * w + EVEN[1]) * w + EVEN[2]);
    let odd = z * (((ODD[0] * w + ODD[1]) * w + ODD[2]) * w + ODD[3]);
    s * (half + odd + even) + exponent * LN_2[1] - half + f + exponent * LN_2[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the platform's logarithm, whose error is below one unit of the last place as well.
    #[test]
    fn equals_the_logarithm_of_the_platform() {
        let smallest = 1.0 / (1u64 << 53) as f64;
        let ladder = (1..2000).map(|step| f64::from(step) / 2000.0);
        let edges = [
            1.0,
            1.0 - smallest,
            smallest,
            0.5,
            std::f64::consts::FRAC_1_SQRT_2,
        ];
        for x in ladder.chain(edges) {
            let (found, exact) = (logarithm(x), x.ln());
            assert!(
                (found - exact).abs() <= 2.0 * f64::EPSILON * exact.abs(),
                "{x}: {found} {exact}"
            );
        }
        assert_eq!(logarithm(1.0), 0.0);
    }

    #[test]
    fn bits_become_draws_by_inversion() {
        let bits: Vec<u64> = vec![0, u64::MAX, 1 << 63, 0x0123_4567_89ab_cdef, 42 << 11];
        let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let mut found = vec![0.0; bits.len()];
        exponential(&bytes, &mut found);
        for (found, bits) in found.into_iter().zip(bits) {
            let uniform = (bits >> 11) as f64 / (1u64 << 53) as f64;
            let exact = -(1.0 - uniform).ln();
            assert!(
                (found - exact).abs() <= 2.0 * f64::EPSILON * exact,
                "{found} {exact}"
            );
        }
    }

    #[test]
    fn places_follow_running_sums() {
        let sums = running_sums(3, &[0.25, 0.5, 0.25, 1.0, 0.0, 0.0]);
        assert_eq!(sums, [0.25, 0.75, 1.0, 1.0, 1.0, 1.0]);
        let places = [0.0, 0.25, 0.7, 0.75, 1.0].map(|drawn| place(&sums[..3], drawn));
        assert_eq!(places, [0, 1, 1, 2, 3]);
    }

    #[test]
    fn rows_become_shares() {
        let mut rows = vec![1.0, 3.0, 0.0, 0.0, 2.0, 2.0];
        normalise(2, &mut rows);
        assert_eq!(rows, [0.25, 0.75, 0.5, 0.5, 0.5, 0.5]);
    }
}
