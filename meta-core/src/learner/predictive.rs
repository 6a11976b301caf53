//! Predictive distributions: reads a network's output as a distribution of the target.
//!
//! Regression: every output is normal, with mean `m` and standard deviation
//! `σ = σ₀ + (1 − σ₀) softplus(s)`, with `m` and `s` the two halves of the network's output.
//! Classification: the softmax of class scores.

use burn::tensor::{Tensor, backend::Backend};

use crate::nn::{activation, loss};
use crate::{
    data::Task,
    task::{TargetBatch, TaskSpec},
};

/// How the output of a network is read.
#[derive(Clone, Copy, Debug)]
pub struct OutputDistribution {
    task: Task,
    /// Classes, or numbers of a target.
    outputs: usize,
    /// `σ₀`.
    least_deviation: f64,
}

impl OutputDistribution {
    /// Distributions for these tasks, with deviations of at least `least_deviation`, in (0, 1).
    pub fn new(spec: &TaskSpec, least_deviation: f64) -> Self {
        OutputDistribution {
            task: spec.task,
            outputs: spec.outputs(),
            least_deviation,
        }
    }

    /// Classes, or numbers of a target.
    pub fn outputs(self) -> usize {
        self.outputs
    }

    /// Numbers that the network puts out for a query.
    pub fn width(self) -> usize {
        match self.task {
            Task::Classification => self.outputs,
            Task::Regression { .. } => 2 * self.outputs,
        }
    }

    /// Class scores, or means: `[t, q, width]` to `[t, q, outputs]`.
    pub fn predictions<B: Backend>(self, output: Tensor<B, 3>) -> Tensor<B, 3> {
        output.narrow(2, 0, self.outputs)
    }

    /// Standard deviations, `[t, q, outputs]`; none for classes.
    pub fn deviations<B: Backend>(self, output: Tensor<B, 3>) -> Option<Tensor<B, 3>> {
        matches!(self.task, Task::Regression { .. }).then(|| self.deviation_of(output))
    }

    fn deviation_of<B: Backend>(self, output: Tensor<B, 3>) -> Tensor<B, 3> {
        activation::softplus(output.narrow(2, self.outputs, self.outputs))
            .mul_scalar(1.0 - self.least_deviation)
            .add_scalar(self.least_deviation)
    }

    /// Mean over queries and outputs of `−ln p(y)`, `[t]`: cross-entropy, or the negative log-density.
    pub fn losses<B: Backend>(
        self,
        output: Tensor<B, 3>,
        targets: &TargetBatch<B>,
    ) -> Tensor<B, 1> {
        match self.log_likelihood(output.clone(), targets) {
            Some(densities) => densities.neg(),
            None => loss::loss(output, targets),
        }
    }

    /// Mean over queries and outputs of the log-density of the targets, in nats, `[t]`:
    /// `−½ ln 2π − ln σ − (y − m)² / 2σ²`; none for classes.
    pub fn log_likelihood<B: Backend>(
        self,
        output: Tensor<B, 3>,
        targets: &TargetBatch<B>,
    ) -> Option<Tensor<B, 1>> {
        let TargetBatch::Values(values) = targets else {
            return None;
        };
        let [t, q, _] = output.dims();
        let deviation = self.deviation_of(output.clone());
        let error = (values.clone() - self.predictions(output)) / deviation.clone();
        let densities = (error.clone() * error).mul_scalar(-0.5) - deviation.log();
        let mean = densities.reshape([t, q * self.outputs]).mean_dim(1);
        Some(
            mean.reshape([t])
                .sub_scalar(0.5 * std::f64::consts::TAU.ln()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Cpu,
        data::{EpisodeShape, Extras, ItemShape},
    };

    /// A target one deviation from its mean, and one at it: `−½ ln 2π − ln σ − ¼` on average.
    #[test]
    fn the_density_of_a_normal() {
        let shape = EpisodeShape::new(1, 1, 2);
        let spec = TaskSpec {
            item: ItemShape {
                height: 1,
                width: 1,
                channels: 1,
            },
            task: Task::Regression { outputs: 1 },
            train: shape,
            test: shape,
            train_classes: 0,
            extras: Extras::default(),
        };
        let device = Default::default();
        let output = Tensor::<Cpu, 3>::from_floats([[[2.0, 0.0], [-1.0, 0.0]]], &device);
        let deviation = 0.1 + 0.9 * 2.0f32.ln();
        let values = Tensor::from_floats([[[2.0 + deviation], [-1.0]]], &device);
        let predictive = OutputDistribution::new(&spec, 0.1);
        let found = predictive.log_likelihood(output, &TargetBatch::Values(values));
        let expected = -0.5 * std::f32::consts::TAU.ln() - deviation.ln() - 0.25;
        assert!((found.expect("a density").into_scalar() - expected).abs() < 1e-6);
    }
}
