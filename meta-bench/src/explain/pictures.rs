//! Writes the folder of pictures.

use std::{
    fs,
    path::{Path, PathBuf},
};

use meta_core::{Error, files::write_atomically};

use crate::{
    failure::{CommandError, Result},
    output::{drawing::Drawing, print},
};

/// The file with the numbers.
pub const NUMBERS: &str = "explain.json";

/// Refuses to write over what is there, unless it is what this command wrote and `force` is given.
///
/// # Errors
/// With what can be done.
pub fn check_target(out: &Path, force: bool) -> Result<()> {
    if !out.exists() {
        return Ok(());
    }
    let refused = |expected: &str| {
        Err(CommandError::Usage(format!(
            "{}: exists already; {expected}",
            out.display()
        )))
    };
    match (out.join(NUMBERS).exists(), force) {
        (true, true) => Ok(()),
        (true, false) => refused("--force replaces it, --out names another folder"),
        (false, _) => {
            refused("it was not made by `meta explain`, so --out must name another folder")
        }
    }
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

    /// Writes the folder, all or nothing, and prints what is in it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        let parent = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        fs::create_dir_all(&parent).map_err(|error| Error::io(&parent, "create folder", error))?;
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        let beside = |what: &str| parent.join(format!(".{name}.{}.{what}", std::process::id()));
        let (temporary, old) = (beside("tmp"), beside("old"));
        let made = self.fill(&temporary).and_then(|()| {
            if out.exists() {
                fs::rename(out, &old).map_err(|error| Error::io(out, "replace", error))?;
            }
            fs::rename(&temporary, out).map_err(|error| Error::io(out, "create folder", error))?;
            Ok(())
        });
        if made.is_err() {
            // Best effort: the reason to report is the first one.
            let _ = fs::remove_dir_all(&temporary);
            if !out.exists() {
                let _ = fs::rename(&old, out);
            }
        }
        made?;
        if old.exists() {
            fs::remove_dir_all(&old).map_err(|error| Error::io(&old, "remove", error))?;
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
        print(&text)
    }

    fn fill(&self, folder: &Path) -> Result<()> {
        fs::create_dir(folder).map_err(|error| Error::io(folder, "create folder", error))?;
        for (name, bytes) in &self.files {
            write_atomically(&folder.join(name), bytes)?;
        }
        Ok(())
    }
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
        let pictures = |text: &str| Pictures {
            files: vec![(NUMBERS.to_owned(), text.as_bytes().to_vec())],
            sentences: Vec::new(),
        };
        pictures("one").write(&out).unwrap();
        let message = check_target(&out, false).unwrap_err().to_string();
        assert!(message.contains("--force replaces it"), "{message}");
        check_target(&out, true).unwrap();
        pictures("two").write(&out).unwrap();
        assert_eq!(fs::read_to_string(out.join(NUMBERS)).unwrap(), "two");
        assert_eq!(
            fs::read_dir(root.path()).unwrap().count(),
            1,
            "nothing else is left"
        );
        let message = check_target(root.path(), true).unwrap_err().to_string();
        assert!(message.contains("not made by `meta explain`"), "{message}");
    }
}
