//! Trials of random policies, with the best actions: what decision-pretrained transformers learn from.
//!
//! Lee, Xie, Pacchiano, Chandak, Finn, Nachum and Brunskill, *Supervised pretraining can learn in-context
//! reinforcement learning*, NeurIPS 2023, section 4.1: a history is of actions that are drawn with
//!
//! ```text
//! p = (1 − ω) p₁ + ω p₂,     p₁ ~ Dirichlet(1, …, 1),  p₂ all on one action,  ω ~ U{0, 0.1, …, 1}
//! ```
//!
//! in every state alike (appendix A: bandits); and of every step, the best action is known.

use crate::{
    Result,
    rl::{ActingWorld, Choices, Moment, Policy, RandomPolicy, Space, Trial, run_together},
    rng::Stream,
};

/// Numbers that ω has beyond 0.
const SHARES: usize = 10;

/// `trials` trials of `episodes` episodes of each task. Where actions are discrete they are drawn as above, else
/// uniformly. [`Trial::actions`] are the best actions, by the policy that knows the task; what was done stands
/// in [`Trial::inputs`], of the step after.
///
/// # Errors
/// When the environments cannot be made.
pub fn histories(
    world: &ActingWorld,
    tasks: &[u64],
    trials: usize,
    episodes: usize,
) -> Result<Vec<Trial>> {
    let family = world.family.as_ref();
    let space = family.actions();
    let mut policies: Option<Vec<Random>> = None;
    let all = run_together(family, world.lanes(tasks, trials), episodes, |moment| {
        let Moment {
            goes_on, streams, ..
        } = moment;
        let policies = policies.get_or_insert_with(|| {
            streams
                .iter_mut()
                .map(|own| Random::draw(&space, own))
                .collect()
        });
        let mut choices = Choices::default();
        for (lane, policy) in policies.iter().enumerate() {
            let to = choices.actions.len();
            choices.actions.resize(to + space.width(), 0.0);
            if goes_on[lane] {
                policy.act(&space, &mut streams[lane], &mut choices.actions[to..]);
            }
        }
        choices.log_probabilities = vec![0.0; goes_on.len()];
        choices.values = vec![0.0; goes_on.len()];
        choices
    });
    let mut all = all?;
    for trial in &mut all {
        label(world, trial);
    }
    Ok(all)
}

/// Probabilities of discrete actions; none of continuous ones.
struct Random(Vec<f64>);

impl Random {
    fn draw(space: &Space, stream: &mut Stream) -> Self {
        let Space::Discrete(count) = *space else {
            return Random(Vec::new());
        };
        // Normalised exponential variables have the distribution Dirichlet(1, …, 1).
        let drawn: Vec<f64> = (0..count).map(|_| -(1.0 - stream.uniform()).ln()).collect();
        let total: f64 = drawn.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let (one, share) = (stream.below(count), stream.below(SHARES + 1));
        let share = share as f64 / SHARES as f64;
        let of = |(action, own): (usize, f64)| {
            (1.0 - share) * own / total + if action == one { share } else { 0.0 }
        };
        Random(drawn.into_iter().enumerate().map(of).collect())
    }

    fn act(&self, space: &Space, stream: &mut Stream, action: &mut [f32]) {
        if self.0.is_empty() {
            let mut policy = RandomPolicy::new(space);
            policy.begin(stream.clone());
            policy.act(&[], action);
            stream.next_u64();
            return;
        }
        let mut left = stream.uniform();
        let mut chosen = 0;
        for (place, probability) in self.0.iter().enumerate() {
            chosen = place;
            left -= probability;
            if left < 0.0 {
                break;
            }
        }
        action[0] = chosen as f32;
    }
}

/// Puts the best actions in the place of those that were taken.
fn label(world: &ActingWorld, trial: &mut Trial) {
    let family = world.family.as_ref();
    let Some(mut oracle) = family.oracle(world.seed, world.split, trial.task) else {
        return;
    };
    oracle.begin(
        world
            .seed
            .stream(world.split.scope(), trial.task, "best actions"),
    );
    let (observations, width) = (family.observations(), family.actions().width());
    let f = trial.inputs.len() / trial.len().max(1);
    let rows = trial.inputs.chunks_exact(f.max(1));
    for (row, action) in rows.zip(trial.actions.chunks_exact_mut(width)) {
        let encoded = &row[..observations.encoded_width()];
        match observations {
            Space::Discrete(_) => {
                let place = encoded.iter().position(|&one| one > 0.5).unwrap_or(0);
                oracle.act(&[place as f32], action);
            }
            Space::Continuous(_) => oracle.act(encoded, action),
        }
    }
}
