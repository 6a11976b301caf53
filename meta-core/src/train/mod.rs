//! The outer loop: meta-batches, optimiser, schedule, validation, checkpoints, early stop.
//!
//! It knows the contract of [`Learner`] and no learner. One iteration is: `meta_batch` episodes from
//! the training stream (prepared by a worker thread while the step before computes), their
//! meta-gradient, clipping, one step of the outer optimiser. Everything that the next iteration
//! depends on is in the learner's parameters and in [`TrainState`]; the episode stream is addressed
//! by index, so its position is the iteration. A run that is stopped and continued from its
//! checkpoint therefore computes the same bits as one that is not.
//!
//! A learner that acts does so in the tasks of an iteration first, and then learns from what happened in
//! several passes: an iteration has as many steps of the optimiser as there are parts in all passes. What
//! happened is forgotten with the iteration, so it is no part of the state.
//!
//! Values stay on the device. They are read, all that have gathered at once, when an iteration is
//! logged, validated or saved; a loss or gradient that is not a number is found then, and reported
//! with the iteration that produced it.

pub mod answer;
pub mod checkpoint_file;
mod corruption;
pub mod eval;
pub mod instances;
mod observer;
pub mod outsiders;
mod settings;
mod shared;
mod state;
pub mod task_selection;

use std::{ops::Range, sync::Arc, time::Instant};

use burn::tensor::Tensor;

use crate::{
    Error, Result,
    data::{Episode, Prefetch, Source, Split},
    device,
    learner::{Learner, MetaGradient, Passes, PredictAt},
    optim::{Optimizer, OptimizerState, optimizers},
    parallel::TaskChunks,
    primitives::Primitives,
    processes::Processes,
    rl::Trial,
    rng::Seed,
    stats::{Interval, exceeds},
    task::{TaskBatch, TaskSpec, TrainingContext},
};
use corruption::corrupt;
use eval::{Asked, FrozenEpisodes, evaluate_together};
pub use observer::{Ending, IterationRecord, Observer, Part, ValidationRecord};
pub use settings::{KeepBest, Schedule, TrainSettings};
pub use shared::{PART as MESSAGE_PART, check_count, message_bytes};
use shared::{each_of_processes, own_chunks, per_chunk, sum_over_processes};
pub use state::{Best, TrainState, parameters_like};
use task_selection::{Judge, Selection, TaskSelection, TaskWeights};

/// Meta-batches that are prepared ahead of the computation.
const PREFETCH: usize = 2;

/// The outer loop of one run.
#[derive(Clone)]
pub struct Trainer<B: Primitives> {
    /// Where the episodes come from.
    pub source: Arc<dyn Source>,
    /// Shapes of items and episodes.
    pub spec: TaskSpec,
    /// Settings of the loop.
    pub settings: TrainSettings,
    /// The outer optimiser.
    pub optimizer: Arc<dyn Optimizer<B>>,
    /// Seed of the training episodes.
    pub seed: Seed,
    /// Seed of the frozen validation episodes.
    pub validation_seed: Seed,
    /// How validation tasks are cut into graphs.
    pub validation_graphs: TaskChunks,
    /// Where to compute.
    pub device: B::Device,
    /// The processes that share the work.
    pub processes: Processes,
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
    /// Trains on tasks of `source`, with one of this crate's optimisers. Training episodes are drawn from
    /// `seed`, validation episodes are those of seed 0, and both are computed in one graph at a time.
    ///
    /// # Errors
    /// [`Error::Setting`] for settings that do not fit together, [`Error::Unknown`] for another optimiser.
    pub fn new(
        source: Arc<dyn Source>,
        spec: TaskSpec,
        settings: TrainSettings,
        seed: Seed,
        device: B::Device,
    ) -> Result<Self> {
        settings.check()?;
        let optimizer = settings.built_in_optimizer().ok_or_else(|| {
            let known = optimizers().into_iter().map(|entry| entry.name);
            Error::unknown("optimizer", &settings.optimizer, known)
        })?;
        Ok(Trainer {
            source,
            spec,
            settings,
            optimizer: Arc::new(optimizer),
            seed,
            validation_seed: Seed(0),
            validation_graphs: TaskChunks::default(),
            device,
            processes: Processes::default(),
        })
    }

    /// Checks that every process has a share of a meta-batch.
    ///
    /// # Errors
    /// [`Error::Setting`], naming the key to change; [`Error::Processes`] where a run cannot be shared.
    pub fn check_processes(&self) -> Result<()> {
        let acts = self.spec.task.is_acting();
        let meta_batch = self.settings.meta_batch;
        check_count(self.processes.count(), meta_batch, self.graphs(), acts)
    }

    /// Trains `learner` from `state` on, to the last iteration or until it stops early.
    ///
    /// # Errors
    /// [`Error::Diverged`] when a loss or gradient is not finite; the learner then has the parameters
    /// of the last iteration known to be good (see the module's documentation) and nothing is saved.
    /// [`Error::DivergedEpisode`] when a validation comes to no result. Otherwise what the source or the
    /// observer reports.
    pub fn run(
        &self,
        learner: &mut dyn Learner<B>,
        mut state: TrainState<B>,
        observer: &mut dyn Observer<B>,
    ) -> Result<(TrainState<B>, Ending)> {
        let settings = &self.settings;
        settings.check_trainable(&learner.parameters(), self.spec.task)?;
        self.check_processes()?;
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
            let asked = Instant::now();
            let mut batch = episodes.next()?;
            corrupt(&mut batch, settings.corrupted_tasks, self.seed);
            observer.spent(Part::Episodes, asked.elapsed());
            let graphs = self.settings.graphs();
            let mut parts = parts(learner, &self.spec, &batch, graphs, &self.device)?;
            let last_part = parts.pop().unwrap_or(0..batch.len());
            for part in parts {
                let part = &batch[part];
                let step = self.gradient_step(learner, iteration, part, &mut state.selection)?;
                unread.push((iteration, step.health.clone()));
                if self.settings.clip_norm > 0.0
                    && let Err(diverged) = check_health(&mut unread)
                {
                    learner.set_parameters(good);
                    return Err(diverged);
                }
                state.optimizer = self.update(learner, step, part, state.optimizer);
            }
            let last_part = &batch[last_part];
            let step = self.gradient_step(learner, iteration, last_part, &mut state.selection)?;
            unread.push((iteration, step.health.clone()));
            let last = iteration == settings.iterations;
            let stop = self.processes.any(observer.should_stop())?;
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
            state.optimizer = self.update(learner, step, last_part, state.optimizer);
            state.iteration = iteration;
            observer.tick(iteration);
            if unread.is_empty() {
                good = learner.parameters();
            }
            if let Some(record) = record {
                observer.iteration(&record)?;
            }
            if validate {
                let begun = Instant::now();
                let record = self.validate(learner, &mut state)?;
                observer.spent(Part::Validation, begun.elapsed());
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
        let ending = if state.iteration < settings.iterations {
            Ending::Patience
        } else {
            Ending::Finished
        };
        self.finish(learner, &mut state, observer)?;
        Ok((state, ending))
    }

    /// After the last iteration: calibrates the best parameters, and saves them where that, or a training
    /// of no iterations, has made them.
    fn finish(
        &self,
        learner: &mut dyn Learner<B>,
        state: &mut TrainState<B>,
        observer: &mut dyn Observer<B>,
    ) -> Result<()> {
        let splits = learner.calibration();
        if state.best.is_some() && splits.is_empty() {
            return Ok(());
        }
        let last = learner.parameters();
        let mut best = state.best.take().unwrap_or_else(|| Best {
            iteration: state.iteration,
            value: None,
            parameters: last.clone(),
        });
        learner.set_parameters(best.parameters);
        for &split in splits {
            learner.calibrate(split, &mut self.calibration_batches(split))?;
        }
        best.parameters = learner.parameters();
        learner.set_parameters(last);
        state.best = Some(best);
        observer.checkpoint(&learner.parameters(), state)
    }

    /// As many frozen episodes of `split` as a validation has, of the shape of the test, batch by batch.
    fn calibration_batches(&self, split: Split) -> impl Iterator<Item = Result<TaskBatch<B>>> {
        let count = self.settings.validation_episodes as u64;
        let size = self.validation_graphs.tasks_at_a_time().unwrap_or(1).max(1) as u64;
        let seed = match split {
            Split::Train => self.seed,
            Split::Validation | Split::Test => self.validation_seed,
        };
        (0..count.div_ceil(size)).map(move |batch| {
            let indices = batch * size..count.min((batch + 1) * size);
            let episodes: Result<Vec<Episode>> = indices
                .map(|index| self.source.episode(seed, split, self.spec.test, index))
                .collect();
            Ok(TaskBatch::new(&episodes?, &self.spec, &self.device))
        })
    }

    fn out_of_patience(&self, state: &TrainState<B>) -> bool {
        self.settings.patience > 0
            && state.validations_without_improvement >= self.settings.patience
    }

    fn gradient_step(
        &self,
        learner: &dyn Learner<B>,
        iteration: u64,
        episodes: &[Episode],
        selection: &mut Option<Selection<B>>,
    ) -> Result<Step<B>> {
        let context = TrainingContext {
            progress: (iteration - 1) as f64 / self.settings.iterations as f64,
            noise: Some(self.seed),
        };
        let (spec, device) = (&self.spec, &self.device);
        let settings = &self.settings;
        let (processes, graphs) = (&self.processes, self.graphs());
        let own = own_chunks(processes, learner, spec, episodes, context, graphs, device);
        let (mut gradient, weights) = match settings.task_selection {
            TaskSelection::None => (sum_over_processes(processes, own)?, None),
            TaskSelection::Uniform => {
                let weights = TaskWeights::uniform(episodes.len());
                (sum_over_processes(processes, own)?, Some(weights))
            }
            TaskSelection::Attention => {
                let selection =
                    selection.get_or_insert_with(|| Selection::new(self.seed, &self.device));
                let each = each_of_processes(processes, own)?;
                let judge = match settings.selection_judge {
                    Judge::Next => None,
                    Judge::Validation => {
                        let tasks = self.judges(iteration)?;
                        let own =
                            own_chunks(processes, learner, spec, &tasks, context, graphs, device);
                        Some(sum_over_processes(processes, own)?.gradients)
                    }
                };
                let rates = (settings.selection_entropy, settings.selection_lr);
                let (gradient, weights) =
                    selection.apply(each, judge.as_ref(), episodes, self.seed, rates);
                (gradient, Some(weights))
            }
        };
        if settings.freeze_encoder {
            let frozen = gradient.gradients.filter(TrainSettings::is_of_encoder);
            gradient.gradients = gradient.gradients.overwrite(frozen.scale(0.0));
        }
        let health = Tensor::cat(
            vec![
                gradient.losses.clone().mean(),
                gradient.gradients.squared_norm(),
            ],
            0,
        );
        Ok(Step {
            iteration,
            gradient,
            health,
            weights,
        })
    }

    /// The validation tasks that judge the step before `iteration`: of the shape of training tasks, and none of the
    /// frozen ones.
    fn judges(&self, iteration: u64) -> Result<Vec<Episode>> {
        let count = self.settings.meta_batch as u64;
        ((iteration - 1) * count..iteration * count)
            .map(|index| {
                let (seed, shape) = (Seed(!self.validation_seed.0), self.spec.train);
                self.source.episode(seed, Split::Validation, shape, index)
            })
            .collect()
    }

    /// How a meta-batch is cut: where tasks are selected, each is a chunk of its own.
    fn graphs(&self) -> TaskChunks {
        let graphs = self.settings.graphs();
        match self.settings.task_selection {
            TaskSelection::Attention => TaskChunks { tasks: 1, ..graphs },
            TaskSelection::None | TaskSelection::Uniform => graphs,
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

    /// Clips, steps the optimiser and gives the learner its new parameters; those of its own rule where it has one.
    fn update(
        &self,
        learner: &mut dyn Learner<B>,
        step: Step<B>,
        episodes: &[Episode],
        optimizer: OptimizerState<B>,
    ) -> OptimizerState<B> {
        let batches = || {
            let batch = |tasks: &[Episode]| TaskBatch::new(tasks, &self.spec, &self.device);
            self.graphs().each(episodes, false, batch)
        };
        let own = learner.own_update(&step.gradient.gradients, &batches);
        let (parameters, optimizer) = match own {
            Some(parameters) => (parameters, optimizer),
            None => {
                let mut gradients = step.gradient.gradients;
                let limit = self.settings.clip_norm;
                if limit > 0.0 {
                    let norm = read(step.health)[1].sqrt();
                    if norm > limit {
                        gradients = gradients.scale(limit / norm);
                    }
                }
                let rate = self.settings.learning_rate(step.iteration);
                self.optimizer
                    .step(rate, learner.parameters(), &gradients, optimizer)
            }
        };
        let mut parameters = parameters.overwrite(step.gradient.buffers);
        if self.settings.freeze_encoder {
            // Weight decay and moments move what has no gradient, and running statistics are buffers.
            let before = learner.parameters();
            parameters = parameters.overwrite(before.filter(TrainSettings::is_of_encoder));
        }
        learner.set_parameters(parameters);
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
        let asked = Asked {
            spec: &self.spec,
            set: &set,
            answers: PredictAt::LastStep,
            graphs: self.validation_graphs,
            device: &self.device,
        };
        let evaluation = evaluate_together(&self.processes, learner, &asked, |_| {})?;
        let (score, loss) = (evaluation.score(), evaluation.loss());
        let value = match self.settings.keep_best {
            KeepBest::Accuracy => score.mean,
            KeepBest::Loss | KeepBest::Last => loss.mean,
        };
        let higher_is_better =
            self.settings.keep_best == KeepBest::Accuracy && evaluation.metric.higher_is_better();
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

/// The parts of the tasks of `episodes`, in the order in which they are learned from, an update after each: one with
/// all of them, but for a learner that acts. It acts first, and is given its trials.
///
/// # Errors
/// When the environments cannot be made.
pub fn parts<B: Primitives>(
    learner: &mut dyn Learner<B>,
    spec: &TaskSpec,
    episodes: &[Episode],
    graphs: TaskChunks,
    device: &B::Device,
) -> Result<Vec<Range<usize>>> {
    let mut passes = Passes::default();
    if spec.task.is_acting() {
        let acting = &*learner;
        let acted = graphs.each(episodes, B::SIDE_BY_SIDE, |tasks| {
            acting.act(&TaskBatch::new(tasks, spec, device))
        });
        let acted: Result<Option<Vec<Vec<Trial>>>> = acted.into_iter().collect();
        if let Some(trials) = acted? {
            passes = learner.gather(trials.into_iter().flatten().collect());
        }
    }
    let tasks = episodes.len();
    let parts = passes.parts.clamp(1, tasks.max(1));
    let part = move |part: usize| part * tasks / parts..(part + 1) * tasks / parts;
    let all = (0..passes.epochs.max(1)).flat_map(|_| (0..parts).map(part));
    Ok(all.collect())
}

/// The meta-gradient of the tasks of `episodes` at `context`, computed in several graphs: the mean over
/// tasks of the gradients of all.
///
/// The graphs bound memory and, but for rounding, change nothing; how many are computed side by side
/// changes nothing at all.
///
/// # Panics
/// When there is no episode, or they differ in shape.
pub fn sum_over_chunks<B: Primitives>(
    learner: &dyn Learner<B>,
    spec: &TaskSpec,
    episodes: &[Episode],
    context: TrainingContext,
    graphs: TaskChunks,
    device: &B::Device,
) -> MetaGradient<B> {
    per_chunk(learner, spec, episodes, context, graphs, device)
        .into_iter()
        .reduce(MetaGradient::merge)
        .expect("a meta-batch has at least one task")
}

/// Whether `value` is better than the best one before it, by more than rounding ([`exceeds`]); what is not a
/// number never is.
fn improves(value: f64, before: Option<f64>, higher_is_better: bool) -> bool {
    match before {
        None => !value.is_nan(),
        Some(before) if higher_is_better => exceeds(value, before),
        Some(before) => exceeds(before, value),
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
    use std::{path::Path, sync::Mutex};

    use serde_json::json;

    use super::*;
    use crate::{
        backend::Cpu,
        data::{EpisodeShape, SinusoidSettings},
        params::Params,
        processes::Transport,
        task::TargetBatch,
    };

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

        fn predict(&self, tasks: &TaskBatch<Cpu>, _at: PredictAt) -> Vec<Tensor<Cpu, 3>> {
            let [t, q] = tasks.query.dims();
            vec![self.theta().unsqueeze::<3>().expand([t, q, 1])]
        }
    }

    fn trainer(settings: TrainSettings) -> Trainer<Cpu> {
        let source: Arc<dyn Source> = Arc::new(SinusoidSettings::default().build().unwrap());
        let shape = EpisodeShape::new(1, 2, 5);
        settings.check().unwrap();
        Trainer {
            spec: TaskSpec::of(source.as_ref(), shape),
            source,
            optimizer: Arc::new(settings.built_in_optimizer().expect("built in")),
            settings,
            seed: Seed(1),
            validation_seed: Seed(0),
            validation_graphs: TaskChunks {
                tasks: 3,
                concurrent: 1,
            },
            device: Default::default(),
            processes: Processes::default(),
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

    /// Everything that is reported.
    #[derive(Default)]
    struct Reports(Vec<String>);

    impl Observer<Cpu> for Reports {
        fn iteration(&mut self, record: &IterationRecord) -> Result<()> {
            self.0
                .push(serde_json::to_string(record).expect("a record"));
            Ok(())
        }

        fn validation(&mut self, record: &ValidationRecord) -> Result<()> {
            self.0
                .push(serde_json::to_string(record).expect("a record"));
            Ok(())
        }
    }

    /// Parameters, moments and all that is reported, with and without task selection and clipping; more
    /// processes than chunks are refused.
    #[test]
    fn any_number_of_processes_ends_in_the_same_bits() {
        for (selection, chunk, most) in [
            (TaskSelection::None, 1, 6),
            (TaskSelection::Uniform, 2, 3),
            (TaskSelection::Attention, 6, 6),
        ] {
            let settings = TrainSettings {
                task_selection: selection,
                task_chunk: chunk,
                clip_norm: 0.5,
                ..settings()
            };
            let run = |processes: Processes| {
                let trainer = Trainer {
                    processes,
                    ..trainer(settings.clone())
                };
                let mut learner = Constant::new();
                let mut reports = Reports::default();
                let ended = trainer.run(&mut learner, TrainState::default(), &mut reports)?;
                let moments = ended.0.optimizer.moments.iter();
                let moments: Vec<_> = moments.map(Params::to_data).collect();
                Ok::<_, Error>((learner.parameters().to_data(), moments, reports.0))
            };
            let alone = run(Processes::default()).unwrap();
            assert!(alone.2.len() > 5);
            for count in 1..=most {
                for found in crate::processes::threads::run(count, run) {
                    assert_eq!(found.unwrap(), alone, "{selection:?}, {count} processes");
                }
            }
            for refused in crate::processes::threads::run(most + 1, run) {
                let message = refused.unwrap_err().to_string();
                let key = match most {
                    6 => "train.meta_batch = 6",
                    _ => "train.task_chunk = 2",
                };
                assert!(message.contains(key), "{message}");
            }
        }
    }

    /// Hands on what another one carries, and counts it: messages along the chain, broadcasts, their bytes.
    struct Counted {
        by: Arc<dyn Transport>,
        counts: Arc<Mutex<[usize; 4]>>,
    }

    impl Transport for Counted {
        fn rank(&self) -> usize {
            self.by.rank()
        }

        fn count(&self) -> usize {
            self.by.count()
        }

        fn send(&self, to: usize, message: &[u8]) -> Result<()> {
            let mut counts = self.counts.lock().unwrap();
            counts[0] += 1;
            counts[1] += message.len();
            drop(counts);
            self.by.send(to, message)
        }

        fn receive(&self, from: usize) -> Result<Vec<u8>> {
            self.by.receive(from)
        }

        fn broadcast(&self, from: usize, message: Vec<u8>) -> Result<Vec<u8>> {
            if from == self.rank() {
                let mut counts = self.counts.lock().unwrap();
                counts[2] += 1;
                counts[3] += message.len();
            }
            self.by.broadcast(from, message)
        }

        fn any(&self, own: bool) -> Result<bool> {
            self.by.any(own)
        }
    }

    /// As `docs/distributed.md` says: of `n` processes, `n − 1` messages and one broadcast an iteration, and their
    /// bytes. θ has one number, no running statistics; 6 tasks in chunks of one.
    #[test]
    fn messages_of_an_iteration_are_counted() {
        let (tasks, iterations) = (6, 30);
        for count in [2, 3, 6] {
            let counts = Arc::new(Mutex::new([0; 4]));
            crate::processes::threads::run(count, |processes| {
                let by = processes.transport().expect("several");
                let trainer = Trainer {
                    processes: Processes::new(Arc::new(Counted {
                        by,
                        counts: counts.clone(),
                    })),
                    ..trainer(TrainSettings {
                        task_chunk: 1,
                        validate_every: 0,
                        ..settings()
                    })
                };
                trainer
                    .run(&mut Constant::new(), TrainState::default(), &mut ())
                    .unwrap();
            });
            // After k processes, losses and scores of the tasks so far, 4 bytes each; θ, 4; their number, 8.
            let bytes = |tasks: usize| 8 + 4 + 2 * 4 * tasks;
            assert_eq!(message_bytes(1, tasks as u64), bytes(tasks) as u64);
            let chain: usize = (1..count).map(|rank| bytes(rank * tasks / count)).sum();
            let expected = [count - 1, chain, 1, bytes(tasks)].map(|each| each * iterations);
            assert_eq!(*counts.lock().unwrap(), expected, "{count} processes");
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
            optimizer: "sgd".to_owned(),
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
        for (task_selection, selection_judge) in [
            (TaskSelection::None, Judge::Next),
            (TaskSelection::Attention, Judge::Next),
            (TaskSelection::Attention, Judge::Validation),
        ] {
            stop_and_continue(|| TrainSettings {
                task_selection,
                selection_judge,
                ..settings()
            });
        }
    }

    fn stop_and_continue(settings: impl Fn() -> TrainSettings) {
        let path = Path::new("checkpoint.safetensors");
        let bytes = |learner: &Constant, state: &TrainState<Cpu>| {
            let checkpoint = state.to_checkpoint(&learner.parameters(), &settings(), json!({}));
            crate::train::checkpoint_file::encode(path, &checkpoint).unwrap()
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
            optimizer: "sgd".to_owned(),
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
        assert!(improves(0.5, Some(f64::INFINITY), false));
        // The same count of right answers, added in another order.
        let (one, other) = (0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1);
        assert!(one != other && !improves(one, Some(other), true));
        assert!(!improves(other, Some(one), false));
    }
}
