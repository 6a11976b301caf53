//! A file as a table: its features, its target, its groups and its fixed test masks.

use std::path::{Path, PathBuf};

use super::column::{Column, Kind, Place, categories, is_missing, number};
use crate::data::formats::{Cells, Text, is_table, read_cells};
use crate::error::{Error, Result};

/// The most files of a folder that are read.
const MAXIMUM_FILES: usize = 1 << 14;

/// What is to be read of a table.
pub(super) struct Wanted<'a> {
    pub header: bool,
    /// Empty: the last column.
    pub target: &'a str,
    pub classes: bool,
    /// Empty for none.
    pub group: &'a str,
    pub leave_out: &'a [String],
    pub categorical: &'a [String],
    pub numeric: &'a [String],
    /// Whether a column of three categories or more becomes a feature for each.
    pub indicators: bool,
    pub max_features: usize,
}

/// A number of a row: that of a column, or whether the column holds a category.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Feature {
    pub column: usize,
    pub category: Option<u32>,
}

/// What is predicted of each row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    /// Names of the classes in order, and the class of each row.
    Classes(Vec<String>, Vec<u32>),
    Values(Vec<f32>),
}

/// A table in memory.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub name: String,
    pub path: PathBuf,
    /// Names of all columns of the file.
    pub header: Vec<String>,
    pub columns: Vec<Column>,
    pub features: Vec<Feature>,
    pub target: Target,
    pub groups: Option<Text>,
    /// Rows that test, for each fixed mask.
    pub masks: Vec<Vec<bool>>,
    pub rows: usize,
    /// Of all its cells.
    pub hash: blake3::Hash,
}

/// A table's file, its name, and the file of its masks.
pub(super) struct Files {
    pub name: String,
    pub table: PathBuf,
    pub masks: Option<PathBuf>,
}

/// The tables of a folder by name, or the one file at `path`. A file whose name ends in `masks` before its
/// ending holds the masks of the table of the rest of that name.
///
/// # Errors
/// [`Error::Io`] or [`Error::Data`] for a folder without a table, or masks without one.
pub(super) fn files(path: &Path, masks: &str) -> Result<Vec<Files>> {
    let unreadable = |error| Error::io(path, "read", error);
    let mut paths: Vec<PathBuf> = Vec::new();
    if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if !hidden && is_table(&entry.path()) {
                paths.push(entry.path());
            }
            if paths.len() > MAXIMUM_FILES {
                let message =
                    format!("has more than {MAXIMUM_FILES} tables, the most that are read");
                return Err(Error::data(path, message));
            }
        }
    } else {
        paths.push(path.to_owned());
        let of_masks = |name: &str| path.with_file_name(name);
        let (stem, ending) = split_name(path);
        let beside = of_masks(&format!(
            "{}{masks}{ending}",
            stem.trim_end_matches(".data")
        ));
        if !masks.is_empty() && beside != path && beside.exists() {
            paths.push(beside);
        }
    }
    paths.sort();
    let (mut tables, mut with_masks): (Vec<Files>, Vec<(String, PathBuf)>) = Default::default();
    for path in paths {
        let (stem, _) = split_name(&path);
        match stem.strip_suffix(masks).filter(|_| !masks.is_empty()) {
            Some(of) => with_masks.push((of.to_owned(), path)),
            None => tables.push(Files {
                name: stem.strip_suffix(".data").unwrap_or(&stem).to_owned(),
                table: path,
                masks: None,
            }),
        }
    }
    for (name, path) in with_masks {
        let table = tables.iter_mut().find(|table| table.name == name);
        let Some(table) = table else {
            let message = format!("holds test masks, and there is no table `{name}` beside it");
            return Err(Error::data(path, message));
        };
        table.masks = Some(path);
    }
    if tables.is_empty() {
        let message = "has no table: files that end in .csv, .csv.gz, .tsv, .tsv.gz or .parquet";
        return Err(Error::data(path, message));
    }
    Ok(tables)
}

/// The name of a file without its ending, and the ending.
fn split_name(path: &Path) -> (String, String) {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let lower = name.to_ascii_lowercase();
    let endings = [".csv.gz", ".tsv.gz", ".csv", ".tsv", ".parquet"];
    let ending = endings.into_iter().find(|ending| lower.ends_with(ending));
    let cut = name.len() - ending.map_or(0, str::len);
    match name.is_char_boundary(cut) {
        true => (name[..cut].to_owned(), name[cut..].to_owned()),
        false => (name, String::new()),
    }
}

impl Table {
    /// Reads a table.
    ///
    /// # Errors
    /// [`Error::Data`] naming the file, and the column and the line where that is what is wrong.
    pub fn read(files: Files, wanted: &Wanted<'_>) -> Result<Self> {
        let cells = read_cells(&files.table, wanted.header)?;
        Self::of(files, &cells, wanted)
    }

    /// As [`Self::read`], of the cells of the file, which were read before.
    pub fn of(files: Files, cells: &Cells, wanted: &Wanted<'_>) -> Result<Self> {
        let Files {
            name,
            table: path,
            masks,
        } = files;
        let rows = cells.lines.len();
        let fault = |message: String| Error::data(&path, message);
        if rows == 0 {
            return Err(fault("has no rows".to_owned()));
        }
        let find = |name: &str, what: &str| {
            cells
                .names
                .iter()
                .position(|column| column == name)
                .ok_or_else(|| {
                    let known = cells.names.iter().take(12).map(String::as_str);
                    fault(format!(
                        "{}, which `data.{what}` names",
                        Error::unknown("column", name, known)
                    ))
                })
        };
        let target = match wanted.target {
            "" => cells.names.len() - 1,
            name => find(name, "target")?,
        };
        let group = match wanted.group {
            "" => None,
            name => Some(find(name, "group")?),
        };
        if group == Some(target) {
            return Err(fault(format!(
                "column `{}` is both target and group",
                cells.names[target]
            )));
        }
        let place = |column: usize| Place {
            path: &path,
            name: &cells.names[column],
            lines: &cells.lines,
        };
        let of_target = read_target(&cells.columns[target], wanted.classes, place(target))?;
        let mut columns = Vec::new();
        for (column, text) in cells.columns.iter().enumerate() {
            let name = &cells.names[column];
            if column == target || Some(column) == group || wanted.leave_out.contains(name) {
                continue;
            }
            let declared = match (
                wanted.categorical.contains(name),
                wanted.numeric.contains(name),
            ) {
                (true, _) => Some(Kind::Categories),
                (_, true) => Some(Kind::Numbers),
                _ => None,
            };
            columns.push(Column::read(text, declared, place(column))?);
        }
        let features = features(&columns, wanted.indicators);
        if features.is_empty() {
            return Err(fault("has no features beside its target".to_owned()));
        }
        if features.len() > wanted.max_features {
            return Err(fault(format!(
                "has {} features, more than `data.max_features = {}`; leave some out with `data.leave_out`",
                features.len(),
                wanted.max_features
            )));
        }
        let masks = masks.map(|masks| read_masks(&masks, rows)).transpose()?;
        let hash = hash_of(cells, masks.as_deref());
        Ok(Table {
            groups: group.map(|group| cells.columns[group].clone()),
            target: of_target,
            masks: masks.unwrap_or_default(),
            header: cells.names.clone(),
            name,
            path,
            columns,
            features,
            rows,
            hash,
        })
    }

    /// A feature of a row; none where it is missing.
    pub fn value(&self, row: usize, feature: usize) -> Option<f32> {
        let Feature { column, category } = *self.features.get(feature)?;
        let value = self.columns[column].value(row)?;
        Some(match category {
            None => value,
            Some(category) => f32::from(u8::from(value == category as f32)),
        })
    }
}

/// The features that columns come to.
fn features(columns: &[Column], indicators: bool) -> Vec<Feature> {
    let of_column = |(column, cells): (usize, &Column)| -> Vec<Feature> {
        let feature = |category| Feature { column, category };
        match cells {
            Column::Categories(_, count) if indicators && *count > 2 => {
                (0..*count as u32).map(|code| feature(Some(code))).collect()
            }
            _ => vec![feature(None)],
        }
    };
    columns.iter().enumerate().flat_map(of_column).collect()
}

fn read_target(text: &Text, classes: bool, place: Place<'_>) -> Result<Target> {
    let missing = text.iter().position(is_missing);
    if let Some(row) = missing {
        return Err(place.fault_at(row, "is empty, and it is the target; leave the row out"));
    }
    if !classes {
        let mut values = Vec::with_capacity(text.len());
        for (row, cell) in text.iter().enumerate() {
            let value = number(cell).ok_or_else(|| {
                let message = format!("is `{cell}`, and the target of regression is a number");
                place.fault_at(row, &message)
            })?;
            values.push(value);
        }
        return Ok(Target::Values(values));
    }
    let (names, rows) = categories(text);
    match names.as_slice() {
        [only] => Err(place.fault(&format!(
            "has one class alone, `{only}`; a target of two classes or more is needed"
        ))),
        _ => Ok(Target::Classes(
            names.into_iter().map(str::to_owned).collect(),
            rows,
        )),
    }
}

/// The masks of a file without a header: a row for each of the table, a column for each mask, 1 where a row
/// tests.
fn read_masks(path: &Path, rows: usize) -> Result<Vec<Vec<bool>>> {
    let cells = read_cells(path, false)?;
    if cells.lines.len() != rows {
        let found = cells.lines.len();
        return Err(Error::data(
            path,
            format!("has {found} rows, and its table has {rows}"),
        ));
    }
    let mut masks = Vec::with_capacity(cells.columns.len());
    for (column, text) in cells.columns.iter().enumerate() {
        let place = Place {
            path,
            name: &cells.names[column],
            lines: &cells.lines,
        };
        let mut mask = Vec::with_capacity(rows);
        for (row, cell) in text.iter().enumerate() {
            mask.push(match number(cell) {
                Some(0.0) => false,
                Some(1.0) => true,
                _ => {
                    let message = format!("is `{cell}`; a mask holds 0 and 1");
                    return Err(place.fault_at(row, &message));
                }
            });
        }
        if mask.iter().all(|&tests| tests) || !mask.contains(&true) {
            return Err(place.fault("leaves no row to learn from or none to test"));
        }
        masks.push(mask);
    }
    Ok(masks)
}

fn hash_of(cells: &Cells, masks: Option<&[Vec<bool>]>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for (name, column) in cells.names.iter().zip(&cells.columns) {
        add(name);
        column.iter().for_each(&mut add);
    }
    for mask in masks.unwrap_or_default() {
        let text: String = mask
            .iter()
            .map(|&tests| if tests { '1' } else { '0' })
            .collect();
        add(&text);
    }
    hasher.finalize()
}
