//! Policies in environments: the returns of trials.

use super::environment::{Family, LEAST_TASKS, Lanes};
use super::policy::{Policy, Transition};
use crate::error::Result;
use crate::parallel;

/// Numbers that the tasks of a part take: half a megabyte.
const CACHED_NUMBERS: usize = 1 << 16;

/// Runs one trial of `episodes` episodes in every lane; the return of each episode, `[lanes, episodes]`.
///
/// A trial keeps the policy's memory over its episodes. `policy(lane)` makes the policy of a lane; its random
/// choices come from the stream (seed, split, task, "policy") and the lane's place among those of its task.
/// Threads share the tasks, and their number changes no return.
///
/// # Errors
/// Those of [`Family::environments`].
pub fn run_trials(
    family: &dyn Family,
    lanes: Lanes<'_>,
    episodes: usize,
    policy: impl Fn(usize) -> Box<dyn Policy> + Sync,
) -> Result<Vec<f64>> {
    // The bound of one batch holds for all parts, of which a few are there at a time.
    family.check_lanes(lanes)?;
    let threads = rayon::current_num_threads();
    // A part has little enough to stay in the cache from its first step to its last.
    let cached = CACHED_NUMBERS / family.task_numbers().max(1);
    let of_part = lanes.tasks.len().div_ceil(threads).min(cached);
    let of_part = of_part.max(LEAST_TASKS);
    let parts: Vec<(usize, &[u64])> = lanes.tasks.chunks(of_part).enumerate().collect();
    let returns = parallel::each(&parts, threads, |&(part, tasks)| {
        let (own, first) = (Lanes { tasks, ..lanes }, part * of_part * lanes.episodes);
        watch_trials(
            family,
            own,
            episodes,
            |lane| policy(first + lane),
            |_, _| {},
        )
    });
    let returns: Vec<Vec<f64>> = returns.into_iter().collect::<Result<_>>()?;
    Ok(returns.concat())
}

/// As [`run_trials`]; `watch` sees every step of every lane, with the number of the lane.
///
/// # Errors
/// Those of [`Family::environments`].
pub fn watch_trials(
    family: &dyn Family,
    lanes: Lanes<'_>,
    episodes: usize,
    policy: impl FnMut(usize) -> Box<dyn Policy>,
    mut watch: impl FnMut(usize, &Transition<'_>),
) -> Result<Vec<f64>> {
    let mut environments = family.environments(lanes)?;
    let count = environments.lanes();
    let mut policies: Vec<_> = (0..count).map(policy).collect();
    for (lane, policy) in policies.iter_mut().enumerate() {
        let (task, place) = (lane / lanes.episodes, lane % lanes.episodes);
        let (scope, task) = (lanes.split.scope(), lanes.tasks[task]);
        let mut stream = lanes.seed.stream(scope, task, "policy");
        if place > 0 {
            let root = crate::rng::Seed(stream.next_u64());
            stream = root.stream(scope, place as u64, "policy");
        }
        policy.begin(stream);
    }
    let (seen, taken) = (family.observations().width(), family.actions().width());
    let mut returns = vec![0.0; count * episodes];
    let mut actions = vec![0.0; count * taken];
    let mut steps = environments.buffers();
    let mut before = steps.clone();
    for episode in 0..episodes {
        environments.reset(&mut steps);
        for _ in 0..family.horizon() {
            if steps.done.iter().all(|&done| done) {
                break;
            }
            before.clone_from(&steps);
            let rows = before.observations.chunks_exact(seen);
            let rows = rows.zip(actions.chunks_exact_mut(taken));
            for (lane, (observation, action)) in rows.enumerate() {
                if !before.done[lane] {
                    policies[lane].act(observation, action);
                }
            }
            environments.step(&actions, &mut steps);
            for (lane, policy) in policies.iter_mut().enumerate() {
                if before.done[lane] {
                    continue;
                }
                returns[lane * episodes + episode] += f64::from(steps.rewards[lane]);
                let transition = Transition {
                    observation: &before.observations[lane * seen..][..seen],
                    action: &actions[lane * taken..][..taken],
                    reward: steps.rewards[lane],
                    next: &steps.observations[lane * seen..][..seen],
                    done: steps.done[lane],
                };
                watch(lane, &transition);
                policy.observe(&transition);
            }
        }
    }
    Ok(returns)
}
