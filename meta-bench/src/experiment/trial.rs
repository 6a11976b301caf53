//! Measures what a run will take, by a trial: a few iterations and a chunk of the test.
//!
//! `meta check` starts it as a subprocess, so that its peak memory is its own.

use std::time::Instant;

use clap::Args;
use meta_core::{
    backend::{WithBackend, dispatch},
    learner::PredictAt,
    parallel::TaskChunks,
    primitives::Primitives,
    toolkit::Toolkit,
    train::{
        Observer, TrainSettings, TrainState,
        eval::{FrozenEpisodes, evaluate},
    },
};
use serde::{Deserialize, Serialize};

use super::{
    Experiment,
    subprocess::{self, SubprocessError},
};
use crate::{
    command::Execute,
    failure::{CommandError, Result},
    machine::peak_bytes,
    manifest::args::ManifestArgs,
    output::{
        print,
        units::{bytes_text, duration_text},
    },
};

/// Take a few iterations and a chunk of the test, for `meta check`.
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct TrialArgs {
    /// The manifest.
    #[command(flatten)]
    manifest: ManifestArgs,
}

impl Execute for TrialArgs {
    /// Makes the trial in this process, and prints what it found as JSON.
    ///
    /// # Errors
    /// Whatever is wrong with the manifest or its data, or stops training.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let experiment = Experiment::<T>::from_args(&self.manifest)?;
        let target = experiment.manifest.run.target();
        let found = dispatch(&target, TrialOn(&experiment))??;
        let json = serde_json::to_string(&found).expect("numbers serialise");
        print(&format!("{json}\n"))
    }
}

/// What a trial found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Trainable numbers.
    pub parameters: usize,
    /// Tasks of a computation graph.
    pub task_chunk: usize,
    /// Peak resident memory of a few iterations and a chunk of the test, where the system reports it.
    pub peak_bytes: Option<u64>,
    /// The share of a meta-batch that was tried: less than 1 where a whole one takes long.
    pub share: f64,
    /// Seconds of an iteration.
    pub iteration_seconds: f64,
    /// Seconds of the whole training at that pace, without validations.
    pub train_seconds: f64,
    /// Seconds of the whole test at the pace of that chunk.
    pub test_seconds: f64,
}

impl Trial {
    /// Comment lines for people.
    pub fn lines(&self) -> String {
        let memory = self
            .peak_bytes
            .map_or("unknown here".to_owned(), bytes_text);
        let of_part = match self.share < 1.0 {
            true => format!(" on {:.0} % of a meta-batch", 100.0 * self.share),
            false => String::new(),
        };
        format!(
            "# parameters       {}\n\
             # tasks in a graph {}\n\
             # memory, peak     {memory} (host memory of a trial of a few iterations{of_part})\n\
             # time, about      {} of training without validations, {} of testing\n",
            self.parameters,
            self.task_chunk,
            duration_text(self.train_seconds),
            duration_text(self.test_seconds),
        )
    }
}

/// Runs the trial of a manifest as a subprocess.
///
/// # Errors
/// What stopped the trial, or that it was killed, as it is where memory does not suffice.
pub fn trial_of(args: &ManifestArgs) -> Result<Trial> {
    let found = subprocess::json_output(|command| {
        command.arg("trial");
        command.arg(&args.manifest).args(&args.overrides);
        if let Some(data) = &args.data {
            command.arg("--data").arg(data);
        }
    });
    found.map_err(|error| {
        CommandError::Usage(match error {
            SubprocessError::Message(message) => {
                format!("a trial of a few iterations failed: {message}")
            }
            SubprocessError::Ended(status) => format!(
                "a trial of a few iterations ended with {status}: there may be too little memory \
                 (lower train.task_chunk or train.chunk_memory)"
            ),
        })
    })
}

/// Iterations of a trial, at most. Which graphs are at their largest together, and on which threads,
/// differs from one to the next.
const ITERATIONS: u64 = 4;

/// Seconds after which no further iteration begins, nor more of the test than a graph.
const ENOUGH: f64 = 15.0;

/// The trial of an experiment.
struct TrialOn<'a, T: Toolkit>(&'a Experiment<T>);

impl<T: Toolkit> WithBackend for TrialOn<'_, T> {
    type Output = Result<Trial>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let experiment = self.0;
        let mut learner = experiment.learner::<B>(&device);
        let parameters = learner.parameters().num_elements();
        let sizes = experiment.sizes::<B>(parameters);
        let planned = sizes.train_settings(&experiment.manifest.train);
        let iterations = planned.iterations;
        let settings = TrainSettings {
            iterations: ITERATIONS.min(iterations),
            warmup: 0,
            validate_every: 0,
            patience: 0,
            ..planned
        };
        let task_chunk = settings.task_chunk;
        let whole = settings.meta_batch;
        let part = part_of(whole, settings.graphs());
        let small = TrainSettings {
            meta_batch: part,
            iterations: 2.min(iterations),
            ..settings.clone()
        };
        let mut timed = |settings: TrainSettings| -> Result<IterationClock> {
            let trainer = experiment.trainer::<B>(settings, parameters, &device)?;
            let mut clock = IterationClock::start();
            trainer.run(learner.as_mut(), TrainState::new(), &mut clock)?;
            Ok(clock)
        };
        let mut share = part as f64 / whole as f64;
        let mut clock = timed(if part < whole {
            small
        } else {
            settings.clone()
        })?;
        if part < whole && clock.last_seconds() / share < ENOUGH {
            (share, clock) = (1.0, timed(settings.clone())?);
        }
        // The first iteration also starts threads and fills caches: the last is timed.
        let iteration_seconds = clock.last_seconds() / share;
        let test = experiment.test_episodes();
        let graphs = experiment.test_graphs::<B>(parameters);
        let at_a_time = match share < 1.0 || clock.is_enough() {
            true => graphs.tasks.max(1),
            false => graphs.tasks_at_a_time().unwrap_or(test.count),
        };
        let count = at_a_time.min(test.count);
        let parts = test.count as f64 / count as f64;
        let started = Instant::now();
        evaluate(
            learner.as_ref(),
            &experiment.spec,
            &FrozenEpisodes { count, ..test },
            PredictAt::EveryStep,
            graphs,
            &device,
            |_| {},
        )?;
        let test_seconds = started.elapsed().as_secs_f64() * parts;
        Ok(Trial {
            parameters,
            task_chunk,
            share,
            peak_bytes: peak_bytes(),
            iteration_seconds,
            train_seconds: iteration_seconds * iterations as f64,
            test_seconds,
        })
    }
}

/// Tasks of a large meta-batch that are tried first: a round of graphs, and a sixteenth at least.
fn part_of(meta_batch: usize, graphs: TaskChunks) -> usize {
    let round = graphs.tasks_at_a_time().unwrap_or(meta_batch);
    match round.max(meta_batch / 16).max(1) {
        part if part <= meta_batch / 4 => part,
        _ => meta_batch,
    }
}

/// When training began, and when its iterations ended.
struct IterationClock(Vec<Instant>);

impl IterationClock {
    fn start() -> Self {
        IterationClock(vec![Instant::now()])
    }

    fn is_enough(&self) -> bool {
        self.0[0].elapsed().as_secs_f64() > ENOUGH
    }

    /// Seconds between the last two ends.
    fn last_seconds(&self) -> f64 {
        let mut pairs = self.0.windows(2);
        let last = pairs.next_back();
        last.map_or(0.0, |pair| (pair[1] - pair[0]).as_secs_f64())
    }
}

impl<B: Primitives> Observer<B> for IterationClock {
    fn tick(&mut self, _iteration: u64) {
        self.0.push(Instant::now());
    }

    fn should_stop(&self) -> bool {
        self.is_enough()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small meta-batch is tried whole; of a large one a round of graphs or a sixteenth, whichever is more.
    #[test]
    fn a_part_of_a_large_meta_batch_is_tried() {
        let graphs = |tasks, concurrent| TaskChunks { tasks, concurrent };
        assert_eq!(part_of(8, graphs(2, 2)), 8);
        assert_eq!(part_of(64, graphs(4, 2)), 8);
        assert_eq!(part_of(2500, graphs(50, 2)), 156);
        assert_eq!(part_of(2500, graphs(0, 1)), 2500, "one graph of all tasks");
        assert_eq!(part_of(1, graphs(1, 1)), 1);
    }
}
