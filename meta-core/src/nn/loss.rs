//! Losses and scores of predictions, per task.

use burn::tensor::{Bool, Int, Tensor, activation::log_softmax, backend::Backend};

use crate::task::{ItemBatch, TargetBatch};

/// Mean loss of each task, `[t]`: softmax cross-entropy of class scores `[t, b, n]`, mean squared error of
/// values `[t, b, outputs]`, or [`sequence_cross_entropy`].
///
/// # Panics
/// When the shapes do not fit.
pub fn loss<B: Backend>(predictions: Tensor<B, 3>, targets: &TargetBatch<B>) -> Tensor<B, 1> {
    match targets {
        TargetBatch::Classes(labels) => cross_entropy(predictions, labels.clone()),
        TargetBatch::Values(values) => squared_error(predictions, values.clone()),
        TargetBatch::Sequences(symbols) => sequence_cross_entropy(predictions, symbols.clone()),
    }
}

/// Score of each task, `[t]`: accuracy, mean squared error, or the share of sequences that are right as a
/// whole.
///
/// # Panics
/// When the shapes do not fit.
pub fn score<B: Backend>(predictions: Tensor<B, 3>, targets: &TargetBatch<B>) -> Tensor<B, 1> {
    match targets {
        TargetBatch::Classes(labels) => accuracy(predictions, labels.clone()),
        TargetBatch::Values(values) => squared_error(predictions, values.clone()),
        TargetBatch::Sequences(symbols) => exact_match(predictions, symbols.clone()),
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
        TargetBatch::Sequences(symbols) => {
            let places = symbols.dims()[2];
            TargetBatch::Sequences(symbols.clone().reshape([t * b, 1, places]))
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

/// Which places of sequences `[t, b, places]` count: those of the symbols and of the first end, whose number
/// is `end`; 1 where they do, `[t, b, places]`.
pub fn places_that_count<B: Backend>(symbols: Tensor<B, 3, Int>, end: usize) -> Tensor<B, 3, Bool> {
    let [t, b, places] = symbols.dims();
    let first = Tensor::<B, 3, Int>::zeros([t, b, 1], &symbols.device()).equal_elem(0);
    if places == 1 {
        return first;
    }
    let before = symbols.narrow(2, 0, places - 1).not_equal_elem(end as i64);
    Tensor::cat(vec![first, before], 2)
}

/// `−log softmax(z)[y]`, mean over the symbols of an item and its end, and over the items of a task: scores
/// `z [t, b, places·(symbols + 1)]`, sequences `y [t, b, places]`, result `[t]`.
pub fn sequence_cross_entropy<B: Backend>(
    scores: Tensor<B, 3>,
    symbols: Tensor<B, 3, Int>,
) -> Tensor<B, 1> {
    let ([t, b, outputs], places) = (scores.dims(), symbols.dims()[2]);
    let n = outputs / places;
    let counts = places_that_count(symbols.clone(), n - 1);
    let counts = counts.float().cast(scores.dtype()).reshape([t * b, places]);
    let log_probabilities = log_softmax(scores.reshape([t * b * places, n]), 1);
    let picked = log_probabilities.gather(1, symbols.reshape([t * b * places, 1]));
    let of_items =
        (picked.reshape([t * b, places]) * counts.clone()).sum_dim(1) / counts.sum_dim(1);
    of_items.reshape([t, b]).mean_dim(1).neg().reshape([t])
}

/// Share of items of which the highest score is right at every place that counts: as
/// [`sequence_cross_entropy`].
pub fn exact_match<B: Backend>(scores: Tensor<B, 3>, symbols: Tensor<B, 3, Int>) -> Tensor<B, 1> {
    let ([t, b, outputs], places) = (scores.dims(), symbols.dims()[2]);
    let n = outputs / places;
    let idle = places_that_count(symbols.clone(), n - 1).bool_not();
    let winners = scores.reshape([t, b, places, n]).argmax(3);
    let right = winners.reshape([t, b, places]).equal(symbols).bool_or(idle);
    let whole = right.float().min_dim(2).reshape([t, b]);
    whole.mean_dim(1).reshape([t])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;

    /// Two sequences of at most two of two symbols: `1`, and `0 1`. Uniform scores cost ln 3 a place; the
    /// places after the first end cost nothing, whatever their scores.
    #[test]
    fn sequences_count_to_their_first_end() {
        let device = Default::default();
        let symbols = Tensor::<Cpu, 3, Int>::from_ints([[[1, 2, 2], [0, 1, 2]]], &device);
        let uniform = Tensor::<Cpu, 3>::zeros([1, 2, 9], &device);
        let loss = sequence_cross_entropy(uniform.clone(), symbols.clone());
        assert!((loss.into_scalar() - 3f32.ln()).abs() < 1e-6);
        let sure =
            |places: [usize; 3]| places.map(|symbol| [0, 1, 2].map(|s| f32::from(s == symbol)));
        let scores = |first: [usize; 3], second: [usize; 3]| {
            let values: Vec<f32> = [sure(first), sure(second)]
                .into_iter()
                .flatten()
                .flatten()
                .collect();
            Tensor::<Cpu, 1>::from_floats(values.as_slice(), &device).reshape([1, 2, 9])
        };
        let matched = |scores| exact_match(scores, symbols.clone()).into_scalar();
        assert_eq!(matched(scores([1, 2, 0], [0, 1, 2])), 1.0);
        assert_eq!(matched(scores([1, 2, 0], [0, 2, 2])), 0.5);
        assert_eq!(matched(scores([0, 2, 2], [0, 1, 1])), 0.0);
    }
}
