//! Measures the same workloads in PyTorch, JAX and scikit-learn, by the programs in `meta-bench/peers`.
//!
//! A peer reads the files of `export` and computes the first step. It prints times only when its loss and
//! its meta-gradient agree with ours. Every process measures one workload once; our processes and those
//! of the peers take turns.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use meta_core::{Error, files::create_folder_beside, stats::median, toolkit::Toolkit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    args::{BenchArgs, Effort},
    export::{self, export},
    process::{gemm_peak, measured},
    report::{Report, Spread, megabytes, number},
    workloads::Workload,
};
use crate::{
    failure::{CommandError, Result},
    output::{
        print,
        target::{MEASUREMENT, write_over},
    },
};

/// How a user gets the peers.
const INSTALL: &str = "pip install -r meta-bench/peers/requirements.txt";

/// The programs, as files of one folder.
const PROGRAMS: [(&str, &str); 13] = [
    ("workload.py", include_str!("../../peers/workload.py")),
    (
        "torch_networks.py",
        include_str!("../../peers/torch_networks.py"),
    ),
    (
        "torch_attention.py",
        include_str!("../../peers/torch_attention.py"),
    ),
    (
        "torch_context.py",
        include_str!("../../peers/torch_context.py"),
    ),
    (
        "torch_tables.py",
        include_str!("../../peers/torch_tables.py"),
    ),
    (
        "torch_recurrent.py",
        include_str!("../../peers/torch_recurrent.py"),
    ),
    ("torch_text.py", include_str!("../../peers/torch_text.py")),
    (
        "torch_sequences.py",
        include_str!("../../peers/torch_sequences.py"),
    ),
    (
        "torch_acting.py",
        include_str!("../../peers/torch_acting.py"),
    ),
    ("torch_loop.py", include_str!("../../peers/torch_loop.py")),
    ("torch_func.py", include_str!("../../peers/torch_func.py")),
    ("jax_peer.py", include_str!("../../peers/jax_peer.py")),
    (
        "sklearn_peer.py",
        include_str!("../../peers/sklearn_peer.py"),
    ),
];

struct Peer {
    name: &'static str,
    /// The Python package that it needs.
    package: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
}

static PEERS: [Peer; 5] = [
    Peer {
        name: "torch-loop",
        package: "torch",
        program: "torch_loop.py",
        arguments: &[],
    },
    Peer {
        name: "torch-func",
        package: "torch",
        program: "torch_func.py",
        arguments: &[],
    },
    Peer {
        name: "torch-compile",
        package: "torch",
        program: "torch_func.py",
        arguments: &["--compile"],
    },
    Peer {
        name: "jax",
        package: "jax",
        program: "jax_peer.py",
        arguments: &[],
    },
    Peer {
        name: "sklearn",
        package: "sklearn",
        program: "sklearn_peer.py",
        arguments: &[],
    },
];

/// What a peer's process prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PeerMeasurement {
    peer: String,
    workload: String,
    /// Which of several ways to write it was the fastest.
    variant: String,
    /// Relative differences of the first step from ours, both in f64; measured at the first turn.
    loss_error: Option<f64>,
    gradient_error: Option<f64>,
    /// Relative difference of the peer's gradient in f32 from ours in f64.
    f32_error: f64,
    samples_ms: Vec<f64>,
    peak_bytes: Option<u64>,
    start_bytes: Option<u64>,
    versions: BTreeMap<String, String>,
    threads: usize,
    dtype: String,
    /// `cpu` or `cuda`, read from what it computed.
    device: String,
}

/// How a peer fared on a workload.
enum Outcome {
    Measured(Box<PeerMeasurement>),
    /// It has no time, for this reason.
    None(String),
}

type Outcomes = BTreeMap<(&'static str, &'static str), Outcome>;

/// `meta bench --peers`.
///
/// # Errors
/// When no peer is installed, or one of ours cannot be measured.
pub fn compare<T: Toolkit>(
    args: &BenchArgs,
    workloads: &[&'static Workload],
    backend: &str,
) -> Result<()> {
    let effort = args.effort;
    let peers = installed(args)?;
    let folder = match &args.export {
        Some(folder) => folder.clone(),
        None => create_folder_beside(&std::env::temp_dir().join("meta-bench"))?,
    };
    export::<T>(&folder, workloads, effort)?;
    let programs = write_programs(&folder)?;
    let mut report = Report::new(effort);
    let mut outcomes = Outcomes::new();
    let device = match &args.peer_device {
        Some(device) => device,
        None if backend == "cuda" => "cuda",
        None => "cpu",
    };
    for round in 0..args.rounds.unwrap_or(3) {
        report.add_peak(backend, gemm_peak(backend, effort)?);
        for workload in workloads {
            eprintln!("{}, round {}", workload.name, round + 1);
            report.add(measured(workload, backend, effort)?);
            for peer in &peers {
                let process = Process {
                    python: &args.python,
                    program: programs.join(peer.program),
                    workload: folder.join(workload.name),
                    device,
                    limit: Duration::from_secs_f64(args.peer_timeout),
                };
                take_turn(&process, peer, workload.name, effort, &mut outcomes);
            }
        }
    }
    if args.export.is_none() {
        // Best effort: it lies in the system's folder for temporary files.
        let _ = fs::remove_dir_all(&folder);
    }
    let comparison = Comparison {
        workloads,
        peers: &peers,
        outcomes: &outcomes,
        report: &report,
        device,
    };
    if let Some(path) = &args.json {
        let mut json = report.json();
        json["peers"] = comparison.json();
        write_over(path, format!("{json:#}\n").as_bytes(), MEASUREMENT)?;
    }
    print(&format!("{}\n{}", report.markdown(), comparison.markdown()))
}

/// The peers that were asked for and are installed.
fn installed(args: &BenchArgs) -> Result<Vec<&'static Peer>> {
    for name in &args.only {
        if PEERS.iter().all(|peer| peer.name != name) {
            return Err(Error::unknown("peer", name, PEERS.iter().map(|peer| peer.name)).into());
        }
    }
    let wanted = PEERS
        .iter()
        .filter(|peer| args.only.is_empty() || args.only.iter().any(|name| name == peer.name));
    let mut found = Vec::new();
    for peer in wanted {
        match has_package(&args.python, peer.package) {
            Ok(()) => found.push(peer),
            Err(reason) => eprintln!(
                "{}: not installed for {} ({reason}); {INSTALL}",
                peer.name,
                args.python.display()
            ),
        }
    }
    if found.is_empty() {
        return Err(CommandError::Usage(format!(
            "no peer is installed for {}: {INSTALL}, or name another Python with --python",
            args.python.display()
        )));
    }
    Ok(found)
}

fn has_package(python: &Path, package: &str) -> Result<(), String> {
    let output = Command::new(python)
        .args(["-c", &format!("import {package}, safetensors, numpy")])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(last_line(&String::from_utf8_lossy(&output.stderr)))
    }
}

fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("it says nothing").trim().to_owned()
}

fn write_programs(folder: &Path) -> Result<PathBuf> {
    let programs = folder.join("peers");
    fs::create_dir_all(&programs).map_err(|error| Error::io(&programs, "create folder", error))?;
    for (name, text) in PROGRAMS {
        let path = programs.join(name);
        if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            continue;
        }
        // Its first line stays when the program changes.
        write_over(
            &path,
            text.as_bytes(),
            text.lines().next().unwrap_or_default(),
        )?;
    }
    Ok(programs)
}

/// A peer's process.
struct Process<'a> {
    python: &'a Path,
    program: PathBuf,
    workload: PathBuf,
    device: &'a str,
    limit: Duration,
}

impl Process<'_> {
    /// Runs to the end or the limit, and reads what is printed.
    fn run(&self, arguments: &[String], effort: Effort) -> Result<PeerMeasurement, String> {
        let threads = rayon::current_num_threads();
        let file = |name: &str| self.workload.join(name);
        let create = |name: &str| File::create(file(name)).map_err(|error| error.to_string());
        let mut child = Command::new(self.python)
            .arg(&self.program)
            .arg(&self.workload)
            .args(["--samples", &effort.samples.to_string()])
            .args(["--seconds", &effort.seconds.to_string()])
            .args(["--threads", &threads.to_string()])
            .args(["--device", self.device])
            .args(arguments)
            .env("OMP_NUM_THREADS", threads.to_string())
            .env("MKL_NUM_THREADS", threads.to_string())
            // glibc then keeps freed memory instead of faulting it in anew at every operation.
            .env("MALLOC_MMAP_THRESHOLD_", "4294967296")
            .env("MALLOC_TRIM_THRESHOLD_", "17179869184")
            .stdin(Stdio::null())
            .stdout(create("stdout.txt")?)
            .stderr(create("stderr.txt")?)
            .spawn()
            .map_err(|error| error.to_string())?;
        let start = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None if start.elapsed() > self.limit => {
                    // It may have ended just now.
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("stopped after {} s", self.limit.as_secs()));
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let read = |name: &str| fs::read_to_string(file(name)).unwrap_or_default();
        if !status.success() {
            return Err(last_line(&read("stderr.txt")));
        }
        serde_json::from_str(&last_line(&read("stdout.txt")))
            .map_err(|error| format!("prints no measurement: {error}"))
    }
}

/// Runs a peer once more, in the variant that was the fastest at its first turn.
fn take_turn(
    process: &Process<'_>,
    peer: &'static Peer,
    workload: &'static str,
    effort: Effort,
    outcomes: &mut Outcomes,
) {
    let key = (workload, peer.name);
    let mut arguments: Vec<String> = peer.arguments.iter().map(|&text| text.to_owned()).collect();
    match outcomes.get(&key) {
        // What failed once is not tried again.
        Some(Outcome::None(_)) => return,
        Some(Outcome::Measured(before)) => {
            arguments.extend(["--variant".to_owned(), before.variant.clone()]);
        }
        None => {}
    }
    match (process.run(&arguments, effort), outcomes.get_mut(&key)) {
        (Ok(new), Some(Outcome::Measured(before))) => {
            before.samples_ms.extend(new.samples_ms);
            before.peak_bytes = before.peak_bytes.max(new.peak_bytes);
            before.f32_error = before.f32_error.max(new.f32_error);
        }
        (Ok(new), _) => {
            outcomes.insert(key, Outcome::Measured(Box::new(new)));
        }
        (Err(reason), _) => {
            eprintln!("{} on {workload}: {reason}", peer.name);
            outcomes.insert(key, Outcome::None(reason));
        }
    }
}

/// Ours beside the peers'.
struct Comparison<'a> {
    workloads: &'a [&'static Workload],
    peers: &'a [&'static Peer],
    outcomes: &'a Outcomes,
    report: &'a Report,
    /// `cpu` or `cuda`.
    device: &'a str,
}

impl Comparison<'_> {
    fn measured(&self, workload: &'static str) -> impl Iterator<Item = &PeerMeasurement> {
        self.peers.iter().filter_map(
            move |peer| match self.outcomes.get(&(workload, peer.name)) {
                Some(Outcome::Measured(measurement)) => Some(measurement.as_ref()),
                _ => None,
            },
        )
    }

    fn best(&self, workload: &'static str) -> Option<&PeerMeasurement> {
        self.measured(workload)
            .min_by(|a, b| median(&a.samples_ms).total_cmp(&median(&b.samples_ms)))
    }

    fn ours_ms(&self, workload: &str) -> f64 {
        let ours = self.report.of(workload).next();
        ours.map_or(f64::NAN, |ours| median(&ours.samples_ms))
    }

    fn json(&self) -> Value {
        let ratios: Vec<Value> = self
            .workloads
            .iter()
            .map(|workload| {
                let ours = self.ours_ms(workload.name);
                let best = self.best(workload.name);
                json!({
                    "workload": workload.name,
                    "ours_ms": ours,
                    "best_peer": best.map(|best| best.peer.clone()),
                    "best_peer_ms": best.map(|best| median(&best.samples_ms)),
                    "ratio": best.map(|best| median(&best.samples_ms) / ours),
                })
            })
            .collect();
        let measurements: Vec<Value> = self
            .outcomes
            .iter()
            .map(|((workload, peer), outcome)| match outcome {
                Outcome::Measured(measurement) => {
                    let spread = Spread::of(&measurement.samples_ms);
                    let mut value = json!(measurement);
                    value["median_ms"] = json!(spread.median);
                    value["lower_quartile_ms"] = json!(spread.lower);
                    value["upper_quartile_ms"] = json!(spread.upper);
                    value
                }
                Outcome::None(reason) => {
                    json!({ "peer": peer, "workload": workload, "not_measured": reason })
                }
            })
            .collect();
        json!({
            "agreement": export::AGREEMENT,
            "ratios": ratios,
            "measurements": measurements,
        })
    }

    fn markdown(&self) -> String {
        let names: Vec<&str> = self.peers.iter().map(|peer| peer.name).collect();
        let mut out = format!(
            "Milliseconds (median), and how many times as long as ours; the ratio is that of the \
             fastest peer. The peers compute on {}.\n\n| workload | ours | {} | ratio |\n|---|--:|{}--:|\n",
            self.device,
            names.join(" | "),
            "--:|".repeat(names.len())
        );
        for workload in self.workloads {
            let ours = self.ours_ms(workload.name);
            let cells: Vec<String> = names
                .iter()
                .map(|&peer| match self.outcomes.get(&(workload.name, peer)) {
                    Some(Outcome::Measured(peer)) => {
                        let time = median(&peer.samples_ms);
                        format!("{} ({} ×)", number(time), number(time / ours))
                    }
                    _ => "–".to_owned(),
                })
                .collect();
            let ratio = self.best(workload.name).map_or_else(
                || "–".to_owned(),
                |best| format!("**{:.2}**", median(&best.samples_ms) / ours),
            );
            out.push_str(&format!(
                "| `{}` | {} | {} | {ratio} |\n",
                workload.name,
                number(ours),
                cells.join(" | ")
            ));
        }
        out.push_str(&self.memory_markdown(&names));
        out.push_str(&self.agreement_markdown(&names));
        out
    }

    fn memory_markdown(&self, names: &[&'static str]) -> String {
        let mut out = format!(
            "\nPeak resident memory; in brackets, before the first computation.\n\n| workload | \
             ours | {} |\n|---|--:|{}\n",
            names.join(" | "),
            "--:|".repeat(names.len())
        );
        let shown = |peak, start| format!("{} ({})", megabytes(peak), megabytes(start));
        for workload in self.workloads {
            let ours = self.report.of(workload.name).next();
            let ours = ours.map_or_else(String::new, |row| shown(row.peak_bytes, row.start_bytes));
            let cells: Vec<String> = names
                .iter()
                .map(|&peer| match self.outcomes.get(&(workload.name, peer)) {
                    Some(Outcome::Measured(peer)) => shown(peer.peak_bytes, peer.start_bytes),
                    _ => "–".to_owned(),
                })
                .collect();
            out.push_str(&format!(
                "| `{}` | {ours} | {} |\n",
                workload.name,
                cells.join(" | ")
            ));
        }
        out
    }

    fn agreement_markdown(&self, names: &[&'static str]) -> String {
        let mut out = format!(
            "\nRelative difference of the first step from ours, in f64: loss, meta-gradient (the \
             largest over tensors, by norm), in brackets that of the peer's f32 gradient; and the \
             variant of the peer that was the fastest.\n\n| workload \
             | {} |\n|---|{}\n",
            names.join(" | "),
            "---|".repeat(names.len())
        );
        for workload in self.workloads {
            let cells: Vec<String> = names
                .iter()
                .map(|&peer| match self.outcomes.get(&(workload.name, peer)) {
                    Some(Outcome::Measured(peer)) => format!(
                        "{:.0e}, {:.0e} ({:.0e}); {}",
                        peer.loss_error.unwrap_or(f64::NAN),
                        peer.gradient_error.unwrap_or(f64::NAN),
                        peer.f32_error,
                        peer.variant
                    ),
                    Some(Outcome::None(reason)) => {
                        format!("not measured: {}", first_words(reason).replace('|', "/"))
                    }
                    None => "–".to_owned(),
                })
                .collect();
            out.push_str(&format!(
                "| `{}` | {} |\n",
                workload.name,
                cells.join(" | ")
            ));
        }
        out
    }
}

/// The first words of a reason, for a cell of a table.
fn first_words(reason: &str) -> String {
    const MOST: usize = 240;
    match reason.char_indices().nth(MOST) {
        None => reason.to_owned(),
        Some((end, _)) => {
            let words = reason[..end]
                .rsplit_once(' ')
                .map_or("", |(words, _)| words);
            format!("{words} …")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_end_between_words() {
        assert_eq!(first_words("stopped after 150 s"), "stopped after 150 s");
        let short = first_words(&"größer ".repeat(60));
        assert!(short.chars().count() <= 242, "{short}");
        assert!(short.ends_with("größer …"), "{short}");
    }
}
