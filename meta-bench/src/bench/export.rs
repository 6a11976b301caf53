//! Writes a workload as files, for programs in other languages: `workload.json`, which says everything,
//! and three safetensors files with initial parameters, episodes and what the first step computes.
//!
//! The first step is computed in f64, from the same f32 parameters and episodes that are measured. In
//! f32, rounding alone moves a few ReLUs and maxima to the other side. That changes a meta-gradient by up
//! to 1e-3, whichever program computes it. In f64, two programs agree closely where they compute the same
//! thing, and only there.

use std::{
    fs,
    marker::PhantomData,
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Tensor, TensorData};
use meta_core::{
    Error,
    backend::{ComputeTarget, Precision, WithBackend, dispatch},
    data::Task,
    files::{remove_abandoned, write_atomically},
    learner::{PredictAt, support_order::SupportOrder},
    nn::norm::EPSILON,
    optim::{OptimizerSettings, UpdateSettings},
    params::Params,
    primitives::Primitives,
    settings::Settings,
    task::{ItemBatch, TargetBatch, TaskBatch, TrainingContext},
    toolkit::Toolkit,
    train,
    train::checkpoint_file::{self, Checkpoint, prefixed},
};
use serde_json::{Value, json};

use super::{
    args::Effort,
    measure::learner,
    trials::trial_tensors,
    workloads::{Kind, OUTER_LR, Prepared, Workload},
};
use crate::{
    failure::{CommandError, Result},
    output::target::{TENSORS, WORKLOAD, check_target},
};

/// The description of a workload.
const DESCRIPTION: &str = "workload.json";
const PARAMETERS: &str = "parameters.safetensors";
const EPISODES: &str = "episodes.safetensors";
const FIRST_STEP: &str = "first_step.safetensors";

/// The backend that computes the first step.
const BACKEND: &str = "flex";

/// How far a peer's first step in f64 may be from ours, relative to ours.
pub const AGREEMENT: f64 = 1e-4;
/// How far a peer's first step in f32 may be from ours in f64: enough for kinks, not for a mistake.
const AGREEMENT_F32: f64 = 2e-2;
/// A tensor whose norm is below this part of the whole gradient's is compared with that part
/// instead: where the exact gradient is zero (the bias of an attention's keys), both are rounding.
const AGREEMENT_FLOOR: f64 = 1e-3;

/// Writes what peers read, and nothing else.
///
/// # Errors
/// When a workload cannot be computed, or a file cannot be written or is something else.
pub fn export<T: Toolkit>(
    folder: &Path,
    workloads: &[&'static Workload],
    effort: Effort,
) -> Result<()> {
    for &workload in workloads {
        let export = Export::<T>::new(folder, workload, effort);
        // What the peers must agree with is computed in f64.
        let target = ComputeTarget {
            precision: Precision::F64,
            ..ComputeTarget::of(BACKEND)
        };
        dispatch(&target, export)??;
        eprintln!("{}", folder.join(workload.name).display());
    }
    Ok(())
}

/// An export on a backend whose name is known only now.
struct Export<T> {
    folder: PathBuf,
    workload: &'static Workload,
    effort: Effort,
    toolkit: PhantomData<T>,
}

impl<T> Export<T> {
    /// An export of `workload` to a folder of its name in `folder`.
    fn new(folder: &Path, workload: &'static Workload, effort: Effort) -> Self {
        Export {
            folder: folder.join(workload.name),
            workload,
            effort,
            toolkit: PhantomData,
        }
    }
}

impl<T: Toolkit> WithBackend for Export<T> {
    type Output = Result<()>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        for name in [PARAMETERS, EPISODES, FIRST_STEP] {
            check_target(&self.folder.join(name), TENSORS)?;
        }
        check_target(&self.folder.join(DESCRIPTION), WORKLOAD)?;
        let prepared = self.workload.prepare::<T>(self.effort)?;
        let mut learner = learner::<T, B>(&prepared, &device);
        let parameters = converted(learner.parameters().to_data(), DType::F32);
        let exact = converted(parameters.clone(), DType::F64);
        learner.set_parameters(Params::from_data(exact, &device));
        let episodes = prepared.episodes()?;
        let tasks = TaskBatch::<B>::new(&episodes, &prepared.spec, &device);
        let trials = learner.act(&tasks)?.unwrap_or_default();
        learner.gather(trials.clone());
        let first_step = match self.workload.kind {
            Kind::Train => {
                let graphs =
                    prepared.task_chunks::<B>(self.effort, learner.parameters().num_elements());
                let result = train::sum_over_chunks(
                    learner.as_ref(),
                    &prepared.spec,
                    &episodes,
                    TrainingContext::default(),
                    graphs,
                    &device,
                );
                let mut tensors = vec![("losses".to_owned(), result.losses.into_data())];
                tensors.extend(prefixed("gradient", result.gradients.to_data()));
                tensors
            }
            Kind::Predict => {
                let answers = learner.predict(&tasks, PredictAt::LastStep).into_iter();
                answers
                    .map(|values| ("predictions".to_owned(), values.into_data()))
                    .collect()
            }
        };
        if let Some((name, data)) = first_step.iter().find(|(_, data)| data.dtype != DType::F64) {
            return Err(CommandError::Usage(format!(
                "{}: `{name}` was computed in {:?}, not in F64",
                self.workload.name, data.dtype
            )));
        }
        let given = match trials.is_empty() {
            true => episode_tensors(tasks),
            false => trial_tensors(trials),
        };
        let files = [
            (PARAMETERS, parameters),
            (EPISODES, converted(given, DType::F32)),
            (FIRST_STEP, first_step),
        ];
        fs::create_dir_all(&self.folder)
            .map_err(|error| Error::io(&self.folder, "create folder", error))?;
        let ours = [PARAMETERS, EPISODES, FIRST_STEP, DESCRIPTION];
        remove_abandoned(&self.folder, |name| ours.contains(&name))?;
        let mut listed = json!({});
        for (name, tensors) in files {
            listed[name] = tensors
                .iter()
                .map(|(name, data)| json!({ "name": name, "shape": data.shape.to_vec() }))
                .collect();
            let checkpoint = Checkpoint {
                record: json!({ "workload": self.workload.name }),
                tensors,
            };
            checkpoint_file::write(&self.folder.join(name), &checkpoint)?;
        }
        let description = describe(&prepared, listed);
        let text = format!("{description:#}\n");
        Ok(write_atomically(
            &self.folder.join(DESCRIPTION),
            text.as_bytes(),
        )?)
    }
}

fn converted(tensors: Vec<(String, TensorData)>, dtype: DType) -> Vec<(String, TensorData)> {
    let convert = |(name, data): (String, TensorData)| (name, data.convert_dtype(dtype));
    tensors.into_iter().map(convert).collect()
}

fn episode_tensors<B: Primitives>(tasks: TaskBatch<B>) -> Vec<(String, TensorData)> {
    let order = SupportOrder::of(&tasks.support);
    let places: Vec<f32> = order
        .order()
        .iter()
        .flatten()
        .map(|&item| item as f32)
        .collect();
    let order = TensorData::new(places, tasks.support.dims());
    let items = |part: &str, items: ItemBatch<B>| {
        let inputs = items.inputs.into_data();
        let targets = match items.targets {
            TargetBatch::Classes(labels) => {
                let labels: Tensor<B, 2> = labels.float();
                labels.into_data()
            }
            TargetBatch::Values(values) => values.into_data(),
            TargetBatch::Sequences(symbols) => {
                let symbols: Tensor<B, 3> = symbols.float();
                symbols.into_data()
            }
        };
        let mut tensors = vec![
            (format!("{part}.inputs"), inputs),
            (format!("{part}.targets"), targets),
        ];
        if let Some(mask) = items.mask {
            let there: Tensor<B, 2> = mask.items.float();
            tensors.push((format!("{part}.there"), there.into_data()));
            tensors.extend(mask.numbers.map(|numbers| {
                let numbers: Tensor<B, 3> = numbers.float();
                (format!("{part}.numbers"), numbers.into_data())
            }));
        }
        tensors
    };
    let (support, query) = (items("support", tasks.support), items("query", tasks.query));
    let order = [("support.order".to_owned(), order)];
    support.into_iter().chain(query).chain(order).collect()
}

/// The outer Adam, as peers read it.
fn outer_optimizer() -> Value {
    let mut settings = UpdateSettings::defaults();
    settings["optimizer"] = json!(OptimizerSettings::default().optimizer);
    settings
}

fn describe<T: Toolkit>(prepared: &Prepared<T>, files: Value) -> Value {
    let workload = prepared.workload;
    let shape = prepared.shape;
    let task = match prepared.spec.task {
        Task::Classification => "classification",
        Task::Regression { .. } => "regression",
        Task::Sequences { .. } => "sequences",
        Task::Acting { .. } => "acting",
    };
    json!({
        "format": 1,
        "name": workload.name,
        "summary": workload.summary,
        "kind": workload.kind.name(),
        "dtype": "f32",
        "seed": prepared.seed.0,
        "made_by": { "backend": BACKEND, "version": env!("CARGO_PKG_VERSION") },
        "task": task,
        "tasks": prepared.tasks,
        "episode": shape,
        "support_items": shape.support_items(),
        "query_items": shape.query_items(),
        "item": prepared.spec.item,
        "sequences": match prepared.spec.task {
            Task::Sequences { words, symbols, length } => {
                json!({ "words": words, "symbols": symbols, "length": length })
            }
            _ => Value::Null,
        },
        "outputs": prepared.spec.outputs(),
        "learner": { "name": workload.learner, "settings": prepared.settings },
        "encoder": {
            "name": workload.encoder,
            "settings": prepared.encoder_settings,
            "norm_epsilon": EPSILON,
        },
        "outer": { "lr": OUTER_LR, "settings": outer_optimizer() },
        // What `predict` returns: the predictions after the last step.
        "answers": "last",
        "agreement": {
            "relative": AGREEMENT,
            "relative_f32": AGREEMENT_F32,
            "floor": AGREEMENT_FLOOR,
        },
        "layouts": {
            "items": "[tasks, items, features]; images row by row, channels last",
            "support.order": "items of each task in the order in which learners that read one after the \
                              other read them [tasks, items]",
            "support.there": "1 where an item is there [tasks, items]; left out where all are, as is query.there",
            "support.numbers": "1 where a number is there [tasks, items, features]; likewise",
            "trials.S": "what happened in environments, instead of items, after S steps of adaptation: `inputs` \
                         [tasks, trials, steps, features], `actions` [tasks, trials, steps, width], `rewards`, \
                         `log_probabilities` and `values` [tasks, trials, steps], 0 after the end; `steps` [tasks, \
                         trials]",
            "targets": "class labels as floats [tasks, items]; values [tasks, items, outputs]; symbols and ends of sequences [tasks, items, places]",
            "conv.weight": "[1, kernel * kernel, channels in, channels out], taps row by row",
            "linear.weight": "[1, in, out]",
            "bias, gamma, beta": "[1, 1, channels]",
            "positions": "[1, 1, tokens * width]",
            "embedding": "the last feature map, flattened with channels last",
            "losses": "query loss of each task [tasks]; the outer loss is their mean",
            "gradient/NAME": "of the outer loss, laid out as the parameter NAME",
            "predictions": "[tasks, query items, outputs]",
        },
        "files": files,
    })
}
