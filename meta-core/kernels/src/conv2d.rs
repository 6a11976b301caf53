//! Two-dimensional convolution, its input gradient and its weight gradient.
//!
//! All three are matrix products over *patches*: a row of the patch matrix holds the window under
//! one output pixel, `P [rows, kh·kw·ci]`, and
//!
//! - `y = P·W`,
//! - `gW = Pᵀ·gy`,
//! - `gx` = the convolution of `gy` with the flipped, transposed kernel when the stride is 1, and
//!   `gx = fold(gy·Wᵀ)`, the adjoint of taking patches, otherwise.
//!
//! Patches are made in blocks that fit the second-level cache, in one of three layouts that
//! differ in how much they copy. Where it pays, `winograd` takes their place.

use crate::forms::Conv2dForm;

use super::blocks::{add_partials, check_len, row_blocks};
use super::buffers::{build, build_zeroed, with_scratch};
use super::gemm::{product, product_into, transpose};
use super::matrix::Matrix;
use super::real::Real;

mod winograd;

/// Bytes of patches and output per block: with the weight they stay in a second-level cache of
/// 1 MiB.
const BLOCK_BYTES: usize = 384 << 10;

/// Output pixels per block below which the product is too thin to run at full speed.
const MIN_BLOCK_PIXELS: usize = 48;

/// Pieces that a whole convolution is cut into at least, when it is large enough, so that the
/// threads share it evenly.
const PIECES: usize = 32;

/// Output pixels summed into one partial weight gradient, at least.
const PARTIAL_PIXELS: usize = 1024;

/// Channel counts below this are gathered one by one ([`Layout::Planar`]).
const FEW_CHANNELS: usize = 8;

/// Images with at least this many output pixels are worth a product of their own.
const LARGE_IMAGE: usize = 64;

impl Conv2dForm {
    /// Panics unless the geometry makes sense and the given lengths fit it; then folds the tasks
    /// into the items when they share the weight.
    fn enter(&self, x: Option<usize>, w: Option<usize>, y: Option<usize>) -> (usize, Window) {
        let (kh, kw) = (self.kernel, self.kernel);
        assert!(
            self.weight_tasks == 1 || self.weight_tasks == self.tasks,
            "weight_tasks is {}, must be 1 or {}",
            self.weight_tasks,
            self.tasks
        );
        assert!(
            kh > 0 && kw > 0 && self.stride > 0 && self.in_channels > 0 && self.out_channels > 0,
            "kernel, stride and channels must be positive: {self:?}"
        );
        assert!(
            kh <= self.height + 2 * self.padding && kw <= self.width + 2 * self.padding,
            "the kernel must fit the padded image: {self:?}"
        );
        let window = Window {
            items: self.tasks * self.items / self.weight_tasks.max(1),
            height: self.height,
            width: self.width,
            channels: self.in_channels,
            kernel: (self.kernel, self.kernel),
            stride: self.stride,
            padding: (self.padding, self.padding),
            out: (self.out_height(), self.out_width()),
        };
        let images = self.tasks * self.items;
        if let Some(x) = x {
            check_len("x", x, images * window.image());
        }
        if let Some(w) = w {
            let len = self.weight_tasks * window.depth() * self.out_channels;
            check_len("w", w, len);
        }
        if let Some(y) = y {
            check_len("y", y, images * window.pixels() * self.out_channels);
        }
        (self.weight_tasks, window)
    }
}

/// `y[t, b, i, j, o] = Σ_{di, dj, c} x[t, b, i·s + di − p, j·s + dj − p, c]·w[t, di·kw + dj, c, o]`,
/// with zeros outside the image.
///
/// `x [t, b, h, w, ci]`, `w [tw, kh·kw, ci, co]` → `y [t, b, ho, wo, co]`.
///
/// # Panics
/// If a slice does not have the length its shape says, or the kernel does not fit.
pub fn conv2d<T: Real>(geometry: &Conv2dForm, x: &[T], w: &[T]) -> Vec<T> {
    let (tasks, window) = geometry.enter(Some(x.len()), Some(w.len()), None);
    convolve(&window, tasks, geometry.out_channels, x, w)
}

/// The adjoint of [`conv2d`] in `x`: every output pixel's gradient goes back through the kernel to
/// the pixels it was made of.
///
/// `gy [t, b, ho, wo, co]`, `w [tw, kh·kw, ci, co]` → `gx [t, b, h, w, ci]`.
///
/// # Panics
/// If a slice does not have the length its shape says, or the kernel does not fit.
pub fn conv2d_input<T: Real>(geometry: &Conv2dForm, gy: &[T], w: &[T]) -> Vec<T> {
    let (tasks, window) = geometry.enter(None, Some(w.len()), Some(gy.len()));
    let co = geometry.out_channels;
    match window.reversed(co) {
        Some(reversed) if window.channels >= FEW_CHANNELS => {
            let flipped = flip(&window, tasks, co, w);
            convolve(&reversed, tasks, window.channels, gy, &flipped)
        }
        _ => fold_gradient(&window, tasks, co, gy, w),
    }
}

/// The adjoint of [`conv2d`] in `w`, summed over the items, and over the tasks when they share the
/// weight.
///
/// `x [t, b, h, w, ci]`, `gy [t, b, ho, wo, co]` → `gw [tw, kh·kw, ci, co]`.
///
/// # Panics
/// If a slice does not have the length its shape says, or the kernel does not fit.
pub fn conv2d_weight<T: Real>(geometry: &Conv2dForm, x: &[T], gy: &[T]) -> Vec<T> {
    let (tasks, window) = geometry.enter(Some(x.len()), None, Some(gy.len()));
    let co = geometry.out_channels;
    if winograd::suits(&window, co) {
        return winograd::weight_gradient(&window, tasks, co, x, gy);
    }
    let layout = window.layout();
    let len = window.depth() * co;
    let lines = window.items * window.out.0;

    // One partial sum per piece; a piece has enough pixels for that to cost little.
    let per_task = PIECES.div_ceil(tasks.max(1));
    let piece_lines = lines
        .div_ceil(per_task)
        .max(PARTIAL_PIXELS.div_ceil(window.out.1));
    let partials = build_zeroed(
        &row_blocks(tasks, lines, piece_lines),
        |_| len,
        2 * tasks * lines * window.out.1 * len,
        |piece, gw| {
            let x = window.task(x, piece.task);
            let gy = &gy[piece.task * lines * window.out.1 * co..];
            for block in window.blocks(layout, piece.start, piece.end, usize::MAX, co) {
                with_scratch(block.scratch(&window), |scratch| {
                    block.unfold(&window, x, scratch);
                    let gy = &gy[block.first * window.out.1 * co..];
                    for (tap, gw) in gw.chunks_exact_mut(block.depth(&window) * co).enumerate() {
                        product_into(
                            [block.depth(&window), block.pixels(&window), co],
                            gw,
                            true,
                            block.patches(&window, scratch, tap).transposed(),
                            Matrix::rows(gy, co),
                        );
                    }
                });
            }
        },
    );
    add_partials(partials, tasks, len)
}

/// What patches are taken from, with the tasks' images of one weight in a row.
#[derive(Clone, Copy, Debug)]
struct Window {
    items: usize,
    height: usize,
    width: usize,
    channels: usize,
    kernel: (usize, usize),
    stride: usize,
    padding: (usize, usize),
    out: (usize, usize),
}

/// How a block of patches lies in memory. A *line* is a row of output pixels of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `[lines·wo, kh·kw·c]`: every window copied whole; lines of several images in one block.
    Whole,
    /// `[lines + kh − 1, wo, kw·c]`: only the window's rows are copied, and the `kh` products read
    /// the same block shifted by one line each. Needs stride 1; a block stays in one image.
    Rows,
    /// `[kh·kw·c, lines·wo]`: the transpose of `Whole`. With few channels a window's row is too
    /// short to copy; a line of one channel is not.
    Planar,
}

/// Consecutive lines of one task.
#[derive(Clone, Copy, Debug)]
struct Block {
    layout: Layout,
    task: usize,
    first: usize,
    lines: usize,
}

impl Window {
    fn image(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Output pixels of one image.
    fn pixels(&self) -> usize {
        self.out.0 * self.out.1
    }

    /// Elements of one window.
    fn depth(&self) -> usize {
        self.kernel.0 * self.kernel.1 * self.channels
    }

    /// The images of one task in `x [tasks, items, …]`.
    fn task<'a, T>(&self, x: &'a [T], task: usize) -> &'a [T] {
        let len = self.items * self.image();
        &x[task * len..][..len]
    }

    fn layout(&self) -> Layout {
        if self.channels < FEW_CHANNELS {
            Layout::Planar
        } else if self.stride == 1 && self.kernel.0 > 1 && self.pixels() >= LARGE_IMAGE {
            Layout::Rows
        } else {
            Layout::Whole
        }
    }

    /// Cuts the lines `start..end` of a task into blocks that fit the cache and have at most about
    /// `pixels` pixels.
    fn blocks(
        &self,
        layout: Layout,
        start: usize,
        end: usize,
        pixels: usize,
        out_channels: usize,
    ) -> impl Iterator<Item = Block> + use<> {
        let patch = match layout {
            Layout::Rows => self.kernel.1 * self.channels,
            Layout::Whole | Layout::Planar => self.depth(),
        };
        let pixel_bytes = (patch + out_channels) * size_of::<f32>();
        let fitting = BLOCK_BYTES / pixel_bytes;
        let pixels = pixels.min(fitting).max(MIN_BLOCK_PIXELS);
        let most = (pixels / self.out.1).max(1);
        let image_lines = match layout {
            Layout::Rows => self.out.0,
            Layout::Whole | Layout::Planar => usize::MAX,
        };
        let mut next = start;
        std::iter::from_fn(move || {
            if next == end {
                return None;
            }
            // Even blocks, up to the end of the image or of the range.
            let left = (image_lines - next % image_lines).min(end - next);
            let lines = left.div_ceil(left.div_ceil(most));
            let block = Block {
                layout,
                task: 0,
                first: next,
                lines,
            };
            next += lines;
            Some(block)
        })
    }

    /// The window whose convolution is the input gradient of this one; none when that is not a
    /// convolution with non-negative padding.
    fn reversed(&self, out_channels: usize) -> Option<Self> {
        if self.stride != 1 {
            return None;
        }
        Some(Self {
            height: self.out.0,
            width: self.out.1,
            channels: out_channels,
            padding: (
                (self.kernel.0 - 1).checked_sub(self.padding.0)?,
                (self.kernel.1 - 1).checked_sub(self.padding.1)?,
            ),
            out: (self.height, self.width),
            ..*self
        })
    }
}

impl Block {
    fn pixels(&self, window: &Window) -> usize {
        self.lines * window.out.1
    }

    /// Elements of the window that one product covers.
    fn depth(&self, window: &Window) -> usize {
        match self.layout {
            Layout::Rows => window.kernel.1 * window.channels,
            Layout::Whole | Layout::Planar => window.depth(),
        }
    }

    /// Elements that [`Block::unfold`] needs: the patches, and for `Planar` one image row.
    fn scratch(&self, window: &Window) -> usize {
        let row = match self.layout {
            Layout::Planar => window.channels * window.padded_width(),
            Layout::Whole | Layout::Rows => 0,
        };
        self.patch_len(window) + row
    }

    /// Elements of the patches.
    fn patch_len(&self, window: &Window) -> usize {
        let lines = match self.layout {
            Layout::Rows => self.lines + window.kernel.0 - 1,
            Layout::Whole | Layout::Planar => self.lines,
        };
        lines * window.out.1 * self.depth(window)
    }

    /// The patches of the `tap`-th product, `[pixels, depth]`.
    fn patches<'a, T>(&self, window: &Window, scratch: &'a [T], tap: usize) -> Matrix<'a, T> {
        let depth = self.depth(window);
        match self.layout {
            Layout::Whole | Layout::Rows => {
                Matrix::rows(&scratch[tap * window.out.1 * depth..], depth)
            }
            Layout::Planar => Matrix::columns(scratch, self.pixels(window)),
        }
    }

    /// Copies the windows of this block out of the images `x` of its task.
    fn unfold<T: Real>(&self, window: &Window, x: &[T], scratch: &mut [T]) {
        let (kh, kw) = window.kernel;
        let (ho, wo) = window.out;
        let depth = self.depth(window);
        match self.layout {
            Layout::Rows => {
                let (image, top) = (self.first / ho, self.first % ho);
                for (line, target) in scratch.chunks_exact_mut(wo * depth).enumerate() {
                    let source = window.row(x, image, top + line);
                    window.unfold_line(source, target, depth, 0);
                }
            }
            Layout::Whole => {
                for (line, target) in scratch.chunks_exact_mut(wo * depth).enumerate() {
                    let (image, i) = ((self.first + line) / ho, (self.first + line) % ho);
                    for di in 0..kh {
                        let source = window.row(x, image, i * window.stride + di);
                        window.unfold_line(source, target, depth, di * kw * window.channels);
                    }
                }
            }
            Layout::Planar => {
                let (patches, row) = scratch.split_at_mut(self.patch_len(window));
                for line in 0..self.lines {
                    let (image, i) = ((self.first + line) / ho, (self.first + line) % ho);
                    for di in 0..kh {
                        let source = window.row(x, image, i * window.stride + di);
                        window.separate_channels(source, row);
                        let elements =
                            &mut patches[di * kw * window.channels * self.pixels(window)..];
                        window.gather_line(row, elements, self.pixels(window), line);
                    }
                }
            }
        }
    }
}

impl Window {
    /// Row `padded` of a padded image; none when it is padding.
    fn row<'a, T>(&self, x: &'a [T], image: usize, padded: usize) -> Option<&'a [T]> {
        let row = padded.checked_sub(self.padding.0)?;
        let width = self.width * self.channels;
        (row < self.height).then(|| &x[(image * self.height + row) * width..][..width])
    }

    /// Output columns whose pixel at kernel column `dj` lies inside the image.
    fn inside(&self, dj: usize) -> std::ops::Range<usize> {
        let (pad, s) = (self.padding.1, self.stride);
        let start = pad.saturating_sub(dj).div_ceil(s);
        let end = (self.width + pad).saturating_sub(dj).div_ceil(s);
        let end = end.min(self.out.1);
        start.min(end)..end
    }

    /// Writes the kernel-wide pieces of one image row under each output pixel of a line:
    /// `target [wo, pitch]`, at `offset` in each pixel.
    fn unfold_line<T: Real>(
        &self,
        source: Option<&[T]>,
        target: &mut [T],
        pitch: usize,
        offset: usize,
    ) {
        let (c, kw) = (self.channels, self.kernel.1);
        let Some(source) = source else {
            for pixel in target.chunks_exact_mut(pitch) {
                pixel[offset..offset + kw * c].fill(T::ZERO);
            }
            return;
        };
        for (j, pixel) in target.chunks_exact_mut(pitch).enumerate() {
            let pixel = &mut pixel[offset..offset + kw * c];
            // Columns `left..left + kw` of the padded row.
            let left = j * self.stride;
            if left >= self.padding.1 && left + kw <= self.width + self.padding.1 {
                pixel.copy_from_slice(&source[(left - self.padding.1) * c..][..kw * c]);
                continue;
            }
            for (dj, pixel) in pixel.chunks_exact_mut(c).enumerate() {
                match (left + dj).checked_sub(self.padding.1) {
                    Some(column) if column < self.width => {
                        pixel.copy_from_slice(&source[column * c..][..c]);
                    }
                    _ => pixel.fill(T::ZERO),
                }
            }
        }
    }

    /// Width of an image row with its padding.
    fn padded_width(&self) -> usize {
        self.width + 2 * self.padding.1
    }

    /// `[width, c]` → `[c, padded width]`; zeros when the row is padding.
    fn separate_channels<T: Real>(&self, source: Option<&[T]>, row: &mut [T]) {
        row.fill(T::ZERO);
        let Some(source) = source else { return };
        for (channel, row) in row.chunks_exact_mut(self.padded_width()).enumerate() {
            let row = row[self.padding.1..].iter_mut();
            for (value, &pixel) in row.zip(source[channel..].iter().step_by(self.channels)) {
                *value = pixel;
            }
        }
    }

    /// Writes what the pixels of one output line see of one image row: `elements [kw·c, pixels]`,
    /// from the separated channels of that row.
    fn gather_line<T: Real>(&self, row: &[T], elements: &mut [T], pixels: usize, line: usize) {
        let wo = self.out.1;
        let count = self.kernel.1 * self.channels;
        for (element, target) in elements.chunks_exact_mut(pixels).take(count).enumerate() {
            let (dj, channel) = (element / self.channels, element % self.channels);
            let target = &mut target[line * wo..][..wo];
            let source = &row[channel * self.padded_width() + dj..];
            if self.stride == 1 {
                target.copy_from_slice(&source[..wo]);
            } else {
                for (value, &pixel) in target.iter_mut().zip(source.iter().step_by(self.stride)) {
                    *value = pixel;
                }
            }
        }
    }

    /// The adjoint of [`Window::unfold_line`]: adds the pieces back into the image row.
    fn fold_line<T: Real>(&self, image_row: &mut [T], patches: &[T], pitch: usize, offset: usize) {
        let (c, kw) = (self.channels, self.kernel.1);
        for (j, pixel) in patches.chunks_exact(pitch).enumerate() {
            for (dj, pixel) in pixel[offset..offset + kw * c].chunks_exact(c).enumerate() {
                let column = (j * self.stride + dj).checked_sub(self.padding.1);
                if let Some(column) = column.filter(|&column| column < self.width) {
                    for (sum, &value) in image_row[column * c..][..c].iter_mut().zip(pixel) {
                        *sum += value;
                    }
                }
            }
        }
    }

    /// Adds one channel at kernel column `dj` of an output line back into the image row.
    fn spread_line<T: Real>(&self, image_row: &mut [T], line: &[T], dj: usize, channel: usize) {
        let inside = self.inside(dj);
        if inside.is_empty() {
            return;
        }
        let first = (inside.start * self.stride + dj - self.padding.1) * self.channels + channel;
        let step = self.stride * self.channels;
        let sums = image_row[first..].iter_mut().step_by(step);
        for (sum, &value) in sums.zip(&line[inside]) {
            *sum += value;
        }
    }
}

/// `y = P·W`, block by block.
fn convolve<T: Real>(window: &Window, tasks: usize, co: usize, x: &[T], w: &[T]) -> Vec<T> {
    if winograd::suits(window, co) {
        return winograd::convolve(window, tasks, co, x, w);
    }
    let layout = window.layout();
    let lines = window.items * window.out.0;
    let depth = window.depth();
    // Blocks of the whole convolution, small enough for every thread to get some.
    let share = (tasks * lines * window.out.1).div_ceil(PIECES);
    let blocks: Vec<Block> = (0..tasks)
        .flat_map(|task| {
            window
                .blocks(layout, 0, lines, share, co)
                .map(move |block| Block { task, ..block })
        })
        .collect();
    build(
        &blocks,
        |block| block.pixels(window) * co,
        2 * tasks * lines * window.out.1 * depth * co,
        |block, y| {
            let x = window.task(x, block.task);
            let w = &w[block.task * depth * co..][..depth * co];
            with_scratch(block.scratch(window), |scratch| {
                block.unfold(window, x, scratch);
                let sizes = [block.pixels(window), block.depth(window), co];
                let mut taps = w.chunks_exact(block.depth(window) * co);
                let first = taps.next().expect("a kernel has a first row");
                let patches = |tap| block.patches(window, scratch, tap);
                let y = product(sizes, y, patches(0), Matrix::rows(first, co));
                for (tap, w) in taps.enumerate() {
                    product_into(sizes, y, true, patches(tap + 1), Matrix::rows(w, co));
                }
            });
        },
    )
}

/// `[tw, kh·kw, ci, co]` → `[tw, kh·kw, co, ci]` with the kernel turned by 180°.
fn flip<T: Real>(window: &Window, tasks: usize, co: usize, w: &[T]) -> Vec<T> {
    let (taps, ci) = (window.kernel.0 * window.kernel.1, window.channels);
    build(
        &row_blocks(tasks, taps, 1),
        |_| ci * co,
        2 * w.len(),
        |tap, flipped| {
            let from = tap.task * taps + taps - 1 - tap.start;
            transpose(&w[from * ci * co..][..ci * co], co, 0..co, flipped);
        },
    )
}

/// `gx = fold(gy·Wᵀ)`: the input gradient of any window, with whole images per piece.
fn fold_gradient<T: Real>(window: &Window, tasks: usize, co: usize, gy: &[T], w: &[T]) -> Vec<T> {
    let layout = if window.channels < FEW_CHANNELS {
        Layout::Planar
    } else {
        Layout::Whole
    };
    let depth = window.depth();
    let (ho, wo) = window.out;
    let images = MIN_BLOCK_PIXELS.div_ceil(window.pixels());
    build_zeroed(
        &row_blocks(tasks, window.items, images),
        |piece| piece.len() * window.image(),
        2 * tasks * window.items * window.pixels() * depth * co,
        |piece, gx| {
            let w = &w[piece.task * depth * co..][..depth * co];
            let gy = piece.of(gy, window.items, window.pixels() * co);
            for block in window.blocks(layout, 0, piece.len() * ho, usize::MAX, co) {
                with_scratch(block.patch_len(window), |scratch| {
                    let pixels = block.pixels(window);
                    let gy = Matrix::rows(&gy[block.first * wo * co..], co);
                    // `[depth, co]ᵀ` is stored row-major as `[co, depth]` transposed.
                    let wt = Matrix::columns(w, co);
                    if layout == Layout::Planar {
                        let sizes = [depth, co, pixels];
                        product_into(sizes, scratch, false, wt.transposed(), gy.transposed());
                    } else {
                        product_into([pixels, co, depth], scratch, false, gy, wt);
                    }
                    block.fold(window, scratch, gx);
                });
            }
        },
    )
}

impl Block {
    /// The adjoint of [`Block::unfold`]: adds the patches into the images `gx`.
    fn fold<T: Real>(&self, window: &Window, patches: &[T], gx: &mut [T]) {
        let (kh, kw) = window.kernel;
        let (ho, wo) = window.out;
        let (c, depth, pixels) = (window.channels, self.depth(window), self.pixels(window));
        let width = window.width * c;
        for line in 0..self.lines {
            let (image, i) = ((self.first + line) / ho, (self.first + line) % ho);
            for di in 0..kh {
                let row = (i * window.stride + di).checked_sub(window.padding.0);
                let Some(row) = row.filter(|&row| row < window.height) else {
                    continue;
                };
                let target = &mut gx[(image * window.height + row) * width..][..width];
                if self.layout == Layout::Planar {
                    for dj in 0..kw {
                        for channel in 0..c {
                            let element = (di * kw + dj) * c + channel;
                            let source = &patches[element * pixels + line * wo..][..wo];
                            window.spread_line(target, source, dj, channel);
                        }
                    }
                } else {
                    let source = &patches[line * wo * depth..][..wo * depth];
                    window.fold_line(target, source, depth, di * kw * c);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        assert_close, assert_same_for_any_threads, dot, noise, tolerance, widen,
    };
    use super::*;

    struct Loops {
        y: Vec<f64>,
        gx: Vec<f64>,
        gw: Vec<f64>,
    }

    fn naive<T: Real>(g: &Conv2dForm, x: &[T], w: &[T], gy: &[T]) -> Loops {
        let (x, w, gy) = (widen(x), widen(w), widen(gy));
        let (kh, kw) = (g.kernel, g.kernel);
        let (ho, wo, ci, co) = (g.out_height(), g.out_width(), g.in_channels, g.out_channels);
        let mut out = Loops {
            y: vec![0.0; g.tasks * g.items * ho * wo * co],
            gx: vec![0.0; x.len()],
            gw: vec![0.0; w.len()],
        };
        for image in 0..g.tasks * g.items {
            let wt = if g.weight_tasks == 1 {
                0
            } else {
                image / g.items
            };
            for i in 0..ho {
                for j in 0..wo {
                    for tap in 0..kh * kw {
                        let row = (i * g.stride + tap / kw).checked_sub(g.padding);
                        let column = (j * g.stride + tap % kw).checked_sub(g.padding);
                        let (Some(row), Some(column)) = (row, column) else {
                            continue;
                        };
                        if row >= g.height || column >= g.width {
                            continue;
                        }
                        let xs = ((image * g.height + row) * g.width + column) * ci;
                        let ys = ((image * ho + i) * wo + j) * co;
                        for c in 0..ci {
                            for o in 0..co {
                                let at = ((wt * kh * kw + tap) * ci + c) * co + o;
                                out.y[ys + o] += x[xs + c] * w[at];
                                out.gx[xs + c] += gy[ys + o] * w[at];
                                out.gw[at] += x[xs + c] * gy[ys + o];
                            }
                        }
                    }
                }
            }
        }
        out
    }

    fn geometry(
        (tasks, items): (usize, usize),
        (height, width): (usize, usize),
        (in_channels, out_channels): (usize, usize),
        kernel: usize,
        (stride, padding): (usize, usize),
    ) -> Conv2dForm {
        Conv2dForm {
            tasks,
            weight_tasks: tasks,
            items,
            height,
            width,
            in_channels,
            out_channels,
            kernel,
            stride,
            padding,
        }
    }

    fn geometries() -> Vec<Conv2dForm> {
        let mut all = vec![
            geometry((3, 2), (14, 14), (8, 9), 3, (1, 1)),
            geometry((1, 3), (28, 28), (1, 8), 3, (1, 1)),
            geometry((2, 2), (7, 7), (64, 65), 3, (1, 1)),
            geometry((2, 1), (9, 12), (65, 64), 3, (1, 1)),
            geometry((4, 5), (3, 3), (8, 8), 3, (1, 1)),
            geometry((2, 3), (14, 14), (32, 40), 3, (1, 1)),
            geometry((3, 7), (7, 7), (64, 32), 3, (1, 1)),
            geometry((1, 5), (6, 9), (32, 32), 3, (1, 0)),
            geometry((2, 1), (13, 5), (40, 32), 3, (1, 2)),
            geometry((1, 2), (5, 120), (32, 32), 3, (1, 1)),
            geometry((1, 1), (31, 17), (16, 8), 5, (1, 2)),
            geometry((1, 40), (10, 10), (8, 8), 3, (1, 1)),
            geometry((1, 1), (1, 1), (1, 1), 1, (1, 0)),
            geometry((2, 3), (5, 5), (3, 8), 1, (1, 1)),
            geometry((2, 3), (5, 5), (8, 8), 1, (1, 1)),
            geometry((1, 2), (4, 70), (9, 4), 3, (1, 1)),
        ];
        for kernel in [1, 3, 5] {
            for stride in [1, 2, 3] {
                for padding in [0, 1] {
                    for channels in [(1, 8), (3, 5), (8, 3), (12, 16)] {
                        for size in [(6, 7), (9, 11)] {
                            let sp = (stride, padding);
                            all.push(geometry((2, 2), size, channels, kernel, sp));
                        }
                    }
                }
            }
        }
        let shared: Vec<_> = all
            .iter()
            .map(|g| Conv2dForm {
                weight_tasks: 1,
                ..*g
            })
            .collect();
        all.extend(shared);
        all
    }

    fn operands<T: Real>(g: &Conv2dForm) -> [Vec<T>; 3] {
        let images = g.tasks * g.items;
        let taps = g.kernel * g.kernel;
        [
            noise(1, images * g.height * g.width * g.in_channels),
            noise(2, g.weight_tasks * taps * g.in_channels * g.out_channels),
            noise(3, images * g.out_height() * g.out_width() * g.out_channels),
        ]
    }

    fn check<T: Real>() {
        for g in geometries() {
            let [x, w, gy] = operands::<T>(&g);
            let expected = naive(&g, &x, &w, &gy);
            let tolerance = tolerance::<T>();
            let y = conv2d(&g, &x, &w);
            assert_close(&y, &expected.y, tolerance, &format!("{g:?} y"));
            let gx = conv2d_input(&g, &gy, &w);
            assert_close(&gx, &expected.gx, tolerance, &format!("{g:?} gx"));
            let gw = conv2d_weight(&g, &x, &gy);
            assert_close(&gw, &expected.gw, tolerance, &format!("{g:?} gw"));
        }
    }

    #[test]
    fn equals_the_loops_in_f32() {
        check::<f32>();
    }

    #[test]
    fn equals_the_loops_in_f64() {
        check::<f64>();
    }

    #[test]
    fn the_three_maps_are_adjoint() {
        for g in geometries() {
            let [x, w, gy] = operands::<f64>(&g);
            let whole = dot(&conv2d(&g, &x, &w), &gy);
            let by_x = dot(&x, &conv2d_input(&g, &gy, &w));
            let by_w = dot(&w, &conv2d_weight(&g, &x, &gy));
            let scale = 1e-11 * (gy.len() as f64).sqrt() * 10.0;
            assert!((whole - by_x).abs() < scale, "{g:?}: {whole} {by_x}");
            assert!((whole - by_w).abs() < scale, "{g:?}: {whole} {by_w}");
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        for (tasks, items, size, channels) in [
            ((3, 3), 4, 28, (1, 16)),
            ((3, 3), 10, 14, (16, 16)),
            ((3, 1), 10, 14, (16, 24)),
            ((1, 1), 100, 7, (16, 16)),
            ((5, 5), 30, 3, (32, 16)),
            ((3, 3), 9, 14, (32, 32)),
            ((3, 1), 9, 7, (32, 40)),
            ((1, 1), 1, 60, (9, 16)),
        ] {
            for stride in [1, 2] {
                let g = Conv2dForm {
                    weight_tasks: tasks.1,
                    ..geometry((tasks.0, items), (size, size), channels, 3, (stride, 1))
                };
                let [x, w, gy] = operands::<f32>(&g);
                assert_same_for_any_threads(|| conv2d(&g, &x, &w));
                assert_same_for_any_threads(|| conv2d_input(&g, &gy, &w));
                assert_same_for_any_threads(|| conv2d_weight(&g, &x, &gy));
            }
        }
    }

    #[test]
    #[should_panic(expected = "the kernel must fit the padded image")]
    fn oversized_kernel_is_refused() {
        let g = geometry((1, 1), (2, 2), (1, 1), 5, (1, 1));
        let _ = conv2d(&g, &[0.0f32; 4], &[0.0; 25]);
    }
}
