//! Any folder or zip archive of `class/image.png`.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::episode::Split;
use super::image_cache::{DecodeGroup, ImageCache};
use super::image_files::{ImageFilter, ImageFormat, ImageTree, content_hash, resolve};
use super::image_set::{ImageSet, ImageSource, Rotations};
use super::source::{Source, SourceSettings};
use crate::error::{Error, Result};
use crate::settings;

settings! {
    /// Settings of the class-folder source.
    ///
    /// The class of an image is the folder that it lies in; folders around all classes do not count, and
    /// classes may be nested (`Alphabet/character01`). PNG and JPEG files are read, hidden ones are not.
    ///
    /// Relative paths start at the data folder when there is one, else at the working directory.
    pub struct FolderSettings {
        /// The folder or zip archive. Required.
        path: String = String::new();
        /// File with the names of the training classes, one a line. When any of the three files is
        /// given, a split without a file has no classes, and a class in no file is not used.
        train_classes: String = String::new();
        /// File with the names of the validation classes.
        validation_classes: String = String::new();
        /// File with the names of the test classes.
        test_classes: String = String::new();
        /// Without split files: the expected fraction of classes that validate. Whether a class
        /// does is decided by the BLAKE3 hash of its name alone, so it never changes sides. In
        /// 0..=1.
        validation_fraction: f64 = 0.16;
        /// Without split files: the expected fraction of classes that test, decided likewise. In
        /// 0..=1, and at most 1 together with `validation_fraction`.
        test_fraction: f64 = 0.2;
        /// What is done with the four rotations of a class.
        rotations: Rotations = Rotations::None;
        /// With `rotations = "augment"`: also rotate the classes of validation and test tasks.
        augment_evaluation: bool = false;
        /// 1 (grey) or 3 (RGB).
        channels: usize = 3;
        /// Height and width in pixels, 1..=1024; other aspect ratios are squeezed.
        image_size: usize = 32;
        /// How images are resized.
        filter: ImageFilter = ImageFilter::Lanczos3;
        /// Whether dark becomes 1 and light 0: for dark ink on light paper.
        invert: bool = false;
        /// Folder for decoded images, so that the next start is fast. Empty:
        /// `$XDG_CACHE_HOME/meta-attention`, else `~/.cache/meta-attention`.
        cache_dir: String = String::new();
    }
}

impl FolderSettings {
    /// Reads and decodes the files, or takes them from the cache.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting out of range; [`Error::Data`] or [`Error::Io`] for files that
    /// are missing or damaged and for split files that name a class twice or one that does not exist.
    pub fn build(&self, data_dir: Option<&Path>) -> Result<ImageSource> {
        let format = ImageFormat {
            size: self.image_size,
            channels: self.channels,
            filter: self.filter,
            invert: self.invert,
        };
        format.check()?;
        self.check()?;
        let path = resolve(&self.path, data_dir);
        if !path.exists() {
            return Err(Error::data(
                &path,
                "there is no such folder or zip archive; `data.path` must name one that holds \
                 `class/image.png` (or .jpg, .jpeg)",
            ));
        }
        let mut key = blake3::Hasher::new();
        key.update(format!("folder 1 {}\n", json!(format)).as_bytes());
        key.update(content_hash(&path)?.as_bytes());
        let cache = ImageCache::new(&self.cache_dir, "folder", key.finalize());
        let set = cache.load_or_decode(format, || {
            let tree = ImageTree::open(&path)?;
            let classes: Vec<_> = tree.folders().into_iter().collect();
            if classes.is_empty() {
                return Err(Error::data(
                    &path,
                    "holds no images; looked for `class/image.png` (or .jpg, .jpeg)",
                ));
            }
            Ok(vec![DecodeGroup { tree, classes }])
        })?;
        let by_name = self.split_files().iter().all(|(_, file)| file.is_empty());
        let splits = if by_name {
            self.split_by_name(&set)
        } else {
            self.split_by_files(&set, &path, data_dir)?
        };
        // The fractions do not matter where files decide.
        let fraction = |fraction: f64| by_name.then_some(fraction);
        let settings = json!({
            "split": if by_name { "hash of the class name" } else { "files" },
            "validation_fraction": fraction(self.validation_fraction),
            "test_fraction": fraction(self.test_fraction),
            "rotations": self.rotations,
            "augment_evaluation": self.augment_evaluation,
            "channels": self.channels,
            "image_size": self.image_size,
            "filter": self.filter,
            "invert": self.invert,
        });
        Ok(ImageSource::new(
            "folder",
            set,
            splits,
            self.rotations,
            self.augment_evaluation,
            settings,
        ))
    }

    fn check(&self) -> Result<()> {
        if self.path.is_empty() {
            return Err(Error::setting(
                "data.path",
                "\"\"",
                "must name a folder or zip archive of `class/image.png`",
            ));
        }
        for (key, fraction, room) in [
            ("data.validation_fraction", self.validation_fraction, 1.0),
            (
                "data.test_fraction",
                self.test_fraction,
                1.0 - self.validation_fraction,
            ),
        ] {
            if !(0.0..=room).contains(&fraction) {
                return Err(Error::setting(
                    key,
                    fraction,
                    "must be in 0..=1, and both fractions together at most 1",
                ));
            }
        }
        Ok(())
    }

    fn split_files(&self) -> [(Split, &str); 3] {
        [
            (Split::Train, &self.train_classes),
            (Split::Validation, &self.validation_classes),
            (Split::Test, &self.test_classes),
        ]
    }

    fn split_by_name(&self, set: &ImageSet) -> [Vec<usize>; 3] {
        let mut splits = [Vec::new(), Vec::new(), Vec::new()];
        for (position, name) in set.names().enumerate() {
            let place = place_of_name(name);
            let split = if place < self.test_fraction {
                Split::Test
            } else if place < self.test_fraction + self.validation_fraction {
                Split::Validation
            } else {
                Split::Train
            };
            splits[split.position()].push(position);
        }
        splits
    }

    fn split_by_files(
        &self,
        set: &ImageSet,
        path: &Path,
        data_dir: Option<&Path>,
    ) -> Result<[Vec<usize>; 3]> {
        let names: Vec<&str> = set.names().collect();
        let mut taken: Vec<Option<Split>> = vec![None; names.len()];
        for (split, file) in self.split_files() {
            if file.is_empty() {
                continue;
            }
            let file = resolve(file, data_dir);
            let text =
                std::fs::read_to_string(&file).map_err(|error| Error::io(&file, "read", error))?;
            for name in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                // Names are sorted, since they come from sorted folders.
                let Ok(position) = names.binary_search(&name) else {
                    let missing = Error::unknown("class", name, names.iter().copied().take(5));
                    return Err(Error::data(
                        &file,
                        format!(
                            "{missing}, … ({} classes in {})",
                            names.len(),
                            path.display()
                        ),
                    ));
                };
                if let Some(other) = taken[position].replace(split) {
                    return Err(Error::data(
                        &file,
                        format!("class `{name}` is listed for {split} but already for {other}"),
                    ));
                }
            }
        }
        Ok(Split::ALL.map(|split| {
            (0..names.len())
                .filter(|&position| taken[position] == Some(split))
                .collect()
        }))
    }
}

impl SourceSettings for FolderSettings {
    const NAME: &str = "folder";
    const SUMMARY: &str = "any folder or zip archive of class/image.png or .jpg";

    fn open(&self, data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build(data_folder)?))
    }
}

/// A number in \[0, 1) that depends on the name alone.
fn place_of_name(name: &str) -> f64 {
    let hash = blake3::hash(name.as_bytes());
    let bytes = hash.as_bytes().first_chunk::<8>();
    let bits = bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes)) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spread_evenly() {
        // 10 000 names: 5 standard deviations of a binomial with p = 0.2 are 200.
        let below = (0..10_000)
            .filter(|number| place_of_name(&format!("class {number}")) < 0.2)
            .count();
        assert!((1800..2200).contains(&below), "{below}");
    }
}
