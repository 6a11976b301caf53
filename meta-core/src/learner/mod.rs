//! The contract that every learner keeps, of any family.
//!
//! Gradient, metric, memory and in-context learners answer the same questions: what is the
//! meta-gradient of these tasks, what does the learner predict for the queries of these tasks given
//! their supports, and how did it decide? Returning gradients rather than a loss lets learners that
//! never form one (Reptile, Meta-LSTM) share the outer loop with those that do.
//!
//! A learner's file defines its settings ([`settings!`](crate::settings!)), which implement
//! [`LearnerSettings`], and how it learns, in one of four ways:
//!
//! | way | implement | and get |
//! |---|---|---|
//! | one forward pass answers | [`single_pass::SinglePass`] | [`single_pass::SinglePassLearner`] |
//! | a network adapts by gradient steps | [`inner_loop::Unrolled`] | [`inner_loop::UnrolledLearner`] |
//! | a part of it does, on embeddings | [`partial::Partial`] | [`partial::PartialLearner`] |
//! | features are classified, nothing is learned across tasks | [`feature_rule::FeatureRule`] | [`feature_rule::FeatureLearner`] |
//!
//! or [`Learner`] itself. One line in `meta-algos/src/lib.rs`, or in a toolkit of your own
//! ([`toolkit!`](crate::toolkit!)), puts it into the binary, the manifests, the tables of the
//! documentation and the conformance suite.

pub mod acting;
pub mod adapt;
pub mod embed;
pub mod feature_rule;
pub mod feature_transform;
pub mod generated_start;
pub mod host_task;
pub mod inner_loop;
pub mod network;
pub mod partial;
pub mod predictive;
pub mod sentences;
pub mod single_pass;
pub mod support_descent;
pub mod support_order;
pub mod tokens;

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use serde::Serialize;
use serde_json::Value;

use crate::{
    Error, Result,
    data::{Split, Task},
    nn::{attention::AttentionMap, encoder::Architecture, loss, norm::Statistics},
    params::Params,
    primitives::Primitives,
    rl::Trial,
    rng::Seed,
    settings::{Field, Settings},
    task::{ItemBatch, TaskBatch, TaskSpec},
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
    /// Classifies features by the support alone: nothing is learned across tasks.
    Baseline,
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
        queries: &ItemBatch<Autodiff<B>>,
        buffers: Params<Autodiff<B>>,
    ) -> Self {
        let gradients = leaves.gradients(&losses.clone().mean().backward());
        Self::along(gradients, losses, predictions, queries, buffers)
    }

    /// [`Self::of`] with these `gradients`.
    fn along(
        gradients: Params<B>,
        losses: Tensor<Autodiff<B>, 1>,
        predictions: Tensor<Autodiff<B>, 3>,
        queries: &ItemBatch<Autodiff<B>>,
        buffers: Params<Autodiff<B>>,
    ) -> Self {
        MetaGradient {
            gradients,
            buffers: buffers.lower(),
            scores: loss::score_of_items(predictions, queries).inner(),
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

/// After which inner steps a learner predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredictAt {
    /// Before the first step and after every one.
    EveryStep,
    /// After the last step alone.
    LastStep,
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
    /// Trials of a policy: of every task the same number, those before adaptation first.
    pub trials: Vec<Trial>,
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

    /// Acts in the environments of `tasks`, which are trained on: the trials that the next updates learn from.
    /// None where the learner does not act.
    ///
    /// # Errors
    /// When the environments cannot be made.
    fn act(&self, _tasks: &TaskBatch<B>) -> Result<Option<Vec<Trial>>> {
        Ok(None)
    }

    /// Learns from `trials`, those of all tasks of a meta-batch, until it is given others. How often that is,
    /// and in how many parts.
    fn gather(&mut self, _trials: Vec<Trial>) -> Passes {
        Passes::default()
    }

    /// The parameters after an update by a rule of the learner's own, along the meta-gradient of all tasks of
    /// `batches`, which are made when asked for. None: the outer optimiser updates them.
    fn own_update(
        &self,
        _gradient: &Params<B>,
        _batches: &dyn Fn() -> Vec<TaskBatch<B>>,
    ) -> Option<Params<B>> {
        None
    }

    /// Predictions for the queries, `[t, q, outputs]` each: class scores (logits), regression values, or the
    /// returns of a policy's trials.
    ///
    /// A learner that adapts by steps returns those after the steps that `at` names, any other returns
    /// one. The last one counts.
    fn predict(&self, tasks: &TaskBatch<B>, at: PredictAt) -> Vec<Tensor<B, 3>>;

    /// Mean over queries and outputs of the log-density of their targets, in nats, `[t]`; none where
    /// the learner predicts no density.
    fn log_likelihood(&self, _tasks: &TaskBatch<B>) -> Option<Tensor<B, 1>> {
        None
    }

    /// Standard deviations of the predictions for the queries, `[t, q, outputs]`; none where the learner
    /// predicts no density.
    fn deviations(&self, _tasks: &TaskBatch<B>) -> Option<Tensor<B, 3>> {
        None
    }

    /// Class scores of the items of the support, each as it was presented and before its label was,
    /// `[t, s, n]`; none where the learner does not read classified items one after the other
    /// ([`support_order`]).
    fn support_answers(&self, _tasks: &TaskBatch<B>) -> Option<Tensor<B, 3>> {
        None
    }

    /// The values below which the targets of the queries lie with the probabilities `levels`, in (0, 1):
    /// `[t, q·outputs, levels]`; none where the learner predicts no distribution, or a normal one.
    fn quantiles(&self, _tasks: &TaskBatch<B>, _levels: &[f64]) -> Option<Tensor<B, 3>> {
        None
    }

    /// The splits on whose episodes the learner is calibrated after training, in this order.
    fn calibration(&self) -> &'static [Split] {
        &[]
    }

    /// Measures on episodes of `split`, of the shape of the test, what the learner keeps beside its
    /// parameters: buffers that no gradient reaches. Called for each split of
    /// [`Learner::calibration`], with the parameters that will be tested.
    ///
    /// # Errors
    /// When an episode cannot be read.
    fn calibrate(
        &mut self,
        _split: Split,
        _batches: &mut dyn Iterator<Item = Result<TaskBatch<B>>>,
    ) -> Result<()> {
        Ok(())
    }

    /// What the learner can show of how it decided; its predictions alone where that is nothing.
    fn explain(&self, tasks: &TaskBatch<B>) -> Explanation<B> {
        Explanation {
            predictions: self.predict(tasks, PredictAt::EveryStep),
            maps: Vec::new(),
            movement: Vec::new(),
            trials: Vec::new(),
        }
    }
}

/// How often the tasks of an iteration are learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passes {
    /// Passes over all of them.
    pub epochs: usize,
    /// Parts of a pass, with an update after each.
    pub parts: usize,
}

impl Default for Passes {
    fn default() -> Self {
        Passes {
            epochs: 1,
            parts: 1,
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

/// Inner steps of a learner, and how many of them are held for the backward pass: memory and time are
/// planned with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Steps {
    /// In training.
    pub train: usize,
    /// Of these, as many as are in one computation graph.
    pub held: usize,
    /// At validation and test.
    pub test: usize,
    /// Numbers that a step keeps of each parameter beside the parameter: the memory of a learned optimizer.
    pub of_parameter: usize,
}

/// What a learner is built from.
pub struct New<'a, A, B: Primitives> {
    /// The encoder.
    pub architecture: A,
    /// Shapes of items and episodes.
    pub spec: &'a TaskSpec,
    /// Seed of the first parameters.
    pub seed: Seed,
    /// Where to compute.
    pub device: &'a B::Device,
}

/// Settings of a learner: how it is described, checked and built.
pub trait LearnerSettings: Settings {
    /// What the learner is.
    const INFO: LearnerInfo;

    /// Backends on which Burn 0.21 computes this learner's gradients wrongly, by their names in manifests.
    const WRONG_ON: &'static [&'static str] = &[];

    /// Whether a prediction may depend on the other queries of its task.
    const TRANSDUCTIVE: bool = false;

    /// Whether each query is answered as the only one of a task of its own: always where the learner is
    /// transductive, and where the place of a query among others reaches the last bits of its answer, since
    /// the order of a sum follows it.
    const QUERIES_ALONE: bool = Self::TRANSDUCTIVE;

    /// Whether the items of a test may have another number of features than those of training, with an
    /// encoder that may too.
    const ANY_FEATURES: bool = false;

    /// Whether it learns tasks whose shots, classes or numbers differ: it reads the masks of items and
    /// answers for the classes that are there ([`TaskBatch::of_classes_there`]). Its encoder sees zeros
    /// where a number is not there. Others are refused such tasks.
    const READS_MASKS: bool = false;

    /// Whether it learns tasks of sequences, and those alone.
    const SEQUENCES: bool = false;

    /// Whether it is a policy: it acts in environments, and learns from what happens ([`acting`]).
    const ACTS: bool = false;

    /// Checks the settings against each other, the encoder and the tasks; ranges are checked already.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] naming the key under `learner.`, its value and what was expected.
    fn check<A: Architecture>(&self, _architecture: &A, _spec: &TaskSpec) -> Result<()> {
        Ok(())
    }

    /// Its inner steps; none where the learner answers in one pass.
    fn steps(&self) -> Steps {
        Steps::default()
    }

    /// Tokens that an item is to the network behind the encoder: memory is planned with them. 1 where it is
    /// one vector.
    fn tokens(&self, _spec: &TaskSpec) -> usize {
        1
    }

    /// As [`Learner::calibration`].
    fn calibration(&self) -> &'static [Split] {
        &[]
    }

    /// What its meta-gradient is the gradient of: how `meta gradcheck` and the tests check it. Small
    /// settings keep that fast.
    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![Value::Object(Default::default())])
    }

    /// How the conformance suite trains it on a task that can be solved.
    fn toy() -> Toy {
        Toy::default()
    }

    /// Builds the learner from settings that are checked, with parameters drawn from the seed.
    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>>;
}

/// Checks that a learner and its encoder can take this kind of tasks, and what they have beyond even ones.
///
/// # Errors
/// [`Error::Setting`] naming the learner, or the encoder's normalisation.
pub fn check_extras<S: LearnerSettings>(statistics: Statistics, spec: &TaskSpec) -> Result<()> {
    if !(spec.extras.items || spec.extras.numbers) {
        return Ok(());
    }
    if !S::READS_MASKS {
        let expected = "learns tasks of one shape alone, and those of `data` differ in shots, classes or \
                        numbers; take a learner that reads masks, such as `protonet`, or make the tasks even";
        return Err(Error::setting("learner.name", S::INFO.name, expected));
    }
    if !matches!(statistics, Statistics::None | Statistics::Layer) {
        let expected = "averages over items, also those that are not there in tasks whose shots or classes \
                        differ; take `none` or `layer`, or another encoder";
        let name = serde_json::to_value(statistics).unwrap_or_default();
        let name = name.as_str().unwrap_or_default().to_owned();
        return Err(Error::setting("encoder.norm", name, expected));
    }
    Ok(())
}

/// Checks that a learner of sequences, or a policy, has such tasks, and any other learner has neither.
///
/// # Errors
/// [`Error::Setting`] naming the learner.
pub fn check_kind<S: LearnerSettings>(spec: &TaskSpec) -> Result<()> {
    let has_sequences = matches!(spec.task, Task::Sequences { .. });
    let expected = if S::ACTS && !spec.task.is_acting() {
        "acts in environments, and `data.source` gives items to predict; take a source of environments, such as \
         `bernoulli_bandit`"
    } else if S::SEQUENCES && !has_sequences {
        "learns from sequence to sequence; take `data.source = \"grammar\"`, or another learner"
    } else if !S::ACTS && spec.task.is_acting() {
        "predicts for items, and `data.source` gives environments to act in; take a policy, such as `rl2`"
    } else if !S::SEQUENCES && has_sequences {
        "answers with classes or values, and the tasks of `data` ask for sequences; take `mlc`"
    } else {
        return Ok(());
    };
    Err(Error::setting("learner.name", S::INFO.name, expected))
}

/// How a learner is trained on the task of the conformance suite: 3-way 2-shot, items of 8 numbers, an
/// MLP of two layers of 16.
#[derive(Clone, Debug)]
pub struct Toy {
    /// Its settings there, an object.
    pub settings: Value,
    /// Meta-batches of 4 tasks after which it has learned.
    pub iterations: u64,
    /// Accuracy that it exceeds then.
    pub accuracy: f64,
    /// Attention maps that it shows there ([`Learner::explain`]).
    pub maps: usize,
}

impl Default for Toy {
    fn default() -> Self {
        Toy {
            settings: Value::Object(Default::default()),
            iterations: 150,
            accuracy: 0.9,
            maps: 0,
        }
    }
}

/// A learner of a list.
#[derive(Clone)]
pub struct LearnerEntry {
    /// What the learner's file says of it.
    pub info: LearnerInfo,
    /// Its settings with their documentation.
    pub fields: Vec<Field>,
    /// Its default settings, as an object.
    pub default_settings: Value,
    /// What its meta-gradient is the gradient of.
    pub gradient_of: GradientOf,
    /// How the conformance suite trains it.
    pub toy: Toy,
    /// Whether a prediction may depend on the other queries of its task.
    pub transductive: bool,
    /// As [`LearnerSettings::QUERIES_ALONE`].
    pub queries_alone: bool,
    /// As [`LearnerSettings::SEQUENCES`].
    pub sequences: bool,
    /// As [`LearnerSettings::ACTS`].
    pub acts: bool,
}

impl LearnerEntry {
    /// The entry of the learner with settings `S`.
    pub fn of<S: LearnerSettings>() -> Self {
        LearnerEntry {
            info: S::INFO,
            fields: S::fields(),
            default_settings: S::defaults(),
            gradient_of: S::gradient_of(),
            toy: S::toy(),
            transductive: S::TRANSDUCTIVE,
            queries_alone: S::QUERIES_ALONE,
            sequences: S::SEQUENCES,
            acts: S::ACTS,
        }
    }
}

/// Settings of one of a list of learners.
pub trait LearnerList: Clone + Send + Sync + Sized + 'static {
    /// All learners of the list.
    fn entries() -> Vec<LearnerEntry>;

    /// The settings (an object) of the learner called `name`.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] for a name or key that does not exist, [`crate::Error::Setting`] for a
    /// value that cannot be used.
    fn new(name: &str, settings: &Value) -> Result<Self>;

    /// As [`LearnerSettings::INFO`].
    fn info(&self) -> LearnerInfo;

    /// As [`LearnerSettings::WRONG_ON`].
    fn wrong_on(&self) -> &'static [&'static str];

    /// As [`LearnerSettings::TRANSDUCTIVE`].
    fn transductive(&self) -> bool;

    /// As [`LearnerSettings::QUERIES_ALONE`].
    fn queries_alone(&self) -> bool;

    /// As [`LearnerSettings::ANY_FEATURES`].
    fn any_features(&self) -> bool;

    /// As [`LearnerSettings::calibration`].
    fn calibration(&self) -> &'static [Split];

    /// As [`LearnerSettings::check`].
    ///
    /// # Errors
    /// As there.
    fn check<A: Architecture>(&self, architecture: &A, spec: &TaskSpec) -> Result<()>;

    /// As [`LearnerSettings::steps`].
    fn steps(&self) -> Steps;

    /// As [`LearnerSettings::tokens`].
    fn tokens(&self, spec: &TaskSpec) -> usize;

    /// As [`LearnerSettings::build`].
    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>>;
}

/// Declares a list of learners, each by its module and its settings: the modules, and the enum of
/// settings, which is a [`LearnerList`]. A list may stand on another one, whose learners it then has
/// too (`: BuiltInLearners`).
#[macro_export]
macro_rules! learners {
    (
        $(#[$about:meta])*
        pub enum $list:ident $(: $base:ty)? {
            $($module:ident::$settings:ident),* $(,)?
        }
    ) => {
        $(
            #[allow(missing_docs)]
            pub mod $module;
        )*

        $(#[$about])*
        #[derive(Clone, Debug)]
        #[allow(clippy::enum_variant_names, clippy::large_enum_variant)]
        pub enum $list {
            $(
                #[doc = concat!("Of [`", stringify!($module), "`].")]
                $settings($module::$settings),
            )*
            $(
                /// Of a learner of the list that this one stands on.
                BuiltIn($base),
            )?
        }

        impl $crate::learner::LearnerList for $list {
            fn entries() -> Vec<$crate::learner::LearnerEntry> {
                #[allow(unused_mut)]
                let mut entries = Vec::<$crate::learner::LearnerEntry>::new();
                $(entries.extend(<$base as $crate::learner::LearnerList>::entries());)?
                entries.extend([
                    $($crate::learner::LearnerEntry::of::<$module::$settings>()),*
                ]);
                entries
            }

            fn new(name: &str, settings: &$crate::settings::Value) -> $crate::Result<Self> {
                $(if name == <$module::$settings as $crate::learner::LearnerSettings>::INFO.name {
                    let settings = <$module::$settings as $crate::settings::Settings>::from_value(
                        "learner", settings,
                    )?;
                    return Ok($list::$settings(settings));
                })*
                $(
                    let built_in = <$base as $crate::learner::LearnerList>::entries();
                    if built_in.iter().any(|entry| entry.info.name == name) {
                        let settings =
                            <$base as $crate::learner::LearnerList>::new(name, settings)?;
                        return Ok($list::BuiltIn(settings));
                    }
                )?
                let entries = <Self as $crate::learner::LearnerList>::entries();
                let known = entries.iter().map(|entry| entry.info.name);
                Err($crate::Error::unknown("learner", name, known))
            }

            fn info(&self) -> $crate::learner::LearnerInfo {
                match self {
                    $($list::$settings(_) => {
                        <$module::$settings as $crate::learner::LearnerSettings>::INFO
                    })*
                    $($list::BuiltIn(settings) => {
                        <$base as $crate::learner::LearnerList>::info(settings)
                    })?
                }
            }

            fn wrong_on(&self) -> &'static [&'static str] {
                match self {
                    $($list::$settings(_) => {
                        <$module::$settings as $crate::learner::LearnerSettings>::WRONG_ON
                    })*
                    $($list::BuiltIn(settings) => {
                        <$base as $crate::learner::LearnerList>::wrong_on(settings)
                    })?
                }
            }

            fn transductive(&self) -> bool {
                match self {
                    $($list::$settings(_) => {
                        <$module::$settings as $crate::learner::LearnerSettings>::TRANSDUCTIVE
                    })*
                    $($list::BuiltIn(settings) => {
                        <$base as $crate::learner::LearnerList>::transductive(settings)
                    })?
                }
            }

            fn queries_alone(&self) -> bool {
                match self {
                    $($list::$settings(_) => {
                        <$module::$settings as $crate::learner::LearnerSettings>::QUERIES_ALONE
                    })*
                    $($list::BuiltIn(settings) => {
                        <$base as $crate::learner::LearnerList>::queries_alone(settings)
                    })?
                }
            }

            fn any_features(&self) -> bool {
                match self {
                    $($list::$settings(_) => {
                        <$module::$settings as $crate::learner::LearnerSettings>::ANY_FEATURES
                    })*
                    $($list::BuiltIn(settings) => {
                        <$base as $crate::learner::LearnerList>::any_features(settings)
                    })?
                }
            }

            fn calibration(&self) -> &'static [$crate::data::Split] {
                match self {
                    $($list::$settings(settings) => {
                        $crate::learner::LearnerSettings::calibration(settings)
                    })*
                    $($list::BuiltIn(settings) => {
                        <$base as $crate::learner::LearnerList>::calibration(settings)
                    })?
                }
            }

            fn check<A: $crate::nn::encoder::Architecture>(
                &self,
                architecture: &A,
                spec: &$crate::task::TaskSpec,
            ) -> $crate::Result<()> {
                match self {
                    $($list::$settings(settings) => {
                        let statistics = $crate::nn::encoder::Architecture::statistics(architecture);
                        $crate::learner::check_kind::<$module::$settings>(spec)?;
                        $crate::learner::check_extras::<$module::$settings>(statistics, spec)?;
                        $crate::learner::LearnerSettings::check(settings, architecture, spec)
                    })*
                    $($list::BuiltIn(settings) => {
                        <$base as $crate::learner::LearnerList>::check(settings, architecture, spec)
                    })?
                }
            }

            fn tokens(&self, spec: &$crate::task::TaskSpec) -> usize {
                match self {
                    $($list::$settings(settings) => {
                        $crate::learner::LearnerSettings::tokens(settings, spec)
                    })*
                    $($list::BuiltIn(settings) => {
                        <$base as $crate::learner::LearnerList>::tokens(settings, spec)
                    })?
                }
            }

            fn steps(&self) -> $crate::learner::Steps {
                match self {
                    $($list::$settings(settings) => {
                        $crate::learner::LearnerSettings::steps(settings)
                    })*
                    $($list::BuiltIn(settings) => {
                        <$base as $crate::learner::LearnerList>::steps(settings)
                    })?
                }
            }

            fn build<A: $crate::nn::encoder::Architecture, B: $crate::primitives::Primitives>(
                self,
                new: $crate::learner::New<'_, A, B>,
            ) -> Box<dyn $crate::learner::Learner<B>> {
                match self {
                    $($list::$settings(settings) => {
                        $crate::learner::LearnerSettings::build(settings, new)
                    })*
                    $($list::BuiltIn(settings) => {
                        <$base as $crate::learner::LearnerList>::build(settings, new)
                    })?
                }
            }
        }
    };
}
