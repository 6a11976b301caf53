//! Finding and reading image files: a folder or a zip archive of `class/image.png`.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Value, json};

use super::image_archive::ImageArchive;
use super::image_decode::{Digest, EXTENSIONS, ImageFormat};
use crate::error::{Error, Result};
use crate::files;

/// Folders nested deeper than this are no folders of classes.
const MAXIMUM_DEPTH: usize = 16;
/// A file of more bytes is not an image of a few-shot data set.
pub(crate) const MAXIMUM_IMAGE_BYTES: u64 = 1 << 28;
/// Images decoded by one task of the thread pool.
const DECODE_CHUNK: usize = 64;
/// Formats of pictures that are not read.
const UNREAD: [&str; 26] = [
    "apng", "avif", "cr2", "dds", "dng", "exr", "hdr", "heic", "heif", "ico", "j2k", "jp2", "jxl",
    "nef", "pbm", "pcx", "pgm", "pnm", "ppm", "psd", "qoi", "raw", "svg", "tga", "tif", "tiff",
];

/// The image files of a folder or a zip archive.
pub(crate) struct ImageTree {
    path: PathBuf,
    container: Container,
    /// In the order of their names.
    entries: Vec<Entry>,
    skipped: Skipped,
}

enum Container {
    Folder,
    Zip(ImageArchive),
}

struct Entry {
    /// Path below the root, separated by `/`.
    name: String,
    /// Position in the archive; unused for folders.
    position: usize,
}

impl ImageTree {
    /// Lists the images of `path`, also those that links lead to as long as they stay inside; with
    /// `follow_links`, wherever they lead.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::Data`] when it is no readable archive, and naming a
    /// link that leads out.
    pub fn open(path: &Path, follow_links: bool) -> Result<Self> {
        let mut skipped = Skipped::default();
        let (container, mut entries) = if path.is_dir() {
            let mut walk = Walk::new(path, follow_links, &mut skipped)?;
            walk.folder("", 0)?;
            let entries = walk.names.into_iter();
            let entries = entries.map(|name| Entry { name, position: 0 });
            (Container::Folder, entries.collect())
        } else {
            let archive = ImageArchive::open(path)?;
            let mut entries = Vec::new();
            for (name, position) in archive.files()? {
                if skipped.wants(&name) {
                    entries.push(Entry { name, position });
                }
            }
            (Container::Zip(archive), entries)
        };
        entries.sort_by(|a: &Entry, b| a.name.cmp(&b.name));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            let message = format!("holds `{}` twice", pair[0].name);
            return Err(Error::data(path, message));
        }
        Ok(ImageTree {
            path: path.to_owned(),
            container,
            entries,
            skipped,
        })
    }

    /// Names of the images, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// What lies there and is not read.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Hash of all bytes of an archive, or of the names and bytes of all images of a folder.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Data`] naming what cannot be read.
    pub fn content_hash(&self) -> Result<blake3::Hash> {
        if let Container::Zip(archive) = &self.container {
            return Ok(archive.hash());
        }
        let hashes: Vec<blake3::Hash> = self
            .entries
            .par_iter()
            .map(|entry| self.file_hash(entry))
            .collect::<Result<_>>()?;
        let mut hasher = blake3::Hasher::new();
        for (entry, hash) in self.entries.iter().zip(hashes) {
            hasher.update(&(entry.name.len() as u64).to_le_bytes());
            hasher.update(entry.name.as_bytes());
            hasher.update(hash.as_bytes());
        }
        Ok(hasher.finalize())
    }

    fn file_hash(&self, entry: &Entry) -> Result<blake3::Hash> {
        let path = self.path.join(&entry.name);
        let file = files::open_regular(&path, MAXIMUM_IMAGE_BYTES)?;
        let mut hasher = blake3::Hasher::new();
        let hasher = hasher.update_reader(file);
        let hasher = hasher.map_err(|error| Error::io(&path, "read", error))?;
        Ok(hasher.finalize())
    }

    /// Decodes the images at `positions`, in that order, one after another.
    ///
    /// # Errors
    /// [`Error::Data`] or [`Error::Io`] naming the entry that cannot be read or decoded;
    /// [`Error::Setting`] where there is no memory for them all.
    pub fn decode(
        &self,
        positions: &[usize],
        format: ImageFormat,
    ) -> Result<(Vec<u8>, Vec<Digest>)> {
        let mut pixels = room(positions.len(), format)?;
        let mut digests = vec![Digest::default(); positions.len()];
        pixels
            .par_chunks_mut(format.bytes() * DECODE_CHUNK)
            .zip(digests.par_chunks_mut(DECODE_CHUNK))
            .zip(positions.par_chunks(DECODE_CHUNK))
            .try_for_each(|((places, digests), positions)| {
                let mut archive = match &self.container {
                    Container::Folder => None,
                    Container::Zip(archive) => Some(archive.clone()),
                };
                let places = places.chunks_exact_mut(format.bytes());
                for ((place, digest), &position) in places.zip(digests).zip(positions) {
                    let entry = &self.entries[position];
                    let file = self.read(archive.as_mut(), entry)?;
                    *digest = format.decode(&file, place).map_err(|error| {
                        Error::data(&self.path, format!("image `{}` {error}", entry.name))
                    })?;
                }
                Ok(())
            })?;
        Ok((pixels, digests))
    }

    /// The bytes of the image at a position.
    ///
    /// # Errors
    /// [`Error::Data`] or [`Error::Io`] naming it.
    pub fn bytes(&self, position: usize) -> Result<Vec<u8>> {
        let mut archive = match &self.container {
            Container::Folder => None,
            Container::Zip(archive) => Some(archive.clone()),
        };
        self.read(archive.as_mut(), &self.entries[position])
    }

    fn read(&self, archive: Option<&mut ImageArchive>, entry: &Entry) -> Result<Vec<u8>> {
        match archive {
            Some(archive) => archive.read(entry.position, &entry.name, MAXIMUM_IMAGE_BYTES),
            None => files::read_regular(&self.path.join(&entry.name), MAXIMUM_IMAGE_BYTES),
        }
    }
}

/// Zeros for the pixels of `images` images.
fn room(images: usize, format: ImageFormat) -> Result<Vec<u8>> {
    let mut pixels = Vec::new();
    let bytes = images.checked_mul(format.bytes());
    match bytes.map(|bytes| (bytes, pixels.try_reserve_exact(bytes))) {
        Some((bytes, Ok(()))) => {
            pixels.resize(bytes, 0);
            Ok(pixels)
        }
        _ => Err(Error::setting(
            "data.image_size",
            format.size,
            format!("there is no memory for {images} images of this size"),
        )),
    }
}

/// What lies between the images and is not read: a count, and the first by name, of each kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Skipped {
    kinds: BTreeMap<String, (usize, String)>,
    /// Whether somebody may have meant it to be read.
    matters: bool,
}

impl Skipped {
    fn note(&mut self, kind: String, name: &str, matters: bool) {
        let (count, _) = self.kinds.entry(kind).or_insert((0, name.to_owned()));
        *count += 1;
        self.matters |= matters;
    }

    /// Images at these names belong to no class.
    pub fn note_loose<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            self.note("images in no class folder".to_owned(), name, true);
        }
    }

    /// Whether the file of that name is one to read; notes it when it is not.
    fn wants(&mut self, name: &str) -> bool {
        if name.split('/').any(is_hidden) {
            return false;
        }
        let extension = Path::new(name).extension().and_then(|end| end.to_str());
        let extension = extension.unwrap_or_default().to_lowercase();
        let wanted = EXTENSIONS.contains(&extension.as_str());
        if !wanted {
            let kind = if extension.is_empty() {
                "without an extension".to_owned()
            } else {
                format!(".{extension}")
            };
            self.note(kind, name, UNREAD.contains(&extension.as_str()));
        }
        wanted
    }

    /// Counts by kind, for a description; `None` where everything is read.
    pub fn describe(&self) -> Option<Value> {
        let counts = self.kinds.iter().map(|(kind, (count, _))| (kind, count));
        (!self.kinds.is_empty()).then(|| json!(counts.collect::<BTreeMap<_, _>>()))
    }

    /// A warning of what somebody may miss: pictures of other formats, links, images without a class.
    pub fn warning(&self) -> Option<String> {
        self.matters.then(|| self.to_string())
    }
}

impl std::fmt::Display for Skipped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds = self.kinds.iter().map(|(kind, (count, first))| {
            let more = if *count > 1 { ", …" } else { "" };
            format!("{count} {kind} (`{first}`{more})")
        });
        formatter.write_str(&kinds.collect::<Vec<_>>().join(", "))
    }
}

fn is_hidden(part: &str) -> bool {
    part.starts_with('.') || part == "__MACOSX"
}

/// A walk through a folder that enters each folder of the disk once.
struct Walk<'a> {
    root: &'a Path,
    /// The root without links: what begins with it is inside.
    real_root: PathBuf,
    follow_links: bool,
    /// Folders entered, without links.
    entered: HashSet<PathBuf>,
    names: Vec<String>,
    skipped: &'a mut Skipped,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Path, follow_links: bool, skipped: &'a mut Skipped) -> Result<Self> {
        Ok(Walk {
            root,
            real_root: real(root)?,
            follow_links,
            entered: HashSet::new(),
            names: Vec::new(),
            skipped,
        })
    }

    /// Lists what is below the folder of that name.
    fn folder(&mut self, below: &str, depth: usize) -> Result<()> {
        let folder = self.root.join(below);
        let real_folder = real(&folder)?;
        // A link out may lead to a folder around this one.
        if depth > 0 && self.real_root.starts_with(&real_folder)
            || !self.entered.insert(real_folder)
        {
            self.note_link(below);
            return Ok(());
        }
        if depth > MAXIMUM_DEPTH {
            return Err(Error::data(
                &folder,
                format!("lies more than {MAXIMUM_DEPTH} folders deep"),
            ));
        }
        let unreadable = |error| Error::io(&folder, "read", error);
        let mut list: Vec<std::fs::DirEntry> = std::fs::read_dir(&folder)
            .and_then(Iterator::collect)
            .map_err(unreadable)?;
        list.sort_by_key(std::fs::DirEntry::file_name);
        for entry in list {
            let file_name = entry.file_name();
            let Some(file_name) = file_name.to_str() else {
                return Err(Error::data(
                    entry.path(),
                    "the name is not valid UTF-8; rename it",
                ));
            };
            let name = if below.is_empty() {
                file_name.to_owned()
            } else {
                format!("{below}/{file_name}")
            };
            if is_hidden(file_name) {
                continue;
            }
            let found = entry.file_type().map_err(unreadable)?;
            if found.is_symlink() {
                self.link(&name, depth)?;
            } else if found.is_dir() {
                self.folder(&name, depth + 1)?;
            } else if self.skipped.wants(&name) {
                self.names.push(name);
            }
        }
        Ok(())
    }

    /// Follows the link of that name.
    fn link(&mut self, name: &str, depth: usize) -> Result<()> {
        let path = self.root.join(name);
        // A link to nothing is a file that cannot be read, where it is one to read.
        let is_folder = path.is_dir();
        if !is_folder && !self.skipped.wants(name) {
            return Ok(());
        }
        let target = real(&path)?;
        let inside = target.starts_with(&self.real_root);
        if !inside && !self.follow_links {
            return Err(Error::data(
                &path,
                format!(
                    "is a link out of the data, to {}; `data.follow_links = true` reads what it leads to",
                    target.display()
                ),
            ));
        }
        if is_folder && inside {
            // Its images have their own names already.
            self.note_link(name);
        } else if is_folder {
            self.folder(name, depth + 1)?;
        } else {
            self.names.push(name.to_owned());
        }
        Ok(())
    }

    fn note_link(&mut self, name: &str) {
        let kind = "links to folders that are read by another name";
        self.skipped.note(kind.to_owned(), name, true);
    }
}

fn real(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).map_err(|error| Error::io(path, "read", error))
}

/// Where a setting's path leads: absolute paths as they are, others below the data folder when there is
/// one, else below the working directory.
pub(crate) fn resolve(path: &str, data_dir: Option<&Path>) -> PathBuf {
    data_dir.map_or_else(|| PathBuf::from(path), |folder| folder.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_visible_images_are_read_and_the_rest_is_counted() {
        let mut skipped = Skipped::default();
        for name in ["a/b.png", "a/b.JPG", "c/d/e.jpeg", "a.b/c.d.WebP"] {
            assert!(skipped.wants(name), "{name}");
        }
        assert_eq!(skipped.describe(), None);
        for name in ["a/.b.png", "__MACOSX/a/b.png", "a/b.txt", "png", ".a/b.png"] {
            assert!(!skipped.wants(name), "{name}");
        }
        assert_eq!(skipped.warning(), None);
        assert!(!skipped.wants("a/1.TIFF") && !skipped.wants("a/2.tiff"));
        assert_eq!(
            skipped.warning().expect("a picture is missed"),
            "2 .tiff (`a/1.TIFF`, …), 1 .txt (`a/b.txt`), 1 without an extension (`png`)"
        );
    }
}
