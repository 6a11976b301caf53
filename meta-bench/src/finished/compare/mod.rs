//! `meta compare` and `meta diff`: what finished runs say about each other.
//!
//! Runs that differ in nothing but the seed are a group. Two intervals say two things: *over seeds*,
//! of the means of the runs, what another training would change; *over episodes*, of each frozen
//! episode's mean over the seeds, what other test episodes would. Differences are paired: the same
//! frozen episodes, by their hash, or they are not shown.

use std::{collections::BTreeMap, path::Path, path::PathBuf};

use meta_core::{
    Error,
    stats::{Interval, Paired, holm, mean, paired_t, paired_wilcoxon},
    train::eval::{LogLikelihoods, Metric},
};
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Catalogue, Toolkit,
    cli::{CompareArgs, DiffArgs, Pairs, TestKind},
    failure::{CommandError, Result},
    finished::store::{self, Stored, check_key},
    manifest::{Manifest, flat, toml},
    output::print,
    output::table::{Cell, Format, Table},
    run::folder::{RECORD, SCORES, read_json},
    run::result::TestResult,
};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// The score of the test, after all adaptation steps or so many.
    Score(Option<usize>),
    /// The log-likelihood of the queries, of learners that predict densities.
    LogLikelihood,
    /// A number of the result.
    Field(&'static str),
}

const FIELDS: [&str; 5] = [
    "loss",
    "validation",
    "train_seconds",
    "iterations",
    "parameters",
];

impl Measure {
    fn parse(text: &str) -> Result<Self> {
        if text == "score" {
            return Ok(Measure::Score(None));
        }
        if text == "log_likelihood" {
            return Ok(Measure::LogLikelihood);
        }
        if let Some(step) = text.strip_prefix("score@") {
            let step = step.parse().map_err(|_| {
                CommandError::Usage(format!(
                    "`--metric {text}`: expected score@N, N adaptation steps"
                ))
            })?;
            return Ok(Measure::Score(Some(step)));
        }
        let field = FIELDS.into_iter().find(|field| *field == text);
        let known = ["score", "score@N", "log_likelihood"]
            .into_iter()
            .chain(FIELDS);
        Ok(Measure::Field(
            field.ok_or_else(|| Error::unknown("metric", text, known))?,
        ))
    }

    /// The value of a run.
    fn of(self, result: &TestResult) -> Option<f64> {
        let value = match self {
            Measure::Score(None) => result.mean,
            Measure::Score(Some(step)) => {
                result.by_step.iter().find(|score| score.step == step)?.mean
            }
            Measure::LogLikelihood => result.log_likelihood?.learner.mean,
            Measure::Field("loss") => result.loss,
            Measure::Field("validation") => result.best_value?,
            Measure::Field("train_seconds") => result.train_seconds,
            Measure::Field("iterations") => result.iterations as f64,
            Measure::Field(_) => result.parameters as f64,
        };
        Some(value)
    }

    fn name(self, metric: Metric) -> String {
        match self {
            Measure::Score(None) => metric.name().to_owned(),
            Measure::Score(Some(step)) => format!("{}@{step}", metric.name()),
            Measure::LogLikelihood => "log_likelihood".to_owned(),
            Measure::Field(field) => field.to_owned(),
        }
    }

    /// Whether larger is better.
    fn rises(self, metric: Metric) -> bool {
        match self {
            Measure::Score(_) => metric == Metric::Accuracy,
            Measure::LogLikelihood => true,
            Measure::Field("validation") => metric == Metric::Accuracy,
            Measure::Field(_) => false,
        }
    }

    /// Whether it is known of every episode.
    fn by_episode(self) -> bool {
        !matches!(self, Measure::Field(_))
    }

    /// For people: factor, decimals, unit.
    fn unit(self, metric: Metric) -> (f64, usize, &'static str) {
        match (self, metric) {
            (Measure::Score(_), Metric::Accuracy) => (100.0, 2, " %"),
            (Measure::LogLikelihood, _) => (1.0, 4, " nats"),
            (Measure::Field("train_seconds"), _) => (1.0, 1, " s"),
            (Measure::Field("iterations" | "parameters"), _) => (1.0, 0, ""),
            _ => (1.0, 4, ""),
        }
    }
}

/// Runs that differ in nothing but the seed, or that `--group-by` puts together.
struct Group {
    label: Vec<(String, String)>,
    runs: Vec<Stored>,
    metric: Metric,
    values: Vec<f64>,
    over_seeds: Interval,
    /// Over the frozen episodes, where they are the same for all runs.
    over_episodes: Option<Interval>,
    /// The hash of the episodes that all runs were tested on.
    episode_set: Option<String>,
}

impl Group {
    fn title(&self) -> String {
        let values: Vec<&str> = self.label.iter().map(|(_, value)| value.as_str()).collect();
        values.join(" ")
    }

    /// Mean log-likelihood by the distribution that the source draws from.
    fn exact(&self) -> Option<f64> {
        let of_run = |run: &Stored| {
            let densities = run.result.as_ref()?.log_likelihood?;
            Some(densities.exact?.mean)
        };
        let all: Vec<f64> = self.runs.iter().map(of_run).collect::<Option<_>>()?;
        Some(mean(&all))
    }

    fn seeds(&self) -> Vec<u64> {
        self.runs
            .iter()
            .filter_map(|run| Some(run.result.as_ref()?.seed))
            .collect()
    }
}

/// `scores.json`, as far as it is needed.
#[derive(Deserialize)]
struct Scores {
    scores: Vec<Vec<f64>>,
    log_likelihood: Option<LogLikelihoods>,
}

/// What was measured of every episode of a run.
fn episodes(folder: &Path, measure: Measure) -> Result<Vec<f64>> {
    let path = folder.join(SCORES);
    let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, "read", error))?;
    let mut scores: Scores = serde_json::from_slice(&bytes)
        .map_err(|error| CommandError::from(Error::data(&path, format!("is damaged: {error}"))))?;
    let step = match measure {
        Measure::Score(step) => step,
        _ => {
            let densities = scores.log_likelihood.map(|densities| densities.learner);
            return densities.ok_or_else(|| Error::data(&path, "has no log-likelihoods").into());
        }
    };
    let step = step.unwrap_or(scores.scores.len().saturating_sub(1));
    if step < scores.scores.len() {
        Ok(scores.scores.swap_remove(step))
    } else {
        Err(Error::data(&path, format!("has no scores after {step} steps")).into())
    }
}

/// Mean over runs of what was measured of every episode.
fn mean_episodes(runs: &[&Stored], measure: Measure) -> Result<Vec<f64>> {
    let all: Vec<Vec<f64>> = runs
        .par_iter()
        .map(|run| episodes(&run.folder, measure))
        .collect::<Result<_>>()?;
    let count = all.first().map_or(0, Vec::len);
    if let Some(index) = all.iter().position(|scores| scores.len() != count) {
        let path = runs[index].folder.join(SCORES);
        return Err(Error::data(
            path,
            format!("has {} episodes, another run has {count}", all[index].len()),
        )
        .into());
    }
    let of = |episode: usize| {
        let scores: Vec<f64> = all.iter().map(|scores| scores[episode]).collect();
        mean(&scores)
    };
    Ok((0..count).map(of).collect())
}

/// Keys whose values tell groups apart: those with several values among groups that chose the same
/// learner, encoder and source. What only one learner has is no difference to another learner.
fn telling_keys(groups: &[&Stored]) -> Vec<String> {
    let choice = |run: &Stored, key: &str| {
        let name = match key.split_once('.') {
            Some(("data", _)) => "data.source",
            Some(("encoder", _)) => "encoder.name",
            Some(("learner", _)) => "learner.name",
            _ => return String::new(),
        };
        if name == key {
            String::new()
        } else {
            run.shown(name)
        }
    };
    let mut found: BTreeMap<(&str, String), &Value> = BTreeMap::new();
    let mut telling: Vec<String> = Vec::new();
    for run in groups {
        for (key, value) in &run.settings {
            let other = *found.entry((key, choice(run, key))).or_insert(value);
            if key != "seed" && Manifest::is_identity(key) && other != value {
                telling.push(key.clone());
            }
        }
    }
    // The choices first.
    telling.sort_by_key(|key| {
        (
            !(key.ends_with(".name") || key == "data.source"),
            key.clone(),
        )
    });
    telling.dedup();
    if telling.is_empty() {
        vec!["learner.name".to_owned(), "encoder.name".to_owned()]
    } else {
        telling
    }
}

fn group(
    args: &CompareArgs,
    measure: Measure,
    runs: Vec<Stored>,
    notes: &mut Vec<String>,
) -> Result<Vec<Group>> {
    for key in &args.group_by {
        check_key(key, &runs, &[])?;
    }
    let mut by_key: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    let mut twice = 0;
    for run in runs {
        if !seen.insert(run.hash.clone()) {
            twice += 1;
            continue;
        }
        let key: String = if args.group_by.is_empty() {
            run.settings
                .iter()
                .filter(|(key, _)| *key != "seed" && Manifest::is_identity(key))
                .map(|(key, value)| format!("{key}={value}\n"))
                .collect()
        } else {
            args.group_by
                .iter()
                .map(|key| format!("{}\n", run.shown(key)))
                .collect()
        };
        by_key.entry(key).or_default().push(run);
    }
    if twice > 0 {
        notes.push(format!(
            "{twice} run folders hold the same run as another; each counts once"
        ));
    }
    let firsts: Vec<&Stored> = by_key.values().map(|runs| &runs[0]).collect();
    let keys = if args.group_by.is_empty() {
        telling_keys(&firsts)
    } else {
        args.group_by.clone()
    };
    let groups: Vec<Result<(Group, Option<String>)>> = by_key
        .into_par_iter()
        .map(|(_, mut runs)| {
            let seed = |run: &Stored| run.result.as_ref().map_or(0, |result| result.seed);
            runs.sort_by_key(|run| (seed(run), run.hash.clone()));
            one_group(&keys, measure, runs)
        })
        .collect();
    let mut all = Vec::new();
    for group in groups {
        let (group, note) = group?;
        notes.extend(note);
        all.push(group);
    }
    Ok(all)
}

fn one_group(
    keys: &[String],
    measure: Measure,
    runs: Vec<Stored>,
) -> Result<(Group, Option<String>)> {
    let label: Vec<(String, String)> = keys
        .iter()
        .map(|key| (key.clone(), runs[0].shown(key)))
        .collect();
    let results: Vec<&TestResult> = runs.iter().filter_map(|run| run.result.as_ref()).collect();
    let metric = results[0].metric;
    let title = || {
        let values: Vec<&str> = label.iter().map(|(_, value)| value.as_str()).collect();
        values.join(" ")
    };
    if results.iter().any(|result| result.metric != metric) {
        return Err(CommandError::Usage(format!(
            "{}: accuracies and squared errors cannot be in one group; add data.source to --group-by",
            title()
        )));
    }
    let mut values = Vec::new();
    for (run, result) in runs.iter().zip(&results) {
        values.push(measure.of(result).ok_or_else(|| {
            CommandError::Usage(format!(
                "{}: has no {}",
                run.folder.display(),
                measure.name(metric)
            ))
        })?);
    }
    let first = &results[0].episode_set;
    let other = results
        .iter()
        .position(|result| result.episode_set != *first);
    let note = other.map(|index| {
        format!(
            "{}: no interval over episodes: {} and {} were tested on other episodes ({} and {})",
            title(),
            runs[0].name(),
            runs[index].name(),
            &first[..12.min(first.len())],
            results[index].episode_set.get(..12).unwrap_or_default()
        )
    });
    let episode_set = other.is_none().then(|| first.clone());
    let over_episodes = match (measure, &episode_set, results.as_slice()) {
        (Measure::Score(None), Some(_), [result]) => Some(Interval {
            mean: result.mean,
            half_width: result.ci95,
            level: 0.95,
            method: result.method,
            n: result.episodes,
        }),
        (measure, Some(_), _) if measure.by_episode() => {
            let all: Vec<&Stored> = runs.iter().collect();
            Some(Interval::t95(&mean_episodes(&all, measure)?))
        }
        _ => None,
    };
    let group = Group {
        over_seeds: Interval::t95(&values),
        values,
        label,
        metric,
        over_episodes,
        episode_set,
        runs,
    };
    Ok((group, note))
}

/// A difference between two groups.
struct Difference {
    a: usize,
    b: usize,
    paired: Paired,
    /// Of the runs' means, paired by seed, where the groups share at least two.
    over_seeds: Option<Interval>,
}

/// The difference of the runs' means, seed by seed.
fn over_seeds(a: &Group, b: &Group) -> Option<Interval> {
    let (seeds_a, seeds_b) = (a.seeds(), b.seeds());
    let differences: Vec<f64> = seeds_a
        .iter()
        .zip(&a.values)
        .filter_map(|(seed, value)| {
            let other = seeds_b.iter().position(|of_b| of_b == seed)?;
            Some(value - b.values[other])
        })
        .collect();
    (differences.len() >= 2).then(|| Interval::t95(&differences))
}

impl Group {
    fn value_of(&self, key: &str) -> Option<&str> {
        let mut label = self.label.iter();
        label.find_map(|(name, value)| (name == key).then_some(value.as_str()))
    }

    /// Whether the groups differ in this key and in no other.
    fn contrasts(&self, other: &Group, key: &str) -> bool {
        let rest = |group: &Group| -> Vec<(String, String)> {
            let label = group.label.iter().filter(|(name, _)| name != key);
            label.cloned().collect()
        };
        self.value_of(key) != other.value_of(key) && rest(self) == rest(other)
    }
}

fn difference(
    args: &CompareArgs,
    measure: Measure,
    a: &Group,
    b: &Group,
) -> Result<Paired, String> {
    let (Some(set_a), Some(set_b)) = (&a.episode_set, &b.episode_set) else {
        return Err("the runs of one of them were not tested on the same episodes".to_owned());
    };
    if set_a != set_b {
        return Err(format!(
            "they were tested on other episodes ({} and {})",
            &set_a[..12.min(set_a.len())],
            &set_b[..12.min(set_b.len())]
        ));
    }
    let (seeds_a, seeds_b) = (a.seeds(), b.seeds());
    let common: Vec<u64> = seeds_a
        .iter()
        .copied()
        .filter(|seed| seeds_b.contains(seed))
        .collect();
    let chosen = |group: &'_ Group| -> Vec<usize> {
        let seeds = group.seeds();
        let keep = |index: &usize| common.is_empty() || common.contains(&seeds[*index]);
        (0..seeds.len()).filter(keep).collect()
    };
    let (rows_a, rows_b) = (chosen(a), chosen(b));
    let (x, y) = match measure {
        Measure::Score(_) | Measure::LogLikelihood => {
            let scores = |group: &Group, rows: &[usize]| {
                let runs: Vec<&Stored> = rows.iter().map(|&row| &group.runs[row]).collect();
                mean_episodes(&runs, measure).map_err(|error| error.to_string())
            };
            (scores(a, &rows_a)?, scores(b, &rows_b)?)
        }
        Measure::Field(_) => {
            if common.len() < 2 || rows_a.len() != rows_b.len() {
                return Err("they share fewer than two seeds".to_owned());
            }
            let values = |group: &Group, rows: &[usize]| -> Vec<f64> {
                rows.iter().map(|&row| group.values[row]).collect()
            };
            (values(a, &rows_a), values(b, &rows_b))
        }
    };
    if x.len() != y.len() {
        return Err(format!("they have {} and {} values", x.len(), y.len()));
    }
    Ok(match args.test {
        TestKind::T => paired_t(&x, &y),
        TestKind::Wilcoxon => paired_wilcoxon(&x, &y),
    })
}

/// More differences than this are not computed.
const MOST_GROUPS: usize = 50;

/// `meta compare`.
///
/// # Errors
/// When there is no finished run, or a run, a metric or a key is not what it should be.
pub fn compare(args: &CompareArgs) -> Result<()> {
    let measure = Measure::parse(&args.metric)?;
    let paths = if args.runs.is_empty() {
        vec![PathBuf::from("runs")]
    } else {
        args.runs.clone()
    };
    let (runs, damaged) = store::read(&paths)?;
    let mut notes: Vec<String> = damaged
        .iter()
        .map(|text| format!("left out: {text}"))
        .collect();
    let runs = store::filter(runs, &args.conditions)?;
    let found = runs.len();
    let runs: Vec<Stored> = runs
        .into_iter()
        .filter(|run| run.result.is_some())
        .collect();
    if runs.is_empty() {
        let shown: Vec<String> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        return Err(CommandError::Usage(format!(
            "{}: no finished run to compare{}",
            shown.join(", "),
            match found {
                0 => String::new(),
                found => format!(" among {found}"),
            }
        )));
    }
    if found > runs.len() {
        notes.push(format!(
            "{} runs are not finished and left out",
            found - runs.len()
        ));
    }
    let mut groups = group(args, measure, runs, &mut notes)?;
    sort(args, measure, &mut groups)?;
    if let Some(key) = &args.contrast
        && groups[0].value_of(key).is_none()
    {
        let known = groups[0].label.iter().map(|(key, _)| key.as_str());
        return Err(Error::unknown("key of the rows", key, known).into());
    }
    let pairs = args.pairs.unwrap_or(match groups.len() {
        _ if args.contrast.is_some() => Pairs::All,
        0..=6 => Pairs::All,
        7..=MOST_GROUPS => Pairs::First,
        _ => Pairs::None,
    });
    let (differences, refused) = differences(args, measure, &groups, pairs);
    notes.extend(refused);
    print(&report(args, measure, &groups, &differences, &notes))
}

fn sort(args: &CompareArgs, measure: Measure, groups: &mut [Group]) -> Result<()> {
    let better = |a: &Group, b: &Group| {
        let order = a.over_seeds.mean.total_cmp(&b.over_seeds.mean);
        if measure.rises(a.metric) {
            order.reverse()
        } else {
            order
        }
    };
    let column = args.sort.as_deref().unwrap_or(&args.metric);
    let (column, reverse) = match column.strip_prefix('-') {
        Some(column) => (column, true),
        None => (column, false),
    };
    let metrics = [args.metric.as_str(), "n"];
    let runs: Vec<Stored> = groups.iter().map(|group| group.runs[0].clone()).collect();
    check_key(column, &runs, &metrics)?;
    groups.sort_by(|a, b| {
        let order = match column {
            "n" => b.runs.len().cmp(&a.runs.len()),
            _ if column == args.metric => better(a, b),
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

/// The differences that are asked for, and why others are not there. All pairs are corrected for
/// together, whether they are shown or not: who is first is known only from the results.
fn differences(
    args: &CompareArgs,
    measure: Measure,
    groups: &[Group],
    pairs: Pairs,
) -> (Vec<(Difference, f64)>, Vec<String>) {
    let count = groups.len();
    if pairs == Pairs::None || count < 2 {
        return (Vec::new(), Vec::new());
    }
    let all: Vec<(usize, usize)> = (0..count)
        .flat_map(|a| (a + 1..count).map(move |b| (a, b)))
        .filter_map(|(a, b)| match &args.contrast {
            None => Some((a, b)),
            Some(key) if !groups[a].contrasts(&groups[b], key) => None,
            // Whichever is better: the sign says it.
            Some(key) if groups[a].value_of(key) > groups[b].value_of(key) => Some((b, a)),
            Some(_) => Some((a, b)),
        })
        .collect();
    let computed: Vec<(usize, usize, Result<Paired, String>)> = all
        .into_par_iter()
        .map(|(a, b)| (a, b, difference(args, measure, &groups[a], &groups[b])))
        .collect();
    let mut good = Vec::new();
    let mut refused = Vec::new();
    for (a, b, paired) in computed {
        match paired {
            Ok(paired) => good.push(Difference {
                a,
                b,
                paired,
                over_seeds: over_seeds(&groups[a], &groups[b]),
            }),
            Err(why) if pairs == Pairs::All || a == 0 => refused.push(format!(
                "not paired: {} ({}) and {} ({}): {why}",
                a + 1,
                groups[a].title(),
                b + 1,
                groups[b].title()
            )),
            Err(_) => {}
        }
    }
    let p_values: Vec<f64> = good
        .iter()
        .map(|difference| difference.paired.p_value)
        .collect();
    let corrected = holm(&p_values);
    let shown = good
        .into_iter()
        .zip(corrected)
        .filter(|(difference, _)| pairs == Pairs::All || difference.a == 0)
        .collect();
    (shown, refused)
}

fn p_text(p: f64) -> String {
    if p < 1e-4 {
        "< 0.0001".to_owned()
    } else {
        format!("{p:.4}")
    }
}

/// Half of an interval's width, where there is one.
fn half(interval: Option<Interval>, factor: f64, decimals: usize) -> Cell {
    match interval {
        Some(interval) if interval.half_width.is_finite() => Cell::new(
            format!("± {:.decimals$}", factor * interval.half_width),
            interval.half_width,
        ),
        _ => Cell::new("–", Value::Null),
    }
}

fn report(
    args: &CompareArgs,
    measure: Measure,
    groups: &[Group],
    differences: &[(Difference, f64)],
    notes: &[String],
) -> String {
    let metric = groups[0].metric;
    let mixed = groups.iter().any(|group| group.metric != metric);
    let name = if mixed {
        args.metric.clone()
    } else {
        measure.name(metric)
    };
    let many = if args.group_by.is_empty() {
        "seeds"
    } else {
        "runs"
    };
    let mut columns = vec!["#".to_owned()];
    columns.extend(groups[0].label.iter().map(|(key, _)| key.clone()));
    columns.push(many.to_owned());
    columns.push(name.clone());
    columns.push(format!("over {many}"));
    let by_episode = measure.by_episode();
    if by_episode {
        columns.push("over episodes".to_owned());
    }
    let with_exact = measure == Measure::LogLikelihood;
    if with_exact {
        columns.push("exact posterior".to_owned());
    }
    let mut rows = Table::new(columns);
    for (index, group) in groups.iter().enumerate() {
        let (factor, decimals, unit) = measure.unit(group.metric);
        let mut row = vec![Cell::new((index + 1).to_string(), index + 1)];
        row.extend(
            group
                .label
                .iter()
                .map(|(_, value)| Cell::from(value.clone())),
        );
        row.push(Cell::new(group.runs.len().to_string(), group.runs.len()));
        let value = group.over_seeds.mean;
        row.push(Cell::new(
            format!("{:.decimals$}{unit}", factor * value),
            value,
        ));
        row.push(half(Some(group.over_seeds), factor, decimals));
        if by_episode {
            row.push(half(group.over_episodes, factor, decimals));
        }
        if with_exact {
            row.push(match group.exact() {
                Some(exact) => Cell::new(format!("{exact:.decimals$}{unit}"), exact),
                None => Cell::new("–", Value::Null),
            });
        }
        rows.rows.push(row);
    }
    let paired_by = if by_episode { "episodes" } else { "seeds" };
    let contrast = args.contrast.is_some();
    let mut columns = vec![
        "pair", "a", "b", "a − b", "95 %", paired_by, "p", "p (Holm)",
    ];
    if contrast {
        columns.push("95 % over seeds");
    }
    let mut pairs = Table::new(columns);
    for (difference, corrected) in differences {
        let Difference {
            a,
            b,
            paired,
            over_seeds,
        } = difference;
        let (factor, decimals, unit) = measure.unit(groups[*a].metric);
        let unit = if unit == " %" { " points" } else { unit };
        let mean = paired.difference.mean;
        pairs.rows.push(vec![
            format!("{} − {}", a + 1, b + 1).into(),
            groups[*a].title().into(),
            groups[*b].title().into(),
            Cell::new(format!("{:+.decimals$}{unit}", factor * mean), mean),
            half(Some(paired.difference), factor, decimals),
            Cell::new(paired.difference.n.to_string(), paired.difference.n),
            Cell::new(p_text(paired.p_value), paired.p_value),
            Cell::new(p_text(*corrected), *corrected),
        ]);
        if let (true, Some(row)) = (contrast, pairs.rows.last_mut()) {
            row.push(half(*over_seeds, factor, decimals));
        }
    }
    if args.format == Format::Json {
        let value = json!({
            "metric": name,
            "test": match args.test { TestKind::T => "t", TestKind::Wilcoxon => "wilcoxon" },
            "rows": rows.json(),
            "pairs": pairs.json(),
            "notes": notes,
        });
        return format!("{value:#}\n");
    }
    let mut out = rows.render(args.format);
    if !pairs.rows.is_empty() {
        out.push('\n');
        out.push_str(&pairs.render(args.format));
    }
    if args.format == Format::Csv {
        for note in notes {
            eprintln!("{note}");
        }
        return out;
    }
    let mut lines = vec![format!(
        "±: half of a 95 % interval by Student's t. Over {many}: of the {many}' means{}.",
        if by_episode {
            format!("; over episodes: of each frozen episode's mean over the {many}")
        } else {
            String::new()
        }
    )];
    if !pairs.rows.is_empty() {
        lines.push(format!(
            "a − b: paired on the same {paired_by}; p: {}; Holm: corrected for all pairs of the table above.",
            match args.test {
                TestKind::T => "Student's paired t-test",
                TestKind::Wilcoxon => "Wilcoxon's signed-rank test",
            }
        ));
    }
    lines.extend(notes.iter().cloned());
    out.push('\n');
    for line in lines {
        match args.format {
            Format::Latex => out.push_str(&format!("% {line}\n")),
            Format::Markdown => out.push_str(&format!("{line}\n\n")),
            _ => out.push_str(&format!("{line}\n")),
        }
    }
    out
}

/// The settings of a run folder or a manifest, and what lies in its data where that is known.
fn settings<T: Toolkit>(path: &Path) -> Result<BTreeMap<String, String>> {
    let (values, content) = if path.is_dir() {
        let record = read_json(&path.join(RECORD))?;
        let content = record["data"]["content"].as_str().map(str::to_owned);
        (record["manifest"].clone(), content)
    } else {
        (
            Manifest::resolve(path, &[], &Catalogue::of::<T>())?.values(),
            None,
        )
    };
    let shown = |value: &Value| toml(value).unwrap_or_else(|| "not set".to_owned());
    let mut settings: BTreeMap<String, String> = flat(&values)
        .map(|(key, value)| (key, shown(value)))
        .collect();
    if let Some(content) = content {
        settings.insert("data (content)".to_owned(), content);
    }
    Ok(settings)
}

/// `meta diff`.
///
/// # Errors
/// When one of the two is neither a run folder nor a manifest.
pub fn diff<T: Toolkit>(args: &DiffArgs) -> Result<()> {
    let (a, b) = (settings::<T>(&args.a)?, settings::<T>(&args.b)?);
    let mut table = Table::new([
        "setting".to_owned(),
        args.a.display().to_string(),
        args.b.display().to_string(),
    ]);
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    // The content of data is known of runs alone.
    keys.retain(|key| *key != "data (content)" || a.contains_key(*key) && b.contains_key(*key));
    for key in keys {
        let (x, y) = (a.get(key), b.get(key));
        if x != y {
            let cell = |value: Option<&String>| match value {
                Some(value) => Cell::from(value.clone()),
                None => Cell::new("–", Value::Null),
            };
            table.rows.push(vec![key.clone().into(), cell(x), cell(y)]);
        }
    }
    if table.rows.is_empty() && args.format == Format::Text {
        return print("no setting differs\n");
    }
    print(&table.render(args.format))
}
