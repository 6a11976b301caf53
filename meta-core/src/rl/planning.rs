//! Dynamic programming over a finite horizon: optimal values and actions of tabular MDPs.

/// A tabular Markov decision problem with s states and a actions.
#[derive(Clone, Debug, PartialEq)]
pub struct Tabular {
    /// s.
    pub states: usize,
    /// a.
    pub actions: usize,
    /// `[s, a, s]`: the probability P(s'|s, a).
    pub transitions: Vec<f64>,
    /// `[s, a]`: the mean reward r(s, a).
    pub rewards: Vec<f64>,
}

impl Tabular {
    /// A problem of zeros, to be filled.
    pub fn zeros(states: usize, actions: usize) -> Self {
        Tabular {
            states,
            actions,
            transitions: vec![0.0; states * actions * states],
            rewards: vec![0.0; states * actions],
        }
    }

    /// P(·|s, a).
    pub fn transition(&self, state: usize, action: usize) -> &[f64] {
        let start = (state * self.actions + action) * self.states;
        &self.transitions[start..start + self.states]
    }

    /// P(·|s, a), to be written.
    pub fn transition_mut(&mut self, state: usize, action: usize) -> &mut [f64] {
        let start = (state * self.actions + action) * self.states;
        &mut self.transitions[start..start + self.states]
    }
}

/// Optimal action values of a finite horizon.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    states: usize,
    actions: usize,
    horizon: usize,
    /// `[horizon, s, a]`: Q at each time.
    pub values: Vec<f64>,
    /// `[s]`: the values of the time after the one in work, and a row for the next.
    ahead: Vec<f64>,
    here: Vec<f64>,
}

impl Plan {
    /// An empty plan, whose memory [`solve`](Self::solve) uses again and again.
    pub fn new(states: usize, actions: usize, horizon: usize) -> Self {
        Plan {
            states,
            actions,
            horizon,
            values: vec![0.0; horizon * states * actions],
            ahead: vec![0.0; states],
            here: vec![0.0; states],
        }
    }

    /// Exact value iteration (Bellman 1957): with V_H = 0, for t = H − 1, …, 0
    ///
    /// ```text
    /// Q_t(s, a) = r(s, a) + Σ_s' P(s'|s, a) V_{t+1}(s'),   V_t(s) = max_a Q_t(s, a).
    /// ```
    pub fn solve(&mut self, problem: &Tabular) {
        self.solve_with(|state, action, _, ahead| {
            let next = problem.transition(state, action);
            let future: f64 = next.iter().zip(ahead).map(|(p, v)| p * v).sum();
            problem.rewards[state * problem.actions + action] + future
        });
    }

    /// The same with `backup(s, a, t, V_{t+1})` as the right side of the first equation.
    pub fn solve_with(&mut self, mut backup: impl FnMut(usize, usize, usize, &[f64]) -> f64) {
        let (states, actions) = (self.states, self.actions);
        self.ahead.fill(0.0);
        for time in (0..self.horizon).rev() {
            let rows = &mut self.values[time * states * actions..][..states * actions];
            for (state, row) in rows.chunks_exact_mut(actions).enumerate() {
                for (action, value) in row.iter_mut().enumerate() {
                    *value = backup(state, action, time, &self.ahead);
                }
                self.here[state] = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            }
            std::mem::swap(&mut self.ahead, &mut self.here);
        }
    }

    /// Q_t(s, ·); of the last step for times beyond.
    pub fn action_values(&self, time: usize, state: usize) -> &[f64] {
        let time = time.min(self.horizon.saturating_sub(1));
        let start = (time * self.states + state) * self.actions;
        &self.values[start..start + self.actions]
    }

    /// V_0(s) = max_a Q_0(s, a).
    pub fn value(&self, state: usize) -> f64 {
        let values = self.action_values(0, state);
        values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rl::distributions::flat_dirichlet;
    use crate::rng::Seed;

    /// The value of a policy `[horizon, s]` of actions from state 0, by its own forward recursion over
    /// state distributions.
    fn value_of(problem: &Tabular, horizon: usize, policy: impl Fn(usize, usize) -> usize) -> f64 {
        let mut at = vec![0.0; problem.states];
        at[0] = 1.0;
        let mut total = 0.0;
        for time in 0..horizon {
            let mut next = vec![0.0; problem.states];
            for (state, &share) in at.iter().enumerate() {
                let action = policy(time, state);
                total += share * problem.rewards[state * problem.actions + action];
                for (to, p) in next.iter_mut().zip(problem.transition(state, action)) {
                    *to += share * p;
                }
            }
            at = next;
        }
        total
    }

    /// All 2^(3·3) deterministic policies of 3 states, 2 actions and 3 steps: the best is the value of the
    /// dynamic programme, to rounding (sums of some ten numbers of size 1).
    #[test]
    fn optimal_values_are_those_of_the_best_of_all_policies() {
        for seed in 0..20 {
            let mut stream = Seed(seed).stream("planning", 0, "test");
            let mut problem = Tabular::zeros(3, 2);
            for state in 0..3 {
                for action in 0..2 {
                    flat_dirichlet(&mut stream, 3, problem.transition_mut(state, action));
                    problem.rewards[state * 2 + action] = stream.normal();
                }
            }
            let best = (0..1u32 << 9)
                .map(|code| {
                    value_of(&problem, 3, |time, state| {
                        (code >> (3 * time + state) & 1) as usize
                    })
                })
                .fold(f64::NEG_INFINITY, f64::max);
            let mut plan = Plan::new(3, 2, 3);
            plan.solve(&problem);
            assert!((plan.value(0) - best).abs() < 1e-12);
            let own = value_of(&problem, 3, |time, state| {
                let values = plan.action_values(time, state);
                usize::from(values[1] > values[0])
            });
            assert!((own - best).abs() < 1e-12);
        }
    }
}
