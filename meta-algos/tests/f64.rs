//! Meta-gradients against central differences, in f64: one binary, since a process has one default
//! float type per backend.

mod identities;
mod oracles;

use std::sync::Mutex;

use burn::tensor::DType;
use meta_algos::learners;
use meta_core::{
    backend::Cpu,
    data::{Episode, Task},
    gradcheck::learner::error,
    gradcheck::toy::{SEQUENCES, random_episode, small_spec},
    learner::LearnerEntry,
    learner::{GradientOf, Learner, MetaGradient},
    nn::encoder::EncoderSpec,
    params::Params,
    rng::Seed,
    task::{TaskBatch, TaskSpec, TrainingContext},
};
use serde_json::{Value, json};

type B = Cpu;
type Device = <B as burn::tensor::backend::BackendTypes>::Device;

fn device() -> Device {
    static F64: std::sync::Once = std::sync::Once::new();
    let device = Device::default();
    F64.call_once(|| {
        burn::tensor::set_default_dtypes::<B>(&device, DType::F64, DType::I32)
            .expect("nothing ran before on this backend");
    });
    device
}

fn encoders() -> Vec<(&'static str, Value)> {
    vec![
        ("mlp", json!({"hidden": [5, 4]})),
        ("conv4", json!({"channels": 3, "blocks": 2})),
        (
            "conv4",
            json!({"channels": 3, "blocks": 2, "norm": "support"}),
        ),
        (
            "attention",
            json!({"patch": 2, "width": 4, "heads": 2, "layers": 1, "hidden": 5}),
        ),
    ]
}

fn host(parameters: &Params<B>) -> Vec<(String, Vec<f64>)> {
    parameters
        .to_data()
        .into_iter()
        .map(|(name, data)| {
            assert_eq!(data.dtype, DType::F64, "computed in f64");
            (name, data.iter::<f64>().collect())
        })
        .collect()
}

fn learner(
    name: &str,
    settings: &Value,
    encoder: &(&str, Value),
    spec: &TaskSpec,
) -> Box<dyn Learner<B>> {
    let architecture = EncoderSpec::new(encoder.0, &encoder.1, spec.item).unwrap();
    meta_algos::build::<_, B>(name, settings, architecture, spec, Seed(2), &device()).unwrap()
}

fn tasks(spec: &TaskSpec, count: u64) -> TaskBatch<B> {
    let episodes: Vec<Episode> = (0..count)
        .map(|index| random_episode(spec, index))
        .collect();
    TaskBatch::new(&episodes, spec, &device())
}

/// All learners, a thread for each core.
#[test]
fn meta_gradients_equal_central_differences() {
    let entries = Mutex::new(learners().into_iter());
    let next = || entries.lock().expect("nobody panics with it").next();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(entry) = next() {
                    equals_central_differences(&entry);
                }
            });
        }
    });
}

fn equals_central_differences(entry: &LearnerEntry) {
    let name = entry.info.name;
    let mut kinds = vec![Task::Classification];
    if entry.info.regression {
        kinds.push(Task::Regression { outputs: 2 });
    }
    if entry.sequences {
        kinds = vec![SEQUENCES];
    }
    for task in kinds {
        let spec = small_spec(task);
        let encoders = match entry.sequences {
            // They read words, not embeddings.
            true => vec![("identity", json!({}))],
            false => encoders(),
        };
        for encoder in encoders {
            // Variants of the learner with the simplest network, the others with the first: all of
            // them with all networks are `meta gradcheck`'s.
            let variants = if ["mlp", "identity"].contains(&encoder.0) {
                usize::MAX
            } else {
                1
            };
            for settings in entry.gradient_of.settings().iter().take(variants) {
                let mut learner = learner(name, settings, &encoder, &spec);
                let error = error(learner.as_mut(), &entry.gradient_of, &tasks(&spec, 2));
                println!("{name} {settings}, {encoder:?}, {task:?}: {error:?}");
                assert!(
                    error.is_none_or(|error| error < 1e-6),
                    "{name} {settings}, {encoder:?}, {task:?}: {error:?}"
                );
            }
        }
    }
}

/// MAML++ anneals: its meta-gradient is exact while the losses move and when they have, and another
/// direction while inner gradients count as constants.
#[test]
fn maml_pp_is_exact_at_every_stage_of_second_order() {
    let settings = json!({
        "inner_lr": 0.1, "inner_steps": 3, "anneal_fraction": 0.5, "first_order_fraction": 0.2
    });
    let spec = small_spec(Task::Classification);
    let error = |progress| {
        let mut learner = learner("maml_pp", &settings, &encoders()[1], &spec);
        let context = TrainingContext {
            progress,
            ..TrainingContext::default()
        };
        let of = GradientOf::Training("weighted query losses", Vec::new());
        error(learner.as_mut(), &of, &tasks(&spec, 2).at(context)).unwrap()
    };
    for progress in [0.2, 0.45, 0.5] {
        assert!(error(progress) < 1e-6, "{progress}: {:e}", error(progress));
    }
    assert!(error(0.1) > 1e-3, "{:e}", error(0.1));
}

/// Every other encoder below a learner that adapts and below one that compares.
#[test]
fn meta_gradients_pass_through_every_encoder() {
    let cases = [
        (
            "maml",
            json!({"inner_lr": 0.1, "inner_steps": 2, "test_steps": 2}),
        ),
        ("protonet", json!({})),
    ];
    let encoders = [
        (
            "conv4_attention",
            json!({"channels": 4, "blocks": 1, "after": 1, "reduction": 2}),
        ),
        ("resnet12", json!({"widths": [2], "norm": "episode"})),
        (
            "transformer",
            json!({"width": 4, "heads": 2, "layers": 1, "hidden": 3, "positions": "rotary"}),
        ),
        (
            "set_transformer",
            json!({"width": 4, "heads": 2, "layers": 1, "hidden": 3, "inducing": 2}),
        ),
        ("lstm", json!({"hidden": 3})),
        ("bilstm", json!({"hidden": 2})),
        ("text_cnn", json!({"widths": [2], "filters": 3})),
        ("attention_pooling", json!({"recurrent": 2, "hidden": 3})),
    ];
    let spec = small_spec(Task::Classification);
    for (name, settings) in &cases {
        for encoder in &encoders {
            let mut learner = learner(name, settings, encoder, &spec);
            let of = GradientOf::Queries(Vec::new());
            let error = error(learner.as_mut(), &of, &tasks(&spec, 2)).unwrap();
            println!("{name}, {encoder:?}: {error:e}");
            assert!(error < 1e-6, "{name}, {encoder:?}: {error:e}");
        }
    }
}

/// First order is another direction: were the exact one to fall back on it, this would notice.
#[test]
fn first_order_maml_differs_from_second() {
    let settings = json!({"inner_lr": 0.1, "order": "first", "test_steps": 1});
    let spec = small_spec(Task::Classification);
    let mut learner = learner("maml", &settings, &encoders()[1], &spec);
    let of = GradientOf::Queries(Vec::new());
    let error = error(learner.as_mut(), &of, &tasks(&spec, 2)).unwrap();
    assert!(error > 1e-3, "{error:e}");
}

/// The batched meta-gradient is the mean of those of the tasks alone.
#[test]
fn batched_meta_gradients_equal_looped_ones() {
    for entry in learners() {
        for encoder in encoders() {
            let spec = small_spec(Task::Classification);
            let settings = &entry.gradient_of.settings()[0];
            let learner = learner(entry.info.name, settings, &encoder, &spec);
            let episodes: Vec<Episode> = (0..3).map(|index| random_episode(&spec, index)).collect();
            let gradient = |episodes: &[Episode]| {
                learner.meta_gradient(&TaskBatch::new(episodes, &spec, &device()))
            };
            let batched = gradient(&episodes);
            let looped = episodes
                .iter()
                .map(|episode| gradient(std::slice::from_ref(episode)))
                .reduce(MetaGradient::merge)
                .expect("several tasks");
            for ((name, found), (_, expected)) in host(&batched.gradients)
                .into_iter()
                .zip(host(&looped.gradients))
            {
                for (found, expected) in found.iter().zip(expected) {
                    assert!(
                        (found - expected).abs() < 1e-11,
                        "{name}: {found} {expected}"
                    );
                }
            }
            let losses = looped.losses;
            let difference = (losses - batched.losses).abs().max().into_scalar();
            assert!(difference < 1e-11);
        }
    }
}
