//! The primitives on `Autodiff<B>`: each records one node whose backward pass calls primitives of
//! `B`. Where `B` is itself an autodiff level, those calls are recorded there in turn, which is all
//! that higher orders need.

use burn::tensor::ops::{FloatTensor, IntTensor};
use burn_autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind, binary, unary},
};

use super::{Activation, LinearMap, Pooling, Primitives, Role, TrilinearForm, Winners};

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

/// Node of [`Primitives::standardize`].
#[derive(Debug)]
struct Standardize;

impl<B: Primitives> Backward<B, 1> for Standardize {
    type State = (FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, epsilon) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |g| {
            B::standardize_adjoint(x, g, epsilon)
        });
    }
}

/// Node of [`Primitives::standardize_adjoint`]: `J` is symmetric, so its adjoint in `g` is itself.
#[derive(Debug)]
struct StandardizeAdjoint;

impl<B: Primitives> Backward<B, 2> for StandardizeAdjoint {
    /// `x`, `g` where `x` is tracked, `ε`.
    type State = (FloatTensor<B>, Option<FloatTensor<B>>, f64);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, g, epsilon) = ops.state;
        binary::<B, _, _>(
            ops.parents,
            ops.node,
            grads,
            |u| {
                let g = g.expect("kept for a tracked x");
                B::standardize_curvature(x.clone(), g, u, epsilon)
            },
            |u| B::standardize_adjoint(x.clone(), u, epsilon),
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
    /// TrilinearForm, map, the output where a ReLU gates it, the input where the weight is tracked, the weight
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

/// Node of [`Primitives::layer_standardize`].
#[derive(Debug)]
struct LayerStandardize;

impl<B: Primitives> Backward<B, 1> for LayerStandardize {
    type State = (FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, epsilon) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |g| {
            B::layer_standardize_adjoint(x, g, epsilon)
        });
    }
}

/// Node of [`Primitives::layer_standardize_adjoint`], whose Jacobian is symmetric.
#[derive(Debug)]
struct LayerStandardizeAdjoint;

impl<B: Primitives> Backward<B, 2> for LayerStandardizeAdjoint {
    /// `x`, `g` where `x` is tracked, `ε`.
    type State = (FloatTensor<B>, Option<FloatTensor<B>>, f64);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, g, epsilon) = ops.state;
        binary::<B, _, _>(
            ops.parents,
            ops.node,
            grads,
            |u| {
                let g = g.expect("kept for a tracked x");
                B::layer_standardize_curvature(x.clone(), g, u, epsilon)
            },
            |u| B::layer_standardize_adjoint(x.clone(), u, epsilon),
        );
    }
}

/// Node of [`Primitives::scaled_softmax`].
#[derive(Debug)]
struct Softmax;

impl<B: Primitives> Backward<B, 1> for Softmax {
    /// `p` and the factor.
    type State = (FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (p, factor) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |g| {
            B::scaled_softmax_adjoint(p, g, factor)
        });
    }
}

/// Node of [`Primitives::scaled_softmax_adjoint`], symmetric in `g`.
#[derive(Debug)]
struct SoftmaxAdjoint;

impl<B: Primitives> Backward<B, 2> for SoftmaxAdjoint {
    /// `p`, `g` where `p` is tracked, the factor.
    type State = (FloatTensor<B>, Option<FloatTensor<B>>, f64);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (p, g, factor) = ops.state;
        binary::<B, _, _>(
            ops.parents,
            ops.node,
            grads,
            |u| {
                let g = g.expect("kept for a tracked p");
                B::scaled_softmax_curvature(p.clone(), g, u, factor)
            },
            |u| B::scaled_softmax_adjoint(p.clone(), u, factor),
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

/// Records `map` or its adjoint with an output already computed.
fn record_map<B: Primitives, C: CheckpointStrategy>(
    map: &LinearMap<IntTensor<B>>,
    adjoint: bool,
    x: &FloatTensor<Autodiff<B, C>>,
    output: FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match Backward::<B, 1>::prepare::<C>(Map, [x.node.clone()])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish((map.clone(), adjoint), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

impl<B: Primitives, C: CheckpointStrategy> Primitives for Autodiff<B, C> {
    fn contract(
        form: &TrilinearForm,
        wanted: Role,
        left: FloatTensor<Self>,
        right: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let output = B::contract(
            form,
            wanted,
            left.primitive.clone(),
            right.primitive.clone(),
        );
        match Backward::<B, 2>::prepare::<C>(Contract, [left.node.clone(), right.node.clone()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let (left_tracked, right_tracked) = (left.is_tracked(), right.is_tracked());
                let state = (
                    *form,
                    wanted,
                    right_tracked.then_some(left.primitive),
                    left_tracked.then_some(right.primitive),
                );
                prep.finish(state, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn map_linear(map: &LinearMap<IntTensor<Self>>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = B::map_linear(map, x.primitive.clone());
        record_map::<B, C>(map, false, &x, output)
    }

    fn map_adjoint(map: &LinearMap<IntTensor<Self>>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = B::map_adjoint(map, y.primitive.clone());
        record_map::<B, C>(map, true, &y, output)
    }

    fn add_rows(
        map: &LinearMap<IntTensor<Self>>,
        x: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let output = B::add_rows(map, x.primitive.clone(), b.primitive.clone());
        match Backward::<B, 2>::prepare::<C>(AddRows, [x.node.clone(), b.node.clone()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(map.clone(), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn max_pool(pooling: &Pooling, x: FloatTensor<Self>) -> (FloatTensor<Self>, IntTensor<Self>) {
        let (maxima, index) = B::max_pool(pooling, x.primitive.clone());
        let select = LinearMap::Select {
            pooling: *pooling,
            index: index.clone(),
        };
        (record_map::<B, C>(&select, false, &x, maxima), index)
    }

    fn standardize(x: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        let output = B::standardize(x.primitive.clone(), epsilon);
        match Backward::<B, 1>::prepare::<C>(Standardize, [x.node.clone()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x.primitive, epsilon), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn standardize_adjoint(
        x: FloatTensor<Self>,
        g: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let output = B::standardize_adjoint(x.primitive.clone(), g.primitive.clone(), epsilon);
        match Backward::<B, 2>::prepare::<C>(StandardizeAdjoint, [x.node.clone(), g.node.clone()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let x_tracked = x.is_tracked();
                let state = (x.primitive, x_tracked.then_some(g.primitive), epsilon);
                prep.finish(state, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn standardize_pool(
        pooling: &Pooling,
        x: FloatTensor<Self>,
        direction: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, Winners<IntTensor<Self>>) {
        let (p, winners) =
            B::standardize_pool(pooling, x.primitive.clone(), direction.primitive, epsilon);
        let output = match Backward::<B, 1>::prepare::<C>(StandardizePool, [x.node.clone()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((winners.clone(), x.primitive, p.clone()), p),
            OpsKind::UnTracked(prep) => prep.finish(p),
        };
        (output, winners)
    }

    fn standardize_pool_adjoint(
        winners: &Winners<IntTensor<Self>>,
        x: FloatTensor<Self>,
        p: FloatTensor<Self>,
        h: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node.clone(), h.node.clone()];
        let (x, p, h) = (x.primitive, p.primitive, h.primitive);
        let output = B::standardize_pool_adjoint(winners, x.clone(), p.clone(), h.clone());
        match Backward::<B, 2>::prepare::<C>(StandardizePoolAdjoint, nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((winners.clone(), x, p, h), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn bias_relu(
        map: &LinearMap<IntTensor<Self>>,
        x: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let output = B::bias_relu(map, x.primitive, b.primitive);
        match Backward::<B, 2>::prepare::<C>(BiasRelu, [x.node, b.node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((map.clone(), output.clone()), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn sgd_step(theta: FloatTensor<Self>, g: FloatTensor<Self>, rate: f64) -> FloatTensor<Self> {
        let output = B::sgd_step(theta.primitive, g.primitive, rate);
        match Backward::<B, 2>::prepare::<C>(Descend, [theta.node, g.node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(rate, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn gate(y: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = B::gate(y.primitive.clone(), g.primitive);
        match Backward::<B, 1>::prepare::<C>(Gate, [g.node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(y.primitive, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn affine(
        form: &TrilinearForm,
        map: &LinearMap<IntTensor<Self>>,
        activation: Activation,
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node.clone(), w.node.clone(), b.node.clone()];
        let (x_tracked, w_tracked) = (x.is_tracked(), w.is_tracked());
        let (x, w) = (x.primitive, w.primitive);
        let output = B::affine(form, map, activation, x.clone(), w.clone(), b.primitive);
        match Backward::<B, 3>::prepare::<C>(Affine, nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let gated = activation == Activation::Relu;
                let state = (
                    *form,
                    map.clone(),
                    gated.then(|| output.clone()),
                    w_tracked.then_some(x),
                    x_tracked.then_some(w),
                );
                prep.finish(state, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn layer_standardize(x: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        let output = B::layer_standardize(x.primitive.clone(), epsilon);
        match Backward::<B, 1>::prepare::<C>(LayerStandardize, [x.node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x.primitive, epsilon), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn layer_standardize_adjoint(
        x: FloatTensor<Self>,
        g: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let x_tracked = x.is_tracked();
        let nodes = [x.node.clone(), g.node.clone()];
        let (x, g) = (x.primitive, g.primitive);
        let output = B::layer_standardize_adjoint(x.clone(), g.clone(), epsilon);
        match Backward::<B, 2>::prepare::<C>(LayerStandardizeAdjoint, nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, x_tracked.then_some(g), epsilon), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn scaled_softmax(x: FloatTensor<Self>, factor: f64) -> FloatTensor<Self> {
        let p = B::scaled_softmax(x.primitive, factor);
        match Backward::<B, 1>::prepare::<C>(Softmax, [x.node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((p.clone(), factor), p),
            OpsKind::UnTracked(prep) => prep.finish(p),
        }
    }

    fn scaled_softmax_adjoint(
        p: FloatTensor<Self>,
        g: FloatTensor<Self>,
        factor: f64,
    ) -> FloatTensor<Self> {
        let p_tracked = p.is_tracked();
        let nodes = [p.node.clone(), g.node.clone()];
        let (p, g) = (p.primitive, g.primitive);
        let output = B::scaled_softmax_adjoint(p.clone(), g.clone(), factor);
        match Backward::<B, 2>::prepare::<C>(SoftmaxAdjoint, nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((p, p_tracked.then_some(g), factor), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}
