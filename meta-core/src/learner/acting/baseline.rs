//! Advantages over a baseline that is fitted to the trials of each task alone.

use super::ppo::{Weighed, standardize};
use crate::rl::{LinearBaseline, Trial, discounted_returns};

/// Weighs trials, those of a task one after the other: generalised advantages over a linear baseline of the
/// task's own trials ([`LinearBaseline`]), centred and scaled in each task. It sees the first `width` numbers of
/// what a policy reads, and the time.
pub fn weigh_by_task(trials: Vec<Trial>, width: usize, discount: f64, lambda: f64) -> Vec<Weighed> {
    let of_tasks = trials.chunk_by(|one, other| one.task == other.task);
    let of_task = |own: &[Trial]| weigh_task(own.to_vec(), width, discount, lambda);
    of_tasks.flat_map(of_task).collect()
}

fn weigh_task(mut trials: Vec<Trial>, width: usize, discount: f64, lambda: f64) -> Vec<Weighed> {
    let observed = |trial: &Trial| -> Vec<f32> {
        let f = trial.inputs.len() / trial.len().max(1);
        let rows = trial.inputs.chunks_exact(f.max(1));
        rows.flat_map(|row| row[..width].to_vec()).collect()
    };
    let observations: Vec<f32> = trials.iter().flat_map(observed).collect();
    let times: Vec<usize> = trials.iter().flat_map(|trial| 0..trial.len()).collect();
    let returns = trials
        .iter()
        .flat_map(|trial| discounted_returns(&trial.rewards, discount));
    let returns: Vec<f64> = returns.collect();
    let mut baseline = LinearBaseline::new(width);
    baseline.fit(&observations, &times, &returns, 1e-5);
    let mut values = baseline.values(&observations, &times).into_iter();
    let mut weighed = Vec::with_capacity(trials.len());
    for mut trial in trials.drain(..) {
        trial.values = values.by_ref().take(trial.len()).collect();
        let ends = trial.ends.clone();
        weighed.push(Weighed::of(trial, &ends, discount, lambda));
    }
    standardize(&mut weighed);
    weighed
}
