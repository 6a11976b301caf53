//! Functions from a Gaussian process: the regression task of neural processes (Garnelo et al.,
//! *Conditional neural processes*, ICML 2018, section 4.1; Kim et al., *Attentive neural processes*,
//! ICLR 2019, section 4.1).
//!
//! A task is f ~ GP(0, k) on inputs x ~ U\[low, high\]; support and query are noisy values
//! y = f(x) + ε, ε ~ N(0, noise²). The kernels, with r = |x − x′|:
//!
//! ```text
//! rbf        k = s² exp(−r² / 2ℓ²)
//! matern52   k = s² (1 + √5 r/ℓ + 5r²/3ℓ²) exp(−√5 r/ℓ)
//! periodic   k = s² exp(−2 sin²(π r/p) / ℓ²)
//! ```
//!
//! Values are drawn exactly, as L z with K = L Lᵀ in f64. So is the log-likelihood that no learner can
//! exceed on average: that of the process's own posterior, with the kernel of the task known.
//!
//! # Differences from the papers
//! The papers draw the number of context points anew for every batch; here it is that of the episode's
//! shape. The length scale is fixed by default, as in section 4.1 of the first; a range makes it
//! random by task.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cholesky::{Cholesky, JITTER, log_density, posterior};
use super::episode::{Episode, EpisodeShape, ItemShape, Items, Split, Targets, Task};
use super::source::{Source, SourceSettings, settings_hash};
use crate::error::{Error, Result};
use crate::rng::Seed;
use crate::settings;
use crate::settings::Settings;

/// How values at two inputs are correlated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernel {
    /// Squared exponential: smooth functions.
    Rbf,
    /// Matérn with ν = 5/2: functions that are differentiable twice.
    Matern52,
    /// Functions of one period.
    Periodic,
}

settings! {
    /// Settings of [`GpSource`].
    pub struct GpSettings {
        /// Kernel k: `rbf`, `matern52` or `periodic`.
        kernel: Kernel = Kernel::Rbf;
        /// Smallest length scale ℓ, which is drawn for every task. Above 0, at most
        /// `length_scale_high`.
        length_scale_low: f64 = 0.6;
        /// Largest length scale ℓ. Finite.
        length_scale_high: f64 = 0.6;
        /// Variance s² of the function. Finite.
        variance: f64 = 1.0, above(0.0);
        /// Period p of `periodic`. Finite.
        period: f64 = 1.0, above(0.0);
        /// Standard deviation of the normal noise on every y. At least 0.
        noise: f64 = 0.02;
        /// Smallest input x. Finite, below `input_high`.
        input_low: f64 = -2.0;
        /// Largest input x. Finite.
        input_high: f64 = 2.0;
    }
}

impl GpSettings {
    /// Checks the settings and makes the source.
    ///
    /// # Errors
    /// [`Error::Setting`] for a range that is empty or not finite, and for a length, variance, period
    /// or noise that cannot be.
    pub fn build(&self) -> Result<GpSource> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let refuse = |key: &str, value: f64, expected: String| {
            Err(Error::setting(format!("data.{key}"), value, expected))
        };
        if !(positive(self.length_scale_low) && self.length_scale_low <= self.length_scale_high) {
            return refuse(
                "length_scale_low",
                self.length_scale_low,
                format!(
                    "must be above 0 and at most `data.length_scale_high`, which is {}",
                    self.length_scale_high
                ),
            );
        }
        let above = "must be finite and above 0";
        for (key, value) in [
            ("length_scale_high", self.length_scale_high),
            ("variance", self.variance),
            ("period", self.period),
        ] {
            if !positive(value) {
                return refuse(key, value, above.to_owned());
            }
        }
        if !(self.noise.is_finite() && self.noise >= 0.0) {
            return refuse(
                "noise",
                self.noise,
                "must be finite and at least 0".to_owned(),
            );
        }
        let (low, high) = (self.input_low, self.input_high);
        if !(low.is_finite() && high.is_finite() && low < high) {
            return refuse(
                "input_low",
                low,
                format!(
                    "must be finite and below `data.input_high`, which must be finite and is {high}"
                ),
            );
        }
        Ok(GpSource {
            settings: self.clone(),
        })
    }

    /// k(x, x′) with this length scale.
    fn covariance(&self, x: f64, other: f64, length_scale: f64) -> f64 {
        let r = (x - other).abs();
        let correlation = match self.kernel {
            Kernel::Rbf => (-0.5 * (r / length_scale).powi(2)).exp(),
            Kernel::Matern52 => {
                let scaled = 5.0f64.sqrt() * r / length_scale;
                (1.0 + scaled + scaled * scaled / 3.0) * (-scaled).exp()
            }
            Kernel::Periodic => {
                let sine = (std::f64::consts::PI * r / self.period).sin();
                (-2.0 * (sine / length_scale).powi(2)).exp()
            }
        };
        self.variance * correlation
    }
}

impl SourceSettings for GpSettings {
    const NAME: &str = "gp";
    const SUMMARY: &str =
        "regression of functions from a Gaussian process, with its exact posterior; needs no files";

    fn open(&self, _data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build()?))
    }
}

/// Tasks of fitting a function from a Gaussian process; items are single numbers (1×1×1), targets
/// single numbers.
#[derive(Clone, Debug)]
pub struct GpSource {
    settings: GpSettings,
}

impl GpSource {
    /// ℓ of task `index`.
    pub fn length_scale(&self, seed: Seed, split: Split, index: u64) -> f64 {
        let GpSettings {
            length_scale_low: low,
            length_scale_high: high,
            ..
        } = self.settings;
        let mut stream = seed.stream(split.scope(), index, "length scale");
        stream.uniform_in(low, high)
    }

    /// Mean and variance of noisy values at `targets` given noisy values `y` at `x`.
    fn posterior(&self, x: &[f64], y: &[f64], targets: &[f64], length: f64) -> Vec<(f64, f64)> {
        let config = &self.settings;
        let all: Vec<f64> = x.iter().chain(targets).copied().collect();
        let k = |i: usize, j: usize| config.covariance(all[i], all[j], length);
        posterior(k, self.own_variance(), y, targets.len())
    }

    /// Variance of a value that it shares with no other.
    fn own_variance(&self) -> f64 {
        self.settings.noise.powi(2) + JITTER * self.settings.variance
    }
}

impl Source for GpSource {
    fn name(&self) -> &'static str {
        "gp"
    }

    fn task(&self) -> Task {
        Task::Regression { outputs: 1 }
    }

    fn item_shape(&self) -> ItemShape {
        ItemShape {
            height: 1,
            width: 1,
            channels: 1,
        }
    }

    fn episode(
        &self,
        seed: Seed,
        split: Split,
        shape: EpisodeShape,
        index: u64,
    ) -> Result<Episode> {
        self.check(split, shape)?;
        let (shot, query) = (shape.shot.0, shape.query.0);
        let stream = |purpose: &str| seed.stream(split.scope(), index, purpose);
        let inputs = |purpose: &str, count: usize| -> Vec<f32> {
            let mut stream = stream(purpose);
            let (low, high) = (self.settings.input_low, self.settings.input_high);
            // The values belong to the rounded inputs, those that a network sees.
            (0..count)
                .map(|_| stream.uniform_in(low, high) as f32)
                .collect()
        };
        let normals = |purpose: &str| -> Vec<f64> {
            let mut stream = stream(purpose);
            (0..shot + query).map(|_| stream.normal()).collect()
        };
        let (support, query_inputs) = (inputs("support", shot), inputs("query", query));
        let x: Vec<f64> = support
            .iter()
            .chain(&query_inputs)
            .map(|&x| f64::from(x))
            .collect();
        let length = self.length_scale(seed, split, index);
        let jitter = JITTER * self.settings.variance;
        let factor = Cholesky::new(x.len(), |i, j| {
            self.settings.covariance(x[i], x[j], length) + f64::from(i == j) * jitter
        });
        // The support comes first, and a row of the factor sees only those before it: the number of
        // queries does not move the support.
        let values: Vec<f32> = factor
            .product(&normals("function"))
            .iter()
            .zip(normals("noise"))
            .map(|(value, noise)| (value + self.settings.noise * noise) as f32)
            .collect();
        let items = |inputs: Vec<f32>, values: &[f32], first: usize| Items {
            ids: (first..first + inputs.len()).map(|id| id as u64).collect(),
            inputs,
            targets: Targets::Values(values.to_vec()),
            mask: None,
        };
        Ok(Episode {
            index,
            shape,
            support: items(support, &values[..shot], 0),
            query: items(query_inputs, &values[shot..], shot),
            classes: Vec::new(),
            class_vectors: None,
            world: None,
        })
    }

    fn log_likelihood(&self, seed: Seed, split: Split, episode: &Episode) -> Option<f64> {
        let wide = |list: &[f32]| -> Vec<f64> { list.iter().map(|&x| f64::from(x)).collect() };
        let (Targets::Values(y), Targets::Values(targets)) =
            (&episode.support.targets, &episode.query.targets)
        else {
            return None;
        };
        let length = self.length_scale(seed, split, episode.index);
        let (x, query) = (wide(&episode.support.inputs), wide(&episode.query.inputs));
        let predicted = self.posterior(&x, &wide(y), &query, length);
        let densities = predicted.iter().zip(targets);
        let sum: f64 = densities
            .map(|(&(mean, variance), &y)| log_density(f64::from(y), mean, variance))
            .sum();
        Some(sum / targets.len() as f64)
    }

    fn content_hash(&self) -> String {
        settings_hash("gp 1", &self.settings.entries())
    }

    fn describe(&self) -> Value {
        json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "settings": self.settings.to_value(),
            "content_hash": self.content_hash(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNELS: [Kernel; 3] = [Kernel::Rbf, Kernel::Matern52, Kernel::Periodic];

    fn source(kernel: Kernel, noise: f64) -> GpSource {
        let config = GpSettings {
            kernel,
            noise,
            variance: 1.5,
            ..GpSettings::default()
        };
        config.build().expect("valid")
    }

    fn values(items: &Items) -> &[f32] {
        match &items.targets {
            Targets::Values(values) => values,
            _ => panic!("regression has values"),
        }
    }

    /// Values at the first two inputs of 4000 tasks: after whitening with the covariance of those
    /// inputs they are standard normal and uncorrelated. Tolerances are 5 standard errors; the seed is
    /// fixed.
    #[test]
    fn values_have_the_covariance_of_the_kernel() {
        for kernel in KERNELS {
            let source = source(kernel, 0.3);
            let count = 4000;
            let (mut squares, mut products) = ([0.0; 2], 0.0);
            for index in 0..count {
                let shape = EpisodeShape::new(1, 2, 1);
                let episode = source
                    .episode(Seed(0), Split::Train, shape, index)
                    .expect("drawn");
                let x: Vec<f64> = episode.support.inputs.iter().map(|&x| x.into()).collect();
                let y: Vec<f64> = values(&episode.support).iter().map(|&y| y.into()).collect();
                let own = source.own_variance();
                let factor = Cholesky::new(2, |i, j| {
                    source.settings.covariance(x[i], x[j], 0.6) + f64::from(i == j) * own
                });
                let z = factor.solve(&y);
                squares[0] += z[0] * z[0];
                squares[1] += z[1] * z[1];
                products += z[0] * z[1];
            }
            let count = count as f64;
            for square in squares {
                assert!(
                    (square / count - 1.0).abs() < 5.0 * (2.0 / count).sqrt(),
                    "{kernel:?}"
                );
            }
            assert!((products / count).abs() < 5.0 / count.sqrt(), "{kernel:?}");
        }
    }

    /// With one context point, mean and variance are those of a bivariate normal.
    #[test]
    fn one_context_point_is_the_closed_form() {
        for kernel in KERNELS {
            let source = source(kernel, 0.3);
            let (x, y, target) = (0.2, 0.7, 0.5);
            let k = source.settings.covariance(x, target, 0.6);
            let own = source.own_variance();
            let (mean, variance) = source.posterior(&[x], &[y], &[target], 0.6)[0];
            assert!((mean - k / (1.5 + own) * y).abs() < 1e-12);
            assert!((variance - (1.5 + own - k * k / (1.5 + own))).abs() < 1e-12);
        }
    }

    /// Without noise the posterior goes through the support, and is certain there.
    #[test]
    fn without_noise_the_support_is_known() {
        for kernel in KERNELS {
            let source = source(kernel, 0.0);
            let (x, y) = ([-0.35, 0.1, 0.4], [0.4, -1.0, 0.3]);
            for (&y, (mean, variance)) in y.iter().zip(source.posterior(&x, &y, &x, 0.6)) {
                assert!((mean - y).abs() < 1e-7, "{kernel:?} {mean} {y}");
                assert!(variance < 1e-8, "{kernel:?} {variance}");
            }
        }
    }

    /// An episode far from its support has the density of the prior; the mean over its queries is
    /// what is told.
    #[test]
    fn far_from_the_support_is_the_prior() {
        let source = source(Kernel::Rbf, 0.3);
        let items = |inputs: &[f32], values: &[f32]| Items {
            inputs: inputs.to_vec(),
            targets: Targets::Values(values.to_vec()),
            ids: (0..inputs.len() as u64).collect(),
            mask: None,
        };
        let episode = Episode {
            index: 0,
            shape: EpisodeShape::new(1, 1, 2),
            support: items(&[100.0], &[3.0]),
            query: items(&[0.0, 50.0], &[0.5, -1.5]),
            classes: Vec::new(),
            class_vectors: None,
            world: None,
        };
        let found = source.log_likelihood(Seed(0), Split::Test, &episode);
        let variance = 1.5 + source.own_variance();
        let expected = 0.5 * (log_density(0.5, 0.0, variance) + log_density(-1.5, 0.0, variance));
        assert!((found.expect("known") - expected).abs() < 1e-12);
    }

    /// Against NumPy 2.4.6 (`numpy.linalg`), f64; noise 0.3, variance 1.5, ℓ = 0.6, p = 1 and the
    /// jitter:
    ///
    /// ```text
    /// x, y = [-1, -0.25, 0.5, 1.5], [0.5, -0.75, 1, 0.25]; t, u = [-0.5, 0.75, 2], [0.25, 1.25, -0.5]
    /// K = k(x, x) + own * eye(4); S = k(t, x) @ inv(K); m = S @ y
    /// v = 1.5 + own - einsum('ij,ij->i', S, k(t, x)); mean(-0.5 * (log(2 pi v) + (u - m)**2 / v))
    /// ```
    #[test]
    fn log_likelihoods_equal_numpy() {
        let items = |inputs: &[f32], values: &[f32]| Items {
            inputs: inputs.to_vec(),
            targets: Targets::Values(values.to_vec()),
            ids: (0..inputs.len() as u64).collect(),
            mask: None,
        };
        let episode = Episode {
            index: 0,
            shape: EpisodeShape::new(1, 4, 3),
            support: items(&[-1.0, -0.25, 0.5, 1.5], &[0.5, -0.75, 1.0, 0.25]),
            query: items(&[-0.5, 0.75, 2.0], &[0.25, 1.25, -0.5]),
            classes: Vec::new(),
            class_vectors: None,
            world: None,
        };
        let expected = [-0.934295635727742, -0.9396699223340473, -4.691803190411334];
        for (kernel, expected) in KERNELS.into_iter().zip(expected) {
            let found = source(kernel, 0.3).log_likelihood(Seed(0), Split::Test, &episode);
            let error = (found.expect("known") - expected).abs();
            assert!(error < 1e-11, "{kernel:?}: {found:?} is not {expected}");
        }
    }

    #[test]
    fn the_number_of_queries_does_not_move_the_support_and_length_scales_have_their_range() {
        let config = GpSettings {
            length_scale_low: 0.2,
            length_scale_high: 0.9,
            ..GpSettings::default()
        };
        let source = config.build().expect("valid");
        let make = |query| {
            source
                .episode(Seed(1), Split::Test, EpisodeShape::new(1, 5, query), 3)
                .expect("drawn")
        };
        assert_eq!(make(4).support, make(40).support);
        let lengths: Vec<f64> = (0..50)
            .map(|index| source.length_scale(Seed(1), Split::Test, index))
            .collect();
        assert!(lengths.iter().all(|length| (0.2..0.9).contains(length)));
        assert!(lengths.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn bad_settings_are_refused_by_name() {
        let default = GpSettings::default();
        let bad = [
            (
                "length_scale_low",
                GpSettings {
                    length_scale_low: 0.0,
                    ..default.clone()
                },
            ),
            (
                "length_scale_low",
                GpSettings {
                    length_scale_high: 0.1,
                    ..default.clone()
                },
            ),
            (
                "variance",
                GpSettings {
                    variance: -1.0,
                    ..default.clone()
                },
            ),
            (
                "period",
                GpSettings {
                    period: 0.0,
                    ..default.clone()
                },
            ),
            (
                "noise",
                GpSettings {
                    noise: f64::NAN,
                    ..default.clone()
                },
            ),
            (
                "input_low",
                GpSettings {
                    input_low: 3.0,
                    ..default
                },
            ),
        ];
        for (key, config) in bad {
            let message = config.build().expect_err("refused").to_string();
            assert!(message.starts_with(&format!("`data.{key} = ")), "{message}");
        }
    }
}
