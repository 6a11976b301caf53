//! Means, confidence intervals and paired tests: what a reported number needs around it.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// `Φ(x)`, the share of a standard normal below `x`.
pub fn normal_below(x: f64) -> f64 {
    0.5 * statrs::function::erf::erfc(-x / std::f64::consts::SQRT_2)
}

/// Arithmetic mean; not a number for an empty slice.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample standard deviation, with the n − 1 of Bessel's correction; not a number below two values.
///
/// The sum of squares is taken around the mean (two passes), so values far from zero lose no digits.
pub fn standard_deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return f64::NAN;
    }
    let centre = mean(values);
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

/// The middle value, or the mean of the two middle values; not a number for an empty slice.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => 0.5 * (sorted[middle - 1] + sorted[middle]),
    }
}

/// How the half-width of an [`Interval`] was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IntervalMethod {
    /// Student's t on the sample mean: half-width = `q · s / √n`, where `q` is the (1 + level)/2
    /// quantile of t with n − 1 degrees of freedom and `s` the sample standard deviation.
    #[serde(rename = "t")]
    StudentT,
}

impl std::fmt::Display for IntervalMethod {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            IntervalMethod::StudentT => "t",
        })
    }
}

/// A mean with its confidence interval, in the unit of the values. Displays as `97.31 ± 0.42`
/// (`{:.1}` sets the digits).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Mean of the values.
    pub mean: f64,
    /// Half the width of the interval, which is `mean ± half_width`. Infinite for a single value and
    /// not a number for none; JSON writes both as `null`, which is read back as infinite.
    #[serde(deserialize_with = "null_is_infinite")]
    pub half_width: f64,
    /// Confidence level, in (0, 1).
    pub level: f64,
    /// How the half-width was computed.
    pub method: IntervalMethod,
    /// Number of values.
    pub n: usize,
}

fn null_is_infinite<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
}

impl Interval {
    /// The 95 % confidence interval of the mean of `values` by Student's t. The values must be
    /// independent: one accuracy per episode, not one per query.
    ///
    /// ```
    /// use meta_core::stats::Interval;
    /// let interval = Interval::t95(&[96.0, 98.0, 97.0]);
    /// assert_eq!(interval.to_string(), "97.00 ± 2.48");
    /// ```
    pub fn t95(values: &[f64]) -> Self {
        let level = 0.95;
        let n = values.len();
        let half_width = match n {
            0 => f64::NAN,
            1 => f64::INFINITY,
            _ => {
                student_t(n - 1).inverse_cdf(0.5 * (1.0 + level)) * standard_deviation(values)
                    / (n as f64).sqrt()
            }
        };
        Interval {
            mean: mean(values),
            half_width,
            level,
            method: IntervalMethod::StudentT,
            n,
        }
    }

    /// The same interval in another unit: `factor = 100.0` turns fractions into per cent.
    pub fn scaled(self, factor: f64) -> Self {
        Interval {
            mean: self.mean * factor,
            half_width: self.half_width * factor.abs(),
            ..self
        }
    }

    /// Lower end of the interval.
    pub fn low(&self) -> f64 {
        self.mean - self.half_width
    }

    /// Upper end of the interval.
    pub fn high(&self) -> f64 {
        self.mean + self.half_width
    }
}

impl std::fmt::Display for Interval {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = formatter.precision().unwrap_or(2);
        write!(
            formatter,
            "{:.digits$} ± {:.digits$}",
            self.mean, self.half_width
        )
    }
}

/// Result of a paired comparison, see [`paired_t`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Mean of the differences a − b with its 95 % confidence interval.
    pub difference: Interval,
    /// Two-sided p-value of Student's paired t-test of "no difference".
    pub p_value: f64,
}

/// Compares two learners on the same episodes: Student's paired t-test on `a[i] − b[i]`.
///
/// A difference that rounding explains is zero ([`exceeds`]). The p-value is 1 for fewer than two pairs
/// or when all differences are zero, and 0 when all differences are the same non-zero number.
///
/// # Panics
/// If the slices differ in length: values that belong to different episodes cannot be paired.
pub fn paired_t(a: &[f64], b: &[f64]) -> Paired {
    assert_eq!(
        a.len(),
        b.len(),
        "paired_t: {} values of a but {} values of b",
        a.len(),
        b.len()
    );
    let differences: Vec<f64> = differences(a, b).map(|(value, _)| value).collect();
    let difference = Interval::t95(&differences);
    let n = differences.len();
    let standard_error = standard_deviation(&differences) / (n as f64).sqrt();
    let p_value = if n < 2 || (standard_error == 0.0 && difference.mean == 0.0) {
        1.0
    } else if standard_error == 0.0 {
        0.0
    } else {
        2.0 * student_t(n - 1).sf((difference.mean / standard_error).abs())
    };
    Paired {
        difference,
        p_value,
    }
}

/// Part of a number by which rounding may have moved it: the mean of a hundred rounded fractions is within
/// a tenth of it.
const ROUNDING: f64 = 1e-13;

/// How far rounding may have moved the difference of `a` and `b`; nothing where one of them is infinite.
fn rounding(a: f64, b: f64) -> f64 {
    let larger = a.abs().max(b.abs());
    if larger.is_finite() {
        ROUNDING * larger
    } else {
        0.0
    }
}

/// Whether `a` is larger than `b` by more than rounding explains, which is 10⁻¹³ of the larger one. What is
/// not a number is never larger.
///
/// ```
/// use meta_core::stats::exceeds;
/// assert!(exceeds(0.3, 0.29));
/// assert!(0.1 + 0.2 > 0.3 && !exceeds(0.1 + 0.2, 0.3));
/// ```
pub fn exceeds(a: f64, b: f64) -> bool {
    a - b > rounding(a, b)
}

/// `a[i] − b[i]`, 0 where rounding explains it, and how far rounding may have moved it.
fn differences(a: &[f64], b: &[f64]) -> impl Iterator<Item = (f64, f64)> {
    a.iter().zip(b).map(|(&a, &b)| {
        let tolerance = rounding(a, b);
        let difference = a - b;
        let zero = difference.abs() <= tolerance;
        (if zero { 0.0 } else { difference }, tolerance)
    })
}

/// Compares two learners on the same episodes by Wilcoxon's signed-rank test on `a[i] − b[i]`, which
/// asks for no normal distribution. The interval is that of [`paired_t`], of the mean difference; the
/// p-value is that of [`signed_rank_p`].
///
/// Differences that rounding explains are zero ([`exceeds`]), and two differences are equal when rounding
/// explains what they differ by. Scores that are counts have a test without that tolerance:
/// [`signed_rank_p`] of their differences.
///
/// # Panics
/// If the slices differ in length: values that belong to different episodes cannot be paired.
pub fn paired_wilcoxon(a: &[f64], b: &[f64]) -> Paired {
    let difference = paired_t(a, b).difference;
    let mut sorted: Vec<(f64, f64)> = differences(a, b).collect();
    sorted.sort_by(|(a, _), (b, _)| a.abs().total_cmp(&b.abs()));
    // The test asks for the order of the sizes alone: a number for each of them that differs.
    let (mut level, mut before) = (0, (0.0, 0.0));
    let levels = sorted.into_iter().map(|(value, tolerance)| {
        let size = value.abs();
        if size - before.0 > tolerance.max(before.1) {
            level += 1;
        }
        before = (size, tolerance);
        if value < 0.0 { -level } else { level }
    });
    let levels: Vec<i64> = levels.collect();
    Paired {
        difference,
        p_value: signed_rank_p(&levels),
    }
}

/// Two-sided p-value of Wilcoxon's signed-rank test of `differences` that are exact: of counts, say.
///
/// Zeros are left out, and equal sizes share their mean rank. The p-value is exact for up to 25
/// differences without ties, and normal beyond, with the variance corrected for ties and a continuity
/// correction of ½: SciPy's `wilcoxon(…, correction=True, method="asymptotic")`. It is 1 when all
/// differences are zero (Wilcoxon 1945; Hollander and Wolfe, *Nonparametric statistical methods*, section
/// 3.1).
///
/// ```
/// use meta_core::stats::signed_rank_p;
/// assert_eq!(signed_rank_p(&[3, 1, 2, 0, 5, 4]), 2.0 / 32.0);
/// ```
pub fn signed_rank_p(differences: &[i64]) -> f64 {
    let mut differences: Vec<i64> = differences
        .iter()
        .copied()
        .filter(|difference| *difference != 0)
        .collect();
    let n = differences.len();
    if n == 0 {
        return 1.0;
    }
    differences.sort_by_key(|difference| difference.unsigned_abs());
    // Sum of the ranks of positive differences, and of t³ − t over groups of t equal ones.
    let (mut positive, mut ties) = (0.0, 0.0);
    let mut start = 0;
    for group in differences.chunk_by(|a, b| a.unsigned_abs() == b.unsigned_abs()) {
        let equal = group.len() as f64;
        let rank = start as f64 + 0.5 * (equal + 1.0);
        positive += rank * group.iter().filter(|value| **value > 0).count() as f64;
        ties += equal.powi(3) - equal;
        start += group.len();
    }
    let count = n as f64;
    let largest = 0.5 * count * (count + 1.0);
    let lower = positive.min(largest - positive);
    if n <= 25 && ties == 0.0 {
        // ways[s]: subsets of the ranks 1..=n with sum s.
        let mut ways = vec![0.0; n * (n + 1) / 2 + 1];
        ways[0] = 1.0;
        for rank in 1..=n {
            for sum in (rank..ways.len()).rev() {
                ways[sum] += ways[sum - rank];
            }
        }
        let below: f64 = ways[..=lower as usize].iter().sum();
        return (2.0 * below / 2f64.powf(count)).min(1.0);
    }
    let variance = count * (count + 1.0) * (2.0 * count + 1.0) / 24.0 - ties / 48.0;
    let distance = (0.5 * largest - lower - 0.5).max(0.0);
    statrs::function::erf::erfc(distance / (2.0 * variance).sqrt())
}

/// Corrects p-values of several tests so that the chance of any false alarm stays below the level at
/// which they are read (Holm, *A simple sequentially rejective multiple test procedure*, 1979): the
/// i-th smallest of `m`, counted from 0, times `m − i`, never below the one before, at most 1.
///
/// ```
/// use meta_core::stats::holm;
/// assert_eq!(holm(&[0.01, 0.5, 0.25]), [0.03, 0.5, 0.5]);
/// ```
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut corrected = vec![0.0; p_values.len()];
    let mut before = 0.0f64;
    for (position, &index) in order.iter().enumerate() {
        let factor = (p_values.len() - position) as f64;
        before = before.max((factor * p_values[index]).min(1.0));
        corrected[index] = before;
    }
    corrected
}

fn student_t(degrees_of_freedom: usize) -> StudentsT {
    StudentsT::new(0.0, 1.0, degrees_of_freedom as f64)
        .expect("callers pass at least one degree of freedom")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b} ± {tolerance}");
    }

    #[test]
    fn mean_median_and_deviation_match_closed_forms() {
        // 1..=n has mean (n+1)/2 and sample variance n(n+1)/12.
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        close(mean(&values), 5.5, 1e-15);
        close(median(&values), 5.5, 1e-15);
        close(standard_deviation(&values), (110.0f64 / 12.0).sqrt(), 1e-14);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        // Two passes: an offset of 1e9 costs no digits of the deviation.
        let shifted: Vec<f64> = values.iter().map(|value| value + 1e9).collect();
        close(
            standard_deviation(&shifted),
            (110.0f64 / 12.0).sqrt(),
            1e-14,
        );
        assert!(mean(&[]).is_nan() && median(&[]).is_nan() && standard_deviation(&[1.0]).is_nan());
    }

    /// Quantiles t₀.₉₇₅ of the NIST/SEMATECH e-Handbook, table 1.3.6.7.2 (three decimals), with the
    /// closed forms tan(0.475π) for one and 2α√(2/(1−4α²)), α = 0.475, for two degrees of freedom.
    #[test]
    fn half_width_uses_the_t_quantile() {
        let table = [
            (1, (0.475 * std::f64::consts::PI).tan(), 1e-6),
            (2, 0.95 * (2.0 / (1.0 - 0.95f64.powi(2))).sqrt(), 1e-6),
            (4, 2.776, 5e-4),
            (9, 2.262, 5e-4),
            (29, 2.045, 5e-4),
            (99, 1.984, 5e-4),
            (599, 1.964, 5e-4),
        ];
        for (freedom, quantile, tolerance) in table {
            let values: Vec<f64> = (0..=freedom).map(f64::from).collect();
            let interval = Interval::t95(&values);
            let standard_error = standard_deviation(&values) / f64::from(freedom + 1).sqrt();
            close(interval.half_width / standard_error, quantile, tolerance);
            assert_eq!(interval.n, values.len());
            assert_eq!(interval.method.to_string(), "t");
        }
    }

    #[test]
    fn intervals_display_scale_and_survive_json() {
        let interval = Interval::t95(&[0.96, 0.98, 0.97]).scaled(100.0);
        assert_eq!(interval.to_string(), "97.00 ± 2.48");
        assert_eq!(format!("{interval:.1}"), "97.0 ± 2.5");
        close(interval.low() + interval.high(), 194.0, 1e-12);
        let json = serde_json::to_string(&interval).expect("serialises");
        assert!(json.contains("\"method\":\"t\""));
        assert_eq!(
            serde_json::from_str::<Interval>(&json).expect("parses"),
            interval
        );
        let single = Interval::t95(&[1.0]);
        let json = serde_json::to_string(&single).expect("serialises");
        assert_eq!(
            serde_json::from_str::<Interval>(&json).expect("parses"),
            single
        );
    }

    /// Student (1908), "The probable error of a mean", the additional hours of sleep of ten patients
    /// under two drugs (R's `sleep`): R's `t.test(paired = TRUE)` prints t = −4.0621, df = 9,
    /// p = 0.002833, 95 % interval −2.4598858 to −0.7001142.
    #[test]
    fn paired_t_matches_students_sleep_data() {
        let first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        let paired = paired_t(&first, &second);
        close(paired.difference.mean, -1.58, 1e-12);
        close(paired.difference.low(), -2.459_885_8, 1e-6);
        close(paired.difference.high(), -0.700_114_2, 1e-6);
        close(paired.p_value, 0.002_833, 5e-7);
    }

    #[test]
    fn paired_t_handles_its_edges() {
        assert_eq!(paired_t(&[1.0, 2.0], &[1.0, 2.0]).p_value, 1.0);
        assert_eq!(paired_t(&[2.0, 3.0], &[1.0, 2.0]).p_value, 0.0);
        assert_eq!(paired_t(&[2.0], &[1.0]).p_value, 1.0);
    }

    /// Hamilton's depression scale, times 100, of nine patients before and after (Hollander and Wolfe
    /// 1973, p. 29): R's documentation of `wilcox.test` has V = 40 and a one-sided p = 0.01953, which
    /// is 10 / 2⁹. Student's sleep data has ties and a zero: R's normal approximation with continuity
    /// correction prints p = 0.009091.
    #[test]
    fn wilcoxon_matches_published_examples() {
        let before = [183.0, 50.0, 162.0, 248.0, 168.0, 188.0, 155.0, 306.0, 130.0];
        let after = [87.8, 64.7, 59.8, 205.0, 106.0, 129.0, 106.0, 314.0, 129.0];
        close(
            paired_wilcoxon(&before, &after).p_value,
            2.0 * 10.0 / 512.0,
            1e-12,
        );
        let first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        let paired = paired_wilcoxon(&first, &second);
        close(paired.p_value, 0.009_091, 5e-7);
        assert_eq!(paired.difference, paired_t(&first, &second).difference);
        assert_eq!(paired_wilcoxon(&first, &first).p_value, 1.0);
        close(
            paired_wilcoxon(&second, &first).p_value,
            paired.p_value,
            0.0,
        );
    }

    /// What `tests/oracles/wilcoxon.py` wrote by SciPy: differences of counts, full of ties and zeros.
    #[derive(Deserialize)]
    struct Oracle {
        /// The counts are out of so many.
        out_of: i64,
        a: Vec<i64>,
        b: Vec<i64>,
        p: f64,
    }

    fn oracles() -> Vec<Oracle> {
        serde_json::from_str(include_str!("../tests/oracles/wilcoxon.json")).expect("the oracles")
    }

    fn fractions(counts: &[i64], out_of: i64) -> Vec<f64> {
        let fraction = |count: &i64| *count as f64 / out_of as f64;
        counts.iter().map(fraction).collect()
    }

    #[test]
    fn ties_and_zeros_are_those_of_the_counts() {
        let all = oracles();
        assert!(all.len() > 100);
        for Oracle { out_of, a, b, p } in all {
            let gaps: Vec<i64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
            // What the normal tail of `statrs` is off by; other ties move the p-value by 1e-4 and more.
            let tolerance = 1e-9;
            close(signed_rank_p(&gaps), p, tolerance);
            // The same from fractions, which are rounded.
            let (x, y) = (fractions(&a, out_of), fractions(&b, out_of));
            close(paired_wilcoxon(&x, &y).p_value, p, tolerance);
        }
        // In fifteenths, as four equal differences are three different ones in binary.
        let a = [14, 11, 11, 7, 14, 13, 8, 6, 13, 8, 6, 11];
        let b = [13, 10, 12, 5, 12, 12, 7, 5, 12, 7, 5, 12];
        let paired = paired_wilcoxon(&fractions(&a, 15), &fractions(&b, 15));
        close(paired.p_value, 0.0209, 5e-5);
    }

    #[test]
    fn what_rounding_made_decides_nothing() {
        let tenths: Vec<f64> = (0..20).map(|tenth| f64::from(tenth) * 0.1).collect();
        let sums: Vec<f64> = (0..20)
            .map(|tenths| (0..tenths).map(|_| 0.1).sum())
            .collect();
        assert_ne!(tenths, sums);
        assert_eq!(paired_t(&tenths, &sums).p_value, 1.0);
        assert_eq!(paired_wilcoxon(&tenths, &sums).p_value, 1.0);
        assert!(!exceeds(0.1 + 0.2, 0.3) && exceeds(0.3 + 1e-9, 0.3));
        assert!(exceeds(f64::INFINITY, 1.0) && exceeds(1.0, f64::NEG_INFINITY));
        assert!(!exceeds(f64::INFINITY, f64::INFINITY) && !exceeds(f64::NAN, 0.0));
    }

    proptest::proptest! {
        /// Whatever counts are divided by, by how many seeds they are averaged, and in which order they
        /// come: the p-value is that of the counts, and the same for both directions.
        #[test]
        fn the_p_value_of_rounded_fractions_is_that_of_counts(
            pairs in proptest::collection::vec((12i64..50, 12i64..50), 1..60),
            out_of in 61i64..1000,
            seeds in 1i64..12,
        ) {
            let gaps: Vec<i64> = pairs.iter().map(|(a, b)| a - b).collect();
            let expected = signed_rank_p(&gaps);
            // Seeds that scored as many more as others scored less.
            let over_seeds = |count: i64| {
                let scores = (0..seeds).map(|seed| count + 2 * seed - (seeds - 1));
                mean(&fractions(&scores.collect::<Vec<i64>>(), out_of))
            };
            let a: Vec<f64> = pairs.iter().map(|(a, _)| over_seeds(*a)).collect();
            let b: Vec<f64> = pairs.iter().map(|(_, b)| over_seeds(*b)).collect();
            proptest::prop_assert_eq!(paired_wilcoxon(&a, &b).p_value, expected);
            proptest::prop_assert_eq!(paired_wilcoxon(&b, &a).p_value, expected);
            let (mut x, mut y) = (a, b);
            x.reverse();
            y.reverse();
            proptest::prop_assert_eq!(paired_wilcoxon(&x, &y).p_value, expected);
        }
    }

    /// A tie between two positive differences moves no rank sum, and only makes the method normal:
    /// on 25 differences the two agree.
    #[test]
    fn the_exact_and_the_normal_p_value_agree() {
        let mut sample: Vec<f64> = (1..=25)
            .map(|rank| f64::from(if rank % 3 == 0 { -rank } else { rank }))
            .collect();
        let exact = paired_wilcoxon(&sample, &[0.0; 25]).p_value;
        sample[1] = sample[0];
        let normal = paired_wilcoxon(&sample, &[0.0; 25]).p_value;
        assert!(exact > 0.1 && exact < 0.2, "{exact}");
        assert_ne!(exact, normal);
        close(exact, normal, 0.003);
    }

    /// R: `p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")` prints 0.03 0.06 0.06 0.02.
    #[test]
    fn holm_matches_r() {
        for (found, expected) in holm(&[0.01, 0.04, 0.03, 0.005])
            .into_iter()
            .zip([0.03, 0.06, 0.06, 0.02])
        {
            close(found, expected, 1e-12);
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    #[should_panic(expected = "2 values of a but 1 values of b")]
    fn unpaired_values_are_refused() {
        paired_t(&[1.0, 2.0], &[1.0]);
    }
}
