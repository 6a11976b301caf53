//! What becomes of the columns of a task: skewed, in categories, with numbers that are missing.

use super::problem::whole;
use crate::rng::Stream;

/// How the columns of a task look.
pub(super) struct Columns {
    /// Share of columns that are skewed.
    pub skewed: f64,
    /// Share of columns that hold categories.
    pub categorical: f64,
    /// Fewest and most categories of such a column.
    pub categories: [usize; 2],
    /// Share of numbers that are missing.
    pub missing: f64,
}

impl Columns {
    /// Changes `inputs [rows, features]` in place; returns which numbers are there, where some are not.
    ///
    /// A skewed column is `sign(x) (e^|x| − 1)`, or `eˣ`; one of categories is the number of the interval
    /// that it falls into, in an order of its own.
    pub fn apply(
        &self,
        inputs: &mut [f64],
        features: usize,
        stream: &mut Stream,
    ) -> Option<Vec<bool>> {
        for feature in 0..features {
            let (kind, shape) = (stream.uniform(), stream.uniform());
            let column = || inputs.iter().skip(feature).step_by(features);
            if kind < self.categorical {
                let (low, high) = column().fold((f64::MAX, f64::MIN), |(low, high), &x| {
                    (low.min(x), high.max(x))
                });
                let count = whole(self.categories, stream);
                let cuts: Vec<f64> = (1..count).map(|_| stream.uniform_in(low, high)).collect();
                let mut codes: Vec<usize> = (0..count).collect();
                stream.shuffle(&mut codes);
                for x in inputs.iter_mut().skip(feature).step_by(features) {
                    let interval = cuts.iter().filter(|&&cut| cut < *x).count();
                    *x = codes[interval] as f64;
                }
            } else if kind < self.categorical + (1.0 - self.categorical) * self.skewed {
                for x in inputs.iter_mut().skip(feature).step_by(features) {
                    *x = match shape < 0.5 {
                        true => x.clamp(-10.0, 10.0).exp(),
                        false => x.signum() * (x.abs().min(10.0).exp() - 1.0),
                    };
                }
            }
        }
        (self.missing > 0.0).then(|| {
            let mut drawn = || stream.uniform() >= self.missing;
            (0..inputs.len()).map(|_| drawn()).collect()
        })
    }
}
