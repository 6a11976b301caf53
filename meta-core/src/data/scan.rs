//! SCAN: commands and the actions that carry them out, with the meaning of words drawn anew for each task.
//!
//! Lake and Baroni, *Generalization without systematicity*, ICML 2018 (the data); Lake, *Compositional
//! generalization through meta sequence-to-sequence learning*, NeurIPS 2019 (the tasks). The split
//! `addprim_jump` shows `jump` alone in training and asks for it in combination; `around_right` and
//! `opposite_right` leave out these words together; `length` asks for longer actions.
//!
//! A task shows every primitive alone (`jump`, `run`, `walk` and `look`), and as many other commands of the
//! training file as its shots leave room for. A task of training or validation draws anew which primitive
//! stands where in a command and which action it is, or which of `left` and `right` turns where, so that no
//! word has a meaning of its own: `jump` is combined as all others are, as another action. The assignment of
//! the file, all four, is that of the test alone. Queries of training and validation are other commands of the
//! training file, a tenth of which is for validation; those of test are commands of the test file.
//!
//! # Differences from the paper
//! * The paper shows 20 examples in training, of the file with all commands, and the four primitives alone at
//!   test; here shots are a setting, a task has at least these four, and commands are of the training file.
//! * Commands with more words or actions than `input_length` and `output_length` are left out, of training and
//!   test, so that small networks can be trained; the defaults leave out none.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::episode::{Episode, EpisodeShape, ItemShape, Split, Task};
use super::formats::read_unpacked;
use super::pairs::{self, Lexicon, Pair};
use super::source::{Source, SourceSettings, check_regression};
use crate::error::{Error, Result};
use crate::rng::{Seed, Stream};
use crate::settings;
use crate::settings::Settings;

/// The most text that is read of a file.
const MOST_TEXT: u64 = 1 << 26;
/// Words and actions, by their numbers.
const WORDS: [&str; 13] = [
    "jump", "run", "walk", "look", "left", "right", "turn", "around", "opposite", "twice",
    "thrice", "and", "after",
];
const ACTIONS: [&str; 6] = [
    "I_JUMP",
    "I_RUN",
    "I_WALK",
    "I_LOOK",
    "I_TURN_LEFT",
    "I_TURN_RIGHT",
];
/// The first of both are primitives, and the next two directions.
const PRIMITIVES: usize = 4;
/// One in this many training commands validates.
const VALIDATION: u64 = 10;

/// The files of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanSplit {
    /// `jump` is combined at test alone.
    AddprimJump,
    /// Long actions at test alone.
    Length,
    /// `around right` at test alone.
    AroundRight,
    /// `opposite right` at test alone.
    OppositeRight,
}

impl ScanSplit {
    fn file(self) -> &'static str {
        match self {
            ScanSplit::AddprimJump => "addprim_jump",
            ScanSplit::Length => "length",
            ScanSplit::AroundRight => "template_around_right",
            ScanSplit::OppositeRight => "template_opposite_right",
        }
    }
}

settings! {
    /// Settings of [`ScanSource`].
    pub struct ScanSettings {
        /// Folder of `tasks_train_….txt.gz` and `tasks_test_….txt.gz`, from the data folder on.
        path: String = "seq2seq/scan".to_owned();
        /// Which files: `addprim_jump`, `length`, `around_right` or `opposite_right`.
        files: ScanSplit = ScanSplit::AddprimJump;
        /// Whether tasks of training and validation draw anew where a primitive stands and which action it is.
        permute_primitives: bool = true;
        /// Whether tasks of training and validation draw anew which of left and right turns where.
        permute_directions: bool = false;
        /// The most words of a command; longer ones are left out.
        input_length: usize = 9, between(1, 64);
        /// The most actions; commands with more are left out.
        output_length: usize = 48, between(1, 256);
    }
}

impl ScanSettings {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Error::Data`] naming the file, and the line of a command with an unknown word or action.
    pub fn build(&self, data_folder: Option<&Path>) -> Result<ScanSource> {
        self.check_ranges("data")?;
        let folder = match data_folder {
            Some(folder) => folder.join(&self.path),
            None => Path::new(&self.path).to_owned(),
        };
        let name = self.files.file();
        let mut hasher = blake3::Hasher::new();
        let mut read = |part: &str| -> Result<Vec<Pair>> {
            let path = folder.join(format!("tasks_{part}_{name}.txt.gz"));
            let text = read_unpacked(&path, MOST_TEXT)?;
            hasher.update(text.as_bytes());
            self.commands(&path, &text)
        };
        let (training, test) = (read("train")?, read("test")?);
        let validates = |pair: &Pair| {
            let hash = blake3::hash(format!("{:?}", pair.0).as_bytes());
            let number = hash.as_bytes()[..8]
                .iter()
                .fold(0, |all, &byte| all << 8 | u64::from(byte));
            number % VALIDATION == 0 && pair.0.len() > 1
        };
        let (mut validation, mut train): (Vec<Pair>, Vec<Pair>) =
            training.into_iter().partition(validates);
        if validation.is_empty() {
            validation.extend(train.pop());
        }
        let commands = [train, validation, test];
        for (split, commands) in Split::ALL.iter().zip(&commands) {
            if commands.is_empty() {
                let expected = format!("leaves no {split} commands of {}", folder.display());
                return Err(Error::setting(
                    "data.output_length",
                    self.output_length,
                    expected,
                ));
            }
        }
        for (key, value) in self.entries() {
            if key != "path" {
                hasher.update(format!("{key}={value}\n").as_bytes());
            }
        }
        hasher.update(b"scan 2");
        Ok(ScanSource {
            settings: self.clone(),
            commands,
            hash: hasher.finalize().to_hex().to_string(),
        })
    }

    /// The commands of a file that are short enough, each once.
    fn commands(&self, path: &Path, text: &str) -> Result<Vec<Pair>> {
        let mut seen = std::collections::HashSet::new();
        let mut commands = Vec::new();
        for pair in pairs::read(path, text)? {
            let number = |known: &[&str], name: &str, kind: &str| {
                known.iter().position(|own| *own == name).ok_or_else(|| {
                    let known = known.join(", ");
                    Error::data(
                        path,
                        format!(
                            "line {}: unknown {kind} `{name}`; known: {known}",
                            pair.line
                        ),
                    )
                })
            };
            let words = pair.words.iter().map(|word| number(&WORDS, word, "word"));
            let words = words.collect::<Result<Vec<usize>>>()?;
            let actions = pair
                .symbols
                .iter()
                .map(|name| number(&ACTIONS, name, "action"));
            let actions = actions.collect::<Result<Vec<usize>>>()?;
            let fits = words.len() <= self.input_length && actions.len() <= self.output_length;
            if fits && seen.insert(words.clone()) {
                commands.push((words, actions));
            }
        }
        Ok(commands)
    }
}

impl SourceSettings for ScanSettings {
    const NAME: &str = "scan";
    const SUMMARY: &str =
        "SCAN's commands and actions, with the meaning of words drawn anew (Lake 2019)";

    fn open(&self, data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build(data_folder)?))
    }
}

/// Tasks of carrying out commands; an item is a row of words, a target a sequence of actions.
#[derive(Clone, Debug)]
pub struct ScanSource {
    settings: ScanSettings,
    /// Of each split.
    commands: [Vec<Pair>; 3],
    hash: String,
}

impl ScanSource {
    /// The meanings of a task that draws them anew.
    fn drawn(&self, stream: &mut Stream) -> Renaming {
        let mut drawn = Renaming::of_the_file();
        let (primitives, directions) = drawn.actions.split_at_mut(PRIMITIVES);
        if self.settings.permute_primitives {
            let words = &mut drawn.words[..PRIMITIVES];
            stream.shuffle(words);
            // Word `words[i]` is action `actions[i]`: equal everywhere is the assignment of the file.
            while words == primitives {
                stream.shuffle(primitives);
            }
        }
        if self.settings.permute_directions {
            stream.shuffle(directions);
        }
        drawn
    }
}

/// What each word and each action of the file becomes in a task.
struct Renaming {
    words: Vec<usize>,
    actions: Vec<usize>,
}

impl Renaming {
    fn of_the_file() -> Self {
        Renaming {
            words: (0..WORDS.len()).collect(),
            actions: (0..ACTIONS.len()).collect(),
        }
    }

    fn apply(&self, (words, actions): &Pair) -> Pair {
        let named = |names: &[usize], own: &[usize]| own.iter().map(|&name| names[name]).collect();
        (named(&self.words, words), named(&self.actions, actions))
    }
}

impl Source for ScanSource {
    fn name(&self) -> &'static str {
        "scan"
    }

    fn task(&self) -> Task {
        Task::Sequences {
            words: WORDS.len(),
            symbols: ACTIONS.len(),
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
        if shot < PRIMITIVES {
            let expected = format!("must be at least {PRIMITIVES}: every primitive is shown alone");
            return Err(Error::setting("data.shot", shot, expected));
        }
        let others = shot - PRIMITIVES;
        let train = self.commands[Split::Train.position()].len();
        let own = match split {
            // Examples and queries are of one list.
            Split::Train => train.saturating_sub(others),
            _ => self.commands[split.position()].len(),
        };
        let refuse = |key: &str, value: usize, most: usize| {
            let expected = format!("must be at most {most} with the {split} commands there are");
            Err(Error::setting(key, value, expected))
        };
        if others > train {
            return refuse("data.shot", shot, train + PRIMITIVES);
        }
        if query > own {
            return refuse("data.query", query, own);
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
        let stream = &mut seed.stream(split.scope(), index, "commands");
        let (shot, query) = (shape.shot.0 - PRIMITIVES, shape.query.0);
        let renaming = match split {
            Split::Test => Renaming::of_the_file(),
            _ => self.drawn(stream),
        };
        let train = &self.commands[Split::Train.position()];
        let own = &self.commands[split.position()];
        let (shown, asked) = match split {
            Split::Train => {
                let mut all = stream.choose_distinct(own.len(), shot + query);
                let asked = all.split_off(shot);
                (all, asked)
            }
            _ => (
                stream.choose_distinct(train.len(), shot),
                stream.choose_distinct(own.len(), query),
            ),
        };
        // In the order of words, whatever they mean.
        let mut alone: Vec<Pair> = (0..PRIMITIVES)
            .map(|primitive| renaming.apply(&(vec![primitive], vec![primitive])))
            .collect();
        alone.sort_unstable();
        let shown = shown
            .into_iter()
            .map(|number| renaming.apply(&train[number]));
        let study: Vec<Pair> = alone.into_iter().chain(shown).collect();
        let queries: Vec<Pair> = asked
            .into_iter()
            .map(|number| renaming.apply(&own[number]))
            .collect();
        let ScanSettings {
            input_length,
            output_length,
            ..
        } = self.settings;
        let items = |pairs: &[Pair], first: usize| {
            pairs::items(pairs, input_length, [ACTIONS.len(), output_length], first)
        };
        let (support, query) = (items(&study, 0), items(&queries, study.len()));
        Ok(Episode::new(index, shape, support, query, Vec::new()))
    }

    fn lexicon(&self) -> Option<Lexicon> {
        Some(Lexicon {
            words: WORDS.map(str::to_owned).to_vec(),
            symbols: ACTIONS.map(str::to_owned).to_vec(),
        })
    }

    fn content_hash(&self) -> String {
        self.hash.clone()
    }

    fn describe(&self) -> Value {
        json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "lexicon": self.lexicon(),
            "commands": self.commands.each_ref().map(Vec::len),
            "settings": self.settings.to_value(),
            "content_hash": self.content_hash(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::episode::{Items, Targets, before_end};

    const TRAIN: &str = "IN: jump OUT: I_JUMP\nIN: jump OUT: I_JUMP\nIN: run twice OUT: I_RUN I_RUN\n\
        IN: walk left OUT: I_TURN_LEFT I_WALK\nIN: look thrice OUT: I_LOOK I_LOOK I_LOOK\n\
        IN: walk twice OUT: I_WALK I_WALK\nIN: run left OUT: I_TURN_LEFT I_RUN\n\
        IN: look right OUT: I_TURN_RIGHT I_LOOK\nIN: look twice OUT: I_LOOK I_LOOK\n\
        IN: run right OUT: I_TURN_RIGHT I_RUN\nIN: walk thrice OUT: I_WALK I_WALK I_WALK\n";
    const TEST: &str = "IN: jump twice OUT: I_JUMP I_JUMP\nIN: jump left OUT: I_TURN_LEFT I_JUMP\n";

    fn source(train: &str, test: &str, change: fn(&mut ScanSettings)) -> Result<ScanSource> {
        let folder = tempfile::tempdir().expect("a folder");
        for (part, text) in [("train", train), ("test", test)] {
            let path = folder
                .path()
                .join(format!("tasks_{part}_addprim_jump.txt.gz"));
            let file = std::fs::File::create(path).expect("created");
            let mut packed = flate2::write::GzEncoder::new(file, Default::default());
            std::io::Write::write_all(&mut packed, text.as_bytes()).expect("written");
            packed.finish().expect("written");
        }
        let mut settings = ScanSettings {
            path: String::new(),
            ..ScanSettings::default()
        };
        change(&mut settings);
        settings.build(Some(folder.path()))
    }

    fn said(items: &Items, length: usize) -> Vec<Vec<u32>> {
        let Targets::Sequences(symbols) = &items.targets else {
            panic!("sequences")
        };
        let rows = symbols.chunks(length + 1);
        rows.map(|row| before_end(row, 6).to_vec()).collect()
    }

    /// Primitives are shown alone; in training they have other actions, at test those of the file.
    #[test]
    fn primitives_are_drawn_anew_in_training() {
        let source = source(TRAIN, TEST, |s| s.output_length = 4).expect("sound");
        let lexicon = source.lexicon().expect("words");
        let draw = |split, query, index| {
            let shape = EpisodeShape::new(1, 5, query);
            source.episode(Seed(2), split, shape, index).expect("fits")
        };
        let test = draw(Split::Test, 2, 0);
        assert_eq!(said(&test.support, 4)[..4], [[0], [1], [2], [3]]);
        let mut asked = said(&test.query, 4);
        asked.sort();
        assert_eq!(asked, [vec![0, 0], vec![4, 0]]);
        let primitives = |index| said(&draw(Split::Train, 2, index).support, 4)[..4].concat();
        let mut sorted = primitives(0);
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3]);
        assert!((0..64).all(|index| primitives(index) != [0, 1, 2, 3]));
        // `jump`, which the file has alone, is combined in a task that gives it another meaning.
        let asked = |index| {
            let words = draw(Split::Train, 2, index).query.inputs;
            let sentences = words.chunks(9).map(|words| lexicon.sentence(words));
            sentences.collect::<Vec<_>>()
        };
        let combined = |sentence: &String| sentence.starts_with("jump ");
        assert!((0..64).any(|index| asked(index).iter().any(combined)));
        assert_eq!(lexicon.sentence(&test.support.inputs[..9]), "jump");
    }

    #[test]
    fn damaged_files_are_refused_by_line() {
        let refused = |train: &str| {
            source(train, TEST, |_| ())
                .expect_err("damaged")
                .to_string()
        };
        let message = refused("IN: run OUT: I_RUN\nIN: fly twice OUT: I_RUN\n");
        assert!(message.contains("line 2: unknown word `fly`"), "{message}");
        let message = refused("IN: run OUT: I_FLY\n");
        assert!(
            message.contains("line 1: unknown action `I_FLY`"),
            "{message}"
        );
        let message = refused("IN: run OUT:\n");
        assert!(message.contains("line 1: has an empty target"), "{message}");
        let short = source(TRAIN, TEST, |s| s.output_length = 1).expect_err("nothing left");
        assert!(short.to_string().starts_with("`data.output_length = 1`"));
    }
}
