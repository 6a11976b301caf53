//! Successive halving: all runs start, and at each rung only the best ones continue.
//!
//! * Jamieson and Talwalkar, *Non-stochastic best arm identification*, AISTATS 2016 (one run for each
//!   setting and seed).

use std::collections::HashMap;

use super::{
    local::Launcher,
    runs::{Run, count_stopped, tasks},
    search::{group_cost, groups},
    spec::{Halving, SearchObjective},
};
use crate::failure::Result;

/// Successive halving over `runs`. The number of runs that were stopped by the user, and for each run
/// that was not among the best the iteration at which it was left.
///
/// # Errors
/// What keeps runs from being started.
pub fn halve(
    runs: &[Run],
    halving: Halving,
    objective: SearchObjective,
    launcher: &Launcher,
    retry: bool,
) -> Result<(usize, HashMap<String, u64>)> {
    let last = runs
        .first()
        .map_or(0, |run| run.planned.manifest.train.iterations);
    let mut left = HashMap::new();
    let mut alive = groups(runs);
    let mut rung = halving.first;
    let mut retry = retry;
    loop {
        let until = rung.min(last);
        let mut due = tasks(runs, retry);
        // Those that are there already pause at once.
        due.retain(|task| alive.iter().flatten().any(|&index| index == task.index));
        for task in &mut due {
            task.until = (until < last).then_some(until);
        }
        launcher.say(&format!(
            "rung at iteration {until}: {} settings, {} runs to do",
            alive.len(),
            due.len()
        ));
        let stopped = count_stopped(&launcher.run(&due)?);
        if stopped > 0 || until == last {
            return Ok((stopped, left));
        }
        // Tried again once, not at every rung.
        retry = false;
        let mut ranked: Vec<(f64, Vec<usize>)> = Vec::new();
        for group in alive {
            match group_cost(runs, &group, objective, until) {
                Some(cost) => ranked.push((cost, group)),
                None => launcher.say(&format!(
                    "{}: failed or has no validation, and is out",
                    runs[group[0]].planned.title()
                )),
            }
        }
        // Stable: among equals, the first one.
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        let keep = ranked
            .len()
            .div_ceil(usize::try_from(halving.factor).unwrap_or(usize::MAX));
        for (_, group) in &ranked[keep..] {
            for &index in group {
                left.insert(runs[index].planned.hash.clone(), until);
            }
        }
        ranked.truncate(keep);
        ranked.sort_by_key(|(_, group)| group[0]);
        alive = ranked.into_iter().map(|(_, group)| group).collect();
        rung = rung.saturating_mul(halving.factor);
    }
}
