//! Learners that were made for texts against PyTorch: `language.py` in this folder wrote the numbers.

use serde_json::json;

use super::{Case, all_equal_pytorch};

/// Those of `language.py`.
pub(super) fn cases() -> Vec<Case> {
    let steps = |order: &str| {
        json!({
            "token_width": 2, "inner_lr": 0.1, "inner_steps": 2, "test_steps": 2, "order": order,
        })
    };
    let signatures = "distributional_signatures";
    let uniform = json!({"hidden": 2, "attention": "uniform"});
    let one_round = json!({"slices": 2, "iterations": 1});
    vec![
        Case::new(signatures, signatures, json!({"hidden": 2})),
        Case::new("distributional_signatures, uniform", signatures, uniform),
        Case::new("hatt", "hatt", json!({"hidden": 3})),
        Case::new("induction_net", "induction_net", json!({"slices": 3})),
        Case::new("induction_net, 1 round", "induction_net", one_round),
        Case::new("ataml", "ataml", steps("second")),
        Case::new("ataml, first order", "ataml", steps("first")),
    ]
}

#[test]
fn learners_of_texts_equal_pytorch() {
    all_equal_pytorch(cases(), include_str!("language.json"));
}
