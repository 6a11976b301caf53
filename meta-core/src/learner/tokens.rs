//! The support of a task as tokens: what is known of an item, its target included.

use burn::tensor::Tensor;

use crate::nn::distance;
use crate::{
    primitives::{MatrixProduct, Primitives},
    task::TargetBatch,
};

/// Width of a token of embeddings of width `d`: twice that for classes, and that and the `outputs` for
/// values.
pub fn width(embedding: usize, classes: bool, outputs: usize) -> usize {
    embedding + if classes { embedding } else { outputs }
}

/// Each support item with its target, `[t, s, d]` to `[t, s, w]`: the embedding and the mean embedding of
/// its class, or the embedding and its values.
///
/// Which class is called 0 is no information, and any number of classes has the same width.
pub fn with_targets<B: Primitives>(
    embeddings: Tensor<B, 3>,
    targets: &TargetBatch<B>,
    way: usize,
) -> Tensor<B, 3> {
    let target = match targets {
        TargetBatch::Values(values) => values.clone(),
        TargetBatch::Sequences(_) => panic!("targets of one place expected"),
        TargetBatch::Classes(labels) => {
            let means = distance::class_means(embeddings.clone(), labels.clone(), way);
            distance::membership(labels.clone(), way, &embeddings).product(means)
        }
    };
    Tensor::cat(vec![embeddings, target], 2)
}
