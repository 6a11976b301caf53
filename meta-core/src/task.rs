//! The one bridge from host episodes to tensors: a meta-batch of tasks on the task axis.

use std::sync::Arc;

use burn::tensor::{Bool, Int, Tensor, TensorData, backend::Backend};

use crate::{
    Error, Result,
    data::{Episode, EpisodeShape, Extras, ItemShape, Items, Source, Split, Targets, Task, World},
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
    /// What they may have beyond even tasks.
    pub extras: Extras,
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
            extras: source.extras(),
        }
    }

    /// Width of a prediction: the way of the training tasks, the number of regression outputs, or all scores
    /// of a sequence ([`Task::outputs`]).
    pub fn outputs(&self) -> usize {
        self.task.outputs(self.train.way.0)
    }

    /// Steps of a trial of this shape at most, where tasks are acted in; 0 elsewhere.
    pub fn trial_steps(&self, shape: EpisodeShape) -> usize {
        match self.task {
            Task::Acting { horizon, .. } => horizon * shape.shot.0,
            _ => 0,
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
            _ => Err(Error::setting(
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
    /// Symbols and ends of sequences, `[t, b, length + 1]`.
    Sequences(Tensor<B, 3, Int>),
}

impl<B: Backend> TargetBatch<B> {
    /// The class labels, `[t, b]`.
    ///
    /// # Panics
    /// When the targets are values: [`TaskSpec::require_classification`] rules that out.
    pub fn labels(&self) -> Tensor<B, 2, Int> {
        match self {
            TargetBatch::Classes(labels) => labels.clone(),
            _ => panic!("classification targets expected"),
        }
    }

    /// The targets as a network reads them, `[t, b, outputs]` in the dtype of `like`: one-hot labels
    /// of `outputs` classes, the values, or one-hot symbols at each place of a sequence.
    pub fn encoded(&self, outputs: usize, like: &Tensor<B, 3>) -> Tensor<B, 3> {
        match self {
            TargetBatch::Classes(labels) => {
                let one_hot = labels.clone().one_hot::<3>(outputs);
                one_hot.float().cast(like.dtype())
            }
            TargetBatch::Values(values) => values.clone(),
            TargetBatch::Sequences(symbols) => {
                let [t, b, places] = symbols.dims();
                let one_hot = symbols.clone().one_hot::<4>(outputs / places);
                one_hot.float().cast(like.dtype()).reshape([t, b, outputs])
            }
        }
    }
}

/// Which items of `t` tasks are there, `b` of each, and which of their numbers; what is not is zero.
#[derive(Clone, Debug)]
pub struct MaskBatch<B: Backend> {
    /// `[t, b]`.
    pub items: Tensor<B, 2, Bool>,
    /// `[t, b, f]`; absent where all numbers of the items that are there are.
    pub numbers: Option<Tensor<B, 3, Bool>>,
}

impl<B: Backend> MaskBatch<B> {
    /// The masks of sets of items; none where all are whole.
    fn of(items: &[&Items], features: usize, device: &B::Device) -> Option<Self> {
        if items.iter().all(|items| items.mask.is_none()) {
            return None;
        }
        let t = items.len();
        let b = items.first().map_or(0, |first| first.len());
        let masked = |items: &Items| {
            items
                .mask
                .as_ref()
                .is_some_and(|mask| mask.numbers.is_some())
        };
        let numbers = items.iter().any(|items| masked(items)).then(|| {
            let numbers = items.iter().flat_map(|items| {
                let mask = items.mask.as_ref();
                match mask.and_then(|mask| mask.numbers.clone()) {
                    Some(numbers) => numbers,
                    None => (0..b)
                        .flat_map(|item| vec![items.is_there(item); features])
                        .collect(),
                }
            });
            let numbers: Vec<bool> = numbers.collect();
            Tensor::from_data(TensorData::new(numbers, [t, b, features]), device)
        });
        let there = items
            .iter()
            .flat_map(|items| (0..b).map(|item| items.is_there(item)));
        let there: Vec<bool> = there.collect();
        Some(MaskBatch {
            items: Tensor::from_data(TensorData::new(there, [t, b]), device),
            numbers,
        })
    }

    fn lift<A>(&self) -> MaskBatch<A>
    where
        A: burn::tensor::backend::AutodiffBackend<InnerBackend = B>,
    {
        MaskBatch {
            items: Tensor::from_inner(self.items.clone()),
            numbers: self.numbers.clone().map(Tensor::from_inner),
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
    /// What of them is there, where not all is.
    pub mask: Option<MaskBatch<B>>,
}

impl<B: Backend> ItemBatch<B> {
    /// Items that are all there.
    pub fn new(inputs: Tensor<B, 3>, targets: TargetBatch<B>) -> Self {
        ItemBatch {
            inputs,
            targets,
            mask: None,
        }
    }

    fn of(items: &[&Items], features: usize, task: Task, device: &B::Device) -> Self {
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
                        _ => panic!("classification task with other targets"),
                    }
                }
                TargetBatch::Classes(Tensor::from_data(TensorData::new(labels, [t, b]), device))
            }
            Task::Regression { .. } | Task::Acting { .. } => {
                // Of an episode that is acted in, nothing is given: one 0.
                let outputs = match task {
                    Task::Regression { outputs } => outputs,
                    _ => 1,
                };
                let mut values = Vec::with_capacity(t * b * outputs);
                for task_items in items {
                    match &task_items.targets {
                        Targets::Values(task_values) => values.extend_from_slice(task_values),
                        _ => panic!("regression task with other targets"),
                    }
                }
                TargetBatch::Values(Tensor::from_data(
                    TensorData::new(values, [t, b, outputs]),
                    device,
                ))
            }
            Task::Sequences { length, .. } => {
                let mut symbols = Vec::with_capacity(t * b * (length + 1));
                for task_items in items {
                    match &task_items.targets {
                        Targets::Sequences(own) => {
                            symbols.extend(own.iter().map(|&symbol| symbol as i32));
                        }
                        _ => panic!("task of sequences with other targets"),
                    }
                }
                let symbols = TensorData::new(symbols, [t, b, length + 1]);
                TargetBatch::Sequences(Tensor::from_data(symbols, device))
            }
        };
        ItemBatch {
            inputs: Tensor::from_data(TensorData::new(inputs, [t, b, features]), device),
            targets,
            mask: MaskBatch::of(items, features, device),
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
                TargetBatch::Sequences(symbols) => {
                    TargetBatch::Sequences(Tensor::from_inner(symbols.clone()))
                }
            },
            mask: self.mask.as_ref().map(MaskBatch::lift),
        }
    }

    /// The items at these positions of each task, as many of each.
    ///
    /// # Panics
    /// When there are not positions for every task, or not as many of each.
    pub fn select(&self, positions: &[Vec<usize>]) -> Self {
        let [t, b] = self.dims();
        let count = positions.first().map_or(0, Vec::len);
        assert!(positions.len() == t && positions.iter().all(|own| own.len() == count));
        let rows = positions.iter().enumerate();
        let rows =
            rows.flat_map(|(task, own)| own.iter().map(move |item| (task * b + item) as i32));
        let rows = TensorData::new(rows.collect::<Vec<_>>(), [t * count]);
        let rows = Tensor::<B, 1, Int>::from_data(rows, &self.inputs.device());
        let chosen = |x: &Tensor<B, 3>| {
            let width = x.dims()[2];
            let chosen = x.clone().reshape([t * b, width]).select(0, rows.clone());
            chosen.reshape([t, count, width])
        };
        let labels = |x: &Tensor<B, 2, Int>| {
            let chosen = x.clone().reshape([t * b]).select(0, rows.clone());
            chosen.reshape([t, count])
        };
        let there = |x: &Tensor<B, 2, Bool>| labels(&x.clone().int()).equal_elem(1);
        ItemBatch {
            inputs: chosen(&self.inputs),
            targets: match &self.targets {
                TargetBatch::Classes(classes) => TargetBatch::Classes(labels(classes)),
                TargetBatch::Values(values) => TargetBatch::Values(chosen(values)),
                TargetBatch::Sequences(symbols) => {
                    let places = symbols.dims()[2];
                    let chosen = symbols
                        .clone()
                        .reshape([t * b, places])
                        .select(0, rows.clone());
                    TargetBatch::Sequences(chosen.reshape([t, count, places]))
                }
            },
            mask: self.mask.as_ref().map(|mask| MaskBatch {
                items: there(&mask.items),
                numbers: mask.numbers.as_ref().map(|numbers| {
                    let width = numbers.dims()[2];
                    let numbers = numbers.clone().int().reshape([t * b, width]);
                    let chosen = numbers.select(0, rows.clone()).equal_elem(1);
                    chosen.reshape([t, count, width])
                }),
            }),
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
/// Support items are ordered by class, then by shot: item `class · k + shot`; queries likewise. Where tasks
/// differ in shots or classes, they all have the places of `shape`, and masks say which of them are filled.
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
    /// where a source does not say, 0 for a class that is not there, nothing where there are no classes.
    pub classes: Arc<[u32]>,
    /// `[t, n, v]`: a vector that describes each class, where the source has such.
    pub class_vectors: Option<Tensor<B, 3>>,
    /// Where its tasks are acted in, where they are.
    pub world: Option<World>,
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
            support: ItemBatch::of(&supports, features, spec.task, device),
            query: ItemBatch::of(&queries, features, spec.task, device),
            context: TrainingContext::default(),
            episodes: episodes.iter().map(|episode| episode.index).collect(),
            classes: match spec.task {
                Task::Classification => episodes.iter().flat_map(class_positions).collect(),
                Task::Regression { .. } | Task::Sequences { .. } | Task::Acting { .. } => {
                    Arc::default()
                }
            },
            class_vectors: class_vectors(episodes, shape, device),
            world: episodes.first().and_then(|first| first.world.clone()),
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

    /// Class scores `[t, q, n]`, with those of classes that are not there at −∞.
    pub fn of_classes_there(&self, scores: Tensor<B, 3>) -> Tensor<B, 3> {
        let Some(mask) = &self.support.mask else {
            return scores;
        };
        let [t, q, n] = scores.dims();
        let items = mask.items.clone().int().reshape([t as i64, n as i64, -1]);
        let absent = items.max_dim(2).equal_elem(0).reshape([t, 1, n]);
        scores.mask_fill(absent.expand([t, q, n]), f64::NEG_INFINITY)
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
            class_vectors: self.class_vectors.clone().map(Tensor::from_inner),
            world: self.world.clone(),
        }
    }
}

/// Positions of an episode's classes in its split, one for each label.
fn class_positions(episode: &Episode) -> Vec<u32> {
    let way = episode.shape.way.0;
    if episode.classes.is_empty() {
        return (0..way as u32).collect();
    }
    let there = episode.classes.iter().map(|class| class.position);
    there.chain(std::iter::repeat(0)).take(way).collect()
}

/// The vectors of the classes of episodes, `[t, n, v]`; none where an episode has none.
fn class_vectors<B: Backend>(
    episodes: &[Episode],
    shape: EpisodeShape,
    device: &B::Device,
) -> Option<Tensor<B, 3>> {
    let vectors = episodes
        .iter()
        .map(|episode| episode.class_vectors.as_ref());
    let vectors: Vec<f32> = vectors
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .flatten()
        .copied()
        .collect();
    let (t, n) = (episodes.len(), shape.way.0);
    let v = vectors.len() / (t * n).max(1);
    Some(Tensor::from_data(
        TensorData::new(vectors, [t, n, v]),
        device,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Cpu,
        data::Mask,
        gradcheck::toy,
        nn::loss::{loss, loss_of_items, score, score_of_items},
    };
    use burn_autodiff::Autodiff;

    /// Episodes of 2 classes, 2 shots and 1 query; items of 3 numbers.
    fn episodes() -> (TaskSpec, Vec<Episode>) {
        let spec = toy::vectors(3, EpisodeShape::new(2, 2, 1));
        let episodes = (0..2).map(|index| toy::clouds(&spec, index)).collect();
        (spec, episodes)
    }

    fn flags<const D: usize>(mask: Tensor<Cpu, D, Bool>) -> Vec<bool> {
        mask.into_data().to_vec().expect("booleans")
    }

    #[test]
    fn masks_and_vectors_of_classes_are_batched() {
        let (spec, mut episodes) = episodes();
        let device = Default::default();
        let even = TaskBatch::<Cpu>::new(&episodes, &spec, &device);
        assert!(even.support.mask.is_none() && even.query.mask.is_none());
        episodes[1].support.mask = Some(Mask {
            items: vec![true, true, true, false],
            numbers: None,
        });
        episodes[0].query.mask = Some(Mask {
            items: vec![true; 2],
            numbers: Some(vec![true, true, true, true, false, true]),
        });
        episodes[0].class_vectors = Some(vec![1.0, 2.0, 3.0, 4.0]);
        let tasks = TaskBatch::<Cpu>::new(&episodes, &spec, &device);
        // One has no vectors, so the batch has none.
        assert!(tasks.class_vectors.is_none());
        episodes[1].class_vectors = Some(vec![5.0, 6.0, 0.0, 0.0]);
        let tasks = TaskBatch::<Cpu>::new(&episodes, &spec, &device).lift::<Autodiff<Cpu>>();
        let vectors = tasks.class_vectors.expect("both have them").inner();
        assert_eq!(vectors.dims(), [2, 2, 2]);
        let support = tasks.support.mask.expect("one has a mask");
        let there = flags(support.items.inner());
        assert_eq!(there, [true, true, true, true, true, true, true, false]);
        assert!(support.numbers.is_none());
        let query = tasks
            .query
            .mask
            .expect("one has a mask")
            .numbers
            .expect("of numbers");
        let mut expected = vec![true; 12];
        expected[4] = false;
        assert_eq!(flags(query.inner()), expected);
    }

    /// Items that are not there count for nothing; a set without any has the loss 0.
    #[test]
    fn losses_are_of_those_that_are_there() {
        let device = Default::default();
        let labels = Tensor::<Cpu, 2, Int>::from_ints([[0, 1, 1], [0, 0, 1]], &device);
        let scores = [
            [[1.0, 0.5], [-1.0, 2.0], [0.0, f32::NEG_INFINITY]],
            [[9.0, f32::NEG_INFINITY], [0.0, 0.0], [1.0, 0.0]],
        ];
        let scores = Tensor::<Cpu, 3>::from_floats(scores, &device);
        let mut items = ItemBatch::new(
            Tensor::zeros([2, 3, 1], &device),
            TargetBatch::Classes(labels.clone()),
        );
        let there = TensorData::new(vec![true, true, false, false, false, false], [2, 3]);
        items.mask = Some(MaskBatch {
            items: Tensor::from_data(there, &device),
            numbers: None,
        });
        let first = TargetBatch::Classes(labels.slice([0..1, 0..2]));
        let kept = scores.clone().slice([0..1, 0..2]);
        let numbers = |x: Tensor<Cpu, 1>| x.into_data().to_vec::<f32>().expect("f32");
        let found = numbers(loss_of_items(scores.clone(), &items));
        let expected = numbers(loss(kept.clone(), &first));
        // Sums of two numbers near 1 in another order.
        assert!(
            (found[0] - expected[0]).abs() < 1e-6 && found[1] == 0.0,
            "{found:?}"
        );
        let found = numbers(score_of_items(scores, &items));
        assert_eq!(found, [numbers(score(kept, &first))[0], 0.0]);
    }
}
