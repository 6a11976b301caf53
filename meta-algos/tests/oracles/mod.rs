//! Learners against PyTorch: `learners.py` in this folder wrote the numbers, task by task, from the
//! equations of the papers.

mod attention;
mod baselines;
mod curves;
mod language;
mod maml_rl;
mod memory;
mod mlc;
mod policies;
mod tables;

use burn::tensor::{Tensor, TensorData};
use meta_core::{
    data::{EpisodeShape, Extras, ItemShape, Task},
    learner::PredictAt,
    nn::encoder::EncoderSpec,
    params::Params,
    rng::Seed,
    task::{ItemBatch, TargetBatch, TaskBatch, TaskSpec, TrainingContext},
};
use serde_json::{Value, json};

use super::{B, device, host};

mod processes;
mod relation;

const TASKS: usize = 2;
const FEATURES: usize = 6;
const OUTPUTS: usize = 3;

fn spec(task: Task) -> TaskSpec {
    let shape = match task {
        Task::Classification => EpisodeShape::new(3, 2, 2),
        _ => EpisodeShape::new(1, 6, 6),
    };
    TaskSpec {
        item: ItemShape {
            height: 1,
            width: 1,
            channels: FEATURES,
        },
        task,
        train: shape,
        test: shape,
        train_classes: 0,
        extras: Extras::default(),
    }
}

/// The numbers that both sides start from.
fn sines(count: usize, start: f64, scale: f64) -> Vec<f64> {
    let number = |index: usize| scale * (start + 0.7 * index as f64).sin();
    (0..count).map(number).collect()
}

fn tensor<const D: usize>(values: Vec<f64>, shape: [usize; D]) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values, shape), &device())
}

/// A value for every scalar, by the name of its tensor and its index.
fn parameters(like: &Params<B>) -> Params<B> {
    let entries = like.shapes().into_iter().map(|(name, shape)| {
        let start: usize = name.bytes().map(usize::from).sum();
        let mut values = sines(shape.iter().product(), start as f64, 0.4);
        if name.starts_with("rates.") {
            values
                .iter_mut()
                .for_each(|value| *value = 0.1 + 0.1 * *value);
        }
        (name, TensorData::new(values, shape))
    });
    Params::from_data(entries.collect(), &device())
}

fn items(spec: &TaskSpec, start: f64) -> ItemBatch<B> {
    let count = 6;
    let features = spec.item.features();
    let inputs = sines(TASKS * count * features, start, 1.5);
    let targets = match spec.task {
        Task::Classification => {
            let labels: Vec<i32> = (0..TASKS).flat_map(|_| [0, 0, 1, 1, 2, 2]).collect();
            TargetBatch::Classes(Tensor::from_data(
                TensorData::new(labels, [TASKS, count]),
                &device(),
            ))
        }
        Task::Regression { .. } | Task::Acting { .. } => {
            let outputs = spec.outputs();
            let values = sines(TASKS * count * outputs, start + 0.3, 1.0);
            TargetBatch::Values(tensor(values, [TASKS, count, outputs]))
        }
        Task::Sequences { .. } => unreachable!("sentences are not sines"),
    };
    ItemBatch::new(tensor(inputs, [TASKS, count, features]), targets)
}

/// Tasks of this support and these queries, when so much of the training is done.
fn tasks_of(spec: &TaskSpec, [support, query]: [ItemBatch<B>; 2], progress: f64) -> TaskBatch<B> {
    TaskBatch {
        shape: spec.train,
        support,
        query,
        context: TrainingContext {
            progress,
            noise: None,
        },
        episodes: [0, 1].into(),
        classes: [].into(),
        class_vectors: None,
        world: None,
    }
}

fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().expect("a list of numbers").iter();
    list.map(|number| number.as_f64().expect("a number"))
        .collect()
}

#[track_caller]
fn assert_close(case: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{case}");
    let scale = expected
        .iter()
        .fold(1e-3f64, |max, value| max.max(value.abs()));
    for (found, expected) in found.iter().zip(expected) {
        // Far below any mistake in an equation; the cosines of both sides guard against a length of
        // 0 in ways that differ by 1e-12.
        let error = (found - expected).abs() / scale;
        assert!(error < 1e-10, "{case}: {found}, expected {expected}");
    }
}

/// A learner of a reference in Python, under the name that the reference has in its file.
struct Case {
    name: &'static str,
    learner: &'static str,
    settings: Value,
    task: Task,
    /// How much of the training is done.
    progress: f64,
}

impl Case {
    /// Of classification.
    fn new(name: &'static str, learner: &'static str, settings: Value) -> Self {
        Case {
            name,
            learner,
            settings,
            task: Task::Classification,
            progress: 0.0,
        }
    }

    fn regression(self) -> Self {
        let task = Task::Regression { outputs: OUTPUTS };
        Case { task, ..self }
    }

    fn at(self, progress: f64) -> Self {
        Case { progress, ..self }
    }
}

/// The two layers that every reference embeds items by.
fn encoder(spec: &TaskSpec) -> EncoderSpec {
    EncoderSpec::new("mlp", &json!({"hidden": [5, 4]}), spec.item).unwrap()
}

/// Those of `learners.py`.
fn cases() -> Vec<Case> {
    let steps = |steps: usize| json!({"inner_lr": 0.1, "inner_steps": steps, "test_steps": steps});
    let five_first = json!({"inner_lr": 0.1, "inner_steps": 5, "test_steps": 5, "order": "first"});
    let every = json!({"inner_steps": 3, "losses": "every"});
    let annealed = json!({"inner_steps": 3, "losses": "annealed", "anneal_fraction": 0.5});
    let exact = json!({"inner_steps": 3, "hidden": 3, "order": "second"});
    let context = json!({"temperature": 4.0, "full_context": true, "reads": 3});
    let cavia = json!({
        "inner_lr": 0.5, "inner_steps": 2, "test_steps": 2, "context": 3, "hidden": 4
    });
    let imaml = json!({
        "inner_lr": 0.1, "inner_steps": 4, "test_steps": 4, "lambda": 2.0, "cg_damping": 10.0, "cg_steps": 3
    });
    let reptile = json!({"inner_lr": 0.01, "inner_steps": 4, "test_steps": 4});
    let modalities =
        |attention: &str| json!({"side": 2, "hidden": 3, "width": 2, "attention": attention});
    vec![
        Case::new("maml, 1 step", "maml", steps(1)),
        Case::new("maml, 5 steps", "maml", steps(5)),
        Case::new("maml, 5 steps, first order", "maml", five_first),
        Case::new("maml, 5 steps, regression", "maml", steps(5)).regression(),
        Case::new("meta_sgd", "meta_sgd", steps(2)),
        Case::new("anil", "anil", steps(3)),
        Case::new("maml_pp, every", "maml_pp", every),
        Case::new("maml_pp, annealed", "maml_pp", annealed).at(0.25),
        Case::new(
            "meta_lstm",
            "meta_lstm",
            json!({"inner_steps": 3, "hidden": 3}),
        ),
        Case::new("meta_lstm, exact", "meta_lstm", exact),
        Case::new("matching_net", "matching_net", json!({"temperature": 4.0})),
        Case::new("matching_net, full context", "matching_net", context),
        Case::new("relation_net", "relation_net", json!({"hidden": 5})),
        Case::new("protonet", "protonet", json!({})),
        Case::new("feat", "feat", json!({"temperature": 2.0})),
        Case::new(
            "multimodal_protonet",
            "multimodal_protonet",
            modalities("softmax"),
        ),
        Case::new(
            "multimodal_protonet, uniform",
            "multimodal_protonet",
            modalities("uniform"),
        ),
        Case::new("ridge", "ridge", json!({})),
        Case::new("siamese", "siamese", json!({})),
        Case::new("cavia", "cavia", cavia),
        Case::new("imaml", "imaml", imaml),
        Case::new("reptile", "reptile", reptile),
    ]
}

#[test]
fn learners_equal_pytorch() {
    all_equal_pytorch(cases(), include_str!("learners.json"));
}

/// Answers, losses and meta-gradients of every case are those of its entry in the file, and there are no others.
fn all_equal_pytorch(cases: Vec<Case>, oracle: &str) {
    let oracle: serde_json::Map<String, Value> = serde_json::from_str(oracle).unwrap();
    assert_eq!(cases.len(), oracle.len());
    for case in cases {
        let spec = spec(case.task);
        equals_on(&case, &spec, encoder(&spec), &oracle[case.name]);
    }
}

/// What a case computes with this encoder, for items that it reads, is what is expected.
fn equals_on(case: &Case, spec: &TaskSpec, encoder: EncoderSpec, expected: &Value) {
    let (name, settings, progress) = (case.learner, &case.settings, case.progress);
    let case = case.name;
    let mut learner =
        meta_algos::build::<_, B>(name, settings, encoder, spec, Seed(0), &device()).unwrap();
    learner.set_parameters(parameters(&learner.parameters()));
    let tasks = tasks_of(spec, [items(spec, 0.4), items(spec, 1.1)], progress);
    let answer = learner.predict(&tasks, PredictAt::LastStep).remove(0);
    let answer: Vec<f64> = answer.into_data().iter().collect();
    assert_close(
        &format!("{case}, answers"),
        &answer,
        &numbers(&expected["answers"]),
    );
    let result = learner.meta_gradient(&tasks);
    let losses: Vec<f64> = result.losses.into_data().iter().collect();
    assert_close(
        &format!("{case}, losses"),
        &losses,
        &numbers(&expected["losses"]),
    );
    let gradients = host(&result.gradients);
    assert_eq!(
        gradients.len(),
        expected["gradients"].as_object().unwrap().len()
    );
    for (entry, found) in gradients {
        let expected = numbers(&expected["gradients"][&entry]);
        assert_close(&format!("{case}, {entry}"), &found, &expected);
    }
}
