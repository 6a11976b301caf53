//! `docs/manifest.md`: the manifest reference, from the lists and the doc comments of the settings.
//!
//! Keys and defaults come from the lists that the binary itself uses; the meaning of a key is the
//! doc comment of the field, read from the sources of the repository. A group of settings finds its
//! struct by its keys: the struct whose public fields are exactly those; among several, the one that
//! bears its name (`meta_sgd`: `MetaSgdSettings`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use meta_algos::LearnerEntry;
use meta_core::{
    Error, data::sources, nn::encoder::encoders, settings::Settings, train::TrainSettings,
};
use serde_json::Value;

use crate::{
    failure::{Failure, Result},
    manifest::{DataSettings, RunSettings, TestSettings, toml},
    sweep::SlurmSettings,
};

/// A struct of the sources: its public fields with their doc comments.
#[derive(Default)]
struct Struct {
    fields: Vec<(String, String)>,
    /// Types of `#[serde(flatten)]` fields.
    flattened: Vec<String>,
}

/// Doc comments of all structs, found by their keys.
pub struct DocComments {
    structs: BTreeMap<String, Struct>,
}

impl DocComments {
    /// Reads the sources of the repository at `root`.
    ///
    /// # Errors
    /// When there are none.
    pub fn read(root: &Path) -> Result<Self> {
        let mut structs = BTreeMap::new();
        for package in ["meta-core", "meta-algos", "meta-bench"] {
            for file in rust_files(&root.join(package).join("src"))? {
                let text =
                    fs::read_to_string(&file).map_err(|error| Error::io(&file, "read", error))?;
                parse_structs(&text, &mut structs);
            }
        }
        Ok(DocComments { structs })
    }

    fn fields(&self, name: &str) -> Vec<(String, String)> {
        let Some(found) = self.structs.get(name) else {
            return Vec::new();
        };
        let inner = found.flattened.iter().flat_map(|inner| self.fields(inner));
        found.fields.iter().cloned().chain(inner).collect()
    }

    /// Fields and doc comments of the struct whose fields are the keys of `defaults`, in their order;
    /// among several structs, that of the group called `name`.
    ///
    /// # Errors
    /// When there is no such struct, or one of its fields has no doc comment.
    fn of(&self, name: &str, title: &str, defaults: &Value) -> Result<Vec<(String, String)>> {
        let keys: BTreeSet<String> = defaults
            .as_object()
            .into_iter()
            .flat_map(|object| object.keys().cloned())
            .collect();
        let own = format!("{}settings", name.replace('_', ""));
        let fields = self
            .structs
            .keys()
            .map(|name| (name, self.fields(name)))
            .filter(|(_, fields)| {
                let names: BTreeSet<String> = fields.iter().map(|(name, _)| name.clone()).collect();
                names == keys
            })
            .max_by_key(|(name, _)| name.to_lowercase() == own)
            .map(|(_, fields)| fields)
            .ok_or_else(|| {
                Failure::Usage(format!(
                    "no struct in the sources has the keys of {title}: {keys:?}"
                ))
            })?;
        match fields.iter().find(|(_, doc)| doc.is_empty()) {
            Some((field, _)) => Err(Failure::Usage(format!(
                "`{field}` of {title} has no doc comment"
            ))),
            None => Ok(fields),
        }
    }
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).map_err(|error| Error::io(folder, "read the sources in", error))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// Finds `pub struct Name {` with its `pub field: Type,` lines, as rustfmt lays them out.
fn parse_structs(text: &str, structs: &mut BTreeMap<String, Struct>) {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line
            .strip_prefix("pub struct ")
            .and_then(|rest| rest.strip_suffix(" {"))
        else {
            continue;
        };
        let mut found = Struct::default();
        let mut doc: Vec<&str> = Vec::new();
        let mut flatten = false;
        for line in lines.by_ref() {
            let line_text = line.trim();
            if line == "}" {
                break;
            } else if let Some(comment) = line_text.strip_prefix("///") {
                doc.push(comment.trim());
            } else if line_text == "#[serde(flatten)]" {
                flatten = true;
            } else if let Some((field, kind)) = line_text
                .strip_prefix("pub ")
                .and_then(|rest| rest.split_once(": "))
            {
                match flatten {
                    true => found.flattened.push(kind.trim_end_matches(',').to_owned()),
                    false => found.fields.push((field.to_owned(), doc.join(" "))),
                }
                doc.clear();
                flatten = false;
            }
        }
        structs.insert(name.to_owned(), found);
    }
}

/// The whole reference.
///
/// # Errors
/// When a key has no doc comment.
pub fn manifest_reference(root: &Path, learners: &[LearnerEntry]) -> Result<String> {
    let docs = DocComments::read(root)?;
    let mut out = String::from(
        "# Manifest reference\n\n\
         Written by `meta docs manifest > docs/manifest.md` from the lists and the doc comments of \
         the settings; a test fails when it is stale.\n\n\
         A manifest is a TOML file. Every key has a default, so an empty file is a manifest. Later \
         layers win: defaults, the manifests that `extends = \"base.toml\"` names (or a list of them), \
         the file, `key.path=value` on the command line. `meta check MANIFEST` shows every value with \
         its origin. `[sweep]` is in [sweeps](sweeps.md).\n",
    );
    let mut section = |name: &str, title: &str, note: &str, defaults: &Value| -> Result<()> {
        let fields = docs.of(name, title, defaults)?;
        out.push_str(&format!("\n{title}\n\n"));
        if !note.is_empty() {
            out.push_str(&format!("{note}\n\n"));
        }
        if fields.is_empty() {
            return Ok(());
        }
        out.push_str("| key | default | meaning |\n|---|---|---|\n");
        for (field, doc) in fields {
            let default = toml(&defaults[&field]).unwrap_or_else(|| "not set".to_owned());
            let meaning = plain_links(&doc).replace('|', "\\|");
            out.push_str(&format!("| `{field}` | `{default}` | {meaning} |\n"));
        }
        Ok(())
    };
    section("run", "## Top of the file", "", &RunSettings::defaults())?;
    section(
        "data",
        "## `[data]`",
        "These keys, and in the same table those of the chosen source.",
        &DataSettings::defaults(),
    )?;
    for entry in sources() {
        let title = format!("### `source = \"{}\"`", entry.name);
        section(entry.name, &title, entry.summary, &(entry.default_config)())?;
    }
    for info in encoders() {
        let title = format!("## `[encoder]`, `name = \"{}\"`", info.name);
        let note = format!("{}. {}.", capitalised(info.summary), info.paper);
        section(info.name, &title, &note, &(info.default_settings)())?;
    }
    for entry in learners {
        let title = format!("## `[learner]`, `name = \"{}\"`", entry.info.name);
        let note = format!("{}. {}.", capitalised(entry.info.summary), entry.info.paper);
        section(entry.info.name, &title, &note, &entry.default_settings)?;
    }
    section("train", "## `[train]`", "", &TrainSettings::defaults())?;
    section("test", "## `[test]`", "", &TestSettings::defaults())?;
    section(
        "slurm",
        "## `[slurm]`",
        "For `meta sweep --launcher slurm`; no part of a run.",
        &SlurmSettings::defaults(),
    )?;
    Ok(out)
}

/// Rustdoc's [`Name`] without the brackets, which mean nothing outside of it.
fn plain_links(doc: &str) -> String {
    doc.replace("[`", "`").replace("`]", "`")
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_are_found_with_docs_and_flattened_fields() {
        let mut structs = BTreeMap::new();
        let text = "pub struct Outer {\n    /// One\n    /// thing.\n    pub one: usize,\n    /// More.\n    \
                    #[serde(flatten)]\n    pub inner: Inner,\n}\npub struct Inner {\n    /// Two.\n    \
                    pub two: f64,\n}\n";
        parse_structs(text, &mut structs);
        let docs = DocComments { structs };
        let fields = docs
            .of("outer", "x", &serde_json::json!({ "one": 1, "two": 2.0 }))
            .unwrap();
        let expected = [("one", "One thing."), ("two", "Two.")];
        assert_eq!(
            fields,
            expected.map(|(field, doc)| (field.to_owned(), doc.to_owned()))
        );
        let absent = docs.of("outer", "x", &serde_json::json!({ "three": 3 }));
        assert!(absent.is_err());
    }

    #[test]
    fn among_structs_of_the_same_keys_the_name_decides() {
        let mut structs = BTreeMap::new();
        for (name, doc) in [
            ("AbSettings", "first"),
            ("MetaSgdSettings", "own"),
            ("Z", "last"),
        ] {
            let text = format!("pub struct {name} {{\n    /// {doc}.\n    pub lr: f64,\n}}\n");
            parse_structs(&text, &mut structs);
        }
        let docs = DocComments { structs };
        let found = docs.of("meta_sgd", "x", &serde_json::json!({ "lr": 1 }));
        assert_eq!(found.unwrap(), [("lr".to_owned(), "own.".to_owned())]);
    }
}
