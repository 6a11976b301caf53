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
//! Of a task whose items are not all there, those that are make it.
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

    const READS_MASKS: bool = true;

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
        let (coefficients, intercepts) = match &features.there {
            None => fit(&gram, &labels, [t, s, n], number),
            Some(there) => {
                let there: Vec<bool> = there.clone().into_data().iter::<bool>().collect();
                fit_those_there(&gram, &labels, &there, [t, s, n], number)
            }
        };
        let tensor = |values: Vec<f64>, shape: [usize; 3]| {
            let data = TensorData::new(values, shape).convert_dtype(dtype);
            Tensor::<B, 3>::from_data(data, (&like, dtype))
        };
        let weights = transposed.product(tensor(coefficients, [t, n, s]).swap_dims(1, 2));
        features.query.clone().product(weights) + tensor(intercepts, [t, 1, n])
    }
}

/// [`fit`] of the items that are there, each task alone: 0 for items and classes that are not.
fn fit_those_there(
    gram: &[f64],
    labels: &[usize],
    there: &[bool],
    [t, s, n]: [usize; 3],
    c: f64,
) -> (Vec<f64>, Vec<f64>) {
    let (mut coefficients, mut intercepts) = (vec![0.0; t * n * s], vec![0.0; t * n]);
    for task in 0..t {
        let rows: Vec<usize> = (task * s..(task + 1) * s)
            .filter(|&row| there[row])
            .collect();
        let mut classes: Vec<usize> = rows.iter().map(|&row| labels[row]).collect();
        classes.sort_unstable();
        classes.dedup();
        let own: Vec<usize> = rows
            .iter()
            .map(|&row| classes.binary_search(&labels[row]).unwrap_or(0))
            .collect();
        let products: Vec<f64> = rows
            .iter()
            .flat_map(|&row| {
                rows.iter()
                    .map(move |other| gram[row * s + other - task * s])
            })
            .collect();
        let sizes = [1, rows.len(), classes.len()];
        let (found, biases) = fit(&products, &own, sizes, c);
        for (place, &class) in classes.iter().enumerate() {
            intercepts[task * n + class] = biases[place];
            for (item, &row) in rows.iter().enumerate() {
                coefficients[(task * n + class) * s + row - task * s] =
                    found[place * rows.len() + item];
            }
        }
    }
    (coefficients, intercepts)
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
