//! The binary with a learner, an encoder, a source and an optimiser of another crate, as its user runs
//! it.

use std::{path::Path, process::Command};

use serde_json::Value;

const MANIFEST: &str = r#"name = "plugin"
[data]
source = "glyphs"
image_size = 8
shot = 3
query = 3
[encoder]
name = "conv4"
channels = 8
blocks = 2
[learner]
name = "median_net"
[train]
iterations = 60
meta_batch = 2
lr = 3e-3
validate_every = 0
[test]
episodes = 40
"#;

fn meta(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_meta-plugin"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_learner_of_another_crate_is_listed_trained_and_tested() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.toml"), MANIFEST).unwrap();
    let (code, listed, _) = meta(folder.path(), &["list", "learners"]);
    assert_eq!(code, Some(0));
    assert!(listed.contains("median_net") && listed.contains("protonet"));
    let (code, out, error) = meta(folder.path(), &["run", "m.toml", "--json", "--quiet"]);
    assert_eq!(code, Some(0), "{error}");
    let result: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(result["learner"], "median_net");
    // Chance is 0.2; the interval must be far above it.
    let low = result["mean"].as_f64().unwrap() - result["ci95"].as_f64().unwrap();
    assert!(low > 0.4, "{result}");
}

#[test]
fn its_settings_are_checked_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.toml"), MANIFEST).unwrap();
    for (change, part) in [
        ("learner.temperatur=1", "did you mean `temperature`"),
        ("learner.temperature=-1", "must be above 0"),
        ("learner.name=median_nets", "did you mean `median_net`"),
    ] {
        let (code, _, error) = meta(folder.path(), &["run", "m.toml", change]);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains(part), "{error}");
    }
}

/// Its meta-gradient is held against central differences like those of the toolkit.
#[test]
fn its_gradient_is_checked_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let (code, table, error) = meta(folder.path(), &["gradcheck", "median_net", "--quiet"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(table.contains("| learner | `median_net` |"), "{table}");
    assert!(table.contains("checks passed"), "{table}");
}

const OWN: &str = r#"name = "own"
[data]
source = "arcs"
shot = 5
query = 5
noise = 0.02
[encoder]
name = "fourier"
frequencies = 16
[learner]
name = "median_net"
[train]
iterations = 200
meta_batch = 4
optimizer = "lion"
interpolation = 0.8
lr = 1e-2
validate_every = 0
checkpoint_every = 50
[test]
episodes = 100
"#;

/// All four kinds in one manifest: listed, checked, trained, tested, resumed to the same result.
#[test]
fn everything_of_another_crate_is_named_by_a_manifest() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.toml"), OWN).unwrap();
    let (_, listed, _) = meta(folder.path(), &["list"]);
    for name in ["median_net", "fourier", "arcs", "lion"] {
        assert!(listed.contains(name), "{name}: {listed}");
    }
    let (_, reference, _) = meta(folder.path(), &["docs", "manifest"]);
    for key in [
        "`interpolation`",
        "`frequencies`",
        "`classes`",
        "`temperature`",
    ] {
        assert!(reference.contains(key), "{key}");
    }
    let (code, checked, error) = meta(folder.path(), &["check", "m.toml", "--no-trial"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(checked.contains("interpolation = 0.8"), "{checked}");
    let run = ["run", "m.toml", "--json", "--quiet"];
    let (code, out, error) = meta(folder.path(), &run);
    assert_eq!(code, Some(0), "{error}");
    let result: Value = serde_json::from_str(&out).unwrap();
    // Untrained it is at about 0.6; chance is 0.2.
    let low = result["mean"].as_f64().unwrap() - result["ci95"].as_f64().unwrap();
    assert!(low > 0.5, "{result}");
    for (change, part) in [
        ("train.optimizer=lions", "did you mean `lion`"),
        ("train.interpolation=1", "must be in [0, 1)"),
        ("encoder.frequencies=0", "must be at least 1"),
        ("data.noise=-1", "must be at least 0"),
        ("train.interpolatio=1", "did you mean `interpolation`"),
    ] {
        let (code, _, error) = meta(folder.path(), &["run", "m.toml", change]);
        assert_eq!(code, Some(2), "{change}: {error}");
        assert!(error.contains(part), "{change}: {error}");
    }
}

/// Derivatives of its encoder, too.
#[test]
fn its_encoder_is_checked_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let (code, table, error) = meta(folder.path(), &["gradcheck", "fourier", "--quiet"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(table.contains("| encoder | `fourier` |"), "{table}");
}
