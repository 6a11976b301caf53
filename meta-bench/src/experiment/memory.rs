//! Estimates the memory of a run, by the formula of [`super::graph_size`].

use meta_core::{
    backend::{WithBackend, dispatch},
    primitives::Primitives,
    toolkit::Toolkit,
};
use serde::Serialize;

use super::{Experiment, graph_size::NUMBER};
use crate::failure::Result;

/// An estimate of a run's memory, by the formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// Trainable numbers.
    pub parameters: usize,
    /// Bytes of parameters, gradient, moments and best parameters.
    pub state_bytes: usize,
    /// Bytes of a computation graph.
    pub graph_bytes: usize,
    /// Bytes of episodes prepared ahead.
    pub episode_bytes: usize,
}

impl Forecast {
    /// All bytes, with those of a process that does nothing.
    pub fn total_bytes(&self) -> usize {
        PROCESS + self.state_bytes + self.graph_bytes + self.episode_bytes
    }
}

/// Bytes of a process that has started and read nothing, about.
const PROCESS: usize = 30_000_000;

impl<T: Toolkit> Experiment<T> {
    /// Estimates the memory of the run, by building its learner.
    ///
    /// # Errors
    /// When the backend has no such device.
    pub fn forecast(&self) -> Result<Forecast> {
        Ok(dispatch(&self.manifest.run.target(), ForecastOf(self))?)
    }
}

/// The forecast of an experiment.
struct ForecastOf<'a, T: Toolkit>(&'a Experiment<T>);

impl<T: Toolkit> WithBackend for ForecastOf<'_, T> {
    type Output = Forecast;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let experiment = self.0;
        let learner = experiment.learner::<B>(&device);
        let parameters = learner.parameters().num_elements();
        let sizes = experiment.sizes::<B>(parameters);
        let settings = sizes.train_settings(&experiment.manifest.train);
        let spec = &experiment.spec;
        let tasks = match settings.task_chunk {
            0 => settings.meta_batch,
            chunk => chunk.min(settings.meta_batch),
        };
        let graphs = settings.meta_batch.div_ceil(tasks.max(1));
        let concurrent = settings.graphs().side_by_side(graphs, B::SIDE_BY_SIDE);
        let items = spec.train.support_items() + spec.train.query_items();
        Forecast {
            parameters,
            // With both moments of Adam.
            state_bytes: NUMBER * 5 * parameters,
            graph_bytes: tasks * sizes.training_task() * concurrent,
            // Two batches ready, one being made, one in use.
            episode_bytes: NUMBER * 4 * settings.meta_batch * items * spec.item.features(),
        }
    }
}
