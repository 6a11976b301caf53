//! What is tested after training: other test settings, other data, other classes; and trainings that start
//! from another run.

use std::fs;

use serde_json::Value;

use crate::workbench::{GLYPHS, Workbench};

/// A baseline on the pixels of glyphs: nothing is trained.
const NEAREST: &str = r#"name = "nearest"
[data]
source = "glyphs"
image_size = 8
query = 3
[encoder]
name = "identity"
[learner]
name = "nearest_centroid"
[train]
iterations = 0
validation_episodes = 10
[test]
episodes = 20
"#;

fn result(bench: &Workbench, arguments: &str) -> Value {
    let ran = bench.run(&format!("{arguments} --json")).ok();
    serde_json::from_str(&ran.stdout).expect("JSON")
}

/// A picture of stripes whose direction is its class's, brighter by its number.
fn stripes(class: usize, item: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 8, 8);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    let pixel = |place: usize| {
        let (row, column) = (place / 8, place % 8);
        let is_light = match class {
            0 => row % 2 == 0,
            1 => column % 2 == 0,
            2 => (row + column) % 4 < 2,
            _ => row < 4,
        };
        if is_light {
            150 + 8 * item as u8
        } else {
            3 * item as u8
        }
    };
    let pixels: Vec<u8> = (0..64).map(pixel).collect();
    writer.write_image_data(&pixels).unwrap();
    writer.finish().unwrap();
    bytes
}

/// Four classes of six pictures in `pictures`, and a manifest `other.toml` that names them.
fn with_pictures(manifest: &str) -> Workbench {
    let bench = Workbench::new(manifest);
    for class in 0..4 {
        for item in 0..6 {
            bench.write(
                &format!("pictures/class{class}/{item}.png"),
                stripes(class, item),
            );
        }
    }
    let other = "[data]\nsource = 'folder'\npath = 'pictures'\nimage_size = 8\nchannels = 1\nway = 4\n\
                 query = 2\n[test]\nepisodes = 12\n";
    bench.write("other.toml", other);
    bench
}

/// Without training there is a result, from the frozen episodes, and a resumed run computes it again.
#[test]
fn a_baseline_needs_no_training() {
    let bench = Workbench::new(NEAREST);
    let found = result(&bench, "run m.toml --dir run");
    assert_eq!(found["iterations"], 0);
    assert_eq!(found["learner"], "nearest_centroid");
    // Five classes: chance is 0.2.
    assert!(found["mean"].as_f64().unwrap() > 0.4, "{found}");
    fs::remove_file(bench.path("run/result.json")).unwrap();
    let again = result(&bench, "run m.toml --dir run --resume");
    assert_eq!(again["mean"], found["mean"]);
    let record: Value = serde_json::from_slice(&bench.bytes("run/record.json")).unwrap();
    assert_eq!(record["protocol"]["transductive"], false);
    let other = result(&bench, "run m.toml learner.name=pt_map --dir other");
    assert!(other["mean"].as_f64().unwrap() > 0.4, "{other}");
    let record: Value = serde_json::from_slice(&bench.bytes("other/record.json")).unwrap();
    assert_eq!(record["protocol"]["transductive"], true);
}

/// The strength of a penalty is chosen on validation episodes, with none it is refused, and so is training
/// where nothing can be trained.
#[test]
fn what_is_chosen_is_chosen_on_validation_episodes() {
    let bench = Workbench::new(NEAREST);
    let run = "run m.toml learner.name=logistic --dir";
    let chosen = result(&bench, &format!("{run} chosen"));
    // The test is that of one of the candidates, whichever the validation episodes prefer.
    let fixed = ["0.001", "0.01", "0.1", "1", "10", "100", "1000"].map(|c| {
        let found = result(&bench, &format!("{run} fixed-{c} learner.c={c}"));
        found["mean"].as_f64()
    });
    assert!(
        fixed.contains(&chosen["mean"].as_f64()),
        "{chosen} {fixed:?}"
    );
    let none = "run m.toml learner.name=logistic train.validation_episodes=0";
    let message = bench.run(none).mistake();
    assert!(message.contains("train.validation_episodes"), "{message}");
    let message = bench
        .run("run m.toml learner.name=protonet train.iterations=5 --dir untrained")
        .mistake();
    assert!(message.contains("train.iterations"), "{message}");
}

#[test]
fn a_run_is_tested_on_other_data_and_the_test_is_kept() {
    let bench = with_pictures(NEAREST);
    result(&bench, "run m.toml");
    let run = bench.only_run();
    let found = result(&bench, &format!("eval {run} --on other.toml"));
    assert_eq!(
        (&found["source"], &found["way"]),
        (&"folder".into(), &4.into())
    );
    assert_eq!(found["episodes"], 12);
    // The same again takes its place; another number of shots does not.
    result(&bench, &format!("eval {run} --on other.toml"));
    assert_eq!(bench.names(&format!("{run}/evals")).len(), 1);
    result(&bench, &format!("eval {run} --on other.toml data.shot=3"));
    let kept = bench.names(&format!("{run}/evals"));
    assert_eq!(kept.len(), 2);
    // Its own test again is kept, and is no row of its own.
    result(&bench, &format!("eval {run}"));
    assert_eq!(bench.names(&format!("{run}/evals")).len(), 3);

    let listed = bench.run("runs list").ok().stdout;
    assert_eq!(listed.matches("/evals/").count(), 2, "{listed}");
    let compared = bench.run("compare runs --format json").ok().stdout;
    let compared: Value = serde_json::from_str(&compared).unwrap();
    let rows = compared["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3, "{compared}");
    assert!(
        rows.iter().any(|row| row["test.on"] == "other.toml"),
        "{compared}"
    );
    bench.run("runs verify").ok();

    // A bit in what was kept.
    let file = format!("{run}/evals/{}", kept[0]);
    let mut bytes = bench.bytes(&file);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bench.write(&file, bytes);
    let verified = bench.run("runs verify");
    assert_ne!(verified.code, Some(0));
    assert!(verified.stdout.contains(&kept[0]), "{}", verified.stdout);
    let compared = bench.run("compare runs").ok().stdout;
    assert!(compared.contains(&kept[0]), "{compared}");
}

/// Items of another shape are refused with what to change.
#[test]
fn items_of_another_shape_are_refused() {
    let bench = with_pictures(NEAREST);
    bench.run("run m.toml --dir run --quiet").ok();
    let message = bench
        .run("eval run --on other.toml data.image_size=16")
        .mistake();
    assert!(
        message.contains("16×16×1") && message.contains("8×8×1"),
        "{message}"
    );
}

/// Split files of the run are not asked of the other folder.
#[test]
fn split_files_stay_with_their_data() {
    let manifest = NEAREST.replace(
        "source = \"glyphs\"",
        "source = \"folder\"\npath = \"pictures\"\nchannels = 1\ntrain_classes = \"all.txt\"\n\
         validation_classes = \"none.txt\"\ntest_classes = \"none.txt\"\nway = 2",
    );
    let bench = with_pictures(&manifest);
    bench.write("all.txt", "class0\nclass1\n");
    bench.write("none.txt", "class2\nclass3\n");
    // Validation and test are of the same classes, so each has a file of its own.
    bench.write("test.txt", "class2\nclass3\n");
    bench.write("none.txt", "");
    let run = "run m.toml data.test_classes=test.txt train.validate_every=0 --dir run --quiet";
    bench.run(run).ok();
    for class in 0..3 {
        for item in 0..6 {
            let name = format!("more/kind{class}/{item}.png");
            bench.write(&name, stripes(class, item));
        }
    }
    let found = result(&bench, "eval run data.path=more data.way=3");
    assert_eq!(found["way"], 3);
    assert_eq!(bench.names("run/evals").len(), 1);
    // Moved data is the same data.
    fs::rename(bench.path("pictures"), bench.path("moved")).unwrap();
    let moved = bench.run("eval run data.path=moved").ok();
    assert!(!moved.stderr.contains("other data"), "{}", moved.stderr);
}

/// Other test settings do not train again; other training settings do, and that is said.
#[test]
fn test_settings_do_not_train_again() {
    let bench = Workbench::new(GLYPHS);
    let first = result(&bench, "run m.toml");
    let run = bench.only_run();
    let ran = bench.run("run m.toml test.episodes=30 --json").ok();
    let again: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(ran.stderr.contains("test.episodes=30"), "{}", ran.stderr);
    assert_eq!(
        (&again["episodes"], &again["hash"]),
        (&30.into(), &first["hash"])
    );
    assert_eq!(again["train_seconds"], first["train_seconds"]);
    assert_eq!(bench.only_run(), run);
    assert_eq!(bench.names(&format!("{run}/evals")).len(), 1);
    let other = bench.run("run m.toml train.lr=0.01").ok();
    assert!(
        other.stderr.contains("a new run: `train.lr` is 0.01"),
        "{}",
        other.stderr
    );
    assert_eq!(bench.names("runs").len(), 2);
}

/// A training starts from the encoder of another run, and its identity is that of these parameters.
#[test]
fn a_training_starts_from_another_run() {
    let bench = Workbench::new(GLYPHS);
    bench.run("run m.toml --dir first --quiet").ok();
    let from =
        "run m.toml learner.name=ridge train.iterations=0 init_from=first --quiet --dir second";
    bench.run(from).ok();
    let read = |run: &str| {
        let path = bench.path(&format!("{run}/best.safetensors"));
        let mut best = meta_core::train::checkpoint_file::read(&path).unwrap();
        best.take("parameters")
    };
    let (first, second) = (read("first"), read("second"));
    let mut shared = 0;
    for (name, data) in &first {
        let other = format!("encoder.{name}");
        let found = second.iter().find(|(second, _)| *second == other);
        assert_eq!(found.map(|(_, data)| data), Some(data), "{name}");
        shared += 1;
    }
    assert!(shared > 3);
    let hash = |run: &str| -> Value {
        let record: Value =
            serde_json::from_slice(&bench.bytes(&format!("{run}/record.json"))).unwrap();
        record["hash"].clone()
    };
    bench
        .run("run m.toml learner.name=ridge train.iterations=0 --quiet --dir third")
        .ok();
    assert_ne!(hash("second"), hash("third"));
    let message = bench.run("run m.toml init_from=nothing").mistake();
    assert!(message.contains("init_from"), "{message}");
    let message = bench
        .run("run m.toml encoder.channels=6 init_from=first")
        .mistake();
    assert!(message.contains("has shape"), "{message}");
}
