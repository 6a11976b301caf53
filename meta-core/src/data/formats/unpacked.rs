//! Text of files, packed with gzip or not, up to a stated number of bytes.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};
use crate::files::open_regular;

/// The most text that is read of a file.
pub const MAXIMUM_TEXT: u64 = 1 << 32;
/// The longest line.
const MAXIMUM_LINE: u64 = 1 << 26;

/// A file that is unpacked while it is read.
pub type Unpacked = Limited<Box<dyn Read>>;

/// Opens a file; `.gz` is unpacked. Beside it its name in lower case, without `.gz`.
///
/// # Errors
/// Those of [`open_regular`].
pub fn open_unpacked(path: &Path, limit: u64) -> Result<(String, Unpacked)> {
    let file = BufReader::new(open_regular(path, limit)?);
    let name = path.to_string_lossy().to_ascii_lowercase();
    let (name, text): (&str, Box<dyn Read>) = match name.strip_suffix(".gz") {
        Some(name) => (name, Box::new(MultiGzDecoder::new(file))),
        None => (&name, Box::new(file)),
    };
    Ok((name.to_owned(), Limited::new(text, limit)))
}

/// All text of a file, without a byte order mark.
///
/// # Errors
/// [`Error::Data`] for more than `limit` bytes, a damaged archive, or what is not UTF-8.
pub fn read_unpacked(path: &Path, limit: u64) -> Result<String> {
    let (_, mut text) = open_unpacked(path, limit)?;
    let mut bytes = Vec::new();
    let read = text.read_to_end(&mut bytes);
    read.map_err(|error| Error::data(path, format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        Error::data(path, format!("is not text in UTF-8 (byte {place})"))
    })?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// Bytes that are refused beyond a number.
pub struct Limited<R> {
    bytes: R,
    limit: u64,
    left: u64,
}

impl<R> Limited<R> {
    /// At most `limit` of these bytes.
    pub fn new(bytes: R, limit: u64) -> Self {
        Limited {
            bytes,
            limit,
            left: limit,
        }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, place: &mut [u8]) -> std::io::Result<usize> {
        let read = self.bytes.read(place)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            std::io::Error::other(format!("it has more than {} bytes of text", self.limit))
        })?;
        Ok(read)
    }
}

/// The lines of a text, one at a time.
pub struct Lines<'a> {
    path: &'a Path,
    text: BufReader<Unpacked>,
    line: Vec<u8>,
    number: u64,
}

impl<'a> Lines<'a> {
    /// The lines of the file at `path`, unpacked.
    ///
    /// # Errors
    /// As [`open_unpacked`].
    pub fn open(path: &'a Path) -> Result<Self> {
        let (_, text) = open_unpacked(path, MAXIMUM_TEXT)?;
        Ok(Lines::of(path, text))
    }

    /// The lines of what has been opened at `path`.
    pub fn of(path: &'a Path, text: Unpacked) -> Self {
        Lines {
            path,
            text: BufReader::new(text),
            line: Vec::new(),
            number: 0,
        }
    }

    /// The next line with its number from 1, without its end; nothing after the last one.
    ///
    /// # Errors
    /// [`Error::Data`] naming the line: too long, not UTF-8, or damaged.
    pub fn next_line(&mut self) -> Result<Option<(u64, &str)>> {
        self.number += 1;
        let number = self.number;
        let fault = |reason: String| Error::data(self.path, format!("line {number} {reason}"));
        self.line.clear();
        let read = (&mut self.text)
            .take(MAXIMUM_LINE)
            .read_until(b'\n', &mut self.line);
        let read = read.map_err(|error| fault(format!("cannot be read: {error}")))?;
        if read == 0 {
            return Ok(None);
        }
        if read as u64 == MAXIMUM_LINE {
            return Err(fault(format!("has more than {MAXIMUM_LINE} bytes")));
        }
        let line = std::str::from_utf8(&self.line);
        let line = line.map_err(|_| fault("is not UTF-8".to_owned()))?;
        let line = line.trim_end_matches(['\n', '\r']);
        let line = if number == 1 {
            line.trim_start_matches('\u{feff}')
        } else {
            line
        };
        Ok(Some((number, line)))
    }
}
