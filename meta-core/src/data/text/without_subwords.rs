//! What stands for subwords in builds without them.

use std::path::Path;

use crate::error::{Error, Result};

/// Cuts no text.
pub(super) enum Subwords {}

impl Subwords {
    /// Refuses.
    ///
    /// # Errors
    /// Always, with the feature that is missing.
    pub fn open(path: &Path, _limit: u64) -> Result<Self> {
        let expected =
            "subwords are not compiled in; build with `--features tokenizers`, or leave it out";
        Err(Error::setting("data.tokenizer", path.display(), expected))
    }

    /// Never reached.
    pub fn unknown(&self) -> Option<&str> {
        match *self {}
    }

    /// Never reached.
    ///
    /// # Errors
    /// None.
    pub fn of(&self, _text: &str) -> Result<Vec<String>, String> {
        match *self {}
    }
}
