//! Class-labelled texts: sequences of word vectors.
//!
//! An item is `[l, 1, d]`: a row for each token, its word's vector, and rows of zeros after the last one.
//! A row of zeros is what encoders that read masks take for padding
//! ([`Steps::padding`](crate::nn::encoder::Steps::padding)); every other encoder and every learner sees a
//! sequence like any other. No token has a vector of zeros: a word whose vector in the file is zero is
//! unknown.
//!
//! Nothing of validation and test classes reaches training: frequencies, the mean vector and, without a file of
//! vectors, the vocabulary are those of training classes alone.

mod corpus;
mod read;
mod settings;
#[cfg(feature = "tokenizers")]
mod subwords;
#[cfg(not(feature = "tokenizers"))]
#[path = "text/without_subwords.rs"]
mod subwords;
mod tokens;
mod vectors;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use self::corpus::Corpus;
use self::vectors::WordVectors;
use super::class_splits::{Splits, by_files};
use super::draw::{assemble, draw_classes};
use super::episode::{ClassRef, Episode, EpisodeShape, Extras, ItemShape, Split, Task};
use super::image_files::resolve;
use super::source::{STATISTIC, Smallest, Source, SourceSettings, check_classification};
use crate::error::{Error, Result};
use crate::rng::Seed;
use crate::settings::Settings;

pub use settings::{TextSettings, UnknownWords, Vocabulary};
pub use tokens::Tokens;

/// Numbers of a token beside its vector, where it has distances from two entities.
const ENTITY_NUMBERS: usize = 4;

impl TextSettings {
    /// Reads the texts and the word vectors.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting that cannot be used; [`Error::Data`] or [`Error::Io`], naming file and
    /// line, for files that are missing or damaged, texts of 0 tokens, empty labels, classes in two splits,
    /// names of classes without texts, and vectors that are short, too long or not finite.
    pub fn build(&self, data_dir: Option<&Path>) -> Result<TextSource> {
        self.check()?;
        let corpus = Corpus::open(self, data_dir)?;
        let (splits, split_by) = self.split_classes(&corpus, data_dir)?;
        let mut counts = vec![0u64; corpus.words.len()];
        for &class in &splits[Split::Train.position()] {
            for &text in &corpus.texts[class] {
                for &word in corpus.text(text).0 {
                    counts[word as usize] += 1;
                }
            }
        }
        let lexicon = Lexicon::of(self, &corpus, &counts, data_dir)?;
        let mut source = TextSource {
            settings: self.clone(),
            width: lexicon.width,
            tokens: Vec::with_capacity(corpus.len()),
            distances: Vec::new(),
            ends: Vec::with_capacity(corpus.len()),
            class_vectors: Vec::new(),
            splits,
            lexicon,
            content_hash: String::new(),
            described: Value::Null,
            classes: Vec::new(),
            texts: Vec::new(),
            outside: <[Vec<u32>; 3]>::default(),
        };
        let cut = source.take(&corpus);
        source.classes = corpus.classes;
        source.texts = corpus.texts;
        source.outside = corpus.outside;
        if self.name_vectors {
            let vectors = corpus.names.iter().map(|words| source.name_vector(words));
            source.class_vectors = vectors.collect::<Vec<_>>().concat();
        }
        source.describe_as(split_by, cut);
        Ok(source)
    }

    /// The classes of each split, and by what they are split.
    fn split_classes(
        &self,
        corpus: &Corpus,
        data_dir: Option<&Path>,
    ) -> Result<(Splits, &'static str)> {
        let names: Vec<&str> = corpus.classes.iter().map(String::as_str).collect();
        let (mut splits, by) = if self.has_class_lists() {
            let lists = by_files(self.class_lists(), &names, &corpus.path, data_dir)?;
            (lists, "files of classes")
        } else if self.is_split_by_files() {
            let of = |split| {
                let classes = 0..names.len();
                classes
                    .filter(|&class| corpus.parts[class] == split)
                    .collect()
            };
            (Split::ALL.map(of), "files of texts")
        } else {
            (self.fractions().by_name(names), "hash of the class name")
        };
        for split in &mut splits {
            split.retain(|&class| corpus.texts[class].len() >= self.least_texts);
        }
        Ok((splits, by))
    }
}

impl SourceSettings for TextSettings {
    const NAME: &str = "text";
    const SUMMARY: &str = "texts with labels (csv, tsv, json, jsonl) as sequences of word vectors (GloVe, fastText, word2vec)";

    fn open(&self, data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build(data_folder)?))
    }
}

/// The vectors of the words of a corpus.
struct Lexicon {
    width: usize,
    /// `[known + 1, d]`: the mean vector, then one for each known word.
    vectors: Vec<f32>,
    /// `ε / (ε + p)` of each row of `vectors`; 1 of the first, which stands for words that are not known.
    statistics: Vec<f32>,
    /// The row of each word of the corpus; 0 for an unknown one.
    rows: Vec<u32>,
    /// Words with their rows, for the names of classes.
    names: std::collections::HashMap<String, u32>,
    /// Words that the file of vectors has.
    in_file: usize,
}

impl Lexicon {
    fn of(
        settings: &TextSettings,
        corpus: &Corpus,
        counts: &[u64],
        data_dir: Option<&Path>,
    ) -> Result<Self> {
        // Words of names have vectors too.
        let in_names = || corpus.names.iter().flatten();
        let all = || corpus.words.iter().chain(in_names()).map(String::as_str);
        let file = match settings.vectors.as_str() {
            "" => None,
            path => {
                let path = resolve(path, data_dir);
                let words = resolve(&settings.vector_words, data_dir);
                let wanted: HashSet<&str> = all().collect();
                Some(WordVectors::read(&path, &words, settings, &wanted)?)
            }
        };
        let width = file
            .as_ref()
            .map_or(settings.vector_width, |file| file.width);
        let mut lexicon = Lexicon {
            width,
            vectors: vec![0.0; width],
            statistics: vec![1.0],
            rows: vec![0; corpus.words.len()],
            names: Default::default(),
            in_file: file.as_ref().map_or(0, |file| file.words),
        };
        let of_training = file.is_none() || settings.vocabulary == Vocabulary::Training;
        let vector = |word: &str| match &file {
            Some(file) => file.get(word).map(<[f32]>::to_vec),
            None => Some(random_vector(word, width)),
        };
        let total: u64 = counts.iter().sum();
        let (mut mean, mut seen) = (vec![0.0f64; width], 0u64);
        for (number, word) in all().enumerate() {
            let count = counts.get(number).copied().unwrap_or(0);
            let is_out = of_training && count < settings.least_count as u64;
            // Of a name, words that no text has are as those of texts of no training class.
            let stands_for_others = corpus.unknown.as_deref() == Some(word);
            if is_out || stands_for_others || lexicon.names.contains_key(word) {
                continue;
            }
            let Some(mut vector) = vector(word) else {
                continue;
            };
            let share = count as f64 / total.max(1) as f64;
            if settings.frequency_weight > 0.0 {
                let weight = settings.frequency_weight / (settings.frequency_weight + share);
                vector
                    .iter_mut()
                    .for_each(|number| *number *= weight as f32);
            }
            if count > 0 {
                seen += 1;
                mean.iter_mut()
                    .zip(&vector)
                    .for_each(|(sum, number)| *sum += f64::from(*number));
            }
            let row = (lexicon.vectors.len() / width) as u32;
            lexicon.vectors.extend(vector);
            let statistic = STATISTIC / (STATISTIC + share);
            lexicon.statistics.push(statistic as f32);
            lexicon.names.insert(word.to_owned(), row);
            if let Some(place) = lexicon.rows.get_mut(number) {
                *place = row;
            }
        }
        if seen == 0 {
            let what = match settings.vectors.as_str() {
                "" => corpus.path.clone(),
                path => resolve(path, data_dir),
            };
            let message = "has no word of the texts of training classes";
            return Err(Error::data(what, message));
        }
        for (place, sum) in lexicon.vectors.iter_mut().zip(mean) {
            *place = (sum / seen as f64) as f32;
        }
        Ok(lexicon)
    }

    fn vector(&self, row: u32) -> &[f32] {
        let first = row as usize * self.width;
        &self.vectors[first..first + self.width]
    }
}

/// Normal numbers that depend on the word alone, of unit length on average.
fn random_vector(word: &str, width: usize) -> Vec<f32> {
    let mut stream = Seed(0).stream("text/word", 0, word);
    let scale = 1.0 / (width as f64).sqrt();
    (0..width)
        .map(|_| (scale * stream.normal()) as f32)
        .collect()
}

/// Texts by class; an item is a sequence of word vectors.
pub struct TextSource {
    settings: TextSettings,
    classes: Vec<String>,
    /// Texts of each class.
    texts: Vec<Vec<u32>>,
    /// Texts of no class, by split.
    outside: [Vec<u32>; 3],
    splits: Splits,
    lexicon: Lexicon,
    width: usize,
    /// Rows of the lexicon, of all texts one after the other.
    tokens: Vec<u32>,
    distances: Vec<[i32; 2]>,
    ends: Vec<usize>,
    /// `[classes, d]`, where they are wanted.
    class_vectors: Vec<f32>,
    content_hash: String,
    described: Value,
}

/// What of the texts could not be kept.
struct Cut {
    tokens: usize,
    unknown: usize,
    shortened: usize,
    without_words: usize,
}

impl TextSource {
    /// Names of the classes of a split, in order.
    pub fn class_names(&self, split: Split) -> impl Iterator<Item = &str> {
        let classes = self.splits[split.position()].iter();
        classes.map(|&class| self.classes[class].as_str())
    }

    /// Takes the texts as rows of the lexicon.
    fn take(&mut self, corpus: &Corpus) -> Cut {
        let mut cut = Cut {
            tokens: 0,
            unknown: 0,
            shortened: 0,
            without_words: 0,
        };
        for text in 0..corpus.len() as u32 {
            let (words, distances) = corpus.text(text);
            let first = self.tokens.len();
            cut.tokens += words.len();
            for (place, &word) in words.iter().enumerate() {
                let row = self.lexicon.rows[word as usize];
                cut.unknown += usize::from(row == 0);
                if row == 0 && self.settings.unknown == UnknownWords::Skip {
                    continue;
                }
                if self.tokens.len() - first == self.settings.length {
                    cut.shortened += 1;
                    break;
                }
                self.tokens.push(row);
                self.distances.extend(distances.get(place));
            }
            if self.tokens.len() == first {
                cut.without_words += 1;
                self.tokens.push(0);
                self.distances.extend(distances.first());
            }
            self.ends.push(self.tokens.len());
        }
        cut
    }

    /// Numbers of a token.
    fn token_width(&self) -> usize {
        let entities = match self.settings.entities.is_empty() {
            true => 0,
            false => ENTITY_NUMBERS,
        };
        self.width + entities + usize::from(self.settings.word_statistics)
    }

    /// The mean of the vectors of the words of a name; the mean vector where none is known.
    fn name_vector(&self, words: &[String]) -> Vec<f32> {
        let rows: Vec<u32> = words
            .iter()
            .filter_map(|word| self.lexicon.names.get(word).copied())
            .collect();
        let rows = if rows.is_empty() { vec![0] } else { rows };
        let mut mean = vec![0.0; self.width];
        for &row in &rows {
            for (sum, number) in mean.iter_mut().zip(self.lexicon.vector(row)) {
                *sum += number / rows.len() as f32;
            }
        }
        mean
    }

    /// Writes the tokens of a text; what comes after them is zero.
    fn write(&self, text: u32, place: &mut [f32]) {
        let text = text as usize;
        let first = text.checked_sub(1).map_or(0, |before| self.ends[before]);
        let rows = first..self.ends[text];
        let places = place.chunks_exact_mut(self.token_width());
        for (token, place) in rows.zip(places) {
            let word = self.tokens[token];
            place[..self.width].copy_from_slice(self.lexicon.vector(word));
            if let (true, Some(last)) = (self.settings.word_statistics, place.last_mut()) {
                *last = self.lexicon.statistics[word as usize];
            }
            if let Some(&distances) = self.distances.get(token) {
                let within = distances.map(|distance| f32::from(u8::from(distance == 0)));
                let length = self.settings.length as f32;
                let far = distances.map(|distance| (distance as f32 / length).clamp(-1.0, 1.0));
                place[self.width..self.width + ENTITY_NUMBERS]
                    .copy_from_slice(&[within[0], within[1], far[0], far[1]]);
            }
        }
    }

    fn smallest(&self, split: Split) -> Option<Smallest<'_>> {
        let classes = self.splits[split.position()].iter();
        let class = classes.min_by_key(|&&class| self.texts[class].len())?;
        Some(Smallest {
            items: self.texts[*class].len(),
            name: Some(&self.classes[*class]),
        })
    }

    /// Sets what the source says of itself.
    fn describe_as(&mut self, split_by: &str, cut: Cut) {
        let mut hasher = blake3::Hasher::new();
        let TextSettings {
            length, entities, ..
        } = &self.settings;
        let head = json!([
            length,
            self.width,
            entities.len(),
            self.classes,
            self.splits,
            self.texts
        ]);
        hasher.update(format!("text 1\n{head}\n{:?}\n", self.outside).as_bytes());
        for number in self.lexicon.vectors.iter().chain(&self.class_vectors) {
            hasher.update(&number.to_le_bytes());
        }
        if self.settings.word_statistics {
            for statistic in &self.lexicon.statistics {
                hasher.update(&statistic.to_le_bytes());
            }
        }
        for row in &self.tokens {
            hasher.update(&row.to_le_bytes());
        }
        for distance in self.distances.iter().flatten() {
            hasher.update(&distance.to_le_bytes());
        }
        for end in &self.ends {
            hasher.update(&(*end as u64).to_le_bytes());
        }
        self.content_hash = hasher.finalize().to_hex().to_string();
        let counts = |split: Split| {
            json!({
                "classes": self.splits[split.position()].len(),
                "smallest_class": self.smallest(split).map_or(0, |smallest| smallest.items),
            })
        };
        self.described = json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "texts": self.ends.len(),
            "texts_of_no_class": self.outside.iter().map(Vec::len).sum::<usize>(),
            "tokens": cut.tokens,
            "unknown_tokens": cut.unknown,
            "shortened_texts": cut.shortened,
            "texts_without_known_words": cut.without_words,
            "known_words": self.lexicon.vectors.len() / self.width - 1,
            "words_with_vectors": self.lexicon.in_file,
            "train": counts(Split::Train),
            "validation": counts(Split::Validation),
            "test": counts(Split::Test),
            "split_by": split_by,
            "settings": self.settings.to_value(),
            "content_hash": self.content_hash,
        });
        if self.settings.name_vectors {
            self.described["class_vector_width"] = json!(self.width);
        }
    }
}

impl Source for TextSource {
    fn name(&self) -> &'static str {
        TextSettings::NAME
    }

    fn task(&self) -> Task {
        Task::Classification
    }

    fn item_shape(&self) -> ItemShape {
        ItemShape {
            height: self.settings.length,
            width: 1,
            channels: self.token_width(),
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

    fn extras(&self) -> Extras {
        Extras {
            class_vector: match self.settings.name_vectors {
                true => self.width,
                false => 0,
            },
            ..Extras::default()
        }
    }

    fn item_words(&self, item: &[f32]) -> Option<Vec<String>> {
        let mut words = vec![None; self.lexicon.vectors.len() / self.width];
        for (word, &row) in &self.lexicon.names {
            words[row as usize] = Some(word.as_str());
        }
        let rows = item.chunks_exact(self.token_width());
        let there = rows.take_while(|row| row.iter().any(|&number| number != 0.0));
        let named = there.map(|row| {
            let vectors = self.lexicon.vectors.chunks_exact(self.width);
            // The vector of what is unknown may be that of a word, too.
            let mut named = vectors.zip(&words).filter(|(_, word)| word.is_some());
            let found = named.find(|(vector, _)| **vector == row[..self.width]);
            found
                .and_then(|(_, word)| *word)
                .unwrap_or("⟨unknown⟩")
                .to_owned()
        });
        Some(named.collect())
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
        let items = |position: usize| self.texts[classes[position]].len();
        let draws = draw_classes(seed, split, shape, index, classes.len(), items);
        let references = draws.iter().map(|draw| ClassRef {
            class: classes[draw.position] as u32,
            position: draw.position as u32,
            quarter_turns: 0,
        });
        let features = self.item_shape().features();
        let write = |label: usize, item: usize, place: &mut [f32]| {
            let class = classes[draws[label].position];
            self.write(self.texts[class][item], place);
        };
        let references = references.collect();
        let mut episode = assemble(index, shape, features, &draws, references, write);
        if self.settings.name_vectors {
            let vectors = draws.iter().flat_map(|draw| {
                let first = classes[draw.position] * self.width;
                &self.class_vectors[first..first + self.width]
            });
            episode.class_vectors = Some(vectors.copied().collect());
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
        let texts = &self.outside[split.position()];
        if texts.len() < count {
            return Ok(None);
        }
        let mut stream = seed.stream(split.scope(), index, "outsiders");
        let drawn = stream.choose_distinct(texts.len(), count);
        let features = self.item_shape().features();
        let mut numbers = vec![0.0; count * features];
        for (text, place) in drawn.into_iter().zip(numbers.chunks_exact_mut(features)) {
            self.write(texts[text], place);
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

impl std::fmt::Debug for TextSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TextSource")
            .field("description", &self.described)
            .finish_non_exhaustive()
    }
}
