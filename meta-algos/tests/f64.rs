//! Meta-gradients against central differences, in f64: one binary, since a process has one default
//! float type per backend.

mod identities;
mod oracles;

use burn::tensor::{DType, Tensor, TensorData};
use meta_algos::learners;
use meta_core::{
    backend::Cpu,
    data::{Episode, EpisodeShape, ItemShape, Items, Targets, Task},
    gradcheck::nearest_difference,
    learner::{Answers, Learner, MetaGradient},
    nn::{encoder::EncoderSpec, loss},
    params::Params,
    rng::Seed,
    task::{Moment, TaskBatch, TaskSpec},
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

const IMAGE: ItemShape = ItemShape {
    height: 4,
    width: 4,
    channels: 1,
};

fn spec(task: Task) -> TaskSpec {
    let shape = match task {
        Task::Classification => EpisodeShape::new(3, 2, 2),
        Task::Regression { .. } => EpisodeShape::new(1, 4, 3),
    };
    TaskSpec {
        item: IMAGE,
        task,
        train: shape,
        test: shape,
    }
}

/// A task of random items: what is learned does not matter to a gradient.
fn episode(spec: &TaskSpec, index: u64) -> Episode {
    let items = |count: usize, per_class: usize, purpose: &str| {
        let mut stream = Seed(5).stream("gradient test", index, purpose);
        Items {
            inputs: (0..count * spec.item.features())
                .map(|_| stream.normal() as f32)
                .collect(),
            targets: match spec.task {
                Task::Classification => {
                    Targets::Classes((0..count).map(|item| (item / per_class) as u32).collect())
                }
                Task::Regression { outputs } => Targets::Values(
                    (0..count * outputs)
                        .map(|_| stream.normal() as f32)
                        .collect(),
                ),
            },
            ids: (0..count as u64).collect(),
        }
    };
    let shape = spec.train;
    Episode {
        index,
        shape,
        support: items(shape.support_items(), shape.shot.0, "support"),
        query: items(shape.query_items(), shape.query.0, "query"),
        classes: Vec::new(),
    }
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

/// What the meta-gradient of a learner is the gradient of.
enum GradientOf {
    /// Of the query loss of its predictions, with each of these settings: held against central
    /// differences.
    Queries(Vec<Value>),
    /// Of a training loss of its own, which it reports (the reason says which), with each of these
    /// settings: held against central differences.
    Training(&'static str, Vec<Value>),
    /// Of no loss at all, for this reason. Its own identity is tested where the reason says.
    Neither(&'static str, Vec<Value>),
}

impl GradientOf {
    fn settings(self) -> Vec<Value> {
        match self {
            GradientOf::Queries(all)
            | GradientOf::Training(_, all)
            | GradientOf::Neither(_, all) => all,
        }
    }
}

fn gradient_of(name: &str) -> GradientOf {
    match name {
        "maml" => GradientOf::Queries(vec![
            json!({"inner_lr": 0.1, "inner_steps": 1, "test_steps": 1}),
            json!({"inner_lr": 0.1, "inner_steps": 3, "test_steps": 3}),
            json!({"inner_lr": 0.1, "inner_steps": 3, "test_steps": 3, "inner_momentum": 0.8}),
            json!({"inner_lr": 0.01, "inner_steps": 2, "test_steps": 2, "inner_optimizer": "adam"}),
        ]),
        "anil" => GradientOf::Queries(vec![
            json!({"inner_lr": 0.1, "inner_steps": 1, "test_steps": 1}),
            json!({"inner_lr": 0.1, "inner_steps": 3, "test_steps": 3, "inner_momentum": 0.8}),
            json!({"inner_lr": 0.01, "inner_steps": 2, "test_steps": 2, "inner_optimizer": "adam"}),
        ]),
        "meta_sgd" => GradientOf::Queries(vec![
            json!({"inner_lr": 0.1, "inner_steps": 1, "test_steps": 1}),
            json!({"inner_lr": 0.1, "inner_steps": 3, "test_steps": 3}),
        ]),
        "maml_pp" => GradientOf::Training(
            "weighted query losses after every step",
            vec![
                json!({"inner_lr": 0.1, "inner_steps": 2}),
                json!({"inner_lr": 0.1, "inner_steps": 2, "losses": "last"}),
                json!({"inner_lr": 0.1, "inner_steps": 2, "per_step_norm": false}),
            ],
        ),
        "meta_lstm" => GradientOf::Queries(vec![json!({
            "inner_lr": 0.1, "keep": 0.9, "inner_steps": 2, "hidden": 3, "order": "second"
        })]),
        "imaml" => GradientOf::Neither(
            "it is implicit, exact only where adaptation and conjugate gradient have converged; \
             identities::imaml_is_the_closed_form_of_a_quadratic",
            vec![json!({"inner_lr": 0.1, "inner_steps": 3, "cg_steps": 3})],
        ),
        "cavia" => GradientOf::Queries(vec![
            json!({"inner_lr": 0.5, "inner_steps": 1, "test_steps": 1, "context": 3, "hidden": 4}),
            json!({"inner_lr": 0.5, "inner_steps": 3, "test_steps": 3, "context": 3, "hidden": 4}),
            json!({
                "inner_lr": 0.1, "inner_steps": 2, "test_steps": 2, "context": 3, "hidden": 4,
                "inner_momentum": 0.8
            }),
        ]),
        "reptile" => GradientOf::Neither(
            "it points to where fine-tuning leads; identities::reptile_with_one_step_is_joint_descent",
            vec![json!({"inner_lr": 0.1, "inner_steps": 2, "inner_optimizer": "sgd"})],
        ),
        "protonet" => GradientOf::Queries(vec![json!({}), json!({"distance": "cosine"})]),
        "matching_net" => GradientOf::Queries(vec![
            json!({}),
            json!({"temperature": 8.0}),
            json!({"full_context": true, "reads": 2}),
        ]),
        "feat" => GradientOf::Queries(vec![json!({"temperature": 2.0})]),
        "ridge" => GradientOf::Queries(vec![json!({}), json!({"lambda": 0.1})]),
        "relation_net" => {
            GradientOf::Training("squared error of sigmoids", vec![json!({"hidden": 5})])
        }
        "siamese" => GradientOf::Training("cross-entropy of pairs", vec![json!({})]),
        other => panic!("say what the meta-gradient of `{other}` is the gradient of"),
    }
}

/// What a meta-gradient is held against, as a function of the learner's parameters.
type Objective = fn(&dyn Learner<B>, &TaskBatch<B>) -> f64;

/// Mean over tasks of the query loss after adaptation.
fn query_loss(learner: &dyn Learner<B>, tasks: &TaskBatch<B>) -> f64 {
    let predictions = learner
        .predict(tasks, Answers::EveryStep)
        .pop()
        .expect("an answer");
    number(loss::loss(predictions, &tasks.query.targets).mean())
}

/// Mean over tasks of the loss that the learner says it learns from.
fn own_loss(learner: &dyn Learner<B>, tasks: &TaskBatch<B>) -> f64 {
    number(learner.meta_gradient(tasks).losses.mean())
}

/// A scalar, by way of the host: `into_scalar` rounds to f32.
fn number(scalar: Tensor<B, 1>) -> f64 {
    let data = scalar.into_data();
    data.iter::<f64>().next().expect("one value")
}

fn host(parameters: &Params<B>) -> Vec<(String, Vec<usize>, Vec<f64>)> {
    parameters
        .to_data()
        .into_iter()
        .map(|(name, data)| {
            assert_eq!(data.dtype, DType::F64, "computed in f64");
            (name, data.shape.to_vec(), data.iter::<f64>().collect())
        })
        .collect()
}

fn set(learner: &mut dyn Learner<B>, values: &[(String, Vec<usize>, Vec<f64>)]) {
    let data = values
        .iter()
        .map(|(name, shape, values)| (name.clone(), TensorData::new(values.clone(), shape.clone())))
        .collect();
    learner.set_parameters(Params::from_data(data, &device()));
}

/// Largest error of the meta-gradient as the gradient of `objective`, relative to its largest
/// component.
fn error_of(
    name: &str,
    settings: &Value,
    encoder: &(&str, Value),
    task: Task,
    objective: Objective,
) -> f64 {
    error_at(0.0, name, settings, encoder, task, objective)
}

/// As [`error_of`], when the fraction `progress` of training is done.
fn error_at(
    progress: f64,
    name: &str,
    settings: &Value,
    encoder: &(&str, Value),
    task: Task,
    objective: Objective,
) -> f64 {
    let device = device();
    let spec = spec(task);
    let architecture = EncoderSpec::new(encoder.0, &encoder.1, spec.item).unwrap();
    let mut learner =
        meta_algos::build::<_, B>(name, settings, architecture, &spec, Seed(2), &device).unwrap();
    let episodes: Vec<Episode> = (0..2).map(|index| episode(&spec, index)).collect();
    let tasks = TaskBatch::<B>::new(&episodes, &spec, &device).at(Moment {
        progress,
        ..Moment::default()
    });

    // Off the symmetric start (zero biases, unit scales), where errors could hide.
    let mut start = host(&learner.parameters());
    let mut stream = Seed(8).stream("gradient test", 0, "offset");
    for (_, _, values) in &mut start {
        values.iter_mut().for_each(|v| *v += 0.1 * stream.normal());
    }
    set(learner.as_mut(), &start);
    let analytic = host(&learner.meta_gradient(&tasks).gradients);

    let (mut deviation, mut scale) = (0.0f64, 1e-9f64);
    for entry in 0..start.len() {
        for component in 0..start[entry].2.len() {
            let derivative = analytic[entry].2[component];
            let numeric = nearest_difference(derivative, |shift| {
                let mut point = start.clone();
                point[entry].2[component] += shift;
                set(learner.as_mut(), &point);
                objective(learner.as_ref(), &tasks)
            });
            deviation = deviation.max((derivative - numeric).abs());
            scale = scale.max(numeric.abs());
        }
    }
    deviation / scale
}

#[test]
fn meta_gradients_equal_central_differences() {
    for entry in learners() {
        let name = entry.info.name;
        let (objective, all): (Objective, _) = match gradient_of(name) {
            GradientOf::Queries(all) => (query_loss, all),
            GradientOf::Training(loss, all) => {
                println!("{name}: of its training loss, {loss}");
                (own_loss, all)
            }
            GradientOf::Neither(reason, _) => {
                println!("{name}: not a gradient of the query loss: {reason}");
                continue;
            }
        };
        let mut kinds = vec![Task::Classification];
        if entry.info.regression {
            kinds.push(Task::Regression { outputs: 2 });
        }
        for task in kinds {
            for encoder in encoders() {
                for settings in &all {
                    let error = error_of(name, settings, &encoder, task, objective);
                    println!(
                        "{name} {settings}, {} {}, {task:?}: {error:.1e}",
                        encoder.0, encoder.1
                    );
                    assert!(
                        error < 1e-6,
                        "{name} {settings}, {encoder:?}, {task:?}: {error:e}"
                    );
                }
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
    let error = |progress| {
        let (encoder, task) = (&encoders()[1], Task::Classification);
        error_at(progress, "maml_pp", &settings, encoder, task, own_loss)
    };
    for progress in [0.2, 0.45, 0.5] {
        assert!(error(progress) < 1e-6, "{progress}: {:e}", error(progress));
    }
    assert!(error(0.1) > 1e-3, "{:e}", error(0.1));
}

/// First order is another direction: were the exact one to fall back on it, this would notice.
#[test]
fn first_order_maml_differs_from_second() {
    let settings = json!({"inner_lr": 0.1, "order": "first", "test_steps": 1});
    let error = error_of(
        "maml",
        &settings,
        &encoders()[1],
        Task::Classification,
        query_loss,
    );
    assert!(error > 1e-3, "{error:e}");
}

/// The batched meta-gradient is the mean of those of the tasks alone.
#[test]
fn batched_meta_gradients_equal_looped_ones() {
    let device = device();
    for entry in learners() {
        for encoder in encoders() {
            let spec = spec(Task::Classification);
            let architecture = EncoderSpec::new(encoder.0, &encoder.1, spec.item).unwrap();
            let settings = &gradient_of(entry.info.name).settings()[0];
            let learner = meta_algos::build::<_, B>(
                entry.info.name,
                settings,
                architecture,
                &spec,
                Seed(2),
                &device,
            )
            .unwrap();
            let episodes: Vec<Episode> = (0..3).map(|index| episode(&spec, index)).collect();
            let gradient = |episodes: &[Episode]| {
                learner.meta_gradient(&TaskBatch::new(episodes, &spec, &device))
            };
            let batched = gradient(&episodes);
            let looped = episodes
                .iter()
                .map(|episode| gradient(std::slice::from_ref(episode)))
                .reduce(MetaGradient::merge)
                .expect("several tasks");
            for ((name, _, found), (_, _, expected)) in host(&batched.gradients)
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
