//! Text in columns: a header, and a row a line, with commas (or, in `.tsv`, tabs) between; packed with gzip
//! or not.

use std::io::{BufReader, Read};
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};
use flate2::read::MultiGzDecoder;

use super::array::Text;
use super::table::{Columns, Keys, Table, TableBuilder};
use crate::error::{Error, Result};
use crate::files::open_regular;

/// The most text that is read.
const MAXIMUM_TEXT: u64 = 1 << 32;

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
    reader: csv::Reader<Limited<Box<dyn Read>>>,
    header: Vec<String>,
    record: ByteRecord,
}

impl<'a> Rows<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let file = BufReader::new(open_regular(path, MAXIMUM_TEXT)?);
        let name = path.to_string_lossy().to_ascii_lowercase();
        let (name, text): (&str, Box<dyn Read>) = match name.strip_suffix(".gz") {
            Some(name) => (name, Box::new(MultiGzDecoder::new(file))),
            None => (&name, Box::new(file)),
        };
        let mut reader = ReaderBuilder::new()
            .delimiter(if name.ends_with(".tsv") { b'\t' } else { b',' })
            .has_headers(false)
            .from_reader(Limited {
                text,
                left: MAXIMUM_TEXT,
            });
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

/// Text that is refused beyond a number of bytes.
struct Limited<R> {
    text: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, place: &mut [u8]) -> std::io::Result<usize> {
        let read = self.text.read(place)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            std::io::Error::other(format!("it has more than {MAXIMUM_TEXT} bytes of text"))
        })?;
        Ok(read)
    }
}
