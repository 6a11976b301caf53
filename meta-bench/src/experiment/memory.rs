//! Memory and time of a run: how many tasks a computation graph holds, and what `meta check` says.
//!
//! Two questions, two answers:
//!
//! * How many tasks share a graph where `train.task_chunk = 0`? As many as an *estimate* puts into
//!   `train.chunk_memory`, fewer where several graphs side by side are quicker. The estimate is a formula
//!   of the settings, since the answer decides how sums are rounded: the same manifest must give the
//!   same chunks on every machine.
//! * How much memory and time will the run take? That is *measured*, by a trial: a process of its own
//!   takes a few iterations and a chunk of the test, and says its peak and its pace.

use std::time::Instant;

use meta_core::{
    backend::{WithBackend, dispatch},
    data::EpisodeShape,
    learner::{PredictAt, Steps},
    nn::encoder::Architecture,
    parallel::TaskChunks,
    primitives::Primitives,
    task::TaskSpec,
    train::eval::{FrozenEpisodes, evaluate},
    train::{TrainSettings, TrainState, Trainer},
};
use serde::{Deserialize, Serialize};

use crate::{
    Catalogue, Toolkit,
    cli::ManifestArgs,
    experiment::Experiment,
    experiment::subprocess::{self, SubprocessError},
    failure::{CommandError, Result},
    manifest::Manifest,
};

/// Bytes of a number.
const NUMBER: usize = 4;

/// What a forward pass and its adjoint keep, in units of the forward pass's results. Fitted to peaks
/// of second-order MAML on Conv-4: see `docs/performance.md`.
const KEPT: f64 = 1.3;

/// What the sizes of computation graphs follow from.
#[derive(Clone, Copy, Debug)]
pub struct Sizes<'a, A> {
    /// The encoder.
    pub architecture: &'a A,
    /// Shapes of items and episodes.
    pub spec: &'a TaskSpec,
    /// Inner steps of the learner.
    pub steps: Steps,
    /// Numbers in its parameters.
    pub parameters: usize,
    /// Whether the backend can compute several graphs side by side.
    pub side_by_side: bool,
}

impl<A: Architecture> Sizes<'_, A> {
    /// Bytes that one task of training adds to a graph.
    pub fn training_task(&self) -> usize {
        let Steps { train, held, .. } = self.steps;
        self.task(&self.spec.train, train, held.max(1))
    }

    /// Bytes that one task of the test adds to a graph, which is that of one step at a time.
    pub fn test_task(&self) -> usize {
        self.task(&self.spec.test, self.steps.test, 1)
    }

    /// By a formula: for each item of the support and each inner step that is held, and for each query,
    /// the results of a forward pass and its adjoint; a copy of the parameters after each inner step, and
    /// of their gradient for each that is held.
    fn task(&self, shape: &EpisodeShape, steps: usize, held: usize) -> usize {
        let items = (held * shape.support_items() + shape.query_items()) as f64;
        let activations = KEPT * items * self.architecture.activations() as f64;
        let copies = match steps {
            0 => 0,
            steps => held + steps + 2,
        };
        NUMBER * (activations as usize + copies * self.parameters)
    }

    /// The settings of the outer loop with its number of tasks in a graph, which `task_chunk = 0` leaves
    /// to the memory that graphs may take, and the number of graphs at a time, which `graphs_at_once = 0`
    /// does.
    pub fn train_settings(&self, settings: &TrainSettings) -> TrainSettings {
        let mut settings = settings.clone();
        if settings.chunk_memory == 0 {
            return settings;
        }
        let task = self.training_task().max(1);
        let memory = settings.chunk_memory.saturating_mul(1_000_000);
        if settings.task_chunk == 0 {
            settings.task_chunk = chunk(settings.meta_batch, memory, task, self.side_by_side);
        }
        if settings.graphs_at_once == 0 {
            settings.graphs_at_once = (memory / (task * settings.task_chunk)).max(1);
        }
        settings
    }

    /// The graphs of an evaluation of `tasks` tasks at a time.
    pub fn test_graphs(&self, tasks: usize) -> TaskChunks {
        graphs_of_test(tasks, self.test_task(), self.side_by_side)
    }
}

/// The graphs of an evaluation of `tasks` tasks at a time, at `task` bytes each. Nothing is added up over
/// them, so side by side there are as many as are worth their bookkeeping: small ones take less memory.
fn graphs_of_test(tasks: usize, task: usize, side_by_side: bool) -> TaskChunks {
    let (tasks, task) = (tasks.max(1), task.max(1));
    let most = if side_by_side {
        ((GRAPH + task / 2) / task).max(1)
    } else {
        tasks
    };
    let of_graph = tasks.div_ceil(tasks.div_ceil(most));
    TaskChunks {
        tasks: of_graph,
        concurrent: tasks / of_graph,
    }
}

/// Bytes of a graph from which on another one beside it pays for its own bookkeeping.
const GRAPH: usize = 16_000_000;

/// Chunks side by side that a meta-batch is cut into where it is large enough.
const GRAPHS: usize = 4;

/// Tasks of a computation graph at `task` bytes each: at least one, spread evenly over the chunks of a
/// meta-batch. On one device, all that fit into `memory` bytes; side by side, a large meta-batch is cut
/// into several graphs, two of which fit.
pub fn chunk(meta_batch: usize, memory: usize, task: usize, side_by_side: bool) -> usize {
    let task = task.max(1);
    let (most, graphs) = if side_by_side {
        (memory / 2 / task, (meta_batch * task / GRAPH).min(GRAPHS))
    } else {
        (memory / task, 1)
    };
    let chunks = meta_batch.div_ceil(most.clamp(1, meta_batch.max(1)));
    meta_batch.div_ceil(chunks.max(graphs).max(1)).max(1)
}

/// An estimate of a run's memory, by the formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// Trainable numbers.
    pub parameters: usize,
    /// Bytes of parameters, gradient, moments and best parameters.
    pub state_bytes: usize,
    /// Bytes of a computation graph.
    pub graph_bytes: usize,
    /// Bytes of episodes prepared ahead.
    pub episode_bytes: usize,
}

impl Forecast {
    /// All bytes, with those of a process that does nothing.
    pub fn total_bytes(&self) -> usize {
        PROCESS + self.state_bytes + self.graph_bytes + self.episode_bytes
    }
}

/// Bytes of a process that has started and read nothing, about.
const PROCESS: usize = 30_000_000;

/// Estimates the memory of an experiment, by building its learner.
pub struct ForecastOf<'a, T: Toolkit> {
    /// What is estimated.
    pub experiment: &'a Experiment<T>,
    /// Who builds the learner.
    pub toolkit: std::marker::PhantomData<T>,
}

impl<T: Toolkit> WithBackend for ForecastOf<'_, T> {
    type Output = Result<Forecast>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let experiment = self.experiment;
        let learner = experiment.learner::<B>(&device);
        let parameters = learner.parameters().num_elements();
        let sizes = experiment.sizes::<B>(parameters);
        let settings = sizes.train_settings(&experiment.manifest.train);
        let spec = &experiment.spec;
        let tasks = match settings.task_chunk {
            0 => settings.meta_batch,
            chunk => chunk.min(settings.meta_batch),
        };
        let graphs = settings.meta_batch.div_ceil(tasks.max(1));
        let concurrent = settings.graphs().side_by_side(graphs, B::SIDE_BY_SIDE);
        let items = spec.train.support_items() + spec.train.query_items();
        Ok(Forecast {
            parameters,
            // With both moments of Adam.
            state_bytes: NUMBER * 5 * parameters,
            graph_bytes: tasks * sizes.training_task() * concurrent,
            // Two batches ready, one being made, one in use.
            episode_bytes: NUMBER * 4 * settings.meta_batch * items * spec.item.features(),
        })
    }
}

/// What a trial found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Trainable numbers.
    pub parameters: usize,
    /// Tasks of a computation graph.
    pub task_chunk: usize,
    /// Peak resident memory of a few iterations and a chunk of the test; none where the system
    /// does not tell it.
    pub peak_bytes: Option<u64>,
    /// Seconds of an iteration.
    pub iteration_seconds: f64,
    /// Seconds of the whole training at that pace, without validations.
    pub train_seconds: f64,
    /// Seconds of the whole test at the pace of that chunk.
    pub test_seconds: f64,
}

impl Trial {
    /// Comment lines for humans.
    pub fn lines(&self) -> String {
        let memory = self
            .peak_bytes
            .map_or("unknown here".to_owned(), |peak| bytes_text(peak as usize));
        format!(
            "# parameters       {}\n\
             # tasks in a graph {}\n\
             # memory, peak     {memory} (host memory of a trial of a few iterations)\n\
             # time, about      {} of training without validations, {} of testing\n",
            self.parameters,
            self.task_chunk,
            seconds_text(self.train_seconds),
            seconds_text(self.test_seconds),
        )
    }
}

/// Runs a trial of a manifest in a process of its own.
///
/// # Errors
/// What the trial says; that it was killed, as it is where memory does not suffice.
pub fn trial_of(args: &ManifestArgs) -> Result<Trial> {
    let answer = subprocess::json_output(|command| {
        command.arg("trial");
        command.arg(&args.manifest).args(&args.overrides);
        if let Some(data) = &args.data {
            command.arg("--data").arg(data);
        }
    });
    answer.map_err(|error| {
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

/// The trial itself, in this process: prints what it found as JSON.
///
/// # Errors
/// Whatever is wrong with the manifest or its data, or stops training.
pub fn trial<T: Toolkit>(args: &ManifestArgs) -> Result<()> {
    let manifest = Manifest::resolve(&args.manifest, &args.overrides, &Catalogue::of::<T>())?;
    crate::experiment::start_threads(manifest.run.threads)?;
    let experiment = Experiment::<T>::prepare(manifest, args.data.as_deref())?;
    let found = dispatch(
        &experiment.manifest.run.target(),
        TrialOn::<T> {
            experiment: &experiment,
            toolkit: std::marker::PhantomData,
        },
    )??;
    crate::output::print(&format!(
        "{}\n",
        serde_json::to_string(&found).expect("numbers serialise")
    ))
}

/// Iterations of a trial, at most. Which graphs are at their largest together, and on which threads,
/// differs from one to the next.
const ITERATIONS: u64 = 4;

struct TrialOn<'a, T: Toolkit> {
    experiment: &'a Experiment<T>,
    toolkit: std::marker::PhantomData<T>,
}

impl<T: Toolkit> WithBackend for TrialOn<'_, T> {
    type Output = Result<Trial>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let experiment = self.experiment;
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
        let graphs = experiment.test_graphs::<B>(parameters);
        let trainer = Trainer {
            source: experiment.source.clone(),
            spec: experiment.spec,
            optimizer: experiment.optimizer::<B>()?,
            settings,
            seed: experiment.seed(),
            validation_seed: experiment.frozen_seed(),
            validation_graphs: graphs,
            device: device.clone(),
        };
        // The first iteration also starts threads and fills caches: the last is timed.
        let mut pace = Pace::default();
        trainer.run(learner.as_mut(), TrainState::new(), &mut pace)?;
        let iteration_seconds = pace.seconds();
        let test = experiment.test_episodes();
        let at_a_time = graphs.tasks_at_a_time().unwrap_or(test.count);
        let count = at_a_time.min(test.count);
        let share = test.count as f64 / count as f64;
        let episodes = FrozenEpisodes { count, ..test };
        let spec = &experiment.spec;
        let started = Instant::now();
        evaluate(
            learner.as_ref(),
            spec,
            &episodes,
            PredictAt::EveryStep,
            graphs,
            &device,
            |_| {},
        )?;
        let test_seconds = started.elapsed().as_secs_f64() * share;
        Ok(Trial {
            parameters,
            task_chunk,
            peak_bytes: peak_bytes(),
            iteration_seconds,
            train_seconds: iteration_seconds * iterations as f64,
            test_seconds,
        })
    }
}

/// When iterations ended.
#[derive(Default)]
struct Pace(Vec<Instant>);

impl Pace {
    /// Between the last two.
    fn seconds(&self) -> f64 {
        let mut ends = self
            .0
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64());
        ends.next_back().unwrap_or(0.0)
    }
}

impl<B: Primitives> meta_core::train::Observer<B> for Pace {
    fn tick(&mut self, _iteration: u64) {
        self.0.push(Instant::now());
    }
}

/// Peak resident memory of this process, where the system tells it.
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024 * kibibytes)
}

/// Bytes for humans.
pub fn bytes_text(bytes: usize) -> String {
    let bytes = bytes as f64;
    match bytes {
        _ if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        _ if bytes >= 1e6 => format!("{:.0} MB", bytes / 1e6),
        _ => format!("{:.0} kB", (bytes / 1e3).ceil()),
    }
}

/// Seconds for humans.
fn seconds_text(seconds: f64) -> String {
    match seconds {
        _ if seconds >= 5400.0 => format!("{:.1} h", seconds / 3600.0),
        _ if seconds >= 90.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} s", seconds.ceil()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_batch_is_spread_evenly_over_its_chunks() {
        assert_eq!(chunk(8, 100, 10, false), 8);
        assert_eq!(chunk(8, 50, 10, false), 4);
        assert_eq!(chunk(9, 40, 10, false), 3);
        assert_eq!(chunk(8, 5, 10, false), 1);
        assert_eq!(chunk(1, 0, 10, false), 1);
    }

    #[test]
    fn graphs_side_by_side_share_the_memory_and_are_worth_it() {
        let (small, large) = (100_000, 20_000_000);
        assert_eq!(chunk(25, 256_000_000, small, true), 25);
        assert_eq!(chunk(8, 256_000_000, large, true), 2);
        assert_eq!(chunk(64, 256_000_000, large, true), 6);
        assert_eq!(chunk(8, 1, large, true), 1);
        assert_eq!(chunk(1, 256_000_000, large, true), 1);
    }

    #[test]
    fn graphs_of_a_test_hold_no_more_tasks_than_asked_for() {
        for tasks in 1..30 {
            for task in [1, 100_000, 900_000, 20_000_000] {
                let graphs = graphs_of_test(tasks, task, true);
                assert!(
                    (1..=tasks).contains(&(graphs.tasks * graphs.concurrent)),
                    "{graphs:?}"
                );
            }
        }
        let (small, medium, large) = (100_000, 6_000_000, 20_000_000);
        let graphs = |tasks, concurrent| TaskChunks { tasks, concurrent };
        assert_eq!(graphs_of_test(20, large, true), graphs(1, 20));
        assert_eq!(graphs_of_test(20, medium, true), graphs(3, 6));
        assert_eq!(graphs_of_test(20, small, true), graphs(20, 1));
        assert_eq!(graphs_of_test(20, large, false), graphs(20, 1));
    }

    #[test]
    fn bytes_and_seconds_read_well() {
        assert_eq!(bytes_text(900), "1 kB");
        assert_eq!(bytes_text(12_400_000), "12 MB");
        assert_eq!(bytes_text(2_340_000_000), "2.3 GB");
        assert_eq!(seconds_text(12.3), "13 s");
        assert_eq!(seconds_text(600.0), "10 min");
        assert_eq!(seconds_text(7200.0), "2.0 h");
    }
}
