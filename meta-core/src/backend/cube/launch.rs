//! Tensors and numbers of threads, as launches need them.

use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, prelude::*},
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

/// Groups along the first axis of a launch, at most.
const MOST_GROUPS: u32 = 1 << 15;

/// Threads of a group of element-wise kernels.
const UNITS: u32 = 256;

/// So many groups, along two axes where one is too short.
pub fn groups(count: usize) -> CubeCount {
    let count = small(count);
    let along = count.clamp(1, MOST_GROUPS);
    CubeCount::Static(along, count.div_ceil(along).max(1), 1)
}

/// A thread for each of `count` numbers.
pub fn threads(count: usize) -> (CubeCount, CubeDim) {
    (
        groups(count.div_ceil(UNITS as usize)),
        CubeDim::new_1d(UNITS),
    )
}

/// A size as kernels take it.
pub fn small(size: usize) -> u32 {
    u32::try_from(size).expect("a tensor's size")
}

/// Whether the kernels for numbers of single precision take these tensors.
pub fn single<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> bool {
    tensors.iter().all(|tensor| tensor.dtype == DType::F32)
}

/// A new tensor of this shape.
pub fn empty<R: CubeRuntime, const D: usize>(
    like: &CubeTensor<R>,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor<R> {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, Shape::new(shape), dtype)
}

/// A new tensor of the same shape.
pub fn alike<R: CubeRuntime>(like: &CubeTensor<R>) -> CubeTensor<R> {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, like.shape(), like.dtype)
}

/// The number of this thread.
#[cube]
pub fn thread() -> usize {
    let group = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize;
    group * CUBE_DIM_X as usize + UNIT_POS_X as usize
}

/// The sums of the parts of every number.
#[cube(launch)]
fn sum_parts(parts: &Tensor<f32>, out: &mut Tensor<f32>, count: u32) {
    let at = thread();
    if at < out.len() {
        let mut sum = parts[at];
        for part in 1..count as usize {
            sum += parts[part * out.len() + at];
        }
        out[at] = sum;
    }
}

/// Adds the parts `[parts, …]` of `count` numbers.
pub fn add_parts<R: CubeRuntime>(
    client: &ComputeClient<R>,
    parts: CubeTensor<R>,
    out: &CubeTensor<R>,
    number: usize,
    count: usize,
) {
    let (groups, units) = threads(count);
    sum_parts::launch::<R>(
        client,
        groups,
        units,
        parts.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        small(number),
    );
}

/// The first along the first axis, where all along it lie at one place in memory: what tasks share until
/// they have taken a step.
pub fn one_of_copies<R: CubeRuntime>(mut tensor: CubeTensor<R>) -> CubeTensor<R> {
    if tensor.meta.strides[0] == 0 && tensor.meta.shape[0] > 1 {
        tensor.meta.shape[0] = 1;
    }
    tensor
}
