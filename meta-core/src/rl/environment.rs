//! The contract of a family of environments, and how a batch of them goes on.

use std::sync::Arc;

use serde_json::{Value, json};

use super::policy::{MakePolicy, Policy};
use super::space::Space;
use crate::data::{Split, settings_hash};
use crate::error::{Error, Result};
use crate::parallel;
use crate::rng::{Seed, Stream};
use crate::settings::{Field, LARGEST_SIZE, Settings};

/// Numbers that the tasks of a batch may take in all (2 GiB).
const MOST_NUMBERS: usize = 1 << 28;
/// Tasks for which another thread pays.
pub(super) const LEAST_TASKS: usize = 16;

/// A family of environments: how its tasks are drawn and how one goes on. Implement it to add a family;
/// [`Family`] is what it gives, and needs no more code.
///
/// An episode is a pure function of (settings, seed, split, task, number of the episode, actions). So draw
/// the same count of random numbers in every step, whatever the action: then two policies meet the same
/// chance.
pub trait Environment: Clone + Send + Sync + 'static {
    /// What differs from task to task.
    type Task: Send + Sync;
    /// What changes in an episode.
    type State: Copy + Send;

    /// The family's name in manifests.
    const NAME: &'static str;
    /// Names the program that turns settings into tasks, for hashes: change it with the program.
    const VERSION: &'static str;

    /// Every setting with its value.
    fn settings(&self) -> Vec<(&'static str, Value)>;
    /// What an observation is.
    fn observations(&self) -> Space;
    /// What an action is.
    fn actions(&self) -> Space;
    /// Steps after which an episode ends at the latest, at least 1.
    fn horizon(&self) -> usize;
    /// Whether learned policies read the observation before beside the last action and what it gave.
    fn tells_last_observation(&self) -> bool {
        false
    }
    /// Numbers that a task takes, to bound the memory of a batch.
    fn task_numbers(&self) -> usize;

    /// Draws a task of a split.
    fn draw(&self, split: Split, stream: &mut Stream) -> Self::Task;
    /// The state in which an episode starts.
    fn start(&self, task: &Self::Task, noise: &mut Stream) -> Self::State;
    /// Goes one step on: the reward, and whether the episode ends before its horizon. `action` has
    /// the width of its space; numbers outside of it count as the nearest inside ([`Space::clip`]).
    fn step(
        &self,
        task: &Self::Task,
        state: &mut Self::State,
        action: &[f32],
        noise: &mut Stream,
    ) -> (f64, bool);
    /// Writes the observation of a state.
    fn observe(&self, task: &Self::Task, state: &Self::State, observation: &mut [f32]);

    /// What is special about a task, for pictures and records: a goal, a mass, means of arms.
    fn describe(&self, task: &Self::Task) -> Vec<f64>;
    /// The largest expected return of an episode, by a policy that knows the task, where it is known.
    fn best_return(&self, _task: &Self::Task) -> Option<f64> {
        None
    }
    /// A policy that knows the task, where there is one.
    fn oracle(&self, _task: &Self::Task) -> Option<Box<dyn Policy>> {
        None
    }
    /// The reference policies that do not know the task, by name.
    fn policies(&self) -> &'static [&'static str] {
        &["random"]
    }
    /// What makes one of them with its settings (an object; null for the defaults): one for each lane.
    ///
    /// # Errors
    /// [`Error::Unknown`] for another name or key, [`Error::Setting`] for a value that cannot be used.
    fn policy(&self, name: &str, settings: &Value) -> Result<MakePolicy>;
}

/// Which episodes go on at once: a lane for each pair of a task and an episode, ordered by task.
///
/// Lane j of a task starts with episode `first_episode + j`; each further reset adds `episodes`.
#[derive(Clone, Copy, Debug)]
pub struct Lanes<'a> {
    /// The seed.
    pub seed: Seed,
    /// The split.
    pub split: Split,
    /// Numbers of the tasks in their split.
    pub tasks: &'a [u64],
    /// Number of the first episode of each task.
    pub first_episode: u64,
    /// Episodes of each task at once.
    pub episodes: usize,
}

impl<'a> Lanes<'a> {
    /// One lane for each task, from its first episode on.
    pub fn trials(seed: Seed, split: Split, tasks: &'a [u64]) -> Self {
        Lanes {
            seed,
            split,
            tasks,
            first_episode: 0,
            episodes: 1,
        }
    }

    /// Tasks × episodes.
    ///
    /// # Errors
    /// [`Error::Setting`] for none, or for more than [`LARGEST_SIZE`].
    pub fn count(&self) -> Result<usize> {
        let count = self.tasks.len().checked_mul(self.episodes);
        count
            .filter(|&count| (1..=LARGEST_SIZE).contains(&count))
            .ok_or_else(|| {
                let given = format!("{} × {}", self.tasks.len(), self.episodes);
                let expected = format!("must be at least 1, and at most {LARGEST_SIZE}");
                Error::setting("tasks × episodes", given, expected)
            })
    }
}

/// What a step or a reset gives, for every lane.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    /// `[lanes, width]`.
    pub observations: Vec<f32>,
    /// `[lanes]`; 0 after a reset, and in a lane that had ended before.
    pub rewards: Vec<f32>,
    /// `[lanes]`: whether the episode has ended.
    pub done: Vec<bool>,
}

/// Environments of one family that go on side by side.
pub trait Environments: Send {
    /// Number of lanes.
    fn lanes(&self) -> usize;

    /// Memory for what a step gives.
    fn buffers(&self) -> Steps;

    /// Starts the next episode of every lane.
    fn reset(&mut self, to: &mut Steps);

    /// Takes a step with `actions`, `[lanes, width]`. A lane whose episode has ended stays as it is until the
    /// next reset. Allocates nothing.
    ///
    /// # Panics
    /// Where buffers are not of this batch: the message names both sizes.
    fn step(&mut self, actions: &[f32], to: &mut Steps);
}

/// A family of environments, whichever: tasks, spaces, and what is known about the best policy.
pub trait Family: Send + Sync {
    /// Its name in manifests.
    fn name(&self) -> &'static str;
    /// What an observation is.
    fn observations(&self) -> Space;
    /// What an action is.
    fn actions(&self) -> Space;
    /// Steps after which an episode ends at the latest.
    fn horizon(&self) -> usize;
    /// Whether learned policies read the observation before beside the last action and what it gave.
    fn tells_last_observation(&self) -> bool;
    /// Numbers that a task takes.
    fn task_numbers(&self) -> usize;

    /// Whether there can be so many environments side by side.
    ///
    /// # Errors
    /// [`Error::Setting`] for no lanes, or for more than memory should hold.
    fn check_lanes(&self, lanes: Lanes<'_>) -> Result<()>;

    /// Environments side by side, to be reset first.
    ///
    /// # Errors
    /// Those of [`Family::check_lanes`].
    fn environments(&self, lanes: Lanes<'_>) -> Result<Box<dyn Environments>>;

    /// What is special about a task: a goal, a mass, means of arms.
    fn describe_task(&self, seed: Seed, split: Split, task: u64) -> Vec<f64>;
    /// The largest expected return of an episode of a task, by a policy that knows it, where it is known.
    fn best_return(&self, seed: Seed, split: Split, task: u64) -> Option<f64>;
    /// A policy that knows the task, where there is one.
    fn oracle(&self, seed: Seed, split: Split, task: u64) -> Option<Box<dyn Policy>>;

    /// The reference policies that do not know the task, by name.
    fn policies(&self) -> &'static [&'static str];
    /// What makes one of them with its settings (an object; null for the defaults): one for each lane.
    ///
    /// # Errors
    /// [`Error::Unknown`] for another name or key, [`Error::Setting`] for a value that cannot be used.
    fn policy(&self, name: &str, settings: &Value) -> Result<MakePolicy>;

    /// Hexadecimal hash of everything that tasks depend on besides seed, split and number.
    fn content_hash(&self) -> String;

    /// What there is to know about the family.
    fn describe(&self) -> Value {
        json!({
            "family": self.name(),
            "observations": self.observations(),
            "actions": self.actions(),
            "horizon": self.horizon(),
            "content_hash": self.content_hash(),
        })
    }
}

/// The identity of a frozen set of tasks: the first `count` of (family, seed, split). Two results can be
/// compared in pairs when their hashes are equal.
pub fn task_set_hash(family: &dyn Family, seed: Seed, split: Split, count: u64) -> String {
    let text = format!("{} {seed} {split} {count}", family.content_hash());
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"task-set 1\n");
    hasher.update(text.as_bytes());
    hasher.finalize().to_hex().to_string()
}

impl<E: Environment> Family for E {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn observations(&self) -> Space {
        Environment::observations(self)
    }

    fn actions(&self) -> Space {
        Environment::actions(self)
    }

    fn horizon(&self) -> usize {
        Environment::horizon(self)
    }

    fn tells_last_observation(&self) -> bool {
        Environment::tells_last_observation(self)
    }

    fn task_numbers(&self) -> usize {
        Environment::task_numbers(self)
    }

    fn check_lanes(&self, lanes: Lanes<'_>) -> Result<()> {
        let numbers = lanes
            .tasks
            .len()
            .checked_mul(Environment::task_numbers(self));
        lanes.count()?;
        if numbers.is_none_or(|numbers| numbers > MOST_NUMBERS) {
            let expected = format!(
                "too many for memory: a task of `{}` takes {} numbers, a batch at most {MOST_NUMBERS}",
                E::NAME,
                Environment::task_numbers(self)
            );
            return Err(Error::setting("tasks", lanes.tasks.len(), expected));
        }
        Ok(())
    }

    fn environments(&self, lanes: Lanes<'_>) -> Result<Box<dyn Environments>> {
        self.check_lanes(lanes)?;
        Ok(Box::new(Batch::new(self.clone(), lanes)))
    }

    fn describe_task(&self, seed: Seed, split: Split, task: u64) -> Vec<f64> {
        Environment::describe(self, &draw(self, seed, split, task))
    }

    fn best_return(&self, seed: Seed, split: Split, task: u64) -> Option<f64> {
        Environment::best_return(self, &draw(self, seed, split, task))
    }

    fn oracle(&self, seed: Seed, split: Split, task: u64) -> Option<Box<dyn Policy>> {
        Environment::oracle(self, &draw(self, seed, split, task))
    }

    fn policies(&self) -> &'static [&'static str] {
        Environment::policies(self)
    }

    fn policy(&self, name: &str, settings: &Value) -> Result<MakePolicy> {
        Environment::policy(self, name, settings)
    }

    fn content_hash(&self) -> String {
        settings_hash(E::VERSION, &self.settings())
    }
}

/// The task of that number.
fn draw<E: Environment>(environment: &E, seed: Seed, split: Split, task: u64) -> E::Task {
    environment.draw(split, &mut seed.stream(split.scope(), task, "task"))
}

/// One lane: an episode that goes on.
struct Lane<S> {
    /// Position of its task in the batch.
    task: usize,
    /// From where the noise of its episodes comes.
    root: Seed,
    /// The episode that the next reset starts.
    next_episode: u64,
    /// `None` before the first reset.
    running: Option<(S, Stream)>,
}

/// Lanes of one family.
struct Batch<E: Environment> {
    environment: E,
    tasks: Vec<E::Task>,
    lanes: Vec<Lane<E::State>>,
    /// Episodes of each task at once.
    episodes: u64,
    /// Steps since the reset.
    time: usize,
    observation_width: usize,
    action_width: usize,
}

impl<E: Environment> Batch<E> {
    fn new(environment: E, lanes: Lanes<'_>) -> Self {
        let Lanes { seed, split, .. } = lanes;
        let of_task = |(place, &number): (usize, &u64)| {
            let root = Seed(seed.stream(split.scope(), number, "noise").next_u64());
            (0..lanes.episodes as u64).map(move |episode| Lane {
                task: place,
                root,
                next_episode: lanes.first_episode.wrapping_add(episode),
                running: None,
            })
        };
        let tasks = lanes.tasks;
        let threads = match tasks.len() {
            LEAST_TASKS.. => rayon::current_num_threads(),
            _ => 1,
        };
        Batch {
            tasks: parallel::each(tasks, threads, |&task| {
                draw(&environment, seed, split, task)
            }),
            lanes: tasks.iter().enumerate().flat_map(of_task).collect(),
            episodes: lanes.episodes as u64,
            time: 0,
            observation_width: Environment::observations(&environment).width(),
            action_width: Environment::actions(&environment).width(),
            environment,
        }
    }

    /// Checks that buffers are of this batch.
    fn check(&self, to: &Steps) {
        let sizes = (to.observations.len(), to.rewards.len(), to.done.len());
        let count = self.lanes.len();
        let own = (count * self.observation_width, count, count);
        assert_eq!(sizes, own, "buffers of another batch");
    }
}

impl<E: Environment> Environments for Batch<E> {
    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn buffers(&self) -> Steps {
        let count = self.lanes.len();
        Steps {
            observations: vec![0.0; count * self.observation_width],
            rewards: vec![0.0; count],
            done: vec![true; count],
        }
    }

    fn reset(&mut self, to: &mut Steps) {
        self.check(to);
        self.time = 0;
        to.rewards.fill(0.0);
        to.done.fill(false);
        let observations = to.observations.chunks_exact_mut(self.observation_width);
        for (lane, observation) in self.lanes.iter_mut().zip(observations) {
            let mut noise = lane.root.stream("episode", lane.next_episode, "noise");
            lane.next_episode = lane.next_episode.wrapping_add(self.episodes);
            let task = &self.tasks[lane.task];
            let state = self.environment.start(task, &mut noise);
            self.environment.observe(task, &state, observation);
            lane.running = Some((state, noise));
        }
    }

    fn step(&mut self, actions: &[f32], to: &mut Steps) {
        self.check(to);
        let width = self.action_width;
        let sizes = (actions.len(), self.lanes.len() * width);
        assert_eq!(sizes.0, sizes.1, "actions of another batch");
        self.time += 1;
        let last = self.time >= Environment::horizon(&self.environment);
        let observations = to.observations.chunks_exact_mut(self.observation_width);
        let results = to.rewards.iter_mut().zip(&mut to.done);
        let lanes = self.lanes.iter_mut().zip(actions.chunks_exact(width));
        for (((lane, action), observation), (reward, done)) in lanes.zip(observations).zip(results)
        {
            *reward = 0.0;
            let Some((state, noise)) = lane.running.as_mut().filter(|_| !*done) else {
                *done = true;
                continue;
            };
            let task = &self.tasks[lane.task];
            let (gain, end) = self.environment.step(task, state, action, noise);
            self.environment.observe(task, state, observation);
            *reward = gain as f32;
            *done = end || last;
        }
    }
}

/// Settings of a family: how it is described and built.
pub trait FamilySettings: Settings {
    /// Its name in manifests.
    const NAME: &'static str;
    /// What it is, in one line.
    const SUMMARY: &'static str;

    /// Makes the family.
    ///
    /// # Errors
    /// [`Error::Setting`] naming a key under `environment`.
    fn open(&self) -> Result<Arc<dyn Family>>;
}

/// A family that can be named in a manifest.
#[derive(Clone, Copy, Debug)]
pub struct FamilyEntry {
    /// Its name.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Its settings with their documentation.
    pub fields: fn() -> Vec<Field>,
    /// Every setting with its default.
    pub default_settings: fn() -> Value,
    /// Builds it from its settings (an object; null for the defaults), the section `environment`.
    pub build: fn(&Value) -> Result<Arc<dyn Family>>,
}

impl FamilyEntry {
    /// The entry of the family with settings `S`.
    pub fn of<S: FamilySettings>() -> Self {
        FamilyEntry {
            name: S::NAME,
            summary: S::SUMMARY,
            fields: S::fields,
            default_settings: S::defaults,
            build: |settings| S::from_value("environment", settings)?.open(),
        }
    }
}
