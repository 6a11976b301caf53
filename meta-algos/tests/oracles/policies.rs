//! Policies against PyTorch: `policies.py` in this folder trained them for `curves.json`, on recorded trials that both
//! sides compute. What is acted comes to the same: a policy learns from trials as they were recorded.

use meta_core::{data::EpisodeShape, learner::Learner, rl::Trial, rng::Seed};
use serde_json::{Value, json};

use super::{
    B, TASKS,
    curves::{Stream, first, train},
    device, encoder,
    maml_rl::acted_in,
};

const TRIALS: usize = 2;
const LONGEST: usize = 5;
const ACTIONS: usize = 3;
const AXES: usize = 2;
const NUMBERS: usize = 6;

/// A policy of a reference in Python, under the name that its curve has.
pub(super) struct Policy {
    pub(super) name: &'static str,
    learner: &'static str,
    settings: Value,
    continuous: bool,
}

impl Policy {
    fn new(name: &'static str, learner: &'static str, own: Value) -> Self {
        let mut settings = json!({"discount": 0.9, "gae_lambda": 0.8, "entropy_weight": 0.01});
        if learner == "dpt" {
            settings = json!({});
        }
        let own = own.as_object().expect("settings").clone();
        settings.as_object_mut().expect("settings").extend(own);
        Policy {
            name,
            learner,
            settings,
            continuous: name.ends_with("continuous"),
        }
    }

    /// Stages of an iteration: trials before and after the inner step.
    fn stages(&self) -> usize {
        if self.learner == "maml_rl" { 2 } else { 1 }
    }

    /// Numbers of a step that are not 0: of what `maml_rl` reads, observations alone.
    fn seen(&self) -> usize {
        match (self.learner, self.continuous) {
            ("maml_rl", true) => 2,
            ("maml_rl", false) => 1,
            _ => NUMBERS,
        }
    }

    /// The trial that `trial` of `policies.py` draws.
    fn trial(&self, stream: &mut Stream, [stage, task, place]: [usize; 3]) -> Trial {
        let mut trial = Trial {
            task: task as u64,
            stage,
            ..Trial::default()
        };
        for _ in 0..LONGEST - place {
            let mut row: Vec<f64> = (0..self.seen()).map(|_| stream.bell()).collect();
            row.resize(NUMBERS, 0.0);
            let (action, log, reward) = self.action(stream, &row);
            trial.inputs.extend(row.iter().map(|&number| number as f32));
            trial.actions.extend(action);
            trial.rewards.push(reward + 0.5 * stream.bell());
            trial.values.push(0.5 * stream.bell());
            trial.log_probabilities.push(log + 0.25 * stream.bell());
            trial.ends.push(false);
        }
        *trial.ends.last_mut().expect("steps") = true;
        trial
    }

    /// What is done where `row` is read, the logarithm of its probability, and what it gives.
    fn action(&self, stream: &mut Stream, row: &[f64]) -> (Vec<f32>, f64, f64) {
        if self.continuous {
            let action = [(); AXES].map(|()| stream.bell());
            let squares: f64 = action.iter().map(|a| a * a).sum();
            let log = -0.5 * squares - AXES as f64 * 0.5 * (2.0 * std::f64::consts::PI).ln();
            let missed = |(a, wanted): (&f64, &f64)| (a - wanted).powi(2);
            let reward = -action.iter().zip(row).map(missed).sum::<f64>();
            return (action.map(|a| a as f32).to_vec(), log, reward);
        }
        let mut action = (ACTIONS as f64 * stream.uniform()) as usize;
        if self.learner == "dpt" {
            let largest = row[..ACTIONS].iter().copied().fold(f64::MIN, f64::max);
            action = row
                .iter()
                .position(|&number| number == largest)
                .expect("one");
        }
        let reward = [row[0], -row[0], 0.0][action];
        (vec![action as f32], -(ACTIONS as f64).ln(), reward)
    }

    /// The loss of each of the first iterations of a training.
    pub(super) fn train(&self, seed: u64, iterations: usize) -> Vec<f64> {
        let (source, settings) = if self.continuous {
            ("navigation", json!({"horizon": LONGEST}))
        } else {
            let settings = json!({"arms": ACTIONS, "pulls": LONGEST});
            ("bernoulli_bandit", settings)
        };
        let shape = EpisodeShape::new(1, 1, TRIALS);
        // What the tasks are counts for nothing.
        let (spec, tasks) = acted_in(source, &settings, shape, TASKS as u64);
        assert_eq!(spec.item.features(), NUMBERS);
        let (name, settings, encoder) = (self.learner, &self.settings, encoder(&spec));
        let mut learner =
            meta_algos::build::<_, B>(name, settings, encoder, &spec, Seed(0), &device()).unwrap();
        learner.set_parameters(first(&learner.parameters(), seed));
        let mut stream = Stream(seed);
        let next = |learner: &mut dyn Learner<B>| {
            let (stages, mut trials) = (self.stages(), Vec::new());
            for stage in 0..stages {
                for task in 0..TASKS {
                    let mut trial = |place| self.trial(&mut stream, [stage, task, place]);
                    trials.extend((0..TRIALS).map(&mut trial));
                }
            }
            learner.gather(trials);
            tasks.clone()
        };
        train(learner.as_mut(), next, iterations)
    }
}

/// Those of `policies.py`.
pub(super) fn cases() -> Vec<Policy> {
    let rl2 = |unit: &str| json!({"unit": unit, "hidden": 3});
    let snail = json!({"keys": 3, "values": 2, "filters": 2});
    let dpt = json!({"width": 4, "heads": 2, "layers": 2, "hidden": 5});
    let maml = |surrogate: &str, order: &str| json!({"surrogate": surrogate, "order": order, "inner_lr": 0.05});
    vec![
        Policy::new("rl2", "rl2", rl2("gru")),
        Policy::new("rl2, lstm", "rl2", rl2("lstm")),
        Policy::new("rl2, continuous", "rl2", rl2("gru")),
        Policy::new("snail_policy", "snail_policy", snail),
        Policy::new("dpt", "dpt", dpt),
        Policy::new("maml_rl, dice", "maml_rl", maml("dice", "second")),
        Policy::new("maml_rl, lvc", "maml_rl", maml("lvc", "second")),
        Policy::new("maml_rl, score", "maml_rl", maml("score", "second")),
        Policy::new("maml_rl, first order", "maml_rl", maml("dice", "first")),
        Policy::new("maml_rl, continuous", "maml_rl", maml("dice", "second")),
    ]
}
