//! Recurrent layers: long short-term memory, with weights shared or per task.
//!
//! Burn's `nn::Lstm` panics at second order. These stand on the primitive `linear` and on elementwise
//! operations, and differentiate to any order.
//!
//! A sequence is a list of steps, `[t, b, i]` each: no step is cut out of a larger tensor on the way
//! from layer to layer, whose adjoint would be as large as the sequence. [`split`] and [`join`] go
//! from `[t, b·l, i]`, the layout of attention, to steps and back.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::{
    activation::sigmoid,
    init::{Initializer, parameter},
    linear::Linear,
};
use crate::primitives::{Primitives, linear};

/// What an LSTM remembers between two steps.
#[derive(Clone, Debug)]
pub struct LstmState<B: Backend> {
    /// `h`, `[t, b, h]`: what the cell shows.
    pub hidden: Tensor<B, 3>,
    /// `c`, `[t, b, h]`: what it keeps.
    pub cell: Tensor<B, 3>,
}

impl<B: Backend> LstmState<B> {
    /// Nothing remembered: zeros `[t, b, h]`.
    pub fn zeros(tasks: usize, items: usize, width: usize, device: &B::Device) -> Self {
        let zeros = Tensor::zeros([tasks, items, width], device);
        LstmState {
            hidden: zeros.clone(),
            cell: zeros,
        }
    }

    /// This state where a step is `there`, and the `other` one where not: `there [t, b, 1]`, 1 or 0.
    fn or(self, other: Self, there: &Tensor<B, 3>) -> Self {
        let choose =
            |own: Tensor<B, 3>, other: Tensor<B, 3>| other.clone() + (own - other) * there.clone();
        LstmState {
            hidden: choose(self.hidden, other.hidden),
            cell: choose(self.cell, other.cell),
        }
    }
}

/// Steps with what is there of them.
fn with_there<'a, B: Backend>(
    steps: &'a [Tensor<B, 3>],
    there: Option<&'a [Tensor<B, 3>]>,
) -> impl DoubleEndedIterator<Item = (&'a Tensor<B, 3>, Option<&'a Tensor<B, 3>>)> {
    let with = move |(place, step): (usize, &'a Tensor<B, 3>)| {
        (step, there.and_then(|there| there.get(place)))
    };
    steps.iter().enumerate().map(with)
}

/// One step of long short-term memory (Hochreiter and Schmidhuber, 1997, with the forget gate of
/// Gers, Schmidhuber and Cummins, 2000; no peepholes).
///
/// ```text
/// [i f o g] = x W + h U + b          four blocks of h columns
/// c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g)
/// h' = σ(o) ⊙ tanh(c')
/// ```
///
/// PyTorch's order of the blocks is `i f g o`, and its two biases add up to `b`.
#[derive(Module, Debug)]
pub struct LstmCell<B: Backend> {
    /// `W`, `[1|t, i, 4h]`, and `b`, `[1|t, 1, 4h]`.
    pub input: Linear<B>,
    /// `U`, `[1|t, h, 4h]`.
    pub recurrent: Param<Tensor<B, 3>>,
}

impl<B: Backend> LstmCell<B> {
    /// Glorot-uniform weights for each gate; a bias of 1 for the forget gate, so that a fresh cell
    /// remembers (Jozefowicz, Zaremba and Sutskever, ICML 2015, section 2.2), 0 for the others.
    pub fn new(
        inputs: usize,
        width: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let block = |value: f64| Tensor::full([1, 1, width], value, device);
        let bias = Tensor::cat(vec![block(0.0), block(1.0), block(0.0), block(0.0)], 2);
        let mut weight =
            |inputs: usize| initializer.glorot([1, inputs, 4 * width], inputs, width, device);
        LstmCell {
            input: Linear {
                weight: weight(inputs),
                bias: parameter(bias),
            },
            recurrent: weight(width),
        }
    }

    /// Width `h` of the state.
    pub fn width(&self) -> usize {
        self.recurrent.dims()[1]
    }
}

impl<B: Primitives> LstmCell<B> {
    /// `x [t, b, i]` and the state `[t, b, h]` to the next state.
    pub fn forward(&self, x: Tensor<B, 3>, state: LstmState<B>) -> LstmState<B> {
        let width = self.width();
        let gates = self.input.forward(x) + linear(state.hidden, self.recurrent.val());
        let open = sigmoid(gates.clone().narrow(2, 0, 3 * width));
        let gate = |block: usize| open.clone().narrow(2, block * width, width);
        let proposed = gates.narrow(2, 3 * width, width).tanh();
        let cell = gate(1) * state.cell + gate(0) * proposed;
        LstmState {
            hidden: gate(2) * cell.clone().tanh(),
            cell,
        }
    }

    /// The states after each of these steps, the first from a state of zeros. Where a step is not there (0
    /// and not 1 in `there`, `[t, b, 1]`), the state stays as it is.
    fn states<'a>(
        &self,
        steps: impl Iterator<Item = (&'a Tensor<B, 3>, Option<&'a Tensor<B, 3>>)>,
    ) -> Vec<LstmState<B>> {
        let mut states: Vec<LstmState<B>> = Vec::new();
        for (x, there) in steps {
            let state = states.last().cloned().unwrap_or_else(|| {
                let [t, b, _] = x.dims();
                LstmState::zeros(t, b, self.width(), &x.device())
            });
            let next = self.forward(x.clone(), state.clone());
            states.push(match there {
                None => next,
                Some(there) => next.or(state, there),
            });
        }
        states
    }
}

/// A layer that reads a sequence step by step.
#[derive(Module, Debug)]
pub struct Lstm<B: Backend> {
    /// What is done at each step.
    pub cell: LstmCell<B>,
}

impl<B: Backend> Lstm<B> {
    /// A layer with the parameters of [`LstmCell::new`].
    pub fn new(
        inputs: usize,
        width: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        Lstm {
            cell: LstmCell::new(inputs, width, initializer, device),
        }
    }
}

impl<B: Primitives> Lstm<B> {
    /// Steps `[t, b, i]` to the states after each.
    ///
    /// # Panics
    /// When there is no step.
    pub fn forward(&self, steps: &[Tensor<B, 3>]) -> Vec<LstmState<B>> {
        self.forward_there(steps, None)
    }

    /// The same where some steps are not there: `there` is 1 or 0 for each, `[t, b, 1]`. The state stays as it
    /// is at a step that is not, so the last one is that after the last step that is.
    ///
    /// # Panics
    /// When there is no step.
    pub fn forward_there(
        &self,
        steps: &[Tensor<B, 3>],
        there: Option<&[Tensor<B, 3>]>,
    ) -> Vec<LstmState<B>> {
        assert!(!steps.is_empty(), "a sequence has at least one step");
        self.cell.states(with_there(steps, there))
    }
}

/// A layer that reads a sequence from both ends (Schuster and Paliwal, 1997; Graves and
/// Schmidhuber, 2005).
#[derive(Module, Debug)]
pub struct BiLstm<B: Backend> {
    /// Reads from the first step to the last.
    pub forwards: LstmCell<B>,
    /// Reads from the last step to the first.
    pub backwards: LstmCell<B>,
}

impl<B: Backend> BiLstm<B> {
    /// Two cells with the parameters of [`LstmCell::new`], `width` each.
    pub fn new(
        inputs: usize,
        width: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let mut cell = || LstmCell::new(inputs, width, initializer, device);
        BiLstm {
            forwards: cell(),
            backwards: cell(),
        }
    }
}

impl<B: Primitives> BiLstm<B> {
    /// Steps `[t, b, i]` to the states at each, of the two directions: `(forwards, backwards)`, both in
    /// the order of the steps. `forwards[k]` has seen the steps up to `k`, `backwards[k]` those from
    /// `k` on.
    ///
    /// # Panics
    /// When there is no step.
    pub fn forward(&self, steps: &[Tensor<B, 3>]) -> Vec<(LstmState<B>, LstmState<B>)> {
        self.forward_there(steps, None)
    }

    /// The same where some steps are not there, as of [`Lstm::forward_there`].
    ///
    /// # Panics
    /// When there is no step.
    pub fn forward_there(
        &self,
        steps: &[Tensor<B, 3>],
        there: Option<&[Tensor<B, 3>]>,
    ) -> Vec<(LstmState<B>, LstmState<B>)> {
        assert!(!steps.is_empty(), "a sequence has at least one step");
        let forwards = self.forwards.states(with_there(steps, there));
        let backwards = self.backwards.states(with_there(steps, there).rev());
        forwards
            .into_iter()
            .zip(backwards.into_iter().rev())
            .collect()
    }
}

/// The steps of sequences of `length`: `x [t, b·l, i]` to `l` times `[t, b, i]`.
///
/// # Panics
/// When `length` does not divide the rows.
pub fn split<B: Backend>(x: Tensor<B, 3>, length: usize) -> Vec<Tensor<B, 3>> {
    let [t, rows, i] = x.dims();
    assert_eq!(rows % length, 0, "{rows} rows, sequences of {length}");
    let b = rows / length;
    let sequences = x.reshape([t, b, length, i]);
    (0..length)
        .map(|step| sequences.clone().narrow(2, step, 1).reshape([t, b, i]))
        .collect()
}

/// The sequences of these steps: `l` times `[t, b, h]` to `[t, b·l, h]`; the inverse of [`split`].
///
/// # Panics
/// When there is no step.
pub fn join<B: Backend>(steps: Vec<Tensor<B, 3>>) -> Tensor<B, 3> {
    let length = steps.len();
    let [t, b, h] = steps.first().expect("at least one step").dims();
    let columns = steps
        .into_iter()
        .map(|step| step.reshape([t, b, 1, h]))
        .collect();
    Tensor::cat(columns, 2).reshape([t, b * length, h])
}
