//! Settings of the source of texts.

use serde::{Deserialize, Serialize};

use super::tokens::Tokens;
use crate::data::class_splits::Fractions;
use crate::data::episode::Split;
use crate::error::{Error, Result};
use crate::settings;
use crate::settings::Settings;

/// Which words are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vocabulary {
    /// All that have a vector.
    Vectors,
    /// Those of the texts of training classes that have one.
    Training,
}

/// What becomes of a word that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownWords {
    /// It is left out of its text. A text without a known word has the mean vector.
    Skip,
    /// It has the mean of the vectors of the known words of training classes.
    Mean,
}

settings! {
    /// Settings of the source of texts.
    ///
    /// Files are read by their endings: `.csv`, `.tsv`, `.jsonl`, `.json` (each also with `.gz`), and
    /// `seq.in` with `label` beside it. Relative paths start at the data folder when there is one, else at
    /// the working directory; a list of classes that is not there is looked for in the working directory too.
    pub struct TextSettings {
        /// Files of texts with labels. A class of one file that is in another one too is one class.
        files: Vec<String> = Vec::new();
        /// Files of validation classes; `files` then has the training classes, and no class may be in two.
        validation_files: Vec<String> = Vec::new();
        /// Files of test classes.
        test_files: Vec<String> = Vec::new();
        /// Column or key of the text, or of its tokens; a number from 0 where a table has no header. Empty:
        /// `text`, `sentence`, `utterance`, `query`, `tokens`, ….
        text: String = String::new();
        /// Column or key of the class, likewise. Empty: `label`, `category`, `intent`, `relation`, …. In a
        /// `.json` of lists by key, the key is the class where an entry has none.
        label: String = String::new();
        /// Columns or keys of the positions of the tokens of two entities, as FewRel has them: a token then
        /// has four more numbers, whether it belongs to either entity, and its distance from each in units
        /// of `length`, from −1 to 1. In FewRel's `.json` they are `["h", "t"]`.
        entities: Vec<String> = Vec::new();
        /// How a text is cut: `words`, or `spaces` for texts that are cut already.
        tokens: Tokens = Tokens::Words;
        /// Whether words are put into lower case; a `tokenizer` has a rule of its own.
        lowercase: bool = true;
        /// A `tokenizer.json`, or a folder that has one: texts are cut into its subwords, whatever `tokens` says.
        /// In builds with the cargo feature `tokenizers`.
        #[added("0.2")]
        tokenizer: String = String::new();
        /// The most tokens of a text; what comes after is left out. An item has a row for each, and rows of
        /// zeros after its last token, which encoders that read masks do not read.
        length: usize = 40, between(2, 4096);
        /// File of word vectors: GloVe or fastText `.txt`, `.vec`, word2vec `.bin` (each also with `.gz`), or
        /// an array in `.safetensors`, `.npz`, `.npy`, `.pt`, or a folder of model2vec. They stay as they are.
        /// Empty: a random vector for each word of the training classes, drawn by the word alone.
        vectors: String = String::new();
        /// File of the words of an array of vectors, one a line in the order of its rows, or a `tokenizer.json`,
        /// which is also looked for beside the array.
        vector_words: String = String::new();
        /// Name of the array; empty for the only one.
        vector_key: String = String::new();
        /// Folder in which large files of vectors are kept in a form that opens at once. Empty:
        /// `$XDG_CACHE_HOME/meta-attention`, else `~/.cache/meta-attention`.
        #[added("0.2")]
        cache_dir: String = String::new();
        /// Width of random vectors.
        vector_width: usize = 64, between(1, 4096);
        /// Known words: those of `vectors`, or of them those of `training` classes alone.
        vocabulary: Vocabulary = Vocabulary::Vectors;
        /// How often a word must be in texts of training classes to be known, where these are asked.
        least_count: usize = 1, at_least(1);
        /// What becomes of an unknown word: `skip` leaves it out, `mean` gives it the mean of the vectors of
        /// the known words of training classes. A text without a known word has that one vector.
        unknown: UnknownWords = UnknownWords::Skip;
        /// `a` of the weight `a / (a + p)` that vectors are multiplied by, where `p` is the share of a word
        /// among those of training classes (smooth inverse frequency; Arora et al., ICLR 2017, use 0.001); 0
        /// for none.
        frequency_weight: f64 = 0.0, at_least(0.0);
        /// Whether a token has one more number, its last: `0.001 / (0.001 + p)`, where `p` is the share of its
        /// word among those of training classes, and 1 of a word that these do not have. For
        /// `distributional_signatures` with `learner.statistics = 1`.
        #[added("0.2")]
        word_statistics: bool = false;
        /// Whether each class of a task comes with a vector: the mean of those of the words of its name.
        name_vectors: bool = false;
        /// Classes with fewer texts are left out.
        least_texts: usize = 0, size(0);
        /// File with the names of the training classes, one a line. When any of the three files is given, a
        /// split without a file has no classes, and a class in no file is not used.
        train_classes: String = String::new();
        /// File with the names of the validation classes.
        validation_classes: String = String::new();
        /// File with the names of the test classes.
        test_classes: String = String::new();
        /// Where no files say so: the expected fraction of classes that validate, decided by the BLAKE3 hash
        /// of a name alone. In 0..=1.
        validation_fraction: f64 = 0.16;
        /// The expected fraction of classes that test, decided likewise. In 0..=1, and at most 1 together with
        /// `validation_fraction`.
        test_fraction: f64 = 0.2;
    }
}

impl TextSettings {
    /// Checks the settings by themselves.
    pub(super) fn check(&self) -> Result<()> {
        self.check_ranges("data")?;
        self.fractions().check()?;
        if self.files.is_empty() {
            let expected =
                "must name a file of texts with labels; `data.source = \"topics\"` needs none";
            return Err(Error::setting("data.files", "[]", expected));
        }
        if !matches!(self.entities.len(), 0 | 2) {
            let expected = "must be empty, or name the positions of two entities";
            return Err(Error::setting(
                "data.entities",
                self.entities.join(", "),
                expected,
            ));
        }
        if !self.entities.is_empty() && !self.tokenizer.is_empty() {
            let expected = "positions of entities count tokens between spaces: must be empty";
            return Err(Error::setting("data.tokenizer", &self.tokenizer, expected));
        }
        if !self.entities.is_empty() && self.tokens != Tokens::Spaces {
            let expected = "positions of entities count tokens between spaces: must be `spaces`";
            return Err(Error::setting("data.tokens", "words", expected));
        }
        if self.is_split_by_files() && self.has_class_lists() {
            let expected = "says which classes are whose, and so do the lists of classes; leave one of them out";
            return Err(Error::setting("data.validation_files", "…", expected));
        }
        Ok(())
    }

    pub(super) fn fractions(&self) -> Fractions {
        Fractions {
            validation: self.validation_fraction,
            test: self.test_fraction,
        }
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = (Split, &str)> {
        let train = self.files.iter().map(|file| (Split::Train, file.as_str()));
        let validation = self.validation_files.iter();
        let validation = validation.map(|file| (Split::Validation, file.as_str()));
        let test = self
            .test_files
            .iter()
            .map(|file| (Split::Test, file.as_str()));
        train.chain(validation).chain(test)
    }

    pub(super) fn is_split_by_files(&self) -> bool {
        !self.validation_files.is_empty() || !self.test_files.is_empty()
    }

    pub(super) fn class_lists(&self) -> [(Split, &str); 3] {
        [
            (Split::Train, &self.train_classes),
            (Split::Validation, &self.validation_classes),
            (Split::Test, &self.test_classes),
        ]
    }

    pub(super) fn has_class_lists(&self) -> bool {
        self.class_lists().iter().any(|(_, file)| !file.is_empty())
    }
}
