//! Tests paired differences between groups, and corrects their p-values.

use clap::ValueEnum;
use meta_core::stats::{Interval, Paired, holm, paired_t, paired_wilcoxon, signed_rank_p};
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
    pub over_seeds: Option<Interval>,
    /// The p-value, corrected for all pairs together.
    pub corrected: f64,
}

/// The paired difference of two groups, or why they cannot be paired.
fn difference(test: TestKind, measure: Measure, a: &Group, b: &Group) -> Result<Paired, String> {
    let (Some(set_a), Some(set_b)) = (&a.episode_set, &b.episode_set) else {
        return Err("the runs of one of them were not tested on the same episodes".to_owned());
    };
    if set_a != set_b {
        return Err(format!(
            "they were tested on other episodes ({} and {})",
            short(set_a),
            short(set_b)
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
                over_runs(&runs, measure).map_err(|error| error.to_string())
            };
            (scores(a, &rows_a)?, scores(b, &rows_b)?)
        }
        Measure::Field(_) => {
            if common.len() < 2 || rows_a.len() != rows_b.len() {
                return Err("they share fewer than two seeds".to_owned());
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
        return Err(format!("they have {count} and {other} values"));
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
    /// The pairs of `groups` that are compared.
    fn pairs_of(self, groups: &[Group]) -> Vec<(usize, usize)> {
        let count = groups.len();
        (0..count)
            .flat_map(|a| (a + 1..count).map(move |b| (a, b)))
            .filter_map(|(a, b)| match self.contrast {
                None => Some((a, b)),
                Some(key) if !groups[a].contrasts(&groups[b], key) => None,
                // Whichever is better: the sign says it.
                Some(key) if groups[a].value_of(key) > groups[b].value_of(key) => Some((b, a)),
                Some(_) => Some((a, b)),
            })
            .collect()
    }

    fn shows(self, a: usize) -> bool {
        self.pairs == Pairs::All || a == 0
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
    let computed: Vec<(usize, usize, Result<Paired, String>)> = wanted
        .pairs_of(groups)
        .into_par_iter()
        .map(|(a, b)| {
            let paired = difference(wanted.test, measure, &groups[a], &groups[b]);
            (a, b, paired)
        })
        .collect();
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    for (a, b, paired) in computed {
        match paired {
            Ok(paired) => good.push((a, b, paired)),
            Err(why) if wanted.shows(a) => refused.push(format!(
                "not paired: {} ({}) and {} ({}): {why}",
                a + 1,
                groups[a].title(),
                b + 1,
                groups[b].title()
            )),
            Err(_) => {}
        }
    }
    let p_values: Vec<f64> = good.iter().map(|(_, _, paired)| paired.p_value).collect();
    let shown = good
        .into_iter()
        .zip(holm(&p_values))
        .filter(|((a, ..), _)| wanted.shows(*a))
        .map(|((a, b, paired), corrected)| Difference {
            a,
            b,
            paired,
            over_seeds: over_seeds(&groups[a], &groups[b]),
            corrected,
        })
        .collect();
    (shown, refused)
}
