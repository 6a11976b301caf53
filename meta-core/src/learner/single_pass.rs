//! Learners that answer in one forward pass: nothing is adapted at test.
//!
//! Such a learner is a model and a rule: with the model's parameters in place, the rule answers the
//! queries from the support, by comparing them (metric learners), by reading the support through
//! attention (in-context learners, neural processes) or through a memory. The meta-gradient is one
//! backward pass, and [`SinglePassLearner`] is the [`Learner`] of any [`SinglePass`].

use burn::{module::Module, tensor::Tensor};
use burn_autodiff::Autodiff;

use super::{Explanation, Learner, MetaGradient, PredictAt, predictive::OutputDistribution};
use crate::{
    nn::{Mode, Pass, init::Initializer, loss},
    params::Params,
    primitives::Primitives,
    rng::Seed,
    task::{TargetBatch, TaskBatch},
};

/// How queries are answered from a support, on any level over a backend.
pub trait SinglePass: Send + Sync + 'static {
    /// What is learned: an encoder, and more where the rule itself is learned.
    type Model<L: Primitives>: Module<L>;

    /// A model with parameters from `initializer`, each `[1, …]` on the task axis.
    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L>;

    /// Where the encoder stands in the model: the path before its running statistics.
    const ENCODER: Option<&str> = Some("encoder");

    /// The one forward pass: what predictions, loss and likelihood follow from, `[t, …, …]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3>;

    /// The distributions that the output of the forward pass stands for; predictions, loss and
    /// likelihood then follow from them. None where the output is something else.
    fn predictive(&self) -> Option<OutputDistribution> {
        None
    }

    /// Predictions for the queries, `[t, q, outputs]`, from the output of the forward pass.
    fn predictions<L: Primitives>(
        &self,
        output: Tensor<L, 3>,
        _tasks: &TaskBatch<L>,
    ) -> Tensor<L, 3> {
        match self.predictive() {
            Some(predictive) => predictive.predictions(output),
            None => output,
        }
    }

    /// Whether the forward pass also answers for the items of the support, each before its label is known: in the
    /// first `s` rows of its output.
    const ANSWERS_SUPPORT: bool = false;

    /// Mean log-likelihood of the targets of each task's queries, `[t]`, where that is no function of the
    /// output of the forward pass.
    fn likelihood<L: Primitives>(
        &self,
        _model: &Self::Model<L>,
        _tasks: &TaskBatch<L>,
        _pass: &Pass<L>,
    ) -> Option<Tensor<L, 1>> {
        None
    }

    /// Loss of each task, `[t]`, from the output of the forward pass.
    fn losses<L: Primitives>(&self, output: Tensor<L, 3>, tasks: &TaskBatch<L>) -> Tensor<L, 1> {
        match self.predictive() {
            Some(predictive) => predictive.losses(output, &tasks.query),
            None => loss::loss_of_items(self.predictions(output, tasks), &tasks.query),
        }
    }
}

/// A rule with the parameters of its model on the backend `B`.
pub struct SinglePassLearner<R, B: Primitives> {
    rule: R,
    device: B::Device,
    /// Parameters of the model, each `[1, …]`.
    parameters: Params<B>,
}

impl<R: SinglePass, B: Primitives> SinglePassLearner<R, B> {
    /// The learner that answers by `rule`, whose model is drawn from `seed`.
    pub fn boxed(rule: R, seed: Seed, device: &B::Device) -> Box<dyn Learner<B>> {
        let model = rule.init::<B>(&mut Initializer::seeded(seed), device);
        Box::new(SinglePassLearner {
            parameters: Params::of(&model),
            rule,
            device: device.clone(),
        })
    }

    /// The model on any level over the backend, with `parameters` in place.
    fn model<L: Primitives<Device = B::Device>>(&self, parameters: Params<L>) -> R::Model<L> {
        let skeleton = self.rule.init::<L>(&mut Initializer::zeros(), &self.device);
        parameters.write_into(skeleton)
    }

    /// The forward pass of evaluation, on the plain backend.
    fn forward(&self, tasks: &TaskBatch<B>, pass: &Pass<B>) -> Tensor<B, 3> {
        let model = self.model(self.parameters.clone());
        self.rule.forward(&model, tasks, pass)
    }

    fn evaluation(tasks: &TaskBatch<B>) -> Pass<B> {
        Pass::evaluation().with_reference(tasks.support.dims()[1])
    }
}

impl<R: SinglePass, B: Primitives> Learner<B> for SinglePassLearner<R, B> {
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
        let model = self.model(leaves.clone());
        let output = self.rule.forward(&model, &lifted, &pass);
        let losses = self.rule.losses(output.clone(), &lifted);
        let predictions = self.rule.predictions(output, &lifted);
        let statistics = pass.statistics.take();
        let buffers = match R::ENCODER {
            Some(path) => statistics.with_prefix(path),
            None => statistics,
        };
        MetaGradient::of(&leaves, losses, predictions, &lifted.query, buffers)
    }

    fn predict(&self, tasks: &TaskBatch<B>, _at: PredictAt) -> Vec<Tensor<B, 3>> {
        let output = self.forward(tasks, &Self::evaluation(tasks));
        vec![self.rule.predictions(output, tasks)]
    }

    fn log_likelihood(&self, tasks: &TaskBatch<B>) -> Option<Tensor<B, 1>> {
        // Asked of every learner that is evaluated: without a density there is no second pass.
        let Some(predictive) = self.rule.predictive() else {
            let model = self.model(self.parameters.clone());
            return self
                .rule
                .likelihood(&model, tasks, &Self::evaluation(tasks));
        };
        let output = self.forward(tasks, &Self::evaluation(tasks));
        predictive.log_likelihood(output, &tasks.query)
    }

    fn deviations(&self, tasks: &TaskBatch<B>) -> Option<Tensor<B, 3>> {
        let predictive = self.rule.predictive()?;
        predictive.deviations(self.forward(tasks, &Self::evaluation(tasks)))
    }

    fn support_answers(&self, tasks: &TaskBatch<B>) -> Option<Tensor<B, 3>> {
        let classified = matches!(tasks.support.targets, TargetBatch::Classes(_));
        (R::ANSWERS_SUPPORT && classified).then(|| {
            let output = self.forward(tasks, &Self::evaluation(tasks));
            output.narrow(1, 0, tasks.support.dims()[1])
        })
    }

    fn quantiles(&self, tasks: &TaskBatch<B>, levels: &[f64]) -> Option<Tensor<B, 3>> {
        let predictive = self.rule.predictive()?;
        predictive.quantiles(self.forward(tasks, &Self::evaluation(tasks)), levels)
    }

    fn explain(&self, tasks: &TaskBatch<B>) -> Explanation<B> {
        let pass = Self::evaluation(tasks).recording();
        let output = self.forward(tasks, &pass);
        Explanation {
            predictions: vec![self.rule.predictions(output, tasks)],
            maps: pass.recorded(),
            movement: Vec::new(),
            trials: Vec::new(),
        }
    }
}
