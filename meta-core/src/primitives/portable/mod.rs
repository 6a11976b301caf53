//! The primitives composed from stock tensor operations: right on any backend, fast on none.
//!
//! Only operations that Burn 0.21 differentiates correctly are used, so that the compositions can
//! also stand on an autodiff level.

mod conv2d;
mod layer;
mod pool;
mod recurrence;
mod softmax;
mod standardize;

pub use layer::{layer_standardize, layer_standardize_adjoint, layer_standardize_curvature};
pub use pool::max_pool;
pub(super) use recurrence::{adjoint_derivatives, along_weight, before, shown};
pub use recurrence::{recur, recur_adjoint, recur_curvature, transposed_weight};
pub use softmax::{
    masked_softmax, scaled_softmax, scaled_softmax_adjoint, scaled_softmax_curvature,
};
pub use standardize::{
    standardize, standardize_adjoint, standardize_curvature, standardize_pool,
    standardize_pool_adjoint, standardize_pool_curvature,
};

use burn::tensor::{
    Tensor,
    ops::{FloatTensor, IntTensor},
};

use super::{
    Activation, AdamCorrections, LinearForm, LinearMap, PairsForm, Primitives, Role, ScaleForm,
    TrilinearForm,
};
use crate::primitives::{primitive, tensor};
use conv2d::{conv2d, conv2d_input, conv2d_weight};
use pool::{planes, pooled, winners};

/// See [`Primitives::contract`].
pub fn contract<B: Primitives>(
    form: &TrilinearForm,
    wanted: Role,
    left: FloatTensor<B>,
    right: FloatTensor<B>,
) -> FloatTensor<B> {
    match form {
        TrilinearForm::Linear(form) => primitive(contract_linear::<B>(
            form,
            wanted,
            tensor(left),
            tensor(right),
        )),
        TrilinearForm::Scale(form) => primitive(contract_scale::<B>(
            form,
            wanted,
            tensor(left),
            tensor(right),
        )),
        TrilinearForm::Pairs(form) => match wanted {
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
        TrilinearForm::Conv2d(form) => match wanted {
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
        LinearMap::Columns { start, count, .. } => {
            primitive(tensor::<B, 3>(x).narrow(2, *start, *count))
        }
    }
}

/// See [`Primitives::join`].
pub fn join<B: Primitives>(x: FloatTensor<B>, y: FloatTensor<B>) -> FloatTensor<B> {
    B::float_cat(vec![x, y], 2)
}

/// See [`Primitives::tanh`].
pub fn tanh<B: Primitives>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_tanh(x)
}

/// See [`Primitives::tanh_adjoint`].
pub fn tanh_adjoint<B: Primitives>(y: FloatTensor<B>, g: FloatTensor<B>) -> FloatTensor<B> {
    let square = B::float_mul(y.clone(), y);
    B::float_sub(g.clone(), B::float_mul(square, g))
}

/// See [`Primitives::tanh_curvature`].
pub fn tanh_curvature<B: Primitives>(
    y: FloatTensor<B>,
    g: FloatTensor<B>,
    u: FloatTensor<B>,
) -> FloatTensor<B> {
    B::float_mul(B::float_mul_scalar(y, (-2.0).into()), B::float_mul(g, u))
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
        LinearMap::Columns {
            width,
            start,
            count,
        } => {
            let y = tensor::<B, 3>(y);
            let [t, r, _] = y.dims();
            let zeros = |columns| Tensor::<B, 3>::zeros([t, r, columns], (&y.device(), y.dtype()));
            let (before, after) = (zeros(*start), zeros(width - start - count));
            let parts = [before, y.clone(), after];
            let parts = parts.into_iter().filter(|part| part.dims()[2] > 0);
            primitive(Tensor::cat(parts.collect(), 2))
        }
    }
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

/// See [`Primitives::sgd_step`].
pub fn sgd_step<B: Primitives>(
    theta: FloatTensor<B>,
    g: FloatTensor<B>,
    rate: f64,
) -> FloatTensor<B> {
    B::float_sub(theta, B::float_mul_scalar(g, rate.into()))
}

/// See [`Primitives::average`].
pub fn average<B: Primitives>(
    m: Option<FloatTensor<B>>,
    g: FloatTensor<B>,
    decay: f64,
    squared: bool,
) -> FloatTensor<B> {
    let g = if squared {
        B::float_mul(g.clone(), g)
    } else {
        g
    };
    let part = B::float_mul_scalar(g, (1.0 - decay).into());
    match m {
        Some(m) => B::float_add(B::float_mul_scalar(m, decay.into()), part),
        None => part,
    }
}

/// See [`Primitives::adam_direction`].
pub fn adam_direction<B: Primitives>(
    m: FloatTensor<B>,
    v: FloatTensor<B>,
    corrections: &AdamCorrections,
) -> FloatTensor<B> {
    let corrected = B::float_mul_scalar(v, corrections.second.into());
    let root = B::float_sqrt(match corrections.epsilon_root {
        0.0 => corrected,
        epsilon => B::float_add_scalar(corrected, epsilon.into()),
    });
    B::float_div(
        B::float_mul_scalar(m, corrections.first.into()),
        B::float_add_scalar(root, corrections.epsilon.into()),
    )
}

/// See [`Primitives::affine`].
pub fn affine<B: Primitives>(
    form: &TrilinearForm,
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
