//! The primitives on ROCm: the portable compositions, and recurrences in one launch.

use burn::tensor::backend::Backend;
use burn_rocm::{Rocm, RocmDevice};

use super::Compute;
use crate::primitives::Primitives;

type B = Rocm<f32, i32>;

impl Primitives for B {
    cube_primitives!();
}

impl Compute for B {
    fn device(number: usize) -> Option<RocmDevice> {
        (number < B::device_count(0)).then(|| RocmDevice::new(number))
    }
}
