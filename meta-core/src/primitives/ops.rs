//! The typed entry points of the primitives: tensors in, tensors out, shapes checked.

use burn::tensor::{Bool, Tensor};

use super::{
    Activation, Conv2dForm, LinearForm, LinearMap, PairsForm, Pooling, Primitives, Recurrence,
    RecurrenceInputs, RecurrentCell, Role, ScaleForm, Shown, TrilinearForm,
};
use crate::primitives::{primitive, tensor};

fn contract<B: Primitives, const L: usize, const R: usize, const O: usize>(
    form: TrilinearForm,
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

fn linear_form<B: Primitives>(x: &Tensor<B, 3>, w: &Tensor<B, 3>) -> TrilinearForm {
    let ([tasks, items, inputs], [weight_tasks, weight_inputs, outputs]) = (x.dims(), w.dims());
    check_tasks("linear", tasks, weight_tasks);
    assert_eq!(
        inputs,
        weight_inputs,
        "linear: x {:?}, w {:?}",
        x.dims(),
        w.dims()
    );
    TrilinearForm::Linear(LinearForm {
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
    form: TrilinearForm,
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
    contract(TrilinearForm::Conv2d(form), Role::Output, x, weight)
}

/// `y = a ⊙ x`, channel by channel: `x [t, r, c]`, `a [1|t, 1, c]`.
///
/// # Panics
/// When the shapes do not fit.
pub fn scale<B: Primitives>(x: Tensor<B, 3>, a: Tensor<B, 3>) -> Tensor<B, 3> {
    contract(scale_form(&x, &a), Role::Output, x, a)
}

fn scale_form<B: Primitives>(x: &Tensor<B, 3>, a: &Tensor<B, 3>) -> TrilinearForm {
    let ([tasks, rows, channels], [weight_tasks, one, weight_channels]) = (x.dims(), a.dims());
    check_tasks("scale", tasks, weight_tasks);
    assert_eq!(
        (1, channels),
        (one, weight_channels),
        "scale: x {:?}, a {:?}",
        x.dims(),
        a.dims()
    );
    TrilinearForm::Scale(ScaleForm {
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
    let form = TrilinearForm::Pairs(pairs_form(&k, heads, lengths));
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
    let form = TrilinearForm::Pairs(pairs_form(&v, heads, [queries, keys]));
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

/// [`scaled_softmax`] of what is not hidden: `x [n, heads, l, m]`, and `hidden` of a shape that broadcasts to
/// it (true: not read). A row that is hidden as a whole is 0 everywhere, as are its gradients: nothing is
/// read, and nothing is not a number.
///
/// # Panics
/// When `factor` is not positive, or the shapes do not fit.
pub fn masked_softmax<B: Primitives>(
    x: Tensor<B, 4>,
    hidden: Tensor<B, 4, Bool>,
    factor: f64,
) -> Tensor<B, 4> {
    assert!(factor > 0.0, "softmax: a factor of {factor}");
    let ([n, heads, l, m], of) = (x.dims(), hidden.dims());
    let fits = |axis: usize, len| of[axis] == len || of[axis] == 1;
    assert!(
        fits(0, n) && fits(1, heads) && fits(2, l) && fits(3, m),
        "softmax: {of:?} hides of {:?}",
        x.dims()
    );
    let hidden = hidden
        .expand([of[0], of[1], of[2], m])
        .float()
        .cast(x.dtype());
    tensor(B::masked_softmax(primitive(x), primitive(hidden), factor))
}

/// `tanh x` of every element.
pub fn tanh<B: Primitives, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    tensor(B::tanh(primitive(x)))
}

/// Columns `start..start + count` of `x [t, r, width]`, as `[t, r, count]`.
///
/// # Panics
/// When `x` does not have them, or none is taken.
pub fn columns<B: Primitives>(x: Tensor<B, 3>, start: usize, count: usize) -> Tensor<B, 3> {
    let width = x.dims()[2];
    assert!(
        count > 0 && start + count <= width,
        "columns {start} to {} of {:?}",
        start + count,
        x.dims()
    );
    let map = LinearMap::Columns {
        width,
        start,
        count,
    };
    tensor(B::map_linear(&map, primitive(x)))
}

/// `[x ; y]`: rows side by side, `[t, r, a]` and `[t, r, b]` to `[t, r, a + b]`.
///
/// # Panics
/// When the two do not have equally many tasks and rows.
pub fn join<B: Primitives>(x: Tensor<B, 3>, y: Tensor<B, 3>) -> Tensor<B, 3> {
    let ([t, r, _], [u, s, _]) = (x.dims(), y.dims());
    assert_eq!([t, r], [u, s], "join: {:?} beside {:?}", x.dims(), y.dims());
    tensor(B::join(primitive(x), primitive(y)))
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

/// The mean of the rows of each task: `[t, r, c]` to `[t, 1, c]`.
pub fn mean_rows<B: Primitives>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let rows = x.dims()[1];
    // Not `div_scalar`, whose gradient Burn 0.21 computes by a reciprocal in f32.
    sum_rows(x).mul_scalar(1.0 / rows as f64)
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

/// A recurrence over the steps of items; the equations stand with [`RecurrentCell`].
///
/// `z [t, b·l, gates·h]` is what each step reads, multiplied by its weight, `u [1|t, h, gates·h]` the weight
/// of the state (with a row of biases more for a GRU), `start [t, b, h]` the state before the first step
/// (`[t, b, 2h]` for an LSTM, the cell after the hidden state), `mask [t, b·l, 1]` a constant, 0 at the
/// steps that leave the state as it is. Returns what is `shown`, `[t, b·slots, h]`; in the order of the
/// steps also where they are read in `reverse`.
///
/// # Panics
/// When the shapes do not fit.
pub fn recur<B: Primitives>(
    cell: RecurrentCell,
    inputs: RecurrenceInputs<Tensor<B, 3>>,
    shown: Shown,
    reverse: bool,
) -> Tensor<B, 3> {
    let ([tasks, rows, gates], [weight_tasks, weight_rows, columns], [_, items, state]) =
        (inputs.z.dims(), inputs.u.dims(), inputs.start.dims());
    check_tasks("recur", tasks, weight_tasks);
    let form = Recurrence {
        cell,
        tasks,
        weight_tasks,
        items,
        steps: rows / items.max(1),
        width: gates / cell.gates(),
        reverse,
        shown,
    };
    let fits = items > 0
        && rows > 0
        && rows.is_multiple_of(items)
        && gates == form.gates_width()
        && columns == gates
        && weight_rows == form.weight_rows()
        && inputs.start.dims()[0] == tasks
        && state == form.state_width()
        && (inputs.mask.as_ref()).is_none_or(|mask| mask.dims() == [tasks, rows, 1]);
    assert!(
        fits,
        "recur: {cell:?}, z {:?}, u {:?}, start {:?}, mask {:?}",
        inputs.z.dims(),
        inputs.u.dims(),
        inputs.start.dims(),
        inputs.mask.as_ref().map(Tensor::dims)
    );
    let dtype = inputs.z.dtype();
    let inputs = RecurrenceInputs {
        z: primitive(inputs.z),
        u: primitive(inputs.u),
        start: primitive(inputs.start),
        mask: inputs.mask.map(|mask| primitive(mask.detach().cast(dtype))),
    };
    tensor(B::recur(&form, inputs, false).0)
}

/// Matrix products over the last two axes, in the full precision of their operands.
///
/// [`Tensor::matmul`] rounds operands in single precision to 11 bits (TF32) on NVIDIA GPUs; this one does
/// not. Elsewhere the two are the same.
pub trait MatrixProduct {
    /// `self · other`; axes before the last two are repeated where one operand has length 1.
    #[must_use]
    fn product(self, other: Self) -> Self;
}

impl<B: Primitives, const D: usize> MatrixProduct for Tensor<B, D> {
    fn product(self, other: Self) -> Self {
        if B::ROUNDS_PRODUCTS && D >= 2 {
            full_product(self, other)
        } else {
            self.matmul(other)
        }
    }
}

/// The product as a linear form.
fn full_product<B: Primitives, const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> Tensor<B, D> {
    let (rows, terms, columns) = (a.dims()[D - 2], a.dims()[D - 1], b.dims()[D - 1]);
    let mut shape = [1; D];
    for (length, (a, b)) in shape[..D - 2].iter_mut().zip(a.dims().iter().zip(b.dims())) {
        *length = (*a).max(b);
    }
    let batches: usize = shape[..D - 2].iter().product();
    (shape[D - 2], shape[D - 1]) = (rows, terms);
    let x = a.expand(shape).reshape([batches, rows, terms]);
    let w = if b.dims()[..D - 2].iter().all(|&length| length == 1) {
        b.reshape([1, terms, columns])
    } else {
        (shape[D - 2], shape[D - 1]) = (terms, columns);
        b.expand(shape).reshape([batches, terms, columns])
    };
    (shape[D - 2], shape[D - 1]) = (rows, columns);
    linear(x, w).reshape(shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use burn::tensor::Distribution;

    fn assert_equal<const D: usize>(a: [usize; D], b: [usize; D]) {
        let random = |shape: [usize; D]| {
            let device = Default::default();
            Tensor::<Cpu, D>::random(shape, Distribution::Uniform(-1.0, 1.0), &device)
        };
        let (x, y) = (random(a), random(b));
        let full = full_product(x.clone(), y.clone());
        let stock = x.matmul(y);
        assert_eq!(full.dims(), stock.dims(), "{a:?} {b:?}");
        let off = (full - stock).abs().max().into_scalar();
        // Sums of four products of numbers below 1, in another order.
        assert!(off < 1e-6, "{a:?} {b:?}: {off}");
    }

    #[test]
    fn a_full_product_is_the_product() {
        assert_equal([3, 4], [4, 5]);
        assert_equal([2, 3, 4], [2, 4, 5]);
        assert_equal([1, 3, 4], [2, 4, 5]);
        assert_equal([2, 3, 4], [1, 4, 5]);
        assert_equal([2, 1, 3, 4], [1, 6, 4, 5]);
    }
}
