//! Subwords by a `tokenizer.json`, the file of the `tokenizers` library.

use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::error::{Error, Result};
use crate::files;

/// Cuts texts into the tokens of a vocabulary.
pub(super) struct Subwords {
    tokenizer: Tokenizer,
    /// The token that stands for what the vocabulary lacks, and its number.
    unknown: Option<(u32, String)>,
}

impl Subwords {
    /// Reads a `tokenizer.json` of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Data`] for a file that cannot be read or is none.
    pub fn open(path: &Path, limit: u64) -> Result<Self> {
        let text = files::read_text(path, limit)?;
        let fault = |reason: String| Error::data(path, format!("is no tokenizer.json: {reason}"));
        let parsed: Value =
            serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
        let read = Tokenizer::from_bytes(&text);
        let mut tokenizer = read.map_err(|error| fault(format!("{error}")))?;
        // An item is cut and filled up by the settings of the source.
        tokenizer.with_padding(None);
        let whole = tokenizer.with_truncation(None).map(|_| ());
        whole.map_err(|error| fault(format!("{error}")))?;
        let model = &parsed["model"];
        let by_name = || tokenizer.token_to_id(model["unk_token"].as_str()?);
        let number = model["unk_id"].as_u64();
        let number = number.and_then(|number| u32::try_from(number).ok());
        let unknown = number.or_else(by_name).and_then(|number| {
            let token = tokenizer.id_to_token(number)?;
            Some((number, token))
        });
        Ok(Subwords { tokenizer, unknown })
    }

    /// The token that stands for what the vocabulary lacks.
    pub fn unknown(&self) -> Option<&str> {
        self.unknown.as_ref().map(|(_, token)| token.as_str())
    }

    /// The tokens of a text, without those that a tokenizer puts around it.
    ///
    /// # Errors
    /// Why it cannot be cut, as a clause.
    pub fn of(&self, text: &str) -> Result<Vec<String>, String> {
        // `encode_fast` leaves the names of tokens out.
        let cut = self.tokenizer.encode(text, false);
        let cut = cut.map_err(|error| format!("cannot be cut by the tokenizer: {error}"))?;
        let tokens = cut.get_ids().iter().zip(cut.get_tokens());
        let named = tokens.map(|(&number, token)| match &self.unknown {
            Some((unknown, name)) if *unknown == number => name,
            _ => token,
        });
        Ok(named.cloned().collect())
    }
}
