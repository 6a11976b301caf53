//! The backend in f64, numbers and comparisons.

use std::sync::Once;

use burn::{
    module::Module,
    tensor::{DType, Tensor, TensorData, backend::Backend},
};
use meta_core::{backend::Cpu, params::Params, rng::Seed};

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

/// `skeleton` with its trainable parameters taken from `flat`, one after the other.
pub fn with_parameters<L: Backend, M: Module<L>>(skeleton: M, flat: &Tensor<L, 1>) -> M {
    let built = Params::of(&skeleton);
    let values = built
        .clone()
        .trainable()
        .unflatten(flat.clone().unsqueeze());
    built.overwrite(values).write_into(skeleton)
}

/// A point near the trainable parameters of `model`, off symmetric starts (zeros, ones), where errors
/// could hide.
pub fn point_near<M: Module<B>>(model: &M) -> Vec<f64> {
    let data = Params::of(model).trainable().to_data();
    let start: Vec<f64> = data
        .into_iter()
        .flat_map(|(_, data)| data.iter::<f64>().collect::<Vec<_>>())
        .collect();
    let noise = normal(start.len(), "offset");
    start.iter().zip(noise).map(|(v, n)| v + 0.1 * n).collect()
}

/// A scalar that depends on every entry of `y`, in a way of its own and not linearly.
pub fn observed<L: Backend, const D: usize>(y: Tensor<L, D>) -> Tensor<L, 1> {
    let length = y.shape().num_elements();
    let direction = TensorData::new(normal(length, "direction"), [length]);
    let direction = Tensor::<L, 1>::from_data(direction, &y.device());
    (y.reshape([length]).tanh() * direction).sum()
}

/// The numbers that a script of `tests/oracles` wrote.
pub struct Oracle(serde_json::Value);

impl Oracle {
    /// Reads `tests/oracles/<name>.json`.
    pub fn read(name: &str) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracles");
        let text = std::fs::read_to_string(format!("{folder}/{name}.json")).unwrap();
        Oracle(serde_json::from_str(&text).unwrap())
    }

    /// The tensor called `name`.
    pub fn get<const D: usize>(&self, name: &str) -> Tensor<B, D> {
        self.find(name).expect(name)
    }

    /// The tensor called `name`, where there is one.
    pub fn find<const D: usize>(&self, name: &str) -> Option<Tensor<B, D>> {
        let entry = self.0.get(name)?;
        let numbers = |key: &str| -> Vec<f64> {
            let list = entry[key].as_array().expect("numbers");
            list.iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let shape: Vec<usize> = numbers("shape").iter().map(|&n| n as usize).collect();
        Some(tensor(
            numbers("values"),
            shape.try_into().expect("its rank"),
        ))
    }
}
