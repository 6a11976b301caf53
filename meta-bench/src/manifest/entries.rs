//! Keeps the keys of a manifest with their values and origins.

use meta_core::{Error, settings::unknown_key};
use serde_json::{Map, Value, json};

use super::{
    layer::Layer,
    origin::Origin,
    text::{dotted, in_quotes},
};
use crate::failure::{CommandError, Result};

/// A key with its value and origin.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The section; empty at the top.
    pub section: &'static str,
    /// The key in it.
    pub key: String,
    /// The value.
    pub value: Value,
    /// Where the value comes from.
    pub origin: Origin,
    /// The value at which a key that older manifests lack is no part of the identity.
    pub left_out_at: Option<Value>,
}

impl Entry {
    /// `section.key`, or `key` at the top.
    pub fn dotted(&self) -> String {
        dotted(self.section, &self.key)
    }
}

/// Sections of a manifest in their order; the empty one is the top.
pub const SECTIONS: [&str; 8] = [
    "",
    "data",
    "encoder",
    "learner",
    "train",
    "test",
    "tracking",
    "published",
];

/// The origin of the setting that `error` is about, if somebody gave it, in front of the error.
pub fn locate(entries: &[Entry], error: Error) -> CommandError {
    let key = match &error {
        Error::Setting { key, .. } => key.clone(),
        Error::Backend { .. } => "backend".to_owned(),
        Error::Unknown { kind, .. } => match *kind {
            "backend" => "backend".to_owned(),
            "encoder" | "learner" => format!("{kind}.name"),
            _ => return CommandError::Core(error),
        },
        _ => return CommandError::Core(error),
    };
    match entries.iter().find(|entry| entry.dotted() == key) {
        Some(entry) if entry.origin != Origin::Default => CommandError::At {
            origin: entry.origin.to_string(),
            error: quotes_help(entry, error),
        },
        _ => CommandError::Core(error),
    }
}

/// Says of a text that was typed without quotes, and read as something else, how it is written.
fn quotes_help(entry: &Entry, error: Error) -> Error {
    match error {
        Error::Setting {
            key,
            value,
            expected,
        } if entry.origin == Origin::CommandLine
            && !entry.value.is_string()
            && expected.contains("expected a string") =>
        {
            let expected = format!("{expected}; as a text: {}", in_quotes(&key, &value));
            Error::setting(key, value, expected)
        }
        other => other,
    }
}

/// Every `section.key` of a manifest's values with its value.
pub fn flat(values: &Value) -> impl Iterator<Item = (String, &Value)> {
    values
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(key, value)| {
            let section = SECTIONS.contains(&key.as_str());
            let inner: Vec<(String, &Value)> = match value.as_object().filter(|_| section) {
                Some(inner) => inner
                    .iter()
                    .map(|(name, value)| (dotted(key, name), value))
                    .collect(),
                None => vec![(key.clone(), value)],
            };
            inner
        })
}

/// Sets the entry of `layer` to its value.
///
/// # Errors
/// For a key that no entry has, with the nearest one.
pub fn apply(entries: &mut [Entry], layer: Layer) -> Result<()> {
    let Layer {
        section,
        key,
        value,
        origin,
        ..
    } = layer;
    let no_keys = key.is_empty() && value.as_object().is_some_and(Map::is_empty);
    if no_keys && !section.is_empty() && SECTIONS.contains(&section.as_str()) {
        return Ok(()); // An empty section.
    }
    let found = entries
        .iter_mut()
        .find(|entry| entry.section == section && entry.key == key);
    let Some(entry) = found else {
        return Err(CommandError::At {
            origin: origin.to_string(),
            error: unknown(entries, &section, &key, &value),
        });
    };
    entry.value = match (&entry.value, value) {
        // `lr = 1` and `lr = 1.0` are the same setting, with the same hash.
        (Value::Number(default), Value::Number(given)) if default.is_f64() && !given.is_f64() => {
            given.as_f64().map_or(Value::Null, |float| json!(float))
        }
        (_, value) => value,
    };
    entry.origin = origin;
    Ok(())
}

/// The one key of another section that has exactly this name.
fn elsewhere(entries: &[Entry], section: &str, key: &str) -> Option<String> {
    let mut found = entries
        .iter()
        .filter(|entry| entry.section != section && entry.key == key && key != "name");
    let one = found.next()?;
    found.next().is_none().then(|| one.dotted())
}

/// What is wrong with a key that no entry has.
fn unknown(entries: &[Entry], section: &str, key: &str, value: &Value) -> Error {
    let keys = |section: &'static str| {
        entries
            .iter()
            .filter(move |entry| entry.section == section)
            .map(|entry| entry.key.as_str())
    };
    match SECTIONS.into_iter().find(|known| *known == section) {
        Some("") if !key.is_empty() && SECTIONS.contains(&key) => {
            let expected =
                format!("expected a table, [{key}], or a key of it, as in {key}.key=value");
            Error::setting(key, value, expected)
        }
        Some("") => unknown_key("", key, keys("").chain(SECTIONS.into_iter().skip(1))),
        Some(section) => match elsewhere(entries, section, key) {
            Some(other) => Error::Unknown {
                kind: "key",
                name: dotted(section, key),
                nearest: Some(other.clone()),
                known: vec![other],
            },
            None => unknown_key(section, key, keys(section)),
        },
        None => {
            // A misspelt section, or a table where a top-level key was meant.
            let known = SECTIONS.into_iter().skip(1);
            if keys("").any(|top| top == section) {
                Error::setting(section, format!("[{section}]"), "expected a value")
            } else {
                Error::unknown("section", section, known)
            }
        }
    }
}
