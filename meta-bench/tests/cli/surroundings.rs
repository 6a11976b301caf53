//! Files that are none, signals, readers that go, memory that ends.
#![cfg(unix)]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::symlink, net::UnixListener},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    resume::wait_for_lines,
    workbench::{Ran, SINUSOID, Workbench},
};

/// How `child` ends, if it does within `limit`.
#[track_caller]
fn ends_within(child: &mut Child, limit: Duration) -> ExitStatus {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("the child can be asked") {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it did not end within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.expect("kill").success());
}

/// The answer to `arguments`, which must come within a minute.
#[track_caller]
fn answer(bench: &Workbench, arguments: &str) -> Ran {
    let mut child = bench.command(arguments).spawn().expect("the binary starts");
    ends_within(&mut child, Duration::from_secs(60));
    child.wait_with_output().expect("its output").into()
}

/// A pipe would wait for a writer, and a device has no end.
#[test]
fn what_is_no_regular_file_is_refused() {
    let bench = Workbench::new("");
    let made = Command::new("mkfifo").arg(bench.path("fifo.toml")).status();
    assert!(made.expect("mkfifo").success());
    let _socket = UnixListener::bind(bench.path("socket.toml")).unwrap();
    symlink("/dev/zero", bench.path("zero.toml")).unwrap();
    bench.write("large.toml", "");
    let large = fs::File::options()
        .write(true)
        .open(bench.path("large.toml"));
    large.unwrap().set_len(1 << 40).unwrap();
    fs::create_dir(bench.path("folder.toml")).unwrap();
    for name in ["fifo", "socket", "zero", "large", "folder"] {
        let file = format!("{name}.toml");
        bench.write("m.toml", format!("extends = '{file}'\n"));
        bench.write("sweep.toml", format!("[sweep]\ntrials = '{file}'\n"));
        for arguments in [
            format!("check {file}"),
            "check m.toml".to_owned(),
            format!("sweep {file} seed=0,1"),
            format!("sweep m.toml --trials {file}"),
            "sweep sweep.toml".to_owned(),
        ] {
            let message = answer(&bench, &arguments).mistake();
            assert!(message.contains(&file), "{arguments}: {message}");
        }
    }
}

#[test]
fn manifests_that_extend_without_end_are_refused() {
    let bench = Workbench::new("extends = ['1.toml', '1.toml']\n");
    for level in 1..40 {
        let next = level + 1;
        let text = format!("extends = ['{next}.toml', '{next}.toml']\n");
        bench.write(&format!("{level}.toml"), text);
    }
    bench.write("40.toml", "");
    let message = answer(&bench, "check m.toml").mistake();
    assert!(
        message.contains("more than 1000 files are extended"),
        "{message}"
    );

    let bench = Workbench::new("extends = '1.toml'\n");
    for level in 1..20_000 {
        bench.write(
            &format!("{level}.toml"),
            format!("extends = '{}.toml'\n", level + 1),
        );
    }
    let message = answer(&bench, "check m.toml").mistake();
    assert!(
        message.contains("more than 64 manifests extend each other in a row"),
        "{message}"
    );
    // What somebody may well do, works.
    let bench = Workbench::new("extends = ['a.toml', 'b.toml']\n");
    bench.write("a.toml", "extends = 'c.toml'\n");
    bench.write("b.toml", "extends = 'c.toml'\nseed = 3\n");
    bench.write("c.toml", "seed = 2\n");
    let shown = bench.run("check m.toml --no-trial").ok().stdout;
    assert!(shown.contains("b.toml:2"), "{shown}");
}

/// A run whose iterations take minutes.
fn start_endless(bench: &Workbench) -> Child {
    let long = "run m.toml --quiet --force --dir here learner.name=reptile learner.inner_lr=1e-9 \
                learner.inner_steps=1000000";
    let mut child = bench.start(long);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !bench.path("here/timing.jsonl").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        assert!(Instant::now() < deadline, "it never started");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    child
}

#[test]
fn a_second_signal_or_ten_seconds_end_an_iteration_without_end() {
    let bench = Workbench::new(SINUSOID);
    let mut twice = start_endless(&bench);
    send("-TERM", &twice);
    std::thread::sleep(Duration::from_secs(1));
    assert!(
        twice.try_wait().unwrap().is_none(),
        "the first one only asks"
    );
    send("-TERM", &twice);
    let status = ends_within(&mut twice, Duration::from_secs(5));
    assert_eq!(status.code(), Some(130));

    let bench = Workbench::new(SINUSOID);
    let mut once = start_endless(&bench);
    let asked = Instant::now();
    send("-TERM", &once);
    let status = ends_within(&mut once, Duration::from_secs(30));
    assert_eq!(status.code(), Some(130));
    assert!(
        asked.elapsed() > Duration::from_secs(9),
        "{:?}",
        asked.elapsed()
    );
}

#[test]
fn a_reader_of_stderr_that_goes_ends_nothing() {
    let bench = Workbench::new(SINUSOID);
    let mut child = bench.command("run m.toml --dir here").spawn().unwrap();
    drop(child.stderr.take());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(bench.path("here/result.json").exists());
}

#[test]
fn bytes_that_are_no_text_are_refused_as_requests() {
    let bench = Workbench::new(SINUSOID);
    let mut command = bench.command("sweep serve m.toml train.iterations=2 train.validate_every=2");
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut requests = child.stdin.take().unwrap();
    requests.write_all(b"\xff\xfe\x00\n{\"id\": 7}\n").unwrap();
    drop(requests);
    let answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let answers: Vec<Value> = answers
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert_eq!(answers[1]["state"], "refused");
    assert_eq!(
        (&answers[2]["id"], &answers[2]["state"]),
        (&json!(7), &json!("finished"))
    );
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_damaged_plan_is_named() {
    let bench = Workbench::new(SINUSOID);
    bench
        .run("sweep m.toml train.iterations=2 seed=0,1 --quiet")
        .ok();
    let plan = format!("runs/sweeps/{}/plan.jsonl", bench.names("runs/sweeps")[0]);
    let text = bench.text(&plan);
    let hash = text.split('"').nth(3).unwrap().to_owned();
    for other in ["abc", "", &"ä".repeat(32), &"g".repeat(64)] {
        bench.write(&plan, text.replace(&hash, other));
        let folder = plan.rsplit_once('/').unwrap().0;
        let message = bench.run(&format!("sweep status {folder}")).mistake();
        assert!(message.contains("plan.jsonl: is damaged"), "{message}");
    }
}

#[test]
fn more_workers_than_runs_are_not_started() {
    let bench = Workbench::new(SINUSOID);
    let most = u64::MAX;
    bench
        .run(&format!(
            "sweep m.toml train.iterations=2 seed=0,1 --quiet --jobs {most}"
        ))
        .ok();
}

/// A run that grows beyond its memory saves itself, and ends at once where that is not enough.
#[test]
fn a_run_that_takes_too_much_memory_ends_with_its_checkpoint() {
    if cfg!(not(target_os = "linux")) {
        return;
    }
    let bench = Workbench::new(SINUSOID);
    let long = "run m.toml --quiet --dir here train.iterations=1000000 train.checkpoint_every=0";
    let at_once = bench.run(&format!("{long} train.memory=1")).mistake();
    assert!(at_once.contains("train.memory of 1 MB"), "{at_once}");
    let _ = fs::remove_dir_all(bench.path("here"));

    // What the same run takes while it trains: a whole one takes more, for its test.
    let mut other = bench.start(&long.replace("here", "other"));
    wait_for_lines(&bench, "other/metrics.jsonl", 3, &mut other);
    let status = fs::read_to_string(format!("/proc/{}/status", other.id())).unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|line| line.split_whitespace().next());
    let resident: f64 = resident.expect("a size").parse().unwrap();
    // Less than it takes, but by less than a tenth.
    let limit = (0.96 * resident * 1024.0 / 1e6) as u64;
    let message = bench.run(&format!("{long} train.memory={limit}")).mistake();
    for part in ["train.memory", "is saved after iteration", "--resume"] {
        assert!(message.contains(part), "{message}");
    }
    // The limit is no part of the run: with another one, it goes on.
    let mut child = bench.start(&format!("{long} --resume"));
    let lines = bench.text("here/metrics.jsonl").lines().count();
    wait_for_lines(&bench, "here/metrics.jsonl", lines + 2, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
}
