//! The outer loop: meta-batches, optimiser, schedule, validation, checkpoints, early stop.
//!
//! It knows the contract of [`Learner`] and no learner. One iteration is: `meta_batch` episodes from
//! the training stream (prepared by a worker thread while the step before computes), their
//! meta-gradient, clipping, one step of the outer optimiser. Everything that the next iteration
//! depends on is in the learner's parameters and in [`TrainState`]; the episode stream is addressed
//! by index, so its position is the iteration. A run that is stopped and continued from its
//! checkpoint therefore computes the same bits as one that is not.
//!
//! Values stay on the device. They are read, all that have gathered at once, when an iteration is
//! logged, validated or saved; a loss or gradient that is not a number is found then, and reported
//! with the iteration that produced it.

use std::{path::Path, sync::Arc};

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Error, Result,
    checkpoint::{Checkpoint, prefixed},
    data::{Episode, Prefetch, Source, Split},
    device,
    eval::{FrozenEpisodes, Metric, evaluate},
    graphs::Graphs,
    learner::{Answers, Learner, MetaGradient},
    optim::{self, OptimizerSettings, OptimizerState},
    params::Params,
    primitives::Primitives,
    rng::Seed,
    selection::{Pending, Selection, TaskSelection, TaskWeights},
    settings::{above_zero, in_unit},
    stats::Interval,
    task::{Moment, TaskBatch, TaskSpec},
};

/// Meta-batches that are prepared ahead of the computation.
const PREFETCH: usize = 2;

/// How the learning rate changes over the iterations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// The same at every iteration.
    Constant,
    /// Half a cosine from `lr` to `lr_final` (Loshchilov and Hutter, *SGDR*, ICLR 2017, equation 5,
    /// without restarts).
    Cosine,
    /// Multiplied by `step_factor` after every `step_every` iterations.
    Step,
}

/// By which validation metric the best parameters are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepBest {
    /// Highest validation accuracy (regression: lowest mean squared error).
    Accuracy,
    /// Lowest validation loss.
    Loss,
    /// No choice: the parameters after the last iteration.
    Last,
}

/// Settings of the outer loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainSettings {
    /// Outer iterations (steps of the outer optimiser).
    pub iterations: u64,
    /// Tasks in a meta-batch.
    pub meta_batch: usize,
    /// Tasks in one computation graph; the gradients of a meta-batch's chunks are averaged with
    /// their sizes as weights. Bounds memory; changes only rounding. 0: as many as `chunk_memory`
    /// allows.
    pub task_chunk: usize,
    /// Memory that the graphs computed at a time may take, in MB, by an estimate from the settings
    /// alone; at least one task is taken. 0: no bound, the whole meta-batch in one graph.
    pub chunk_memory: usize,
    /// Graphs computed side by side on a CPU, at most, each on a thread of its own; they change no
    /// result. 0: as many as there are threads, within `chunk_memory`.
    pub graphs_at_once: usize,
    /// Learning rate of the outer optimiser.
    pub lr: f64,
    /// Schedule of the learning rate: `constant`, `cosine` or `step`.
    pub schedule: Schedule,
    /// Last learning rate of the cosine schedule.
    pub lr_final: f64,
    /// Iterations between two steps of the step schedule.
    pub step_every: u64,
    /// Factor of the learning rate at each step of the step schedule.
    pub step_factor: f64,
    /// Iterations over which the learning rate first rises linearly from 0.
    pub warmup: u64,
    /// The outer optimiser.
    #[serde(flatten)]
    pub optimizer: OptimizerSettings,
    /// Weights of the tasks of a meta-batch: `none` (all alike), `attention` (by attention over the
    /// tasks' losses and supports) or `uniform` (all alike, and logged).
    pub task_selection: TaskSelection,
    /// Least entropy of the weights over its maximum, in [0, 1]; with `task_selection = "attention"`.
    pub selection_entropy: f64,
    /// Learning rate of the attention over tasks (Adam), above 0.
    pub selection_lr: f64,
    /// Largest Euclidean norm of the meta-gradient, which is scaled down to it. 0: no limit.
    pub clip_norm: f64,
    /// Iterations between two logged iterations. 0: none is logged.
    pub log_every: u64,
    /// Iterations between two validations; there is one more after the last iteration. 0: never.
    pub validate_every: u64,
    /// Frozen episodes of a validation.
    pub validation_episodes: usize,
    /// Which parameters are tested: `accuracy` (highest validation accuracy; regression: lowest mean
    /// squared error), `loss` (lowest validation loss) or `last` (after the last iteration).
    pub keep_best: KeepBest,
    /// Validations in a row without improvement after which training stops. 0: never.
    pub patience: u64,
    /// Iterations between two checkpoints; there is always one after the last iteration. 0: only
    /// that one.
    pub checkpoint_every: u64,
}

impl Default for TrainSettings {
    fn default() -> Self {
        TrainSettings {
            iterations: 2000,
            meta_batch: 4,
            task_chunk: 0,
            chunk_memory: 256,
            graphs_at_once: 0,
            lr: 1e-3,
            schedule: Schedule::Constant,
            lr_final: 0.0,
            step_every: 2000,
            step_factor: 0.5,
            warmup: 0,
            optimizer: OptimizerSettings::default(),
            task_selection: TaskSelection::None,
            selection_entropy: 0.9,
            selection_lr: 1e-2,
            clip_norm: 0.0,
            log_every: 10,
            validate_every: 500,
            validation_episodes: 100,
            keep_best: KeepBest::Accuracy,
            patience: 0,
            checkpoint_every: 500,
        }
    }
}

impl TrainSettings {
    /// Checks every value, alone and against each other.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the key under `train.`, its value and what was expected.
    pub fn check(&self) -> Result<()> {
        self.optimizer.check("train")?;
        above_zero("train.selection_lr", self.selection_lr)?;
        if self.selection_entropy != 1.0 {
            in_unit("train.selection_entropy", self.selection_entropy)?;
        }
        let require =
            |holds: bool, key: &str, value: &dyn std::fmt::Display, expected: &str| match holds {
                true => Ok(()),
                false => Err(Error::setting(format!("train.{key}"), value, expected)),
            };
        let at_least_0 = |value: f64| value >= 0.0 && value.is_finite();
        let meta_batch = &self.meta_batch;
        require(
            self.iterations >= 1,
            "iterations",
            &self.iterations,
            "must be at least 1",
        )?;
        require(
            *meta_batch >= 1,
            "meta_batch",
            meta_batch,
            "must be at least 1",
        )?;
        require(
            self.lr > 0.0 && self.lr.is_finite(),
            "lr",
            &self.lr,
            "must be above 0",
        )?;
        require(
            at_least_0(self.lr_final),
            "lr_final",
            &self.lr_final,
            "must be at least 0",
        )?;
        require(
            self.step_every >= 1,
            "step_every",
            &self.step_every,
            "must be at least 1",
        )?;
        require(
            self.step_factor > 0.0 && self.step_factor <= 1.0,
            "step_factor",
            &self.step_factor,
            "must be in (0, 1]",
        )?;
        require(
            self.warmup < self.iterations,
            "warmup",
            &self.warmup,
            &format!("must be below train.iterations = {}", self.iterations),
        )?;
        require(
            at_least_0(self.clip_norm),
            "clip_norm",
            &self.clip_norm,
            "must be at least 0",
        )?;
        require(
            self.validation_episodes >= 2 || self.validate_every == 0,
            "validation_episodes",
            &self.validation_episodes,
            "must be at least 2 (an interval needs two)",
        )?;
        require(
            self.patience == 0 || self.validate_every > 0,
            "patience",
            &self.patience,
            "needs validations, but train.validate_every = 0",
        )
    }

    /// How a meta-batch is cut into computation graphs.
    pub fn graphs(&self) -> Graphs {
        Graphs {
            tasks: self.task_chunk,
            at_once: self.graphs_at_once,
        }
    }

    /// The learning rate of `iteration`, counted from 1.
    ///
    /// Cosine, with `w` = warmup and `N` = iterations: `lr_final + (lr − lr_final) · ½(1 + cos(π
    /// (i − 1 − w) / (N − w)))`. During warm-up the scheduled rate is multiplied by `i / w`.
    pub fn learning_rate(&self, iteration: u64) -> f64 {
        let done = (iteration - 1) as f64;
        let warmup = self.warmup as f64;
        let scheduled = match self.schedule {
            Schedule::Constant => self.lr,
            Schedule::Cosine => {
                let part = (done - warmup).max(0.0) / (self.iterations as f64 - warmup);
                let cosine = 0.5 * (1.0 + (std::f64::consts::PI * part).cos());
                self.lr_final + (self.lr - self.lr_final) * cosine
            }
            Schedule::Step => {
                let steps = (iteration - 1) / self.step_every;
                self.lr
                    * self
                        .step_factor
                        .powi(i32::try_from(steps).unwrap_or(i32::MAX))
            }
        };
        match iteration < self.warmup {
            true => scheduled * iteration as f64 / warmup,
            false => scheduled,
        }
    }
}

/// The best parameters so far.
#[derive(Clone, Debug)]
pub struct Best<B: Primitives> {
    /// The iteration after which they were validated.
    pub iteration: u64,
    /// Their validation metric; none where `keep_best = "last"`.
    pub value: Option<f64>,
    /// The parameters.
    pub parameters: Params<B>,
}

/// Everything that the next iteration depends on, but for the learner's parameters.
#[derive(Clone, Debug)]
pub struct TrainState<B: Primitives> {
    /// Iterations done.
    pub iteration: u64,
    /// State of the outer optimiser.
    pub optimizer: OptimizerState<B>,
    /// The best parameters so far.
    pub best: Option<Best<B>>,
    /// Validations since the best one.
    pub validations_without_improvement: u64,
    /// The attention over tasks, with `task_selection = "attention"` from the first iteration on.
    pub selection: Option<Selection<B>>,
}

impl<B: Primitives> Default for TrainState<B> {
    fn default() -> Self {
        Self::new()
    }
}

/// The scalars of a [`TrainState`], as a checkpoint's record holds them.
#[derive(Serialize, Deserialize)]
struct StateRecord {
    iteration: u64,
    /// Index of the next training episode: the position of the sampler.
    next_episode: u64,
    optimizer_step: u64,
    moments: usize,
    best: Option<BestRecord>,
    validations_without_improvement: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selection: Option<SelectionRecord>,
}

#[derive(Serialize, Deserialize)]
struct SelectionRecord {
    optimizer_step: u64,
    moments: usize,
    /// Tasks of the meta-batch that is not judged yet.
    pending: usize,
}

#[derive(Serialize, Deserialize)]
struct BestRecord {
    iteration: u64,
    value: Option<f64>,
}

impl<B: Primitives> TrainState<B> {
    /// The state before the first iteration.
    pub fn new() -> Self {
        TrainState {
            iteration: 0,
            optimizer: OptimizerState::new(),
            best: None,
            validations_without_improvement: 0,
            selection: None,
        }
    }

    /// The whole state as a checkpoint, with `extra` for what the caller must remember.
    pub fn to_checkpoint(
        &self,
        parameters: &Params<B>,
        settings: &TrainSettings,
        extra: Value,
    ) -> Checkpoint {
        let record = StateRecord {
            iteration: self.iteration,
            next_episode: self.iteration * settings.meta_batch as u64,
            optimizer_step: self.optimizer.step,
            moments: self.optimizer.moments.len(),
            best: self.best.as_ref().map(|best| BestRecord {
                iteration: best.iteration,
                value: best.value,
            }),
            validations_without_improvement: self.validations_without_improvement,
            selection: self.selection.as_ref().map(|selection| SelectionRecord {
                optimizer_step: selection.optimizer.step,
                moments: selection.optimizer.moments.len(),
                pending: selection
                    .pending
                    .as_ref()
                    .map_or(0, |pending| pending.gradients.len()),
            }),
        };
        let mut tensors: Vec<(String, TensorData)> =
            prefixed("parameters", parameters.to_data()).collect();
        for (index, moment) in self.optimizer.moments.iter().enumerate() {
            tensors.extend(prefixed(&format!("moments.{index}"), moment.to_data()));
        }
        if let Some(best) = &self.best {
            tensors.extend(prefixed("best", best.parameters.to_data()));
        }
        if let Some(selection) = &self.selection {
            tensors.extend(selection_tensors(selection));
        }
        Checkpoint {
            record: json!({ "train": record, "extra": extra }),
            tensors,
        }
    }

    /// Parameters, state and `extra` from a checkpoint read from `path`; `expected` are the learner's
    /// parameters as built.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the file belongs to another architecture or optimiser, naming the
    /// first difference.
    pub fn from_checkpoint(
        path: &Path,
        mut checkpoint: Checkpoint,
        expected: &Params<B>,
        settings: &TrainSettings,
        device: &B::Device,
    ) -> Result<(Params<B>, Self, Value)> {
        let record: StateRecord = serde_json::from_value(checkpoint.record["train"].take())
            .map_err(|error| {
                Error::checkpoint(path, format!("is not a training checkpoint: {error}"))
            })?;
        if record.next_episode != record.iteration * settings.meta_batch as u64 {
            return Err(Error::checkpoint(
                path,
                format!(
                    "was written with another train.meta_batch: {} episodes in {} iterations, \
                     expected {} in each",
                    record.next_episode, record.iteration, settings.meta_batch
                ),
            ));
        }
        let parameters = parameters_like(path, checkpoint.take("parameters"), expected, device)?;
        let moments = (0..record.moments)
            .map(|index| Params::from_data(checkpoint.take(&format!("moments.{index}")), device))
            .collect();
        let best = match record.best {
            Some(best) => Some(Best {
                iteration: best.iteration,
                value: best.value,
                parameters: parameters_like(path, checkpoint.take("best"), expected, device)?,
            }),
            None => None,
        };
        let selection = record
            .selection
            .map(|record| read_selection(path, &record, &mut checkpoint, device))
            .transpose()?;
        let state = TrainState {
            selection,
            iteration: record.iteration,
            optimizer: OptimizerState {
                step: record.optimizer_step,
                moments,
            },
            best,
            validations_without_improvement: record.validations_without_improvement,
        };
        Ok((parameters, state, checkpoint.record["extra"].take()))
    }
}

/// Everything of the attention over tasks that the next iteration depends on.
fn selection_tensors<B: Primitives>(selection: &Selection<B>) -> Vec<(String, TensorData)> {
    let mut tensors: Vec<(String, TensorData)> =
        prefixed("selection.parameters", selection.parameters.to_data()).collect();
    for (index, moment) in selection.optimizer.moments.iter().enumerate() {
        let name = format!("selection.moments.{index}");
        tensors.extend(prefixed(&name, moment.to_data()));
    }
    if let Some(pending) = &selection.pending {
        let features = vec![("f".to_owned(), pending.features.clone().into_data())];
        tensors.extend(prefixed("selection.features", features));
        for (index, gradient) in pending.gradients.iter().enumerate() {
            let name = format!("selection.gradients.{index}");
            tensors.extend(prefixed(&name, gradient.to_data()));
        }
    }
    tensors
}

fn read_selection<B: Primitives>(
    path: &Path,
    record: &SelectionRecord,
    checkpoint: &mut Checkpoint,
    device: &B::Device,
) -> Result<Selection<B>> {
    let mut read = |name: &str| Params::from_data(checkpoint.take(name), device);
    let parameters = read("selection.parameters");
    let moments = (0..record.moments)
        .map(|index| read(&format!("selection.moments.{index}")))
        .collect();
    let features = read("selection.features");
    let gradients: Vec<Params<B>> = (0..record.pending)
        .map(|index| read(&format!("selection.gradients.{index}")))
        .collect();
    let pending = match record.pending {
        0 => None,
        _ => {
            let features = features.get::<2>("f").ok_or_else(|| {
                Error::checkpoint(path, "has no features of the last meta-batch".to_owned())
            })?;
            Some(Pending {
                features,
                gradients,
            })
        }
    };
    Ok(Selection {
        parameters,
        optimizer: OptimizerState {
            step: record.optimizer_step,
            moments,
        },
        pending,
    })
}

/// Parameters from the tensors of the file at `path`, which must be those of `expected`.
///
/// # Errors
/// [`Error::Checkpoint`] naming the first entry that is missing, superfluous, of another shape or of
/// another type.
pub fn parameters_like<B: Primitives>(
    path: &Path,
    data: Vec<(String, TensorData)>,
    expected: &Params<B>,
    device: &B::Device,
) -> Result<Params<B>> {
    let refused = |difference: String| {
        Error::checkpoint(
            path,
            format!("holds a checkpoint from another architecture: {difference}"),
        )
    };
    let found: Vec<(String, Vec<usize>)> = data
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.shape.to_vec()))
        .collect();
    expected.check_like(&found).map_err(refused)?;
    let mut by_name: std::collections::HashMap<String, TensorData> = data.into_iter().collect();
    let mut ordered = Vec::with_capacity(by_name.len());
    for (name, built) in expected.to_data() {
        let Some(tensor) = by_name.remove(&name) else {
            return Err(refused(format!("parameter `{name}` is missing")));
        };
        if tensor.dtype != built.dtype {
            return Err(refused(format!(
                "parameter `{name}` is {:?}, expected {:?}",
                tensor.dtype, built.dtype
            )));
        }
        ordered.push((name, tensor));
    }
    Ok(Params::from_data(ordered, device))
}

/// A logged iteration. Holds nothing that differs between two runs of the same manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IterationRecord {
    /// The iteration, counted from 1.
    pub iteration: u64,
    /// Mean query loss of its tasks.
    pub loss: f64,
    /// Mean query score of its tasks (accuracy, or mean squared error), with the interval over tasks.
    pub score: Interval,
    /// Euclidean norm of the meta-gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Weights of its tasks, where they are selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<TaskWeights>,
}

/// A validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// Iterations done.
    pub iteration: u64,
    /// What `score` is.
    pub metric: Metric,
    /// Mean score on the frozen validation episodes.
    pub score: Interval,
    /// Mean query loss on them.
    pub loss: Interval,
    /// Whether these are the best parameters so far.
    pub best: bool,
}

/// Whoever wants to know how training goes: progress, metrics files, checkpoints.
pub trait Observer<B: Primitives> {
    /// After every iteration, before anything is read from the device.
    fn tick(&mut self, _iteration: u64) {}

    /// After every `log_every` iterations.
    ///
    /// # Errors
    /// Whatever stops training, such as a full disk.
    fn iteration(&mut self, _record: &IterationRecord) -> Result<()> {
        Ok(())
    }

    /// After every validation.
    ///
    /// # Errors
    /// Whatever stops training.
    fn validation(&mut self, _record: &ValidationRecord) -> Result<()> {
        Ok(())
    }

    /// When the state is to be saved.
    ///
    /// # Errors
    /// Whatever stops training.
    fn checkpoint(&mut self, _parameters: &Params<B>, _state: &TrainState<B>) -> Result<()> {
        Ok(())
    }

    /// Asked after every iteration; training saves its state and stops when true.
    fn should_stop(&self) -> bool {
        false
    }
}

/// An observer that does nothing.
impl<B: Primitives> Observer<B> for () {}

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All iterations are done.
    Finished,
    /// `patience` validations brought no improvement.
    Patience,
    /// The observer asked to stop; the state is saved and can be continued.
    Interrupted,
}

/// The outer loop of one run.
#[derive(Clone)]
pub struct Trainer<B: Primitives> {
    /// Where the episodes come from.
    pub source: Arc<dyn Source>,
    /// Shapes of items and episodes.
    pub spec: TaskSpec,
    /// Settings of the loop.
    pub settings: TrainSettings,
    /// Seed of the training episodes.
    pub seed: Seed,
    /// Seed of the frozen validation episodes.
    pub validation_seed: Seed,
    /// How validation tasks are cut into graphs.
    pub validation_graphs: Graphs,
    /// Where to compute.
    pub device: B::Device,
}

/// The meta-gradient of a meta-batch and its device-side scalars.
struct Step<B: Primitives> {
    iteration: u64,
    gradient: MetaGradient<B>,
    /// Mean loss and squared gradient norm, `[2]`: finite in a healthy run.
    health: Tensor<B, 1>,
    /// Weights of the tasks, where they are selected.
    weights: Option<TaskWeights>,
}

impl<B: Primitives> Trainer<B> {
    /// Trains `learner` from `state` on, to the last iteration or until it stops early.
    ///
    /// # Errors
    /// [`Error::Diverged`] when a loss or gradient is not finite; the learner then has the parameters
    /// of the last iteration known to be good (see the module's documentation) and nothing is saved.
    /// Otherwise what the source or the observer reports.
    pub fn run(
        &self,
        learner: &mut dyn Learner<B>,
        mut state: TrainState<B>,
        observer: &mut dyn Observer<B>,
    ) -> Result<(TrainState<B>, Ending)> {
        let settings = &self.settings;
        let mut episodes = Prefetch::new(
            self.source.clone(),
            self.seed,
            Split::Train,
            self.spec.train,
            state.iteration * settings.meta_batch as u64,
            settings.meta_batch,
            PREFETCH,
        );
        // Scalars not yet read, and the parameters before the first of their iterations.
        let mut unread: Vec<(u64, Tensor<B, 1>)> = Vec::new();
        let mut good = learner.parameters();
        while state.iteration < settings.iterations && !self.out_of_patience(&state) {
            let iteration = state.iteration + 1;
            let step =
                self.meta_gradient(learner, iteration, &episodes.next()?, &mut state.selection);
            unread.push((iteration, step.health.clone()));
            let last = iteration == settings.iterations;
            let stop = observer.should_stop();
            let due = |every: u64| every > 0 && iteration.is_multiple_of(every);
            let log = due(settings.log_every);
            let validate = settings.validate_every > 0 && (due(settings.validate_every) || last);
            let save = due(settings.checkpoint_every) || last || stop;
            if (log || validate || save || settings.clip_norm > 0.0)
                && let Err(diverged) = check_health(&mut unread)
            {
                learner.set_parameters(good);
                return Err(diverged);
            }
            let record = log.then(|| self.record(&step));
            state.optimizer = self.update(learner, step, state.optimizer);
            state.iteration = iteration;
            observer.tick(iteration);
            if unread.is_empty() {
                good = learner.parameters();
            }
            if let Some(record) = record {
                observer.iteration(&record)?;
            }
            if validate {
                let record = self.validate(learner, &mut state)?;
                observer.validation(&record)?;
            }
            let ends = last || self.out_of_patience(&state);
            if ends && (settings.keep_best == KeepBest::Last || state.best.is_none()) {
                state.best = Some(Best {
                    iteration,
                    value: None,
                    parameters: learner.parameters(),
                });
            }
            if save || ends {
                observer.checkpoint(&learner.parameters(), &state)?;
            }
            if stop && !ends {
                return Ok((state, Ending::Interrupted));
            }
        }
        let ending = match state.iteration < settings.iterations {
            true => Ending::Patience,
            false => Ending::Finished,
        };
        Ok((state, ending))
    }

    fn out_of_patience(&self, state: &TrainState<B>) -> bool {
        self.settings.patience > 0
            && state.validations_without_improvement >= self.settings.patience
    }

    fn meta_gradient(
        &self,
        learner: &dyn Learner<B>,
        iteration: u64,
        episodes: &[Episode],
        selection: &mut Option<Selection<B>>,
    ) -> Step<B> {
        let moment = Moment {
            progress: (iteration - 1) as f64 / self.settings.iterations as f64,
            noise: Some(self.seed),
        };
        let (spec, device) = (&self.spec, &self.device);
        let settings = &self.settings;
        let together = || {
            let graphs = settings.graphs();
            meta_gradient(learner, spec, episodes, moment, graphs, device)
        };
        let (gradient, weights) = match settings.task_selection {
            TaskSelection::None => (together(), None),
            TaskSelection::Uniform => (together(), Some(TaskWeights::uniform(episodes.len()))),
            TaskSelection::Attention => {
                let selection =
                    selection.get_or_insert_with(|| Selection::new(self.seed, &self.device));
                let graphs = Graphs {
                    tasks: 1,
                    ..settings.graphs()
                };
                let each = meta_gradients(learner, spec, episodes, moment, graphs, device);
                let (floor, lr) = (settings.selection_entropy, settings.selection_lr);
                let (gradient, weights) = selection.apply(each, episodes, self.seed, floor, lr);
                (gradient, Some(weights))
            }
        };
        let health = Tensor::cat(
            vec![
                gradient.losses.clone().mean(),
                gradient.gradients.squared_norm(),
            ],
            0,
        );
        Step {
            iteration,
            gradient,
            health,
            weights,
        }
    }

    fn record(&self, step: &Step<B>) -> IterationRecord {
        let health = read(step.health.clone());
        IterationRecord {
            iteration: step.iteration,
            loss: health[0],
            score: Interval::t95(&read(step.gradient.scores.clone())),
            gradient_norm: health[1].sqrt(),
            lr: self.settings.learning_rate(step.iteration),
            selection: step.weights.clone(),
        }
    }

    /// Clips, steps the optimiser and gives the learner its new parameters.
    fn update(
        &self,
        learner: &mut dyn Learner<B>,
        step: Step<B>,
        optimizer: OptimizerState<B>,
    ) -> OptimizerState<B> {
        let mut gradients = step.gradient.gradients;
        let limit = self.settings.clip_norm;
        if limit > 0.0 {
            let norm = read(step.health)[1].sqrt();
            if norm > limit {
                gradients = gradients.scale(limit / norm);
            }
        }
        let (parameters, optimizer) = optim::step(
            &self.settings.optimizer,
            self.settings.learning_rate(step.iteration),
            learner.parameters(),
            &gradients,
            optimizer,
        );
        learner.set_parameters(parameters.overwrite(step.gradient.buffers));
        optimizer
    }

    /// Validates on the frozen episodes and keeps the parameters if they are the best so far.
    fn validate(
        &self,
        learner: &dyn Learner<B>,
        state: &mut TrainState<B>,
    ) -> Result<ValidationRecord> {
        let set = FrozenEpisodes {
            source: self.source.clone(),
            split: Split::Validation,
            seed: self.validation_seed,
            shape: self.spec.test,
            count: self.settings.validation_episodes,
        };
        let evaluation = evaluate(
            learner,
            &self.spec,
            &set,
            Answers::Last,
            self.validation_graphs,
            &self.device,
            |_| {},
        )?;
        let (score, loss) = (evaluation.score(), evaluation.loss());
        let value = match self.settings.keep_best {
            KeepBest::Accuracy => score.mean,
            KeepBest::Loss | KeepBest::Last => loss.mean,
        };
        let higher_is_better =
            self.settings.keep_best == KeepBest::Accuracy && evaluation.metric == Metric::Accuracy;
        let best_value = state.best.as_ref().and_then(|best| best.value);
        let best = improves(value, best_value, higher_is_better);
        if best {
            state.validations_without_improvement = 0;
            state.best = Some(Best {
                iteration: state.iteration,
                value: Some(value),
                parameters: learner.parameters(),
            });
        } else {
            state.validations_without_improvement += 1;
        }
        Ok(ValidationRecord {
            iteration: state.iteration,
            metric: evaluation.metric,
            score,
            loss,
            best,
        })
    }
}

/// The meta-gradient of the tasks of `episodes` at `moment`, computed in several graphs: the mean over
/// tasks of the gradients of all.
///
/// The graphs bound memory and, but for rounding, change nothing; how many are computed side by side
/// changes nothing at all.
///
/// # Panics
/// When there is no episode, or they differ in shape.
pub fn meta_gradient<B: Primitives>(
    learner: &dyn Learner<B>,
    spec: &TaskSpec,
    episodes: &[Episode],
    moment: Moment,
    graphs: Graphs,
    device: &B::Device,
) -> MetaGradient<B> {
    meta_gradients(learner, spec, episodes, moment, graphs, device)
        .into_iter()
        .reduce(MetaGradient::merge)
        .expect("a meta-batch has at least one task")
}

/// The meta-gradient of each graph's tasks.
fn meta_gradients<B: Primitives>(
    learner: &dyn Learner<B>,
    spec: &TaskSpec,
    episodes: &[Episode],
    moment: Moment,
    graphs: Graphs,
    device: &B::Device,
) -> Vec<MetaGradient<B>> {
    graphs.each(episodes, B::SIDE_BY_SIDE, |tasks| {
        learner.meta_gradient(&TaskBatch::new(tasks, spec, device).at(moment))
    })
}

/// Whether `value` is better than the best one before it; what is not a number never is.
fn improves(value: f64, before: Option<f64>, higher_is_better: bool) -> bool {
    match before {
        None => !value.is_nan(),
        Some(before) if higher_is_better => value > before,
        Some(before) => value < before,
    }
}

fn read<B: Primitives>(tensor: Tensor<B, 1>) -> Vec<f64> {
    let values = tensor.into_data().iter::<f64>().collect();
    device::check();
    values
}

/// Reads the gathered scalars at once and forgets them.
fn check_health<B: Primitives>(unread: &mut Vec<(u64, Tensor<B, 1>)>) -> Result<()> {
    let (iterations, scalars): (Vec<u64>, Vec<Tensor<B, 1>>) = unread.drain(..).unzip();
    if scalars.is_empty() {
        return Ok(());
    }
    let values = read(Tensor::cat(scalars, 0));
    for (iteration, pair) in iterations.into_iter().zip(values.chunks(2)) {
        let named = [("loss", pair[0]), ("squared gradient norm", pair[1])];
        for (what, value) in named {
            if !value.is_finite() {
                return Err(Error::Diverged {
                    iteration,
                    what,
                    value,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Cpu,
        data::{EpisodeShape, SinusoidConfig},
        settings::Settings,
        task::TargetBatch,
    };

    #[test]
    fn the_schedules_match_their_formulas() {
        let settings = |schedule| TrainSettings {
            iterations: 100,
            lr: 1.0,
            schedule,
            lr_final: 0.1,
            step_every: 30,
            step_factor: 0.5,
            ..TrainSettings::default()
        };
        assert_eq!(settings(Schedule::Constant).learning_rate(77), 1.0);
        let cosine = settings(Schedule::Cosine);
        assert_eq!(cosine.learning_rate(1), 1.0);
        assert!((cosine.learning_rate(51) - 0.55).abs() < 1e-12);
        let step = settings(Schedule::Step);
        let rates = [1, 30, 31, 60, 61].map(|iteration| step.learning_rate(iteration));
        assert_eq!(rates, [1.0, 1.0, 0.5, 0.5, 0.25]);
        let warm = TrainSettings {
            warmup: 10,
            ..settings(Schedule::Constant)
        };
        let rates = [1, 5, 10, 11].map(|iteration| warm.learning_rate(iteration));
        assert_eq!(rates, [0.1, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn settings_read_flat_and_refuse_what_cannot_be() {
        let given = json!({ "optimizer": "sgd", "momentum": 0.9, "iterations": 5, "lr": 1 });
        let settings = TrainSettings::from_value("train", &given).unwrap();
        assert_eq!(settings.optimizer.momentum, 0.9);
        settings.check().unwrap();
        for (key, value) in [
            ("iterations", json!(0)),
            ("meta_batch", json!(0)),
            ("lr", json!(0.0)),
            ("momentum", json!(1.0)),
            ("clip_norm", json!(-1.0)),
            ("warmup", json!(5)),
            ("step_factor", json!(2.0)),
            ("validation_episodes", json!(1)),
            ("selection_entropy", json!(1.5)),
            ("selection_lr", json!(0.0)),
        ] {
            let mut bad = given.clone();
            bad[key] = value;
            let message = TrainSettings::from_value("train", &bad)
                .unwrap()
                .check()
                .unwrap_err()
                .to_string();
            assert!(message.contains(&format!("train.{key}")), "{message}");
        }
        let unknown = TrainSettings::from_value("train", &json!({ "optimiser": "adam" }));
        let message = unknown.unwrap_err().to_string();
        assert!(message.contains("did you mean `optimizer`"), "{message}");
    }

    /// Predicts the constant `θ` for every query: `∂ loss / ∂θ = 2 mean(θ − y)`.
    struct Constant {
        parameters: Params<Cpu>,
    }

    impl Constant {
        fn new() -> Self {
            let mut parameters = Params::default();
            parameters.push(
                "theta",
                Tensor::<Cpu, 2>::zeros([1, 1], &Default::default()),
            );
            Constant { parameters }
        }

        fn theta(&self) -> Tensor<Cpu, 2> {
            self.parameters.get("theta").unwrap()
        }
    }

    impl Learner<Cpu> for Constant {
        fn parameters(&self) -> Params<Cpu> {
            self.parameters.clone()
        }

        fn set_parameters(&mut self, parameters: Params<Cpu>) {
            self.parameters = parameters;
        }

        fn meta_gradient(&self, tasks: &TaskBatch<Cpu>) -> MetaGradient<Cpu> {
            let TargetBatch::Values(targets) = &tasks.query.targets else {
                panic!("a regression");
            };
            let errors = self.theta().unsqueeze::<3>() - targets.clone();
            let mut gradients = Params::default();
            gradients.push(
                "theta",
                errors.clone().mean().mul_scalar(2.0).reshape([1, 1]),
            );
            let losses: Tensor<Cpu, 1> = errors.powi_scalar(2).mean_dim(1).reshape([tasks.tasks()]);
            MetaGradient {
                gradients,
                buffers: Params::default(),
                scores: losses.clone(),
                losses,
            }
        }

        fn predict(&self, tasks: &TaskBatch<Cpu>, _answers: Answers) -> Vec<Tensor<Cpu, 3>> {
            let [t, q] = tasks.query.dims();
            vec![self.theta().unsqueeze::<3>().expand([t, q, 1])]
        }
    }

    fn trainer(settings: TrainSettings) -> Trainer<Cpu> {
        let source: Arc<dyn Source> = Arc::new(SinusoidConfig::default().build().unwrap());
        let shape = EpisodeShape::new(1, 2, 5);
        settings.check().unwrap();
        Trainer {
            spec: TaskSpec {
                item: source.item_shape(),
                task: source.task(),
                train: shape,
                test: shape,
            },
            source,
            settings,
            seed: Seed(1),
            validation_seed: Seed(0),
            validation_graphs: Graphs {
                tasks: 3,
                at_once: 1,
            },
            device: Default::default(),
        }
    }

    fn settings() -> TrainSettings {
        TrainSettings {
            iterations: 30,
            meta_batch: 6,
            lr: 0.1,
            log_every: 5,
            validate_every: 10,
            validation_episodes: 8,
            ..TrainSettings::default()
        }
    }

    /// Counts, and stops after so many iterations.
    #[derive(Default)]
    struct Watch {
        stop_after: Option<u64>,
        ticks: u64,
        logged: Vec<u64>,
        validated: Vec<u64>,
        saved: Vec<u64>,
    }

    impl Observer<Cpu> for Watch {
        fn tick(&mut self, iteration: u64) {
            self.ticks = iteration;
        }

        fn iteration(&mut self, record: &IterationRecord) -> Result<()> {
            self.logged.push(record.iteration);
            Ok(())
        }

        fn validation(&mut self, record: &ValidationRecord) -> Result<()> {
            self.validated.push(record.iteration);
            Ok(())
        }

        fn checkpoint(&mut self, _: &Params<Cpu>, state: &TrainState<Cpu>) -> Result<()> {
            self.saved.push(state.iteration);
            Ok(())
        }

        fn should_stop(&self) -> bool {
            self.stop_after.is_some_and(|after| self.ticks + 1 >= after)
        }
    }

    fn run(
        settings: TrainSettings,
        watch: &mut Watch,
    ) -> (Constant, Result<(TrainState<Cpu>, Ending)>) {
        let mut learner = Constant::new();
        let done = trainer(settings).run(&mut learner, TrainState::new(), watch);
        (learner, done)
    }

    #[test]
    fn the_observer_hears_of_everything_when_it_is_due() {
        let mut watch = Watch::default();
        let checkpoints = TrainSettings {
            iterations: 25,
            checkpoint_every: 7,
            ..settings()
        };
        let (_, done) = run(checkpoints, &mut watch);
        let (state, ending) = done.unwrap();
        assert_eq!((state.iteration, ending), (25, Ending::Finished));
        assert_eq!(watch.logged, [5, 10, 15, 20, 25]);
        assert_eq!(watch.validated, [10, 20, 25]);
        assert_eq!(watch.saved, [7, 14, 21, 25]);
        assert_eq!(watch.ticks, 25);
    }

    /// The average of chunks of 4 and 2 tasks with their sizes as weights is the gradient of all 6;
    /// f32 sums in another order differ by a few units in the last place, Adam amplifies them.
    #[test]
    fn chunks_of_a_meta_batch_change_only_rounding() {
        let sgd = |task_chunk| TrainSettings {
            task_chunk,
            optimizer: OptimizerSettings {
                optimizer: crate::optim::OptimizerKind::Sgd,
                ..OptimizerSettings::default()
            },
            ..settings()
        };
        let theta = |task_chunk| {
            let (learner, done) = run(sgd(task_chunk), &mut Watch::default());
            done.unwrap();
            f64::from(learner.theta().into_scalar())
        };
        let whole = theta(0);
        assert!(whole.abs() > 1e-3, "it learns something: {whole}");
        assert!((theta(4) - whole).abs() < 1e-6 * whole.abs().max(1.0));
    }

    #[test]
    fn stopped_and_continued_is_the_same_to_the_bit() {
        for task_selection in [TaskSelection::None, TaskSelection::Attention] {
            stop_and_continue(|| TrainSettings {
                task_selection,
                ..settings()
            });
        }
    }

    fn stop_and_continue(settings: impl Fn() -> TrainSettings) {
        let path = Path::new("checkpoint.safetensors");
        let bytes = |learner: &Constant, state: &TrainState<Cpu>| {
            let checkpoint = state.to_checkpoint(&learner.parameters(), &settings(), json!({}));
            crate::checkpoint::encode(path, &checkpoint).unwrap()
        };
        let (learner, done) = run(settings(), &mut Watch::default());
        let whole = bytes(&learner, &done.unwrap().0);
        for stop_after in [1, 10, 17] {
            let mut watch = Watch {
                stop_after: Some(stop_after),
                ..Watch::default()
            };
            let (learner, done) = run(settings(), &mut watch);
            let (state, ending) = done.unwrap();
            assert_eq!(ending, Ending::Interrupted);
            assert_eq!(
                (state.iteration, watch.saved.last()),
                (stop_after, Some(&stop_after))
            );
            let mut fresh = Constant::new();
            let (parameters, state, _) = TrainState::from_checkpoint(
                path,
                state.to_checkpoint(&learner.parameters(), &settings(), json!({})),
                &fresh.parameters(),
                &settings(),
                &Default::default(),
            )
            .unwrap();
            fresh.set_parameters(parameters);
            let (state, ending) = trainer(settings()).run(&mut fresh, state, &mut ()).unwrap();
            assert_eq!(ending, Ending::Finished);
            assert!(bytes(&fresh, &state) == whole, "stopped after {stop_after}");
        }
    }

    /// Uniform weights are those of no selection, to the bit, and logged; those of attention are others
    /// as soon as it has learned, and never below their entropy.
    #[test]
    fn selection_weights_the_tasks() {
        let train = |task_selection| {
            let mut log = Log::default();
            let mut learner = Constant::new();
            let settings = TrainSettings {
                task_selection,
                selection_entropy: 0.7,
                log_every: 1,
                ..settings()
            };
            let trainer = trainer(settings);
            trainer
                .run(&mut learner, TrainState::new(), &mut log)
                .unwrap();
            (learner.theta().into_scalar().to_bits(), log.0)
        };
        let (none, log) = train(TaskSelection::None);
        assert!(log.iter().all(Option::is_none));
        let (uniform, log) = train(TaskSelection::Uniform);
        assert_eq!(none, uniform);
        assert_eq!(log[7], Some(TaskWeights::uniform(6)));
        let (attended, log) = train(TaskSelection::Attention);
        assert_ne!(none, attended);
        for weights in log.into_iter().flatten() {
            assert_eq!(weights.weights.len(), 6);
            assert!((weights.weights.iter().sum::<f64>() - 1.0).abs() < 1e-6);
            assert!((0.7..=1.0 + 1e-9).contains(&weights.entropy), "{weights:?}");
        }
    }

    /// The weights that are logged.
    #[derive(Default)]
    struct Log(Vec<Option<TaskWeights>>);

    impl Observer<Cpu> for Log {
        fn iteration(&mut self, record: &IterationRecord) -> Result<()> {
            self.0.push(record.selection.clone());
            Ok(())
        }
    }

    #[test]
    fn divergence_is_dated_and_leaves_good_parameters() {
        // Read only every 20 iterations, and dated all the same: θ overflows in the third one.
        let wild = TrainSettings {
            lr: 1e30,
            log_every: 20,
            optimizer: OptimizerSettings {
                optimizer: crate::optim::OptimizerKind::Sgd,
                ..OptimizerSettings::default()
            },
            validate_every: 0,
            ..settings()
        };
        let mut watch = Watch::default();
        let (learner, done) = run(wild, &mut watch);
        match done {
            Err(Error::Diverged { iteration, .. }) => assert!(iteration <= 3, "{iteration}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(learner.theta().into_scalar(), 0.0);
        assert!(watch.saved.is_empty() && watch.logged.is_empty());
    }

    #[test]
    fn patience_ends_a_training_that_does_not_improve() {
        let patient = TrainSettings {
            patience: 2,
            // θ cannot move: every validation after the first equals it.
            lr: f64::MIN_POSITIVE,
            ..settings()
        };
        let mut watch = Watch::default();
        let (_, done) = run(
            TrainSettings {
                iterations: 100,
                ..patient
            },
            &mut watch,
        );
        let (state, ending) = done.unwrap();
        assert_eq!((state.iteration, ending), (30, Ending::Patience));
        assert_eq!(state.best.unwrap().iteration, 10);
        assert_eq!(watch.saved, [30]);
    }

    #[test]
    fn only_a_better_number_is_an_improvement() {
        assert!(improves(0.5, None, true));
        assert!(!improves(f64::NAN, None, true));
        assert!(improves(0.6, Some(0.5), true));
        assert!(!improves(0.5, Some(0.5), true));
        assert!(improves(0.4, Some(0.5), false));
        assert!(!improves(f64::NAN, Some(0.5), false));
    }
}
