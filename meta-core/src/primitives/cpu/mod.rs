//! The CPU backends.

use super::Primitives;

#[cfg(feature = "flex")]
impl Primitives for burn_flex::Flex {}

#[cfg(feature = "ndarray")]
impl Primitives for burn_ndarray::NdArray<f32> {}
