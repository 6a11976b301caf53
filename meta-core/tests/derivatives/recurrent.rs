//! Recurrent layers: against PyTorch, and central differences at both orders.

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use meta_core::{
    gradcheck::{Function, check},
    nn::{
        init::Initializer,
        recurrent::{BiLstm, LstmCell, LstmState, join, split},
    },
    primitives::Primitives,
    rng::Seed,
};

use crate::support::{
    B, Oracle, assert_close, device, normal, observed, point_near, random, with_parameters,
};

type A = Autodiff<B>;

fn layer<L: Primitives>(device: &L::Device) -> BiLstm<L> {
    BiLstm::new(3, 2, &mut Initializer::seeded(Seed(1)), device)
}

/// Outputs of both directions, `[t, b·l, 2h]`.
fn outputs<L: Primitives>(layer: &BiLstm<L>, x: Tensor<L, 3>, length: usize) -> Tensor<L, 3> {
    let states = layer.forward(&split(x, length)).into_iter();
    join(
        states
            .map(|(f, b)| Tensor::cat(vec![f.hidden, b.hidden], 2))
            .collect(),
    )
}

/// PyTorch's `[4h, …]` in the order `i f g o` to `[1, …, 4h]` in the order `i f o g`.
fn from_pytorch(weight: Tensor<B, 2>) -> Tensor<B, 3> {
    let mut blocks = weight.chunk(4, 0);
    blocks.swap(2, 3);
    Tensor::cat(blocks, 0).transpose().unsqueeze()
}

/// Values and gradients of a bidirectional layer, by `tests/oracles/lstm.py`.
#[test]
fn bidirectional_lstm_equals_pytorch() {
    let oracle = Oracle::read("lstm");
    let weights = |suffix: &str, kind: &str| {
        let [input, recurrent, input_bias, recurrent_bias] =
            ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
                .map(|name| format!("{name}_l0{suffix}{kind}"));
        let bias = |name: &str| from_pytorch(oracle.get::<1>(name).unsqueeze_dim(1));
        let biases = match kind {
            "" => bias(&input_bias) + bias(&recurrent_bias),
            _ => bias(&input_bias),
        };
        [
            from_pytorch(oracle.get(&input)),
            biases,
            from_pytorch(oracle.get(&recurrent)),
        ]
    };
    let cell = |suffix: &str| {
        let mut cell = LstmCell::<A>::new(3, 2, &mut Initializer::zeros(), &device());
        let leaf = |value| Tensor::<A, 3>::from_inner(value).require_grad();
        let [input, bias, recurrent] = weights(suffix, "").map(leaf);
        let kept = [input.clone(), bias.clone(), recurrent.clone()];
        cell.input.weight = cell.input.weight.map(|_| input);
        cell.input.bias = cell.input.bias.map(|_| bias);
        cell.recurrent = cell.recurrent.map(|_| recurrent);
        (cell, kept)
    };
    let ((forwards, forward_leaves), (backwards, backward_leaves)) = (cell(""), cell("_reverse"));
    let layer = BiLstm {
        forwards,
        backwards,
    };
    let x = oracle.get::<3>("x").reshape([1, 8, 3]);
    let x = Tensor::<A, 3>::from_inner(x).require_grad();
    let found = outputs(&layer, x.clone(), 4);
    let close = |found: Tensor<B, 3>, expected| assert_close(found, expected, 1e-13);
    let expected = oracle.get::<3>("outputs").reshape([1, 8, 4]);
    close(found.clone().inner(), expected);

    let direction = oracle.get::<3>("direction").reshape([1, 8, 4]);
    let gradients = (found.tanh() * Tensor::from_inner(direction))
        .sum()
        .backward();
    let expected = oracle.get::<3>("x.grad").reshape([1, 8, 3]);
    close(x.grad(&gradients).unwrap(), expected);
    for (suffix, leaves) in [("", forward_leaves), ("_reverse", backward_leaves)] {
        for (leaf, expected) in leaves.iter().zip(weights(suffix, ".grad")) {
            close(leaf.grad(&gradients).unwrap(), expected);
        }
    }
}

/// A bidirectional layer on two tasks of two sequences of three steps, as a function of its
/// parameters, one set per task, and of its inputs.
struct OfAll;

impl Function for OfAll {
    fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
        let device = inputs[0].device();
        let x = inputs[2].clone().reshape([2, 6, 3]);
        let of_task = |task: usize| {
            let layer = with_parameters(layer(&device), &inputs[task]);
            outputs(&layer, x.clone().narrow(0, task, 1), 3)
        };
        observed(Tensor::cat(vec![of_task(0), of_task(1)], 0))
    }
}

#[test]
fn bidirectional_lstm_passes_central_differences_at_both_orders() {
    let parameters = point_near(&layer::<B>(&device()));
    let others = parameters.iter().map(|v| 0.9 * v + 0.05).collect();
    let point = [parameters, others, normal(36, "x")];
    let errors = check::<B>(&OfAll, &point, &device());
    println!("bidirectional LSTM: {errors:?}");
    assert!(errors.within(1e-6), "{errors:?}");
}

/// Reading a sequence backwards is reading the reversed sequence forwards.
#[test]
fn backwards_is_forwards_on_the_reversed_sequence() {
    let layer = layer::<B>(&device());
    let mut steps = split(random([2, 8, 3], "x"), 4);
    let states = layer.forward(&steps);
    steps.reverse();
    let swapped = BiLstm {
        forwards: layer.backwards,
        backwards: layer.forwards,
    };
    let reversed = swapped.forward(&steps);
    for ((forwards, backwards), (left, right)) in states.into_iter().zip(reversed.iter().rev()) {
        assert_close(forwards.hidden, right.hidden.clone(), 1e-15);
        assert_close(backwards.cell, left.cell.clone(), 1e-15);
    }
}

/// With weights of zero, `c' = σ(f) c + σ(i) tanh(g)` is a formula of the bias alone: a fresh cell
/// (forget gate 1, the others 0) keeps `σ(1)` of what it knew and shows half of its `tanh`.
#[test]
fn a_fresh_cell_remembers() {
    let cell = LstmCell::<B>::new(2, 3, &mut Initializer::zeros(), &device());
    let known = random([1, 2, 3], "known");
    let state = LstmState {
        hidden: random([1, 2, 3], "hidden"),
        cell: known.clone(),
    };
    let next = cell.forward(random([1, 2, 2], "x"), state);
    let kept = known.mul_scalar(1.0 / (1.0 + (-1f64).exp()));
    assert_close(next.cell, kept.clone(), 1e-15);
    assert_close(next.hidden, kept.tanh().mul_scalar(0.5), 1e-15);
}

#[test]
fn joining_undoes_splitting() {
    let x = random([2, 6, 3], "x");
    assert_close(join(split(x.clone(), 3)), x, 0.0);
}
