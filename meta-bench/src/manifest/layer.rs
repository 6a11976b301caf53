//! Values that override those of a manifest.

use serde_json::Value;

use super::{
    origin::Origin,
    text::{dotted, parse_value},
};
use crate::failure::{CommandError, Result};

/// A value that a file, an axis or the command line gives.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The section; empty at the top.
    pub(super) section: String,
    /// The key in it; empty where the section has none.
    pub(super) key: String,
    /// The value.
    pub(super) value: Value,
    /// Where it comes from.
    pub(super) origin: Origin,
    /// How far from the first file: what is given later wins.
    pub(super) level: usize,
}

impl Layer {
    /// The value of `path` (`section.key`), on top of all files.
    pub fn new(path: &str, value: Value, origin: Origin) -> Self {
        let (section, key) = path.split_once('.').unwrap_or(("", path));
        Layer {
            section: section.to_owned(),
            key: key.to_owned(),
            value,
            origin,
            level: usize::MAX,
        }
    }

    /// `section.key`, or `key` at the top.
    pub fn path(&self) -> String {
        dotted(&self.section, &self.key)
    }

    /// The value.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Where it comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Reads `key.path=value` from the command line.
    ///
    /// # Errors
    /// When it is not of that form.
    pub fn parse(text: &str) -> Result<Self> {
        let given = text.split_once('=');
        let Some((path, value)) = given.filter(|(path, _)| is_path(path.trim())) else {
            return Err(CommandError::Usage(format!(
                "`{text}`: expected an override of the form key.path=value, such as train.lr=0.01"
            )));
        };
        let path = path.trim();
        let value = parse_value(path, value.trim())?;
        Ok(Layer::new(path, value, Origin::CommandLine))
    }
}

/// Whether `text` is a key or keys with points between.
pub fn is_path(text: &str) -> bool {
    text.split('.').all(|key| !key.trim().is_empty())
}
