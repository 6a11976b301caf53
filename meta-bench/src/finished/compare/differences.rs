//! Tests paired differences between groups, and corrects their p-values.

use clap::ValueEnum;
use meta_core::stats::{Paired, holm, paired_t, paired_wilcoxon, signed_rank_p};
use rayon::prelude::*;

use super::{
    groups::{Group, OverRuns, over_runs, over_seeds},
    measure::Measure,
};
use crate::finished::store::{Stored, short};

/// How differences are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TestKind {
    /// Student's paired t-test.
    T,
    /// Wilcoxon's signed-rank test.
    Wilcoxon,
}

/// Which differences are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pairs {
    /// Every pair of groups.
    All,
    /// The first row against every other one.
    First,
    /// None.
    None,
}

/// A difference between two groups.
pub struct Difference {
    /// Place of the first group.
    pub a: usize,
    /// Place of the other one.
    pub b: usize,
    /// `a − b`, paired by episode, or by seed for a number of the result.
    pub paired: Paired,
    /// Of the runs' means, paired by seed, where the groups share at least two.
    pub over_seeds: Option<Paired>,
    /// The p-value, corrected for all pairs together.
    pub corrected: f64,
    /// The same of the p-value over seeds.
    pub corrected_over_seeds: Option<f64>,
}

/// Why two groups cannot be paired.
enum Refused {
    /// They were tested on other episodes: how, in words.
    OtherEpisodes(String),
    /// Something else, in words.
    Other(String),
}

/// The paired difference of two groups, or why they cannot be paired.
fn difference(test: TestKind, measure: Measure, a: &Group, b: &Group) -> Result<Paired, Refused> {
    let (Some(set_a), Some(set_b)) = (&a.episodes, &b.episodes) else {
        return Err(Refused::OtherEpisodes(
            "the runs of one of them were not tested on the same episodes".to_owned(),
        ));
    };
    let Some(shared) = set_a.shared(set_b) else {
        return Err(Refused::OtherEpisodes(format!(
            "they were tested on other episodes ({} and {})",
            short(&set_a.hash),
            short(&set_b.hash)
        )));
    };
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
        Measure::Score(_) | Measure::LogLikelihood | Measure::Auroc => {
            let scores = |group: &Group, rows: &[usize]| {
                let runs: Vec<&Stored> = rows.iter().map(|&row| &group.runs[row]).collect();
                over_runs(&runs, measure, shared).map_err(|error| Refused::Other(error.to_string()))
            };
            (scores(a, &rows_a)?, scores(b, &rows_b)?)
        }
        Measure::Field(_) => {
            if common.len() < 2 || rows_a.len() != rows_b.len() {
                return Err(Refused::Other("they share fewer than two seeds".to_owned()));
            }
            let values = |group: &Group, rows: &[usize]| OverRuns {
                means: rows.iter().map(|&row| group.values[row]).collect(),
                counts: None,
            };
            (values(a, &rows_a), values(b, &rows_b))
        }
    };
    let (count, other) = (x.means.len(), y.means.len());
    if count != other {
        return Err(Refused::Other(format!(
            "they have {count} and {other} values"
        )));
    }
    Ok(match test {
        TestKind::T => paired_t(&x.means, &y.means),
        TestKind::Wilcoxon => wilcoxon(&x, &y),
    })
}

/// Wilcoxon's test: of the counts where both are counts, which knows what is equal.
fn wilcoxon(x: &OverRuns, y: &OverRuns) -> Paired {
    let (Some((sums_x, parts_x)), Some((sums_y, parts_y))) = (&x.counts, &y.counts) else {
        return paired_wilcoxon(&x.means, &y.means);
    };
    let gaps = sums_x.iter().zip(sums_y);
    let gaps: Vec<i64> = gaps.map(|(x, y)| x * parts_y - y * parts_x).collect();
    Paired {
        p_value: signed_rank_p(&gaps),
        ..paired_t(&x.means, &y.means)
    }
}

/// Which differences are computed and shown.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// How they are tested.
    pub test: TestKind,
    /// Which ones are shown.
    pub pairs: Pairs,
    /// Only between groups that differ in this key alone.
    pub contrast: Option<&'a str>,
}

impl Wanted<'_> {
    /// The pairs of `groups` that are compared: the better one first, but in a contrast.
    fn pairs_of(self, measure: Measure, groups: &[Group]) -> Vec<(usize, usize)> {
        let count = groups.len();
        let is_worse = |a: usize, b: usize| {
            let (x, y) = (groups[a].over_seeds.mean, groups[b].over_seeds.mean);
            if measure.rises(groups[a].metric) {
                x < y
            } else {
                x > y
            }
        };
        (0..count)
            .flat_map(|a| (a + 1..count).map(move |b| (a, b)))
            .filter_map(|(a, b)| match self.contrast {
                None if is_worse(a, b) => Some((b, a)),
                None => Some((a, b)),
                Some(key) if !groups[a].contrasts(&groups[b], key) => None,
                // In the order of the values, whichever is better: the sign says it.
                Some(key) if groups[a].value_of(key) > groups[b].value_of(key) => Some((b, a)),
                Some(_) => Some((a, b)),
            })
            .collect()
    }

    /// Whether a pair is shown: all of them, or those with the first row on its episodes.
    fn shows(self, groups: &[Group], a: usize, b: usize) -> bool {
        let (first, second) = (&groups[a.min(b)], &groups[a.max(b)]);
        let is_first = |group: &Group| {
            let mut others = groups[..a.min(b)].iter();
            !others.any(|other| other.shares_episodes(group))
        };
        self.pairs == Pairs::All
            || is_first(first) && (first.shares_episodes(second) || a.min(b) == 0)
    }
}

/// The differences that are asked for, and why others are missing.
///
/// All pairs are corrected for together, whether they are shown or not: who is first is known only
/// from the results.
pub fn differences(
    wanted: Wanted<'_>,
    measure: Measure,
    groups: &[Group],
) -> (Vec<Difference>, Vec<String>) {
    if wanted.pairs == Pairs::None {
        return (Vec::new(), Vec::new());
    }
    let computed: Vec<(usize, usize, Result<Paired, Refused>)> = wanted
        .pairs_of(measure, groups)
        .into_par_iter()
        .map(|(a, b)| {
            let paired = difference(wanted.test, measure, &groups[a], &groups[b]);
            (a, b, paired)
        })
        .collect();
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    let (mut others, mut example) = (0, None);
    for (a, b, paired) in computed {
        match paired {
            Ok(paired) => good.push((a, b, paired, over_seeds(&groups[a], &groups[b]))),
            Err(why) if wanted.shows(groups, a, b) => {
                let named = |why: &str| {
                    let (first, second) = (groups[a].title(), groups[b].title());
                    format!("{} ({first}) and {} ({second}): {why}", a + 1, b + 1)
                };
                match why {
                    Refused::OtherEpisodes(why) => {
                        others += 1;
                        example.get_or_insert_with(|| named(&why));
                    }
                    Refused::Other(why) => refused.push(format!("not paired: {}", named(&why))),
                }
            }
            Err(_) => {}
        }
    }
    refused.extend(example.map(|example| match others {
        1 => format!("not paired: {example}"),
        _ => format!("{others} pairs are not comparable, such as {example}"),
    }));
    let p_values: Vec<f64> = good.iter().map(|(.., paired, _)| paired.p_value).collect();
    let of_seeds: Vec<f64> = good
        .iter()
        .filter_map(|(.., over_seeds)| Some(over_seeds.as_ref()?.p_value))
        .collect();
    let mut corrected_over_seeds = holm(&of_seeds).into_iter();
    let mut shown = Vec::new();
    for ((a, b, paired, over_seeds), corrected) in good.into_iter().zip(holm(&p_values)) {
        let corrected_over_seeds = over_seeds.and_then(|_| corrected_over_seeds.next());
        if wanted.shows(groups, a, b) {
            shown.push(Difference {
                a,
                b,
                paired,
                over_seeds,
                corrected,
                corrected_over_seeds,
            });
        }
    }
    (shown, refused)
}
