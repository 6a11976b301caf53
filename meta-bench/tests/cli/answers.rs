//! Trained learners used: fitted to what a person brings, and asked.

use std::fs;

use serde_json::Value;

use crate::workbench::{GLYPHS, SINUSOID, Workbench};

/// A picture of strokes whose direction is its class's, dark on white, moved by its number.
fn stripes(class: usize, item: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 16, 16);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    let pixel = |place: usize| {
        let (row, column) = (place / 16, place % 16 + item % 2);
        let is_ink = match class {
            0 => row / 2 % 4 == 0,
            1 => column / 2 % 4 == 0,
            2 => (row + column) / 2 % 4 == 0,
            _ => row < 6 && column < 6,
        };
        if is_ink {
            2 * item as u8
        } else {
            255 - item as u8
        }
    };
    let pixels: Vec<u8> = (0..256).map(pixel).collect();
    writer.write_image_data(&pixels).unwrap();
    writer.finish().unwrap();
    bytes
}

/// Five pictures of each of three classes in `pets`, four others of each of four in `new`, and a fourth class
/// in `dots`.
pub fn with_pets(manifest: &str) -> Workbench {
    let bench = Workbench::new(manifest);
    for (class, name) in ["rows", "columns", "slopes", "corner"].iter().enumerate() {
        for item in 0..9 {
            let folder = match (item, class) {
                (0..5, 3) => "dots".to_owned(),
                (0..5, _) => format!("pets/{name}"),
                _ => format!("new/{name}"),
            };
            bench.write(&format!("{folder}/{item}.png"), stripes(class, item));
        }
    }
    bench
}

fn json(bench: &Workbench, arguments: &str) -> Value {
    let ran = bench.run(&format!("{arguments} --json")).ok();
    serde_json::from_str(&ran.stdout).expect("JSON")
}

/// The share of items whose label is the folder that they lie in.
fn accuracy(found: &Value, classes: &[&str]) -> f64 {
    let answers = found["answers"].as_array().expect("answers");
    let own = answers.iter().filter(|answer| {
        let item = answer["item"].as_str().unwrap();
        classes.iter().any(|class| item.starts_with(class))
    });
    let (mut right, mut all) = (0.0, 0.0);
    for answer in own {
        let (item, label) = (answer["item"].as_str(), answer["label"].as_str());
        all += 1.0;
        right += f64::from(u8::from(item.unwrap().starts_with(label.unwrap())));
    }
    right / all
}

/// New classes from five pictures each, without the run; a fourth one added; the same answers from the run, in
/// every form, whatever else is asked.
#[test]
fn pictures_of_new_classes_are_named() {
    let bench = with_pets(GLYPHS);
    bench.run("run m.toml --dir run --quiet").ok();
    let fit = bench.run("fit run --support pets --out pets.meta").ok();
    assert!(fit.stderr.contains("3 classes"), "{}", fit.stderr);
    fs::rename(bench.path("run"), bench.path("elsewhere")).unwrap();
    let found = json(&bench, "predict pets.meta --query new");
    let known = ["rows", "columns", "slopes"];
    assert_eq!(found["answers"].as_array().unwrap().len(), 16);
    // Chance is a third; the strokes differ clearly.
    assert!(accuracy(&found, &known) >= 0.75, "{found}");
    assert_eq!(found["header"]["transductive"], false);
    let directly = json(&bench, "predict elsewhere --support pets --query new");
    assert_eq!(directly, found);
    // One item alone has the same answer.
    let item = &found["answers"][5];
    let name = item["item"].as_str().unwrap();
    let alone = json(&bench, &format!("predict pets.meta --query new/{name}"));
    assert_eq!(alone["answers"][0]["probability"], item["probability"]);

    bench
        .run("fit pets.meta --add corner=dots --out more.meta")
        .ok();
    let found = json(&bench, "predict more.meta --query new --top 4");
    assert!(accuracy(&found, &["corner"]) >= 0.75, "{found}");
    assert_eq!(found["header"]["classes"], 4);
    let csv = bench
        .run("predict more.meta --query new --csv --top 2")
        .ok();
    assert_eq!(csv.stdout.lines().count(), 17, "{}", csv.stdout);
    let head = "item,label,probability,label_2,probability_2,score,rejected,set,error";
    assert_eq!(csv.stdout.lines().next(), Some(head));
    let lines = bench.run("predict more.meta --query new --jsonl").ok();
    for line in lines.stdout.lines() {
        serde_json::from_str::<Value>(line).expect("JSON");
    }
    let text = bench.run("predict more.meta --query new").ok();
    assert!(text.stdout.starts_with("protonet (run "), "{}", text.stdout);
}

/// A damaged picture is named, and does not stop the others with `--keep-going`.
#[test]
fn what_cannot_be_read_is_named() {
    let bench = with_pets(GLYPHS);
    bench.run("run m.toml --dir run --quiet").ok();
    bench.write("new/rows/7.png", b"no picture");
    let predict = "predict run --support pets --query new";
    let message = bench.run(predict).mistake();
    assert!(message.contains("rows/7.png"), "{message}");
    let found = json(&bench, &format!("{predict} --keep-going"));
    let answers = found["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 16);
    let faults: Vec<&Value> = answers
        .iter()
        .filter(|answer| !answer["error"].is_null())
        .collect();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0]["item"], "rows/7.png");

    for (arguments, expected) in [
        ("predict run --query new", "--support"),
        ("predict nowhere --support pets --query new", "nowhere"),
        ("predict m.toml --query new", "m.toml"),
        (
            "predict run --support dots --query new",
            "no folder of a class",
        ),
        (
            "predict run --support pets --query nothing.csv",
            "nothing.csv",
        ),
        (
            "predict run learner.name=maml --support pets --query new",
            "learner.name",
        ),
        ("fit run --out pets.meta", "--support"),
        (
            "fit run --support pets --add corner --out pets.meta",
            "--add corner",
        ),
        ("fit run --support pets --out m.toml", "m.toml"),
        #[cfg(not(feature = "serve"))]
        ("serve nothing.meta", "--features serve"),
        #[cfg(feature = "serve")]
        ("serve nothing.meta --port 0", "nothing.meta"),
        ("embed run --data new --out m.toml", "m.toml"),
    ] {
        let message = bench.run(arguments).mistake();
        assert!(message.contains(expected), "{arguments}: {message}");
    }
    let mut bytes = {
        bench.run("fit run --support pets --out pets.meta").ok();
        bench.bytes("pets.meta")
    };
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    bench.write("pets.meta", bytes);
    let message = bench.run("predict pets.meta --query new").mistake();
    assert!(message.contains("pets.meta"), "{message}");
}

/// A learner with an output for each class names those that can.
#[test]
fn another_number_of_classes_is_refused() {
    let bench = with_pets(GLYPHS);
    bench
        .run("run m.toml learner.name=maml learner.inner_steps=1 train.iterations=2 --dir run --quiet")
        .ok();
    let message = bench
        .run("predict run --support pets --query new")
        .mistake();
    assert!(
        message.contains("5 classes") && message.contains("protonet"),
        "{message}"
    );
}

/// Rows of numbers, with labels in a column; a class with fewer rows than the others.
#[test]
fn rows_of_numbers_are_named() {
    let manifest = r#"name = "vectors"
[data]
source = "features"
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
    let bench = Workbench::new(manifest);
    bench.run("run m.toml --dir run --quiet").ok();
    let record: Value = serde_json::from_slice(&bench.bytes("run/record.json")).unwrap();
    let width = record["data"]["description"]["item_shape"]["channels"]
        .as_u64()
        .unwrap();
    let row = |class: u64, shift: f64| {
        let numbers = (0..width).map(|column| {
            let own = f64::from(u8::from(column % 3 == class));
            format!("{}", own + shift * column as f64 / width as f64)
        });
        numbers.collect::<Vec<_>>().join(",")
    };
    let names: Vec<String> = (0..width).map(|column| format!("f{column}")).collect();
    let mut support = format!("{},label\n", names.join(","));
    for (class, items) in [(0, 3), (1, 3), (2, 2)] {
        for item in 0..items {
            support.push_str(&format!(
                "{},class {class}\n",
                row(class, 0.1 * f64::from(item))
            ));
        }
    }
    let mut query = format!("{}\n", names.join(","));
    for item in 0..6 {
        query.push_str(&format!("{}\n", row(item % 3, 0.05)));
    }
    bench.write("support.csv", &support);
    bench.write("query.csv", &query);
    let fit = bench
        .run("fit run --support support.csv --out vectors.meta")
        .ok();
    assert!(fit.stderr.contains("as many items"), "{}", fit.stderr);
    let found = json(&bench, "predict vectors.meta --query query.csv");
    for (item, answer) in found["answers"].as_array().unwrap().iter().enumerate() {
        assert_eq!(answer["label"], format!("class {}", item % 3), "{found}");
    }
    bench.write(
        "bad.csv",
        format!("{}\n{}\n", names.join(","), row(0, f64::NAN)),
    );
    let message = bench.run("predict vectors.meta --query bad.csv").mistake();
    assert!(
        message.contains("bad.csv") && message.contains("row 0"),
        "{message}"
    );
    bench.write("narrow.csv", "a,b\n1,2\n");
    let message = bench
        .run("predict vectors.meta --query narrow.csv")
        .mistake();
    assert!(message.contains("2 numbers a row"), "{message}");

    // Calibration is found by `fit` and `predict`.
    bench.run("calibrate run --episodes 20 --quiet").ok();
    bench
        .run("fit run --support support.csv --out vectors.meta")
        .ok();
    let found = json(&bench, "predict vectors.meta --query query.csv");
    assert_eq!(found["header"]["calibrated"], true);
    assert!(found["answers"][0]["set"].is_array(), "{found}");
    assert!(found["answers"][0]["rejected"].is_boolean(), "{found}");

    // An encoder that changes nothing gives back what it got.
    bench.run("embed run --data query.csv --out found.npz").ok();
    bench.run("embed run --data found.npz --out again.npz").ok();
    assert_eq!(bench.bytes("found.npz"), bench.bytes("again.npz"));
}

/// Learners that were trained with vectors of classes want those of new classes, and answer by them.
#[test]
fn classes_are_described_by_vectors() {
    let width = 4;
    let row = |class: usize, item: usize, width: usize| {
        let numbers = (0..width).map(|column| {
            let own = f64::from(u8::from(column == class % width));
            format!(
                "{}",
                own + 0.01 * ((7 * item + 3 * column + class) % 11) as f64
            )
        });
        numbers.collect::<Vec<_>>().join(",")
    };
    let heads = |width: usize| {
        let names = (0..width).map(|column| format!("x{column}"));
        names.collect::<Vec<_>>().join(",")
    };
    let manifest = r#"name = "described"
[data]
source = "features"
path = "items.csv"
features = "x*"
labels = "label"
class_vectors = "classes.csv"
validation_fraction = 0.3
test_fraction = 0.3
way = 2
shot = 2
query = 2
[encoder]
name = "identity"
[learner]
name = "tip_adapter"
[train]
iterations = 0
validation_episodes = 4
[test]
episodes = 4
"#;
    let bench = Workbench::new(manifest);
    let table = |width: usize, classes: std::ops::Range<usize>, items: usize| {
        let mut text = format!("{},label\n", heads(width));
        for class in classes {
            for item in 0..items {
                text.push_str(&format!("{},class {class}\n", row(class, item, width)));
            }
        }
        text
    };
    bench.write("items.csv", table(width, 0..30, 6));
    bench.write("classes.csv", table(width, 0..30, 1));
    bench.write("new.csv", table(width, 40..43, 2));
    bench.write("new-classes.csv", table(width, 40..43, 1));
    bench.write("some-classes.csv", table(width, 40..42, 1));
    bench.write("narrow-classes.csv", table(3, 40..43, 1));
    bench.write("query.csv", table(width, 40..43, 1));
    let run = "run m.toml --data . --dir run --quiet";
    bench.run(run).ok();
    let predict = "predict run --support new.csv --query query.csv";
    let message = bench.run(predict).mistake();
    assert!(message.contains("--class-vectors"), "{message}");
    for (file, expected) in [
        ("some-classes.csv", "no vector of the class `class 42`"),
        ("narrow-classes.csv", "have 3 numbers"),
        ("nothing.csv", "nothing.csv"),
    ] {
        let message = bench
            .run(&format!("{predict} --class-vectors {file}"))
            .mistake();
        assert!(message.contains(expected), "{message}");
    }
    let found = json(
        &bench,
        &format!("{predict} --class-vectors new-classes.csv"),
    );
    for (item, answer) in found["answers"].as_array().unwrap().iter().enumerate() {
        assert_eq!(answer["label"], format!("class {}", 40 + item), "{found}");
    }
    // They are kept with the support.
    bench
        .run("fit run --support new.csv --class-vectors new-classes.csv --out new.meta")
        .ok();
    assert_eq!(json(&bench, "predict new.meta --query query.csv"), found);
    let more = "fit new.meta --add more=query.csv --out more.meta";
    let message = bench.run(more).mistake();
    assert!(message.contains("--class-vectors"), "{message}");
    // Calibration reads those of its episodes.
    bench
        .run("calibrate run --episodes 4 --data . --quiet")
        .ok();
}

/// A calibration is checked on test episodes: coverage, the size of sets, the calibration error.
#[test]
fn a_calibration_is_checked() {
    let bench = Workbench::new(GLYPHS);
    bench.run("run m.toml --dir run --quiet").ok();
    let calibrate = "calibrate run --episodes 60 --test-episodes 60 --alpha 0.2 --quiet";
    let found = json(&bench, calibrate);
    let test = &found["on_test"];
    let (mean, half) = (&test["coverage"]["mean"], &test["coverage"]["ci95"]);
    let (mean, half) = (mean.as_f64().unwrap(), half.as_f64().unwrap());
    // Other classes than those of the validation; three half-widths, once in some hundreds.
    assert!((mean - 0.8).abs() <= 3.0 * half + 0.05, "{found}");
    assert!(test["set_size"]["mean"].as_f64() >= Some(mean), "{found}");
    let error = |key: &str| test[key]["mean"].as_f64().unwrap();
    assert!(
        error("error_after") <= error("error_before") + 0.02,
        "{found}"
    );
    let text = bench.run(calibrate).ok().stdout;
    assert!(
        text.contains("coverage") && text.contains("80 % are asked for"),
        "{text}"
    );
}

/// What a learner attends to as it answers, as pictures.
#[test]
fn an_answer_is_explained() {
    let bench = with_pets(GLYPHS);
    bench
        .run("run m.toml learner.name=matching_net train.iterations=2 --dir run --quiet")
        .ok();
    let predict = "predict run --support pets --query new";
    let plain = json(&bench, predict);
    let found = json(&bench, &format!("{predict} --explain why"));
    assert_eq!(found, plain);
    let numbers: Value = serde_json::from_slice(&bench.bytes("why/explain.json")).unwrap();
    let items = numbers["items"].as_array().unwrap();
    assert_eq!(items.len(), 8);
    assert_eq!(items[2]["item"], plain["answers"][2]["item"]);
    let picture = items[2]["maps"][0]["pictures"][0].as_str().unwrap();
    assert!(bench.text(&format!("why/{picture}.svg")).contains("slopes"));
    let message = bench.run(&format!("{predict} --explain why")).mistake();
    assert!(message.contains("why"), "{message}");
    bench
        .run("run m.toml train.iterations=2 --dir plain --quiet")
        .ok();
    let message = bench
        .run("predict plain --support pets --query new --explain none")
        .mistake();
    assert!(message.contains("attends to nothing"), "{message}");
}

/// Answers as a table of Parquet, which is read back.
#[test]
fn answers_are_written_as_parquet() {
    let bench = with_pets(GLYPHS);
    bench.run("run m.toml --dir run --quiet").ok();
    let predict = "predict run --support pets --query new";
    let ran = bench.run(&format!("{predict} --parquet answers.parquet"));
    if ran.code == Some(2) {
        assert!(ran.stderr.contains("--features parquet"), "{}", ran.stderr);
        return;
    }
    assert_eq!(ran.ok().stdout, "");
    let path = bench.path("answers.parquet");
    let keys = meta_core::data::formats::Keys {
        features: "probability",
        labels: "label",
        split: "",
    };
    let table = meta_core::data::formats::read_table(&path, &keys).expect("a table");
    let expected = json(&bench, predict);
    let answers = expected["answers"].as_array().unwrap();
    let labels = table.labels.expect("labels");
    let labels: Vec<&str> = labels.iter().collect();
    let named: Vec<&str> = answers
        .iter()
        .map(|own| own["label"].as_str().unwrap())
        .collect();
    assert_eq!(labels, named);
    let mut found = vec![0.0; answers.len()];
    table.vectors.read(0, &mut found).expect("numbers");
    for (found, answer) in found.iter().zip(answers) {
        let expected = answer["probability"].as_f64().unwrap();
        // Read in single precision.
        assert!(
            (f64::from(*found) - expected).abs() < 1e-7,
            "{found} {expected}"
        );
    }
    // Its own file is replaced, another is not.
    bench
        .run(&format!("{predict} --parquet answers.parquet"))
        .ok();
    let message = bench.run(&format!("{predict} --parquet m.toml")).mistake();
    assert!(message.contains("m.toml"), "{message}");
}

/// A regression has means; deviations and intervals once it is calibrated.
#[test]
fn values_are_predicted() {
    let bench = Workbench::new(SINUSOID);
    bench.run("run m.toml --dir run --quiet").ok();
    bench.write("support.csv", "x,y\n-2,0.5\n-1,1\n0,0\n1,-1\n2,-0.5\n");
    bench.write("query.csv", "x\n-1.5\n0.5\n");
    bench
        .run("fit run --support support.csv --out wave.meta")
        .ok();
    let found = json(&bench, "predict wave.meta --query query.csv");
    let first = &found["answers"][0]["values"][0];
    assert!(
        first["mean"].is_number() && first["deviation"].is_null(),
        "{found}"
    );
    bench.run("calibrate run --episodes 10").ok();
    let found = json(
        &bench,
        "predict run --support support.csv --query query.csv",
    );
    let value = &found["answers"][0]["values"][0];
    assert_eq!(value["mean"], first["mean"]);
    assert!(
        value["quantiles"]["0.95"].as_f64() > value["mean"].as_f64(),
        "{found}"
    );
    assert!(value["interval"].is_array(), "{found}");
}

/// A density comes with its deviations.
#[test]
fn densities_have_deviations() {
    let bench = Workbench::new(SINUSOID);
    let changes = "learner.name=cnp learner.hidden=8 train.iterations=2";
    bench
        .run(&format!("run m.toml {changes} --dir run --quiet"))
        .ok();
    bench.write("support.csv", "x,y\n-2,0.5\n-1,1\n0,0\n");
    bench.write("query.csv", "x\n-1.5\n0.5\n");
    let found = json(
        &bench,
        "predict run --support support.csv --query query.csv",
    );
    let value = &found["answers"][1]["values"][0];
    assert!(value["deviation"].as_f64() > Some(0.0), "{found}");
}

/// Results say how far probabilities can be believed, and with outsiders how well those are told.
#[test]
fn a_test_with_outsiders() {
    let bench = Workbench::new(GLYPHS);
    let found = json(&bench, "run m.toml test.outsiders=0.3 --dir run --quiet");
    let probabilities = &found["probabilities"];
    let error = &probabilities["expected_calibration_error"];
    assert!(
        error["mean"].as_f64() > Some(0.0) && error["ci95"].is_number(),
        "{found}"
    );
    assert!(
        (probabilities["negative_log_likelihood"]["mean"]
            .as_f64()
            .unwrap()
            - found["loss"].as_f64().unwrap())
        .abs()
            < 1e-12
    );
    let auroc = probabilities["outsiders"]["auroc"]["mean"]
        .as_f64()
        .unwrap();
    assert!((0.0..=1.0).contains(&auroc), "{found}");
    let message = bench
        .run("eval run test.outsiders=0.3 data.way=500")
        .mistake();
    assert!(message.contains("test.outsiders"), "{message}");
    // Found before anything is trained.
    let message = bench
        .run("run m.toml test.outsiders=0.3 data.way=500 data.train_way=5 train.validate_every=0 --dir no")
        .mistake();
    assert!(message.contains("test.outsiders"), "{message}");
    assert!(bench.names("no").is_empty());
}

/// The encoder goes out by PyTorch's names and comes back in: the same embeddings, to the byte.
#[test]
fn weights_out_are_weights_in() {
    let bench = with_pets(GLYPHS);
    bench.run("run m.toml --dir run --quiet").ok();
    bench.run("export run --to safetensors --out out").ok();
    assert_eq!(bench.names("out"), ["model.py", "model.safetensors"]);
    bench
        .run("run m.toml encoder.weights=out/model.safetensors train.iterations=0 --dir copy --quiet")
        .ok();
    for (run, out) in [("run", "first.npz"), ("copy", "second.npz")] {
        bench
            .run(&format!("embed {run} --data new --out {out}"))
            .ok();
    }
    assert_eq!(bench.bytes("first.npz"), bench.bytes("second.npz"));
    let record: Value = serde_json::from_slice(&bench.bytes("copy/record.json")).unwrap();
    let hash = &record["manifest"]["encoder"]["weights_hash"];
    assert_eq!(hash.as_str().map(str::len), Some(64), "{record}");

    for (changes, expected) in [
        ("encoder.channels=5", "has the shape [4, 1, 3, 3]"),
        ("encoder.norm=running", "running_mean"),
        ("encoder.weights_hash=abc", "encoder.weights_hash"),
        ("encoder.name=mlp", "has no weights of `mlp`"),
        ("train.freeze_encoder=true", "train.freeze_encoder"),
    ] {
        let run = format!("run m.toml encoder.weights=out/model.safetensors {changes} --dir other");
        let message = bench.run(&run).mistake();
        assert!(message.contains(expected), "{changes}: {message}");
    }
    bench.write("out/model.py", "print('mine')");
    let message = bench.run("export run --to safetensors --out out").mistake();
    assert!(message.contains("model.py"), "{message}");
    python(&bench, "run", "GLYPHS");
}

/// Every encoder that is exported, with every normalisation that PyTorch has, equals itself there to 1e-5.
#[test]
fn exported_encoders_are_the_same_in_pytorch() {
    let bench = Workbench::new(GLYPHS);
    for (name, changes) in [
        ("running", "encoder.norm=running"),
        ("plain", "encoder.norm=none"),
        ("layer", "encoder.norm=layer"),
        ("mlp", "encoder.name=mlp"),
        ("mlp-running", "encoder.name=mlp encoder.norm=running"),
        (
            "resnet",
            "encoder.name=resnet12 encoder.widths=[3,4] encoder.norm=running encoder.average=true",
        ),
    ] {
        bench
            .run(&format!(
                "run m.toml {changes} train.iterations=2 --dir {name} --quiet"
            ))
            .ok();
        if !python(&bench, name, changes) {
            return;
        }
    }
    bench
        .run("run m.toml encoder.norm=support train.iterations=0 --dir support --quiet")
        .ok();
    let message = bench
        .run("export support --to safetensors --out none")
        .mistake();
    assert!(message.contains("encoder.norm"), "{message}");
}

/// Every encoder that is exported as ONNX equals itself there to 1e-5; the others are refused with the reason.
#[test]
fn exported_encoders_are_the_same_in_onnx() {
    let bench = Workbench::new(GLYPHS);
    let program = python_with("import onnx, onnxruntime");
    for (name, changes) in [
        ("running", "encoder.norm=running"),
        ("plain", "encoder.norm=none"),
        ("mlp", "encoder.name=mlp"),
        ("mlp-running", "encoder.name=mlp encoder.norm=running"),
        (
            "resnet",
            "encoder.name=resnet12 encoder.widths=[3,4] encoder.norm=running encoder.average=true",
        ),
        (
            "resnet-plain",
            "encoder.name=resnet12 encoder.widths=[3,4] encoder.norm=none encoder.average=false",
        ),
    ] {
        bench
            .run(&format!(
                "run m.toml {changes} train.iterations=2 --dir {name} --quiet"
            ))
            .ok();
        for _ in 0..2 {
            // Its own files are replaced.
            bench
                .run(&format!("export {name} --to onnx --out {name}-out"))
                .ok();
        }
        let Some(program) = &program else { continue };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/run_onnx.py");
        let checked = std::process::Command::new(program)
            .arg(script)
            .arg(bench.path(&format!("{name}-out")))
            .output()
            .expect("Python runs");
        let text = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{changes}: {text}");
    }
    for (name, changes, expected) in [
        ("episode", "encoder.norm=episode", "items of a task"),
        ("layer", "encoder.norm=layer", "no operator"),
        (
            "attention",
            "encoder.name=attention encoder.patch=4",
            "`attention` is not written",
        ),
    ] {
        bench
            .run(&format!(
                "run m.toml {changes} train.iterations=0 --dir {name} --quiet"
            ))
            .ok();
        let message = bench
            .run(&format!("export {name} --to onnx --out none"))
            .mistake();
        assert!(message.contains(expected), "{message}");
    }
    bench.write("mine/model.onnx", "mine");
    let message = bench.run("export plain --to onnx --out mine").mistake();
    assert!(message.contains("model.onnx"), "{message}");
}

/// A Python (`META_PYTHON`, else `python3`) that can do this.
fn python_with(imports: &str) -> Option<String> {
    let program = std::env::var("META_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = std::process::Command::new(&program)
        .args(["-c", imports])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has {
        eprintln!("skipped: `{program}` cannot `{imports}` (META_PYTHON names another)");
    }
    has.then_some(program)
}

/// Exports a run and lets PyTorch check it; whether there is a Python with PyTorch (`META_PYTHON`, else
/// `python3`).
fn python(bench: &Workbench, run: &str, what: &str) -> bool {
    let Some(program) = python_with("import torch, safetensors.torch") else {
        return false;
    };
    let out = format!("{run}-out");
    bench
        .run(&format!("export {run} --to safetensors --out {out}"))
        .ok();
    let checked = std::process::Command::new(&program)
        .arg(bench.path(&format!("{out}/model.py")))
        .output()
        .expect("Python runs");
    let text = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{what}: {text}");
    true
}

/// An encoder that is frozen stays as it was, to the bit, while the rest learns.
#[test]
fn a_frozen_encoder_stays() {
    let bench = with_pets(GLYPHS);
    let run = "run m.toml learner.name=relation_net encoder.norm=running --quiet";
    bench
        .run(&format!("{run} train.iterations=0 --dir start"))
        .ok();
    bench
        .run(&format!(
            "{run} train.iterations=4 train.freeze_encoder=true train.optimizer=adamw --dir frozen"
        ))
        .ok();
    for (run, out) in [("start", "first.npz"), ("frozen", "second.npz")] {
        bench
            .run(&format!("embed {run} --data new --out {out}"))
            .ok();
    }
    assert_eq!(bench.bytes("first.npz"), bench.bytes("second.npz"));
    assert_ne!(
        bench.bytes("start/best.safetensors"),
        bench.bytes("frozen/best.safetensors")
    );
}
