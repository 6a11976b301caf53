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

/// Checks that each of `count` processes has a chunk of a meta-batch, and that the run can be shared.
///
/// # Errors
/// [`Error::Setting`], naming the key to change; [`Error::Processes`] where policies are trained.
pub fn check_count(count: usize, meta_batch: usize, graphs: TaskChunks, acts: bool) -> Result<()> {
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
    if processes.count() == 1 {
        let mut own = own.into_iter();
        let first = own.next().expect("a meta-batch has a chunk");
        return Ok(own.fold(first, MetaGradient::merge));
    }
    let like = own
        .first()
        .expect("every process has a chunk")
        .gradients
        .clone();
    let own: Vec<_> = own.into_iter().map(split).collect();
    let parts = own.first().map_or(0, Vec::len);
    let parts = (0..parts).map(|part| own.iter().map(|chunk| chunk[part].clone()).collect());
    let folded = processes.fold(parts.collect(), MetaGradient::merge, write, read)?;
    let flat = folded
        .iter()
        .filter_map(|part| part.gradients.get::<2>(FLAT));
    let gradients = like.unflatten(Tensor::cat(flat.collect(), 1));
    let whole = folded.into_iter().next().expect("there is a part");
    Ok(MetaGradient { gradients, ..whole })
}

/// Bytes of the parameters in a part of a message, in single precision: on its way to the next process, it costs
/// much more than an empty message, and little beside all of a network.
pub const PART: usize = 1 << 17;

/// Bytes of a message in single precision that is one part: so many parameters, no running statistics, and losses
/// and scores of so many tasks.
pub fn message_bytes(parameters: u64, tasks: u64) -> u64 {
    8 + 4 * parameters + 8 * tasks
}

/// The name of the numbers in a part.
const FLAT: &str = "flat";

/// A meta-gradient in parts of so many numbers, one after the other: the first part has the running statistics, all
/// have losses and scores, whose number is that of the tasks.
fn split<B: Primitives>(whole: MetaGradient<B>) -> Vec<MetaGradient<B>> {
    let flat = whole.gradients.flatten();
    let [_, count] = flat.dims();
    let size = PART / size_of::<f32>();
    let starts = (0..count.div_ceil(size).max(1)).map(|part| part * size);
    let part = |start: usize| {
        let mut gradients = Params::default();
        let numbers = flat.clone().narrow(1, start, size.min(count - start));
        gradients.push(FLAT, numbers);
        MetaGradient {
            gradients,
            buffers: match start {
                0 => whole.buffers.clone(),
                _ => Params::default(),
            },
            losses: whole.losses.clone(),
            scores: whole.scores.clone(),
        }
    };
    starts.map(part).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Cpu, processes::threads};

    /// Of a task: parameters of several parts, running statistics, a loss and a score.
    fn of_task(task: usize) -> MetaGradient<Cpu> {
        let device = Default::default();
        let filled = |count: usize, step: f32| {
            let values: Vec<f32> = (0..count)
                .map(|k| ((k * 7 + task * 13) % 101) as f32 * step / 3.0)
                .collect();
            Tensor::<Cpu, 1>::from_data(TensorData::from(values.as_slice()), &device)
                .reshape([1, count])
        };
        let (mut gradients, mut buffers) = (Params::default(), Params::default());
        for (name, count) in [
            ("a", 10),
            ("b", 300_000),
            ("c", 5),
            ("d", 262_144),
            ("e", 3),
        ] {
            gradients.push(name, filled(count, 1e-3));
        }
        buffers.push("statistics", filled(4, 1.0));
        let value = Tensor::from_data([task as f32], &device);
        MetaGradient {
            gradients,
            buffers,
            losses: value.clone(),
            scores: value.mul_scalar(2.0),
        }
    }

    fn values(sum: &MetaGradient<Cpu>) -> Vec<(String, TensorData)> {
        let both = [&sum.gradients, &sum.buffers].into_iter();
        let mut all: Vec<_> = both.flat_map(Params::to_data).collect();
        for (name, of_tasks) in [("losses", &sum.losses), ("scores", &sum.scores)] {
            all.push((name.to_owned(), of_tasks.clone().into_data()));
        }
        all
    }

    #[test]
    fn large_meta_gradients_are_folded_in_parts() {
        assert_eq!(split(of_task(0)).len(), (562_162 * 4_usize).div_ceil(PART));
        let sum = |processes: Processes| {
            let own = processes.share(5).map(of_task).collect();
            values(&sum_over_processes(&processes, own).unwrap())
        };
        let alone = sum(Processes::default());
        assert_eq!(alone.len(), 8);
        for count in 2..=5 {
            for found in threads::run(count, sum) {
                assert!(found == alone, "{count} processes");
            }
        }
    }
}
