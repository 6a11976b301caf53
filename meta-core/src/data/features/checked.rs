//! Vectors are checked once: what was found is remembered by the size and the time of the file.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::data::formats::Vectors;
use crate::data::image_cache::default_folder;
use crate::error::{Error, Result};
use crate::files::{read_text, write_atomically};

/// Numbers that are checked at a time.
const BLOCK: usize = 1 << 16;
/// Enters every record; another rule gets another number.
const VERSION: u32 = 1;
/// The largest record.
const MAXIMUM_BYTES: u64 = 1 << 26;

/// What is known of vectors that are all finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Checked {
    /// BLAKE3 hash of the numbers as little-endian numbers of 32 bits, row by row.
    pub hash: String,
    /// Columns that have one number in all rows, and the number.
    pub constant: Vec<(usize, f32)>,
}

/// A check of a file, and what the file was like.
#[derive(PartialEq, Serialize, Deserialize)]
struct Record {
    version: u32,
    file: PathBuf,
    key: String,
    size: u64,
    modified: u128,
    rows: usize,
    width: usize,
    checked: Checked,
}

/// Checks the vectors of array `key` in the file at `path`, or remembers that they were: in `folder`, or in
/// the default folder for caches where that is empty.
///
/// # Errors
/// [`Error::Data`] naming the row and the column of a number that is not finite.
pub(super) fn check(path: &Path, key: &str, vectors: &Vectors, folder: &str) -> Result<Checked> {
    let place = Place::of(path, key, vectors, folder);
    if let Some(checked) = place.as_ref().and_then(Place::remembered) {
        return Ok(checked);
    }
    let checked = Checked::of(vectors).map_err(|fault| match fault {
        Fault::Io(error) => Error::io(path, "read", error),
        Fault::Number(reason) => Error::data(path, reason),
    })?;
    if let Some(place) = place {
        place.remember(&checked);
    }
    Ok(checked)
}

/// Where a check is remembered.
struct Place {
    file: PathBuf,
    /// The record, without what was found.
    record: Record,
}

impl Place {
    /// None where the file is of no kind that can be recognised, or there is no folder for caches.
    fn of(path: &Path, key: &str, vectors: &Vectors, folder: &str) -> Option<Self> {
        let folder = if folder.is_empty() {
            default_folder()?
        } else {
            PathBuf::from(folder)
        };
        let path = std::fs::canonicalize(path).ok()?;
        let metadata = std::fs::metadata(&path).ok()?;
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let name = format!("{}\n{key}", path.to_str()?);
        let name = blake3::hash(name.as_bytes()).to_hex();
        Some(Place {
            file: folder.join(format!("features-{}.json", &name[..32])),
            record: Record {
                version: VERSION,
                file: path,
                key: key.to_owned(),
                size: metadata.len(),
                modified: modified.as_nanos(),
                rows: vectors.rows(),
                width: vectors.width(),
                checked: Checked {
                    hash: String::new(),
                    constant: Vec::new(),
                },
            },
        })
    }

    fn remembered(&self) -> Option<Checked> {
        let text = read_text(&self.file, MAXIMUM_BYTES).ok()?;
        let mut found: Record = serde_json::from_str(&text).ok()?;
        let nothing = self.record.checked.clone();
        let checked = std::mem::replace(&mut found.checked, nothing);
        (found == self.record && checked.hash.len() == 64).then_some(checked)
    }

    /// Failing to is only worth a warning.
    fn remember(mut self, checked: &Checked) {
        self.record.checked = checked.clone();
        let written = serde_json::to_vec(&self.record)
            .map_err(|error| Error::data(&self.file, error.to_string()))
            .and_then(|bytes| {
                if let Some(folder) = self.file.parent() {
                    std::fs::create_dir_all(folder)
                        .map_err(|error| Error::io(folder, "create folder", error))?;
                }
                write_atomically(&self.file, &bytes)
            });
        if let Err(error) = written {
            tracing::warn!(%error, "cannot remember that vectors were checked; the next start does it again");
        }
    }
}

/// Why vectors are refused.
enum Fault {
    Io(std::io::Error),
    /// A clause.
    Number(String),
}

impl Checked {
    fn of(vectors: &Vectors) -> Result<Self, Fault> {
        let (rows, width) = (vectors.rows(), vectors.width());
        let mut hasher = blake3::Hasher::new();
        let at_a_time = (BLOCK / width).clamp(1, rows.max(1));
        let mut block = vec![0.0f32; at_a_time * width];
        let mut bytes = vec![0; 4 * block.len()];
        let mut first_row: Vec<f32> = Vec::new();
        // Columns that have been constant so far.
        let mut constant: Vec<usize> = (0..width).collect();
        for first in (0..rows).step_by(at_a_time) {
            let count = at_a_time.min(rows - first);
            let block = &mut block[..count * width];
            vectors.read(first, block).map_err(Fault::Io)?;
            if let Some(place) = block.iter().position(|number| !number.is_finite()) {
                let (row, column) = (first + place / width, vectors.column(place % width));
                return Err(Fault::Number(format!(
                    "row {row}, {column} is {}; vectors must be finite",
                    block[place]
                )));
            }
            let bytes = &mut bytes[..4 * block.len()];
            for (bytes, number) in bytes.as_chunks_mut().0.iter_mut().zip(block.iter()) {
                *bytes = number.to_le_bytes();
            }
            hasher.update(bytes);
            if first == 0 {
                first_row = block[..width].to_vec();
            }
            for row in block.chunks_exact(width) {
                if constant.is_empty() {
                    break;
                }
                constant.retain(|&column| row[column] == first_row[column]);
            }
        }
        Ok(Checked {
            hash: hasher.finalize().to_hex().to_string(),
            constant: constant
                .into_iter()
                .filter(|_| rows > 0)
                .map(|column| (column, first_row[column]))
                .collect(),
        })
    }
}
