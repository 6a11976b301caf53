//! Sums over rows.

use burn::tensor::DType;
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::launch::{add_parts, empty, groups, small};

/// Channels that a group of threads reads beside each other.
const LANES: usize = 32;
/// Rows that it reads at a time.
const DEEP: usize = 8;
/// Rows of a sum that is not cut.
const LONGEST: usize = 256;
/// Parts of a sum, at most.
const MOST_PARTS: usize = 64;

/// Sums of a part of the rows of each channel: `[parts, t, c]`.
#[cube(launch)]
fn of_parts(
    x: &Tensor<f32>,
    y: &Tensor<f32>,
    out: &mut Tensor<f32>,
    tasks: u32,
    rows: u32,
    channels: u32,
    of_part: u32,
    #[comptime] products: bool,
) {
    let lanes = comptime!(LANES);
    let deep = comptime!(DEEP);
    let mut shared = SharedMemory::<f32>::new(comptime!(LANES * DEEP));
    let (channels, rows, tasks) = (channels as usize, rows as usize, tasks as usize);
    let blocks = channels.div_ceil(lanes);
    let group = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize;
    let (of, channel) = (group / blocks, group % blocks * lanes + UNIT_POS_X as usize);
    let (part, task) = (of / tasks, of % tasks);
    let mut row = part * of_part as usize;
    let mut end = row + of_part as usize;
    if end > rows {
        end = rows;
    }
    if channel >= channels {
        end = row;
    }
    row += UNIT_POS_Y as usize;
    let mut sum = 0.0f32;
    while row < end {
        let at = (task * rows + row) * channels + channel;
        if comptime!(products) {
            sum += x[at] * y[at];
        } else {
            sum += x[at];
        }
        row += deep;
    }
    let to = UNIT_POS_Y as usize * lanes + UNIT_POS_X as usize;
    shared[to] = sum;
    #[unroll]
    for level in 0..3usize {
        let apart = comptime!(4usize >> level);
        sync_cube();
        if (UNIT_POS_Y as usize) < apart {
            let other = shared[to + apart * lanes];
            shared[to] += other;
        }
    }
    sync_cube();
    if UNIT_POS_Y == 0 && channel < channels {
        let at = (part * tasks + task) * channels + channel;
        if at < out.len() {
            out[at] = shared[to];
        }
    }
}

/// `Σᵣ xᵣ`, or `Σᵣ xᵣ yᵣ`, over the rows of `tasks` tasks: `[tasks, 1, channels]`.
pub fn rows<R: CubeRuntime>(
    x: CubeTensor<R>,
    y: Option<CubeTensor<R>>,
    tasks: usize,
    channels: usize,
) -> CubeTensor<R> {
    let x = into_contiguous(x);
    let products = y.is_some();
    let y = y.map_or_else(|| x.clone(), into_contiguous);
    let count = tasks * channels;
    let rows = burn::tensor::TensorMetadata::shape(&x).num_elements() / count.max(1);
    let most = (rows / LONGEST).clamp(1, MOST_PARTS);
    let of_part = rows.div_ceil(most).max(1);
    let parts = rows.div_ceil(of_part).max(1);
    let out = empty(&x, [tasks, 1, channels], DType::F32);
    let target = match parts {
        1 => out.clone(),
        parts => empty(&x, [parts, tasks, channels], DType::F32),
    };
    let client = x.client.clone();
    of_parts::launch::<R>(
        &client,
        groups(parts * tasks * channels.div_ceil(LANES)),
        CubeDim::new_2d(LANES as u32, DEEP as u32),
        x.into_tensor_arg(),
        y.into_tensor_arg(),
        target.clone().into_tensor_arg(),
        small(tasks),
        small(rows),
        small(channels),
        small(of_part),
        products,
    );
    if parts > 1 {
        add_parts(&client, target, &out, parts, count);
    }
    out
}
