//! Pairs of sentences: what sources from sequence to sequence have in common, and their files.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::episode::{Items, Targets};
use crate::error::{Error, Result};

/// The longest line of a file of pairs, in bytes.
const LONGEST_LINE: usize = 1 << 16;

/// A sentence and what it stands for, by the numbers of words and symbols from 0.
pub(super) type Pair = (Vec<usize>, Vec<usize>);

/// The words of a line and what they stand for, as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrittenPair<'a> {
    /// Number of its line in the file, from 1.
    pub line: usize,
    pub words: Vec<&'a str>,
    pub symbols: Vec<&'a str>,
}

/// What the words and symbols of a source from sequence to sequence are called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lexicon {
    /// By their number in an item, less 1.
    pub words: Vec<String>,
    /// By their number in a target.
    pub symbols: Vec<String>,
}

impl Lexicon {
    /// The words of an item, as text.
    pub fn sentence(&self, item: &[f32]) -> String {
        let there = item.iter().take_while(|&&word| word >= 1.0);
        let words = there.map(|&word| self.words.get(word as usize - 1));
        join(words)
    }

    /// The symbols of a target or of an answer up to its end, as text.
    pub fn said(&self, target: &[u32]) -> String {
        let symbols = target
            .iter()
            .map(|&symbol| self.symbols.get(symbol as usize));
        join(symbols.take_while(Option::is_some))
    }

    /// The item of a line of text, `features` numbers.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a word that is not in it; [`Error::Setting`] for a line without words, or with
    /// more than fit.
    pub fn item(&self, line: &str, features: usize) -> Result<Vec<f32>> {
        let mut item = Vec::with_capacity(features);
        for word in line.split_whitespace() {
            let known = self.words.iter().position(|own| own == word);
            let Some(number) = known else {
                let known = self.words.iter().map(String::as_str);
                return Err(Error::unknown("word", word, known));
            };
            item.push((number + 1) as f32);
        }
        if item.is_empty() || item.len() > features {
            let expected = format!("must have 1 to {features} words, found {}", item.len());
            return Err(Error::setting("sentence", line, expected));
        }
        item.resize(features, 0.0);
        Ok(item)
    }
}

/// What a person wrote: items and, where they were to be there, what they stand for.
pub(super) struct Written {
    /// The lines as they are written.
    pub sentences: Vec<String>,
    /// Their words, a row of each.
    pub items: Vec<Vec<f32>>,
    /// Symbols and ends, `length + 1` of each.
    pub targets: Vec<f32>,
}

/// The sentences of a text, a line each: `IN: words OUT: symbols` where they are `shown`, else words alone.
///
/// # Errors
/// [`Error::Data`] naming the line, and the word or symbol that is not known, or how many there are where they
/// are too many.
pub(super) fn written(
    path: &Path,
    text: &str,
    lexicon: &Lexicon,
    [features, length]: [usize; 2],
    shown: bool,
) -> Result<Written> {
    let mut all = Written {
        sentences: Vec::new(),
        items: Vec::new(),
        targets: Vec::new(),
    };
    let at = |line: usize| move |error: Error| Error::data(path, format!("line {line}: {error}"));
    if !shown {
        let lines = text.lines().enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let words = line.trim().trim_start_matches("IN:");
            let words = words.split("OUT:").next().unwrap_or_default().trim();
            all.items
                .push(lexicon.item(words, features).map_err(at(number + 1))?);
            all.sentences.push(words.to_owned());
        }
        return Ok(all);
    }
    for pair in read(path, text)? {
        let sentence = pair.words.join(" ");
        all.items
            .push(lexicon.item(&sentence, features).map_err(at(pair.line))?);
        all.sentences.push(sentence);
        if pair.symbols.len() > length {
            let count = pair.symbols.len();
            let message = format!("line {}: {count} symbols, at most {length} fit", pair.line);
            return Err(Error::data(path, message));
        }
        for name in &pair.symbols {
            let symbol = lexicon.symbols.iter().position(|own| own == name);
            let unknown = || {
                let known = lexicon.symbols.iter().map(String::as_str);
                at(pair.line)(Error::unknown("symbol", *name, known))
            };
            all.targets.push(symbol.ok_or_else(unknown)? as f32);
        }
        let end = lexicon.symbols.len() as f32;
        all.targets.resize(all.items.len() * (length + 1), end);
    }
    Ok(all)
}

fn join<'a>(names: impl Iterator<Item = Option<&'a String>>) -> String {
    let names: Vec<&str> = names.map(|name| name.map_or("?", String::as_str)).collect();
    names.join(" ")
}

/// The pairs of a text of lines `IN: words OUT: symbols`; lines without either are left out.
///
/// # Errors
/// [`Error::Data`] naming the line of one that is too long, has one side alone, no words or no symbols.
pub(super) fn read<'a>(path: &Path, text: &'a str) -> Result<Vec<WrittenPair<'a>>> {
    let mut pairs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let refuse = |what: &str| Err(Error::data(path, format!("line {}: {what}", number + 1)));
        if line.len() > LONGEST_LINE {
            return refuse("is longer than 65536 bytes");
        }
        let line = line.trim();
        if line.is_empty() || line.starts_with('*') {
            continue;
        }
        let sides = line
            .strip_prefix("IN:")
            .and_then(|rest| rest.split_once("OUT:"));
        let Some((words, symbols)) = sides else {
            return refuse("expected `IN: words OUT: symbols`");
        };
        let pair = WrittenPair {
            line: number + 1,
            words: words.split_whitespace().collect(),
            symbols: symbols.split_whitespace().collect(),
        };
        if pair.words.is_empty() {
            return refuse("has no words after `IN:`");
        }
        if pair.symbols.is_empty() {
            return refuse("has an empty target after `OUT:`");
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

/// Pairs as the items of a task, with ids from `first` on: rows of `features` words, and of `length` symbols
/// with an end that is `symbols`.
pub(super) fn items(
    pairs: &[Pair],
    features: usize,
    [symbols, length]: [usize; 2],
    first: usize,
) -> Items {
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    for (number, (words, said)) in pairs.iter().enumerate() {
        inputs.extend(words.iter().map(|&word| (word + 1) as f32));
        inputs.resize((number + 1) * features, 0.0);
        targets.extend(said.iter().map(|&symbol| symbol as u32));
        targets.resize((number + 1) * (length + 1), symbols as u32);
    }
    let ids = (first..first + pairs.len()).map(|id| id as u64).collect();
    Items::new(inputs, Targets::Sequences(targets), ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_or_refused_by_number() {
        let path = Path::new("pairs.txt");
        let found = read(path, "*SUPPORT*\nIN: a b OUT: X\n\nIN: b OUT: X Y\n").expect("sound");
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].line, &found[1].symbols[..]), (4, &["X", "Y"][..]));
        for (text, expected) in [
            ("IN: a OUT:", "pairs.txt: line 1: has an empty target"),
            ("\nIN: OUT: X", "pairs.txt: line 2: has no words"),
            ("a b -> X", "line 1: expected `IN: words OUT: symbols`"),
        ] {
            let message = read(path, text).expect_err("damaged").to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    fn lexicon() -> Lexicon {
        Lexicon {
            words: vec!["dax".to_owned(), "wif".to_owned()],
            symbols: vec!["RED".to_owned()],
        }
    }

    #[test]
    fn what_a_person_writes_is_read_or_refused_by_line() {
        let path = Path::new("own.txt");
        let read = |text: &str, shown| written(path, text, &lexicon(), [3, 2], shown);
        let asked = read("wif dax\n\n dax\n", false).expect("known words");
        assert_eq!(asked.items, [[2.0, 1.0, 0.0], [1.0, 0.0, 0.0]]);
        assert_eq!(asked.sentences, ["wif dax", "dax"]);
        let shown = read("IN: wif OUT: RED RED\nIN: dax OUT: RED", true).expect("known words");
        assert_eq!(shown.targets, [0.0, 0.0, 1.0, 0.0, 1.0, 1.0]);
        for (text, shown, expected) in [
            ("dax\nfep", false, "own.txt: line 2: unknown word `fep`"),
            (
                "dax dax dax dax",
                false,
                "line 1: `sentence = dax dax dax dax`: must have 1 to 3",
            ),
            ("IN: dax OUT: BLUE", true, "line 1: unknown symbol `BLUE`"),
            (
                "IN: dax OUT: RED RED RED",
                true,
                "line 1: 3 symbols, at most 2 fit",
            ),
            ("IN: dax OUT:", true, "line 1: has an empty target"),
        ] {
            let message = read(text, shown).err().expect("refused").to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn words_become_numbers_and_back() {
        let lexicon = lexicon();
        let item = lexicon.item("wif dax", 3).expect("known words");
        assert_eq!(item, [2.0, 1.0, 0.0]);
        assert_eq!(lexicon.sentence(&item), "wif dax");
        assert_eq!(lexicon.said(&[0, 0, 1, 1]), "RED RED");
        let message = |line| lexicon.item(line, 3).expect_err("refused").to_string();
        assert!(message("wif daxx").contains("unknown word `daxx` (did you mean `dax`?)"));
        assert!(message("").contains("must have 1 to 3 words, found 0"));
        assert!(message("dax dax dax dax").contains("found 4"));
    }
}
