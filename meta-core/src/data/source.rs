//! The contract of a data source.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::episode::{ClassRef, Episode, EpisodeShape, Extras, ItemShape, Split, Task};
use super::pairs::Lexicon;
use crate::error::{Error, Result};
use crate::rng::Seed;
use crate::settings::{Field, Settings};

/// Pixels, row by row from the top: red, green, blue and opacity of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemPicture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Four bytes a pixel.
    pub rgba: Vec<u8>,
}

/// Where episodes come from.
///
/// An episode is a pure function of (content of the source, seed, split, shape, index): any episode
/// can be made alone, and neither the number of threads nor the size of a batch changes it.
pub trait Source: Send + Sync {
    /// The source's name in the list of sources (`omniglot`).
    fn name(&self) -> &'static str;

    /// What is predicted.
    fn task(&self) -> Task;

    /// The shape of one item.
    fn item_shape(&self) -> ItemShape;

    /// Number of classes of a split; `None` where classes do not exist (regression).
    fn classes(&self, _split: Split) -> Option<usize> {
        None
    }

    /// Number of items of the smallest class of any split; `None` where there is no limit.
    fn items_per_class(&self) -> Option<usize> {
        None
    }

    /// What its tasks may have beyond even ones.
    fn extras(&self) -> Extras {
        Extras::default()
    }

    /// Puts the numbers of an image back to what people see, in \[0, 1\]: undoes a normalisation.
    fn to_picture(&self, _item: &mut [f32]) {}

    /// A picture of an item that is no image, such as a text, a sequence or a state; pictures of episodes
    /// show it. `item` holds the numbers of its inputs. An image needs none.
    fn draw_item(&self, _item: &[f32]) -> Option<ItemPicture> {
        None
    }

    /// The words of an item that is a text, one for each row that is there. `item` holds the numbers of its
    /// inputs.
    fn item_words(&self, _item: &[f32]) -> Option<Vec<String>> {
        None
    }

    /// The name of a class of its episodes, where classes have names.
    fn class_name(&self, _class: ClassRef) -> Option<String> {
        None
    }

    /// What its words and symbols are called, where tasks are of sequences.
    fn lexicon(&self) -> Option<Lexicon> {
        None
    }

    /// Whether its images of one channel are ink on paper: 1 is to be shown dark.
    fn is_ink(&self) -> bool {
        self.item_shape().channels == 1
    }

    /// Checks that episodes of this shape can be drawn from this split.
    ///
    /// # Errors
    /// [`Error::Setting`] naming `data.way`, `data.shot` or `data.query` and the counts there are.
    fn check(&self, split: Split, shape: EpisodeShape) -> Result<()> {
        let (name, items) = (self.name(), self.items_per_class());
        match self.task() {
            Task::Regression { .. } | Task::Sequences { .. } | Task::Acting { .. } => {
                check_regression(shape)
            }
            Task::Classification => {
                let classes = self.classes(split).unwrap_or(0);
                let smallest = items.map(Smallest::unnamed);
                check_classification(name, split, shape, classes, smallest)
            }
        }
    }

    /// Makes episode `index`.
    ///
    /// # Errors
    /// As [`Source::check`]; else only where a file that items are read from fails.
    fn episode(&self, seed: Seed, split: Split, shape: EpisodeShape, index: u64)
    -> Result<Episode>;

    /// The name of the data set that episode `index` of a split is drawn from, where a source has several: results
    /// are told apart by it.
    fn set_of(&self, _split: Split, _index: u64) -> Option<String> {
        None
    }

    /// Mean over the query of the log-density of its targets given the support, in nats, of `episode`
    /// of this stream, where the source knows the distribution that it draws tasks from: what no
    /// learner can exceed on average. Each target's own (marginal) density, as learners give it.
    fn log_likelihood(&self, _seed: Seed, _split: Split, _episode: &Episode) -> Option<f64> {
        None
    }

    /// `count` items of no class at all, `[count, f]`, for episode `index` of this stream, where the source
    /// has such for the split; the same for the same stream and index.
    ///
    /// # Errors
    /// Where a file that items are read from fails.
    fn outsiders(
        &self,
        _seed: Seed,
        _split: Split,
        _index: u64,
        _count: usize,
    ) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }

    /// Hexadecimal hash of everything that episodes depend on: settings and, for files, their content
    /// (not where they lie or how they are packed).
    fn content_hash(&self) -> String;

    /// Hash of all that its validation and test episodes depend on: [`Source::content_hash`], unless something
    /// changes training tasks alone.
    fn frozen_hash(&self) -> String {
        self.content_hash()
    }

    /// What there is to know about the source: counts per split, resize filter, split, rotations, ….
    fn describe(&self) -> Value {
        json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "content_hash": self.content_hash(),
        })
    }
}

/// The identity of a frozen set of episodes: the first `count` of (source, seed, split, shape). Two
/// results can be compared in pairs when their hashes are equal.
pub fn episode_set_hash(
    source: &dyn Source,
    seed: Seed,
    split: Split,
    shape: EpisodeShape,
    count: u64,
) -> String {
    let content = match split {
        Split::Train => source.content_hash(),
        Split::Validation | Split::Test => source.frozen_hash(),
    };
    stored_episode_set_hash(&content, seed, split, shape, count)
}

/// The same where the source is known by its content alone, as in a record.
pub fn stored_episode_set_hash(
    content_hash: &str,
    seed: Seed,
    split: Split,
    shape: EpisodeShape,
    count: u64,
) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"episode-set 1\n");
    hasher.update(
        format!(
            "{content_hash} {seed} {split} {} {} {} {count}",
            shape.way, shape.shot, shape.query
        )
        .as_bytes(),
    );
    hasher.finalize().to_hex().to_string()
}

/// The smallest class of a split.
#[derive(Clone, Copy)]
pub(crate) struct Smallest<'a> {
    /// How many items it has.
    pub items: usize,
    /// Its name, where classes have names.
    pub name: Option<&'a str>,
}

impl Smallest<'_> {
    /// A class without a name.
    pub fn unnamed(items: usize) -> Self {
        Smallest { items, name: None }
    }
}

/// [`Source::check`] for classification.
pub(crate) fn check_classification(
    source: &'static str,
    split: Split,
    shape: EpisodeShape,
    classes: usize,
    smallest: Option<Smallest<'_>>,
) -> Result<()> {
    let EpisodeShape { way, shot, query } = shape;
    let refuse =
        |key: &str, value: usize, expected: String| Err(Error::setting(key, value, expected));
    if way.0 < 2 {
        let expected = "classification needs at least 2 classes per task";
        return refuse("data.way", way.0, expected.to_owned());
    }
    if way.0 > classes {
        let expected = match classes {
            0 => format!(
                "`{source}` has no {split} classes (`data.{split}_classes`, `data.{split}_fraction`)"
            ),
            _ => format!("must be at most {classes}, the number of {split} classes of `{source}`"),
        };
        return refuse("data.way", way.0, expected);
    }
    check_items(shape)?;
    let Some(Smallest { items, name }) = smallest else {
        return Ok(());
    };
    let name = name.map_or(String::new(), |name| format!(" (`{name}`)"));
    let plural = if items == 1 { "" } else { "s" };
    let reason = format!("the smallest {split} class of `{source}`{name} has {items} item{plural}");
    if items < 2 {
        let expected = format!("{reason}: too few for one to learn from and one to predict");
        return refuse("data.shot", shot.0, expected);
    }
    if shot.0 >= items {
        let most = items.saturating_sub(1);
        let expected =
            format!("must be at most {most}: {reason}, and the query needs at least one");
        return refuse("data.shot", shot.0, expected);
    }
    if query.0 > items - shot.0 {
        let most = items - shot.0;
        let expected = format!("must be at most {most} with {shot} shots: {reason}");
        return refuse("data.query", query.0, expected);
    }
    Ok(())
}

/// Checks that support and query have at least one item per class and an allocatable number in all.
pub(crate) fn check_items(shape: EpisodeShape) -> Result<()> {
    // Beyond this an episode cannot be what was meant, and sizes in bytes might overflow.
    const MAXIMUM: usize = 1 << 24;
    for (key, count) in [("data.shot", shape.shot.0), ("data.query", shape.query.0)] {
        let total = count.checked_mul(shape.way.0.max(1));
        if count == 0 || total.is_none_or(|total| total > MAXIMUM) {
            return Err(Error::setting(
                key,
                count,
                format!("must be at least 1, and at most {MAXIMUM} items in all classes together"),
            ));
        }
    }
    Ok(())
}

/// Checks the shape of tasks without classes: regression, and sequences.
pub(crate) fn check_regression(shape: EpisodeShape) -> Result<()> {
    if shape.way.0 != 1 {
        return Err(Error::setting(
            "data.way",
            shape.way,
            "tasks of values or sequences have no classes: must be 1",
        ));
    }
    check_items(shape)
}

/// Settings of a source: how it is described and built. Manifests can name it once it is in
/// the list of sources, or in a toolkit of your own.
pub trait SourceSettings: Settings {
    /// Its name in manifests.
    const NAME: &str;

    /// What it is, in one line.
    const SUMMARY: &str;

    /// Whether its items are rows of tables, which differ from task to task in their columns.
    const TABLES: bool = false;

    /// Makes the source; `data_folder` is where data sets lie, for those that read files.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting that cannot be used, [`Error::Data`] or [`Error::Io`] when files
    /// are missing or damaged.
    fn open(&self, data_folder: Option<&Path>) -> Result<Arc<dyn Source>>;
}

/// Builds a source from its settings and the folder that data sets lie in.
pub type BuildSource = fn(&Value, Option<&Path>) -> Result<Arc<dyn Source>>;

/// A source that can be named in a manifest.
#[derive(Clone, Copy, Debug)]
pub struct SourceEntry {
    /// Its name.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// As [`SourceSettings::TABLES`].
    pub tables: bool,
    /// Its settings with their documentation.
    pub fields: fn() -> Vec<Field>,
    /// Every setting with its default.
    pub default_settings: fn() -> Value,
    /// Builds the source from its settings (an object; absent settings take their defaults, and `null`
    /// is the same as an empty object) and, for sources that read files, the folder that data sets
    /// lie in.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a setting that does not exist, and those of [`SourceSettings::open`].
    pub build: BuildSource,
}

impl SourceEntry {
    /// The entry of the source with settings `S`.
    pub fn of<S: SourceSettings>() -> Self {
        SourceEntry {
            name: S::NAME,
            summary: S::SUMMARY,
            tables: S::TABLES,
            fields: S::fields,
            default_settings: S::defaults,
            build: |settings, data_folder| S::from_value("data", settings)?.open(data_folder),
        }
    }
}

/// `ε` of the statistic `ε / (ε + p)` of a word with the share `p` (Bao et al., ICLR 2020, section 4.1).
pub(super) const STATISTIC: f64 = 1e-3;

/// Hash of a source that is its settings, in this order: `version` names the program that turns them
/// into items.
pub(crate) fn settings_hash(version: &str, settings: &[(&'static str, Value)]) -> String {
    let settings: Vec<String> = settings
        .iter()
        .map(|(key, value)| format!("\"{key}\":{value}"))
        .collect();
    let text = format!("{version}\n{{{}}}", settings.join(","));
    blake3::hash(text.as_bytes()).to_hex().to_string()
}
