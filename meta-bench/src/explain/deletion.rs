//! The deletion check: does masking what is attended to most hurt more than masking at random?
//!
//! Inputs are masked in the order of the attention they receive, and in random orders. An explanation is
//! faithful, in this sense, where the first makes answers worse faster. It is the deletion metric of
//! Petsiuk, Das and Saenko, *RISE*, BMVC 2018, section 4.2, with random orders as the reference.
//!
//! Two things can be masked. The maps decide which:
//!
//! * **support items**, where something attends to the support. Where queries do, every query has its own
//!   order: the task is repeated for each of its queries, masked for that query, and only that query is
//!   scored. A masked item has the mean of the support's inputs, and in regression the mean of its values;
//!   its label stays.
//! * **parts of the queries**, where an encoder attends over parts. Every query is masked in its own
//!   order. A masked part of an image has the mean of that image, channel by channel; a masked feature of
//!   a vector has the mean of that feature over the support.
//!
//! The attention that something receives is the mean over heads, over the maps of its kind, and over the
//! rows that are not the query's own.

use meta_core::{
    Result,
    data::{Episode, Split, Targets},
    learner::{Learner, PredictAt},
    primitives::Primitives,
    rng::Seed,
    stats::Interval,
    task::{TaskBatch, TaskSpec},
    train::eval::{Checked, Metric, score_items},
};
use serde_json::{Value, json};

use super::{
    maps::{Map, split},
    mask::{Masked, Orders, deciding, levels, orders, possible},
};

/// Random orders for each order by attention.
const DRAWS: u64 = 5;
/// Tasks of one forward pass, at most, unless one episode alone has more.
const TASKS: usize = 64;

/// Scores and losses of every episode, `[level][episode]`.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// Accuracy, of sequences the share that is right as a whole, or mean squared error.
    pub scores: Vec<Vec<f64>>,
    /// Cross-entropy, or mean squared error.
    pub losses: Vec<Vec<f64>>,
}

/// The outcome of the check.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// What was masked.
    pub masked: Masked,
    /// The maps whose attention gave the order.
    pub maps: Vec<String>,
    /// How many there are to mask.
    pub count: usize,
    /// How many were masked, from 0 to all.
    pub levels: Vec<usize>,
    /// In the order of the attention received.
    pub attended: Curve,
    /// In random orders, their mean.
    pub random: Curve,
    /// Whether scores are accuracies, of which more is better.
    pub accuracy: bool,
}

impl Deletion {
    /// By how much more masking the most attended hurts, in each episode: the difference of the
    /// scores at one level.
    fn difference(&self, level: usize) -> Vec<f64> {
        let sign = if self.accuracy { 1.0 } else { -1.0 };
        self.random.scores[level]
            .iter()
            .zip(&self.attended.scores[level])
            .map(|(random, attended)| sign * (random - attended))
            .collect()
    }

    /// The mean of the differences over the levels between none and all, over episodes.
    pub fn effect(&self) -> Interval {
        let inner: Vec<Vec<f64>> = (0..self.levels.len())
            .filter(|&level| (1..self.count).contains(&self.levels[level]))
            .map(|level| self.difference(level))
            .collect();
        let episodes = inner.first().map_or(0, Vec::len);
        let mean = |episode: usize| {
            inner.iter().map(|level| level[episode]).sum::<f64>() / inner.len() as f64
        };
        Interval::t95(&(0..episodes).map(mean).collect::<Vec<f64>>())
    }

    /// Checks that what the learner says of masked episodes are results; they are counted from 0.
    ///
    /// # Errors
    /// As [`Checked::check`].
    pub fn check(&self, metric: Metric, split: Split) -> Result<()> {
        for curve in [&self.attended, &self.random] {
            for (scores, losses) in curve.scores.iter().zip(&curve.losses) {
                for (episode, (&score, &loss)) in (0..).zip(scores.iter().zip(losses)) {
                    let checked = Checked {
                        metric,
                        split,
                        episode,
                        step: None,
                    };
                    checked.check(score, Some(loss))?;
                }
            }
        }
        Ok(())
    }

    /// The levels that [`Deletion::effect`] is the mean over.
    fn inner_levels(&self) -> String {
        let inner: Vec<String> = self
            .levels
            .iter()
            .filter(|level| (1..self.count).contains(level))
            .map(usize::to_string)
            .collect();
        inner.join(", ")
    }

    /// What came out, in words and numbers.
    pub fn sentence(&self) -> String {
        let effect = self.effect();
        let (amount, unit) = if self.accuracy {
            (format!("{:.1}", effect.scaled(100.0)), "points of accuracy")
        } else {
            (format!("{effect:.4}"), "of squared error")
        };
        let verdict = if effect.low() > 0.0 {
            "the most attended matter more than random ones"
        } else if effect.high() < 0.0 {
            "the most attended matter less than random ones"
        } else {
            "no difference is shown"
        };
        format!(
            "masking {}: the most attended cost {amount} {unit} more than random ones (mean over {} \
             masked of {}; 95 % interval, paired over {} episodes): {verdict}",
            self.masked.name(),
            self.inner_levels(),
            self.count,
            effect.n
        )
    }

    /// Everything as JSON.
    pub fn numbers(&self) -> Value {
        let interval = |values: &[f64]| {
            let interval = Interval::t95(values);
            json!({ "mean": interval.mean, "ci95": interval.half_width })
        };
        let curve = |curve: &Curve, level: usize| {
            json!({
                "score": interval(&curve.scores[level]),
                "loss": interval(&curve.losses[level]),
            })
        };
        let levels: Vec<Value> = (0..self.levels.len())
            .map(|level| {
                json!({
                    "masked": self.levels[level],
                    "most_attended": curve(&self.attended, level),
                    "random": curve(&self.random, level),
                    "difference": interval(&self.difference(level)),
                })
            })
            .collect();
        let effect = self.effect();
        json!({
            "masked": self.masked.name(),
            "grid": match self.masked {
                Masked::Support => Value::Null,
                Masked::Parts(rows, columns) => json!([rows, columns]),
            },
            "ordered_by": self.maps,
            "of": self.count,
            "episodes": effect.n,
            "random_orders": DRAWS,
            "levels": levels,
            "difference": { "mean": effect.mean, "ci95": effect.half_width },
            "sentence": self.sentence(),
        })
    }
}

/// Mean score and loss of every episode, whose tasks (one for each group of queries) are masked as
/// `level` of their orders say.
fn scores<B: Primitives>(
    learner: &dyn Learner<B>,
    spec: &TaskSpec,
    episodes: &[(Episode, Orders)],
    level: usize,
    device: &B::Device,
) -> Vec<(f64, f64)> {
    let masked: Vec<Episode> = episodes
        .iter()
        .flat_map(|(episode, orders)| orders.masked(episode, level, spec.item))
        .collect();
    let batch = TaskBatch::new(&masked, spec, device);
    let predictions = learner.predict(&batch, PredictAt::LastStep).remove(0);
    let [_, q, outputs] = predictions.dims();
    let values: Vec<f64> = predictions.into_data().iter::<f64>().collect();
    let mut tasks = values.chunks_exact(q * outputs);
    episodes
        .iter()
        .map(|(episode, orders)| {
            let (mut score, mut loss) = (0.0, 0.0);
            for (group, task) in orders.groups.iter().zip(tasks.by_ref()) {
                for &query in group {
                    let answer = &task[query * outputs..(query + 1) * outputs];
                    let target = episode.query.targets.select(&[query], episode.query.len());
                    let (own_score, own_loss) = score_items(answer, outputs, &target);
                    score += own_score;
                    loss += own_loss;
                }
            }
            (score / q as f64, loss / q as f64)
        })
        .collect()
}

impl Deletion {
    /// A check of what is `masked`, before its first episode, whose maps are `maps`.
    fn new(masked: Masked, maps: &[Map], s: usize, q: usize, accuracy: bool) -> Self {
        let count = masked.count(s);
        let mut names: Vec<String> = Vec::new();
        for map in deciding(masked, maps, s, q) {
            if !names.contains(&map.name) {
                names.push(map.name.clone());
            }
        }
        let levels = levels(count);
        let curve = Curve {
            scores: vec![Vec::new(); levels.len()],
            losses: vec![Vec::new(); levels.len()],
        };
        Deletion {
            masked,
            maps: names,
            count,
            levels,
            attended: curve.clone(),
            random: curve,
            accuracy,
        }
    }

    /// Masks and scores `episodes` with their orders by attention, and with random ones.
    fn add<B: Primitives>(
        &mut self,
        learner: &dyn Learner<B>,
        spec: &TaskSpec,
        attended: &[(Episode, Orders)],
        seed: Seed,
        device: &B::Device,
    ) {
        let random: Vec<Vec<(Episode, Orders)>> = (0..DRAWS)
            .map(|draw| {
                let drawn = |(episode, orders): &(Episode, Orders)| {
                    (episode.clone(), orders.random(seed, episode.index, draw))
                };
                attended.iter().map(drawn).collect()
            })
            .collect();
        for (place, &level) in self.levels.iter().enumerate() {
            let by_attention = scores(learner, spec, attended, level, device);
            // With none or all of them masked, their order does not matter.
            let by_chance = if level == 0 || level == self.count {
                by_attention.clone()
            } else {
                let draws: Vec<_> = random
                    .iter()
                    .map(|random| scores(learner, spec, random, level, device))
                    .collect();
                mean_of_draws(&draws)
            };
            self.attended.push(place, by_attention);
            self.random.push(place, by_chance);
        }
    }
}

impl Curve {
    /// Adds scores and losses at the level in this place.
    fn push(&mut self, place: usize, values: Vec<(f64, f64)>) {
        for (score, loss) in values {
            self.scores[place].push(score);
            self.losses[place].push(loss);
        }
    }
}

/// Mean scores and losses of every episode over the draws.
fn mean_of_draws(draws: &[Vec<(f64, f64)>]) -> Vec<(f64, f64)> {
    let mean = |of: fn(&(f64, f64)) -> f64, episode: usize| {
        draws.iter().map(|draw| of(&draw[episode])).sum::<f64>() / draws.len() as f64
    };
    (0..draws[0].len())
        .map(|episode| (mean(|pair| pair.0, episode), mean(|pair| pair.1, episode)))
        .collect()
}

/// The check on `episodes` (all of one shape, [`super::mask::shortened`]), for everything that their
/// maps allow. `progress` receives how many episodes are done.
pub fn deletion<B: Primitives>(
    learner: &dyn Learner<B>,
    spec: &TaskSpec,
    episodes: &[Episode],
    seed: Seed,
    device: &B::Device,
    mut progress: impl FnMut(usize),
) -> Vec<Deletion> {
    let Some(first) = episodes.first() else {
        return Vec::new();
    };
    let (s, q) = (first.support.len(), first.query.len());
    let accuracy = !matches!(first.query.targets, Targets::Values(_));
    let mut found: Vec<Deletion> = Vec::new();
    let mut done = 0;
    for chunk in episodes.chunks((TASKS / q.max(1)).max(1)) {
        let explanation = learner.explain(&TaskBatch::new(chunk, spec, device));
        let (maps, _) = split(explanation.maps, [chunk.len(), s, q]);
        if done == 0 {
            found = possible(&maps[0], s, q)
                .into_iter()
                .map(|masked| Deletion::new(masked, &maps[0], s, q, accuracy))
                .collect();
        }
        for deletion in &mut found {
            let attended: Vec<(Episode, Orders)> = chunk
                .iter()
                .zip(&maps)
                .map(|(episode, maps)| {
                    let orders = orders(deletion.masked, maps, s, q);
                    (episode.clone(), orders)
                })
                .collect();
            deletion.add(learner, spec, &attended, seed, device);
        }
        done += chunk.len();
        progress(done);
        if found.is_empty() {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use meta_core::{
        backend::Cpu,
        data::{EpisodeShape, Extras, ItemShape, Items, Task},
        nn::encoder::EncoderSpec,
    };

    use super::super::mask::shortened;

    const FEATURES: usize = 6;

    fn spec(way: usize, shot: usize) -> TaskSpec {
        let shape = EpisodeShape::new(way, shot, 2);
        TaskSpec {
            item: ItemShape {
                height: 1,
                width: 1,
                channels: FEATURES,
            },
            task: Task::Classification,
            train: shape,
            test: shape,
            train_classes: way,
            extras: Extras::default(),
        }
    }

    /// Episodes of random support items; every query is one of them, its class's own.
    fn copies(spec: &TaskSpec, count: u64) -> Vec<Episode> {
        let shape = spec.test;
        (0..count)
            .map(|index| {
                let mut stream = Seed(7).stream("copies", index, "support");
                let (way, s) = (shape.way.0, shape.support_items());
                let inputs: Vec<f32> = (0..s * FEATURES).map(|_| stream.normal() as f32).collect();
                let classes = |per_class: usize| {
                    Targets::Classes(
                        (0..way * per_class)
                            .map(|item| (item / per_class) as u32)
                            .collect(),
                    )
                };
                let of_class =
                    |class: usize| &inputs[class * shape.shot.0 * FEATURES..][..FEATURES];
                let queries =
                    (0..way).flat_map(|class| [of_class(class), of_class(class)].concat());
                Episode {
                    index,
                    shape,
                    query: Items::new(queries.collect(), classes(2), (0..2 * way as u64).collect()),
                    support: Items::new(inputs, classes(shape.shot.0), (0..s as u64).collect()),
                    classes: Vec::new(),
                    class_vectors: None,
                    world: None,
                }
            })
            .collect()
    }

    fn matching_net(spec: &TaskSpec, temperature: f64) -> Box<dyn Learner<Cpu>> {
        let encoder = EncoderSpec::new("mlp", &json!({"hidden": [32]}), spec.item).unwrap();
        let settings = json!({ "temperature": temperature });
        meta_algos::build(
            "matching_net",
            &settings,
            encoder,
            spec,
            Seed(1),
            &Default::default(),
        )
        .unwrap()
    }

    /// One support item decides each answer, the copy of the query, and attention finds it; a random
    /// item is that one once in five times.
    #[test]
    fn masking_the_item_that_decides_hurts_most() {
        let spec = spec(5, 1);
        let episodes: Vec<Episode> = copies(&spec, 20)
            .into_iter()
            .map(|episode| shortened(episode, FEATURES))
            .collect();
        let learner = matching_net(&spec, 50.0);
        let found = deletion(
            learner.as_ref(),
            &spec,
            &episodes,
            Seed(0),
            &Default::default(),
            |_| {},
        );
        let [check] = found.as_slice() else {
            panic!("{} checks", found.len());
        };
        assert_eq!((check.masked, check.count), (Masked::Support, 5));
        assert_eq!(check.levels, [0, 1, 2, 3, 4, 5]);
        let mean = |curve: &Curve, level: usize| Interval::t95(&curve.scores[level]).mean;
        assert_eq!(mean(&check.attended, 0), 1.0);
        // Not a guess: the mean of the support still has a fifth of the item in it.
        let (attended, random) = (mean(&check.attended, 1), mean(&check.random, 1));
        assert!(attended < 0.55, "{attended}");
        assert!(attended + 0.2 < random, "{attended} {random}");
        assert_eq!(check.attended.scores[5], check.random.scores[5]);
        assert!(check.effect().low() > 0.1, "{}", check.effect());
        assert!(
            check.sentence().contains("matter more"),
            "{}",
            check.sentence()
        );
    }

    /// Where attention is the same everywhere, its order says nothing.
    #[test]
    fn uniform_attention_shows_no_difference() {
        let spec = spec(4, 1);
        let episodes: Vec<Episode> = copies(&spec, 30)
            .into_iter()
            .map(|episode| shortened(episode, FEATURES))
            .collect();
        let learner = matching_net(&spec, 1e-6);
        let found = deletion(
            learner.as_ref(),
            &spec,
            &episodes,
            Seed(0),
            &Default::default(),
            |_| {},
        );
        assert!(found[0].effect().mean.abs() < 0.3, "{}", found[0].effect());
    }
}
