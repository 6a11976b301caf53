//! A column of a table: numbers or categories, by what its cells are or as declared.

use std::path::Path;

use crate::data::formats::Text;
use crate::error::{Error, Result};

/// The share of cells that are numbers from which a column is one of numbers.
pub(super) const NUMERIC: f64 = 0.95;

/// A category of a cell that holds none.
pub(super) const NONE: u32 = u32::MAX;

/// Whether a cell holds nothing.
pub(super) fn is_missing(cell: &str) -> bool {
    const WORDS: [&str; 8] = ["", "?", "na", "n/a", "nan", "null", "none", "-"];
    WORDS.iter().any(|word| cell.eq_ignore_ascii_case(word))
}

/// The cells of a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Column {
    /// NaN where a number is missing.
    Numbers(Vec<f32>),
    /// The category of each row, [`NONE`] where it is missing, and how many there are; numbered in the
    /// order of their names.
    Categories(Vec<u32>, usize),
}

/// What a column is declared to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Numbers,
    Categories,
}

/// Where a column is: for messages.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub path: &'a Path,
    pub name: &'a str,
    pub lines: &'a [u64],
}

impl Place<'_> {
    pub fn fault(self, message: &str) -> Error {
        Error::data(self.path, format!("column `{}` {message}", self.name))
    }

    pub fn fault_at(self, row: usize, message: &str) -> Error {
        let line = self.lines.get(row).copied().unwrap_or_default();
        Error::data(
            self.path,
            format!("line {line}, column `{}` {message}", self.name),
        )
    }
}

/// The number that a cell holds, if it fits into 32 bits.
pub(super) fn number(cell: &str) -> Option<f32> {
    let number: f32 = cell.parse().ok()?;
    number.is_finite().then_some(number)
}

/// The names of categories in order, and the category of each row.
pub(super) fn categories(text: &Text) -> (Vec<&str>, Vec<u32>) {
    let present = text.distinct.iter().map(String::as_str);
    let mut names: Vec<&str> = present.filter(|cell| !is_missing(cell)).collect();
    names.sort_unstable();
    let codes: Vec<u32> = text
        .distinct
        .iter()
        .map(|cell| {
            names
                .binary_search(&cell.as_str())
                .map_or(NONE, |code| code as u32)
        })
        .collect();
    let rows = text.rows.iter().map(|&row| codes[row as usize]);
    let rows = rows.collect();
    (names, rows)
}

impl Column {
    /// Reads a column: of numbers where it is declared so, or where at least 95 % of the cells that hold
    /// something are numbers; else of categories.
    ///
    /// # Errors
    /// [`Error::Data`] for a column without a value, and naming the line of text in a column of numbers.
    pub fn read(text: &Text, declared: Option<Kind>, place: Place<'_>) -> Result<Self> {
        let values: Vec<Option<f32>> = text.distinct.iter().map(|cell| number(cell)).collect();
        let missing: Vec<bool> = text.distinct.iter().map(|cell| is_missing(cell)).collect();
        let count =
            |of: &dyn Fn(usize) -> bool| text.rows.iter().filter(|&&row| of(row as usize)).count();
        let present = count(&|cell| !missing[cell]);
        if present == 0 {
            let hint = "has no value in any row; leave it out with `data.leave_out`";
            return Err(place.fault(hint));
        }
        let numbers = count(&|cell| !missing[cell] && values[cell].is_some());
        let numeric = match declared {
            Some(kind) => kind == Kind::Numbers,
            None => numbers as f64 >= NUMERIC * present as f64,
        };
        if !numeric {
            let (names, rows) = categories(text);
            return Ok(Column::Categories(rows, names.len()));
        }
        let mut found = Vec::with_capacity(text.rows.len());
        for (row, &cell) in text.rows.iter().enumerate() {
            let cell = cell as usize;
            found.push(match values[cell] {
                _ if missing[cell] => f32::NAN,
                Some(number) => number,
                None => {
                    let share = 100.0 * numbers as f64 / present as f64;
                    let message = format!(
                        "is `{}`, and {share:.1} % of the column are numbers; correct it, or declare the \
                         column in `data.categorical`",
                        text.distinct[cell]
                    );
                    return Err(place.fault_at(row, &message));
                }
            });
        }
        Ok(Column::Numbers(found))
    }

    /// The value in a row, none where it is missing: a number, or that of a category.
    pub fn value(&self, row: usize) -> Option<f32> {
        match self {
            Column::Numbers(numbers) => Some(numbers[row]).filter(|number| !number.is_nan()),
            Column::Categories(rows, _) => Some(rows[row])
                .filter(|&code| code != NONE)
                .map(|code| code as f32),
        }
    }

    /// Whether a value is missing in any row.
    pub fn has_gaps(&self) -> bool {
        match self {
            Column::Numbers(numbers) => numbers.iter().any(|number| number.is_nan()),
            Column::Categories(rows, _) => rows.contains(&NONE),
        }
    }
}
