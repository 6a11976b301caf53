//! Draws from the distributions of tasks and beliefs, from a [`Stream`].

use meta_kernels::draws::normalise;

use crate::rng::Stream;

/// Gamma of that shape (at least 1) and scale 1, by the method of Marsaglia & Tsang (2000), "A Simple Method
/// for Generating Gamma Variables".
pub fn gamma(stream: &mut Stream, shape: f64) -> f64 {
    let d = shape.max(1.0) - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let z = stream.normal();
        let v = (1.0 + c * z).powi(3);
        // 1 − u is above 0, where the logarithm is finite.
        let u = 1.0 - stream.uniform();
        if v > 0.0 && u.ln() < 0.5 * z * z + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// Beta(a, b) for a, b of at least 1: X / (X + Y) with X ~ Gamma(a), Y ~ Gamma(b).
pub fn beta(stream: &mut Stream, a: f64, b: f64) -> f64 {
    let x = gamma(stream, a);
    let y = gamma(stream, b);
    x / (x + y)
}

/// Rows of Dirichlet(1, …, 1): each uniform over the distributions on `width` things.
pub fn flat_dirichlet(stream: &mut Stream, width: usize, rows: &mut [f64]) {
    stream.exponential(rows);
    normalise(width, rows);
}

/// Dirichlet with these concentrations, each at least 1.
pub fn dirichlet(stream: &mut Stream, concentrations: &[f64], to: &mut [f64]) {
    for (place, &concentration) in to.iter_mut().zip(concentrations) {
        match concentration {
            1.0 => stream.exponential(std::slice::from_mut(place)),
            shape => *place = gamma(stream, shape),
        }
    }
    normalise(to.len(), to);
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{Beta, ContinuousCDF, Gamma};

    use super::*;
    use crate::rng::Seed;

    /// The largest distance of the empirical distribution of `draws` from `cdf`, times the square root of
    /// their number: above 2.0 with probability 2·exp(−8) = 7e-4 (Kolmogorov).
    fn kolmogorov(mut draws: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
        draws.sort_by(f64::total_cmp);
        let n = draws.len() as f64;
        let distances = draws.iter().enumerate().map(|(rank, &draw)| {
            let at = cdf(draw);
            (at - rank as f64 / n)
                .abs()
                .max((at - (rank + 1) as f64 / n).abs())
        });
        distances.fold(0.0, f64::max) * n.sqrt()
    }

    /// The seed is fixed, so the tests are deterministic; a fresh one would raise a false alarm in 7e-4 of
    /// cases each.
    #[test]
    fn draws_have_their_distribution() {
        let mut stream = Seed(1).stream("distributions", 0, "test");
        for shape in [1.0, 2.5, 40.0] {
            let law = Gamma::new(shape, 1.0).unwrap();
            let draws = (0..20_000).map(|_| gamma(&mut stream, shape)).collect();
            assert!(kolmogorov(draws, |x| law.cdf(x)) < 2.0, "Gamma({shape})");
        }
        for (a, b) in [(1.0, 1.0), (3.0, 1.0), (20.0, 60.0)] {
            let law = Beta::new(a, b).unwrap();
            let draws = (0..20_000).map(|_| beta(&mut stream, a, b)).collect();
            assert!(kolmogorov(draws, |x| law.cdf(x)) < 2.0, "Beta({a}, {b})");
        }
        // A coordinate of Dirichlet(a) is Beta(a_i, Σ a − a_i).
        let mut place = [0.0; 4];
        let mut firsts = Vec::new();
        for _ in 0..20_000 {
            flat_dirichlet(&mut stream, 4, &mut place);
            assert!((place.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            firsts.push(place[2]);
        }
        let law = Beta::new(1.0, 3.0).unwrap();
        assert!(kolmogorov(firsts, |x| law.cdf(x)) < 2.0);
        let mut firsts = Vec::new();
        for _ in 0..20_000 {
            dirichlet(&mut stream, &[1.0, 5.0, 2.0, 1.0], &mut place);
            firsts.push(place[1]);
        }
        let law = Beta::new(5.0, 4.0).unwrap();
        assert!(kolmogorov(firsts, |x| law.cdf(x)) < 2.0);
    }
}
