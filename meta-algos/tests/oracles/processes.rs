//! Neural processes against PyTorch: `processes.py` in this folder wrote the numbers.

use meta_core::{
    learner::PredictAt,
    nn::encoder::EncoderSpec,
    rng::Seed,
    task::{TaskBatch, TrainingContext},
};
use serde_json::{Value, json};

use super::{B, Case, assert_close, device, host, items, numbers, parameters, spec};

/// Those of `processes.py`.
pub(super) fn cases() -> Vec<Case> {
    let plain = json!({"hidden": 5, "encoder_layers": 2, "decoder_layers": 2});
    let attentive = |attention: &str| {
        json!({"hidden": 5, "encoder_layers": 2, "decoder_layers": 2, "layers": 2, "heads": 2,
            "attention": attention})
    };
    vec![
        Case::new("cnp", "cnp", plain).regression(),
        Case::new("anp", "anp", attentive("softmax")).regression(),
        Case::new("anp, uniform", "anp", attentive("uniform")).regression(),
        Case::new("tnp", "tnp", attentive("softmax")).regression(),
        Case::new("tnp, uniform", "tnp", attentive("uniform")).regression(),
    ]
}

#[test]
fn processes_equal_pytorch() {
    let text = include_str!("processes.json");
    let oracle: serde_json::Map<String, Value> = serde_json::from_str(text).unwrap();
    let cases = cases();
    assert_eq!(cases.len(), oracle.len());
    for Case {
        name: case,
        learner,
        settings,
        task,
        ..
    } in cases
    {
        let spec = spec(task);
        let encoder = EncoderSpec::new("mlp", &json!({"hidden": [5, 4]}), spec.item).unwrap();
        let mut learner =
            meta_algos::build::<_, B>(learner, &settings, encoder, &spec, Seed(0), &device())
                .unwrap();
        learner.set_parameters(parameters(&learner.parameters()));
        let tasks = TaskBatch {
            shape: spec.train,
            support: items(&spec, 0.4),
            query: items(&spec, 1.1),
            context: TrainingContext::default(),
            episodes: [0, 1].into(),
            classes: [].into(),
            class_vectors: None,
            world: None,
        };
        let expected = &oracle[case];
        let answers: Vec<f64> = learner
            .predict(&tasks, PredictAt::LastStep)
            .remove(0)
            .into_data()
            .iter()
            .collect();
        assert_close(case, &answers, &numbers(&expected["answers"]));
        let densities: Vec<f64> = learner
            .log_likelihood(&tasks)
            .expect("a density")
            .into_data()
            .iter()
            .collect();
        assert_close(case, &densities, &numbers(&expected["log_likelihoods"]));
        let gradients = host(&learner.meta_gradient(&tasks).gradients);
        let all = expected["gradients"].as_object().unwrap();
        assert_eq!(gradients.len(), all.len());
        for (entry, found) in gradients {
            let expected = numbers(&all[&entry]);
            assert_close(&format!("{case}, {entry}"), &found, &expected);
        }
    }
}
