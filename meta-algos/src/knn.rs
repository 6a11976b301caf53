//! The `k` nearest support items vote.
//!
//! Cover and Hart, *Nearest neighbor pattern classification*, IEEE Transactions on Information Theory 1967.
//!
//! With `N(x)` the `k` support features nearest to `x` in Euclidean distance `d` (in angle, when features are
//! normalised), and weights `w = 1` or `w = 1/d`:
//!
//! ```text
//! p(y = n | x) = Σ w over the items of class n in N(x) / Σ w over N(x)      classification
//! ŷ(x)         = Σ w y over N(x) / Σ w over N(x)                              regression
//! ```
//!
//! # Differences from the paper
//! * Scores are `ln(p + 10⁻⁷)`: the logarithm of a class without a vote would be infinite.
//! * In regression, the mean of the neighbours' values.
//! * Of a task that has fewer support items than `k`, all vote.
//! * Classes with equally many votes share them; the lowest label wins, as in scikit-learn.

use burn::tensor::Tensor;
use meta_core::{
    Error, Result,
    data::Split,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        feature_rule::{self, FeatureBatch, FeatureLearner, FeatureRule},
        feature_transform::{Centre, FeatureTransform},
    },
    nn::{Pass, attention::MapAxis, distance, encoder::Architecture},
    primitives::{MatrixProduct, Primitives},
    settings,
    task::TaskSpec,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Added to every share of the votes.
const LEAST_SHARE: f64 = 1e-7;

/// Least distance, whose inverse is finite.
const LEAST_DISTANCE: f64 = 1e-12;

/// How much the vote of a neighbour counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Votes {
    /// All votes alike.
    Uniform,
    /// By the inverse of its distance.
    Distance,
}

settings! {
    /// Settings of the nearest neighbours.
    pub struct KnnSettings {
        /// `k`, the support items that vote.
        neighbours: usize = 1, size(1);
        /// How much a vote counts: `uniform`, or by the inverse `distance`.
        votes: Votes = Votes::Uniform;
        /// What is subtracted from the features first: `none`, `support` (the mean of the task's
        /// support) or `training` (the mean over items of training tasks).
        centre: Centre = Centre::None;
        /// Whether features are then divided by their Euclidean norms.
        normalise: bool = true;
    }
}

impl LearnerSettings for KnnSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "knn",
        family: Family::Baseline,
        summary: "lets the nearest support features vote",
        paper: "Cover and Hart, Nearest neighbor pattern classification, 1967",
        regression: true,
        any_way: true,
    };

    const READS_MASKS: bool = true;

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        let items = spec.test.support_items();
        if self.neighbours > items {
            let expected = format!("must be at most {items}, the support items of a test task");
            return Err(Error::setting(
                "learner.neighbours",
                self.neighbours,
                expected,
            ));
        }
        Ok(())
    }

    fn calibration(&self) -> &'static [Split] {
        feature_rule::calibration(self)
    }

    fn gradient_of() -> GradientOf {
        feature_rule::gradient_of()
    }

    fn toy() -> Toy {
        Toy {
            // Uniform votes are the same for whatever networks solve the task.
            settings: json!({"neighbours": 3, "votes": "distance"}),
            maps: 1,
            ..feature_rule::toy()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        FeatureLearner::boxed(self, new)
    }
}

impl FeatureRule for KnnSettings {
    fn transform(&self) -> FeatureTransform {
        FeatureTransform {
            centre: self.centre,
            normalise: self.normalise,
        }
    }

    fn scores<B: Primitives>(
        &self,
        features: &FeatureBatch<B>,
        _number: f64,
        pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let (query, support) = (features.query.clone(), features.support.clone());
        let distances = distance::squared_distances(query, support)
            .clamp_min(0.0)
            .sqrt();
        let [t, q, s] = distances.dims();
        let absent = features
            .there
            .clone()
            .map(|there| there.bool_not().reshape([t, 1, s]).expand([t, q, s]));
        let closeness = match &absent {
            None => distances.clone().neg(),
            Some(absent) => distances.clone().neg().mask_fill(absent.clone(), f32::MIN),
        };
        let nearest = distance::nearest(closeness, self.neighbours);
        let nearest = match absent {
            None => nearest,
            Some(absent) => nearest.mask_fill(absent, 0.0),
        };
        let votes = match self.votes {
            Votes::Uniform => nearest,
            Votes::Distance => nearest / distances.clamp_min(LEAST_DISTANCE),
        };
        let shares = votes.clone() / votes.sum_dim(2);
        pass.record(
            "neighbours",
            MapAxis::Query,
            MapAxis::Support,
            &shares.clone().unsqueeze_dim(1),
        );
        let answer = shares.product(features.targets());
        match features.values {
            Some(_) => answer,
            None => answer.add_scalar(LEAST_SHARE).log(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{
        PredictAt, assert_close, learner, refusal, spec, support_as_queries, tasks, values,
    };

    /// A support item is its own nearest neighbour.
    #[test]
    fn the_support_is_classified_as_labelled() {
        let spec = spec(3, 2);
        let tasks = support_as_queries(tasks(&spec));
        let scores = learner("knn", json!({}), &spec)
            .predict(&tasks, PredictAt::LastStep)
            .remove(0);
        let own = tasks.support.targets.encoded(3, &scores);
        assert_close(&values(scores.exp()), &values(own), 1e-6);
    }

    #[test]
    fn more_neighbours_than_items_are_refused() {
        let message = refusal("knn", json!({"neighbours": 7}), &spec(3, 2));
        assert!(
            message.contains("learner.neighbours") && message.contains("at most 6"),
            "{message}"
        );
    }
}
