//! The contract that every learner keeps, whatever its family.
//!
//! Gradient, metric, memory and in-context learners answer the same questions: what is the
//! meta-gradient of these tasks, what does the learner predict for the queries of these tasks given
//! their supports, and how did it decide? Returning gradients rather than a loss lets learners that
//! never form one (Reptile, Meta-LSTM) share the outer loop with those that do.
//!
//! A learner's file defines a struct of settings that implements [`LearnerSettings`], and the learner
//! itself, which implements [`Learner`]; one line in `meta-algos/src/lib.rs` registers it.

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Result,
    nn::{AttentionMap, encoder::Architecture, loss},
    params::Params,
    primitives::Primitives,
    rng::Seed,
    task::{TargetBatch, TaskBatch, TaskSpec},
};

/// The family a learner belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Adapts parameters by gradient steps on the support.
    Gradient,
    /// Compares queries with the support in an embedding.
    Metric,
    /// Writes the support into a memory and reads it for the queries.
    Memory,
    /// Reads the support as context of the queries, in one forward pass.
    InContext,
    /// Attention is what is learned to learn, or what makes the task's learner.
    Attention,
}

/// What a learner's file says of itself; help, tables and documentation read it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LearnerInfo {
    /// Its name in manifests.
    pub name: &'static str,
    /// Its family.
    pub family: Family,
    /// One line on what it does.
    pub summary: &'static str,
    /// Authors, title, venue.
    pub paper: &'static str,
    /// Whether it can learn regression tasks.
    pub regression: bool,
    /// Whether the way at test may differ from the way in training.
    pub any_way: bool,
}

/// The meta-gradient of a meta-batch, and how its tasks went.
#[derive(Clone, Debug)]
pub struct MetaGradient<B: Primitives> {
    /// Gradient of the mean over tasks of the query loss, by parameter.
    pub gradients: Params<B>,
    /// New values of buffers (running statistics); empty where there are none.
    pub buffers: Params<B>,
    /// Query loss of each task, `[t]`.
    pub losses: Tensor<B, 1>,
    /// Query accuracy of each task (regression: mean squared error), `[t]`.
    pub scores: Tensor<B, 1>,
}

impl<B: Primitives> MetaGradient<B> {
    /// `∇` of the mean of `losses`, `[t]`, with respect to `leaves`; `predictions` for the queries,
    /// `[t, q, outputs]`, only give the scores.
    pub fn of(
        leaves: &Params<Autodiff<B>>,
        losses: Tensor<Autodiff<B>, 1>,
        predictions: Tensor<Autodiff<B>, 3>,
        targets: &TargetBatch<Autodiff<B>>,
        buffers: Params<Autodiff<B>>,
    ) -> Self {
        let gradients = leaves.gradients(&losses.clone().mean().backward());
        MetaGradient {
            gradients,
            buffers: buffers.lower(),
            scores: loss::score(predictions, targets).inner(),
            losses: losses.inner(),
        }
    }

    /// The meta-gradient of two sets of tasks together: means weighted by their numbers of tasks.
    pub fn merge(self, other: Self) -> Self {
        let [tasks] = self.losses.dims();
        let [other_tasks] = other.losses.dims();
        let share = tasks as f64 / (tasks + other_tasks) as f64;
        MetaGradient {
            gradients: self.gradients.mix(share, &other.gradients),
            buffers: self.buffers.mix(share, &other.buffers),
            losses: Tensor::cat(vec![self.losses, other.losses], 0),
            scores: Tensor::cat(vec![self.scores, other.scores], 0),
        }
    }
}

/// Which predictions are wanted of a learner that adapts by steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Before the first step and after every one.
    EveryStep,
    /// After the last step alone: the learner's answer.
    Last,
}

/// How a learner came to its answers for a meta-batch.
#[derive(Clone, Debug)]
pub struct Explanation<B: Primitives> {
    /// Predictions for the queries before the first step of adaptation and after every one, as
    /// [`Learner::predict`] gives them.
    pub predictions: Vec<Tensor<B, 3>>,
    /// What attended to what for the last of them.
    pub maps: Vec<AttentionMap<B>>,
    /// How far the parameters of each layer have moved: name of the layer and Euclidean distance from
    /// its start after every step, `[t]` each; nothing where none is adapted.
    pub movement: Vec<(String, Vec<Tensor<B, 1>>)>,
}

/// A learner and its meta-parameters on one backend.
///
/// `B` is a plain backend; a learner that differentiates goes up the levels itself. Adaptation
/// never changes the learner: only [`Learner::set_parameters`] does.
pub trait Learner<B: Primitives>: Send + Sync {
    /// The meta-parameters and buffers, each `[1, …]` on the task axis.
    fn parameters(&self) -> Params<B>;

    /// Replaces the meta-parameters and buffers.
    ///
    /// # Panics
    /// When names or shapes differ from [`Learner::parameters`]; what comes from a file is checked
    /// with [`Params::check_like`] first.
    fn set_parameters(&mut self, parameters: Params<B>);

    /// The meta-gradient of `tasks`: the gradient of the mean over tasks of the mean query loss.
    fn meta_gradient(&self, tasks: &TaskBatch<B>) -> MetaGradient<B>;

    /// Predictions for the queries, `[t, q, outputs]` each: class scores (logits) or regression values.
    ///
    /// A learner that adapts by steps returns the predictions that `answers` names, any other returns
    /// one. The last one is the learner's answer.
    fn predict(&self, tasks: &TaskBatch<B>, answers: Answers) -> Vec<Tensor<B, 3>>;

    /// Mean over queries and outputs of the log-density of their targets, in nats, `[t]`; none where
    /// the learner predicts no density.
    fn log_likelihood(&self, _tasks: &TaskBatch<B>) -> Option<Tensor<B, 1>> {
        None
    }

    /// What the learner can show of how it decided; its predictions alone where that is nothing.
    fn explain(&self, tasks: &TaskBatch<B>) -> Explanation<B> {
        Explanation {
            predictions: self.predict(tasks, Answers::EveryStep),
            maps: Vec::new(),
            movement: Vec::new(),
        }
    }
}

/// What the meta-gradient of a learner is the gradient of, and with which settings (objects) that is
/// checked against central differences.
#[derive(Clone, Debug)]
pub enum GradientOf {
    /// Of the query loss of its predictions.
    Queries(Vec<Value>),
    /// Of a training loss of its own, which it reports; the text says which.
    Training(&'static str, Vec<Value>),
    /// Of no loss, or only in a limit: the text says why, and which test holds it instead.
    Neither(&'static str, Vec<Value>),
}

impl GradientOf {
    /// The settings.
    pub fn settings(&self) -> &[Value] {
        match self {
            GradientOf::Queries(all)
            | GradientOf::Training(_, all)
            | GradientOf::Neither(_, all) => all,
        }
    }
}

/// Settings of a learner: how it is described, checked and built.
pub trait LearnerSettings:
    Default + Serialize + DeserializeOwned + Clone + Send + Sync + 'static
{
    /// What the learner is.
    const INFO: LearnerInfo;

    /// Checks every setting, alone and against the tasks and the encoder.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] naming the key under `learner.`, its value and what was expected.
    fn check<A: Architecture>(&self, architecture: &A, spec: &TaskSpec) -> Result<()>;

    /// What its meta-gradient is the gradient of: how `meta gradcheck` and the tests check it. Small
    /// settings keep that fast.
    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![Value::Object(Default::default())])
    }

    /// Builds the learner with parameters drawn from `seed`.
    ///
    /// # Errors
    /// As [`LearnerSettings::check`].
    fn build<A: Architecture, B: Primitives>(
        self,
        architecture: A,
        spec: &TaskSpec,
        seed: Seed,
        device: &B::Device,
    ) -> Result<Box<dyn Learner<B>>>;
}
