//! Estimates the memory of a run, by the formula of [`super::graph_size`], and refuses one that cannot fit.

use meta_core::{
    Error,
    backend::{WithBackend, backends, dispatch},
    data::EpisodeShape,
    learner::{Learner, LearnerList},
    nn::init::within,
    primitives::Primitives,
    toolkit::Toolkit,
};
use serde_json::Value;

use super::{Experiment, graph_size::NUMBER};
use crate::{
    failure::{CommandError, Result},
    machine::available_memory,
    manifest::text::toml,
    output::units::bytes_text,
};

/// An estimate of a run's memory, by the formula.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Trainable numbers.
    pub parameters: usize,
    /// Bytes of parameters, gradient, moments and best parameters.
    pub state_bytes: f64,
    /// Bytes of the computation graphs of training.
    pub graph_bytes: f64,
    /// Bytes of training episodes prepared ahead.
    pub episode_bytes: f64,
    /// Bytes of the graphs of validation and test.
    pub test_bytes: f64,
    /// Bytes of their episodes prepared ahead.
    pub test_episode_bytes: f64,
    /// Bytes of the scores of all episodes.
    pub score_bytes: f64,
}

/// What a learner is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// For a whole run.
    ForRun,
    /// For a test alone.
    ForTest,
}

impl Forecast {
    /// All bytes, with those of a process that does nothing: training and test take theirs one after the
    /// other.
    pub fn total_bytes(&self) -> u64 {
        let training = self.graph_bytes + self.episode_bytes;
        let test = self.test_bytes + self.test_episode_bytes;
        (PROCESS + self.state_bytes + training.max(test) + self.score_bytes) as u64
    }
}

/// Bytes of a process that has started and read nothing, about.
const PROCESS: f64 = 30e6;
/// Numbers kept for a parameter: itself, its gradient, both moments of Adam, the best one.
const STATE: usize = 5;
/// Batches of episodes at a time: two ready, one being made, one in use.
const BATCHES: f64 = 4.0;
/// Bytes of the score of an episode after a step, until it is written.
const SCORE: f64 = 100.0;

impl<T: Toolkit> Experiment<T> {
    /// Estimates the memory of the run, by building its learner.
    ///
    /// # Errors
    /// When the backend has no such device.
    pub fn forecast(&self) -> Result<Forecast> {
        Ok(dispatch(&self.manifest.run.target(), ForecastOf(self))?)
    }

    /// Refuses a run of which `forecast` says that it needs more memory than there is, unless `force`d.
    ///
    /// # Errors
    /// [`CommandError::At`] or [`CommandError::Core`], naming the key to change.
    pub fn check_memory(&self, forecast: &Forecast, force: bool) -> Result<()> {
        match available_memory() {
            Some((available, of)) if !force && forecast.total_bytes() > available => {
                Err(self.does_not_fit(forecast, available, of))
            }
            _ => Ok(()),
        }
    }

    /// The learner, with parameters drawn from the seed, where what it is `needed` for fits into memory or
    /// is `force`d: nothing is allocated before that is known.
    ///
    /// # Errors
    /// As [`Experiment::check_memory`].
    pub fn fitting_learner<B: Primitives>(
        &self,
        needed: Needed,
        device: &B::Device,
        force: bool,
    ) -> Result<Box<dyn Learner<B>>> {
        if force {
            return Ok(self.learner(device));
        }
        let (mut forecast, learner) = self.forecast_on::<B>(device);
        if needed == Needed::ForTest {
            (forecast.graph_bytes, forecast.episode_bytes) = (0.0, 0.0);
        }
        self.check_memory(&forecast, force)?;
        learner.ok_or_else(|| {
            let (available, of) = available_memory().unwrap_or_default();
            self.does_not_fit(&forecast, available, of)
        })
    }

    /// The forecast, and the learner where its parameters fit into memory.
    fn forecast_on<B: Primitives>(
        &self,
        device: &B::Device,
    ) -> (Forecast, Option<Box<dyn Learner<B>>>) {
        let of_parameter = (STATE * NUMBER) as f64;
        let most =
            available_memory().map_or(f64::INFINITY, |(bytes, _)| bytes as f64 / of_parameter);
        match within(most, || self.learner::<B>(device)) {
            Ok(learner) => {
                let parameters = learner.parameters().num_elements();
                (self.forecast_of::<B>(parameters), Some(learner))
            }
            Err(too_many) => {
                let forecast = Forecast {
                    parameters: too_many.numbers as usize,
                    state_bytes: of_parameter * too_many.numbers,
                    ..Forecast::default()
                };
                (forecast, None)
            }
        }
    }

    /// The forecast for a learner with this number of `parameters`.
    fn forecast_of<B: Primitives>(&self, parameters: usize) -> Forecast {
        let sizes = self.sizes::<B>(parameters);
        let settings = sizes.train_settings(&self.manifest.train);
        let spec = &self.spec;
        let features = (NUMBER * spec.item.features()) as f64;
        let items = |shape: &EpisodeShape| (shape.support_items() + shape.query_items()) as f64;
        let tasks = match settings.task_chunk {
            0 => settings.meta_batch,
            chunk => chunk.min(settings.meta_batch),
        };
        let graphs = settings.meta_batch.div_ceil(tasks.max(1));
        let concurrent = settings.graphs().side_by_side(graphs, B::SIDE_BY_SIDE);
        let tested = self.test_graphs::<B>(parameters);
        let most = self
            .manifest
            .test
            .episodes
            .max(settings.validation_episodes);
        let at_once = tested.tasks_at_a_time().unwrap_or(most).min(most);
        let graphs = at_once.div_ceil(tested.tasks.max(1));
        let side_by_side = tested.side_by_side(graphs, B::SIDE_BY_SIDE);
        let graph = tested.tasks.min(at_once) as f64 * side_by_side as f64;
        let on_device = is_accelerator(&self.manifest.run.backend);
        let here = if on_device { 0.0 } else { 1.0 };
        let steps = self.learner.steps().test as f64 + 2.0;
        Forecast {
            parameters,
            state_bytes: (STATE * NUMBER) as f64 * parameters as f64,
            graph_bytes: here * tasks as f64 * sizes.training_task() as f64 * concurrent as f64,
            episode_bytes: BATCHES * settings.meta_batch as f64 * items(&spec.train) * features,
            test_bytes: here * graph * sizes.tested_task(),
            test_episode_bytes: BATCHES * at_once as f64 * items(&spec.test) * features,
            score_bytes: SCORE
                * (self.manifest.test.episodes as f64 * steps
                    + settings.validation_episodes as f64),
        }
    }

    /// Says how much the run needs, what of it is the largest part, and which key to lower.
    fn does_not_fit(&self, forecast: &Forecast, available: u64, of: &str) -> CommandError {
        let parts = [
            (
                "the parameters, their gradient and moments",
                forecast.state_bytes,
            ),
            ("the computation graphs of training", forecast.graph_bytes),
            (
                "the training episodes prepared ahead",
                forecast.episode_bytes,
            ),
            ("the computation graphs of the test", forecast.test_bytes),
            (
                "the test episodes prepared ahead",
                forecast.test_episode_bytes,
            ),
            ("the scores of the episodes", forecast.score_bytes),
        ];
        let mut largest = 0;
        for (part, (_, bytes)) in parts.iter().enumerate() {
            if *bytes > parts[largest].1 {
                largest = part;
            }
        }
        let (what, bytes) = parts[largest];
        let factors = self.factors(largest).into_iter();
        let given = factors.filter(|(key, _)| self.manifest.value(key).is_some());
        let key = given
            .max_by_key(|(_, factor)| *factor)
            .map_or_else(String::new, |(key, _)| key);
        let value = self.manifest.value(&key).and_then(toml).unwrap_or_default();
        self.manifest.locate(Error::setting(
            key,
            value,
            format!(
                "this needs about {} of memory, and {of} has {} left; the largest part, {}, is {what}: \
                 lower this, or continue all the same with --force",
                bytes_text(forecast.total_bytes()),
                bytes_text(available),
                bytes_text(bytes as u64),
            ),
        ))
    }

    /// The keys that part number `part` of the forecast follows from, with their factors.
    fn factors(&self, part: usize) -> Vec<(String, usize)> {
        let (data, train, test) = (
            &self.manifest.data,
            &self.manifest.train,
            &self.manifest.test,
        );
        let own = |key, train_key, given: usize| if given > 0 { train_key } else { key };
        let training = [
            (
                own("data.way", "data.train_way", data.train_way),
                self.spec.train.way.0,
            ),
            (
                own("data.shot", "data.train_shot", data.train_shot),
                self.spec.train.shot.0,
            ),
            (
                own("data.query", "data.train_query", data.train_query),
                self.spec.train.query.0,
            ),
        ];
        let testing = [
            ("data.way", self.spec.test.way.0),
            ("data.shot", self.spec.test.shot.0),
            ("data.query", self.spec.test.query.0),
        ];
        let steps = self.learner.steps();
        let chunk = match train.task_chunk {
            0 => ("train.meta_batch", train.meta_batch),
            chunk => ("train.task_chunk", chunk),
        };
        let tasks = match test.chunk {
            0 => ("test.episodes", test.episodes),
            chunk => ("test.chunk", chunk),
        };
        let item = [
            ("data.image_size", self.spec.item.height),
            ("data.width", self.spec.item.channels),
        ];
        let sizes: Vec<(&str, usize)> = match part {
            0 => [("data.way", data.way)].into_iter().chain(item).collect(),
            1 => {
                let of_learner = [chunk, ("learner.inner_steps", steps.held)];
                of_learner.into_iter().chain(training).collect()
            }
            2 => {
                let tasks = [("train.meta_batch", train.meta_batch)];
                tasks.into_iter().chain(item).chain(training).collect()
            }
            3 => {
                let of_learner = [tasks, ("learner.test_steps", steps.test)];
                of_learner.into_iter().chain(testing).collect()
            }
            4 => [tasks].into_iter().chain(item).chain(testing).collect(),
            _ => vec![
                ("train.validation_episodes", train.validation_episodes),
                ("test.episodes", test.episodes),
                ("learner.test_steps", steps.test),
            ],
        };
        let network = match part {
            0 | 1 | 3 => self.network_sizes(),
            _ => Vec::new(),
        };
        let sizes = sizes.into_iter().map(|(key, size)| (key.to_owned(), size));
        sizes.chain(network).collect()
    }

    /// The sizes among the settings of encoder and learner, of a list its largest.
    fn network_sizes(&self) -> Vec<(String, usize)> {
        let values = self.manifest.values();
        let sections = ["encoder", "learner"].into_iter();
        let entries = sections.flat_map(|section| {
            let table = values[section].as_object().into_iter().flatten();
            table.map(move |(key, value)| (format!("{section}.{key}"), value))
        });
        entries
            .filter_map(|(key, value)| Some((key, largest(value)?)))
            .collect()
    }
}

/// The largest whole number in a value.
fn largest(value: &Value) -> Option<usize> {
    match value {
        Value::Array(items) => items.iter().filter_map(largest).max(),
        other => other.as_u64().map(|number| number as usize),
    }
}

/// Whether a backend's tensors are not in the memory of this machine.
fn is_accelerator(name: &str) -> bool {
    let mut known = backends().into_iter();
    known.any(|info| info.name == name && info.accelerator)
}

/// The forecast of an experiment.
struct ForecastOf<'a, T: Toolkit>(&'a Experiment<T>);

impl<T: Toolkit> WithBackend for ForecastOf<'_, T> {
    type Output = Forecast;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        self.0.forecast_on::<B>(&device).0
    }
}
