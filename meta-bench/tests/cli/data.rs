//! Data on disk that cannot be used: exit code 2, and a message that names what is at fault. Which data
//! that is, and what the rest means, is tested in `meta-core/tests/data`.

use std::process::Command;

use crate::workbench::{Workbench, root};

const FOLDER: &str = r#"[data]
source = "folder"
path = "pictures"
image_size = 8
way = 2
shot = 1
query = 1
[encoder]
name = "mlp"
"#;

/// A picture of one colour that is its own for every number.
pub fn picture(number: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 8, 8);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[number; 8 * 8 * 3]).unwrap();
    writer.finish().unwrap();
    bytes
}

/// A folder with three classes in each of these folders, two pictures each.
fn bench(around: &[&str]) -> Workbench {
    let bench = Workbench::new(FOLDER);
    for (place, around) in around.iter().enumerate() {
        for class in 0..3 {
            for item in 0..2 {
                let name = format!("pictures/{around}/{around}{class}/{item}.png");
                bench.write(&name, picture((place * 6 + class * 2 + item) as u8));
            }
        }
    }
    bench
}

#[test]
fn folders_of_splits_are_used_and_mixtures_are_refused() {
    let layout = bench(&["train", "val", "test"]);
    layout.run("check m.toml --no-trial").ok();
    layout
        .run("contact-sheet m.toml sheet.png --classes 3 --items 2 --split test")
        .ok();
    layout.write("pictures/extra/other/0.png", picture(99));
    let message = layout.run("check m.toml --no-trial").mistake();
    assert!(message.contains("`extra/other`"), "{message}");
    assert!(message.contains("`data.split_folders`"), "{message}");
}

#[test]
fn a_picture_on_two_sides_is_refused_unless_allowed() {
    let bench = bench(&["train", "val", "test"]);
    bench.write("pictures/test/test2/copy.png", picture(0));
    let message = bench.run("check m.toml --no-trial").mistake();
    let pair = "`train/train0/0.png` (train) = `test/test2/copy.png` (test)";
    assert!(message.contains(pair), "{message}");
    bench
        .run("check m.toml --no-trial data.duplicates=allow")
        .ok();
}

#[test]
fn a_class_that_is_too_small_is_named() {
    let bench = bench(&["train", "val", "test"]);
    std::fs::remove_file(bench.path("pictures/val/val1/1.png")).unwrap();
    let message = bench.run("check m.toml --no-trial").mistake();
    assert!(message.contains("(`val/val1`) has 1 item"), "{message}");
}

#[cfg(unix)]
#[test]
fn special_files_are_refused_at_once() {
    let bench = bench(&["train", "val", "test"]);
    let made = Command::new("mkfifo").arg(bench.path("pipe")).status();
    assert!(made.unwrap().success());
    for (key, path) in [
        ("data.path", "pipe"),
        ("data.path", "/dev/zero"),
        ("data.train_classes", "pipe"),
        ("data.test_classes", "/dev/zero"),
    ] {
        let message = bench
            .run(&format!("check m.toml --no-trial {key}={path}"))
            .mistake();
        assert!(message.contains(path), "{message}");
        assert!(message.contains("a regular file is needed"), "{message}");
    }
}

/// Vectors of a table: a run, its protocol in the record, and what is refused by name.
#[test]
fn vectors_of_a_table() {
    const FEATURES: &str = r#"[data]
source = "features"
path = "table.csv"
features = "x*"
labels = "label"
split_key = "split"
protocol = "new_items"
way = 3
shot = 2
query = 2
[encoder]
name = "mlp"
hidden = [4]
[train]
iterations = 2
validate_every = 0
[test]
episodes = 4
"#;
    let bench = Workbench::new(FEATURES);
    let mut table = "label,split,x0,x1\n".to_owned();
    for row in 0..36 {
        let split = if row % 3 == 2 { "test" } else { "train" };
        table.push_str(&format!("class {},{split},{row},{}\n", row / 12, row % 5));
    }
    bench.write("table.csv", table.as_bytes());
    bench.run("run m.toml --dir done").ok();
    let record = String::from_utf8(bench.bytes("done/record.json")).unwrap();
    assert!(
        record.contains("\"data_protocol\": \"new_items\""),
        "{record}"
    );
    for (change, expected) in [
        (
            "data.labels=lable",
            "unknown column `lable` (did you mean `label`?)",
        ),
        ("data.shot=9", "`data.shot = 9`"),
        (
            "data.query=5",
            "class `class 0` has 4 test items; `data.fewer",
        ),
        ("data.protocol=new", "data.protocol"),
        ("data.class_vectors=absent.npz", "absent.npz: cannot read"),
        // A learner that cannot take them is refused tasks that differ.
        (
            "data.least_shot=1 learner.name=matching_net",
            "`learner.name = matching_net`",
        ),
        ("data.fewer=all encoder.norm=episode", "encoder.norm"),
    ] {
        let message = bench
            .run(&format!("check m.toml --no-trial {change}"))
            .mistake();
        assert!(message.contains(expected), "{change}: {message}");
    }
    bench
        .run("check m.toml --no-trial data.least_shot=1 data.fewer=all data.query=9")
        .ok();
    bench
        .run("run m.toml --dir uneven data.least_shot=1 data.least_way=2")
        .ok();
    bench.write(
        "table.csv",
        table
            .replace("class 2,train,25,0", "class 2,train,nan,0")
            .as_bytes(),
    );
    let message = bench.run("check m.toml --no-trial").mistake();
    assert!(message.contains("row 25, column `x0` is NaN"), "{message}");
}

/// A table of Parquet, its compression and its list column, where the reader is compiled in.
#[test]
fn parquet_where_it_is_compiled_in() {
    let bench = Workbench::new("data.source=\"features\"");
    let path = root().join("meta-core/tests/data/formats/list.parquet");
    let read = |features: &str| {
        let settings = format!("data.features={features} data.labels=class_name --no-trial");
        bench
            .run(&format!(
                "check m.toml data.path={} {settings}",
                path.display()
            ))
            .mistake()
    };
    if cfg!(feature = "parquet") {
        assert!(read("class_name").contains("column `class_name` row 0 is text"));
        // Two classes, read whole, do not make tasks of five.
        assert!(read("embedding").contains("`data.way"));
    } else {
        assert!(read("embedding").contains("build with `--features parquet`"));
    }
}
