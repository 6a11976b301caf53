//! Settings as values: defaults, unknown keys, types. Shared by sources, encoders, learners and the
//! manifest, so that every part of the toolkit refuses a bad setting in the same words.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Error, Result};

/// A group of settings that a user can give: all have defaults, all are checked once.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// The defaults, as the object a manifest would spell out.
    fn defaults() -> Value {
        serde_json::to_value(Self::default()).expect("settings serialise to a plain object")
    }

    /// Reads the settings from `given`, an object; absent keys take their defaults.
    ///
    /// `section` is the dotted path of the object in the manifest and only serves messages.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a key that does not exist (the nearest one is suggested),
    /// [`Error::Setting`] for a value of the wrong type.
    fn from_value(section: &str, given: &Value) -> Result<Self> {
        let mut merged = Self::defaults();
        let known = merged.as_object_mut().expect("settings are an object");
        let given = given
            .as_object()
            .ok_or_else(|| Error::setting(section, given, "expected a table of settings"))?;
        for (key, value) in given {
            if !known.contains_key(key) {
                return Err(unknown_key(section, key, known.keys().map(String::as_str)));
            }
            // Each key alone on top of the defaults: the message can then name the key.
            let mut single = Self::defaults();
            single[key] = value.clone();
            if let Err(error) = serde_json::from_value::<Self>(single) {
                return Err(Error::setting(
                    format!("{section}.{key}"),
                    value,
                    error.to_string(),
                ));
            }
            known.insert(key.clone(), value.clone());
        }
        serde_json::from_value(merged)
            .map_err(|error| Error::setting(section, "{…}", error.to_string()))
    }
}

impl<T: Default + Serialize + DeserializeOwned> Settings for T {}

/// The error for a key that `section` does not have.
pub fn unknown_key<'a>(
    section: &str,
    key: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Error {
    match Error::unknown("key", key, known) {
        Error::Unknown {
            kind,
            name,
            nearest,
            known,
        } => Error::Unknown {
            kind,
            name: if section.is_empty() {
                name
            } else {
                format!("{section}.{name}")
            },
            nearest,
            known,
        },
        other => other,
    }
}

/// Checks that a number is above 0 and finite.
///
/// # Errors
/// [`Error::Setting`] naming `key`.
pub fn above_zero(key: &str, value: f64) -> Result<()> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(Error::setting(key, value, "must be above 0")),
    }
}

/// Checks that a number is at least 0 and finite.
///
/// # Errors
/// [`Error::Setting`] naming `key`.
pub fn at_least_zero(key: &str, value: f64) -> Result<()> {
    match value >= 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(Error::setting(key, value, "must be at least 0")),
    }
}

/// Checks that a number is in [0, 1).
///
/// # Errors
/// [`Error::Setting`] naming `key`.
pub fn in_unit(key: &str, value: f64) -> Result<()> {
    match (0.0..1.0).contains(&value) {
        true => Ok(()),
        false => Err(Error::setting(key, value, "must be in [0, 1)")),
    }
}

/// Checks that a count is at least 1.
///
/// # Errors
/// [`Error::Setting`] naming `key`.
pub fn at_least_one(key: &str, value: usize) -> Result<()> {
    match value {
        0 => Err(Error::setting(key, value, "must be at least 1")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Example {
        inner_lr: f64,
        inner_steps: usize,
    }

    impl Default for Example {
        fn default() -> Self {
            Example {
                inner_lr: 0.4,
                inner_steps: 1,
            }
        }
    }

    #[test]
    fn absent_keys_take_their_defaults() {
        let read = Example::from_value("learner", &json!({"inner_steps": 5})).unwrap();
        assert_eq!(
            read,
            Example {
                inner_lr: 0.4,
                inner_steps: 5
            }
        );
    }

    #[test]
    fn an_unknown_key_suggests_the_nearest() {
        let message = Example::from_value("learner", &json!({"iner_lr": 1.0}))
            .unwrap_err()
            .to_string();
        assert!(message.contains("`learner.iner_lr`"), "{message}");
        assert!(message.contains("did you mean `inner_lr`"), "{message}");
    }

    #[test]
    fn a_wrong_type_names_key_value_and_type() {
        let message = Example::from_value("learner", &json!({"inner_steps": "five"}))
            .unwrap_err()
            .to_string();
        for part in ["learner.inner_steps", "five", "usize"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
