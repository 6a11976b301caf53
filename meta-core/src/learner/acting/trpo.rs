//! The step of trust region policy optimisation (Schulman, Levine, Moritz, Jordan and Abbeel, *Trust region
//! policy optimization*, ICML 2015).
//!
//! With the gradient `g` of a loss at `θ`, and the Hessian `H` at `θ` of the mean divergence
//! `D(θ̃) = mean KL(π_θ ‖ π_θ̃)`:
//!
//! ```text
//! (H + λ I) x = g                                   by conjugate gradient (appendix C.1)
//! θ' = θ − β^j √(2δ / xᵀ(H + λ I) x) x              j = 0, 1, …: the first one with
//!      L(θ') < L(θ)   and   D(θ') ≤ δ               (appendix C)
//! ```
//!
//! `H` is asked for in products with a vector alone. Symbols: δ is `max_kl`, λ `cg_damping`; β is 0.8, and after 15
//! tries the parameters stay, as in the program of Duan et al. (*Benchmarking deep reinforcement learning for
//! continuous control*, ICML 2016).
//!
//! # Differences from the paper
//! * The damping λ, of the program named above.

use crate::{
    params::{Params, conjugate_gradient},
    primitives::Primitives,
    settings,
};

settings! {
    /// Settings of a step within a trust region.
    pub struct TrpoSettings {
        /// δ: the mean divergence of a policy from the one before, at most. For `outer = "trpo"`.
        max_kl: f64 = 0.01, above(0.0);
        /// Steps of conjugate gradient. For `outer = "trpo"`.
        cg_steps: usize = 10, size(1);
        /// λ: what is added to the diagonal of the Hessian. For `outer = "trpo"`.
        cg_damping: f64 = 1e-5, at_least(0.0);
    }
}

/// β, and how often it is tried.
const SHRINK: f64 = 0.8;
const TRIES: i32 = 15;

/// What parameters are worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The loss.
    pub loss: f64,
    /// The mean divergence from the policy before the step.
    pub divergence: f64,
}

/// The parameters after a step from `parameters` against `gradient`, all `[1, …]`; the same ones where no step is
/// found. `product` gives `H v`.
pub fn step<B: Primitives>(
    settings: &TrpoSettings,
    parameters: Params<B>,
    gradient: &Params<B>,
    mut product: impl FnMut(&Params<B>) -> Params<B>,
    mut measure: impl FnMut(&Params<B>) -> Measured,
) -> Params<B> {
    let mut damped = |v: &Params<B>| product(v).plus(&v.clone().scale(settings.cg_damping));
    let slope = gradient.clone().trainable();
    let direction = conjugate_gradient(settings.cg_steps, slope, &mut damped);
    let curvature = dot(&direction, &damped(&direction));
    if !(curvature.is_finite() && curvature > 0.0) {
        return parameters;
    }
    let length = (2.0 * settings.max_kl / curvature).sqrt();
    let before = measure(&parameters);
    for tried in 0..TRIES {
        let along = direction.clone().scale(-length * SHRINK.powi(tried));
        let next = parameters.clone().plus(&along);
        let now = measure(&next);
        if now.loss < before.loss && now.divergence <= settings.max_kl {
            return next;
        }
    }
    parameters
}

fn dot<B: Primitives>(one: &Params<B>, other: &Params<B>) -> f64 {
    let dots = one.dot_tasks(other).into_data();
    dots.iter::<f64>().sum()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Tensor, TensorData};

    use super::*;
    use crate::backend::Cpu;

    /// A symmetric matrix with eigenvalues above 0.
    const A: [[f64; 3]; 3] = [[4.0, 1.0, -0.5], [1.0, 3.0, 0.25], [-0.5, 0.25, 2.0]];
    const SOLUTION: [f64; 3] = [0.5, -1.5, 2.0];

    fn of(values: [f64; 3]) -> Params<Cpu> {
        let mut one = Params::default();
        let data = TensorData::new(values.map(|value| value as f32).to_vec(), [1, 3]);
        one.push("x", Tensor::<Cpu, 2>::from_data(data, &Default::default()));
        one
    }

    fn numbers(one: &Params<Cpu>) -> [f64; 3] {
        let flat: Vec<f64> = one.flatten().into_data().iter::<f64>().collect();
        flat.try_into().expect("three")
    }

    fn times(v: [f64; 3]) -> [f64; 3] {
        A.map(|row| row.iter().zip(v).map(|(a, v)| a * v).sum())
    }

    fn quadratic(x: [f64; 3]) -> f64 {
        times(x).iter().zip(x).map(|(a, x)| 0.5 * a * x).sum()
    }

    #[test]
    fn as_many_steps_as_unknowns_solve_a_system() {
        let product = |v: &Params<Cpu>| of(times(numbers(v)));
        let solved = conjugate_gradient(3, of(times(SOLUTION)), product);
        for (found, expected) in numbers(&solved).iter().zip(SOLUTION) {
            assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
        }
    }

    /// Of a linear loss with this divergence, the step is the first one that is tried: as long as the bound.
    #[test]
    fn a_step_goes_as_far_as_the_bound_and_no_farther() {
        let settings = TrpoSettings {
            cg_damping: 0.0,
            max_kl: 0.1,
            ..TrpoSettings::default()
        };
        let slope = times(SOLUTION);
        let linear = |x: [f64; 3]| -> f64 { x.iter().zip(slope).map(|(x, s)| x * s).sum() };
        let take = |bend: f64| {
            let measure = |x: &Params<Cpu>| Measured {
                loss: linear(numbers(x)),
                divergence: bend * quadratic(numbers(x)),
            };
            let product = |v: &Params<Cpu>| of(times(numbers(v)));
            let next = step(&settings, of([0.0; 3]), &of(slope), product, measure);
            quadratic(numbers(&next))
        };
        // A little flatter than its Hessian at 0 says: rounding does not refuse the whole length.
        assert!((take(0.999) - 0.1).abs() < 1e-4, "{}", take(0.999));
        // Steeper: shorter by powers of β until the bound is kept.
        let steep = take(2.0);
        assert!(2.0 * steep <= 0.1 && 2.0 * steep > 0.1 * SHRINK * SHRINK);
        // Steeper than any length that is tried: nowhere.
        assert_eq!(take(1e9), 0.0);
    }

    #[test]
    fn what_is_not_a_number_moves_nothing() {
        let measure = |_: &Params<Cpu>| Measured {
            loss: f64::NAN,
            divergence: 0.0,
        };
        let product = |v: &Params<Cpu>| v.clone();
        let settings = TrpoSettings::default();
        let next = step(&settings, of([1.0; 3]), &of([1.0; 3]), product, measure);
        assert_eq!(numbers(&next), [1.0; 3]);
    }
}
