//! The arithmetic of the CPU primitives, as pure functions over slices.
//!
//! No tensor type appears here: a kernel takes contiguous row-major slices and a description of
//! their shapes, and returns a new `Vec`. Images are channels-last, every operand leads with the
//! task axis, and a weight is either shared by all tasks (leading axis 1) or per task.
//!
//! Two rules hold in every file:
//! - **Same bytes for any number of threads.** Work is cut into pieces by the shapes alone; a
//!   reduction stores one partial result per piece and adds them in order.
//! - **Shapes are checked once, on entry.** A wrong length panics with both numbers; the caller
//!   turns user errors into [`crate::Error`] values before it gets here.
//!
//! | File | Kernels |
//! |---|---|
//! | `real` | the element types; functions compiled for several instruction sets |
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
//! | `sgd_step` | a step of gradient descent |
//! | `relu` | bias and ReLU at once, and the gate that is its adjoint |

mod blocks;
mod buffers;
pub mod conv2d;
mod gemm;
pub mod layer;
pub mod linear;
mod matrix;
pub mod pairs;
pub mod pool;
mod real;
pub mod relu;
pub mod rows;
pub mod sgd_step;
pub mod softmax;
pub mod standardize;
pub mod standardize_pool;
#[cfg(test)]
mod testing;
mod tile;

pub use real::Real;
