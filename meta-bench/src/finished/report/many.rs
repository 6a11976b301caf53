//! The report of many runs.

use std::collections::BTreeMap;

use maud::{Markup, html};
use meta_core::{
    stats::{Interval, mean},
    train::eval::Metric,
};

use super::{
    charts::{Axis, COLOURS, Chart, Line, Row, Style, cut, forest, parallel},
    importance::{Importance, importance},
    page::table,
    single::{score, tasks, unit},
};
use crate::{
    finished::{
        compare::{Compared, Group},
        metrics::Curves,
        store::Stored,
    },
    output::{
        chart::score_axis,
        table::{Cell, Table},
    },
};

/// Groups whose curves are drawn.
const DRAWN: usize = COLOURS;
/// Runs whose single curves are drawn.
const SINGLE: usize = 60;
/// Axes of parallel coordinates.
const AXES: usize = 7;
/// Runs from which the importance of settings can be told.
const SWEEP: usize = 8;

/// Many finished runs.
pub struct Many<'a> {
    /// The comparison.
    pub compared: &'a Compared,
    /// The runs.
    pub runs: &'a [Stored],
}

impl Many<'_> {
    /// How many runs there are, and which are the best.
    pub fn headline(&self) -> Markup {
        let comparison = self.compared.comparison();
        let best = self.compared.groups.first();
        let result = best.and_then(|best| best.runs.first()?.result.as_ref());
        html! {
            h1 { (self.runs.len()) " runs" }
            @if let (Some(best), Some(result)) = (best, result) {
                @let spread = best.over_seeds;
                p class="grey" { bdi { (result.source) } ", " (tasks(result)) ", " (result.split) " split" }
                div class="headline" {
                    (score(best.metric, spread.mean, spread.half_width)) " "
                    small { "best: " bdi { (best.title()) } }
                }
                p class="grey" {
                    @if spread.half_width.is_finite() {
                        "95 % interval by Student's t over the means of " (spread.n)
                        " trainings that differ in the seed alone."
                    } @else {
                        "One training: nothing is known of the variation between seeds."
                    }
                }
            }
            @if let Some(verdict) = comparison.verdict() { p class="verdict" { (verdict) } }
        }
    }

    /// Rows, differences and ranks.
    pub fn comparison(&self) -> Markup {
        let comparison = self.compared.comparison();
        let pairs = comparison.pairs();
        html! {
            h2 { "Comparison" }
            (table(&comparison.rows()))
            @if !pairs.rows.is_empty() {
                h3 { "Differences" }
                figure { (self.forest()) }
                (table(&pairs))
            }
            @for line in comparison.lines().iter().filter(|line| !line.starts_with("Verdict")) {
                p class="note" { (line) }
            }
            (self.ranks())
        }
    }

    /// Differences to the best row.
    fn forest(&self) -> Markup {
        let groups = &self.compared.groups;
        let Some(first) = self.compared.differences.first() else {
            return html! {};
        };
        let (factor, decimals, _) = unit(groups[first.a].metric);
        let of_first = self.compared.differences.iter();
        let rows: Vec<Row> = of_first
            .filter(|difference| difference.a == first.a)
            .take(40)
            .map(|difference| {
                let interval = match &difference.over_seeds {
                    Some(paired) => paired.difference,
                    None => difference.paired.difference,
                };
                let over = if difference.over_seeds.is_some() {
                    "seeds"
                } else {
                    "episodes"
                };
                let (a, b) = (groups[difference.a].title(), groups[difference.b].title());
                Row {
                    name: format!("{} − {} (over {over})", cut(&a, 24), cut(&b, 28)),
                    value: factor * interval.mean,
                    half_width: factor * interval.half_width,
                }
            })
            .collect();
        let unit = match groups[first.a].metric {
            Metric::Accuracy => "difference in points, 95 % interval",
            Metric::MeanSquaredError => "difference of errors, 95 % interval",
            Metric::Return => "difference of returns, 95 % interval",
        };
        forest("paired differences", unit, decimals, &rows)
    }

    /// Mean rank over the seeds that all groups of one task have; nothing for fewer than two.
    fn ranks(&self) -> Markup {
        let groups: Vec<&Group> = self
            .compared
            .groups
            .iter()
            .filter(|group| group.shares_episodes(&self.compared.groups[0]))
            .collect();
        let ranked = mean_ranks(&groups);
        let Some((seeds, ranks)) = ranked.filter(|_| groups.len() > 2) else {
            return html! {};
        };
        let mut rows = Table::new(["row", "mean rank"]);
        for (group, rank) in groups.iter().zip(ranks) {
            rows.rows.push(vec![
                group.title().into(),
                Cell::new(format!("{rank:.2}"), rank),
            ]);
        }
        html! {
            h3 { "Ranks" }
            p class="note" { "Mean over the " (seeds) " seeds that all of them have; 1 is the best." }
            (table(&rows))
        }
    }

    /// Validation scores over training, one line a group with a band over seeds.
    pub fn curves(&self, curves: &BTreeMap<String, Curves>) -> Markup {
        let groups = &self.compared.groups;
        let Some(first) = groups.first() else {
            return html! {};
        };
        let (factor, decimals, _) = unit(first.metric);
        let alike: Vec<&Group> = groups
            .iter()
            .filter(|group| group.metric == first.metric)
            .collect();
        let mut lines = Vec::new();
        for (colour, group) in alike.iter().take(DRAWN).enumerate() {
            let of_runs: Vec<Vec<(f64, f64)>> = group
                .runs
                .iter()
                .filter_map(|run| curves.get(&run.hash))
                .map(|curves| validations(curves, factor))
                .collect();
            if self.runs.len() <= SINGLE && of_runs.len() > 1 {
                lines.extend(of_runs.iter().map(|points| Line {
                    colour,
                    style: Style::Single,
                    points: points.clone(),
                    ..Line::default()
                }));
            }
            let (points, band) = over_runs(&of_runs);
            lines.push(Line {
                name: group.title(),
                colour,
                points,
                band,
                ..Line::default()
            });
        }
        if lines.iter().all(|line| line.points.is_empty()) {
            return html! {};
        }
        let has_single = lines.iter().any(|line| line.style == Style::Single);
        let chart = Chart {
            title: "validation scores over training",
            x: "iteration",
            y: score_axis(first.metric).1,
            decimals,
            lines,
            shown: Vec::new(),
        };
        html! {
            h2 { "Curves" }
            @if has_single {
                p class="switch" { label { input type="checkbox" class="seeds"; " show single seeds" } }
            }
            figure {
                (chart.draw())
                figcaption {
                    "Validation scores; a line is the mean over seeds, its band the 95 % interval over seeds."
                    @if alike.len() > DRAWN { " The best " (DRAWN) " of " (alike.len()) " rows are drawn." }
                }
            }
        }
    }

    /// Which settings matter, and where the good runs are.
    pub fn sweep(&self) -> Markup {
        let Some(first) = self.compared.groups.first() else {
            return html! {};
        };
        let runs: Vec<&Stored> = self
            .compared
            .groups
            .iter()
            .filter(|group| group.shares_episodes(first))
            .flat_map(|group| &group.runs)
            .collect();
        let results = runs
            .iter()
            .filter_map(|run| Some(run.result.as_ref()?.mean));
        let scores: Vec<f64> = results.collect();
        if runs.len() < SWEEP || scores.len() != runs.len() {
            return html! {};
        }
        let found = importance(&runs, &scores);
        if found.len() < 2 {
            return html! {};
        }
        let mut rows = Table::new([
            "setting",
            "share of the variance",
            "levels",
            "changes together with",
        ]);
        for one in found.iter().take(20) {
            rows.rows.push(vec![
                one.key.clone().into(),
                Cell::new(format!("{:.0} %", 100.0 * one.share), one.share),
                Cell::new(one.names.len().to_string(), one.names.len()),
                one.with.join(", ").into(),
            ]);
        }
        html! {
            h2 { "Settings" }
            p class="note" {
                "Share of the variance of the scores of these " (runs.len())
                " runs that a setting alone accounts for (ω²). Numbers with many values are sorted into quarters. Settings that change together "
                "share their effect; interactions are not in it."
            }
            (table(&rows))
            h3 { "Where the good runs are" }
            div class="scroll" { figure { (coordinates(&runs, &scores, &found, first.metric)) } }
            p class="note" { "A line is a run; the best quarter is green, and the better the more opaque." }
        }
    }

    /// All runs, with what tells them apart.
    pub fn runs(&self) -> Markup {
        let mut rows = Table::new([
            "run", "learner", "encoder", "data", "seed", "score", "identity",
        ]);
        for run in self.runs {
            let Some(result) = &run.result else { continue };
            rows.rows.push(vec![
                run.name().into(),
                result.learner.clone().into(),
                result.encoder.clone().into(),
                format!("{}, {}", result.source, tasks(result)).into(),
                Cell::new(result.seed.to_string(), result.seed),
                Cell::new(score(result.metric, result.mean, result.ci95), result.mean),
                crate::finished::store::short(&run.hash).into(),
            ]);
        }
        html! {
            h2 { "Runs" }
            p class="note" { "The interval beside a score is over its test episodes." }
            (table(&rows))
        }
    }
}

/// Mean rank of each group over the seeds that all have, and how many these are; none for fewer than two.
fn mean_ranks(groups: &[&Group]) -> Option<(usize, Vec<f64>)> {
    let rises = groups.first()?.metric.higher_is_better();
    let values: Vec<BTreeMap<u64, f64>> = groups
        .iter()
        .map(|group| {
            group
                .seeds()
                .into_iter()
                .zip(group.values.iter().copied())
                .collect()
        })
        .collect();
    let seeds: Vec<u64> = values[0]
        .keys()
        .copied()
        .filter(|seed| values.iter().all(|of| of.contains_key(seed)))
        .collect();
    if seeds.len() < 2 {
        return None;
    }
    let rank = |group: usize, seed: u64| {
        let own = values[group][&seed];
        let others = || values.iter().map(|of| of[&seed]);
        let better = others().filter(|other| if rises { *other > own } else { *other < own });
        let equal = others().filter(|other| *other == own).count();
        better.count() as f64 + 0.5 * (equal + 1) as f64
    };
    let means = (0..groups.len()).map(|group| {
        let ranks: Vec<f64> = seeds.iter().map(|&seed| rank(group, seed)).collect();
        mean(&ranks)
    });
    Some((seeds.len(), means.collect()))
}

fn validations(curves: &Curves, factor: f64) -> Vec<(f64, f64)> {
    let validations = curves.validation.iter();
    validations
        .map(|logged| (logged.iteration as f64, factor * logged.score))
        .collect()
}

/// Points of a curve.
type Curve = Vec<(f64, f64)>;

/// The mean of several curves where they have a point, and the 95 % interval over them.
fn over_runs(curves: &[Curve]) -> (Curve, Curve) {
    let mut by_place: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (x, y) in curves.iter().flatten() {
        by_place.entry(*x as u64).or_default().push(*y);
    }
    let intervals = by_place.into_iter().map(|(x, values)| {
        let interval = Interval::t95(&values);
        ((x as f64, interval.mean), (interval.low(), interval.high()))
    });
    intervals.unzip()
}

fn coordinates(runs: &[&Stored], scores: &[f64], found: &[Importance], metric: Metric) -> Markup {
    let (factor, decimals, unit) = unit(metric);
    let mut axes: Vec<Axis> = found
        .iter()
        .take(AXES)
        .map(|one| {
            let count = one.names.len();
            let at = |level: usize| (level as f64 + 0.5) / count as f64;
            let labels = one.names.iter().enumerate();
            Axis {
                name: one.key.clone(),
                places: one.levels.iter().map(|&level| at(level)).collect(),
                labels: labels
                    .filter(|_| count <= 12)
                    .map(|(level, name)| (at(level), name.clone()))
                    .collect(),
            }
        })
        .collect();
    let (low, high) = scores
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), score| {
            (low.min(*score), high.max(*score))
        });
    let width = (high - low).max(f64::MIN_POSITIVE);
    let text = |value: f64| format!("{:.decimals$}{unit}", factor * value);
    axes.push(Axis {
        name: "score".to_owned(),
        places: scores.iter().map(|score| (score - low) / width).collect(),
        labels: vec![(0.0, text(low)), (1.0, text(high))],
    });
    // By rank: one very bad run makes no other one good.
    let rank = |score: &f64| {
        let worse = scores.iter().filter(|other| match metric {
            Metric::Accuracy | Metric::Return => *other < score,
            Metric::MeanSquaredError => *other > score,
        });
        worse.count() as f64 / (scores.len() - 1).max(1) as f64
    };
    let shares: Vec<f64> = scores.iter().map(rank).collect();
    let names: Vec<String> = runs
        .iter()
        .zip(scores)
        .map(|(run, score)| format!("{}: {}", run.name(), text(*score)))
        .collect();
    parallel("settings and scores of all runs", &axes, &shares, &names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_averaged_where_they_have_points() {
        let curves = [vec![(10.0, 1.0), (20.0, 2.0)], vec![(10.0, 3.0)]];
        let (points, band) = over_runs(&curves);
        assert_eq!(points, [(10.0, 2.0), (20.0, 2.0)]);
        // Two values, one apart from their mean: t₀.₉₇₅(1) · √2 / √2.
        let half = (0.475 * std::f64::consts::PI).tan();
        assert!((band[0].1 - 2.0 - half).abs() < 1e-6, "{band:?}");
        assert!(band[1].1.is_infinite());
    }
}
