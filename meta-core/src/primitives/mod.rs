//! The operations that dominate few-shot learning, closed under differentiation.
//!
//! Burn's stock operations are either not twice differentiable or slow on CPU. The few that matter
//! are therefore an extension trait, [`Primitives`], with a portable implementation for every
//! backend, fast ones for the CPU backends, and one for `Autodiff<B>` of any `B: Primitives`. What
//! keeps it small is one rule: **the adjoint of each primitive is again a primitive**, so gradients of
//! any order need no further code.
//!
//! * Linear layers, convolutions, channel-wise scaling, the scores of attention and what it reads are
//!   **trilinear forms** `⟨y, F(x, w)⟩`
//!   ([`Form`]). A form has three roles; [`Primitives::contract`] gives the one that is wanted from
//!   the other two: the output from input and weight, the input's adjoint from weight and output, the
//!   weight's adjoint from input and output. The derivative of any of the three maps is one of the
//!   others, so one autodiff node serves all of them.
//! * Broadcasting over rows and selecting the winners of a pooling window are **linear maps**
//!   ([`LinearMap`]) with their adjoints (summing rows, scattering).
//! * **Standardisation** is nonlinear: its Jacobian is symmetric, so the adjoint is the Jacobian
//!   itself, and the derivative of the adjoint is [`Primitives::standardize_curvature`]. Followed by
//!   pooling, it is a primitive of its own, since the map between the two need not exist.
//!   Layer standardisation is the same along the channels of a row.
//! * **Softmax** has a symmetric Jacobian, too, written with its own output.
//! * **ReLU** is a gate that its own output holds open or shut ([`Primitives::gate`]), which is its
//!   own adjoint.
//!
//! Layouts are row-major with the task axis first and channels last: items `[t, b, f]`, images
//! `[t, b, h, w, c]`, rows `[t, r, c]`. Weights carry the task axis too: 1 where all tasks share
//! them, `t` where each task has its own.
//!
//! The functions of this module ([`linear`], [`conv2d`], …) are the typed entry points; layers use
//! those.

mod autodiff;
pub mod cpu;
mod form;
pub mod portable;

pub use form::{
    Activation, Conv2dForm, Form, LinearForm, LinearMap, PairsForm, Pooling, Role, ScaleForm,
    Winners,
};

use burn::tensor::{
    Tensor,
    backend::Backend,
    ops::{FloatTensor, IntTensor},
};

use crate::params::{primitive, tensor};

/// A backend with the operations of this toolkit.
///
/// Every method has a portable default, composed from operations that Burn differentiates correctly
/// twice. A backend overrides what it can do faster; `Autodiff<B>` overrides all but the two
/// curvatures, whose compositions are differentiated as they stand.
pub trait Primitives: Backend {
    /// Bytes that the backend holds on its device, in use or kept for the next tensor; none for
    /// backends that compute in the memory of the process.
    fn device_memory(_device: &Self::Device) -> Option<u64> {
        None
    }

    /// Whether threads of the host can compute graphs side by side ([`crate::graphs`]); a device takes
    /// one operation after the other.
    const SIDE_BY_SIDE: bool = false;

    /// The `wanted` operand of a trilinear form from the other two, in the order input, weight,
    /// output.
    fn contract(
        form: &Form,
        wanted: Role,
        left: FloatTensor<Self>,
        right: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        portable::contract::<Self>(form, wanted, left, right)
    }

    /// `M x`.
    fn map_linear(map: &LinearMap<IntTensor<Self>>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::map_linear::<Self>(map, x)
    }

    /// `Mᵀ y`.
    fn map_adjoint(map: &LinearMap<IntTensor<Self>>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::map_adjoint::<Self>(map, y)
    }

    /// `x + M b`, where `M` is a [`LinearMap::BroadcastRows`]: a bias added to every row, in one pass.
    fn add_rows(
        map: &LinearMap<IntTensor<Self>>,
        x: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        portable::add_rows::<Self>(map, x, b)
    }

    /// Maxima over the windows of `x`, `[n, h, w, c]`, and the position of each winner in its plane
    /// (`row · w + column`); the first one in row-major order where several are equal.
    fn max_pool(pooling: &Pooling, x: FloatTensor<Self>) -> (FloatTensor<Self>, IntTensor<Self>) {
        portable::max_pool::<Self>(pooling, x)
    }

    /// `x̂ = (x − μ) / √(σ² + ε)` per task and channel over the rows of `x`, `[t, r, c]`; `σ²` is the
    /// biased variance.
    fn standardize(x: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        portable::standardize::<Self>(x, epsilon)
    }

    /// `J(x) g`, where `J` is the Jacobian of [`Primitives::standardize`]; `J` is symmetric.
    fn standardize_adjoint(
        x: FloatTensor<Self>,
        g: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        portable::standardize_adjoint::<Self>(x, g, epsilon)
    }

    /// `∂/∂x ⟨u, J(x) g⟩`, symmetric in `g` and `u`.
    fn standardize_curvature(
        x: FloatTensor<Self>,
        g: FloatTensor<Self>,
        u: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        portable::standardize_curvature::<Self>(x, g, u, epsilon)
    }

    /// `p = S x̂`: the winners of each window of the standardised `x [t, b, h, w, c]`,
    /// `[t, b, h', w', c]`, and which they are.
    ///
    /// The largest value wins where `direction [1|t, 1, c]` is at least 0 and the smallest elsewhere:
    /// with `γ` for a direction, `γ p + β` is the maximum over each window of `γ x̂ + β`. Nothing is
    /// differentiated with respect to `direction`.
    fn standardize_pool(
        pooling: &Pooling,
        x: FloatTensor<Self>,
        direction: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, Winners<IntTensor<Self>>) {
        portable::standardize_pool::<Self>(pooling, x, direction, epsilon)
    }

    /// `J(x) Sᵀh`, the adjoint of [`Primitives::standardize_pool`] in `x`. Differentiable in `x` and
    /// `h`; `p` is only what the forward pass gave.
    fn standardize_pool_adjoint(
        winners: &Winners<IntTensor<Self>>,
        x: FloatTensor<Self>,
        p: FloatTensor<Self>,
        h: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let _ = p;
        portable::standardize_pool_adjoint::<Self>(winners, x, h)
    }

    /// The derivatives of `⟨u, J(x) Sᵀh⟩` in `x` and in `h`.
    fn standardize_pool_curvature(
        winners: &Winners<IntTensor<Self>>,
        x: FloatTensor<Self>,
        p: FloatTensor<Self>,
        h: FloatTensor<Self>,
        u: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let _ = p;
        portable::standardize_pool_curvature::<Self>(winners, x, h, u)
    }

    /// `max(x + M b, 0)`, where `M` is a [`LinearMap::BroadcastRows`], in one pass; a NaN stays.
    fn bias_relu(
        map: &LinearMap<IntTensor<Self>>,
        x: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        portable::bias_relu::<Self>(map, x, b)
    }

    /// `φ(F(x, w) + M b)`: the output of a form, plus a bias on every row, through an activation, in one
    /// pass; `M` is a [`LinearMap::BroadcastRows`] to the shape of the output.
    fn affine(
        form: &Form,
        map: &LinearMap<IntTensor<Self>>,
        activation: Activation,
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        portable::affine::<Self>(form, map, activation, x, w, b)
    }

    /// `x̂ = (x − μ) / √(σ² + ε)` along the channels of every row of `x`, `[t, r, c]`; `σ²` is the
    /// biased variance.
    fn layer_standardize(x: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        portable::layer_standardize::<Self>(x, epsilon)
    }

    /// `J(x) g`, where `J` is the Jacobian of [`Primitives::layer_standardize`]; `J` is symmetric.
    fn layer_standardize_adjoint(
        x: FloatTensor<Self>,
        g: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        portable::layer_standardize_adjoint::<Self>(x, g, epsilon)
    }

    /// `∂/∂x ⟨u, J(x) g⟩`, symmetric in `g` and `u`.
    fn layer_standardize_curvature(
        x: FloatTensor<Self>,
        g: FloatTensor<Self>,
        u: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        portable::layer_standardize_curvature::<Self>(x, g, u, epsilon)
    }

    /// `p = softmax(f x)` along the last axis of `x`, `[n, heads, l, m]`, `f` positive. A score of −∞ has
    /// weight 0, and a row of them is 0 everywhere.
    fn scaled_softmax(x: FloatTensor<Self>, factor: f64) -> FloatTensor<Self> {
        portable::scaled_softmax::<Self>(x, factor)
    }

    /// `f p ⊙ (g − ⟨p, g⟩)` along the last axis: the adjoint of [`Primitives::scaled_softmax`] by its output,
    /// `f (diag p − p pᵀ) g`, symmetric.
    fn scaled_softmax_adjoint(
        p: FloatTensor<Self>,
        g: FloatTensor<Self>,
        factor: f64,
    ) -> FloatTensor<Self> {
        portable::scaled_softmax_adjoint::<Self>(p, g, factor)
    }

    /// `f (u ⊙ g − u ⟨p, g⟩ − g ⟨p, u⟩)`: `∂/∂p ⟨u, f (diag p − p pᵀ) g⟩`.
    fn scaled_softmax_curvature(
        p: FloatTensor<Self>,
        g: FloatTensor<Self>,
        u: FloatTensor<Self>,
        factor: f64,
    ) -> FloatTensor<Self> {
        portable::scaled_softmax_curvature::<Self>(p, g, u, factor)
    }

    /// `θ − η g`, operands of one shape: a step of gradient descent in one pass.
    fn descend(theta: FloatTensor<Self>, g: FloatTensor<Self>, rate: f64) -> FloatTensor<Self> {
        portable::descend::<Self>(theta, g, rate)
    }

    /// `g` where `y` is positive, 0 elsewhere. Not differentiated with respect to `y`.
    fn gate(y: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::gate::<Self>(y, g)
    }
}

fn contract<B: Primitives, const L: usize, const R: usize, const O: usize>(
    form: Form,
    wanted: Role,
    left: Tensor<B, L>,
    right: Tensor<B, R>,
) -> Tensor<B, O> {
    tensor(B::contract(
        &form,
        wanted,
        primitive(left),
        primitive(right),
    ))
}

/// Checks that a weight's task axis is 1 or the input's.
fn check_tasks(what: &str, tasks: usize, weight_tasks: usize) {
    assert!(
        weight_tasks == 1 || weight_tasks == tasks,
        "{what}: weights of {weight_tasks} tasks for an input of {tasks}"
    );
}

/// `y = x w`: `x [t, b, i]`, `w [1|t, i, o]`, `y [t, b, o]`.
///
/// # Panics
/// When the shapes do not fit.
pub fn linear<B: Primitives>(x: Tensor<B, 3>, w: Tensor<B, 3>) -> Tensor<B, 3> {
    contract(linear_form(&x, &w), Role::Output, x, w)
}

fn linear_form<B: Primitives>(x: &Tensor<B, 3>, w: &Tensor<B, 3>) -> Form {
    let ([tasks, items, inputs], [weight_tasks, weight_inputs, outputs]) = (x.dims(), w.dims());
    check_tasks("linear", tasks, weight_tasks);
    assert_eq!(
        inputs,
        weight_inputs,
        "linear: x {:?}, w {:?}",
        x.dims(),
        w.dims()
    );
    Form::Linear(LinearForm {
        tasks,
        weight_tasks,
        items,
        inputs,
        outputs,
    })
}

/// `y = φ(x w + b)`: `x [t, b, i]`, `w [1|t, i, o]`, `b [1|t, 1, o]`, `y [t, b, o]`.
///
/// # Panics
/// When the shapes do not fit.
pub fn linear_add<B: Primitives>(
    x: Tensor<B, 3>,
    w: Tensor<B, 3>,
    b: Tensor<B, 3>,
    activation: Activation,
) -> Tensor<B, 3> {
    let form = linear_form(&x, &w);
    affine(
        form,
        [x.dims()[0], x.dims()[1], w.dims()[2]],
        activation,
        x,
        w,
        b,
    )
}

/// [`Primitives::affine`] of a form whose output is `[t, r, c]`.
fn affine<B: Primitives>(
    form: Form,
    [tasks, rows, channels]: [usize; 3],
    activation: Activation,
    x: Tensor<B, 3>,
    w: Tensor<B, 3>,
    b: Tensor<B, 3>,
) -> Tensor<B, 3> {
    assert_eq!(channels, b.dims()[2], "affine: {form:?}, b {:?}", b.dims());
    let map = broadcast(b.dims(), tasks, rows);
    let (x, w, b) = (primitive(x), primitive(w), primitive(b));
    tensor(B::affine(&form, &map, activation, x, w, b))
}

/// 2-D cross-correlation: `x [t, b, h, w, c]`, `weight [1|t, k·k, c, o]`, `y [t, b, h', w', o]` with
/// `h' = (h + 2·padding − k) / stride + 1`, zero padding.
///
/// # Panics
/// When the shapes do not fit or the kernel is larger than the padded image.
pub fn conv2d<B: Primitives>(
    x: Tensor<B, 5>,
    weight: Tensor<B, 4>,
    stride: usize,
    padding: usize,
) -> Tensor<B, 5> {
    let [tasks, items, height, width, in_channels] = x.dims();
    let [weight_tasks, taps, weight_channels, out_channels] = weight.dims();
    check_tasks("conv2d", tasks, weight_tasks);
    let kernel = taps.isqrt();
    assert_eq!(kernel * kernel, taps, "conv2d: a square kernel");
    assert_eq!(
        in_channels,
        weight_channels,
        "conv2d: x {:?}, weight {:?}",
        x.dims(),
        weight.dims()
    );
    assert!(
        kernel <= height + 2 * padding && kernel <= width + 2 * padding && stride >= 1,
        "conv2d: kernel {kernel} on {height}×{width}, padding {padding}, stride {stride}"
    );
    let form = Conv2dForm {
        tasks,
        weight_tasks,
        items,
        height,
        width,
        in_channels,
        out_channels,
        kernel,
        stride,
        padding,
    };
    contract(Form::Conv2d(form), Role::Output, x, weight)
}

/// `y = a ⊙ x`, channel by channel: `x [t, r, c]`, `a [1|t, 1, c]`.
///
/// # Panics
/// When the shapes do not fit.
pub fn scale<B: Primitives>(x: Tensor<B, 3>, a: Tensor<B, 3>) -> Tensor<B, 3> {
    contract(scale_form(&x, &a), Role::Output, x, a)
}

fn scale_form<B: Primitives>(x: &Tensor<B, 3>, a: &Tensor<B, 3>) -> Form {
    let ([tasks, rows, channels], [weight_tasks, one, weight_channels]) = (x.dims(), a.dims());
    check_tasks("scale", tasks, weight_tasks);
    assert_eq!(
        (1, channels),
        (one, weight_channels),
        "scale: x {:?}, a {:?}",
        x.dims(),
        a.dims()
    );
    Form::Scale(ScaleForm {
        tasks,
        weight_tasks,
        rows,
        channels,
    })
}

/// `y = φ(a ⊙ x + b)`, channel by channel: `x [t, r, c]`, `a [1|t, 1, c]`, `b [1|t, 1, c]`.
///
/// # Panics
/// When the shapes do not fit.
pub fn scale_add<B: Primitives>(
    x: Tensor<B, 3>,
    a: Tensor<B, 3>,
    b: Tensor<B, 3>,
    activation: Activation,
) -> Tensor<B, 3> {
    affine(scale_form(&x, &a), x.dims(), activation, x, a, b)
}

/// Sequences of `queries` and `keys` tokens as `heads` heads see them.
fn pairs_form<B: Primitives>(
    y: &Tensor<B, 3>,
    heads: usize,
    [queries, keys]: [usize; 2],
) -> PairsForm {
    let [tasks, tokens, features] = y.dims();
    assert!(
        heads >= 1 && keys >= 1 && features.is_multiple_of(heads) && tokens.is_multiple_of(keys),
        "attention: {heads} heads of {features} features, sequences of {keys} in {tokens} tokens"
    );
    PairsForm {
        tasks,
        sequences: tasks * tokens / keys,
        heads,
        queries,
        keys,
        width: features / heads,
    }
}

/// `a_ij = ⟨q_i, k_j⟩` in every sequence and head: `q [t, b·l, heads·d]`, `k [t, b·m, heads·d]`, `a
/// [t·b, heads, l, m]`, for sequences of `[l, m]` queries and keys.
///
/// # Panics
/// When the shapes do not fit.
pub fn attention_scores<B: Primitives>(
    q: Tensor<B, 3>,
    k: Tensor<B, 3>,
    heads: usize,
    lengths: [usize; 2],
) -> Tensor<B, 4> {
    let form = Form::Pairs(pairs_form(&k, heads, lengths));
    assert_eq!(
        q.dims().as_slice(),
        form.shape(Role::Input),
        "attention: k {:?}",
        k.dims()
    );
    contract(form, Role::Output, q, k)
}

/// `x_i = Σ_j a_ij v_j` in every sequence and head: `a [t·b, heads, l, m]`, `v [t, b·m, heads·d]`, `x
/// [t, b·l, heads·d]`.
///
/// # Panics
/// When the shapes do not fit.
pub fn attention_read<B: Primitives>(map: Tensor<B, 4>, v: Tensor<B, 3>) -> Tensor<B, 3> {
    let [_, heads, queries, keys] = map.dims();
    let form = Form::Pairs(pairs_form(&v, heads, [queries, keys]));
    assert_eq!(
        map.dims().as_slice(),
        form.shape(Role::Output),
        "attention: v {:?}",
        v.dims()
    );
    contract(form, Role::Input, v, map)
}

/// `softmax(f x)` along the last axis, `f` positive: `[n, heads, l, m]`. A score of −∞ has weight 0, and
/// a row of them is 0 everywhere, as are its gradients.
///
/// # Panics
/// When `factor` is not positive.
pub fn scaled_softmax<B: Primitives>(x: Tensor<B, 4>, factor: f64) -> Tensor<B, 4> {
    assert!(factor > 0.0, "softmax: a factor of {factor}");
    tensor(B::scaled_softmax(primitive(x), factor))
}

/// `x̂ = (x − μ) / √(σ² + ε)` along the channels of every row of `x`, `[t, r, c]`.
pub fn layer_standardize<B: Primitives>(x: Tensor<B, 3>, epsilon: f64) -> Tensor<B, 3> {
    tensor(B::layer_standardize(primitive(x), epsilon))
}

/// The map from `[source_tasks, 1, c]` to `[t, r, c]`.
fn broadcast<I>(source: [usize; 3], tasks: usize, rows: usize) -> LinearMap<I> {
    let [source_tasks, one, channels] = source;
    check_tasks("rows", tasks, source_tasks);
    assert_eq!(one, 1, "rows: one row per task, found {source:?}");
    LinearMap::BroadcastRows {
        tasks,
        source_tasks,
        rows,
        channels,
    }
}

/// Repeats `b [1|t, 1, c]` over tasks and rows: `[t, r, c]`.
///
/// # Panics
/// When the task axis of `b` is neither 1 nor `tasks`.
pub fn broadcast_rows<B: Primitives>(b: Tensor<B, 3>, tasks: usize, rows: usize) -> Tensor<B, 3> {
    let map = broadcast(b.dims(), tasks, rows);
    tensor(B::map_linear(&map, primitive(b)))
}

/// Sums the rows of each task: `[t, r, c]` to `[t, 1, c]`.
pub fn sum_rows<B: Primitives>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let [tasks, rows, channels] = x.dims();
    let map = broadcast([tasks, 1, channels], tasks, rows);
    tensor(B::map_adjoint(&map, primitive(x)))
}

/// The map from `b [1|t, 1, c]` to the rows of `x [t, r, c]`.
fn broadcast_to<B: Primitives, I>(x: &Tensor<B, 3>, b: &Tensor<B, 3>) -> LinearMap<I> {
    let [tasks, rows, channels] = x.dims();
    assert_eq!(
        channels,
        b.dims()[2],
        "rows: x {:?}, b {:?}",
        x.dims(),
        b.dims()
    );
    broadcast(b.dims(), tasks, rows)
}

/// `x + b` with `b [1|t, 1, c]` added to every row of `x [t, r, c]`.
///
/// # Panics
/// When the shapes do not fit.
pub fn add_rows<B: Primitives>(x: Tensor<B, 3>, b: Tensor<B, 3>) -> Tensor<B, 3> {
    let map = broadcast_to(&x, &b);
    tensor(B::add_rows(&map, primitive(x), primitive(b)))
}

/// `max(x + b, 0)` with `b [1|t, 1, c]` added to every row of `x [t, r, c]`.
///
/// # Panics
/// When the shapes do not fit.
pub fn bias_relu<B: Primitives>(x: Tensor<B, 3>, b: Tensor<B, 3>) -> Tensor<B, 3> {
    let map = broadcast_to(&x, &b);
    tensor(B::bias_relu(&map, primitive(x), primitive(b)))
}

/// Maximum over non-overlapping `size × size` windows, remainder rows and columns dropped:
/// `[n, h, w, c]` to `[n, h/size, w/size, c]`.
///
/// # Panics
/// When the image is smaller than one window.
pub fn max_pool2d<B: Primitives>(x: Tensor<B, 4>, size: usize) -> Tensor<B, 4> {
    let [items, height, width, channels] = x.dims();
    assert!(
        size >= 1 && height >= size && width >= size,
        "max_pool2d: window {size} on {height}×{width}"
    );
    let pooling = Pooling {
        items,
        height,
        width,
        channels,
        size,
    };
    tensor(B::max_pool(&pooling, primitive(x)).0)
}

/// `x̂ = (x − μ) / √(σ² + ε)` per task and channel over the rows of `x`, `[t, r, c]`.
pub fn standardize<B: Primitives>(x: Tensor<B, 3>, epsilon: f64) -> Tensor<B, 3> {
    tensor(B::standardize(primitive(x), epsilon))
}

/// The maximum over non-overlapping `size × size` windows of `γ x̂ + β`, as the `x̂` it is attained
/// at: `x [t, b, h, w, c]`, `gamma [1|t, 1, c]`, result `[t, b, h/size, w/size, c]`, remainder rows
/// and columns dropped.
///
/// # Panics
/// When the shapes do not fit or the image is smaller than one window.
pub fn standardize_pool2d<B: Primitives>(
    x: Tensor<B, 5>,
    gamma: Tensor<B, 3>,
    size: usize,
    epsilon: f64,
) -> Tensor<B, 5> {
    let [tasks, items, height, width, channels] = x.dims();
    let [gamma_tasks, one, gamma_channels] = gamma.dims();
    check_tasks("standardize_pool2d", tasks, gamma_tasks);
    assert_eq!(
        (1, channels),
        (one, gamma_channels),
        "standardize_pool2d: x {:?}, gamma {:?}",
        x.dims(),
        gamma.dims()
    );
    assert!(
        size >= 1 && height >= size && width >= size,
        "standardize_pool2d: window {size} on {height}×{width}"
    );
    let pooling = Pooling {
        items: tasks * items,
        height,
        width,
        channels,
        size,
    };
    tensor(B::standardize_pool(&pooling, primitive(x), primitive(gamma), epsilon).0)
}
