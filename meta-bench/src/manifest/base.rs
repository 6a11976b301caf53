//! Reads manifest files, and those that they extend (`extends = "base.toml"`).
//!
//! The values of an extended file, but for its name, are below those of the manifest. Every value keeps
//! the file and line that gave it. `[sweep]` and `[slurm]` are no part of a run: sweeps read them.

use std::path::{Path, PathBuf};

use meta_core::{Error, files::read_text};
use serde_json::Value;

use super::{layer::Layer, origin::Origin, text::parse};
use crate::failure::{CommandError, Result};

/// Tables that say how runs are made and started, not what one is.
const SWEEP_TABLES: [&str; 2] = ["sweep", "slurm"];

/// The largest manifest.
const MOST_BYTES: u64 = 16 << 20;
/// Files that one manifest may read, those that it extends several times counted as often.
const MOST_FILES: usize = 1000;
/// Files that may extend each other in a row.
const MOST_LEVELS: usize = 64;

/// A manifest file as it was read.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its path, as it was named.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// A manifest and all that it extends, parsed and not yet resolved.
#[derive(Clone, Debug)]
pub struct Base {
    /// The files, the first extended one first and the manifest itself last.
    pub documents: Vec<Document>,
    /// The name of the manifest's file, without its ending.
    pub stem: String,
    /// The values, those of the first extended file first.
    pub layers: Vec<Layer>,
    /// Where a table for `meta sweep` starts, if there is one.
    pub sweep: Option<Origin>,
}

impl Base {
    /// Reads the manifest at `path` and what it extends.
    ///
    /// # Errors
    /// A file that cannot be read or is not TOML; files that extend each other in a circle, or too many.
    pub fn read(path: &Path) -> Result<Self> {
        Self::of(path, &read_text(path, MOST_BYTES)?)
    }

    /// The same for a manifest whose text is `text`.
    ///
    /// # Errors
    /// As [`Base::read`].
    pub fn of(path: &Path, text: &str) -> Result<Self> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut base = Base {
            documents: Vec::new(),
            stem: stem.into_owned(),
            layers: Vec::new(),
            sweep: None,
        };
        base.push(path, text, &mut Vec::new())?;
        Ok(base)
    }

    fn push(&mut self, path: &Path, text: &str, open: &mut Vec<PathBuf>) -> Result<()> {
        let identity = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        open.push(identity);
        let mut own = Vec::new();
        for given in parse(path, text)? {
            let origin = Origin::File {
                path: path.display().to_string(),
                line: given.line,
            };
            if given.section.is_empty() && given.key == "extends" {
                for name in names(&given.value, &origin)? {
                    let extended = path.parent().unwrap_or(Path::new("")).join(&name);
                    self.extend(&extended, &name, &origin, open)?;
                }
            } else if SWEEP_TABLES.contains(&given.section.as_str())
                || (given.section.is_empty() && SWEEP_TABLES.contains(&given.key.as_str()))
            {
                let sweeps = given.section == "sweep" || given.key == "sweep";
                if sweeps && self.sweep.is_none() {
                    self.sweep = Some(origin);
                }
            } else if open.len() > 1 && given.section.is_empty() && given.key == "name" {
                // A label of that file alone.
            } else {
                own.push(Layer {
                    section: given.section,
                    key: given.key,
                    value: given.value,
                    origin,
                    level: 0,
                });
            }
        }
        let level = self.documents.len();
        self.layers
            .extend(own.into_iter().map(|layer| Layer { level, ..layer }));
        self.documents.push(Document {
            path: path.to_owned(),
            text: text.to_owned(),
        });
        open.pop();
        Ok(())
    }

    fn extend(
        &mut self,
        path: &Path,
        name: &str,
        origin: &Origin,
        open: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let refuse = |expected: String| CommandError::At {
            origin: origin.to_string(),
            error: Error::setting("extends", format!("{name:?}"), expected),
        };
        if open.len() >= MOST_LEVELS {
            return Err(refuse(format!(
                "more than {MOST_LEVELS} manifests extend each other in a row"
            )));
        }
        if self.documents.len() + open.len() >= MOST_FILES {
            return Err(refuse(format!(
                "more than {MOST_FILES} files are extended; one that is extended on several ways is read \
                 once for each"
            )));
        }
        let text = read_text(path, MOST_BYTES).map_err(|error| refuse(error.to_string()))?;
        let identity = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if open.contains(&identity) {
            return Err(refuse(
                "extends itself, through the manifests in between".to_owned(),
            ));
        }
        self.push(path, &text, open)
    }
}

/// The names that `extends` gives: one, or a list.
fn names(value: &Value, origin: &Origin) -> Result<Vec<String>> {
    let many = value.as_array().cloned().unwrap_or(vec![value.clone()]);
    many.iter()
        .map(|name| {
            let name = name.as_str().filter(|name| !name.is_empty());
            name.map(str::to_owned).ok_or_else(|| CommandError::At {
                origin: origin.to_string(),
                error: Error::setting(
                    "extends",
                    value,
                    "expected the path of a manifest, or a list of paths",
                ),
            })
        })
        .collect()
}
