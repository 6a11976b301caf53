//! Baselines: rules that answer by the features of the support alone. Nothing is learned across tasks.
//!
//! A rule sees the features of a task's support and queries, from an encoder that the rule does not
//! change: the identity for features of a frozen network, or an encoder that is pre-trained. With
//! `train.iterations` above 0, training pre-trains the encoder as a classifier of all training classes
//! (Chen et al., *A closer look at few-shot classification*, ICLR 2019, section 3.2):
//!
//! ```text
//! L = mean over the items of a task of −log softmax(φ(x) W + b)[class of x]
//! ```
//!
//! over support and queries alike; in regression the squared error of a linear regressor of all of them. That
//! loss, not the query loss, is what the meta-gradient is the gradient of. What a rule needs of other tasks is
//! measured after training, and kept in buffers:
//!
//! * the mean feature of items of training tasks, with `learner.centre = "training"`;
//! * the one number of a rule (the strength of a penalty, say) where it is chosen: the value of
//!   [`FeatureRule::candidates`] with the highest accuracy on the validation episodes, the first among
//!   equals; the middle one before that. Test episodes choose nothing.

use std::slice;

use burn::{
    module::{Module, Param},
    tensor::{Bool, Int, Tensor, TensorData, backend::Backend},
};
use burn_autodiff::Autodiff;

use super::{
    Explanation, GradientOf, Learner, LearnerSettings, MetaGradient, New, PredictAt, Toy,
    embed::embed_together,
    feature_transform::{Centre, FeatureTransform},
    predictive::of_normals,
};
use crate::{
    Result,
    data::{Split, Task},
    nn::{
        Mode, Pass, distance,
        encoder::Architecture,
        init::{Initializer, constant},
        linear::Linear,
        loss,
    },
    params::Params,
    primitives::Primitives,
    task::{ItemBatch, MaskBatch, TargetBatch, TaskBatch, TaskSpec},
};

/// Features of a batch of tasks, as a rule sees them.
#[derive(Clone, Debug)]
pub struct FeatureBatch<B: Backend> {
    /// Features of the support, `[t, s, d]`.
    pub support: Tensor<B, 3>,
    /// Labels of the support, `[t, s]`; all 0 in regression.
    pub labels: Tensor<B, 2, Int>,
    /// Values of the support, `[t, s, o]`, in regression.
    pub values: Option<Tensor<B, 3>>,
    /// Which support items are there, `[t, s]`, where not all are: of rules that read masks alone.
    pub there: Option<Tensor<B, 2, Bool>>,
    /// Features of the queries, `[t, q, d]`.
    pub query: Tensor<B, 3>,
    /// Classes of a task.
    pub way: usize,
    /// A vector of each class, `[t, n, d]`, where the tasks have them (texts of class names, say).
    pub class_vectors: Option<Tensor<B, 3>>,
}

impl<B: Primitives> FeatureBatch<B> {
    /// Mean feature of each class, `[t, n, d]`.
    pub fn prototypes(&self) -> Tensor<B, 3> {
        distance::class_means(self.support.clone(), self.labels.clone(), self.way)
    }

    /// 1 where a support item is of a class, else 0: `[t, s, n]`.
    pub fn membership(&self) -> Tensor<B, 3> {
        distance::membership(self.labels.clone(), self.way, &self.support)
    }

    /// What is known of the support, `[t, s, o]`: [`FeatureBatch::membership`], or the values.
    pub fn targets(&self) -> Tensor<B, 3> {
        self.values.clone().unwrap_or_else(|| self.membership())
    }
}

/// How queries are classified by the features of a support.
pub trait FeatureRule: Send + Sync + 'static {
    /// What is done to the features before.
    fn transform(&self) -> FeatureTransform {
        FeatureTransform::default()
    }

    /// Values of the rule's one number, among which validation episodes choose; one that is alone is
    /// taken. A rule without such a number ignores it.
    fn candidates(&self) -> &[f64] {
        &[1.0]
    }

    /// The classifier in pre-training has cosines times this as its scores; a linear one where absent.
    fn cosine_scale(&self) -> Option<f64> {
        None
    }

    /// Scores of the queries, `[t, q, n]`: logits, or logarithms of probabilities. `number` is one of the
    /// candidates.
    fn scores<B: Primitives>(
        &self,
        features: &FeatureBatch<B>,
        number: f64,
        pass: &Pass<B>,
    ) -> Tensor<B, 3>;

    /// Standard deviations of normal distributions around the values of the queries, `[t, q, o]`, in
    /// regression; none where the rule predicts no density.
    fn deviations<B: Primitives>(&self, _features: &FeatureBatch<B>) -> Option<Tensor<B, 3>> {
        None
    }
}

/// The splits that `rule` is calibrated on.
pub fn calibration(rule: &impl FeatureRule) -> &'static [Split] {
    let chooses = rule.candidates().len() > 1;
    match (rule.transform().centre == Centre::Training, chooses) {
        (true, true) => &[Split::Train, Split::Validation],
        (true, false) => &[Split::Train],
        (false, true) => &[Split::Validation],
        (false, false) => &[],
    }
}

/// What a baseline for classes checks: it classifies.
///
/// # Errors
/// [`crate::Error::Setting`] naming `learner.name`.
pub fn check<S: LearnerSettings>(spec: &TaskSpec) -> Result<()> {
    spec.require_classification(S::INFO.name, "a baseline classifies by the support")
}

/// What the meta-gradient of every baseline is the gradient of.
pub fn gradient_of() -> GradientOf {
    gradient_with(serde_json::Value::Object(serde_json::Map::new()))
}

/// As [`gradient_of`], checked with these settings.
pub fn gradient_with(settings: serde_json::Value) -> GradientOf {
    GradientOf::Training("cross-entropy over the training classes", vec![settings])
}

/// How the conformance suite tests every baseline: without training.
pub fn toy() -> Toy {
    Toy {
        iterations: 0,
        ..Toy::default()
    }
}

/// An encoder, its classifier of training classes, and what is measured after training.
#[derive(Module, Debug)]
pub struct FeatureModel<B: Backend, E> {
    encoder: E,
    classifier: Linear<B>,
    /// Mean feature of items of training tasks, `[1, 1, d]`.
    running_feature_mean: Param<Tensor<B, 3>>,
    /// Which of the rule's candidates is taken, counted from 0, `[1, 1, 1]`.
    running_choice: Param<Tensor<B, 3>>,
}

/// Names of the buffers.
const MEAN: &str = "running_feature_mean";
const CHOICE: &str = "running_choice";

/// A rule with an encoder on the backend `B`.
pub struct FeatureLearner<R, A, B: Primitives> {
    rule: R,
    architecture: A,
    /// Classes of pre-training; in regression the numbers of a target.
    classes: usize,
    device: B::Device,
    parameters: Params<B>,
}

impl<R: FeatureRule, A: Architecture, B: Primitives> FeatureLearner<R, A, B> {
    /// The learner that classifies by `rule`, with an encoder that is drawn from the seed.
    pub fn boxed(rule: R, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let New {
            architecture,
            spec,
            seed,
            device,
        } = new;
        let classes = match spec.task {
            Task::Regression { outputs } => outputs,
            // A source that does not say how many there are numbers them by task.
            _ => spec.train_classes.max(spec.train.way.0).max(1),
        };
        let model = init::<A, B>(
            &architecture,
            classes,
            &mut Initializer::seeded(seed),
            device,
        );
        let middle = rule.candidates().len() / 2;
        let mut learner = FeatureLearner {
            parameters: Params::of(&model),
            rule,
            architecture,
            classes,
            device: device.clone(),
        };
        learner.keep(CHOICE, vec![middle as f64]);
        Box::new(learner)
    }

    fn model<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
    ) -> FeatureModel<L, A::Model<L>> {
        let zeros = &mut Initializer::zeros();
        let skeleton = init::<A, L>(&self.architecture, self.classes, zeros, &self.device);
        parameters.write_into(skeleton)
    }

    /// Features of support and queries, centred and normalised.
    fn features(&self, tasks: &TaskBatch<B>, pass: &Pass<B>) -> FeatureBatch<B> {
        let model = self.model(self.parameters.clone());
        let (support, query) = embed_together(&model.encoder, &in_units(tasks), pass);
        let mean = model.running_feature_mean.val();
        let (support, query) = self.rule.transform().apply(support, query, mean);
        let (labels, values) = match &tasks.support.targets {
            TargetBatch::Values(values) => {
                let [t, s, _] = values.dims();
                (Tensor::zeros([t, s], &self.device), Some(values.clone()))
            }
            classes => (classes.labels(), None),
        };
        FeatureBatch {
            support,
            labels,
            values,
            there: tasks.support.mask.as_ref().map(|mask| mask.items.clone()),
            query,
            way: tasks.shape.way.0,
            class_vectors: tasks.class_vectors.clone(),
        }
    }

    fn scores(&self, tasks: &TaskBatch<B>, pass: &Pass<B>) -> Tensor<B, 3> {
        self.scores_by(&self.features(tasks, pass), tasks, self.number(), pass)
    }

    /// The scores of the rule with this `number`; of classes, of those that are there.
    fn scores_by(
        &self,
        features: &FeatureBatch<B>,
        tasks: &TaskBatch<B>,
        number: f64,
        pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let scores = self.rule.scores(features, number, pass);
        match features.values {
            None => tasks.of_classes_there(scores),
            Some(_) => scores,
        }
    }

    /// The candidate that is taken.
    fn number(&self) -> f64 {
        let candidates = self.rule.candidates();
        if let [only] = candidates {
            return *only;
        }
        let choice = self
            .parameters
            .get::<3>(CHOICE)
            .expect("a buffer of the model");
        let choice = choice.into_data().iter::<f64>().next().unwrap_or(0.0);
        let last = candidates.len().saturating_sub(1);
        candidates
            .get((choice.max(0.0) as usize).min(last))
            .copied()
            .unwrap_or(1.0)
    }

    /// Puts a buffer of one tensor into the parameters.
    fn keep(&mut self, name: &str, values: Vec<f64>) {
        let like = self
            .parameters
            .get::<3>(name)
            .expect("a buffer of the model");
        let data = TensorData::new(values, like.dims()).convert_dtype(like.dtype());
        let mut buffer = Params::default();
        buffer.push(name, Tensor::<B, 3>::from_data(data, &self.device));
        self.parameters = std::mem::take(&mut self.parameters).overwrite(buffer);
    }

    fn evaluation(tasks: &TaskBatch<B>) -> Pass<B> {
        Pass::evaluation().with_reference(tasks.support.dims()[1])
    }

    /// The mean feature over all items of `batches`.
    fn measure_mean(
        &mut self,
        batches: &mut dyn Iterator<Item = Result<TaskBatch<B>>>,
    ) -> Result<()> {
        let model = self.model(self.parameters.clone());
        let mut sums = vec![0.0; self.architecture.width()];
        let mut items = 0;
        for tasks in batches {
            let tasks = tasks?;
            let pass = Self::evaluation(&tasks);
            let (support, query) = embed_together(&model.encoder, &in_units(&tasks), &pass);
            let mut all = Tensor::cat(vec![support, query], 1);
            let [t, b, d] = all.dims();
            if let Some(mask) = all_there(&tasks) {
                let there = mask.items.clone().float().cast(all.dtype());
                all = all * there.reshape([t, b, 1]);
                items += mask
                    .items
                    .int()
                    .sum()
                    .into_data()
                    .iter::<i64>()
                    .sum::<i64>() as usize;
            } else {
                items += t * b;
            }
            let sum = all.reshape([t * b, d]).sum_dim(0).into_data();
            for (total, sum) in sums.iter_mut().zip(sum.iter::<f64>()) {
                *total += sum;
            }
        }
        let mean = sums.into_iter().map(|sum| sum / items.max(1) as f64);
        self.keep(MEAN, mean.collect());
        Ok(())
    }

    /// The candidate with the highest accuracy on `batches`, the first among equals.
    fn choose(&mut self, batches: &mut dyn Iterator<Item = Result<TaskBatch<B>>>) -> Result<()> {
        let candidates = self.rule.candidates().to_vec();
        let mut totals = vec![0.0; candidates.len()];
        for tasks in batches {
            let tasks = tasks?;
            let pass = Self::evaluation(&tasks);
            let features = self.features(&tasks, &pass);
            for (total, &number) in totals.iter_mut().zip(&candidates) {
                let scores = self.scores_by(&features, &tasks, number, &pass);
                let accuracies = loss::score_of_items(scores, &tasks.query).into_data();
                *total += accuracies.iter::<f64>().sum::<f64>();
            }
        }
        let better = |best: usize, next: usize| {
            if crate::stats::exceeds(totals[next], totals[best]) {
                next
            } else {
                best
            }
        };
        let best = (0..totals.len()).reduce(better).unwrap_or(0);
        self.keep(CHOICE, vec![best as f64]);
        Ok(())
    }
}

/// Tasks some of whose numbers are missing in units of their support: mean 0 and deviation 1 of each number over
/// the items that have it, and 0 where it is missing. Others as they are.
fn in_units<B: Primitives>(tasks: &TaskBatch<B>) -> TaskBatch<B> {
    let numbers_of =
        |items: &ItemBatch<B>| items.mask.as_ref().and_then(|mask| mask.numbers.clone());
    if numbers_of(&tasks.support).is_none() && numbers_of(&tasks.query).is_none() {
        return tasks.clone();
    }
    let there_of = |items: &ItemBatch<B>| {
        let like = &items.inputs;
        match (&items.mask, numbers_of(items)) {
            (_, Some(numbers)) => numbers.float().cast(like.dtype()),
            (Some(mask), None) => {
                let [t, b] = items.dims();
                let there = mask.items.clone().float().cast(like.dtype());
                like.ones_like() * there.reshape([t, b, 1])
            }
            (None, None) => like.ones_like(),
        }
    };
    let there = there_of(&tasks.support);
    let counts = there.clone().sum_dim(1).clamp_min(1.0);
    let mean_of = |x: Tensor<B, 3>| (x * there.clone()).sum_dim(1) / counts.clone();
    let mean = mean_of(tasks.support.inputs.clone());
    let centred = tasks.support.inputs.clone() - mean.clone();
    let variance = mean_of(centred.clone() * centred);
    // What is the same in all of the support stays in its own unit.
    let constant = variance.clone().lower_elem(1e-12);
    let deviation = variance.mask_fill(constant, 1.0).sqrt();
    let scaled = |items: &ItemBatch<B>| ItemBatch {
        inputs: (items.inputs.clone() - mean.clone()) / deviation.clone() * there_of(items),
        ..items.clone()
    };
    TaskBatch {
        support: scaled(&tasks.support),
        query: scaled(&tasks.query),
        ..tasks.clone()
    }
}

/// Support and queries of tasks as one set of items with these features, `[t, s + q, d]`; the classes are those of
/// the split.
fn all_items<L: Primitives>(tasks: &TaskBatch<L>, features: Tensor<L, 3>) -> ItemBatch<L> {
    let targets = match (&tasks.support.targets, &tasks.query.targets) {
        (TargetBatch::Values(support), TargetBatch::Values(query)) => {
            TargetBatch::Values(Tensor::cat(vec![support.clone(), query.clone()], 1))
        }
        _ => TargetBatch::Classes(tasks.split_labels()),
    };
    ItemBatch {
        mask: all_there(tasks),
        ..ItemBatch::new(features, targets)
    }
}

/// Which of support and queries are there, `[t, s + q]`; none where all are.
fn all_there<L: Primitives>(tasks: &TaskBatch<L>) -> Option<MaskBatch<L>> {
    let there = |items: &ItemBatch<L>| match &items.mask {
        Some(mask) => mask.items.clone(),
        None => {
            let device = items.inputs.device();
            Tensor::<L, 2, Int>::ones(items.dims(), &device).equal_elem(1)
        }
    };
    let masked = tasks.support.mask.is_some() || tasks.query.mask.is_some();
    masked.then(|| MaskBatch {
        items: Tensor::cat(vec![there(&tasks.support), there(&tasks.query)], 1),
        numbers: None,
    })
}

fn init<A: Architecture, L: Primitives>(
    architecture: &A,
    classes: usize,
    initializer: &mut Initializer,
    device: &L::Device,
) -> FeatureModel<L, A::Model<L>> {
    let d = architecture.width();
    FeatureModel {
        encoder: architecture.init(initializer, device),
        classifier: Linear::glorot(d, classes, initializer, device),
        running_feature_mean: constant(0.0, [1, 1, d], device),
        running_choice: constant(0.0, [1, 1, 1], device),
    }
}

impl<R: FeatureRule, A: Architecture, B: Primitives> Learner<B> for FeatureLearner<R, A, B> {
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
        let pass = Pass::new(Mode::learning(tasks, "task", 0));
        let pass = pass.with_reference(lifted.support.dims()[1]);
        let model = self.model(leaves.clone());
        let (support, query) = embed_together(&model.encoder, &in_units(&lifted), &pass);
        let items = Tensor::cat(vec![support, query], 1);
        let scores = match self.rule.cosine_scale() {
            None => model.classifier.forward(items.clone()),
            Some(scale) => {
                let weights = model.classifier.weight.val().swap_dims(1, 2);
                distance::cosines(items.clone(), weights).mul_scalar(scale)
            }
        };
        let items = all_items(&lifted, items);
        let losses = loss::loss_of_items(scores.clone(), &items);
        let buffers = pass.statistics.take().with_prefix("encoder");
        MetaGradient::of(&leaves, losses, scores, &items, buffers)
    }

    fn predict(&self, tasks: &TaskBatch<B>, _at: PredictAt) -> Vec<Tensor<B, 3>> {
        vec![self.scores(tasks, &Self::evaluation(tasks))]
    }

    /// Of normal distributions around the answers, in regression.
    fn log_likelihood(&self, tasks: &TaskBatch<B>) -> Option<Tensor<B, 1>> {
        let TargetBatch::Values(targets) = &tasks.query.targets else {
            return None;
        };
        let pass = Self::evaluation(tasks);
        let features = self.features(tasks, &pass);
        let deviations = self.rule.deviations(&features)?;
        let means = self.rule.scores(&features, self.number(), &pass);
        Some(of_normals(means, deviations, targets, &tasks.query))
    }

    fn deviations(&self, tasks: &TaskBatch<B>) -> Option<Tensor<B, 3>> {
        let features = self.features(tasks, &Self::evaluation(tasks));
        features.values.as_ref()?;
        self.rule.deviations(&features)
    }

    fn calibration(&self) -> &'static [Split] {
        calibration(&self.rule)
    }

    fn calibrate(
        &mut self,
        split: Split,
        batches: &mut dyn Iterator<Item = Result<TaskBatch<B>>>,
    ) -> Result<()> {
        match split {
            Split::Train => self.measure_mean(batches),
            _ => self.choose(batches),
        }
    }

    fn explain(&self, tasks: &TaskBatch<B>) -> Explanation<B> {
        let pass = Self::evaluation(tasks).recording();
        Explanation {
            predictions: vec![self.scores(tasks, &pass)],
            maps: pass.recorded(),
            movement: Vec::new(),
            trials: Vec::new(),
        }
    }
}

/// The candidates of a number that is chosen where it is 0, and else the number alone.
pub fn chosen_or<'a>(number: &'a f64, candidates: &'a [f64]) -> &'a [f64] {
    if *number == 0.0 {
        candidates
    } else {
        slice::from_ref(number)
    }
}
