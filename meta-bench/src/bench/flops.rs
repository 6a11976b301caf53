//! Counts the useful floating-point operations of a workload: those that its equations need, not those
//! that a program happens to execute.
//!
//! The count has the multiplications and additions (2 per multiply-add) of convolutions, linear layers
//! and attention products. It leaves out normalisation, activations, pooling, loss, update and distances.
//! A bilinear map `y = F(x, w)` costs, in units of its forward pass:
//!
//! | pass | cost |
//! |---|---|
//! | forward | 1 |
//! | backward: `x̄`, `w̄` | 2 |
//! | adjoint of forward and backward (second order): two terms each of `ȳ`, `x̄`, `w̄` | 6 |
//!
//! The first layer needs no gradient of its input, which saves 1 of the backward pass and 3 of its
//! adjoint.

use meta_core::{
    learner::{LearnerList, Steps},
    nn::encoder::{Architecture, EncoderList, Operations},
    toolkit::Toolkit,
};

use super::workloads::{Kind, Prepared};

/// Operations of the passes of one item.
trait Passes {
    /// With a head of `outputs` scores or values after an embedding of `width`.
    fn with_head(self, width: usize, outputs: usize) -> Self;

    /// Forward pass.
    fn forward(self) -> f64;

    /// Forward and backward pass.
    fn gradient(self) -> f64;

    /// Forward and backward pass and the adjoints of both.
    fn second_order(self) -> f64;
}

impl Passes for Operations {
    fn with_head(self, width: usize, outputs: usize) -> Self {
        Operations {
            rest: self.rest + 2.0 * width as f64 * outputs as f64,
            ..self
        }
    }

    fn forward(self) -> f64 {
        self.first + self.rest
    }

    fn gradient(self) -> f64 {
        2.0 * self.first + 3.0 * self.rest
    }

    fn second_order(self) -> f64 {
        5.0 * self.first + 9.0 * self.rest
    }
}

/// Useful operations of one sample; 0 of policies, whose trials have no length of their own.
pub fn per_sample<T: Toolkit>(prepared: &Prepared<T>) -> f64 {
    if prepared.spec.task.is_acting() {
        return 0.0;
    }
    let shape = prepared.shape;
    let (support, query) = (shape.support_items() as f64, shape.query_items() as f64);
    let Steps { train, test, .. } = prepared.learner.steps();
    let outputs = if train > 0 {
        prepared.spec.outputs()
    } else {
        0
    };
    let architecture = &prepared.architecture;
    let item = architecture
        .operations()
        .with_head(architecture.width(), outputs);
    let second = prepared.settings["order"] == "second";
    let task = match prepared.workload.kind {
        Kind::Train if second => {
            train as f64 * support * item.second_order() + query * item.gradient()
        }
        Kind::Train if train > 0 => (train as f64 * support + query) * item.gradient(),
        Kind::Train => (support + query) * item.gradient(),
        Kind::Predict => test as f64 * support * item.gradient() + query * item.forward(),
    };
    prepared.tasks as f64 * task
}

#[cfg(test)]
mod tests {
    use meta_core::{data::ItemShape, nn::encoder::EncoderSpec};

    use super::*;

    /// By hand, multiply-adds: 784·9·64, 196·9·64·64, 49·9·64·64, 9·9·64·64, head 64·5.
    #[test]
    fn conv4_matches_a_count_by_hand() {
        let item = ItemShape {
            height: 28,
            width: 28,
            channels: 1,
        };
        let conv4 = EncoderSpec::new("conv4", &serde_json::json!({}), item).unwrap();
        let forward = conv4.operations().with_head(conv4.width(), 5);
        assert_eq!(forward.first, 2.0 * 451_584.0);
        assert_eq!(
            forward.rest,
            2.0 * (7_225_344.0 + 1_806_336.0 + 331_776.0 + 320.0)
        );
        assert_eq!(
            forward.second_order(),
            5.0 * forward.first + 9.0 * forward.rest
        );
    }

    /// By hand, multiply-adds: 1·40, 40·40, 40·1.
    #[test]
    fn mlp_matches_a_count_by_hand() {
        let item = ItemShape {
            height: 1,
            width: 1,
            channels: 1,
        };
        let mlp = EncoderSpec::new("mlp", &serde_json::json!({}), item).unwrap();
        let forward = mlp.operations().with_head(mlp.width(), 1);
        assert_eq!((forward.first, forward.rest), (80.0, 2.0 * 1640.0));
    }
}
