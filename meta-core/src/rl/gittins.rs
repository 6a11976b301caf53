//! Gittins indices of Bernoulli arms, by calibration.
//!
//! The index of an arm with belief Beta(a, b) is the largest mean reward per (discounted) pull that some
//! stopping rule reaches (Gittins 1979, "Bandit Processes and Dynamic Allocation Indices"):
//!
//! ```text
//! ν(a, b) = max_{τ ≥ 1} E[Σ_{t<τ} γᵗ r_t] / E[Σ_{t<τ} γᵗ].
//! ```
//!
//! It is the rate λ at which pulling on is worth exactly nothing. With a charge of λ a pull,
//!
//! ```text
//! C_λ(a, b) = p − λ + γ (p max(0, C_λ(a+1, b)) + (1 − p) max(0, C_λ(a, b+1))),   p = a / (a + b),
//! ```
//!
//! is convex and falls in λ with a slope of at least 1, and ν is its root. For γ < 1 the rule is optimal for
//! the discounted sum over all time. With γ = 1 and τ at most the pulls that are left, it is the index of a
//! finite horizon: nearly, not exactly, optimal for the sum (Kaufmann 2018, "On Bayesian index policies for
//! sequential resource allocation", section 3).
//!
//! All roots are found at once: C is computed on a grid of λ, and the root lies between the two neighbours
//! where its sign changes; between them C is taken to be a straight line. The line lies above C, which is
//! convex, so the index is too large by less than the square of the spacing times the curvature there.

/// Points of the grid of λ: multiples of 1/512 in (0, 1).
const GRID: usize = 512;

/// Indices of all beliefs that `pulls` pulls can lead to from Beta(1, 1).
pub struct GittinsTable {
    pulls: usize,
    /// Per number of pulls left, from 1 on, or one table where the horizon is infinite.
    finite: bool,
    indices: Vec<f32>,
}

/// Position of (successes, failures) in a triangle ordered by their sum.
fn place(successes: usize, failures: usize) -> usize {
    let sum = successes + failures;
    sum * (sum + 1) / 2 + successes
}

impl GittinsTable {
    /// Indices of a horizon of `pulls` for γ = 1, else of an infinite horizon discounted by γ.
    ///
    /// Learning of an infinite horizon is cut where γᵗ is below 10⁻³, and at 4 · `pulls` + 2000 pulls at the
    /// latest: from there on an arm is pulled for ever or not at all, by its mean.
    pub fn new(pulls: usize, discount: f64) -> Self {
        if discount >= 1.0 {
            Self::finite(pulls)
        } else {
            Self::discounted(pulls, discount)
        }
    }

    /// The index of an arm after that many successes and failures, with `left` pulls to go.
    ///
    /// The table knows arms of at most `pulls` pulls, those to go included: beyond, fewer count as left, and
    /// where none is, the index is the mean.
    pub fn index(&self, successes: usize, failures: usize, left: usize) -> f64 {
        let done = successes + failures;
        let left = left.min(self.pulls.saturating_sub(done));
        if left == 0 {
            return (successes + 1) as f64 / (done + 2) as f64;
        }
        let start = if self.finite { self.start_of(left) } else { 0 };
        f64::from(self.indices[start + place(successes, failures)])
    }

    /// Where the triangle of arms with `left` pulls to go begins: it has successes + failures ≤ pulls − left.
    fn start_of(&self, left: usize) -> usize {
        (1..left).map(|m| triangle(self.pulls - m)).sum()
    }

    fn finite(pulls: usize) -> Self {
        let mut table = GittinsTable {
            pulls,
            finite: true,
            indices: vec![0.0; (1..=pulls).map(|left| triangle(pulls - left)).sum()],
        };
        let mut ahead = vec![0.0f64; triangle(pulls)];
        let mut above = vec![f32::NAN; table.indices.len()];
        for step in 1..GRID {
            let rate = step as f64 / GRID as f64;
            ahead.fill(0.0);
            let mut start = 0;
            for left in 1..=pulls {
                // In place by growing sums: a cell reads cells of larger sums, which are of one pull less.
                for sum in 0..=pulls - left {
                    for successes in 0..=sum {
                        let failures = sum - successes;
                        let p = (successes + 1) as f64 / (sum + 2) as f64;
                        let won = ahead[place(successes + 1, failures)];
                        let lost = ahead[place(successes, failures + 1)];
                        let gain = p - rate + p * won + (1.0 - p) * lost;
                        let cell = place(successes, failures);
                        let at = start + cell;
                        root(&mut table.indices[at], &mut above[at], rate, gain);
                        ahead[cell] = gain.max(0.0);
                    }
                }
                start += triangle(pulls - left);
            }
        }
        table
    }

    fn discounted(pulls: usize, discount: f64) -> Self {
        let cut = (1e-3f64.ln() / discount.ln()).ceil().max(1.0);
        let depth = pulls + (cut as usize).min(3 * pulls + 2000);
        let mut table = GittinsTable {
            pulls,
            finite: false,
            indices: vec![0.0; triangle(pulls)],
        };
        let mut above = vec![f32::NAN; table.indices.len()];
        let mut row = vec![0.0f64; depth + 2];
        for step in 1..GRID {
            let rate = step as f64 / GRID as f64;
            for (successes, place) in row.iter_mut().enumerate() {
                let p = (successes + 1) as f64 / (depth + 3) as f64;
                *place = ((p - rate) / (1.0 - discount)).max(0.0);
            }
            for sum in (0..=depth).rev() {
                for successes in 0..=sum {
                    let p = (successes + 1) as f64 / (sum + 2) as f64;
                    let (lost, won) = (row[successes], row[successes + 1]);
                    let gain = p - rate + discount * (p * won + (1.0 - p) * lost);
                    row[successes] = gain.max(0.0);
                    if sum <= pulls {
                        let at = place(successes, sum - successes);
                        root(&mut table.indices[at], &mut above[at], rate, gain);
                    }
                }
            }
        }
        table
    }
}

/// Cells of a triangle of sums up to `most`.
fn triangle(most: usize) -> usize {
    (most + 1) * (most + 2) / 2
}

/// Follows the sign of a falling function along the grid: `above` is its value at the last point where it
/// was positive, not a number once the root is found.
fn root(index: &mut f32, above: &mut f32, rate: f64, gain: f64) {
    let spacing = 1.0 / GRID as f64;
    if gain > 0.0 {
        *above = gain as f32;
        // What an index beyond the last point of the grid is left with.
        *index = (rate + 0.5 * spacing) as f32;
    } else if !above.is_nan() {
        let before = f64::from(*above);
        *index = (rate - spacing + spacing * before / (before - gain)) as f32;
        *above = f32::NAN;
    } else if *index == 0.0 {
        // Below the first point.
        *index = (0.5 * spacing) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gittins, Glazebrook & Weber (2011), "Multi-armed Bandit Allocation Indices", tables of the Bernoulli reward process, for γ = 0.9,
    /// printed with 4 digits. Our grid is good to 2e-5.
    #[test]
    fn discounted_indices_are_the_published_ones() {
        let table = GittinsTable::new(10, 0.9);
        let published = [
            (0, 0, 0.7029),
            (1, 0, 0.8001),
            (2, 0, 0.8452),
            (3, 0, 0.8723),
            (0, 1, 0.5001),
            (1, 1, 0.6346),
            (2, 1, 0.7072),
            (0, 2, 0.3796),
            (1, 2, 0.5163),
        ];
        for (successes, failures, index) in published {
            let own = table.index(successes, failures, 1);
            assert!(
                (own - index).abs() < 1e-4,
                "{successes} {failures}: {own}, {index}"
            );
        }
        let table = GittinsTable::new(10, 0.99);
        assert!((table.index(0, 0, 1) - 0.8699).abs() < 1e-4);
    }

    /// The index by the formulation of Katehakis & Veinott (1987), "The Multi-Armed Bandit Problem:
    /// Decomposition and Computation": (1 − γ) times the value of a game in which one may restart in the
    /// state at any time. It has no charge λ and no root, and is solved by iterating to its fixed point.
    fn restart_index(a: f64, b: f64, discount: f64, depth: usize) -> f64 {
        let mut restart: f64 = 0.0;
        let bound = |sum: usize, successes: usize| {
            let p = (a + successes as f64) / (a + b + sum as f64);
            p / (1.0 - discount)
        };
        loop {
            let mut row: Vec<f64> = (0..=depth + 1).map(|s| bound(depth + 1, s)).collect();
            let mut value = 0.0;
            for sum in (0..=depth).rev() {
                for successes in 0..=sum {
                    let p = (a + successes as f64) / (a + b + sum as f64);
                    let (lost, won) =
                        (row[successes].max(restart), row[successes + 1].max(restart));
                    value = p * (1.0 + discount * won) + (1.0 - p) * discount * lost;
                    row[successes] = value;
                }
            }
            if (value - restart).abs() < 1e-10 {
                return (1.0 - discount) * value;
            }
            restart = value;
        }
    }

    /// Against the other formulation. Both cut the horizon where γ^depth is below 1e-5; with the grid's 2e-5
    /// that is within 5e-5.
    #[test]
    fn discounted_indices_are_those_of_the_game_with_restarts() {
        let table = GittinsTable::new(13, 0.95);
        for (successes, failures) in [(0, 0), (3, 1), (1, 5), (7, 4), (12, 0), (0, 12)] {
            let own = table.index(successes, failures, 1);
            let other = restart_index(1.0 + successes as f64, 1.0 + failures as f64, 0.95, 240);
            assert!(
                (own - other).abs() < 5e-5,
                "{successes} {failures}: {own}, {other}"
            );
        }
    }

    /// Finite indices against the definition: Dinkelbach's iteration on the ratio of rewards to pulls over
    /// all stopping rules. To the grid's error.
    #[test]
    fn finite_indices_are_the_best_ratio_of_all_stopping_rules() {
        /// The (rewards, pulls) of the best rule at a charge of `rate`.
        fn rule(a: f64, b: f64, left: usize, rate: f64) -> (f64, f64) {
            let p = a / (a + b);
            let (mut rewards, mut pulls) = (p, 1.0);
            if left > 1 {
                for (q, a, b) in [(p, a + 1.0, b), (1.0 - p, a, b + 1.0)] {
                    let (r, n) = rule(a, b, left - 1, rate);
                    if r - rate * n > 0.0 {
                        rewards += q * r;
                        pulls += q * n;
                    }
                }
            }
            (rewards, pulls)
        }
        let table = GittinsTable::new(12, 1.0);
        for (successes, failures, left) in [(0, 0, 10), (0, 0, 1), (2, 1, 9), (0, 4, 8), (5, 5, 2)]
        {
            let (a, b) = (1.0 + successes as f64, 1.0 + failures as f64);
            let mut rate = 0.0;
            for _ in 0..50 {
                let (rewards, pulls) = rule(a, b, left, rate);
                rate = rewards / pulls;
            }
            let own = table.index(successes, failures, left);
            assert!(
                (own - rate).abs() < 2e-5,
                "{successes} {failures} {left}: {own}, {rate}"
            );
        }
    }
}
