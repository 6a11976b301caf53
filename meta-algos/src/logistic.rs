//! Logistic regression on features: the linear probe.
//!
//! Cox, *The regression analysis of binary sequences*, Journal of the Royal Statistical Society 1958, with
//! several classes; the penalty is that of scikit-learn's `LogisticRegression(C)`.
//!
//! With features `x_i` and labels `y_i` of the support, weights `W` and an intercept `b` that is not
//! penalised:
//!
//! ```text
//! f(W, b) = C Σ_i −ln softmax(Wᵀ x_i + b)[y_i] + ½ ‖W‖²
//! ```
//!
//! Newton's method finds it on the host, in double precision, for all tasks at once side by side
//! ([`meta_core::logistic`]): such small systems are many small operations, which a device would wait for one by
//! one.
//!
//! # Differences from the paper
//! * Several classes, and the penalty.

use burn::tensor::{Tensor, TensorData};
use meta_core::{
    Result,
    data::Split,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        feature_rule::{self, FeatureBatch, FeatureLearner, FeatureRule},
        feature_transform::{Centre, FeatureTransform},
    },
    logistic::fit,
    nn::{Pass, encoder::Architecture},
    primitives::{MatrixProduct, Primitives},
    settings,
    task::TaskSpec,
};

/// Values of `C` among which validation episodes choose.
const STRENGTHS: [f64; 7] = [1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3];

settings! {
    /// Settings of logistic regression.
    pub struct LogisticSettings {
        /// `C`, the inverse strength of the penalty. 0: chosen on the validation episodes among the
        /// powers of ten from 0.001 to 1000.
        c: f64 = 0.0, at_least(0.0);
        /// What is subtracted from the features first: `none`, `support` (the mean of the task's
        /// support) or `training` (the mean over items of training tasks).
        centre: Centre = Centre::None;
        /// Whether features are then divided by their Euclidean norms.
        normalise: bool = false;
    }
}

impl LearnerSettings for LogisticSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "logistic",
        family: Family::Baseline,
        summary: "fits a logistic regression to the features of the support: the linear probe",
        paper: "Cox, The regression analysis of binary sequences, 1958",
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

impl FeatureRule for LogisticSettings {
    fn transform(&self) -> FeatureTransform {
        FeatureTransform {
            centre: self.centre,
            normalise: self.normalise,
        }
    }

    fn candidates(&self) -> &[f64] {
        feature_rule::chosen_or(&self.c, &STRENGTHS)
    }

    fn scores<B: Primitives>(
        &self,
        features: &FeatureBatch<B>,
        number: f64,
        _pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let transposed = features.support.clone().swap_dims(1, 2);
        let gram = features.support.clone().product(transposed.clone());
        let ([t, s, _], n) = (gram.dims(), features.way);
        let (like, dtype) = (gram.device(), gram.dtype());
        let gram: Vec<f64> = gram.into_data().iter::<f64>().collect();
        let labels = features.labels.clone().into_data();
        let labels: Vec<usize> = labels.iter::<i64>().map(|label| label as usize).collect();
        let (coefficients, intercepts) = fit(&gram, &labels, [t, s, n], number);
        let tensor = |values: Vec<f64>, shape: [usize; 3]| {
            let data = TensorData::new(values, shape).convert_dtype(dtype);
            Tensor::<B, 3>::from_data(data, (&like, dtype))
        };
        let weights = transposed.product(tensor(coefficients, [t, n, s]).swap_dims(1, 2));
        features.query.clone().product(weights) + tensor(intercepts, [t, 1, n])
    }
}

#[cfg(test)]
mod tests {
    use crate::toy::{PredictAt, assert_close, learner, spec, support_as_queries, tasks, values};
    use burn::tensor::activation::softmax;
    use serde_json::json;

    /// Intercepts sum to 0 over the classes, in single precision too: queries at the origin have them as
    /// their scores.
    #[test]
    fn intercepts_do_not_drift() {
        let spec = spec(3, 2);
        let mut tasks = tasks(&spec);
        tasks.query.inputs = tasks.query.inputs.zeros_like();
        for c in [1.0, 1e3] {
            let settings = json!({"c": c});
            let scores = learner("logistic", settings, &spec)
                .predict(&tasks, PredictAt::LastStep)
                .remove(0);
            let largest = scores.sum_dim(2).abs().max().into_scalar();
            assert!(largest < 1e-4, "{largest}");
        }
    }

    /// Next to no weight on the fit leaves the shares of the classes, a large one the labels.
    #[test]
    fn the_strength_goes_from_nothing_to_interpolation() {
        let spec = spec(3, 1);
        let tasks = support_as_queries(tasks(&spec));
        let probabilities = |c: f64| {
            let scores = learner("logistic", json!({"c": c}), &spec)
                .predict(&tasks, PredictAt::LastStep)
                .remove(0);
            values(softmax(scores, 2))
        };
        assert_close(&probabilities(1e-6), &[1.0 / 3.0; 18], 1e-4);
        let own = tasks.support.targets.encoded(3, &tasks.support.inputs);
        assert_close(&probabilities(1e6), &values(own), 1e-2);
    }
}
