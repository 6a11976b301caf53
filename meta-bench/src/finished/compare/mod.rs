//! `meta compare`: what finished runs say about each other.
//!
//! Runs that differ in nothing but the seed are a group. Two intervals say two things:
//!
//! * *over seeds*: the interval of the runs' means, which is what another training would change;
//! * *over episodes*: the interval of each frozen episode's mean over the seeds, which is what other
//!   test episodes would change.
//!
//! Differences are paired: on the same frozen episodes, by their hash, or they are not shown.

mod differences;
mod groups;
mod measure;
mod table;

use std::path::PathBuf;

use clap::Args;
use meta_core::{Error, toolkit::Toolkit};
use serde_json::Value;

use super::store::{self, Stored, check_key};
use crate::{
    command::Execute,
    failure::{CommandError, Result},
    output::{print, table::Format},
};
use differences::{Pairs, TestKind, Wanted, differences};
use groups::{Group, group};
use measure::Measure;
use table::Comparison;

/// Compare finished runs: intervals over seeds and episodes, paired differences.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Run folders, or folders of run folders [default: runs].
    runs: Vec<PathBuf>,
    /// What is compared: `score` (of the test), `score@N` (after N adaptation steps),
    /// `log_likelihood` (of learners that predict densities), `loss`, `validation`,
    /// `train_seconds`, `iterations`, `parameters`.
    #[arg(long, default_value = "score")]
    metric: String,
    /// Keys by which runs are grouped, separated by commas [default: every setting but the seed].
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    group_by: Vec<String>,
    /// Column by which rows are sorted: the metric, a key, or `n`; with `-` in front the other way
    /// round [default: best first].
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    sort: Option<String>,
    /// Only runs for which this holds, such as `learner.name=maml`, `train.lr<0.01`, `tag=paper`;
    /// several must all hold.
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// Which differences are shown [default: all for up to 6 rows, first for up to 50, none above].
    #[arg(long, value_enum)]
    pairs: Option<Pairs>,
    /// Only differences between rows that are told apart by this one of the keys (an ablation), with
    /// their interval over seeds beside.
    #[arg(long, value_name = "KEY", conflicts_with = "pairs")]
    contrast: Option<String>,
    /// How differences are tested.
    #[arg(long, value_enum, default_value_t = TestKind::T)]
    test: TestKind,
    /// Form of the tables.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// More differences than this are not computed.
const MOST_GROUPS: usize = 50;

impl Execute for CompareArgs {
    /// Compares the runs and prints the tables.
    ///
    /// # Errors
    /// When there is no finished run, or a run, a metric or a key is not what it should be.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let measure = Measure::parse(&self.metric)?;
        let mut notes = Vec::new();
        let runs = self.finished(&mut notes)?;
        let mut groups = group(&self.group_by, measure, runs, &mut notes)?;
        sort(self.sort.as_deref(), &self.metric, measure, &mut groups)?;
        if let Some(key) = &self.contrast
            && groups[0].value_of(key).is_none()
        {
            let known = groups[0].label.iter().map(|(key, _)| key.as_str());
            return Err(Error::unknown("key of the rows", key, known).into());
        }
        let wanted = Wanted {
            test: self.test,
            pairs: self.pairs.unwrap_or(match groups.len() {
                _ if self.contrast.is_some() => Pairs::All,
                0..=6 => Pairs::All,
                7..=MOST_GROUPS => Pairs::First,
                _ => Pairs::None,
            }),
            contrast: self.contrast.as_deref(),
        };
        let (differences, refused) = differences(wanted, measure, &groups);
        notes.extend(refused);
        let comparison = Comparison {
            measure,
            metric: &self.metric,
            many: if self.group_by.is_empty() {
                "seeds"
            } else {
                "runs"
            },
            test: self.test,
            contrast: self.contrast.is_some(),
            groups: &groups,
            differences: &differences,
            notes: &notes,
        };
        print(&comparison.render(self.format))
    }
}

impl CompareArgs {
    /// The finished runs that are asked for; adds to `notes` which ones are left out.
    fn finished(&self, notes: &mut Vec<String>) -> Result<Vec<Stored>> {
        let paths = if self.runs.is_empty() {
            vec![PathBuf::from("runs")]
        } else {
            self.runs.clone()
        };
        let (runs, damaged) = store::read(&paths)?;
        notes.extend(damaged.iter().map(|text| format!("left out: {text}")));
        let runs = store::filter(runs, &self.conditions)?;
        let found = runs.len();
        let finished = runs.into_iter().filter(|run| run.result.is_some());
        let finished: Vec<Stored> = finished.collect();
        if finished.is_empty() {
            let shown = paths.iter().map(|path| path.display().to_string());
            let among = match found {
                0 => String::new(),
                found => format!(" among {found}"),
            };
            return Err(CommandError::Usage(format!(
                "{}: no finished run to compare{among}",
                shown.collect::<Vec<_>>().join(", "),
            )));
        }
        if found > finished.len() {
            notes.push(format!(
                "{} runs are not finished and left out",
                found - finished.len()
            ));
        }
        Ok(finished)
    }
}

/// Sorts the groups by a column: the compared `metric`, a key, or `n`; the best first where none is
/// given.
fn sort(column: Option<&str>, metric: &str, measure: Measure, groups: &mut [Group]) -> Result<()> {
    let better = |a: &Group, b: &Group| {
        let order = a.over_seeds.mean.total_cmp(&b.over_seeds.mean);
        if measure.rises(a.metric) {
            order.reverse()
        } else {
            order
        }
    };
    let column = column.unwrap_or(metric);
    let (column, reverse) = match column.strip_prefix('-') {
        Some(column) => (column, true),
        None => (column, false),
    };
    let runs: Vec<Stored> = groups.iter().map(|group| group.runs[0].clone()).collect();
    check_key(column, &runs, &[metric, "n"])?;
    groups.sort_by(|a, b| {
        let order = match column {
            "n" => b.runs.len().cmp(&a.runs.len()),
            _ if column == metric => better(a, b),
            key => {
                let (x, y) = (a.runs[0].settings.get(key), b.runs[0].settings.get(key));
                match (x.and_then(Value::as_f64), y.and_then(Value::as_f64)) {
                    (Some(x), Some(y)) => x.total_cmp(&y),
                    _ => a.runs[0].shown(key).cmp(&b.runs[0].shown(key)),
                }
            }
        };
        let order = if reverse { order.reverse() } else { order };
        order
            .then_with(|| better(a, b))
            .then_with(|| a.label.cmp(&b.label))
    });
    Ok(())
}
