//! What every policy promises, as [`conformance`](crate::conformance) has it for learners that predict.
//!
//! A crate with policies of its own runs it on its toolkit with one line in a test file:
//!
//! ```ignore
//! meta_core::acting_suite!(Mine);
//! ```
//!
//! Each function runs for every policy of the toolkit, on bandits of three arms, and panics where one does not
//! hold.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use serde_json::json;

use crate::{
    backend::Cpu,
    data::{Episode, EpisodeShape, Source, Split, find_source},
    learner::{
        GradientOf, Learner, LearnerEntry, LearnerList, MetaGradient, New, PredictAt,
        acting::Memory,
    },
    nn::{Pass, encoder::EncoderSpec, init::Initializer},
    parallel::TaskChunks,
    params::Params,
    primitives::Primitives,
    rl,
    rng::Seed,
    stats::mean,
    task::{TaskBatch, TaskSpec},
    toolkit::Toolkit,
    train::{Observer, TrainSettings, TrainState, Trainer, checkpoint_file::Checkpoint},
};

type B = Cpu;

/// Declares a test for every promise, on the policies of a toolkit.
#[macro_export]
macro_rules! acting_suite {
    ($toolkit:ty) => {
        $crate::acting_suite! {
            $toolkit:
            same_seed_same_trials_other_seed_others,
            batched_tasks_are_looped_ones,
            acting_leaves_a_policy_as_it_was,
            a_resumed_training_ends_in_the_same_bytes,
            graphs_side_by_side_change_no_return,
            a_policy_learns_which_arm_pays,
            items_are_refused_by_policies_and_environments_by_others,
        }
    };
    ($toolkit:ty: $($promise:ident),+ $(,)?) => {
        $(
            #[test]
            fn $promise() {
                $crate::acting_conformance::$promise::<$toolkit>();
            }
        )+
    };
}

/// Bandits of three arms, pulled six times.
fn source() -> Arc<dyn Source> {
    let entry = find_source(&rl::sources(), "bernoulli_bandit").expect("listed");
    (entry.build)(&json!({"arms": 3, "pulls": 6}), None).expect("settings in their ranges")
}

/// Trials of two episodes, two of each task.
fn spec() -> TaskSpec {
    TaskSpec::of(source().as_ref(), EpisodeShape::new(1, 2, 2))
}

fn batch<P: Primitives>(tasks: &[u64], seed: u64, device: &P::Device) -> TaskBatch<P> {
    let (source, spec) = (source(), spec());
    let episode = |&task: &u64| source.episode(Seed(seed), Split::Train, spec.train, task);
    let episodes: Result<Vec<Episode>, _> = tasks.iter().map(episode).collect();
    TaskBatch::new(&episodes.expect("drawn"), &spec, device)
}

fn for_every_policy<T: Toolkit>(test: impl Fn(&LearnerEntry)) {
    let entries = T::Learners::entries().into_iter();
    for entry in entries.filter(|entry| entry.acts) {
        println!("{}", entry.info.name);
        test(&entry);
    }
}

/// The policy with settings that suit the bandits, on any backend.
///
/// # Panics
/// Where its settings are refused.
pub fn build<T: Toolkit, P: Primitives>(
    entry: &LearnerEntry,
    seed: u64,
    device: &P::Device,
) -> Box<dyn Learner<P>> {
    let spec = spec();
    let architecture =
        EncoderSpec::new("mlp", &json!({"hidden": [8]}), spec.item).expect("an encoder");
    let learner = T::Learners::new(entry.info.name, &entry.toy.settings).expect("settings");
    learner
        .check(&architecture, &spec)
        .expect("tasks that suit");
    learner.build(New {
        architecture,
        spec: &spec,
        seed: Seed(seed),
        device,
    })
}

fn of_seed<T: Toolkit>(entry: &LearnerEntry, seed: u64) -> Box<dyn Learner<B>> {
    build::<T, B>(entry, seed, &Default::default())
}

fn returns(learner: &dyn Learner<B>, tasks: &TaskBatch<B>) -> Vec<f32> {
    let answer = learner.predict(tasks, PredictAt::LastStep).pop();
    answer
        .expect("an answer")
        .into_data()
        .to_vec()
        .expect("f32")
}

fn bytes(parameters: &Params<B>) -> Vec<Vec<u8>> {
    let data = parameters.to_data().into_iter();
    data.map(|(_, data)| data.as_bytes().to_vec()).collect()
}

fn trainer(iterations: u64, lr: f64) -> Trainer<B> {
    let settings = TrainSettings {
        iterations,
        meta_batch: 16,
        lr,
        log_every: 0,
        validate_every: 0,
        task_chunk: 8,
        ..TrainSettings::default()
    };
    Trainer::new(source(), spec(), settings, Seed(5), Default::default()).expect("settings")
}

/// # Panics
/// Where a policy does not hold it.
pub fn same_seed_same_trials_other_seed_others<T: Toolkit>() {
    for_every_policy::<T>(|entry| {
        let tasks = batch::<B>(&[0, 1, 2, 3], 7, &Default::default());
        let other = batch::<B>(&[0, 1, 2, 3], 8, &Default::default());
        let trials = |seed, tasks: &TaskBatch<B>| {
            let learner = of_seed::<T>(entry, seed);
            learner.act(tasks).expect("environments").expect("a policy")
        };
        assert_eq!(trials(1, &tasks), trials(1, &tasks));
        if !trials(1, &tasks).is_empty() {
            assert_ne!(trials(1, &tasks), trials(1, &other));
        }
        let scores = |tasks| returns(of_seed::<T>(entry, 1).as_ref(), tasks);
        assert_eq!(scores(&tasks), scores(&tasks));
        assert_ne!(scores(&tasks), scores(&other));
    });
}

/// Trials, returns and gradients of tasks are those of each alone, in any order.
///
/// # Panics
/// Where a policy does not hold it.
pub fn batched_tasks_are_looped_ones<T: Toolkit>() {
    for_every_policy::<T>(|entry| {
        let device = Default::default();
        let mut learner = of_seed::<T>(entry, 1);
        let all = batch::<B>(&[2, 0, 1], 7, &device);
        let together = returns(learner.as_ref(), &all);
        let mut trials = learner.act(&all).expect("environments").expect("a policy");
        let mut looped = (Vec::new(), Vec::new());
        for task in [2, 0, 1] {
            let alone = batch::<B>(&[task], 7, &device);
            looped.0.extend(returns(learner.as_ref(), &alone));
            looped.1.extend(
                learner
                    .act(&alone)
                    .expect("environments")
                    .expect("a policy"),
            );
        }
        assert_eq!(together, looped.0);
        if trials.is_empty() {
            return;
        }
        for all in [&mut trials, &mut looped.1] {
            all.sort_by_key(|trial| (trial.task, trial.stage));
        }
        for (one, other) in trials.iter().zip(&looped.1) {
            assert_eq!((one.task, &one.actions), (other.task, &other.actions));
        }
        trials.reverse();
        learner.gather(trials);
        let gradient = |tasks: &[u64]| learner.meta_gradient(&batch(tasks, 7, &device));
        let batched = gradient(&[0, 1, 2]);
        let looped = [0, 1, 2].map(|task| gradient(&[task]));
        let looped = looped
            .into_iter()
            .reduce(MetaGradient::merge)
            .expect("three");
        let difference = |one: &Params<B>, other: &Params<B>| {
            let gap = one.clone().plus(&other.clone().scale(-1.0)).squared_norm();
            let whole = other.squared_norm();
            (gap / whole.add_scalar(1e-12)).into_scalar()
        };
        // Sums in another order, in f32.
        assert!(difference(&batched.gradients, &looped.gradients) < 1e-8);
    });
}

/// # Panics
/// Where a policy does not hold it.
pub fn acting_leaves_a_policy_as_it_was<T: Toolkit>() {
    for_every_policy::<T>(|entry| {
        let tasks = batch::<B>(&[0, 1], 7, &Default::default());
        let mut learner = of_seed::<T>(entry, 1);
        let before = bytes(&learner.parameters());
        let first = returns(learner.as_ref(), &tasks);
        let trials = learner
            .act(&tasks)
            .expect("environments")
            .expect("a policy");
        learner.gather(trials);
        learner.meta_gradient(&tasks);
        assert_eq!(before, bytes(&learner.parameters()));
        assert_eq!(first, returns(learner.as_ref(), &tasks));
    });
}

/// Keeps the state after each iteration, as a checkpoint.
#[derive(Default)]
struct Keep(Vec<Checkpoint>, TrainSettings);

impl Observer<B> for Keep {
    fn checkpoint(&mut self, parameters: &Params<B>, state: &TrainState<B>) -> crate::Result<()> {
        self.0
            .push(state.to_checkpoint(parameters, &self.1, json!(null)));
        Ok(())
    }
}

/// # Panics
/// Where a policy does not hold it.
pub fn a_resumed_training_ends_in_the_same_bytes<T: Toolkit>() {
    for_every_policy::<T>(|entry| {
        if of_seed::<T>(entry, 1).parameters().is_empty() {
            return;
        }
        let mut trainer = trainer(4, 1e-2);
        trainer.settings.checkpoint_every = 2;
        let mut whole = of_seed::<T>(entry, 1);
        let mut keep = Keep(Vec::new(), trainer.settings.clone());
        trainer
            .run(whole.as_mut(), TrainState::new(), &mut keep)
            .expect("trained");
        let mut resumed = of_seed::<T>(entry, 2);
        let (parameters, state, _) = TrainState::from_checkpoint(
            "checkpoint".as_ref(),
            keep.0.remove(0),
            &resumed.parameters(),
            &trainer.settings,
            &trainer.device,
        )
        .expect("its own checkpoint");
        assert_eq!(state.iteration, 2);
        resumed.set_parameters(parameters);
        trainer
            .run(resumed.as_mut(), state, &mut ())
            .expect("trained");
        assert_eq!(bytes(&whole.parameters()), bytes(&resumed.parameters()));
    });
}

/// # Panics
/// Where a policy does not hold it.
pub fn graphs_side_by_side_change_no_return<T: Toolkit>() {
    for_every_policy::<T>(|entry| {
        let learner = of_seed::<T>(entry, 1);
        let evaluate = |concurrent| {
            let set = crate::train::eval::FrozenEpisodes {
                source: source(),
                split: Split::Test,
                seed: Seed(3),
                shape: spec().test,
                count: 7,
            };
            let graphs = TaskChunks {
                tasks: 2,
                concurrent,
            };
            crate::train::eval::evaluate(
                learner.as_ref(),
                &spec(),
                &set,
                PredictAt::LastStep,
                graphs,
                &Default::default(),
                |_| {},
            )
            .expect("returns")
            .scores
        };
        assert_eq!(evaluate(1), evaluate(2));
    });
}

/// After training, the return of new tasks is higher than before it, and by a twentieth higher than that of a
/// fresh policy that has not adapted, which acts at random: some four standard errors.
///
/// # Panics
/// Where a policy does not hold it.
pub fn a_policy_learns_which_arm_pays<T: Toolkit>() {
    for_every_policy::<T>(|entry| {
        let mut learner = of_seed::<T>(entry, 1);
        if learner.parameters().is_empty() {
            return;
        }
        let tasks: Vec<u64> = (10_000..10_400).collect();
        let tasks = batch::<B>(&tasks, 9, &Default::default());
        // By number of steps, for those that take steps.
        let scores = |learner: &dyn Learner<B>| -> Vec<f64> {
            let answers = learner.predict(&tasks, PredictAt::EveryStep);
            let all = answers.into_iter().map(|answer| {
                let returns: Vec<f64> = answer.into_data().iter::<f64>().collect();
                mean(&returns)
            });
            all.collect()
        };
        let before = scores(learner.as_ref());
        trainer(entry.toy.iterations, 3e-3)
            .run(learner.as_mut(), TrainState::new(), &mut ())
            .expect("trained");
        let after = scores(learner.as_ref());
        println!("{before:?} to {after:?}");
        let (random, fresh) = (before[0], before[before.len() - 1]);
        let learned = after[after.len() - 1];
        assert!(learned > 1.05 * random && learned > fresh);
    });
}

/// # Panics
/// Where a learner does not hold it.
pub fn items_are_refused_by_policies_and_environments_by_others<T: Toolkit>() {
    let acting = spec();
    let items = crate::gradcheck::toy::vectors(8, EpisodeShape::new(3, 2, 4));
    for entry in T::Learners::entries() {
        let spec = if entry.acts { items } else { acting };
        let architecture =
            EncoderSpec::new("mlp", &json!({"hidden": [8]}), spec.item).expect("an encoder");
        let learner = T::Learners::new(entry.info.name, &json!({})).expect("defaults");
        let refusal = learner
            .check(&architecture, &spec)
            .expect_err("of another kind");
        assert!(refusal.to_string().contains("learner.name"), "{refusal}");
    }
}

/// The error of the gradient of a policy at trials that are given, against central differences, for each of
/// its settings; to be called where the backend computes in f64.
///
/// # Panics
/// Where a setting is refused.
pub fn gradient_errors<T: Toolkit, P: Primitives>(
    entry: &LearnerEntry,
    device: &P::Device,
) -> Vec<f64> {
    let tasks = batch::<P>(&[0, 1, 2], 7, device);
    let settings = entry.gradient_of.settings().iter();
    let errors = settings.filter_map(|settings| {
        let entry = LearnerEntry {
            toy: crate::learner::Toy {
                settings: settings.clone(),
                ..entry.toy.clone()
            },
            ..entry.clone()
        };
        let mut learner = build::<T, P>(&entry, 1, device);
        let trials = learner
            .act(&tasks)
            .expect("environments")
            .expect("a policy");
        learner.gather(trials);
        let of = GradientOf::Training("at trials that are given", Vec::new());
        crate::gradcheck::learner::error(learner.as_mut(), &of, &tasks)
    });
    errors.collect()
}

/// Checks that a memory says the same step by step as over whole trials, also where a trial waits for others.
///
/// # Panics
/// Where it does not.
pub fn steps_say_what_trials_say<M: Memory>(memory: &M) {
    const INPUTS: usize = 3;
    const LENGTH: usize = 5;
    let device = Default::default();
    let model = memory.init::<B>(INPUTS, LENGTH, &mut Initializer::seeded(Seed(4)), &device);
    let mut stream = Seed(4).stream("memory", 0, "test");
    // Two tasks of two trials; the second trial waits in the third of six moments, the others in the last.
    let waits = |trial: usize, moment: usize| moment == if trial == 1 { 2 } else { LENGTH };
    let trials: Vec<Vec<f32>> = (0..4)
        .map(|_| {
            (0..LENGTH * INPUTS)
                .map(|_| stream.normal() as f32)
                .collect()
        })
        .collect();
    let whole = Tensor::<B, 3>::from_data(
        TensorData::new(trials.concat(), [2, 2 * LENGTH, INPUTS]),
        &device,
    );
    let whole = memory.read(&model, whole, LENGTH, &Pass::evaluation());
    let width = whole.dims()[2];
    assert_eq!(width, memory.width(INPUTS, LENGTH));
    let whole: Vec<f32> = whole.into_data().to_vec().expect("f32");
    let mut state = memory.begin::<B>(&model, [2, 2], &device);
    let mut done = [0; 4];
    for moment in 0..=LENGTH {
        let mut inputs = Vec::new();
        for (trial, own) in trials.iter().enumerate() {
            let step = done[trial].min(LENGTH - 1);
            inputs.extend_from_slice(&own[step * INPUTS..][..INPUTS]);
        }
        let going: Vec<f32> = (0..4)
            .map(|trial| f32::from(u8::from(!waits(trial, moment))))
            .collect();
        let tensor = |values: Vec<f32>, width| {
            Tensor::<B, 3>::from_data(TensorData::new(values, [2, 2, width]), &device)
        };
        let going = going.contains(&0.0).then(|| tensor(going, 1));
        let said = memory.step(&model, tensor(inputs, INPUTS), going, &mut state);
        let said: Vec<f32> = said.into_data().to_vec().expect("f32");
        for trial in (0..4).filter(|&trial| !waits(trial, moment)) {
            let expected = &whole[(trial * LENGTH + done[trial]) * width..][..width];
            for (found, expected) in said[trial * width..][..width].iter().zip(expected) {
                // Sums in another order.
                assert!(
                    (found - expected).abs() < 1e-4,
                    "{moment}: {found}, {expected}"
                );
            }
            done[trial] += 1;
        }
    }
    assert_eq!(done, [LENGTH; 4]);
}
