//! Formats sizes, durations and scores: one form for each.

use meta_core::{stats::Interval, train::eval::Metric};

/// Bytes for people: `12 MB`.
pub fn bytes_text(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        _ if bytes >= 1e15 => "more than 1000 TB".to_owned(),
        _ if bytes >= 1e12 => format!("{:.1} TB", bytes / 1e12),
        _ if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        _ if bytes >= 1e6 => format!("{:.0} MB", bytes / 1e6),
        _ => format!("{:.0} kB", (bytes / 1e3).ceil()),
    }
}

/// Seconds for people: `2 min 5 s`.
pub fn duration_text(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0 if seconds > 0.0 => "< 1 s".to_owned(),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A value beside an axis: with so many decimals, or by its power of ten from a million on, so that it fits the
/// margin.
pub fn axis_text(value: f64, decimals: usize) -> String {
    match value.abs() >= 1e6 {
        true => format!("{value:.1e}"),
        false => format!("{value:.decimals$}"),
    }
}

/// A score for people: an accuracy in per cent, an error as it is, or by its power of ten from a million on.
pub fn score_text(metric: Metric, score: Interval) -> String {
    match metric {
        Metric::Accuracy => format!("{:.2} %", score.scaled(100.0)),
        Metric::MeanSquaredError if score.mean.abs() >= 1e6 => {
            format!("{:.3e} ± {:.1e}", score.mean, score.half_width)
        }
        Metric::MeanSquaredError => format!("{score:.4}"),
        Metric::Return => format!("{score:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_durations_and_scores_read_well() {
        assert_eq!(bytes_text(900), "1 kB");
        assert_eq!(bytes_text(12_400_000), "12 MB");
        assert_eq!(bytes_text(2_340_000_000), "2.3 GB");
        assert_eq!(bytes_text(u64::MAX), "more than 1000 TB");
        assert_eq!(duration_text(0.0), "0 s");
        assert_eq!(duration_text(0.2), "< 1 s");
        assert_eq!(duration_text(59.2), "59 s");
        assert_eq!(duration_text(61.0), "1 min 1 s");
        assert_eq!(duration_text(7260.0), "2 h 1 min");
        let score = Interval::t95(&[0.96, 0.98, 0.97]);
        assert_eq!(score_text(Metric::Accuracy, score), "97.00 ± 2.48 %");
        let diverged = Interval::t95(&[1e12, 3e12]);
        let shown = score_text(Metric::MeanSquaredError, diverged);
        assert_eq!(shown, "2.000e12 ± 1.3e13");
    }
}
