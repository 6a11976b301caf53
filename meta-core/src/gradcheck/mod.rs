//! Gradients against central differences, at first and second order.
//!
//! The oracle for every operation, layer and learner of the toolkit, and for those that users bring.
//! Run it in f64: in f32 the differences are too coarse to tell a wrong gradient from a right one.

pub mod learner;
pub mod toy;

use burn::{
    module::Module,
    tensor::{Tensor, TensorData, backend::Backend},
};
use burn_autodiff::Autodiff;

use crate::{
    params::Params,
    primitives::{Primitives, primitive},
};

/// A scalar function of some vectors, written once for every autodiff level.
pub trait Function {
    /// The value, `[1]`, at `inputs`, one vector each.
    fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1>;
}

/// A layer or network and what it computes, written once for every autodiff level.
pub trait ModuleCase {
    /// The module.
    type Module<L: Primitives>: Module<L>;

    /// The module, with any parameters.
    fn module<L: Primitives>(&self, device: &L::Device) -> Self::Module<L>;

    /// Its output for `inputs`, one vector each, as one vector.
    fn output<L: Primitives>(
        &self,
        module: &Self::Module<L>,
        inputs: &[Tensor<L, 1>],
    ) -> Tensor<L, 1>;
}

/// `⟨v, tanh(output)⟩`, `v` fixed, as a function of all trainable parameters of a [`ModuleCase`], one
/// vector, and of its inputs.
pub struct OfModule<'a, F>(pub &'a F);

impl<F: ModuleCase> OfModule<'_, F> {
    /// The trainable parameters of the module as built, one after the other; of a module without any, one
    /// number that nothing depends on.
    pub fn parameters<B: Primitives>(&self, device: &B::Device) -> Vec<f64> {
        let parameters = Params::of(&self.0.module::<B>(device));
        match parameters.num_elements() == 0 {
            true => vec![0.0],
            false => host(parameters.flatten()),
        }
    }
}

impl<F: ModuleCase> Function for OfModule<'_, F> {
    fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
        let (flat, inputs) = inputs.split_first().expect("the parameters come first");
        let (flat, device) = (flat.clone(), flat.device());
        let skeleton = self.0.module::<L>(&device);
        let built = Params::of(&skeleton);
        let score = |module: &F::Module<L>| {
            let output = self.0.output(module, inputs);
            let length = output.dims()[0];
            (output.tanh() * vector::<L>(&direction(length, 3), &device)).sum()
        };
        match built.num_elements() == 0 {
            true => score(&skeleton) + flat.mul_scalar(0.0).sum(),
            false => score(&built.unflatten(flat.unsqueeze()).write_into(skeleton)),
        }
    }
}

/// Largest relative errors that [`check`] found.
#[derive(Clone, Copy, Debug)]
pub struct Errors {
    /// Of `∇F` against central differences of `F`.
    pub first: f64,
    /// Of `∇⟨v, ∇F⟩` against central differences of `⟨v, ∇F⟩`, `v` fixed.
    pub second: f64,
}

impl Errors {
    /// Whether both are at most `tolerance`.
    pub fn within(self, tolerance: f64) -> bool {
        self.first <= tolerance && self.second <= tolerance
    }
}

fn vector<L: Backend>(values: &[f64], device: &L::Device) -> Tensor<L, 1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

fn host<L: Backend, const D: usize>(tensor: Tensor<L, D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Numbers of about unit size without structure, for points that are checked: others for every
/// `offset`.
pub fn scatter(length: usize, offset: usize) -> Vec<f64> {
    let direction = direction(length, 31 * offset);
    direction.into_iter().map(|d| 3.0 * d).collect()
}

/// A fixed direction without structure: the fractional parts of multiples of the golden ratio.
fn direction(length: usize, offset: usize) -> Vec<f64> {
    (0..length)
        .map(|i| ((i + offset + 1) as f64 * 0.618_033_988_749_895).fract() - 0.5)
        .collect()
}

fn gradient<L: Primitives>(function: &impl Function, inputs: &[Tensor<L, 1>]) -> Vec<Tensor<L, 1>> {
    let leaves: Vec<Tensor<Autodiff<L>, 1>> = inputs
        .iter()
        .map(|input| Tensor::from_inner(input.clone()).require_grad())
        .collect();
    let nodes: Vec<_> = leaves.iter().cloned().map(primitive).collect();
    Autodiff::<L>::tie(&nodes);
    let gradients = function.value(&leaves).backward();
    leaves
        .iter()
        .map(|leaf| {
            leaf.grad(&gradients)
                .unwrap_or_else(|| leaf.clone().inner().zeros_like())
        })
        .collect()
}

/// `⟨v, ∇F⟩` for the direction of each input.
fn directional<L: Primitives>(function: &impl Function, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
    gradient(function, inputs)
        .into_iter()
        .enumerate()
        .map(|(position, gradient)| {
            let length = gradient.dims()[0];
            let v = vector::<L>(&direction(length, 7 * position), &gradient.device());
            (gradient * v).sum()
        })
        .reduce(|total, term| total + term)
        .expect("at least one input")
}

/// `⟨v, ∇F⟩` as a function of its own, whose gradient is of second order.
struct Directional<'a, F>(&'a F);

impl<F: Function> Function for Directional<'_, F> {
    fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
        directional(self.0, inputs)
    }
}

/// Steps of the central differences, tried in turn: the first is the most exact on a smooth function;
/// a ReLU or a maximum that switches within it does not switch within a smaller one.
const STEPS: [f64; 3] = [1e-5, 1e-6, 1e-7];

/// The central difference of `along` at 0 that is nearest to `derivative`, over a few steps.
///
/// A wrong derivative is far from all of them.
pub fn nearest_difference(derivative: f64, mut along: impl FnMut(f64) -> f64) -> f64 {
    let mut nearest = f64::INFINITY;
    for step in STEPS {
        let difference = (along(step) - along(-step)) / (2.0 * step);
        if (difference - derivative).abs() < (nearest - derivative).abs() {
            nearest = difference;
        }
        if (nearest - derivative).abs() <= 1e-8 * nearest.abs().max(1e-3) {
            break;
        }
    }
    nearest
}

/// Largest deviation of the gradient from central differences, relative to the largest of them (or
/// to 1e-6 where that is smaller).
fn error_of<B: Primitives>(
    function: &impl Function,
    point: &[Vec<f64>],
    device: &B::Device,
) -> f64 {
    let at = |point: &[Vec<f64>]| -> Vec<Tensor<B, 1>> {
        point.iter().map(|values| vector(values, device)).collect()
    };
    let value = |point: &[Vec<f64>]| host(function.value(&at(point)))[0];
    let gradients = gradient(function, &at(point)).into_iter().map(host);
    let (mut deviation, mut scale) = (0.0f64, 1e-6f64);
    for (input, gradient) in gradients.enumerate() {
        for (component, derivative) in gradient.into_iter().enumerate() {
            let numeric = nearest_difference(derivative, |shift| {
                let mut shifted = point.to_vec();
                shifted[input][component] += shift;
                value(&shifted)
            });
            deviation = deviation.max((derivative - numeric).abs());
            scale = scale.max(numeric.abs());
        }
    }
    deviation / scale
}

/// Errors of the first and second derivatives of `function` at `point`.
///
/// Central differences have an error of about 1e-10 relative in f64, so anything above 1e-6 is a
/// wrong gradient.
pub fn check<B: Primitives>(
    function: &impl Function,
    point: &[Vec<f64>],
    device: &B::Device,
) -> Errors {
    Errors {
        first: error_of::<B>(function, point, device),
        second: error_of::<B>(&Directional(function), point, device),
    }
}

/// A function and its derivatives at a point.
#[derive(Clone, Debug)]
pub struct Derivatives {
    /// `F`.
    pub value: Vec<f64>,
    /// `∇F`, one input after the other.
    pub gradient: Vec<f64>,
    /// `∇⟨v, ∇F⟩`, `v` fixed: second order.
    pub second: Vec<f64>,
}

/// `function` and its derivatives at `point`, as this backend computes them: what backends are
/// compared by.
pub fn derivatives<B: Primitives>(
    function: &impl Function,
    point: &[Vec<f64>],
    device: &B::Device,
) -> Derivatives {
    let at: Vec<Tensor<B, 1>> = point.iter().map(|values| vector(values, device)).collect();
    let all = |gradients: Vec<Tensor<B, 1>>| gradients.into_iter().flat_map(host).collect();
    Derivatives {
        value: host(function.value(&at)),
        gradient: all(gradient(function, &at)),
        second: all(gradient(&Directional(function), &at)),
    }
}
