//! Kernels for the backends of CubeCL, where a portable composition takes many launches.
//!
//! A GPU computes a small operation faster than the host launches it, so what counts is the number of
//! launches. Every kernel here stands for one primitive, or for a part of it that needs the sums of the
//! part before.

mod channels;
mod launch;
mod pointwise;
mod products;
mod recurrence;
mod standardize;
mod sums;

pub(super) use channels::{
    layer_standardize, layer_standardize_adjoint, layer_standardize_curvature, scaled_softmax,
    scaled_softmax_adjoint, scaled_softmax_curvature,
};
pub(super) use launch::single;
pub(super) use pointwise::{adam_direction, average, bias_relu, gate, sgd_step};
pub(super) use products::contract;
pub(super) use recurrence::{computes, recur, recur_adjoint, recur_curvature};
pub(super) use standardize::{
    standardize, standardize_adjoint, standardize_curvature, standardize_pool,
    standardize_pool_adjoint, standardize_pool_curvature,
};
pub(super) use sums::rows as sum_rows;

#[cfg(all(test, feature = "wgpu"))]
mod tests;
