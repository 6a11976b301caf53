//! Optimisers against PyTorch's, and through an autodiff level.

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use meta_core::{
    optim::{OptimizerKind, OptimizerSettings, OptimizerState, UpdateSettings, step},
    params::Params,
};

use crate::support::{B, device, tensor, values};

fn settings(optimizer: OptimizerKind) -> OptimizerSettings {
    OptimizerSettings {
        optimizer,
        update: UpdateSettings {
            momentum: 0.7,
            beta1: 0.8,
            beta2: 0.95,
            epsilon: 1e-8,
            epsilon_root: 0.0,
            weight_decay: 0.05,
        },
    }
}

fn params(theta: Tensor<B, 1>) -> Params<B> {
    let mut params = Params::default();
    params.push("theta", theta);
    params
}

/// Three steps on `Σ θ⁴ / 4`; the numbers are PyTorch 2.9.0's, by `tests/oracles/optimizers.py`.
#[test]
fn three_steps_equal_pytorch() {
    let expected = [
        (
            OptimizerKind::Adam,
            [0.708979888783630, -1.703485775308587, 0.221841599614886],
        ),
        (
            OptimizerKind::AdamW,
            [0.696722744108515, -1.675647331207467, 0.221637542799207],
        ),
        (
            OptimizerKind::Sgd,
            [0.595435001905300, 0.081758436856477, 0.431553889489613],
        ),
    ];
    for (kind, expected) in expected {
        let mut theta = params(tensor(vec![1.0, -2.0, 0.5], [3]));
        let mut state = OptimizerState::new();
        for _ in 0..3 {
            let gradient = params(theta.get::<1>("theta").unwrap().powi_scalar(3));
            (theta, state) = step(&settings(kind), 0.1, theta, &gradient, state);
        }
        assert_eq!(state.step, 3);
        let found = values(theta.get::<1>("theta").unwrap());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-14,
                "{kind:?}: {found} {expected}"
            );
        }
    }
}

/// `∂/∂θ (θ − η g(θ))` with `g = θ³` is `1 − 3 η θ²`: a step is differentiable.
#[test]
fn a_step_is_differentiated() {
    let plain = OptimizerSettings {
        optimizer: OptimizerKind::Sgd,
        update: UpdateSettings::default(),
    };
    let leaf = Tensor::<Autodiff<B>, 1>::from_data([0.5, -2.0], &device()).require_grad();
    let mut theta = Params::default();
    theta.push("theta", leaf.clone());
    let mut gradient = Params::default();
    gradient.push("theta", leaf.clone().powi_scalar(3));
    let (moved, _) = step(&plain, 0.1, theta, &gradient, OptimizerState::new());
    let sum = moved.get::<1>("theta").unwrap().sum();
    let found = values(leaf.grad(&sum.backward()).unwrap());
    for (found, theta) in found.iter().zip([0.5f64, -2.0]) {
        assert!((found - (1.0 - 0.3 * theta * theta)).abs() < 1e-12);
    }
}
