//! The trilinear forms as one product each, in full single precision.
//!
//! CubeCL's own product rounds operands to 11 bits (TF32) on NVIDIA GPUs, and a convolution composed around
//! it copies every pixel nine times. Here a group of threads computes a tile of
//!
//! ```text
//! C[b, m, n] = Σ_k A[b, m, k] · B[b, k, n]
//! ```
//!
//! and reads `A` and `B` where they lie: windows of images are never gathered. Sums longer than
//! [`LONGEST`] are cut into parts that one more launch adds; how they are cut follows from the sizes of
//! one product, not from how many there are.

mod kernels;

use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::{CubeRuntime, cubecl::prelude::*, kernel::into_contiguous, tensor::CubeTensor};

use self::kernels::{Form, Left, MatrixLaunch, Right, SizesLaunch, UNITS, Windows};
use super::{
    launch::{add_parts, empty, groups, one_of_copies, small, threads},
    sums,
};
use crate::primitives::{Conv2dForm, LinearForm, PairsForm, Role, ScaleForm, TrilinearForm};

/// Terms of a sum that is not cut.
const LONGEST: usize = 1024;

/// Parts of a sum, at most.
const MOST_PARTS: usize = 128;

/// Numbers of the parts of one product, at most: 16 MB. A larger product has tiles enough for a device.
const MOST_OF_PARTS: usize = 1 << 22;

/// Where the numbers of a matrix lie. With `i` products beside each other, those of product `b` begin at
/// `⌊b / i⌋ · outer + (b mod i) · inner`.
#[derive(Clone, Copy, Debug)]
struct Matrix {
    outer: usize,
    inner: usize,
    row: usize,
    column: usize,
}

impl Matrix {
    /// Matrices one after the other, rows of `columns` numbers.
    fn rows(rows: usize, columns: usize) -> Self {
        Matrix {
            outer: rows * columns,
            inner: 0,
            row: columns,
            column: 1,
        }
    }

    /// The transposed matrices.
    fn transposed(self) -> Self {
        Matrix {
            row: self.column,
            column: self.row,
            ..self
        }
    }

    fn launch<R: CubeRuntime>(self) -> MatrixLaunch<R> {
        let [outer, inner, row, column] =
            [self.outer, self.inner, self.row, self.column].map(small);
        MatrixLaunch::new(outer, inner, row, column)
    }
}

/// A product, in all its sizes.
struct Product {
    /// Products, of which `inner` at a time lie beside each other.
    batches: usize,
    inner: usize,
    rows: usize,
    terms: usize,
    columns: usize,
    left: (Left, Matrix),
    right: (Right, Matrix),
    out: Matrix,
}

impl Product {
    /// The parts that a sum is cut into, and the terms of each but the last.
    fn parts(&self) -> (usize, usize) {
        let most = (MOST_OF_PARTS / (self.rows * self.columns).max(1)).clamp(1, MOST_PARTS);
        let parts = (self.terms / LONGEST).clamp(1, most);
        let terms = self.terms.div_ceil(parts).max(1).next_multiple_of(16);
        (self.terms.div_ceil(terms).max(1), terms)
    }

    /// Rows and columns that a thread computes: more where there are many.
    fn tile(&self) -> (usize, usize) {
        let columns = match self.columns {
            0..=16 => 1,
            17..=32 => 2,
            _ => 4,
        };
        let rows = match self.rows {
            0..=16 => 1,
            17..=256 => 4,
            _ => 8,
        };
        (rows, columns)
    }

    /// Computes into a new tensor of this shape.
    fn compute<R: CubeRuntime, const D: usize>(
        self,
        a: CubeTensor<R>,
        b: CubeTensor<R>,
        shape: [usize; D],
    ) -> CubeTensor<R> {
        let (parts, of_part) = self.parts();
        let count = shape.iter().product::<usize>();
        let (rows_of_thread, columns_of_thread) = self.tile();
        let tiles_down = self.rows.div_ceil(rows_of_thread * UNITS);
        let tiles_across = self.columns.div_ceil(columns_of_thread * UNITS);
        let form = Form {
            left: self.left.0,
            right: self.right.0,
            rows: rows_of_thread,
            columns: columns_of_thread,
            left_along: self.left.1.column <= self.left.1.row,
            right_along: self.right.1.row < self.right.1.column,
        };
        let out = empty(&a, shape, DType::F32);
        let target = match parts {
            1 => out.clone(),
            parts => empty(&a, [parts, count], DType::F32),
        };
        let sizes = SizesLaunch::new(
            small(self.batches),
            small(self.inner),
            small(self.rows),
            small(self.terms),
            small(self.columns),
            small(parts),
            small(of_part),
            small(count),
        );
        let client = a.client.clone();
        kernels::multiply::launch::<R>(
            &client,
            groups(tiles_down * tiles_across * parts * self.batches),
            CubeDim::new_1d((UNITS * UNITS) as u32),
            a.into_tensor_arg(),
            b.into_tensor_arg(),
            target.clone().into_tensor_arg(),
            self.left.1.launch(),
            self.right.1.launch(),
            self.out.launch(),
            sizes,
            form,
        );
        if parts > 1 {
            add_parts(&client, target, &out, parts, count);
        }
        out
    }
}

/// See [`crate::primitives::Primitives::contract`].
pub fn contract<R: CubeRuntime>(
    form: &TrilinearForm,
    wanted: Role,
    left: CubeTensor<R>,
    right: CubeTensor<R>,
) -> CubeTensor<R> {
    let (mut left, mut right) = (left, right);
    let mut form = *form;
    if !matches!(form, TrilinearForm::Pairs(_)) {
        let weight = match wanted {
            Role::Output => Some(&mut right),
            Role::Input => Some(&mut left),
            Role::Weight => None,
        };
        if let Some(weight) = weight {
            *weight = one_of_copies(weight.clone());
            form = form.with_weight_tasks(weight.shape()[0]);
        }
    }
    let [left, right] = [left, right].map(into_contiguous);
    match &form {
        TrilinearForm::Linear(form) => linear(form, wanted, left, right),
        TrilinearForm::Conv2d(form) => conv2d(form, wanted, left, right),
        TrilinearForm::Pairs(form) => pairs(form, wanted, left, right),
        TrilinearForm::Scale(form) => scale(form, wanted, left, right),
    }
}

fn linear<R: CubeRuntime>(
    form: &LinearForm,
    wanted: Role,
    left: CubeTensor<R>,
    right: CubeTensor<R>,
) -> CubeTensor<R> {
    let LinearForm {
        tasks,
        weight_tasks,
        items,
        inputs,
        outputs,
    } = *form;
    let rows = tasks * items / weight_tasks;
    let x = Matrix::rows(rows, inputs);
    let w = Matrix::rows(inputs, outputs);
    let y = Matrix::rows(rows, outputs);
    let product = |rows, terms, columns, left, right, out| Product {
        batches: weight_tasks,
        inner: 1,
        rows,
        terms,
        columns,
        left: (Left::Matrix, left),
        right: (Right::Matrix, right),
        out,
    };
    match wanted {
        Role::Output => {
            let product = product(rows, inputs, outputs, x, w, y);
            product.compute(left, right, [tasks, items, outputs])
        }
        Role::Input => {
            let product = product(rows, outputs, inputs, y, w.transposed(), x);
            product.compute(right, left, [tasks, items, inputs])
        }
        Role::Weight => {
            let product = product(inputs, rows, outputs, x.transposed(), y, w);
            product.compute(left, right, [weight_tasks, inputs, outputs])
        }
    }
}

fn conv2d<R: CubeRuntime>(
    form: &Conv2dForm,
    wanted: Role,
    left: CubeTensor<R>,
    right: CubeTensor<R>,
) -> CubeTensor<R> {
    let Conv2dForm {
        tasks,
        weight_tasks,
        items,
        height,
        width,
        in_channels,
        out_channels,
        kernel,
        ..
    } = *form;
    let (out_height, out_width) = (form.out_height(), form.out_width());
    let images = tasks * items / weight_tasks;
    let (read, written) = (out_height * out_width * images, height * width * images);
    let taps = kernel * kernel;
    let w = Matrix::rows(taps * in_channels, out_channels);
    let product = |rows, terms, columns, left, right, out| Product {
        batches: weight_tasks,
        inner: 1,
        rows,
        terms,
        columns,
        left,
        right,
        out,
    };
    // Where windows are read, the matrix says which axis is next to each other in memory.
    let windows = Matrix::rows(1, 2);
    match wanted {
        Role::Output => {
            let left_kind = (Left::Windows(Windows::read(form)), windows);
            let (columns, out) = (out_channels, Matrix::rows(read, out_channels));
            let right_kind = (Right::Matrix, w);
            product(
                read,
                taps * in_channels,
                columns,
                left_kind,
                right_kind,
                out,
            )
            .compute(
                left,
                right,
                [tasks, items, out_height, out_width, out_channels],
            )
        }
        Role::Input => {
            let left_kind = (Left::Windows(Windows::written(form)), windows);
            let (columns, out) = (in_channels, Matrix::rows(written, in_channels));
            // The weight of the last tap first, inputs and outputs exchanged.
            let mirrored = Matrix {
                row: 1,
                column: out_channels,
                ..w
            };
            let right_kind = (
                Right::Mirrored {
                    taps,
                    inputs: in_channels,
                    outputs: out_channels,
                },
                mirrored,
            );
            let terms = taps * out_channels;
            product(written, terms, columns, left_kind, right_kind, out).compute(
                right,
                left,
                [tasks, items, height, width, in_channels],
            )
        }
        Role::Weight => {
            let kind = Left::TransposedWindows(Windows::read(form));
            let left_kind = (kind, windows.transposed());
            let right_kind = (Right::Matrix, Matrix::rows(read, out_channels));
            let rows = taps * in_channels;
            product(rows, read, out_channels, left_kind, right_kind, w).compute(
                left,
                right,
                [weight_tasks, taps, in_channels, out_channels],
            )
        }
    }
}

fn pairs<R: CubeRuntime>(
    form: &PairsForm,
    wanted: Role,
    left: CubeTensor<R>,
    right: CubeTensor<R>,
) -> CubeTensor<R> {
    let PairsForm {
        tasks,
        sequences,
        heads,
        queries,
        keys,
        width,
    } = *form;
    let tokens = |length: usize| Matrix {
        outer: length * heads * width,
        inner: width,
        row: heads * width,
        column: 1,
    };
    let (x, y) = (tokens(queries), tokens(keys));
    let map = Matrix {
        outer: heads * queries * keys,
        inner: queries * keys,
        row: keys,
        column: 1,
    };
    let product = |rows, terms, columns, left, right, out| Product {
        batches: sequences * heads,
        inner: heads,
        rows,
        terms,
        columns,
        left: (Left::Matrix, left),
        right: (Right::Matrix, right),
        out,
    };
    let shape = |length: usize| [tasks, sequences / tasks * length, heads * width];
    match wanted {
        Role::Output => product(queries, width, keys, x, y.transposed(), map).compute(
            left,
            right,
            [sequences, heads, queries, keys],
        ),
        // From the keys and the map.
        Role::Input => {
            product(queries, keys, width, map, y, x).compute(right, left, shape(queries))
        }
        // From the queries and the map.
        Role::Weight => {
            let product = product(keys, queries, width, map.transposed(), x, y);
            product.compute(right, left, shape(keys))
        }
    }
}

/// A product of one number for each channel; the adjoint in that number is a sum over rows, as a product
/// with ones is.
fn scale<R: CubeRuntime>(
    form: &ScaleForm,
    wanted: Role,
    left: CubeTensor<R>,
    right: CubeTensor<R>,
) -> CubeTensor<R> {
    let ScaleForm {
        tasks,
        weight_tasks,
        rows,
        channels,
    } = *form;
    let client = left.client.clone();
    let of_weight = tasks * rows / weight_tasks * channels;
    match wanted {
        Role::Output | Role::Input => {
            // The weight is the right operand of the output, the left one of the input.
            let (x, a) = match wanted {
                Role::Output => (left, right),
                _ => (right, left),
            };
            let out = empty(&x, [tasks, rows, channels], DType::F32);
            let (count, units) = threads(tasks * rows * channels);
            kernels::scale::launch::<R>(
                &client,
                count,
                units,
                x.into_tensor_arg(),
                a.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                small(channels),
                small(of_weight.max(1)),
            );
            out
        }
        Role::Weight => sums::rows(left, Some(right), weight_tasks, channels),
    }
}
