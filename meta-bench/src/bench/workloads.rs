//! Defines the workloads that are measured.

use std::sync::Arc;

use meta_core::{
    Error,
    data::{Episode, EpisodeShape, Source, Split, find_source},
    learner::LearnerList,
    nn::encoder::EncoderList,
    parallel::TaskChunks,
    primitives::Primitives,
    rng::{Seed, Stream},
    task::TaskSpec,
    toolkit::{Catalogue, Toolkit},
    train::TrainSettings,
};
use serde_json::{Value, json};

pub use super::table::{Kind, Workload};
use super::{args::Effort, table::WORKLOADS};
use crate::{experiment::graph_size::Sizes, failure::Result, manifest::settings::TestSettings};

/// Learning rate of the outer Adam.
pub const OUTER_LR: f64 = 1e-3;

/// The most that grain adds to a pixel.
const GRAIN: f64 = 0.25;

/// Names of workloads in older files: workloads on drawn glyphs were named after Omniglot.
const OLD_NAMES: [(&str, &str); 3] = [
    ("omniglot-maml-1", "conv4-maml-1"),
    ("omniglot-maml-5", "conv4-maml-5"),
    ("omniglot-fomaml-5", "conv4-fomaml-5"),
];

/// The name today of the workload that an older file calls `name`.
pub fn current_name(name: &str) -> &str {
    let known = OLD_NAMES.into_iter().find(|(old, _)| *old == name);
    known.map_or(name, |(_, new)| new)
}

/// The workload called `name`.
///
/// # Errors
/// [`Error::Unknown`] with the known names.
pub fn find(name: &str) -> Result<&'static Workload> {
    WORKLOADS
        .iter()
        .find(|workload| workload.name == name)
        .ok_or_else(|| {
            let known = WORKLOADS.iter().map(|workload| workload.name);
            Error::unknown("workload", name, known).into()
        })
}

/// The workloads of these names, all for none, in the order of the table.
///
/// # Errors
/// As [`find`].
pub fn chosen(names: &[String]) -> Result<Vec<&'static Workload>> {
    for name in names {
        find(name)?;
    }
    Ok(WORKLOADS
        .iter()
        .filter(|workload| names.is_empty() || names.iter().any(|name| name == workload.name))
        .collect())
}

/// These settings with others in their place.
fn changed(mut settings: Value, others: &Value) -> Value {
    for (key, value) in others.as_object().into_iter().flatten() {
        settings[key] = value.clone();
    }
    settings
}

/// Each number in all channels of its pixel, by 1, 1/2, 1/3 and so on, with the grain of a photograph: in areas
/// of one colour the maxima of a pool are ties, which rounding breaks.
fn in_channels(numbers: Vec<f32>, channels: usize, grain: &mut Stream) -> Vec<f32> {
    if channels == 1 {
        return numbers;
    }
    let mut found = Vec::with_capacity(numbers.len() * channels);
    for number in numbers {
        for share in 1..=channels {
            found.push(number / share as f32 + (GRAIN * grain.uniform()) as f32);
        }
    }
    found
}

/// A workload with its data and its network.
pub struct Prepared<T: Toolkit> {
    /// What is prepared.
    pub workload: &'static Workload,
    /// All settings of the learner.
    pub settings: Value,
    /// Tasks of a meta-batch.
    pub tasks: usize,
    /// Way, shot and query.
    pub shape: EpisodeShape,
    /// Seed of the initial parameters and of the episodes.
    pub seed: Seed,
    /// The network.
    pub architecture: T::Encoders,
    /// The settings of the learner.
    pub learner: T::Learners,
    /// All settings of the network.
    pub encoder_settings: Value,
    /// Shapes of items and episodes.
    pub spec: TaskSpec,
    source: Arc<dyn Source>,
}

impl Workload {
    /// Whether its learner takes inner steps.
    pub fn has_steps(&self) -> bool {
        (self.settings)()["inner_steps"].is_u64()
    }

    /// Builds the source and the network.
    ///
    /// # Errors
    /// When the learners of this binary do not have the workload's.
    pub fn prepare<T: Toolkit>(&'static self, effort: Effort) -> Result<Prepared<T>> {
        let source = (find_source(&T::sources(), self.source)?.build)(&(self.data)(), None)?;
        let [way, shot, query] = self.episode;
        let shape = EpisodeShape::new(way, shot, effort.query.unwrap_or(query));
        let mut spec = TaskSpec::of(source.as_ref(), shape);
        spec.item.channels *= self.channels;
        let catalogue = Catalogue::of::<T>();
        let encoder = catalogue
            .encoders
            .iter()
            .find(|entry| entry.info.name == self.encoder)
            .ok_or_else(|| {
                let known = catalogue.encoders.iter().map(|entry| entry.info.name);
                Error::unknown("encoder", self.encoder, known)
            })?;
        let encoder_settings = match effort.width {
            Some(width) => (encoder.of_width)(width),
            None => changed((encoder.default_settings)(), &(self.network)()),
        };
        let entry = catalogue
            .learners
            .iter()
            .find(|entry| entry.info.name == self.learner)
            .ok_or_else(|| {
                let known = catalogue.learners.iter().map(|entry| entry.info.name);
                Error::unknown("learner", self.learner, known)
            })?;
        let mut settings = changed(entry.default_settings.clone(), &(self.settings)());
        if let Some(steps) = effort.steps {
            for key in ["inner_steps", "test_steps"] {
                if settings[key].is_u64() {
                    settings[key] = json!(steps);
                }
            }
        }
        let architecture = T::Encoders::new(self.encoder, &encoder_settings, spec.item)?;
        let learner = T::Learners::new(self.learner, &settings)?;
        learner.check(&architecture, &spec)?;
        Ok(Prepared {
            workload: self,
            settings,
            learner,
            tasks: effort.tasks.unwrap_or(self.tasks),
            shape,
            seed: Seed(effort.seed),
            architecture,
            encoder_settings,
            spec,
            source,
        })
    }
}

impl<T: Toolkit> Prepared<T> {
    /// The graphs of a meta-batch, or of an evaluation: of as many tasks as was asked for, or as in a run
    /// with default settings.
    pub fn task_chunks<B: Primitives>(&self, effort: Effort, parameters: usize) -> TaskChunks {
        let sizes = Sizes {
            architecture: &self.architecture,
            spec: &self.spec,
            steps: self.learner.steps(),
            tokens: self.learner.tokens(&self.spec),
            parameters,
            side_by_side: B::SIDE_BY_SIDE,
            on_device: B::ON_DEVICE,
        };
        let settings = TrainSettings {
            meta_batch: self.tasks,
            task_chunk: effort.task_chunk,
            ..TrainSettings::default()
        };
        let at_a_time = match self.workload.at_a_time {
            0 => TestSettings::default().chunk.min(self.tasks),
            at_a_time => at_a_time,
        };
        match (self.workload.kind, effort.task_chunk) {
            (Kind::Train, _) => sizes.train_settings(&settings).graphs(),
            (Kind::Predict, 0) => sizes.test_graphs(at_a_time),
            (Kind::Predict, tasks) => TaskChunks {
                tasks,
                concurrent: (at_a_time / tasks).max(1),
            },
        }
    }

    /// The episodes of one meta-batch.
    ///
    /// # Errors
    /// Never for the workloads of the table.
    pub fn episodes(&self) -> Result<Vec<Episode>> {
        let split = match self.workload.kind {
            Kind::Train => Split::Train,
            Kind::Predict => Split::Test,
        };
        let shape = self.shape;
        (0..self.tasks as u64)
            .map(|index| {
                let mut episode = self.source.episode(self.seed, split, shape, index)?;
                let mut grain = self.seed.stream("bench", index, "grain");
                for items in [&mut episode.support, &mut episode.query] {
                    let numbers = std::mem::take(&mut items.inputs);
                    items.inputs = in_channels(numbers, self.workload.channels, &mut grain);
                }
                Ok(episode)
            })
            .collect()
    }
}
