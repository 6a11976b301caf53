//! Learners that are one another in special cases, in f64.

use std::marker::PhantomData;

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend, ops::FloatTensorOps},
};
use meta_core::{
    data::{EpisodeShape, Task},
    learner::{Learner, MetaGradient, PredictAt},
    nn::{
        Pass, distance,
        encoder::{Architecture, Encoder, EncoderSpec},
        init::Initializer,
        norm::Statistics,
        solve::solve_positive_definite,
    },
    params::Params,
    primitives::Primitives,
    rng::Seed,
    task::{TargetBatch, TaskBatch, TaskSpec},
};
use serde_json::{Value, json};

use meta_core::gradcheck::toy::{random_episode as episode, small_spec as spec};

use super::{B, Device, device, host};

/// An encoder without parameters, `φ(x) = x`: the head is the whole network.
#[derive(Clone)]
struct Bare;

#[derive(Module, Debug)]
struct BareModel<B: Backend> {
    // The derivation of `Module` looks for a backend of this name.
    backend: PhantomData<B>,
}

impl<L: Primitives> Encoder<L> for BareModel<L> {
    fn forward(&self, x: Tensor<L, 3>, _pass: &Pass<L>) -> Tensor<L, 3> {
        x
    }
}

impl Architecture for Bare {
    type Model<L: Primitives> = BareModel<L>;

    fn init<L: Primitives>(&self, _: &mut Initializer, _: &L::Device) -> BareModel<L> {
        BareModel {
            backend: PhantomData,
        }
    }

    fn width(&self) -> usize {
        spec(Task::Classification).item.features()
    }

    fn activations(&self) -> usize {
        0
    }

    fn statistics(&self) -> Statistics {
        Statistics::None
    }
}

fn learner<A: Architecture>(
    name: &str,
    settings: Value,
    architecture: A,
    spec: &TaskSpec,
) -> Box<dyn Learner<B>> {
    meta_algos::build(name, &settings, architecture, spec, Seed(2), &device()).unwrap()
}

fn mlp() -> EncoderSpec {
    EncoderSpec::new(
        "mlp",
        &json!({"hidden": [5, 4]}),
        spec(Task::Classification).item,
    )
    .unwrap()
}

fn tasks(spec: &TaskSpec) -> TaskBatch<B> {
    let device: Device = device();
    let episodes: Vec<_> = (0..3).map(|index| episode(spec, index)).collect();
    TaskBatch::new(&episodes, spec, &device)
}

fn values<const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().iter().collect()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= tolerance, "{f} is not {e}");
    }
}

#[track_caller]
fn assert_same(found: &Params<B>, expected: &Params<B>, tolerance: f64) {
    let (found, expected) = (host(found), host(expected));
    assert_eq!(found.len(), expected.len());
    for ((name, found), (expected_name, expected)) in found.iter().zip(&expected) {
        assert_eq!(name, expected_name);
        assert_close(found, expected, tolerance);
    }
}

#[track_caller]
fn assert_same_answers(left: &dyn Learner<B>, right: &dyn Learner<B>, tasks: &TaskBatch<B>) {
    let (left, right) = (
        left.predict(tasks, PredictAt::EveryStep),
        right.predict(tasks, PredictAt::EveryStep),
    );
    assert_eq!(left.len(), right.len());
    for (left, right) in left.into_iter().zip(right) {
        assert_close(&values(left), &values(right), 1e-12);
    }
}

#[test]
fn anil_with_every_layer_in_the_head_is_maml() {
    let spec = spec(Task::Classification);
    let tasks = tasks(&spec);
    for settings in [
        json!({"inner_lr": 0.2, "inner_steps": 3, "test_steps": 3}),
        json!({"inner_lr": 0.2, "inner_steps": 3, "test_steps": 3, "inner_momentum": 0.9}),
        json!({"inner_lr": 0.02, "inner_steps": 3, "test_steps": 3, "inner_optimizer": "adam"}),
    ] {
        let anil = learner("anil", settings.clone(), Bare, &spec);
        let maml = learner("maml", settings, Bare, &spec);
        assert_same_answers(anil.as_ref(), maml.as_ref(), &tasks);
        assert_same(
            &anil.meta_gradient(&tasks).gradients,
            &maml.meta_gradient(&tasks).gradients,
            1e-12,
        );
    }
}

/// And with a layer below the head it is not.
#[test]
fn anil_with_an_encoder_is_not_maml() {
    let spec = spec(Task::Classification);
    let tasks = tasks(&spec);
    let settings = json!({"inner_lr": 0.2, "inner_steps": 3, "test_steps": 3});
    let answer = |name| {
        let answer =
            learner(name, settings.clone(), mlp(), &spec).predict(&tasks, PredictAt::EveryStep);
        values(answer.into_iter().last().unwrap())
    };
    let largest = answer("anil")
        .iter()
        .zip(answer("maml"))
        .map(|(a, m)| (a - m).abs())
        .fold(0.0, f64::max);
    assert!(largest > 1e-3, "{largest:e}");
}

#[test]
fn meta_sgd_with_equal_rates_is_maml() {
    for task in [Task::Classification, Task::Regression { outputs: 2 }] {
        let spec = spec(task);
        let tasks = tasks(&spec);
        let settings = json!({"inner_lr": 0.2, "inner_steps": 2, "test_steps": 4});
        let meta_sgd = learner("meta_sgd", settings.clone(), mlp(), &spec);
        let maml = learner("maml", settings, mlp(), &spec);
        assert_same_answers(meta_sgd.as_ref(), maml.as_ref(), &tasks);
        let gradients = meta_sgd.meta_gradient(&tasks).gradients;
        assert_same(
            &gradients.outside("rates"),
            &maml.meta_gradient(&tasks).gradients,
            1e-12,
        );
        assert_eq!(gradients.under("rates").len(), gradients.len() / 2);
    }
}

/// With one step of gradient descent, the direction of Reptile is the gradient of the joint support
/// loss: that of MAML's query loss when the queries are the support and the inner step is too small
/// to matter.
#[test]
fn reptile_with_one_step_is_joint_descent() {
    let spec = spec(Task::Classification);
    let mut tasks = tasks(&spec);
    tasks.query = tasks.support.clone();
    for inner_lr in [1e-3, 0.5] {
        let settings = json!({"inner_lr": inner_lr, "inner_steps": 1, "inner_optimizer": "sgd"});
        let mut reptile = learner("reptile", settings, mlp(), &spec);
        let still = json!({"inner_lr": 1e-300, "inner_steps": 1, "order": "first"});
        let mut maml = learner("maml", still, mlp(), &spec);
        // Off the zero biases, at which a ReLU of nothing but zeros sits on its kink.
        let shift = 0.01;
        let off_zero = reptile
            .parameters()
            .map(|p| B::float_add_scalar(p, shift.into()));
        reptile.set_parameters(off_zero.clone());
        maml.set_parameters(off_zero);
        let joint: MetaGradient<B> = maml.meta_gradient(&tasks);
        assert_same(
            &reptile.meta_gradient(&tasks).gradients,
            &joint.gradients,
            1e-10,
        );
    }
}

/// Two steps are not twice the first: the second is taken elsewhere.
#[test]
fn reptile_with_two_steps_is_not_joint_descent() {
    let spec = spec(Task::Classification);
    let tasks = tasks(&spec);
    let gradient = |steps| {
        let settings = json!({"inner_lr": 0.5, "inner_steps": steps, "inner_optimizer": "sgd"});
        let result = learner("reptile", settings, mlp(), &spec).meta_gradient(&tasks);
        host(&result.gradients)
    };
    let (one, two) = (gradient(1), gradient(2));
    let apart = one.iter().zip(&two).any(|(one, two)| {
        one.1
            .iter()
            .zip(&two.1)
            .any(|(o, t)| (2.0 * o - t).abs() > 1e-4)
    });
    assert!(apart);
}

/// One shot: the most attended support item is the one of largest cosine, and its label is read.
#[test]
fn one_shot_matching_is_the_cosine_nearest_neighbour() {
    let shape = EpisodeShape::new(3, 1, 4);
    let spec = TaskSpec {
        train: shape,
        test: shape,
        ..spec(Task::Classification)
    };
    let tasks = tasks(&spec);
    let cosines = distance::cosines(tasks.query.inputs.clone(), tasks.support.inputs.clone());
    for temperature in [1.0, 30.0] {
        let settings = json!({"temperature": temperature});
        let matching = learner("matching_net", settings, Bare, &spec);
        let answer = matching
            .predict(&tasks, PredictAt::EveryStep)
            .pop()
            .unwrap();
        let winners = |scores: Tensor<B, 3>| values(scores.argmax(2).float());
        assert_eq!(winners(answer.clone()), winners(cosines.clone()));
        // Its scores are log-probabilities, here the log-softmax of the cosines.
        let expected =
            burn::tensor::activation::log_softmax(cosines.clone().mul_scalar(temperature), 2);
        assert_close(&values(answer), &values(expected), 1e-12);
    }
}

/// The closed form by the Woodbury identity against `(XᵀX + sλI)⁻¹ Xᵀ Y`.
#[test]
fn ridge_by_woodbury_is_ridge_by_the_normal_equations() {
    let spec = spec(Task::Regression { outputs: 2 });
    let tasks = tasks(&spec);
    let ridge = learner("ridge", json!({"lambda": 0.3}), Bare, &spec);
    let found = ridge.predict(&tasks, PredictAt::EveryStep).pop().unwrap();
    let with_ones = |x: Tensor<B, 3>| {
        let ones = x.clone().narrow(2, 0, 1).ones_like();
        Tensor::cat(vec![x, ones], 2)
    };
    let x = with_ones(tasks.support.inputs.clone());
    let [_, s, f] = x.dims();
    let TargetBatch::Values(y) = tasks.support.targets.clone() else {
        unreachable!("regression")
    };
    let identity = Tensor::<B, 2>::eye(f, &device()).reshape([1, f, f]);
    let normal = x.clone().swap_dims(1, 2).matmul(x.clone()) + identity.mul_scalar(0.3 * s as f64);
    let weights = solve_positive_definite(normal, x.swap_dims(1, 2).matmul(y));
    let expected = with_ones(tasks.query.inputs.clone()).matmul(weights);
    assert_close(&values(found), &values(expected), 1e-10);
}

#[test]
fn maml_pp_with_equal_rates_and_the_last_loss_is_maml() {
    let spec = spec(Task::Classification);
    let tasks = tasks(&spec);
    let settings = json!({"inner_lr": 0.2, "inner_steps": 3, "losses": "last"});
    let maml_pp = learner("maml_pp", settings, mlp(), &spec);
    let settings = json!({"inner_lr": 0.2, "inner_steps": 3, "test_steps": 3});
    let maml = learner("maml", settings, mlp(), &spec);
    assert_same_answers(maml_pp.as_ref(), maml.as_ref(), &tasks);
    assert_same(
        &maml_pp.meta_gradient(&tasks).gradients.outside("rates"),
        &maml.meta_gradient(&tasks).gradients,
        1e-12,
    );
}

/// While inner gradients count as constants, MAML++ is first-order MAML in its parameters; its rates
/// still learn, with one step as they do at second order.
#[test]
fn maml_pp_at_first_order_is_first_order_maml() {
    let spec = spec(Task::Classification);
    let tasks = tasks(&spec);
    for steps in [1, 3] {
        let maml_pp = |fraction: f64| {
            let settings = json!({
                "inner_lr": 0.2, "inner_steps": steps, "losses": "last",
                "first_order_fraction": fraction
            });
            let learner = learner("maml_pp", settings, mlp(), &spec);
            learner.meta_gradient(&tasks).gradients
        };
        let settings = json!({"inner_lr": 0.2, "inner_steps": steps, "order": "first"});
        let maml = learner("maml", settings, mlp(), &spec);
        let (first, second) = (maml_pp(0.5), maml_pp(0.0));
        let expected = maml.meta_gradient(&tasks).gradients;
        assert_same(&first.outside("rates"), &expected, 1e-12);
        if steps == 1 {
            assert_same(&first.under("rates"), &second.under("rates"), 1e-12);
        }
    }
}

/// The squared error of a linear network is a quadratic of its weights, `½ (φ − m)ᵀ H (φ − m)` up to
/// a constant. With `X` the support and a column of ones, `H = 2 XᵀX / (s·outputs)` for each output,
/// and for one task `φ* = (H + λ)⁻¹ (2 XᵀY / (s·outputs) + λ θ)`, meta-gradient
/// `(I + H/λ)⁻¹ ∇L_q(φ*)`.
#[test]
fn imaml_is_the_closed_form_of_a_quadratic() {
    let spec = spec(Task::Regression { outputs: 2 });
    let one: Vec<_> = vec![episode(&spec, 0)];
    let tasks = TaskBatch::<B>::new(&one, &spec, &device());
    let lambda = 0.7;
    let settings = json!({
        "inner_lr": 0.1, "inner_steps": 2000, "test_steps": 1, "lambda": lambda, "cg_steps": 30,
        "pull": "every"
    });
    let imaml = learner("imaml", settings, Bare, &spec);
    let found = imaml.meta_gradient(&tasks);

    let with_ones = |x: Tensor<B, 3>| {
        let ones = x.clone().narrow(2, 0, 1).ones_like();
        Tensor::cat(vec![x, ones], 2)
    };
    let values_of = |targets: &TargetBatch<B>| match targets {
        TargetBatch::Values(values) => values.clone(),
        _ => unreachable!("regression"),
    };
    let joined = |params: &Params<B>| {
        let weight = params.get::<3>("head.weight").unwrap();
        Tensor::cat(vec![weight, params.get::<3>("head.bias").unwrap()], 1)
    };
    // 2 Xᵀ(·) / (items · outputs)
    let gradient = |x: &Tensor<B, 3>, right: Tensor<B, 3>| {
        let [_, items, _] = x.dims();
        let factor = 2.0 / (2 * items) as f64;
        x.clone().swap_dims(1, 2).matmul(right).mul_scalar(factor)
    };
    let x = with_ones(tasks.support.inputs.clone());
    let f = x.dims()[2];
    let held = Tensor::<B, 2>::eye(f, &device())
        .reshape([1, f, f])
        .mul_scalar(lambda);
    let system = gradient(&x, x.clone()) + held;
    let theta = joined(&imaml.parameters());
    let right = gradient(&x, values_of(&tasks.support.targets)) + theta.mul_scalar(lambda);
    let adapted = solve_positive_definite(system.clone(), right);
    let queries = with_ones(tasks.query.inputs.clone());
    let error = queries.clone().matmul(adapted) - values_of(&tasks.query.targets);
    let expected = solve_positive_definite(system, gradient(&queries, error).mul_scalar(lambda));
    assert_close(&values(joined(&found.gradients)), &values(expected), 1e-9);
}

/// Holding the graph of one step at a time gives the gradient of holding all of them.
#[test]
fn checkpointing_inner_steps_changes_no_meta_gradient() {
    let spec = spec(Task::Classification);
    let tasks = tasks(&spec);
    for (name, mut settings) in [
        ("maml", json!({"inner_lr": 0.2, "inner_steps": 3})),
        (
            "maml",
            json!({"inner_lr": 0.2, "inner_steps": 3, "order": "first"}),
        ),
        (
            "maml",
            json!({"inner_lr": 0.2, "inner_steps": 3, "inner_momentum": 0.9}),
        ),
        (
            "maml",
            json!({"inner_lr": 0.01, "inner_steps": 3, "inner_optimizer": "adam"}),
        ),
        ("meta_sgd", json!({"inner_steps": 2})),
        ("meta_lstm", json!({"inner_steps": 3})),
        ("meta_lstm", json!({"inner_steps": 3, "order": "second"})),
        ("maml_pp", json!({"inner_steps": 3})),
        ("maml_pp", json!({"inner_steps": 3, "losses": "last"})),
        (
            "maml_pp",
            json!({"inner_steps": 3, "losses": "last", "first_order_fraction": 0.5}),
        ),
    ] {
        let whole = learner(name, settings.clone(), mlp(), &spec).meta_gradient(&tasks);
        settings["checkpoint_inner_steps"] = json!(true);
        let parts = learner(name, settings.clone(), mlp(), &spec).meta_gradient(&tasks);
        assert_same(&parts.gradients, &whole.gradients, 1e-12);
        assert_close(&values(parts.losses), &values(whole.losses), 1e-14);
        assert_eq!(values(parts.scores), values(whole.scores));
    }
}
