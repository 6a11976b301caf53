//! Gradient learners whose meta-gradient goes through the steps of adaptation.
//!
//! A learner says how it starts and how it takes one step along a gradient, on any level
//! ([`Unrolled`]); this module differentiates the query loss through all steps: at second order
//! (exactly) or at first order (past the inner gradients), with a loss after the last step or after
//! several, and with or without checkpointing of the steps. [`UnrolledLearner`] adapts a whole network
//! so; [`super::partial`] adapts a part of one.
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

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use serde::{Deserialize, Serialize};

use super::{Explanation, Learner, MetaGradient, PredictAt, Steps, adapt::Adaptable};
use crate::{
    Error, Result,
    nn::{Mode, Pass, encoder::Architecture, loss},
    optim::{self, OptimizerKind, OptimizerSettings, OptimizerState, UpdateSettings},
    params::Params,
    primitives::Primitives,
    task::TaskBatch,
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

/// The steps of an inner loop, and how they are held for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InnerLoop {
    /// Inner steps `K` in training; 0 where the start alone answers.
    pub steps: usize,
    /// Inner steps at validation and test.
    pub test_steps: usize,
    /// Whether the graph of only one step is held at a time.
    pub checkpoint: bool,
}

impl InnerLoop {
    /// What the inner loop costs: memory is planned with it.
    pub fn cost(self) -> Steps {
        Steps {
            train: self.steps,
            held: if self.checkpoint { 1 } else { self.steps },
            test: self.test_steps,
            of_parameter: 0,
        }
    }
}

/// What a step of adaptation sees besides state and gradient.
pub struct InnerStep<L: Primitives> {
    /// Number of the step, from 0.
    pub index: usize,
    /// `L_s` of every task before the step, `[t]`; a constant at first order.
    pub losses: Tensor<L, 1>,
}

/// A learner that adapts a network by differentiable steps.
pub trait Unrolled: Send + Sync + 'static {
    /// Its inner loop.
    fn inner_loop(&self) -> InnerLoop;

    /// Order of the meta-gradient when this fraction of training is done.
    fn order(&self, _progress: f64) -> Order {
        Order::Second
    }

    /// `vᵢ` of the query loss after each step when this fraction of training is done.
    fn loss_weights(&self, _progress: f64) -> Vec<f64> {
        last_alone(self.inner_loop().steps)
    }

    /// `start(ω)`, each entry that a step changes `[t, …]`; it may look at the supports, and leave new
    /// values of buffers, under their paths, with the statistics of the pass.
    fn start<A: Architecture, L: Primitives>(
        &self,
        _network: &Adaptable<A, L::Device>,
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
        _pass: &Pass<L>,
    ) -> Params<L> {
        shared.clone().fan_out(tasks.tasks())
    }

    /// `step(i, s, ω)`, from `∇ Σ_tasks L_s` at the weights of the step.
    fn step<L: Primitives>(
        &self,
        at: &InnerStep<L>,
        state: Params<L>,
        gradients: &Params<L>,
        shared: &Params<L>,
    ) -> Params<L>;

    /// The weights with which queries are answered after `steps` steps.
    fn weights<L: Primitives>(
        &self,
        state: &Params<L>,
        _shared: &Params<L>,
        _steps: usize,
    ) -> Params<L> {
        InnerOptimizer::weights(state)
    }

    /// The weights at which step `index` takes its gradient.
    fn weights_of_step<L: Primitives>(
        &self,
        state: &Params<L>,
        shared: &Params<L>,
        index: usize,
    ) -> Params<L> {
        self.weights(state, shared, index)
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
        if index + 1 == self.inner_loop().steps {
            query.unwrap_or_default()
        } else {
            Params::default()
        }
    }
}

/// The [`Learner`] of anything [`Unrolled`]: a rule, the network that adapts, and its parameters.
pub struct UnrolledLearner<R, A, B: Primitives> {
    rule: R,
    network: Adaptable<A, B::Device>,
    /// The meta-parameters and buffers `ω`, each `[1, …]`.
    parameters: Params<B>,
}

impl<R: Unrolled, A: Architecture, B: Primitives> UnrolledLearner<R, A, B> {
    /// The learner that adapts `network` from `parameters` on as `rule` says.
    pub fn boxed(
        rule: R,
        network: Adaptable<A, B::Device>,
        parameters: Params<B>,
    ) -> Box<dyn Learner<B>> {
        Box::new(UnrolledLearner {
            rule,
            network,
            parameters,
        })
    }

    fn of_network(&self) -> OfNetwork<'_, R, A, B::Device> {
        OfNetwork {
            rule: &self.rule,
            network: &self.network,
        }
    }
}

impl<R: Unrolled, A: Architecture, B: Primitives> Learner<B> for UnrolledLearner<R, A, B> {
    fn parameters(&self) -> Params<B> {
        self.parameters.clone()
    }

    fn set_parameters(&mut self, parameters: Params<B>) {
        self.parameters
            .check_like(&parameters.shapes())
            .unwrap_or_else(|difference| panic!("{difference}"));
        self.parameters = parameters;
    }

    fn meta_gradient(&self, tasks: &TaskBatch<B>) -> MetaGradient<B> {
        through_steps(&self.of_network(), &self.parameters, tasks)
    }

    fn predict(&self, tasks: &TaskBatch<B>, at: PredictAt) -> Vec<Tensor<B, 3>> {
        predict(&self.of_network(), &self.parameters, tasks, at)
    }

    fn explain(&self, tasks: &TaskBatch<B>) -> Explanation<B> {
        explain(&self.of_network(), &self.parameters, tasks)
    }
}

/// A rule with the network that it adapts.
struct OfNetwork<'a, R, A, D> {
    rule: &'a R,
    network: &'a Adaptable<A, D>,
}

impl<R: Unrolled, A: Architecture, B: Primitives> Adaptation<B> for OfNetwork<'_, R, A, B::Device> {
    fn inner_loop(&self) -> InnerLoop {
        self.rule.inner_loop()
    }

    fn order(&self, progress: f64) -> Order {
        self.rule.order(progress)
    }

    fn loss_weights(&self, progress: f64) -> Vec<f64> {
        self.rule.loss_weights(progress)
    }

    fn start<L: Primitives<Device = B::Device>>(
        &self,
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Params<L> {
        self.rule.start(self.network, shared, tasks, pass)
    }

    fn step<L: Primitives<Device = B::Device>>(
        &self,
        at: StepOf,
        state: Params<L>,
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
    ) -> (Params<L>, Params<L>) {
        let weights = self.rule.weights_of_step(&state, shared, at.index);
        let weights = match at.order {
            Order::Second => weights,
            Order::First => weights.detach(),
        };
        let support = self
            .network
            .support_loss(&weights, &tasks.support, &at.mode);
        let seen = InnerStep {
            index: at.index,
            losses: support.losses,
        };
        let after = self.rule.step(&seen, state, &support.gradients, shared);
        (after, support.buffers)
    }

    fn predict_queries<L: Primitives<Device = B::Device>>(
        &self,
        state: &Params<L>,
        shared: &Params<L>,
        steps: usize,
        tasks: &TaskBatch<L>,
        pass: Pass<L>,
    ) -> (Tensor<L, 3>, Pass<L>) {
        let weights = self.rule.weights(state, shared, steps);
        self.network.predict_queries(weights, tasks, pass)
    }

    fn buffers<L: Primitives>(
        &self,
        index: usize,
        support: Params<L>,
        query: Option<Params<L>>,
    ) -> Params<L> {
        self.rule.buffers(index, support, query)
    }

    fn adapted<L: Primitives<Device = B::Device>>(
        &self,
        state: &Params<L>,
        shared: &Params<L>,
        steps: usize,
    ) -> Params<L> {
        self.rule.weights(state, shared, steps)
    }
}

/// Weight 1 of the loss after the last of `steps` steps, 0 of all others.
pub(super) fn last_alone(steps: usize) -> Vec<f64> {
    let mut weights = vec![0.0; steps];
    if let Some(last) = weights.last_mut() {
        *last = 1.0;
    }
    weights
}

/// Which step is taken, and how.
pub(super) struct StepOf {
    /// Number of the step, from 0.
    pub index: usize,
    /// The mode of its forward pass.
    pub mode: Mode,
    /// Whether the inner gradient is differentiated.
    pub order: Order,
}

/// An inner loop over the backend `B`: what adapts, from where, by which steps, and what it answers.
pub(super) trait Adaptation<B: Primitives> {
    /// Its steps.
    fn inner_loop(&self) -> InnerLoop;

    /// As [`Unrolled::order`].
    fn order(&self, progress: f64) -> Order;

    /// As [`Unrolled::loss_weights`].
    fn loss_weights(&self, progress: f64) -> Vec<f64>;

    /// As [`Unrolled::start`].
    fn start<L: Primitives<Device = B::Device>>(
        &self,
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Params<L>;

    /// The state after a step, and the running statistics that its pass over the support leads to.
    fn step<L: Primitives<Device = B::Device>>(
        &self,
        at: StepOf,
        state: Params<L>,
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
    ) -> (Params<L>, Params<L>);

    /// Predictions for the queries after `steps` steps, `[t, q, outputs]`, and the pass that made them.
    fn predict_queries<L: Primitives<Device = B::Device>>(
        &self,
        state: &Params<L>,
        shared: &Params<L>,
        steps: usize,
        tasks: &TaskBatch<L>,
        pass: Pass<L>,
    ) -> (Tensor<L, 3>, Pass<L>);

    /// As [`Unrolled::buffers`].
    fn buffers<L: Primitives>(
        &self,
        index: usize,
        support: Params<L>,
        query: Option<Params<L>>,
    ) -> Params<L>;

    /// What has adapted after `steps` steps, each `[t, …]`: what an explanation measures.
    fn adapted<L: Primitives<Device = B::Device>>(
        &self,
        state: &Params<L>,
        shared: &Params<L>,
        steps: usize,
    ) -> Params<L>;
}

/// The pass in which a learner that looks at the supports starts.
fn starting<B: Primitives, L: Primitives>(tasks: &TaskBatch<B>) -> Pass<L> {
    Pass::new(Mode::learning(tasks, "start", 0))
}

/// What the queries of the tasks say of a state.
pub(super) struct QueryLoss<L: Primitives> {
    /// `[t]`.
    pub losses: Tensor<L, 1>,
    /// `[t, q, outputs]`.
    pub predictions: Tensor<L, 3>,
    /// Running statistics.
    pub buffers: Params<L>,
}

fn query_loss<B: Primitives, L: Primitives<Device = B::Device>>(
    adaptation: &impl Adaptation<B>,
    state: &Params<L>,
    shared: &Params<L>,
    steps: usize,
    tasks: &TaskBatch<L>,
) -> QueryLoss<L> {
    let pass = Pass::new(Mode::learning(tasks, "query", steps));
    let (predictions, pass) = adaptation.predict_queries(state, shared, steps, tasks, pass);
    QueryLoss {
        losses: loss::loss(predictions.clone(), &tasks.query.targets),
        predictions,
        buffers: pass.statistics.take().with_prefix("encoder"),
    }
}

/// Step `index` of training.
fn train_step<B: Primitives, L: Primitives<Device = B::Device>>(
    adaptation: &impl Adaptation<B>,
    index: usize,
    state: Params<L>,
    shared: &Params<L>,
    tasks: &TaskBatch<L>,
) -> (Params<L>, Params<L>) {
    let at = StepOf {
        index,
        mode: Mode::learning(tasks, "support", index),
        order: adaptation.order(tasks.context.progress),
    };
    adaptation.step(at, state, shared, tasks)
}

/// The meta-gradient of `tasks` with respect to the meta-parameters `shared`.
pub(super) fn through_steps<B: Primitives>(
    adaptation: &impl Adaptation<B>,
    shared: &Params<B>,
    tasks: &TaskBatch<B>,
) -> MetaGradient<B> {
    let InnerLoop {
        steps, checkpoint, ..
    } = adaptation.inner_loop();
    if checkpoint && steps > 0 {
        return step_by_step(adaptation, shared, tasks);
    }
    let lifted = tasks.lift::<Autodiff<B>>();
    let leaves = shared.clone().lift::<Autodiff<B>>();
    let end = in_one_graph(adaptation, &leaves, &lifted);
    MetaGradient::of(
        &leaves,
        end.losses,
        end.predictions,
        &lifted.query,
        end.buffers,
    )
}

/// The weighted query losses of all steps in one graph over `shared`, and the last predictions.
pub(super) fn in_one_graph<B: Primitives, L: Primitives<Device = B::Device>>(
    adaptation: &impl Adaptation<B>,
    shared: &Params<L>,
    tasks: &TaskBatch<L>,
) -> QueryLoss<L> {
    let pass = starting(tasks);
    let mut state = adaptation.start(shared, tasks, &pass);
    let mut buffers = pass.statistics.take();
    let mut end: Option<(Tensor<L, 1>, Tensor<L, 3>)> = None;
    if adaptation.inner_loop().steps == 0 {
        let query = query_loss(adaptation, &state, shared, 0, tasks);
        buffers = buffers.join(query.buffers);
        end = Some((query.losses, query.predictions));
    }
    for (index, weight) in loss_weights(adaptation, tasks).into_iter().enumerate() {
        let (after, of_support) = train_step(adaptation, index, state, shared, tasks);
        state = after;
        if weight == 0.0 {
            buffers = buffers.join(adaptation.buffers(index, of_support, None));
            continue;
        }
        let query = query_loss(adaptation, &state, shared, index + 1, tasks);
        let losses = match weight {
            1.0 => query.losses,
            weight => query.losses.mul_scalar(weight),
        };
        let total = match end {
            Some((total, _)) => total + losses,
            None => losses,
        };
        buffers = buffers.join(adaptation.buffers(index, of_support, Some(query.buffers)));
        end = Some((total, query.predictions));
    }
    let (losses, predictions) = end.expect("the start or the last step has a loss");
    QueryLoss {
        losses,
        predictions,
        buffers,
    }
}

/// A gradient that is added up.
struct Sum<B: Primitives>(Option<Params<B>>);

impl<B: Primitives> Sum<B> {
    fn add(&mut self, more: Params<B>) {
        self.0 = Some(match self.0.take() {
            Some(sum) => sum.plus(&more),
            None => more,
        });
    }
}

/// The meta-gradient with the graph of one step at a time.
fn step_by_step<B: Primitives>(
    adaptation: &impl Adaptation<B>,
    shared: &Params<B>,
    tasks: &TaskBatch<B>,
) -> MetaGradient<B> {
    let weights = loss_weights(adaptation, tasks);
    let pass = starting(tasks);
    let mut states = vec![adaptation.start(shared, tasks, &pass)];
    let of_start = pass.statistics.take();
    let mut of_supports = Vec::new();
    for index in 0..weights.len() {
        let before = states[index].clone();
        let (after, of_support) = train_step(adaptation, index, before, shared, tasks);
        states.push(after);
        of_supports.push(of_support);
    }
    let lifted = tasks.lift::<Autodiff<B>>();
    let mut gradients = Sum(None);
    let mut result: Option<MetaGradient<B>> = None;
    let mut buffers = Params::default();
    // ∂ mean losses / ∂ sⁱ.
    let mut cotangent = Sum(None);
    for (index, weight) in weights.into_iter().enumerate().rev() {
        let after = states.pop().expect("a state after every step");
        let of_support = of_supports.pop().expect("as many as states");
        let mut of_query = None;
        if weight != 0.0 {
            let (leaves, state) = shared.clone().lift_with::<Autodiff<B>>(after);
            let query = query_loss(adaptation, &state, &leaves, index + 1, &lifted);
            of_query = Some(query.buffers.lower());
            let losses = query.losses.mul_scalar(weight);
            let backward = losses.clone().mean().backward();
            let of_state = state.gradients(&backward);
            gradients.add(leaves.gradients(&backward));
            cotangent.add(of_state);
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
        buffers = adaptation
            .buffers(index, of_support, of_query)
            .join(buffers);
        let Some(later) = cotangent.0.take() else {
            continue;
        };
        let before = states[index].clone();
        let (leaves, state) = shared.clone().lift_with::<Autodiff<B>>(before);
        let (after, _) = train_step(adaptation, index, state.clone(), &leaves, &lifted);
        let (of_state, of_shared) = pull_back(after, later, &state, &leaves);
        gradients.add(of_shared);
        cotangent.add(of_state);
    }
    let leaves = shared.clone().lift::<Autodiff<B>>();
    let start = adaptation.start(&leaves, &lifted, &starting(tasks));
    if let Some(later) = cotangent.0 {
        gradients.add(pull_back(start, later, &leaves, &leaves).1);
    }
    MetaGradient {
        gradients: gradients.0.expect("the last step has a loss"),
        buffers: of_start.join(buffers),
        ..result.expect("the last step has a loss")
    }
}

/// `⟨cotangent, ∂result⟩` with respect to the entries of `state` and of `shared`.
pub(super) fn pull_back<B: Primitives>(
    result: Params<Autodiff<B>>,
    cotangent: Params<B>,
    state: &Params<Autodiff<B>>,
    shared: &Params<Autodiff<B>>,
) -> (Params<B>, Params<B>) {
    let along = result.dot_tasks(&cotangent.lift_constant()).sum();
    let backward = along.backward();
    (state.gradients(&backward), shared.gradients(&backward))
}

fn loss_weights<B: Primitives, L: Primitives>(
    adaptation: &impl Adaptation<B>,
    tasks: &TaskBatch<L>,
) -> Vec<f64> {
    let weights = adaptation.loss_weights(tasks.context.progress);
    let steps = adaptation.inner_loop().steps;
    assert_eq!(weights.len(), steps, "a weight for every step");
    weights
}

/// The state after step `index` at test.
fn test_step<B: Primitives>(
    adaptation: &impl Adaptation<B>,
    index: usize,
    state: Params<B>,
    shared: &Params<B>,
    tasks: &TaskBatch<B>,
) -> Params<B> {
    let at = StepOf {
        index,
        mode: Mode::default(),
        order: Order::First,
    };
    adaptation.step(at, state, shared, tasks).0
}

/// Predictions for the queries at test, on the plain backend.
pub(super) fn predict<B: Primitives>(
    adaptation: &impl Adaptation<B>,
    shared: &Params<B>,
    tasks: &TaskBatch<B>,
    at: PredictAt,
) -> Vec<Tensor<B, 3>> {
    let steps = adaptation.inner_loop().test_steps;
    let mut state = adaptation.start(shared, tasks, &Pass::evaluation());
    let answer = |state: &Params<B>, done: usize| {
        let pass = Pass::evaluation();
        adaptation
            .predict_queries(state, shared, done, tasks, pass)
            .0
    };
    let mut predictions = Vec::new();
    for index in 0..steps {
        if at == PredictAt::EveryStep {
            predictions.push(answer(&state, index));
        }
        state = test_step(adaptation, index, state, shared, tasks);
    }
    predictions.push(answer(&state, steps));
    predictions
}

/// Predictions and movement of what adapts by step; the maps of the start and of the first and the last
/// pass over the queries, where they differ.
pub(super) fn explain<B: Primitives>(
    adaptation: &impl Adaptation<B>,
    shared: &Params<B>,
    tasks: &TaskBatch<B>,
) -> Explanation<B> {
    let pass = Pass::evaluation().recording();
    let mut states = vec![adaptation.start(shared, tasks, &pass)];
    let steps = adaptation.inner_loop().test_steps;
    for index in 0..steps {
        let state = states[index].clone();
        states.push(test_step(adaptation, index, state, shared, tasks));
    }
    let mut maps = pass.recorded();
    let mut predictions = Vec::with_capacity(states.len());
    let mut movement: Vec<(String, Vec<Tensor<B, 1>>)> = Vec::new();
    let first = adaptation.adapted(&states[0], shared, 0);
    for (done, state) in states.iter().enumerate() {
        let pass = if done == steps {
            Pass::evaluation().recording()
        } else {
            Pass::evaluation()
        };
        let (answer, pass) = adaptation.predict_queries(state, shared, done, tasks, pass);
        predictions.push(answer);
        maps.extend(pass.recorded());
        if done == 0 {
            continue;
        }
        for (layer, distance) in adaptation.adapted(state, shared, done).distances(&first) {
            match movement.iter_mut().find(|(name, _)| *name == layer) {
                Some((_, distances)) => distances.push(distance),
                None => movement.push((layer, vec![distance])),
            }
        }
    }
    Explanation {
        predictions,
        maps,
        movement,
        trials: Vec::new(),
    }
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
                update: UpdateSettings {
                    momentum,
                    epsilon_root: Self::EPSILON_ROOT,
                    ..UpdateSettings::default()
                },
            },
            lr,
        }
    }

    /// Checks that a momentum, given under `key`, suits the rule.
    ///
    /// # Errors
    /// [`Error::Setting`] naming `key`.
    pub fn check_momentum(key: &str, kind: OptimizerKind, momentum: f64) -> Result<()> {
        if kind != OptimizerKind::Sgd && momentum != 0.0 {
            let expected = "only `sgd` has a momentum; must be 0 for other inner optimisers";
            return Err(Error::setting(key, momentum, expected));
        }
        Ok(())
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
        let plain =
            self.settings.optimizer == OptimizerKind::Sgd && self.settings.update.momentum == 0.0;
        if plain {
            return state.zip(gradients, |theta, g| L::sgd_step(theta, g, self.lr));
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
