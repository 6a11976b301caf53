//! The primitives on libtorch: the portable compositions.

use burn_tch::{LibTorch, LibTorchDevice};

use super::{Compute, Precision};
use crate::primitives::Primitives;

type B = LibTorch<f32>;

impl Primitives for B {}

impl Compute for B {
    fn device(number: usize) -> Option<LibTorchDevice> {
        (number == 0).then_some(LibTorchDevice::Cpu)
    }

    fn computes(precision: Precision, _device: &LibTorchDevice) -> bool {
        precision.trains()
    }
}
