//! Decoded images on disk, so that a second start need not decode.
//!
//! A cache file is `METAIMG1`, the 32-byte key, the 32-byte BLAKE3 hash of the rest, and the rest: an
//! [`ImageSet`] as bytes. The key names the content of the source files and how they were decoded, so
//! a file is never stale. It is written atomically: processes that write at the same time replace each
//! other's equal files. A file that is damaged is made again; one that is no cache is left as it is. A
//! folder that cannot be written costs a warning and time, never the run.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::episode::ItemShape;
use super::image_files::{ImageFormat, ImageTree};
use super::image_set::ImageSet;
use crate::error::{Error, Result};
use crate::files::write_atomically;

const MAGIC: &[u8; 8] = b"METAIMG1";
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
    /// The cache file of `key` in `folder`, or in the default folder when that is empty.
    pub fn new(folder: &str, source: &str, key: blake3::Hash) -> Self {
        let folder = if folder.is_empty() {
            default_folder()
        } else {
            Some(PathBuf::from(folder))
        };
        let name = format!("{source}-{}.images", &key.to_hex()[..32]);
        ImageCache {
            key,
            file: folder.map(|folder| folder.join(name)),
        }
    }

    /// Takes the set from the cache, or decodes it and puts it there. Each of `groups` is a tree and its
    /// classes: a name and the positions of its images.
    pub fn load_or_decode(
        &self,
        format: ImageFormat,
        groups: impl FnOnce() -> Result<Vec<DecodeGroup>>,
    ) -> Result<ImageSet> {
        if let Some(set) = self.load() {
            return Ok(set);
        }
        let mut pixels = Vec::new();
        let mut classes = Vec::new();
        for group in groups()? {
            let positions: Vec<usize> = group
                .classes
                .iter()
                .flat_map(|(_, positions)| positions.iter().copied())
                .collect();
            pixels.append(&mut group.tree.decode(&positions, format)?);
            let counts = group.classes.into_iter();
            classes.extend(counts.map(|(name, positions)| (name, positions.len())));
        }
        let shape = ItemShape {
            height: format.size,
            width: format.size,
            channels: format.channels,
        };
        let set = ImageSet::of(shape, classes, pixels);
        self.store(&set);
        Ok(set)
    }

    /// The cached set, when there is one and it is sound.
    pub fn load(&self) -> Option<ImageSet> {
        let file = self.file.as_ref()?;
        let bytes = std::fs::read(file).ok()?;
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
        ImageSet::from_bytes(bytes).filter(|set| set.hash() == checksum)
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
        if is_foreign(file) {
            return Err(Error::data(file, "is no image cache; it is left as it is"));
        }
        let body = set.to_bytes();
        let mut bytes = Vec::with_capacity(HEAD + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.key.as_bytes());
        bytes.extend_from_slice(set.hash().as_bytes());
        bytes.extend_from_slice(&body);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|error| Error::io(folder, "create folder", error))?;
        }
        write_atomically(file, &bytes)
    }
}

/// Whether there is something at `file` that this program did not write.
fn is_foreign(file: &Path) -> bool {
    let Ok(mut file) = std::fs::File::open(file) else {
        return false;
    };
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).is_err() || magic != *MAGIC
}

/// `$XDG_CACHE_HOME/meta-attention`, else `~/.cache/meta-attention`. As that standard says, a relative
/// `$XDG_CACHE_HOME` is ignored.
fn default_folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|folder| folder.join("meta-attention"))
}
