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

use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::draw::{assemble, draw_classes};
use super::episode::{ClassRef, Episode, EpisodeShape, ItemShape, Split, Task};
use super::image_set::unit_interval;
use super::source::{Smallest, Source, SourceSettings, check_classification, settings_hash};
use crate::error::Result;
use crate::rng::Seed;
use crate::settings;
use crate::settings::Settings;
use character::{DESCRIPTION, Glyph};
use drawing::{Canvas, Drawer};

/// Enters the content hash: any change to what is drawn must change it.
const VERSION: u32 = 1;
/// Drawn items are kept when all of them together take at most this many bytes.
const KEEP_BYTES: usize = 1 << 28;

settings! {
    /// The world of glyphs: its classes, and how they are drawn.
    pub struct GlyphWorld {
        /// Height and width in pixels.
        image_size: usize = 28, between(8, 256);
        /// Number of training classes. Growing a split keeps the classes it has.
        train_classes: usize = 2000, between(0, 1_000_000);
        /// Number of validation classes.
        validation_classes: usize = 200, between(0, 1_000_000);
        /// Number of test classes.
        test_classes: usize = 500, between(0, 1_000_000);
        /// Drawers of each class; 0 for no limit. Omniglot has 20.
        items_per_class: usize = 20, between(0, 1_000_000);
        /// How much drawers differ, relative to the default of 1; at 0 all draw alike.
        variation: f64 = 1.0, between(0.0, 3.0);
        /// Seed of the world: another number gives other classes and drawers.
        world: u64 = 0;
    }
}

settings! {
    /// Settings of [`GlyphsSource`].
    pub struct GlyphsSettings {
        /// Whether support items carry a description of their character, in rows below the image,
        /// which is higher by them: a second modality.
        side: bool = false;
        ..glyphs: GlyphWorld;
    }
}

impl GlyphWorld {
    /// The source of these glyphs, without descriptions.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a setting out of range.
    pub fn build(&self) -> Result<GlyphsSource> {
        let settings = GlyphsSettings {
            side: false,
            glyphs: self.clone(),
        };
        settings.build()
    }
}

impl GlyphsSettings {
    /// Checks the settings and makes the source; items are drawn when they are first used.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a setting out of range.
    pub fn build(&self) -> Result<GlyphsSource> {
        self.check_ranges("data")?;
        let world = &self.glyphs;
        let counts = [
            world.train_classes,
            world.validation_classes,
            world.test_classes,
        ];
        let class_bytes = world.items_per_class * world.image_size * world.image_size;
        let all_bytes = counts.iter().sum::<usize>().checked_mul(class_bytes);
        let keeps = world.items_per_class > 0 && all_bytes.is_some_and(|bytes| bytes <= KEEP_BYTES);
        let drawn = counts.map(|count| {
            let kept = if keeps { count } else { 0 };
            std::iter::repeat_with(OnceLock::new).take(kept).collect()
        });
        Ok(GlyphsSource {
            settings: self.clone(),
            counts,
            drawn,
        })
    }
}

impl SourceSettings for GlyphsSettings {
    const NAME: &str = "glyphs";
    const SUMMARY: &str = "handwritten-like characters drawn by a program; needs no files";

    fn open(&self, _data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build()?))
    }
}

/// Characters of invented alphabets; ink is 1, paper 0.
///
/// A class's number is 3 × (its number in the split) + (0, 1, 2 for train, validation, test).
#[derive(Debug)]
pub struct GlyphsSource {
    settings: GlyphsSettings,
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
        self.settings.glyphs.image_size * self.settings.glyphs.image_size
    }

    /// Draws `items` of a class, one after another.
    fn draw(&self, class: u32, items: impl Iterator<Item = usize>) -> Vec<u8> {
        let world = Seed(self.settings.glyphs.world);
        let glyph = Glyph::of_class(world, class);
        let mut canvas = Canvas::new(self.settings.glyphs.image_size);
        let mut pixels = Vec::new();
        for item in items {
            let id = u64::from(class) << 32 | item as u64;
            let mut stream = world.stream("glyphs-item", id, "drawer");
            let drawer = Drawer::new(&mut stream, self.settings.glyphs.variation as f32);
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
                let items = 0..self.settings.glyphs.items_per_class;
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
        let width = self.settings.glyphs.image_size;
        let below = if self.settings.side {
            DESCRIPTION.div_ceil(width)
        } else {
            0
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
        (self.settings.glyphs.items_per_class > 0).then_some(self.settings.glyphs.items_per_class)
    }

    fn check(&self, split: Split, shape: EpisodeShape) -> Result<()> {
        let classes = self.counts[split.position()];
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
        let classes = self.counts[split.position()];
        // Without a limit, the drawers are those that an id has room for.
        let items = self.items_per_class().unwrap_or(u32::MAX as usize);
        let draws = draw_classes(seed, split, shape, index, classes, |_| items);
        let references: Vec<ClassRef> = draws
            .iter()
            .map(|draw| ClassRef {
                class: Self::class_number(split, draw.position),
                position: draw.position as u32,
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
                if self.settings.side && support.contains(&item) {
                    let class = numbers[label].class;
                    let glyph = Glyph::of_class(Seed(self.settings.glyphs.world), class);
                    place[pixels..pixels + DESCRIPTION].copy_from_slice(&glyph.describe());
                }
                self.write(split, draws[label].position, item, &mut place[..pixels]);
            },
        ))
    }

    fn content_hash(&self) -> String {
        let version = format!("glyphs {VERSION}");
        let mut settings = self.settings.glyphs.entries();
        // Without descriptions episodes are those from before there were any.
        if self.settings.side {
            settings.push(("side", true.into()));
        }
        settings_hash(&version, &settings)
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
            "settings": self.settings.to_value(),
            "content_hash": self.content_hash(),
        })
    }
}
