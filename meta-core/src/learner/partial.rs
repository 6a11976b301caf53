//! Gradient learners that adapt a part of their parameters, on embeddings.
//!
//! An encoder `φ` is shared by all tasks and embeds support and queries once; a read-out after it has a
//! part that adapts. Its inner loop is that of [`super::inner_loop`], on embedded tasks, so it has both
//! orders of the meta-gradient and checkpointing.
//!
//! ```text
//! c⁰ = start(ω),   cⁱ⁺¹ = cⁱ − α ∇_c L_s(cⁱ, ω, φ)
//! meta-gradient = ∇_(φ, ω) mean over tasks of L_q(cᴷ, ω, φ)
//! ```
//!
//! With checkpointing the embeddings are leaves of the inner loop: the meta-gradient with respect to
//! them is pulled back through the encoder at the end.

use burn::{module::Module, tensor::Tensor};
use burn_autodiff::Autodiff;

use super::{
    Explanation, Learner, MetaGradient, New, PredictAt,
    embed::Embedded,
    inner_loop::{
        Adaptation, InnerLoop, InnerOptimizer, Order, StepOf, explain, in_one_graph, last_alone,
        predict, pull_back, through_steps,
    },
};
use crate::{
    nn::{Pass, encoder::Architecture, init::Initializer, loss},
    params::Params,
    primitives::Primitives,
    task::{ItemBatch, TaskBatch},
};

/// Path of the encoder among the parameters.
const ENCODER: &str = "encoder";
/// Paths of the embeddings beside the read-out's parameters.
const EMBEDDED: &str = "embedded";
const SUPPORT: &str = "support";
const QUERY: &str = "query";

/// A read-out after an encoder, a part of which adapts.
pub trait Partial: Send + Sync + 'static {
    /// Path of the read-out among the parameters.
    const PATH: &str;

    /// What stands after the encoder.
    type Readout<L: Primitives>: Module<L>;

    /// The read-out of embeddings of `width`, with parameters from `initializer`, each `[1, …]`.
    fn init<L: Primitives>(
        &self,
        width: usize,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Readout<L>;

    /// Its inner loop.
    fn inner_loop(&self) -> InnerLoop;

    /// Order of the meta-gradient.
    fn order(&self) -> Order;

    /// The rule of its inner steps.
    fn optimizer(&self) -> InnerOptimizer;

    /// What adapts, at its start, each `[t, …]`; `shared` are the parameters of the read-out.
    fn start<L: Primitives>(
        &self,
        shared: &Params<L>,
        tasks: usize,
        device: &L::Device,
    ) -> Params<L>;

    /// The parameters of the read-out of each task, with what has adapted in place; `shared` are
    /// constants in an inner step.
    fn place<L: Primitives>(&self, shared: Params<L>, adapted: &Params<L>) -> Params<L>;

    /// Predictions for embedded items `[t, b, d]`, from the embedded support where the read-out reads
    /// it: `[t, b, outputs]`.
    fn forward<L: Primitives>(
        &self,
        readout: &Self::Readout<L>,
        adapted: &Params<L>,
        items: Tensor<L, 3>,
        support: Embeddings<'_, L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3>;
}

/// The embedded support of a meta-batch.
#[derive(Clone, Copy)]
pub struct Embeddings<'a, L: Primitives> {
    /// Embeddings and targets.
    pub items: &'a ItemBatch<L>,
    /// Classes of a task.
    pub way: usize,
}

/// The [`Learner`] of anything [`Partial`].
pub struct PartialLearner<R, A, B: Primitives> {
    rule: R,
    architecture: A,
    device: B::Device,
    /// `φ` below `encoder`, `ω` below [`Partial::PATH`], each `[1, …]`.
    parameters: Params<B>,
}

impl<R: Partial, A: Architecture, B: Primitives> PartialLearner<R, A, B> {
    /// The learner with parameters drawn from the seed of `new`.
    pub fn boxed(rule: R, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let initializer = &mut Initializer::seeded(new.seed);
        let encoder = new.architecture.init::<B>(initializer, new.device);
        let readout = rule.init::<B>(new.architecture.width(), initializer, new.device);
        Box::new(PartialLearner::<R, A, B> {
            parameters: Params::of(&encoder)
                .with_prefix(ENCODER)
                .join(Params::of(&readout).with_prefix(R::PATH)),
            rule,
            architecture: new.architecture,
            device: new.device.clone(),
        })
    }

    fn of_readout(&self) -> OfReadout<'_, R, B::Device> {
        OfReadout {
            rule: &self.rule,
            width: self.architecture.width(),
            device: &self.device,
        }
    }

    /// The tasks as the encoder in `parameters` sees them.
    fn embed<L: Primitives<Device = B::Device>>(
        &self,
        parameters: &Params<L>,
        tasks: &TaskBatch<L>,
        training: bool,
    ) -> Embedded<L> {
        let zeros = &mut Initializer::zeros();
        let skeleton = self.architecture.init::<L>(zeros, &self.device);
        let encoder = parameters.under(ENCODER).write_into(skeleton);
        Embedded::of(&encoder, self.architecture.statistics(), tasks, training)
    }

    /// The shared part of the inner loop: the read-out's parameters and the embeddings.
    fn shared<L: Primitives>(parameters: &Params<L>, embedded: &Embedded<L>) -> Params<L> {
        parameters.under(R::PATH).join(embeddings(embedded))
    }

    fn evaluated(&self, tasks: &TaskBatch<B>) -> Params<B> {
        let embedded = self.embed(&self.parameters, tasks, false);
        Self::shared(&self.parameters, &embedded)
    }

    /// The meta-gradient with the graph of one inner step at a time, then that of the encoder.
    fn step_by_step(&self, tasks: &TaskBatch<B>) -> MetaGradient<B> {
        let lifted = tasks.lift::<Autodiff<B>>();
        let leaves = self.parameters.clone().lift::<Autodiff<B>>();
        let embedded = self.embed(&leaves, &lifted, true);
        let buffers = embedded.pass.statistics.take().with_prefix(ENCODER).lower();
        let values = embeddings(&embedded);
        let shared = self.parameters.under(R::PATH).join(values.clone().lower());
        let end = through_steps(&self.of_readout(), &shared, tasks);
        let cotangents = end.gradients.under(EMBEDDED).with_prefix(EMBEDDED);
        let (_, of_encoder) = pull_back(values, cotangents, &leaves, &leaves);
        let of_readout = end.gradients.outside(EMBEDDED).with_prefix(R::PATH);
        MetaGradient {
            gradients: of_encoder.overwrite(of_readout),
            buffers,
            ..end
        }
    }
}

/// Embeddings as entries: what the inner loop reads of the tasks.
fn embeddings<L: Primitives>(embedded: &Embedded<L>) -> Params<L> {
    let mut entries = Params::default();
    entries.push(SUPPORT, embedded.support.inputs.clone());
    entries.push(QUERY, embedded.query.clone());
    entries.with_prefix(EMBEDDED)
}

impl<R: Partial, A: Architecture, B: Primitives> Learner<B> for PartialLearner<R, A, B> {
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
        if self.rule.inner_loop().checkpoint {
            return self.step_by_step(tasks);
        }
        let lifted = tasks.lift::<Autodiff<B>>();
        let leaves = self.parameters.clone().lift::<Autodiff<B>>();
        let embedded = self.embed(&leaves, &lifted, true);
        let shared = Self::shared(&leaves, &embedded);
        let end = in_one_graph::<B, _>(&self.of_readout(), &shared, &lifted);
        let buffers = embedded.pass.statistics.take().with_prefix(ENCODER);
        MetaGradient::of(&leaves, end.losses, end.predictions, &lifted.query, buffers)
    }

    fn predict(&self, tasks: &TaskBatch<B>, at: PredictAt) -> Vec<Tensor<B, 3>> {
        predict(&self.of_readout(), &self.evaluated(tasks), tasks, at)
    }

    fn explain(&self, tasks: &TaskBatch<B>) -> Explanation<B> {
        explain(&self.of_readout(), &self.evaluated(tasks), tasks)
    }
}

/// A rule with what its read-out is built from.
struct OfReadout<'a, R, D> {
    rule: &'a R,
    width: usize,
    device: &'a D,
}

impl<R: Partial, D> OfReadout<'_, R, D> {
    /// The read-out on a level, with its parameters in place.
    fn readout<L: Primitives<Device = D>>(&self, parameters: Params<L>) -> R::Readout<L> {
        let zeros = &mut Initializer::zeros();
        parameters.write_into(self.rule.init(self.width, zeros, self.device))
    }

    fn support<L: Primitives<Device = D>>(
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
    ) -> ItemBatch<L> {
        ItemBatch {
            inputs: embedding(shared, SUPPORT),
            ..tasks.support.clone()
        }
    }
}

fn embedding<L: Primitives>(shared: &Params<L>, which: &str) -> Tensor<L, 3> {
    let embedded = shared.get(&format!("{EMBEDDED}.{which}"));
    embedded.expect("the embeddings are there")
}

impl<R: Partial, B: Primitives> Adaptation<B> for OfReadout<'_, R, B::Device> {
    fn inner_loop(&self) -> InnerLoop {
        self.rule.inner_loop()
    }

    fn order(&self, _progress: f64) -> Order {
        self.rule.order()
    }

    fn loss_weights(&self, _progress: f64) -> Vec<f64> {
        last_alone(self.rule.inner_loop().steps)
    }

    fn start<L: Primitives<Device = B::Device>>(
        &self,
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
        _pass: &Pass<L>,
    ) -> Params<L> {
        let readout = shared.outside(EMBEDDED);
        self.rule.start(&readout, tasks.tasks(), self.device)
    }

    fn step<L: Primitives<Device = B::Device>>(
        &self,
        at: StepOf,
        state: Params<L>,
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
    ) -> (Params<L>, Params<L>) {
        let weights = InnerOptimizer::weights(&state);
        let (weights, shared) = match at.order {
            Order::Second => (weights, shared.clone()),
            Order::First => (weights.detach(), shared.clone().detach()),
        };
        let fast = weights.lift::<Autodiff<L>>();
        let support = Self::support(&shared, tasks).lift();
        let constants = shared.outside(EMBEDDED).lift_constant();
        let readout = self.readout(self.rule.place(constants, &fast));
        let embeddings = Embeddings {
            items: &support,
            way: tasks.shape.way.0,
        };
        let items = support.inputs.clone();
        let pass = Pass::evaluation();
        let predictions = self.rule.forward(&readout, &fast, items, embeddings, &pass);
        let loss = loss::loss(predictions, &support.targets).sum();
        let gradients = fast.gradients(&loss.backward());
        let after = self.rule.optimizer().step(at.index, state, &gradients);
        (after, Params::default())
    }

    fn predict_queries<L: Primitives<Device = B::Device>>(
        &self,
        state: &Params<L>,
        shared: &Params<L>,
        _steps: usize,
        tasks: &TaskBatch<L>,
        pass: Pass<L>,
    ) -> (Tensor<L, 3>, Pass<L>) {
        let adapted = InnerOptimizer::weights(state);
        let readout = self.readout(self.rule.place(shared.outside(EMBEDDED), &adapted));
        let support = Self::support(shared, tasks);
        let embeddings = Embeddings {
            items: &support,
            way: tasks.shape.way.0,
        };
        let items = embedding(shared, QUERY);
        let predictions = self
            .rule
            .forward(&readout, &adapted, items, embeddings, &pass);
        (predictions, pass)
    }

    fn buffers<L: Primitives>(
        &self,
        _index: usize,
        _support: Params<L>,
        _query: Option<Params<L>>,
    ) -> Params<L> {
        Params::default()
    }

    fn adapted<L: Primitives<Device = B::Device>>(
        &self,
        state: &Params<L>,
        _shared: &Params<L>,
        _steps: usize,
    ) -> Params<L> {
        InnerOptimizer::weights(state)
    }
}
