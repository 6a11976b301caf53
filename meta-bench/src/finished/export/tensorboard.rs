//! Runs as event files of TensorBoard: scalars over training, the manifest as text, hyper-parameters, and the
//! pictures of `meta explain`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use meta_core::{
    Error,
    files::{read_regular, read_text, write_atomically},
};
use serde_json::Value;

use crate::{
    failure::{CommandError, Result},
    finished::{
        metrics::{Curves, Logged},
        store::Stored,
    },
    output::{
        event_file::{EventFile, scalar_value},
        print,
        protobuf::Message,
    },
    run::{
        events,
        folder::{EXPLAIN, MANIFEST, RECORD, TIMING},
        result::TestResult,
    },
};

/// The largest manifest, timing and picture that are read, and pictures of a run.
const MOST_BYTES: u64 = 1 << 24;
const MOST_PICTURES: usize = 64;
/// The name of every event file. TensorBoard reads any with `tfevents` in it; one of its own has the time.
const EVENTS: &str = "events.out.tfevents.0.meta";

/// Writes a folder for each run into `out`.
///
/// # Errors
/// When `out` holds something else, or a file cannot be read or written.
pub fn export(runs: &[Stored], out: &Path) -> Result<()> {
    for run in runs {
        let folder = out.join(folder_name(run));
        check(&folder)?;
        let bytes = events(run)?;
        fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, "create folder", error))?;
        write_atomically(&folder.join(EVENTS), &bytes)?;
    }
    print(&format!(
        "{} runs in {}; show them with: tensorboard --logdir {}\n",
        runs.len(),
        out.display(),
        out.display()
    ))
}

/// The name of the run, and of an evaluation after it.
fn folder_name(run: &Stored) -> PathBuf {
    PathBuf::from(run.name().replace('/', "-"))
}

/// Checks that a folder is not there, or holds nothing but an event file of this command.
fn check(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return match folder.exists() {
            true => Err(refused(folder, "is no folder")),
            false => Ok(()),
        };
    };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    match names.find(|name| name != EVENTS) {
        None => Ok(()),
        Some(name) => Err(refused(
            folder,
            &format!(
                "holds `{}`, which this command did not write",
                name.to_string_lossy()
            ),
        )),
    }
}

fn refused(folder: &Path, why: &str) -> CommandError {
    CommandError::Usage(format!(
        "{}: {why}; name another folder with --output",
        folder.display()
    ))
}

/// The event file of a run.
fn events(run: &Stored) -> Result<Vec<u8>> {
    let clock = Clock::of(&run.folder)?;
    let mut file = EventFile::new(clock.started);
    if run.evaluation.is_none() {
        let curves = Curves::read(&run.folder)?;
        // Steps of a tag rise, and those of the file do, too.
        let mut lines: Vec<(&str, &Logged)> = curves
            .train
            .iter()
            .map(|logged| ("train", logged))
            .chain(
                curves
                    .validation
                    .iter()
                    .map(|logged| ("validation", logged)),
            )
            .collect();
        lines.sort_by_key(|(_, logged)| logged.iteration);
        let manifest = read_text(&run.folder.join(MANIFEST), MOST_BYTES)?;
        file.add(clock.started, 0, events::text("manifest", &manifest));
        for (kind, logged) in lines {
            let mut scalar = |name: &str, value: f64| {
                let tag = format!("{kind}/{name}");
                let seconds = clock.at(logged.iteration);
                file.add(seconds, logged.iteration, scalar_value(&tag, value));
            };
            if logged.score.is_finite() {
                scalar("score", logged.score);
            }
            for (name, value) in &logged.numbers {
                scalar(name, *value);
            }
        }
    }
    if let Some(result) = &run.result {
        events::test(&mut file, |iteration| clock.at(iteration), result);
        events::hyper_parameters(&mut file, clock.started, &run.settings);
        events::end(&mut file, clock.at(result.iterations));
        pictures(&mut file, &clock, run, result)?;
    }
    Ok(file.bytes)
}

/// The pictures that `meta explain` left in the run folder.
fn pictures(file: &mut EventFile, clock: &Clock, run: &Stored, result: &TestResult) -> Result<()> {
    if run.evaluation.is_some() {
        return Ok(());
    }
    let entries = fs::read_dir(run.folder.join(EXPLAIN))
        .into_iter()
        .flatten()
        .flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "png"))
        .collect();
    paths.sort();
    for path in paths.into_iter().take(MOST_PICTURES) {
        let bytes = read_regular(&path, MOST_BYTES)?;
        let side = |from: usize| {
            let bytes = bytes.get(from..from + 4)?;
            Some(u64::from(u32::from_be_bytes(bytes.try_into().ok()?)))
        };
        // From the header of a PNG file.
        let (Some(width), Some(height)) = (side(16), side(20)) else {
            continue;
        };
        let image = Message::default()
            .number(1, height)
            .number(2, width)
            .number(3, 4)
            .bytes(4, &bytes);
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let value = Message::default()
            .text(1, &format!("explain/{name}"))
            .message(4, image);
        file.add(clock.at(result.iterations), result.best_iteration, value);
    }
    Ok(())
}

/// When iterations were done.
struct Clock {
    /// Seconds since 1970 at which the run began.
    started: f64,
    /// Iterations and seconds of training, in order.
    known: Vec<(u64, f64)>,
}

impl Clock {
    /// Of the run in `folder`: its record is written when it begins, its timing says how long it took.
    fn of(folder: &Path) -> Result<Self> {
        let record = folder.join(RECORD);
        let written = fs::metadata(&record).and_then(|metadata| metadata.modified());
        let written = written.map_err(|error| Error::io(&record, "read", error))?;
        let started = written
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        let timing = read_regular(&folder.join(TIMING), MOST_BYTES).unwrap_or_default();
        let timing = String::from_utf8_lossy(&timing);
        let lines = timing.lines().filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some((line["iteration"].as_u64()?, line["train_seconds"].as_f64()?))
        });
        Ok(Clock {
            started,
            known: lines.collect(),
        })
    }

    /// Seconds since 1970 at an iteration, between those that are known by their share.
    fn at(&self, iteration: u64) -> f64 {
        let mut before = (0, 0.0);
        for &(known, seconds) in &self.known {
            if known >= iteration {
                let share = (iteration - before.0) as f64 / (known - before.0).max(1) as f64;
                return self.started + before.1 + share * (seconds - before.1);
            }
            before = (known, seconds);
        }
        self.started + before.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_runs_between_what_is_known() {
        let clock = Clock {
            started: 100.0,
            known: vec![(10, 5.0), (20, 25.0)],
        };
        let at = [0, 5, 10, 15, 20, 30].map(|iteration| clock.at(iteration));
        assert_eq!(at, [100.0, 102.5, 105.0, 115.0, 125.0, 125.0]);
    }
}
