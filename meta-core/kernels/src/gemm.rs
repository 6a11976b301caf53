//! A safe matrix product over slices: tiles in registers where they suffice, else the `gemm` crate,
//! to which this is the one door.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::buffers::Fresh;
use super::matrix::Matrix;
use super::real::Real;
use super::tile;

/// `C[m, n] = A[m, k]·B[k, n]` as the next `m·n` elements of a new vector, row-major; lends them.
/// Single-threaded: the kernels above it are parallel over tasks and rows.
///
/// # Panics
/// If an operand does not hold a matrix of its size, or the result does not fit.
#[allow(unsafe_code)]
pub fn product<'c, T: Real>(
    [m, k, n]: [usize; 3],
    c: &'c mut Fresh<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
) -> &'c mut [T] {
    let count = m.checked_mul(n).expect("C fits memory");
    // SAFETY: `put_raw` lends `count = m·n` elements, and `call` writes them all without reading.
    unsafe { c.put_raw(count, |c| call([m, k, n], c, n, false, a, b)) }
}

/// `C[m, n] = A[m, k]·B[k, n]`, or `C + A·B` when `add`, with `C` row-major and contiguous.
///
/// # Panics
/// If an operand does not hold a matrix of its size, or `C` is not one.
#[allow(unsafe_code)]
pub fn product_into<T: Real>(
    [m, k, n]: [usize; 3],
    c: &mut [T],
    add: bool,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
) {
    assert!(
        m.checked_mul(n) == Some(c.len()),
        "C has {} elements, not {m}×{n}",
        c.len()
    );
    // SAFETY: `c` has `m·n` elements, all initialised, and is exclusively borrowed.
    unsafe { call([m, k, n], c.as_mut_ptr(), n, add, a, b) }
}

/// `C[m, n] = A[m, k]·B[k, n]` with the rows of `C` `pitch` elements apart; what lies between them
/// stays as it is.
///
/// # Panics
/// If an operand does not hold a matrix of its size.
#[allow(unsafe_code)]
pub fn product_in_rows<T: Real>(
    [m, k, n]: [usize; 3],
    c: &mut [T],
    pitch: usize,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
) {
    assert!(
        n <= pitch && Matrix::rows(c, pitch).holds(m, n),
        "C does not hold {m}×{n} elements"
    );
    // SAFETY: `c` holds `m` rows of `n` elements, `pitch` apart, all initialised, and is exclusively
    // borrowed.
    unsafe { call([m, k, n], c.as_mut_ptr(), pitch, false, a, b) }
}

/// The call itself, behind the assertions that prove it.
///
/// # Safety
/// `c` must point to `m` rows of `n` elements, `pitch ≥ n` apart, that nothing else accesses; they
/// must be initialised when `add`. When not, they are only written.
#[allow(unsafe_code)]
unsafe fn call<T: Real>(
    [m, k, n]: [usize; 3],
    c: *mut T,
    pitch: usize,
    add: bool,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
) {
    assert!(a.holds(m, k), "A does not hold {m}×{k} elements");
    assert!(b.holds(k, n), "B does not hold {k}×{n} elements");
    // SAFETY: the caller vouches for `c`; memory that may be uninitialised holds any element.
    let in_registers = unsafe {
        let len = if m * n > 0 { (m - 1) * pitch + n } else { 0 };
        let c = std::slice::from_raw_parts_mut(c.cast::<MaybeUninit<T>>(), len);
        tile::product([m, k, n], c, pitch, add, a, b)
    };
    if in_registers {
        return;
    }
    // SAFETY: `T` is `f32` or `f64` (`Real` is sealed), the types `gemm` accepts. The assertions
    // keep every element that the sizes and strides can reach inside its slice, and the caller
    // vouches for `c`. Strides that reach an element of a slice fit `isize`; one that is never
    // multiplied by more than zero is replaced by 1. Without `read_dst`, `gemm` overwrites `c`
    // and does not read it.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            1,
            stride(m, pitch),
            add,
            a.data.as_ptr(),
            stride(k, a.column),
            stride(m, a.row),
            b.data.as_ptr(),
            stride(n, b.column),
            stride(k, b.row),
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// The columns `columns` of `from [rows, width]`, as rows of a new matrix
/// `[columns.len(), rows]`.
pub fn transpose<T: Real>(from: &[T], width: usize, columns: Range<usize>, to: &mut Fresh<'_, T>) {
    transpose_into(from, width, columns, to.zeros());
}

/// [`transpose`] into memory that exists.
#[allow(unsafe_code)]
pub fn transpose_into<T: Real>(from: &[T], width: usize, columns: Range<usize>, to: &mut [T]) {
    let rows = from.len() / width;
    assert!(
        columns.end <= width && to.len() == columns.len() * rows,
        "{} elements for columns {columns:?} of {rows}×{width}",
        to.len()
    );
    let mut whole = [0, 0];
    #[cfg(target_arch = "x86_64")]
    if size_of::<T>() == size_of::<f32>() && std::arch::is_x86_feature_detected!("avx") {
        whole = [rows / TILE * TILE, columns.len() / TILE * TILE];
        // SAFETY: `Real` is sealed, and its only type of this size is `f32`: same memory, same
        // borrows. The processor has AVX.
        unsafe {
            let from = std::slice::from_raw_parts(from.as_ptr().cast::<f32>(), from.len());
            let to = std::slice::from_raw_parts_mut(to.as_mut_ptr().cast::<f32>(), to.len());
            turn_tiles(from, width, columns.start, whole, to, rows);
        }
    }
    let [whole_rows, whole_columns] = whole;
    for (j, to) in to.chunks_exact_mut(rows.max(1)).enumerate() {
        // What the tiles left over: the last columns in full, the last rows of the others.
        let first = if j < whole_columns { whole_rows } else { 0 };
        let at = columns.start + j;
        for (i, to) in to.iter_mut().enumerate().skip(first) {
            *to = from[i * width + at];
        }
    }
}

/// Side of a tile that is turned in registers.
const TILE: usize = 8;

/// Turns the first `rows × columns` elements from column `first` on, both multiples of [`TILE`], into
/// rows of `to` that are `pitch` long.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
#[allow(unsafe_code)]
fn turn_tiles(
    from: &[f32],
    width: usize,
    first: usize,
    [rows, columns]: [usize; 2],
    to: &mut [f32],
    pitch: usize,
) {
    use std::arch::x86_64::*;
    if rows * columns == 0 {
        return;
    }
    // The last element of the last tile, on both sides.
    assert!((rows - 1) * width + first + columns <= from.len());
    assert!((columns - 1) * pitch + rows <= to.len());
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            let mut tile = [_mm256_setzero_ps(); TILE];
            for (i, line) in tile.iter_mut().enumerate() {
                // SAFETY: row `top + i < rows` has eight elements from column `left` on, of `columns`, a
                // multiple of eight; the first assertion holds the last of them.
                *line =
                    unsafe { _mm256_loadu_ps(from.as_ptr().add((top + i) * width + first + left)) };
            }
            let [a, b, c, d, e, f, g, h] = tile;
            // Pairs, fours, and halves change places.
            let pairs = [(a, b), (c, d), (e, f), (g, h)]
                .map(|(x, y)| [_mm256_unpacklo_ps(x, y), _mm256_unpackhi_ps(x, y)]);
            let fours = [(pairs[0], pairs[1]), (pairs[2], pairs[3])].map(|(x, y)| {
                [
                    _mm256_shuffle_ps::<0x44>(x[0], y[0]),
                    _mm256_shuffle_ps::<0xEE>(x[0], y[0]),
                    _mm256_shuffle_ps::<0x44>(x[1], y[1]),
                    _mm256_shuffle_ps::<0xEE>(x[1], y[1]),
                ]
            });
            for j in 0..TILE {
                let (x, y) = (fours[0][j % 4], fours[1][j % 4]);
                let line = match j / 4 {
                    0 => _mm256_permute2f128_ps::<0x20>(x, y),
                    _ => _mm256_permute2f128_ps::<0x31>(x, y),
                };
                // SAFETY: likewise by the second assertion.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr().add((left + j) * pitch + top), line) };
            }
        }
    }
}

/// The stride of an axis of `len` elements, which does not matter when there is only one.
#[allow(
    clippy::cast_possible_wrap,
    reason = "bounded by the length of a slice"
)]
fn stride(len: usize, stride: usize) -> isize {
    if len > 1 { stride as isize } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, noise, tolerance};
    use super::*;

    fn naive<T: Real>([m, k, n]: [usize; 3], a: Matrix<'_, T>, b: Matrix<'_, T>) -> Vec<f64> {
        let mut c = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                c[i * n + j] = (0..k)
                    .map(|l| {
                        a.data[i * a.row + l * a.column].to_f64()
                            * b.data[l * b.row + j * b.column].to_f64()
                    })
                    .sum();
            }
        }
        c
    }

    fn check<T: Real>() {
        let sizes = [1, 2, 3, 7, 16, 17, 65];
        for m in sizes {
            for k in sizes {
                for n in sizes {
                    let a: Vec<T> = noise(1, m * k);
                    let b: Vec<T> = noise(2, k * n);
                    let forms = [
                        (Matrix::rows(&a, k), Matrix::rows(&b, n)),
                        (Matrix::columns(&a, m), Matrix::rows(&b, n)),
                        (Matrix::rows(&a, k), Matrix::columns(&b, k)),
                        (Matrix::columns(&a, m), Matrix::columns(&b, k)),
                    ];
                    for (a, b) in forms {
                        let expected = naive([m, k, n], a, b);
                        // NaN shows any read of what should only be written.
                        let mut c = vec![T::from_f64(f64::NAN); m * n];
                        product_into([m, k, n], &mut c, false, a, b);
                        assert_close(&c, &expected, tolerance::<T>(), "replace");
                        let mut c = vec![T::ONE; m * n];
                        product_into([m, k, n], &mut c, true, a, b);
                        let expected: Vec<f64> = expected.iter().map(|v| v + 1.0).collect();
                        assert_close(&c, &expected, tolerance::<T>(), "add");
                    }
                }
            }
        }
    }

    #[test]
    fn product_equals_the_triple_loop() {
        check::<f32>();
        check::<f64>();
    }

    fn check_transpose<T: Real>() {
        for (rows, width, columns) in [(1, 1, 0..1), (8, 8, 0..8), (17, 40, 3..40), (40, 9, 0..9)] {
            let from: Vec<T> = noise(1, rows * width);
            let mut to = vec![T::ZERO; rows * columns.len()];
            transpose_into(&from, width, columns.clone(), &mut to);
            for (j, column) in columns.enumerate() {
                for i in 0..rows {
                    assert!(to[j * rows + i] == from[i * width + column]);
                }
            }
        }
    }

    #[test]
    fn transposing_moves_every_element() {
        check_transpose::<f32>();
        check_transpose::<f64>();
    }

    #[test]
    fn overlapping_rows_read_windows() {
        let x: Vec<f64> = noise(3, 12);
        let w: Vec<f64> = noise(4, 6);
        // Windows of three pixels of two channels, one pixel apart, one output.
        let windows = Matrix {
            data: &x,
            row: 2,
            column: 1,
        };
        let mut y = vec![0.0; 4];
        product_into([4, 6, 1], &mut y, false, windows, Matrix::rows(&w, 1));
        let expected = naive([4, 6, 1], windows, Matrix::rows(&w, 1));
        assert_close(&y, &expected, 1e-12, "windows");
    }

    #[test]
    fn empty_inner_dimension_gives_zero() {
        let mut c = [1.0f32; 6];
        let none = Matrix::rows(&[], 0);
        product_into([2, 0, 3], &mut c, false, none, none);
        assert_eq!(c, [0.0; 6]);
    }

    #[test]
    #[should_panic(expected = "A does not hold 3×4 elements")]
    fn short_operand_is_refused() {
        let a = [0.0f32; 11];
        let b = [0.0f32; 8];
        let mut c = [0.0f32; 6];
        let (a, b) = (Matrix::rows(&a, 4), Matrix::rows(&b, 2));
        product_into([3, 4, 2], &mut c, false, a, b);
    }

    #[test]
    #[should_panic(expected = "C has 5 elements")]
    fn short_destination_is_refused() {
        let a = [0.0f32; 12];
        let mut c = [0.0f32; 5];
        let (a, b) = (Matrix::rows(&a, 4), Matrix::rows(&a, 2));
        product_into([3, 4, 2], &mut c, false, a, b);
    }

    #[test]
    #[should_panic(expected = "B does not hold")]
    fn overflowing_stride_is_refused() {
        let a = [0.0f32; 12];
        let mut c = [0.0f32; 6];
        let b = Matrix {
            data: &a,
            row: usize::MAX,
            column: 1,
        };
        product_into([3, 4, 2], &mut c, false, Matrix::rows(&a, 4), b);
    }
}
