//! Word vectors on disk in a form that opens at once: of a large file of text, the next start reads the words that
//! it wants and nothing else.
//!
//! A cache file is, in numbers of little-endian bytes:
//!
//! | what | bytes |
//! |---|---|
//! | `METAWRD1`, and the key | 8 + 32 |
//! | for each row its `width` numbers, and a checksum of them and the word | 4·width + 8 |
//! | rows of the words, in the order of the words | 4 each |
//! | where each word ends in what follows | 8 each |
//! | the words, in the order of their bytes | |
//! | number of words, bytes of words, width, words of the source | 8 each |
//! | BLAKE3 of the last four lines | 32 |
//!
//! The key names path, size and time of the source. What does not fit is read and written again; a file that is
//! no cache is left as it is. A folder that cannot be written costs a warning and time, never the run.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use crate::data::formats::Region;
use crate::data::image_cache::{default_folder, is_foreign};
use crate::error::{Error, Result};
use crate::files::{open_regular, write_atomically_by};

/// The most numbers of a vector.
pub(super) const MAXIMUM_WIDTH: usize = 4096;

const MAGIC: &[u8; 8] = b"METAWRD1";
const HEAD: u64 = 8 + 32;
const TAIL: u64 = 4 * 8 + 32;
/// Bytes of the checksum of a row.
const SUM: usize = 8;
/// The largest index that is read.
const MAXIMUM_INDEX: u64 = 1 << 31;
/// A file that is smaller is read again as fast.
const SMALLEST: u64 = 1 << 20;

/// The place of the vectors of a file among the caches; there may be nothing yet.
pub(super) struct VectorCache {
    file: PathBuf,
    key: blake3::Hash,
}

/// What a cache had.
pub(super) struct Cached {
    pub width: usize,
    /// Words of the source.
    pub words: usize,
    /// The words that are wanted and there.
    pub names: Vec<String>,
    /// Their vectors.
    pub numbers: Vec<f32>,
}

fn checksum(word: &str, row: &[u8]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(word.as_bytes()).update(&[0]).update(row);
    let mut sum = [0; SUM];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..SUM]);
    sum
}

impl VectorCache {
    /// The place in `folder`, or in the default folder for caches where that is empty; none for a small file, for
    /// one of no kind that can be recognised, and without such a folder.
    pub fn of(path: &Path, folder: &str) -> Option<Self> {
        let folder = match folder {
            "" => default_folder()?,
            folder => PathBuf::from(folder),
        };
        let path = std::fs::canonicalize(path).ok()?;
        let metadata = std::fs::metadata(&path).ok()?;
        if !metadata.is_file() || metadata.len() < SMALLEST {
            return None;
        }
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let path = path.to_str()?;
        let name = blake3::hash(path.as_bytes()).to_hex();
        let key = format!("{path}\n{}\n{}", metadata.len(), modified.as_nanos());
        Some(VectorCache {
            file: folder.join(format!("vectors-{}.words", &name[..32])),
            key: blake3::hash(key.as_bytes()),
        })
    }

    /// The vectors of the words that are wanted, where there is a sound cache of the file as it is.
    pub fn load(&self, wanted: &HashSet<&str>) -> Option<Cached> {
        let file = open_regular(&self.file, u64::MAX).ok()?.into_inner();
        let length = file.metadata().ok()?.len();
        let whole = Region::file(Arc::new(file), 0, length);
        let mut head = [0; HEAD as usize];
        whole.read(0, &mut head).ok()?;
        if !head.starts_with(MAGIC) || head[8..] != *self.key.as_bytes() {
            return None;
        }
        let found = Index::read(&whole).and_then(|index| index.find(&whole, wanted));
        if found.is_none() {
            let file = self.file.display();
            tracing::warn!(%file, "the cache of word vectors is damaged; they are read again");
        }
        found
    }

    /// Reads the source by `read`, which hands over each word with its vector, and keeps them. Failing to keep
    /// them is only worth a warning.
    pub fn fill(
        &self,
        read: impl FnOnce(&mut dyn FnMut(&str, &[f32])) -> Result<()>,
    ) -> Result<()> {
        let (mut read, mut found) = (Some(read), None);
        let mut fill = |file: &mut File| {
            let mut writer = Writer::new(file, self.key)?;
            if let Some(read) = read.take() {
                found = Some(read(&mut |word, numbers| writer.take(word, numbers)));
            }
            match found {
                Some(Ok(())) => writer.finish(),
                _ => Err(io::Error::other("the vectors cannot be read")),
            }
        };
        let written = self.write(&mut fill);
        let found = match (found, read) {
            (Some(found), _) => found,
            (None, Some(read)) => read(&mut |_, _| ()),
            (None, None) => Ok(()),
        };
        if let (Ok(()), Err(error)) = (&found, written) {
            tracing::warn!(%error, "cannot keep word vectors; the next start reads them again");
        }
        found
    }

    fn write(&self, fill: &mut dyn FnMut(&mut File) -> io::Result<()>) -> Result<()> {
        if is_foreign(&self.file, MAGIC) {
            let message = "is no cache of word vectors; it is left as it is";
            return Err(Error::data(&self.file, message));
        }
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|error| Error::io(folder, "create folder", error))?;
        }
        write_atomically_by(&self.file, fill)
    }
}

/// Writes rows as they come, and at last the index.
struct Writer<'f> {
    to: BufWriter<&'f mut File>,
    rows: HashMap<String, u32>,
    /// Numbers of a vector; 0 before the first.
    width: usize,
    words: u64,
    /// Why no more is written.
    failed: Option<io::Error>,
}

impl<'f> Writer<'f> {
    fn new(file: &'f mut File, key: blake3::Hash) -> io::Result<Self> {
        let mut to = BufWriter::new(file);
        to.write_all(MAGIC)?;
        to.write_all(key.as_bytes())?;
        Ok(Writer {
            to,
            rows: HashMap::new(),
            width: 0,
            words: 0,
            failed: None,
        })
    }

    /// Takes the first vector of a word that is not zero.
    fn take(&mut self, word: &str, numbers: &[f32]) {
        self.words += 1;
        self.width = numbers.len();
        let is_new = !self.rows.contains_key(word) && numbers.iter().any(|&number| number != 0.0);
        if !is_new || self.failed.is_some() {
            return;
        }
        let row: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let written = u32::try_from(self.rows.len())
            .map_err(io::Error::other)
            .and_then(|number| {
                self.rows.insert(word.to_owned(), number);
                self.to.write_all(&row)?;
                self.to.write_all(&checksum(word, &row))
            });
        self.failed = written.err();
    }

    fn finish(mut self) -> io::Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut words: Vec<(String, u32)> = self.rows.into_iter().collect();
        words.sort_unstable();
        let mut index = Vec::new();
        for (_, row) in &words {
            index.extend(row.to_le_bytes());
        }
        let mut end = 0;
        for (word, _) in &words {
            end += word.len() as u64;
            index.extend(end.to_le_bytes());
        }
        for (word, _) in &words {
            index.extend(word.as_bytes());
        }
        for number in [words.len() as u64, end, self.width as u64, self.words] {
            index.extend(number.to_le_bytes());
        }
        let hash = blake3::hash(&index);
        self.to.write_all(&index)?;
        self.to.write_all(hash.as_bytes())?;
        self.to.flush()
    }
}

/// The words of a cache file and where their rows are.
struct Index {
    count: usize,
    width: usize,
    words: usize,
    /// Rows, ends and words, one after the other.
    bytes: Vec<u8>,
}

impl Index {
    /// None for what no writer wrote.
    fn read(whole: &Region) -> Option<Self> {
        let first_of_tail = whole.len().checked_sub(TAIL)?;
        let mut tail = [0; TAIL as usize];
        whole.read(first_of_tail, &mut tail).ok()?;
        let number = |place: usize| -> Option<u64> {
            Some(u64::from_le_bytes(*tail.get(8 * place..)?.first_chunk()?))
        };
        let [count, text, width, words] = [number(0)?, number(1)?, number(2)?, number(3)?];
        if !(1..=MAXIMUM_WIDTH as u64).contains(&width) || words == 0 {
            return None;
        }
        let rows = count.checked_mul(4 * width + SUM as u64)?;
        let length = count.checked_mul(12)?.checked_add(text)?;
        let first = HEAD.checked_add(rows)?;
        if first.checked_add(length)? != first_of_tail || length > MAXIMUM_INDEX {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        whole.read(first, &mut bytes).ok()?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes).update(&tail[..4 * 8]);
        if *hasher.finalize().as_bytes() != tail[4 * 8..] {
            return None;
        }
        Some(Index {
            count: usize::try_from(count).ok()?,
            width: usize::try_from(width).ok()?,
            words: usize::try_from(words).ok()?,
            bytes,
        })
    }

    /// The row of the word at a place.
    fn row(&self, place: usize) -> Option<u32> {
        let bytes = self.bytes.get(4 * place..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    }

    fn end(&self, place: usize) -> Option<usize> {
        let bytes = self
            .bytes
            .get(4 * self.count + 8 * place..)?
            .first_chunk()?;
        usize::try_from(u64::from_le_bytes(*bytes)).ok()
    }

    /// The word at a place.
    fn word(&self, place: usize) -> Option<&[u8]> {
        let first = match place {
            0 => 0,
            place => self.end(place - 1)?,
        };
        let words = self.bytes.get(12 * self.count..)?;
        words.get(first..self.end(place)?)
    }

    /// The row of a word; an error is an index that makes no sense.
    fn row_of(&self, word: &str) -> Result<Option<u32>, ()> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.word(middle).ok_or(())?.cmp(word.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return self.row(middle).ok_or(()).map(Some),
            }
        }
        Ok(None)
    }

    /// The vectors of the words that are wanted; none where a row is damaged.
    fn find(&self, whole: &Region, wanted: &HashSet<&str>) -> Option<Cached> {
        let mut found: Vec<(u32, &str)> = Vec::new();
        for word in wanted {
            if let Some(row) = self.row_of(word).ok()? {
                found.push((row, word));
            }
        }
        found.sort_unstable();
        let mut cached = Cached {
            width: self.width,
            words: self.words,
            names: Vec::with_capacity(found.len()),
            numbers: Vec::with_capacity(found.len() * self.width),
        };
        let mut bytes = vec![0; 4 * self.width + SUM];
        for (row, word) in found {
            let first = HEAD + u64::from(row) * bytes.len() as u64;
            whole.read(first, &mut bytes).ok()?;
            let (row, sum) = bytes.split_at(4 * self.width);
            if checksum(word, row) != *sum {
                return None;
            }
            let numbers = row.as_chunks().0.iter();
            cached
                .numbers
                .extend(numbers.map(|four| f32::from_le_bytes(*four)));
            cached.names.push(word.to_owned());
        }
        Some(cached)
    }
}
