//! A person's own table: labelled rows, and rows of other tables with the same columns.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::column::{Column, Place, categories, is_missing, number};
use super::table::{Files, Table, Target, Wanted};
use crate::data::formats::read_cells;
use crate::error::{Error, Result};

/// A column of features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// The names of its categories in order; none of a column of numbers.
    pub categories: Option<Vec<String>>,
}

/// Rows of features with what is known of each.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledRows {
    /// The columns of the features.
    pub columns: Vec<TableColumn>,
    /// Features of each row; NaN where one is missing.
    pub rows: Vec<Vec<f32>>,
    /// Class of each row, in classification.
    pub labels: Vec<String>,
    /// Value of each row, in regression.
    pub values: Vec<f32>,
}

impl LabelledRows {
    /// Reads a table by the rules of [`super::TablesSource`]: its `target` (empty: the last column) holds classes, or
    /// numbers, and all else is features, at most `most`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Data`] naming the file, and the column and the line where that is what is wrong.
    pub fn read(path: &Path, target: &str, classes: bool, most: usize) -> Result<Self> {
        let wanted = Wanted {
            header: true,
            target,
            classes,
            group: "",
            leave_out: &[],
            categorical: &[],
            numeric: &[],
            indicators: false,
            max_features: usize::MAX,
        };
        let files = Files {
            name: String::new(),
            table: path.to_owned(),
            masks: None,
        };
        let cells = read_cells(path, wanted.header)?;
        let table = Table::of(files, &cells, &wanted)?;
        let found = table.features.len();
        if found > most {
            let message = format!(
                "has {found} features, and the learner takes at most {most} (`learner.max_features`)"
            );
            return Err(Error::data(path, message));
        }
        let of_target = match target {
            "" => cells.names.len() - 1,
            name => cells.names.iter().position(|own| own == name).unwrap_or(0),
        };
        let texts = cells.names.iter().zip(&cells.columns).enumerate();
        let texts = texts.filter(|(place, _)| *place != of_target);
        let columns = texts
            .zip(&table.columns)
            .map(|((_, (name, text)), column)| {
                let named = || categories(text).0.into_iter().map(str::to_owned).collect();
                TableColumn {
                    name: name.clone(),
                    categories: matches!(column, Column::Categories(..)).then(named),
                }
            });
        let row = |row: usize| {
            let value = |feature: usize| table.value(row, feature).unwrap_or(f32::NAN);
            (0..found).map(value).collect()
        };
        let (labels, values) = match &table.target {
            Target::Values(values) => (Vec::new(), values.clone()),
            Target::Classes(names, labels) => {
                let name = |label: &u32| names[*label as usize].clone();
                (labels.iter().map(name).collect(), Vec::new())
            }
        };
        Ok(LabelledRows {
            columns: columns.collect(),
            rows: (0..table.rows).map(row).collect(),
            labels,
            values,
        })
    }
}

/// The rows of a table that has these columns, found by name: NaN where a cell is missing, or holds a category
/// that is none of the known ones.
///
/// # Errors
/// [`Error::Io`] or [`Error::Data`] naming the file, a column that is not there, or the line of text in a column of
/// numbers.
pub fn rows_like(path: &Path, columns: &[TableColumn]) -> Result<Vec<Vec<f32>>> {
    let cells = read_cells(path, true)?;
    let mut rows = vec![Vec::with_capacity(columns.len()); cells.lines.len()];
    for column in columns {
        let place = cells.names.iter().position(|name| *name == column.name);
        let Some(place) = place else {
            let message = format!("has no column `{}`, which the support has", column.name);
            return Err(Error::data(path, message));
        };
        let at = Place {
            path,
            name: &column.name,
            lines: &cells.lines,
        };
        for (row, cell) in cells.columns[place].iter().enumerate() {
            let value = match &column.categories {
                _ if is_missing(cell) => f32::NAN,
                Some(names) => {
                    let known = names.binary_search_by(|name| name.as_str().cmp(cell));
                    known.map_or(f32::NAN, |code| code as f32)
                }
                None => number(cell).ok_or_else(|| {
                    let message =
                        format!("is `{cell}`, and the column holds numbers in the support");
                    at.fault_at(row, &message)
                })?,
            };
            rows[row].push(value);
        }
    }
    Ok(rows)
}
