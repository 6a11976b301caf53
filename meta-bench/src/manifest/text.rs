//! Reads TOML with the line of every value, and writes values as TOML.

use std::path::Path;

use meta_core::Error;
use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use crate::{
    failure::{CommandError, Result},
    output::text::{has_hidden, visible},
};

/// A value of a manifest, at `section.key` or `key`.
#[derive(Clone, Debug, PartialEq)]
pub struct LocatedValue {
    /// The section; empty at the top of the file.
    pub section: String,
    /// The key in its section; empty where the section has none.
    pub key: String,
    /// The value.
    pub value: Value,
    /// The line, counted from 1.
    pub line: usize,
}

/// Reads the values of a manifest's text; `path` only serves messages.
///
/// # Errors
/// [`CommandError::Syntax`] where the text is not TOML, [`CommandError::At`] for a value that a manifest
/// cannot hold.
pub fn parse(path: &Path, text: &str) -> Result<Vec<LocatedValue>> {
    let table = DeTable::parse(text).map_err(|error| syntax(path, text, &error))?;
    let lines = Lines::of(text);
    let mut given = Vec::new();
    let mut push = |section: &str, key: &str, position: usize, value: &DeValue<'_>| {
        let line = lines.at(position);
        let dotted = dotted(section, key);
        let value = json(&dotted, value).map_err(|error| CommandError::At {
            origin: format!("{}:{line}", path.display()),
            error,
        })?;
        given.push(LocatedValue {
            section: section.to_owned(),
            key: key.to_owned(),
            value,
            line,
        });
        Ok::<(), CommandError>(())
    };
    for (name, value) in table.get_ref() {
        match value.get_ref() {
            DeValue::Table(section) => {
                if section.is_empty() {
                    push(name.get_ref(), "", name.span().start, value.get_ref())?;
                }
                for (key, value) in section {
                    let position = key.span().start;
                    push(name.get_ref(), key.get_ref(), position, value.get_ref())?;
                }
            }
            other => push("", name.get_ref(), name.span().start, other)?,
        }
    }
    given.sort_by_key(|given| given.line);
    Ok(given)
}

/// Where the lines of a text end.
pub struct Lines(Vec<usize>);

impl Lines {
    /// The lines of `text`.
    pub fn of(text: &str) -> Self {
        let bytes = text.bytes().enumerate();
        Lines(
            bytes
                .filter(|(_, byte)| *byte == b'\n')
                .map(|(place, _)| place)
                .collect(),
        )
    }

    /// The line, counted from 1, at a byte of the text.
    pub fn at(&self, position: usize) -> usize {
        1 + self.0.partition_point(|&end| end < position)
    }
}

/// What is wrong with the text of a manifest.
pub fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> CommandError {
    let span = error.span().unwrap_or(0..0);
    // `duplicate key` does not say which one.
    let name = match error.message() {
        "duplicate key" => text.get(span.clone()).map(|name| format!(" `{name}`")),
        _ => None,
    };
    CommandError::Syntax {
        path: path.to_owned(),
        line: Lines::of(text).at(span.start),
        message: format!(
            "not valid TOML: {}{}",
            error.message(),
            name.unwrap_or_default()
        ),
    }
}

/// A value as an override gives it: TOML, or a bare word, which is a string.
///
/// # Errors
/// [`CommandError::At`] where it is neither.
pub fn parse_value(key: &str, text: &str) -> Result<Value> {
    let refuse = |error| CommandError::At {
        origin: "command line".to_owned(),
        error,
    };
    if let Ok(table) = DeTable::parse(&format!("value = {text}")) {
        let mut values = table.get_ref().iter();
        if let (Some((_, value)), None) = (values.next(), values.next()) {
            return json(key, value.get_ref()).map_err(refuse);
        }
    }
    let bare = !text.is_empty() && !text.contains(['"', '\'', '[', ']', '{', '}', '\n', '=']);
    if bare {
        Ok(Value::String(text.to_owned()))
    } else {
        let help = format!(
            "expected a TOML value or a bare word; as a text: {}",
            in_quotes(key, text)
        );
        Err(refuse(Error::setting(key, text, help)))
    }
}

/// `key=value` with a value that is a text, as a shell takes it.
pub fn in_quotes(key: &str, text: &str) -> String {
    let value = toml::Value::String(text.to_owned()).to_string();
    format!("'{key}={}'", value.replace('\'', "'\\''"))
}

/// `section.key`, or `key` at the top.
pub fn dotted(section: &str, key: &str) -> String {
    match section {
        "" => key.to_owned(),
        _ => format!("{section}.{key}"),
    }
}

/// A TOML value as JSON; `key` only serves messages.
///
/// # Errors
/// [`Error::Setting`] for a value that a manifest cannot hold.
pub fn json(key: &str, value: &DeValue<'_>) -> Result<Value, Error> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(digits) => {
            let integer = i64::from_str_radix(digits.as_str(), digits.radix())
                .map(Number::from)
                .or_else(|_| {
                    u64::from_str_radix(digits.as_str(), digits.radix()).map(Number::from)
                });
            Value::Number(
                integer
                    .map_err(|_| Error::setting(key, digits, "expected an integer of 64 bits"))?,
            )
        }
        DeValue::Float(digits) => {
            let number: Option<f64> = digits.as_str().parse().ok();
            Value::Number(
                number
                    .and_then(Number::from_f64)
                    .ok_or_else(|| Error::setting(key, digits, "expected a finite number"))?,
            )
        }
        DeValue::Datetime(time) => {
            return Err(Error::setting(
                key,
                time,
                "expected a string, number, boolean, list or table, not a time",
            ));
        }
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| json(key, item.get_ref()))
                .collect::<Result<_, Error>>()?,
        ),
        DeValue::Table(entries) => {
            let mut object = Map::new();
            for (name, value) in entries {
                let inner = format!("{key}.{}", name.get_ref());
                object.insert(name.get_ref().to_string(), json(&inner, value.get_ref())?);
            }
            Value::Object(object)
        }
    })
}

/// A value as TOML; none for null, which TOML does not have.
pub fn toml(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => value.to_string(),
        // TOML keeps letters that would reorder or break the line.
        Value::String(text) if has_hidden(text) => {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"");
            format!("\"{}\"", visible(&text))
        }
        Value::String(text) => toml::Value::String(text.clone()).to_string(),
        Value::Number(number) => match number.as_f64() {
            // Debug keeps the point or exponent that makes a TOML float.
            Some(float) if number.is_f64() => format!("{float:?}"),
            _ => number.to_string(),
        },
        Value::Array(items) => {
            let items: Vec<String> = items.iter().filter_map(toml).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .filter_map(|(key, value)| Some(format!("{key} = {}", toml(value)?)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_value_knows_its_line() {
        let text = "name = \"a\"\n\n[data]\n# comment\nway = 5\nrotations = [0, 90]\n";
        let given = parse(Path::new("m.toml"), text).unwrap();
        let found: Vec<(String, Value, usize)> = given
            .into_iter()
            .map(|given| (dotted(&given.section, &given.key), given.value, given.line))
            .collect();
        assert_eq!(
            found,
            [
                ("name".to_owned(), json!("a"), 1),
                ("data.way".to_owned(), json!(5), 5),
                ("data.rotations".to_owned(), json!([0, 90]), 6),
            ]
        );
    }

    #[test]
    fn broken_toml_names_file_and_line() {
        let message = parse(Path::new("m.toml"), "name = 'a'\nseed = = 1\n")
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("m.toml:2: not valid TOML"), "{message}");
    }

    #[test]
    fn an_override_is_toml_or_a_bare_word() {
        for (text, expected) in [
            ("5", json!(5)),
            ("1e-3", json!(1e-3)),
            ("true", json!(true)),
            ("\"5\"", json!("5")),
            ("[1, 2]", json!([1, 2])),
            ("protonet", json!("protonet")),
            ("some/folder name", json!("some/folder name")),
        ] {
            assert_eq!(parse_value("key", text).unwrap(), expected, "{text}");
        }
        for text in ["[1, 2", "", "a=b", "\"open", "nan", "1\nx = 2"] {
            assert!(parse_value("key", text).is_err(), "{text}");
        }
        let message = parse_value("data.path", "img/a=b").unwrap_err().to_string();
        assert!(message.contains(r#"'data.path="img/a=b"'"#), "{message}");
        assert_eq!(in_quotes("k", "it's"), r#"'k="it'\''s"'"#);
    }

    #[test]
    fn values_survive_the_way_to_toml_and_back() {
        for value in [
            json!(0.001),
            json!(1e-8),
            json!(1.0),
            json!(1e300),
            json!(-3),
            json!("a \"quoted\" \\ text\nand more"),
            json!("a\u{202e}b \"c\" \\ \u{1b}[31m\u{feff}\t\r"),
            json!([1, [2.5], "x"]),
            json!({ "a": 1, "b": [true] }),
        ] {
            let text = format!("value = {}", toml(&value).unwrap());
            let given = parse(Path::new("m.toml"), &text).unwrap();
            if value.is_object() {
                assert_eq!(given.len(), 2, "{text}");
            } else {
                assert_eq!(given[0].value, value, "{text}");
            }
        }
    }
}
