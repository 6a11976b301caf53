//! What learners that adapt by gradient steps share: a network on any level, and the gradient of the
//! support loss.

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;

use super::{MetaGradient, New, PredictAt, network::Network};
use crate::{
    nn::{
        Mode, Pass, distance,
        encoder::{Architecture, Encoder},
        init::Initializer,
        loss,
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

/// A network of an encoder and a linear head, on any level over a backend with devices `D`.
#[derive(Clone)]
pub struct Adaptable<A, D> {
    architecture: A,
    outputs: usize,
    device: D,
}

impl<A: Architecture, B: Primitives> New<'_, A, B> {
    /// The encoder with a linear head, one output for each score or value.
    pub fn network(&self) -> Adaptable<A, B::Device> {
        Adaptable::new(self.architecture.clone(), self.spec.outputs(), self.device)
    }
}

impl<A: Architecture, D: Clone> Adaptable<A, D> {
    /// The network of `architecture` with a head of `outputs` scores or values.
    pub fn new(architecture: A, outputs: usize, device: &D) -> Self {
        Adaptable {
            architecture,
            outputs,
            device: device.clone(),
        }
    }

    /// The device that it computes on.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// First parameters, drawn from `seed`, each `[1, …]`.
    pub fn draw<B: Primitives<Device = D>>(&self, seed: Seed) -> Params<B> {
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

    /// The network on a level, with `parameters` in place and as many outputs as their head has: a
    /// head that a task is given has one for each of its classes.
    fn network<L: Primitives<Device = D>>(&self, parameters: Params<L>) -> Network<L, A::Model<L>> {
        let head = parameters.get::<3>("head.bias");
        let skeleton = Network::new(
            &self.architecture,
            head.map_or(self.outputs, |bias| bias.dims()[2]),
            &mut Initializer::zeros(),
            &self.device,
        );
        parameters.write_into(skeleton)
    }

    /// Embeddings of the support at `theta`, `[t, s, d]`, in a pass of its own in the mode of `pass`.
    pub fn embed_support<L: Primitives<Device = D>>(
        &self,
        theta: &Params<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let skeleton = self
            .architecture
            .init::<L>(&mut Initializer::zeros(), &self.device);
        let encoder = theta.under("encoder").write_into(skeleton);
        let own = Pass::new(pass.mode.clone());
        encoder.forward(tasks.support.inputs.clone(), &own)
    }

    /// `theta` with a head made from the support: the classifier of the class means at `theta`.
    pub fn with_prototypes<L: Primitives<Device = D>>(
        &self,
        theta: Params<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Params<L> {
        let embedded = self.embed_support(&theta, tasks, pass);
        let labels = tasks.support.targets.labels();
        let means = distance::class_means(embedded, labels, tasks.shape.way.0);
        let (weight, bias) = distance::classifier(means);
        let mut theta = theta.outside("head");
        theta.push("head.weight", weight);
        theta.push("head.bias", bias);
        theta
    }

    /// `L_s(θ)` of every task with `∇ Σ_tasks L_s(θ)`, on the level of `parameters` and
    /// differentiable there.
    pub fn support_loss<L: Primitives<Device = D>>(
        &self,
        parameters: &Params<L>,
        support: &ItemBatch<L>,
        mode: &Mode,
    ) -> SupportLoss<L> {
        let fast = parameters.clone().lift::<Autodiff<L>>();
        let support = support.lift();
        let pass = Pass::new(mode.clone());
        let predictions = self.network(fast.clone()).forward(support.inputs, &pass);
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
    pub fn support_gradient<L: Primitives<Device = D>>(
        &self,
        parameters: &Params<L>,
        support: &ItemBatch<L>,
        mode: &Mode,
    ) -> Params<L> {
        self.support_loss(parameters, support, mode).gradients
    }

    /// Predictions for the queries at `parameters`, `[t, q, outputs]`, and the pass that made them.
    pub fn predict_queries<L: Primitives<Device = D>>(
        &self,
        parameters: Params<L>,
        tasks: &TaskBatch<L>,
        pass: Pass<L>,
    ) -> (Tensor<L, 3>, Pass<L>) {
        let statistics = self.statistics();
        self.network(parameters)
            .forward_queries(tasks, statistics, pass)
    }

    /// Predictions for the queries at test after the steps that `at` names, of `steps` calls of `step`
    /// from `start` on.
    pub fn predict_by_step<B: Primitives<Device = D>>(
        &self,
        tasks: &TaskBatch<B>,
        at: PredictAt,
        start: Params<B>,
        steps: usize,
        mut step: impl FnMut(usize, Params<B>) -> Params<B>,
    ) -> Vec<Tensor<B, 3>> {
        let answer = |parameters: &Params<B>| {
            let pass = Pass::evaluation();
            self.predict_queries(parameters.clone(), tasks, pass).0
        };
        let mut fast = start;
        let mut predictions = Vec::new();
        for index in 0..steps {
            if at == PredictAt::EveryStep {
                predictions.push(answer(&fast));
            }
            fast = step(index, fast);
        }
        predictions.push(answer(&fast));
        predictions
    }

    /// `∇` of the mean over tasks of the query loss at `fast`, with respect to `leaves`.
    pub fn query_gradient<B: Primitives<Device = D>>(
        &self,
        leaves: &Params<Autodiff<B>>,
        fast: Params<Autodiff<B>>,
        tasks: &TaskBatch<Autodiff<B>>,
    ) -> MetaGradient<B> {
        let pass = Pass::new(Mode::learning(tasks, "query", 0));
        let (predictions, pass) = self.predict_queries(fast, tasks, pass);
        let losses = loss::loss(predictions.clone(), &tasks.query.targets);
        let buffers = pass.statistics.take().with_prefix("encoder");
        MetaGradient::of(leaves, losses, predictions, &tasks.query, buffers)
    }
}
