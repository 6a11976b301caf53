//! From the names of classes to splits: by lists in files, or by hash of the name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::class_folders::{compose, place_of_name};
use super::episode::Split;
use super::image_files::resolve;
use crate::error::{Error, Result};
use crate::files;

/// The largest list of classes.
const MAXIMUM_LIST_BYTES: u64 = 1 << 26;

/// Positions of the classes of each split.
pub(crate) type Splits = [Vec<usize>; 3];

/// The expected fractions of classes that validate and that test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fractions {
    pub validation: f64,
    pub test: f64,
}

impl Fractions {
    /// # Errors
    /// [`Error::Setting`] for a fraction out of range.
    pub fn check(self) -> Result<()> {
        for (key, fraction, room) in [
            ("data.validation_fraction", self.validation, 1.0),
            ("data.test_fraction", self.test, 1.0 - self.validation),
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

    /// The split of what has this place in \[0, 1).
    pub fn split_at(self, place: f64) -> Split {
        if place < self.test {
            Split::Test
        } else if place < self.test + self.validation {
            Split::Validation
        } else {
            Split::Train
        }
    }

    /// Splits classes by the hashes of their names.
    pub fn by_name<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Splits {
        let mut splits = Splits::default();
        for (position, name) in names.into_iter().enumerate() {
            let split = self.split_at(place_of_name(name));
            splits[split.position()].push(position);
        }
        splits
    }
}

/// Splits classes by files of their names, one a line; a split without a file has none. `path` is where the
/// classes come from. A list that is not in the data folder may be in the working directory.
///
/// # Errors
/// [`Error::Data`] for a name that is no class, and for a class that is listed twice.
pub(crate) fn by_files(
    lists: [(Split, &str); 3],
    names: &[&str],
    path: &Path,
    data_dir: Option<&Path>,
) -> Result<Splits> {
    let by_name = names.iter().enumerate();
    let by_name: HashMap<String, usize> = by_name
        .map(|(position, name)| (compose(name), position))
        .collect();
    let mut taken: Vec<Option<Split>> = vec![None; names.len()];
    for (split, file) in lists {
        if file.is_empty() {
            continue;
        }
        // Lists may come with a manifest instead of the data.
        let beside = PathBuf::from(file);
        let file = Some(resolve(file, data_dir)).filter(|file| file.exists() || !beside.exists());
        let file = file.unwrap_or(beside);
        let text = files::read_text(&file, MAXIMUM_LIST_BYTES)?;
        let lines = text.lines().map(str::trim).zip(1..);
        for (name, line) in lines.filter(|(line, _)| !line.is_empty()) {
            let Some(&position) = by_name.get(&compose(name)) else {
                let missing = Error::unknown("class", name, names.iter().copied().take(5));
                return Err(Error::data(
                    &file,
                    format!(
                        "line {line}: {missing}, … ({} classes in {})",
                        names.len(),
                        path.display()
                    ),
                ));
            };
            if let Some(other) = taken[position].replace(split) {
                return Err(Error::data(
                    &file,
                    format!(
                        "line {line}: class `{name}` is listed for {split} but already for {other}"
                    ),
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
