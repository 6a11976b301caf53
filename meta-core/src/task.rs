//! The one bridge from host episodes to tensors: a meta-batch of tasks on the task axis.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use crate::{
    Error, Result,
    data::{Episode, EpisodeShape, ItemShape, Items, Source, Split, Targets, Task},
    rng::Seed,
};

/// What a learner and its network must know of the tasks they will see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskSpec {
    /// Shape of one item.
    pub item: ItemShape,
    /// Classification or regression.
    pub task: Task,
    /// Way, shot and query of the training episodes.
    pub train: EpisodeShape,
    /// Way, shot and query of the test episodes.
    pub test: EpisodeShape,
    /// Classes that training episodes are drawn from; 0 where there are none (regression).
    pub train_classes: usize,
}

impl TaskSpec {
    /// The tasks of `source`, with episodes of one shape in training and at test.
    pub fn of(source: &dyn Source, shape: EpisodeShape) -> Self {
        TaskSpec {
            item: source.item_shape(),
            task: source.task(),
            train: shape,
            test: shape,
            train_classes: source.classes(Split::Train).unwrap_or(0),
        }
    }

    /// Width of a prediction: the way of the training tasks, or the number of regression outputs.
    pub fn outputs(&self) -> usize {
        match self.task {
            Task::Classification => self.train.way.0,
            Task::Regression { outputs } => outputs,
        }
    }

    /// Checks that the way at test is that of training: `learner` has one output per class.
    ///
    /// # Errors
    /// [`Error::Setting`] naming `data.train_way`.
    pub fn require_one_way(&self, learner: &str) -> Result<()> {
        if self.task == Task::Classification && self.train.way != self.test.way {
            return Err(Error::setting(
                "data.train_way",
                self.train.way,
                format!(
                    "the head of `{learner}` has one output per class, so it must equal data.way \
                     = {}",
                    self.test.way
                ),
            ));
        }
        Ok(())
    }

    /// Checks that the tasks are classification, which `learner` needs because of `reason`.
    ///
    /// # Errors
    /// [`Error::Setting`] naming `learner.name`.
    pub fn require_classification(&self, learner: &str, reason: &str) -> Result<()> {
        match self.task {
            Task::Classification => Ok(()),
            Task::Regression { .. } => Err(Error::setting(
                "learner.name",
                learner,
                format!("needs classification tasks; {reason}"),
            )),
        }
    }
}

/// The targets of a meta-batch.
#[derive(Clone, Debug)]
pub enum TargetBatch<B: Backend> {
    /// Class labels in `0..way`, `[t, b]`.
    Classes(Tensor<B, 2, Int>),
    /// Regression targets, `[t, b, outputs]`.
    Values(Tensor<B, 3>),
}

impl<B: Backend> TargetBatch<B> {
    /// The class labels, `[t, b]`.
    ///
    /// # Panics
    /// When the targets are values: [`TaskSpec::require_classification`] rules that out.
    pub fn labels(&self) -> Tensor<B, 2, Int> {
        match self {
            TargetBatch::Classes(labels) => labels.clone(),
            TargetBatch::Values(_) => panic!("classification targets expected"),
        }
    }

    /// The targets as a network reads them, `[t, b, outputs]` in the dtype of `like`: one-hot labels
    /// of `outputs` classes, or the values.
    pub fn encoded(&self, outputs: usize, like: &Tensor<B, 3>) -> Tensor<B, 3> {
        match self {
            TargetBatch::Classes(labels) => {
                let one_hot = labels.clone().one_hot::<3>(outputs);
                one_hot.float().cast(like.dtype())
            }
            TargetBatch::Values(values) => values.clone(),
        }
    }
}

/// Items of `t` tasks, `b` of each: inputs `[t, b, f]` and their targets.
#[derive(Clone, Debug)]
pub struct ItemBatch<B: Backend> {
    /// Inputs, `[t, b, f]`; an image is flattened row by row with its channels last.
    pub inputs: Tensor<B, 3>,
    /// Targets of the same items.
    pub targets: TargetBatch<B>,
}

impl<B: Backend> ItemBatch<B> {
    fn new(items: &[&Items], features: usize, task: Task, device: &B::Device) -> Self {
        let t = items.len();
        let b = items.first().map_or(0, |first| first.ids.len());
        let mut inputs = Vec::with_capacity(t * b * features);
        for task_items in items {
            inputs.extend_from_slice(&task_items.inputs);
        }
        let targets = match task {
            Task::Classification => {
                let mut labels = Vec::with_capacity(t * b);
                for task_items in items {
                    match &task_items.targets {
                        Targets::Classes(classes) => {
                            labels.extend(classes.iter().map(|&class| class as i32));
                        }
                        Targets::Values(_) => panic!("classification task with real targets"),
                    }
                }
                TargetBatch::Classes(Tensor::from_data(TensorData::new(labels, [t, b]), device))
            }
            Task::Regression { outputs } => {
                let mut values = Vec::with_capacity(t * b * outputs);
                for task_items in items {
                    match &task_items.targets {
                        Targets::Values(task_values) => values.extend_from_slice(task_values),
                        Targets::Classes(_) => panic!("regression task with class labels"),
                    }
                }
                TargetBatch::Values(Tensor::from_data(
                    TensorData::new(values, [t, b, outputs]),
                    device,
                ))
            }
        };
        ItemBatch {
            inputs: Tensor::from_data(TensorData::new(inputs, [t, b, features]), device),
            targets,
        }
    }

    /// The same items on the autodiff level above, untracked.
    pub fn lift<A>(&self) -> ItemBatch<A>
    where
        A: burn::tensor::backend::AutodiffBackend<InnerBackend = B>,
    {
        ItemBatch {
            inputs: Tensor::from_inner(self.inputs.clone()),
            targets: match &self.targets {
                TargetBatch::Classes(labels) => {
                    TargetBatch::Classes(Tensor::from_inner(labels.clone()))
                }
                TargetBatch::Values(values) => {
                    TargetBatch::Values(Tensor::from_inner(values.clone()))
                }
            },
        }
    }

    /// Tasks and items, `[t, b]`.
    pub fn dims(&self) -> [usize; 2] {
        let [t, b, _] = self.inputs.dims();
        [t, b]
    }
}

/// Where in training a meta-batch is learned from. By default at the beginning, and without noise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrainingContext {
    /// Fraction of the iterations that are done, in [0, 1).
    pub progress: f64,
    /// Seed of what is drawn inside forward passes (dropout, sampled attention); nothing is where
    /// absent.
    pub noise: Option<Seed>,
}

/// A meta-batch: `t` tasks of one shape, supports and queries.
///
/// Support items are ordered by class, then by shot: item `class · k + shot`; queries likewise.
#[derive(Clone, Debug)]
pub struct TaskBatch<B: Backend> {
    /// Way, shot and query that all tasks of the batch share.
    pub shape: EpisodeShape,
    /// Support items, `b = s`.
    pub support: ItemBatch<B>,
    /// Query items, `b = q`.
    pub query: ItemBatch<B>,
    /// Where in training they are learned from.
    pub context: TrainingContext,
    /// Number of each task's episode in its split.
    pub episodes: Arc<[u64]>,
    /// Position of each label's class among the classes of its split, `[t · n]`; the labels themselves
    /// where a source does not say, nothing for regression.
    pub classes: Arc<[u32]>,
}

impl<B: Backend> TaskBatch<B> {
    /// Puts episodes of one shape on the device, one per entry of the task axis.
    ///
    /// # Panics
    /// When there is no episode, or they differ in shape or kind: sources never mix them.
    pub fn new(episodes: &[Episode], spec: &TaskSpec, device: &B::Device) -> Self {
        let shape = episodes.first().expect("at least one episode").shape;
        assert!(
            episodes.iter().all(|episode| episode.shape == shape),
            "episodes of one batch share their shape"
        );
        let features = spec.item.features();
        let supports: Vec<&Items> = episodes.iter().map(|episode| &episode.support).collect();
        let queries: Vec<&Items> = episodes.iter().map(|episode| &episode.query).collect();
        TaskBatch {
            shape,
            support: ItemBatch::new(&supports, features, spec.task, device),
            query: ItemBatch::new(&queries, features, spec.task, device),
            context: TrainingContext::default(),
            episodes: episodes.iter().map(|episode| episode.index).collect(),
            classes: match spec.task {
                Task::Classification => episodes.iter().flat_map(class_positions).collect(),
                Task::Regression { .. } => Arc::default(),
            },
        }
    }

    /// The targets of support and query together as positions of their classes among those of the split,
    /// `[t, s + q]`.
    ///
    /// # Panics
    /// For regression, which has no classes.
    pub fn split_labels(&self) -> Tensor<B, 2, Int> {
        let labels = Tensor::cat(
            vec![self.support.targets.labels(), self.query.targets.labels()],
            1,
        );
        let [t, _] = labels.dims();
        let positions: Vec<i32> = self.classes.iter().map(|&class| class as i32).collect();
        let n = positions.len() / t;
        let positions =
            Tensor::<B, 2, Int>::from_data(TensorData::new(positions, [t, n]), &labels.device());
        positions.gather(1, labels)
    }

    /// The same tasks, learned from in this context.
    pub fn at(self, context: TrainingContext) -> Self {
        TaskBatch { context, ..self }
    }

    /// Number of tasks `t`.
    pub fn tasks(&self) -> usize {
        self.support.dims()[0]
    }

    /// The same tasks on the autodiff level above, untracked.
    pub fn lift<A>(&self) -> TaskBatch<A>
    where
        A: burn::tensor::backend::AutodiffBackend<InnerBackend = B>,
    {
        TaskBatch {
            shape: self.shape,
            support: self.support.lift(),
            query: self.query.lift(),
            context: self.context,
            episodes: self.episodes.clone(),
            classes: self.classes.clone(),
        }
    }
}

/// Positions of an episode's classes in its split.
fn class_positions(episode: &Episode) -> Vec<u32> {
    if episode.classes.is_empty() {
        return (0..episode.shape.way.0 as u32).collect();
    }
    episode.classes.iter().map(|class| class.position).collect()
}
