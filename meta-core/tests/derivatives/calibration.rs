//! Figures of calibration against scikit-learn, by `tests/oracles/calibration.py`.

use meta_core::calibration::{Reliability, Scored, auroc, share_reaching, temperature, threshold};
use serde_json::Value;

fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().expect("a list").iter();
    list.map(|number| number.as_f64().expect("a number"))
        .collect()
}

#[test]
fn figures_equal_those_of_scikit_learn() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/oracles/calibration.json"
    );
    let text = std::fs::read_to_string(folder).expect("the numbers");
    let oracle: Value = serde_json::from_str(&text).expect("JSON");
    let expected = |key: &str| oracle[key].as_f64().expect("a number");
    let labels = numbers(&oracle["labels"]);
    let rows = oracle["scores"].as_array().expect("rows").iter();
    let queries: Vec<Scored> = rows
        .zip(labels)
        .map(|(scores, label)| Scored {
            scores: numbers(scores),
            class: label as usize,
        })
        .collect();
    let loss = |temperature: f64| {
        let losses = queries.iter();
        let losses = losses.map(|query| query.negative_log_likelihood(temperature));
        losses.sum::<f64>() / queries.len() as f64
    };
    let error = |temperature: f64| {
        let answers = queries.iter().map(|query| query.confidence(temperature));
        Reliability::of(answers).error()
    };
    let close = |name: &str, found: f64, tolerance: f64| {
        let difference = (found - expected(name)).abs();
        assert!(
            difference <= tolerance,
            "{name}: {found} {}",
            expected(name)
        );
    };
    // Sums of some hundred numbers in another order.
    close("loss", loss(1.0), 1e-12);
    close("error", error(1.0), 1e-12);
    close("error_at_2", error(2.0), 1e-12);
    // A minimum is found to the root of the precision of its value.
    close("temperature", temperature(&queries), 1e-6);
    close("loss_at_temperature", loss(temperature(&queries)), 1e-12);
    let (inside, outside) = (numbers(&oracle["inside"]), numbers(&oracle["outside"]));
    close("auroc", auroc(&inside, &outside).expect("both"), 1e-12);
    let bar = threshold(&inside, 0.95).expect("some");
    close("fpr95", share_reaching(&outside, bar), 1e-12);
}
