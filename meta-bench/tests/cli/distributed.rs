//! One run on several processes of MPI: the same bytes as on one, over kills and signals.
//!
//! Where this build or machine has no MPI the tests say so and pass, unless `META_MPI=required`, as in CI.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use meta_core::processes::MPI;

use crate::{
    data::picture,
    resume::{FILES, wait_for_lines},
    workbench::{GLYPHS, Ran, SINUSOID, Workbench, root},
};

/// Whether MPI can be used.
pub fn has_mpi() -> bool {
    let launcher = Command::new("mpirun").arg("--version").output();
    let why = match (MPI, launcher) {
        (false, _) => "this build is without `--features mpi`",
        (true, Err(_)) => "there is no mpirun; on Debian: apt-get install openmpi-bin",
        (true, Ok(_)) => return true,
    };
    let required = std::env::var("META_MPI").is_ok_and(|value| value == "required");
    assert!(!required, "{why}");
    eprintln!("skipped: {why}");
    false
}

/// `mpirun` of so many processes a group; each group runs `meta` with its arguments.
fn mpirun(bench: &Workbench, groups: &[(usize, &str)]) -> Command {
    let mut command = Command::new("mpirun");
    command.args([
        "--allow-run-as-root",
        "--oversubscribe",
        "--bind-to",
        "none",
    ]);
    for (index, (count, arguments)) in groups.iter().enumerate() {
        if index > 0 {
            command.arg(":");
        }
        command.args(["-n", &count.to_string(), env!("CARGO_BIN_EXE_meta")]);
        command.args(arguments.split_whitespace());
    }
    command
        .current_dir(bench.path("."))
        .env_remove("META_DATA")
        .env("XDG_CACHE_HOME", bench.path("cache"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(bench: &Workbench, groups: &[(usize, &str)]) -> Ran {
    mpirun(bench, groups).output().expect("mpirun runs").into()
}

fn start(bench: &Workbench, count: usize, arguments: &str) -> Child {
    mpirun(bench, &[(count, arguments)])
        .stdout(Stdio::null())
        .spawn()
        .expect("mpirun starts")
}

/// What a run in `one` came to is, byte for byte, what the one in `other` came to.
#[track_caller]
fn same(bench: &Workbench, one: &str, other: &str) {
    for file in FILES {
        let (one, other) = (format!("{one}/{file}"), format!("{other}/{file}"));
        assert!(
            bench.bytes(&one) == bench.bytes(&other),
            "{one} and {other} differ"
        );
    }
}

/// A manifest of the glyphs with another learner, and other settings of its encoder and training.
fn glyphs(learner: &str, encoder: &str, train: &str) -> String {
    GLYPHS
        .replace("name = \"protonet\"", learner)
        .replace("blocks = 2", &format!("blocks = 2\n{encoder}"))
        .replace(
            "meta_batch = 2",
            &format!("meta_batch = 4\ntask_chunk = 1\n{train}"),
        )
        .replace("iterations = 30", "iterations = 12")
        .replace("validate_every = 10", "validate_every = 6")
}

#[test]
fn any_number_of_processes_comes_to_the_same_bytes() {
    if !has_mpi() {
        return;
    }
    let second = "name = \"maml\"\ninner_steps = 2\norder = \"second\"";
    for (what, manifest) in [
        ("MAML, second order", glyphs(second, "", "")),
        (
            "ProtoNet with running statistics",
            glyphs("name = \"protonet\"", "norm = \"running\"", ""),
        ),
        (
            "CAVIA",
            SINUSOID
                .replace("\"maml\"", "\"cavia\"")
                .replace("meta_batch = 4", "meta_batch = 4\ntask_chunk = 1"),
        ),
        (
            "task relations",
            glyphs("name = \"task_relations\"", "", ""),
        ),
        (
            "task selection",
            glyphs("name = \"protonet\"", "", "task_selection = \"attention\""),
        ),
    ] {
        let bench = Workbench::new(&manifest);
        bench.run("run m.toml --dir alone --quiet").ok();
        for count in [2, 4] {
            let dir = format!("by-{count}");
            let ran = run(
                &bench,
                &[(count, &format!("run m.toml --dir {dir} --quiet --json"))],
            );
            let ran = ran.ok();
            assert!(ran.stdout.contains("\"mean\""), "{what}");
            assert_eq!(
                ran.stdout.matches("\"episode_set\"").count(),
                1,
                "one of them speaks"
            );
            eprintln!("{what}: {count} processes");
            same(&bench, "alone", &dir);
        }
    }
}

/// Numbers of the processes that work on the run in a folder.
fn workers(bench: &Workbench) -> Vec<String> {
    let folder = bench.path(".").canonicalize().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let mut found: Vec<String> = all
        .filter(|entry| {
            let program = std::fs::read_link(entry.path().join("exe"));
            let place = std::fs::read_link(entry.path().join("cwd"));
            program.is_ok_and(|program| program.ends_with("meta"))
                && place.is_ok_and(|place| place == folder)
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    found.sort_by_key(|number| number.parse::<u32>().unwrap_or(0));
    found
}

fn signal(name: &str, process: &str) {
    let sent = Command::new("kill").args([name, process]).status();
    assert!(sent.unwrap().success());
}

/// Waits for the end of all processes, for 30 s at most.
fn ended(mut launcher: Child) -> Ran {
    let deadline = Instant::now() + Duration::from_secs(30);
    while launcher.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it did not end within 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    launcher.wait_with_output().unwrap().into()
}

fn long() -> String {
    SINUSOID
        .replace("iterations = 60", "iterations = 400")
        .replace("meta_batch = 4", "meta_batch = 4\ntask_chunk = 1")
}

#[test]
fn a_killed_process_ends_all_and_another_number_resumes() {
    if !has_mpi() {
        return;
    }
    let bench = Workbench::new(&long());
    bench.run("run m.toml --dir alone --quiet").ok();
    let mut launcher = start(&bench, 2, "run m.toml --dir broken --quiet");
    wait_for_lines(&bench, "broken/metrics.jsonl", 45, &mut launcher);
    let second = workers(&bench).pop().expect("two work");
    signal("-9", &second);
    let ran = ended(launcher);
    assert_ne!(ran.code, Some(0));
    assert!(ran.stderr.contains("rank 1"), "it is named: {}", ran.stderr);

    // A signal to the second one saves all, and all end as interrupted.
    let mut launcher = start(&bench, 4, "run m.toml --dir broken --resume --quiet");
    wait_for_lines(&bench, "broken/metrics.jsonl", 120, &mut launcher);
    signal("-TERM", &workers(&bench)[1]);
    let ran = ended(launcher);
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("is saved, continue it with --resume"),
        "{}",
        ran.stderr
    );

    bench.run("run m.toml --dir broken --resume --quiet").ok();
    same(&bench, "alone", "broken");
}

/// One message, from the first process, and exit code 2.
#[track_caller]
fn refused(bench: &Workbench, groups: &[(usize, &str)], expected: &[&str]) {
    let started = Instant::now();
    let message = run(bench, groups).mistake();
    for part in expected {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn processes_that_differ_are_refused_by_name() {
    if !has_mpi() {
        return;
    }
    let manifest = GLYPHS.replace("meta_batch = 2", "meta_batch = 2\ntask_chunk = 1");
    let bench = Workbench::new(&manifest);
    let plain = "run m.toml --dir no --quiet";
    refused(
        &bench,
        &[(3, plain)],
        &["`train.meta_batch = 2`", "3 processes"],
    );
    let whole = "run m.toml --dir no --quiet train.task_chunk=2";
    refused(
        &bench,
        &[(2, whole)],
        &["train.task_chunk", "chunks of at most 1"],
    );
    let other = "run m.toml --dir no --quiet train.lr=0.5";
    refused(
        &bench,
        &[(1, plain), (1, other)],
        &["process 1 of 2", "`train.lr` is 0.5, not 0.001"],
    );
    refused(
        &bench,
        &[(2, "run m.toml --dir no train.lrr=1")],
        &["unknown key `train.lrr`"],
    );
    let folder = "run m.toml --dir no --quiet data.source=folder data.path=photos";
    for class in 0..30 {
        for item in 0..6 {
            let path = format!("here/photos/class{class:02}/{item}.png");
            bench.write(&path, picture(6 * class + item));
        }
    }
    std::fs::create_dir_all(bench.path("there")).unwrap();
    let here = format!("{folder} --data here");
    let there = format!("{folder} --data there");
    refused(
        &bench,
        &[(1, &here), (1, &there)],
        &["process 1 of 2", "there/photos"],
    );
    assert_eq!(bench.names("no"), Vec::<String>::new(), "nothing was begun");
}

/// Network namespaces of their own, with TCP between them. Where they are not allowed, as in most containers, the test
/// says so and passes.
#[test]
fn two_hosts_come_to_the_same_bytes() {
    if !has_mpi() {
        return;
    }
    let manifest = SINUSOID.replace("meta_batch = 4", "meta_batch = 4\ntask_chunk = 1");
    let bench = Workbench::new(&manifest);
    bench.run("run m.toml --dir alone --quiet").ok();
    let output = Command::new("bash")
        .arg(root().join("meta-bench/tests/mpi/namespaces.sh"))
        .args(["hosts", env!("CARGO_BIN_EXE_meta")])
        .args("run m.toml --dir two --quiet".split(' '))
        .current_dir(bench.path("."))
        .env_remove("META_DATA")
        .stdin(Stdio::null())
        .output();
    let ran = Ran::from(output.expect("bash runs"));
    if ran.code == Some(77) {
        eprintln!("skipped: {}", ran.stderr);
        return;
    }
    ran.ok();
    same(&bench, "alone", "two");
}

#[test]
fn a_build_without_mpi_says_so() {
    if MPI {
        return;
    }
    let bench = Workbench::new(GLYPHS);
    let mut command = bench.command("run m.toml --quiet");
    let ran = Ran::from(command.env("OMPI_COMM_WORLD_SIZE", "2").output().unwrap());
    let message = ran.mistake();
    assert!(message.contains("--features mpi"), "{message}");
}
