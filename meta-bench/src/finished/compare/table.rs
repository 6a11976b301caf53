//! Renders a comparison in every format.

use meta_core::stats::{Interval, Paired};
use serde_json::{Value, json};

use super::{
    differences::{Difference, TestKind},
    groups::Group,
    measure::Measure,
};
use crate::output::{
    table::{Cell, Format, Table, escaped, wrapped},
    text::visible,
};

/// A comparison that is computed.
pub struct Comparison<'a> {
    /// What is compared.
    pub measure: Measure,
    /// The same as `--metric` names it.
    pub metric: &'a str,
    /// What makes a group: `seeds`, or `runs` where keys are given.
    pub many: &'static str,
    /// How differences are tested.
    pub test: TestKind,
    /// Whether the differences are those of one key.
    pub contrast: bool,
    /// Whether differences were asked for: CSV, which is one table, is of them.
    pub of_pairs: bool,
    /// The groups, as they are shown.
    pub groups: &'a [Group],
    /// The differences that are shown.
    pub differences: &'a [Difference],
    /// What a reader has to know besides.
    pub notes: &'a [String],
    /// Columns of the terminal, where text is shown on one.
    pub width: Option<usize>,
}

/// Keys that have a column of their own on a terminal; where there are more, all but the choices are in one.
const MOST_KEYS: usize = 4;

impl Comparison<'_> {
    /// The name of the compared number: that of `--metric` where groups differ in their metric.
    fn name(&self) -> String {
        let metric = self.groups[0].metric;
        if self.groups.iter().any(|group| group.metric != metric) {
            self.metric.to_owned()
        } else {
            self.measure.name(metric)
        }
    }

    /// Keys of rows that are no choice of a learner, an encoder or data.
    fn gathered_keys(&self) -> Vec<&str> {
        let keys = self.groups[0].label.iter().map(|(key, _)| key.as_str());
        keys.filter(|key| !(key.ends_with(".name") || *key == "data.source"))
            .collect()
    }

    fn paired_by(&self) -> &'static str {
        if self.measure.by_episode() {
            "episodes"
        } else {
            "seeds"
        }
    }

    /// One row a group.
    pub fn rows(&self) -> Table {
        let by_episode = self.measure.by_episode();
        let with_exact = self.measure == Measure::LogLikelihood;
        let mut columns = vec!["#".to_owned()];
        columns.extend(self.groups[0].label.iter().map(|(key, _)| key.clone()));
        columns.push(self.many.to_owned());
        columns.push(self.name());
        columns.push(format!("over {}", self.many));
        if by_episode {
            columns.push("over episodes".to_owned());
        }
        if with_exact {
            columns.push("exact posterior".to_owned());
        }
        let mut table = Table::new(columns);
        for (index, group) in self.groups.iter().enumerate() {
            let (factor, decimals, unit) = self.measure.unit(group.metric);
            let number =
                |value: f64| Cell::new(format!("{:.decimals$}{unit}", factor * value), value);
            let mut row = vec![Cell::new((index + 1).to_string(), index + 1)];
            let label = group.label.iter();
            row.extend(label.map(|(_, value)| Cell::from(value.clone())));
            row.push(Cell::new(group.runs.len().to_string(), group.runs.len()));
            row.push(number(group.over_seeds.mean));
            row.push(half(Some(group.over_seeds), factor, decimals));
            if by_episode {
                row.push(half(group.over_episodes, factor, decimals));
            }
            if with_exact {
                row.push(group.exact().map_or_else(none, number));
            }
            table.rows.push(row);
        }
        table
    }

    /// One row a difference: its intervals and p-values over episodes, and beside them those over seeds.
    pub fn pairs(&self) -> Table {
        let by_episode = self.measure.by_episode();
        let mut columns = vec!["pair", "a", "b", "a − b"];
        if by_episode {
            columns.extend([
                "over episodes",
                "episodes",
                "p (episodes)",
                "Holm (episodes)",
            ]);
        }
        columns.extend(["over seeds", "seeds", "p (seeds)", "Holm (seeds)"]);
        let mut table = Table::new(columns);
        for difference in self.differences {
            let (a, b) = (&self.groups[difference.a], &self.groups[difference.b]);
            let (factor, decimals, unit) = self.measure.unit(a.metric);
            let unit = if unit == " %" { " points" } else { unit };
            let interval = difference.paired.difference;
            let mut row = vec![
                format!("{} − {}", difference.a + 1, difference.b + 1).into(),
                a.title().into(),
                b.title().into(),
                Cell::new(
                    format!("{:+.decimals$}{unit}", factor * interval.mean),
                    interval.mean,
                ),
            ];
            if by_episode {
                row.extend([
                    half(Some(interval), factor, decimals),
                    Cell::new(interval.n.to_string(), interval.n),
                    p_cell(Some(difference.paired.p_value)),
                    p_cell(Some(difference.corrected)),
                ]);
            }
            let (over_seeds, corrected) = match difference.over_seeds {
                Some(paired) => (Some(paired), difference.corrected_over_seeds),
                // What is known of a run alone is paired by seeds from the start.
                None if !by_episode => (Some(difference.paired), Some(difference.corrected)),
                None => (None, None),
            };
            let seeds = over_seeds.map(|paired| paired.difference);
            row.extend([
                half(seeds, factor, decimals),
                seeds.map_or_else(none, |seeds| Cell::new(seeds.n.to_string(), seeds.n)),
                p_cell(over_seeds.map(|paired| paired.p_value)),
                p_cell(corrected),
            ]);
            table.rows.push(row);
        }
        table
    }

    /// The differences in `width` columns, where one is given: names stand in the rows already, and p-values
    /// that are not corrected are in the other formats.
    fn fitting_pairs(&self, width: Option<usize>) -> Table {
        let Some(width) = width else {
            return self.pairs();
        };
        [
            &[][..],
            &["a", "b"],
            &["a", "b", "p (episodes)", "p (seeds)", "episodes", "seeds"],
        ]
        .into_iter()
        .map(|left_out| self.pairs().without(left_out))
        .reduce(|wider, next| if wider.width() <= width { wider } else { next })
        .unwrap_or_default()
    }

    /// What follows for the best row, in a sentence: whether it is better than the next one on its episodes.
    pub fn verdict(&self) -> Option<String> {
        const SURE: f64 = 0.05;
        if self.contrast {
            return None;
        }
        let best = self.groups.first()?;
        let mut differences = self.differences.iter();
        let difference = differences.find(|difference| difference.a == 0)?;
        let next = &self.groups[difference.b];
        let (factor, decimals, unit) = self.measure.unit(best.metric);
        let unit = if unit == " %" { " points" } else { unit };
        let (a, b) = (best.title(), next.title());
        let amount = |interval: Interval| {
            let (mean, half) = (interval.mean.abs(), interval.half_width);
            format!(
                "{:.decimals$} ± {:.decimals$}{unit}",
                factor * mean,
                factor * half
            )
        };
        // The seeds in common may say otherwise than all runs together.
        let is_sure = |paired: Paired, p: f64| {
            let rises = self.measure.rises(best.metric);
            p < SURE && rises == (paired.difference.mean > 0.0)
        };
        let over_seeds = difference.over_seeds.zip(difference.corrected_over_seeds);
        let (paired, p) = over_seeds.unwrap_or((difference.paired, difference.corrected));
        let (by, p_value) = (amount(paired.difference), p_of(p));
        let told = match is_sure(paired, p) {
            true => format!("{a} is better than {b}, the next one, by {by}"),
            false => format!("{a} is not told apart from {b}, the next one: {by}"),
        };
        match over_seeds {
            Some(_) => Some(format!(
                "Verdict: {told} over {} seeds ({p_value}).",
                paired.difference.n
            )),
            None if !self.measure.by_episode() => None,
            None => Some(format!(
                "Verdict: on these episodes {told} ({p_value}). Fewer than two seeds in common say nothing \
                 of other trainings."
            )),
        }
    }

    /// Explains the columns, and adds the notes.
    pub fn lines(&self) -> Vec<String> {
        let many = self.many;
        let over_episodes = if self.measure.by_episode() {
            format!("; over episodes: of each frozen episode's mean over the {many}")
        } else {
            String::new()
        };
        let mut lines: Vec<String> = self.verdict().into_iter().collect();
        lines.push(format!(
            "±: half of a 95 % interval by Student's t. Over {many}: of the {many}' \
             means{over_episodes}."
        ));
        if !self.differences.is_empty() {
            lines.push(format!(
                "a − b: {}; p (episodes): {}, paired on the same {}; p (seeds): Student's paired t-test of the \
                 runs' means; Holm: corrected for all pairs of the table above.",
                if self.contrast {
                    "in the order of the values"
                } else {
                    "the better one minus the other"
                },
                match self.test {
                    TestKind::T => "Student's paired t-test",
                    TestKind::Wilcoxon =>
                        "Wilcoxon's signed-rank test, without zeros, ties with their mean rank; exact \
                         for up to 25 differences without ties, else normal, corrected for ties and \
                         continuity",
                },
                self.paired_by()
            ));
        }
        lines.extend(self.notes.iter().cloned());
        lines
    }

    /// The whole comparison as one JSON object.
    fn json(&self) -> Value {
        json!({
            "metric": self.name(),
            "test": match self.test { TestKind::T => "t", TestKind::Wilcoxon => "wilcoxon" },
            "rows": self.rows().json(),
            "pairs": self.pairs().json(),
            "verdict": self.verdict(),
            "notes": self.notes,
        })
    }

    /// The tables in `format`. CSV is one of them, and has no place for notes: they go to stderr.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Json => return format!("{:#}\n", self.json()),
            Format::Csv => return self.csv(),
            _ => {}
        }
        let width = self.width.filter(|_| format == Format::Text);
        let rows = match format {
            Format::Text => self.rows().gathered(MOST_KEYS, &self.gathered_keys()),
            _ => self.rows(),
        };
        let mut out = rows.render_within(format, width);
        if !self.differences.is_empty() {
            out.push('\n');
            out.push_str(&self.fitting_pairs(width).render_within(format, width));
        }
        out.push('\n');
        for line in self.lines() {
            out.push_str(&match format {
                Format::Latex => format!("% {}\n", visible(&line)),
                Format::Markdown => format!("{}\n\n", escaped(&line, format)),
                _ => broken(&visible(&line), width),
            });
        }
        out
    }

    fn csv(&self) -> String {
        for note in self.notes {
            eprintln!("{}", visible(note));
        }
        if self.of_pairs {
            return self.pairs().render(Format::Csv);
        }
        if !self.differences.is_empty() {
            eprintln!("the differences are a table of their own: add --pairs all");
        }
        self.rows().render(Format::Csv)
    }
}

/// A text in lines of at most `width` letters, where it is given.
fn broken(text: &str, width: Option<usize>) -> String {
    let lines = width.map_or_else(|| vec![text.to_owned()], |width| wrapped(text, width));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn none() -> Cell {
    Cell::new("–", Value::Null)
}

fn p_cell(p: Option<f64>) -> Cell {
    p.map_or_else(none, |p| Cell::new(p_text(p), p))
}

/// A p-value in a sentence.
fn p_of(p: f64) -> String {
    match p_text(p) {
        text if text.starts_with('<') => format!("p {text}"),
        text => format!("p = {text}"),
    }
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
