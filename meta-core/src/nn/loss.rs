//! Losses and scores of predictions, per task.

use burn::tensor::{Int, Tensor, activation::log_softmax, backend::Backend};

use crate::task::TargetBatch;

/// Mean loss of each task, `[t]`: softmax cross-entropy of class scores `[t, b, n]`, or mean squared
/// error of values `[t, b, outputs]`.
///
/// # Panics
/// When the shapes do not fit.
pub fn loss<B: Backend>(predictions: Tensor<B, 3>, targets: &TargetBatch<B>) -> Tensor<B, 1> {
    match targets {
        TargetBatch::Classes(labels) => cross_entropy(predictions, labels.clone()),
        TargetBatch::Values(values) => squared_error(predictions, values.clone()),
    }
}

/// Score of each task, `[t]`: accuracy, or mean squared error.
///
/// # Panics
/// When the shapes do not fit.
pub fn score<B: Backend>(predictions: Tensor<B, 3>, targets: &TargetBatch<B>) -> Tensor<B, 1> {
    match targets {
        TargetBatch::Classes(labels) => accuracy(predictions, labels.clone()),
        TargetBatch::Values(values) => squared_error(predictions, values.clone()),
    }
}

/// `−log softmax(z)[y]`, mean over the items of each task: `z [t, b, n]`, `y [t, b]`, result `[t]`.
pub fn cross_entropy<B: Backend>(logits: Tensor<B, 3>, labels: Tensor<B, 2, Int>) -> Tensor<B, 1> {
    let [t, b, n] = logits.dims();
    let log_probabilities = log_softmax(logits.reshape([t * b, n]), 1);
    let picked = log_probabilities.gather(1, labels.reshape([t * b, 1]));
    picked.reshape([t, b]).mean_dim(1).neg().reshape([t])
}

/// `(y − z)²`, mean over the items and outputs of each task: `[t, b, outputs]` to `[t]`.
pub fn squared_error<B: Backend>(values: Tensor<B, 3>, targets: Tensor<B, 3>) -> Tensor<B, 1> {
    let [t, b, outputs] = values.dims();
    let difference = values - targets;
    (difference.clone() * difference)
        .reshape([t, b * outputs])
        .mean_dim(1)
        .reshape([t])
}

/// Share of items whose highest score is that of their class: `[t, b, n]`, `[t, b]` to `[t]`.
pub fn accuracy<B: Backend>(logits: Tensor<B, 3>, labels: Tensor<B, 2, Int>) -> Tensor<B, 1> {
    let [t, b, _] = logits.dims();
    let winners = logits.argmax(2).reshape([t, b]);
    winners.equal(labels).float().mean_dim(1).reshape([t])
}
