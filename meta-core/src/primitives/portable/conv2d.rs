//! Convolution and its two adjoints as products of gathered windows.

use burn::tensor::Tensor;

use super::super::{Conv2dForm, Primitives, Role};
use super::*;

/// How images are laid into a frame of zeros, and windows over it.
#[derive(Clone, Copy)]
struct Frame {
    /// The distance that pixels are moved apart to.
    spread: usize,
    /// Zeros before the first pixel; less than none where pixels are left out.
    before: isize,
    height: usize,
    width: usize,
    /// The distance of windows.
    step: usize,
}

impl Frame {
    /// What the windows of a convolution read: at `(row, column)` of the output, all taps.
    fn read(form: &Conv2dForm) -> Self {
        let extent = |windows: usize| (windows - 1) * form.stride + form.kernel;
        Frame {
            spread: 1,
            before: form.padding as isize,
            height: extent(form.out_height()),
            width: extent(form.out_width()),
            step: form.stride,
        }
    }

    /// Where an input was read: at `(row, column)` of the input, for all taps from the last to the first,
    /// the output that it went to.
    fn written(form: &Conv2dForm) -> Self {
        Frame {
            spread: form.stride,
            before: form.kernel as isize - 1 - form.padding as isize,
            height: form.height + form.kernel - 1,
            width: form.width + form.kernel - 1,
            step: 1,
        }
    }

    /// The images `[n, h, w, c]` in the frame.
    fn lay<B: Primitives>(self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let ([n, h, w, c], options) = (x.dims(), (&x.device(), x.dtype()));
        let x = match self.spread {
            1 => x,
            s => Tensor::zeros([n, h, s, w, s, c], options)
                .slice_assign(
                    [0..n, 0..h, 0..1, 0..w, 0..1, 0..c],
                    x.reshape([n, h, 1, w, 1, c]),
                )
                .reshape([n, h * s, w * s, c]),
        };
        let [_, h, w, _] = x.dims();
        let (from, to) = (
            self.before.min(0).unsigned_abs(),
            self.before.max(0) as usize,
        );
        let rows = h.saturating_sub(from).min(self.height.saturating_sub(to));
        let columns = w.saturating_sub(from).min(self.width.saturating_sub(to));
        let frame = || Tensor::zeros([n, self.height, self.width, c], options);
        if rows * columns == 0 {
            return frame();
        }
        let x = x.slice([0..n, from..from + rows, from..from + columns, 0..c]);
        if [rows, columns] == [self.height, self.width] {
            return x;
        }
        frame().slice_assign([0..n, to..to + rows, to..to + columns, 0..c], x)
    }
}

/// Taps of a window of so many channels, with as many empty ones after them as make a row of whole groups
/// of four numbers, which is how GPUs read them.
fn padded_taps(form: &Conv2dForm, channels: usize) -> usize {
    let taps = form.kernel * form.kernel;
    (taps..)
        .find(|taps| (taps * channels).is_multiple_of(4))
        .expect("one of four in a row")
}

/// The windows of images as rows, `[weight_tasks, rows, kernel² · channels]`: a view, copied by one kernel.
fn windows<B: Primitives>(form: &Conv2dForm, frame: Frame, x: Tensor<B, 5>) -> Tensor<B, 3> {
    let [tasks, items, height, width, channels] = x.dims();
    let framed = frame.lay(x.reshape([tasks * items, height, width, channels]));
    let rows: Tensor<B, 5> = framed.unfold(1, form.kernel, frame.step);
    let windows: Tensor<B, 6> = rows.unfold(2, form.kernel, frame.step);
    let [n, rows, columns, ..] = windows.dims();
    let taps = form.kernel * form.kernel;
    let windows = windows.permute([0, 1, 2, 4, 5, 3]).reshape([
        form.weight_tasks,
        n * rows * columns / form.weight_tasks,
        taps * channels,
    ]);
    with_zeros(2, (padded_taps(form, channels) - taps) * channels, windows)
}

/// `x` and so many zeros after it along an axis.
fn with_zeros<B: Primitives>(axis: usize, count: usize, x: Tensor<B, 3>) -> Tensor<B, 3> {
    if count == 0 {
        return x;
    }
    let mut shape = x.dims();
    shape[axis] = count;
    let zeros = Tensor::zeros(shape, (&x.device(), x.dtype()));
    Tensor::cat(vec![x, zeros], axis)
}

/// The weight `[weight_tasks, kernel², channels, outputs]` as a matrix that fits the windows.
fn weight_matrix<B: Primitives>(form: &Conv2dForm, weight: Tensor<B, 4>) -> Tensor<B, 3> {
    let [tasks, taps, channels, outputs] = weight.dims();
    let empty = (padded_taps(form, channels) - taps) * channels;
    with_zeros(1, empty, weight.reshape([tasks, taps * channels, outputs]))
}

fn output_rows<B: Primitives>(form: &Conv2dForm, y: Tensor<B, 5>) -> Tensor<B, 3> {
    let rows = form.tasks * form.items * form.out_height() * form.out_width();
    y.reshape([
        form.weight_tasks,
        rows / form.weight_tasks,
        form.out_channels,
    ])
}

/// Numbers of the windows that are gathered at once, at most: a buffer of 64 MiB in f32, and half of what
/// every WebGPU device has.
const GATHERED: usize = 1 << 24;

/// The form cut in two, and the axis along which, where its windows are too many to be gathered at once.
fn halves(form: &Conv2dForm, wanted: Role) -> Option<(usize, [Conv2dForm; 2])> {
    let (pixels, channels) = match wanted {
        Role::Input => (form.height * form.width, form.out_channels),
        Role::Weight | Role::Output => (form.out_height() * form.out_width(), form.in_channels),
    };
    let numbers = pixels * padded_taps(form, channels) * channels * form.items * form.tasks;
    if numbers <= GATHERED || form.items * form.tasks == 1 {
        return None;
    }
    let mut halves = [*form; 2];
    let axis = match form.items {
        1 => {
            halves[0].tasks = form.tasks / 2;
            halves[1].tasks = form.tasks - form.tasks / 2;
            if form.weight_tasks > 1 {
                halves
                    .iter_mut()
                    .for_each(|half| half.weight_tasks = half.tasks);
            }
            0
        }
        items => {
            halves[0].items = items / 2;
            halves[1].items = items - items / 2;
            1
        }
    };
    Some((axis, halves))
}

/// The images of each half.
fn cut<B: Primitives>(axis: usize, halves: &[Conv2dForm; 2], x: Tensor<B, 5>) -> [Tensor<B, 5>; 2] {
    let first = match axis {
        0 => halves[0].tasks,
        _ => halves[0].items,
    };
    let rest = x.dims()[axis] - first;
    [
        x.clone().narrow(axis, 0, first),
        x.narrow(axis, first, rest),
    ]
}

/// The weights of each half.
fn cut_weight<B: Primitives>(halves: &[Conv2dForm; 2], weight: Tensor<B, 4>) -> [Tensor<B, 4>; 2] {
    let [first, second] = halves.map(|half| half.weight_tasks);
    if weight.dims()[0] == first {
        [weight.clone(), weight]
    } else {
        [
            weight.clone().narrow(0, 0, first),
            weight.narrow(0, first, second),
        ]
    }
}

pub(super) fn conv2d<B: Primitives>(
    form: &Conv2dForm,
    x: Tensor<B, 5>,
    weight: Tensor<B, 4>,
) -> Tensor<B, 5> {
    if let Some((axis, halves)) = halves(form, Role::Output) {
        let ([x, x2], [w, w2]) = (cut(axis, &halves, x), cut_weight(&halves, weight));
        let outputs = vec![conv2d(&halves[0], x, w), conv2d(&halves[1], x2, w2)];
        return Tensor::cat(outputs, axis);
    }
    windows(form, Frame::read(form), x)
        .matmul(weight_matrix(form, weight))
        .reshape([
            form.tasks,
            form.items,
            form.out_height(),
            form.out_width(),
            form.out_channels,
        ])
}

/// The adjoint in the input, again a convolution: each input gathers the outputs that it went to.
pub(super) fn conv2d_input<B: Primitives>(
    form: &Conv2dForm,
    weight: Tensor<B, 4>,
    y: Tensor<B, 5>,
) -> Tensor<B, 5> {
    if let Some((axis, halves)) = halves(form, Role::Input) {
        let ([y, y2], [w, w2]) = (cut(axis, &halves, y), cut_weight(&halves, weight));
        let inputs = vec![
            conv2d_input(&halves[0], w, y),
            conv2d_input(&halves[1], w2, y2),
        ];
        return Tensor::cat(inputs, axis);
    }
    windows(form, Frame::written(form), y)
        .matmul(weight_matrix(form, weight.flip([1]).swap_dims(2, 3)))
        .reshape([
            form.tasks,
            form.items,
            form.height,
            form.width,
            form.in_channels,
        ])
}

pub(super) fn conv2d_weight<B: Primitives>(
    form: &Conv2dForm,
    x: Tensor<B, 5>,
    y: Tensor<B, 5>,
) -> Tensor<B, 4> {
    if let Some((axis, halves)) = halves(form, Role::Weight) {
        let ([x, x2], [y, y2]) = (cut(axis, &halves, x), cut(axis, &halves, y));
        let (first, second) = (
            conv2d_weight(&halves[0], x, y),
            conv2d_weight(&halves[1], x2, y2),
        );
        return if axis == 0 && form.weight_tasks > 1 {
            Tensor::cat(vec![first, second], 0)
        } else {
            first + second
        };
    }
    let x = windows(form, Frame::read(form), x);
    let taps = form.kernel * form.kernel;
    outer_products(x, output_rows(form, y), form.tasks)
        .narrow(1, 0, taps * form.in_channels)
        .reshape([form.weight_tasks, taps, form.in_channels, form.out_channels])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_form_is_cut_between_its_tasks() {
        let form = Conv2dForm {
            tasks: 3,
            weight_tasks: 3,
            items: 1,
            height: 1500,
            width: 1000,
            in_channels: 2,
            out_channels: 1,
            kernel: 3,
            stride: 1,
            padding: 1,
        };
        let (axis, [first, second]) = halves(&form, Role::Output).expect("too large at once");
        assert_eq!((axis, first.tasks, second.tasks), (0, 1, 2));
        assert_eq!((first.weight_tasks, second.weight_tasks), (1, 2));
        assert_eq!(halves(&first, Role::Output), None);
    }
}
