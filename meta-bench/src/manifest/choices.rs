//! Finds which settings a manifest has: they follow from the source, encoder, learner and optimiser that
//! it chooses.

use meta_core::{
    Error,
    settings::{Field, Settings},
    toolkit::Catalogue,
    train::TrainSettings,
};
use serde_json::{Value, json};

use super::{
    entries::Entry,
    layer::Layer,
    origin::Origin,
    settings::{
        DataSettings, PublishedSettings, RunSettings, TestSettings, TrackingSettings,
        WeightSettings,
    },
    text::dotted,
};
use crate::failure::{CommandError, Result};

/// One of a list, with its own settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Its name.
    pub name: String,
    /// All its settings, an object.
    pub settings: Value,
}

/// The encoder of a manifest that names none.
const DEFAULT_ENCODER: &str = "conv4";
/// The learner of a manifest that names none.
const DEFAULT_LEARNER: &str = "protonet";

/// Sections whose keys depend on a choice, and the key of the choice.
const CHOICES: [(&str, &str); 4] = [
    ("data", "source"),
    ("encoder", "name"),
    ("learner", "name"),
    ("train", "optimizer"),
];

/// The name that the last layer gives at `section.key`, else `default`; it must be in `known`.
fn choose<'a>(
    layers: &[Layer],
    section: &str,
    key: &str,
    kind: &'static str,
    default: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Result<String> {
    let given = layers
        .iter()
        .rev()
        .find(|layer| layer.section == section && layer.key == key);
    let Some(layer) = given else {
        return Ok(default.to_owned());
    };
    let at = |error| CommandError::At {
        origin: layer.origin.to_string(),
        error,
    };
    let name = layer.value.as_str().ok_or_else(|| {
        at(Error::setting(
            dotted(section, key),
            &layer.value,
            format!("expected the name of a {kind}, a string"),
        ))
    })?;
    if known.clone().any(|candidate| candidate == name) {
        Ok(name.to_owned())
    } else {
        Err(at(Error::unknown(kind, name, known)))
    }
}

/// Every key that a manifest with these choices has, with its default.
///
/// # Errors
/// When one of the choices does not exist.
pub fn default_entries(layers: &[Layer], stem: &str, catalogue: &Catalogue) -> Result<Vec<Entry>> {
    let chosen = |section: &str, key: &str, kind: &'static str| {
        let names = catalogue_names(section, catalogue);
        let default = default_choice(section);
        choose(layers, section, key, kind, default, names.iter().copied())
    };
    let source = chosen("data", "source", "data source")?;
    let encoder = chosen("encoder", "name", "encoder")?;
    let learner = chosen("learner", "name", "learner")?;
    let optimizer = chosen("train", "optimizer", "optimizer")?;
    let named = |name: &str| json!({ "name": name });
    let run = RunSettings {
        name: stem.to_owned(),
        ..RunSettings::default()
    };
    let data = DataSettings {
        source: source.clone(),
        ..DataSettings::default()
    };
    let train = TrainSettings {
        optimizer: optimizer.clone(),
        ..TrainSettings::default()
    };
    let own = |section: &'static str, name: &str| {
        let (defaults, fields) = own_settings(section, name, catalogue);
        (section, defaults, fields)
    };
    let groups: [(&'static str, Value, Vec<Field>); 13] = [
        ("", run.to_value(), RunSettings::fields()),
        ("data", data.to_value(), DataSettings::fields()),
        own("data", &source),
        ("encoder", named(&encoder), Vec::new()),
        (
            "encoder",
            WeightSettings::defaults(),
            WeightSettings::fields(),
        ),
        own("encoder", &encoder),
        ("learner", named(&learner), Vec::new()),
        own("learner", &learner),
        ("train", train.to_value(), TrainSettings::fields()),
        own("train", &optimizer),
        ("test", TestSettings::defaults(), TestSettings::fields()),
        (
            "tracking",
            TrackingSettings::defaults(),
            TrackingSettings::fields(),
        ),
        (
            "published",
            PublishedSettings::defaults(),
            PublishedSettings::fields(),
        ),
    ];
    let mut entries: Vec<Entry> = Vec::new();
    for (section, defaults, fields) in groups {
        let mut defaults: Vec<(&String, &Value)> =
            defaults.as_object().into_iter().flatten().collect();
        // The choice first: what else there is depends on it.
        defaults.sort_by_key(|(key, _)| !["name", "source"].contains(&key.as_str()));
        for (key, value) in defaults {
            // A choice's own setting never hides one that all have.
            let known = |entry: &Entry| entry.section == section && entry.key == *key;
            if !entries.iter().any(known) {
                let added = |field: &Field| field.name == key && field.added.is_some();
                entries.push(Entry {
                    section,
                    key: key.clone(),
                    value: value.clone(),
                    origin: Origin::Default,
                    left_out_at: fields.iter().any(added).then(|| value.clone()),
                });
            }
        }
    }
    Ok(entries)
}

/// The names that a section's choice can be.
fn catalogue_names(section: &str, catalogue: &Catalogue) -> Vec<&'static str> {
    match section {
        "data" => catalogue.sources.iter().map(|entry| entry.name).collect(),
        "encoder" => catalogue
            .encoders
            .iter()
            .map(|entry| entry.info.name)
            .collect(),
        "train" => catalogue
            .optimizers
            .iter()
            .map(|entry| entry.name)
            .collect(),
        _ => catalogue
            .learners
            .iter()
            .map(|entry| entry.info.name)
            .collect(),
    }
}

/// The defaults of what a choice of `section` brings along, and its fields; null where there is no such
/// choice.
fn own_settings(section: &str, name: &str, catalogue: &Catalogue) -> (Value, Vec<Field>) {
    let found = match section {
        "data" => catalogue
            .sources
            .iter()
            .find(|entry| entry.name == name)
            .map(|entry| ((entry.default_settings)(), (entry.fields)())),
        "encoder" => catalogue
            .encoders
            .iter()
            .find(|entry| entry.info.name == name)
            .map(|entry| ((entry.default_settings)(), (entry.fields)())),
        "train" => catalogue
            .optimizers
            .iter()
            .find(|entry| entry.name == name)
            .map(|entry| ((entry.default_settings)(), (entry.fields)())),
        _ => catalogue
            .learners
            .iter()
            .find(|entry| entry.info.name == name)
            .map(|entry| (entry.default_settings.clone(), entry.fields.clone())),
    };
    found.unwrap_or_default()
}

/// The row of `CHOICES` that `section.key` makes.
pub fn choice(section: &str, key: &str) -> Option<(&'static str, &'static str)> {
    CHOICES.into_iter().find(|row| *row == (section, key))
}

/// Whether `layer` sets what only an earlier choice has: it was right where it stands, and a later
/// layer chose something else.
pub fn falls_away(
    layer: &Layer,
    entries: &[Entry],
    chosen: &[(usize, &'static str, String)],
    catalogue: &Catalogue,
) -> bool {
    let known = |entry: &Entry| entry.section == layer.section && entry.key == layer.key;
    if entries.iter().any(known) {
        return false;
    }
    let Some((section, _)) = CHOICES.into_iter().find(|row| row.0 == layer.section) else {
        return false;
    };
    let (earlier, later): (Vec<_>, Vec<_>) = chosen
        .iter()
        .filter(|(_, of, _)| *of == section)
        .partition(|(level, ..)| *level <= layer.level);
    let before = match earlier.last() {
        Some((_, _, name)) => name.clone(),
        None => default_choice(section).to_owned(),
    };
    !later.is_empty()
        && own_settings(section, &before, catalogue)
            .0
            .get(&layer.key)
            .is_some()
}

fn default_choice(section: &str) -> &'static str {
    match section {
        "data" => "glyphs",
        "encoder" => DEFAULT_ENCODER,
        "train" => "adam",
        _ => DEFAULT_LEARNER,
    }
}
