//! Temporal convolution: causal and dilated, along a sequence and on to the step after it ([`TcBlock`]), and
//! along the steps of many items ([`StepConv`]).
//!
//! A convolution is a product with the rows and those around them: it stands on the primitive `linear` and
//! differentiates to any order.

use burn::{
    module::{Module, Param},
    tensor::{Bool, Int, Tensor, backend::Backend},
};

use super::{
    activation::sigmoid,
    init::{Initializer, constant},
    linear::Linear,
};
use crate::primitives::{Primitives, columns, join, linear, tanh};

/// When the rows of a task are: the first `length` are the steps of a sequence, one after the other,
/// and each of the other `ends` is the step after the last, alone.
///
/// So one pass asks several questions of a sequence, each as if it were its only end: an end sees the
/// sequence and itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Steps of the sequence.
    pub length: usize,
    /// Rows that each continue it by a step.
    pub ends: usize,
}

impl Timeline {
    /// All rows of a task.
    pub fn rows(self) -> usize {
        self.length + self.ends
    }

    /// What was `distance` steps before each row, zeros before the first: steps `x [t, length, c]` to
    /// `[t, rows, c]`.
    ///
    /// # Panics
    /// When `x` does not have the length of the sequence, or the distance is 0.
    pub fn before<B: Backend>(self, x: Tensor<B, 3>, distance: usize) -> Tensor<B, 3> {
        let [t, length, c] = x.dims();
        assert_eq!(length, self.length, "steps {:?} of {self:?}", x.dims());
        assert!(distance >= 1, "an end sees what was before it");
        let zeros = |rows| Tensor::<B, 3>::zeros([t, rows, c], &x.device()).cast(x.dtype());
        if distance > length {
            return zeros(self.rows());
        }
        let mut parts = vec![zeros(distance)];
        if distance < length {
            parts.push(x.clone().narrow(1, 0, length - distance));
        }
        if self.ends > 0 {
            let last = x.clone().narrow(1, length - distance, 1);
            parts.push(last.expand([t, self.ends, c]));
        }
        Tensor::cat(parts, 1)
    }

    /// Hides from each row what comes later and the other ends: `[1, 1, rows, rows]`, for attention.
    pub fn hidden<B: Backend>(self, device: &B::Device) -> Tensor<B, 4, Bool> {
        let rows = self.rows();
        let shape = [1, 1, rows, rows];
        let numbers = Tensor::<B, 1, Int>::arange(0..rows as i64, device);
        let reader = numbers.clone().reshape([1, 1, rows, 1]).expand(shape);
        let read = numbers.reshape([1, 1, 1, rows]).expand(shape);
        let later = read.clone().greater(reader.clone());
        let other_end = read
            .clone()
            .not_equal(reader)
            .bool_and(read.greater_equal_elem(self.length as i64));
        later.bool_or(other_end)
    }
}

/// `y_i = x_i W + x_{i − r} V + b`: a causal convolution with a kernel of 2 and dilation `r`.
#[derive(Module, Debug)]
pub struct CausalConv<B: Backend> {
    /// `W`, `[1|t, c, o]`, and `b`.
    pub now: Linear<B>,
    /// `V`, `[1|t, c, o]`.
    pub before: Param<Tensor<B, 3>>,
    #[module(skip)]
    dilation: usize,
}

impl<B: Backend> CausalConv<B> {
    /// Glorot-uniform weights, zero bias.
    pub fn new(
        inputs: usize,
        outputs: usize,
        dilation: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let mut weight =
            || initializer.glorot([1, inputs, outputs], 2 * inputs, 2 * outputs, device);
        CausalConv {
            now: Linear {
                weight: weight(),
                bias: constant(0.0, [1, 1, outputs], device),
            },
            before: weight(),
            dilation,
        }
    }
}

impl<B: Primitives> CausalConv<B> {
    /// `x [t, rows, c]` to `[t, rows, o]`.
    pub fn forward(&self, x: Tensor<B, 3>, timeline: Timeline) -> Tensor<B, 3> {
        let steps = x.clone().narrow(1, 0, timeline.length);
        let before = linear(steps, self.before.val());
        self.now.forward(x) + timeline.before(before, self.dilation)
    }
}

/// `[x ; tanh(f(x)) ⊙ σ(g(x))]`, `f` and `g` causal convolutions: a gated layer whose output is added
/// to the channels (Mishra et al., ICLR 2018, section 3; the gate of van den Oord et al., 2016).
#[derive(Module, Debug)]
pub struct DenseBlock<B: Backend> {
    /// `f` and `g`, one beside the other.
    conv: CausalConv<B>,
}

impl<B: Backend> DenseBlock<B> {
    /// A block that adds `filters` channels.
    pub fn new(
        inputs: usize,
        filters: usize,
        dilation: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        DenseBlock {
            conv: CausalConv::new(inputs, 2 * filters, dilation, initializer, device),
        }
    }
}

impl<B: Primitives> DenseBlock<B> {
    /// `x [t, rows, c]` to `[t, rows, c + filters]`.
    pub fn forward(&self, x: Tensor<B, 3>, timeline: Timeline) -> Tensor<B, 3> {
        let both = self.conv.forward(x.clone(), timeline);
        gated(x, both)
    }
}

/// Dense blocks of dilations 1, 2, 4, …, as many as let the last step see the first (Mishra et al.,
/// ICLR 2018, section 3).
#[derive(Module, Debug)]
pub struct TcBlock<B: Backend> {
    blocks: Vec<DenseBlock<B>>,
}

impl<B: Backend> TcBlock<B> {
    /// Blocks for sequences of `length` steps, `⌈log₂ length⌉` of them.
    pub fn new(
        inputs: usize,
        filters: usize,
        length: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let block = |level: usize| {
            let inputs = inputs + level * filters;
            DenseBlock::new(inputs, filters, 1 << level, initializer, device)
        };
        TcBlock {
            blocks: (0..Self::levels(length)).map(block).collect(),
        }
    }

    fn levels(length: usize) -> usize {
        length.next_power_of_two().ilog2() as usize
    }

    /// Channels of the result.
    pub fn width(inputs: usize, filters: usize, length: usize) -> usize {
        inputs + Self::levels(length) * filters
    }
}

impl<B: Primitives> DenseBlock<B> {
    /// One step: `x [t, b, c]`, and what was `dilation` steps before it, to `[t, b, c + filters]`.
    fn step(&self, x: Tensor<B, 3>, before: Tensor<B, 3>) -> Tensor<B, 3> {
        let before = linear(before, self.conv.before.val());
        gated(x.clone(), self.conv.now.forward(x) + before)
    }
}

/// `[x ; tanh(f) ⊙ σ(g)]`, `both = [f ; g]`.
fn gated<B: Primitives>(x: Tensor<B, 3>, both: Tensor<B, 3>) -> Tensor<B, 3> {
    let filters = both.dims()[2] / 2;
    let value = tanh(columns(both.clone(), 0, filters));
    let gate = sigmoid(columns(both, filters, filters));
    join(x, value * gate)
}

impl<B: Primitives> TcBlock<B> {
    /// One step, `[t, b, c]`: as [`TcBlock::forward`] at the last step of a sequence. `before` is asked, dense
    /// block after dense block, for what the block read so many steps ago (zeros where there was no step); it
    /// is given what the block reads now.
    pub fn step(
        &self,
        x: Tensor<B, 3>,
        mut before: impl FnMut(usize, usize, &Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        let blocks = self.blocks.iter().enumerate();
        blocks.fold(x, |x, (place, block)| {
            let before = before(place, block.conv.dilation, &x);
            block.step(x, before)
        })
    }

    /// `x [t, rows, c]` to `[t, rows, c + ⌈log₂ length⌉·filters]`.
    pub fn forward(&self, x: Tensor<B, 3>, timeline: Timeline) -> Tensor<B, 3> {
        self.blocks
            .iter()
            .fold(x, |x, block| block.forward(x, timeline))
    }
}

/// Which steps a convolution sees, counted from its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first of them; below 0 for one that came before.
    pub first: isize,
    /// How many they are.
    pub kernel: usize,
    /// How far one is from the next.
    pub dilation: usize,
}

impl Window {
    /// As many steps before as behind, or one more behind.
    pub fn centred(kernel: usize) -> Self {
        Window {
            first: -((kernel.saturating_sub(1) / 2) as isize),
            kernel,
            dilation: 1,
        }
    }

    /// The step itself and those before it.
    pub fn causal(kernel: usize, dilation: usize) -> Self {
        let before = kernel.saturating_sub(1).saturating_mul(dilation);
        Window {
            first: -(before as isize),
            kernel,
            dilation,
        }
    }

    /// What each step sees, side by side: items of `length` steps, `x [t, b·l, c]` to `[t, b·l, kernel·c]`, with
    /// zeros before the first step and behind the last.
    ///
    /// # Panics
    /// When the length does not divide the rows.
    pub fn seen<B: Backend>(self, x: Tensor<B, 3>, length: usize) -> Tensor<B, 3> {
        let [t, rows, c] = x.dims();
        assert_eq!(rows % length, 0, "{rows} rows, items of {length} steps");
        let items = x.reshape([t, rows / length, length, c]);
        let steps = (0..self.kernel).map(|place| {
            let by = self.first + (place * self.dilation) as isize;
            shifted(items.clone(), by)
        });
        let seen = Tensor::cat(steps.collect(), 3);
        seen.reshape([t, rows, self.kernel * c])
    }
}

/// What is `by` steps behind each step of items `[t, b, l, c]`; zeros where there is none.
fn shifted<B: Backend>(items: Tensor<B, 4>, by: isize) -> Tensor<B, 4> {
    let [t, b, length, c] = items.dims();
    let distance = by.unsigned_abs().min(length);
    if distance == 0 {
        return items;
    }
    let shape = [t, b, distance, c];
    let zeros = Tensor::<B, 4>::zeros(shape, &items.device()).cast(items.dtype());
    if distance == length {
        return zeros;
    }
    let first = if by > 0 { distance } else { 0 };
    let kept = items.narrow(2, first, length - distance);
    let parts = if by > 0 {
        vec![kept, zeros]
    } else {
        vec![zeros, kept]
    };
    Tensor::cat(parts, 2)
}

/// `y_i = Σ_j x_{i + first + j·dilation} W_j`: a convolution along the steps of items, without bias: the
/// normalisation that follows has one.
#[derive(Module, Debug)]
pub struct StepConv<B: Backend> {
    /// `W`, `[1|t, kernel·c, o]`.
    pub weight: Param<Tensor<B, 3>>,
    #[module(skip)]
    window: Window,
}

impl<B: Backend> StepConv<B> {
    /// He-normal weights.
    pub fn he(
        [inputs, outputs]: [usize; 2],
        window: Window,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let seen = window.kernel * inputs;
        StepConv {
            weight: initializer.he([1, seen, outputs], seen, device),
            window,
        }
    }
}

impl<B: Primitives> StepConv<B> {
    /// Items of `length` steps, `x [t, b·l, c]` to `[t, b·l, o]`.
    ///
    /// # Panics
    /// When the length does not divide the rows.
    pub fn forward(&self, x: Tensor<B, 3>, length: usize) -> Tensor<B, 3> {
        linear(self.window.seen(x, length), self.weight.val())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Cpu, rng::Seed};
    use burn::tensor::TensorData;

    type B = Cpu;

    fn random(shape: [usize; 3]) -> Tensor<B, 3> {
        let mut stream = Seed(0).stream("temporal", 0, "x");
        let values = (0..shape.iter().product()).map(|_| stream.normal() as f32);
        let data = TensorData::new(values.collect::<Vec<f32>>(), shape);
        Tensor::from_data(data, &Default::default())
    }

    fn values(x: Tensor<B, 3>) -> Vec<f32> {
        x.into_data().to_vec().expect("f32")
    }

    #[test]
    fn rows_before_the_first_are_zero() {
        let x = Tensor::<B, 3>::from_data([[[1.0], [2.0], [3.0]]], &Default::default());
        let timeline = Timeline { length: 3, ends: 2 };
        let before = |distance| values(timeline.before(x.clone(), distance));
        assert_eq!(before(1), [0.0, 1.0, 2.0, 3.0, 3.0]);
        assert_eq!(before(2), [0.0, 0.0, 1.0, 2.0, 2.0]);
        assert_eq!(before(3), [0.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!(before(4), [0.0; 5]);
    }

    /// Two items of three steps: windows end with their item.
    #[test]
    fn windows_see_steps_of_their_item() {
        let x = Tensor::<B, 1>::from_floats([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &Default::default());
        let x = x.reshape([1, 6, 1]);
        let seen = |window: Window| values(window.seen(x.clone(), 3));
        assert_eq!(
            seen(Window::centred(3)),
            [
                0.0, 1.0, 2.0, 1.0, 2.0, 3.0, 2.0, 3.0, 0.0, 0.0, 4.0, 5.0, 4.0, 5.0, 6.0, 5.0,
                6.0, 0.0
            ]
        );
        assert_eq!(
            seen(Window::centred(2)),
            [1.0, 2.0, 2.0, 3.0, 3.0, 0.0, 4.0, 5.0, 5.0, 6.0, 6.0, 0.0]
        );
        assert_eq!(
            seen(Window::causal(2, 2)),
            [0.0, 1.0, 0.0, 2.0, 1.0, 3.0, 0.0, 4.0, 0.0, 5.0, 4.0, 6.0]
        );
        assert_eq!(seen(Window::causal(2, 9))[0..2], [0.0, 1.0]);
    }

    #[test]
    fn an_end_sees_the_sequence_and_itself() {
        let timeline = Timeline { length: 2, ends: 2 };
        let hidden = timeline.hidden::<B>(&Default::default()).into_data();
        let expected = [
            [false, true, true, true],
            [false, false, true, true],
            [false, false, false, true],
            [false, false, true, false],
        ];
        assert_eq!(hidden.iter::<bool>().collect::<Vec<_>>(), expected.concat());
    }

    /// Several ends in one pass are what each would be as the last step of a sequence of its own.
    #[test]
    fn ends_equal_sequences_one_by_one() {
        let device = Default::default();
        let (length, ends) = (5, 3);
        let block = TcBlock::new(2, 3, 6, &mut Initializer::seeded(Seed(1)), &device);
        let x = random([2, length + ends, 2]);
        let together = block.forward(x.clone(), Timeline { length, ends });
        assert_eq!(
            together.dims(),
            [2, length + ends, TcBlock::<B>::width(2, 3, 6)]
        );
        for end in 0..ends {
            let steps = x.clone().narrow(1, 0, length);
            let last = x.clone().narrow(1, length + end, 1);
            let sequence = Tensor::cat(vec![steps, last], 1);
            let alone = block.forward(
                sequence,
                Timeline {
                    length: length + 1,
                    ends: 0,
                },
            );
            let found = values(together.clone().narrow(1, length + end, 1));
            for (found, expected) in found.iter().zip(values(alone.narrow(1, length, 1))) {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
    }

    /// The last of 8 steps sees all of them; no step sees a later one.
    #[test]
    fn a_block_sees_its_past_and_all_of_it() {
        let device = Default::default();
        let block = TcBlock::new(1, 2, 8, &mut Initializer::seeded(Seed(1)), &device);
        let timeline = Timeline { length: 8, ends: 0 };
        let x = random([1, 8, 1]);
        let plain = block.forward(x.clone(), timeline);
        for changed in 0..8 {
            let mut data: Vec<f32> = values(x.clone());
            data[changed] += 1.0;
            let moved = Tensor::<B, 1>::from_data(data.as_slice(), &device).reshape([1, 8, 1]);
            let difference = (block.forward(moved, timeline) - plain.clone())
                .abs()
                .sum_dim(2);
            for (step, difference) in values(difference).into_iter().enumerate() {
                if step < changed {
                    assert_eq!(difference, 0.0, "{changed} at {step}");
                } else if step == 7 || step == changed {
                    assert!(difference > 0.0);
                }
            }
        }
    }
}
