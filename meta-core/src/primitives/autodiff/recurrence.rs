//! Recurrences on an autodiff level.
//!
//! The level below computes the hidden states of every step, tracked there where it tracks anything: the
//! gradient along the weight is a product with them, so that what it adds to a derivative of higher order
//! flows through them.

use burn::tensor::{Tensor, TensorMetadata, backend::AutodiffBackend, ops::FloatTensor};
use burn_autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};

use super::super::{
    Primitives, Recurrence, RecurrenceGradient, RecurrenceInputs, RecurrenceRun, RecurrentCell,
    portable,
};
use super::record;
use crate::primitives::{primitive, tensor};

/// Node of [`Primitives::recur`].
#[derive(Debug)]
struct Recur;

impl<B: Primitives> Backward<B, 3> for Recur {
    type State = (Recurrence, RecurrenceRun<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (form, run) = ops.state;
        let g = grads.consume::<B>(&ops.node);
        let [of_z, of_u, of_start] = ops.parents;
        let gradient = B::recur_adjoint(&form, run.clone(), g, of_start.is_some(), false);
        if let Some(u) = of_u {
            let before = portable::before::<B>(&form, run.states, run.inputs.start);
            let along = portable::along_weight::<B>(&form, before, gradient.of_products(), true);
            grads.register::<B>(u.id, along);
        }
        if let Some((parent, along)) = of_start.zip(gradient.start) {
            grads.register::<B>(parent.id, along);
        }
        if let Some(z) = of_z {
            grads.register::<B>(z.id, gradient.z);
        }
    }
}

/// Node of [`Primitives::recur_adjoint`].
#[derive(Debug)]
struct Adjoint;

impl<B: Primitives> Backward<B, 5> for Adjoint {
    /// Sizes, what ran, the gradient along what was shown, and what the adjoint made of it.
    type State = (
        Recurrence,
        RecurrenceRun<FloatTensor<B>>,
        FloatTensor<B>,
        RecurrenceGradient<FloatTensor<B>>,
    );

    fn backward(self, ops: Ops<Self::State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (form, run, g, gradient) = ops.state;
        let direction = grads.consume::<B>(&ops.node);
        let direction = split::<B>(&form, direction, gradient.start.is_some());
        let curvature =
            B::recur_curvature(&form, run.clone(), g, gradient.clone(), direction.clone());
        let along =
            portable::adjoint_derivatives::<B>(&form, &run, &gradient, &direction, curvature);
        let parts = [along.z, along.u, along.start, along.states, along.g];
        for (parent, along) in ops.parents.into_iter().zip(parts) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, along);
            }
        }
    }
}

/// The parts of a gradient as one tensor, since a node has one output: one part as it is, more of them end
/// to end.
fn join<B: Primitives>(gradient: &RecurrenceGradient<FloatTensor<B>>) -> FloatTensor<B> {
    let others = [&gradient.products, &gradient.start];
    let others: Vec<_> = others.into_iter().flatten().cloned().collect();
    if others.is_empty() {
        return gradient.z.clone();
    }
    let parts = std::iter::once(gradient.z.clone()).chain(others);
    let flat = parts.map(|part| {
        let numbers = part.shape().num_elements();
        tensor::<B, 3>(part).reshape([numbers])
    });
    primitive(Tensor::<B, 1>::cat(flat.collect(), 0))
}

/// The parts of a [`join`]ed gradient.
fn split<B: Primitives>(
    form: &Recurrence,
    joined: FloatTensor<B>,
    with_start: bool,
) -> RecurrenceGradient<FloatTensor<B>> {
    let with_products = form.cell == RecurrentCell::Gru;
    let mut gradient = RecurrenceGradient {
        z: joined.clone(),
        products: None,
        start: None,
        kept: None,
    };
    if with_products || with_start {
        let of_steps = [form.tasks, form.items * form.steps, form.gates_width()];
        let of_start = [form.tasks, form.items, form.state_width()];
        let joined = tensor::<B, 1>(joined);
        let mut taken = 0;
        let mut take = |shape: [usize; 3]| {
            let numbers = shape.iter().product();
            taken += numbers;
            primitive(
                joined
                    .clone()
                    .narrow(0, taken - numbers, numbers)
                    .reshape(shape),
            )
        };
        gradient.z = take(of_steps);
        gradient.products = with_products.then(|| take(of_steps));
        gradient.start = with_start.then(|| take(of_start));
    }
    gradient
}

/// A tensor of the level.
type Tracked<B, C> = FloatTensor<Autodiff<B, C>>;

/// See [`Primitives::recur`].
pub(super) fn recur<B: Primitives, C: CheckpointStrategy>(
    form: &Recurrence,
    inputs: RecurrenceInputs<FloatTensor<Autodiff<B, C>>>,
    keep: bool,
) -> (Tracked<B, C>, Option<Tracked<B, C>>) {
    let RecurrenceInputs { z, u, start, mask } = inputs;
    let tracked = z.is_tracked() || u.is_tracked() || start.is_tracked();
    let inner = RecurrenceInputs {
        z: z.primitive,
        u: u.primitive,
        start: start.primitive,
        mask: mask.map(|mask| mask.primitive),
    };
    let constant = |kept| <Autodiff<B, C> as AutodiffBackend>::from_inner(kept);
    if !tracked {
        let (shown, kept) = B::recur(form, inner, keep);
        return (constant(shown), kept.map(constant));
    }
    let (states, kept) = B::recur(&form.whole(), inner.clone(), true);
    let shown = portable::shown::<B>(form, states.clone());
    let output = record!(Recur, [z.node, u.node, start.node], shown, |_| {
        let run = RecurrenceRun {
            inputs: inner,
            states,
            kept: kept.clone(),
        };
        (*form, run)
    });
    (output, kept.filter(|_| keep).map(constant))
}

/// See [`Primitives::recur_adjoint`].
pub(super) fn recur_adjoint<B: Primitives, C: CheckpointStrategy>(
    form: &Recurrence,
    run: RecurrenceRun<FloatTensor<Autodiff<B, C>>>,
    g: FloatTensor<Autodiff<B, C>>,
    along_start: bool,
) -> RecurrenceGradient<FloatTensor<Autodiff<B, C>>> {
    let RecurrenceInputs { z, u, start, mask } = run.inputs;
    let operands = [&z, &u, &start, &run.states, &g];
    let tracked = operands.iter().any(|operand| operand.is_tracked());
    let inner = RecurrenceRun {
        inputs: RecurrenceInputs {
            z: z.primitive,
            u: u.primitive,
            start: start.primitive,
            mask: mask.map(|mask| mask.primitive),
        },
        states: run.states.primitive,
        kept: run.kept.map(|kept| kept.primitive),
    };
    let of_g = g.primitive.clone();
    let gradient = B::recur_adjoint(form, inner.clone(), g.primitive, along_start, tracked);
    let nodes = [z.node, u.node, start.node, run.states.node, g.node];
    let [of_z, of_u, of_start, of_states, of_given] = nodes;
    let joined = join::<B>(&gradient);
    let joined = record!(
        Adjoint,
        [of_z, of_u, of_start, of_states, of_given],
        joined,
        |_| (*form, inner, of_g, gradient)
    );
    split::<Autodiff<B, C>>(form, joined, along_start)
}
