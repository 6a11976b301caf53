//! Defines the workloads that are measured.

use std::sync::Arc;

use meta_core::{
    Error,
    data::{Episode, EpisodeShape, Source, Split, find_source},
    learner::LearnerList,
    nn::encoder::EncoderList,
    parallel::TaskChunks,
    primitives::Primitives,
    rng::Seed,
    task::TaskSpec,
    toolkit::{Catalogue, Toolkit},
    train::TrainSettings,
};
use serde_json::{Value, json};

use super::args::Effort;
use crate::{experiment::graph_size::Sizes, failure::Result, manifest::settings::TestSettings};

/// What one sample of a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A meta-iteration: the episodes are put on the device, the meta-gradient is computed, Adam
    /// takes a step.
    Train,
    /// The episodes are put on the device, and the learner adapts to their supports and predicts
    /// their queries.
    Predict,
}

impl Kind {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Train => "train",
            Kind::Predict => "predict",
        }
    }
}

/// Learning rate of the outer Adam.
pub const OUTER_LR: f64 = 1e-3;

/// Something that is measured.
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// What a sample is.
    pub kind: Kind,
    /// Data source.
    pub source: &'static str,
    /// Settings of the source that are not its defaults.
    pub data: fn() -> Value,
    /// Encoder, with its default settings.
    pub encoder: &'static str,
    /// Learner.
    pub learner: &'static str,
    /// Settings of the learner that are not its defaults.
    pub settings: fn() -> Value,
    /// Way, shot and query.
    pub episode: [usize; 3],
    /// Tasks of a meta-batch.
    pub tasks: usize,
}

/// All workloads; adding a row makes one known to `meta bench`.
static WORKLOADS: [Workload; 22] = [
    Workload {
        name: "sinusoid-1",
        summary: "second-order MAML, MLP 1-40-40-1, 10 + 10 points, 1 inner step",
        kind: Kind::Train,
        source: "sinusoid",
        data: || json!({}),
        encoder: "mlp",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.01, "inner_steps": 1 }),
        episode: [1, 10, 10],
        tasks: 25,
    },
    Workload {
        name: "sinusoid-5",
        summary: "second-order MAML, MLP 1-40-40-1, 10 + 10 points, 5 inner steps",
        kind: Kind::Train,
        source: "sinusoid",
        data: || json!({}),
        encoder: "mlp",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.01, "inner_steps": 5 }),
        episode: [1, 10, 10],
        tasks: 25,
    },
    Workload {
        name: "conv4-maml-1",
        summary: "second-order MAML, Conv-4 (64), 28×28, 5-way 1-shot 15-query, 1 inner step",
        kind: Kind::Train,
        source: "glyphs",
        data: || json!({}),
        encoder: "conv4",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.4, "inner_steps": 1 }),
        episode: [5, 1, 15],
        tasks: 8,
    },
    Workload {
        name: "conv4-maml-5",
        summary: "second-order MAML, Conv-4 (64), 28×28, 5-way 1-shot 15-query, 5 inner steps",
        kind: Kind::Train,
        source: "glyphs",
        data: || json!({}),
        encoder: "conv4",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.1, "inner_steps": 5 }),
        episode: [5, 1, 15],
        tasks: 8,
    },
    Workload {
        name: "conv4-fomaml-5",
        summary: "first-order MAML, Conv-4 (64), 28×28, 5-way 1-shot 15-query, 5 inner steps",
        kind: Kind::Train,
        source: "glyphs",
        data: || json!({}),
        encoder: "conv4",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.1, "inner_steps": 5, "order": "first" }),
        episode: [5, 1, 15],
        tasks: 8,
    },
    Workload {
        name: "protonet-20w1s",
        summary: "prototypical network, Conv-4 (64), 28×28, one episode, 20-way 1-shot 5-query",
        kind: Kind::Train,
        source: "glyphs",
        data: || json!({}),
        encoder: "conv4",
        learner: "protonet",
        settings: || json!({}),
        episode: [20, 1, 5],
        tasks: 1,
    },
    Workload {
        name: "protonet-60w5s",
        summary: "prototypical network, Conv-4 (64), 28×28, one episode, 60-way 5-shot 5-query",
        kind: Kind::Train,
        source: "glyphs",
        data: || json!({}),
        encoder: "conv4",
        learner: "protonet",
        settings: || json!({}),
        episode: [60, 5, 5],
        tasks: 1,
    },
    Workload {
        name: "attention-maml",
        summary: "second-order MAML, self-attention (2 layers, 4 heads, width 64, 16 tokens), \
                  28×28, 5-way 1-shot 15-query, 1 inner step",
        kind: Kind::Train,
        source: "glyphs",
        data: || json!({}),
        encoder: "attention",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.1, "inner_steps": 1 }),
        episode: [5, 1, 15],
        tasks: 8,
    },
    Workload {
        name: "lstm-protonet",
        summary: "prototypical network, LSTM (64), 28 steps of 28, one episode, 20-way 5-shot 5-query",
        kind: Kind::Train,
        source: "glyphs",
        data: || json!({}),
        encoder: "lstm",
        learner: "protonet",
        settings: || json!({}),
        episode: [20, 5, 5],
        tasks: 1,
    },
    Workload {
        name: "bilstm-protonet",
        summary: "prototypical network, bidirectional LSTM (64 each), 28 steps of 28, one episode, 20-way 5-shot 5-query",
        kind: Kind::Train,
        source: "glyphs",
        data: || json!({}),
        encoder: "bilstm",
        learner: "protonet",
        settings: || json!({}),
        episode: [20, 5, 5],
        tasks: 1,
    },
    Workload {
        name: "gru-protonet",
        summary: "prototypical network, GRU (64), 28 steps of 28, one episode, 20-way 5-shot 5-query",
        kind: Kind::Train,
        source: "glyphs",
        data: || json!({}),
        encoder: "gru",
        learner: "protonet",
        settings: || json!({}),
        episode: [20, 5, 5],
        tasks: 1,
    },
    Workload {
        name: "text-cnn-protonet",
        summary: "prototypical network, text CNN (3, 4, 5; 100 filters each), texts of 40 rows of 100, one episode, 10-way 5-shot 5-query",
        kind: Kind::Train,
        source: "topics",
        data: || json!({ "length": 40, "vector_width": 100 }),
        encoder: "text_cnn",
        learner: "protonet",
        settings: || json!({}),
        episode: [10, 5, 5],
        tasks: 1,
    },
    Workload {
        name: "attention-pooling-protonet",
        summary: "prototypical network, additive attention over a bidirectional LSTM (64 each), texts of 40 rows of 100, one episode, 10-way 5-shot 5-query",
        kind: Kind::Train,
        source: "topics",
        data: || json!({ "length": 40, "vector_width": 100 }),
        encoder: "attention_pooling",
        learner: "protonet",
        settings: || json!({}),
        episode: [10, 5, 5],
        tasks: 1,
    },
    Workload {
        name: "lstm-maml",
        summary: "second-order MAML, LSTM (64), 28 steps of 28, 5-way 1-shot 15-query, 1 inner step",
        kind: Kind::Train,
        source: "glyphs",
        data: || json!({}),
        encoder: "lstm",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.1, "inner_steps": 1 }),
        episode: [5, 1, 15],
        tasks: 8,
    },
    Workload {
        name: "mann",
        summary: "MANN (128, 32 slots of 32, 2 heads), MLP 1-40-40, sine waves, 10 + 10 points",
        kind: Kind::Train,
        source: "sinusoid",
        data: || json!({}),
        encoder: "mlp",
        learner: "mann",
        settings: || json!({ "hidden": 128, "slots": 32, "slot_width": 32, "heads": 2, "sharpness": 10.0 }),
        episode: [1, 10, 10],
        tasks: 25,
    },
    Workload {
        name: "meta-lstm",
        summary: "Meta-LSTM (8), first order, MLP 1-40-40-1, sine waves, 10 + 10 points, 5 steps",
        kind: Kind::Train,
        source: "sinusoid",
        data: || json!({}),
        encoder: "mlp",
        learner: "meta_lstm",
        settings: || json!({ "inner_lr": 0.02, "keep": 0.999, "inner_steps": 5, "hidden": 8 }),
        episode: [1, 10, 10],
        tasks: 8,
    },
    Workload {
        name: "adapt",
        summary: "evaluation of conv4-maml-5: 5 inner steps, then predict",
        kind: Kind::Predict,
        source: "glyphs",
        data: || json!({}),
        encoder: "conv4",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.1, "inner_steps": 5, "test_steps": 5 }),
        episode: [5, 1, 15],
        tasks: 100,
    },
    Workload {
        name: "logistic-5w5s",
        summary: "logistic regression (C = 1) on vectors of 384 numbers, 5-way 5-shot 15-query",
        kind: Kind::Predict,
        source: "projected-glyphs",
        data: || json!({ "width": 384 }),
        encoder: "identity",
        learner: "logistic",
        settings: || json!({ "c": 1.0 }),
        episode: [5, 5, 15],
        tasks: 100,
    },
    Workload {
        name: "mlc-joint",
        summary: "encoder and decoder (64, 2 + 2 layers) on 14 examples with each of 10 queries",
        kind: Kind::Train,
        source: "grammar",
        data: || json!({}),
        encoder: "identity",
        learner: "mlc",
        settings: || mlc("joint"),
        episode: [1, 14, 10],
        tasks: 4,
    },
    Workload {
        name: "mlc-separate",
        summary: "the same, with the examples read once for all queries",
        kind: Kind::Train,
        source: "grammar",
        data: || json!({}),
        encoder: "identity",
        learner: "mlc",
        settings: || mlc("separate"),
        episode: [1, 14, 10],
        tasks: 16,
    },
    Workload {
        name: "rl2",
        summary: "RL², GRU (64): 64 trials of 100 steps in Markov decision problems, 4 passes of PPO in 4 parts",
        kind: Kind::Train,
        source: "tabular_mdp",
        data: || json!({}),
        encoder: "identity",
        learner: "rl2",
        settings: || json!({ "hidden": 64, "epochs": 4, "minibatches": 4 }),
        episode: [1, 10, 1],
        tasks: 64,
    },
    Workload {
        name: "maml-rl",
        summary: "second-order MAML for RL, MLP 2-40-40: 10 tasks, 20 + 20 episodes of up to 100 steps of navigation, \
                  4 outer steps of PPO",
        kind: Kind::Train,
        source: "navigation",
        data: || json!({}),
        encoder: "mlp",
        learner: "maml_rl",
        settings: || json!({ "inner_steps": 1, "surrogate": "lvc", "deviation": 0.3, "epochs": 4, "entropy_weight": 0.01 }),
        episode: [1, 20, 20],
        tasks: 10,
    },
];

/// Settings of a small learner of sequences.
fn mlc(context: &str) -> Value {
    json!({
        "context": context, "layers": 2, "decoder_layers": 2, "width": 64, "heads": 4, "hidden": 128
    })
}

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
        let spec = TaskSpec::of(source.as_ref(), shape);
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
            None => (encoder.default_settings)(),
        };
        let entry = catalogue
            .learners
            .iter()
            .find(|entry| entry.info.name == self.learner)
            .ok_or_else(|| {
                let known = catalogue.learners.iter().map(|entry| entry.info.name);
                Error::unknown("learner", self.learner, known)
            })?;
        let mut settings = entry.default_settings.clone();
        for (key, value) in (self.settings)().as_object().into_iter().flatten() {
            settings[key] = value.clone();
        }
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
            parameters,
            side_by_side: B::SIDE_BY_SIDE,
            on_device: B::ON_DEVICE,
        };
        let settings = TrainSettings {
            meta_batch: self.tasks,
            task_chunk: effort.task_chunk,
            ..TrainSettings::default()
        };
        let at_a_time = TestSettings::default().chunk.min(self.tasks);
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
            .map(|index| Ok(self.source.episode(self.seed, split, shape, index)?))
            .collect()
    }
}
