//! Masks: which keys a query may not read.

use burn::tensor::{Bool, Int, Tensor, backend::Backend};

use crate::primitives::{Primitives, masked_softmax, scaled_softmax};

/// What a hidden score is replaced by before the maximum is taken: below any score, finite in f32.
pub(super) const HIDDEN: f64 = -1e30;

/// `softmax(f scores)` over the keys that are not hidden: `scores [n, heads, l, m]`, `hidden` of a shape that
/// broadcasts to it (true: not read; none hides nothing), result `[n, heads, l, m]`.
///
/// A row sums to 1, whatever the size of its scores; one that is hidden as a whole is 0 everywhere.
pub fn softmax_over<B: Primitives>(
    scores: Tensor<B, 4>,
    hidden: Option<Tensor<B, 4, Bool>>,
    factor: f64,
) -> Tensor<B, 4> {
    match hidden {
        Some(hidden) => masked_softmax(scores, hidden, factor),
        None => scaled_softmax(scores, factor),
    }
}

/// Hides the keys after each query's own position: `[1, 1, l, l]`.
pub fn causal<B: Backend>(length: usize, device: &B::Device) -> Tensor<B, 4, Bool> {
    let positions = Tensor::<B, 1, Int>::arange(0..length as i64, device);
    let queries = positions.clone().reshape([1, 1, length, 1]);
    let keys = positions.reshape([1, 1, 1, length]);
    let shape = [1, 1, length, length];
    keys.expand(shape).greater(queries.expand(shape))
}

/// Hides the keys beyond the length of each sequence: `lengths [n]` in `0..=longest`, result
/// `[n, 1, 1, longest]`.
pub fn padding<B: Backend>(lengths: Tensor<B, 1, Int>, longest: usize) -> Tensor<B, 4, Bool> {
    let [n] = lengths.dims();
    let keys = Tensor::<B, 1, Int>::arange(0..longest as i64, &lengths.device());
    let shape = [n, 1, 1, longest];
    let lengths = lengths.reshape([n, 1, 1, 1]).expand(shape);
    keys.reshape([1, 1, 1, longest])
        .expand(shape)
        .greater_equal(lengths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;

    #[test]
    fn causal_hides_what_comes_later() {
        let hidden = causal::<Cpu>(3, &Default::default()).into_data();
        assert_eq!(
            hidden.iter::<bool>().collect::<Vec<_>>(),
            [false, true, true, false, false, true, false, false, false]
        );
    }

    #[test]
    fn padding_hides_what_lies_beyond_the_length() {
        let lengths = Tensor::<Cpu, 1, Int>::from_data([0, 2, 3], &Default::default());
        let hidden = padding(lengths, 3).into_data();
        assert_eq!(
            hidden.iter::<bool>().collect::<Vec<_>>(),
            [true, true, true, false, false, true, false, false, false]
        );
    }

    /// Scores of any size; a row of which nothing may be read is 0, not `NaN`.
    #[test]
    fn hidden_keys_are_not_read() {
        let scores = Tensor::<Cpu, 4>::from_data(
            [[[[3e4, -3e4, 3e4], [-2e4, 7.0, 1e30], [1.0, 2.0, 3.0]]]],
            &Default::default(),
        );
        let hidden = Tensor::<Cpu, 4, Bool>::from_data(
            [[[
                [false, false, false],
                [false, false, true],
                [true, true, true],
            ]]],
            &Default::default(),
        );
        let map = masked_softmax(scores, hidden, 1.0).into_data();
        assert_eq!(
            map.to_vec::<f32>().unwrap(),
            [0.5, 0.0, 0.5, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
        );
    }
}
