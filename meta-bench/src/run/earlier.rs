//! What was trained before: a run that differs in nothing but its test is not trained again.

use std::path::{Path, PathBuf};

use meta_core::toolkit::Toolkit;
use serde_json::{Value, json};

use super::{
    folder::{self, read_json},
    state::{State, folders},
};
use crate::{experiment::Experiment, failure::Result};

/// What the folder of run folders says of a run that has no folder yet.
pub enum Earlier {
    /// This finished run of the same name is trained as it says.
    Trained(PathBuf),
    /// A run of the same name is another one: how, in words.
    Differs(String),
}

/// Looks beside `path`, the folder that the run of `experiment` would get.
///
/// # Errors
/// When a folder cannot be read.
pub fn find<T: Toolkit>(experiment: &Experiment<T>, path: &Path) -> Result<Option<Earlier>> {
    let name = &experiment.manifest.run.name;
    let mut found: Vec<PathBuf> = folders(path.parent().unwrap_or(Path::new(".")))
        .into_values()
        .collect();
    found.sort();
    let mut differs = None;
    for other in found {
        // What is damaged, or not a run, is named where runs are read.
        let Ok(record) = read_json(&other.join(folder::RECORD)) else {
            continue;
        };
        if record["name"] != json!(name) {
            continue;
        }
        match difference(experiment, &record) {
            None if State::of(&other) == State::Finished => {
                return Ok(Some(Earlier::Trained(other)));
            }
            Some(difference) if differs.is_none() => {
                differs = Some(format!("{difference} ({})", other.display()));
            }
            _ => {}
        }
    }
    Ok(differs.map(Earlier::Differs))
}

/// Whether the run in `folder` is trained as `experiment` says.
///
/// # Errors
/// When its record cannot be read.
pub fn is_trained_as<T: Toolkit>(folder: &Path, experiment: &Experiment<T>) -> Result<bool> {
    let record = read_json(&folder.join(folder::RECORD))?;
    Ok(difference(experiment, &record).is_none())
}

/// The first thing that training depends on and that is another one in a record, in words.
fn difference<T: Toolkit>(experiment: &Experiment<T>, record: &Value) -> Option<String> {
    let manifest = experiment.manifest.with_bounds_of(&record["manifest"]);
    let key = manifest.first_training_difference_from(&record["manifest"]);
    let shown = |(key, here, there)| format!("`{key}` is {here} here and {there} there");
    key.map(shown).or_else(|| {
        let content = experiment.source.content_hash();
        let differs = record["data"]["content"] != json!(content);
        differs.then(|| "the data differs".to_owned())
    })
}
