//! Gradient learners whose meta-gradient goes through the steps of adaptation.
//!
//! A learner says how it starts and how it takes one step, on any level ([`Unrolled`]); this module
//! differentiates the query loss through all of them: at second order (exactly) or at first order
//! (past the inner gradients), with a loss after the last step or after several, and with or without
//! checkpointing of the steps.
//!
//! With state `sⁱ` (weights, and what an inner optimiser remembers) and meta-parameters `ω`:
//!
//! ```text
//! s⁰ = start(ω),   sⁱ⁺¹ = step(i, sⁱ, ω)
//! meta-gradient = ∇_ω mean over tasks of Σᵢ vᵢ L_q(weights(sⁱ)),   i = 1 … K
//! ```
//!
//! # Memory
//! By default the graph of all `K` steps is held until the backward pass. With checkpointing only the
//! states are: the steps are taken once without a graph, then from the last to the first, each is
//! taken again and the cotangent `∂L/∂sⁱ⁺¹` is pulled back through it alone (Griewank and Walther,
//! *Evaluating derivatives*, 2008, chapter 12). The result is the same but for rounding; the price is
//! one more pass through the inner loop.

use std::cell::RefCell;

use std::marker::PhantomData;

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    adapt::Adaptable,
    learner::{Answers, Explanation, Learner, MetaGradient},
    nn::{Mode, Pass, encoder::Architecture, loss},
    optim::{self, OptimizerKind, OptimizerSettings, OptimizerState},
    params::Params,
    primitives::Primitives,
    settings::in_unit,
    task::{ItemBatch, TaskBatch},
};

/// Order of the meta-gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Through the inner gradients: exact.
    Second,
    /// Past the inner gradients, which count as constants.
    First,
}

/// What a step of adaptation sees besides the state.
pub struct InnerStep<'a, L: Primitives> {
    /// Number of the step, from 0.
    pub index: usize,
    /// The support of every task.
    pub support: &'a ItemBatch<L>,
    /// The mode of its forward pass.
    pub mode: Mode,
    /// Whether the inner gradient is differentiated.
    pub order: Order,
    /// Running statistics that the pass over the support leads to.
    buffers: RefCell<Params<L>>,
}

impl<L: Primitives> InnerStep<'_, L> {
    /// `∇ Σ_tasks L_s(θ)` on the support, a constant at first order.
    pub fn gradient<A: Architecture, B: Primitives>(
        &self,
        network: &Adaptable<A, B>,
        theta: &Params<L>,
    ) -> Params<L>
    where
        L: Primitives<Device = B::Device>,
    {
        self.loss(network, theta).1
    }

    /// `L_s(θ)` of every task, `[t]`, and [`InnerStep::gradient`]; both are constants at first order.
    pub fn loss<A: Architecture, B: Primitives>(
        &self,
        network: &Adaptable<A, B>,
        theta: &Params<L>,
    ) -> (Tensor<L, 1>, Params<L>)
    where
        L: Primitives<Device = B::Device>,
    {
        let theta = match self.order {
            Order::Second => theta.clone(),
            Order::First => theta.clone().detach(),
        };
        let support = network.support_loss(&theta, self.support, &self.mode);
        self.buffers.replace(support.buffers);
        (support.losses, support.gradients)
    }
}

/// A learner that adapts by differentiable steps.
pub trait Unrolled<A: Architecture, B: Primitives> {
    /// The network that adapts.
    fn network(&self) -> &Adaptable<A, B>;

    /// The meta-parameters and buffers `ω`, each `[1, …]`.
    fn parameters(&self) -> &Params<B>;

    /// Replaces them by others of the same names and shapes.
    fn set_parameters(&mut self, parameters: Params<B>);

    /// Inner steps `K` in training; 0 where the start alone answers.
    fn steps(&self) -> usize;

    /// Inner steps at validation and test.
    fn test_steps(&self) -> usize {
        self.steps()
    }

    /// Order of the meta-gradient when this fraction of training is done.
    fn order(&self, _progress: f64) -> Order {
        Order::Second
    }

    /// Whether the graph of only one step is held at a time.
    fn checkpoint_inner_steps(&self) -> bool;

    /// `vᵢ` of the query loss after each step when this fraction of training is done.
    fn loss_weights(&self, _progress: f64) -> Vec<f64> {
        let mut weights = vec![0.0; self.steps()];
        if let Some(last) = weights.last_mut() {
            *last = 1.0;
        }
        weights
    }

    /// `start(ω)`, each entry that a step changes `[t, …]`; it may look at the supports, and leave new
    /// values of buffers, under their paths, with the statistics of the pass.
    fn start<L: Primitives<Device = B::Device>>(
        &self,
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
        _pass: &Pass<L>,
    ) -> Params<L> {
        shared.clone().fan_out(tasks.tasks())
    }

    /// `step(i, s, ω)`.
    fn step<L: Primitives<Device = B::Device>>(
        &self,
        at: &InnerStep<L>,
        state: Params<L>,
        shared: &Params<L>,
    ) -> Params<L>;

    /// The weights with which queries are answered after `steps` steps.
    fn weights<L: Primitives<Device = B::Device>>(
        &self,
        state: &Params<L>,
        _shared: &Params<L>,
        _steps: usize,
    ) -> Params<L> {
        InnerOptimizer::weights(state)
    }

    /// New values of buffers from the running statistics that step `index` leads to: those of the
    /// pass over the support, and of the queries after it where they are scored.
    ///
    /// By default those of the queries after the last step.
    fn buffers<L: Primitives>(
        &self,
        index: usize,
        _support: Params<L>,
        query: Option<Params<L>>,
    ) -> Params<L> {
        match index + 1 == self.steps() {
            true => query.unwrap_or_default(),
            false => Params::default(),
        }
    }
}

/// The [`Learner`] of anything [`Unrolled`].
pub struct UnrolledLearner<A, U> {
    rule: U,
    architecture: PhantomData<fn() -> A>,
}

impl<A, U> UnrolledLearner<A, U> {
    /// The learner that adapts as `rule` says.
    pub fn new(rule: U) -> Self {
        UnrolledLearner {
            rule,
            architecture: PhantomData,
        }
    }
}

impl<A: Architecture, B: Primitives, U: Unrolled<A, B> + Send + Sync> Learner<B>
    for UnrolledLearner<A, U>
{
    fn parameters(&self) -> Params<B> {
        self.rule.parameters().clone()
    }

    fn set_parameters(&mut self, parameters: Params<B>) {
        self.rule
            .parameters()
            .check_like(&parameters.shapes())
            .unwrap_or_else(|difference| panic!("{difference}"));
        self.rule.set_parameters(parameters);
    }

    fn meta_gradient(&self, tasks: &TaskBatch<B>) -> MetaGradient<B> {
        meta_gradient(&self.rule, self.rule.parameters(), tasks)
    }

    fn predict(&self, tasks: &TaskBatch<B>, answers: Answers) -> Vec<Tensor<B, 3>> {
        let (rule, steps) = (&self.rule, self.rule.test_steps());
        predict(rule, rule.parameters(), tasks, steps, answers)
    }

    /// Predictions and movement of the weights by step; the maps of the start and of the encoder's
    /// pass over the queries after the last step.
    fn explain(&self, tasks: &TaskBatch<B>) -> Explanation<B> {
        let (rule, shared) = (&self.rule, self.rule.parameters());
        let pass = Pass::evaluation().recording();
        let states = trajectory(rule, shared, tasks, &pass);
        let mut weights = states
            .iter()
            .enumerate()
            .map(|(steps, state)| rule.weights(state, shared, steps));
        let first = weights.next().expect("a start");
        let mut predictions = Vec::with_capacity(states.len());
        let mut maps = pass.recorded();
        let mut movement: Vec<(String, Vec<Tensor<B, 1>>)> = Vec::new();
        let mut answer = |weights: Params<B>, last: bool| {
            let pass = match last {
                true => Pass::evaluation().recording(),
                false => Pass::evaluation(),
            };
            let (answer, pass) = rule.network().answer(weights, tasks, pass);
            predictions.push(answer);
            maps.extend(pass.recorded());
        };
        let steps = states.len() - 1;
        answer(first.clone(), steps == 0);
        for (step, now) in weights.enumerate() {
            for (layer, distance) in now.distances(&first) {
                match movement.iter_mut().find(|(name, _)| *name == layer) {
                    Some((_, distances)) => distances.push(distance),
                    None => movement.push((layer, vec![distance])),
                }
            }
            answer(now, step + 1 == steps);
        }
        Explanation {
            predictions,
            maps,
            movement,
        }
    }
}

/// The pass in which a learner that looks at the supports starts.
fn starting<B: Primitives, L: Primitives>(tasks: &TaskBatch<B>) -> Pass<L> {
    Pass::new(Mode::learning(tasks, "start", 0))
}

/// What the queries of the tasks say of weights.
struct QueryLoss<L: Primitives> {
    /// `[t]`.
    losses: Tensor<L, 1>,
    /// `[t, q, outputs]`.
    predictions: Tensor<L, 3>,
    buffers: Params<L>,
}

fn query_loss<A: Architecture, B: Primitives, L: Primitives<Device = B::Device>>(
    learner: &impl Unrolled<A, B>,
    state: &Params<L>,
    shared: &Params<L>,
    steps: usize,
    tasks: &TaskBatch<L>,
) -> QueryLoss<L> {
    let pass = Pass::new(Mode::learning(tasks, "query", steps));
    let weights = learner.weights(state, shared, steps);
    let (predictions, pass) = learner.network().answer(weights, tasks, pass);
    QueryLoss {
        losses: loss::loss(predictions.clone(), &tasks.query.targets),
        predictions,
        buffers: pass.statistics.take().with_prefix("encoder"),
    }
}

/// Step `index` of training: the state after it, and the running statistics it leads to.
fn train_step<A: Architecture, B: Primitives, L: Primitives<Device = B::Device>>(
    learner: &impl Unrolled<A, B>,
    index: usize,
    state: Params<L>,
    shared: &Params<L>,
    tasks: &TaskBatch<L>,
) -> (Params<L>, Params<L>) {
    let at = InnerStep {
        index,
        support: &tasks.support,
        mode: Mode::learning(tasks, "support", index),
        order: learner.order(tasks.moment.progress),
        buffers: RefCell::default(),
    };
    let after = learner.step(&at, state, shared);
    (after, at.buffers.take())
}

/// The meta-gradient of `tasks` with respect to the meta-parameters `shared`.
pub fn meta_gradient<A: Architecture, B: Primitives>(
    learner: &impl Unrolled<A, B>,
    shared: &Params<B>,
    tasks: &TaskBatch<B>,
) -> MetaGradient<B> {
    match learner.checkpoint_inner_steps() && learner.steps() > 0 {
        true => checkpointed(learner, shared, tasks),
        false => unrolled(learner, shared, tasks),
    }
}

fn unrolled<A: Architecture, B: Primitives>(
    learner: &impl Unrolled<A, B>,
    shared: &Params<B>,
    tasks: &TaskBatch<B>,
) -> MetaGradient<B> {
    let lifted = tasks.lift::<Autodiff<B>>();
    let leaves = shared.clone().lift::<Autodiff<B>>();
    let pass = starting(tasks);
    let mut state = learner.start(&leaves, &lifted, &pass);
    let mut buffers = pass.statistics.take();
    let mut total: Option<Tensor<Autodiff<B>, 1>> = None;
    let mut last = None;
    if learner.steps() == 0 {
        let query = query_loss(learner, &state, &leaves, 0, &lifted);
        total = Some(query.losses);
        buffers = buffers.join(query.buffers);
        last = Some(query.predictions);
    }
    for (index, weight) in loss_weights(learner, tasks).into_iter().enumerate() {
        let (after, of_support) = train_step(learner, index, state, &leaves, &lifted);
        state = after;
        if weight == 0.0 {
            buffers = buffers.join(learner.buffers(index, of_support, None));
            continue;
        }
        let query = query_loss(learner, &state, &leaves, index + 1, &lifted);
        let losses = match weight {
            1.0 => query.losses.clone(),
            weight => query.losses.clone().mul_scalar(weight),
        };
        total = Some(match total {
            Some(total) => total + losses,
            None => losses,
        });
        buffers = buffers.join(learner.buffers(index, of_support, Some(query.buffers)));
        last = Some(query.predictions);
    }
    let (losses, predictions) = total
        .zip(last)
        .expect("the start or the last step has a loss");
    let targets = &lifted.query.targets;
    MetaGradient::of(&leaves, losses, predictions, targets, buffers)
}

fn checkpointed<A: Architecture, B: Primitives>(
    learner: &impl Unrolled<A, B>,
    shared: &Params<B>,
    tasks: &TaskBatch<B>,
) -> MetaGradient<B> {
    let weights = loss_weights(learner, tasks);
    let pass = starting(tasks);
    let mut states = vec![learner.start(shared, tasks, &pass)];
    let of_start = pass.statistics.take();
    let mut of_supports = Vec::new();
    for index in 0..weights.len() {
        let (after, of_support) = train_step(learner, index, states[index].clone(), shared, tasks);
        states.push(after);
        of_supports.push(of_support);
    }
    let lifted = tasks.lift::<Autodiff<B>>();
    let mut gradients: Option<Params<B>> = None;
    let mut add = |more: Params<B>| {
        gradients = Some(match gradients.take() {
            Some(sum) => sum.plus(&more),
            None => more,
        });
    };
    let mut result: Option<MetaGradient<B>> = None;
    let mut buffers = Params::default();
    // ∂ mean losses / ∂ sⁱ.
    let mut cotangent: Option<Params<B>> = None;
    for (index, weight) in weights.into_iter().enumerate().rev() {
        let after = states.pop().expect("a state after every step");
        let of_support = of_supports.pop().expect("as many as states");
        let mut of_query = None;
        if weight != 0.0 {
            let leaves = shared.clone().lift::<Autodiff<B>>();
            let state = after.lift::<Autodiff<B>>();
            let query = query_loss(learner, &state, &leaves, index + 1, &lifted);
            of_query = Some(query.buffers.lower());
            let losses = query.losses.mul_scalar(weight);
            let backward = losses.clone().mean().backward();
            let of_state = state.gradients(&backward);
            add(leaves.gradients(&backward));
            cotangent = Some(match cotangent {
                Some(later) => later.plus(&of_state),
                None => of_state,
            });
            result = Some(match result {
                Some(later) => MetaGradient {
                    losses: later.losses + losses.inner(),
                    ..later
                },
                None => MetaGradient {
                    gradients: Params::default(),
                    buffers: Params::default(),
                    scores: loss::score(query.predictions, &lifted.query.targets).inner(),
                    losses: losses.inner(),
                },
            });
        }
        buffers = learner.buffers(index, of_support, of_query).join(buffers);
        let Some(later) = cotangent.take() else {
            continue;
        };
        let leaves = shared.clone().lift::<Autodiff<B>>();
        let state = states[index].clone().lift::<Autodiff<B>>();
        let (after, _) = train_step(learner, index, state.clone(), &leaves, &lifted);
        let (of_state, of_shared) = pull_back(after, later, &state, &leaves);
        add(of_shared);
        cotangent = Some(of_state);
    }
    let leaves = shared.clone().lift::<Autodiff<B>>();
    let start = learner.start(&leaves, &lifted, &starting(tasks));
    if let Some(later) = cotangent {
        add(pull_back(start, later, &leaves, &leaves).1);
    }
    MetaGradient {
        gradients: gradients.expect("the last step has a loss"),
        buffers: of_start.join(buffers),
        ..result.expect("the last step has a loss")
    }
}

/// `⟨cotangent, ∂result⟩` with respect to the entries of `state` and of `shared`.
fn pull_back<B: Primitives>(
    result: Params<Autodiff<B>>,
    cotangent: Params<B>,
    state: &Params<Autodiff<B>>,
    shared: &Params<Autodiff<B>>,
) -> (Params<B>, Params<B>) {
    let along = result.dot_tasks(&cotangent.lift_constant()).sum();
    let backward = along.backward();
    (state.gradients(&backward), shared.gradients(&backward))
}

fn loss_weights<A: Architecture, B: Primitives>(
    learner: &impl Unrolled<A, B>,
    tasks: &TaskBatch<B>,
) -> Vec<f64> {
    let weights = learner.loss_weights(tasks.moment.progress);
    assert_eq!(weights.len(), learner.steps(), "a weight for every step");
    weights
}

/// Step `index` at test: the state after it.
fn test_step<A: Architecture, B: Primitives>(
    learner: &impl Unrolled<A, B>,
    index: usize,
    state: Params<B>,
    shared: &Params<B>,
    tasks: &TaskBatch<B>,
) -> Params<B> {
    let at = InnerStep {
        index,
        support: &tasks.support,
        mode: Mode::default(),
        order: Order::First,
        buffers: RefCell::default(),
    };
    learner.step(&at, state, shared)
}

/// The states of the adaptation at test, from the start, made in `pass`, to the last.
fn trajectory<A: Architecture, B: Primitives>(
    learner: &impl Unrolled<A, B>,
    shared: &Params<B>,
    tasks: &TaskBatch<B>,
    pass: &Pass<B>,
) -> Vec<Params<B>> {
    let mut states = vec![learner.start(shared, tasks, pass)];
    for index in 0..learner.test_steps() {
        let state = states[index].clone();
        states.push(test_step(learner, index, state, shared, tasks));
    }
    states
}

/// Predictions for the queries by `steps` steps, on the plain backend.
pub fn predict<A: Architecture, B: Primitives>(
    learner: &impl Unrolled<A, B>,
    shared: &Params<B>,
    tasks: &TaskBatch<B>,
    steps: usize,
    answers: Answers,
) -> Vec<Tensor<B, 3>> {
    // The number of steps done goes with the state: weights may depend on it.
    let start = (0, learner.start(shared, tasks, &Pass::evaluation()));
    crate::adapt::predictions(
        answers,
        start,
        steps,
        |index, (done, state)| (done + 1, test_step(learner, index, state, shared, tasks)),
        |(done, state)| {
            let weights = learner.weights(state, shared, *done);
            let pass = Pass::evaluation();
            learner.network().answer(weights, tasks, pass).0
        },
    )
}

/// Path of what an inner optimiser remembers, in the state of an adaptation.
const MOMENTS: &str = "moments";

/// The update rule of an inner loop, differentiable in weights, gradients and moments.
#[derive(Clone, Debug, PartialEq)]
pub struct InnerOptimizer {
    /// Rule and constants.
    pub settings: OptimizerSettings,
    /// Learning rate `α`.
    pub lr: f64,
}

impl InnerOptimizer {
    /// `ε_root` of an inner Adam: `√(v + ε_root)` has a finite derivative where a gradient is 0.
    pub const EPSILON_ROOT: f64 = 1e-8;

    /// The rule `kind` with rate `lr`; `momentum` is that of `sgd`.
    pub fn new(kind: OptimizerKind, lr: f64, momentum: f64) -> Self {
        InnerOptimizer {
            settings: OptimizerSettings {
                optimizer: kind,
                momentum,
                epsilon_root: Self::EPSILON_ROOT,
                ..OptimizerSettings::default()
            },
            lr,
        }
    }

    /// Checks the momentum, given under `key`.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] naming `key`.
    pub fn check_momentum(key: &str, kind: OptimizerKind, momentum: f64) -> Result<()> {
        in_unit(key, momentum)?;
        match kind != OptimizerKind::Sgd && momentum != 0.0 {
            true => Err(crate::Error::setting(
                key,
                momentum,
                "only `sgd` has a momentum; must be 0 for other inner optimisers",
            )),
            false => Ok(()),
        }
    }

    /// The weights of a state, without the moments.
    pub fn weights<L: Primitives>(state: &Params<L>) -> Params<L> {
        state.outside(MOMENTS)
    }

    /// The state after step `index` along `gradients`, from weights and moments `state`.
    pub fn step<L: Primitives>(
        &self,
        index: usize,
        state: Params<L>,
        gradients: &Params<L>,
    ) -> Params<L> {
        let plain = self.settings.optimizer == OptimizerKind::Sgd && self.settings.momentum == 0.0;
        if plain {
            return state.zip(gradients, |theta, g| L::descend(theta, g, self.lr));
        }
        let remembered = state.under(MOMENTS);
        let moments = (0..)
            .map(|number: usize| remembered.under(&number.to_string()))
            .take_while(|moment| !moment.is_empty())
            .collect();
        let before = OptimizerState {
            step: index as u64,
            moments,
        };
        let weights = state.outside(MOMENTS);
        let (weights, after) = optim::step(&self.settings, self.lr, weights, gradients, before);
        let moments = after.moments.into_iter().enumerate();
        moments.fold(weights, |state, (number, moment)| {
            state.join(moment.with_prefix(&format!("{MOMENTS}.{number}")))
        })
    }
}
