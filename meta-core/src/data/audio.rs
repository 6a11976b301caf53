//! Sound as log-mel spectrograms: folders or zip archives of wav and flac files, or tones that are drawn.
//!
//! An item is `[frames, 1, filters + 1]`: a row for each window, with the logarithm of each filter's power and a 1.
//! Rows of zeros come after the last window of a shorter sound; encoders that read masks do not read them, and
//! every other one sees in the last number whether a window is there.
//!
//! The class of a file is the folder that it lies in, as for images.

mod decode;
mod mel;
mod tones;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::{Value, json};

use self::mel::{LogMel, MelSettings, resample};
use super::class_folders::ClassFolders;
use super::class_splits::{Fractions, Splits, by_files};
use super::draw::{assemble, draw_classes};
use super::episode::{ClassRef, Episode, EpisodeShape, ItemShape, Split, Task};
use super::image_archive::ImageArchive;
use super::image_files::resolve;
use super::source::{Smallest, Source, SourceSettings, check_classification};
use crate::error::{Error, Result};
use crate::files;
use crate::rng::Seed;
use crate::settings;
use crate::settings::Settings;

/// Enters the content hash: any change to what is computed must change it.
const VERSION: u32 = 1;
/// A file of more bytes is not a sound of a few-shot data set.
const MAXIMUM_BYTES: u64 = 1 << 28;
/// Endings of the names of files that are read.
const ENDINGS: [&str; 2] = ["wav", "flac"];
/// Folders nested deeper than this are no folders of classes.
const MAXIMUM_DEPTH: usize = 16;
/// The most samples of an item.
const MAXIMUM_SAMPLES: usize = 1 << 24;
/// The most numbers of all spectrograms.
const MAXIMUM_NUMBERS: usize = 1 << 29;

settings! {
    /// Settings of [`AudioSource`].
    ///
    /// Of a folder or zip archive, `.wav` and `.flac` files are read, whatever their rate, width and number of channels
    /// (whose mean is taken). Folders `train`, `val` and `test` around the classes are the splits. Relative paths start at
    /// the data folder when there is one, else at the working directory.
    pub struct AudioSettings {
        /// The folder or zip archive; empty for tones that are drawn.
        path: String = String::new();
        /// Samples in a second; sounds of another rate are resampled.
        rate: usize = 8000, between(1000, 192_000);
        /// Samples of a window.
        window: usize = 256, between(16, 65_536);
        /// Samples from the beginning of one window to that of the next.
        hop: usize = 128, between(1, 65_536);
        /// Triangular filters on the mel scale, from 0 to half the rate.
        filters: usize = 32, between(2, 512);
        /// Rows of an item: the windows of a sound, of which what comes after is left out.
        frames: usize = 60, between(2, 4096);
        /// Whether the numbers of each spectrogram are centred, and divided by their standard deviation.
        normalise: bool = true;
        /// Number of training classes, of tones.
        tone_train_classes: usize = 100, between(0, 10_000);
        /// Number of validation classes, of tones.
        tone_validation_classes: usize = 30, between(0, 10_000);
        /// Number of test classes, of tones.
        tone_test_classes: usize = 50, between(0, 10_000);
        /// Tones of each class.
        tones_per_class: usize = 40, between(2, 1_000_000);
        /// Seed of the tones: another number gives others.
        world: u64 = 0;
        /// File with the names of the training classes, one a line. When any of the three files is given, a
        /// split without a file has no classes, and a class in no file is not used.
        train_classes: String = String::new();
        /// File with the names of the validation classes.
        validation_classes: String = String::new();
        /// File with the names of the test classes.
        test_classes: String = String::new();
        /// Where neither files nor folders say so: the expected fraction of classes that validate, decided by
        /// the BLAKE3 hash of a name alone. In 0..=1.
        validation_fraction: f64 = 0.16;
        /// The expected fraction of classes that test, decided likewise. In 0..=1, and at most 1 together with
        /// `validation_fraction`.
        test_fraction: f64 = 0.2;
    }
}

impl AudioSettings {
    /// Reads the sounds.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting that cannot be used; [`Error::Data`] or [`Error::Io`], naming the file,
    /// for what is missing, is no wav or flac file or is shorter than a window, and for a class in two splits.
    pub fn build(&self, data_dir: Option<&Path>) -> Result<AudioSource> {
        self.check_ranges("data")?;
        self.fractions().check()?;
        if self.samples() > MAXIMUM_SAMPLES {
            let expected = format!(
                "comes to {} samples an item with `data.window` and `data.hop`; at most {MAXIMUM_SAMPLES} are read",
                self.samples()
            );
            return Err(Error::setting("data.frames", self.frames, expected));
        }
        let mel = LogMel::new(MelSettings {
            rate: self.rate,
            window: self.window,
            hop: self.hop,
            filters: self.filters,
        });
        let mut source = AudioSource {
            settings: self.clone(),
            mel,
            classes: Vec::new(),
            sounds: Vec::new(),
            splits: Splits::default(),
            content_hash: String::new(),
            split_by: "",
        };
        if self.path.is_empty() {
            source.draw_classes();
        } else {
            source.read(&resolve(&self.path, data_dir), data_dir)?;
        }
        source.content_hash = source.hash();
        Ok(source)
    }

    fn fractions(&self) -> Fractions {
        Fractions {
            validation: self.validation_fraction,
            test: self.test_fraction,
        }
    }

    fn class_lists(&self) -> [(Split, &str); 3] {
        [
            (Split::Train, &self.train_classes),
            (Split::Validation, &self.validation_classes),
            (Split::Test, &self.test_classes),
        ]
    }

    /// The seconds of a sound that an item has room for.
    fn seconds(&self) -> f64 {
        self.samples() as f64 / self.rate as f64
    }

    /// Samples of an item whose rows are all there.
    fn samples(&self) -> usize {
        self.window + (self.frames - 1) * self.hop
    }
}

impl SourceSettings for AudioSettings {
    const NAME: &str = "audio";
    const SUMMARY: &str =
        "sounds (wav, flac) as log-mel spectrograms; without files, tones that are drawn";

    fn open(&self, data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build(data_folder)?))
    }
}

/// Sounds by class; an item is a sequence of windows.
pub struct AudioSource {
    settings: AudioSettings,
    mel: LogMel,
    classes: Vec<String>,
    /// Rows of the sounds of each class; nothing of tones, which are made when they are asked for.
    sounds: Vec<Vec<Vec<f32>>>,
    splits: Splits,
    content_hash: String,
    split_by: &'static str,
}

/// The files of sounds of a folder or an archive.
enum Files {
    Folder(PathBuf, Vec<String>),
    Zip(PathBuf, ImageArchive, Vec<(String, usize)>),
}

fn is_sound(name: &str) -> bool {
    let own = name.rsplit('/').next().unwrap_or(name);
    let ends = own.rsplit_once('.').map(|(_, ending)| ending);
    let is_hidden = name
        .split('/')
        .any(|part| part.starts_with('.') || part == "__MACOSX");
    let is_read = |ending: &str| ENDINGS.iter().any(|own| ending.eq_ignore_ascii_case(own));
    !is_hidden && ends.is_some_and(is_read)
}

impl Files {
    fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let mut names = Vec::new();
            walk(path, "", 0, &mut names)?;
            names.sort();
            return Ok(Files::Folder(path.to_owned(), names));
        }
        let archive = ImageArchive::open(path)?;
        let mut files = archive.files()?;
        files.retain(|(name, _)| is_sound(name));
        files.sort();
        Ok(Files::Zip(path.to_owned(), archive, files))
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Files::Folder(_, names) => names.iter().map(String::as_str).collect(),
            Files::Zip(_, _, files) => files.iter().map(|(name, _)| name.as_str()).collect(),
        }
    }

    /// The bytes of a file.
    fn read(&self, position: usize) -> Result<Vec<u8>> {
        match self {
            Files::Folder(path, names) => {
                files::read_regular(&path.join(&names[position]), MAXIMUM_BYTES)
            }
            Files::Zip(_, archive, entries) => {
                let (name, place) = &entries[position];
                archive.clone().read(*place, name, MAXIMUM_BYTES)
            }
        }
    }

    /// What an error says of a file.
    fn fault(&self, position: usize, message: &str) -> Error {
        match self {
            Files::Folder(path, names) => Error::data(path.join(&names[position]), message),
            Files::Zip(path, _, files) => {
                Error::data(path, format!("`{}` {message}", files[position].0))
            }
        }
    }
}

/// The files of sounds below a folder, by their paths in it.
fn walk(root: &Path, below: &str, depth: usize, names: &mut Vec<String>) -> Result<()> {
    let folder = root.join(below);
    if depth > MAXIMUM_DEPTH {
        let message = format!("lies deeper than {MAXIMUM_DEPTH} folders");
        return Err(Error::data(folder, message));
    }
    let failed = |error| Error::io(&folder, "list", error);
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let own = entry.file_name();
        let Some(own) = own.to_str() else {
            return Err(Error::data(entry.path(), "has a name that is not UTF-8"));
        };
        let name = match below {
            "" => own.to_owned(),
            below => format!("{below}/{own}"),
        };
        // A link is neither, so none leads out of the folder.
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() && !own.starts_with('.') {
            walk(root, &name, depth + 1, names)?;
        } else if kind.is_file() && is_sound(&name) {
            names.push(name);
        }
    }
    Ok(())
}

impl AudioSource {
    fn draw_classes(&mut self) {
        let counts = [
            self.settings.tone_train_classes,
            self.settings.tone_validation_classes,
            self.settings.tone_test_classes,
        ];
        // Growing a split keeps its classes: a tone hangs on its place in the split.
        for split in Split::ALL {
            let first = self.classes.len();
            let names = (0..counts[split.position()]).map(|class| format!("{split} motif {class}"));
            self.classes.extend(names);
            self.splits[split.position()] = (first..self.classes.len()).collect();
        }
        self.split_by = "world";
    }

    fn read(&mut self, path: &Path, data_dir: Option<&Path>) -> Result<()> {
        let files = Files::open(path)?;
        let refuse = |message: String| Error::data(path, message);
        let folders = ClassFolders::of(files.names());
        folders.check_names().map_err(refuse)?;
        if folders.classes.is_empty() {
            return Err(refuse("holds no `class/sound.wav` or `.flac`".to_owned()));
        }
        let lists = self.settings.class_lists();
        let names: Vec<&str> = folders.classes.keys().map(String::as_str).collect();
        let layout = folders.splits().map_err(refuse)?;
        let is_listed = lists.iter().any(|(_, file)| !file.is_empty());
        (self.splits, self.split_by) = match layout {
            _ if is_listed => (by_files(lists, &names, path, data_dir)?, "files of classes"),
            Some(layout) => {
                if let Some((class, _)) = folders.on_two_sides(&layout) {
                    let message = format!("class `{class}` lies in the folders of two splits");
                    return Err(refuse(message));
                }
                let of = |split| {
                    let classes = 0..layout.len();
                    classes.filter(|&class| layout[class] == split).collect()
                };
                (Split::ALL.map(of), "folders")
            }
            None => {
                let by_name = self.settings.fractions().by_name(names.iter().copied());
                (by_name, "hash of the class name")
            }
        };
        let (mel, settings) = (&self.mel, &self.settings);
        let sounds: Result<Vec<Vec<f32>>> = (0..files.names().len())
            .into_par_iter()
            .map(|position| {
                let bytes = files.read(position)?;
                let fault = |message: String| files.fault(position, &message);
                let sound = decode::decode(&bytes, settings.seconds() + 1.0).map_err(fault)?;
                let samples = resample(&sound.samples, sound.rate, settings.rate);
                let rows = spectrogram(mel, settings, &samples);
                match rows.is_empty() {
                    false => Ok(rows),
                    true => {
                        let (own, window) = (samples.len(), settings.window);
                        Err(fault(format!(
                            "has {own} samples, and a window has {window}"
                        )))
                    }
                }
            })
            .collect();
        let mut sounds = sounds?;
        let numbers: usize = sounds.iter().map(Vec::len).sum();
        if numbers > MAXIMUM_NUMBERS {
            return Err(refuse(format!(
                "comes to {numbers} numbers, and at most {MAXIMUM_NUMBERS} are read"
            )));
        }
        for (name, positions) in folders.classes {
            let own = positions
                .into_iter()
                .map(|place| std::mem::take(&mut sounds[place]));
            self.sounds.push(own.collect());
            self.classes.push(name);
        }
        Ok(())
    }

    /// Items of a class.
    fn items(&self, class: usize) -> usize {
        match self.sounds.get(class) {
            Some(sounds) => sounds.len(),
            None => self.settings.tones_per_class,
        }
    }

    fn smallest(&self, split: Split) -> Option<Smallest<'_>> {
        let classes = self.splits[split.position()].iter();
        let class = classes.min_by_key(|&&class| self.items(class))?;
        Some(Smallest {
            items: self.items(*class),
            name: Some(&self.classes[*class]),
        })
    }

    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let AudioSettings {
            rate,
            window,
            hop,
            filters,
            frames,
            normalise,
            tones_per_class,
            world,
            ..
        } = &self.settings;
        let head = json!([
            rate,
            window,
            hop,
            filters,
            frames,
            normalise,
            self.classes,
            self.splits
        ]);
        hasher.update(format!("audio {VERSION}\n{head}\n").as_bytes());
        if self.sounds.is_empty() {
            hasher.update(
                json!(["tones", tones_per_class, world])
                    .to_string()
                    .as_bytes(),
            );
        }
        for rows in self.sounds.iter().flatten() {
            hasher.update(&(rows.len() as u64).to_le_bytes());
            for number in rows {
                hasher.update(&number.to_le_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// The rows of an item, each with a 1 behind it.
fn spectrogram(mel: &LogMel, settings: &AudioSettings, samples: &[f32]) -> Vec<f32> {
    let mut rows = mel.rows(samples, settings.frames);
    if settings.normalise && !rows.is_empty() {
        let count = rows.len() as f64;
        let mean = rows.iter().map(|&number| f64::from(number)).sum::<f64>() / count;
        let squares = rows
            .iter()
            .map(|&number| (f64::from(number) - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        // Silence is the same everywhere.
        let deviation = if deviation > 1e-6 { deviation } else { 1.0 };
        for number in &mut rows {
            *number = ((f64::from(*number) - mean) / deviation) as f32;
        }
    }
    let rows = rows.chunks_exact(settings.filters);
    rows.flat_map(|row| row.iter().copied().chain([1.0]))
        .collect()
}

impl Source for AudioSource {
    fn name(&self) -> &'static str {
        AudioSettings::NAME
    }

    fn task(&self) -> Task {
        Task::Classification
    }

    fn item_shape(&self) -> ItemShape {
        ItemShape {
            height: self.settings.frames,
            width: 1,
            channels: self.settings.filters + 1,
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
        let items = |position: usize| self.items(classes[position]);
        let draws = draw_classes(seed, split, shape, index, classes.len(), items);
        let references = draws.iter().map(|draw| ClassRef {
            class: classes[draw.position] as u32,
            position: draw.position as u32,
            quarter_turns: 0,
        });
        let references = references.collect();
        let features = self.item_shape().features();
        let write = |label: usize, item: usize, place: &mut [f32]| {
            let position = draws[label].position;
            let drawn;
            let rows = match self.sounds.get(classes[position]) {
                Some(sounds) => &sounds[item],
                None => {
                    let (rate, length) = (self.settings.rate, self.settings.samples());
                    let world = Seed(self.settings.world);
                    let samples = tones::tone(world, split, [position, item], rate, length);
                    drawn = spectrogram(&self.mel, &self.settings, &samples);
                    &drawn
                }
            };
            place[..rows.len()].copy_from_slice(rows);
        };
        Ok(assemble(index, shape, features, &draws, references, write))
    }

    fn content_hash(&self) -> String {
        self.content_hash.clone()
    }

    fn describe(&self) -> Value {
        let counts = |split: Split| {
            json!({
                "classes": self.splits[split.position()].len(),
                "smallest_class": self.smallest(split).map_or(0, |smallest| smallest.items),
            })
        };
        json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "sounds": self.sounds.iter().map(Vec::len).sum::<usize>(),
            "train": counts(Split::Train),
            "validation": counts(Split::Validation),
            "test": counts(Split::Test),
            "split_by": self.split_by,
            "settings": self.settings.to_value(),
            "content_hash": self.content_hash,
        })
    }
}
