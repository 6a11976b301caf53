//! Where results and temporaries live: vectors built in pieces, without a pass that zeroes them
//! first, and scratch memory that each thread keeps.

use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::real::Real;
use crate::parallel;

/// Work, in scalar operations, below which a kernel stays on the calling thread: waking the pool
/// costs about as much as this much arithmetic.
const PARALLEL_WORK: usize = 1 << 20;

/// Scratch beyond this many elements is given back instead of kept for the next call.
const SCRATCH_KEPT: usize = 1 << 22;

/// Lends a buffer of `len` elements of unspecified content to `f`; the memory is reused by later
/// calls on the same thread.
pub fn with_scratch<T: Real, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    // Taken out rather than borrowed, so a nested call gets a buffer of its own.
    let mut buffer = T::scratch().take();
    if buffer.len() < len {
        buffer.resize(len, T::ZERO);
    }
    let result = f(&mut buffer[..len]);
    if buffer.len() <= SCRATCH_KEPT {
        T::scratch().replace(buffer);
    }
    result
}

/// A piece of a new vector, to be written from front to back.
pub struct Fresh<'a, T> {
    slots: &'a mut [MaybeUninit<T>],
    /// Leading slots that are initialised.
    written: usize,
}

impl<'a, T: Copy + Default> Fresh<'a, T> {
    fn new(slots: &'a mut [MaybeUninit<T>]) -> Self {
        Self { slots, written: 0 }
    }

    /// Elements still to be written.
    pub fn left(&self) -> usize {
        self.slots.len() - self.written
    }

    /// Writes the next elements, and lends them.
    ///
    /// # Panics
    /// If they do not fit.
    #[inline(always)]
    pub fn put(&mut self, values: impl ExactSizeIterator<Item = T>) -> &mut [T] {
        let start = self.written;
        let slots = &mut self.slots[self.written..][..values.len()];
        let mut written = 0;
        for (slot, value) in slots.iter_mut().zip(values) {
            slot.write(value);
            written += 1;
        }
        self.written += written;
        self.initialised(start)
    }

    /// Writes zeros to the end and lends them.
    pub fn zeros(&mut self) -> &mut [T] {
        self.put(std::iter::repeat_n(T::default(), self.left()))
    }

    /// All that is left, as rows of `row` elements that are written in any order, each once.
    ///
    /// # Panics
    /// If rows of this length do not fill it.
    pub fn in_rows(&mut self, row: usize) -> FreshRows<'_, T> {
        let row = row.max(1);
        assert!(
            self.left().is_multiple_of(row),
            "{} elements are no rows of {row}",
            self.left()
        );
        let count = self.left() / row;
        FreshRows {
            slots: &mut self.slots[self.written..],
            written: &mut self.written,
            row,
            seen: vec![false; count],
            missing: count,
        }
    }

    /// Lets `write` fill the next `count` elements, and lends them.
    ///
    /// # Safety
    /// `write` must initialise `count` elements from the pointer it gets, and write no others.
    #[allow(unsafe_code)]
    pub unsafe fn put_raw(&mut self, count: usize, write: impl FnOnce(*mut T)) -> &mut [T] {
        let start = self.written;
        write(self.slots[start..][..count].as_mut_ptr().cast::<T>());
        self.written += count;
        self.initialised(start)
    }

    /// The elements from `start` to the last written.
    #[allow(unsafe_code)]
    fn initialised(&mut self, start: usize) -> &mut [T] {
        let slots = &mut self.slots[start..self.written];
        // SAFETY: the first `written` slots are initialised; same memory, same borrow.
        unsafe { std::slice::from_raw_parts_mut(slots.as_mut_ptr().cast::<T>(), slots.len()) }
    }
}

/// The rest of a piece as rows that are written in any order. It counts as written once all of them are.
pub struct FreshRows<'f, T> {
    slots: &'f mut [MaybeUninit<T>],
    /// That of the piece.
    written: &'f mut usize,
    row: usize,
    /// Which rows are initialised.
    seen: Vec<bool>,
    missing: usize,
}

impl<T: Copy> FreshRows<'_, T> {
    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Elements of a row.
    pub fn row(&self) -> usize {
        self.row
    }

    /// Writes row `number`.
    ///
    /// # Panics
    /// If it was written before, is not there, or has another length.
    #[inline(always)]
    pub fn write(&mut self, number: usize, values: &[T]) {
        assert_eq!(values.len(), self.row, "elements of a row");
        let seen = std::mem::replace(&mut self.seen[number], true);
        assert!(!seen, "row {number} is written twice");
        let slots = &mut self.slots[number * self.row..][..self.row];
        for (slot, &value) in slots.iter_mut().zip(values) {
            slot.write(value);
        }
        self.missing -= 1;
        if self.missing == 0 {
            *self.written += self.slots.len();
        }
    }
}

/// Makes a vector out of consecutive pieces of known lengths, each written by `fill`.
///
/// The pieces run in parallel when `work`, the number of scalar operations of the whole, is worth
/// it; their boundaries come from the caller, so the result does not depend on that.
///
/// # Panics
/// If `fill` leaves a piece unfinished.
pub fn build<T: Real, P: Sync>(
    pieces: &[P],
    piece_len: impl Fn(&P) -> usize,
    work: usize,
    fill: impl Fn(&P, &mut Fresh<'_, T>) + Sync,
) -> Vec<T> {
    let lens = |piece: &P| (piece_len(piece), 0);
    let fill = |piece: &P, values: &mut Fresh<'_, T>, _: &mut Fresh<'_, ()>| fill(piece, values);
    build_two(pieces, lens, work, fill).0
}

/// [`build`] with pieces that start as zeros. Each is zeroed just before it is filled, which costs
/// cache bandwidth, not a pass over memory.
pub fn build_zeroed<T: Real, P: Sync>(
    pieces: &[P],
    piece_len: impl Fn(&P) -> usize,
    work: usize,
    fill: impl Fn(&P, &mut [T]) + Sync,
) -> Vec<T> {
    build(pieces, piece_len, work, |piece, values| {
        fill(piece, values.zeros());
    })
}

/// [`build`] for two vectors at once; what `fill` returns of each piece comes back in their order.
///
/// # Panics
/// If `fill` leaves a piece unfinished.
#[allow(unsafe_code)]
pub fn build_two<A: Copy + Default + Send, B: Copy + Default + Send, P: Sync, R: Send>(
    pieces: &[P],
    piece_lens: impl Fn(&P) -> (usize, usize),
    work: usize,
    fill: impl Fn(&P, &mut Fresh<'_, A>, &mut Fresh<'_, B>) -> R + Sync,
) -> (Vec<A>, Vec<B>, Vec<R>) {
    let mut written = (0, 0);
    for piece in pieces {
        let lens = piece_lens(piece);
        written = (written.0 + lens.0, written.1 + lens.1);
    }
    let mut first = Vec::with_capacity(written.0);
    let mut second = Vec::with_capacity(written.1);
    let mut rest = (first.spare_capacity_mut(), second.spare_capacity_mut());
    let mut split = (0, 0);
    let jobs = pieces.iter().map(|piece| {
        let (a, b) = piece_lens(piece);
        split = (split.0 + a, split.1 + b);
        let (ours, others) = (
            std::mem::take(&mut rest.0).split_at_mut(a),
            std::mem::take(&mut rest.1).split_at_mut(b),
        );
        rest = (ours.1, others.1);
        (piece, Fresh::new(ours.0), Fresh::new(others.0))
    });
    let run = |(piece, mut a, mut b): (&P, Fresh<'_, A>, Fresh<'_, B>)| {
        let returned = fill(piece, &mut a, &mut b);
        assert!(
            a.left() == 0 && b.left() == 0,
            "a piece of a result was left unfinished"
        );
        returned
    };
    let returned = if in_parallel(work, pieces.len()) {
        each_in_parallel(jobs.collect(), &run)
    } else {
        jobs.map(run).collect()
    };
    assert_eq!(split, written, "the lengths of the pieces changed");
    // SAFETY: the jobs split off the first `written` elements of each vector's spare capacity
    // (splitting past its end panics), and every job initialised its part, or panicked.
    unsafe {
        first.set_len(written.0);
        second.set_len(written.1);
    }
    (first, second, returned)
}

/// [`build`] for `N` vectors of one type at once.
///
/// # Panics
/// If `fill` leaves a piece of a vector unfinished.
#[allow(unsafe_code)]
pub fn build_each<T: Real, P: Sync, const N: usize>(
    pieces: &[P],
    piece_lens: impl Fn(&P) -> [usize; N],
    work: usize,
    fill: impl Fn(&P, &mut [Fresh<'_, T>; N]) + Sync,
) -> [Vec<T>; N] {
    let mut written = [0; N];
    for piece in pieces {
        let lens = piece_lens(piece);
        written = std::array::from_fn(|n| written[n] + lens[n]);
    }
    let mut vectors = written.map(Vec::<T>::with_capacity);
    let mut rest = vectors.each_mut().map(|vector| vector.spare_capacity_mut());
    let mut split = [0; N];
    let jobs = pieces.iter().map(|piece| {
        let lens = piece_lens(piece);
        let fresh = std::array::from_fn(|n| {
            split[n] += lens[n];
            let (ours, others) = std::mem::take(&mut rest[n]).split_at_mut(lens[n]);
            rest[n] = others;
            Fresh::new(ours)
        });
        (piece, fresh)
    });
    let run = |(piece, mut fresh): (&P, [Fresh<'_, T>; N])| {
        fill(piece, &mut fresh);
        assert!(
            fresh.iter().all(|fresh| fresh.left() == 0),
            "a piece of a result was left unfinished"
        );
    };
    if in_parallel(work, pieces.len()) {
        each_in_parallel(jobs.collect(), &run);
    } else {
        jobs.for_each(run);
    }
    assert_eq!(split, written, "the lengths of the pieces changed");
    for (vector, written) in vectors.iter_mut().zip(written) {
        // SAFETY: the jobs split off the first `written` elements of the vector's spare capacity
        // (splitting past its end panics), and every job initialised its part, or panicked.
        unsafe { vector.set_len(written) };
    }
    vectors
}

/// Changes consecutive pieces of known lengths in place, in parallel when `work` is worth it.
pub fn update<T: Real, P: Sync>(
    values: &mut [T],
    pieces: &[P],
    piece_len: impl Fn(&P) -> usize,
    work: usize,
    change: impl Fn(&P, &mut [T]) + Sync,
) {
    let mut rest = values;
    let mut jobs = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let (ours, others) = rest.split_at_mut(piece_len(piece));
        jobs.push((piece, ours));
        rest = others;
    }
    let run = |(piece, values): (&P, &mut [T])| change(piece, values);
    if in_parallel(work, jobs.len()) {
        each_in_parallel(jobs, &run);
    } else {
        jobs.into_iter().for_each(run);
    }
}

/// What `run` makes of every job, in their order.
fn each_in_parallel<J: Send, R: Send>(jobs: Vec<J>, run: &(impl Fn(J) -> R + Sync)) -> Vec<R> {
    let jobs: Vec<Mutex<(Option<J>, Option<R>)>> = jobs
        .into_iter()
        .map(|job| Mutex::new((Some(job), None)))
        .collect();
    numbers_in_parallel(jobs.len(), &|number| {
        let mut slot = jobs[number].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(job) = slot.0.take() {
            slot.1 = Some(run(job));
        }
    });
    jobs.into_iter()
        .filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner).1)
        .collect()
}

/// Calls `run` with every number below `count`. Not generic, so that the machinery of a parallel loop is
/// compiled once, not once for each kernel.
fn numbers_in_parallel(count: usize, run: &(dyn Fn(usize) + Sync)) {
    (0..count).into_par_iter().for_each(run);
}

fn in_parallel(work: usize, pieces: usize) -> bool {
    work >= PARALLEL_WORK
        && pieces > 1
        && rayon::current_num_threads() > 1
        && !parallel::stays_on_this_thread()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_in_any_order() {
        let fill = |&n: &usize, out: &mut Fresh<'_, f32>| {
            let mut rows = out.in_rows(2);
            for row in (0..n).rev() {
                rows.write(row, &[row as f32, -1.0]);
            }
        };
        let built = build(&[2usize, 0, 1], |&n| 2 * n, 0, fill);
        assert_eq!(built, [0.0, -1.0, 1.0, -1.0, 0.0, -1.0]);
    }

    #[test]
    #[should_panic(expected = "left unfinished")]
    fn a_missing_row_is_refused() {
        let _ = build(
            &[2usize],
            |&n| 2 * n,
            0,
            |_, out: &mut Fresh<'_, f64>| out.in_rows(2).write(1, &[1.0, 2.0]),
        );
    }

    #[test]
    #[should_panic(expected = "written twice")]
    fn a_row_is_not_written_twice() {
        let _ = build(
            &[2usize],
            |&n| n,
            0,
            |_, out: &mut Fresh<'_, f64>| {
                let mut rows = out.in_rows(1);
                rows.write(1, &[1.0]);
                rows.write(1, &[1.0]);
            },
        );
    }

    #[test]
    fn pieces_follow_each_other() {
        let fill = |&n: &usize, out: &mut Fresh<'_, f32>| {
            out.put((0..n / 2).map(|_| n as f32));
            out.zeros();
        };
        let expected = [2.0, 0.0, 3.0, 0.0, 0.0];
        assert_eq!(build(&[2usize, 0, 3], |&n| n, 0, fill), expected);
        assert_eq!(build(&[2usize, 0, 3], |&n| n, usize::MAX, fill), expected);
    }

    #[test]
    #[should_panic(expected = "left unfinished")]
    fn an_unfinished_piece_is_refused() {
        let _ = build(
            &[2usize],
            |&n| n,
            0,
            |_, out: &mut Fresh<'_, f64>| {
                out.put(std::iter::once(1.0));
            },
        );
    }

    #[test]
    fn pieces_of_several_vectors_follow_each_other() {
        let fill = |&n: &usize, out: &mut [Fresh<'_, f32>; 2]| {
            out[0].put((0..n).map(|i| i as f32));
            out[1].zeros();
        };
        for work in [0, usize::MAX] {
            let [first, second] = build_each(&[2usize, 0, 3], |&n| [n, 2 * n], work, fill);
            assert_eq!(first, [0.0, 1.0, 0.0, 1.0, 2.0]);
            assert_eq!(second, [0.0; 10]);
        }
    }

    #[test]
    #[should_panic(expected = "left unfinished")]
    fn an_unfinished_piece_of_several_is_refused() {
        let _ = build_each(
            &[2usize],
            |&n| [n, n],
            0,
            |&n, out: &mut [Fresh<'_, f64>; 2]| {
                out[0].put((0..n).map(|i| i as f64));
            },
        );
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn too_many_values_are_refused() {
        let _ = build(
            &[2usize],
            |&n| n,
            0,
            |_, out: &mut Fresh<'_, f64>| {
                out.put([1.0; 3].into_iter());
            },
        );
    }

    #[test]
    fn scratch_survives_nesting() {
        with_scratch(4, |outer: &mut [f32]| {
            outer.fill(1.0);
            with_scratch(8, |inner: &mut [f32]| inner.fill(2.0));
            assert_eq!(outer, [1.0; 4]);
        });
    }
}
