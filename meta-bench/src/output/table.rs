//! Renders tables in the formats that people and programs read.

use clap::ValueEnum;
use serde_json::{Map, Value};

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
            Format::Markdown => self.lines("| ", " | ", " |", &markdown, Some("---")),
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
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].text.chars().count());
            cells
                .chain([self.columns[column].chars().count()])
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut out = String::new();
        let mut line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for (cell, width) in cells.zip(&widths) {
                text.push_str(cell);
                text.push_str(&" ".repeat(width - cell.chars().count() + 2));
            }
            out.push_str(text.trim_end());
            out.push('\n');
        };
        line(&mut self.columns.iter().map(String::as_str));
        for row in &self.rows {
            line(&mut row.iter().map(|cell| cell.text.as_str()));
        }
        out
    }

    fn lines(
        &self,
        open: &str,
        between: &str,
        close: &str,
        escape: &dyn Fn(&str) -> String,
        rule: Option<&str>,
    ) -> String {
        let line = |cells: Vec<String>| format!("{open}{}{close}\n", cells.join(between));
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
        let quoted = |text: &str| {
            if text.contains([',', '"', '\n']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text.to_owned()
            }
        };
        let line = |cells: Vec<String>| format!("{}\n", cells.join(","));
        let mut out = line(self.columns.iter().map(|name| quoted(name)).collect());
        for row in &self.rows {
            let value = |cell: &Cell| match &cell.value {
                Value::Null => String::new(),
                Value::String(text) => quoted(text),
                other => quoted(&other.to_string()),
            };
            out.push_str(&line(row.iter().map(value).collect()));
        }
        out
    }

    fn latex(&self) -> String {
        let body = self.lines("", " & ", " \\\\", &latex, None);
        let (head, rows) = body.split_once('\n').unwrap_or((&body, ""));
        format!(
            "\\begin{{tabular}}{{{}}}\n\\toprule\n{head}\n\\midrule\n{rows}\\bottomrule\n\
             \\end{{tabular}}\n",
            "l".repeat(self.columns.len())
        )
    }
}

fn markdown(text: &str) -> String {
    text.replace('|', "\\|")
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
}
