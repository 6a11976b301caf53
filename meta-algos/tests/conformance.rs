//! The conformance suite: every test runs for every learner of the list. Being registered is being
//! enrolled. (Meta-gradients against central differences: `f64.rs`.)

use burn::tensor::Tensor;
use meta_algos::{LearnerEntry, learners};
use meta_core::{
    backend::Cpu,
    data::{Episode, EpisodeShape, ItemShape, Items, Targets, Task},
    graphs,
    learner::{Answers, Learner, MetaGradient},
    nn::encoder::EncoderSpec,
    optim::{self, OptimizerSettings, OptimizerState},
    params::Params,
    rng::Seed,
    selection::merge_weighted,
    task::{TaskBatch, TaskSpec},
};
use serde_json::{Value, json};

type B = Cpu;

const FEATURES: usize = 8;

fn spec() -> TaskSpec {
    let shape = EpisodeShape::new(3, 2, 4);
    TaskSpec {
        item: ItemShape {
            height: 1,
            width: 1,
            channels: FEATURES,
        },
        task: Task::Classification,
        train: shape,
        test: shape,
    }
}

/// A task that can be solved: each class is a cloud around a point of its own.
fn episode(index: u64) -> Episode {
    let shape = spec().train;
    let mut stream = Seed(11).stream("clouds", index, "task");
    let centres: Vec<Vec<f64>> = (0..shape.way.0)
        .map(|_| (0..FEATURES).map(|_| 2.0 * stream.normal()).collect())
        .collect();
    let mut items = |per_class: usize, first: u64| {
        let classes = (0..shape.way.0).flat_map(|class| std::iter::repeat_n(class, per_class));
        let classes: Vec<usize> = classes.collect();
        Items {
            inputs: classes
                .iter()
                .flat_map(|&class| centres[class].clone())
                .map(|centre| (centre + 0.3 * stream.normal()) as f32)
                .collect(),
            targets: Targets::Classes(classes.iter().map(|&class| class as u32).collect()),
            ids: (first..first + classes.len() as u64).collect(),
        }
    };
    Episode {
        index,
        shape,
        support: items(shape.shot.0, 0),
        query: items(shape.query.0, 100),
        classes: Vec::new(),
    }
}

fn batch(episodes: &[Episode]) -> TaskBatch<B> {
    TaskBatch::new(episodes, &spec(), &Default::default())
}

fn episodes(range: std::ops::Range<u64>) -> Vec<Episode> {
    range.map(episode).collect()
}

/// The learner with an encoder that suits it and settings that suit the toy task.
fn build(entry: &LearnerEntry, seed: u64) -> Box<dyn Learner<B>> {
    let spec = spec();
    let architecture = EncoderSpec::new("mlp", &json!({"hidden": [16, 16]}), spec.item).unwrap();
    let settings = match entry.info.name {
        "maml" | "anil" | "meta_sgd" => json!({"inner_lr": 0.1, "inner_steps": 2}),
        "maml_pp" => json!({"inner_lr": 0.1, "inner_steps": 2}),
        "meta_lstm" => json!({"inner_lr": 0.1, "inner_steps": 2, "hidden": 5}),
        "imaml" => json!({"inner_lr": 0.1, "inner_steps": 10, "test_steps": 10, "lambda": 0.5}),
        "cavia" => json!({"inner_lr": 1.0, "context": 20, "hidden": 32}),
        "reptile" => json!({"inner_lr": 0.1, "test_steps": 20, "inner_optimizer": "sgd"}),
        "matching_net" => json!({"temperature": 10.0}),
        "feat" => json!({"temperature": 1.0}),
        "cnp" => json!({"hidden": 64, "encoder_layers": 2, "decoder_layers": 3}),
        "anp" => {
            json!({"hidden": 32, "encoder_layers": 2, "decoder_layers": 2, "layers": 1, "heads": 2})
        }
        "tnp" => json!({"hidden": 32, "encoder_layers": 2, "layers": 2}),
        "mann" => {
            json!({"hidden": 48, "slots": 16, "slot_width": 16, "heads": 2, "sharpness": 5.0})
        }
        "snail" => json!({"keys": [16, 16, 16], "values": [16, 16, 16], "filters": 16}),
        "in_context" => json!({"layers": 2, "width": 32, "heads": 4, "hidden": 64}),
        _ => json!({}),
    };
    meta_algos::build(
        entry.info.name,
        &settings,
        architecture,
        &spec,
        Seed(seed),
        &Default::default(),
    )
    .unwrap()
}

fn for_every_learner(test: impl Fn(&LearnerEntry)) {
    for entry in learners() {
        println!("{}", entry.info.name);
        test(&entry);
    }
}

fn values<const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().to_vec().unwrap()
}

fn answer(learner: &dyn Learner<B>, tasks: &TaskBatch<B>) -> Tensor<B, 3> {
    learner
        .predict(tasks, Answers::EveryStep)
        .pop()
        .expect("an answer")
}

fn accuracy(learner: &dyn Learner<B>, tasks: &TaskBatch<B>) -> f32 {
    let scores = meta_core::nn::loss::score(answer(learner, tasks), &tasks.query.targets);
    scores.mean().into_scalar()
}

fn train(learner: &mut dyn Learner<B>, iterations: u64) {
    let mut state = OptimizerState::new();
    for iteration in 0..iterations {
        let tasks = batch(&episodes(4 * iteration..4 * iteration + 4));
        let gradients = learner.meta_gradient(&tasks).gradients;
        let (parameters, next) = optim::step(
            &OptimizerSettings::default(),
            3e-3,
            learner.parameters(),
            &gradients,
            state,
        );
        learner.set_parameters(parameters);
        state = next;
    }
}

#[track_caller]
fn assert_close(left: &[f32], right: &[f32], tolerance: f32) {
    assert_eq!(left.len(), right.len());
    let scale = right.iter().fold(1.0f32, |max, v| max.max(v.abs()));
    for (l, r) in left.iter().zip(right) {
        assert!((l - r).abs() <= tolerance * scale, "{l} {r}");
    }
}

/// Iterations after which the toy task is learned.
fn iterations(entry: &LearnerEntry) -> u64 {
    match entry.info.name {
        // Where nothing compares or adapts by design, that has to be learned first.
        "anp" | "tnp" => 1500,
        "cnp" => 2500,
        "in_context" | "mann" => 1200,
        "snail" => 500,
        _ => 150,
    }
}

#[test]
fn learns_a_task_that_can_be_solved() {
    for_every_learner(|entry| {
        let mut learner = build(entry, 0);
        let test = batch(&episodes(100_000..100_050));
        train(learner.as_mut(), iterations(entry));
        // 600 queries, chance 1/3: an accuracy of 0.9 by guessing is beyond 25 standard errors, one of
        // 0.8 beyond 20. A MANN reads a mixture of its slots and learns to do it sharply last.
        let bar = if entry.info.name == "mann" { 0.8 } else { 0.9 };
        let accuracy = accuracy(learner.as_ref(), &test);
        assert!(accuracy > bar, "{}: {accuracy}", entry.info.name);
    });
}

/// A weighted meta-gradient is the weighted mean of those of the tasks alone: equal weights give that of
/// the tasks together, all weight on one task gives that task's own.
#[test]
fn weights_of_tasks_are_weights_of_meta_gradients() {
    for_every_learner(|entry| {
        let learner = build(entry, 0);
        let all = episodes(0..3);
        let each = || -> Vec<MetaGradient<B>> {
            let alone = |episode: &Episode| batch(std::slice::from_ref(episode));
            all.iter()
                .map(|episode| learner.meta_gradient(&alone(episode)))
                .collect()
        };
        let host = |gradient: MetaGradient<B>| -> Vec<f32> {
            let entries = gradient.gradients.trainable().to_data().into_iter();
            entries
                .flat_map(|(_, data)| data.to_vec::<f32>().unwrap())
                .collect()
        };
        let together = host(learner.meta_gradient(&batch(&all)));
        let largest = together.iter().fold(0.0f32, |max, g| max.max(g.abs()));
        let scaled = |list: Vec<f32>| -> Vec<f32> { list.iter().map(|g| g / largest).collect() };
        let third = host(merge_weighted(each(), &[1.0 / 3.0; 3]));
        assert_close(&scaled(third), &scaled(together), 1e-3);
        let second = host(merge_weighted(each(), &[0.0, 1.0, 0.0]));
        assert_eq!(second, host(each().swap_remove(1)));
    });
}

/// Graphs side by side give the bits of the same graphs one after the other.
#[test]
fn graphs_side_by_side_change_no_bit() {
    for_every_learner(|entry| {
        let learner = build(entry, 0);
        let (spec, episodes) = (spec(), episodes(0..7));
        let step = |at_once| {
            let chunks: Vec<_> = episodes.chunks(2).collect();
            let each = graphs::each(&chunks, at_once, |chunk| {
                learner.meta_gradient(&TaskBatch::new(chunk, &spec, &Default::default()))
            });
            let result = each.into_iter().reduce(MetaGradient::merge).unwrap();
            let mut tensors = result.gradients.to_data();
            tensors.extend(result.buffers.to_data());
            let answers = graphs::each(&chunks, at_once, |chunk| {
                values(answer(learner.as_ref(), &batch(chunk)))
            });
            (tensors, values(result.losses), answers)
        };
        let alone = step(1);
        assert_eq!((alone.1.len(), alone.2.len()), (7, 4));
        assert_eq!(alone, step(3));
    });
}

#[test]
fn same_seed_same_numbers_other_seed_others() {
    for_every_learner(|entry| {
        let run = |seed| {
            let mut learner = build(entry, seed);
            train(learner.as_mut(), 3);
            values(answer(learner.as_ref(), &batch(&episodes(7..9))))
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    });
}

#[test]
fn the_meta_gradient_has_the_parameters_names_and_shapes() {
    for_every_learner(|entry| {
        let learner = build(entry, 0);
        let result = learner.meta_gradient(&batch(&episodes(0..3)));
        assert_eq!(
            result.gradients.shapes(),
            learner.parameters().trainable().shapes()
        );
        assert_eq!((result.losses.dims(), result.scores.dims()), ([3], [3]));
        assert!(values(result.gradients.squared_norm())[0] > 0.0);
    });
}

#[test]
fn learning_and_predicting_leave_the_learner_as_it_was() {
    for_every_learner(|entry| {
        let learner = build(entry, 0);
        let before = learner.parameters().to_data();
        let tasks = batch(&episodes(0..2));
        learner.meta_gradient(&tasks);
        let first = values(answer(learner.as_ref(), &tasks));
        assert_eq!(before, learner.parameters().to_data());
        assert_eq!(first, values(answer(learner.as_ref(), &tasks)));
    });
}

/// The order of the support items is no information.
#[test]
fn permuting_the_support_changes_nothing() {
    for_every_learner(|entry| {
        let learner = build(entry, 0);
        let plain = episode(3);
        let mut permuted = plain.clone();
        let order = [4, 1, 5, 0, 3, 2];
        permuted.support = select(&plain.support, &order);
        assert_close(
            &values(answer(learner.as_ref(), &batch(&[permuted]))),
            &values(answer(learner.as_ref(), &batch(&[plain]))),
            1e-4,
        );
    });
}

fn select(items: &Items, order: &[usize]) -> Items {
    let Targets::Classes(labels) = &items.targets else {
        unreachable!("classification")
    };
    Items {
        inputs: order
            .iter()
            .flat_map(|&item| items.inputs[item * FEATURES..(item + 1) * FEATURES].to_vec())
            .collect(),
        targets: Targets::Classes(order.iter().map(|&item| labels[item]).collect()),
        ids: order.iter().map(|&item| items.ids[item]).collect(),
    }
}

/// Which class is called 0 is no information to a learner without a head for each class: its scores
/// move with the labels.
#[test]
fn relabelling_the_classes_moves_the_scores_along() {
    for_every_learner(|entry| {
        if !entry.info.any_way {
            return;
        }
        let learner = build(entry, 0);
        let plain = episode(3);
        let mut relabelled = plain.clone();
        let new_label = [2, 0, 1];
        let Targets::Classes(labels) = &mut relabelled.support.targets else {
            unreachable!("classification")
        };
        labels
            .iter_mut()
            .for_each(|label| *label = new_label[*label as usize]);
        let before = values(answer(learner.as_ref(), &batch(&[plain])));
        let after = values(answer(learner.as_ref(), &batch(&[relabelled])));
        for (before, after) in before.chunks(3).zip(after.chunks(3)) {
            let moved: Vec<f32> = (0..3).map(|old| after[new_label[old] as usize]).collect();
            assert_close(&moved, before, 1e-4);
        }
    });
}

/// Neither the targets of the queries nor (without transductive statistics) the other queries enter
/// a prediction.
#[test]
fn the_query_does_not_leak() {
    for_every_learner(|entry| {
        let learner = build(entry, 0);
        let plain = episode(3);
        let mut changed = plain.clone();
        let Targets::Classes(labels) = &mut changed.query.targets else {
            unreachable!("classification")
        };
        labels
            .iter_mut()
            .for_each(|label| *label = (*label + 1) % 3);
        let last = changed.query.inputs.len() - FEATURES;
        changed.query.inputs[last..].fill(9.0);
        let before = values(answer(learner.as_ref(), &batch(&[plain])));
        let after = values(answer(learner.as_ref(), &batch(&[changed])));
        let kept = before.len() - 3;
        assert_eq!(before[..kept], after[..kept]);
        assert_ne!(before[kept..], after[kept..]);
    });
}

/// The support does enter it.
#[test]
fn the_support_matters() {
    for_every_learner(|entry| {
        let learner = build(entry, 0);
        let plain = episode(3);
        let mut changed = plain.clone();
        changed.support.inputs.iter_mut().for_each(|x| *x = -*x);
        assert_ne!(
            values(answer(learner.as_ref(), &batch(&[plain]))),
            values(answer(learner.as_ref(), &batch(&[changed])))
        );
    });
}

#[test]
fn saved_and_loaded_parameters_predict_the_same() {
    for_every_learner(|entry| {
        let mut trained = build(entry, 1);
        train(trained.as_mut(), 2);
        let mut loaded = build(entry, 2);
        let saved = trained.parameters().to_data();
        loaded.set_parameters(Params::from_data(saved, &Default::default()));
        let tasks = batch(&episodes(0..2));
        assert_eq!(
            values(answer(trained.as_ref(), &tasks)),
            values(answer(loaded.as_ref(), &tasks))
        );
    });
}

/// Every setting refuses values that cannot be: other types, and numbers below every range.
#[test]
fn bad_settings_are_refused_by_name() {
    let spec = spec();
    let architecture = EncoderSpec::new("mlp", &json!({}), spec.item).unwrap();
    for_every_learner(|entry| {
        let check = |settings: Value| {
            meta_algos::check(entry.info.name, &settings, &architecture, &spec)
                .unwrap_err()
                .to_string()
        };
        assert!(check(json!({"no_such_key": 1})).contains("no_such_key"));
        for (key, default) in entry.default_settings.as_object().unwrap() {
            let mut bad = vec![json!({"table": 1})];
            match default {
                // A default of 0 is in range, and the lowest of it.
                Value::Number(number) if number.as_f64() == Some(0.0) => bad.push(json!(-1)),
                Value::Number(_) => bad.extend([json!(-1), json!(0)]),
                Value::String(_) => bad.push(json!("no such choice")),
                _ => {}
            }
            for value in bad {
                let message = check(json!({ key: value }));
                let expected = format!("learner.{key}");
                assert!(message.contains(&expected), "{value}: {message}");
            }
        }
    });
}

/// What the tasks rule out is refused before anything is built.
#[test]
fn tasks_that_do_not_suit_are_refused() {
    for_every_learner(|entry| {
        let check = |spec: TaskSpec| {
            let architecture = EncoderSpec::new("mlp", &json!({}), spec.item).unwrap();
            meta_algos::check(entry.info.name, &json!({}), &architecture, &spec)
        };
        let regression = TaskSpec {
            task: Task::Regression { outputs: 1 },
            ..spec()
        };
        assert_eq!(check(regression).is_ok(), entry.info.regression);
        let other_way = TaskSpec {
            test: EpisodeShape::new(2, 2, 4),
            ..spec()
        };
        assert_eq!(check(other_way).is_ok(), entry.info.any_way);
    });
}

/// What a learner shows belongs to its answer: the same predictions, maps whose rows are weights, and
/// a distance from the start after every step.
#[test]
fn an_explanation_belongs_to_the_answer() {
    let tasks = batch(&episodes(0..3));
    for_every_learner(|entry| {
        let learner = build(entry, 1);
        let explanation = learner.explain(&tasks);
        let predictions = learner.predict(&tasks, Answers::EveryStep);
        assert_eq!(explanation.predictions.len(), predictions.len());
        for (shown, given) in explanation.predictions.into_iter().zip(predictions.iter()) {
            assert_close(&values(shown), &values(given.clone()), 1e-6);
        }
        for map in explanation.maps {
            let sums = values(map.weights.sum_dim(3));
            assert!(!map.name.is_empty());
            assert_close(&sums, &vec![1.0; sums.len()], 1e-5);
        }
        for (layer, distances) in explanation.movement {
            assert_eq!(distances.len() + 1, predictions.len(), "{layer}");
            assert!(distances.iter().all(|step| step.dims() == [3]), "{layer}");
        }
    });
}
