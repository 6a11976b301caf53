//! The arithmetic of the CPU primitives of `meta-core`, as pure functions over slices.
//!
//! This is a package of its own so that it is compiled once, at full optimisation, beside the tensor
//! library: [`Kernels`] has every kernel for `f32` and for `f64`, and who calls a kernel through it
//! compiles none of it again. All `unsafe` code of the workspace is here.
//!
//! No tensor type appears here: a kernel takes contiguous row-major slices and a description of
//! their shapes, and returns a new `Vec`. Images are channels-last, every operand leads with the
//! task axis, and a weight is either shared by all tasks (leading axis 1) or per task.
//!
//! Two rules hold in every file:
//! - **Same bytes for any number of threads.** Work is cut into pieces by the shapes alone; a
//!   reduction stores one partial result per piece and adds them in order.
//! - **Shapes are checked once, on entry.** A wrong length panics with both numbers; the caller
//!   turns user errors into error values before it gets here.
//!
//! | File | Kernels |
//! |---|---|
//! | `forms` | the sizes of what a kernel computes |
//! | `real` | the element types; functions compiled for several instruction sets |
//! | `parallel` | computation graphs side by side, each on a thread of its own |
//! | `blocks` | rows cut into blocks |
//! | `buffers` | new vectors written in pieces; scratch |
//! | `matrix` | matrices inside slices |
//! | `gemm` | the one door to the `gemm` crate, with the bounds proof |
//! | `tile` | small matrix products, in registers |
//! | `linear` | batched matrix products |
//! | `conv2d` | convolution, its input gradient, its weight gradient; `winograd` the 3×3 ones |
//! | `rows` | per-channel scale, add, sum, broadcast |
//! | `standardize` | normalisation over rows, its adjoint, its curvature |
//! | `layer` | normalisation along the channels of a row, its adjoint, its curvature |
//! | `pairs` | scores and reads of attention |
//! | `softmax` | softmax, its adjoint, its curvature |
//! | `pool` | max pooling, selection by index, scatter by index |
//! | `standardize_pool` | normalisation and max pooling at once, their adjoint, their curvature |
//! | `recurrence` | recurrent layers over whole sequences, their adjoint, its derivative |
//! | `sgd_step` | a step of gradient descent |
//! | `logistic` | logistic regressions by Newton's method |
//! | `draws` | draws from random bits: exponential ones, points of the simplex |
//! | `rng` | the seed tree, for whose numbers the rest of the library is not optimised enough |
//! | `columns` | columns taken out of rows, put back into zeros, and rows side by side |
//! | `tanh` | the hyperbolic tangent, its adjoint, its curvature |
//! | `relu` | bias and ReLU at once, and the gate that is its adjoint |

mod blocks;
mod buffers;
pub mod columns;
pub mod conv2d;
pub mod draws;
mod forms;
mod gemm;
pub mod layer;
pub mod linear;
pub mod logistic;
mod matrix;
pub mod pairs;
pub mod parallel;
pub mod pool;
mod real;
pub mod recurrence;
pub mod relu;
pub mod rng;
pub mod rows;
pub mod sgd_step;
pub mod softmax;
pub mod standardize;
pub mod standardize_pool;
pub mod tanh;
#[cfg(test)]
mod testing;
mod tile;

pub use forms::{Conv2dForm, LinearForm, PairsForm, Pooling, Recurrence, RecurrentCell, Shown};
pub use real::Real;

/// Declares the kernels, and compiles them for both element types.
macro_rules! kernels {
    ($($module:ident { $(fn $name:ident($($argument:ident: $type:ty),* $(,)?) -> $result:ty;)* })*) => {
        /// An element type with every kernel, compiled in this crate.
        pub trait Kernels: Real {
            $($(
                #[doc = concat!("See [`", stringify!($module), "::", stringify!($name), "`].")]
                fn $name($($argument: $type),*) -> $result;
            )*)*
        }
        kernels!(@for f32 $($($module $name ($($argument: $type),*) $result,)*)*);
        kernels!(@for f64 $($($module $name ($($argument: $type),*) $result,)*)*);
    };
    (@for $real:ident $($module:ident $name:ident ($($argument:ident: $type:ty),*) $result:ty,)*) => {
        impl Kernels for $real {
            $(fn $name($($argument: $type),*) -> $result {
                $module::$name($($argument),*)
            })*
        }
    };
}

kernels! {
    linear {
        fn linear(form: &LinearForm, x: &[Self], w: &[Self]) -> Vec<Self>;
        fn linear_add(
            form: &LinearForm,
            x: &[Self],
            w: &[Self],
            b: &[Self],
            rectified: bool,
        ) -> Vec<Self>;
        fn linear_input(form: &LinearForm, gy: &[Self], w: &[Self]) -> Vec<Self>;
        fn linear_weight(form: &LinearForm, x: &[Self], gy: &[Self]) -> Vec<Self>;
    }

    conv2d {
        fn conv2d(form: &Conv2dForm, x: &[Self], w: &[Self]) -> Vec<Self>;
        fn conv2d_input(form: &Conv2dForm, gy: &[Self], w: &[Self]) -> Vec<Self>;
        fn conv2d_weight(form: &Conv2dForm, x: &[Self], gy: &[Self]) -> Vec<Self>;
    }

    pairs {
        fn pairs(form: &PairsForm, x: &[Self], y: &[Self]) -> Vec<Self>;
        fn pairs_input(form: &PairsForm, a: &[Self], y: &[Self]) -> Vec<Self>;
        fn pairs_weight(form: &PairsForm, a: &[Self], x: &[Self]) -> Vec<Self>;
    }

    rows {
        fn scale(shape: [usize; 3], x: &[Self], a: &[Self]) -> Vec<Self>;
        fn scale_add(
            shape: [usize; 3],
            x: &[Self],
            a: &[Self],
            b: &[Self],
            rectified: bool,
        ) -> Vec<Self>;
        fn scale_weight(
            shape: [usize; 3],
            vector_tasks: usize,
            x: &[Self],
            y: &[Self],
        ) -> Vec<Self>;
        fn add_rows(shape: [usize; 3], x: &[Self], b: &[Self]) -> Vec<Self>;
        fn broadcast_rows(shape: [usize; 3], b: &[Self]) -> Vec<Self>;
        fn sum_rows(shape: [usize; 3], vector_tasks: usize, x: &[Self]) -> Vec<Self>;
    }

    standardize {
        fn standardize(shape: [usize; 3], x: &[Self], epsilon: f64) -> Vec<Self>;
        fn standardize_adjoint(
            shape: [usize; 3],
            x: &[Self],
            g: &[Self],
            epsilon: f64,
        ) -> Vec<Self>;
        fn standardize_curvature(
            shape: [usize; 3],
            x: &[Self],
            g: &[Self],
            u: &[Self],
            epsilon: f64,
        ) -> Vec<Self>;
    }

    layer {
        fn layer_standardize(shape: [usize; 3], x: &[Self], epsilon: f64) -> Vec<Self>;
        fn layer_standardize_adjoint(
            shape: [usize; 3],
            x: &[Self],
            g: &[Self],
            epsilon: f64,
        ) -> Vec<Self>;
        fn layer_standardize_curvature(
            shape: [usize; 3],
            x: &[Self],
            g: &[Self],
            u: &[Self],
            epsilon: f64,
        ) -> Vec<Self>;
    }

    softmax {
        fn softmax(width: usize, x: &[Self], factor: f64) -> Vec<Self>;
        fn masked_softmax(
            shape: [usize; 4],
            x: &[Self],
            hidden_shape: [usize; 3],
            hidden: &[Self],
            factor: f64,
        ) -> Vec<Self>;
        fn softmax_adjoint(width: usize, p: &[Self], g: &[Self], factor: f64) -> Vec<Self>;
        fn softmax_curvature(
            width: usize,
            p: &[Self],
            g: &[Self],
            u: &[Self],
            factor: f64,
        ) -> Vec<Self>;
    }

    pool {
        fn max_pool2d(pooling: &Pooling, x: &[Self]) -> (Vec<Self>, Vec<i32>);
        fn pool_select(pooling: &Pooling, x: &[Self], index: &[i32]) -> Vec<Self>;
        fn pool_scatter(pooling: &Pooling, gy: &[Self], index: &[i32]) -> Vec<Self>;
    }

    standardize_pool {
        fn standardize_pool(
            pooling: &Pooling,
            tasks: usize,
            x: &[Self],
            direction: &[Self],
            epsilon: f64,
        ) -> (Vec<Self>, Vec<i32>, Vec<standardize_pool::Moments>);
        fn standardize_pool_adjoint(
            found: &standardize_pool::Found<'_, Self>,
            tasks: usize,
            x: &[Self],
            h: &[Self],
        ) -> Vec<Self>;
        fn standardize_pool_curvature(
            found: &standardize_pool::Found<'_, Self>,
            tasks: usize,
            x: &[Self],
            h: &[Self],
            u: &[Self],
        ) -> (Vec<Self>, Vec<Self>);
    }

    sgd_step {
        fn sgd_step(theta: &[Self], g: &[Self], rate: f64) -> Vec<Self>;
    }

    recurrence {
        fn recur(
            form: &Recurrence,
            z: &[Self],
            u: &[Self],
            start: &[Self],
            mask: Option<&[Self]>,
            keep: bool,
        ) -> (Vec<Self>, Vec<Self>);
        fn recur_adjoint(
            run: &recurrence::Run<'_, Self>,
            g: &[Self],
            along_start: bool,
            keep: bool,
        ) -> recurrence::Gradient<Self>;
        fn recur_curvature(
            run: &recurrence::Run<'_, Self>,
            kept: &[Self],
            direction: &recurrence::Direction<'_, Self>,
        ) -> recurrence::Curvature<Self>;
    }

    columns {
        fn columns(width: usize, x: &[Self], start: usize, count: usize) -> Vec<Self>;
        fn columns_adjoint(width: usize, y: &[Self], start: usize, count: usize) -> Vec<Self>;
        fn join(widths: [usize; 2], x: &[Self], y: &[Self]) -> Vec<Self>;
    }

    tanh {
        fn tanh(x: &[Self]) -> Vec<Self>;
        fn tanh_adjoint(y: &[Self], g: &[Self]) -> Vec<Self>;
        fn tanh_curvature(y: &[Self], g: &[Self], u: &[Self]) -> Vec<Self>;
    }

    relu {
        fn bias_relu(shape: [usize; 3], x: &[Self], b: &[Self]) -> Vec<Self>;
        fn gate(y: &[Self], g: &[Self]) -> Vec<Self>;
    }
}
