//! Matrices inside slices.

/// A matrix inside a slice: element (i, j) is `data[i·row + j·column]`.
///
/// Strides may make rows overlap; that is how a padded image is read as a matrix of patches
/// without copying it.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    /// Where the elements lie; element (0, 0) is the first.
    pub data: &'a [T],
    /// Distance between vertically adjacent elements.
    pub row: usize,
    /// Distance between horizontally adjacent elements.
    pub column: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix of rows of `width` contiguous elements.
    pub fn rows(data: &'a [T], width: usize) -> Self {
        Self {
            data,
            row: width,
            column: 1,
        }
    }

    /// The transpose of [`Matrix::rows`].
    pub fn columns(data: &'a [T], width: usize) -> Self {
        Self {
            data,
            row: 1,
            column: width,
        }
    }

    /// The transpose, in the same memory.
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            row: self.column,
            column: self.row,
        }
    }

    /// The matrix without its first rows.
    pub fn skip_rows(self, count: usize) -> Self {
        Self {
            data: self.data.get(count * self.row..).unwrap_or(&[]),
            ..self
        }
    }

    /// The matrix without its first columns.
    pub fn skip_columns(self, count: usize) -> Self {
        self.transposed().skip_rows(count).transposed()
    }

    pub(super) fn holds(&self, rows: usize, columns: usize) -> bool {
        if rows == 0 || columns == 0 {
            return true;
        }
        let last = (rows - 1)
            .checked_mul(self.row)
            .zip((columns - 1).checked_mul(self.column))
            .and_then(|(down, across)| down.checked_add(across));
        last.is_some_and(|last| last < self.data.len())
    }
}
