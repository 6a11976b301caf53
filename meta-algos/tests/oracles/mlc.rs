//! Sequences to sequences against PyTorch: `mlc.py` in this folder wrote the numbers.

use burn::tensor::{Int, Tensor, TensorData};
use meta_core::{
    data::{EpisodeShape, Extras, ItemShape, Task},
    learner::{Learner, PredictAt},
    nn::encoder::EncoderSpec,
    rng::Seed,
    task::{ItemBatch, TargetBatch, TaskBatch, TaskSpec, TrainingContext},
};
use serde_json::{Value, json};

use super::{B, assert_close, curves::train, device, host, numbers, parameters, tensor};

const TASKS: usize = 2;
const WORDS: usize = 5;
const SYMBOLS: usize = 3;
const FEATURES: usize = 4;
const LENGTH: usize = 2;

/// The sentences of `mlc.py`: `count` items from `first` on.
fn sentences(count: usize, first: usize) -> ItemBatch<B> {
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    for (task, item) in
        (0..TASKS).flat_map(|task| (first..first + count).map(move |item| (task, item)))
    {
        let rows = targets.len() / (LENGTH + 1) + 1;
        let words = 0..1 + (item + task) % 3;
        inputs.extend(words.map(|place| (1 + (3 * task + 2 * item + place) % WORDS) as f64));
        inputs.resize(rows * FEATURES, 0.0);
        let symbols = 0..1 + (2 * item + task) % LENGTH;
        targets.extend(symbols.map(|place| ((task + item * item + place) % SYMBOLS) as i32));
        targets.resize(rows * (LENGTH + 1), SYMBOLS as i32);
    }
    let targets = TensorData::new(targets, [TASKS, count, LENGTH + 1]);
    let targets = TargetBatch::Sequences(Tensor::<B, 3, Int>::from_data(targets, &device()));
    ItemBatch::new(tensor(inputs, [TASKS, count, FEATURES]), targets)
}

/// A training on these tasks goes as PyTorch's does.
fn trains_alike(case: &str, learner: &mut dyn Learner<B>, tasks: &TaskBatch<B>, expected: &[f64]) {
    let found = train(learner, |_| tasks.clone(), expected.len());
    let gap = |(found, expected): (&f64, &f64)| (found - expected).abs() / expected.abs();
    let largest = found
        .iter()
        .zip(expected)
        .map(gap)
        .fold(0.0, |a: f64, b| if b <= a { a } else { b });
    println!(
        "{case}: largest gap over {} iterations {largest:.0e}",
        found.len()
    );
    // Rounding, which a hundred steps may make larger; a mistake shows in the first digits.
    assert!(largest < 1e-6, "{case}: {largest}");
}

#[test]
fn sequences_equal_pytorch() {
    let oracle: serde_json::Map<String, Value> =
        serde_json::from_str(include_str!("mlc.json")).expect("JSON");
    let shape = EpisodeShape::new(1, 4, 3);
    let spec = TaskSpec {
        item: ItemShape {
            height: 1,
            width: 1,
            channels: FEATURES,
        },
        task: Task::Sequences {
            words: WORDS,
            symbols: SYMBOLS,
            length: LENGTH,
        },
        train: shape,
        test: shape,
        train_classes: 0,
        extras: Extras::default(),
    };
    let cases = [
        ("joint", json!({"context": "joint"})),
        (
            "separate",
            json!({"context": "separate", "own_example": 1, "other_side": "placed"}),
        ),
        ("none", json!({"context": "none", "reproduce": false})),
        (
            "uniform",
            json!({"context": "separate", "attention": "uniform", "cross_attention": "uniform"}),
        ),
    ];
    assert_eq!(cases.len(), oracle.len());
    for (case, mut settings) in cases {
        let sizes = [
            ("layers", 2),
            ("decoder_layers", 1),
            ("width", 4),
            ("heads", 2),
            ("hidden", 5),
        ];
        for (key, value) in sizes {
            settings[key] = json!(value);
        }
        let encoder = EncoderSpec::new("identity", &json!({}), spec.item).expect("no settings");
        let mut learner =
            meta_algos::build::<_, B>("mlc", &settings, encoder, &spec, Seed(0), &device())
                .expect("valid");
        learner.set_parameters(parameters(&learner.parameters()));
        let tasks = TaskBatch {
            world: None,
            shape,
            support: sentences(4, 0),
            query: sentences(3, 10),
            context: TrainingContext::default(),
            episodes: [0, 1].into(),
            classes: [].into(),
            class_vectors: None,
        };
        let expected = &oracle[case];
        let list = |x: Tensor<B, 1>| x.into_data().iter::<f64>().collect::<Vec<f64>>();
        let learned = learner.meta_gradient(&tasks);
        assert_close(case, &list(learned.losses), &numbers(&expected["losses"]));
        let densities = learner.log_likelihood(&tasks).expect("a density");
        assert_close(
            case,
            &list(densities),
            &numbers(&expected["log_likelihoods"]),
        );
        let answers = learner.predict(&tasks, PredictAt::LastStep).remove(0);
        let places = answers.reshape([TASKS * 3 * (LENGTH + 1), SYMBOLS + 1]);
        let said: Vec<f64> = places.argmax(1).into_data().iter::<f64>().collect();
        // What follows an end is not compared: there the answer is over.
        for (found, expected) in said
            .chunks(LENGTH + 1)
            .zip(numbers(&expected["answers"]).chunks(LENGTH + 1))
        {
            let end = expected.iter().position(|&symbol| symbol == SYMBOLS as f64);
            let kept = end.map_or(LENGTH + 1, |end| end + 1);
            assert_eq!(found[..kept], expected[..kept], "{case}");
        }
        let all = expected["gradients"].as_object().expect("an object");
        let gradients = host(&learned.gradients);
        assert_eq!(gradients.len(), all.len());
        for (entry, found) in gradients {
            assert_close(&format!("{case}, {entry}"), &found, &numbers(&all[&entry]));
        }
        trains_alike(case, learner.as_mut(), &tasks, &numbers(&expected["curve"]));
    }
}
