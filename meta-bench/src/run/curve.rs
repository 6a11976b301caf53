//! Keeps a curve of any length in bounded memory: means of stretches.

/// Points that are kept.
const MOST: usize = 256;

/// Means of stretches of equal length, in the order of their iterations.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Places and values of whole stretches.
    points: Vec<(f64, f64)>,
    /// Values in a stretch.
    length: usize,
    /// Of the stretch under way: how many, and the sums of places and values.
    begun: (usize, f64, f64),
}

impl Default for Curve {
    fn default() -> Self {
        Curve {
            points: Vec::new(),
            length: 1,
            begun: (0, 0.0, 0.0),
        }
    }
}

impl Curve {
    /// Adds a value; one that is not finite is left out.
    pub fn push(&mut self, x: f64, value: f64) {
        if !(x.is_finite() && value.is_finite()) {
            return;
        }
        let (count, places, values) = &mut self.begun;
        *count += 1;
        *places += x;
        *values += value;
        if *count < self.length {
            return;
        }
        let share = 1.0 / *count as f64;
        self.points.push((*places * share, *values * share));
        self.begun = (0, 0.0, 0.0);
        if self.points.len() == MOST {
            let pair = |pair: &[(f64, f64)]| {
                let sum = pair.iter().fold((0.0, 0.0), |sum, point| {
                    (sum.0 + point.0 / 2.0, sum.1 + point.1 / 2.0)
                });
                (sum.0, sum.1)
            };
            self.points = self.points.chunks_exact(2).map(pair).collect();
            self.length *= 2;
        }
    }

    /// Its points, from left to right.
    pub fn points(&self) -> Vec<(f64, f64)> {
        let mut points = self.points.clone();
        let (count, places, values) = self.begun;
        if count > 0 {
            points.push((places / count as f64, values / count as f64));
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_kept_of_any_number_of_values() {
        let mut curve = Curve::default();
        curve.push(1.0, f64::NAN);
        for x in 1..=3 {
            curve.push(f64::from(x), 2.0 * f64::from(x));
        }
        assert_eq!(curve.points(), [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)]);
        for x in 4..=100_000 {
            curve.push(f64::from(x), 2.0 * f64::from(x));
        }
        let points = curve.points();
        assert!(
            (MOST / 2..=MOST).contains(&points.len()),
            "{}",
            points.len()
        );
        assert!(points.is_sorted_by(|left, right| left.0 < right.0));
        for (x, value) in &points {
            assert!((value - 2.0 * x).abs() < 1e-6, "{x} {value}");
        }
        assert!(points[points.len() - 1].0 > 99_000.0);
    }
}
