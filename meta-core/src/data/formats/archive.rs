//! Members of a zip archive: what is stored is left in the file, what is packed is unpacked.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zip::{CompressionMethod, ZipArchive};

use super::array::{MAXIMUM_BYTES, Region};
use crate::error::{Error, Result};
use crate::files::open_regular;

/// The largest member that is read as a whole though it is stored, so that its checksum is compared.
const CHECKED_BYTES: u64 = 1 << 26;
/// Deflate makes at most about 1032 bytes of one.
const LARGEST_RATIO: u64 = 1100;

/// An open archive.
pub(super) struct Members {
    path: PathBuf,
    file: Arc<File>,
    length: u64,
    archive: ZipArchive<BufReader<File>>,
}

impl Members {
    /// Opens the archive at `path` and reads its directory; `kind` says in messages what it should be.
    pub fn open(path: &Path, kind: &str) -> Result<Self> {
        let file = open_regular(path, u64::MAX)?.into_inner();
        let unreadable = |error| Error::io(path, "read", error);
        let length = file.metadata().map_err(unreadable)?.len();
        let again = file.try_clone().map_err(unreadable)?;
        let archive = ZipArchive::new(BufReader::new(again)).map_err(|error| {
            let cut = format!("it has {length} bytes and may be truncated");
            Error::data(path, format!("is no readable {kind} ({error}); {cut}"))
        })?;
        if archive.has_duplicate_names() {
            return Err(Error::data(path, "holds two members of the same name"));
        }
        Ok(Members {
            path: path.to_owned(),
            file: Arc::new(file),
            length,
            archive,
        })
    }

    /// Names of the members, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .archive
            .file_names()
            .flatten()
            .map(|name| name.into_owned())
            .collect();
        names.sort();
        names
    }

    /// The bytes of a member: in the file where they are stored there and many, else in memory, with their
    /// checksum compared.
    pub fn region(&mut self, name: &str) -> Result<Region> {
        let fault = |reason: String| Error::data(&self.path, format!("member `{name}` {reason}"));
        let position = self.archive.index_for_name(name);
        let position = position.ok_or_else(|| fault("is not there".to_owned()))?;
        let member = self.archive.by_index(position);
        let member = member.map_err(|error| fault(format!("cannot be read: {error}")))?;
        let (size, packed) = (member.size(), member.compressed_size());
        if member.compression() == CompressionMethod::Stored && size > CHECKED_BYTES {
            let start = member.data_start();
            let end = start.and_then(|start| start.checked_add(size));
            return match (start, end) {
                (Some(start), Some(end)) if end <= self.length && size == packed => {
                    Ok(Region::file(self.file.clone(), start, size))
                }
                _ => Err(fault("does not lie in the file".to_owned())),
            };
        }
        if size > MAXIMUM_BYTES {
            return Err(fault(format!(
                "has {size} bytes, and at most {MAXIMUM_BYTES} are unpacked; store it without compression"
            )));
        }
        if size > packed.saturating_mul(LARGEST_RATIO) + 1024 {
            return Err(fault(format!(
                "is damaged: {packed} bytes cannot hold {size}"
            )));
        }
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(size as usize).is_err() {
            return Err(fault(format!(
                "needs {size} bytes of memory, which there are not"
            )));
        }
        let read = member.take(size.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| fault(format!("is damaged: {error}")))?;
        if bytes.len() as u64 != size {
            return Err(fault(format!(
                "is damaged: it says {size} bytes, and has {}",
                bytes.len()
            )));
        }
        Ok(Region::memory(bytes))
    }
}
