//! The hyperbolic tangent, and its derivatives by its own output `y`: the Jacobian `diag(1 − y²)` applied
//! to `g`, and the derivative of that in `y`.

use super::blocks::on_elements;
use super::buffers::Fresh;
use super::real::{Real, wide};

/// Scalar operations an element, for the derivatives as well: those take less.
const WORK: usize = 8;

/// `tanh x` of every element.
pub fn tanh<T: Real>(x: &[T]) -> Vec<T> {
    on_elements([x], WORK, |[x], y| tangents(x, y))
}

/// `(1 − y²) g`.
///
/// # Panics
/// If the slices differ in length.
pub fn tanh_adjoint<T: Real>(y: &[T], g: &[T]) -> Vec<T> {
    on_elements([y, g], WORK, |[y, g], result| slopes(y, g, result))
}

/// `−2 y g u`: `∂/∂y ⟨u, (1 − y²) g⟩`.
///
/// # Panics
/// If the slices differ in length.
pub fn tanh_curvature<T: Real>(y: &[T], g: &[T], u: &[T]) -> Vec<T> {
    on_elements([y, g, u], WORK, |[y, g, u], result| bends(y, g, u, result))
}

wide! {
    fn tangents[T: Real](x: &[T], y: &mut Fresh<'_, T>) {
        y.put(x.iter().map(|x| x.tanh()));
    }
}

wide! {
    fn slopes[T: Real](y: &[T], g: &[T], result: &mut Fresh<'_, T>) {
        result.put(y.iter().zip(g).map(|(&y, &g)| (T::ONE - y * y) * g));
    }
}

wide! {
    fn bends[T: Real](y: &[T], g: &[T], u: &[T], result: &mut Fresh<'_, T>) {
        let two = T::ONE + T::ONE;
        let products = g.iter().zip(u).map(|(&g, &u)| g * u);
        result.put(y.iter().zip(products).map(|(&y, product)| T::ZERO - two * y * product));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_same_for_any_threads, noise};
    use super::*;

    #[test]
    fn equals_the_closed_forms() {
        for len in [1, 7, 1000, 40_000] {
            let [x, g, u] = [1, 2, 3].map(|seed| noise::<f64>(seed, len));
            let y = tanh(&x);
            let (slope, bend) = (tanh_adjoint(&y, &g), tanh_curvature(&y, &g, &u));
            for at in 0..len {
                let exact = x[at].tanh();
                // Two roundings.
                assert!((y[at] - exact).abs() <= 4e-16, "{} {exact}", y[at]);
                let cosh = x[at].cosh();
                assert!((slope[at] - g[at] / (cosh * cosh)).abs() < 1e-14);
                assert!((bend[at] + 2.0 * exact * g[at] * u[at]).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let x: Vec<f32> = noise(1, 1 << 20);
        assert_same_for_any_threads(|| tanh(&x));
    }
}
