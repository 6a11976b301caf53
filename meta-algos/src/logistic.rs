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
//! The minimum is a combination of the support, `W = Xᵀ A`, so `A [s, n]` is sought, with `K = X Xᵀ`:
//! logits `K A + b` and penalty `½ tr Aᵀ K A`. Newton's method finds it for all tasks of a batch at once.
//! The equation of a step is solved by conjugate gradients in the inner product of `W`, for which
//! `‖W‖² = tr Aᵀ K A` (so that a singular `K` does no harm), and the step is halved until `f` has fallen
//! enough (Armijo). It stops when the gradient has fallen to 10⁻¹⁰ of its first length (single precision:
//! 10⁻⁶), or `f` no longer falls.
//!
//! # Differences from the paper
//! * Several classes, and the penalty.

use burn::tensor::{DType, Tensor};
use meta_core::{
    Result,
    data::Split,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        feature_rule::{self, FeatureBatch, FeatureLearner, FeatureRule},
        feature_transform::{Centre, FeatureTransform},
    },
    nn::{Pass, encoder::Architecture},
    primitives::Primitives,
    settings,
    task::TaskSpec,
};

/// Values of `C` among which validation episodes choose.
const STRENGTHS: [f64; 7] = [1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3];

/// Steps of Newton's method, conjugate gradients in one of them, and halvings of its length, at most.
const STEPS: usize = 50;
const PRODUCTS: usize = 100;
const HALVINGS: usize = 30;

/// Below any sum that matters: what is divided by is at least this.
const TINY: f64 = 1e-30;

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
        let gram = features.support.clone().matmul(transposed.clone());
        let ones = gram.clone().narrow(2, 0, 1).ones_like();
        let problem = Problem {
            rows: Tensor::cat(vec![gram, ones], 2),
            targets: features.membership(),
            c: number,
        };
        let found = problem.solve();
        let weights = transposed.matmul(found.coefficients);
        features.query.clone().matmul(weights) + found.intercept
    }
}

/// Coefficients `A [t, s, n]` of weights, and intercepts `[t, 1, n]`: a point, a direction, a gradient.
#[derive(Clone)]
struct Point<B: Primitives> {
    coefficients: Tensor<B, 3>,
    intercept: Tensor<B, 3>,
}

impl<B: Primitives> Point<B> {
    /// `self + length · other`, a length `[t, 1]` for each task.
    fn plus(self, length: &Tensor<B, 2>, other: &Self) -> Self {
        Point {
            coefficients: self.coefficients + times(&other.coefficients, length),
            intercept: self.intercept + times(&other.intercept, length),
        }
    }
}

/// `x [t, …, n]` times a number `[t, 1]` of each task.
fn times<B: Primitives>(x: &Tensor<B, 3>, number: &Tensor<B, 2>) -> Tensor<B, 3> {
    let [t, rows, n] = x.dims();
    (x.clone().reshape([t, rows * n]) * number.clone()).reshape([t, rows, n])
}

/// Sum of the products of each task's numbers, `[t, 1]`.
fn dot<B: Primitives>(a: &Tensor<B, 3>, b: &Tensor<B, 3>) -> Tensor<B, 2> {
    let [t, rows, n] = a.dims();
    (a.clone() * b.clone()).reshape([t, rows * n]).sum_dim(1)
}

/// Whether a number of any task is above 0.
fn any<B: Primitives>(numbers: &Tensor<B, 2>) -> bool {
    numbers
        .clone()
        .into_data()
        .iter::<f64>()
        .any(|number| number > 0.0)
}

/// 1 where a number is above that of `other`, else 0.
fn above<B: Primitives>(numbers: &Tensor<B, 2>, other: Tensor<B, 2>) -> Tensor<B, 2> {
    numbers.clone().greater(other).float().cast(numbers.dtype())
}

/// The same numbers with mean 0 over the classes, as they are but for rounding: `f` does not change with
/// what all intercepts have in common, so nothing would bring it back.
fn balanced<B: Primitives>(intercept: Tensor<B, 3>) -> Tensor<B, 3> {
    intercept.clone() - intercept.mean_dim(2)
}

/// Logistic regressions of a batch of tasks.
struct Problem<B: Primitives> {
    /// `[K 1]`, `[t, s, s + 1]`: times coefficients above an intercept, the logits.
    rows: Tensor<B, 3>,
    /// One-hot labels, `[t, s, n]`.
    targets: Tensor<B, 3>,
    /// `C`.
    c: f64,
}

/// What `f` and its derivatives are made of at a point.
struct At<B: Primitives> {
    /// Softmax of the logits, `[t, s, n]`.
    probabilities: Tensor<B, 3>,
    /// `f`, `[t, 1]`.
    value: Tensor<B, 2>,
}

/// `tr Aᵀ K A'` for `A [t, s, n]`, from the logits `K A' + b'` of another point: `[t, 1]`.
fn penalised<B: Primitives>(
    a: &Tensor<B, 3>,
    logits: &Tensor<B, 3>,
    intercept: &Tensor<B, 3>,
) -> Tensor<B, 2> {
    dot(a, logits) - dot(&a.clone().sum_dim(1), intercept)
}

impl<B: Primitives> Problem<B> {
    /// `K A + b`, `[t, s, n]`.
    fn logits(&self, point: &Point<B>) -> Tensor<B, 3> {
        let Point {
            coefficients,
            intercept,
        } = point.clone();
        let stacked = Tensor::cat(vec![coefficients, intercept], 1);
        self.rows.clone().matmul(stacked)
    }

    /// The inner product of the weights and intercepts of two points, the second one by its logits.
    fn inner(a: &Point<B>, b: &Point<B>, logits: &Tensor<B, 3>) -> Tensor<B, 2> {
        penalised(&a.coefficients, logits, &b.intercept) + dot(&a.intercept, &b.intercept)
    }

    fn at(&self, point: &Point<B>) -> At<B> {
        let logits = self.logits(point);
        let penalty = penalised(&point.coefficients, &logits, &point.intercept).mul_scalar(0.5);
        let [t, s, n] = logits.dims();
        let rows = logits.reshape([t * s, n]);
        let rows = rows.clone() - rows.max_dim(1);
        let normaliser = rows.clone().exp().sum_dim(1).log();
        let rows = (rows - normaliser).reshape([t, s, n]);
        let fit = dot(&rows, &self.targets).mul_scalar(-self.c);
        At {
            probabilities: rows.exp(),
            value: fit + penalty,
        }
    }

    /// The gradient of `f`, in coefficients.
    fn gradient(&self, point: &Point<B>, at: &At<B>) -> Point<B> {
        let error = (at.probabilities.clone() - self.targets.clone()).mul_scalar(self.c);
        Point {
            intercept: balanced(error.clone().sum_dim(1)),
            coefficients: error + point.coefficients.clone(),
        }
    }

    /// The second derivative of `f` times `direction`, whose logits are `change`.
    fn curvature(&self, at: &At<B>, direction: &Point<B>, change: &Tensor<B, 3>) -> Point<B> {
        let [t, s, n] = change.dims();
        let p = at.probabilities.clone().reshape([t * s, n]);
        let weighted = p.clone() * change.clone().reshape([t * s, n]);
        let moved = weighted.clone() - p * weighted.sum_dim(1);
        let moved = moved.reshape([t, s, n]).mul_scalar(self.c);
        Point {
            intercept: balanced(moved.clone().sum_dim(1)),
            coefficients: moved + direction.coefficients.clone(),
        }
    }

    /// The step of Newton's method against `gradient`, up to `tolerance` (`[t, 1]`) of its squared length,
    /// and the inner product of both, `[t, 1]`.
    fn step(&self, at: &At<B>, gradient: &Point<B>, tolerance: f64) -> (Point<B>, Tensor<B, 2>) {
        let zeros = |x: &Tensor<B, 3>| x.zeros_like();
        let mut rest = Point {
            coefficients: gradient.coefficients.clone().neg(),
            intercept: gradient.intercept.clone().neg(),
        };
        let mut direction = rest.clone();
        let mut change = self.logits(&rest);
        let first = Self::inner(&rest, &rest, &change);
        let gradient_logits = change.clone().neg();
        let mut squares = first.clone();
        let mut step = Point {
            coefficients: zeros(&rest.coefficients),
            intercept: zeros(&rest.intercept),
        };
        let target = first.mul_scalar(tolerance);
        let mut open = above(&squares, target.clone());
        for _ in 0..PRODUCTS {
            let bent = self.curvature(at, &direction, &change);
            let bend = Self::inner(&bent, &direction, &change);
            // Rounding alone can bend downwards: there is no way on from there.
            open = open * above(&bend, bend.zeros_like());
            if !any(&open) {
                break;
            }
            let along = open.clone() * squares.clone() / bend.clamp_min(TINY);
            step = step.plus(&along, &direction);
            rest = rest.plus(&along.neg(), &bent);
            let rest_logits = self.logits(&rest);
            let next = Self::inner(&rest, &rest, &rest_logits);
            let turn = open.clone() * next.clone() / squares.clamp_min(TINY);
            change = rest_logits + times(&change, &turn);
            direction = rest.clone().plus(&turn, &direction);
            open = open * above(&next, target.clone());
            squares = next;
        }
        let slope = Self::inner(&step, gradient, &gradient_logits);
        (step, slope)
    }

    /// The minimum of `f` for every task.
    fn solve(&self) -> Point<B> {
        let double = self.rows.dtype() == DType::F64;
        let (tolerance, rounding): (f64, f64) = if double { (1e-10, 1e-15) } else { (1e-6, 1e-6) };
        let zeros = self.targets.zeros_like();
        let mut point = Point {
            intercept: zeros.clone().narrow(1, 0, 1),
            coefficients: zeros,
        };
        let mut at = self.at(&point);
        let mut first: Option<Tensor<B, 2>> = None;
        let mut open: Option<Tensor<B, 2>> = None;
        for _ in 0..STEPS {
            let gradient = self.gradient(&point, &at);
            let squares = Self::inner(&gradient, &gradient, &self.logits(&gradient));
            let start = first.get_or_insert_with(|| squares.clone()).clone();
            let long = above(&squares, start.clone().mul_scalar(tolerance * tolerance));
            let active = match open.take() {
                Some(open) => open * long,
                None => long,
            };
            if !any(&active) {
                break;
            }
            // Loosely solved far from the minimum, tightly near it.
            let relative = (squares / start.clamp_min(TINY)).max();
            let relative = relative.into_data().iter::<f64>().next().unwrap_or(0.0);
            let (step, slope) = self.step(&at, &gradient, relative.clamp(1e-12, 1e-2));
            let (next, next_at) = self.search(&point, &at, &step, &slope, &active, rounding);
            let fall = at.value.clone() - next_at.value.clone();
            let least = at.value.clone().abs().mul_scalar(rounding);
            open = Some(active * above(&fall, least));
            (point, at) = (next, next_at);
        }
        point
    }

    /// The point after the longest step, halved as often as it takes, along which `f` falls by 10⁻⁴ of
    /// what its slope promises.
    fn search(
        &self,
        point: &Point<B>,
        at: &At<B>,
        step: &Point<B>,
        slope: &Tensor<B, 2>,
        active: &Tensor<B, 2>,
        rounding: f64,
    ) -> (Point<B>, At<B>) {
        let mut length = active.clone();
        let slack = at.value.clone().abs().mul_scalar(rounding);
        let mut halvings = 0;
        loop {
            let next = point.clone().plus(&length, step);
            let next_at = self.at(&next);
            if halvings == HALVINGS {
                return (next, next_at);
            }
            let promised = (length.clone() * slope.clone()).mul_scalar(1e-4);
            let most = at.value.clone() + promised + slack.clone();
            // What is not a number is not below either.
            let fell = next_at.value.clone().lower_equal(most);
            let failed = fell.bool_not().float().cast(slope.dtype());
            if !any(&failed) {
                return (next, next_at);
            }
            halvings += 1;
            // In the end rounding is all that is left, and the task stays where it is.
            let shorter = if halvings < HALVINGS { 0.5 } else { 1.0 };
            length = length.clone() - length * failed.mul_scalar(shorter);
        }
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
