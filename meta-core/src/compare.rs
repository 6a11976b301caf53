//! Metric learners: a learned comparison of the queries with the support.
//!
//! A metric learner is a model and a rule: with the model's parameters in place, the rule compares
//! every query with the support. Nothing is adapted, so the meta-gradient is one backward pass, and
//! [`MetricLearner`] is the [`Learner`] of any [`Comparison`].

use burn::{module::Module, tensor::Tensor};
use burn_autodiff::Autodiff;

use crate::{
    learner::{Answers, Learner, MetaGradient},
    nn::{Mode, Pass, encoder::Encoder, init::Initializer, loss},
    params::Params,
    primitives::Primitives,
    rng::Seed,
    task::TaskBatch,
};

/// How queries are compared with a support, on any level over a backend.
pub trait Comparison: Send + 'static {
    /// What is learned: an encoder, and more where the comparison itself is learned.
    type Model<L: Primitives>: Module<L>;

    /// A model with parameters from `initializer`, each `[1, …]` on the task axis.
    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L>;

    /// Where the encoder stands in the model: the path before its running statistics.
    const ENCODER: Option<&str> = Some("encoder");

    /// Compares the queries with what they are compared with: `[t, q, classes or support items]`.
    fn compare<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3>;

    /// Class scores of the queries, `[t, q, n]`, from their comparisons.
    fn scores<L: Primitives>(&self, compared: Tensor<L, 3>, _tasks: &TaskBatch<L>) -> Tensor<L, 3> {
        compared
    }

    /// Loss of each task, `[t]`, from the comparisons of its queries.
    fn losses<L: Primitives>(&self, compared: Tensor<L, 3>, tasks: &TaskBatch<L>) -> Tensor<L, 1> {
        loss::loss(self.scores(compared, tasks), &tasks.query.targets)
    }
}

/// A learned comparison on the backend `B`.
pub struct MetricLearner<C, B: Primitives> {
    comparison: C,
    device: B::Device,
    /// Parameters of the model, each `[1, …]`.
    parameters: Params<B>,
}

impl<C: Comparison, B: Primitives> MetricLearner<C, B> {
    /// A learner whose model is drawn from `seed`.
    pub fn new(comparison: C, seed: Seed, device: &B::Device) -> Self {
        let model = comparison.init::<B>(&mut Initializer::seeded(seed), device);
        MetricLearner {
            parameters: Params::of(&model),
            comparison,
            device: device.clone(),
        }
    }

    /// The model on any level over the backend, with `parameters` in place.
    fn model<L: Primitives<Device = B::Device>>(&self, parameters: Params<L>) -> C::Model<L> {
        let skeleton = self
            .comparison
            .init::<L>(&mut Initializer::zeros(), &self.device);
        parameters.write_into(skeleton)
    }
}

impl<C: Comparison, B: Primitives> Learner<B> for MetricLearner<C, B> {
    fn parameters(&self) -> Params<B> {
        self.parameters.clone()
    }

    fn set_parameters(&mut self, parameters: Params<B>) {
        // Through a model, which checks names and shapes.
        self.parameters = Params::of(&self.model(parameters));
    }

    fn meta_gradient(&self, tasks: &TaskBatch<B>) -> MetaGradient<B> {
        let leaves = self.parameters.clone().lift::<Autodiff<B>>();
        let lifted = tasks.lift::<Autodiff<B>>();
        let mode = Mode::learning(tasks, "task", 0);
        let pass = Pass::new(mode).with_reference(lifted.support.dims()[1]);
        let compared = self
            .comparison
            .compare(&self.model(leaves.clone()), &lifted, &pass);
        let losses = self.comparison.losses(compared.clone(), &lifted);
        let scores = self.comparison.scores(compared, &lifted);
        let statistics = pass.statistics.take();
        let buffers = match C::ENCODER {
            Some(path) => statistics.with_prefix(path),
            None => statistics,
        };
        MetaGradient::of(&leaves, losses, scores, &lifted.query.targets, buffers)
    }

    fn predict(&self, tasks: &TaskBatch<B>, _answers: Answers) -> Vec<Tensor<B, 3>> {
        let pass = Pass::evaluation().with_reference(tasks.support.dims()[1]);
        let model = self.model(self.parameters.clone());
        let compared = self.comparison.compare(&model, tasks, &pass);
        vec![self.comparison.scores(compared, tasks)]
    }
}

/// Embeds support and queries in one pass, so that normalisation sees them together: `[t, s, d]` and
/// `[t, q, d]`.
pub fn embed_together<L: Primitives>(
    encoder: &impl Encoder<L>,
    tasks: &TaskBatch<L>,
    pass: &Pass<L>,
) -> (Tensor<L, 3>, Tensor<L, 3>) {
    let ([_, s], [_, q]) = (tasks.support.dims(), tasks.query.dims());
    let items = vec![tasks.support.inputs.clone(), tasks.query.inputs.clone()];
    let embeddings = encoder.forward(Tensor::cat(items, 1), pass);
    (
        embeddings.clone().narrow(1, 0, s),
        embeddings.narrow(1, s, q),
    )
}
