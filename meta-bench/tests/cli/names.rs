//! Names that would do something where they are written: they do nothing, and are shown as they are.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::workbench::{GLYPHS, Ran, SINUSOID, Workbench};

/// A line break, a right-to-left override, an escape sequence.
const NAME: &str = "a\nseed = 7\u{202e}\u{1b}[31m.toml";

#[test]
fn a_manifest_of_any_name_gives_a_record_that_reads_back() {
    let bench = Workbench::new("");
    bench.write(NAME, SINUSOID);
    let run = |arguments: &str| -> Ran {
        let mut command = bench.command(arguments);
        command.arg(NAME).output().unwrap().into()
    };
    let checked = run("check --no-trial").ok().stdout;
    assert!(!checked.contains(['\u{202e}', '\u{1b}']), "{checked:?}");
    run("run --quiet --dir out").ok();
    let recorded = bench.text("out/manifest.toml");
    assert!(recorded.contains("\nseed = 0"), "{recorded}");
    assert!(
        recorded.contains("a\\nseed = 7\\u202e\\u001b[31m.toml:"),
        "{recorded}"
    );
    fs::copy(bench.path("out/manifest.toml"), bench.path("again.toml")).unwrap();
    assert_eq!(
        bench.run("diff out again.toml").ok().stdout,
        "no setting differs\n"
    );

    // A mistake in it is one line.
    bench.write(NAME, "sed = 1\n");
    let message = run("run").mistake();
    assert!(message.contains("\\u202e"), "{message}");
    assert!(!message.contains(['\u{202e}', '\u{1b}']), "{message:?}");
}

#[test]
fn a_log_in_a_file_has_no_colours() {
    let bench = Workbench::new(GLYPHS);
    let ran = bench.run("run m.toml --log trace train.iterations=2").ok();
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
    assert!(!ran.stdout.contains('\u{1b}'), "{:?}", ran.stdout);
}

/// A stand-in for `sbatch`, which writes down its arguments, one a line.
fn with_sbatch(bench: &Workbench) {
    bench.write(
        "bin/sbatch",
        "#!/bin/sh\nfor argument in \"$@\"; do printf '%s\\n' \"$argument\"; done >\"$SEEN\"\necho 1\n",
    );
    let program = bench.path("bin/sbatch");
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
}

fn submit(bench: &Workbench, arguments: &str, runs: &str) -> Ran {
    let path = format!("{}:/usr/bin:/bin", bench.path("bin").display());
    let mut command = bench.command(arguments);
    command.args(["--runs", runs]);
    command.env("PATH", path).env("SEEN", bench.path("seen"));
    command.output().unwrap().into()
}

#[test]
fn slurm_takes_every_value_as_one_argument() {
    let manifest = |slurm: &str| format!("{SINUSOID}[sweep]\nseed = [0, 1]\n[slurm]\n{slurm}\n");
    let bench = Workbench::new(&manifest(
        "options = [\"--comment=two $(touch owned) words\"]",
    ));
    with_sbatch(&bench);
    let runs = "the runs; touch owned #'%j'";
    submit(&bench, "sweep m.toml --launcher slurm", runs).ok();
    let seen = bench.text("seen");
    let seen: Vec<&str> = seen.lines().collect();
    assert!(
        seen.contains(&"--comment=two $(touch owned) words"),
        "{seen:?}"
    );
    let sweep = bench.names(&format!("{runs}/sweeps")).remove(0);
    let whole = bench.path(runs).canonicalize().unwrap();
    let output = format!(
        "--output={}/sweeps/{sweep}/logs/slurm-%A_%a.log",
        whole.display().to_string().replace('%', "%%")
    );
    assert!(seen.contains(&output.as_str()), "{output} {seen:?}");
    let script = bench.text(&format!("{runs}/sweeps/{sweep}/array.sh"));
    assert_eq!(
        seen.last(),
        Some(
            &bench
                .path(&format!("{runs}/sweeps/{sweep}/array.sh"))
                .to_str()
                .unwrap()
        )
    );
    assert!(!script.contains("SBATCH"), "{script}");

    // The script runs this program on this folder, whatever the folder is called.
    let task = std::process::Command::new("bash")
        .arg("-c")
        .arg(&script)
        .env("SLURM_ARRAY_TASK_ID", "0")
        .current_dir(bench.path("bin"))
        .output()
        .unwrap();
    assert!(
        task.status.success(),
        "{}",
        String::from_utf8_lossy(&task.stderr)
    );
    assert!(!bench.path("bin/owned").exists() && !bench.path("owned").exists());

    for (slurm, part) in [
        ("options = [\"--comment=x\\ntouch owned\"]", "slurm.options"),
        ("options = [\"--a=\\u0000\"]", "slurm.options"),
        ("options = [\"owned.sh\"]", "slurm.options"),
        ("partition = \"a|b\"", "slurm.partition"),
        ("partition = \"a\\u0000\"", "slurm.partition"),
        ("memory = \"4G&touch owned\"", "slurm.memory"),
        ("time = \"1\\n2\"", "slurm.time"),
    ] {
        bench.write("m.toml", manifest(slurm));
        let message = submit(&bench, "sweep m.toml --launcher slurm", "runs").mistake();
        assert!(
            message.contains(part) && message.contains("m.toml:"),
            "{message}"
        );
    }
    bench.write("m.toml", manifest(""));
    for runs in ["a\nb", "a\\b"] {
        let message = submit(&bench, "sweep m.toml --launcher slurm", runs).mistake();
        assert!(
            message.contains("--launcher slurm needs a path"),
            "{message}"
        );
    }
}

#[test]
fn a_comparison_in_csv_is_one_table() {
    let bench = Workbench::new(SINUSOID);
    bench.run("sweep m.toml train.iterations=4 train.validate_every=0 learner.name=maml,anil seed=0,1 --quiet").ok();
    for (arguments, start) in [
        ("compare --format csv", "#,learner.name,"),
        ("compare --format csv --pairs none", "#,learner.name,"),
        ("compare --format csv --pairs all", "pair,a,b,"),
        ("compare --format csv --contrast learner.name", "pair,a,b,"),
    ] {
        let ran = bench.run(arguments).ok();
        assert!(ran.stdout.starts_with(start), "{arguments}: {}", ran.stdout);
        let columns: Vec<usize> = ran
            .stdout
            .lines()
            .map(|line| line.split(',').count())
            .collect();
        assert!(
            columns.iter().all(|count| *count == columns[0]),
            "{}",
            ran.stdout
        );
        let told = ran.stderr.contains("add --pairs all");
        assert_eq!(told, arguments.ends_with("csv"), "{}", ran.stderr);
    }
}
