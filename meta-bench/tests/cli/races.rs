//! Several processes on the same runs, and what kills leave behind.

use std::{fs, process::Stdio};

use crate::workbench::{Ran, SINUSOID, Workbench};

/// Starts all commands at once and waits for all.
fn at_once(bench: &Workbench, commands: &[String]) -> Vec<Ran> {
    let start = |command: &String| {
        let mut command = bench.command(command);
        command.stdin(Stdio::null()).spawn().expect("it starts")
    };
    let children: Vec<_> = commands.iter().map(start).collect();
    let wait = |child: std::process::Child| child.wait_with_output().expect("it ends").into();
    children.into_iter().map(wait).collect()
}

#[test]
fn two_equal_sweeps_share_their_runs() {
    let bench = Workbench::new(SINUSOID);
    for seeds in ["0,1", "2,3"] {
        let sweep = format!("sweep m.toml seed={seeds} --jobs 2");
        let ran = at_once(&bench, &[sweep.clone(), sweep]);
        let [first, second] = ran.try_into().ok().expect("two");
        assert_eq!(first.ok().stdout, second.ok().stdout);
    }
    bench.run("runs verify").ok();
    let sweeps = bench.names("runs/sweeps");
    for sweep in sweeps {
        let names = bench.names(&format!("runs/sweeps/{sweep}"));
        assert_eq!(names, ["logs", "plan.jsonl"]);
    }
}

#[test]
fn losers_of_a_race_are_told_that_the_run_is_busy() {
    let bench = Workbench::new(SINUSOID);
    for failed in [false, true] {
        let dir = format!("d-{failed}");
        if failed {
            bench.write(&format!("{dir}/failure.json"), "{\n  \"error\": \"x\"\n}\n");
        }
        let run = format!("run m.toml --quiet --resume --dir {dir} train.iterations=400");
        let runs: Vec<String> = (0..6).map(|_| run.clone()).collect();
        let ran = at_once(&bench, &runs);
        assert!(ran.iter().any(|ran| ran.code == Some(0)));
        for loser in ran.into_iter().filter(|ran| ran.code != Some(0)) {
            let message = loser.mistake();
            assert!(message.contains("is working on this run"), "{message}");
        }
        assert!(bench.path(&format!("{dir}/result.json")).exists());
        assert_eq!(bench.names(".").len(), 2 + usize::from(failed));
    }
}

#[test]
fn eight_tags_at_once_are_eight_tags() {
    let bench = Workbench::new(&SINUSOID.replace("iterations = 60", "iterations = 20"));
    bench.run("run m.toml --quiet --dir runs/a").ok();
    let tags: Vec<String> = (0..8).map(|tag| format!("runs tag t{tag} a")).collect();
    for ran in at_once(&bench, &tags) {
        ran.ok();
    }
    assert_eq!(
        bench.text("runs/a/tags.txt"),
        "t0\nt1\nt2\nt3\nt4\nt5\nt6\nt7\n"
    );
}

#[test]
fn what_kills_leave_behind_is_cleaned() {
    let bench = Workbench::new(&SINUSOID.replace("iterations = 60", "iterations = 20"));
    bench.run("run m.toml --quiet --dir runs/a").ok();
    // A new run that was killed before it got its name, and one of a process that is still at it.
    for name in [".tiny-0.123.tmp", ".tiny-1.123.0.tmp", ".tiny-2.123.0.tmp"] {
        for file in ["manifest.toml", "lock", ".record.json.123.1.tmp"] {
            bench.write(&format!("runs/{name}/{file}"), "x");
        }
    }
    bench.write("runs/.mine.123.tmp/thesis.txt", "x");
    let held = fs::File::open(bench.path("runs/.tiny-2.123.0.tmp/lock")).expect("a lock");
    held.try_lock().expect("it is free");
    let shown = bench.run("runs clean --dry-run").ok().stdout;
    assert_eq!(shown.matches("left behind by a kill").count(), 2, "{shown}");
    bench.run("runs clean").ok();
    let left = [".mine.123.tmp", ".tiny-2.123.0.tmp", ".trash", "a"];
    assert_eq!(bench.names("runs"), left);
    assert_eq!(
        bench.names("runs/.trash"),
        [".tiny-0.123.tmp", ".tiny-1.123.0.tmp"]
    );
    // Those in a run go when it goes on.
    fs::remove_file(bench.path("runs/a/result.json")).expect("removed");
    bench.write("runs/a/.checkpoint.safetensors.tmp", "x");
    bench.write("runs/a/.best.safetensors.123.4.tmp", "x");
    bench.run("run m.toml --quiet --resume --dir runs/a").ok();
    let names = bench.names("runs/a");
    assert!(
        names.iter().all(|name| !name.ends_with(".tmp")),
        "{names:?}"
    );
}
