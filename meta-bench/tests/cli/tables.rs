//! Tables: a prior-fitted network on tables that it never saw, beside learners that see the support alone.

use serde_json::Value;

use crate::workbench::Workbench;

/// Trained for seconds on tables of a prior; nothing of what it says is good.
const PRIOR: &str = r#"name = "tiny"
[data]
source = "prior"
features = [2, 4]
missing = [0.0, 0.1]
way = 2
shot = 6
query = 4
[encoder]
name = "identity"
[learner]
name = "pfn"
width = 8
heads = 2
layers = 1
hidden = 8
bins = 8
max_features = 5
[train]
iterations = 3
meta_batch = 2
validate_every = 0
keep_best = "last"
[test]
episodes = 4
"#;

/// Two tables of two classes, and learners on them.
const OTHER: &str = r#"[data]
source = "tables"
path = "clinic"
fill = "mean"
way = 2
shot = 3
query = 2
resample = true
validation_fraction = 0.2
test_fraction = 0.6
[encoder]
name = "identity"
[learner]
name = "boosted_trees"
[train]
iterations = 0
validate_every = 0
[test]
episodes = 6
"#;

/// `count` patients: those who are older and smoke are ill.
fn patients(count: usize, target: bool) -> String {
    let mut text = String::from(match target {
        true => "age,smoker,weight,state\n",
        false => "age,smoker,weight\n",
    });
    for patient in 0..count {
        let (age, smokes) = (30 + 17 * patient % 50, patient % 3 == 0);
        let smoker = if smokes { "yes" } else { "no" };
        let weight = match patient % 7 {
            0 => String::new(),
            rest => (60 + rest).to_string(),
        };
        text.push_str(&format!("{age},{smoker},{weight}"));
        if target {
            let is_ill = age + if smokes { 20 } else { 0 } > 60;
            text.push_str(if is_ill { ",ill" } else { ",well" });
        }
        text.push('\n');
    }
    text
}

fn json(bench: &Workbench, arguments: &str) -> Value {
    let ran = bench.run(&format!("{arguments} --json")).ok();
    serde_json::from_str(&ran.stdout).expect("JSON")
}

/// A run on a prior is tested on tables of another source, whose keys have the same names and other meanings; it
/// and a baseline stand in one table, a row for each set.
#[test]
fn a_network_is_tested_on_tables_it_never_saw() {
    let bench = Workbench::new(PRIOR);
    bench.write("other.toml", OTHER);
    bench.write("clinic/a.csv", patients(60, true));
    bench.write("clinic/b.csv", patients(80, true));
    bench.run("run m.toml --dir runs/tiny --quiet").ok();
    let found = json(&bench, "eval runs/tiny --on other.toml --quiet");
    assert!(
        found["probabilities"]["auroc"]["mean"].is_number(),
        "{found}"
    );
    let baseline = json(&bench, "run other.toml --dir runs/trees --quiet");
    assert_eq!(found["episode_set"], baseline["episode_set"]);
    let compare =
        "compare runs --where data.source=tables --metric auroc --by-set --format markdown";
    let table = bench.run(compare).ok().stdout;
    let names: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split('|').nth(1).map(str::trim))
        .collect();
    for row in ["a", "b", "better than pfn", "better than boosted_trees"] {
        let is_named = names.iter().any(|name| name.starts_with(row));
        assert!(is_named, "{row}: {table}");
    }
    let refused = bench.run("compare runs/tiny --by-set").mistake();
    assert!(refused.contains("data set"), "{refused}");
}

/// Categories, missing cells and columns in another order; what the support does not know is missing.
#[test]
fn rows_of_a_table_are_predicted() {
    let bench = Workbench::new(PRIOR);
    bench.run("run m.toml --dir run --quiet").ok();
    bench.write("labelled.csv", patients(20, true));
    bench.write("new.csv", patients(4, false));
    let ask = "predict run --support labelled.csv --query";
    let found = json(&bench, &format!("{ask} new.csv"));
    let answers = found["answers"].as_array().expect("answers").clone();
    assert_eq!(answers.len(), 4);
    assert!(["ill", "well"].contains(&answers[0]["label"].as_str().unwrap()));
    // The same from the file of a fit, and from columns in another order beside others.
    bench
        .run("fit run --support labelled.csv --out ill.meta")
        .ok();
    assert_eq!(
        json(&bench, "predict ill.meta --query new.csv")["answers"],
        found["answers"]
    );
    let turned: String = patients(4, false)
        .lines()
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            format!("{},x,{},{}\n", cells[2], cells[1], cells[0])
        })
        .collect();
    bench.write("turned.csv", turned);
    assert_eq!(
        json(&bench, &format!("{ask} turned.csv"))["answers"],
        found["answers"]
    );
    // A category that the support does not have is missing.
    for (name, smoker) in [("unknown.csv", "often"), ("missing.csv", "")] {
        bench.write(name, format!("age,smoker,weight\n50,{smoker},60\n"));
    }
    assert_eq!(
        json(&bench, &format!("{ask} unknown.csv"))["answers"],
        json(&bench, &format!("{ask} missing.csv"))["answers"]
    );
}

/// A regression comes with the quantiles of its bins, in order.
#[test]
fn values_come_with_quantiles() {
    let bench = Workbench::new(PRIOR);
    bench
        .run("run m.toml data.task=regression data.way=1 --dir run --quiet")
        .ok();
    let rows: String = (0..9)
        .map(|x| format!("{x},{},{}\n", x * x, 3 * x))
        .collect();
    bench.write("labelled.csv", format!("x,z,y\n{rows}"));
    bench.write("new.csv", "x,z\n2.5,6\n,7\n");
    let found = json(&bench, "predict run --support labelled.csv --query new.csv");
    let value = &found["answers"][1]["values"][0];
    let levels = ["0.05", "0.25", "0.5", "0.75", "0.95"];
    let quantiles: Vec<f64> = levels
        .iter()
        .map(|level| value["quantiles"][level].as_f64().expect("a quantile"))
        .collect();
    assert!(quantiles.is_sorted(), "{found}");
    // Of a normal both sides would be alike.
    let sides = quantiles[4] - quantiles[2] - (quantiles[2] - quantiles[0]);
    assert!(sides.abs() > 1e-6, "{found}");
}

/// Each mistake is named with its file, and its column and line where it has one.
#[test]
fn what_is_wrong_with_a_table_is_named() {
    let bench = Workbench::new(PRIOR);
    bench.run("run m.toml --dir run --quiet").ok();
    let plain = patients(20, true);
    bench.write("plain.csv", &plain);
    bench.write("new.csv", patients(2, false));
    let head = "age,smoker,weight,state\n";
    let wide: String = (0..9).map(|column| format!("c{column},")).collect();
    for (name, content, expected) in [
        (
            "target.csv",
            format!("{plain}50,no,70,\n"),
            vec!["line 22", "`state`"],
        ),
        (
            "one.csv",
            format!("{head}1,no,5,ill\n2,no,6,ill\n"),
            vec!["`state`", "one class"],
        ),
        (
            "text.csv",
            format!("{plain}old,no,70,ill\n"),
            vec!["line 22", "`age`", "`old`"],
        ),
        (
            "empty.csv",
            format!("{head}1,no,,ill\n2,no,,well\n"),
            vec!["`weight`", "no value"],
        ),
        (
            "wide.csv",
            format!("{wide}y\n{}a\n{}b\n", "1,".repeat(9), "2,".repeat(9)),
            vec!["9 features", "at most 5"],
        ),
    ] {
        bench.write(name, content);
        let message = bench
            .run(&format!("predict run --support {name} --query new.csv"))
            .mistake();
        assert!(message.contains(name), "{message}");
        assert!(
            expected.iter().all(|part| message.contains(part)),
            "{message}"
        );
    }
    for (name, content, expected) in [
        ("fewer.csv", "age,smoker\n50,no\n", "no column `weight`"),
        (
            "words.csv",
            "age,smoker,weight\n50,no,70\nold,no,70\n",
            "line 3, column `age`",
        ),
    ] {
        bench.write(name, content);
        let message = bench
            .run(&format!("predict run --support plain.csv --query {name}"))
            .mistake();
        assert!(
            message.contains(name) && message.contains(expected),
            "{message}"
        );
    }
}
