//! One pass over a tensor where a composition takes two.

use burn::tensor::TensorMetadata;
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use crate::primitives::AdamCorrections;

use super::launch::{alike, one_of_copies, small, thread, threads};

#[cube(launch)]
fn descend(theta: &Tensor<f32>, g: &Tensor<f32>, out: &mut Tensor<f32>, rate: f32) {
    let at = thread();
    if at < out.len() {
        out[at] = theta[at % theta.len()] - g[at] * rate;
    }
}

/// See [`crate::primitives::Primitives::sgd_step`].
pub fn sgd_step<R: CubeRuntime>(
    theta: CubeTensor<R>,
    g: CubeTensor<R>,
    rate: f64,
) -> CubeTensor<R> {
    let [theta, g] = [one_of_copies(theta), g].map(into_contiguous);
    let out = alike(&g);
    let (count, units) = threads(g.shape().num_elements());
    descend::launch::<R>(
        &theta.client.clone(),
        count,
        units,
        theta.into_tensor_arg(),
        g.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        rate as f32,
    );
    out
}

#[cube(launch)]
fn pass_where_positive(y: &Tensor<f32>, g: &Tensor<f32>, out: &mut Tensor<f32>) {
    let at = thread();
    if at < out.len() {
        let mut passed = g[at];
        if y[at] <= 0.0f32 {
            passed = 0.0f32;
        }
        out[at] = passed;
    }
}

/// See [`crate::primitives::Primitives::gate`].
pub fn gate<R: CubeRuntime>(y: CubeTensor<R>, g: CubeTensor<R>) -> CubeTensor<R> {
    let [y, g] = [y, g].map(into_contiguous);
    let out = alike(&g);
    let (count, units) = threads(g.shape().num_elements());
    pass_where_positive::launch::<R>(
        &y.client.clone(),
        count,
        units,
        y.into_tensor_arg(),
        g.into_tensor_arg(),
        out.clone().into_tensor_arg(),
    );
    out
}

#[cube(launch)]
fn add_and_rectify(
    x: &Tensor<f32>,
    b: &Tensor<f32>,
    out: &mut Tensor<f32>,
    channels: u32,
    of_bias: u32,
) {
    let at = thread();
    if at < out.len() {
        let channel = at % channels as usize;
        let task = at / of_bias as usize;
        let mut sum = x[at] + b[task * channels as usize + channel];
        if sum < 0.0f32 {
            sum = 0.0f32;
        }
        out[at] = sum;
    }
}

/// See [`crate::primitives::Primitives::bias_relu`]: `x [t, r, c]`, `b [1|t, 1, c]`.
pub fn bias_relu<R: CubeRuntime>(x: CubeTensor<R>, b: CubeTensor<R>) -> CubeTensor<R> {
    let [x, b] = [x, one_of_copies(b)].map(into_contiguous);
    let [biases, _, channels] = b.shape().dims();
    let count = x.shape().num_elements();
    let out = alike(&x);
    let (groups, units) = threads(count);
    add_and_rectify::launch::<R>(
        &x.client.clone(),
        groups,
        units,
        x.into_tensor_arg(),
        b.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        small(channels),
        small((count / biases).max(1)),
    );
    out
}

#[cube(launch)]
fn move_average(
    m: &Tensor<f32>,
    g: &Tensor<f32>,
    out: &mut Tensor<f32>,
    decay: f32,
    rest: f32,
    #[comptime] first: bool,
    #[comptime] squared: bool,
) {
    let at = thread();
    if at < out.len() {
        let mut value = g[at];
        if comptime!(squared) {
            value = value * value;
        }
        if comptime!(first) {
            out[at] = value * rest;
        } else {
            out[at] = m[at] * decay + value * rest;
        }
    }
}

/// See [`crate::primitives::Primitives::average`].
pub fn average<R: CubeRuntime>(
    m: Option<CubeTensor<R>>,
    g: CubeTensor<R>,
    decay: f64,
    squared: bool,
) -> CubeTensor<R> {
    let g = into_contiguous(g);
    let first = m.is_none();
    let m = m.map_or_else(|| g.clone(), into_contiguous);
    let out = alike(&g);
    let (count, units) = threads(g.shape().num_elements());
    move_average::launch::<R>(
        &g.client.clone(),
        count,
        units,
        m.into_tensor_arg(),
        g.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        decay as f32,
        (1.0 - decay) as f32,
        first,
        squared,
    );
    out
}

#[cube(launch)]
fn direct(
    m: &Tensor<f32>,
    v: &Tensor<f32>,
    out: &mut Tensor<f32>,
    first: f32,
    second: f32,
    epsilon: f32,
    epsilon_root: f32,
) {
    let at = thread();
    if at < out.len() {
        out[at] = m[at] * first / ((v[at] * second + epsilon_root).sqrt() + epsilon);
    }
}

/// See [`crate::primitives::Primitives::adam_direction`].
pub fn adam_direction<R: CubeRuntime>(
    m: CubeTensor<R>,
    v: CubeTensor<R>,
    corrections: &AdamCorrections,
) -> CubeTensor<R> {
    let [m, v] = [m, v].map(into_contiguous);
    let out = alike(&m);
    let (count, units) = threads(m.shape().num_elements());
    direct::launch::<R>(
        &m.client.clone(),
        count,
        units,
        m.into_tensor_arg(),
        v.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        corrections.first as f32,
        corrections.second as f32,
        corrections.epsilon as f32,
        corrections.epsilon_root as f32,
    );
    out
}
