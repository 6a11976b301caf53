//! One forward pass: its mode, its randomness (dropout, sampled attention), what it records.
//!
//! A task's noise belongs to its episode, to the step of its adaptation and to the place of the draw
//! in the pass, so it is the same whatever tasks share its batch, and a run that is resumed draws
//! what it would have drawn.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::attention_map::{AttentionMap, MapAxis};
use crate::{params::Params, rng::Seed, task::TaskBatch};

/// One forward pass: whether it is part of learning, what is drawn at random in it, and what
/// statistics it may use.
///
/// Normalisation and whatever draws (dropout, sampled attention) look at it.
#[derive(Default)]
pub struct Pass<B: Backend> {
    /// Training or evaluation: where statistics come from, and what is drawn.
    pub mode: Mode,
    /// Items of each task, counted from the first, that statistics are taken from; all where absent.
    pub reference_items: Option<usize>,
    /// New running statistics, left here by layers that keep them.
    pub statistics: RefCell<Params<B>>,
    /// Draws made so far.
    draws: Cell<u64>,
    /// What attended to what, where that is asked for.
    maps: Option<RefCell<Vec<AttentionMap<B>>>>,
    /// Support and queries, where they have been embedded before.
    embedded: Option<[Tensor<B, 3>; 2]>,
}

impl<B: Backend> Pass<B> {
    /// A pass in `mode`.
    pub fn new(mode: Mode) -> Self {
        Pass {
            mode,
            ..Pass::default()
        }
    }

    /// A pass of training in which nothing is drawn.
    pub fn training() -> Self {
        Pass::new(Mode::training(None))
    }

    /// A pass of evaluation.
    pub fn evaluation() -> Self {
        Pass::new(Mode::default())
    }

    /// The same pass with statistics taken from the first `items` items of each task.
    pub fn with_reference(self, items: usize) -> Self {
        Pass {
            reference_items: Some(items),
            ..self
        }
    }

    /// The same pass of a task whose support and queries have been embedded, `[t, s, d]` and `[t, q, d]`.
    pub fn of_embedded(self, support: Tensor<B, 3>, query: Tensor<B, 3>) -> Self {
        Pass {
            embedded: Some([support, query]),
            ..self
        }
    }

    /// Support and queries, where they have been embedded before.
    pub fn embedded(&self) -> Option<&[Tensor<B, 3>; 2]> {
        self.embedded.as_ref()
    }

    /// The same pass, keeping what attention leaves with [`Pass::record`].
    pub fn recording(self) -> Self {
        Pass {
            maps: Some(RefCell::default()),
            ..self
        }
    }

    /// Keeps a map where the pass is a recording one.
    pub fn record(&self, name: &str, rows: MapAxis, columns: MapAxis, weights: &Tensor<B, 4>) {
        if let Some(maps) = &self.maps {
            maps.borrow_mut().push(AttentionMap {
                name: name.to_owned(),
                rows,
                columns,
                weights: weights.clone(),
            });
        }
    }

    /// Whether it keeps maps.
    pub fn is_recording(&self) -> bool {
        self.maps.is_some()
    }

    /// What has been recorded, in order.
    pub fn recorded(&self) -> Vec<AttentionMap<B>> {
        self.maps.as_ref().map_or_else(Vec::new, RefCell::take)
    }

    /// Number of tasks, where the pass has noise.
    pub fn tasks(&self) -> Option<usize> {
        let noise = self.mode.noise.as_ref()?;
        Some(noise.episodes.len())
    }

    /// Uniform numbers on (0, 1), `per_task` for each task: `[t, per_task]`; none in a pass without
    /// noise. Every call draws others.
    pub fn uniform(&self, per_task: usize, device: &B::Device) -> Option<Tensor<B, 2>> {
        let noise = self.mode.noise.as_ref()?;
        let draw = self.draws.replace(self.draws.get() + 1);
        Some(noise.uniform(draw, per_task, device))
    }
}

/// Whether a forward pass is part of learning or of evaluation; evaluation by default.
#[derive(Clone, Debug, Default)]
pub struct Mode {
    /// Training: statistics come from the items; evaluation: running statistics where a layer keeps
    /// them.
    pub training: bool,
    /// What is drawn at random; nothing where absent.
    pub noise: Option<Noise>,
}

impl Mode {
    /// Training, with this noise.
    pub fn training(noise: Option<Noise>) -> Self {
        Mode {
            training: true,
            noise,
        }
    }

    /// Training on these tasks: with the noise of the pass `purpose` of adaptation step `step`, if
    /// their moment has a seed.
    pub fn learning<B: Backend>(tasks: &TaskBatch<B>, purpose: &'static str, step: usize) -> Self {
        let noise = |seed| Noise::new(seed, tasks.episodes.clone(), purpose, step);
        Mode::training(tasks.context.noise.map(noise))
    }
}

/// The random numbers of one forward pass, an independent sequence for each task.
#[derive(Clone, Debug)]
pub struct Noise {
    seed: Seed,
    /// Episode of each task.
    episodes: Arc<[u64]>,
    /// Which pass of the task it is.
    purpose: &'static str,
    step: usize,
}

impl Noise {
    /// The noise of the pass `purpose`, `step` over tasks of these `episodes`.
    pub fn new(seed: Seed, episodes: Arc<[u64]>, purpose: &'static str, step: usize) -> Self {
        Noise {
            seed,
            episodes,
            purpose,
            step,
        }
    }

    /// Uniform numbers on (0, 1), `[t, per_task]`: draw number `draw` of the pass.
    pub fn uniform<B: Backend>(
        &self,
        draw: u64,
        per_task: usize,
        device: &B::Device,
    ) -> Tensor<B, 2> {
        let scope = format!("noise/{}/{}", self.purpose, self.step);
        let purpose = draw.to_string();
        let mut values = Vec::with_capacity(self.episodes.len() * per_task);
        for &episode in self.episodes.iter() {
            let mut stream = self.seed.stream(&scope, episode, &purpose);
            // 23 bits and a half: neither 0 nor 1 in f32, so that logarithms are finite.
            let mut open = || ((stream.next_u64() >> 41) as f64 + 0.5) / f64::from(1 << 23);
            values.extend((0..per_task).map(|_| open()));
        }
        let shape = [self.episodes.len(), per_task];
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;

    fn draw(pass: &Pass<Cpu>, count: usize) -> Vec<f32> {
        let drawn = pass.uniform(count, &Default::default()).expect("noise");
        drawn.into_data().to_vec().expect("f32")
    }

    fn pass(episodes: &[u64], step: usize) -> Pass<Cpu> {
        let noise = Noise::new(Seed(3), episodes.into(), "support", step);
        Pass::new(Mode::training(Some(noise)))
    }

    /// A task's numbers do not depend on its neighbours; every draw, step and pass has its own.
    #[test]
    fn noise_belongs_to_the_task() {
        let together = draw(&pass(&[4, 9], 0), 3);
        assert_eq!(together[3..], draw(&pass(&[9], 0), 3));
        let one = pass(&[9], 0);
        let first = draw(&one, 3);
        assert_ne!(first, draw(&one, 3));
        assert_ne!(first, draw(&pass(&[9], 1), 3));
        assert!(together.iter().all(|&u| 0.0 < u && u < 1.0));
    }

    #[test]
    fn evaluation_draws_nothing() {
        let device = Default::default();
        assert!(Pass::<Cpu>::evaluation().uniform(3, &device).is_none());
        assert!(Pass::<Cpu>::training().uniform(3, &device).is_none());
    }
}
