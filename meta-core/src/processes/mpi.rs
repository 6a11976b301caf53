//! Processes that talk by MPI: those that `mpirun` or `srun` started together.
//!
//! What MPI cannot do, such as reaching a process that is gone, ends all processes: that is its rule, and the
//! launcher says which one it was.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mpi::{
    Threading, collective::SystemOperation, environment::Universe, topology::SimpleCommunicator,
    traits::*,
};

use super::Transport;
use crate::{Error, Result};

/// The most bytes of a piece of a message: MPI counts in 32 bits.
const PIECE: usize = 1 << 30;

/// All processes of the launcher.
pub struct Mpi {
    rank: usize,
    count: usize,
    /// One call at a time, from whatever thread. MPI is left when this is dropped.
    universe: Mutex<Universe>,
}

impl Mpi {
    /// Meets the other processes; returns when all are there.
    ///
    /// # Errors
    /// When MPI was met before in this process, or cannot be called from more than one thread.
    pub fn start() -> Result<Self> {
        let failed = |message: &str| Error::Processes {
            message: message.to_owned(),
        };
        let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)
            .ok_or_else(|| failed("MPI was started in this process before"))?;
        if threading < Threading::Serialized {
            return Err(failed(
                "this MPI takes calls from one thread alone; expected MPI_THREAD_SERIALIZED",
            ));
        }
        let world = universe.world();
        Ok(Mpi {
            rank: world.rank() as usize,
            count: world.size() as usize,
            universe: Mutex::new(universe),
        })
    }

    /// Calls MPI, while no other thread does.
    fn call<R>(&self, call: impl FnOnce(SimpleCommunicator) -> R) -> R {
        let universe: MutexGuard<Universe> =
            self.universe.lock().unwrap_or_else(PoisonError::into_inner);
        call(universe.world())
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    /// In pieces: one that is full is followed by another.
    fn send(&self, to: usize, message: &[u8]) -> Result<()> {
        self.call(|world| {
            let to = world.process_at_rank(to as i32);
            for piece in message.chunks(PIECE) {
                to.send(piece);
            }
            if message.len().is_multiple_of(PIECE) {
                to.send::<[u8]>(&[]);
            }
        });
        Ok(())
    }

    fn receive(&self, from: usize) -> Result<Vec<u8>> {
        Ok(self.call(|world| {
            let from = world.process_at_rank(from as i32);
            let (mut message, _) = from.receive_vec::<u8>();
            let mut last = message.len();
            while last == PIECE {
                let (piece, _) = from.receive_vec::<u8>();
                last = piece.len();
                message.extend(piece);
            }
            message
        }))
    }

    /// The length first, then the message in pieces.
    fn broadcast(&self, from: usize, mut message: Vec<u8>) -> Result<Vec<u8>> {
        self.call(|world| {
            let from = world.process_at_rank(from as i32);
            let mut length = message.len() as u64;
            from.broadcast_into(&mut length);
            message.resize(length as usize, 0);
            for piece in message.chunks_mut(PIECE) {
                from.broadcast_into(piece);
            }
        });
        Ok(message)
    }

    /// Of integers, whose order does not matter.
    fn any(&self, own: bool) -> Result<bool> {
        Ok(self.call(|world| {
            let (own, mut any) = (u8::from(own), 0u8);
            world.all_reduce_into(&own, &mut any, SystemOperation::max());
            any > 0
        }))
    }

    fn end(&self, code: i32) -> ! {
        self.call(|world| world.abort(code))
    }
}
