//! Killed at any moment and resumed, a run ends in the same bytes.

use std::{
    fs,
    process::Child,
    time::{Duration, Instant},
};

use crate::workbench::{GLYPHS, SINUSOID, Workbench};

/// What must be the same, bit for bit.
const FILES: [&str; 4] = [
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
fn kills_do_not_change_a_bit_with_one_thread() {
    killed_and_resumed(SINUSOID, 1, &[3, 34]);
}

#[test]
fn kills_do_not_change_a_bit_with_two_threads() {
    killed_and_resumed(GLYPHS, 2, &[7, 12, 31]);
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
