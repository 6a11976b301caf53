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
            Format::Text => self.text(usize::MAX),
            Format::Markdown => self.lines("| ", " | ", " |", Format::Markdown, Some("---")),
            Format::Csv => self.csv(),
            Format::Json => format!("{:#}\n", self.json()),
            Format::Latex => self.latex(),
        }
    }

    /// The same, as text in at most `width` columns where one is given: long cells are broken into lines.
    pub fn render_within(&self, format: Format, width: Option<usize>) -> String {
        match (format, width) {
            (Format::Text, Some(width)) => self.text(width),
            _ => self.render(format),
        }
    }

    /// Columns that it takes as text.
    pub fn width(&self) -> usize {
        let text = self.text(usize::MAX);
        text.lines()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or(0)
    }

    /// The same without the columns called `names`.
    pub fn without(mut self, names: &[&str]) -> Self {
        let kept: Vec<bool> = self
            .columns
            .iter()
            .map(|name| !names.contains(&name.as_str()))
            .collect();
        let mut of_columns = kept.iter();
        self.columns.retain(|_| *of_columns.next().unwrap_or(&true));
        for row in &mut self.rows {
            let mut of_row = kept.iter();
            row.retain(|_| *of_row.next().unwrap_or(&true));
        }
        self
    }

    /// The same with the columns called `keys` in one, as `key=value`, where they are more than `most`.
    pub fn gathered(mut self, most: usize, keys: &[&str]) -> Self {
        let is_key = |name: &String| keys.contains(&name.as_str());
        let places: Vec<usize> = (0..self.columns.len())
            .filter(|&column| is_key(&self.columns[column]))
            .collect();
        let (Some(&first), true) = (places.first(), places.len() > most) else {
            return self;
        };
        for row in &mut self.rows {
            let texts = places
                .iter()
                .filter(|&&column| row[column].text != "–")
                .map(|&column| format!("{}={}", self.columns[column], row[column].text));
            row[first] = Cell::from(texts.collect::<Vec<_>>().join(" "));
            let mut column = 0;
            row.retain(|_| {
                column += 1;
                column - 1 == first || !places.contains(&(column - 1))
            });
        }
        self.columns[first] = "settings".to_owned();
        let mut column = 0;
        self.columns.retain(|_| {
            column += 1;
            column - 1 == first || !places.contains(&(column - 1))
        });
        self
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

    fn text(&self, most: usize) -> String {
        let head = self.columns.iter().map(|name| visible(name)).collect();
        let rows = self.rows.iter();
        let rows = rows.map(|row| row.iter().map(|cell| visible(&cell.text)).collect());
        let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
        let widest = |column: usize| {
            let widths = lines.iter().map(|cells| cells[column].chars().count());
            widths.max().unwrap_or(0)
        };
        // What a word takes, if it is one.
        let longest_word = |column: usize| {
            let words = lines.iter().flat_map(|cells| cells[column].split(' '));
            words.map(|word| word.chars().count()).max().unwrap_or(0)
        };
        let columns = 0..self.columns.len();
        let least: Vec<usize> = columns
            .clone()
            .map(|column| longest_word(column).min(WORD))
            .collect();
        let widths = narrowed(columns.map(widest).collect(), &least, most);
        let mut out = String::new();
        for cells in &lines {
            let cells = cells.iter().zip(&widths);
            let cells: Vec<Vec<String>> =
                cells.map(|(cell, width)| wrapped(cell, *width)).collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or(1);
            for line in 0..height {
                let padded = cells.iter().zip(&widths).map(|(cell, width)| {
                    let text = cell.get(line).map_or("", String::as_str);
                    format!("{text}{}", " ".repeat(width - text.chars().count() + 2))
                });
                out.push_str(padded.collect::<String>().trim_end());
                out.push('\n');
            }
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

/// The longest word that is not broken.
const WORD: usize = 16;

/// Widths of columns that fit into `most` letters, two between them, where that can be: the widest are
/// narrowed, down to the `least` of each.
fn narrowed(mut widths: Vec<usize>, least: &[usize], most: usize) -> Vec<usize> {
    let between = 2 * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>().saturating_add(between) > most {
        let can_shrink = widths
            .iter_mut()
            .zip(least)
            .filter(|(width, least)| **width > **least);
        match can_shrink.max_by_key(|(width, _)| **width) {
            Some((widest, _)) => *widest -= 1,
            None => break,
        }
    }
    widths
}

/// `text` in lines of at most `width` letters, broken at spaces where there are any.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last().map_or(0, |line| line.chars().count());
        let space = usize::from(last > 0);
        if last + space + word.chars().count() <= width {
            let line = lines.last_mut().expect("there is a line");
            if space > 0 {
                line.push(' ');
            }
            line.push_str(word);
            continue;
        }
        let letters: Vec<char> = word.chars().collect();
        let pieces = letters.chunks(width).map(|piece| piece.iter().collect());
        if last == 0 {
            lines.pop();
        }
        lines.extend(pieces);
    }
    lines
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

    #[test]
    fn a_table_is_as_wide_as_a_terminal() {
        let mut table = Table::new(["name", "score"]);
        let name = "a name of many words and_one_word_that_is_longer_than_a_column";
        table.rows.push(vec![name.into(), "97.0 ± 1.0 %".into()]);
        let shown = table.render_within(Format::Text, Some(34));
        assert_eq!(
            shown,
            "name                  score\n\
             a name of many words  97.0 ± 1.0 %\n\
             and_one_word_that_is\n\
             _longer_than_a_colum\n\
             n\n"
        );
        assert_eq!(
            table.render_within(Format::Text, None),
            table.render(Format::Text)
        );
        assert!(table.render_within(Format::Csv, Some(10)).contains(name));
        // No narrower than a word needs.
        let narrow = table.render_within(Format::Text, Some(3));
        assert!(narrow.contains("97.0\n"), "{narrow}");
        assert!(
            narrow
                .lines()
                .all(|line| line.chars().count() <= 16 + 2 + 5),
            "{narrow}"
        );
        assert_eq!(table.clone().without(&["score"]).columns, ["name"]);
        assert_eq!(
            table.without(&["name"]).width(),
            "97.0 ± 1.0 %".chars().count()
        );
        assert_eq!(wrapped("", 5), [""]);
    }

    #[test]
    fn many_keys_are_one_column() {
        let mut table = Table::new(["#", "a", "b", "n"]);
        table
            .rows
            .push(vec!["1".into(), "x".into(), "–".into(), "3".into()]);
        let kept = table.clone().gathered(2, &["a", "b"]);
        assert_eq!(kept.columns, table.columns);
        let gathered = table.gathered(1, &["a", "b"]).render(Format::Text);
        assert_eq!(gathered, "#  settings  n\n1  a=x       3\n");
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
