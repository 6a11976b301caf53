//! Groups runs, and computes the intervals of what is compared.

use std::collections::{BTreeMap, HashSet};

use meta_core::{
    Error,
    data::{EpisodeShape, stored_episode_set_hash},
    rng::Seed,
    stats::{Interval, Paired, mean, paired_t},
    train::eval::{LogLikelihoods, Metric},
};
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use super::measure::Measure;
use crate::{
    failure::{CommandError, Result},
    finished::store::{Stored, check_key, short},
    manifest::Manifest,
    run::{evaluations::Evaluation, result::TestResult},
};

/// Runs that differ in nothing but the seed, or that `--group-by` puts together.
pub struct Group {
    /// The keys that tell it from other groups, with its values.
    pub label: Vec<(String, String)>,
    /// Its runs, by seed.
    pub runs: Vec<Stored>,
    /// What their scores are.
    pub metric: Metric,
    /// What is compared, of each run.
    pub values: Vec<f64>,
    /// Mean of the values, with its interval.
    pub over_seeds: Interval,
    /// Over the frozen episodes, where they are the same for all runs.
    pub over_episodes: Option<Interval>,
    /// The episodes that all runs were tested on.
    pub episodes: Option<Tested>,
}

/// The episodes that runs were tested on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    /// Hash of the set.
    pub hash: String,
    /// How many there are.
    pub count: usize,
    /// What is known of their stream: sets of one stream begin with the same episodes.
    stream: Option<String>,
}

impl Tested {
    /// Those of a run. Its stream is known where the recorded hash is that of the recorded data and settings.
    fn of(run: &Stored, result: &TestResult) -> Self {
        let (way, shot, query) = (result.way, result.shot, result.query);
        let hash = |count: usize| {
            let shape = EpisodeShape::new(way, shot, query);
            let seed = Seed(result.test_seed);
            stored_episode_set_hash(&run.content, seed, result.split, shape, count as u64)
        };
        let known = hash(result.episodes) == result.episode_set;
        Tested {
            hash: result.episode_set.clone(),
            count: result.episodes,
            stream: known.then(|| hash(0)),
        }
    }

    /// How many episodes from the first on are those of `other`; none where they are others.
    pub fn shared(&self, other: &Tested) -> Option<usize> {
        let of_one_stream = self.stream.is_some() && self.stream == other.stream;
        (self.hash == other.hash || of_one_stream).then(|| self.count.min(other.count))
    }
}

/// The values of a label, for people: names as they are, numbers and switches with the last part of their key.
fn title<'a>(label: impl IntoIterator<Item = &'a (String, String)>) -> String {
    let shown = |(key, value): &(String, String)| {
        let says_itself = value.parse::<f64>().is_err() && value.parse::<bool>().is_err();
        match says_itself {
            true => value.clone(),
            false => format!("{}={value}", key.rsplit('.').next().unwrap_or(key)),
        }
    };
    let values: Vec<String> = label.into_iter().map(shown).collect();
    values.join(" ")
}

impl Group {
    /// What it is called.
    pub fn title(&self) -> String {
        title(&self.label)
    }

    /// What it is called beside groups that differ in one key, too.
    pub fn title_without(&self, key: &str) -> String {
        title(self.label.iter().filter(|(name, _)| name != key))
    }

    /// Mean log-likelihood by the distribution that the source draws from.
    pub fn exact(&self) -> Option<f64> {
        let of_run = |run: &Stored| {
            let densities = run.result.as_ref()?.log_likelihood?;
            Some(densities.exact?.mean)
        };
        let all: Vec<f64> = self.runs.iter().map(of_run).collect::<Option<_>>()?;
        Some(mean(&all))
    }

    /// Seeds of its runs.
    pub fn seeds(&self) -> Vec<u64> {
        self.runs
            .iter()
            .filter_map(|run| Some(run.result.as_ref()?.seed))
            .collect()
    }

    /// Whether both were tested on the same episodes, as far as both have them.
    pub fn shares_episodes(&self, other: &Group) -> bool {
        let both = self.episodes.as_ref().zip(other.episodes.as_ref());
        both.is_some_and(|(own, others)| own.shared(others).is_some())
    }

    /// The value of a key of its label.
    pub fn value_of(&self, key: &str) -> Option<&str> {
        let mut label = self.label.iter();
        label.find_map(|(name, value)| (name == key).then_some(value.as_str()))
    }

    /// Whether the groups differ in this key and in no other.
    pub fn contrasts(&self, other: &Group, key: &str) -> bool {
        let rest = |group: &Group| -> Vec<(String, String)> {
            let label = group.label.iter().filter(|(name, _)| name != key);
            label.cloned().collect()
        };
        self.value_of(key) != other.value_of(key) && rest(self) == rest(other)
    }
}

/// `scores.json`, as far as it is needed.
#[derive(Deserialize)]
pub struct Scores {
    /// Score of each episode after each adaptation step.
    pub scores: Vec<Vec<f64>>,
    /// Log-likelihood of each episode, where the learner predicts densities.
    pub log_likelihood: Option<LogLikelihoods>,
    /// AUROC of each episode, of tasks of two classes.
    #[serde(default)]
    pub auroc: Vec<f64>,
    /// The data set of each episode, where the source has several.
    #[serde(default)]
    pub sets: Vec<String>,
}

/// The scores of every episode of a run.
///
/// # Errors
/// When they cannot be read, or are damaged.
pub fn read_scores(run: &Stored) -> Result<Scores> {
    let path = &run.scores;
    let damaged = |error: serde_json::Error| -> CommandError {
        Error::data(path, format!("is damaged: {error}")).into()
    };
    if run.evaluation.is_some() {
        let scores = Evaluation::read(path)?.scores;
        return serde_json::from_value(scores).map_err(damaged);
    }
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, "read", error))?;
    serde_json::from_slice(&bytes).map_err(damaged)
}

/// Those of `runs` whose scores can be read, where these are compared; adds to `notes` which ones cannot.
pub fn sound(runs: Vec<Stored>, measure: Measure, notes: &mut Vec<String>) -> Vec<Stored> {
    if !measure.by_episode() {
        return runs;
    }
    let read = |run: &Stored| read_scores(run).err();
    let damage: Vec<Option<CommandError>> = runs.par_iter().map(read).collect();
    let runs = runs.into_iter().zip(damage);
    runs.filter_map(|(run, damage)| match damage {
        None => Some(run),
        Some(error) => {
            notes.push(format!("left out: {error}"));
            None
        }
    })
    .collect()
}

/// What was measured of every episode of a run.
fn episodes(run: &Stored, measure: Measure) -> Result<Vec<f64>> {
    let path = &run.scores;
    let mut scores = read_scores(run)?;
    let step = match measure {
        Measure::Score(step) => step,
        Measure::Auroc if scores.auroc.is_empty() => {
            return Err(Error::data(path, "has no AUROC, which tasks of two classes have").into());
        }
        Measure::Auroc => return Ok(scores.auroc),
        _ => {
            let densities = scores.log_likelihood.map(|densities| densities.learner);
            return densities.ok_or_else(|| Error::data(path, "has no log-likelihoods").into());
        }
    };
    let step = step.unwrap_or(scores.scores.len().saturating_sub(1));
    if step < scores.scores.len() {
        Ok(scores.scores.swap_remove(step))
    } else {
        Err(Error::data(path, format!("has no scores after {step} steps")).into())
    }
}

/// What was measured of every episode, over several runs.
#[derive(Debug)]
pub struct OverRuns {
    /// Means.
    pub means: Vec<f64>,
    /// Where every score is a fraction of the same number of queries: sums of right answers, and what they
    /// are divided by.
    pub counts: Option<(Vec<i64>, i64)>,
}

/// What was measured of the first `most` episodes, over `runs`.
///
/// # Errors
/// When the scores of a run cannot be read, or are not as many as its result says.
pub fn over_runs(runs: &[&Stored], measure: Measure, most: usize) -> Result<OverRuns> {
    let mut all: Vec<Vec<f64>> = runs
        .par_iter()
        .map(|run| episodes(run, measure))
        .collect::<Result<_>>()?;
    let counts_of_results = runs
        .iter()
        .filter_map(|run| Some(run.result.as_ref()?.episodes));
    for (run, (scores, count)) in runs.iter().zip(all.iter().zip(counts_of_results)) {
        if scores.len() != count {
            let expected = format!("has {} episodes, its result has {count}", scores.len());
            return Err(Error::data(&run.scores, expected).into());
        }
    }
    let count = all.iter().map(Vec::len).min().unwrap_or(0).min(most);
    all.iter_mut().for_each(|scores| scores.truncate(count));
    let of = |episode: usize| {
        let scores: Vec<f64> = all.iter().map(|scores| scores[episode]).collect();
        mean(&scores)
    };
    Ok(OverRuns {
        means: (0..count).map(of).collect(),
        counts: counts(runs, measure, &all),
    })
}

/// The scores `all` of `runs` as sums over runs of right answers, where they are such.
fn counts(runs: &[&Stored], measure: Measure, all: &[Vec<f64>]) -> Option<(Vec<i64>, i64)> {
    let queries = |run: &&Stored| -> Option<i64> {
        let result = run.result.as_ref()?;
        let counted = matches!(measure, Measure::Score(_)) && result.metric == Metric::Accuracy;
        let queries = result.way.checked_mul(result.query).filter(|_| counted)?;
        // Products of two sums are whole numbers of 64 bits.
        i64::try_from(queries)
            .ok()
            .filter(|queries| *queries < 1 << 16)
    };
    let first = queries(runs.first()?)?;
    if runs.len() >= 1 << 14 || runs.iter().any(|run| queries(run) != Some(first)) {
        return None;
    }
    let mut sums = vec![0; all.first()?.len()];
    for scores in all {
        for (sum, score) in sums.iter_mut().zip(scores) {
            let right = score * first as f64;
            if !(0.0..=1.0).contains(score) || (right - right.round()).abs() > 1e-6 {
                return None;
            }
            *sum += right.round() as i64;
        }
    }
    Some((sums, first * runs.len() as i64))
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
    let choices = ["learner.name", "encoder.name", "data.source"];
    let rank = |key: &String| choices.iter().position(|choice| choice == key);
    telling.sort_by_key(|key| (rank(key).unwrap_or(choices.len()), key.clone()));
    telling.dedup();
    if telling.is_empty() {
        vec!["learner.name".to_owned(), "encoder.name".to_owned()]
    } else {
        telling
    }
}

/// Groups `runs` by the keys `group_by`, or by every setting but the seed where there are none; adds to
/// `notes` what a reader has to know.
///
/// # Errors
/// For a key that no run has, a run that lacks what is compared, or scores of two kinds in one group.
pub fn group(
    group_by: &[String],
    measure: Measure,
    runs: Vec<Stored>,
    notes: &mut Vec<String>,
) -> Result<Vec<Group>> {
    for key in group_by {
        check_key(key, &runs, &[])?;
    }
    let mut by_key: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
    let mut seen = HashSet::new();
    let mut twice = 0;
    for run in runs {
        if !seen.insert(run.hash.clone()) {
            twice += 1;
            continue;
        }
        let key: String = if group_by.is_empty() {
            run.settings
                .iter()
                .filter(|(key, _)| *key != "seed" && Manifest::is_identity(key))
                .map(|(key, value)| format!("{key}={value}\n"))
                .collect()
        } else {
            group_by
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
    let keys = if group_by.is_empty() {
        telling_keys(&firsts)
    } else {
        group_by.to_vec()
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
    if results.iter().any(|result| result.metric != metric) {
        return Err(CommandError::Usage(format!(
            "{}: accuracies and squared errors cannot be in one group; add data.source to --group-by",
            title(&label)
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
    let tested: Vec<Tested> = runs
        .iter()
        .zip(&results)
        .map(|(run, result)| Tested::of(run, result))
        .collect();
    let first = tested.iter().min_by_key(|tested| tested.count);
    let first = first.cloned().expect("a group has a run");
    let other = tested
        .iter()
        .position(|other| other.shared(&first).is_none());
    let note = other.map(|index| {
        format!(
            "{}: no interval over episodes: {} and {} were tested on other episodes ({} and {})",
            title(&label),
            runs[0].name(),
            runs[index].name(),
            short(&tested[0].hash),
            short(&tested[index].hash)
        )
    });
    let episodes = other.is_none().then_some(first);
    let over_episodes = match (measure, &episodes, results.as_slice()) {
        (Measure::Score(None), Some(_), [result]) => Some(Interval {
            mean: result.mean,
            half_width: result.ci95,
            level: 0.95,
            method: result.method,
            n: result.episodes,
        }),
        (measure, Some(tested), _) if measure.by_episode() => {
            let all: Vec<&Stored> = runs.iter().collect();
            Some(Interval::t95(
                &over_runs(&all, measure, tested.count)?.means,
            ))
        }
        _ => None,
    };
    let group = Group {
        over_seeds: Interval::t95(&values),
        values,
        label,
        metric,
        over_episodes,
        episodes,
        runs,
    };
    Ok((group, note))
}

/// The difference of the runs' means, paired by seed, where the groups share at least two seeds and have one
/// run of each.
pub fn over_seeds(a: &Group, b: &Group) -> Option<Paired> {
    let (seeds_a, seeds_b) = (a.seeds(), b.seeds());
    let once = |seeds: &[u64]| seeds.iter().collect::<HashSet<_>>().len() == seeds.len();
    if !once(&seeds_a) || !once(&seeds_b) {
        return None;
    }
    let pairs = seeds_a.iter().zip(&a.values).filter_map(|(seed, value)| {
        let other = seeds_b.iter().position(|of_b| of_b == seed)?;
        Some((*value, b.values[other]))
    });
    let (x, y): (Vec<f64>, Vec<f64>) = pairs.unzip();
    (x.len() >= 2).then(|| paired_t(&x, &y))
}
