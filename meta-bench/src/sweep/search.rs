//! Computes what searches and halving share: costs, groups of runs, and the file of trials.
//!
//! Both look at validations alone, never at the test. What they choose depends on the results, the search
//! seed and nothing else. A search that was stopped therefore resumes where it was: the same trials come
//! again, and are found finished.

use std::{collections::HashMap, path::Path};

use meta_core::{Error, files::write_atomically, stats::mean};
use serde_json::{Value, json};

use super::{
    plan::Planned,
    runs::{Run, label_cells, label_keys},
    spec::{SearchObjective, Spec},
};
use crate::{
    failure::{CommandError, Result},
    output::table::{Cell, Format, Table},
    run::{
        folder::{METRICS, json_bytes},
        state::State,
    },
};

/// The trials of a search with their values.
pub const SEARCH: &str = "search.json";

/// Refuses what cannot be combined with TPE.
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
            "{}: axis `{}` cannot be combined with [sweep.tpe]; make it a {{ choice = […] }} of the search",
            axis.origin, axis.key
        )));
    }
    if spec.trials.is_empty() {
        Ok(())
    } else {
        Err(CommandError::Usage(
            "a CSV file of trials cannot be combined with [sweep.tpe]".to_owned(),
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
            let error = Error::setting(key, value, expected);
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
pub fn cost(folder: &Path, objective: SearchObjective, until: u64) -> Option<f64> {
    let text = std::fs::read_to_string(folder.join(METRICS)).ok()?;
    let costs = text.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        if line["kind"] != "validation" || line["iteration"].as_u64()? > until {
            return None;
        }
        match objective {
            SearchObjective::Loss => line["loss"]["mean"].as_f64(),
            SearchObjective::Score if line["metric"] == "accuracy" => {
                Some(-line["score"]["mean"].as_f64()?)
            }
            SearchObjective::Score => line["score"]["mean"].as_f64(),
        }
    });
    costs.filter(|cost| cost.is_finite()).min_by(f64::total_cmp)
}

/// Runs that differ in nothing but the seed, in the order of their first ones.
pub fn groups(runs: &[Run]) -> Vec<Vec<usize>> {
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

/// Mean cost of a group; none when one of its runs has none, or failed.
pub fn group_cost(
    runs: &[Run],
    group: &[usize],
    objective: SearchObjective,
    until: u64,
) -> Option<f64> {
    let costs: Option<Vec<f64>> = group
        .iter()
        .map(|&index| {
            let folder = &runs[index].planned.folder;
            match State::of(folder).failure() {
                None => cost(folder, objective, until),
                Some(_) => None,
            }
        })
        .collect();
    costs.map(|costs| mean(&costs))
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
    let keys = label_keys(labels.iter().map(Vec::as_slice));
    let columns = ["trial".to_owned()]
        .into_iter()
        .chain(keys.clone())
        .chain(["cost".to_owned()]);
    let mut table = Table::new(columns);
    for (trial, (group, label)) in groups.iter().zip(&labels).enumerate() {
        let mut row = vec![Cell::new(trial.to_string(), trial)];
        row.extend(label_cells(&keys, label));
        let cost = group_cost(runs, group, spec.objective, u64::MAX);
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(cost(folder.path(), SearchObjective::Score, 30), Some(-0.7));
        assert_eq!(cost(folder.path(), SearchObjective::Score, 19), Some(-0.5));
        assert_eq!(cost(folder.path(), SearchObjective::Loss, 30), Some(1.0));
        assert_eq!(cost(folder.path(), SearchObjective::Score, 9), None);
        write("mean_squared_error");
        assert_eq!(cost(folder.path(), SearchObjective::Score, 30), Some(0.5));
    }
}
