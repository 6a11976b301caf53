//! Searches by tree-structured Parzen estimators: each trial is chosen from the costs of earlier ones.
//!
//! * Bergstra et al., *Algorithms for hyper-parameter optimization*, NIPS 2011 (by the crate `tpe`; each
//!   key on its own).

use std::collections::{HashMap, HashSet};

use ::tpe::{TpeOptimizer, histogram_estimator, parzen_estimator, range};
use meta_core::{rng::Seed, toolkit::Toolkit};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::{
    local::Launcher,
    prepare::Sweep,
    ranges::{Drawn, Range},
    runs::{Run, Swept, count_stopped, tasks},
    search::{group_cost, write_trials},
    selection::Set,
    spec::Search,
};
use crate::{failure::Result, manifest::layer::Layer, run::state::State};

/// Runs a search by TPE, trial after trial.
///
/// # Errors
/// Whatever is wrong with a run, and what keeps runs from being started.
pub fn search_by_tpe<T: Toolkit>(
    sweep: &Sweep<T>,
    set: &Set,
    launcher: &Launcher,
    retry: bool,
) -> Result<Swept> {
    let spec = &set.spec;
    let search = spec.search.as_ref().expect("asked for a search");
    let mut runs: Vec<Run> = Vec::new();
    let mut history: Vec<(Vec<Layer>, f64)> = Vec::new();
    let mut stopped = 0;
    let mut failed = false;
    while history.len() < search.trials && stopped == 0 && !(failed && launcher.fail_fast) {
        let next = history.len()
            ..search
                .trials
                .min(history.len().saturating_add(search.parallel));
        let mut chosen = Vec::new();
        let first = runs.len();
        for trial in next {
            let layers = if trial < search.startup {
                search.draw(spec.search_seed, trial)
            } else {
                suggest(search, spec.search_seed, trial, &history)
            };
            let planned = set.plan(&sweep.planner, &spec.trial(trial, &layers), false)?;
            runs.extend(planned.into_iter().map(|planned| Run {
                planned,
                memory: spec.memory,
            }));
            chosen.push((trial, layers));
        }
        sweep.write_plan(&runs)?;
        let mut due = tasks(&runs, retry);
        let mut seen = HashSet::new();
        due.retain(|task| task.index >= first && seen.insert(task.short.clone()));
        stopped = count_stopped(&launcher.run(&due)?);
        let state = |run: &Run| State::of(&run.planned.folder);
        failed = runs.iter().any(|run| state(run).failure().is_some());
        for (trial, layers) in chosen {
            let group: Vec<usize> = (first..runs.len())
                .filter(|&index| runs[index].planned.trial == trial)
                .collect();
            // What failed is as bad as can be.
            let cost = group_cost(&runs, &group, spec.objective, u64::MAX).unwrap_or(f64::INFINITY);
            history.push((layers, cost));
        }
        write_trials(&sweep.folder, spec, &runs)?;
    }
    Ok(Swept {
        runs,
        stopped,
        fail_fast: launcher.fail_fast && failed,
        left: HashMap::new(),
    })
}

/// The values of trial number `trial`, from the costs of those before.
fn suggest(search: &Search, seed: u64, trial: usize, history: &[(Vec<Layer>, f64)]) -> Vec<Layer> {
    let choose = |(axis, drawn): (usize, &Drawn)| {
        let (estimator, cells) = match &drawn.range {
            Range::Choice(values) => (histogram_estimator(), values.len()),
            _ => (parzen_estimator(), 1),
        };
        let range = range(0.0, cells as f64).expect("0 is below 1");
        let mut optimizer = TpeOptimizer::new(estimator, range);
        for (layers, cost) in history {
            if let Some(position) = drawn.position(layers[axis].value()) {
                let told = optimizer.tell(position * cells as f64, *cost);
                told.expect("positions are in the range and costs are numbers");
            }
        }
        let mut key = [0; 32];
        let mut stream = Seed(seed).stream("sweep/tpe", trial as u64, &drawn.key);
        key[..8].copy_from_slice(&stream.next_u64().to_le_bytes());
        let asked = optimizer
            .ask(&mut ChaCha8Rng::from_seed(key))
            .expect("estimators are built");
        drawn.layer((asked / cells as f64).clamp(0.0, 1.0))
    };
    search.axes.iter().enumerate().map(choose).collect()
}

#[cfg(test)]
mod tests {
    use super::super::spec::Spec;
    use super::*;
    use crate::manifest::base::Document;

    /// After 60 random trials on a bowl in one real and one choice, TPE proposes values near the lowest
    /// point: within a factor of 10 where random draws are in a third of the cases, and the right one
    /// of four choices.
    #[test]
    fn tpe_proposes_what_was_good() {
        let document = Document {
            path: "m.toml".into(),
            text:
                "[sweep.tpe]\ntrials = 100\ntrain.lr = { log_uniform = [1e-5, 10] }\nlearner.order = \
                   { choice = ['a', 'b', 'c', 'd'] }\n"
                    .to_owned(),
        };
        let spec = Spec::read(&[document], &[], None).unwrap();
        let search = spec.search.unwrap();
        let distance = |layers: &[Layer]| (layers[0].value().as_f64().unwrap() / 0.003).ln();
        let right = |layers: &[Layer]| layers[1].value() == "b";
        let history: Vec<(Vec<Layer>, f64)> = (0..60)
            .map(|trial| {
                let layers = search.draw(0, trial);
                let cost = distance(&layers).powi(2) + if right(&layers) { 0.0 } else { 10.0 };
                (layers, cost)
            })
            .collect();
        let proposed: Vec<Vec<Layer>> = (60..160)
            .map(|trial| suggest(&search, 0, trial, &history))
            .collect();
        let near = |layers: &&Vec<Layer>| distance(layers).abs() < 10f64.ln();
        assert!(proposed.iter().filter(near).count() > 60);
        assert!(proposed.iter().filter(|layers| right(layers)).count() > 60);
        assert_eq!(
            suggest(&search, 0, 60, &history)[0].value(),
            proposed[0][0].value()
        );
    }
}
