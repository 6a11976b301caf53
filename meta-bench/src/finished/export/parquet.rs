//! Tables as Parquet, for pandas, polars and DuckDB: a column has one type, and what is absent is null.

use std::path::Path;

use meta_core::data::formats::{ColumnCells, TableWriter};
use serde_json::Value;

use crate::{
    failure::{CommandError, Result},
    output::table::{Cell, Table},
};

/// What every file says of who wrote it.
pub const MARK: &str = "meta export";
/// Rows that are written together.
const GROUP: usize = 1 << 20;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    Number,
    Truth,
    Text,
}

impl Kind {
    /// Of all values of a column; text holds whatever others do not.
    fn of<'a>(values: impl Iterator<Item = &'a Value>) -> Self {
        let mut kind = None;
        for value in values {
            let own = match value {
                Value::Null => continue,
                Value::Bool(_) => Kind::Truth,
                Value::Number(number) if number.is_i64() => Kind::Whole,
                Value::Number(_) => Kind::Number,
                _ => return Kind::Text,
            };
            kind = Some(match (kind, own) {
                (None, own) => own,
                (Some(kind), own) if kind == own => own,
                (Some(Kind::Whole | Kind::Number), Kind::Whole | Kind::Number) => Kind::Number,
                _ => return Kind::Text,
            });
        }
        kind.unwrap_or(Kind::Text)
    }

    fn cells(self, rows: &[Vec<Cell>], column: usize) -> ColumnCells {
        let values = rows.iter().map(|row| &row[column].value);
        match self {
            Kind::Whole => ColumnCells::Whole(values.map(Value::as_i64).collect()),
            Kind::Number => ColumnCells::Numbers(values.map(Value::as_f64).collect()),
            Kind::Truth => ColumnCells::Flags(values.map(Value::as_bool).collect()),
            Kind::Text => ColumnCells::Text(values.map(text).collect()),
        }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Checks that this build writes Parquet.
///
/// # Errors
/// In a build without the cargo feature `parquet`.
pub fn check() -> Result<()> {
    let empty = TableWriter::new(Path::new("--to parquet"), MARK, &[]);
    empty.map(drop).map_err(|_| {
        let absent =
            "--to parquet: not in this build; build with `--features parquet`, or use --to csv";
        CommandError::Usage(absent.to_owned())
    })
}

/// The table as the bytes of a file.
///
/// # Errors
/// As [`check`], and for more than 2 GiB.
pub fn bytes(table: &Table) -> Result<Vec<u8>> {
    let kinds: Vec<Kind> = (0..table.columns.len())
        .map(|column| Kind::of(table.rows.iter().map(|row| &row[column].value)))
        .collect();
    let columns = |rows: &[Vec<Cell>]| -> Vec<(String, ColumnCells)> {
        let named = table.columns.iter().zip(&kinds).enumerate();
        named
            .map(|(column, (name, kind))| (name.clone(), kind.cells(rows, column)))
            .collect()
    };
    let mut writer = TableWriter::new(Path::new("--to parquet"), MARK, &columns(&[]))?;
    for rows in table.rows.chunks(GROUP) {
        writer.rows(&columns(rows))?;
    }
    Ok(writer.finish()?)
}

#[cfg(test)]
mod tests {
    use meta_core::data::formats::read_cells;
    use serde_json::json;

    use super::*;

    /// What is read is what was written, absences and mixed columns included.
    #[test]
    fn what_is_written_is_read() {
        if check().is_err() {
            return;
        }
        let mut table = Table::new(["run", "step", "score", "warm", "mixed"]);
        let rows = [
            [json!("a"), json!(0), json!(0.5), json!(true), json!(1)],
            [json!("名"), json!(1), json!(1), Value::Null, json!("x")],
            [
                json!("b"),
                Value::Null,
                Value::Null,
                json!(false),
                json!([2]),
            ],
        ];
        for row in rows {
            let cell = |value: Value| Cell::new(value.to_string(), value);
            table.rows.push(row.into_iter().map(cell).collect());
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.parquet");
        std::fs::write(&path, bytes(&table).unwrap()).unwrap();
        let read = read_cells(&path, true).unwrap();
        assert_eq!(read.names, table.columns);
        let expected = [
            ["a", "名", "b"],
            ["0", "1", ""],
            ["0.5", "1", ""],
            ["1", "", "0"],
            ["1", "x", "[2]"],
        ];
        for (column, expected) in read.columns.iter().zip(expected) {
            assert_eq!(column.iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_table_without_rows_is_a_file() {
        if check().is_err() {
            return;
        }
        let file = bytes(&Table::new(["run", "score"])).unwrap();
        assert!(file.starts_with(b"PAR1") && file.ends_with(b"PAR1"));
    }
}
