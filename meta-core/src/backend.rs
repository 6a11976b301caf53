//! A backend's name and its type: the only file with a `cfg(feature)` for backends.
//!
//! Each backend's primitives are in a file of its own beside this one; everything else is generic over
//! [`Primitives`]. A program that learns the backend's name at run
//! time implements [`WithBackend`] and calls [`dispatch`]; asking for a backend that is not compiled
//! in names the cargo feature that enables it.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "ndarray")]
mod ndarray;
#[cfg(feature = "wgpu")]
mod wgpu;

use crate::{Error, Result, primitives::Primitives};

/// A backend that the toolkit knows, compiled in or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// Its name in manifests and on the command line.
    pub name: &'static str,
    /// The cargo feature that compiles it in.
    pub feature: &'static str,
    /// One line on what it is.
    pub summary: &'static str,
    /// Whether this build contains it.
    pub compiled: bool,
}

/// All backends the toolkit knows.
pub fn backends() -> [BackendInfo; 4] {
    [
        BackendInfo {
            name: "flex",
            feature: "flex",
            summary: "Burn's CPU backend, with this toolkit's own kernels",
            compiled: cfg!(feature = "flex"),
        },
        BackendInfo {
            name: "ndarray",
            feature: "ndarray",
            summary: "CPU through the ndarray crate, with this toolkit's own kernels",
            compiled: cfg!(feature = "ndarray"),
        },
        BackendInfo {
            name: "wgpu",
            feature: "wgpu",
            summary: "any GPU, through Vulkan, Metal, DX12 or WebGPU",
            compiled: cfg!(feature = "wgpu"),
        },
        BackendInfo {
            name: "cuda",
            feature: "cuda",
            summary: "NVIDIA GPUs, through CUDA",
            compiled: cfg!(feature = "cuda"),
        },
    ]
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
        .into_iter()
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

/// Runs `computation` on the backend called `name`, on its default device.
///
/// # Errors
/// As [`check`].
pub fn dispatch<W: WithBackend>(name: &str, computation: W) -> Result<W::Output> {
    let info = check(name)?;
    match info.name {
        #[cfg(feature = "flex")]
        "flex" => Ok(computation.run::<burn_flex::Flex>(Default::default())),
        #[cfg(feature = "ndarray")]
        "ndarray" => Ok(computation.run::<burn_ndarray::NdArray<f32>>(Default::default())),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(computation.run::<burn_wgpu::Wgpu<f32, i32>>(Default::default())),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(computation.run::<burn_cuda::Cuda<f32, i32>>(Default::default())),
        other => unreachable!("backend {other} passed the check but is not in this build"),
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
