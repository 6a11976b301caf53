//! Task selection: weights over the tasks of a meta-batch, by attention.
//!
//! Aimen, Sidheekh, Ladrecha and Krishnan, *Task attended meta-learning for few-shot learning*,
//! NeurIPS workshop on meta-learning 2021, weight the tasks of a meta-batch by attention over what is
//! known of them; Yao et al., *Meta-learning with an adaptive task scheduler*, NeurIPS 2021, learn a
//! scheduler by what a step does to the loss afterwards.
//!
//! For any learner with meta-gradients `gᵢ` and losses `ℓᵢ` of `t` tasks:
//!
//! ```text
//! fᵢ = [ℓᵢ, embedding of the support of task i],  standardised over the meta-batch
//! hᵢ = Σⱼ softmaxⱼ(q(fᵢ)·k(fⱼ) / √d) v(fⱼ)         the tasks attend to each other
//! a  = softmaxᵢ(u·hᵢ + c·fᵢ)
//! w  = (1 − λ) a + λ/t,   the least λ with H(w) ≥ min_entropy · ln t
//! θ ← step(θ, Σ wᵢ gᵢ)
//! ```
//!
//! The least entropy keeps the weights from collapsing onto a task. `ω`, the parameters of the
//! attention, are learned by what the weighted step does to the loss of the next meta-batch: of a
//! gradient step of length `β`, `∂L_next(θ − β Σ wᵢ gᵢ)/∂wᵢ = −β ⟨gᵢ, ∇L_next⟩`, so that `ω` follows
//! the gradient of `−Σ wᵢ(ω) ⟨gᵢ, ∇L_next⟩` by Adam, with `λ` as a constant. `∇L_next` is the unweighted
//! mean of the next tasks' meta-gradients, which training computes anyway; or, with
//! `selection_judge = "validation"`, that of as many validation tasks, which are computed for it alone. Where some
//! tasks cannot be learned from, the next meta-batch holds such tasks as well, and asks for more of them.
//!
//! The embedding needs no learner: four fixed random projections of the mean support item, the spread
//! of the items about it, and of the targets either mean and spread (regression) or how far apart the
//! classes are and how wide each is.
//!
//! # Differences from the papers
//! * Weights, not a choice: every task of the meta-batch is learned from.
//! * The first learns `ω` by the loss of the adapted parameters on the same batch, the second by
//!   policy gradients on a validation set; here the next meta-batch or validation tasks are what counts, by
//!   the exact derivative to first order in the step. Where the outer optimiser is not plain gradient descent,
//!   the step that is judged is still the gradient's.
//! * Gradients are computed task by task, as weights and judgement need them apart: this costs what
//!   `task_chunk = 1` costs. A checkpoint holds those of the last meta-batch.

use burn::tensor::{Tensor, TensorData, activation::softmax, backend::Backend};
use burn_autodiff::Autodiff;
use serde::{Deserialize, Serialize};

use crate::{
    data::{Episode, Items, Targets},
    learner::MetaGradient,
    optim::{self, OptimizerSettings, OptimizerState},
    params::Params,
    primitives::{MatrixProduct, Primitives},
    rng::Seed,
};

/// Numbers that a task is described by: its loss and its embedding.
const FEATURES: usize = 1 + PROJECTIONS + 3;
/// Random projections of the mean support item.
const PROJECTIONS: usize = 4;
/// Width `d` of queries, keys and values.
const WIDTH: usize = 8;

/// How the tasks of a meta-batch are weighted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskSelection {
    /// All alike; nothing is computed for it.
    #[default]
    None,
    /// By attention over the tasks.
    Attention,
    /// All alike, and logged: what attention is compared with.
    Uniform,
}

/// Whose loss a step is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// The tasks of the next meta-batch.
    #[default]
    Next,
    /// As many validation tasks, others in every iteration.
    Validation,
}

/// The weights of the tasks of a meta-batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskWeights {
    /// One per task, in the order of the episodes; their sum is 1.
    pub weights: Vec<f64>,
    /// Their entropy over its maximum, `H(w) / ln t`; 1 for a single task.
    pub entropy: f64,
}

impl TaskWeights {
    /// The same weight for each of `tasks` tasks.
    pub fn uniform(tasks: usize) -> Self {
        TaskWeights {
            weights: vec![1.0 / tasks as f64; tasks],
            entropy: 1.0,
        }
    }
}

/// The attention over tasks, and what it has yet to learn from.
#[derive(Clone, Debug)]
pub struct Selection<B: Backend> {
    /// `ω`.
    pub parameters: Params<B>,
    /// State of its optimiser.
    pub optimizer: OptimizerState<B>,
    /// The last meta-batch, which is judged by the next one.
    pub pending: Option<Pending<B>>,
}

/// A meta-batch whose weights are not judged yet.
#[derive(Clone, Debug)]
pub struct Pending<B: Backend> {
    /// `f`, `[t, features]`.
    pub features: Tensor<B, 2>,
    /// `gᵢ`.
    pub gradients: Vec<Params<B>>,
}

impl<B: Primitives> Selection<B> {
    /// An attention that weights all tasks alike, until it has learned.
    pub fn new(seed: Seed, device: &B::Device) -> Self {
        let mut stream = seed.stream("selection", 0, "parameters");
        let mut parameters = Params::default();
        let scale = 1.0 / (FEATURES as f64).sqrt();
        for name in ["query", "key", "value"] {
            let count = FEATURES * WIDTH;
            let values: Vec<f32> = (0..count)
                .map(|_| (scale * stream.normal()) as f32)
                .collect();
            parameters.push(name, matrix::<B>(values, [FEATURES, WIDTH], device));
        }
        for (name, width) in [("attended", WIDTH), ("own", FEATURES)] {
            parameters.push(name, matrix::<B>(vec![0.0; width], [width, 1], device));
        }
        Selection {
            parameters,
            optimizer: OptimizerState::new(),
            pending: None,
        }
    }

    /// The weights of tasks with these features, `[t, features]`.
    pub fn weigh(&self, features: &Tensor<B, 2>, min_entropy: f64) -> TaskWeights {
        let attention = attend(&self.parameters, features.clone());
        let weights: Vec<f64> = attention.into_data().iter::<f64>().collect();
        with_entropy(&weights, min_entropy).0
    }

    /// Learns from how the last meta-batch's step suits tasks whose mean meta-gradient is `direction`.
    fn learn(&mut self, direction: &Params<B>, min_entropy: f64, lr: f64) {
        let Some(Pending {
            features,
            gradients,
        }) = self.pending.take()
        else {
            return;
        };
        let alignments: Vec<Tensor<B, 1>> = gradients
            .iter()
            .map(|gradient| inner_product(gradient, direction))
            .collect();
        let alignments = Tensor::cat(alignments, 0);
        // A common factor, so that neither the scale of the loss nor the size of the network matters
        // to the optimiser.
        let scale = alignments.clone().abs().max().add_scalar(1e-12);
        let alignments = alignments / scale;
        let leaves = self.parameters.clone().lift::<Autodiff<B>>();
        let attention = attend(&leaves, Tensor::from_inner(features));
        let before: Vec<f64> = attention
            .clone()
            .inner()
            .into_data()
            .iter::<f64>()
            .collect();
        let (_, mixed) = with_entropy(&before, min_entropy);
        let gain = (attention * Tensor::from_inner(alignments)).sum();
        let loss = gain.mul_scalar(mixed - 1.0);
        let gradients = leaves.gradients(&loss.backward());
        let (parameters, optimizer) = optim::step(
            &OptimizerSettings::default(),
            lr,
            self.parameters.clone(),
            &gradients,
            std::mem::take(&mut self.optimizer),
        );
        self.parameters = parameters;
        self.optimizer = optimizer;
    }

    /// The weighted meta-gradient of tasks whose own ones are `each`, and the weights; the attention
    /// learns from them first, or from the mean meta-gradient of the tasks that judge.
    ///
    /// # Panics
    /// When there is no task.
    pub fn apply(
        &mut self,
        each: Vec<MetaGradient<B>>,
        judge: Option<&Params<B>>,
        episodes: &[Episode],
        seed: Seed,
        (min_entropy, lr): (f64, f64),
    ) -> (MetaGradient<B>, TaskWeights) {
        match judge {
            Some(judge) => self.learn(judge, min_entropy, lr),
            None => {
                let shares: Vec<f64> = vec![1.0 / each.len() as f64; each.len()];
                let mean = weighted(each.iter().map(|task| &task.gradients), &shares);
                self.learn(&mean, min_entropy, lr);
            }
        }
        let losses: Vec<f64> = each
            .iter()
            .flat_map(|task| {
                task.losses
                    .clone()
                    .into_data()
                    .iter::<f64>()
                    .collect::<Vec<_>>()
            })
            .collect();
        let device = each[0].losses.device();
        let features = features::<B>(episodes, &losses, seed, &device);
        let weights = self.weigh(&features, min_entropy);
        self.pending = Some(Pending {
            features,
            gradients: each.iter().map(|task| task.gradients.clone()).collect(),
        });
        (merge_weighted(each, &weights.weights), weights)
    }
}

/// The meta-gradients of single tasks together, with these weights.
///
/// Buffers are averaged alike: they describe the data, not what is learned from it.
///
/// # Panics
/// When there is no task.
pub fn merge_weighted<B: Primitives>(
    each: Vec<MetaGradient<B>>,
    weights: &[f64],
) -> MetaGradient<B> {
    let gradients = weighted(each.iter().map(|task| &task.gradients), weights);
    let merged = each
        .into_iter()
        .reduce(MetaGradient::merge)
        .expect("a meta-batch has at least one task");
    MetaGradient {
        gradients,
        ..merged
    }
}

/// `Σ wᵢ gᵢ`.
fn weighted<'a, B: Primitives>(
    all: impl Iterator<Item = &'a Params<B>>,
    weights: &[f64],
) -> Params<B> {
    all.zip(weights)
        .map(|(gradient, &weight)| gradient.clone().scale(weight))
        .reduce(|sum, term| sum.plus(&term))
        .expect("a meta-batch has at least one task")
}

/// `⟨a, b⟩` over all trainable entries, `[1]`.
fn inner_product<B: Primitives>(a: &Params<B>, b: &Params<B>) -> Tensor<B, 1> {
    a.dot_tasks(b).sum()
}

/// The softmax of the tasks' scores, `f [t, features]` to `[t]`.
fn attend<L: Primitives>(parameters: &Params<L>, features: Tensor<L, 2>) -> Tensor<L, 1> {
    let tasks = features.dims()[0];
    let matrix = |name: &str| parameters.get::<2>(name).expect("a parameter of its own");
    let seen = |name: &str| features.clone().product(matrix(name));
    let scores = seen("query").product(seen("key").transpose());
    let map = softmax(scores.mul_scalar(1.0 / (WIDTH as f64).sqrt()), 1);
    let attended = map.product(seen("value")).product(matrix("attended"));
    softmax((attended + seen("own")).reshape([tasks]), 0)
}

/// `weights` mixed with uniform ones until their entropy is at least `min_entropy · ln t`, with the least
/// share `λ` of the uniform ones, and that share.
pub fn with_entropy(weights: &[f64], min_entropy: f64) -> (TaskWeights, f64) {
    let tasks = weights.len();
    // Exactly one together, however the weights were rounded.
    let sum: f64 = weights.iter().sum();
    let weights: Vec<f64> = weights.iter().map(|weight| weight / sum).collect();
    let largest = (tasks as f64).ln();
    let entropy = |weights: &[f64]| -> f64 {
        let terms = weights.iter().filter(|&&weight| weight > 0.0);
        -terms.map(|weight| weight * weight.ln()).sum::<f64>()
    };
    let mixed = |share: f64| -> Vec<f64> {
        let uniform = share / tasks as f64;
        weights
            .iter()
            .map(|weight| (1.0 - share) * weight + uniform)
            .collect()
    };
    let target = min_entropy * largest;
    // The entropy is concave in the share and highest at 1: it rises.
    let share = if entropy(&weights) >= target {
        0.0
    } else if min_entropy >= 1.0 {
        1.0
    } else {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if entropy(&mixed(middle)) >= target {
                high = middle
            } else {
                low = middle
            }
        }
        high
    };
    let weights = mixed(share);
    let entropy = match tasks {
        1 => 1.0,
        _ => entropy(&weights) / largest,
    };
    (TaskWeights { weights, entropy }, share)
}

/// What is known of the tasks, standardised over them: `[t, features]`.
fn features<B: Primitives>(
    episodes: &[Episode],
    losses: &[f64],
    seed: Seed,
    device: &B::Device,
) -> Tensor<B, 2> {
    let rows: Vec<Vec<f64>> = episodes
        .iter()
        .zip(losses)
        .map(|(episode, &loss)| {
            let mut row = vec![loss];
            row.extend(embedding(&episode.support, episode.shape.way.0, seed));
            row
        })
        .collect();
    let count = rows.len() as f64;
    let mut standard = vec![0.0f32; rows.len() * FEATURES];
    for feature in 0..FEATURES {
        let mean = rows.iter().map(|row| row[feature]).sum::<f64>() / count;
        let squares = rows.iter().map(|row| (row[feature] - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        for (task, row) in rows.iter().enumerate() {
            // A feature that is the same for all tasks says nothing.
            let value = (row[feature] - mean) / (deviation + 1e-8);
            standard[task * FEATURES + feature] = value as f32;
        }
    }
    matrix::<B>(standard, [rows.len(), FEATURES], device)
}

/// Statistics of a support: projections of its mean item, its spread, and two of its targets.
fn embedding(support: &Items, way: usize, seed: Seed) -> Vec<f64> {
    let items = support.len().max(1);
    let width = support.inputs.len() / items;
    let all: Vec<usize> = (0..items).collect();
    let (mean, spread) = moments(&support.inputs, width, &all);
    let mut numbers = Vec::with_capacity(FEATURES - 1);
    for projection in 0..PROJECTIONS as u64 {
        let mut signs = seed.stream("selection", projection, "signs");
        let sum: f64 = mean
            .iter()
            .map(|value| match signs.next_u64() & 1 {
                0 => *value,
                _ => -value,
            })
            .sum();
        numbers.push(sum / (width.max(1) as f64).sqrt());
    }
    numbers.push(spread);
    match &support.targets {
        Targets::Values(values) => {
            let outputs = values.len() / items;
            let (mean, spread) = moments(values, outputs, &all);
            numbers.push(mean.iter().sum::<f64>() / outputs.max(1) as f64);
            numbers.push(spread);
        }
        // Sequences say nothing that a mean could.
        Targets::Sequences(_) => numbers.extend([0.0, 0.0]),
        Targets::Classes(classes) => {
            let of_class = |class: usize| -> Vec<usize> {
                let items = all.iter().copied();
                items
                    .filter(|&item| classes[item] as usize == class)
                    .collect()
            };
            let each: Vec<(Vec<f64>, f64)> = (0..way)
                .map(|class| moments(&support.inputs, width, &of_class(class)))
                .collect();
            let within = each.iter().map(|(_, spread)| spread).sum::<f64>() / way as f64;
            let apart = each
                .iter()
                .map(|(centre, _)| squared_distance(centre, &mean));
            numbers.push((apart.sum::<f64>() / way as f64).sqrt());
            numbers.push(within);
        }
    }
    numbers
}

/// Mean of the rows of `values`, each `width` long, that `items` names, and the root of their mean
/// squared distance from it.
fn moments(values: &[f32], width: usize, items: &[usize]) -> (Vec<f64>, f64) {
    let count = items.len().max(1) as f64;
    let row = |item: usize| values[item * width..(item + 1) * width].iter();
    let mut mean = vec![0.0; width];
    for &item in items {
        for (sum, &value) in mean.iter_mut().zip(row(item)) {
            *sum += f64::from(value) / count;
        }
    }
    let square = |&item: &usize| -> f64 {
        let wide: Vec<f64> = row(item).map(|&value| f64::from(value)).collect();
        squared_distance(&wide, &mean)
    };
    let spread = (items.iter().map(square).sum::<f64>() / count).sqrt();
    (mean, spread)
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

fn matrix<B: Backend>(values: Vec<f32>, shape: [usize; 2], device: &B::Device) -> Tensor<B, 2> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;

    /// Of two tasks, all weight on one: the entropy of the mixture is that of a coin.
    #[test]
    fn the_least_entropy_is_met_with_the_least_mixing() {
        for min_entropy in [0.1, 0.5, 0.9, 0.999] {
            let (mixed, share) = with_entropy(&[1.0, 0.0], min_entropy);
            let sum: f64 = mixed.weights.iter().sum();
            assert!((sum - 1.0).abs() < 1e-12);
            assert!(mixed.entropy >= min_entropy - 1e-15, "{mixed:?}");
            assert!(
                mixed.entropy - min_entropy < 1e-9,
                "no more than needed: {mixed:?}"
            );
            let p = 0.5 * share;
            let entropy = -(p * p.ln() + (1.0 - p) * (1.0 - p).ln()) / 2.0f64.ln();
            assert!((entropy - mixed.entropy).abs() < 1e-12);
        }
        let (kept, share) = with_entropy(&[0.5, 0.3, 0.2], 0.5);
        assert_eq!((kept.weights, share), (vec![0.5, 0.3, 0.2], 0.0));
        let (uniform, share) = with_entropy(&[0.7, 0.2, 0.1, 0.0], 1.0);
        assert_eq!((uniform.weights, share), (vec![0.25; 4], 1.0));
        assert_eq!(with_entropy(&[1.0], 0.9).0, TaskWeights::uniform(1));
    }

    fn tasks(count: usize) -> Vec<Episode> {
        use crate::data::{EpisodeShape, SinusoidSettings, Source, Split};
        let source = SinusoidSettings::default().build().expect("valid");
        let shape = EpisodeShape::new(1, 4, 2);
        (0..count as u64)
            .map(|index| {
                source
                    .episode(Seed(0), Split::Train, shape, index)
                    .expect("drawn")
            })
            .collect()
    }

    fn gradient(values: [f32; 2], loss: f32) -> MetaGradient<Cpu> {
        let device = Default::default();
        let mut gradients = Params::default();
        gradients.push("theta", Tensor::<Cpu, 2>::from_floats([values], &device));
        MetaGradient {
            gradients,
            buffers: Params::default(),
            losses: Tensor::from_floats([loss], &device),
            scores: Tensor::from_floats([loss], &device),
        }
    }

    /// A task whose gradient points where the next batches' do is told apart by its loss, and gains
    /// weight; the least entropy holds all the while. Before anything is learned, all weights are equal.
    #[test]
    fn weight_goes_to_the_tasks_that_help_the_next_ones() {
        let device = Default::default();
        let mut selection = Selection::<Cpu>::new(Seed(3), &device);
        let all = tasks(3);
        let mut last = TaskWeights::uniform(3);
        for step in 0..200 {
            let each = vec![
                gradient([1.0, 0.1], 2.0),
                gradient([0.1, 0.0], 1.0),
                gradient([-0.5, 0.3], 0.5),
            ];
            let (merged, weights) = selection.apply(each, None, &all, Seed(3), (0.8, 0.05));
            if step == 0 {
                for weight in &weights.weights {
                    assert!((weight - 1.0 / 3.0).abs() < 1e-6, "{weights:?}");
                }
            }
            assert!(weights.entropy >= 0.8 - 1e-9, "{weights:?}");
            let found: Vec<f32> = merged
                .gradients
                .get::<2>("theta")
                .expect("a gradient")
                .into_data()
                .to_vec()
                .expect("numbers");
            let [a, b, c] = [0, 1, 2].map(|task| weights.weights[task]);
            assert!((f64::from(found[0]) - (a + 0.1 * b - 0.5 * c)).abs() < 1e-6);
            last = weights;
        }
        assert!(last.weights[0] > 0.5, "{last:?}");
        assert!(last.weights[0] > last.weights[1] && last.weights[1] > last.weights[2]);
    }

    /// Tasks that pull together away from those that judge lose weight to the one that does not.
    #[test]
    fn weight_goes_to_the_tasks_that_help_the_judges() {
        let device = Default::default();
        let mut selection = Selection::<Cpu>::new(Seed(3), &device);
        let all = tasks(3);
        let judge = gradient([-1.0, 0.0], 0.0).gradients;
        let mut last = TaskWeights::uniform(3);
        for _ in 0..200 {
            let each = vec![
                gradient([1.0, 0.1], 2.0),
                gradient([1.0, 0.0], 1.0),
                gradient([-0.5, 0.3], 0.5),
            ];
            last = selection
                .apply(each, Some(&judge), &all, Seed(3), (0.8, 0.05))
                .1;
        }
        assert!(last.weights[2] > 0.5, "{last:?}");
    }

    /// The direction in which `ω` moves is that of central differences of the judged objective.
    #[test]
    fn the_attention_follows_its_gradient() {
        let device = Default::default();
        let all = tasks(4);
        let losses = [0.3, 1.0, 0.7, 0.1];
        let features = features::<Cpu>(&all, &losses, Seed(1), &device);
        let mut selection = Selection::<Cpu>::new(Seed(1), &device);
        // Off the start, where the scores' own parameters are zero.
        let mut data = selection.parameters.to_data();
        for (name, tensor) in &mut data {
            let mut stream = Seed(2).stream("test", name.len() as u64, "noise");
            let values: Vec<f32> = tensor
                .iter::<f32>()
                .map(|value| value + 0.5 * stream.normal() as f32)
                .collect();
            *tensor = TensorData::new(values, tensor.shape.clone());
        }
        selection.parameters = Params::from_data(data.clone(), &device);
        let alignments = Tensor::<Cpu, 1>::from_floats([0.2, -0.4, 0.9, 0.1], &device);
        let leaves = selection.parameters.clone().lift::<Autodiff<Cpu>>();
        let attention = attend(&leaves, Tensor::from_inner(features.clone()));
        let gain = (attention * Tensor::from_inner(alignments.clone())).sum();
        let gradients = leaves.gradients(&gain.backward()).to_data();
        for (entry, (name, gradient)) in gradients.into_iter().enumerate() {
            let gradient: Vec<f32> = gradient.to_vec().expect("numbers");
            let value = |shift: f32| -> f32 {
                let mut moved = data.clone();
                let mut values: Vec<f32> = moved[entry].1.to_vec().expect("numbers");
                values[0] += shift;
                moved[entry].1 = TensorData::new(values, moved[entry].1.shape.clone());
                let parameters = Params::<Cpu>::from_data(moved, &device);
                let attention = attend(&parameters, features.clone());
                (attention * alignments.clone()).sum().into_scalar()
            };
            let numeric = (value(1e-2) - value(-1e-2)) / 2e-2;
            // f32 with a shift of 1e-2: rounding and curvature are both below 1e-4.
            assert!(
                (numeric - gradient[0]).abs() < 3e-4,
                "{name}: {numeric} {}",
                gradient[0]
            );
        }
    }
}
