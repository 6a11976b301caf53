//! What a server has done, in Prometheus' text format.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Upper bounds of the times that are told apart, in seconds.
const BOUNDS: [f64; 10] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counts(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    requests: BTreeMap<(&'static str, u16), u64>,
    within: [u64; BOUNDS.len()],
    timed: u64,
    seconds: f64,
    items: u64,
    rejected: u64,
    passes: u64,
    waiting: u64,
    connections: u64,
}

impl Counts {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request to a path of the server has its response.
    pub fn request(&self, path: &'static str, status: u16) {
        *self.numbers().requests.entry((path, status)).or_default() += 1;
    }

    /// A prediction took so long, from the request to the response.
    pub fn took(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let mut numbers = self.numbers();
        for (count, bound) in numbers.within.iter_mut().zip(BOUNDS) {
            *count += u64::from(seconds <= bound);
        }
        numbers.timed += 1;
        numbers.seconds += seconds;
    }

    /// The model has answered for so many items at once, and rejected some.
    pub fn pass(&self, items: usize, rejected: usize) {
        let mut numbers = self.numbers();
        numbers.passes += 1;
        numbers.items += items as u64;
        numbers.rejected += rejected as u64;
    }

    /// A request begins to wait for the model.
    pub fn waits(&self) {
        self.numbers().waiting += 1;
    }

    /// The model has taken a request.
    pub fn taken(&self) {
        let mut numbers = self.numbers();
        numbers.waiting = numbers.waiting.saturating_sub(1);
    }

    /// A connection is open.
    pub fn opened(&self) {
        self.numbers().connections += 1;
    }

    /// A connection is closed.
    pub fn closed(&self) {
        let mut numbers = self.numbers();
        numbers.connections = numbers.connections.saturating_sub(1);
    }

    /// The text that Prometheus reads (exposition format 0.0.4).
    pub fn text(&self) -> String {
        let numbers = self.numbers();
        let mut out = String::new();
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        head(
            &mut out,
            "meta_requests_total",
            "counter",
            "Requests by path and status.",
        );
        for ((path, status), count) in &numbers.requests {
            let labels = format!("path=\"{path}\",status=\"{status}\"");
            let _ = writeln!(out, "meta_requests_total{{{labels}}} {count}");
        }
        let name = "meta_predict_seconds";
        head(
            &mut out,
            name,
            "histogram",
            "Time of a prediction, from its request to its response.",
        );
        for (bound, count) in BOUNDS.iter().zip(numbers.within) {
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let (timed, seconds) = (numbers.timed, numbers.seconds);
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {timed}");
        let _ = writeln!(out, "{name}_sum {seconds}\n{name}_count {timed}");
        for (name, kind, help, value) in [
            (
                "meta_items_total",
                "counter",
                "Items that were answered for.",
                numbers.items,
            ),
            (
                "meta_rejected_total",
                "counter",
                "Items whose score was below the threshold of rejection.",
                numbers.rejected,
            ),
            (
                "meta_passes_total",
                "counter",
                "Passes of the model, over one request or several.",
                numbers.passes,
            ),
            (
                "meta_waiting_requests",
                "gauge",
                "Requests that wait for the model.",
                numbers.waiting,
            ),
            (
                "meta_connections",
                "gauge",
                "Open connections.",
                numbers.connections,
            ),
        ] {
            head(&mut out, name, kind, help);
            let _ = writeln!(out, "{name} {value}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buckets are cumulative, and the last one has everything.
    #[test]
    fn times_fall_into_their_buckets() {
        let counts = Counts::default();
        counts.took(Duration::from_millis(20));
        counts.took(Duration::from_millis(300));
        counts.took(Duration::from_secs(7));
        counts.request("/predict", 200);
        counts.request("/predict", 200);
        let text = counts.text();
        for line in [
            "meta_requests_total{path=\"/predict\",status=\"200\"} 2",
            "meta_predict_seconds_bucket{le=\"0.01\"} 0",
            "meta_predict_seconds_bucket{le=\"0.02\"} 1",
            "meta_predict_seconds_bucket{le=\"0.5\"} 2",
            "meta_predict_seconds_bucket{le=\"5\"} 2",
            "meta_predict_seconds_bucket{le=\"+Inf\"} 3",
            "meta_predict_seconds_count 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
