//! Baselines against scikit-learn, and against PyTorch and NumPy: `baselines.py` in this folder wrote the
//! numbers, task by task.

use burn::tensor::{Tensor, TensorData, activation::softmax};
use meta_core::{
    data::EpisodeShape,
    gradcheck::toy,
    learner::{PredictAt, feature_rule::FeatureBatch, feature_rule::FeatureRule},
    nn::{Pass, encoder::EncoderSpec},
    params::Params,
    rng::Seed,
    settings::Settings,
    task::{ItemBatch, TargetBatch, TaskBatch, TrainingContext},
};
use serde_json::{Value, json};

use super::{super::B, device, numbers, tensor};

const TASKS: usize = 2;
const WAY: usize = 3;
const QUERY: usize = 4;

/// Largest difference from scikit-learn's numbers; from others, which solve nothing to a tolerance of their
/// own, it is a thousandth of that.
const TOLERANCE: f64 = 1e-6;

/// The tasks of a set: support and queries with their labels.
fn tasks(set: &Value) -> TaskBatch<B> {
    let size = |key: &str| set[key].as_u64().expect("a size") as usize;
    let (shot, features) = (size("shot"), size("features"));
    let items = |key: &str, per_class: usize| {
        let count = WAY * per_class;
        let labels: Vec<i32> = (0..TASKS * count)
            .map(|item| (item % count / per_class) as i32)
            .collect();
        let labels = TensorData::new(labels, [TASKS, count]);
        ItemBatch::new(
            tensor(numbers(&set[key]), [TASKS, count, features]),
            TargetBatch::Classes(Tensor::from_data(labels, &device())),
        )
    };
    TaskBatch {
        shape: EpisodeShape::new(WAY, shot, QUERY),
        support: items("support", shot),
        query: items("query", QUERY),
        context: TrainingContext::default(),
        episodes: [0, 1].into(),
        classes: [0, 1, 2, 0, 1, 2].into(),
        class_vectors: None,
        world: None,
    }
}

/// Scores of the learner called `name`, with the mean of the training classes that the set gives.
fn scores(name: &str, settings: &Value, set: &Value) -> Tensor<B, 3> {
    let tasks = tasks(set);
    let features = tasks.support.inputs.dims()[2];
    let spec = toy::vectors(features, tasks.shape);
    let encoder = EncoderSpec::new("identity", &json!({}), spec.item).unwrap();
    let mut learner =
        meta_algos::build::<_, B>(name, settings, encoder, &spec, Seed(0), &device()).unwrap();
    let mut mean = Params::default();
    let measured = tensor(numbers(&set["mean"]), [1, 1, features]);
    mean.push("running_feature_mean", measured);
    learner.set_parameters(learner.parameters().overwrite(mean));
    learner.predict(&tasks, PredictAt::LastStep).remove(0)
}

/// Scores of Tip-Adapter with the class vectors of the set.
fn scores_with_class_vectors(settings: &Value, set: &Value) -> Tensor<B, 3> {
    let tasks = tasks(set);
    let features = tasks.support.inputs.dims()[2];
    let rule = meta_algos::tip_adapter::TipAdapterSettings::from_value("learner", settings);
    let batch = FeatureBatch {
        labels: tasks.support.targets.labels(),
        support: tasks.support.inputs,
        values: None,
        there: None,
        query: tasks.query.inputs,
        way: WAY,
        class_vectors: Some(tensor(numbers(&set["classes"]), [TASKS, WAY, features])),
    };
    rule.unwrap().scores(&batch, 1.0, &Pass::evaluation())
}

#[test]
fn baselines_equal_their_oracles() {
    let oracle: Value = serde_json::from_str(include_str!("baselines.json")).unwrap();
    let mut wrong = Vec::new();
    for case in oracle["cases"].as_array().unwrap() {
        let name = case["learner"].as_str().unwrap();
        let (settings, set) = (&case["settings"], case["set"].as_str().unwrap());
        let data = &oracle["sets"][set];
        let found = match case["compare"].as_str().unwrap() {
            "scores" => scores(name, settings, data),
            "probabilities" => softmax(scores(name, settings, data), 2),
            "scores with class vectors" => scores_with_class_vectors(settings, data),
            other => panic!("`{other}`"),
        };
        let found: Vec<f64> = found.into_data().iter().collect();
        let expected = numbers(&case["expected"]);
        assert_eq!(found.len(), expected.len());
        let by_scikit = ["nearest_centroid", "knn", "lda", "logistic"].contains(&name);
        let tolerance = if by_scikit {
            TOLERANCE
        } else {
            1e-3 * TOLERANCE
        };
        let scale = expected
            .iter()
            .fold(1.0f64, |most, value| most.max(value.abs()));
        let pairs = found.iter().zip(&expected);
        let error = pairs.fold(0.0f64, |most, (f, e)| most.max((f - e).abs())) / scale;
        println!("{name} {settings}, {set}: {error:e}");
        if error.is_nan() || error > tolerance {
            wrong.push(format!("{name} {settings}, {set}: {error:e}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
