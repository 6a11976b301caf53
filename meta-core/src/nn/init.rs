//! Initialisation from the seed tree.

use burn::{
    module::Param,
    tensor::{Tensor, TensorData, backend::Backend},
};

use crate::rng::{Seed, Stream};

/// Draws a network's first parameters, in the order in which its layers ask for them.
///
/// Burn's own initialisers draw from one generator per backend, at first access; these draw from a
/// stream of the seed tree at once, the same numbers on every backend.
pub struct Initializer {
    stream: Option<Stream>,
}

impl Initializer {
    /// Draws from the stream `("network", 0, "initialisation")` of `seed`.
    pub fn seeded(seed: Seed) -> Self {
        Initializer {
            stream: Some(seed.stream("network", 0, "initialisation")),
        }
    }

    /// Zeros everywhere: for a skeleton whose parameters will be replaced.
    pub fn zeros() -> Self {
        Initializer { stream: None }
    }

    fn fill<B: Backend, const D: usize>(
        &mut self,
        shape: [usize; D],
        device: &B::Device,
        mut draw: impl FnMut(&mut Stream) -> f64,
    ) -> Param<Tensor<B, D>> {
        let values = match &mut self.stream {
            None => return constant(0.0, shape, device),
            Some(stream) => {
                let count = shape.iter().product();
                (0..count).map(|_| draw(stream)).collect::<Vec<f64>>()
            }
        };
        parameter(Tensor::from_data(TensorData::new(values, shape), device))
    }

    /// Uniform on `±bound`.
    pub fn uniform<B: Backend, const D: usize>(
        &mut self,
        shape: [usize; D],
        bound: f64,
        device: &B::Device,
    ) -> Param<Tensor<B, D>> {
        self.fill(shape, device, |stream| stream.uniform_in(-bound, bound))
    }

    /// Uniform on `±√(6 / (fan_in + fan_out))` (Glorot and Bengio, AISTATS 2010, eq. 16).
    pub fn glorot<B: Backend, const D: usize>(
        &mut self,
        shape: [usize; D],
        fan_in: usize,
        fan_out: usize,
        device: &B::Device,
    ) -> Param<Tensor<B, D>> {
        self.uniform(shape, (6.0 / (fan_in + fan_out) as f64).sqrt(), device)
    }

    /// Normal with variance `2 / fan_in`, for layers before a ReLU (He et al., ICCV 2015, eq. 10).
    pub fn he<B: Backend, const D: usize>(
        &mut self,
        shape: [usize; D],
        fan_in: usize,
        device: &B::Device,
    ) -> Param<Tensor<B, D>> {
        let deviation = (2.0 / fan_in as f64).sqrt();
        self.fill(shape, device, |stream| deviation * stream.normal())
    }

    /// Normal with the given standard deviation.
    pub fn normal<B: Backend, const D: usize>(
        &mut self,
        shape: [usize; D],
        deviation: f64,
        device: &B::Device,
    ) -> Param<Tensor<B, D>> {
        self.fill(shape, device, |stream| deviation * stream.normal())
    }
}

/// A parameter with the same value everywhere, which takes memory only once it is read: most are replaced
/// before that.
pub fn constant<B: Backend, const D: usize>(
    value: f64,
    shape: [usize; D],
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    Param::uninitialized(
        burn::module::ParamId::new(),
        move |device, _| Tensor::full(shape, value, device),
        device.clone(),
        false,
        shape.into(),
    )
}

/// A parameter with this value.
pub fn parameter<B: Backend, const D: usize>(value: Tensor<B, D>) -> Param<Tensor<B, D>> {
    Param::initialized(burn::module::ParamId::new(), value)
}
