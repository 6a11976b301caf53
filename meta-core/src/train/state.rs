//! The state of training, and how a checkpoint holds it.

use std::path::Path;

use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    checkpoint_file::{Checkpoint, prefixed},
    settings::TrainSettings,
    task_selection::{Pending, Selection},
};
use crate::{Error, Result, optim::OptimizerState, params::Params, primitives::Primitives};

/// The best parameters so far.
#[derive(Clone, Debug)]
pub struct Best<B: Primitives> {
    /// The iteration after which they were validated.
    pub iteration: u64,
    /// Their validation metric; none where `keep_best = "last"`.
    pub value: Option<f64>,
    /// The parameters.
    pub parameters: Params<B>,
}

/// Everything that the next iteration depends on, but for the learner's parameters.
#[derive(Clone, Debug)]
pub struct TrainState<B: Primitives> {
    /// Iterations done.
    pub iteration: u64,
    /// State of the outer optimiser.
    pub optimizer: OptimizerState<B>,
    /// The best parameters so far.
    pub best: Option<Best<B>>,
    /// Validations since the best one.
    pub validations_without_improvement: u64,
    /// The attention over tasks, with `task_selection = "attention"` from the first iteration on.
    pub selection: Option<Selection<B>>,
}

impl<B: Primitives> Default for TrainState<B> {
    fn default() -> Self {
        Self::new()
    }
}

/// The scalars of a [`TrainState`], as a checkpoint's record holds them.
#[derive(Serialize, Deserialize)]
struct StateRecord {
    iteration: u64,
    /// Index of the next training episode: the position of the sampler.
    next_episode: u64,
    optimizer_step: u64,
    moments: usize,
    best: Option<BestRecord>,
    validations_without_improvement: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selection: Option<SelectionRecord>,
}

#[derive(Serialize, Deserialize)]
struct SelectionRecord {
    optimizer_step: u64,
    moments: usize,
    /// Tasks of the meta-batch that is not judged yet.
    pending: usize,
}

#[derive(Serialize, Deserialize)]
struct BestRecord {
    iteration: u64,
    value: Option<f64>,
}

impl<B: Primitives> TrainState<B> {
    /// The state before the first iteration.
    pub fn new() -> Self {
        TrainState {
            iteration: 0,
            optimizer: OptimizerState::new(),
            best: None,
            validations_without_improvement: 0,
            selection: None,
        }
    }

    /// The whole state as a checkpoint, with `extra` for what the caller must remember.
    pub fn to_checkpoint(
        &self,
        parameters: &Params<B>,
        settings: &TrainSettings,
        extra: Value,
    ) -> Checkpoint {
        let record = StateRecord {
            iteration: self.iteration,
            next_episode: self.iteration * settings.meta_batch as u64,
            optimizer_step: self.optimizer.step,
            moments: self.optimizer.moments.len(),
            best: self.best.as_ref().map(|best| BestRecord {
                iteration: best.iteration,
                value: best.value,
            }),
            validations_without_improvement: self.validations_without_improvement,
            selection: self.selection.as_ref().map(|selection| SelectionRecord {
                optimizer_step: selection.optimizer.step,
                moments: selection.optimizer.moments.len(),
                pending: selection
                    .pending
                    .as_ref()
                    .map_or(0, |pending| pending.gradients.len()),
            }),
        };
        let mut tensors: Vec<(String, TensorData)> =
            prefixed("parameters", parameters.to_data()).collect();
        for (index, moment) in self.optimizer.moments.iter().enumerate() {
            tensors.extend(prefixed(&format!("moments.{index}"), moment.to_data()));
        }
        if let Some(best) = &self.best {
            tensors.extend(prefixed("best", best.parameters.to_data()));
        }
        if let Some(selection) = &self.selection {
            tensors.extend(selection_tensors(selection));
        }
        Checkpoint {
            record: json!({ "train": record, "extra": extra }),
            tensors,
        }
    }

    /// Parameters, state and `extra` from a checkpoint read from `path`; `expected` are the learner's
    /// parameters as built.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the file belongs to another architecture or optimiser, naming the
    /// first difference.
    pub fn from_checkpoint(
        path: &Path,
        mut checkpoint: Checkpoint,
        expected: &Params<B>,
        settings: &TrainSettings,
        device: &B::Device,
    ) -> Result<(Params<B>, Self, Value)> {
        let record: StateRecord = serde_json::from_value(checkpoint.record["train"].take())
            .map_err(|error| {
                Error::checkpoint(path, format!("is not a training checkpoint: {error}"))
            })?;
        if record.next_episode != record.iteration * settings.meta_batch as u64 {
            return Err(Error::checkpoint(
                path,
                format!(
                    "was written with another train.meta_batch: {} episodes in {} iterations, \
                     expected {} in each",
                    record.next_episode, record.iteration, settings.meta_batch
                ),
            ));
        }
        let parameters = parameters_like(path, checkpoint.take("parameters"), expected, device)?;
        let moments = (0..record.moments)
            .map(|index| Params::from_data(checkpoint.take(&format!("moments.{index}")), device))
            .collect();
        let best = match record.best {
            Some(best) => Some(Best {
                iteration: best.iteration,
                value: best.value,
                parameters: parameters_like(path, checkpoint.take("best"), expected, device)?,
            }),
            None => None,
        };
        let selection = record
            .selection
            .map(|record| read_selection(path, &record, &mut checkpoint, device))
            .transpose()?;
        let state = TrainState {
            selection,
            iteration: record.iteration,
            optimizer: OptimizerState {
                step: record.optimizer_step,
                moments,
            },
            best,
            validations_without_improvement: record.validations_without_improvement,
        };
        Ok((parameters, state, checkpoint.record["extra"].take()))
    }
}

/// Everything of the attention over tasks that the next iteration depends on.
fn selection_tensors<B: Primitives>(selection: &Selection<B>) -> Vec<(String, TensorData)> {
    let mut tensors: Vec<(String, TensorData)> =
        prefixed("selection.parameters", selection.parameters.to_data()).collect();
    for (index, moment) in selection.optimizer.moments.iter().enumerate() {
        let name = format!("selection.moments.{index}");
        tensors.extend(prefixed(&name, moment.to_data()));
    }
    if let Some(pending) = &selection.pending {
        let features = vec![("f".to_owned(), pending.features.clone().into_data())];
        tensors.extend(prefixed("selection.features", features));
        for (index, gradient) in pending.gradients.iter().enumerate() {
            let name = format!("selection.gradients.{index}");
            tensors.extend(prefixed(&name, gradient.to_data()));
        }
    }
    tensors
}

fn read_selection<B: Primitives>(
    path: &Path,
    record: &SelectionRecord,
    checkpoint: &mut Checkpoint,
    device: &B::Device,
) -> Result<Selection<B>> {
    let mut read = |name: &str| Params::from_data(checkpoint.take(name), device);
    let parameters = read("selection.parameters");
    let moments = (0..record.moments)
        .map(|index| read(&format!("selection.moments.{index}")))
        .collect();
    let features = read("selection.features");
    let gradients: Vec<Params<B>> = (0..record.pending)
        .map(|index| read(&format!("selection.gradients.{index}")))
        .collect();
    let pending = match record.pending {
        0 => None,
        _ => {
            let features = features.get::<2>("f").ok_or_else(|| {
                Error::checkpoint(path, "has no features of the last meta-batch".to_owned())
            })?;
            Some(Pending {
                features,
                gradients,
            })
        }
    };
    Ok(Selection {
        parameters,
        optimizer: OptimizerState {
            step: record.optimizer_step,
            moments,
        },
        pending,
    })
}

/// Parameters from the tensors of the file at `path`, which must be those of `expected`.
///
/// # Errors
/// [`Error::Checkpoint`] naming the first entry that is missing, superfluous, of another shape or of
/// another type.
pub fn parameters_like<B: Primitives>(
    path: &Path,
    data: Vec<(String, TensorData)>,
    expected: &Params<B>,
    device: &B::Device,
) -> Result<Params<B>> {
    let refused = |difference: String| {
        Error::checkpoint(
            path,
            format!("holds a checkpoint from another architecture: {difference}"),
        )
    };
    let found: Vec<(String, Vec<usize>)> = data
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.shape.to_vec()))
        .collect();
    expected.check_like(&found).map_err(refused)?;
    let mut by_name: std::collections::HashMap<String, TensorData> = data.into_iter().collect();
    let mut ordered = Vec::with_capacity(by_name.len());
    for (name, built) in expected.to_data() {
        let Some(tensor) = by_name.remove(&name) else {
            return Err(refused(format!("parameter `{name}` is missing")));
        };
        if tensor.dtype != built.dtype {
            return Err(refused(format!(
                "parameter `{name}` is {:?}, expected {:?}",
                tensor.dtype, built.dtype
            )));
        }
        ordered.push((name, tensor));
    }
    Ok(Params::from_data(ordered, device))
}
