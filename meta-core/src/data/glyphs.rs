//! Glyphs: handwritten-like characters drawn by a program, so that everything works without files.
//!
//! Made in the manner of Omniglot (Lake et al. 2015): an *alphabet* has a vocabulary of pen strokes, a
//! class (a character) joins one to four of them, and an item is that character as another drawer would
//! draw it. The numbers behind it are hand-set so that the pictures, the ink and the accuracy of a
//! nearest-class-mean classifier on pixels resemble Omniglot's; nothing is fitted to its images.
//!
//! The world of glyphs hangs on the setting `world` alone, not on the seed of a run. Classes of
//! different splits come from different alphabets.
//!
//! With `side`, a support item also carries a description of its character in
//! rows of its own below the image; in queries these rows are empty. The description is that of the
//! class, as somebody who knows the character would give it, and says nothing of the drawer. A query
//! has none, so no two can be matched to each other.

mod character;
mod drawing;

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::draw::{assemble, draw_classes};
use super::episode::{ClassRef, Episode, EpisodeShape, ItemShape, Split, Task};
use super::image_set::unit_interval;
use super::source::{Source, check_classification, config_value, settings_hash};
use crate::error::{Error, Result};
use crate::rng::Seed;
use character::{DESCRIPTION, Glyph};
use drawing::{Canvas, Drawer};

/// Enters the content hash: any change to what is drawn must change it.
const VERSION: u32 = 1;
/// Drawn items are kept when all of them together take at most this many bytes.
const KEEP_BYTES: usize = 1 << 28;

/// Settings of [`GlyphsSource`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GlyphsConfig {
    /// Height and width in pixels, 8..=256.
    pub image_size: usize,
    /// Number of training classes, at most 1 000 000. Growing a split keeps the classes it has.
    pub train_classes: usize,
    /// Number of validation classes, at most 1 000 000.
    pub validation_classes: usize,
    /// Number of test classes, at most 1 000 000.
    pub test_classes: usize,
    /// Drawers of each class, at most 1 000 000; 0 for no limit. Omniglot has 20.
    pub items_per_class: usize,
    /// How much drawers differ, relative to the default of 1. In 0..=3; at 0 all draw alike.
    pub variation: f64,
    /// Seed of the world of glyphs: another number gives other classes and drawers.
    pub world: u64,
    /// Whether support items carry a description of their character, in rows below the image, which is
    /// higher by them: a second modality.
    pub side: bool,
}

impl Default for GlyphsConfig {
    fn default() -> Self {
        GlyphsConfig {
            image_size: 28,
            train_classes: 2000,
            validation_classes: 200,
            test_classes: 500,
            items_per_class: 20,
            variation: 1.0,
            world: 0,
            side: false,
        }
    }
}

impl GlyphsConfig {
    /// Checks the settings and makes the source; items are drawn when they are first used.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting out of range.
    pub fn build(&self) -> Result<GlyphsSource> {
        const MAXIMUM: usize = 1_000_000;
        if !(8..=256).contains(&self.image_size) {
            return Err(Error::setting(
                "data.image_size",
                self.image_size,
                "must be in 8..=256 pixels",
            ));
        }
        for (key, count) in [
            ("data.train_classes", self.train_classes),
            ("data.validation_classes", self.validation_classes),
            ("data.test_classes", self.test_classes),
            ("data.items_per_class", self.items_per_class),
        ] {
            if count > MAXIMUM {
                return Err(Error::setting(
                    key,
                    count,
                    format!("must be at most {MAXIMUM}"),
                ));
            }
        }
        if !(0.0..=3.0).contains(&self.variation) {
            return Err(Error::setting(
                "data.variation",
                self.variation,
                "must be in 0..=3",
            ));
        }
        let counts = [
            self.train_classes,
            self.validation_classes,
            self.test_classes,
        ];
        let class_bytes = self.items_per_class * self.image_size * self.image_size;
        let all_bytes = counts.iter().sum::<usize>().checked_mul(class_bytes);
        let keeps = self.items_per_class > 0 && all_bytes.is_some_and(|bytes| bytes <= KEEP_BYTES);
        let drawn = counts.map(|count| {
            let kept = if keeps { count } else { 0 };
            std::iter::repeat_with(OnceLock::new).take(kept).collect()
        });
        Ok(GlyphsSource {
            config: self.clone(),
            counts,
            drawn,
        })
    }
}

/// The settings but for `side`.
#[derive(Serialize)]
struct Undescribed {
    image_size: usize,
    train_classes: usize,
    validation_classes: usize,
    test_classes: usize,
    items_per_class: usize,
    variation: f64,
    world: u64,
}

impl Undescribed {
    fn of(config: &GlyphsConfig) -> Self {
        Undescribed {
            image_size: config.image_size,
            train_classes: config.train_classes,
            validation_classes: config.validation_classes,
            test_classes: config.test_classes,
            items_per_class: config.items_per_class,
            variation: config.variation,
            world: config.world,
        }
    }
}

/// Characters of invented alphabets; ink is 1, paper 0.
///
/// A class's number is 3 × (its number in the split) + (0, 1, 2 for train, validation, test).
#[derive(Debug)]
pub struct GlyphsSource {
    config: GlyphsConfig,
    /// Classes of each split.
    counts: [usize; 3],
    /// All items of each class of each split, once they are drawn; no classes where nothing is kept.
    drawn: [Vec<OnceLock<Box<[u8]>>>; 3],
}

impl GlyphsSource {
    pub(crate) fn class_number(split: Split, position: usize) -> u32 {
        (3 * position + split.position()) as u32
    }

    /// Numbers of the image in an item; what follows is its description.
    fn pixels(&self) -> usize {
        self.config.image_size * self.config.image_size
    }

    /// Draws `items` of a class, one after another.
    fn draw(&self, class: u32, items: impl Iterator<Item = usize>) -> Vec<u8> {
        let world = Seed(self.config.world);
        let glyph = Glyph::of_class(world, class);
        let mut canvas = Canvas::new(self.config.image_size);
        let mut pixels = Vec::new();
        for item in items {
            let id = u64::from(class) << 32 | item as u64;
            let mut stream = world.stream("glyphs-item", id, "drawer");
            let drawer = Drawer::new(&mut stream, self.config.variation as f32);
            canvas.clear();
            drawer.draw(&glyph, &mut stream, &mut canvas);
            canvas.read(drawer.pen_width, &mut pixels);
        }
        pixels
    }

    /// Writes the pixels of an item of the class at `position` of a split.
    pub(crate) fn write(&self, split: Split, position: usize, item: usize, place: &mut [f32]) {
        let class = Self::class_number(split, position);
        let write = |bytes: &[u8], place: &mut [f32]| {
            for (place, &byte) in place.iter_mut().zip(bytes) {
                *place = unit_interval(byte);
            }
        };
        match self.drawn[split.position()].get(position) {
            Some(kept) => {
                let items = 0..self.config.items_per_class;
                let all = kept.get_or_init(|| self.draw(class, items).into());
                write(&all[item * place.len()..], place);
            }
            None => write(&self.draw(class, std::iter::once(item)), place),
        }
    }
}

impl Source for GlyphsSource {
    fn name(&self) -> &'static str {
        "glyphs"
    }

    fn task(&self) -> Task {
        Task::Classification
    }

    fn item_shape(&self) -> ItemShape {
        let width = self.config.image_size;
        let below = match self.config.side {
            true => DESCRIPTION.div_ceil(width),
            false => 0,
        };
        ItemShape {
            height: width + below,
            width,
            channels: 1,
        }
    }

    fn classes(&self, split: Split) -> Option<usize> {
        Some(self.counts[split.position()])
    }

    fn items_per_class(&self) -> Option<usize> {
        (self.config.items_per_class > 0).then_some(self.config.items_per_class)
    }

    fn check(&self, split: Split, shape: EpisodeShape) -> Result<()> {
        let classes = self.counts[split.position()];
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
        let classes = self.counts[split.position()];
        // Without a limit, the drawers are those that an id has room for.
        let items = self.items_per_class().unwrap_or(u32::MAX as usize);
        let draws = draw_classes(seed, split, shape, index, classes, |_| items);
        let references: Vec<ClassRef> = draws
            .iter()
            .map(|draw| ClassRef {
                class: Self::class_number(split, draw.position),
                quarter_turns: 0,
            })
            .collect();
        let (features, pixels) = (self.item_shape().features(), self.pixels());
        let numbers = references.clone();
        Ok(assemble(
            index,
            shape,
            features,
            &draws,
            references,
            |label, item, place| {
                let support = &draws[label].items[..shape.shot.0];
                if self.config.side && support.contains(&item) {
                    let class = numbers[label].class;
                    let glyph = Glyph::of_class(Seed(self.config.world), class);
                    place[pixels..pixels + DESCRIPTION].copy_from_slice(&glyph.describe());
                }
                self.write(split, draws[label].position, item, &mut place[..pixels]);
            },
        ))
    }

    fn content_hash(&self) -> String {
        let version = format!("glyphs {VERSION}");
        match self.config.side {
            true => settings_hash(&version, &self.config),
            // Without descriptions episodes are those from before there were any.
            false => settings_hash(&version, &Undescribed::of(&self.config)),
        }
    }

    fn describe(&self) -> Value {
        let counts = |split: Split| json!({ "classes": self.classes(split) });
        json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "items_per_class": self.items_per_class(),
            "train": counts(Split::Train),
            "validation": counts(Split::Validation),
            "test": counts(Split::Test),
            "settings": config_value(&self.config),
            "content_hash": self.content_hash(),
        })
    }
}
