//! Ctrl-C and the other signals that ask a run to end; and a file that asks for it from another machine.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use meta_core::files::write_atomically;

use super::folder::STOP_REQUEST;
use crate::failure::{CommandError, Result};

/// Set by the first signal: training saves its state after the iteration it is in, and stops.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// How long a run may take to save itself.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the process that works on the run in `folder`, on whatever machine, to end as at the first signal.
///
/// # Errors
/// When the folder cannot be written.
pub fn ask(folder: &Path) -> Result<()> {
    let who = format!("process {}\n", std::process::id());
    Ok(write_atomically(
        &folder.join(STOP_REQUEST),
        who.as_bytes(),
    )?)
}

/// Whether the run in `folder` is asked to end.
pub fn is_asked(folder: &Path) -> bool {
    folder.join(STOP_REQUEST).exists()
}

/// Forgets that the run in `folder` was asked to end: it has, or begins.
pub fn forget(folder: &Path) {
    // Most often there is nothing; and what cannot be removed ends the next session, which is said there.
    let _ = std::fs::remove_file(folder.join(STOP_REQUEST));
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_asked_by_a_file() {
        let folder = tempfile::tempdir().unwrap();
        forget(folder.path());
        assert!(!is_asked(folder.path()));
        ask(folder.path()).unwrap();
        ask(folder.path()).unwrap();
        assert!(is_asked(folder.path()));
        forget(folder.path());
        assert!(!is_asked(folder.path()));
        ask(&folder.path().join("absent")).unwrap_err();
    }
}
