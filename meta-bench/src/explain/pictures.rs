//! Writes the folder of pictures.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use meta_core::{
    Error,
    files::{create_folder_beside, temporary_of, write_atomically},
};
use serde_json::Value;

use crate::{
    failure::{CommandError, Result},
    output::{drawing::Drawing, print},
    run::folder::EXPLAIN_NUMBERS as NUMBERS,
};

/// What the numbers say they are.
pub const KIND: &str = "meta explain";

/// Refuses to write over what is there, unless it is what this command wrote and `force` is given.
///
/// # Errors
/// With what can be done.
pub fn check_target(out: &Path, force: bool) -> Result<()> {
    if fs::symlink_metadata(out).is_err() {
        return Ok(());
    }
    let refused = |expected: &str| {
        Err(CommandError::Usage(format!(
            "{}: exists already; {expected}",
            out.display()
        )))
    };
    match (written(out), force) {
        (None, _) => {
            refused("it was not made by `meta explain`, so --out must name another folder")
        }
        (Some(_), false) => refused("--force replaces it, --out names another folder"),
        (Some(written), true) => match other_than(out, &written)? {
            None => Ok(()),
            Some(name) => refused(&format!(
                "`meta explain` did not write its `{name}`: move that elsewhere, or name another folder \
                 with --out"
            )),
        },
    }
}

/// The files that `meta explain` wrote into `folder`, by its numbers; none where it wrote nothing.
fn written(folder: &Path) -> Option<HashSet<String>> {
    let numbers = fs::read(folder.join(NUMBERS)).ok()?;
    let numbers: Value = serde_json::from_slice(&numbers).ok()?;
    if numbers["kind"] != KIND {
        return None;
    }
    let mut files = HashSet::from([NUMBERS.to_owned()]);
    pictures(&numbers, &mut files);
    Some(files)
}

/// Adds the files of all pictures that `numbers` name.
fn pictures(numbers: &Value, files: &mut HashSet<String>) {
    match numbers {
        Value::Array(items) => items.iter().for_each(|item| pictures(item, files)),
        Value::Object(entries) => {
            for (key, value) in entries {
                if key == "pictures" {
                    for name in value
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(Value::as_str)
                    {
                        files.extend(["png", "svg", "html"].map(|form| format!("{name}.{form}")));
                    }
                } else {
                    pictures(value, files);
                }
            }
        }
        _ => {}
    }
}

/// The first thing in `folder` that is not one of the files that were `written`.
fn other_than(folder: &Path, written: &HashSet<String>) -> Result<Option<String>> {
    let entries = fs::read_dir(folder).map_err(|error| Error::io(folder, "read", error))?;
    let mut others: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            let file = temporary_of(name).unwrap_or(name);
            folder.join(name).is_dir() || !written.contains(file)
        })
        .collect();
    others.sort();
    Ok(others.into_iter().next())
}

/// A name as part of a file's name.
pub fn slug(name: &str) -> String {
    let letters = name.chars().map(|letter| {
        if letter.is_ascii_alphanumeric() {
            letter.to_ascii_lowercase()
        } else {
            '-'
        }
    });
    let dashed: String = letters.collect();
    let words: Vec<&str> = dashed.split('-').filter(|word| !word.is_empty()).collect();
    words.join("-")
}

/// Everything that goes into the folder.
#[derive(Default)]
pub struct Pictures {
    /// Names and contents of files.
    pub files: Vec<(String, Vec<u8>)>,
    /// What is printed about them.
    pub sentences: Vec<String>,
}

impl Pictures {
    /// Adds a picture in both forms under a name that is not taken; returns the name.
    ///
    /// # Errors
    /// When it is too large for a PNG file.
    pub fn add(&mut self, name: &str, drawing: &Drawing) -> Result<String> {
        let taken = |name: &str| {
            self.files
                .iter()
                .any(|(file, _)| *file == format!("{name}.svg"))
        };
        let name = (1..)
            .map(|number| match number {
                1 => name.to_owned(),
                _ => format!("{name}-{number}"),
            })
            .find(|name| !taken(name))
            .expect("numbers do not end");
        let png = drawing.to_png().ok_or_else(|| {
            CommandError::Usage(format!("{name}: the picture is too large for a PNG file"))
        })?;
        self.files.push((format!("{name}.png"), png));
        let svg = drawing.to_svg().into_bytes();
        self.files.push((format!("{name}.svg"), svg));
        Ok(name)
    }

    /// Writes the folder, and prints what is in it.
    ///
    /// # Errors
    /// As [`Pictures::put`].
    pub fn write(&self, out: &Path) -> Result<()> {
        print(&self.put(out)?)
    }

    /// Writes the folder, all or nothing, over nothing but what [`check_target`] lets pass; says what is in it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, out: &Path) -> Result<String> {
        let parent = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        fs::create_dir_all(&parent).map_err(|error| Error::io(&parent, "create folder", error))?;
        let temporary = create_folder_beside(out)?;
        let mut old = None;
        let made = self.fill(&temporary).and_then(|()| {
            if out.exists() {
                let aside = create_folder_beside(out)?;
                fs::rename(out, &aside).map_err(|error| Error::io(out, "replace", error))?;
                old = Some(aside);
            }
            fs::rename(&temporary, out).map_err(|error| Error::io(out, "create folder", error))?;
            Ok(())
        });
        if made.is_err() {
            // Best effort: the reason to report is the first one.
            let _ = fs::remove_dir_all(&temporary);
            if let Some(old) = &old {
                let _ = fs::rename(old, out);
            }
        }
        made?;
        if let Some(old) = old {
            remove_written(&old)?;
        }
        let pictures = self
            .files
            .iter()
            .filter(|(name, _)| name.ends_with(".svg"))
            .count();
        let mut text = format!("{}: {pictures} pictures, and {NUMBERS}\n", out.display());
        for sentence in &self.sentences {
            text.push_str(&format!("{sentence}\n"));
        }
        Ok(text)
    }

    fn fill(&self, folder: &Path) -> Result<()> {
        for (name, bytes) in &self.files {
            write_atomically(&folder.join(name), bytes)?;
        }
        Ok(())
    }
}

/// Removes what `meta explain` wrote into `folder`, file by file, and the folder.
fn remove_written(folder: &Path) -> Result<()> {
    let removed = written(folder)
        .unwrap_or_default()
        .iter()
        .map(|name| folder.join(name))
        .filter(|path| path.exists())
        .try_for_each(fs::remove_file)
        .and_then(|()| fs::remove_dir(folder));
    removed.map_err(|error| Error::io(folder, "remove", error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_maps_are_names_of_files() {
        assert_eq!(
            slug("encoder.block 1, inducing"),
            "encoder-block-1-inducing"
        );
        assert_eq!(slug("Support → query"), "support-query");
    }

    /// A folder that this command did not write is never replaced.
    #[test]
    fn what_is_there_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        check_target(&out, false).unwrap();
        let text = |number: u8| {
            let maps = serde_json::json!([{ "pictures": [format!("map-{number}")] }]);
            serde_json::json!({ "kind": KIND, "episodes": [{ "maps": maps }] }).to_string()
        };
        let pictures = |number: u8| Pictures {
            files: vec![
                (NUMBERS.to_owned(), text(number).into_bytes()),
                (format!("map-{number}.svg"), Vec::new()),
            ],
            sentences: Vec::new(),
        };
        pictures(1).write(&out).unwrap();
        let message = check_target(&out, false).unwrap_err().to_string();
        assert!(message.contains("--force replaces it"), "{message}");
        check_target(&out, true).unwrap();
        pictures(2).write(&out).unwrap();
        assert_eq!(fs::read_to_string(out.join(NUMBERS)).unwrap(), text(2));
        assert!(!out.join("map-1.svg").exists());
        assert_eq!(
            fs::read_dir(root.path()).unwrap().count(),
            1,
            "nothing else is left"
        );
        fs::write(out.join("thesis.txt"), "x").unwrap();
        let message = check_target(&out, true).unwrap_err().to_string();
        assert!(
            message.contains("did not write its `thesis.txt`"),
            "{message}"
        );
        fs::write(root.path().join(NUMBERS), "{}").unwrap();
        let message = check_target(root.path(), true).unwrap_err().to_string();
        assert!(message.contains("not made by `meta explain`"), "{message}");
    }
}
