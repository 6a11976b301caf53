//! Runs as tables: one row a run, an episode, or a logged number.

use meta_core::train::eval::LogLikelihoods;
use serde_json::{Map, Value, json};

use crate::{
    failure::Result,
    finished::{compare::read_scores, metrics::Curves, store::Stored},
    manifest::Manifest,
    output::table::{Cell, Table},
};

/// The columns that say which run a row is of.
const OF_RUN: [&str; 7] = [
    "run", "identity", "name", "learner", "encoder", "source", "seed",
];

fn of_run(run: &Stored) -> Vec<Value> {
    let text = |key: &str| run.settings.get(key).cloned().unwrap_or(Value::Null);
    vec![
        json!(run.name()),
        json!(run.hash),
        text("name"),
        text("learner.name"),
        text("encoder.name"),
        text("data.source"),
        text("seed"),
    ]
}

fn cell(value: Value) -> Cell {
    let text = match &value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    Cell { text, value }
}

fn row(run: &Stored, rest: impl IntoIterator<Item = Value>) -> Vec<Cell> {
    of_run(run).into_iter().chain(rest).map(cell).collect()
}

fn columns(rest: &[&str]) -> Table {
    Table::new(OF_RUN.iter().chain(rest).copied())
}

/// A row for each episode of each run after each adaptation step.
///
/// # Errors
/// When scores cannot be read.
pub fn scores(runs: &[Stored]) -> Result<Table> {
    let rest = [
        "metric",
        "episode_set",
        "step",
        "episode",
        "score",
        "log_likelihood",
        "exact",
    ];
    let mut table = columns(&rest);
    for run in runs {
        let Some(result) = &run.result else { continue };
        let read = read_scores(run)?;
        let LogLikelihoods { learner, exact } = read.log_likelihood.unwrap_or_default();
        let last = read.scores.len().saturating_sub(1);
        for (step, scores) in read.scores.iter().enumerate() {
            for (episode, score) in scores.iter().enumerate() {
                let density = |of: &[f64]| match step == last {
                    true => json!(of.get(episode)),
                    false => Value::Null,
                };
                table.rows.push(row(
                    run,
                    [
                        json!(result.metric),
                        json!(result.episode_set),
                        json!(step),
                        json!(episode),
                        json!(score),
                        density(&learner),
                        density(&exact),
                    ],
                ));
            }
        }
    }
    Ok(table)
}

/// A row for each logged number of each run.
///
/// # Errors
/// When metrics cannot be read.
pub fn curves(runs: &[Stored]) -> Result<Table> {
    let mut table = columns(&["kind", "iteration", "number", "value"]);
    for run in runs.iter().filter(|run| run.evaluation.is_none()) {
        let curves = Curves::read(&run.folder)?;
        let train = curves.train.iter().map(|logged| ("train", logged));
        let validation = curves
            .validation
            .iter()
            .map(|logged| ("validation", logged));
        for (kind, logged) in train.chain(validation) {
            let score = ("score".to_owned(), logged.score);
            for (name, value) in std::iter::once(&score).chain(&logged.numbers) {
                table.rows.push(row(
                    run,
                    [
                        json!(kind),
                        json!(logged.iteration),
                        json!(name),
                        json!(value),
                    ],
                ));
            }
        }
    }
    Ok(table)
}

/// A row for each run: its result and its settings.
pub fn results(runs: &[Stored]) -> Table {
    let result_of = |run: &Stored| -> Map<String, Value> {
        let result = run.result.as_ref().map(|result| json!(result));
        let mut fields = match result {
            Some(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        // The folder is the first column; nested fields have rows of their own.
        fields.retain(|key, value| key != "run_dir" && key != "hash" && !value.is_array());
        fields
    };
    let fields: Vec<Map<String, Value>> = runs.iter().map(result_of).collect();
    let known = |name: &String| OF_RUN.contains(&name.as_str());
    let mut of_results: Vec<&String> = fields.iter().flat_map(Map::keys).collect();
    let mut keys: Vec<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    keys.retain(|key| Manifest::is_identity(key) && *key != "seed");
    for names in [&mut of_results, &mut keys] {
        names.sort();
        names.dedup();
        names.retain(|name| !known(name));
    }
    keys.retain(|key| !of_results.contains(key));
    let names: Vec<&str> = ["state"]
        .into_iter()
        .chain(of_results.iter().chain(&keys).map(|name| name.as_str()))
        .collect();
    let mut table = columns(&names);
    for (run, fields) in runs.iter().zip(&fields) {
        let own = of_results
            .iter()
            .map(|name| fields.get(*name).cloned().unwrap_or(Value::Null));
        let settings = keys
            .iter()
            .map(|key| run.settings.get(*key).cloned().unwrap_or(Value::Null));
        let state = std::iter::once(json!(run.state.name()));
        table.rows.push(row(run, state.chain(own).chain(settings)));
    }
    table
}
