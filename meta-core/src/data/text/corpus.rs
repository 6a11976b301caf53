//! Labelled texts as tokens.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::read::{Content, Keys, Row, read};
use super::settings::TextSettings;
use super::subwords::Subwords;
use super::tokens::Tokens;
use super::vectors::{MAXIMUM_TOKENIZER, TOKENIZER};
use crate::data::class_folders::compose;
use crate::data::episode::Split;
use crate::data::image_files::resolve;
use crate::error::{Error, Result};

/// The most tokens of a text that are looked at.
const MAXIMUM_TOKENS: usize = 1 << 16;
/// The most tokens of all texts.
const MAXIMUM_ALL: usize = 1 << 28;

/// All texts, cut into tokens.
#[derive(Default)]
pub(super) struct Corpus {
    /// The first file.
    pub path: PathBuf,
    /// Each word once, in the order of the first time.
    pub words: Vec<String>,
    numbers: HashMap<String, u32>,
    /// The words of all texts, one text after the other.
    tokens: Vec<u32>,
    /// Distances of each token from two entities, where they are wanted.
    distances: Vec<[i32; 2]>,
    /// Where each text ends among the tokens.
    ends: Vec<usize>,
    /// Names of classes, in order.
    pub classes: Vec<String>,
    /// Texts of each class.
    pub texts: Vec<Vec<u32>>,
    /// The split of the files of each class.
    pub parts: Vec<Split>,
    /// Texts of no class, by split.
    pub outside: [Vec<u32>; 3],
    /// The words of the name of each class, where they are wanted.
    pub names: Vec<Vec<String>>,
    /// A word that stands for all that are not known.
    pub unknown: Option<String>,
}

/// How texts are cut.
struct Cutter {
    tokens: Tokens,
    lowercase: bool,
    /// Cuts in place of the others.
    subwords: Option<Subwords>,
}

impl Cutter {
    fn open(settings: &TextSettings, data_dir: Option<&Path>) -> Result<Self> {
        let open = |file: &str| {
            let path = resolve(file, data_dir);
            let path = match path.is_dir() {
                true => path.join(TOKENIZER),
                false => path,
            };
            Subwords::open(&path, MAXIMUM_TOKENIZER)
        };
        let file = Some(settings.tokenizer.as_str()).filter(|file| !file.is_empty());
        Ok(Cutter {
            tokens: settings.tokens,
            lowercase: settings.lowercase,
            subwords: file.map(open).transpose()?,
        })
    }

    /// The words of a text; an error says why there are none.
    fn of<'c>(&self, content: &'c Content<'_>) -> Result<Vec<Cow<'c, str>>, String> {
        if let Some(subwords) = &self.subwords {
            let cut = match content {
                Content::Text(text) => subwords.of(text)?,
                Content::Tokens(tokens) => subwords.of(&tokens.join(" "))?,
            };
            return Ok(cut.into_iter().map(Cow::Owned).collect());
        }
        let tokens = match content {
            Content::Text(text) => self.tokens.of(text),
            Content::Tokens(tokens) => tokens.clone(),
        };
        let word = |token: &'c str| match self.lowercase {
            true => Cow::Owned(token.trim().to_lowercase()),
            false => Cow::Borrowed(token.trim()),
        };
        Ok(tokens.into_iter().map(word).collect())
    }

    /// The words of the name of a class: `card_arrival` has two.
    fn of_name(&self, name: &str) -> Result<Vec<String>, String> {
        let words = Tokens::Words.of(name).into_iter();
        let words = words.filter(|word| word.contains(char::is_alphanumeric));
        let words: Vec<String> = words.map(str::to_lowercase).collect();
        match &self.subwords {
            Some(subwords) => subwords.of(&words.join(" ")),
            None => Ok(words),
        }
    }
}

/// The texts of a class while files are read.
struct Class {
    texts: Vec<u32>,
    part: Split,
}

impl Corpus {
    /// Reads the files of the settings.
    pub fn open(settings: &TextSettings, data_dir: Option<&Path>) -> Result<Self> {
        let cutter = Cutter::open(settings, data_dir)?;
        let unknown = cutter.subwords.as_ref().and_then(Subwords::unknown);
        let mut corpus = Corpus {
            unknown: unknown.map(str::to_owned),
            ..Corpus::default()
        };
        let mut classes: BTreeMap<String, Class> = BTreeMap::new();
        let entities = match settings.entities.as_slice() {
            [head, tail] => Some([head.as_str(), tail.as_str()]),
            _ => None,
        };
        let keys = Keys {
            text: &settings.text,
            label: &settings.label,
            entities,
        };
        for (part, file) in settings.paths() {
            let path = resolve(file, data_dir);
            if corpus.path.as_os_str().is_empty() {
                corpus.path.clone_from(&path);
            }
            read(&path, &keys, &mut |row| {
                let place = row.place;
                let words = cutter.of(&row.content).map_err(|reason| {
                    Error::data(&path, format!("{place} has a text that {reason}"))
                })?;
                corpus.take(settings, &path, part, (&row, &words), &mut classes)
            })?;
        }
        if classes.is_empty() {
            return Err(Error::data(&corpus.path, "holds no labelled texts"));
        }
        for (name, class) in classes {
            corpus.classes.push(name);
            corpus.texts.push(class.texts);
            corpus.parts.push(class.part);
        }
        if settings.name_vectors {
            let words = corpus.classes.iter().map(|name| cutter.of_name(name));
            let words: Result<_, String> = words.collect();
            corpus.names = words.map_err(|reason| Error::data(&corpus.path, reason))?;
        }
        Ok(corpus)
    }

    /// The words of a text, and how far each is from two entities, where that was asked for.
    pub fn text(&self, text: u32) -> (&[u32], &[[i32; 2]]) {
        let text = text as usize;
        let first = text.checked_sub(1).map_or(0, |before| self.ends[before]);
        let end = self.ends[text];
        let distances = self.distances.get(first..end).unwrap_or_default();
        (&self.tokens[first..end], distances)
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The number of a word.
    fn number(&mut self, word: &str) -> u32 {
        if let Some(&number) = self.numbers.get(word) {
            return number;
        }
        let number = self.words.len() as u32;
        self.words.push(word.to_owned());
        self.numbers.insert(word.to_owned(), number);
        number
    }

    fn take(
        &mut self,
        settings: &TextSettings,
        path: &Path,
        part: Split,
        (row, tokens): (&Row<'_>, &[Cow<'_, str>]),
        classes: &mut BTreeMap<String, Class>,
    ) -> Result<()> {
        let place = row.place;
        let fault = |reason: String| Error::data(path, format!("{place} {reason}"));
        if tokens.iter().all(|token| token.trim().is_empty()) {
            return Err(fault("has a text of 0 tokens".to_owned()));
        }
        if self.tokens.len() + tokens.len() > MAXIMUM_ALL || self.ends.len() >= u32::MAX as usize {
            return Err(fault(format!(
                "is beyond the {MAXIMUM_ALL} tokens that are read"
            )));
        }
        let text = self.ends.len() as u32;
        for token in tokens.iter().take(MAXIMUM_TOKENS) {
            let number = self.number(token);
            self.tokens.push(number);
        }
        if let Some(entities) = &row.entities {
            for entity in entities {
                if let Some(beyond) = entity.iter().find(|&&place| place >= tokens.len()) {
                    let reason = format!(
                        "has an entity at token {beyond}, and {} tokens, counted from 0",
                        tokens.len()
                    );
                    return Err(fault(reason));
                }
            }
            let count = tokens.len().min(MAXIMUM_TOKENS);
            let distance = |token: usize, entity: &[usize]| -> i32 {
                let to = |place: &usize| token as i64 - *place as i64;
                let nearest = entity.iter().map(to).min_by_key(|distance| distance.abs());
                nearest.unwrap_or(0) as i32
            };
            self.distances.extend(
                (0..count).map(|token| entities.each_ref().map(|entity| distance(token, entity))),
            );
        }
        self.ends.push(self.tokens.len());
        let Some(label) = &row.label else {
            self.outside[row.split.position()].push(text);
            return Ok(());
        };
        if label.is_empty() {
            return Err(fault("has an empty label".to_owned()));
        }
        let class = classes.entry(compose(label)).or_insert(Class {
            texts: Vec::new(),
            part,
        });
        if settings.is_split_by_files() && class.part != part {
            return Err(fault(format!(
                "has class `{label}`, which is in the files of {} and of {part}",
                class.part
            )));
        }
        class.texts.push(text);
        Ok(())
    }
}
