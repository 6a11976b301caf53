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
    parallel,
    params::Params,
    primitives::Primitives,
    rng::Seed,
    task::{TargetBatch, TaskBatch},
};

/// Bytes that the items of a task leave in the encoder from which on it is embedded in two halves: below, a graph
/// of its own costs more than it brings.
const LARGE: usize = 1_000_000;

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

    /// Numbers that an item leaves in the encoder for the backward pass, where [`Self::embed`] embeds each item by
    /// itself and the forward pass embeds by [`embed_together`](super::embed::embed_together) alone. A large task
    /// is then embedded in two halves side by side. None: it is not.
    fn embeds_apart(&self) -> Option<usize> {
        None
    }

    /// Embeds items of a task, `[1, b, f]` to `[1, b, d]`; of rules that embed items apart.
    fn embed<L: Primitives>(
        &self,
        _model: &Self::Model<L>,
        _items: Tensor<L, 3>,
        _pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        unreachable!("`embeds_apart` is none")
    }

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

    /// Whether a task is embedded in two halves: one task, whose items leave [`LARGE`] bytes or more.
    fn in_halves(&self, tasks: &TaskBatch<B>) -> bool {
        let [t, s] = tasks.support.dims();
        let items = s + tasks.query.dims()[1];
        let bytes = |numbers: usize| numbers.saturating_mul(items).saturating_mul(4);
        let apart = self.rule.embeds_apart();
        B::SIDE_BY_SIDE && t == 1 && items > 1 && apart.is_some_and(|own| bytes(own) >= LARGE)
    }

    /// [`Learner::meta_gradient`] of one task by the chain rule at its embeddings `e`: `∂L/∂e` in a graph of the
    /// rule, then `∂L/∂e · ∂e/∂θ` in a graph for each half of the items. The halves are given, so that the
    /// number of threads changes no bit.
    fn gradient_in_halves(&self, tasks: &TaskBatch<B>) -> MetaGradient<B> {
        let ([_, s], [_, q]) = (tasks.support.dims(), tasks.query.dims());
        let all = Tensor::cat(
            vec![tasks.support.inputs.clone(), tasks.query.inputs.clone()],
            1,
        );
        let first = (s + q).div_ceil(2);
        let halves = [
            ("first half", 0, first),
            ("second half", first, s + q - first),
        ];
        let threads = rayon::current_num_threads();
        let embedded = parallel::each(&halves, threads, |&(purpose, start, count)| {
            let leaves = self.parameters.clone().lift::<Autodiff<B>>();
            let items = Tensor::from_inner(all.clone().narrow(1, start, count));
            let pass = Pass::new(Mode::learning(tasks, purpose, 0));
            let embedded = self.rule.embed(&self.model(leaves.clone()), items, &pass);
            (leaves, embedded)
        });
        let values = embedded
            .iter()
            .map(|(_, embedded)| embedded.clone().inner());
        let values = Tensor::<Autodiff<B>, 3>::from_inner(Tensor::cat(values.collect(), 1));
        let values = values.require_grad();
        let leaves = self.parameters.clone().lift::<Autodiff<B>>();
        let lifted = tasks.lift::<Autodiff<B>>();
        let pass = Pass::new(Mode::learning(tasks, "task", 0))
            .with_reference(s)
            .of_embedded(
                values.clone().narrow(1, 0, s),
                values.clone().narrow(1, s, q),
            );
        let (losses, predictions) = self.answers(&leaves, &lifted, &pass);
        let gradients = losses.clone().mean().backward();
        let along = values
            .grad(&gradients)
            .expect("every embedding is compared");
        let parts: Vec<_> = embedded.into_iter().zip(halves).collect();
        let of_halves = parallel::each(&parts, threads, |((leaves, embedded), half)| {
            let along = Tensor::from_inner(along.clone().narrow(1, half.1, half.2));
            let product = (embedded.clone() * along).sum();
            leaves.gradients(&product.backward())
        });
        let own = leaves.gradients(&gradients);
        let gradients = of_halves.iter().fold(own, |sum, half| sum.plus(half));
        let buffers = Params::default();
        MetaGradient::along(gradients, losses, predictions, &lifted.query, buffers)
    }

    /// Losses and predictions of a pass of training.
    fn answers(
        &self,
        leaves: &Params<Autodiff<B>>,
        tasks: &TaskBatch<Autodiff<B>>,
        pass: &Pass<Autodiff<B>>,
    ) -> (Tensor<Autodiff<B>, 1>, Tensor<Autodiff<B>, 3>) {
        let output = self.rule.forward(&self.model(leaves.clone()), tasks, pass);
        let losses = self.rule.losses(output.clone(), tasks);
        (losses, self.rule.predictions(output, tasks))
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
        if self.in_halves(tasks) {
            return self.gradient_in_halves(tasks);
        }
        let leaves = self.parameters.clone().lift::<Autodiff<B>>();
        let lifted = tasks.lift::<Autodiff<B>>();
        let mode = Mode::learning(tasks, "task", 0);
        let pass = Pass::new(mode).with_reference(lifted.support.dims()[1]);
        let (losses, predictions) = self.answers(&leaves, &lifted, &pass);
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
