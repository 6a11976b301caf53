//! What a trained learner predicts for each query of its test episodes, and which classes it confuses.
//!
//! The classes of episodes differ. A class can be taken for another one only where both are in one episode, so
//! a share of confusions is of the queries of those episodes alone.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use meta_core::{
    Error,
    backend::{WithBackend, dispatch},
    data::{ClassRef, Episode, EpisodeShape, Source, Split, Targets, Task},
    learner::{Learner, PredictAt},
    primitives::Primitives,
    rng::Seed,
    task::TaskBatch,
    toolkit::Toolkit,
    train::eval::highest,
};

use super::{
    elsewhere::{Changes, trained},
    eval::best_learner,
};
use crate::{experiment::Experiment, failure::Result};

/// Episodes that are predicted at a time, where memory sets no bound.
const CHUNK: usize = 20;

/// A prediction for a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Number of the episode.
    pub episode: u64,
    /// Identity of the item in its source.
    pub item: u64,
    /// Its class, as a place in [`Predictions::classes`].
    pub class: usize,
    /// The class that was predicted, as such a place.
    pub predicted: usize,
    /// The probability of that class: the softmax of the class scores.
    pub probability: f64,
}

/// What a learner predicts for the queries of a number of episodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// What the classes are called, in the order of the source.
    pub classes: Vec<String>,
    /// Classes of each episode, as places in `classes`.
    pub episodes: Vec<Vec<usize>>,
    /// One a query that is there.
    pub all: Vec<Prediction>,
}

/// How often a class was recognised.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassScore {
    /// The class.
    pub class: usize,
    /// Its queries.
    pub queries: usize,
    /// Those that were recognised.
    pub right: usize,
}

impl ClassScore {
    /// Share of its queries that were recognised.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.queries.max(1) as f64
    }
}

/// How often a class was taken for another.
#[derive(Clone, Debug, PartialEq)]
pub struct Confusion {
    /// The class.
    pub class: usize,
    /// What it was taken for.
    pub taken_for: usize,
    /// Its queries that were.
    pub count: usize,
    /// Its queries in episodes that have both classes.
    pub of: usize,
}

/// A group of predictions of about the same probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Its predictions.
    pub count: usize,
    /// Mean of their probabilities.
    pub probability: f64,
    /// Share that is right.
    pub accuracy: f64,
}

/// Bins of probabilities, of equal width.
pub const BINS: usize = 10;

impl Predictions {
    /// Share of the queries that were recognised.
    pub fn accuracy(&self) -> f64 {
        let right = self.all.iter().filter(|one| one.class == one.predicted);
        right.count() as f64 / self.all.len().max(1) as f64
    }

    /// Scores of the classes, the hardest first.
    pub fn hardest(&self) -> Vec<ClassScore> {
        let mut scores: BTreeMap<usize, ClassScore> = BTreeMap::new();
        for one in &self.all {
            let score = scores.entry(one.class).or_insert(ClassScore {
                class: one.class,
                queries: 0,
                right: 0,
            });
            score.queries += 1;
            score.right += usize::from(one.class == one.predicted);
        }
        let mut scores: Vec<ClassScore> = scores.into_values().collect();
        scores.sort_by(|a, b| a.accuracy().total_cmp(&b.accuracy()));
        scores
    }

    /// Confusions that happened, the most frequent first, and the right answers among them
    /// (`class == taken_for`).
    pub fn confusions(&self) -> Vec<Confusion> {
        let mut queries: HashMap<(u64, usize), usize> = HashMap::new();
        let mut taken: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for one in &self.all {
            *queries.entry((one.episode, one.class)).or_default() += 1;
            *taken.entry((one.class, one.predicted)).or_default() += 1;
        }
        // Only pairs that happened are counted: there may be far more classes than that.
        let mut of: HashMap<(usize, usize), usize> = HashMap::new();
        for (number, classes) in self.episodes.iter().enumerate() {
            for &class in classes {
                let Some(&count) = queries.get(&(number as u64, class)) else {
                    continue;
                };
                for &other in classes {
                    if taken.contains_key(&(class, other)) {
                        *of.entry((class, other)).or_default() += count;
                    }
                }
            }
        }
        let mut found: Vec<Confusion> = taken
            .into_iter()
            .map(|((class, taken_for), count)| Confusion {
                class,
                taken_for,
                count,
                of: of.get(&(class, taken_for)).copied().unwrap_or(count),
            })
            .collect();
        found.sort_by_key(|one| std::cmp::Reverse(one.count));
        found
    }

    /// Predictions by their probability, in [`BINS`] bins of equal width over \[0, 1\].
    pub fn bins(&self) -> [Bin; BINS] {
        let mut bins = [Bin::default(); BINS];
        for one in &self.all {
            let place = (one.probability * BINS as f64) as usize;
            let bin = &mut bins[place.min(BINS - 1)];
            bin.count += 1;
            bin.probability += one.probability;
            bin.accuracy += f64::from(u8::from(one.class == one.predicted));
        }
        for bin in &mut bins {
            let count = bin.count.max(1) as f64;
            bin.probability /= count;
            bin.accuracy /= count;
        }
        bins
    }

    /// Expected calibration error: `Σ n_b / N · |accuracy − mean probability|` over the bins.
    pub fn calibration_error(&self) -> f64 {
        let total = self.all.len().max(1) as f64;
        let gap = |bin: &Bin| bin.count as f64 / total * (bin.accuracy - bin.probability).abs();
        self.bins().iter().map(gap).sum()
    }
}

/// Which episodes are predicted: the first `count` of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Which {
    /// Part of the source.
    pub split: Split,
    /// Seed of the stream.
    pub seed: Seed,
    /// Shape of the episodes.
    pub shape: EpisodeShape,
    /// How many.
    pub count: usize,
}

/// The predictions of `learner` for the queries of episodes; nothing where these are regressions.
///
/// # Errors
/// When an episode cannot be drawn.
pub fn predictions<T: Toolkit, B: Primitives>(
    experiment: &Experiment<T>,
    learner: &dyn Learner<B>,
    which: Which,
    device: &B::Device,
) -> Result<Predictions> {
    if experiment.spec.task != Task::Classification {
        return Ok(Predictions::default());
    }
    let source = experiment.source.as_ref();
    let graphs = experiment.test_graphs::<B>(learner.parameters().num_elements());
    let chunk = graphs.tasks_at_a_time().unwrap_or(CHUNK).clamp(1, CHUNK);
    let mut classes = Classes::default();
    let (mut all, mut episodes) = (Vec::new(), Vec::new());
    while episodes.len() < which.count {
        let first = episodes.len() as u64;
        let count = chunk.min(which.count - episodes.len()) as u64;
        let drawn: Vec<Episode> = (first..first + count)
            .map(|index| source.episode(which.seed, which.split, which.shape, index))
            .collect::<Result<_, Error>>()
            .map_err(|error| experiment.manifest.locate(error))?;
        let tasks = TaskBatch::new(&drawn, &experiment.spec, device);
        let steps = learner.predict(&tasks, PredictAt::LastStep);
        let Some(scores) = steps.into_iter().next_back() else {
            break;
        };
        let [_, queries, outputs] = scores.dims();
        let values: Vec<f64> = scores.into_data().iter::<f64>().collect();
        for (episode, scores) in drawn.iter().zip(values.chunks(queries * outputs)) {
            let places = classes.places(source, &episode.classes);
            add(episode, scores, outputs, &places, &mut all);
            episodes.push(places);
        }
    }
    let (classes, order) = classes.sorted();
    for one in &mut all {
        (one.class, one.predicted) = (order[one.class], order[one.predicted]);
    }
    for places in &mut episodes {
        places.iter_mut().for_each(|place| *place = order[*place]);
    }
    Ok(Predictions {
        classes,
        episodes,
        all,
    })
}

/// Adds the predictions for the queries of `episode`, whose classes have these places.
fn add(
    episode: &Episode,
    scores: &[f64],
    outputs: usize,
    places: &[usize],
    all: &mut Vec<Prediction>,
) {
    let Targets::Classes(targets) = &episode.query.targets else {
        return;
    };
    for (query, (row, &target)) in scores.chunks(outputs).zip(targets).enumerate() {
        // Classes that are not there come last, and are not answered for.
        let row = &row[..places.len().min(outputs)];
        let (Some(best), true) = (highest(row), episode.query.is_there(query)) else {
            continue;
        };
        let Some(&class) = places.get(target as usize) else {
            continue;
        };
        let sum: f64 = row.iter().map(|score| (score - row[best]).exp()).sum();
        all.push(Prediction {
            episode: episode.index,
            item: episode.query.ids[query],
            class,
            predicted: places[best],
            probability: 1.0 / sum,
        });
    }
}

/// Classes in the order in which they are met.
#[derive(Default)]
struct Classes {
    places: HashMap<(u32, u8), usize>,
    met: Vec<((u32, u8), String)>,
}

impl Classes {
    /// The places of the classes of an episode.
    fn places(&mut self, source: &dyn Source, classes: &[ClassRef]) -> Vec<usize> {
        let place = |class: &ClassRef| {
            let key = (class.class, class.quarter_turns);
            *self.places.entry(key).or_insert_with(|| {
                let name = source.class_name(*class);
                let name = name.unwrap_or_else(|| format!("class {}", class.class));
                self.met.push((key, name));
                self.met.len() - 1
            })
        };
        classes.iter().map(place).collect()
    }

    /// The names in the order of the source, and the new place of each old one.
    fn sorted(self) -> (Vec<String>, Vec<usize>) {
        let mut olds: Vec<usize> = (0..self.met.len()).collect();
        olds.sort_by_key(|&old| self.met[old].0);
        let mut order = vec![0; olds.len()];
        for (new, &old) in olds.iter().enumerate() {
            order[old] = new;
        }
        let names = olds.iter().map(|&old| self.met[old].1.clone()).collect();
        (names, order)
    }
}

/// The predictions of the best parameters of the run at `path` for the first `most` of its test episodes.
///
/// # Errors
/// Whatever is wrong with the folder or the data.
pub fn of_run<T: Toolkit>(path: &Path, data: Option<&Path>, most: usize) -> Result<Predictions> {
    let changes = Changes {
        data,
        ..Changes::default()
    };
    let experiment = trained::<T>(path, changes)?.experiment;
    let target = experiment.manifest.run.target();
    let of_run = OfRun {
        experiment,
        path,
        most,
    };
    dispatch(&target, of_run)?
}

/// Predictions on a backend whose name is known only now.
struct OfRun<'a, T: Toolkit> {
    experiment: Experiment<T>,
    path: &'a Path,
    most: usize,
}

impl<T: Toolkit> WithBackend for OfRun<'_, T> {
    type Output = Result<Predictions>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let experiment = &self.experiment;
        let (learner, _) = best_learner::<T, B>(experiment, self.path, &device, false)?;
        let tested = experiment.test_episodes();
        let which = Which {
            split: tested.split,
            seed: tested.seed,
            shape: tested.shape,
            count: tested.count.min(self.most),
        };
        predictions(experiment, learner.as_ref(), which, &device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(episode: u64, class: usize, predicted: usize, probability: f64) -> Prediction {
        Prediction {
            episode,
            item: 0,
            class,
            predicted,
            probability,
        }
    }

    /// Two episodes: a and b, then a and c. `a` is taken for `b` once of the two times that `b` was there.
    fn three() -> Predictions {
        Predictions {
            classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
            episodes: vec![vec![0, 1], vec![2, 0]],
            all: vec![
                one(0, 0, 1, 0.75),
                one(0, 0, 0, 0.8),
                one(0, 1, 1, 0.85),
                one(1, 0, 0, 1.0),
                one(1, 2, 0, 0.5),
            ],
        }
    }

    #[test]
    fn a_class_is_confused_with_one_of_its_episode() {
        let predictions = three();
        assert_eq!(predictions.accuracy(), 0.6);
        let hardest = predictions.hardest();
        let of = |place: usize| (hardest[place].class, hardest[place].accuracy());
        assert_eq!([of(0), of(1), of(2)], [(2, 0.0), (0, 2.0 / 3.0), (1, 1.0)]);
        let confusions = predictions.confusions();
        let of = |class, taken_for| {
            let mut found = confusions.iter();
            let found = found.find(|one| (one.class, one.taken_for) == (class, taken_for));
            found.map(|one| (one.count, one.of))
        };
        assert_eq!(of(0, 1), Some((1, 2)), "of the queries beside `b`");
        assert_eq!(of(0, 0), Some((2, 3)));
        assert_eq!(of(2, 0), Some((1, 1)));
        assert_eq!(of(1, 0), None);
    }

    /// By hand: the bins [0.5, 0.6), [0.7, 0.8), [0.8, 0.9) and [0.9, 1] hold 1, 1, 2 and 1 predictions.
    #[test]
    fn calibration_by_hand() {
        let predictions = three();
        let bins = predictions.bins();
        let counts: Vec<usize> = bins.iter().map(|bin| bin.count).collect();
        assert_eq!(counts, [0, 0, 0, 0, 0, 1, 0, 1, 2, 1]);
        let expected = (0.5 + 0.75 + 2.0 * 0.175 + 0.0) / 5.0;
        assert!((predictions.calibration_error() - expected).abs() < 1e-15);
        assert_eq!(Predictions::default().calibration_error(), 0.0);
    }
}
