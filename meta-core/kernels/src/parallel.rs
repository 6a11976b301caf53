//! Computation graphs side by side: each on a thread of its own, its kernels one after the other.
//!
//! A meta-batch is a sum over tasks, so chunks of it are independent graphs. Where there are at least
//! two of them and two threads, computing them side by side beats splitting every kernel: nothing waits
//! between two operations, the graph's own work is shared as well, and a thread's values stay in its
//! core's cache. The chunks are given, so results do not depend on the number of threads.

use std::{
    cell::Cell,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Threads besides the calling one, started when they are first needed. Each is a pool of one, so that
/// none ever takes up another graph while it waits in the middle of its own: Burn locks a graph for the
/// whole of its backward pass.
static WORKERS: Mutex<Vec<Arc<ThreadPool>>> = Mutex::new(Vec::new());

thread_local! {
    /// Whether this thread computes one of several graphs.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the kernels of the calling thread stay on it, since others compute other graphs.
pub(crate) fn stays_on_this_thread() -> bool {
    ALONE.get()
}

/// How tasks are cut into computation graphs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskChunks {
    /// Tasks of a graph; 0: all in one.
    pub tasks: usize,
    /// Chunks computed side by side, at most; 0: as many as there are threads.
    pub concurrent: usize,
}

impl TaskChunks {
    /// Tasks that are held at a time, at most; none: all.
    pub fn tasks_at_a_time(self) -> Option<usize> {
        (self.tasks > 0).then(|| self.tasks.saturating_mul(self.concurrent.max(1)))
    }

    /// How many of `count` graphs a backend computes side by side that can
    /// (`Primitives::SIDE_BY_SIDE` of `meta-core`), or one that cannot.
    pub fn side_by_side(self, count: usize, can: bool) -> usize {
        let most = match self.concurrent {
            0 => usize::MAX,
            most => most,
        };
        if can {
            concurrency(count, rayon::current_num_threads(), most)
        } else {
            1
        }
    }

    /// `compute` of the tasks of every graph, in their order; `can` as of [`TaskChunks::side_by_side`].
    ///
    /// # Panics
    /// When `compute` does.
    pub fn each<T: Sync, R: Send + Sync>(
        self,
        tasks: &[T],
        can: bool,
        compute: impl Fn(&[T]) -> R + Sync,
    ) -> Vec<R> {
        let of_graph = match self.tasks {
            0 => tasks.len().max(1),
            of_graph => of_graph,
        };
        let graphs: Vec<&[T]> = tasks.chunks(of_graph).collect();
        each(&graphs, self.side_by_side(graphs.len(), can), |graph| {
            compute(graph)
        })
    }
}

/// How many of `graphs` graphs to compute at a time on `threads` threads, at most `most`: 1 where that
/// would leave more than half of the threads idle, which then share every kernel instead.
fn concurrency(graphs: usize, threads: usize, most: usize) -> usize {
    let concurrent = graphs.min(threads).min(most).max(1);
    let waves = graphs.div_ceil(concurrent);
    if 2 * graphs < waves * threads {
        1
    } else {
        concurrent
    }
}

/// `compute` of every item, in their order, at most `concurrent` at a time.
///
/// # Panics
/// When `compute` does.
pub fn each<T: Sync, R: Send + Sync>(
    items: &[T],
    concurrent: usize,
    compute: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let threads = concurrent.min(items.len());
    if threads < 2 || stays_on_this_thread() {
        return items.iter().map(compute).collect();
    }
    let results: Vec<OnceLock<R>> = items.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let _alone = Alone::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { break };
            let first = results[index].set(compute(item));
            assert!(first.is_ok(), "an item was computed twice");
        }
    };
    side_by_side(&workers(threads - 1), &work);
    results
        .into_iter()
        .map(|result| result.into_inner().expect("every item was computed"))
        .collect()
}

/// Runs `work` on every worker and on the calling thread.
fn side_by_side(workers: &[Arc<ThreadPool>], work: &(impl Fn() + Sync)) {
    match workers.split_first() {
        None => work(),
        Some((worker, others)) => worker.in_place_scope(|scope| {
            scope.spawn(|_| work());
            side_by_side(others, work);
        }),
    }
}

/// `count` workers, or those that could be started.
fn workers(count: usize) -> Vec<Arc<ThreadPool>> {
    let mut workers = WORKERS.lock().unwrap_or_else(PoisonError::into_inner);
    while workers.len() < count {
        let index = workers.len();
        let pool = ThreadPoolBuilder::new()
            .num_threads(1)
            .thread_name(move |_| format!("graph-{}", index + 1));
        match pool.build() {
            Ok(pool) => workers.push(Arc::new(pool)),
            Err(_) => break,
        }
    }
    workers.iter().take(count).cloned().collect()
}

/// While it lives, kernels stay on this thread.
struct Alone;

impl Alone {
    fn new() -> Self {
        ALONE.set(true);
        Alone
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        ALONE.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_are_side_by_side_where_they_fill_the_threads() {
        let most = usize::MAX;
        assert_eq!(concurrency(1, 2, most), 1);
        assert_eq!(concurrency(2, 1, most), 1);
        assert_eq!(concurrency(2, 2, most), 2);
        assert_eq!(concurrency(3, 2, most), 2);
        assert_eq!(concurrency(2, 16, most), 1);
        assert_eq!(concurrency(8, 16, most), 8);
        assert_eq!(concurrency(40, 16, most), 16);
        assert_eq!(concurrency(40, 16, 3), 1);
        assert_eq!(concurrency(0, 4, 0), 1);
    }

    #[test]
    fn results_stand_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..50).collect();
        for concurrent in [0, 1, 2, 7, 100] {
            let squares = each(&items, concurrent, |item| item * item);
            assert!(
                squares
                    .iter()
                    .zip(&items)
                    .all(|(square, item)| *square == item * item)
            );
        }
        assert!(each(&[0; 0], 4, |_| 0).is_empty());
    }

    #[test]
    fn kernels_stay_where_graphs_are_side_by_side() {
        let alone = |concurrent| each(&[(); 6], concurrent, |()| stays_on_this_thread());
        assert!(alone(3).into_iter().all(|alone| alone));
        assert!(!alone(1).into_iter().any(|alone| alone));
        assert!(!stays_on_this_thread());
    }

    /// A graph inside a graph stays on its thread.
    #[test]
    fn nested_calls_do_not_wait_for_each_other() {
        let sums = each(&[1usize, 2, 3, 4], 2, |outer| {
            each(&[10usize, 20], 2, |inner| outer * inner)
                .into_iter()
                .sum::<usize>()
        });
        assert_eq!(sums, [30, 60, 90, 120]);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_leaves_the_threads_usable() {
        let fails = std::panic::catch_unwind(|| {
            each(&[1, 2, 3, 4], 2, |item| assert_ne!(*item, 3, "the third"));
        });
        assert!(fails.is_err());
        assert_eq!(each(&[1, 2], 2, |item| item + 1), [2, 3]);
        assert!(!stays_on_this_thread());
    }
}
