//! What a primitive computes, apart from how: trilinear forms, linear maps and their shapes.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorMetadata, TensorPrimitive, backend::Backend, ops::FloatTensor};

pub use meta_kernels::{
    Conv2dForm, LinearForm, PairsForm, Pooling, Recurrence, RecurrentCell, Shown,
};

/// One of the three operands of a trilinear form `⟨y, F(x, w)⟩`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `x`, the input (and its adjoint).
    Input,
    /// `w`, the weight (and its adjoint).
    Weight,
    /// `y`, the output (and its cotangent).
    Output,
}

impl Role {
    /// The two roles that are given where this one is wanted, in the order input, weight, output.
    pub fn others(self) -> (Role, Role) {
        match self {
            Role::Output => (Role::Input, Role::Weight),
            Role::Input => (Role::Weight, Role::Output),
            Role::Weight => (Role::Input, Role::Output),
        }
    }
}

/// A map that is linear in its input and in its weight, with all its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrilinearForm {
    /// Matrix product per task.
    Linear(LinearForm),
    /// Two-dimensional cross-correlation per task.
    Conv2d(Conv2dForm),
    /// Multiplication by one number per channel and task.
    Scale(ScaleForm),
    /// Products of the heads of pairs of tokens: the scores and the reads of attention.
    Pairs(PairsForm),
}

impl TrilinearForm {
    /// The same form with a weight for `weight_tasks` tasks.
    pub(crate) fn with_weight_tasks(mut self, weight_tasks: usize) -> Self {
        match &mut self {
            TrilinearForm::Linear(form) => form.weight_tasks = weight_tasks,
            TrilinearForm::Conv2d(form) => form.weight_tasks = weight_tasks,
            TrilinearForm::Scale(form) => form.weight_tasks = weight_tasks,
            TrilinearForm::Pairs(_) => {}
        }
        self
    }

    /// Shape of the operand in `role`.
    pub fn shape(&self, role: Role) -> Vec<usize> {
        match (self, role) {
            (TrilinearForm::Linear(f), Role::Input) => vec![f.tasks, f.items, f.inputs],
            (TrilinearForm::Linear(f), Role::Weight) => vec![f.weight_tasks, f.inputs, f.outputs],
            (TrilinearForm::Linear(f), Role::Output) => vec![f.tasks, f.items, f.outputs],
            (TrilinearForm::Conv2d(f), Role::Input) => {
                vec![f.tasks, f.items, f.height, f.width, f.in_channels]
            }
            (TrilinearForm::Conv2d(f), Role::Weight) => {
                vec![
                    f.weight_tasks,
                    f.kernel * f.kernel,
                    f.in_channels,
                    f.out_channels,
                ]
            }
            (TrilinearForm::Conv2d(f), Role::Output) => vec![
                f.tasks,
                f.items,
                f.out_height(),
                f.out_width(),
                f.out_channels,
            ],
            (TrilinearForm::Scale(f), Role::Weight) => vec![f.weight_tasks, 1, f.channels],
            (TrilinearForm::Scale(f), _) => vec![f.tasks, f.rows, f.channels],
            (TrilinearForm::Pairs(f), Role::Output) => {
                vec![f.sequences, f.heads, f.queries, f.keys]
            }
            (TrilinearForm::Pairs(f), role) => {
                let length = match role {
                    Role::Input => f.queries,
                    _ => f.keys,
                };
                vec![f.tasks, f.sequences / f.tasks * length, f.heads * f.width]
            }
        }
    }
}

/// Sizes of `y = a ⊙ x`: `x [tasks, rows, channels]`, `a [weight_tasks, 1, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleForm {
    /// Tasks `t`.
    pub tasks: usize,
    /// Tasks of the factors: 1 (shared) or `t`.
    pub weight_tasks: usize,
    /// Rows `r`: items, or items times positions.
    pub rows: usize,
    /// Channels `c`.
    pub channels: usize,
}

/// What follows an affine map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `max(·, 0)`.
    Relu,
}

/// What the direction of Adam is computed with: `c₁ m / (√(c₂ v + ε') + ε)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamCorrections {
    /// `c₁`, of the average of the gradients.
    pub first: f64,
    /// `c₂`, of that of their squares.
    pub second: f64,
    /// `ε`.
    pub epsilon: f64,
    /// `ε'`, under the root.
    pub epsilon_root: f64,
}

/// What a standardisation followed by pooling found at its input, and what its derivatives need; `I`
/// is the backend's tensor of integers.
#[derive(Clone, Debug)]
pub struct Winners<I> {
    /// Sizes; its items are those of all tasks.
    pub pooling: Pooling,
    /// Tasks `t`.
    pub tasks: usize,
    /// `ε` of the standardisation.
    pub epsilon: f64,
    /// Position of each winner in its plane, `[n, h', w', c]`.
    pub index: I,
    /// Mean and `1/√(σ² + ε)` of every task and channel, where the backend keeps them.
    pub moments: Option<Arc<[[f64; 2]]>>,
}

impl<I: Clone> Winners<I> {
    /// Shape of `x`, `[t, b, h, w, c]`.
    pub fn full_shape(&self) -> Vec<usize> {
        self.shape(self.pooling.height, self.pooling.width)
    }

    /// Shape of `p`, `[t, b, h', w', c]`.
    pub fn pooled_shape(&self) -> Vec<usize> {
        self.shape(self.pooling.out_height(), self.pooling.out_width())
    }

    fn shape(&self, height: usize, width: usize) -> Vec<usize> {
        let items = self.pooling.items / self.tasks;
        vec![self.tasks, items, height, width, self.pooling.channels]
    }

    /// The selection of the winners.
    pub fn select(&self) -> LinearMap<I> {
        LinearMap::Select {
            pooling: self.pooling,
            index: self.index.clone(),
        }
    }
}

/// A linear map and, with it, its adjoint; `I` is the backend's tensor of integers.
#[derive(Clone, Debug)]
pub enum LinearMap<I> {
    /// `[source_tasks, 1, channels]` repeated to `[tasks, rows, channels]`; the adjoint sums rows
    /// (and tasks, where `source_tasks` is 1).
    BroadcastRows {
        /// Tasks of the result.
        tasks: usize,
        /// Tasks of the source: 1 or `tasks`.
        source_tasks: usize,
        /// Rows of the result.
        rows: usize,
        /// Channels.
        channels: usize,
    },
    /// The winners of a pooling, taken from `[n, h, w, c]` to `[n, h', w', c]`; the adjoint puts them
    /// back, zero elsewhere.
    Select {
        /// Sizes.
        pooling: Pooling,
        /// Position of each winner in its plane, `[n, h', w', c]`.
        index: I,
    },
    /// Columns `start..start + count` of `[t, r, width]`, as `[t, r, count]`; the adjoint puts them back,
    /// zero elsewhere.
    Columns {
        /// Columns of the source.
        width: usize,
        /// The first that is taken.
        start: usize,
        /// How many are.
        count: usize,
    },
}

/// The operands of a recurrence; `F` is the backend's tensor of floats.
#[derive(Clone, Debug)]
pub struct RecurrenceInputs<F> {
    /// What is read, multiplied by its weight: `[t, b·l, gates·h]`.
    pub z: F,
    /// The weight of the state, `[1|t, h, 4h]`, or `[1|t, h + 1, 3h]` with a row of biases.
    pub u: F,
    /// The state before the first step: `[t, b, h]`, after the hidden state the cell, `[t, b, 2h]`.
    pub start: F,
    /// 0 at the steps that leave the state as it is, else 1: `[t, b·l, 1]`, a constant.
    pub mask: Option<F>,
}

/// A recurrence that has run: all that its derivatives are written with.
#[derive(Clone, Debug)]
pub struct RecurrenceRun<F> {
    /// Its operands.
    pub inputs: RecurrenceInputs<F>,
    /// What [`Recurrence::whole`] shows: the hidden state after every step, `[t, b·slots, h]`.
    pub states: F,
    /// What the backend kept for its derivatives, in an order of its own; a constant.
    pub kept: Option<F>,
}

/// The gradients of a scalar along the operands of a recurrence; that along the weight follows from
/// [`RecurrenceGradient::products`].
#[derive(Clone, Debug)]
pub struct RecurrenceGradient<F> {
    /// Along `z`, `[t, b·l, gates·h]`.
    pub z: F,
    /// Along the products of states and weight, alike; none where it is that along `z` (LSTM).
    pub products: Option<F>,
    /// Along the state before the first step; none where it was not asked for.
    pub start: Option<F>,
    /// What the backend kept for the derivative of the gradient, in an order of its own; a constant.
    pub kept: Option<F>,
}

impl<F: Clone> RecurrenceGradient<F> {
    /// Along the products of states and weight.
    pub fn of_products(&self) -> F {
        self.products.as_ref().unwrap_or(&self.z).clone()
    }
}

/// The derivatives of `⟨direction, gradient⟩` of a recurrence.
#[derive(Clone, Debug)]
pub struct RecurrenceCurvature<F> {
    /// Along `z`, `[t, b·l, gates·h]`.
    pub z: F,
    /// Along the products of states and weight, alike; none where it is that along `z` (LSTM).
    pub products: Option<F>,
    /// Along the hidden state before every step, past the weight, `[t, b·l, h]` (GRU).
    pub before: Option<F>,
    /// Along the gradient of the hidden state after every step, `[t, b·l, h]`: its tangent.
    pub hidden: F,
    /// Along the cell before the first step, and along the gradient of that after the last (LSTM):
    /// `[t, b, 2h]`.
    pub cells: Option<F>,
}

/// Wraps a primitive as a tensor of rank `D`, which must be its rank.
pub(crate) fn tensor<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    debug_assert_eq!(primitive.rank(), D);
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// The primitive of a float tensor.
pub(crate) fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}
