//! Builds and checks everything that a manifest names. The result is ready to run; nothing is written yet.

pub mod check;
pub mod graph_size;
pub mod initial;
pub mod memory;
pub mod subprocess;
pub mod trial;

use std::{
    error::Error as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use meta_core::{
    Error, backend,
    data::{Source, Split, find_source},
    learner::{Learner, LearnerList, New},
    nn::encoder::EncoderList,
    optim::Optimizer,
    parallel::TaskChunks,
    primitives::Primitives,
    processes::Processes,
    rng::Seed,
    task::TaskSpec,
    toolkit::Toolkit,
    train::{TrainSettings, Trainer, eval::FrozenEpisodes, outsiders::check_outsiders},
};
use serde_json::{Value, json};

use crate::{
    failure::{CommandError, Result},
    machine::cores,
    manifest::{Manifest, args::ManifestArgs},
};
use graph_size::Sizes;

/// A checked manifest and what it names.
pub struct Experiment<T: Toolkit> {
    /// The manifest.
    pub manifest: Manifest,
    /// Folder with the data sets, where one was given.
    pub data_folder: Option<PathBuf>,
    /// The data.
    pub source: Arc<dyn Source>,
    /// The network.
    pub architecture: T::Encoders,
    /// The settings of the learner.
    pub learner: T::Learners,
    /// Shapes of items and episodes.
    pub spec: TaskSpec,
}

impl<T: Toolkit> Experiment<T> {
    /// Resolves the manifest that `args` name, starts its threads, and prepares it.
    ///
    /// # Errors
    /// As [`Manifest::resolve`], [`start_threads`] and [`Experiment::prepare`].
    pub fn from_args(args: &ManifestArgs) -> Result<Self> {
        let manifest = args.resolve::<T>()?;
        start_threads(manifest.run.threads)?;
        Self::prepare(manifest, args.data.as_deref())
    }

    /// Builds the source (which reads its files), the network and checks that all fit together.
    ///
    /// # Errors
    /// The first thing that does not, with the place where it was given.
    pub fn prepare(manifest: Manifest, data_folder: Option<&Path>) -> Result<Self> {
        let manifest = initial::with_hash(manifest)?;
        let learner = learner_settings::<T>(&manifest)?;
        let source = source::<T>(&manifest, data_folder)?;
        Self::assemble(manifest, data_folder, source, learner, &Split::ALL)
    }

    /// The same for parameters that are trained: only the tested split must have its episodes.
    ///
    /// # Errors
    /// As [`Experiment::prepare`].
    pub fn trained(manifest: Manifest, data_folder: Option<&Path>) -> Result<Self> {
        let learner = learner_settings::<T>(&manifest)?;
        let source = source::<T>(&manifest, data_folder)?;
        let tested = [manifest.test.split];
        Self::assemble(manifest, data_folder, source, learner, &tested)
    }

    /// The same with the source of the manifest, which is built already.
    ///
    /// # Errors
    /// As [`Experiment::prepare`].
    pub fn with_source(
        manifest: Manifest,
        data_folder: Option<&Path>,
        source: Arc<dyn Source>,
    ) -> Result<Self> {
        let manifest = initial::with_hash(manifest)?;
        let learner = learner_settings::<T>(&manifest)?;
        Self::assemble(manifest, data_folder, source, learner, &Split::ALL)
    }

    fn assemble(
        manifest: Manifest,
        data_folder: Option<&Path>,
        source: Arc<dyn Source>,
        learner: T::Learners,
        splits: &[Split],
    ) -> Result<Self> {
        let at = |error| manifest.locate(error);
        let spec = TaskSpec {
            item: source.item_shape(),
            task: source.task(),
            train: manifest.data.train_shape(),
            test: manifest.data.test_shape(),
            train_classes: source.classes(Split::Train).unwrap_or(0),
            extras: source.extras(),
        };
        // Nothing that is trained needs no training tasks.
        if splits.contains(&Split::Train) && manifest.train.iterations > 0 {
            source
                .check(Split::Train, spec.train)
                .map_err(|error| at(training_key(&manifest, error)))?;
        }
        if splits.contains(&Split::Validation) && manifest.train.validate_every > 0 {
            source.check(Split::Validation, spec.test).map_err(at)?;
        }
        for &split in learner.calibration() {
            if splits.contains(&split) {
                check_calibration(&manifest, source.as_ref(), split, &spec).map_err(at)?;
            }
        }
        source.check(manifest.test.split, spec.test).map_err(at)?;
        let encoder = &manifest.encoder;
        let architecture =
            T::Encoders::new(&encoder.name, &encoder.settings, spec.item).map_err(at)?;
        learner.check(&architecture, &spec).map_err(at)?;
        let experiment = Experiment {
            manifest,
            data_folder: data_folder.map(Path::to_owned),
            source,
            architecture,
            learner,
            spec,
        };
        let manifest = &experiment.manifest;
        check_outsiders(&experiment.test_episodes(), manifest.test.outsiders)
            .map_err(|error| manifest.locate(error))?;
        Ok(experiment)
    }

    /// The learner, with parameters drawn from the seed.
    pub fn learner<B: Primitives>(&self, device: &B::Device) -> Box<dyn Learner<B>> {
        self.learner.clone().build(New {
            architecture: self.architecture.clone(),
            spec: &self.spec,
            seed: self.seed(),
            device,
        })
    }

    /// The outer optimiser.
    ///
    /// # Errors
    /// When it does not exist or a setting cannot be used.
    pub fn optimizer<B: Primitives>(&self) -> Result<Arc<dyn Optimizer<B>>> {
        let manifest = &self.manifest;
        T::optimizer::<B>(&manifest.train, &manifest.optimizer.settings)
            .map(Arc::from)
            .map_err(|error| manifest.locate(error))
    }

    /// What the sizes of its computation graphs follow from; `parameters` are the numbers of the
    /// learner's.
    pub fn sizes<B: Primitives>(&self, parameters: usize) -> Sizes<'_, T::Encoders> {
        Sizes {
            architecture: &self.architecture,
            spec: &self.spec,
            steps: self.learner.steps(),
            tokens: self.learner.tokens(&self.spec),
            parameters,
            side_by_side: B::SIDE_BY_SIDE,
            on_device: B::ON_DEVICE,
        }
    }

    /// How validation and test tasks are cut into graphs; `parameters` as of [`Experiment::sizes`].
    pub fn test_graphs<B: Primitives>(&self, parameters: usize) -> TaskChunks {
        let tasks = match self.manifest.test.chunk {
            0 => self.manifest.test.episodes,
            chunk => chunk,
        };
        self.sizes::<B>(parameters).test_graphs(tasks)
    }

    /// The outer loop with `settings`, for a learner with this number of `parameters`.
    ///
    /// # Errors
    /// As [`Experiment::optimizer`].
    pub fn trainer<B: Primitives>(
        &self,
        settings: TrainSettings,
        parameters: usize,
        device: &B::Device,
    ) -> Result<Trainer<B>> {
        Ok(Trainer {
            source: self.source.clone(),
            spec: self.spec,
            optimizer: self.optimizer::<B>()?,
            settings,
            seed: self.seed(),
            validation_seed: self.frozen_seed(),
            validation_graphs: self.test_graphs::<B>(parameters),
            device: device.clone(),
            processes: Processes::default(),
        })
    }

    /// Checks that the run may train in its precision.
    ///
    /// # Errors
    /// [`Error::Setting`] for the formats that only evaluate.
    pub fn check_precision_of_training(&self) -> Result<()> {
        let precision = self.manifest.run.precision;
        if precision.trains() {
            Ok(())
        } else {
            Err(self.manifest.locate(Error::setting(
                "precision",
                precision.name(),
                "is for evaluation (`meta eval`); train in f32 or f64",
            )))
        }
    }

    /// The identity of the run.
    pub fn hash(&self) -> String {
        self.manifest.hash(&self.source.content_hash())
    }

    /// The default run folder: `runs/<name>-<12 digits of the hash>`.
    pub fn default_folder(&self) -> PathBuf {
        let name = format!("{}-{}", self.manifest.run.name, &self.hash()[..12]);
        Path::new("runs").join(name)
    }

    /// Seed of the initial parameters and of the training episodes.
    pub fn seed(&self) -> Seed {
        Seed(self.manifest.run.seed)
    }

    /// Seed of the validation and test episodes.
    pub fn frozen_seed(&self) -> Seed {
        Seed(self.manifest.test.seed)
    }

    /// The episodes of the test.
    pub fn test_episodes(&self) -> FrozenEpisodes {
        FrozenEpisodes {
            source: self.source.clone(),
            split: self.manifest.test.split,
            seed: self.frozen_seed(),
            shape: self.spec.test,
            count: self.manifest.test.episodes,
        }
    }

    /// What a reader of a published number would have to ask about.
    pub fn protocol(&self) -> Value {
        use meta_core::nn::encoder::Architecture;
        let statistics = self.architecture.statistics();
        let setting = |key: &str| self.manifest.value(key).cloned().unwrap_or(Value::Null);
        let mut protocol = json!({
            "normalisation": statistics,
            "transductive": statistics.transductive() || self.learner.transductive(),
            "train": self.spec.train.to_string(),
            "test": self.spec.test.to_string(),
            "rotations": setting("data.rotations"),
            "augment_evaluation": setting("data.augment_evaluation"),
            "data_split": setting("data.split"),
            "tested_split": self.manifest.test.split,
            "test_steps": setting("learner.test_steps"),
            "checkpoint_choice": self.manifest.train.keep_best,
        });
        // What is new in tasks: of sources that can do either.
        if let Some(data) = self.manifest.value("data.protocol") {
            protocol["data_protocol"] = data.clone();
        }
        protocol
    }
}

/// Builds the data source of `manifest`; `data_folder` has the data sets.
///
/// # Errors
/// When a setting cannot be used or files are missing or damaged.
pub fn source<T: Toolkit>(
    manifest: &Manifest,
    data_folder: Option<&Path>,
) -> Result<Arc<dyn Source>> {
    find_source(&T::sources(), &manifest.source.name)
        .and_then(|entry| (entry.build)(&manifest.source.settings, data_folder))
        .map_err(|error| manifest.locate(error))
}

/// The split called `name`.
///
/// # Errors
/// When it does not exist, with the nearest one.
pub fn split_named(name: &str) -> Result<Split> {
    let found = Split::ALL.into_iter().find(|split| split.name() == name);
    found.ok_or_else(|| Error::unknown("split", name, Split::ALL.map(Split::name)).into())
}

/// Checks that episodes of the test's shape can be drawn from `split`, which the learner is calibrated on.
fn check_calibration(
    manifest: &Manifest,
    source: &dyn Source,
    split: Split,
    spec: &TaskSpec,
) -> meta_core::Result<()> {
    if manifest.train.validation_episodes == 0 {
        let expected = format!(
            "must be at least 1: `{}` is calibrated on as many {split} episodes after training",
            manifest.learner.name
        );
        return Err(Error::setting("train.validation_episodes", 0, expected));
    }
    source.check(split, spec.test)
}

/// A setting that the training episodes do not share with the test is named by its own key.
fn training_key(manifest: &Manifest, error: Error) -> Error {
    let data = &manifest.data;
    let own = [
        ("data.way", "data.train_way", data.train_way),
        ("data.shot", "data.train_shot", data.train_shot),
        ("data.query", "data.train_query", data.train_query),
    ];
    match error {
        Error::Setting {
            key,
            value,
            expected,
        } => {
            let key = own
                .into_iter()
                .find(|(shared, _, given)| *shared == key && *given != 0)
                .map_or(key.clone(), |(_, own, _)| own.to_owned());
            Error::setting(key, value, expected)
        }
        other => other,
    }
}

/// The settings of the learner of `manifest`, whose backend is compiled in and computes it rightly.
///
/// # Errors
/// When the backend is not or does not, or a setting cannot be used.
pub fn learner_settings<T: Toolkit>(manifest: &Manifest) -> Result<T::Learners> {
    let at = |error| manifest.locate(error);
    let (backend, learner) = (&manifest.run.backend, &manifest.learner);
    let settings = T::Learners::new(&learner.name, &learner.settings).map_err(at)?;
    if settings.wrong_on().contains(&backend.as_str()) {
        return Err(at(Error::Backend {
            name: backend.clone(),
            reason: format!(
                "computes wrong gradients for `{}` in Burn 0.21 (docs/backends.md); choose another \
                 backend",
                learner.name
            ),
        }));
    }
    backend::check(backend).map_err(at)?;
    Ok(settings)
}

/// Sets the number of threads of the CPU backends; `threads = 0` is one per core.
///
/// The calling thread is one of several: outside the pool it would sleep while the pool works, and wake
/// for each kernel. A pool of one is apart from it, so that a data source may use the pool while the
/// caller waits for its episodes. A process has one pool: where it is there already, it stays as it is.
///
/// # Errors
/// When the threads cannot be started.
pub fn start_threads(threads: usize) -> Result<()> {
    static STARTED: Mutex<bool> = Mutex::new(false);
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if *started {
        return Ok(());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    let pool = match if threads == 0 { cores() } else { threads } {
        1 => pool,
        _ => pool.use_current_thread(),
    };
    match pool.build_global() {
        // What came before has computed in parallel already; results do not depend on the threads.
        Err(error) if error.source().is_none() => {}
        other => {
            other.map_err(|error| CommandError::Usage(format!("`threads = {threads}`: {error}")))?
        }
    }
    *started = true;
    Ok(())
}
