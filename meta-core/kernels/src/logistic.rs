//! Logistic regressions of several classes by Newton's method, one for each task, in double precision.
//!
//! With inputs `x_i` and labels `y_i`, weights `W` and an intercept `b` that is not penalised:
//!
//! ```text
//! f(W, b) = C Σ_i −ln softmax(Wᵀ x_i + b)[y_i] + ½ ‖W‖²
//! ```
//!
//! The minimum is a combination of the inputs, `W = Xᵀ A`, so `A` is sought, with `K = X Xᵀ`: logits `K A + b` and
//! penalty `½ tr Aᵀ K A`. The equation of a step is solved by conjugate gradients in the inner product of `W`, for
//! which `‖W‖² = tr Aᵀ K A` (so that a singular `K` does no harm), and the step is halved until `f` has fallen
//! enough (Armijo). It stops when the gradient has fallen to 10⁻¹⁰ of its first length, or `f` no longer falls.
//!
//! Tasks are computed side by side; each is a computation on one thread, so threads change no bit.

use super::gemm::product_into;
use super::matrix::Matrix;
use super::parallel;

/// Steps of Newton's method, conjugate gradients in one of them, and halvings of its length, at most.
const STEPS: usize = 50;
const PRODUCTS: usize = 100;
const HALVINGS: usize = 30;
/// Share of the first gradient's length at which the search ends.
const TOLERANCE: f64 = 1e-10;
/// What rounding may add to a value, relative to it.
const ROUNDING: f64 = 1e-15;

/// The regressions of `t` tasks with `s` items of `n` classes each: coefficients `A [t, n, s]`, and intercepts
/// `[t, n]`, whose sum over the classes is 0.
///
/// `gram [t, s, s]` are the products `K` of the inputs, of which the mean of `K` and `Kᵀ` is taken; `labels [t, s]`
/// are below `n`; `c` is `C`.
///
/// # Panics
/// If a slice has another length, or a label is not below `n`.
pub fn fit(gram: &[f64], labels: &[usize], [t, s, n]: [usize; 3], c: f64) -> (Vec<f64>, Vec<f64>) {
    assert!(
        gram.len() == t * s * s && labels.len() == t * s,
        "products of {} and labels of {} numbers, of {t} tasks with {s} items",
        gram.len(),
        labels.len()
    );
    assert!(
        labels.iter().all(|&label| label < n),
        "a label is not below {n}"
    );
    let tasks: Vec<usize> = (0..t).collect();
    let found = parallel::each(&tasks, rayon::current_num_threads(), |&task| {
        let gram = &gram[task * s * s..(task + 1) * s * s];
        let problem = Problem {
            gram: symmetric(gram, s),
            labels: &labels[task * s..(task + 1) * s],
            n,
            c,
        };
        problem.solve()
    });
    let (mut coefficients, mut intercepts) = (Vec::new(), Vec::new());
    for point in found {
        coefficients.extend(point.a);
        intercepts.extend(point.b);
    }
    (coefficients, intercepts)
}

/// The mean of a matrix and its transpose.
fn symmetric(matrix: &[f64], s: usize) -> Vec<f64> {
    let mut mean = matrix.to_vec();
    for i in 0..s {
        for j in 0..i {
            let both = 0.5 * (matrix[i * s + j] + matrix[j * s + i]);
            (mean[i * s + j], mean[j * s + i]) = (both, both);
        }
    }
    mean
}

/// Coefficients `A [n, s]` of weights, and intercepts `[n]`: a point, a direction, a gradient.
#[derive(Clone)]
struct Point {
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Point {
    /// `self + length · other`.
    fn add(&mut self, length: f64, other: &Point) {
        add(&mut self.a, length, &other.a);
        add(&mut self.b, length, &other.b);
    }
}

fn add(to: &mut [f64], length: f64, other: &[f64]) {
    for (to, other) in to.iter_mut().zip(other) {
        *to += length * other;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Eight sums, which become vector instructions.
    let mut sums = [0.0; 8];
    let (a, b) = (a.chunks(8), b.chunks(8));
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

/// The inner product of the weights and intercepts of two points, the second one with its `K A`.
fn inner(one: &Point, other: &Point, products: &[f64]) -> f64 {
    dot(&one.a, products) + dot(&one.b, &other.b)
}

/// The regression of a task.
struct Problem<'a> {
    /// `K [s, s]`.
    gram: Vec<f64>,
    labels: &'a [usize],
    n: usize,
    c: f64,
}

/// `f` at a point, and the softmax of the logits there, `[n, s]`.
struct At {
    probabilities: Vec<f64>,
    value: f64,
}

impl Problem<'_> {
    fn zero(&self) -> Point {
        Point {
            a: vec![0.0; self.n * self.labels.len()],
            b: vec![0.0; self.n],
        }
    }

    /// `K A`, `[n, s]`.
    fn products(&self, point: &Point, products: &mut [f64]) {
        let s = self.labels.len();
        let (a, gram) = (Matrix::rows(&point.a, s), Matrix::rows(&self.gram, s));
        product_into([self.n, s, s], products, false, a, gram);
    }

    fn at(&self, point: &Point) -> At {
        let (s, n) = (self.labels.len(), self.n);
        let mut logits = vec![0.0; n * s];
        self.products(point, &mut logits);
        let penalty = 0.5 * dot(&point.a, &logits);
        for (row, intercept) in logits.chunks_mut(s).zip(&point.b) {
            row.iter_mut().for_each(|logit| *logit += intercept);
        }
        let mut fit = 0.0;
        for (item, &label) in self.labels.iter().enumerate() {
            let of_class = |class: usize| logits[class * s + item];
            let top = (0..n).map(of_class).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..n).map(|class| (of_class(class) - top).exp()).sum();
            let normaliser = top + sum.ln();
            fit -= of_class(label) - normaliser;
            for class in 0..n {
                let logit = &mut logits[class * s + item];
                *logit = (*logit - normaliser).exp();
            }
        }
        At {
            probabilities: logits,
            value: self.c * fit + penalty,
        }
    }

    /// Intercepts from what changes the logits `[n, s]`: its sums over the items, with mean 0 over the classes, as
    /// they are but for rounding. `f` does not change with what all intercepts have in common, so nothing would
    /// bring it back.
    fn intercepts(&self, moved: &[f64], intercepts: &mut [f64]) {
        let rows = moved.chunks(self.labels.len());
        for (sum, row) in intercepts.iter_mut().zip(rows) {
            *sum = row.iter().sum();
        }
        let mean = intercepts.iter().sum::<f64>() / self.n as f64;
        intercepts.iter_mut().for_each(|sum| *sum -= mean);
    }

    /// The gradient of `f`, in coefficients.
    fn gradient(&self, point: &Point, at: &At) -> Point {
        let s = self.labels.len();
        let mut gradient = self.zero();
        for (error, probability) in gradient.a.iter_mut().zip(&at.probabilities) {
            *error = self.c * probability;
        }
        for (item, &label) in self.labels.iter().enumerate() {
            gradient.a[label * s + item] -= self.c;
        }
        self.intercepts(&gradient.a, &mut gradient.b);
        add(&mut gradient.a, 1.0, &point.a);
        gradient
    }

    /// The second derivative of `f` times `direction`, whose `K A` are `products`, into `bent`.
    fn curvature(&self, at: &At, direction: &Point, products: &[f64], bent: &mut Point) {
        let s = self.labels.len();
        let mut sums = vec![0.0; s];
        let p = at.probabilities.chunks(s);
        let rows = bent.a.chunks_mut(s).zip(p).zip(products.chunks(s));
        for (((row, p), products), intercept) in rows.zip(&direction.b) {
            let items = row.iter_mut().zip(p).zip(products).zip(&mut sums);
            for (((weighted, p), product), sum) in items {
                *weighted = p * (product + intercept);
                *sum += *weighted;
            }
        }
        for (row, p) in bent.a.chunks_mut(s).zip(at.probabilities.chunks(s)) {
            for ((moved, p), sum) in row.iter_mut().zip(p).zip(&sums) {
                *moved = self.c * (*moved - p * sum);
            }
        }
        self.intercepts(&bent.a, &mut bent.b);
        add(&mut bent.a, 1.0, &direction.a);
    }

    /// The step of Newton's method against `gradient`, up to `tolerance` of its squared length, and the inner
    /// product of both.
    fn step(&self, at: &At, gradient: &Point, tolerance: f64) -> (Point, f64) {
        let mut rest = self.zero();
        rest.add(-1.0, gradient);
        let mut rest_products = vec![0.0; rest.a.len()];
        self.products(&rest, &mut rest_products);
        let first = inner(&rest, &rest, &rest_products);
        let gradient_products: Vec<f64> = rest_products.iter().map(|product| -product).collect();
        let (mut direction, mut products) = (rest.clone(), rest_products.clone());
        let (mut step, mut bent) = (self.zero(), self.zero());
        let mut squares = first;
        for _ in 0..PRODUCTS {
            if squares <= tolerance * first {
                break;
            }
            self.curvature(at, &direction, &products, &mut bent);
            let bend = inner(&bent, &direction, &products);
            // Rounding alone can bend downwards: there is no way on from there.
            if bend <= 0.0 {
                break;
            }
            let along = squares / bend;
            step.add(along, &direction);
            rest.add(-along, &bent);
            self.products(&rest, &mut rest_products);
            let next = inner(&rest, &rest, &rest_products);
            let turn = next / squares;
            for (product, rest) in products.iter_mut().zip(&rest_products) {
                *product = rest + turn * *product;
            }
            for (old, rest) in [(&mut direction.a, &rest.a), (&mut direction.b, &rest.b)] {
                for (old, rest) in old.iter_mut().zip(rest) {
                    *old = rest + turn * *old;
                }
            }
            squares = next;
        }
        let slope = inner(&step, gradient, &gradient_products);
        (step, slope)
    }

    /// The minimum of `f`.
    fn solve(&self) -> Point {
        let mut point = self.zero();
        let mut at = self.at(&point);
        let mut first = None;
        let mut products = vec![0.0; point.a.len()];
        for _ in 0..STEPS {
            let gradient = self.gradient(&point, &at);
            self.products(&gradient, &mut products);
            let squares = inner(&gradient, &gradient, &products);
            let start: f64 = *first.get_or_insert(squares);
            if squares <= start * TOLERANCE * TOLERANCE {
                break;
            }
            // Loosely solved far from the minimum, tightly near it.
            let (step, slope) = self.step(&at, &gradient, (squares / start).clamp(1e-12, 1e-2));
            let Some((next, next_at)) = self.search(&point, &at, &step, slope) else {
                break;
            };
            let fall = at.value - next_at.value;
            (point, at) = (next, next_at);
            if fall <= at.value.abs() * ROUNDING {
                break;
            }
        }
        point
    }

    /// The point after the longest step, halved as often as it takes, along which `f` falls by 10⁻⁴ of what its
    /// slope promises; none where rounding is all that is left.
    fn search(&self, point: &Point, at: &At, step: &Point, slope: f64) -> Option<(Point, At)> {
        let slack = at.value.abs() * ROUNDING;
        let mut length = 1.0;
        for _ in 0..HALVINGS {
            let mut next = point.clone();
            next.add(length, step);
            let next_at = self.at(&next);
            // What is not a number is not below either.
            if next_at.value <= at.value + 1e-4 * length * slope + slack {
                return Some((next, next_at));
            }
            length *= 0.5;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_same_for_any_threads, noise};
    use super::*;

    /// Inputs `[t, s, d]`, their products and labels.
    fn problem([t, s, n]: [usize; 3], d: usize) -> (Vec<f64>, Vec<f64>, Vec<usize>) {
        let inputs: Vec<f64> = noise(3, t * s * d);
        let mut gram = vec![0.0; t * s * s];
        for task in 0..t {
            for i in 0..s {
                for j in 0..s {
                    let row =
                        |item: usize| &inputs[(task * s + item) * d..(task * s + item + 1) * d];
                    gram[(task * s + i) * s + j] =
                        row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum();
                }
            }
        }
        let labels = (0..t * s).map(|item| item % n).collect();
        (inputs, gram, labels)
    }

    /// The gradient of `f` by `W` and `b` is 0 at the minimum, by the definition; also where there are more inputs
    /// than features, so that `K` is singular.
    #[test]
    fn the_gradient_is_zero() {
        for ([t, s, n], d, c) in [
            ([2, 15, 3], 40, 1.0),
            ([3, 20, 4], 6, 10.0),
            ([1, 6, 2], 3, 0.01),
        ] {
            let (inputs, gram, labels) = problem([t, s, n], d);
            let (a, b) = fit(&gram, &labels, [t, s, n], c);
            for task in 0..t {
                let x = |item: usize| &inputs[(task * s + item) * d..(task * s + item + 1) * d];
                let a = &a[task * n * s..(task + 1) * n * s];
                let b = &b[task * n..(task + 1) * n];
                assert!(b.iter().sum::<f64>().abs() < 1e-12);
                let weights: Vec<f64> = (0..n * d)
                    .map(|k| {
                        (0..s)
                            .map(|item| a[k / d * s + item] * x(item)[k % d])
                            .sum()
                    })
                    .collect();
                let mut gradient = [weights.clone(), vec![0.0; n]].concat();
                for item in 0..s {
                    let logit = |class: usize| -> f64 {
                        b[class]
                            + x(item)
                                .iter()
                                .zip(&weights[class * d..])
                                .map(|(x, w)| x * w)
                                .sum::<f64>()
                    };
                    let sum: f64 = (0..n).map(|class| logit(class).exp()).sum();
                    for class in 0..n {
                        let own = f64::from(u8::from(labels[task * s + item] == class));
                        let error = c * (logit(class).exp() / sum - own);
                        for (k, x) in x(item).iter().enumerate() {
                            gradient[class * d + k] += error * x;
                        }
                        gradient[n * d + class] += error;
                    }
                }
                let largest = gradient
                    .iter()
                    .fold(0.0f64, |most, part| most.max(part.abs()));
                // The first gradient is of the order of C s.
                assert!(largest < 1e-8 * c * s as f64, "{largest}");
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (_, gram, labels) = problem([7, 10, 5], 8);
        assert_same_for_any_threads(|| fit(&gram, &labels, [7, 10, 5], 1.0).0);
    }
}
