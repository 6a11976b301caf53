//! Positions: what tells the tokens of a sequence apart, since attention itself does not.

use burn::tensor::{Tensor, TensorData, backend::Backend};
use serde::{Deserialize, Serialize};

use super::AttentionInfo;
use crate::primitives::{Primitives, add_rows};

pub(super) const SINUSOIDAL: AttentionInfo = AttentionInfo {
    name: "sinusoidal",
    family: "position",
    summary: "sines and cosines of the position, added to the token",
    paper: "Vaswani et al., Attention is all you need, NIPS 2017, section 3.5",
};

pub(super) const LEARNED: AttentionInfo = AttentionInfo {
    name: "learned",
    family: "position",
    summary: "a learned vector for each position, added to the token",
    paper: "Gehring et al., Convolutional sequence to sequence learning, ICML 2017, section 3.1",
};

pub(super) const ROTARY: AttentionInfo = AttentionInfo {
    name: "rotary",
    family: "position",
    summary: "queries and keys turned by their position: scores depend on the distance alone",
    paper: "Su et al., RoFormer: Enhanced transformer with rotary position embedding, 2021, section 3.2",
};

/// How a token gets its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// Not at all: the tokens are a set.
    None,
    /// By [`sinusoidal`] vectors.
    Sinusoidal,
    /// By a vector for each position that is learned.
    Learned,
    /// By turning queries and keys ([`rotate`]).
    Rotary,
}

/// `θ_i = 10000^(−2i/d)`, the frequency of the pair `i` of `d` channels.
fn frequency(pair: usize, d: usize) -> f64 {
    10_000f64.powf(-2.0 * pair as f64 / d as f64)
}

/// `PE(p, 2i) = sin(p θ_i)`, `PE(p, 2i + 1) = cos(p θ_i)`, `θ_i = 10000^(−2i/d)` (Vaswani et al., NIPS
/// 2017, section 3.5): `[1, 1, l·d]`, positions from 0.
pub fn sinusoidal<B: Backend>(length: usize, d: usize, device: &B::Device) -> Tensor<B, 3> {
    let values: Vec<f64> = (0..length)
        .flat_map(|position| {
            (0..d).map(move |channel| {
                let angle = position as f64 * frequency(channel / 2, d);
                match channel % 2 {
                    0 => angle.sin(),
                    _ => angle.cos(),
                }
            })
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [1, 1, length * d]), device)
}

/// Adds positions `[1|t, 1, l·d]` to sequences `x [t, b·l, d]`.
///
/// # Panics
/// When the length of the positions does not divide the tokens.
pub fn place<B: Primitives>(x: Tensor<B, 3>, positions: Tensor<B, 3>) -> Tensor<B, 3> {
    let [t, tokens, d] = x.dims();
    let length = positions.dims()[2] / d;
    let sequences = x.reshape([t, tokens / length, length * d]);
    add_rows(sequences, positions).reshape([t, tokens, d])
}

/// Turns the channels `(i, i + d/2)` of each head of a token at position `p` by the angle `p θ_i`
/// (Su et al., 2021, eq. 34): `x [n, l, heads·d]` to the same shape.
///
/// The product of a turned query and a turned key depends on their distance, not on their positions.
/// The paper turns neighbouring channels, `(2i, 2i + 1)`, which is the same but for their order.
///
/// # Panics
/// When the width of a head is odd.
pub fn rotate<B: Backend>(x: Tensor<B, 3>, heads: usize) -> Tensor<B, 3> {
    let [n, l, width] = x.dims();
    let d = width / heads;
    assert!(d.is_multiple_of(2), "heads of even width, found {d}");
    let (device, dtype) = (x.device(), x.dtype());
    let turn = |of_angle: fn(f64) -> f64| {
        let angles = (0..l).flat_map(|p| (0..d / 2).map(move |pair| p as f64 * frequency(pair, d)));
        let values: Vec<f64> = angles.map(of_angle).collect();
        Tensor::<B, 5>::from_data(TensorData::new(values, [1, l, 1, 1, d / 2]), &device).cast(dtype)
    };
    let (cos, sin) = (turn(f64::cos), turn(f64::sin));
    let pairs = x.reshape([n, l, heads, 2, d / 2]);
    let (first, second) = (pairs.clone().narrow(3, 0, 1), pairs.narrow(3, 1, 1));
    let turned = vec![
        first.clone() * cos.clone() - second.clone() * sin.clone(),
        first * sin + second * cos,
    ];
    Tensor::cat(turned, 3).reshape([n, l, width])
}
