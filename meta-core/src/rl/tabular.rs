//! Tabular Markov decision problems of Duan et al. (2016), "RL²: Fast Reinforcement Learning via Slow
//! Reinforcement Learning", section 3.2 and appendix, after Osband, Russo & Van Roy (2013).
//!
//! P(·|s, a) ~ Dirichlet(1, …, 1), mean rewards r(s, a) ~ N(1, 1), rewards N(r(s, a), 1). An episode starts in
//! state 0 and has 10 steps; a trial has n episodes of the same problem. Optimal policies are found by
//! dynamic programming over the horizon.
//!
//! # Differences from the paper
//! None known; the paper does not say which state an episode starts in but that it is the first.

use std::sync::Arc;

use meta_kernels::draws::{place, running_sums};
use serde_json::Value;

use super::distributions::flat_dirichlet;
use super::environment::{Environment, Family, FamilySettings};
use super::planning::{Plan, Tabular};
use super::policy::{MakePolicy, Policy, Transition, best_of};
use super::space::{Space, index};
use super::tabular_policies::{TABULAR_POLICIES, TabularPrior, tabular_policy};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::rng::Stream;
use crate::settings;
use crate::settings::Settings;

/// Transition probabilities of the largest problem.
const MOST_PROBABILITIES: usize = 1 << 22;
/// Action values of the largest plan.
const MOST_VALUES: usize = 1 << 24;

settings! {
    /// Settings of [`TabularFamily`].
    pub struct TabularSettings {
        /// States s. s²·a is at most 4 194 304.
        states: usize = 10, size(1);
        /// Actions a. s·a·horizon is at most 16 777 216.
        actions: usize = 5, size(1);
        /// Steps of an episode.
        horizon: usize = 10, size(1);
        /// Mean of the mean rewards; finite.
        reward_mean: f64 = 1.0;
        /// Standard deviation of the mean rewards.
        reward_deviation: f64 = 1.0, above(0.0);
        /// Standard deviation of a reward around its mean.
        noise: f64 = 1.0, above(0.0);
        /// Whether learned policies also read the state before: with the last action and its reward, what there is
        /// to remember is in one step. The tasks are the same.
        last_state: bool = false;
    }
}

impl FamilySettings for TabularSettings {
    const NAME: &'static str = "tabular_mdp";
    const SUMMARY: &'static str = "random Markov decision problems (Duan et al. 2016)";

    fn open(&self) -> Result<Arc<dyn Family>> {
        self.check_ranges("environment")?;
        let table = self.states * self.actions;
        if table.saturating_mul(self.states) > MOST_PROBABILITIES {
            let expected = format!(
                "states² × actions must be at most {MOST_PROBABILITIES}; actions are {}",
                self.actions
            );
            return Err(Error::setting("environment.states", self.states, expected));
        }
        if table.saturating_mul(self.horizon) > MOST_VALUES {
            let expected = format!(
                "states × actions × horizon must be at most {MOST_VALUES}; states × actions are {table}"
            );
            return Err(Error::setting(
                "environment.horizon",
                self.horizon,
                expected,
            ));
        }
        if !self.reward_mean.is_finite() {
            let (key, expected) = ("environment.reward_mean", "must be finite");
            return Err(Error::setting(key, self.reward_mean, expected));
        }
        Ok(Arc::new(TabularFamily(self.clone())))
    }
}

/// Random Markov decision problems.
#[derive(Clone, Debug)]
pub struct TabularFamily(TabularSettings);

/// A problem, ready to be stepped through.
pub struct TabularTask {
    problem: Tabular,
    /// `[s, a, s]`: sums of transition probabilities.
    sums: Vec<f64>,
}

impl TabularFamily {
    fn plan(&self, problem: &Tabular) -> Plan {
        let mut plan = Plan::new(self.0.states, self.0.actions, self.0.horizon);
        plan.solve(problem);
        plan
    }
}

/// Acts by the optimal values of each time of an episode.
struct OptimalPolicy {
    plan: Plan,
    states: usize,
    time: usize,
}

impl Policy for OptimalPolicy {
    fn begin(&mut self, _stream: Stream) {
        self.time = 0;
    }

    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let state = index(observation[0], self.states);
        let values = self.plan.action_values(self.time, state);
        action[0] = best_of(values.iter().copied(), None) as f32;
    }

    fn observe(&mut self, transition: &Transition<'_>) {
        self.time = if transition.done { 0 } else { self.time + 1 };
    }
}

impl Environment for TabularFamily {
    type Task = TabularTask;
    type State = usize;

    const NAME: &'static str = TabularSettings::NAME;
    const VERSION: &'static str = "tabular-mdp 1";

    fn settings(&self) -> Vec<(&'static str, Value)> {
        let of_tasks = self.0.entries().into_iter();
        of_tasks.filter(|(key, _)| *key != "last_state").collect()
    }

    fn tells_last_observation(&self) -> bool {
        self.0.last_state
    }

    fn observations(&self) -> Space {
        Space::Discrete(self.0.states)
    }

    fn actions(&self) -> Space {
        Space::Discrete(self.0.actions)
    }

    fn horizon(&self) -> usize {
        self.0.horizon
    }

    fn task_numbers(&self) -> usize {
        // The task, and a plan of a policy.
        self.0.states * self.0.actions * (2 * self.0.states + 1 + self.0.horizon)
    }

    fn draw(&self, _split: Split, stream: &mut Stream) -> TabularTask {
        let mut problem = Tabular::zeros(self.0.states, self.0.actions);
        flat_dirichlet(stream, self.0.states, &mut problem.transitions);
        for reward in &mut problem.rewards {
            *reward = self.0.reward_mean + self.0.reward_deviation * stream.normal();
        }
        let sums = running_sums(self.0.states, &problem.transitions);
        TabularTask { problem, sums }
    }

    fn start(&self, _task: &TabularTask, _noise: &mut Stream) -> usize {
        0
    }

    fn step(
        &self,
        task: &TabularTask,
        state: &mut usize,
        action: &[f32],
        noise: &mut Stream,
    ) -> (f64, bool) {
        let cell = *state * self.0.actions + index(action[0], self.0.actions);
        let reward = task.problem.rewards[cell] + self.0.noise * noise.normal();
        let drawn = noise.uniform();
        let sums = &task.sums[cell * self.0.states..][..self.0.states];
        // The last sum may be below 1 by rounding.
        *state = place(sums, drawn).min(self.0.states - 1);
        (reward, false)
    }

    fn observe(&self, _task: &TabularTask, state: &usize, observation: &mut [f32]) {
        observation[0] = *state as f32;
    }

    fn describe(&self, task: &TabularTask) -> Vec<f64> {
        let problem = &task.problem;
        [problem.rewards.as_slice(), &problem.transitions].concat()
    }

    fn best_return(&self, task: &TabularTask) -> Option<f64> {
        Some(self.plan(&task.problem).value(0))
    }

    fn oracle(&self, task: &TabularTask) -> Option<Box<dyn Policy>> {
        Some(Box::new(OptimalPolicy {
            plan: self.plan(&task.problem),
            states: self.0.states,
            time: 0,
        }))
    }

    fn policies(&self) -> &'static [&'static str] {
        TABULAR_POLICIES
    }

    fn policy(&self, name: &str, settings: &Value) -> Result<MakePolicy> {
        let own = &self.0;
        let prior = TabularPrior {
            states: own.states,
            actions: own.actions,
            horizon: own.horizon,
            reward_mean: own.reward_mean,
            reward_deviation: own.reward_deviation,
            noise: own.noise,
        };
        tabular_policy(name, settings, prior)
    }
}
