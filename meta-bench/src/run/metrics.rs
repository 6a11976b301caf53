//! Writes the files of a run while it trains: metrics, timing, checkpoints.

use std::{
    cell::Cell,
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use meta_core::{
    Error,
    files::write_atomically,
    params::Params,
    primitives::Primitives,
    train::checkpoint_file::{self, Checkpoint, prefixed},
    train::{Best, IterationRecord, Observer, Part, TrainSettings, TrainState, ValidationRecord},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    checksums::{Checksums, Extra, metrics},
    events::Events,
    folder::{self, RunFolder},
    interrupt, memory_limit,
    result::TestResult,
    spent::Beside,
};
use crate::{manifest::Manifest, output::progress::Progress};

type Result<T> = std::result::Result<T, Error>;

/// The checkpoint before the first iteration.
pub fn first_checkpoint<B: Primitives>(
    hash: &str,
    parameters: &Params<B>,
    settings: &TrainSettings,
) -> Checkpoint {
    let extra = Extra::first(hash).to_value();
    TrainState::<B>::new().to_checkpoint(parameters, settings, extra)
}

/// The best parameters as a file of their own.
pub fn best_checkpoint<B: Primitives>(hash: &str, best: &Best<B>) -> Checkpoint {
    Checkpoint {
        record: json!({ "hash": hash, "iteration": best.iteration, "value": best.value }),
        tensors: prefixed("parameters", best.parameters.to_data()).collect(),
    }
}

/// A line of `metrics.jsonl`.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum MetricsLine<'a> {
    Train(&'a IterationRecord),
    Validation(&'a ValidationRecord),
}

/// A line of `timing.jsonl`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct TimingLine {
    /// Iterations done.
    pub iteration: u64,
    /// Seconds of training so far, those of earlier sessions that led here included.
    pub train_seconds: f64,
    /// What of them was not the learner's.
    #[serde(default)]
    pub beside: Beside,
}

/// An append-only file.
struct Lines {
    path: std::path::PathBuf,
    file: File,
    bytes: u64,
    hasher: blake3::Hasher,
}

impl Lines {
    /// Opens `path` and cuts it to `kept`, with which it begins.
    fn open(path: &Path, kept: &[u8]) -> Result<Self> {
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| Error::io(path, "open", error))?;
        file.set_len(kept.len() as u64)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(|error| Error::io(path, "write", error))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(kept);
        Ok(Lines {
            path: path.to_owned(),
            file,
            bytes: kept.len() as u64,
            hasher,
        })
    }

    fn push(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(line).expect("a record serialises");
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(|error| Error::io(&self.path, "write", error))?;
        self.bytes += text.len() as u64;
        self.hasher.update(text.as_bytes());
        Ok(())
    }

    /// Hash of the content.
    fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|error| Error::io(&self.path, "write", error))
    }
}

/// Time between two looks whether a file asks the run to end.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where a run goes on.
pub struct Restored {
    /// What its checkpoint says of its files.
    pub extra: Extra,
    /// Checksums of its files.
    pub checksums: Checksums,
    /// Iterations done.
    pub iteration: u64,
}

/// Writes the files of a training run and shows its progress.
pub struct RunWriter<'a> {
    folder: &'a RunFolder,
    hash: String,
    checksums: Checksums,
    settings: TrainSettings,
    metrics: Lines,
    timing: Lines,
    /// Event files, where they are asked for.
    events: Option<Events>,
    /// Shown to the user.
    pub progress: Progress,
    stop: &'static AtomicBool,
    /// When it was looked whether a file asks the run to end.
    looked: Cell<Instant>,
    /// The iteration after which this session ends, whatever is left.
    until: u64,
    /// Iterations done.
    done: u64,
    started: Instant,
    seconds_before: f64,
    beside: Beside,
    best_written: Option<u64>,
    /// The iteration of the last checkpoint.
    pub saved: u64,
}

impl<'a> RunWriter<'a> {
    /// Continues the files of `folder` from where they were `restored`, as `manifest` says.
    ///
    /// # Errors
    /// When they cannot be opened, or are not as they were then.
    pub fn open(
        folder: &'a RunFolder,
        restored: Restored,
        manifest: &Manifest,
        progress: Progress,
        stop: &'static AtomicBool,
        until: u64,
    ) -> Result<Self> {
        let Restored {
            extra,
            checksums,
            iteration,
        } = restored;
        let kept = metrics(folder.path(), &extra)?;
        let timing_path = folder.file(folder::TIMING);
        let (timing, before) = timing_until(&timing_path, iteration)?;
        let events = match manifest.tracking.tensorboard {
            true => Some(Events::open(folder.path(), iteration, manifest)?),
            false => None,
        };
        Ok(RunWriter {
            folder,
            hash: extra.hash,
            checksums,
            settings: manifest.train.clone(),
            metrics: Lines::open(&folder.file(folder::METRICS), &kept)?,
            timing: Lines::open(&timing_path, &timing)?,
            events,
            progress,
            stop,
            looked: Cell::new(Instant::now()),
            until,
            done: iteration,
            started: Instant::now(),
            seconds_before: before.train_seconds,
            beside: before.beside,
            best_written: None,
            saved: iteration,
        })
    }

    /// Checksums of the files as they were written.
    pub fn checksums(&self) -> Checksums {
        let mut checksums = self.checksums.clone();
        checksums.add_hash(folder::METRICS, self.metrics.hash());
        checksums
    }

    /// Writes a checkpoint into the file called `name`.
    fn write(&mut self, name: &str, checkpoint: &Checkpoint) -> Result<()> {
        let path = self.folder.file(name);
        let bytes = checkpoint_file::encode(&path, checkpoint)?;
        write_atomically(&path, &bytes)?;
        self.checksums.add(name, &bytes);
        Ok(())
    }

    /// Seconds of training so far, without what was lost to kills.
    pub fn train_seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    /// What of them was not the learner's.
    pub fn beside(&self) -> Beside {
        self.beside
    }

    /// Writes the best parameters to their own file, unless it holds them already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_best<B: Primitives>(&mut self, state: &TrainState<B>) -> Result<()> {
        if let Some(best) = &state.best
            && self.best_written != Some(best.iteration)
        {
            self.write(folder::BEST, &best_checkpoint(&self.hash, best))?;
            self.best_written = Some(best.iteration);
        }
        Ok(())
    }

    /// Writes the best parameters, whatever their file holds: calibration changes them after the last
    /// iteration.
    ///
    /// # Errors
    /// As [`RunWriter::write_best`].
    pub fn rewrite_best<B: Primitives>(&mut self, state: &TrainState<B>) -> Result<()> {
        self.best_written = None;
        self.write_best(state)
    }

    /// The run has its result.
    ///
    /// # Errors
    /// When its event file cannot be written.
    pub fn tested(&mut self, result: &TestResult) -> Result<()> {
        match &mut self.events {
            Some(events) => events.test(result),
            None => Ok(()),
        }
    }

    fn time(&mut self, iteration: u64) -> Result<()> {
        let train_seconds = self.train_seconds();
        self.timing.push(&TimingLine {
            iteration,
            train_seconds,
            beside: self.beside,
        })
    }
}

/// The timing lines up to `iteration`, and the last of them. A line that cannot be read, such as the
/// torn one that a kill leaves, ends the file.
fn timing_until(path: &Path, iteration: u64) -> Result<(Vec<u8>, TimingLine)> {
    let mut last = TimingLine::default();
    let mut content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((Vec::new(), last));
        }
        Err(error) => return Err(Error::io(path, "read", error)),
    };
    let mut bytes = 0;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        match serde_json::from_slice::<TimingLine>(line) {
            Ok(timing) if line.ends_with(b"\n") && timing.iteration <= iteration => {
                last = timing;
                bytes += line.len();
            }
            _ => break,
        }
    }
    content.truncate(bytes);
    Ok((content, last))
}

impl<B: Primitives> Observer<B> for RunWriter<'_> {
    fn spent(&mut self, part: Part, time: Duration) {
        let seconds = match part {
            Part::Episodes => &mut self.beside.episodes,
            Part::Validation => &mut self.beside.validation,
        };
        *seconds += time.as_secs_f64();
    }

    fn tick(&mut self, iteration: u64) {
        self.done = iteration;
        self.progress.tick(iteration);
    }

    fn iteration(&mut self, record: &IterationRecord) -> Result<()> {
        let begun = Instant::now();
        tracing::debug!(
            iteration = record.iteration,
            loss = record.loss,
            gradient_norm = record.gradient_norm,
            "iteration"
        );
        self.progress.iteration(record);
        self.metrics.push(&MetricsLine::Train(record))?;
        if let Some(events) = &mut self.events {
            events.iteration(record)?;
        }
        self.beside.saving += begun.elapsed().as_secs_f64();
        self.time(record.iteration)
    }

    fn validation(&mut self, record: &ValidationRecord) -> Result<()> {
        tracing::info!(
            iteration = record.iteration,
            score = %record.score,
            best = record.best,
            "validation"
        );
        self.progress.validation(record);
        self.metrics.push(&MetricsLine::Validation(record))?;
        match &mut self.events {
            Some(events) => events.validation(record),
            None => Ok(()),
        }
    }

    fn checkpoint(&mut self, parameters: &Params<B>, state: &TrainState<B>) -> Result<()> {
        let begun = Instant::now();
        // The metrics first: the checkpoint names a length that is on the disk.
        self.metrics.sync()?;
        let extra = Extra {
            hash: self.hash.clone(),
            metrics_bytes: self.metrics.bytes,
            metrics_hash: Some(self.metrics.hash()),
        };
        let checkpoint = state.to_checkpoint(parameters, &self.settings, extra.to_value());
        self.write(folder::CHECKPOINT, &checkpoint)?;
        self.saved = state.iteration;
        self.write_best(state)?;
        self.beside.saving += begun.elapsed().as_secs_f64();
        self.time(state.iteration)?;
        tracing::info!(iteration = state.iteration, path = %self.folder.path().display(), "checkpoint");
        Ok(())
    }

    fn should_stop(&self) -> bool {
        if self.looked.get().elapsed() >= LOOK_EVERY {
            self.looked.set(Instant::now());
            if interrupt::is_asked(self.folder.path()) {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
        // Asked before the iteration is counted.
        self.stop.load(Ordering::Relaxed)
            || memory_limit::is_exceeded()
            || self.done + 1 >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timing_is_cut_where_the_checkpoint_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("timing.jsonl");
        let until = |iteration| {
            let (kept, last) = timing_until(&path, iteration).unwrap();
            (kept, last.train_seconds)
        };
        assert_eq!(until(10), (Vec::new(), 0.0));
        let first = "{\"iteration\":10,\"train_seconds\":1.5}\n";
        let second = "{\"iteration\":20,\"train_seconds\":3.0}\n";
        for torn in [&b"{\"iter"[..], b"\xff{\"iteration\":20}\n"] {
            let mut content = format!("{first}{second}").into_bytes();
            content.extend_from_slice(torn);
            fs::write(&path, content).unwrap();
            assert_eq!(until(10), (first.into(), 1.5));
            let both = format!("{first}{second}").into_bytes();
            assert_eq!(until(20), (both, 3.0));
        }
    }

    #[test]
    fn metrics_are_cut_and_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "one\ntwo\nthr").unwrap();
        let mut lines = Lines::open(&path, b"one\n").unwrap();
        lines.push(&2).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n2\n");
        assert_eq!(lines.hash(), blake3::hash(b"one\n2\n").to_hex().as_str());
    }
}
