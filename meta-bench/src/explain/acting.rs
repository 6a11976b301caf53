//! Draws what a policy did: arms over time, paths before and after adaptation, rewards, and which past steps an
//! action read.

use meta_core::{
    nn::attention::AttentionMap,
    primitives::Primitives,
    rl::{Space, Trial},
};
use serde_json::{Value, json};

use super::pictures::{Pictures, slug};
use crate::{
    failure::Result,
    output::drawing::{Anchor, Colour, Drawing, GREY, INK, LINES, SMALL},
};

/// Weights by which steps read steps, mean over heads: `[trials, l, l]`.
pub struct StepMap {
    name: String,
    length: usize,
    weights: Vec<f64>,
}

impl StepMap {
    /// That of an attention map `[trials, heads, l, l]`.
    pub fn of<B: Primitives>(map: AttentionMap<B>) -> Self {
        let [trials, heads, length, _] = map.weights.dims();
        let all: Vec<f64> = map.weights.into_data().iter::<f64>().collect();
        let square = length * length;
        let mut weights = vec![0.0; trials * square];
        for (place, head) in all.chunks_exact(square.max(1)).enumerate() {
            let own = &mut weights[place / heads * square..][..square];
            let shares = own.iter_mut().zip(head);
            shares.for_each(|(sum, weight)| *sum += weight / heads as f64);
        }
        StepMap {
            name: map.name,
            length,
            weights,
        }
    }

    fn row(&self, trial: usize, step: usize) -> &[f64] {
        &self.weights[(trial * self.length + step) * self.length..][..self.length]
    }
}

/// What a policy did in a task.
pub struct Acted<'a> {
    /// The title of its pictures.
    pub title: String,
    /// What is said below.
    pub setting: String,
    /// What is special about the task.
    pub described: Vec<f64>,
    /// Its trials, those before adaptation first.
    pub trials: Vec<&'a Trial>,
    /// What an observation is.
    pub observations: Space,
    /// What an action is.
    pub actions: Space,
}

const LEFT: f64 = 90.0;
const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 240.0;

impl Acted<'_> {
    /// Draws the pictures of task `task`, the `place`-th that is explained; its numbers.
    ///
    /// # Errors
    /// When a picture is too large.
    pub fn draw(
        &self,
        task: u64,
        place: usize,
        maps: &[StepMap],
        pictures: &mut Pictures,
    ) -> Result<Value> {
        let mut names = Vec::new();
        if let Some(trial) = self.trials.last() {
            let drawing = match (&self.observations, &self.actions) {
                (Space::Continuous(seen), Space::Continuous(moved))
                    if seen.len() == 2 && moved.len() == 2 =>
                {
                    self.paths()
                }
                (_, Space::Discrete(count)) if *count <= 20 => self.choices(trial, *count),
                _ => self.rewards(trial),
            };
            names.push(pictures.add(&format!("task-{task}"), &drawing)?);
            for map in maps {
                let drawing = self.attention(map, place, trial.len());
                let name = format!("task-{task}-{}", slug(&map.name));
                names.push(pictures.add(&name, &drawing)?);
            }
        }
        let trials = self.trials.iter().map(|trial| {
            json!({
                "stage": trial.stage,
                "actions": trial.actions,
                "rewards": trial.rewards,
                "ends": trial.ends,
                "total": trial.total(),
            })
        });
        Ok(json!({
            "task": task,
            "described": self.described,
            "trials": trials.collect::<Vec<Value>>(),
            "pictures": names,
        }))
    }

    /// Which action was taken in each step: filled where it was rewarded.
    fn choices(&self, trial: &Trial, count: usize) -> Drawing {
        let mut drawing = Drawing::new(LEFT + WIDTH + 30.0, 0.0);
        let what = format!(
            "actions over time, darker the larger the reward; total reward {:.2}",
            trial.total()
        );
        let top = drawing.heading(&self.title, &[&self.setting, &what]);
        let steps = trial.len().max(1);
        let (cell, row) = (WIDTH / steps as f64, 26.0);
        let is_bandit = self.described.len() == count;
        let best = self
            .described
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        for action in 0..count {
            let y = top + row * (action as f64 + 0.5);
            let label = match is_bandit {
                true => format!("arm {action}: {:.2}", self.described[action]),
                false => format!("action {action}"),
            };
            let is_best = is_bandit && self.described[action] == best;
            let colour = if is_best { LINES[0] } else { GREY };
            let at = (LEFT - 8.0, y + 4.0);
            drawing.text(at, SMALL, Anchor::End, colour, &label);
            drawing.line(&[(LEFT, y), (LEFT + WIDTH, y)], Colour(225, 225, 225), 1.0);
        }
        let (low, high) = bounds(trial.rewards.iter().copied());
        let mut x = LEFT;
        let taken = trial.actions.iter().zip(&trial.rewards).zip(&trial.ends);
        for ((action, reward), end) in taken {
            let y = top + row * (f64::from(*action) + 0.5);
            let size = (0.8 * cell).clamp(1.0, 12.0);
            let centre = (x + 0.5 * cell, y);
            let share = (reward - low) / (high - low);
            drawing.circle(centre, 0.5 * size, shade(share), None);
            drawing.circle(centre, 0.5 * size, LINES[0], Some(1.0));
            x += cell;
            if *end && x < LEFT + WIDTH - 0.5 * cell {
                let foot = top + row * count as f64;
                drawing.line(&[(x, top), (x, foot)], GREY, 1.0);
            }
        }
        let foot = top + row * count as f64 + 18.0;
        let at = (LEFT + 0.5 * WIDTH, foot);
        drawing.text(at, SMALL, Anchor::Middle, INK, "step of the trial");
        drawing.grow(0.0, foot + 14.0);
        drawing
    }

    /// Where a point went, before adaptation and after it, and its goal.
    fn paths(&self) -> Drawing {
        let mut drawing = Drawing::new(LEFT + 2.0 * HEIGHT, 0.0);
        let ends: Vec<String> = self
            .trials
            .iter()
            .map(|trial| format!("after {} steps {:.2}", trial.stage, trial.total()))
            .collect();
        let what = format!("paths to the goal (a cross); returns: {}", ends.join(", "));
        let top = drawing.heading(&self.title, &[&self.setting, &what]);
        let size = 1.6 * HEIGHT;
        let points = self.trials.iter().map(|trial| path(trial));
        let points: Vec<Vec<(f64, f64)>> = points.collect();
        let goal = (
            self.described.first().copied().unwrap_or(0.0),
            self.described.get(1).copied().unwrap_or(0.0),
        );
        let all = || points.iter().flatten().chain([&goal]);
        let (left, right) = bounds(all().map(|point| point.0));
        let (low, high) = bounds(all().map(|point| point.1));
        let scale = 0.9 * size / (right - left).max(high - low);
        let place = |(x, y): (f64, f64)| {
            let centre = (0.5 * (left + right), 0.5 * (low + high));
            (
                40.0 + 0.5 * size + scale * (x - centre.0),
                top + 0.5 * size - scale * (y - centre.1),
            )
        };
        drawing.frame(40.0, top, size, size, GREY, 1.0);
        for (index, points) in points.iter().enumerate() {
            let colour = LINES[index % LINES.len()];
            let placed: Vec<(f64, f64)> = points.iter().map(|&point| place(point)).collect();
            drawing.line(&placed, colour, 1.5);
            if let Some(&start) = placed.first() {
                drawing.circle(start, 3.0, colour, None);
            }
            let y = top + 16.0 + 18.0 * index as f64;
            drawing.line(
                &[(52.0 + size, y - 4.0), (72.0 + size, y - 4.0)],
                colour,
                2.0,
            );
            let name = format!("after {} steps", self.trials[index].stage);
            drawing.text((78.0 + size, y), SMALL, Anchor::Start, INK, &name);
        }
        let (x, y) = place(goal);
        for (dx, dy) in [(5.0, 5.0), (5.0, -5.0)] {
            drawing.line(&[(x - dx, y - dy), (x + dx, y + dy)], INK, 2.0);
        }
        drawing.grow(190.0 + size, top + size + 14.0);
        drawing
    }

    /// The sum of the rewards of each episode so far.
    fn rewards(&self, trial: &Trial) -> Drawing {
        let mut drawing = Drawing::new(LEFT + WIDTH + 30.0, 0.0);
        let returns: Vec<String> = trial.returns().iter().map(|r| format!("{r:.2}")).collect();
        let what = format!(
            "sum of the rewards of an episode; returns: {}",
            returns.join(", ")
        );
        let top = drawing.heading(&self.title, &[&self.setting, &what]);
        let mut sum = 0.0;
        let mut sums = Vec::with_capacity(trial.len());
        for (reward, end) in trial.rewards.iter().zip(&trial.ends) {
            sum += reward;
            sums.push((sum, *end));
            if *end {
                sum = 0.0;
            }
        }
        let (low, high) = bounds(sums.iter().map(|(sum, _)| *sum).chain([0.0]));
        let cell = WIDTH / sums.len().max(1) as f64;
        let place = |step: usize, value: f64| {
            let y = top + HEIGHT * (high - value) / (high - low);
            (LEFT + cell * (step as f64 + 0.5), y)
        };
        drawing.frame(LEFT, top, WIDTH, HEIGHT, GREY, 1.0);
        let mut run = Vec::new();
        for (step, &(value, end)) in sums.iter().enumerate() {
            run.push(place(step, value));
            if end || step + 1 == sums.len() {
                drawing.line(&run, LINES[0], 1.5);
                run.clear();
            }
        }
        for value in [low, high] {
            let y = top + HEIGHT * (high - value) / (high - low) + 4.0;
            let text = format!("{value:.1}");
            drawing.text((LEFT - 8.0, y), SMALL, Anchor::End, INK, &text);
        }
        drawing.grow(0.0, top + HEIGHT + 14.0);
        drawing
    }

    /// How much each step read of those before it.
    fn attention(&self, map: &StepMap, place: usize, steps: usize) -> Drawing {
        let mut drawing = Drawing::new(LEFT, 0.0);
        let what = format!(
            "“{}”: how much a step (row) reads of those before it (column), mean over heads",
            map.name
        );
        let top = drawing.heading(&self.title, &[&self.setting, &what]);
        let steps = steps.min(map.length).max(1);
        let cell = (420.0 / steps as f64).min(30.0);
        for step in 0..steps {
            for (before, weight) in map.row(place, step).iter().take(step + 1).enumerate() {
                let (x, y) = (40.0 + cell * before as f64, top + cell * step as f64);
                drawing.rect(x, y, cell, cell, shade(weight.sqrt()));
            }
        }
        let size = cell * steps as f64;
        drawing.frame(40.0, top, size, size, GREY, 1.0);
        drawing.grow(60.0 + size, top + size + 14.0);
        drawing
    }
}

/// Where a point was seen, step by step.
fn path(trial: &Trial) -> Vec<(f64, f64)> {
    let f = trial.inputs.len() / trial.len().max(1);
    let rows = trial.inputs.chunks_exact(f.max(2));
    rows.map(|row| (f64::from(row[0]), f64::from(row[1])))
        .collect()
}

/// The smallest and the largest of some values, apart from each other.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    match (low.is_finite(), high - low > 1e-9) {
        (false, _) => (0.0, 1.0),
        (true, true) => (low, high),
        (true, false) => (low.min(0.0), low.max(0.0).max(low + 1.0)),
    }
}

/// From white to the first colour of lines.
fn shade(share: f64) -> Colour {
    let share = share.clamp(0.0, 1.0);
    let Colour(red, green, blue) = LINES[0];
    let mix = |to: u8| (255.0 - share * (255.0 - f64::from(to))).round() as u8;
    Colour(mix(red), mix(green), mix(blue))
}
