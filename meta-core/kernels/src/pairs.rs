//! Attention's products: for every sequence and head, `a = x yᵀ` and its two adjoints `x = a y` and
//! `y = aᵀ x`. Heads are read where they lie in their tokens, never copied apart.

use crate::forms::PairsForm;

use super::blocks::{PIECE_ELEMENTS, RowBlock, check_len, row_blocks};
use super::buffers::{build_zeroed, with_scratch};
use super::gemm::{product_in_rows, product_into, transpose_into};
use super::matrix::Matrix;
use super::real::Real;

/// Lengths of the operands of one sequence, in the order input, weight, output.
fn lens(form: &PairsForm) -> [usize; 3] {
    let features = form.heads * form.width;
    [
        form.queries * features,
        form.keys * features,
        form.heads * form.queries * form.keys,
    ]
}

/// Sequences in pieces that fit the cache.
fn pieces(form: &PairsForm) -> Vec<RowBlock> {
    let largest = lens(form).into_iter().max().unwrap_or(1).max(1);
    row_blocks(1, form.sequences, PIECE_ELEMENTS.div_ceil(largest))
}

fn work(form: &PairsForm) -> usize {
    2 * form.sequences * lens(form)[2] * form.width
}

/// `a_ij = Σ_c x_ic y_jc` in every sequence and head.
///
/// `x [n, l, heads·d]`, `y [n, m, heads·d]` → `a [n, heads, l, m]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn pairs<T: Real>(form: &PairsForm, x: &[T], y: &[T]) -> Vec<T> {
    let [input, weight, output] = lens(form);
    check_len("x", x.len(), form.sequences * input);
    check_len("y", y.len(), form.sequences * weight);
    let PairsForm {
        heads,
        queries: l,
        keys: m,
        width: d,
        ..
    } = *form;
    build_zeroed(
        &pieces(form),
        |piece| piece.len() * output,
        work(form),
        |piece, a| {
            if output == 0 || d == 0 {
                return;
            }
            with_scratch(weight, |turned: &mut [T]| {
                for (n, a) in (piece.start..piece.end).zip(a.chunks_exact_mut(output)) {
                    // `[heads·d, m]`, the heads one after the other.
                    transpose_into(&y[n * weight..][..weight], heads * d, 0..heads * d, turned);
                    for (head, a) in a.chunks_exact_mut(l * m).enumerate() {
                        let x = Matrix {
                            data: &x[n * input + head * d..(n + 1) * input],
                            row: heads * d,
                            column: 1,
                        };
                        let y = Matrix::rows(&turned[head * d * m..][..d * m], m);
                        product_into([l, d, m], a, false, x, y);
                    }
                }
            });
        },
    )
}

/// `x_ic = Σ_j a_ij y_jc` in every sequence and head: the adjoint of [`pairs`] in `x`, and what
/// attention with the map `a` reads of the values `y`.
///
/// `a [n, heads, l, m]`, `y [n, m, heads·d]` → `x [n, l, heads·d]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn pairs_input<T: Real>(form: &PairsForm, a: &[T], y: &[T]) -> Vec<T> {
    read(form, form.queries, form.keys, a, y, |a, keys| {
        Matrix::rows(a, keys)
    })
}

/// `y_jc = Σ_i a_ij x_ic` in every sequence and head: the adjoint of [`pairs`] in `y`.
///
/// `a [n, heads, l, m]`, `x [n, l, heads·d]` → `y [n, m, heads·d]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn pairs_weight<T: Real>(form: &PairsForm, a: &[T], x: &[T]) -> Vec<T> {
    read(form, form.keys, form.queries, a, x, |a, keys| {
        Matrix::columns(a, keys)
    })
}

/// `[readers, from]` times `[from, d]`, with `map` giving the first from a head's slice of `a` and its
/// number of keys.
fn read<T: Real>(
    form: &PairsForm,
    readers: usize,
    from: usize,
    a: &[T],
    values: &[T],
    map: impl for<'a> Fn(&'a [T], usize) -> Matrix<'a, T> + Sync,
) -> Vec<T> {
    let (features, d) = (form.heads * form.width, form.width);
    let (scores, len) = (
        form.queries * form.keys,
        form.heads * form.queries * form.keys,
    );
    check_len("a", a.len(), form.sequences * len);
    check_len("the values", values.len(), form.sequences * from * features);
    build_zeroed(
        &pieces(form),
        |piece| piece.len() * readers * features,
        work(form),
        |piece, read| {
            if readers * features * from == 0 {
                return;
            }
            let sequences = read.chunks_exact_mut(readers * features);
            for (n, read) in (piece.start..piece.end).zip(sequences) {
                for head in 0..form.heads {
                    let a = &a[n * len + head * scores..][..scores];
                    let values = Matrix {
                        data: &values[n * from * features + head * d..(n + 1) * from * features],
                        row: features,
                        column: 1,
                    };
                    let sizes = [readers, from, d];
                    product_in_rows(
                        sizes,
                        &mut read[head * d..],
                        features,
                        map(a, form.keys),
                        values,
                    );
                }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, assert_same_for_any_threads, noise, tolerance};
    use super::*;

    fn forms() -> Vec<PairsForm> {
        [
            (1, 1, 1, 1, 1),
            (3, 2, 5, 7, 3),
            (40, 4, 16, 16, 16),
            (2, 3, 1, 9, 17),
            (5, 1, 33, 2, 8),
        ]
        .map(|(sequences, heads, queries, keys, width)| PairsForm {
            tasks: 1,
            sequences,
            heads,
            queries,
            keys,
            width,
        })
        .to_vec()
    }

    fn check<T: Real>() {
        for form in forms() {
            let [input, weight, output] = lens(&form).map(|len| len * form.sequences);
            let x: Vec<T> = noise(1, input);
            let y: Vec<T> = noise(2, weight);
            let a: Vec<T> = noise(3, output);
            let mut expected = [vec![0.0; input], vec![0.0; weight], vec![0.0; output]];
            for at in 0..output {
                let (j, rest) = (at % form.keys, at / form.keys);
                let (i, rest) = (rest % form.queries, rest / form.queries);
                let (head, n) = (rest % form.heads, rest / form.heads);
                for c in 0..form.width {
                    let feature = head * form.width + c;
                    let features = form.heads * form.width;
                    let of_x = (n * form.queries + i) * features + feature;
                    let of_y = (n * form.keys + j) * features + feature;
                    expected[0][of_x] += a[at].to_f64() * y[of_y].to_f64();
                    expected[1][of_y] += a[at].to_f64() * x[of_x].to_f64();
                    expected[2][at] += x[of_x].to_f64() * y[of_y].to_f64();
                }
            }
            let tolerance = tolerance::<T>();
            assert_close(&pairs_input(&form, &a, &y), &expected[0], tolerance, "x");
            assert_close(&pairs_weight(&form, &a, &x), &expected[1], tolerance, "y");
            assert_close(&pairs(&form, &x, &y), &expected[2], tolerance, "a");
        }
    }

    #[test]
    fn equals_the_loops() {
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let form = PairsForm {
            tasks: 2,
            sequences: 200,
            heads: 4,
            queries: 16,
            keys: 16,
            width: 16,
        };
        let [input, weight, output] = lens(&form).map(|len| len * form.sequences);
        let x: Vec<f32> = noise(1, input);
        let y: Vec<f32> = noise(2, weight);
        let a: Vec<f32> = noise(3, output);
        assert_same_for_any_threads(|| pairs(&form, &x, &y));
        assert_same_for_any_threads(|| pairs_input(&form, &a, &y));
        assert_same_for_any_threads(|| pairs_weight(&form, &a, &x));
    }
}
