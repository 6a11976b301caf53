//! Renders tables in the formats that people and programs read.

use clap::ValueEnum;
use serde_json::{Map, Value};

use super::text::visible;

/// The form of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for a terminal.
    Text,
    /// A Markdown table.
    Markdown,
    /// Comma-separated values.
    Csv,
    /// A JSON array of objects.
    Json,
    /// A LaTeX tabular (with `booktabs`).
    Latex,
}

/// A cell: what people read, and what programs do.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// For people.
    pub text: String,
    /// For CSV and JSON.
    pub value: Value,
}

impl Cell {
    /// A cell that shows `text` and is `value` for programs.
    pub fn new(text: impl Into<String>, value: impl Into<Value>) -> Self {
        Cell {
            text: text.into(),
            value: value.into(),
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        let text = text.into();
        Cell {
            value: Value::String(text.clone()),
            text,
        }
    }
}

/// Rows under named columns.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Names of the columns, for people.
    pub columns: Vec<String>,
    /// Rows, as long as the columns.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Table {
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// The table in `format`, with a line break at its end.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Markdown => self.lines("| ", " | ", " |", Format::Markdown, Some("---")),
            Format::Csv => self.csv(),
            Format::Json => format!("{:#}\n", self.json()),
            Format::Latex => self.latex(),
        }
    }

    /// The rows as objects.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let cells = self.columns.iter().zip(row);
            let row: Map<String, Value> = cells
                .map(|(name, cell)| (name.clone(), cell.value.clone()))
                .collect();
            Value::Object(row)
        });
        Value::Array(rows.collect())
    }

    fn text(&self) -> String {
        let lines: Vec<Vec<String>> =
            std::iter::once(self.columns.iter().map(|name| visible(name)).collect())
                .chain(
                    self.rows
                        .iter()
                        .map(|row| row.iter().map(|cell| visible(&cell.text)).collect()),
                )
                .collect();
        let width = |column: usize| {
            let widths = lines.iter().map(|cells| cells[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut out = String::new();
        for cells in &lines {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| {
                let space = " ".repeat(width - cell.chars().count() + 2);
                format!("{cell}{space}")
            });
            out.push_str(padded.collect::<String>().trim_end());
            out.push('\n');
        }
        out
    }

    fn lines(
        &self,
        open: &str,
        between: &str,
        close: &str,
        format: Format,
        rule: Option<&str>,
    ) -> String {
        let line = |cells: Vec<String>| format!("{open}{}{close}\n", cells.join(between));
        let escape = |text: &str| escaped(text, format);
        let mut out = line(self.columns.iter().map(|name| escape(name)).collect());
        if let Some(rule) = rule {
            out.push_str(&line(vec![rule.to_owned(); self.columns.len()]));
        }
        for row in &self.rows {
            out.push_str(&line(row.iter().map(|cell| escape(&cell.text)).collect()));
        }
        out
    }

    fn csv(&self) -> String {
        let line = |cells: Vec<String>| format!("{}\n", cells.join(","));
        let quoted = |text: &str| escaped(text, Format::Csv);
        let mut out = line(self.columns.iter().map(|name| quoted(name)).collect());
        for row in &self.rows {
            let value = |cell: &Cell| match &cell.value {
                Value::Null => String::new(),
                Value::String(text) => quoted(text),
                Value::Array(_) | Value::Object(_) => quoted(&cell.value.to_string()),
                number => number.to_string(),
            };
            out.push_str(&line(row.iter().map(value).collect()));
        }
        out
    }

    fn latex(&self) -> String {
        let body = self.lines("", " & ", " \\\\", Format::Latex, None);
        let (head, rows) = body.split_once('\n').unwrap_or((&body, ""));
        format!(
            "\\begin{{tabular}}{{{}}}\n\\toprule\n{head}\n\\midrule\n{rows}\\bottomrule\n\
             \\end{{tabular}}\n",
            "l".repeat(self.columns.len())
        )
    }
}

/// `text` as a piece of a document in `format`: it shows as it is, in one line, and does nothing.
pub fn escaped(text: &str, format: Format) -> String {
    let text = visible(text);
    match format {
        Format::Text => text,
        Format::Markdown => markdown(&text),
        Format::Csv => csv(&text),
        Format::Json => Value::String(text).to_string(),
        Format::Latex => latex(&text),
    }
}

fn markdown(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' | '\\' | '`' | '*' | '[' | ']' => out.extend(['\\', letter]),
            other => out.push(other),
        }
    }
    out
}

/// A cell of a CSV file. Spreadsheets compute what starts with one of `= + - @`: an apostrophe in front makes
/// it text, unless it is a number.
fn csv(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    let text = if formula && text.parse::<f64>().is_err() {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains([',', '"']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

fn latex(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '±' => out.push_str("$\\pm$"),
            '−' => out.push_str("$-$"),
            '–' => out.push_str("--"),
            '<' | '>' => out.push_str(&format!("${letter}$")),
            '\\' => out.push_str("\\textbackslash{}"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.push_str(&format!("\\{letter}")),
            '~' | '^' => out.push_str(&format!("\\{letter}{{}}")),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_form_holds_every_cell() {
        let mut table = Table::new(["name", "score"]);
        table
            .rows
            .push(vec!["a|b, c".into(), Cell::new("97.0 ± 1.0 %", 0.97)]);
        table
            .rows
            .push(vec!["long_name".into(), Cell::new("–", Value::Null)]);
        assert_eq!(
            table.render(Format::Text),
            "name       score\na|b, c     97.0 ± 1.0 %\nlong_name  –\n"
        );
        assert_eq!(
            table.render(Format::Markdown),
            "| name | score |\n| --- | --- |\n| a\\|b, c | 97.0 ± 1.0 % |\n| long_name | – |\n"
        );
        assert_eq!(
            table.render(Format::Csv),
            "name,score\n\"a|b, c\",0.97\nlong_name,\n"
        );
        assert_eq!(
            table.json(),
            json!([{ "name": "a|b, c", "score": 0.97 }, { "name": "long_name", "score": null }])
        );
        assert_eq!(
            table.render(Format::Latex),
            "\\begin{tabular}{ll}\n\\toprule\nname & score \\\\\n\\midrule\na|b, c & 97.0 $\\pm$ 1.0 \
             \\% \\\\\nlong\\_name & -- \\\\\n\\bottomrule\n\\end{tabular}\n"
        );
    }

    /// A name can be anything: a formula, a script, a line break, an override of the direction of text.
    #[test]
    fn names_do_nothing_in_any_form() {
        let name = "=HYPERLINK(\"x\")\r\n<script>alert(1)</script>[a](b)`|\u{202e}\u{1b}[31m";
        let mut table = Table::new(["@name", "n"]);
        table.rows.push(vec![name.into(), Cell::new("1", 1)]);
        for format in [Format::Text, Format::Markdown, Format::Csv, Format::Latex] {
            let shown = table.render(format);
            let plain = |letter: char| letter == '\n' || !letter.is_control();
            assert!(
                shown.chars().all(plain) && !shown.contains('\u{202e}'),
                "{shown:?}"
            );
            let rules = match format {
                Format::Markdown => 1,
                Format::Latex => 5,
                _ => 0,
            };
            assert_eq!(shown.lines().count(), 2 + rules, "{shown}");
        }
        let markdown = table.render(Format::Markdown);
        assert!(
            !markdown.contains("<script>") && !markdown.contains("[a]("),
            "{markdown}"
        );
        let csv = table.render(Format::Csv);
        assert!(csv.starts_with("'@name,n\n\"'=HYPERLINK"), "{csv}");
        for start in ["=1+1", "+cmd", "-cmd|x", "@sum", "－1a", "\t=1"] {
            assert!(!escaped(start, Format::Csv).starts_with(['=', '+', '-', '@', '－', '\t']));
        }
        for number in ["-0.5", "+1e-3", "1"] {
            assert_eq!(escaped(number, Format::Csv), number);
        }
    }
}
