//! The primitives on CUDA: the portable compositions, and recurrences in one launch.

use burn::tensor::backend::Backend;
use burn_cuda::{Cuda, CudaDevice};

use super::Compute;
use crate::primitives::Primitives;

type B = Cuda<f32, i32>;

impl Primitives for B {
    cube_primitives!();

    const ROUNDS_PRODUCTS: bool = cfg!(not(feature = "fusion"));
}

impl Compute for B {
    fn device(number: usize) -> Option<CudaDevice> {
        (number < B::device_count(0)).then(|| CudaDevice::new(number))
    }
}
