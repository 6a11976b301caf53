//! Random projections of glyphs, with a number of training tasks to be set: Kirsch, Harrison,
//! Sohl-Dickstein and Metz, *General-purpose in-context learning by meta-learning transformers*, 2022,
//! section 4.
//!
//! A task is a random linear map of the images, and classes in an order that names them. The number of
//! training tasks says how much can be learned by heart: with few, a learner that knows them all needs
//! no support; with many, it has to learn from the support, and can then do so on tasks that are new.
//!
//! `y = Aᵀ (x − mean(x)) / deviation(x)`, `A` normal with variance `1 / pixels`, so that `y` has the scale
//! of 1. Training tasks are numbered from 0, and task `z` is a function of the world and of `z` alone:
//! growing their number keeps those there are. Their items are drawn anew in every episode. Every
//! validation and test episode is a task of its own, of classes that no training task has.
//!
//! # Differences from the paper
//! Tasks differ in their classes beside the map and the names; the images are drawn characters, and the
//! unseen tasks have unseen classes.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::draw::{ClassDraw, assemble};
use super::episode::{ClassRef, Episode, EpisodeShape, ItemShape, Split, Task};
use super::glyphs::{GlyphWorld, GlyphsSource};
use super::source::{Smallest, Source, SourceSettings, check_classification, settings_hash};
use crate::error::Result;
use crate::rng::{Seed, Stream};
use crate::settings;
use crate::settings::Settings;

settings! {
    /// Settings of [`ProjectedSource`].
    pub struct ProjectedSettings {
        /// Number of training tasks, at most 2^40; 0 for one task per episode.
        tasks: u64 = 0, between(0, 1_u64 << 40);
        /// Width of a projection.
        width: usize = 32, between(1, 4096);
        ..glyphs: GlyphWorld;
    }
}

impl ProjectedSettings {
    /// Checks the settings and makes the source.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a setting out of range.
    pub fn build(&self) -> Result<ProjectedSource> {
        self.check_ranges("data")?;
        Ok(ProjectedSource {
            settings: self.clone(),
            glyphs: self.glyphs.build()?,
        })
    }
}

impl SourceSettings for ProjectedSettings {
    const NAME: &str = "projected-glyphs";
    const SUMMARY: &str = "random projections of glyphs, a number of training tasks (Kirsch et al. 2022); needs no files";

    fn open(&self, _data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build()?))
    }
}

/// Projected characters; an item is a vector.
#[derive(Debug)]
pub struct ProjectedSource {
    settings: ProjectedSettings,
    glyphs: GlyphsSource,
}

/// Where a task comes from: an address in the seed tree.
struct Address {
    seed: Seed,
    scope: &'static str,
    number: u64,
}

impl Address {
    fn stream(&self, purpose: &str) -> Stream {
        self.seed.stream(self.scope, self.number, purpose)
    }
}

impl ProjectedSource {
    /// Number of the training task that an episode is of; none where it is a task of its own.
    pub fn task_number(&self, seed: Seed, split: Split, index: u64) -> Option<u64> {
        let known = split == Split::Train && self.settings.tasks > 0;
        let mut stream = seed.stream(split.scope(), index, "task");
        known.then(|| stream.below(self.settings.tasks as usize) as u64)
    }

    fn address(&self, seed: Seed, split: Split, index: u64) -> Address {
        match self.task_number(seed, split, index) {
            Some(number) => Address {
                seed: Seed(self.settings.glyphs.world),
                scope: "projected-glyphs/task",
                number,
            },
            None => Address {
                seed,
                scope: split.scope(),
                number: index,
            },
        }
    }

    /// `A` of a task, `[pixels, width]`, row-major.
    fn projection(&self, address: &Address) -> Vec<f32> {
        let pixels = self.glyphs.item_shape().features();
        let deviation = (1.0 / pixels as f64).sqrt();
        let mut stream = address.stream("projection");
        (0..pixels * self.settings.width)
            .map(|_| (deviation * stream.normal()) as f32)
            .collect()
    }
}

/// `y + a · x` into `y`; both have as many numbers. By indices, since this crate is built with few
/// optimisations, in which a zipped pair of iterators costs several times as much.
fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
    for k in 0..y.len() {
        y[k] += a * x[k];
    }
}

/// Subtracts the mean and divides by the standard deviation; an empty image stays empty.
fn standardise(image: &mut [f32]) {
    let count = image.len() as f32;
    let mean = image.iter().sum::<f32>() / count;
    image.iter_mut().for_each(|x| *x -= mean);
    let variance = image.iter().map(|x| x * x).sum::<f32>() / count;
    let scale = variance.max(1e-6).sqrt().recip();
    image.iter_mut().for_each(|x| *x *= scale);
}

impl Source for ProjectedSource {
    fn name(&self) -> &'static str {
        "projected-glyphs"
    }

    fn task(&self) -> Task {
        Task::Classification
    }

    fn item_shape(&self) -> ItemShape {
        ItemShape {
            height: 1,
            width: 1,
            channels: self.settings.width,
        }
    }

    fn classes(&self, split: Split) -> Option<usize> {
        self.glyphs.classes(split)
    }

    fn items_per_class(&self) -> Option<usize> {
        self.glyphs.items_per_class()
    }

    fn check(&self, split: Split, shape: EpisodeShape) -> Result<()> {
        let classes = self.classes(split).unwrap_or_default();
        let smallest = self.items_per_class().map(Smallest::unnamed);
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
        let address = self.address(seed, split, index);
        let classes = self.classes(split).unwrap_or_default();
        let drawers = self.items_per_class().unwrap_or(u32::MAX as usize);
        let mut items = seed.stream(split.scope(), index, "items");
        let draws: Vec<ClassDraw> = address
            .stream("classes")
            .choose_distinct(classes, shape.way.0)
            .into_iter()
            .map(|position| ClassDraw {
                position,
                items: items.choose_distinct(drawers, shape.shot.0 + shape.query.0),
            })
            .collect();
        let references = draws
            .iter()
            .map(|draw| ClassRef {
                class: GlyphsSource::class_number(split, draw.position),
                position: draw.position as u32,
                quarter_turns: 0,
            })
            .collect();
        let projection = self.projection(&address);
        let (pixels, width) = (self.glyphs.item_shape().features(), self.settings.width);
        let write = |label: usize, item: usize, place: &mut [f32]| {
            let mut image = vec![0.0; pixels];
            self.glyphs
                .write(split, draws[label].position, item, &mut image);
            standardise(&mut image);
            for (x, row) in image.into_iter().zip(projection.chunks_exact(width)) {
                add_scaled(place, x, row);
            }
        };
        Ok(assemble(index, shape, width, &draws, references, write))
    }

    fn content_hash(&self) -> String {
        let version = format!("projected-glyphs 1 of {}", self.glyphs.content_hash());
        settings_hash(&version, &self.settings.entries())
    }

    fn describe(&self) -> Value {
        let counts = |split: Split| json!({ "classes": self.classes(split) });
        json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "items_per_class": self.items_per_class(),
            "training_tasks": (self.settings.tasks > 0).then_some(self.settings.tasks),
            "train": counts(Split::Train),
            "validation": counts(Split::Validation),
            "test": counts(Split::Test),
            "settings": self.settings.to_value(),
            "content_hash": self.content_hash(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SHAPE: fn() -> EpisodeShape = || EpisodeShape::new(3, 1, 2);

    fn source(tasks: u64) -> ProjectedSource {
        let config = ProjectedSettings {
            tasks,
            width: 4,
            glyphs: GlyphWorld {
                image_size: 12,
                train_classes: 50,
                ..GlyphWorld::default()
            },
        };
        config.build().expect("valid")
    }

    fn episode(source: &ProjectedSource, split: Split, index: u64) -> Episode {
        source
            .episode(Seed(3), split, SHAPE(), index)
            .expect("fits")
    }

    /// A training task is its classes in their order and its map, whatever the episode, the seed of the
    /// run and the number of tasks; its items are drawn anew.
    #[test]
    fn a_training_task_comes_back() {
        let (few, more) = (source(4), source(9));
        let mut known = HashSet::new();
        for index in 0..60 {
            let number = few
                .task_number(Seed(3), Split::Train, index)
                .expect("one of 4");
            assert!(number < 4);
            known.insert(number);
            let here = few.address(Seed(3), Split::Train, index);
            let again = (0..).find(|&other| {
                other != index && more.task_number(Seed(8), Split::Train, other) == Some(number)
            });
            let again = again.expect("it comes back");
            let there = more.address(Seed(8), Split::Train, again);
            assert_eq!(few.projection(&here), more.projection(&there));
            let classes = episode(&few, Split::Train, index).classes;
            let other = more.episode(Seed(8), Split::Train, SHAPE(), again);
            assert_eq!(classes, other.expect("fits").classes);
        }
        assert_eq!(known.len(), 4);
    }

    /// Unseen tasks are each of their own, and so are training tasks without a limit.
    #[test]
    fn other_episodes_are_tasks_of_their_own() {
        for (source, split) in [(source(4), Split::Test), (source(0), Split::Train)] {
            let maps: Vec<Vec<f32>> = (0..20)
                .map(|index| {
                    assert_eq!(source.task_number(Seed(3), split, index), None);
                    source.projection(&source.address(Seed(3), split, index))
                })
                .collect();
            for (index, map) in maps.iter().enumerate() {
                assert!(!maps[..index].contains(map));
            }
        }
    }

    /// The map is linear, and of the scale of 1: 300 tasks, 36 numbers of variance near 1 in each.
    #[test]
    fn projections_have_the_scale_of_one() {
        let source = source(0);
        let squares: Vec<f32> = (0..300)
            .flat_map(|index| episode(&source, Split::Train, index).support.inputs)
            .map(|x| x * x)
            .collect();
        let mean = squares.iter().sum::<f32>() / squares.len() as f32;
        assert!((mean - 1.0).abs() < 0.15, "{mean}");
    }

    #[test]
    fn bad_settings_are_refused_by_name() {
        let bad = ProjectedSettings {
            width: 0,
            ..ProjectedSettings::default()
        };
        let message = bad.build().expect_err("no width").to_string();
        assert!(message.starts_with("`data.width = 0`"), "{message}");
    }
}
