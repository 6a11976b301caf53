//! Reads what was added to a file of lines since it was read last.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    path::PathBuf,
};

use meta_core::files::open_regular;

/// Bytes before the place that say whether it is still the file that was read.
const KEPT: usize = 64;
/// The longest line; longer ones are left out.
const LONGEST: usize = 1 << 20;
/// Bytes that are read at once.
const CHUNK: usize = 1 << 16;

/// A file of lines, and how far it is read.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    path: PathBuf,
    offset: u64,
    /// The bytes just before the place.
    before: Vec<u8>,
    /// The beginning of a line whose end is not there yet.
    begun: Vec<u8>,
    /// Whether that line is too long.
    skipping: bool,
}

/// What a look at a file found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing that is new.
    Nothing,
    /// More lines.
    More,
    /// Another beginning: what was read before no longer holds.
    Anew,
}

impl Tail {
    /// The file at `path`, from its beginning.
    pub fn new(path: PathBuf) -> Self {
        Tail {
            path,
            ..Tail::default()
        }
    }

    /// Gives each whole line that is new to `line`, without its end, as long as `budget` bytes last. Where
    /// the file was cut or written anew, it starts again from its beginning, after `anew` was called.
    ///
    /// # Errors
    /// When the file cannot be read. One that is not there has nothing.
    pub fn read<T>(
        &mut self,
        budget: &mut usize,
        of: &mut T,
        anew: impl FnOnce(&mut T),
        mut line: impl FnMut(&mut T, &[u8]),
    ) -> io::Result<Found> {
        let mut found = Found::Nothing;
        let Some((mut file, length)) = self.open()? else {
            if self.offset > 0 {
                self.restart();
                anew(of);
                return Ok(Found::Anew);
            }
            return Ok(found);
        };
        if length == self.offset || *budget == 0 {
            return Ok(found);
        }
        if length < self.offset || !self.is_same(&mut file)? {
            self.restart();
            anew(of);
            found = Found::Anew;
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut chunk = vec![0; CHUNK.min(*budget)];
        while *budget > 0 && self.offset < length {
            let most = chunk.len().min(*budget);
            let read = file.read(&mut chunk[..most])?;
            if read == 0 {
                break;
            }
            *budget -= read;
            self.offset += read as u64;
            if self.take(&chunk[..read], |text| line(of, text)) && found == Found::Nothing {
                found = Found::More;
            }
        }
        Ok(found)
    }

    fn open(&self) -> io::Result<Option<(File, u64)>> {
        if !self.path.exists() {
            return Ok(None);
        }
        let file = open_regular(&self.path, u64::MAX)
            .map_err(|error| io::Error::other(error.to_string()))?
            .into_inner();
        let length = file.metadata()?.len();
        Ok(Some((file, length)))
    }

    fn restart(&mut self) {
        *self = Tail::new(std::mem::take(&mut self.path));
    }

    /// Whether the bytes before the place are those that were read.
    fn is_same(&self, file: &mut File) -> io::Result<bool> {
        let mut there = vec![0; self.before.len()];
        file.seek(SeekFrom::Start(self.offset - there.len() as u64))?;
        match file.read_exact(&mut there) {
            Ok(()) => Ok(there == self.before),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes bytes that were read; whether a line ended.
    fn take(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) -> bool {
        let kept = bytes.len().min(KEPT);
        self.before.extend_from_slice(&bytes[bytes.len() - kept..]);
        let surplus = self.before.len().saturating_sub(KEPT);
        self.before.drain(..surplus);
        let mut ended = false;
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            if !self.skipping && self.begun.is_empty() {
                line(&bytes[..end]);
            } else if !self.skipping {
                self.begun.extend_from_slice(&bytes[..end]);
                line(&self.begun);
            }
            self.begun.clear();
            self.skipping = false;
            ended = true;
            bytes = &bytes[end + 1..];
        }
        if self.begun.len() + bytes.len() > LONGEST {
            self.begun.clear();
            self.skipping = true;
        } else if !self.skipping {
            self.begun.extend_from_slice(bytes);
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn look(tail: &mut Tail, budget: usize) -> (Found, Vec<String>) {
        let mut lines = vec!["old".to_owned()];
        let found = tail
            .read(&mut { budget }, &mut lines, Vec::clear, |lines, line| {
                lines.push(String::from_utf8_lossy(line).into_owned());
            })
            .unwrap();
        (found, lines)
    }

    #[test]
    fn only_what_is_new_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut tail = Tail::new(path.clone());
        assert_eq!(look(&mut tail, 100), (Found::Nothing, vec!["old".into()]));
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        let all = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
        assert_eq!(look(&mut tail, 100), (Found::More, all(&["old", "one"])));
        assert_eq!(look(&mut tail, 100), (Found::Nothing, all(&["old"])));
        file.write_all(b"o\nthree\n").unwrap();
        // As far as the budget lasts.
        assert_eq!(look(&mut tail, 3), (Found::More, all(&["old", "two"])));
        assert_eq!(look(&mut tail, 100), (Found::More, all(&["old", "three"])));
        // Cut, and written anew with the same length.
        fs::write(&path, "one\n").unwrap();
        assert_eq!(look(&mut tail, 100), (Found::Anew, all(&["one"])));
        fs::write(&path, "eno\nmore\n").unwrap();
        assert_eq!(look(&mut tail, 100), (Found::Anew, all(&["eno", "more"])));
        fs::remove_file(&path).unwrap();
        assert_eq!(look(&mut tail, 100), (Found::Anew, Vec::new()));
    }

    #[test]
    fn a_line_without_an_end_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut text = vec![b'x'; 3 * LONGEST];
        text.extend_from_slice(b"\nnext\n");
        fs::write(&path, text).unwrap();
        let mut tail = Tail::new(path);
        let (found, lines) = look(&mut tail, usize::MAX);
        assert_eq!(
            (found, lines),
            (Found::More, vec!["old".into(), "next".into()])
        );
        assert!(tail.begun.capacity() <= 2 * LONGEST);
    }
}
