//! Evaluations of a finished run besides its own test, kept beside it: `evals/<hash>.json`, one each.
//!
//! The hash is the identity of an evaluation: its settings, the content of its data, and the parameters
//! that were tested. The same evaluation again takes the place of the earlier one. A file vouches for
//! itself: it begins with the hash of the rest, in the form
//! `{"checksum":"<64 digits>","evaluation":{…}}`.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use meta_core::{
    Error,
    files::{read_regular, write_atomically},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{folder::EVALS, result::TestResult};

type Result<T> = std::result::Result<T, Error>;

/// The largest file of an evaluation, and how many are read of one run.
const MOST_BYTES: u64 = 1 << 30;
const MOST_FILES: usize = 10_000;

/// What a file begins with, what follows the 64 digits of its checksum, and what it ends with.
const BEFORE: &str = "{\"checksum\":\"";
const BETWEEN: &str = "\",\"evaluation\":";
const AFTER: &str = "}\n";
const DIGITS: usize = 64;

/// An evaluation of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evaluation {
    /// Its identity.
    pub hash: String,
    /// Whether it repeats the run's own test.
    pub is_own_test: bool,
    /// Where it was tested, where that is not the data of the run: the name of a manifest, or a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// The manifest whose experiment it is, where one was given that has the learner of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<String>,
    /// The settings that it was tested with.
    pub manifest: Value,
    /// What there is to know about the data.
    pub data: Value,
    /// The result.
    pub result: TestResult,
    /// The scores of every episode, as [`SCORES`](super::folder::SCORES) has them.
    pub scores: Value,
}

impl Evaluation {
    /// The first digits of its identity.
    pub fn short(&self) -> &str {
        self.hash.get(..12).unwrap_or(&self.hash)
    }

    /// Its file in the run folder at `run`.
    pub fn path(&self, run: &Path) -> PathBuf {
        run.join(EVALS).join(format!("{}.json", self.hash))
    }

    /// Writes it into the run folder at `run`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, run: &Path) -> Result<()> {
        let folder = run.join(EVALS);
        fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, "create folder", error))?;
        let text = serde_json::to_string(self).expect("an evaluation serialises");
        let checksum = blake3::hash(text.as_bytes()).to_hex();
        let file = format!("{BEFORE}{checksum}{BETWEEN}{text}{AFTER}");
        write_atomically(&self.path(run), file.as_bytes())
    }

    /// Reads the one at `path`, and checks that it is as it was written.
    ///
    /// # Errors
    /// When it cannot be read, or has changed.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_regular(path, MOST_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        let damaged = |what: &str| Error::data(path, what);
        let rest = text.strip_prefix(BEFORE);
        let parts = rest.and_then(|rest| Some((rest.get(..DIGITS)?, rest.get(DIGITS..)?)));
        let inner = parts.and_then(|(checksum, rest)| {
            let inner = rest.strip_prefix(BETWEEN)?.strip_suffix(AFTER)?;
            Some((checksum, inner))
        });
        let Some((checksum, inner)) = inner else {
            return Err(damaged(
                "is damaged: expected an evaluation with its checksum",
            ));
        };
        if blake3::hash(inner.as_bytes()).to_hex().as_str() != checksum {
            return Err(damaged(
                "has changed since it was written: its checksum is another",
            ));
        }
        let evaluation: Evaluation = serde_json::from_str(inner)
            .map_err(|error| damaged(&format!("is not an evaluation: {error}")))?;
        match path.file_name() == evaluation.path(Path::new("")).file_name() {
            true => Ok(evaluation),
            false => Err(damaged("has another name than it was written with")),
        }
    }
}

/// Whether a file of evaluations may be called this.
fn is_name(name: &str) -> bool {
    let digits = name.strip_suffix(".json");
    digits.is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// The evaluations of the run in `folder`, by identity: each, or what is wrong with it.
///
/// # Errors
/// When the folder cannot be read, or holds more than can be.
pub fn all(folder: &Path) -> Result<Vec<Result<Evaluation>>> {
    let path = folder.join(EVALS);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(&path, "open", error)),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| is_name(name))
        .take(MOST_FILES + 1)
        .collect();
    if names.len() > MOST_FILES {
        let many = format!("holds more than {MOST_FILES} evaluations");
        return Err(Error::data(&path, many));
    }
    names.sort();
    Ok(names
        .iter()
        .map(|name| Evaluation::read(&path.join(name)))
        .collect())
}

/// Checks the evaluations of the run in `folder`.
///
/// # Errors
/// Naming the first one that is not as it was written.
pub fn verify(folder: &Path) -> Result<()> {
    all(folder)?.into_iter().try_for_each(|read| read.map(drop))
}
