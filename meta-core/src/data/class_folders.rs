//! What the folders around images mean: classes, splits, or nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::episode::Split;

/// What is done with folders named as splits (`train`, `val`, `test`) around the class folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitFolders {
    /// `train/class`: they are the splits.
    Use,
    /// They are left out of the names, and the images of `train/class` and `test/class` are one class.
    Merge,
    /// They are folders as any other.
    Name,
}

/// The images of each class, by its name, and those that have none.
pub(crate) struct ClassFolders {
    /// Name of a class and positions of its images.
    pub classes: BTreeMap<String, Vec<usize>>,
    /// Positions of the images that lie in no folder.
    pub loose: Vec<usize>,
}

impl ClassFolders {
    /// Groups images by the folder that they lie in. Folders that all names begin with are left out of the
    /// names, so it makes no difference whether an archive has a folder around everything.
    pub fn of<'a>(images: impl IntoIterator<Item = &'a str>) -> Self {
        let parents: Vec<Vec<&str>> = images
            .into_iter()
            .map(|name| {
                let mut parts: Vec<&str> = name.split('/').collect();
                parts.pop();
                parts
            })
            .collect();
        let mut inside = parents.iter().filter(|parts| !parts.is_empty());
        let mut shared = inside
            .next()
            .map_or(&[][..], |parts| &parts[..parts.len() - 1]);
        for parts in inside {
            let common = shared.iter().zip(&parts[..parts.len() - 1]);
            shared = &shared[..common.take_while(|(a, b)| a == b).count()];
        }
        let mut folders = ClassFolders {
            classes: BTreeMap::new(),
            loose: Vec::new(),
        };
        for (position, parts) in parents.iter().enumerate() {
            if parts.is_empty() {
                folders.loose.push(position);
                continue;
            }
            let name = parts[shared.len()..].join("/");
            folders.classes.entry(name).or_default().push(position);
        }
        folders
    }

    /// Checks that the names of the classes have one reading: no class inside another, and no two names
    /// that differ only in how their letters are encoded. An error is a clause that names them.
    pub fn check_names(&self) -> Result<(), String> {
        let mut composed: BTreeMap<String, &str> = BTreeMap::new();
        for name in self.classes.keys() {
            let around = name.match_indices('/').map(|(end, _)| &name[..end]);
            if let Some(outer) = around
                .into_iter()
                .find(|&outer| self.classes.contains_key(outer))
            {
                return Err(format!(
                    "`{outer}` holds images and also the folder `{name}` with images: is it a class, or \
                     are there classes in it? Move one of them"
                ));
            }
            if let Some(other) = composed.insert(compose(name), name) {
                return Err(format!(
                    "the folders `{other}` and `{name}` have the same name in another encoding \
                     (Unicode NFC and NFD); rename one"
                ));
            }
        }
        Ok(())
    }

    /// Whether the tree is laid out by splits: the split of each class, in order, where each lies in a
    /// folder of the top named as a split. An error is a clause: names of splits that lie elsewhere too.
    pub fn splits(&self) -> Result<Option<Vec<Split>>, String> {
        let names = || self.classes.keys().map(String::as_str);
        let mut named: Vec<Split> = names()
            .flat_map(|name| name.split('/').filter_map(Split::named))
            .collect();
        named.sort_by_key(|split| split.position());
        named.dedup();
        // One alone, such as a class of trains, says nothing.
        if named.len() < 2 {
            return Ok(None);
        }
        let split_of = |name: &str| name.split_once('/').and_then(|(top, _)| Split::named(top));
        if let Some(odd) = names().find(|name| split_of(name).is_none()) {
            let layout =
                names().find(|name| name.split('/').any(|part| Split::named(part).is_some()));
            return Err(format!(
                "folders are named as splits (`{}`), but not each class lies in one of the top (`{odd}`)",
                layout.unwrap_or_default()
            ));
        }
        Ok(Some(names().filter_map(split_of).collect()))
    }

    /// The first class that lies in the folders of two splits, and how many do.
    pub fn on_two_sides(&self, splits: &[Split]) -> Option<(&str, usize)> {
        let mut sides: BTreeMap<String, Vec<(Split, &str)>> = BTreeMap::new();
        for (name, &split) in self.classes.keys().zip(splits) {
            if let Some((_, class)) = name.split_once('/') {
                sides
                    .entry(compose(class))
                    .or_default()
                    .push((split, class));
            }
        }
        let mut both = sides
            .into_values()
            .filter(|sides| sides.iter().any(|(split, _)| *split != sides[0].0));
        let first = both.next()?;
        Some((first[0].1, 1 + both.count()))
    }

    /// The classes without the parts of their names that name a split. An error is a clause that names a
    /// class that is nothing else.
    pub fn merged(self) -> Result<Self, String> {
        let mut classes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (name, positions) in self.classes {
            let parts = name.split('/').filter(|part| Split::named(part).is_none());
            let class = parts.collect::<Vec<_>>().join("/");
            if class.is_empty() {
                return Err(format!(
                    "`{name}` holds images that lie in no folder of a class"
                ));
            }
            classes.entry(class).or_default().extend(positions);
        }
        Ok(ClassFolders {
            classes,
            loose: self.loose,
        })
    }
}

/// The name in Unicode's composed form (NFC), whichever a system or an editor writes.
pub(crate) fn compose(name: &str) -> String {
    name.nfc().collect()
}

/// A number in \[0, 1) that depends on the name of the class's own folder alone: not on the folders around
/// it, which other classes decide whether to leave out, nor on the encoding of its letters.
pub(crate) fn place_of_name(name: &str) -> f64 {
    let own = name.rsplit('/').next().unwrap_or(name);
    let hash = blake3::hash(compose(own).as_bytes());
    let bytes = hash.as_bytes().first_chunk::<8>();
    let bits = bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes)) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(images: &[&str]) -> ClassFolders {
        ClassFolders::of(images.iter().copied())
    }

    #[test]
    fn names_are_spread_evenly() {
        // 10 000 names: 5 standard deviations of a binomial with p = 0.2 are 200.
        let below = (0..10_000)
            .filter(|number| place_of_name(&format!("class {number}")) < 0.2)
            .count();
        assert!((1800..2200).contains(&below), "{below}");
    }

    #[test]
    fn a_place_depends_on_the_own_folder_alone() {
        assert_eq!(place_of_name("around/class00"), place_of_name("class00"));
        assert_eq!(place_of_name("caf\u{e9}"), place_of_name("cafe\u{301}"));
    }

    #[test]
    fn a_layout_by_splits_is_told_from_names_and_from_mixtures() {
        use Split::{Test, Train, Validation};
        let layout = folders(&["x/Train/a/1", "x/Train/b/1", "x/dev/c/1", "x/test/d/1"]);
        let splits = layout.splits().expect("plain").expect("a layout");
        assert_eq!(splits, [Train, Train, Validation, Test]);
        assert_eq!(layout.on_two_sides(&splits), None);
        for plain in [
            &["a/1", "b/1"][..],
            // Steam trains beside cars.
            &["car/1", "train/1"],
            &["train/steam/1", "car/old/1"],
            &["train/a/1", "train/b/1"],
        ] {
            assert_eq!(folders(plain).splits().expect("names"), None, "{plain:?}");
        }
        for mixture in [
            &["train/a/1", "test/b/1", "extra/c/1"][..],
            &["train/a/1", "val/1"],
            &["train/1", "test/1"],
            &["dog/train/1", "dog/test/1", "cat/train/1"],
        ] {
            assert!(folders(mixture).splits().is_err(), "{mixture:?}");
        }
        let both = folders(&["test/a/2", "train/a/1", "train/b/1"]);
        let splits = both.splits().expect("plain").expect("a layout");
        assert_eq!(both.on_two_sides(&splits), Some(("a", 1)));
        let merged = both.merged().expect("named").classes;
        assert_eq!(merged["a"], [0, 1]);
        assert_eq!(merged["b"], [2]);
        assert!(folders(&["train/1", "test/1"]).merged().is_err());
    }

    #[test]
    fn names_with_two_readings_are_named() {
        let fault = |images: &[&str]| folders(images).check_names().expect_err("two readings");
        let message = fault(&["class00/1", "class00/more/1", "class01/1"]);
        assert!(message.contains("`class00`") && message.contains("`class00/more`"));
        assert!(fault(&["caf\u{e9}/1", "cafe\u{301}/1"]).contains("NFC"));
        assert_eq!(folders(&["a/b/1", "a/c/1", "a.b/1"]).check_names(), Ok(()));
    }
}
