//! `docs/results.md`: finished runs as a table, measured beside published.

use std::path::PathBuf;

use meta_core::eval::Metric;
use serde_json::Value;

use crate::{
    failure::Result,
    progress::duration_text,
    report::TestResult,
    runner::{
        folder::{RECORD, read_json},
        read_result,
    },
};

/// A published figure: learner, data source, way, shot, per cent, where.
struct Published {
    learner: &'static str,
    source: &'static str,
    way: usize,
    shot: usize,
    percent: f64,
    paper: &'static str,
}

const PUBLISHED: [Published; 3] = [
    Published {
        learner: "maml",
        source: "omniglot",
        way: 5,
        shot: 1,
        percent: 98.7,
        paper: "Finn et al. 2017, table 1",
    },
    Published {
        learner: "protonet",
        source: "omniglot",
        way: 5,
        shot: 1,
        percent: 98.8,
        paper: "Snell et al. 2017, table 1",
    },
    Published {
        learner: "protonet",
        source: "omniglot",
        way: 20,
        shot: 1,
        percent: 96.0,
        paper: "Snell et al. 2017, table 1",
    },
];

fn published(result: &TestResult) -> String {
    PUBLISHED
        .iter()
        .find(|row| {
            (row.learner, row.source, row.way, row.shot)
                == (
                    result.learner.as_str(),
                    result.source.as_str(),
                    result.way,
                    result.shot,
                )
        })
        .map_or_else(
            || "–".to_owned(),
            |row| format!("{:.1} ({})", row.percent, row.paper),
        )
}

/// Model name of the processor, where the system tells it.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(
            || std::env::consts::ARCH.to_owned(),
            |(_, name)| name.trim().to_owned(),
        )
}

/// The page for the finished runs in `folders`, in their order.
///
/// # Errors
/// When one of them is not a finished run.
pub fn results(folders: &[PathBuf]) -> Result<String> {
    let mut table = String::new();
    let mut protocols = String::new();
    for folder in folders {
        let result = read_result(folder)?;
        let record = read_json(&folder.join(RECORD))?;
        let text = |value: &Value| match value {
            Value::Null => "–".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let (factor, unit, decimals) = match result.metric {
            Metric::Accuracy => (100.0, "%", 2),
            Metric::MeanSquaredError => (1.0, "MSE", 4),
        };
        table.push_str(&format!(
            "| `{}` | {:.decimals$} ± {:.decimals$} {unit} | {} | {} | {} | {} | {} |\n",
            result.name,
            factor * result.mean,
            factor * result.ci95,
            published(&result),
            result.episodes,
            result.iterations,
            duration_text(result.train_seconds),
            text(&record["commit"]).chars().take(10).collect::<String>(),
        ));
        let protocol = &record["protocol"];
        protocols.push_str(&format!(
            "- `{}`: {} with {} on {}, {} threads of {} ({}), {}; trained on {}; tested on {}; \
             normalisation `{}`{}; rotations `{}`; split `{}`; steps at test {}; parameters by \
             validation {}; seed {}; test episodes `{}`.\n",
            result.name,
            result.learner,
            result.encoder,
            result.source,
            text(&record["threads"]),
            processor(),
            text(&record["backend"]),
            text(&record["dtype"]),
            text(&protocol["train"]),
            text(&protocol["test"]),
            text(&protocol["normalisation"]),
            match protocol["transductive"].as_bool() {
                Some(true) => " (transductive)",
                _ => "",
            },
            text(&protocol["rotations"]),
            text(&protocol["data_split"]),
            text(&protocol["test_steps"]),
            text(&protocol["checkpoint_choice"]),
            result.seed,
            result.episode_set.chars().take(12).collect::<String>(),
        ));
        for step in &result.by_step {
            if step.step <= 1 || step.step + 1 == result.by_step.len() {
                protocols.push_str(&format!(
                    "  - after {} steps: {:.decimals$} ± {:.decimals$} {unit}\n",
                    step.step,
                    factor * step.mean,
                    factor * step.ci95,
                ));
            }
        }
    }
    Ok(format!(
        "# Results\n\n\
         Written by `meta docs results RUN_DIR… > docs/results.md` from finished runs of the shipped \
         manifests. Intervals are 95 %, over test episodes, one seed; they do not hold what another \
         seed would change. Training times are of a machine that other work shared.\n\n\
         | manifest | test score | published | episodes | iterations | training | commit |\n\
         |---|---|---|---|---|---|---|\n{table}\n\
         ## Protocol\n\n{protocols}\n\
         The published figures are of other protocols: see the first lines of each manifest for what \
         differs (iterations, classes, rotations, normalisation).\n"
    ))
}
