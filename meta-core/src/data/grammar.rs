//! Invented languages: learn what a sentence stands for from a few examples.
//!
//! Lake and Baroni, *Human-like systematic generalization through a meta-learning neural network*, Nature
//! 2023, section "Meta-training for compositionality" of its methods. Every task is a language of its own:
//!
//! | part | means |
//! |---|---|
//! | a primitive, `dax` | a symbol, `RED` |
//! | a function of one argument, `x fep` | the meaning of `x` some times over |
//! | a function of two, `x blicket y` | the meanings of `x` and `y`, each at least once, in some order |
//! | words side by side, `dax wif` | their meanings side by side |
//!
//! Words, symbols and rules are drawn anew for each task, so that nothing is known of a word but what the
//! study examples say. They show every primitive alone and each function twice with plain primitives; the
//! others combine functions, or are runs where a language has none (`simple`). One primitive is in no other example than its own, and queries use it like any
//! other: they ask to generalise, or, by the setting `queries`, to repeat an example.
//!
//! `language = "mini_scan"` is the task that people were given, the same for every seed: 14 examples and 10
//! queries ([`mini_scan.txt`](https://github.com/brendenlake/MLC)), of which they answered 80.7 % rightly. The
//! file calls words and symbols by numbers, `DAX`, `after`, `surround` and `thrice` where people saw invented
//! words and coloured circles; here they are drawn anew for each episode, as the paper's evaluation does. No
//! task of another kind has its three rules.
//!
//! # Differences from the paper
//! * Functions have an order in which they bind, and a sentence has each of them once between looser ones;
//!   the paper's apply in the order of their rules, to any string or to a primitive alone.
//! * Study examples are chosen as those of the paper's test are, where its training draws all at random.
//! * Languages in which too few different sentences fit are drawn again, so that long rules are rarer.
//! * The rules' right sides are drawn as the authors' code does: to two arguments at least, then on with
//!   probability 0.4, shuffled, at most `rule_length`.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::episode::{Episode, EpisodeShape, ItemShape, Split, Task};
use super::pairs::{self, Lexicon, Pair};
use super::source::{Source, SourceSettings, check_regression, settings_hash};
use crate::error::{Error, Result};
use crate::rng::{Seed, Stream};
use crate::settings;
use crate::settings::Settings;

mod language;

use language::{Language, Rule, Sizes};

/// The task that people were given.
const MINI_SCAN: &str = include_str!("grammar/mini_scan.txt");
/// Its words and symbols, by their numbers: primitives, then functions.
const MINI_SCAN_WORDS: [&str; 7] = ["1", "2", "3", "DAX", "after", "surround", "thrice"];
const MINI_SCAN_PRIMITIVES: usize = 4;
/// Draws of a sentence that is new, short enough and of the language.
const TRIES: usize = 100;
/// Draws of a language in which enough sentences fit.
const LANGUAGES: usize = 100;
/// Probability that a run goes on, in a language of runs alone.
const RUNS_ALONE: f64 = 0.7;
/// Names of the first words and symbols, those of the paper.
const WORDS: [&str; 9] = [
    "dax", "lug", "wif", "zup", "fep", "blicket", "kiki", "tufa", "gazzer",
];
const SYMBOLS: [&str; 6] = ["RED", "YELLOW", "GREEN", "BLUE", "PURPLE", "PINK"];

/// Where the languages of a split come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LanguageKind {
    /// A random one for each task.
    Random,
    /// The one that people were given.
    MiniScan,
}

/// What queries ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// Sentences that no example has.
    Generalise,
    /// Sentences of examples.
    Retrieve,
}

settings! {
    /// Settings of [`GrammarSource`].
    pub struct GrammarSettings {
        /// Words of a language that stand for a symbol.
        primitives: usize = 4, between(2, 64);
        /// Words of a language that are functions.
        functions: usize = 3, between(1, 16);
        /// Words that languages choose from.
        words: usize = 9, between(3, 4096);
        /// Symbols that languages choose from.
        symbols: usize = 6, between(2, 4096);
        /// The most arguments on the right side of a function's rule.
        rule_length: usize = 8, between(2, 64);
        /// The most words of a sentence.
        input_length: usize = 8, between(3, 256);
        /// The most symbols of a meaning.
        output_length: usize = 8, between(2, 256);
        /// Probability that primitives stand side by side, for each but the first of at most three.
        runs: f64 = 0.1, between(0.0, 1.0);
        /// Probability that a language of training has fewer functions than `functions`, any number from none
        /// on: easy tasks among the hard ones.
        simple: f64 = 0.0, between(0.0, 1.0);
        /// Training tasks over which languages grow: the first have no functions, and from this number on they
        /// have `functions`. 0: they have them from the first.
        curriculum: u64 = 0;
        /// What queries of validation and test ask: to `generalise`, or to `retrieve` an example.
        queries: Asked = Asked::Generalise;
        /// What queries of training ask, likewise.
        train_queries: Asked = Asked::Generalise;
        /// Languages of validation and test: `random`, or `mini_scan`, the one that people were given.
        language: LanguageKind = LanguageKind::Random;
        /// Languages of training, likewise.
        train_language: LanguageKind = LanguageKind::Random;
        /// Whether each task of `mini_scan` names its words and symbols anew.
        permuted: bool = true;
        /// Probability that a symbol of a training query is any symbol instead (0.01 in the paper).
        noise: f64 = 0.0, between(0.0, 1.0);
        /// Probability that a training query is answered word by word, a symbol for each, as people are
        /// inclined to.
        one_to_one: f64 = 0.0, between(0.0, 1.0);
        /// Probability that a training query is answered in the order of its words, whatever the rules say,
        /// another inclination of people.
        iconic: f64 = 0.0, between(0.0, 1.0);
    }
}

impl GrammarSettings {
    /// Checks the settings and makes the source.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting out of range, and for fewer words or symbols than a language has.
    pub fn build(&self) -> Result<GrammarSource> {
        self.check_ranges("data")?;
        let refuse = |key: &str, value: usize, expected: String| {
            Err(Error::setting(format!("data.{key}"), value, expected))
        };
        let needed = self.primitives + self.functions;
        if self.words < needed {
            let expected = format!("must be at least {needed}, primitives and functions together");
            return refuse("words", self.words, expected);
        }
        if self.symbols < self.primitives {
            let expected = format!("must be at least data.primitives = {}", self.primitives);
            return refuse("symbols", self.symbols, expected);
        }
        if self.one_to_one + self.iconic > 1.0 {
            let expected = "must be at most 1 together with data.one_to_one";
            return Err(Error::setting("data.iconic", self.iconic, expected));
        }
        if [self.language, self.train_language].contains(&LanguageKind::MiniScan) {
            for (key, value, least) in [
                ("words", self.words, MINI_SCAN_WORDS.len()),
                ("symbols", self.symbols, MINI_SCAN_PRIMITIVES),
                ("input_length", self.input_length, 6),
                ("output_length", self.output_length, 6),
            ] {
                if value < least {
                    return refuse(key, value, format!("`mini_scan` needs at least {least}"));
                }
            }
        }
        Ok(GrammarSource {
            settings: self.clone(),
            mini_scan: mini_scan()?,
        })
    }
}

impl SourceSettings for GrammarSettings {
    const NAME: &str = "grammar";
    const SUMMARY: &str = "sentences of invented languages and what they stand for (Lake and Baroni 2023); needs no files";

    fn open(&self, _data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build()?))
    }
}

/// Examples and queries.
#[derive(Clone, Debug, Default)]
struct Drawn {
    study: Vec<Pair>,
    queries: Vec<Pair>,
}

/// The task that people were given, by the numbers of [`MINI_SCAN_WORDS`].
fn mini_scan() -> Result<Drawn> {
    let path = Path::new("mini_scan.txt");
    let queries_from = MINI_SCAN
        .lines()
        .position(|line| line.starts_with("*QUERY"));
    let mut drawn = Drawn::default();
    for pair in pairs::read(path, MINI_SCAN)? {
        let number = |name: &&str| {
            let known = MINI_SCAN_WORDS.iter().position(|word| word == name);
            let unknown = || Error::unknown("word", *name, MINI_SCAN_WORDS);
            known.ok_or_else(unknown)
        };
        let words = pair.words.iter().map(number).collect::<Result<_>>()?;
        let symbols = pair.symbols.iter().map(number).collect::<Result<_>>()?;
        let part = match Some(pair.line) > queries_from {
            true => &mut drawn.queries,
            false => &mut drawn.study,
        };
        part.push((words, symbols));
    }
    Ok(drawn)
}

/// The three rules of `mini_scan`, in their own order.
fn mini_scan_rules() -> [Rule; 3] {
    let rule = |arguments, right: &[usize]| Rule {
        arguments,
        right: right.to_vec(),
    };
    [rule(1, &[0, 0, 0]), rule(2, &[0, 1, 0]), rule(2, &[1, 0])]
}

/// Tasks of interpreting sentences; an item is a row of words, a target a sequence of symbols.
#[derive(Clone, Debug)]
pub struct GrammarSource {
    settings: GrammarSettings,
    mini_scan: Drawn,
}

impl GrammarSource {
    fn kind(&self, split: Split) -> (LanguageKind, Asked) {
        match split {
            Split::Train => (self.settings.train_language, self.settings.train_queries),
            _ => (self.settings.language, self.settings.queries),
        }
    }

    /// The most functions of the language of training task `index`.
    fn most_functions(&self, split: Split, index: u64) -> usize {
        let GrammarSettings {
            functions,
            curriculum,
            ..
        } = self.settings;
        if split != Split::Train || index >= curriculum {
            return functions;
        }
        let grown = u128::from(index) * (functions as u128 + 1) / u128::from(curriculum);
        grown as usize
    }

    /// A random language that is not the one people were given.
    fn language(&self, stream: &mut Stream, split: Split, most: usize) -> Language {
        let simple = split == Split::Train
            && self.settings.simple > 0.0
            && stream.uniform() < self.settings.simple;
        let sizes = Sizes {
            primitives: self.settings.primitives,
            functions: if simple { stream.below(most) } else { most },
            words: self.settings.words,
            symbols: self.settings.symbols,
            rule: self.settings.rule_length,
        };
        let mut language = Language::random(stream, sizes);
        for _ in 0..TRIES {
            if language.rules() != mini_scan_rules() {
                break;
            }
            language = Language::random(stream, sizes);
        }
        language
    }

    /// A sentence of the language that is not among those `seen`, and its meaning; none where many tries find
    /// none.
    fn new_sentence(
        &self,
        language: &Language,
        seen: &mut HashSet<Vec<usize>>,
        mut draw: impl FnMut() -> Vec<usize>,
    ) -> Option<Pair> {
        for _ in 0..TRIES {
            let words = draw();
            if words.len() > self.settings.input_length || seen.contains(&words) {
                continue;
            }
            if let Some(said) = language.interpret(&words, self.settings.output_length) {
                seen.insert(words.clone());
                return Some((words, said));
            }
        }
        None
    }

    /// A task of a random language in which enough sentences fit; after many that are not, of one whose
    /// examples repeat.
    fn draw(&self, shape: EpisodeShape, stream: &mut Stream, split: Split, index: u64) -> Drawn {
        let most = self.most_functions(split, index);
        for _ in 0..LANGUAGES {
            if let Some(drawn) = self.draw_from(shape, stream, split, most, false) {
                return drawn;
            }
        }
        let repeating = self.draw_from(shape, stream, split, most, true);
        repeating.unwrap_or_default()
    }

    /// A task of one random language; none where too few sentences fit and none may be `again` there.
    fn draw_from(
        &self,
        shape: EpisodeShape,
        stream: &mut Stream,
        split: Split,
        most: usize,
        again: bool,
    ) -> Option<Drawn> {
        let GrammarSettings {
            primitives, runs, ..
        } = self.settings;
        let language = self.language(stream, split, most);
        let functions = language.functions.len();
        // Without functions, sentences are nothing but runs.
        let runs = if functions == 0 { RUNS_ALONE } else { runs };
        let alone = language.primitives.iter();
        let alone = alone.map(|&(word, symbol)| (vec![word], vec![symbol]));
        let mut study: Vec<Pair> = alone.collect();
        let mut seen: HashSet<Vec<usize>> = study.iter().map(|(words, _)| words.clone()).collect();
        // One primitive is in no other example.
        let known = primitives - 1;
        let several = |stream: &mut Stream, least: usize| {
            let count = least.min(functions) + stream.below(functions.saturating_sub(least) + 1);
            let mut chosen = stream.choose_distinct(functions, count);
            chosen.sort_unstable();
            chosen
        };
        for number in primitives..shape.shot.0 {
            let shown = number - primitives;
            let new = self.new_sentence(&language, &mut seen, || {
                if shown < 2 * functions {
                    return plain(&language, shown % functions, known, stream);
                }
                let chosen = several(stream, 2);
                language.sentence(stream, &chosen, known, runs)
            });
            let repeated = again.then(|| study[stream.below(study.len())].clone());
            study.push(new.or(repeated)?);
        }
        stream.shuffle(&mut study);
        let mut queries = Vec::with_capacity(shape.query.0);
        for _ in 0..shape.query.0 {
            let new = self.new_sentence(&language, &mut seen, || {
                let chosen = several(stream, 1);
                language.sentence(stream, &chosen, primitives, runs)
            });
            let repeated = again.then(|| study[stream.below(study.len())].clone());
            queries.push(new.or(repeated)?);
        }
        if self.kind(split).1 == Asked::Retrieve {
            let order = stream.choose_distinct(study.len(), study.len());
            let places = order.iter().cycle().take(shape.query.0);
            queries = places.map(|&place| study[place].clone()).collect();
        }
        if split == Split::Train {
            self.incline(&language, &mut queries, stream);
        }
        Some(Drawn { study, queries })
    }

    /// Answers some queries as people are inclined to, and some symbols at random.
    fn incline(&self, language: &Language, queries: &mut [Pair], stream: &mut Stream) {
        let GrammarSettings {
            noise,
            one_to_one,
            iconic,
            symbols,
            output_length,
            ..
        } = self.settings;
        if noise + one_to_one + iconic == 0.0 {
            return;
        }
        let in_order = language.iconic();
        let functions = language.functions.iter();
        let own = functions.map(|(word, _)| (*word, stream.below(symbols)));
        let dictionary: Vec<(usize, usize)> =
            language.primitives.iter().copied().chain(own).collect();
        for (words, said) in queries {
            let inclination = stream.uniform();
            if inclination < one_to_one {
                let symbol = |word: &usize| dictionary.iter().find(|(own, _)| own == word);
                let each = words.iter().filter_map(symbol).map(|&(_, symbol)| symbol);
                *said = each.take(output_length).collect();
            } else if inclination < one_to_one + iconic
                && let Some(other) = in_order.interpret(words, output_length)
            {
                *said = other;
            }
            for symbol in said {
                if stream.uniform() < noise {
                    *symbol = stream.below(symbols);
                }
            }
        }
    }

    /// The task that people were given, with the first examples and queries of these numbers.
    fn given(&self, shape: EpisodeShape, stream: &mut Stream, asked: Asked) -> Drawn {
        let (words, symbols) = match self.settings.permuted {
            true => (
                stream.choose_distinct(self.settings.words, MINI_SCAN_WORDS.len()),
                stream.choose_distinct(self.settings.symbols, MINI_SCAN_PRIMITIVES),
            ),
            false => (
                (0..MINI_SCAN_WORDS.len()).collect(),
                (0..MINI_SCAN_PRIMITIVES).collect(),
            ),
        };
        let named = |(own, said): &Pair| -> Pair {
            let own = own.iter().map(|&word| words[word]);
            let said = said.iter().map(|&symbol| symbols[symbol]);
            (own.collect(), said.collect())
        };
        let all = match asked {
            Asked::Generalise => &self.mini_scan.queries,
            Asked::Retrieve => &self.mini_scan.study,
        };
        Drawn {
            study: self
                .mini_scan
                .study
                .iter()
                .take(shape.shot.0)
                .map(named)
                .collect(),
            queries: all.iter().take(shape.query.0).map(named).collect(),
        }
    }
}

/// A function with plain primitives, two different ones where there are two.
fn plain(language: &Language, function: usize, known: usize, stream: &mut Stream) -> Vec<usize> {
    let (word, rule) = &language.functions[function];
    let chosen = stream.choose_distinct(known, rule.arguments);
    let primitive = |place: usize| language.primitives[chosen[place % chosen.len()]].0;
    let mut words = vec![primitive(0), *word];
    words.extend((1..rule.arguments).map(primitive));
    words
}

impl Source for GrammarSource {
    fn name(&self) -> &'static str {
        "grammar"
    }

    fn task(&self) -> Task {
        Task::Sequences {
            words: self.settings.words,
            symbols: self.settings.symbols,
            length: self.settings.output_length,
        }
    }

    fn item_shape(&self) -> ItemShape {
        ItemShape {
            height: 1,
            width: 1,
            channels: self.settings.input_length,
        }
    }

    fn check(&self, split: Split, shape: EpisodeShape) -> Result<()> {
        check_regression(shape)?;
        let (shot, query) = (shape.shot.0, shape.query.0);
        match self.kind(split) {
            (LanguageKind::Random, _) => {
                let least = self.settings.primitives + self.settings.functions;
                if shot < least {
                    let expected = format!("must be at least {least}: an example of every word");
                    return Err(Error::setting("data.shot", shot, expected));
                }
            }
            (LanguageKind::MiniScan, asked) => {
                let most = match asked {
                    Asked::Generalise => self.mini_scan.queries.len(),
                    Asked::Retrieve => self.mini_scan.study.len(),
                };
                if shot != self.mini_scan.study.len() {
                    let expected = "must be 14, the examples of `mini_scan`";
                    return Err(Error::setting("data.shot", shot, expected));
                }
                if query > most {
                    let expected = format!("must be at most {most}, those of `mini_scan`");
                    return Err(Error::setting("data.query", query, expected));
                }
            }
        }
        Ok(())
    }

    fn episode(
        &self,
        seed: Seed,
        split: Split,
        shape: EpisodeShape,
        index: u64,
    ) -> Result<Episode> {
        self.check(split, shape)?;
        let stream = &mut seed.stream(split.scope(), index, "language");
        let drawn = match self.kind(split) {
            (LanguageKind::Random, _) => self.draw(shape, stream, split, index),
            (LanguageKind::MiniScan, asked) => self.given(shape, stream, asked),
        };
        let GrammarSettings {
            input_length,
            output_length,
            symbols,
            ..
        } = self.settings;
        let items = |pairs: &[Pair], first: usize| {
            pairs::items(pairs, input_length, [symbols, output_length], first)
        };
        let (support, query) = (items(&drawn.study, 0), items(&drawn.queries, shape.shot.0));
        Ok(Episode::new(index, shape, support, query, Vec::new()))
    }

    fn lexicon(&self) -> Option<Lexicon> {
        let named = |known: &[&str], count: usize, other: &str| -> Vec<String> {
            let name = |number: usize| match known.get(number) {
                Some(name) => (*name).to_owned(),
                None => format!("{other}{}", number + 1),
            };
            (0..count).map(name).collect()
        };
        Some(Lexicon {
            words: named(&WORDS, self.settings.words, "word"),
            symbols: named(&SYMBOLS, self.settings.symbols, "SYMBOL"),
        })
    }

    fn content_hash(&self) -> String {
        settings_hash("grammar 1", &self.settings.entries())
    }

    fn describe(&self) -> Value {
        json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "lexicon": self.lexicon(),
            "settings": self.settings.to_value(),
            "content_hash": self.content_hash(),
        })
    }
}

#[cfg(test)]
mod tests;
