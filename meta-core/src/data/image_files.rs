//! Reading image files: a folder or a zip archive of `class/image.png`, decoded to one size.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::DynamicImage;
use image::imageops::FilterType;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use zip::ZipArchive;

use crate::error::{Error, Result};

/// Folders nested deeper than this are not searched, which also ends cycles of links.
const MAXIMUM_DEPTH: usize = 8;
/// An entry of an archive that unpacks to more than this is not an image of a few-shot data set.
const MAXIMUM_ENTRY_BYTES: u64 = 1 << 28;
/// Images decoded by one task of the thread pool.
const DECODE_CHUNK: usize = 64;

/// How an image is resized, by the `image` crate's names. Each but `nearest` widens its support when
/// shrinking, so thin strokes survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFilter {
    /// The nearest pixel.
    Nearest,
    /// Linear; also read as `bilinear`.
    #[serde(alias = "bilinear")]
    Triangle,
    /// Cubic; also read as `bicubic`.
    #[serde(alias = "bicubic")]
    CatmullRom,
    /// Gaussian.
    Gaussian,
    /// Windowed sinc of three lobes: the filter of most published Omniglot pipelines.
    Lanczos3,
}

impl From<ImageFilter> for FilterType {
    fn from(filter: ImageFilter) -> Self {
        match filter {
            ImageFilter::Nearest => FilterType::Nearest,
            ImageFilter::Triangle => FilterType::Triangle,
            ImageFilter::CatmullRom => FilterType::CatmullRom,
            ImageFilter::Gaussian => FilterType::Gaussian,
            ImageFilter::Lanczos3 => FilterType::Lanczos3,
        }
    }
}

/// What decoded images look like.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ImageFormat {
    /// Height and width in pixels; other aspect ratios are squeezed.
    pub size: usize,
    /// 1 (luma) or 3 (RGB).
    pub channels: usize,
    pub filter: ImageFilter,
    /// Whether to store 255 − v.
    pub invert: bool,
}

impl ImageFormat {
    /// Checks the settings that every image source has.
    pub fn check(&self) -> Result<()> {
        if !(1..=1024).contains(&self.size) {
            return Err(Error::setting(
                "data.image_size",
                self.size,
                "must be in 1..=1024 pixels",
            ));
        }
        if ![1, 3].contains(&self.channels) {
            return Err(Error::setting(
                "data.channels",
                self.channels,
                "must be 1 (grey) or 3 (RGB)",
            ));
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.size * self.size * self.channels
    }

    fn decode(&self, file: &[u8], place: &mut [u8]) -> Result<(), image::ImageError> {
        let decoded = image::load_from_memory(file)?;
        let decoded = match self.channels {
            1 => DynamicImage::ImageLuma8(decoded.into_luma8()),
            _ => DynamicImage::ImageRgb8(decoded.into_rgb8()),
        };
        let size = self.size as u32;
        let resized = if decoded.width() == size && decoded.height() == size {
            decoded
        } else {
            decoded.resize_exact(size, size, self.filter.into())
        };
        let pixels = resized.into_bytes();
        let flip = if self.invert { 255 } else { 0 };
        for (place, value) in place.iter_mut().zip(pixels) {
            *place = value ^ flip;
        }
        Ok(())
    }
}

/// The image files of a folder or a zip archive.
pub(crate) struct ImageTree {
    path: PathBuf,
    container: Container,
    /// In the order of their names.
    entries: Vec<Entry>,
}

/// An archive whose clones share its bytes.
type Archive = ZipArchive<Cursor<Arc<[u8]>>>;

enum Container {
    Folder,
    Zip(Archive),
}

struct Entry {
    /// Path below the root, separated by `/`.
    name: String,
    /// Position in the archive; unused for folders.
    position: usize,
}

impl ImageTree {
    /// Lists the images of `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Data`] when it is no readable archive.
    pub fn open(path: &Path) -> Result<Self> {
        let (container, mut entries) = if path.is_dir() {
            let mut names = Vec::new();
            list_folder(path, "", 0, &mut names)?;
            let entries = names.into_iter().map(|name| Entry { name, position: 0 });
            (Container::Folder, entries.collect())
        } else {
            let (archive, entries) = open_archive(path)?;
            (Container::Zip(archive), entries)
        };
        entries.sort_by(|a: &Entry, b| a.name.cmp(&b.name));
        Ok(ImageTree {
            path: path.to_owned(),
            container,
            entries,
        })
    }

    /// Positions of the images of each folder, by the folder's name. Folders that all names begin with
    /// are left out of the names, so it makes no difference whether an archive has a folder around
    /// everything.
    pub fn folders(&self) -> BTreeMap<String, Vec<usize>> {
        let parents: Vec<Vec<&str>> = self
            .entries
            .iter()
            .map(|entry| {
                let mut parts: Vec<&str> = entry.name.split('/').collect();
                parts.pop();
                parts
            })
            .collect();
        // An image that lies in the root has no class.
        let mut inside = parents.iter().filter(|parts| !parts.is_empty());
        let mut shared = inside
            .next()
            .map_or(&[][..], |parts| &parts[..parts.len() - 1]);
        for parts in inside {
            let common = shared.iter().zip(&parts[..parts.len() - 1]);
            shared = &shared[..common.take_while(|(a, b)| a == b).count()];
        }
        let mut folders: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (position, parts) in parents.iter().enumerate() {
            if !parts.is_empty() {
                folders
                    .entry(parts[shared.len()..].join("/"))
                    .or_default()
                    .push(position);
            }
        }
        folders
    }

    /// Decodes the images at `positions`, in that order, one after another.
    ///
    /// # Errors
    /// [`Error::Data`] or [`Error::Io`] naming the entry that cannot be read or decoded.
    pub fn decode(&self, positions: &[usize], format: ImageFormat) -> Result<Vec<u8>> {
        let mut pixels = vec![0u8; positions.len() * format.bytes()];
        pixels
            .par_chunks_mut(format.bytes() * DECODE_CHUNK)
            .zip(positions.par_chunks(DECODE_CHUNK))
            .try_for_each(|(places, positions)| {
                // A clone shares the archive's bytes and directory.
                let mut archive = match &self.container {
                    Container::Folder => None,
                    Container::Zip(archive) => Some(archive.clone()),
                };
                for (place, &position) in places.chunks_exact_mut(format.bytes()).zip(positions) {
                    let entry = &self.entries[position];
                    let file = match &mut archive {
                        Some(archive) => self.unpack(archive, entry)?,
                        None => read_file(&self.path.join(&entry.name))?,
                    };
                    format.decode(&file, place).map_err(|error| {
                        Error::data(
                            &self.path,
                            format!(
                                "`{}` is not an image that can be decoded: {error}",
                                entry.name
                            ),
                        )
                    })?;
                }
                Ok(())
            })?;
        Ok(pixels)
    }

    fn unpack(&self, archive: &mut Archive, entry: &Entry) -> Result<Vec<u8>> {
        let damaged = |error: &dyn std::fmt::Display| {
            Error::data(
                &self.path,
                format!("entry `{}` of the archive is damaged: {error}", entry.name),
            )
        };
        let packed = archive
            .by_index(entry.position)
            .map_err(|error| damaged(&error))?;
        let mut file = Vec::new();
        packed
            .take(MAXIMUM_ENTRY_BYTES)
            .read_to_end(&mut file)
            .map_err(|error| damaged(&error))?;
        Ok(file)
    }
}

fn is_image(name: &str) -> bool {
    let hidden = name
        .split('/')
        .any(|part| part.starts_with('.') || part == "__MACOSX");
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    !hidden
        && extension.is_some_and(|extension| {
            ["png", "jpg", "jpeg"]
                .iter()
                .any(|known| extension.eq_ignore_ascii_case(known))
        })
}

fn list_folder(root: &Path, below: &str, depth: usize, names: &mut Vec<String>) -> Result<()> {
    let folder = root.join(below);
    let list = std::fs::read_dir(&folder).map_err(|error| Error::io(&folder, "read", error))?;
    for entry in list {
        let entry = entry.map_err(|error| Error::io(&folder, "read", error))?;
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
        // Follows links, which `DirEntry::file_type` would not.
        let is_folder = entry.path().is_dir();
        if is_folder && depth < MAXIMUM_DEPTH && !file_name.starts_with('.') {
            list_folder(root, &name, depth + 1, names)?;
        } else if !is_folder && is_image(&name) {
            names.push(name);
        }
    }
    Ok(())
}

fn open_archive(path: &Path) -> Result<(Archive, Vec<Entry>)> {
    let bytes = read_file(path)?;
    let length = bytes.len();
    let unreadable = |error: &dyn std::fmt::Display| {
        Error::data(
            path,
            format!(
                "is not a readable zip archive ({error}); it has {length} bytes and may be \
                 truncated: fetch it again"
            ),
        )
    };
    let archive =
        ZipArchive::new(Cursor::new(Arc::from(bytes))).map_err(|error| unreadable(&error))?;
    let mut entries = Vec::with_capacity(archive.len());
    for position in 0..archive.len() {
        let Some(name) = archive.name_for_index(position) else {
            continue;
        };
        let name = name.map_err(|error| unreadable(&error))?;
        if is_image(&name) {
            entries.push(Entry {
                name: name.into_owned(),
                position,
            });
        }
    }
    Ok((archive, entries))
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::io(path, "read", error))
}

/// Hash of all bytes of an archive, or of the names and bytes of all images of a folder.
///
/// # Errors
/// [`Error::Io`] naming what cannot be read.
pub(crate) fn content_hash(path: &Path) -> Result<blake3::Hash> {
    if !path.is_dir() {
        return file_hash(path);
    }
    let mut names = Vec::new();
    list_folder(path, "", 0, &mut names)?;
    names.sort_unstable();
    let hashes: Vec<blake3::Hash> = names
        .par_iter()
        .map(|name| file_hash(&path.join(name)))
        .collect::<Result<_>>()?;
    let mut hasher = blake3::Hasher::new();
    for (name, hash) in names.iter().zip(hashes) {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(hash.as_bytes());
    }
    Ok(hasher.finalize())
}

fn file_hash(path: &Path) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    File::open(path)
        .and_then(|file| hasher.update_reader(file).map(|hasher| hasher.finalize()))
        .map_err(|error| Error::io(path, "read", error))
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
    fn only_visible_images_count() {
        for name in ["a/b.png", "a/b.JPG", "c/d/e.jpeg"] {
            assert!(is_image(name), "{name}");
        }
        for name in ["a/.b.png", "__MACOSX/a/b.png", "a/b.txt", "png", ".a/b.png"] {
            assert!(!is_image(name), "{name}");
        }
    }
}
