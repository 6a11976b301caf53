//! Comparisons of finished runs, and what can be done with run folders.

use std::fs;

use serde_json::Value;

use crate::workbench::{SINUSOID, Workbench};

/// Two learners with two seeds each.
fn swept() -> Workbench {
    let bench = Workbench::new(SINUSOID);
    bench
        .run("sweep m.toml learner.name=maml,anil seed=0,1 --quiet --jobs 2")
        .ok();
    bench
}

fn json(bench: &Workbench, arguments: &str) -> Value {
    let ran = bench
        .run(&format!("compare {arguments} --format json"))
        .ok();
    serde_json::from_str(&ran.stdout).unwrap()
}

/// Means and intervals against their definitions, from the scores that the runs wrote.
#[test]
fn intervals_and_differences_are_those_of_their_definitions() {
    let bench = swept();
    let found = json(&bench, "");
    // By seed: folders are named by hashes.
    let mut scores: Vec<(u64, (String, Vec<f64>))> = Vec::new();
    for name in bench
        .names("runs")
        .iter()
        .filter(|name| name.starts_with("tiny"))
    {
        let read = |file: &str| -> Value {
            serde_json::from_slice(&bench.bytes(&format!("runs/{name}/{file}"))).unwrap()
        };
        let last = read("scores.json")["scores"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .clone();
        let last = last
            .as_array()
            .unwrap()
            .iter()
            .map(|score| score.as_f64().unwrap())
            .collect();
        let result = read("result.json");
        let learner = result["learner"].as_str().unwrap().to_owned();
        scores.push((result["seed"].as_u64().unwrap(), (learner, last)));
    }
    scores.sort_by_key(|(seed, _)| *seed);
    let of = |learner: &str| -> Vec<&Vec<f64>> {
        scores
            .iter()
            .filter(|(_, (name, _))| name == learner)
            .map(|(_, (_, scores))| scores)
            .collect()
    };
    let close = |found: &Value, expected: f64| {
        let found = found.as_f64().unwrap();
        assert!(
            (found - expected).abs() <= 1e-9 * expected.abs(),
            "{found} is not {expected}"
        );
    };
    let episodes = |learner: &str| -> Vec<f64> {
        let [a, b] = of(learner)[..] else {
            panic!("two seeds")
        };
        a.iter().zip(b).map(|(a, b)| 0.5 * (a + b)).collect()
    };
    use meta_core::stats::{Interval, mean, paired_t, paired_wilcoxon};
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let learner = row["learner.name"].as_str().unwrap();
        let means: Vec<f64> = of(learner).iter().map(|scores| mean(scores)).collect();
        close(&row["mean_squared_error"], mean(&means));
        close(&row["over seeds"], Interval::t95(&means).half_width);
        close(
            &row["over episodes"],
            Interval::t95(&episodes(learner)).half_width,
        );
    }
    let first = rows[0]["mean_squared_error"].as_f64().unwrap();
    assert!(
        first <= rows[1]["mean_squared_error"].as_f64().unwrap(),
        "the best first"
    );
    let learner = |row: usize| rows[row]["learner.name"].as_str().unwrap();
    let (a, b) = (episodes(learner(0)), episodes(learner(1)));
    let pair = &found["pairs"][0];
    close(&pair["a − b"], paired_t(&a, &b).difference.mean);
    close(
        &pair["over episodes"],
        paired_t(&a, &b).difference.half_width,
    );
    close(&pair["p (episodes)"], paired_t(&a, &b).p_value);
    assert_eq!(pair["episodes"], 20);
    // Over seeds: of the two means of each learner.
    let means =
        |learner: &str| -> Vec<f64> { of(learner).iter().map(|scores| mean(scores)).collect() };
    let over_seeds = paired_t(&means(learner(0)), &means(learner(1)));
    close(&pair["over seeds"], over_seeds.difference.half_width);
    close(&pair["p (seeds)"], over_seeds.p_value);
    assert_eq!(pair["seeds"], 2);
    let verdict = found["verdict"].as_str().unwrap();
    assert!(
        verdict.starts_with("Verdict: ") && verdict.contains("2 seeds"),
        "{verdict}"
    );
    let wilcoxon = json(&bench, "--test wilcoxon");
    close(
        &wilcoxon["pairs"][0]["p (episodes)"],
        paired_wilcoxon(&a, &b).p_value,
    );
}

#[test]
fn runs_on_other_episodes_are_not_paired() {
    let bench = swept();
    bench
        .run("sweep m.toml learner.name=reptile seed=0,1 test.seed=5 --quiet")
        .ok();
    let found = json(&bench, "");
    assert_eq!(found["rows"].as_array().unwrap().len(), 3);
    assert_eq!(found["pairs"].as_array().unwrap().len(), 1);
    let notes: Vec<&str> = found["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|note| note.as_str().unwrap())
        .collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    for note in notes {
        assert!(
            note.starts_with("2 pairs are not comparable, such as "),
            "{note}"
        );
        assert!(
            note.contains("reptile") && note.contains("tested on other episodes"),
            "{note}"
        );
    }
    // Put together, they have no common episodes to take an interval over.
    let pooled = json(&bench, "--group-by train.lr");
    assert!(pooled["rows"][0]["over episodes"].is_null());
    let note = pooled["notes"][0].as_str().unwrap();
    assert!(note.contains("no interval over episodes"), "{note}");
}

/// A test of 12 episodes is the beginning of one of 20: they are paired on these 12.
#[test]
fn fewer_episodes_are_the_first_ones() {
    let bench = Workbench::new(SINUSOID);
    bench.run("run m.toml --quiet --dir runs/a").ok();
    bench
        .run("run m.toml --quiet --dir runs/b learner.name=anil test.episodes=12")
        .ok();
    let found = json(&bench, "--group-by learner.name");
    let last = |run: &str| -> Vec<f64> {
        let scores: Value =
            serde_json::from_slice(&bench.bytes(&format!("runs/{run}/scores.json"))).unwrap();
        let steps: Vec<Vec<f64>> = serde_json::from_value(scores["scores"].clone()).unwrap();
        steps.into_iter().next_back().unwrap()
    };
    let (a, b) = (last("a"), last("b"));
    assert_eq!((a.len(), b.len()), (20, 12));
    let expected = meta_core::stats::paired_t(&a[..12], &b);
    let pair = &found["pairs"][0];
    assert_eq!(pair["episodes"], 12);
    let (found, expected) = (pair["a − b"].as_f64().unwrap(), expected.difference.mean);
    let is_same = |x: f64, y: f64| (x - y).abs() <= 1e-12 * y.abs();
    assert!(
        is_same(found, expected) || is_same(found, -expected),
        "{found} is not {expected}"
    );
}

#[test]
fn rows_are_chosen_sorted_and_written_in_every_form() {
    let bench = swept();
    bench
        .run("sweep m.toml train.lr=0.002,0.01 --quiet --jobs 2")
        .ok();
    let rows = |arguments: &str| json(&bench, arguments)["rows"].as_array().unwrap().clone();
    assert_eq!(rows("").len(), 4);
    assert_eq!(rows("--where train.lr<0.005").len(), 3);
    assert_eq!(
        rows("--where train.lr<0.005 --where learner.name!=anil").len(),
        2
    );
    let sorted = rows("--sort train.lr");
    assert_eq!(sorted[0]["train.lr"], "0.001");
    assert_eq!(sorted[3]["train.lr"], "0.01");
    assert_eq!(rows("--sort=-train.lr")[0]["train.lr"], "0.01");
    let grouped = rows("--group-by learner.name --sort n");
    assert_eq!((grouped.len(), &grouped[0]["runs"]), (2, &Value::from(4)));
    let step = rows("--metric score@0 --where learner.name=anil");
    assert!(step[0]["mean_squared_error@0"].as_f64().unwrap() > 0.0);
    assert!(
        rows("--metric validation")[0]["validation"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    let text = |format: &str| bench.run(&format!("compare --format {format}")).ok().stdout;
    assert!(
        text("text").starts_with("#  learner.name"),
        "{}",
        text("text")
    );
    assert!(text("markdown").starts_with("| # | learner.name |"));
    assert!(text("csv").starts_with("#,learner.name,train.lr,seeds,mean_squared_error,"));
    assert!(text("latex").starts_with("\\begin{tabular}"));
    for (arguments, part) in [
        ("--metric scroe", "did you mean `score`"),
        ("--where learner.nam=maml", "did you mean `learner.name`"),
        ("--group-by learner.nam", "did you mean `learner.name`"),
        ("--sort learner.nam", "did you mean `learner.name`"),
        ("--where maml", "expected a condition"),
        ("--where learner.name=ridge", "no finished run to compare"),
        ("nowhere", "nowhere"),
        ("--metric score@9", "has no mean_squared_error@9"),
    ] {
        let message = bench.run(&format!("compare {arguments}")).mistake();
        assert!(message.contains(part), "{arguments}: {message}");
    }
}

#[test]
fn diff_shows_what_differs_and_nothing_else() {
    let bench = Workbench::new(SINUSOID);
    bench.run("run m.toml --dir a --quiet").ok();
    bench
        .run("run m.toml --dir b --quiet train.lr=0.002 learner.name=meta_sgd")
        .ok();
    insta::assert_snapshot!(bench.run("diff a b").ok().stdout, @r#"
    setting                  a         b
    learner.inner_momentum   0.0       –
    learner.inner_optimizer  "sgd"     –
    learner.name             "maml"    "meta_sgd"
    learner.order            "second"  –
    train.lr                 0.001     0.002
    "#);
    assert_eq!(
        bench.run("diff a m.toml").ok().stdout,
        "no setting differs\n"
    );
    let message = bench.run("diff a nowhere").mistake();
    assert!(message.contains("nowhere"), "{message}");
}

#[test]
fn runs_are_listed_tagged_removed_cleaned_and_verified() {
    let bench = swept();
    bench.run("sweep m.toml train.lr=1e30 --quiet");
    let list = |arguments: &str| bench.run(&format!("runs list {arguments}")).ok().stdout;
    assert_eq!(list("").lines().count(), 6);
    assert_eq!(list("--where state=failed").lines().count(), 2);
    let names = bench.names("runs");
    let anil = list("--where learner.name=anil --where seed=1 --format json");
    let anil: Value = serde_json::from_str(&anil).unwrap();
    let name = anil[0]["run"].as_str().unwrap();
    // By its name, and by the first digits of its identity.
    bench.run(&format!("runs tag paper {name}")).ok();
    let digits = &name[name.len() - 12..name.len() - 4];
    bench.run(&format!("runs tag best {digits}")).ok();
    assert_eq!(list("--where tag=paper").lines().count(), 2);
    assert!(list("--where tag=best").contains("best paper"));
    bench.run(&format!("runs tag best {digits} --remove")).ok();
    assert_eq!(list("--where tag=best").lines().count(), 1);
    let message = bench.run("runs tag paper tiny-0").mistake();
    assert!(message.contains("no run `tiny-0`"), "{message}");
    let message = bench.run(&format!("runs tag a/b {name}")).mistake();
    assert!(message.contains("`a/b`"), "{message}");

    // What failed is cleaned; nothing that is finished.
    let shown = bench.run("runs clean --dry-run").ok().stdout;
    assert_eq!(
        (shown.lines().count(), bench.names("runs")),
        (1, names.clone())
    );
    bench.run("runs clean").ok();
    assert_eq!(list("").lines().count(), 5);
    assert_eq!(bench.names("runs/.trash").len(), 1);

    assert!(
        bench
            .run("runs verify")
            .ok()
            .stdout
            .starts_with("4 runs are as they were written")
    );
    let scores = bench.path(&format!("runs/{name}/scores.json"));
    let text = fs::read_to_string(&scores).unwrap();
    fs::write(&scores, text.replacen('1', "2", 1)).unwrap();
    let ran = bench.run("runs verify");
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stdout.contains("scores.json: has changed"),
        "{}",
        ran.stdout
    );

    bench.run(&format!("runs remove {name}")).ok();
    assert_eq!(list("").lines().count(), 4);
    assert!(
        bench
            .path(&format!("runs/.trash/{name}/result.json"))
            .exists()
    );
}
