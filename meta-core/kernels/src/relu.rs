//! Bias and ReLU in one pass, and the gate that carries its derivatives.

use super::blocks::{check_len, on_elements};
use super::buffers::Fresh;
use super::real::{Real, wide};
use super::rows::{fold, vector_tasks, with_vector};

/// `y = max(x + b, 0)`: the channel vector added to every row, and what is not positive cut off; a
/// NaN stays.
///
/// `x [t, r, c]`, `b [tb, c]` with `tb ∈ {1, t}` → `y [t, r, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn bias_relu<T: Real>(shape: [usize; 3], x: &[T], b: &[T]) -> Vec<T> {
    check_len("x", x.len(), shape.iter().product());
    let [tasks, rows, c] = fold(shape, vector_tasks(shape, b));
    with_vector(tasks, rows, c, b, |piece, b, y| {
        rectify(piece.of(x, rows, c), b, y);
    })
}

/// `g` where `y` is positive (or NaN), 0 elsewhere: the adjoint of [`bias_relu`] with output `y`.
///
/// # Panics
/// If the slices differ in length.
pub fn gate<T: Real>(y: &[T], g: &[T]) -> Vec<T> {
    on_elements([y, g], 2, |[y, g], gated| open(y, g, gated))
}

wide! {
    fn rectify[T: Real](x: &[T], b: &[T], y: &mut Fresh<'_, T>) {
        for x in x.chunks(b.len()) {
            y.put(x.iter().zip(b).map(|(&x, &b)| {
                let sum = x + b;
                if sum <= T::ZERO { T::ZERO } else { sum }
            }));
        }
    }
}

wide! {
    fn open[T: Real](y: &[T], g: &[T], gated: &mut Fresh<'_, T>) {
        let values = y.iter().zip(g);
        gated.put(values.map(|(&y, &g)| if y <= T::ZERO { T::ZERO } else { g }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_same_for_any_threads, noise};
    use super::*;

    #[test]
    fn equals_the_loop() {
        for (shape, vector_tasks) in [([1, 1, 1], 1), ([3, 7, 5], 3), ([2, 300, 64], 1)] {
            let [tasks, rows, c] = shape;
            let x: Vec<f64> = noise(1, tasks * rows * c);
            let b: Vec<f64> = noise(2, vector_tasks * c);
            let g: Vec<f64> = noise(3, tasks * rows * c);
            let y = bias_relu(shape, &x, &b);
            let gated = gate(&y, &g);
            for i in 0..x.len() {
                let task = if vector_tasks == 1 { 0 } else { i / (rows * c) };
                let sum = x[i] + b[task * c + i % c];
                let expected = if sum > 0.0 { (sum, g[i]) } else { (0.0, 0.0) };
                assert_eq!((y[i], gated[i]), expected);
            }
        }
    }

    #[test]
    fn a_nan_is_not_hidden() {
        assert!(bias_relu([1, 1, 1], &[f32::NAN], &[0.0])[0].is_nan());
        assert_eq!(gate(&[f32::NAN], &[2.0]), [2.0]);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let x: Vec<f32> = noise(1, 3 * 3000 * 40);
        let b: Vec<f32> = noise(2, 3 * 40);
        assert_same_for_any_threads(|| bias_relu([3, 3000, 40], &x, &b));
        assert_same_for_any_threads(|| gate(&x, &x));
    }
}
