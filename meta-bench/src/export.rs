//! `meta export`: one command; each target is a file of `finished/export/` or `use_trained/export/`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use meta_core::toolkit::Toolkit;

use crate::{
    command::Execute,
    failure::{CommandError, Result},
    finished::export::{Rows, RunExport, Target},
    use_trained::export::{onnx, safetensors},
};

/// Write runs into the files of other tools: tables of their scores, curves or results, event files of
/// TensorBoard, or the encoder's weights.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Run folders, or folders of run folders [default: runs]; for weights one run folder, or a file that
    /// `meta fit` wrote.
    runs: Vec<PathBuf>,
    /// What is written.
    #[arg(long, value_enum, value_name = "TARGET")]
    to: To,
    /// What the rows of a table are.
    #[arg(long, value_enum, default_value_t = Rows::Scores)]
    rows: Rows,
    /// The file to write [default: stdout]; for TensorBoard a folder [default: tensorboard], for weights a
    /// folder.
    #[arg(short, long, visible_alias = "out", value_name = "PATH")]
    output: Option<PathBuf>,
    /// Only runs that meet this condition, as for `meta compare`; several must all be met.
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
}

/// A target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// Comma-separated values.
    Csv,
    /// An array of objects.
    Json,
    /// A table for pandas, polars and DuckDB; in builds with the feature `parquet`.
    Parquet,
    /// Event files: scalars, the manifest, hyper-parameters, the pictures of `meta explain`.
    Tensorboard,
    /// The encoder's weights by PyTorch's names and layouts, and `model.py`, which loads them.
    Safetensors,
    /// The encoder as a model for ONNX's runtimes, and an example.
    Onnx,
}

impl Execute for ExportArgs {
    /// Writes the files.
    ///
    /// # Errors
    /// Whatever the target says.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let to = match self.to {
            To::Csv => Target::Csv,
            To::Json => Target::Json,
            To::Parquet => Target::Parquet,
            To::Tensorboard => Target::Tensorboard,
            To::Safetensors => return self.weights("safetensors", safetensors::export::<T>),
            To::Onnx => return self.weights("onnx", onnx::export::<T>),
        };
        RunExport {
            runs: self.runs,
            to,
            rows: self.rows,
            output: self.output,
            conditions: self.conditions,
        }
        .write()
    }
}

impl ExportArgs {
    /// Writes what is of one run into a folder.
    fn weights(&self, to: &str, export: fn(&Path, &Path) -> Result<()>) -> Result<()> {
        match (self.runs.as_slice(), &self.output) {
            ([run], Some(folder)) => export(run, folder),
            _ => Err(CommandError::Usage(format!(
                "--to {to}: expected one run folder, and a folder as --out"
            ))),
        }
    }
}
