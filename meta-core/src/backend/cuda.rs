//! The primitives on CUDA: the portable compositions.

use crate::primitives::Primitives;

impl Primitives for burn_cuda::Cuda<f32, i32> {}
