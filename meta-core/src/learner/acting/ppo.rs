//! Proximal policy optimisation (Schulman, Wolski, Dhariwal, Radford and Klimov, *Proximal policy optimization
//! algorithms*, 2017).
//!
//! With `ρ_t = π(a_t | m_t) / π_old(a_t | m_t)`, advantages `Â_t` of the trial ([`advantages`]) and their
//! returns `R̂_t = Â_t + V_old`:
//!
//! ```text
//! L = mean over steps of −min(ρ_t Â_t, clip(ρ_t, 1 − ε, 1 + ε) Â_t)      (eq. 7)
//!     + c_v ½ ((V_t − R̂_t) / s)² − c_h H(π(· | m_t))                      (eq. 9)
//! ```
//!
//! # Differences from the paper
//! * Advantages go on over the ends of episodes up to the end of a trial, as a policy that remembers earns
//!   later what it learns now (Duan et al. 2016, section 2.2).
//! * Advantages are centred and divided by their deviation over all steps of an iteration, as the authors'
//!   program does.
//! * The error of the value is divided by the scale `s` of the value head.

use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax, backend::AutodiffBackend};

use crate::{
    data::Actions,
    primitives::Primitives,
    rl::{Trial, advantages},
    settings,
    stats::mean,
};

settings! {
    /// Settings of proximal policy optimisation.
    pub struct PpoSettings {
        /// Discount γ of later rewards.
        discount: f64 = 0.99, fraction();
        /// λ of generalised advantages: 0 trusts the value, 1 the rewards alone.
        gae_lambda: f64 = 0.95, between(0.0, 1.0);
        /// ε: how far the probability of an action may move before an update gains nothing.
        clip: f64 = 0.2, above(0.0);
        /// Passes over the trials of an iteration.
        epochs: usize = 4, size(1);
        /// Parts of a pass, with an update after each. Of the tasks; at most as many as there are.
        minibatches: usize = 4, size(1);
        /// Weight c_v of the value's error.
        value_weight: f64 = 0.5, at_least(0.0);
        /// Weight c_h of the entropy.
        entropy_weight: f64 = 0.01, at_least(0.0);
    }
}

/// The largest sum of discounts of a trial of `steps` steps: the scale of its values, were every reward 1.
pub fn value_scale(discount: f64, steps: usize) -> f64 {
    if discount >= 1.0 {
        return steps.max(1) as f64;
    }
    let steps = i32::try_from(steps).unwrap_or(i32::MAX);
    (1.0 - discount.powi(steps)) / (1.0 - discount)
}

/// A trial with what its steps are weighed by.
#[derive(Clone, Debug)]
pub struct Weighed {
    /// The trial.
    pub trial: Trial,
    /// Â, centred and scaled.
    pub advantages: Vec<f64>,
    /// R̂.
    pub returns: Vec<f64>,
}

impl Weighed {
    /// A trial whose steps all count alike.
    pub fn alike(trial: Trial) -> Self {
        Weighed {
            advantages: vec![0.0; trial.len()],
            returns: vec![0.0; trial.len()],
            trial,
        }
    }

    /// A trial with its generalised advantages, neither centred nor scaled, and the returns that they make of its values.
    pub(super) fn of(trial: Trial, ends: &[bool], discount: f64, lambda: f64) -> Self {
        let mut values = trial.values.clone();
        values.push(0.0);
        let advantages = advantages(&trial.rewards, &values, ends, discount, lambda);
        let returns = advantages.iter().zip(&trial.values);
        Weighed {
            returns: returns
                .map(|(advantage, value)| advantage + value)
                .collect(),
            advantages,
            trial,
        }
    }
}

/// Advantages and returns of the trials of an iteration.
pub fn weigh(trials: Vec<Trial>, discount: f64, lambda: f64) -> Vec<Weighed> {
    let weighed = trials.into_iter().map(|trial| {
        let mut ends = vec![false; trial.len()];
        if let Some(last) = ends.last_mut() {
            *last = true;
        }
        Weighed::of(trial, &ends, discount, lambda)
    });
    let mut all: Vec<Weighed> = weighed.collect();
    standardize(&mut all);
    all
}

/// Centres the advantages of all trials and divides them by their deviation.
pub(super) fn standardize(all: &mut [Weighed]) {
    let every = all.iter().flat_map(|weighed| &weighed.advantages);
    let every: Vec<f64> = every.copied().collect();
    let centre = mean(&every);
    let squares: Vec<f64> = every.iter().map(|a| (a - centre) * (a - centre)).collect();
    let deviation = mean(&squares).sqrt();
    for weighed in all {
        for advantage in &mut weighed.advantages {
            *advantage = (*advantage - centre) / (deviation + 1e-8);
        }
    }
}

/// What a policy says of actions: scores of discrete ones, or means and logarithms of deviations.
#[derive(Clone, Debug)]
pub enum Distribution<B: Primitives> {
    /// Scores, `[t, b, n]`.
    Categorical(Tensor<B, 3>),
    /// Means `[t, b, w]`, and logarithms of deviations `[1, 1, w]`.
    Normal(Tensor<B, 3>, Tensor<B, 3>),
}

impl<B: Primitives> Distribution<B> {
    /// The same numbers on the level above, where nothing is differentiated with respect to them.
    pub fn lift_constant<A>(self) -> Distribution<A>
    where
        A: Primitives + AutodiffBackend<InnerBackend = B>,
    {
        match self {
            Distribution::Categorical(scores) => {
                Distribution::Categorical(Tensor::from_inner(scores))
            }
            Distribution::Normal(means, logs) => {
                Distribution::Normal(Tensor::from_inner(means), Tensor::from_inner(logs))
            }
        }
    }

    /// The logarithms of the probabilities (densities) of `actions`, `[t, b, width]`, and the entropy: `[t, b,
    /// 1]` each.
    pub fn of_actions(self, actions: Tensor<B, 3>) -> [Tensor<B, 3>; 2] {
        match self {
            Distribution::Categorical(scores) => {
                let logs = log_softmax(scores, 2);
                let entropy = -(logs.clone().exp() * logs.clone()).sum_dim(2);
                let chosen: Tensor<B, 3, Int> = actions.int();
                [logs.gather(2, chosen), entropy]
            }
            Distribution::Normal(means, log_deviations) => {
                let [t, b, w] = means.dims();
                let half_log = 0.5 * (2.0 * std::f64::consts::PI).ln();
                let log_deviations = log_deviations.expand([t, b, w]);
                let z = (actions - means) * (-log_deviations.clone()).exp();
                let logs = -(z.clone() * z).mul_scalar(0.5) - log_deviations.clone();
                [
                    logs.add_scalar(-half_log).sum_dim(2),
                    log_deviations.add_scalar(half_log + 0.5).sum_dim(2),
                ]
            }
        }
    }

    /// `KL(self ‖ other)`, `[t, b, 1]`.
    pub fn divergence(self, other: Self) -> Tensor<B, 3> {
        match (self, other) {
            (Distribution::Categorical(from), Distribution::Categorical(to)) => {
                let (from, to) = (log_softmax(from, 2), log_softmax(to, 2));
                (from.clone().exp() * (from - to)).sum_dim(2)
            }
            (Distribution::Normal(mean, log), Distribution::Normal(other_mean, other_log)) => {
                let shape = mean.dims();
                let (log, other_log) = (log.expand(shape), other_log.expand(shape));
                let distance = mean - other_mean;
                let squares = log.clone().mul_scalar(2.0).exp() + distance.clone() * distance;
                let scaled = squares * other_log.clone().mul_scalar(-2.0).exp();
                (other_log - log + scaled.mul_scalar(0.5).add_scalar(-0.5)).sum_dim(2)
            }
            _ => panic!("divergence: both of one kind"),
        }
    }
}

/// Trials of `t` tasks, `b` of each, as tensors: steps after the end of a trial weigh nothing.
pub struct TrialBatch<B: Primitives> {
    /// `[t, b·l, f]`.
    pub inputs: Tensor<B, 3>,
    /// Steps `l` of the longest trial.
    pub length: usize,
    /// `[t, b·l, width]`.
    pub actions: Tensor<B, 3>,
    /// Logarithms of the probabilities that the actions had, `[t, b·l, 1]`.
    pub before: Tensor<B, 3>,
    /// `Â`, `[t, b·l, 1]`.
    pub advantages: Tensor<B, 3>,
    /// `R̂`, `[t, b·l, 1]`.
    pub returns: Tensor<B, 3>,
    /// 1 over the steps of the task, 0 after the end of a trial, `[t, b·l, 1]`.
    pub weights: Tensor<B, 3>,
    /// Mean over a task's trials of their total reward, `[t]`.
    pub scores: Tensor<B, 1>,
}

impl<B: Primitives> TrialBatch<B> {
    /// The trials of `tasks` among `all`, which are ordered by task.
    ///
    /// # Panics
    /// When a task has no trial there, or another number of them than the first.
    pub fn of(all: &[Weighed], tasks: &[u64], actions: Actions, device: &B::Device) -> Self {
        let of_task = |task: u64| {
            let first = all.partition_point(|weighed| weighed.trial.task < task);
            let last = all.partition_point(|weighed| weighed.trial.task <= task);
            &all[first..last]
        };
        let rows: Vec<&[Weighed]> = tasks.iter().map(|&task| of_task(task)).collect();
        let (t, b) = (rows.len(), rows.first().map_or(0, |first| first.len()));
        assert!(
            b > 0 && rows.iter().all(|row| row.len() == b),
            "trials of every task of a batch, as many of each"
        );
        let trials = || rows.iter().copied().flatten();
        let length = trials()
            .map(|weighed| weighed.trial.len())
            .max()
            .unwrap_or(0);
        let f = trials()
            .next()
            .map_or(0, |one| one.trial.inputs.len() / one.trial.len());
        let width = match actions {
            Actions::Discrete(_) => 1,
            Actions::Continuous(width) => width,
        };
        let padded = |width: usize, of: &dyn Fn(&Weighed) -> Vec<f64>| {
            let mut values = Vec::with_capacity(t * b * length * width);
            for weighed in trials() {
                let filled = values.len() + length * width;
                values.extend(of(weighed));
                values.resize(filled, 0.0);
            }
            Tensor::from_data(TensorData::new(values, [t, b * length, width]), device)
        };
        let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect();
        let mut weights = Vec::with_capacity(t * b * length);
        for row in &rows {
            let steps: usize = row.iter().map(|weighed| weighed.trial.len()).sum();
            for weighed in row.iter() {
                let filled = weights.len() + length;
                weights.extend(std::iter::repeat_n(1.0 / steps as f64, weighed.trial.len()));
                weights.resize(filled, 0.0);
            }
        }
        let scores: Vec<f32> = rows
            .iter()
            .map(|row| {
                let totals: Vec<f64> = row.iter().map(|weighed| weighed.trial.total()).collect();
                mean(&totals) as f32
            })
            .collect();
        TrialBatch {
            inputs: padded(f, &|weighed| wide(&weighed.trial.inputs)),
            length,
            actions: padded(width, &|weighed| wide(&weighed.trial.actions)),
            before: padded(1, &|weighed| weighed.trial.log_probabilities.clone()),
            advantages: padded(1, &|weighed| weighed.advantages.clone()),
            returns: padded(1, &|weighed| weighed.returns.clone()),
            weights: Tensor::from_data(TensorData::new(weights, [t, b * length, 1]), device),
            scores: Tensor::from_data(TensorData::new(scores, [t]), device),
        }
    }
}

/// The loss of each task, `[t]`, of what the policy now says of the trials: the distributions of its actions,
/// and its values over their scale, `[t, b·l, 1]`.
pub fn losses<B: Primitives>(
    settings: &PpoSettings,
    scale: f64,
    trials: &TrialBatch<B>,
    distribution: Distribution<B>,
    values: Tensor<B, 3>,
) -> Tensor<B, 1> {
    let [log_probabilities, entropy] = distribution.of_actions(trials.actions.clone());
    let ratio = (log_probabilities - trials.before.clone()).exp();
    let near = ratio
        .clone()
        .clamp(1.0 - settings.clip, 1.0 + settings.clip);
    let gain = (ratio * trials.advantages.clone()).min_pair(near * trials.advantages.clone());
    let error = values - trials.returns.clone().mul_scalar(1.0 / scale);
    let of_value = (error.clone() * error).mul_scalar(0.5 * settings.value_weight);
    let each = of_value - gain - entropy.mul_scalar(settings.entropy_weight);
    let [t, _, _] = each.dims();
    (each * trials.weights.clone()).sum_dim(1).reshape([t])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;
    use burn_autodiff::Autodiff;
    use serde_json::Value;

    use super::*;
    use crate::backend::Cpu;

    /// `tests/oracles/ppo.py` wrote the numbers.
    fn oracle() -> Value {
        serde_json::from_str(include_str!("../../../tests/oracles/ppo.json")).expect("JSON")
    }

    /// All numbers of nested lists.
    fn flat(value: &Value) -> Vec<f64> {
        match value {
            Value::Array(values) => values.iter().flat_map(flat).collect(),
            number => vec![number.as_f64().expect("a number")],
        }
    }

    fn close<const D: usize, B: Primitives>(found: Tensor<B, D>, expected: &Value) {
        let found: Vec<f64> = found.into_data().iter::<f64>().collect();
        let expected = flat(expected);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            // Some tens of roundings in f32.
            assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
        }
    }

    fn trial(task: u64, given: &Value) -> Trial {
        let rewards = flat(&given["rewards"]);
        let steps = rewards.len();
        Trial {
            task,
            stage: 0,
            inputs: vec![0.0; steps],
            actions: flat(&given["actions"]).iter().map(|&a| a as f32).collect(),
            ends: vec![false; steps],
            log_probabilities: flat(&given["old"]),
            values: flat(&given["values"]),
            rewards,
        }
    }

    fn equals_pytorch(kind: &str, actions: Actions) {
        type L = Autodiff<Cpu>;
        let settings = PpoSettings {
            discount: 0.9,
            gae_lambda: 0.8,
            entropy_weight: 0.03,
            ..PpoSettings::default()
        };
        let oracle = &oracle()[kind];
        let device = Default::default();
        let trials: Vec<Trial> = (0..2)
            .map(|t| trial(t as u64, &oracle["trials"][t]))
            .collect();
        let raw = trials.clone();
        let weighed = weigh(trials, settings.discount, settings.gae_lambda);
        for (task, own) in weighed.iter().enumerate() {
            let expected = flat(&oracle["trials"][task]["returns"]);
            for (found, expected) in own.returns.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12);
            }
            assert_eq!(own.trial, raw[task]);
        }
        let batch = TrialBatch::<L>::of(&weighed, &[0, 1], actions, &device);
        let tensor = |key: &str, shape: [usize; 3]| {
            let values: Vec<f32> = flat(&oracle[key]).iter().map(|&v| v as f32).collect();
            Tensor::<L, 3>::from_data(TensorData::new(values, shape), &device)
        };
        let (outputs, is_normal) = match actions {
            Actions::Discrete(count) => (count, false),
            Actions::Continuous(width) => (width, true),
        };
        let said = tensor("said", [2, 5, outputs]).require_grad();
        let logs = tensor("log_deviations", [1, 1, 2]).require_grad();
        let values = tensor("now", [2, 5, 1]).require_grad();
        let of = |said: Tensor<L, 3>, logs: Tensor<L, 3>| match is_normal {
            true => Distribution::Normal(said, logs),
            false => Distribution::Categorical(said),
        };
        let now = of(said.clone(), logs.clone());
        let losses = losses(&settings, 4.0, &batch, now.clone(), values.clone());
        close(losses.clone(), &oracle["losses"]);
        let gradients = losses.mean().backward();
        close(
            said.grad(&gradients).expect("of scores"),
            &oracle["of_said"],
        );
        close(
            values.grad(&gradients).expect("of values"),
            &oracle["of_values"],
        );
        if is_normal {
            close(
                logs.grad(&gradients).expect("of deviations"),
                &oracle["of_deviations"],
            );
        }
        let other = of(
            tensor("other", [2, 5, outputs]),
            tensor("other_log_deviations", [1, 1, 2]),
        );
        close(now.divergence(other), &oracle["divergence"]);
    }

    #[test]
    fn the_loss_of_discrete_actions_equals_pytorch() {
        equals_pytorch("categorical", Actions::Discrete(3));
    }

    #[test]
    fn the_loss_of_continuous_actions_equals_pytorch() {
        equals_pytorch("normal", Actions::Continuous(2));
    }

    #[test]
    fn the_scale_is_the_sum_of_discounts() {
        let sum: f64 = (0..7).map(|t| 0.9f64.powi(t)).sum();
        assert!((value_scale(0.9, 7) - sum).abs() < 1e-12);
        assert_eq!(value_scale(1.0, 7), 7.0);
    }
}
