//! `meta explain`: pictures and numbers of a trained run.

use serde_json::Value;

use crate::workbench::{GLYPHS, SINUSOID, Workbench};

/// Width and height of a PNG file, from its header.
#[track_caller]
fn size(png: &[u8]) -> (u32, u32) {
    assert_eq!(png[1..4], *b"PNG");
    let number = |from: usize| u32::from_be_bytes(png[from..from + 4].try_into().unwrap());
    (number(16), number(20))
}

/// A run of `manifest` with `changes`, in the folder `run`.
fn trained(manifest: &str, changes: &str) -> Workbench {
    let bench = Workbench::new(manifest);
    let arguments = format!("run m.toml --dir run --quiet train.iterations=10 {changes}");
    bench.run(&arguments).ok();
    bench
}

#[track_caller]
fn numbers(bench: &Workbench, folder: &str) -> Value {
    serde_json::from_slice(&bench.bytes(&format!("{folder}/explain.json"))).unwrap()
}

/// Attention over the support and over patches, its pictures, numbers and deletion checks.
#[test]
fn attention_is_shown() {
    let bench = trained(
        GLYPHS,
        "learner.name=matching_net encoder.name=attention encoder.patch=4 encoder.width=8 \
         encoder.heads=2 encoder.layers=1 encoder.hidden=8",
    );
    let ran = bench
        .run("explain run --episodes 0,7 --deletion-episodes 4 --quiet")
        .ok();
    for part in [
        "run/explain: ",
        "masking support items",
        "masking parts of the query",
        "95 % interval, paired over 4 episodes",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    let names = [
        "episode-0-support",
        "episode-7-support",
        "episode-7-encoder-block-1",
        "deletion-support-items",
        "deletion-parts-of-the-query",
    ];
    for name in names {
        let (width, height) = size(&bench.bytes(&format!("run/explain/{name}.png")));
        assert!((400..2000).contains(&width), "{name}: {width}×{height}");
        assert!((300..3000).contains(&height), "{name}: {width}×{height}");
        let svg = String::from_utf8(bench.bytes(&format!("run/explain/{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg"), "{name}");
        assert!(svg.contains("glyphs"), "{name}");
    }
    let numbers = numbers(&bench, "run/explain");
    assert_eq!(numbers["run"]["learner"], "matching_net");
    let episode = &numbers["episodes"][1];
    assert_eq!(episode["episode"], 7);
    assert_eq!(episode["query"]["predicted"].as_array().unwrap().len(), 15);
    let maps = episode["maps"].as_array().unwrap();
    let map = |name: &str| maps.iter().find(|map| map["name"] == name).unwrap();
    let support = map("support");
    assert_eq!(support["rows"]["of"], "query");
    let row = support["mean"][3].as_array().unwrap();
    let sum: f64 = row.iter().map(|weight| weight.as_f64().unwrap()).sum();
    assert_eq!(row.len(), 5);
    assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    // 20 items, two heads, two by two patches.
    let block = map("encoder.block 1");
    assert_eq!(block["of"], "item");
    let received = block["received"].as_array().unwrap();
    assert_eq!(received.len(), 20);
    assert_eq!(received[0].as_array().unwrap().len(), 2);
    assert_eq!(received[0][1].as_array().unwrap().len(), 4);
    let check = &numbers["deletion"][0];
    assert_eq!(check["of"], 5);
    assert_eq!(check["levels"].as_array().unwrap().len(), 6);
    assert_eq!(
        check["levels"][5]["most_attended"],
        check["levels"][5]["random"]
    );

    // What is there stays, unless it is said.
    let again = bench.run("explain run --quiet").mistake();
    insta::assert_snapshot!(again, @"error: run/explain: exists already; --force replaces it, --out names another folder");
    bench
        .run("explain run --force --count 1 --deletion-episodes 0 --quiet")
        .ok();
    assert!(
        !bench
            .names("run/explain")
            .contains(&"episode-7-support.png".to_owned())
    );
    bench.write("mine/notes.txt", "precious");
    let other = bench.run("explain run --out mine --force").mistake();
    insta::assert_snapshot!(other, @"error: mine: exists already; it was not made by `meta explain`, so --out must name another folder");
    assert_eq!(bench.names("."), ["m.toml", "mine", "run"]);

    insta::assert_snapshot!(bench.run("explain run --out o --episodes 3,20").mistake(), @"error: `--episodes 20`: there is no episode 20; the test split of this run has 20, from 0 to 19");
    insta::assert_snapshot!(bench.run("explain run --out o --split tset").mistake(), @"error: unknown split `tset` (did you mean `test`?); known: train, validation, test");
    insta::assert_snapshot!(bench.run("explain run --out o train.lr=1").mistake(), @"error: `train.lr=1` cannot change in a trained run; what can change: test.*, data.way, data.shot, data.query, data.path, learner.* except its name, backend, device, precision, threads");
    insta::assert_snapshot!(bench.run("explain nowhere").mistake(), @"error: nowhere: expected a run folder, found nothing");
    assert!(!bench.path("o").exists());
}

#[test]
fn adaptation_is_shown() {
    let bench = trained(SINUSOID, "");
    let ran = bench
        .run("explain run --count 1 --out shown --deletion-episodes 2 --quiet")
        .ok();
    assert!(ran.stdout.contains("no deletion check"), "{}", ran.stdout);
    assert_eq!(
        bench.names("shown"),
        [
            "episode-0-adaptation.png",
            "episode-0-adaptation.svg",
            "episode-0-function.png",
            "episode-0-function.svg",
            "explain.json"
        ]
    );
    let numbers = numbers(&bench, "shown");
    let episode = &numbers["episodes"][0];
    assert_eq!(episode["steps"].as_array().unwrap().len(), 3);
    let movement = &episode["movement"][0];
    assert_eq!(movement["distance"].as_array().unwrap().len(), 2);
    assert!(movement["distance"][0].as_f64().unwrap() > 0.0);
}

/// A learner that attends to nothing shows its episode, its predictions and what it confuses.
#[test]
fn every_learner_shows_its_episode() {
    let bench = trained(GLYPHS, "");
    let ran = bench
        .run("explain run --count 1 --confusion-episodes 4 --quiet")
        .ok();
    assert!(
        ran.stdout
            .contains("of the 60 queries of 4 episodes are right"),
        "{}",
        ran.stdout
    );
    for name in ["episode-0", "episode-0-projection", "confusion"] {
        let (width, height) = size(&bench.bytes(&format!("run/explain/{name}.png")));
        assert!((300..2000).contains(&width), "{name}: {width}×{height}");
        assert!((200..3000).contains(&height), "{name}: {width}×{height}");
    }
    let numbers = numbers(&bench, "run/explain");
    let episode = &numbers["episodes"][0];
    let of = |value: &Value| value.as_array().unwrap().clone();
    let predicted = of(&episode["query"]["predicted"]);
    let nearest = of(&episode["space"]["nearest_prototypes"]);
    assert_eq!((predicted.len(), nearest.len()), (15, 15));
    // A prototypical network predicts the nearest prototype.
    for (predicted, nearest) in predicted.iter().zip(&nearest) {
        assert_eq!(*predicted, nearest[0]["class"]);
    }
    for probability in of(&episode["query"]["probability"]) {
        let probability = probability.as_f64().unwrap();
        assert!((0.2..=1.0).contains(&probability), "{probability}");
    }
    assert_eq!(of(&episode["space"]["support"]).len(), 5);
    let confusion = &numbers["confusion"];
    assert_eq!(confusion["queries"], 60);
    let right: u64 = of(&confusion["classes"])
        .iter()
        .map(|class| class["right"].as_u64().unwrap())
        .sum();
    let accuracy = confusion["accuracy"].as_f64().unwrap();
    assert!((right as f64 / 60.0 - accuracy).abs() < 1e-6);
}
