//! Dark room: a goal that cannot be seen, in a square of tiles (Laskin et al. 2022, "In-context
//! Reinforcement Learning with Algorithm Distillation", section 4).
//!
//! The agent sees its own place only, starts in the middle, and moves by a tile: up, down, left, right, or
//! not at all. The reward is 1 in each step that ends on the goal. The goal is the task. At a distance of d
//! steps from the start, the best return is the horizon minus max(d − 1, 0), and 0 where that is out of
//! reach.
//!
//! # Differences from the paper
//! The paper does not say which goals are kept for the test: here tiles are dealt to the splits at random, once
//! for each size, so that no split shares a goal with another. An observation is the place in \[−1, 1\]².

use std::sync::Arc;

use serde_json::Value;

use super::environment::{Environment, Family, FamilySettings};
use super::policy::{MakePolicy, Policy, random_policy};
use super::space::{Space, index};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::rng::{Seed, Stream};
use crate::settings;
use crate::settings::Settings;

settings! {
    /// Settings of [`DarkRoom`].
    pub struct DarkRoomSettings {
        /// Tiles along a side.
        size: usize = 9, between(2, 1000);
        /// Steps of an episode.
        horizon: usize = 20, size(1);
        /// Share of the tiles that are goals of validation tasks.
        validation_share: f64 = 0.1, inside_unit();
        /// Share of the tiles that are goals of test tasks.
        test_share: f64 = 0.2, inside_unit();
    }
}

impl FamilySettings for DarkRoomSettings {
    const NAME: &'static str = "dark_room";
    const SUMMARY: &'static str = "a goal in a room that cannot be seen (Laskin et al. 2022)";

    fn open(&self) -> Result<Arc<dyn Family>> {
        self.check_ranges("environment")?;
        let tiles = self.size * self.size;
        let count = |share: f64| ((tiles as f64 * share).round() as usize).max(1);
        let (validation, test) = (count(self.validation_share), count(self.test_share));
        if validation + test >= tiles {
            let expected = format!(
                "leaves no goal to train on: {validation} tiles are for validation and {test} for \
                 the test, of {tiles}"
            );
            return Err(Error::setting(
                "environment.test_share",
                self.test_share,
                expected,
            ));
        }
        let mut goals: Vec<u32> = (0..tiles as u32).collect();
        Seed(0)
            .stream("dark_room", self.size as u64, "goals")
            .shuffle(&mut goals);
        Ok(Arc::new(DarkRoom {
            settings: self.clone(),
            goals: goals.into(),
            held_out: (validation, test),
        }))
    }
}

/// A goal in a room that cannot be seen.
#[derive(Clone, Debug)]
pub struct DarkRoom {
    settings: DarkRoomSettings,
    /// All tiles: first those of validation, then those of the test, then those of training.
    goals: Arc<[u32]>,
    held_out: (usize, usize),
}

/// A tile: (column, row).
type Tile = (usize, usize);

impl DarkRoom {
    fn middle(&self) -> Tile {
        (self.settings.size / 2, self.settings.size / 2)
    }
}

/// The moves: stay, up, down, left, right.
fn moved((column, row): Tile, action: usize, size: usize) -> Tile {
    match action {
        1 => (column, row.saturating_sub(1)),
        2 => (column, (row + 1).min(size - 1)),
        3 => (column.saturating_sub(1), row),
        4 => ((column + 1).min(size - 1), row),
        _ => (column, row),
    }
}

/// Goes to the goal: first along the row, then along the column.
struct ShortestWay {
    goal: Tile,
    size: usize,
}

impl Policy for ShortestWay {
    fn begin(&mut self, _stream: Stream) {}

    fn act(&mut self, observation: &[f32], action: &mut [f32]) {
        let half = 0.5 * (self.size - 1) as f32;
        let tile = |at: f32| ((at + 1.0) * half).round() as usize;
        let (column, row) = (tile(observation[0]), tile(observation[1]));
        action[0] = match (column.cmp(&self.goal.0), row.cmp(&self.goal.1)) {
            (std::cmp::Ordering::Greater, _) => 3.0,
            (std::cmp::Ordering::Less, _) => 4.0,
            (_, std::cmp::Ordering::Greater) => 1.0,
            (_, std::cmp::Ordering::Less) => 2.0,
            _ => 0.0,
        };
    }
}

impl Environment for DarkRoom {
    type Task = Tile;
    type State = Tile;

    const NAME: &'static str = DarkRoomSettings::NAME;
    const VERSION: &'static str = "dark-room 1";

    fn settings(&self) -> Vec<(&'static str, Value)> {
        self.settings.entries()
    }

    fn observations(&self) -> Space {
        Space::cube(2, -1.0, 1.0)
    }

    fn actions(&self) -> Space {
        Space::Discrete(5)
    }

    fn horizon(&self) -> usize {
        self.settings.horizon
    }

    fn task_numbers(&self) -> usize {
        2
    }

    fn draw(&self, split: Split, stream: &mut Stream) -> Tile {
        let (validation, test) = self.held_out;
        let goals = match split {
            Split::Validation => &self.goals[..validation],
            Split::Test => &self.goals[validation..validation + test],
            Split::Train => &self.goals[validation + test..],
        };
        let tile = goals[stream.below(goals.len())] as usize;
        (tile % self.settings.size, tile / self.settings.size)
    }

    fn start(&self, _task: &Tile, _noise: &mut Stream) -> Tile {
        self.middle()
    }

    fn step(
        &self,
        goal: &Tile,
        tile: &mut Tile,
        action: &[f32],
        _noise: &mut Stream,
    ) -> (f64, bool) {
        *tile = moved(*tile, index(action[0], 5), self.settings.size);
        (f64::from(u8::from(tile == goal)), false)
    }

    fn observe(&self, _goal: &Tile, tile: &Tile, observation: &mut [f32]) {
        let scale = 2.0 / (self.settings.size - 1) as f32;
        observation[0] = tile.0 as f32 * scale - 1.0;
        observation[1] = tile.1 as f32 * scale - 1.0;
    }

    fn describe(&self, goal: &Tile) -> Vec<f64> {
        vec![goal.0 as f64, goal.1 as f64]
    }

    fn best_return(&self, goal: &Tile) -> Option<f64> {
        let middle = self.middle();
        let distance = goal.0.abs_diff(middle.0) + goal.1.abs_diff(middle.1);
        let lost = distance.saturating_sub(1);
        Some(self.settings.horizon.saturating_sub(lost) as f64)
    }

    fn oracle(&self, goal: &Tile) -> Option<Box<dyn Policy>> {
        Some(Box::new(ShortestWay {
            goal: *goal,
            size: self.settings.size,
        }))
    }

    fn policy(&self, name: &str, settings: &Value) -> Result<MakePolicy> {
        random_policy(
            Environment::actions(self),
            name,
            settings,
            Environment::policies(self),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rl::planning::{Plan, Tabular};

    /// The closed form against dynamic programming over all tiles, for every goal of a room. Exact: sums of
    /// ones.
    #[test]
    fn the_best_return_is_that_of_dynamic_programming() {
        let (size, horizon) = (4, 5);
        let settings = DarkRoomSettings {
            size,
            horizon,
            ..Default::default()
        };
        let room = DarkRoom {
            settings,
            goals: Arc::new([]),
            held_out: (0, 0),
        };
        for goal in 0..size * size {
            let mut problem = Tabular::zeros(size * size, 5);
            for tile in 0..size * size {
                for action in 0..5 {
                    let (column, row) = moved((tile % size, tile / size), action, size);
                    let next = row * size + column;
                    problem.transition_mut(tile, action)[next] = 1.0;
                    problem.rewards[tile * 5 + action] = f64::from(u8::from(next == goal));
                }
            }
            let mut plan = Plan::new(size * size, 5, horizon);
            plan.solve(&problem);
            let middle = room.middle();
            let best = plan.value(middle.1 * size + middle.0);
            let closed = Environment::best_return(&room, &(goal % size, goal / size));
            assert_eq!(closed, Some(best), "goal {goal}");
        }
    }

    #[test]
    fn splits_share_no_goal() {
        let family = DarkRoomSettings::default().open().unwrap();
        let goals = Split::ALL.map(|split| {
            let tasks = (0..500).map(|task| family.describe_task(Seed(1), split, task));
            let tiles = tasks.map(|goal| (goal[0] as usize, goal[1] as usize));
            tiles.collect::<std::collections::BTreeSet<_>>()
        });
        assert_eq!(goals.each_ref().map(|goals| goals.len()), [57, 8, 16]);
        assert!(goals[0].is_disjoint(&goals[1]) && goals[2].is_disjoint(&goals[1]));
        assert!(goals[0].is_disjoint(&goals[2]));
        let all = DarkRoomSettings {
            test_share: 0.95,
            ..Default::default()
        };
        let error = all.open().err().unwrap().to_string();
        assert!(
            error.starts_with("`environment.test_share = 0.95`"),
            "{error}"
        );
    }
}
