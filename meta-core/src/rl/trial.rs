//! What happened in trials: what a policy learns from.

use super::environment::{Family, Lanes};
use super::source::input_width;
use crate::error::Result;
use crate::rng::{Seed, Stream};

/// One trial of a task: its episodes, one after the other, as the policy saw them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trial {
    /// Number of the task in its split.
    pub task: u64,
    /// Adaptations before it, for policies that adapt from trial to trial.
    pub stage: usize,
    /// What the policy read in each step, `[steps, f]`: observation, last action, the observation before where the
    /// family tells it, last reward, whether an episode begins.
    pub inputs: Vec<f32>,
    /// What it did, `[steps, width]`.
    pub actions: Vec<f32>,
    /// What that gave, `[steps]`.
    pub rewards: Vec<f64>,
    /// Whether the episode ended with it, `[steps]`.
    pub ends: Vec<bool>,
    /// Logarithm of the probability (density) that it had, `[steps]`.
    pub log_probabilities: Vec<f64>,
    /// What the policy expected before it, `[steps]`.
    pub values: Vec<f64>,
}

impl Trial {
    /// Steps of all episodes.
    pub fn len(&self) -> usize {
        self.rewards.len()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.rewards.is_empty()
    }

    /// Sum of all rewards.
    pub fn total(&self) -> f64 {
        self.rewards.iter().sum()
    }

    /// Return of each episode.
    pub fn returns(&self) -> Vec<f64> {
        let mut returns = vec![0.0];
        for (reward, &end) in self.rewards.iter().zip(&self.ends) {
            *returns.last_mut().unwrap_or(&mut 0.0) += reward;
            if end {
                returns.push(0.0);
            }
        }
        returns.pop();
        returns
    }
}

/// What every lane sees at a moment.
pub struct Moment<'a> {
    /// `[lanes, f]`.
    pub inputs: &'a [f32],
    /// Lanes whose episode goes on; the choices of others count for nothing, and they are to remember nothing.
    pub goes_on: &'a [bool],
    /// Random numbers of each lane.
    pub streams: &'a mut [Stream],
}

/// What is chosen for every lane.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// `[lanes, width]`.
    pub actions: Vec<f32>,
    /// `[lanes]`.
    pub log_probabilities: Vec<f64>,
    /// `[lanes]`.
    pub values: Vec<f64>,
}

/// Runs a trial of `episodes` episodes in every lane, all at once: `choose` acts for all lanes in a step. A
/// lane whose episode has ended waits for the others; its trial has no steps of that time.
///
/// The random numbers of a lane are those of [`run_trials`](super::run_trials): of (seed, split, task) and
/// the number of the lane's first episode.
///
/// # Errors
/// Those of [`Family::environments`].
pub fn run_together(
    family: &dyn Family,
    lanes: Lanes<'_>,
    episodes: usize,
    mut choose: impl FnMut(Moment<'_>) -> Choices,
) -> Result<Vec<Trial>> {
    let mut environments = family.environments(lanes)?;
    let count = environments.lanes();
    let mut streams = streams(lanes, count);
    let (observations, space) = (family.observations(), family.actions());
    let (seen, taken) = (observations.encoded_width(), space.encoded_width());
    let (raw, width) = (observations.width(), space.width());
    let f = input_width(family);
    let mut trials: Vec<Trial> = (0..count)
        .map(|lane| Trial {
            task: lanes.tasks[lane / lanes.episodes],
            ..Trial::default()
        })
        .collect();
    let mut inputs = vec![0.0f32; count * f];
    let mut steps = environments.buffers();
    for _ in 0..episodes {
        environments.reset(&mut steps);
        inputs
            .chunks_exact_mut(f)
            .for_each(|input| input[f - 1] = 1.0);
        for _ in 0..family.horizon() {
            if steps.done.iter().all(|&done| done) {
                break;
            }
            let rows = inputs.chunks_exact_mut(f);
            for (input, observation) in rows.zip(steps.observations.chunks_exact(raw)) {
                observations.encode(observation, &mut input[..seen]);
            }
            let goes_on: Vec<bool> = steps.done.iter().map(|&done| !done).collect();
            let mut choices = choose(Moment {
                inputs: &inputs,
                goes_on: &goes_on,
                streams: &mut streams,
            });
            environments.step(&choices.actions, &mut steps);
            for (lane, trial) in trials.iter_mut().enumerate() {
                if !goes_on[lane] {
                    continue;
                }
                let input = &mut inputs[lane * f..][..f];
                let action = &mut choices.actions[lane * width..][..width];
                trial.inputs.extend_from_slice(input);
                trial.actions.extend_from_slice(action);
                trial.rewards.push(f64::from(steps.rewards[lane]));
                trial.ends.push(steps.done[lane]);
                trial
                    .log_probabilities
                    .push(choices.log_probabilities[lane]);
                trial.values.push(choices.values[lane]);
                space.clip(action);
                space.encode(action, &mut input[seen..seen + taken]);
                if family.tells_last_observation() {
                    input.copy_within(..seen, seen + taken);
                }
                input[f - 2] = steps.rewards[lane];
                input[f - 1] = 0.0;
            }
        }
    }
    Ok(trials)
}

/// The random numbers of each lane.
fn streams(lanes: Lanes<'_>, count: usize) -> Vec<Stream> {
    let scope = lanes.split.scope();
    let of = |lane: usize| {
        let task = lanes.tasks[lane / lanes.episodes];
        let place = lanes.first_episode + (lane % lanes.episodes) as u64;
        let mut stream = lanes.seed.stream(scope, task, "policy");
        if place > 0 {
            let root = Seed(stream.next_u64());
            stream = root.stream(scope, place, "policy");
        }
        stream
    };
    (0..count).map(of).collect()
}
