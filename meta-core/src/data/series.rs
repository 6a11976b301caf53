//! Class-labelled time series of one or many channels, in the layouts of the UCR and UEA archives.
//!
//! An item is `[l, 1, c + 1]`: a row for each step, with the value of each channel and a 1. Rows of zeros come
//! after the last step of a shorter series, and stand for steps that are not there; encoders that read masks
//! do not read them ([`Steps::padding`](crate::nn::encoder::Steps::padding)). Every other encoder sees in the
//! last number whether a step is there.
//!
//! A task has classes of one data set, or of several ([`SeriesSettings::across`]).

mod read;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use self::read::{RawSeries, read};
use super::class_folders::compose;
use super::class_splits::{Splits, by_files};
use super::draw::{ClassDraw, assemble, draw_classes};
use super::episode::{ClassRef, Episode, EpisodeShape, ItemShape, Split, Task};
use super::image_files::resolve;
use super::source::{Smallest, Source, SourceSettings, check_classification};
use crate::error::{Error, Result};
use crate::rng::Seed;
use crate::settings::Settings;

pub use settings::{LabelPlace, MissingValues, SeriesFit, SeriesSettings};

/// The most numbers of all series.
const MAXIMUM_NUMBERS: usize = 1 << 29;

impl SeriesSettings {
    /// Reads the series.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting that cannot be used; [`Error::Data`] or [`Error::Io`], naming file and
    /// line, for files that are missing or damaged, numbers that are none, series of one point, channels that
    /// differ, and names of sets or classes without series.
    pub fn build(&self, data_dir: Option<&Path>) -> Result<SeriesSource> {
        self.check()?;
        let found = Found::open(self, data_dir)?;
        found.check_sets(self)?;
        let (splits, split_by) = self.split_classes(&found, data_dir)?;
        let steps = match self.length {
            0 => found.longest,
            length => length,
        };
        let mut source = SeriesSource {
            settings: self.clone(),
            steps,
            channels: found.channels,
            sets: sets_of(&splits, &found),
            classes: found.classes.keys().cloned().collect(),
            series: found
                .classes
                .into_values()
                .map(|class| class.series)
                .collect(),
            splits,
            content_hash: String::new(),
            described: Value::Null,
        };
        source.describe_as(split_by);
        Ok(source)
    }

    /// The classes of each split, and by what they are split.
    fn split_classes(
        &self,
        found: &Found,
        data_dir: Option<&Path>,
    ) -> Result<(Splits, &'static str)> {
        let names: Vec<&str> = found.classes.keys().map(String::as_str).collect();
        let (mut splits, by) = if self.has_class_lists() {
            let lists = by_files(self.class_lists(), &names, &found.path, data_dir)?;
            (lists, "files of classes")
        } else if self.is_split_by_sets() {
            let mut splits = Splits::default();
            for (position, class) in found.classes.values().enumerate() {
                let split = if self.test_sets.contains(&class.set) {
                    Split::Test
                } else if self.validation_sets.contains(&class.set) {
                    Split::Validation
                } else {
                    Split::Train
                };
                splits[split.position()].push(position);
            }
            (splits, "data set")
        } else {
            (self.fractions().by_name(names), "hash of the class name")
        };
        let counts: Vec<usize> = found
            .classes
            .values()
            .map(|class| class.series.len())
            .collect();
        for split in &mut splits {
            split.retain(|&class| counts[class] >= self.least_series);
        }
        Ok((splits, by))
    }

    /// A series as an item has it: the steps that are there, row by row.
    fn prepare(&self, mut channels: Vec<Vec<f32>>) -> Vec<f32> {
        if self.missing == MissingValues::Interpolate {
            channels.iter_mut().for_each(|channel| interpolate(channel));
        }
        if self.normalise {
            channels.iter_mut().for_each(|channel| normalise(channel));
        }
        if self.fit == SeriesFit::Resample && self.length > 0 {
            for channel in &mut channels {
                *channel = resample(channel, self.length);
            }
        }
        let length = channels.first().map_or(0, Vec::len);
        let length = if self.length > 0 {
            length.min(self.length)
        } else {
            length
        };
        let mut rows = Vec::with_capacity(length * (channels.len() + 1));
        for step in 0..length {
            let is_there = channels.iter().any(|channel| !channel[step].is_nan());
            // Not a number becomes 0.
            rows.extend(
                channels
                    .iter()
                    .map(|channel| channel[step])
                    .map(|x| if x.is_nan() { 0.0 } else { x }),
            );
            rows.push(f32::from(u8::from(is_there)));
        }
        rows
    }
}

/// Fills in missing values: on straight lines, and with the first or the last value before and after.
pub(super) fn interpolate(channel: &mut [f32]) {
    let there: Vec<usize> = (0..channel.len())
        .filter(|&step| !channel[step].is_nan())
        .collect();
    let (Some(&first), Some(&last)) = (there.first(), there.last()) else {
        // A channel without any value.
        channel.fill(0.0);
        return;
    };
    for pair in there.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let (low, high) = (channel[from], channel[to]);
        for (step, value) in channel[from..to].iter_mut().enumerate().skip(1) {
            let share = step as f32 / (to - from) as f32;
            *value = low + share * (high - low);
        }
    }
    let (low, high) = (channel[first], channel[last]);
    channel[..first].fill(low);
    channel[last + 1..].fill(high);
}

/// Mean 0 and standard deviation 1 of the values that are there; 0 where they are all the same.
fn normalise(channel: &mut [f32]) {
    let there = || {
        channel
            .iter()
            .filter(|number| !number.is_nan())
            .map(|&number| f64::from(number))
    };
    let count = there().count().max(1) as f64;
    let mean = there().sum::<f64>() / count;
    let variance = there()
        .map(|number| (number - mean) * (number - mean))
        .sum::<f64>()
        / count;
    // Below this it is rounding of the numbers in the file.
    let deviation = if variance.sqrt() > 1e-7 * mean.abs().max(1e-30) {
        variance.sqrt()
    } else {
        f64::INFINITY
    };
    for number in channel.iter_mut() {
        *number = ((f64::from(*number) - mean) / deviation) as f32;
    }
}

/// As many points at even distances, the first and the last as they are.
fn resample(channel: &[f32], length: usize) -> Vec<f32> {
    let last = channel.len() - 1;
    let point = |step: usize| {
        let place = (step * last) as f64 / (length - 1) as f64;
        let (before, share) = (place.floor() as usize, place.fract() as f32);
        let (low, high) = (channel[before], channel[(before + 1).min(last)]);
        // A missing neighbour that does not count is not asked.
        if share == 0.0 {
            low
        } else {
            low + share * (high - low)
        }
    };
    (0..length).map(point).collect()
}

/// All series of the files.
#[derive(Default)]
struct Found {
    /// The first file.
    path: PathBuf,
    channels: usize,
    longest: usize,
    numbers: usize,
    classes: BTreeMap<String, Class>,
}

struct Class {
    set: String,
    /// Rows of each series.
    series: Vec<Vec<f32>>,
}

impl Found {
    fn open(settings: &SeriesSettings, data_dir: Option<&Path>) -> Result<Self> {
        let mut found = Found::default();
        for file in &settings.files {
            let path = resolve(file, data_dir);
            if found.path.as_os_str().is_empty() {
                found.path.clone_from(&path);
            }
            let wants =
                |set: &str| settings.sets.is_empty() || settings.sets.iter().any(|own| own == set);
            read(&path, settings.label, &wants, &mut |series, place| {
                let fault = |reason: String| Error::data(&path, format!("{place} {reason}"));
                found.take(settings, series).map_err(fault)
            })?;
        }
        if found.classes.is_empty() {
            return Err(Error::data(
                &found.path,
                "holds no series of the sets that are wanted",
            ));
        }
        Ok(found)
    }

    /// An error is what is wrong, to put behind its place.
    fn take(&mut self, settings: &SeriesSettings, series: RawSeries) -> Result<(), String> {
        let channels = series.channels.len();
        if self.classes.is_empty() {
            self.channels = channels;
        }
        if channels != self.channels {
            let expected = self.channels;
            return Err(format!(
                "has {channels} channels, and those before have {expected}"
            ));
        }
        let rows = settings.prepare(series.channels);
        self.longest = self.longest.max(rows.len() / (channels + 1));
        self.numbers += rows.len();
        if self.numbers > MAXIMUM_NUMBERS {
            return Err(format!(
                "is beyond the {MAXIMUM_NUMBERS} numbers that are read"
            ));
        }
        let name = compose(&format!("{}/{}", series.set, series.label));
        let class = self.classes.entry(name).or_insert_with(|| Class {
            set: series.set,
            series: Vec::new(),
        });
        class.series.push(rows);
        Ok(())
    }

    /// Refuses names of sets that there are none of.
    fn check_sets(&self, settings: &SeriesSettings) -> Result<()> {
        let mut known: Vec<&str> = self
            .classes
            .values()
            .map(|class| class.set.as_str())
            .collect();
        known.dedup();
        let named = settings
            .sets
            .iter()
            .chain(&settings.validation_sets)
            .chain(&settings.test_sets);
        for set in named {
            if !known.contains(&set.as_str()) {
                let missing = Error::unknown("set", set, known.iter().copied());
                return Err(Error::data(&self.path, missing.to_string()));
            }
        }
        Ok(())
    }
}

/// A data set of a split: its name and the positions of its classes in the split.
type Set = (String, Vec<usize>);

/// The data sets of each split, in order.
fn sets_of(splits: &Splits, found: &Found) -> [Vec<Set>; 3] {
    let classes: Vec<&Class> = found.classes.values().collect();
    Split::ALL.map(|split| {
        let mut sets: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (position, &class) in splits[split.position()].iter().enumerate() {
            sets.entry(&classes[class].set).or_default().push(position);
        }
        sets.into_iter()
            .map(|(set, positions)| (set.to_owned(), positions))
            .collect()
    })
}

impl SourceSettings for SeriesSettings {
    const NAME: &str = "series";
    const SUMMARY: &str =
        "time series with labels (UCR and UEA tsv, ts, csv, tar.gz), of one or many channels";

    fn open(&self, data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build(data_folder)?))
    }
}

/// Series by class; an item is a sequence of steps.
pub struct SeriesSource {
    settings: SeriesSettings,
    /// Rows of an item.
    steps: usize,
    channels: usize,
    classes: Vec<String>,
    /// Of each class, the rows of its series.
    series: Vec<Vec<Vec<f32>>>,
    splits: Splits,
    sets: [Vec<Set>; 3],
    content_hash: String,
    described: Value,
}

impl SeriesSource {
    /// Names of the classes of a split, in order.
    pub fn class_names(&self, split: Split) -> impl Iterator<Item = &str> {
        let classes = self.splits[split.position()].iter();
        classes.map(|&class| self.classes[class].as_str())
    }

    fn smallest(&self, split: Split) -> Option<Smallest<'_>> {
        let classes = self.splits[split.position()].iter();
        let class = classes.min_by_key(|&&class| self.series[class].len())?;
        Some(Smallest {
            items: self.series[*class].len(),
            name: Some(&self.classes[*class]),
        })
    }

    /// Draws classes and items: of a set that has enough classes, each as often, or of all classes.
    fn draw(&self, seed: Seed, split: Split, shape: EpisodeShape, index: u64) -> Vec<ClassDraw> {
        let classes = &self.splits[split.position()];
        let items = |position: usize| self.series[classes[position]].len();
        if self.settings.across {
            return draw_classes(seed, split, shape, index, classes.len(), items);
        }
        let sets = &self.sets[split.position()];
        let large: Vec<&Set> = sets
            .iter()
            .filter(|(_, own)| own.len() >= shape.way.0)
            .collect();
        let chosen = seed
            .stream(split.scope(), index, "sets")
            .below(large.len().max(1));
        let own = large.get(chosen).map_or(&[][..], |(_, own)| own);
        let mut draws = draw_classes(seed, split, shape, index, own.len(), |class| {
            items(own[class])
        });
        for draw in &mut draws {
            draw.position = own[draw.position];
        }
        draws
    }

    /// Sets what the source says of itself.
    fn describe_as(&mut self, split_by: &str) {
        let mut hasher = blake3::Hasher::new();
        let head = json!([
            self.steps,
            self.channels,
            self.settings.across,
            self.classes,
            self.splits
        ]);
        hasher.update(format!("series 1\n{head}\n").as_bytes());
        for class in &self.series {
            hasher.update(&(class.len() as u64).to_le_bytes());
            for rows in class {
                hasher.update(&(rows.len() as u64).to_le_bytes());
                for number in rows {
                    hasher.update(&number.to_le_bytes());
                }
            }
        }
        self.content_hash = hasher.finalize().to_hex().to_string();
        let counts = |split: Split| {
            let sets = self.sets[split.position()].iter();
            let sets: BTreeMap<&str, usize> =
                sets.map(|(set, own)| (set.as_str(), own.len())).collect();
            json!({
                "classes": self.splits[split.position()].len(),
                "smallest_class": self.smallest(split).map_or(0, |smallest| smallest.items),
                "classes_of_sets": sets,
            })
        };
        self.described = json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "series": self.series.iter().map(Vec::len).sum::<usize>(),
            "channels_of_series": self.channels,
            "train": counts(Split::Train),
            "validation": counts(Split::Validation),
            "test": counts(Split::Test),
            "split_by": split_by,
            "settings": self.settings.to_value(),
            "content_hash": self.content_hash,
        });
    }
}

impl Source for SeriesSource {
    fn name(&self) -> &'static str {
        SeriesSettings::NAME
    }

    fn task(&self) -> Task {
        Task::Classification
    }

    fn item_shape(&self) -> ItemShape {
        ItemShape {
            height: self.steps,
            width: 1,
            channels: self.channels + 1,
        }
    }

    fn classes(&self, split: Split) -> Option<usize> {
        Some(self.splits[split.position()].len())
    }

    fn items_per_class(&self) -> Option<usize> {
        let smallest = Split::ALL
            .into_iter()
            .filter_map(|split| self.smallest(split));
        smallest.map(|smallest| smallest.items).min()
    }

    fn class_name(&self, class: ClassRef) -> Option<String> {
        self.classes.get(class.class as usize).cloned()
    }

    fn check(&self, split: Split, shape: EpisodeShape) -> Result<()> {
        let classes = self.splits[split.position()].len();
        let largest = self.sets[split.position()]
            .iter()
            .map(|(set, own)| (own.len(), set));
        if let Some((own, set)) = largest.max()
            && !self.settings.across
            && own < shape.way.0
        {
            let expected = format!(
                "must be at most {own}, the {split} classes of `{set}`, which has the most; `data.across = \
                 true` draws classes of several sets"
            );
            return Err(Error::setting("data.way", shape.way, expected));
        }
        check_classification(self.name(), split, shape, classes, self.smallest(split))
    }

    fn episode(
        &self,
        seed: Seed,
        split: Split,
        shape: EpisodeShape,
        index: u64,
    ) -> Result<Episode> {
        self.check(split, shape)?;
        let classes = &self.splits[split.position()];
        let draws = self.draw(seed, split, shape, index);
        let references = draws.iter().map(|draw| ClassRef {
            class: classes[draw.position] as u32,
            position: draw.position as u32,
            quarter_turns: 0,
        });
        let features = self.item_shape().features();
        let write = |label: usize, item: usize, place: &mut [f32]| {
            let rows = &self.series[classes[draws[label].position]][item];
            let length = rows.len().min(place.len());
            place[..length].copy_from_slice(&rows[..length]);
        };
        let references = references.collect();
        Ok(assemble(index, shape, features, &draws, references, write))
    }

    fn content_hash(&self) -> String {
        self.content_hash.clone()
    }

    fn describe(&self) -> Value {
        self.described.clone()
    }
}

impl std::fmt::Debug for SeriesSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SeriesSource")
            .field("description", &self.described)
            .finish_non_exhaustive()
    }
}
