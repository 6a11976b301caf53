//! Rows cut into blocks, and the partial results of blocks.

use super::buffers::{Fresh, build, build_zeroed};
use super::real::Real;

/// Elements of one piece of an element-wise kernel (64 KiB of `f32`): it stays in the second-level
/// cache between the passes over it.
pub(super) const PIECE_ELEMENTS: usize = 1 << 14;

/// A half-open range of rows of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowBlock {
    pub task: usize,
    pub start: usize,
    pub end: usize,
}

impl RowBlock {
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// The rows of this block in `data [tasks, rows, width]`.
    pub fn of<'a, T>(&self, data: &'a [T], rows: usize, width: usize) -> &'a [T] {
        let first = self.task * rows;
        &data[(first + self.start) * width..(first + self.end) * width]
    }
}

/// Cuts the `rows` rows of each task into as few even blocks of at most `block` rows as possible.
pub(super) fn row_blocks(tasks: usize, rows: usize, block: usize) -> Vec<RowBlock> {
    let count = rows.div_ceil(block.max(1));
    (0..tasks)
        .flat_map(|task| {
            (0..count).map(move |i| RowBlock {
                task,
                start: rows * i / count,
                end: rows * (i + 1) / count,
            })
        })
        .collect()
}

/// Runs a kernel on pieces of operands of one length, `work` scalar operations an element.
///
/// # Panics
/// If the operands differ in length, or the kernel leaves a piece unfinished.
pub(super) fn on_elements<T: Real, const N: usize>(
    operands: [&[T]; N],
    work: usize,
    kernel: impl Fn([&[T]; N], &mut Fresh<'_, T>) + Sync,
) -> Vec<T> {
    let len = operands[0].len();
    for operand in operands {
        check_len("an operand", operand.len(), len);
    }
    build(
        &row_blocks(1, len, PIECE_ELEMENTS),
        RowBlock::len,
        work * len,
        |piece, result| kernel(operands.map(|x| &x[piece.start..piece.end]), result),
    )
}

/// `Σ_p partials[task, p, ·]`: adds the partial results of each task in order.
///
/// `partials [tasks, count, len]` → `[tasks, len]`.
pub(super) fn add_partials<T: Real>(partials: Vec<T>, tasks: usize, len: usize) -> Vec<T> {
    if partials.len() == tasks * len {
        return partials;
    }
    let work = partials.len();
    let count = partials.len() / (tasks * len);
    let pieces = row_blocks(tasks, len, PIECE_ELEMENTS);
    build_zeroed(&pieces, RowBlock::len, work, |piece, sum| {
        for p in 0..count {
            let first = (piece.task * count + p) * len;
            let part = &partials[first + piece.start..first + piece.end];
            for (sum, &value) in sum.iter_mut().zip(part) {
                *sum += value;
            }
        }
    })
}

/// Panics with both numbers when a slice does not have the length its shape says.
#[track_caller]
pub(super) fn check_len(name: &str, actual: usize, expected: usize) {
    assert!(
        actual == expected,
        "{name} has {actual} elements, its shape says {expected}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_each_task_in_order() {
        for (rows, block) in [(1, 1), (7, 3), (8, 4), (9, 4), (5, 100), (0, 4)] {
            let blocks = row_blocks(2, rows, block);
            for task in 0..2 {
                let mut next = 0;
                for b in blocks.iter().filter(|b| b.task == task) {
                    assert_eq!(b.start, next);
                    assert!(b.len() <= block && b.len() > 0);
                    next = b.end;
                }
                assert_eq!(next, rows);
            }
        }
    }

    #[test]
    fn partials_are_added_per_task() {
        let sum = add_partials(vec![1.0f64, 2.0, 10.0, 20.0, 3.0, 4.0, 30.0, 40.0], 2, 2);
        assert_eq!(sum, [11.0, 22.0, 33.0, 44.0]);
    }
}
