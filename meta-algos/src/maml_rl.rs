//! MAML for reinforcement learning: a policy from which one policy-gradient step leads far.
//!
//! Finn, Abbeel and Levine, *Model-agnostic meta-learning for fast adaptation of deep networks*, ICML 2017,
//! section 3.2 and algorithm 3. Surrogates: Foerster et al., *DiCE: The infinitely differentiable Monte Carlo
//! estimator*, ICML 2018; Farquhar, Whiteson and Foerster, *Loaded DiCE*, NeurIPS 2019; Rothfuss, Lee, Clavera,
//! Asfour and Abbeel, *ProMP: Proximal meta-policy search*, ICLR 2019. Baseline: Duan et al., *Benchmarking deep
//! reinforcement learning for continuous control*, ICML 2016.
//!
//! In a task, the policy acts in `data.shot` episodes, takes a step, acts again. With `ρ_t = π_θ(a_t | o_t) / ⊥`,
//! where `⊥` is the probability that the action had, and advantages `Â_t` over a linear baseline:
//!
//! ```text
//! L(θ) = −mean over steps of ρ_t Â_t                              `lvc` (ProMP, eq. 6)
//!        −mean of (Π_{u ≤ t} ρ_u − Π_{u < t} ρ_u) Â_t             `dice` (Loaded DiCE, eq. 10)
//!        −mean of ln π_θ(a_t | o_t) Â_t                           `score` (Finn et al., eq. 4)
//! θ'   = θ − α ∇L(θ),  once for each inner step, on new episodes
//! meta-gradient = ∇_θ mean over tasks of L_PPO(θ'), on `data.query` episodes of θ'          outer = "ppo"
//!                 ∇_θ mean over tasks of −mean of ρ_t Â_t, at θ'                             outer = "trpo"
//! ```
//!
//! With `trpo`, θ moves by one step within a trust region ([`trpo`]): the mean divergence of the policies after
//! adaptation, `mean KL(π_θ' ‖ π_θ̃')` on those episodes, stays below `max_kl`; its Hessian goes through the inner
//! steps, too. The outer optimiser, its rate and clipping then have no say.
//!
//! All three have the gradient of the expected return. Its derivative, which the meta-gradient goes through,
//! is right on average for `dice`, and for `lvc` but for a small bias where episodes have several steps;
//! `score` leaves a term out. Shapes: trials `[t, b·l, f]`, adapted parameters `[t, …]`.
//!
//! # Differences from the paper
//! * The outer step is that of PPO, as in ProMP, or TRPO, as in the paper.
//! * Advantages of a task are divided by their deviation. A policy reads observations alone, as there.
//! * How the episodes before a step depend on θ is not differentiated, as in the paper (E-MAML does).

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{Tensor, TensorData, backend::Backend},
};
use burn_autodiff::Autodiff;
use meta_core::{
    Error, Result,
    data::Actions,
    learner::{
        Explanation, Family, GradientOf, Learner, LearnerInfo, LearnerSettings, MetaGradient, New,
        Passes, PredictAt, Steps, Toy,
        acting::{
            self, AtTest, choose,
            ppo::{self, Distribution, PpoSettings, TrialBatch, Weighed},
            trpo::{self, Measured, TrpoSettings},
            weigh_by_task,
        },
        inner_loop::Order,
    },
    nn::{
        Pass,
        encoder::{Architecture, Encoder},
        init::{Initializer, constant},
        linear::Linear,
    },
    params::Params,
    primitives::Primitives,
    rl::{ActingWorld, Trial, run_together},
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What the inner step is the gradient of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Surrogate {
    /// Ratios of probabilities, step by step.
    Lvc,
    /// Products of them up to each step.
    Dice,
    /// Logarithms of probabilities.
    Score,
}

/// How the start moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outer {
    /// By the outer optimiser, along the gradient of PPO's loss.
    Ppo,
    /// By a step within a trust region.
    Trpo,
}

settings! {
    /// Settings of MAML for reinforcement learning.
    pub struct MamlRlSettings {
        /// Rate α of the inner steps.
        inner_lr: f64 = 0.1, above(0.0);
        /// Inner steps in training.
        inner_steps: usize = 1, size(1);
        /// Inner steps at validation and test.
        test_steps: usize = 1, size(0);
        /// Order of the meta-gradient: `second`, or `first` past the inner gradients.
        order: Order = Order::Second;
        /// What the inner gradient is of: `lvc`, `dice` or `score`.
        surrogate: Surrogate = Surrogate::Dice;
        /// Discount γ of later rewards.
        discount: f64 = 0.99, fraction();
        /// λ of generalised advantages.
        gae_lambda: f64 = 1.0, between(0.0, 1.0);
        /// How the start moves: `ppo`, or `trpo`, a step within a trust region in place of the optimiser's.
        outer: Outer = Outer::Ppo;
        /// ε of PPO: how far the probability of an action may move before it gains nothing.
        clip: f64 = 0.2, above(0.0);
        /// Outer steps of PPO on the same episodes; TRPO takes one.
        epochs: usize = 4, size(1);
        /// Weight of the entropy in the outer loss.
        entropy_weight: f64 = 0.0, at_least(0.0);
        /// Standard deviation of continuous actions at the beginning.
        deviation: f64 = 1.0, above(0.0);
        ..trpo: TrpoSettings;
    }
}

impl LearnerSettings for MamlRlSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "maml_rl",
        family: Family::Gradient,
        summary: "a start from which a policy-gradient step leads far",
        paper: "Finn et al., Model-agnostic meta-learning for fast adaptation of deep networks, ICML 2017",
        regression: false,
        any_way: false,
    };

    const ACTS: bool = true;

    fn check<A: Architecture>(&self, architecture: &A, spec: &TaskSpec) -> Result<()> {
        if self.discount >= 1.0 && spec.trial_steps(spec.train) > 1 << 16 {
            let expected = "must be below 1 for episodes of so many steps";
            return Err(Error::setting("learner.discount", self.discount, expected));
        }
        acting::check(architecture)
    }

    fn steps(&self) -> Steps {
        Steps {
            train: self.inner_steps,
            held: self.inner_steps,
            test: self.test_steps,
            ..Steps::default()
        }
    }

    fn gradient_of() -> GradientOf {
        let case = |surrogate, steps, outer| json!({"surrogate": surrogate, "inner_steps": steps, "outer": outer});
        GradientOf::Training(
            "the loss of PPO, or TRPO, after the inner steps",
            vec![
                case("dice", 2, "ppo"),
                case("lvc", 1, "trpo"),
                case("score", 1, "ppo"),
            ],
        )
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"inner_lr": 2.0}),
            iterations: 150,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        Box::new(MamlRl::<A, B>::new(self, new))
    }
}

/// A policy without a memory.
#[derive(Module, Debug)]
pub struct Reactive<B: Backend, E> {
    encoder: E,
    head: Linear<B>,
    /// Logarithms of the deviations of continuous actions, `[1, 1, w]`.
    deviations: Option<Param<Tensor<B, 3>>>,
}

impl<B: Primitives, E: Encoder<B>> Reactive<B, E> {
    /// What it says of the actions at `inputs [t, b, f]`.
    fn forward(&self, inputs: Tensor<B, 3>) -> Distribution<B> {
        let said = self
            .head
            .forward(self.encoder.forward(inputs, &Pass::evaluation()));
        match &self.deviations {
            None => Distribution::Categorical(said),
            Some(deviations) => Distribution::Normal(said, deviations.val()),
        }
    }
}

/// MAML over trials.
struct MamlRl<A, B: Primitives> {
    settings: MamlRlSettings,
    architecture: A,
    actions: Actions,
    /// Numbers of an observation, the first ones of what is read.
    observation: usize,
    device: B::Device,
    parameters: Params<B>,
    /// Trials of each stage, ordered by task; the last stage is after the last step.
    gathered: Vec<Vec<Weighed>>,
}

/// `L` of each task, `[t]`.
fn inner_losses<B: Primitives>(
    surrogate: Surrogate,
    trials: &TrialBatch<B>,
    distribution: Distribution<B>,
) -> Tensor<B, 1> {
    let [logs, _] = distribution.of_actions(trials.actions.clone());
    let [t, rows, _] = logs.dims();
    let (b, l) = (rows / trials.length, trials.length);
    let gain = match surrogate {
        Surrogate::Score => logs,
        Surrogate::Lvc => (logs - trials.before.clone()).exp(),
        Surrogate::Dice => {
            let moved = (logs - trials.before.clone()).reshape([t, b, l]);
            let up_to = moved.clone().cumsum(2);
            let product = up_to.clone().exp() - (up_to - moved).exp();
            product.reshape([t, rows, 1])
        }
    };
    let each = gain * trials.advantages.clone() * trials.weights.clone();
    -each.sum_dim(1).reshape([t])
}

impl<A: Architecture, B: Primitives> MamlRl<A, B> {
    fn new(settings: MamlRlSettings, new: New<'_, A, B>) -> Self {
        let actions = acting::actions(new.spec);
        let outputs = new.spec.outputs();
        let mut learner = MamlRl {
            settings,
            architecture: new.architecture,
            actions,
            // Behind it: the last action, the last reward, whether an episode begins.
            observation: new.spec.item.features().saturating_sub(outputs + 2),
            device: new.device.clone(),
            parameters: Params::default(),
            gathered: Vec::new(),
        };
        let model = learner.init::<B>(&mut Initializer::seeded(new.seed));
        learner.parameters = Params::of(&model);
        learner
    }

    fn init<L: Primitives<Device = B::Device>>(
        &self,
        initializer: &mut Initializer,
    ) -> Reactive<L, A::Model<L>> {
        let device = &self.device;
        let (outputs, deviations) = match self.actions {
            Actions::Discrete(count) => (count, None),
            Actions::Continuous(count) => {
                let start = self.settings.deviation.ln();
                (count, Some(constant(start, [1, 1, count], device)))
            }
        };
        Reactive {
            encoder: self.architecture.init(initializer, device),
            head: Linear::glorot(self.architecture.width(), outputs, initializer, device),
            deviations,
        }
    }

    fn model<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
    ) -> Reactive<L, A::Model<L>> {
        parameters.write_into(self.init::<L>(&mut Initializer::zeros()))
    }

    /// One episode in each of `lanes` lanes of each task, by the policies with parameters `[t, …]`.
    fn act_with(
        &self,
        parameters: &Params<B>,
        tasks: &TaskBatch<B>,
        (first, lanes): (usize, usize),
        stage: usize,
    ) -> Result<Vec<Trial>> {
        let world = ActingWorld::of(tasks.world.as_ref());
        let model = self.model(parameters.clone());
        let t = tasks.tasks();
        let mut all = world.lanes(&tasks.episodes, lanes);
        all.first_episode = first as u64;
        let numbers = |tensor: Tensor<B, 3>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();
        let mut trials = run_together(world.family.as_ref(), all, 1, |moment| {
            let inputs = self.seen(moment.inputs, moment.inputs.len() / moment.goes_on.len());
            let shape = [t, lanes, inputs.len() / (t * lanes)];
            let inputs = Tensor::<B, 3>::from_data(TensorData::new(inputs, shape), &self.device);
            let (said, deviations) = match model.forward(inputs) {
                Distribution::Categorical(scores) => (scores, None),
                Distribution::Normal(means, logs) => (means, Some(numbers(logs))),
            };
            choose(
                &numbers(said),
                deviations.as_deref(),
                AtTest::Sample,
                moment,
            )
        })?;
        for trial in &mut trials {
            trial.stage = stage;
            trial.inputs = self.seen(&trial.inputs, trial.inputs.len() / trial.len().max(1));
        }
        Ok(trials)
    }

    /// Inputs `[rows, f]` with zeros behind the observation.
    fn seen(&self, inputs: &[f32], f: usize) -> Vec<f32> {
        let mut seen = inputs.to_vec();
        for row in seen.chunks_exact_mut(f.max(1)) {
            row[self.observation..].fill(0.0);
        }
        seen
    }

    /// Advantages over a linear baseline that is fitted to the episodes of each task.
    fn weigh(&self, trials: Vec<Trial>) -> Vec<Weighed> {
        let (discount, lambda) = (self.settings.discount, self.settings.gae_lambda);
        weigh_by_task(trials, self.observation, discount, lambda)
    }

    /// An inner step of parameters `[t, …]`, on any level.
    fn adapt<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
        trials: &TrialBatch<Autodiff<L>>,
        order: Order,
    ) -> Params<L> {
        let at = match order {
            Order::Second => parameters.clone(),
            Order::First => parameters.clone().detach(),
        };
        let leaves = at.lift::<Autodiff<L>>();
        let distribution = self.model(leaves.clone()).forward(trials.inputs.clone());
        let losses = inner_losses(self.settings.surrogate, trials, distribution);
        let gradients = leaves.gradients(&losses.sum().backward());
        let rate = self.settings.inner_lr;
        parameters.zip(&gradients, |theta, gradient| {
            L::sgd_step(theta, gradient, rate)
        })
    }

    /// Takes `steps` inner steps, each on new episodes: those of all of them. `after` is called with the
    /// parameters after each number of steps, from 0 on.
    fn stages(
        &self,
        tasks: &TaskBatch<B>,
        steps: usize,
        mut after: impl FnMut(usize, &Params<B>) -> Result<()>,
    ) -> Result<Vec<Trial>> {
        let shot = tasks.shape.shot.0;
        let mut parameters = self.parameters.clone().fan_out(tasks.tasks());
        let mut all = Vec::new();
        after(0, &parameters)?;
        for step in 0..steps {
            let trials = self.act_with(&parameters, tasks, (step * shot, shot), step)?;
            all.extend(trials.iter().cloned());
            let weighed = self.weigh(trials);
            let batch = TrialBatch::<Autodiff<B>>::of(
                &sorted(weighed),
                &tasks.episodes,
                self.actions,
                &self.device,
            );
            parameters = self.adapt(parameters, &batch, Order::First);
            after(step + 1, &parameters)?;
        }
        Ok(all)
    }

    /// `shared` after the inner steps in each of `tasks`, on the episodes of `stages`: `[t, …]`.
    fn adapted<L: Primitives<Device = B::Device>>(
        &self,
        shared: &Params<L>,
        stages: &[Vec<Weighed>],
        tasks: &[u64],
    ) -> Params<L> {
        let start = shared.clone().fan_out(tasks.len());
        let before = &stages[..stages.len() - 1];
        before.iter().fold(start, |parameters, stage| {
            let batch = TrialBatch::<Autodiff<L>>::of(stage, tasks, self.actions, &self.device);
            self.adapt(parameters, &batch, self.settings.order)
        })
    }

    /// The episodes after the last inner step, and what policies with parameters `[t, …]` say of them.
    fn said<L: Primitives<Device = B::Device>>(
        &self,
        adapted: Params<L>,
        stages: &[Vec<Weighed>],
        tasks: &[u64],
    ) -> (TrialBatch<L>, Distribution<L>) {
        let last = stages.last().expect("episodes after the last step");
        let batch = TrialBatch::<L>::of(last, tasks, self.actions, &self.device);
        let distribution = self.model(adapted).forward(batch.inputs.clone());
        (batch, distribution)
    }

    /// The outer loss of each task, `[t]`, of what is said of the episodes after the last inner step.
    fn outer_losses<L: Primitives>(
        &self,
        batch: &TrialBatch<L>,
        distribution: Distribution<L>,
    ) -> Tensor<L, 1> {
        let settings = PpoSettings {
            // TRPO bounds the step by itself.
            clip: match self.settings.outer {
                Outer::Ppo => self.settings.clip,
                Outer::Trpo => f64::from(f32::MAX),
            },
            value_weight: 0.0,
            entropy_weight: self.settings.entropy_weight,
            ..PpoSettings::default()
        };
        let nothing = batch.returns.zeros_like();
        ppo::losses(&settings, 1.0, batch, distribution, nothing)
    }

    /// `H v`, `[1, …]`: the Hessian, at the parameters, of the mean divergence from the policies that they
    /// adapt to.
    fn curvature(
        &self,
        stages: &[Vec<Weighed>],
        tasks: &[u64],
        old: &Distribution<B>,
        v: &Params<B>,
    ) -> Params<B> {
        type Up<B> = Autodiff<Autodiff<B>>;
        let leaves = self.parameters.clone().lift::<Autodiff<B>>();
        let above = leaves.clone().lift::<Up<B>>();
        let adapted = match self.settings.order {
            Order::Second => self.adapted(&above, stages, tasks),
            // As far away as the inner steps lead, and they are no function of the start.
            Order::First => {
                let start = self.parameters.clone().fan_out(tasks.len());
                let way = self.adapted(&self.parameters, stages, tasks);
                let way = way.plus(&start.scale(-1.0)).lift_constant::<Autodiff<B>>();
                above
                    .clone()
                    .fan_out(tasks.len())
                    .plus(&way.lift_constant::<Up<B>>())
            }
        };
        let (batch, new) = self.said(adapted, stages, tasks);
        let old = old.clone().lift_constant::<Autodiff<B>>().lift_constant();
        let divergence = (old.divergence(new) * batch.weights).sum();
        let slope = above.gradients(&divergence.mul_scalar(1.0 / tasks.len() as f64).backward());
        let along = slope.dot_tasks(&v.clone().lift_constant()).sum();
        leaves.gradients(&along.backward())
    }

    /// The mean outer loss at `parameters`, and their mean divergence from what was said before, batch by batch.
    fn measure(
        &self,
        parameters: &Params<B>,
        stages: &[Vec<Weighed>],
        batches: &[(Arc<[u64]>, Distribution<B>)],
    ) -> Measured {
        let mut sums = [0.0; 2];
        let mut count = 0;
        for (tasks, old) in batches {
            let (batch, new) = self.said(self.adapted(parameters, stages, tasks), stages, tasks);
            let divergence = (old.clone().divergence(new.clone()) * batch.weights.clone()).sum();
            let loss = self.outer_losses(&batch, new).sum();
            let both = Tensor::cat(vec![loss, divergence], 0).into_data();
            for (sum, own) in sums.iter_mut().zip(both.iter::<f64>()) {
                *sum += own;
            }
            count += tasks.len();
        }
        let [loss, divergence] = sums.map(|sum| sum / count as f64);
        Measured { loss, divergence }
    }

    /// The trials of each stage, weighed and ordered by task.
    fn by_stage(&self, mut trials: Vec<Trial>) -> Vec<Vec<Weighed>> {
        trials.sort_by_key(|trial| (trial.stage, trial.task));
        let stages = trials.chunk_by(|one, other| one.stage == other.stage);
        stages.map(|stage| self.weigh(stage.to_vec())).collect()
    }
}

fn sorted(mut weighed: Vec<Weighed>) -> Vec<Weighed> {
    weighed.sort_by_key(|own| own.trial.task);
    weighed
}

impl<A: Architecture, B: Primitives> Learner<B> for MamlRl<A, B> {
    fn parameters(&self) -> Params<B> {
        self.parameters.clone()
    }

    fn set_parameters(&mut self, parameters: Params<B>) {
        self.parameters = Params::of(&self.model(parameters));
    }

    fn act(&self, tasks: &TaskBatch<B>) -> Result<Option<Vec<Trial>>> {
        let steps = self.settings.inner_steps;
        let (shot, query) = (tasks.shape.shot.0, tasks.shape.query.0);
        let mut last = Vec::new();
        let mut all = self.stages(tasks, steps, |step, parameters| {
            if step == steps {
                last = self.act_with(parameters, tasks, (steps * shot, query), steps)?;
            }
            Ok(())
        })?;
        all.extend(last);
        Ok(Some(all))
    }

    fn gather(&mut self, trials: Vec<Trial>) -> Passes {
        self.gathered = self.by_stage(trials);
        let epochs = match self.settings.outer {
            Outer::Ppo => self.settings.epochs,
            Outer::Trpo => 1,
        };
        Passes { epochs, parts: 1 }
    }

    fn own_update(
        &self,
        gradient: &Params<B>,
        batches: &dyn Fn() -> Vec<TaskBatch<B>>,
    ) -> Option<Params<B>> {
        if self.settings.outer == Outer::Ppo {
            return None;
        }
        let stages = &self.gathered;
        let batches = batches().into_iter().map(|batch| {
            let tasks = batch.episodes;
            let adapted = self.adapted(&self.parameters, stages, &tasks);
            let (_, said) = self.said(adapted, stages, &tasks);
            (tasks, said)
        });
        let batches: Vec<(Arc<[u64]>, Distribution<B>)> = batches.collect();
        let all: usize = batches.iter().map(|(tasks, _)| tasks.len()).sum();
        let product = |v: &Params<B>| {
            let parts = batches.iter().map(|(tasks, old)| {
                let share = tasks.len() as f64 / all as f64;
                self.curvature(stages, tasks, old, v).scale(share)
            });
            parts
                .reduce(|sum, part| sum.plus(&part))
                .expect("a batch of tasks")
        };
        Some(trpo::step(
            &self.settings.trpo,
            self.parameters.clone(),
            gradient,
            product,
            |parameters| self.measure(parameters, stages, &batches),
        ))
    }

    /// Of the trials that were gathered; of new ones where there are none.
    fn meta_gradient(&self, tasks: &TaskBatch<B>) -> MetaGradient<B> {
        let fresh;
        let mut gathered = &self.gathered;
        if gathered.is_empty() {
            fresh = self.by_stage(self.act(tasks).ok().flatten().unwrap_or_default());
            gathered = &fresh;
        }
        let leaves = self.parameters.clone().lift::<Autodiff<B>>();
        let adapted = self.adapted(&leaves, gathered, &tasks.episodes);
        let (batch, distribution) = self.said(adapted, gathered, &tasks.episodes);
        let losses = self.outer_losses(&batch, distribution);
        MetaGradient {
            gradients: leaves.gradients(&losses.clone().mean().backward()),
            buffers: Params::default(),
            losses: losses.inner(),
            scores: batch.scores.inner(),
        }
    }

    fn predict(&self, tasks: &TaskBatch<B>, at: PredictAt) -> Vec<Tensor<B, 3>> {
        let (steps, shot) = (self.settings.test_steps, tasks.shape.shot.0);
        let (t, q) = (tasks.tasks(), tasks.shape.query.0);
        let tensor = |values: Vec<f32>| {
            Tensor::<B, 3>::from_data(TensorData::new(values, [t, q, 1]), &self.device)
        };
        let mut answers = Vec::new();
        let ran = self.stages(tasks, steps, |step, parameters| {
            if at == PredictAt::EveryStep || step == steps {
                // The same chance after every number of steps.
                let trials = self.act_with(parameters, tasks, (steps * shot, q), step)?;
                let totals = trials.iter().map(|trial| trial.total() as f32);
                answers.push(tensor(totals.collect()));
            }
            Ok(())
        });
        if ran.is_err() {
            // A batch that is too large for its environments has no return.
            let wanted = if at == PredictAt::EveryStep {
                steps + 1
            } else {
                1
            };
            answers = vec![tensor(vec![f32::NAN; t * q]); wanted];
        }
        answers
    }

    /// An episode of each task before the first step and after the last.
    fn explain(&self, tasks: &TaskBatch<B>) -> Explanation<B> {
        let (steps, shot) = (self.settings.test_steps, tasks.shape.shot.0);
        let mut trials = Vec::new();
        let ran = self.stages(tasks, steps, |step, parameters| {
            if step == 0 || step == steps {
                trials.extend(self.act_with(parameters, tasks, (steps * shot, 1), step)?);
            }
            Ok(())
        });
        Explanation {
            predictions: self.predict(tasks, PredictAt::EveryStep),
            maps: Vec::new(),
            movement: Vec::new(),
            trials: ran.map(|_| trials).unwrap_or_default(),
        }
    }
}
