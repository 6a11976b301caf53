//! Decoded images on disk, so that a second start need not decode.
//!
//! A cache file is `METAIMG2`, the 32-byte key, the 32-byte checksum of the rest, and the rest: an
//! [`ImageSet`] as bytes. The key names the content of the source files, how they were decoded and by which
//! version of the decoders, so a file is never stale. It is written atomically: processes that write at
//! the same time replace each other's equal files. A file that is damaged is made again; one that is no
//! cache is left as it is. A folder that cannot be written costs a warning and time, never the run.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::episode::ItemShape;
use super::image_decode::{DECODER, ImageFormat};
use super::image_files::ImageTree;
use super::image_set::ImageSet;
use crate::error::{Error, Result};
use crate::files::write_atomically;

const MAGIC: &[u8; 8] = b"METAIMG2";
const HEAD: usize = MAGIC.len() + 32 + 32;

/// A tree of image files and which of its images belong to which class.
pub(crate) struct DecodeGroup {
    pub tree: ImageTree,
    /// Name of a class and the positions of its images in the tree.
    pub classes: Vec<(String, Vec<usize>)>,
}

/// One file of the cache; may not exist yet.
pub(crate) struct ImageCache {
    key: blake3::Hash,
    file: Option<PathBuf>,
}

impl ImageCache {
    /// The cache file in `folder`, or in the default folder when that is empty, of the images of `groups` in
    /// this format.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) or [`Error::Data`](crate::Error::Data) naming what cannot be read.
    pub fn new(
        folder: &str,
        source: &str,
        format: ImageFormat,
        groups: &[DecodeGroup],
    ) -> Result<Self> {
        let mut key = blake3::Hasher::new();
        key.update(format!("{source} 2 {} {DECODER}\n", json!(format)).as_bytes());
        for group in groups {
            key.update(group.tree.content_hash()?.as_bytes());
            for (name, positions) in &group.classes {
                key.update(format!("\n{name} {positions:?}").as_bytes());
            }
        }
        let key = key.finalize();
        let folder = if folder.is_empty() {
            default_folder()
        } else {
            Some(PathBuf::from(folder))
        };
        let name = format!("{source}-{}.images", &key.to_hex()[..32]);
        Ok(ImageCache {
            key,
            file: folder.map(|folder| folder.join(name)),
        })
    }

    /// Takes the set of these classes from the cache, or decodes it and puts it there.
    pub fn load_or_decode(&self, format: ImageFormat, groups: &[DecodeGroup]) -> Result<ImageSet> {
        if let Some(set) = self.load() {
            return Ok(set);
        }
        let classes = groups.iter().flat_map(|group| &group.classes);
        let classes = classes.map(|(name, positions)| (name.clone(), positions.len()));
        let classes: Vec<(String, usize)> = classes.collect();
        let (mut pixels, mut digests) = (Vec::new(), Vec::new());
        for group in groups {
            let positions = group.classes.iter().flat_map(|(_, positions)| positions);
            let positions: Vec<usize> = positions.copied().collect();
            let (mut decoded, mut hashes) = group.tree.decode(&positions, format)?;
            pixels.append(&mut decoded);
            digests.append(&mut hashes);
        }
        let shape = ItemShape {
            height: format.size,
            width: format.size,
            channels: format.channels,
        };
        let set = ImageSet::of(shape, classes, pixels, digests);
        self.store(&set);
        Ok(set)
    }

    /// The cached set, when there is one and it is sound.
    pub fn load(&self) -> Option<ImageSet> {
        let file = self.file.as_ref()?;
        let bytes = crate::files::read_regular(file, u64::MAX).ok()?;
        let set = self.unseal(bytes);
        if set.is_none() {
            tracing::warn!(file = %file.display(), "the image cache is damaged; decoding again");
        }
        set
    }

    fn unseal(&self, mut bytes: Vec<u8>) -> Option<ImageSet> {
        let rest = bytes
            .strip_prefix(MAGIC)?
            .strip_prefix(self.key.as_bytes())?;
        let checksum: [u8; 32] = *rest.first_chunk()?;
        bytes.drain(..HEAD);
        ImageSet::from_bytes(bytes).filter(|set| set.checksum() == checksum)
    }

    /// Keeps a set for later; failing to is only worth a warning.
    pub fn store(&self, set: &ImageSet) {
        let Some(file) = &self.file else { return };
        if let Err(error) = self.write(file, set) {
            tracing::warn!(
                file = %file.display(),
                %error,
                "cannot write the image cache; the next start decodes again"
            );
        }
    }

    fn write(&self, file: &Path, set: &ImageSet) -> Result<()> {
        if is_foreign(file, MAGIC) {
            return Err(Error::data(file, "is no image cache; it is left as it is"));
        }
        let body = set.to_bytes();
        let mut bytes = Vec::with_capacity(HEAD + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.key.as_bytes());
        bytes.extend_from_slice(set.checksum().as_bytes());
        bytes.extend_from_slice(&body);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|error| Error::io(folder, "create folder", error))?;
        }
        write_atomically(file, &bytes)
    }
}

/// Whether there is something at `file` that this program did not write, for it does not begin with `magic`; an
/// empty file is nothing.
pub(crate) fn is_foreign(file: &Path, magic: &[u8; 8]) -> bool {
    let Ok(mut file) = std::fs::File::open(file) else {
        return false;
    };
    if file
        .metadata()
        .is_ok_and(|found| found.is_file() && found.len() == 0)
    {
        return false;
    }
    let mut first = [0; 8];
    file.read_exact(&mut first).is_err() || first != *magic
}

/// `$XDG_CACHE_HOME/meta-attention`, else `~/.cache/meta-attention`. As that standard says, a relative
/// `$XDG_CACHE_HOME` is ignored.
pub(crate) fn default_folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|folder| folder.join("meta-attention"))
}
