//! Softmax and standardisation along the last axis, with their derivatives: a row of threads reads a row
//! of numbers, and each function is one launch.

use burn::tensor::TensorMetadata;
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::launch::{alike, groups, small};

/// Threads that read a row.
const LANES: usize = 32;
/// Rows that a group of threads reads.
const DEEP: usize = 4;

/// What is computed of the rows `x`, `g`, `u`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Function {
    /// Of `x`, with the factor.
    Softmax,
    /// Of `p` and `g`, with the factor.
    SoftmaxAdjoint,
    /// Of `p`, `g` and `u`, with the factor.
    SoftmaxCurvature,
    /// Of `x`, with `ε`.
    Standardize,
    /// Of `x` and `g`, with `ε`.
    StandardizeAdjoint,
    /// Of `x`, `g` and `u`, with `ε`.
    StandardizeCurvature,
}

/// The sum over the threads of a row, or the largest.
#[cube]
fn over_threads(shared: &mut SharedMemory<f32>, value: f32, #[comptime] largest: bool) -> f32 {
    let lanes = comptime!(LANES);
    let (lane, row) = (UNIT_POS_X as usize, UNIT_POS_Y as usize * lanes);
    shared[row + lane] = value;
    #[unroll]
    for level in 0..5usize {
        let apart = comptime!(16usize >> level);
        sync_cube();
        if lane < apart {
            let other = shared[row + lane + apart];
            if comptime!(largest) {
                if other > shared[row + lane] {
                    shared[row + lane] = other;
                }
            } else {
                shared[row + lane] += other;
            }
        }
    }
    sync_cube();
    let all = shared[row];
    sync_cube();
    all
}

/// `Σ (a − ā)(b − b̄)` over a row.
#[cube]
fn product(
    shared: &mut SharedMemory<f32>,
    a: &Tensor<f32>,
    b: &Tensor<f32>,
    mean_a: f32,
    mean_b: f32,
    first: usize,
    end: usize,
) -> f32 {
    let lanes = comptime!(LANES);
    let mut part = 0.0f32;
    let mut at = first + UNIT_POS_X as usize;
    while at < end {
        part += (a[at] - mean_a) * (b[at] - mean_b);
        at += lanes;
    }
    over_threads(shared, part, false)
}

/// `Σ a` over a row.
#[cube]
fn total(shared: &mut SharedMemory<f32>, a: &Tensor<f32>, first: usize, end: usize) -> f32 {
    let lanes = comptime!(LANES);
    let mut part = 0.0f32;
    let mut at = first + UNIT_POS_X as usize;
    while at < end {
        part += a[at];
        at += lanes;
    }
    over_threads(shared, part, false)
}

/// The softmax of a row.
#[cube]
fn softmax(
    shared: &mut SharedMemory<f32>,
    x: &Tensor<f32>,
    out: &mut Tensor<f32>,
    first: usize,
    end: usize,
    factor: f32,
) {
    let lanes = comptime!(LANES);
    let start = first + UNIT_POS_X as usize;
    let mut highest = f32::min_value();
    let mut at = start;
    while at < end {
        if x[at] > highest {
            highest = x[at];
        }
        at += lanes;
    }
    let mut highest = over_threads(shared, highest, true);
    // Where nothing is read, the differences would be −∞ + ∞.
    if highest <= f32::min_value() {
        highest = 0.0f32;
    }
    let mut part = 0.0f32;
    let mut at = start;
    while at < end {
        let weight = ((x[at] - highest) * factor).exp();
        out[at] = weight;
        part += weight;
        at += lanes;
    }
    let mut all = over_threads(shared, part, false);
    if all == 0.0f32 {
        all = 1.0f32;
    }
    let mut at = start;
    while at < end {
        out[at] = out[at] / all;
        at += lanes;
    }
}

/// The adjoint of a softmax, or its curvature.
#[cube]
fn of_softmax(
    shared: &mut SharedMemory<f32>,
    p: &Tensor<f32>,
    g: &Tensor<f32>,
    u: &Tensor<f32>,
    out: &mut Tensor<f32>,
    first: usize,
    end: usize,
    factor: f32,
    #[comptime] twice: bool,
) {
    let lanes = comptime!(LANES);
    let pg = product(shared, p, g, 0.0f32, 0.0f32, first, end);
    let mut at = first + UNIT_POS_X as usize;
    if comptime!(twice) {
        let pu = product(shared, p, u, 0.0f32, 0.0f32, first, end);
        while at < end {
            out[at] = (u[at] * (g[at] - pg) - g[at] * pu) * factor;
            at += lanes;
        }
    } else {
        while at < end {
            out[at] = p[at] * (g[at] - pg) * factor;
            at += lanes;
        }
    }
}

/// A standardised row, or a derivative of it.
#[cube]
fn standardized(
    shared: &mut SharedMemory<f32>,
    x: &Tensor<f32>,
    g: &Tensor<f32>,
    u: &Tensor<f32>,
    out: &mut Tensor<f32>,
    first: usize,
    end: usize,
    width: f32,
    epsilon: f32,
    #[comptime] function: Function,
) {
    let lanes = comptime!(LANES);
    let along = comptime!(function != Function::Standardize);
    let twice = comptime!(function == Function::StandardizeCurvature);
    let mean = total(shared, x, first, end) / width;
    let rho = 1.0f32 / (product(shared, x, x, mean, mean, first, end) / width + epsilon).sqrt();
    let mut at = first + UNIT_POS_X as usize;
    if comptime!(along) {
        let mean_g = total(shared, g, first, end) / width;
        let a = rho * product(shared, x, g, mean, mean_g, first, end) / width;
        if comptime!(twice) {
            let mean_u = total(shared, u, first, end) / width;
            let b = rho * product(shared, x, u, mean, mean_u, first, end) / width;
            let s = product(shared, g, u, mean_g, mean_u, first, end) / width - a * b;
            while at < end {
                let x_hat = (x[at] - mean) * rho;
                let of_g = g[at] - mean_g - a * x_hat;
                let of_u = u[at] - mean_u - b * x_hat;
                out[at] = -rho * rho * (s * x_hat + b * of_g + a * of_u);
                at += lanes;
            }
        } else {
            while at < end {
                out[at] = rho * (g[at] - mean_g - a * (x[at] - mean) * rho);
                at += lanes;
            }
        }
    } else {
        while at < end {
            out[at] = (x[at] - mean) * rho;
            at += lanes;
        }
    }
}

/// A function of rows of `width` numbers.
#[cube(launch)]
fn along_rows(
    x: &Tensor<f32>,
    g: &Tensor<f32>,
    u: &Tensor<f32>,
    out: &mut Tensor<f32>,
    rows: u32,
    width: u32,
    constant: f32,
    #[comptime] function: Function,
) {
    let deep = comptime!(DEEP);
    let mut shared = SharedMemory::<f32>::new(comptime!(LANES * DEEP));
    let group = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize;
    let row = group * deep + UNIT_POS_Y as usize;
    let width = width as usize;
    let first = row * width;
    let mut end = first;
    if row < rows as usize {
        end = first + width;
    }
    match comptime!(function) {
        Function::Softmax => softmax(&mut shared, x, out, first, end, constant),
        Function::SoftmaxAdjoint => {
            of_softmax(&mut shared, x, g, u, out, first, end, constant, false);
        }
        Function::SoftmaxCurvature => {
            of_softmax(&mut shared, x, g, u, out, first, end, constant, true);
        }
        _ => standardized(
            &mut shared,
            x,
            g,
            u,
            out,
            first,
            end,
            f32::cast_from(width),
            constant,
            function,
        ),
    }
}

/// Computes along the last axis; `x` stands in for operands that there are not.
fn call<R: CubeRuntime>(
    function: Function,
    x: CubeTensor<R>,
    more: [Option<CubeTensor<R>>; 2],
    constant: f64,
) -> CubeTensor<R> {
    let x = into_contiguous(x);
    let [g, u] = more.map(|operand| operand.map_or_else(|| x.clone(), into_contiguous));
    let out = alike(&x);
    let shape = x.shape();
    let width = shape[shape.num_dims() - 1];
    let rows = shape.num_elements() / width.max(1);
    along_rows::launch::<R>(
        &x.client.clone(),
        groups(rows.div_ceil(DEEP)),
        CubeDim::new_2d(LANES as u32, DEEP as u32),
        x.into_tensor_arg(),
        g.into_tensor_arg(),
        u.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        small(rows),
        small(width),
        constant as f32,
        function,
    );
    out
}

/// See [`crate::primitives::Primitives::scaled_softmax`].
pub fn scaled_softmax<R: CubeRuntime>(x: CubeTensor<R>, factor: f64) -> CubeTensor<R> {
    call(Function::Softmax, x, [None, None], factor)
}

/// See [`crate::primitives::Primitives::scaled_softmax_adjoint`].
pub fn scaled_softmax_adjoint<R: CubeRuntime>(
    p: CubeTensor<R>,
    g: CubeTensor<R>,
    factor: f64,
) -> CubeTensor<R> {
    call(Function::SoftmaxAdjoint, p, [Some(g), None], factor)
}

/// See [`crate::primitives::Primitives::scaled_softmax_curvature`].
pub fn scaled_softmax_curvature<R: CubeRuntime>(
    p: CubeTensor<R>,
    g: CubeTensor<R>,
    u: CubeTensor<R>,
    factor: f64,
) -> CubeTensor<R> {
    call(Function::SoftmaxCurvature, p, [Some(g), Some(u)], factor)
}

/// See [`crate::primitives::Primitives::layer_standardize`].
pub fn layer_standardize<R: CubeRuntime>(x: CubeTensor<R>, epsilon: f64) -> CubeTensor<R> {
    call(Function::Standardize, x, [None, None], epsilon)
}

/// See [`crate::primitives::Primitives::layer_standardize_adjoint`].
pub fn layer_standardize_adjoint<R: CubeRuntime>(
    x: CubeTensor<R>,
    g: CubeTensor<R>,
    epsilon: f64,
) -> CubeTensor<R> {
    call(Function::StandardizeAdjoint, x, [Some(g), None], epsilon)
}

/// See [`crate::primitives::Primitives::layer_standardize_curvature`].
pub fn layer_standardize_curvature<R: CubeRuntime>(
    x: CubeTensor<R>,
    g: CubeTensor<R>,
    u: CubeTensor<R>,
    epsilon: f64,
) -> CubeTensor<R> {
    call(
        Function::StandardizeCurvature,
        x,
        [Some(g), Some(u)],
        epsilon,
    )
}
