//! Scores the baseline of a test: a rule that learns nothing across tasks, on the same frozen episodes.

use meta_core::{
    data::{Episode, Items, Source, Split, Targets},
    rl::{ActingWorld, RandomPolicy, run_trials},
    rng::Seed,
    task::TaskSpec,
    train::eval::{FrozenEpisodes, Metric},
};

use crate::failure::Result;

/// Training episodes from which the prior mean of a regression is taken.
const PRIOR_EPISODES: u64 = 200;

/// Name of the rule for tasks of this metric and way: sequences are right or wrong and have no classes.
pub fn name(metric: Metric, way: usize) -> &'static str {
    match (metric, way) {
        (Metric::MeanSquaredError, _) => "mean target of the training tasks",
        (Metric::Return, _) => "random actions",
        (Metric::Accuracy, 0 | 1) => "copy of the most similar example",
        (Metric::Accuracy, _) => "nearest class mean of the raw inputs",
    }
}

/// The score of the rule on each episode of `set`.
///
/// Classification: a query gets the class whose support items have the nearest mean, by Euclidean
/// distance of the raw inputs; accuracy. Regression: every query gets the mean target of training
/// tasks; mean squared error. Sequences: every query gets the sequence of the example that it has the fewest
/// edits from, of equal ones the first; share of those that are right. Tasks to act in: uniformly random
/// actions; the mean return of the trials.
///
/// # Errors
/// When an episode cannot be drawn.
pub fn scores(spec: &TaskSpec, set: &FrozenEpisodes) -> Result<Vec<f64>> {
    if spec.task.is_acting() {
        return random_returns(set);
    }
    let prior = prior_mean(set.source.as_ref(), spec, set.seed)?;
    (0..set.count as u64)
        .map(|index| {
            let episode = set.source.episode(set.seed, set.split, set.shape, index)?;
            Ok(match &episode.query.targets {
                Targets::Classes(classes) => nearest_mean(&episode, classes),
                Targets::Values(values) => {
                    let errors = values.iter().zip(prior.iter().cycle());
                    let squares = errors.map(|(value, mean)| (f64::from(*value) - mean).powi(2));
                    squares.sum::<f64>() / values.len() as f64
                }
                Targets::Sequences(symbols) => copying(&episode, symbols),
            })
        })
        .collect()
}

/// The return of random actions in each task of `set`.
fn random_returns(set: &FrozenEpisodes) -> Result<Vec<f64>> {
    let (trials, episodes) = (set.shape.query.0, set.shape.shot.0);
    (0..set.count as u64)
        .map(|index| {
            let episode = set.source.episode(set.seed, set.split, set.shape, index)?;
            let world = ActingWorld::of(episode.world.as_ref());
            let tasks = [index];
            let lanes = world.lanes(&tasks, trials);
            let returns = run_trials(world.family.as_ref(), lanes, episodes, |_| {
                Box::new(RandomPolicy::new(&world.family.actions()))
            })?;
            Ok(returns.iter().sum::<f64>() / trials as f64)
        })
        .collect()
}

/// Mean of every output over the queries of training tasks; empty for classification.
fn prior_mean(source: &dyn Source, spec: &TaskSpec, seed: Seed) -> Result<Vec<f64>> {
    let meta_core::data::Task::Regression { outputs } = spec.task else {
        return Ok(Vec::new());
    };
    let (mut sums, mut count) = (vec![0.0; outputs], 0usize);
    for index in 0..PRIOR_EPISODES {
        let episode = source.episode(seed, Split::Train, spec.train, index)?;
        if let Targets::Values(values) = &episode.query.targets {
            for item in values.chunks(outputs) {
                sums.iter_mut()
                    .zip(item)
                    .for_each(|(sum, value)| *sum += f64::from(*value));
                count += 1;
            }
        }
    }
    Ok(sums
        .into_iter()
        .map(|sum| sum / count.max(1) as f64)
        .collect())
}

/// Share of the queries whose sequence is that of the example with the fewest edits from their input.
fn copying(episode: &Episode, symbols: &[u32]) -> f64 {
    let (support, query) = (&episode.support, &episode.query);
    let Targets::Sequences(known) = &support.targets else {
        return 0.0;
    };
    let features = query.inputs.len() / query.len().max(1);
    let places = symbols.len() / query.len().max(1);
    let words = |row: &[f32]| -> Vec<u32> {
        let words = row.iter().take_while(|&&word| word > 0.0);
        words.map(|&word| word as u32).collect()
    };
    let examples: Vec<Vec<u32>> = support.inputs.chunks(features).map(words).collect();
    let queries = query.inputs.chunks(features).zip(symbols.chunks(places));
    let right = queries.filter(|(input, target)| {
        let own = words(input);
        let nearest = (0..examples.len()).min_by_key(|&example| edits(&own, &examples[example]));
        nearest.is_some_and(|example| known[example * places..(example + 1) * places] == **target)
    });
    right.count() as f64 / query.len().max(1) as f64
}

/// Levenshtein's distance: the fewest words to put in, take out or change.
fn edits(from: &[u32], to: &[u32]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

/// Share of the queries whose nearest class mean is that of their class (ties: the lowest class).
fn nearest_mean(episode: &Episode, classes: &[u32]) -> f64 {
    let features = episode.support.inputs.len() / episode.support.len();
    let way = episode.shape.way.0;
    let means = class_means(&episode.support, way, features);
    let queries = episode.query.inputs.chunks(features).zip(classes);
    let there = |item: &usize| episode.query.is_there(*item);
    let queries = queries.enumerate().filter(|(item, _)| there(item));
    let right = queries.filter(|(_, (query, class))| {
        let distance = |mean: &Vec<f64>| -> f64 {
            let differences = mean.iter().zip(*query).map(|(m, x)| m - f64::from(*x));
            differences.map(|d| d * d).sum()
        };
        // A class that is not there has no mean.
        let nearest = (0..way).filter(|&class| means[class].iter().all(|m| !m.is_nan()));
        let nearest = nearest.reduce(|best, next| {
            if distance(&means[next]) < distance(&means[best]) {
                next
            } else {
                best
            }
        });
        nearest == Some(**class as usize)
    });
    let count = (0..classes.len()).filter(there).count();
    right.count() as f64 / count as f64
}

fn class_means(support: &Items, way: usize, features: usize) -> Vec<Vec<f64>> {
    let mut means = vec![vec![0.0; features]; way];
    let mut counts = vec![0.0; way];
    if let Targets::Classes(classes) = &support.targets {
        let items = support.inputs.chunks(features).zip(classes).enumerate();
        for (_, (item, &class)) in items.filter(|(item, _)| support.is_there(*item)) {
            counts[class as usize] += 1.0;
            let mean = &mut means[class as usize];
            mean.iter_mut()
                .zip(item)
                .for_each(|(m, x)| *m += f64::from(*x));
        }
    }
    for (mean, count) in means.iter_mut().zip(counts) {
        mean.iter_mut().for_each(|m| *m /= count);
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;
    use meta_core::data::{EpisodeShape, Mask};

    /// Classes at 0 and 10 on a line: 4 belongs to the first, 9 and 12 to the second, 6 is taken for
    /// the second.
    #[test]
    fn the_nearest_mean_by_hand() {
        let items = |inputs: &[f32], classes: &[u32]| {
            let ids = (0..classes.len() as u64).collect();
            Items::new(inputs.to_vec(), Targets::Classes(classes.to_vec()), ids)
        };
        let shape = EpisodeShape::new(2, 2, 2);
        let support = items(&[-1.0, 1.0, 9.0, 11.0], &[0, 0, 1, 1]);
        let query = items(&[4.0, 6.0, 9.0, 12.0], &[0, 0, 1, 1]);
        let mut episode = Episode::new(0, shape, support, query, Vec::new());
        assert_eq!(nearest_mean(&episode, &[0, 0, 1, 1]), 0.75);
        // Without the item at 11, the second mean is 9, and without the query at 6, none is wrong.
        let mask = |items: [bool; 4]| {
            Some(Mask {
                items: items.to_vec(),
                numbers: None,
            })
        };
        episode.support.mask = mask([true, true, true, false]);
        episode.query.mask = mask([true, false, true, true]);
        assert_eq!(nearest_mean(&episode, &[0, 0, 1, 1]), 1.0);
    }
}
