//! What acts: a policy with a memory.

use serde_json::Value;

use super::space::Space;
use crate::error::{Error, Result};
use crate::rng::Stream;
use crate::settings;
use crate::settings::Settings;

/// What happened in one step.
#[derive(Clone, Copy, Debug)]
pub struct Transition<'a> {
    /// The observation that was acted on.
    pub observation: &'a [f32],
    /// The action.
    pub action: &'a [f32],
    /// Its reward.
    pub reward: f32,
    /// The observation after it.
    pub next: &'a [f32],
    /// Whether the episode ended with it.
    pub done: bool,
}

/// Acts in one lane: a trial of one or more episodes of a task.
///
/// A reference policy does not know the task and learns within the trial, unless it is an oracle
/// ([`Environment::oracle`](super::Environment::oracle)).
pub trait Policy: Send {
    /// Forgets everything: a trial begins. All random choices are drawn from `stream`.
    fn begin(&mut self, stream: Stream);

    /// Writes the action for an observation.
    fn act(&mut self, observation: &[f32], action: &mut [f32]);

    /// Learns from what the action led to.
    fn observe(&mut self, _transition: &Transition<'_>) {}
}

/// Makes a policy, checked before: one for each lane.
pub type MakePolicy = Box<dyn Fn() -> Box<dyn Policy> + Send + Sync>;

/// Acts uniformly at random; between −1 and 1 where a space has no bound.
pub struct RandomPolicy {
    space: Space,
    stream: Option<Stream>,
}

impl RandomPolicy {
    /// Random actions of `space`.
    pub fn new(space: &Space) -> Self {
        RandomPolicy {
            space: space.clone(),
            stream: None,
        }
    }
}

impl Policy for RandomPolicy {
    fn begin(&mut self, stream: Stream) {
        self.stream = Some(stream);
    }

    fn act(&mut self, _observation: &[f32], action: &mut [f32]) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        match &self.space {
            Space::Discrete(n) => action[0] = stream.below(*n) as f32,
            Space::Continuous(bounds) => {
                for (number, &[low, high]) in action.iter_mut().zip(bounds) {
                    let (low, high) = (low.max(-f32::MAX), high.min(f32::MAX));
                    let bounded = low > -f32::MAX && high < f32::MAX;
                    let (low, high) = if bounded { (low, high) } else { (-1.0, 1.0) };
                    *number = stream.uniform_in(f64::from(low), f64::from(high)) as f32;
                }
            }
        }
    }
}

/// Makes random policies of `space`, which have no settings.
///
/// # Errors
/// [`Error::Unknown`](crate::Error::Unknown) for another name or a key, with the names in `known`.
pub fn random_policy(
    space: Space,
    name: &str,
    settings: &Value,
    known: &[&'static str],
) -> Result<MakePolicy> {
    if name != "random" {
        return Err(unknown_policy(name, known));
    }
    NoSettings::from_value("policy", settings)?;
    Ok(Box::new(move || Box::new(RandomPolicy::new(&space))))
}

/// The error for a policy that a family does not have.
pub fn unknown_policy(name: &str, known: &[&'static str]) -> Error {
    Error::unknown("policy", name, known.iter().copied())
}

settings! {
    /// Settings of a policy that has none.
    pub struct NoSettings {}
}

/// The first of the largest values, or a random one of them.
pub(crate) fn best_of(values: impl Iterator<Item = f64>, ties: Option<&mut Stream>) -> usize {
    let (mut best, mut largest, mut equal) = (0, f64::NEG_INFINITY, 0);
    let mut ties = ties;
    for (place, value) in values.enumerate() {
        if value > largest {
            (best, largest, equal) = (place, value, 1);
        } else if value == largest {
            equal += 1;
            // Each of the equal ones is kept with the same probability.
            if let Some(stream) = ties.as_mut()
                && stream.below(equal) == 0
            {
                best = place;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    #[test]
    fn ties_are_broken_evenly() {
        let mut stream = Seed(3).stream("ties", 0, "test");
        let mut counts = [0u32; 4];
        for _ in 0..30_000 {
            counts[best_of([1.0, 2.0, 2.0, 2.0].into_iter(), Some(&mut stream))] += 1;
        }
        assert_eq!(counts[0], 0);
        // 5 standard deviations of a binomial of 30 000 and 1/3.
        let bound = 5.0 * (30_000.0f64 * 2.0 / 9.0).sqrt();
        assert!(
            counts[1..]
                .iter()
                .all(|&c| (f64::from(c) - 10_000.0).abs() < bound)
        );
        assert_eq!(best_of([1.0, 2.0, 2.0].into_iter(), None), 1);
    }
}
