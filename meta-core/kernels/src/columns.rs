//! Columns of rows: taken out, put back into zeros, and rows side by side. Taking out and putting back are
//! each other's adjoints, and taking out either part is an adjoint of the third.

use super::blocks::{PIECE_ELEMENTS, RowBlock, check_len, row_blocks};
use super::buffers::{Fresh, build};
use super::real::Real;

/// Rows of `width` elements, `len` of them in all, in pieces that fit the cache.
fn pieces(len: usize, width: usize) -> Vec<RowBlock> {
    let rows = len.checked_div(width).unwrap_or(0);
    row_blocks(1, rows, PIECE_ELEMENTS.div_ceil(width.max(1)))
}

fn put<T: Real>(to: &mut Fresh<'_, T>, values: &[T]) {
    to.put(values.iter().copied());
}

/// Columns `start..start + count` of every row: `x [rows, width]` → `y [rows, count]`.
///
/// # Panics
/// If the rows do not have those columns, or do not fill `x`.
pub fn columns<T: Real>(width: usize, x: &[T], start: usize, count: usize) -> Vec<T> {
    check(width, start, count);
    check_len("x", x.len() % width.max(1), 0);
    build(
        &pieces(x.len(), width),
        |piece| piece.len() * count,
        x.len(),
        |piece, y| {
            for row in piece.of(x, 0, width).chunks_exact(width) {
                put(y, &row[start..start + count]);
            }
        },
    )
}

/// The adjoint of [`columns`]: `y [rows, count]` → `x [rows, width]`, zero elsewhere.
///
/// # Panics
/// If the rows do not have those columns, or do not fill `y`.
pub fn columns_adjoint<T: Real>(width: usize, y: &[T], start: usize, count: usize) -> Vec<T> {
    check(width, start, count);
    assert!(count > 0, "no columns to put back");
    check_len("y", y.len() % count, 0);
    let rest = width - start - count;
    build(
        &pieces(y.len(), count),
        |piece| piece.len() * width,
        y.len() / count * width,
        |piece, x| {
            for row in piece.of(y, 0, count).chunks_exact(count) {
                x.put(std::iter::repeat_n(T::ZERO, start));
                put(x, row);
                x.put(std::iter::repeat_n(T::ZERO, rest));
            }
        },
    )
}

/// Rows side by side: `x [rows, widths[0]]`, `y [rows, widths[1]]` → `[rows, widths[0] + widths[1]]`.
///
/// # Panics
/// If the two do not have equally many rows.
pub fn join<T: Real>([of_x, of_y]: [usize; 2], x: &[T], y: &[T]) -> Vec<T> {
    let width = of_x + of_y;
    let rows = (x.len() + y.len()).checked_div(width).unwrap_or(0);
    check_len("x", x.len(), rows * of_x);
    check_len("y", y.len(), rows * of_y);
    build(
        &pieces(rows * width, width),
        |piece| piece.len() * width,
        rows * width,
        |piece, z| {
            for row in piece.start..piece.end {
                put(z, &x[row * of_x..][..of_x]);
                put(z, &y[row * of_y..][..of_y]);
            }
        },
    )
}

fn check(width: usize, start: usize, count: usize) {
    assert!(
        start + count <= width,
        "columns {start} to {} of rows of {width}",
        start + count
    );
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_same_for_any_threads, noise};
    use super::*;

    #[test]
    fn takes_and_puts_back_what_the_loops_do() {
        for (rows, width, start, count) in [(1, 1, 0, 1), (5, 7, 2, 3), (3000, 33, 16, 17)] {
            let x: Vec<f64> = noise(1, rows * width);
            let y = columns(width, &x, start, count);
            for row in 0..rows {
                for column in 0..count {
                    assert_eq!(y[row * count + column], x[row * width + start + column]);
                }
            }
            let back = columns_adjoint(width, &y, start, count);
            for row in 0..rows {
                for column in 0..width {
                    let kept = (start..start + count).contains(&column);
                    let expected = if kept { x[row * width + column] } else { 0.0 };
                    assert_eq!(back[row * width + column], expected);
                }
            }
        }
    }

    #[test]
    fn what_is_joined_comes_apart_again() {
        for (rows, widths) in [(1, [1, 1]), (4, [0, 3]), (3000, [5, 33])] {
            let x: Vec<f32> = noise(1, rows * widths[0]);
            let y: Vec<f32> = noise(2, rows * widths[1]);
            let both = join(widths, &x, &y);
            let width = widths[0] + widths[1];
            assert_eq!(columns(width, &both, 0, widths[0]), x);
            assert_eq!(columns(width, &both, widths[0], widths[1]), y);
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let x: Vec<f32> = noise(1, 1 << 21);
        assert_same_for_any_threads(|| columns(64, &x, 3, 40));
        assert_same_for_any_threads(|| columns_adjoint(64, &x, 3, 32));
        assert_same_for_any_threads(|| join([32, 32], &x, &x));
    }
}
