//! Choosing runs by the results of others: TPE and successive halving.
//!
//! Both look at validations alone, never at the test. What they choose depends on the results, the
//! search seed and nothing else, so that a search that was stopped goes on where it was: the same
//! trials come again, and are found finished.
//!
//! * Bergstra et al., *Algorithms for hyper-parameter optimization*, NIPS 2011 (TPE, by the crate
//!   `tpe`; each key on its own).
//! * Jamieson and Talwalkar, *Non-stochastic best arm identification*, AISTATS 2016 (successive
//!   halving, one run for each setting and seed).

use std::{collections::HashMap, path::Path};

use meta_core::{files::write_atomically, rng::Seed};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde_json::{Value, json};
use tpe::TpeOptimizer;

use super::{
    Run, Set, Sweep, Swept, count_stopped,
    local::Launcher,
    plan::{Planned, State},
    spec::{Halving, Method, Metric, Range, Search, Spec},
    tasks,
};
use crate::{
    Toolkit,
    failure::{CommandError, Result},
    manifest::Layer,
    output::table::{Cell, Format, Table},
    run::folder::{METRICS, json_bytes},
};

/// The trials of a search with their values.
pub const SEARCH: &str = "search.json";

/// Refuses what TPE cannot go with.
///
/// # Errors
/// Naming the axis.
pub fn check(spec: &Spec, many: bool) -> Result<()> {
    if many {
        return Err(CommandError::Usage(
            "[sweep.tpe] searches one manifest at a time; give one".to_owned(),
        ));
    }
    if let Some(axis) = spec.grid.iter().chain(&spec.zip).next() {
        return Err(CommandError::Usage(format!(
            "{}: axis `{}` cannot go with [sweep.tpe]; make it a {{ choice = […] }} of the search",
            axis.origin, axis.key
        )));
    }
    if spec.trials.is_empty() {
        Ok(())
    } else {
        Err(CommandError::Usage(
            "a CSV file of trials cannot go with [sweep.tpe]".to_owned(),
        ))
    }
}

/// Refuses runs whose validations a search or halving could not compare.
///
/// # Errors
/// Naming the setting.
pub fn check_runs(spec: &Spec, runs: &[Planned]) -> Result<()> {
    let Some(first) = runs.first() else {
        return Ok(());
    };
    for run in runs {
        let train = &run.manifest.train;
        let refuse = |key: &str, value: u64, expected: String| {
            let error = meta_core::Error::setting(key, value, expected);
            Err(CommandError::Usage(format!(
                "{} (in run {})",
                run.manifest.locate(error),
                run.title()
            )))
        };
        if train.validate_every == 0 {
            let expected = "a search chooses by validations; must be at least 1".to_owned();
            return refuse("train.validate_every", 0, expected);
        }
        if let Some(halving) = spec.halving {
            let iterations = first.manifest.train.iterations;
            if train.iterations != iterations {
                let expected =
                    format!("halving compares equal lengths; another run has {iterations}");
                return refuse("train.iterations", train.iterations, expected);
            }
            if halving.first % train.validate_every != 0 {
                let expected = format!("must divide `sweep.halving.first = {}`", halving.first);
                return refuse("train.validate_every", train.validate_every, expected);
            }
        }
    }
    Ok(())
}

/// The best validation of a run up to an iteration, as a cost: lower is better.
pub fn cost(folder: &Path, metric: Metric, until: u64) -> Option<f64> {
    let text = std::fs::read_to_string(folder.join(METRICS)).ok()?;
    let costs = text.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        if line["kind"] != "validation" || line["iteration"].as_u64()? > until {
            return None;
        }
        match metric {
            Metric::Loss => line["loss"]["mean"].as_f64(),
            Metric::Score if line["metric"] == "accuracy" => Some(-line["score"]["mean"].as_f64()?),
            Metric::Score => line["score"]["mean"].as_f64(),
        }
    });
    costs.filter(|cost| cost.is_finite()).min_by(f64::total_cmp)
}

/// Runs that differ in nothing but the seed, in the order of their first ones.
fn groups(runs: &[Run]) -> Vec<Vec<usize>> {
    let mut order: Vec<Vec<usize>> = Vec::new();
    let mut known: HashMap<(usize, Vec<(String, String)>), usize> = HashMap::new();
    for (index, run) in runs.iter().enumerate() {
        let mut label = run.planned.label.clone();
        label.retain(|(key, _)| key != "seed");
        match known.get(&(run.planned.trial, label.clone())) {
            Some(&group) => order[group].push(index),
            None => {
                known.insert((run.planned.trial, label), order.len());
                order.push(vec![index]);
            }
        }
    }
    order
}

/// Mean cost of a group; none when one of its runs has none.
fn group_cost(runs: &[Run], group: &[usize], metric: Metric, until: u64) -> Option<f64> {
    let costs: Option<Vec<f64>> = group
        .iter()
        .map(|&index| cost(&runs[index].planned.folder, metric, until))
        .collect();
    costs.map(|costs| meta_core::stats::mean(&costs))
}

/// Successive halving over `runs`. The number of runs that were stopped by the user, and for each run
/// that was not among the best the iteration at which it was left.
pub fn halve(
    runs: &[Run],
    halving: Halving,
    metric: Metric,
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
            match group_cost(runs, &group, metric, until) {
                Some(cost) => ranked.push((cost, group)),
                None => launcher.say(&format!(
                    "{}: has no validation, and is out",
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

/// Runs a search by TPE, trial after trial.
pub fn tpe<T: Toolkit>(
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
        let next = history.len()..search.trials.min(history.len() + search.parallel);
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
        let mut seen = std::collections::HashSet::new();
        due.retain(|task| task.index >= first && seen.insert(task.short.clone()));
        stopped = count_stopped(&launcher.run(&due)?);
        let state = |run: &Run| State::of(&run.planned.folder);
        failed = runs
            .iter()
            .any(|run| matches!(state(run), State::Failed(_)));
        for (trial, layers) in chosen {
            let group: Vec<usize> = (first..runs.len())
                .filter(|&index| runs[index].planned.trial == trial)
                .collect();
            // What failed is as bad as can be.
            let cost = group_cost(&runs, &group, spec.metric, u64::MAX).unwrap_or(f64::INFINITY);
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
    let choose = |(axis, drawn): (usize, &super::spec::Drawn)| {
        let (estimator, cells) = match &drawn.range {
            Range::Choice(values) => (tpe::histogram_estimator(), values.len()),
            _ => (tpe::parzen_estimator(), 1),
        };
        let range = tpe::range(0.0, cells as f64).expect("0 is below 1");
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

/// Writes the trials of a search with their values, for programs and for spreadsheets.
///
/// # Errors
/// When they cannot be written.
pub fn write_trials(folder: &Path, spec: &Spec, runs: &[Run]) -> Result<()> {
    let Some(search) = &spec.search else {
        return Ok(());
    };
    let groups = groups(runs);
    let labels: Vec<Vec<(String, String)>> = groups
        .iter()
        .map(|group| {
            let mut label = runs[group[0]].planned.label.clone();
            label.retain(|(key, _)| key != "seed");
            label
        })
        .collect();
    let keys = super::label_keys(labels.iter().map(Vec::as_slice));
    let columns = ["trial".to_owned()]
        .into_iter()
        .chain(keys.clone())
        .chain(["cost".to_owned()]);
    let mut table = Table::new(columns);
    for (trial, (group, label)) in groups.iter().zip(&labels).enumerate() {
        let mut row = vec![Cell::new(trial.to_string(), trial)];
        row.extend(super::label_cells(&keys, label));
        let cost = group_cost(runs, group, spec.metric, u64::MAX);
        row.push(Cell::new("", cost.map_or(Value::Null, |cost| json!(cost))));
        table.rows.push(row);
    }
    let value = json!({
        "method": search.method.name(),
        "search_seed": spec.search_seed,
        "trials": table.json(),
    });
    write_atomically(&folder.join(SEARCH), &json_bytes(&value))?;
    let csv = table.render(Format::Csv);
    Ok(write_atomically(
        &folder.join("trials.csv"),
        csv.as_bytes(),
    )?)
}

/// A table of searches with equal budgets: the best cost after some trials, and the difference at
/// the end, paired by the search seed. For the documentation.
///
/// # Errors
/// When a folder is not that of a search.
pub fn compare_searches(folders: &[std::path::PathBuf]) -> Result<String> {
    let mut curves: HashMap<String, std::collections::BTreeMap<u64, Vec<f64>>> = HashMap::new();
    for folder in folders {
        let path = folder.join(SEARCH);
        let value = crate::run::folder::read_json(&path)?;
        let mut best = f64::INFINITY;
        let trials = value["trials"].as_array().into_iter().flatten();
        let curve = trials.map(|trial| {
            best = best.min(trial["cost"].as_f64().unwrap_or(f64::INFINITY));
            best
        });
        let curve: Vec<f64> = curve.collect();
        let method = value["method"].as_str().unwrap_or_default().to_owned();
        let seed = value["search_seed"].as_u64().unwrap_or(0);
        curves.entry(method).or_default().insert(seed, curve);
    }
    let refuse = || {
        CommandError::Usage(
            "expected searches by random and by tpe, of the same seeds and numbers of trials"
                .to_owned(),
        )
    };
    let of = |method: Method| curves.get(method.name()).ok_or_else(refuse);
    let (random, tpe) = (of(Method::Random)?, of(Method::Tpe)?);
    let budget = random.values().map(Vec::len).min().unwrap_or(0);
    let same = |(a, b): (&Vec<f64>, &Vec<f64>)| a.len() == budget && b.len() == budget;
    if !random.keys().eq(tpe.keys()) || !random.values().zip(tpe.values()).all(same) || budget == 0
    {
        return Err(refuse());
    }
    let mut out = String::from("| trials | random | tpe |\n|---|---|---|\n");
    let after = |curves: &std::collections::BTreeMap<u64, Vec<f64>>, trials: usize| -> Vec<f64> {
        curves.values().map(|curve| curve[trials - 1]).collect()
    };
    let steps = (1..=4).map(|part| (budget * part).div_ceil(4));
    for trials in steps {
        let interval = |curves| meta_core::stats::Interval::t95(&after(curves, trials));
        out.push_str(&format!(
            "| {trials} | {:.4} | {:.4} |\n",
            interval(random),
            interval(tpe)
        ));
    }
    let (a, b) = (after(tpe, budget), after(random, budget));
    let t = meta_core::stats::paired_t(&a, &b);
    let wilcoxon = meta_core::stats::paired_wilcoxon(&a, &b);
    let wins = a.iter().zip(&b).filter(|(a, b)| a < b).count();
    out.push_str(&format!(
        "\nLowest cost so far, mean and 95 % interval over {} search seeds. TPE minus random after \
         {budget} trials, paired by seed: {:.4}, p = {:.3} (paired t), p = {:.3} (Wilcoxon); TPE is \
         lower for {wins} of {} seeds.\n",
        a.len(),
        t.difference,
        t.p_value,
        wilcoxon.p_value,
        a.len(),
    ));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Document;

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

    #[test]
    fn the_cost_is_the_best_validation_so_far() {
        let folder = tempfile::tempdir().unwrap();
        let line = |iteration: u64, metric: &str, score: f64| {
            format!(
                "{{\"kind\":\"validation\",\"iteration\":{iteration},\"metric\":\"{metric}\",\
                 \"score\":{{\"mean\":{score}}},\"loss\":{{\"mean\":{}}}}}\n",
                2.0 * score
            )
        };
        let write = |metric: &str| {
            let text = format!(
                "{}{{\"kind\":\"train\",\"iteration\":15}}\n{}{}",
                line(10, metric, 0.5),
                line(20, metric, 0.7),
                line(30, metric, 0.6)
            );
            std::fs::write(folder.path().join(METRICS), text).unwrap();
        };
        write("accuracy");
        assert_eq!(cost(folder.path(), Metric::Score, 30), Some(-0.7));
        assert_eq!(cost(folder.path(), Metric::Score, 19), Some(-0.5));
        assert_eq!(cost(folder.path(), Metric::Loss, 30), Some(1.0));
        assert_eq!(cost(folder.path(), Metric::Score, 9), None);
        write("mean_squared_error");
        assert_eq!(cost(folder.path(), Metric::Score, 30), Some(0.5));
    }
}
