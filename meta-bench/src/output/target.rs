//! Writes the file that a user names, over nothing but what this program wrote.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    path::Path,
};

use meta_core::{Error, files::write_atomically};

use crate::failure::{CommandError, Result};

/// In every picture of this program.
pub const PICTURE: &str = "drawn by meta";
/// In every measurement, whether on one line or on many.
pub const MEASUREMENT: &str = "\"samples_ms\":";
/// In every file of tensors.
pub const TENSORS: &str = "\"meta-checkpoint\":";
/// In every description of a workload.
pub const WORKLOAD: &str = "\"made_by\":";
/// In every page of results.
pub const RESULTS: &str = "`meta docs results";
/// A mark is in so many bytes at the beginning of a file or at its end, if it is there.
const LOOKED_AT: u64 = 1 << 20;

/// Checks that a file with `mark` in it may be written to `path`: there is nothing, an empty file, a file
/// with the mark, or what is no file, such as a pipe.
///
/// # Errors
/// For anything else, and when it cannot be read.
pub fn check_target(path: &Path, mark: &str) -> Result<()> {
    let read = |error| CommandError::from(Error::io(path, "read", error));
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(read(error)),
    };
    if !metadata.is_dir() && (!metadata.is_file() || metadata.len() == 0) {
        return Ok(());
    }
    let mut bytes = Vec::new();
    if metadata.is_file() {
        let mut file = File::open(path).map_err(read)?;
        let mut beginning = (&file).take(LOOKED_AT);
        beginning.read_to_end(&mut bytes).map_err(read)?;
        if metadata.len() > LOOKED_AT {
            let end = metadata.len().saturating_sub(LOOKED_AT).max(LOOKED_AT);
            file.seek(SeekFrom::Start(end)).map_err(read)?;
            file.take(LOOKED_AT).read_to_end(&mut bytes).map_err(read)?;
        }
    }
    let mark = mark.as_bytes();
    if bytes.windows(mark.len()).any(|window| window == mark) {
        Ok(())
    } else {
        Err(CommandError::Usage(format!(
            "{}: exists already and was not written by this command; remove it, or name another file",
            path.display()
        )))
    }
}

/// Writes `bytes`, which have `mark` in them, to `path`.
///
/// # Errors
/// As [`check_target`], and when the file cannot be written.
pub fn write_over(path: &Path, bytes: &[u8], mark: &str) -> Result<()> {
    check_target(path, mark)?;
    let special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    if !special {
        return Ok(write_atomically(path, bytes)?);
    }
    let written = File::options()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| Error::io(path, "write", error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_the_mark_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.svg");
        let picture = format!("<svg><!-- {PICTURE} --></svg>");
        for _ in 0..2 {
            write_over(&path, picture.as_bytes(), PICTURE).unwrap();
        }
        fs::write(&path, "").unwrap();
        write_over(&path, picture.as_bytes(), PICTURE).unwrap();
        fs::write(&path, "<svg>mine</svg>").unwrap();
        let message = write_over(&path, b"x", PICTURE).unwrap_err().to_string();
        assert!(message.contains("out.svg: exists already"), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "<svg>mine</svg>");
        write_over(folder.path(), b"x", PICTURE).unwrap_err();
        #[cfg(unix)]
        write_over(Path::new("/dev/null"), b"x", PICTURE).unwrap();
    }
}
