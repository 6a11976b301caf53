//! Learners beside each other on every data set of a test.

use std::collections::HashSet;

use meta_core::{
    Error,
    stats::{Paired, mean, paired_t},
};

use super::{
    groups::{Group, over_runs, read_scores},
    measure::Measure,
};
use crate::{
    failure::Result,
    finished::store::{Stored, short},
    output::table::{Cell, Format, Table},
};

/// A difference counts as sure below this p-value of Student's paired t-test over the episodes of a set.
const SURE: f64 = 0.05;

/// What groups have on the episodes that they share.
struct Test<'a> {
    groups: Vec<&'a Group>,
    /// What was measured of every episode, by group.
    values: Vec<Vec<f64>>,
    /// The sets, in the order of their first episodes, each with its episodes.
    sets: Vec<(String, Vec<usize>)>,
}

/// The tables, one for each test among `groups`.
///
/// # Errors
/// When scores cannot be read, or do not say which set an episode is of.
pub fn render(groups: &[Group], measure: Measure, format: Format) -> Result<String> {
    let mut tests: Vec<Vec<&Group>> = Vec::new();
    for group in groups {
        let known = tests.iter_mut().find(|test| test[0].shares_episodes(group));
        match known {
            Some(test) => test.push(group),
            None => tests.push(vec![group]),
        }
    }
    let tests = tests.into_iter().map(|test| Test::read(test, measure));
    let tests: Vec<Test> = tests.collect::<Result<_>>()?;
    let of_tests = tests.iter().map(|test| test.render(measure, format));
    Ok(of_tests.collect::<Vec<String>>().join("\n"))
}

impl<'a> Test<'a> {
    fn read(groups: Vec<&'a Group>, measure: Measure) -> Result<Self> {
        let first = &groups[0].runs[0];
        let names = read_scores(first)?.sets;
        if names.is_empty() {
            let expected = "does not say which data set an episode is of: its source has one, or it was tested \
                            by an older version; `meta eval` tests it again";
            return Err(Error::data(&first.scores, expected).into());
        }
        let values: Vec<Vec<f64>> = groups
            .iter()
            .map(|group| {
                let runs: Vec<&Stored> = group.runs.iter().collect();
                Ok(over_runs(&runs, measure, names.len())?.means)
            })
            .collect::<Result<_>>()?;
        let count = values.iter().map(Vec::len).min().unwrap_or(0);
        let mut sets: Vec<(String, Vec<usize>)> = Vec::new();
        for (episode, name) in names.into_iter().take(count).enumerate() {
            match sets.iter_mut().find(|(set, _)| *set == name) {
                Some((_, episodes)) => episodes.push(episode),
                None => sets.push((name, vec![episode])),
            }
        }
        sets.sort();
        Ok(Test {
            groups,
            values,
            sets,
        })
    }

    /// Values of a group on a set.
    fn on(&self, group: usize, set: usize) -> Vec<f64> {
        let episodes = self.sets[set].1.iter();
        episodes
            .map(|&episode| self.values[group][episode])
            .collect()
    }

    /// Names of the groups, by the settings of their learners where those tell them apart, and what is the same in
    /// all.
    fn labels(&self) -> (Vec<String>, String) {
        let is_same = |key: &str, value: &str| {
            let mut groups = self.groups.iter();
            groups.all(|group| group.value_of(key) == Some(value))
        };
        let label = self.groups[0].label.iter();
        let same = label.filter(|(key, value)| is_same(key, value));
        let same: Vec<String> = same.map(|(key, value)| format!("{key}={value}")).collect();
        let titles = |prefix: &str| -> Vec<String> {
            let title = |group: &&Group| {
                let own = group.label.iter().filter(|(key, value)| {
                    // What only other learners have is no part of a name.
                    key.starts_with(prefix) && !is_same(key, value) && value != "–"
                });
                let values: Vec<&str> = own.map(|(_, value)| value.as_str()).collect();
                values.join(" ")
            };
            self.groups.iter().map(title).collect()
        };
        let tell = |titles: &Vec<String>| {
            let distinct: HashSet<&String> = titles.iter().collect();
            distinct.len() == titles.len() && titles.iter().all(|title| !title.is_empty())
        };
        let titles = ["learner.", ""].map(titles).into_iter().find(tell);
        let all = || self.groups.iter().map(|group| group.title()).collect();
        (titles.unwrap_or_else(all), same.join(", "))
    }

    fn table(&self, measure: Measure) -> Table {
        let metric = self.groups[0].metric;
        let (factor, decimals, unit) = measure.unit(metric);
        let (titles, _) = self.labels();
        let mut columns = vec!["set".to_owned(), "episodes".to_owned()];
        columns.extend(titles.iter().cloned());
        let mut table = Table::new(columns);
        let number = |value: f64| Cell::new(format!("{:.decimals$}{unit}", factor * value), value);
        for (set, (name, episodes)) in self.sets.iter().enumerate() {
            let mut row = vec![
                Cell::from(name.clone()),
                Cell::new(episodes.len().to_string(), episodes.len()),
            ];
            row.extend((0..self.groups.len()).map(|group| number(mean(&self.on(group, set)))));
            table.rows.push(row);
        }
        let mut all = vec![
            Cell::from("mean of the sets"),
            Cell::new(self.sets.len().to_string(), self.sets.len()),
        ];
        let of_sets = |group: usize| -> Vec<f64> {
            let sets = 0..self.sets.len();
            sets.map(|set| mean(&self.on(group, set))).collect()
        };
        all.extend((0..self.groups.len()).map(|group| number(mean(&of_sets(group)))));
        table.rows.push(all);
        for (other, title) in titles.iter().enumerate() {
            let mut row = vec![
                Cell::from(format!("better than {title}")),
                Cell::new(self.sets.len().to_string(), self.sets.len()),
            ];
            row.extend((0..self.groups.len()).map(|group| self.wins(group, other, measure)));
            table.rows.push(row);
        }
        table
    }

    /// On how many sets a group is better than another, and on how many of them surely.
    fn wins(&self, group: usize, other: usize, measure: Measure) -> Cell {
        if group == other {
            return Cell::from("–");
        }
        let sign = if measure.rises(self.groups[0].metric) {
            1.0
        } else {
            -1.0
        };
        let pairs =
            (0..self.sets.len()).map(|set| paired_t(&self.on(group, set), &self.on(other, set)));
        let pairs: Vec<Paired> = pairs.collect();
        let better = |pair: &&Paired| sign * pair.difference.mean > 0.0;
        let wins = pairs.iter().filter(better).count();
        let sure = pairs
            .iter()
            .filter(better)
            .filter(|pair| pair.p_value < SURE);
        Cell::new(format!("{wins} ({} surely)", sure.count()), wins)
    }

    fn render(&self, measure: Measure, format: Format) -> String {
        let table = self.table(measure).render(format);
        if !matches!(format, Format::Text | Format::Markdown) {
            return table;
        }
        let metric = self.groups[0].metric;
        let (_, same) = self.labels();
        let hash = self.groups[0].episodes.as_ref();
        let hash = hash.map_or(String::new(), |tested| {
            format!(", episodes `{}`", short(&tested.hash))
        });
        let heading = match format {
            Format::Markdown => "## ",
            _ => "",
        };
        let direction = match measure.rises(metric) {
            true => "higher is better",
            false => "lower is better",
        };
        format!(
            "{heading}{}{}{same}\n\nMean {} over the episodes of each set; {direction}{hash}. The last rows: on how \
             many sets a learner is better, and on how many surely (p < {SURE}, paired t-test over the episodes of \
             the set, not corrected for the number of sets).\n\n{table}",
            measure.name(metric),
            if same.is_empty() { "" } else { ", " },
            measure.name(metric),
        )
    }
}
