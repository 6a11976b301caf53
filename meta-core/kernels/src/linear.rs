//! Batched matrix products: the linear layer with shared or per-task weights, and its two
//! gradients. The three maps are bilinear and differentiate into each other.

use crate::forms::LinearForm;

use super::blocks::{RowBlock, add_partials, check_len, row_blocks};
use super::buffers::{Fresh, build, with_scratch};
use super::gemm::{product, transpose, transpose_into};
use super::matrix::Matrix;
use super::real::{Real, wide};
use super::rows::rectified_value;

/// Multiply-adds of one piece; smaller pieces would spend their time packing the weight.
const PIECE_WORK: usize = 1 << 20;

/// Rows summed into one partial weight gradient.
const PARTIAL_ROWS: usize = 1024;

impl LinearForm {
    /// A shared weight sees the rows of all tasks as rows of one task.
    fn fold(self) -> Self {
        assert!(
            self.weight_tasks == 1 || self.weight_tasks == self.tasks,
            "weight_tasks is {}, must be 1 or {}",
            self.weight_tasks,
            self.tasks
        );
        if self.weight_tasks == self.tasks {
            return self;
        }
        Self {
            tasks: 1,
            items: self.tasks * self.items,
            ..self
        }
    }

    fn check(&self, x: Option<usize>, w: Option<usize>, y: Option<usize>) {
        let rows = self.tasks * self.items;
        if let Some(x) = x {
            check_len("x", x, rows * self.inputs);
        }
        if let Some(w) = w {
            check_len("w", w, self.weight_tasks * self.weight_len());
        }
        if let Some(y) = y {
            check_len("y", y, rows * self.outputs);
        }
    }

    fn weight_len(&self) -> usize {
        self.inputs * self.outputs
    }

    fn work(&self) -> usize {
        self.tasks * self.items * self.weight_len()
    }

    fn row_blocks(&self) -> Vec<RowBlock> {
        let rows = (PIECE_WORK / self.weight_len().max(1)).max(48);
        row_blocks(self.tasks, self.items, rows)
    }

    fn weight<'a, T>(&self, w: &'a [T], task: usize) -> &'a [T] {
        &w[task * self.weight_len()..][..self.weight_len()]
    }
}

/// `y[t] = x[t]·w[t]`.
///
/// `x [t, b, i]`, `w [tw, i, o]` → `y [t, b, o]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn linear<T: Real>(geometry: &LinearForm, x: &[T], w: &[T]) -> Vec<T> {
    linear_then(geometry, x, w, |_, _| {})
}

/// `y[t] = φ(x[t]·w[t] + b[t])`, where `rectified` makes φ a ReLU, which keeps a NaN.
///
/// `x [t, b, i]`, `w [tw, i, o]`, `b [tb, o]` with `tw, tb ∈ {1, t}` → `y [t, b, o]`.
///
/// # Panics
/// If a slice does not have the length its shape says, or `tw` is 1 and `tb` is not.
pub fn linear_add<T: Real>(
    geometry: &LinearForm,
    x: &[T],
    w: &[T],
    b: &[T],
    rectified: bool,
) -> Vec<T> {
    let o = geometry.outputs;
    let shared = b.len() == o;
    assert!(
        shared || b.len() == geometry.weight_tasks * o,
        "b has {} elements, not {o} for each weight",
        b.len()
    );
    linear_then(geometry, x, w, |task, y| {
        let b = &b[if shared { 0 } else { task * o }..][..o];
        if !rectified {
            add_bias(y, b, &|sum| sum)
        } else {
            add_bias(y, b, &rectified_value)
        }
    })
}

wide! {
    fn add_bias[T: Real, F: Fn(T) -> T](y: &mut [T], b: &[T], activation: &F) {
        for y in y.chunks_exact_mut(b.len().max(1)) {
            for (y, &b) in y.iter_mut().zip(b) {
                *y = activation(*y + b);
            }
        }
    }
}

/// [`linear`], each block of rows changed by `then`, which gets the weight's task, while it is in the
/// cache.
fn linear_then<T: Real>(
    geometry: &LinearForm,
    x: &[T],
    w: &[T],
    then: impl Fn(usize, &mut [T]) + Sync,
) -> Vec<T> {
    geometry.check(Some(x.len()), Some(w.len()), None);
    let g = geometry.fold();
    build(
        &g.row_blocks(),
        |block| block.len() * g.outputs,
        2 * g.work(),
        |block, y| {
            let y = product(
                [block.len(), g.inputs, g.outputs],
                y,
                Matrix::rows(block.of(x, g.items, g.inputs), g.inputs),
                Matrix::rows(g.weight(w, block.task), g.outputs),
            );
            then(block.task, y);
        },
    )
}

/// `gx[t] = gy[t]·w[t]ᵀ`, the adjoint of [`linear`] in `x`.
///
/// `gy [t, b, o]`, `w [tw, i, o]` → `gx [t, b, i]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn linear_input<T: Real>(geometry: &LinearForm, gy: &[T], w: &[T]) -> Vec<T> {
    geometry.check(None, Some(w.len()), Some(gy.len()));
    let g = geometry.fold();
    // Pieces that share a weight share its transpose.
    if g.row_blocks().len() <= g.tasks {
        return times_transpose(&g, |block, gx| {
            let w = g.weight(w, block.task);
            with_scratch(w.len(), |wt: &mut [T]| {
                transpose_into(w, g.outputs, 0..g.outputs, wt);
                times(&g, block, gy, wt, gx);
            });
        });
    }
    let transposed = build(
        &row_blocks(g.tasks, g.outputs, 64),
        |block| block.len() * g.inputs,
        2 * w.len(),
        |block, wt| {
            let w = g.weight(w, block.task);
            transpose(w, g.outputs, block.start..block.end, wt);
        },
    );
    times_transpose(&g, |block, gx| {
        times(&g, block, gy, g.weight(&transposed, block.task), gx);
    })
}

/// `gx` of a piece: `gy·wᵀ`, `wt [o, i]`.
fn times<T: Real>(g: &LinearForm, block: &RowBlock, gy: &[T], wt: &[T], gx: &mut Fresh<'_, T>) {
    product(
        [block.len(), g.outputs, g.inputs],
        gx,
        Matrix::rows(block.of(gy, g.items, g.outputs), g.outputs),
        Matrix::rows(wt, g.inputs),
    );
}

/// `gy·wᵀ`, piece by piece.
fn times_transpose<T: Real>(
    g: &LinearForm,
    fill: impl Fn(&RowBlock, &mut Fresh<'_, T>) + Sync,
) -> Vec<T> {
    build(
        &g.row_blocks(),
        |block| block.len() * g.inputs,
        2 * g.work(),
        fill,
    )
}

/// `gw[t] = x[t]ᵀ·gy[t]`, the adjoint of [`linear`] in `w`; summed over tasks when the weight is
/// shared.
///
/// `x [t, b, i]`, `gy [t, b, o]` → `gw [tw, i, o]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn linear_weight<T: Real>(geometry: &LinearForm, x: &[T], gy: &[T]) -> Vec<T> {
    geometry.check(Some(x.len()), None, Some(gy.len()));
    let g = geometry.fold();
    if g.items < 2 * PARTIAL_ROWS {
        return linear_weight_whole(&g, x, gy);
    }
    let partials = build(
        &row_blocks(g.tasks, g.items, PARTIAL_ROWS),
        |_| g.weight_len(),
        2 * g.work(),
        |block, gw| {
            product(
                [g.inputs, block.len(), g.outputs],
                gw,
                Matrix::columns(block.of(x, g.items, g.inputs), g.inputs),
                Matrix::rows(block.of(gy, g.items, g.outputs), g.outputs),
            );
        },
    );
    add_partials(partials, g.tasks, g.weight_len())
}

/// The weight gradient of few rows: the pieces are rows of `gw`, so nothing is left to add.
fn linear_weight_whole<T: Real>(g: &LinearForm, x: &[T], gy: &[T]) -> Vec<T> {
    let rows = (PIECE_WORK / (g.items * g.outputs).max(1)).max(64);
    build(
        &row_blocks(g.tasks, g.inputs, rows),
        |block| block.len() * g.outputs,
        2 * g.work(),
        |block, gw| {
            let x = &x[block.task * g.items * g.inputs..][..g.items * g.inputs];
            let gy = &gy[block.task * g.items * g.outputs..][..g.items * g.outputs];
            product(
                [block.len(), g.items, g.outputs],
                gw,
                Matrix::columns(x.get(block.start..).unwrap_or(&[]), g.inputs),
                Matrix::rows(gy, g.outputs),
            );
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        assert_close, assert_same_for_any_threads, dot, noise, tolerance, widen,
    };
    use super::*;

    fn naive<T: Real>(g: &LinearForm, x: &[T], w: &[T]) -> Vec<f64> {
        let mut y = vec![0.0; g.tasks * g.items * g.outputs];
        for t in 0..g.tasks {
            for b in 0..g.items {
                for o in 0..g.outputs {
                    let row = t * g.items + b;
                    y[row * g.outputs + o] = (0..g.inputs)
                        .map(|i| {
                            let wt = if g.weight_tasks == 1 { 0 } else { t };
                            x[row * g.inputs + i].to_f64()
                                * w[(wt * g.inputs + i) * g.outputs + o].to_f64()
                        })
                        .sum();
                }
            }
        }
        y
    }

    fn geometries() -> Vec<LinearForm> {
        let mut all = Vec::new();
        for (tasks, items, inputs, outputs) in [
            (1, 1, 1, 1),
            (1, 5, 3, 2),
            (4, 10, 40, 40),
            (3, 7, 65, 8),
            (2, 1, 8, 65),
            (5, 2, 1, 5),
            (1, 2500, 9, 5),
            (3, 800, 5, 3),
            (2, 30, 300, 70),
            (1, 50, 130, 200),
        ] {
            for weight_tasks in [1, tasks] {
                all.push(LinearForm {
                    tasks,
                    weight_tasks,
                    items,
                    inputs,
                    outputs,
                });
            }
        }
        all
    }

    fn check<T: Real>() {
        for g in geometries() {
            let x: Vec<T> = noise(1, g.tasks * g.items * g.inputs);
            let w: Vec<T> = noise(2, g.weight_tasks * g.weight_len());
            let gy: Vec<T> = noise(3, g.tasks * g.items * g.outputs);
            let y = linear(&g, &x, &w);
            assert_close(
                &y,
                &naive(&g, &x, &w),
                tolerance::<T>(),
                &format!("{g:?} y"),
            );
            for bias_tasks in [1, g.weight_tasks] {
                let b: Vec<T> = noise(4, bias_tasks * g.outputs);
                for rectified in [false, true] {
                    let affine = naive(&g, &x, &w).into_iter().enumerate().map(|(i, y)| {
                        let task = if bias_tasks == 1 {
                            0
                        } else {
                            i / (g.items * g.outputs)
                        };
                        let y = y + b[task * g.outputs + i % g.outputs].to_f64();
                        if rectified { y.max(0.0) } else { y }
                    });
                    let expected: Vec<f64> = affine.collect();
                    let y = linear_add(&g, &x, &w, &b, rectified);
                    assert_close(&y, &expected, tolerance::<T>(), &format!("{g:?} affine"));
                }
            }
            // The map is linear in x and in w, so the two identities pin both adjoints on random
            // directions; the loops below pin them element by element.
            let (gx, gw) = (linear_input(&g, &gy, &w), linear_weight(&g, &x, &gy));
            let magnitude = widen(&y)
                .iter()
                .zip(widen(&gy))
                .map(|(a, b)| (a * b).abs())
                .sum::<f64>()
                .max(1.0);
            let whole = dot(&y, &gy);
            for other in [dot(&x, &gx), dot(&w, &gw)] {
                assert!(
                    (whole - other).abs() <= 4.0 * tolerance::<T>() * magnitude,
                    "{g:?}: {whole} {other}"
                );
            }
            let mut expected_gx = vec![0.0; x.len()];
            let mut expected_gw = vec![0.0; w.len()];
            for row in 0..g.tasks * g.items {
                let wt = if g.weight_tasks == 1 {
                    0
                } else {
                    row / g.items
                };
                for i in 0..g.inputs {
                    for o in 0..g.outputs {
                        let gy = gy[row * g.outputs + o].to_f64();
                        let at = (wt * g.inputs + i) * g.outputs + o;
                        expected_gx[row * g.inputs + i] += gy * w[at].to_f64();
                        expected_gw[at] += gy * x[row * g.inputs + i].to_f64();
                    }
                }
            }
            assert_close(&gx, &expected_gx, tolerance::<T>(), &format!("{g:?} gx"));
            assert_close(&gw, &expected_gw, tolerance::<T>(), &format!("{g:?} gw"));
        }
    }

    #[test]
    fn equals_the_loops_and_its_adjoints() {
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        for (tasks, weight_tasks, items) in [(1, 1, 5000), (20, 20, 40), (20, 1, 300)] {
            let g = LinearForm {
                tasks,
                weight_tasks,
                items,
                inputs: 65,
                outputs: 40,
            };
            let x: Vec<f32> = noise(1, tasks * items * 65);
            let w: Vec<f32> = noise(2, weight_tasks * g.weight_len());
            let gy: Vec<f32> = noise(3, tasks * items * 40);
            assert_same_for_any_threads(|| linear(&g, &x, &w));
            assert_same_for_any_threads(|| linear_add(&g, &x, &w, &w[..40], true));
            assert_same_for_any_threads(|| linear_input(&g, &gy, &w));
            assert_same_for_any_threads(|| linear_weight(&g, &x, &gy));
        }
    }

    #[test]
    #[should_panic(expected = "w has 5 elements, its shape says 6")]
    fn wrong_length_is_refused() {
        let g = LinearForm {
            tasks: 1,
            weight_tasks: 1,
            items: 1,
            inputs: 2,
            outputs: 3,
        };
        let _ = linear(&g, &[0.0f32; 2], &[0.0; 5]);
    }
}
