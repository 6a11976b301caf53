//! Sweeps: many runs, checked before the first, skipped when done, continued when not.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::workbench::{Ran, SINUSOID, Workbench};

/// A sweep of four runs of less than a second.
fn sweep_manifest() -> String {
    format!("{SINUSOID}[sweep]\nseed = [0, 1]\n[sweep.grid]\nlearner.name = [\"maml\", \"anil\"]\n")
}

/// Identities are of all settings, and change when a default does; times are of the machine.
fn masked(text: &str) -> String {
    let hash = |word: &str| word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let masked = text.lines().map(|line| {
        let words = line.split(' ').map(|word| {
            let (start, end) = word
                .rsplit_once('-')
                .map_or(("", word), |(start, end)| (start, end));
            match start {
                _ if !hash(end) => word.to_owned(),
                "" => "............".to_owned(),
                start => format!("{start}-............"),
            }
        });
        words.collect::<Vec<_>>().join(" ")
    });
    masked.map(|line| line + "\n").collect()
}

/// The message of a sweep that must leave nothing behind.
#[track_caller]
fn refused(bench: &Workbench, arguments: &str) -> String {
    let before = bench.names(".");
    let message = bench.run(&format!("sweep {arguments}")).mistake();
    assert_eq!(bench.names("."), before, "nothing is written");
    masked(&message)
}

/// When every result in `runs` was written, by folder.
fn written(bench: &Workbench) -> BTreeMap<String, std::time::SystemTime> {
    let names = bench.names("runs").into_iter();
    let results = names.filter_map(|name| {
        let metadata = fs::metadata(bench.path(&format!("runs/{name}/result.json"))).ok()?;
        Some((name, metadata.modified().unwrap()))
    });
    results.collect()
}

#[test]
fn a_mistyped_axis() {
    let bench = Workbench::new(&sweep_manifest());
    insta::assert_snapshot!(refused(&bench, "m.toml learner.iner_lr=0.1,0.2"));
    bench.write(
        "bad.toml",
        sweep_manifest().replace("learner.name =", "learnr.name ="),
    );
    insta::assert_snapshot!(refused(&bench, "bad.toml"));
    bench.write(
        "bad.toml",
        sweep_manifest().replace("[sweep.grid]", "[sweep.gird]"),
    );
    insta::assert_snapshot!(refused(&bench, "bad.toml"));
}

#[test]
fn a_value_out_of_its_range() {
    let bench = Workbench::new(&sweep_manifest());
    insta::assert_snapshot!(refused(&bench, "m.toml train.lr=0.1,-1"));
    let glyphs = format!(
        "{}[sweep.grid]\ndata.way = [5, 100000]\n",
        crate::workbench::GLYPHS
    );
    bench.write("glyphs.toml", glyphs);
    insta::assert_snapshot!(refused(&bench, "glyphs.toml"));
}

/// `name`, `threads` and the like are no part of a run's identity: one of the values would be dropped.
#[test]
fn an_axis_of_one_run() {
    let bench = Workbench::new(SINUSOID);
    let message = refused(&bench, "m.toml name=a,b");
    assert_eq!(
        message,
        "error: axis `name`: `a` and `b` are the same run, because results do not depend on `name`; expected \
         values that make different runs\n"
    );
    let message = refused(&bench, "m.toml seed=0,1 threads=1,2");
    assert!(message.contains("axis `threads`: `1` and `2`"), "{message}");
    bench.run("sweep m.toml seed=0 name=other --dry-run").ok();
}

#[test]
fn an_empty_axis() {
    let bench = Workbench::new(&sweep_manifest().replace("[0, 1]", "[]"));
    insta::assert_snapshot!(refused(&bench, "m.toml"));
    insta::assert_snapshot!(refused(&bench, "m.toml train.lr="));
}

#[test]
fn a_duplicate_axis() {
    let bench = Workbench::new(&sweep_manifest());
    insta::assert_snapshot!(refused(&bench, "m.toml seed=1,2 seed=3"));
    let quoted = format!("{}\"learner.name\" = [\"maml\"]\n", sweep_manifest());
    bench.write("m.toml", quoted);
    insta::assert_snapshot!(refused(&bench, "m.toml"));
    let both = sweep_manifest()
        .replace("learner.name = [", "seed = [3, ")
        .replace("\"maml\", \"anil\"", "4");
    bench.write("m.toml", both);
    insta::assert_snapshot!(refused(&bench, "m.toml"));
}

#[test]
fn other_mistakes() {
    let bench = Workbench::new(&sweep_manifest());
    insta::assert_snapshot!(refused(&bench, "seed=1,2"));
    insta::assert_snapshot!(refused(&bench, "absent.toml"));
    insta::assert_snapshot!(refused(&bench, "m.toml --memory much"));
    insta::assert_snapshot!(refused(&bench, "m.toml --jobs 0"));
    insta::assert_snapshot!(bench.run("run m.toml").mistake());
    bench.write(
        "cap.toml",
        format!("{}[sweep]\nmax_runs = 3\nseed = [0, 1, 2, 3]\n", SINUSOID),
    );
    insta::assert_snapshot!(refused(&bench, "cap.toml"));
}

#[test]
fn help_texts() {
    let bench = Workbench::new("");
    for (name, arguments) in [
        ("help-sweep", "sweep --help"),
        ("help-sweep-status", "sweep status --help"),
        ("help-compare", "compare --help"),
        ("help-diff", "diff --help"),
        ("help-runs", "runs --help"),
        ("help-watch", "watch --help"),
        ("help-init", "init --help"),
        ("help-plot", "plot --help"),
        ("help-export", "export --help"),
    ] {
        insta::assert_snapshot!(name, bench.run(arguments).ok().stdout);
    }
}

/// The table of `--dry-run` without the times, which are of this machine.
fn dry_run(bench: &Workbench, arguments: &str) -> Vec<Value> {
    let ran = bench
        .run(&format!("sweep {arguments} --dry-run --format json"))
        .ok();
    let mut rows: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap();
    for row in &mut rows {
        assert!(row["time"].as_f64().is_none_or(|seconds| seconds > 0.0));
        assert!(row["memory"].as_f64().unwrap() > 1000.0);
        row.as_object_mut()
            .unwrap()
            .retain(|key, _| key != "time" && key != "memory");
    }
    rows
}

#[test]
fn everything_is_shown_then_run_then_skipped() {
    let bench = Workbench::new(&sweep_manifest());
    let rows = dry_run(&bench, "m.toml");
    assert_eq!(bench.names("."), ["m.toml"], "a dry run writes nothing");
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[2]["learner.name"], "anil");
    assert_eq!(rows[3]["seed"], "1");
    assert!(rows.iter().all(|row| row["state"] == "new"));

    let first = bench.run("sweep m.toml --jobs 2").ok();
    let shown = first
        .stdout
        .lines()
        .map(|line| line.split_once("  ").unwrap().1.trim_start());
    let states: Vec<&str> = shown.collect();
    assert!(states[1].starts_with("maml"), "{}", first.stdout);
    assert_eq!(
        first.stdout.matches("finished").count(),
        4,
        "{}",
        first.stdout
    );
    let before = written(&bench);
    assert_eq!(before.len(), 4);
    for row in dry_run(&bench, "m.toml") {
        assert_eq!(row["state"], "finished");
    }
    let again = bench.run("sweep m.toml").ok();
    assert_eq!(again.stdout, first.stdout);
    assert_eq!(written(&bench), before, "nothing is done twice");
    // A run alone is the same run: its origins are those of the axes.
    let run = before.keys().next().unwrap();
    let manifest = String::from_utf8(bench.bytes(&format!("runs/{run}/manifest.toml"))).unwrap();
    assert!(manifest.contains("# m.toml:2"), "{manifest}");

    // One more seed is one more run for each learner, and `name` is no part of an identity.
    let more = bench.run("sweep m.toml seed=1,2 name=other").ok();
    assert_eq!(more.stdout.matches("finished").count(), 4);
    let after = written(&bench);
    assert_eq!(after.len(), 6);
    assert!(before.iter().all(|(run, time)| after[run] == *time));
}

#[test]
fn manifests_compose_and_csv_files_are_trials() {
    let bench = Workbench::new(SINUSOID);
    bench.write("one.toml", "extends = \"m.toml\"\n[sweep]\nseed = [0, 1]\n");
    bench.write(
        "two.toml",
        "extends = \"m.toml\"\n[learner]\nname = \"reptile\"\n",
    );
    bench.write("t.csv", "train.lr,learner.name\n0.01,\n0.02,anil\n");
    let rows = dry_run(&bench, "one.toml two.toml --trials t.csv");
    // Six, of which one comes twice: the second trial names the learner for both manifests.
    assert_eq!(rows.len(), 5);
    assert_eq!(
        (&rows[3]["name"], &rows[3]["learner.name"]),
        (&"one".into(), &"anil".into())
    );
    assert_eq!(
        (&rows[4]["name"], &rows[4]["train.lr"]),
        (&"two".into(), &"0.01".into())
    );
    assert_eq!(rows[4]["learner.name"], Value::Null);
    bench.write("t.csv", "train.lr,learner.nme\n0.01,maml\n");
    insta::assert_snapshot!(refused(&bench, "one.toml --trials t.csv"));
}

/// Starts a sweep and waits until a run has so many results.
fn start_until(bench: &Workbench, arguments: &str, results: usize) -> std::process::Child {
    let mut child = bench.start(arguments);
    let deadline = Instant::now() + Duration::from_secs(120);
    while written(bench).len() < results {
        assert!(Instant::now() < deadline, "never had {results} results");
        assert!(child.try_wait().unwrap().is_none(), "ended too early");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// Longer runs, so that there is a middle.
fn long_manifest() -> String {
    sweep_manifest()
        .replace("iterations = 60", "iterations = 1500")
        .replace("log_every = 1", "log_every = 100")
}

#[test]
fn killed_and_started_again_it_ends_in_the_same_tables() {
    let whole = Workbench::new(&long_manifest());
    let expected = whole.run("sweep m.toml --jobs 2").ok().stdout;
    let bench = Workbench::new(&long_manifest());
    let mut child = start_until(&bench, "sweep m.toml --jobs 2", 1);
    child.kill().expect("SIGKILL is sent");
    child.wait().unwrap();
    let before = written(&bench);
    assert!(before.len() < 4, "it was killed in the middle");
    let again = bench.run("sweep m.toml --jobs 2").ok();
    assert_eq!(again.stdout, expected);
    let after = written(&bench);
    assert!(
        before.iter().all(|(run, time)| after[run] == *time),
        "nothing is done twice"
    );
    for format in ["text", "markdown", "csv", "json", "latex"] {
        let compare = format!("compare --format {format}");
        assert_eq!(
            bench.run(&compare).ok().stdout,
            whole.run(&compare).ok().stdout,
            "{format}"
        );
    }
}

#[test]
fn ctrl_c_saves_all_runs() {
    if cfg!(not(unix)) {
        return;
    }
    let manifest = long_manifest().replace("checkpoint_every = 10", "checkpoint_every = 0");
    let bench = Workbench::new(&manifest.replace("iterations = 1500", "iterations = 100000"));
    let mut child = bench.start("sweep m.toml --jobs 2");
    let deadline = Instant::now() + Duration::from_secs(120);
    let started = || {
        let logged = |name: &String| {
            fs::metadata(bench.path(&format!("runs/{name}/metrics.jsonl")))
                .is_ok_and(|file| file.len() > 0)
        };
        bench
            .names("runs")
            .iter()
            .filter(|name| logged(name))
            .count()
    };
    while started() < 2 {
        assert!(Instant::now() < deadline, "two runs never started");
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut saved = 0;
    for name in bench.names("runs") {
        let checkpoint = bench.path(&format!("runs/{name}/checkpoint.safetensors"));
        let Ok(checkpoint) = fs::read(checkpoint) else {
            continue;
        };
        // The checkpoint before the first iteration has none.
        let moments = b"moments.0/";
        let found = checkpoint
            .windows(moments.len())
            .any(|part| part == moments);
        assert!(found, "{name} was saved when it stopped");
        saved += 1;
    }
    assert_eq!(saved, 2);
    for row in dry_run(&bench, "m.toml train.iterations=100000") {
        assert!(
            ["unfinished", "new"].contains(&row["state"].as_str().unwrap()),
            "{row}"
        );
    }
}

#[test]
fn one_failure_is_the_failure_of_one_run() {
    let bench = Workbench::new(SINUSOID);
    // The second one diverges, the third one needs more memory than it may have.
    bench.write(
        "t.csv",
        "train.lr,train.meta_batch,encoder.hidden\n0.001,4,\"[16, 16]\"\n1e30,4,\"[16, 16]\"\n\
         0.002,2000,\"[400, 400]\"\n0.003,4,\"[16, 16]\"\n",
    );
    let text = String::from_utf8(bench.bytes("t.csv"))
        .unwrap()
        .replace('"', "");
    bench.write("t.csv", text);
    let command = "sweep m.toml --trials t.csv --memory 150MB --jobs 2";
    let ran = bench.run(command);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().skip(1).collect();
    assert!(
        lines[0].contains("finished") && lines[3].contains("finished"),
        "{}",
        ran.stdout
    );
    assert!(lines[1].contains("not a finite number"), "{}", ran.stdout);
    assert!(
        lines[2].contains("killed: it used more memory than its limit of 150 MB"),
        "{}",
        ran.stdout
    );
    let error = ran
        .stderr
        .lines()
        .find(|line| line.starts_with("error: "))
        .unwrap();
    assert!(
        error.starts_with("error: 2 of 4 runs failed; --retry tries them again"),
        "{error}"
    );
    // Failures stay until they are tried again.
    let again = bench.run(command);
    assert_eq!((again.code, again.stdout), (Some(1), ran.stdout.clone()));
    let list = bench.run("runs list --where state=failed").ok().stdout;
    assert_eq!(list.lines().count(), 3, "{list}");
}

#[test]
fn what_failed_is_tried_again_when_asked() {
    let bench = Workbench::new(SINUSOID);
    let killed = bench.run("sweep m.toml seed=0,1 --memory 5MB");
    assert_eq!(killed.code, Some(1), "{}", killed.stderr);
    assert_eq!(
        killed.stdout.matches("its limit of 5 MB").count(),
        2,
        "{}",
        killed.stdout
    );
    let left = bench.run("sweep m.toml seed=0,1");
    assert_eq!((left.code, left.stdout), (Some(1), killed.stdout));
    let retried = bench.run("sweep m.toml seed=0,1 --retry").ok();
    assert_eq!(
        retried.stdout.matches("finished").count(),
        2,
        "{}",
        retried.stdout
    );
}

#[test]
fn fail_fast_stops_all() {
    let bench = Workbench::new(SINUSOID);
    let ran = bench.run("sweep m.toml train.lr=1e30,0.001,0.002 --jobs 1 --fail-fast");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!(ran.stdout.matches("failed").count(), 1, "{}", ran.stdout);
    assert_eq!(ran.stdout.matches("new").count(), 2, "{}", ran.stdout);
}

#[test]
fn halving_keeps_the_best() {
    let text = SINUSOID.replace("validate_every = 20", "validate_every = 10");
    let text = format!(
        "{text}[sweep.grid]\ntrain.lr = [1e-9, 0.01, 1e-8, 1e-7]\n[sweep.halving]\nfirst = 20\nfactor = 2\n"
    );
    let bench = Workbench::new(&text);
    let ran = bench.run("sweep m.toml --jobs 2").ok();
    let lines: Vec<&str> = ran.stdout.lines().skip(1).collect();
    assert!(lines[1].contains("finished"), "{}", ran.stdout);
    assert_eq!(
        ran.stdout.matches("left at iteration 20").count(),
        2,
        "{}",
        ran.stdout
    );
    assert_eq!(
        ran.stdout.matches("left at iteration 40").count(),
        1,
        "{}",
        ran.stdout
    );
    let before = written(&bench);
    assert_eq!(before.len(), 1);
    let again = bench.run("sweep m.toml --jobs 2").ok();
    assert_eq!(again.stdout, ran.stdout);
    assert_eq!(written(&bench), before);
    bench.write(
        "m.toml",
        text.replace("validate_every = 10", "validate_every = 15"),
    );
    insta::assert_snapshot!(refused(&bench, "m.toml"));
}

#[test]
fn a_search_is_the_same_again() {
    let text = format!(
        "{SINUSOID}[sweep]\nsearch_seed = 3\n[sweep.tpe]\ntrials = 5\nstartup = 3\n\
         learner.inner_lr = {{ log_uniform = [1e-4, 0.1] }}\nlearner.inner_steps = {{ integer = [1, 3] }}\n"
    );
    let bench = Workbench::new(&text.replace("iterations = 60", "iterations = 20"));
    let first = bench.run("sweep m.toml").ok();
    assert_eq!(
        first.stdout.matches("finished").count(),
        5,
        "{}",
        first.stdout
    );
    let before = written(&bench);
    let again = bench.run("sweep m.toml").ok();
    assert_eq!(again.stdout, first.stdout);
    assert_eq!(written(&bench), before);
    let sweep = format!("runs/sweeps/{}", bench.names("runs/sweeps")[0]);
    let trials = String::from_utf8(bench.bytes(&format!("{sweep}/trials.csv"))).unwrap();
    assert_eq!(trials.lines().count(), 6, "{trials}");
    assert!(
        trials.starts_with("trial,learner.inner_lr,learner.inner_steps,cost\n0,"),
        "{trials}"
    );
    insta::assert_snapshot!(refused(&bench, "m.toml train.lr=0.1,0.2"));
    // A range whose end cannot run is refused before the first run.
    bench.write(
        "m.toml",
        text.replace("integer = [1, 3]", "integer = [-1, 3]"),
    );
    let message = refused(&bench, "m.toml");
    assert!(message.contains("learner.inner_steps"), "{message}");
}

#[test]
fn another_program_can_choose() {
    let bench = Workbench::new(&SINUSOID.replace("iterations = 60", "iterations = 40"));
    let mut child = bench
        .command("sweep serve m.toml")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for line in [
        "{\"id\": 1, \"settings\": {\"learner.inner_lr\": 0.02}, \"until\": 20}",
        "{\"id\": 2, \"settings\": {\"learner.inner_lr\": 0.02}}",
        "{\"id\": 3, \"settings\": {\"learner.iner_lr\": 0.02}}",
        "{\"id\": 4, \"settings\": {\"train.lr\": 1e30}}",
        "what?",
    ] {
        writeln!(stdin, "{line}").unwrap();
    }
    drop(stdin);
    let ran = Ran::from(child.wait_with_output().unwrap()).ok();
    let lines: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["direction"], "minimize");
    let states: Vec<&str> = lines[1..]
        .iter()
        .map(|line| line["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        states,
        ["paused", "finished", "refused", "failed", "refused"],
        "{}",
        ran.stdout
    );
    assert_eq!(lines[1]["run"], lines[2]["run"]);
    assert!(lines[2]["value"].as_f64().unwrap() <= lines[1]["value"].as_f64().unwrap());
    assert!(
        lines[3]["error"]
            .as_str()
            .unwrap()
            .contains("did you mean `inner_lr`")
    );
    assert_eq!(lines[4]["id"], 4);
}

#[test]
fn status_counts_the_runs() {
    let bench = Workbench::new(&sweep_manifest());
    bench.run("sweep m.toml --quiet").ok();
    let status = masked(&bench.run("sweep status").ok().stdout);
    let sweep = format!("runs/sweeps/{}", bench.names("runs/sweeps")[0]);
    assert!(status.contains("4     4"), "{status}");
    let one = bench.run(&format!("sweep status {sweep}")).ok().stdout;
    assert_eq!(one.matches("60/60").count(), 4, "{one}");
    // From another folder, too.
    let mut elsewhere = bench.command("sweep status");
    elsewhere
        .arg(bench.path(&sweep))
        .current_dir(bench.path("runs"));
    let elsewhere = Ran::from(elsewhere.output().unwrap()).ok().stdout;
    assert_eq!(elsewhere, one);
    let message = bench.run("sweep status nowhere").mistake();
    assert!(message.contains("nowhere"), "{message}");
}

#[test]
fn values_in_step_may_come_again_but_not_all_together() {
    let zip = |second: &str| {
        let axes = format!("[sweep.zip]\ntrain.lr = [0.01, 0.01]\ntrain.meta_batch = {second}\n");
        Workbench::new(&format!("{SINUSOID}{axes}"))
    };
    let planned = zip("[1, 2]").run("sweep m.toml --dry-run").ok().stdout;
    assert_eq!(planned.lines().count(), 3, "{planned}");
    let refused = zip("[2, 2]").run("sweep m.toml --dry-run").mistake();
    assert!(
        refused.contains("m.toml:24: `train.lr = 0.01`"),
        "{refused}"
    );
    assert!(refused.contains("this combination twice"), "{refused}");
}

#[test]
fn results_stand_beside_rules_that_learn_nothing() {
    let bench = Workbench::new(SINUSOID);
    bench
        .run("sweep m.toml seed=0,1 --results page.md --quiet")
        .ok();
    let page = String::from_utf8(bench.bytes("page.md")).unwrap();
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `tiny` | maml | "))
        .collect();
    assert_eq!(rows.len(), 2, "{page}");
    // The baseline is the variance of the targets, about E[A²] / 2 = (5³ − 0.1³) / (3 · 4.9) / 2.
    let baseline: f64 = rows[0].split('|').nth(4).unwrap().trim().parse().unwrap();
    assert!((2.0..7.0).contains(&baseline), "{page}");
    assert!(
        page.contains("baseline: mean target of the training tasks"),
        "{page}"
    );
}
