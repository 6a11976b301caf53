//! Writes the files of a run while it trains: metrics, timing, checkpoints.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use meta_core::{
    Error,
    params::Params,
    primitives::Primitives,
    train::checkpoint_file::{self, Checkpoint, prefixed},
    train::{Best, IterationRecord, Observer, TrainSettings, TrainState, ValidationRecord},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    folder::{self, RunFolder},
    memory_limit,
};
use crate::output::progress::Progress;

type Result<T> = std::result::Result<T, Error>;

/// What a run's checkpoint holds besides the state of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Extra {
    /// Identity of the run.
    pub hash: String,
    /// Length of `metrics.jsonl` at this moment: a resumed run cuts the file here.
    pub metrics_bytes: u64,
}

impl Extra {
    fn to_value(&self) -> Value {
        json!({ "hash": self.hash, "metrics_bytes": self.metrics_bytes })
    }
}

/// The checkpoint before the first iteration.
pub fn first_checkpoint<B: Primitives>(
    hash: &str,
    parameters: &Params<B>,
    settings: &TrainSettings,
) -> Checkpoint {
    let extra = Extra {
        hash: hash.to_owned(),
        metrics_bytes: 0,
    };
    TrainState::<B>::new().to_checkpoint(parameters, settings, extra.to_value())
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
#[derive(Debug, Serialize, Deserialize)]
struct TimingLine {
    /// Iterations done.
    iteration: u64,
    /// Seconds of training so far, those of earlier sessions that led here included.
    train_seconds: f64,
}

/// An append-only file.
struct Lines {
    path: std::path::PathBuf,
    file: File,
    bytes: u64,
}

impl Lines {
    /// Opens `path` and cuts it to `bytes`.
    fn open(path: &Path, bytes: u64) -> Result<Self> {
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| Error::io(path, "open", error))?;
        let length = file
            .metadata()
            .map_err(|error| Error::io(path, "read", error))?
            .len();
        if length < bytes {
            return Err(Error::data(
                path,
                format!("has {length} bytes, but the checkpoint was written after {bytes}"),
            ));
        }
        file.set_len(bytes)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(|error| Error::io(path, "write", error))?;
        Ok(Lines {
            path: path.to_owned(),
            file,
            bytes,
        })
    }

    fn push(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(line).expect("a record serialises");
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(|error| Error::io(&self.path, "write", error))?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|error| Error::io(&self.path, "write", error))
    }
}

/// Writes the files of a training run and shows its progress.
pub struct RunWriter<'a> {
    folder: &'a RunFolder,
    hash: String,
    settings: TrainSettings,
    metrics: Lines,
    timing: Lines,
    /// Shown to the user.
    pub progress: Progress,
    stop: &'static AtomicBool,
    /// The iteration after which this session ends, whatever is left.
    until: u64,
    /// Iterations done.
    done: u64,
    started: Instant,
    seconds_before: f64,
    best_written: Option<u64>,
    /// The iteration of the last checkpoint.
    pub saved: u64,
}

impl<'a> RunWriter<'a> {
    /// Continues the files of `folder` from `iteration` on, where `extra` was saved.
    ///
    /// # Errors
    /// When they cannot be opened, or are shorter than they were then.
    pub fn open(
        folder: &'a RunFolder,
        extra: &Extra,
        iteration: u64,
        settings: &TrainSettings,
        progress: Progress,
        stop: &'static AtomicBool,
        until: u64,
    ) -> Result<Self> {
        let timing_path = folder.file(folder::TIMING);
        let (timing_bytes, seconds_before) = timing_until(&timing_path, iteration)?;
        Ok(RunWriter {
            folder,
            hash: extra.hash.clone(),
            settings: settings.clone(),
            metrics: Lines::open(&folder.file(folder::METRICS), extra.metrics_bytes)?,
            timing: Lines::open(&timing_path, timing_bytes)?,
            progress,
            stop,
            until,
            done: iteration,
            started: Instant::now(),
            seconds_before,
            best_written: None,
            saved: iteration,
        })
    }

    /// Seconds of training so far, without what was lost to kills.
    pub fn train_seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    /// Writes the best parameters to their own file, unless it holds them already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_best<B: Primitives>(&mut self, state: &TrainState<B>) -> Result<()> {
        if let Some(best) = &state.best
            && self.best_written != Some(best.iteration)
        {
            let checkpoint = best_checkpoint(&self.hash, best);
            checkpoint_file::write(&self.folder.file(folder::BEST), &checkpoint)?;
            self.best_written = Some(best.iteration);
        }
        Ok(())
    }

    fn time(&mut self, iteration: u64) -> Result<()> {
        let train_seconds = self.train_seconds();
        self.timing.push(&TimingLine {
            iteration,
            train_seconds,
        })
    }
}

/// Bytes of the timing lines up to `iteration`, and the seconds they report. A torn last line, which
/// a kill leaves, ends the file.
fn timing_until(path: &Path, iteration: u64) -> Result<(u64, f64)> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((0, 0.0)),
        Err(error) => return Err(Error::io(path, "read", error)),
    };
    let mut bytes = 0;
    let mut seconds = 0.0;
    for line in text.split_inclusive('\n') {
        match serde_json::from_str::<TimingLine>(line) {
            Ok(timing) if line.ends_with('\n') && timing.iteration <= iteration => {
                seconds = timing.train_seconds;
                bytes += line.len() as u64;
            }
            _ => break,
        }
    }
    Ok((bytes, seconds))
}

impl<B: Primitives> Observer<B> for RunWriter<'_> {
    fn tick(&mut self, iteration: u64) {
        self.done = iteration;
        self.progress.tick(iteration);
    }

    fn iteration(&mut self, record: &IterationRecord) -> Result<()> {
        tracing::debug!(
            iteration = record.iteration,
            loss = record.loss,
            gradient_norm = record.gradient_norm,
            "iteration"
        );
        self.progress.iteration(record);
        self.metrics.push(&MetricsLine::Train(record))?;
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
        self.metrics.push(&MetricsLine::Validation(record))
    }

    fn checkpoint(&mut self, parameters: &Params<B>, state: &TrainState<B>) -> Result<()> {
        // The metrics first: the checkpoint names a length that is on the disk.
        self.metrics.sync()?;
        let extra = Extra {
            hash: self.hash.clone(),
            metrics_bytes: self.metrics.bytes,
        };
        let path = self.folder.file(folder::CHECKPOINT);
        let checkpoint = state.to_checkpoint(parameters, &self.settings, extra.to_value());
        checkpoint_file::write(&path, &checkpoint)?;
        self.saved = state.iteration;
        self.time(state.iteration)?;
        self.write_best(state)?;
        tracing::info!(iteration = state.iteration, path = %path.display(), "checkpoint");
        Ok(())
    }

    fn should_stop(&self) -> bool {
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
        assert_eq!(timing_until(&path, 10).unwrap(), (0, 0.0));
        let first = "{\"iteration\":10,\"train_seconds\":1.5}\n";
        let second = "{\"iteration\":20,\"train_seconds\":3.0}\n";
        fs::write(&path, format!("{first}{second}{{\"iter")).unwrap();
        assert_eq!(timing_until(&path, 10).unwrap(), (first.len() as u64, 1.5));
        let both = (first.len() + second.len()) as u64;
        assert_eq!(timing_until(&path, 20).unwrap(), (both, 3.0));
    }

    #[test]
    fn metrics_are_cut_and_never_padded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "one\ntwo\nthr").unwrap();
        let mut lines = Lines::open(&path, 4).unwrap();
        lines.push(&2).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n2\n");
        assert!(Lines::open(&path, 99).is_err());
    }
}
