//! What every format comes to: a vector a row, with its label and its split.

use std::io;
use std::path::Path;

use super::array::{Array, Element, Numbers, Region, Text};
use crate::error::{Error, Result};
use crate::settings::LARGEST_SIZE;

/// Cells of a column that is written; none where there is nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnCells {
    /// Text.
    Text(Vec<Option<String>>),
    /// Whole numbers.
    Whole(Vec<Option<i64>>),
    /// Numbers.
    Numbers(Vec<Option<f64>>),
    /// Yes or no.
    Flags(Vec<Option<bool>>),
}

/// The most numbers that are held in memory of a format that is not read in place.
const MAXIMUM_NUMBERS: usize = 1 << 30;
/// The most rows of a table.
const MAXIMUM_ROWS: usize = u32::MAX as usize;

/// The keys of the arrays, or columns, that make a table.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    /// Of the vectors: empty where labels alone are read, else an array or a list column; of formats with columns of numbers also `prefix*`, the
    /// columns that begin so, and `*`, all beside labels and splits.
    pub features: &'a str,
    /// Of the labels; empty where there are none.
    pub labels: &'a str,
    /// Of the splits; empty where there are none.
    pub split: &'a str,
}

/// Vectors, one a row.
#[derive(Clone, Debug)]
pub struct Vectors {
    rows: usize,
    width: usize,
    numbers: Numbers,
    /// Names of the columns, where they have names.
    pub names: Vec<String>,
}

impl Vectors {
    /// The rows of an array of two axes or more: what comes after the first is a row.
    ///
    /// # Errors
    /// A clause that says what the shape is.
    pub fn new(numbers: Numbers) -> Result<Self, String> {
        let shape = numbers.shape();
        let (rows, width) = match shape {
            [rows, rest @ ..] if !rest.is_empty() => (*rows, rest.iter().product()),
            _ => {
                return Err(format!(
                    "has the shape {shape:?}, but a vector per row is needed"
                ));
            }
        };
        if rows > MAXIMUM_ROWS || !(1..=LARGEST_SIZE).contains(&width) {
            return Err(format!(
                "has {rows} rows of {width} numbers; up to {MAXIMUM_ROWS} rows of 1 to {LARGEST_SIZE} are read"
            ));
        }
        Ok(Vectors {
            rows,
            width,
            numbers,
            names: Vec::new(),
        })
    }

    /// Number of vectors.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Writes vectors from row `first` on, as many as `place` has room for.
    ///
    /// # Errors
    /// Those of the system; `UnexpectedEof` beyond the last row.
    pub fn read(&self, first: usize, place: &mut [f32]) -> io::Result<()> {
        let first = first.checked_mul(self.width);
        let first = first.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.numbers.read(first, place)
    }

    /// The column at that position, in words.
    pub fn column(&self, column: usize) -> String {
        match self.names.get(column) {
            Some(name) => format!("column `{name}`"),
            None => format!("column {column}"),
        }
    }
}

/// Vectors with their labels and splits.
#[derive(Clone, Debug)]
pub struct Table {
    /// The vectors.
    pub vectors: Vectors,
    /// Their labels, where a key was given.
    pub labels: Option<Text>,
    /// The name of the split of each, where a key was given.
    pub split: Option<Text>,
}

impl Table {
    /// Puts arrays together; an error names the file and the key.
    pub(super) fn of(
        path: &Path,
        keys: &Keys<'_>,
        mut array: impl FnMut(&str) -> Result<Array>,
    ) -> Result<Self> {
        let fault =
            |key: &str, reason: String| Error::data(path, format!("array `{key}` {reason}"));
        let vectors = match array(keys.features)? {
            Array::Numbers(numbers) => Vectors::new(numbers),
            Array::Text(_) => Err("holds text, not vectors".to_owned()),
        };
        let vectors = vectors.map_err(|reason| fault(keys.features, reason))?;
        let mut names = |key: &str| {
            if key.is_empty() {
                return Ok(None);
            }
            let text = array(key)?
                .into_names()
                .map_err(|reason| fault(key, reason))?;
            if text.len() != vectors.rows() {
                let reason = format!(
                    "has {} rows, and there are {} vectors",
                    text.len(),
                    vectors.rows()
                );
                return Err(fault(key, reason));
            }
            Ok(Some(text))
        };
        let (labels, split) = (names(keys.labels)?, names(keys.split)?);
        Ok(Table {
            vectors,
            labels,
            split,
        })
    }
}

/// All columns of a file as text.
#[derive(Clone, Debug, Default)]
pub struct Cells {
    /// Names of the columns; `column 1` … where the file has none.
    pub names: Vec<String>,
    /// The cells of each column; one that holds nothing is empty.
    pub columns: Vec<Text>,
    /// The line that each row begins at, from 1; the number of the row in formats without lines.
    pub lines: Vec<u64>,
}

impl Cells {
    /// The most cells of a file.
    const MAXIMUM: usize = 1 << 27;

    /// Checks that so many rows can be held.
    pub(super) fn check_size(&self, path: &Path) -> Result<()> {
        let cells = self.lines.len().checked_mul(self.names.len());
        match cells.is_some_and(|cells| cells <= Self::MAXIMUM) {
            true => Ok(()),
            false => {
                let most = Self::MAXIMUM;
                Err(Error::data(
                    path,
                    format!("has more than {most} cells, the most that are read"),
                ))
            }
        }
    }
}

/// The name among `known` that a key stands for; where there is one array and it has no name, any key does.
///
/// # Errors
/// [`Error::Data`] with the nearest name.
pub(super) fn find(path: &Path, kind: &'static str, key: &str, known: &[String]) -> Result<String> {
    if let Some(found) = known.iter().find(|name| *name == key) {
        return Ok(found.clone());
    }
    if let [only] = known
        && only.is_empty()
    {
        return Ok(String::new());
    }
    Err(unknown(path, kind, key, known))
}

fn unknown(path: &Path, kind: &'static str, key: &str, known: &[String]) -> Error {
    /// More would not be read.
    const SHOWN: usize = 12;
    let shown = known.iter().take(SHOWN).map(String::as_str);
    let more = known.len().saturating_sub(SHOWN);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Error::data(path, format!("{}{more}", Error::unknown(kind, key, shown)))
}

/// Which columns of a file make a table.
pub(super) struct Columns {
    /// Positions of the columns of numbers, or of the one column of lists.
    pub features: Vec<usize>,
    /// Their names.
    pub names: Vec<String>,
    pub labels: Option<usize>,
    pub split: Option<usize>,
}

impl Columns {
    /// Finds the columns of `keys` in a header.
    pub fn of(path: &Path, header: &[String], keys: &Keys<'_>) -> Result<Self> {
        let mut sorted: Vec<&String> = header.iter().collect();
        sorted.sort();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::data(path, format!("has two columns `{}`", twice[0])));
        }
        let position = |key: &str| {
            let found = header.iter().position(|name| name == key);
            found.ok_or_else(|| unknown(path, "column", key, header))
        };
        let optional = |key: &str| (!key.is_empty()).then(|| position(key)).transpose();
        let (labels, split) = (optional(keys.labels)?, optional(keys.split)?);
        let features: Vec<usize> = match keys.features.strip_suffix('*') {
            Some(prefix) => {
                let columns = header.iter().enumerate();
                let columns = columns.filter(|(column, name)| {
                    name.starts_with(prefix) && ![labels, split].contains(&Some(*column))
                });
                columns.map(|(column, _)| column).collect()
            }
            None if keys.features.is_empty() => Vec::new(),
            None => vec![position(keys.features).map_err(|error| {
                let hint =
                    "`prefix*` takes the columns that begin so, `*` all beside labels and splits";
                match error {
                    Error::Data { path, message } => {
                        Error::data(path, format!("{message}; {hint}"))
                    }
                    other => other,
                }
            })?],
        };
        if features.is_empty() && !keys.features.is_empty() {
            return Err(unknown(path, "column", keys.features, header));
        }
        let names = features
            .iter()
            .map(|&column| header[column].clone())
            .collect();
        Ok(Columns {
            features,
            names,
            labels,
            split,
        })
    }
}

/// A table that grows by rows of text.
pub(super) struct TableBuilder<'a> {
    path: &'a Path,
    columns: Columns,
    numbers: Vec<u8>,
    rows: usize,
    labels: Text,
    split: Text,
}

impl<'a> TableBuilder<'a> {
    pub fn new(path: &'a Path, columns: Columns) -> Self {
        TableBuilder {
            path,
            columns,
            numbers: Vec::new(),
            rows: 0,
            labels: Text::default(),
            split: Text::default(),
        }
    }

    /// Appends the row at a line of the file.
    pub fn push_text<'c>(
        &mut self,
        line: u64,
        cell: impl Fn(usize) -> Result<&'c str>,
    ) -> Result<()> {
        for (name, &column) in self.columns.names.iter().zip(&self.columns.features) {
            let text = cell(column)?.trim();
            let number: f32 = text.parse().map_err(|_| {
                let found = if text.is_empty() {
                    "is empty".to_owned()
                } else {
                    format!("is `{text}`")
                };
                let message = format!("line {line}, column `{name}` {found}; a number is needed");
                Error::data(self.path, message)
            })?;
            self.numbers.extend_from_slice(&number.to_le_bytes());
        }
        for (column, text) in [
            (self.columns.labels, &mut self.labels),
            (self.columns.split, &mut self.split),
        ] {
            if let Some(column) = column {
                text.push(cell(column)?);
            }
        }
        self.rows += 1;
        check_size(self.path, self.rows, self.columns.features.len())
    }

    /// The labels alone.
    pub fn into_labels(self) -> Text {
        self.labels
    }

    pub fn finish(self) -> Result<Table> {
        let width = self.columns.features.len();
        let vectors = held(self.rows, width, self.numbers, self.columns.names);
        Ok(Table {
            vectors: vectors.map_err(|reason| Error::data(self.path, reason))?,
            labels: self.columns.labels.map(|_| self.labels),
            split: self.columns.split.map(|_| self.split),
        })
    }
}

/// Checks that so many numbers can be held in memory.
pub(super) fn check_size(path: &Path, rows: usize, width: usize) -> Result<()> {
    if rows
        .checked_mul(width)
        .is_some_and(|count| count <= MAXIMUM_NUMBERS)
    {
        return Ok(());
    }
    Err(Error::data(
        path,
        format!(
            "has more than {MAXIMUM_NUMBERS} numbers, which this format is not read for; save it as \
             `.npy` or safetensors"
        ),
    ))
}

/// Vectors in memory, from the bytes of numbers of 32 bits. An error is a clause.
pub(super) fn held(
    rows: usize,
    width: usize,
    bytes: Vec<u8>,
    names: Vec<String>,
) -> Result<Vectors, String> {
    let numbers = Numbers::new(vec![rows, width], Element::F32, Region::memory(bytes));
    let numbers = numbers.ok_or("has rows of different widths")?;
    Ok(Vectors {
        names,
        ..Vectors::new(numbers)?
    })
}
