//! Tables as Parquet, for pandas, polars and DuckDB: a column has one type, and what is absent is null.

use std::sync::Arc;

use parquet::{
    basic::{Compression, ConvertedType, Repetition, Type as Physical},
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::Type,
};
use serde_json::Value;

use crate::{
    failure::{CommandError, Result},
    output::table::Table,
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

    fn field(self, name: &str) -> std::result::Result<Type, ParquetError> {
        let physical = match self {
            Kind::Whole => Physical::INT64,
            Kind::Number => Physical::DOUBLE,
            Kind::Truth => Physical::BOOLEAN,
            Kind::Text => Physical::BYTE_ARRAY,
        };
        let field =
            Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        match self {
            Kind::Text => field.with_converted_type(ConvertedType::UTF8),
            _ => field,
        }
        .build()
    }
}

/// That this build writes Parquet.
///
/// # Errors
/// None.
pub fn check() -> Result<()> {
    Ok(())
}

/// The table as the bytes of a file.
///
/// # Errors
/// None that a table has.
pub fn bytes(table: &Table) -> Result<Vec<u8>> {
    write(table).map_err(|error| CommandError::Usage(format!("cannot write Parquet: {error}")))
}

fn write(table: &Table) -> std::result::Result<Vec<u8>, ParquetError> {
    let columns = 0..table.columns.len();
    let kinds: Vec<Kind> = columns
        .clone()
        .map(|column| Kind::of(table.rows.iter().map(|row| &row[column].value)))
        .collect();
    let fields = columns.map(|column| kinds[column].field(&table.columns[column]).map(Arc::new));
    let fields: Vec<Arc<Type>> = fields.collect::<std::result::Result<_, _>>()?;
    let schema = Type::group_type_builder("schema")
        .with_fields(fields)
        .build()?;
    let properties = WriterProperties::builder()
        .set_created_by(MARK.to_owned())
        .set_compression(Compression::SNAPPY)
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
    for rows in table.rows.chunks(GROUP) {
        let mut group = writer.next_row_group()?;
        let mut column = 0;
        while let Some(mut out) = group.next_column()? {
            let values = rows.iter().map(|row| &row[column].value);
            match kinds[column] {
                Kind::Whole => fill::<Int64Type>(&mut out, values, Value::as_i64)?,
                Kind::Number => fill::<DoubleType>(&mut out, values, Value::as_f64)?,
                Kind::Truth => fill::<BoolType>(&mut out, values, Value::as_bool)?,
                Kind::Text => fill::<ByteArrayType>(&mut out, values, text)?,
            }
            out.close()?;
            column += 1;
        }
        group.close()?;
    }
    writer.into_inner()
}

fn text(value: &Value) -> Option<ByteArray> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.as_str().into()),
        other => Some(other.to_string().as_str().into()),
    }
}

/// Writes a column: its values, and which rows have one.
fn fill<'a, T: DataType>(
    out: &mut SerializedColumnWriter<'_>,
    values: impl Iterator<Item = &'a Value>,
    of: impl Fn(&Value) -> Option<T::T>,
) -> std::result::Result<(), ParquetError> {
    let values: Vec<Option<T::T>> = values.map(of).collect();
    let there: Vec<i16> = values
        .iter()
        .map(|value| i16::from(value.is_some()))
        .collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    out.typed::<T>().write_batch(&values, Some(&there), None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use parquet::{
        file::reader::{FileReader, SerializedFileReader},
        record::RowAccessor,
    };
    use serde_json::json;

    use super::*;
    use crate::output::table::Cell;

    /// What the crate's own reader finds is what was written, absences and mixed columns included.
    #[test]
    fn what_is_written_is_read() {
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
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes(&table).unwrap()).unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(file.path()).unwrap()).unwrap();
        let created = reader.metadata().file_metadata().created_by();
        assert_eq!(created, Some(MARK));
        let read: Vec<_> = reader
            .get_row_iter(None)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(read.len(), 3);
        assert_eq!(read[1].get_string(0).unwrap(), "名");
        assert_eq!(
            (read[1].get_long(1).unwrap(), read[1].get_double(2).unwrap()),
            (1, 1.0)
        );
        assert!(read[2].get_long(1).is_err() && read[2].get_double(2).is_err());
        assert!(read[0].get_bool(3).unwrap() && read[1].get_bool(3).is_err());
        assert_eq!(read[2].get_string(4).unwrap(), "[2]");
    }

    #[test]
    fn a_table_without_rows_is_a_file() {
        let file = bytes(&Table::new(["run", "score"])).unwrap();
        assert!(file.starts_with(b"PAR1") && file.ends_with(b"PAR1"));
    }
}
