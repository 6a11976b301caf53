//! `meta compare`: compares finished runs.
//!
//! Runs that differ in nothing but the seed are a group. A group has two intervals:
//!
//! * *over seeds*, of the runs' means: the variation over training seeds;
//! * *over episodes*, of each frozen episode's mean over the seeds: the variation over test episodes.
//!
//! Differences are paired on the same frozen episodes, which their hash proves. Other differences are not
//! shown.

mod by_set;
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
use differences::{Difference, Pairs, TestKind, Wanted, differences};
pub use groups::{Group, read_scores};
use groups::{group, sound};
use measure::Measure;
use table::Comparison;

/// Compare finished runs: intervals over seeds and episodes, paired differences.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Run folders, or folders of run folders [default: runs].
    runs: Vec<PathBuf>,
    /// What is compared: `score` (of the test), `score@N` (after N adaptation steps),
    /// `log_likelihood` (of learners that predict densities), `auroc` (of tasks of two classes), `loss`,
    /// `validation`, `train_seconds`, `iterations`, `parameters`.
    #[arg(long, default_value = "score")]
    metric: String,
    /// Keys by which runs are grouped, separated by commas [default: every setting but the seed].
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    group_by: Vec<String>,
    /// Column by which rows are sorted: the metric, a key, or `n`; in reverse order with `-` in front
    /// [default: best first].
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    sort: Option<String>,
    /// Only runs that meet this condition, such as `learner.name=maml`, `train.lr<0.01`, `tag=paper`;
    /// several must all be met.
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// Which differences are shown [default: all for up to 6 rows, first for up to 50, none above].
    #[arg(long, value_enum)]
    pairs: Option<Pairs>,
    /// Only differences between rows that differ in this key alone (an ablation), with their interval
    /// over seeds.
    #[arg(long, value_name = "KEY", conflicts_with = "pairs")]
    contrast: Option<String>,
    /// A table for each test: a row for each of its data sets, a column for each learner, and on how many
    /// sets each is better than each other, paired by episode.
    #[arg(long, conflicts_with_all = ["pairs", "contrast"])]
    by_set: bool,
    /// How differences are tested.
    #[arg(long, value_enum, default_value_t = TestKind::T)]
    test: TestKind,
    /// Form of the tables. CSV is one table: the differences where --pairs or --contrast asks for them,
    /// else the rows.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// More differences than this are not computed.
const MOST_GROUPS: usize = 50;

impl Execute for CompareArgs {
    /// Compares the runs and prints the tables.
    ///
    /// # Errors
    /// As [`CompareArgs::tables`].
    fn execute<T: Toolkit>(self) -> Result<()> {
        print(&self.tables()?)
    }
}

impl CompareArgs {
    /// The runs compared, in text, as by `meta compare PATH…`.
    pub fn of(runs: Vec<PathBuf>) -> Self {
        CompareArgs {
            runs,
            metric: "score".to_owned(),
            group_by: Vec::new(),
            sort: None,
            conditions: Vec::new(),
            pairs: None,
            contrast: None,
            by_set: false,
            test: TestKind::T,
            format: Format::Text,
        }
    }

    /// The same of runs that meet these conditions.
    pub fn with_conditions(self, conditions: Vec<String>) -> Self {
        CompareArgs { conditions, ..self }
    }

    /// The same in groups by these keys.
    pub fn grouped_by(self, group_by: Vec<String>) -> Self {
        CompareArgs { group_by, ..self }
    }

    /// The tables.
    ///
    /// # Errors
    /// When there is no finished run, or a run, a metric or a key is not what it should be.
    pub fn tables(&self) -> Result<String> {
        let mut notes = Vec::new();
        let runs = self.finished(&mut notes)?;
        let compared = self.compared(runs, notes)?;
        if self.by_set {
            return by_set::render(&compared.groups, compared.measure, self.format);
        }
        Ok(compared.comparison().render(self.format))
    }

    /// Compares finished `runs`; `notes` are what a reader has to know of them.
    ///
    /// # Errors
    /// As [`CompareArgs::tables`].
    pub fn compared(&self, runs: Vec<Stored>, mut notes: Vec<String>) -> Result<Compared> {
        let measure = Measure::parse(&self.metric)?;
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
        Ok(Compared {
            measure,
            metric: self.metric.clone(),
            many: if self.group_by.is_empty() {
                "seeds"
            } else {
                "runs"
            },
            test: self.test,
            contrast: self.contrast.is_some(),
            of_pairs: self.contrast.is_some()
                || self.pairs.is_some_and(|pairs| pairs != Pairs::None),
            groups,
            differences,
            notes,
        })
    }

    /// The finished runs that are asked for; adds to `notes` which ones are left out.
    ///
    /// # Errors
    /// When there is none.
    pub fn finished(&self, notes: &mut Vec<String>) -> Result<Vec<Stored>> {
        let measure = Measure::parse(&self.metric)?;
        let paths = if self.runs.is_empty() {
            vec![PathBuf::from("runs")]
        } else {
            self.runs.clone()
        };
        let (runs, damaged) = store::read_with_evaluations(&paths)?;
        notes.extend(damaged.iter().map(|text| format!("left out: {text}")));
        let runs = store::filter(runs, &self.conditions)?;
        let found = runs.len();
        let finished = runs.into_iter().filter(|run| run.result.is_some());
        let finished: Vec<Stored> = finished.collect();
        let unfinished = found - finished.len();
        let finished = sound(finished, measure, notes);
        if finished.is_empty() {
            let shown = paths.iter().map(|path| path.display().to_string());
            let among = match found {
                0 => String::new(),
                found => format!(" among {found}"),
            };
            let reasons: String = notes.iter().map(|note| format!("; {note}")).collect();
            return Err(CommandError::Usage(format!(
                "{}: no finished run to compare{among}{reasons}",
                shown.collect::<Vec<_>>().join(", "),
            )));
        }
        if unfinished > 0 {
            notes.push(format!(
                "{unfinished} runs are not finished, and are left out"
            ));
        }
        Ok(finished)
    }
}

/// Runs that are compared.
pub struct Compared {
    measure: Measure,
    metric: String,
    many: &'static str,
    test: TestKind,
    contrast: bool,
    of_pairs: bool,
    /// The groups, the best first.
    pub groups: Vec<Group>,
    /// The differences that are shown.
    pub differences: Vec<Difference>,
    notes: Vec<String>,
}

impl Compared {
    /// The same, ready to be rendered.
    pub fn comparison(&self) -> Comparison<'_> {
        Comparison {
            measure: self.measure,
            metric: &self.metric,
            many: self.many,
            test: self.test,
            contrast: self.contrast,
            of_pairs: self.of_pairs,
            groups: &self.groups,
            differences: &self.differences,
            notes: &self.notes,
            width: terminal_width(),
        }
    }
}

/// Columns of the terminal that stdout is; none where it is a file or a pipe.
fn terminal_width() -> Option<usize> {
    let terminal = console::Term::stdout();
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let (_, columns) = terminal.size_checked().filter(|_| is_terminal)?;
    Some(usize::from(columns).max(40))
}

/// Sorts the groups by a column: the compared `metric`, a key, or `n`; the best first where none is
/// given.
fn sort(
    column: Option<&str>,
    metric: &str,
    measure: Measure,
    groups: &mut Vec<Group>,
) -> Result<()> {
    // Scores of two kinds are in no order.
    let better = |a: &Group, b: &Group| {
        let by_value = a.over_seeds.mean.total_cmp(&b.over_seeds.mean);
        let by_value = match measure.rises(a.metric) {
            true => by_value.reverse(),
            false => by_value,
        };
        a.metric.name().cmp(b.metric.name()).then(by_value)
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
    if column == metric && !reverse {
        together(groups);
    }
    Ok(())
}

/// Puts groups that can be compared together, in the order of the first of each kind.
fn together(groups: &mut Vec<Group>) {
    let mut kinds: Vec<Vec<Group>> = Vec::new();
    for group in groups.drain(..) {
        match kinds
            .iter_mut()
            .find(|kind| kind[0].shares_episodes(&group))
        {
            Some(kind) => kind.push(group),
            None => kinds.push(vec![group]),
        }
    }
    groups.extend(kinds.into_iter().flatten());
}

/// Numbers named SciPy's are of SciPy 1.17 on the scores of [`A`], [`B`] and [`C`] (`x`, `y`: one row a
/// seed, one column an episode):
///
/// ```python
/// half = lambda v: stats.t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / sqrt(len(v))
/// half(x.mean(axis=1)), half(x.mean(axis=0))                # over seeds, over episodes
/// a, b = x.mean(axis=0), y.mean(axis=0)
/// (a - b).mean(), half(a - b), stats.ttest_rel(a, b).pvalue
/// stats.wilcoxon(a, b, method="exact").pvalue
/// ```
#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use meta_core::stats::{Interval, Paired};
    use serde_json::json;

    use super::{
        groups::{over_runs, over_seeds},
        *,
    };
    use crate::{manifest::entries::flat, run::state::State};

    /// Scores of two seeds on eight episodes, in 64ths: sums and differences are exact.
    const A: [[i32; 8]; 2] = [
        [52, 40, 58, 44, 48, 55, 50, 47],
        [46, 50, 54, 40, 52, 57, 43, 51],
    ];
    const B: [[i32; 8]; 2] = [
        [40, 42, 45, 48, 46, 52, 41, 55],
        [42, 38, 48, 41, 39, 54, 45, 46],
    ];
    const C: [[i32; 8]; 2] = [
        [50, 38, 57, 45, 47, 50, 52, 44],
        [44, 49, 52, 42, 49, 56, 40, 50],
    ];

    /// A folder of finished runs.
    struct Runs {
        folder: tempfile::TempDir,
        all: Vec<Stored>,
    }

    impl Runs {
        fn new() -> Self {
            Runs {
                folder: tempfile::tempdir().unwrap(),
                all: Vec::new(),
            }
        }

        /// Adds the runs of `learner`, with seeds from 0, tested on the episodes called `set`; each scores
        /// half as much before adaptation.
        fn add(&mut self, learner: &str, set: &str, scores: &[[i32; 8]]) {
            for (seed, scores) in scores.iter().enumerate() {
                let last: Vec<f64> = scores
                    .iter()
                    .map(|&score| f64::from(score) / 64.0)
                    .collect();
                self.add_run(learner, set, seed as u64, &last);
            }
        }

        fn add_run(&mut self, learner: &str, set: &str, seed: u64, last: &[f64]) {
            let first: Vec<f64> = last.iter().map(|score| 0.5 * score).collect();
            let name = format!("{learner}-{set}-{seed}");
            let folder = self.folder.path().join(&name);
            fs::create_dir_all(&folder).unwrap();
            let scores = json!({ "scores": [first, last] });
            fs::write(folder.join("scores.json"), scores.to_string()).unwrap();
            let score = Interval::t95(last);
            let step = |step: usize, scores: &[f64]| {
                let score = Interval::t95(scores);
                json!({ "step": step, "mean": score.mean, "ci95": score.half_width })
            };
            let result = json!({
                "name": "run", "hash": name, "run_dir": "", "learner": learner, "encoder": "mlp",
                "source": "glyphs", "split": "test", "way": 5, "shot": 1, "query": 3,
                "metric": "accuracy", "mean": score.mean, "ci95": score.half_width, "method": "t",
                "episodes": score.n, "episode_set": set, "loss": 1.0 - score.mean,
                "by_step": [step(0, &first), step(1, last)], "seed": seed, "test_seed": 0,
                "backend": "flex", "parameters": 10, "iterations": 100, "ending": "finished",
                "best_iteration": 100, "best_value": 0.5, "train_seconds": 2.0, "test_seconds": 1.0,
            });
            let settings = json!({
                "seed": seed,
                "name": name,
                "learner": { "name": learner },
                "encoder": { "name": "mlp" },
                "train": { "lr": 0.1 },
            });
            self.all.push(Stored {
                scores: folder.join("scores.json"),
                folder,
                hash: name,
                settings: flat(&settings)
                    .map(|(key, value)| (key, value.clone()))
                    .collect(),
                state: State::Finished,
                result: Some(serde_json::from_value(result).unwrap()),
                tags: Vec::new(),
                content: String::new(),
                evaluation: None,
            });
        }

        /// The groups by these keys, the best first, and the notes.
        fn groups(&self, by: &[&str], measure: Measure) -> Result<(Vec<Group>, Vec<String>)> {
            let by: Vec<String> = by.iter().map(|&key| key.to_owned()).collect();
            let mut notes = Vec::new();
            let mut groups = group(&by, measure, self.all.clone(), &mut notes)?;
            sort(None, "score", measure, &mut groups)?;
            Ok((groups, notes))
        }
    }

    /// The runs of `A`, `B` and `C` on the same episodes.
    fn three() -> Runs {
        let mut runs = Runs::new();
        runs.add("a", "same episodes", &A);
        runs.add("b", "same episodes", &B);
        runs.add("c", "same episodes", &C);
        runs
    }

    const SCORE: Measure = Measure::Score(None);

    fn wanted(test: TestKind, pairs: Pairs) -> Wanted<'static> {
        Wanted {
            test,
            pairs,
            contrast: None,
        }
    }

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() <= 1e-9 * expected.abs(),
            "{found} is not {expected}"
        );
    }

    fn titles(groups: &[Group]) -> Vec<String> {
        groups.iter().map(Group::title).collect()
    }

    #[test]
    fn measures_are_named_and_read() {
        let runs = three();
        let result = runs.all[0].result.as_ref().unwrap();
        for (name, expected) in [
            ("score", result.mean),
            ("score@0", 0.5 * result.mean),
            ("score@1", result.mean),
            ("loss", 1.0 - result.mean),
            ("validation", 0.5),
            ("train_seconds", 2.0),
            ("iterations", 100.0),
            ("parameters", 10.0),
        ] {
            assert_eq!(
                Measure::parse(name).unwrap().of(result),
                Some(expected),
                "{name}"
            );
        }
        assert_eq!(Measure::parse("score@9").unwrap().of(result), None);
        assert_eq!(Measure::parse("log_likelihood").unwrap().of(result), None);
        for (name, part) in [("scroe", "did you mean `score`"), ("score@x", "score@N")] {
            let message = Measure::parse(name).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    /// Closed forms: of two seeds, the half-width is t₀.₉₇₅(1) · |difference| / 2 = tan(0.475 π) · …; and
    /// SciPy's numbers.
    #[test]
    fn groups_have_intervals_over_seeds_and_episodes() {
        let runs = three();
        let (groups, notes) = runs.groups(&[], SCORE).unwrap();
        assert_eq!(titles(&groups), ["a", "c", "b"]);
        assert!(notes.is_empty(), "{notes:?}");
        let scipy = [
            (
                0.768_554_687_5,
                0.012_408_403_062_670_6,
                0.064_368_396_756_645_41,
            ),
            (
                0.747_070_312_5,
                0.012_408_403_062_670_6,
                0.052_592_799_306_786_04,
            ),
            (
                0.705_078_125,
                0.198_534_449_002_729_6,
                0.060_039_287_638_098_02,
            ),
        ];
        for (group, (mean, seeds, episodes)) in groups.iter().zip(scipy) {
            assert_eq!(group.over_seeds.mean, mean);
            close(group.over_seeds.half_width, seeds);
            let [one, other] = group.values[..] else {
                panic!("two seeds")
            };
            let tangent = (0.475 * std::f64::consts::PI).tan();
            assert!(
                (group.over_seeds.half_width - 0.5 * tangent * (one - other).abs()).abs() < 1e-6
            );
            close(group.over_episodes.unwrap().half_width, episodes);
            assert_eq!(group.over_episodes.unwrap().n, 8);
        }
    }

    /// A group of one run has the interval of its own test, and none over seeds.
    #[test]
    fn one_run_has_no_interval_over_seeds() {
        let mut runs = Runs::new();
        runs.add("a", "same episodes", &A[..1]);
        let (groups, _) = runs.groups(&[], SCORE).unwrap();
        assert!(groups[0].over_seeds.half_width.is_infinite());
        let result = runs.all[0].result.as_ref().unwrap();
        assert_eq!(groups[0].over_episodes.unwrap().half_width, result.ci95);
        let rows = comparison(&groups, &[], "seeds").render(Format::Csv);
        assert!(
            rows.lines().nth(1).unwrap().contains(",1,0.76953125,,"),
            "{rows}"
        );
    }

    #[test]
    fn runs_are_grouped_by_keys_and_each_counts_once() {
        let mut runs = three();
        let again = runs.all[0].clone();
        runs.all.push(again);
        let (groups, notes) = runs.groups(&["encoder.name"], SCORE).unwrap();
        assert_eq!(titles(&groups), ["mlp"]);
        assert_eq!(groups[0].runs.len(), 6);
        assert!(
            notes[0].starts_with("1 run folders hold the same run"),
            "{notes:?}"
        );
        let (groups, _) = runs.groups(&["learner.name", "seed"], SCORE).unwrap();
        assert_eq!(titles(&groups)[0], "a seed=0");
        assert_eq!(groups.len(), 6);
        let message = runs
            .groups(&["learner.nam"], SCORE)
            .err()
            .unwrap()
            .to_string();
        assert!(message.contains("did you mean `learner.name`"), "{message}");
    }

    /// What names no difference is not shown; the seed and the name never are.
    #[test]
    fn rows_are_told_apart_by_the_keys_that_differ() {
        let mut runs = three();
        for run in runs.all.iter_mut().skip(4) {
            run.settings.insert("train.lr".to_owned(), json!(0.2));
        }
        let (groups, _) = runs.groups(&[], SCORE).unwrap();
        let keys: Vec<&str> = groups[0]
            .label
            .iter()
            .map(|(key, _)| key.as_str())
            .collect();
        assert_eq!(keys, ["learner.name", "train.lr"]);
        assert_eq!(titles(&groups), ["a lr=0.1", "c lr=0.2", "b lr=0.1"]);
        assert!(!groups[1].contrasts(&groups[2], "train.lr"));
        assert_eq!(groups[1].value_of("train.lr"), Some("0.2"));
    }

    #[test]
    fn accuracies_and_errors_are_not_one_group() {
        let mut runs = three();
        let result = runs.all[0].result.as_mut().unwrap();
        result.metric = meta_core::train::eval::Metric::MeanSquaredError;
        let message = runs.groups(&[], SCORE).err().unwrap().to_string();
        assert!(message.contains("cannot be in one group"), "{message}");
    }

    /// SciPy's numbers: paired by episode, after the mean over seeds.
    #[test]
    fn differences_are_paired_by_episodes() {
        let runs = three();
        let (groups, _) = runs.groups(&[], SCORE).unwrap();
        let of = |test: TestKind| differences(wanted(test, Pairs::All), SCORE, &groups);
        let (found, refused) = of(TestKind::T);
        assert!(refused.is_empty(), "{refused:?}");
        let scipy = [
            (
                0,
                1,
                0.021_484_375,
                0.017_715_840_875_089_57,
                0.024_073_447_745_363_158,
            ),
            (
                0,
                2,
                0.063_476_562_5,
                0.056_986_348_419_648_57,
                0.033_719_359_204_180_45,
            ),
            (
                1,
                2,
                0.041_992_187_5,
                0.051_064_209_396_968_92,
                0.092_913_483_765_323_23,
            ),
        ];
        for (difference, (a, b, mean, half, p)) in found.iter().zip(scipy) {
            let Paired {
                difference: interval,
                p_value,
            } = difference.paired;
            assert_eq!((difference.a, difference.b, interval.n), (a, b, 8));
            assert_eq!(interval.mean, mean);
            close(interval.half_width, half);
            close(p_value, p);
        }
        close(of(TestKind::Wilcoxon).0[1].paired.p_value, 0.039_062_5);
    }

    /// Holm by hand: the smallest of three times 3, the next one times 2 but not below it, the last one as
    /// it is. That a pair is not shown corrects the others no less.
    #[test]
    fn p_values_are_corrected_for_all_pairs() {
        let runs = three();
        let (groups, _) = runs.groups(&[], SCORE).unwrap();
        let corrected = |pairs: Pairs| -> Vec<f64> {
            let (found, _) = differences(wanted(TestKind::T, pairs), SCORE, &groups);
            found
                .iter()
                .map(|difference| difference.corrected)
                .collect()
        };
        let all = corrected(Pairs::All);
        let smallest = 3.0 * 0.024_073_447_745_363_158;
        for (found, expected) in all
            .iter()
            .zip([smallest, smallest, 0.092_913_483_765_323_23])
        {
            close(*found, expected);
        }
        assert_eq!(corrected(Pairs::First), all[..2]);
        assert!(corrected(Pairs::None).is_empty());
    }

    /// Right answers of 15 queries; another group has three seeds, whose sums tie as the counts do. SciPy's
    /// p-value of the counts, with the corrections for ties and continuity.
    #[test]
    fn scores_that_are_counts_tie_as_counts() {
        let right = [
            [14, 11, 11, 7, 14, 13, 8, 6, 13, 8, 6, 11],
            [13, 10, 12, 5, 12, 12, 7, 5, 12, 7, 5, 12],
        ];
        let scores = |counts: &[i32], more: i32| -> Vec<f64> {
            let score = |count: &i32| f64::from(count + more) / 15.0;
            counts.iter().map(score).collect()
        };
        let mut runs = Runs::new();
        runs.add_run("a", "same episodes", 7, &scores(&right[0], 0));
        for (seed, more) in [(0, 1), (1, 0), (2, -1)] {
            runs.add_run("b", "same episodes", seed, &scores(&right[1], more));
        }
        let (groups, _) = runs.groups(&[], SCORE).unwrap();
        let (found, _) = differences(wanted(TestKind::Wilcoxon, Pairs::All), SCORE, &groups);
        close(found[0].paired.p_value, 0.020_900_176_994_634_95);
        assert_eq!(found[0].paired.difference.n, 12);
    }

    /// CSV is one table, whatever else there is to say.
    #[test]
    fn csv_is_one_table() {
        let runs = three();
        let (groups, _) = runs.groups(&[], SCORE).unwrap();
        let (found, _) = differences(wanted(TestKind::T, Pairs::All), SCORE, &groups);
        for of_pairs in [false, true] {
            let asked = Comparison {
                of_pairs,
                ..comparison(&groups, &found, "seeds")
            };
            let csv = asked.render(Format::Csv);
            let columns: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
            assert_eq!(columns.len(), 4, "{csv}");
            assert!(columns.iter().all(|count| *count == columns[0]), "{csv}");
            assert_eq!(csv.starts_with("pair,a,b"), of_pairs, "{csv}");
        }
    }

    /// Of a number of the result, the difference is paired by seed. SciPy's interval over two seeds.
    #[test]
    fn numbers_of_results_are_paired_by_seed() {
        let measure = Measure::parse("loss").unwrap();
        let runs = three();
        let (groups, _) = runs.groups(&[], measure).unwrap();
        assert_eq!(
            titles(&groups),
            ["a", "c", "b"],
            "a loss is better where it is lower"
        );
        let (found, _) = differences(wanted(TestKind::T, Pairs::All), measure, &groups);
        let interval = found[1].paired.difference;
        assert_eq!((interval.n, interval.mean), (2, -0.063_476_562_5));
        close(interval.half_width, 0.186_126_045_940_058_97);
        // The same interval as of the scores, seed by seed.
        let over_seeds = found[1].over_seeds.unwrap();
        close(over_seeds.difference.half_width, interval.half_width);
        // SciPy: ttest_rel of the means of the two seeds.
        close(over_seeds.p_value, 0.144_384_631_021_294_5);
    }

    #[test]
    fn only_seeds_that_both_have_are_paired() {
        let mut runs = Runs::new();
        runs.add("a", "same episodes", &A);
        runs.add("b", "same episodes", &B[..1]);
        let (groups, _) = runs.groups(&[], SCORE).unwrap();
        let (found, _) = differences(wanted(TestKind::T, Pairs::All), SCORE, &groups);
        // SciPy: A[0] and B[0] alone.
        assert_eq!(found[0].paired.difference.mean, 0.048_828_125);
        close(found[0].paired.p_value, 0.287_568_024_304_327_26);
        assert_eq!(
            over_seeds(&groups[0], &groups[1]),
            None,
            "one seed in common"
        );
        let (_, refused) = differences(
            wanted(TestKind::T, Pairs::All),
            Measure::parse("loss").unwrap(),
            &groups,
        );
        assert!(refused[0].contains("fewer than two seeds"), "{refused:?}");
    }

    #[test]
    fn other_episodes_are_not_paired() {
        let mut runs = three();
        runs.add("d", "other episodes", &A);
        let (groups, notes) = runs.groups(&[], SCORE).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        let (found, refused) = differences(wanted(TestKind::T, Pairs::All), SCORE, &groups);
        assert_eq!((found.len(), refused.len()), (3, 1));
        let note = &refused[0];
        assert!(
            note.starts_with("3 pairs are not comparable, such as "),
            "{note}"
        );
        assert!(note.contains("tested on other episodes"), "{note}");
        assert!(note.contains("(d)"), "{note}");
        // Why a pair that is not shown is not there is not said.
        let (_, refused) = differences(wanted(TestKind::T, Pairs::First), SCORE, &groups);
        assert!(refused[0].starts_with("not paired: 1 "), "{refused:?}");
        // In one group, they have no episodes in common.
        let (pooled, notes) = runs.groups(&["encoder.name"], SCORE).unwrap();
        assert_eq!(pooled[0].over_episodes, None);
        assert!(notes[0].contains("no interval over episodes"), "{notes:?}");
    }

    #[test]
    fn damaged_scores_are_named() {
        let mut runs = Runs::new();
        runs.add("a", "same episodes", &A);
        runs.add_run("short", "same episodes", 0, &[0.5; 4]);
        runs.all[2].result.as_mut().unwrap().episodes = 8;
        let all: Vec<&Stored> = runs.all.iter().collect();
        let message = over_runs(&all, SCORE, usize::MAX).unwrap_err().to_string();
        assert!(
            message.contains("has 4 episodes, its result has 8"),
            "{message}"
        );
        assert!(message.contains("short-same episodes-0"), "{message}");
        let message = over_runs(&all[..1], Measure::Score(Some(7)), usize::MAX)
            .unwrap_err()
            .to_string();
        assert!(message.contains("has no scores after 7 steps"), "{message}");
        let message = over_runs(&all[..1], Measure::LogLikelihood, usize::MAX)
            .unwrap_err()
            .to_string();
        assert!(message.contains("has no log-likelihoods"), "{message}");
        fs::write(all[0].folder.join("scores.json"), "{").unwrap();
        let message = over_runs(&all[..1], SCORE, usize::MAX)
            .unwrap_err()
            .to_string();
        assert!(message.contains("is damaged"), "{message}");
        fs::remove_file(all[0].folder.join("scores.json")).unwrap();
        assert!(over_runs(&all[..1], SCORE, usize::MAX).is_err());
        assert!(!Path::new("scores.json").exists());
    }

    /// A contrast is between rows that differ in one key alone, in the order of its values.
    #[test]
    fn a_contrast_is_of_one_key() {
        let mut runs = three();
        for run in runs.all.iter_mut().skip(4) {
            run.settings.insert("learner.name".to_owned(), json!("a"));
            run.settings.insert("train.lr".to_owned(), json!(0.05));
        }
        let (groups, _) = runs.groups(&[], SCORE).unwrap();
        assert_eq!(titles(&groups), ["a lr=0.1", "a lr=0.05", "b lr=0.1"]);
        let contrast = Wanted {
            contrast: Some("train.lr"),
            ..wanted(TestKind::T, Pairs::All)
        };
        let (found, _) = differences(contrast, SCORE, &groups);
        let [difference] = &found[..] else {
            panic!("{} differences", found.len())
        };
        assert_eq!((difference.a, difference.b), (1, 0), "0.05 before 0.1");
        assert_eq!(difference.paired.difference.mean, -0.021_484_375);
    }

    #[test]
    fn rows_are_sorted_by_a_column() {
        let runs = three();
        let (mut groups, _) = runs.groups(&[], SCORE).unwrap();
        let mut sorted = |column: &str| {
            sort(Some(column), "score", SCORE, &mut groups).map(|()| titles(&groups))
        };
        assert_eq!(sorted("learner.name").unwrap(), ["a", "b", "c"]);
        assert_eq!(sorted("-learner.name").unwrap(), ["c", "b", "a"]);
        assert_eq!(sorted("-score").unwrap(), ["b", "c", "a"]);
        assert_eq!(
            sorted("n").unwrap(),
            ["a", "c", "b"],
            "among equals, the best first"
        );
        assert!(sorted("learner").is_err());
    }

    fn comparison<'a>(
        groups: &'a [Group],
        differences: &'a [Difference],
        many: &'static str,
    ) -> Comparison<'a> {
        Comparison {
            measure: SCORE,
            metric: "score",
            many,
            test: TestKind::T,
            contrast: false,
            of_pairs: false,
            groups,
            differences,
            notes: &[],
            width: None,
        }
    }

    #[test]
    fn a_comparison_is_rendered() {
        let runs = three();
        let (groups, _) = runs.groups(&[], SCORE).unwrap();
        let (found, _) = differences(wanted(TestKind::T, Pairs::First), SCORE, &groups);
        let shown = comparison(&groups, &found, "seeds").render(Format::Text);
        insta::assert_snapshot!(shown, @r"
        #  learner.name  seeds  accuracy  over seeds  over episodes
        1  a             2      76.86 %   ± 1.24      ± 6.44
        2  c             2      74.71 %   ± 1.24      ± 5.26
        3  b             2      70.51 %   ± 19.85     ± 6.00

        pair   a  b  a − b         over episodes  episodes  p (episodes)  Holm (episodes)  over seeds  seeds  p (seeds)  Holm (seeds)
        1 − 2  a  c  +2.15 points  ± 1.77         8         0.0241        0.0722           ± 0.00      2      < 0.0001   < 0.0001
        1 − 3  a  b  +6.35 points  ± 5.70         8         0.0337        0.0722           ± 18.61     2      0.1444     0.2888

        Verdict: a is better than c, the next one, by 2.15 ± 0.00 points over 2 seeds (p < 0.0001).
        ±: half of a 95 % interval by Student's t. Over seeds: of the seeds' means; over episodes: of each frozen episode's mean over the seeds.
        a − b: the better one minus the other; p (episodes): Student's paired t-test, paired on the same episodes; p (seeds): Student's paired t-test of the runs' means; Holm: corrected for all pairs of the table above.
        ");
    }
}
