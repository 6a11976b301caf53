//! Meta-gradients of learners against central differences.
//!
//! For every meta-parameter: does moving it a little change the loss as the meta-gradient says? A small
//! parameter is moved along each of its numbers, a larger one along a few random directions in which all
//! of them move: a wrong number shows in each of these. The tasks are random, as what is learned does not
//! matter to a gradient. Run it in f64.

use burn::tensor::{Tensor, TensorData, get_device_settings};

use crate::{
    gradcheck::nearest_difference,
    learner::{GradientOf, Learner, PredictAt},
    nn::loss,
    params::Params,
    primitives::Primitives,
    rng::Seed,
    task::TaskBatch,
};

/// A parameter of up to so many numbers is moved along each of them.
const ALONG_EACH: usize = 8;

/// Directions along which a larger one is moved.
const DIRECTIONS: usize = 4;

/// Unit vectors along which a parameter of `numbers` numbers is moved: the axes, or random signs.
fn directions(numbers: usize, seed: u64) -> Vec<Vec<f64>> {
    if numbers <= ALONG_EACH {
        let axis = |along: usize| (0..numbers).map(|i| f64::from(i == along)).collect();
        return (0..numbers).map(axis).collect();
    }
    let mut stream = Seed(8).stream("gradient test", seed, "directions");
    let length = (numbers as f64).sqrt().recip();
    let mut sign = || length.copysign(stream.normal());
    let mut direction = || (0..numbers).map(|_| sign()).collect();
    (0..DIRECTIONS).map(|_| direction()).collect()
}

/// Largest error of the meta-gradient of `learner` on `tasks` along the directions, relative to the largest
/// derivative along one; the parameters are left moved. None where `of` says that there is no such loss.
///
/// The point is the learner's parameters with a little noise on each, off the symmetric start (zero
/// biases, unit scales), where errors could hide.
pub fn error<B: Primitives>(
    learner: &mut dyn Learner<B>,
    of: &GradientOf,
    tasks: &TaskBatch<B>,
) -> Option<f64> {
    let objective = |learner: &dyn Learner<B>| match of {
        GradientOf::Queries(_) => query_loss(learner, tasks),
        _ => number(learner.meta_gradient(tasks).losses.mean()),
    };
    if let GradientOf::Neither(..) = of {
        return None;
    }
    let device = tasks.query.inputs.device();
    let set = |learner: &mut dyn Learner<B>, values: &[Entry]| set(learner, values, &device);
    let start = off_start(learner, &device);
    let gradients = host(&learner.meta_gradient(tasks).gradients);

    let (mut deviation, mut scale) = (0.0f64, 1e-9f64);
    for (name, _, gradient) in gradients {
        let entry = start.iter().position(|(own, ..)| *own == name);
        let entry = entry.expect("a gradient of a parameter");
        for direction in directions(gradient.len(), entry as u64) {
            let derivative: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
            let numeric = nearest_difference(derivative, |shift| {
                let mut point = start.clone();
                let moved = point[entry].2.iter_mut().zip(&direction);
                moved.for_each(|(value, along)| *value += shift * along);
                set(learner, &point);
                objective(learner)
            });
            deviation = deviation.max((derivative - numeric).abs());
            scale = scale.max(numeric.abs());
        }
    }
    Some(deviation / scale)
}

/// Adds a little noise to each parameter of `learner`, the same every time, and returns where it then
/// stands.
fn off_start<B: Primitives>(learner: &mut dyn Learner<B>, device: &B::Device) -> Vec<Entry> {
    let mut start = host(&learner.parameters());
    let mut stream = Seed(8).stream("gradient test", 0, "offset");
    for (_, _, values) in &mut start {
        values.iter_mut().for_each(|v| *v += 0.1 * stream.normal());
    }
    set(learner, &start, device);
    start
}

/// Moves `learner` off its symmetric start, as [`error`] does.
pub fn move_off_start<B: Primitives>(learner: &mut dyn Learner<B>, device: &B::Device) {
    off_start(learner, device);
}

fn set<B: Primitives>(learner: &mut dyn Learner<B>, values: &[Entry], device: &B::Device) {
    let format = get_device_settings::<B>(device).float_dtype;
    let data = values.iter().map(|(name, shape, values)| {
        let data = TensorData::new(values.clone(), shape.clone());
        (name.clone(), data.convert_dtype(format.into()))
    });
    learner.set_parameters(Params::from_data(data.collect(), device));
}

/// Mean over tasks of the query loss after adaptation.
fn query_loss<B: Primitives>(learner: &dyn Learner<B>, tasks: &TaskBatch<B>) -> f64 {
    let predictions = learner.predict(tasks, PredictAt::LastStep).remove(0);
    number(loss::loss(predictions, &tasks.query.targets).mean())
}

/// A scalar, by way of the host: `into_scalar` rounds to f32.
fn number<B: Primitives>(scalar: Tensor<B, 1>) -> f64 {
    let data = scalar.into_data();
    data.iter::<f64>().next().expect("one value")
}

/// Name, shape and values of a parameter.
type Entry = (String, Vec<usize>, Vec<f64>);

fn host<B: Primitives>(parameters: &Params<B>) -> Vec<Entry> {
    parameters
        .to_data()
        .into_iter()
        .map(|(name, data)| (name, data.shape.to_vec(), data.iter::<f64>().collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number of a parameter shows in every direction, or has one of its own.
    #[test]
    fn directions_see_every_number() {
        for numbers in [1, ALONG_EACH, ALONG_EACH + 1, 300] {
            let all = directions(numbers, 1);
            for direction in &all {
                let length: f64 = direction.iter().map(|x| x * x).sum();
                assert!((length - 1.0).abs() < 1e-12);
            }
            for number in 0..numbers {
                let seen = all.iter().filter(|along| along[number] != 0.0).count();
                assert_eq!(seen, if numbers > ALONG_EACH { DIRECTIONS } else { 1 });
            }
        }
        assert_ne!(directions(9, 1), directions(9, 2));
    }
}
