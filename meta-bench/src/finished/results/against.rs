//! Learners beside baselines on the same test.

use std::path::Path;

use meta_core::{
    stats::{holm, mean, paired_t},
    toolkit::Toolkit,
    train::eval::Metric,
};

use serde_json::{Map, Value};

use super::{
    finished_run::{FinishedRun, markdown, untrained},
    published::reference,
};
use crate::{
    finished::store::short,
    output::units::duration_text,
    run::result::{Outsiders, TestResult},
};

/// The baselines that a reviewer asks for: what others are better than, or not.
const BASELINES: [&str; 2] = ["nearest_centroid", "logistic"];

/// The runs of one test: the same frozen episodes.
pub struct Against {
    data: String,
    way: usize,
    shot: usize,
    query: usize,
    episode_set: String,
    floor: Vec<f64>,
    learners: Vec<Tested>,
}

struct Tested {
    result: TestResult,
    /// The settings of its learner.
    settings: Map<String, Value>,
    scores: Vec<f64>,
    meta_batch: usize,
    commit: String,
}

impl Tested {
    fn outsiders(&self) -> Option<&Outsiders> {
        self.result.probabilities.as_ref()?.outsiders.as_ref()
    }

    /// Its cells on outsiders.
    fn rejection(&self) -> String {
        self.outsiders().map_or(" – | – |".to_owned(), |found| {
            format!(
                " {:.3} ± {:.3} | {:.1} ± {:.1} % |",
                found.auroc.mean,
                found.auroc.ci95,
                100.0 * found.fpr95.mean,
                100.0 * found.fpr95.ci95
            )
        })
    }
}

/// What a table calls the data of a run: its file without the ending, or its source.
pub fn data<T: Toolkit>(run: &FinishedRun<T>) -> String {
    let path = run.experiment.manifest.source.settings["path"].as_str();
    let path = Path::new(path.unwrap_or_default());
    match path.file_stem() {
        Some(stem) => stem.to_string_lossy().into_owned(),
        None => run.result.source.clone(),
    }
}

impl Against {
    /// The test of a run.
    pub fn new<T: Toolkit>(run: &FinishedRun<T>) -> Self {
        let mut test = Against {
            data: data(run),
            way: run.result.way,
            shot: run.result.shot,
            query: run.result.query,
            episode_set: run.result.episode_set.clone(),
            floor: run.baseline.clone(),
            learners: Vec::new(),
        };
        test.add(run);
        test
    }

    /// Whether a run was tested on these episodes.
    pub fn is_of<T: Toolkit>(&self, run: &FinishedRun<T>) -> bool {
        self.episode_set == run.result.episode_set
    }

    /// Adds a run of this test.
    pub fn add<T: Toolkit>(&mut self, run: &FinishedRun<T>) {
        self.learners.push(Tested {
            result: run.result.clone(),
            settings: run
                .experiment
                .manifest
                .learner
                .settings
                .as_object()
                .cloned()
                .unwrap_or_default(),
            scores: run.scores.clone(),
            meta_batch: run.experiment.manifest.train.meta_batch,
            commit: run.commit(),
        });
    }

    fn baseline(&self, name: &str) -> Option<&Tested> {
        let accuracy = |row: &&Tested| row.result.metric == Metric::Accuracy;
        let mut found = self.learners.iter().filter(accuracy);
        found.find(|row| row.result.learner == name)
    }

    /// Whether all baselines are among the runs.
    pub fn has_baselines(&self) -> bool {
        BASELINES.iter().all(|name| self.baseline(name).is_some())
    }

    /// The table of this test, the best learner first; nothing without the baselines.
    pub fn section(&self) -> Option<String> {
        let baselines: Vec<&Tested> = BASELINES
            .iter()
            .map(|name| self.baseline(name))
            .collect::<Option<_>>()?;
        let mut order: Vec<usize> = (0..self.learners.len()).collect();
        let score = |&row: &usize| -self.learners[row].result.mean;
        order.sort_by(|a, b| score(a).total_cmp(&score(b)));
        let columns: Vec<Vec<Difference>> = baselines
            .iter()
            .map(|baseline| self.differences(baseline))
            .collect();
        let share = self.learners.iter().find_map(Tested::outsiders);
        let share = share.map(|outsiders| outsiders.share);
        let mut out = format!(
            "## {}, {}-way {}-shot, {} queries a class\n\n\
             {} episodes `{}`. Floor, the nearest class mean of the raw inputs: {:.2} %.{}{}\n\n\
             | learner | encoder | test score | − {} | − {} | untrained |{} iterations × tasks | training | commit \
             |\n|---|---|--:|--:|--:|--:|{}--:|--:|---|\n",
            markdown(&self.data),
            self.way,
            self.shot,
            self.query,
            self.floor.len(),
            markdown(&short(&self.episode_set)),
            100.0 * mean(&self.floor),
            reference(&self.data, self.way, self.shot)
                .map_or(String::new(), |text| format!(" {text}")),
            share.map_or(String::new(), |share| format!(
                " Outsiders: {:.0} % of the queries are of no class of the task.",
                100.0 * share
            )),
            BASELINES[0],
            BASELINES[1],
            share.map_or("", |_| " AUROC | outsiders accepted at 95 % |"),
            share.map_or("", |_| "--:|--:|"),
        );
        for row in order {
            let tested = &self.learners[row];
            out.push_str(&format!(
                "| {} | {} | {:.2} ± {:.2} % | {} | {} | {} |{} {} × {} | {} | {} |\n",
                self.name(tested),
                markdown(&tested.result.encoder),
                100.0 * tested.result.mean,
                100.0 * tested.result.ci95,
                columns[0][row].text,
                columns[1][row].text,
                untrained(&tested.result, 100.0, 2),
                share.map_or(String::new(), |_| tested.rejection()),
                tested.result.iterations,
                tested.meta_batch,
                duration_text(tested.result.train_seconds),
                tested.commit,
            ));
        }
        out.push('\n');
        for (name, column) in BASELINES.iter().zip(&columns) {
            out.push_str(&self.verdict(name, column));
        }
        out.push('\n');
        Some(out)
    }

    /// The name of a learner, with the settings in which others of the same name differ.
    fn name(&self, of: &Tested) -> String {
        let others = || {
            let rows = self.learners.iter();
            rows.filter(|row| row.result.learner == of.result.learner)
        };
        let differs = |(key, value): &(&String, &Value)| {
            others().any(|other| other.settings.get(*key) != Some(*value))
        };
        let own = of.settings.iter().filter(differs);
        let own: Vec<String> = own.map(|(key, value)| format!("{key} = {value}")).collect();
        let name = &of.result.learner;
        match own.is_empty() {
            true => markdown(name),
            false => markdown(&format!("{name} ({})", own.join(", "))),
        }
    }

    /// The differences of all learners to one of them, corrected for their number.
    fn differences(&self, baseline: &Tested) -> Vec<Difference> {
        let pairs: Vec<_> = self
            .learners
            .iter()
            .map(|row| paired_t(&row.scores, &baseline.scores))
            .collect();
        let own = |row: &Tested| std::ptr::eq(row, baseline);
        let others = self
            .learners
            .iter()
            .zip(&pairs)
            .filter(|(row, _)| !own(row));
        let p_values: Vec<f64> = others.map(|(_, pair)| pair.p_value).collect();
        let mut corrected = holm(&p_values).into_iter();
        let differences = self.learners.iter().zip(&pairs).map(|(row, pair)| {
            let p_value = if own(row) {
                1.0
            } else {
                corrected.next().unwrap_or(1.0)
            };
            let (gap, half) = (pair.difference.mean, pair.difference.half_width);
            Difference {
                text: if own(row) {
                    "–".to_owned()
                } else {
                    format!("{:+.2} ± {:.2}", 100.0 * gap, 100.0 * half).replace('-', "−")
                },
                gap,
                p_value,
            }
        });
        differences.collect()
    }

    /// Which learners are better than a baseline, and which are worse.
    fn verdict(&self, baseline: &str, column: &[Difference]) -> String {
        let names = |sign: f64| {
            let rows = self.learners.iter().zip(column);
            let rows = rows.filter(|(_, d)| d.p_value < LEVEL && d.gap * sign > 0.0);
            let names: Vec<String> = rows.map(|(row, _)| self.name(row)).collect();
            match names.is_empty() {
                true => "none".to_owned(),
                false => names.join(", "),
            }
        };
        format!(
            "- Better than `{baseline}`: {}. Worse: {}.\n",
            names(1.0),
            names(-1.0)
        )
    }
}

/// A difference counts below this p-value, corrected by Holm for the rows of the table.
const LEVEL: f64 = 0.05;

struct Difference {
    text: String,
    gap: f64,
    p_value: f64,
}
