//! Omniglot: 1623 handwritten characters of 50 alphabets, each drawn by 20 people.
//!
//! Lake, Salakhutdinov & Tenenbaum (2015), "Human-level concept learning through probabilistic program
//! induction"; files by the authors at <https://github.com/brendenlake/omniglot> (MIT).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::class_folders::ClassFolders;
use super::image_cache::{DecodeGroup, ImageCache};
use super::image_decode::{Background, Fit, ImageFilter, ImageFormat};
use super::image_files::{ImageTree, resolve};
use super::image_set::{Changes, ImageSet, ImageSource, Rotations};
use super::pictures::Pictures;
use super::source::{Source, SourceSettings};
use crate::error::{Error, Result};
use crate::settings;

/// Where the files can be had, for messages.
const ORIGIN: &str = "Omniglot is at https://github.com/brendenlake/omniglot, in the folder `python`: \
                      put `images_background.zip` and `images_evaluation.zip` there";
/// The authors' two sets and the number of characters in each.
const SETS: [(&str, usize); 2] = [("images_background", 964), ("images_evaluation", 659)];
/// Drawings of each character.
const DRAWINGS: usize = 20;
/// Alphabets that `background-evaluation` validates on: the last five of the background set by name
/// (Ojibwe to Tifinagh, 151 characters).
const VALIDATION_ALPHABETS: usize = 5;
/// `first-1200`: characters before this one train, those up to 1200 validate.
const FIRST_VALIDATION: usize = 1100;
const FIRST_TEST: usize = 1200;

/// Which characters train, validate and test. Published figures differ by points between these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OmniglotSplit {
    /// 1028 / 172 / 423 characters: the files of Vinyals et al. (2016), "Matching Networks for One Shot
    /// Learning", as published with the code of Snell et al. (2017); built in.
    Vinyals,
    /// 813 / 151 / 659: the authors' background set trains, but for its last five alphabets by name,
    /// which validate; the evaluation set tests. No alphabet is in two parts.
    BackgroundEvaluation,
    /// 1100 / 100 / 423: characters in the order of (background before evaluation, alphabet, number),
    /// cut at 1100 and 1200. The sizes are those of Santoro et al. (2016) and Finn et al. (2017), who
    /// shuffle the characters first; this order is fixed instead.
    #[serde(rename = "first-1200")]
    First1200,
}

settings! {
    /// Settings of the Omniglot source.
    ///
    /// ```no_run
    /// use meta_core::data::{OmniglotSettings, Source, Split};
    /// # fn main() -> meta_core::Result<()> {
    /// let source = OmniglotSettings::default().build(Some("data".as_ref()))?;
    /// assert_eq!(source.classes(Split::Test), Some(4 * 423));
    /// # Ok(())
    /// # }
    /// ```
    pub struct OmniglotSettings {
        /// Folder with `images_background.zip` and `images_evaluation.zip`, or the folders
        /// extracted from them, in itself or in a subfolder `python`. Relative paths start at the
        /// data folder when there is one, else at the working directory. Empty: `omniglot`.
        path: String = String::new();
        /// Which characters train, validate and test.
        split: OmniglotSplit = OmniglotSplit::Vinyals;
        /// `classes`: each rotation is a class, in every split (as Vinyals et al. and Snell et
        /// al.); `augment`: each class of a training task is rotated at random (as Santoro et al.);
        /// `none`.
        rotations: Rotations = Rotations::Classes;
        /// With `rotations = "augment"`: also rotate the classes of validation and test tasks.
        augment_evaluation: bool = false;
        /// Height and width in pixels, 1..=1024. The files have 105.
        image_size: usize = 28;
        /// How images are resized.
        filter: ImageFilter = ImageFilter::Lanczos3;
        /// Folder for decoded images, so that the next start is fast. Empty:
        /// `$XDG_CACHE_HOME/meta-attention`, else `~/.cache/meta-attention`.
        cache_dir: String = String::new();
    }
}

impl OmniglotSettings {
    /// Reads and decodes the files, or takes them from the cache. Ink is 1, paper 0.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting out of range; [`Error::Data`] or [`Error::Io`] for files that
    /// are missing, damaged or not all of Omniglot.
    pub fn build(&self, data_dir: Option<&Path>) -> Result<ImageSource> {
        let format = ImageFormat {
            size: self.image_size,
            channels: 1,
            filter: self.filter,
            invert: true,
            background: Background::White,
            fit: Fit::Squeeze,
        };
        format.check()?;
        let path = if self.path.is_empty() {
            "omniglot"
        } else {
            &self.path
        };
        let root = resolve(path, data_dir);
        let mut groups = Vec::new();
        for (set, characters) in SETS {
            groups.push(open_set(&find_set(&root, set)?, characters)?);
        }
        let cache = ImageCache::new(&self.cache_dir, "omniglot", format, &groups)?;
        let set = cache.load_or_decode(format, &groups)?;
        let splits = self.split.parts(&root, &set)?;
        let settings = json!({
            "split": self.split,
            "rotations": self.rotations,
            "augment_evaluation": self.augment_evaluation,
            "image_size": self.image_size,
            "filter": self.filter,
        });
        let shared = set.shared_pictures(&splits).len();
        Ok(ImageSource::new(
            "omniglot",
            set,
            splits,
            Changes {
                rotations: self.rotations,
                augment_evaluation: self.augment_evaluation,
                pictures: Pictures::plain(),
            },
            true,
            settings,
            vec![("pictures_in_two_splits", json!(shared))],
        ))
    }
}

impl SourceSettings for OmniglotSettings {
    const NAME: &str = "omniglot";
    const SUMMARY: &str = "1623 handwritten characters of 50 alphabets (Lake et al. 2015)";

    fn open(&self, data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build(data_folder)?))
    }
}

/// The archive or folder of one of the authors' sets.
fn find_set(root: &Path, set: &str) -> Result<PathBuf> {
    if !root.is_dir() {
        return Err(Error::data(
            root,
            format!("there is no such folder. {ORIGIN}, or set `data.path`"),
        ));
    }
    [root.to_owned(), root.join("python")]
        .into_iter()
        .flat_map(|folder| [folder.join(format!("{set}.zip")), folder.join(set)])
        .find(|path| path.exists())
        .ok_or_else(|| {
            Error::data(
                root,
                format!(
                    "has neither `{set}.zip` nor a folder `{set}`, in itself or in `python`. {ORIGIN}"
                ),
            )
        })
}

/// Lists one set and checks that it is whole.
fn open_set(path: &Path, expected: usize) -> Result<DecodeGroup> {
    // What is found is counted below, wherever it lies.
    let tree = ImageTree::open(path, true)?;
    let folders = ClassFolders::of(tree.names());
    let classes: Vec<(String, Vec<usize>)> = folders.classes.into_iter().collect();
    let odd = classes
        .iter()
        .find(|(_, drawings)| drawings.len() != DRAWINGS);
    if classes.len() != expected || odd.is_some() {
        let odd = odd.map_or(String::new(), |(name, drawings)| {
            format!(", and {} of `{name}`", drawings.len())
        });
        return Err(Error::data(
            path,
            format!(
                "found {} characters{odd}; looked for {expected} characters (`Alphabet/characterNN`) \
                 with {DRAWINGS} drawings each. {ORIGIN}",
                classes.len()
            ),
        ));
    }
    Ok(DecodeGroup { tree, classes })
}

impl OmniglotSplit {
    /// The classes of each part, as positions in the set: the background set by name, then the
    /// evaluation set by name.
    fn parts(self, root: &Path, set: &ImageSet) -> Result<[Vec<usize>; 3]> {
        let background = SETS[0].1;
        let names: Vec<&str> = set.names().collect();
        let part_of: Box<dyn Fn(usize) -> Option<usize> + '_> = match self {
            OmniglotSplit::Vinyals => {
                let listed = vinyals_split();
                let names = &names;
                Box::new(move |position| {
                    let name = names[position];
                    listed
                        .iter()
                        .position(|part| part.iter().any(|n| n == name))
                })
            }
            OmniglotSplit::BackgroundEvaluation => {
                let mut alphabets: Vec<&str> =
                    names[..background].iter().map(|n| alphabet(n)).collect();
                alphabets.dedup();
                let first = alphabets.len().saturating_sub(VALIDATION_ALPHABETS);
                let held_out: Vec<&str> = alphabets.split_off(first);
                let names = &names;
                Box::new(move |position| {
                    Some(if position >= background {
                        2
                    } else {
                        usize::from(held_out.contains(&alphabet(names[position])))
                    })
                })
            }
            OmniglotSplit::First1200 => Box::new(|position| {
                Some(
                    usize::from(position >= FIRST_VALIDATION) + usize::from(position >= FIRST_TEST),
                )
            }),
        };
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        for (position, name) in names.iter().enumerate() {
            let part = part_of(position).ok_or_else(|| {
                Error::data(
                    root,
                    format!("character `{name}` is not one of Omniglot's. {ORIGIN}"),
                )
            })?;
            parts[part].push(position);
        }
        Ok(parts)
    }
}

fn alphabet(name: &str) -> &str {
    name.split_once('/').map_or(name, |(alphabet, _)| alphabet)
}

/// The characters of each part of the built-in list, by name.
fn vinyals_split() -> [Vec<String>; 3] {
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for line in include_str!("omniglot_vinyals.txt").lines() {
        let mut words = line.split(' ');
        let part = match words.next() {
            Some("train") => 0,
            Some("validation") => 1,
            Some("test") => 2,
            _ => continue,
        };
        let (Some(alphabet), Some((first, last))) =
            (words.next(), words.next().and_then(|w| w.split_once('-')))
        else {
            continue;
        };
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            let names = (first..=last).map(|number| format!("{alphabet}/character{number:02}"));
            parts[part].extend(names);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_split_has_its_published_sizes_and_is_disjoint() {
        let parts = vinyals_split();
        assert_eq!(parts.each_ref().map(Vec::len), [1028, 172, 423]);
        let mut all: Vec<&String> = parts.iter().flatten().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 1623);
    }
}
