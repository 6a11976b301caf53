//! Where the items of an episode are in the space that the encoder maps them to: prototypes, which one is
//! nearest, and a projection to two dimensions.

use burn::tensor::TensorData;
use meta_core::{
    data::{Items, Targets},
    learner::embed::embed_together,
    nn::{Pass, encoder::Architecture, init::Initializer, norm::Statistics},
    params::Params,
    primitives::Primitives,
    task::TaskBatch,
    toolkit::Toolkit,
};

use crate::experiment::Experiment;

/// Iterations by which a direction is found: enough where it is told from the next one by a tenth.
const ITERATIONS: usize = 200;

/// The items of an episode as points.
pub struct Space {
    /// What the space is, in words.
    pub of: String,
    /// Points of the support, in the order of the items.
    pub support: Vec<Vec<f64>>,
    /// Points of the queries.
    pub query: Vec<Vec<f64>>,
}

/// The spaces of the episodes in `tasks`: embeddings by the encoder in `parameters`, which has not adapted to
/// any of them; none where a learner has no such encoder. All items of an episode pass together.
pub fn embeddings<T: Toolkit, B: Primitives>(
    experiment: &Experiment<T>,
    parameters: &Params<B>,
    tasks: &TaskBatch<B>,
    device: &B::Device,
) -> Option<Vec<Space>> {
    let architecture = &experiment.architecture;
    let skeleton = architecture.init::<B>(&mut Initializer::zeros(), device);
    let like = Params::of(&skeleton);
    let stored = parameters.to_data();
    let wanted: Option<Vec<(String, TensorData)>> = like
        .shapes()
        .into_iter()
        .map(|(name, shape)| {
            let inside = format!("encoder.{name}");
            let found = stored.iter().find(|(other, _)| *other == inside);
            let found = found.or_else(|| stored.iter().find(|(other, _)| *other == name));
            let (_, data) = found.filter(|(_, data)| data.shape.to_vec() == shape)?;
            Some((name, data.clone()))
        })
        .collect();
    let model = Params::from_data(wanted?, device).write_into(skeleton);
    let pass = match architecture.statistics() {
        Statistics::Support => Pass::evaluation().with_reference(tasks.support.dims()[1]),
        _ => Pass::evaluation(),
    };
    let (support, query) = embed_together(&model, tasks, &pass);
    let points = |tensor: burn::tensor::Tensor<B, 3>| -> Vec<Vec<Vec<f64>>> {
        let [_, items, width] = tensor.dims();
        let values: Vec<f64> = tensor.into_data().iter::<f64>().collect();
        values
            .chunks(items * width)
            .map(|task| task.chunks(width).map(<[f64]>::to_vec).collect())
            .collect()
    };
    let of = format!("embeddings by `{}`", experiment.manifest.encoder.name);
    let spaces = points(support).into_iter().zip(points(query));
    let spaces = spaces.map(|(support, query)| Space {
        of: of.clone(),
        support,
        query,
    });
    Some(spaces.collect())
}

impl Space {
    /// The raw inputs of an episode.
    pub fn raw(support: &Items, query: &Items) -> Self {
        let points = |items: &Items| -> Vec<Vec<f64>> {
            let width = items.inputs.len() / items.len().max(1);
            let rows = items.inputs.chunks(width.max(1));
            rows.map(|row| row.iter().map(|x| f64::from(*x)).collect())
                .collect()
        };
        Space {
            of: "raw inputs".to_owned(),
            support: points(support),
            query: points(query),
        }
    }

    /// The mean of the support of each of `way` classes; empty where a class has no items.
    pub fn prototypes(&self, support: &Items, way: usize) -> Vec<Vec<f64>> {
        let Targets::Classes(classes) = &support.targets else {
            return Vec::new();
        };
        let of_class = |class: usize| {
            let items = (0..support.len()).filter(|&item| support.is_there(item));
            let points = items.filter(|&item| classes[item] as usize == class);
            let points: Vec<&Vec<f64>> = points.filter_map(|item| self.support.get(item)).collect();
            let width = points.first().map_or(0, |point| point.len());
            (0..width)
                .map(|place| {
                    points.iter().map(|point| point[place]).sum::<f64>() / points.len() as f64
                })
                .collect()
        };
        (0..way).map(of_class).collect()
    }

    /// The classes in the order of the distance of their prototypes from each query, the nearest first, with
    /// the Euclidean distance.
    pub fn nearest(&self, prototypes: &[Vec<f64>]) -> Vec<Vec<(usize, f64)>> {
        let of_query = |query: &Vec<f64>| {
            let there = prototypes
                .iter()
                .enumerate()
                .filter(|(_, at)| !at.is_empty());
            let mut all: Vec<(usize, f64)> = there
                .map(|(class, at)| {
                    let squares = at.iter().zip(query).map(|(a, b)| (a - b).powi(2));
                    (class, squares.sum::<f64>().sqrt())
                })
                .collect();
            all.sort_by(|a, b| a.1.total_cmp(&b.1));
            all
        };
        self.query.iter().map(of_query).collect()
    }

    /// The first two principal components of support and queries together: the direction of the largest
    /// variance, and that of the largest variance across it. Support first; with the shares of the variance.
    pub fn projected(&self) -> (Vec<(f64, f64)>, [f64; 2]) {
        let points: Vec<&Vec<f64>> = self.support.iter().chain(&self.query).collect();
        let width = points.first().map_or(0, |point| point.len());
        let count = points.len().max(1) as f64;
        let mean: Vec<f64> = (0..width)
            .map(|place| points.iter().map(|point| point[place]).sum::<f64>() / count)
            .collect();
        let centred: Vec<Vec<f64>> = points
            .iter()
            .map(|point| point.iter().zip(&mean).map(|(x, mean)| x - mean).collect())
            .collect();
        let total: f64 = centred.iter().flatten().map(|x| x * x).sum();
        let mut directions: Vec<Vec<f64>> = Vec::new();
        for _ in 0..2 {
            let next = direction(&centred, &directions);
            directions.push(next);
        }
        let along = |point: &Vec<f64>, number: usize| dot(point, &directions[number]);
        let places: Vec<(f64, f64)> = centred
            .iter()
            .map(|point| (along(point, 0), along(point, 1)))
            .collect();
        let share = |of: fn(&(f64, f64)) -> f64| {
            places.iter().map(|place| of(place).powi(2)).sum::<f64>() / total.max(f64::MIN_POSITIVE)
        };
        let shares = [share(|place| place.0), share(|place| place.1)];
        (places, shares)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The direction of the largest variance across those that are `known`, by power iteration from the point
/// that is farthest from them; its largest part is positive.
fn direction(points: &[Vec<f64>], known: &[Vec<f64>]) -> Vec<f64> {
    let across = |mut vector: Vec<f64>| {
        for other in known {
            let part = dot(&vector, other);
            vector
                .iter_mut()
                .zip(other)
                .for_each(|(x, y)| *x -= part * y);
        }
        vector
    };
    let length = |vector: &Vec<f64>| dot(vector, vector).sqrt();
    let starts = points.iter().map(|point| across(point.clone()));
    let Some(mut vector) = starts.max_by(|a, b| length(a).total_cmp(&length(b))) else {
        return Vec::new();
    };
    for _ in 0..ITERATIONS {
        let size = length(&vector);
        if size < 1e-12 {
            return vec![0.0; vector.len()];
        }
        vector.iter_mut().for_each(|x| *x /= size);
        let mut next = vec![0.0; vector.len()];
        for point in points {
            let along = dot(point, &vector);
            next.iter_mut()
                .zip(point)
                .for_each(|(x, y)| *x += along * y);
        }
        vector = across(next);
    }
    let size = length(&vector);
    let largest = vector
        .iter()
        .copied()
        .max_by(|a, b| a.abs().total_cmp(&b.abs()));
    let sign = if largest.unwrap_or(0.0) < 0.0 {
        -1.0
    } else {
        1.0
    };
    if size > 0.0 {
        vector.iter_mut().for_each(|x| *x *= sign / size);
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(support: &[[f64; 2]], query: &[[f64; 2]]) -> Space {
        Space {
            of: String::new(),
            support: support.iter().map(|point| point.to_vec()).collect(),
            query: query.iter().map(|point| point.to_vec()).collect(),
        }
    }

    #[test]
    fn the_nearest_prototype_by_hand() {
        let space = space(
            &[[0.0, 0.0], [2.0, 0.0], [0.0, 8.0]],
            &[[1.0, 3.0], [0.0, 7.0]],
        );
        let items = Items::new(vec![0.0; 6], Targets::Classes(vec![0, 0, 1]), vec![0, 1, 2]);
        let prototypes = space.prototypes(&items, 3);
        assert_eq!(prototypes, [vec![1.0, 0.0], vec![0.0, 8.0], Vec::new()]);
        let nearest = space.nearest(&prototypes);
        assert_eq!(nearest[0][0], (0, 3.0));
        assert_eq!((nearest[1][0], nearest[1].len()), ((1, 1.0), 2));
    }

    /// Points at ±3 along (3, 4)/5 and ±1 across: the components are these, with 9/10 and 1/10 of the
    /// variance.
    #[test]
    fn principal_components_of_a_cross() {
        let (along, across) = ([0.6, 0.8], [-0.8, 0.6]);
        let at = |direction: [f64; 2], by: f64| [direction[0] * by + 5.0, direction[1] * by - 1.0];
        let space = space(
            &[at(along, 3.0), at(along, -3.0)],
            &[at(across, 1.0), at(across, -1.0)],
        );
        let (places, shares) = space.projected();
        let expected = [(3.0, 0.0), (-3.0, 0.0), (0.0, -1.0), (0.0, 1.0)];
        for (place, expected) in places.iter().zip(expected) {
            let gap = (place.0 - expected.0).abs() + (place.1 - expected.1).abs();
            assert!(gap < 1e-9, "{place:?} is not {expected:?}");
        }
        assert!((shares[0] - 0.9).abs() < 1e-9 && (shares[1] - 0.1).abs() < 1e-9);
        // Equal points have no direction.
        let (places, shares) = super::Space::raw(
            &Items::new(vec![1.0; 2], Targets::Classes(vec![0]), vec![0]),
            &Items::new(vec![1.0; 2], Targets::Classes(vec![0]), vec![1]),
        )
        .projected();
        assert_eq!((places, shares), (vec![(0.0, 0.0); 2], [0.0; 2]));
    }
}
