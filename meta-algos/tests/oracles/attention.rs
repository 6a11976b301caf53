//! Learners whose support is read by attention against PyTorch: `attention.py` in this folder wrote the numbers.

use serde_json::json;

use super::{Case, all_equal_pytorch};

/// Those of `attention.py`.
pub(super) fn cases() -> Vec<Case> {
    let in_context = |attention: &str| json!({"layers": 2, "width": 4, "heads": 2, "hidden": 5, "attention": attention});
    let meta_attention = |steps: usize, temperature: f64| {
        json!({
            "heads": 2, "inner_lr": 0.1, "inner_steps": steps, "test_steps": steps, "temperature": temperature
        })
    };
    let transformer = |steps: usize| {
        json!({
            "width": 4, "heads": 2, "layers": 2, "decoder_layers": 1, "hidden": 5, "inner_steps": steps,
            "inner_lr": 0.1
        })
    };
    let task_attention = |steps: usize| {
        json!({
            "seeds": 2, "width": 4, "heads": 2, "hidden": 5, "inner_steps": steps, "inner_lr": 0.1
        })
    };
    let task_relations = |steps: usize, attention: &str| {
        json!({
            "slots": 3, "width": 4, "heads": 2, "hidden": 5, "inner_steps": steps, "inner_lr": 0.1,
            "attention": attention
        })
    };
    let pfn = |attention: &str| json!({"width": 4, "heads": 2, "layers": 2, "hidden": 5, "attention": attention});
    vec![
        Case::new("in_context", "in_context", in_context("softmax")),
        Case::new("in_context, uniform", "in_context", in_context("uniform")),
        Case::new("meta_attention", "meta_attention", meta_attention(1, 4.0)),
        Case::new(
            "meta_attention, 3 steps",
            "meta_attention",
            meta_attention(3, 1.0),
        ),
        Case::new("pfn", "pfn", pfn("softmax")),
        Case::new("pfn, uniform", "pfn", pfn("uniform")),
        Case::new("task_attention", "task_attention", task_attention(0)),
        Case::new(
            "task_attention, 2 steps",
            "task_attention",
            task_attention(2),
        ),
        Case::new(
            "task_relations",
            "task_relations",
            task_relations(0, "softmax"),
        ),
        Case::new(
            "task_relations, 2 steps",
            "task_relations",
            task_relations(2, "softmax"),
        ),
        Case::new(
            "task_relations, uniform",
            "task_relations",
            task_relations(0, "uniform"),
        ),
        Case::new("task_transformer", "task_transformer", transformer(0)),
        Case::new(
            "task_transformer, 2 steps",
            "task_transformer",
            transformer(2),
        ),
    ]
}

#[test]
fn learners_with_attention_equal_pytorch() {
    all_equal_pytorch(cases(), include_str!("attention.json"));
}
