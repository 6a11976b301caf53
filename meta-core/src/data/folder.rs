//! Any folder or zip archive of `class/image.png`.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::class_folders::{ClassFolders, SplitFolders};
use super::class_splits::{Fractions, by_files};
use super::episode::Split;
use super::image_cache::{DecodeGroup, ImageCache};
use super::image_decode::{Background, Fit, ImageFilter, ImageFormat};
use super::image_files::{ImageTree, resolve};
use super::image_set::{Changes, ImageSource, Rotations, SharedPicture};
use super::pictures::PictureSettings;
use super::source::{Source, SourceSettings};
use crate::error::{Error, Result};
use crate::settings;

settings! {
    /// Settings of the class-folder source.
    ///
    /// The class of an image is the folder that it lies in; folders around all classes do not count, and
    /// classes may be nested (`Alphabet/character01`). Folders `train`, `val` and `test` around them are
    /// the splits. PNG, JPEG, GIF, WebP and BMP files are read, hidden ones are not; what else lies there
    /// is counted. A picture is turned as its camera says, and of an animation the first one is read.
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
        /// Folders `train`, `val` (`validation`, `valid`, `dev`) and `test` around the classes, where no
        /// split files are given: `use` them as the splits, `merge` their classes of the same name and
        /// split as without them, or take them as part of the `name`.
        #[added("0.2")]
        split_folders: SplitFolders = SplitFolders::Use;
        /// Without split files or folders: the expected fraction of classes that validate. Whether a
        /// class does is decided by the BLAKE3 hash of the name of its own folder alone, so it never
        /// changes sides. In 0..=1.
        validation_fraction: f64 = 0.16;
        /// Without split files or folders: the expected fraction of classes that test, decided
        /// likewise. In 0..=1, and at most 1 together with `validation_fraction`.
        test_fraction: f64 = 0.2;
        /// Pictures that are in two splits, the same pixel by pixel: `refuse` or `allow`.
        #[added("0.2")]
        duplicates: Duplicates = Duplicates::Refuse;
        /// Whether links out of the folder are followed. Those inside are.
        #[added("0.2")]
        follow_links: bool = false;
        /// What is done with the four rotations of a class.
        rotations: Rotations = Rotations::None;
        /// With `rotations = "augment"`: also rotate the classes of validation and test tasks.
        augment_evaluation: bool = false;
        /// 1 (grey) or 3 (RGB).
        channels: usize = 3;
        /// Height and width in pixels, 1..=1024.
        image_size: usize = 32;
        /// What becomes of an image that is not square: `squeeze` it, `crop` the square in its middle, or `pad`
        /// it with the `background`.
        #[added("0.2")]
        fit: Fit = Fit::Squeeze;
        /// How images are resized.
        filter: ImageFilter = ImageFilter::Lanczos3;
        /// What shows where a picture is transparent: `white` or `black`.
        #[added("0.2")]
        background: Background = Background::White;
        /// Whether dark becomes 1 and light 0: for dark ink on light paper.
        invert: bool = false;
        /// Folder for decoded images, so that the next start is fast. Empty:
        /// `$XDG_CACHE_HOME/meta-attention`, else `~/.cache/meta-attention`.
        cache_dir: String = String::new();
        ..pictures: PictureSettings;
    }
}

/// Whether a picture may be in two splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// It is an error.
    Refuse,
    /// It is counted in the description.
    Allow,
}

impl FolderSettings {
    /// Reads and decodes the files, or takes them from the cache.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting out of range; [`Error::Data`] or [`Error::Io`] for files that
    /// are missing or damaged, folders that can be read in two ways, pictures in two splits, and for split
    /// files that name a class twice or one that does not exist.
    pub fn build(&self, data_dir: Option<&Path>) -> Result<ImageSource> {
        let format = ImageFormat {
            size: self.image_size,
            channels: self.channels,
            filter: self.filter,
            invert: self.invert,
            background: self.background,
            fit: self.fit,
        };
        format.check()?;
        self.check()?;
        self.pictures.check(self.channels)?;
        let path = resolve(&self.path, data_dir);
        if !path.exists() {
            return Err(Error::data(
                &path,
                "there is no such folder or zip archive; `data.path` must name one that holds \
                 `class/image.png`",
            ));
        }
        let tree = ImageTree::open(&path, self.follow_links)?;
        let (folders, layout) = self.read_layout(&path, &tree)?;
        let mut skipped = tree.skipped().clone();
        let names: Vec<String> = tree.names().map(str::to_owned).collect();
        skipped.note_loose(folders.loose.iter().map(|&image| names[image].as_str()));
        if folders.classes.is_empty() {
            let skipped = skipped
                .describe()
                .map_or(String::new(), |_| format!("; found {skipped}"));
            return Err(Error::data(
                &path,
                format!("holds no images; looked for `class/image.png`{skipped}"),
            ));
        }
        if let Some(warning) = skipped.warning() {
            tracing::warn!(path = %path.display(), "not read: {warning}");
        }
        let classes: Vec<_> = folders.classes.into_iter().collect();
        let groups = [DecodeGroup { tree, classes }];
        let cache = ImageCache::new(&self.cache_dir, "folder", format, &groups)?;
        let set = cache.load_or_decode(format, &groups)?;
        let [DecodeGroup { classes, .. }] = groups;
        if layout.is_some() {
            tracing::info!(path = %path.display(), "folders of splits are the splits");
        }
        let (splits, splits_by) = if self.has_split_files() {
            let names: Vec<&str> = set.names().collect();
            let lists = self.split_files();
            (by_files(lists, &names, &path, data_dir)?, "files")
        } else if let Some(layout) = layout {
            let of = |split| {
                (0..layout.len())
                    .filter(|&class| layout[class] == split)
                    .collect()
            };
            (Split::ALL.map(of), "folders")
        } else {
            (
                self.fractions().by_name(set.names()),
                "hash of the class name",
            )
        };
        let shared = set.shared_pictures(&splits);
        if self.duplicates == Duplicates::Refuse && !shared.is_empty() {
            let name = |class: usize, item: usize| names[classes[class].1[item]].as_str();
            return Err(Error::data(&path, shared_message(&shared, name)));
        }
        let changes = Changes {
            rotations: self.rotations,
            augment_evaluation: self.augment_evaluation,
            pictures: self.pictures.pictures(|| set.moments(&splits[0])),
        };
        let mut notes = vec![("pictures_in_two_splits", json!(shared.len()))];
        notes.extend(skipped.describe().map(|skipped| ("not_read", skipped)));
        Ok(ImageSource::new(
            "folder",
            set,
            splits,
            changes,
            self.invert,
            self.described(splits_by),
            notes,
        ))
    }

    /// The classes of a tree and, where its folders say so, the split of each.
    fn read_layout(
        &self,
        path: &Path,
        tree: &ImageTree,
    ) -> Result<(ClassFolders, Option<Vec<Split>>)> {
        let refuse = |message: String| Error::data(path, message);
        let folders = ClassFolders::of(tree.names());
        folders.check_names().map_err(refuse)?;
        match self.split_folders {
            SplitFolders::Name => Ok((folders, None)),
            SplitFolders::Merge => Ok((folders.merged().map_err(refuse)?, None)),
            SplitFolders::Use if self.has_split_files() => Ok((folders, None)),
            SplitFolders::Use => {
                let layout = folders.splits().map_err(|message| {
                    refuse(format!(
                        "{message}; move them, list the classes in `data.train_classes` …, or say with \
                         `data.split_folders` whether to `merge` such folders or to take them as part of \
                         the `name`"
                    ))
                })?;
                let both = layout
                    .as_ref()
                    .and_then(|splits| folders.on_two_sides(splits));
                if let Some((class, count)) = both {
                    return Err(refuse(format!(
                        "class `{class}` lies in the folders of two splits{}, but tasks are split by \
                         class; `data.split_folders = \"merge\"` makes one class of both",
                        match count {
                            1 => String::new(),
                            _ => format!(", and so do {} more", count - 1),
                        }
                    )));
                }
                Ok((folders, layout))
            }
        }
    }

    /// The settings that change episodes beside the pixels.
    fn described(&self, splits_by: &str) -> serde_json::Value {
        // The fractions matter only where hashes decide.
        let fraction = |fraction: f64| splits_by.starts_with("hash").then_some(fraction);
        let mut described = json!({
            "split": splits_by,
            "validation_fraction": fraction(self.validation_fraction),
            "test_fraction": fraction(self.test_fraction),
            "rotations": self.rotations,
            "augment_evaluation": self.augment_evaluation,
            "channels": self.channels,
            "image_size": self.image_size,
            "filter": self.filter,
            "invert": self.invert,
        });
        for (key, value) in self.pictures.changed() {
            described[key] = value;
        }
        if self.fit != Fit::Squeeze {
            described["fit"] = json!(self.fit);
        }
        described
    }

    fn check(&self) -> Result<()> {
        if self.path.is_empty() {
            return Err(Error::setting(
                "data.path",
                "\"\"",
                "must name a folder or zip archive of `class/image.png`",
            ));
        }
        self.fractions().check()
    }

    fn fractions(&self) -> Fractions {
        Fractions {
            validation: self.validation_fraction,
            test: self.test_fraction,
        }
    }

    fn has_split_files(&self) -> bool {
        self.split_files().iter().any(|(_, file)| !file.is_empty())
    }

    fn split_files(&self) -> [(Split, &str); 3] {
        [
            (Split::Train, &self.train_classes),
            (Split::Validation, &self.validation_classes),
            (Split::Test, &self.test_classes),
        ]
    }
}

impl SourceSettings for FolderSettings {
    const NAME: &str = "folder";
    const SUMMARY: &str = "any folder or zip archive of class/image.png";

    fn open(&self, data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build(data_folder)?))
    }
}

/// Says how many pictures two splits share, and names some.
fn shared_message<'a>(shared: &[SharedPicture], name: impl Fn(usize, usize) -> &'a str) -> String {
    const NAMED: usize = 3;
    let mut message = match shared.len() {
        1 => "1 picture is in two splits:".to_owned(),
        count => format!("{count} pictures are in two splits:"),
    };
    for SharedPicture { earlier, later } in shared.iter().take(NAMED) {
        message.push_str(&format!(
            " `{}` ({}) = `{}` ({}),",
            name(earlier.1, earlier.2),
            earlier.0,
            name(later.1, later.2),
            later.0
        ));
    }
    if shared.len() > NAMED {
        message.push_str(" …,");
    }
    message.push_str(
        " pixel by pixel; what is tested would have been learned. Remove one of each, or go on with \
         `data.duplicates = \"allow\"`",
    );
    message
}
