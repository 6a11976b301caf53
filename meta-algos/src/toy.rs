//! A small classification task for the learners' own tests.

use burn::tensor::Tensor;
pub use meta_core::learner::PredictAt;
use meta_core::{
    backend::Cpu,
    data::{Episode, EpisodeShape, Items, Targets, Task},
    gradcheck::toy,
    learner::Learner,
    nn::encoder::EncoderSpec,
    rng::Seed,
    task::{TargetBatch, TaskBatch, TaskSpec},
};
use serde_json::{Value, json};

/// Features of an item.
const FEATURES: usize = 6;

/// The tasks: `way` classes, `shot` support items and two queries of each.
pub fn spec(way: usize, shot: usize) -> TaskSpec {
    toy::vectors(FEATURES, EpisodeShape::new(way, shot, 2))
}

/// Two tasks of random items.
pub fn tasks(spec: &TaskSpec) -> TaskBatch<Cpu> {
    numbered(spec, &[0, 1])
}

/// Tasks of random items, those of these numbers.
pub fn numbered(spec: &TaskSpec, numbers: &[u64]) -> TaskBatch<Cpu> {
    let shape = spec.train;
    let items = |index: u64, purpose: &str, per_class: usize| {
        let mut stream = Seed(4).stream("toy", index, purpose);
        let count = shape.way.0 * per_class;
        Items {
            inputs: (0..count * FEATURES)
                .map(|_| stream.normal() as f32)
                .collect(),
            targets: Targets::Classes((0..count).map(|item| (item / per_class) as u32).collect()),
            ids: (0..count as u64).collect(),
            mask: None,
        }
    };
    let episodes: Vec<Episode> = numbers
        .iter()
        .map(|&index| Episode {
            index,
            shape,
            support: items(index, "support", shape.shot.0),
            query: items(index, "query", shape.query.0),
            classes: Vec::new(),
            class_vectors: None,
            world: None,
        })
        .collect();
    TaskBatch::new(&episodes, spec, &Default::default())
}

/// The same tasks with their supports as queries.
pub fn support_as_queries(mut tasks: TaskBatch<Cpu>) -> TaskBatch<Cpu> {
    tasks.query = tasks.support.clone();
    tasks
}

/// An encoder of width 7.
pub fn encoder() -> EncoderSpec {
    EncoderSpec::new("mlp", &json!({"hidden": [8, 7]}), spec(2, 1).item).unwrap()
}

/// The learner called `name`.
pub fn learner(name: &str, settings: Value, spec: &TaskSpec) -> Box<dyn Learner<Cpu>> {
    crate::build(
        name,
        &settings,
        encoder(),
        spec,
        Seed(1),
        &Default::default(),
    )
    .unwrap()
}

/// Why the learner called `name` is refused.
pub fn refusal(name: &str, settings: Value, spec: &TaskSpec) -> String {
    crate::build::<_, Cpu>(
        name,
        &settings,
        encoder(),
        spec,
        Seed(1),
        &Default::default(),
    )
    .err()
    .expect("a refusal")
    .to_string()
}

/// Numbers of a tensor.
pub fn values<const D: usize>(tensor: Tensor<Cpu, D>) -> Vec<f32> {
    tensor.into_data().to_vec().unwrap()
}

/// Asserts that two lists of numbers agree to `tolerance`.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= tolerance, "{f} is not {e}");
    }
}

/// Two regression tasks: the labels of [`tasks`] as values.
pub fn regression() -> (TaskSpec, TaskBatch<Cpu>) {
    let mut tasks = tasks(&spec(3, 2));
    for items in [&mut tasks.support, &mut tasks.query] {
        let values = items.targets.labels().float().unsqueeze_dim::<3>(2);
        items.targets = TargetBatch::Values(values);
    }
    let spec = TaskSpec {
        task: Task::Regression { outputs: 1 },
        ..spec(3, 2)
    };
    (spec, tasks)
}
