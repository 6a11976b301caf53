//! Learners that read the support as a sequence against PyTorch: `memory.py` in this folder wrote the
//! numbers.

use meta_core::data::Task;
use serde_json::{Value, json};

use super::{OUTPUTS, equals_pytorch};

#[test]
fn memories_equal_pytorch() {
    let text = include_str!("memory.json");
    let oracle: serde_json::Map<String, Value> = serde_json::from_str(text).unwrap();
    let classes = Task::Classification;
    let values = Task::Regression { outputs: OUTPUTS };
    let mann = json!({
        "hidden": 4, "slots": 6, "slot_width": 3, "heads": 2, "decay": 0.95, "sharpness": 3.0,
    });
    let of_paper = json!({"hidden": 5, "slots": 4, "slot_width": 3, "heads": 1, "decay": 0.5});
    let snail = json!({"keys": [2, 3, 4], "values": [2, 2, 3], "filters": 2});
    let mut uniform = snail.clone();
    uniform["attention"] = json!("uniform");
    let cases = [
        ("mann", "mann", mann.clone(), classes),
        ("mann, one head, as in the paper", "mann", of_paper, classes),
        ("mann, regression", "mann", mann, values),
        ("snail", "snail", snail.clone(), classes),
        ("snail, uniform", "snail", uniform, classes),
        ("snail, regression", "snail", snail, values),
    ];
    assert_eq!(cases.len(), oracle.len());
    for (case, name, settings, task) in cases {
        equals_pytorch(case, name, &settings, task, 0.0, &oracle[case]);
    }
}
