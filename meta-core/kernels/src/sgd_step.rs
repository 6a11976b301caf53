//! A step of gradient descent in one pass.

use super::blocks::{PIECE_ELEMENTS, row_blocks};
use super::buffers::{Fresh, build};
use super::real::{Real, wide};

/// `θ − η g`, where `θ` is one copy for each of the tasks that `g` belongs to, or shared by them.
///
/// `theta [1|t, …]`, `g [t, …]` → `[t, …]`.
///
/// # Panics
/// If the length of `theta` does not divide that of `g`.
pub fn sgd_step<T: Real>(theta: &[T], g: &[T], rate: f64) -> Vec<T> {
    let len = theta.len().max(1);
    assert!(
        g.len().is_multiple_of(len),
        "gradients of {} elements for parameters of {len}",
        g.len()
    );
    build(
        &row_blocks(g.len() / len, len, PIECE_ELEMENTS),
        |piece| piece.len(),
        2 * g.len(),
        |piece, updated| {
            let theta = &theta[piece.start..piece.end];
            subtract(theta, piece.of(g, len, 1), T::from_f64(rate), updated);
        },
    )
}

wide! {
    fn subtract[T: Real](theta: &[T], g: &[T], rate: T, updated: &mut Fresh<'_, T>) {
        updated.put(theta.iter().zip(g).map(|(&theta, &g)| theta - rate * g));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_same_for_any_threads, noise};
    use super::*;

    #[test]
    fn equals_the_loop() {
        for (copies, tasks, len) in [(1, 1, 1), (1, 3, 7), (3, 3, 7), (1, 2, 40_000)] {
            let theta: Vec<f64> = noise(1, copies * len);
            let g: Vec<f64> = noise(2, tasks * len);
            let updated = sgd_step(&theta, &g, 0.3);
            for i in 0..g.len() {
                assert_eq!(updated[i], theta[i % theta.len()] - 0.3 * g[i]);
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let theta: Vec<f32> = noise(1, 200_000);
        let g: Vec<f32> = noise(2, 8 * 200_000);
        assert_same_for_any_threads(|| sgd_step(&theta, &g, 0.3));
    }
}
