//! Splits attention maps into those of each episode and those of the meta-batch.

use meta_core::{
    nn::attention::{AttentionMap, MapAxis},
    primitives::Primitives,
    stats::mean,
};

/// What has a matrix of its own in a [`Map`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The episode: there is one matrix.
    Episode,
    /// Each support item.
    Support,
    /// Each query.
    Query,
    /// Each item: support, then queries.
    Item,
    /// Something else, so many of them.
    Other(usize),
}

impl Of {
    /// Its name in the numbers.
    pub fn name(self) -> &'static str {
        match self {
            Of::Episode => "episode",
            Of::Support => "support",
            Of::Query => "query",
            Of::Item => "item",
            Of::Other(_) => "other",
        }
    }
}

/// What attended to what in one episode, or in the meta-batch.
#[derive(Clone, Debug)]
pub struct Map {
    /// Which attention it was.
    pub name: String,
    /// What attended.
    pub rows: MapAxis,
    /// What was attended to.
    pub columns: MapAxis,
    /// What has a matrix of its own.
    pub of: Of,
    /// Matrices, heads, rows and columns.
    pub dims: [usize; 4],
    /// Weights in that order.
    pub weights: Vec<f32>,
}

/// A matrix of weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Its rows.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
    /// Row by row.
    pub values: Vec<f64>,
}

impl Matrix {
    /// Entry of a row and a column.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.columns + column]
    }

    /// The given rows and columns.
    pub fn select(&self, rows: &[usize], columns: &[usize]) -> Self {
        let row = |&row: &usize| columns.iter().map(move |&column| self.at(row, column));
        Matrix {
            rows: rows.len(),
            columns: columns.len(),
            values: rows.iter().flat_map(row).collect(),
        }
    }

    /// Mean of matrices of one shape.
    pub fn mean(matrices: &[Matrix]) -> Self {
        let first = &matrices[0];
        let count = matrices.len() as f64;
        let entry = |place: usize| {
            matrices
                .iter()
                .map(|matrix| matrix.values[place])
                .sum::<f64>()
                / count
        };
        Matrix {
            values: (0..first.values.len()).map(entry).collect(),
            ..*first
        }
    }

    /// What each column receives: the mean over the rows.
    pub fn received(&self) -> Vec<f64> {
        let mean = |column: usize| {
            (0..self.rows).map(|row| self.at(row, column)).sum::<f64>() / self.rows as f64
        };
        (0..self.columns).map(mean).collect()
    }

    /// Shannon's entropy of a row by that of even weights.
    fn evenness(&self, row: usize) -> Option<f64> {
        let weights = &self.values[row * self.columns..(row + 1) * self.columns];
        let sum: f64 = weights.iter().sum();
        if self.columns < 2
            || sum.is_nan()
            || sum <= 0.0
            || weights.iter().any(|weight| *weight < 0.0)
        {
            return None;
        }
        let shares = weights.iter().map(|weight| weight / sum);
        let entropy: f64 = shares
            .filter(|share| *share > 0.0)
            .map(|share| -share * share.ln())
            .sum();
        Some(entropy / (self.columns as f64).ln())
    }

    /// Its largest entry.
    pub fn largest(&self) -> f64 {
        self.values.iter().copied().fold(0.0, f64::max)
    }
}

impl Map {
    /// The matrix of one thing and one head.
    pub fn matrix(&self, thing: usize, head: usize) -> Matrix {
        let [_, heads, rows, columns] = self.dims;
        let start = (thing * heads + head) * rows * columns;
        let values = &self.weights[start..start + rows * columns];
        Matrix {
            rows,
            columns,
            values: values.iter().map(|&value| f64::from(value)).collect(),
        }
    }

    /// The matrices of one thing, by head.
    pub fn by_head(&self, thing: usize) -> Vec<Matrix> {
        (0..self.dims[1])
            .map(|head| self.matrix(thing, head))
            .collect()
    }

    /// The matrices by head: those of the episode, or the means over all things.
    pub fn over_things(&self) -> Vec<Matrix> {
        (0..self.dims[1])
            .map(|head| {
                let all: Vec<Matrix> = (0..self.dims[0])
                    .map(|thing| self.matrix(thing, head))
                    .collect();
                Matrix::mean(&all)
            })
            .collect()
    }

    /// How even the attention of each head is, the mean over all rows: `H(w) / ln n` of the weights `w` of a row
    /// over `n` columns, 1 where all are the same and 0 where one has everything (Pielou 1966). Rows without
    /// weight, or with a negative one, do not count; a head without rows that do has none.
    pub fn evenness(&self) -> Vec<Option<f64>> {
        let [things, heads, rows, _] = self.dims;
        let of_head = |head: usize| {
            let matrices = (0..things).map(|thing| self.matrix(thing, head));
            let found: Vec<f64> = matrices
                .flat_map(|matrix| (0..rows).filter_map(move |row| matrix.evenness(row)))
                .collect();
            (!found.is_empty()).then(|| mean(&found))
        };
        (0..heads).map(of_head).collect()
    }

    /// Whether the parts of items are attended to.
    pub fn over_parts(&self) -> Option<(usize, usize)> {
        match (&self.columns, self.of) {
            (MapAxis::Part(rows, columns), Of::Support | Of::Query | Of::Item) => {
                Some((*rows, *columns))
            }
            _ => None,
        }
    }
}

/// Maps of each of `t` episodes with `s` support items and `q` queries, and those that belong to the
/// meta-batch as a whole.
pub fn split<B: Primitives>(
    maps: Vec<AttentionMap<B>>,
    [t, s, q]: [usize; 3],
) -> (Vec<Vec<Map>>, Vec<Map>) {
    let mut of_episodes = vec![Vec::new(); t];
    let mut of_batch = Vec::new();
    for map in maps {
        let [n, heads, rows, columns] = map.weights.dims();
        let weights: Vec<f32> = map.weights.into_data().iter::<f32>().collect();
        let whole = [&map.rows, &map.columns].contains(&&MapAxis::Task);
        let part = |of: Of, count: usize, weights: &[f32]| Map {
            name: map.name.clone(),
            rows: map.rows.clone(),
            columns: map.columns.clone(),
            of,
            dims: [count, heads, rows, columns],
            weights: weights.to_vec(),
        };
        if whole || !n.is_multiple_of(t) {
            let of = match n {
                1 => Of::Episode,
                _ => Of::Other(n),
            };
            of_batch.push(part(of, n, &weights));
            continue;
        }
        let count = n / t;
        let of = match count {
            1 if !matches!(map.columns, MapAxis::Part(..)) => Of::Episode,
            _ if count == s + q => Of::Item,
            _ if count == q => Of::Query,
            _ if count == s => Of::Support,
            1 => Of::Episode,
            _ => Of::Other(count),
        };
        let size = count * heads * rows * columns;
        for (episode, weights) in of_episodes.iter_mut().zip(weights.chunks(size.max(1))) {
            episode.push(part(of, count, weights));
        }
    }
    (of_episodes, of_batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Tensor, TensorData};
    use meta_core::backend::Cpu;

    /// Even rows, a row with everything in one place, and one that halves: ln 2 / ln 4.
    #[test]
    fn evenness_is_entropy_by_that_of_even_weights() {
        let of = |weights: &[f32], columns: usize| {
            let map = Map {
                name: String::new(),
                rows: MapAxis::Query,
                columns: MapAxis::Support,
                of: Of::Episode,
                dims: [1, 1, weights.len() / columns, columns],
                weights: weights.to_vec(),
            };
            map.evenness()[0]
        };
        let near = |found: Option<f64>, expected: f64| {
            assert!(found.is_some_and(|found| (found - expected).abs() < 1e-12));
        };
        near(of(&[0.25; 4], 4), 1.0);
        near(of(&[0.0, 1.0, 0.0, 0.0], 4), 0.0);
        near(of(&[0.5, 0.5, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], 4), 0.75);
        assert_eq!(of(&[1.0], 1), None);
        assert_eq!(of(&[-1.0, 2.0], 2), None);
        assert_eq!(of(&[0.0, 0.0], 2), None);
    }

    fn map(rows: MapAxis, columns: MapAxis, dims: [usize; 4]) -> AttentionMap<Cpu> {
        let count = dims.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|value| value as f32).collect();
        AttentionMap {
            name: "here".to_owned(),
            rows,
            columns,
            weights: Tensor::from_data(TensorData::new(values, dims), &Default::default()),
        }
    }

    /// Two episodes of three support items and four queries.
    #[test]
    fn maps_go_to_their_episodes() {
        let parts = MapAxis::Part(1, 2);
        let maps = vec![
            map(MapAxis::Query, MapAxis::Support, [2, 1, 4, 3]),
            map(parts.clone(), parts.clone(), [14, 2, 2, 2]),
            map(parts.clone(), parts, [8, 1, 2, 2]),
            map(MapAxis::Task, MapAxis::Task, [1, 1, 2, 2]),
        ];
        let (of_episodes, of_batch) = split(maps, [2, 3, 4]);
        let found: Vec<Of> = of_episodes[1].iter().map(|map| map.of).collect();
        assert_eq!(found, [Of::Episode, Of::Item, Of::Query]);
        assert_eq!(of_episodes[1][0].matrix(0, 0).at(0, 0), 12.0);
        assert_eq!(
            of_episodes[1][1].matrix(1, 1).at(1, 0),
            (8 * 8 + 4 + 2) as f64
        );
        assert_eq!(of_episodes[1][1].over_parts(), Some((1, 2)));
        assert_eq!(of_batch.len(), 1);
    }

    #[test]
    fn what_a_column_receives_is_the_mean_over_rows() {
        let matrix = Matrix {
            rows: 2,
            columns: 2,
            values: vec![0.0, 1.0, 0.5, 0.5],
        };
        assert_eq!(matrix.received(), [0.25, 0.75]);
        assert_eq!(matrix.select(&[1], &[0, 1]).values, [0.5, 0.5]);
        assert_eq!(Matrix::mean(&[matrix.clone(), matrix.clone()]), matrix);
    }
}
