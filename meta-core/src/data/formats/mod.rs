//! Readers of files of numbers, one a format, and what they have in common.
//!
//! | ending | format | numbers |
//! |---|---|---|
//! | `.npy` | NumPy, one array | left in the file |
//! | `.npz` | NumPy, arrays by name | left in the file where stored and large, else unpacked |
//! | `.safetensors` | tensors by name | left in the file |
//! | `.pt`, `.pth` | PyTorch, tensors by name | as of `.npz` |
//! | `.csv`, `.tsv`, also with `.gz` | columns of text | in memory |
//! | `.parquet` | columns, with the cargo feature `parquet` | in memory |
//! | `.txt` | labels alone, one a line | |
//!
//! Whatever a file says of its sizes is checked before memory is taken for it, and an error names the file, the
//! key or the row. What is left in the file is read a row at a time, so that a second start costs no more
//! than the labels.

mod archive;
mod array;
mod csv;
mod numpy;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(not(feature = "parquet"))]
#[path = "without_parquet.rs"]
mod parquet;
mod pytorch;
mod safetensors;
mod table;
mod tar;
mod unpacked;

use std::path::Path;

use self::numpy::Npz;
use self::pytorch::Pytorch;
use self::safetensors::SafeTensors;
use crate::error::{Error, Result};
use crate::files::read_text;

pub use array::{Array, Element, MAXIMUM_BYTES, Number, Numbers, Region, Text};
pub use parquet::TableWriter;
pub use table::{Cells, ColumnCells, Keys, Table, Vectors};
pub(super) use tar::read_tar;
pub(super) use unpacked::{Lines, MAXIMUM_TEXT, open_unpacked, read_unpacked};

/// The largest list of labels.
const MAXIMUM_LIST: u64 = 1 << 30;

/// A format, by the ending of a file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Npy,
    Npz,
    SafeTensors,
    Pytorch,
    Csv,
    Parquet,
    Lines,
}

/// The endings that are read.
const ENDINGS: [(&str, Format); 11] = [
    (".npy", Format::Npy),
    (".npz", Format::Npz),
    (".safetensors", Format::SafeTensors),
    (".pt", Format::Pytorch),
    (".pth", Format::Pytorch),
    (".csv", Format::Csv),
    (".csv.gz", Format::Csv),
    (".tsv", Format::Csv),
    (".tsv.gz", Format::Csv),
    (".parquet", Format::Parquet),
    (".txt", Format::Lines),
];

impl Format {
    fn of(path: &Path) -> Result<Self> {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_ascii_lowercase();
        let found = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending));
        found.map(|(_, format)| *format).ok_or_else(|| {
            if !path.exists() {
                return Error::data(path, "is not there; expected a file or a folder");
            }
            let known = ENDINGS.map(|(ending, _)| ending).join(", ");
            Error::data(
                path,
                format!("has an ending that is not known; read are {known}"),
            )
        })
    }
}

/// The vectors, labels and splits of a file.
///
/// # Errors
/// [`Error::Io`] or [`Error::Data`] for a file that cannot be read, is damaged or does not have the keys.
pub fn read_table(path: &Path, keys: &Keys<'_>) -> Result<Table> {
    match Format::of(path)? {
        Format::Csv => csv::table(path, keys),
        Format::Parquet => parquet::table(path, keys),
        Format::Lines => Err(Error::data(path, "holds labels alone; vectors are needed")),
        _ => {
            let mut arrays = Arrays::open(path)?;
            Table::of(path, keys, |key| arrays.array(key))
        }
    }
}

/// All columns of a table as text; `header` says whether the first row of text names the columns.
///
/// # Errors
/// As [`read_table`], also for a format without columns.
pub fn read_cells(path: &Path, header: bool) -> Result<Cells> {
    match Format::of(path)? {
        Format::Csv => csv::cells(path, header),
        Format::Parquet => parquet::cells(path),
        _ => Err(Error::data(
            path,
            "holds arrays, and a table is needed: CSV, TSV or Parquet",
        )),
    }
}

/// Whether a file of that name is a table with columns.
pub fn is_table(path: &Path) -> bool {
    matches!(Format::of(path), Ok(Format::Csv | Format::Parquet))
}

/// What a file can be asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Names of its arrays or columns.
    pub keys: Vec<String>,
    /// Whether they are columns of a table.
    pub has_columns: bool,
}

/// The names of the arrays or columns of a file.
///
/// # Errors
/// As [`read_table`].
pub fn keys(path: &Path) -> Result<Known> {
    let columns = |keys| Known {
        keys,
        has_columns: true,
    };
    match Format::of(path)? {
        Format::Csv => csv::header(path).map(columns),
        Format::Parquet => parquet::header(path).map(columns),
        Format::Lines => Err(Error::data(path, "holds labels alone; vectors are needed")),
        _ => Ok(Known {
            keys: Arrays::open(path)?.names(),
            has_columns: false,
        }),
    }
}

/// Text by row: the labels of a file that holds nothing else, or those of the array or column `key`.
///
/// # Errors
/// As [`read_table`].
pub fn read_labels(path: &Path, key: &str) -> Result<Text> {
    let of_labels = |labels| Keys {
        features: "",
        labels,
        split: "",
    };
    match Format::of(path)? {
        Format::Lines => Ok(read_text(path, MAXIMUM_LIST)?.lines().collect()),
        Format::Csv => csv::labels(path, &of_labels(key)),
        Format::Parquet => parquet::labels(path, &of_labels(key)),
        _ => {
            let array = Arrays::open(path)?.array(key)?;
            array
                .into_names()
                .map_err(|reason| Error::data(path, format!("array `{key}` {reason}")))
        }
    }
}

/// The arrays of a file by name.
pub struct Arrays<'a> {
    path: &'a Path,
    file: ArrayFile,
}

enum ArrayFile {
    Npy,
    Npz(Npz),
    SafeTensors(SafeTensors),
    Pytorch(Box<Pytorch>),
}

impl<'a> Arrays<'a> {
    /// Opens a file of a format with arrays and reads what it says of them.
    ///
    /// # Errors
    /// As [`read_table`].
    pub fn open(path: &'a Path) -> Result<Self> {
        let file = match Format::of(path)? {
            Format::Npy => ArrayFile::Npy,
            Format::Npz => ArrayFile::Npz(Npz::open(path)?),
            Format::SafeTensors => ArrayFile::SafeTensors(SafeTensors::open(path)?),
            Format::Pytorch => ArrayFile::Pytorch(Box::new(Pytorch::open(path)?)),
            Format::Csv | Format::Parquet | Format::Lines => {
                return Err(Error::data(path, "has columns, and arrays are needed"));
            }
        };
        Ok(Arrays { path, file })
    }

    /// Names of the arrays; one that is empty for an array without a name.
    pub fn names(&self) -> Vec<String> {
        match &self.file {
            ArrayFile::Npy => vec![String::new()],
            ArrayFile::Npz(file) => file.names(),
            ArrayFile::SafeTensors(file) => file.names(),
            ArrayFile::Pytorch(file) => file.names(),
        }
    }

    /// The array of that name; an array without a name is found by any.
    ///
    /// # Errors
    /// As [`read_table`].
    pub fn array(&mut self, name: &str) -> Result<Array> {
        let name = table::find(self.path, "array", name, &self.names())?;
        match &mut self.file {
            ArrayFile::Npy => numpy::array(self.path),
            ArrayFile::Npz(file) => file.array(self.path, &name),
            ArrayFile::SafeTensors(file) => file.array(&name),
            ArrayFile::Pytorch(file) => file.array(&name),
        }
    }
}
