//! Writes `docs/ledger.md`: runs that repeat published experiments, those that reproduce their figure first. What a
//! row is made of is kept in `docs/ledger`, a small folder for each run, so that the page can be written again
//! without training.

use std::{
    fs,
    path::{Path, PathBuf},
};

use meta_core::{Error, files::write_atomically, train::eval::Metric};
use serde_json::{Value, json};

use super::{changed::Since, store::short};
use crate::{
    failure::{CommandError, Result},
    output::{
        table::{Format, escaped},
        units::{duration_text, score_text},
    },
    run::{
        evaluations::Evaluation,
        folder::{EVALS, METRICS, RECORD, RESULT, read_json},
        result::{Published, TestResult, read_result},
    },
};

/// Points below a published figure within which it counts as reproduced.
const REPRODUCED: f64 = 1.5;

/// What of a record is kept: nothing that names a place on the machine.
const KEPT: [&str; 10] = [
    "hash",
    "seed",
    "backend",
    "dtype",
    "threads",
    "system",
    "parameters",
    "versions",
    "commit",
    "protocol",
];

/// Settings that name a place on the machine.
const PLACES: [&str; 4] = [
    "/data/path",
    "/data/cache_dir",
    "/init_from",
    "/encoder/weights",
];

/// The page of the runs that are kept in `folder`, after those in `runs` have been kept there: run folders, or
/// evaluations in one (`RUN/evals/HASH.json`) whose parameters were tested on the data of a published experiment.
///
/// # Errors
/// When a run is not finished, an evaluation is of no published experiment, or the folder cannot be read or written.
pub fn ledger(folder: &Path, runs: &[PathBuf]) -> Result<String> {
    for run in runs {
        keep(folder, run)?;
    }
    let mut rows = Vec::new();
    let entries = fs::read_dir(folder).map_err(|error| Error::io(folder, "read", error))?;
    for entry in entries {
        let path = entry
            .map_err(|error| Error::io(folder, "read", error))?
            .path();
        if path.is_dir() {
            rows.push(Row::read(&path)?);
        }
    }
    rows.sort_by(|a, b| a.key().cmp(&b.key()));
    Ok(page(&rows))
}

/// What a run folder, or an evaluation in one, gives to a row: the result, the record, and the run folder.
fn given(path: &Path) -> Result<(TestResult, Value, PathBuf)> {
    if !path.is_file() {
        return Ok((
            read_result(path)?,
            read_json(&path.join(RECORD))?,
            path.to_owned(),
        ));
    }
    let folder = path.parent().filter(|folder| folder.ends_with(EVALS));
    let Some(run) = folder.and_then(Path::parent) else {
        return Err(CommandError::Usage(format!(
            "{}: expected a run folder, or an evaluation in one: RUN/{EVALS}/HASH.json",
            path.display()
        )));
    };
    let evaluation = Evaluation::read(path)?;
    let Some(name) = evaluation.repeats else {
        return Err(CommandError::Usage(format!(
            "{}: repeats no published experiment; `meta eval RUN --on MANIFEST`, with a manifest that has the learner \
             of the run, does",
            path.display()
        )));
    };
    let mut record = read_json(&run.join(RECORD))?;
    let mut result = evaluation.result;
    record["trained_as"] = json!(result.name);
    record["manifest"] = evaluation.manifest;
    (result.name, result.hash) = (name, evaluation.hash);
    Ok((result, record, run.to_owned()))
}

/// Copies what the page needs of the finished run, or the evaluation, at `path`.
fn keep(folder: &Path, path: &Path) -> Result<()> {
    let (mut result, record, run) = given(path)?;
    let name = format!("{}-{}", result.name, short(&result.hash));
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if name.starts_with('.') || !name.chars().all(plain) {
        return Err(CommandError::Usage(format!(
            "{}: `{name}` is no name of a run",
            path.display()
        )));
    }
    result.run_dir.clone_from(&name);
    let mut kept: Value = KEPT
        .iter()
        .map(|key| (*key, record[*key].clone()))
        .collect();
    kept["manifest"] = record["manifest"].clone();
    if let Some(trained_as) = record.get("trained_as") {
        kept["trained_as"] = trained_as.clone();
    }
    for place in PLACES {
        if let Some(place) = kept["manifest"].pointer_mut(place) {
            *place = json!("");
        }
    }
    let own = folder.join(&name);
    fs::create_dir_all(&own).map_err(|error| Error::io(&own, "make", error))?;
    for (file, content) in [(RESULT, json!(result)), (RECORD, kept)] {
        write_atomically(&own.join(file), format!("{content:#}\n").as_bytes())?;
    }
    let metrics = run.join(METRICS);
    let bytes = fs::read(&metrics).map_err(|error| Error::io(&metrics, "read", error))?;
    write_atomically(&own.join(METRICS), &bytes)?;
    Ok(())
}

/// A run that is kept.
struct Row {
    result: TestResult,
    record: Value,
    /// What has changed of its code.
    since: Since,
}

impl Row {
    fn read(folder: &Path) -> Result<Self> {
        let (result, record) = (read_result(folder)?, read_json(&folder.join(RECORD))?);
        let commit = record["commit"].as_str().unwrap_or_default();
        Ok(Row {
            since: Since::of(folder, commit, &result.learner),
            result,
            record,
        })
    }

    /// What rows are sorted by.
    fn key(&self) -> (&str, &str, u64, &str) {
        let result = &self.result;
        (&result.learner, &result.name, result.seed, &result.hash)
    }

    /// The published figure, of an accuracy, and how many points the run is below it.
    fn figure(&self) -> Option<(&Published, f64)> {
        let published = self.result.published.as_ref()?;
        let is_accuracy = self.result.metric == Metric::Accuracy;
        is_accuracy.then_some((published, published.score - 100.0 * self.result.mean))
    }

    /// The row of the table.
    fn text(&self) -> String {
        let (result, train) = (&self.result, &self.record["manifest"]["train"]);
        let markdown = |text: &str| escaped(text, Format::Markdown);
        let score = |mean, ci95| score_text(result.metric, result.interval(mean, ci95));
        let published = self.figure().map_or("–".to_owned(), |(published, below)| {
            let paper = markdown(&published.paper);
            format!("{} ({paper}); {:+.1}", published.score, -below)
        });
        let untrained = result.untrained.map_or("–".to_owned(), |untrained| {
            score(untrained.score.mean, untrained.score.ci95)
        });
        let threads = self.record["threads"].as_f64();
        let hours = threads.map_or("–".to_owned(), |threads| {
            duration_text(threads * result.train_seconds)
        });
        let commit = self.record["commit"].as_str().unwrap_or("–");
        let source = match self.record["trained_as"].as_str() {
            None => String::new(),
            Some(name) if name == result.name => ", tested again".to_owned(),
            Some(name) => format!(", trained as `{}`", markdown(name)),
        };
        format!(
            "| `{}`{source} | {} | {}-way {}-shot, {} | {} | {published} | {untrained} | {} × {} | {hours} | {} | {} | {} |\n",
            markdown(&result.name),
            markdown(&result.learner),
            result.way,
            result.shot,
            result.query,
            score(result.mean, result.ci95),
            result.iterations,
            train["meta_batch"],
            result.seed,
            markdown(&commit.chars().take(10).collect::<String>()),
            self.since.words(),
        )
    }
}

/// The page of these rows.
fn page(rows: &[Row]) -> String {
    let section = |title: &str, note: &str, of: &dyn Fn(Option<f64>) -> bool| {
        let own = rows
            .iter()
            .filter(|row| of(row.figure().map(|(_, below)| below)));
        let text: String = own.map(Row::text).collect();
        match text.is_empty() {
            true => String::new(),
            false => format!(
                "## {title}\n\n{note}\n\n\
                 | manifest | learner | task | here | published; here above it, in points | untrained | \
                 iterations × tasks | processor time | seed | commit | code since |\n\
                 |---|---|---|---|---|---|---|---|---|---|---|\n\
                 {text}\n"
            ),
        }
    };
    let instances = rows.iter().filter_map(|row| {
        let name = escaped(&row.result.name, Format::Markdown);
        let instances = row.result.instances()?;
        Some(format!("`{name}` by instance, in %: {instances}.\n\n"))
    });
    let instances: String = instances.collect();
    let parts = [
        section(
            "Reproduced",
            "Within 1.5 points of the published figure, or above it.",
            &|below| below.is_some_and(|below| below <= REPRODUCED),
        ),
        section(
            "Further away",
            "More than 1.5 points below the published figure, after the iterations that the row says; what the paper's \
             protocol is stands in the manifest.",
            &|below| below.is_some_and(|below| below > REPRODUCED),
        ),
        section(
            "Without a published figure",
            "No paper has this setting.",
            &|below| below.is_none(),
        ),
    ];
    format!(
        "# Reproduction ledger\n\n\
         Written by `meta docs ledger RUN…` from finished runs of the manifests in `experiments/published`, kept \
         in [ledger](ledger). *Task*: classes, items of a class to learn from, and queries of a class. Intervals are \
         95 %, over test episodes, one seed; the published figures are of their papers' own data, splits and test \
         episodes. *Untrained* is the same learner before training, on the same episodes. Processor time is that of \
         training times the threads of the run, whether or not they were busy. *Trained as*, *tested again*: the \
         parameters are those of a run of that manifest, or of this one with another test, tested by \
         `meta eval RUN --on` this manifest. *Code since*: what is different now from the row's commit, the learner's \
         own file or what every learner stands on; *same bits* where short trainings of the learner, which a test holds to \
         recorded fingerprints, end as they did then.\n\n\
         {}{instances}",
        parts.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the result of a run of `learner` with this accuracy.
    fn run(root: &Path, learner: &str, mean: f64, published: Option<f64>) -> PathBuf {
        let folder = root.join(learner);
        let published =
            published.map(|score| json!({"score": score, "paper": "A | B 2017, table 1"}));
        let mut result = json!({
            "name": format!("{learner}-omniglot"), "hash": format!("{learner:0<64}"),
            "run_dir": "/somewhere/else", "learner": learner, "encoder": "conv4", "source": "omniglot",
            "split": "test", "way": 5, "shot": 1, "query": 15, "metric": "accuracy", "mean": mean, "ci95": 0.003,
            "method": "t", "episodes": 1000, "episode_set": "0", "loss": 0.1, "by_step": [], "seed": 0,
            "test_seed": 0, "backend": "flex", "parameters": 10, "iterations": 4000, "ending": "finished",
            "by_instance": [{"instance": 1, "mean": 0.25, "ci95": 0.01}, {"instance": 2, "mean": 0.5, "ci95": 0.02}],
            "best_iteration": 4000, "best_value": 0.9, "train_seconds": 1800.0, "test_seconds": 1.0
        });
        if let Some(published) = published {
            result["published"] = published;
        }
        let record = json!({
            "hash": "0", "threads": 2, "commit": "0123456789abcdef", "data": {"folder": "/somewhere/else"},
            "manifest": {"train": {"meta_batch": 8}, "data": {"path": "/somewhere/else"}}
        });
        fs::create_dir_all(&folder).unwrap();
        for (file, content) in [(RESULT, result), (RECORD, record)] {
            fs::write(folder.join(file), content.to_string()).unwrap();
        }
        fs::write(folder.join(METRICS), "{}\n").unwrap();
        folder
    }

    /// Reproduced rows come first, then those further away, then the others; the page is the same when it is written again
    /// from what is kept, which names no place of the machine.
    #[test]
    fn rows_are_sorted_by_what_they_reach() {
        let folder = tempfile::tempdir().unwrap();
        let (runs, kept) = (folder.path().join("runs"), folder.path().join("ledger"));
        let all = [
            run(&runs, "anil", 0.95, None),
            run(&runs, "maml", 0.9, Some(98.7)),
            run(&runs, "protonet", 0.9731, Some(98.8)),
        ];
        let page = ledger(&kept, &all).unwrap();
        let place = |part: &str| page.find(part).unwrap_or_else(|| panic!("{part}: {page}"));
        let order = [
            "## Reproduced",
            "`protonet-omniglot`",
            "## Further away",
            "`maml-omniglot`",
            "## Without",
            "`anil-omniglot`",
        ]
        .map(place);
        assert!(order.is_sorted(), "{page}");
        assert!(
            page.contains("98.7 (A \\| B 2017, table 1); -8.7"),
            "{page}"
        );
        assert!(page.contains("| 4000 × 8 | 1 h 0 min |"), "{page}");
        assert!(page.contains("| 0123456789 | unknown |"), "{page}");
        let instances = "`maml-omniglot` by instance, in %: 1: 25.0 ± 1.0, 2: 50.0 ± 2.0.";
        assert!(page.contains(instances), "{page}");
        assert_eq!(ledger(&kept, &[]).unwrap(), page);
        for entry in fs::read_dir(&kept).unwrap() {
            for file in [RESULT, RECORD] {
                let text = fs::read_to_string(entry.as_ref().unwrap().path().join(file)).unwrap();
                assert!(!text.contains("/somewhere"), "{text}");
            }
        }
        let message = ledger(&kept, &[runs.join("absent")])
            .unwrap_err()
            .to_string();
        assert!(message.contains("absent"), "{message}");
    }
}
