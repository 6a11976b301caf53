//! How far probabilities can be believed: calibration, rejection and conformal sets, from scores on the host.
//!
//! Sources: temperature and expected calibration error, Guo et al., *On calibration of modern neural
//! networks*, ICML 2017; AUROC and the false positive rate at 95 % as figures of rejection, Hendrycks and
//! Gimpel, *A baseline for detecting misclassified and out-of-distribution examples*, ICLR 2017; split
//! conformal sets, Angelopoulos and Bates, *A gentle introduction to conformal prediction*, 2021, section 1.

use serde::{Deserialize, Serialize};

use crate::{
    rng::{Seed, Stream},
    stats::standard_deviation,
};

/// Bins of the expected calibration error, as in most published figures.
pub const BINS: usize = 15;

/// Temperatures that are looked for: beyond them probabilities are equal, or all but 0 and 1.
const LOWEST: f64 = 0.01;
const HIGHEST: f64 = 100.0;

/// `softmax(scores / T)`. A score of −∞ (a class that is not there) has the probability 0.
pub fn softmax(scores: &[f64], temperature: f64) -> Vec<f64> {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers = scores
        .iter()
        .map(|score| ((score - top) / temperature).exp());
    let powers: Vec<f64> = powers.collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// A query's class scores and its class.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Score of each class.
    pub scores: Vec<f64>,
    /// The right one.
    pub class: usize,
}

impl Scored {
    /// `−ln p(class)` at a temperature, in nats.
    pub fn negative_log_likelihood(&self, temperature: f64) -> f64 {
        let top = self
            .scores
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let powers = self.scores.iter();
        let sum: f64 = powers
            .map(|score| ((score - top) / temperature).exp())
            .sum();
        sum.ln() - (self.scores[self.class] - top) / temperature
    }

    /// The highest probability at a temperature, and whether its class (of equal ones the first) is right.
    pub fn confidence(&self, temperature: f64) -> Confidence {
        let probabilities = softmax(&self.scores, temperature);
        let better = |best: usize, next: usize| {
            if probabilities[next] > probabilities[best] {
                next
            } else {
                best
            }
        };
        let best = (0..probabilities.len()).reduce(better).unwrap_or(0);
        Confidence {
            probability: probabilities.get(best).copied().unwrap_or(f64::NAN),
            is_right: best == self.class,
        }
    }
}

/// How sure an answer was, and whether it was right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// The probability of the answer.
    pub probability: f64,
    /// Whether it was right.
    pub is_right: bool,
}

/// Answers by how sure they were.
#[derive(Clone, Debug, PartialEq)]
pub struct Reliability {
    /// Of each bin: answers, sum of their probabilities, and how many were right.
    bins: [(f64, f64, f64); BINS],
}

impl Reliability {
    /// Sorts answers into bins of equal width, each with its upper end.
    pub fn of(answers: impl IntoIterator<Item = Confidence>) -> Self {
        let mut bins = [(0.0, 0.0, 0.0); BINS];
        for answer in answers {
            let place = (answer.probability * BINS as f64).ceil() as usize;
            let bin = &mut bins[place.clamp(1, BINS) - 1];
            bin.0 += 1.0;
            bin.1 += answer.probability;
            bin.2 += f64::from(u8::from(answer.is_right));
        }
        Reliability { bins }
    }

    /// The answers of both.
    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, 1.0)
    }

    /// The answers without those of `other`, which are among them.
    pub fn minus(&self, other: &Self) -> Self {
        self.with(other, -1.0)
    }

    /// The calibration error over the answers of all episodes, with the jackknife's interval over episodes; none
    /// where there is no episode.
    pub fn pooled_error(episodes: &[Self]) -> Option<Pooled> {
        let (first, others) = episodes.split_first()?;
        let all = others.iter().fold(first.clone(), |all, own| all.plus(own));
        let without = episodes.iter().map(|own| all.minus(own).error());
        Some(Pooled::jackknife(all.error(), &without.collect::<Vec<_>>()))
    }

    fn with(&self, other: &Self, sign: f64) -> Self {
        let mut bins = self.bins;
        for (bin, other) in bins.iter_mut().zip(other.bins) {
            bin.0 += sign * other.0;
            bin.1 += sign * other.1;
            bin.2 += sign * other.2;
        }
        Reliability { bins }
    }

    /// Expected calibration error: `Σ_b n_b/n |accuracy_b − confidence_b|`.
    pub fn error(&self) -> f64 {
        let total: f64 = self.bins.iter().map(|bin| bin.0).sum();
        let gaps = self.bins.iter().map(|(_, sum, right)| (right - sum).abs());
        gaps.sum::<f64>() / total.max(1.0)
    }
}

/// The temperature with the least negative log-likelihood of these queries, between 0.01 and 100; 1 without
/// queries.
///
/// The likelihood is concave in `β = 1/T`, with the derivative `Σ z_class − E_p(z)`, whose sign is halved for.
pub fn temperature(queries: &[Scored]) -> f64 {
    let rise = |temperature: f64| -> f64 {
        let of_query = |query: &Scored| {
            let probabilities = softmax(&query.scores, temperature);
            let top = query
                .scores
                .iter()
                .copied()
                .fold(f64::NEG_INFINITY, f64::max);
            let terms = probabilities.iter().zip(&query.scores);
            let mean: f64 = terms
                .filter(|(probability, _)| **probability > 0.0)
                .map(|(probability, score)| probability * (score - top))
                .sum();
            query.scores[query.class] - top - mean
        };
        queries.iter().map(of_query).sum()
    };
    if queries.is_empty() {
        return 1.0;
    }
    let (mut low, mut high) = (LOWEST.ln(), HIGHEST.ln());
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        // Where the likelihood rises with β, the temperature is lower.
        if rise(middle.exp()) > 0.0 {
            high = middle;
        } else {
            low = middle;
        }
    }
    (0.5 * (low + high)).exp()
}

/// Area under the curve of true over false positives: the probability that one of `inside` has a higher score
/// than one of `outside`, of equal ones a half. None where either is empty.
pub fn auroc(inside: &[f64], outside: &[f64]) -> Option<f64> {
    if inside.is_empty() || outside.is_empty() {
        return None;
    }
    let mut all: Vec<(f64, bool)> = inside.iter().map(|&score| (score, true)).collect();
    all.extend(outside.iter().map(|&score| (score, false)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut sum, mut below) = (0.0, 0.0);
    for equal in all.chunk_by(|a, b| a.0 == b.0) {
        let ours = equal.iter().filter(|(_, inside)| *inside).count() as f64;
        let others = equal.len() as f64 - ours;
        sum += ours * (below + 0.5 * others);
        below += others;
    }
    Some(sum / (inside.len() as f64 * outside.len() as f64))
}

/// The highest threshold that at least a `share` of `inside` reaches; none where it is empty.
pub fn threshold(inside: &[f64], share: f64) -> Option<f64> {
    let mut sorted = inside.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let wanted = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(wanted.clamp(1, sorted.len().max(1)) - 1)
        .copied()
}

/// Share of scores that reach a threshold.
pub fn share_reaching(scores: &[f64], threshold: f64) -> f64 {
    let count = scores.iter().filter(|&&score| score >= threshold).count();
    count as f64 / scores.len().max(1) as f64
}

/// The quantile of conformal prediction for the next group: groups (classes, tasks) are exchangeable, the scores
/// of nonconformity in one are not with those of others. Of `K` groups, each score of group `k` weighs
/// `1 / ((K + 1) n_k)`, and `1 / (K + 1)` is at infinity; the smallest score up to which the weights come to
/// `1 − α` is not below that of an item of the next group with a probability of at least `1 − α` (Lee, Barber and
/// Willett, *Distribution-free inference with hierarchical data*, 2023, equation 5). With one score a group it is
/// split conformal prediction, the `⌈(K + 1)(1 − α)⌉`-th smallest. Infinite where there are too few groups; empty
/// ones do not count.
pub fn conformal_quantile<'a>(groups: impl IntoIterator<Item = &'a [f64]>, alpha: f64) -> f64 {
    let groups: Vec<&[f64]> = groups.into_iter().collect();
    Grouped::of(&groups).quantile(&vec![1; groups.len()], alpha)
}

/// The scores of some groups in ascending order.
struct Grouped {
    /// Score and group.
    scores: Vec<(f64, usize)>,
    /// How many are of each group.
    sizes: Vec<usize>,
}

impl Grouped {
    fn of(groups: &[&[f64]]) -> Self {
        let scores = groups.iter().enumerate();
        let mut scores: Vec<(f64, usize)> = scores
            .flat_map(|(place, group)| group.iter().map(move |&score| (score, place)))
            .collect();
        scores.sort_by(|a, b| a.0.total_cmp(&b.0));
        Grouped {
            scores,
            sizes: groups.iter().map(|group| group.len()).collect(),
        }
    }

    /// [`conformal_quantile`] of the groups, each as often as `times` says.
    fn quantile(&self, times: &[usize], alpha: f64) -> f64 {
        let there = self.sizes.iter().zip(times).filter(|(size, _)| **size > 0);
        let groups: usize = there.map(|(_, times)| times).sum();
        // Of sums that are whole but for rounding.
        let wanted = (groups + 1) as f64 * (1.0 - alpha) - 1e-9;
        let mut sum = 0.0;
        for &(score, group) in &self.scores {
            sum += times[group] as f64 / self.sizes[group] as f64;
            if sum >= wanted {
                return score;
            }
        }
        f64::INFINITY
    }
}

/// Draws of the bootstrap.
const DRAWS: u64 = 400;

/// How often scores of nonconformity of the groups of a test are not above [`conformal_quantile`] of other groups,
/// on average over the groups of the test. The interval is 1.96 standard deviations of the bootstrap that draws
/// anew both: which groups calibration happened to see moves the figure as much as which groups are tested
/// (Efron and Tibshirani, *An introduction to the bootstrap*, 1993, section 8.3).
pub fn coverage(calibration: &[Vec<f64>], test: &[Vec<f64>], alpha: f64) -> Pooled {
    let grouped = Grouped::of(&calibration.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let mut test = test.to_vec();
    test.iter_mut()
        .for_each(|group| group.sort_by(f64::total_cmp));
    let covered = |calibration_times: &[usize], test_times: &[usize]| {
        let quantile = grouped.quantile(calibration_times, alpha);
        let groups = test.iter().zip(test_times);
        let shares = groups.map(|(group, &times)| {
            let below = group.partition_point(|&score| score <= quantile);
            times as f64 * below as f64 / group.len().max(1) as f64
        });
        shares.sum::<f64>() / test_times.iter().sum::<usize>().max(1) as f64
    };
    let drawn = |groups: usize, stream: &mut Stream| {
        let mut times = vec![0; groups];
        (0..groups).for_each(|_| times[stream.below(groups)] += 1);
        times
    };
    let again: Vec<f64> = (0..DRAWS)
        .map(|draw| {
            let mut stream = Seed(0).stream("coverage", draw, "bootstrap");
            let of_calibration = drawn(calibration.len(), &mut stream);
            covered(&of_calibration, &drawn(test.len(), &mut stream))
        })
        .collect();
    Pooled {
        mean: covered(&vec![1; calibration.len()], &vec![1; test.len()]),
        ci95: 1.96 * standard_deviation(&again),
    }
}

/// A figure over all queries of some episodes, with a 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pooled {
    /// The figure.
    pub mean: f64,
    /// Half of the interval's width.
    pub ci95: f64,
}

impl Pooled {
    /// The figure of all episodes, with the jackknife's interval (Efron and Stein, 1981): from `without`, the
    /// figure when one episode is left out, for each; `1.96 √((n−1)/n Σ (θ_i − θ̄)²)`.
    pub fn jackknife(all: f64, without: &[f64]) -> Self {
        let n = without.len() as f64;
        let mean = without.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = without.iter().map(|value| (value - mean).powi(2)).sum();
        let ci95 = match without.len() {
            0 | 1 => f64::INFINITY,
            _ => 1.96 * ((n - 1.0) / n * squares).sqrt(),
        };
        Pooled { mean: all, ci95 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    fn scored(scores: &[f64], class: usize) -> Scored {
        Scored {
            scores: scores.to_vec(),
            class,
        }
    }

    #[test]
    fn a_class_that_is_not_there_has_no_probability() {
        let found = softmax(&[3f64.ln(), 0.0, f64::NEG_INFINITY], 1.0);
        assert!((found[0] - 0.75).abs() < 1e-15 && (found[1] - 0.25).abs() < 1e-15);
        assert_eq!(found[2], 0.0);
        let halved = softmax(&[9f64.ln(), 0.0], 2.0);
        assert!((halved[0] - 0.75).abs() < 1e-15);
    }

    /// Of queries with scores (z, 0) of which a share s is of the first class, the likeliest probability is s:
    /// `T = z / ln(s / (1 − s))`.
    #[test]
    fn the_temperature_has_its_closed_form() {
        let queries: Vec<Scored> = (0..10)
            .map(|query| scored(&[4.0, 0.0], usize::from(query >= 8)))
            .collect();
        let expected = 4.0 / 4f64.ln();
        let found = temperature(&queries);
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        assert_eq!(temperature(&[]), 1.0);
        // Always right: as sure as allowed.
        assert!((temperature(&queries[..8]) - LOWEST).abs() < 1e-9);
    }

    #[test]
    fn the_expected_calibration_error_by_hand() {
        let answer = |probability, is_right| Confidence {
            probability,
            is_right,
        };
        let answers = [
            answer(0.90, true),
            answer(0.92, false),
            answer(0.3, false),
            answer(1.0, true),
        ];
        let all = Reliability::of(answers);
        // Bins (13/15, 14/15], (4/15, 5/15] and (14/15, 1]: |1 − 1.82|, |0 − 0.3| and |1 − 1|, over 4.
        assert!((all.error() - (0.82 + 0.3) / 4.0).abs() < 1e-12);
        let one = Reliability::of([answers[2]]);
        let rest = Reliability::of([answers[0], answers[1], answers[3]]);
        assert!((all.minus(&one).error() - rest.error()).abs() < 1e-12);
        assert!((one.plus(&rest).error() - all.error()).abs() < 1e-12);
    }

    #[test]
    fn figures_of_rejection_by_hand() {
        assert_eq!(auroc(&[2.0, 3.0], &[1.0, 0.0]), Some(1.0));
        assert_eq!(auroc(&[1.0], &[1.0]), Some(0.5));
        assert_eq!(auroc(&[1.0, 3.0], &[2.0]), Some(0.5));
        assert_eq!(auroc(&[], &[1.0]), None);
        let inside: Vec<f64> = (0..20).map(f64::from).collect();
        assert_eq!(threshold(&inside, 0.95), Some(1.0));
        assert_eq!(threshold(&inside, 1.0), Some(0.0));
        assert_eq!(threshold(&[], 0.95), None);
        assert_eq!(share_reaching(&inside, 1.0), 0.95);
    }

    /// Over many draws, the next score is not above the quantile in at least 1 − α of them, and in at most
    /// 1/(n + 1) more.
    #[test]
    fn conformal_quantiles_cover() {
        let (alpha, n, draws) = (0.1, 50, 20_000);
        let mut stream = Seed(3).stream("conformal", 0, "test");
        let mut covered = 0;
        for _ in 0..draws {
            let scores: Vec<f64> = (0..n).map(|_| stream.uniform()).collect();
            let quantile = conformal_quantile(scores.chunks(1), alpha);
            covered += usize::from(stream.uniform() <= quantile);
        }
        let found = covered as f64 / draws as f64;
        // The exact coverage is 46/51; five standard errors of 20 000 draws are 0.011.
        assert!((found - 46.0 / 51.0).abs() < 0.011, "{found}");
        assert_eq!(conformal_quantile([0.3; 5].chunks(1), 0.1), f64::INFINITY);
        assert_eq!(conformal_quantile([1.0, 2.0, 3.0, 4.0].chunks(1), 0.2), 4.0);
    }

    /// Groups that lie apart: an item of the next group is covered in at least 1 − α of the draws. As if all
    /// scores were of one group, it is not.
    #[test]
    fn conformal_quantiles_cover_the_next_group() {
        let (alpha, groups, each, draws) = (0.1, 12, 15, 4000);
        let mut stream = Seed(4).stream("conformal", 0, "groups");
        let mut covered = [0, 0];
        for _ in 0..draws {
            let mut group = || -> Vec<f64> {
                let place = 4.0 * stream.normal();
                (0..each).map(|_| place + stream.normal()).collect()
            };
            let seen: Vec<Vec<f64>> = (0..groups).map(|_| group()).collect();
            let next = group()[0];
            let all: Vec<f64> = seen.concat();
            let quantiles = [
                conformal_quantile(seen.iter().map(Vec::as_slice), alpha),
                conformal_quantile(all.chunks(1), alpha),
            ];
            for (covered, quantile) in covered.iter_mut().zip(quantiles) {
                *covered += usize::from(next <= quantile);
            }
        }
        let [grouped, pooled] = covered.map(|count| count as f64 / draws as f64);
        // Three standard errors of 4000 draws are 0.014.
        assert!(grouped > 0.9 - 0.014, "{grouped}");
        assert!(pooled < 0.9 - 0.014, "{pooled}");
    }

    /// Of 100 groups of one score each, `⌈101 · 0.9⌉ = 91` are covered. Where both splits are drawn anew, the share
    /// varies by the binomial of either, `2 · 0.9 · 0.1 / 100`.
    #[test]
    fn coverage_varies_with_both_splits() {
        let groups: Vec<Vec<f64>> = (0..100).map(|place| vec![f64::from(place)]).collect();
        let found = coverage(&groups, &groups, 0.1);
        assert!((found.mean - 0.91).abs() < 1e-12, "{found:?}");
        let expected = 1.96 * (2.0 * 0.09 / 100.0_f64).sqrt();
        // Of 400 draws a deviation is known to 4 %; steps of the quantile add some.
        assert!(
            (found.ci95 / expected - 1.0).abs() < 0.2,
            "{found:?} {expected}"
        );
    }

    /// Of a mean, the jackknife's variance is that of the mean: `s²/n`.
    #[test]
    fn the_jackknife_of_a_mean() {
        let values = [1.0, 2.0, 4.0, 9.0];
        let total: f64 = values.iter().sum();
        let without: Vec<f64> = values.iter().map(|value| (total - value) / 3.0).collect();
        let found = Pooled::jackknife(4.0, &without);
        let variance = (9.0 + 4.0 + 0.0 + 25.0) / 3.0 / 4.0;
        assert!((found.ci95 - 1.96 * f64::sqrt(variance)).abs() < 1e-12);
    }
}
