//! Nothing that a user measures moves by accident: every learner and encoder, trained for a few
//! iterations on a toy task, ends in the same bits as when the fingerprints were recorded.
//!
//! A fingerprint is the hash of the bits of the parameters (by name) and of the numbers of metrics and
//! scores, on `flex` and `ndarray`, in `f32` and `f64`. Bits depend on the instruction set, through the
//! matrix products, and on the system's `exp`, `tanh`, …; so there is one file for each instruction set,
//! which says what these functions return, and elsewhere nothing is compared, which the test says.
//!
//! To renew the file of this machine on purpose, with the reason in the changelog:
//! `META_FINGERPRINTS=write cargo test --release --features ndarray --test cli fingerprints`.
//! `META_FINGERPRINTS=required` fails where there is nothing to compare with.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use meta_core::train::checkpoint_file;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::workbench::{Workbench, compiled};

/// What every case has in common; sizes that fit into one block of a matrix product, so that caches of
/// a machine do not decide the order of a sum.
const BASE: &str = r#"name = "fingerprint"
threads = 1
[train]
iterations = 4
meta_batch = 3
task_chunk = 2
lr = 1e-2
log_every = 1
validate_every = 2
validation_episodes = 4
checkpoint_every = 2
[test]
# What was recorded has one test.
untrained = false
episodes = 4
"#;

/// Learner, data and encoder, settings of either: a case a line.
const CASES: &str = include_str!("fingerprints/cases.txt");

/// Every case as its line, with its arguments.
fn cases() -> Vec<(&'static str, String)> {
    let mut data: BTreeMap<&str, &str> = BTreeMap::new();
    let mut cases = Vec::new();
    for line in CASES.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("= ") {
            Some(named) => {
                let (name, settings) = named.split_once(' ').expect("a name and settings");
                data.insert(name, settings);
            }
            None => {
                let mut words = line.splitn(3, ' ');
                let mut word = || words.next().unwrap_or_default();
                let (learner, data) = (word(), data[word()]);
                cases.push((line, format!("{data} learner.name={learner} {}", word())));
            }
        }
    }
    cases
}

/// The fingerprints of an instruction set.
#[derive(Serialize, Deserialize)]
struct Recorded {
    /// Commit at which they were recorded.
    commit: String,
    /// Hash of what the system's functions return.
    functions: String,
    /// Hash by backend, precision and case.
    fingerprints: BTreeMap<String, String>,
    /// Why a case has no hash here: it changed on purpose, and was not computed on this instruction set since.
    #[serde(default)]
    unrecorded: BTreeMap<String, String>,
}

/// The instruction set that the matrix products use.
fn instruction_set() -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return Some("avx512");
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Some("avx2");
        }
    }
    None
}

/// Hash of the values of the system's functions on a grid, in both precisions.
fn functions() -> String {
    let mut hasher = blake3::Hasher::new();
    for step in 1..2000 {
        let (x, y) = (f64::from(step) * 0.01, step as f32 * 0.01);
        for value in [
            x.exp(),
            (-x).exp(),
            x.ln(),
            x.tanh(),
            x.sin(),
            x.cos(),
            x.powf(0.3),
        ] {
            hasher.update(&value.to_le_bytes());
        }
        for value in [
            y.exp(),
            (-y).exp(),
            y.ln(),
            y.tanh(),
            y.sin(),
            y.cos(),
            y.powf(0.3),
        ] {
            hasher.update(&value.to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

fn file(set: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/fingerprints");
    folder.join(format!("{set}.json"))
}

/// Adds the bits of every number of a line of JSON, with the keys that lead to it.
fn add_numbers(hasher: &mut blake3::Hasher, key: &str, value: &Value) {
    match value {
        Value::Object(entries) => {
            let sorted: BTreeMap<_, _> = entries.iter().collect();
            for (name, value) in sorted {
                add_numbers(hasher, &format!("{key}.{name}"), value);
            }
        }
        Value::Array(values) => {
            for value in values {
                add_numbers(hasher, key, value);
            }
        }
        Value::Number(number) => {
            hasher.update(key.as_bytes());
            let number = number.as_f64().expect("a number");
            hasher.update(&number.to_bits().to_le_bytes());
        }
        _ => {}
    }
}

fn add_parameters(hasher: &mut blake3::Hasher, path: &Path) {
    let mut tensors = checkpoint_file::read(path).expect("a checkpoint").tensors;
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, data) in tensors {
        hasher.update(name.as_bytes());
        for length in data.shape.iter() {
            hasher.update(&length.to_le_bytes());
        }
        hasher.update(&data.bytes);
    }
}

/// Trains every case on a target; hash by its name.
fn fingerprints(backend: &str, precision: &str) -> Vec<(String, String)> {
    let bench = Workbench::new(BASE);
    let fingerprint = |(number, (case, arguments)): (usize, (&str, String))| {
        let dir = format!("{backend}-{precision}-{number}");
        let target = format!("backend={backend} precision={precision}");
        bench
            .run(&format!(
                "run m.toml --dir {dir} --quiet {target} {arguments}"
            ))
            .ok();
        let mut hasher = blake3::Hasher::new();
        for name in ["checkpoint.safetensors", "best.safetensors"] {
            add_parameters(&mut hasher, &bench.path(&format!("{dir}/{name}")));
        }
        for name in ["metrics.jsonl", "scores.json"] {
            let text = String::from_utf8(bench.bytes(&format!("{dir}/{name}"))).expect("text");
            for value in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
                let mut value = value.expect("JSON");
                if let Some(entries) = value.as_object_mut() {
                    // Newer than what was recorded, of the same parameters.
                    entries.remove("by_instance");
                }
                add_numbers(&mut hasher, "", &value);
            }
        }
        fs::remove_dir_all(bench.path(&dir)).expect("the run is removed");
        (
            format!("{backend} {precision} {case}"),
            hasher.finalize().to_hex()[..16].to_owned(),
        )
    };
    cases().into_iter().enumerate().map(fingerprint).collect()
}

#[test]
fn every_learner_ends_in_the_recorded_bits() {
    let asked = std::env::var("META_FINGERPRINTS").unwrap_or_default();
    let (write, required) = (asked == "write", asked == "required");
    let set = instruction_set();
    let recorded: Option<Recorded> = set
        .and_then(|set| fs::read_to_string(file(set)).ok())
        .map(|text| serde_json::from_str(&text).expect("a file of fingerprints"));
    let comparable = match (&set, &recorded) {
        (None, _) => Err("no fingerprints for this instruction set".to_owned()),
        (Some(set), None) => Err(format!("no fingerprints for {set}")),
        (Some(set), Some(recorded)) if recorded.functions != functions() => Err(format!(
            "the system's exp, tanh, … differ from those of the fingerprints for {set}"
        )),
        _ => Ok(()),
    };
    if let Err(reason) = &comparable
        && !write
    {
        assert!(!required, "{reason}");
        eprintln!("fingerprints: compared nothing: {reason}");
        return;
    }
    let targets = [
        ("flex", "f32"),
        ("flex", "f64"),
        ("ndarray", "f32"),
        ("ndarray", "f64"),
    ];
    let found: BTreeMap<String, String> = std::thread::scope(|scope| {
        let threads: Vec<_> = targets
            .into_iter()
            .filter(|(backend, _)| compiled(backend))
            .map(|(backend, precision)| scope.spawn(move || fingerprints(backend, precision)))
            .collect();
        let all = threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread"));
        all.flatten().collect()
    });
    if write {
        let recorded = Recorded {
            commit: std::env::var("META_COMMIT").unwrap_or_default(),
            functions: functions(),
            fingerprints: found,
            unrecorded: BTreeMap::new(),
        };
        let mut text = serde_json::to_string_pretty(&recorded).expect("text");
        text.push('\n');
        fs::write(file(set.expect("an instruction set")), text).expect("the file is written");
        return;
    }
    let recorded = recorded.expect("compared with something");
    for (name, reason) in &recorded.unrecorded {
        eprintln!("fingerprints: {name}: not compared: {reason}");
    }
    let different: Vec<(&String, &String)> = found
        .iter()
        .filter(|(name, _)| !recorded.unrecorded.contains_key(*name))
        .filter(|(name, hash)| recorded.fingerprints.get(*name) != Some(hash))
        .collect();
    assert!(
        different.is_empty(),
        "{} of {} end in other bits than at {}: {different:#?}",
        different.len(),
        found.len(),
        recorded.commit
    );
}
