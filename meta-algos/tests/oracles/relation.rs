//! The convolutional relation module against PyTorch: `relation.py` in this folder wrote the numbers.

use meta_core::{
    data::{ItemShape, Task},
    nn::encoder::EncoderSpec,
    task::TaskSpec,
};
use serde_json::{Value, json};

use super::{Case, equals_on, spec};

#[test]
fn convolutional_relations_equal_pytorch() {
    let oracle: Value = serde_json::from_str(include_str!("relation.json")).unwrap();
    let item = ItemShape {
        height: 12,
        width: 12,
        channels: 1,
    };
    let spec = TaskSpec {
        item,
        ..spec(Task::Classification)
    };
    let encoder = json!({"channels": 2, "blocks": 2, "pooled": 1});
    let encoder = EncoderSpec::new("relation_conv", &encoder, item).unwrap();
    let settings = json!({"module": "conv", "hidden": 5, "relation_width": 5});
    let case = Case::new("relation_net, convolutional", "relation_net", settings);
    equals_on(&case, &spec, encoder, &oracle[case.name]);
}
