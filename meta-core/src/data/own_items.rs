//! What a person brings to a trained learner: pictures in folders, lists of pictures, or rows of numbers, read
//! a block at a time.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::class_folders::{ClassFolders, compose};
use super::features;
use super::formats::{Keys, Known, Text, Vectors, keys, read_labels, read_table};
use super::image_decode::EXTENSIONS;
use super::image_files::{ImageTree, MAXIMUM_IMAGE_BYTES};
use super::pairs::{self, Lexicon};
use super::preparation::Preparation;
use super::tables::{TableColumn, rows_like};
use crate::error::{Error, Result};
use crate::files::{read_regular, read_text};

/// The column that names pictures in a list of them.
const PATHS: &str = "path";
/// The most bytes of a text of sentences.
const MOST_TEXT: u64 = 1 << 24;

/// Which arrays or columns are read of a file; what is empty is found by its usual name.
#[derive(Clone, Debug, Default)]
pub struct ItemKeys {
    /// Of the numbers: `features`, of a table all columns beside the labels; of a regression `x*`.
    pub features: String,
    /// Of the labels: `labels` or `label`.
    pub labels: String,
    /// Of the targets of a regression: `y*`, or the array `targets`.
    pub targets: String,
}

/// What is wanted beside the items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing; labels are kept where there are some.
    Items,
    /// Nothing, of the items of a regression.
    Inputs,
    /// The class of each.
    Labels,
    /// So many numbers of each.
    Targets(usize),
}

/// Items by name, in an order that is always the same; their numbers are read when they are asked for.
pub struct OwnItems {
    path: PathBuf,
    preparation: Preparation,
    store: Store,
    labels: Option<Text>,
    targets: Option<Vectors>,
    /// Symbols and ends of sentences, all of them.
    symbols: Option<Vec<f32>>,
}

enum Store {
    /// Rows of a table, NaN where a number is missing.
    Table(Vec<Vec<f32>>),
    Sentences(Vec<Vec<f32>>, Vec<String>),
    Rows(Vectors),
    Tree {
        tree: ImageTree,
        names: Vec<String>,
    },
    Paths(Vec<PathBuf>, Vec<String>),
}

impl OwnItems {
    /// Finds the items at `path`:
    ///
    /// | path | items | labels |
    /// |---|---|---|
    /// | a folder, or a zip archive | its pictures, by name | the folder that each lies in |
    /// | a picture | that one | |
    /// | `.csv`, `.tsv` with a column `path` | the pictures at these paths, from the file's own folder on | a column |
    /// | a text, of a run on sentences | its lines | behind `OUT:` |
    /// | `.csv`, `.npz`, … ([`super::formats`]) | its rows | an array or a column |
    ///
    /// # Errors
    /// [`Error::Data`] or [`Error::Io`] for what cannot be read, has no items, or lacks what is `wanted`.
    pub fn open(
        path: &Path,
        preparation: &Preparation,
        given: &ItemKeys,
        wanted: Wanted,
    ) -> Result<Self> {
        if let Preparation::Sentence {
            lexicon,
            words,
            length,
        } = preparation
        {
            return sentences(path, preparation, lexicon, [*words, *length], wanted);
        }
        let (store, labels, targets) = if path.is_dir() || has_ending(path, &["zip"]) {
            let (store, labels) = pictures(path, preparation, wanted)?;
            (store, labels, None)
        } else if has_ending(path, &EXTENSIONS) {
            needs_pictures(path, preparation)?;
            if matches!(wanted, Wanted::Labels | Wanted::Targets(_)) {
                let message = "is one picture without a label; give a folder of `class/image.png`";
                return Err(Error::data(path, message));
            }
            let name = path.display().to_string();
            (Store::Paths(vec![path.to_owned()], vec![name]), None, None)
        } else {
            table(path, preparation, given, wanted)?
        };
        let items = OwnItems {
            path: path.to_owned(),
            preparation: preparation.clone(),
            store,
            labels,
            targets,
            symbols: None,
        };
        if items.is_empty() {
            return Err(Error::data(path, "holds no items"));
        }
        Ok(items)
    }

    /// The rows of a table that has these columns, for learners that read which numbers are missing.
    ///
    /// # Errors
    /// As [`rows_like`], and for a table without rows.
    pub fn of_table(
        path: &Path,
        preparation: &Preparation,
        columns: &[TableColumn],
    ) -> Result<Self> {
        let rows = rows_like(path, columns)?;
        if rows.is_empty() {
            return Err(Error::data(path, "has no rows"));
        }
        Ok(OwnItems {
            path: path.to_owned(),
            preparation: preparation.clone(),
            store: Store::Table(rows),
            labels: None,
            targets: None,
            symbols: None,
        })
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        match &self.store {
            Store::Table(rows) => rows.len(),
            Store::Rows(vectors) => vectors.rows(),
            Store::Tree { names, .. } | Store::Paths(_, names) | Store::Sentences(_, names) => {
                names.len()
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of an item: a path below the folder, the sentence, or the number of a row from 0.
    pub fn name(&self, item: usize) -> String {
        match &self.store {
            Store::Rows(_) | Store::Table(_) => item.to_string(),
            Store::Tree { names, .. } | Store::Paths(_, names) | Store::Sentences(_, names) => {
                names.get(item).cloned().unwrap_or_default()
            }
        }
    }

    /// The label of each, where they have labels.
    pub fn labels(&self) -> Option<&Text> {
        self.labels.as_ref()
    }

    /// The targets of a regression, or symbols and ends of sentences, of items from `first` on.
    ///
    /// # Errors
    /// [`Error::Data`] for one that is not finite, [`Error::Io`] where it cannot be read.
    pub fn targets(&self, first: usize, count: usize) -> Result<Option<Vec<f32>>> {
        if let Some(symbols) = &self.symbols {
            let width = symbols.len() / self.len().max(1);
            let rows = symbols.chunks(width.max(1)).skip(first).take(count);
            return Ok(Some(rows.flatten().copied().collect()));
        }
        let Some(vectors) = &self.targets else {
            return Ok(None);
        };
        let rows = self.rows(vectors, first, count)?;
        rows.into_iter()
            .collect::<Result<Vec<_>>>()
            .map(|rows| Some(rows.concat()))
    }

    /// The numbers of items from `first` on: of each, or what is wrong with it.
    ///
    /// # Errors
    /// [`Error::Io`] where the file itself cannot be read any more.
    pub fn read(&self, first: usize, count: usize) -> Result<Vec<Result<Vec<f32>>>> {
        let count = count.min(self.len().saturating_sub(first));
        match &self.store {
            Store::Rows(vectors) => self.rows(vectors, first, count),
            Store::Table(rows) => Ok(rows[first..first + count].iter().cloned().map(Ok).collect()),
            Store::Sentences(items, _) => Ok(items[first..first + count]
                .iter()
                .cloned()
                .map(Ok)
                .collect()),
            Store::Paths(paths, _) => {
                let paths = paths[first..first + count].par_iter();
                Ok(paths.map(|path| self.picture_at(path)).collect())
            }
            Store::Tree { tree, names } => {
                let places = (first..first + count).into_par_iter();
                let read = |place: usize| {
                    let bytes = tree.bytes(place)?;
                    let decoded = self.preparation.picture(&bytes);
                    decoded.map_err(|reason| {
                        Error::data(&self.path, format!("image `{}` {reason}", names[place]))
                    })
                };
                Ok(places.map(read).collect())
            }
        }
    }

    fn picture_at(&self, path: &Path) -> Result<Vec<f32>> {
        let bytes = read_regular(path, MAXIMUM_IMAGE_BYTES)?;
        let decoded = self.preparation.picture(&bytes);
        decoded.map_err(|reason| Error::data(path, reason))
    }

    fn rows(&self, vectors: &Vectors, first: usize, count: usize) -> Result<Vec<Result<Vec<f32>>>> {
        let width = vectors.width();
        let mut numbers = vec![0.0; count * width];
        vectors
            .read(first, &mut numbers)
            .map_err(|error| Error::io(&self.path, "read", error))?;
        let checked = |(row, numbers): (usize, &[f32])| match numbers
            .iter()
            .position(|number| !number.is_finite())
        {
            None => Ok(numbers.to_vec()),
            Some(column) => {
                let (number, column) = (numbers[column], vectors.column(column));
                let message = format!("row {row}, {column} is {number}; it must be finite");
                Err(Error::data(&self.path, message))
            }
        };
        Ok((first..)
            .zip(numbers.chunks_exact(width))
            .map(checked)
            .collect())
    }
}

/// The sentences of a text.
fn sentences(
    path: &Path,
    preparation: &Preparation,
    lexicon: &Lexicon,
    sizes: [usize; 2],
    wanted: Wanted,
) -> Result<OwnItems> {
    let text = read_text(path, MOST_TEXT)?;
    let shown = matches!(wanted, Wanted::Targets(_));
    let written = pairs::written(path, &text, lexicon, sizes, shown)?;
    if written.items.is_empty() {
        return Err(Error::data(path, "holds no sentences"));
    }
    Ok(OwnItems {
        path: path.to_owned(),
        preparation: preparation.clone(),
        store: Store::Sentences(written.items, written.sentences),
        labels: None,
        targets: None,
        symbols: shown.then_some(written.targets),
    })
}

/// A vector that describes each of `classes`, `[classes, v]`, from a table at `path` with their names as
/// labels.
///
/// # Errors
/// [`Error::Io`] or [`Error::Data`] for a file that cannot be read, has no labels, lacks a class or has one
/// twice.
pub fn class_vectors(path: &Path, given: &ItemKeys, classes: &[String]) -> Result<Vec<f32>> {
    let known = keys(path)?;
    let labels = labels_key(&known, given).ok_or_else(|| no_labels(path, &known))?;
    let features = match given.features.as_str() {
        "" if known.has_columns => "*",
        "" => "features",
        key => key,
    };
    let keys = Keys {
        features,
        labels,
        split: "",
    };
    Ok(features::class_vectors(path, &keys, classes)?.0)
}

/// The name of the labels: the given one, or the usual one that is there.
fn labels_key<'a>(known: &Known, given: &'a ItemKeys) -> Option<&'a str> {
    let has = |key: &str| known.keys.iter().any(|name| name == key);
    match given.labels.as_str() {
        "" => ["labels", "label"].into_iter().find(|key| has(key)),
        key => Some(key),
    }
}

fn no_labels(path: &Path, known: &Known) -> Error {
    let message = format!(
        "has no labels: there are `{}`; name them by `--labels`",
        known.keys.join("`, `")
    );
    Error::data(path, message)
}

fn has_ending(path: &Path, known: &[&str]) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let ending = ending.unwrap_or_default().to_lowercase();
    known.contains(&ending.as_str())
}

fn needs_pictures(path: &Path, preparation: &Preparation) -> Result<()> {
    if preparation.is_picture() {
        return Ok(());
    }
    let width = preparation.features();
    let message = format!(
        "has pictures, and the run was trained on rows of {width} numbers; give a `.csv`, `.npz`, `.npy`, \
         `.safetensors` or `.pt`"
    );
    Err(Error::data(path, message))
}

/// The pictures of a folder or an archive.
fn pictures(
    path: &Path,
    preparation: &Preparation,
    wanted: Wanted,
) -> Result<(Store, Option<Text>)> {
    needs_pictures(path, preparation)?;
    let tree = ImageTree::open(path, false)?;
    let names: Vec<String> = tree.names().map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Error::data(path, "holds no pictures"));
    }
    let folders = ClassFolders::of(names.iter().map(String::as_str));
    let mut labels = vec![String::new(); names.len()];
    for (class, places) in &folders.classes {
        for &place in places {
            labels[place] = compose(class);
        }
    }
    if wanted == Wanted::Labels {
        folders
            .check_names()
            .map_err(|message| Error::data(path, message))?;
        if let Some(&loose) = folders.loose.first() {
            let message = format!(
                "`{}` lies in no folder of a class; `class/image.png` is looked for",
                names[loose]
            );
            return Err(Error::data(path, message));
        }
    }
    let has_labels = folders.loose.is_empty();
    let labels = has_labels.then(|| labels.iter().collect());
    Ok((Store::Tree { tree, names }, labels))
}

/// Rows of numbers, or of paths of pictures.
fn table(
    path: &Path,
    preparation: &Preparation,
    given: &ItemKeys,
    wanted: Wanted,
) -> Result<(Store, Option<Text>, Option<Vectors>)> {
    let known = keys(path)?;
    let has = |key: &str| known.keys.iter().any(|name| name == key);
    let labels = labels_key(&known, given);
    if wanted == Wanted::Labels && labels.is_none() {
        return Err(no_labels(path, &known));
    }
    if preparation.is_picture() && known.has_columns && has(PATHS) && given.features.is_empty() {
        let own = path.parent().unwrap_or(Path::new(""));
        let names: Vec<String> = read_labels(path, PATHS)?
            .iter()
            .map(str::to_owned)
            .collect();
        let paths = names.iter().map(|name| own.join(name)).collect();
        let labels = labels.map(|key| read_labels(path, key)).transpose()?;
        let store = Store::Paths(paths, names);
        return Ok((store, labels.as_ref().map(composed), None));
    }
    let regression = matches!(wanted, Wanted::Targets(_) | Wanted::Inputs);
    let features = match given.features.as_str() {
        "" if !known.has_columns => "features",
        "" if regression => "x*",
        "" => "*",
        key => key,
    };
    let read = |features: &str, labels: &str| {
        read_table(
            path,
            &Keys {
                features,
                labels,
                split: "",
            },
        )
    };
    let found = read(features, labels.unwrap_or_default())?;
    check_width(
        path,
        found.vectors.width(),
        preparation.features(),
        features,
    )?;
    let targets = match wanted {
        Wanted::Targets(outputs) => {
            let key = match given.targets.as_str() {
                "" if known.has_columns => "y*",
                "" => "targets",
                key => key,
            };
            let targets = read(key, "")?.vectors;
            check_width(path, targets.width(), outputs, key)?;
            if targets.rows() != found.vectors.rows() {
                let (own, rows) = (targets.rows(), found.vectors.rows());
                let message = format!("`{key}` has {own} rows, and `{features}` {rows}");
                return Err(Error::data(path, message));
            }
            Some(targets)
        }
        _ => None,
    };
    if let Some(labels) = &found.labels
        && wanted == Wanted::Labels
        && let Some(row) = labels.iter().position(str::is_empty)
    {
        return Err(Error::data(path, format!("row {row} has an empty label")));
    }
    let labels = found.labels.as_ref().map(composed);
    Ok((Store::Rows(found.vectors), labels, targets))
}

fn composed(labels: &Text) -> Text {
    labels.iter().map(compose).collect()
}

fn check_width(path: &Path, found: usize, expected: usize, key: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let message =
        format!("`{key}` has {found} numbers a row, and the run was trained on {expected}");
    Err(Error::data(path, message))
}
