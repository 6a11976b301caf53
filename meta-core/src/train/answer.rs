//! Answers of a trained learner for items that a person brings, one by one.
//!
//! Items pass in blocks of one fixed size, filled up with zeros, so that an answer depends on the support and
//! on its own item alone: not on how many others there are, nor on their order, to the byte. Where a
//! learner's answer would depend on the other queries of its task, because its normalisation averages over
//! them or because it is transductive by design, each query is the only one of a task of its own, and the
//! block is one of tasks. [`Queries::Together`] asks for the dependence.

use crate::{
    Error, Result,
    data::{Episode, EpisodeShape, Items, Mask, Targets, Task},
    device,
    learner::{Learner, PredictAt},
    primitives::Primitives,
    task::{TaskBatch, TaskSpec},
};

/// The most queries of a block.
const LARGEST_BLOCK: usize = 256;
/// Numbers that a block may leave in a forward pass, about: 512 MB of single precision.
const NUMBERS: usize = 1 << 27;
/// The most support items.
const MOST_ITEMS: usize = 1 << 20;

/// Labelled items to learn from: what a person brings as the support of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Support {
    /// `[items, f]`, row-major.
    pub inputs: Vec<f32>,
    /// Labels in `0..way`, each at least once, or values.
    pub targets: Targets,
}

/// A support in the places of an episode.
struct Placed {
    items: Items,
    shape: EpisodeShape,
}

impl Support {
    /// Number of items.
    pub fn len(&self, task: Task) -> usize {
        match (&self.targets, task) {
            (Targets::Values(values), Task::Regression { outputs }) => {
                values.len() / outputs.max(1)
            }
            (Targets::Sequences(symbols), Task::Sequences { length, .. }) => {
                symbols.len() / (length + 1)
            }
            (Targets::Values(values), _) => values.len(),
            (Targets::Sequences(symbols), _) => symbols.len(),
            (Targets::Classes(labels), _) => labels.len(),
        }
    }

    /// Items of each class; without classes, all numbers of their targets in one.
    pub fn counts(&self) -> Vec<usize> {
        match &self.targets {
            Targets::Values(values) => vec![values.len()],
            Targets::Sequences(symbols) => vec![symbols.len()],
            Targets::Classes(labels) => {
                let way = labels.iter().max().map_or(0, |&label| label as usize + 1);
                let mut counts = vec![0; way];
                labels.iter().for_each(|&label| counts[label as usize] += 1);
                counts
            }
        }
    }

    /// Whether classes differ in their number of items.
    pub fn is_uneven(&self) -> bool {
        self.counts().windows(2).any(|pair| pair[0] != pair[1])
    }

    /// The shape of its task: the way, the items of its largest class, and a query of each class.
    ///
    /// # Errors
    /// [`Error::Setting`] naming `support` where there are too few classes or items, or too many.
    pub fn shape(&self, task: Task) -> Result<EpisodeShape> {
        let refuse = |value: usize, expected: &str| Err(Error::setting("support", value, expected));
        let items = self.len(task);
        if items == 0 || items > MOST_ITEMS {
            return refuse(items, "must have at least 1 item, and at most 1048576");
        }
        if task != Task::Classification {
            return Ok(EpisodeShape::new(1, items, 1));
        }
        let counts = self.counts();
        let (way, shot) = (counts.len(), counts.iter().copied().max().unwrap_or(0));
        if way < 2 {
            return refuse(way, "must have items of at least 2 classes");
        }
        if way
            .checked_mul(shot)
            .is_none_or(|places| places > MOST_ITEMS)
        {
            return refuse(shot, "has too many items in one class for so many classes");
        }
        Ok(EpisodeShape::new(way, shot, 1))
    }

    /// The items ordered by class; a smaller class has items that are not there in its last places where
    /// learners read masks, and its own again, in turn, where not.
    fn placed(&self, spec: &TaskSpec, reads_masks: bool) -> Result<Placed> {
        let shape = self.shape(spec.task)?;
        let features = spec.item.features();
        if self.inputs.len() != features * self.len(spec.task) {
            let expected = format!("must be {features} for each item");
            return Err(Error::setting("support", self.inputs.len(), expected));
        }
        let Targets::Classes(labels) = &self.targets else {
            let count = shape.shot.0 as u64;
            let mut items = Items::new(
                self.inputs.clone(),
                self.targets.clone(),
                (0..count).collect(),
            );
            hide_missing(&mut items, spec);
            return Ok(Placed { items, shape });
        };
        let mut rows: Vec<Vec<usize>> = vec![Vec::new(); shape.way.0];
        for (row, &label) in labels.iter().enumerate() {
            rows[label as usize].push(row);
        }
        if let Some(class) = rows.iter().position(Vec::is_empty) {
            return Err(Error::setting("support", class, "is a class without items"));
        }
        let (mut inputs, mut targets, mut there) = (Vec::new(), Vec::new(), Vec::new());
        for (class, rows) in rows.iter().enumerate() {
            for place in 0..shape.shot.0 {
                let own = rows.get(place).copied();
                let row = own.or_else(|| (!reads_masks).then(|| rows[place % rows.len()]));
                match row {
                    Some(row) => {
                        inputs.extend_from_slice(&self.inputs[row * features..(row + 1) * features])
                    }
                    None => inputs.resize(inputs.len() + features, 0.0),
                }
                targets.push(class as u32);
                there.push(row.is_some());
            }
        }
        let count = targets.len() as u64;
        let mut items = Items::new(inputs, Targets::Classes(targets), (0..count).collect());
        if there.contains(&false) {
            items.mask = Some(Mask {
                items: there,
                numbers: None,
            });
        }
        hide_missing(&mut items, spec);
        Ok(Placed { items, shape })
    }
}

/// Of tasks some of whose numbers may be missing, masks say that those are which are NaN, and 0 stands there.
fn hide_missing(items: &mut Items, spec: &TaskSpec) {
    if !spec.extras.numbers {
        return;
    }
    let (features, count) = (spec.item.features(), items.len());
    let there = match &items.mask {
        Some(mask) => mask.items.clone(),
        None => vec![true; count],
    };
    let numbers = items.inputs.iter().enumerate();
    let numbers = numbers
        .map(|(place, number)| there[place / features] && !number.is_nan())
        .collect();
    items.mask = Some(Mask {
        items: there,
        numbers: Some(numbers),
    });
    let missing = items.inputs.iter_mut().filter(|number| number.is_nan());
    missing.for_each(|number| *number = 0.0);
}

/// What may share a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queries {
    /// So many queries of one task at a time, for learners whose queries do not see each other.
    Block(usize),
    /// So many tasks of one query each at a time, for learners whose queries do.
    Alone(usize),
    /// All queries at once, as one task: an answer may depend on the others.
    Together,
}

impl Queries {
    /// How a learner on tasks of `shape` answers one by one, where each query needs a task of its own
    /// (`alone`: [`crate::learner::LearnerSettings::QUERIES_ALONE`], or an encoder that averages over them) or
    /// not, with `activations` of an item ([`crate::nn::encoder::Architecture`]).
    pub fn one_by_one(alone: bool, shape: EpisodeShape, activations: usize) -> Self {
        let affordable = (NUMBERS / activations.max(1)).clamp(1, LARGEST_BLOCK);
        if alone {
            let items = shape.support_items() + 1;
            Queries::Alone((affordable / items).max(1))
        } else {
            // A query of each class, or several: the shape of an episode has as many of each.
            let way = shape.way.0.max(1);
            Queries::Block(affordable.div_ceil(way) * way)
        }
    }
}

/// Predictions for some queries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Class scores or values, `[q, outputs]`.
    pub values: Vec<f64>,
    /// Standard deviations of the values, `[q, outputs]`, where the learner predicts densities.
    pub deviations: Option<Vec<f64>>,
    /// Quantiles of the values at [`LEVELS`], `[q, outputs, levels]`, where the learner predicts a distribution
    /// that is not normal.
    pub quantiles: Option<Vec<f64>>,
    /// Numbers of a query.
    pub outputs: usize,
}

/// The levels of quantiles.
pub const LEVELS: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

impl Predictions {
    /// The predictions of each query.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks(self.outputs.max(1))
    }
}

/// A learner with the support that it answers from.
pub struct Answerer<'a, B: Primitives> {
    learner: &'a dyn Learner<B>,
    spec: TaskSpec,
    placed: Placed,
    queries: Queries,
    class_vectors: Option<Vec<f32>>,
    device: B::Device,
}

impl<'a, B: Primitives> Answerer<'a, B> {
    /// A learner that was built for `spec`, whose test shape is that of the support ([`Support::shape`]).
    /// `reads_masks` says whether it takes classes with fewer items as they are.
    ///
    /// # Errors
    /// [`Error::Setting`] for a support that cannot be used.
    pub fn new(
        learner: &'a dyn Learner<B>,
        spec: &TaskSpec,
        support: &Support,
        reads_masks: bool,
        queries: Queries,
        device: &B::Device,
    ) -> Result<Self> {
        Ok(Answerer {
            learner,
            spec: *spec,
            placed: support.placed(spec, reads_masks)?,
            queries,
            class_vectors: None,
            device: device.clone(),
        })
    }

    /// The same with a vector that describes each class, `[way, v]` in the order of their labels; what is
    /// beyond the classes of the support is left out.
    pub fn with_class_vectors(mut self, vectors: Option<Vec<f32>>) -> Self {
        let (own, all) = (self.placed.shape.way.0, self.spec.test.way.0);
        self.class_vectors = vectors.map(|mut vectors| {
            vectors.truncate(vectors.len() / all.max(1) * own);
            vectors
        });
        self
    }

    /// Predictions for `queries`, `[q, f]` row-major.
    ///
    /// # Panics
    /// When the numbers are not those of whole items.
    pub fn answer(&self, queries: &[f32]) -> Predictions {
        let features = self.spec.item.features();
        assert_eq!(queries.len() % features, 0, "whole items");
        let items = features
            * match self.queries {
                Queries::Together => (queries.len() / features).max(1),
                Queries::Block(size) | Queries::Alone(size) => size.max(1),
            };
        let mut all = Predictions::default();
        for block in queries.chunks(items) {
            let mut filled = block.to_vec();
            if self.queries != Queries::Together {
                filled.resize(items, 0.0);
            }
            let found = match self.queries {
                Queries::Alone(_) => {
                    let alone = filled.chunks(features).map(|query| self.episode(query));
                    self.predict(&alone.collect::<Vec<_>>())
                }
                _ => self.predict(&[self.episode(&filled)]),
            };
            let kept = block.len() / features * found.outputs;
            all.outputs = found.outputs;
            all.values.extend_from_slice(&found.values[..kept]);
            if let Some(deviations) = &found.deviations {
                let own = all.deviations.get_or_insert_default();
                own.extend_from_slice(&deviations[..kept]);
            }
            if let Some(quantiles) = &found.quantiles {
                let own = all.quantiles.get_or_insert_default();
                own.extend_from_slice(&quantiles[..kept * LEVELS.len()]);
            }
        }
        all
    }

    /// A task of the support and these queries, whose targets nobody knows.
    pub fn episode(&self, queries: &[f32]) -> Episode {
        let q = queries.len() / self.spec.item.features();
        let targets = match self.spec.task {
            Task::Classification => Targets::Classes(vec![0; q]),
            Task::Regression { .. } | Task::Acting { .. } => {
                Targets::Values(vec![0.0; q * self.spec.outputs()])
            }
            Task::Sequences {
                symbols, length, ..
            } => Targets::Sequences(vec![symbols as u32; q * (length + 1)]),
        };
        let first = self.placed.items.len() as u64;
        let ids = (first..first + q as u64).collect();
        let EpisodeShape { way, shot, .. } = self.placed.shape;
        let shape = EpisodeShape::new(way.0, shot.0, q.div_ceil(way.0.max(1)));
        let mut query = Items::new(queries.to_vec(), targets, ids);
        hide_missing(&mut query, &self.spec);
        Episode {
            class_vectors: self.class_vectors.clone(),
            ..Episode::new(0, shape, self.placed.items.clone(), query, Vec::new())
        }
    }

    /// A task of the support and one query, for a look at how it is answered: alone where it is answered
    /// alone, else as often as there are classes, as many as the shape of a task has.
    pub fn episode_of(&self, query: &[f32]) -> Episode {
        let copies = match self.queries {
            Queries::Block(_) => self.placed.shape.way.0.max(1),
            Queries::Alone(_) | Queries::Together => 1,
        };
        self.episode(&query.repeat(copies))
    }

    fn predict(&self, episodes: &[Episode]) -> Predictions {
        let tasks = TaskBatch::new(episodes, &self.spec, &self.device);
        let mut steps = self.learner.predict(&tasks, PredictAt::LastStep);
        let answer = steps.pop().expect("a learner answers");
        let [_, _, outputs] = answer.dims();
        let values = answer.into_data().iter::<f64>().collect();
        let deviations = match self.spec.task {
            Task::Regression { .. } => self.learner.deviations(&tasks),
            Task::Classification | Task::Sequences { .. } | Task::Acting { .. } => None,
        };
        let deviations = deviations.map(|found| found.into_data().iter::<f64>().collect());
        let quantiles = match self.spec.task {
            Task::Regression { .. } => self.learner.quantiles(&tasks, &LEVELS),
            Task::Classification | Task::Sequences { .. } | Task::Acting { .. } => None,
        };
        let quantiles = quantiles.map(|found| found.into_data().iter::<f64>().collect());
        device::check();
        Predictions {
            values,
            deviations,
            quantiles,
            outputs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::toy;

    fn support(labels: &[u32]) -> Support {
        Support {
            inputs: (0..labels.len()).map(|row| row as f32).collect(),
            targets: Targets::Classes(labels.to_vec()),
        }
    }

    /// Items come by class; what a smaller class lacks is not there, or there again.
    #[test]
    fn a_support_takes_its_places() {
        let uneven = support(&[1, 0, 1, 1, 0]);
        assert!(uneven.is_uneven() && !support(&[0, 1]).is_uneven());
        let spec = toy::vectors(1, uneven.shape(Task::Classification).expect("two classes"));
        let masked = uneven.placed(&spec, true).expect("placed").items;
        assert_eq!(masked.inputs, [1.0, 4.0, 0.0, 0.0, 2.0, 3.0]);
        assert_eq!(masked.targets, Targets::Classes(vec![0, 0, 0, 1, 1, 1]));
        let there = masked.mask.expect("one is not there").items;
        assert_eq!(there, [true, true, false, true, true, true]);
        let again = uneven.placed(&spec, false).expect("placed").items;
        assert_eq!(again.inputs, [1.0, 4.0, 1.0, 0.0, 2.0, 3.0]);
        assert_eq!(again.mask, None);
    }

    #[test]
    fn a_support_that_is_no_task_is_refused() {
        let message = |labels: &[u32]| match support(labels).shape(Task::Classification) {
            Ok(shape) => shape.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(message(&[0, 1, 1]), "2-way 2-shot, 1 query");
        assert!(message(&[]).contains("`support = 0`"));
        assert!(message(&[0, 0]).contains("at least 2 classes"));
        let spec = toy::vectors(1, EpisodeShape::new(3, 1, 1));
        let missing = support(&[0, 2]).placed(&spec, false);
        assert!(missing.is_err_and(|error| error.to_string().contains("`support = 1`")));
    }

    #[test]
    fn blocks_are_of_whole_classes_and_bounded() {
        let shape = EpisodeShape::new(5, 4, 1);
        assert_eq!(Queries::one_by_one(false, shape, 100), Queries::Block(260));
        assert_eq!(
            Queries::one_by_one(false, shape, NUMBERS),
            Queries::Block(5)
        );
        assert_eq!(Queries::one_by_one(true, shape, 100), Queries::Alone(12));
        assert_eq!(
            Queries::one_by_one(true, shape, usize::MAX),
            Queries::Alone(1)
        );
    }
}
