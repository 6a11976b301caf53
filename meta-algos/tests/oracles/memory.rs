//! Learners that read the support as a sequence against PyTorch: `memory.py` in this folder wrote the
//! numbers.

use serde_json::json;

use super::{Case, all_equal_pytorch};

/// Those of `memory.py`.
pub(super) fn cases() -> Vec<Case> {
    let mann = json!({
        "hidden": 4, "slots": 6, "slot_width": 3, "heads": 2, "decay": 0.95, "sharpness": 3.0,
    });
    let of_paper = json!({"hidden": 5, "slots": 4, "slot_width": 3, "heads": 1, "decay": 0.5});
    let snail = json!({"keys": [2, 3, 4], "values": [2, 2, 3], "filters": 2});
    let mut uniform = snail.clone();
    uniform["attention"] = json!("uniform");
    vec![
        Case::new("mann", "mann", mann.clone()),
        Case::new("mann, one head, as in the paper", "mann", of_paper),
        Case::new("mann, regression", "mann", mann).regression(),
        Case::new("snail", "snail", snail.clone()),
        Case::new("snail, uniform", "snail", uniform),
        Case::new("snail, regression", "snail", snail).regression(),
    ]
}

#[test]
fn memories_equal_pytorch() {
    all_equal_pytorch(cases(), include_str!("memory.json"));
}
