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
        let targets = features.membership();
        let [_, s, _] = targets.dims();
        let found = Problem::new(&features.support, targets, number).solve();
        let coefficients = found.clone().narrow(1, 0, s);
        let weights = features.support.clone().swap_dims(1, 2).matmul(coefficients);
        features.query.clone().matmul(weights) + found.narrow(1, s, 1)
    }
}

/// Sum of the products of each task's numbers, `[t, 1, 1]`.
fn dot<B: Primitives>(a: &Tensor<B, 3>, b: &Tensor<B, 3>) -> Tensor<B, 3> {
    let [t, rows, n] = a.dims();
    let products = (a.clone() * b.clone()).reshape([t, rows * n]);
    products.sum_dim(1).reshape([t, 1, 1])
}

/// `x [t, …, n]` times a number `[t, 1, 1]` of each task.
fn times<B: Primitives>(x: &Tensor<B, 3>, number: &Tensor<B, 3>) -> Tensor<B, 3> {
    let [t, rows, n] = x.dims();
    let product = x.clone().reshape([t, rows * n]) * number.clone().reshape([t, 1]);
    product.reshape([t, rows, n])
}

/// Whether a number of any task is above 0.
fn any<B: Primitives>(numbers: &Tensor<B, 3>) -> bool {
    let numbers = numbers.clone().into_data();
    numbers.iter::<f64>().any(|number| number > 0.0)
}

/// 1 where a number is above that of `other`, else 0.
fn above<B: Primitives>(numbers: &Tensor<B, 3>, other: Tensor<B, 3>) -> Tensor<B, 3> {
    numbers.clone().greater(other).float().cast(numbers.dtype())
}

/// Logistic regressions of a batch of tasks. Points, directions and gradients are coefficients `A [t, s, n]` of
/// weights above an intercept, `[t, s + 1, n]`.
struct Problem<B: Primitives> {
    /// `[K 1]`, `[t, s, s + 1]`: times a point, its logits.
    rows: Tensor<B, 3>,
    /// `K` and a 1 for the intercept, `[t, s + 1, s + 1]`: the inner product of weights and intercepts.
    metric: Tensor<B, 3>,
    /// Rows of numbers of items above their sum, `[t, s + 1, s]`.
    summed: Tensor<B, 3>,
    /// 1 in the rows of coefficients, 0 in that of the intercept, `[t, s + 1, n]`.
    weights: Tensor<B, 3>,
    /// One-hot labels, `[t, s, n]`.
    targets: Tensor<B, 3>,
    /// `C`.
    c: f64,
}

/// What `f` and its derivatives are made of at a point.
struct At<B: Primitives> {
    /// Softmax of the logits, `[t·s, n]`.
    probabilities: Tensor<B, 2>,
    /// `f`, `[t, 1, 1]`.
    value: Tensor<B, 3>,
}

impl<B: Primitives> Problem<B> {
    fn new(support: &Tensor<B, 3>, targets: Tensor<B, 3>, c: f64) -> Self {
        let ([t, s, _], [_, _, n]) = (support.dims(), targets.dims());
        let gram = support.clone().matmul(support.clone().swap_dims(1, 2));
        let column = gram.clone().narrow(2, 0, 1);
        let ones = column.ones_like();
        let corner = gram.clone().narrow(1, 0, 1).narrow(2, 0, 1).ones_like();
        let row = gram.clone().narrow(1, 0, 1).zeros_like();
        let above = Tensor::cat(vec![gram.clone(), column.zeros_like()], 2);
        let below = Tensor::cat(vec![row.clone(), corner], 2);
        // In full, since backends are slow where they repeat.
        let identity = Tensor::<B, 2>::eye(s, &gram.device()).cast(gram.dtype());
        let identity = gram.zeros_like() + identity.reshape([1, s, s]).expand([t, s, s]);
        let class = targets.clone().narrow(1, 0, 1).zeros_like();
        Problem {
            rows: Tensor::cat(vec![gram, ones], 2),
            metric: Tensor::cat(vec![above, below], 1),
            summed: Tensor::cat(vec![identity, row.ones_like()], 1),
            weights: Tensor::cat(vec![targets.ones_like(), class.reshape([t, 1, n])], 1),
            targets,
            c,
        }
    }

    /// `K A + b`, `[t, s, n]`.
    fn logits(&self, point: &Tensor<B, 3>) -> Tensor<B, 3> {
        self.rows.clone().matmul(point.clone())
    }

    /// What `dot` with another point is the inner product of the weights and intercepts.
    fn image(&self, point: &Tensor<B, 3>) -> Tensor<B, 3> {
        self.metric.clone().matmul(point.clone())
    }

    /// Numbers of items `[t, s, n]` as a gradient. Their sum over the classes is 0 but for rounding, and is
    /// brought back to it: `f` does not change with what all classes have in common, so nothing else would.
    fn gathered(&self, items: Tensor<B, 3>) -> Tensor<B, 3> {
        let gathered = self.summed.clone().matmul(items);
        let [t, rows, n] = gathered.dims();
        // As a matrix, since backends are fastest there with one number for each row.
        let gathered = gathered.reshape([t * rows, n]);
        let balanced = gathered.clone() - gathered.mean_dim(1);
        balanced.reshape([t, rows, n])
    }

    /// The coefficients of a point, without its intercept.
    fn coefficients(&self, point: &Tensor<B, 3>) -> Tensor<B, 3> {
        point.clone() * self.weights.clone()
    }

    fn at(&self, point: &Tensor<B, 3>) -> At<B> {
        let penalty = dot(&self.coefficients(point), &self.image(point)).mul_scalar(0.5);
        let logits = self.logits(point);
        let [t, s, n] = logits.dims();
        let rows = logits.reshape([t * s, n]);
        let rows = rows.clone() - rows.max_dim(1);
        let normaliser = rows.clone().exp().sum_dim(1).log();
        let rows = rows - normaliser;
        let fit = dot(&rows.clone().reshape([t, s, n]), &self.targets).mul_scalar(-self.c);
        At {
            probabilities: rows.exp(),
            value: fit + penalty,
        }
    }

    /// The gradient of `f`, in coefficients.
    fn gradient(&self, point: &Tensor<B, 3>, at: &At<B>) -> Tensor<B, 3> {
        let probabilities = at.probabilities.clone().reshape(self.targets.dims());
        let error = (probabilities - self.targets.clone()).mul_scalar(self.c);
        self.gathered(error) + self.coefficients(point)
    }

    /// The second derivative of `f` times `direction`.
    fn curvature(&self, at: &At<B>, direction: &Tensor<B, 3>) -> Tensor<B, 3> {
        let change = self.logits(direction);
        let dims = change.dims();
        let p = at.probabilities.clone();
        let weighted = p.clone() * change.reshape(p.dims()).mul_scalar(self.c);
        let moved = weighted.clone() - p * weighted.sum_dim(1);
        self.gathered(moved.reshape(dims)) + self.coefficients(direction)
    }

    /// The step of Newton's method against `gradient`, up to `tolerance` (`[t, 1, 1]`) of its squared length,
    /// and the inner product of both, `[t, 1, 1]`.
    fn step(
        &self,
        at: &At<B>,
        gradient: &Tensor<B, 3>,
        tolerance: f64,
    ) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let mut rest = gradient.clone().neg();
        let mut direction = rest.clone();
        let mut image = self.image(&rest);
        let downhill = image.clone();
        let mut squares = dot(&rest, &image);
        let mut step = rest.zeros_like();
        let target = squares.clone().mul_scalar(tolerance);
        let mut open = above(&squares, target.clone());
        for _ in 0..PRODUCTS {
            let bent = self.curvature(at, &direction);
            let bend = dot(&bent, &image);
            // Rounding alone can bend downwards: there is no way on from there.
            open = open * above(&bend, bend.zeros_like());
            if !any(&open) {
                break;
            }
            let along = open.clone() * squares.clone() / bend.clamp_min(TINY);
            step = step + times(&direction, &along);
            rest = rest - times(&bent, &along);
            let rest_image = self.image(&rest);
            let next = dot(&rest, &rest_image);
            let turn = open.clone() * next.clone() / squares.clamp_min(TINY);
            image = rest_image + times(&image, &turn);
            direction = rest.clone() + times(&direction, &turn);
            open = open * above(&next, target.clone());
            squares = next;
        }
        let slope = dot(&step, &downhill).neg();
        (step, slope)
    }

    /// The minimum of `f` for every task.
    fn solve(&self) -> Tensor<B, 3> {
        let double = self.rows.dtype() == DType::F64;
        let (tolerance, rounding): (f64, f64) = if double { (1e-10, 1e-15) } else { (1e-6, 1e-6) };
        let zeros = self.targets.zeros_like();
        let mut point = Tensor::cat(vec![zeros.clone(), zeros.narrow(1, 0, 1)], 1);
        let mut at = self.at(&point);
        let mut first: Option<Tensor<B, 3>> = None;
        let mut open: Option<Tensor<B, 3>> = None;
        for _ in 0..STEPS {
            let gradient = self.gradient(&point, &at);
            let squares = dot(&gradient, &self.image(&gradient));
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
        point: &Tensor<B, 3>,
        at: &At<B>,
        step: &Tensor<B, 3>,
        slope: &Tensor<B, 3>,
        active: &Tensor<B, 3>,
        rounding: f64,
    ) -> (Tensor<B, 3>, At<B>) {
        let mut length = active.clone();
        let slack = at.value.clone().abs().mul_scalar(rounding);
        let mut halvings = 0;
        loop {
            let next = point.clone() + times(step, &length);
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
