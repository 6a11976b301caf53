//! The conformance suite: tests what every learner promises, of any family. It covers every learner of a
//! toolkit.
//!
//! A crate with learners of its own runs it on its toolkit with one line in a test file:
//!
//! ```ignore
//! meta_core::conformance_suite!(Mine);
//! ```
//!
//! Each function runs for every learner of the toolkit that predicts and panics where one does not hold; those
//! that act have [another suite](crate::acting_conformance). (That
//! meta-gradients equal central differences is another suite: [`crate::gradcheck::learner`], in f64.)

use std::cell::RefCell;

use burn::tensor::Tensor;
use serde_json::{Value, json};

use crate::{
    Result,
    backend::Cpu,
    data::{Episode, EpisodeShape, Extras, Items, Mask, Targets, Task},
    gradcheck::toy,
    learner::{Learner, LearnerEntry, LearnerList, MetaGradient, New, PredictAt},
    nn::encoder::EncoderSpec,
    optim::{self, OptimizerSettings, OptimizerState},
    parallel,
    params::Params,
    rng::Seed,
    task::{TaskBatch, TaskSpec},
    toolkit::Toolkit,
    train::{
        answer::{Answerer, Queries, Support},
        task_selection::merge_weighted,
    },
};

type B = Cpu;

/// Numbers of an item.
const FEATURES: usize = 8;

/// Largest difference of two ways to the same number in f32, relative to the largest number: sums of
/// some hundred terms in another order, and a few inner steps that amplify them.
const ROUNDING: f32 = 1e-4;

/// Declares a test for every promise, on the learners of a toolkit.
#[macro_export]
macro_rules! conformance_suite {
    ($toolkit:ty) => {
        $crate::conformance_suite! {
            $toolkit:
            learns_a_task_that_can_be_solved,
            weights_of_tasks_are_weights_of_meta_gradients,
            graphs_side_by_side_change_no_bit,
            same_seed_same_numbers_other_seed_others,
            the_meta_gradient_has_the_parameters_names_and_shapes,
            learning_and_predicting_leave_the_learner_as_it_was,
            permuting_the_support_changes_nothing,
            relabelling_the_classes_moves_the_scores_along,
            the_query_does_not_leak,
            the_support_matters,
            saved_and_loaded_parameters_predict_the_same,
            bad_settings_are_refused_by_name,
            tasks_that_do_not_suit_are_refused,
            tasks_that_differ_are_refused_or_read,
            an_explanation_belongs_to_the_answer,
            answers_depend_on_no_other_query,
        }
    };
    ($toolkit:ty: $($promise:ident),+ $(,)?) => {
        $(
            #[test]
            fn $promise() {
                $crate::conformance::$promise::<$toolkit>();
            }
        )+
    };
}

fn spec(entry: &LearnerEntry) -> TaskSpec {
    match entry.sequences {
        true => toy::dictionaries(FEATURES),
        false => toy::vectors(FEATURES, EpisodeShape::new(3, 2, 4)),
    }
}

fn episode(entry: &LearnerEntry, index: u64) -> Episode {
    match entry.sequences {
        true => toy::dictionary(&spec(entry), index),
        false => toy::clouds(&spec(entry), index),
    }
}

fn batch(entry: &LearnerEntry, episodes: &[Episode]) -> TaskBatch<B> {
    TaskBatch::new(episodes, &spec(entry), &Default::default())
}

fn episodes(entry: &LearnerEntry, range: std::ops::Range<u64>) -> Vec<Episode> {
    range.map(|index| episode(entry, index)).collect()
}

fn checked<T: Toolkit>(
    name: &str,
    settings: &Value,
    encoder: Value,
    spec: &TaskSpec,
) -> Result<(T::Learners, EncoderSpec)> {
    let architecture = EncoderSpec::new("mlp", &encoder, spec.item)?;
    let learner = T::Learners::new(name, settings)?;
    learner.check(&architecture, spec)?;
    Ok((learner, architecture))
}

/// The learner with settings that suit the toy task.
fn build<T: Toolkit>(entry: &LearnerEntry, seed: u64) -> Box<dyn Learner<B>> {
    let spec = spec(entry);
    let encoder = json!({"hidden": [16, 16]});
    let (learner, architecture) =
        checked::<T>(entry.info.name, &entry.toy.settings, encoder, &spec)
            .unwrap_or_else(|error| panic!("{}: {error}", entry.info.name));
    learner.build(New {
        architecture,
        spec: &spec,
        seed: Seed(seed),
        device: &Default::default(),
    })
}

fn for_every_learner<T: Toolkit>(test: impl Fn(&LearnerEntry)) {
    let entries = T::Learners::entries().into_iter();
    for entry in entries.filter(|entry| !entry.acts) {
        println!("{}", entry.info.name);
        test(&entry);
    }
}

fn values<const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().to_vec().unwrap()
}

fn answer(learner: &dyn Learner<B>, tasks: &TaskBatch<B>) -> Tensor<B, 3> {
    learner
        .predict(tasks, PredictAt::EveryStep)
        .pop()
        .expect("an answer")
}

fn accuracy(learner: &dyn Learner<B>, tasks: &TaskBatch<B>) -> f32 {
    let scores = crate::nn::loss::score(answer(learner, tasks), &tasks.query.targets);
    scores.mean().into_scalar()
}

fn train(entry: &LearnerEntry, learner: &mut dyn Learner<B>, iterations: u64) {
    let mut state = OptimizerState::new();
    for iteration in 0..iterations {
        let tasks = batch(entry, &episodes(entry, 4 * iteration..4 * iteration + 4));
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

/// # Panics
/// Where a learner does not hold it.
pub fn learns_a_task_that_can_be_solved<T: Toolkit>() {
    for_every_learner::<T>(|entry| {
        let mut learner = build::<T>(entry, 0);
        let test = batch(entry, &episodes(entry, 100_000..100_050));
        train(entry, learner.as_mut(), entry.toy.iterations);
        // 600 queries, chance 1/3: an accuracy of 0.9 by guessing is beyond 25 standard errors, one of
        // 0.8 beyond 20.
        let accuracy = f64::from(accuracy(learner.as_ref(), &test));
        assert!(
            accuracy > entry.toy.accuracy,
            "{}: {accuracy}",
            entry.info.name
        );
    });
}

/// A weighted meta-gradient is the weighted mean of those of the tasks alone: equal weights give that of
/// the tasks together, all weight on one task gives that task's own.
/// # Panics
/// Where a learner does not hold it.
pub fn weights_of_tasks_are_weights_of_meta_gradients<T: Toolkit>() {
    for_every_learner::<T>(|entry| {
        let learner = build::<T>(entry, 0);
        let all = episodes(entry, 0..3);
        let each = || -> Vec<MetaGradient<B>> {
            let alone = |episode: &Episode| batch(entry, std::slice::from_ref(episode));
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
        let together = host(learner.meta_gradient(&batch(entry, &all)));
        let largest = together.iter().fold(0.0f32, |max, g| max.max(g.abs()));
        let scaled = |list: Vec<f32>| -> Vec<f32> { list.iter().map(|g| g / largest).collect() };
        let third = host(merge_weighted(each(), &[1.0 / 3.0; 3]));
        // A meta-gradient adds up all of a pass and its adjoint: ten times the rounding.
        assert_close(&scaled(third), &scaled(together), 10.0 * ROUNDING);
        let second = host(merge_weighted(each(), &[0.0, 1.0, 0.0]));
        assert_eq!(second, host(each().swap_remove(1)));
    });
}

/// Chunks side by side give the bits of the same graphs one after the other.
/// # Panics
/// Where a learner does not hold it.
pub fn graphs_side_by_side_change_no_bit<T: Toolkit>() {
    for_every_learner::<T>(|entry| {
        let learner = build::<T>(entry, 0);
        let (spec, episodes) = (spec(entry), episodes(entry, 0..7));
        let step = |concurrent| {
            let chunks: Vec<_> = episodes.chunks(2).collect();
            let each = parallel::each(&chunks, concurrent, |chunk| {
                learner.meta_gradient(&TaskBatch::new(chunk, &spec, &Default::default()))
            });
            let result = each.into_iter().reduce(MetaGradient::merge).unwrap();
            let mut tensors = result.gradients.to_data();
            tensors.extend(result.buffers.to_data());
            let answers = parallel::each(&chunks, concurrent, |chunk| {
                values(answer(learner.as_ref(), &batch(entry, chunk)))
            });
            (tensors, values(result.losses), answers)
        };
        let alone = step(1);
        assert_eq!((alone.1.len(), alone.2.len()), (7, 4));
        assert_eq!(alone, step(3));
    });
}

/// # Panics
/// Where a learner does not hold it.
pub fn same_seed_same_numbers_other_seed_others<T: Toolkit>() {
    for_every_learner::<T>(|entry| {
        let run = |seed| {
            let mut learner = build::<T>(entry, seed);
            train(entry, learner.as_mut(), 3);
            values(answer(
                learner.as_ref(),
                &batch(entry, &episodes(entry, 7..9)),
            ))
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    });
}

/// # Panics
/// Where a learner does not hold it.
pub fn the_meta_gradient_has_the_parameters_names_and_shapes<T: Toolkit>() {
    for_every_learner::<T>(|entry| {
        let learner = build::<T>(entry, 0);
        let result = learner.meta_gradient(&batch(entry, &episodes(entry, 0..3)));
        assert_eq!(
            result.gradients.shapes(),
            learner.parameters().trainable().shapes()
        );
        assert_eq!((result.losses.dims(), result.scores.dims()), ([3], [3]));
        assert!(values(result.gradients.squared_norm())[0] > 0.0);
    });
}

/// # Panics
/// Where a learner does not hold it.
pub fn learning_and_predicting_leave_the_learner_as_it_was<T: Toolkit>() {
    for_every_learner::<T>(|entry| {
        let learner = build::<T>(entry, 0);
        let before = learner.parameters().to_data();
        let tasks = batch(entry, &episodes(entry, 0..2));
        learner.meta_gradient(&tasks);
        let first = values(answer(learner.as_ref(), &tasks));
        assert_eq!(before, learner.parameters().to_data());
        assert_eq!(first, values(answer(learner.as_ref(), &tasks)));
    });
}

/// The order of the support items is no information; a learner of sequences may number its examples.
/// # Panics
/// Where a learner does not hold it.
pub fn permuting_the_support_changes_nothing<T: Toolkit>() {
    for_every_learner::<T>(|entry| {
        if entry.sequences {
            println!("  not asked of {}", entry.info.name);
            return;
        }
        let learner = build::<T>(entry, 0);
        let plain = episode(entry, 3);
        let mut permuted = plain.clone();
        let order = [4, 1, 5, 0, 3, 2];
        permuted.support = select(&plain.support, &order);
        assert_close(
            &values(answer(learner.as_ref(), &batch(entry, &[permuted]))),
            &values(answer(learner.as_ref(), &batch(entry, &[plain]))),
            ROUNDING,
        );
    });
}

/// Order and number of queries change no byte of an answer.
/// # Panics
/// Where a learner does not hold it.
pub fn answers_depend_on_no_other_query<T: Toolkit>() {
    for_every_learner::<T>(|entry| {
        let learner = build::<T>(entry, 0);
        let support = {
            let Episode { support, .. } = episode(entry, 3);
            Support {
                inputs: support.inputs,
                targets: support.targets,
            }
        };
        let mut queries: Vec<Vec<f32>> = Vec::new();
        for episode in episodes(entry, 4..7) {
            queries.extend(episode.query.inputs.chunks(FEATURES).map(<[f32]>::to_vec));
        }
        let (way, outputs) = (spec(entry).test.way.0, spec(entry).outputs());
        let mode = match entry.queries_alone {
            true => Queries::Alone(4),
            false => Queries::Block(8 * way),
        };
        let device = Default::default();
        let answerer = Answerer::new(
            learner.as_ref(),
            &spec(entry),
            &support,
            false,
            mode,
            &device,
        );
        let answerer = answerer.expect("a support of the toy task");
        let all = |queries: &[Vec<f32>]| -> Vec<Vec<f64>> {
            let found = answerer.answer(&queries.concat());
            assert_eq!(found.outputs, outputs);
            found.rows().map(<[f64]>::to_vec).collect()
        };
        let plain = all(&queries);
        assert_eq!(plain.len(), queries.len());
        for (query, answer) in queries.iter().zip(&plain) {
            let alone = all(std::slice::from_ref(query));
            assert_eq!(alone[0], *answer, "{}", entry.info.name);
        }
        let mut turned: Vec<Vec<f32>> = queries.clone();
        turned.rotate_left(5);
        turned.reverse();
        let mut found = all(&turned);
        found.reverse();
        found.rotate_right(5);
        assert_eq!(found, plain, "{}", entry.info.name);
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
        mask: None,
    }
}

/// Which class is called 0 is no information to a learner without a head for each class: its scores
/// move with the labels.
/// # Panics
/// Where a learner does not hold it.
pub fn relabelling_the_classes_moves_the_scores_along<T: Toolkit>() {
    for_every_learner::<T>(|entry| {
        if !entry.info.any_way || entry.sequences {
            // It has an output of its own for each class, or there are none.
            println!("  not asked of {}", entry.info.name);
            return;
        }
        let learner = build::<T>(entry, 0);
        let plain = episode(entry, 3);
        let mut relabelled = plain.clone();
        let new_label = [2, 0, 1];
        let Targets::Classes(labels) = &mut relabelled.support.targets else {
            unreachable!("classification")
        };
        labels
            .iter_mut()
            .for_each(|label| *label = new_label[*label as usize]);
        let before = values(answer(learner.as_ref(), &batch(entry, &[plain])));
        let after = values(answer(learner.as_ref(), &batch(entry, &[relabelled])));
        for (before, after) in before.chunks(3).zip(after.chunks(3)) {
            let moved: Vec<f32> = (0..3).map(|old| after[new_label[old] as usize]).collect();
            assert_close(&moved, before, ROUNDING);
        }
    });
}

/// Neither the targets of the queries nor (unless the learner is transductive) the other queries enter a
/// prediction.
/// # Panics
/// Where a learner does not hold it.
pub fn the_query_does_not_leak<T: Toolkit>() {
    for_every_learner::<T>(|entry| {
        let learner = build::<T>(entry, 0);
        let plain = episode(entry, 3);
        let mut changed = plain.clone();
        match &mut changed.query.targets {
            Targets::Classes(labels) => labels
                .iter_mut()
                .for_each(|label| *label = (*label + 1) % 3),
            Targets::Sequences(symbols) => symbols.reverse(),
            Targets::Values(_) => unreachable!("no regression"),
        }
        let before = values(answer(learner.as_ref(), &batch(entry, &[plain])));
        if entry.transductive {
            let unlabelled = values(answer(learner.as_ref(), &batch(entry, &[changed.clone()])));
            assert_eq!(before, unlabelled);
        }
        let last = changed.query.inputs.len() - FEATURES;
        changed.query.inputs[last..].fill(9.0);
        let after = values(answer(learner.as_ref(), &batch(entry, &[changed])));
        if entry.transductive {
            assert_ne!(before, after);
            return;
        }
        let kept = before.len() - spec(entry).outputs();
        if entry.sequences {
            // Sums over as many tokens as the longest sentence has.
            assert_close(&before[..kept], &after[..kept], ROUNDING);
        } else {
            assert_eq!(before[..kept], after[..kept]);
        }
        assert_ne!(before[kept..], after[kept..]);
    });
}

/// The support does enter it.
/// # Panics
/// Where a learner does not hold it.
pub fn the_support_matters<T: Toolkit>() {
    for_every_learner::<T>(|entry| {
        let learner = build::<T>(entry, 0);
        let plain = episode(entry, 3);
        let mut changed = plain.clone();
        changed.support.inputs.iter_mut().for_each(|x| *x = -*x);
        assert_ne!(
            values(answer(learner.as_ref(), &batch(entry, &[plain]))),
            values(answer(learner.as_ref(), &batch(entry, &[changed])))
        );
    });
}

/// # Panics
/// Where a learner does not hold it.
pub fn saved_and_loaded_parameters_predict_the_same<T: Toolkit>() {
    for_every_learner::<T>(|entry| {
        let mut trained = build::<T>(entry, 1);
        train(entry, trained.as_mut(), 2);
        let mut loaded = build::<T>(entry, 2);
        let saved = trained.parameters().to_data();
        loaded.set_parameters(Params::from_data(saved, &Default::default()));
        let tasks = batch(entry, &episodes(entry, 0..2));
        assert_eq!(
            values(answer(trained.as_ref(), &tasks)),
            values(answer(loaded.as_ref(), &tasks))
        );
    });
}

/// Every setting refuses values that cannot be: other types, and numbers below every range.
/// # Panics
/// Where a learner does not hold it.
pub fn bad_settings_are_refused_by_name<T: Toolkit>() {
    for_every_learner::<T>(|entry| {
        let spec = spec(entry);
        let check = |settings: Value| {
            checked::<T>(entry.info.name, &settings, json!({}), &spec)
                .err()
                .expect("a refusal")
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
/// # Panics
/// Where a learner does not hold it.
pub fn tasks_that_do_not_suit_are_refused<T: Toolkit>() {
    for_every_learner::<T>(|entry| {
        let check = |spec: TaskSpec| checked::<T>(entry.info.name, &json!({}), json!({}), &spec);
        let regression = TaskSpec {
            task: Task::Regression { outputs: 1 },
            ..spec(entry)
        };
        assert_eq!(check(regression).is_ok(), entry.info.regression);
        let other_way = TaskSpec {
            test: EpisodeShape::new(2, 2, 4),
            ..spec(entry)
        };
        assert_eq!(check(other_way).is_ok(), entry.info.any_way);
        assert_eq!(check(toy::dictionaries(FEATURES)).is_ok(), entry.sequences);
    });
}

/// The first `kept` items of each of the first `classes` classes, of `per_class`: alone, and in their places
/// among items that are not there.
fn fewer(items: &Items, per_class: usize, classes: usize, kept: usize) -> (Items, Items) {
    let there = |item: &usize| item / per_class < classes && item % per_class < kept;
    let own: Vec<usize> = (0..items.len()).filter(there).collect();
    let mut masked = items.clone();
    for (item, numbers) in masked.inputs.chunks_exact_mut(FEATURES).enumerate() {
        if !there(&item) {
            // Not zeros, so that it shows when they are read.
            numbers.fill(7.0);
        }
    }
    masked.mask = Some(Mask {
        items: (0..items.len()).map(|item| there(&item)).collect(),
        numbers: None,
    });
    (select(items, &own), masked)
}

/// Tasks with fewer shots, queries or classes than their shape: a learner is refused them by name, or what is
/// not there changes nothing of its answers, its loss and its gradient.
/// # Panics
/// Where a learner does not hold it.
pub fn tasks_that_differ_are_refused_or_read<T: Toolkit>() {
    let extras = Extras {
        items: true,
        ..Extras::default()
    };
    for_every_learner::<T>(|entry| {
        let spec = TaskSpec {
            extras,
            ..spec(entry)
        };
        let encoder = json!({"hidden": [16, 16]});
        let name = entry.info.name;
        let (learner, architecture) = match checked::<T>(name, &entry.toy.settings, encoder, &spec)
        {
            Ok(checked) => checked,
            Err(error) => {
                let message = error.to_string();
                assert!(
                    message.starts_with(&format!("`learner.name = {name}`")),
                    "{message}"
                );
                return;
            }
        };
        let learner = learner.build(New {
            architecture,
            spec: &spec,
            seed: Seed(1),
            device: &Default::default(),
        });
        let whole = episode(entry, 5);
        for (classes, shots, queries) in [(3, 1, 4), (2, 2, 4), (2, 1, 3)] {
            let (support, masked_support) = fewer(&whole.support, 2, classes, shots);
            let (query, masked_query) = fewer(&whole.query, 4, classes, queries);
            let small = Episode {
                shape: EpisodeShape::new(classes, shots, queries),
                support,
                query,
                ..whole.clone()
            };
            let masked = Episode {
                support: masked_support,
                query: masked_query,
                ..whole.clone()
            };
            let there: Vec<usize> = (0..12)
                .filter(|&item| masked.query.is_there(item))
                .collect();
            let (small, masked) = (batch(entry, &[small]), batch(entry, &[masked]));
            let expected = values(answer(learner.as_ref(), &small));
            let found = values(answer(learner.as_ref(), &masked));
            let found: Vec<&[f32]> = there
                .iter()
                .map(|item| &found[3 * item..3 * item + 3])
                .collect();
            let scores = found.iter().flat_map(|scores| &scores[..classes]).copied();
            assert_close(&scores.collect::<Vec<_>>(), &expected, ROUNDING);
            let absent = found.iter().flat_map(|scores| &scores[classes..]);
            assert!(absent.into_iter().all(|score| *score == f32::NEG_INFINITY));
            let of = |tasks: &TaskBatch<B>| {
                let MetaGradient {
                    gradients,
                    losses,
                    scores,
                    ..
                } = learner.meta_gradient(tasks);
                let gradients = gradients.to_data().into_iter();
                let gradients = gradients.flat_map(|(_, data)| data.to_vec::<f32>().unwrap());
                (
                    gradients.collect::<Vec<f32>>(),
                    [values(losses), values(scores)].concat(),
                )
            };
            let ((gradient, numbers), (expected, expected_numbers)) = (of(&masked), of(&small));
            assert_close(&gradient, &expected, ROUNDING);
            assert_close(&numbers, &expected_numbers, ROUNDING);
        }
    });
}

/// What a learner shows belongs to its answer: the same predictions, maps whose rows are weights, and
/// a distance from the start after every step.
/// # Panics
/// Where a learner does not hold it.
pub fn an_explanation_belongs_to_the_answer<T: Toolkit>() {
    // All of them at once: a new map is a number to change in one learner's `toy`.
    let wrong = RefCell::new(Vec::new());
    for_every_learner::<T>(|entry| {
        let tasks = batch(entry, &episodes(entry, 0..3));
        let learner = build::<T>(entry, 1);
        let explanation = learner.explain(&tasks);
        let predictions = learner.predict(&tasks, PredictAt::EveryStep);
        assert_eq!(explanation.predictions.len(), predictions.len());
        for (shown, given) in explanation.predictions.into_iter().zip(predictions.iter()) {
            assert_close(&values(shown), &values(given.clone()), 1e-6);
        }
        let maps: Vec<&str> = explanation
            .maps
            .iter()
            .map(|map| map.name.as_str())
            .collect();
        if maps.len() != entry.toy.maps {
            let (name, expected) = (entry.info.name, entry.toy.maps);
            wrong
                .borrow_mut()
                .push(format!("{name}: {maps:?}, its toy() says {expected}"));
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
    let wrong = wrong.take();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
