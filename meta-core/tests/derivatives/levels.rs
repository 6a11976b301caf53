//! Levels and parameters against closed forms, and the traps of Burn that `params` avoids.

use burn::{
    module::{AutodiffModule, Module, Param, ParamId},
    tensor::{Tensor, backend::Backend},
};
use burn_autodiff::Autodiff;
use meta_core::params::Params;

use crate::support::{B, assert_close, device, random, relative_error, tensor, values};

type Level1 = Autodiff<B>;
type Level2 = Autodiff<Level1>;

/// One parameter `θ [t, 3, 1]`.
#[derive(Module, Debug)]
struct Point<B: Backend> {
    theta: Param<Tensor<B, 3>>,
}

fn point<L: Backend>(theta: Tensor<L, 3>) -> Point<L> {
    Point {
        theta: Param::initialized(ParamId::new(), theta),
    }
}

fn params<L: Backend>(theta: Tensor<L, 3>) -> Params<L> {
    Params::of(&point(theta))
}

fn theta<L: Backend>(params: &Params<L>) -> Tensor<L, 3> {
    params.get("theta").expect("the only parameter")
}

/// `½ a (θ − c)²`, summed.
fn quadratic<L: Backend>(theta: Tensor<L, 3>, a: f64, c: f64) -> Tensor<L, 1> {
    theta.sub_scalar(c).powi_scalar(2).sum().mul_scalar(a / 2.0)
}

const CURVATURE: f64 = 0.7;
const MINIMUM: f64 = 1.5;
const LR: f64 = 0.3;

/// Inner steps on `½ a (θ − c)²` through lift, backward, collect, update and write-back.
fn adapt(mut fast: Params<Level1>, steps: usize) -> Params<Level1> {
    for _ in 0..steps {
        let leaves = fast.clone().lift::<Level2>();
        let skeleton = point(Tensor::<Level2, 3>::zeros([1, 3, 1], &device()));
        let model = leaves.clone().write_into(skeleton);
        let gradients = quadratic(model.theta.val(), CURVATURE, MINIMUM).backward();
        let gradients = leaves.gradients(&gradients);
        fast = fast.plus(&gradients.scale(-LR));
    }
    fast
}

/// `θ_K = c + (1 − α a)^K (θ − c)`; with the query loss `½ b (θ_K − d)²` the meta-gradient is
/// `b (θ_K − d) (1 − α a)^K`. First order would lack the last factor.
#[test]
fn meta_gradient_of_a_quadratic_equals_its_closed_form() {
    let start = [0.2, -1.0, 3.0];
    let (b, d) = (1.3, -0.4);
    for steps in [1, 3] {
        let leaves = params(tensor(start.to_vec(), [1, 3, 1])).lift::<Level1>();
        let fast = adapt(leaves.clone().fan_out(1), steps);
        let loss = quadratic(theta(&fast), b, d);
        let found = values(theta(&leaves.gradients(&loss.backward())));
        let shrink = (1.0 - LR * CURVATURE).powi(steps as i32);
        for (found, start) in found.iter().zip(start) {
            let adapted = MINIMUM + shrink * (start - MINIMUM);
            let exact = b * (adapted - d) * shrink;
            assert!(
                (found - exact).abs() < 1e-9,
                "{steps} steps: {found}, {exact}"
            );
            let first_order = b * (adapted - d);
            assert!(
                (found - first_order).abs() > 1e-2,
                "{steps} steps: fell back to first order"
            );
        }
    }
}

/// Each of three steps contributes its factor `1 − α a` to `∂θ_K/∂θ`: none is cut from the graph.
#[test]
fn every_step_stays_on_the_graph() {
    for steps in 1..=3 {
        let leaves = params(tensor(vec![0.2, -1.0, 3.0], [1, 3, 1])).lift::<Level1>();
        let fast = adapt(leaves.clone().fan_out(1), steps);
        let jacobian = values(theta(&leaves.gradients(&theta(&fast).sum().backward())));
        let expected = (1.0 - LR * CURVATURE).powi(steps as i32);
        assert!(jacobian.iter().all(|g| (g - expected).abs() < 1e-12));
    }
}

/// Fan-out gives each task its copy; the gradient of the shared value is the sum of theirs.
#[test]
fn fan_out_sums_the_gradients_of_the_copies() {
    let leaves = params(tensor(vec![1.0, 2.0, 3.0], [1, 3, 1])).lift::<Level1>();
    let copies = leaves.clone().fan_out(4);
    assert_eq!(theta(&copies).dims(), [4, 3, 1]);
    let weights = random([4, 3, 1], "weights");
    let loss = (theta(&copies) * Tensor::from_inner(weights.clone())).sum();
    let found = theta(&leaves.gradients(&loss.backward()));
    assert_close(found, weights.sum_dim(0), 1e-14);
    assert_close(
        theta(&params(random([4, 3, 1], "s")).sum_tasks()),
        random([4, 3, 1], "s").sum_dim(0),
        1e-14,
    );
}

/// Buffers are carried along, but are no leaves and get no update.
#[test]
fn buffers_get_neither_gradient_nor_update() {
    let mut set = params(tensor(vec![1.0, 2.0, 3.0], [1, 3, 1]));
    set.push("norm.running_mean", tensor(vec![7.0], [1, 1, 1]));
    assert_eq!((set.len(), set.num_elements()), (2, 3));
    let scaled = set.clone().scale(2.0);
    assert_eq!(values(scaled.get::<3>("norm.running_mean").unwrap()), [7.0]);
    let leaves = set.lift::<Level1>();
    let gradients = leaves.gradients(&quadratic(theta(&leaves), 1.0, 0.0).backward());
    assert_eq!(gradients.names().collect::<Vec<_>>(), ["theta"]);
}

/// A parameter that the loss does not use has gradient zero.
#[test]
fn an_unused_parameter_has_gradient_zero() {
    let leaves = params(tensor(vec![1.0, 2.0, 3.0], [1, 3, 1])).lift::<Level1>();
    let other = Tensor::<Level1, 1>::from_inner(tensor(vec![2.0], [1])).require_grad();
    let gradients = leaves.gradients(&(other.clone() * other).backward());
    assert_eq!(values(theta(&gradients)), [0.0; 3]);
}

/// A difference of shape or name is said in words, before anything is replaced.
#[test]
fn a_difference_is_named() {
    let set = params(random([1, 3, 1], "x"));
    let like = |name: &str, shape: &[usize]| set.check_like(&[(name.to_owned(), shape.to_vec())]);
    assert!(like("theta", &[1, 3, 1]).is_ok());
    assert!(like("theta", &[1, 3, 2]).unwrap_err().contains("[1, 3, 2]"));
    assert!(like("other", &[1, 3, 1]).unwrap_err().contains("`theta`"));
}

// The traps: each of these calls of Burn loses the gradient or panics, which is why `params` does
// otherwise. A test here that fails after an upgrade says that a detour is no longer needed.

/// `θ` on level 1, not a leaf, and the leaf it comes from.
fn non_leaf() -> (Tensor<Level1, 3>, Tensor<Level1, 3>) {
    let leaf = Tensor::<Level1, 3>::from_inner(random([1, 3, 1], "leaf")).require_grad();
    (leaf.clone().mul_scalar(2.0), leaf)
}

#[test]
fn trap_valid_cuts_the_graph_below_and_lower_does_not() {
    let (value, leaf) = non_leaf();
    let model = point(Tensor::<Level2, 3>::from_inner(value.clone()));
    let cut = AutodiffModule::<Level2>::valid(&model).theta.val();
    assert!(leaf.grad(&cut.require_grad().sum().backward()).is_none());
    let kept = theta(&Params::of(&model).lower());
    assert!(leaf.grad(&kept.sum().backward()).is_some());
}

#[test]
fn trap_from_inner_forgets_require_grad_and_lift_does_not() {
    let (value, _) = non_leaf();
    // The tensor is no leaf of level 1, so the parameter does not say that it requires gradients.
    let lifted: Point<Level2> = AutodiffModule::<Level2>::from_inner(point(value.clone()));
    let tracked = Tensor::<Level2, 1>::from_inner(Tensor::zeros([1], &device())).require_grad();
    let backward = (quadratic(lifted.theta.val(), 1.0, 0.0) + tracked).backward();
    assert!(lifted.theta.val().grad(&backward).is_none());
    let leaves = params(value).lift::<Level2>();
    let gradients = leaves.gradients(&quadratic(theta(&leaves), 1.0, 0.0).backward());
    assert!(values(theta(&gradients)).iter().any(|g| *g != 0.0));
}

#[test]
#[should_panic(expected = "non leaf")]
fn trap_from_tensor_panics_on_a_non_leaf() {
    let _ = Param::from_tensor(non_leaf().0);
}

#[test]
fn trap_no_grad_cuts_the_graph_and_write_into_does_not() {
    let (value, leaf) = non_leaf();
    let cut = point(value.clone()).no_grad().theta.val();
    assert!(leaf.grad(&cut.require_grad().sum().backward()).is_none());
    let skeleton = point(Tensor::<Level1, 3>::zeros([1, 3, 1], &device()));
    let model = params(value).write_into(skeleton);
    assert!(leaf.grad(&model.theta.val().sum().backward()).is_some());
}

/// Repeating an axis longer than 1; an axis of 1, as the task axis of shared parameters, is right.
#[test]
fn trap_repeat_has_a_wrong_gradient_and_expand_does_not() {
    let weights = random([8, 3], "weights");
    let of = |fan: &dyn Fn(Tensor<Level1, 2>) -> Tensor<Level1, 2>| {
        let leaf = Tensor::<Level1, 2>::from_inner(random([2, 3], "leaf")).require_grad();
        let loss = (fan(leaf.clone()) * Tensor::from_inner(weights.clone())).sum();
        values(leaf.grad(&loss.backward()).unwrap())
    };
    let exact = values(weights.clone().reshape([4, 6]).sum_dim(0));
    let error = |found: Vec<f64>| relative_error(&found, &exact);
    assert!(error(of(&|leaf| leaf.repeat_dim(0, 4))) > 1e-2);
    let expanded = |leaf: Tensor<Level1, 2>| leaf.reshape([1, 6]).expand([4, 6]).reshape([8, 3]);
    assert!(error(of(&expanded)) < 1e-12);
}

/// `F = Σ_k (a b c − k)` over the leaves `k`, while another thread takes gradients of its own: `−k` is an
/// operation of one leaf alone, after the graphs of all were merged, and is let go while `cat` copies. Burn
/// alone loses the gradient that passes through it; by which order it merges is chance, hence the rounds.
#[test]
fn leaves_used_again_keep_their_gradients() {
    use std::sync::atomic::{AtomicBool, Ordering};
    const LENGTH: usize = 200_000;
    let values = [2.0, 3.0, 5.0];
    let names = ["a", "b", "c"];
    let set = |names: &[&str], values: &[f64], length: usize| {
        let mut set = Params::<B>::default();
        for (name, value) in names.iter().zip(values) {
            set.push(*name, tensor(vec![*value; length], [1, length, 1]));
        }
        set
    };
    let done = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let other = set(&["d"], &[1.0], 1).lift::<Level1>();
                theta_of(&other, "d").sum().backward();
            }
        });
        let found: Vec<_> = (0..20)
            .map(|_| {
                let a = set(&names[..1], &values[..1], LENGTH);
                let (a, rest) = a.lift_with(set(&names[1..], &values[1..], LENGTH));
                let leaves: Params<Level1> = a.join(rest);
                let [a, b, c] = names.map(|name| theta_of(&leaves, name));
                let together = a.clone() * b.clone() * c.clone();
                let sum = [a, b, c]
                    .map(|leaf| Tensor::cat(vec![leaf.neg(), together.clone()], 2).sum())
                    .into_iter()
                    .reduce(|sum, term| sum + term);
                let gradients = leaves.gradients(&sum.expect("three terms").backward());
                names.map(|name| theta_of(&gradients, name).mean().into_scalar())
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        found
    });
    for gradients in found {
        for (found, value) in gradients.into_iter().zip(values) {
            let expected = 3.0 * values.iter().product::<f64>() / value - 1.0;
            assert!(
                (f64::from(found) - expected).abs() < 1e-4,
                "{found} {expected}"
            );
        }
    }
}

fn theta_of<L: Backend>(params: &Params<L>, name: &str) -> Tensor<L, 3> {
    params.get(name).expect("a parameter of this name")
}
