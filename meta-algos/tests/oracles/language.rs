//! Learners that were made for texts against PyTorch: `language.py` in this folder wrote the numbers.

use meta_core::data::Task;
use serde_json::{Value, json};

use super::equals_pytorch;

#[test]
fn learners_of_texts_equal_pytorch() {
    let text = include_str!("language.json");
    let oracle: serde_json::Map<String, Value> = serde_json::from_str(text).unwrap();
    let steps = |order: &str| {
        json!({
            "token_width": 2, "inner_lr": 0.1, "inner_steps": 2, "test_steps": 2, "order": order,
        })
    };
    let signatures = "distributional_signatures";
    let cases = [
        (signatures, signatures, json!({"hidden": 2})),
        (
            "distributional_signatures, uniform",
            signatures,
            json!({"hidden": 2, "attention": "uniform"}),
        ),
        ("hatt", "hatt", json!({"hidden": 3})),
        ("induction_net", "induction_net", json!({"slices": 3})),
        (
            "induction_net, 1 round",
            "induction_net",
            json!({"slices": 2, "iterations": 1}),
        ),
        ("ataml", "ataml", steps("second")),
        ("ataml, first order", "ataml", steps("first")),
    ];
    assert_eq!(cases.len(), oracle.len());
    for (case, name, settings) in cases {
        let classes = Task::Classification;
        equals_pytorch(case, name, &settings, classes, 0.0, &oracle[case]);
    }
}
