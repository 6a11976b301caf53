//! What policy gradients weigh their terms by: discounted returns, advantages, and a linear baseline.

/// Returns R_t = r_t + γ R_{t+1} of one episode, R = 0 after its end.
pub fn discounted_returns(rewards: &[f64], discount: f64) -> Vec<f64> {
    let mut ahead = 0.0;
    let mut returns: Vec<f64> = rewards
        .iter()
        .rev()
        .map(|reward| {
            ahead = reward + discount * ahead;
            ahead
        })
        .collect();
    returns.reverse();
    returns
}

/// Generalised advantages of a stretch of T steps (Schulman et al. 2016, "High-Dimensional Continuous Control
/// Using Generalized Advantage Estimation", section 3):
///
/// ```text
/// δ_t = r_t + γ V_{t+1} − V_t,   A_t = δ_t + γ λ A_{t+1},
/// ```
///
/// where V_{t+1} and A_{t+1} are 0 where step t ended an episode. `values` holds V_0, …, V_T: the last is
/// that of the state after the stretch.
///
/// # Panics
/// Where `values` is not one longer than `rewards`, or `done` not as long: the message names the lengths.
pub fn advantages(
    rewards: &[f64],
    values: &[f64],
    done: &[bool],
    discount: f64,
    lambda: f64,
) -> Vec<f64> {
    let steps = rewards.len();
    let given = (values.len(), done.len());
    assert_eq!(
        given,
        (steps + 1, steps),
        "values and ends of {steps} steps"
    );
    let mut ahead = 0.0;
    let mut advantages = vec![0.0; steps];
    for step in (0..steps).rev() {
        let goes_on = if done[step] { 0.0 } else { discount };
        let surprise = rewards[step] + goes_on * values[step + 1] - values[step];
        ahead = surprise + goes_on * lambda * ahead;
        advantages[step] = ahead;
    }
    advantages
}

/// A baseline that is linear in features of observation and time, fitted by least squares (Duan et al. 2016,
/// "Benchmarking Deep Reinforcement Learning for Continuous Control", supplement):
///
/// ```text
/// φ(o, t) = (o, o², t/100, (t/100)², (t/100)³, 1),   w = argmin Σ (wᵀφ − R)² + c ‖w‖².
/// ```
///
/// o is clipped to \[−10, 10\], as the authors' program does.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearBaseline {
    width: usize,
    /// `[2·width + 4]`; zeros before the first fit.
    weights: Vec<f64>,
}

impl LinearBaseline {
    /// The baseline 0, for observations of that width.
    pub fn new(width: usize) -> Self {
        LinearBaseline {
            width,
            weights: vec![0.0; 2 * width + 4],
        }
    }

    fn features(&self, observation: &[f32], time: usize, to: &mut [f64]) {
        let width = self.width;
        for (place, &number) in observation.iter().enumerate() {
            let number = f64::from(number).clamp(-10.0, 10.0);
            to[place] = number;
            to[width + place] = number * number;
        }
        let time = time as f64 / 100.0;
        to[2 * width..].copy_from_slice(&[time, time * time, time * time * time, 1.0]);
    }

    /// Fits it to `returns` at `observations` `[steps, width]` and `times` within their episodes.
    ///
    /// `ridge` is c; it is raised tenfold, at most six times, while the equations cannot be solved. Where
    /// they never can, the baseline stays as it was.
    pub fn fit(&mut self, observations: &[f32], times: &[usize], returns: &[f64], ridge: f64) {
        let count = self.weights.len();
        let mut gram = vec![0.0; count * count];
        let mut target = vec![0.0; count];
        let mut row = vec![0.0; count];
        let steps = observations.chunks_exact(self.width.max(1)).zip(times);
        for ((observation, &time), wanted) in steps.zip(returns) {
            self.features(observation, time, &mut row);
            for (place, feature) in row.iter().enumerate() {
                target[place] += feature * wanted;
                let cells = &mut gram[place * count..][..count];
                for (cell, other) in cells.iter_mut().zip(&row) {
                    *cell += feature * other;
                }
            }
        }
        let mut ridge = ridge.max(f64::MIN_POSITIVE);
        for _ in 0..7 {
            if let Some(weights) = solve(&gram, &target, ridge) {
                self.weights = weights;
                return;
            }
            ridge *= 10.0;
        }
    }

    /// Writes its values at `observations` `[steps, width]` and `times`.
    pub fn values(&self, observations: &[f32], times: &[usize]) -> Vec<f64> {
        let mut row = vec![0.0; self.weights.len()];
        let steps = observations.chunks_exact(self.width.max(1)).zip(times);
        steps
            .map(|(observation, &time)| {
                self.features(observation, time, &mut row);
                row.iter().zip(&self.weights).map(|(f, w)| f * w).sum()
            })
            .collect()
    }
}

/// Solves (G + c I) w = t by the factorisation of Cholesky; `None` where a pivot is not above 0.
fn solve(gram: &[f64], target: &[f64], ridge: f64) -> Option<Vec<f64>> {
    let n = target.len();
    let mut lower = vec![0.0; n * n];
    for row in 0..n {
        for column in 0..=row {
            let known: f64 = (0..column)
                .map(|k| lower[row * n + k] * lower[column * n + k])
                .sum();
            let left = gram[row * n + column] - known;
            if row == column {
                let pivot = left + ridge;
                if pivot.is_nan() || pivot <= 0.0 || pivot.is_infinite() {
                    return None;
                }
                lower[row * n + row] = pivot.sqrt();
            } else {
                lower[row * n + column] = left / lower[column * n + column];
            }
        }
    }
    let mut weights = target.to_vec();
    for row in 0..n {
        let known: f64 = (0..row).map(|k| lower[row * n + k] * weights[k]).sum();
        weights[row] = (weights[row] - known) / lower[row * n + row];
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|k| lower[k * n + row] * weights[k]).sum();
        weights[row] = (weights[row] - known) / lower[row * n + row];
    }
    weights
        .iter()
        .all(|weight| weight.is_finite())
        .then_some(weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    /// A constant reward r over T steps: R_t = r (1 − γ^(T−t)) / (1 − γ). To rounding.
    #[test]
    fn returns_of_a_constant_reward_are_a_geometric_sum() {
        let returns = discounted_returns(&[2.0; 8], 0.9);
        for (time, value) in returns.iter().enumerate() {
            let closed = 2.0 * (1.0 - 0.9f64.powi(8 - time as i32)) / 0.1;
            assert!((value - closed).abs() < 1e-12);
        }
        assert!(discounted_returns(&[], 0.9).is_empty());
    }

    /// λ = 1 gives returns minus values, λ = 0 one-step errors, and any λ the weighted sum of k-step
    /// advantages of the paper's equation 16. To rounding.
    #[test]
    fn advantages_are_the_weighted_sum_of_k_step_ones() {
        let mut stream = Seed(1).stream("gae", 0, "test");
        let rewards: Vec<f64> = (0..6).map(|_| stream.normal()).collect();
        let mut values: Vec<f64> = (0..7).map(|_| stream.normal()).collect();
        values[6] = 0.0;
        let mut done = [false; 6];
        done[5] = true;
        let (discount, lambda) = (0.97, 0.8);
        let returns = discounted_returns(&rewards, discount);
        let ones = advantages(&rewards, &values, &done, discount, 1.0);
        let zeros = advantages(&rewards, &values, &done, discount, 0.0);
        let own = advantages(&rewards, &values, &done, discount, lambda);
        for time in 0..6 {
            assert!((ones[time] - (returns[time] - values[time])).abs() < 1e-12);
            let next = if time == 5 { 0.0 } else { values[time + 1] };
            let error = rewards[time] + discount * next - values[time];
            assert!((zeros[time] - error).abs() < 1e-12);
            // Â^(k) = Σ_{l<k} γ^l r_{t+l} + γ^k V_{t+k} − V_t; weights (1 − λ) λ^(k−1), the rest on the last.
            let last = 6 - time;
            let k_step = |k: usize| {
                let sum: f64 = (0..k)
                    .map(|l| discount.powi(l as i32) * rewards[time + l])
                    .sum();
                sum + discount.powi(k as i32) * values[time + k] - values[time]
            };
            let mixed: f64 = (1..last)
                .map(|k| (1.0 - lambda) * lambda.powi(k as i32 - 1) * k_step(k))
                .sum();
            let mixed = mixed + lambda.powi(last as i32 - 1) * k_step(last);
            assert!((own[time] - mixed).abs() < 1e-12);
        }
    }

    /// An end inside a stretch parts it: both halves are as if alone.
    #[test]
    fn an_end_parts_a_stretch() {
        let (rewards, values) = ([1.0, 2.0, 3.0, 4.0], [0.5, -0.5, 0.25, 1.0, 2.0]);
        let all = advantages(&rewards, &values, &[false, true, false, false], 0.9, 0.7);
        let first = advantages(&rewards[..2], &[0.5, -0.5, 9.0], &[false, true], 0.9, 0.7);
        let second = advantages(&rewards[2..], &values[2..], &[false, false], 0.9, 0.7);
        assert_eq!(all, [first, second].concat());
    }

    /// Returns that are linear in the features are met: the ridge of 1e-8 moves them by less than 1e-6. The
    /// normal equations hold for returns that are not.
    #[test]
    fn the_baseline_is_that_of_least_squares() {
        let mut stream = Seed(2).stream("baseline", 0, "test");
        let observations: Vec<f32> = (0..400).map(|_| stream.normal() as f32).collect();
        let times: Vec<usize> = (0..200).map(|step| step % 50).collect();
        let mut baseline = LinearBaseline::new(2);
        assert_eq!(baseline.values(&observations, &times), [0.0; 200]);
        let truth = LinearBaseline {
            width: 2,
            weights: (0..8).map(|_| stream.normal()).collect(),
        };
        let returns = truth.values(&observations, &times);
        baseline.fit(&observations, &times, &returns, 1e-8);
        let own = baseline.values(&observations, &times);
        let worst = own.iter().zip(&returns).map(|(a, b)| (a - b).abs());
        assert!(worst.fold(0.0, f64::max) < 1e-6);
        let noisy: Vec<f64> = returns.iter().map(|r| r + stream.normal()).collect();
        let ridge = 0.1;
        baseline.fit(&observations, &times, &noisy, ridge);
        let own = baseline.values(&observations, &times);
        let mut slope = [0.0; 8];
        let mut row = vec![0.0; 8];
        for (step, observation) in observations.chunks_exact(2).enumerate() {
            baseline.features(observation, times[step], &mut row);
            for (place, feature) in row.iter().enumerate() {
                slope[place] += feature * (own[step] - noisy[step]);
            }
        }
        for (place, weight) in baseline.weights.iter().enumerate() {
            // Sums of 200 terms of size up to 100.
            assert!((slope[place] + ridge * weight).abs() < 1e-9, "{place}");
        }
    }

    #[test]
    fn a_baseline_that_cannot_be_fitted_stays() {
        let mut baseline = LinearBaseline::new(1);
        baseline.fit(&[f32::NAN], &[0], &[1.0], 1e-5);
        assert_eq!(baseline, LinearBaseline::new(1));
    }
}
