//! Families of environments as sources of tasks to act in.
//!
//! An episode of such a source is a task: `data.shot` is the number of its episodes in a trial, `data.query`
//! the number of trials that are scored. Nothing of it is given; [`World`] says where to act.

use std::sync::Arc;

use serde_json::{Value, json};

use super::environment::{Family, FamilySettings, Lanes};
use super::space::Space;
use crate::data::{
    Actions, Episode, EpisodeShape, ItemShape, Items, Source, SourceEntry, Split, Targets, Task,
    World,
};
use crate::error::{Error, Result};
use crate::rng::Seed;
use crate::settings::LARGEST_SIZE;

/// Where the tasks of a batch are acted in.
#[derive(Clone)]
pub struct ActingWorld {
    /// The family of the environments.
    pub family: Arc<dyn Family>,
    /// Seed of the tasks.
    pub seed: Seed,
    /// Split of the tasks.
    pub split: Split,
}

impl ActingWorld {
    /// That of a source of environments.
    ///
    /// # Panics
    /// Where there is none: a policy is refused the tasks of other sources.
    pub fn of(world: Option<&World>) -> &Self {
        let inside = world.and_then(|world| world.0.downcast_ref());
        inside.expect("tasks to act in")
    }

    /// Lanes of `trials` trials side by side of each task.
    pub fn lanes<'a>(&self, tasks: &'a [u64], trials: usize) -> Lanes<'a> {
        Lanes {
            seed: self.seed,
            split: self.split,
            tasks,
            first_episode: 0,
            episodes: trials,
        }
    }
}

/// Numbers that a policy reads in each step: observation, last action, the observation before where the family
/// tells it, last reward, and whether an episode begins.
pub fn input_width(family: &dyn Family) -> usize {
    let seen = family.observations().encoded_width();
    let before = if family.tells_last_observation() {
        seen
    } else {
        0
    };
    seen + family.actions().encoded_width() + before + 2
}

/// A family of environments as a source.
struct ActingSource {
    name: &'static str,
    family: Arc<dyn Family>,
}

/// The entry of the source of a family with settings `S`.
pub fn entry<S: FamilySettings>() -> SourceEntry {
    SourceEntry {
        name: S::NAME,
        summary: S::SUMMARY,
        tables: false,
        fields: S::fields,
        default_settings: S::defaults,
        build: |settings, _| {
            let family = S::from_value("data", settings)?.open();
            Ok(Arc::new(ActingSource {
                name: S::NAME,
                family: family.map_err(of_data)?,
            }))
        },
    }
}

/// The same error, where the settings stand in the section `data`.
fn of_data(error: Error) -> Error {
    match error {
        Error::Setting {
            key,
            value,
            expected,
        } => Error::Setting {
            key: key.replace("environment.", "data."),
            value,
            expected: expected.replace("environment.", "data."),
        },
        other => other,
    }
}

impl Source for ActingSource {
    fn name(&self) -> &'static str {
        self.name
    }

    fn task(&self) -> Task {
        Task::Acting {
            actions: match self.family.actions() {
                Space::Discrete(count) => Actions::Discrete(count),
                Space::Continuous(bounds) => Actions::Continuous(bounds.len()),
            },
            horizon: self.family.horizon(),
        }
    }

    fn item_shape(&self) -> ItemShape {
        ItemShape {
            height: 1,
            width: 1,
            channels: input_width(self.family.as_ref()),
        }
    }

    fn check(&self, split: Split, shape: EpisodeShape) -> Result<()> {
        let (way, shot, query) = (shape.way.0, shape.shot.0, shape.query.0);
        if way != 1 {
            let expected = "tasks to act in have no classes: must be 1";
            return Err(Error::setting("data.way", way, expected));
        }
        let steps = shot.checked_mul(self.family.horizon());
        if !steps.is_some_and(|steps| (1..=LARGEST_SIZE).contains(&steps)) {
            let expected = format!(
                "episodes of a trial: must be at least 1, and have at most {LARGEST_SIZE} steps in all; an \
                 episode has up to {}",
                self.family.horizon()
            );
            return Err(Error::setting("data.shot", shot, expected));
        }
        // The lanes of one task.
        let world = ActingWorld {
            family: self.family.clone(),
            seed: Seed(0),
            split,
        };
        let made = self.family.environments(world.lanes(&[0], query));
        made.map(|_| ()).map_err(|_| {
            let expected = format!("trials of a task: must be from 1 to {LARGEST_SIZE}");
            Error::setting("data.query", query, expected)
        })
    }

    fn episode(
        &self,
        seed: Seed,
        split: Split,
        shape: EpisodeShape,
        index: u64,
    ) -> Result<Episode> {
        let features = self.item_shape().features();
        let items = |count: usize, first: u64| {
            let targets = Targets::Values(vec![0.0; count]);
            let ids = (first..first + count as u64).collect();
            Items::new(vec![0.0; count * features], targets, ids)
        };
        let (shot, query) = (shape.shot.0, shape.query.0);
        let (support, query) = (items(shot, 0), items(query, shot as u64));
        let world = ActingWorld {
            family: self.family.clone(),
            seed,
            split,
        };
        Ok(Episode {
            world: Some(World(Arc::new(world))),
            ..Episode::new(index, shape, support, query, Vec::new())
        })
    }

    fn content_hash(&self) -> String {
        self.family.content_hash()
    }

    fn describe(&self) -> Value {
        let mut description = self.family.describe();
        description["source"] = json!(self.name);
        description["task"] = json!(self.task());
        description["item_shape"] = json!(self.item_shape());
        description
    }
}
