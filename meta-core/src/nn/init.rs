//! Initialisation from the seed tree, within a bound.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use burn::{
    module::Param,
    tensor::{Tensor, TensorData, backend::Backend},
};

use crate::rng::{Seed, Stream};

/// Parameters beyond the bound of [`within`].
#[derive(Clone, Debug, PartialEq)]
pub struct TooMany {
    /// Numbers in all parameters up to the one that exceeded the bound.
    pub numbers: f64,
    /// The shape of that one.
    pub shape: Vec<usize>,
}

/// Numbers that a parameter counts for besides its own: what keeps it takes memory, too.
const UPKEEP: f64 = 256.0;

thread_local! {
    /// Numbers asked for on this thread, and how many may be.
    static ASKED: Cell<Option<(f64, f64)>> = const { Cell::new(None) };
}

/// `build`, which is given up before its parameters exceed `most` numbers: none is drawn that does not
/// fit.
///
/// # Errors
/// [`TooMany`].
///
/// # Panics
/// When `build` does.
pub fn within<T>(most: f64, build: impl FnOnce() -> T) -> Result<T, TooMany> {
    let before = ASKED.replace(Some((0.0, most)));
    let built = catch_unwind(AssertUnwindSafe(build));
    ASKED.set(before);
    built.or_else(|reason| match reason.downcast::<TooMany>() {
        Ok(too_many) => Err(*too_many),
        Err(other) => resume_unwind(other),
    })
}

/// Counts a parameter of `shape`, and unwinds to [`within`] where it is too large.
fn count(shape: &[usize]) {
    let Some((asked, most)) = ASKED.get() else {
        return;
    };
    let own: f64 = shape.iter().map(|&side| side as f64).product();
    let numbers = asked + own + UPKEEP;
    ASKED.set(Some((numbers, most)));
    if numbers > most {
        let shape = shape.to_vec();
        resume_unwind(Box::new(TooMany { numbers, shape }));
    }
}

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
            None => return later(0.0, shape, device),
            Some(stream) => {
                count(&shape);
                let numbers = shape.iter().product();
                (0..numbers).map(|_| draw(stream)).collect::<Vec<f64>>()
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
    count(&shape);
    later(value, shape, device)
}

fn later<B: Backend, const D: usize>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;

    fn draw(sides: &[usize]) -> usize {
        let device = Default::default();
        let initializer = &mut Initializer::seeded(Seed(0));
        let drawn = sides.iter().map(|&side| {
            let weight = initializer.glorot::<Cpu, 3>([1, side, side], side, side, &device);
            weight.val().dims()[1]
        });
        drawn.sum()
    }

    /// What does not fit is neither drawn nor allocated, however large it is.
    #[test]
    fn parameters_stay_within_a_bound() {
        assert_eq!(within(1000.0, || draw(&[8, 8])), Ok(16));
        let too_many = within(1000.0, || draw(&[8, 1 << 31, 8])).unwrap_err();
        assert_eq!(too_many.shape, [1, 1 << 31, 1 << 31]);
        assert!(too_many.numbers > 4e18, "{too_many:?}");
        // Many small ones as well, and the bound ends with its scope.
        assert!(within(1000.0, || draw(&[1; 10])).is_err());
        assert_eq!(draw(&[1; 10]), 10);
        // Skeletons take no memory.
        let skeleton = within(10.0, || {
            let device = Default::default();
            Initializer::zeros().normal::<Cpu, 3>([1, 100, 100], 1.0, &device)
        });
        assert_eq!(skeleton.unwrap().lazy_shape().num_elements(), 10_000);
    }

    #[test]
    fn other_panics_pass() {
        let caught = catch_unwind(|| within(1.0, || panic!("another")));
        let reason = caught.unwrap_err();
        assert_eq!(reason.downcast_ref::<&str>(), Some(&"another"));
    }
}
