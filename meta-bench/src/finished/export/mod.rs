//! `meta export`: runs in the files of other tools.
//!
//! | file | target |
//! |---|---|
//! | `rows` | tables: CSV, JSON, Parquet |
//! | `parquet` | a table as the bytes of a Parquet file |
//! | `tensorboard` | event files of TensorBoard |

mod parquet;
mod rows;
mod tensorboard;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::store::{self, Stored};
use crate::{
    failure::{CommandError, Result},
    output::{
        print,
        table::Format,
        target::{check_target, write_over},
    },
};

/// In every table: the names of its first columns, as CSV and as JSON have them.
const MARK_CSV: &str = "run,identity,";
const MARK_JSON: &str = "\"identity\":";

/// Runs, and what is written of them.
#[derive(Debug)]
pub struct RunExport {
    /// Run folders, or folders of run folders; `runs` where there are none.
    pub runs: Vec<PathBuf>,
    /// What is written.
    pub to: Target,
    /// What the rows of a table are.
    pub rows: Rows,
    /// The file to write, or stdout; for TensorBoard a folder.
    pub output: Option<PathBuf>,
    /// Only runs that meet these conditions.
    pub conditions: Vec<String>,
}

/// A target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Comma-separated values.
    Csv,
    /// An array of objects.
    Json,
    /// A table with columns of one type.
    Parquet,
    /// Event files: scalars, the manifest, hyper-parameters, the pictures of `meta explain`.
    Tensorboard,
}

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rows {
    /// The score of a test episode after an adaptation step.
    Scores,
    /// A number that was logged while training.
    Curves,
    /// A run: its result and its settings.
    Results,
}

impl RunExport {
    /// Writes the files.
    ///
    /// # Errors
    /// When there is no run, one cannot be read, or something else is where the files would be.
    pub fn write(self) -> Result<()> {
        if self.to == Target::Parquet {
            can_write_parquet(self.output.as_deref())?;
        }
        let runs = self.found()?;
        let (format, mark) = match self.to {
            Target::Csv => (Some(Format::Csv), MARK_CSV),
            Target::Json => (Some(Format::Json), MARK_JSON),
            Target::Parquet => (None, self::parquet::MARK),
            Target::Tensorboard => {
                let folder = self.output.unwrap_or_else(|| PathBuf::from("tensorboard"));
                return tensorboard::export(&runs, &folder);
            }
        };
        if let Some(path) = &self.output {
            check_target(path, mark)?;
        }
        let table = match self.rows {
            Rows::Scores => rows::scores(&runs)?,
            Rows::Curves => rows::curves(&runs)?,
            Rows::Results => rows::results(&runs),
        };
        let bytes = match format {
            Some(format) => table.render(format).into_bytes(),
            None => self::parquet::bytes(&table)?,
        };
        match &self.output {
            Some(path) => write_over(path, &bytes, mark),
            None => print(&String::from_utf8_lossy(&bytes)),
        }
    }
}

/// Checks that this build writes Parquet, and that there is a file for it.
fn can_write_parquet(output: Option<&Path>) -> Result<()> {
    self::parquet::check()?;
    match output {
        Some(_) => Ok(()),
        None => Err(CommandError::Usage(
            "--to parquet: expected a file, as in --output scores.parquet".to_owned(),
        )),
    }
}

impl RunExport {
    /// The runs that are asked for, with their evaluations; what is damaged is named on stderr.
    fn found(&self) -> Result<Vec<Stored>> {
        let paths = match self.runs.is_empty() {
            true => vec![PathBuf::from("runs")],
            false => self.runs.clone(),
        };
        let (runs, damaged) = store::read_with_evaluations(&paths)?;
        for text in damaged {
            eprintln!("left out: {text}");
        }
        let mut runs = store::filter(runs, &self.conditions)?;
        // One that failed before it began has nothing to show.
        runs.retain(|run| !run.hash.is_empty());
        if runs.is_empty() {
            let shown: Vec<String> = paths
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            return Err(CommandError::Usage(format!(
                "{}: no run to export",
                shown.join(", ")
            )));
        }
        Ok(runs)
    }
}
