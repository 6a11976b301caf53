//! Ctrl-C and the other signals that ask a run to end.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::failure::{CommandError, Result};

/// Set by the first signal: training saves its state after the iteration it is in, and stops.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// How long a run may take to save itself.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Listens for signals. The first one sets [`STOP`]; a second one, or ten seconds in which the run has not
/// come to the end of its iteration, end the process at once, which loses nothing that was saved.
///
/// # Errors
/// When the system refuses.
pub fn listen() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            end("interrupted twice");
        }
        // Where no thread can be started, a second signal is left.
        let waiting = std::thread::Builder::new().spawn(|| {
            std::thread::sleep(PATIENCE);
            end("interrupted, and the iteration did not end within ten seconds");
        });
        drop(waiting);
    })
    .map_err(|error| CommandError::Usage(format!("cannot listen for Ctrl-C: {error}")))
}

fn end(why: &str) -> ! {
    eprintln!("error: {why}; stopped at once; what was saved is kept, continue it with --resume");
    std::process::exit(130)
}
