//! Gradient descent of a classifier on the support, with a gradient that is written out.

use burn::tensor::Tensor;

use crate::primitives::Primitives;

/// The authors' momentum, and the share of the gradient that it leaves out after the first step, as PyTorch's
/// `SGD` takes them.
const MOMENTUM: f64 = 0.9;
const DAMPENING: f64 = 0.9;

/// Gradient descent with momentum.
pub struct Descent {
    /// Steps.
    pub steps: usize,
    /// Learning rate.
    pub lr: f64,
    /// Weight decay `w`: what is added to the gradient is `w` times the weights.
    pub weight_decay: f64,
}

/// Weights after gradient descent from `start`, with the gradient of the loss without weight decay.
pub fn descend<B: Primitives>(
    descent: Descent,
    start: Tensor<B, 3>,
    gradient: impl Fn(&Tensor<B, 3>) -> Tensor<B, 3>,
) -> Tensor<B, 3> {
    let mut weights = start;
    let mut direction: Option<Tensor<B, 3>> = None;
    for _ in 0..descent.steps {
        let decay = weights.clone().mul_scalar(descent.weight_decay);
        let slope = gradient(&weights) + decay;
        let next = match direction.take() {
            Some(direction) => {
                let kept = direction.mul_scalar(MOMENTUM);
                kept + slope.mul_scalar(1.0 - DAMPENING)
            }
            None => slope,
        };
        weights = weights - next.clone().mul_scalar(descent.lr);
        direction = Some(next);
    }
    weights
}
