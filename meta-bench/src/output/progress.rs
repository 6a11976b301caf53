//! Shows live progress on a terminal, and plain lines where stderr is a file or a pipe.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use meta_core::{
    stats::Interval,
    train::eval::Metric,
    train::{IterationRecord, ValidationRecord},
};

use super::{
    pace::{Pace, Work},
    status_line::StatusLine,
    units::{duration_text, score_text},
};

/// Time between two plain lines about iterations.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Time between two forecasts.
const FORECAST_EVERY: Duration = Duration::from_millis(500);

enum Output {
    Bar(ProgressBar),
    Lines { last: Option<Instant> },
    Quiet,
}

/// Progress of a training and its test.
pub struct Progress {
    output: Output,
    metric: Metric,
    work: Work,
    pace: Pace,
    /// When time left was shown.
    forecast: Option<Instant>,
    meta_batch: usize,
    /// Where this session started, and when.
    started: (u64, Instant),
    iteration: u64,
    loss: Option<f64>,
    /// The last validation, and its iteration.
    validation: Option<(u64, Interval)>,
}

impl Progress {
    /// Progress of some work, from `iteration` on.
    pub fn new(quiet: bool, metric: Metric, iteration: u64, work: Work, meta_batch: usize) -> Self {
        let output = if quiet {
            Output::Quiet
        } else if std::io::stderr().is_terminal() {
            let line = StatusLine::new(Term::buffered_stderr());
            let bar = ProgressBar::with_draw_target(
                Some(work.iterations),
                ProgressDrawTarget::term_like_with_hz(Box::new(line), 5),
            );
            bar.set_style(style("{bar:24} {pos}/{len}  {msg}  {elapsed}{prefix}"));
            bar.set_position(iteration);
            Output::Bar(bar)
        } else {
            Output::Lines { last: None }
        };
        Progress {
            output,
            metric,
            work,
            pace: Pace::default(),
            forecast: None,
            meta_batch,
            started: (iteration, Instant::now()),
            iteration,
            loss: None,
            validation: None,
        }
    }

    /// An iteration is done.
    pub fn tick(&mut self, iteration: u64) {
        self.iteration = iteration;
        let seconds = self.started.1.elapsed().as_secs_f64();
        self.pace.push(&self.work, iteration, seconds);
        let due = self
            .forecast
            .is_none_or(|shown| shown.elapsed() >= FORECAST_EVERY);
        if let Output::Bar(bar) = &self.output {
            bar.set_position(iteration);
            if due {
                bar.set_prefix(self.left());
                self.forecast = Some(Instant::now());
            }
        }
    }

    /// An iteration is logged.
    pub fn iteration(&mut self, record: &IterationRecord) {
        self.loss = Some(record.loss);
        let due = match &self.output {
            Output::Lines { last } => last.is_none_or(|last| last.elapsed() >= LINE_EVERY),
            _ => true,
        };
        if due {
            self.show();
        }
    }

    /// A validation is done.
    pub fn validation(&mut self, record: &ValidationRecord) {
        self.validation = Some((record.iteration, record.score));
        self.show();
    }

    /// A sentence of its own.
    pub fn say(&self, text: &str) {
        match &self.output {
            Output::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            Output::Lines { .. } => eprintln!("{text}"),
            Output::Quiet => {}
        }
    }

    /// Training is over; the test starts.
    pub fn start_test(&mut self, episodes: usize) {
        match &self.output {
            Output::Bar(bar) => {
                bar.reset();
                bar.set_length(episodes as u64);
                bar.set_style(style("{bar:24} {pos}/{len} test episodes, {eta} left"));
            }
            Output::Lines { .. } => eprintln!("testing on {episodes} episodes"),
            Output::Quiet => {}
        }
    }

    /// So many test episodes are done.
    pub fn test(&self, done: usize) {
        if let Output::Bar(bar) = &self.output {
            bar.set_position(done as u64);
        }
    }

    /// Nothing more to come.
    pub fn finish(&self) {
        if let Output::Bar(bar) = &self.output {
            bar.finish_and_clear();
        }
    }

    /// Time left in words, validations and the test included; nothing before it is known.
    fn left(&self) -> String {
        let left = self.pace.left(&self.work, self.iteration);
        left.map_or_else(String::new, |left| {
            format!(", {} left", duration_text(left))
        })
    }

    fn show(&mut self) {
        let done = self.iteration - self.started.0;
        let seconds = self.started.1.elapsed().as_secs_f64();
        let tasks = done as f64 * self.meta_batch as f64;
        // What is older than this line says so.
        let score = |(at, score)| {
            let text = score_text(self.metric, score);
            match at == self.iteration {
                true => format!("validation {text}"),
                false => format!("validation at {at}: {text}"),
            }
        };
        let parts = [
            self.loss.map(|loss| format!("loss {loss:.4}")),
            self.validation.map(score),
            Some(format!("{:.0} tasks/s", tasks / seconds.max(1e-9))),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let text = parts.join(" · ");
        match &mut self.output {
            Output::Bar(bar) => bar.set_message(text),
            Output::Lines { last } => {
                *last = Some(Instant::now());
                eprintln!(
                    "iteration {}/{} · {text}{}",
                    self.iteration,
                    self.work.iterations,
                    self.left().replacen(", ", " · ", 1)
                );
            }
            Output::Quiet => {}
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
