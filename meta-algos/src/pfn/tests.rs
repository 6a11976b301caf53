//! What a prior-fitted network holds beyond the conformance suite: columns are a set, masks stand for
//! smaller tables, columns are read in the units of the support, distributions are those of a density.

use super::*;
use crate::toy::{PredictAt, assert_close, refusal, spec, tasks, values};
use burn::tensor::TensorData;
use meta_core::{
    backend::Cpu, data::EpisodeShape, gradcheck::toy, nn::encoder::EncoderSpec, rng::Seed,
    task::MaskBatch,
};

type B = Cpu;

fn build(spec: &TaskSpec) -> Box<dyn Learner<B>> {
    let settings = json!({"width": 8, "heads": 2, "layers": 2, "hidden": 16, "bins": 12});
    let encoder = EncoderSpec::new("identity", &json!({}), spec.item).expect("an encoder");
    crate::build(
        "pfn",
        &settings,
        encoder,
        spec,
        Seed(2),
        &Default::default(),
    )
    .expect("built")
}

fn of_values(spec: TaskSpec) -> TaskSpec {
    TaskSpec {
        task: Task::Regression { outputs: 1 },
        ..spec
    }
}

/// Tasks of values: a number of each row that follows from its features.
fn regression() -> (TaskSpec, TaskBatch<B>) {
    let plain = spec(1, 9);
    let mut tasks = tasks(&plain);
    for items in [&mut tasks.support, &mut tasks.query] {
        let x = items.inputs.clone();
        let values = x.clone().narrow(2, 0, 1) * x.clone().narrow(2, 1, 1) + x.narrow(2, 2, 1);
        items.targets = TargetBatch::Values(values.mul_scalar(3.0).add_scalar(20.0));
    }
    (of_values(plain), tasks)
}

fn answer(learner: &dyn Learner<B>, tasks: &TaskBatch<B>) -> Vec<f32> {
    values(learner.predict(tasks, PredictAt::LastStep).remove(0))
}

/// The order of the features is no information; sums in another order.
#[test]
fn features_are_a_set() {
    let classification = (spec(3, 4), tasks(&spec(3, 4)));
    for (spec, tasks) in [classification, regression()] {
        let learner = build(&spec);
        let mut turned = tasks.clone();
        for items in [&mut turned.support, &mut turned.query] {
            let x = items.inputs.clone();
            let order = [3, 0, 5, 1, 4, 2].map(|feature| x.clone().narrow(2, feature, 1));
            items.inputs = Tensor::cat(order.to_vec(), 2);
        }
        let (found, expected) = (
            answer(learner.as_ref(), &turned),
            answer(learner.as_ref(), &tasks),
        );
        assert_close(&found, &expected, 2e-4);
    }
}

/// A column in other units, of the inputs and of the target, changes what is said in those units alone.
#[test]
fn columns_have_no_units() {
    let (spec, tasks) = regression();
    let learner = build(&spec);
    let mut scaled = tasks.clone();
    for items in [&mut scaled.support, &mut scaled.query] {
        items.inputs = items.inputs.clone().mul_scalar(7.0).sub_scalar(3.0);
        if let TargetBatch::Values(values) = &items.targets {
            items.targets = TargetBatch::Values(values.clone().mul_scalar(0.5).add_scalar(4.0));
        }
    }
    let expected: Vec<f32> = answer(learner.as_ref(), &tasks)
        .iter()
        .map(|y| 0.5 * y + 4.0)
        .collect();
    assert_close(&answer(learner.as_ref(), &scaled), &expected, 2e-4);
    let likelihood = |tasks: &TaskBatch<B>| {
        let found = learner
            .log_likelihood(tasks)
            .expect("a density")
            .into_data();
        found.to_vec::<f32>().expect("numbers")
    };
    // The density of half the target is twice as high.
    let expected: Vec<f32> = likelihood(&tasks)
        .iter()
        .map(|density| density + 2.0f32.ln())
        .collect();
    assert_close(&likelihood(&scaled), &expected, 1e-3);
    let deviations = |tasks: &TaskBatch<B>| values(learner.deviations(tasks).expect("a density"));
    let expected: Vec<f32> = deviations(&tasks)
        .iter()
        .map(|deviation| 0.5 * deviation)
        .collect();
    assert_close(&deviations(&scaled), &expected, 2e-4);
}

/// Columns that are there in no row of the support change nothing, whatever the queries have in them; and
/// rows that are not there change nothing of a distribution of values.
#[test]
fn masks_stand_for_smaller_tables() {
    let classification = (spec(3, 4), tasks(&spec(3, 4)));
    for (spec, tasks) in [classification, regression()] {
        let small = TaskSpec {
            item: toy::vectors(4, spec.train).item,
            ..spec
        };
        let mut narrow = tasks.clone();
        for items in [&mut narrow.support, &mut narrow.query] {
            items.inputs = items.inputs.clone().narrow(2, 0, 4);
        }
        let mut masked = tasks.clone();
        for (of_query, items) in [(false, &mut masked.support), (true, &mut masked.query)] {
            let [t, b, f] = items.inputs.dims();
            let there = (0..t * b * f).map(|place| place % f < 4 || (of_query && place % f == 5));
            let there = TensorData::new(there.collect::<Vec<bool>>(), [t, b, f]);
            let all = TensorData::new(vec![true; t * b], [t, b]);
            items.mask = Some(MaskBatch {
                items: Tensor::from_data(all, &Default::default()),
                numbers: Some(Tensor::from_data(there, &Default::default())),
            });
        }
        let learner = build(&small);
        let found = answer(build(&spec).as_ref(), &masked);
        assert_close(&found, &answer(learner.as_ref(), &narrow), 2e-4);
    }
}

/// A distribution of values with rows that are not there is that of the others, and so is its density.
#[test]
fn absent_rows_have_no_say_in_a_distribution() {
    let (spec, tasks) = regression();
    let learner = build(&spec);
    let [t, s] = tasks.support.dims();
    let mut fewer = tasks.clone();
    fewer.support.inputs = tasks.support.inputs.clone().narrow(1, 0, s - 2);
    let TargetBatch::Values(targets) = &tasks.support.targets else {
        panic!("values");
    };
    fewer.support.targets = TargetBatch::Values(targets.clone().narrow(1, 0, s - 2));
    let mut masked = tasks.clone();
    let there = (0..t * s)
        .map(|place| place % s < s - 2)
        .collect::<Vec<bool>>();
    masked.support.mask = Some(MaskBatch {
        items: Tensor::from_data(TensorData::new(there, [t, s]), &Default::default()),
        numbers: None,
    });
    assert_close(
        &answer(learner.as_ref(), &masked),
        &answer(learner.as_ref(), &fewer),
        2e-4,
    );
    let likelihood = |tasks: &TaskBatch<B>| {
        let found = learner
            .log_likelihood(tasks)
            .expect("a density")
            .into_data();
        found.to_vec::<f32>().expect("numbers")
    };
    assert_close(&likelihood(&masked), &likelihood(&fewer), 2e-4);
}

/// A query is answered alone, in both kinds of task.
#[test]
fn queries_do_not_see_each_other() {
    let (spec, tasks) = regression();
    let learner = build(&spec);
    let mut first = tasks.clone();
    first.query.inputs = tasks.query.inputs.clone().narrow(1, 0, 1);
    let all = learner.predict(&tasks, PredictAt::LastStep).remove(0);
    assert_close(
        &values(all.narrow(1, 0, 1)),
        &answer(learner.as_ref(), &first),
        1e-5,
    );
}

/// A column that is the same in the whole support says nothing, and a single row is a support.
#[test]
fn constant_columns_and_single_rows_are_read() {
    let (spec, tasks) = regression();
    let learner = build(&spec);
    let mut single = tasks.clone();
    single.support.inputs = tasks.support.inputs.clone().narrow(1, 0, 1);
    let TargetBatch::Values(targets) = &tasks.support.targets else {
        panic!("values");
    };
    single.support.targets = TargetBatch::Values(targets.clone().narrow(1, 0, 1));
    let found = answer(learner.as_ref(), &single);
    assert!(found.iter().all(|y| y.is_finite()));
    let mut constant = tasks.clone();
    let [t, s, f] = tasks.support.inputs.dims();
    let fixed = tasks
        .support
        .inputs
        .clone()
        .narrow(2, 0, 1)
        .zeros_like()
        .add_scalar(1234.5);
    constant.support.inputs = Tensor::cat(
        vec![fixed, tasks.support.inputs.clone().narrow(2, 1, f - 1)],
        2,
    );
    assert_eq!(constant.support.inputs.dims(), [t, s, f]);
    let mut moved = constant.clone();
    let x = constant.query.inputs.clone();
    let far = x.clone().narrow(2, 0, 1).add_scalar(50.0);
    moved.query.inputs = Tensor::cat(vec![far, x.narrow(2, 1, f - 1)], 2);
    assert_eq!(
        answer(learner.as_ref(), &constant),
        answer(learner.as_ref(), &moved)
    );
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let message = |settings, spec: &TaskSpec| refusal("pfn", settings, spec);
    let plain = spec(3, 2);
    let found = message(json!({"heads": 3}), &plain);
    assert!(found.starts_with("`learner.heads = 3`"), "{found}");
    // The encoder of these tests is 7 wide.
    for (key, most, least) in [
        ("max_features", 6, 7),
        ("max_rows", 5, 6),
        ("max_classes", 2, 3),
    ] {
        let found = message(json!({ key: most }), &plain);
        let expected = format!("`learner.{key} = {most}`: must be at least {least}");
        assert!(found.starts_with(&expected), "{found}");
    }
    let mut missing = plain;
    missing.extras.numbers = true;
    let found = message(json!({}), &missing);
    assert!(found.contains("`identity`"), "{found}");
    let wide = TaskSpec {
        task: Task::Regression { outputs: 2 },
        ..toy::vectors(3, EpisodeShape::new(1, 4, 2))
    };
    assert!(message(json!({}), &wide).contains("one number"));
}
