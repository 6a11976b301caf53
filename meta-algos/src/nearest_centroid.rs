//! Nearest class mean on features: SimpleShot.
//!
//! Wang, Chao, Weinberger and van der Maaten, *SimpleShot: revisiting nearest-neighbor classification for
//! few-shot learning*, 2019.
//!
//! A query belongs to the class whose mean feature is nearest (section 3.1), after the transforms of
//! section 3.2 ([`FeatureTransform`]): UN, L2N and CL2N are `centre = "none"` without and with
//! `normalise`, and `centre = "training"` with it.
//!
//! ```text
//! c_n = mean over the support S_n of x
//! score of class n = −‖x − c_n‖²
//! ```
//!
//! # Differences from the paper
//! * The mean over training classes is that over the items of `train.validation_episodes` training
//!   episodes, not over all items of all classes.
//! * Scores are logits, so there is a cross-entropy; the paper has accuracies alone.

use burn::tensor::Tensor;
use meta_core::{
    Result,
    data::Split,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        feature_rule::{self, FeatureBatch, FeatureLearner, FeatureRule},
        feature_transform::{Centre, FeatureTransform},
    },
    nn::{Pass, distance, encoder::Architecture},
    primitives::Primitives,
    settings,
    task::TaskSpec,
};

settings! {
    /// Settings of the nearest class mean; the defaults are SimpleShot's CL2N.
    pub struct NearestCentroidSettings {
        /// What is subtracted from the features first: `none`, `support` (the mean of the task's
        /// support) or `training` (the mean over items of training tasks).
        centre: Centre = Centre::Training;
        /// Whether features are then divided by their Euclidean norms.
        normalise: bool = true;
    }
}

impl LearnerSettings for NearestCentroidSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "nearest_centroid",
        family: Family::Baseline,
        summary: "assigns a query to the class whose mean feature is nearest (SimpleShot)",
        paper: "Wang et al., SimpleShot, 2019",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        feature_rule::check::<Self>(spec)
    }

    fn calibration(&self) -> &'static [Split] {
        feature_rule::calibration(self)
    }

    fn gradient_of() -> GradientOf {
        feature_rule::gradient_of()
    }

    fn toy() -> Toy {
        feature_rule::toy()
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        FeatureLearner::boxed(self, new)
    }
}

impl FeatureRule for NearestCentroidSettings {
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
        _pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        distance::squared_distances(features.query.clone(), features.prototypes()).neg()
    }
}
