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

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::draw::{ClassDraw, assemble};
use super::episode::{ClassRef, Episode, EpisodeShape, ItemShape, Split, Task};
use super::glyphs::{GlyphsConfig, GlyphsSource};
use super::source::{Source, check_classification, config_value, settings_hash};
use crate::error::{Error, Result};
use crate::rng::{Seed, Stream};

/// Settings of [`ProjectedSource`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectedConfig {
    /// Number of training tasks, at most 2^40; 0 for one task per episode.
    pub tasks: u64,
    /// Width of a projection, in 1..=4096.
    pub width: usize,
    /// As in `glyphs`: height and width of the images in pixels.
    pub image_size: usize,
    /// As in `glyphs`: number of training classes.
    pub train_classes: usize,
    /// As in `glyphs`: number of validation classes.
    pub validation_classes: usize,
    /// As in `glyphs`: number of test classes.
    pub test_classes: usize,
    /// As in `glyphs`: drawers of each class; 0 for no limit.
    pub items_per_class: usize,
    /// As in `glyphs`: how much drawers differ.
    pub variation: f64,
    /// As in `glyphs`: seed of the world, here of the training tasks, too.
    pub world: u64,
}

impl Default for ProjectedConfig {
    fn default() -> Self {
        let glyphs = GlyphsConfig::default();
        ProjectedConfig {
            tasks: 0,
            width: 32,
            image_size: glyphs.image_size,
            train_classes: glyphs.train_classes,
            validation_classes: glyphs.validation_classes,
            test_classes: glyphs.test_classes,
            items_per_class: glyphs.items_per_class,
            variation: glyphs.variation,
            world: glyphs.world,
        }
    }
}

impl ProjectedConfig {
    /// Checks the settings and makes the source.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting out of range.
    pub fn build(&self) -> Result<ProjectedSource> {
        const TASKS: u64 = 1 << 40;
        if self.tasks > TASKS {
            return Err(Error::setting(
                "data.tasks",
                self.tasks,
                format!("must be at most 2^40 = {TASKS}"),
            ));
        }
        if !(1..=4096).contains(&self.width) {
            return Err(Error::setting(
                "data.width",
                self.width,
                "must be in 1..=4096",
            ));
        }
        let glyphs = GlyphsConfig {
            image_size: self.image_size,
            train_classes: self.train_classes,
            validation_classes: self.validation_classes,
            test_classes: self.test_classes,
            items_per_class: self.items_per_class,
            variation: self.variation,
            world: self.world,
            side: false,
        };
        Ok(ProjectedSource {
            config: self.clone(),
            glyphs: glyphs.build()?,
        })
    }
}

/// Projected characters; an item is a vector.
#[derive(Debug)]
pub struct ProjectedSource {
    config: ProjectedConfig,
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
        let known = split == Split::Train && self.config.tasks > 0;
        let mut stream = seed.stream(split.scope(), index, "task");
        known.then(|| stream.below(self.config.tasks as usize) as u64)
    }

    fn address(&self, seed: Seed, split: Split, index: u64) -> Address {
        match self.task_number(seed, split, index) {
            Some(number) => Address {
                seed: Seed(self.config.world),
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
        (0..pixels * self.config.width)
            .map(|_| (deviation * stream.normal()) as f32)
            .collect()
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
            channels: self.config.width,
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
        check_classification(self.name(), split, shape, classes, self.items_per_class())
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
                quarter_turns: 0,
            })
            .collect();
        let projection = self.projection(&address);
        let (pixels, width) = (self.glyphs.item_shape().features(), self.config.width);
        let write = |label: usize, item: usize, place: &mut [f32]| {
            let mut image = vec![0.0; pixels];
            self.glyphs
                .write(split, draws[label].position, item, &mut image);
            standardise(&mut image);
            for (x, row) in image.into_iter().zip(projection.chunks_exact(width)) {
                for (place, weight) in place.iter_mut().zip(row) {
                    *place += x * weight;
                }
            }
        };
        Ok(assemble(index, shape, width, &draws, references, write))
    }

    fn content_hash(&self) -> String {
        let version = format!("projected-glyphs 1 of {}", self.glyphs.content_hash());
        settings_hash(&version, &self.config)
    }

    fn describe(&self) -> Value {
        let counts = |split: Split| json!({ "classes": self.classes(split) });
        json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "items_per_class": self.items_per_class(),
            "training_tasks": (self.config.tasks > 0).then_some(self.config.tasks),
            "train": counts(Split::Train),
            "validation": counts(Split::Validation),
            "test": counts(Split::Test),
            "settings": config_value(&self.config),
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
        let config = ProjectedConfig {
            tasks,
            width: 4,
            image_size: 12,
            train_classes: 50,
            ..ProjectedConfig::default()
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
        let bad = ProjectedConfig {
            width: 0,
            ..ProjectedConfig::default()
        };
        let message = bad.build().expect_err("no width").to_string();
        assert!(message.starts_with("`data.width = 0`"), "{message}");
    }
}
