//! Gaussian process regression with its exact posterior.
//!
//! Rasmussen and Williams, *Gaussian processes for machine learning*, MIT Press 2006: equations 2.25, 2.26 and
//! 5.8, and section 6.5 for classes. The linear kernel is ridge regression whose penalty is chosen by the
//! evidence (MacKay, *Bayesian interpolation*, Neural Computation 1992).
//!
//! With support features `xᵢ`, standardised targets `y`, a kernel `k` of unit variance and the ratio `ν` of the
//! noise's variance to that of the function:
//!
//! ```text
//! R = k(X, X) + ν I,   a² = yᵀ R⁻¹ y / s                       the variance that makes y likeliest
//! m(x) = k(x, X) R⁻¹ y,   v(x) = a² (k(x, x) + ν − k(x, X) R⁻¹ k(X, x))
//! ln p(y | X) = −½ (s ln a² + ln |R| + s + s ln 2π)
//! rbf k = exp(−r²/2ℓ²),   matern k = (1 + √5 r/ℓ + 5r²/3ℓ²) exp(−√5 r/ℓ),   linear k = ⟨x − x̄, x' − x̄⟩ / c
//! ```
//!
//! where `ℓ` is in units of the median distance between support rows, and `c` is the mean of `‖xᵢ − x̄‖²`. Of a
//! grid of `ℓ` and `ν`, the pair with the largest evidence is taken, for each task by its support alone; all
//! columns of the target share it. Classes are regressions of ±1, one against the rest, and
//!
//! ```text
//! p(y = n | x) ∝ Φ(mₙ(x) / √vₙ(x))
//! ```
//!
//! # Differences from the book
//! * A grid instead of gradient ascent; one length scale for all features.
//! * The parameters of the sigmoid of section 6.5 are not fitted by leave-one-out: the deviation is that of the
//!   posterior.

use burn::tensor::Tensor;
use meta_core::{
    data::cholesky::Cholesky,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        feature_rule::{self, FeatureBatch, FeatureLearner, FeatureRule},
        host_task::{HostTask, answers},
    },
    nn::{Pass, encoder::Architecture},
    primitives::Primitives,
    settings,
    stats::normal_below,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Length scales among which the evidence chooses, in median distances.
const LENGTHS: [f64; 6] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0];
/// Ratios of noise among which it chooses.
const NOISES: [f64; 9] = [1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0];
/// Least variance, relative to that of the targets, so that a density is finite.
const LEAST_VARIANCE: f64 = 1e-9;
/// Least probability of a class before they are made to sum to 1.
const LEAST_PROBABILITY: f64 = 1e-9;

/// The covariance of values by the distance of their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Covariance {
    /// Smooth functions.
    Rbf,
    /// Functions with two derivatives: Matérn 5/2.
    Matern,
    /// Linear functions: ridge regression.
    Linear,
}

settings! {
    /// Settings of Gaussian processes.
    pub struct GaussianProcessSettings {
        /// The kernel: `rbf`, `matern` (5/2) or `linear` (ridge regression).
        kernel: Covariance = Covariance::Matern;
        /// `ℓ`, in median distances of the support. 0: by the evidence of each task.
        length_scale: f64 = 0.0, at_least(0.0);
        /// `ν`, variance of the noise over that of the function. 0: by the evidence of each task.
        noise: f64 = 0.0, at_least(0.0);
    }
}

impl LearnerSettings for GaussianProcessSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "gaussian_process",
        family: Family::Baseline,
        summary: "exact posterior of a Gaussian process on features; ridge regression with a linear kernel",
        paper: "Rasmussen and Williams, Gaussian processes for machine learning, 2006",
        regression: true,
        any_way: true,
    };

    const READS_MASKS: bool = true;

    fn gradient_of() -> GradientOf {
        feature_rule::gradient_of()
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"kernel": "rbf"}),
            ..feature_rule::toy()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        FeatureLearner::boxed(self, new)
    }
}

/// The kernel in the units of a task's support.
struct Kernel {
    covariance: Covariance,
    /// `ℓ`, or `√c`.
    unit: f64,
    /// `x̄`.
    centre: Vec<f64>,
}

impl Kernel {
    fn of(&self, a: &[f64], b: &[f64]) -> f64 {
        if self.covariance == Covariance::Linear {
            let centred = a.iter().zip(b).zip(&self.centre);
            let products = centred.map(|((a, b), centre)| (a - centre) * (b - centre));
            return products.sum::<f64>() / self.unit.powi(2);
        }
        let squares: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
        let ratio = squares / self.unit.powi(2);
        match self.covariance {
            Covariance::Rbf => (-0.5 * ratio).exp(),
            _ => {
                let r = (5.0 * ratio).sqrt();
                (1.0 + r + r * r / 3.0) * (-r).exp()
            }
        }
    }
}

/// A column of targets in units of its own: mean and deviation.
fn units(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / count;
    (mean, if variance > 0.0 { variance.sqrt() } else { 1.0 })
}

/// Mean of the support, the median distance between its rows, and the root of the mean square of their distance
/// from the mean; 1 where a length is 0.
fn lengths(rows: &[Vec<f64>]) -> (Vec<f64>, f64, f64) {
    let count = rows.len().max(1) as f64;
    let width = rows.first().map_or(0, Vec::len);
    let mean_of = |column: usize| rows.iter().map(|row| row[column]).sum::<f64>() / count;
    let centre: Vec<f64> = (0..width).map(mean_of).collect();
    let square = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let mut pairs: Vec<f64> = rows
        .iter()
        .enumerate()
        .flat_map(|(i, a)| rows[..i].iter().map(move |b| square(a, b).sqrt()))
        .filter(|distance| *distance > 0.0)
        .collect();
    let middle = pairs.len() / 2;
    let median = match pairs.is_empty() {
        true => 1.0,
        false => *pairs.select_nth_unstable_by(middle, f64::total_cmp).1,
    };
    let spread = rows.iter().map(|row| square(row, &centre)).sum::<f64>() / count;
    let spread = if spread > 0.0 { spread.sqrt() } else { 1.0 };
    (centre, median, spread)
}

/// A process that has seen its support.
struct Fitted {
    kernel: Kernel,
    noise: f64,
    factor: Cholesky,
    /// `L⁻¹ y` of every column of targets.
    whitened: Vec<Vec<f64>>,
    /// `ln p(y | X)` of all columns, less what does not depend on the hyperparameters.
    evidence: f64,
}

impl Fitted {
    fn new(kernel: Kernel, noise: f64, rows: &[Vec<f64>], targets: &[Vec<f64>]) -> Self {
        let entry =
            |i: usize, j: usize| kernel.of(&rows[i], &rows[j]) + if i == j { noise } else { 0.0 };
        let factor = Cholesky::new(rows.len(), entry);
        let whitened: Vec<Vec<f64>> = targets.iter().map(|y| factor.solve(y)).collect();
        let count = rows.len() as f64;
        let of_column = |whitened: &Vec<f64>| count * variance(whitened).ln();
        let evidence = whitened.iter().map(of_column).sum::<f64>()
            + targets.len() as f64 * factor.log_determinant();
        Fitted {
            kernel,
            noise,
            factor,
            whitened,
            evidence: -0.5 * evidence,
        }
    }

    /// The process of largest evidence.
    fn chosen(settings: &GaussianProcessSettings, task: &HostTask, targets: &[Vec<f64>]) -> Self {
        let (centre, median, spread) = lengths(&task.support);
        let own = |value: f64, grid: &[f64]| match value > 0.0 {
            true => vec![value],
            false => grid.to_vec(),
        };
        let lengths = match settings.kernel {
            Covariance::Linear => vec![spread],
            _ => {
                let chosen = own(settings.length_scale, &LENGTHS).into_iter();
                chosen.map(|length| length * median).collect()
            }
        };
        let noises = own(settings.noise, &NOISES);
        let mut best: Option<Fitted> = None;
        for &unit in &lengths {
            for &noise in &noises {
                let kernel = Kernel {
                    covariance: settings.kernel,
                    unit,
                    centre: centre.clone(),
                };
                let fitted = Fitted::new(kernel, noise, &task.support, targets);
                // The first among those that differ by rounding.
                let margin = |evidence: f64| 1e-9 * (1.0 + evidence.abs());
                let better = best
                    .as_ref()
                    .is_none_or(|best| fitted.evidence > best.evidence + margin(best.evidence));
                if better {
                    best = Some(fitted);
                }
            }
        }
        best.expect("the grids are not empty")
    }

    /// Mean of every column of targets, and variance over `a²`, for a query.
    fn predict(&self, rows: &[Vec<f64>], query: &[f64]) -> (Vec<f64>, f64) {
        let cross: Vec<f64> = rows.iter().map(|row| self.kernel.of(row, query)).collect();
        let cross = self.factor.solve(&cross);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let means = self.whitened.iter().map(|y| dot(&cross, y)).collect();
        let own = self.kernel.of(query, query) + self.noise;
        (means, (own - dot(&cross, &cross)).max(LEAST_VARIANCE))
    }
}

/// `a²`.
fn variance(whitened: &[f64]) -> f64 {
    let squares: f64 = whitened.iter().map(|y| y * y).sum();
    (squares / whitened.len().max(1) as f64).max(LEAST_VARIANCE)
}

impl GaussianProcessSettings {
    /// Means and deviations of every column of targets at every query, in the units of the targets.
    fn posterior(&self, task: &HostTask) -> Vec<Vec<(f64, f64)>> {
        let units: Vec<(f64, f64)> = task.targets.iter().map(|(_, y)| units(y)).collect();
        let columns = task.targets.iter().zip(&units);
        let targets: Vec<Vec<f64>> = columns
            .map(|((_, y), (mean, deviation))| y.iter().map(|y| (y - mean) / deviation).collect())
            .collect();
        let fitted = Fitted::chosen(self, task, &targets);
        let predicted: Vec<(Vec<f64>, f64)> = task
            .query
            .iter()
            .map(|query| fitted.predict(&task.support, query))
            .collect();
        units
            .iter()
            .enumerate()
            .map(|(column, (mean, deviation))| {
                let own = variance(&fitted.whitened[column]);
                let scaled = |(means, ratio): &(Vec<f64>, f64)| {
                    let found = mean + deviation * means[column];
                    (found, deviation * (own * ratio).sqrt())
                };
                predicted.iter().map(scaled).collect()
            })
            .collect()
    }
}

impl FeatureRule for GaussianProcessSettings {
    /// Means, or logarithms of the probabilities of classes.
    fn scores<B: Primitives>(
        &self,
        features: &FeatureBatch<B>,
        _number: f64,
        _pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        if features.values.is_some() {
            return answers(features, |task| {
                let column = |column: Vec<(f64, f64)>| column.iter().map(|at| at.0).collect();
                self.posterior(task).into_iter().map(column).collect()
            });
        }
        answers(features, |task| {
            // A class has 1 and others 0: ½ is where a regression of ±1 has 0.
            let score = |at: &(f64, f64)| {
                let below = normal_below((at.0 - 0.5) / at.1);
                below.max(LEAST_PROBABILITY).ln()
            };
            let column = |column: Vec<(f64, f64)>| column.iter().map(score).collect();
            self.posterior(task).into_iter().map(column).collect()
        })
    }

    fn deviations<B: Primitives>(&self, features: &FeatureBatch<B>) -> Option<Tensor<B, 3>> {
        features.values.as_ref()?;
        Some(answers(features, |task| {
            let column = |column: Vec<(f64, f64)>| column.iter().map(|at| at.1).collect();
            self.posterior(task).into_iter().map(column).collect()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{assert_close, learner, spec, support_as_queries, tasks, values};
    use meta_core::{
        data::Task,
        learner::PredictAt,
        task::{TargetBatch, TaskBatch, TaskSpec},
    };

    /// With next to no noise, the mean goes through the support and the deviation vanishes there.
    #[test]
    fn a_process_without_noise_interpolates() {
        let (spec, mut batch) = regression();
        batch = support_as_queries(batch);
        for kernel in ["rbf", "matern"] {
            let settings = json!({"kernel": kernel, "noise": 1e-6, "length_scale": 0.5});
            let learner = learner("gaussian_process", settings, &spec);
            let found = values(learner.predict(&batch, PredictAt::LastStep).remove(0));
            let TargetBatch::Values(expected) = &batch.support.targets else {
                panic!("values");
            };
            assert_close(&found, &values(expected.clone()), 1e-3);
        }
    }

    /// A column of targets in other units is answered in those units.
    #[test]
    fn targets_have_no_units() {
        let (spec, batch) = regression();
        let learner = learner("gaussian_process", json!({}), &spec);
        let mut scaled = batch.clone();
        if let TargetBatch::Values(values) = &batch.support.targets {
            scaled.support.targets =
                TargetBatch::Values(values.clone().mul_scalar(0.5).add_scalar(4.0));
        }
        let answer =
            |tasks: &TaskBatch<_>| values(learner.predict(tasks, PredictAt::LastStep).remove(0));
        let expected: Vec<f32> = answer(&batch).iter().map(|y| 0.5 * y + 4.0).collect();
        assert_close(&answer(&scaled), &expected, 1e-4);
    }

    fn regression() -> (TaskSpec, TaskBatch<meta_core::backend::Cpu>) {
        let plain = spec(1, 9);
        let mut batch = tasks(&plain);
        for items in [&mut batch.support, &mut batch.query] {
            let x = items.inputs.clone();
            let values = x.clone().narrow(2, 0, 1) + x.narrow(2, 1, 1);
            items.targets = TargetBatch::Values(values);
        }
        let spec = TaskSpec {
            task: Task::Regression { outputs: 1 },
            ..plain
        };
        (spec, batch)
    }
}
