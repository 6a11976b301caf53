//! Files that are whole or absent, temporary names that belong to one process alone, and files that are read
//! only where they are files, up to a stated size.
//!
//! What is being written has the name `.NAME.PROCESS.NUMBER.tmp`, which nothing had before, and is locked
//! until it gets its own name. A temporary file that nobody locks was left behind by a kill.

use std::{
    fs::{self, File, FileType, TryLockError},
    io::{self, Read, Write},
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
    write_atomically_by(path, |file| file.write_all(bytes))
}

/// As [`write_atomically`], for what is too large to hold: `fill` writes it to the file that it is given.
///
/// # Errors
/// [`Error::Io`] naming `path` and the system's reason, or that of `fill`.
pub fn write_atomically_by(
    path: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<()> {
    write_through(path, fill).map_err(|error| Error::io(path, "write", error))
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
            // Somebody has taken it for left behind between its making and its lock, and removed it.
            _ if !temporary.exists() => Err(io::ErrorKind::AlreadyExists.into()),
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

/// Opens the regular file at `path`, or the one that a link there leads to, for reading no more than
/// `limit` bytes. A pipe would wait for a writer, and a device may have no end.
///
/// ```
/// use meta_core::files::open_regular;
/// let message = open_regular("/dev/zero".as_ref(), 1 << 20).unwrap_err().to_string();
/// # if cfg!(unix) {
/// assert_eq!(message, "/dev/zero: is a device; a regular file is needed");
/// # }
/// ```
///
/// # Errors
/// [`Error::Data`] for what is no regular file or has more bytes; [`Error::Io`] with the system's reason
/// where it cannot be opened. Both name `path`.
pub fn open_regular(path: &Path, limit: u64) -> Result<io::Take<File>> {
    let unreadable = |error| Error::io(path, "read", error);
    // Before it is opened, since opening a pipe waits; afterwards again, should it have been replaced.
    check_regular(path, fs::metadata(path).map_err(unreadable)?.file_type())?;
    let file = File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    check_regular(path, found.file_type())?;
    if found.len() > limit {
        return Err(too_large(path, limit));
    }
    Ok(file.take(limit))
}

/// Reads the whole regular file at `path`, of at most `limit` bytes.
///
/// # Errors
/// As [`open_regular`], also for a file that grows beyond `limit` while it is read.
pub fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut file = open_regular(path, limit)?.into_inner();
    let mut bytes = Vec::new();
    (&mut file)
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(path, "read", error))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(path, limit));
    }
    Ok(bytes)
}

/// [`read_regular`] of text in UTF-8, without the byte order mark that some editors put before it.
///
/// # Errors
/// As [`read_regular`]; [`Error::Data`] for other text.
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    let bytes = read_regular(path, limit)?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Error::data(path, "is text in UTF-16; save it as UTF-8"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        Error::data(path, format!("is not text in UTF-8 (byte {place})"))
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn check_regular(path: &Path, found: FileType) -> Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let kind = if found.is_dir() {
        "a folder"
    } else {
        special_kind(found)
    };
    let message = format!("is {kind}; a regular file is needed");
    Err(Error::data(path, message))
}

#[cfg(unix)]
fn special_kind(found: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if found.is_fifo() {
        "a pipe"
    } else if found.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn special_kind(_found: FileType) -> &'static str {
    "no file"
}

fn too_large(path: &Path, limit: u64) -> Error {
    let message = format!("has more than {limit} bytes, the most that is read");
    Error::data(path, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pipes, sockets, devices, links to them and folders, each by its kind, and without waiting.
    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let made = std::process::Command::new("mkfifo")
            .arg(path("pipe"))
            .status();
        assert!(made.unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for (target, link) in [("pipe", "to-pipe"), ("/dev/zero", "to-device")] {
            std::os::unix::fs::symlink(target, path(link)).unwrap();
        }
        for (name, kind) in [
            ("pipe", "a pipe"),
            ("to-pipe", "a pipe"),
            ("socket", "a socket"),
            ("to-device", "a device"),
            ("", "a folder"),
        ] {
            let message = read_regular(&path(name), 1 << 20).unwrap_err().to_string();
            let expected = format!("{name}: is {kind}; a regular file is needed");
            assert!(
                message.ends_with(expected.trim_start_matches(':')),
                "{message}"
            );
        }
        let message = read_regular(&path("absent"), 9).unwrap_err().to_string();
        assert!(
            message.contains("absent: cannot read: No such file"),
            "{message}"
        );
    }

    #[test]
    fn no_more_than_the_limit_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"0123456789").unwrap();
        assert_eq!(read_regular(&path, 10).unwrap().len(), 10);
        let message = read_regular(&path, 9).unwrap_err().to_string();
        assert!(message.ends_with("file: has more than 9 bytes, the most that is read"));
        // Says that it has no bytes, and has some.
        #[cfg(target_os = "linux")]
        assert!(read_regular(Path::new("/proc/self/status"), 9).is_err());
    }

    #[test]
    fn text_is_utf_8_without_a_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.txt");
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_text(&path, 100).map_err(|error| error.to_string())
        };
        assert_eq!(read("\u{feff}a\u{feff}".as_bytes()).unwrap(), "a\u{feff}");
        assert!(
            read(b"ab\xff")
                .unwrap_err()
                .ends_with("is not text in UTF-8 (byte 2)")
        );
        assert!(read(b"\xff\xfea\0").unwrap_err().contains("UTF-16"));
    }

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
    fn files_are_written_while_others_remove_what_was_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.jsonl");
        let writing = AtomicU64::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let write = |_| write_atomically(&path, b"{}");
                    let written: Result<Vec<()>> = (0..100).map(write).collect();
                    writing.fetch_sub(1, Ordering::Relaxed);
                    written.unwrap();
                });
                scope.spawn(|| {
                    while writing.load(Ordering::Relaxed) > 0 {
                        remove_abandoned(folder.path(), |name| name == "plan.jsonl").unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
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
