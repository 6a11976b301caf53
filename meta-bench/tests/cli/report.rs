//! Reports and exports of runs.

use std::{fs, process::Command, time::Instant};

use serde_json::Value;

use crate::{
    resume::wait_for_lines,
    workbench::{GLYPHS, SINUSOID, Workbench},
};

/// What a page must not have: anything that asks another place for something.
#[track_caller]
fn asks_for_nothing(page: &str) {
    assert!(page.contains("Content-Security-Policy") && page.contains("default-src 'none'"));
    for part in ["<link", "<iframe", "<object", "@import", "url(", "fetch("] {
        assert!(!page.contains(part), "{part}");
    }
    for attribute in [" src=\"", " href=\""] {
        for (place, _) in page.match_indices(attribute) {
            let rest = &page[place + attribute.len()..];
            assert!(rest.starts_with("data:"), "{}", &rest[..rest.len().min(60)]);
        }
    }
}

#[test]
fn one_run_is_reported() {
    let bench = Workbench::new(GLYPHS);
    bench
        .run("run m.toml --dir run --quiet data.train_way=6")
        .ok();
    let shown = bench.run("report run").ok().stdout;
    assert!(shown.starts_with("report.html: "), "{shown}");
    let page = bench.text("report.html");
    asks_for_nothing(&page);
    for part in [
        "protonet",
        "20 frozen test episodes",
        "Confusion matrix",
        "Hardest classes",
        "expected calibration error",
        "Training tasks are 6-way",
        "statistics of all items",
        "meta run manifest.toml",
        "command line",
        "@misc{snell2017prototypical",
        "command line",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let result: Value = serde_json::from_slice(&bench.bytes("run/result.json")).unwrap();
    let (mean, half) = (
        result["mean"].as_f64().unwrap(),
        result["ci95"].as_f64().unwrap(),
    );
    assert!(page.contains(&format!("{:.2} ± {:.2} %", 100.0 * mean, 100.0 * half)));
    // Of all test episodes, the predictions score what the test has scored.
    assert!(
        page.contains(&format!("{:.2} % are right", 100.0 * mean)),
        "{mean}"
    );
    // The same again is the same file; what is not a report stays.
    bench.run("report run").ok();
    assert_eq!(bench.text("report.html"), page);
    assert!(page.contains("No pictures: "));
    bench.run("explain run --count 1 --quiet").ok();
    bench.run("report run -o shown.html").ok();
    let shown = bench.text("shown.html");
    asks_for_nothing(&shown);
    assert!(shown.contains("alt=\"episode-0-projection\"") && shown.contains("alt=\"confusion\""));
    fs::write(bench.path("mine.html"), "<p>mine</p>").unwrap();
    let message = bench.run("report run -o mine.html").mistake();
    assert!(message.contains("mine.html: exists already"), "{message}");
    let message = bench.run("report nowhere").mistake();
    assert!(message.contains("nowhere"), "{message}");
    bench.write("empty/notes.txt", "");
    let message = bench.run("report empty").mistake();
    assert!(message.contains("no finished run"), "{message}");
    let message = bench.run("report run -o nowhere/report.html").mistake();
    assert!(message.contains("nowhere/report.html"), "{message}");
}

#[test]
fn many_runs_are_reported_and_exported() {
    let bench = Workbench::new(SINUSOID);
    bench
        .run("sweep m.toml learner.name=maml,anil seed=0,1 train.lr=0.001,0.01 --quiet --jobs 2")
        .ok();
    bench.run("report runs -o all.html").ok();
    let page = bench.text("all.html");
    asks_for_nothing(&page);
    for part in [
        "8 runs",
        "Verdict: ",
        "show single seeds",
        "share of the variance",
        "Mean over the 2 seeds",
    ] {
        assert!(page.contains(part), "{part}");
    }

    let rows = |arguments: &str| bench.run(&format!("export runs {arguments}")).ok().stdout;
    let scores = rows("--to csv");
    let first = scores.lines().next().unwrap();
    assert_eq!(
        first,
        "run,identity,name,learner,encoder,source,seed,metric,episode_set,step,episode,score,\
         log_likelihood,exact"
    );
    // Eight runs, 20 episodes, before the first step and after each of two.
    assert_eq!(scores.lines().count(), 1 + 8 * 20 * 3);
    let results: Value = serde_json::from_str(&rows("--to json --rows results")).unwrap();
    assert_eq!(results.as_array().unwrap().len(), 8);
    assert!(results[0]["mean"].as_f64().unwrap() > 0.0);
    assert_eq!(
        results[0]["train.meta_batch"],
        results[1]["train.meta_batch"]
    );
    let curves: Value = serde_json::from_str(&rows("--to json --rows curves")).unwrap();
    let of = |key: &str, value: &str| {
        let rows = curves.as_array().unwrap().iter();
        rows.filter(|row| row[key] == value).count()
    };
    assert!(of("kind", "validation") > 0 && of("number", "gradient_norm") > 0);

    bench.run("export runs --to tensorboard -o events").ok();
    let folders = bench.names("events");
    assert_eq!(folders.len(), 8);
    let file = format!("events/{}/events.out.tfevents.0.meta", folders[0]);
    let bytes = bench.bytes(&file);
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(b"brain.Event:2") && has(b"train/loss") && has(b"validation/score"));
    assert!(has(b"_hparams_/session_start_info") && has(b"manifest/text_summary"));
    // The same runs give the same bytes.
    bench.run("export runs --to tensorboard -o events").ok();
    assert_eq!(bench.bytes(&file), bytes);
    bench.write(&format!("events/{}/notes.txt", folders[1]), "mine");
    let message = bench
        .run("export runs --to tensorboard -o events")
        .mistake();
    assert!(message.contains("notes.txt"), "{message}");
    bench.write("mine.csv", "a,b\n");
    let message = bench.run("export runs --to csv -o mine.csv").mistake();
    assert!(message.contains("exists already"), "{message}");
    let message = bench.run("export nowhere --to csv").mistake();
    assert!(message.contains("nowhere"), "{message}");
}

/// Lets TensorBoard's own reader compare the event files of a folder with the metrics of a run, where there is
/// a Python with it (`META_PYTHON`, else `python3`).
#[track_caller]
fn tensorboard_reads(bench: &Workbench, run: &str, events: &str) {
    let python = std::env::var("META_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python)
        .args(["-c", "import tensorboard"])
        .output();
    if !has.is_ok_and(|output| output.status.success()) {
        println!("skipped: `{python}` has no package tensorboard (META_PYTHON names another)");
        return;
    }
    let ran = Command::new(&python)
        .args(["-c", include_str!("read_events.py")])
        .args([bench.path(run), bench.path(events)])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "read\n", "{said}");
}

/// TensorBoard's own reader finds what was logged, at rising steps.
#[test]
fn tensorboard_reads_what_was_exported() {
    let bench = Workbench::new(SINUSOID);
    bench.run("run m.toml --dir run --quiet").ok();
    bench.run("export run --to tensorboard -o events").ok();
    tensorboard_reads(&bench, "run", "events/run");
}

/// A run that was killed twice has three event files, in which no curve goes back; its other files are those
/// of a run without them.
#[test]
fn event_files_of_a_resumed_run_never_go_back() {
    let bench = Workbench::new(SINUSOID);
    bench.run("run m.toml --dir plain --quiet").ok();
    assert!(!bench.names("plain").contains(&"tensorboard".to_owned()));
    let command = "run m.toml --dir run --resume --quiet tracking.tensorboard=true";
    for lines in [15, 35] {
        let mut child = bench.start(command);
        wait_for_lines(&bench, "run/metrics.jsonl", lines, &mut child);
        child.kill().expect("SIGKILL is sent");
        child.wait().expect("the child ends");
    }
    bench.run(command).ok();
    for file in ["metrics.jsonl", "scores.json", "best.safetensors"] {
        assert!(bench.bytes(&format!("plain/{file}")) == bench.bytes(&format!("run/{file}")));
    }
    let files = bench.names("run/tensorboard");
    assert_eq!(files.len(), 3, "{files:?}");
    bench.run("runs verify run").ok();
    tensorboard_reads(&bench, "run", "run/tensorboard");
}

/// A file in its folder asks a run to stop, as `meta watch` does: it saves itself and resumes.
#[test]
fn a_run_is_stopped_by_a_file() {
    let bench = Workbench::new(SINUSOID);
    let command = "run m.toml --dir run --resume --quiet train.iterations=1000000";
    let mut child = bench.start(command);
    wait_for_lines(&bench, "run/metrics.jsonl", 5, &mut child);
    bench.write("run/stop", "");
    let status = child.wait().expect("the child ends");
    assert_eq!(status.code(), Some(130));
    assert!(!bench.names("run").contains(&"stop".to_owned()));
    // One that came too late asks nobody.
    bench.write("run/stop", "");
    let mut child = bench.start(command);
    let lines = bench.text("run/metrics.jsonl").lines().count();
    wait_for_lines(&bench, "run/metrics.jsonl", lines + 20, &mut child);
    child.kill().expect("SIGKILL is sent");
    child.wait().expect("the child ends");
}

#[test]
fn runs_are_watched_in_a_terminal_alone() {
    let bench = Workbench::new(SINUSOID);
    let message = bench.run("watch").mistake();
    for part in ["needs a terminal", "meta runs list", "meta sweep status"] {
        assert!(message.contains(part), "{message}");
    }
}

/// Parquet has the rows of CSV, where this build writes it; else it says how it would.
#[test]
fn tables_are_exported_as_parquet() {
    let bench = Workbench::new(SINUSOID);
    bench.run("run m.toml --dir run --quiet").ok();
    if !cfg!(feature = "parquet") {
        let message = bench
            .run("export run --to parquet -o scores.parquet")
            .mistake();
        assert!(message.contains("--features parquet"), "{message}");
        return;
    }
    let message = bench.run("export run --to parquet").mistake();
    assert!(message.contains("--output scores.parquet"), "{message}");
    for rows in ["scores", "curves", "results"] {
        let command = format!("export run --to parquet --rows {rows} -o rows.parquet");
        for _ in 0..2 {
            bench.run(&command).ok();
        }
        let bytes = bench.bytes("rows.parquet");
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    }
    bench.write("mine.parquet", "mine");
    let message = bench
        .run("export run --to parquet -o mine.parquet")
        .mistake();
    assert!(message.contains("exists already"), "{message}");
}

/// Every kind of figure in every form and style, with the data behind it.
#[test]
fn many_runs_are_drawn() {
    let bench = Workbench::new(SINUSOID);
    for (lr, seed) in [("0.01", 0), ("0.01", 1), ("0.001", 0), ("0.001", 1)] {
        let dir = format!("runs/{lr}-{seed}");
        bench
            .run(&format!(
                "run m.toml train.lr={lr} seed={seed} --dir {dir} --quiet"
            ))
            .ok();
    }
    for (arguments, said) in [
        ("", "iteration"),
        ("--kind steps", "adaptation steps"),
        ("--kind differences", "paired difference in squared error"),
        (
            "--x train.lr --log-x --style screen",
            "train.lr (logarithmic)",
        ),
    ] {
        let command = format!("plot runs out.svg --csv out.csv {arguments}");
        bench.run(&command).ok();
        let svg = bench.text("out.svg");
        assert!(
            svg.contains("drawn by meta") && svg.contains(said),
            "{arguments}"
        );
        let csv = bench.text("out.csv");
        assert!(csv.starts_with("series,x,mean,low,high\n"), "{csv}");
        assert!(csv.lines().count() > 1, "{arguments}");
    }
    for style in ["screen", "paper", "slides", "dark"] {
        for (form, begins) in [("pdf", b"%PDF"), ("png", b"\x89PNG"), ("svg", b"<svg")] {
            let command = format!("plot runs {style}.{form} --style {style}");
            for _ in 0..2 {
                bench.run(&command).ok();
            }
            assert!(bench.bytes(&format!("{style}.{form}")).starts_with(begins));
        }
    }
    let message = bench.run("plot runs out.svg --kind calibration").mistake();
    assert!(message.contains("no run classifies"), "{message}");
    let message = bench.run("plot runs out.svg --x data.shot").mistake();
    assert!(message.contains("`data.shot` has one value"), "{message}");
    bench.write("mine.pdf", "mine");
    let message = bench.run("plot runs mine.pdf").mistake();
    assert!(message.contains("exists already"), "{message}");
}

#[test]
fn calibration_is_drawn() {
    let bench = Workbench::new(GLYPHS);
    bench.run("run m.toml --dir run --quiet").ok();
    bench
        .run("plot run out.svg --kind calibration --episodes 5 --csv out.csv")
        .ok();
    assert!(bench.text("out.svg").contains("right (%)"));
    assert!(bench.text("out.csv").contains("calibration error"));
}

/// A browser that can be asked for a page as it stands after its script, where there is one.
fn browser() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| {
            let asked = Command::new(name).arg("--version").output();
            asked.is_ok_and(|output| output.status.success())
        })
}

/// A browser keeps to the policy of the page and runs its script: tables get their buttons.
#[test]
fn a_browser_shows_a_report() {
    let Some(browser) = browser() else {
        println!("skipped: no chromium");
        return;
    };
    let bench = Workbench::new(GLYPHS);
    bench.run("run m.toml --dir run --quiet").ok();
    bench.run("report run --episodes 5").ok();
    let shown = Command::new("timeout")
        .args([
            "120",
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
        ])
        .args(["--enable-logging=stderr", "--dump-dom"])
        .arg(format!(
            "--user-data-dir={}",
            bench.path("profile").display()
        ))
        .arg(format!("file://{}", bench.path("report.html").display()))
        .output()
        .unwrap();
    let page = String::from_utf8_lossy(&shown.stdout);
    let said = String::from_utf8_lossy(&shown.stderr);
    assert!(
        page.contains("<th scope=\"col\"><button type=\"button\">"),
        "{said}"
    );
    assert!(page.contains("id=\"tip\""), "{said}");
    for part in ["Refused to", "Uncaught", "Content Security Policy"] {
        assert!(!said.contains(part), "{said}");
    }
}

/// Copies of a run under other identities: as many as a large sweep has.
#[test]
fn two_hundred_runs_are_a_small_report() {
    let bench = Workbench::new(SINUSOID);
    bench.run("run m.toml --dir run --quiet").ok();
    let record: Value = serde_json::from_slice(&bench.bytes("run/record.json")).unwrap();
    let hash = record["hash"].as_str().unwrap().to_owned();
    for number in 0..200u64 {
        let own = format!("{number:064x}");
        let folder = format!("many/tiny-{}", &own[52..]);
        for file in [
            "manifest.toml",
            "record.json",
            "result.json",
            "scores.json",
            "metrics.jsonl",
            "timing.jsonl",
        ] {
            let mut text = bench.text(&format!("run/{file}")).replace(&hash, &own);
            if file == "record.json" {
                let mut record: Value = serde_json::from_str(&text).unwrap();
                record["manifest"]["train"]["lr"] = (0.001 * (1 + number / 5) as f64).into();
                record["manifest"]["seed"] = (number % 5).into();
                text = record.to_string();
            }
            bench.write(&format!("{folder}/{file}"), &text);
        }
    }
    let started = Instant::now();
    bench.run("report many -o many.html").ok();
    let seconds = started.elapsed().as_secs_f64();
    let bytes = bench.bytes("many.html").len();
    println!("200 runs: {bytes} bytes in {seconds:.1} s");
    assert!(bytes < 5_000_000, "{bytes}");
}
