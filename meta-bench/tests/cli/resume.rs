//! Killed at any moment and resumed, a run ends in the same bytes.

use std::{
    fs,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::workbench::{GLYPHS, SINUSOID, Workbench};

/// What must be the same, bit for bit.
pub const FILES: [&str; 4] = [
    "checkpoint.safetensors",
    "best.safetensors",
    "metrics.jsonl",
    "scores.json",
];

/// Waits until a file of the workbench has so many lines; `child` is to write them.
pub fn wait_for_lines(bench: &Workbench, file: &str, lines: usize, child: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        // Asked first: a child that ends between the two questions has written its lines.
        let ended = child.try_wait().expect("the child can be asked");
        let text = fs::read(bench.path(file)).unwrap_or_default();
        if text.iter().filter(|&&byte| byte == b'\n').count() >= lines {
            return;
        }
        if let Some(status) = ended {
            panic!("ended with {status} before {file} had {lines} lines");
        }
        assert!(Instant::now() < deadline, "{file} never had {lines} lines");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Runs `manifest` without a break, and with a kill after so many lines of metrics each; compares.
fn killed_and_resumed(manifest: &str, threads: usize, kills: &[usize]) {
    let bench = Workbench::new(manifest);
    bench.run("run m.toml --dir whole threads=1 --quiet").ok();
    let broken = format!("run m.toml --dir broken threads={threads} --resume");
    for &lines in kills {
        let mut child = bench.start(&broken);
        wait_for_lines(&bench, "broken/metrics.jsonl", lines, &mut child);
        child.kill().expect("SIGKILL is sent");
        child.wait().expect("the child ends");
    }
    bench.run(&broken).ok();
    for file in FILES {
        let (whole, broken) = (format!("whole/{file}"), format!("broken/{file}"));
        assert!(
            bench.bytes(&whole) == bench.bytes(&broken),
            "{file} differs after kills at {kills:?} with {threads} threads"
        );
    }
    assert!(
        bench
            .names("broken")
            .iter()
            .all(|name| !name.ends_with(".tmp")),
        "{:?}",
        bench.names("broken")
    );
}

#[test]
fn ten_kills_do_not_change_a_bit() {
    let kills = [1, 9, 10, 11, 19, 21, 30, 41, 52, 60];
    for threads in [1, 2] {
        killed_and_resumed(SINUSOID, threads, &kills);
    }
    killed_and_resumed(GLYPHS, 2, &[1, 4, 5, 6, 10, 11, 15, 21, 26, 31]);
}

/// As after a device that was full.
#[test]
fn a_run_goes_on_with_fewer_tasks_at_once() {
    let bench = Workbench::new(SINUSOID);
    let mut first = bench.start("run m.toml --dir here train.task_chunk=4");
    wait_for_lines(&bench, "here/metrics.jsonl", 12, &mut first);
    first.kill().expect("SIGKILL is sent");
    first.wait().expect("the child ends");
    let fewer = "run m.toml --dir here train.task_chunk=1 --resume";
    let message = bench.run(&format!("{fewer} train.lr=0.5")).mistake();
    assert!(message.contains("`train.lr` is 0.001 there"), "{message}");
    bench.run(fewer).ok();
    assert!(bench.path("here/result.json").exists());
}

#[test]
fn a_second_process_is_refused() {
    let bench = Workbench::new(SINUSOID);
    let long = "run m.toml train.iterations=100000 --dir here";
    let mut first = bench.start(long);
    wait_for_lines(&bench, "here/metrics.jsonl", 1, &mut first);
    let message = bench.run(&format!("{long} --resume")).mistake();
    assert_eq!(
        message,
        format!(
            "error: here: process {} is working on this run; wait for it, or stop it",
            first.id()
        )
    );
    first.kill().expect("SIGKILL is sent");
    first.wait().expect("the child ends");
}

/// Copies a run folder of version 0.1 into the workbench.
fn run_of_0_1(bench: &Workbench, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/run_of_0.1");
    for entry in fs::read_dir(folder.join(name)).expect("the run folder") {
        let entry = entry.expect("a file");
        let file = format!("{name}/{}", entry.file_name().to_string_lossy());
        bench.write(&file, fs::read(entry.path()).expect("a readable file"));
    }
}

fn scores(text: &str) -> Vec<f64> {
    let value: Value = serde_json::from_str(text).expect("JSON");
    let steps = value["scores"].as_array().expect("scores").iter();
    steps
        .flat_map(|step| step.as_array().expect("a score for each episode"))
        .map(|score| score.as_f64().expect("a number"))
        .collect()
}

/// The identity of a run holds though its learner has more settings today, and what was stopped by the
/// old binary is finished by this one as the old one would have.
#[test]
fn runs_of_0_1_are_resumed_and_evaluated() {
    let bench = Workbench::new("");
    for name in ["finished", "stopped"] {
        run_of_0_1(&bench, name);
    }
    let told = bench.run("eval finished --json --quiet").ok().stdout;
    let (told, recorded): (Value, Value) = (
        serde_json::from_str(&told).expect("a result"),
        serde_json::from_str(&bench.text("finished/result.json")).expect("a result"),
    );
    // Another instruction set rounds otherwise: f32, a few hundred terms.
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
    let mean = |value: &Value| value["mean"].as_f64().expect("a mean");
    assert!(near(mean(&told), mean(&recorded)), "{told}");
    assert_eq!(told["hash"], recorded["hash"]);
    assert_eq!(told["episode_set"], recorded["episode_set"]);
    bench
        .run("run finished/manifest.toml --dir finished --resume --quiet")
        .ok();
    bench.run("runs --runs . verify finished").ok();

    let before = bench.text("stopped/metrics.jsonl").lines().count();
    bench
        .run("run stopped/manifest.toml --dir stopped --resume --quiet")
        .ok();
    let record: Value = serde_json::from_str(&bench.text("stopped/record.json")).expect("JSON");
    let result: Value = serde_json::from_str(&bench.text("stopped/result.json")).expect("JSON");
    assert_eq!(record["hash"], result["hash"]);
    assert!(bench.text("stopped/metrics.jsonl").lines().count() > before);
    let expected = scores(include_str!("run_of_0.1/stopped-then-finished.scores.json"));
    let found = scores(&bench.text("stopped/scores.json"));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.into_iter().zip(expected) {
        assert!(
            near(found, expected),
            "{found}, by the old binary {expected}"
        );
    }
}
