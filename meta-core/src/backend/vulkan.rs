//! The primitives on Vulkan, in SPIR-V: the portable compositions, and recurrences in one launch.

use burn_wgpu::{Vulkan, WgpuDevice};

use super::{Compute, adapters::adapter};
use crate::primitives::Primitives;

type B = Vulkan<f32, i32>;

impl Primitives for B {
    cube_primitives!();
}

impl Compute for B {
    fn device(number: usize) -> Option<WgpuDevice> {
        adapter::<B>(number)
    }
}
