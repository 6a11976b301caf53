//! Runs this program as a subprocess, to isolate measurements and crashes.

use std::process::{Command, ExitStatus, Stdio};

use serde::de::DeserializeOwned;

/// Why a subprocess returned nothing.
pub enum SubprocessError {
    /// What it wrote to stderr, or what kept it from starting or its output from being read.
    Message(String),
    /// It ended without a message.
    Ended(ExitStatus),
}

/// Starts this program with the arguments that `prepare` adds, and returns the JSON that it prints.
///
/// # Errors
/// [`SubprocessError`].
pub fn json_output<T: DeserializeOwned>(
    prepare: impl FnOnce(&mut Command),
) -> Result<T, SubprocessError> {
    let message = |error: &dyn std::fmt::Display| SubprocessError::Message(error.to_string());
    let program = std::env::current_exe().map_err(|error| message(&error))?;
    let mut command = Command::new(program);
    prepare(&mut command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| message(&error))?;
    if output.status.success() {
        return serde_json::from_slice(&output.stdout).map_err(|error| message(&error));
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(match errors.trim().trim_start_matches("error: ") {
        "" => SubprocessError::Ended(output.status),
        message => SubprocessError::Message(message.to_owned()),
    })
}
