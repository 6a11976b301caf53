//! Navigation of a point in the plane: Finn, Abbeel & Levine (2017), "Model-Agnostic Meta-Learning for Fast
//! Adaptation of Deep Networks", section 5.3.
//!
//! The point starts at 0 and sees its own place. A task is a goal g ~ U\[−0.5, 0.5\]². An action is a
//! displacement, each coordinate in \[−0.1, 0.1\]. The reward is minus the squared distance to the goal after
//! it; an episode ends within 0.01 of the goal, or after 100 steps.
//!
//! Every coordinate is best moved to its goal as fast as it goes: each term of each reward is then as large
//! as it can be, and the end is reached as early as it can be. With e the step of the end, and
//! T_i = min(⌊|g_i| / 0.1⌋, e),
//!
//! ```text
//! best return = −Σ_i Σ_{t=1}^{T_i} (|g_i| − 0.1 t)²
//!             = −Σ_i (T_i g_i² − 0.1 |g_i| T_i (T_i + 1) + 0.01 T_i (T_i + 1)(2 T_i + 1) / 6).
//! ```
//!
//! # Differences from the paper
//! None with `reward = "squared"`. The authors' program takes the distance itself: `reward = "distance"`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::environment::{Environment, Family, FamilySettings};
use super::policy::{MakePolicy, Policy, random_policy};
use super::space::{Space, clip};
use crate::data::Split;
use crate::error::Result;
use crate::rng::Stream;
use crate::settings;
use crate::settings::Settings;

/// Largest displacement of a coordinate.
const SPEED: f64 = 0.1;
/// Goals are within this distance of 0 along each coordinate.
const FARTHEST: f64 = 0.5;
/// An episode ends this near to the goal.
const NEAR: f64 = 0.01;

/// What a step costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NavigationReward {
    /// Minus the squared distance to the goal.
    Squared,
    /// Minus the distance to the goal.
    Distance,
}

settings! {
    /// Settings of [`Navigation`].
    pub struct NavigationSettings {
        /// Steps of an episode at most.
        horizon: usize = 100, size(1);
        /// `squared` or `distance`: minus which a reward is.
        reward: NavigationReward = NavigationReward::Squared;
    }
}

impl FamilySettings for NavigationSettings {
    const NAME: &'static str = "navigation";
    const SUMMARY: &'static str = "a point that goes to a goal in the plane (Finn et al. 2017)";

    fn open(&self) -> Result<Arc<dyn Family>> {
        self.check_ranges("environment")?;
        Ok(Arc::new(Navigation(self.clone())))
    }
}

/// A point that goes to a goal in the plane.
#[derive(Clone, Debug)]
pub struct Navigation(NavigationSettings);

impl Navigation {
    fn reward(&self, goal: &[f64; 2], point: &[f64; 2]) -> (f64, bool) {
        let squared = (goal[0] - point[0]).powi(2) + (goal[1] - point[1]).powi(2);
        let reward = match self.0.reward {
            NavigationReward::Squared => -squared,
            NavigationReward::Distance => -squared.sqrt(),
        };
        (reward, squared < NEAR * NEAR)
    }
}

/// Moves each coordinate to its goal as fast as it goes.
struct ToTheGoal([f64; 2]);

impl Policy for ToTheGoal {
    fn begin(&mut self, _stream: Stream) {}

    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        for ((to, at), goal) in action.iter_mut().zip(observation).zip(self.0) {
            *to = clip(goal as f32 - at, -SPEED as f32, SPEED as f32);
        }
    }
}

impl Environment for Navigation {
    type Task = [f64; 2];
    type State = [f64; 2];

    const NAME: &'static str = NavigationSettings::NAME;
    const VERSION: &'static str = "navigation 1";

    fn settings(&self) -> Vec<(&'static str, Value)> {
        self.0.entries()
    }

    fn observations(&self) -> Space {
        Space::cube(2, f32::NEG_INFINITY, f32::INFINITY)
    }

    fn actions(&self) -> Space {
        Space::cube(2, -SPEED as f32, SPEED as f32)
    }

    fn horizon(&self) -> usize {
        self.0.horizon
    }

    fn task_numbers(&self) -> usize {
        2
    }

    fn draw(&self, _split: Split, stream: &mut Stream) -> [f64; 2] {
        [(); 2].map(|()| stream.uniform_in(-FARTHEST, FARTHEST))
    }

    fn start(&self, _task: &[f64; 2], _noise: &mut Stream) -> [f64; 2] {
        [0.0; 2]
    }

    #[expect(
        clippy::manual_clamp,
        reason = "what is no number becomes a bound, which `clamp` keeps"
    )]
    fn step(
        &self,
        goal: &[f64; 2],
        point: &mut [f64; 2],
        action: &[f32],
        _noise: &mut Stream,
    ) -> (f64, bool) {
        for (at, &by) in point.iter_mut().zip(action) {
            *at += f64::from(by).max(-SPEED).min(SPEED);
        }
        self.reward(goal, point)
    }

    fn observe(&self, _goal: &[f64; 2], point: &[f64; 2], observation: &mut [f32]) {
        observation[0] = point[0] as f32;
        observation[1] = point[1] as f32;
    }

    fn describe(&self, goal: &[f64; 2]) -> Vec<f64> {
        goal.to_vec()
    }

    fn best_return(&self, goal: &[f64; 2]) -> Option<f64> {
        let left =
            |time: usize| goal.map(|coordinate| (coordinate.abs() - SPEED * time as f64).max(0.0));
        let gap = |time: usize| left(time)[0].hypot(left(time)[1]);
        let steps = 1..=self.0.horizon;
        let end = steps.clone().find(|&time| gap(time) < NEAR);
        let end = end.unwrap_or(self.0.horizon);
        if self.0.reward == NavigationReward::Distance {
            return Some(-steps.take(end).map(gap).sum::<f64>());
        }
        let cost = goal.map(|coordinate| {
            let far = coordinate.abs();
            let t = (far / SPEED).floor().min(end as f64);
            let squares = t * (t + 1.0) * (2.0 * t + 1.0) / 6.0;
            t * far * far - SPEED * far * t * (t + 1.0) + SPEED * SPEED * squares
        });
        Some(-(cost[0] + cost[1]))
    }

    fn oracle(&self, goal: &[f64; 2]) -> Option<Box<dyn Policy>> {
        Some(Box::new(ToTheGoal(*goal)))
    }

    fn policy(&self, name: &str, settings: &Value) -> Result<MakePolicy> {
        random_policy(
            Environment::actions(self),
            name,
            settings,
            Environment::policies(self),
        )
    }
}
