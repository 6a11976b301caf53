//! The primitives composed from stock tensor operations: right on any backend, fast on none.
//!
//! Only operations that Burn 0.21 differentiates correctly are used, so that the compositions can
//! also stand on an autodiff level.

use burn::tensor::{
    Int, Slice, Tensor, TensorMetadata, TensorPrimitive,
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
        Role::Weight => fold(left, weight_tasks)
            .swap_dims(1, 2)
            .matmul(fold(right, weight_tasks)),
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

/// The region of the padded image that tap `(row, column)` of the kernel sees.
fn tap_region(form: &Conv2dForm, row: usize, column: usize) -> [Slice; 5] {
    let range = |start: usize, count: usize| {
        Slice::new(
            start as isize,
            Some((start + (count - 1) * form.stride + 1) as isize),
            form.stride as isize,
        )
    };
    [
        Slice::full(),
        Slice::full(),
        range(row, form.out_height()),
        range(column, form.out_width()),
        Slice::full(),
    ]
}

fn taps(form: &Conv2dForm) -> impl Iterator<Item = (usize, usize)> + use<> {
    let kernel = form.kernel;
    (0..kernel).flat_map(move |row| (0..kernel).map(move |column| (row, column)))
}

fn interior(form: &Conv2dForm) -> [Slice; 5] {
    let range = |count: usize| {
        Slice::new(
            form.padding as isize,
            Some((form.padding + count) as isize),
            1,
        )
    };
    [
        Slice::full(),
        Slice::full(),
        range(form.height),
        range(form.width),
        Slice::full(),
    ]
}

fn padded_zeros<B: Primitives>(form: &Conv2dForm, like: &Tensor<B, 5>) -> Tensor<B, 5> {
    Tensor::zeros(
        [
            form.tasks,
            form.items,
            form.height + 2 * form.padding,
            form.width + 2 * form.padding,
            form.in_channels,
        ],
        (&like.device(), like.dtype()),
    )
}

/// The windows as rows: `[weight_tasks, rows, kernel² · in_channels]`.
fn columns<B: Primitives>(form: &Conv2dForm, x: Tensor<B, 5>) -> Tensor<B, 3> {
    let padded = match form.padding {
        0 => x,
        _ => padded_zeros(form, &x).slice_assign(interior(form), x),
    };
    let windows = taps(form)
        .map(|(row, column)| padded.clone().slice(tap_region(form, row, column)))
        .collect();
    let windows: Tensor<B, 5> = Tensor::cat(windows, 4);
    windows.reshape([
        form.weight_tasks,
        rows_per_weight(form),
        form.kernel * form.kernel * form.in_channels,
    ])
}

fn rows_per_weight(form: &Conv2dForm) -> usize {
    form.tasks * form.items * form.out_height() * form.out_width() / form.weight_tasks
}

fn weight_matrix<B: Primitives>(form: &Conv2dForm, weight: Tensor<B, 4>) -> Tensor<B, 3> {
    weight.reshape([
        form.weight_tasks,
        form.kernel * form.kernel * form.in_channels,
        form.out_channels,
    ])
}

fn output_rows<B: Primitives>(form: &Conv2dForm, y: Tensor<B, 5>) -> Tensor<B, 3> {
    y.reshape([form.weight_tasks, rows_per_weight(form), form.out_channels])
}

fn conv2d<B: Primitives>(form: &Conv2dForm, x: Tensor<B, 5>, weight: Tensor<B, 4>) -> Tensor<B, 5> {
    columns(form, x)
        .matmul(weight_matrix(form, weight))
        .reshape([
            form.tasks,
            form.items,
            form.out_height(),
            form.out_width(),
            form.out_channels,
        ])
}

fn conv2d_input<B: Primitives>(
    form: &Conv2dForm,
    weight: Tensor<B, 4>,
    y: Tensor<B, 5>,
) -> Tensor<B, 5> {
    let (padded, c) = (padded_zeros(form, &y), form.in_channels);
    let columns = output_rows(form, y)
        .matmul(weight_matrix(form, weight).swap_dims(1, 2))
        .reshape([
            form.tasks,
            form.items,
            form.out_height(),
            form.out_width(),
            form.kernel * form.kernel * c,
        ]);
    let sum = taps(form)
        .enumerate()
        .fold(padded, |sum, (tap, (row, column))| {
            let region = tap_region(form, row, column);
            let contribution = columns.clone().narrow(4, tap * c, c);
            let updated = sum.clone().slice(region) + contribution;
            sum.slice_assign(region, updated)
        });
    match form.padding {
        0 => sum,
        _ => sum.slice(interior(form)),
    }
}

fn conv2d_weight<B: Primitives>(
    form: &Conv2dForm,
    x: Tensor<B, 5>,
    y: Tensor<B, 5>,
) -> Tensor<B, 4> {
    columns(form, x)
        .swap_dims(1, 2)
        .matmul(output_rows(form, y))
        .reshape([
            form.weight_tasks,
            form.kernel * form.kernel,
            form.in_channels,
            form.out_channels,
        ])
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
    let candidate = |row: usize, column: usize| {
        let range = |start: usize, count: usize| {
            Slice::new(
                start as isize,
                Some((start + (count - 1) * size + 1) as isize),
                size as isize,
            )
        };
        x.clone().slice([
            Slice::full(),
            range(row, height),
            range(column, width),
            Slice::full(),
        ])
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
    let mut maxima = candidate(0, 0);
    let mut index = corner.clone();
    for (row, column) in (0..size)
        .flat_map(|row| (0..size).map(move |column| (row, column)))
        .skip(1)
    {
        let value = candidate(row, column);
        let wins = value.clone().greater(maxima.clone());
        let position = corner
            .clone()
            .add_scalar((row * pooling.width + column) as i64);
        maxima = maxima.mask_where(wins.clone(), value);
        index = index.mask_where(wins, position);
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
    // Where nothing is read, the differences would be −∞ + ∞.
    let nothing = highest.clone().equal_elem(f64::NEG_INFINITY);
    let weights = (x - highest.mask_fill(nothing.clone(), 0.0))
        .mul_scalar(factor)
        .exp();
    let sums = weights.clone().sum_dim(3).mask_fill(nothing, 1.0);
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
