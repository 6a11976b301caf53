//! Useful floating-point operations of a workload: those that its equations need, not those that a
//! program happens to execute.
//!
//! Counted are the multiplications and additions (2 per multiply-add) of convolutions, linear layers
//! and attention products; normalisation, activations, pooling, loss, update and distances are not.
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

use meta_core::nn::encoder::EncoderSpec;

use super::workloads::{Kind, Prepared};

/// Operations of one item's forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Forward {
    /// Of the first layer, whose input needs no gradient.
    first: f64,
    /// Of all others.
    rest: f64,
}

impl Forward {
    fn of(architecture: &EncoderSpec, head_outputs: usize) -> Self {
        let products = |factors: &[usize]| 2.0 * factors.iter().map(|&f| f as f64).product::<f64>();
        let (first, mut rest, width) = match architecture {
            EncoderSpec::Mlp(item, settings) => {
                let first = products(&[item.features(), settings.hidden[0]]);
                let rest = settings.hidden.windows(2).map(products).sum();
                (first, rest, *settings.hidden.last().unwrap_or(&0))
            }
            EncoderSpec::Conv4(item, settings) => {
                let block = |block: usize| {
                    let inputs = match block {
                        0 => item.channels,
                        _ => settings.channels,
                    };
                    let plane = [item.height >> block, item.width >> block];
                    products(&[plane[0], plane[1], 9, inputs, settings.channels])
                };
                let shrink = settings.blocks;
                let width = (item.height >> shrink) * (item.width >> shrink) * settings.channels;
                (block(0), (1..settings.blocks).map(block).sum(), width)
            }
            EncoderSpec::Attention(item, settings) => {
                let patch = settings.patch;
                let tokens = (item.height / patch) * (item.width / patch);
                let features = patch * patch * item.channels;
                let d = settings.width;
                // Query, key, value, output; the two feed-forward layers; scores and read.
                let block = 4.0 * products(&[tokens, d, d])
                    + 2.0 * products(&[tokens, d, settings.hidden])
                    + 2.0 * products(&[tokens, tokens, d]);
                (
                    products(&[tokens, features, d]),
                    settings.layers as f64 * block,
                    d,
                )
            }
            other => unreachable!("no workload has the encoder {other:?}"),
        };
        rest += products(&[width, head_outputs]);
        Forward { first, rest }
    }

    /// Forward pass.
    fn forward(self) -> f64 {
        self.first + self.rest
    }

    /// Forward and backward pass.
    fn gradient(self) -> f64 {
        2.0 * self.first + 3.0 * self.rest
    }

    /// Forward and backward pass and the adjoints of both.
    fn second_order(self) -> f64 {
        5.0 * self.first + 9.0 * self.rest
    }
}

/// Useful operations of one sample.
pub fn per_sample(prepared: &Prepared) -> f64 {
    let shape = prepared.shape;
    let (support, query) = (shape.support_items() as f64, shape.query_items() as f64);
    let setting = |key: &str| prepared.settings[key].as_u64().map(|value| value as f64);
    let has_head = setting("inner_steps").is_some();
    let outputs = if has_head { prepared.spec.outputs() } else { 0 };
    let item = Forward::of(&prepared.architecture, outputs);
    let second = prepared.settings["order"] == "second";
    let task = match (prepared.workload.kind, setting("inner_steps")) {
        (Kind::Train, Some(steps)) if second => {
            steps * support * item.second_order() + query * item.gradient()
        }
        (Kind::Train, Some(steps)) => (steps * support + query) * item.gradient(),
        (Kind::Train, None) => (support + query) * item.gradient(),
        (Kind::Predict, _) => {
            let steps = setting("test_steps").unwrap_or(0.0);
            steps * support * item.gradient() + query * item.forward()
        }
    };
    prepared.tasks as f64 * task
}

#[cfg(test)]
mod tests {
    use meta_core::data::ItemShape;

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
        let forward = Forward::of(&conv4, 5);
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
        let forward = Forward::of(&mlp, 1);
        assert_eq!((forward.first, forward.rest), (80.0, 2.0 * 1640.0));
    }
}
