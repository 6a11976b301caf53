//! The GPU backends use the portable compositions.

use super::Primitives;

#[cfg(feature = "cuda")]
impl Primitives for burn_cuda::Cuda<f32, i32> {}

#[cfg(feature = "wgpu")]
impl Primitives for burn_wgpu::Wgpu<f32, i32> {}
