//! Says in words what a number of a run is, and what it is not.

use meta_core::train::eval::Metric;
use serde_json::Value;

use crate::{finished::store::short, run::result::TestResult};

fn text<'a>(protocol: &'a Value, key: &str) -> Option<&'a str> {
    protocol[key].as_str()
}

/// What the interval of a single run is over.
pub fn interval(result: &TestResult) -> String {
    format!(
        "95 % interval by Student's t over {} frozen test episodes of one training (seed {}). It holds for \
         these parameters: it says nothing of the variation between trainings with other seeds.",
        result.episodes, result.seed
    )
}

/// What was measured, and how: a sentence each.
pub fn protocol(result: &TestResult, record: &Value) -> Vec<String> {
    let protocol = &record["protocol"];
    let mut out = vec![match result.metric {
        Metric::Accuracy => format!(
            "A test episode has {} classes with {} labelled items and {} queries each. Its score is the share \
             of queries whose class is predicted.",
            result.way, result.shot, result.query
        ),
        Metric::MeanSquaredError => format!(
            "A test episode is a function with {} support points and {} queries. Its score is the mean \
             squared error of the queries; lower is better.",
            result.shot, result.query
        ),
        Metric::Return => format!(
            "A test episode is a task to act in: a trial has {} of its episodes, and the policy remembers from \
             one to the next. Its score is the total reward, the mean of {} trials; higher is better.",
            result.shot, result.query
        ),
    }];
    out.push(format!(
        "The {} test episodes come from the split “{}” and are the same for every learner: their hash is {}.",
        result.episodes,
        result.split,
        short(&result.episode_set)
    ));
    if let Some((train, test)) = text(protocol, "train").zip(text(protocol, "test")) {
        out.push(if train == test {
            format!("Training tasks have the same shape: {train}.")
        } else {
            format!(
                "Training tasks are {train}, test tasks {test}: scores of training and of validation do not \
                 compare."
            )
        });
    }
    out.extend(text(protocol, "normalisation").map(normalisation));
    out.extend(protocol["transductive"].as_bool().map(transductive));
    if let Some(steps) = protocol["test_steps"].as_u64() {
        out.push(format!("At test the learner adapts in {steps} steps."));
    }
    out.push(chosen(result, text(protocol, "checkpoint_choice")));
    if let Some(rotations) = text(protocol, "rotations") {
        out.push(format!("Rotations of images: “{rotations}”."));
    }
    if let Some(split) = text(protocol, "data_split") {
        out.push(format!("Classes are split as in “{split}”."));
    }
    if let Some(data) = text(protocol, "data_protocol") {
        out.push(format!("Protocol of the data: “{data}”."));
    }
    out
}

/// What a normalisation averages over.
fn normalisation(statistics: &str) -> String {
    match statistics {
        "episode" => {
            "Features are normalised by the statistics of all items of an episode, its queries included."
        }
        "support" => "Features are normalised by the statistics of the support items of an episode.",
        "running" => "Features are normalised by moving averages over training.",
        "layer" => "Features are normalised item by item.",
        "none" => "Features are not normalised.",
        other => return format!("Features are normalised by “{other}”."),
    }
    .to_owned()
}

fn transductive(is: bool) -> String {
    match is {
        true => {
            "The predictions are transductive: one for a query may depend on the other queries of its \
             episode. Compare them with transductive results alone."
        }
        false => "The predictions are inductive: one for a query does not depend on the other queries.",
    }
    .to_owned()
}

/// Which parameters were tested.
fn chosen(result: &TestResult, choice: Option<&str>) -> String {
    let by = match choice {
        Some("accuracy") if result.metric == Metric::Accuracy => "the highest validation accuracy",
        Some("accuracy") if result.metric == Metric::Return => "the highest validation return",
        Some("accuracy") => "the lowest validation error",
        Some("loss") => "the lowest validation loss",
        _ => "no choice: they are the last ones",
    };
    format!(
        "The tested parameters are those of iteration {} of {}, by {by}.",
        result.best_iteration, result.iterations
    )
}
