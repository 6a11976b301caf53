//! Layers and encoders: central differences at both orders, batched = looped, and what
//! normalisation averages over.

use burn::tensor::{Tensor, TensorData};
use burn_autodiff::Autodiff;
use meta_core::{
    data::ItemShape,
    gradcheck::{Function, check},
    nn::{
        Mode, Noise, Pass, activation,
        attention::{AdditiveScores, MultiHeadSelfAttention, scaled_dot_product},
        encoder::{Architecture, Encoder, EncoderSpec},
        init::Initializer,
        loss,
        norm::{Norm, Statistics},
        solve::solve_positive_definite,
    },
    params::Params,
    primitives::{Primitives, masked_softmax},
    rng::Seed,
    task::TargetBatch,
};
use serde_json::json;

use crate::support::{
    B, assert_close, device, normal, observed, point_near, random, relative_error, values,
    with_parameters,
};

const IMAGE: ItemShape = ItemShape {
    height: 6,
    width: 6,
    channels: 1,
};

/// Encoders that leave out rows of zeros.
fn readers_of_rows() -> Vec<(&'static str, EncoderSpec)> {
    let of = |name: &str, settings| EncoderSpec::new(name, &settings, IMAGE).unwrap();
    let pooling = |kind: &str, recurrent: usize| {
        let sizes = json!({
            "kind": kind, "recurrent": recurrent, "hidden": 3, "heads": 2, "span": 3,
        });
        of("attention_pooling", sizes)
    };
    let tcn = json!({"width": 3, "kernel": 2, "levels": 2, "dropout": 0.3, "pool": "mean"});
    let padded = json!({"width": 4, "heads": 2, "layers": 1, "hidden": 5, "padding": true});
    vec![
        ("bag", of("bag", json!({"hidden": [5, 3]}))),
        (
            "text_cnn",
            of(
                "text_cnn",
                json!({"widths": [2, 3], "filters": 2, "dropout": 0.3}),
            ),
        ),
        (
            "conv1d",
            of("conv1d", json!({"filters": [3, 2], "kernels": [3, 2]})),
        ),
        ("tcn", of("tcn", tcn)),
        ("transformer, padding", of("transformer", padded.clone())),
        ("set_transformer, padding", of("set_transformer", padded)),
        ("attention_pooling, additive", pooling("additive", 2)),
        ("attention_pooling, dot", pooling("dot", 0)),
        ("attention_pooling, multi_head", pooling("multi_head", 0)),
        (
            "attention_pooling, hierarchical",
            pooling("hierarchical", 1),
        ),
    ]
}

fn specs() -> Vec<(&'static str, EncoderSpec)> {
    let of = |name: &str, settings| EncoderSpec::new(name, &settings, IMAGE).unwrap();
    let conv = |norm: &str| of("conv4", json!({"channels": 3, "blocks": 2, "norm": norm}));
    let transformer = |positions: &str, causal: bool| {
        let sizes = json!({
            "width": 4, "heads": 2, "layers": 1, "hidden": 5, "dropout": 0.3,
            "positions": positions, "causal": causal,
        });
        of("transformer", sizes)
    };
    let set_transformer = |inducing: usize, index: bool| {
        let sizes = json!({
            "width": 4, "heads": 2, "layers": 1, "hidden": 5, "inducing": inducing, "index": index,
        });
        of("set_transformer", sizes)
    };
    let mut all = vec![
        ("mlp", of("mlp", json!({"hidden": [4, 3]}))),
        (
            "mlp, normalised",
            of("mlp", json!({"hidden": [4, 3], "norm": "episode"})),
        ),
        ("conv4, episode", conv("episode")),
        ("conv4, support", conv("support")),
        ("conv4, running", conv("running")),
        ("conv4, none", conv("none")),
        ("conv4, layer", conv("layer")),
        (
            "strided_conv",
            of("strided_conv", json!({"channels": 3, "blocks": 2})),
        ),
        (
            "relation_conv, running",
            of(
                "relation_conv",
                json!({"channels": 3, "blocks": 2, "pooled": 1, "norm": "running"}),
            ),
        ),
        (
            "attention",
            of(
                "attention",
                json!({"patch": 3, "width": 4, "heads": 2, "layers": 2, "hidden": 5}),
            ),
        ),
        (
            "conv4_attention",
            of(
                "conv4_attention",
                json!({"channels": 4, "blocks": 2, "after": 1, "heads": 2, "reduction": 2}),
            ),
        ),
        (
            "resnet12, running",
            of(
                "resnet12",
                json!({"widths": [2, 2], "dropout": 0.3, "dropblock": 2}),
            ),
        ),
        (
            "resnet12, episode, average",
            of(
                "resnet12",
                json!({"widths": [2], "norm": "episode", "average": true, "dropblock": 2}),
            ),
        ),
        ("transformer, sinusoidal", transformer("sinusoidal", false)),
        ("transformer, learned", transformer("learned", false)),
        ("transformer, rotary, causal", transformer("rotary", true)),
        ("set_transformer", set_transformer(0, true)),
        ("set_transformer, induced", set_transformer(2, false)),
        (
            "lstm, two layers",
            of("lstm", json!({"hidden": 3, "layers": 2, "dropout": 0.3})),
        ),
        (
            "bilstm, two layers",
            of("bilstm", json!({"hidden": 2, "layers": 2, "dropout": 0.3})),
        ),
        (
            "bilstm, padding",
            of("bilstm", json!({"hidden": 2, "padding": true})),
        ),
    ];
    all.extend(readers_of_rows());
    all
}

fn model<L: Primitives>(
    spec: &EncoderSpec,
    device: &L::Device,
) -> <EncoderSpec as Architecture>::Model<L> {
    spec.init::<L>(&mut Initializer::seeded(Seed(3)), device)
}

/// A pass of training that draws, for these episodes.
fn noisy<L: Primitives>(episodes: std::ops::Range<u64>) -> Pass<L> {
    let noise = Noise::new(Seed(4), episodes.collect(), "test", 0);
    Pass::new(Mode::training(Some(noise)))
}

/// An encoder as a function of all its parameters, in one vector.
struct OfParameters<'a>(&'a EncoderSpec);

impl Function for OfParameters<'_> {
    fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
        let flat = &inputs[0];
        let device = flat.device();
        let network = with_parameters(model::<L>(self.0, &device), flat);
        let x = Tensor::<L, 3>::from_data(
            TensorData::new(normal(2 * 3 * 36, "items"), [2, 3, 36]),
            &device,
        );
        observed(network.forward(x, &noisy(0..2).with_reference(2)))
    }
}

#[test]
fn encoders_pass_central_differences_at_both_orders() {
    for (name, spec) in specs() {
        let start = point_near(&model::<B>(&spec, &device()));
        let errors = check::<B>(&OfParameters(&spec), &[start], &device());
        println!("{name}: {errors:?}");
        assert!(errors.within(1e-6), "{name}: {errors:?}");
    }
}

/// Each task of a batch, with its own parameters, computes what it would compute alone.
#[test]
fn batched_equals_looped() {
    for (name, spec) in specs() {
        let tasks = 3;
        let x = random([tasks, 4, 36], "items");
        let shared = Params::of(&model::<B>(&spec, &device()));
        let mut salt = 0;
        let per_task = shared.clone().fan_out(tasks).map(|tensor| {
            salt += 1;
            let noise = normal(10_000, &format!("noise {salt}"));
            let shape: Vec<usize> = burn::tensor::TensorMetadata::shape(&tensor).to_vec();
            let length = shape.iter().product::<usize>();
            let noise =
                B::float_from_data(TensorData::new(noise[..length].to_vec(), shape), &device());
            B::float_add(tensor, noise)
        });
        use burn::tensor::ops::FloatTensorOps;
        for training in [true, false] {
            let run = |parameters: Params<B>, x: Tensor<B, 3>, episodes| {
                let pass = if training {
                    noisy(episodes)
                } else {
                    Pass::evaluation()
                };
                parameters
                    .write_into(model::<B>(&spec, &device()))
                    .forward(x, &pass.with_reference(2))
            };
            for parameters in [shared.clone(), per_task.clone()] {
                let batched = run(parameters.clone(), x.clone(), 0..tasks as u64);
                assert_eq!(batched.dims(), [tasks, 4, spec.width()], "{name}");
                for task in 0..tasks {
                    let own = of_task(&parameters, task);
                    let episode = task as u64;
                    let alone = run(own, x.clone().narrow(0, task, 1), episode..episode + 1);
                    assert_close(batched.clone().narrow(0, task, 1), alone, 1e-12);
                }
            }
        }
        println!("{name}: batched = looped");
    }
}

fn of_task(parameters: &Params<B>, task: usize) -> Params<B> {
    let data = parameters
        .to_data()
        .into_iter()
        .map(|(name, data)| {
            let mut shape = data.shape.to_vec();
            let numbers: Vec<f64> = data.iter().collect();
            let length = numbers.len() / shape[0];
            let from = if shape[0] == 1 { 0 } else { task * length };
            shape[0] = 1;
            let own = numbers[from..from + length].to_vec();
            (name, TensorData::new(own, shape))
        })
        .collect();
    Params::from_data(data, &device())
}

/// `⟨v, A⁻¹ b⟩` with `A = R Rᵀ + I`, as a function of `R` and `b`.
struct Solve;

impl Function for Solve {
    fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
        let root = inputs[0].clone().reshape([2, 3, 3]);
        let right = inputs[1].clone().reshape([2, 3, 2]);
        let identity = Tensor::<L, 2>::eye(3, &root.device()).reshape([1, 3, 3]);
        let a = root.clone().matmul(root.swap_dims(1, 2)) + identity;
        let direction =
            Tensor::<L, 1>::from_data(TensorData::new(normal(12, "v"), [12]), &a.device());
        (solve_positive_definite(a, right).reshape([12]) * direction).sum()
    }
}

#[test]
fn solving_passes_central_differences_at_both_orders() {
    let point = [normal(18, "root"), normal(12, "right")];
    let errors = check::<B>(&Solve, &point, &device());
    assert!(errors.within(1e-7), "{errors:?}");
}

/// Sigmoid and softplus against their definitions, far from 0 too.
#[test]
fn sigmoid_and_softplus_in_closed_form() {
    let points = [-800.0f64, -3.0, 0.0, 0.5, 700.0];
    let x = Tensor::<B, 1>::from_data(points, &device());
    for (point, found) in points.iter().zip(values(activation::sigmoid(x.clone()))) {
        assert!(
            (found - 1.0 / (1.0 + (-point).exp())).abs() < 1e-15,
            "{point}"
        );
    }
    for (point, found) in points.iter().zip(values(activation::softplus(x))) {
        let expected = point.max(0.0) + (-point.abs()).exp().ln_1p();
        assert!(
            (found - expected).abs() <= 1e-15 * expected.max(1.0),
            "{point}"
        );
    }
}

/// Both derivatives of softplus are `σ` and `σ (1 − σ)` everywhere, at 0 as well, where networks whose last bias
/// starts at 0 begin.
#[test]
fn softplus_is_smooth_at_zero() {
    type Level2 = Autodiff<Autodiff<B>>;
    let points = [-800.0f64, -3.0, 0.0, 0.5, 700.0];
    let inner = Tensor::<Autodiff<B>, 1>::from_data(points, &device()).require_grad();
    let outer = Tensor::<Level2, 1>::from_inner(inner.clone()).require_grad();
    let gradients = activation::softplus(outer.clone()).sum().backward();
    let slope = outer.grad(&gradients).expect("a slope");
    let gradients = slope.clone().sum().backward();
    let curvature = inner.grad(&gradients).expect("a curvature");
    let pairs = values(slope.inner()).into_iter().zip(values(curvature));
    for (point, (slope, curvature)) in points.into_iter().zip(pairs) {
        let sigmoid = 1.0 / (1.0 + (-point).exp());
        assert!((slope - sigmoid).abs() < 1e-15, "{point}: {slope}");
        let expected = sigmoid * (1.0 - sigmoid);
        assert!((curvature - expected).abs() < 1e-15, "{point}: {curvature}");
    }
}

fn norm(statistics: Statistics) -> Norm<B> {
    Norm::new(2, statistics, "norm", &device())
}

#[test]
fn support_statistics_ignore_the_queries() {
    let x = random([1, 6, 2], "x");
    let changed = Tensor::cat(
        vec![
            x.clone().narrow(1, 0, 4),
            random([1, 2, 2], "other queries"),
        ],
        1,
    );
    let run = |x: Tensor<B, 3>| {
        norm(Statistics::Support).forward(x, 6, &Pass::training().with_reference(4))
    };
    assert_close(
        run(x.clone()).narrow(1, 0, 4),
        run(changed).narrow(1, 0, 4),
        1e-14,
    );
    // On the support itself they are the episode's.
    let support = x.clone().narrow(1, 0, 4);
    assert_close(
        run(x).narrow(1, 0, 4),
        norm(Statistics::Episode).forward(support, 4, &Pass::training()),
        1e-12,
    );
}

#[test]
fn episode_statistics_are_transductive_and_the_others_are_not() {
    for (statistics, depends) in [
        (Statistics::Episode, true),
        (Statistics::Support, false),
        (Statistics::Running, false),
        (Statistics::Layer, false),
        (Statistics::None, false),
    ] {
        assert_eq!(statistics.transductive(), depends);
        let x = random([1, 6, 2], "x");
        let changed = Tensor::cat(
            vec![x.clone().narrow(1, 0, 5), random([1, 1, 2], "other query")],
            1,
        );
        let run = |x| {
            let pass = Pass::evaluation().with_reference(4);
            values(norm(statistics).forward(x, 6, &pass).narrow(1, 4, 1))
        };
        let same = relative_error(&run(x), &run(changed)) < 1e-12;
        assert_eq!(same, !depends, "{statistics:?}");
    }
}

#[test]
fn running_statistics_are_moving_averages() {
    let x = random([2, 8, 2], "x");
    let pass = Pass::training();
    norm(Statistics::Running).forward(x.clone(), 8, &pass);
    let found = pass.statistics.take();
    let mean = x.clone().mean_dim(1).mean_dim(0);
    assert_close(
        found.get::<3>("norm.running_mean").unwrap(),
        mean.mul_scalar(0.1),
        1e-12,
    );
    let centred = x.clone() - x.mean_dim(1);
    let variance = (centred.clone() * centred).mean_dim(1).mean_dim(0);
    assert_close(
        found.get::<3>("norm.running_variance").unwrap(),
        variance.mul_scalar(0.1).add_scalar(0.9),
        1e-12,
    );
}

/// One key: whatever the query, its value is read. Equal scores: the mean of the values.
#[test]
fn attention_in_closed_form() {
    let v = random([1, 1, 1, 3], "v");
    let (read, map) = scaled_dot_product(
        random([1, 1, 4, 2], "q"),
        random([1, 1, 1, 2], "k"),
        v.clone(),
    );
    assert_eq!(values(map), [1.0; 4]);
    assert_close(read, v.expand([1, 1, 4, 3]), 1e-14);

    let v = random([1, 1, 5, 3], "v");
    let zero = Tensor::<B, 4>::zeros([1, 1, 5, 2], &device());
    let (read, _) = scaled_dot_product(random([1, 1, 2, 2], "q"), zero, v.clone());
    assert_close(read, v.mean_dim(2).expand([1, 1, 2, 3]), 1e-14);
}

/// Permuting the tokens of a sequence permutes what self-attention gives for them.
#[test]
fn self_attention_is_equivariant() {
    let layer =
        MultiHeadSelfAttention::<B>::new(6, 3, &mut Initializer::seeded(Seed(1)), &device());
    let x = random([1, 4, 6], "x");
    let order = Tensor::from_data([2, 0, 3, 1], &device());
    let (y, map) = layer.forward(x.clone(), 4);
    let (permuted, _) = layer.forward(x.select(1, order.clone()), 4);
    assert_close(permuted, y.select(1, order), 1e-13);
    let rows = values(map.sum_dim(3));
    assert!(rows.iter().all(|sum| (sum - 1.0).abs() < 1e-12));
}

/// Additive attention over keys of which the last is hidden from all queries and all are from the
/// first, as a function of its weights, queries, keys and values.
struct Additive;

impl Function for Additive {
    fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
        let device = inputs[0].device();
        let skeleton = AdditiveScores::<L>::new(2, 3, 4, &mut Initializer::zeros(), &device);
        let scores = with_parameters(skeleton, &inputs[0]).forward(
            inputs[1].clone().reshape([2, 2, 2]),
            inputs[2].clone().reshape([2, 3, 3]),
        );
        let hidden = Tensor::<L, 4, burn::tensor::Bool>::from_data(
            [[[[true, true, true], [false, false, true]]]],
            &device,
        );
        let values = inputs[3].clone().reshape([2, 1, 3, 2]);
        observed(masked_softmax(scores, hidden, 1.0).matmul(values))
    }
}

#[test]
fn masked_additive_attention_passes_central_differences_at_both_orders() {
    let point = [
        normal(28, "weights"),
        normal(8, "queries"),
        normal(18, "keys"),
        normal(12, "values"),
    ];
    let errors = check::<B>(&Additive, &point, &device());
    println!("masked additive attention: {errors:?}");
    assert!(errors.within(1e-6), "{errors:?}");
}

#[test]
#[should_panic(expected = "4 heads do not divide a width of 6")]
fn heads_must_divide_the_width() {
    let _ = MultiHeadSelfAttention::<B>::new(6, 4, &mut Initializer::zeros(), &device());
}

/// Uniform scores cost `ln n`; the loss of a task does not see the other tasks.
#[test]
fn losses_in_closed_form() {
    let labels = Tensor::<B, 2, burn::tensor::Int>::from_data([[0, 1, 2], [2, 2, 2]], &device());
    let zeros = Tensor::<B, 3>::zeros([2, 3, 4], &device());
    for loss in values(loss::loss(zeros, &TargetBatch::Classes(labels.clone()))) {
        assert!((loss - 4f64.ln()).abs() < 1e-12);
    }
    let scores = Tensor::<B, 3>::from_data(
        [
            [[9.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0, 9.0]],
            [[0.0, 0.0, 9.0], [0.0, 0.0, 9.0], [0.0, 0.0, 9.0]],
        ],
        &device(),
    );
    let accuracy = values(loss::accuracy(scores, labels));
    assert!((accuracy[0] - 2.0 / 3.0).abs() < 1e-12 && accuracy[1] == 1.0);
    let error = loss::squared_error(
        Tensor::<B, 3>::from_data([[[1.0], [3.0]]], &device()),
        Tensor::<B, 3>::from_data([[[0.0], [1.0]]], &device()),
    );
    assert_eq!(values(error), [2.5]);
}
