//! Writes `docs/results.md`: finished runs as a table, measured beside published.

mod acted;
mod against;
mod calibrated;
mod finished_run;
mod published;

use std::path::{Path, PathBuf};

use meta_core::{
    stats::{Interval, paired_t},
    toolkit::Toolkit,
};

use acted::Acted;
use against::Against;
use calibrated::Calibrated;
use finished_run::{FinishedRun, markdown};

use crate::{failure::Result, run::result::Nats};

/// The page for the finished runs in `folders`, in their order. Data sets are in `data`, or where they
/// were recorded.
///
/// # Errors
/// When one of them is not a finished run, or its data is not there.
pub fn results<T: Toolkit>(folders: &[PathBuf], data: Option<&Path>) -> Result<String> {
    let mut protocols = String::new();
    let mut densities = Densities::default();
    let mut calibrated = Calibrated::default();
    let mut acted = Acted::default();
    let mut tests: Vec<Against> = Vec::new();
    let mut rows = Vec::new();
    for folder in folders {
        let run = FinishedRun::<T>::read(folder, data)?;
        densities.add(&run);
        calibrated.add(folder, &run)?;
        acted.add(&run);
        let known = tests.iter().position(|test| test.is_of(&run));
        match known {
            Some(test) => tests[test].add(&run),
            None => tests.push(Against::new(&run)),
        }
        let set = run.result.episode_set.clone();
        rows.push((known.unwrap_or(tests.len() - 1), set, run.row()));
        protocols.push_str(&run.protocol());
    }
    // Runs that share their test with baselines, or with other policies, have a table of their own for each test.
    let apart = rows
        .iter()
        .filter(|(test, set, _)| !tests[*test].has_baselines() && !acted.has(set));
    let mut table: String = apart.map(|(.., row)| row.as_str()).collect();
    let mut against: String = tests.iter().filter_map(Against::section).collect();
    if !against.is_empty() {
        against = format!(
            "Differences are paired by episode, in percentage points. *Better* and *worse*: p < 0.05 by Student's \
             paired t-test, corrected by Holm for the rows of a table.\n\n{against}"
        );
    }
    if !table.is_empty() {
        table = format!(
            "The baseline is the score of a rule that learns nothing across tasks, on the \
             same episodes; beside it, by how many standard errors of the paired difference the learner \
             is better, and the score of the same learner before training: *not learned* where training did not \
             better it (95 %, paired).\n\n\
             | manifest | learner | test score | baseline | standard errors above | untrained | published | episodes | \
             iterations × tasks | training | commit |\n|---|---|---|---|---|---|---|---|---|---|---|\n{table}\n"
        );
    }
    Ok(format!(
        "# Results\n\n\
         Written from finished runs of the shipped manifests, by `meta sweep MANIFEST… --results FILE` or \
         `meta docs results RUN_DIR…`. Intervals are 95 %, over test episodes, one seed; they do not include the \
         variation over training seeds.\n\n{table}{against}\
         {}{}{}## Protocol\n\n{protocols}\n\
         The published figures are of other protocols: see the first lines of each manifest for what \
         differs (iterations, classes, rotations, normalisation).\n",
        acted.section(),
        densities.section(),
        calibrated.section()
    ))
}

/// Log-likelihoods of the learners that predict densities.
#[derive(Default)]
struct Densities {
    rows: String,
    /// The first run on each set of episodes: the set, its learner and its log-likelihoods.
    first: Vec<(String, String, Vec<f64>)>,
}

impl Densities {
    fn add<T: Toolkit>(&mut self, run: &FinishedRun<T>) {
        let result = &run.result;
        let Some(density) = result.log_likelihood else {
            return;
        };
        let own = &run.log_likelihoods.learner;
        let known = self
            .first
            .iter()
            .find(|(set, ..)| *set == result.episode_set);
        let better = match known {
            Some((_, name, others)) if others.len() == own.len() => {
                let Interval {
                    mean, half_width, ..
                } = paired_t(own, others).difference;
                format!("{mean:+.4} ± {half_width:.4} ({})", markdown(name))
            }
            _ => "–".to_owned(),
        };
        if known.is_none() {
            self.first.push((
                result.episode_set.clone(),
                result.learner.clone(),
                own.clone(),
            ));
        }
        let data = match run.experiment.source.describe()["settings"]["kernel"].as_str() {
            Some(kernel) => markdown(&format!("{}, {kernel}", result.source)),
            None => markdown(&result.source),
        };
        let shown = |nats: Option<Nats>| nats.map_or("–".to_owned(), |nats| nats.to_string());
        self.rows.push_str(&format!(
            "| `{}` | {} | {data}, {}-shot | {} | {} | {} | {better} |\n",
            markdown(&result.name),
            markdown(&result.learner),
            result.shot,
            density.learner,
            shown(density.exact),
            shown(density.below_exact),
        ));
    }

    /// The section, nothing where no learner predicts a density.
    fn section(&self) -> String {
        if self.rows.is_empty() {
            String::new()
        } else {
            format!(
                "## Log-likelihood\n\n\
             Mean log-density of the query targets given the support, in nats. The exact posterior \
             is the ceiling: the density by the distribution that the source draws its tasks from. \
             Differences are paired by test episode.\n\n\
             | manifest | learner | data | log-likelihood | exact posterior | below it | against the first \
             run on the same episodes |\n|---|---|---|---|---|---|---|\n{}\n",
                self.rows
            )
        }
    }
}
