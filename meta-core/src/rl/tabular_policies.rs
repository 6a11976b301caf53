//! Reference policies of tabular Markov decision problems: they plan by [`Plan`] at the start of each
//! episode, over the whole horizon, from what they have counted.
//!
//! Beliefs are those of the true prior: Dirichlet(1, …, 1) for transitions, normal for mean rewards with a
//! known noise.
//!
//! | Name | Plans with | Source |
//! |---|---|---|
//! | `greedy` | the mean of the belief | |
//! | `epsilon_greedy` | the same, but a random action with probability ε | |
//! | `psrl` | one problem drawn from the belief | Strens 2000; Osband, Russo & Van Roy 2013 |
//! | `opsrl` | the largest action values of several draws | Osband & Van Roy 2016 |
//! | `ucrl2` | the best problem within confidence sets around what was counted | Jaksch, Ortner & Auer 2010 |
//! | `beb` | the mean of the belief, and a bonus β / (1 + n) | Kolter & Ng 2009 |
//!
//! # Differences from the papers
//! UCRL2 plans over the finite horizon at the start of each episode, not when a count has doubled. Rewards are
//! not in \[0, 1\]: its radius of rewards is multiplied by their standard deviation. `opsrl` takes the
//! envelope of values over draws, as the authors' program does.

use serde_json::Value;

use super::bandit_policies::EpsilonGreedySettings;
use super::distributions::dirichlet;
use super::planning::{Plan, Tabular};
use super::policy::{
    MakePolicy, NoSettings, Policy, RandomPolicy, Transition, best_of, unknown_policy,
};
use super::space::{Space, index};
use crate::error::Result;
use crate::rng::Stream;
use crate::settings;
use crate::settings::Settings;

/// Their names.
pub const TABULAR_POLICIES: &[&str] = &[
    "random",
    "greedy",
    "epsilon_greedy",
    "psrl",
    "opsrl",
    "ucrl2",
    "beb",
];

settings! {
    /// Settings of `opsrl`.
    pub struct OpsrlSettings {
        /// Problems drawn from the belief for each plan.
        samples: usize = 10, between(1, 1000);
    }
}

settings! {
    /// Settings of `ucrl2`.
    pub struct Ucrl2Settings {
        /// Probability δ that the true problem is outside of the confidence sets.
        delta: f64 = 0.05, inside_unit();
        /// Factor of the radii; 1 is that of the paper.
        scale: f64 = 1.0, at_least(0.0);
    }
}

settings! {
    /// Settings of `beb`.
    pub struct BebSettings {
        /// The bonus's β is this times 2·horizon²; 1 is that of the paper's theorem.
        scale: f64 = 1.0, at_least(0.0);
    }
}

/// Sizes of a family of problems, and how their rewards are distributed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TabularPrior {
    /// States.
    pub states: usize,
    /// Actions.
    pub actions: usize,
    /// Steps of an episode.
    pub horizon: usize,
    /// Mean of the mean rewards.
    pub reward_mean: f64,
    /// Standard deviation of the mean rewards.
    pub reward_deviation: f64,
    /// Standard deviation of a reward around its mean.
    pub noise: f64,
}

/// What was counted.
struct Counts {
    prior: TabularPrior,
    /// `[s, a, s]`: concentrations of the belief, 1 before any step.
    concentrations: Vec<f64>,
    /// `[s, a]`: rewards in all.
    rewards: Vec<f64>,
    /// `[s, a]`: visits.
    visits: Vec<f64>,
}

impl Counts {
    fn new(prior: TabularPrior) -> Self {
        let cells = prior.states * prior.actions;
        Counts {
            prior,
            concentrations: vec![1.0; cells * prior.states],
            rewards: vec![0.0; cells],
            visits: vec![0.0; cells],
        }
    }

    fn clear(&mut self) {
        self.concentrations.fill(1.0);
        self.rewards.fill(0.0);
        self.visits.fill(0.0);
    }

    fn of(&self, cell: usize) -> &[f64] {
        &self.concentrations[cell * self.prior.states..][..self.prior.states]
    }

    /// Mean and standard deviation of the belief about a cell's mean reward.
    fn reward(&self, cell: usize) -> (f64, f64) {
        let prior = &self.prior;
        let (before, each) = (prior.reward_deviation.powi(-2), prior.noise.powi(-2));
        let precision = before + each * self.visits[cell];
        let centre = (before * prior.reward_mean + each * self.rewards[cell]) / precision;
        (centre, precision.sqrt().recip())
    }

    /// Writes the mean of the belief.
    fn mean(&self, to: &mut Tabular) {
        let rows = to.transitions.chunks_exact_mut(self.prior.states);
        for (cell, (row, reward)) in rows.zip(&mut to.rewards).enumerate() {
            let total = self.visits[cell] + self.prior.states as f64;
            for (p, concentration) in row.iter_mut().zip(self.of(cell)) {
                *p = concentration / total;
            }
            *reward = self.reward(cell).0;
        }
    }

    /// Writes a problem drawn from the belief.
    fn sample(&self, to: &mut Tabular, stream: &mut Stream) {
        let rows = to.transitions.chunks_exact_mut(self.prior.states);
        for (cell, (row, reward)) in rows.zip(&mut to.rewards).enumerate() {
            dirichlet(stream, self.of(cell), row);
            let (centre, spread) = self.reward(cell);
            *reward = centre + spread * stream.normal();
        }
    }

    /// Writes the frequencies of what was seen: uniform and 0 where nothing was.
    fn frequencies(&self, to: &mut Tabular) {
        let states = self.prior.states;
        let rows = to.transitions.chunks_exact_mut(states);
        for (cell, (row, reward)) in rows.zip(&mut to.rewards).enumerate() {
            let visits = self.visits[cell];
            for (p, concentration) in row.iter_mut().zip(self.of(cell)) {
                *p = if visits > 0.0 {
                    (concentration - 1.0) / visits
                } else {
                    1.0 / states as f64
                };
            }
            *reward = self.rewards[cell] / visits.max(1.0);
        }
    }
}

/// How a plan is made.
#[derive(Clone, Copy)]
enum Rule {
    EpsilonGreedy(f64),
    Psrl,
    Opsrl(usize),
    Ucrl2 { delta: f64, scale: f64 },
    Beb(f64),
}

struct TabularPolicy {
    rule: Rule,
    counts: Counts,
    problem: Tabular,
    plan: Plan,
    /// Steps of this episode; a plan is made at 0.
    time: usize,
    /// Steps of this trial.
    steps: usize,
    stream: Option<Stream>,
}

impl TabularPolicy {
    fn new(rule: Rule, prior: TabularPrior) -> Self {
        TabularPolicy {
            rule,
            counts: Counts::new(prior),
            problem: Tabular::zeros(prior.states, prior.actions),
            plan: Plan::new(prior.states, prior.actions, prior.horizon),
            time: 0,
            steps: 0,
            stream: None,
        }
    }

    fn make_plan(&mut self) {
        let TabularPolicy {
            counts,
            problem,
            plan,
            ..
        } = self;
        let Some(stream) = &mut self.stream else {
            return;
        };
        match self.rule {
            Rule::EpsilonGreedy(_) => {
                counts.mean(problem);
                plan.solve(problem);
            }
            Rule::Psrl => {
                counts.sample(problem, stream);
                plan.solve(problem);
            }
            Rule::Opsrl(samples) => {
                counts.sample(problem, stream);
                plan.solve(problem);
                for _ in 1..samples {
                    let largest = plan.values.clone();
                    counts.sample(problem, stream);
                    plan.solve(problem);
                    for (value, other) in plan.values.iter_mut().zip(largest) {
                        *value = value.max(other);
                    }
                }
            }
            Rule::Beb(bonus) => {
                counts.mean(problem);
                let states = counts.prior.states as f64;
                for (reward, visits) in problem.rewards.iter_mut().zip(&counts.visits) {
                    *reward += bonus / (1.0 + states + visits);
                }
                plan.solve(problem);
            }
            Rule::Ucrl2 { delta, scale } => {
                counts.frequencies(problem);
                let steps = (self.steps + 1) as f64;
                optimistic_plan(plan, problem, counts, (delta, scale), steps);
            }
        }
    }
}

/// Extended value iteration (Jaksch, Ortner & Auer 2010, figures 1 and 2): the best rewards and transitions
/// within
///
/// ```text
/// |r − r̂| ≤ σ √(7 ln(2 s a t / δ) / (2 max(1, n))),   ‖p − p̂‖₁ ≤ √(14 s ln(2 a t / δ) / max(1, n)).
/// ```
fn optimistic_plan(
    plan: &mut Plan,
    problem: &Tabular,
    counts: &Counts,
    (delta, scale): (f64, f64),
    steps: f64,
) {
    let (states, actions) = (problem.states, problem.actions);
    let log_rewards = (2.0 * (states * actions) as f64 * steps / delta).ln();
    let log_transitions = (2.0 * actions as f64 * steps / delta).ln();
    let mut order: Vec<usize> = (0..states).collect();
    let mut sorted_at = usize::MAX;
    plan.solve_with(|state, action, time, ahead| {
        if sorted_at != time {
            order.sort_by(|&a, &b| ahead[a].total_cmp(&ahead[b]));
            sorted_at = time;
        }
        let cell = state * actions + action;
        let visits = counts.visits[cell].max(1.0);
        let reward_radius = counts.prior.noise * (3.5 * log_rewards / visits).sqrt();
        let radius = scale * (14.0 * states as f64 * log_transitions / visits).sqrt();
        let future = best_expectation(problem.transition(state, action), ahead, &order, radius);
        problem.rewards[cell] + scale * reward_radius + future
    });
}

/// The largest Σ p v over distributions p within an L1 distance of `radius`: mass of half of it moves from
/// the worst states to the best. `order` sorts the states by `values`.
fn best_expectation(estimate: &[f64], values: &[f64], order: &[usize], radius: f64) -> f64 {
    let mean: f64 = estimate.iter().zip(values).map(|(p, v)| p * v).sum();
    let Some((&best, others)) = order.split_last() else {
        return mean;
    };
    let mut moved = (0.5 * radius).min(1.0 - estimate[best]).max(0.0);
    let mut total = mean + moved * values[best];
    for &worst in others {
        let taken = moved.min(estimate[worst]);
        total -= taken * values[worst];
        moved -= taken;
    }
    total
}

impl Policy for TabularPolicy {
    fn begin(&mut self, stream: Stream) {
        self.counts.clear();
        (self.time, self.steps) = (0, 0);
        self.stream = Some(stream);
    }

    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        if self.time == 0 {
            self.make_plan();
        }
        let Some(stream) = &mut self.stream else {
            return;
        };
        let prior = &self.counts.prior;
        if let Rule::EpsilonGreedy(epsilon) = self.rule
            && epsilon > 0.0
            && stream.uniform() < epsilon
        {
            action[0] = stream.below(prior.actions) as f32;
            return;
        }
        let state = index(observation[0], prior.states);
        let values = self.plan.action_values(self.time, state);
        action[0] = best_of(values.iter().copied(), Some(stream)) as f32;
    }

    fn observe(&mut self, transition: &Transition<'_>) {
        let TabularPrior {
            states, actions, ..
        } = self.counts.prior;
        let state = index(transition.observation[0], states);
        let cell = state * actions + index(transition.action[0], actions);
        let next = index(transition.next[0], states);
        self.counts.concentrations[cell * states + next] += 1.0;
        self.counts.rewards[cell] += f64::from(transition.reward);
        self.counts.visits[cell] += 1.0;
        self.steps += 1;
        self.time = if transition.done { 0 } else { self.time + 1 };
    }
}

/// Makes a reference policy.
///
/// # Errors
/// [`Error::Unknown`](crate::Error::Unknown) for another name or key,
/// [`Error::Setting`](crate::Error::Setting) for a value that cannot be used.
pub fn tabular_policy(name: &str, settings: &Value, prior: TabularPrior) -> Result<MakePolicy> {
    const SECTION: &str = "policy";
    let rule = match name {
        "random" => {
            NoSettings::from_value(SECTION, settings)?;
            let space = Space::Discrete(prior.actions);
            return Ok(Box::new(move || Box::new(RandomPolicy::new(&space))));
        }
        "greedy" => {
            NoSettings::from_value(SECTION, settings)?;
            Rule::EpsilonGreedy(0.0)
        }
        "epsilon_greedy" => {
            Rule::EpsilonGreedy(EpsilonGreedySettings::from_value(SECTION, settings)?.epsilon)
        }
        "psrl" => {
            NoSettings::from_value(SECTION, settings)?;
            Rule::Psrl
        }
        "opsrl" => Rule::Opsrl(OpsrlSettings::from_value(SECTION, settings)?.samples),
        "ucrl2" => {
            let Ucrl2Settings { delta, scale } = Ucrl2Settings::from_value(SECTION, settings)?;
            Rule::Ucrl2 { delta, scale }
        }
        "beb" => {
            let scale = BebSettings::from_value(SECTION, settings)?.scale;
            Rule::Beb(scale * 2.0 * (prior.horizon as f64).powi(2))
        }
        _ => return Err(unknown_policy(name, TABULAR_POLICIES)),
    };
    Ok(Box::new(move || Box::new(TabularPolicy::new(rule, prior))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rl::distributions::flat_dirichlet;
    use crate::rng::Seed;

    /// The linear programme over the L1 ball, by trying many points of the ball: none exceeds the closed
    /// form, and the best of them comes near.
    #[test]
    fn the_best_expectation_is_the_largest_in_the_ball() {
        let mut stream = Seed(5).stream("ball", 0, "test");
        for _ in 0..20 {
            let (mut estimate, mut other) = ([0.0; 3], [0.0; 3]);
            flat_dirichlet(&mut stream, 3, &mut estimate);
            let values = [stream.normal(), stream.normal(), stream.normal()];
            let mut order = [0, 1, 2];
            order.sort_by(|&a, &b| f64::total_cmp(&values[a], &values[b]));
            let radius = stream.uniform_in(0.0, 2.0);
            let own = best_expectation(&estimate, &values, &order, radius);
            let mut largest = f64::NEG_INFINITY;
            for _ in 0..20_000 {
                flat_dirichlet(&mut stream, 3, &mut other);
                // Drawn points outside are pulled to the ball's edge.
                let distance: f64 = estimate
                    .iter()
                    .zip(&other)
                    .map(|(a, b)| (a - b).abs())
                    .sum();
                let share = (radius / distance).min(1.0);
                let point = estimate.iter().zip(&other).zip(&values);
                let value: f64 = point.map(|((a, b), v)| v * (a + share * (b - a))).sum();
                largest = largest.max(value);
            }
            assert!(largest <= own + 1e-12, "{largest} {own}");
            assert!(largest > own - 0.05, "{largest} {own}");
        }
    }

    /// After many visits every belief is the truth: the mean, a draw and the frequencies agree to five of
    /// their standard deviations, 5 · √(0.25 / 10⁶) = 2.5e-3.
    #[test]
    fn beliefs_come_to_the_truth() {
        let prior = TabularPrior {
            states: 2,
            actions: 1,
            horizon: 3,
            reward_mean: 1.0,
            reward_deviation: 1.0,
            noise: 1.0,
        };
        let mut counts = Counts::new(prior);
        counts.visits = vec![1e6; 2];
        counts.rewards = vec![0.25e6, -1e6];
        counts.concentrations = vec![1.0 + 0.3e6, 1.0 + 0.7e6, 1.0 + 1e6, 1.0];
        let mut stream = Seed(6).stream("beliefs", 0, "test");
        let mut problem = Tabular::zeros(2, 1);
        for kind in 0..3 {
            match kind {
                0 => counts.mean(&mut problem),
                1 => counts.sample(&mut problem, &mut stream),
                _ => counts.frequencies(&mut problem),
            }
            let expected = [0.3, 0.7, 1.0, 0.0];
            for (p, truth) in problem.transitions.iter().zip(expected) {
                assert!((p - truth).abs() < 2.5e-3, "{kind}: {p} {truth}");
            }
            assert!((problem.rewards[0] - 0.25).abs() < 5e-3);
            assert!((problem.rewards[1] + 1.0).abs() < 5e-3);
        }
    }
}
