//! Reports what was measured, as JSON and as Markdown.

use std::collections::BTreeMap;

use meta_core::stats::median;
use serde_json::{Value, json};

use super::{
    args::Effort,
    measure::{GemmPeak, Measurement},
};
use crate::{
    machine::{cores, processor},
    run::record::BURN_VERSION,
};

/// Measurements of one or several processes, joined by workload and backend.
pub struct Report {
    effort: Effort,
    /// 10⁹ operations a second, by backend: the best of all processes.
    peaks: BTreeMap<String, f64>,
    rows: Vec<Measurement>,
}

impl Report {
    /// A report of measurements with this effort.
    pub fn new(effort: Effort) -> Self {
        Report {
            effort,
            peaks: BTreeMap::new(),
            rows: Vec::new(),
        }
    }

    /// Adds a measurement of the machine.
    pub fn add_peak(&mut self, backend: &str, peak: GemmPeak) {
        let best = self.peaks.entry(backend.to_owned()).or_insert(0.0);
        *best = best.max(peak.gflops);
    }

    /// Adds the samples of a process to those of the same workload and backend.
    pub fn add(&mut self, measurement: Measurement) {
        let same = |row: &&mut Measurement| {
            row.workload == measurement.workload && row.backend == measurement.backend
        };
        match self.rows.iter_mut().find(same) {
            Some(row) => {
                row.samples_ms.extend(&measurement.samples_ms);
                row.peak_bytes = row.peak_bytes.max(measurement.peak_bytes);
                row.start_bytes = row.start_bytes.max(measurement.start_bytes);
            }
            None => self.rows.push(measurement),
        }
    }

    /// All measurements.
    pub fn rows(&self) -> &[Measurement] {
        &self.rows
    }

    /// How much longer a second-order meta-iteration takes than one of first order, on a backend.
    fn second_to_first(&self, backend: &str) -> Option<f64> {
        let time = |workload: &str| {
            let same = |row: &&Measurement| row.workload == workload && row.backend == backend;
            let row = self.rows.iter().find(same)?;
            Some(median(&row.samples_ms))
        };
        Some(time("conv4-maml-5")? / time("conv4-fomaml-5")?)
    }

    /// All measurements of a workload.
    pub fn of<'a>(&'a self, workload: &'a str) -> impl Iterator<Item = &'a Measurement> {
        self.rows.iter().filter(move |row| row.workload == workload)
    }

    fn share_of_peak(&self, row: &Measurement) -> Option<f64> {
        let peak = self.peaks.get(&row.backend)?;
        Some(gflops(row)? / peak)
    }

    /// Everything, with what somebody needs who wants to measure it again.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let spread = Spread::of(&row.samples_ms);
                let mut value = json!(row);
                value["median_ms"] = json!(spread.median);
                value["lower_quartile_ms"] = json!(spread.lower);
                value["upper_quartile_ms"] = json!(spread.upper);
                value["second_to_first_order"] = json!(self.second_to_first(&row.backend));
                value["tasks_per_second"] = json!(tasks_per_second(row));
                value["gflops"] = json!(gflops(row));
                value["share_of_gemm_peak"] = json!(self.share_of_peak(row));
                value
            })
            .collect();
        json!({
            "kind": "meta bench",
            "environment": environment(self.effort),
            "gemm_peak_gflops": self.peaks,
            "measurements": rows,
        })
    }

    /// A table for people.
    pub fn markdown(&self) -> String {
        let mut out = format!("{}\n\n", environment_line());
        for (backend, peak) in &self.peaks {
            out.push_str(&format!("GEMM peak ({backend}): {peak:.0} GFLOP/s.\n\n"));
        }
        out.push_str(
            "| workload | backend | tasks | ms per iteration | quartiles | first, ms | tasks/s | \
             GFLOP/s | of peak | peak memory | on device | J |\n\
             |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for row in &self.rows {
            let spread = Spread::of(&row.samples_ms);
            let share = self
                .share_of_peak(row)
                .map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", 100.0 * share));
            out.push_str(&format!(
                "| `{}` | {} | {} | {} | {}–{} | {} | {} | {} | {share} | {} | {} | {} |\n",
                row.workload,
                row.backend,
                row.tasks,
                number(spread.median),
                number(spread.lower),
                number(spread.upper),
                number(row.first_ms),
                number(tasks_per_second(row)),
                gflops(row).map_or_else(|| "–".to_owned(), number),
                megabytes(row.peak_bytes),
                row.device_bytes
                    .map_or("–".to_owned(), |bytes| megabytes(Some(bytes))),
                row.joules.map_or("–".to_owned(), number),
            ));
        }
        for backend in self.peaks.keys() {
            if let Some(ratio) = self.second_to_first(backend) {
                out.push_str(&format!(
                    "\nSecond order takes {ratio:.2} times as long as first order ({backend}, \
                     conv4-maml-5 and conv4-fomaml-5).\n"
                ));
            }
        }
        out
    }
}

/// Tasks that are learned from in a second.
pub fn tasks_per_second(row: &Measurement) -> f64 {
    row.tasks as f64 / (1e-3 * median(&row.samples_ms))
}

/// 10⁹ useful operations a second, where they are counted.
fn gflops(row: &Measurement) -> Option<f64> {
    Some(row.flop? / (1e6 * median(&row.samples_ms)))
}

/// Median and quartiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// First quartile.
    pub lower: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub upper: f64,
}

impl Spread {
    /// Of these samples; quartiles are interpolated linearly between order statistics.
    pub fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let quantile = |p: f64| {
            let place = p * (sorted.len().max(1) - 1) as f64;
            let at = |index: f64| sorted.get(index as usize).copied().unwrap_or(f64::NAN);
            let (low, high) = (at(place.floor()), at(place.ceil()));
            low + (high - low) * place.fract()
        };
        Spread {
            lower: quantile(0.25),
            median: median(samples),
            upper: quantile(0.75),
        }
    }
}

/// Three significant digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Memory for people.
pub fn megabytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(
        || "?".to_owned(),
        |bytes| format!("{:.0} MB", bytes as f64 / 1e6),
    )
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    }
}

/// What the numbers depend on besides the workload.
pub fn environment(effort: Effort) -> Value {
    let mut command: Vec<String> = std::env::args().collect();
    if let Some(program) = command.first_mut() {
        *program = "meta".to_owned();
    }
    json!({
        "command": command,
        "profile": profile(),
        "versions": { "meta": env!("CARGO_PKG_VERSION"), "burn": BURN_VERSION },
        "commit": option_env!("META_COMMIT"),
        "system": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        "processor": processor(),
        "cores": cores(),
        "threads": rayon::current_num_threads(),
        "samples_per_process": effort.samples,
        "seconds_per_process": effort.seconds,
        "task_chunk": effort.task_chunk,
        "seed": effort.seed,
    })
}

/// The same in a sentence.
pub fn environment_line() -> String {
    format!(
        "{}, {} threads, f32, {} build of {} {}.",
        processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        rayon::current_num_threads(),
        profile(),
        env!("CARGO_PKG_VERSION"),
        option_env!("META_COMMIT").map_or("", |commit| &commit[..commit.len().min(12)]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_match_a_count_by_hand() {
        let spread = Spread::of(&[5.0, 1.0, 4.0, 2.0, 3.0]);
        let expected = Spread {
            lower: 2.0,
            median: 3.0,
            upper: 4.0,
        };
        assert_eq!(spread, expected);
        let spread = Spread::of(&[2.0, 1.0]);
        assert_eq!((spread.lower, spread.upper), (1.25, 1.75));
        assert_eq!(Spread::of(&[7.0]).upper, 7.0);
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(
            [0.2714, 1.046, 13.66, 519.7].map(number),
            ["0.271", "1.05", "13.7", "520"]
        );
    }
}
