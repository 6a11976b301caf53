//! Checks the meta-gradients of the learners.

use meta_core::{
    data::{Episode, EpisodeShape, Split, Task, find_source},
    gradcheck::{
        learner::{error, move_off_start},
        toy::{SEQUENCES, random_episode, small_spec},
    },
    learner::{Family, GradientOf, Learner, LearnerEntry, LearnerList, New, PredictAt},
    nn::encoder::EncoderList,
    primitives::Primitives,
    rl,
    rng::Seed,
    task::{TaskBatch, TaskSpec},
    toolkit::{Catalogue, Toolkit},
};
use serde_json::{Value, json};

use super::{
    cases::small_encoders,
    checks::{Checks, Purpose, Row},
};
use crate::failure::Result;

/// Every learner with an MLP, a convolutional network and self-attention, on classification and,
/// where it can, on regression.
pub fn learners<T: Toolkit, B: Primitives>(checks: &mut Checks<B>) -> Result<()> {
    let device = checks.device.clone();
    let catalogue = Catalogue::of::<T>();
    for entry in catalogue.learners {
        let info = entry.info;
        if !checks.wants("learner", info.name) {
            continue;
        }
        if entry.acts {
            policy::<T, B>(checks, &entry)?;
            continue;
        }
        let mut tasks = vec![("classification", Task::Classification)];
        if info.regression {
            tasks.push(("regression", Task::Regression { outputs: 2 }));
        }
        if entry.sequences {
            tasks = vec![("sequences", SEQUENCES)];
        }
        for (kind, task) in tasks {
            let spec = small_spec(task);
            let episodes: Vec<Episode> = (0..2).map(|index| random_episode(&spec, index)).collect();
            let batch = TaskBatch::<B>::new(&episodes, &spec, &device);
            for (encoder, encoder_settings) in small_encoders(&catalogue.encoders) {
                let wanted: &[&str] = match entry.sequences {
                    true => &["identity"],
                    false => &["mlp", "conv4", "attention"],
                };
                if !wanted.contains(&encoder) {
                    continue;
                }
                let architecture = T::Encoders::new(encoder, &encoder_settings, spec.item)?;
                for settings in entry.gradient_of.settings() {
                    if !checks.takes_next() {
                        continue;
                    }
                    let norm = encoder_settings["norm"].as_str();
                    let norm = norm.map_or(String::new(), |norm| format!(" ({norm})"));
                    let case = format!("{encoder}{norm}, {kind}, {settings}");
                    let (name, built) = (info.name, architecture.clone());
                    let settings = match checks.purpose {
                        Purpose::Differences => settings.clone(),
                        Purpose::Values => few_steps(settings, &entry.default_settings),
                    };
                    let checked = T::Learners::new(name, &settings)?;
                    checked.check(&built, &spec)?;
                    let mut learner = checked.clone().build(New {
                        architecture: built,
                        spec: &spec,
                        seed: Seed(2),
                        device: &device,
                    });
                    if checks.purpose == Purpose::Values {
                        let parts = values(learner.as_mut(), &batch);
                        checks.outcome("learner", name, &case, parts);
                        continue;
                    }
                    let error = error(learner.as_mut(), &entry.gradient_of, &batch);
                    // Through inner gradients, the meta-gradient is of second order.
                    let steps = checked.steps().train;
                    let (first, second) = if info.family == Family::Gradient || steps > 0 {
                        (None, error)
                    } else {
                        (error, None)
                    };
                    checks.push(Row {
                        kind: "learner",
                        name: name.to_owned(),
                        case,
                        first,
                        second,
                        exception: match &entry.gradient_of {
                            GradientOf::Neither(reason, _) => Some((*reason).to_owned()),
                            _ => None,
                        },
                    });
                }
            }
        }
    }
    Ok(())
}

/// The gradients of a policy at trials that are given. Values are not compared between backends: where one bit
/// of a score decides an action, what follows is another trial.
fn policy<T: Toolkit, B: Primitives>(checks: &mut Checks<B>, entry: &LearnerEntry) -> Result<()> {
    if checks.purpose == Purpose::Values {
        return Ok(());
    }
    let bandits = find_source(&rl::sources(), "bernoulli_bandit")?;
    let bandits = (bandits.build)(&json!({"arms": 3, "pulls": 6}), None)?;
    // Trials of two episodes, two of each task.
    let spec = TaskSpec::of(bandits.as_ref(), EpisodeShape::new(1, 2, 2));
    let episode = |task| bandits.episode(Seed(7), Split::Train, spec.train, task);
    let episodes: Vec<Episode> = (0..3).map(episode).collect::<meta_core::Result<_>>()?;
    let device = checks.device.clone();
    let tasks = TaskBatch::<B>::new(&episodes, &spec, &device);
    let architecture = T::Encoders::new("mlp", &json!({"hidden": [8]}), spec.item)?;
    for settings in entry.gradient_of.settings() {
        if !checks.takes_next() {
            continue;
        }
        let checked = T::Learners::new(entry.info.name, settings)?;
        checked.check(&architecture, &spec)?;
        let mut learner = checked.build::<_, B>(New {
            architecture: architecture.clone(),
            spec: &spec,
            seed: Seed(1),
            device: &device,
        });
        let trials = learner.act(&tasks)?.expect("a policy acts");
        learner.gather(trials);
        let of = GradientOf::Training("at trials that are given", Vec::new());
        let error = error(learner.as_mut(), &of, &tasks);
        let (first, second) = match entry.default_settings["inner_lr"].is_number() {
            true => (None, error),
            false => (error, None),
        };
        checks.push(Row {
            kind: "learner",
            name: entry.info.name.to_owned(),
            case: format!("trials that are given, {settings}"),
            first,
            second,
            exception: None,
        });
    }
    Ok(())
}

/// The settings with as many steps at test as in training: adaptation over many steps can be chaotic,
/// and then rounding alone decides its end.
fn few_steps(settings: &Value, default: &Value) -> Value {
    let mut settings = settings.clone();
    if default["test_steps"].is_u64() && settings["test_steps"].is_null() {
        let steps = settings["inner_steps"].as_u64().unwrap_or(1);
        settings["test_steps"] = steps.max(1).into();
    }
    settings
}

/// Rate of the meta-iteration that backends are compared by.
const RATE: f64 = 0.01;

/// The predictions of a learner, its meta-gradient, and its predictions after one meta-iteration of
/// gradient descent: the whole way of a number through training.
fn values<B: Primitives>(
    learner: &mut dyn Learner<B>,
    tasks: &TaskBatch<B>,
) -> Vec<(String, Vec<f64>)> {
    move_off_start(learner, &tasks.query.inputs.device());
    let predictions = |learner: &dyn Learner<B>| {
        let answer = learner.predict(tasks, PredictAt::LastStep).remove(0);
        answer.into_data().iter::<f64>().collect()
    };
    let before = predictions(learner);
    let result = learner.meta_gradient(tasks);
    let gradient = result.gradients.to_data();
    let gradient = gradient.iter().flat_map(|(_, data)| data.iter::<f64>());
    let gradient: Vec<f64> = gradient.collect();
    let parameters = learner.parameters();
    let moved = parameters
        .clone()
        .trainable()
        .zip(&result.gradients, |theta, g| B::sgd_step(theta, g, RATE));
    learner.set_parameters(parameters.overwrite(moved).overwrite(result.buffers));
    let after = predictions(learner);
    [
        ("predictions", before),
        ("meta-gradient", gradient),
        ("after a meta-iteration", after),
    ]
    .map(|(part, values)| (part.to_owned(), values))
    .into()
}
