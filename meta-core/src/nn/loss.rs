//! Losses and scores of predictions, per task.

use burn::tensor::{Bool, Int, Tensor, activation::log_softmax, backend::Backend};

use crate::task::{ItemBatch, TargetBatch};

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

/// [`loss`] of predictions for `items`, over those that are there.
///
/// # Panics
/// As there.
pub fn loss_of_items<B: Backend>(predictions: Tensor<B, 3>, items: &ItemBatch<B>) -> Tensor<B, 1> {
    match &items.mask {
        None => loss(predictions, &items.targets),
        Some(mask) => over_those_there(predictions, &items.targets, mask.items.clone(), loss),
    }
}

/// [`score`] of predictions for `items`, over those that are there.
///
/// # Panics
/// As there.
pub fn score_of_items<B: Backend>(predictions: Tensor<B, 3>, items: &ItemBatch<B>) -> Tensor<B, 1> {
    match &items.mask {
        None => score(predictions, &items.targets),
        Some(mask) => over_those_there(predictions, &items.targets, mask.items.clone(), score),
    }
}

/// `of` each item as a task of its own, and the mean over those of a task that are there; 0 where none is.
fn over_those_there<B: Backend>(
    predictions: Tensor<B, 3>,
    targets: &TargetBatch<B>,
    there: Tensor<B, 2, Bool>,
    of: impl Fn(Tensor<B, 3>, &TargetBatch<B>) -> Tensor<B, 1>,
) -> Tensor<B, 1> {
    let [t, b, outputs] = predictions.dims();
    let alone = match targets {
        TargetBatch::Classes(labels) => TargetBatch::Classes(labels.clone().reshape([t * b, 1])),
        TargetBatch::Values(values) => {
            TargetBatch::Values(values.clone().reshape([t * b, 1, outputs]))
        }
    };
    let items = of(predictions.reshape([t * b, 1, outputs]), &alone).reshape([t, b]);
    // Not a product: where a class is not there, its loss is infinite.
    let items = items.mask_fill(there.clone().bool_not(), 0.0);
    let counts = there.float().cast(items.dtype()).sum_dim(1).clamp_min(1.0);
    (items.sum_dim(1) / counts).reshape([t])
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
