//! The table of workloads.

use serde_json::{Value, json};

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
    /// Channels of an item. Where the source draws one, channel `c` (from 0) is that by `1 / (c + 1)`, with
    /// grain: pictures in colour, without files.
    pub channels: usize,
    /// Encoder.
    pub encoder: &'static str,
    /// Settings of the encoder that are not its defaults; a width that is asked for takes their place.
    pub network: fn() -> Value,
    /// Learner.
    pub learner: &'static str,
    /// Settings of the learner that are not its defaults.
    pub settings: fn() -> Value,
    /// Way, shot and query.
    pub episode: [usize; 3],
    /// Tasks of a meta-batch.
    pub tasks: usize,
    /// Tasks that are predicted at a time; 0: as in a test with default settings.
    pub at_a_time: usize,
}

/// What most of them have.
const TRAINED: Workload = Workload {
    name: "",
    summary: "",
    kind: Kind::Train,
    source: "",
    data: || json!({}),
    channels: 1,
    encoder: "",
    network: || json!({}),
    learner: "",
    settings: || json!({}),
    episode: [1, 1, 1],
    tasks: 1,
    at_a_time: 0,
};

/// All workloads; adding a row makes one known to `meta bench`.
pub static WORKLOADS: &[Workload] = &[
    Workload {
        name: "sinusoid-1",
        summary: "second-order MAML, MLP 1-40-40-1, 10 + 10 points, 1 inner step",
        source: "sinusoid",
        encoder: "mlp",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.01, "inner_steps": 1 }),
        episode: [1, 10, 10],
        tasks: 25,
        ..TRAINED
    },
    Workload {
        name: "sinusoid-5",
        summary: "second-order MAML, MLP 1-40-40-1, 10 + 10 points, 5 inner steps",
        source: "sinusoid",
        encoder: "mlp",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.01, "inner_steps": 5 }),
        episode: [1, 10, 10],
        tasks: 25,
        ..TRAINED
    },
    Workload {
        name: "conv4-maml-1",
        summary: "second-order MAML, Conv-4 (64), 28×28, 5-way 1-shot 15-query, 1 inner step",
        source: "glyphs",
        encoder: "conv4",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.4, "inner_steps": 1 }),
        episode: [5, 1, 15],
        tasks: 8,
        ..TRAINED
    },
    Workload {
        name: "conv4-maml-5",
        summary: "second-order MAML, Conv-4 (64), 28×28, 5-way 1-shot 15-query, 5 inner steps",
        source: "glyphs",
        encoder: "conv4",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.1, "inner_steps": 5 }),
        episode: [5, 1, 15],
        tasks: 8,
        ..TRAINED
    },
    Workload {
        name: "conv4-fomaml-5",
        summary: "first-order MAML, Conv-4 (64), 28×28, 5-way 1-shot 15-query, 5 inner steps",
        source: "glyphs",
        encoder: "conv4",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.1, "inner_steps": 5, "order": "first" }),
        episode: [5, 1, 15],
        tasks: 8,
        ..TRAINED
    },
    Workload {
        name: "protonet-20w1s",
        summary: "prototypical network, Conv-4 (64), 28×28, one episode, 20-way 1-shot 5-query",
        source: "glyphs",
        encoder: "conv4",
        learner: "protonet",
        episode: [20, 1, 5],
        ..TRAINED
    },
    Workload {
        name: "protonet-60w5s",
        summary: "prototypical network, Conv-4 (64), 28×28, one episode, 60-way 5-shot 5-query",
        source: "glyphs",
        encoder: "conv4",
        learner: "protonet",
        episode: [60, 5, 5],
        ..TRAINED
    },
    Workload {
        name: "attention-maml",
        summary: "second-order MAML, self-attention (2 layers, 4 heads, width 64, 16 tokens), \
                  28×28, 5-way 1-shot 15-query, 1 inner step",
        source: "glyphs",
        encoder: "attention",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.1, "inner_steps": 1 }),
        episode: [5, 1, 15],
        tasks: 8,
        ..TRAINED
    },
    Workload {
        name: "lstm-protonet",
        summary: "prototypical network, LSTM (64), 28 steps of 28, one episode, 20-way 5-shot 5-query",
        source: "glyphs",
        encoder: "lstm",
        learner: "protonet",
        episode: [20, 5, 5],
        ..TRAINED
    },
    Workload {
        name: "bilstm-protonet",
        summary: "prototypical network, bidirectional LSTM (64 each), 28 steps of 28, one episode, 20-way 5-shot 5-query",
        source: "glyphs",
        encoder: "bilstm",
        learner: "protonet",
        episode: [20, 5, 5],
        ..TRAINED
    },
    Workload {
        name: "gru-protonet",
        summary: "prototypical network, GRU (64), 28 steps of 28, one episode, 20-way 5-shot 5-query",
        source: "glyphs",
        encoder: "gru",
        learner: "protonet",
        episode: [20, 5, 5],
        ..TRAINED
    },
    Workload {
        name: "text-cnn-protonet",
        summary: "prototypical network, text CNN (3, 4, 5; 100 filters each), texts of 40 rows of 100, one episode, 10-way 5-shot 5-query",
        source: "topics",
        data: || json!({ "length": 40, "vector_width": 100 }),
        encoder: "text_cnn",
        learner: "protonet",
        episode: [10, 5, 5],
        ..TRAINED
    },
    Workload {
        name: "attention-pooling-protonet",
        summary: "prototypical network, additive attention over a bidirectional LSTM (64 each), texts of 40 rows of 100, one episode, 10-way 5-shot 5-query",
        source: "topics",
        data: || json!({ "length": 40, "vector_width": 100 }),
        encoder: "attention_pooling",
        learner: "protonet",
        episode: [10, 5, 5],
        ..TRAINED
    },
    Workload {
        name: "lstm-maml",
        summary: "second-order MAML, LSTM (64), 28 steps of 28, 5-way 1-shot 15-query, 1 inner step",
        source: "glyphs",
        encoder: "lstm",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.1, "inner_steps": 1 }),
        episode: [5, 1, 15],
        tasks: 8,
        ..TRAINED
    },
    Workload {
        name: "mann",
        summary: "MANN (128, 32 slots of 32, 2 heads), MLP 1-40-40, sine waves, 10 + 10 points",
        source: "sinusoid",
        encoder: "mlp",
        learner: "mann",
        settings: || json!({ "hidden": 128, "slots": 32, "slot_width": 32, "heads": 2, "sharpness": 10.0 }),
        episode: [1, 10, 10],
        tasks: 25,
        ..TRAINED
    },
    Workload {
        name: "meta-lstm",
        summary: "Meta-LSTM (8), first order, MLP 1-40-40-1, sine waves, 10 + 10 points, 5 steps",
        source: "sinusoid",
        encoder: "mlp",
        learner: "meta_lstm",
        settings: || json!({ "inner_lr": 0.02, "keep": 0.999, "inner_steps": 5, "hidden": 8 }),
        episode: [1, 10, 10],
        tasks: 8,
        ..TRAINED
    },
    Workload {
        name: "adapt",
        summary: "evaluation of conv4-maml-5: 5 inner steps, then predict",
        kind: Kind::Predict,
        source: "glyphs",
        encoder: "conv4",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.1, "inner_steps": 5, "test_steps": 5 }),
        episode: [5, 1, 15],
        tasks: 100,
        ..TRAINED
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
        ..TRAINED
    },
    Workload {
        name: "mlc-joint",
        summary: "encoder and decoder (64, 2 + 2 layers) on 14 examples with each of 10 queries",
        source: "grammar",
        encoder: "identity",
        learner: "mlc",
        settings: || mlc("joint"),
        episode: [1, 14, 10],
        tasks: 4,
        ..TRAINED
    },
    Workload {
        name: "mlc-separate",
        summary: "the same, with the examples read once for all queries",
        source: "grammar",
        encoder: "identity",
        learner: "mlc",
        settings: || mlc("separate"),
        episode: [1, 14, 10],
        tasks: 16,
        ..TRAINED
    },
    Workload {
        name: "transformer-protonet",
        summary: "prototypical network, transformer (2 layers, 4 heads, width 64), 28 steps of 28, one episode, 20-way 5-shot 5-query",
        source: "glyphs",
        encoder: "transformer",
        learner: "protonet",
        episode: [20, 5, 5],
        ..TRAINED
    },
    Workload {
        name: "set-transformer-protonet",
        summary: "prototypical network, set transformer (2 layers, 4 heads, width 128, 16 inducing points), sets of 28 rows, one episode, 20-way 5-shot 5-query",
        source: "glyphs",
        encoder: "set_transformer",
        learner: "protonet",
        episode: [20, 5, 5],
        ..TRAINED
    },
    Workload {
        name: "resnet12-protonet",
        summary: "prototypical network, ResNet-12 (64-160-320-640), 84×84 in colour, one episode, 5-way 5-shot 3-query",
        source: "glyphs",
        data: || json!({ "image_size": 84 }),
        channels: 3,
        encoder: "resnet12",
        learner: "protonet",
        episode: [5, 5, 3],
        ..TRAINED
    },
    Workload {
        name: "resnet12-maml",
        summary: "second-order MAML, ResNet-12 (64-160-320-640), 84×84 in colour, 5-way 1-shot 1-query, 1 inner step",
        source: "glyphs",
        data: || json!({ "image_size": 84 }),
        channels: 3,
        encoder: "resnet12",
        learner: "maml",
        settings: || json!({ "inner_lr": 0.01, "inner_steps": 1 }),
        episode: [5, 1, 1],
        tasks: 2,
        ..TRAINED
    },
    Workload {
        name: "feat",
        summary: "FEAT, Conv-4 (64), 28×28, 5-way 5-shot 15-query",
        source: "glyphs",
        encoder: "conv4",
        learner: "feat",
        settings: || json!({ "heads": 1, "temperature": 4.0 }),
        episode: [5, 5, 15],
        tasks: 4,
        ..TRAINED
    },
    Workload {
        name: "snail",
        summary: "SNAIL (keys and values 32-64-128, 32 filters), MLP 1-40-40, sine waves, 10 + 10 points",
        source: "sinusoid",
        encoder: "mlp",
        learner: "snail",
        settings: || json!({ "keys": [32, 64, 128], "values": [32, 64, 128], "filters": 32 }),
        episode: [1, 10, 10],
        tasks: 25,
        ..TRAINED
    },
    Workload {
        name: "in-context",
        summary: "transformer that reads the support (3 layers, 4 heads, width 64), MLP 1-40-40, sine waves, 10 + 10 points",
        source: "sinusoid",
        encoder: "mlp",
        learner: "in_context",
        settings: || json!({ "layers": 3, "width": 64, "heads": 4, "hidden": 128 }),
        episode: [1, 10, 10],
        tasks: 25,
        ..TRAINED
    },
    Workload {
        name: "cnp",
        summary: "conditional neural process (128; 2 + 3 layers), MLP 1-64-64, functions of Gaussian processes, 10 + 20 points",
        source: "gp",
        data: functions,
        encoder: "mlp",
        network: || json!({ "hidden": [64, 64] }),
        learner: "cnp",
        settings: || json!({ "encoder_layers": 2, "decoder_layers": 3 }),
        episode: [1, 10, 20],
        tasks: 16,
        ..TRAINED
    },
    Workload {
        name: "anp",
        summary: "attentive neural process (128; 2 + 2 layers, 1 block, 4 heads), MLP 1-64-64, functions of Gaussian processes, 10 + 20 points",
        source: "gp",
        data: functions,
        encoder: "mlp",
        network: || json!({ "hidden": [64, 64] }),
        learner: "anp",
        settings: || json!({ "encoder_layers": 2, "decoder_layers": 2, "layers": 1, "heads": 4 }),
        episode: [1, 10, 20],
        tasks: 16,
        ..TRAINED
    },
    Workload {
        name: "tnp",
        summary: "transformer neural process (128; 2 + 2 layers, 3 blocks, 4 heads), MLP 1-64-64, functions of Gaussian processes, 10 + 20 points",
        source: "gp",
        data: functions,
        encoder: "mlp",
        network: || json!({ "hidden": [64, 64] }),
        learner: "tnp",
        settings: || json!({ "encoder_layers": 2, "decoder_layers": 2, "layers": 3, "heads": 4 }),
        episode: [1, 10, 20],
        tasks: 16,
        ..TRAINED
    },
    Workload {
        name: "pfn",
        summary: "prior-fitted network (3 layers, 4 heads, width 32), tables of up to 10 features, 3 classes, 48 + 24 rows",
        source: "prior",
        data: || json!({ "least_way": 2, "least_shot": 2, "imbalance": [1.0, 4.0], "missing": [0.0, 0.1] }),
        encoder: "identity",
        learner: "pfn",
        settings: prior_fitted,
        episode: [3, 16, 8],
        tasks: 8,
        ..TRAINED
    },
    Workload {
        name: "pfn-predict",
        summary: "predictions of the same for 64 tables of 100 + 10 rows",
        ..TABLES
    },
    Workload {
        name: "pfn-predict-10",
        summary: "predictions of the same for 64 tables of 10 + 10 rows",
        episode: [2, 5, 5],
        ..TABLES
    },
    Workload {
        name: "rl2",
        summary: "RL², GRU (64): 64 trials of 100 steps in Markov decision problems, 4 passes of PPO in 4 parts",
        source: "tabular_mdp",
        encoder: "identity",
        learner: "rl2",
        settings: || json!({ "hidden": 64, "epochs": 4, "minibatches": 4 }),
        episode: [1, 10, 1],
        tasks: 64,
        ..TRAINED
    },
    Workload {
        name: "mdp-steps",
        summary: "1024 Markov decision problems, drawn and acted in at random: 102 400 steps of environments",
        kind: Kind::Predict,
        source: "tabular_mdp",
        encoder: "identity",
        learner: "reference_policy",
        settings: || json!({ "policy": "random" }),
        episode: [1, 10, 1],
        tasks: 1024,
        at_a_time: 1024,
        ..TRAINED
    },
    Workload {
        name: "maml-rl",
        summary: "second-order MAML for RL, MLP 2-40-40: 10 tasks, 20 + 20 episodes of up to 100 steps of navigation, \
                  4 outer steps of PPO",
        source: "navigation",
        encoder: "mlp",
        learner: "maml_rl",
        settings: || json!({ "inner_steps": 1, "surrogate": "lvc", "deviation": 0.3, "epochs": 4, "entropy_weight": 0.01 }),
        episode: [1, 20, 20],
        tasks: 10,
        ..TRAINED
    },
];

/// What tables are predicted by a prior-fitted network; with `--tasks 1` a table at a time.
const TABLES: Workload = Workload {
    kind: Kind::Predict,
    source: "prior",
    data: || json!({ "missing": [0.0, 0.1] }),
    encoder: "identity",
    learner: "pfn",
    settings: prior_fitted,
    episode: [2, 50, 5],
    tasks: 64,
    ..TRAINED
};

/// Settings of a small prior-fitted network.
fn prior_fitted() -> Value {
    json!({ "width": 32, "heads": 4, "layers": 3, "hidden": 64 })
}

/// Functions as neural processes learn them.
fn functions() -> Value {
    json!({ "length_scale_low": 0.4, "length_scale_high": 0.4, "noise": 0.1 })
}

/// Settings of a small learner of sequences.
fn mlc(context: &str) -> Value {
    json!({
        "context": context, "layers": 2, "decoder_layers": 2, "width": 64, "heads": 4, "hidden": 128
    })
}
