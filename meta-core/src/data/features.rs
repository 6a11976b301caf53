//! Vectors with labels: embeddings of a frozen network, or any other features, from a file.
//!
//! Two protocols ([`Protocol`]): tasks of classes that training does not have, as few-shot learning is
//! usually tested, and tasks of the same classes with items that training does not have, as CLIP's linear
//! probes and intent detection are. Without a file there are synthetic vectors, so that a manifest runs
//! before its data is there.

mod checked;
mod set;
mod settings;
mod synthetic;

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use self::set::FeatureSet;
use super::class_splits::by_files;
use super::draw::assemble_parts;
use super::episode::{ClassRef, Episode, EpisodeShape, Extras, ItemShape, Split, Task};
use super::formats::Keys;
use super::image_files::resolve;
use super::source::{Smallest, Source, SourceSettings, check_classification};
use crate::error::{Error, Result};
use crate::rng::{Seed, Stream};

pub(crate) use set::class_vectors;
pub use settings::{FeaturesSettings, Fewer, Protocol};

impl FeaturesSettings {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting that cannot be used; [`Error::Data`] or [`Error::Io`] for files that
    /// are missing or damaged, numbers that are not finite, columns that are constant, rows that differ in
    /// width, keys that are not there, and classes in two splits.
    pub fn build(&self, data_dir: Option<&Path>) -> Result<FeatureSource> {
        self.check()?;
        let set = match self.path.as_str() {
            "" => synthetic::set(),
            _ => FeatureSet::open(self, data_dir)?,
        };
        let (splits, split_by) = self.split_classes(&set, data_dir)?;
        let pools = self.pools(&set);
        let (class_vectors, vector_width) = match self.class_vectors.as_str() {
            "" => (Vec::new(), 0),
            path => {
                let keys = Keys {
                    features: &self.features,
                    labels: &self.labels,
                    split: "",
                };
                set::class_vectors(&resolve(path, data_dir), &keys, &set.classes)?
            }
        };
        let mut source = FeatureSource {
            settings: self.clone(),
            set,
            splits,
            pools,
            class_vectors,
            vector_width,
            content_hash: String::new(),
            described: Value::Null,
        };
        source.describe_as(split_by);
        Ok(source)
    }

    /// The split of each row, where the protocol asks for it and it is said.
    fn parts<'a>(&self, set: &'a FeatureSet) -> Option<&'a [Split]> {
        // The synthetic rows have splits for new items alone.
        let synthetic = self.path.is_empty() && self.protocol == Protocol::NewClasses;
        set.parts.as_deref().filter(|_| !synthetic)
    }

    /// The classes of each split, and by what they are split.
    fn split_classes(
        &self,
        set: &FeatureSet,
        data_dir: Option<&Path>,
    ) -> Result<([Vec<usize>; 3], &'static str)> {
        let all: Vec<usize> = (0..set.classes.len()).collect();
        if self.protocol == Protocol::NewItems {
            let by = match self.parts(set) {
                Some(_) if self.has_split_paths() => "files of rows",
                Some(_) => "column of rows",
                None => "hash of the row",
            };
            return Ok(([all.clone(), all.clone(), all], by));
        }
        let names: Vec<&str> = set.classes.iter().map(String::as_str).collect();
        if self.has_class_lists() {
            let splits = by_files(self.class_lists(), &names, &set.path, data_dir)?;
            return Ok((splits, "files of classes"));
        }
        let Some(parts) = self.parts(set) else {
            return Ok((self.fractions().by_name(names), "hash of the class name"));
        };
        let mut split_of: Vec<Option<Split>> = vec![None; names.len()];
        for (row, class) in set.rows() {
            let split = *split_of[class].get_or_insert(parts[row]);
            if split != parts[row] {
                let message = format!(
                    "class `{}` has rows for {split} and for {}, but the protocol is `new_classes`; list the \
                     classes in `data.train_classes` …, leave the splits of rows out, or take `data.protocol \
                     = \"new_items\"`",
                    names[class], parts[row]
                );
                return Err(Error::data(&set.path, message));
            }
        }
        let of = |split| {
            all.iter()
                .copied()
                .filter(|&class| split_of[class] == Some(split))
                .collect()
        };
        let by = if self.has_split_paths() {
            "files of rows"
        } else {
            "column of rows"
        };
        Ok((Split::ALL.map(of), by))
    }

    /// Rows of each class: by split where items are split, else all of them as those of training.
    fn pools(&self, set: &FeatureSet) -> Vec<[Vec<u32>; 3]> {
        let mut pools = vec![<[Vec<u32>; 3]>::default(); set.classes.len()];
        let parts = self.parts(set);
        for (row, class) in set.rows() {
            let split = match (self.protocol, parts) {
                (Protocol::NewClasses, _) => Split::Train,
                (Protocol::NewItems, Some(parts)) => parts[row],
                (Protocol::NewItems, None) => self.fractions().split_at(place_of_row(row)),
            };
            pools[class][split.position()].push(row as u32);
        }
        pools
    }
}

/// A number in \[0, 1) that depends on the number of a row alone.
fn place_of_row(row: usize) -> f64 {
    Seed(0)
        .stream("features/row", row as u64, "split")
        .uniform()
}

impl SourceSettings for FeaturesSettings {
    const NAME: &str = "features";
    const SUMMARY: &str = "vectors with labels (npz, npy, safetensors, csv, parquet, pt): new classes, or new items of the same";

    fn open(&self, data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build(data_folder)?))
    }
}

/// Vectors by class; an item is a vector.
pub struct FeatureSource {
    settings: FeaturesSettings,
    set: FeatureSet,
    /// The classes of each split.
    splits: [Vec<usize>; 3],
    /// Rows of each class, by the split of the row.
    pools: Vec<[Vec<u32>; 3]>,
    /// `[classes, v]`.
    class_vectors: Vec<f32>,
    vector_width: usize,
    content_hash: String,
    described: Value,
}

/// The rows that support and queries of a class are drawn from.
struct Pools<'a> {
    support: &'a [u32],
    /// None where they are drawn from the rows that the support leaves.
    query: Option<&'a [u32]>,
}

impl FeatureSource {
    /// Names of the classes of a split, in order.
    pub fn class_names(&self, split: Split) -> impl Iterator<Item = &str> {
        let classes = self.splits[split.position()].iter();
        classes.map(|&class| self.set.classes[class].as_str())
    }

    fn pools_of(&self, split: Split, class: usize) -> Pools<'_> {
        let pools = &self.pools[class];
        let own = self.settings.protocol == Protocol::NewItems && split != Split::Train;
        Pools {
            support: &pools[Split::Train.position()],
            query: own.then(|| pools[split.position()].as_slice()),
        }
    }

    /// The class of a split with the fewest items by `count`, and how many.
    fn smallest(&self, split: Split, count: impl Fn(&Pools<'_>) -> usize) -> Option<Smallest<'_>> {
        let classes = self.splits[split.position()].iter();
        let counts = classes.map(|&class| (count(&self.pools_of(split, class)), class));
        let (items, class) = counts.min()?;
        Some(Smallest {
            items,
            name: Some(&self.set.classes[class]),
        })
    }

    /// Draws the support and the queries of a class.
    fn draw(
        &self,
        pools: &Pools<'_>,
        (shot, query): (usize, usize),
        items: &mut Stream,
    ) -> (Vec<usize>, Vec<usize>) {
        let rows = |pool: &[u32], drawn: Vec<usize>| -> Vec<usize> {
            drawn.into_iter().map(|item| pool[item] as usize).collect()
        };
        if let Some(own) = pools.query {
            let support = items.choose_distinct(pools.support.len(), shot);
            let queries = items.choose_distinct(own.len(), query);
            return (rows(pools.support, support), rows(own, queries));
        }
        let count = pools.support.len();
        let shot = shot.min(count.saturating_sub(1));
        let mut drawn = rows(pools.support, items.choose_distinct(count, shot + query));
        let queries = drawn.split_off(shot);
        (drawn, queries)
    }

    /// A number of `least..=most`, or `most` where there is no least.
    fn between(least: usize, most: usize, stream: &mut Stream) -> usize {
        match least {
            0 => most,
            least => least + stream.below(most - least + 1),
        }
    }

    /// Checks that pools that are drawn from apart have enough.
    fn check_pools(&self, split: Split, shape: EpisodeShape) -> Result<()> {
        let least = |wanted: usize| match self.settings.fewer {
            Fewer::Refuse => wanted,
            Fewer::All => 1,
        };
        for (key, wanted, smallest) in [
            (
                "data.shot",
                shape.shot.0,
                self.smallest(split, |pools| pools.support.len()),
            ),
            (
                "data.query",
                shape.query.0,
                self.smallest(split, |pools| pools.query.map_or(usize::MAX, <[u32]>::len)),
            ),
        ] {
            let Some(smallest) = smallest.filter(|smallest| smallest.items < least(wanted)) else {
                continue;
            };
            let part = if key == "data.shot" {
                Split::Train
            } else {
                split
            };
            let (items, name) = (smallest.items, smallest.name.unwrap_or_default());
            let plural = if items == 1 { "" } else { "s" };
            let hint = match self.settings.fewer {
                Fewer::Refuse if items > 0 => "; `data.fewer = \"all\"` takes as many as there are",
                _ => "",
            };
            let expected = format!("class `{name}` has {items} {part} item{plural}{hint}");
            return Err(Error::setting(key, wanted, expected));
        }
        Ok(())
    }

    fn check_least(&self, shape: EpisodeShape) -> Result<()> {
        let FeaturesSettings {
            least_way,
            least_shot,
            ..
        } = self.settings;
        for (key, least, most, lowest) in [
            ("data.least_way", least_way, shape.way.0, 2),
            ("data.least_shot", least_shot, shape.shot.0, 1),
        ] {
            if least != 0 && !(lowest..=most).contains(&least) {
                let what = key.trim_start_matches("data.least_");
                let expected =
                    format!("must be 0, or in {lowest}..={most}, the {what} of these tasks");
                return Err(Error::setting(key, least, expected));
            }
        }
        Ok(())
    }

    /// Sets what the source says of itself; `split_by` is what splits classes or items.
    fn describe_as(&mut self, split_by: &str) {
        let FeaturesSettings {
            protocol,
            fewer,
            least_way,
            least_shot,
            ..
        } = self.settings;
        // The fractions matter only where hashes decide.
        let fraction = |fraction: f64| split_by.starts_with("hash").then_some(fraction);
        let settings = json!({
            "protocol": protocol,
            "split_by": split_by,
            "validation_fraction": fraction(self.settings.validation_fraction),
            "test_fraction": fraction(self.settings.test_fraction),
            "fewer": fewer,
            "least_way": least_way,
            "least_shot": least_shot,
        });
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("features 1\n{settings}\n{}\n", self.set.hash).as_bytes());
        hasher.update(format!("{:?}\n{}\n", self.splits, self.vector_width).as_bytes());
        for number in &self.class_vectors {
            hasher.update(&number.to_le_bytes());
        }
        self.content_hash = hasher.finalize().to_hex().to_string();
        let counts = |split: Split| {
            let smallest = self.smallest(split, |pools| pools.query.unwrap_or(pools.support).len());
            json!({
                "classes": self.splits[split.position()].len(),
                "smallest_class": smallest.map_or(0, |smallest| smallest.items),
            })
        };
        let mut described = json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "vectors": self.set.len(),
            "protocol": protocol,
            "train": counts(Split::Train),
            "validation": counts(Split::Validation),
            "test": counts(Split::Test),
            "settings": settings,
            "content_hash": self.content_hash,
        });
        for (key, note) in [
            ("rows_left_out", json!(self.set.left_out)),
            ("constant_columns", json!(self.set.constant)),
            ("class_vector_width", json!(self.vector_width)),
        ] {
            if note != json!(0) && note != json!({}) {
                described[key] = note;
            }
        }
        self.described = described;
    }
}

impl Source for FeatureSource {
    fn name(&self) -> &'static str {
        FeaturesSettings::NAME
    }

    fn task(&self) -> Task {
        Task::Classification
    }

    fn item_shape(&self) -> ItemShape {
        ItemShape {
            height: 1,
            width: 1,
            channels: self.set.width,
        }
    }

    fn classes(&self, split: Split) -> Option<usize> {
        Some(self.splits[split.position()].len())
    }

    fn items_per_class(&self) -> Option<usize> {
        let smallest = Split::ALL.into_iter().filter_map(|split| {
            self.smallest(split, |pools| pools.query.unwrap_or(pools.support).len())
        });
        smallest.map(|smallest| smallest.items).min()
    }

    fn extras(&self) -> Extras {
        let FeaturesSettings {
            fewer,
            least_way,
            least_shot,
            ..
        } = self.settings;
        Extras {
            items: fewer == Fewer::All || least_way > 0 || least_shot > 0,
            numbers: false,
            class_vector: self.vector_width,
        }
    }

    fn class_name(&self, class: ClassRef) -> Option<String> {
        self.set.classes.get(class.class as usize).cloned()
    }

    fn check(&self, split: Split, shape: EpisodeShape) -> Result<()> {
        let classes = self.splits[split.position()].len();
        self.check_least(shape)?;
        let apart = self.settings.protocol == Protocol::NewItems && split != Split::Train;
        if apart {
            check_classification(self.name(), split, shape, classes, None)?;
            return self.check_pools(split, shape);
        }
        let mut smallest = self.smallest(split, |pools| pools.support.len());
        if let (Fewer::All, Some(smallest)) = (self.settings.fewer, &mut smallest) {
            // Two items make a task; of more, any number will do.
            if smallest.items >= 2 {
                smallest.items = usize::MAX;
            }
        }
        check_classification(self.name(), split, shape, classes, smallest)
    }

    fn episode(
        &self,
        seed: Seed,
        split: Split,
        shape: EpisodeShape,
        index: u64,
    ) -> Result<Episode> {
        self.check(split, shape)?;
        let stream = |purpose: &str| seed.stream(split.scope(), index, purpose);
        let classes = &self.splits[split.position()];
        let mut sizes = stream("sizes");
        let way = Self::between(self.settings.least_way, shape.way.0, &mut sizes);
        let mut items = stream("items");
        let positions = stream("classes").choose_distinct(classes.len(), way);
        let chosen: Vec<usize> = positions
            .iter()
            .map(|&position| classes[position])
            .collect();
        let draws: Vec<(Vec<usize>, Vec<usize>)> = chosen
            .iter()
            .map(|&class| {
                let shot = Self::between(self.settings.least_shot, shape.shot.0, &mut sizes);
                let pools = self.pools_of(split, class);
                self.draw(&pools, (shot, shape.query.0), &mut items)
            })
            .collect();
        let references = chosen.iter().zip(&positions);
        let references = references.map(|(&class, &position)| ClassRef {
            class: class as u32,
            position: position as u32,
            quarter_turns: 0,
        });
        let failed = RefCell::new(None);
        let parts = draws
            .iter()
            .map(|(support, query)| (&support[..], &query[..]));
        let parts: Vec<(&[usize], &[usize])> = parts.collect();
        let write = |_: usize, row: usize, place: &mut [f32]| {
            if let Err(error) = self.set.read(row, place) {
                *failed.borrow_mut() = Some(error);
            }
        };
        let features = self.set.width;
        let mut episode =
            assemble_parts(index, shape, features, &parts, references.collect(), write);
        if let Some(error) = failed.into_inner() {
            return Err(Error::io(&self.set.path, "read", error));
        }
        if self.vector_width > 0 {
            let v = self.vector_width;
            let own = chosen
                .iter()
                .flat_map(|&class| &self.class_vectors[class * v..(class + 1) * v]);
            let mut vectors: Vec<f32> = own.copied().collect();
            vectors.resize(shape.way.0 * v, 0.0);
            episode.class_vectors = Some(vectors);
        }
        Ok(episode)
    }

    fn outsiders(
        &self,
        seed: Seed,
        split: Split,
        index: u64,
        count: usize,
    ) -> Result<Option<Vec<f32>>> {
        let rows = &self.set.outside[split.position()];
        if rows.len() < count {
            return Ok(None);
        }
        let mut stream = seed.stream(split.scope(), index, "outsiders");
        let drawn = stream.choose_distinct(rows.len(), count);
        let width = self.set.width;
        let mut numbers = vec![0.0; count * width];
        for (row, place) in drawn.into_iter().zip(numbers.chunks_exact_mut(width)) {
            let read = self.set.read(rows[row], place);
            read.map_err(|error| Error::io(&self.set.path, "read", error))?;
        }
        Ok(Some(numbers))
    }

    fn content_hash(&self) -> String {
        self.content_hash.clone()
    }

    fn describe(&self) -> Value {
        self.described.clone()
    }
}

impl std::fmt::Debug for FeatureSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FeatureSource")
            .field("description", &self.described)
            .finish_non_exhaustive()
    }
}
