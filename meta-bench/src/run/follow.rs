//! Follows a run from its folder: what is new in its files, and nothing twice.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use meta_core::{
    files::read_text,
    stats::{Interval, IntervalMethod},
    train::eval::Metric,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    curve::Curve,
    folder::{METRICS, RECORD, RESULT, TIMING, is_busy},
    interrupt,
    metrics::TimingLine,
    state::State,
    tail::{Found, Tail},
};
use crate::output::pace::{Pace, Work};

/// The largest record and result.
const MOST_BYTES: u64 = 1 << 26;
/// A change as young as this may be followed by another one at the same time of the file system.
const YOUNG: Duration = Duration::from_secs(2);

/// What does not change of a run, from its record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Its work.
    pub work: Work,
    /// Learner, encoder and source.
    pub what: String,
    /// Its training and its validation tasks: with their shapes where these differ.
    pub tasks: (String, String),
}

impl Facts {
    fn of(record: &Value) -> Self {
        let manifest = &record["manifest"];
        let text = |value: &Value| value.as_str().unwrap_or("–").to_owned();
        let number = |section: &str, key: &str| manifest[section][key].as_u64().unwrap_or(0);
        let or = |own: u64, other: u64| if own == 0 { other } else { own };
        let (way, shot) = (number("data", "way"), number("data", "shot"));
        let train = (
            or(number("data", "train_way"), way),
            or(number("data", "train_shot"), shot),
        );
        let tasks = match train == (way, shot) {
            true => ("training".to_owned(), "validation".to_owned()),
            false => (
                format!("training {}-way {}-shot", train.0, train.1),
                format!("validation {way}-way {shot}-shot"),
            ),
        };
        let episodes = number("train", "validation_episodes");
        Facts {
            work: Work {
                iterations: number("train", "iterations"),
                validate_every: number("train", "validate_every"),
                tests: number("test", "episodes") as f64 / episodes.max(1) as f64,
            },
            what: [
                &manifest["learner"]["name"],
                &manifest["encoder"]["name"],
                &manifest["data"]["source"],
            ]
            .map(text)
            .join(", "),
            tasks,
        }
    }
}

/// A score that a run has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// What it is.
    pub metric: Metric,
    /// Its mean and interval.
    pub interval: Interval,
}

/// Curves of a number over training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curves {
    /// Of meta-batches.
    pub train: Curve,
    /// Of validations.
    pub validation: Curve,
}

/// What is known of a run by its metrics.
#[derive(Clone, Debug, Default)]
struct Logged {
    iteration: u64,
    score: Curves,
    loss: Curves,
    metric: Option<Metric>,
    best: Option<(u64, Score)>,
    last_loss: Option<f64>,
}

/// A line of `metrics.jsonl`, as far as it is shown.
#[derive(Deserialize)]
struct Line {
    kind: String,
    iteration: u64,
    #[serde(default)]
    metric: Option<Metric>,
    score: Mean,
    loss: Value,
    #[serde(default)]
    best: bool,
}

/// An interval, as far as it is shown.
#[derive(Deserialize)]
struct Mean {
    mean: Option<f64>,
    half_width: Option<f64>,
    n: Option<usize>,
}

impl Mean {
    fn interval(&self) -> Interval {
        Interval {
            mean: self.mean.unwrap_or(f64::NAN),
            half_width: self.half_width.unwrap_or(f64::INFINITY),
            level: 0.95,
            method: IntervalMethod::StudentT,
            n: self.n.unwrap_or(0),
        }
    }
}

impl Logged {
    fn take(&mut self, line: &[u8]) {
        // A line that cannot be read is a torn one, or damage, which `meta runs verify` names.
        let Ok(line) = serde_json::from_slice::<Line>(line) else {
            return;
        };
        let x = line.iteration as f64;
        let interval = line.score.interval();
        let loss = line.loss.as_f64().or_else(|| line.loss["mean"].as_f64());
        let loss = loss.unwrap_or(f64::NAN);
        if line.kind == "train" {
            self.iteration = self.iteration.max(line.iteration);
            self.score.train.push(x, interval.mean);
            self.loss.train.push(x, loss);
            self.last_loss = Some(loss);
        } else {
            self.score.validation.push(x, interval.mean);
            self.loss.validation.push(x, loss);
            self.metric = line.metric.or(self.metric);
            if line.best {
                let metric = self.metric.unwrap_or(Metric::Accuracy);
                self.best = Some((line.iteration, Score { metric, interval }));
            }
        }
    }
}

/// What is known of a run by its timing.
#[derive(Clone, Debug, Default)]
struct Timed {
    iteration: u64,
    pace: Pace,
}

/// A run that is followed.
#[derive(Clone, Debug)]
pub struct Follower {
    /// Its folder.
    pub folder: PathBuf,
    /// How far it is.
    pub state: State,
    /// Whether it was asked to stop and has not yet.
    pub stopping: bool,
    /// What does not change.
    pub facts: Option<Facts>,
    /// Its test, where it is finished.
    pub test: Option<Score>,
    /// When the folder was changed, when its state was read.
    changed: Option<SystemTime>,
    metrics: Tail,
    timing: Tail,
    logged: Logged,
    timed: Timed,
    /// When the timing was written last.
    written: Option<SystemTime>,
}

impl Follower {
    /// A run in `folder`, of which nothing is read yet.
    pub fn new(folder: PathBuf) -> Self {
        Follower {
            metrics: Tail::new(folder.join(METRICS)),
            timing: Tail::new(folder.join(TIMING)),
            folder,
            state: State::New,
            stopping: false,
            facts: None,
            test: None,
            changed: None,
            logged: Logged::default(),
            timed: Timed::default(),
            written: None,
        }
    }

    /// Reads what is new, at most `budget` bytes of it, which become less; whether there was something.
    pub fn look(&mut self, budget: &mut usize) -> bool {
        let mut changed = self.look_at_state();
        if self.facts.is_none() && !matches!(self.state, State::New | State::Foreign(_)) {
            self.facts = read_json(&self.folder.join(RECORD)).map(|record| Facts::of(&record));
        }
        let work = self
            .facts
            .as_ref()
            .map_or_else(Work::default, |facts| facts.work);
        let found = self.metrics.read(
            budget,
            &mut self.logged,
            |logged| *logged = Logged::default(),
            Logged::take,
        );
        changed |= !matches!(found, Ok(Found::Nothing));
        let found = self.timing.read(
            budget,
            &mut self.timed,
            |timed| *timed = Timed::default(),
            |timed, line| {
                if let Ok(line) = serde_json::from_slice::<TimingLine>(line) {
                    timed.iteration = line.iteration;
                    timed.pace.push(&work, line.iteration, line.train_seconds);
                }
            },
        );
        if !matches!(found, Ok(Found::Nothing)) {
            changed = true;
            self.written = modified(&self.folder.join(TIMING));
        }
        changed
    }

    /// Reads its state, where it may have changed.
    fn look_at_state(&mut self) -> bool {
        let modified = modified(&self.folder);
        let settled = modified.is_some_and(|time| time.elapsed().is_ok_and(|age| age > YOUNG));
        let same = settled && modified == self.changed;
        if same && self.state == State::Finished {
            return false;
        }
        let busy = is_busy(&self.folder);
        let stopping = busy && interrupt::is_asked(&self.folder);
        let was_stopping = std::mem::replace(&mut self.stopping, stopping);
        if same && busy == (self.state == State::Running) {
            return stopping != was_stopping;
        }
        self.changed = modified;
        let state = State::of(&self.folder);
        if state == self.state {
            return stopping != was_stopping;
        }
        self.state = state;
        self.test = match self.state {
            State::Finished => test(&self.folder),
            _ => None,
        };
        true
    }

    /// Iterations done, as far as its files say.
    pub fn iteration(&self) -> u64 {
        self.logged.iteration.max(self.timed.iteration)
    }

    /// Iterations of its training; 0 where that is not known.
    pub fn iterations(&self) -> u64 {
        self.facts.as_ref().map_or(0, |facts| facts.work.iterations)
    }

    /// Iterations a second.
    pub fn rate(&self) -> Option<f64> {
        self.timed.pace.rate()
    }

    /// Seconds until it is done, where a process works on it.
    pub fn left(&self) -> Option<f64> {
        if self.state != State::Running {
            return None;
        }
        let left = self
            .timed
            .pace
            .left(&self.facts.as_ref()?.work, self.timed.iteration)?;
        let since = self.written.and_then(|time| time.elapsed().ok());
        Some((left - since.unwrap_or_default().as_secs_f64()).max(0.0))
    }

    /// The best validation so far, and its iteration.
    pub fn best(&self) -> Option<(u64, Score)> {
        self.logged.best
    }

    /// The loss of the last meta-batch that was logged.
    pub fn loss(&self) -> Option<f64> {
        self.logged.last_loss
    }

    /// What its scores are, where that is known.
    pub fn metric(&self) -> Option<Metric> {
        self.logged.metric.or(self.test.map(|test| test.metric))
    }

    /// Curves of the score.
    pub fn scores(&self) -> &Curves {
        &self.logged.score
    }

    /// Curves of the loss.
    pub fn losses(&self) -> &Curves {
        &self.logged.loss
    }

    /// Since when nothing was written.
    pub fn silent(&self) -> Option<Duration> {
        self.written?.elapsed().ok()
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_str(&read_text(path, MOST_BYTES).ok()?).ok()
}

/// The score of the test of the run in `folder`.
fn test(folder: &Path) -> Option<Score> {
    let result = read_json(&folder.join(RESULT))?;
    Some(Score {
        metric: serde_json::from_value(result["metric"].clone()).ok()?,
        interval: Interval {
            mean: result["mean"].as_f64()?,
            half_width: result["ci95"].as_f64().unwrap_or(f64::INFINITY),
            level: 0.95,
            method: IntervalMethod::StudentT,
            n: result["episodes"].as_u64().unwrap_or(0) as usize,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::folder::{LOCK, RESULT};
    use super::*;
    use serde_json::json;
    use std::fs::File;

    const TRAIN: &str = "{\"kind\":\"train\",\"iteration\":10,\"loss\":1.5,\"score\":{\"mean\":0.25,\"half_width\":0.1,\
                         \"level\":0.95,\"method\":\"t\",\"n\":4},\"gradient_norm\":1,\"lr\":0.1}\n";
    const VALIDATION: &str = "{\"kind\":\"validation\",\"iteration\":10,\"metric\":\"accuracy\",\"score\":{\"mean\":0.5,\
                              \"half_width\":null,\"n\":1},\"loss\":{\"mean\":1.0},\"best\":true}\n";

    fn write(folder: &Path, name: &str, text: &str) {
        fs::write(folder.join(name), text).unwrap();
    }

    /// A run starts, is worked on, is asked to stop, resumes from an earlier iteration and finishes.
    #[test]
    fn a_run_is_followed_to_its_end() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        let mut run = Follower::new(folder.to_owned());
        let look = |run: &mut Follower| run.look(&mut { 1 << 20 });
        assert!(!look(&mut run));
        assert_eq!(run.state, State::New);
        let manifest = json!({
            "learner": {"name": "maml"}, "encoder": {"name": "conv4"},
            "data": {"source": "glyphs", "way": 5, "shot": 1, "train_way": 20},
            "train": {"iterations": 40, "validate_every": 10, "validation_episodes": 100},
            "test": {"episodes": 600},
        });
        let record = json!({"hash": "0".repeat(64), "manifest": manifest});
        write(folder, RECORD, &record.to_string());
        write(folder, METRICS, &format!("{TRAIN}{VALIDATION}{{\"kind\""));
        write(
            folder,
            TIMING,
            "{\"iteration\":5,\"train_seconds\":1}\n{\"iteration\":10,\"train_seconds\":2}\n",
        );
        assert!(look(&mut run));
        assert_eq!(
            (run.state.clone(), run.iteration()),
            (State::Unfinished, 10)
        );
        let facts = run.facts.clone().unwrap();
        assert_eq!(facts.what, "maml, conv4, glyphs");
        assert_eq!(facts.tasks.0, "training 20-way 1-shot");
        assert_eq!(facts.work.tests, 6.0);
        assert_eq!((run.rate(), run.left()), (Some(5.0), None));
        let (at, best) = run.best().unwrap();
        assert_eq!(
            (at, best.interval.mean, best.metric),
            (10, 0.5, Metric::Accuracy)
        );
        assert_eq!(run.scores().train.points(), [(10.0, 0.25)]);
        assert_eq!(run.losses().validation.points(), [(10.0, 1.0)]);

        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(folder.join(LOCK));
        let lock = lock.unwrap();
        lock.lock().unwrap();
        assert!(look(&mut run));
        assert_eq!(run.state, State::Running);
        assert!((run.left().unwrap() - 6.0).abs() < 2.0);
        interrupt::ask(folder).unwrap();
        assert!(look(&mut run) && run.stopping);

        // Cut to the checkpoint, and written again.
        write(folder, METRICS, "");
        write(folder, TIMING, "");
        interrupt::forget(folder);
        assert!(look(&mut run));
        assert_eq!(
            (run.iteration(), run.best(), run.stopping),
            (0, None, false)
        );

        drop(lock);
        let result = json!({"metric": "accuracy", "mean": 0.9, "ci95": 0.01, "episodes": 600});
        write(folder, RESULT, &result.to_string());
        assert!(look(&mut run));
        assert_eq!(run.state, State::Finished);
        assert_eq!(run.test.unwrap().interval.mean, 0.9);
    }

    #[test]
    fn damage_and_foreign_folders_end_nothing() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "thesis.txt", "x");
        let mut run = Follower::new(root.path().to_owned());
        run.look(&mut { 1 << 20 });
        assert!(matches!(run.state, State::Foreign(_)));
        write(root.path(), METRICS, "x\n{}\n\u{0}\n");
        fs::create_dir(root.path().join(TIMING)).unwrap();
        run.look(&mut { 1 << 20 });
        assert_eq!((run.iteration(), run.rate(), run.best()), (0, None, None));
    }
}
