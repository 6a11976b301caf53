//! Episodes made ahead of time on a thread of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::episode::{Episode, EpisodeShape, Split};
use super::source::Source;
use crate::error::Result;
use crate::rng::Seed;

/// Batches of consecutive episodes, in order.
#[derive(Clone)]
struct Batches {
    source: Arc<dyn Source>,
    seed: Seed,
    split: Split,
    shape: EpisodeShape,
    next: u64,
    batch: usize,
}

impl Batches {
    fn next(&mut self) -> Result<Vec<Episode>> {
        let first = self.next;
        self.next += self.batch as u64;
        (first..self.next)
            .map(|index| {
                self.source
                    .episode(self.seed, self.split, self.shape, index)
            })
            .collect()
    }
}

/// A worker thread that prepares batches of episodes ahead of their use.
///
/// The episodes are those of direct calls to [`Source::episode`], whatever the batch and the depth.
/// Dropping it ends the thread.
///
/// ```
/// use meta_core::data::{EpisodeShape, Prefetch, SinusoidSettings, Source, Split};
/// use meta_core::rng::Seed;
/// # fn main() -> meta_core::Result<()> {
/// let source = std::sync::Arc::new(SinusoidSettings::default().build()?);
/// let shape = EpisodeShape::new(1, 5, 10);
/// let mut episodes = Prefetch::new(source.clone(), Seed(0), Split::Train, shape, 100, 4, 2);
/// let batch = episodes.next()?;
/// assert_eq!(batch[3], source.episode(Seed(0), Split::Train, shape, 103)?);
/// # Ok(())
/// # }
/// ```
pub struct Prefetch {
    /// Where the consumer is. Batches are made from here when the worker is gone.
    position: Batches,
    receiver: Option<Receiver<Result<Vec<Episode>>>>,
    worker: Option<JoinHandle<()>>,
}

impl Prefetch {
    /// Starts making batches of `batch` consecutive episodes, from episode `first` on, keeping up to
    /// `depth` finished batches ready (0: one is made while the previous one is used).
    ///
    /// Where no thread can be started, episodes are made when they are asked for.
    pub fn new(
        source: Arc<dyn Source>,
        seed: Seed,
        split: Split,
        shape: EpisodeShape,
        first: u64,
        batch: usize,
        depth: usize,
    ) -> Self {
        let position = Batches {
            source,
            seed,
            split,
            shape,
            next: first,
            batch,
        };
        let (sender, receiver) = sync_channel(depth);
        let mut ahead = position.clone();
        let worker = std::thread::Builder::new()
            .name("episodes".to_owned())
            .spawn(move || {
                // Sending fails once the receiver is gone: that is the signal to stop.
                while sender.send(ahead.next()).is_ok() {}
            });
        if let Err(error) = &worker {
            tracing::warn!(%error, "cannot start a thread for episodes; making them on demand");
        }
        Prefetch {
            position,
            receiver: Some(receiver),
            worker: worker.ok(),
        }
    }

    /// The next batch.
    ///
    /// # Errors
    /// Those of [`Source::episode`].
    #[allow(clippy::should_implement_trait)] // An endless sequence of results, not an iterator.
    pub fn next(&mut self) -> Result<Vec<Episode>> {
        match self.receiver.as_ref().map(Receiver::recv) {
            Some(Ok(batch)) => {
                self.position.next += self.position.batch as u64;
                batch
            }
            _ => self.position.next(),
        }
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.receiver = None;
        if let Some(worker) = self.worker.take() {
            // A panic of the worker is not worth a second one while dropping.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Prefetch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Prefetch")
            .field("source", &self.position.source.name())
            .field("split", &self.position.split)
            .field("next", &self.position.next)
            .field("batch", &self.position.batch)
            .finish_non_exhaustive()
    }
}
