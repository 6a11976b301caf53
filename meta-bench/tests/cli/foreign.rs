//! Nothing that this program did not write is removed or written over, by any command.

use std::{collections::BTreeMap, fs, path::Path};

use crate::workbench::{SINUSOID, Workbench};

/// A run of a moment.
fn short() -> String {
    SINUSOID
        .replace("iterations = 60", "iterations = 4")
        .replace("validate_every = 20", "validate_every = 2")
}

/// Every file below `folder`, with the hash of its content.
fn snapshot(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(snapshot(&path));
        } else {
            let content = fs::read(&path).expect("a file");
            found.insert(
                path.display().to_string(),
                blake3::hash(&content).to_string(),
            );
        }
    }
    found
}

/// Runs a command that must refuse and name `name`, and change nothing in `folder`.
#[track_caller]
fn refused(bench: &Workbench, folder: &str, arguments: &str, name: &str) {
    let before = snapshot(&bench.path(folder));
    let message = bench.run(arguments).mistake();
    assert!(message.contains(name), "{arguments}: {message}");
    assert_eq!(snapshot(&bench.path(folder)), before, "{arguments}");
}

#[test]
fn a_folder_that_is_not_a_run_is_kept_by_every_command() {
    let bench = Workbench::new(&short());
    let failure = "{\n  \"error\": \"no memory\"\n}\n";
    let looks: [&[(&str, &str)]; 5] = [
        &[("failure.json", "{}")],
        &[("failure.json", failure)],
        &[("failure.json", failure), ("checkpoint.safetensors", "x")],
        &[("record.json", "{}"), ("lock", "mine")],
        &[("record.json", "{}"), ("result.json", "{}")],
    ];
    for (number, files) in looks.into_iter().enumerate() {
        let folder = format!("d{number}");
        bench.write(&format!("{folder}/thesis.txt"), "x");
        for (name, content) in files {
            bench.write(&format!("{folder}/{name}"), content);
        }
        for command in [
            format!("run m.toml --quiet --dir {folder}"),
            format!("run m.toml --quiet --resume --dir {folder}"),
            format!("runs remove {folder}"),
            format!("runs tag paper {folder}"),
            format!("eval {folder}"),
            format!("explain {folder} --force"),
        ] {
            refused(&bench, &folder, &command, &folder);
        }
        bench.run("runs --runs . clean").ok();
        assert!(bench.path(&folder).join("thesis.txt").exists());
    }
}

/// What only a failure has left behind is no obstacle, and its tags stay.
#[test]
fn a_run_that_failed_early_starts_again_with_its_tags() {
    let bench = Workbench::new(&short());
    bench.write("d/failure.json", "{\n  \"error\": \"no memory\"\n}\n");
    bench.run("runs --runs . tag paper d").ok();
    bench.run("run m.toml --quiet --dir d").ok();
    assert_eq!(bench.text("d/tags.txt"), "paper\n");
    assert!(!bench.path("d/failure.json").exists());
    assert!(bench.path("d/result.json").exists());
}

#[test]
fn a_foreign_folder_ends_no_other_run_of_a_sweep() {
    let bench = Workbench::new(&short());
    let planned = bench
        .run("sweep m.toml seed=0,1,2 --dry-run --format json")
        .ok();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&planned.stdout).expect("JSON");
    let name = format!("runs/tiny-{}", rows[1]["run"].as_str().expect("a name"));
    bench.write(&format!("{name}/thesis.txt"), "x");
    for arguments in ["", "--retry"] {
        let ran = bench.run(&format!("sweep m.toml seed=0,1,2 --jobs 1 {arguments}"));
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert_eq!(
            ran.stdout.matches(" finished ").count(),
            2,
            "{}",
            ran.stdout
        );
        assert!(ran.stdout.contains("not a run"), "{}", ran.stdout);
        let error = ran.stderr.lines().last().expect("an error");
        assert!(error.contains(&name), "{error}");
        assert_eq!(bench.names(&name), ["thesis.txt"]);
    }
    bench.run("runs verify").ok();
    fs::remove_dir_all(bench.path(&name)).expect("removed");
    bench.run("sweep m.toml seed=0,1,2 --quiet").ok();
}

#[test]
fn a_foreign_folder_of_a_sweep_is_kept() {
    let bench = Workbench::new(&short());
    let shown = bench.run("sweep m.toml seed=0,1 --dry-run").ok().stderr;
    let line = shown.lines().last().expect("a line");
    let folder = line.rsplit("; ").next().expect("the folder").to_owned();
    bench.write(&format!("{folder}/trials.csv"), "mine");
    refused(&bench, &folder, "sweep m.toml seed=0,1 --quiet", &folder);
    bench.write(&format!("{folder}/plan.jsonl"), "mine");
    refused(&bench, &folder, "sweep m.toml seed=0,1 --quiet", &folder);
}

/// In a run folder, what is not of the run keeps the folder where it is.
#[test]
fn notes_in_a_run_folder_are_not_moved_away() {
    let bench = Workbench::new(&short());
    bench.run("run m.toml --quiet --dir runs/a").ok();
    bench.write("runs/a/notes.md", "x");
    refused(&bench, "runs", "runs remove a", "runs/a/notes.md");
    fs::remove_file(bench.path("runs/a/result.json")).expect("removed");
    let told = bench.run("runs clean").ok().stdout;
    assert!(told.contains("`notes.md`"), "{told}");
    assert!(bench.path("runs/a/notes.md").exists());
    fs::remove_file(bench.path("runs/a/notes.md")).expect("removed");
    bench.run("runs clean").ok();
    assert!(bench.path("runs/.trash/a/record.json").exists());
}

#[test]
fn named_files_are_written_over_where_this_program_wrote_them() {
    let bench = Workbench::new(&short());
    bench.run("run m.toml --quiet --dir run").ok();
    bench.write("out/thesis.svg", "<svg>mine</svg>\n");
    bench.write("out/thesis.json", "{\"mine\": 1}");
    bench.write("out/thesis.md", "# Results\n");
    let bench_one = "bench sinusoid-1 --samples 1 --seconds 0.01 --tasks 1";
    for command in [
        "plot run out/thesis.svg".to_owned(),
        "sweep m.toml --quiet --results out/thesis.md".to_owned(),
        format!("{bench_one} --json out/thesis.json"),
        format!("{bench_one} --history out/thesis.json"),
        format!("{bench_one} --plot out/thesis.svg"),
        format!("{bench_one} --scaling out/thesis.svg"),
    ] {
        refused(&bench, "out", &command, "out/thesis.");
    }
    bench.write("out/sinusoid-1/workload.json", "{\"mine\": 1}");
    let export = "bench sinusoid-1 --tasks 1 --export out";
    refused(&bench, "out", export, "workload.json");
    let sheet = "contact-sheet m.toml out/thesis.svg data.source=glyphs data.way=2";
    refused(&bench, "out", sheet, "out/thesis.svg");
    for _ in 0..2 {
        bench.run("plot run curve.svg").ok();
        bench.run("bench sinusoid-1 --tasks 1 --export there").ok();
    }
}

#[test]
fn pictures_are_replaced_and_nothing_beside_them() {
    let bench = Workbench::new(&short());
    bench.run("run m.toml --quiet --dir run").ok();
    let explain = "explain run --quiet --count 1 --deletion-episodes 0";
    bench.run(explain).ok();
    bench.run(&format!("{explain} --force")).ok();
    bench.write("run/explain/thesis.txt", "x");
    refused(&bench, "run", &format!("{explain} --force"), "thesis.txt");
    bench.write("mine/explain.json", "{}");
    refused(
        &bench,
        "mine",
        &format!("{explain} --force --out mine"),
        "mine",
    );
}
