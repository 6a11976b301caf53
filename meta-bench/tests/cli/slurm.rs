//! Sweeps through a real Slurm, started on this machine by `tests/slurm/slurm.sh`.
//!
//! Where it cannot be started the test says so and passes, unless `META_SLURM=required`, as in CI.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use crate::distributed::has_mpi;
use crate::workbench::{Ran, SINUSOID, Workbench, root};

/// A Slurm that is stopped at the end of the test.
struct Slurm {
    folder: tempfile::TempDir,
}

impl Slurm {
    /// None where it cannot be started.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let slurm = Slurm { folder };
        let output = slurm.script("start").output().expect("bash runs");
        if output.status.success() {
            return Some(slurm);
        }
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        let required = std::env::var("META_SLURM").is_ok_and(|value| value == "required");
        assert!(!required, "Slurm could not be started: {why}");
        eprintln!("skipped: Slurm could not be started: {why}");
        None
    }

    fn script(&self, action: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .arg(root().join("meta-bench/tests/slurm/slurm.sh"))
            .arg(action);
        command.arg(self.folder.path());
        command
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("slurm.conf")
    }

    /// Runs `meta` in `bench`.
    fn meta(&self, bench: &Workbench, arguments: &str) -> Ran {
        let mut command = bench.command(arguments);
        command
            .env("SLURM_CONF", self.configuration())
            .output()
            .unwrap()
            .into()
    }

    /// Runs a command of Slurm.
    fn slurm(&self, arguments: &str) -> String {
        let mut words = arguments.split(' ');
        let mut command = Command::new(words.next().unwrap());
        let output = command
            .args(words)
            .env("SLURM_CONF", self.configuration())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until `meta sweep status` of the only sweep satisfies `done`, and returns it.
    fn wait(&self, bench: &Workbench, what: &str, done: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(180);
        let sweep = format!("runs/sweeps/{}", bench.names("runs/sweeps")[0]);
        loop {
            let status = self
                .meta(bench, &format!("sweep status {sweep}"))
                .ok()
                .stdout;
            if done(&status) {
                return status;
            }
            if Instant::now() > deadline {
                let logs = bench
                    .names(&format!("{sweep}/logs"))
                    .into_iter()
                    .map(|name| {
                        let log = bench.bytes(&format!("{sweep}/logs/{name}"));
                        format!("{name}: {}\n", String::from_utf8_lossy(&log))
                    });
                let logs: String = logs.collect();
                panic!(
                    "{what}: never came to it:\n{status}\n{}\n{logs}",
                    self.slurm("scontrol show job")
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The number of the array that was submitted last.
    fn job(&self, bench: &Workbench) -> String {
        let sweep = bench.names("runs/sweeps").remove(0);
        let jobs = bench.bytes(&format!("runs/sweeps/{sweep}/slurm-jobs.txt"));
        String::from_utf8(jobs)
            .unwrap()
            .lines()
            .last()
            .unwrap()
            .to_owned()
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        let _ = self.script("stop").status();
    }
}

fn finished(count: usize) -> impl Fn(&str) -> bool {
    move |status| status.matches("finished").count() == count
}

fn manifest(iterations: usize, seeds: &str) -> String {
    let text = SINUSOID.replace("iterations = 60", &format!("iterations = {iterations}"));
    format!(
        "{text}[sweep]\nseed = {seeds}\n[slurm]\npartition = \"main\"\ntime = \"10:00\"\nparallel = 2\n"
    )
}

/// The files that say what a run came to.
fn same_results(one: &Workbench, other: &Workbench) {
    let runs = |bench: &Workbench| -> Vec<String> {
        let names = bench.names("runs").into_iter();
        names.filter(|name| name.starts_with("tiny")).collect()
    };
    assert_eq!(runs(one), runs(other));
    for run in runs(one) {
        for file in [
            "scores.json",
            "metrics.jsonl",
            "best.safetensors",
            "checkpoint.safetensors",
        ] {
            let path = format!("runs/{run}/{file}");
            assert!(one.bytes(&path) == other.bytes(&path), "{path} differs");
        }
    }
    let compare = |bench: &Workbench| bench.run("compare").ok().stdout;
    assert_eq!(compare(one), compare(other));
}

#[test]
fn slurm_comes_to_the_same_results_over_kills_requeues_and_cancels() {
    let Some(slurm) = Slurm::start() else { return };

    // An array of short runs, as the local launcher runs them.
    let local = Workbench::new(&manifest(60, "[0, 1, 2]"));
    let table = local.run("sweep m.toml --quiet").ok().stdout;
    let bench = Workbench::new(&manifest(60, "[0, 1, 2]"));
    let submitted = slurm.meta(&bench, "sweep m.toml --launcher slurm").ok();
    assert!(
        submitted.stderr.contains("3 of 3 runs"),
        "{}",
        submitted.stderr
    );
    slurm.wait(&bench, "three runs", finished(3));
    same_results(&local, &bench);
    // All done: the same command prints the same table as the local one, and submits nothing.
    let job = slurm.job(&bench);
    // Slurm may still be clearing the jobs away.
    let again = || {
        slurm
            .meta(&bench, "sweep m.toml --launcher slurm")
            .ok()
            .stdout
    };
    let printed = (0..60).map(|_| again()).find(|printed| !printed.is_empty());
    assert_eq!(printed, Some(table));
    assert_eq!(slurm.job(&bench), job);

    // Long runs: one is signalled that its time is up, one is killed, and the array is cancelled.
    let long = manifest(6000, "[0, 1]").replace("log_every = 1", "log_every = 100");
    let local = Workbench::new(&long);
    local.run("sweep m.toml --quiet").ok();
    let bench = Workbench::new(&long);
    let command = "sweep m.toml --launcher slurm";
    slurm.meta(&bench, command).ok();
    // At work, not only started by Slurm.
    let both = |status: &str| status.matches("running").count() == 2 && !status.contains(" 0/6000");
    slurm.wait(&bench, "both run", both);
    let queued = slurm.meta(&bench, command).ok();
    assert!(
        queued.stderr.contains("are in Slurm's queue"),
        "{}",
        queued.stderr
    );

    let holder = bench
        .names("runs")
        .into_iter()
        .filter(|name| name.starts_with("tiny"))
        .find_map(|name| {
            let path = bench.path(&format!("runs/{name}/manifest.toml"));
            let manifest = fs::read_to_string(path).ok()?;
            let second = manifest.lines().any(|line| line.starts_with("seed = 1"));
            second.then(|| fs::read_to_string(bench.path(&format!("runs/{name}/lock"))).ok())?
        })
        .expect("the second run has a folder");
    let killed = Command::new("kill").args(["-9", holder.trim()]).status();
    assert!(killed.unwrap().success());
    let status = slurm.wait(&bench, "killed", |status| status.contains("failed"));
    assert!(
        status
            .lines()
            .nth(2)
            .unwrap()
            .contains("killed by signal 9"),
        "{status}"
    );

    let job = slurm.job(&bench);
    slurm.slurm(&format!("scancel --signal=USR1 --batch {job}_0"));
    let status = slurm.wait(&bench, "back in the queue", |status| {
        status.contains("pending")
    });
    assert!(
        status.lines().nth(1).unwrap().contains("pending"),
        "{status}"
    );
    // Slurm lets what it requeues wait for two minutes, until all is gone that was left of it.
    std::thread::sleep(Duration::from_secs(4));
    slurm.slurm(&format!("scontrol update JobId={job}_0 StartTime=now"));
    slurm.wait(&bench, "requeued", |status| status.contains("running"));

    slurm.slurm(&format!("scancel {job}"));
    slurm.wait(&bench, "cancelled", |status| {
        status.contains("unfinished") && !status.contains("running")
    });
    // The same command resumes what was cancelled; with --retry, what was killed, too.
    slurm.meta(&bench, &format!("{command} --retry")).ok();
    slurm.wait(&bench, "all done", finished(2));
    same_results(&local, &bench);
}

/// As many processes of MPI as `[slurm]` says work on each run.
#[test]
fn runs_of_two_processes_come_to_the_same_results() {
    if !has_mpi() {
        return;
    }
    let Some(slurm) = Slurm::start() else { return };
    let text = manifest(60, "[0, 1]").replace("meta_batch = 4", "meta_batch = 4\ntask_chunk = 1");
    let local = Workbench::new(&text);
    local.run("sweep m.toml --quiet").ok();
    let bench = Workbench::new(&text.replace("parallel = 2", "parallel = 1\nprocesses = 2"));
    slurm.meta(&bench, "sweep m.toml --launcher slurm").ok();
    slurm.wait(&bench, "two runs", finished(2));
    same_results(&local, &bench);
    for run in bench.names("runs") {
        if run.starts_with("tiny") {
            let record = bench.text(&format!("runs/{run}/record.json"));
            assert!(record.contains("\"processes\": 2"), "{record}");
        }
    }
}

#[test]
fn without_slurm_the_launcher_says_what_it_needs() {
    let bench = Workbench::new(&manifest(60, "[0, 1]"));
    let mut command = bench.command("sweep m.toml --launcher slurm");
    let ran = Ran::from(command.env("PATH", bench.path(".")).output().unwrap());
    let message = ran.mistake();
    assert!(
        message.starts_with("error: cannot run `sbatch`: ")
            && message.contains("--launcher slurm needs a machine that submits to Slurm"),
        "{message}"
    );
    bench.write(
        "m.toml",
        manifest(60, "[0, 1]").replace("partition", "partion"),
    );
    let message = bench.run("sweep m.toml --launcher slurm").mistake();
    assert!(message.contains("did you mean `partition`"), "{message}");
}
