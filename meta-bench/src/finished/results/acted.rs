//! Policies beside known ones on the same tasks.

use meta_core::{stats::paired_t, toolkit::Toolkit, train::eval::Metric};
use serde_json::Value;

use super::{
    finished_run::{FinishedRun, markdown, untrained},
    published::published_return,
};
use crate::{finished::store::short, output::units::duration_text, run::result::TestResult};

/// Known policies to which all others have paired differences, where they were run.
const AGAINST: [&str; 3] = ["greedy", "thompson", "psrl"];

/// The policies that were run on one set of tasks.
#[derive(Default)]
pub struct Acted(Vec<Tasks>);

struct Tasks {
    episode_set: String,
    /// The environments, with the settings of their size.
    name: String,
    policies: Vec<Policy>,
}

struct Policy {
    name: String,
    result: TestResult,
    scores: Vec<f64>,
    published: String,
    meta_batch: usize,
    commit: String,
}

/// Settings that say how large an environment is.
const SIZES: [&str; 3] = ["arms", "pulls", "horizon"];

impl Acted {
    /// Adds a run, if its learner acts.
    pub fn add<T: Toolkit>(&mut self, run: &FinishedRun<T>) {
        let result = &run.result;
        if result.metric != Metric::Return {
            return;
        }
        let manifest = &run.experiment.manifest;
        let policy = manifest.learner.settings["policy"].as_str();
        let known = policy.filter(|_| result.learner == "reference_policy");
        let name = known.unwrap_or(&result.learner).to_owned();
        let sizes = SIZES.iter().filter_map(|key| {
            let value: &Value = &manifest.source.settings[*key];
            value.as_u64().map(|size| (*key, size))
        });
        let sizes: Vec<(&str, u64)> = sizes.collect();
        let published = published_return(&result.source, &sizes, result.shot, &name);
        let policy = Policy {
            published: published.map_or("–".to_owned(), |figure| format!("{figure:.1}")),
            name,
            result: result.clone(),
            scores: run.scores.clone(),
            meta_batch: manifest.train.meta_batch,
            commit: run.commit(),
        };
        let sizes = sizes.iter().map(|(key, size)| format!(", {size} {key}"));
        let name = result.source.clone() + &sizes.collect::<String>();
        let known = self
            .0
            .iter_mut()
            .find(|tasks| tasks.episode_set == result.episode_set);
        match known {
            Some(tasks) => tasks.policies.push(policy),
            None => self.0.push(Tasks {
                episode_set: result.episode_set.clone(),
                name: format!("{name}, trials of {} episodes", result.shot),
                policies: vec![policy],
            }),
        }
    }

    /// Whether tasks have a table of their own: more than one policy acted in them.
    pub fn has(&self, episode_set: &str) -> bool {
        let mut tasks = self.0.iter();
        tasks.any(|tasks| tasks.episode_set == episode_set && tasks.policies.len() > 1)
    }

    /// A table for each set of tasks, the best policy first.
    pub fn section(&self) -> String {
        let several = self.0.iter().filter(|tasks| tasks.policies.len() > 1);
        several.map(Tasks::section).collect()
    }
}

impl Tasks {
    fn section(&self) -> String {
        let known = |name: &&str| self.policies.iter().find(|policy| policy.name == *name);
        let against: Vec<&Policy> = AGAINST.iter().filter_map(known).collect();
        let mut out = format!(
            "## {}\n\n{} tasks `{}`, total reward of a trial. Differences are paired by task. The published figures are \
             of other tasks of the same kind.\n\n| policy | return |",
            markdown(&self.name),
            self.policies[0].scores.len(),
            markdown(&short(&self.episode_set)),
        );
        for policy in &against {
            out.push_str(&format!(" − {} |", markdown(&policy.name)));
        }
        out.push_str(
            " published | untrained | iterations × tasks | training | commit |\n|---|--:|",
        );
        out.push_str(&"--:|".repeat(against.len()));
        out.push_str("--:|--:|--:|--:|---|\n");
        let mut order: Vec<&Policy> = self.policies.iter().collect();
        order.sort_by(|a, b| b.result.mean.total_cmp(&a.result.mean));
        for policy in order {
            let result = &policy.result;
            out.push_str(&format!(
                "| {} | {:.2} ± {:.2} |",
                markdown(&policy.name),
                result.mean,
                result.ci95
            ));
            for other in &against {
                let text = if std::ptr::eq(*other, policy) {
                    "–".to_owned()
                } else {
                    let gap = paired_t(&policy.scores, &other.scores).difference;
                    format!("{:+.2} ± {:.2}", gap.mean, gap.half_width).replace('-', "−")
                };
                out.push_str(&format!(" {text} |"));
            }
            let trained = match result.iterations {
                0 => "– | –".to_owned(),
                iterations => format!(
                    "{iterations} × {} | {}",
                    policy.meta_batch,
                    duration_text(result.train_seconds)
                ),
            };
            out.push_str(&format!(
                " {} | {} | {trained} | {} |\n",
                policy.published,
                untrained(result, 1.0, 2),
                policy.commit
            ));
        }
        out.push('\n');
        out
    }
}
