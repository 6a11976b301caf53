//! A policy with a memory, and the learner of any memory.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, TensorData, backend::Backend},
};
use burn_autodiff::Autodiff;
use serde::{Deserialize, Serialize};

use super::{
    histories::histories,
    memory::Memory,
    ppo::{self, Distribution, PpoSettings, TrialBatch, Weighed},
};
use crate::{
    Error, Result,
    data::Actions,
    learner::{Explanation, Learner, MetaGradient, New, Passes, PredictAt},
    nn::{
        Pass,
        encoder::{Architecture, Encoder},
        init::{Initializer, constant},
        linear::Linear,
        norm::Statistics,
    },
    params::Params,
    primitives::Primitives,
    rl::{ActingWorld, Choices, Moment, Trial, run_together},
    rng::Stream,
    settings,
    task::{TaskBatch, TaskSpec},
};

/// How a policy acts when it is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtTest {
    /// At random, with the probabilities that it gives, as in training.
    Sample,
    /// The action with the highest probability; the mean of a continuous one.
    Best,
}

settings! {
    /// Settings of policies with a memory.
    pub struct PolicySettings {
        /// Actions at validation and test: `sample`, with the policy's probabilities, or the `best` one.
        at_test: AtTest = AtTest::Sample;
        /// Standard deviation of continuous actions at the beginning.
        deviation: f64 = 1.0, above(0.0);
        ..ppo: PpoSettings;
    }
}

/// What a policy learns from.
#[derive(Clone, Debug)]
pub enum Training {
    /// From what its own actions gave.
    Ppo(PpoSettings),
    /// From the best actions, by policies that know the tasks, in trials of random ones ([`histories`]); in
    /// so many parts of a meta-batch.
    BestActions(usize),
}

/// How a policy acts and what it learns from.
#[derive(Clone, Debug)]
pub struct PolicyPlan {
    /// How it acts when it is tested.
    pub at_test: AtTest,
    /// Standard deviation of continuous actions at the beginning.
    pub deviation: f64,
    /// What it learns from.
    pub training: Training,
}

impl From<PolicySettings> for PolicyPlan {
    fn from(settings: PolicySettings) -> Self {
        PolicyPlan {
            at_test: settings.at_test,
            deviation: settings.deviation,
            training: Training::Ppo(settings.ppo),
        }
    }
}

/// An encoder, a memory and two heads.
#[derive(Module, Debug)]
pub struct Policy<B: Backend, E, M> {
    encoder: E,
    memory: M,
    actions: Linear<B>,
    value: Linear<B>,
    /// Logarithms of the deviations of continuous actions, `[1, 1, w]`.
    deviations: Option<Param<Tensor<B, 3>>>,
}

impl<B: Primitives, E: Encoder<B>, M> Policy<B, E, M> {
    /// Distributions of actions and values over their scale, from `m [t, b, width]`.
    fn heads(&self, m: Tensor<B, 3>) -> (Distribution<B>, Tensor<B, 3>) {
        let values = self.value.forward(m.clone());
        let actions = self.actions.forward(m);
        let distribution = match &self.deviations {
            None => Distribution::Categorical(actions),
            Some(deviations) => Distribution::Normal(actions, deviations.val()),
        };
        (distribution, values)
    }
}

/// The parameters of the heads are smaller than those of Glorot and Bengio by this factor, so that a fresh
/// policy is nearly uniform.
const SMALL: f64 = 0.01;

/// A policy with a memory, trained by [`ppo`].
pub struct PolicyLearner<A, M, B: Primitives> {
    architecture: A,
    memory: M,
    plan: PolicyPlan,
    actions: Actions,
    /// Steps of the longest trial that is trained on; of each, what a policy reads.
    steps: usize,
    /// Episodes of a trial.
    episodes: usize,
    device: B::Device,
    parameters: Params<B>,
    /// What it learns from, ordered by task.
    gathered: Vec<Weighed>,
}

impl<A: Architecture, M: Memory, B: Primitives> PolicyLearner<A, M, B> {
    /// The learner that remembers by `memory`.
    pub fn boxed(memory: M, plan: PolicyPlan, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let mut learner = PolicyLearner {
            architecture: new.architecture,
            memory,
            plan,
            actions: actions(new.spec),
            steps: 0,
            episodes: new.spec.train.shot.0,
            device: new.device.clone(),
            parameters: Params::default(),
            gathered: Vec::new(),
        };
        learner.steps = new.spec.trial_steps(new.spec.train);
        let model = learner.init::<B>(&mut Initializer::seeded(new.seed));
        learner.parameters = Params::of(&model);
        Box::new(learner)
    }

    fn init<L: Primitives<Device = B::Device>>(
        &self,
        initializer: &mut Initializer,
    ) -> Policy<L, A::Model<L>, M::Model<L>> {
        let device = &self.device;
        let encoder = self.architecture.init(initializer, device);
        let inputs = self.architecture.width();
        let memory = self.memory.init(inputs, self.steps, initializer, device);
        let width = self.memory.width(inputs, self.steps);
        let (outputs, deviations) = match self.actions {
            Actions::Discrete(count) => (count, None),
            Actions::Continuous(count) => {
                let start = self.plan.deviation.ln();
                (count, Some(constant(start, [1, 1, count], device)))
            }
        };
        let bound = SMALL * (6.0 / (width + outputs) as f64).sqrt();
        Policy {
            encoder,
            memory,
            actions: Linear {
                weight: initializer.uniform([1, width, outputs], bound, device),
                bias: constant(0.0, [1, 1, outputs], device),
            },
            value: Linear {
                weight: initializer.uniform([1, width, 1], bound, device),
                bias: constant(0.0, [1, 1, 1], device),
            },
            deviations,
        }
    }

    fn model<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
    ) -> Policy<L, A::Model<L>, M::Model<L>> {
        parameters.write_into(self.init::<L>(&mut Initializer::zeros()))
    }

    /// The trials, ordered by task, with what their steps are weighed by.
    fn weigh(&self, mut trials: Vec<Trial>) -> Vec<Weighed> {
        trials.sort_by_key(|trial| trial.task);
        match &self.plan.training {
            Training::Ppo(ppo) => ppo::weigh(trials, ppo.discount, ppo.gae_lambda),
            Training::BestActions(_) => trials.into_iter().map(Weighed::alike).collect(),
        }
    }

    fn scale(&self) -> f64 {
        match &self.plan.training {
            Training::Ppo(ppo) => ppo::value_scale(ppo.discount, self.steps),
            Training::BestActions(_) => 1.0,
        }
    }

    /// Acts in `trials` trials of each task.
    fn trials(
        &self,
        tasks: &TaskBatch<B>,
        trials: usize,
        episodes: usize,
        at: AtTest,
    ) -> Result<Vec<Trial>> {
        let world = ActingWorld::of(tasks.world.as_ref());
        let family = world.family.as_ref();
        let model = self.model(self.parameters.clone());
        let t = tasks.tasks();
        let mut state = self
            .memory
            .begin::<B>(&model.memory, [t, trials], &self.device);
        let scale = self.scale();
        run_together(
            family,
            world.lanes(&tasks.episodes, trials),
            episodes,
            |moment| {
                let Moment {
                    inputs, goes_on, ..
                } = moment;
                let lanes = goes_on.len();
                let read = TensorData::new(inputs.to_vec(), [t, trials, inputs.len() / lanes]);
                let read = Tensor::<B, 3>::from_data(read, &self.device);
                let z = model.encoder.forward(read, &Pass::evaluation());
                let going = (!goes_on.iter().all(|&goes| goes)).then(|| {
                    let going = goes_on.iter().map(|&goes| f32::from(u8::from(goes)));
                    let going = TensorData::new(going.collect::<Vec<f32>>(), [t, trials, 1]);
                    Tensor::<B, 3>::from_data(going, &self.device)
                });
                let m = self.memory.step(&model.memory, z, going, &mut state);
                let (distribution, values) = model.heads(m);
                let (said, deviations) = match distribution {
                    Distribution::Categorical(scores) => (scores, None),
                    Distribution::Normal(means, logs) => (means, Some(numbers(logs))),
                };
                let said = numbers(said);
                let mut choices = choose(&said, deviations.as_deref(), at, moment);
                choices.values = numbers(values).iter().map(|value| scale * value).collect();
                choices
            },
        )
    }

    /// The returns of `data.query` trials of each task, `[t, q, 1]`.
    fn returns(&self, tasks: &TaskBatch<B>) -> Tensor<B, 3> {
        let (t, q) = (tasks.tasks(), tasks.shape.query.0);
        let trials = self.trials(tasks, q, tasks.shape.shot.0, self.plan.at_test);
        // A batch that is too large for its environments has no return.
        let totals: Vec<f32> = match trials {
            Ok(trials) => trials.iter().map(|trial| trial.total() as f32).collect(),
            Err(_) => vec![f32::NAN; t * q],
        };
        Tensor::from_data(TensorData::new(totals, [t, q, 1]), &self.device)
    }
}

/// What is done in the tasks of `spec`.
pub fn actions(spec: &TaskSpec) -> Actions {
    match spec.task {
        crate::data::Task::Acting { actions, .. } => actions,
        _ => Actions::Discrete(spec.outputs()),
    }
}

fn numbers<B: Primitives>(tensor: Tensor<B, 3>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Checks that a policy can act with this encoder: the same in a step as in a whole trial.
///
/// # Errors
/// [`Error::Setting`] naming the normalisation.
pub fn check<A: Architecture>(architecture: &A) -> Result<()> {
    let statistics = architecture.statistics();
    if matches!(statistics, Statistics::None | Statistics::Layer) {
        return Ok(());
    }
    let name = serde_json::to_value(statistics).unwrap_or_default();
    let name = name.as_str().unwrap_or_default().to_owned();
    let expected = "averages over items, and a policy reads one at a time; take `none` or `layer`, or another \
                    encoder";
    Err(Error::setting("encoder.norm", name, expected))
}

/// What is chosen at a moment by what a policy says, `said [lanes, outputs]`, and how probable that was. Only
/// lanes that go on draw. `log_deviations` are those of continuous actions, of all tasks alike or of each.
pub fn choose(
    said: &[f64],
    log_deviations: Option<&[f64]>,
    choose: AtTest,
    moment: Moment<'_>,
) -> Choices {
    let Moment {
        goes_on, streams, ..
    } = moment;
    let mut choices = Choices {
        values: vec![0.0; streams.len()],
        ..Choices::default()
    };
    let lanes = streams.len();
    let outputs = said.len() / lanes.max(1);
    // Of one task after the other, or of all tasks alike.
    let of_tasks = log_deviations.map(|logs| logs.chunks_exact(outputs).collect::<Vec<_>>());
    for (lane, (row, stream)) in said.chunks_exact(outputs).zip(streams).enumerate() {
        if !goes_on[lane] {
            let width = if of_tasks.is_some() { outputs } else { 1 };
            choices.actions.extend(std::iter::repeat_n(0.0, width));
            choices.log_probabilities.push(0.0);
            continue;
        }
        let log = match &of_tasks {
            None => discrete(row, choose, stream, &mut choices.actions),
            Some(of_tasks) => {
                let logs = of_tasks[lane * of_tasks.len() / lanes];
                continuous(row, logs, choose, stream, &mut choices.actions)
            }
        };
        choices.log_probabilities.push(log);
    }
    choices
}

/// Chooses by scores; the logarithm of the probability of what is chosen.
fn discrete(scores: &[f64], choose: AtTest, stream: &mut Stream, to: &mut Vec<f32>) -> f64 {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
    // Drawn in either case, so that both see the same numbers after.
    let mut left = stream.uniform() * total;
    let mut chosen = 0;
    for (place, score) in scores.iter().enumerate() {
        match choose {
            AtTest::Sample => {
                chosen = place;
                left -= (score - largest).exp();
                if left < 0.0 {
                    break;
                }
            }
            AtTest::Best if *score > scores[chosen] => chosen = place,
            AtTest::Best => {}
        }
    }
    to.push(chosen as f32);
    scores[chosen] - largest - total.ln()
}

/// Draws around means; the logarithm of the density of what is drawn.
fn continuous(
    means: &[f64],
    log_deviations: &[f64],
    choose: AtTest,
    stream: &mut Stream,
    to: &mut Vec<f32>,
) -> f64 {
    let mut log = 0.0;
    for (mean, log_deviation) in means.iter().zip(log_deviations) {
        let drawn = stream.normal();
        let z = match choose {
            AtTest::Sample => drawn,
            AtTest::Best => 0.0,
        };
        to.push((mean + log_deviation.exp() * z) as f32);
        log -= 0.5 * (z * z + (2.0 * std::f64::consts::PI).ln()) + log_deviation;
    }
    log
}

impl<A: Architecture, M: Memory, B: Primitives> Learner<B> for PolicyLearner<A, M, B> {
    fn parameters(&self) -> Params<B> {
        self.parameters.clone()
    }

    fn set_parameters(&mut self, parameters: Params<B>) {
        self.parameters = Params::of(&self.model(parameters));
    }

    fn act(&self, tasks: &TaskBatch<B>) -> Result<Option<Vec<Trial>>> {
        let trials = tasks.shape.query.0;
        let all = match &self.plan.training {
            Training::Ppo(_) => self.trials(tasks, trials, self.episodes, AtTest::Sample),
            Training::BestActions(_) => {
                let world = ActingWorld::of(tasks.world.as_ref());
                histories(world, &tasks.episodes, trials, self.episodes)
            }
        };
        all.map(Some)
    }

    fn gather(&mut self, trials: Vec<Trial>) -> Passes {
        self.gathered = self.weigh(trials);
        match &self.plan.training {
            Training::Ppo(ppo) => Passes {
                epochs: ppo.epochs,
                parts: ppo.minibatches,
            },
            Training::BestActions(parts) => Passes {
                epochs: 1,
                parts: *parts,
            },
        }
    }

    /// Of the trials that were gathered; of new ones where there are none.
    fn meta_gradient(&self, tasks: &TaskBatch<B>) -> MetaGradient<B> {
        let fresh;
        let mut gathered = &self.gathered;
        if gathered.is_empty() {
            fresh = self.weigh(self.act(tasks).ok().flatten().unwrap_or_default());
            gathered = &fresh;
        }
        let trials =
            TrialBatch::<Autodiff<B>>::of(gathered, &tasks.episodes, self.actions, &self.device);
        let leaves = self.parameters.clone().lift::<Autodiff<B>>();
        let model = self.model(leaves.clone());
        // As it acted: nothing is drawn inside.
        let pass = Pass::evaluation();
        let z = model.encoder.forward(trials.inputs.clone(), &pass);
        let m = self.memory.read(&model.memory, z, trials.length, &pass);
        let (distribution, values) = model.heads(m);
        let losses = match &self.plan.training {
            Training::Ppo(ppo) => ppo::losses(ppo, self.scale(), &trials, distribution, values),
            Training::BestActions(_) => {
                let [logs, _] = distribution.of_actions(trials.actions.clone());
                let [t, _, _] = logs.dims();
                -(logs * trials.weights.clone()).sum_dim(1).reshape([t])
            }
        };
        MetaGradient {
            gradients: leaves.gradients(&losses.clone().mean().backward()),
            buffers: Params::default(),
            losses: losses.inner(),
            scores: trials.scores.inner(),
        }
    }

    fn predict(&self, tasks: &TaskBatch<B>, _at: PredictAt) -> Vec<Tensor<B, 3>> {
        vec![self.returns(tasks)]
    }

    /// A trial of each task, and what its steps attended to.
    fn explain(&self, tasks: &TaskBatch<B>) -> Explanation<B> {
        let episodes = tasks.shape.shot.0;
        let trials = self.trials(tasks, 1, episodes, self.plan.at_test);
        let trials = trials.unwrap_or_default();
        let pass = Pass::evaluation().recording();
        if !trials.is_empty() {
            let mut alike: Vec<Weighed> = trials.iter().cloned().map(Weighed::alike).collect();
            alike.sort_by_key(|own| own.trial.task);
            let batch = TrialBatch::<B>::of(&alike, &tasks.episodes, self.actions, &self.device);
            let model = self.model(self.parameters.clone());
            let z = model.encoder.forward(batch.inputs, &pass);
            self.memory.read(&model.memory, z, batch.length, &pass);
        }
        Explanation {
            predictions: vec![self.returns(tasks)],
            maps: pass.recorded(),
            movement: Vec::new(),
            trials,
        }
    }
}
