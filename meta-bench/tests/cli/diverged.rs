//! A result that is not finite is a failure, and names its episode.

use serde_json::Value;

use crate::workbench::{SINUSOID, Workbench};

/// A learning rate with which many steps leave every bound.
const DIVERGES: &str = "learner.inner_lr=0.3 learner.test_steps=50";

/// A training without validations.
fn manifest() -> String {
    SINUSOID
        .replace("iterations = 60", "iterations = 20")
        .replace("validate_every = 20", "validate_every = 0")
        .replace("validation_episodes = 10\n", "")
}

#[test]
fn a_test_that_diverges_fails_and_can_be_repeated() {
    let bench = Workbench::new(&manifest());
    let run = format!("run m.toml --quiet --dir runs/bad {DIVERGES}");
    for arguments in [run.clone(), format!("{run} --resume")] {
        let message = bench.run(&arguments).mistake();
        assert!(message.contains("test episode "), "{message}");
        assert!(message.contains("expected a finite number"), "{message}");
        assert!(message.contains("meta eval runs/bad"), "{message}");
        assert!(!bench.path("runs/bad/result.json").exists());
    }
    let message = bench.run("eval runs/bad").mistake();
    assert!(message.contains("test episode "), "{message}");
    let explained = bench
        .run("explain runs/bad --quiet --deletion-episodes 0")
        .mistake();
    assert!(explained.contains("test episode "), "{explained}");
    assert!(!bench.path("runs/bad/explain").exists());
    bench.run("eval runs/bad learner.test_steps=1").ok();
}

#[test]
fn a_validation_that_diverges_ends_the_training() {
    let bench = Workbench::new(SINUSOID);
    let message = bench
        .run(&format!("run m.toml --quiet --dir run {DIVERGES}"))
        .mistake();
    assert!(message.contains("validation episode "), "{message}");
    assert!(message.contains("the last good checkpoint"), "{message}");
}

#[test]
fn a_sweep_records_it_and_goes_on() {
    let bench = Workbench::new(&manifest());
    let ran = bench.run("sweep m.toml learner.inner_lr=0.3 learner.test_steps=1,50 --jobs 1");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!(
        ran.stdout.matches(" finished ").count(),
        1,
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("test episode "), "{}", ran.stdout);
}

/// As older versions wrote it.
#[test]
fn results_without_numbers_are_left_out_and_named() {
    let bench = Workbench::new(&manifest());
    bench.run("sweep m.toml seed=0,1,2,3 --quiet").ok();
    let names = bench.names("runs");
    let names: Vec<&String> = names
        .iter()
        .filter(|name| name.starts_with("tiny-"))
        .collect();
    let result = format!("runs/{}/result.json", names[0]);
    let mut value: Value = serde_json::from_str(&bench.text(&result)).expect("JSON");
    value["mean"] = Value::Null;
    bench.write(&result, format!("{value:#}\n"));
    let scores = format!("runs/{}/scores.json", names[1]);
    let mut value: Value = serde_json::from_str(&bench.text(&scores)).expect("JSON");
    value["scores"][0][0] = Value::Null;
    bench.write(&scores, format!("{value:#}\n"));
    let ran = bench.run("compare").ok();
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(told.contains(&result), "{told}");
    assert!(told.contains("`mean` is not a finite number"), "{told}");
    assert!(told.contains(&format!("left out: {scores}")), "{told}");
    let verified = bench.run("runs verify");
    assert_eq!(verified.code, Some(1), "{}", verified.stdout);
    assert!(verified.stdout.starts_with("runs/"), "{}", verified.stdout);
}
