//! Checksums of what a run has written: before a run is resumed, evaluated or sealed with its result, its
//! files are those that were written.
//!
//! `checksums.txt` holds from the beginning the hashes of what never changes. The metrics grow: every
//! checkpoint holds the hash of what was there when it was written, and its own. A finished run has the
//! hashes of all its files, as they were written rather than as they are found in the end.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use meta_core::{
    Error,
    files::write_atomically,
    train::checkpoint_file::{self, Checkpoint},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::folder::{BEST, CHECKPOINT, CHECKSUMS, MANIFEST, METRICS, RECORD, RESULT, SCORES};

type Result<T> = std::result::Result<T, Error>;

/// What a finished run has checksums of, in their order.
const ALL: [&str; 7] = [MANIFEST, RECORD, CHECKPOINT, BEST, METRICS, SCORES, RESULT];
/// What never changes.
const FIXED: [&str; 2] = [MANIFEST, RECORD];

/// What a run's checkpoint holds besides the state of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Extra {
    /// Identity of the run.
    pub hash: String,
    /// Length of `metrics.jsonl` at this moment: a resumed run cuts the file here.
    pub metrics_bytes: u64,
    /// Hash of these bytes; older versions did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_hash: Option<String>,
}

impl Extra {
    /// That of a run before its first iteration.
    pub fn first(hash: &str) -> Self {
        Extra {
            hash: hash.to_owned(),
            metrics_bytes: 0,
            metrics_hash: Some(hex(b"")),
        }
    }

    /// As a checkpoint holds it.
    pub fn to_value(&self) -> Value {
        json!(self)
    }

    /// Reads it from what the checkpoint at `path` holds.
    ///
    /// # Errors
    /// When the checkpoint is not of a run.
    pub fn read(path: &Path, value: &Value) -> Result<Self> {
        Extra::deserialize(value)
            .map_err(|error| Error::checkpoint(path, format!("has no record of a run: {error}")))
    }
}

fn hex(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Hashes of files of a run folder by their names.
#[derive(Clone, Debug, PartialEq)]
pub struct Checksums {
    path: PathBuf,
    hashes: BTreeMap<String, String>,
}

impl Checksums {
    /// Those of what never changes of `files`, which are to be in `folder`.
    pub fn of(folder: &Path, files: &[(&str, Vec<u8>)]) -> Self {
        let fixed = files.iter().filter(|(name, _)| FIXED.contains(name));
        let hashes = fixed.map(|(name, bytes)| ((*name).to_owned(), hex(bytes)));
        Checksums {
            path: folder.join(CHECKSUMS),
            hashes: hashes.collect(),
        }
    }

    /// Those that are in `folder`; none where it has no file of them.
    ///
    /// # Errors
    /// When they cannot be read or are damaged.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(CHECKSUMS);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path, "read", error)),
        };
        let mut hashes = BTreeMap::new();
        for line in String::from_utf8_lossy(&bytes).lines() {
            match line.split_once("  ") {
                Some((hash, name)) if ALL.contains(&name) => {
                    hashes.insert(name.to_owned(), hash.to_owned());
                }
                _ => {
                    let expected = "is damaged: expected lines of a hash and the name of a file";
                    return Err(Error::data(&path, expected));
                }
            }
        }
        Ok(Some(Checksums { path, hashes }))
    }

    /// The hash of the file called `name`, whose content is `bytes`.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        self.add_hash(name, hex(bytes));
    }

    /// The hash of the file called `name`.
    pub fn add_hash(&mut self, name: &str, hash: String) {
        self.hashes.insert(name.to_owned(), hash);
    }

    /// The content of their file.
    pub fn bytes(&self) -> Vec<u8> {
        let lines = ALL.iter().filter_map(|name| {
            let hash = self.hashes.get(*name)?;
            Some(format!("{hash}  {name}\n"))
        });
        lines.collect::<String>().into_bytes()
    }

    /// Writes them into their folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self) -> Result<()> {
        write_atomically(&self.path, &self.bytes())
    }

    /// Checks that these files are what was written.
    fn check(&self, names: &[&str]) -> Result<()> {
        for name in names {
            let Some(hash) = self.hashes.get(*name) else {
                return Err(Error::data(&self.path, format!("has no line for {name}")));
            };
            let path = self.path.with_file_name(name);
            let bytes = fs::read(&path).map_err(|error| Error::io(&path, "read", error))?;
            if hex(&bytes) != *hash {
                let changed =
                    format!("has changed since it was written: {CHECKSUMS} has another hash");
                return Err(Error::data(&path, changed));
            }
        }
        Ok(())
    }
}

/// Checks that the manifest and the record of the run in `folder` are those that were written, as far as it
/// is known.
///
/// # Errors
/// Naming the file that has changed.
pub fn check_fixed(folder: &Path) -> Result<()> {
    match Checksums::read(folder)? {
        Some(checksums) => checksums.check(&FIXED),
        None => Ok(()),
    }
}

/// Checks an unfinished run by its `checkpoint`, which was read from `folder`: its checksums, none where an
/// older version has begun the run, and what the checkpoint says of the metrics.
///
/// # Errors
/// Naming the file that is not as it was written.
pub fn check_unfinished(folder: &Path, checkpoint: &Checkpoint) -> Result<Option<Checksums>> {
    let extra = Extra::read(&folder.join(CHECKPOINT), &checkpoint.record["extra"])?;
    let checksums = Checksums::read(folder)?;
    match &checksums {
        Some(checksums) => checksums.check(&FIXED)?,
        None if extra.metrics_hash.is_some() => {
            let path = folder.join(CHECKSUMS);
            return Err(Error::data(path, "is missing; this run was begun with it"));
        }
        None => {}
    }
    metrics(folder, &extra)?;
    Ok(checksums)
}

/// The metrics that were there when `extra` was written.
///
/// # Errors
/// When there are fewer, or others.
pub fn metrics(folder: &Path, extra: &Extra) -> Result<Vec<u8>> {
    let path = folder.join(METRICS);
    let mut bytes = fs::read(&path).map_err(|error| Error::io(&path, "read", error))?;
    let (length, expected) = (bytes.len() as u64, extra.metrics_bytes);
    if length < expected {
        let shorter =
            format!("has {length} bytes, but the checkpoint was written after {expected}");
        return Err(Error::data(path, shorter));
    }
    bytes.truncate(expected as usize);
    match &extra.metrics_hash {
        Some(hash) if *hash != hex(&bytes) => Err(Error::data(
            path,
            "has changed since it was written: the checkpoint has another hash",
        )),
        Some(_) => Ok(bytes),
        None => {
            let damaged = bytes.split(|byte| *byte == b'\n').position(|line| {
                !line.is_empty() && serde_json::from_slice::<Value>(line).is_err()
            });
            match damaged {
                Some(line) => {
                    let line = format!("is damaged: line {} is not JSON", line + 1);
                    Err(Error::data(path, line))
                }
                None => Ok(bytes),
            }
        }
    }
}

/// Checks the files of a run that has its result, or has not.
///
/// # Errors
/// Naming the first file that is not as it was written.
pub fn verify(folder: &Path, finished: bool) -> Result<()> {
    let checksums = Checksums::read(folder)?;
    match checksums {
        None if finished => Err(Error::data(folder, format!("has no {CHECKSUMS}"))),
        Some(checksums) if finished => checksums.check(&ALL),
        Some(checksums) if checksums.hashes.contains_key(RESULT) => Err(Error::data(
            folder.join(RESULT),
            "is missing: it was removed, or the run was killed before it was written; resumed, the run \
             tests again",
        )),
        _ => {
            let checkpoint = checkpoint_file::read(&folder.join(CHECKPOINT))?;
            check_unfinished(folder, &checkpoint).map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An unfinished run with two lines of metrics.
    fn unfinished(folder: &Path, metrics_hash: Option<String>) -> Checkpoint {
        let files = [
            (MANIFEST, b"name = \"a\"\n".to_vec()),
            (RECORD, b"{}\n".to_vec()),
        ];
        Checksums::of(folder, &files).write().unwrap();
        for (name, bytes) in files {
            fs::write(folder.join(name), bytes).unwrap();
        }
        fs::write(folder.join(METRICS), "{\"a\":1}\n{\"b\":2}\n{\"to").unwrap();
        let extra = Extra {
            metrics_bytes: 16,
            metrics_hash,
            ..Extra::first("")
        };
        Checkpoint {
            record: json!({ "extra": extra.to_value() }),
            tensors: Vec::new(),
        }
    }

    /// Every bit of what a checkpoint vouches for.
    #[test]
    fn every_flipped_bit_is_found_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let hash = hex(b"{\"a\":1}\n{\"b\":2}\n");
        let checkpoint = unfinished(folder, Some(hash));
        check_unfinished(folder, &checkpoint).unwrap();
        for (name, length) in [(MANIFEST, 11), (RECORD, 3), (METRICS, 16), (CHECKSUMS, 158)] {
            let path = folder.join(name);
            let good = fs::read(&path).unwrap();
            for place in 0..length {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[place] ^= 1 << bit;
                    fs::write(&path, &bad).unwrap();
                    let checked = check_unfinished(folder, &checkpoint);
                    let message = checked.expect_err(name).to_string();
                    assert!(message.contains(folder.to_str().unwrap()), "{message}");
                }
            }
            fs::write(&path, &good).unwrap();
        }
        fs::remove_file(folder.join(CHECKSUMS)).unwrap();
        let message = check_unfinished(folder, &checkpoint)
            .unwrap_err()
            .to_string();
        assert!(message.contains("checksums.txt: is missing"), "{message}");
    }

    #[test]
    fn metrics_of_older_versions_are_json_at_least() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let checkpoint = unfinished(folder, None);
        check_unfinished(folder, &checkpoint).unwrap();
        fs::write(folder.join(METRICS), "{\"a\":1}\n{\"b\"+2}\n").unwrap();
        let message = check_unfinished(folder, &checkpoint)
            .unwrap_err()
            .to_string();
        assert!(message.contains("line 2 is not JSON"), "{message}");
    }
}
