//! Normal vectors with a given covariance, drawn and conditioned exactly in f64.

/// Share of the variance that is added to the diagonal, so that rounding leaves a covariance positive
/// definite: a deviation of 10⁻⁵ of the function's own.
pub(crate) const JITTER: f64 = 1e-10;

/// Lower triangular L with L Lᵀ = K, row by row.
#[derive(Clone, Debug)]
pub struct Cholesky {
    rows: Vec<Vec<f64>>,
}

impl Cholesky {
    /// Of the matrix with these entries, of which the lower half is read.
    pub fn new(size: usize, entry: impl Fn(usize, usize) -> f64) -> Self {
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(size);
        for i in 0..size {
            let mut row = Vec::with_capacity(i + 1);
            for j in 0..i {
                let before = dot(&row, &rows[j][..j]);
                row.push((entry(i, j) - before) / rows[j][j]);
            }
            row.push(
                (entry(i, i) - dot(&row, &row))
                    .max(f64::MIN_POSITIVE)
                    .sqrt(),
            );
            rows.push(row);
        }
        Cholesky { rows }
    }

    /// ln |K|.
    pub fn log_determinant(&self) -> f64 {
        let diagonal = self.rows.iter().filter_map(|row| row.last());
        2.0 * diagonal.map(|entry| entry.ln()).sum::<f64>()
    }

    /// L z.
    pub fn product(&self, z: &[f64]) -> Vec<f64> {
        self.rows.iter().map(|row| dot(row, z)).collect()
    }

    /// L⁻¹ b.
    pub fn solve(&self, b: &[f64]) -> Vec<f64> {
        let mut x = Vec::with_capacity(b.len());
        for (row, b) in self.rows.iter().zip(b) {
            let i = x.len();
            x.push((b - dot(&x, &row[..i])) / row[i]);
        }
        x
    }
}

/// Mean and variance of noisy values at the places from `y.len()` on, `count` of them, given the noisy
/// values `y` at the places before: `k(i, j)` is the covariance of the function at two places, `own` the
/// variance that a value shares with no other.
pub(crate) fn posterior(
    k: impl Fn(usize, usize) -> f64,
    own: f64,
    y: &[f64],
    count: usize,
) -> Vec<(f64, f64)> {
    let known = y.len();
    let factor = Cholesky::new(known, |i, j| k(i, j) + f64::from(i == j) * own);
    let whitened = factor.solve(y);
    let predict = |target: usize| {
        let cross: Vec<f64> = (0..known).map(|place| k(place, target)).collect();
        let cross = factor.solve(&cross);
        let mean = dot(&cross, &whitened);
        let variance = k(target, target) + own - dot(&cross, &cross);
        (mean, variance.max(f64::MIN_POSITIVE))
    };
    (known..known + count).map(predict).collect()
}

/// ln N(y; mean, variance).
pub(crate) fn log_density(y: f64, mean: f64, variance: f64) -> f64 {
    -0.5 * ((std::f64::consts::TAU * variance).ln() + (y - mean).powi(2) / variance)
}

/// Sum of products as far as both go.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
