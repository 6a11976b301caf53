//! How many parameters a run trains and how much memory it will take, before it starts.
//!
//! Parameters are counted. Memory is an estimate, meant to be right within a factor of two:
//!
//! * parameters, gradient, the optimiser's moments and the best parameters: 4 bytes a number each;
//! * activations: the numbers that one item leaves in a forward pass (see `activations`), times the
//!   items of a computation graph, times the passes that the graph keeps. A learner without inner
//!   steps keeps one pass and its adjoint over support and query; one with `K` inner steps keeps,
//!   for each of them, the support's pass, its adjoint and the adjoints of both, and a copy of the
//!   parameters for each task;
//! * episodes: those of the meta-batches that are prepared ahead.

use meta_core::{
    backend::WithBackend,
    data::ItemShape,
    nn::encoder::{Architecture, EncoderSpec},
    optim::OptimizerKind,
    primitives::Primitives,
};
use serde::Serialize;

use crate::{experiment::Experiment, failure::Result, learners::Learners};

/// Bytes of a number.
const NUMBER: usize = 4;

/// A forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// Trainable numbers.
    pub parameters: usize,
    /// Bytes of parameters, gradient, moments and best parameters.
    pub state_bytes: usize,
    /// Bytes of activations and adjoints in one computation graph.
    pub graph_bytes: usize,
    /// Bytes of episodes prepared ahead.
    pub episode_bytes: usize,
}

impl Forecast {
    /// All bytes.
    pub fn total_bytes(&self) -> usize {
        self.state_bytes + self.graph_bytes + self.episode_bytes
    }

    /// Comment lines for humans.
    pub fn lines(&self) -> String {
        format!(
            "# parameters       {}\n\
             # memory, about    {} (state {}, graph {}, episodes {})\n",
            self.parameters,
            bytes_text(self.total_bytes()),
            bytes_text(self.state_bytes),
            bytes_text(self.graph_bytes),
            bytes_text(self.episode_bytes),
        )
    }
}

/// Forecasts `experiment` by building its learner.
pub struct ForecastOf<'a, L> {
    /// What is forecast.
    pub experiment: &'a Experiment,
    /// Who builds the learner.
    pub learners: std::marker::PhantomData<L>,
}

impl<L: Learners> WithBackend for ForecastOf<'_, L> {
    type Output = Result<Forecast>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let learner = &self.experiment.manifest.learner;
        let built = L::build::<B>(
            &learner.name,
            &learner.settings,
            self.experiment.architecture.clone(),
            &self.experiment.spec,
            self.experiment.seed(),
            &device,
        )
        .map_err(|error| self.experiment.manifest.locate(error))?;
        Ok(forecast(self.experiment, built.parameters().num_elements()))
    }
}

fn forecast(experiment: &Experiment, parameters: usize) -> Forecast {
    let manifest = &experiment.manifest;
    let train = &manifest.train;
    let shape = experiment.spec.train;
    let tasks = match train.task_chunk {
        0 => train.meta_batch,
        chunk => chunk.min(train.meta_batch),
    };
    let moments = match train.optimizer.optimizer {
        OptimizerKind::Adam | OptimizerKind::AdamW => 2,
        OptimizerKind::Sgd => usize::from(train.optimizer.momentum > 0.0),
    };
    let inner_steps = manifest
        .value("learner.inner_steps")
        .and_then(serde_json::Value::as_u64)
        .and_then(|steps| usize::try_from(steps).ok())
        .unwrap_or(0);
    let per_item = activations(&experiment.architecture);
    let (support, query) = (shape.support_items(), shape.query_items());
    let per_task = match inner_steps {
        0 => 2 * (support + query) * per_item,
        steps => (4 * steps * support + 2 * query) * per_item + (3 * steps + 2) * parameters,
    };
    let items = (support + query) * experiment.spec.item.features();
    Forecast {
        parameters,
        state_bytes: NUMBER * parameters * (3 + moments),
        graph_bytes: NUMBER * tasks * per_task,
        // Two batches ready, one being made, one in use.
        episode_bytes: NUMBER * 4 * train.meta_batch * items,
    }
}

/// Numbers that one item leaves in a forward pass.
fn activations(architecture: &EncoderSpec) -> usize {
    match architecture {
        EncoderSpec::Mlp(item, settings) => {
            // Linear and ReLU of every layer.
            item.features() + 2 * settings.hidden.iter().sum::<usize>()
        }
        EncoderSpec::Conv4(item, settings) => {
            // Convolution, normalisation and ReLU at the block's resolution.
            let plane = |block: usize| (item.height >> block) * (item.width >> block);
            let planes: usize = (0..settings.blocks).map(plane).sum();
            item.features() + 3 * settings.channels * planes
        }
        EncoderSpec::Attention(item, settings) => {
            let tokens = tokens(*item, settings.patch);
            // Two normalisations, three projections, read, output, and the feed-forward layer; the
            // map of every head.
            let block = tokens * (8 * settings.width + 2 * settings.hidden)
                + settings.heads * tokens * tokens;
            item.features() + settings.layers * block + architecture.width()
        }
    }
}

fn tokens(item: ItemShape, patch: usize) -> usize {
    match (item.height, item.width) {
        (1, 1) => item.channels,
        (height, width) => (height / patch.max(1)) * (width / patch.max(1)),
    }
}

/// Bytes for humans.
pub fn bytes_text(bytes: usize) -> String {
    let bytes = bytes as f64;
    match bytes {
        _ if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        _ if bytes >= 1e6 => format!("{:.0} MB", bytes / 1e6),
        _ => format!("{:.0} kB", (bytes / 1e3).ceil()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: 28×28, 64 channels, four blocks of 784 + 196 + 49 + 9 positions.
    #[test]
    fn activations_of_conv4_match_a_count_by_hand() {
        let item = ItemShape {
            height: 28,
            width: 28,
            channels: 1,
        };
        let conv4 = EncoderSpec::new("conv4", &serde_json::json!({}), item).unwrap();
        assert_eq!(activations(&conv4), 784 + 3 * 64 * (784 + 196 + 49 + 9));
    }

    #[test]
    fn bytes_read_well() {
        assert_eq!(bytes_text(900), "1 kB");
        assert_eq!(bytes_text(12_400_000), "12 MB");
        assert_eq!(bytes_text(2_340_000_000), "2.3 GB");
    }
}
