//! Writes what people and programs see: standard output, tables, progress, units, pictures, named files.

pub mod chart;
pub mod drawing;
pub mod event_file;
pub mod figure;
pub mod pace;
pub mod progress;
pub mod protobuf;
pub mod status_line;
pub mod table;
pub mod target;
pub mod text;
pub mod units;

use std::{io::Write, path::Path};

use meta_core::Error;

use crate::failure::Result;

/// Prints to stdout, with hidden letters shown ([`text::visible_lines`]); a reader that has gone (`meta list | head -1`) is no error.
///
/// # Errors
/// When stdout cannot be written, as on a full disk.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let text = text::visible_lines(text);
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io(Path::new("stdout"), "write", error).into())
        }
        _ => Ok(()),
    }
}
