//! Temporal convolutions: central differences at both orders, in their input and all weights.

use burn::tensor::Tensor;
use meta_core::{
    gradcheck::{Function, check},
    nn::{
        init::Initializer,
        temporal::{TcBlock, Timeline},
    },
    primitives::Primitives,
    rng::Seed,
};

use crate::support::{B, device, normal, observed, point_near, with_parameters};

/// A sequence of three steps and two ends, of two tasks.
const TIMELINE: Timeline = Timeline { length: 3, ends: 2 };

fn block<L: Primitives>(device: &L::Device) -> TcBlock<L> {
    TcBlock::new(2, 2, 4, &mut Initializer::seeded(Seed(1)), device)
}

/// Of the input and the weights.
struct Temporal;

impl Function for Temporal {
    fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
        let block = with_parameters(block::<L>(&inputs[0].device()), &inputs[1]);
        let x = inputs[0].clone().reshape([2, TIMELINE.rows(), 2]);
        observed(block.forward(x, TIMELINE))
    }
}

#[test]
fn temporal_blocks_are_differentiable_twice() {
    let point = [normal(20, "x"), point_near(&block::<B>(&device()))];
    let errors = check::<B>(&Temporal, &point, &device());
    assert!(errors.within(1e-6), "{errors:?}");
}
