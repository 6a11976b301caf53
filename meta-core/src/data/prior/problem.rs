//! The families of functions that the prior mixes: what a row's features are, and what its target follows
//! from. Rows of a task are independent given its function.

use crate::data::cholesky::{Cholesky, JITTER};
use crate::rng::Stream;
use serde::{Deserialize, Serialize};

/// Rows of features and their targets before noise.
pub(super) struct Drawn {
    /// `[rows, features]`, row-major; rounded to 32 bits, as a network sees them.
    pub inputs: Vec<f64>,
    /// `[rows]`.
    pub targets: Vec<f64>,
}

/// What a node or a unit applies to its sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    Identity,
    Tanh,
    Relu,
    Sine,
    Absolute,
    Square,
    Step,
}

impl Curve {
    /// Those with values in a continuum, then the step.
    const ALL: [Curve; 7] = [
        Curve::Identity,
        Curve::Tanh,
        Curve::Relu,
        Curve::Sine,
        Curve::Absolute,
        Curve::Square,
        Curve::Step,
    ];

    fn any(stream: &mut Stream) -> Self {
        Self::ALL[stream.below(Self::ALL.len())]
    }

    /// Any but the step, whose values are all ties.
    fn continuous(stream: &mut Stream) -> Self {
        Self::ALL[stream.below(Self::ALL.len() - 1)]
    }

    fn of(self, x: f64) -> f64 {
        match self {
            Curve::Identity => x,
            Curve::Tanh => x.tanh(),
            Curve::Relu => x.max(0.0),
            Curve::Sine => (2.0 * x).sin(),
            Curve::Absolute => x.abs(),
            Curve::Square => (x * x).min(16.0) - 1.0,
            Curve::Step => f64::from(x > 0.0),
        }
    }
}

/// A number of `low..=high`.
pub(super) fn whole([low, high]: [usize; 2], stream: &mut Stream) -> usize {
    low + stream.below(high.saturating_sub(low) + 1)
}

/// Independent rows of features `[rows, features]`: normal or uniform columns of unit variance, in half of
/// the tasks mixed with each other.
pub(super) fn independent_rows(rows: usize, features: usize, stream: &mut Stream) -> Vec<f64> {
    let uniform: Vec<bool> = (0..features).map(|_| stream.uniform() < 0.3).collect();
    let mixing = (stream.uniform() < 0.5).then(|| {
        let strength = stream.uniform();
        let mut weights: Vec<f64> = Vec::with_capacity(features * features);
        for row in 0..features {
            let mut weighted: Vec<f64> = (0..features)
                .map(|column| f64::from(row == column) + strength * stream.normal())
                .collect();
            normalise(&mut weighted);
            weights.extend(weighted);
        }
        weights
    });
    let half_width = 3.0f64.sqrt();
    let mut inputs = Vec::with_capacity(rows * features);
    for _ in 0..rows {
        let own: Vec<f64> = uniform
            .iter()
            .map(|&uniform| match uniform {
                true => stream.uniform_in(-half_width, half_width),
                false => stream.normal(),
            })
            .collect();
        match &mixing {
            None => inputs.extend(own),
            Some(weights) => inputs.extend(weights.chunks_exact(features).map(|w| dot(w, &own))),
        }
    }
    inputs.iter().map(|&x| f64::from(x as f32)).collect()
}

/// A linear rule: `y = w·x`, with weights of which some are zero.
pub(super) fn linear(rows: usize, features: usize, stream: &mut Stream) -> Drawn {
    let weights = sparse_weights(features, stream);
    let inputs = independent_rows(rows, features, stream);
    let targets = inputs.chunks_exact(features).map(|x| dot(&weights, x));
    Drawn {
        targets: targets.collect(),
        inputs,
    }
}

/// Normal weights of unit length; each is zero with a probability of the task, and never all.
fn sparse_weights(features: usize, stream: &mut Stream) -> Vec<f64> {
    let absent = 0.6 * stream.uniform();
    let kept = stream.below(features);
    let mut weights: Vec<f64> = (0..features)
        .map(|feature| {
            let (drop, weight) = (stream.uniform() < absent, stream.normal());
            if drop && feature != kept { 0.0 } else { weight }
        })
        .collect();
    normalise(&mut weights);
    weights
}

/// Multi-layer perceptrons of random width and depth, each layer with a curve of its own.
pub(super) fn mlp(
    rows: usize,
    features: usize,
    layers: [usize; 2],
    hidden: [usize; 2],
    stream: &mut Stream,
) -> Drawn {
    let (depth, width) = (whole(layers, stream), whole(hidden, stream));
    // A feature that is dropped says nothing of the target.
    let gate = sparse_weights(features, stream);
    let mut network: Vec<(Vec<f64>, Vec<f64>, Curve)> = Vec::with_capacity(depth);
    for layer in 0..depth {
        let from = if layer == 0 { features } else { width };
        let mut weights = Vec::with_capacity(from * width);
        for _ in 0..width {
            let mut unit: Vec<f64> = (0..from)
                .map(|feature| {
                    let weight = stream.normal();
                    let gated = layer == 0 && gate[feature] == 0.0;
                    if gated { 0.0 } else { weight }
                })
                .collect();
            normalise(&mut unit);
            weights.extend(unit.iter().map(|weight| 1.5 * weight));
        }
        let biases = (0..width).map(|_| 0.5 * stream.normal()).collect();
        network.push((weights, biases, Curve::any(stream)));
    }
    let mut output: Vec<f64> = (0..width).map(|_| stream.normal()).collect();
    normalise(&mut output);
    let inputs = independent_rows(rows, features, stream);
    let answer = |x: &[f64]| {
        let mut values = x.to_vec();
        for (weights, biases, curve) in &network {
            let sums = weights.chunks_exact(values.len()).zip(biases);
            values = sums
                .map(|(weights, bias)| curve.of(dot(weights, &values) + bias))
                .collect();
        }
        dot(&output, &values)
    };
    let targets = inputs.chunks_exact(features).map(answer).collect();
    Drawn { inputs, targets }
}

/// Sums of one to four trees that cut one feature at a time.
pub(super) fn trees(rows: usize, features: usize, depth: [usize; 2], stream: &mut Stream) -> Drawn {
    let count = 1 + stream.below(4);
    let forest: Vec<Tree> = (0..count)
        .map(|_| Tree::draw(features, whole(depth, stream), stream))
        .collect();
    let inputs = independent_rows(rows, features, stream);
    let answer = |x: &[f64]| forest.iter().map(|tree| tree.of(x)).sum();
    let targets = inputs.chunks_exact(features).map(answer).collect();
    Drawn { inputs, targets }
}

/// A full binary tree: node `i` has the children `2i + 1` and `2i + 2`.
struct Tree {
    /// Feature and threshold of each inner node.
    cuts: Vec<(usize, f64)>,
    leaves: Vec<f64>,
}

impl Tree {
    fn draw(features: usize, depth: usize, stream: &mut Stream) -> Self {
        let inner = (1usize << depth) - 1;
        let mut cut = || (stream.below(features), 0.8 * stream.normal());
        let cuts = (0..inner).map(|_| cut()).collect();
        let leaves = (0..=inner).map(|_| stream.normal()).collect();
        Tree { cuts, leaves }
    }

    fn of(&self, x: &[f64]) -> f64 {
        let mut node = 0;
        while let Some(&(feature, threshold)) = self.cuts.get(node) {
            node = 2 * node + if x[feature] > threshold { 2 } else { 1 };
        }
        self.leaves[node - self.cuts.len()]
    }
}

/// A structural causal model: nodes in an order in which every edge goes forward, so that there is no
/// cycle. `v = curve(Σ w · parent + b) + s · noise`.
pub(super) struct Graph {
    nodes: Vec<Node>,
    /// Node of each feature.
    features: Vec<usize>,
    target: usize,
}

struct Node {
    /// Earlier nodes and their weights; none of a root.
    parents: Vec<(usize, f64)>,
    bias: f64,
    curve: Curve,
    /// Deviation of its own noise.
    noise: f64,
}

impl Graph {
    /// A graph with `features` observed nodes, the target, and up to as many hidden ones.
    pub fn draw(features: usize, stream: &mut Stream) -> Self {
        let count = features + 1 + stream.below(features + 1);
        let root_share = 0.1 + 0.3 * stream.uniform();
        let mut nodes: Vec<Node> = Vec::with_capacity(count);
        for place in 0..count {
            let root = stream.uniform() < root_share;
            let wanted = if root && place + 1 < count {
                0
            } else {
                1 + stream.below(3)
            };
            let parents = stream.choose_distinct(place, wanted);
            let mut weights: Vec<f64> = parents.iter().map(|_| stream.normal()).collect();
            normalise(&mut weights);
            nodes.push(Node {
                parents: parents.into_iter().zip(weights).collect(),
                bias: 0.3 * stream.normal(),
                curve: Curve::any(stream),
                noise: 0.4 * stream.uniform(),
            });
        }
        // The last node has parents, where there are any before it.
        let inner: Vec<usize> = (0..count)
            .filter(|&v| !nodes[v].parents.is_empty())
            .collect();
        let target = inner[stream.below(inner.len())];
        nodes[target].curve = Curve::continuous(stream);
        // The noise of the target is that of the task.
        nodes[target].noise = 0.0;
        let cause = nodes[target].parents[stream.below(nodes[target].parents.len())].0;
        let mut others: Vec<usize> = (0..count).filter(|&v| v != target && v != cause).collect();
        stream.shuffle(&mut others);
        let mut observed: Vec<usize> = std::iter::once(cause)
            .chain(others)
            .take(features)
            .collect();
        stream.shuffle(&mut observed);
        Graph {
            nodes,
            features: observed,
            target,
        }
    }

    /// Rows of the model, each with noise of its own.
    pub fn rows(&self, rows: usize, stream: &mut Stream) -> Drawn {
        let mut drawn = Drawn {
            inputs: Vec::with_capacity(rows * self.features.len()),
            targets: Vec::with_capacity(rows),
        };
        let mut values = vec![0.0; self.nodes.len()];
        for _ in 0..rows {
            for (place, node) in self.nodes.iter().enumerate() {
                let noise = stream.normal();
                let sum: f64 = node.parents.iter().map(|&(v, w)| w * values[v]).sum();
                values[place] = match node.parents.is_empty() {
                    true => noise,
                    false => node.curve.of(1.5 * sum + node.bias) + node.noise * noise,
                };
            }
            let seen = self.features.iter().map(|&v| f64::from(values[v] as f32));
            drawn.inputs.extend(seen);
            drawn.targets.push(values[self.target]);
        }
        drawn
    }
}

/// The covariance of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessKernel {
    /// The squared exponential.
    Rbf,
    /// Matérn with ν = 5/2.
    Matern,
    /// Either, drawn for each task.
    Either,
}

/// A Gaussian process over all features, `f ~ GP(0, k)` with `k(x, x) = 1` and a length scale for each.
pub(super) struct Process {
    /// Matérn with ν = 5/2, else squared exponential.
    matern: bool,
    lengths: Vec<f64>,
}

impl Process {
    /// Length scales around one of the task, log-uniform in the range and times `√features`, with a deviation
    /// of their logarithms of at most `spread`.
    pub fn draw(
        features: usize,
        kernel: ProcessKernel,
        [low, high]: [f64; 2],
        spread: f64,
        stream: &mut Stream,
    ) -> Self {
        let drawn = stream.uniform() < 0.5;
        let matern = match kernel {
            ProcessKernel::Rbf => false,
            ProcessKernel::Matern => true,
            ProcessKernel::Either => drawn,
        };
        let common = stream.uniform_in(low.ln(), high.ln()).exp() * (features as f64).sqrt();
        let spread = spread * stream.uniform();
        let lengths = (0..features)
            .map(|_| common * (spread * stream.normal()).exp())
            .collect();
        Process { matern, lengths }
    }

    /// k(x, x′).
    pub fn covariance(&self, x: &[f64], other: &[f64]) -> f64 {
        let squares = x.iter().zip(other).zip(&self.lengths);
        let squared: f64 = squares.map(|((a, b), l)| ((a - b) / l).powi(2)).sum();
        match self.matern {
            true => {
                let scaled = (5.0 * squared).sqrt();
                (1.0 + scaled + scaled * scaled / 3.0) * (-scaled).exp()
            }
            false => (-0.5 * squared).exp(),
        }
    }

    /// Values at rows of features, drawn exactly.
    pub fn rows(&self, rows: usize, stream: &mut Stream) -> Drawn {
        let features = self.lengths.len();
        let inputs = independent_rows(rows, features, stream);
        let row = |place: usize| &inputs[place * features..(place + 1) * features];
        let factor = Cholesky::new(rows, |i, j| {
            self.covariance(row(i), row(j)) + f64::from(i == j) * JITTER
        });
        let normals: Vec<f64> = (0..rows).map(|_| stream.normal()).collect();
        Drawn {
            targets: factor.product(&normals),
            inputs,
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// To unit length; nothing of length 0.
fn normalise(weights: &mut [f64]) {
    let length = dot(weights, weights).sqrt();
    if length > 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    /// An order of the nodes in which each comes after its parents exists: Kahn's algorithm, which knows
    /// nothing of how the graph was made, removes all of them.
    #[test]
    fn graphs_have_no_cycle_and_the_target_is_not_a_feature() {
        for index in 0..300 {
            let mut stream = Seed(1).stream("graph", index, "test");
            let features = 1 + index as usize % 12;
            let graph = Graph::draw(features, &mut stream);
            let count = graph.nodes.len();
            let mut waiting: Vec<usize> = graph.nodes.iter().map(|v| v.parents.len()).collect();
            let mut free: Vec<usize> = (0..count).filter(|&v| waiting[v] == 0).collect();
            let mut removed = 0;
            while let Some(node) = free.pop() {
                removed += 1;
                for (child, waits) in waiting.iter_mut().enumerate() {
                    if graph.nodes[child].parents.iter().any(|&(v, _)| v == node) {
                        *waits -= 1;
                        if *waits == 0 {
                            free.push(child);
                        }
                    }
                }
            }
            assert_eq!(removed, count, "graph {index}");
            assert_eq!(graph.features.len(), features);
            assert!(!graph.features.contains(&graph.target));
            let mut distinct = graph.features.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), features);
            let causes = &graph.nodes[graph.target].parents;
            assert!(causes.iter().any(|(v, _)| graph.features.contains(v)));
        }
    }

    /// A process that is drawn once, and values at three fixed rows over many draws: their covariance is
    /// that of the kernel, in closed form here. Tolerances are 5 standard errors of products of normals,
    /// √(1 + ρ²) / √count; the seed is fixed.
    #[test]
    fn values_of_a_process_have_the_covariance_of_its_kernel() {
        for seed in 0..4 {
            let mut stream = Seed(seed).stream("process", 0, "test");
            let process = Process::draw(2, ProcessKernel::Either, [0.5, 1.5], 0.7, &mut stream);
            let rows = [[0.0, 0.0], [0.4, -0.2], [-1.0, 0.7]];
            let entry = |i: usize, j: usize| {
                let r2: f64 = (0..2)
                    .map(|f| ((rows[i][f] - rows[j][f]) / process.lengths[f]).powi(2))
                    .sum();
                let r = r2.sqrt();
                match process.matern {
                    true => (1.0 + 5f64.sqrt() * r + 5.0 / 3.0 * r2) * (-5f64.sqrt() * r).exp(),
                    false => (-r2 / 2.0).exp(),
                }
            };
            let factor = Cholesky::new(3, |i, j| process.covariance(&rows[i], &rows[j]));
            let count = 20_000;
            let mut sums = [[0.0; 3]; 3];
            for _ in 0..count {
                let normals = [stream.normal(), stream.normal(), stream.normal()];
                let y = factor.product(&normals);
                for i in 0..3 {
                    for j in 0..3 {
                        sums[i][j] += y[i] * y[j];
                    }
                }
            }
            for (i, row) in sums.iter().enumerate() {
                for (j, sum) in row.iter().enumerate() {
                    let rho = entry(i, j);
                    let error = (sum / f64::from(count) - rho).abs();
                    let bound = 5.0 * (1.0 + rho * rho).sqrt() / f64::from(count).sqrt();
                    assert!(error < bound, "{seed}: {i} {j}: {error} {bound}");
                }
            }
        }
    }

    /// Columns have mean 0 and variance 1, mixed or not: 5 standard errors of 20 000 values of a fourth
    /// moment of at most 3.
    #[test]
    fn features_have_unit_variance() {
        for index in 0..6 {
            let mut stream = Seed(2).stream("rows", index, "test");
            let (rows, features) = (20_000, 3);
            let inputs = independent_rows(rows, features, &mut stream);
            for feature in 0..features {
                let column = inputs.iter().skip(feature).step_by(features);
                let (mut sum, mut squares) = (0.0, 0.0);
                column.for_each(|x| {
                    sum += x;
                    squares += x * x;
                });
                let count = rows as f64;
                assert!((sum / count).abs() < 5.0 / count.sqrt());
                assert!((squares / count - 1.0).abs() < 5.0 * (2.0 / count).sqrt());
            }
        }
    }

    /// A linear rule is linear: with as many rows as features and one more, least squares by elimination
    /// leaves nothing.
    #[test]
    fn rules_are_what_they_say() {
        let mut stream = Seed(3).stream("rules", 0, "test");
        let drawn = linear(3, 1, &mut stream);
        let slope = drawn.targets[0] / drawn.inputs[0];
        for (x, y) in drawn.inputs.iter().zip(&drawn.targets) {
            assert!((y - slope * x).abs() < 1e-12 * (1.0 + y.abs()));
        }
        // Trees of depth 2 and up to 4 of them: at most 4 leaves each.
        let drawn = trees(500, 4, [2, 2], &mut stream);
        let mut values = drawn.targets.clone();
        values.sort_by(f64::total_cmp);
        values.dedup();
        assert!(values.len() <= 4usize.pow(4) && values.len() > 1);
        let drawn = mlp(50, 4, [1, 3], [4, 16], &mut stream);
        assert!(drawn.targets.iter().all(|y| y.is_finite()));
    }
}
