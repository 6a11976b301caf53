//! The commands, as scripts and people use them.

use serde_json::Value;

use crate::workbench::{GLYPHS, SINUSOID, Workbench, compiled, manifests, says_a_time};

/// Only the classes that are tested count.
#[test]
fn an_evaluation_may_have_more_classes_than_validations_had() {
    let bench = Workbench::new(GLYPHS);
    let classes = "data.validation_classes=6 data.test_classes=40";
    bench
        .run(&format!("run m.toml --quiet --dir run {classes}"))
        .ok();
    bench.run("eval run data.way=30 --quiet").ok();
    let message = bench.run("eval run data.way=41 --quiet").mistake();
    assert!(
        message.contains("at most 40, the number of test classes"),
        "{message}"
    );
    let message = bench
        .run("eval run data.way=30 test.split=validation --quiet")
        .mistake();
    assert!(
        message.contains("at most 6, the number of validation"),
        "{message}"
    );
}

/// A validation before the first logged iteration has no loss to show.
#[test]
fn progress_shows_no_loss_before_there_is_one() {
    let bench = Workbench::new(&SINUSOID.replace("log_every = 1", "log_every = 50"));
    let told = bench.run("run m.toml --dir run").ok().stderr;
    assert!(told.contains("· validation "), "{told}");
    assert!(!told.contains("NaN"), "{told}");
}

#[test]
fn a_run_prints_one_json_object_and_leaves_its_folder() {
    let bench = Workbench::new(GLYPHS);
    let ran = bench.run("run m.toml --json").ok();
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    let result: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(result["metric"], "accuracy");
    assert_eq!(result["episodes"], 20);
    assert_eq!(result["iterations"], 30);
    assert_eq!(result["method"], "t");
    assert_eq!(result["backend"], "flex");
    let mean = result["mean"].as_f64().unwrap();
    assert!(mean > 0.2 && mean <= 1.0, "better than chance: {mean}");
    for key in [
        "ci95",
        "seed",
        "train_seconds",
        "loss",
        "best_iteration",
        "episode_set",
    ] {
        assert!(!result[key].is_null(), "{key}");
    }
    let run = result["run_dir"].as_str().unwrap();
    assert_eq!(run, bench.only_run());
    assert_eq!(
        bench.names(run),
        [
            "best.safetensors",
            "checkpoint.safetensors",
            "checksums.txt",
            "lock",
            "manifest.toml",
            "metrics.jsonl",
            "record.json",
            "result.json",
            "scores.json",
            "timing.jsonl",
        ]
    );
    let record: Value =
        serde_json::from_slice(&bench.bytes(&format!("{run}/record.json"))).unwrap();
    assert_eq!(record["hash"], result["hash"]);
    assert_eq!(record["protocol"]["transductive"], true);
    assert_eq!(record["versions"]["burn"], "0.21.0");
    let metrics = String::from_utf8(bench.bytes(&format!("{run}/metrics.jsonl"))).unwrap();
    let kinds = |kind: &str| {
        metrics
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|line| line["kind"] == kind)
            .count()
    };
    assert_eq!((kinds("train"), kinds("validation")), (30, 3));

    // Piped, progress is plain lines; and the summary is on stderr.
    assert!(ran.stderr.contains("iteration 30/30"), "{}", ran.stderr);
    assert!(ran.stderr.contains("test accuracy"), "{}", ran.stderr);

    // A finished run says so and does nothing.
    let checkpoint = bench.bytes(&format!("{run}/checkpoint.safetensors"));
    for arguments in ["run m.toml --json", "run m.toml --json --resume"] {
        let again = bench.run(arguments).ok();
        assert_eq!(again.stdout, ran.stdout);
        assert!(
            again.stderr.contains("this run is finished"),
            "{}",
            again.stderr
        );
    }
    assert_eq!(
        checkpoint,
        bench.bytes(&format!("{run}/checkpoint.safetensors"))
    );

    // Evaluating again gives the same number; other test settings another one.
    let same: Value =
        serde_json::from_str(&bench.run(&format!("eval {run} --json")).ok().stdout).unwrap();
    assert_eq!(same["mean"], result["mean"]);
    assert_eq!(same["episode_set"], result["episode_set"]);
    let arguments = format!("eval {run} test.episodes=7 data.way=3 --json");
    let other: Value = serde_json::from_str(&bench.run(&arguments).ok().stdout).unwrap();
    assert_eq!(
        (other["episodes"].as_u64(), other["way"].as_u64()),
        (Some(7), Some(3))
    );
    assert_ne!(other["episode_set"], result["episode_set"]);
    let refused = bench.run(&format!("eval {run} train.lr=1")).mistake();
    assert!(
        refused.contains("cannot change in a trained run"),
        "{refused}"
    );
}

#[test]
fn a_regression_reports_the_error_before_and_after_every_step() {
    let bench = Workbench::new(SINUSOID);
    let ran = bench.run("run m.toml --dir here").ok();
    for part in [
        "before adaptation",
        "after 1 step",
        "after 2 steps",
        "test mean squared error",
    ] {
        assert!(ran.stdout.contains(part), "{}", ran.stdout);
    }
    let result: Value = serde_json::from_slice(&bench.bytes("here/result.json")).unwrap();
    assert_eq!(result["by_step"].as_array().unwrap().len(), 3);
    assert_eq!(result["by_step"][2]["mean"], result["mean"]);
}

#[test]
fn check_shows_every_origin_and_makes_no_folder() {
    let bench = Workbench::new(SINUSOID);
    let shown = bench.run("check m.toml train.lr=0.5").ok().stdout;
    for part in [
        "m.toml:3",
        "lr = 0.5",
        "# command line",
        "# default",
        "# parameters       321",
        "# tasks in a graph 4",
        "# memory, peak",
        "# time, about",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(bench.names("."), ["m.toml"]);
    // What it prints is a manifest, of the same run.
    bench.write("again.toml", &shown);
    let again = bench.run("check again.toml").ok().stdout;
    let folder = |shown: &str| {
        let line = shown.lines().find(|line| line.starts_with("# run folder"));
        line.expect("the folder").to_owned()
    };
    assert_eq!(folder(&shown), folder(&again));
    let without = bench.run("check m.toml --no-trial").ok().stdout;
    assert!(!without.contains("# memory"), "{without}");
}

/// The peak of the trial is that of the run, within a quarter.
#[test]
fn a_forecast_of_memory_is_the_peak_of_the_run() {
    if cfg!(not(target_os = "linux")) {
        return;
    }
    let bench = Workbench::new(GLYPHS);
    // So large that the 32 MB pieces in which the allocator takes its memory do not decide.
    let sizes = "data.image_size=28 data.query=15 encoder.channels=64 encoder.blocks=4 \
                 learner.name=maml learner.inner_steps=3 train.iterations=6";
    let shown = bench.run(&format!("check m.toml {sizes}")).ok().stdout;
    let line = shown
        .lines()
        .find(|line| line.starts_with("# memory"))
        .expect("a forecast");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[4], "MB", "{line}");
    let forecast: f64 = words[3].parse().expect("a number");
    bench.run(&format!("run m.toml {sizes} --dir here")).ok();
    let result: Value = serde_json::from_slice(&bench.bytes("here/result.json")).unwrap();
    let peak = result["peak_bytes"].as_f64().expect("a peak") / 1e6;
    assert!(
        (forecast / peak - 1.0).abs() < 0.25,
        "forecast {forecast} MB, peak {peak} MB"
    );
}

#[test]
fn lists_are_for_people_and_for_scripts() {
    let bench = Workbench::new("");
    let table = bench.run("list").ok().stdout;
    for name in ["maml", "protonet", "conv4", "omniglot", "wgpu", "self"] {
        assert!(table.contains(name), "{table}");
    }
    let lists: Value = serde_json::from_str(&bench.run("list --json").ok().stdout).unwrap();
    assert_eq!(lists.as_object().unwrap().len(), 6);
    // A name and a setting are explained, as a table and as JSON.
    let shown = bench.run("list protonet").ok().stdout;
    assert!(
        shown.starts_with("[learner], name = \"protonet\"") && shown.contains("Snell"),
        "{shown}"
    );
    let shown = bench.run("list maml.inner_lr").ok().stdout;
    assert!(shown.contains("  inner_lr = "), "{shown}");
    let setting: Value =
        serde_json::from_str(&bench.run("list learner.inner_lr --json").ok().stdout).unwrap();
    let of = |row: &Value| row["of"].as_str().unwrap().to_owned();
    assert!(
        setting
            .as_array()
            .unwrap()
            .iter()
            .any(|row| of(row) == "maml"),
        "{setting}"
    );
    let message = bench.run("list protonett").mistake();
    assert!(message.contains("did you mean `protonet`"), "{message}");
    let script = bench.run("completions bash").ok().stdout;
    assert!(
        script.contains("report") && script.contains("complete -F"),
        "{script}"
    );
    bench.run("man pages").ok();
    assert!(bench.text("pages/meta-run.1").contains(".TH meta-run 1"));
    let one: Value = serde_json::from_str(&bench.run("list backends --json").ok().stdout).unwrap();
    assert_eq!(one["backends"].as_array().unwrap().len(), 7);
}

#[test]
fn a_contact_sheet_is_a_picture() {
    let bench = Workbench::new(GLYPHS);
    bench
        .run("contact-sheet m.toml sheet.png --classes 3 --items 4")
        .ok();
    assert_eq!(bench.bytes("sheet.png")[1..4], *b"PNG");
    let message = bench
        .run("contact-sheet m.toml sheet.png --split tset")
        .mistake();
    assert!(message.contains("did you mean `test`"), "{message}");
    bench
        .run("contact-sheet m.toml one.png --classes 1 --items 1")
        .ok();
    let message = bench
        .run("contact-sheet m.toml sheet.png --items 0")
        .mistake();
    assert!(
        message.contains("`--items 0`: must be in 1..="),
        "{message}"
    );
    let message = bench.run("contact-sheet m.toml absent/sheet.png").mistake();
    assert!(
        message.contains("absent/sheet.png: cannot write"),
        "{message}"
    );
}

#[test]
fn the_shipped_manifests_resolve() {
    let bench = Workbench::new("");
    let mut count = 0;
    for path in manifests("experiments")
        .into_iter()
        .chain(manifests("experiments/published"))
    {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // Vectors of its own where no file is named.
        let synthetic = name == "features-learners.toml";
        let data = [
            "omniglot",
            "features",
            "folder",
            "cifar",
            "clinc150",
            "banking77",
            "fewrel",
            "scan",
            "ucr",
            "tables",
            "uci-",
        ]
        .into_iter()
        .find(|data| name.contains(data) && !synthetic);
        let sweeps = std::fs::read_to_string(&path).unwrap().contains("\n[sweep");
        for arguments in [&["check", "--no-trial"][..], &["sweep", "--dry-run"]] {
            if arguments[0] == "sweep" && !sweeps {
                continue;
            }
            let mut command = bench.command(arguments[0]);
            let command = command.args(&arguments[1..]).arg(&path);
            let ran = command.env_remove("META_DATA").output().unwrap();
            let ran = crate::workbench::Ran::from(ran);
            if let Some(data) = data {
                // All its settings are known; only the data is not here.
                let message = ran.mistake();
                assert!(
                    message.contains(data)
                        || message.contains("pictures")
                        || message.contains(": cannot read: No such file"),
                    "{message}"
                );
                assert!(!message.contains("unknown"), "{message}");
            } else {
                ran.ok();
            }
        }
        count += 1;
    }
    assert!(count >= 7, "{count} manifests");
}

/// The first sentence of every manifest says what comes out, or what is forecast, and in which time.
#[test]
fn the_shipped_manifests_say_what_to_expect() {
    for path in manifests("experiments") {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut first = String::new();
        for line in text.lines().map_while(|line| line.strip_prefix('#')) {
            first.push_str(line);
            if line.ends_with(['.', ':']) {
                break;
            }
        }
        let name = path.display();
        // What takes hours or days, at the size of a paper, was not run.
        let stem = path.file_stem().unwrap().to_string_lossy();
        let is_large = stem.ends_with("-paper") || stem.ends_with("-full");
        let start = if is_large { " Forecast: " } else { " Expect " };
        assert!(first.starts_with(start), "{name}: {first}");
        assert!(says_a_time(&first), "{name}: {first}");
    }
}

#[test]
fn ctrl_c_saves_and_the_run_can_be_continued() {
    if cfg!(not(unix)) {
        return;
    }
    let bench = Workbench::new(SINUSOID);
    let long = "run m.toml train.iterations=100000 train.checkpoint_every=0 --dir here";
    let mut child = bench.start(long);
    crate::resume::wait_for_lines(&bench, "here/metrics.jsonl", 5, &mut child);
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let refused = bench.run(long).mistake();
    assert!(refused.contains("continue it with --resume"), "{refused}");
    let mut child = bench.start(&format!("{long} --resume"));
    let lines = bench
        .bytes("here/metrics.jsonl")
        .iter()
        .filter(|&&byte| byte == b'\n')
        .count();
    crate::resume::wait_for_lines(&bench, "here/metrics.jsonl", lines + 5, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The same manifest on two backends: the same numbers, to the rounding of f32.
#[test]
fn flex_and_ndarray_compute_the_same() {
    if !compiled("ndarray") {
        return;
    }
    for manifest in [SINUSOID, GLYPHS] {
        let bench = Workbench::new(manifest);
        let losses = |backend: &str| -> Vec<f64> {
            let arguments =
                format!("run m.toml backend={backend} train.iterations=5 --dir {backend} --quiet");
            bench.run(&arguments).ok();
            let metrics = bench.bytes(&format!("{backend}/metrics.jsonl"));
            String::from_utf8(metrics)
                .unwrap()
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .filter(|line| line["kind"] == "train")
                .map(|line| line["loss"].as_f64().unwrap())
                .collect()
        };
        let (flex, ndarray) = (losses("flex"), losses("ndarray"));
        assert_eq!((flex.len(), ndarray.len()), (5, 5));
        for (flex, ndarray) in flex.iter().zip(&ndarray) {
            let error = (flex - ndarray).abs() / flex.abs();
            assert!(error < 1e-4, "{flex} {ndarray}");
        }
    }
}

#[test]
fn a_finished_run_is_drawn() {
    let bench = Workbench::new(SINUSOID);
    bench.run("run m.toml --dir run --quiet").ok();
    bench.run("plot run run.svg").ok();
    let svg = String::from_utf8(bench.bytes("run.svg")).unwrap();
    for text in [
        "<svg",
        "iteration",
        "adaptation steps",
        "mean squared error",
    ] {
        assert!(svg.contains(text), "{text}");
    }
    let message = bench.run("plot no-such-run out.svg").mistake();
    assert!(message.contains("no-such-run"), "{message}");
    assert!(!bench.path("out.svg").exists());
}

#[test]
fn runs_are_drawn_over_a_setting() {
    let bench = Workbench::new(SINUSOID);
    for iterations in [2, 4] {
        let dir = format!("runs/{iterations}");
        let arguments = format!("run m.toml train.iterations={iterations} --dir {dir} --quiet");
        bench.run(&arguments).ok();
    }
    bench
        .run("plot runs curve.svg --x train.iterations --log-x")
        .ok();
    let svg = String::from_utf8(bench.bytes("curve.svg")).unwrap();
    for text in [
        "<svg",
        "train.iterations (logarithmic)",
        "unseen tasks",
        "training tasks",
    ] {
        assert!(svg.contains(text), "{text}");
    }
    let message = bench.run("plot runs out.svg --x learner.name").mistake();
    assert!(
        message.contains("expected a number to draw over"),
        "{message}"
    );
    let condition = "plot runs out.svg --x train.lr --where train.iterations>9";
    let message = bench.run(condition).mistake();
    assert!(message.contains("no finished run"), "{message}");
    assert!(!bench.path("out.svg").exists());
}
