//! Randomness inside a forward pass: dropout, sampled attention.
//!
//! A task's noise belongs to its episode, to the step of its adaptation and to the place of the draw
//! in the pass, so it is the same whatever tasks share its batch, and a run that is continued draws
//! what it would have drawn.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData, backend::Backend};

use crate::{rng::Seed, task::TaskBatch};

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
        Mode::training(tasks.moment.noise.map(noise))
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
    use crate::{backend::Cpu, nn::Pass};

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
