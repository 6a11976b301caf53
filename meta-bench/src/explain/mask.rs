//! Masks episodes: what can be masked, in which order, and by what.

use meta_core::{
    data::{Episode, ItemShape, Items, Mask, Targets},
    nn::attention::MapAxis,
    rng::Seed,
};

use super::maps::{Map, Of};

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
    pub fn count(self, s: usize) -> usize {
        match self {
            Masked::Support => s,
            Masked::Parts(rows, columns) => rows * columns,
        }
    }
}

/// Queries that share an order.
type Groups = Vec<Vec<usize>>;
/// The attention that each thing receives, by group or by query.
type Weights = Vec<Vec<f64>>;

/// An order of masking for one episode: of support items, one for each group of queries; or of parts,
/// one for each query.
pub struct Orders {
    masked: Masked,
    /// The groups.
    pub groups: Groups,
    /// What is masked first comes first.
    orders: Vec<Vec<usize>>,
}

/// How many are masked: all counts where they are few, else powers of two and all.
pub fn levels(count: usize) -> Vec<usize> {
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
pub fn deciding(masked: Masked, maps: &[Map], s: usize, q: usize) -> Vec<&Map> {
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
pub fn possible(maps: &[Map], s: usize, q: usize) -> Vec<Masked> {
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

/// The order of masking by attention, from the maps of an episode.
pub fn orders(masked: Masked, maps: &[Map], s: usize, q: usize) -> Orders {
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
    pub fn random(&self, seed: Seed, episode: u64, draw: u64) -> Self {
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
    pub fn masked(&self, episode: &Episode, level: usize, item: ItemShape) -> Vec<Episode> {
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
                let queries = masked.query.inputs.chunks_exact_mut(features);
                let queries = queries.zip(&self.orders);
                if item.width == 1 && item.height > 1 && (rows, columns) == (item.height, 1) {
                    let neutral = mean_row(&episode.support, item.channels);
                    queries.for_each(|(inputs, order)| mask_rows(inputs, order, level, &neutral));
                } else {
                    let neutral = mean_item(&episode.support, features);
                    queries.for_each(|(inputs, order)| {
                        mask_parts(inputs, &order[..level], (rows, columns), item, &neutral);
                    });
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

/// Whether a row of a sequence is there: what pads it is zero.
fn is_there(row: &[f32]) -> bool {
    row.iter().any(|&number| number != 0.0)
}

/// The mean of the rows that are there, of all items.
fn mean_row(items: &Items, width: usize) -> Vec<f32> {
    let rows = items.inputs.chunks_exact(width).filter(|row| is_there(row));
    let rows: Vec<Vec<f64>> = rows
        .map(|row| row.iter().map(|&value| f64::from(value)).collect())
        .collect();
    let mean = mean_of(&rows).into_iter();
    mean.map(|value| value as f32).collect()
}

/// Gives the first `level` rows of a sequence, of those that are there, the `neutral` row.
fn mask_rows(inputs: &mut [f32], order: &[usize], level: usize, neutral: &[f32]) {
    let width = neutral.len();
    let own = |row: usize| row * width..(row + 1) * width;
    let there: Vec<usize> = order
        .iter()
        .copied()
        .filter(|&row| inputs.get(own(row)).is_some_and(is_there))
        .take(level)
        .collect();
    for row in there {
        inputs[own(row)].copy_from_slice(neutral);
    }
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
        Targets::Values(_) | Targets::Sequences(_) => {
            (0..episode.query.len().min(VALUES)).collect()
        }
    };
    let query = &episode.query;
    let inputs = kept
        .iter()
        .flat_map(|&item| &query.inputs[item * features..(item + 1) * features]);
    let targets = query.targets.select(&kept, query.len());
    episode.query = Items {
        inputs: inputs.copied().collect(),
        targets,
        ids: kept.iter().map(|&item| query.ids[item]).collect(),
        mask: query.mask.as_ref().map(|mask| Mask {
            items: kept.iter().map(|&item| mask.items[item]).collect(),
            numbers: mask.numbers.as_ref().map(|numbers| {
                let own = |&item: &usize| numbers[item * features..(item + 1) * features].to_vec();
                kept.iter().flat_map(own).collect()
            }),
        }),
    };
    episode.shape.query.0 = kept.len() / episode.shape.way.0.max(1);
    episode
}

#[cfg(test)]
mod tests {
    use super::*;

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
            mask: None,
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

    /// Padding is neither masked nor counted, and enters no mean.
    #[test]
    fn rows_that_pad_a_sequence_stay() {
        let support = Items {
            inputs: vec![1.0, 1.0, 3.0, 1.0, 0.0, 0.0],
            targets: Targets::Classes(vec![0]),
            ids: vec![0],
            mask: None,
        };
        let neutral = mean_row(&support, 2);
        assert_eq!(neutral, [2.0, 1.0]);
        let mut inputs = [5.0, 1.0, 6.0, 1.0, 0.0, 0.0];
        mask_rows(&mut inputs, &[2, 1, 0], 1, &neutral);
        assert_eq!(inputs, [5.0, 1.0, 2.0, 1.0, 0.0, 0.0]);
        mask_rows(&mut inputs, &[2, 1, 0], 3, &neutral);
        assert_eq!(inputs, [2.0, 1.0, 2.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn levels_go_from_none_to_all() {
        assert_eq!(levels(3), [0, 1, 2, 3]);
        assert_eq!(levels(25), [0, 1, 2, 4, 8, 16, 25]);
        assert_eq!(levels(16), [0, 1, 2, 4, 8, 16]);
    }
}
