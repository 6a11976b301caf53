//! What learners that adapt by gradient steps share: the network on any level, the gradient of the
//! support loss, the meta-gradient of the query loss, predictions step by step.

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;

use crate::{
    learner::{Answers, MetaGradient},
    nn::{
        Mode, Pass,
        encoder::{Architecture, Encoder},
        init::Initializer,
        loss, metric,
        network::Network,
        norm::Statistics,
    },
    params::Params,
    primitives::Primitives,
    rng::Seed,
    task::{ItemBatch, TaskBatch},
};

/// What the supports of the tasks say of parameters.
pub struct SupportLoss<L: Primitives> {
    /// Mean loss of each task, `[t]`.
    pub losses: Tensor<L, 1>,
    /// Gradient of the sum over tasks, by parameter.
    pub gradients: Params<L>,
    /// Running statistics that the pass leads to; empty where there are none.
    pub buffers: Params<L>,
}

/// A network of an encoder and a linear head, on any level over the backend `B`.
pub struct Adaptable<A: Architecture, B: Primitives> {
    architecture: A,
    outputs: usize,
    device: B::Device,
}

impl<A: Architecture, B: Primitives> Adaptable<A, B> {
    /// The network of `architecture` with a head of `outputs` scores or values.
    pub fn new(architecture: A, outputs: usize, device: &B::Device) -> Self {
        Adaptable {
            architecture,
            outputs,
            device: device.clone(),
        }
    }

    /// First parameters, drawn from `seed`, each `[1, …]`.
    pub fn draw(&self, seed: Seed) -> Params<B> {
        Params::of(&Network::<B, A::Model<B>>::new(
            &self.architecture,
            self.outputs,
            &mut Initializer::seeded(seed),
            &self.device,
        ))
    }

    /// What the normalisations of the network average over.
    pub fn statistics(&self) -> Statistics {
        self.architecture.statistics()
    }

    /// The network on a level, with `parameters` in place.
    pub fn network<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
    ) -> Network<L, A::Model<L>> {
        let skeleton = Network::new(
            &self.architecture,
            self.outputs,
            &mut Initializer::zeros(),
            &self.device,
        );
        parameters.write_into(skeleton)
    }

    /// The encoder on a level, with `parameters` in place.
    pub fn encoder<L: Primitives<Device = B::Device>>(&self, parameters: Params<L>) -> A::Model<L> {
        let skeleton = self
            .architecture
            .init::<L>(&mut Initializer::zeros(), &self.device);
        parameters.write_into(skeleton)
    }

    /// Embeddings of the support at `theta`, `[t, s, d]`, in a pass of its own in the mode of `pass`.
    pub fn embed_support<L: Primitives<Device = B::Device>>(
        &self,
        theta: &Params<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let own = Pass::new(pass.mode.clone());
        let encoder = self.encoder(theta.under("encoder"));
        encoder.forward(tasks.support.inputs.clone(), &own)
    }

    /// `theta` with a head made from the support: the classifier of the class means at `theta`.
    pub fn with_prototypes<L: Primitives<Device = B::Device>>(
        &self,
        theta: Params<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Params<L> {
        let embedded = self.embed_support(&theta, tasks, pass);
        let labels = tasks.support.targets.labels();
        let means = metric::class_means(embedded, labels, tasks.shape.way.0);
        let (weight, bias) = metric::classifier(means);
        let mut theta = theta.outside("head");
        theta.push("head.weight", weight);
        theta.push("head.bias", bias);
        theta
    }

    /// The network on a level, with `parameters` in place and as many outputs as their head has: a
    /// head that a task is given has one for each of its classes.
    fn adapted<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
    ) -> Network<L, A::Model<L>> {
        let head = parameters.get::<3>("head.bias");
        let skeleton = Network::new(
            &self.architecture,
            head.map_or(self.outputs, |bias| bias.dims()[2]),
            &mut Initializer::zeros(),
            &self.device,
        );
        parameters.write_into(skeleton)
    }

    /// `L_s(θ)` of every task with `∇ Σ_tasks L_s(θ)`, on the level of `parameters` and
    /// differentiable there.
    pub fn support_loss<L: Primitives<Device = B::Device>>(
        &self,
        parameters: &Params<L>,
        support: &ItemBatch<L>,
        mode: &Mode,
    ) -> SupportLoss<L> {
        let fast = parameters.clone().lift::<Autodiff<L>>();
        let support = support.lift();
        let pass = Pass::new(mode.clone());
        let predictions = self.adapted(fast.clone()).forward(support.inputs, &pass);
        let losses = loss::loss(predictions, &support.targets);
        // The sum over tasks keeps their gradients apart: each has its own copy of the parameters.
        let backward = losses.clone().sum().backward();
        SupportLoss {
            gradients: fast.gradients(&backward),
            losses: losses.inner(),
            buffers: pass.statistics.take().with_prefix("encoder").lower(),
        }
    }

    /// `∇ Σ_tasks L_s(θ)`, on the level of `parameters` and differentiable there.
    pub fn support_gradient<L: Primitives<Device = B::Device>>(
        &self,
        parameters: &Params<L>,
        support: &ItemBatch<L>,
        mode: &Mode,
    ) -> Params<L> {
        self.support_loss(parameters, support, mode).gradients
    }

    /// Predictions for the queries at `parameters`, `[t, q, outputs]`, and the pass that made them.
    pub fn answer<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
        tasks: &TaskBatch<L>,
        pass: Pass<L>,
    ) -> (Tensor<L, 3>, Pass<L>) {
        self.adapted(parameters).forward_query(
            tasks.support.inputs.clone(),
            tasks.query.inputs.clone(),
            self.statistics(),
            pass,
        )
    }

    /// `∇` of the mean over tasks of the query loss at `fast`, with respect to `leaves`.
    pub fn query_gradient(
        &self,
        leaves: &Params<Autodiff<B>>,
        fast: Params<Autodiff<B>>,
        tasks: &TaskBatch<Autodiff<B>>,
    ) -> MetaGradient<B> {
        let pass = Pass::new(Mode::learning(tasks, "query", 0));
        let (predictions, pass) = self.answer(fast, tasks, pass);
        let losses = loss::loss(predictions.clone(), &tasks.query.targets);
        let buffers = pass.statistics.take().with_prefix("encoder");
        MetaGradient::of(leaves, losses, predictions, &tasks.query.targets, buffers)
    }

    /// Predictions for the queries after `steps` calls of `step` from `start` on, on the plain
    /// backend.
    pub fn predict(
        &self,
        tasks: &TaskBatch<B>,
        answers: Answers,
        start: Params<B>,
        steps: usize,
        step: impl FnMut(usize, Params<B>) -> Params<B>,
    ) -> Vec<Tensor<B, 3>> {
        predictions(answers, start, steps, step, |parameters: &Params<B>| {
            self.answer(parameters.clone(), tasks, Pass::evaluation()).0
        })
    }
}

/// The answers of a learner whose `state` changes in `steps` calls of `step`, as they are asked for.
pub fn predictions<S, T>(
    answers: Answers,
    mut state: S,
    steps: usize,
    mut step: impl FnMut(usize, S) -> S,
    answer: impl Fn(&S) -> T,
) -> Vec<T> {
    let mut given = Vec::new();
    for index in 0..steps {
        if answers == Answers::EveryStep {
            given.push(answer(&state));
        }
        state = step(index, state);
    }
    given.push(answer(&state));
    given
}

/// The items of a meta-batch as an encoder that is not adapted sees them.
pub struct Embedded<L: Primitives> {
    /// Embeddings of the support with its targets, `[t, s, d]`.
    pub support: ItemBatch<L>,
    /// Embeddings of the queries, `[t, q, d]`.
    pub query: Tensor<L, 3>,
    /// The pass of the queries.
    pub pass: Pass<L>,
}

impl<L: Primitives> Embedded<L> {
    /// Embeds support and queries once: each alone, or together where statistics come from the
    /// support ([`Statistics::Support`]).
    pub fn new(
        encoder: &impl Encoder<L>,
        statistics: Statistics,
        tasks: &TaskBatch<L>,
        training: bool,
    ) -> Self {
        let pass = |purpose| match training {
            true => Pass::new(Mode::learning(tasks, purpose, 0)),
            false => Pass::evaluation(),
        };
        let (inputs, queries) = (tasks.support.inputs.clone(), tasks.query.inputs.clone());
        let (support, query, pass) = if statistics == Statistics::Support {
            let ([_, s], [_, q]) = (tasks.support.dims(), tasks.query.dims());
            let pass = pass("task").with_reference(s);
            let all = encoder.forward(Tensor::cat(vec![inputs, queries], 1), &pass);
            (all.clone().narrow(1, 0, s), all.narrow(1, s, q), pass)
        } else {
            let pass_of_queries = pass("query");
            let query = encoder.forward(queries, &pass_of_queries);
            let support = encoder.forward(inputs, &pass("support"));
            (support, query, pass_of_queries)
        };
        Embedded {
            support: ItemBatch {
                inputs: support,
                targets: tasks.support.targets.clone(),
            },
            query,
            pass,
        }
    }
}
