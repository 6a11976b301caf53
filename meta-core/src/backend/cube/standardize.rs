//! Standardisation over the rows of each task and channel, with its derivatives and pooling after it.
//!
//! Means and sums of products of differences from them are taken over chunks of rows by groups of threads,
//! merged (Chan, Golub and LeVeque, 1983), and read by one more kernel that writes the result: two or three
//! launches. With `M(a, b)` the sum of the products of the differences of `a` and `b` from their means over
//! `r` rows, `σ² = M(x, x) / r`, `ρ = 1/√(σ² + ε)`, `a = ρ M(x, g) / r` and `b = ρ M(x, u) / r`:
//!
//! ```text
//! x̂       = ρ (x − x̄)
//! J g     = ρ (g − ḡ − a x̂)
//! ∂⟨u, J g⟩/∂x = −ρ² (s x̂ + b (g − ḡ − a x̂) + a (u − ū − b x̂)),   s = M(u, g) / r − a b
//! ```
//!
//! How rows are cut follows from their number alone, so that a result does not depend on the number of
//! tasks beside it.

use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::launch::{alike, empty, groups, small, thread, threads};
use crate::primitives::{Pooling, Winners};

/// Channels that a group of threads reads beside each other.
const LANES: usize = 32;
/// Rows that it reads at a time.
const DEEP: usize = 8;
/// Rows of a chunk, at least.
const LEAST_ROWS: usize = 256;
/// Chunks of the rows of a task, at most.
const MOST_CHUNKS: usize = 64;
/// Numbers kept of a channel: means of `x`, `g`, `u`; sums of products `xx`, `xg`, `xu`, `gu`.
const KEPT: usize = 7;

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Form {
    /// Whether there is `g`, as for the adjoint.
    along: bool,
    /// Whether there is `u`, too, as for the curvature.
    twice: bool,
    /// Whether `g` is given at the winners of a pooling, and 0 elsewhere.
    scattered: bool,
}

/// Sizes that may differ from call to call.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
struct Sizes {
    tasks: u32,
    rows: u32,
    channels: u32,
    chunks: u32,
    of_chunk: u32,
    height: u32,
    width: u32,
    window: u32,
    epsilon: f32,
}

/// Merges a count, means and sums of products into those at `to`.
#[cube]
fn absorb(
    kept: &mut SharedMemory<f32>,
    to: usize,
    count: f32,
    means: (f32, f32, f32),
    products: (f32, f32, f32, f32),
    #[comptime] form: Form,
) {
    let units = comptime!(LANES * DEEP);
    let before = kept[to];
    let all = before + count;
    if count > 0.0f32 {
        let share = count / all;
        let weight = before * share;
        let x = means.0 - kept[to + units];
        kept[to] = all;
        kept[to + units] += x * share;
        kept[to + 4 * units] += products.0 + x * x * weight;
        if comptime!(form.along) {
            let g = means.1 - kept[to + 2 * units];
            kept[to + 2 * units] += g * share;
            kept[to + 5 * units] += products.1 + x * g * weight;
            if comptime!(form.twice) {
                let u = means.2 - kept[to + 3 * units];
                kept[to + 3 * units] += u * share;
                kept[to + 6 * units] += products.2 + x * u * weight;
                kept[to + 7 * units] += products.3 + g * u * weight;
            }
        }
    }
}

/// Merges what the threads of a group hold of the same channel into what the first of them holds.
#[cube]
fn merge_threads(kept: &mut SharedMemory<f32>, #[comptime] form: Form) {
    let units = comptime!(LANES * DEEP);
    let lanes = comptime!(LANES);
    let (lane, deep) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let to = deep * lanes + lane;
    #[unroll]
    for level in 0..3usize {
        let apart = comptime!(4usize >> level);
        sync_cube();
        if deep < apart {
            let from = to + apart * lanes;
            let means = (
                kept[from + units],
                kept[from + 2 * units],
                kept[from + 3 * units],
            );
            let products = (
                kept[from + 4 * units],
                kept[from + 5 * units],
                kept[from + 6 * units],
                kept[from + 7 * units],
            );
            absorb(kept, to, kept[from], means, products, form);
        }
    }
    sync_cube();
}

/// `g` at a row and channel, from what is given at the winners of windows.
#[cube]
fn at_winner(
    h: &Tensor<f32>,
    index: &Tensor<i32>,
    row: usize,
    channel: usize,
    sizes: Sizes,
) -> f32 {
    let (height, width, window) = (
        sizes.height as usize,
        sizes.width as usize,
        sizes.window as usize,
    );
    let (item, place) = (row / (height * width), row % (height * width));
    let (y, x) = (place / width / window, place % width / window);
    let (rows, columns) = (height / window, width / window);
    let mut value = 0.0f32;
    if y < rows && x < columns {
        let at = ((item * rows + y) * columns + x) * sizes.channels as usize + channel;
        if index[at] == i32::cast_from(place) {
            value = h[at];
        }
    }
    value
}

/// `g` at a row, counted over all tasks, and channel.
#[cube]
fn along(
    g: &Tensor<f32>,
    index: &Tensor<i32>,
    row: usize,
    channel: usize,
    sizes: Sizes,
    #[comptime] form: Form,
) -> f32 {
    if comptime!(form.scattered) {
        at_winner(g, index, row, channel, sizes)
    } else {
        g[row * sizes.channels as usize + channel]
    }
}

/// Writes what the first threads of a group hold to `[task, chunk, KEPT, channel]`.
#[cube]
fn write_kept(
    kept: &SharedMemory<f32>,
    out: &mut Tensor<f32>,
    of: usize,
    channel: usize,
    sizes: Sizes,
    #[comptime] form: Form,
) {
    let units = comptime!(LANES * DEEP);
    let channels = sizes.channels as usize;
    if UNIT_POS_Y == 0 && channel < channels {
        let lane = UNIT_POS_X as usize;
        #[unroll]
        for value in 0..comptime!(KEPT) {
            let needed = comptime!(match value {
                0 | 3 => true,
                1 | 4 => form.along,
                _ => form.twice,
            });
            if comptime!(needed) {
                out[(of * comptime!(KEPT) + value) * channels + channel] =
                    kept[lane + (value + 1) * units];
            }
        }
    }
}

/// Means and sums of products of each chunk of rows: `[t, chunks, KEPT, c]`.
#[cube(launch)]
fn of_chunks(
    x: &Tensor<f32>,
    g: &Tensor<f32>,
    u: &Tensor<f32>,
    index: &Tensor<i32>,
    out: &mut Tensor<f32>,
    sizes: Sizes,
    #[comptime] form: Form,
) {
    let units = comptime!(LANES * DEEP);
    let lanes = comptime!(LANES);
    let deep = comptime!(DEEP);
    let mut kept = SharedMemory::<f32>::new(comptime!(LANES * DEEP * (KEPT + 1)));
    let channels = sizes.channels as usize;
    let blocks = channels.div_ceil(lanes);
    let group = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize;
    let (of, channel) = (group / blocks, group % blocks * lanes + UNIT_POS_X as usize);
    let (task, chunk) = (of / sizes.chunks as usize, of % sizes.chunks as usize);
    if task < sizes.tasks as usize {
        let mut count = 0.0f32;
        let mut mean_x = 0.0f32;
        let mut mean_g = 0.0f32;
        let mut mean_u = 0.0f32;
        let mut xx = 0.0f32;
        let mut xg = 0.0f32;
        let mut xu = 0.0f32;
        let mut gu = 0.0f32;
        let rows = sizes.rows as usize;
        let first = chunk * sizes.of_chunk as usize;
        let mut end = first + sizes.of_chunk as usize;
        if end > rows {
            end = rows;
        }
        let mut row = first + UNIT_POS_Y as usize;
        if channel >= channels {
            row = end;
        }
        while row < end {
            let at = task * rows + row;
            count += 1.0f32;
            let share = 1.0f32 / count;
            let of_x = x[at * channels + channel] - mean_x;
            mean_x += of_x * share;
            let rest = of_x - of_x * share;
            xx += of_x * rest;
            if comptime!(form.along) {
                let of_g = along(g, index, at, channel, sizes, form) - mean_g;
                mean_g += of_g * share;
                xg += rest * of_g;
                if comptime!(form.twice) {
                    let of_u = u[at * channels + channel] - mean_u;
                    mean_u += of_u * share;
                    xu += rest * of_u;
                    gu += (of_g - of_g * share) * of_u;
                }
            }
            row += deep;
        }
        let to = UNIT_POS_Y as usize * lanes + UNIT_POS_X as usize;
        kept[to] = count;
        kept[to + units] = mean_x;
        kept[to + 2 * units] = mean_g;
        kept[to + 3 * units] = mean_u;
        kept[to + 4 * units] = xx;
        kept[to + 5 * units] = xg;
        kept[to + 6 * units] = xu;
        kept[to + 7 * units] = gu;
    }
    merge_threads(&mut kept, form);
    if task < sizes.tasks as usize {
        write_kept(&kept, out, of, channel, sizes, form);
    }
}

/// Those of all rows of each task, `[t, KEPT, c]`, from those of its chunks.
#[cube(launch)]
fn of_tasks(parts: &Tensor<f32>, out: &mut Tensor<f32>, sizes: Sizes, #[comptime] form: Form) {
    let units = comptime!(LANES * DEEP);
    let lanes = comptime!(LANES);
    let deep = comptime!(DEEP);
    let mut kept = SharedMemory::<f32>::new(comptime!(LANES * DEEP * (KEPT + 1)));
    let channels = sizes.channels as usize;
    let blocks = channels.div_ceil(lanes);
    let group = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize;
    let (task, channel) = (group / blocks, group % blocks * lanes + UNIT_POS_X as usize);
    let to = UNIT_POS_Y as usize * lanes + UNIT_POS_X as usize;
    #[unroll]
    for value in 0..8usize {
        kept[to + value * units] = 0.0f32;
    }
    if task < sizes.tasks as usize && channel < channels {
        let chunks = sizes.chunks as usize;
        let mut chunk = UNIT_POS_Y as usize;
        while chunk < chunks {
            let from = (task * chunks + chunk) * comptime!(KEPT) * channels + channel;
            let mut count = sizes.of_chunk;
            if (chunk + 1) * sizes.of_chunk as usize > sizes.rows as usize {
                count = sizes.rows - u32::cast_from(chunk) * sizes.of_chunk;
            }
            let mut along_x = 0.0f32;
            let mut xg = 0.0f32;
            let mut mean_u = 0.0f32;
            let mut xu = 0.0f32;
            let mut gu = 0.0f32;
            if comptime!(form.along) {
                along_x = parts[from + channels];
                xg = parts[from + 4 * channels];
            }
            if comptime!(form.twice) {
                mean_u = parts[from + 2 * channels];
                xu = parts[from + 5 * channels];
                gu = parts[from + 6 * channels];
            }
            let means = (parts[from], along_x, mean_u);
            let products = (parts[from + 3 * channels], xg, xu, gu);
            absorb(&mut kept, to, f32::cast_from(count), means, products, form);
            chunk += deep;
        }
    }
    merge_threads(&mut kept, form);
    if task < sizes.tasks as usize {
        write_kept(&kept, out, task, channel, sizes, form);
    }
}

/// `x̄`, `ρ` of a task and channel.
#[cube]
fn scale_of(moments: &Tensor<f32>, from: usize, sizes: Sizes) -> (f32, f32) {
    let channels = sizes.channels as usize;
    let variance = moments[from + 3 * channels] / f32::cast_from(sizes.rows);
    (moments[from], 1.0f32 / (variance + sizes.epsilon).sqrt())
}

/// The result at every row and channel.
#[cube(launch)]
fn at_rows(
    x: &Tensor<f32>,
    g: &Tensor<f32>,
    u: &Tensor<f32>,
    index: &Tensor<i32>,
    moments: &Tensor<f32>,
    out: &mut Tensor<f32>,
    sizes: Sizes,
    #[comptime] form: Form,
) {
    let at = thread();
    if at < out.len() {
        let channels = sizes.channels as usize;
        let (row, channel) = (at / channels, at % channels);
        let from = row / sizes.rows as usize * comptime!(KEPT) * channels + channel;
        let (mean, rho) = scale_of(moments, from, sizes);
        let x_hat = (x[at] - mean) * rho;
        if comptime!(form.along) {
            let rows = f32::cast_from(sizes.rows);
            let a = rho * moments[from + 4 * channels] / rows;
            let of_g = along(g, index, row, channel, sizes, form);
            let projected = of_g - moments[from + channels] - a * x_hat;
            if comptime!(form.twice) {
                let b = rho * moments[from + 5 * channels] / rows;
                let s = moments[from + 6 * channels] / rows - a * b;
                let of_u = u[at] - moments[from + 2 * channels] - b * x_hat;
                out[at] = -rho * rho * (s * x_hat + b * projected + a * of_u);
            } else {
                out[at] = rho * projected;
            }
        } else {
            out[at] = x_hat;
        }
    }
}

/// The winners of each window, `[n, h', w', c]`, and where they are in their plane.
#[cube(launch)]
fn at_windows(
    x: &Tensor<f32>,
    direction: &Tensor<f32>,
    moments: &Tensor<f32>,
    out: &mut Tensor<f32>,
    index: &mut Tensor<i32>,
    sizes: Sizes,
) {
    let at = thread();
    if at < out.len() {
        let (channels, width, window) = (
            sizes.channels as usize,
            sizes.width as usize,
            sizes.window as usize,
        );
        let height = sizes.height as usize;
        let (rows, columns) = (height / window, width / window);
        let channel = at % channels;
        let place = at / channels;
        let item = place / (rows * columns);
        let (top, left) = (place / columns % rows * window, place % columns * window);
        let task = item * height * width / sizes.rows as usize;
        let (mean, rho) = scale_of(moments, task * comptime!(KEPT) * channels + channel, sizes);
        let mut sign = 1.0f32;
        // One direction for all tasks, or one for each.
        let of_direction = (task * channels + channel) % direction.len();
        if direction[of_direction] < 0.0f32 {
            sign = -1.0f32;
        }
        let mut best = 0.0f32;
        let mut winner = top * width + left;
        for tap in 0..window * window {
            let pixel = (top + tap / window) * width + left + tap % window;
            let value =
                (x[(item * height * width + pixel) * channels + channel] - mean) * rho * sign;
            if tap == 0 {
                best = value;
            } else if value > best {
                best = value;
                winner = pixel;
            }
        }
        out[at] = best * sign;
        index[at] = i32::cast_from(winner);
    }
}

/// `J u` at the winners of windows.
#[cube(launch)]
fn tangent_at_windows(
    x: &Tensor<f32>,
    u: &Tensor<f32>,
    index: &Tensor<i32>,
    moments: &Tensor<f32>,
    out: &mut Tensor<f32>,
    sizes: Sizes,
) {
    let at = thread();
    if at < out.len() {
        let channels = sizes.channels as usize;
        let plane = (sizes.height * sizes.width) as usize;
        let windows = (sizes.height / sizes.window * (sizes.width / sizes.window)) as usize;
        let channel = at % channels;
        let row = at / channels / windows * plane + usize::cast_from(index[at]);
        let from = row / sizes.rows as usize * comptime!(KEPT) * channels + channel;
        let (mean, rho) = scale_of(moments, from, sizes);
        let x_hat = (x[row * channels + channel] - mean) * rho;
        let b = rho * moments[from + 5 * channels] / f32::cast_from(sizes.rows);
        let of_u = u[row * channels + channel] - moments[from + 2 * channels];
        out[at] = rho * (of_u - b * x_hat);
    }
}

/// The operands of one of the functions, and its sizes.
struct Call<R: CubeRuntime> {
    x: CubeTensor<R>,
    g: Option<CubeTensor<R>>,
    u: Option<CubeTensor<R>>,
    index: Option<CubeTensor<R>>,
    pooling: Option<Pooling>,
    /// Tasks, rows of each, channels.
    shape: [usize; 3],
    epsilon: f64,
}

impl<R: CubeRuntime> Call<R> {
    /// Of `x [t, r, c]` alone.
    fn new(x: CubeTensor<R>, epsilon: f64) -> Self {
        Call {
            shape: x.shape().dims(),
            x: into_contiguous(x),
            g: None,
            u: None,
            index: None,
            pooling: None,
            epsilon,
        }
    }

    /// Of the images of so many tasks.
    fn of_images(tasks: usize, pooling: &Pooling, x: CubeTensor<R>, epsilon: f64) -> Self {
        let rows = pooling.items / tasks * pooling.height * pooling.width;
        Call {
            x: into_contiguous(x),
            g: None,
            u: None,
            index: None,
            pooling: Some(*pooling),
            shape: [tasks, rows, pooling.channels],
            epsilon,
        }
    }

    fn form(&self) -> Form {
        Form {
            along: self.g.is_some(),
            twice: self.u.is_some(),
            scattered: self.index.is_some(),
        }
    }

    /// Into how many chunks the rows of a task are cut, and the rows of each but the last.
    fn chunks(&self) -> (usize, usize) {
        let rows = self.shape[1];
        let chunks = (rows / LEAST_ROWS).clamp(1, MOST_CHUNKS);
        let of_chunk = rows.div_ceil(chunks).max(1);
        (rows.div_ceil(of_chunk).max(1), of_chunk)
    }

    fn sizes(&self) -> SizesLaunch<R> {
        let [tasks, rows, channels] = self.shape.map(small);
        let (chunks, of_chunk) = self.chunks();
        let (height, width, window) = match &self.pooling {
            Some(pooling) => (pooling.height, pooling.width, pooling.size),
            None => (1, 1, 1),
        };
        let [height, width, window] = [height, width, window].map(small);
        SizesLaunch::new(
            tasks,
            rows,
            channels,
            small(chunks),
            small(of_chunk),
            height,
            width,
            window,
            self.epsilon as f32,
        )
    }

    /// An operand, or one of no use where there is none.
    fn some(&self, operand: &Option<CubeTensor<R>>, dtype: DType) -> CubeTensor<R> {
        match operand {
            Some(operand) => operand.clone(),
            None if dtype == DType::F32 => self.x.clone(),
            None => empty(&self.x, [1], dtype),
        }
    }

    /// Means and sums of products, `[t, KEPT, c]`.
    fn moments(&self) -> CubeTensor<R> {
        let [tasks, _, channels] = self.shape;
        let (client, form, (chunks, _)) = (self.x.client.clone(), self.form(), self.chunks());
        let units = CubeDim::new_2d(LANES as u32, DEEP as u32);
        let blocks = channels.div_ceil(LANES);
        let parts = empty(&self.x, [tasks * chunks, KEPT, channels], DType::F32);
        let [g, u] = [&self.g, &self.u].map(|operand| self.some(operand, DType::F32));
        of_chunks::launch::<R>(
            &client,
            groups(tasks * chunks * blocks),
            units,
            self.x.clone().into_tensor_arg(),
            g.into_tensor_arg(),
            u.into_tensor_arg(),
            self.some(&self.index, DType::I32).into_tensor_arg(),
            parts.clone().into_tensor_arg(),
            self.sizes(),
            form,
        );
        if chunks == 1 {
            return parts;
        }
        let all = empty(&self.x, [tasks, KEPT, channels], DType::F32);
        of_tasks::launch::<R>(
            &client,
            groups(tasks * blocks),
            units,
            parts.into_tensor_arg(),
            all.clone().into_tensor_arg(),
            self.sizes(),
            form,
        );
        all
    }

    /// The result at every row, of the shape of `x`.
    fn at_rows(&self, moments: &CubeTensor<R>) -> CubeTensor<R> {
        let out = alike(&self.x);
        let (count, units) = threads(self.shape.iter().product());
        let [g, u] = [&self.g, &self.u].map(|operand| self.some(operand, DType::F32));
        at_rows::launch::<R>(
            &self.x.client,
            count,
            units,
            self.x.clone().into_tensor_arg(),
            g.into_tensor_arg(),
            u.into_tensor_arg(),
            self.some(&self.index, DType::I32).into_tensor_arg(),
            moments.clone().into_tensor_arg(),
            out.clone().into_tensor_arg(),
            self.sizes(),
            self.form(),
        );
        out
    }
}

/// See [`crate::primitives::Primitives::standardize`].
pub fn standardize<R: CubeRuntime>(x: CubeTensor<R>, epsilon: f64) -> CubeTensor<R> {
    let call = Call::new(x, epsilon);
    call.at_rows(&call.moments())
}

/// See [`crate::primitives::Primitives::standardize_adjoint`].
pub fn standardize_adjoint<R: CubeRuntime>(
    x: CubeTensor<R>,
    g: CubeTensor<R>,
    epsilon: f64,
) -> CubeTensor<R> {
    let call = Call {
        g: Some(into_contiguous(g)),
        ..Call::new(x, epsilon)
    };
    call.at_rows(&call.moments())
}

/// See [`crate::primitives::Primitives::standardize_curvature`].
pub fn standardize_curvature<R: CubeRuntime>(
    x: CubeTensor<R>,
    g: CubeTensor<R>,
    u: CubeTensor<R>,
    epsilon: f64,
) -> CubeTensor<R> {
    let call = Call {
        g: Some(into_contiguous(g)),
        u: Some(into_contiguous(u)),
        ..Call::new(x, epsilon)
    };
    call.at_rows(&call.moments())
}

/// See [`crate::primitives::Primitives::standardize_pool`].
pub fn standardize_pool<R: CubeRuntime>(
    pooling: &Pooling,
    x: CubeTensor<R>,
    direction: CubeTensor<R>,
    epsilon: f64,
) -> (CubeTensor<R>, Winners<CubeTensor<R>>) {
    let tasks = x.shape()[0];
    let call = Call::of_images(tasks, pooling, x, epsilon);
    let moments = call.moments();
    let (height, width) = (pooling.out_height(), pooling.out_width());
    let items = pooling.items / tasks;
    let out = empty(
        &call.x,
        [tasks, items, height, width, pooling.channels],
        DType::F32,
    );
    let index = empty(
        &call.x,
        [pooling.items, height, width, pooling.channels],
        DType::I32,
    );
    let (count, units) = threads(out.shape().num_elements());
    at_windows::launch::<R>(
        &call.x.client,
        count,
        units,
        call.x.clone().into_tensor_arg(),
        into_contiguous(direction).into_tensor_arg(),
        moments.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        index.clone().into_tensor_arg(),
        call.sizes(),
    );
    let winners = Winners {
        pooling: *pooling,
        tasks,
        epsilon,
        index,
        moments: None,
    };
    (out, winners)
}

/// See [`crate::primitives::Primitives::standardize_pool_adjoint`].
pub fn standardize_pool_adjoint<R: CubeRuntime>(
    winners: &Winners<CubeTensor<R>>,
    x: CubeTensor<R>,
    h: CubeTensor<R>,
) -> CubeTensor<R> {
    let call = Call {
        g: Some(into_contiguous(h)),
        index: Some(into_contiguous(winners.index.clone())),
        ..Call::of_images(winners.tasks, &winners.pooling, x, winners.epsilon)
    };
    call.at_rows(&call.moments())
}

/// See [`crate::primitives::Primitives::standardize_pool_curvature`].
pub fn standardize_pool_curvature<R: CubeRuntime>(
    winners: &Winners<CubeTensor<R>>,
    x: CubeTensor<R>,
    h: CubeTensor<R>,
    u: CubeTensor<R>,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let (u, h) = (into_contiguous(u), into_contiguous(h));
    let index = into_contiguous(winners.index.clone());
    let call = Call {
        g: Some(h.clone()),
        u: Some(u.clone()),
        index: Some(index.clone()),
        ..Call::of_images(winners.tasks, &winners.pooling, x, winners.epsilon)
    };
    let moments = call.moments();
    let along_x = call.at_rows(&moments);
    let along_h = alike(&h);
    let (count, units) = threads(h.shape().num_elements());
    tangent_at_windows::launch::<R>(
        &call.x.client,
        count,
        units,
        call.x.clone().into_tensor_arg(),
        u.into_tensor_arg(),
        index.into_tensor_arg(),
        moments.into_tensor_arg(),
        along_h.clone().into_tensor_arg(),
        call.sizes(),
    );
    (along_x, along_h)
}
