//! Gradient-boosted trees.
//!
//! Friedman, *Greedy function approximation: a gradient boosting machine*, Annals of Statistics 2001: algorithms
//! 3 (squared error), 5 (two classes) and 6 (more classes).
//!
//! With scores `F` that start at the mean of the targets, or at the logarithms of the shares of the classes, each
//! of `trees` rounds fits a regression tree to the residuals by least squares, and adds it:
//!
//! ```text
//! values       r = y − F                                leaf  mean r
//! two classes  r = y − p,  p = 1/(1 + e^−F)             leaf  Σ r / Σ p (1 − p)
//! K classes    r = y − p,  p = softmax(F), K trees      leaf  (K − 1)/K · Σ r / Σ |r| (1 − |r|)
//! F ← F + rate · leaf of x
//! ```
//!
//! A tree cuts the node at one feature, between two neighbouring values, where the sum of squares falls the most.
//! Everything happens on the host, task by task, side by side.
//!
//! # Differences from the paper
//! * All rows are seen in every round, and no loss but these. As scikit-learn's `GradientBoostingClassifier` and
//!   `GradientBoostingRegressor` with `criterion="squared_error"`.

use burn::tensor::Tensor;
use meta_core::{
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        feature_rule::{self, FeatureBatch, FeatureLearner, FeatureRule},
        host_task::{HostTask, answers},
    },
    nn::{Pass, encoder::Architecture},
    primitives::Primitives,
    settings,
};
use serde_json::json;

/// A cut counts where it lowers the sum of squares by more than this share of it: rounding does not choose.
const ROUNDING: f64 = 1e-9;
/// A leaf is left as it is where its curvature is below this.
const LEAST_CURVATURE: f64 = 1e-150;

settings! {
    /// Settings of boosted trees.
    pub struct BoostedTreesSettings {
        /// Rounds.
        trees: usize = 100, size(1);
        /// What a tree counts.
        rate: f64 = 0.1, above(0.0);
        /// Most cuts between the root and a leaf.
        depth: usize = 3, size(1);
        /// Least rows of a leaf.
        leaf_rows: usize = 1, size(1);
    }
}

impl LearnerSettings for BoostedTreesSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "boosted_trees",
        family: Family::Baseline,
        summary: "boosts regression trees on the features of the support",
        paper: "Friedman, Greedy function approximation: a gradient boosting machine, 2001",
        regression: true,
        any_way: true,
    };

    const READS_MASKS: bool = true;

    fn gradient_of() -> GradientOf {
        feature_rule::gradient_of()
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"trees": 20}),
            // A cut is along one feature, and the toy task has two rows of a class.
            accuracy: 0.55,
            ..feature_rule::toy()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        FeatureLearner::boxed(self, new)
    }
}

/// A node of a tree.
enum Node {
    Leaf(usize),
    Cut {
        feature: usize,
        /// Rows with at most this go left.
        at: f64,
        left: Box<Node>,
        right: Box<Node>,
    },
}

impl Node {
    /// The leaf of a row.
    fn leaf(&self, row: &[f64]) -> usize {
        match self {
            Node::Leaf(leaf) => *leaf,
            Node::Cut {
                feature,
                at,
                left,
                right,
            } => match row[*feature] <= *at {
                true => left.leaf(row),
                false => right.leaf(row),
            },
        }
    }
}

/// What a tree is grown on.
struct Grower<'a> {
    settings: &'a BoostedTreesSettings,
    rows: &'a [Vec<f64>],
    residuals: &'a [f64],
    /// The rows of each leaf.
    leaves: Vec<Vec<usize>>,
}

impl Grower<'_> {
    /// Grows the node of the rows in `orders`: for every feature the same rows, by its value.
    fn grow(&mut self, orders: &[Vec<usize>], depth: usize) -> Node {
        let best = (depth < self.settings.depth)
            .then(|| self.best_cut(orders))
            .flatten();
        let Some((feature, at)) = best else {
            self.leaves
                .push(orders.first().cloned().unwrap_or_default());
            return Node::Leaf(self.leaves.len() - 1);
        };
        let side = |left: bool| -> Vec<Vec<usize>> {
            let goes = |row: &usize| (self.rows[*row][feature] <= at) == left;
            let of = |order: &Vec<usize>| order.iter().copied().filter(goes).collect();
            orders.iter().map(of).collect()
        };
        let (left, right) = (side(true), side(false));
        Node::Cut {
            feature,
            at,
            left: Box::new(self.grow(&left, depth + 1)),
            right: Box::new(self.grow(&right, depth + 1)),
        }
    }

    /// The feature and the value whose cut lowers the sum of squares the most, the first among equals.
    fn best_cut(&self, orders: &[Vec<usize>]) -> Option<(usize, f64)> {
        let rows = orders.first()?;
        let least = self.settings.leaf_rows;
        let total: f64 = rows.iter().map(|&row| self.residuals[row]).sum();
        let squares: f64 = rows.iter().map(|&row| self.residuals[row].powi(2)).sum();
        let count = rows.len() as f64;
        let whole = total * total / count;
        let margin = ROUNDING * squares;
        // Nothing is left to fit.
        let mut best: (f64, Option<(usize, f64)>) = (whole + margin, None);
        for (feature, order) in orders.iter().enumerate() {
            let mut left = 0.0;
            for (place, pair) in order.windows(2).enumerate() {
                left += self.residuals[pair[0]];
                let (low, high) = (self.rows[pair[0]][feature], self.rows[pair[1]][feature]);
                let (before, after) = (place + 1, order.len() - place - 1);
                if low >= high || before < least || after < least {
                    continue;
                }
                let right = total - left;
                let found = left * left / before as f64 + right * right / after as f64;
                if found > best.0 {
                    let middle = 0.5 * (low + high);
                    // Of two neighbours in floating point, the middle may be the upper one.
                    let at = if middle < high { middle } else { low };
                    best = (found + margin, Some((feature, at)));
                }
            }
        }
        best.1
    }
}

/// The rows by the value of each feature; equal ones in their order.
fn orders(rows: &[Vec<f64>]) -> Vec<Vec<usize>> {
    let width = rows.first().map_or(0, Vec::len);
    let order = |feature: usize| {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|&a, &b| rows[a][feature].total_cmp(&rows[b][feature]));
        order
    };
    (0..width).map(order).collect()
}

/// Scores that grow with every tree, at the support and at the queries.
struct Scores {
    support: Vec<f64>,
    query: Vec<f64>,
}

impl BoostedTreesSettings {
    /// Adds a tree on `residuals` to `scores`; `value` gives the value of a leaf from its rows.
    fn add_tree(
        &self,
        task: &HostTask,
        orders: &[Vec<usize>],
        residuals: &[f64],
        value: impl Fn(&[usize]) -> f64,
        scores: &mut Scores,
    ) {
        let mut grower = Grower {
            settings: self,
            rows: &task.support,
            residuals,
            leaves: Vec::new(),
        };
        let tree = grower.grow(orders, 0);
        let values: Vec<f64> = grower.leaves.iter().map(|rows| value(rows)).collect();
        for (leaf, rows) in grower.leaves.iter().enumerate() {
            for &row in rows {
                scores.support[row] += self.rate * values[leaf];
            }
        }
        for (score, row) in scores.query.iter_mut().zip(&task.query) {
            *score += self.rate * values[tree.leaf(row)];
        }
    }

    /// Scores of the queries for each column of the targets: values, or logits.
    fn boosted(&self, task: &HostTask, classifies: bool) -> Vec<Vec<f64>> {
        let orders = orders(&task.support);
        let columns: Vec<&[f64]> = task.targets.iter().map(|(_, y)| y.as_slice()).collect();
        let start = |value: f64| Scores {
            support: vec![value; task.support.len()],
            query: vec![value; task.query.len()],
        };
        let mean = |y: &[f64]| y.iter().sum::<f64>() / y.len().max(1) as f64;
        match columns.as_slice() {
            _ if !classifies => columns
                .iter()
                .map(|y| {
                    let mut scores = start(mean(y));
                    for _ in 0..self.trees {
                        let pairs = y.iter().zip(&scores.support);
                        let residuals: Vec<f64> = pairs.map(|(y, score)| y - score).collect();
                        let value = |rows: &[usize]| {
                            let sum: f64 = rows.iter().map(|&row| residuals[row]).sum();
                            sum / rows.len().max(1) as f64
                        };
                        self.add_tree(task, &orders, &residuals, value, &mut scores);
                    }
                    scores.query
                })
                .collect(),
            // One class has all of it.
            [] | [_] => vec![vec![0.0; task.query.len()]],
            [_, y] => {
                let share = mean(y);
                let mut scores = start((share / (1.0 - share)).ln());
                for _ in 0..self.trees {
                    let pairs = y.iter().zip(&scores.support);
                    let residuals: Vec<f64> = pairs
                        .map(|(y, score)| y - 1.0 / (1.0 + (-score).exp()))
                        .collect();
                    let value = |rows: &[usize]| newton(rows, &residuals);
                    self.add_tree(task, &orders, &residuals, value, &mut scores);
                }
                let half = |sign: f64| -> Vec<f64> {
                    scores
                        .query
                        .iter()
                        .map(|score| 0.5 * sign * score)
                        .collect()
                };
                vec![half(-1.0), half(1.0)]
            }
            _ => self.of_classes(task, &orders, &columns),
        }
    }

    /// Scores of three classes or more.
    fn of_classes(
        &self,
        task: &HostTask,
        orders: &[Vec<usize>],
        columns: &[&[f64]],
    ) -> Vec<Vec<f64>> {
        let (rows, classes) = (task.support.len(), columns.len());
        let mut all: Vec<Scores> = columns
            .iter()
            .map(|y| {
                let share = (y.iter().sum::<f64>() / rows.max(1) as f64).ln();
                Scores {
                    support: vec![share; rows],
                    query: vec![share; task.query.len()],
                }
            })
            .collect();
        let factor = (classes - 1) as f64 / classes as f64;
        for _ in 0..self.trees {
            let probabilities: Vec<Vec<f64>> = (0..rows)
                .map(|row| {
                    let scores: Vec<f64> = all.iter().map(|scores| scores.support[row]).collect();
                    meta_core::calibration::softmax(&scores, 1.0)
                })
                .collect();
            for (class, (scores, y)) in all.iter_mut().zip(columns).enumerate() {
                let pairs = y.iter().zip(&probabilities);
                let residuals: Vec<f64> = pairs.map(|(y, p)| y - p[class]).collect();
                let value = |rows: &[usize]| factor * newton(rows, &residuals);
                self.add_tree(task, orders, &residuals, value, scores);
            }
        }
        all.into_iter().map(|scores| scores.query).collect()
    }
}

/// `Σ r / Σ |r| (1 − |r|)`; of residuals `y − p` the curvature is `p (1 − p)`.
fn newton(rows: &[usize], residuals: &[f64]) -> f64 {
    let sum: f64 = rows.iter().map(|&row| residuals[row]).sum();
    let curvature = |&row: &usize| residuals[row].abs() * (1.0 - residuals[row].abs());
    let curvature: f64 = rows.iter().map(curvature).sum();
    match curvature > LEAST_CURVATURE {
        true => sum / curvature,
        false => 0.0,
    }
}

impl FeatureRule for BoostedTreesSettings {
    fn scores<B: Primitives>(
        &self,
        features: &FeatureBatch<B>,
        _number: f64,
        _pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let classifies = features.values.is_none();
        answers(features, |task| self.boosted(task, classifies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(targets: Vec<(usize, Vec<f64>)>) -> HostTask {
        HostTask {
            support: [0.0, 1.0, 2.0, 3.0].map(|x| vec![1.0, x]).to_vec(),
            targets,
            query: vec![vec![9.0, 0.4], vec![9.0, 2.6]],
        }
    }

    /// One tree of rate 1 and depth 1 is a step at the cut that lowers the squares the most.
    #[test]
    fn a_single_tree_is_a_step() {
        let settings = BoostedTreesSettings {
            trees: 1,
            rate: 1.0,
            depth: 1,
            ..BoostedTreesSettings::default()
        };
        let found = settings.boosted(&task(vec![(0, vec![1.0, 1.0, 5.0, 7.0])]), false);
        assert_eq!(found, [[1.0, 6.0]]);
    }

    /// Names of classes swapped: scores swapped. And one class alone is no reason to fail.
    #[test]
    fn classes_have_no_order() {
        let settings = BoostedTreesSettings::default();
        let (a, b) = (vec![1.0, 1.0, 0.0, 1.0], vec![0.0, 0.0, 1.0, 0.0]);
        let found = settings.boosted(&task(vec![(0, a.clone()), (1, b.clone())]), true);
        let swapped = settings.boosted(&task(vec![(0, b), (1, a)]), true);
        for (query, score) in found[0].iter().enumerate() {
            assert!((score - swapped[1][query]).abs() < 1e-9);
        }
        let single = settings.boosted(&task(vec![(2, vec![1.0; 4])]), true);
        assert_eq!(single, [[0.0, 0.0]]);
    }
}
