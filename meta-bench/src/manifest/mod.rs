//! Manifests: what a run is, as a TOML file, with the origin of every value.
//!
//! A manifest is resolved in layers, each over the one before: defaults, the files that it extends,
//! the file itself, overrides (`key.path=value`). Sources, encoders and learners bring their own
//! settings: which keys `[data]`, `[encoder]` and `[learner]` have depends on which of them is chosen.
//! Where a later layer chooses another one, what an earlier layer set for the earlier choice alone
//! falls away.

mod base;
mod text;

use std::{collections::BTreeMap, path::Path};

use meta_core::{
    Error,
    backend::{ComputeTarget, Precision},
    data::{EpisodeShape, Split},
    settings,
    settings::{Field, Settings, unknown_key},
    toolkit::Catalogue,
    train::TrainSettings,
};
use serde_json::{Map, Value, json};

use crate::failure::{CommandError, Result};
pub use base::{Base, Document, Layer};
use text::dotted;
pub use text::{json, parse as given, parse_value, syntax, toml};

settings! {
    /// Settings at the top of a manifest.
    pub struct RunSettings {
        /// Name of the run, the first part of its folder's name: letters, digits, `-`, `_`, `.`.
        /// Default: the name of the manifest's file.
        name: String = "run".to_owned();
        /// Seed of the initial parameters and of the training episodes.
        seed: u64 = 0;
        /// Backend that computes, where compiled in: `flex`, `ndarray`, `wgpu`, `vulkan`, `cuda`,
        /// `rocm` or `tch`.
        backend: String = "flex".to_owned();
        /// Number of the backend's device, from 0. Not part of the run's identity.
        device: usize = 0;
        /// Format of all tensors: `f32` or `f64`; `f16` and `bf16`, where the device has them,
        /// evaluate but do not train.
        precision: Precision = Precision::F32;
        /// Threads of the CPU backends, 0 for one per core. Changes no result, and so is not part
        /// of the run's identity.
        threads: usize = 0;
    }
}

impl RunSettings {
    /// Where to compute.
    pub fn target(&self) -> ComputeTarget {
        ComputeTarget {
            backend: self.backend.clone(),
            device: self.device,
            precision: self.precision,
        }
    }
}

settings! {
    /// Settings of `[data]` that every source has; the source's own follow.
    pub struct DataSettings {
        /// Name of the data source; `meta list data` shows them.
        source: String = "glyphs".to_owned();
        /// Classes of a task; 1 for regression.
        way: usize = 5;
        /// Support items of a class.
        shot: usize = 1;
        /// Query items of a class.
        query: usize = 15;
        /// Classes of a training task. 0: as `way`.
        train_way: usize = 0;
        /// Support items of a class in training. 0: as `shot`.
        train_shot: usize = 0;
        /// Query items of a class in training. 0: as `query`.
        train_query: usize = 0;
    }
}

impl DataSettings {
    /// Shape of the validation and test episodes.
    pub fn test_shape(&self) -> EpisodeShape {
        EpisodeShape::new(self.way, self.shot, self.query)
    }

    /// Shape of the training episodes.
    pub fn train_shape(&self) -> EpisodeShape {
        let or = |train: usize, test: usize| if train == 0 { test } else { train };
        EpisodeShape::new(
            or(self.train_way, self.way),
            or(self.train_shot, self.shot),
            or(self.train_query, self.query),
        )
    }
}

settings! {
    /// Settings of the test.
    pub struct TestSettings {
        /// Frozen episodes of the test.
        episodes: usize = 600, at_least(2);
        /// Part of the source that is tested: `test` or `validation`.
        split: Split = Split::Test;
        /// Seed of the frozen validation and test episodes. Apart from the run's `seed`, so that
        /// runs with other seeds are compared on the same episodes.
        seed: u64 = 0;
        /// Tasks that are evaluated at once, on a CPU in up to four graphs side by side. 0: all.
        /// Bounds memory; changes only rounding.
        chunk: usize = 20;
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave it.
    Default,
    /// A manifest, and the line.
    File {
        /// The manifest as it was named.
        path: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// An override.
    CommandLine,
    /// As a record of the manifest says.
    Recorded(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            Origin::File { path, line } => write!(formatter, "{path}:{line}"),
            Origin::CommandLine => formatter.write_str("command line"),
            Origin::Recorded(origin) => formatter.write_str(origin),
        }
    }
}

/// One of a list, with its own settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Its name.
    pub name: String,
    /// All its settings, an object.
    pub settings: Value,
}

/// A resolved manifest: every key has its value and its origin.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Settings at the top.
    pub run: RunSettings,
    /// Settings of `[data]` that every source has.
    pub data: DataSettings,
    /// The source and its own settings.
    pub source: Chosen,
    /// The encoder and its settings.
    pub encoder: Chosen,
    /// The learner and its settings.
    pub learner: Chosen,
    /// Settings of the outer loop.
    pub train: TrainSettings,
    /// The outer optimiser and the settings that only it has.
    pub optimizer: Chosen,
    /// Settings of the test.
    pub test: TestSettings,
    /// Where the manifest has a `[sweep]`, if it has one.
    pub sweep: Option<String>,
    entries: Vec<Entry>,
}

/// A key with its value and origin.
#[derive(Clone, Debug)]
struct Entry {
    section: &'static str,
    key: String,
    value: Value,
    origin: Origin,
    /// The value at which a key that older manifests lack is no part of the identity.
    left_out_at: Option<Value>,
}

impl Entry {
    fn dotted(&self) -> String {
        dotted(self.section, &self.key)
    }
}

/// Sections of a manifest in their order; the empty one is the top.
const SECTIONS: [&str; 6] = ["", "data", "encoder", "learner", "train", "test"];

/// Keys that change no result: `name` is a label, and the others say where and how fast. What lies at
/// `data.path` enters the identity by its content.
const NOT_IDENTITY: [&str; 6] = [
    "name",
    "device",
    "threads",
    "data.path",
    "data.cache_dir",
    "train.graphs_at_once",
];
/// Keys that bound memory and change nothing but rounding: a run may go on with others.
const BOUNDS: [&str; 3] = ["train.task_chunk", "train.chunk_memory", "test.chunk"];

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

impl Manifest {
    /// Reads the manifest at `path` and resolves it with `overrides` (`key.path=value`).
    ///
    /// # Errors
    /// A manifest that cannot be read or is not TOML; a key that does not exist, with the nearest one;
    /// a value of the wrong type; a source, encoder or learner that does not exist. Each names file
    /// and line, or the command line.
    pub fn resolve(path: &Path, overrides: &[String], catalogue: &Catalogue) -> Result<Self> {
        Self::resolve_base(&Base::read(path)?, overrides, catalogue)
    }

    fn resolve_base(base: &Base, overrides: &[String], catalogue: &Catalogue) -> Result<Self> {
        let layers: Vec<Layer> = overrides
            .iter()
            .map(|text| Layer::parse(text))
            .collect::<Result<_>>()?;
        base.resolve(&layers, catalogue)
    }

    /// The manifest whose [`Manifest::values`] and [`Manifest::origins`] were recorded.
    ///
    /// # Errors
    /// When they are not those of a manifest of this version.
    pub fn from_record(
        values: &Value,
        origins: &BTreeMap<String, String>,
        catalogue: &Catalogue,
    ) -> Result<Self> {
        let layers = flat(values)
            .filter(|(_, value)| !value.is_null())
            .map(|(path, value)| {
                let origin = match origins.get(&path).map(String::as_str) {
                    None | Some("default") => Origin::Default,
                    Some(origin) => Origin::Recorded(origin.to_owned()),
                };
                Layer::new(&path, value.clone(), origin)
            })
            .collect();
        Self::from_layers(layers, "run", catalogue)
    }

    fn from_layers(layers: Vec<Layer>, stem: &str, catalogue: &Catalogue) -> Result<Self> {
        let mut entries = default_entries(&layers, stem, catalogue)?;
        let chosen: Vec<(usize, &'static str, String)> = layers
            .iter()
            .filter_map(|layer| {
                let (section, _) = choice(&layer.section, &layer.key)?;
                Some((layer.level, section, layer.value.as_str()?.to_owned()))
            })
            .collect();
        for layer in layers {
            if !falls_away(&layer, &entries, &chosen, catalogue) {
                apply(&mut entries, layer)?;
            }
        }
        Self::from_entries(entries)
    }

    /// The same manifest with `overrides` on top.
    ///
    /// # Errors
    /// As [`Manifest::resolve`].
    pub fn with_overrides(&self, overrides: &[String]) -> Result<Self> {
        let mut entries = self.entries.clone();
        for text in overrides {
            apply(&mut entries, Layer::parse(text)?)?;
        }
        Self::from_entries(entries)
    }

    fn from_entries(entries: Vec<Entry>) -> Result<Self> {
        let object = |section: &str, keep: &dyn Fn(&str) -> bool| {
            let map: Map<String, Value> = entries
                .iter()
                .filter(|entry| entry.section == section && keep(&entry.key))
                .map(|entry| (entry.key.clone(), entry.value.clone()))
                .collect();
            Value::Object(map)
        };
        let all = |_: &str| true;
        let chosen = |section: &str, name_key: &str, keep: &dyn Fn(&str) -> bool| {
            let name = entries
                .iter()
                .find(|entry| entry.section == section && entry.key == name_key)
                .and_then(|entry| entry.value.as_str())
                .unwrap_or_default();
            Chosen {
                name: name.to_owned(),
                settings: object(section, keep),
            }
        };
        let fields = |fields: Vec<Field>| -> Vec<&'static str> {
            fields.iter().map(|field| field.name).collect()
        };
        let (of_data, of_train) = (
            fields(DataSettings::fields()),
            fields(TrainSettings::fields()),
        );
        let is_common = |key: &str| of_data.contains(&key);
        let of_loop = |key: &str| of_train.contains(&key);
        let at = |error| locate(&entries, error);
        let run = RunSettings::from_value("", &object("", &all)).map_err(at)?;
        let valid =
            |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if run.name.is_empty() || run.name.starts_with('.') || !run.name.chars().all(valid) {
            return Err(at(Error::setting(
                "name",
                &run.name,
                "expected letters, digits, `-`, `_` and `.`, not starting with `.`",
            )));
        }
        let data = DataSettings::from_value("data", &object("data", &is_common)).map_err(at)?;
        let train = TrainSettings::from_value("train", &object("train", &of_loop)).map_err(at)?;
        let test = TestSettings::from_value("test", &object("test", &all)).map_err(at)?;
        train.check().map_err(at)?;
        Ok(Manifest {
            run,
            data,
            source: chosen("data", "source", &|key| !is_common(key)),
            encoder: chosen("encoder", "name", &|key| key != "name"),
            learner: chosen("learner", "name", &|key| key != "name"),
            optimizer: chosen("train", "optimizer", &|key| !of_loop(key)),
            train,
            test,
            sweep: None,
            entries,
        })
    }

    /// Adds to `error` where the setting at fault was given.
    pub fn locate(&self, error: Error) -> CommandError {
        locate(&self.entries, error)
    }

    /// Hash of everything that results depend on, the identity of a run: the values, and the content
    /// of the data ([`meta_core::data::Source::content_hash`]).
    pub fn hash(&self, data_content: &str) -> String {
        let lines: BTreeMap<String, String> = self
            .identity()
            .map(|entry| (entry.dotted(), entry.value.to_string()))
            .collect();
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("manifest 1\n{data_content}\n").as_bytes());
        for (key, value) in lines {
            hasher.update(format!("{key}={value}\n").as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Keys that change no result.
    pub fn is_identity(key: &str) -> bool {
        !NOT_IDENTITY.contains(&key)
    }

    /// The same with the bounds of memory of `other`, which is the [`Manifest::values`] of a manifest.
    pub fn with_bounds_of(&self, other: &Value) -> Self {
        let mut manifest = self.clone();
        for entry in &mut manifest.entries {
            let there = &other[entry.section][&entry.key];
            if BOUNDS.contains(&entry.dotted().as_str()) && !there.is_null() {
                entry.value = there.clone();
            }
        }
        manifest
    }

    fn identity(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|entry| Self::is_identity(&entry.dotted()))
            .filter(|entry| entry.left_out_at.as_ref() != Some(&entry.value))
    }

    /// The first value that results depend on and that is another one in `other`, which is the
    /// [`Manifest::values`] of a manifest: key, value here, value there.
    pub fn first_difference_from(&self, other: &Value) -> Option<(String, String, String)> {
        let shown = |value: &Value| toml(value).unwrap_or_else(|| "nothing".to_owned());
        self.identity().find_map(|entry| {
            let there = match entry.section {
                "" => &other[&entry.key],
                section => &other[section][&entry.key],
            };
            let differs = *there != entry.value;
            differs.then(|| (entry.dotted(), shown(&entry.value), shown(there)))
        })
    }

    /// The value at `key` (`learner.inner_lr`), where there is one.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.entries
            .iter()
            .find(|entry| entry.dotted() == key)
            .map(|entry| &entry.value)
    }

    /// All values, as one object of objects.
    pub fn values(&self) -> Value {
        let mut root = json!({});
        for entry in &self.entries {
            match entry.section {
                "" => root[&entry.key] = entry.value.clone(),
                section => root[section][&entry.key] = entry.value.clone(),
            }
        }
        root
    }

    /// The origin of every value, by dotted key.
    pub fn origins(&self) -> BTreeMap<String, String> {
        self.entries
            .iter()
            .map(|entry| (entry.dotted(), entry.origin.to_string()))
            .collect()
    }

    /// The resolved manifest as TOML, with the origin of every value as a comment.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for section in SECTIONS {
            if !section.is_empty() {
                out.push_str(&format!("\n[{section}]\n"));
            }
            let lines: Vec<(String, &Origin)> = self
                .entries
                .iter()
                .filter(|entry| entry.section == section)
                .map(|entry| {
                    let line = match toml(&entry.value) {
                        Some(value) => format!("{} = {value}", entry.key),
                        None => format!("# {} is not set", entry.key),
                    };
                    (line, &entry.origin)
                })
                .collect();
            let width = lines
                .iter()
                .map(|(line, _)| line.chars().count())
                .filter(|&width| width <= 40)
                .max()
                .unwrap_or(0);
            for (line, origin) in lines {
                let space = " ".repeat(width.saturating_sub(line.chars().count()));
                out.push_str(&format!("{line}{space}  # {origin}\n"));
            }
        }
        out
    }
}

/// The origin of the setting that `error` is about, if somebody gave it, in front of the error.
fn locate(entries: &[Entry], error: Error) -> CommandError {
    let key = match &error {
        Error::Setting { key, .. } => key.clone(),
        Error::Backend { .. } => "backend".to_owned(),
        Error::Unknown { kind, .. } => match *kind {
            "backend" => "backend".to_owned(),
            "encoder" | "learner" => format!("{kind}.name"),
            _ => return CommandError::Core(error),
        },
        _ => return CommandError::Core(error),
    };
    match entries.iter().find(|entry| entry.dotted() == key) {
        Some(entry) if entry.origin != Origin::Default => CommandError::At {
            origin: entry.origin.to_string(),
            error,
        },
        _ => CommandError::Core(error),
    }
}

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
fn default_entries(layers: &[Layer], stem: &str, catalogue: &Catalogue) -> Result<Vec<Entry>> {
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
    let own = |section: &str, name: &str| own_settings(section, name, catalogue);
    let groups: [(&'static str, Value, Vec<Field>); 10] = [
        ("", run.to_value(), RunSettings::fields()),
        ("data", data.to_value(), DataSettings::fields()),
        ("data", own("data", &source).0, own("data", &source).1),
        ("encoder", named(&encoder), Vec::new()),
        (
            "encoder",
            own("encoder", &encoder).0,
            own("encoder", &encoder).1,
        ),
        ("learner", named(&learner), Vec::new()),
        (
            "learner",
            own("learner", &learner).0,
            own("learner", &learner).1,
        ),
        ("train", train.to_value(), TrainSettings::fields()),
        (
            "train",
            own("train", &optimizer).0,
            own("train", &optimizer).1,
        ),
        ("test", TestSettings::defaults(), TestSettings::fields()),
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

/// The row of [`CHOICES`] that `section.key` makes.
fn choice(section: &str, key: &str) -> Option<(&'static str, &'static str)> {
    CHOICES.into_iter().find(|row| *row == (section, key))
}

/// Whether `layer` sets what only an earlier choice has: it was right where it stands, and a later
/// layer chose something else.
fn falls_away(
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

/// Every `section.key` of a manifest's values with its value.
pub fn flat(values: &Value) -> impl Iterator<Item = (String, &Value)> {
    values
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(key, value)| {
            let section = SECTIONS.contains(&key.as_str());
            let inner: Vec<(String, &Value)> = match value.as_object().filter(|_| section) {
                Some(inner) => inner
                    .iter()
                    .map(|(name, value)| (dotted(key, name), value))
                    .collect(),
                None => vec![(key.clone(), value)],
            };
            inner
        })
}

fn apply(entries: &mut [Entry], layer: Layer) -> Result<()> {
    let Layer {
        section,
        key,
        value,
        origin,
        ..
    } = layer;
    if key.is_empty() && SECTIONS.contains(&section.as_str()) {
        return Ok(()); // An empty section.
    }
    let found = entries
        .iter_mut()
        .find(|entry| entry.section == section && entry.key == key);
    let Some(entry) = found else {
        return Err(CommandError::At {
            origin: origin.to_string(),
            error: unknown(entries, &section, &key, &value),
        });
    };
    entry.value = match (&entry.value, value) {
        // `lr = 1` and `lr = 1.0` are the same setting, with the same hash.
        (Value::Number(default), Value::Number(given)) if default.is_f64() && !given.is_f64() => {
            given.as_f64().map_or(Value::Null, |float| json!(float))
        }
        (_, value) => value,
    };
    entry.origin = origin;
    Ok(())
}

/// What is wrong with a key that no entry has.
fn unknown(entries: &[Entry], section: &str, key: &str, value: &Value) -> Error {
    let keys = |section: &'static str| {
        entries
            .iter()
            .filter(move |entry| entry.section == section)
            .map(|entry| entry.key.as_str())
    };
    match SECTIONS.into_iter().find(|known| *known == section) {
        Some("") if SECTIONS.contains(&key) => {
            Error::setting(key, value, format!("expected a table, [{key}]"))
        }
        Some("") => unknown_key("", key, keys("").chain(SECTIONS.into_iter().skip(1))),
        Some(section) => unknown_key(section, key, keys(section)),
        None => {
            // A misspelt section, or a table where a top-level key was meant.
            let known = SECTIONS.into_iter().skip(1);
            if keys("").any(|top| top == section) {
                Error::setting(section, format!("[{section}]"), "expected a value")
            } else {
                Error::unknown("section", section, known)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str, overrides: &[&str]) -> Result<Manifest> {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        let base = Base::of(Path::new("m.toml"), text)?;
        Manifest::resolve_base(&base, &overrides, &Catalogue::of::<meta_algos::BuiltIn>())
    }

    #[test]
    fn an_empty_manifest_is_the_defaults() {
        let manifest = resolve("", &[]).unwrap();
        assert_eq!(manifest.run.name, "m");
        assert_eq!(manifest.train, TrainSettings::default());
        assert_eq!(manifest.learner.name, "protonet");
        assert!(
            manifest
                .origins()
                .values()
                .all(|origin| origin == "default")
        );
    }

    #[test]
    fn the_command_line_wins_over_the_file_over_the_defaults() {
        let text = "seed = 3\n[train]\nlr = 1\nmeta_batch = 2\n";
        let manifest = resolve(text, &["train.meta_batch=8"]).unwrap();
        assert_eq!((manifest.run.seed, manifest.train.meta_batch), (3, 8));
        assert_eq!(manifest.train.lr, 1.0);
        let origins = manifest.origins();
        assert_eq!(origins["seed"], "m.toml:1");
        assert_eq!(origins["train.lr"], "m.toml:3");
        assert_eq!(origins["train.meta_batch"], "command line");
        assert_eq!(origins["train.iterations"], "default");
    }

    #[test]
    fn a_resolved_manifest_reads_back_as_itself() {
        let manifest = resolve("[train]\nlr = 0.5\n", &["learner.name=maml"]).unwrap();
        let again = resolve(&manifest.to_toml(), &[]).unwrap();
        assert_eq!(again.values(), manifest.values());
        assert_eq!(again.hash("data"), manifest.hash("data"));
        assert_ne!(again.hash("data"), manifest.hash("other data"));
        assert_eq!(again.first_difference_from(&manifest.values()), None);
    }

    #[test]
    fn the_hash_is_of_what_results_depend_on() {
        let hash = |overrides: &[&str]| resolve("", overrides).unwrap().hash("data");
        let base = hash(&[]);
        assert_eq!(base, hash(&["threads=2", "name=other"]));
        assert_eq!(base, hash(&["train.lr=0.001"]));
        assert_ne!(base, hash(&["seed=1"]));
        assert_ne!(base, hash(&["train.lr=0.002"]));
        let other = resolve("", &["train.lr=0.002"]).unwrap();
        assert_eq!(
            resolve("", &[])
                .unwrap()
                .first_difference_from(&other.values()),
            Some(("train.lr".into(), "0.001".into(), "0.002".into()))
        );
    }

    #[test]
    fn mistakes_name_file_line_key_and_what_was_expected() {
        for (text, parts) in [
            ("sed = 1", ["m.toml:1", "`sed`", "did you mean `seed`"]),
            (
                "\n[data]\nwey = 5",
                ["m.toml:3", "`data.wey`", "did you mean `way`"],
            ),
            (
                "[dta]\nway = 5",
                ["m.toml:2", "section `dta`", "did you mean `data`"],
            ),
            (
                "[train]\niterations = 'many'",
                ["m.toml:2", "train.iterations", "u64"],
            ),
            ("[train]\nlr = -1", ["m.toml:2", "train.lr", "above 0"]),
            ("data = 5", ["m.toml:1", "`data = 5`", "expected a table"]),
            ("[trian]", ["m.toml:1", "section `trian`", "`train`"]),
            ("[seed]\nx = 1", ["m.toml:2", "`seed", "expected a value"]),
            (
                "[learner]\nname = 'mamml'",
                ["m.toml:2", "learner `mamml`", "`maml`"],
            ),
            (
                "[encoder]\nname = 4",
                ["m.toml:2", "encoder.name", "a string"],
            ),
            ("seed = 'x'", ["m.toml:1", "`seed = ", "u64"]),
            ("name = '../x'", ["m.toml:1", "../x", "letters"]),
        ] {
            let message = resolve(text, &[]).unwrap_err().to_string();
            for part in parts {
                assert!(message.contains(part), "{text:?}: {message}");
            }
        }
    }

    #[test]
    fn what_an_earlier_choice_alone_had_falls_away() {
        let text = "[learner]\nname = 'maml'\ninner_lr = 0.5\norder = 'first'\n";
        let kept = resolve(text, &["learner.name=anil"]).unwrap();
        assert_eq!(kept.value("learner.inner_lr"), Some(&json!(0.5)));
        let other = resolve(text, &["learner.name=protonet"]).unwrap();
        assert_eq!(other.value("learner.inner_lr"), None);
        // Given together with the choice, or wrong from the start, it is a mistake.
        for (text, overrides) in [
            (text, &["learner.name=protonet", "learner.inner_lr=1"][..]),
            (
                "[learner]\nname = 'maml'\niner_lr = 0.5\n",
                &["learner.name=protonet"],
            ),
        ] {
            let message = resolve(text, overrides).unwrap_err().to_string();
            assert!(message.contains("unknown key `learner.i"), "{message}");
        }
    }

    #[test]
    fn a_manifest_lies_over_what_it_extends() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        write(
            "base.toml",
            "seed = 1\n[train]\nlr = 1\nmeta_batch = 2\n[learner]\nname = 'maml'\ninner_lr = 0.5\n",
        );
        let path = write(
            "m.toml",
            "extends = 'base.toml'\n[train]\nlr = 3\n[learner]\nname = 'protonet'\n",
        );
        let catalogue = Catalogue::of::<meta_algos::BuiltIn>();
        let manifest = Manifest::resolve(&path, &["seed=5".to_owned()], &catalogue).unwrap();
        assert_eq!((manifest.run.seed, manifest.run.name.as_str()), (5, "m"));
        assert_eq!((manifest.train.lr, manifest.train.meta_batch), (3.0, 2));
        let origins = manifest.origins();
        assert!(origins["train.lr"].ends_with("m.toml:3"), "{origins:?}");
        assert!(
            origins["train.meta_batch"].ends_with("base.toml:4"),
            "{origins:?}"
        );

        // The record of a manifest is the same manifest.
        let again = Manifest::from_record(&manifest.values(), &origins, &catalogue).unwrap();
        assert_eq!(again.to_toml(), manifest.to_toml());
        assert_eq!(again.hash("data"), manifest.hash("data"));

        write("base.toml", "extends = ['m.toml']\n");
        let message = Manifest::resolve(&path, &[], &catalogue)
            .unwrap_err()
            .to_string();
        assert!(message.contains("extends itself"), "{message}");
        write("m.toml", "extends = 'absent.toml'\n");
        let message = Manifest::resolve(&path, &[], &catalogue)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("m.toml:1") && message.contains("absent.toml"),
            "{message}"
        );
    }

    #[test]
    fn mistakes_on_the_command_line_say_so() {
        for (given, part) in [
            ("train.lr", "key.path=value"),
            ("train.lrr=1", "did you mean `lr`"),
            ("train.lr=fast", "f64"),
        ] {
            let message = resolve("", &[given]).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
