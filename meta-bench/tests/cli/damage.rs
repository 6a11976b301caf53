//! Damage is found before a run is resumed or evaluated, and never sealed as good.

use std::fs;

use crate::{
    resume::wait_for_lines,
    workbench::{SINUSOID, Workbench},
};

/// A folder `run` that was killed after its first checkpoints.
fn killed() -> Workbench {
    let bench = Workbench::new(SINUSOID);
    let mut child = bench.start("run m.toml --dir run train.iterations=100000");
    wait_for_lines(&bench, "run/metrics.jsonl", 45, &mut child);
    child.kill().expect("SIGKILL is sent");
    child.wait().expect("the child ends");
    bench
}

const RESUME: &str = "run m.toml --dir run train.iterations=100000 --resume --quiet";

#[test]
fn a_flipped_bit_stops_a_resume_and_is_named() {
    let bench = killed();
    for name in [
        "metrics.jsonl",
        "manifest.toml",
        "record.json",
        "checkpoint.safetensors",
        "checksums.txt",
    ] {
        let path = format!("run/{name}");
        let good = bench.bytes(&path);
        // Of the metrics, what the first checkpoint vouches for.
        let length = good.len().min(1500);
        for place in [0, length / 3, length / 2, length - 2] {
            let mut bad = good.clone();
            bad[place] ^= 1 << (place % 7);
            bench.write(&path, &bad);
            let message = bench.run(RESUME).mistake();
            assert!(message.contains("run/"), "{name}, byte {place}: {message}");
            if name != "checksums.txt" {
                assert!(message.contains(name), "{name}, byte {place}: {message}");
            }
            let verified = bench.run("runs --runs . verify run");
            assert_ne!(verified.code, Some(0), "{name}: {}", verified.stdout);
        }
        bench.write(&path, &good);
    }
    bench.run("runs --runs . verify run").ok();
    fs::remove_file(bench.path("run/checksums.txt")).expect("removed");
    let message = bench.run(RESUME).mistake();
    assert!(
        message.contains("run/checksums.txt: is missing"),
        "{message}"
    );
}

/// Such a file orders nothing: a time that cannot be read is a time that is lost.
#[test]
fn a_byte_that_is_no_text_in_the_timing_is_no_obstacle() {
    let bench = killed();
    let mut timing = bench.bytes("run/timing.jsonl");
    timing[40] = 0xff;
    bench.write("run/timing.jsonl", timing);
    let mut child = bench.start(RESUME);
    let lines = bench.text("run/metrics.jsonl").lines().count();
    wait_for_lines(&bench, "run/metrics.jsonl", lines + 5, &mut child);
    child.kill().expect("SIGKILL is sent");
    child.wait().expect("the child ends");
}

#[test]
fn what_is_missing_is_not_sound() {
    let bench = Workbench::new(SINUSOID);
    bench.run("run m.toml --quiet --dir runs/a").ok();
    bench.run("runs verify").ok();
    let good = bench.text("runs/a/checksums.txt");
    let verify = |expected: &str| {
        let ran = bench.run("runs verify");
        assert_eq!(ran.code, Some(1), "{}", ran.stdout);
        assert!(ran.stdout.contains(expected), "{}", ran.stdout);
    };
    bench.write("runs/a/checksums.txt", "");
    verify("checksums.txt: has no line for manifest.toml");
    for line in good.lines() {
        let name = line.split_once("  ").expect("a hash and a name").1;
        bench.write(
            "runs/a/checksums.txt",
            good.replace(&format!("{line}\n"), ""),
        );
        verify(&format!("checksums.txt: has no line for {name}"));
        let (file, content) = (
            format!("runs/a/{name}"),
            bench.bytes(&format!("runs/a/{name}")),
        );
        bench.write("runs/a/checksums.txt", &good);
        fs::remove_file(bench.path(&file)).expect("removed");
        verify(name);
        bench.write(&file, content);
    }
    bench.run("runs verify").ok();
    let manifest = bench.text("runs/a/manifest.toml");
    bench.write(
        "runs/a/manifest.toml",
        manifest.replace("inner_lr = 0.01", "inner_lr = 0.02"),
    );
    let message = bench.run("eval runs/a").mistake();
    assert!(
        message.contains("runs/a/manifest.toml: has changed"),
        "{message}"
    );
}
