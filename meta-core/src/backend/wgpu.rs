//! The primitives on wgpu: the portable compositions.

use crate::primitives::Primitives;

impl Primitives for burn_wgpu::Wgpu<f32, i32> {}
