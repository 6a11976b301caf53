//! Answers as text, JSON, lines of JSON, or CSV, a block at a time.

use std::path::PathBuf;

use clap::Args;
use rayon::prelude::*;
use serde_json::Value;

use super::{
    answer::Answer,
    table_file::{self, TableFile},
};
use crate::{
    failure::Result,
    output::{
        print,
        table::{Format, escaped},
        target::check_target,
        text::visible,
    },
};

/// In which form answers are printed.
#[derive(Clone, Debug, Args)]
#[group(multiple = false)]
pub struct FormArgs {
    /// Print one JSON object: a header, and the answers.
    #[arg(long)]
    json: bool,
    /// Print one JSON object a line, one for each item.
    #[arg(long)]
    jsonl: bool,
    /// Print comma-separated values, a line for each item.
    #[arg(long)]
    csv: bool,
    /// Write a table of Parquet to this file (needs the cargo feature `parquet`).
    #[arg(long, value_name = "FILE")]
    parquet: Option<PathBuf>,
}

impl FormArgs {
    /// Checks, before anything is computed, that the file may be written.
    ///
    /// # Errors
    /// When something else is there.
    pub fn check(&self) -> Result<()> {
        match &self.parquet {
            Some(path) => check_target(path, table_file::MARK),
            None => Ok(()),
        }
    }
}

/// Prints answers.
pub struct Printer {
    form: FormArgs,
    top: usize,
    /// Numbers of a regression; 0 for classes.
    outputs: usize,
    printed: usize,
    table: Option<TableFile>,
}

impl Printer {
    /// Prints the header: with JSON and text before the answers, else on stderr.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn start(
        form: FormArgs,
        top: usize,
        outputs: usize,
        header: &Value,
        quiet: bool,
    ) -> Result<Self> {
        let table = form.parquet.as_deref();
        let table = table.map(|path| TableFile::create(path, top, outputs, header));
        let printer = Printer {
            table: table.transpose()?,
            form,
            top,
            outputs,
            printed: 0,
        };
        let form = &printer.form;
        let line = header_line(header);
        if form.json {
            print(&format!("{{\"header\":{header},\"answers\":["))?;
        } else if form.jsonl || form.csv || form.parquet.is_some() {
            if !quiet {
                eprintln!("{line}");
            }
        } else if !quiet {
            print(&format!("{line}\n\n"))?;
        }
        if form.csv {
            print(&format!("{}\n", printer.columns().join(",")))?;
        }
        Ok(printer)
    }

    /// Prints the next answers.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn answers(&mut self, answers: &[Answer]) -> Result<()> {
        if let Some(table) = &mut self.table {
            return table.rows(answers);
        }
        let lines = answers.par_iter().map(|answer| match &self.form {
            FormArgs { json: true, .. } | FormArgs { jsonl: true, .. } => json(answer),
            FormArgs { csv: true, .. } => self.cells(answer).join(","),
            _ => line(answer),
        });
        let lines: Vec<String> = lines.collect();
        let out = match self.form.json {
            false => lines
                .iter()
                .flat_map(|line| [line.as_str(), "\n"])
                .collect(),
            true => {
                let before = if self.printed == 0 { "\n" } else { ",\n" };
                format!("{before}{}", lines.join(",\n"))
            }
        };
        self.printed += answers.len();
        print(&out)
    }

    /// Prints the end.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn finish(self) -> Result<()> {
        if let Some(table) = self.table {
            return table.finish();
        }
        match self.form.json {
            true => print("\n]}\n"),
            false => Ok(()),
        }
    }

    fn columns(&self) -> Vec<String> {
        let mut columns = vec!["item".to_owned()];
        if self.outputs == 0 {
            columns.extend(["label", "probability"].map(str::to_owned));
            for place in 2..=self.top {
                columns.push(format!("label_{place}"));
                columns.push(format!("probability_{place}"));
            }
            columns.extend(["score", "rejected", "set"].map(str::to_owned));
        } else {
            for place in 0..self.outputs {
                let names = [
                    "mean",
                    "deviation",
                    "q05",
                    "q25",
                    "q50",
                    "q75",
                    "q95",
                    "low",
                    "high",
                ];
                columns.extend(names.map(|name| match self.outputs {
                    1 => name.to_owned(),
                    _ => format!("{name}_{place}"),
                }));
            }
        }
        columns.push("error".to_owned());
        columns
    }

    fn cells(&self, answer: &Answer) -> Vec<String> {
        let text = |text: &str| escaped(text, Format::Csv);
        let number =
            |number: Option<f64>| number.map_or(String::new(), |number| number.to_string());
        let mut cells = vec![text(&answer.item)];
        if self.outputs == 0 {
            cells.push(text(answer.label.as_deref().unwrap_or_default()));
            cells.push(number(answer.probability));
            for place in 0..self.top - 1 {
                let other = answer.others.get(place);
                cells.push(other.map_or(String::new(), |other| text(&other.label)));
                cells.push(number(other.map(|other| other.probability)));
            }
            cells.push(number(answer.score));
            cells.push(answer.rejected.map_or(String::new(), |is| is.to_string()));
            let set = answer.set.as_ref().map(|set| set.join(" | "));
            cells.push(text(&set.unwrap_or_default()));
        } else {
            for place in 0..self.outputs {
                let value = answer.values.get(place);
                cells.push(number(value.map(|value| value.mean)));
                cells.push(number(value.and_then(|value| value.deviation)));
                let quantiles = value.and_then(|value| value.quantiles.as_ref());
                for level in ["0.05", "0.25", "0.5", "0.75", "0.95"] {
                    cells.push(number(quantiles.map(|all| all[level])));
                }
                let interval = value.and_then(|value| value.interval);
                cells.push(number(interval.map(|interval| interval.0)));
                cells.push(number(interval.map(|interval| interval.1)));
            }
        }
        cells.push(text(answer.error.as_deref().unwrap_or_default()));
        cells
    }
}

fn json(answer: &Answer) -> String {
    serde_json::to_string(answer).expect("an answer serialises")
}

/// The header for people.
fn header_line(header: &Value) -> String {
    let text = |key: &str| header[key].as_str().unwrap_or_default().to_owned();
    let mut line = format!("{} (run {})", text("learner"), text("run"));
    if let Some(classes) = header["classes"].as_u64() {
        line.push_str(&format!(", {classes} classes"));
    }
    let mode = match header["transductive"].as_bool() {
        Some(true) => "queries together",
        _ => "queries one by one",
    };
    line.push_str(&format!(", {mode}"));
    if let Some(temperature) = header["temperature"].as_f64() {
        line.push_str(&format!(", temperature {temperature:.3}"));
    }
    visible(&line)
}

/// An answer for people.
fn line(answer: &Answer) -> String {
    let item = visible(&answer.item);
    if let Some(error) = &answer.error {
        return format!("{item:<32}  not read: {}", visible(error));
    }
    if !answer.values.is_empty() {
        let values = answer.values.iter().map(|value| {
            let spread = value.deviation.map(|sd| format!(" ± {sd:.4}"));
            let interval = value.interval;
            let interval = interval.map(|(low, high)| format!(" [{low:.4}, {high:.4}]"));
            let (spread, interval) = (spread.unwrap_or_default(), interval.unwrap_or_default());
            format!("{:.4}{spread}{interval}", value.mean)
        });
        return format!("{item:<32}  {}", values.collect::<Vec<_>>().join("  "));
    }
    let percent = |probability: f64| format!("{:.1} %", 100.0 * probability);
    let label = visible(answer.label.as_deref().unwrap_or_default());
    let Some(probability) = answer.probability else {
        // What a sentence stands for.
        return format!("{item:<32}  {label}");
    };
    let mut out = format!("{item:<32}  {label:<20} {:>7}", percent(probability));
    let others = answer.others.iter();
    let others = others.map(|other| {
        let label = visible(&other.label);
        format!("{label} {}", percent(other.probability))
    });
    let others: Vec<String> = others.collect();
    if !others.is_empty() {
        out.push_str(&format!("  ({})", others.join(", ")));
    }
    if answer.rejected == Some(true) {
        out.push_str("  none of these?");
    }
    out
}
