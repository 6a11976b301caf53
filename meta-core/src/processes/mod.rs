//! Processes that share the work of one run, with the same bytes for any number of them.
//!
//! Every process runs the same loop with the same parameters. Work is cut into pieces by settings, never by the
//! number of processes; process `r` of `n` computes a contiguous range of them. What is a sum of the pieces is
//! folded in their order: each process adds its own pieces to what it receives from the one before and passes
//! the result on, the last one tells all. A floating-point all-reduce, whose order nobody promises, is never
//! asked for.
//!
//! For `n` processes, a fold of a message of `b` bytes is `n − 1` messages along the chain and one broadcast; in
//! parts, as many of each as there are parts, one after the other on their way.
//!
//! Processes that a launcher of MPI has started (`mpirun`, `srun`) talk by [`mpi`], behind the feature `mpi`.

#[cfg(feature = "mpi")]
pub mod mpi;

use std::{ops::Range, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Result};

/// How processes talk: MPI, or channels between the threads of a test.
pub trait Transport: Send + Sync {
    /// The number of this process, from 0 on.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn count(&self) -> usize;

    /// Sends a message to another process.
    ///
    /// # Errors
    /// When it is gone.
    fn send(&self, to: usize, message: &[u8]) -> Result<()>;

    /// The next message of another process.
    ///
    /// # Errors
    /// When it is gone.
    fn receive(&self, from: usize) -> Result<Vec<u8>>;

    /// The message of process `from`, everywhere.
    ///
    /// # Errors
    /// When a process is gone.
    fn broadcast(&self, from: usize, message: Vec<u8>) -> Result<Vec<u8>> {
        if self.rank() != from {
            return self.receive(from);
        }
        for to in (0..self.count()).filter(|&to| to != from) {
            self.send(to, &message)?;
        }
        Ok(message)
    }

    /// Whether any process says so, everywhere.
    ///
    /// # Errors
    /// When a process is gone.
    fn any(&self, own: bool) -> Result<bool> {
        let mut any = false;
        for from in 0..self.count() {
            let message = match from == self.rank() {
                true => vec![u8::from(own)],
                false => Vec::new(),
            };
            any |= self.broadcast(from, message)?.contains(&1);
        }
        Ok(any)
    }

    /// Ends all processes at once, with this exit code where the launcher passes it on.
    fn end(&self, code: i32) -> ! {
        std::process::exit(code)
    }
}

/// Whether this build has [`mpi`].
pub const MPI: bool = cfg!(feature = "mpi");

/// How many processes a launcher of MPI says that it has started with this one: Open MPI, MPICH and Slurm with
/// PMI-2, or Slurm with PMIx. One, where this one was started plainly.
pub fn launched() -> usize {
    let number = |name| std::env::var(name).ok()?.parse::<usize>().ok();
    let by_slurm = || {
        std::env::var_os("PMIX_RANK")?;
        number("SLURM_STEP_NUM_TASKS")
    };
    let counts = [number("OMPI_COMM_WORLD_SIZE"), number("PMI_SIZE")];
    let count = counts.into_iter().flatten().next().or_else(by_slurm);
    count.unwrap_or(1).max(1)
}

/// The processes of a run; one, unless they are given a [`Transport`].
#[derive(Clone, Default)]
pub struct Processes(Option<Arc<dyn Transport>>);

impl std::fmt::Debug for Processes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "process {} of {}", self.rank(), self.count())
    }
}

impl Processes {
    /// The processes that talk by `transport`.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Processes((transport.count() > 1).then_some(transport))
    }

    /// Meets the other processes that a launcher of MPI has started with this one.
    ///
    /// # Errors
    /// When this build has no MPI, or it cannot be used.
    pub fn meet() -> Result<Self> {
        #[cfg(feature = "mpi")]
        return Ok(Self::new(Arc::new(mpi::Mpi::start()?)));
        #[cfg(not(feature = "mpi"))]
        Err(Error::Processes {
            message:
                "this build cannot talk to the processes that it was started with; build it with \
                      `--features mpi` (docs/distributed.md), or start it once"
                    .to_owned(),
        })
    }

    /// How they talk; none where there is one.
    pub fn transport(&self) -> Option<Arc<dyn Transport>> {
        self.0.clone()
    }

    /// The number of this process, from 0 on.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |transport| transport.rank())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |transport| transport.count())
    }

    /// Those of `pieces` that this process computes: as many as the others do, or one more or less.
    pub fn share(&self, pieces: usize) -> Range<usize> {
        let (rank, count) = (self.rank(), self.count());
        rank * pieces / count..(rank + 1) * pieces / count
    }

    /// Folds the pieces of all processes in order, part by part: while the next process works on a part, this one
    /// works on the one after it. `own` are the pieces of this process, for every part; `add` puts a piece after
    /// what was folded before it; `write` and `read` make messages of what is folded.
    ///
    /// # Errors
    /// When a process is gone.
    ///
    /// # Panics
    /// When a process has no piece of a part.
    pub fn fold<T>(
        &self,
        own: Vec<Vec<T>>,
        mut add: impl FnMut(T, T) -> T,
        write: impl Fn(&T) -> Vec<u8>,
        read: impl Fn(&T, &[u8]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut parts = Vec::with_capacity(own.len());
        for pieces in own {
            let mut pieces = pieces.into_iter();
            let first = pieces.next().expect("every process has a piece");
            let start = match &self.0 {
                Some(transport) if transport.rank() > 0 => {
                    let before = read(&first, &transport.receive(transport.rank() - 1)?)?;
                    add(before, first)
                }
                _ => first,
            };
            let folded = pieces.fold(start, &mut add);
            if let Some(transport) = &self.0
                && transport.rank() + 1 < transport.count()
            {
                transport.send(transport.rank() + 1, &write(&folded))?;
            }
            parts.push(folded);
        }
        let Some(transport) = &self.0 else {
            return Ok(parts);
        };
        let last = transport.count() - 1;
        let hear = |folded: T| {
            let own = match transport.rank() == last {
                true => write(&folded),
                false => Vec::new(),
            };
            read(&folded, &transport.broadcast(last, own)?)
        };
        parts.into_iter().map(hear).collect()
    }

    /// What every process has to say, in their order, everywhere.
    ///
    /// # Errors
    /// When a process is gone, or says what cannot be read.
    pub fn gather<T: Serialize + DeserializeOwned>(&self, own: T) -> Result<Vec<T>> {
        if self.0.is_none() {
            return Ok(vec![own]);
        }
        let said = rmp_serde::to_vec(&own).map_err(unreadable)?;
        let all = self.gather_bytes(said)?.into_iter();
        all.map(|told| rmp_serde::from_slice(&told).map_err(unreadable))
            .collect()
    }

    /// The messages of all processes, in their order, everywhere.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn gather_bytes(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let Some(transport) = &self.0 else {
            return Ok(vec![own]);
        };
        let mut own = Some(own);
        (0..transport.count())
            .map(|from| {
                let message = match from == transport.rank() {
                    true => own.take().unwrap_or_default(),
                    false => Vec::new(),
                };
                transport.broadcast(from, message)
            })
            .collect()
    }

    /// Whether any process says so.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn any(&self, own: bool) -> Result<bool> {
        match &self.0 {
            Some(transport) => transport.any(own),
            None => Ok(own),
        }
    }

    /// The message of the first process, everywhere; what others give is not looked at.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn hear_first(&self, own: Vec<u8>) -> Result<Vec<u8>> {
        match &self.0 {
            Some(transport) => transport.broadcast(0, own),
            None => Ok(own),
        }
    }

    /// Ends all processes at once: this one cannot go on, and the others would wait for it.
    pub fn end(&self, code: i32) -> ! {
        match &self.0 {
            Some(transport) => transport.end(code),
            None => std::process::exit(code),
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Processes {
        message: format!("a message cannot be read: {error}"),
    }
}

/// Processes that are threads of this one, for tests.
#[cfg(test)]
pub mod threads {
    use std::sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    };

    use super::*;

    /// One of several threads, with a channel to and from each other one.
    struct Thread {
        rank: usize,
        to: Vec<Mutex<Sender<Vec<u8>>>>,
        from: Vec<Mutex<Receiver<Vec<u8>>>>,
    }

    fn gone<E>(_: E) -> Error {
        Error::Processes {
            message: "a thread is gone".to_owned(),
        }
    }

    impl Transport for Thread {
        fn rank(&self) -> usize {
            self.rank
        }

        fn count(&self) -> usize {
            self.to.len()
        }

        fn send(&self, to: usize, message: &[u8]) -> Result<()> {
            let sender = self.to[to].lock().map_err(gone)?;
            sender.send(message.to_vec()).map_err(gone)
        }

        fn receive(&self, from: usize) -> Result<Vec<u8>> {
            self.from[from].lock().map_err(gone)?.recv().map_err(gone)
        }
    }

    /// `count` threads that talk to each other.
    pub fn of(count: usize) -> Vec<Processes> {
        let mut to: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        let mut from: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        for senders in &mut to {
            for receivers in &mut from {
                let (sender, receiver) = channel();
                senders.push(Mutex::new(sender));
                receivers.push(Mutex::new(receiver));
            }
        }
        let both = to.into_iter().zip(from).enumerate();
        both.map(|(rank, (to, from))| Processes::new(Arc::new(Thread { rank, to, from })))
            .collect()
    }

    /// What `work` comes to on each of `count` threads.
    pub fn run<R: Send>(count: usize, work: impl Fn(Processes) -> R + Sync) -> Vec<R> {
        let work = &work;
        std::thread::scope(|scope| {
            let started: Vec<_> = of(count)
                .into_iter()
                .map(|processes| scope.spawn(move || work(processes)))
                .collect();
            let ended = started.into_iter();
            ended
                .map(|thread| thread.join().expect("no thread panics"))
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_contiguous_and_even() {
        for count in 1..6 {
            for pieces in 0..20 {
                let shares = threads::run(count, |processes| processes.share(pieces));
                let all: Vec<usize> = shares.iter().cloned().flatten().collect();
                assert_eq!(all, (0..pieces).collect::<Vec<_>>());
                let sizes = shares.iter().map(ExactSizeIterator::len);
                assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
            }
        }
    }

    /// Rounding depends on the order: the fold of any number of processes has the bits of one.
    #[test]
    fn a_fold_has_the_bits_of_one_process() {
        let pieces: Vec<f32> = (0..13)
            .map(|k| 1e3_f32.powf((k % 5) as f32) / 3.0)
            .collect();
        let fold = |processes: Processes| {
            let own = pieces[processes.share(pieces.len())].to_vec();
            let write = |sum: &f32| sum.to_le_bytes().to_vec();
            let read = |_: &f32, bytes: &[u8]| Ok(f32::from_le_bytes(bytes.try_into().unwrap()));
            // The second part is twice the first.
            let parts = vec![own.clone(), own.iter().map(|piece| piece * 2.0).collect()];
            let both = processes.fold(parts, |sum, piece| sum * 0.7 + piece, write, read)?;
            Ok::<_, Error>([both[0].to_bits(), both[1].to_bits()])
        };
        let alone = fold(Processes::default()).unwrap();
        for count in 1..=13 {
            for found in threads::run(count, fold) {
                assert_eq!(found.unwrap(), alone, "{count} processes");
            }
        }
    }

    #[test]
    fn all_hear_what_each_says() {
        let heard = threads::run(3, |processes| {
            let all = processes.gather(vec![f64::NAN, processes.rank() as f64]);
            (all.unwrap(), processes.any(processes.rank() == 2).unwrap())
        });
        for (all, any) in heard {
            let ranks: Vec<f64> = all.iter().map(|said| said[1]).collect();
            assert_eq!(ranks, [0.0, 1.0, 2.0]);
            assert!(all.iter().all(|said| said[0].is_nan()) && any);
        }
    }
}
