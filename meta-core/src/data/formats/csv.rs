//! Text in columns: a header, and a row a line, with commas (or, in `.tsv`, tabs) between; packed with gzip
//! or not.

use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};

use super::array::Text;
use super::table::{Cells, Columns, Keys, Table, TableBuilder};
use super::unpacked::{MAXIMUM_TEXT, Unpacked, open_unpacked};
use crate::error::{Error, Result};

/// Reads the columns of `keys`, each of which must be there.
pub(super) fn table(path: &Path, keys: &Keys<'_>) -> Result<Table> {
    read(path, keys)?.finish()
}

/// The names of the columns.
pub(super) fn header(path: &Path) -> Result<Vec<String>> {
    Ok(Rows::open(path)?.header)
}

/// The column of `keys.labels` alone.
pub(super) fn labels(path: &Path, keys: &Keys<'_>) -> Result<Text> {
    Ok(read(path, keys)?.into_labels())
}

/// All columns as text.
pub(super) fn cells(path: &Path, header: bool) -> Result<Cells> {
    let mut rows = Rows::open(path)?;
    let count = rows.header.len();
    let mut cells = Cells {
        names: match header {
            true => rows.header.clone(),
            false => (1..=count)
                .map(|column| format!("column {column}"))
                .collect(),
        },
        columns: vec![Text::default(); count],
        lines: Vec::new(),
    };
    // Without a header the row that was read for one is the first.
    let mut there = if header { rows.next()? } else { true };
    while there {
        for (column, text) in cells.columns.iter_mut().enumerate() {
            let cell = rows.cell(column)?.trim();
            text.push(match cells.lines.is_empty() {
                true => cell.trim_start_matches('\u{feff}'),
                false => cell,
            });
        }
        cells.lines.push(rows.line());
        cells.check_size(path)?;
        there = rows.next()?;
    }
    Ok(cells)
}

fn read<'a>(path: &'a Path, keys: &Keys<'_>) -> Result<TableBuilder<'a>> {
    let mut rows = Rows::open(path)?;
    let columns = Columns::of(path, &rows.header, keys)?;
    let mut builder = TableBuilder::new(path, columns);
    while rows.next()? {
        builder.push_text(rows.line(), |column| rows.cell(column))?;
    }
    Ok(builder)
}

/// The rows of a file, one at a time.
struct Rows<'a> {
    path: &'a Path,
    reader: csv::Reader<Unpacked>,
    header: Vec<String>,
    record: ByteRecord,
}

impl<'a> Rows<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let (name, text) = open_unpacked(path, MAXIMUM_TEXT)?;
        let mut reader = ReaderBuilder::new()
            .delimiter(if name.ends_with(".tsv") { b'\t' } else { b',' })
            .has_headers(false)
            .from_reader(text);
        let mut record = ByteRecord::new();
        let found = reader.read_byte_record(&mut record);
        if !found.map_err(|error| fault(path, &error))? {
            return Err(Error::data(path, "is empty: a header is needed"));
        }
        let mut rows = Rows {
            path,
            reader,
            header: Vec::new(),
            record,
        };
        for column in 0..rows.record.len() {
            let name = rows.cell(column)?;
            // The mark that some editors put before text in UTF-8; the crate takes it off where it can.
            rows.header
                .push(name.trim_start_matches('\u{feff}').trim().to_owned());
        }
        Ok(rows)
    }

    /// Reads a row; whether there is one.
    fn next(&mut self) -> Result<bool> {
        let found = self.reader.read_byte_record(&mut self.record);
        found.map_err(|error| fault(self.path, &error))
    }

    /// The line that the row begins at, from 1.
    fn line(&self) -> u64 {
        self.record.position().map_or(0, csv::Position::line)
    }

    fn cell(&self, column: usize) -> Result<&str> {
        let cell = self.record.get(column).unwrap_or_default();
        std::str::from_utf8(cell).map_err(|_| {
            let line = self.line();
            Error::data(
                self.path,
                format!("line {line}, column {} is not UTF-8", column + 1),
            )
        })
    }
}

/// The same faults in the words of this program.
fn fault(path: &Path, error: &csv::Error) -> Error {
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            format!("line {line} has {len} cells, and the header has {expected_len}")
        }
        csv::ErrorKind::Io(error) => format!("cannot be read: {error}"),
        _ => format!("is no table: {error}"),
    };
    Error::data(path, reason)
}
