//! The primitives on backends whose tensors lie in the host's memory: the kernels of `meta-kernels`
//! behind any [`Host`].
//!
//! Every function picks the kernel for the dtype of its operand; anything but f32 and f64 falls back
//! on the portable composition.

mod host;

#[doc(hidden)]
pub use burn::tensor::{
    DType, TensorMetadata,
    ops::{FloatTensor, IntTensor},
};

pub use self::host::{Element, Host};
use super::{
    Activation, LinearMap, Pooling, Primitives, Recurrence, RecurrenceCurvature,
    RecurrenceGradient, RecurrenceInputs, RecurrenceRun, RecurrentCell, Role, TrilinearForm,
    Winners, portable,
};
#[doc(hidden)]
pub use meta_kernels::Kernels;
use meta_kernels::{
    recurrence::{Direction, Run},
    standardize_pool::Found,
};

/// See [`Primitives::contract`].
pub fn contract<T: Element<B>, B: Host>(
    form: &TrilinearForm,
    wanted: Role,
    left: FloatTensor<B>,
    right: FloatTensor<B>,
) -> FloatTensor<B> {
    if let TrilinearForm::Pairs(pairs) = form {
        let (left, right) = (B::contiguous(left), B::contiguous(right));
        let (l, r) = (T::slice(&left), T::slice(&right));
        let values = match wanted {
            Role::Output => T::pairs(pairs, l, r),
            Role::Input => T::pairs_input(pairs, r, l),
            Role::Weight => T::pairs_weight(pairs, r, l),
        };
        return T::tensor(values, form.shape(wanted));
    }
    let (left, right) = match wanted {
        Role::Output => (left, B::one_of_copies(right)),
        Role::Input => (B::one_of_copies(left), right),
        Role::Weight => (left, right),
    };
    let weight = match wanted {
        Role::Output => Some(right.shape()[0]),
        Role::Input => Some(left.shape()[0]),
        Role::Weight => None,
    };
    // Copies of one weight make one product of all tasks' items.
    let form = &match weight {
        Some(weight_tasks) => form.with_weight_tasks(weight_tasks),
        None => *form,
    };
    let (left, right) = (B::contiguous(left), B::contiguous(right));
    let (l, r) = (T::slice(&left), T::slice(&right));
    let values = match (form, wanted) {
        (TrilinearForm::Linear(form), Role::Output) => T::linear(form, l, r),
        (TrilinearForm::Linear(form), Role::Input) => T::linear_input(form, r, l),
        (TrilinearForm::Linear(form), Role::Weight) => T::linear_weight(form, l, r),
        (TrilinearForm::Conv2d(form), Role::Output) => T::conv2d(form, l, r),
        (TrilinearForm::Conv2d(form), Role::Input) => T::conv2d_input(form, r, l),
        (TrilinearForm::Conv2d(form), Role::Weight) => T::conv2d_weight(form, l, r),
        (TrilinearForm::Scale(form), wanted) => {
            let shape = [form.tasks, form.rows, form.channels];
            match wanted {
                Role::Output => T::scale(shape, l, r),
                Role::Input => T::scale(shape, r, l),
                Role::Weight => T::scale_weight(shape, form.weight_tasks, l, r),
            }
        }
        (TrilinearForm::Pairs(_), _) => unreachable!("done above"),
    };
    T::tensor(values, form.shape(wanted))
}

/// See [`Primitives::affine`].
pub fn affine<T: Element<B>, B: Host + Primitives>(
    form: &TrilinearForm,
    map: &LinearMap<IntTensor<B>>,
    activation: Activation,
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    b: FloatTensor<B>,
) -> FloatTensor<B> {
    let (w, b) = (B::one_of_copies(w), B::one_of_copies(b));
    let (weight_tasks, bias_tasks) = (w.shape()[0], b.shape()[0]);
    let fused = match form {
        TrilinearForm::Linear(_) => bias_tasks <= weight_tasks,
        TrilinearForm::Scale(_) => true,
        TrilinearForm::Conv2d(_) | TrilinearForm::Pairs(_) => false,
    };
    if !fused {
        return portable::affine::<B>(form, map, activation, x, w, b);
    }
    let form = form.with_weight_tasks(weight_tasks);
    let rectified = activation == Activation::Relu;
    let (x, w, b) = (B::contiguous(x), B::contiguous(w), B::contiguous(b));
    let (of_x, of_w, of_b) = (T::slice(&x), T::slice(&w), T::slice(&b));
    let values = match &form {
        TrilinearForm::Linear(form) => T::linear_add(form, of_x, of_w, of_b, rectified),
        TrilinearForm::Scale(form) => {
            let shape = [form.tasks, form.rows, form.channels];
            T::scale_add(shape, of_x, of_w, of_b, rectified)
        }
        TrilinearForm::Conv2d(_) | TrilinearForm::Pairs(_) => unreachable!("not fused"),
    };
    T::tensor(values, form.shape(Role::Output))
}

/// Runs a kernel on rows of the last axis of operands of one shape.
pub fn on_last_axis<T: Element<B>, B: Host, const N: usize>(
    operands: [FloatTensor<B>; N],
    kernel: impl FnOnce(usize, [&[T]; N]) -> Vec<T>,
) -> FloatTensor<B> {
    let shape = operands[0].shape().to_vec();
    let operands = operands.map(B::contiguous);
    let slices = std::array::from_fn(|i| T::slice(&operands[i]));
    let width = shape.last().copied().unwrap_or(1);
    T::tensor(kernel(width, slices), shape)
}

/// See [`Primitives::map_linear`].
pub fn map_linear<T: Element<B>, B: Host>(
    map: &LinearMap<IntTensor<B>>,
    x: FloatTensor<B>,
) -> FloatTensor<B> {
    let shape = x.shape();
    let x = B::contiguous(x);
    let x = T::slice(&x);
    match map {
        &LinearMap::BroadcastRows {
            tasks,
            rows,
            channels,
            ..
        } => {
            let shape = [tasks, rows, channels];
            T::tensor(T::broadcast_rows(shape, x), shape.to_vec())
        }
        LinearMap::Select { pooling, index } => {
            let values = B::with_index(index, |index| T::pool_select(pooling, x, index));
            T::tensor(values, pooled_shape(pooling))
        }
        &LinearMap::Columns {
            width,
            start,
            count,
        } => T::tensor(
            T::columns(width, x, start, count),
            vec![shape[0], shape[1], count],
        ),
    }
}

/// See [`Primitives::map_adjoint`].
pub fn map_adjoint<T: Element<B>, B: Host>(
    map: &LinearMap<IntTensor<B>>,
    y: FloatTensor<B>,
) -> FloatTensor<B> {
    let shape = y.shape();
    let y = B::contiguous(y);
    let y = T::slice(&y);
    match map {
        &LinearMap::BroadcastRows {
            tasks,
            source_tasks,
            rows,
            channels,
        } => {
            let sums = T::sum_rows([tasks, rows, channels], source_tasks, y);
            T::tensor(sums, vec![source_tasks, 1, channels])
        }
        LinearMap::Select { pooling, index } => {
            let values = B::with_index(index, |index| T::pool_scatter(pooling, y, index));
            let Pooling {
                items,
                height,
                width,
                channels,
                ..
            } = *pooling;
            T::tensor(values, vec![items, height, width, channels])
        }
        &LinearMap::Columns {
            width,
            start,
            count,
        } => T::tensor(
            T::columns_adjoint(width, y, start, count),
            vec![shape[0], shape[1], width],
        ),
    }
}

fn pooled_shape(pooling: &Pooling) -> Vec<usize> {
    vec![
        pooling.items,
        pooling.out_height(),
        pooling.out_width(),
        pooling.channels,
    ]
}

/// See [`Primitives::masked_softmax`].
pub fn masked_softmax<T: Element<B>, B: Host>(
    x: FloatTensor<B>,
    hidden: FloatTensor<B>,
    factor: f64,
) -> FloatTensor<B> {
    let shape = x.shape().dims::<4>();
    let [n, heads, l, _] = hidden.shape().dims::<4>();
    let (x, hidden) = (B::contiguous(x), B::contiguous(hidden));
    let values = T::masked_softmax(
        shape,
        T::slice(&x),
        [n, heads, l],
        T::slice(&hidden),
        factor,
    );
    T::tensor(values, shape.to_vec())
}

/// See [`Primitives::join`].
pub fn join<T: Element<B>, B: Host>(x: FloatTensor<B>, y: FloatTensor<B>) -> FloatTensor<B> {
    let ([t, r, a], [_, _, b]) = (x.shape().dims::<3>(), y.shape().dims::<3>());
    let (x, y) = (B::contiguous(x), B::contiguous(y));
    let values = T::join([a, b], T::slice(&x), T::slice(&y));
    T::tensor(values, vec![t, r, a + b])
}

/// See [`Primitives::max_pool`].
pub fn max_pool<T: Element<B>, B: Host>(
    pooling: &Pooling,
    x: FloatTensor<B>,
) -> (FloatTensor<B>, IntTensor<B>) {
    let x = B::contiguous(x);
    let (maxima, index) = T::max_pool2d(pooling, T::slice(&x));
    let shape = pooled_shape(pooling);
    (T::tensor(maxima, shape.clone()), B::index(index, shape))
}

/// See [`Primitives::standardize_pool`].
pub fn standardize_pool<T: Element<B>, B: Host>(
    pooling: &Pooling,
    x: FloatTensor<B>,
    direction: FloatTensor<B>,
    epsilon: f64,
) -> (FloatTensor<B>, Winners<IntTensor<B>>) {
    let (x, direction) = (B::contiguous(x), B::contiguous(direction));
    let tasks = x.shape()[0];
    let (x, direction) = (T::slice(&x), T::slice(&direction));
    let (p, index, moments) = T::standardize_pool(pooling, tasks, x, direction, epsilon);
    let winners = Winners {
        pooling: *pooling,
        tasks,
        epsilon,
        index: B::index(index, pooled_shape(pooling)),
        moments: Some(moments.into()),
    };
    (T::tensor(p, winners.pooled_shape()), winners)
}

/// Runs a derivative of the pooled standardisation on the slices of `p` and `others`.
fn with_found<T: Element<B>, B: Host, const N: usize, R>(
    winners: &Winners<IntTensor<B>>,
    p: FloatTensor<B>,
    others: [FloatTensor<B>; N],
    kernel: impl FnOnce(&Found<'_, T>, [&[T]; N]) -> R,
) -> R {
    let (p, others) = (B::contiguous(p), others.map(B::contiguous));
    let moments = winners.moments.as_ref();
    B::with_index(&winners.index, |index| {
        let found = Found {
            pooling: &winners.pooling,
            moments: moments.expect("kept by the forward pass of this backend"),
            pooled: T::slice(&p),
            index,
        };
        kernel(&found, std::array::from_fn(|i| T::slice(&others[i])))
    })
}

/// See [`Primitives::standardize_pool_adjoint`].
pub fn standardize_pool_adjoint<T: Element<B>, B: Host>(
    winners: &Winners<IntTensor<B>>,
    x: FloatTensor<B>,
    p: FloatTensor<B>,
    h: FloatTensor<B>,
) -> FloatTensor<B> {
    let tasks = winners.tasks;
    let values = with_found::<T, B, 2, _>(winners, p, [x, h], |found, [x, h]| {
        T::standardize_pool_adjoint(found, tasks, x, h)
    });
    T::tensor(values, winners.full_shape())
}

/// See [`Primitives::standardize_pool_curvature`].
pub fn standardize_pool_curvature<T: Element<B>, B: Host>(
    winners: &Winners<IntTensor<B>>,
    x: FloatTensor<B>,
    p: FloatTensor<B>,
    h: FloatTensor<B>,
    u: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let tasks = winners.tasks;
    let (along_x, along_h) = with_found::<T, B, 3, _>(winners, p, [x, h, u], |found, [x, h, u]| {
        T::standardize_pool_curvature(found, tasks, x, h, u)
    });
    (
        T::tensor(along_x, winners.full_shape()),
        T::tensor(along_h, winners.pooled_shape()),
    )
}

/// See [`Primitives::sgd_step`].
pub fn descend<T: Element<B>, B: Host>(
    theta: FloatTensor<B>,
    g: FloatTensor<B>,
    rate: f64,
) -> FloatTensor<B> {
    let shape = g.shape().to_vec();
    let (theta, g) = (B::contiguous(B::one_of_copies(theta)), B::contiguous(g));
    let values = T::sgd_step(T::slice(&theta), T::slice(&g), rate);
    T::tensor(values, shape)
}

/// The weight of a recurrence, and the form with as many tasks as it has copies in memory.
fn weight_of<B: Host>(form: &Recurrence, u: FloatTensor<B>) -> (FloatTensor<B>, Recurrence) {
    let u = B::contiguous(B::one_of_copies(u));
    let weight_tasks = u.shape()[0];
    let form = Recurrence {
        weight_tasks,
        ..*form
    };
    (u, form)
}

/// See [`Primitives::recur`].
pub fn recur<T: Element<B>, B: Host>(
    form: &Recurrence,
    inputs: RecurrenceInputs<FloatTensor<B>>,
    keep: bool,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    let (z, start) = (B::contiguous(inputs.z), B::contiguous(inputs.start));
    let mask = inputs.mask.map(B::contiguous);
    let (u, form) = weight_of::<B>(form, inputs.u);
    let (shown, kept) = T::recur(
        &form,
        T::slice(&z),
        T::slice(&u),
        T::slice(&start),
        mask.as_ref().map(T::slice),
        keep,
    );
    let of_all = vec![kept.len()];
    let shape = vec![form.tasks, form.items * form.slots(), form.width];
    (
        T::tensor(shown, shape),
        keep.then(|| T::tensor(kept, of_all)),
    )
}

/// Calls a derivative of a recurrence with what it read and kept.
fn with_run<T: Element<B>, B: Host, R>(
    form: &Recurrence,
    run: RecurrenceRun<FloatTensor<B>>,
    derivative: impl FnOnce(&Run<'_, T>) -> R,
) -> R {
    let (u, form) = weight_of::<B>(form, run.inputs.u);
    let start = B::contiguous(run.inputs.start);
    let mask = run.inputs.mask.map(B::contiguous);
    let kept = run.kept.expect("kept by the forward pass of this backend");
    derivative(&Run {
        form: &form,
        u: T::slice(&u),
        start: T::slice(&start),
        mask: mask.as_ref().map(T::slice),
        kept: T::slice(&kept),
    })
}

/// See [`Primitives::recur_adjoint`].
pub fn recur_adjoint<T: Element<B>, B: Host>(
    form: &Recurrence,
    run: RecurrenceRun<FloatTensor<B>>,
    g: FloatTensor<B>,
    along_start: bool,
    keep: bool,
) -> RecurrenceGradient<FloatTensor<B>> {
    let g = B::contiguous(g);
    let found = with_run::<T, B, _>(form, run, |run| {
        T::recur_adjoint(run, T::slice(&g), along_start, keep)
    });
    let of_steps = vec![form.tasks, form.items * form.steps, form.gates_width()];
    let of_start = vec![form.tasks, form.items, form.state_width()];
    let gru = form.cell == RecurrentCell::Gru;
    let of_all = vec![found.kept.len()];
    RecurrenceGradient {
        z: T::tensor(found.z, of_steps.clone()),
        products: gru.then(|| T::tensor(found.products, of_steps)),
        start: along_start.then(|| T::tensor(found.start, of_start)),
        kept: keep.then(|| T::tensor(found.kept, of_all)),
    }
}

/// See [`Primitives::recur_curvature`].
pub fn recur_curvature<T: Element<B>, B: Host>(
    form: &Recurrence,
    run: RecurrenceRun<FloatTensor<B>>,
    gradient: RecurrenceGradient<FloatTensor<B>>,
    direction: RecurrenceGradient<FloatTensor<B>>,
) -> RecurrenceCurvature<FloatTensor<B>> {
    let kept = gradient.kept.expect("kept by the adjoint of this backend");
    let z = B::contiguous(direction.z);
    let products = direction.products.map(B::contiguous);
    let start = direction.start.map(B::contiguous);
    let found = with_run::<T, B, _>(form, run, |run| {
        let direction = Direction {
            z: T::slice(&z),
            products: products.as_ref().map_or(&[][..], T::slice),
            start: start.as_ref().map_or(&[][..], T::slice),
        };
        T::recur_curvature(run, T::slice(&kept), &direction)
    });
    let of_steps = |width| vec![form.tasks, form.items * form.steps, width];
    let gru = form.cell == RecurrentCell::Gru;
    let (gates, width) = (form.gates_width(), form.width);
    let of_cells = vec![form.tasks, form.items, 2 * width];
    RecurrenceCurvature {
        z: T::tensor(found.z, of_steps(gates)),
        products: gru.then(|| T::tensor(found.products, of_steps(gates))),
        before: gru.then(|| T::tensor(found.before, of_steps(width))),
        hidden: T::tensor(found.hidden, of_steps(width)),
        cells: (!gru).then(|| T::tensor(found.cells, of_cells)),
    }
}

/// Runs a kernel over rows on operands of the shape of the first, `[t, r, c]`.
pub fn on_rows<T: Element<B>, B: Host, const N: usize>(
    operands: [FloatTensor<B>; N],
    kernel: impl FnOnce([usize; 3], [&[T]; N]) -> Vec<T>,
) -> FloatTensor<B> {
    let shape = operands[0].shape().to_vec();
    let operands = operands.map(B::contiguous);
    let slices = std::array::from_fn(|i| T::slice(&operands[i]));
    let values = kernel([shape[0], shape[1], shape[2]], slices);
    T::tensor(values, shape)
}

/// Runs a kernel on rows `[t, r, c]` and one vector per channel, `[1|t, 1, c]`.
pub fn on_rows_and_vector<T: Element<B>, B: Host>(
    x: FloatTensor<B>,
    vector: FloatTensor<B>,
    kernel: impl FnOnce([usize; 3], &[T], &[T]) -> Vec<T>,
) -> FloatTensor<B> {
    let vector = B::contiguous(vector);
    on_rows::<T, B, 1>([x], |shape, [x]| kernel(shape, x, T::slice(&vector)))
}

/// Calls a function generic over the element for the dtype of `$of`, or the portable composition.
#[doc(hidden)]
#[macro_export]
macro_rules! by_dtype {
    ($of:expr, |$element:ident| $fast:expr, $portable:expr) => {
        match $of.dtype() {
            $crate::primitives::cpu::DType::F32 => {
                type $element = f32;
                $fast
            }
            $crate::primitives::cpu::DType::F64 => {
                type $element = f64;
                $fast
            }
            _ => $portable,
        }
    };
}

/// Implements [`Primitives`] for a [`Host`] backend by the kernels.
#[macro_export]
macro_rules! host_primitives {
    ($backend:ty) => {
        const _: () = {
            use $crate::by_dtype;
            use $crate::primitives::cpu::*;
            use $crate::primitives::{
                Activation, LinearMap, Pooling, Primitives, Recurrence, RecurrenceCurvature,
                RecurrenceGradient, RecurrenceInputs, RecurrenceRun, Role, TrilinearForm, Winners,
                portable,
            };
            impl Primitives for $backend {
                const SIDE_BY_SIDE: bool = true;

                fn contract(
                    form: &TrilinearForm,
                    wanted: Role,
                    left: FloatTensor<Self>,
                    right: FloatTensor<Self>,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        left,
                        |T| contract::<T, Self>(form, wanted, left, right),
                        portable::contract::<Self>(form, wanted, left, right)
                    )
                }

                fn map_linear(
                    map: &LinearMap<IntTensor<Self>>,
                    x: FloatTensor<Self>,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        x,
                        |T| map_linear::<T, Self>(map, x),
                        portable::map_linear::<Self>(map, x)
                    )
                }

                fn map_adjoint(
                    map: &LinearMap<IntTensor<Self>>,
                    y: FloatTensor<Self>,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        y,
                        |T| map_adjoint::<T, Self>(map, y),
                        portable::map_adjoint::<Self>(map, y)
                    )
                }

                fn add_rows(
                    map: &LinearMap<IntTensor<Self>>,
                    x: FloatTensor<Self>,
                    b: FloatTensor<Self>,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        x,
                        |T| on_rows_and_vector::<T, Self>(x, b, T::add_rows),
                        portable::add_rows::<Self>(map, x, b)
                    )
                }

                fn max_pool(
                    pooling: &Pooling,
                    x: FloatTensor<Self>,
                ) -> (FloatTensor<Self>, IntTensor<Self>) {
                    by_dtype!(
                        x,
                        |T| max_pool::<T, Self>(pooling, x),
                        portable::max_pool::<Self>(pooling, x)
                    )
                }

                fn standardize(x: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
                    by_dtype!(
                        x,
                        |T| on_rows::<T, Self, 1>([x], |shape, [x]| {
                            T::standardize(shape, x, epsilon)
                        }),
                        portable::standardize::<Self>(x, epsilon)
                    )
                }

                fn standardize_adjoint(
                    x: FloatTensor<Self>,
                    g: FloatTensor<Self>,
                    epsilon: f64,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        x,
                        |T| on_rows::<T, Self, 2>([x, g], |shape, [x, g]| {
                            T::standardize_adjoint(shape, x, g, epsilon)
                        }),
                        portable::standardize_adjoint::<Self>(x, g, epsilon)
                    )
                }

                fn standardize_curvature(
                    x: FloatTensor<Self>,
                    g: FloatTensor<Self>,
                    u: FloatTensor<Self>,
                    epsilon: f64,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        x,
                        |T| on_rows::<T, Self, 3>([x, g, u], |shape, [x, g, u]| {
                            T::standardize_curvature(shape, x, g, u, epsilon)
                        }),
                        portable::standardize_curvature::<Self>(x, g, u, epsilon)
                    )
                }

                fn standardize_pool(
                    pooling: &Pooling,
                    x: FloatTensor<Self>,
                    direction: FloatTensor<Self>,
                    epsilon: f64,
                ) -> (FloatTensor<Self>, Winners<IntTensor<Self>>) {
                    by_dtype!(
                        x,
                        |T| standardize_pool::<T, Self>(pooling, x, direction, epsilon),
                        portable::standardize_pool::<Self>(pooling, x, direction, epsilon)
                    )
                }

                fn standardize_pool_adjoint(
                    winners: &Winners<IntTensor<Self>>,
                    x: FloatTensor<Self>,
                    p: FloatTensor<Self>,
                    h: FloatTensor<Self>,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        x,
                        |T| standardize_pool_adjoint::<T, Self>(winners, x, p, h),
                        portable::standardize_pool_adjoint::<Self>(winners, x, h)
                    )
                }

                fn standardize_pool_curvature(
                    winners: &Winners<IntTensor<Self>>,
                    x: FloatTensor<Self>,
                    p: FloatTensor<Self>,
                    h: FloatTensor<Self>,
                    u: FloatTensor<Self>,
                ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                    by_dtype!(
                        x,
                        |T| standardize_pool_curvature::<T, Self>(winners, x, p, h, u),
                        portable::standardize_pool_curvature::<Self>(winners, x, h, u)
                    )
                }

                fn bias_relu(
                    map: &LinearMap<IntTensor<Self>>,
                    x: FloatTensor<Self>,
                    b: FloatTensor<Self>,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        x,
                        |T| on_rows_and_vector::<T, Self>(x, b, T::bias_relu),
                        portable::bias_relu::<Self>(map, x, b)
                    )
                }

                fn sgd_step(
                    theta: FloatTensor<Self>,
                    g: FloatTensor<Self>,
                    rate: f64,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        theta,
                        |T| descend::<T, Self>(theta, g, rate),
                        portable::sgd_step::<Self>(theta, g, rate)
                    )
                }

                fn affine(
                    form: &TrilinearForm,
                    map: &LinearMap<IntTensor<Self>>,
                    activation: Activation,
                    x: FloatTensor<Self>,
                    w: FloatTensor<Self>,
                    b: FloatTensor<Self>,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        x,
                        |T| affine::<T, Self>(form, map, activation, x, w, b),
                        portable::affine::<Self>(form, map, activation, x, w, b)
                    )
                }

                fn layer_standardize(x: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
                    by_dtype!(
                        x,
                        |T| on_rows::<T, Self, 1>([x], |shape, [x]| {
                            T::layer_standardize(shape, x, epsilon)
                        }),
                        portable::layer_standardize::<Self>(x, epsilon)
                    )
                }

                fn layer_standardize_adjoint(
                    x: FloatTensor<Self>,
                    g: FloatTensor<Self>,
                    epsilon: f64,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        x,
                        |T| on_rows::<T, Self, 2>([x, g], |shape, [x, g]| {
                            T::layer_standardize_adjoint(shape, x, g, epsilon)
                        }),
                        portable::layer_standardize_adjoint::<Self>(x, g, epsilon)
                    )
                }

                fn layer_standardize_curvature(
                    x: FloatTensor<Self>,
                    g: FloatTensor<Self>,
                    u: FloatTensor<Self>,
                    epsilon: f64,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        x,
                        |T| on_rows::<T, Self, 3>([x, g, u], |shape, [x, g, u]| {
                            T::layer_standardize_curvature(shape, x, g, u, epsilon)
                        }),
                        portable::layer_standardize_curvature::<Self>(x, g, u, epsilon)
                    )
                }

                fn scaled_softmax(x: FloatTensor<Self>, factor: f64) -> FloatTensor<Self> {
                    by_dtype!(
                        x,
                        |T| on_last_axis::<T, Self, 1>([x], |width, [x]| {
                            T::softmax(width, x, factor)
                        }),
                        portable::scaled_softmax::<Self>(x, factor)
                    )
                }

                fn masked_softmax(
                    x: FloatTensor<Self>,
                    hidden: FloatTensor<Self>,
                    factor: f64,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        x,
                        |T| masked_softmax::<T, Self>(x, hidden, factor),
                        portable::masked_softmax::<Self>(x, hidden, factor)
                    )
                }

                fn tanh(x: FloatTensor<Self>) -> FloatTensor<Self> {
                    by_dtype!(
                        x,
                        |T| on_last_axis::<T, Self, 1>([x], |_, [x]| <T as Kernels>::tanh(x)),
                        portable::tanh::<Self>(x)
                    )
                }

                fn tanh_adjoint(
                    y: FloatTensor<Self>,
                    g: FloatTensor<Self>,
                    _: f64,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        y,
                        |T| on_last_axis::<T, Self, 2>([y, g], |_, [y, g]| T::tanh_adjoint(y, g)),
                        portable::tanh_adjoint::<Self>(y, g)
                    )
                }

                fn tanh_curvature(
                    y: FloatTensor<Self>,
                    g: FloatTensor<Self>,
                    u: FloatTensor<Self>,
                    _: f64,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        y,
                        |T| on_last_axis::<T, Self, 3>([y, g, u], |_, [y, g, u]| {
                            T::tanh_curvature(y, g, u)
                        }),
                        portable::tanh_curvature::<Self>(y, g, u)
                    )
                }

                fn join(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
                    by_dtype!(x, |T| join::<T, Self>(x, y), portable::join::<Self>(x, y))
                }

                fn scaled_softmax_adjoint(
                    p: FloatTensor<Self>,
                    g: FloatTensor<Self>,
                    factor: f64,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        p,
                        |T| on_last_axis::<T, Self, 2>([p, g], |width, [p, g]| {
                            T::softmax_adjoint(width, p, g, factor)
                        }),
                        portable::scaled_softmax_adjoint::<Self>(p, g, factor)
                    )
                }

                fn scaled_softmax_curvature(
                    p: FloatTensor<Self>,
                    g: FloatTensor<Self>,
                    u: FloatTensor<Self>,
                    factor: f64,
                ) -> FloatTensor<Self> {
                    by_dtype!(
                        p,
                        |T| on_last_axis::<T, Self, 3>([p, g, u], |width, [p, g, u]| {
                            T::softmax_curvature(width, p, g, u, factor)
                        }),
                        portable::scaled_softmax_curvature::<Self>(p, g, u, factor)
                    )
                }

                fn recur(
                    form: &Recurrence,
                    inputs: RecurrenceInputs<FloatTensor<Self>>,
                    keep: bool,
                ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
                    by_dtype!(
                        inputs.z,
                        |T| recur::<T, Self>(form, inputs, keep),
                        (portable::recur::<Self>(form, inputs), None)
                    )
                }

                fn recur_adjoint(
                    form: &Recurrence,
                    run: RecurrenceRun<FloatTensor<Self>>,
                    g: FloatTensor<Self>,
                    along_start: bool,
                    keep: bool,
                ) -> RecurrenceGradient<FloatTensor<Self>> {
                    by_dtype!(
                        g,
                        |T| recur_adjoint::<T, Self>(form, run, g, along_start, keep),
                        portable::recur_adjoint::<Self>(form, run, g, along_start)
                    )
                }

                fn recur_curvature(
                    form: &Recurrence,
                    run: RecurrenceRun<FloatTensor<Self>>,
                    g: FloatTensor<Self>,
                    gradient: RecurrenceGradient<FloatTensor<Self>>,
                    direction: RecurrenceGradient<FloatTensor<Self>>,
                ) -> RecurrenceCurvature<FloatTensor<Self>> {
                    by_dtype!(
                        g,
                        |T| recur_curvature::<T, Self>(form, run, gradient, direction),
                        portable::recur_curvature::<Self>(form, run, g, direction)
                    )
                }

                fn gate(y: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self> {
                    by_dtype!(
                        y,
                        |T| on_rows::<T, Self, 2>([y, g], |_, [y, g]| T::gate(y, g)),
                        portable::gate::<Self>(y, g)
                    )
                }
            }
        };
    };
}
