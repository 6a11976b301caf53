//! Answers as a table in a file of Parquet: typed columns, a group of rows for each block.

use std::path::{Path, PathBuf};

use meta_core::data::formats::{ColumnCells, TableWriter};
use serde_json::Value as Json;

use super::answer::{Answer, Value};
use crate::{
    failure::Result,
    output::target::{check_target, write_over},
};

/// In the first column of every row: what answered begins with it.
pub const MARK: &str = "meta predict, ";
/// Levels of the quantiles, with the names of their columns.
const QUANTILES: [(&str, &str); 5] = [
    ("0.05", "q05"),
    ("0.25", "q25"),
    ("0.5", "q50"),
    ("0.75", "q75"),
    ("0.95", "q95"),
];

/// A table of answers that is being written.
pub struct TableFile {
    path: PathBuf,
    by: String,
    top: usize,
    outputs: usize,
    writer: TableWriter,
}

impl TableFile {
    /// An empty table for answers that name `top` classes, or have so many `outputs` of a regression.
    ///
    /// # Errors
    /// When something else is at `path`, and in a build without Parquet.
    pub fn create(path: &Path, top: usize, outputs: usize, header: &Json) -> Result<Self> {
        check_target(path, MARK)?;
        let text = |key: &str| header[key].as_str().unwrap_or_default();
        let by = format!("{MARK}{} of run {}", text("learner"), text("run"));
        let writer = TableWriter::new(path, &by, &columns(&by, top, outputs, &[]))?;
        Ok(TableFile {
            path: path.to_owned(),
            by,
            top,
            outputs,
            writer,
        })
    }

    /// Adds answers.
    ///
    /// # Errors
    /// When the file becomes too large.
    pub fn rows(&mut self, answers: &[Answer]) -> Result<()> {
        let columns = columns(&self.by, self.top, self.outputs, answers);
        Ok(self.writer.rows(&columns)?)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<()> {
        write_over(&self.path, &self.writer.finish()?, MARK)
    }
}

/// The columns of answers, with their cells.
fn columns(by: &str, top: usize, outputs: usize, answers: &[Answer]) -> Vec<(String, ColumnCells)> {
    let text = |of: &dyn Fn(&Answer) -> Option<String>| {
        ColumnCells::Text(answers.iter().map(of).collect())
    };
    let number = |of: &dyn Fn(&Answer) -> Option<f64>| {
        ColumnCells::Numbers(answers.iter().map(of).collect())
    };
    let mut all = vec![
        ("answered_by".to_owned(), text(&|_| Some(by.to_owned()))),
        ("item".to_owned(), text(&|answer| Some(answer.item.clone()))),
    ];
    if outputs == 0 {
        all.push(("label".to_owned(), text(&|answer| answer.label.clone())));
        all.push((
            "probability".to_owned(),
            number(&|answer| answer.probability),
        ));
        for place in 0..top.saturating_sub(1) {
            let other = |answer: &Answer| answer.others.get(place).cloned();
            let name = place + 2;
            let label = text(&|answer| other(answer).map(|other| other.label));
            let probability = number(&|answer| other(answer).map(|other| other.probability));
            all.push((format!("label_{name}"), label));
            all.push((format!("probability_{name}"), probability));
        }
        all.push(("score".to_owned(), number(&|answer| answer.score)));
        let rejected = answers.iter().map(|answer| answer.rejected).collect();
        all.push(("rejected".to_owned(), ColumnCells::Flags(rejected)));
        let set = text(&|answer| answer.set.as_ref().map(|set| set.join(" | ")));
        all.push(("set".to_owned(), set));
    }
    for place in 0..outputs {
        let named = |name: &str| match outputs {
            1 => name.to_owned(),
            _ => format!("{name}_{place}"),
        };
        let of = |part: &dyn Fn(&Value) -> Option<f64>| {
            number(&|answer| part(answer.values.get(place)?))
        };
        all.push((named("mean"), of(&|value| Some(value.mean))));
        all.push((named("deviation"), of(&|value| value.deviation)));
        for (level, name) in QUANTILES {
            let quantile = of(&|value| value.quantiles.as_ref()?.get(level).copied());
            all.push((named(name), quantile));
        }
        all.push((
            named("low"),
            of(&|value| value.interval.map(|(low, _)| low)),
        ));
        all.push((
            named("high"),
            of(&|value| value.interval.map(|(_, high)| high)),
        ));
    }
    all.push(("error".to_owned(), text(&|answer| answer.error.clone())));
    all
}
