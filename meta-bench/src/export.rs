//! `meta export`: one command; each target is a file of `finished/export/` or `use_trained/export.rs`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use meta_core::toolkit::Toolkit;

use crate::{
    command::Execute,
    failure::{CommandError, Result},
    finished::export::{Rows, RunExport, Target},
    use_trained::export::export,
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
    /// Event files: scalars, the manifest, hyper-parameters, the pictures of `meta explain`.
    Tensorboard,
    /// The encoder's weights by PyTorch's names and layouts, and `model.py`, which loads them.
    Safetensors,
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
            To::Tensorboard => Target::Tensorboard,
            To::Safetensors => {
                let ([run], Some(folder)) = (self.runs.as_slice(), &self.output) else {
                    let expected =
                        "--to safetensors: expected one run folder, and a folder as --out";
                    return Err(CommandError::Usage(expected.to_owned()));
                };
                return export::<T>(run, folder);
            }
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
