//! Files that are whole or absent.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// Writes `bytes` to `path` so that a reader, or a process that is killed, sees the old content or
/// the new one and nothing between: temporary file in the same folder, flush to disk, rename, flush
/// of the folder. When it fails the old content is untouched and the temporary file is removed.
///
/// # Errors
/// [`Error::Io`] naming `path` and the system's reason (no space left, permission denied, …).
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_through(path, |temporary| {
        let mut file = File::create(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    })
    .map_err(|error| Error::io(path, "write", error))
}

fn write_through(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary_name(path);
    let written = fill(&temporary).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the reason to report is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder(path)
}

/// `.name.tmp` in the same folder. Fixed, so that one left behind by a kill is overwritten.
fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
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
            let error = write_through(&path, |temporary| {
                let file = File::create(temporary)?;
                FullDisk { file, space }.write_all(&vec![7; old.len()])
            })
            .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(fs::read(&path).unwrap(), old);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent").join("result.json");
        let message = write_atomically(&path, b"{}").unwrap_err().to_string();
        assert!(message.contains("result.json: cannot write"), "{message}");
    }
}
