//! Topics: texts of an invented language, so that learning from language works without files.
//!
//! A world has concepts, each with its words, and function words; word vectors lie around the centre of their
//! concept, and those of function words around a centre of their own. A class (a topic) is a distribution over
//! three concepts with a liking for two of the world's templates. A text is one to three clauses; a clause
//! fills the slots of a template:
//!
//! | slot | filled with |
//! |---|---|
//! | function | a function word |
//! | marker | one of the four function words that announce what the text is about |
//! | topic | after a marker: a word of the class |
//! | other | a word of any concept |
//!
//! So the mean of all words says little of the topic, and which word matters can be read from the word before
//! it: what attention is for. Concepts of training, validation and test classes are disjoint; the words of all
//! of them can fill other slots. Everything hangs on the setting `world`, not on the seed of a run.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::draw::classification_episode;
use super::episode::{ClassRef, Episode, EpisodeShape, Extras, ItemShape, Split, Task};
use super::source::{
    STATISTIC, Smallest, Source, SourceSettings, check_classification, settings_hash,
};
use crate::error::Result;
use crate::rng::{Seed, Stream};
use crate::settings;
use crate::settings::Settings;

/// Enters the content hash: any change to what is written must change it.
const VERSION: u32 = 1;
/// Concepts of each split.
const CONCEPTS: [usize; 3] = [60, 30, 30];
/// Words of a concept.
const CONCEPT_WORDS: usize = 12;
const FUNCTION_WORDS: usize = 36;
/// The first of the function words are markers.
const MARKERS: usize = 4;
const TEMPLATES: usize = 12;
/// How often a topic speaks of its three concepts.
const CONCEPT_SHARES: [f64; 3] = [0.5, 0.3, 0.2];
/// Texts of each training class by which words are counted, at most.
const COUNTED_TEXTS: usize = 20;
/// How often a clause has one of the two templates of its topic.
const OWN_TEMPLATES: f64 = 0.7;

settings! {
    /// Settings of [`TopicsSource`].
    pub struct TopicsSettings {
        /// Number of training classes. Growing a split keeps the classes it has.
        train_classes: usize = 200, between(0, 10_000);
        /// Number of validation classes.
        validation_classes: usize = 50, between(0, 1_000);
        /// Number of test classes.
        test_classes: usize = 100, between(0, 1_000);
        /// Texts of each class.
        items_per_class: usize = 100, between(2, 1_000_000);
        /// The most words of a text; an item has a row for each, and rows of zeros after its last one.
        length: usize = 20, between(8, 64);
        /// Width of the word vectors.
        vector_width: usize = 32, between(2, 1024);
        /// How far word vectors lie from the centre of their concept, relative to how far centres do from each
        /// other.
        spread: f64 = 0.6, between(0.0, 10.0);
        /// Whether a word has one more number, its last: `0.001 / (0.001 + p)`, where `p` is its share among the
        /// words of training texts. For `distributional_signatures` with `learner.statistics = 1`.
        #[added("0.2")]
        word_statistics: bool = false;
        /// Whether each class of a task comes with a vector: the mean of those of the words of its name, the
        /// first of each of its concepts.
        #[added("0.2")]
        name_vectors: bool = false;
        /// Seed of the world: another number gives another language.
        world: u64 = 0;
    }
}

impl TopicsSettings {
    /// Checks the settings and makes the language.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a setting out of range.
    pub fn build(&self) -> Result<TopicsSource> {
        self.check_ranges("data")?;
        let world = Seed(self.world);
        let counts = [
            self.train_classes,
            self.validation_classes,
            self.test_classes,
        ];
        let mut source = TopicsSource {
            settings: self.clone(),
            vectors: vectors(world, self.vector_width, self.spread),
            templates: templates(world),
            topics: Split::ALL.map(|split| topics(world, split, counts[split.position()])),
            statistics: Vec::new(),
        };
        if self.word_statistics {
            source.statistics = source.count_words();
        }
        Ok(source)
    }
}

impl SourceSettings for TopicsSettings {
    const NAME: &str = "topics";
    const SUMMARY: &str =
        "texts of an invented language as sequences of word vectors; needs no files";

    fn open(&self, _data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build()?))
    }
}

/// What a slot of a template is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Function,
    Marker,
    Topic,
    Other,
}

/// What the texts of a class are about.
#[derive(Clone, Debug)]
struct Topic {
    concepts: [usize; 3],
    templates: [usize; 2],
}

/// Texts of invented topics; an item is a sequence of word vectors.
#[derive(Debug)]
pub struct TopicsSource {
    settings: TopicsSettings,
    /// `[words, d]`: function words, then those of each concept.
    vectors: Vec<f32>,
    templates: Vec<Vec<Slot>>,
    topics: [Vec<Topic>; 3],
    /// `ε / (ε + p)` of each word, where that is wanted.
    statistics: Vec<f32>,
}

/// The word that stands for a concept in the names of classes.
fn named_by(concept: usize) -> usize {
    FUNCTION_WORDS + concept * CONCEPT_WORDS
}

/// The first concept of a split.
fn first_concept(split: Split) -> usize {
    CONCEPTS[..split.position()].iter().sum()
}

/// Centres of length 1 on average, and words around them.
fn vectors(world: Seed, width: usize, spread: f64) -> Vec<f32> {
    let scale = 1.0 / (width as f64).sqrt();
    let mut stream = world.stream("topics", 0, "vectors");
    let mut vectors = Vec::new();
    let mut group = |words: usize| {
        let centre: Vec<f64> = (0..width).map(|_| scale * stream.normal()).collect();
        for _ in 0..words {
            let around = centre
                .iter()
                .map(|number| number + spread * scale * stream.normal());
            vectors.extend(around.map(|number| number as f32));
        }
    };
    group(FUNCTION_WORDS);
    (0..CONCEPTS.iter().sum::<usize>()).for_each(|_| group(CONCEPT_WORDS));
    vectors
}

/// Four to eight slots each, among which one marker with its topic.
fn templates(world: Seed) -> Vec<Vec<Slot>> {
    let of = |number: usize| {
        let mut stream = world.stream("topics", number as u64, "template");
        let others = 2 + stream.below(5);
        let mut slots: Vec<Slot> = (0..others)
            .map(|_| {
                if stream.below(2) == 0 {
                    Slot::Function
                } else {
                    Slot::Other
                }
            })
            .collect();
        let place = stream.below(others + 1);
        slots.splice(place..place, [Slot::Marker, Slot::Topic]);
        slots
    };
    (0..TEMPLATES).map(of).collect()
}

/// The topics of a split, no two of the same three concepts.
fn topics(world: Seed, split: Split, count: usize) -> Vec<Topic> {
    let mut stream = world.stream("topics", split.position() as u64, "classes");
    let mut seen = HashSet::new();
    let mut topics = Vec::with_capacity(count);
    // Of 4060 or more triples at most a quarter is taken.
    while topics.len() < count {
        let drawn = stream.choose_distinct(CONCEPTS[split.position()], 3);
        let liked = stream.choose_distinct(TEMPLATES, 2);
        let mut concepts = [0; 3];
        for (concept, drawn) in concepts.iter_mut().zip(drawn) {
            *concept = first_concept(split) + drawn;
        }
        let mut triple = concepts;
        triple.sort_unstable();
        if seen.insert(triple) {
            topics.push(Topic {
                concepts,
                templates: [liked[0], liked[1]],
            });
        }
    }
    topics
}

/// A word of a concept, the first ones more often: with a share of `1 / rank`.
fn concept_word(concept: usize, stream: &mut Stream) -> usize {
    let total: f64 = (1..=CONCEPT_WORDS).map(|rank| 1.0 / rank as f64).sum();
    let mut left = total * stream.uniform();
    let rank = (1..CONCEPT_WORDS).find(|&rank| {
        left -= 1.0 / rank as f64;
        left < 0.0
    });
    FUNCTION_WORDS + concept * CONCEPT_WORDS + rank.unwrap_or(CONCEPT_WORDS) - 1
}

/// A word as it is written: syllables that say its number, so that no two are the same.
fn spelled(word: usize) -> String {
    const CONSONANTS: &[u8] = b"bdfgklmnprstvz";
    const VOWELS: &[u8] = b"aeiou";
    let (mut text, mut rest) = (String::new(), word);
    loop {
        let syllable = rest % 70;
        text.push(char::from(CONSONANTS[syllable % 14]));
        text.push(char::from(VOWELS[syllable / 14]));
        rest /= 70;
        if rest == 0 {
            return text;
        }
        rest -= 1;
    }
}

impl TopicsSource {
    /// The words of a text, by their numbers.
    fn words(&self, split: Split, position: usize, item: usize) -> Vec<usize> {
        let topic = &self.topics[split.position()][position];
        let class = (3 * position + split.position()) as u64;
        let stream = &mut Seed(self.settings.world).stream(
            "topics-text",
            class << 32 | item as u64,
            "words",
        );
        let mut words = Vec::new();
        for _ in 0..1 + stream.below(3) {
            let template = match stream.uniform() < OWN_TEMPLATES {
                true => topic.templates[stream.below(2)],
                false => stream.below(TEMPLATES),
            };
            for slot in &self.templates[template] {
                words.push(match slot {
                    Slot::Function => MARKERS + stream.below(FUNCTION_WORDS - MARKERS),
                    Slot::Marker => stream.below(MARKERS),
                    Slot::Other => {
                        let concept = stream.below(CONCEPTS.iter().sum());
                        concept_word(concept, stream)
                    }
                    Slot::Topic => {
                        let mut left = stream.uniform();
                        let own = CONCEPT_SHARES.iter().position(|share| {
                            left -= share;
                            left < 0.0
                        });
                        concept_word(topic.concepts[own.unwrap_or(2)], stream)
                    }
                });
            }
        }
        words.truncate(self.settings.length);
        words
    }

    /// `ε / (ε + p)` of each word by some texts of each training class.
    fn count_words(&self) -> Vec<f32> {
        let mut counts = vec![0u64; self.vectors.len() / self.settings.vector_width];
        let texts = self.settings.items_per_class.min(COUNTED_TEXTS);
        for position in 0..self.topics[Split::Train.position()].len() {
            for item in 0..texts {
                for word in self.words(Split::Train, position, item) {
                    counts[word] += 1;
                }
            }
        }
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let statistic = |&count: &u64| (STATISTIC / (STATISTIC + count as f64 / total)) as f32;
        counts.iter().map(statistic).collect()
    }

    /// The mean of the vectors of the words of a topic's name.
    fn name_vector(&self, topic: &Topic) -> Vec<f32> {
        let width = self.settings.vector_width;
        let mut mean = vec![0.0; width];
        for concept in topic.concepts {
            let word = named_by(concept);
            let vector = &self.vectors[word * width..(word + 1) * width];
            for (sum, number) in mean.iter_mut().zip(vector) {
                *sum += number / topic.concepts.len() as f32;
            }
        }
        mean
    }

    /// A text of the class at `position` of a split, to look at.
    ///
    /// ```
    /// use meta_core::data::{Split, TopicsSettings};
    ///
    /// let topics = TopicsSettings::default().build()?;
    /// assert!(topics.text(Split::Train, 0, 0).contains(' '));
    /// # Ok::<(), meta_core::Error>(())
    /// ```
    pub fn text(&self, split: Split, position: usize, item: usize) -> String {
        let words = self.words(split, position, item).into_iter().map(spelled);
        words.collect::<Vec<_>>().join(" ")
    }
}

impl Source for TopicsSource {
    fn name(&self) -> &'static str {
        TopicsSettings::NAME
    }

    fn task(&self) -> Task {
        Task::Classification
    }

    fn item_shape(&self) -> ItemShape {
        ItemShape {
            height: self.settings.length,
            width: 1,
            channels: self.settings.vector_width + usize::from(self.settings.word_statistics),
        }
    }

    fn extras(&self) -> Extras {
        Extras {
            class_vector: match self.settings.name_vectors {
                true => self.settings.vector_width,
                false => 0,
            },
            ..Extras::default()
        }
    }

    fn classes(&self, split: Split) -> Option<usize> {
        Some(self.topics[split.position()].len())
    }

    fn items_per_class(&self) -> Option<usize> {
        Some(self.settings.items_per_class)
    }

    fn item_words(&self, item: &[f32]) -> Option<Vec<String>> {
        let width = self.settings.vector_width;
        let rows = item.chunks_exact(self.item_shape().channels);
        let there = rows.take_while(|row| row.iter().any(|&number| number != 0.0));
        let named = there.map(|row| {
            let mut vectors = self.vectors.chunks_exact(width);
            let found = vectors.position(|vector| *vector == row[..width]);
            found.map_or_else(String::new, spelled)
        });
        Some(named.collect())
    }

    /// The first words of its concepts.
    fn class_name(&self, class: ClassRef) -> Option<String> {
        let split = Split::ALL[class.class as usize % 3];
        let topic = self.topics[split.position()].get(class.class as usize / 3)?;
        let first = |&concept: &usize| spelled(named_by(concept));
        Some(
            topic
                .concepts
                .iter()
                .map(first)
                .collect::<Vec<_>>()
                .join("-"),
        )
    }

    fn check(&self, split: Split, shape: EpisodeShape) -> Result<()> {
        let classes = self.topics[split.position()].len();
        let smallest = Some(Smallest::unnamed(self.settings.items_per_class));
        check_classification(self.name(), split, shape, classes, smallest)
    }

    fn episode(
        &self,
        seed: Seed,
        split: Split,
        shape: EpisodeShape,
        index: u64,
    ) -> Result<Episode> {
        let width = self.settings.vector_width;
        let row = self.item_shape().channels;
        let write = |position: usize, item: usize, place: &mut [f32]| {
            let words = self.words(split, position, item);
            for (word, place) in words.into_iter().zip(place.chunks_exact_mut(row)) {
                place[..width].copy_from_slice(&self.vectors[word * width..(word + 1) * width]);
                if let Some(&statistic) = self.statistics.get(word) {
                    place[width] = statistic;
                }
            }
        };
        let mut episode = classification_episode(self, seed, split, shape, index, write)?;
        if self.settings.name_vectors {
            let topics = &self.topics[split.position()];
            let classes = episode.classes.iter();
            let vectors =
                classes.flat_map(|class| self.name_vector(&topics[class.position as usize]));
            episode.class_vectors = Some(vectors.collect());
        }
        Ok(episode)
    }

    fn content_hash(&self) -> String {
        // What is off changes nothing.
        let is_off = |key: &str, value: &Value| {
            matches!(key, "word_statistics" | "name_vectors") && *value == json!(false)
        };
        let mut entries = self.settings.entries();
        entries.retain(|(key, value)| !is_off(key, value));
        settings_hash(&format!("topics {VERSION}"), &entries)
    }

    fn describe(&self) -> Value {
        let counts = |split: Split| json!({ "classes": self.classes(split) });
        let mut described = json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "items_per_class": self.items_per_class(),
            "words": self.vectors.len() / self.settings.vector_width,
            "train": counts(Split::Train),
            "validation": counts(Split::Validation),
            "test": counts(Split::Test),
            "settings": self.settings.to_value(),
            "content_hash": self.content_hash(),
        });
        if self.settings.name_vectors {
            described["class_vector_width"] = json!(self.settings.vector_width);
        }
        described
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_spelled_apart() {
        let words = FUNCTION_WORDS + CONCEPTS.iter().sum::<usize>() * CONCEPT_WORDS;
        let spelled: HashSet<String> = (0..words).map(spelled).collect();
        assert_eq!(spelled.len(), words);
    }

    /// No concept is of two splits, and no two classes have the same three.
    #[test]
    fn classes_are_disjoint() {
        let source = TopicsSettings::default().build().expect("defaults");
        let mut triples = HashSet::new();
        for split in Split::ALL {
            let first = first_concept(split);
            for topic in &source.topics[split.position()] {
                let range = first..first + CONCEPTS[split.position()];
                assert!(topic.concepts.iter().all(|concept| range.contains(concept)));
                let mut triple = topic.concepts;
                triple.sort_unstable();
                assert!(triples.insert(triple));
            }
        }
        assert_eq!(triples.len(), 350);
    }

    /// After a marker there is a word of the class, and nowhere else need there be one.
    #[test]
    fn markers_announce_the_topic() {
        let source = TopicsSettings::default().build().expect("defaults");
        let mut markers = 0;
        for (position, topic) in source.topics[2].iter().enumerate() {
            for item in 0..10 {
                let words = source.words(Split::Test, position, item);
                assert!(!words.is_empty() && words.len() <= 20);
                for pair in words.windows(2).filter(|pair| pair[0] < MARKERS) {
                    markers += 1;
                    let concept = (pair[1] - FUNCTION_WORDS) / CONCEPT_WORDS;
                    assert!(topic.concepts.contains(&concept));
                }
            }
        }
        // One in each of 1000 texts at least, but for those cut after a marker.
        assert!(markers > 990, "{markers}");
    }

    /// Function words are frequent, so they weigh less than any other; the vectors of words stay as they are.
    #[test]
    fn statistics_tell_function_words_from_others() {
        let settings = TopicsSettings {
            word_statistics: true,
            name_vectors: true,
            ..TopicsSettings::default()
        };
        let source = settings.build().expect("defaults");
        let plain = TopicsSettings::default().build().expect("defaults");
        assert_ne!(source.content_hash(), plain.content_hash());
        let largest = source.statistics[..FUNCTION_WORDS].iter().copied();
        let largest = largest.fold(0.0f32, f32::max);
        let others = &source.statistics[FUNCTION_WORDS..];
        let larger = others.iter().filter(|&&statistic| statistic > largest);
        assert!(larger.count() > others.len() / 2, "{largest}");
        let shape = EpisodeShape::new(3, 1, 1);
        let episode = |source: &TopicsSource| {
            let episode = source.episode(Seed(0), Split::Test, shape, 0);
            episode.expect("three classes")
        };
        let (own, plain) = (episode(&source), episode(&plain));
        let rows = own.support.inputs.chunks_exact(33);
        for (row, plain) in rows.zip(plain.support.inputs.chunks_exact(32)) {
            assert_eq!(row[..32], *plain);
            assert_eq!(row[32] > 0.0, plain.iter().any(|&number| number != 0.0));
        }
        let words = source
            .item_words(&own.support.inputs[..33 * 20])
            .expect("a text");
        let class = own.classes[0].position as usize;
        let texts = (0..100).map(|item| source.text(Split::Test, class, item));
        assert_eq!(texts.filter(|text| *text == words.join(" ")).count(), 1);
        assert_eq!(own.class_vectors.map(|vectors| vectors.len()), Some(96));
        assert!(plain.class_vectors.is_none());
    }

    #[test]
    fn growing_a_split_keeps_its_classes() {
        let of = |train_classes| TopicsSettings {
            train_classes,
            ..TopicsSettings::default()
        };
        let (few, many) = (of(3).build().expect("few"), of(9).build().expect("many"));
        for position in 0..3 {
            let text = |source: &TopicsSource| source.text(Split::Train, position, 7);
            assert_eq!(text(&few), text(&many));
        }
    }

    /// What a classifier by the mean of all words knows, and by the words after markers: the language is
    /// neither solved by the first nor unsolvable by the second. 5-way 1-shot.
    #[test]
    fn the_mean_of_all_words_says_less_than_the_right_words() {
        let source = TopicsSettings::default().build().expect("defaults");
        let width = source.settings.vector_width;
        let embed = |position: usize, item: usize, right: bool| {
            let words = source.words(Split::Test, position, item);
            let wanted: Vec<usize> = (0..words.len())
                .filter(|&place| !right || (place > 0 && words[place - 1] < MARKERS))
                .map(|place| words[place])
                .collect();
            let mut mean = vec![0.0; width];
            for word in &wanted {
                for (sum, number) in mean.iter_mut().zip(&source.vectors[word * width..]) {
                    *sum += number / wanted.len() as f32;
                }
            }
            mean
        };
        let accuracy = |right: bool| {
            let (mut hits, mut count) = (0, 0);
            for task in 0..200 {
                let mut stream = Seed(1).stream("task", task, "test");
                let classes = stream.choose_distinct(100, 5);
                let support: Vec<_> = classes
                    .iter()
                    .map(|&class| embed(class, 0, right))
                    .collect();
                for (label, &class) in classes.iter().enumerate() {
                    let query = embed(class, 1 + stream.below(99), right);
                    let distance = |vector: &Vec<f32>| -> f32 {
                        vector
                            .iter()
                            .zip(&query)
                            .map(|(a, b)| (a - b) * (a - b))
                            .sum()
                    };
                    let nearest = (0..5)
                        .min_by(|&a, &b| distance(&support[a]).total_cmp(&distance(&support[b])));
                    hits += usize::from(nearest == Some(label));
                    count += 1;
                }
            }
            f64::from(hits as u32) / f64::from(count)
        };
        let (mean, right) = (accuracy(false), accuracy(true));
        // 1000 queries: a standard error of 0.016 at most.
        assert!((0.25..0.45).contains(&mean), "{mean}");
        assert!((0.55..0.90).contains(&right), "{right}");
    }
}
