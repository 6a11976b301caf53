//! Meta-gradients of learners against central differences.
//!
//! For every meta-parameter: does moving it a little change the loss as the meta-gradient says? The
//! tasks are random, as what is learned does not matter to a gradient. Run it in f64.

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

/// Largest error of the meta-gradient of `learner` on `tasks`, relative to its largest component; the
/// parameters are left moved. None where `of` says that there is no such loss.
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
        for (component, derivative) in gradient.into_iter().enumerate() {
            let numeric = nearest_difference(derivative, |shift| {
                let mut point = start.clone();
                point[entry].2[component] += shift;
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
