//! The gradient step of an inner loop.

use super::memory::build;
use super::{PIECE_ELEMENTS, Real, RowBlock, check_len, row_blocks};

/// `θ − lr·g`, element by element.
///
/// # Panics
/// If the lengths differ.
pub fn update<T: Real>(theta: &[T], lr: T, g: &[T]) -> Vec<T> {
    check_len("g", g.len(), theta.len());
    let pieces = row_blocks(1, theta.len(), PIECE_ELEMENTS);
    build(&pieces, RowBlock::len, 4 * theta.len(), |piece, out| {
        let range = piece.start..piece.end;
        let pairs = theta[range.clone()].iter().zip(&g[range]);
        out.put(pairs.map(|(&theta, &g)| theta - lr * g));
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_same_for_any_threads, noise};
    use super::*;

    #[test]
    fn is_the_step_written_out() {
        for len in [0, 1, 17, 40_000] {
            let theta: Vec<f64> = noise(1, len);
            let g: Vec<f64> = noise(2, len);
            let expected: Vec<f64> = theta.iter().zip(&g).map(|(t, g)| t - 0.1 * g).collect();
            assert_eq!(update(&theta, 0.1, &g), expected);
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let theta: Vec<f32> = noise(1, 1 << 19);
        let g: Vec<f32> = noise(2, 1 << 19);
        assert_same_for_any_threads(|| update(&theta, 0.3, &g));
    }
}
