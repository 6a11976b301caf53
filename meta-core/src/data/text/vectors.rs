//! Word vectors of files, for the words that are wanted.

mod cache;

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;

use self::cache::{MAXIMUM_WIDTH, VectorCache};
use super::settings::TextSettings;
use crate::data::formats::{
    Array, Arrays, Lines, MAXIMUM_TEXT, Vectors, open_unpacked, read_labels,
};
use crate::error::{Error, Result};
use crate::files;

/// The most bytes of a word of a binary file.
const MAXIMUM_WORD: u64 = 1 << 12;

/// The file in which a model2vec folder has its words, and its array of vectors.
pub(super) const TOKENIZER: &str = "tokenizer.json";
const EMBEDDINGS: &str = "embeddings";
/// The largest `tokenizer.json`.
pub(super) const MAXIMUM_TOKENIZER: u64 = 1 << 28;

/// What is done with each word of a file and its vector.
type Keep<'k> = dyn FnMut(&str, &[f32]) + 'k;
/// A reader of a file with words and vectors in turn.
type ReadWords = fn(&mut WordVectors, &Path, &HashSet<&str>, &mut Keep<'_>) -> Result<()>;

/// The words of a `tokenizer.json` in the order of their numbers; nothing for a number without a word. Without
/// `marks`, those of a word's beginning (`▁`, `Ġ`) are left out, and parts of words (`##ing`) are words like
/// others, which no text has.
fn vocabulary(path: &Path, marks: bool) -> Result<Vec<String>> {
    let text = files::read_text(path, MAXIMUM_TOKENIZER)?;
    let fault = |reason: String| Error::data(path, reason);
    let tokenizer: Value = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
    let named = |word: &str| match marks {
        true => word.to_owned(),
        false => word.trim_start_matches(['\u{2581}', '\u{120}']).to_owned(),
    };
    match &tokenizer["model"]["vocab"] {
        Value::Object(numbers) => {
            let mut words = vec![String::new(); numbers.len()];
            for (word, number) in numbers {
                let place = number
                    .as_u64()
                    .and_then(|number| usize::try_from(number).ok());
                let place = place
                    .and_then(|place| words.get_mut(place))
                    .ok_or_else(|| {
                        let count = numbers.len();
                        fault(format!(
                            "has the number {number} for `{word}`, one of {count} words"
                        ))
                    })?;
                *place = named(word);
            }
            Ok(words)
        }
        Value::Array(entries) => {
            let word = |entry: &Value| entry[0].as_str().map(named);
            let words = entries.iter().map(word).collect::<Option<Vec<String>>>();
            words.ok_or_else(|| fault("has an entry of `model.vocab` that is no word".to_owned()))
        }
        _ => Err(fault(
            "has no `model.vocab`, the words of a tokenizer".to_owned(),
        )),
    }
}

/// Vectors by word.
#[derive(Debug)]
pub(super) struct WordVectors {
    pub width: usize,
    places: HashMap<String, usize>,
    numbers: Vec<f32>,
    /// Words of the file, wanted or not.
    pub words: usize,
}

impl WordVectors {
    /// Reads the vectors of the words `wanted`, by the ending of the file's name:
    ///
    /// | ending | layout |
    /// |---|---|
    /// | `.txt`, `.vec` | GloVe: a word and its numbers a line; fastText: a line `words width` before them |
    /// | `.bin` | word2vec |
    /// | `.safetensors`, `.npz`, `.npy`, `.pt` | an array `[words, width]`, and the words in a file of their own |
    ///
    /// the first two also with `.gz`; and a folder of model2vec, which has `model.safetensors` and
    /// `tokenizer.json`. The first vector of a word counts. Large files of the first two are kept in a form
    /// that opens at once.
    pub fn read(
        path: &Path,
        words: &Path,
        settings: &TextSettings,
        wanted: &HashSet<&str>,
    ) -> Result<Self> {
        if path.is_dir() {
            return Self::read(&path.join("model.safetensors"), words, settings, wanted);
        }
        let name = path.to_string_lossy().to_ascii_lowercase();
        let name = name.trim_end_matches(".gz");
        let mut vectors = WordVectors {
            width: 0,
            places: HashMap::new(),
            numbers: Vec::new(),
            words: 0,
        };
        match name.rsplit('.').next().unwrap_or_default() {
            "txt" | "vec" => vectors.read_cached(path, settings, wanted, Self::read_lines)?,
            "bin" => vectors.read_cached(path, settings, wanted, Self::read_binary)?,
            "safetensors" | "npz" | "npy" | "pt" | "pth" => {
                vectors.read_array(path, words, settings, wanted)?;
            }
            _ => {
                let message = "has an ending that is not known; word vectors are read from .txt, .vec, .bin (each \
                               also with .gz), .safetensors, .npz, .npy and .pt";
                return Err(Error::data(path, message));
            }
        }
        if vectors.words == 0 {
            return Err(Error::data(path, "holds no word vectors"));
        }
        Ok(vectors)
    }

    /// The vector of a word.
    pub fn get(&self, word: &str) -> Option<&[f32]> {
        let first = self.places.get(word)? * self.width;
        self.numbers.get(first..first + self.width)
    }

    fn set_width(&mut self, path: &Path, place: &str, width: usize) -> Result<()> {
        if !(1..=MAXIMUM_WIDTH).contains(&width) {
            let message =
                format!("{place} has vectors of {width} numbers; 1 to {MAXIMUM_WIDTH} are read");
            return Err(Error::data(path, message));
        }
        self.width = width;
        Ok(())
    }

    /// Takes a vector that is wanted and not there yet. One of zeros is as good as none: that is what
    /// padding is.
    fn take(&mut self, word: &str, numbers: &[f32]) {
        let is_new = !self.places.contains_key(word);
        if is_new && numbers.iter().any(|&number| number != 0.0) {
            self.places.insert(word.to_owned(), self.places.len());
            self.numbers.extend_from_slice(numbers);
        }
    }

    /// Takes the vectors from the cache, or reads the file and puts all of them there.
    fn read_cached(
        &mut self,
        path: &Path,
        settings: &TextSettings,
        wanted: &HashSet<&str>,
        read: ReadWords,
    ) -> Result<()> {
        let Some(cache) = VectorCache::of(path, &settings.cache_dir) else {
            return read(self, path, wanted, &mut |_, _| ());
        };
        let Some(found) = cache.load(wanted) else {
            return cache.fill(|keep| read(self, path, wanted, keep));
        };
        self.width = found.width;
        self.words = found.words;
        for (word, numbers) in found
            .names
            .iter()
            .zip(found.numbers.chunks_exact(found.width))
        {
            self.take(word, numbers);
        }
        Ok(())
    }

    fn read_lines(
        &mut self,
        path: &Path,
        wanted: &HashSet<&str>,
        keep: &mut Keep<'_>,
    ) -> Result<()> {
        let mut lines = Lines::open(path)?;
        let mut numbers: Vec<f32> = Vec::new();
        while let Some((number, line)) = lines.next_line()? {
            let fault = |reason: String| Error::data(path, format!("line {number} {reason}"));
            let line = line.trim_end();
            let fields = line.split(' ').count();
            if number == 1 && fields == 2 {
                let mut counts = line.split(' ').map(str::parse::<usize>);
                if let (Some(Ok(_)), Some(Ok(width))) = (counts.next(), counts.next()) {
                    self.set_width(path, "line 1", width)?;
                    continue;
                }
            }
            if self.width == 0 {
                self.set_width(path, &format!("line {number}"), fields - 1)?;
            }
            if fields <= self.width {
                return Err(fault(format!(
                    "has {} numbers, and vectors have {}",
                    fields - 1,
                    self.width
                )));
            }
            // A word may have spaces; numbers before the vector are none.
            let mut backwards = line.rsplitn(self.width + 1, ' ');
            numbers.clear();
            for text in backwards.by_ref().take(self.width) {
                let parsed = text.parse::<f32>().ok().filter(|parsed| parsed.is_finite());
                numbers.push(parsed.ok_or_else(|| fault(format!("has `{text}` for a number")))?);
            }
            numbers.reverse();
            let word = backwards.next().unwrap_or_default();
            let mut parts = word.split(' ');
            if fields > self.width + 1
                && parts
                    .by_ref()
                    .skip(1)
                    .all(|part| part.parse::<f32>().is_ok())
            {
                return Err(fault(format!(
                    "has {} numbers, and vectors have {}",
                    fields - 1,
                    self.width
                )));
            }
            self.words += 1;
            keep(word, &numbers);
            if wanted.contains(word) {
                self.take(word, &numbers);
            }
        }
        Ok(())
    }

    fn read_binary(
        &mut self,
        path: &Path,
        wanted: &HashSet<&str>,
        keep: &mut Keep<'_>,
    ) -> Result<()> {
        let (_, bytes) = open_unpacked(path, MAXIMUM_TEXT * 4)?;
        let mut bytes = BufReader::new(bytes);
        let mut header = Vec::new();
        let unreadable =
            |error: std::io::Error| Error::data(path, format!("cannot be read: {error}"));
        (&mut bytes)
            .take(64)
            .read_until(b'\n', &mut header)
            .map_err(unreadable)?;
        let header = String::from_utf8_lossy(&header);
        let counts: Vec<usize> = header
            .split_whitespace()
            .flat_map(str::parse::<usize>)
            .collect();
        let [count, width] = counts[..] else {
            let message = format!(
                "begins with `{}`; word2vec's `words width` is expected",
                header.trim()
            );
            return Err(Error::data(path, message));
        };
        self.set_width(path, "the header", width)?;
        let mut place = vec![0; 4 * width];
        let mut word = Vec::new();
        let mut numbers = Vec::with_capacity(width);
        for entry in 1..=count {
            let fault = |reason: String| Error::data(path, format!("word {entry} {reason}"));
            word.clear();
            (&mut bytes)
                .take(MAXIMUM_WORD)
                .read_until(b' ', &mut word)
                .map_err(unreadable)?;
            if word.pop() != Some(b' ') {
                return Err(fault(format!(
                    "of {count} is cut short or longer than {MAXIMUM_WORD} bytes"
                )));
            }
            let found = bytes.read_exact(&mut place);
            found.map_err(|error| fault(format!("of {count} is cut short: {error}")))?;
            numbers.clear();
            let fours = place.chunks_exact(4).filter_map(|four| four.first_chunk());
            numbers.extend(fours.map(|four| f32::from_le_bytes(*four)));
            let word = String::from_utf8_lossy(&word);
            let word = word.trim_start_matches('\n');
            if let Some(number) = numbers.iter().find(|number| !number.is_finite()) {
                return Err(fault(format!("(`{word}`) has {number} for a number")));
            }
            self.words += 1;
            keep(word, &numbers);
            if wanted.contains(word) {
                self.take(word, &numbers);
            }
        }
        Ok(())
    }

    fn read_array(
        &mut self,
        path: &Path,
        words: &Path,
        settings: &TextSettings,
        wanted: &HashSet<&str>,
    ) -> Result<()> {
        // model2vec keeps them beside each other.
        let tokenizer = path.with_file_name(TOKENIZER);
        let words = match settings.vector_words.is_empty() {
            false => words,
            true if tokenizer.is_file() => &tokenizer,
            true => {
                let expected = "must name the file of the words of an array of vectors, one a line, or a \
                                `tokenizer.json`";
                return Err(Error::setting("data.vector_words", "\"\"", expected));
            }
        };
        let mut arrays = Arrays::open(path)?;
        let names = arrays.names();
        let key = match (settings.vector_key.as_str(), names.as_slice()) {
            ("", [one]) => one.clone(),
            ("", all) if all.iter().any(|name| name == EMBEDDINGS) => EMBEDDINGS.to_owned(),
            ("", _) => {
                let message = format!(
                    "has the arrays `{}`; name one in `data.vector_key`",
                    names.join("`, `")
                );
                return Err(Error::data(path, message));
            }
            (key, _) => key.to_owned(),
        };
        let fault = |reason: String| Error::data(path, format!("array `{key}` {reason}"));
        let vectors = match arrays.array(&key)? {
            Array::Numbers(numbers) => Vectors::new(numbers).map_err(fault)?,
            Array::Text(_) => return Err(fault("holds text, not vectors".to_owned())),
        };
        self.set_width(path, &format!("array `{key}`"), vectors.width())?;
        let words_of: Vec<String> = match words.extension().is_some_and(|ending| ending == "json") {
            true => vocabulary(words, !settings.tokenizer.is_empty())?,
            false => read_labels(words, "")?.iter().map(str::to_owned).collect(),
        };
        if words_of.len() != vectors.rows() {
            let message = format!(
                "has {} words, and `{key}` of {} has {} vectors",
                words_of.len(),
                path.display(),
                vectors.rows()
            );
            return Err(Error::data(words, message));
        }
        let mut numbers = vec![0.0; self.width];
        for (row, word) in words_of.iter().enumerate() {
            self.words += 1;
            if !wanted.contains(word.as_str()) {
                continue;
            }
            let read = vectors.read(row, &mut numbers);
            read.map_err(|error| Error::io(path, "read", error))?;
            if let Some(number) = numbers.iter().find(|number| !number.is_finite()) {
                return Err(fault(format!("has {number} in row {row} (`{word}`)")));
            }
            self.take(word, &numbers);
        }
        Ok(())
    }
}
