//! What stands for the reader of Parquet in builds without it.

use std::path::Path;

use super::array::Text;
use super::table::{Cells, ColumnCells, Keys, Table};
use crate::error::{Error, Result};

fn absent<T>(path: &Path) -> Result<T> {
    let message =
        "Parquet is not compiled in; build with `--features parquet`, or save the table as CSV";
    Err(Error::data(path, message))
}

pub(super) fn table(path: &Path, _keys: &Keys<'_>) -> Result<Table> {
    absent(path)
}

pub(super) fn labels(path: &Path, _keys: &Keys<'_>) -> Result<Text> {
    absent(path)
}

pub(super) fn header(path: &Path) -> Result<Vec<String>> {
    absent(path)
}

pub(super) fn cells(path: &Path) -> Result<Cells> {
    absent(path)
}

/// What stands for the writer of tables.
pub struct TableWriter;

impl TableWriter {
    /// Refuses.
    ///
    /// # Errors
    /// Always, with the feature that is missing.
    pub fn new(path: &Path, _by: &str, _columns: &[(String, ColumnCells)]) -> Result<Self> {
        absent(path)
    }

    /// Never reached.
    ///
    /// # Errors
    /// None.
    pub fn rows(&mut self, _columns: &[(String, ColumnCells)]) -> Result<()> {
        Ok(())
    }

    /// Never reached.
    ///
    /// # Errors
    /// None.
    pub fn finish(self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
}
