//! Recurrent layers: against PyTorch, and central differences at both orders.

use burn::tensor::{Tensor, TensorPrimitive, ops::FloatTensor};
use burn_autodiff::Autodiff;
use meta_core::{
    gradcheck::{Function, check},
    nn::{
        init::Initializer,
        recurrent::{BiGru, BiLstm, Cell, GruCell, LstmCell, LstmState, Reading, join, split},
    },
    primitives::{
        Activation, Primitives, Recurrence, RecurrenceGradient, RecurrenceInputs, RecurrenceRun,
        RecurrentCell, Shown, linear_add, portable, recur,
    },
    rng::Seed,
};

use crate::support::{
    B, Oracle, assert_close, device, normal, observed, point_near, random, with_parameters,
};

type A = Autodiff<B>;
type AA = Autodiff<A>;

fn layer<L: Primitives>(device: &L::Device) -> BiLstm<L> {
    BiLstm::new(3, 2, &mut Initializer::seeded(Seed(1)), device)
}

/// Outputs of both directions, `[t, b·l, 2h]`.
fn outputs<L: Primitives>(layer: &BiLstm<L>, x: Tensor<L, 3>, length: usize) -> Tensor<L, 3> {
    let (forwards, backwards) = layer.forward(x, &Reading::of(length));
    Tensor::cat(vec![forwards, backwards], 2)
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

/// Values, gradients and second derivatives of both cells, by `tests/oracles/recurrence.py`.
#[test]
fn cells_equal_pytorch_at_both_orders() {
    for cell in ["lstm", "gru"] {
        let oracle = Oracle::read("recurrence");
        let name = |key: &str, part: &str| format!("{cell}.{key}{part}");
        let matrix = |key: &str, part: &str| match cell {
            "lstm" => from_pytorch(oracle.get(&name(key, part))),
            _ => oracle.get::<2>(&name(key, part)).transpose().unsqueeze(),
        };
        let vector = |key: &str, part: &str| {
            let column = oracle.get::<1>(&name(key, part)).unsqueeze_dim::<2>(1);
            match cell {
                "lstm" => from_pytorch(column),
                _ => column.transpose().unsqueeze::<3>(),
            }
        };
        let sequences = |key: &str, part: &str| {
            let values = oracle.get::<3>(&name(key, part));
            let width = values.dims()[2];
            values.reshape([1, 8, width])
        };
        let of = |part: &str| {
            [
                sequences("x", part),
                matrix("weight_ih_l0", part),
                matrix("weight_hh_l0", part),
                vector("bias_ih_l0", part),
                vector("bias_hh_l0", part),
            ]
        };
        let direction = sequences("direction", "");
        // Leaves of the upper level whose values are leaves of the lower one.
        let lower = of("").map(|value| Tensor::<A, 3>::from_inner(value).require_grad());
        let upper = (lower.clone()).map(|value| Tensor::<AA, 3>::from_inner(value).require_grad());
        let [x, w, u, b, d] = upper.clone();
        let (kind, u, d) = match cell {
            "lstm" => (RecurrentCell::Lstm, u, b + d),
            _ => (RecurrentCell::Gru, Tensor::cat(vec![u, d], 1), b),
        };
        let inputs = RecurrenceInputs {
            z: linear_add(x, w, d, Activation::Identity),
            u,
            start: Tensor::zeros([1, 2, 2 * kind.states()], &device()),
            mask: None,
        };
        let shown = recur(kind, inputs, Shown::Hidden, false);
        assert_close(
            shown.clone().inner().inner(),
            sequences("outputs", ""),
            1e-13,
        );
        let weights = Tensor::from_inner(Tensor::from_inner(direction));
        let gradients = (shown.tanh() * weights).sum().backward();
        let mut product = Tensor::<A, 1>::zeros([1], &device());
        for ((leaf, expected), along) in upper.iter().zip(of(".grad")).zip(of(".along")) {
            let found = leaf.grad(&gradients).unwrap();
            assert_close(found.clone().inner(), expected, 1e-13);
            product = product + (found * Tensor::from_inner(along)).sum();
        }
        let gradients = product.backward();
        for (leaf, expected) in lower.iter().zip(of(".second")) {
            assert_close(leaf.grad(&gradients).unwrap(), expected, 1e-12);
        }
    }
}

/// Two layers of gated recurrent units over sequences of four and two steps, the upper one backwards, in
/// their parameters, one set per task, and their inputs.
struct OfGru;

impl Function for OfGru {
    fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
        let device = inputs[0].device();
        let (x, mask) = (inputs[2].clone().reshape([2, 8, 3]), unequal(&device));
        let of_task = |task: usize| {
            let layer = with_parameters(gru(&device), &inputs[task]);
            let reading = Reading {
                mask: Some(mask.clone()),
                ..Reading::of(4)
            };
            let (forwards, backwards) = layer.forward(x.clone().narrow(0, task, 1), &reading);
            Tensor::cat(vec![forwards, backwards], 2)
        };
        observed(Tensor::cat(vec![of_task(0), of_task(1)], 0))
    }
}

fn gru<L: Primitives>(device: &L::Device) -> BiGru<L> {
    BiGru::new(3, 2, &mut Initializer::seeded(Seed(1)), device)
}

/// The mask of a sequence of four steps and one of two.
fn unequal<L: Primitives>(device: &L::Device) -> Tensor<L, 3> {
    let mask = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0];
    Tensor::<L, 1>::from_floats(mask, device).reshape([1, 8, 1])
}

#[test]
fn bidirectional_gru_passes_central_differences_at_both_orders() {
    let parameters = point_near(&gru::<B>(&device()));
    let others = parameters.iter().map(|v| 0.9 * v + 0.05).collect();
    let point = [parameters, others, normal(48, "x")];
    let errors = check::<B>(&OfGru, &point, &device());
    println!("bidirectional GRU: {errors:?}");
    assert!(errors.within(1e-6), "{errors:?}");
}

/// Three steps from a state, one by one.
struct OfSteps;

impl Function for OfSteps {
    fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
        let device = inputs[0].device();
        let init = &mut Initializer::seeded(Seed(1));
        let cell = with_parameters(LstmCell::new(3, 2, init, &device), &inputs[0]);
        let both = inputs[1].clone().reshape([1, 2, 4]);
        let steps = split(inputs[2].clone().reshape([1, 6, 3]), 3);
        let state = LstmState { both };
        let last = (steps.into_iter()).fold(state, |state, x| cell.forward(x, state));
        observed(last.both)
    }
}

#[test]
fn steps_pass_central_differences_at_both_orders() {
    let cell = LstmCell::<B>::new(3, 2, &mut Initializer::seeded(Seed(1)), &device());
    let point = [point_near(&cell), normal(8, "state"), normal(18, "x")];
    let errors = check::<B>(&OfSteps, &point, &device());
    println!("steps of an LSTM: {errors:?}");
    assert!(errors.within(1e-6), "{errors:?}");
}

/// What a sequence shows is what its steps show, one after the other.
#[test]
fn a_sequence_is_its_steps() {
    let x = random([2, 8, 3], "x");
    let cell = LstmCell::<B>::new(3, 2, &mut Initializer::seeded(Seed(1)), &device());
    let mut state = LstmState::zeros(2, 2, 2, &device());
    let mut shown = Vec::new();
    for x in split(x.clone(), 4) {
        state = cell.forward(x, state);
        shown.push(state.hidden());
    }
    assert_close(cell.read(x.clone(), &Reading::of(4)), join(shown), 1e-15);
    assert_close(
        cell.read_last(x.clone(), &Reading::of(4)),
        state.hidden(),
        1e-15,
    );

    let cell = GruCell::<B>::new(3, 2, &mut Initializer::seeded(Seed(1)), &device());
    let mut state = Tensor::zeros([2, 2, 2], &device());
    let mut shown = Vec::new();
    for x in split(x.clone(), 4) {
        state = cell.forward(x, state);
        shown.push(state.clone());
    }
    assert_close(cell.read(x.clone(), &Reading::of(4)), join(shown), 1e-15);
    assert_close(cell.read_last(x, &Reading::of(4)), state, 1e-15);
}

/// A masked sequence ends as the one without its masked steps.
#[test]
fn masked_steps_leave_the_state() {
    let x = random([1, 8, 3], "x");
    let gru = gru::<B>(&device());
    let lstm = layer::<B>(&device());
    let reading = Reading {
        mask: Some(unequal(&device())),
        ..Reading::of(4)
    };
    let short = x.clone().narrow(1, 4, 2);
    let of_second = |last: Tensor<B, 3>| last.narrow(1, 1, 1);
    let pairs = [
        (
            gru.last(x.clone(), &reading),
            gru.last(short.clone(), &Reading::of(2)),
        ),
        (lstm.last(x, &reading), lstm.last(short, &Reading::of(2))),
    ];
    for (long, short) in pairs {
        assert_close(of_second(long), short, 1e-15);
    }
}

/// The kernels against the compositions of stock operations, values and derivatives.
#[test]
fn a_recurrence_equals_its_portable_composition() {
    for cell in [RecurrentCell::Lstm, RecurrentCell::Gru] {
        for (weight_tasks, steps) in [(1, 1), (1, 4), (2, 3)] {
            for (shown, reverse) in [
                (Shown::Hidden, false),
                (Shown::Last, true),
                (Shown::Trace, true),
            ] {
                let form = Recurrence {
                    cell,
                    tasks: 2,
                    weight_tasks,
                    items: 3,
                    steps,
                    width: 5,
                    reverse,
                    shown,
                };
                for masked in [false, true] {
                    check_portable(&form, masked);
                }
            }
        }
    }
}

fn check_portable(form: &Recurrence, masked: bool) {
    let (t, b, l) = (form.tasks, form.items, form.steps);
    let (gates, width, states) = (form.gates_width(), form.width, form.state_width());
    let erase = |x: Tensor<B, 3>| x.into_primitive().tensor();
    let noise = |shape: [usize; 3], name: &str| erase(random(shape, name));
    let close = |found: FloatTensor<B>, expected: FloatTensor<B>| {
        let tensor = |x| Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(x));
        assert_close(tensor(found), tensor(expected), 1e-12);
    };
    let close_some = |found: Option<FloatTensor<B>>, expected: Option<FloatTensor<B>>| {
        assert_eq!(found.is_some(), expected.is_some());
        if let Some((found, expected)) = found.zip(expected) {
            close(found, expected);
        }
    };
    let mask = random([t, b * l, 1], "mask").greater_elem(0.0).float();
    let inputs = RecurrenceInputs {
        z: noise([t, b * l, gates], "z"),
        u: noise([form.weight_tasks, form.weight_rows(), gates], "u"),
        start: noise([t, b, states], "start"),
        mask: masked.then(|| erase(mask)),
    };
    close(
        B::recur(form, inputs.clone(), false).0,
        portable::recur::<B>(form, inputs.clone()),
    );
    let (found, kept) = B::recur(&form.whole(), inputs.clone(), true);
    let run = RecurrenceRun {
        states: found,
        inputs,
        kept,
    };
    let g = noise([t, b * form.slots(), width], "g");
    let found = B::recur_adjoint(form, run.clone(), g.clone(), true, true);
    let expected = portable::recur_adjoint::<B>(form, run.clone(), g.clone(), true);
    close(found.z.clone(), expected.z);
    close_some(found.products.clone(), expected.products);
    close_some(found.start.clone(), expected.start);
    let direction = RecurrenceGradient {
        z: noise([t, b * l, gates], "dz"),
        products: found
            .products
            .as_ref()
            .map(|_| noise([t, b * l, gates], "dp")),
        start: Some(noise([t, b, states], "ds")),
        kept: None,
    };
    let expected = portable::recur_curvature::<B>(form, run.clone(), g.clone(), direction.clone());
    let found = B::recur_curvature(form, run, g, found, direction);
    close(found.z, expected.z);
    close(found.hidden, expected.hidden);
    close_some(found.products, expected.products);
    close_some(found.before, expected.before);
    close_some(found.cells, expected.cells);
}

/// Reading a sequence backwards is reading the reversed sequence forwards.
#[test]
fn backwards_is_forwards_on_the_reversed_sequence() {
    let layer = layer::<B>(&device());
    let x = random([2, 8, 3], "x");
    let reversed = |x: Tensor<B, 3>| {
        let mut steps = split(x, 4);
        steps.reverse();
        join(steps)
    };
    let (forwards, backwards) = layer.forward(x.clone(), &Reading::of(4));
    let swapped = BiLstm {
        forwards: layer.backwards,
        backwards: layer.forwards,
    };
    let (left, right) = swapped.forward(reversed(x), &Reading::of(4));
    assert_close(forwards, reversed(right), 1e-15);
    assert_close(backwards, reversed(left), 1e-15);
}

/// With weights of zero, `c' = σ(f) c + σ(i) tanh(g)` is a formula of the bias alone: a fresh cell
/// (forget gate 1, the others 0) keeps `σ(1)` of what it knew and shows half of its `tanh`.
#[test]
fn a_fresh_cell_remembers() {
    let cell = LstmCell::<B>::new(2, 3, &mut Initializer::zeros(), &device());
    let known = random([1, 2, 3], "known");
    let state = LstmState::new(random([1, 2, 3], "hidden"), known.clone());
    let next = cell.forward(random([1, 2, 2], "x"), state);
    let kept = known.mul_scalar(1.0 / (1.0 + (-1f64).exp()));
    assert_close(next.cell(), kept.clone(), 1e-15);
    assert_close(next.hidden(), kept.tanh().mul_scalar(0.5), 1e-15);
}

#[test]
fn joining_undoes_splitting() {
    let x = random([2, 6, 3], "x");
    assert_close(join(split(x.clone(), 3)), x, 0.0);
}
