//! 3×3 convolutions of stride 1 with 16 products in the place of 36: Lavin and Gray, Fast Algorithms
//! for Convolutional Neural Networks (CVPR 2016), section 4.1, F(2×2, 3×3).
//!
//! The output is cut into tiles of 2×2 pixels, each of which sees 4×4 pixels `d` of the input. With `g`
//! a kernel from one channel to another,
//!
//! - `y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A`, summed over the channels of the input: 16 matrix products, one
//!   for each point of the 4×4 grid, whose rows are tiles;
//! - the adjoint in `g` is `Gᵀ [(Bᵀ d B) ⊙ (A gy Aᵀ)] G`, summed over the tiles: 16 products again;
//! - the adjoint in the input is the convolution with the flipped kernel.
//!
//! The transforms add and subtract, and halve twice; they lose a bit or two.

use super::super::blocks::{RowBlock, add_partials, row_blocks};
use super::super::buffers::{build, build_zeroed, with_scratch};
use super::super::gemm::product_into;
use super::super::matrix::Matrix;
use super::super::real::{Real, wide};
use super::{PARTIAL_PIXELS, PIECES, Window};

/// Points of the grid on which the products are taken.
const POINTS: usize = 16;

/// Channels that are transformed at a time.
const LANES: usize = 8;

/// Fewer channels than these are not worth the transforms.
const FEWEST_CHANNELS: usize = 32;

/// Tiles of a block: what is transformed stays in the second-level cache with the weight.
const BLOCK_TILES: usize = 48;

/// Tiles of a block of the weight gradient, whose products run over them.
const GRADIENT_TILES: usize = 96;

/// Between the points' matrices, so that they do not fall on the same lines of the cache.
const GAP: usize = 16;

/// Whether the tiles of an output fill it well enough, and the channels the vectors.
pub fn suits(window: &Window, out_channels: usize) -> bool {
    let tiles = Tiles::of(window);
    let fits = |channels: usize| channels.is_multiple_of(LANES) && channels >= FEWEST_CHANNELS;
    window.kernel == (3, 3)
        && window.stride == 1
        && fits(window.channels)
        && fits(out_channels)
        && 3 * window.pixels() >= 8 * tiles.lines * tiles.columns
}

/// `y [tasks, items, ho, wo, co]` of `x [tasks, items, h, w, ci]` and `w [tasks, 9, ci, co]`.
pub fn convolve<T: Real>(window: &Window, tasks: usize, co: usize, x: &[T], w: &[T]) -> Vec<T> {
    let tiles = Tiles::of(window);
    let (ci, lines) = (window.channels, window.items * tiles.lines);
    let weights = transform_weights(tasks, ci * co, w);
    let width = window.out.1 * co;
    build_zeroed(
        &row_blocks(tasks, lines, tiles.block_lines(BLOCK_TILES)),
        |block| tiles.rows(block).len() * width,
        2 * tasks * lines * tiles.columns * POINTS * ci * co,
        |block, y| {
            let weights = &weights[block.task * POINTS * ci * co..];
            let count = block.len() * tiles.columns;
            let (input, output) = (count * ci + GAP, count * co + GAP);
            with_scratch(tiles.line_len() + POINTS * (input + output), |scratch| {
                let (line, scratch) = scratch.split_at_mut(tiles.line_len());
                let (seen, made) = scratch.split_at_mut(POINTS * input);
                tiles.transform_input(window.task(x, block.task), block, line, seen, input);
                for point in 0..POINTS {
                    product_into(
                        [count, ci, co],
                        &mut made[point * output..][..count * co],
                        false,
                        Matrix::rows(&seen[point * input..], ci),
                        Matrix::rows(&weights[point * ci * co..], co),
                    );
                }
                let first = tiles.rows(block).start;
                for (i, line) in (block.start..block.end).enumerate() {
                    let rows = tiles.rows_of_line(line);
                    let y = &mut y[(rows.start - first) * width..(rows.end - first) * width];
                    let at = i * tiles.columns * co;
                    transform_output(&made[at..], output, y, window.out.1, co);
                }
            });
        },
    )
}

/// `gw [tasks, 9, ci, co]` of `x [tasks, items, h, w, ci]` and `gy [tasks, items, ho, wo, co]`.
pub fn weight_gradient<T: Real>(
    window: &Window,
    tasks: usize,
    co: usize,
    x: &[T],
    gy: &[T],
) -> Vec<T> {
    let tiles = Tiles::of(window);
    let (ci, lines) = (window.channels, window.items * tiles.lines);
    let (len, width) = (9 * ci * co, window.out.1 * co);
    let piece_lines = lines
        .div_ceil(PIECES.div_ceil(tasks.max(1)))
        .max(PARTIAL_PIXELS.div_ceil(2 * window.out.1));
    let partials = build(
        &row_blocks(tasks, lines, piece_lines),
        |_| len,
        2 * tasks * lines * tiles.columns * POINTS * ci * co,
        |piece, gw| {
            let x = window.task(x, piece.task);
            let gy = &gy[piece.task * window.items * window.out.0 * width..];
            let block_lines = tiles.block_lines(GRADIENT_TILES);
            let most = block_lines * tiles.columns;
            let (input, output) = (most * ci + GAP, most * co + GAP);
            let len = tiles.line_len() + POINTS * (input + output + ci * co);
            with_scratch(len, |scratch| {
                let (line, rest) = scratch.split_at_mut(tiles.line_len());
                let (seen, rest) = rest.split_at_mut(POINTS * input);
                let (back, sums) = rest.split_at_mut(POINTS * output);
                let blocks = row_blocks(1, piece.len(), block_lines);
                for (b, block) in blocks.into_iter().enumerate() {
                    let block = RowBlock {
                        task: piece.task,
                        start: piece.start + block.start,
                        end: piece.start + block.end,
                    };
                    let count = block.len() * tiles.columns;
                    tiles.transform_input(x, &block, line, seen, input);
                    for (i, line) in (block.start..block.end).enumerate() {
                        let rows = tiles.rows_of_line(line);
                        let gy = &gy[rows.start * width..rows.end * width];
                        let at = i * tiles.columns * co;
                        transform_gradient(gy, window.out.1, co, &mut back[at..], output);
                    }
                    for (point, sums) in sums.chunks_exact_mut(ci * co).enumerate() {
                        product_into(
                            [ci, count, co],
                            sums,
                            b > 0,
                            Matrix::columns(&seen[point * input..], ci),
                            Matrix::rows(&back[point * output..], co),
                        );
                    }
                }
                transform_weight_gradient(sums, ci * co, gw.zeros());
            });
        },
    );
    add_partials(partials, tasks, len)
}

/// The tiles of one image: `lines × columns` of 2×2 output pixels.
struct Tiles<'a> {
    window: &'a Window,
    lines: usize,
    columns: usize,
}

impl<'a> Tiles<'a> {
    fn of(window: &'a Window) -> Self {
        Self {
            window,
            lines: window.out.0.div_ceil(2),
            columns: window.out.1.div_ceil(2),
        }
    }

    /// Lines of tiles in a block of `tiles`.
    fn block_lines(&self, tiles: usize) -> usize {
        (tiles / self.columns).max(1)
    }

    /// Output rows of a line of tiles, counted over the images of the task.
    fn rows_of_line(&self, line: usize) -> std::ops::Range<usize> {
        let (image, line) = (line / self.lines, line % self.lines);
        let height = self.window.out.0;
        image * height + 2 * line..image * height + (2 * line + 2).min(height)
    }

    /// Output rows of a block.
    fn rows(&self, block: &RowBlock) -> std::ops::Range<usize> {
        self.rows_of_line(block.start).start..self.rows_of_line(block.end - 1).end
    }

    /// Elements of the four combined rows that one line of tiles sees.
    fn line_len(&self) -> usize {
        4 * (2 * self.columns + 2) * self.window.channels
    }

    /// `Bᵀ d B` of the tiles of a block: `seen [16, tiles, ci]`, the points `pitch` apart, from the
    /// images `x` of its task, by way of `combined`.
    fn transform_input<T: Real>(
        &self,
        x: &[T],
        block: &RowBlock,
        combined: &mut [T],
        seen: &mut [T],
        pitch: usize,
    ) {
        let window = self.window;
        let width = self.line_len() / 4;
        // What the padding sees is zero.
        combined.fill(T::ZERO);
        let left = window.padding.1 * window.channels;
        let inside = left..(left + window.width * window.channels).min(width);
        for (i, line) in (block.start..block.end).enumerate() {
            let (image, line) = (line / self.lines, line % self.lines);
            let row = |row| window.row(x, image, 2 * line + row);
            for (j, [a, b]) in [[0, 2], [1, 2], [2, 1], [1, 3]].into_iter().enumerate() {
                let sum = &mut combined[j * width..][inside.clone()];
                combine(sum, row(a), row(b), j != 1);
            }
            let at = i * self.columns * window.channels;
            combine_columns(combined, width, &mut seen[at..], pitch, window.channels);
        }
    }
}

wide! {
    /// `sum = a − b` if `subtract`, else `a + b`; a missing row is zero.
    fn combine[T: Real](sum: &mut [T], a: Option<&[T]>, b: Option<&[T]>, subtract: bool) {
        let len = sum.len();
        match (a, b) {
            (Some(a), Some(b)) if subtract => {
                for ((sum, &a), &b) in sum.iter_mut().zip(a).zip(b) {
                    *sum = a - b;
                }
            }
            (Some(a), Some(b)) => {
                for ((sum, &a), &b) in sum.iter_mut().zip(a).zip(b) {
                    *sum = a + b;
                }
            }
            (None, Some(b)) if subtract => {
                for (sum, &b) in sum.iter_mut().zip(b) {
                    *sum = T::ZERO - b;
                }
            }
            (Some(row), None) | (None, Some(row)) => sum.copy_from_slice(&row[..len]),
            (None, None) => sum.fill(T::ZERO),
        }
    }
}

/// One vector of channels.
type Lanes<T> = [T; LANES];

// Loops, not closures: what is not inlined would be compiled without the wide instructions.

#[inline(always)]
fn load<T: Real>(from: &[T], at: usize) -> Lanes<T> {
    let mut to = [T::ZERO; LANES];
    to.copy_from_slice(&from[at..][..LANES]);
    to
}

#[inline(always)]
fn store<T: Real>(to: &mut [T], at: usize, from: Lanes<T>) {
    to[at..][..LANES].copy_from_slice(&from);
}

#[inline(always)]
fn add<T: Real>(mut a: Lanes<T>, b: Lanes<T>) -> Lanes<T> {
    for lane in 0..LANES {
        a[lane] += b[lane];
    }
    a
}

#[inline(always)]
fn sub<T: Real>(mut a: Lanes<T>, b: Lanes<T>) -> Lanes<T> {
    for lane in 0..LANES {
        a[lane] = a[lane] - b[lane];
    }
    a
}

#[inline(always)]
fn half<T: Real>(mut a: Lanes<T>) -> Lanes<T> {
    let half = T::from_f64(0.5);
    for value in &mut a {
        *value = *value * half;
    }
    a
}

/// `Bᵀ d`: four points from four pixels.
#[inline(always)]
fn pixels_to_points<T: Real>([a, b, c, d]: [Lanes<T>; 4]) -> [Lanes<T>; 4] {
    [sub(a, c), add(b, c), sub(c, b), sub(b, d)]
}

/// `Aᵀ m`: two pixels from four points.
#[inline(always)]
fn points_to_pixels<T: Real>([a, b, c, d]: [Lanes<T>; 4]) -> [Lanes<T>; 2] {
    [add(add(a, b), c), sub(sub(b, c), d)]
}

/// `A y`, the adjoint of [`points_to_pixels`].
#[inline(always)]
fn pixels_to_points_adjoint<T: Real>([a, b]: [Lanes<T>; 2]) -> [Lanes<T>; 4] {
    [a, add(a, b), sub(a, b), sub([T::ZERO; LANES], b)]
}

/// `G g`: four points from three elements of a kernel.
#[inline(always)]
fn kernel_to_points<T: Real>([a, b, c]: [Lanes<T>; 3]) -> [Lanes<T>; 4] {
    let (outer, inner) = (half(add(a, c)), half(b));
    [a, add(outer, inner), sub(outer, inner), c]
}

/// `Gᵀ u`, the adjoint of [`kernel_to_points`].
#[inline(always)]
fn points_to_kernel<T: Real>([a, b, c, d]: [Lanes<T>; 4]) -> [Lanes<T>; 3] {
    let outer = half(add(b, c));
    [add(a, outer), half(sub(b, c)), add(outer, d)]
}

wide! {
    /// `(Bᵀ d) B` along the columns of one line of tiles: `rows [4, 2·tiles + 2, channels]` with rows
    /// of `width` elements, into the points `pitch` apart.
    fn combine_columns[T: Real](
        rows: &[T],
        width: usize,
        points: &mut [T],
        pitch: usize,
        channels: usize,
    ) {
        let tiles = width / channels / 2 - 1;
        for (i, row) in rows.chunks_exact(width).enumerate() {
            let line = &mut points[4 * i * pitch..];
            for tile in 0..tiles {
                let seen = &row[2 * tile * channels..][..4 * channels];
                for c in (0..channels).step_by(LANES) {
                    let mut pixels = [[T::ZERO; LANES]; 4];
                    for (j, pixel) in pixels.iter_mut().enumerate() {
                        *pixel = load(seen, j * channels + c);
                    }
                    let made = pixels_to_points(pixels);
                    for (j, made) in made.into_iter().enumerate() {
                        store(line, j * pitch + tile * channels + c, made);
                    }
                }
            }
        }
    }
}

wide! {
    /// `Aᵀ m A` of one line of tiles: `points [16, tiles, channels]`, `pitch` apart, into one or two
    /// rows `y [rows, width, channels]`.
    fn transform_output[T: Real](
        points: &[T],
        pitch: usize,
        y: &mut [T],
        width: usize,
        channels: usize,
    ) {
        let two = y.len() == 2 * width * channels;
        let (first, second) = y.split_at_mut(width * channels);
        for column in (0..width).step_by(2) {
            let right = column + 1 < width;
            for c in (0..channels).step_by(LANES) {
                let (mut upper, mut lower) = ([[T::ZERO; LANES]; 4], [[T::ZERO; LANES]; 4]);
                for j in 0..4 {
                    let mut down = [[T::ZERO; LANES]; 4];
                    for (i, down) in down.iter_mut().enumerate() {
                        *down = load(points, (4 * i + j) * pitch + column / 2 * channels + c);
                    }
                    [upper[j], lower[j]] = points_to_pixels(down);
                }
                let at = column * channels + c;
                let [one, other] = points_to_pixels(upper);
                store(first, at, one);
                if right {
                    store(first, at + channels, other);
                }
                if two {
                    let [one, other] = points_to_pixels(lower);
                    store(second, at, one);
                    if right {
                        store(second, at + channels, other);
                    }
                }
            }
        }
    }
}

wide! {
    /// `A gy Aᵀ` of one line of tiles: the adjoint of [`transform_output`].
    fn transform_gradient[T: Real](
        gy: &[T],
        width: usize,
        channels: usize,
        points: &mut [T],
        pitch: usize,
    ) {
        let two = gy.len() == 2 * width * channels;
        let (first, second) = gy.split_at(width * channels);
        for column in (0..width).step_by(2) {
            let right = column + 1 < width;
            for c in (0..channels).step_by(LANES) {
                // What hangs over the edge has no gradient.
                let at = column * channels + c;
                let (mut upper, mut lower) = ([[T::ZERO; LANES]; 2], [[T::ZERO; LANES]; 2]);
                upper[0] = load(first, at);
                if right {
                    upper[1] = load(first, at + channels);
                }
                if two {
                    lower[0] = load(second, at);
                    if right {
                        lower[1] = load(second, at + channels);
                    }
                }
                let upper = pixels_to_points_adjoint(upper);
                let lower = pixels_to_points_adjoint(lower);
                for j in 0..4 {
                    let made = pixels_to_points_adjoint([upper[j], lower[j]]);
                    for (i, made) in made.into_iter().enumerate() {
                        store(points, (4 * i + j) * pitch + column / 2 * channels + c, made);
                    }
                }
            }
        }
    }
}

/// `G g Gᵀ`: `w [tasks, 9, len]` → `[tasks, 16, len]`.
fn transform_weights<T: Real>(tasks: usize, len: usize, w: &[T]) -> Vec<T> {
    build_zeroed(
        &row_blocks(tasks, 1, 1),
        |_| POINTS * len,
        tasks * POINTS * len * 4,
        |piece, points| transform_weight(&w[piece.task * 9 * len..], len, points),
    )
}

wide! {
    fn transform_weight[T: Real](w: &[T], len: usize, points: &mut [T]) {
        for at in (0..len).step_by(LANES) {
            let mut rows = [[[T::ZERO; LANES]; 4]; 3];
            for (i, row) in rows.iter_mut().enumerate() {
                let element = |j: usize| (3 * i + j) * len + at;
                *row = kernel_to_points([
                    load(w, element(0)),
                    load(w, element(1)),
                    load(w, element(2)),
                ]);
            }
            let [a, b, c] = rows;
            for j in 0..4 {
                let made = kernel_to_points([a[j], b[j], c[j]]);
                for (i, made) in made.into_iter().enumerate() {
                    store(points, (4 * i + j) * len + at, made);
                }
            }
        }
    }
}

wide! {
    /// `Gᵀ u G`, the adjoint of [`transform_weight`]: `points [16, len]` → `gw [9, len]`.
    fn transform_weight_gradient[T: Real](points: &[T], len: usize, gw: &mut [T]) {
        for at in (0..len).step_by(LANES) {
            let mut rows = [[[T::ZERO; LANES]; 3]; 4];
            for (i, row) in rows.iter_mut().enumerate() {
                let mut across = [[T::ZERO; LANES]; 4];
                for (j, across) in across.iter_mut().enumerate() {
                    *across = load(points, (4 * i + j) * len + at);
                }
                *row = points_to_kernel(across);
            }
            let [a, b, c, d] = rows;
            for j in 0..3 {
                let made = points_to_kernel([a[j], b[j], c[j], d[j]]);
                for (i, made) in made.into_iter().enumerate() {
                    store(gw, (3 * i + j) * len + at, made);
                }
            }
        }
    }
}
