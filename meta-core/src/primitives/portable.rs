//! The primitives composed from stock tensor operations: right on any backend, fast on none.
//!
//! Only operations that Burn 0.21 differentiates correctly are used, so that the compositions can
//! also stand on an autodiff level.

use burn::tensor::{
    Int, Tensor, TensorMetadata, TensorPrimitive,
    ops::{FloatTensor, IntTensor},
};

use super::{
    Activation, Conv2dForm, Form, LinearForm, LinearMap, PairsForm, Pooling, Primitives, Role,
    ScaleForm, Winners,
};
use crate::params::{primitive, tensor};

/// See [`Primitives::contract`].
pub fn contract<B: Primitives>(
    form: &Form,
    wanted: Role,
    left: FloatTensor<B>,
    right: FloatTensor<B>,
) -> FloatTensor<B> {
    match form {
        Form::Linear(form) => primitive(contract_linear::<B>(
            form,
            wanted,
            tensor(left),
            tensor(right),
        )),
        Form::Scale(form) => primitive(contract_scale::<B>(
            form,
            wanted,
            tensor(left),
            tensor(right),
        )),
        Form::Pairs(form) => match wanted {
            Role::Output => primitive(
                of_heads::<B>(form, form.queries, tensor(left))
                    .matmul(of_heads(form, form.keys, tensor(right)).swap_dims(2, 3)),
            ),
            Role::Input => {
                let read = tensor::<B, 4>(right).matmul(of_heads(form, form.keys, tensor(left)));
                primitive(of_tokens(form, form.queries, read))
            }
            Role::Weight => {
                let map: Tensor<B, 4> = tensor(right);
                let read = (map.swap_dims(2, 3)).matmul(of_heads(form, form.queries, tensor(left)));
                primitive(of_tokens(form, form.keys, read))
            }
        },
        Form::Conv2d(form) => match wanted {
            Role::Output => primitive(conv2d::<B>(form, tensor(left), tensor(right))),
            Role::Input => primitive(conv2d_input::<B>(form, tensor(left), tensor(right))),
            Role::Weight => primitive(conv2d_weight::<B>(form, tensor(left), tensor(right))),
        },
    }
}

/// Tokens `[t, b·l, heads·d]` as `[n, heads, l, d]`.
fn of_heads<B: Primitives>(form: &PairsForm, length: usize, x: Tensor<B, 3>) -> Tensor<B, 4> {
    x.reshape([form.sequences, length, form.heads, form.width])
        .swap_dims(1, 2)
}

/// The inverse of [`of_heads`].
fn of_tokens<B: Primitives>(form: &PairsForm, length: usize, x: Tensor<B, 4>) -> Tensor<B, 3> {
    x.swap_dims(1, 2).reshape([
        form.tasks,
        form.sequences / form.tasks * length,
        form.heads * form.width,
    ])
}

/// Folds the task axis into the items where the weight is shared: one large product instead of many.
fn fold<B: Primitives>(x: Tensor<B, 3>, weight_tasks: usize) -> Tensor<B, 3> {
    let [t, b, f] = x.dims();
    x.reshape([weight_tasks, t * b / weight_tasks, f])
}

fn contract_linear<B: Primitives>(
    form: &LinearForm,
    wanted: Role,
    left: Tensor<B, 3>,
    right: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let LinearForm {
        tasks,
        weight_tasks,
        items,
        inputs,
        outputs,
    } = *form;
    match wanted {
        Role::Output => fold(left, weight_tasks)
            .matmul(right)
            .reshape([tasks, items, outputs]),
        Role::Input => fold(right, weight_tasks)
            .matmul(left.swap_dims(1, 2))
            .reshape([tasks, items, inputs]),
        Role::Weight => outer_products(fold(left, weight_tasks), fold(right, weight_tasks), tasks),
    }
}

fn contract_scale<B: Primitives>(
    form: &ScaleForm,
    wanted: Role,
    left: Tensor<B, 3>,
    right: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let product = left * right;
    match wanted {
        Role::Output | Role::Input => product,
        Role::Weight => sum_rows(product, form.weight_tasks),
    }
}

fn sum_rows<B: Primitives>(x: Tensor<B, 3>, tasks: usize) -> Tensor<B, 3> {
    fold(x, tasks).sum_dim(1)
}

/// Rows of each of the products that a long sum of outer products is cut into, at least.
const SUMMED_ROWS: usize = 256;

/// `Σᵣ xᵣᵀ yᵣ` over the rows of each weight: `x [n, r, i]` and `y [n, r, o]` to `[n, i, o]`.
///
/// A weight has few numbers and many rows, so that one product would keep a GPU waiting for few threads
/// with long sums: it is cut into products of some rows of one task, which are summed. Whether it is cut
/// does not depend on the number of tasks.
fn outer_products<B: Primitives>(x: Tensor<B, 3>, y: Tensor<B, 3>, tasks: usize) -> Tensor<B, 3> {
    let ([n, rows, inputs], outputs) = (x.dims(), y.dims()[2]);
    let tasks_of_weight = tasks / n;
    let parts = parts(rows / tasks_of_weight);
    if parts == 1 {
        return x.swap_dims(1, 2).matmul(y);
    }
    let count = n * tasks_of_weight * parts;
    let x = x.reshape([count, n * rows / count, inputs]);
    let y = y.reshape([count, n * rows / count, outputs]);
    (x.swap_dims(1, 2).matmul(y))
        .reshape([n, count / n, inputs * outputs])
        .sum_dim(1)
        .reshape([n, inputs, outputs])
}

/// Into how many equal parts of at least [`SUMMED_ROWS`] the rows of a task can be cut.
fn parts(rows: usize) -> usize {
    let most = (rows / SUMMED_ROWS).max(1);
    (1..=most)
        .rev()
        .find(|&parts| rows.is_multiple_of(parts))
        .unwrap_or(1)
}

/// How images are laid into a frame of zeros, and windows over it.
#[derive(Clone, Copy)]
struct Frame {
    /// The distance that pixels are moved apart to.
    spread: usize,
    /// Zeros before the first pixel; less than none where pixels are left out.
    before: isize,
    height: usize,
    width: usize,
    /// The distance of windows.
    step: usize,
}

impl Frame {
    /// What the windows of a convolution read: at `(row, column)` of the output, all taps.
    fn read(form: &Conv2dForm) -> Self {
        let extent = |windows: usize| (windows - 1) * form.stride + form.kernel;
        Frame {
            spread: 1,
            before: form.padding as isize,
            height: extent(form.out_height()),
            width: extent(form.out_width()),
            step: form.stride,
        }
    }

    /// Where an input was read: at `(row, column)` of the input, for all taps from the last to the first,
    /// the output that it went to.
    fn written(form: &Conv2dForm) -> Self {
        Frame {
            spread: form.stride,
            before: form.kernel as isize - 1 - form.padding as isize,
            height: form.height + form.kernel - 1,
            width: form.width + form.kernel - 1,
            step: 1,
        }
    }

    /// The images `[n, h, w, c]` in the frame.
    fn lay<B: Primitives>(self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let ([n, h, w, c], options) = (x.dims(), (&x.device(), x.dtype()));
        let x = match self.spread {
            1 => x,
            s => Tensor::zeros([n, h, s, w, s, c], options)
                .slice_assign(
                    [0..n, 0..h, 0..1, 0..w, 0..1, 0..c],
                    x.reshape([n, h, 1, w, 1, c]),
                )
                .reshape([n, h * s, w * s, c]),
        };
        let [_, h, w, _] = x.dims();
        let (from, to) = (
            self.before.min(0).unsigned_abs(),
            self.before.max(0) as usize,
        );
        let rows = h.saturating_sub(from).min(self.height.saturating_sub(to));
        let columns = w.saturating_sub(from).min(self.width.saturating_sub(to));
        let frame = || Tensor::zeros([n, self.height, self.width, c], options);
        if rows * columns == 0 {
            return frame();
        }
        let x = x.slice([0..n, from..from + rows, from..from + columns, 0..c]);
        if [rows, columns] == [self.height, self.width] {
            return x;
        }
        frame().slice_assign([0..n, to..to + rows, to..to + columns, 0..c], x)
    }
}

/// Taps of a window of so many channels, with as many empty ones after them as make a row of whole groups
/// of four numbers, which is how GPUs read them.
fn padded_taps(form: &Conv2dForm, channels: usize) -> usize {
    let taps = form.kernel * form.kernel;
    (taps..)
        .find(|taps| (taps * channels).is_multiple_of(4))
        .expect("one of four in a row")
}

/// The windows of images as rows, `[weight_tasks, rows, kernel² · channels]`: a view, copied by one kernel.
fn windows<B: Primitives>(form: &Conv2dForm, frame: Frame, x: Tensor<B, 5>) -> Tensor<B, 3> {
    let [tasks, items, height, width, channels] = x.dims();
    let framed = frame.lay(x.reshape([tasks * items, height, width, channels]));
    let rows: Tensor<B, 5> = framed.unfold(1, form.kernel, frame.step);
    let windows: Tensor<B, 6> = rows.unfold(2, form.kernel, frame.step);
    let [n, rows, columns, ..] = windows.dims();
    let taps = form.kernel * form.kernel;
    let windows = windows.permute([0, 1, 2, 4, 5, 3]).reshape([
        form.weight_tasks,
        n * rows * columns / form.weight_tasks,
        taps * channels,
    ]);
    with_zeros(2, (padded_taps(form, channels) - taps) * channels, windows)
}

/// `x` and so many zeros after it along an axis.
fn with_zeros<B: Primitives>(axis: usize, count: usize, x: Tensor<B, 3>) -> Tensor<B, 3> {
    if count == 0 {
        return x;
    }
    let mut shape = x.dims();
    shape[axis] = count;
    let zeros = Tensor::zeros(shape, (&x.device(), x.dtype()));
    Tensor::cat(vec![x, zeros], axis)
}

/// The weight `[weight_tasks, kernel², channels, outputs]` as a matrix that fits the windows.
fn weight_matrix<B: Primitives>(form: &Conv2dForm, weight: Tensor<B, 4>) -> Tensor<B, 3> {
    let [tasks, taps, channels, outputs] = weight.dims();
    let empty = (padded_taps(form, channels) - taps) * channels;
    with_zeros(1, empty, weight.reshape([tasks, taps * channels, outputs]))
}

fn output_rows<B: Primitives>(form: &Conv2dForm, y: Tensor<B, 5>) -> Tensor<B, 3> {
    let rows = form.tasks * form.items * form.out_height() * form.out_width();
    y.reshape([
        form.weight_tasks,
        rows / form.weight_tasks,
        form.out_channels,
    ])
}

/// Numbers of the windows that are gathered at once, at most: a buffer of 64 MiB in f32, and half of what
/// every WebGPU device has.
const GATHERED: usize = 1 << 24;

/// The form cut in two, and the axis along which, where its windows are too many to be gathered at once.
fn halves(form: &Conv2dForm, wanted: Role) -> Option<(usize, [Conv2dForm; 2])> {
    let (pixels, channels) = match wanted {
        Role::Input => (form.height * form.width, form.out_channels),
        Role::Weight | Role::Output => (form.out_height() * form.out_width(), form.in_channels),
    };
    let numbers = pixels * padded_taps(form, channels) * channels * form.items * form.tasks;
    if numbers <= GATHERED || form.items * form.tasks == 1 {
        return None;
    }
    let mut halves = [*form; 2];
    let axis = match form.items {
        1 => {
            halves[0].tasks = form.tasks / 2;
            halves[1].tasks = form.tasks - form.tasks / 2;
            if form.weight_tasks > 1 {
                halves
                    .iter_mut()
                    .for_each(|half| half.weight_tasks = half.tasks);
            }
            0
        }
        items => {
            halves[0].items = items / 2;
            halves[1].items = items - items / 2;
            1
        }
    };
    Some((axis, halves))
}

/// The images of each half.
fn cut<B: Primitives>(axis: usize, halves: &[Conv2dForm; 2], x: Tensor<B, 5>) -> [Tensor<B, 5>; 2] {
    let first = match axis {
        0 => halves[0].tasks,
        _ => halves[0].items,
    };
    let rest = x.dims()[axis] - first;
    [
        x.clone().narrow(axis, 0, first),
        x.narrow(axis, first, rest),
    ]
}

/// The weights of each half.
fn cut_weight<B: Primitives>(halves: &[Conv2dForm; 2], weight: Tensor<B, 4>) -> [Tensor<B, 4>; 2] {
    let [first, second] = halves.map(|half| half.weight_tasks);
    match weight.dims()[0] == first {
        true => [weight.clone(), weight],
        false => [
            weight.clone().narrow(0, 0, first),
            weight.narrow(0, first, second),
        ],
    }
}

fn conv2d<B: Primitives>(form: &Conv2dForm, x: Tensor<B, 5>, weight: Tensor<B, 4>) -> Tensor<B, 5> {
    if let Some((axis, halves)) = halves(form, Role::Output) {
        let ([x, x2], [w, w2]) = (cut(axis, &halves, x), cut_weight(&halves, weight));
        let outputs = vec![conv2d(&halves[0], x, w), conv2d(&halves[1], x2, w2)];
        return Tensor::cat(outputs, axis);
    }
    windows(form, Frame::read(form), x)
        .matmul(weight_matrix(form, weight))
        .reshape([
            form.tasks,
            form.items,
            form.out_height(),
            form.out_width(),
            form.out_channels,
        ])
}

/// The adjoint in the input, again a convolution: each input gathers the outputs that it went to.
fn conv2d_input<B: Primitives>(
    form: &Conv2dForm,
    weight: Tensor<B, 4>,
    y: Tensor<B, 5>,
) -> Tensor<B, 5> {
    if let Some((axis, halves)) = halves(form, Role::Input) {
        let ([y, y2], [w, w2]) = (cut(axis, &halves, y), cut_weight(&halves, weight));
        let inputs = vec![
            conv2d_input(&halves[0], w, y),
            conv2d_input(&halves[1], w2, y2),
        ];
        return Tensor::cat(inputs, axis);
    }
    windows(form, Frame::written(form), y)
        .matmul(weight_matrix(form, weight.flip([1]).swap_dims(2, 3)))
        .reshape([
            form.tasks,
            form.items,
            form.height,
            form.width,
            form.in_channels,
        ])
}

fn conv2d_weight<B: Primitives>(
    form: &Conv2dForm,
    x: Tensor<B, 5>,
    y: Tensor<B, 5>,
) -> Tensor<B, 4> {
    if let Some((axis, halves)) = halves(form, Role::Weight) {
        let ([x, x2], [y, y2]) = (cut(axis, &halves, x), cut(axis, &halves, y));
        let (first, second) = (
            conv2d_weight(&halves[0], x, y),
            conv2d_weight(&halves[1], x2, y2),
        );
        return match axis == 0 && form.weight_tasks > 1 {
            true => Tensor::cat(vec![first, second], 0),
            false => first + second,
        };
    }
    let x = windows(form, Frame::read(form), x);
    let taps = form.kernel * form.kernel;
    outer_products(x, output_rows(form, y), form.tasks)
        .narrow(1, 0, taps * form.in_channels)
        .reshape([form.weight_tasks, taps, form.in_channels, form.out_channels])
}

/// See [`Primitives::map_linear`].
pub fn map_linear<B: Primitives>(
    map: &LinearMap<IntTensor<B>>,
    x: FloatTensor<B>,
) -> FloatTensor<B> {
    match map {
        LinearMap::BroadcastRows {
            tasks,
            rows,
            channels,
            ..
        } => primitive(tensor::<B, 3>(x).expand([*tasks, *rows, *channels])),
        LinearMap::Select { pooling, index } => {
            let planes = tensor::<B, 4>(x).reshape(planes(pooling));
            let winners: Tensor<B, 3> = planes.gather(1, winners::<B>(pooling, index));
            primitive(winners.reshape(pooled(pooling)))
        }
    }
}

/// See [`Primitives::add_rows`].
pub fn add_rows<B: Primitives>(
    map: &LinearMap<IntTensor<B>>,
    x: FloatTensor<B>,
    b: FloatTensor<B>,
) -> FloatTensor<B> {
    B::float_add(x, B::map_linear(map, b))
}

/// See [`Primitives::map_adjoint`].
pub fn map_adjoint<B: Primitives>(
    map: &LinearMap<IntTensor<B>>,
    y: FloatTensor<B>,
) -> FloatTensor<B> {
    match map {
        LinearMap::BroadcastRows { source_tasks, .. } => {
            primitive(sum_rows::<B>(tensor(y), *source_tasks))
        }
        LinearMap::Select { pooling, index } => {
            let index = winners::<B>(pooling, index);
            let y = tensor::<B, 4>(y);
            let zeros = Tensor::<B, 3>::zeros(planes(pooling), (&y.device(), y.dtype()));
            let values = y.reshape(index.dims());
            let scattered = zeros.scatter(1, index, values, burn::tensor::IndexingUpdateOp::Add);
            primitive(scattered.reshape([
                pooling.items,
                pooling.height,
                pooling.width,
                pooling.channels,
            ]))
        }
    }
}

fn planes(pooling: &Pooling) -> [usize; 3] {
    [
        pooling.items,
        pooling.height * pooling.width,
        pooling.channels,
    ]
}

fn pooled(pooling: &Pooling) -> [usize; 4] {
    [
        pooling.items,
        pooling.out_height(),
        pooling.out_width(),
        pooling.channels,
    ]
}

fn winners<B: Primitives>(pooling: &Pooling, index: &IntTensor<B>) -> Tensor<B, 3, Int> {
    let [items, height, width, channels] = pooled(pooling);
    Tensor::<B, 4, Int>::from_primitive(index.clone()).reshape([items, height * width, channels])
}

/// See [`Primitives::max_pool`].
pub fn max_pool<B: Primitives>(
    pooling: &Pooling,
    x: FloatTensor<B>,
) -> (FloatTensor<B>, IntTensor<B>) {
    let x: Tensor<B, 4> = Tensor::from_primitive(TensorPrimitive::Float(x));
    let (size, device) = (pooling.size, x.device());
    let [items, height, width, channels] = pooled(pooling);
    // One candidate per position in the window; a later one wins only where it is larger.
    let rows: Tensor<B, 5> = x.unfold(1, size, size);
    let windows: Tensor<B, 6> = rows.unfold(2, size, size);
    let candidates =
        windows
            .permute([4, 5, 0, 1, 2, 3])
            .reshape([size * size, items, height, width, channels]);
    let candidate = |tap: usize| {
        let value = candidates.clone().narrow(0, tap, 1);
        value.reshape([items, height, width, channels])
    };
    let corner = {
        let rows = Tensor::<B, 1, Int>::arange(0..height as i64, &device)
            .mul_scalar((size * pooling.width) as i64)
            .reshape([1, height, 1, 1]);
        let columns = Tensor::<B, 1, Int>::arange(0..width as i64, &device)
            .mul_scalar(size as i64)
            .reshape([1, 1, width, 1]);
        (rows.expand([items, height, width, channels]))
            + columns.expand([items, height, width, channels])
    };
    let mut maxima = candidate(0);
    let mut index = corner.clone();
    for tap in 1..size * size {
        let value = candidate(tap);
        let wins = value.clone().greater(maxima.clone());
        let position = (tap / size * pooling.width + tap % size) as i64;
        maxima = maxima.mask_where(wins.clone(), value);
        index = index.mask_where(wins, corner.clone().add_scalar(position));
    }
    (primitive(maxima), index.into_primitive())
}

/// Mean over the rows of each task, `[t, 1, c]`.
fn mean_rows<B: Primitives>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let rows = x.dims()[1];
    super::sum_rows(x).mul_scalar(1.0 / rows as f64)
}

/// `x` less its mean over rows.
fn centred<B: Primitives>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let mean = mean_rows(x.clone());
    super::add_rows(x, mean.neg())
}

/// `x̂` and `1/√(σ² + ε)`.
fn standardized<B: Primitives>(x: Tensor<B, 3>, epsilon: f64) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let centred = centred(x);
    let variance = mean_rows(centred.clone() * centred.clone());
    let inverse_deviation = variance.add_scalar(epsilon).powf_scalar(-0.5);
    (
        super::scale(centred, inverse_deviation.clone()),
        inverse_deviation,
    )
}

/// See [`Primitives::standardize`].
pub fn standardize<B: Primitives>(x: FloatTensor<B>, epsilon: f64) -> FloatTensor<B> {
    primitive(standardized::<B>(tensor(x), epsilon).0)
}

/// `g` less its projections on the constant and on `x̂`, and the coefficient `mean(x̂ g)`.
fn project<B: Primitives>(x_hat: &Tensor<B, 3>, g: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let coefficient = mean_rows(x_hat.clone() * g.clone());
    let projected = centred(g) - super::scale(x_hat.clone(), coefficient.clone());
    (projected, coefficient)
}

/// See [`Primitives::standardize_adjoint`]: `J g = ρ (g − ḡ − x̂ · mean(x̂ g))`, `ρ = 1/√(σ² + ε)`.
pub fn standardize_adjoint<B: Primitives>(
    x: FloatTensor<B>,
    g: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (x_hat, inverse_deviation) = standardized::<B>(tensor(x), epsilon);
    let (projected, _) = project(&x_hat, tensor(g));
    primitive(super::scale(projected, inverse_deviation))
}

/// See [`Primitives::standardize_curvature`]: with `a = mean(x̂ g)`, `b = mean(x̂ u)`,
/// `s = mean(u g) − ū ḡ − a b`, it is `−ρ² (s x̂ + b (g − ḡ − a x̂) + a (u − ū − b x̂))`.
pub fn standardize_curvature<B: Primitives>(
    x: FloatTensor<B>,
    g: FloatTensor<B>,
    u: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (x_hat, inverse_deviation) = standardized::<B>(tensor(x), epsilon);
    let (g_projected, a) = project(&x_hat, tensor(g));
    let (u_projected, b) = project(&x_hat, tensor(u));
    // Without cancellation: mean(u g) − ū ḡ − a b is the mean of the product of the projections plus
    // a b (1 − mean(x̂²)), and mean(x̂²) = 1 − ε ρ².
    let remainder = (inverse_deviation.clone() * inverse_deviation.clone()).mul_scalar(epsilon);
    let s =
        mean_rows(g_projected.clone() * u_projected.clone()) + a.clone() * b.clone() * remainder;
    let sum = super::scale(x_hat, s) + super::scale(g_projected, b) + super::scale(u_projected, a);
    let factor = (inverse_deviation.clone() * inverse_deviation).neg();
    primitive(super::scale(sum, factor))
}

/// The images of each task as rows, `[t, r, c]`.
fn as_rows<B: Primitives>(tasks: usize, pooling: &Pooling, x: FloatTensor<B>) -> FloatTensor<B> {
    let rows = pooling.items / tasks * pooling.height * pooling.width;
    B::float_reshape(x, [tasks, rows, pooling.channels].into())
}

/// The images of all tasks, `[n, h, w, c]`.
fn as_images<B: Primitives>(pooling: &Pooling, x: FloatTensor<B>) -> FloatTensor<B> {
    let Pooling {
        items,
        height,
        width,
        channels,
        ..
    } = *pooling;
    B::float_reshape(x, [items, height, width, channels].into())
}

/// See [`Primitives::standardize_pool`].
pub fn standardize_pool<B: Primitives>(
    pooling: &Pooling,
    x: FloatTensor<B>,
    direction: FloatTensor<B>,
    epsilon: f64,
) -> (FloatTensor<B>, Winners<IntTensor<B>>) {
    let tasks = x.shape()[0];
    let x_hat = B::standardize(as_rows::<B>(tasks, pooling, x), epsilon);
    let direction: Tensor<B, 3> = tensor(direction);
    let sign = direction
        .ones_like()
        .mask_fill(direction.lower_elem(0.0), -1.0);
    let signed = super::scale(tensor::<B, 3>(x_hat.clone()), sign);
    let (_, index) = B::max_pool(pooling, as_images::<B>(pooling, primitive(signed)));
    let winners = Winners {
        pooling: *pooling,
        tasks,
        epsilon,
        index,
        moments: None,
    };
    let p = B::map_linear(&winners.select(), as_images::<B>(pooling, x_hat));
    (B::float_reshape(p, winners.pooled_shape().into()), winners)
}

/// `Sᵀh` as rows.
fn scattered<B: Primitives>(winners: &Winners<IntTensor<B>>, h: FloatTensor<B>) -> FloatTensor<B> {
    let pooling = &winners.pooling;
    let h = B::float_reshape(h, pooled(pooling).into());
    let scattered = B::map_adjoint(&winners.select(), h);
    as_rows::<B>(winners.tasks, pooling, scattered)
}

/// See [`Primitives::standardize_pool_adjoint`].
pub fn standardize_pool_adjoint<B: Primitives>(
    winners: &Winners<IntTensor<B>>,
    x: FloatTensor<B>,
    h: FloatTensor<B>,
) -> FloatTensor<B> {
    let (tasks, pooling) = (winners.tasks, &winners.pooling);
    let x = as_rows::<B>(tasks, pooling, x);
    let adjoint = B::standardize_adjoint(x, scattered::<B>(winners, h), winners.epsilon);
    B::float_reshape(adjoint, winners.full_shape().into())
}

/// See [`Primitives::standardize_pool_curvature`].
pub fn standardize_pool_curvature<B: Primitives>(
    winners: &Winners<IntTensor<B>>,
    x: FloatTensor<B>,
    h: FloatTensor<B>,
    u: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (tasks, pooling, epsilon) = (winners.tasks, &winners.pooling, winners.epsilon);
    let (x, u) = (
        as_rows::<B>(tasks, pooling, x),
        as_rows::<B>(tasks, pooling, u),
    );
    let g = scattered::<B>(winners, h);
    let along_x = B::standardize_curvature(x.clone(), g, u.clone(), epsilon);
    let tangent = as_images::<B>(pooling, B::standardize_adjoint(x, u, epsilon));
    let along_h = B::map_linear(&winners.select(), tangent);
    (
        B::float_reshape(along_x, winners.full_shape().into()),
        B::float_reshape(along_h, winners.pooled_shape().into()),
    )
}

/// See [`Primitives::bias_relu`].
pub fn bias_relu<B: Primitives>(
    map: &LinearMap<IntTensor<B>>,
    x: FloatTensor<B>,
    b: FloatTensor<B>,
) -> FloatTensor<B> {
    B::relu(B::add_rows(map, x, b))
}

/// See [`Primitives::gate`].
pub fn gate<B: Primitives>(y: FloatTensor<B>, g: FloatTensor<B>) -> FloatTensor<B> {
    B::relu_backward(y, g)
}

/// See [`Primitives::descend`].
pub fn descend<B: Primitives>(
    theta: FloatTensor<B>,
    g: FloatTensor<B>,
    rate: f64,
) -> FloatTensor<B> {
    B::float_sub(theta, B::float_mul_scalar(g, rate.into()))
}

/// See [`Primitives::affine`].
pub fn affine<B: Primitives>(
    form: &Form,
    map: &LinearMap<IntTensor<B>>,
    activation: Activation,
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    b: FloatTensor<B>,
) -> FloatTensor<B> {
    let y = B::contract(form, Role::Output, x, w);
    match activation {
        Activation::Identity => B::add_rows(map, y, b),
        Activation::Relu => B::bias_relu(map, y, b),
    }
}

/// `x` less its mean along the channels.
fn layer_centred<B: Primitives>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    x.clone() - x.mean_dim(2)
}

/// `x̂` and `1/√(σ² + ε)` of every row.
fn layer_standardized<B: Primitives>(
    x: Tensor<B, 3>,
    epsilon: f64,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let centred = layer_centred(x);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    let inverse_deviation = variance.add_scalar(epsilon).powf_scalar(-0.5);
    (centred * inverse_deviation.clone(), inverse_deviation)
}

/// See [`Primitives::layer_standardize`].
pub fn layer_standardize<B: Primitives>(x: FloatTensor<B>, epsilon: f64) -> FloatTensor<B> {
    primitive(layer_standardized::<B>(tensor(x), epsilon).0)
}

/// `g` less its projections on the constant and on `x̂`, and the coefficient `mean(x̂ g)`.
fn layer_project<B: Primitives>(
    x_hat: &Tensor<B, 3>,
    g: Tensor<B, 3>,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let coefficient = (x_hat.clone() * g.clone()).mean_dim(2);
    let projected = layer_centred(g) - x_hat.clone() * coefficient.clone();
    (projected, coefficient)
}

/// See [`Primitives::layer_standardize_adjoint`]; the equation is that of [`standardize_adjoint`].
pub fn layer_standardize_adjoint<B: Primitives>(
    x: FloatTensor<B>,
    g: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (x_hat, inverse_deviation) = layer_standardized::<B>(tensor(x), epsilon);
    let (projected, _) = layer_project(&x_hat, tensor(g));
    primitive(projected * inverse_deviation)
}

/// See [`Primitives::layer_standardize_curvature`]; the equation is that of
/// [`standardize_curvature`].
pub fn layer_standardize_curvature<B: Primitives>(
    x: FloatTensor<B>,
    g: FloatTensor<B>,
    u: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (x_hat, inverse_deviation) = layer_standardized::<B>(tensor(x), epsilon);
    let (g_projected, a) = layer_project(&x_hat, tensor(g));
    let (u_projected, b) = layer_project(&x_hat, tensor(u));
    let remainder = (inverse_deviation.clone() * inverse_deviation.clone()).mul_scalar(epsilon);
    let s =
        (g_projected.clone() * u_projected.clone()).mean_dim(2) + a.clone() * b.clone() * remainder;
    let sum = x_hat * s + g_projected * b + u_projected * a;
    primitive((sum * (inverse_deviation.clone() * inverse_deviation)).neg())
}

/// See [`Primitives::scaled_softmax`].
pub fn scaled_softmax<B: Primitives>(x: FloatTensor<B>, factor: f64) -> FloatTensor<B> {
    let x: Tensor<B, 4> = tensor(x);
    let highest = x.clone().max_dim(3);
    // Where nothing is read, the differences would be −∞ + ∞; some backends say the least number there.
    let nothing = highest.clone().lower_equal_elem(f64::from(f32::MIN));
    let weights = (x - highest.mask_fill(nothing, 0.0))
        .mul_scalar(factor)
        .exp();
    let sums = weights.clone().sum_dim(3);
    let nothing = sums.clone().equal_elem(0.0);
    let sums = sums.mask_fill(nothing, 1.0);
    primitive(weights / sums)
}

/// `⟨p, g⟩` along the last axis.
fn along_keys<B: Primitives>(p: &Tensor<B, 4>, g: &Tensor<B, 4>) -> Tensor<B, 4> {
    (p.clone() * g.clone()).sum_dim(3)
}

/// See [`Primitives::scaled_softmax_adjoint`].
pub fn scaled_softmax_adjoint<B: Primitives>(
    p: FloatTensor<B>,
    g: FloatTensor<B>,
    factor: f64,
) -> FloatTensor<B> {
    let (p, g): (Tensor<B, 4>, Tensor<B, 4>) = (tensor(p), tensor(g));
    let mean = along_keys(&p, &g);
    primitive((p * (g - mean)).mul_scalar(factor))
}

/// See [`Primitives::scaled_softmax_curvature`].
pub fn scaled_softmax_curvature<B: Primitives>(
    p: FloatTensor<B>,
    g: FloatTensor<B>,
    u: FloatTensor<B>,
    factor: f64,
) -> FloatTensor<B> {
    let (p, g, u): (Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 4>) = (tensor(p), tensor(g), tensor(u));
    let (g_mean, u_mean) = (along_keys(&p, &g), along_keys(&p, &u));
    let curvature = u.clone() * (g.clone() - g_mean) - g * u_mean;
    primitive(curvature.mul_scalar(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_form_is_cut_between_its_tasks() {
        let form = Conv2dForm {
            tasks: 3,
            weight_tasks: 3,
            items: 1,
            height: 1500,
            width: 1000,
            in_channels: 2,
            out_channels: 1,
            kernel: 3,
            stride: 1,
            padding: 1,
        };
        let (axis, [first, second]) = halves(&form, Role::Output).expect("too large at once");
        assert_eq!((axis, first.tasks, second.tasks), (0, 1, 2));
        assert_eq!((first.weight_tasks, second.weight_tasks), (1, 2));
        assert_eq!(halves(&first, Role::Output), None);
    }
}
