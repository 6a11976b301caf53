//! Max pooling with the winner's position, and the two maps that its derivatives are made of:
//! selection by position and its adjoint, scatter by position.

use crate::forms::Pooling;

use super::blocks::{PIECE_ELEMENTS, RowBlock, check_len, row_blocks};
use super::buffers::{build, build_two, build_zeroed};
use super::real::{Real, wide};

impl Pooling {
    pub(super) fn in_plane(&self) -> usize {
        self.height * self.width * self.channels
    }

    pub(super) fn out_plane(&self) -> usize {
        self.out_height() * self.out_width() * self.channels
    }

    pub(super) fn check(&self) {
        let (height, width) = (self.size, self.size);
        assert!(
            self.size > 0 && self.channels > 0,
            "window and channels must be positive: {self:?}"
        );
        assert!(
            height <= self.height && width <= self.width,
            "the window must fit the image: {self:?}"
        );
        assert!(
            i32::try_from(self.height * self.width).is_ok(),
            "positions in the image must fit i32: {self:?}"
        );
    }

    /// Pieces of whole planes, each of one of `tasks` tasks.
    pub(super) fn pieces(&self, tasks: usize) -> Vec<RowBlock> {
        let planes = (PIECE_ELEMENTS / self.in_plane().max(1)).max(1);
        row_blocks(tasks, self.items / tasks, planes)
    }
}

/// The largest value of each window and its position.
///
/// `x [n, h, w, c]` → `(y [n, ho, wo, c], index [n, ho, wo, c])`, where `index` is the position
/// `i·w + j` of the winner in its image. The first in row-major order wins ties; a NaN beats
/// everything else.
///
/// # Panics
/// If `x` does not have the length its shape says, or the window does not fit the image.
pub fn max_pool2d<T: Real>(geometry: &Pooling, x: &[T]) -> (Vec<T>, Vec<i32>) {
    geometry.check();
    let g = geometry;
    check_len("x", x.len(), g.items * g.in_plane());
    let signs = vec![T::ONE; g.channels];
    let (y, index, _) = build_two(
        &g.pieces(1),
        |piece| {
            let len = piece.len() * g.out_plane();
            (len, len)
        },
        2 * x.len(),
        |piece, y, index| {
            let x = &x[piece.start * g.in_plane()..piece.end * g.in_plane()];
            pool_planes(g, x, &signs, y.zeros(), index.zeros());
        },
    );
    (y, index)
}

/// Channels compared together.
const LANES: usize = 8;

wide! {
    /// The winners of `signs · x` over the planes of one piece, `signs` being 1 or −1 per channel, and
    /// the values of `x` there.
    pub(super) fn pool_planes[T: Real](
        g: &Pooling,
        x: &[T],
        signs: &[T],
        y: &mut [T],
        index: &mut [i32],
    ) {
        let c = g.channels;
        let planes = x.chunks_exact(g.in_plane());
        let outputs = y
            .chunks_exact_mut(g.out_plane())
            .zip(index.chunks_exact_mut(g.out_plane()));
        for (x, (y, index)) in planes.zip(outputs) {
            let pixels = y.chunks_exact_mut(c).zip(index.chunks_exact_mut(c));
            for (at, (y, index)) in pixels.enumerate() {
                let (i, j) = (at / g.out_width(), at % g.out_width());
                let corner = i * g.size * g.width + j * g.size;
                let (y, y_tail) = y.as_chunks_mut::<LANES>();
                let (index, index_tail) = index.as_chunks_mut::<LANES>();
                for (lane, (y, index)) in y.iter_mut().zip(index).enumerate() {
                    (*y, *index) = winners(g, x, signs, corner, lane * LANES);
                }
                let first = c - y_tail.len();
                for (k, (y, index)) in y_tail.iter_mut().zip(index_tail).enumerate() {
                    ([*y], [*index]) = winners(g, x, signs, corner, first + k);
                }
            }
        }
    }
}

/// The largest of `L` channels, from channel `first`, over the window at `corner`.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "positions fit i32, checked on entry"
)]
#[allow(clippy::eq_op, reason = "a NaN is what differs from itself")]
fn winners<T: Real, const L: usize>(
    g: &Pooling,
    x: &[T],
    signs: &[T],
    corner: usize,
    first: usize,
) -> ([T; L], [i32; L]) {
    let signs = &signs[first..][..L];
    let load = |position: usize| -> [T; L] {
        let values = &x[position * g.channels + first..][..L];
        std::array::from_fn(|lane| signs[lane] * values[lane])
    };
    let (mut best, mut index) = (load(corner), [corner as i32; L]);
    for di in 0..g.size {
        for dj in 0..g.size {
            let position = corner + di * g.width + dj;
            let new = load(position);
            for lane in 0..L {
                let (old, new) = (best[lane], new[lane]);
                // Without short-circuits, so that the lanes become compares and blends.
                let wins = (new > old) | ((new != new) & (old == old));
                best[lane] = if wins { new } else { old };
                index[lane] = if wins { position as i32 } else { index[lane] };
            }
        }
    }
    (std::array::from_fn(|lane| signs[lane] * best[lane]), index)
}

/// `y[n, o, c] = x[n, index[n, o, c], c]`: the values at the given positions.
///
/// `x [n, h, w, c]`, `index [n, ho, wo, c]` → `y [n, ho, wo, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says, or a position lies outside its image.
pub fn pool_select<T: Real>(geometry: &Pooling, x: &[T], index: &[i32]) -> Vec<T> {
    geometry.check();
    let g = geometry;
    check_len("x", x.len(), g.items * g.in_plane());
    check_len("index", index.len(), g.items * g.out_plane());
    build(
        &g.pieces(1),
        |piece| piece.len() * g.out_plane(),
        4 * index.len(),
        |piece, y| {
            let x =
                x[piece.start * g.in_plane()..piece.end * g.in_plane()].chunks_exact(g.in_plane());
            let index = index[piece.start * g.out_plane()..piece.end * g.out_plane()]
                .chunks_exact(g.out_plane());
            for (x, index) in x.zip(index) {
                for index in index.chunks_exact(g.channels) {
                    let values = index.iter().enumerate();
                    y.put(values.map(|(channel, &index)| x[place(index, g.channels, channel)]));
                }
            }
        },
    )
}

/// `gx[n, p, c] = Σ_{o : index[n, o, c] = p} gy[n, o, c]`, the adjoint of [`pool_select`].
///
/// `gy [n, ho, wo, c]`, `index [n, ho, wo, c]` → `gx [n, h, w, c]`.
///
/// # Panics
/// If a slice does not have the length its shape says, or a position lies outside its image.
pub fn pool_scatter<T: Real>(geometry: &Pooling, gy: &[T], index: &[i32]) -> Vec<T> {
    geometry.check();
    let g = geometry;
    check_len("gy", gy.len(), g.items * g.out_plane());
    check_len("index", index.len(), g.items * g.out_plane());
    build_zeroed(
        &g.pieces(1),
        |piece| piece.len() * g.in_plane(),
        4 * index.len() + g.items * g.in_plane(),
        |piece, gx| {
            let range = piece.start * g.out_plane()..piece.end * g.out_plane();
            let gy = gy[range.clone()].chunks_exact(g.out_plane());
            let index = index[range].chunks_exact(g.out_plane());
            for ((gy, index), gx) in gy.zip(index).zip(gx.chunks_exact_mut(g.in_plane())) {
                let pixels = index.chunks_exact(g.channels);
                for (index, gy) in pixels.zip(gy.chunks_exact(g.channels)) {
                    for (channel, (&gy, &index)) in gy.iter().zip(index).enumerate() {
                        gx[place(index, g.channels, channel)] += gy;
                    }
                }
            }
        },
    )
}

/// Offset of a channel at a position of one image. A negative position becomes one far outside,
/// which the bounds check refuses.
#[inline(always)]
#[allow(clippy::cast_sign_loss, reason = "refused by the bounds check")]
fn place(position: i32, channels: usize, channel: usize) -> usize {
    position as u32 as usize * channels + channel
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_same_for_any_threads, dot, noise};
    use super::*;

    fn naive(g: &Pooling, x: &[f64]) -> (Vec<f64>, Vec<i32>) {
        let (mut y, mut index) = (Vec::new(), Vec::new());
        for n in 0..g.items {
            for i in 0..g.out_height() {
                for j in 0..g.out_width() {
                    for ch in 0..g.channels {
                        let mut best: Option<(f64, usize)> = None;
                        for di in 0..g.size {
                            for dj in 0..g.size {
                                let p = (i * g.size + di) * g.width + j * g.size + dj;
                                let v = x[(n * g.height * g.width + p) * g.channels + ch];
                                let wins = match best {
                                    None => true,
                                    Some((b, _)) => v > b || (v.is_nan() && !b.is_nan()),
                                };
                                if wins {
                                    best = Some((v, p));
                                }
                            }
                        }
                        let (v, p) = best.expect("a window is never empty");
                        y.push(v);
                        index.push(i32::try_from(p).expect("small"));
                    }
                }
            }
        }
        (y, index)
    }

    fn geometries() -> Vec<Pooling> {
        let mut all = Vec::new();
        for (items, height, width, channels, size) in [
            (1, 2, 2, 1, 2),
            (3, 7, 5, 3, 2),
            (5, 14, 14, 64, 2),
            (2, 6, 7, 65, 1),
            (2, 9, 10, 8, 3),
            (200, 3, 3, 4, 2),
        ] {
            all.push(Pooling {
                items,
                height,
                width,
                channels,
                size,
            });
        }
        all
    }

    #[test]
    fn pooling_equals_the_loop_and_selection_reads_it_back() {
        for g in geometries() {
            let x: Vec<f64> = noise(1, g.items * g.in_plane());
            let (y, index) = max_pool2d(&g, &x);
            assert_eq!((&y, &index), (&naive(&g, &x).0, &naive(&g, &x).1), "{g:?}");
            assert_eq!(pool_select(&g, &x, &index), y, "{g:?}");

            let gy: Vec<f64> = noise(2, y.len());
            let gx = pool_scatter(&g, &gy, &index);
            assert_eq!(gx.len(), x.len());
            let (left, right) = (dot(&y, &gy), dot(&x, &gx));
            assert!((left - right).abs() < 1e-10, "{g:?}: {left} {right}");
        }
    }

    #[test]
    fn ties_go_to_the_first_and_nan_wins() {
        let g = Pooling {
            items: 1,
            height: 2,
            width: 2,
            channels: 3,
            size: 2,
        };
        let nan = f32::NAN;
        let x = [1.0, -1.0, 2.0, 1.0, nan, 3.0, 0.0, nan, 3.0, 1.0, 5.0, 3.0];
        let (y, index) = max_pool2d(&g, &x);
        assert_eq!(index, [0, 1, 1]);
        assert_eq!((y[0], y[2]), (1.0, 3.0));
        assert!(y[1].is_nan());
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn negative_position_is_refused() {
        let g = geometries()[0];
        let _ = pool_select(&g, &[0.0f32; 4], &[-1]);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let g = Pooling {
            items: 60,
            height: 28,
            width: 28,
            channels: 32,
            size: 2,
        };
        let x: Vec<f32> = noise(1, g.items * g.in_plane());
        let (_, index) = max_pool2d(&g, &x);
        let gy: Vec<f32> = noise(2, index.len());
        assert_same_for_any_threads(|| max_pool2d(&g, &x).0);
        assert_same_for_any_threads(|| pool_select(&g, &x, &index));
        assert_same_for_any_threads(|| pool_scatter(&g, &gy, &index));
    }
}
