//! Writes what people and programs see: standard output, tables, progress, units, charts, named files.

pub mod chart;
pub mod palette;
pub mod progress;
mod status_line;
pub mod table;
pub mod target;
pub mod units;

use std::{io::Write, path::Path};

use meta_core::Error;

use crate::failure::Result;

/// Prints to stdout; a reader that has gone (`meta list | head -1`) is no error.
///
/// # Errors
/// When stdout cannot be written, as on a full disk.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io(Path::new("stdout"), "write", error).into())
        }
        _ => Ok(()),
    }
}
