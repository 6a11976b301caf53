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
//! | `checksums.txt` | of what does not change, and in the end of all these but `timing.jsonl`, in the form of `b3sum` |
//! | `failure.json` | why a run of a sweep failed; gone when it is tried again |
//! | `tags.txt` | tags, one a line |
//! | `calibration.json` | what `meta calibrate` measured |
//! | `explain` | the folder that `meta explain` writes |
//! | `tensorboard` | the folder of event files, with `tracking.tensorboard` |
//! | `evals` | the folder of the evaluations after the run's own test, one file each |
//! | `stop` | asks the process that works on the run to end, as `meta watch` does; gone when it has |
//! | `lock`, `tags.lock` | held by the process that works on the run, or on its tags |
//!
//! What else is in a folder is not ours: it is never removed or written over.

use std::{
    fs::{self, File, TryLockError},
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use meta_core::{
    Error,
    files::{create_folder_beside, remove_abandoned, temporary_of, write_atomically},
};
use serde_json::{Value, json};

use crate::failure::{CommandError, Result};

/// The resolved manifest.
pub const MANIFEST: &str = "manifest.toml";
/// The record.
pub const RECORD: &str = "record.json";
/// The last checkpoint.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// The best parameters.
pub use crate::experiment::initial::BEST;
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
/// Checksums of the files.
pub const CHECKSUMS: &str = "checksums.txt";
/// What `meta calibrate` measured.
pub const CALIBRATION: &str = "calibration.json";
/// Tags.
pub const TAGS: &str = "tags.txt";
/// What a learner attends to, as `meta explain` draws it.
pub const EXPLAIN: &str = "explain";
/// The file of its numbers.
pub const EXPLAIN_NUMBERS: &str = "explain.json";
/// Evaluations besides the run's own test.
pub const EVALS: &str = "evals";
/// Event files of TensorBoard.
pub const TENSORBOARD: &str = "tensorboard";
/// Asks the process that works on the run to end.
pub const STOP_REQUEST: &str = "stop";
/// Held by the process that works on the run.
pub const LOCK: &str = "lock";
/// Held by the process that changes the tags.
pub const TAGS_LOCK: &str = "tags.lock";
/// Every file that a run may have.
const FILES: [&str; 15] = [
    MANIFEST,
    RECORD,
    CHECKPOINT,
    BEST,
    METRICS,
    TIMING,
    RESULT,
    SCORES,
    FAILURE,
    CHECKSUMS,
    CALIBRATION,
    TAGS,
    STOP_REQUEST,
    LOCK,
    TAGS_LOCK,
];
/// What is beside the failure of a run that failed before it began.
const BESIDE_FAILURE: [&str; 3] = [TAGS, TAGS_LOCK, LOCK];
/// Digits of an identity.
const HASH_LENGTH: usize = 64;
/// How often a lock that is taken is asked for again, and the time between: whoever only looks whether a
/// run is at work holds its lock for a moment.
const LOOKS: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What there is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, an empty folder, or a run that failed before it began.
    Nothing,
    /// A run without a result.
    Unfinished,
    /// A run with its result.
    Finished,
}

/// Names in the folder at `path`; none where there is no folder.
fn names(path: &Path) -> Result<Option<Vec<String>>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path, "open the run folder", error).into()),
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(Some(names))
}

/// Looks at `path`; again for a moment, where what is there changes meanwhile, or another process may be about to
/// write itself into a lock that it has just made.
///
/// # Errors
/// When it is something else than a run folder, or cannot be read.
pub fn inspect(path: &Path) -> Result<Found> {
    for _ in 1..LOOKS {
        let before = names(path)?;
        let found = look(path, before.as_deref());
        if found.is_ok() {
            return found;
        }
        let after = names(path)?;
        if after == before && after.is_none_or(|names| names != [LOCK]) {
            return found;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    look(path, names(path)?.as_deref())
}

/// What the folder at `path` is, by the names in it.
fn look(path: &Path, names: Option<&[String]>) -> Result<Found> {
    let Some(names) = names else {
        return Ok(Found::Nothing);
    };
    let has = |name: &str| names.iter().any(|other| other == name);
    if names.is_empty() || failed_early(path, names) {
        Ok(Found::Nothing)
    } else if !has(RECORD) {
        Err(CommandError::Usage(format!(
            "{}: expected a run folder or nothing, found a folder without {RECORD}; it is left as it is",
            path.display()
        )))
    } else {
        check_record(&path.join(RECORD))?;
        Ok(if has(RESULT) {
            Found::Finished
        } else {
            Found::Unfinished
        })
    }
}

/// Checks that a record is one that this program writes.
fn check_record(path: &Path) -> Result<()> {
    let record = read_json(path)?;
    let hash = record["hash"].as_str().unwrap_or_default();
    let digits = hash.len() == HASH_LENGTH && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits && record["manifest"].is_object() {
        Ok(())
    } else {
        Err(CommandError::Usage(format!(
            "{}: expected the record of a run, with its `hash` and `manifest`; the folder is left as it is",
            path.display()
        )))
    }
}

/// Whether `names`, those in the folder at `path`, are all that a run leaves behind that failed before it
/// began: a failure as this program writes it, and nothing else.
fn failed_early(path: &Path, names: &[String]) -> bool {
    let known = |name: &String| {
        let name = temporary_of(name).unwrap_or(name);
        name == FAILURE || BESIDE_FAILURE.contains(&name)
    };
    if !names.iter().all(known) {
        return false;
    }
    if names == [LOCK] {
        // A kill came between the lock and the new run.
        let holder = fs::read_to_string(path.join(LOCK)).unwrap_or_default();
        return !holder.is_empty() && holder.bytes().all(|byte| byte.is_ascii_digit());
    }
    let ours = |text: String| {
        let value: Value = serde_json::from_str(&text).ok()?;
        Some(failure_bytes(value["error"].as_str()?) == text.as_bytes())
    };
    let text = fs::read_to_string(path.join(FAILURE)).ok();
    text.and_then(ours).unwrap_or(false)
}

/// The content of [`FAILURE`].
pub fn failure_bytes(error: &str) -> Vec<u8> {
    json_bytes(&json!({ "error": error }))
}

/// The first thing in the run folder at `path` that this program did not write.
///
/// # Errors
/// When the folder cannot be read.
pub fn foreign(path: &Path) -> Result<Option<String>> {
    let ours = |name: &String| {
        let file = temporary_of(name).unwrap_or(name);
        match path.join(name).is_dir() {
            true => [EXPLAIN, EVALS, TENSORBOARD].contains(&file),
            false => FILES.contains(&file),
        }
    };
    let names = names(path)?.unwrap_or_default();
    Ok(names.into_iter().find(|name| !ours(name)))
}

/// A run folder that this process holds.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Released by the system when the process ends, however it ends.
    _lock: File,
}

impl RunFolder {
    /// Makes the folder with `files` in it, all or nothing, and locked from the beginning.
    ///
    /// # Errors
    /// [`CommandError::Busy`] when another process was faster. When it cannot be made, or something is
    /// there already; nothing is left then, and what is there stays as it is.
    pub fn create(path: &Path, files: &[(&str, Vec<u8>)]) -> Result<Self> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(|error| Error::io(parent, "create folder", error))?;
        let tags = clear_failure(path)?;
        let temporary = create_folder_beside(path)?;
        let made = fill(&temporary, files, tags).and_then(|lock| {
            fs::rename(&temporary, path).map_err(|error| taken(path, error))?;
            Ok(lock)
        });
        if made.is_err() {
            // Best effort: the reason to report is the first one.
            let _ = fs::remove_dir_all(&temporary);
        }
        Ok(RunFolder {
            path: path.to_owned(),
            _lock: made?,
        })
    }

    /// Locks an existing run folder, and removes what writes that were killed have left in it.
    ///
    /// # Errors
    /// [`CommandError::Busy`] when another process holds it.
    pub fn open(path: &Path) -> Result<Self> {
        let lock = lock(path)?;
        remove_abandoned(path, |name| FILES.contains(&name))?;
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

/// Locks the run in `folder`, and writes this process into its lock.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let mut lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| Error::io(&path, "open", error))?;
    for look in 1.. {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if look < LOOKS => std::thread::sleep(LOOK_AGAIN),
            Err(TryLockError::WouldBlock) => return Err(busy(folder)),
            Err(TryLockError::Error(error)) => return Err(Error::io(&path, "lock", error).into()),
        }
    }
    let process = std::process::id().to_string();
    lock.set_len(0)
        .and_then(|()| lock.write_all(process.as_bytes()))
        .map_err(|error| Error::io(&path, "write", error))?;
    Ok(lock)
}

/// Another process works on the run at `path`.
fn busy(path: &Path) -> CommandError {
    let mut holder = String::new();
    let known = File::open(path.join(LOCK))
        .and_then(|mut lock| lock.read_to_string(&mut holder))
        .is_ok();
    let holder = match holder.trim() {
        process if known && !process.is_empty() => format!("process {process}"),
        _ => "another process".to_owned(),
    };
    CommandError::Busy(format!(
        "{}: {holder} is working on this run; wait for it, or stop it",
        path.display()
    ))
}

/// Why a new run could not get its name: another process was faster, or something else is there.
fn taken(path: &Path, error: std::io::Error) -> CommandError {
    if names(path).is_ok_and(|names| names.is_some_and(|names| names == [LOCK])) {
        return busy(path);
    }
    match inspect(path) {
        Ok(Found::Unfinished | Found::Finished) => busy(path),
        // Somebody was there for a moment: no more than an early failure had been found before.
        Ok(Found::Nothing) if error.kind() == ErrorKind::DirectoryNotEmpty => busy(path),
        Ok(Found::Nothing) => Error::io(path, "create the run folder", error).into(),
        Err(other) => other,
    }
}

/// Removes what a run has left behind that failed before it began, file by file; gives its tags.
fn clear_failure(path: &Path) -> Result<Option<Vec<u8>>> {
    let found = names(path)?.unwrap_or_default();
    if found.is_empty() || inspect(path)? != Found::Nothing {
        return Ok(None);
    }
    // Who holds the lock removes it: while it is there, no other run can get the name.
    let held = lock(path)?;
    let left = names(path)?.unwrap_or_default();
    let alone = left.iter().all(|name| name == LOCK) || failed_early(path, &left);
    if !alone || !same_file(&held, &path.join(LOCK)) {
        return Err(taken(path, ErrorKind::DirectoryNotEmpty.into()));
    }
    let tags = fs::read(path.join(TAGS)).ok();
    remove_abandoned(path, |name| {
        name == FAILURE || BESIDE_FAILURE.contains(&name)
    })?;
    // The failure last: it proves that the others are ours.
    for name in BESIDE_FAILURE.into_iter().chain([FAILURE]) {
        let file = path.join(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io(&file, "remove", error).into());
            }
            _ => {}
        }
    }
    Ok(tags)
}

/// Whether an open file is still the one at `path`.
#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (open, there) = (
        file.metadata().map(identity),
        fs::metadata(path).map(identity),
    );
    matches!((open, there), (Ok(open), Ok(there)) if open == there)
}

/// Other systems do not remove a file that is open.
#[cfg(not(unix))]
fn same_file(_file: &File, _path: &Path) -> bool {
    true
}

/// Writes a new run, and locks it before it gets its name.
fn fill(folder: &Path, files: &[(&str, Vec<u8>)], tags: Option<Vec<u8>>) -> Result<File> {
    let lock = lock(folder)?;
    for (name, bytes) in files {
        write_atomically(&folder.join(name), bytes)?;
    }
    if let Some(tags) = tags {
        write_atomically(&folder.join(TAGS), &tags)?;
    }
    Ok(lock)
}

/// Whether a process works on the run at `path`.
pub fn is_busy(path: &Path) -> bool {
    let lock = File::options().read(true).open(path.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Holds the tags of the run at `path` until what is given is dropped; waits for others that do.
///
/// # Errors
/// When the lock cannot be made.
pub fn hold_tags(path: &Path) -> Result<File> {
    let path = path.join(TAGS_LOCK);
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .and_then(|lock| {
            lock.lock()?;
            Ok(lock)
        })
        .map_err(|error| Error::io(&path, "lock", error).into())
}

/// New runs in `folder` that a kill came before: they have no name yet, and nobody holds them.
///
/// # Errors
/// When the folder cannot be read.
pub fn abandoned(folder: &Path) -> Result<Vec<PathBuf>> {
    let unnamed = names(folder)?.unwrap_or_default().into_iter();
    let unnamed = unnamed.filter(|name| temporary_of(name).is_some());
    let mut found = Vec::new();
    for path in unnamed.map(|name| folder.join(name)) {
        // Folders of older versions have no lock before they have their name.
        let begun = path.join(LOCK).exists() || !is_young(&path);
        if path.is_dir() && begun && !is_busy(&path) && foreign(&path)?.is_none() {
            found.push(path);
        }
    }
    Ok(found)
}

/// Whether something was made in this moment, so that its process may not have locked it yet.
fn is_young(path: &Path) -> bool {
    let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
    changed.is_ok_and(|time| time.elapsed().is_ok_and(|age| age < Duration::from_secs(1)))
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

    /// A record that is one.
    fn record() -> Vec<u8> {
        json_bytes(&json!({ "hash": "0".repeat(HASH_LENGTH), "manifest": {} }))
    }

    #[test]
    fn a_folder_is_made_whole_and_locked() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("runs").join("a");
        assert_eq!(inspect(&path).unwrap(), Found::Nothing);
        let files = [(MANIFEST, b"x".to_vec()), (RECORD, record())];
        let folder = RunFolder::create(&path, &files).unwrap();
        assert_eq!(inspect(&path).unwrap(), Found::Unfinished);
        for error in [
            RunFolder::open(&path).unwrap_err(),
            RunFolder::create(&path, &files).unwrap_err(),
        ] {
            assert!(matches!(error, CommandError::Busy(_)), "{error}");
            let message = error.to_string();
            assert!(message.contains("is working on this run"), "{message}");
        }
        drop(folder);
        RunFolder::open(&path).unwrap();
        fs::write(path.join(RESULT), "{}").unwrap();
        assert_eq!(inspect(&path).unwrap(), Found::Finished);
        let left = fs::read_dir(root.path().join("runs")).unwrap().count();
        assert_eq!(left, 1, "no temporary folder is left");
    }

    /// Whatever is there, and looks like a run in part, stays.
    #[test]
    fn what_is_not_a_run_folder_is_refused_and_kept() {
        let failure = failure_bytes("no memory");
        let early: [(&str, &[u8]); 3] = [(FAILURE, &failure), (LOCK, b"12"), (TAGS, b"a\n")];
        let foreign: [&[(&str, &[u8])]; 8] = [
            &[("thesis.txt", b"x")],
            &[("thesis.txt", b"x"), (FAILURE, &failure)],
            &[(FAILURE, b"{}")],
            &[(FAILURE, b"{\"error\": \"mine\"}")],
            &[(LOCK, b"mine")],
            &[(CHECKPOINT, b"x"), (FAILURE, &failure)],
            &[(RECORD, b"{}")],
            &[(RECORD, b"{}"), (RESULT, b"{}"), (LOCK, b"mine")],
        ];
        for files in foreign {
            let root = tempfile::tempdir().unwrap();
            for (name, bytes) in files {
                fs::write(root.path().join(name), bytes).unwrap();
            }
            let message = inspect(root.path()).unwrap_err().to_string();
            assert!(message.contains("expected"), "{message}");
            RunFolder::create(root.path(), &[(RECORD, record())]).unwrap_err();
            assert_eq!(names(root.path()).unwrap().unwrap().len(), files.len());
            for (name, bytes) in files {
                assert_eq!(fs::read(root.path().join(name)).unwrap(), *bytes, "{name}");
            }
        }
        let root = tempfile::tempdir().unwrap();
        for (name, bytes) in early {
            fs::write(root.path().join(name), bytes).unwrap();
        }
        let path = root.path();
        assert_eq!(inspect(path).unwrap(), Found::Nothing);
        RunFolder::create(path, &[(RECORD, record())]).unwrap();
        assert_eq!(names(path).unwrap().unwrap(), [LOCK, RECORD, TAGS]);
    }

    #[test]
    fn one_of_many_makes_the_run() {
        for failed in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("a");
            if failed {
                fs::create_dir(&path).unwrap();
                fs::write(path.join(FAILURE), failure_bytes("x")).unwrap();
            }
            let made = std::thread::scope(|scope| {
                let start = || RunFolder::create(&path, &[(RECORD, record())]);
                let all: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
                // Held until all are done.
                let all: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
                let losers = all.iter().filter_map(|made| made.as_ref().err());
                for error in losers {
                    assert!(matches!(error, CommandError::Busy(_)), "{error}");
                }
                all.iter().filter(|made| made.is_ok()).count()
            });
            assert_eq!(made, 1);
            assert_eq!(names(&path).unwrap().unwrap(), [LOCK, RECORD]);
            assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "x").unwrap();
        RunFolder::create(&file.join("run"), &[(RECORD, record())]).unwrap_err();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
