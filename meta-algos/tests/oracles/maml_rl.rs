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
//!
//! So is the step of TRPO.

use burn::tensor::Tensor;
use meta_core::{
    data::{Episode, EpisodeShape, Split, find_source},
    learner::Learner,
    nn::encoder::EncoderSpec,
    params::Params,
    rl::{self, Trial},
    rng::Seed,
    task::{TaskBatch, TaskSpec},
};
use serde_json::{Value, json};

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

/// The first `count` tasks of a source.
pub(super) fn acted_in(
    source: &str,
    settings: &Value,
    shape: EpisodeShape,
    count: u64,
) -> (TaskSpec, TaskBatch<B>) {
    let entry = find_source(&rl::sources(), source).unwrap();
    let source = (entry.build)(settings, None).unwrap();
    let spec = TaskSpec::of(source.as_ref(), shape);
    let episode = |task| source.episode(Seed(0), Split::Train, spec.train, task);
    let episodes: Vec<Episode> = (0..count).map(|task| episode(task).unwrap()).collect();
    let tasks = TaskBatch::new(&episodes, &spec, &device());
    (spec, tasks)
}

/// A learner with scores `z` that has gathered the four trials, and its task.
fn gathered(settings: &Value, z: [f64; 2]) -> (Box<dyn Learner<B>>, TaskBatch<B>) {
    let bandit = json!({"arms": 2, "pulls": 1});
    let (spec, tasks) = acted_in("bernoulli_bandit", &bandit, EpisodeShape::new(1, 2, 2), 1);
    let architecture = EncoderSpec::new("identity", &json!({}), spec.item).unwrap();
    let mut learner =
        meta_algos::build::<_, B>("maml_rl", settings, architecture, &spec, Seed(1), &device())
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
    (learner, tasks)
}

/// The first two numbers of a parameter: what stands for the arms where an episode's observation is read.
fn of(parameters: &Params<B>, name: &str) -> [f64; 2] {
    let all = host(parameters);
    let (_, values) = all.iter().find(|(found, _)| found == name).unwrap();
    [values[0], values[1]]
}

fn found(surrogate: &str, order: &str, z: [f64; 2]) -> [f64; 2] {
    let settings = json!({
        "inner_lr": RATE, "surrogate": surrogate, "order": order, "clip": 100.0,
    });
    let (learner, tasks) = gathered(&settings, z);
    // The loss is −J.
    of(&learner.meta_gradient(&tasks).gradients, "head.bias").map(|slope| -slope)
}

/// The policy after the inner step from scores `z`, and `∂(z'_0 − z'_1)/∂(z_0 − z_1)`.
fn after_the_step(z: [f64; 2], second: bool) -> ([f64; 2], f64) {
    let before = advantages(BEFORE);
    let (p, g) = (softmax(z), gradient(z, before));
    let value = p[0] * before[0] + p[1] * before[1];
    let moved = [0, 1].map(|a| z[a] + 2.0 * RATE * g[a]);
    let slope = |a: usize, b: usize| {
        let same = f64::from(u8::from(a == b));
        let hessian = p[a] * (same - p[b]) * (before[a] - value) - p[a] * g[b];
        same + if second { 2.0 * RATE * hessian } else { 0.0 }
    };
    let along = |a: usize| 0.5 * (slope(a, 0) - slope(a, 1));
    (softmax(moved), along(0) - along(1))
}

/// With one direction `u = z_0 − z_1` to move in, TRPO moves by `√(2δ / h)`, or 0.8^j of it, towards the higher
/// return: `h = (∂u'/∂u)² p'_0 p'_1` is the second derivative of the divergence of the policies after the inner
/// step, at second order through that step.
#[test]
fn the_step_of_trpo_on_a_bandit_is_its_closed_form() {
    for bound in [1e-4, 0.05] {
        for z in [[0.0, 0.0], [0.4, -0.3], [-1.1, 0.2]] {
            for order in ["second", "first"] {
                let settings = json!({
                    "inner_lr": RATE, "surrogate": "lvc", "order": order, "outer": "trpo",
                    "max_kl": bound, "cg_damping": 0.0,
                });
                let (learner, tasks) = gathered(&settings, z);
                let gradient = learner.meta_gradient(&tasks).gradients;
                let next = learner
                    .own_update(&gradient, &|| vec![tasks.clone()])
                    .expect("a step of its own");
                // Scores are the sum of the first row of the weight and of the bias.
                let (weight, bias) = (of(&next, "head.weight"), of(&next, "head.bias"));
                let moved = [weight[0] + bias[0], weight[1] + bias[1]];
                let by = (moved[0] - moved[1]) - (z[0] - z[1]);
                let is_second = order == "second";
                let (p, slope) = after_the_step(z, is_second);
                let whole = (2.0 * bound / (slope * slope * p[0] * p[1])).sqrt();
                let uphill = closed_form(z, is_second);
                assert!(by * (uphill[0] - uphill[1]) > 0.0, "{by}");
                let tries = (by.abs() / whole).ln() / 0.8f64.ln();
                assert!(
                    (tries - tries.round()).abs() < 1e-7 && tries < 14.5,
                    "{order}: {tries} tries"
                );
                let (q, _) = after_the_step(moved, is_second);
                let divergence: f64 = (0..2).map(|a| p[a] * (p[a] / q[a]).ln()).sum();
                assert!(divergence <= bound, "{divergence}");
                let value = |p: [f64; 2]| -> f64 {
                    p.iter().zip(advantages(AFTER)).map(|(p, a)| p * a).sum()
                };
                assert!(value(q) > value(p));
                // No try before was allowed, but for rounding.
                if tries > 0.5 {
                    let longer = by / 0.8 - by;
                    let further = [moved[0] + 0.5 * longer, moved[1] - 0.5 * longer];
                    let (q, _) = after_the_step(further, is_second);
                    let divergence: f64 = (0..2).map(|a| p[a] * (p[a] / q[a]).ln()).sum();
                    assert!(divergence > bound || value(q) <= value(p));
                }
            }
        }
    }
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
