//! Sine waves: the regression task of Finn, Abbeel & Levine (2017), "Model-Agnostic Meta-Learning for
//! Fast Adaptation of Deep Networks", section 5.1.
//!
//! A task is y = A sin(x − φ) with A ~ U\[0.1, 5\], φ ~ U\[0, π\] and x ~ U\[−5, 5\] for support and query
//! alike.
//!
//! # Differences from the paper
//! None by default. The paper does not state the sign of the phase; x − φ is that of the authors' code.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::episode::{Episode, EpisodeShape, ItemShape, Items, Split, Targets, Task};
use super::source::{Source, SourceSettings, settings_hash};
use crate::error::{Error, Result};
use crate::rng::{Seed, Stream};
use crate::settings;
use crate::settings::Settings;

settings! {
    /// Settings of [`SinusoidSource`].
    pub struct SinusoidSettings {
        /// Smallest amplitude A. Finite, at most `amplitude_high`.
        amplitude_low: f64 = 0.1;
        /// Largest amplitude A. Finite.
        amplitude_high: f64 = 5.0;
        /// Smallest phase φ, in radians. Finite, at most `phase_high`.
        phase_low: f64 = 0.0;
        /// Largest phase φ, in radians. Finite.
        phase_high: f64 = std::f64::consts::PI;
        /// Smallest input x. Finite, at most `input_high`.
        input_low: f64 = -5.0;
        /// Largest input x. Finite.
        input_high: f64 = 5.0;
        /// Standard deviation of normal noise on the support's y; the query is never noisy. At
        /// least 0.
        noise: f64 = 0.0;
    }
}

impl SinusoidSettings {
    /// Checks the settings and makes the source.
    ///
    /// # Errors
    /// [`Error::Setting`] for a range that is empty or not finite, or negative noise.
    pub fn build(&self) -> Result<SinusoidSource> {
        let ranges = [
            ("amplitude", self.amplitude_low, self.amplitude_high),
            ("phase", self.phase_low, self.phase_high),
            ("input", self.input_low, self.input_high),
        ];
        for (name, low, high) in ranges {
            if !(low.is_finite() && high.is_finite() && low <= high) {
                return Err(Error::setting(
                    format!("data.{name}_low"),
                    low,
                    format!(
                        "must be finite and at most `data.{name}_high`, which must be finite and \
                         is {high}"
                    ),
                ));
            }
        }
        if !(self.noise.is_finite() && self.noise >= 0.0) {
            return Err(Error::setting(
                "data.noise",
                self.noise,
                "must be finite and at least 0",
            ));
        }
        Ok(SinusoidSource {
            settings: self.clone(),
        })
    }
}

impl SourceSettings for SinusoidSettings {
    const NAME: &str = "sinusoid";
    const SUMMARY: &str = "regression of sine waves (Finn et al. 2017); needs no files";

    fn open(&self, _data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build()?))
    }
}

/// The function behind a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wave {
    /// A.
    pub amplitude: f64,
    /// φ, in radians.
    pub phase: f64,
}

impl Wave {
    /// y = A sin(x − φ).
    pub fn at(&self, x: f64) -> f64 {
        self.amplitude * (x - self.phase).sin()
    }
}

/// Tasks of fitting a sine wave; items are single numbers (1×1×1), targets single numbers.
#[derive(Clone, Debug)]
pub struct SinusoidSource {
    settings: SinusoidSettings,
}

impl SinusoidSource {
    /// The function of task `index`, for plots.
    pub fn wave(&self, seed: Seed, split: Split, index: u64) -> Wave {
        let mut stream = seed.stream(split.scope(), index, "wave");
        Wave {
            amplitude: stream.uniform_in(self.settings.amplitude_low, self.settings.amplitude_high),
            phase: stream.uniform_in(self.settings.phase_low, self.settings.phase_high),
        }
    }

    fn items(
        &self,
        wave: Wave,
        inputs: &mut Stream,
        mut noise: Option<Stream>,
        ids: std::ops::Range<usize>,
    ) -> Items {
        let mut items = Items {
            inputs: Vec::with_capacity(ids.len()),
            targets: Targets::Values(Vec::new()),
            ids: ids.clone().map(|id| id as u64).collect(),
            mask: None,
        };
        let mut values = Vec::with_capacity(ids.len());
        for _ in ids {
            // The target belongs to the rounded input, the one that a network sees.
            let x = inputs.uniform_in(self.settings.input_low, self.settings.input_high) as f32;
            let error = noise
                .as_mut()
                .map_or(0.0, |noise| self.settings.noise * noise.normal());
            items.inputs.push(x);
            values.push((wave.at(f64::from(x)) + error) as f32);
        }
        items.targets = Targets::Values(values);
        items
    }
}

impl Source for SinusoidSource {
    fn name(&self) -> &'static str {
        "sinusoid"
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
        let wave = self.wave(seed, split, index);
        let (shot, query) = (shape.shot.0, shape.query.0);
        // Streams of their own, so that the number of shots does not move the query.
        let stream = |purpose: &str| seed.stream(split.scope(), index, purpose);
        let noise = (self.settings.noise > 0.0).then(|| stream("noise"));
        let support = self.items(wave, &mut stream("support"), noise, 0..shot);
        let query = self.items(wave, &mut stream("query"), None, shot..shot + query);
        Ok(Episode::new(index, shape, support, query, Vec::new()))
    }

    fn content_hash(&self) -> String {
        settings_hash("sinusoid 1", &self.settings.entries())
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

    #[test]
    fn targets_lie_on_the_wave_and_inputs_in_their_range() {
        let source = SinusoidSettings::default().build().expect("valid");
        for index in 0..50 {
            let shape = EpisodeShape::new(1, 5, 10);
            let episode = source
                .episode(Seed(3), Split::Test, shape, index)
                .expect("drawn");
            let wave = source.wave(Seed(3), Split::Test, index);
            assert!((0.1..=5.0).contains(&wave.amplitude));
            assert!((0.0..=std::f64::consts::PI).contains(&wave.phase));
            for items in [&episode.support, &episode.query] {
                let Targets::Values(values) = &items.targets else {
                    panic!("regression has values");
                };
                assert_eq!(values.len(), items.len());
                for (&x, &y) in items.inputs.iter().zip(values) {
                    assert!((-5.0..=5.0).contains(&x));
                    // Exact but for the rounding of y to f32: |y| ≤ 5, so half an ulp is 2.4e-7.
                    assert!((f64::from(y) - wave.at(f64::from(x))).abs() < 3e-7);
                }
            }
        }
    }

    #[test]
    fn noise_is_on_the_support_only() {
        let clean = SinusoidSettings::default().build().expect("valid");
        let noisy = SinusoidSettings {
            noise: 0.5,
            ..SinusoidSettings::default()
        };
        let noisy = noisy.build().expect("valid");
        let shape = EpisodeShape::new(1, 5, 5);
        let make = |source: &SinusoidSource| {
            source
                .episode(Seed(0), Split::Train, shape, 9)
                .expect("drawn")
        };
        let (clean, noisy) = (make(&clean), make(&noisy));
        assert_eq!(clean.query, noisy.query);
        assert_eq!(clean.support.inputs, noisy.support.inputs);
        assert_ne!(clean.support.targets, noisy.support.targets);
    }

    #[test]
    fn bad_settings_are_refused_by_name() {
        let bad = SinusoidSettings {
            phase_low: 4.0,
            ..SinusoidSettings::default()
        };
        let message = bad.build().expect_err("empty range").to_string();
        assert!(message.starts_with("`data.phase_low = 4`"), "{message}");
        let source = SinusoidSettings::default().build().expect("valid");
        let message = source
            .check(Split::Train, EpisodeShape::new(5, 1, 1))
            .expect_err("regression has no classes")
            .to_string();
        assert!(message.starts_with("`data.way = 5`"), "{message}");
    }
}
