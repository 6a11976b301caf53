//! Images in memory, by class, and the source that draws episodes from them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::draw::{assemble, draw_classes};
use super::episode::{ClassRef, Episode, EpisodeShape, ItemShape, Split, Task};
use super::image_decode::Digest;
use super::pictures::{Moments, PictureSettings, Pictures};
use super::source::{Smallest, Source, check_classification};
use crate::error::Result;
use crate::rng::Seed;

/// Decoded square images, one byte a channel, grouped by class.
pub(crate) struct ImageSet {
    shape: ItemShape,
    classes: Vec<ImageClass>,
    /// `[images, h, w, c]`, class by class.
    pixels: Vec<u8>,
    /// What each picture was before it was resized.
    digests: Vec<Digest>,
    /// Of the classes and the pixels.
    hash: blake3::Hash,
}

struct ImageClass {
    name: String,
    /// The class's first image.
    first: usize,
    count: usize,
}

/// The part of an [`ImageSet`]'s bytes before the pixels.
#[derive(Serialize, Deserialize)]
struct Header {
    shape: ItemShape,
    /// Name and number of images.
    classes: Vec<(String, usize)>,
}

impl Header {
    /// The length of the JSON form, and the JSON form.
    fn to_bytes(&self) -> Vec<u8> {
        // A struct of numbers and strings always serialises.
        let json = serde_json::to_vec(self).unwrap_or_default();
        [&(json.len() as u64).to_le_bytes()[..], &json].concat()
    }
}

impl ImageSet {
    /// A set of images of these classes, by name and number, in their order.
    pub fn of(
        shape: ItemShape,
        classes: Vec<(String, usize)>,
        pixels: Vec<u8>,
        digests: Vec<Digest>,
    ) -> Self {
        ImageSet::new(Header { shape, classes }, pixels, digests)
    }

    fn new(header: Header, pixels: Vec<u8>, digests: Vec<Digest>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&header.to_bytes());
        hasher.update(&pixels);
        let mut first = 0;
        let classes = header
            .classes
            .into_iter()
            .map(|(name, count)| {
                let class = ImageClass { name, first, count };
                first += count;
                class
            })
            .collect();
        ImageSet {
            shape: header.shape,
            classes,
            pixels,
            digests,
            hash: hasher.finalize(),
        }
    }

    /// The header, the pixels, the digests.
    pub fn to_bytes(&self) -> Vec<u8> {
        let classes = self.classes.iter();
        let header = Header {
            shape: self.shape,
            classes: classes
                .map(|class| (class.name.clone(), class.count))
                .collect(),
        };
        let mut bytes = header.to_bytes();
        bytes.extend_from_slice(&self.pixels);
        bytes.extend_from_slice(self.digests.as_flattened());
        bytes
    }

    /// Reads [`ImageSet::to_bytes`]; `None` where the parts do not fit together.
    pub fn from_bytes(mut bytes: Vec<u8>) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let header: Header = serde_json::from_slice(rest.get(..length)?).ok()?;
        bytes.drain(..8 + length);
        let mut counts = header.classes.iter().map(|(_, count)| *count);
        let images = counts.try_fold(0usize, |sum, count| sum.checked_add(count))?;
        let pixels = images.checked_mul(header.shape.features())?;
        let (digests, rest) = bytes.get(pixels..)?.as_chunks();
        if digests.len() != images || !rest.is_empty() {
            return None;
        }
        let digests = digests.to_vec();
        bytes.truncate(pixels);
        Some(ImageSet::new(header, bytes, digests))
    }

    /// BLAKE3 hash of all of [`ImageSet::to_bytes`], by way of a hash that is known.
    pub fn checksum(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.hash.as_bytes());
        hasher.update(self.digests.as_flattened());
        hasher.finalize()
    }

    /// Names of all classes, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.classes.iter().map(|class| class.name.as_str())
    }

    /// Images of the class at that position.
    pub fn count(&self, class: usize) -> usize {
        self.classes[class].count
    }

    /// Pictures that are in two splits, the same pixel by pixel: those of a later split, each with the
    /// first equal one of an earlier split. Both are class and number.
    pub fn shared_pictures(&self, splits: &[Vec<usize>; 3]) -> Vec<SharedPicture> {
        let mut first: HashMap<Digest, (Split, usize, usize)> = HashMap::new();
        let mut shared = Vec::new();
        for split in Split::ALL {
            for &class in &splits[split.position()] {
                let start = self.classes[class].first;
                let digests = &self.digests[start..start + self.classes[class].count];
                for (item, &digest) in digests.iter().enumerate() {
                    let there = *first.entry(digest).or_insert((split, class, item));
                    if there.0 != split {
                        shared.push(SharedPicture {
                            earlier: there,
                            later: (split, class, item),
                        });
                    }
                }
            }
        }
        shared
    }

    /// Mean and standard deviation of each channel over all pixels of these classes, of bytes as numbers in
    /// \[0, 1\].
    pub fn moments(&self, classes: &[usize]) -> Moments {
        let channels = self.shape.channels;
        let (mut sums, mut squares) = (vec![0u64; channels], vec![0u64; channels]);
        let mut pixels = 0u64;
        for &class in classes {
            let ImageClass { first, count, .. } = self.classes[class];
            let features = self.shape.features();
            let own = &self.pixels[first * features..(first + count) * features];
            for pixel in own.chunks_exact(channels) {
                for ((sum, square), &byte) in sums.iter_mut().zip(&mut squares).zip(pixel) {
                    *sum += u64::from(byte);
                    *square += u64::from(byte) * u64::from(byte);
                }
                pixels += 1;
            }
        }
        let count = pixels.max(1) as f64;
        let means = sums.iter().map(|&sum| sum as f64 / count / 255.0);
        let means: Vec<f64> = means.collect();
        let deviations = squares.iter().zip(&means).map(|(&square, mean)| {
            let variance = square as f64 / count / (255.0 * 255.0) - mean * mean;
            // A channel of one value stays as it is, but for its mean.
            if variance > 1e-12 {
                variance.sqrt()
            } else {
                1.0
            }
        });
        let deviations = deviations.collect();
        (means, deviations)
    }

    fn image(&self, class: usize, item: usize) -> &[u8] {
        let features = self.shape.features();
        let start = (self.classes[class].first + item) * features;
        &self.pixels[start..start + features]
    }
}

/// A picture of two splits: split, class and number of each.
pub(crate) struct SharedPicture {
    pub earlier: (Split, usize, usize),
    pub later: (Split, usize, usize),
}

/// What is done with the four rotations of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rotations {
    /// Each rotation by a quarter turn is a class of its own, in every split: four times the classes.
    Classes,
    /// Each class of a task gets a random rotation of its own, the same for its support and query.
    /// Only in the training split unless `augment_evaluation` is set.
    Augment,
    /// Images stay as they are.
    None,
}

/// Episodes of labelled images in memory: what [`OmniglotSettings`](super::OmniglotSettings) and
/// [`FolderSettings`](super::FolderSettings) build.
///
/// Inputs are byte / 255, in \[0, 1\]. An item's id is `class << 32 | number`; with
/// [`Rotations::Classes`] the class is 4 × (class of the files) + quarter turns.
pub struct ImageSource {
    name: &'static str,
    set: ImageSet,
    /// The classes of each split, as positions in the set.
    splits: [Vec<usize>; 3],
    /// The smallest class of each split that has classes.
    smallest: [Option<usize>; 3],
    changes: Changes,
    is_ink: bool,
    content_hash: String,
    frozen_hash: String,
    description: Value,
}

/// What is done to the images of an episode.
pub(crate) struct Changes {
    pub rotations: Rotations,
    pub augment_evaluation: bool,
    pub pictures: Pictures,
}

impl ImageSource {
    /// `settings` is a flat object of those that change episodes (no paths); they go into the hash and
    /// the description. `notes` go into the description alone.
    pub(crate) fn new(
        name: &'static str,
        set: ImageSet,
        splits: [Vec<usize>; 3],
        changes: Changes,
        is_ink: bool,
        settings: Value,
        notes: Vec<(&'static str, Value)>,
    ) -> Self {
        let hash = |without: &[&str]| {
            let mut hasher = blake3::Hasher::new();
            // Sorted, whatever map type `serde_json` was built with.
            let mut sorted: BTreeMap<_, _> = settings.as_object().into_iter().flatten().collect();
            sorted.retain(|key, _| !without.contains(&key.as_str()));
            hasher.update(format!("{name} 1\n{}\n", json!(sorted)).as_bytes());
            hasher.update(set.hash.as_bytes());
            for classes in &splits {
                hasher.update(format!("\n{classes:?}").as_bytes());
            }
            hasher.finalize().to_hex().to_string()
        };
        let (content_hash, frozen_hash) = (hash(&[]), hash(&PictureSettings::OF_TRAINING));
        let smallest = splits.each_ref().map(|classes| {
            let classes = classes.iter().copied();
            classes.min_by_key(|&class| set.count(class))
        });
        let mut source = ImageSource {
            name,
            set,
            splits,
            smallest,
            changes,
            is_ink,
            content_hash,
            frozen_hash,
            description: Value::Null,
        };
        let counts = |split: Split| {
            json!({
                "classes": source.class_count(split),
                "folders": source.splits[split.position()].len(),
                "smallest_class": source.smallest_count(split).unwrap_or(0),
            })
        };
        source.description = json!({
            "source": name,
            "task": Task::Classification,
            "item_shape": source.set.shape,
            "images": source.set.pixels.len() / source.set.shape.features().max(1),
            "train": counts(Split::Train),
            "validation": counts(Split::Validation),
            "test": counts(Split::Test),
            "settings": settings,
            "content_hash": source.content_hash,
        });
        if let Some((mean, deviation)) = source.changes.pictures.moments() {
            source.description["channels"] = json!({ "mean": mean, "deviation": deviation });
        }
        for (key, note) in notes {
            source.description[key] = note;
        }
        source
    }

    /// Names of the classes of a split, in order, without rotations.
    pub fn class_names(&self, split: Split) -> impl Iterator<Item = &str> {
        let classes = self.splits[split.position()].iter();
        classes.map(|&class| self.set.classes[class].name.as_str())
    }

    fn smallest_count(&self, split: Split) -> Option<usize> {
        self.smallest[split.position()].map(|class| self.set.count(class))
    }

    fn class_count(&self, split: Split) -> usize {
        let classes = self.splits[split.position()].len();
        match self.changes.rotations {
            Rotations::Classes => 4 * classes,
            Rotations::Augment | Rotations::None => classes,
        }
    }

    /// The class of the files, and the rotation where it is part of the class, at a position of a split.
    fn class_at(&self, split: Split, position: usize) -> (usize, u8) {
        let classes = &self.splits[split.position()];
        match self.changes.rotations {
            Rotations::Classes => (classes[position / 4], (position % 4) as u8),
            Rotations::Augment | Rotations::None => (classes[position], 0),
        }
    }
}

impl Source for ImageSource {
    fn name(&self) -> &'static str {
        self.name
    }

    fn task(&self) -> Task {
        Task::Classification
    }

    fn item_shape(&self) -> ItemShape {
        self.set.shape
    }

    fn classes(&self, split: Split) -> Option<usize> {
        Some(self.class_count(split))
    }

    fn items_per_class(&self) -> Option<usize> {
        let smallest = Split::ALL.into_iter();
        smallest
            .filter_map(|split| self.smallest_count(split))
            .min()
    }

    fn is_ink(&self) -> bool {
        self.is_ink
    }

    fn to_picture(&self, item: &mut [f32]) {
        self.changes.pictures.restore(item);
    }

    fn class_name(&self, class: ClassRef) -> Option<String> {
        let number = match self.changes.rotations {
            Rotations::Classes => class.class / 4,
            Rotations::Augment | Rotations::None => class.class,
        };
        let name = &self.set.classes.get(number as usize)?.name;
        Some(match class.quarter_turns {
            0 => name.clone(),
            turns => format!("{name} ({}°)", 90 * u32::from(turns)),
        })
    }

    fn check(&self, split: Split, shape: EpisodeShape) -> Result<()> {
        check_classification(
            self.name,
            split,
            shape,
            self.class_count(split),
            self.smallest[split.position()].map(|class| Smallest {
                items: self.set.count(class),
                name: Some(&self.set.classes[class].name),
            }),
        )
    }

    fn episode(
        &self,
        seed: Seed,
        split: Split,
        shape: EpisodeShape,
        index: u64,
    ) -> Result<Episode> {
        self.check(split, shape)?;
        let draws = draw_classes(
            seed,
            split,
            shape,
            index,
            self.class_count(split),
            |position| self.set.classes[self.class_at(split, position).0].count,
        );
        let Changes {
            rotations,
            augment_evaluation,
            pictures,
        } = &self.changes;
        let augment =
            *rotations == Rotations::Augment && (split == Split::Train || *augment_evaluation);
        let mut turns = augment.then(|| seed.stream(split.scope(), index, "rotations"));
        let drawn: Vec<(usize, u8)> = draws
            .iter()
            .map(|draw| {
                let (class, fixed) = self.class_at(split, draw.position);
                let random = turns.as_mut().map(|stream| stream.below(4) as u8);
                (class, random.unwrap_or(fixed))
            })
            .collect();
        let classes = drawn
            .iter()
            .zip(&draws)
            .map(|(&(class, quarter_turns), draw)| ClassRef {
                class: match self.changes.rotations {
                    Rotations::Classes => 4 * class as u32 + u32::from(quarter_turns),
                    Rotations::Augment | Rotations::None => class as u32,
                },
                position: draw.position as u32,
                quarter_turns,
            })
            .collect();
        let shape_of_item = self.set.shape;
        let change = split == Split::Train && pictures.augments();
        let stream = change.then(|| seed.stream(split.scope(), index, "pictures"));
        // Images are written one after the other.
        let stream = RefCell::new(stream);
        Ok(assemble(
            index,
            shape,
            shape_of_item.features(),
            &draws,
            classes,
            |label, item, place| {
                let (class, quarter_turns) = drawn[label];
                let image = self.set.image(class, item);
                write_rotated(image, shape_of_item, quarter_turns, place);
                if let Some(stream) = stream.borrow_mut().as_mut() {
                    pictures.augment(place, shape_of_item, stream);
                }
                pictures.normalize(place);
            },
        ))
    }

    fn content_hash(&self) -> String {
        self.content_hash.clone()
    }

    fn frozen_hash(&self) -> String {
        self.frozen_hash.clone()
    }

    fn describe(&self) -> Value {
        self.description.clone()
    }
}

impl std::fmt::Debug for ImageSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ImageSource")
            .field("name", &self.name)
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

/// A byte as a number in \[0, 1\].
pub(crate) fn unit_interval(byte: u8) -> f32 {
    f32::from(byte) / 255.0
}

/// Writes a square image turned counter-clockwise by `quarter_turns`.
fn write_rotated(image: &[u8], shape: ItemShape, quarter_turns: u8, place: &mut [f32]) {
    if quarter_turns == 0 {
        for (place, &byte) in place.iter_mut().zip(image) {
            *place = unit_interval(byte);
        }
        return;
    }
    let (size, channels) = (shape.height, shape.channels);
    let last = size - 1;
    for (pixel, place) in place.chunks_exact_mut(channels).enumerate() {
        let (row, column) = (pixel / size, pixel % size);
        let (row, column) = match quarter_turns {
            1 => (column, last - row),
            2 => (last - row, last - column),
            _ => (last - column, row),
        };
        let start = (row * size + column) * channels;
        for (place, &byte) in place.iter_mut().zip(&image[start..start + channels]) {
            *place = unit_interval(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_is_counter_clockwise_and_cyclic() {
        let shape = ItemShape {
            height: 2,
            width: 2,
            channels: 1,
        };
        let image = [0u8, 51, 102, 153];
        let rotate = |turns| {
            let mut place = [0.0f32; 4];
            write_rotated(&image, shape, turns, &mut place);
            place.map(|value| (value * 5.0).round() as i32)
        };
        // The grid 0 1 / 2 3; numpy.rot90 gives 1 3 / 0 2.
        assert_eq!(rotate(0), [0, 1, 2, 3]);
        assert_eq!(rotate(1), [1, 3, 0, 2]);
        assert_eq!(rotate(2), [3, 2, 1, 0]);
        assert_eq!(rotate(3), [2, 0, 3, 1]);
    }

    #[test]
    fn bytes_round_trip_and_misfits_are_refused() {
        let header = Header {
            shape: ItemShape {
                height: 1,
                width: 1,
                channels: 3,
            },
            classes: vec![("a".to_owned(), 1), ("b".to_owned(), 2)],
        };
        let digests = vec![[1; 16], [2; 16], [1; 16]];
        let set = ImageSet::new(header, vec![1, 2, 3, 4, 5, 6, 7, 8, 9], digests);
        let mut bytes = set.to_bytes();
        let back = ImageSet::from_bytes(bytes.clone()).expect("same bytes");
        assert_eq!(back.hash, set.hash);
        assert_eq!(back.image(1, 1), [7, 8, 9]);
        let shared = back.shared_pictures(&[vec![1], vec![], vec![0]]);
        let [shared] = &shared[..] else {
            panic!("one picture, not {}", shared.len());
        };
        assert_eq!(shared.earlier, (Split::Train, 1, 1));
        assert_eq!(shared.later, (Split::Test, 0, 0));
        assert!(
            back.shared_pictures(&[vec![0, 1], vec![], vec![]])
                .is_empty()
        );
        bytes.pop();
        assert!(ImageSet::from_bytes(bytes).is_none());
        assert!(ImageSet::from_bytes(vec![255; 20]).is_none());
    }
}
