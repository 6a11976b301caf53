//! The meta-gradient of `maml_rl` on a two-armed bandit against its closed form, by exact enumeration.
//!
//! One trial for each arm, each with the recorded probability ½, stands for all trials: the mean of `ρ A` over
//! them is `J(z) = Σ_a π_z(a) A_a` for every `z`. With scores `z = w + b` of a linear policy that sees a 1,
//!
//! ```text
//! g_a = ∂J/∂z_a = π_a (A_a − J),     H_ab = ∂g_a/∂z_b = π_a (δ_ab − π_b) (A_a − J) − π_a g_b
//! z'  = z + 2α g(z)                  (w and b move alike)
//! ∂J(z')/∂b = (I + 2α H(z)) g(z')
//! ```

use burn::tensor::Tensor;
use meta_core::{
    data::{Episode, EpisodeShape, Split, find_source},
    nn::encoder::EncoderSpec,
    params::Params,
    rl::{self, Trial},
    rng::Seed,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

use super::{B, device, host};

const RATE: f64 = 0.7;

/// What the arms pay, before and after the step; of the order of their advantages, deviation 1 and mean 0.
const BEFORE: [f64; 2] = [0.9, 0.2];
const AFTER: [f64; 2] = [0.3, 0.8];

/// A trial of one pull, recorded with probability ½.
fn pull(stage: usize, arm: usize, reward: f64) -> Trial {
    Trial {
        task: 0,
        stage,
        inputs: vec![1.0, 0.0, 0.0, 0.0, 0.0],
        actions: vec![arm as f32],
        rewards: vec![reward],
        ends: vec![true],
        log_probabilities: vec![0.5f64.ln()],
        values: vec![0.0],
    }
}

fn softmax(z: [f64; 2]) -> [f64; 2] {
    let first = 1.0 / (1.0 + (z[1] - z[0]).exp());
    [first, 1.0 - first]
}

fn gradient(z: [f64; 2], advantages: [f64; 2]) -> [f64; 2] {
    let p = softmax(z);
    let value = p[0] * advantages[0] + p[1] * advantages[1];
    [0, 1].map(|a| p[a] * (advantages[a] - value))
}

/// Centred, over a deviation of at least 10⁻⁸, as the learner has them.
fn advantages(rewards: [f64; 2]) -> [f64; 2] {
    let centre = 0.5 * (rewards[0] + rewards[1]);
    let deviation = (rewards[0] - centre).abs() + 1e-8;
    rewards.map(|reward| (reward - centre) / deviation)
}

fn closed_form(z: [f64; 2], second: bool) -> [f64; 2] {
    let (before, after) = (advantages(BEFORE), advantages(AFTER));
    let (p, g) = (softmax(z), gradient(z, before));
    let value = p[0] * before[0] + p[1] * before[1];
    let moved = [0, 1].map(|a| z[a] + 2.0 * RATE * g[a]);
    let outer = gradient(moved, after);
    [0, 1].map(|b| {
        let through = |a: usize| {
            let same = f64::from(u8::from(a == b));
            let hessian = p[a] * (same - p[b]) * (before[a] - value) - p[a] * g[b];
            let step = if second { 2.0 * RATE * hessian } else { 0.0 };
            (same + step) * outer[a]
        };
        through(0) + through(1)
    })
}

fn found(surrogate: &str, order: &str, z: [f64; 2]) -> [f64; 2] {
    let entry = find_source(&rl::sources(), "bernoulli_bandit").unwrap();
    let source = (entry.build)(&json!({"arms": 2, "pulls": 1}), None).unwrap();
    let spec = TaskSpec::of(source.as_ref(), EpisodeShape::new(1, 2, 2));
    let episode: Episode = source
        .episode(Seed(0), Split::Train, spec.train, 0)
        .unwrap();
    let tasks = TaskBatch::<B>::new(&[episode], &spec, &device());
    let settings = json!({
        "inner_lr": RATE, "surrogate": surrogate, "order": order, "clip": 100.0,
    });
    let architecture = EncoderSpec::new("identity", &json!({}), spec.item).unwrap();
    let mut learner = meta_algos::build::<_, B>(
        "maml_rl",
        &settings,
        architecture,
        &spec,
        Seed(1),
        &device(),
    )
    .unwrap();
    let mut parameters = learner.parameters();
    let mut set = |name: &str, values: Vec<f64>, shape: [usize; 3]| {
        let data = burn::tensor::TensorData::new(values, shape);
        let mut one = Params::default();
        one.push(name, Tensor::<B, 3>::from_data(data, &device()));
        parameters = parameters.clone().overwrite(one);
    };
    set("head.weight", vec![0.0; 10], [1, 5, 2]);
    set("head.bias", z.to_vec(), [1, 1, 2]);
    learner.set_parameters(parameters);
    let stages = [BEFORE, AFTER].into_iter().enumerate();
    let trials =
        stages.flat_map(|(stage, rewards)| [0, 1].map(|arm| pull(stage, arm, rewards[arm])));
    learner.gather(trials.collect());
    let gradients = host(&learner.meta_gradient(&tasks).gradients);
    let (_, bias) = gradients
        .iter()
        .find(|(name, _)| name == "head.bias")
        .unwrap();
    // The loss is −J.
    [-bias[0], -bias[1]]
}

#[test]
fn the_meta_gradient_on_a_bandit_is_its_closed_form() {
    for z in [[0.0, 0.0], [0.4, -0.3], [-1.1, 0.2]] {
        for order in ["second", "first"] {
            let expected = closed_form(z, order == "second");
            for surrogate in ["dice", "lvc"] {
                let found = found(surrogate, order, z);
                for (found, expected) in found.iter().zip(expected) {
                    assert!(
                        (found - expected).abs() < 1e-8,
                        "{surrogate}: {found}, {expected}"
                    );
                }
            }
        }
    }
    // The score's own derivative leaves a term out, and its mean over recorded trials is another gradient.
    let (expected, found) = (
        closed_form([0.4, -0.3], true),
        found("score", "second", [0.4, -0.3]),
    );
    assert!((found[0] - expected[0]).abs() > 1e-3);
}
