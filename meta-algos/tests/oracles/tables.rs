//! The learners that tables are compared with against scikit-learn: `tables.py` in this folder wrote the numbers.

use burn::tensor::{Tensor, TensorData, activation::softmax};
use meta_core::{
    data::{EpisodeShape, Task},
    gradcheck::toy,
    learner::PredictAt,
    nn::encoder::EncoderSpec,
    rng::Seed,
    task::{ItemBatch, MaskBatch, TargetBatch, TaskBatch, TaskSpec, TrainingContext},
};
use serde_json::{Value, json};

use super::{super::B, TASKS, device, numbers, tensor};

/// scikit-learn holds features of trees in single precision, and adds 10⁻¹⁰ to no diagonal but its own.
const TOLERANCE: f64 = 1e-6;

/// The tasks of a way, with as many places of the support more that are not there as `absent` says.
fn tasks(oracle: &Value, way: usize, absent: usize) -> (TaskSpec, TaskBatch<B>) {
    let size = |key: &str| oracle[key].as_u64().expect("a size") as usize;
    let (features, shot, query) = (size("features"), size("shot"), size("query"));
    let set = &oracle["sets"][way.to_string()];
    let shape = EpisodeShape::new(way, shot + absent, query);
    let labels = |per_class: usize| {
        let count = way * per_class;
        let labels: Vec<i32> = (0..TASKS * count)
            .map(|item| (item % count / per_class) as i32)
            .collect();
        let labels = TensorData::new(labels, [TASKS, count]);
        TargetBatch::Classes(Tensor::from_data(labels, &device()))
    };
    // `width` numbers of every row, zeros in the places of a class that are not there.
    let spread = |key: &str, width: usize| {
        let rows = numbers(&set[key]);
        let of_class = rows.chunks(shot * width);
        let filled = of_class.flat_map(|rows| [rows, &vec![0.0; absent * width]].concat());
        tensor(filled.collect(), [TASKS, way * (shot + absent), width])
    };
    let queries = tensor(numbers(&set["query"]), [TASKS, way * query, features]);
    let (known, asked) = match way {
        1 => (
            TargetBatch::Values(spread("values", 1)),
            TargetBatch::Values(queries.clone().narrow(2, 0, 1)),
        ),
        _ => (labels(shot + absent), labels(query)),
    };
    let mut support = ItemBatch::new(spread("support", features), known);
    let count = way * (shot + absent);
    let there = (0..TASKS * count).map(|place| place % (shot + absent) < shot);
    let there = TensorData::new(there.collect::<Vec<bool>>(), [TASKS, count]);
    support.mask = (absent > 0).then(|| MaskBatch {
        items: Tensor::from_data(there, &device()),
        numbers: None,
    });
    let plain = toy::vectors(features, shape);
    let spec = match way {
        1 => TaskSpec {
            task: Task::Regression { outputs: 1 },
            ..plain
        },
        _ => plain,
    };
    let batch = TaskBatch {
        shape,
        support,
        query: ItemBatch::new(queries, asked),
        context: TrainingContext::default(),
        episodes: [0, 1].into(),
        classes: (0..TASKS * way).map(|place| (place % way) as u32).collect(),
        class_vectors: None,
        world: None,
    };
    (spec, batch)
}

fn error(found: Tensor<B, 3>, expected: &Value) -> f64 {
    let found: Vec<f64> = found.into_data().iter().collect();
    let expected = numbers(expected);
    assert_eq!(found.len(), expected.len());
    let largest = expected
        .iter()
        .fold(1.0f64, |most, value| most.max(value.abs()));
    let pairs = found.iter().zip(&expected);
    let worst = pairs.fold(0.0f64, |most, (f, e)| match (f - e).abs() {
        difference if difference.is_nan() => f64::INFINITY,
        difference => most.max(difference),
    });
    worst / largest
}

#[test]
fn learners_of_tables_equal_scikit_learn() {
    let oracle: Value = serde_json::from_str(include_str!("tables.json")).unwrap();
    let mut wrong = Vec::new();
    for case in oracle["cases"].as_array().unwrap() {
        let (name, settings) = (case["learner"].as_str().unwrap(), &case["settings"]);
        let way = case["way"].as_u64().unwrap() as usize;
        // With rows that are not there, the answers are the same.
        for absent in [0, 2] {
            let (spec, batch) = tasks(&oracle, way, absent);
            let encoder = EncoderSpec::new("identity", &json!({}), spec.item).unwrap();
            let learner =
                meta_algos::build::<_, B>(name, settings, encoder, &spec, Seed(0), &device())
                    .unwrap();
            let answer = learner.predict(&batch, PredictAt::LastStep).remove(0);
            let answer = match way {
                1 => answer,
                _ => softmax(answer, 2),
            };
            let mut errors = vec![error(answer, &case["expected"])];
            if !case["deviations"].is_null() {
                let deviations = learner.deviations(&batch).expect("a density");
                errors.push(error(deviations, &case["deviations"]));
            }
            println!("{name} {settings}, {way} classes, {absent} absent: {errors:?}");
            if errors.iter().any(|error| *error > TOLERANCE) {
                wrong.push(format!("{name} {settings}, {way}, {absent}: {errors:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
