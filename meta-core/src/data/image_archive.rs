//! Image files inside a zip archive.

use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zip::{CompressionMethod, ZipArchive};

use crate::error::{Error, Result};
use crate::files;

/// The largest archive: it is held in memory while its images are decoded.
const MAXIMUM_ARCHIVE_BYTES: u64 = 1 << 32;

/// Bytes that clones share.
#[derive(Clone)]
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A zip archive in memory; a clone shares its bytes and its directory.
#[derive(Clone)]
pub(crate) struct ImageArchive {
    path: PathBuf,
    bytes: Shared,
    archive: ZipArchive<Cursor<Shared>>,
}

impl ImageArchive {
    /// Reads the archive at `path` and its directory.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Data`] when it is too large or no readable archive.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = Shared(Arc::new(files::read_regular(path, MAXIMUM_ARCHIVE_BYTES)?));
        let archive = ZipArchive::new(Cursor::new(bytes.clone()))
            .map_err(|error| unreadable(path, bytes.0.len(), &error))?;
        if archive.has_duplicate_names() {
            return Err(Error::data(
                path,
                "holds two files of the same name; pack it again",
            ));
        }
        Ok(ImageArchive {
            path: path.to_owned(),
            bytes,
            archive,
        })
    }

    /// Hash of all bytes.
    pub fn hash(&self) -> blake3::Hash {
        blake3::hash(&self.bytes.0)
    }

    /// Name and position of every file: `/` between its parts, and no part that is `.` or empty.
    ///
    /// # Errors
    /// [`Error::Data`] for a name that leads out of the archive, and for a link.
    pub fn files(&self) -> Result<Vec<(String, usize)>> {
        let length = self.bytes.0.len();
        let mut files = Vec::with_capacity(self.archive.len());
        for position in 0..self.archive.len() {
            let entry = self
                .archive
                .by_index_data(position)
                .map_err(|error| unreadable(&self.path, length, &error))?;
            // Some programs write UTF-8 and do not say so; the old code page seldom happens to be it.
            let name = match std::str::from_utf8(entry.name_raw()) {
                Ok(name) => Cow::Borrowed(name),
                Err(_) => entry
                    .name()
                    .map_err(|error| unreadable(&self.path, length, &error))?,
            };
            // Some programs of Windows write its separator.
            let is_folder = entry.is_dir() || name.ends_with(['/', '\\']);
            let parts = name.split(['/', '\\']);
            let parts: Vec<&str> = parts.filter(|part| !["", "."].contains(part)).collect();
            if parts.contains(&"..") || entry.is_symlink() {
                return Err(Error::data(
                    &self.path,
                    format!(
                        "entry `{name}` leads elsewhere; pack the archive again without links and `..`"
                    ),
                ));
            }
            if !is_folder && !parts.is_empty() {
                files.push((parts.join("/"), position));
            }
        }
        Ok(files)
    }

    /// The bytes of the file at `position`, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Data`] naming the entry: damaged, too large, encrypted or packed in a way that is not read.
    pub fn read(&mut self, position: usize, name: &str, limit: u64) -> Result<Vec<u8>> {
        let fault = |reason: String| {
            Error::data(
                &self.path,
                format!("entry `{name}` of the archive {reason}"),
            )
        };
        let damaged = |error: &dyn std::fmt::Display| fault(format!("is damaged: {error}"));
        let entry = self.archive.by_index_data(position);
        let entry = entry.map_err(|error| damaged(&error))?;
        if entry.encrypted() {
            return Err(fault(
                "is encrypted; pack it again without a password".to_owned(),
            ));
        }
        if let Some(method) = unread_method(entry.compression()) {
            return Err(fault(format!(
                "is packed with {method}, which is not read; pack it again with Deflate, as `zip -r` \
                 does, or unpack it into a folder"
            )));
        }
        let packed = self.archive.by_index(position);
        let packed = packed.map_err(|error| damaged(&error))?;
        let mut file = Vec::new();
        packed
            .take(limit + 1)
            .read_to_end(&mut file)
            .map_err(|error| damaged(&error))?;
        if file.len() as u64 > limit {
            return Err(fault(format!(
                "has more than {limit} bytes, the most that is read"
            )));
        }
        Ok(file)
    }
}

/// The name of a way to pack that is not built in.
fn unread_method(method: CompressionMethod) -> Option<String> {
    const NAMES: [(CompressionMethod, &str); 6] = [
        (CompressionMethod::DEFLATE64, "Deflate64"),
        (CompressionMethod::BZIP2, "bzip2"),
        (CompressionMethod::LZMA, "LZMA"),
        (CompressionMethod::ZSTD, "Zstandard"),
        (CompressionMethod::XZ, "XZ"),
        (CompressionMethod::PPMD, "PPMd"),
    ];
    if [CompressionMethod::STORE, CompressionMethod::DEFLATE].contains(&method) {
        return None;
    }
    let known = NAMES.iter().find(|(known, _)| *known == method);
    Some(known.map_or_else(|| format!("{method:?}"), |(_, name)| (*name).to_owned()))
}

fn unreadable(path: &Path, length: usize, error: &dyn std::fmt::Display) -> Error {
    Error::data(
        path,
        format!(
            "is not a readable zip archive ({error}); it has {length} bytes and may be truncated: \
             fetch it again"
        ),
    )
}
