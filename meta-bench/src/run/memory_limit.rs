//! `train.memory`: ends a run that grows too large before the machine swaps.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    failure::CommandError,
    machine::{available_bytes, resident_bytes},
    output::units::bytes_text,
};

/// Resident memory when it first exceeded the limit; 0 before.
static EXCEEDED: AtomicU64 = AtomicU64::new(0);

/// Time between two looks at the memory of this process.
const TICK: Duration = Duration::from_millis(100);

/// Whether the run must save itself and end, because of its memory.
pub fn is_exceeded() -> bool {
    EXCEEDED.load(Ordering::Relaxed) > 0
}

/// What a run may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryLimit {
    bytes: u64,
    given: bool,
}

/// A limit that was exceeded.
pub struct Exceeded {
    limit: MemoryLimit,
    used: u64,
}

impl MemoryLimit {
    /// The limit that `train.memory`, in MB, sets; 0: nine tenths of `available` bytes, where they are
    /// known.
    fn of(megabytes: u64, available: Option<u64>) -> Option<Self> {
        let bytes = match megabytes {
            0 => (available? as f64 * 0.9) as u64,
            given => given.saturating_mul(1_000_000),
        };
        Some(MemoryLimit {
            bytes,
            given: megabytes > 0,
        })
    }

    /// Starts to look at the memory of this process. Above the limit, [`is_exceeded`] asks the run to save
    /// itself after the iteration it is in; a tenth above it, the process ends at once, with its last
    /// checkpoint.
    ///
    /// None where the system does not say what a process takes.
    pub fn watch(megabytes: u64) -> Option<Self> {
        let limit = Self::of(megabytes, available_bytes())?;
        resident_bytes()?;
        std::thread::Builder::new()
            .name("memory".to_owned())
            .spawn(move || limit.look())
            .ok()?;
        Some(limit)
    }

    fn look(self) {
        loop {
            let used = resident_bytes().unwrap_or(0);
            if used > self.bytes {
                EXCEEDED.store(used, Ordering::Relaxed);
            }
            if used > self.bytes.saturating_add(self.bytes / 10) {
                let exceeded = Exceeded { limit: self, used };
                eprintln!(
                    "error: {}; stopped in the middle of an iteration; the last checkpoint is kept",
                    exceeded.text()
                );
                std::process::exit(2);
            }
            std::thread::sleep(TICK);
        }
    }

    /// By how much it was exceeded, if it was.
    pub fn exceeded_by(self) -> Option<Exceeded> {
        let used = EXCEEDED.load(Ordering::Relaxed);
        (used > 0).then_some(Exceeded { limit: self, used })
    }
}

impl Exceeded {
    fn text(&self) -> String {
        let of = match self.limit.given {
            true => "",
            false => " (nine tenths of what was available at the start)",
        };
        format!(
            "the run takes {} of memory, more than its limit train.memory of {}{of}",
            bytes_text(self.used),
            bytes_text(self.limit.bytes),
        )
    }

    /// Why the run in `folder` ended after `iteration`, where it is saved.
    pub fn ended(&self, folder: &Path, iteration: u64) -> CommandError {
        CommandError::Usage(format!(
            "{}; {} is saved after iteration {iteration}: continue it with --resume and a smaller \
             train.task_chunk or test.chunk, or a larger train.memory",
            self.text(),
            folder.display(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_what_was_given_or_nine_tenths() {
        let bytes = |limit: Option<MemoryLimit>| limit.map(|limit| limit.bytes);
        assert_eq!(bytes(MemoryLimit::of(0, Some(1000))), Some(900));
        assert_eq!(bytes(MemoryLimit::of(5, Some(1000))), Some(5_000_000));
        assert_eq!(bytes(MemoryLimit::of(u64::MAX, None)), Some(u64::MAX));
        assert_eq!(MemoryLimit::of(0, None), None);
    }
}
