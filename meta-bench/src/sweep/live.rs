//! Shows a sweep on a terminal while it runs: a line for each running run, and one for all of them.

use std::{
    collections::HashMap,
    io::IsTerminal,
    path::PathBuf,
    time::{Duration, Instant},
};

use console::Term;

use super::task::{Outcome, Task};
use crate::{
    output::{
        status_line::StatusLines,
        text::visible,
        units::{duration_text, score_text},
    },
    run::follow::Follower,
};

/// Time between two pictures.
const DRAW_EVERY: Duration = Duration::from_secs(1);
/// Bytes that are read of the runs' files for a picture.
const BUDGET: usize = 1 << 20;
/// Columns of what tells a run from the others.
const TITLE: usize = 36;

/// The lines of a sweep, where stderr is a terminal; in a file or a pipe, only what is said.
pub struct Live {
    lines: Option<StatusLines<Term>>,
    quiet: bool,
    /// Runs of the sweep, and how many run side by side.
    all: usize,
    jobs: usize,
    started: Instant,
    drawn: Option<Instant>,
    followed: HashMap<PathBuf, Follower>,
    failed: usize,
    /// Seconds of runs that finished, and how many they are.
    finished: (f64, usize),
}

impl Live {
    /// Of a sweep of `all` runs, `jobs` side by side.
    pub fn new(quiet: bool, all: usize, jobs: usize) -> Self {
        let terminal = !quiet && std::io::stderr().is_terminal();
        Live {
            lines: terminal.then(|| StatusLines::new(Term::buffered_stderr())),
            quiet,
            all,
            jobs,
            started: Instant::now(),
            drawn: None,
            followed: HashMap::new(),
            failed: 0,
            finished: (0.0, 0),
        }
    }

    /// A sentence above the lines.
    pub fn say(&mut self, text: &str) {
        self.clear();
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// A run ended after so many seconds.
    pub fn ended(&mut self, outcome: &Outcome, seconds: f64) {
        match outcome {
            Outcome::Finished => self.finished = (self.finished.0 + seconds, self.finished.1 + 1),
            Outcome::Failed(_) => self.failed += 1,
            Outcome::Paused | Outcome::Stopped => {}
        }
    }

    /// Draws the runs that are `running` since their moments, and how many are `done`, once a second.
    pub fn draw<'a>(&mut self, running: impl Iterator<Item = (&'a Task, Instant)>, done: usize) {
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW_EVERY);
        if self.lines.is_none() || !due {
            return;
        }
        let mut budget = BUDGET;
        let mut before = std::mem::take(&mut self.followed);
        let mut lines = Vec::new();
        let mut left = Vec::new();
        let mut lasting = Vec::new();
        for (task, started) in running {
            let folder = &task.folder;
            let mut run = match before.remove(folder) {
                Some(run) => run,
                None => Follower::new(folder.clone()),
            };
            run.look(&mut budget);
            lines.push(line(task, &run));
            if let Some(seconds) = run.left() {
                left.push(seconds);
                lasting.push(seconds + started.elapsed().as_secs_f64());
            }
            self.followed.insert(folder.clone(), run);
        }
        let counts = Counts {
            all: self.all,
            done,
            running: lines.len(),
            failed: self.failed,
        };
        let elapsed = self.started.elapsed().as_secs_f64();
        let left = self.left(&counts, &left, &lasting);
        lines.push(last_line(counts, elapsed, left));
        if let Some(drawn) = &mut self.lines {
            // The last one is always in view.
            let surplus = lines
                .len()
                .saturating_sub(drawn.height().saturating_sub(1).max(1));
            lines.drain(..surplus);
            // A terminal that has gone ends nothing.
            let _ = drawn.draw(&lines);
        }
        self.drawn = Some(Instant::now());
    }

    /// Seconds until all are done: what is left of the running ones, and for each of the others the mean of
    /// those that are known, shared by all workers.
    fn left(&self, counts: &Counts, left: &[f64], lasting: &[f64]) -> Option<f64> {
        let known = self.finished.1 + lasting.len();
        if known == 0 || left.len() < counts.running {
            return None;
        }
        let mean = (self.finished.0 + lasting.iter().sum::<f64>()) / known as f64;
        let waiting = counts.all.saturating_sub(counts.done + counts.running) as f64;
        let work = left.iter().sum::<f64>() + waiting * mean;
        let longest = left.iter().copied().fold(0.0, f64::max);
        Some((work / self.jobs.max(1) as f64).max(longest))
    }

    fn clear(&mut self) {
        if let Some(lines) = &mut self.lines {
            let _ = lines.clear();
        }
        self.drawn = None;
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How many runs are in which state.
struct Counts {
    all: usize,
    done: usize,
    running: usize,
    failed: usize,
}

/// A running run in a line.
fn line(task: &Task, run: &Follower) -> String {
    let title: String = match task.title.chars().count() > TITLE {
        true => task.title.chars().take(TITLE - 1).chain(['…']).collect(),
        false => task.title.clone(),
    };
    let mut parts = vec![format!("{} {}", task.short, visible(&title))];
    let (done, all) = (run.iteration(), task.until.unwrap_or(run.iterations()));
    parts.push(match all {
        0 => "starting".to_owned(),
        all if done >= all => "testing".to_owned(),
        all => format!("{:.0} %", (100.0 * done as f64 / all as f64).floor()),
    });
    if let Some((_, best)) = run.best() {
        parts.push(format!("best {}", score_text(best.metric, best.interval)));
    } else if let Some(loss) = run.loss() {
        parts.push(format!("loss {loss:.4}"));
    }
    if let Some(left) = run.left() {
        parts.push(format!("{} left", duration_text(left)));
    }
    parts.join(" · ")
}

/// The sweep in a line.
fn last_line(counts: Counts, elapsed: f64, left: Option<f64>) -> String {
    let Counts {
        all,
        done,
        running,
        failed,
    } = counts;
    let mut parts = vec![format!("[{done}/{all}] {running} running")];
    if failed > 0 {
        parts.push(format!("{failed} failed"));
    }
    parts.push(duration_text(elapsed));
    if let Some(left) = left {
        parts.push(format!("about {} left", duration_text(left)));
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(jobs: usize, finished: (f64, usize)) -> Live {
        let mut live = Live::new(true, 10, jobs);
        live.finished = finished;
        live
    }

    #[test]
    fn time_left_is_shared_by_the_workers() {
        let counts = |running, done| Counts {
            all: 10,
            done,
            running,
            failed: 0,
        };
        // 2 run, 6 wait, 2 are done; each takes 100 s.
        let live = live(2, (200.0, 2));
        let left = live.left(&counts(2, 2), &[40.0, 60.0], &[100.0, 100.0]);
        assert_eq!(left, Some((100.0 + 600.0) / 2.0));
        // The last one alone.
        assert_eq!(live.left(&counts(1, 9), &[50.0], &[100.0]), Some(50.0));
        assert_eq!(live.left(&counts(2, 2), &[40.0], &[100.0]), None);
        assert_eq!(
            last_line(counts(2, 3), 61.0, None),
            "[3/10] 2 running · 1 min 1 s"
        );
    }

    #[test]
    fn a_run_is_a_line() {
        let task = Task {
            index: 0,
            short: "0123456789ab".to_owned(),
            folder: PathBuf::from("absent"),
            title: "learner.name=maml train.lr=0.0001 seed=3\u{1b}".to_owned(),
            threads: 1,
            memory: None,
            until: None,
        };
        let run = Follower::new(task.folder.clone());
        let text = line(&task, &run);
        assert_eq!(
            text,
            "0123456789ab learner.name=maml train.lr=0.0001 s… · starting"
        );
    }
}
