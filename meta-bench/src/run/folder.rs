//! The run folder: made in one step, used by one process at a time.
//!
//! | File | What |
//! |---|---|
//! | `manifest.toml` | the resolved manifest, with the origin of every value |
//! | `record.json` | identity, data, device, versions, protocol |
//! | `checkpoint.safetensors` | everything that the next iteration depends on |
//! | `best.safetensors` | the parameters that are tested |
//! | `metrics.jsonl` | logged iterations and validations; the same bytes for the same run |
//! | `timing.jsonl` | when: the one part that differs from run to run |
//! | `result.json`, `scores.json` | the test, and its score by episode; a run that has them is finished |
//! | `checksums.txt` | of all of these but `timing.jsonl`, in the form of `b3sum` |
//! | `failure.json` | why a run of a sweep failed; gone when it is tried again |
//! | `tags.txt` | tags, one a line |
//! | `lock` | held by the process that works on the run |

use std::{
    fs::{self, File, TryLockError},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use meta_core::{Error, files::write_atomically};
use serde_json::Value;

use crate::failure::{CommandError, Result};

/// The resolved manifest.
pub const MANIFEST: &str = "manifest.toml";
/// The record.
pub const RECORD: &str = "record.json";
/// The last checkpoint.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// The best parameters.
pub const BEST: &str = "best.safetensors";
/// The metrics.
pub const METRICS: &str = "metrics.jsonl";
/// The timing.
pub const TIMING: &str = "timing.jsonl";
/// The result.
pub const RESULT: &str = "result.json";
/// The scores of the test, by episode.
pub const SCORES: &str = "scores.json";
/// Why the run failed.
pub const FAILURE: &str = "failure.json";
/// Checksums of the files of a finished run.
pub const CHECKSUMS: &str = "checksums.txt";
/// Tags.
pub const TAGS: &str = "tags.txt";
/// Held by the process that works on the run.
pub const LOCK: &str = "lock";
/// What has a checksum, but for the result.
const CHECKED: [&str; 6] = [MANIFEST, RECORD, CHECKPOINT, BEST, METRICS, SCORES];

/// What there is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or an empty folder.
    Nothing,
    /// A run without a result.
    Unfinished,
    /// A run with its result.
    Finished,
}

/// Looks at `path`.
///
/// # Errors
/// When it is something else than a run folder, or cannot be read.
pub fn inspect(path: &Path) -> Result<Found> {
    let entries = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(Error::io(path, "open the run folder", error).into()),
    };
    match (
        entries,
        path.join(RECORD).exists(),
        path.join(RESULT).exists(),
    ) {
        (false, ..) => Ok(Found::Nothing),
        // A run that failed before it had a folder.
        (true, false, _) if path.join(FAILURE).exists() => Ok(Found::Nothing),
        (true, false, _) => Err(CommandError::Usage(format!(
            "{}: expected a run folder or nothing, found a folder without {RECORD}",
            path.display()
        ))),
        (true, true, false) => Ok(Found::Unfinished),
        (true, true, true) => Ok(Found::Finished),
    }
}

/// A run folder that this process holds.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Released by the system when the process ends, however it ends.
    _lock: File,
}

impl RunFolder {
    /// Makes the folder with `files` in it, all or nothing, and locks it.
    ///
    /// # Errors
    /// When it cannot be made; nothing is left then.
    pub fn create(path: &Path, files: &[(&str, Vec<u8>)]) -> Result<Self> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(|error| Error::io(parent, "create folder", error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = parent.join(format!(".{name}.{}.tmp", std::process::id()));
        if path.join(FAILURE).exists() && !path.join(RECORD).exists() {
            fs::remove_dir_all(path).map_err(|error| Error::io(path, "remove", error))?;
        }
        let made = fill(&temporary, files).and_then(|()| {
            fs::rename(&temporary, path)
                .map_err(|error| Error::io(path, "create the run folder", error).into())
        });
        if made.is_err() {
            // Best effort: the reason to report is the first one.
            let _ = fs::remove_dir_all(&temporary);
        }
        made?;
        Self::open(path)
    }

    /// Locks an existing run folder.
    ///
    /// # Errors
    /// When another process holds it.
    pub fn open(path: &Path) -> Result<Self> {
        let lock_path = path.join(LOCK);
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|error| Error::io(&lock_path, "open", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let known = lock.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
                let holder = if known {
                    format!("process {}", holder.trim())
                } else {
                    "another process".to_owned()
                };
                return Err(CommandError::Busy(format!(
                    "{}: {holder} is working on this run; wait for it, or stop it",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => {
                return Err(Error::io(&lock_path, "lock", error).into());
            }
        }
        let pid = std::process::id().to_string();
        lock.set_len(0)
            .and_then(|()| lock.write_all(pid.as_bytes()))
            .map_err(|error| Error::io(&lock_path, "write", error))?;
        Ok(RunFolder {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file called `name`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn fill(folder: &Path, files: &[(&str, Vec<u8>)]) -> Result<()> {
    if folder.exists() {
        // Left behind by a killed process that had the same number.
        fs::remove_dir_all(folder).map_err(|error| Error::io(folder, "remove", error))?;
    }
    fs::create_dir(folder).map_err(|error| Error::io(folder, "create folder", error))?;
    for (name, bytes) in files {
        write_atomically(&folder.join(name), bytes)?;
    }
    Ok(())
}

/// Whether a process works on the run at `path`.
pub fn is_busy(path: &Path) -> bool {
    let lock = File::options().read(true).open(path.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The content of [`CHECKSUMS`] for the run at `path`, whose result is about to be `result`.
///
/// # Errors
/// When a file cannot be read.
pub fn checksums(path: &Path, result: &[u8]) -> Result<Vec<u8>> {
    let mut text = String::new();
    for name in CHECKED {
        let file = path.join(name);
        if file.exists() {
            let bytes = fs::read(&file).map_err(|error| Error::io(&file, "read", error))?;
            text.push_str(&format!("{}  {name}\n", blake3::hash(&bytes)));
        }
    }
    text.push_str(&format!("{}  {RESULT}\n", blake3::hash(result)));
    Ok(text.into_bytes())
}

/// A JSON value as the content of a file.
pub fn json_bytes(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// Reads a JSON file of a run folder.
///
/// # Errors
/// When it cannot be read or is not JSON.
pub fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).map_err(|error| Error::io(path, "read", error))?;
    serde_json::from_str(&text).map_err(|error| {
        CommandError::Usage(format!("{}: damaged, not JSON: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_whole_and_locked() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("runs").join("a");
        assert_eq!(inspect(&path).unwrap(), Found::Nothing);
        let files = [(MANIFEST, b"x".to_vec()), (RECORD, b"{}".to_vec())];
        let folder = RunFolder::create(&path, &files).unwrap();
        assert_eq!(inspect(&path).unwrap(), Found::Unfinished);
        let message = RunFolder::open(&path).unwrap_err().to_string();
        assert!(message.contains("is working on this run"), "{message}");
        drop(folder);
        RunFolder::open(&path).unwrap();
        fs::write(path.join(RESULT), "{}").unwrap();
        assert_eq!(inspect(&path).unwrap(), Found::Finished);
        let left = fs::read_dir(root.path().join("runs")).unwrap().count();
        assert_eq!(left, 1, "no temporary folder is left");
    }

    #[test]
    fn what_is_not_a_run_folder_is_refused_and_kept() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("precious.txt"), "x").unwrap();
        let message = inspect(root.path()).unwrap_err().to_string();
        assert!(
            message.contains("expected a run folder or nothing"),
            "{message}"
        );
        let error = RunFolder::create(root.path(), &[(RECORD, b"{}".to_vec())]).unwrap_err();
        assert!(
            error.to_string().contains("cannot create the run folder"),
            "{error}"
        );
        assert!(root.path().join("precious.txt").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "x").unwrap();
        RunFolder::create(&file.join("run"), &[(RECORD, b"{}".to_vec())]).unwrap_err();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
