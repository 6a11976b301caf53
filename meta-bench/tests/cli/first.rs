//! A first manifest for one's own data.

use crate::workbench::{Workbench, root};

/// A grey picture of 8 by 8 pixels, of this shade.
fn picture(shade: u8) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 8, 8);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[shade; 64]).unwrap();
    drop(writer);
    file
}

/// What makes a run short.
const SHORT: &str =
    "train.iterations=2 train.validate_every=2 train.validation_episodes=2 test.episodes=2 --quiet";

#[test]
fn a_folder_of_pictures_gets_a_manifest_that_runs() {
    let bench = Workbench::new("");
    for class in 0..20 {
        for item in 0..4 {
            let name = format!("my photos/class{class}/{item}.png");
            bench.write(&name, picture(10 * class + item));
        }
    }
    let said = bench
        .command("init --learner maml")
        .args(["--data", "my photos", "-o", "photos.toml"])
        .output()
        .unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("photos.toml: maml, conv4, "), "{said}");
    let text = bench.text("photos.toml");
    for part in [
        "source = \"folder\"",
        "path = \"my photos\"",
        "name = \"maml\"",
        "# inner_steps = ",
        "# The folder or zip archive.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 110),
        "{text}"
    );
    bench
        .run(&format!("run photos.toml --dir run {SHORT}"))
        .ok();
    // It is not written over.
    let message = bench.run("init -o photos.toml").mistake();
    assert!(message.contains("exists already"), "{message}");
}

/// Every source that needs no file, and every learner that it can have.
#[test]
fn sources_by_name_get_manifests_that_run() {
    let bench = Workbench::new("");
    for (number, arguments) in [
        "",
        "--data sinusoid",
        "--data gp --learner cnp",
        "--learner nearest_centroid",
        "--learner matching_net --encoder mlp",
    ]
    .into_iter()
    .enumerate()
    {
        bench
            .run(&format!("init {arguments} -o {number}.toml"))
            .ok();
        bench
            .run(&format!("run {number}.toml --dir run{number} {SHORT}"))
            .ok();
    }
}

#[test]
fn vectors_get_a_manifest_that_runs() {
    let bench = Workbench::new("");
    let mut rows = String::from("labels,a,b\n");
    for class in 0..30 {
        for item in 0..5 {
            rows.push_str(&format!("class{class},{class}.{item},{item}.5\n"));
        }
    }
    bench.write("points.csv", rows);
    bench.run("init --data points.csv").ok();
    assert!(bench.text("points.toml").contains("source = \"features\""));
    bench
        .run(&format!("run points.toml --dir run {SHORT}"))
        .ok();
}

#[test]
fn data_that_is_none_is_named() {
    let bench = Workbench::new("");
    let message = bench.run("init --data sinusoidd").mistake();
    assert!(message.contains("did you mean `sinusoid`"), "{message}");
    bench.write("thesis.txt", "x");
    let message = bench.run("init --data thesis.txt").mistake();
    assert!(message.contains(".npz"), "{message}");
    bench.write("few/one/0.png", picture(0));
    let message = bench.run("init --data few").mistake();
    assert!(message.contains("too few classes"), "{message}");
    let message = bench.run("init --data folder").mistake();
    assert!(message.contains("--data photos/"), "{message}");
    let message = bench.run("init --learner mamll").mistake();
    assert!(message.contains("did you mean `maml`"), "{message}");
    assert!(
        root().join("Cargo.toml").exists()
            && bench.names(".").iter().all(|name| name != "glyphs.toml")
    );
}
