//! Bandits: k arms with means of their own; one step is one pull.
//!
//! - `bernoulli_bandit`: means p ~ U\[0, 1\], rewards 0 or 1 (Duan et al. 2016, "RL²: Fast Reinforcement
//!   Learning via Slow Reinforcement Learning", section 3.1).
//! - `gaussian_bandit`: means μ ~ U\[low, high\], rewards N(μ, σ²) (Lee et al. 2023, "Supervised Pretraining
//!   Can Learn In-Context Reinforcement Learning", section 5).
//!
//! An episode is the whole of n pulls. The best policy pulls the arm of the largest mean: its expected return
//! is n · max μ.
//!
//! # Differences from the papers
//! Duan et al. call one pull an episode, and n pulls a trial.

use std::sync::Arc;

use serde_json::Value;

use super::bandit_policies::{BANDIT_POLICIES, Prior, bandit_policy};
use super::environment::{Environment, Family, FamilySettings};
use super::policy::{MakePolicy, Policy, best_of};
use super::space::{Space, index};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::rng::Stream;
use crate::settings;
use crate::settings::Settings;

settings! {
    /// Settings of [`BernoulliBandit`].
    pub struct BernoulliBanditSettings {
        /// Arms k.
        arms: usize = 5, size(1);
        /// Pulls n of an episode.
        pulls: usize = 10, size(1);
    }
}

settings! {
    /// Settings of [`GaussianBandit`].
    pub struct GaussianBanditSettings {
        /// Arms k.
        arms: usize = 5, size(1);
        /// Pulls n of an episode.
        pulls: usize = 500, size(1);
        /// Smallest mean. Finite, below `mean_high`.
        mean_low: f64 = 0.0;
        /// Largest mean. Finite.
        mean_high: f64 = 1.0;
        /// Standard deviation σ of a reward around its mean.
        noise: f64 = 0.3, above(0.0);
    }
}

impl FamilySettings for BernoulliBanditSettings {
    const NAME: &'static str = "bernoulli_bandit";
    const SUMMARY: &'static str = "arms that pay 0 or 1 (Duan et al. 2016)";

    fn open(&self) -> Result<Arc<dyn Family>> {
        self.check_ranges("environment")?;
        Ok(Arc::new(BernoulliBandit(self.clone())))
    }
}

impl FamilySettings for GaussianBanditSettings {
    const NAME: &'static str = "gaussian_bandit";
    const SUMMARY: &'static str = "arms with normal rewards (Lee et al. 2023)";

    fn open(&self) -> Result<Arc<dyn Family>> {
        self.check_ranges("environment")?;
        let (low, high) = (self.mean_low, self.mean_high);
        if !(low.is_finite() && high.is_finite() && low < high) {
            let expected = format!(
                "must be finite and below `environment.mean_high`, which must be finite and is {high}"
            );
            return Err(Error::setting("environment.mean_low", low, expected));
        }
        Ok(Arc::new(GaussianBandit(self.clone())))
    }
}

/// Arms that pay 0 or 1.
#[derive(Clone, Debug)]
pub struct BernoulliBandit(BernoulliBanditSettings);

/// Arms with normal rewards.
#[derive(Clone, Debug)]
pub struct GaussianBandit(GaussianBanditSettings);

/// Pulls the best arm.
struct BestArm(usize);

impl Policy for BestArm {
    fn begin(&mut self, _stream: Stream) {}

    fn act(&mut self, _observation: &[f32], action: &mut [f32]) {
        action[0] = self.0 as f32;
    }
}

/// What both kinds of bandits share: everything but how arms are drawn and pay.
macro_rules! bandit {
    ($family:ident, $settings:ident, $version:literal, $draw:expr, $pay:expr, $prior:expr) => {
        impl Environment for $family {
            type Task = Vec<f64>;
            type State = ();

            const NAME: &'static str = $settings::NAME;
            const VERSION: &'static str = $version;

            fn settings(&self) -> Vec<(&'static str, Value)> {
                self.0.entries()
            }

            fn observations(&self) -> Space {
                Space::Discrete(1)
            }

            fn actions(&self) -> Space {
                Space::Discrete(self.0.arms)
            }

            fn horizon(&self) -> usize {
                self.0.pulls
            }

            fn task_numbers(&self) -> usize {
                self.0.arms
            }

            fn draw(&self, _split: Split, stream: &mut Stream) -> Vec<f64> {
                let draw: fn(&$settings, &mut Stream) -> f64 = $draw;
                (0..self.0.arms).map(|_| draw(&self.0, stream)).collect()
            }

            fn start(&self, _task: &Vec<f64>, _noise: &mut Stream) {}

            fn step(
                &self,
                task: &Vec<f64>,
                _state: &mut (),
                action: &[f32],
                noise: &mut Stream,
            ) -> (f64, bool) {
                let pay: fn(&$settings, f64, &mut Stream) -> f64 = $pay;
                let mean = task[index(action[0], task.len())];
                (pay(&self.0, mean, noise), false)
            }

            fn observe(&self, _task: &Vec<f64>, _state: &(), observation: &mut [f32]) {
                observation[0] = 0.0;
            }

            fn describe(&self, task: &Vec<f64>) -> Vec<f64> {
                task.clone()
            }

            fn best_return(&self, task: &Vec<f64>) -> Option<f64> {
                let best = task.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                Some(self.0.pulls as f64 * best)
            }

            fn oracle(&self, task: &Vec<f64>) -> Option<Box<dyn Policy>> {
                Some(Box::new(BestArm(best_of(task.iter().copied(), None))))
            }

            fn policies(&self) -> &'static [&'static str] {
                BANDIT_POLICIES
            }

            fn policy(&self, name: &str, settings: &Value) -> Result<MakePolicy> {
                let prior: fn(&$settings) -> Prior = $prior;
                bandit_policy(name, settings, prior(&self.0), self.0.arms, self.0.pulls)
            }
        }
    };
}

bandit!(
    BernoulliBandit,
    BernoulliBanditSettings,
    "bernoulli-bandit 1",
    |_, stream| stream.uniform(),
    |_, mean, noise| f64::from(u8::from(noise.uniform() < mean)),
    |_| Prior::Beta
);

bandit!(
    GaussianBandit,
    GaussianBanditSettings,
    "gaussian-bandit 1",
    |settings, stream| stream.uniform_in(settings.mean_low, settings.mean_high),
    |settings, mean, noise| mean + settings.noise * noise.normal(),
    // Mean and deviation of U[low, high], as Lee et al. give them to Thompson sampling.
    |settings| Prior::Normal {
        mean: 0.5 * (settings.mean_low + settings.mean_high),
        deviation: (settings.mean_high - settings.mean_low) / 12.0f64.sqrt(),
        noise: settings.noise,
    }
);
