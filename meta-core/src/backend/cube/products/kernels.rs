//! The kernels: a group of 16 × 16 threads computes a tile, some rows and columns each, from slices of
//! both operands in the memory of the group.

use burn_cubecl::cubecl::{self, prelude::*};

use crate::{backend::cube::launch::thread, primitives::Conv2dForm};

/// Threads along each side of a tile.
pub const UNITS: usize = 16;

/// Terms of a sum that a slice holds.
const SLICE: usize = 16;

/// Numbers between the rows of a slice, so that threads write to different banks of the memory.
const APART: usize = 4;

/// How windows over images are read: at `(row, column)`, tap `(i, j)` is the pixel
/// `(row · step + i − before, …)` of the image, its pixels moved `spread` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Windows {
    kernel: usize,
    step: usize,
    before: usize,
    spread: usize,
    height: usize,
    width: usize,
    channels: usize,
    rows: usize,
    columns: usize,
}

impl Windows {
    /// What a convolution reads.
    pub fn read(form: &Conv2dForm) -> Self {
        Windows {
            kernel: form.kernel,
            step: form.stride,
            before: form.padding,
            spread: 1,
            height: form.height,
            width: form.width,
            channels: form.in_channels,
            rows: form.out_height(),
            columns: form.out_width(),
        }
    }

    /// Where an input was read, for all taps from the last to the first: the output that it went to.
    pub fn written(form: &Conv2dForm) -> Self {
        Windows {
            kernel: form.kernel,
            step: 1,
            before: form.kernel - 1 - form.padding,
            spread: form.stride,
            height: form.out_height(),
            width: form.out_width(),
            channels: form.out_channels,
            rows: form.height,
            columns: form.width,
        }
    }
}

/// What the left operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Left {
    /// A matrix.
    Matrix,
    /// A row for each window, a column for each tap and channel.
    Windows(Windows),
    /// The transposed windows.
    TransposedWindows(Windows),
}

/// What the right operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// A matrix.
    Matrix,
    /// The weight of a convolution, a row for each tap, from the last to the first, and output.
    Mirrored {
        /// Taps.
        taps: usize,
        /// Channels of the input.
        inputs: usize,
        /// Channels of the output.
        outputs: usize,
    },
}

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// The left operand.
    pub left: Left,
    /// The right operand.
    pub right: Right,
    /// Rows of a thread.
    pub rows: usize,
    /// Columns of a thread.
    pub columns: usize,
    /// Whether the terms of a row of the left operand lie beside each other.
    pub left_along: bool,
    /// Whether the terms of a column of the right one do.
    pub right_along: bool,
}

/// Where the numbers of a matrix lie.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub struct Matrix {
    outer: u32,
    inner: u32,
    row: u32,
    column: u32,
}

/// Sizes that may differ from call to call.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub struct Sizes {
    batches: u32,
    inner: u32,
    rows: u32,
    terms: u32,
    columns: u32,
    parts: u32,
    of_part: u32,
    count: u32,
}

/// Where the numbers of a batch begin.
#[cube]
fn start(matrix: Matrix, batch: usize, sizes: Sizes) -> usize {
    let inner = sizes.inner as usize;
    batch / inner * matrix.outer as usize + batch % inner * matrix.inner as usize
}

/// The pixel of a window, counted over all images, at tap and channel.
#[cube]
fn pixel(images: &Tensor<f32>, window: usize, tap: usize, #[comptime] of: Windows) -> f32 {
    let width = comptime!(of.width);
    let channels = comptime!(of.channels);
    let spread = comptime!(of.spread);
    let columns = comptime!(of.columns);
    let windows = comptime!(of.rows * of.columns);
    let kernel = comptime!(of.kernel);
    let step = comptime!(of.step);
    let before = comptime!(of.before);
    let high = comptime!((of.height - 1) * of.spread + 1);
    let wide = comptime!((of.width - 1) * of.spread + 1);
    let (image, place) = (window / windows, window % windows);
    let (channel, tap) = (tap % channels, tap / channels);
    // Counted from the first zero before the image.
    let row = place / columns * step + tap / kernel;
    let column = place % columns * step + tap % kernel;
    let mut value = 0.0f32;
    if row >= before && column >= before {
        let row = row - before;
        let column = column - before;
        if row < high && column < wide {
            let mut on = true;
            if comptime!(spread > 1) {
                on = row % spread == 0 && column % spread == 0;
            }
            if on {
                let height = comptime!(of.height);
                let at = (image * height + row / spread) * width + column / spread;
                value = images[at * channels + channel];
            }
        }
    }
    value
}

/// A number of the left operand.
#[cube]
fn left_at(
    a: &Tensor<f32>,
    from: usize,
    matrix: Matrix,
    batch: usize,
    row: usize,
    term: usize,
    sizes: Sizes,
    #[comptime] kind: Left,
) -> f32 {
    match comptime!(kind) {
        Left::Matrix => a[from + row * matrix.row as usize + term * matrix.column as usize],
        Left::Windows(of) => pixel(a, batch * sizes.rows as usize + row, term, of),
        Left::TransposedWindows(of) => pixel(a, batch * sizes.terms as usize + term, row, of),
    }
}

/// A number of the right operand.
#[cube]
fn right_at(
    b: &Tensor<f32>,
    from: usize,
    matrix: Matrix,
    term: usize,
    column: usize,
    #[comptime] kind: Right,
) -> f32 {
    match comptime!(kind) {
        Right::Matrix => b[from + term * matrix.row as usize + column * matrix.column as usize],
        Right::Mirrored {
            taps,
            inputs,
            outputs,
        } => {
            let last = comptime!(taps - 1);
            let tap = last - term / outputs;
            b[from + (tap * inputs + column) * outputs + term % outputs]
        }
    }
}

/// Reads a slice of the left rows from `top` on, its terms from `from` to `end`.
#[cube]
fn read_left(
    a: &Tensor<f32>,
    of_left: &mut SharedMemory<f32>,
    of_a: Matrix,
    batch: usize,
    top: usize,
    from: usize,
    end: usize,
    sizes: Sizes,
    #[comptime] form: Form,
) {
    let tall = comptime!(form.rows * UNITS);
    let units = comptime!(UNITS * UNITS);
    let slice = comptime!(SLICE);
    let apart = comptime!(form.rows * UNITS + APART);
    let start = start(of_a, batch, sizes);
    for turn in 0..comptime!(form.rows) {
        let at = UNIT_POS_X as usize + turn * units;
        let mut term = at % slice;
        let mut row = at / slice;
        if comptime!(!form.left_along) {
            term = at / tall;
            row = at % tall;
        }
        let mut value = 0.0f32;
        if from + term < end && top + row < sizes.rows as usize {
            value = left_at(
                a,
                start,
                of_a,
                batch,
                top + row,
                from + term,
                sizes,
                form.left,
            );
        }
        of_left[term * apart + row] = value;
    }
}

/// Reads a slice of the right columns from `first` on, its terms from `from` to `end`.
#[cube]
fn read_right(
    b: &Tensor<f32>,
    of_right: &mut SharedMemory<f32>,
    of_b: Matrix,
    batch: usize,
    first: usize,
    from: usize,
    end: usize,
    sizes: Sizes,
    #[comptime] form: Form,
) {
    let wide = comptime!(form.columns * UNITS);
    let units = comptime!(UNITS * UNITS);
    let slice = comptime!(SLICE);
    let apart = comptime!(form.columns * UNITS + APART);
    let start = start(of_b, batch, sizes);
    for turn in 0..comptime!(form.columns) {
        let at = UNIT_POS_X as usize + turn * units;
        let mut term = at / wide;
        let mut column = at % wide;
        if comptime!(form.right_along) {
            term = at % slice;
            column = at / slice;
        }
        let mut value = 0.0f32;
        if from + term < end && first + column < sizes.columns as usize {
            value = right_at(b, start, of_b, from + term, first + column, form.right);
        }
        of_right[term * apart + column] = value;
    }
}

/// Adds the products of a slice to the sums of this thread.
#[cube]
fn add_slice(
    of_left: &SharedMemory<f32>,
    of_right: &SharedMemory<f32>,
    sums: &mut Array<f32>,
    #[comptime] form: Form,
) {
    let rows = comptime!(form.rows);
    let columns = comptime!(form.columns);
    let a_apart = comptime!(form.rows * UNITS + APART);
    let b_apart = comptime!(form.columns * UNITS + APART);
    let side = comptime!(UNITS);
    let unit = UNIT_POS_X as usize;
    let (down, across) = (unit / side, unit % side);
    let mut lefts = Array::<f32>::new(comptime!(form.rows));
    let mut rights = Array::<f32>::new(comptime!(form.columns));
    for term in 0..comptime!(SLICE) {
        #[unroll]
        for row in 0..rows {
            lefts[row] = of_left[term * a_apart + down * rows + row];
        }
        #[unroll]
        for column in 0..columns {
            rights[column] = of_right[term * b_apart + across * columns + column];
        }
        #[unroll]
        for row in 0..rows {
            #[unroll]
            for column in 0..columns {
                sums[row * columns + column] += lefts[row] * rights[column];
            }
        }
    }
}

/// Tiles of all products: one for each group, the parts of a sum one after the other.
#[cube(launch)]
pub fn multiply(
    a: &Tensor<f32>,
    b: &Tensor<f32>,
    out: &mut Tensor<f32>,
    of_a: Matrix,
    of_b: Matrix,
    of_out: Matrix,
    sizes: Sizes,
    #[comptime] form: Form,
) {
    let rows = comptime!(form.rows);
    let columns = comptime!(form.columns);
    let tall = comptime!(form.rows * UNITS);
    let wide = comptime!(form.columns * UNITS);
    let side = comptime!(UNITS);
    let slice = comptime!(SLICE);
    let mut of_left = SharedMemory::<f32>::new(comptime!(SLICE * (form.rows * UNITS + APART)));
    let mut of_right = SharedMemory::<f32>::new(comptime!(SLICE * (form.columns * UNITS + APART)));
    let mut sums = Array::<f32>::new(comptime!(form.rows * form.columns));

    let group = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize;
    let tiles_down = (sizes.rows as usize).div_ceil(tall);
    let tiles_across = (sizes.columns as usize).div_ceil(wide);
    let tile = group % (tiles_down * tiles_across);
    let rest = group / (tiles_down * tiles_across);
    let (part, batch) = (rest % sizes.parts as usize, rest / sizes.parts as usize);
    let (top, first) = (tile / tiles_across * tall, tile % tiles_across * wide);

    #[unroll]
    for at in 0..rows * columns {
        sums[at] = 0.0f32;
    }
    let mut from = part * sizes.of_part as usize;
    let mut end = from + sizes.of_part as usize;
    if end > sizes.terms as usize {
        end = sizes.terms as usize;
    }
    if batch >= sizes.batches as usize {
        end = from;
    }
    while from < end {
        read_left(a, &mut of_left, of_a, batch, top, from, end, sizes, form);
        read_right(b, &mut of_right, of_b, batch, first, from, end, sizes, form);
        sync_cube();
        add_slice(&of_left, &of_right, &mut sums, form);
        sync_cube();
        from += slice;
    }
    if batch < sizes.batches as usize {
        let to = part * sizes.count as usize + start(of_out, batch, sizes);
        let (down, across) = (UNIT_POS_X as usize / side, UNIT_POS_X as usize % side);
        #[unroll]
        for i in 0..rows {
            #[unroll]
            for j in 0..columns {
                let row = top + down * rows + i;
                let column = first + across * columns + j;
                if row < sizes.rows as usize && column < sizes.columns as usize {
                    out[to + row * of_out.row as usize + column * of_out.column as usize] =
                        sums[i * columns + j];
                }
            }
        }
    }
}

/// `a ⊙ x`: `x [t, r, c]`, `a [1|t, 1, c]`; `of_weight` numbers of `x` share a row of `a`.
#[cube(launch)]
pub fn scale(
    x: &Tensor<f32>,
    a: &Tensor<f32>,
    out: &mut Tensor<f32>,
    channels: u32,
    of_weight: u32,
) {
    let at = thread();
    if at < out.len() {
        let row = at / of_weight as usize * channels as usize;
        out[at] = x[at] * a[row + at % channels as usize];
    }
}
