//! A policy that is known, for comparison: Thompson sampling, Gittins index, PSRL, or one that knows the task.
//!
//! Nothing is learned across tasks. Each family of environments has its own; `best` is the policy
//! that knows the task, where the family has it. They act in the very trials that learners are tested in, and
//! meet the same chance, so that `meta compare` pairs them. `docs/acting.md` has their rules and sources.
//!
//! # Differences from the paper
//! Those of `docs/acting.md`.

use burn::tensor::{Tensor, TensorData};
use meta_core::{
    Error, Result,
    learner::{
        Explanation, Family, GradientOf, Learner, LearnerInfo, LearnerSettings, MetaGradient, New,
        PredictAt, Toy,
    },
    nn::encoder::Architecture,
    params::Params,
    primitives::Primitives,
    rl::{
        ActingWorld, Policy, RandomPolicy, Transition, Trial, input_width, run_trials, watch_trials,
    },
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::{Value, json};

settings! {
    /// Settings of a known policy.
    pub struct ReferencePolicySettings {
        /// Its name: of bandits `random`, `greedy`, `epsilon_greedy`, `ucb1`, `thompson` or `gittins`, of
        /// Markov decision problems `random`, `greedy`, `epsilon_greedy`, `psrl`, `opsrl`, `ucrl2` or `beb`,
        /// of others `random`; `best` knows the task.
        policy: String = "random".to_owned();
    }
}

/// The names that some family has.
const NAMES: [&str; 11] = [
    "random",
    "greedy",
    "epsilon_greedy",
    "ucb1",
    "thompson",
    "gittins",
    "psrl",
    "opsrl",
    "ucrl2",
    "beb",
    "best",
];

impl LearnerSettings for ReferencePolicySettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "reference_policy",
        family: Family::Baseline,
        summary: "a known policy, such as Thompson sampling, to compare with",
        paper: "Thompson, On the likelihood that one unknown probability exceeds another, 1933, and others",
        regression: false,
        any_way: false,
    };

    const ACTS: bool = true;

    fn check<A: Architecture>(&self, _architecture: &A, _spec: &TaskSpec) -> Result<()> {
        if NAMES.contains(&self.policy.as_str()) {
            return Ok(());
        }
        Err(Error::unknown("policy", &self.policy, NAMES))
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Neither("nothing is learned", vec![json!({})])
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"policy": "thompson"}),
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        Box::new(ReferencePolicy::<B> {
            policy: self.policy,
            device: new.device.clone(),
        })
    }
}

/// Sees every step of every lane.
type Watch<'a> = &'a mut dyn FnMut(usize, &Transition<'_>);

/// The known policy, on a backend that it does not need.
struct ReferencePolicy<B: Primitives> {
    policy: String,
    device: B::Device,
}

impl<B: Primitives> ReferencePolicy<B> {
    /// Runs so many trials of each task, which may be watched: the total reward of each.
    fn run(
        &self,
        tasks: &TaskBatch<B>,
        trials: usize,
        watch: Option<Watch<'_>>,
    ) -> Result<Vec<f32>> {
        let world = ActingWorld::of(tasks.world.as_ref());
        let family = world.family.as_ref();
        let episodes = tasks.shape.shot.0;
        let make = match self.policy.as_str() {
            "best" => None,
            name => Some(family.policy(name, &Value::Null)?),
        };
        let lanes = world.lanes(&tasks.episodes, trials);
        let policy = |lane: usize| -> Box<dyn Policy> {
            let task = tasks.episodes[lane / trials];
            match &make {
                Some(make) => make(),
                None => match family.oracle(world.seed, world.split, task) {
                    Some(oracle) => oracle,
                    None => Box::new(RandomPolicy::new(&family.actions())),
                },
            }
        };
        let returns = match watch {
            Some(watch) => watch_trials(family, lanes, episodes, policy, watch),
            None => run_trials(family, lanes, episodes, policy),
        }?;
        let totals = returns.chunks(episodes.max(1));
        Ok(totals
            .map(|trial| trial.iter().sum::<f64>() as f32)
            .collect())
    }

    /// One trial of each task. Of what it read, the observation alone is kept.
    fn trials(&self, tasks: &TaskBatch<B>) -> Result<Vec<Trial>> {
        let world = ActingWorld::of(tasks.world.as_ref());
        let (seen, width) = (
            world.family.observations(),
            input_width(world.family.as_ref()),
        );
        let of_task = |&task: &u64| Trial {
            task,
            ..Trial::default()
        };
        let mut trials: Vec<Trial> = tasks.episodes.iter().map(of_task).collect();
        let mut watch = |lane: usize, step: &Transition<'_>| {
            let trial = &mut trials[lane];
            let to = trial.inputs.len();
            trial.inputs.resize(to + width, 0.0);
            let place = &mut trial.inputs[to..][..seen.encoded_width()];
            seen.encode(step.observation, place);
            trial.actions.extend_from_slice(step.action);
            trial.rewards.push(f64::from(step.reward));
            trial.ends.push(step.done);
            trial.log_probabilities.push(0.0);
            trial.values.push(0.0);
        };
        self.run(tasks, 1, Some(&mut watch))?;
        Ok(trials)
    }
}

impl<B: Primitives> Learner<B> for ReferencePolicy<B> {
    fn parameters(&self) -> Params<B> {
        Params::default()
    }

    fn set_parameters(&mut self, _parameters: Params<B>) {}

    fn act(&self, _tasks: &TaskBatch<B>) -> Result<Option<Vec<Trial>>> {
        Ok(Some(Vec::new()))
    }

    fn meta_gradient(&self, tasks: &TaskBatch<B>) -> MetaGradient<B> {
        let zeros = Tensor::zeros([tasks.tasks()], &self.device);
        MetaGradient {
            gradients: Params::default(),
            buffers: Params::default(),
            losses: zeros.clone(),
            scores: zeros,
        }
    }

    fn predict(&self, tasks: &TaskBatch<B>, _at: PredictAt) -> Vec<Tensor<B, 3>> {
        let shape = [tasks.tasks(), tasks.shape.query.0, 1];
        // A policy that the family does not have has no return; training settings are checked before.
        let returns = self.run(tasks, tasks.shape.query.0, None);
        let returns = returns.unwrap_or_else(|_| vec![f32::NAN; shape[0] * shape[1]]);
        vec![Tensor::from_data(
            TensorData::new(returns, shape),
            &self.device,
        )]
    }

    /// A trial of each task.
    fn explain(&self, tasks: &TaskBatch<B>) -> Explanation<B> {
        Explanation {
            predictions: self.predict(tasks, PredictAt::LastStep),
            maps: Vec::new(),
            movement: Vec::new(),
            trials: self.trials(tasks).unwrap_or_default(),
        }
    }
}
