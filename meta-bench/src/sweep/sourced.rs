//! Reads the keys of `[sweep]` with their places, and the axes that they give.

use meta_core::{Error, settings::unknown_key};
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use crate::{
    failure::{CommandError, Result},
    manifest::{
        layer::Layer,
        origin::Origin,
        text::{json, toml},
    },
};

/// A list of values for a key, or of tables for a section.
#[derive(Clone, Debug)]
pub struct Axis {
    /// The key (`train.lr`) or section (`learner`).
    pub key: String,
    /// Where it was given.
    pub origin: Origin,
    /// Its values, at least one.
    pub values: Vec<Value>,
}

/// A key of `[sweep]` with its place.
pub struct Sourced<'a> {
    /// Its names: `grid`, `train`, `lr`.
    pub path: Vec<String>,
    /// Its value.
    pub value: &'a DeValue<'a>,
    /// Where it was given.
    pub origin: Origin,
}

impl<'a> Sourced<'a> {
    fn dotted(&self) -> String {
        format!("sweep.{}", self.path.join("."))
    }

    /// Its value as JSON.
    ///
    /// # Errors
    /// When it is something else.
    pub fn value(&self) -> Result<Value> {
        json(&self.dotted(), self.value).map_err(|error| self.at(error))
    }

    /// An error about it, with its place.
    pub fn at(&self, error: Error) -> CommandError {
        at(&self.origin, error)
    }

    /// An error about its value.
    pub fn refuse(&self, expected: &str) -> CommandError {
        let shown = self.value().ok().and_then(|value| toml(&value));
        self.at(Error::setting(
            self.dotted(),
            shown.unwrap_or_default(),
            expected,
        ))
    }

    /// Its value, a whole number.
    ///
    /// # Errors
    /// When it is something else.
    pub fn whole(&self, least: u64) -> Result<u64> {
        let number = self.value()?.as_u64().filter(|number| *number >= least);
        number.ok_or_else(|| self.refuse(&format!("expected a whole number of at least {least}")))
    }

    /// Its value, a list.
    ///
    /// # Errors
    /// When it is something else.
    pub fn list(&self) -> Result<Vec<Value>> {
        match self.value()? {
            Value::Array(values) => Ok(values),
            _ => Err(self.refuse("expected a list of values, such as [1, 2]")),
        }
    }

    /// The keys of its value, a table; `origin` is where a byte of the file lies.
    ///
    /// # Errors
    /// When it is something else.
    pub fn inner(&self, origin: &dyn Fn(usize) -> Origin) -> Result<Vec<Sourced<'a>>> {
        let table = self.value.as_table();
        let table = table.ok_or_else(|| self.refuse("expected a table"))?;
        let inner = in_order(table).into_iter().map(|(key, value)| {
            let mut path = self.path.clone();
            path.push(key.get_ref().to_string());
            Sourced {
                path,
                value: value.get_ref(),
                origin: origin(key.span().start),
            }
        });
        Ok(inner.collect())
    }
}

/// An error with its place.
pub fn at(origin: &Origin, error: Error) -> CommandError {
    CommandError::At {
        origin: origin.to_string(),
        error,
    }
}

/// An axis that is given twice.
pub fn twice(key: &str, origin: &Origin, other: &str) -> CommandError {
    let other = if origin.to_string() == other {
        String::new()
    } else {
        format!("; the other is {other}")
    };
    CommandError::Usage(format!("{origin}: axis `{key}` is given twice{other}"))
}

/// A key that does not exist.
pub fn unknown(given: &Sourced<'_>, key: &str, known: &[&str]) -> CommandError {
    let section = given.path[..given.path.len() - 1].iter();
    let section: Vec<&str> = std::iter::once("sweep")
        .chain(section.map(String::as_str))
        .collect();
    let error = unknown_key(&section.join("."), key, known.iter().copied());
    given.at(error)
}

type Entry<'a> = (
    &'a toml::Spanned<toml::de::DeString<'a>>,
    &'a toml::Spanned<DeValue<'a>>,
);

/// The entries of a table as they stand in the file.
pub fn in_order<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The axes of a table. `learner.name = […]` and `"learner.name" = […]` are the same axis.
///
/// # Errors
/// For an axis that is not a list, or given twice.
pub fn axes(inner: Vec<Sourced<'_>>, origin: &dyn Fn(usize) -> Origin) -> Result<Vec<Axis>> {
    let mut axes: Vec<Axis> = Vec::new();
    let mut push = |given: Sourced<'_>, key: String| -> Result<()> {
        let axis = Axis {
            values: given.list()?,
            key,
            origin: given.origin.clone(),
        };
        if let Some(other) = axes.iter().find(|other| other.key == axis.key) {
            return Err(twice(&axis.key, &axis.origin, &other.origin.to_string()));
        }
        axes.push(axis);
        Ok(())
    };
    for given in inner {
        match given.value.as_table() {
            None => {
                let key = given.path[1].clone();
                push(given, key)?;
            }
            Some(_) => {
                for given in given.inner(origin)? {
                    let name = given.path[1..].join(".");
                    push(given, name)?;
                }
            }
        }
    }
    Ok(axes)
}

/// The layers of the value at `index` of `axis`: one for a value, one a key for a table of a section.
pub fn layers(axis: &Axis, index: usize) -> Vec<Layer> {
    let value = &axis.values[index];
    match value.as_object() {
        Some(table) if !axis.key.contains('.') => table
            .iter()
            .map(|(name, value)| {
                let path = format!("{}.{name}", axis.key);
                Layer::new(&path, value.clone(), axis.origin.clone())
            })
            .collect(),
        _ => vec![Layer::new(&axis.key, value.clone(), axis.origin.clone())],
    }
}

/// Splits at the commas that are in no bracket, brace or quotation.
pub fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0usize;
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("never empty").push(letter);
    }
    parts
}
