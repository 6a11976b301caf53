//! This program, started once more: what is measured, or may not survive, has a process of its own.

use std::process::{Command, ExitStatus, Stdio};

use serde::de::DeserializeOwned;

/// Why there is no answer.
pub enum Trouble {
    /// What the process said, or what stopped it from starting or its answer from being read.
    Said(String),
    /// It said nothing.
    Ended(ExitStatus),
}

/// What this program prints as JSON when it is started with what `prepare` adds to its command.
///
/// # Errors
/// [`Trouble`].
pub fn answer<T: DeserializeOwned>(prepare: impl FnOnce(&mut Command)) -> Result<T, Trouble> {
    let said = |error: &dyn std::fmt::Display| Trouble::Said(error.to_string());
    let program = std::env::current_exe().map_err(|error| said(&error))?;
    let mut command = Command::new(program);
    prepare(&mut command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| said(&error))?;
    if output.status.success() {
        return serde_json::from_slice(&output.stdout).map_err(|error| said(&error));
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(match message.trim().trim_start_matches("error: ") {
        "" => Trouble::Ended(output.status),
        message => Trouble::Said(message.to_owned()),
    })
}
