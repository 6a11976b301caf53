//! The experiment of a trained run, with changes that its parameters do not depend on: other test settings,
//! or other data.
//!
//! On other data all classes are test classes, unless a split is given there: the split of the run names
//! classes of its own data. A source that splits by the hash of a name gets `data.test_fraction = 1`; one
//! that knows its splits (by folders, by a column) keeps them.

use std::path::{Path, PathBuf};

use meta_core::{
    learner::LearnerList,
    nn::encoder::Architecture,
    toolkit::{Catalogue, Toolkit},
};
use serde_json::{Value, json};

use super::{
    checksums::check_fixed,
    folder::{self, Found, inspect, read_json},
    result::Published,
};
use crate::{
    experiment::{Experiment, start_threads},
    failure::{CommandError, Result},
    manifest::{Manifest, base::Base, layer::Layer, origin::Origin},
};

/// Sections and keys that may change: nothing that the trained parameters depend on.
const KEYS: [&str; 10] = [
    "test.",
    "learner.",
    "data.way=",
    "data.shot=",
    "data.query=",
    "data.path=",
    "backend=",
    "device=",
    "precision=",
    "threads=",
];

/// Keys that may change and leave the experiment what it is.
const UNCHANGING: [&str; 3] = ["backend", "device", "threads"];

/// Keys of `[data]` that say the splits of one data set.
const SPLITS: [&str; 8] = [
    "data.split_key",
    "data.validation_path",
    "data.test_path",
    "data.train_classes",
    "data.validation_classes",
    "data.test_classes",
    "data.validation_fraction",
    "data.test_fraction",
];

/// Keys of `[data]` that every source has.
const SHAPE: [&str; 6] = [
    "data.way",
    "data.shot",
    "data.query",
    "data.train_way",
    "data.train_shot",
    "data.train_query",
];

/// Keys of `[data]` that name other files of one data set.
const FILES: [&str; 4] = [
    "data.label_path",
    "data.validation_label_path",
    "data.test_label_path",
    "data.class_vectors",
];

/// What is changed in a trained run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes<'a> {
    /// `key=value` each.
    pub overrides: &'a [String],
    /// A manifest whose `[data]` and `[test]` are taken.
    pub on: Option<&'a Path>,
    /// Folder with the data sets.
    pub data: Option<&'a Path>,
}

/// A trained run, ready to be tested.
pub struct TrainedRun<T: Toolkit> {
    /// What is tested, and on what.
    pub experiment: Experiment<T>,
    /// The record of the run.
    pub record: Value,
    /// The data, where it is not that of the run: the name of a manifest, or a path.
    pub elsewhere: Option<String>,
    /// The published experiment whose data and test these are, by the manifest that was given.
    pub repeats: Option<Repeats>,
}

/// A published experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeats {
    /// The name of its manifest.
    pub name: String,
    /// Its figure.
    pub figure: Published,
}

impl Repeats {
    /// The experiment of the manifest `base`, where it says a figure, its learner is that of `run`, and the command
    /// line changes nothing but where it is tested.
    fn of(base: &Base, run: &Manifest, overrides: &[String]) -> Option<Self> {
        let value = |path: &str| {
            let layer = base.layers.iter().rfind(|layer| layer.path() == path);
            layer.map(Layer::value)
        };
        let is_its_learner = value("learner.name")? == run.learner.name.as_str();
        let changes_nothing = |change: &String| {
            let key = change.split('=').next().unwrap_or_default().trim();
            UNCHANGING.contains(&key)
        };
        let figure = Published {
            score: value("published.score")?.as_f64()?,
            paper: value("published.paper")?.as_str()?.to_owned(),
        };
        (is_its_learner && overrides.iter().all(changes_nothing)).then(|| Repeats {
            name: base.stem.clone(),
            figure,
        })
    }
}

/// The experiment of the run at `path` with `changes`. Data sets are in the folder of the changes, or where
/// they were recorded.
///
/// # Errors
/// Whatever is wrong with the folder, the changes or the data.
pub fn trained<T: Toolkit>(path: &Path, changes: Changes<'_>) -> Result<TrainedRun<T>> {
    if inspect(path)? == Found::Nothing {
        return Err(CommandError::Usage(format!(
            "{}: expected a run folder, found nothing",
            path.display()
        )));
    }
    check_fixed(path)?;
    check_allowed(changes)?;
    let record = read_json(&path.join(folder::RECORD))?;
    let catalogue = Catalogue::of::<T>();
    let base = Base::read(&path.join(folder::MANIFEST))?;
    let run = Manifest::from_base(&base, &[], &catalogue)?;
    start_threads(threads(&run, changes.overrides)?)?;
    let recorded = record["data"]["folder"].as_str().map(PathBuf::from);
    let folder = changes.data.map(Path::to_owned).or(recorded);
    let content = &record["data"]["content"];
    let moved = changes
        .overrides
        .iter()
        .find_map(|change| data_path(change));
    if changes.on.is_none() {
        let layers = layers(&run, &[], changes.overrides)?;
        let manifest = Manifest::from_base(&base, &layers, &catalogue)?;
        let opened = Experiment::<T>::trained(manifest, folder.as_deref());
        match opened {
            Ok(experiment) if *content == json!(experiment.source.content_hash()) => {
                return finish(experiment, record, None, None);
            }
            Ok(_) if moved.is_none() => {
                return Err(CommandError::Usage(format!(
                    "{}: the data differs from the data of the run; --on a manifest, or data.path=, tests \
                     on other data",
                    path.display()
                )));
            }
            Err(error) if moved.is_none() => return Err(error),
            _ => {}
        }
    }
    let on = changes.on.map(Base::read).transpose()?;
    let repeats = on
        .as_ref()
        .and_then(|on| Repeats::of(on, &run, changes.overrides));
    let (other, name) = match (on, changes.on) {
        (Some(base), Some(on)) => (base.layers, on.display().to_string()),
        _ => (Vec::new(), moved.unwrap_or_default()),
    };
    let given: Vec<Layer> = other
        .into_iter()
        .filter(|layer| {
            let path = layer.path();
            path.starts_with("data.") || path.starts_with("test.")
        })
        .map(|layer| Layer::new(&layer.path(), layer.value().clone(), layer.origin().clone()))
        .collect();
    let layers = layers(&run, &given, changes.overrides)?;
    let is_split = |layer: &Layer| SPLITS.contains(&layer.path().as_str());
    let has_split = layers.iter().any(is_split);
    let mut base = base;
    // A list of classes of the run is of no use here; a number of classes to draw is, for the same source.
    let source = layers.iter().rfind(|layer| layer.path() == "data.source");
    let is_other = source.is_some_and(|layer| layer.value() != run.source.name.as_str());
    // What other sources call the same is something else.
    let is_of_source = |layer: &Layer| {
        let path = layer.path();
        path.starts_with("data.") && !SHAPE.contains(&path.as_str())
    };
    let is_of_run = |layer: &Layer| {
        let of_files = FILES.contains(&layer.path().as_str());
        of_files
            || (is_other && is_of_source(layer))
            || (is_split(layer) && (is_other || !layer.value().is_u64()))
    };
    base.layers.retain(|layer| !is_of_run(layer));
    let mut manifest = Manifest::from_base(&base, &layers, &catalogue)?;
    if !has_split && manifest.value("data.test_fraction").is_some() {
        manifest = manifest.with_overrides(&[
            "data.validation_fraction=0.0".to_owned(),
            "data.test_fraction=1.0".to_owned(),
        ])?;
    }
    let experiment = Experiment::<T>::trained(manifest, folder.as_deref())?;
    let is_same = *content == json!(experiment.source.content_hash());
    check_items(&experiment, &record, &name)?;
    finish(experiment, record, (!is_same).then_some(name), repeats)
}

/// Checks that only what may change does.
fn check_allowed(changes: Changes<'_>) -> Result<()> {
    for change in changes.overrides {
        let squeezed = change.replace(' ', "");
        let on_data = changes.on.is_some()
            && squeezed.starts_with("data.")
            && !squeezed.starts_with("data.train_way=")
            && !squeezed.starts_with("data.train_shot=")
            && !squeezed.starts_with("data.train_query=");
        let allowed = on_data || KEYS.iter().any(|key| squeezed.starts_with(key));
        if !allowed || squeezed.starts_with("learner.name=") {
            return Err(CommandError::Usage(format!(
                "`{change}` cannot change in a trained run; what can change: test.*, data.way, data.shot, \
                 data.query, data.path, learner.* except its name, backend, device, precision, threads"
            )));
        }
    }
    Ok(())
}

/// The path that a change gives the data.
fn data_path(change: &str) -> Option<String> {
    let (key, value) = change.split_once('=')?;
    (key.trim() == "data.path").then(|| value.trim().trim_matches('"').to_owned())
}

/// The threads that a run with these changes computes on.
fn threads(run: &Manifest, overrides: &[String]) -> Result<usize> {
    let own: Vec<String> = overrides
        .iter()
        .filter(|change| change.trim_start().starts_with("threads"))
        .cloned()
        .collect();
    Ok(run.with_overrides(&own)?.run.threads)
}

/// What is laid over the manifest of a run: what is `given`, the training shape of the run where it would follow
/// a new test shape, and the changes.
fn layers(run: &Manifest, given: &[Layer], overrides: &[String]) -> Result<Vec<Layer>> {
    let changes: Vec<Layer> = overrides
        .iter()
        .map(|change| Layer::parse(change))
        .collect::<Result<_>>()?;
    let (train, own) = (run.data.train_shape(), &run.data);
    let shape = [
        ("way", own.train_way, train.way.0),
        ("shot", own.train_shot, train.shot.0),
        ("query", own.train_query, train.query.0),
    ];
    let mut layers: Vec<Layer> = given.to_vec();
    for (test, own, train) in shape {
        let key = format!("data.train_{test}");
        let is_changed =
            |layer: &Layer| [format!("data.{test}"), key.clone()].contains(&layer.path());
        let value = match given.iter().chain(&changes).any(is_changed) {
            true => train,
            false => own,
        };
        layers.push(Layer::new(&key, json!(value), Origin::CommandLine));
    }
    layers.extend(changes);
    Ok(layers)
}

/// Checks that items have the shape that the network was trained on, where learner or encoder need that.
fn check_items<T: Toolkit>(experiment: &Experiment<T>, record: &Value, name: &str) -> Result<()> {
    let trained = &record["data"]["description"]["item_shape"];
    let found = experiment.spec.item;
    if trained.is_null() || *trained == json!(found) {
        return Ok(());
    }
    let (network, features) = (&experiment.architecture, found.features());
    let passes_on = (network.width(), network.activations()) == (features, features);
    if experiment.learner.any_features() && passes_on {
        return Ok(());
    }
    let sides = ["height", "width", "channels"].map(|side| trained[side].to_string());
    Err(CommandError::Usage(format!(
        "{name}: its items are {found}, but the run was trained on {}; expected the same shape \
         (`data.image_size`, `data.channels`)",
        sides.join("×")
    )))
}

/// The run, with the number of training classes that its parameters were made for.
fn finish<T: Toolkit>(
    mut experiment: Experiment<T>,
    record: Value,
    elsewhere: Option<String>,
    repeats: Option<Repeats>,
) -> Result<TrainedRun<T>> {
    if let Some(classes) = record["data"]["train_classes"].as_u64() {
        experiment.spec.train_classes = classes as usize;
    }
    Ok(TrainedRun {
        experiment,
        record,
        elsewhere,
        repeats,
    })
}
