//! The seed tree: every random number has an address, and there is no global generator.
//!
//! A [`Seed`] together with (scope, index, purpose) names one [`Stream`]. The address is hashed into
//! the key of a counter-based generator (ChaCha8), so a stream can be made alone, in any order and on
//! any thread, and always gives the same numbers. Streams of different addresses are independent for
//! all practical purposes: their keys are outputs of BLAKE3.
//!
//! ```
//! use meta_kernels::rng::Seed;
//! let mut first = Seed(7).stream("episode/train", 42, "classes");
//! let mut again = Seed(7).stream("episode/train", 42, "classes");
//! assert_eq!(first.next_u64(), again.next_u64());
//! ```

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::draws;

/// Enters every key; changing it changes every random number of the library.
const KEY_VERSION: &[u8; 8] = b"meta-rng";

/// The root of a tree of random streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// The stream at the address (`self`, `scope`, `index`, `purpose`).
    ///
    /// The key is the BLAKE3 hash of `meta-rng ‖ seed ‖ index ‖ |scope| ‖ scope ‖ |purpose| ‖ purpose`
    /// with fixed-width little-endian numbers: the lengths make the encoding unambiguous, so that
    /// (`"ab"`, `"c"`) and (`"a"`, `"bc"`) are different streams.
    pub fn stream(self, scope: &str, index: u64, purpose: &str) -> Stream {
        let mut hasher = blake3::Hasher::new();
        hasher.update(KEY_VERSION);
        hasher.update(&self.0.to_le_bytes());
        hasher.update(&index.to_le_bytes());
        for text in [scope, purpose] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        Stream(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }
}

impl std::fmt::Display for Seed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A sequence of random numbers, made by [`Seed::stream`].
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform on [0, 1), a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Exponential draws with mean 1, −ln(1 − u), by inversion: one [`Stream::uniform`] each, in order, and the same
    /// bits on every machine.
    pub fn exponential(&mut self, to: &mut [f64]) {
        let mut bits = [0; 64 * draws::DRAW];
        for some in to.chunks_mut(64) {
            let bits = &mut bits[..draws::DRAW * some.len()];
            self.0.fill_bytes(bits);
            draws::exponential(bits, some);
        }
    }

    /// Uniform on [`low`, `high`).
    pub fn uniform_in(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Standard normal, by the transform of Box and Muller (1958).
    ///
    /// Uses two uniforms a call and keeps no spare value, so the position in the stream depends only
    /// on the number of calls. `ln` and `cos` come from the platform: the last bit may differ between
    /// platforms, never between runs on one.
    pub fn normal(&mut self) -> f64 {
        // 1 − u lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Uniform on 0..`n` without bias (Lemire 2019, "Fast random integer generation in an interval").
    /// `n` must be at least 1; 0 gives 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as usize
    }

    /// Puts `items` into a uniformly random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// `k` distinct numbers of 0..`n` in random order; every ordered choice is equally likely. All `n`
    /// when `k > n`.
    ///
    /// The first `k` steps of a Fisher–Yates shuffle that stores only the places it has touched: O(k)
    /// time and memory, whatever `n` is.
    pub fn choose_distinct(&mut self, n: usize, k: usize) -> Vec<usize> {
        let k = k.min(n);
        let mut moved: HashMap<usize, usize> = HashMap::with_capacity(k);
        (0..k)
            .map(|place| {
                let other = place + self.below(n - place);
                let chosen = moved.get(&other).copied().unwrap_or(other);
                let displaced = moved.get(&place).copied().unwrap_or(place);
                moved.insert(other, displaced);
                chosen
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{ChiSquared, ContinuousCDF};

    /// The probability of a χ² at least as large as that of `counts` when all cells are equally likely.
    fn chi_square_p_value(counts: &[u64]) -> f64 {
        let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        let statistic: f64 = counts
            .iter()
            .map(|&count| (count as f64 - expected).powi(2) / expected)
            .sum();
        ChiSquared::new((counts.len() - 1) as f64)
            .expect("degrees of freedom are positive")
            .sf(statistic)
    }

    #[test]
    fn same_address_same_numbers_other_address_other_numbers() {
        let draw = |seed: u64, scope: &str, index: u64, purpose: &str| {
            Seed(seed).stream(scope, index, purpose).next_u64()
        };
        let base = draw(1, "ab", 2, "c");
        assert_eq!(base, draw(1, "ab", 2, "c"));
        let others = [
            draw(2, "ab", 2, "c"),
            draw(1, "a", 2, "bc"),
            draw(1, "ab", 3, "c"),
            draw(1, "abc", 2, ""),
        ];
        assert!(others.iter().all(|&other| other != base));
    }

    /// Frozen: a change here changes every published number of every user.
    #[test]
    fn the_stream_is_frozen() {
        let mut stream = Seed(0).stream("frozen", 0, "test");
        assert_eq!(
            [stream.next_u64(), stream.next_u64()],
            [2_607_263_134_085_347_378, 4_644_750_927_698_547_979]
        );
    }

    /// Moments of 200 000 draws. The tolerances are 5 standard errors: false alarm below 1e-6 each, and
    /// the seed is fixed, so the test is deterministic.
    #[test]
    fn uniform_and_normal_have_their_moments() {
        let mut stream = Seed(1).stream("moments", 0, "test");
        let count = 200_000;
        let root = f64::from(count).sqrt();
        let (mut uniform, mut normal, mut square, mut fourth) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..count {
            let u = stream.uniform();
            assert!((0.0..1.0).contains(&u));
            uniform += u;
            let z = stream.normal();
            normal += z;
            square += z * z;
            fourth += z.powi(4);
        }
        let count = f64::from(count);
        assert!((uniform / count - 0.5).abs() < 5.0 * (1.0f64 / 12.0).sqrt() / root);
        assert!((normal / count).abs() < 5.0 / root);
        // Var z² = 2 and Var z⁴ = 105 − 9 = 96 for a standard normal.
        assert!((square / count - 1.0).abs() < 5.0 * 2.0f64.sqrt() / root);
        assert!((fourth / count - 3.0).abs() < 5.0 * 96.0f64.sqrt() / root);
    }

    /// Both take the same bits from the stream, wherever it stands.
    #[test]
    fn exponential_draws_invert_uniform_ones() {
        let mut stream = Seed(5).stream("exponential", 0, "test");
        let mut again = stream.clone();
        for count in [1, 3, 64, 200, 0, 5] {
            let mut draws = vec![0.0; count];
            stream.exponential(&mut draws);
            for draw in draws {
                let exact = -(1.0 - again.uniform()).ln();
                // One unit of the last place for each logarithm.
                assert!((draw - exact).abs() <= 2.0 * f64::EPSILON * exact);
            }
            assert_eq!(stream.next_u64(), again.next_u64());
        }
    }

    /// χ² over the 60 ordered choices of 3 out of 5. False-alarm rate 1e-4 for a fresh seed; the seed
    /// is fixed.
    #[test]
    fn choose_distinct_is_uniform_over_ordered_choices() {
        let mut stream = Seed(2).stream("choice", 0, "test");
        let mut counts: HashMap<Vec<usize>, u64> = HashMap::new();
        for _ in 0..60_000 {
            *counts.entry(stream.choose_distinct(5, 3)).or_default() += 1;
        }
        assert_eq!(counts.len(), 60);
        let counts: Vec<u64> = counts.into_values().collect();
        assert!(chi_square_p_value(&counts) > 1e-4);
    }

    /// As above, for single numbers and for the place of the first item of a shuffle.
    #[test]
    fn below_and_shuffle_are_uniform() {
        let mut stream = Seed(3).stream("below", 0, "test");
        let (mut numbers, mut places) = ([0u64; 7], [0u64; 7]);
        for _ in 0..70_000 {
            numbers[stream.below(7)] += 1;
            let mut items = [0, 1, 2, 3, 4, 5, 6];
            stream.shuffle(&mut items);
            places[items.iter().position(|&item| item == 0).unwrap_or(0)] += 1;
        }
        assert!(chi_square_p_value(&numbers) > 1e-4);
        assert!(chi_square_p_value(&places) > 1e-4);
    }

    #[test]
    fn choose_distinct_handles_its_edges() {
        let mut stream = Seed(4).stream("edges", 0, "test");
        assert!(stream.choose_distinct(10, 0).is_empty());
        assert!(stream.choose_distinct(0, 3).is_empty());
        let mut all = stream.choose_distinct(6, 9);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
        let few = stream.choose_distinct(usize::MAX, 4);
        assert_eq!(few.len(), 4);
    }
}
