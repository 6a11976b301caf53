//! Recurrent layers: long short-term memory and gated recurrent units, with weights shared or per task.
//!
//! Burn's `nn::Lstm` panics at second order and its `nn::Gru` loses precision. These differentiate to any
//! order: a layer multiplies the inputs of all steps by their weight at once, and the rest is one operation
//! over the whole sequence ([`recur`]).
//!
//! Sequences are `[t, b·l, i]`, the layout of attention: item by item, step after step. A controller that
//! reads a memory between two steps takes them one by one: [`LstmCell::forward`] is the same operation for
//! one step, and [`split`] and [`join`] go from sequences to steps and back.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::{
    init::{Initializer, constant, parameter},
    linear::Linear,
};
use crate::primitives::{Primitives, RecurrenceInputs, RecurrentCell, Shown, recur};

/// How sequences are read.
#[derive(Clone, Debug)]
pub struct Reading<B: Backend> {
    /// Steps of each item `l`.
    pub length: usize,
    /// 0 at the steps that leave the state as it is, else 1, `[t, b·l, 1]`: sequences of different
    /// lengths are those of the longest one whose other steps are masked. None: every step counts.
    pub mask: Option<Tensor<B, 3>>,
    /// Whether the last step is read first.
    pub reverse: bool,
}

impl<B: Backend> Reading<B> {
    /// From the first of `length` steps to the last.
    pub fn of(length: usize) -> Self {
        Reading {
            length,
            mask: None,
            reverse: false,
        }
    }

    /// The same steps from the other end.
    pub fn backwards(self) -> Self {
        Reading {
            reverse: !self.reverse,
            ..self
        }
    }
}

/// What a recurrent layer does at each step.
pub trait Cell<B: Primitives> {
    /// Its equations.
    const KIND: RecurrentCell;

    /// What multiplies the input of a step: `W` and `b` of all gates.
    fn input(&self) -> &Linear<B>;

    /// What multiplies the hidden state before, as [`recur`] wants it.
    fn weight(&self) -> Tensor<B, 3>;

    /// Width `h` of the hidden state.
    fn width(&self) -> usize;

    /// Reads sequences `x [t, b·l, i]` from a state of zeros: the hidden state after each step,
    /// `[t, b·l, h]`, in the order of the steps.
    ///
    /// # Panics
    /// When the length does not divide the rows.
    fn read(&self, x: Tensor<B, 3>, reading: &Reading<B>) -> Tensor<B, 3> {
        self.show(x, reading, Shown::Hidden)
    }

    /// The hidden state after the step that is read last, `[t, b, h]`, of sequences `x [t, b·l, i]`.
    ///
    /// # Panics
    /// When the length does not divide the rows.
    fn read_last(&self, x: Tensor<B, 3>, reading: &Reading<B>) -> Tensor<B, 3> {
        self.show(x, reading, Shown::Last)
    }

    /// What is `shown` of a reading from a state of zeros.
    ///
    /// # Panics
    /// When the length does not divide the rows.
    fn show(&self, x: Tensor<B, 3>, reading: &Reading<B>, shown: Shown) -> Tensor<B, 3> {
        let [t, rows, _] = x.dims();
        let length = reading.length;
        assert!(
            length > 0 && rows.is_multiple_of(length),
            "{rows} rows, sequences of {length}"
        );
        let shape = [t, rows / length, Self::KIND.states() * self.width()];
        let inputs = RecurrenceInputs {
            start: Tensor::zeros(shape, (&x.device(), x.dtype())),
            z: self.input().forward(x),
            u: self.weight(),
            mask: reading.mask.clone(),
        };
        recur(Self::KIND, inputs, shown, reading.reverse)
    }

    /// One step: `x [t, b, i]` and the state before, as [`recur`] wants it, to the state after.
    fn step(&self, x: Tensor<B, 3>, state: Tensor<B, 3>) -> Tensor<B, 3> {
        let shape = state.dims();
        let inputs = RecurrenceInputs {
            z: self.input().forward(x),
            u: self.weight(),
            start: state,
            mask: None,
        };
        recur(Self::KIND, inputs, Shown::Trace, false).reshape(shape)
    }
}

/// What an LSTM remembers between two steps.
#[derive(Clone, Debug)]
pub struct LstmState<B: Backend> {
    /// `h`, what the cell shows, and `c`, what it keeps, side by side: `[t, b, 2h]`.
    pub both: Tensor<B, 3>,
}

impl<B: Backend> LstmState<B> {
    /// The state of these two, `[t, b, h]` each.
    pub fn new(hidden: Tensor<B, 3>, cell: Tensor<B, 3>) -> Self {
        LstmState {
            both: Tensor::cat(vec![hidden, cell], 2),
        }
    }

    /// Nothing remembered: zeros.
    pub fn zeros(tasks: usize, items: usize, width: usize, device: &B::Device) -> Self {
        LstmState {
            both: Tensor::zeros([tasks, items, 2 * width], device),
        }
    }

    /// `h`, `[t, b, h]`.
    pub fn hidden(&self) -> Tensor<B, 3> {
        self.half(0)
    }

    /// `c`, `[t, b, h]`.
    pub fn cell(&self) -> Tensor<B, 3> {
        self.half(1)
    }

    fn half(&self, half: usize) -> Tensor<B, 3> {
        let width = self.both.dims()[2] / 2;
        self.both.clone().narrow(2, half * width, width)
    }
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
}

impl<B: Backend> LstmCell<B> {
    /// The same cell, with units that forget within 1 to `span` steps: the forget gate's bias
    /// is `ln τ`, the input gate's `−ln τ`.
    pub fn remembering(
        mut self,
        span: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let width = self.recurrent.dims()[1];
        let scales = time_scales(width, span, initializer, device);
        let rest = Tensor::zeros([1, 1, 2 * width], device);
        self.input.bias = parameter(Tensor::cat(vec![-scales.clone(), scales, rest], 2));
        self
    }
}

impl<B: Primitives> Cell<B> for LstmCell<B> {
    const KIND: RecurrentCell = RecurrentCell::Lstm;

    fn input(&self) -> &Linear<B> {
        &self.input
    }

    fn weight(&self) -> Tensor<B, 3> {
        self.recurrent.val()
    }

    fn width(&self) -> usize {
        self.recurrent.dims()[1]
    }
}

impl<B: Primitives> LstmCell<B> {
    /// `x [t, b, i]` and the state `[t, b, 2h]` to the next state.
    pub fn forward(&self, x: Tensor<B, 3>, state: LstmState<B>) -> LstmState<B> {
        LstmState {
            both: self.step(x, state.both),
        }
    }
}

/// One step of a gated recurrent unit (Cho et al., EMNLP 2014, in the form of cuDNN and PyTorch, where
/// the reset gate comes after the product with the weight).
///
/// ```text
/// [a_r a_z a_n] = x W + b,   [p_r p_z p_n] = h U + d         three blocks of h columns
/// r = σ(a_r + p_r),   z = σ(a_z + p_z),   n = tanh(a_n + r ⊙ p_n)
/// h' = (1 − z) ⊙ n + z ⊙ h
/// ```
#[derive(Module, Debug)]
pub struct GruCell<B: Backend> {
    /// `W`, `[1|t, i, 3h]`, and `b`, `[1|t, 1, 3h]`.
    pub input: Linear<B>,
    /// `U`, `[1|t, h, 3h]`, and `d`, `[1|t, 1, 3h]`.
    pub recurrent: Linear<B>,
}

impl<B: Backend> GruCell<B> {
    /// Glorot-uniform weights for each gate, zero biases.
    pub fn new(
        inputs: usize,
        width: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let mut linear = |inputs: usize| Linear {
            weight: initializer.glorot([1, inputs, 3 * width], inputs, width, device),
            bias: constant(0.0, [1, 1, 3 * width], device),
        };
        GruCell {
            input: linear(inputs),
            recurrent: linear(width),
        }
    }
}

impl<B: Backend> GruCell<B> {
    /// The same cell, with units that forget within 1 to `span` steps: the bias of the update
    /// gate is `ln τ`.
    pub fn remembering(
        mut self,
        span: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let width = self.recurrent.weight.dims()[1];
        let scales = time_scales(width, span, initializer, device);
        let none = Tensor::zeros([1, 1, width], device);
        self.input.bias = parameter(Tensor::cat(vec![none.clone(), scales, none], 2));
        self
    }
}

impl<B: Primitives> Cell<B> for GruCell<B> {
    const KIND: RecurrentCell = RecurrentCell::Gru;

    fn input(&self) -> &Linear<B> {
        &self.input
    }

    fn weight(&self) -> Tensor<B, 3> {
        let parts = [&self.recurrent.weight, &self.recurrent.bias];
        Tensor::cat(parts.map(|part| part.val()).to_vec(), 1)
    }

    fn width(&self) -> usize {
        self.recurrent.weight.dims()[1]
    }
}

impl<B: Primitives> GruCell<B> {
    /// `x [t, b, i]` and the state `[t, b, h]` to the next state.
    pub fn forward(&self, x: Tensor<B, 3>, state: Tensor<B, 3>) -> Tensor<B, 3> {
        self.step(x, state)
    }
}

/// `ln τ` of each of `width` units, `[1, 1, h]`, `τ ~ U(1, span)`: as the bias of the gate that keeps, a unit
/// forgets within some τ steps (Tallec and Ollivier, *Can recurrent neural networks warp time?*, ICLR 2018, eq.
/// 16, "chrono initialisation").
fn time_scales<B: Backend>(
    width: usize,
    span: usize,
    initializer: &mut Initializer,
    device: &B::Device,
) -> Tensor<B, 3> {
    let half = 0.5 * (span.max(2) - 1) as f64;
    let drawn = initializer.uniform([1, 1, width], half, device).val();
    drawn.add_scalar(1.0 + half).log()
}

/// Declares layers of a cell, in one direction and in both.
macro_rules! layers {
    ($cell:ident, $(#[$of_one:meta])* $one:ident, $(#[$of_two:meta])* $two:ident) => {
        $(#[$of_one])*
        #[derive(Module, Debug)]
        pub struct $one<B: Backend> {
            /// What is done at each step.
            pub cell: $cell<B>,
        }

        impl<B: Backend> $one<B> {
            #[doc = concat!("A layer with the parameters of [`", stringify!($cell), "::new`].")]
            pub fn new(
                inputs: usize,
                width: usize,
                initializer: &mut Initializer,
                device: &B::Device,
            ) -> Self {
                $one {
                    cell: $cell::new(inputs, width, initializer, device),
                }
            }
        }

        impl<B: Primitives> $one<B> {
            /// Sequences `x [t, b·l, i]` to the hidden state after each step, `[t, b·l, h]`.
            ///
            /// # Panics
            /// When the length does not divide the rows.
            pub fn forward(&self, x: Tensor<B, 3>, reading: &Reading<B>) -> Tensor<B, 3> {
                self.cell.read(x, reading)
            }

            /// Sequences `x [t, b·l, i]` to the hidden state after all steps, `[t, b, h]`.
            ///
            /// # Panics
            /// When the length does not divide the rows.
            pub fn last(&self, x: Tensor<B, 3>, reading: &Reading<B>) -> Tensor<B, 3> {
                self.cell.read_last(x, reading)
            }
        }

        $(#[$of_two])*
        #[derive(Module, Debug)]
        pub struct $two<B: Backend> {
            /// Reads from the first step to the last.
            pub forwards: $cell<B>,
            /// Reads from the last step to the first.
            pub backwards: $cell<B>,
        }

        impl<B: Backend> $two<B> {
            #[doc = concat!("Two cells with the parameters of [`", stringify!($cell), "::new`], `width` each.")]
            pub fn new(
                inputs: usize,
                width: usize,
                initializer: &mut Initializer,
                device: &B::Device,
            ) -> Self {
                let mut cell = || $cell::new(inputs, width, initializer, device);
                $two {
                    forwards: cell(),
                    backwards: cell(),
                }
            }
        }

        impl<B: Primitives> $two<B> {
            /// Sequences `x [t, b·l, i]` to the hidden states of the two directions, `(forwards,
            /// backwards)`, `[t, b·l, h]` each: the first has seen the steps up to its own, the second
            /// those from its own on.
            ///
            /// # Panics
            /// When the length does not divide the rows.
            pub fn forward(
                &self,
                x: Tensor<B, 3>,
                reading: &Reading<B>,
            ) -> (Tensor<B, 3>, Tensor<B, 3>) {
                let backwards = reading.clone().backwards();
                (
                    self.forwards.read(x.clone(), reading),
                    self.backwards.read(x, &backwards),
                )
            }

            /// What both directions show when they have read everything, side by side: `[t, b, 2h]`.
            ///
            /// # Panics
            /// When the length does not divide the rows.
            pub fn last(&self, x: Tensor<B, 3>, reading: &Reading<B>) -> Tensor<B, 3> {
                let backwards = reading.clone().backwards();
                let ends = vec![
                    self.forwards.read_last(x.clone(), reading),
                    self.backwards.read_last(x, &backwards),
                ];
                Tensor::cat(ends, 2)
            }
        }
    };
}

layers! {
    LstmCell,
    /// A layer of long short-term memory.
    Lstm,
    /// A layer of long short-term memory that reads a sequence from both ends (Schuster and Paliwal,
    /// 1997; Graves and Schmidhuber, 2005).
    BiLstm
}

layers! {
    GruCell,
    /// A layer of gated recurrent units.
    Gru,
    /// A layer of gated recurrent units that reads a sequence from both ends.
    BiGru
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Cpu, rng::Seed};

    /// Blocks of a bias, as numbers.
    fn blocks(bias: Tensor<Cpu, 3>, count: usize) -> Vec<Vec<f64>> {
        let parts = bias.chunk(count, 2).into_iter();
        parts
            .map(|part| part.into_data().iter::<f64>().collect())
            .collect()
    }

    /// Time scales lie within 1 and the span, all over it, and nothing else is biased.
    #[test]
    fn units_forget_within_the_span() {
        let (device, width, span) = (Default::default(), 64, 50.0);
        let within = |bias: &[f64]| {
            let scales = || bias.iter().map(|bias| bias.exp());
            assert!(scales().all(|scale| (0.999..=1.001 * span).contains(&scale)));
            assert!(scales().any(|scale| scale < 0.2 * span));
            assert!(scales().any(|scale| scale > 0.8 * span));
        };
        let initializer = || Initializer::seeded(Seed(1));
        let gru = GruCell::<Cpu>::new(3, width, &mut initializer(), &device);
        let gru = gru.remembering(50, &mut initializer(), &device);
        let found = blocks(gru.input.bias.val(), 3);
        within(&found[1]);
        assert_eq!([&found[0], &found[2]], [&vec![0.0; width]; 2]);
        let lstm = LstmCell::<Cpu>::new(3, width, &mut initializer(), &device);
        let lstm = lstm.remembering(50, &mut initializer(), &device);
        let found = blocks(lstm.input.bias.val(), 4);
        within(&found[1]);
        let opposite: Vec<f64> = found[1].iter().map(|bias| -bias).collect();
        assert_eq!(found[0], opposite);
        assert_eq!([&found[2], &found[3]], [&vec![0.0; width]; 2]);
    }
}
