//! Chooses how many tasks share a computation graph, by an estimate of its memory.
//!
//! Where `train.task_chunk = 0`, a graph holds as many tasks as the estimate puts into
//! `train.chunk_memory`, or fewer where several graphs side by side are quicker. The answer decides how
//! sums are rounded, so the estimate is a formula of the settings: the same manifest gives the same chunks
//! on every machine. How much memory a run really takes is measured ([`super::trial`]).

use meta_core::{
    data::EpisodeShape, learner::Steps, nn::encoder::Architecture, parallel::TaskChunks,
    task::TaskSpec, train::TrainSettings,
};

/// Bytes of a number.
pub const NUMBER: usize = 4;

/// How much more memory graphs may take on a device than `train.chunk_memory` says. The setting is made for
/// the caches of a CPU, while a device waits for launches, whose number follows that of the graphs.
const ON_DEVICE: usize = 16;

/// What a forward pass and its adjoint keep, in units of the forward pass's results. Fitted to peaks
/// of second-order MAML on Conv-4: see `docs/performance.md`.
const KEPT: f64 = 1.3;

/// Numbers that a network keeps of a token, by the root of its parameters: `l` layers of width `d` have some
/// `12 l d²` parameters and keep `14 l d` numbers, 7 roots where `l` is 3.
const OWN: f64 = 7.0;

/// What the sizes of computation graphs follow from.
#[derive(Clone, Copy, Debug)]
pub struct Sizes<'a, A> {
    /// The encoder.
    pub architecture: &'a A,
    /// Shapes of items and episodes.
    pub spec: &'a TaskSpec,
    /// Inner steps of the learner.
    pub steps: Steps,
    /// Tokens that an item is to the network behind the encoder.
    pub tokens: usize,
    /// Numbers in its parameters.
    pub parameters: usize,
    /// Whether the backend can compute several graphs side by side.
    pub side_by_side: bool,
    /// Whether it computes on a device of its own.
    pub on_device: bool,
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
    /// of their gradient, and what the step keeps of each of them, for each that is held.
    fn task(&self, shape: &EpisodeShape, steps: usize, held: usize) -> usize {
        let copies = match steps {
            0 => 0,
            steps => {
                (held + steps + 2).saturating_add(held.saturating_mul(self.steps.of_parameter))
            }
        };
        let numbers = self
            .passes(shape, held)
            .saturating_add(copies.saturating_mul(self.parameters));
        numbers.saturating_mul(NUMBER)
    }

    /// Numbers that passes over the support, `held` of them, and one over the queries leave.
    fn passes(&self, shape: &EpisodeShape, held: usize) -> usize {
        let activations = self.architecture.activations() as f64;
        if self.spec.task.is_acting() {
            // Every step of every trial passes through encoder and memory; of h units, whose parameters are
            // some h² and more, a gated memory keeps 9 h numbers.
            let steps = (shape.query.0 as f64) * self.spec.trial_steps(*shape) as f64;
            let memory = 9.0 * (self.parameters as f64).sqrt();
            return (KEPT * steps * (activations + memory)) as usize;
        }
        let items = held as f64 * shape.support_items() as f64 + shape.query_items() as f64;
        // A learner without inner steps has a network of its own behind the encoder.
        let own = match self.steps.train {
            0 => OWN * (self.parameters as f64).sqrt() * self.tokens as f64,
            _ => 0.0,
        };
        (KEPT * items * activations.max(own)) as usize
    }

    /// Bytes that one task of the test takes at once: one step at a time, three copies of what adapts, and
    /// the predictions after every step.
    pub fn tested_task(&self) -> f64 {
        let shape = &self.spec.test;
        let (steps, queries) = (self.steps.test as f64, shape.query_items() as f64);
        let copies = if self.steps.test > 0 { 3.0 } else { 0.0 };
        let predictions = (steps + 1.0) * queries * self.spec.outputs() as f64;
        let numbers = self.passes(shape, 1) as f64 + copies * self.parameters as f64 + predictions;
        NUMBER as f64 * numbers
    }

    /// The settings of the outer loop, with what they leave to the memory that graphs may take: the tasks
    /// of a graph (`task_chunk = 0`), and the graphs at a time (`graphs_at_once = 0`).
    pub fn train_settings(&self, settings: &TrainSettings) -> TrainSettings {
        let mut settings = settings.clone();
        if settings.chunk_memory == 0 {
            return settings;
        }
        let task = self.training_task().max(1);
        let memory = bytes_of_graphs(settings.chunk_memory, self.on_device);
        if settings.task_chunk == 0 {
            let meta_batch = settings.meta_batch;
            let Steps {
                train,
                of_parameter,
                ..
            } = self.steps;
            let step = of_parameter.saturating_mul(self.parameters);
            let passes = self.passes(&self.spec.train, 1).saturating_add(step);
            let large = passes.saturating_mul(NUMBER).saturating_mul(meta_batch) >= SMALL;
            let worth_two = large && (train == 0 || of_parameter > 0);
            settings.task_chunk = chunk(meta_batch, memory, task, worth_two, self.side_by_side);
        }
        if settings.graphs_at_once == 0 {
            settings.graphs_at_once = (memory / task.saturating_mul(settings.task_chunk)).max(1);
        }
        settings
    }

    /// The graphs of an evaluation of `tasks` tasks at a time.
    pub fn test_graphs(&self, tasks: usize) -> TaskChunks {
        graphs_of_test(tasks, self.test_task(), self.side_by_side)
    }
}

/// Bytes that graphs may take where `train.chunk_memory` says so many megabytes.
fn bytes_of_graphs(chunk_memory: usize, on_device: bool) -> usize {
    let times = if on_device { ON_DEVICE } else { 1 };
    chunk_memory.saturating_mul(1_000_000 * times)
}

/// Bytes of a graph from which on another one beside it pays for its own bookkeeping: `G`.
const GRAPH: usize = 16_000_000;

/// Bytes that the passes over a meta-batch leave from which on it is worth two graphs: threads that each have
/// a graph do more than threads that share operations of this size. Below, and between many inner steps,
/// bookkeeping is most of the time.
const SMALL: usize = 1_000_000;

/// Graphs side by side into which a large meta-batch is cut.
const GRAPHS: usize = 4;

/// The graphs of an evaluation of `n` tasks at a time, at `b` bytes each:
///
/// ```text
/// most       = max(1, round(G / b))   side by side, else n
/// tasks      = ⌈n / ⌈n / most⌉⌉
/// concurrent = ⌊n / tasks⌋
/// ```
///
/// Nothing is added up over the graphs of an evaluation, so small ones only save memory.
fn graphs_of_test(tasks: usize, task: usize, side_by_side: bool) -> TaskChunks {
    let (tasks, task) = (tasks.max(1), task.max(1));
    let most = if side_by_side {
        (GRAPH.saturating_add(task / 2) / task).max(1)
    } else {
        tasks
    };
    let of_graph = tasks.div_ceil(tasks.div_ceil(most));
    TaskChunks {
        tasks: of_graph,
        concurrent: tasks / of_graph,
    }
}

/// Tasks of a graph in training, for a meta-batch of `n` tasks at `b` bytes each and `M` bytes of
/// memory:
///
/// ```text
/// most, graphs = ⌊M / 2b⌋, 4 where ⌊n b / G⌋ ≥ 4, else 2 where it is that or the passes are worth two,
///                          else 1              side by side, two of which fit
///              = ⌊M / b⌋, 1                    else
/// chunks       = max(⌈n / clamp(most, 1, n)⌉, graphs)
/// tasks        = ⌈n / chunks⌉
/// ```
///
/// Not three: two threads would take as long as for four.
fn chunk(
    meta_batch: usize,
    memory: usize,
    task: usize,
    worth_two: bool,
    side_by_side: bool,
) -> usize {
    let task = task.max(1);
    let (most, graphs) = if side_by_side {
        let graphs = match meta_batch.saturating_mul(task) / GRAPH {
            GRAPHS.. => GRAPHS,
            2.. => 2,
            _ => 1 + usize::from(worth_two),
        };
        (memory / 2 / task, graphs)
    } else {
        (memory / task, 1)
    };
    let chunks = meta_batch.div_ceil(most.clamp(1, meta_batch.max(1)));
    meta_batch.div_ceil(chunks.max(graphs).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_batch_is_spread_evenly_over_its_chunks() {
        assert_eq!(chunk(8, 100, 10, false, false), 8);
        assert_eq!(chunk(8, 50, 10, false, false), 4);
        assert_eq!(chunk(9, 40, 10, false, false), 3);
        assert_eq!(chunk(8, 5, 10, false, false), 1);
        assert_eq!(chunk(1, 0, 10, false, false), 1);
    }

    #[test]
    fn graphs_on_a_device_may_take_more() {
        assert_eq!(bytes_of_graphs(256, false), 256_000_000);
        assert_eq!(bytes_of_graphs(256, true), 4_096_000_000);
        assert_eq!(bytes_of_graphs(usize::MAX, true), usize::MAX);
    }

    #[test]
    fn graphs_side_by_side_share_the_memory_and_are_worth_it() {
        let (small, large) = (100_000, 20_000_000);
        assert_eq!(chunk(25, 256_000_000, small, false, true), 25);
        assert_eq!(chunk(8, 256_000_000, large, false, true), 2);
        assert_eq!(chunk(64, 256_000_000, large, false, true), 6);
        assert_eq!(chunk(8, 1, large, false, true), 1);
        assert_eq!(
            chunk(8, 256_000_000, 7_000_000, false, true),
            4,
            "not three"
        );
        assert_eq!(chunk(25, 256_000_000, small, true, true), 13);
        assert_eq!(chunk(1, 256_000_000, small, true, true), 1);
        assert_eq!(chunk(1, 256_000_000, large, false, true), 1);
    }

    /// What nobody can compute is still planned, without an overflow.
    #[test]
    fn sizes_without_end_are_planned() {
        let most = usize::MAX;
        assert_eq!(chunk(most, most, most, false, true), 1, "no two fit");
        assert_eq!(chunk(most, most, 1, false, true), most.div_ceil(GRAPHS));
        assert_eq!(chunk(most, 0, most, false, true), 1);
        assert_eq!(chunk(most, most, 1, false, false), most);
        assert_eq!(graphs_of_test(most, most, true).tasks, 1);
        assert_eq!(graphs_of_test(most, 1, true).concurrent, most / GRAPH);
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
}
