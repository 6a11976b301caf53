//! Files that are whole or absent, and temporary names that belong to one process alone.
//!
//! What is being written has the name `.NAME.PROCESS.NUMBER.tmp`, which nothing had before, and is locked
//! until it gets its own name. A temporary file that nobody locks was left behind by a kill.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{Error, Result};

/// Writes `bytes` to `path` so that a reader, or a process that is killed, sees the old content or
/// the new one and nothing between: temporary file in the same folder, flush to disk, rename, flush
/// of the folder. When it fails the old content is untouched and the temporary file is removed. Several
/// processes may write the same file at once; the last one wins.
///
/// # Errors
/// [`Error::Io`] naming `path` and the system's reason (no space left, permission denied, …).
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_through(path, |file| file.write_all(bytes))
        .map_err(|error| Error::io(path, "write", error))
}

fn write_through(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let (temporary, mut file) = beside(path, |temporary| {
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(temporary)?;
        match file.try_lock() {
            // Somebody takes it for left behind; another name will do.
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::AlreadyExists.into()),
            _ => Ok(file),
        }
    })?;
    let written = fill(&mut file)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the reason to report is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder(path)
}

/// Makes a folder with a temporary name beside `path`, for what is then renamed to `path`.
///
/// # Errors
/// [`Error::Io`] naming `path` and the system's reason.
pub fn create_folder_beside(path: &Path) -> Result<PathBuf> {
    let (folder, ()) = beside(path, |temporary| fs::create_dir(temporary))
        .map_err(|error| Error::io(path, "create folder", error))?;
    Ok(folder)
}

/// Makes something under a temporary name beside `path`: the first name at which there is nothing.
fn beside<T>(path: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(PathBuf, T)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let process = std::process::id();
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_file_name(format!(".{name}.{process}.{number}.tmp"));
        match make(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return Ok((temporary, made?)),
        }
    }
}

/// The name that the temporary file or folder called `name` would have got; none for other names.
///
/// ```
/// use meta_core::files::temporary_of;
/// assert_eq!(temporary_of(".result.json.4711.0.tmp"), Some("result.json"));
/// assert_eq!(temporary_of("result.json"), None);
/// ```
pub fn temporary_of(name: &str) -> Option<&str> {
    let mut name = name.strip_prefix('.')?.strip_suffix(".tmp")?;
    // Older versions wrote no number, or neither number nor process.
    for _ in 0..2 {
        match name.rsplit_once('.') {
            Some((rest, digits)) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                name = rest;
            }
            _ => break,
        }
    }
    (!name.is_empty()).then_some(name)
}

/// Removes the temporary files in `folder` that a kill has left behind, of files whose names are `ours`.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read or a file cannot be removed.
pub fn remove_abandoned(folder: &Path, ours: impl Fn(&str) -> bool) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|error| Error::io(folder, "read", error))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let abandoned = name.to_str().and_then(temporary_of).is_some_and(&ours)
            && entry.file_type().is_ok_and(|kind| kind.is_file());
        if !abandoned {
            continue;
        }
        let path = entry.path();
        // Gone meanwhile: its process has renamed it.
        let Ok(file) = File::options().write(true).open(&path) else {
            continue;
        };
        if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io(&path, "remove", error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Flushes the folder that holds `path`, so that the rename itself survives a power cut.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// Other systems have no handle to a folder that could be flushed.
#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that accepts `space` bytes and then reports that the disk is full.
    struct FullDisk {
        file: File,
        space: usize,
    }

    impl Write for FullDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.space == 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            let taken = self.file.write(&bytes[..bytes.len().min(self.space)])?;
            self.space -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.file.flush()
        }
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        write_atomically(&path, b"the old content").unwrap();
        let old = fs::read(&path).unwrap();
        for space in [0, 1, old.len() - 1] {
            let error = write_through(&path, |file| {
                let file = file.try_clone()?;
                FullDisk { file, space }.write_all(&vec![7; old.len()])
            })
            .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(fs::read(&path).unwrap(), old);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn many_writers_of_one_file_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.jsonl");
        std::thread::scope(|scope| {
            for writer in 0..8u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        write_atomically(path, &[writer; 1000]).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes, vec![bytes[0]; 1000]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_what_a_kill_left_behind_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| fs::write(folder.path().join(name), "x").unwrap();
        let left = [".a.json.tmp", ".a.json.7.tmp", ".a.json.7.0.tmp"];
        let kept = [".a.json.8.0.tmp", ".b.json.7.0.tmp", ".a.json", "a.json"];
        left.into_iter().chain(kept).for_each(write);
        let held = File::open(folder.path().join(kept[0])).unwrap();
        held.try_lock().unwrap();
        remove_abandoned(folder.path(), |name| name == "a.json").unwrap();
        let entries = fs::read_dir(folder.path()).unwrap().flatten();
        let mut found: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        found.sort();
        let mut kept = kept;
        kept.sort_unstable();
        assert_eq!(found, kept);
    }

    #[test]
    fn what_is_at_a_temporary_name_is_not_ours_to_write_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let made = |_: usize| create_folder_beside(&path).unwrap();
        let folders: Vec<PathBuf> = (0..3).map(made).collect();
        assert!(folders.iter().all(|folder| folder.is_dir()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent").join("result.json");
        let message = write_atomically(&path, b"{}").unwrap_err().to_string();
        assert!(message.contains("result.json: cannot write"), "{message}");
    }
}
