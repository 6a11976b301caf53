//! The primitives on `Autodiff<B>`: each records one node whose backward pass calls primitives of
//! `B`. Where `B` is itself an autodiff level, those calls are recorded there in turn, which is all
//! that higher orders need.

mod recurrence;

use burn::tensor::{
    TensorMetadata,
    ops::{FloatTensor, IntTensor},
};
use burn_autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind, binary, unary},
};

use super::{
    Activation, LinearMap, Pooling, Primitives, Recurrence, RecurrenceGradient, RecurrenceInputs,
    RecurrenceRun, Role, TrilinearForm, Winners,
};

/// The `wanted` operand from two others given in any order.
fn contract_of<B: Primitives>(
    form: &TrilinearForm,
    wanted: Role,
    first: (Role, FloatTensor<B>),
    second: (Role, FloatTensor<B>),
) -> FloatTensor<B> {
    let (left, right) = match wanted.others() {
        others if others == (first.0, second.0) => (first.1, second.1),
        others => {
            debug_assert_eq!(others, (second.0, first.0));
            (second.1, first.1)
        }
    };
    B::contract(form, wanted, left, right)
}

/// Node of [`Primitives::tie`]: a child of leaves, of which nothing is computed.
#[derive(Debug)]
struct Knot;

impl<B: Primitives, const N: usize> Backward<B, N> for Knot {
    type State = ();

    fn backward(self, _: Ops<(), N>, _: &mut Gradients, _: &mut Checkpointer) {
        unreachable!("a knot has no descendant");
    }
}

/// A node with `N` parents: the leaves, and the last one again for those that are left.
fn knot<B: Primitives, C: CheckpointStrategy, const N: usize>(
    leaves: &[FloatTensor<Autodiff<B, C>>],
) {
    let nodes = std::array::from_fn(|parent| leaves[parent.min(leaves.len() - 1)].node.clone());
    let prepared = Backward::<B, N>::prepare::<C>(Knot, nodes).compute_bound();
    prepared.stateless(leaves[0].primitive.clone());
}

/// Node of [`Primitives::contract`]: the adjoint for either operand is another role of the form.
#[derive(Debug)]
struct Contract;

impl<B: Primitives> Backward<B, 2> for Contract {
    /// Form, role of the output, and each operand where the other one is tracked.
    type State = (
        TrilinearForm,
        Role,
        Option<FloatTensor<B>>,
        Option<FloatTensor<B>>,
    );

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (form, role, left, right) = ops.state;
        let (left_role, right_role) = role.others();
        binary::<B, _, _>(
            ops.parents,
            ops.node,
            grads,
            |g| {
                let right = right.expect("kept for a tracked left operand");
                contract_of::<B>(&form, left_role, (role, g), (right_role, right))
            },
            |g| {
                let left = left.expect("kept for a tracked right operand");
                contract_of::<B>(&form, right_role, (role, g), (left_role, left))
            },
        );
    }
}

/// Node of a linear map or its adjoint.
#[derive(Debug)]
struct Map;

impl<B: Primitives> Backward<B, 1> for Map {
    /// The map, and whether the node computed its adjoint.
    type State = (LinearMap<IntTensor<B>>, bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (map, adjoint) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |g| {
            if adjoint {
                B::map_linear(&map, g)
            } else {
                B::map_adjoint(&map, g)
            }
        });
    }
}

/// Node of [`Primitives::add_rows`].
#[derive(Debug)]
struct AddRows;

impl<B: Primitives> Backward<B, 2> for AddRows {
    type State = LinearMap<IntTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let map = ops.state;
        binary::<B, _, _>(
            ops.parents,
            ops.node,
            grads,
            |g| g,
            |g| B::map_adjoint(&map, g),
        );
    }
}

/// Node of [`Primitives::standardize_pool`].
#[derive(Debug)]
struct StandardizePool;

impl<B: Primitives> Backward<B, 1> for StandardizePool {
    /// Winners, `x`, `p`.
    type State = (Winners<IntTensor<B>>, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (winners, x, p) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |h| {
            B::standardize_pool_adjoint(&winners, x, p, h)
        });
    }
}

/// Node of [`Primitives::standardize_pool_adjoint`].
#[derive(Debug)]
struct StandardizePoolAdjoint;

impl<B: Primitives> Backward<B, 2> for StandardizePoolAdjoint {
    /// Winners, `x`, `p`, `h`.
    type State = (
        Winners<IntTensor<B>>,
        FloatTensor<B>,
        FloatTensor<B>,
        FloatTensor<B>,
    );

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (winners, x, p, h) = ops.state;
        let u = grads.consume::<B>(&ops.node);
        let (along_x, along_h) = B::standardize_pool_curvature(&winners, x, p, h, u);
        for (parent, along) in ops.parents.into_iter().zip([along_x, along_h]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, along);
            }
        }
    }
}

/// Node of [`Primitives::bias_relu`].
#[derive(Debug)]
struct BiasRelu;

impl<B: Primitives> Backward<B, 2> for BiasRelu {
    /// The map and the output.
    type State = (LinearMap<IntTensor<B>>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (map, y) = ops.state;
        let gated = B::gate(y, grads.consume::<B>(&ops.node));
        let [x, b] = ops.parents;
        if let Some(b) = b {
            grads.register::<B>(b.id, B::map_adjoint(&map, gated.clone()));
        }
        if let Some(x) = x {
            grads.register::<B>(x.id, gated);
        }
    }
}

/// Node of [`Primitives::affine`].
#[derive(Debug)]
struct Affine;

impl<B: Primitives> Backward<B, 3> for Affine {
    /// Form, map, the output where a ReLU gates it, the input where the weight is tracked, the weight
    /// where the input is.
    type State = (
        TrilinearForm,
        LinearMap<IntTensor<B>>,
        Option<FloatTensor<B>>,
        Option<FloatTensor<B>>,
        Option<FloatTensor<B>>,
    );

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (form, map, y, x, w) = ops.state;
        let g = grads.consume::<B>(&ops.node);
        let g = match y {
            Some(y) => B::gate(y, g),
            None => g,
        };
        let [of_x, of_w, of_b] = ops.parents;
        if let Some(b) = of_b {
            grads.register::<B>(b.id, B::map_adjoint(&map, g.clone()));
        }
        if let Some(parent) = of_w {
            let x = x.expect("kept for a tracked weight");
            grads.register::<B>(parent.id, B::contract(&form, Role::Weight, x, g.clone()));
        }
        if let Some(parent) = of_x {
            let w = w.expect("kept for a tracked input");
            grads.register::<B>(parent.id, B::contract(&form, Role::Input, w, g));
        }
    }
}

/// An operation whose Jacobian `J` is symmetric: its adjoint is `J` itself, and so is the adjoint's own in
/// `g`. `point` is what `J` is written with: the input, or the output of a softmax.
trait Symmetric: Clone + Send + std::fmt::Debug + 'static {
    /// `J g`.
    fn adjoint<B: Primitives>(
        point: FloatTensor<B>,
        g: FloatTensor<B>,
        constant: f64,
    ) -> FloatTensor<B>;

    /// The derivative of `⟨u, J g⟩` in the point.
    fn curvature<B: Primitives>(
        point: FloatTensor<B>,
        g: FloatTensor<B>,
        u: FloatTensor<B>,
        constant: f64,
    ) -> FloatTensor<B>;
}

/// Declares operations with a symmetric Jacobian by their primitives.
macro_rules! symmetric {
    ($($name:ident: $adjoint:ident, $curvature:ident;)+) => {$(
        #[derive(Clone, Debug)]
        struct $name;

        impl Symmetric for $name {
            fn adjoint<B: Primitives>(
                point: FloatTensor<B>,
                g: FloatTensor<B>,
                constant: f64,
            ) -> FloatTensor<B> {
                B::$adjoint(point, g, constant)
            }

            fn curvature<B: Primitives>(
                point: FloatTensor<B>,
                g: FloatTensor<B>,
                u: FloatTensor<B>,
                constant: f64,
            ) -> FloatTensor<B> {
                B::$curvature(point, g, u, constant)
            }
        }
    )+};
}

symmetric! {
    Standardize: standardize_adjoint, standardize_curvature;
    LayerStandardize: layer_standardize_adjoint, layer_standardize_curvature;
    Softmax: scaled_softmax_adjoint, scaled_softmax_curvature;
    Tanh: tanh_adjoint, tanh_curvature;
}

/// Node of a [`Symmetric`] operation.
#[derive(Debug)]
struct Value<S>(S);

impl<B: Primitives, S: Symmetric> Backward<B, 1> for Value<S> {
    /// The point and the constant.
    type State = (FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (point, constant) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |g| {
            S::adjoint::<B>(point, g, constant)
        });
    }
}

/// Node of the adjoint of a [`Symmetric`] operation.
#[derive(Debug)]
struct Adjoint<S>(S);

impl<B: Primitives, S: Symmetric> Backward<B, 2> for Adjoint<S> {
    /// The point, `g` where the point is tracked, the constant.
    type State = (FloatTensor<B>, Option<FloatTensor<B>>, f64);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (point, g, constant) = ops.state;
        binary::<B, _, _>(
            ops.parents,
            ops.node,
            grads,
            |u| {
                let g = g.expect("kept for a tracked point");
                S::curvature::<B>(point.clone(), g, u, constant)
            },
            |u| S::adjoint::<B>(point.clone(), u, constant),
        );
    }
}

/// Node of [`Primitives::join`].
#[derive(Debug)]
struct Join;

impl<B: Primitives> Backward<B, 2> for Join {
    /// The columns of the two parents.
    type State = [usize; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [a, b] = ops.state;
        let columns = |start, count| LinearMap::Columns {
            width: a + b,
            start,
            count,
        };
        binary::<B, _, _>(
            ops.parents,
            ops.node,
            grads,
            |g| B::map_linear(&columns(0, a), g),
            |g| B::map_linear(&columns(a, b), g),
        );
    }
}

/// Node of [`Primitives::sgd_step`].
#[derive(Debug)]
struct Descend;

impl<B: Primitives> Backward<B, 2> for Descend {
    /// The rate.
    type State = f64;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let rate = ops.state;
        binary::<B, _, _>(
            ops.parents,
            ops.node,
            grads,
            |g| g,
            |g| B::float_mul_scalar(g, (-rate).into()),
        );
    }
}

/// Node of [`Primitives::gate`], its own adjoint.
#[derive(Debug)]
struct Gate;

impl<B: Primitives> Backward<B, 1> for Gate {
    /// What holds the gate.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let y = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |g| B::gate(y, g));
    }
}

/// Records a node on the tape of `C` with an output already computed, and with its state where a parent is
/// tracked. A macro, since Burn keeps the type of the parents to itself.
macro_rules! record {
    ($node:expr, [$($parent:expr),+], $output:expr, |$of:pat_param| $state:expr) => {{
        let output = $output;
        let prepared = Backward::<B, _>::prepare::<C>($node, [$($parent),+]);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let $of = &output;
                let state = $state;
                prepared.finish(state, output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }};
}
use record;

/// Records the adjoint of a [`Symmetric`] operation.
fn record_adjoint<S: Symmetric, B: Primitives, C: CheckpointStrategy>(
    operation: S,
    point: FloatTensor<Autodiff<B, C>>,
    g: FloatTensor<Autodiff<B, C>>,
    constant: f64,
) -> FloatTensor<Autodiff<B, C>> {
    let tracked = point.is_tracked();
    let nodes = (point.node, g.node);
    let (point, g) = (point.primitive, g.primitive);
    let output = S::adjoint::<B>(point.clone(), g.clone(), constant);
    record!(Adjoint(operation), [nodes.0, nodes.1], output, |_| {
        (point, tracked.then_some(g), constant)
    })
}

impl<B: Primitives, C: CheckpointStrategy> Primitives for Autodiff<B, C> {
    const ON_DEVICE: bool = B::ON_DEVICE;
    const ROUNDS_PRODUCTS: bool = B::ROUNDS_PRODUCTS;

    fn tie(leaves: &[FloatTensor<Self>]) {
        match leaves.len() {
            0 | 1 => {}
            2..=8 => knot::<B, C, 8>(leaves),
            9..=32 => knot::<B, C, 32>(leaves),
            33..=128 => knot::<B, C, 128>(leaves),
            129..=512 => knot::<B, C, 512>(leaves),
            count => {
                assert!(count <= 4096, "{count} parameter tensors, at most 4096");
                knot::<B, C, 4096>(leaves);
            }
        }
    }

    fn contract(
        form: &TrilinearForm,
        wanted: Role,
        left: FloatTensor<Self>,
        right: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (left_tracked, right_tracked) = (left.is_tracked(), right.is_tracked());
        let nodes = (left.node, right.node);
        let (left, right) = (left.primitive, right.primitive);
        let output = B::contract(form, wanted, left.clone(), right.clone());
        record!(Contract, [nodes.0, nodes.1], output, |_| {
            let left = right_tracked.then_some(left);
            (*form, wanted, left, left_tracked.then_some(right))
        })
    }

    fn map_linear(map: &LinearMap<IntTensor<Self>>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = B::map_linear(map, x.primitive);
        record!(Map, [x.node], output, |_| (map.clone(), false))
    }

    fn map_adjoint(map: &LinearMap<IntTensor<Self>>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = B::map_adjoint(map, y.primitive);
        record!(Map, [y.node], output, |_| (map.clone(), true))
    }

    fn add_rows(
        map: &LinearMap<IntTensor<Self>>,
        x: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let output = B::add_rows(map, x.primitive, b.primitive);
        record!(AddRows, [x.node, b.node], output, |_| map.clone())
    }

    fn max_pool(pooling: &Pooling, x: FloatTensor<Self>) -> (FloatTensor<Self>, IntTensor<Self>) {
        let (maxima, index) = B::max_pool(pooling, x.primitive);
        let select = LinearMap::Select {
            pooling: *pooling,
            index: index.clone(),
        };
        (record!(Map, [x.node], maxima, |_| (select, false)), index)
    }

    fn standardize(x: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        let output = B::standardize(x.primitive.clone(), epsilon);
        record!(Value(Standardize), [x.node], output, |_| {
            (x.primitive, epsilon)
        })
    }

    fn standardize_adjoint(
        x: FloatTensor<Self>,
        g: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        record_adjoint::<_, B, C>(Standardize, x, g, epsilon)
    }

    fn standardize_pool(
        pooling: &Pooling,
        x: FloatTensor<Self>,
        direction: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, Winners<IntTensor<Self>>) {
        let (p, winners) =
            B::standardize_pool(pooling, x.primitive.clone(), direction.primitive, epsilon);
        let output = record!(StandardizePool, [x.node], p, |p| {
            (winners.clone(), x.primitive, p.clone())
        });
        (output, winners)
    }

    fn standardize_pool_adjoint(
        winners: &Winners<IntTensor<Self>>,
        x: FloatTensor<Self>,
        p: FloatTensor<Self>,
        h: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = (x.node, h.node);
        let (x, p, h) = (x.primitive, p.primitive, h.primitive);
        let output = B::standardize_pool_adjoint(winners, x.clone(), p.clone(), h.clone());
        record!(StandardizePoolAdjoint, [nodes.0, nodes.1], output, |_| {
            (winners.clone(), x, p, h)
        })
    }

    fn bias_relu(
        map: &LinearMap<IntTensor<Self>>,
        x: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let output = B::bias_relu(map, x.primitive, b.primitive);
        record!(BiasRelu, [x.node, b.node], output, |y| {
            (map.clone(), y.clone())
        })
    }

    fn sgd_step(theta: FloatTensor<Self>, g: FloatTensor<Self>, rate: f64) -> FloatTensor<Self> {
        let output = B::sgd_step(theta.primitive, g.primitive, rate);
        record!(Descend, [theta.node, g.node], output, |_| rate)
    }

    fn recur(
        form: &Recurrence,
        inputs: RecurrenceInputs<FloatTensor<Self>>,
        keep: bool,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        recurrence::recur::<B, C>(form, inputs, keep)
    }

    fn recur_adjoint(
        form: &Recurrence,
        run: RecurrenceRun<FloatTensor<Self>>,
        g: FloatTensor<Self>,
        along_start: bool,
        _keep: bool,
    ) -> RecurrenceGradient<FloatTensor<Self>> {
        recurrence::recur_adjoint::<B, C>(form, run, g, along_start)
    }

    fn gate(y: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = B::gate(y.primitive.clone(), g.primitive);
        record!(Gate, [g.node], output, |_| y.primitive)
    }

    fn affine(
        form: &TrilinearForm,
        map: &LinearMap<IntTensor<Self>>,
        activation: Activation,
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (x_tracked, w_tracked) = (x.is_tracked(), w.is_tracked());
        let nodes = (x.node, w.node, b.node);
        let (x, w) = (x.primitive, w.primitive);
        let output = B::affine(form, map, activation, x.clone(), w.clone(), b.primitive);
        record!(Affine, [nodes.0, nodes.1, nodes.2], output, |y| {
            let gate = (activation == Activation::Relu).then(|| y.clone());
            let (x, w) = (w_tracked.then_some(x), x_tracked.then_some(w));
            (*form, map.clone(), gate, x, w)
        })
    }

    fn layer_standardize(x: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        let output = B::layer_standardize(x.primitive.clone(), epsilon);
        record!(Value(LayerStandardize), [x.node], output, |_| {
            (x.primitive, epsilon)
        })
    }

    fn layer_standardize_adjoint(
        x: FloatTensor<Self>,
        g: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        record_adjoint::<_, B, C>(LayerStandardize, x, g, epsilon)
    }

    fn scaled_softmax(x: FloatTensor<Self>, factor: f64) -> FloatTensor<Self> {
        let p = B::scaled_softmax(x.primitive, factor);
        record!(Value(Softmax), [x.node], p, |p| (p.clone(), factor))
    }

    fn scaled_softmax_adjoint(
        p: FloatTensor<Self>,
        g: FloatTensor<Self>,
        factor: f64,
    ) -> FloatTensor<Self> {
        record_adjoint::<_, B, C>(Softmax, p, g, factor)
    }

    fn masked_softmax(
        x: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        factor: f64,
    ) -> FloatTensor<Self> {
        let p = B::masked_softmax(x.primitive, hidden.primitive, factor);
        record!(Value(Softmax), [x.node], p, |p| (p.clone(), factor))
    }

    fn tanh(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let y = B::tanh(x.primitive);
        record!(Value(Tanh), [x.node], y, |y| (y.clone(), 0.0))
    }

    fn tanh_adjoint(y: FloatTensor<Self>, g: FloatTensor<Self>, _: f64) -> FloatTensor<Self> {
        record_adjoint::<_, B, C>(Tanh, y, g, 0.0)
    }

    fn join(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        let widths = [&x, &y].map(|x| x.primitive.shape().dims::<3>()[2]);
        let joined = B::join(x.primitive, y.primitive);
        record!(Join, [x.node, y.node], joined, |_| widths)
    }
}
