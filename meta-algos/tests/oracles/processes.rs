//! Neural processes against PyTorch: `processes.py` in this folder wrote the numbers.

use meta_core::{learner::PredictAt, rng::Seed};
use serde_json::{Value, json};

use super::{
    B, Case, assert_close, device, encoder, host, items, numbers, parameters, spec, tasks_of,
};

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
    for case in cases {
        let spec = spec(case.task);
        let (encoder, settings) = (encoder(&spec), &case.settings);
        let mut learner =
            meta_algos::build::<_, B>(case.learner, settings, encoder, &spec, Seed(0), &device())
                .unwrap();
        learner.set_parameters(parameters(&learner.parameters()));
        let items = [items(&spec, 0.4), items(&spec, 1.1)];
        let tasks = tasks_of(&spec, items, case.progress);
        let case = case.name;
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
