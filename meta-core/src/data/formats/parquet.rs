//! Parquet: columns of numbers, of text, and of lists of numbers of one length.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use half::f16;
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;

use super::array::Text;
use super::table::{Cells, ColumnCells, Columns, Keys, Table, check_size, held};
use crate::error::{Error, Result};
use crate::files::open_regular;

/// Values that are read at a time.
const BATCH: usize = 1 << 12;

/// The names of the columns.
pub(super) fn header(path: &Path) -> Result<Vec<String>> {
    Ok(File::open(path)?.header)
}

/// Reads the columns of `keys`, each of which must be there.
pub(super) fn table(path: &Path, keys: &Keys<'_>) -> Result<Table> {
    guarded(path, || read_table(path, keys))
}

fn read_table(path: &Path, keys: &Keys<'_>) -> Result<Table> {
    let file = File::open(path)?;
    let columns = Columns::of(path, &file.header, keys)?;
    let fault = |reason: String| Error::data(path, reason);
    let mut parts: Vec<Lists> = Vec::new();
    for (name, &column) in columns.names.iter().zip(&columns.features) {
        let part = file.lists(column);
        let part = part.map_err(|reason| fault(format!("column `{name}` {reason}")))?;
        let rows = parts.first().map_or(part.rows, |first| first.rows);
        if part.rows != rows {
            return Err(fault(format!(
                "column `{name}` has {} rows, and others {rows}",
                part.rows
            )));
        }
        parts.push(part);
        check_size(path, rows, parts.iter().map(|part| part.width).sum())?;
    }
    let (rows, width) = (
        parts[0].rows,
        parts.iter().map(|part| part.width).sum::<usize>(),
    );
    let mut bytes = Vec::with_capacity(4 * rows * width);
    for row in 0..rows {
        for part in &parts {
            let numbers = &part.numbers[row * part.width..(row + 1) * part.width];
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
    }
    let names = if width == columns.names.len() {
        columns.names
    } else {
        Vec::new()
    };
    let text = |column: Option<usize>| column.map(|column| file.labels(column)).transpose();
    Ok(Table {
        vectors: held(rows, width, bytes, names).map_err(fault)?,
        labels: text(columns.labels)?,
        split: text(columns.split)?,
    })
}

/// The column of `keys.labels` alone.
pub(super) fn labels(path: &Path, keys: &Keys<'_>) -> Result<Text> {
    guarded(path, || read_labels(path, keys))
}

/// All columns as text.
pub(super) fn cells(path: &Path) -> Result<Cells> {
    guarded(path, || {
        let file = File::open(path)?;
        let rows = file.reader.metadata().file_metadata().num_rows();
        let mut cells = Cells {
            names: file.header.clone(),
            columns: Vec::new(),
            lines: Vec::new(),
        };
        for column in 0..file.header.len() {
            let text = file.text(column).map_err(|reason| {
                Error::data(path, format!("column `{}` {reason}", file.header[column]))
            })?;
            if text.len() as u64 != rows.max(0) as u64 {
                return Err(Error::data(path, "is damaged: columns differ in length"));
            }
            if cells.lines.is_empty() {
                cells.lines = (1..=text.len() as u64).collect();
            }
            cells.columns.push(text);
            cells.check_size(path)?;
        }
        Ok(cells)
    })
}

/// What `read` gives; where the library panics, since it takes parts of the file for granted, an error.
fn guarded<R>(path: &Path, read: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(Error::data(path, "is a damaged Parquet file")))
}

fn read_labels(path: &Path, keys: &Keys<'_>) -> Result<Text> {
    let file = File::open(path)?;
    let columns = Columns::of(path, &file.header, keys)?;
    file.labels(columns.labels.unwrap_or_default())
}

/// An open file.
struct File<'a> {
    path: &'a Path,
    reader: SerializedFileReader<std::fs::File>,
    /// Names of the columns.
    header: Vec<String>,
    /// The leaf of each column in the schema; none of a column of records.
    leaves: Vec<Option<usize>>,
}

/// Numbers of a column, as many a row.
struct Lists {
    rows: usize,
    width: usize,
    numbers: Vec<f32>,
}

impl<'a> File<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let file = open_regular(path, u64::MAX)?.into_inner();
        let reader = SerializedFileReader::new(file)
            .map_err(|error| Error::data(path, format!("is no readable Parquet file: {error}")))?;
        // The library takes these for granted.
        let mut chunks = reader
            .metadata()
            .row_groups()
            .iter()
            .flat_map(|group| group.columns());
        if chunks.any(|chunk| {
            let start = chunk
                .dictionary_page_offset()
                .unwrap_or(chunk.data_page_offset());
            start < 0 || chunk.compressed_size() < 0
        }) {
            let broken = "is damaged: a column begins before the file, or has a negative size";
            return Err(Error::data(path, broken));
        }
        let (mut header, mut leaves) = (Vec::<String>::new(), Vec::new());
        let schema = reader.metadata().file_metadata().schema_descr();
        for (leaf, column) in schema.columns().iter().enumerate() {
            let name = column.path().parts().first().cloned().unwrap_or_default();
            if header.last() == Some(&name) {
                leaves.pop();
                leaves.push(None);
            } else {
                header.push(name);
                leaves.push((column.max_rep_level() <= 1).then_some(leaf));
            }
        }
        Ok(File {
            path,
            reader,
            header,
            leaves,
        })
    }

    /// Hands on the values of a column, each with whether it begins a row. An error is a clause.
    fn values(
        &self,
        column: usize,
        mut take: impl FnMut(Value<'_>, bool) -> Result<(), String>,
    ) -> Result<(), String> {
        let leaf = self.leaves[column]
            .ok_or("holds records; numbers, text and lists of numbers are read")?;
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let highest = schema.column(leaf).max_def_level();
        for group in 0..self.reader.num_row_groups() {
            let broken = |error| format!("is damaged: {error}");
            let group = self.reader.get_row_group(group).map_err(broken)?;
            let take = &mut take;
            match group.get_column_reader(leaf).map_err(broken)? {
                ColumnReader::BoolColumnReader(reader) => each(reader, highest, |value, starts| {
                    take(number(value, |&v| f64::from(u8::from(v))), starts)
                }),
                ColumnReader::Int32ColumnReader(reader) => {
                    each(reader, highest, |value, starts| {
                        take(integer(value.map(|&v| v.into())), starts)
                    })
                }
                ColumnReader::Int64ColumnReader(reader) => {
                    each(reader, highest, |value, starts| {
                        take(integer(value.copied()), starts)
                    })
                }
                ColumnReader::FloatColumnReader(reader) => {
                    each(reader, highest, |value, starts| {
                        take(number(value, |&v| v.into()), starts)
                    })
                }
                ColumnReader::DoubleColumnReader(reader) => {
                    each(reader, highest, |value, starts| {
                        take(number(value, |&v| v), starts)
                    })
                }
                ColumnReader::ByteArrayColumnReader(reader) => {
                    each(reader, highest, |value, starts| {
                        take(
                            value.map_or(Value::None, |v: &ByteArray| Value::Bytes(v.data())),
                            starts,
                        )
                    })
                }
                ColumnReader::FixedLenByteArrayColumnReader(reader) if self.is_half(leaf) => {
                    each(reader, highest, |value, starts| {
                        take(number(value, half), starts)
                    })
                }
                _ => Err("holds values of a kind that is not read".to_owned()),
            }?;
        }
        Ok(())
    }

    fn is_half(&self, leaf: usize) -> bool {
        let column = self
            .reader
            .metadata()
            .file_metadata()
            .schema_descr()
            .column(leaf);
        matches!(column.logical_type_ref(), Some(LogicalType::Float16))
            && column.converted_type() == ConvertedType::NONE
    }

    /// The numbers of a column, one or a list a row. An error is a clause.
    fn lists(&self, column: usize) -> Result<Lists, String> {
        let mut lists = Lists {
            rows: 0,
            width: 0,
            numbers: Vec::new(),
        };
        let mut length = 0;
        let close = |lists: &mut Lists, length: usize| {
            if lists.rows == 1 {
                lists.width = length;
            }
            if lists.rows > 0 && lists.width != length {
                let row = lists.rows - 1;
                return Err(format!(
                    "row {row} has {length} numbers, and row 0 has {}",
                    lists.width
                ));
            }
            Ok(())
        };
        self.values(column, |value, starts| {
            if starts {
                close(&mut lists, length)?;
                lists.rows += 1;
                length = 0;
            }
            length += 1;
            let row = lists.rows.saturating_sub(1);
            check_size(self.path, lists.numbers.len(), 1).map_err(|error| error.to_string())?;
            match value {
                Value::Number(number) => lists.numbers.push(number as f32),
                Value::Integer(integer) => lists.numbers.push(integer as f32),
                Value::None => return Err(format!("row {row} has no value")),
                Value::Bytes(_) => return Err(format!("row {row} is text; a number is needed")),
            }
            Ok(())
        })?;
        close(&mut lists, length)?;
        Ok(lists)
    }

    /// A column of text or of numbers as text; a value that is missing is empty. An error is a clause.
    fn text(&self, column: usize) -> Result<Text, String> {
        let mut text = Text::default();
        self.values(column, |value, starts| {
            let row = text.len();
            if !starts {
                return Err(format!("row {row} is a list; one value per row is needed"));
            }
            check_size(self.path, row, 1).map_err(|error| error.to_string())?;
            match value {
                Value::Bytes(bytes) => {
                    let cell = std::str::from_utf8(bytes);
                    text.push(cell.map_err(|_| format!("row {row} is not text"))?.trim());
                }
                Value::Integer(integer) => text.push(&integer.to_string()),
                Value::Number(number) if number.is_nan() => text.push(""),
                Value::Number(number) => text.push(&number.to_string()),
                Value::None => text.push(""),
            }
            Ok(())
        })?;
        Ok(text)
    }

    /// A column of text, or of integers.
    fn labels(&self, column: usize) -> Result<Text> {
        let mut text = Text::default();
        let read = self.values(column, |value, starts| {
            let row = text.len();
            if !starts {
                return Err(format!(
                    "row {} is a list; one name per row is needed",
                    row - 1
                ));
            }
            match value {
                Value::Bytes(bytes) => {
                    let label = std::str::from_utf8(bytes);
                    text.push(label.map_err(|_| format!("row {row} is not text"))?);
                }
                Value::Integer(integer) => text.push(&integer.to_string()),
                Value::Number(whole) if whole.fract() == 0.0 => text.push(&format!("{whole:.0}")),
                Value::Number(other) => return Err(format!("row {row} is {other}, and no name")),
                Value::None => return Err(format!("row {row} has no value")),
            }
            Ok(())
        });
        read.map_err(|reason| {
            Error::data(
                self.path,
                format!("column `{}` {reason}", self.header[column]),
            )
        })?;
        Ok(text)
    }
}

/// A value of a column.
enum Value<'a> {
    None,
    Integer(i64),
    Number(f64),
    Bytes(&'a [u8]),
}

fn number<'a, T>(value: Option<&T>, convert: impl Fn(&T) -> f64) -> Value<'a> {
    value.map_or(Value::None, |value| Value::Number(convert(value)))
}

fn integer<'a>(value: Option<i64>) -> Value<'a> {
    value.map_or(Value::None, Value::Integer)
}

fn half(bytes: &FixedLenByteArray) -> f64 {
    let bytes = bytes.data().first_chunk().copied().unwrap_or_default();
    f16::from_le_bytes(bytes).to_f64()
}

/// Hands on the values of a part of a column; none where the level of definition is not the highest.
fn each<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    highest: i16,
    mut take: impl FnMut(Option<&T::T>, bool) -> Result<(), String>,
) -> Result<(), String> {
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        definitions.clear();
        repetitions.clear();
        values.clear();
        let read = reader.read_records(
            BATCH,
            Some(&mut definitions),
            Some(&mut repetitions),
            &mut values,
        );
        let (rows, _, levels) = read.map_err(|error| format!("is damaged: {error}"))?;
        if rows == 0 && levels == 0 {
            return Ok(());
        }
        // Without levels every value is there.
        let mut present = values.iter();
        for level in 0..levels {
            let there = highest == 0 || definitions.get(level) == Some(&highest);
            let starts = repetitions.get(level).is_none_or(|&level| level == 0);
            take(there.then(|| present.next()).flatten(), starts)?;
        }
    }
}

/// The largest file that is written.
const MAXIMUM_WRITTEN: usize = 1 << 31;

/// Writes a table into memory, some rows at a time: each call is a group of rows.
pub struct TableWriter {
    path: PathBuf,
    writer: SerializedFileWriter<Vec<u8>>,
}

impl TableWriter {
    /// A table with columns of these names, of the kinds of their cells. `path` is for messages, `by` what
    /// the file says of who wrote it.
    ///
    /// # Errors
    /// [`Error::Data`] for names that Parquet does not have.
    pub fn new(path: &Path, by: &str, columns: &[(String, ColumnCells)]) -> Result<Self> {
        let fault = |error: ParquetError| Error::data(path, format!("cannot be written: {error}"));
        let field = |(name, cells): &(String, ColumnCells)| {
            let (physical, converted) = match cells {
                ColumnCells::Text(_) => (Physical::BYTE_ARRAY, ConvertedType::UTF8),
                ColumnCells::Whole(_) => (Physical::INT64, ConvertedType::NONE),
                ColumnCells::Numbers(_) => (Physical::DOUBLE, ConvertedType::NONE),
                ColumnCells::Flags(_) => (Physical::BOOLEAN, ConvertedType::NONE),
            };
            let field = Type::primitive_type_builder(name, physical)
                .with_repetition(Repetition::OPTIONAL)
                .with_converted_type(converted);
            field.build().map(Arc::new)
        };
        let fields: Result<Vec<_>, ParquetError> = columns.iter().map(field).collect();
        let schema = Type::group_type_builder("table").with_fields(fields.map_err(fault)?);
        let schema = Arc::new(schema.build().map_err(fault)?);
        let properties = WriterProperties::builder()
            .set_created_by(by.to_owned())
            .set_compression(Compression::SNAPPY)
            .build();
        let writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties));
        let writer = writer.map_err(fault)?;
        Ok(TableWriter {
            path: path.to_owned(),
            writer,
        })
    }

    /// Adds rows: the same columns again, as many cells in each.
    ///
    /// # Errors
    /// [`Error::Data`] for other columns, and where the file would be larger than 2 GiB.
    pub fn rows(&mut self, columns: &[(String, ColumnCells)]) -> Result<()> {
        let fault =
            |error: ParquetError| Error::data(&self.path, format!("cannot be written: {error}"));
        let mut group = self.writer.next_row_group().map_err(fault)?;
        for (_, cells) in columns {
            let Some(mut column) = group.next_column().map_err(fault)? else {
                return Err(Error::data(&self.path, "has fewer columns"));
            };
            let written = match cells {
                ColumnCells::Text(cells) => {
                    let text = |cell: &Option<String>| cell.as_deref().map(ByteArray::from);
                    let cells: Vec<_> = cells.iter().map(text).collect();
                    write::<ByteArrayType>(&mut column, &cells)
                }
                ColumnCells::Whole(cells) => write::<Int64Type>(&mut column, cells),
                ColumnCells::Numbers(cells) => write::<DoubleType>(&mut column, cells),
                ColumnCells::Flags(cells) => write::<BoolType>(&mut column, cells),
            };
            written.and_then(|()| column.close()).map_err(fault)?;
        }
        group.close().map_err(fault)?;
        if self.writer.bytes_written() > MAXIMUM_WRITTEN {
            let message = "would be larger than 2 GiB; write it in parts";
            return Err(Error::data(&self.path, message));
        }
        Ok(())
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// As [`TableWriter::rows`].
    pub fn finish(self) -> Result<Vec<u8>> {
        let TableWriter { path, writer } = self;
        let fault = |error: ParquetError| Error::data(&path, format!("cannot be written: {error}"));
        writer.into_inner().map_err(fault)
    }
}

/// Writes the cells of a column: the values that are there, and where they are.
fn write<T: DataType>(
    column: &mut SerializedColumnWriter<'_>,
    cells: &[Option<T::T>],
) -> Result<(), ParquetError> {
    let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
    let values: Vec<T::T> = cells.iter().flatten().cloned().collect();
    let writer = column.typed::<T>();
    writer.write_batch(&values, Some(&levels), None).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written is read back: text, and numbers in their rows.
    #[test]
    fn a_table_is_written() {
        let columns = |text: [&str; 2], numbers: [f64; 2]| {
            let text = text.map(|text| Some(text.to_owned())).to_vec();
            vec![
                ("label".to_owned(), ColumnCells::Text(text)),
                (
                    "x".to_owned(),
                    ColumnCells::Numbers(numbers.map(Some).to_vec()),
                ),
                (
                    "sure".to_owned(),
                    ColumnCells::Flags(vec![Some(true), None]),
                ),
                ("step".to_owned(), ColumnCells::Whole(vec![None, Some(7)])),
            ]
        };
        let first = columns(["a", "ü"], [1.0, -2.5]);
        let path = Path::new("table.parquet");
        let mut writer = TableWriter::new(path, "a test", &first).unwrap();
        writer.rows(&first).unwrap();
        writer.rows(&columns(["", "b"], [0.0, 4.0])).unwrap();
        let bytes = writer.finish().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.parquet");
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(header(&path).unwrap(), ["label", "x", "sure", "step"]);
        let file = File::open(&path).unwrap();
        assert_eq!(
            file.reader.metadata().file_metadata().created_by(),
            Some("a test")
        );
        let all = cells(&path).unwrap();
        let of = |column: usize| all.columns[column].iter().collect::<Vec<_>>();
        assert_eq!(of(3), ["", "7", "", "7"]);
        let keys = Keys {
            features: "x",
            labels: "label",
            split: "",
        };
        let found = table(&path, &keys).unwrap();
        let labels = found.labels.unwrap();
        assert_eq!(labels.iter().collect::<Vec<_>>(), ["a", "ü", "", "b"]);
        let mut numbers = [0.0; 4];
        found.vectors.read(0, &mut numbers).unwrap();
        assert_eq!(numbers, [1.0, -2.5, 0.0, 4.0]);
    }
}
