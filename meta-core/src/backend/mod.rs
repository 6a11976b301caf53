//! A backend's name and its type: the only file with a `cfg(feature)` for backends.
//!
//! Each backend's primitives are in a file of its own beside this one; everything else is generic over
//! [`Primitives`]. A program that learns at run time where to compute (backend, device, precision: a
//! [`ComputeTarget`]) implements [`WithBackend`] and calls [`dispatch`]. Asking for a backend that is not
//! compiled in names the cargo feature; a device that is not there and a precision that would not be
//! honoured are refused before anything is computed; an accelerator that fails later is an error, not
//! a panic.

/// Primitives of so many tensors and at most one more argument: by a kernel in single precision, else by
/// the composition.
#[allow(unused_macros)]
macro_rules! by_kernels {
    ($($name:ident($($tensor:ident),+ $(; $other:ident: $type:ty)?);)+) => {
        $(
            #[cfg(not(feature = "fusion"))]
            fn $name(
                $($tensor: burn::tensor::ops::FloatTensor<Self>,)+
                $($other: $type,)?
            ) -> burn::tensor::ops::FloatTensor<Self> {
                if super::cube::single(&[$(&$tensor),+]) {
                    super::cube::$name($($tensor,)+ $($other)?)
                } else {
                    crate::primitives::portable::$name::<Self>($($tensor,)+ $($other)?)
                }
            }
        )+
    };
}

/// What a backend of CubeCL's does itself: [`Primitives::device_memory`], and kernels for what takes many
/// launches. Tensors that are fused do not lead to it.
#[allow(unused_macros)]
macro_rules! cube_primitives {
    () => {
        const ON_DEVICE: bool = true;

        #[cfg(not(feature = "fusion"))]
        fn recur(
            form: &crate::primitives::Recurrence,
            inputs: crate::primitives::RecurrenceInputs<burn::tensor::ops::FloatTensor<Self>>,
            keep: bool,
        ) -> (
            burn::tensor::ops::FloatTensor<Self>,
            Option<burn::tensor::ops::FloatTensor<Self>>,
        ) {
            if super::cube::computes(form, inputs.z.dtype) {
                super::cube::recur(form, inputs, keep)
            } else {
                (
                    crate::primitives::portable::recur::<Self>(form, inputs),
                    None,
                )
            }
        }

        #[cfg(not(feature = "fusion"))]
        fn recur_adjoint(
            form: &crate::primitives::Recurrence,
            run: crate::primitives::RecurrenceRun<burn::tensor::ops::FloatTensor<Self>>,
            g: burn::tensor::ops::FloatTensor<Self>,
            along_start: bool,
            keep: bool,
        ) -> crate::primitives::RecurrenceGradient<burn::tensor::ops::FloatTensor<Self>> {
            use crate::primitives::portable;
            if super::cube::computes(form, g.dtype) {
                let transposed = portable::transposed_weight::<Self>(form, &run.inputs.u);
                super::cube::recur_adjoint(form, run, transposed, g, along_start, keep)
            } else {
                portable::recur_adjoint::<Self>(form, run, g, along_start)
            }
        }

        #[cfg(not(feature = "fusion"))]
        fn recur_curvature(
            form: &crate::primitives::Recurrence,
            run: crate::primitives::RecurrenceRun<burn::tensor::ops::FloatTensor<Self>>,
            g: burn::tensor::ops::FloatTensor<Self>,
            gradient: crate::primitives::RecurrenceGradient<burn::tensor::ops::FloatTensor<Self>>,
            direction: crate::primitives::RecurrenceGradient<burn::tensor::ops::FloatTensor<Self>>,
        ) -> crate::primitives::RecurrenceCurvature<burn::tensor::ops::FloatTensor<Self>> {
            if super::cube::computes(form, g.dtype) {
                super::cube::recur_curvature(form, run, gradient, direction)
            } else {
                crate::primitives::portable::recur_curvature::<Self>(form, run, g, direction)
            }
        }

        by_kernels! {
            standardize(x; epsilon: f64);
            standardize_adjoint(x, g; epsilon: f64);
            standardize_curvature(x, g, u; epsilon: f64);
            layer_standardize(x; epsilon: f64);
            layer_standardize_adjoint(x, g; epsilon: f64);
            layer_standardize_curvature(x, g, u; epsilon: f64);
            scaled_softmax(x; factor: f64);
            scaled_softmax_adjoint(p, g; factor: f64);
            scaled_softmax_curvature(p, g, u; factor: f64);
            sgd_step(theta, g; rate: f64);
            gate(y, g);
            adam_direction(m, v; corrections: &crate::primitives::AdamCorrections);
        }

        #[cfg(not(feature = "fusion"))]
        fn contract(
            form: &crate::primitives::TrilinearForm,
            wanted: crate::primitives::Role,
            left: burn::tensor::ops::FloatTensor<Self>,
            right: burn::tensor::ops::FloatTensor<Self>,
        ) -> burn::tensor::ops::FloatTensor<Self> {
            if super::cube::single(&[&left, &right]) {
                super::cube::contract(form, wanted, left, right)
            } else {
                crate::primitives::portable::contract::<Self>(form, wanted, left, right)
            }
        }

        #[cfg(not(feature = "fusion"))]
        fn bias_relu(
            map: &crate::primitives::LinearMap<burn::tensor::ops::IntTensor<Self>>,
            x: burn::tensor::ops::FloatTensor<Self>,
            b: burn::tensor::ops::FloatTensor<Self>,
        ) -> burn::tensor::ops::FloatTensor<Self> {
            if super::cube::single(&[&x, &b]) {
                super::cube::bias_relu(x, b)
            } else {
                crate::primitives::portable::bias_relu::<Self>(map, x, b)
            }
        }

        #[cfg(not(feature = "fusion"))]
        fn standardize_pool(
            pooling: &crate::primitives::Pooling,
            x: burn::tensor::ops::FloatTensor<Self>,
            direction: burn::tensor::ops::FloatTensor<Self>,
            epsilon: f64,
        ) -> (
            burn::tensor::ops::FloatTensor<Self>,
            crate::primitives::Winners<burn::tensor::ops::IntTensor<Self>>,
        ) {
            if super::cube::single(&[&x, &direction]) {
                super::cube::standardize_pool(pooling, x, direction, epsilon)
            } else {
                crate::primitives::portable::standardize_pool::<Self>(
                    pooling, x, direction, epsilon,
                )
            }
        }

        #[cfg(not(feature = "fusion"))]
        fn standardize_pool_adjoint(
            winners: &crate::primitives::Winners<burn::tensor::ops::IntTensor<Self>>,
            x: burn::tensor::ops::FloatTensor<Self>,
            _p: burn::tensor::ops::FloatTensor<Self>,
            h: burn::tensor::ops::FloatTensor<Self>,
        ) -> burn::tensor::ops::FloatTensor<Self> {
            if super::cube::single(&[&x, &h]) {
                super::cube::standardize_pool_adjoint(winners, x, h)
            } else {
                crate::primitives::portable::standardize_pool_adjoint::<Self>(winners, x, h)
            }
        }

        #[cfg(not(feature = "fusion"))]
        fn standardize_pool_curvature(
            winners: &crate::primitives::Winners<burn::tensor::ops::IntTensor<Self>>,
            x: burn::tensor::ops::FloatTensor<Self>,
            _p: burn::tensor::ops::FloatTensor<Self>,
            h: burn::tensor::ops::FloatTensor<Self>,
            u: burn::tensor::ops::FloatTensor<Self>,
        ) -> (
            burn::tensor::ops::FloatTensor<Self>,
            burn::tensor::ops::FloatTensor<Self>,
        ) {
            if super::cube::single(&[&x, &h, &u]) {
                super::cube::standardize_pool_curvature(winners, x, h, u)
            } else {
                crate::primitives::portable::standardize_pool_curvature::<Self>(winners, x, h, u)
            }
        }

        #[cfg(not(feature = "fusion"))]
        fn map_adjoint(
            map: &crate::primitives::LinearMap<burn::tensor::ops::IntTensor<Self>>,
            y: burn::tensor::ops::FloatTensor<Self>,
        ) -> burn::tensor::ops::FloatTensor<Self> {
            use crate::primitives::{LinearMap, portable};
            match map {
                LinearMap::BroadcastRows {
                    source_tasks,
                    channels,
                    ..
                } if super::cube::single(&[&y]) => {
                    super::cube::sum_rows(y, None, *source_tasks, *channels)
                }
                _ => portable::map_adjoint::<Self>(map, y),
            }
        }

        #[cfg(not(feature = "fusion"))]
        fn average(
            m: Option<burn::tensor::ops::FloatTensor<Self>>,
            g: burn::tensor::ops::FloatTensor<Self>,
            decay: f64,
            squared: bool,
        ) -> burn::tensor::ops::FloatTensor<Self> {
            if super::cube::single(&[m.as_ref().unwrap_or(&g), &g]) {
                super::cube::average(m, g, decay, squared)
            } else {
                crate::primitives::portable::average::<Self>(m, g, decay, squared)
            }
        }

        #[cfg(not(feature = "fusion"))]
        fn device_memory(device: &Self::Device) -> Option<u64> {
            use burn::tensor::Tensor;
            let tensor = Tensor::<Self, 1>::zeros([1], device).into_primitive();
            let usage = tensor.tensor().client.memory_usage().ok()?;
            Some(usage.bytes_reserved)
        }
    };
}

#[cfg(any(feature = "wgpu", feature = "vulkan"))]
mod adapters;
#[cfg(all(
    any(
        feature = "wgpu",
        feature = "vulkan",
        feature = "cuda",
        feature = "rocm"
    ),
    not(feature = "fusion")
))]
mod cube;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "ndarray")]
mod ndarray;
#[cfg(feature = "rocm")]
mod rocm;
#[cfg(feature = "tch")]
mod tch;
#[cfg(feature = "vulkan")]
mod vulkan;
#[cfg(feature = "wgpu")]
mod wgpu;

use burn::tensor::{DType, Element, FloatDType, Tensor, get_device_settings, set_default_dtypes};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, device::watched, primitives::Primitives};

/// Floating-point format of all tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE single: 24 bits of mantissa.
    #[default]
    F32,
    /// IEEE double: 53 bits.
    F64,
    /// IEEE half: 11 bits, largest number 65504.
    F16,
    /// Brain float: 8 bits, the range of `f32`.
    Bf16,
}

impl Precision {
    /// Its name in manifests: `f32`, `f64`, `f16`, `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F64 => "f64",
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
        }
    }

    /// Whether meta-gradients can be trusted in it: the small formats are for evaluation.
    pub fn trains(self) -> bool {
        matches!(self, Precision::F32 | Precision::F64)
    }

    fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::F64 => DType::F64,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        }
    }
}

/// Where to compute, and in which precision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeTarget {
    /// Name of the backend.
    pub backend: String,
    /// Number of the device, from 0; the backend's order.
    pub device: usize,
    /// Format of the tensors.
    pub precision: Precision,
}

impl ComputeTarget {
    /// The first device of a backend, in `f32`.
    pub fn of(backend: &str) -> Self {
        ComputeTarget {
            backend: backend.to_owned(),
            ..ComputeTarget::default()
        }
    }
}

/// A backend that the toolkit knows, compiled in or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// Its name in manifests and on the command line.
    pub name: &'static str,
    /// The cargo feature that compiles it in.
    pub feature: &'static str,
    /// One line on what it is.
    pub summary: &'static str,
    /// What must be installed for it to find a device.
    pub needs: &'static str,
    /// Whether it computes on a device of its own, with memory of its own.
    pub accelerator: bool,
    /// Whether this build contains it.
    pub compiled: bool,
}

/// Lists the backends, and runs a computation on the one that is named.
macro_rules! backends {
    ($($name:literal, feature $feature:literal, $accelerator:literal, $type:ty, $summary:literal,
       $needs:literal;)+) => {
        /// All backends the toolkit knows.
        pub fn backends() -> Vec<BackendInfo> {
            vec![$(BackendInfo {
                name: $name,
                feature: $feature,
                summary: $summary,
                needs: $needs,
                accelerator: $accelerator,
                compiled: cfg!(feature = $feature),
            }),+]
        }

        /// Runs `computation` on a target.
        ///
        /// # Errors
        /// As [`check`]; [`Error::Backend`] when the device is not there or does not compute in the
        /// precision; [`Error::Device`] when an accelerator fails while it computes.
        pub fn dispatch<W: WithBackend>(target: &ComputeTarget, computation: W) -> Result<W::Output> {
            let info = check(&target.backend)?;
            match info.name {
                $(
                    #[cfg(feature = $feature)]
                    $name => open::<$type, W>(&info, target, computation),
                )+
                other => unreachable!("backend {other} passed the check but is not in this build"),
            }
        }
    };
}

backends! {
    "flex", feature "flex", false, burn_flex::Flex,
        "Burn's CPU backend, with this toolkit's own kernels", "nothing";
    "ndarray", feature "ndarray", false, burn_ndarray::NdArray<f32>,
        "CPU through the ndarray crate, with this toolkit's own kernels", "nothing";
    "wgpu", feature "wgpu", true, burn_wgpu::Wgpu<f32, i32>,
        "any GPU, through Vulkan, Metal, DX12 or WebGPU (WGSL)",
        "a graphics driver (Debian without a GPU: mesa-vulkan-drivers)";
    "vulkan", feature "vulkan", true, burn_wgpu::Vulkan<f32, i32>,
        "any GPU with a Vulkan driver (SPIR-V)",
        "a Vulkan driver (Debian without a GPU: mesa-vulkan-drivers)";
    "cuda", feature "cuda", true, burn_cuda::Cuda<f32, i32>,
        "NVIDIA GPUs, through CUDA", "an NVIDIA driver and the CUDA toolkit (NVRTC)";
    "rocm", feature "rocm", true, burn_rocm::Rocm<f32, i32>,
        "AMD GPUs, through ROCm's HIP", "ROCm";
    "tch", feature "tch", false, burn_tch::LibTorch<f32>,
        "libtorch, PyTorch's C++ library, on CPU", "libtorch 2.9, found by LIBTORCH when built and run";
}

/// The cargo features of this build that change how backends compute.
pub fn options() -> impl Iterator<Item = &'static str> {
    [
        ("fusion", cfg!(feature = "fusion")),
        ("autotune", cfg!(feature = "autotune")),
        ("avx512", cfg!(feature = "avx512")),
        ("parquet", cfg!(feature = "parquet")),
        ("tokenizers", cfg!(feature = "tokenizers")),
    ]
    .into_iter()
    .filter_map(|(name, compiled)| compiled.then_some(name))
}

/// What a backend's file tells beside its primitives.
#[allow(dead_code)] // A build without backends has no implementation.
trait Compute: Primitives {
    /// The device of this number; none where there are not as many.
    fn device(number: usize) -> Option<Self::Device>;

    /// Whether the backend's kernels compute in this precision on the device.
    fn computes(precision: Precision, device: &Self::Device) -> bool {
        Self::supports_dtype(device, precision.dtype())
    }
}

/// Runs `computation` on the backend `B`, when it has the device and the precision.
#[allow(dead_code)]
fn open<B: Compute, W: WithBackend>(
    info: &BackendInfo,
    target: &ComputeTarget,
    computation: W,
) -> Result<W::Output> {
    let refuse = |reason: String| Error::Backend {
        name: info.name.to_owned(),
        reason,
    };
    if !info.accelerator {
        let device = find::<B>(target).map_err(refuse)?;
        return Ok(computation.run::<B>(device));
    }
    let device = watched(|| find::<B>(target))
        .unwrap_or_else(|panic| Err(format!("finds no device: {panic}; it needs {}", info.needs)))
        .map_err(refuse)?;
    watched(|| computation.run::<B>(device)).map_err(|reason| Error::Device {
        backend: info.name.to_owned(),
        reason,
    })
}

/// The device of a target, with its precision in place, or why not.
#[allow(dead_code)]
fn find<B: Compute>(target: &ComputeTarget) -> Result<B::Device, String> {
    let (number, precision) = (target.device, target.precision);
    let device = B::device(number).ok_or_else(|| {
        let count = (0..).take_while(|&n| B::device(n).is_some()).count();
        format!(
            "has no `device = {number}`; the devices here are 0 to {}",
            count.saturating_sub(1)
        )
    })?;
    if !B::computes(precision, &device) {
        let known = [
            Precision::F32,
            Precision::F64,
            Precision::F16,
            Precision::Bf16,
        ];
        let known: Vec<&str> = known
            .into_iter()
            .filter(|&precision| B::computes(precision, &device))
            .map(Precision::name)
            .collect();
        return Err(format!(
            "does not compute in `precision = {}` on {device:?}; known: {}",
            precision.name(),
            known.join(", ")
        ));
    }
    let wanted = FloatDType::from(precision.dtype());
    let integers = <B::IntElem as Element>::dtype();
    let set = set_default_dtypes::<B>(&device, wanted, integers);
    let now = get_device_settings::<B>(&device).float_dtype;
    if now != wanted {
        let why = set.map_or_else(|error| error.to_string(), |()| "it took another".to_owned());
        return Err(format!(
            "does not take {} as its precision: {why}",
            precision.name()
        ));
    }
    // What is honoured is what a tensor says, after a computation.
    let probe = Tensor::<B, 1>::ones([1], &device)
        .mul_scalar(2.0)
        .into_data();
    if probe.dtype == precision.dtype() && probe.iter::<f32>().eq([2.0]) {
        Ok(device)
    } else {
        Err(format!(
            "computes in {:?} where {} was asked for",
            probe.dtype,
            precision.name()
        ))
    }
}

/// The CPU backend that tests and examples use: flex where it is compiled in, else ndarray.
#[cfg(feature = "flex")]
pub type Cpu = burn_flex::Flex;

/// The CPU backend that tests and examples use: flex where it is compiled in, else ndarray.
#[cfg(all(feature = "ndarray", not(feature = "flex")))]
pub type Cpu = burn_ndarray::NdArray<f32>;

/// A computation that is generic over the backend, to be run on the one a name stands for.
pub trait WithBackend {
    /// What the computation returns.
    type Output;

    /// Runs on the backend `B`.
    fn run<B: Primitives>(self, device: B::Device) -> Self::Output;
}

/// Checks that `name` is a backend of this build.
///
/// # Errors
/// [`Error::Unknown`] for a name the toolkit does not know, [`Error::Backend`] for one that is not
/// compiled in, naming the feature.
pub fn check(name: &str) -> Result<BackendInfo> {
    let all = backends();
    let info = all
        .iter()
        .copied()
        .find(|info| info.name == name)
        .ok_or_else(|| Error::unknown("backend", name, all.iter().map(|info| info.name)))?;
    if info.compiled {
        Ok(info)
    } else {
        Err(Error::Backend {
            name: name.to_owned(),
            reason: format!(
                "is not compiled into this binary; build with `--features {}`",
                info.feature
            ),
        })
    }
}

/// Runs `computation` on a CPU backend of this build, which computes in f64 as well: flex where it is
/// compiled in, else ndarray.
///
/// # Errors
/// As [`check`], where neither is.
pub fn on_cpu<W: WithBackend>(computation: W) -> Result<W::Output> {
    #[cfg(any(feature = "flex", feature = "ndarray"))]
    return Ok(computation.run::<Cpu>(Default::default()));
    #[cfg(not(any(feature = "flex", feature = "ndarray")))]
    {
        drop(computation);
        Err(check("flex").expect_err("flex is not compiled in"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_backend_suggests_the_nearest() {
        let message = check("flexx").unwrap_err().to_string();
        assert!(message.contains("did you mean `flex`"), "{message}");
    }

    #[test]
    fn an_absent_backend_names_its_feature() {
        for info in backends().into_iter().filter(|info| !info.compiled) {
            let message = check(info.name).unwrap_err().to_string();
            assert!(
                message.contains(&format!("--features {}", info.feature)),
                "{message}"
            );
        }
    }
}
