//! Writes what a run logs into event files of TensorBoard while it trains (`tracking.tensorboard`), and knows
//! the events that an export has, too.
//!
//! A session has a file of its own in the folder [`TENSORBOARD`] of the run. What earlier sessions wrote after
//! the checkpoint that a session starts from is cut from their files, and the session's first event tells
//! readers to forget it: a curve never goes back.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use meta_core::{
    Error,
    files::{read_regular, write_atomically},
    train::{IterationRecord, ValidationRecord},
};
use serde::Serialize;
use serde_json::Value;

use super::{folder::TENSORBOARD, result::TestResult};
use crate::{
    manifest::{Manifest, entries::flat},
    output::{
        event_file::{EventFile, kept_until, scalar_value},
        protobuf::Message,
    },
};

type Result<T> = std::result::Result<T, Error>;

/// The largest event file that a run continues after.
const MOST_BYTES: u64 = 1 << 30;
/// Names of event files, around the seconds since 1970 at which they begin: readers take them in this order.
const BEFORE: &str = "events.out.tfevents.";
const AFTER: &str = ".meta";

/// The event file of a session.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Begins the file of a session of the run in `folder`, which goes on from `iteration`.
    ///
    /// # Errors
    /// When the files of earlier sessions cannot be read or cut, or the new one cannot be written.
    pub fn open(folder: &Path, iteration: u64, manifest: &Manifest) -> Result<Self> {
        let folder = folder.join(TENSORBOARD);
        fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, "create folder", error))?;
        let earlier = earlier(&folder)?;
        for (_, path) in &earlier {
            cut(path, iteration)?;
        }
        let now = seconds();
        let after = earlier.last().map_or(0, |(begun, _)| begun + 1);
        let begun = after.max(now as u64);
        let path = folder.join(format!("{BEFORE}{begun:010}{AFTER}"));
        let mut first = EventFile::new(now);
        if earlier.is_empty() {
            first.add(now, 0, text("manifest", &manifest.to_toml()));
            let values = manifest.values();
            let settings = flat(&values).map(|(key, value)| (key, value.clone()));
            hyper_parameters(&mut first, now, &settings.collect());
        } else {
            first.session_starts(now, iteration + 1);
        }
        write_atomically(&path, &first.bytes)?;
        let file = File::options()
            .append(true)
            .open(&path)
            .map_err(|error| Error::io(&path, "open", error))?;
        Ok(Events { path, file })
    }

    fn write(&mut self, events: &EventFile) -> Result<()> {
        let written = self.file.write_all(&events.bytes);
        written.map_err(|error| Error::io(&self.path, "write", error))
    }

    /// A meta-batch was logged.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn iteration(&mut self, record: &IterationRecord) -> Result<()> {
        self.logged("train", record.iteration, record)
    }

    /// A validation is done.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn validation(&mut self, record: &ValidationRecord) -> Result<()> {
        self.logged("validation", record.iteration, record)
    }

    fn logged(&mut self, kind: &str, iteration: u64, record: &impl Serialize) -> Result<()> {
        let line = serde_json::to_value(record).expect("a record serialises");
        let now = seconds();
        let mut events = EventFile::default();
        for (name, value) in numbers(&line) {
            let value = scalar_value(&format!("{kind}/{name}"), value);
            events.add(now, iteration, value);
        }
        self.write(&events)
    }

    /// The test is done.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn test(&mut self, result: &TestResult) -> Result<()> {
        let now = seconds();
        let mut events = EventFile::default();
        test(&mut events, |_| now, result);
        end(&mut events, now);
        self.write(&events)
    }
}

/// Seconds since 1970.
fn seconds() -> f64 {
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

/// Event files of earlier sessions in their order, with the seconds in their names.
fn earlier(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries =
        fs::read_dir(folder).map_err(|error| Error::io(folder, "read the events in", error))?;
    let mut found: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let begun = name.strip_prefix(BEFORE)?.strip_suffix(AFTER)?;
            Some((begun.parse().ok()?, entry.path()))
        })
        .collect();
    found.sort();
    Ok(found)
}

/// Cuts the events after an iteration from a file.
fn cut(path: &Path, last: u64) -> Result<()> {
    let bytes = read_regular(path, MOST_BYTES)?;
    let kept = kept_until(&bytes, last);
    if kept == bytes.len() {
        return Ok(());
    }
    let file = File::options().write(true).open(path);
    file.and_then(|file| file.set_len(kept as u64))
        .map_err(|error| Error::io(path, "write", error))
}

/// The numbers of a line of metrics, by name: the score first, and of intervals their means.
pub fn numbers(line: &Value) -> Vec<(String, f64)> {
    let score = line["score"]["mean"].as_f64();
    let score = score.map(|score| ("score".to_owned(), score));
    let others = line.as_object().into_iter().flatten();
    let others = others.filter(|(name, _)| !["iteration", "score"].contains(&name.as_str()));
    let number = |(name, value): (&String, &Value)| {
        let value = value.as_f64().or_else(|| value["mean"].as_f64())?;
        Some((name.clone(), value))
    };
    score.into_iter().chain(others.filter_map(number)).collect()
}

/// The scores of the test; `at` gives the seconds since 1970 at which an iteration was done.
pub fn test(file: &mut EventFile, at: impl Fn(u64) -> f64, result: &TestResult) {
    let last = result.iterations;
    let seconds = at(last);
    let metric = result.metric.name();
    let score = scalar_value(&format!("test/{metric}"), result.mean);
    file.add(seconds, last, score);
    file.add(seconds, last, scalar_value("test/loss", result.loss));
    for step in &result.by_step {
        let tag = format!("test/{metric}_by_adaptation_step");
        file.add(seconds, step.step as u64, scalar_value(&tag, step.mean));
    }
}

/// The hyper-parameters of a run that began at some seconds since 1970: its settings that results depend on.
pub fn hyper_parameters(file: &mut EventFile, began: f64, settings: &BTreeMap<String, Value>) {
    let mut start = Message::default();
    for (key, value) in settings
        .iter()
        .filter(|(key, _)| Manifest::is_identity(key))
    {
        let value = match value {
            Value::Null => continue,
            Value::Bool(value) => Message::default().number(4, u64::from(*value)),
            Value::Number(number) => {
                Message::default().double(2, number.as_f64().unwrap_or(f64::NAN))
            }
            Value::String(text) => Message::default().text(3, text),
            other => Message::default().text(3, &other.to_string()),
        };
        let entry = Message::default().text(1, key);
        start = start.message(1, entry.message(2, value));
    }
    let content = Message::default().message(3, start.double(5, began));
    file.add(began, 0, hparams("_hparams_/session_start_info", content));
}

/// Says that a run is done.
pub fn end(file: &mut EventFile, seconds: f64) {
    // Success is 1.
    let end = Message::default().number(1, 1).double(2, seconds);
    let content = Message::default().message(4, end);
    file.add(seconds, 0, hparams("_hparams_/session_end_info", content));
}

/// A text as a value, shown as it is.
pub fn text(name: &str, text: &str) -> Message {
    let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
    let one = Message::default().message(2, Message::default().number(1, 1));
    // Of strings (7), one.
    let tensor = Message::default()
        .number(1, 7)
        .message(2, one)
        .text(8, &indented);
    Message::default()
        .text(1, &format!("{name}/text_summary"))
        .message(8, tensor)
        .message(9, plugin("text", Message::default()))
}

/// Metadata of a value that a part of TensorBoard reads.
fn plugin(name: &str, content: Message) -> Message {
    let data = Message::default()
        .text(1, name)
        .bytes(2, &content.into_bytes());
    Message::default().message(1, data)
}

fn hparams(tag: &str, content: Message) -> Message {
    // A tensor of one number (1) of no dimension, which nobody reads.
    let nothing = Message::default()
        .number(1, 1)
        .message(2, Message::default())
        .float(5, 0.0);
    Message::default()
        .text(1, tag)
        .message(8, nothing)
        .message(9, plugin("hparams", content))
}

#[cfg(test)]
mod tests {
    use meta_core::{stats::Interval, toolkit::Catalogue};

    use super::*;
    use crate::output::event_file::records;

    fn manifest() -> Manifest {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.toml");
        fs::write(&path, "seed = 3\n").unwrap();
        Manifest::resolve(&path, &[], &Catalogue::of::<meta_algos::BuiltIn>()).unwrap()
    }

    fn record(iteration: u64) -> IterationRecord {
        IterationRecord {
            iteration,
            loss: 0.5,
            score: Interval::t95(&[0.25, 0.75]),
            gradient_norm: 1.0,
            lr: 0.1,
            selection: None,
        }
    }

    fn files(folder: &Path) -> Vec<Vec<u8>> {
        let files = earlier(&folder.join(TENSORBOARD)).unwrap();
        let read = files.iter().map(|(_, path)| fs::read(path).unwrap());
        read.collect()
    }

    /// A session is killed after iteration 40 and its file torn; the next one goes on from 20, the third from
    /// the end of the second. Read in order, every iteration is there once, and they rise.
    #[test]
    fn sessions_never_go_back() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        let write = |from: u64, to: u64| {
            let mut events = Events::open(folder, from, &manifest()).unwrap();
            for iteration in (from + 10..=to).step_by(10) {
                events.iteration(&record(iteration)).unwrap();
            }
            events.file.write_all(b"torn").unwrap();
        };
        write(0, 40);
        write(20, 60);
        write(60, 80);
        let files = files(folder);
        assert_eq!(files.len(), 3);
        assert!(files[0].windows(8).any(|window| window == b"manifest"));
        let steps: Vec<u64> = files
            .iter()
            .flat_map(|bytes| records(bytes))
            .filter(|event| event.windows(10).any(|window| window == b"train/loss"))
            .map(crate::output::event_file::step)
            .collect();
        assert_eq!(steps, [10, 20, 30, 40, 50, 60, 70, 80]);
        // The first event after the version says where the session begins.
        let second = records(&files[1]);
        assert_eq!(crate::output::event_file::step(second[1]), 21);
    }

    #[test]
    fn numbers_of_a_line_are_named() {
        let line = serde_json::to_value(record(10)).unwrap();
        let names: Vec<String> = numbers(&line).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["score", "gradient_norm", "loss", "lr"]);
    }
}
