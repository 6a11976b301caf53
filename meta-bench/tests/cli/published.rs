//! Published figures, and experiments that repeat them.

use std::fs;

use serde_json::Value;

use crate::workbench::{GLYPHS, Workbench, manifests, says_a_time};

/// Every experiment that a paper has says in its first line which figure is published and what it came to here; the
/// figure is that of `[published]`, which its reduced form takes over. A line behind it says in which time.
#[test]
fn published_experiments_say_what_to_expect() {
    let mut figures = 0;
    for path in manifests("experiments/published") {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if name.starts_with("data-") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        let (published, here) = first.split_once("; here ").expect(first);
        assert!(here.ends_with('.'), "{first}");
        assert!(text.lines().skip(1).take(2).any(says_a_time), "{name}");
        let own = match name.strip_suffix("-reduced") {
            Some(paper) => {
                assert!(
                    text.contains(&format!("extends = \"{paper}.toml\"")),
                    "{name}"
                );
                let paper = path.with_file_name(format!("{paper}.toml"));
                fs::read_to_string(paper).unwrap()
            }
            None => text.clone(),
        };
        match published.strip_prefix("# Published ") {
            Some(figure) => {
                let (score, paper) = figure.split_once(" %, ").expect(first);
                let said = format!("[published]\nscore = {score}\npaper = \"{paper}\"\n");
                assert!(own.ends_with(&said), "{name}: {said}");
                figures += 1;
            }
            None => {
                assert_eq!(
                    published, "# No published figure for this setting",
                    "{name}"
                );
                assert!(!own.contains("[published]"), "{name}");
            }
        }
    }
    assert!(figures >= 20, "{figures} figures");
}

/// The figure stands beside the result and in the record; it is of no other test, and no part of what a run is.
#[test]
fn a_published_figure_is_said() {
    let table = "[published]\nscore = 91.5\npaper = \"Somebody 2017, table 1\"\n";
    let bench = Workbench::new(&format!("{GLYPHS}{table}"));
    bench.write("without.toml", GLYPHS);
    let read = |name: &str| -> Value { serde_json::from_slice(&bench.bytes(name)).unwrap() };
    let ran = bench.run("run m.toml --dir said train.iterations=10").ok();
    let line = ran.stdout.lines().find(|line| line.contains("published"));
    let line = line.expect("a line of the summary");
    assert!(
        line.contains("91.5, here ") && line.contains("Somebody"),
        "{line}"
    );
    let result = read("said/result.json");
    assert_eq!(result["published"]["score"], 91.5);
    assert_eq!(
        read("said/record.json")["manifest"]["published"]["score"],
        91.5
    );
    bench
        .run("run without.toml --dir silent --quiet train.iterations=10")
        .ok();
    let silent = read("silent/result.json");
    assert_eq!(silent["hash"], result["hash"]);
    assert!(silent.get("published").is_none());
    let same = bench.run("eval said --json --quiet").ok().stdout;
    let same: Value = serde_json::from_str(&same).unwrap();
    assert_eq!(same["published"], result["published"]);
    let other = bench.run("eval said data.way=3 --json --quiet").ok().stdout;
    let other: Value = serde_json::from_str(&other).unwrap();
    assert!(other.get("published").is_none(), "{other}");
    let message = bench.run("check m.toml published.score=-1").mistake();
    assert!(message.contains("`published.score = -1"), "{message}");
}

/// What a run has learned is tested as another experiment: its figure and the untrained learner stand beside the
/// result, which the ledger takes; another learner's experiment, or a changed one, has no figure.
#[test]
fn a_run_is_tested_as_a_published_experiment() {
    let bench = Workbench::new(GLYPHS);
    bench.run("run m.toml --dir run --quiet").ok();
    let other = |name: &str| {
        let table = "[published]\nscore = 96.0\npaper = \"Somebody 2017, table 1\"\n";
        format!("[data]\nway = 3\n[test]\nepisodes = 30\n[learner]\nname = \"{name}\"\n{table}")
    };
    bench.write("three-way.toml", other("protonet"));
    bench.write("maml.toml", other("maml"));
    let eval = |arguments: &str| -> Value {
        let ran = bench.run(&format!("eval run --json --quiet {arguments}"));
        serde_json::from_str(&ran.ok().stdout).unwrap()
    };
    let found = eval("--on three-way.toml");
    assert_eq!(found["published"]["score"], 96.0);
    assert_eq!((&found["way"], &found["episodes"]), (&3.into(), &30.into()));
    assert!(found["untrained"]["mean"].is_f64(), "{found}");
    let evals = bench.names("run/evals");
    let kept = format!("run/evals/{}", evals[0]);
    let page = bench
        .run(&format!("docs ledger {kept} --folder ledger"))
        .ok();
    let name = "| `three-way`, trained as `glyphs` | protonet | 3-way 1-shot, ";
    assert!(page.stdout.contains(name), "{}", page.stdout);
    let again = bench.run("docs ledger --folder ledger").ok();
    assert_eq!(again.stdout, page.stdout);

    for changed in ["--on three-way.toml data.shot=1", "--on maml.toml"] {
        let found = eval(changed);
        assert!(found.get("published").is_none(), "{changed}: {found}");
    }
    let evals = bench.names("run/evals");
    let plain = evals.iter().find(|name| !kept.ends_with(*name)).unwrap();
    let message = bench
        .run(&format!("docs ledger run/evals/{plain} --folder ledger"))
        .mistake();
    assert!(
        message.contains("repeats no published experiment"),
        "{message}"
    );
    let message = bench.run("docs ledger m.toml --folder ledger").mistake();
    assert!(message.contains("expected a run folder"), "{message}");
}

/// A learner that reads the support item by item says how well it knows a class at each presentation.
#[test]
fn accuracy_by_instance_is_part_of_the_result() {
    let bench = Workbench::new(GLYPHS);
    let mann =
        "learner.name=mann learner.hidden=8 learner.slots=6 learner.slot_width=4 data.shot=3";
    let ran = bench.run(&format!("run m.toml --dir run {mann}")).ok();
    assert!(ran.stdout.contains("  instance 3 "), "{}", ran.stdout);
    let read = |name: &str| -> Value { serde_json::from_slice(&bench.bytes(name)).unwrap() };
    let result = read("run/result.json");
    let instances = result["by_instance"].as_array().unwrap();
    assert_eq!(instances.len(), 3);
    for (place, instance) in instances.iter().enumerate() {
        assert_eq!(instance["instance"], place + 1);
        let mean = instance["mean"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&mean), "{instance}");
    }
    let again = bench.run("eval run --json --quiet").ok().stdout;
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["by_instance"], result["by_instance"]);
}
