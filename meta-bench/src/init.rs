//! `meta init`: writes a first manifest for one's data, with comments, which runs as it is.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use meta_core::{
    Error,
    data::{EpisodeShape, Source, Split, Task},
    files::write_atomically,
    learner::Family,
    toolkit::{Catalogue, Toolkit},
};
use serde_json::{Value, json};

use crate::{
    command::Execute,
    docs::manifest::{Group, groups},
    experiment::{self, Experiment},
    failure::{CommandError, Result},
    manifest::{Manifest, base::Base, layer::Layer, origin::Origin, text::toml},
    output::{print, table::wrapped, text::visible},
};

/// Write a first manifest for your data, with comments. It runs as it is: `meta run NAME.toml`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Your data: a folder of images with a folder for each class, or a zip archive of it; a file of vectors with
    /// labels (.npz, .csv, …); or a source of `meta list data`.
    #[arg(long, default_value = "glyphs")]
    data: String,
    /// The learner [default: protonet, and maml for regression].
    #[arg(long)]
    learner: Option<String>,
    /// The encoder [default: conv4 for images, mlp for vectors].
    #[arg(long)]
    encoder: Option<String>,
    /// The manifest to write [default: NAME.toml, by the data].
    #[arg(short, long, visible_alias = "out", value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Columns of a comment.
const WIDTH: usize = 100;
/// Endings of files of vectors.
const VECTORS: [&str; 9] = [
    "npz",
    "npy",
    "safetensors",
    "pt",
    "pth",
    "csv",
    "tsv",
    "gz",
    "parquet",
];
/// Shapes of tasks that are tried: way and query; of each class there is one item to learn from.
const WAYS: [usize; 4] = [5, 4, 3, 2];
const QUERIES: [usize; 6] = [15, 10, 5, 3, 2, 1];
/// Shares of validation and test classes that are tried where too few classes would be in a split.
const SHARES: [(f64, f64); 3] = [(0.16, 0.2), (0.25, 0.25), (0.3, 0.35)];

/// Keys of a manifest with the values that it gets.
type Given = Vec<(&'static str, Value)>;

impl Execute for InitArgs {
    /// Writes the manifest.
    ///
    /// # Errors
    /// When there is no such data, learner or encoder, they do not go together, or a file is there already.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let catalogue = Catalogue::of::<T>();
        let (source, name) = source_of(&self.data, &catalogue)?;
        let path = self.output.clone();
        let path = path.unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
        if path.exists() {
            return Err(CommandError::Usage(format!(
                "{}: exists already; name another file with --output",
                path.display()
            )));
        }
        let (given, experiment) = self.fitting::<T>(source, &name, &catalogue)?;
        let text = self.text(&experiment.manifest, &given, &catalogue);
        // What is written is read once more: it must be the manifest that was checked.
        let read = Manifest::from_base(&Base::of(&path, &text)?, &[], &catalogue)?;
        if read.values() != experiment.manifest.values() {
            return Err(CommandError::Usage(format!(
                "{}: a value cannot be written as TOML; nothing was written",
                path.display()
            )));
        }
        write_atomically(&path, text.as_bytes())?;
        let shape = experiment.spec.test;
        let tasks = match experiment.spec.task {
            Task::Classification => format!("{}-way {}-shot tasks", shape.way, shape.shot),
            Task::Regression { .. } => format!("regression from {} points", shape.shot),
            Task::Sequences { .. } => format!("languages from {} examples", shape.shot),
            Task::Acting { .. } => format!("trials of {} episodes", shape.shot),
        };
        let path = path.display();
        print(&format!(
            "{path}: {}, {}, {tasks} of {}\nNext: meta check {path}; meta run {path}\n",
            experiment.manifest.learner.name, experiment.manifest.encoder.name, self.data
        ))
    }
}

/// The source for what `--data` names, and a name for the manifest.
fn source_of(data: &str, catalogue: &Catalogue) -> Result<(&'static str, String)> {
    let path = Path::new(data);
    let known = || catalogue.sources.iter().map(|entry| entry.name);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let valid = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let name: String = stem
        .chars()
        .map(|letter| if valid(letter) { letter } else { '-' })
        .collect();
    let name = match name.trim_matches(['.', '-']) {
        "" => "first".to_owned(),
        name => name.to_owned(),
    };
    let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
    if path.is_dir() || (path.is_file() && ending == "zip") {
        return Ok(("folder", name));
    }
    if path.is_file() {
        return match VECTORS.iter().any(|known| ending == *known) {
            true => Ok(("features", name)),
            false => Err(CommandError::Usage(format!(
                "--data {}: expected a folder or .zip of images, or a file that ends in .{}",
                visible(data),
                VECTORS.join(", .")
            ))),
        };
    }
    match known().find(|source| *source == data) {
        Some("folder" | "features") => Err(CommandError::Usage(format!(
            "--data {data}: expected your folder or file, as in --data photos/"
        ))),
        Some(source) => Ok((source, source.to_owned())),
        None => Err(Error::unknown("folder, file or data source", data, known()).into()),
    }
}

impl InitArgs {
    /// The values that are given, with the first shape of tasks that the data has enough classes and items for;
    /// and what they name.
    fn fitting<T: Toolkit>(
        &self,
        source: &'static str,
        name: &str,
        catalogue: &Catalogue,
    ) -> Result<(Given, Experiment<T>)> {
        let own = self.of_source(source);
        let mut refused = None;
        for data in &own {
            let manifest = resolved(data, catalogue)?;
            let opened = experiment::source::<T>(&manifest, None)?;
            let shape = match shape_of(opened.as_ref()) {
                Ok(shape) => shape,
                Err(error) => {
                    refused = Some(error);
                    continue;
                }
            };
            let mut given = vec![("name", json!(name))];
            given.extend(data.iter().cloned());
            given.extend(shape);
            given.extend(self.of_rest(opened.as_ref(), catalogue));
            let manifest = resolved(&given, catalogue)?;
            let experiment = Experiment::<T>::with_source(manifest, None, Arc::clone(&opened))?;
            return Ok((given, experiment));
        }
        Err(match refused {
            Some(error) => CommandError::Usage(format!(
                "{}: too few classes or items for the smallest task, 2 classes in each of training, validation \
                 and test: {error}",
                visible(&self.data)
            )),
            None => CommandError::Usage(format!("{}: cannot be read", visible(&self.data))),
        })
    }

    /// Values of `[data]`, best first.
    fn of_source(&self, source: &'static str) -> Vec<Given> {
        // A relative path would start at the data folder.
        let path = match std::env::var_os("META_DATA") {
            Some(_) => std::path::absolute(&self.data)
                .map_or_else(|_| self.data.clone(), |path| path.display().to_string()),
            None => self.data.clone(),
        };
        let mut given = vec![("data.source", json!(source))];
        if source == "folder" {
            given.extend([
                ("data.path", json!(path)),
                ("data.image_size", json!(32)),
                ("data.fit", json!("crop")),
                ("data.normalize", json!(true)),
                ("data.random_flip", json!(true)),
            ]);
        } else if source == "features" {
            given.push(("data.path", json!(path)));
            // Of a table, all columns beside labels and splits.
            let is_table = ["csv", "tsv", "gz", "parquet"]
                .iter()
                .any(|ending| path.to_ascii_lowercase().ends_with(&format!(".{ending}")));
            if is_table {
                given.push(("data.features", json!("*")));
            }
        }
        let with = |(validation, test): (f64, f64)| {
            let mut given = given.clone();
            given.push(("data.validation_fraction", json!(validation)));
            given.push(("data.test_fraction", json!(test)));
            given
        };
        match source {
            "folder" | "features" => SHARES.into_iter().map(with).collect(),
            _ => vec![given],
        }
    }

    /// Values of the other sections.
    fn of_rest(&self, source: &dyn Source, catalogue: &Catalogue) -> Given {
        let item = source.item_shape();
        let regression = source.task() != Task::Classification;
        let learner = self.learner.clone().unwrap_or_else(|| {
            let default = match source.task() {
                Task::Classification => "protonet",
                Task::Regression { .. } => "maml",
                Task::Acting { .. } => "rl2",
                Task::Sequences { .. } => "mlc",
            };
            default.to_owned()
        });
        let encoder = self.encoder.clone().unwrap_or_else(|| {
            let image = item.height > 1 && item.width > 1;
            let default = if image { "conv4" } else { "mlp" };
            default.to_owned()
        });
        let mut learners = catalogue.learners.iter();
        let baseline = learners
            .any(|entry| entry.info.name == learner && entry.info.family == Family::Baseline);
        if baseline {
            // Nothing is learned across tasks.
            return vec![
                ("encoder.name", json!(encoder)),
                ("learner.name", json!(learner)),
                ("train.iterations", json!(0)),
                ("test.episodes", json!(600)),
            ];
        }
        let mut given = vec![
            ("encoder.name", json!(encoder)),
            ("learner.name", json!(learner)),
        ];
        if regression && learner == "maml" {
            // Its default is for scores of classes: with squared errors it diverges.
            given.push(("learner.inner_lr", json!(0.01)));
        }
        given.extend([
            ("train.iterations", json!(1000)),
            ("train.meta_batch", json!(4)),
            ("train.lr", json!(1e-3)),
            ("train.schedule", json!("cosine")),
            ("train.validate_every", json!(200)),
            ("train.validation_episodes", json!(100)),
            ("train.checkpoint_every", json!(200)),
            ("test.episodes", json!(600)),
        ]);
        given
    }

    /// The manifest as text: what is given, each with what it means; the settings of the encoder and the learner
    /// as comments.
    fn text(&self, manifest: &Manifest, given: &Given, catalogue: &Catalogue) -> String {
        let groups = groups(catalogue);
        let mut out = format!(
            "# Written by `meta init --data {}`. Every key has a default; `meta list KEY` explains one, and\n\
             # `meta check` shows all values with where they come from.\n",
            visible(&self.data)
        );
        let choice = |section: &str| match section {
            "data" => manifest.source.name.as_str(),
            "encoder" => manifest.encoder.name.as_str(),
            "learner" => manifest.learner.name.as_str(),
            "train" => manifest.optimizer.name.as_str(),
            _ => "",
        };
        for section in ["", "data", "encoder", "learner", "train", "test"] {
            let name = choice(section);
            let here: Vec<&Group> = groups
                .iter()
                .filter(|group| group.table == section)
                .filter(|group| group.choice.is_empty() || group.choice == name)
                .collect();
            if !section.is_empty() {
                out.push_str(&format!("\n[{section}]\n"));
            }
            let mut keys = Vec::new();
            for (path, value) in given {
                let (of, key) = path.split_once('.').unwrap_or(("", path));
                if of == section {
                    keys.push(key);
                    comment(&mut out, &doc_of(&here, key));
                    let value = toml(value).unwrap_or_default();
                    out.push_str(&format!("{key} = {value}\n"));
                }
            }
            // What the encoder and the learner could be told besides.
            let own = here
                .iter()
                .filter(|group| ["encoder", "learner"].contains(&section) && group.choice == name);
            for group in own {
                for field in group
                    .fields
                    .iter()
                    .filter(|field| !keys.contains(&field.name))
                {
                    comment(&mut out, &field.doc);
                    out.push_str(&match group.default_of(field).as_str() {
                        "not set" => format!("# {} is not set\n", field.name),
                        default => format!("# {} = {default}\n", field.name),
                    });
                }
            }
        }
        out
    }
}

/// What a key means.
fn doc_of(groups: &[&Group], key: &str) -> String {
    let mut fields = groups.iter().flat_map(|group| &group.fields);
    let field = fields.find(|field| field.name == key);
    field.map_or_else(
        || "Its name; `meta list` shows others.".to_owned(),
        |field| field.doc.clone(),
    )
}

/// Adds a text as a comment.
fn comment(out: &mut String, text: &str) {
    for line in wrapped(text, WIDTH) {
        out.push_str(&format!("# {line}\n"));
    }
}

/// The manifest that has these values.
fn resolved(given: &Given, catalogue: &Catalogue) -> Result<Manifest> {
    let layers: Vec<Layer> = given
        .iter()
        .map(|(path, value)| Layer::new(path, value.clone(), Origin::CommandLine))
        .collect();
    Manifest::from_base(&Base::of(Path::new("first.toml"), "")?, &layers, catalogue)
}

/// The largest tasks among those that are tried which every split of a source has.
fn shape_of(source: &dyn Source) -> std::result::Result<Given, Error> {
    if source.task().is_acting() {
        return Ok(vec![
            ("data.way", json!(1)),
            ("data.shot", json!(1)),
            ("data.query", json!(1)),
        ]);
    }
    if source.task() != Task::Classification {
        return Ok(vec![
            ("data.way", json!(1)),
            ("data.shot", json!(10)),
            ("data.query", json!(10)),
        ]);
    }
    let mut refused = None;
    for way in WAYS {
        for query in QUERIES {
            let shape = EpisodeShape::new(way, 1, query);
            let checked = Split::ALL
                .into_iter()
                .map(|split| source.check(split, shape));
            match checked.collect::<std::result::Result<Vec<()>, Error>>() {
                Ok(_) => {
                    return Ok(vec![
                        ("data.way", json!(way)),
                        ("data.shot", json!(1)),
                        ("data.query", json!(query)),
                    ]);
                }
                Err(error) => refused = Some(error),
            }
        }
    }
    Err(refused.expect("there is a shape to try"))
}
