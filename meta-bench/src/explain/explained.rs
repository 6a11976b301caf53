//! Reads what a learner explains of its episodes from the device.

use burn::tensor::Tensor;
use meta_core::{
    Result,
    data::{Episode, Split},
    learner::Explanation,
    primitives::Primitives,
    train::eval::{Checked, Metric, score_items},
};

use super::{
    episode_view::EpisodeView,
    maps::{Map, split},
};

/// Answers to the queries by step: class scores or values of each query.
pub type Answers = Vec<Vec<Vec<f64>>>;

/// An explanation of a meta-batch, on the host.
pub struct ExplainedBatch {
    /// Answers by episode.
    pub answers: Vec<Answers>,
    /// Maps by episode.
    pub maps: Vec<Vec<Map>>,
    /// Maps of the meta-batch as a whole.
    pub of_batch: Vec<Map>,
    /// How far each layer has moved, by step and episode.
    pub movement: Vec<(String, Vec<Vec<f64>>)>,
}

impl ExplainedBatch {
    /// Reads the explanation of `t` episodes with `s` support items and `q` queries.
    pub fn new<B: Primitives>(explanation: Explanation<B>, [t, s, q]: [usize; 3]) -> Self {
        let answers = answers(&explanation.predictions, t);
        let (maps, of_batch) = split(explanation.maps, [t, s, q]);
        let movement = explanation.movement.into_iter().map(|(layer, by_step)| {
            let by_step = by_step.into_iter().map(values).collect();
            (layer, by_step)
        });
        ExplainedBatch {
            answers,
            maps,
            of_batch,
            movement: movement.collect(),
        }
    }

    /// Its episodes, each as `view` shows it with the last answers; and the maps of the meta-batch.
    pub fn by_episode(
        self,
        episodes: Vec<Episode>,
        view: impl Fn(Episode, Vec<Vec<f64>>) -> EpisodeView,
    ) -> (Vec<ExplainedEpisode>, Vec<Map>) {
        let movement = self.movement;
        let of_episode = |place: usize| {
            let layers = movement.iter().map(|(layer, by_step)| {
                let distances = by_step.iter().map(|episodes| episodes[place]);
                (layer.clone(), distances.collect())
            });
            layers.collect()
        };
        let explained = episodes
            .into_iter()
            .zip(self.answers)
            .zip(self.maps)
            .enumerate()
            .map(|(place, ((episode, answers), maps))| ExplainedEpisode {
                steps: answers.iter().map(|step| scored(step, &episode)).collect(),
                view: view(episode, answers.last().cloned().unwrap_or_default()),
                answers,
                maps,
                movement: of_episode(place),
            })
            .collect();
        (explained, self.of_batch)
    }
}

/// What a learner says of one episode.
pub struct ExplainedEpisode {
    /// How it is shown.
    pub view: EpisodeView,
    /// Answers to the queries, by step.
    pub answers: Answers,
    /// Query score and loss, by step.
    pub steps: Vec<(f64, f64)>,
    /// What attended to what.
    pub maps: Vec<Map>,
    /// How far each layer has moved, by step.
    pub movement: Vec<(String, Vec<f64>)>,
}

impl ExplainedEpisode {
    /// Checks that what the learner says of it is a result.
    ///
    /// # Errors
    /// As [`Checked::check`].
    pub fn check(&self, metric: Metric, split: Split) -> Result<()> {
        for (step, &(score, loss)) in self.steps.iter().enumerate() {
            let checked = Checked {
                metric,
                split,
                episode: self.view.episode.index,
                step: (self.steps.len() > 1).then_some(step),
            };
            checked.check(score, Some(loss))?;
        }
        Ok(())
    }
}

/// The answers by episode, from the predictions by step.
fn answers<B: Primitives>(predictions: &[Tensor<B, 3>], episodes: usize) -> Vec<Answers> {
    let mut answers = vec![Vec::new(); episodes];
    for step in predictions {
        let [_, q, outputs] = step.dims();
        let values: Vec<f64> = step.clone().into_data().iter::<f64>().collect();
        for (answers, task) in answers.iter_mut().zip(values.chunks_exact(q * outputs)) {
            answers.push(task.chunks_exact(outputs).map(<[f64]>::to_vec).collect());
        }
    }
    answers
}

fn values<B: Primitives>(tensor: Tensor<B, 1>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Score and loss of the answers of one step.
fn scored(answers: &[Vec<f64>], episode: &Episode) -> (f64, f64) {
    let outputs = answers.first().map_or(1, Vec::len);
    score_items(&answers.concat(), outputs, &episode.query.targets)
}
