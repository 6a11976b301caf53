//! Meta-gradients between processes.

use burn::tensor::{DType, Shape, Tensor, TensorData};

use crate::{
    Error, Result,
    data::Episode,
    learner::{Learner, MetaGradient},
    parallel::TaskChunks,
    params::Params,
    primitives::Primitives,
    processes::Processes,
    task::{TaskBatch, TaskSpec, TrainingContext},
};

/// Chunks of a meta-batch of `tasks`.
fn chunks(tasks: usize, graphs: TaskChunks) -> (usize, usize) {
    let of_chunk = match graphs.tasks {
        0 => tasks.max(1),
        of_chunk => of_chunk,
    };
    (tasks.div_ceil(of_chunk), of_chunk)
}

/// Checks that every process has a chunk of a meta-batch, and that the run can be shared.
///
/// # Errors
/// [`Error::Setting`], naming the key to change.
pub fn check(
    processes: &Processes,
    meta_batch: usize,
    graphs: TaskChunks,
    acts: bool,
) -> Result<()> {
    let count = processes.count();
    if count == 1 {
        return Ok(());
    }
    if acts {
        let message = format!("{count} processes: expected one, since policies are not shared");
        return Err(Error::Processes { message });
    }
    let (chunks, of_chunk) = chunks(meta_batch, graphs);
    if chunks >= count {
        return Ok(());
    }
    if meta_batch < count {
        let expected = format!(
            "{count} processes share a meta-batch task by task; expected at least {count} tasks, or fewer processes"
        );
        return Err(Error::setting("train.meta_batch", meta_batch, expected));
    }
    let expected = format!(
        "{count} processes share a meta-batch chunk by chunk, and {meta_batch} tasks in chunks of {of_chunk} are \
         {chunks}; expected chunks of at most {}",
        meta_batch / count
    );
    Err(Error::setting("train.task_chunk", of_chunk, expected))
}

/// The meta-gradient of each graph's tasks.
pub fn per_chunk<B: Primitives>(
    learner: &dyn Learner<B>,
    spec: &TaskSpec,
    episodes: &[Episode],
    context: TrainingContext,
    graphs: TaskChunks,
    device: &B::Device,
) -> Vec<MetaGradient<B>> {
    graphs.each(episodes, B::SIDE_BY_SIDE, |tasks| {
        learner.meta_gradient(&TaskBatch::new(tasks, spec, device).at(context))
    })
}

/// The meta-gradients of the chunks of this process.
pub fn own_chunks<B: Primitives>(
    processes: &Processes,
    learner: &dyn Learner<B>,
    spec: &TaskSpec,
    episodes: &[Episode],
    context: TrainingContext,
    graphs: TaskChunks,
    device: &B::Device,
) -> Vec<MetaGradient<B>> {
    let (chunks, of_chunk) = chunks(episodes.len(), graphs);
    let own = processes.share(chunks);
    let tasks = own.start * of_chunk..episodes.len().min(own.end * of_chunk);
    let graphs = TaskChunks {
        tasks: of_chunk,
        ..graphs
    };
    per_chunk(learner, spec, &episodes[tasks], context, graphs, device)
}

/// The meta-gradient of all processes together, from the chunks of each.
///
/// # Errors
/// When a process is gone.
pub fn sum_over_processes<B: Primitives>(
    processes: &Processes,
    own: Vec<MetaGradient<B>>,
) -> Result<MetaGradient<B>> {
    processes.fold(own, MetaGradient::merge, write, read)
}

/// The meta-gradients of all processes in the order of their tasks, where every task is a chunk.
///
/// # Errors
/// When a process is gone.
pub fn each_of_processes<B: Primitives>(
    processes: &Processes,
    own: Vec<MetaGradient<B>>,
) -> Result<Vec<MetaGradient<B>>> {
    if processes.count() == 1 {
        return Ok(own);
    }
    let like = own.first().expect("every process has a task");
    let said = processes.gather_bytes(own.iter().flat_map(write).collect())?;
    let length = write(like).len();
    let messages = said.iter().flat_map(|all| all.chunks(length));
    messages.map(|message| read(like, message)).collect()
}

/// A meta-gradient as bytes: the number of its tasks (8 bytes), gradients and buffers in their order, losses, scores.
fn write<B: Primitives>(gradient: &MetaGradient<B>) -> Vec<u8> {
    let [tasks] = gradient.losses.dims();
    let mut bytes = (tasks as u64).to_le_bytes().to_vec();
    for (_, data) in [&gradient.gradients, &gradient.buffers]
        .into_iter()
        .flat_map(Params::to_data)
    {
        bytes.extend_from_slice(data.as_bytes());
    }
    for values in [&gradient.losses, &gradient.scores] {
        bytes.extend_from_slice(values.clone().into_data().as_bytes());
    }
    bytes
}

/// The meta-gradient of a message, with the parameters of `like`.
fn read<B: Primitives>(like: &MetaGradient<B>, message: &[u8]) -> Result<MetaGradient<B>> {
    let device = like.losses.device();
    let mut rest = Rest(message);
    let count = rest.take(8)?;
    let tasks = u64::from_le_bytes(count.try_into().unwrap_or_default()) as usize;
    let mut params = |like: &Params<B>| -> Result<Params<B>> {
        let mut read = Vec::with_capacity(like.len());
        for (name, data) in like.to_data() {
            read.push((name, rest.tensor(data.shape.clone(), data.dtype)?));
        }
        Ok(Params::from_data(read, &device))
    };
    let (gradients, buffers) = (params(&like.gradients)?, params(&like.buffers)?);
    let mut values = || -> Result<Tensor<B, 1>> {
        let dtype = like.losses.dtype();
        let data = rest.tensor(Shape::new([tasks]), dtype)?;
        Ok(Tensor::from_data(data, (&device, dtype)))
    };
    let (losses, scores) = (values()?, values()?);
    Ok(MetaGradient {
        gradients,
        buffers,
        losses,
        scores,
    })
}

/// What is not yet read of a message.
struct Rest<'m>(&'m [u8]);

impl<'m> Rest<'m> {
    fn take(&mut self, count: usize) -> Result<&'m [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(count) else {
            return Err(Error::Processes {
                message: "a message ends too early: processes have other parameters".to_owned(),
            });
        };
        self.0 = rest;
        Ok(taken)
    }

    fn tensor(&mut self, shape: Shape, dtype: DType) -> Result<TensorData> {
        let bytes = self.take(shape.num_elements() * dtype.size())?;
        Ok(TensorData::from_bytes_vec(bytes.to_vec(), shape, dtype))
    }
}
