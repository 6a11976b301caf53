//! Takes one measurement, in this process.

use std::{marker::PhantomData, time::Instant};

use burn::tensor::{DType, Tensor};
use meta_core::{
    backend::WithBackend,
    data::Episode,
    learner::{Learner, LearnerList, New, PredictAt},
    optim::{self, OptimizerSettings, OptimizerState},
    parallel::TaskChunks,
    params::Params,
    primitives::{Primitives, linear},
    task::{TaskBatch, TrainingContext},
    toolkit::Toolkit,
    train,
};
use serde::{Deserialize, Serialize};

use super::{
    args::Effort,
    flops,
    workloads::{Kind, OUTER_LR, Prepared, Workload},
};
use crate::{
    failure::{CommandError, Result},
    machine::peak_bytes,
};

/// Samples that are taken even where time has run out.
const FEWEST_SAMPLES: usize = 3;
/// Iterations before the first sample, at least.
const WARM_UP: usize = 2;
/// Seconds before the first sample, at least.
const WARM_UP_SECONDS: f64 = 0.3;

/// What one process measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// Name of the workload.
    pub workload: String,
    /// Backend, by its name in manifests; that the tensors report it is checked.
    pub backend: String,
    /// What the backend calls itself, and the device, as the backend prints it.
    pub device: String,
    /// Number type, as the tensors report it.
    pub dtype: String,
    /// Threads.
    pub threads: usize,
    /// Tasks of a meta-batch.
    pub tasks: usize,
    /// Trainable numbers.
    pub parameters: usize,
    /// Milliseconds of the very first iteration: it compiles kernels, tunes them, fills caches.
    #[serde(default)]
    pub first_ms: f64,
    /// Milliseconds of each sample, in order.
    pub samples_ms: Vec<f64>,
    /// Joules of the processor's packages for each sample, on average; absent where the system does
    /// not report them.
    #[serde(default)]
    pub joules: Option<f64>,
    /// Bytes that the backend holds on its device after the last sample; absent for those without
    /// memory of their own.
    #[serde(default)]
    pub device_bytes: Option<u64>,
    /// Useful operations of a sample, see `flops`; absent where they are not counted.
    #[serde(default)]
    pub flop: Option<f64>,
    /// Peak resident memory of the process; absent where the system does not report it.
    pub peak_bytes: Option<u64>,
    /// Peak before the first computation: program, data and parameters.
    pub start_bytes: Option<u64>,
}

/// The fastest matrix product that was seen.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GemmPeak {
    /// 10⁹ operations a second, on all threads.
    pub gflops: f64,
}

/// A measurement of a workload on a backend whose name is known only now.
pub struct Measure<'a, T> {
    workload: &'static Workload,
    backend: &'a str,
    effort: Effort,
    iterations: Option<usize>,
    toolkit: PhantomData<T>,
}

impl<'a, T> Measure<'a, T> {
    /// A measurement of `workload` on the backend that was asked for by the name `backend`; of exactly
    /// so many iterations where they are given.
    pub fn new(
        workload: &'static Workload,
        backend: &'a str,
        effort: Effort,
        iterations: Option<usize>,
    ) -> Self {
        Measure {
            workload,
            backend,
            effort,
            iterations,
            toolkit: PhantomData,
        }
    }
}

impl<T: Toolkit> WithBackend for Measure<'_, T> {
    type Output = Result<Measurement>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let prepared = self.workload.prepare::<T>(self.effort)?;
        let episodes = prepared.episodes()?;
        let mut learner = learner::<T, B>(&prepared, &device);
        let parameters = learner.parameters();
        check_used::<B>(self.backend, &parameters, &device)?;
        let start_bytes = peak_bytes();
        let taking = match self.iterations {
            Some(count) => Taking::Exactly(count),
            None => Taking::Samples(self.effort),
        };
        let graphs = prepared.task_chunks::<B>(self.effort, parameters.num_elements());
        let taken = match self.workload.kind {
            Kind::Train => {
                let mut state = OptimizerState::new();
                samples(taking, || {
                    let optimizer = std::mem::take(&mut state);
                    state = meta_iteration(
                        learner.as_mut(),
                        &prepared,
                        &episodes,
                        graphs,
                        optimizer,
                        &device,
                    );
                })
            }
            Kind::Predict => samples(taking, || {
                predict(learner.as_ref(), &prepared, &episodes, graphs, &device);
            }),
        };
        let after = learner.parameters();
        check_used::<B>(self.backend, &after, &device)?;
        if !finite(&after) {
            return Err(CommandError::Usage(format!(
                "{}: a parameter is not a finite number after {} steps",
                self.workload.name,
                taken.samples_ms.len()
            )));
        }
        Ok(Measurement {
            workload: self.workload.name.to_owned(),
            backend: self.backend.to_owned(),
            device: format!("{}, {device:?}", B::name(&device)),
            // A policy without parameters computes in nothing else.
            dtype: dtype_name(dtypes(&parameters).first().copied().unwrap_or(DType::F32)),
            threads: rayon::current_num_threads(),
            tasks: prepared.tasks,
            parameters: parameters.num_elements(),
            first_ms: taken.first_ms,
            samples_ms: taken.samples_ms,
            joules: taken.joules,
            device_bytes: B::device_memory(&device),
            flop: flops::per_sample(&prepared),
            peak_bytes: peak_bytes(),
            start_bytes,
        })
    }
}

/// The workload's learner with its initial parameters.
pub fn learner<T: Toolkit, B: Primitives>(
    prepared: &Prepared<T>,
    device: &B::Device,
) -> Box<dyn Learner<B>> {
    prepared.learner.clone().build(New {
        architecture: prepared.architecture.clone(),
        spec: &prepared.spec,
        seed: prepared.seed,
        device,
    })
}

/// An iteration, as the outer loop does it: of a policy, it acts and then learns from that in several parts.
fn meta_iteration<T: Toolkit, B: Primitives>(
    learner: &mut dyn Learner<B>,
    prepared: &Prepared<T>,
    episodes: &[Episode],
    graphs: TaskChunks,
    state: OptimizerState<B>,
    device: &B::Device,
) -> OptimizerState<B> {
    let parts = train::parts(learner, &prepared.spec, episodes, graphs, device);
    let parts = parts.expect("environments of the workloads of the table");
    parts.into_iter().fold(state, |state, part| {
        update(learner, prepared, &episodes[part], graphs, state, device)
    })
}

/// Meta-gradient and Adam's step.
fn update<T: Toolkit, B: Primitives>(
    learner: &mut dyn Learner<B>,
    prepared: &Prepared<T>,
    episodes: &[Episode],
    graphs: TaskChunks,
    state: OptimizerState<B>,
    device: &B::Device,
) -> OptimizerState<B> {
    let spec = &prepared.spec;
    let context = TrainingContext::default();
    let result = train::sum_over_chunks(&*learner, spec, episodes, context, graphs, device);
    let (parameters, state) = optim::step(
        &OptimizerSettings::default(),
        OUTER_LR,
        learner.parameters(),
        &result.gradients,
        state,
    );
    learner.set_parameters(parameters.overwrite(result.buffers));
    // Reading the losses waits for them, as a training that logs does.
    std::hint::black_box(result.losses.into_data());
    wait::<B>(device);
    state
}

/// Predictions, as an evaluation asks for them.
fn predict<T: Toolkit, B: Primitives>(
    learner: &dyn Learner<B>,
    prepared: &Prepared<T>,
    episodes: &[Episode],
    graphs: TaskChunks,
    device: &B::Device,
) {
    let at_a_time = graphs.tasks_at_a_time().unwrap_or(episodes.len());
    for episodes in episodes.chunks(at_a_time) {
        graphs.each(episodes, B::SIDE_BY_SIDE, |episodes| {
            let tasks = TaskBatch::new(episodes, &prepared.spec, device);
            for predictions in learner.predict(&tasks, PredictAt::LastStep) {
                std::hint::black_box(predictions.into_data());
            }
        });
    }
}

/// Waits for everything that was queued on the device.
fn wait<B: Primitives>(device: &B::Device) {
    B::sync(device).expect("the device finishes its work");
}

/// How often something is called.
#[derive(Clone, Copy)]
enum Taking {
    /// Exactly so often, without warm-up.
    Exactly(usize),
    /// After warm-up, as often as an effort says.
    Samples(Effort),
}

/// What calls took.
struct Taken {
    first_ms: f64,
    samples_ms: Vec<f64>,
    joules: Option<f64>,
}

/// Times the calls of `run`.
fn samples(taking: Taking, mut run: impl FnMut()) -> Taken {
    let mut timed = || {
        let before = Instant::now();
        run();
        before.elapsed().as_secs_f64() * 1e3
    };
    let effort = match taking {
        Taking::Samples(effort) => effort,
        Taking::Exactly(count) => {
            let samples_ms: Vec<f64> = (0..count).map(|_| timed()).collect();
            return Taken {
                first_ms: samples_ms.first().copied().unwrap_or(0.0),
                samples_ms,
                joules: None,
            };
        }
    };
    let start = Instant::now();
    let first_ms = timed();
    let mut warmed = 1;
    while warmed < WARM_UP || start.elapsed().as_secs_f64() < WARM_UP_SECONDS {
        timed();
        warmed += 1;
    }
    let start = Instant::now();
    let energy = energy_joules();
    let mut samples = Vec::new();
    while samples.len() < effort.samples.min(FEWEST_SAMPLES)
        || (samples.len() < effort.samples && start.elapsed().as_secs_f64() < effort.seconds)
    {
        samples.push(timed());
    }
    let spent = energy
        .zip(energy_joules())
        .map(|(before, after)| after - before);
    Taken {
        first_ms,
        // The counter starts again from 0 now and then.
        joules: spent
            .filter(|&spent| spent > 0.0)
            .map(|spent| spent / samples.len() as f64),
        samples_ms: samples,
    }
}

/// Joules that the packages of the processor have used so far, where the system reports them (Linux,
/// powercap).
fn energy_joules() -> Option<f64> {
    let zones = std::fs::read_dir("/sys/class/powercap").ok()?;
    let mut joules = None;
    for zone in zones.flatten() {
        // `intel-rapl:0` is a package, `intel-rapl:0:1` a part of it; AMD's go by the same name.
        let name = zone.file_name().to_string_lossy().into_owned();
        if name.starts_with("intel-rapl:") && name.matches(':').count() == 1 {
            let text = std::fs::read_to_string(zone.path().join("energy_uj")).ok()?;
            let package = text.trim().parse::<f64>().ok()? * 1e-6;
            joules = Some(joules.unwrap_or(0.0) + package);
        }
    }
    joules
}

fn dtypes<B: Primitives>(parameters: &Params<B>) -> Vec<DType> {
    let data = parameters.to_data();
    data.iter().map(|(_, data)| data.dtype).collect()
}

fn finite<B: Primitives>(parameters: &Params<B>) -> bool {
    parameters
        .to_data()
        .iter()
        .all(|(_, data)| data.iter::<f64>().all(f64::is_finite))
}

fn dtype_name(dtype: DType) -> String {
    format!("{dtype:?}").to_lowercase()
}

/// Refuses a number for a backend or number type that was not used.
fn check_used<B: Primitives>(
    asked: &str,
    parameters: &Params<B>,
    device: &B::Device,
) -> Result<()> {
    honoured(asked, &B::name(device), &dtypes(parameters))
}

fn honoured(asked: &str, reported: &str, dtypes: &[DType]) -> Result<()> {
    // `vulkan` is wgpu's, and libtorch calls itself so.
    let own_name = match asked {
        "vulkan" => "wgpu<spirv>",
        "rocm" => "hip",
        other => other,
    };
    if !reported.to_lowercase().contains(own_name) {
        return Err(CommandError::Usage(format!(
            "backend `{asked}` was asked for, but the tensors report `{reported}`; not measured"
        )));
    }
    match dtypes.iter().find(|&&dtype| dtype != DType::F32) {
        Some(&dtype) => Err(CommandError::Usage(format!(
            "f32 was asked for, but the tensors report {}; not measured",
            dtype_name(dtype)
        ))),
        None => Ok(()),
    }
}

/// Measures the peak of matrix products: the best of several shapes and repetitions.
pub struct MeasureGemm;

impl WithBackend for MeasureGemm {
    type Output = GemmPeak;

    fn run<B: Primitives>(self, device: B::Device) -> GemmPeak {
        let threads = rayon::current_num_threads();
        // One product for all threads, one for each, four for each.
        let shapes = [(1, 2048), (threads, 1024), (4 * threads, 512)];
        let mut gflops: f64 = 0.0;
        for (tasks, size) in shapes {
            // The backend's own product, and that of the primitives.
            for product in [Tensor::matmul, linear::<B>] {
                gflops = gflops.max(product_gflops(product, tasks, size, &device));
            }
        }
        GemmPeak { gflops }
    }
}

fn product_gflops<B: Primitives>(
    product: fn(Tensor<B, 3>, Tensor<B, 3>) -> Tensor<B, 3>,
    tasks: usize,
    size: usize,
    device: &B::Device,
) -> f64 {
    let ones = || Tensor::<B, 3>::ones([tasks, size, size], device);
    let (left, right) = (ones(), ones());
    let flop = 2.0 * tasks as f64 * (size as f64).powi(3);
    let effort = Effort {
        tasks: None,
        steps: None,
        query: None,
        width: None,
        task_chunk: 0,
        samples: 20,
        seconds: 0.3,
        threads: 0,
        seed: 0,
    };
    let taken = samples(Taking::Samples(effort), || {
        let result = product(left.clone(), right.clone());
        wait::<B>(device);
        std::hint::black_box(result);
    });
    let fastest = taken.samples_ms.into_iter().fold(f64::INFINITY, f64::min);
    flop / (fastest * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_is_refused() {
        assert!(honoured("flex", "flex", &[DType::F32]).is_ok());
        assert!(honoured("wgpu", "fusion<cubecl<wgpu>>", &[DType::F32]).is_ok());
        let message = |result: Result<()>| {
            let failure = result.unwrap_err();
            assert_eq!(failure.exit_code(), 2);
            failure.to_string()
        };
        let other = message(honoured("flex", "ndarray", &[DType::F32]));
        assert!(other.contains("report `ndarray`"), "{other}");
        let wide = message(honoured("flex", "flex", &[DType::F32, DType::F64]));
        assert!(wide.contains("report f64"), "{wide}");
    }
}
