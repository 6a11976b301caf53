//! Plans runs: resolves, checks and names them, forecasts their cost, and finds what exists already.
//! Nothing starts before the whole plan is good.

use std::{
    collections::HashMap,
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use meta_core::{
    backend::{WithBackend, dispatch},
    data::{Source, Split},
    parallel::TaskChunks,
    primitives::Primitives,
    task::TrainingContext,
    toolkit::{Catalogue, Toolkit},
    train::{eval::Metric, sum_over_chunks},
};
use rayon::prelude::*;
use serde_json::Value;

use super::expand::Point;
use crate::{
    experiment::{self, Experiment, memory::Forecast},
    failure::{CommandError, Result},
    manifest::{Manifest, base::Base},
    run::state::{State, folders},
};

/// A run that could start.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its identity.
    pub hash: String,
    /// Its folder.
    pub folder: PathBuf,
    /// What tells it from the other runs.
    pub label: Vec<(String, String)>,
    /// Trial of the search that it belongs to.
    pub trial: usize,
    /// What its scores are.
    pub metric: Metric,
    /// How much memory it will take.
    pub forecast: Forecast,
    /// How long it will take, where it was measured.
    pub seconds: Option<f64>,
    /// What is there already.
    pub state: State,
}

impl Planned {
    /// The first digits of the identity.
    pub fn short(&self) -> &str {
        &self.hash[..12]
    }

    /// `key=value` of what tells it from the others.
    pub fn title(&self) -> String {
        title(&self.label)
    }
}

/// `key=value …`, or `the manifest` where nothing is changed.
pub fn title(label: &[(String, String)]) -> String {
    let pairs: Vec<String> = label
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if pairs.is_empty() {
        "the manifest as it is".to_owned()
    } else {
        pairs.join(" ")
    }
}

/// Time that measuring steps may take, in all.
const MEASURE: Duration = Duration::from_millis(800);

/// A source and the hash of its content.
type Known = (Arc<dyn Source>, String);

/// A run whose time is not known yet.
struct Draft<T: Toolkit> {
    hash: String,
    /// What its memory and the time of its step depend on.
    shape: String,
    forecast: Forecast,
    experiment: Experiment<T>,
}

/// Plans runs.
pub struct Planner<T> {
    data: Option<PathBuf>,
    /// Whether runs may need more memory than this machine has.
    force: bool,
    runs: PathBuf,
    catalogue: Catalogue,
    /// Folders in `runs` by the digits of the identity that end their names.
    folders: HashMap<String, PathBuf>,
    sources: Mutex<HashMap<String, Known>>,
    forecasts: Mutex<HashMap<String, Forecast>>,
    /// Seconds of one task's step, by the same key; none where there was no time left.
    steps: Mutex<HashMap<String, Option<f64>>>,
    measured: Mutex<Duration>,
    toolkit: PhantomData<fn() -> T>,
}

impl<T: Toolkit> Planner<T> {
    /// A planner for the run folders in `runs` and data in `data`; with `force`, of runs that need more
    /// memory than this machine has, too.
    pub fn new(runs: &Path, data: Option<&Path>, force: bool) -> Self {
        Planner {
            force,
            data: data.map(Path::to_owned),
            runs: runs.to_owned(),
            catalogue: Catalogue::of::<T>(),
            folders: folders(runs),
            sources: Mutex::default(),
            forecasts: Mutex::default(),
            steps: Mutex::default(),
            measured: Mutex::default(),
            toolkit: PhantomData,
        }
    }

    /// Plans the runs of `points` on `base`.
    ///
    /// # Errors
    /// The first one that cannot run, with what tells it from the others, and how many more cannot.
    pub fn plan(&self, base: &Base, points: &[Point]) -> Result<Vec<Planned>> {
        let manifests: Vec<Result<Manifest>> = points
            .par_iter()
            .map(|point| Manifest::from_base(base, &point.layers, &self.catalogue))
            .collect();
        // Sources and steps use all threads themselves, one after the other: a thread that waits for its part of
        // one would begin another run's, and wait for itself.
        let opened: Vec<Result<(Manifest, Known)>> = manifests
            .into_iter()
            .map(|manifest| {
                let manifest = manifest?;
                let known = self.source(&manifest)?;
                Ok((manifest, known))
            })
            .collect();
        let drafts: Vec<Result<Draft<T>>> = opened
            .into_par_iter()
            .map(|opened| opened.and_then(|(manifest, known)| self.draft(manifest, known)))
            .collect();
        let planned: Vec<Result<Planned>> = drafts
            .into_iter()
            .zip(points)
            .map(|(draft, point)| self.one(draft?, point))
            .collect();
        let refused = planned.iter().filter(|planned| planned.is_err()).count();
        let mut all = Vec::with_capacity(planned.len());
        for (planned, point) in planned.into_iter().zip(points) {
            all.push(planned.map_err(|error| {
                let path = base
                    .documents
                    .last()
                    .map(|document| document.path.display().to_string());
                let others = match refused {
                    1 => String::new(),
                    more => format!("; {} more of {} runs are refused", more - 1, points.len()),
                };
                CommandError::Usage(format!(
                    "{error} (in {}, run {}{others}; no run was started)",
                    path.unwrap_or_default(),
                    title(&point.label),
                ))
            })?);
        }
        Ok(all)
    }

    fn draft(&self, manifest: Manifest, (source, content): Known) -> Result<Draft<T>> {
        let hash = manifest.hash(&content);
        let experiment = Experiment::<T>::with_source(manifest, self.data.as_deref(), source)?;
        let shape = shape(&experiment.manifest);
        let forecast = self.forecast(&shape, &experiment)?;
        experiment.check_memory(&forecast, self.force)?;
        Ok(Draft {
            hash,
            shape,
            forecast,
            experiment,
        })
    }

    fn one(&self, draft: Draft<T>, point: &Point) -> Result<Planned> {
        let Draft {
            hash,
            shape,
            forecast,
            experiment,
        } = draft;
        let folder = match self.folders.get(&hash[..12]) {
            Some(folder) => folder.clone(),
            None => self
                .runs
                .join(format!("{}-{}", experiment.manifest.run.name, &hash[..12])),
        };
        let state = if self.folders.contains_key(&hash[..12]) {
            State::of(&folder)
        } else {
            State::New
        };
        let train = &experiment.manifest.train;
        let step = match experiment.check_memory(&forecast, false) {
            Ok(()) => self.step(&shape, &experiment)?,
            Err(_) => None,
        };
        let seconds = step.map(|step| {
            let train_tasks = train.iterations as f64 * train.meta_batch as f64;
            let validations = match train.validate_every {
                0 => 0,
                every => train.iterations.div_ceil(every),
            };
            let tested = experiment.manifest.test.episodes as f64
                + validations as f64 * train.validation_episodes as f64;
            // A prediction has no adjoint.
            step * (train_tasks + tested / 3.0)
        });
        Ok(Planned {
            hash,
            folder,
            label: point.label.clone(),
            trial: point.trial,
            metric: Metric::of(experiment.spec.task),
            forecast,
            seconds,
            state,
            manifest: experiment.manifest,
        })
    }

    fn source(&self, manifest: &Manifest) -> Result<Known> {
        let key = format!("{}{}", manifest.source.name, manifest.source.settings);
        let mut sources = self.sources.lock().expect("no planner panics");
        if let Some(known) = sources.get(&key) {
            return Ok(known.clone());
        }
        let source = experiment::source::<T>(manifest, self.data.as_deref())?;
        let content = source.content_hash();
        sources.insert(key, (source.clone(), content.clone()));
        Ok((source, content))
    }

    fn forecast(&self, shape: &str, experiment: &Experiment<T>) -> Result<Forecast> {
        if let Some(known) = self.forecasts.lock().expect("no planner panics").get(shape) {
            return Ok(*known);
        }
        let forecast = experiment.forecast()?;
        let mut forecasts = self.forecasts.lock().expect("no planner panics");
        forecasts.insert(shape.to_owned(), forecast);
        Ok(forecast)
    }

    fn step(&self, shape: &str, experiment: &Experiment<T>) -> Result<Option<f64>> {
        if experiment.manifest.train.iterations == 0 {
            return Ok(None);
        }
        let mut steps = self.steps.lock().expect("no planner panics");
        if let Some(known) = steps.get(shape) {
            return Ok(*known);
        }
        let mut measured = self.measured.lock().expect("no planner panics");
        let step = if *measured < MEASURE {
            let started = Instant::now();
            let target = experiment.manifest.run.target();
            let step = dispatch(&target, StepOf(experiment))??;
            *measured += started.elapsed();
            Some(step)
        } else {
            None
        };
        steps.insert(shape.to_owned(), step);
        Ok(step)
    }
}

/// What memory and the time of a step depend on: everything but real numbers and what only says how
/// often and on which episodes. No real number makes a tensor larger.
fn shape(manifest: &Manifest) -> String {
    let mut values = manifest.values();
    for section in ["", "train", "test"] {
        let keys: &[&str] = match section {
            "" => &["name", "seed", "threads"],
            "train" => &[
                "iterations",
                "log_every",
                "validate_every",
                "checkpoint_every",
            ],
            _ => &["episodes", "seed"],
        };
        let table = match section {
            "" => &mut values,
            section => &mut values[section],
        };
        if let Some(table) = table.as_object_mut() {
            table.retain(|key, _| !keys.contains(&key.as_str()));
        }
    }
    mask(&mut values);
    values.to_string()
}

fn mask(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => *value = Value::Null,
        Value::Object(entries) => entries.values_mut().for_each(mask),
        _ => {}
    }
}

/// Seconds that one task of a training step takes.
struct StepOf<'a, T: Toolkit>(&'a Experiment<T>);

impl<T: Toolkit> WithBackend for StepOf<'_, T> {
    type Output = Result<f64>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let experiment = self.0;
        let built = experiment.learner::<B>(&device);
        let (spec, context) = (&experiment.spec, TrainingContext::default());
        let shape = spec.train;
        let episode = experiment
            .source
            .episode(experiment.seed(), Split::Train, shape, 0)?;
        let episodes = [episode];
        let mut fastest = f64::INFINITY;
        for _ in 0..3 {
            let started = Instant::now();
            let step = sum_over_chunks(
                built.as_ref(),
                spec,
                &episodes,
                context,
                TaskChunks::default(),
                &device,
            );
            step.losses.into_data();
            step.gradients.squared_norm().into_data();
            fastest = started.elapsed().as_secs_f64().min(fastest);
        }
        Ok(fastest)
    }
}
