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
//!   ([`TrilinearForm`]). A form has three roles; [`Primitives::contract`] gives the one that is wanted from
//!   the other two: the output from input and weight, the input's adjoint from weight and output, the
//!   weight's adjoint from input and output. The derivative of any of the three maps is one of the
//!   others, so one autodiff node serves all of them.
//! * Broadcasting over rows, selecting the winners of a pooling window and taking columns are **linear maps**
//!   ([`LinearMap`]) with their adjoints (summing rows, scattering, putting back).
//! * **Standardisation** is nonlinear: its Jacobian is symmetric, so the adjoint is the Jacobian
//!   itself, and the derivative of the adjoint is [`Primitives::standardize_curvature`]. Followed by
//!   pooling, it is a primitive of its own, since the map between the two need not exist.
//!   Layer standardisation is the same along the channels of a row.
//! * **Softmax** and the **hyperbolic tangent** have a symmetric Jacobian, too, written with their own output.
//! * A **recurrence** over the steps of sequences is one operation. Its adjoint is the recurrence
//!   backwards, and the derivative of that ([`Primitives::recur_curvature`]) the recurrence of the tangent.
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
mod operation;
mod ops;
pub mod portable;

pub use operation::{
    Activation, AdamCorrections, Conv2dForm, LinearForm, LinearMap, PairsForm, Pooling, Recurrence,
    RecurrenceCurvature, RecurrenceGradient, RecurrenceInputs, RecurrenceRun, RecurrentCell, Role,
    ScaleForm, Shown, TrilinearForm, Winners,
};
pub(crate) use operation::{primitive, tensor};
pub use ops::{
    MatrixProduct, add_rows, attention_read, attention_scores, bias_relu, broadcast_rows, columns,
    conv2d, join, layer_standardize, linear, linear_add, masked_softmax, max_pool2d, mean_rows,
    recur, scale, scale_add, scaled_softmax, standardize, standardize_pool2d, sum_rows, tanh,
};

use burn::tensor::{
    backend::Backend,
    ops::{FloatTensor, IntTensor},
};

/// A backend with the operations of this toolkit.
///
/// Every method has a portable default, composed from operations that Burn differentiates correctly
/// twice. A backend overrides what it can do faster; `Autodiff<B>` overrides all but the
/// curvatures, whose compositions are differentiated as they stand.
pub trait Primitives: Backend {
    /// Bytes that the backend holds on its device, in use or kept for the next tensor; none for
    /// backends that compute in the memory of the process.
    fn device_memory(_device: &Self::Device) -> Option<u64> {
        None
    }

    /// Whether threads of the host can compute graphs side by side ([`crate::parallel`]); a device takes
    /// one operation after the other.
    const SIDE_BY_SIDE: bool = false;

    /// Whether the backend computes on a device of its own, to which the host sends one kernel after the
    /// other.
    const ON_DEVICE: bool = false;

    /// Whether [`burn::tensor::Tensor::matmul`] rounds operands of single precision further; then
    /// [`MatrixProduct`] goes through [`Primitives::contract`].
    const ROUNDS_PRODUCTS: bool = false;

    /// Puts leaves that will meet in one graph into it at once ([`crate::params`], "Graphs"); nothing on a
    /// plain backend.
    fn tie(_leaves: &[FloatTensor<Self>]) {}

    /// The `wanted` operand of a trilinear form from the other two, in the order input, weight,
    /// output.
    fn contract(
        form: &TrilinearForm,
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
        form: &TrilinearForm,
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

    /// [`Primitives::scaled_softmax`] of what is not hidden: the weight is 0 where `hidden`, of 0 and 1, is 1.
    /// It has the last axis of `x`, and each of the others or 1. Nothing is differentiated with respect to it.
    fn masked_softmax(
        x: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        factor: f64,
    ) -> FloatTensor<Self> {
        portable::masked_softmax::<Self>(x, hidden, factor)
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

    /// `tanh x` of every element.
    fn tanh(x: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::tanh::<Self>(x)
    }

    /// `(1 − y²) g`: the adjoint of [`Primitives::tanh`] by its output.
    fn tanh_adjoint(y: FloatTensor<Self>, g: FloatTensor<Self>, _: f64) -> FloatTensor<Self> {
        portable::tanh_adjoint::<Self>(y, g)
    }

    /// `−2 y g u`: `∂/∂y ⟨u, (1 − y²) g⟩`.
    fn tanh_curvature(
        y: FloatTensor<Self>,
        g: FloatTensor<Self>,
        u: FloatTensor<Self>,
        _: f64,
    ) -> FloatTensor<Self> {
        portable::tanh_curvature::<Self>(y, g, u)
    }

    /// `[x ; y]`: `[t, r, a]` and `[t, r, b]` to `[t, r, a + b]`. The adjoints are the two
    /// [`LinearMap::Columns`].
    fn join(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::join::<Self>(x, y)
    }

    /// A recurrence over all steps, its equations with [`RecurrentCell`]: what is shown, `[t, b·slots, h]`,
    /// and, where `keep`, what the backend wants to have for the derivatives.
    fn recur(
        form: &Recurrence,
        inputs: RecurrenceInputs<FloatTensor<Self>>,
        keep: bool,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        let _ = keep;
        (portable::recur::<Self>(form, inputs), None)
    }

    /// The gradients of a recurrence from `g`, that along what is shown. As a function it has the
    /// operands `z`, `u`, the start, `g` and the hidden states before the steps, which are parts of
    /// `run.states`; the gates follow from those, and the cells from the gates.
    ///
    /// That along the start is computed where `along_start`; where `keep`, what the backend wants to have
    /// for the derivative.
    fn recur_adjoint(
        form: &Recurrence,
        run: RecurrenceRun<FloatTensor<Self>>,
        g: FloatTensor<Self>,
        along_start: bool,
        keep: bool,
    ) -> RecurrenceGradient<FloatTensor<Self>> {
        let _ = keep;
        portable::recur_adjoint::<Self>(form, run, g, along_start)
    }

    /// The derivatives of `⟨direction, gradient⟩`, where `gradient` is what [`Primitives::recur_adjoint`]
    /// gave for `g`. That along the weight, and what comes through it to the hidden states before the
    /// steps, follow from them.
    fn recur_curvature(
        form: &Recurrence,
        run: RecurrenceRun<FloatTensor<Self>>,
        g: FloatTensor<Self>,
        gradient: RecurrenceGradient<FloatTensor<Self>>,
        direction: RecurrenceGradient<FloatTensor<Self>>,
    ) -> RecurrenceCurvature<FloatTensor<Self>> {
        let _ = gradient;
        portable::recur_curvature::<Self>(form, run, g, direction)
    }

    /// `θ − η g`, operands of one shape: a step of gradient descent in one pass.
    fn sgd_step(theta: FloatTensor<Self>, g: FloatTensor<Self>, rate: f64) -> FloatTensor<Self> {
        portable::sgd_step::<Self>(theta, g, rate)
    }

    /// `g` where `y` is positive, 0 elsewhere. Not differentiated with respect to `y`.
    fn gate(y: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::gate::<Self>(y, g)
    }

    /// `d m + (1 − d) g`, or `d m + (1 − d) g²` where `squared`: a moving average, from 0 where there is
    /// no `m`.
    fn average(
        m: Option<FloatTensor<Self>>,
        g: FloatTensor<Self>,
        decay: f64,
        squared: bool,
    ) -> FloatTensor<Self> {
        portable::average::<Self>(m, g, decay, squared)
    }

    /// `c₁ m / (√(c₂ v + ε') + ε)`: the direction of Adam from its two averages.
    fn adam_direction(
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        corrections: &AdamCorrections,
    ) -> FloatTensor<Self> {
        portable::adam_direction::<Self>(m, v, corrections)
    }
}
