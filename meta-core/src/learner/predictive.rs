//! Predictive distributions: reads a network's output as a distribution of the target.
//!
//! Regression, normal: every output has mean `m` and standard deviation
//! `σ = σ₀ + (1 − σ₀) softplus(s)`, with `m` and `s` the two halves of the network's output.
//!
//! Regression, in bins (Müller et al., *Transformers can do Bayesian inference*, ICLR 2022, section 4): the
//! softmax of the network's output is the mass of each of `B` intervals of the standardised target
//! `z = (y − μ) / σ`. Between the borders `bᵢ = 1.5 Φ⁻¹(i / B)`, `i = 1 … B − 1`, the density of an
//! interval is constant; beyond the first and the last it is half of a normal of deviation 1. `μ` and `σ`
//! follow the masses in the output: those of the task's support.
//!
//! Classification: the softmax of class scores.

use burn::tensor::{Tensor, TensorData, activation::log_softmax, backend::Backend};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::nn::{activation, loss};
use crate::{
    data::Task,
    task::{ItemBatch, TargetBatch, TaskSpec},
};

/// Widens the borders of bins beyond those of a standard normal: a query may lie outside its support.
const SPREAD: f64 = 1.5;

/// The family of a distribution of values.
#[derive(Clone, Copy, Debug)]
enum Values {
    /// Deviations of at least `σ₀`.
    Normal(f64),
    /// `B`, at least 2.
    Binned(usize),
}

/// How the output of a network is read.
#[derive(Clone, Copy, Debug)]
pub struct OutputDistribution {
    task: Task,
    /// Classes, or numbers of a target.
    outputs: usize,
    values: Values,
}

impl OutputDistribution {
    /// Distributions for these tasks, with deviations of at least `least_deviation`, in (0, 1).
    pub fn new(spec: &TaskSpec, least_deviation: f64) -> Self {
        OutputDistribution {
            task: spec.task,
            outputs: spec.outputs(),
            values: Values::Normal(least_deviation),
        }
    }

    /// Distributions over this many bins, at least 2; as [`Self::new`] for classes.
    pub fn binned(spec: &TaskSpec, bins: usize) -> Self {
        OutputDistribution {
            task: spec.task,
            outputs: spec.outputs(),
            values: Values::Binned(bins.max(2)),
        }
    }

    /// Classes, or numbers of a target.
    pub fn outputs(self) -> usize {
        self.outputs
    }

    /// Numbers that the network puts out for a query; behind bins come `μ` and `σ` of every output.
    pub fn width(self) -> usize {
        match (self.task, self.values) {
            (Task::Classification | Task::Sequences { .. } | Task::Acting { .. }, _) => {
                self.outputs
            }
            (Task::Regression { .. }, Values::Normal(_)) => 2 * self.outputs,
            (Task::Regression { .. }, Values::Binned(bins)) => bins * self.outputs,
        }
    }

    /// Class scores, or means: `[t, q, width]` to `[t, q, outputs]`.
    pub fn predictions<B: Backend>(self, output: Tensor<B, 3>) -> Tensor<B, 3> {
        match (self.task, self.values) {
            (Task::Regression { .. }, Values::Binned(bins)) => {
                let [t, q, _] = output.dims();
                let parts = Binned::of(output, self.outputs, bins);
                let [first, _] = parts.moments();
                (first * parts.deviation + parts.mean).reshape([t, q, self.outputs])
            }
            _ => output.narrow(2, 0, self.outputs),
        }
    }

    /// Standard deviations, `[t, q, outputs]`; none for classes.
    pub fn deviations<B: Backend>(self, output: Tensor<B, 3>) -> Option<Tensor<B, 3>> {
        match (self.task, self.values) {
            (Task::Classification | Task::Sequences { .. } | Task::Acting { .. }, _) => None,
            (_, Values::Normal(least)) => Some(self.deviation_of(output, least)),
            (_, Values::Binned(bins)) => {
                let [t, q, _] = output.dims();
                let parts = Binned::of(output, self.outputs, bins);
                let [first, second] = parts.moments();
                let variance = (second - first.clone() * first).clamp_min(0.0);
                Some((variance.sqrt() * parts.deviation).reshape([t, q, self.outputs]))
            }
        }
    }

    /// The values below which a target lies with the probabilities `levels`, in (0, 1): `[t, q·outputs,
    /// levels]`; of bins alone.
    pub fn quantiles<B: Backend>(
        self,
        output: Tensor<B, 3>,
        levels: &[f64],
    ) -> Option<Tensor<B, 3>> {
        let (Task::Regression { .. }, Values::Binned(bins)) = (self.task, self.values) else {
            return None;
        };
        let [t, q, _] = output.dims();
        let device = output.device();
        let Binned {
            log_masses,
            mean,
            deviation,
        } = Binned::of(output, self.outputs, bins);
        let host = |x: Tensor<B, 3>| -> Vec<f64> { x.into_data().iter::<f64>().collect() };
        let (masses, mean, deviation) = (host(log_masses.exp()), host(mean), host(deviation));
        let found = masses
            .chunks_exact(bins)
            .enumerate()
            .flat_map(|(row, masses)| {
                let at = |&level: &f64| mean[row] + deviation[row] * quantile(masses, level);
                levels.iter().map(at).collect::<Vec<f64>>()
            });
        let found = TensorData::new(
            found.collect::<Vec<f64>>(),
            [t, q * self.outputs, levels.len()],
        );
        Some(Tensor::from_data(found, &device))
    }

    fn deviation_of<B: Backend>(self, output: Tensor<B, 3>, least: f64) -> Tensor<B, 3> {
        activation::softplus(output.narrow(2, self.outputs, self.outputs))
            .mul_scalar(1.0 - least)
            .add_scalar(least)
    }

    /// Mean over queries and outputs of `−ln p(y)`, `[t]`, of the queries that are there: cross-entropy,
    /// or the negative log-density.
    pub fn losses<B: Backend>(self, output: Tensor<B, 3>, queries: &ItemBatch<B>) -> Tensor<B, 1> {
        match self.log_likelihood(output.clone(), queries) {
            Some(densities) => densities.neg(),
            None => loss::loss_of_items(output, queries),
        }
    }

    /// Mean over queries and outputs of the log-density of the targets, in nats, `[t]`, of the queries that
    /// are there; none for classes. Of normals: `−½ ln 2π − ln σ − (y − m)² / 2σ²`.
    pub fn log_likelihood<B: Backend>(
        self,
        output: Tensor<B, 3>,
        queries: &ItemBatch<B>,
    ) -> Option<Tensor<B, 1>> {
        let TargetBatch::Values(values) = &queries.targets else {
            return None;
        };
        Some(match self.values {
            Values::Binned(bins) => {
                let [t, q, _] = output.dims();
                let values = values.clone().reshape([t, q * self.outputs, 1]);
                let densities = Binned::of(output, self.outputs, bins).densities(values);
                mean_of_those_there(densities.reshape([t, q, self.outputs]), 0.0, queries)
            }
            Values::Normal(least) => {
                let deviation = self.deviation_of(output.clone(), least);
                of_normals(self.predictions(output), deviation, values, queries)
            }
        })
    }
}

/// Mean over queries and numbers of `−½ ln 2π − ln σ − (y − m)² / 2σ²`, `[t]`, of the `queries` that are there: means
/// `m`, deviations `σ` and values `y`, `[t, q, o]`.
pub(super) fn of_normals<B: Backend>(
    means: Tensor<B, 3>,
    deviations: Tensor<B, 3>,
    values: &Tensor<B, 3>,
    queries: &ItemBatch<B>,
) -> Tensor<B, 1> {
    let error = (values.clone() - means) / deviations.clone();
    let densities = (error.clone() * error).mul_scalar(-0.5) - deviations.log();
    mean_of_those_there(densities, 0.5 * std::f64::consts::TAU.ln(), queries)
}

/// The mean of `densities [t, q, o]` less `constant`, `[t]`, over the `queries` that are there.
fn mean_of_those_there<B: Backend>(
    densities: Tensor<B, 3>,
    constant: f64,
    queries: &ItemBatch<B>,
) -> Tensor<B, 1> {
    let [t, q, outputs] = densities.dims();
    let densities = densities.reshape([t, q * outputs]);
    let Some(mask) = &queries.mask else {
        return densities.mean_dim(1).reshape([t]).sub_scalar(constant);
    };
    let there = mask.items.clone().unsqueeze_dim::<3>(2);
    let there = there.expand([t, q, outputs]).reshape([t, q * outputs]);
    let kept = densities
        .sub_scalar(constant)
        .mask_fill(there.clone().bool_not(), 0.0);
    let counts = there.float().cast(kept.dtype()).sum_dim(1).clamp_min(1.0);
    (kept.sum_dim(1) / counts).reshape([t])
}

/// The borders between `bins` bins of a standardised target, rising.
fn borders(bins: usize) -> Vec<f64> {
    let normal = Normal::standard();
    (1..bins)
        .map(|place| SPREAD * normal.inverse_cdf(place as f64 / bins as f64))
        .collect()
}

/// Mean and mean square of each bin.
fn moments_of_bins(bins: usize) -> [Vec<f64>; 2] {
    let borders = borders(bins);
    // Of half of a standard normal.
    let tail = std::f64::consts::FRAC_2_PI.sqrt();
    let of = |bin: usize| {
        let low = bin.checked_sub(1).map(|place| borders[place]);
        match (low, borders.get(bin)) {
            (Some(low), Some(&high)) => {
                let (mean, width) = (0.5 * (low + high), high - low);
                (mean, mean * mean + width * width / 12.0)
            }
            (None, Some(&high)) => (high - tail, high * high - 2.0 * high * tail + 1.0),
            (Some(low), None) => (low + tail, low * low + 2.0 * low * tail + 1.0),
            (None, None) => (0.0, 1.0),
        }
    };
    let (means, squares) = (0..bins).map(of).unzip();
    [means, squares]
}

/// Numbers as a tensor of the dtype of another, `[1, 1, n]`.
fn row<B: Backend>(numbers: Vec<f64>, like: &Tensor<B, 3>) -> Tensor<B, 3> {
    let count = numbers.len();
    let data = TensorData::new(numbers, [1, 1, count]);
    Tensor::<B, 3>::from_data(data, &like.device()).cast(like.dtype())
}

/// The output for bins, a row for every query and output: `b = q·outputs`.
struct Binned<B: Backend> {
    /// Logarithms of the masses, `[t, b, B]`.
    log_masses: Tensor<B, 3>,
    /// `μ`, `[t, b, 1]`.
    mean: Tensor<B, 3>,
    /// `σ`, `[t, b, 1]`.
    deviation: Tensor<B, 3>,
}

impl<B: Backend> Binned<B> {
    fn of(output: Tensor<B, 3>, outputs: usize, bins: usize) -> Self {
        let [t, q, _] = output.dims();
        let part = |first: usize, width: usize| {
            let part = output.clone().narrow(2, first, outputs * width);
            part.reshape([t, q * outputs, width])
        };
        Binned {
            log_masses: log_softmax(part(0, bins), 2),
            mean: part(outputs * bins, 1),
            deviation: part(outputs * (bins + 1), 1),
        }
    }

    /// Mean and mean square of the standardised target, `[t, b, 1]` each.
    fn moments(&self) -> [Tensor<B, 3>; 2] {
        let masses = self.log_masses.clone().exp();
        let bins = masses.dims()[2];
        moments_of_bins(bins).map(|moments| (masses.clone() * row(moments, &masses)).sum_dim(2))
    }

    /// `ln p(y)` of values `[t, b, 1]`, of the same shape.
    fn densities(self, values: Tensor<B, 3>) -> Tensor<B, 3> {
        let [t, b, bins] = self.log_masses.dims();
        let z = (values - self.mean) / self.deviation.clone();
        let borders = borders(bins);
        let tail = std::f64::consts::FRAC_2_PI.sqrt().ln();
        let mut heights = vec![tail];
        heights.extend(borders.windows(2).map(|pair| -(pair[1] - pair[0]).ln()));
        heights.push(tail);
        let (first, last) = (borders[0], borders[bins - 2]);
        let shape = [t, b, bins - 1];
        let borders = row(borders, &z).expand(shape);
        let bin = z
            .clone()
            .expand(shape)
            .greater_equal(borders)
            .int()
            .sum_dim(2);
        let heights = row(heights, &z).expand([t, b, bins]);
        let beyond =
            z.clone().neg().add_scalar(first).clamp_min(0.0) + z.sub_scalar(last).clamp_min(0.0);
        (self.log_masses + heights).gather(2, bin)
            - (beyond.clone() * beyond).mul_scalar(0.5)
            - self.deviation.log()
    }
}

/// The standardised value below which the share `level` of the masses of bins lies.
fn quantile(masses: &[f64], level: f64) -> f64 {
    let (borders, normal) = (borders(masses.len()), Normal::standard());
    let mut below = 0.0;
    for (bin, mass) in masses.iter().enumerate() {
        let last = bin + 1 == masses.len();
        if below + mass >= level || last {
            // Kept off 0 and 1, where a tail has no end.
            let share = ((level - below) / mass.max(f64::MIN_POSITIVE)).clamp(1e-12, 1.0 - 1e-12);
            return match (bin, last) {
                (0, _) => borders[0] + normal.inverse_cdf(0.5 * share),
                (_, true) => borders[bin - 1] + normal.inverse_cdf(0.5 + 0.5 * share),
                _ => borders[bin - 1] + share * (borders[bin] - borders[bin - 1]),
            };
        }
        below += mass;
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Cpu,
        data::{EpisodeShape, Extras, ItemShape},
        task::MaskBatch,
    };

    fn spec() -> TaskSpec {
        let shape = EpisodeShape::new(1, 1, 2);
        TaskSpec {
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
        }
    }

    fn queries(values: Tensor<Cpu, 3>) -> ItemBatch<Cpu> {
        ItemBatch::new(values.zeros_like(), TargetBatch::Values(values))
    }

    /// A target one deviation from its mean, and one at it: `−½ ln 2π − ln σ − ¼` on average.
    #[test]
    fn the_density_of_a_normal() {
        let device = Default::default();
        let output = Tensor::<Cpu, 3>::from_floats([[[2.0, 0.0], [-1.0, 0.0]]], &device);
        let deviation = 0.1 + 0.9 * 2.0f32.ln();
        let values = Tensor::from_floats([[[2.0 + deviation], [-1.0]]], &device);
        let predictive = OutputDistribution::new(&spec(), 0.1);
        let mut items = queries(values);
        let found = predictive.log_likelihood(output.clone(), &items);
        let constant = -0.5 * std::f32::consts::TAU.ln() - deviation.ln();
        assert!((found.expect("a density").into_scalar() - constant + 0.25).abs() < 1e-6);
        // The first is not there.
        items.mask = Some(MaskBatch {
            items: Tensor::from_data([[false, true]], &device),
            numbers: None,
        });
        let found = predictive.log_likelihood(output, &items);
        assert!((found.expect("a density").into_scalar() - constant).abs() < 1e-6);
    }

    /// Two numbers of a target are two distributions.
    #[test]
    fn outputs_are_read_apart() {
        let spec = TaskSpec {
            task: Task::Regression { outputs: 2 },
            ..spec()
        };
        let predictive = OutputDistribution::binned(&spec, 2);
        let device = Default::default();
        // Masses of two bins for each, then both means and both deviations.
        let output = [[[0.0, 9.0, 9.0, 0.0, 1.0, -4.0, 2.0, 3.0]]];
        let output = Tensor::<Cpu, 3>::from_floats(output, &device);
        assert_eq!(predictive.width(), 4);
        let means = numbers(predictive.predictions(output.clone()));
        // The border is 0, and half of a normal has the mean √(2/π); e⁻⁹ of the mass is in the other.
        let half = std::f64::consts::FRAC_2_PI.sqrt();
        assert!((means[0] - (1.0 + 2.0 * half)).abs() < 1e-3, "{means:?}");
        assert!((means[1] - (-4.0 - 3.0 * half)).abs() < 1e-3, "{means:?}");
        let values = Tensor::from_floats([[[1.0002, -3.9997]]], &device);
        let found = predictive.log_likelihood(output, &queries(values));
        // Just above the border both are ln √(2/π) − ln σ; the second target falls into the empty bin above it.
        let expected = half.ln() - 0.5 * (2.0f64.ln() + 3.0f64.ln()) - 0.5 * 9.0;
        let found = f64::from(found.expect("a density").into_scalar());
        assert!((found - expected).abs() < 1e-3, "{found} {expected}");
    }

    const BINS: usize = 7;

    /// Some masses, then mean 3 and deviation 2 of the support.
    fn output(rows: usize) -> Tensor<Cpu, 3> {
        let row = [0.3, -1.0, 0.5, 2.0, 0.0, 1.0, -0.4, 3.0, 2.0];
        let all: Vec<f32> = (0..rows).flat_map(|_| row).collect();
        let data = TensorData::new(all, [1, rows, BINS + 2]);
        Tensor::from_data(data, &Default::default())
    }

    fn numbers(x: Tensor<Cpu, 3>) -> Vec<f64> {
        x.into_data().iter::<f64>().collect()
    }

    /// The density by bins, summed over a fine grid: 1 in all, with the mean, the deviation and the
    /// quantiles that the distribution says. The grid's step of 0.004 bounds what a border between two of
    /// its points moves: 0.002 of a mass, and as much of a quantile.
    #[test]
    fn a_binned_density_has_its_moments_and_quantiles() {
        let predictive = OutputDistribution::binned(&spec(), BINS);
        assert_eq!(predictive.width(), BINS);
        let (count, step) = (10_000usize, 0.004);
        let grid: Vec<f64> = (0..count)
            .map(|i| -17.0 + step * (i as f64 + 0.5))
            .collect();
        let values = TensorData::new(grid.clone(), [1, count, 1]);
        let values = Tensor::<Cpu, 3>::from_data(values, &Default::default());
        let parts = Binned::of(output(count), 1, BINS);
        let density = numbers(parts.densities(values));
        let weights: Vec<f64> = density.iter().map(|log| log.exp() * step).collect();
        let total: f64 = weights.iter().sum();
        let mean: f64 = weights.iter().zip(&grid).map(|(w, y)| w * y).sum();
        let square: f64 = weights.iter().zip(&grid).map(|(w, y)| w * y * y).sum();
        assert!((total - 1.0).abs() < 2e-3, "{total}");
        let found = numbers(predictive.predictions(output(1)))[0];
        assert!((found - mean).abs() < 1e-2, "{found} {mean}");
        let deviation = predictive.deviations(output(1)).expect("of values");
        let expected = (square - mean * mean).sqrt();
        assert!(
            (numbers(deviation)[0] - expected).abs() < 1e-2,
            "{expected}"
        );
        let levels = [0.02, 0.25, 0.5, 0.9, 0.99];
        let quantiles = predictive.quantiles(output(1), &levels).expect("of bins");
        for (level, quantile) in levels.iter().zip(numbers(quantiles)) {
            let below = weights.iter().zip(&grid).filter(|(_, y)| **y < quantile);
            let below: f64 = below.map(|(w, _)| w).sum();
            assert!((below - level).abs() < 4e-3, "{level}: {below}");
        }
    }
}
