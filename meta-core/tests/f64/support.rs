//! The backend in f64, numbers and comparisons.

use std::sync::Once;

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use meta_core::{backend::Cpu, rng::Seed};

/// A CPU backend whose default float type is f64 in this process.
pub type B = Cpu;

/// The device, after f64 has been made the default.
pub fn device() -> <B as burn::tensor::backend::BackendTypes>::Device {
    static F64: Once = Once::new();
    let device = Default::default();
    F64.call_once(|| {
        burn::tensor::set_default_dtypes::<B>(&device, DType::F64, DType::I32)
            .expect("nothing ran before on this backend");
    });
    device
}

/// Standard normal numbers, different for each `purpose`.
pub fn normal(count: usize, purpose: &str) -> Vec<f64> {
    let mut stream = Seed(17).stream("test", 0, purpose);
    (0..count).map(|_| stream.normal()).collect()
}

/// A tensor of standard normal numbers.
pub fn random<const D: usize>(shape: [usize; D], purpose: &str) -> Tensor<B, D> {
    tensor(normal(shape.iter().product(), purpose), shape)
}

/// A tensor of given values.
pub fn tensor<const D: usize>(values: Vec<f64>, shape: [usize; D]) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values, shape), &device())
}

/// The values of a tensor.
pub fn values<L: Backend, const D: usize>(tensor: Tensor<L, D>) -> Vec<f64> {
    let data = tensor.into_data();
    assert_eq!(data.dtype, DType::F64, "computed in f64");
    data.iter::<f64>().collect()
}

/// Largest difference, relative to the largest magnitude.
pub fn relative_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-12f64, |max, v| max.max(v.abs()));
    found
        .iter()
        .zip(expected)
        .map(|(f, e)| (f - e).abs() / scale)
        .fold(0.0, f64::max)
}

/// Asserts that two tensors agree to `tolerance`, relative to the largest magnitude.
#[track_caller]
pub fn assert_close<const D: usize>(found: Tensor<B, D>, expected: Tensor<B, D>, tolerance: f64) {
    assert_eq!(found.dims(), expected.dims());
    let error = relative_error(&values(found), &values(expected));
    assert!(
        error <= tolerance,
        "relative error {error:e} > {tolerance:e}"
    );
}
