//! Resolves manifests: a TOML file that says what a run is, with the origin of every value.
//!
//! Later layers win: defaults, the files that the manifest extends, the file itself, overrides
//! (`key.path=value`). Sources, encoders, learners and optimisers bring their own settings, so the keys
//! of `[data]`, `[encoder]`, `[learner]` and `[train]` depend on which of them is chosen. Where a later
//! layer chooses another one, settings that only the earlier choice had are dropped.

pub mod args;
pub mod base;
pub mod choices;
pub mod entries;
pub mod layer;
pub mod origin;
pub mod settings;
pub mod text;

use std::{collections::BTreeMap, path::Path};

use meta_core::{
    Error,
    settings::{Field, Settings},
    toolkit::Catalogue,
    train::TrainSettings,
};
use serde_json::{Map, Value, json};

use crate::{
    failure::{CommandError, Result},
    output::text::visible,
};
use base::Base;
use choices::{Chosen, choice, default_entries, falls_away};
use entries::{Entry, SECTIONS, apply, flat, locate};
use layer::Layer;
use origin::Origin;
use settings::{
    DataSettings, PublishedSettings, RunSettings, TestSettings, TrackingSettings, WeightSettings,
};
use text::toml;

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
    /// What the encoder starts from.
    pub weights: WeightSettings,
    /// The learner and its settings.
    pub learner: Chosen,
    /// Settings of the outer loop.
    pub train: TrainSettings,
    /// The outer optimiser and the settings that only it has.
    pub optimizer: Chosen,
    /// Settings of the test.
    pub test: TestSettings,
    /// What is written for other tools.
    pub tracking: TrackingSettings,
    /// The published figure.
    pub published: PublishedSettings,
    /// Where the manifest has a `[sweep]`, if it has one.
    pub sweep: Option<String>,
    entries: Vec<Entry>,
}

/// Keys that change no result: `name` is a label, `published` is said, and the others say where and how fast. The
/// data at `data.path` enters the identity by its content.
const NOT_IDENTITY: [&str; 12] = [
    "name",
    "init_from",
    "encoder.weights",
    "device",
    "threads",
    "data.path",
    "data.cache_dir",
    "train.graphs_at_once",
    "train.memory",
    "tracking.tensorboard",
    "published.score",
    "published.paper",
];
/// Keys that nothing but the test depends on: a run that differs in no other is trained already.
const TEST_ONLY: [&str; 4] = [
    "test.episodes",
    "test.split",
    "test.chunk",
    "test.outsiders",
];
/// Keys that bound memory and change nothing but rounding: a run may resume with others.
const BOUNDS: [&str; 3] = ["train.task_chunk", "train.chunk_memory", "test.chunk"];

impl Manifest {
    /// Reads the manifest at `path` and resolves it with `overrides` (`key.path=value`).
    ///
    /// # Errors
    /// A manifest that cannot be read or is not TOML; a key that does not exist, with the nearest one;
    /// a value of the wrong type; a source, encoder or learner that does not exist. Each names file
    /// and line, or the command line.
    pub fn resolve(path: &Path, overrides: &[String], catalogue: &Catalogue) -> Result<Self> {
        let layers: Vec<Layer> = overrides
            .iter()
            .map(|text| Layer::parse(text))
            .collect::<Result<_>>()?;
        Self::from_base(&Base::read(path)?, &layers, catalogue)
    }

    /// Resolves the manifest whose files are read, with `layers` on top.
    ///
    /// # Errors
    /// As [`Manifest::resolve`].
    pub fn from_base(base: &Base, layers: &[Layer], catalogue: &Catalogue) -> Result<Self> {
        let mut all = base.layers.clone();
        all.extend_from_slice(layers);
        let mut manifest = Self::from_layers(all, &base.stem, catalogue)?;
        manifest.sweep = base.sweep.as_ref().map(Origin::to_string);
        Ok(manifest)
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
        let of_weights = fields(WeightSettings::fields());
        let of_start = |key: &str| of_weights.contains(&key);
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
        let tracking =
            TrackingSettings::from_value("tracking", &object("tracking", &all)).map_err(at)?;
        let published =
            PublishedSettings::from_value("published", &object("published", &all)).map_err(at)?;
        let weights =
            WeightSettings::from_value("encoder", &object("encoder", &of_start)).map_err(at)?;
        train.check().map_err(at)?;
        Ok(Manifest {
            run,
            data,
            source: chosen("data", "source", &|key| !is_common(key)),
            encoder: chosen("encoder", "name", &|key| key != "name" && !of_start(key)),
            weights,
            learner: chosen("learner", "name", &|key| key != "name"),
            optimizer: chosen("train", "optimizer", &|key| !of_loop(key)),
            train,
            test,
            tracking,
            published,
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
        self.differences_from(other).next()
    }

    /// As [`Manifest::first_difference_from`], of the values that training depends on.
    pub fn first_training_difference_from(
        &self,
        other: &Value,
    ) -> Option<(String, String, String)> {
        let mut differences = self.differences_from(other);
        differences.find(|(key, ..)| !TEST_ONLY.contains(&key.as_str()))
    }

    /// The values of `self` that only the test depends on and that are others in `other`, as overrides.
    pub fn test_overrides(&self, other: &Value) -> Vec<String> {
        let differences = self.differences_from(other);
        let of_test = differences.filter(|(key, ..)| TEST_ONLY.contains(&key.as_str()));
        of_test
            .map(|(key, here, _)| format!("{key}={here}"))
            .collect()
    }

    fn differences_from<'a>(
        &'a self,
        other: &'a Value,
    ) -> impl Iterator<Item = (String, String, String)> + 'a {
        let shown = |value: &Value| toml(value).unwrap_or_else(|| "nothing".to_owned());
        let of_identity = |entry: &&Entry| Self::is_identity(&entry.dotted());
        self.entries
            .iter()
            .filter(of_identity)
            .filter_map(move |entry| {
                let there = match entry.section {
                    "" => &other[&entry.key],
                    section => &other[section][&entry.key],
                };
                // A key that is newer than the record had its default.
                let is_same = *there == entry.value
                    || (there.is_null() && entry.left_out_at.as_ref() == Some(&entry.value));
                (!is_same).then(|| (entry.dotted(), shown(&entry.value), shown(there)))
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
                let origin = visible(&origin.to_string());
                out.push_str(&format!("{line}{space}  # {origin}\n"));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str, overrides: &[&str]) -> Result<Manifest> {
        let base = Base::of(Path::new("m.toml"), text)?;
        let layers = overrides.iter().map(|text| Layer::parse(text));
        let layers: Vec<Layer> = layers.collect::<Result<_>>()?;
        Manifest::from_base(&base, &layers, &Catalogue::of::<meta_algos::BuiltIn>())
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
        assert_eq!(base, hash(&["threads=2", "name=other", "train.memory=7"]));
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
            ("\"\" = 1", ["m.toml:1", "unknown key ``", "seed"]),
            (
                "[train]\n\"\" = 1",
                ["m.toml:2", "unknown key `train.`", "iterations"],
            ),
            ("[\"\"]", ["m.toml:1", "unknown key ``", "seed"]),
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
            (
                "[train]\ntrain_way = 5",
                [
                    "m.toml:2",
                    "`train.train_way`",
                    "did you mean `data.train_way`",
                ],
            ),
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
            ("=1", "key.path=value"),
            (".=1", "key.path=value"),
            ("train.=1", "key.path=value"),
            (".lr=1", "key.path=value"),
            ("train..lr=1", "key.path=value"),
            ("train={}", "a key of it"),
            ("data.path=img/a=b", r#"'data.path="img/a=b"'"#),
            ("backend=2024", r#"'backend="2024"'"#),
            ("train.lrr=1", "did you mean `lr`"),
            ("train.lr=fast", "f64"),
        ] {
            let message = resolve("", &[given]).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
