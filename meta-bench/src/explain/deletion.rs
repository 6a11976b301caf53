//! The deletion check: does masking what is attended to most hurt more than masking at random?
//!
//! An explanation is faithful, in this sense, where the answers get worse faster when inputs are
//! masked in the order of the attention they receive than in a random order (the deletion metric of
//! Petsiuk, Das and Saenko, *RISE*, BMVC 2018, section 4.2, with random orders as the reference).
//!
//! Two things can be masked. Which one is, the maps say:
//!
//! * **support items**, where something attends to the support. Where queries do, every query has its
//!   own order: the task is repeated once for each of its queries, masked for that query, and only
//!   that query is scored. A masked item's inputs are the mean of the support's inputs, and in
//!   regression its values the mean of the support's values; its label stays.
//! * **parts of the queries**, where an encoder attends over parts. Every query is masked in its own
//!   order; a masked part of an image has the mean of that image, channel by channel, and a masked
//!   feature of a vector the mean of that feature over the support.
//!
//! The attention that something receives is the mean over heads, over the maps of its kind, and over
//! the rows that are not the query's own.

use meta_core::{
    Result,
    data::{Episode, ItemShape, Items, Targets},
    learner::{Learner, PredictAt},
    nn::attention::MapAxis,
    primitives::Primitives,
    rng::Seed,
    stats::Interval,
    task::{TaskBatch, TaskSpec},
    train::eval::score_items,
};
use serde_json::{Value, json};

use super::maps::{Map, Of, split};

/// Random orders for each order by attention.
const DRAWS: u64 = 5;
/// Tasks of one forward pass, at most, unless one episode alone has more.
const TASKS: usize = 64;

/// What is masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masked {
    /// Support items.
    Support,
    /// Parts of the queries, on a grid of this many rows and columns.
    Parts(usize, usize),
}

impl Masked {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Masked::Support => "support items",
            Masked::Parts(..) => "parts of the query",
        }
    }

    /// How many there are, with `s` support items.
    fn count(self, s: usize) -> usize {
        match self {
            Masked::Support => s,
            Masked::Parts(rows, columns) => rows * columns,
        }
    }
}

/// Scores and losses of every episode, `[level][episode]`.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// Accuracy, or mean squared error.
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

/// Queries that share an order.
type Groups = Vec<Vec<usize>>;
/// The attention that each thing receives, by group or by query.
type Weights = Vec<Vec<f64>>;

/// An order of masking for one episode: of support items, one for each group of queries; or of parts,
/// one for each query.
struct Orders {
    masked: Masked,
    groups: Groups,
    /// What is masked first comes first.
    orders: Vec<Vec<usize>>,
}

/// How many are masked: all counts where they are few, else powers of two and all.
fn levels(count: usize) -> Vec<usize> {
    match count {
        0..=6 => (0..=count).collect(),
        _ => std::iter::once(0)
            .chain(
                (0..)
                    .map(|power| 1 << power)
                    .take_while(|&level| level < count),
            )
            .chain([count])
            .collect(),
    }
}

/// The places of weights, the largest first; the first among equals.
fn by_weight(weights: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    order
}

fn mean_of(all: &[Vec<f64>]) -> Vec<f64> {
    let length = all.first().map_or(0, Vec::len);
    let sum = |place: usize| all.iter().map(|one| one[place]).sum::<f64>();
    (0..length)
        .map(|place| sum(place) / all.len() as f64)
        .collect()
}

/// The attention that support items receive from each query, or from anything, in an episode with `s`
/// support items and `q` queries: one list for each group of queries.
fn to_support(map: &Map, s: usize, q: usize) -> Option<(Groups, Weights)> {
    let [_, _, rows, columns] = map.dims;
    let readable = match map.columns {
        MapAxis::Support => columns == s,
        MapAxis::Item => columns == s + q,
        _ => false,
    };
    if map.of != Of::Episode || !readable {
        return None;
    }
    let first = match map.rows {
        MapAxis::Query if rows == q => Some(0),
        MapAxis::Item if rows == s + q => Some(s),
        _ => None,
    };
    let heads = map.by_head(0);
    let row = |row: usize| {
        let of_heads: Vec<Vec<f64>> = heads
            .iter()
            .map(|matrix| (0..s).map(|column| matrix.at(row, column)).collect())
            .collect();
        mean_of(&of_heads)
    };
    match first {
        Some(first) => Some((
            (0..q).map(|query| vec![query]).collect(),
            (0..q).map(|query| row(first + query)).collect(),
        )),
        None => {
            let all: Vec<Vec<f64>> = (0..rows).map(row).collect();
            Some((vec![(0..q).collect()], vec![mean_of(&all)]))
        }
    }
}

/// The attention that the parts of each query receive.
fn to_parts(map: &Map, s: usize, q: usize) -> Option<Weights> {
    map.over_parts()?;
    let first = match map.of {
        Of::Query => 0,
        Of::Item => s,
        _ => return None,
    };
    let query = |query: usize| {
        let of_heads: Vec<Vec<f64>> = map
            .by_head(first + query)
            .iter()
            .map(|matrix| matrix.received())
            .collect();
        mean_of(&of_heads)
    };
    Some((0..q).map(query).collect())
}

/// The maps that decide the order of a check.
fn deciding(masked: Masked, maps: &[Map], s: usize, q: usize) -> Vec<&Map> {
    let groups = |map: &Map| match masked {
        Masked::Support => to_support(map, s, q).map_or(0, |(groups, _)| groups.len()),
        Masked::Parts(rows, columns) => {
            let parts = map.over_parts() == Some((rows, columns));
            usize::from(parts && to_parts(map, s, q).is_some())
        }
    };
    // Where queries attend to the support, what else attends to it does not count.
    let most = maps.iter().map(groups).max().unwrap_or(0);
    let decides = |map: &&Map| most > 0 && groups(map) == most;
    maps.iter().filter(decides).collect()
}

/// What the maps of an episode allow to be masked.
fn possible(maps: &[Map], s: usize, q: usize) -> Vec<Masked> {
    let mut all = vec![Masked::Support];
    for (rows, columns) in maps.iter().filter_map(Map::over_parts) {
        let parts = Masked::Parts(rows, columns);
        if !all.contains(&parts) {
            all.push(parts);
        }
    }
    all.retain(|&masked| masked.count(s) > 1 && !deciding(masked, maps, s, q).is_empty());
    all
}

fn orders(masked: Masked, maps: &[Map], s: usize, q: usize) -> Orders {
    let chosen = deciding(masked, maps, s, q);
    let mean_over_maps = |lists: Vec<Weights>| -> Weights {
        (0..lists[0].len())
            .map(|place| {
                mean_of(
                    &lists
                        .iter()
                        .map(|list| list[place].clone())
                        .collect::<Vec<_>>(),
                )
            })
            .collect()
    };
    let (groups, weights) = match masked {
        Masked::Support => {
            let (mut groups, lists): (Vec<_>, Vec<_>) = chosen
                .iter()
                .filter_map(|map| to_support(map, s, q))
                .unzip();
            (groups.swap_remove(0), mean_over_maps(lists))
        }
        Masked::Parts(..) => {
            let lists = chosen
                .iter()
                .filter_map(|map| to_parts(map, s, q))
                .collect();
            (vec![(0..q).collect()], mean_over_maps(lists))
        }
    };
    Orders {
        masked,
        groups,
        orders: weights.iter().map(|weights| by_weight(weights)).collect(),
    }
}

impl Orders {
    /// As many orders, drawn at random.
    fn random(&self, seed: Seed, episode: u64, draw: u64) -> Self {
        let mut stream = seed.stream("explain/deletion", episode, &format!("order {draw}"));
        let shuffled = |order: &Vec<usize>| {
            let mut order = order.clone();
            order.sort_unstable();
            stream.shuffle(&mut order);
            order
        };
        Orders {
            masked: self.masked,
            groups: self.groups.clone(),
            orders: self.orders.iter().map(shuffled).collect(),
        }
    }

    /// The episode with the first `level` masked, once for each group of queries.
    fn masked(&self, episode: &Episode, level: usize, item: ItemShape) -> Vec<Episode> {
        match self.masked {
            Masked::Support => self
                .orders
                .iter()
                .map(|order| {
                    let mut masked = episode.clone();
                    mask_items(&mut masked.support, &order[..level], item.features());
                    masked
                })
                .collect(),
            Masked::Parts(rows, columns) => {
                let mut masked = episode.clone();
                let features = item.features();
                let neutral = mean_item(&episode.support, features);
                let queries = masked.query.inputs.chunks_exact_mut(features);
                for (inputs, order) in queries.zip(&self.orders) {
                    mask_parts(inputs, &order[..level], (rows, columns), item, &neutral);
                }
                vec![masked]
            }
        }
    }
}

fn mean_item(items: &Items, features: usize) -> Vec<f32> {
    let all: Vec<Vec<f64>> = items
        .inputs
        .chunks_exact(features)
        .map(|item| item.iter().map(|&value| f64::from(value)).collect())
        .collect();
    mean_of(&all)
        .into_iter()
        .map(|value| value as f32)
        .collect()
}

/// Gives items the mean of all inputs, and of all values in regression.
fn mask_items(items: &mut Items, places: &[usize], features: usize) {
    let neutral = mean_item(items, features);
    for &place in places {
        items.inputs[place * features..(place + 1) * features].copy_from_slice(&neutral);
    }
    let count = items.len();
    if let Targets::Values(values) = &mut items.targets {
        let outputs = values.len() / count;
        for output in 0..outputs {
            let own = values.iter().skip(output).step_by(outputs);
            let mean = own.sum::<f32>() / count as f32;
            for &place in places {
                values[place * outputs + output] = mean;
            }
        }
    }
}

/// Gives parts of an image the mean of the image, or features of a vector their `neutral` values.
fn mask_parts(
    inputs: &mut [f32],
    parts: &[usize],
    (rows, columns): (usize, usize),
    item: ItemShape,
    neutral: &[f32],
) {
    let ItemShape {
        height,
        width,
        channels,
    } = item;
    if height * width == 1 {
        for &part in parts {
            inputs[part] = neutral[part];
        }
        return;
    }
    let pixels = (height * width) as f32;
    let means: Vec<f32> = (0..channels)
        .map(|channel| inputs.iter().skip(channel).step_by(channels).sum::<f32>() / pixels)
        .collect();
    for pixel in 0..height * width {
        let part = (pixel / width * rows / height) * columns + pixel % width * columns / width;
        if parts.contains(&part) {
            inputs[pixel * channels..(pixel + 1) * channels].copy_from_slice(&means);
        }
    }
}

/// The episode with the first query of each class alone, or its first few queries in regression: what
/// normalises over the queries of a task sees as many of each class.
pub fn shortened(mut episode: Episode, features: usize) -> Episode {
    const VALUES: usize = 5;
    let per_class = episode.shape.query.0;
    let kept: Vec<usize> = match episode.query.targets {
        Targets::Classes(_) => (0..episode.query.len()).step_by(per_class).collect(),
        Targets::Values(_) => (0..episode.query.len().min(VALUES)).collect(),
    };
    let query = &episode.query;
    let inputs = kept
        .iter()
        .flat_map(|&item| &query.inputs[item * features..(item + 1) * features]);
    let targets = match &query.targets {
        Targets::Classes(classes) => {
            Targets::Classes(kept.iter().map(|&item| classes[item]).collect())
        }
        Targets::Values(values) => {
            let outputs = values.len() / query.len();
            let own = |&item: &usize| values[item * outputs..(item + 1) * outputs].to_vec();
            Targets::Values(kept.iter().flat_map(own).collect())
        }
    };
    episode.query = Items {
        inputs: inputs.copied().collect(),
        targets,
        ids: kept.iter().map(|&item| query.ids[item]).collect(),
    };
    episode.shape.query.0 = kept.len() / episode.shape.way.0.max(1);
    episode
}

fn one(targets: &Targets, item: usize, outputs: usize) -> Targets {
    match targets {
        Targets::Classes(classes) => Targets::Classes(vec![classes[item]]),
        Targets::Values(values) => {
            Targets::Values(values[item * outputs..(item + 1) * outputs].to_vec())
        }
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
                    let target = one(&episode.query.targets, query, outputs);
                    let (own_score, own_loss) = score_items(answer, outputs, &target);
                    score += own_score;
                    loss += own_loss;
                }
            }
            (score / q as f64, loss / q as f64)
        })
        .collect()
}

/// The check on `episodes` (all of one shape, [`shortened`]), for everything that their maps allow.
/// `progress` is told how many episodes are done.
///
/// # Errors
/// None of its own.
pub fn deletion<B: Primitives>(
    learner: &dyn Learner<B>,
    spec: &TaskSpec,
    episodes: &[Episode],
    seed: Seed,
    device: &B::Device,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Deletion>> {
    let Some(first) = episodes.first() else {
        return Ok(Vec::new());
    };
    let (s, q) = (first.support.len(), first.query.len());
    let accuracy = matches!(first.query.targets, Targets::Classes(_));
    let mut found: Vec<Deletion> = Vec::new();
    let mut done = 0;
    for chunk in episodes.chunks((TASKS / q.max(1)).max(1)) {
        let explanation = learner.explain(&TaskBatch::new(chunk, spec, device));
        let (maps, _) = split(explanation.maps, [chunk.len(), s, q]);
        if done == 0 {
            found = possible(&maps[0], s, q)
                .into_iter()
                .map(|masked| {
                    let count = masked.count(s);
                    let mut names: Vec<String> = Vec::new();
                    for map in deciding(masked, &maps[0], s, q) {
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
                })
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
            let random: Vec<Vec<(Episode, Orders)>> = (0..DRAWS)
                .map(|draw| {
                    let drawn = |(episode, orders): &(Episode, Orders)| {
                        (episode.clone(), orders.random(seed, episode.index, draw))
                    };
                    attended.iter().map(drawn).collect()
                })
                .collect();
            for (place, &level) in deletion.levels.iter().enumerate() {
                let by_attention = scores(learner, spec, &attended, level, device);
                // With none or all of them masked, their order does not matter.
                let by_chance = if level == 0 || level == deletion.count {
                    by_attention.clone()
                } else {
                    let draws: Vec<_> = random
                        .iter()
                        .map(|random| scores(learner, spec, random, level, device))
                        .collect();
                    let mean = |of: fn(&(f64, f64)) -> f64, episode: usize| {
                        draws.iter().map(|draw| of(&draw[episode])).sum::<f64>()
                            / draws.len() as f64
                    };
                    (0..chunk.len())
                        .map(|episode| (mean(|pair| pair.0, episode), mean(|pair| pair.1, episode)))
                        .collect()
                };
                for (curve, values) in [
                    (&mut deletion.attended, by_attention),
                    (&mut deletion.random, by_chance),
                ] {
                    for (score, loss) in values {
                        curve.scores[place].push(score);
                        curve.losses[place].push(loss);
                    }
                }
            }
        }
        done += chunk.len();
        progress(done);
        if found.is_empty() {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use meta_core::{
        backend::Cpu,
        data::{EpisodeShape, Task},
        nn::encoder::EncoderSpec,
    };

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
                    query: Items {
                        inputs: queries.collect(),
                        targets: classes(2),
                        ids: (0..2 * way as u64).collect(),
                    },
                    support: Items {
                        targets: classes(shape.shot.0),
                        ids: (0..s as u64).collect(),
                        inputs,
                    },
                    classes: Vec::new(),
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
        )
        .unwrap();
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
        )
        .unwrap();
        assert!(found[0].effect().mean.abs() < 0.3, "{}", found[0].effect());
    }

    /// Where queries and support items attend to the support under one name, the queries decide.
    #[test]
    fn the_order_is_that_of_the_queries() {
        let map = |rows: MapAxis, weights: Vec<f32>| Map {
            name: "layer 1".to_owned(),
            rows,
            columns: MapAxis::Support,
            of: Of::Episode,
            dims: [1, 1, weights.len() / 2, 2],
            weights,
        };
        let own = map(MapAxis::Support, vec![1.0, 0.0, 1.0, 0.0]);
        let queries = map(MapAxis::Query, vec![0.1, 0.9, 0.8, 0.2, 0.3, 0.7]);
        let maps = [own.clone(), queries];
        assert_eq!(possible(&maps, 2, 3), [Masked::Support]);
        let by_query = orders(Masked::Support, &maps, 2, 3);
        assert_eq!(by_query.groups, [[0], [1], [2]]);
        assert_eq!(by_query.orders, [[1, 0], [0, 1], [1, 0]]);
        let together = orders(Masked::Support, &[own], 2, 3);
        assert_eq!(together.groups, [[0, 1, 2]]);
        assert_eq!(together.orders, [[0, 1]]);
    }

    #[test]
    fn masks_are_neutral() {
        let mut items = Items {
            inputs: vec![1.0, 2.0, 3.0, 6.0],
            targets: Targets::Values(vec![1.0, 3.0]),
            ids: vec![0, 1],
        };
        mask_items(&mut items, &[1], 2);
        assert_eq!(items.inputs, [1.0, 2.0, 2.0, 4.0]);
        assert_eq!(items.targets, Targets::Values(vec![1.0, 2.0]));

        let image = ItemShape {
            height: 2,
            width: 4,
            channels: 1,
        };
        let mut inputs = vec![0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0];
        mask_parts(&mut inputs, &[1], (1, 2), image, &[]);
        assert_eq!(inputs, [0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.5, 0.5]);

        let vector = ItemShape {
            height: 1,
            width: 1,
            channels: 2,
        };
        let mut inputs = vec![5.0, 6.0];
        mask_parts(&mut inputs, &[1], (1, 2), vector, &[8.0, 9.0]);
        assert_eq!(inputs, [5.0, 9.0]);
    }

    #[test]
    fn levels_go_from_none_to_all() {
        assert_eq!(levels(3), [0, 1, 2, 3]);
        assert_eq!(levels(25), [0, 1, 2, 4, 8, 16, 25]);
        assert_eq!(levels(16), [0, 1, 2, 4, 8, 16]);
    }
}
