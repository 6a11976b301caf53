//! Tasks on the host, in double precision: for rules that grow trees, or solve a small system for each task.
//!
//! Such rules are many small steps that follow each other, which a device would wait for one by one. Tasks are
//! computed side by side.

use burn::tensor::{Tensor, TensorData};

use super::feature_rule::FeatureBatch;
use crate::{parallel, primitives::Primitives};

/// The features of one task, and what is known of its support.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTask {
    /// Features of the support rows that are there, each `[d]`.
    pub support: Vec<Vec<f64>>,
    /// Of each column of targets that says something, its number, and its value for every support row: 1 in a
    /// class that some row has and 0 in others, or the numbers of the target.
    pub targets: Vec<(usize, Vec<f64>)>,
    /// Features of the queries, each `[d]`.
    pub query: Vec<Vec<f64>>,
}

/// Numbers of a tensor, row by row.
fn host<B: Primitives, const D: usize>(x: &Tensor<B, D>) -> Vec<f64> {
    x.clone().into_data().iter::<f64>().collect()
}

impl HostTask {
    /// The tasks of a batch.
    pub fn of<B: Primitives>(features: &FeatureBatch<B>) -> Vec<Self> {
        let (targets, classifies) = (features.targets(), features.values.is_none());
        let ([t, s, d], [_, q, _], [.., o]) = (
            features.support.dims(),
            features.query.dims(),
            targets.dims(),
        );
        let (support, query) = (host(&features.support), host(&features.query));
        let targets = host(&targets);
        let there: Option<Vec<bool>> = features
            .there
            .as_ref()
            .map(|there| there.clone().into_data().iter::<bool>().collect());
        let is_there = |row: usize| there.as_ref().is_none_or(|there| there[row]);
        let row = |of: &[f64], row: usize| of[row * d..(row + 1) * d].to_vec();
        (0..t)
            .map(|task| {
                let rows: Vec<usize> = (task * s..(task + 1) * s)
                    .filter(|&row| is_there(row))
                    .collect();
                let columns = (0..o).map(|column| {
                    let values = rows.iter().map(|row| targets[row * o + column]);
                    (column, values.collect::<Vec<f64>>())
                });
                HostTask {
                    support: rows.iter().map(|&place| row(&support, place)).collect(),
                    query: (task * q..(task + 1) * q)
                        .map(|place| row(&query, place))
                        .collect(),
                    targets: columns
                        .filter(|(_, values)| !classifies || values.contains(&1.0))
                        .collect(),
                }
            })
            .collect()
    }
}

/// `answer` of every task of a batch, as many numbers for each query as the target has columns, each by the
/// number of the column: `[t, q, o]`, 0 in columns that say nothing.
pub fn answers<B: Primitives>(
    features: &FeatureBatch<B>,
    answer: impl Fn(&HostTask) -> Vec<Vec<f64>> + Sync,
) -> Tensor<B, 3> {
    let tasks = HostTask::of(features);
    let [_, _, o] = features.targets().dims();
    let [t, q, _] = features.query.dims();
    let threads = rayon::current_num_threads();
    let found = parallel::each(&tasks, threads, &answer);
    let mut numbers = vec![0.0; t * q * o];
    for (task, (columns, known)) in found.iter().zip(&tasks).enumerate() {
        for (values, (column, _)) in columns.iter().zip(&known.targets) {
            for (query, value) in values.iter().enumerate() {
                numbers[(task * q + query) * o + column] = *value;
            }
        }
    }
    let dtype = features.query.dtype();
    let data = TensorData::new(numbers, [t, q, o]).convert_dtype(dtype);
    Tensor::from_data(data, (&features.query.device(), dtype))
}
