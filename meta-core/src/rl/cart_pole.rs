//! Cart-pole with masses and a length that vary from task to task.
//!
//! A pole (mass m, half-length l) stands on a cart (mass M − m, so M in all) that is pushed with a force F
//! along a rail without friction (Barto, Sutton & Anderson 1983, "Neuronlike Adaptive Elements That Can Solve
//! Difficult Learning Control Problems", appendix):
//!
//! ```text
//! θ'' = (g sin θ − cos θ · b) / (l (4/3 − m cos² θ / M)),   b = (F + m l θ'² sin θ) / M,
//! x'' = b − m l θ'' cos θ / M.
//! ```
//!
//! A step is one of Euler's of 0.02 s. The reward is 1 a step; an episode ends when the pole leans by more than
//! 12° or the cart is more than 2.4 m from the middle, or after its horizon. With one mass and one length (1.0,
//! 0.1, 0.5) and a horizon of 500 it is CartPole-v1 of Gymnasium.
//!
//! Observations are x, x', θ, θ' (m, m/s, rad, rad/s); mass and length are not seen. The reference policy is the
//! linear regulator of the task's own linearised dynamics. No return exceeds the horizon, and the regulator
//! reaches it.
//!
//! # Differences from the paper
//! Friction is left out, as Gymnasium does. That masses and lengths vary is ours.

use std::sync::Arc;

use serde_json::Value;

use super::environment::{Environment, Family, FamilySettings};
use super::policy::{MakePolicy, Policy, random_policy};
use super::space::{Space, index};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::rng::Stream;
use crate::settings;
use crate::settings::Settings;

/// g, in m/s².
const GRAVITY: f64 = 9.8;
/// Seconds of a step.
const STEP_SECONDS: f64 = 0.02;
/// The largest lean, in radians.
const LARGEST_LEAN: f64 = 12.0 * std::f64::consts::TAU / 360.0;
/// The largest distance of the cart from the middle, in metres.
const FARTHEST: f64 = 2.4;

settings! {
    /// Settings of [`CartPole`].
    pub struct CartPoleSettings {
        /// Smallest mass of the cart, in kg.
        cart_mass_low: f64 = 0.5, above(0.0);
        /// Largest mass of the cart, in kg; at least `cart_mass_low`.
        cart_mass_high: f64 = 2.0, above(0.0);
        /// Smallest mass of the pole, in kg.
        pole_mass_low: f64 = 0.05, above(0.0);
        /// Largest mass of the pole, in kg; at least `pole_mass_low`.
        pole_mass_high: f64 = 0.5, above(0.0);
        /// Smallest half-length of the pole, in m.
        length_low: f64 = 0.25, above(0.0);
        /// Largest half-length of the pole, in m; at least `length_low`.
        length_high: f64 = 1.5, above(0.0);
        /// Largest force, in N.
        force: f64 = 10.0, above(0.0);
        /// Whether an action is a share in \[−1, 1\] of the force; otherwise it is a push to the left (0) or
        /// to the right (1).
        continuous: bool = false;
        /// Steps of an episode at most.
        horizon: usize = 200, size(1);
    }
}

impl FamilySettings for CartPoleSettings {
    const NAME: &'static str = "cart_pole";
    const SUMMARY: &'static str = "a pole on a cart, with masses and a length that vary";

    fn open(&self) -> Result<Arc<dyn Family>> {
        self.check_ranges("environment")?;
        for (name, low, high) in [
            ("cart_mass", self.cart_mass_low, self.cart_mass_high),
            ("pole_mass", self.pole_mass_low, self.pole_mass_high),
            ("length", self.length_low, self.length_high),
        ] {
            if low > high {
                let key = format!("environment.{name}_low");
                let expected =
                    format!("must be at most `environment.{name}_high`, which is {high}");
                return Err(Error::setting(key, low, expected));
            }
        }
        Ok(Arc::new(CartPole(self.clone())))
    }
}

/// A pole on a cart.
#[derive(Clone, Debug)]
pub struct CartPole(CartPoleSettings);

/// What varies from task to task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pole {
    /// Mass of the cart, in kg.
    cart_mass: f64,
    /// m, in kg.
    mass: f64,
    /// l, in m.
    length: f64,
}

/// x, x', θ, θ'.
type Motion = [f64; 4];

impl Pole {
    /// (x'', θ'').
    fn accelerations(&self, motion: &Motion, force: f64) -> (f64, f64) {
        let [_, _, lean, turn] = *motion;
        let total = self.cart_mass + self.mass;
        let (sin, cos) = lean.sin_cos();
        let b = (force + self.mass * self.length * turn * turn * sin) / total;
        let inertia = self.length * (4.0 / 3.0 - self.mass * cos * cos / total);
        let turning = (GRAVITY * sin - cos * b) / inertia;
        (b - self.mass * self.length * turning * cos / total, turning)
    }

    /// A step of Euler's.
    fn advance(&self, motion: &mut Motion, force: f64, seconds: f64) {
        let (speeding, turning) = self.accelerations(motion, force);
        motion[0] += seconds * motion[1];
        motion[1] += seconds * speeding;
        motion[2] += seconds * motion[3];
        motion[3] += seconds * turning;
    }

    /// Gains K of the force F = −K · motion that minimises Σ (motionᵀ Q motion + R F²) of the linearised
    /// steps, with Q = diag(1, 1, 10, 1) and R = 0.01: the fixed point of Riccati's recursion.
    fn regulator(&self) -> [f64; 4] {
        // Columns of the steps' matrix, and of the force: the dynamics are linear near 0.
        let tiny = 1e-6;
        let column = |motion: Motion, force: f64| {
            let mut next = motion;
            self.advance(&mut next, force, STEP_SECONDS);
            next.map(|number| number / tiny)
        };
        let mut a = [[0.0; 4]; 4];
        for place in 0..4 {
            let mut motion = [0.0; 4];
            motion[place] = tiny;
            let next = column(motion, 0.0);
            for row in 0..4 {
                a[row][place] = next[row];
            }
        }
        let b = column([0.0; 4], tiny);
        let (q, r) = ([1.0, 1.0, 10.0, 1.0], 0.01);
        let mut p = [[0.0; 4]; 4];
        let mut gains = [0.0; 4];
        for _ in 0..2000 {
            // K = (R + bᵀ P b)⁻¹ bᵀ P A;  P ← Q + Aᵀ P (A − b K).
            let pb: Vec<f64> = p.iter().map(|row| dot(row, &b)).collect();
            let scale = r + pb.iter().zip(&b).map(|(x, y)| x * y).sum::<f64>();
            for (place, gain) in gains.iter_mut().enumerate() {
                *gain = (0..4).map(|row| pb[row] * a[row][place]).sum::<f64>() / scale;
            }
            let mut closed = a;
            for (row, force) in closed.iter_mut().zip(b) {
                for (number, gain) in row.iter_mut().zip(gains) {
                    *number -= force * gain;
                }
            }
            let product = |left: usize, right: usize| {
                let inner = |k: usize| (0..4).map(|l| p[k][l] * closed[l][right]).sum::<f64>();
                (0..4).map(|k| a[k][left] * inner(k)).sum::<f64>()
            };
            let mut next = [[0.0; 4]; 4];
            for (left, row) in next.iter_mut().enumerate() {
                for (right, number) in row.iter_mut().enumerate() {
                    *number = product(left, right) + if left == right { q[left] } else { 0.0 };
                }
            }
            p = next;
        }
        gains
    }
}

fn dot(left: &[f64; 4], right: &[f64; 4]) -> f64 {
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}

/// Pushes by the regulator's force, or in its direction.
struct Regulator {
    gains: [f64; 4],
    force: f64,
    continuous: bool,
}

impl Policy for Regulator {
    fn begin(&mut self, _stream: Stream) {}

    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let numbers = observation.iter().zip(self.gains);
        let wanted: f64 = -numbers.map(|(&at, gain)| f64::from(at) * gain).sum::<f64>();
        action[0] = if self.continuous {
            (wanted / self.force).clamp(-1.0, 1.0) as f32
        } else {
            f32::from(u8::from(wanted > 0.0))
        };
    }
}

impl Environment for CartPole {
    type Task = Pole;
    type State = Motion;

    const NAME: &'static str = CartPoleSettings::NAME;
    const VERSION: &'static str = "cart-pole 1";

    fn settings(&self) -> Vec<(&'static str, Value)> {
        self.0.entries()
    }

    fn observations(&self) -> Space {
        Space::cube(4, f32::NEG_INFINITY, f32::INFINITY)
    }

    fn actions(&self) -> Space {
        if self.0.continuous {
            Space::cube(1, -1.0, 1.0)
        } else {
            Space::Discrete(2)
        }
    }

    fn horizon(&self) -> usize {
        self.0.horizon
    }

    fn task_numbers(&self) -> usize {
        3
    }

    fn draw(&self, _split: Split, stream: &mut Stream) -> Pole {
        Pole {
            cart_mass: stream.uniform_in(self.0.cart_mass_low, self.0.cart_mass_high),
            mass: stream.uniform_in(self.0.pole_mass_low, self.0.pole_mass_high),
            length: stream.uniform_in(self.0.length_low, self.0.length_high),
        }
    }

    fn start(&self, _task: &Pole, noise: &mut Stream) -> Motion {
        [(); 4].map(|()| noise.uniform_in(-0.05, 0.05))
    }

    #[expect(
        clippy::manual_clamp,
        reason = "what is no number becomes a bound, which `clamp` keeps"
    )]
    fn step(
        &self,
        pole: &Pole,
        motion: &mut Motion,
        action: &[f32],
        _noise: &mut Stream,
    ) -> (f64, bool) {
        let share = if self.0.continuous {
            f64::from(action[0]).max(-1.0).min(1.0)
        } else {
            2.0 * index(action[0], 2) as f64 - 1.0
        };
        pole.advance(motion, share * self.0.force, STEP_SECONDS);
        let fallen = motion[0].abs() > FARTHEST || motion[2].abs() > LARGEST_LEAN;
        (1.0, fallen)
    }

    fn observe(&self, _pole: &Pole, motion: &Motion, observation: &mut [f32]) {
        for (to, &number) in observation.iter_mut().zip(motion) {
            *to = number as f32;
        }
    }

    fn describe(&self, pole: &Pole) -> Vec<f64> {
        vec![pole.cart_mass, pole.mass, pole.length]
    }

    fn best_return(&self, _pole: &Pole) -> Option<f64> {
        Some(self.0.horizon as f64)
    }

    fn oracle(&self, pole: &Pole) -> Option<Box<dyn Policy>> {
        Some(Box::new(Regulator {
            gains: pole.regulator(),
            force: self.0.force,
            continuous: self.0.continuous,
        }))
    }

    fn policy(&self, name: &str, settings: &Value) -> Result<MakePolicy> {
        random_policy(
            Environment::actions(self),
            name,
            settings,
            Environment::policies(self),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLE: Pole = Pole {
        cart_mass: 1.3,
        mass: 0.4,
        length: 0.7,
    };

    /// Lagrange's equations of a cart and a uniform rod, which the accelerations must solve:
    /// M x'' + m l (θ'' cos θ − θ'² sin θ) = F and m l x'' cos θ + 4/3 m l² θ'' = m g l sin θ.
    #[test]
    fn accelerations_solve_the_equations_of_motion() {
        let Pole {
            cart_mass,
            mass,
            length,
        } = POLE;
        for (lean, turn, force) in [(0.1, 0.5, 10.0), (-1.2, 2.0, -3.0), (2.9, -4.0, 0.0)] {
            let (speeding, turning) = POLE.accelerations(&[0.3, -0.2, lean, turn], force);
            let (sin, cos) = f64::sin_cos(lean);
            let push =
                (cart_mass + mass) * speeding + mass * length * (turning * cos - turn * turn * sin);
            let torque = mass * length * speeding * cos
                + 4.0 / 3.0 * mass * length * length * turning
                - mass * GRAVITY * length * sin;
            assert!((push - force).abs() < 1e-12 && torque.abs() < 1e-12);
        }
    }

    /// Without a force the energy stays. Euler's error falls with the step: a tenth of it, a tenth of the
    /// drift, to the second order of the step.
    #[test]
    fn energy_stays_but_for_the_error_of_the_step() {
        let energy = |[_, speed, lean, turn]: Motion| {
            let Pole {
                cart_mass,
                mass,
                length,
            } = POLE;
            0.5 * (cart_mass + mass) * speed * speed
                + mass * length * speed * turn * lean.cos()
                + 2.0 / 3.0 * mass * length * length * turn * turn
                + mass * GRAVITY * length * lean.cos()
        };
        let drift = |steps: u32| {
            let mut motion = [0.0, 0.1, 0.4, -0.3];
            let before = energy(motion);
            for _ in 0..steps {
                POLE.advance(&mut motion, 0.0, 1.0 / f64::from(steps));
            }
            energy(motion) - before
        };
        let ratio = drift(1_000) / drift(10_000);
        assert!((ratio - 10.0).abs() < 0.5, "{ratio}");
        assert!(drift(100_000).abs() < 1e-3);
    }

    /// Gymnasium 1.4's CartPole-v1 from a given state, with pushes 1 1 0 1 0 0 0 1. To rounding.
    ///
    /// ```python
    /// import gymnasium, numpy
    /// e = gymnasium.make("CartPole-v1").unwrapped
    /// e.reset()
    /// e.state = numpy.array([0.01, -0.02, 0.03, 0.04])
    /// for a in [1, 1, 0, 1, 0, 0, 0, 1]: e.step(a)
    /// print([float(x) for x in e.state])
    /// ```
    #[test]
    fn steps_are_those_of_gymnasium() {
        let pole = Pole {
            cart_mass: 1.0,
            mass: 0.1,
            length: 0.5,
        };
        let mut motion = [0.01, -0.02, 0.03, 0.04];
        for push in [1.0, 1.0, -1.0, 1.0, -1.0, -1.0, -1.0, 1.0] {
            pole.advance(&mut motion, 10.0 * push, STEP_SECONDS);
        }
        let expected = [
            0.030036403156414718,
            -0.021552939941453797,
            0.005197242565903231,
            0.07423737516925016,
        ];
        for (own, other) in motion.iter().zip(expected) {
            assert!((own - other).abs() < 1e-12, "{own} {other}");
        }
    }
}
