//! From files to labelled texts, whichever of the usual layouts they have.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};
use serde_json::{Map, Value};

use crate::data::episode::Split;
use crate::data::formats::{Lines, MAXIMUM_TEXT, open_unpacked, read_unpacked};
use crate::error::{Error, Result};

/// The largest file that is read as one JSON value.
const MAXIMUM_JSON: u64 = 1 << 28;

/// What columns or keys of texts are called, where the settings do not say.
const TEXTS: [&str; 8] = [
    "text",
    "sentence",
    "utterance",
    "query",
    "tokens",
    "question",
    "raw",
    "content",
];
/// What columns or keys of classes are called.
const LABELS: [&str; 8] = [
    "label", "category", "intent", "relation", "class", "labels", "target", "topic",
];
/// What texts of no class have for a class.
const OUTSIDE: [&str; 3] = ["oos", "oos_", "out_of_scope"];

/// Which columns or keys are read; what is empty is found by its usual name.
pub(super) struct Keys<'a> {
    pub text: &'a str,
    pub label: &'a str,
    /// Of the positions of two entities, where they are wanted.
    pub entities: Option<[&'a str; 2]>,
}

/// A text as a file has it.
pub(super) enum Content<'a> {
    Text(Cow<'a, str>),
    /// Cut into tokens already.
    Tokens(Vec<&'a str>),
}

/// A text with what is known of it.
pub(super) struct Row<'a> {
    pub place: Place<'a>,
    pub content: Content<'a>,
    /// None for a text of no class, which lies in `split`.
    pub label: Option<Cow<'a, str>>,
    pub split: Split,
    /// Positions of the tokens of two entities.
    pub entities: Option<[Vec<usize>; 2]>,
}

/// Where in a file something is.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// A line, from 1.
    Line(u64),
    /// The key of a list and a position in it, from 1.
    Entry(&'a str, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(line) => write!(formatter, "line {line}"),
            Place::Entry("", entry) => write!(formatter, "entry {entry}"),
            Place::Entry(key, entry) => write!(formatter, "`{key}`, entry {entry}"),
        }
    }
}

/// What is done with each text.
pub(super) type Take<'t> = dyn FnMut(Row<'_>) -> Result<()> + 't;

/// Reads the texts of a file in order, by the ending of its name:
///
/// | ending | layout |
/// |---|---|
/// | `.csv`, `.tsv` | a header and a row a line; without a header where columns are given as numbers |
/// | `.jsonl`, `.ndjson` | an object a line: a text or a list of tokens, and a label |
/// | `.json` | a list of such objects; or by key, lists of: `[text, label]` under the name of a split (CLINC150), objects with `tokens`, `h` and `t` under a relation (FewRel), texts under a label |
/// | `seq.in` | a text a line; the labels in the file `label` beside it |
///
/// each also with `.gz`.
pub(super) fn read(path: &Path, keys: &Keys<'_>, take: &mut Take<'_>) -> Result<()> {
    let (name, unpacked) = open_unpacked(path, MAXIMUM_TEXT)?;
    if name.ends_with("seq.in") {
        return read_pairs(path, take);
    }
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if ends(&[".csv", ".tsv", ".txt"]) {
        let tabs = !name.ends_with(".csv");
        return read_columns(path, unpacked, tabs, keys, take);
    }
    if ends(&[".jsonl", ".ndjson"]) {
        return read_json_lines(path, Lines::of(path, unpacked), keys, take);
    }
    if name.ends_with(".json") {
        return read_json(path, keys, take);
    }
    let message = "has an ending that is not known; texts are read from .csv, .tsv, .jsonl, .json (each also \
                   with .gz) and `seq.in`";
    Err(Error::data(path, message))
}

/// Puts the place in front of what is wrong there.
fn fault(path: &Path, place: Place<'_>, reason: impl fmt::Display) -> Error {
    Error::data(path, format!("{place} {reason}"))
}

/// The split that the end of a name says: `val`, `oos_val`.
fn split_of(name: &str) -> Option<Split> {
    Split::named(name.rsplit(['_', '-', '.']).next()?)
}

fn is_outside(label: &str) -> bool {
    OUTSIDE.contains(&label)
}

/// The position of a column: a number where there is no header, else by its name.
fn column(path: &Path, header: &[&str], given: &str, usual: &[&str]) -> Result<usize> {
    let position = |name: &str| header.iter().position(|column| *column == name);
    let found = match given {
        "" => usual.iter().find_map(|name| position(name)),
        name => position(name),
    };
    found.ok_or_else(|| match given {
        "" => Error::data(
            path,
            format!(
                "has the columns `{}`, and none of `{}`; name the one that is wanted in `data.text` and \
                 `data.label`, or by numbers from 0 where there is no header",
                header.join("`, `"),
                usual.join("`, `")
            ),
        ),
        name => {
            let unknown = Error::unknown("column", name, header.iter().copied());
            Error::data(path, unknown.to_string())
        }
    })
}

fn read_columns(
    path: &Path,
    text: impl std::io::Read,
    tabs: bool,
    keys: &Keys<'_>,
    take: &mut Take<'_>,
) -> Result<()> {
    let mut reader = ReaderBuilder::new()
        .delimiter(if tabs { b'\t' } else { b',' })
        // Tabs need no quotes: a quotation mark is text there.
        .quoting(!tabs)
        .has_headers(false)
        .flexible(true)
        .from_reader(text);
    let mut record = ByteRecord::new();
    let mut next = |record: &mut ByteRecord| {
        let found = reader.read_byte_record(record);
        found.map_err(|error| Error::data(path, format!("is no table: {error}")))
    };
    let given = [keys.text, keys.label]
        .into_iter()
        .chain(keys.entities.into_iter().flatten());
    let numbered: Option<Vec<usize>> = given.map(|key| key.parse().ok()).collect();
    let mut wanted = Vec::new();
    let mut width = None;
    match numbered {
        Some(numbers) => wanted = numbers,
        None => {
            if !next(&mut record)? {
                return Err(Error::data(path, "is empty: a header is needed"));
            }
            let header: Option<Vec<&str>> = record
                .iter()
                .map(|cell| std::str::from_utf8(cell).ok())
                .map(|cell| cell.map(|cell| cell.trim_start_matches('\u{feff}').trim()))
                .collect();
            let header = header.ok_or_else(|| fault(path, Place::Line(1), "is not UTF-8"))?;
            wanted.push(column(path, &header, keys.text, &TEXTS)?);
            wanted.push(column(path, &header, keys.label, &LABELS)?);
            for key in keys.entities.into_iter().flatten() {
                wanted.push(column(path, &header, key, &[])?);
            }
            width = Some(header.len());
        }
    }
    while next(&mut record)? {
        let place = Place::Line(record.position().map_or(0, csv::Position::line));
        let width = *width.get_or_insert(record.len());
        if record.len() != width {
            let reason = format!("has {} cells, and {width} are expected", record.len());
            return Err(fault(path, place, reason));
        }
        let cell = |column: usize| {
            let bytes = record.get(column).ok_or_else(|| {
                fault(
                    path,
                    place,
                    format!("has {width} cells, and column {column} is wanted"),
                )
            })?;
            let text = std::str::from_utf8(bytes);
            text.map_err(|_| fault(path, place, format!("is not UTF-8 in column {column}")))
        };
        let entities = match wanted[2..] {
            [head, tail] => Some([
                positions(path, place, cell(head)?)?,
                positions(path, place, cell(tail)?)?,
            ]),
            _ => None,
        };
        let label = cell(wanted[1])?.trim();
        take(Row {
            place,
            content: Content::Text(cell(wanted[0])?.into()),
            label: (!is_outside(label)).then(|| label.into()),
            split: Split::Train,
            entities,
        })?;
    }
    Ok(())
}

/// Whole numbers with spaces between.
fn positions(path: &Path, place: Place<'_>, text: &str) -> Result<Vec<usize>> {
    let numbers = text.split_whitespace().map(str::parse::<usize>);
    let numbers: Result<Vec<usize>, _> = numbers.collect();
    let numbers = numbers.ok().filter(|numbers| !numbers.is_empty());
    numbers.ok_or_else(|| {
        let reason = format!(
            "has `{text}` for the positions of an entity; numbers with spaces between are read"
        );
        fault(path, place, reason)
    })
}

fn read_pairs(path: &Path, take: &mut Take<'_>) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(name.replace("seq.in", "label"));
    let labels = read_unpacked(&beside, MAXIMUM_JSON)?;
    let mut labels = labels.lines();
    let mut lines = Lines::open(path)?;
    let mut read = 0;
    while let Some((number, line)) = lines.next_line()? {
        let place = Place::Line(number);
        let label = labels.next().ok_or_else(|| {
            fault(
                path,
                place,
                format!("has no label: {} has {read} lines", beside.display()),
            )
        })?;
        read = number;
        let label = label.trim();
        take(Row {
            place,
            content: Content::Text(line.into()),
            label: (!is_outside(label)).then(|| label.into()),
            split: Split::Train,
            entities: None,
        })?;
    }
    match labels.next() {
        None => Ok(()),
        Some(_) => {
            let message = format!(
                "line {} has no text: {} has {read} lines",
                read + 1,
                path.display()
            );
            Err(Error::data(&beside, message))
        }
    }
}

fn read_json_lines(
    path: &Path,
    mut lines: Lines<'_>,
    keys: &Keys<'_>,
    take: &mut Take<'_>,
) -> Result<()> {
    while let Some((number, line)) = lines.next_line()? {
        if line.trim().is_empty() {
            continue;
        }
        let place = Place::Line(number);
        let value: Value = serde_json::from_str(line)
            .map_err(|error| fault(path, place, format!("is no JSON: {error}")))?;
        take(of_value(path, place, &value, None, keys)?)?;
    }
    Ok(())
}

fn read_json(path: &Path, keys: &Keys<'_>, take: &mut Take<'_>) -> Result<()> {
    let text = read_unpacked(path, MAXIMUM_JSON)?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| Error::data(path, format!("is no JSON: {error}")))?;
    drop(text);
    let mut each = |key: &str, list: &[Value], above: Option<&str>| {
        list.iter().enumerate().try_for_each(|(entry, value)| {
            let place = Place::Entry(key, entry + 1);
            take(of_value(path, place, value, above, keys)?)
        })
    };
    match &value {
        Value::Array(list) => each("", list, None),
        Value::Object(lists) => lists.iter().try_for_each(|(key, value)| match value {
            // A split may be empty, a label not.
            Value::Array(list) if list.is_empty() && split_of(key).is_none() => {
                Err(Error::data(path, format!("holds no texts under `{key}`")))
            }
            Value::Array(list) => each(key, list, Some(key)),
            _ => {
                let message = format!("holds under `{key}` no list; `key: [texts]` is read");
                Err(Error::data(path, message))
            }
        }),
        _ => Err(Error::data(path, "holds neither a list nor lists by key")),
    }
}

/// A text from JSON; `above` is the key of the list that it lies in: a split, or a label.
fn of_value<'v>(
    path: &Path,
    place: Place<'v>,
    value: &'v Value,
    above: Option<&'v str>,
    keys: &Keys<'_>,
) -> Result<Row<'v>> {
    let wrong = |reason: String| Err(fault(path, place, reason));
    // Splits of texts are those of their classes: only texts of no class keep theirs.
    let split = above.and_then(split_of).unwrap_or(Split::Train);
    let (text, label, object) = match value {
        Value::String(_) => (Some(value), None, None),
        Value::Array(pair) if pair.len() == 2 => (pair.first(), pair.last(), None),
        Value::Object(object) => {
            let text = field(object, keys.text, &TEXTS);
            (text, field(object, keys.label, &LABELS), Some(object))
        }
        _ => return wrong("is no text, no `[text, label]` and no object".to_owned()),
    };
    let content = match text {
        Some(Value::String(text)) => Content::Text(text.into()),
        Some(Value::Array(tokens)) => {
            let tokens: Option<Vec<&str>> = tokens.iter().map(Value::as_str).collect();
            match tokens {
                Some(tokens) => Content::Tokens(tokens),
                None => return wrong("has tokens that are no text".to_owned()),
            }
        }
        Some(other) => return wrong(format!("has `{other}` for a text")),
        None => {
            let known: Vec<&str> = object
                .into_iter()
                .flat_map(Map::keys)
                .map(String::as_str)
                .collect();
            let reason = format!(
                "has no text (`data.text`) among its keys `{}`",
                known.join("`, `")
            );
            return wrong(reason);
        }
    };
    let label: Cow<'v, str> = match (label, above) {
        (Some(Value::String(label)), _) => label.trim().into(),
        (Some(Value::Number(label)), _) => label.to_string().into(),
        (None, Some(above)) => above.into(),
        _ => return wrong("has no label (`data.label`)".to_owned()),
    };
    let entities = match (keys.entities, object) {
        (Some([head, tail]), Some(object)) => {
            let of = |key: &str, usual: &str| {
                let key = if key.is_empty() { usual } else { key };
                let found = object.get(key).and_then(entity);
                found.ok_or_else(|| {
                    let reason = format!(
                        "has no positions of an entity under `{key}`; `[name, id, [[positions]]]` or \
                         `{{\"pos\": [first, end]}}` is read"
                    );
                    fault(path, place, reason)
                })
            };
            Some([of(head, "h")?, of(tail, "t")?])
        }
        (Some(_), None) => return wrong("has no entities".to_owned()),
        (None, _) => None,
    };
    Ok(Row {
        place,
        content,
        label: (!is_outside(&label)).then_some(label),
        split,
        entities,
    })
}

fn field<'v>(object: &'v Map<String, Value>, given: &str, usual: &[&str]) -> Option<&'v Value> {
    match given {
        "" => usual.iter().find_map(|name| object.get(*name)),
        name => object.get(name),
    }
}

/// Positions of the tokens of an entity, in FewRel's layout or in OpenNRE's.
fn entity(value: &Value) -> Option<Vec<usize>> {
    let number = |value: &Value| {
        value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
    };
    let numbers =
        |value: &Value| -> Option<Vec<usize>> { value.as_array()?.iter().map(number).collect() };
    let found = match value {
        Value::Array(_) => numbers(value.get(2)?.get(0)?)?,
        Value::Object(object) => match numbers(object.get("pos")?)?[..] {
            // Of a bounded number, whatever the file says.
            [first, end] if end.checked_sub(first)? <= 1 << 16 => (first..end).collect(),
            _ => return None,
        },
        _ => return None,
    };
    (!found.is_empty()).then_some(found)
}
