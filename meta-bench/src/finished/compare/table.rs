//! Renders a comparison in every format.

use meta_core::stats::Interval;
use serde_json::{Value, json};

use super::{
    differences::{Difference, TestKind},
    groups::Group,
    measure::Measure,
};
use crate::output::{
    table::{Cell, Format, Table, escaped},
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
}

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

    fn paired_by(&self) -> &'static str {
        if self.measure.by_episode() {
            "episodes"
        } else {
            "seeds"
        }
    }

    /// One row a group.
    fn rows(&self) -> Table {
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
                let none = || Cell::new("–", Value::Null);
                row.push(group.exact().map_or_else(none, number));
            }
            table.rows.push(row);
        }
        table
    }

    /// One row a difference.
    fn pairs(&self) -> Table {
        let mut columns = vec![
            "pair",
            "a",
            "b",
            "a − b",
            "95 %",
            self.paired_by(),
            "p",
            "p (Holm)",
        ];
        if self.contrast {
            columns.push("95 % over seeds");
        }
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
                half(Some(interval), factor, decimals),
                Cell::new(interval.n.to_string(), interval.n),
                Cell::new(p_text(difference.paired.p_value), difference.paired.p_value),
                Cell::new(p_text(difference.corrected), difference.corrected),
            ];
            if self.contrast {
                row.push(half(difference.over_seeds, factor, decimals));
            }
            table.rows.push(row);
        }
        table
    }

    /// Explains the columns, and adds the notes.
    fn lines(&self) -> Vec<String> {
        let many = self.many;
        let over_episodes = if self.measure.by_episode() {
            format!("; over episodes: of each frozen episode's mean over the {many}")
        } else {
            String::new()
        };
        let mut lines = vec![format!(
            "±: half of a 95 % interval by Student's t. Over {many}: of the {many}' \
             means{over_episodes}."
        )];
        if !self.differences.is_empty() {
            lines.push(format!(
                "a − b: paired on the same {}; p: {}; Holm: corrected for all pairs of the table above.",
                self.paired_by(),
                match self.test {
                    TestKind::T => "Student's paired t-test",
                    TestKind::Wilcoxon =>
                        "Wilcoxon's signed-rank test, without zeros, ties with their mean rank; exact \
                         for up to 25 differences without ties, else normal, corrected for ties and \
                         continuity",
                }
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
        let mut out = self.rows().render(format);
        if !self.differences.is_empty() {
            out.push('\n');
            out.push_str(&self.pairs().render(format));
        }
        out.push('\n');
        for line in self.lines() {
            out.push_str(&match format {
                Format::Latex => format!("% {}\n", visible(&line)),
                Format::Markdown => format!("{}\n\n", escaped(&line, format)),
                _ => format!("{}\n", visible(&line)),
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
