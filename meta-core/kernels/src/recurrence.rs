//! Recurrent layers over whole sequences, their adjoint and the derivative of that.
//!
//! Items are independent given the weights, so a piece is some items of one task (of all tasks where the
//! weight is shared), cut by the shapes alone: it goes through all steps while its state, and one step of
//! its gates, stay in the cache. Gates lie in planes, `[items of the piece, width]` each, so that loops
//! over them have no remainders within a row; the products with the weight are one for each plane.
//!
//! `lstm` and `gru` are what is done element by element.

mod gru;
mod lstm;

use super::blocks::{RowBlock, check_len, row_blocks};
use super::buffers::{Fresh, FreshRows, build, build_each, with_scratch};
use super::gemm::{product_into, transpose};
use super::matrix::Matrix;
use super::real::Real;
use crate::forms::{Recurrence, RecurrentCell, Shown};

/// Elements of a plane of a piece, about.
const PLANE: usize = 24 * 64;

/// Items of a piece, at least and at most: products are cut into six rows.
const PIECE_ITEMS: [usize; 2] = [12, 192];

/// Planes that are kept of each step: those of the gates, and the cell after it (LSTM), or what the
/// proposal reads of the state before, and that state (GRU).
const KEPT: usize = 5;

impl Recurrence {
    /// Tasks whose items have weights of their own, and the items of each.
    fn folded(&self) -> [usize; 2] {
        assert!(
            self.weight_tasks == 1 || self.weight_tasks == self.tasks,
            "weight_tasks is {}, must be 1 or {}",
            self.weight_tasks,
            self.tasks
        );
        let items = self.tasks * self.items;
        [self.weight_tasks, items / self.weight_tasks.max(1)]
    }

    fn pieces(&self) -> Vec<Piece> {
        let [tasks, items] = self.folded();
        let [least, most] = PIECE_ITEMS;
        let block = (PLANE / self.width.max(1)).clamp(least, most) / 6 * 6;
        let of_task = |task: usize| {
            let first = task * items;
            (0..items).step_by(block).map(move |start| Piece {
                task,
                first: first + start,
                len: block.min(items - start),
            })
        };
        (0..tasks).flat_map(of_task).collect()
    }

    fn weight_len(&self) -> usize {
        self.weight_rows() * self.gates_width()
    }

    fn all_items(&self) -> usize {
        self.tasks * self.items
    }

    fn work(&self) -> usize {
        let of_step = self.gates_width() * (2 * self.width + 30);
        self.all_items() * self.steps * of_step
    }

    /// Elements that are kept of an item by the forward pass.
    fn kept_len(&self) -> usize {
        self.steps * KEPT * self.width
    }

    /// Elements that are kept of an item by the adjoint: the gradients along what each step gives.
    fn gradient_len(&self) -> usize {
        self.steps * self.state_width()
    }

    /// The planes that the products with the blocks of the weight are added to.
    fn planes(&self) -> &'static [usize] {
        match self.cell {
            RecurrentCell::Lstm => &[0, 1, 2, 3],
            RecurrentCell::Gru => &[0, 1, 3],
        }
    }

    /// Where the hidden state of a turn is shown among the slots of an item, if it is.
    fn slot(&self, turn: usize) -> Option<usize> {
        match self.shown {
            Shown::Hidden | Shown::Trace => Some(self.step_at(turn)),
            Shown::Last => (turn + 1 == self.steps).then_some(0),
        }
    }

    /// Whether the last cell is shown.
    fn shows_cell(&self) -> bool {
        self.shown == Shown::Trace && self.cell == RecurrentCell::Lstm
    }

    fn check<T>(&self, u: &[T], start: &[T], mask: Option<&[T]>) {
        check_len("u", u.len(), self.weight_tasks * self.weight_len());
        check_len("start", start.len(), self.all_items() * self.state_width());
        if let Some(mask) = mask {
            check_len("mask", mask.len(), self.all_items() * self.steps);
        }
    }
}

/// Consecutive items that share a weight.
struct Piece {
    /// The task of the weight.
    task: usize,
    /// The first item.
    first: usize,
    /// How many.
    len: usize,
}

impl Piece {
    /// What belongs to these items in `data`, `width` elements each.
    fn of<'a, T>(&self, data: &'a [T], width: usize) -> &'a [T] {
        &data[self.first * width..][..self.len * width]
    }

    /// [`Piece::of`] data that may be absent.
    fn of_some<'a, T>(&self, data: &'a [T], width: usize) -> &'a [T] {
        match data {
            [] => data,
            _ => self.of(data, width),
        }
    }
}

/// The weight of every task gate by gate, `[tw, gates, h, h]`, each with its row of biases after it. Rows of
/// one gate then follow each other, so that a product's panel of columns stays in the first-level cache;
/// where they are as far apart as those of all gates, its lines displace each other.
fn by_gates<T: Real>(form: &Recurrence, u: &[T]) -> Vec<T> {
    let (width, gates) = (form.width, form.gates_width());
    let tasks: Vec<usize> = (0..form.weight_tasks).collect();
    build(
        &tasks,
        |_| form.weight_len(),
        2 * u.len(),
        |&task, to| {
            let u = &u[task * form.weight_len()..][..form.weight_len()];
            for gate in (0..gates).step_by(width.max(1)) {
                for row in u[..width * gates].chunks_exact(gates) {
                    to.put(row[gate..gate + width].iter().copied());
                }
            }
            to.put(u[width * gates..].iter().copied());
        },
    )
}

/// What rows of items are copied into.
trait Target<T> {
    /// Copies `row` to element `at` and those after it.
    fn set(&mut self, at: usize, row: &[T]);
}

impl<T: Copy> Target<T> for [T] {
    #[inline(always)]
    fn set(&mut self, at: usize, row: &[T]) {
        self[at..at + row.len()].copy_from_slice(row);
    }
}

impl<T: Copy> Target<T> for FreshRows<'_, T> {
    #[inline(always)]
    fn set(&mut self, at: usize, row: &[T]) {
        self.write(at / self.row(), row);
    }
}

/// Rows of `width` elements that begin at `offset` of the items of a piece, `of_item` elements each.
#[derive(Clone, Copy)]
struct Rows {
    of_item: usize,
    offset: usize,
    width: usize,
}

impl Rows {
    /// Copies the rows into a plane.
    fn gather<T: Real>(self, items: &[T], plane: &mut [T]) {
        let items = items.chunks_exact(self.of_item);
        for (row, item) in plane.chunks_exact_mut(self.width).zip(items) {
            row.copy_from_slice(&item[self.offset..][..self.width]);
        }
    }

    /// Adds the rows to a plane.
    fn add_to<T: Real>(self, items: &[T], plane: &mut [T]) {
        let items = items.chunks_exact(self.of_item);
        for (row, item) in plane.chunks_exact_mut(self.width).zip(items) {
            for (sum, &value) in row.iter_mut().zip(&item[self.offset..][..self.width]) {
                *sum += value;
            }
        }
    }

    /// Copies a plane into the rows.
    fn scatter<T: Real>(self, plane: &[T], items: &mut (impl Target<T> + ?Sized)) {
        for (item, row) in plane.chunks_exact(self.width).enumerate() {
            items.set(item * self.of_item + self.offset, row);
        }
    }

    /// Adds a plane to the rows.
    fn scatter_add<T: Real>(self, plane: &[T], items: &mut [T]) {
        let items = items.chunks_exact_mut(self.of_item);
        for (row, item) in plane.chunks_exact(self.width).zip(items) {
            for (sum, &value) in item[self.offset..][..self.width].iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

/// Which items of a piece do not take part in a step.
#[derive(Clone, Copy)]
struct Passed<'a, T> {
    mask: Option<&'a [T]>,
    steps: usize,
    step: usize,
    width: usize,
}

impl<T: Real> Passed<'_, T> {
    /// Calls `change` with the range of a plane of each such item.
    fn each(self, mut change: impl FnMut(std::ops::Range<usize>)) {
        let Some(mask) = self.mask else { return };
        for (item, steps) in mask.chunks_exact(self.steps).enumerate() {
            if steps[self.step] == T::ZERO {
                change(item * self.width..(item + 1) * self.width);
            }
        }
    }

    /// Takes back what these items had before.
    fn restore(self, plane: &mut [T], before: &[T]) {
        self.each(|range| plane[range.clone()].copy_from_slice(&before[range]));
    }

    /// Zeros for these items.
    fn clear(self, plane: &mut [T]) {
        self.each(|range| plane[range].fill(T::ZERO));
    }

    /// [`Passed::clear`] of planes of `len` elements.
    fn clear_all(self, planes: &mut [T], len: usize) {
        for plane in planes.chunks_exact_mut(len.max(1)) {
            self.clear(plane);
        }
    }
}

/// Cuts scratch memory into planes.
fn planes<'a, T>(rest: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (first, others) = std::mem::take(rest).split_at_mut(len);
    *rest = others;
    first
}

/// Five consecutive planes of a step.
fn five<T>(planes: &[T], len: usize) -> [&[T]; KEPT] {
    std::array::from_fn(|plane| &planes[plane * len..][..len])
}

fn four_mut<T>(planes: &mut [T], len: usize) -> [&mut [T]; 4] {
    let (a, rest) = planes.split_at_mut(len);
    let (b, rest) = rest.split_at_mut(len);
    let (c, rest) = rest.split_at_mut(len);
    [a, b, c, &mut rest[..len]]
}

/// What is shown of the recurrence, `[t, b·slots, h]`, and, where `keep`, what its adjoint needs.
///
/// `z [t, b·l, gates]`, `u [tw, h (+ 1), gates]`, `start [t, b, state]`, `mask [t, b·l]`: where it is 0, the
/// state before is carried through.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn recur<T: Real>(
    form: &Recurrence,
    z: &[T],
    u: &[T],
    start: &[T],
    mask: Option<&[T]>,
    keep: bool,
) -> (Vec<T>, Vec<T>) {
    form.check(u, start, mask);
    let gates = form.gates_width();
    check_len("z", z.len(), form.all_items() * form.steps * gates);
    let by_gates = by_gates(form, u);
    let kept_len = if keep { form.kept_len() } else { 0 };
    let shown_len = form.slots() * form.width;
    let [shown, kept] = build_each(
        &form.pieces(),
        |piece| [piece.len * shown_len, piece.len * kept_len],
        form.work(),
        |piece, [shown, kept]: &mut [Fresh<'_, T>; 2]| {
            let forward = Forward {
                form,
                z: piece.of(z, form.steps * gates),
                u: &by_gates[piece.task * form.weight_len()..][..form.weight_len()],
                start: piece.of(start, form.state_width()),
                mask: mask.map(|mask| piece.of(mask, form.steps)),
            };
            forward.piece(shown.in_rows(form.width), keep.then_some(kept));
        },
    );
    (shown, kept)
}

/// The forward pass of a piece.
struct Forward<'a, T> {
    form: &'a Recurrence,
    z: &'a [T],
    /// Of [`by_gates`].
    u: &'a [T],
    start: &'a [T],
    mask: Option<&'a [T]>,
}

impl<T: Real> Forward<'_, T> {
    fn piece(&self, mut shown: FreshRows<'_, T>, mut kept: Option<&mut Fresh<'_, T>>) {
        let form = self.form;
        let (width, steps, states) = (form.width, form.steps, form.state_width());
        let len = self.start.len() / states * width;
        with_scratch((KEPT + 4) * len, |mut scratch: &mut [T]| {
            let of_step = planes(&mut scratch, KEPT * len);
            let (h, c) = (planes(&mut scratch, len), planes(&mut scratch, len));
            let before = (planes(&mut scratch, len), planes(&mut scratch, len));
            let state = |offset| Rows {
                of_item: states,
                offset,
                width,
            };
            state(0).gather(self.start, h);
            if form.cell == RecurrentCell::Lstm {
                state(width).gather(self.start, c);
            }
            let slot = |slot| Rows {
                of_item: form.slots() * width,
                offset: slot * width,
                width,
            };
            for turn in 0..steps {
                let passed = Passed {
                    mask: self.mask,
                    steps,
                    step: form.step_at(turn),
                    width,
                };
                if self.mask.is_some() {
                    before.0.copy_from_slice(h);
                    before.1.copy_from_slice(c);
                }
                self.sums(form.step_at(turn), h, of_step);
                let (gates, last) = of_step.split_at_mut((KEPT - 1) * len);
                let [a, b, d, e] = four_mut(gates, len);
                match form.cell {
                    RecurrentCell::Lstm => lstm::forward(a, b, d, e, c, h),
                    RecurrentCell::Gru => {
                        last.copy_from_slice(h);
                        gru::forward(a, b, d, e, h);
                    }
                }
                passed.restore(h, before.0);
                if form.cell == RecurrentCell::Lstm {
                    passed.restore(c, before.1);
                    last.copy_from_slice(c);
                }
                if let Some(kept) = &mut kept {
                    kept.put(of_step.iter().copied());
                }
                if let Some(at) = form.slot(turn) {
                    slot(at).scatter(h, &mut shown);
                }
            }
            if form.shows_cell() {
                slot(steps).scatter(c, &mut shown);
            }
        });
    }

    /// The sums of the gates at a step, in planes.
    fn sums(&self, step: usize, h: &[T], planes: &mut [T]) {
        let form = self.form;
        let (width, gates, len) = (form.width, form.gates_width(), h.len());
        let plane = |at: usize| at * len..(at + 1) * len;
        for gate in 0..form.cell.gates() {
            let rows = Rows {
                of_item: form.steps * gates,
                offset: step * gates + gate * width,
                width,
            };
            rows.gather(self.z, &mut planes[plane(gate)]);
        }
        if form.cell == RecurrentCell::Gru {
            let bias = &self.u[width * gates..];
            planes[plane(3)].fill(T::ZERO);
            for (bias, &at) in bias.chunks_exact(width).zip(form.planes()) {
                for row in planes[plane(at)].chunks_exact_mut(width) {
                    for (sum, &bias) in row.iter_mut().zip(bias) {
                        *sum += bias;
                    }
                }
            }
        }
        times_weight(form, h, self.u, planes);
    }
}

/// Adds `h U` to the planes of the gates; `u` is that of [`by_gates`].
fn times_weight<T: Real>(form: &Recurrence, h: &[T], u: &[T], planes: &mut [T]) {
    let (width, len) = (form.width, h.len());
    let items = len / width.max(1);
    for (gate, &at) in form.planes().iter().enumerate() {
        product_into(
            [items, width, width],
            &mut planes[at * len..(at + 1) * len],
            true,
            Matrix::rows(h, width),
            Matrix::rows(&u[gate * width * width..][..width * width], width),
        );
    }
}

/// What a forward pass read and kept.
#[derive(Clone, Copy)]
pub struct Run<'a, T> {
    /// Sizes; what is shown is what the gradients are along.
    pub form: &'a Recurrence,
    /// `[tw, h (+ 1), gates]`.
    pub u: &'a [T],
    /// `[t, b, state]`.
    pub start: &'a [T],
    /// `[t, b·l]`.
    pub mask: Option<&'a [T]>,
    /// The second result of [`recur`].
    pub kept: &'a [T],
}

/// The gradients of a scalar along the operands of [`recur`]; that along the weight follows from
/// `products`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradient<T> {
    /// Along `z`, `[t, b·l, gates]`.
    pub z: Vec<T>,
    /// Along the products with the weight, alike; empty where it is that along `z` (LSTM).
    pub products: Vec<T>,
    /// Along the state before the first step, `[t, b, state]`; empty where it was not asked for.
    pub start: Vec<T>,
    /// What [`recur_curvature`] needs; empty where it was not asked for.
    pub kept: Vec<T>,
}

/// The gradients from that along what is shown, `g [t, b·slots, h]`.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn recur_adjoint<T: Real>(
    run: &Run<'_, T>,
    g: &[T],
    along_start: bool,
    keep: bool,
) -> Gradient<T> {
    let form = run.form;
    form.check(run.u, run.start, run.mask);
    check_len("g", g.len(), form.all_items() * form.slots() * form.width);
    check_len("kept", run.kept.len(), form.all_items() * form.kept_len());
    let (gates, states) = (form.gates_width(), form.state_width());
    let transposed = transposed(form, run.u);
    let products_len = match form.cell {
        RecurrentCell::Lstm => 0,
        RecurrentCell::Gru => form.steps * gates,
    };
    let start_len = if along_start { states } else { 0 };
    let kept_len = if keep { form.gradient_len() } else { 0 };
    let lens = [form.steps * gates, products_len, start_len, kept_len];
    let [z, products, start, kept] = build_each(
        &form.pieces(),
        |piece| lens.map(|len| piece.len * len),
        form.work(),
        |piece, [z, products, start, kept]: &mut [Fresh<'_, T>; 4]| {
            let backward = Backward {
                form,
                transposed: &transposed[piece.task * form.width * gates..][..form.width * gates],
                start: piece.of(run.start, states),
                mask: run.mask.map(|mask| piece.of(mask, form.steps)),
                kept: piece.of(run.kept, form.kept_len()),
                g: piece.of(g, form.slots() * form.width),
            };
            let [z, products] = [z, products].map(|part| part.in_rows(form.width));
            let kept = kept.in_rows(piece.len * form.width);
            backward.piece(z, products, start.zeros(), kept);
        },
    );
    Gradient {
        z,
        products,
        start,
        kept,
    }
}

/// `uᵀ` of every task, without the row of biases: `[tw, gates, h]`.
fn transposed<T: Real>(form: &Recurrence, u: &[T]) -> Vec<T> {
    let (width, gates) = (form.width, form.gates_width());
    build(
        &row_blocks(form.weight_tasks, gates, 64),
        |block: &RowBlock| block.len() * width,
        2 * u.len(),
        |block, to| {
            let u = &u[block.task * form.weight_len()..][..width * gates];
            transpose(u, gates, block.start..block.end, to);
        },
    )
}

/// The cells before the first step, in a plane.
fn first_cells<T: Real>(form: &Recurrence, start: &[T], plane: &mut [T]) {
    if form.cell == RecurrentCell::Lstm {
        let rows = Rows {
            of_item: form.state_width(),
            offset: form.width,
            width: form.width,
        };
        rows.gather(start, plane);
    }
}

/// What was kept of the turn of an LSTM, with the cell before it.
fn lstm_kept<'a, T>(kept: &'a [T], first: &'a [T], turn: usize, len: usize) -> lstm::Kept<'a, T> {
    let [i, f, o, g, after] = five(&kept[turn * KEPT * len..], len);
    let before = match turn {
        0 => first,
        _ => five(&kept[(turn - 1) * KEPT * len..], len)[KEPT - 1],
    };
    lstm::Kept {
        gates: [i, f, o, g],
        cells: [before, after],
    }
}

/// The adjoint of a piece.
struct Backward<'a, T> {
    form: &'a Recurrence,
    transposed: &'a [T],
    start: &'a [T],
    mask: Option<&'a [T]>,
    kept: &'a [T],
    g: &'a [T],
}

impl<T: Real> Backward<'_, T> {
    fn piece(
        &self,
        mut z: FreshRows<'_, T>,
        mut products: FreshRows<'_, T>,
        start: &mut [T],
        mut kept: FreshRows<'_, T>,
    ) {
        let form = self.form;
        let (width, steps, states) = (form.width, form.steps, form.state_width());
        let len = self.start.len() / states * width;
        with_scratch(10 * len, |mut scratch: &mut [T]| {
            let sums = planes(&mut scratch, 4 * len);
            let (dh, dc) = (planes(&mut scratch, len), planes(&mut scratch, len));
            let (first, total) = (planes(&mut scratch, len), planes(&mut scratch, len));
            let before = (planes(&mut scratch, len), planes(&mut scratch, len));
            first_cells(form, self.start, first);
            dh.fill(T::ZERO);
            dc.fill(T::ZERO);
            let slot = |slot| Rows {
                of_item: form.slots() * width,
                offset: slot * width,
                width,
            };
            if form.shows_cell() {
                slot(steps).gather(self.g, dc);
            }
            for turn in (0..steps).rev() {
                if let Some(at) = form.slot(turn) {
                    slot(at).add_to(self.g, dh);
                }
                let passed = Passed {
                    mask: self.mask,
                    steps,
                    step: form.step_at(turn),
                    width,
                };
                before.0.copy_from_slice(dh);
                if self.mask.is_some() {
                    before.1.copy_from_slice(dc);
                }
                let own = four_mut(sums, len);
                match form.cell {
                    RecurrentCell::Lstm => {
                        lstm_kept(self.kept, first, turn, len).adjoint(dh, dc, total, own);
                        // Through the gates to the hidden state before; nothing passes them by.
                        dh.fill(T::ZERO);
                    }
                    RecurrentCell::Gru => {
                        let kept = five(&self.kept[turn * KEPT * len..], len);
                        gru::Kept(kept).adjoint(dh, own);
                    }
                }
                if !kept.is_empty() {
                    let row = turn * form.cell.states();
                    kept.write(row, before.0);
                    if form.cell == RecurrentCell::Lstm {
                        kept.write(row + 1, total);
                    }
                }
                passed.clear_all(sums, len);
                passed.restore(dh, before.0);
                passed.restore(dc, before.1);
                self.give(turn, sums, len, &mut z, &mut products);
                if turn > 0 || !start.is_empty() {
                    self.times_transposed(sums, dh);
                }
            }
            if !start.is_empty() {
                for (state, plane) in [dh, dc][..form.cell.states()].iter().enumerate() {
                    let rows = Rows {
                        of_item: states,
                        offset: state * width,
                        width,
                    };
                    rows.scatter(plane, start);
                }
            }
        });
    }

    /// Writes the gradients along the sums of a step.
    fn give(
        &self,
        turn: usize,
        sums: &[T],
        len: usize,
        z: &mut FreshRows<'_, T>,
        products: &mut FreshRows<'_, T>,
    ) {
        let form = self.form;
        scatter_gates(form, turn, [0, 1, 2, 3], sums, len, z);
        if !products.is_empty() {
            scatter_gates(form, turn, [0, 1, 3, 2], sums, len, products);
        }
    }

    /// Adds what comes through the weight to the gradient along the hidden state before.
    fn times_transposed(&self, sums: &[T], dh: &mut [T]) {
        let (width, len) = (self.form.width, dh.len());
        for (gate, &at) in self.form.planes().iter().enumerate() {
            product_into(
                [len / width.max(1), width, width],
                dh,
                true,
                Matrix::rows(&sums[at * len..(at + 1) * len], width),
                Matrix::rows(
                    &self.transposed[gate * width * width..][..width * width],
                    width,
                ),
            );
        }
    }
}

/// Copies planes into the blocks of the gates at a turn, block `k` from plane `order[k]`.
fn scatter_gates<T: Real>(
    form: &Recurrence,
    turn: usize,
    order: [usize; 4],
    planes: &[T],
    len: usize,
    items: &mut (impl Target<T> + ?Sized),
) {
    let (width, gates) = (form.width, form.gates_width());
    for (gate, &plane) in order[..form.cell.gates()].iter().enumerate() {
        let rows = Rows {
            of_item: form.steps * gates,
            offset: form.step_at(turn) * gates + gate * width,
            width,
        };
        rows.scatter(&planes[plane * len..(plane + 1) * len], items);
    }
}

/// A direction in the space of a [`Gradient`].
#[derive(Clone, Copy)]
pub struct Direction<'a, T> {
    /// `[t, b·l, gates]`.
    pub z: &'a [T],
    /// Alike; empty for zeros, and where a gradient has no part of its own.
    pub products: &'a [T],
    /// `[t, b, state]`; empty for zeros.
    pub start: &'a [T],
}

/// The derivatives of the product of a [`Gradient`] with a direction. That along the weight, and that along
/// the hidden states through the products, follow from `products` and `hidden`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curvature<T> {
    /// Along `z`, `[t, b·l, gates]`.
    pub z: Vec<T>,
    /// Along the products with the weight; empty where it is that along `z` (LSTM).
    pub products: Vec<T>,
    /// Along the hidden state before each step, past the weight, `[t, b·l, h]`; empty for an LSTM.
    pub before: Vec<T>,
    /// Along the gradient of the hidden state after each step, `[t, b·l, h]`.
    pub hidden: Vec<T>,
    /// Along the cell before the first step and along the gradient of that after the last,
    /// `[t, b, 2, h]`; empty for a GRU.
    pub cells: Vec<T>,
}

/// The derivatives of `⟨direction, gradient⟩`, with the hidden states before the steps, the start, `z`,
/// `u` and `g` as operands; `kept` is what [`recur_adjoint`] kept.
///
/// # Panics
/// If a slice does not have the length its shape says.
pub fn recur_curvature<T: Real>(
    run: &Run<'_, T>,
    kept: &[T],
    direction: &Direction<'_, T>,
) -> Curvature<T> {
    let form = run.form;
    form.check(run.u, run.start, run.mask);
    let (items, gates, states) = (form.all_items(), form.gates_width(), form.state_width());
    check_len("kept", run.kept.len(), items * form.kept_len());
    check_len(
        "kept by the adjoint",
        kept.len(),
        items * form.gradient_len(),
    );
    check_len("direction z", direction.z.len(), items * form.steps * gates);
    for (part, len) in [
        (direction.products, form.steps * gates),
        (direction.start, states),
    ] {
        assert!(
            part.is_empty() || part.len() == items * len,
            "a direction has {} elements, its shape says {}",
            part.len(),
            items * len
        );
    }
    let by_gates = by_gates(form, run.u);
    let (hidden, lstm) = (form.steps * form.width, form.cell == RecurrentCell::Lstm);
    let lens = match lstm {
        true => [form.steps * gates, 0, 0, hidden, 2 * form.width],
        false => [form.steps * gates, form.steps * gates, hidden, hidden, 0],
    };
    let [z, products, before, hidden, cells] = build_each(
        &form.pieces(),
        |piece| lens.map(|len| piece.len * len),
        2 * form.work(),
        |piece, [z, products, before, hidden, cells]: &mut [Fresh<'_, T>; 5]| {
            let tangent = Tangent {
                form,
                u: &by_gates[piece.task * form.weight_len()..][..form.weight_len()],
                start: piece.of(run.start, states),
                mask: run.mask.map(|mask| piece.of(mask, form.steps)),
                kept: piece.of(run.kept, form.kept_len()),
                gradients: piece.of(kept, form.gradient_len()),
                direction: Direction {
                    z: piece.of(direction.z, form.steps * gates),
                    products: piece.of_some(direction.products, form.steps * gates),
                    start: piece.of_some(direction.start, states),
                },
            };
            let hidden = hidden.in_rows(form.width);
            match lstm {
                true => tangent.lstm(z.zeros(), hidden, cells.zeros()),
                false => {
                    let parts = [z, products, before].map(|part| part.in_rows(form.width));
                    tangent.gru(parts, hidden);
                }
            }
        },
    );
    Curvature {
        z,
        products,
        before,
        hidden,
        cells,
    }
}

/// The curvature of a piece: the recurrence of the tangent, in the order of reading.
struct Tangent<'a, T> {
    form: &'a Recurrence,
    /// Of [`by_gates`].
    u: &'a [T],
    start: &'a [T],
    mask: Option<&'a [T]>,
    kept: &'a [T],
    gradients: &'a [T],
    direction: Direction<'a, T>,
}

impl<T: Real> Tangent<'_, T> {
    fn passed(&self, turn: usize) -> Passed<'_, T> {
        Passed {
            mask: self.mask,
            steps: self.form.steps,
            step: self.form.step_at(turn),
            width: self.form.width,
        }
    }

    /// The direction of a state before the first step, into a plane.
    fn first(&self, state: usize, plane: &mut [T]) {
        plane.fill(T::ZERO);
        if !self.direction.start.is_empty() {
            let rows = Rows {
                of_item: self.form.state_width(),
                offset: state * self.form.width,
                width: self.form.width,
            };
            rows.gather(self.direction.start, plane);
        }
    }

    /// The direction along the sums of a turn, in planes, with what the tangent `hidden` adds.
    fn along_sums(&self, turn: usize, hidden: &[T], planes: &mut [T]) {
        let form = self.form;
        let (width, gates, len) = (form.width, form.gates_width(), hidden.len());
        planes[3 * len..4 * len].fill(T::ZERO);
        for gate in 0..form.cell.gates() {
            let rows = Rows {
                of_item: form.steps * gates,
                offset: form.step_at(turn) * gates + gate * width,
                width,
            };
            rows.gather(self.direction.z, &mut planes[gate * len..][..len]);
            if !self.direction.products.is_empty() {
                let at = form.planes()[gate];
                // The plane of what is read of the state comes after that of what is read.
                let plane = &mut planes[at * len..][..len];
                if at == gate {
                    rows.add_to(self.direction.products, plane);
                } else {
                    rows.gather(self.direction.products, plane);
                }
            }
        }
        times_weight(form, hidden, self.u, planes);
    }

    fn hidden_rows(&self, turn: usize) -> Rows {
        let width = self.form.width;
        Rows {
            of_item: self.form.steps * width,
            offset: self.form.step_at(turn) * width,
            width,
        }
    }

    fn lstm(&self, z: &mut [T], mut hidden: FreshRows<'_, T>, cells: &mut [T]) {
        let form = self.form;
        let (width, steps) = (form.width, form.steps);
        let len = self.start.len() / form.state_width() * width;
        with_scratch((9 + 2 * steps) * len, |mut scratch: &mut [T]| {
            let sums = planes(&mut scratch, 4 * len);
            let (along_h, along_c) = (planes(&mut scratch, len), planes(&mut scratch, len));
            let before = (planes(&mut scratch, len), planes(&mut scratch, len));
            let first = planes(&mut scratch, len);
            // Derivatives along the cells before and after every step.
            let of_cells = scratch;
            first_cells(form, self.start, first);
            self.first(0, along_h);
            self.first(1, along_c);
            for turn in 0..steps {
                self.along_sums(turn, along_h, sums);
                before.0.copy_from_slice(along_h);
                before.1.copy_from_slice(along_c);
                let (d, of_turn) = (
                    &self.gradients[turn * 2 * len..][..2 * len],
                    &mut of_cells[turn * 2 * len..][..2 * len],
                );
                let (along_before, along_after) = of_turn.split_at_mut(len);
                lstm_kept(self.kept, first, turn, len).curvature(
                    [&d[..len], &d[len..]],
                    four_mut(sums, len),
                    along_c,
                    along_h,
                    [along_before, along_after],
                );
                let passed = self.passed(turn);
                passed.clear_all(sums, len);
                passed.clear(along_before);
                passed.clear(along_after);
                passed.restore(along_h, before.0);
                passed.restore(along_c, before.1);
                scatter_gates(form, turn, [0, 1, 2, 3], sums, len, z);
                self.hidden_rows(turn).scatter(along_h, &mut hidden);
            }
            let cell = |slot| Rows {
                of_item: 2 * width,
                offset: slot * width,
                width,
            };
            cell(1).scatter(along_c, cells);
            let carried = along_c;
            carried.fill(T::ZERO);
            for turn in (0..steps).rev() {
                let (along_before, along_after) =
                    of_cells[turn * 2 * len..][..2 * len].split_at(len);
                let passed = self.passed(turn);
                before.0.copy_from_slice(carried);
                let [i, f, g, _] = four_mut(sums, len);
                lstm_kept(self.kept, first, turn, len).through_cell(
                    [along_before, along_after],
                    carried,
                    [i, f, g],
                );
                passed.restore(carried, before.0);
                for (plane, gate) in [0, 1, 3].into_iter().enumerate() {
                    let plane = &mut sums[plane * len..(plane + 1) * len];
                    passed.clear(plane);
                    let rows = Rows {
                        of_item: steps * form.gates_width(),
                        offset: form.step_at(turn) * form.gates_width() + gate * width,
                        width,
                    };
                    rows.scatter_add(plane, z);
                }
            }
            cell(0).scatter(carried, cells);
        });
    }

    fn gru(&self, parts: [FreshRows<'_, T>; 3], mut hidden: FreshRows<'_, T>) {
        let form = self.form;
        let [mut z, mut products, mut before_steps] = parts;
        let len = self.start.len();
        with_scratch(7 * len, |mut scratch: &mut [T]| {
            let sums = planes(&mut scratch, 4 * len);
            let (along, before) = (planes(&mut scratch, len), planes(&mut scratch, len));
            let state = planes(&mut scratch, len);
            self.first(0, along);
            for turn in 0..form.steps {
                self.along_sums(turn, along, sums);
                before.copy_from_slice(along);
                gru::Kept(five(&self.kept[turn * KEPT * len..], len)).curvature(
                    &self.gradients[turn * len..][..len],
                    four_mut(sums, len),
                    along,
                    state,
                );
                let passed = self.passed(turn);
                passed.clear_all(sums, len);
                passed.clear(state);
                passed.restore(along, before);
                scatter_gates(form, turn, [0, 1, 2, 3], sums, len, &mut z);
                scatter_gates(form, turn, [0, 1, 3, 2], sums, len, &mut products);
                self.hidden_rows(turn).scatter(state, &mut before_steps);
                self.hidden_rows(turn).scatter(along, &mut hidden);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        assert_close, assert_same_for_any_threads, dot, noise, tolerance, widen,
    };
    use super::*;

    fn forms() -> Vec<Recurrence> {
        let mut all = Vec::new();
        for cell in [RecurrentCell::Lstm, RecurrentCell::Gru] {
            for (tasks, weight_tasks, items, steps, width) in [
                (1, 1, 2, 3, 2),
                (2, 2, 3, 4, 3),
                (3, 1, 9, 1, 1),
                (2, 1, 1, 5, 4),
            ] {
                for (reverse, shown) in [
                    (false, Shown::Hidden),
                    (true, Shown::Last),
                    (true, Shown::Trace),
                    (false, Shown::Last),
                ] {
                    all.push(Recurrence {
                        cell,
                        tasks,
                        weight_tasks,
                        items,
                        steps,
                        width,
                        reverse,
                        shown,
                    });
                }
            }
        }
        all
    }

    /// Operands of a form in noise: `z`, `u`, `start`, and a mask.
    fn operands<T: Real>(form: &Recurrence) -> [Vec<T>; 4] {
        let items = form.all_items();
        let mask = (0..items * form.steps).map(|at| if at % 3 == 1 { T::ZERO } else { T::ONE });
        [
            noise(1, items * form.steps * form.gates_width()),
            noise(2, form.weight_tasks * form.weight_len()),
            noise(3, items * form.state_width()),
            mask.collect(),
        ]
    }

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// The definition, item by item and step by step.
    fn naive(
        form: &Recurrence,
        z: &[f64],
        u: &[f64],
        start: &[f64],
        mask: Option<&[f64]>,
    ) -> Vec<f64> {
        let (width, gates) = (form.width, form.gates_width());
        let mut shown = vec![0.0; form.all_items() * form.slots() * width];
        for item in 0..form.all_items() {
            let task = if form.weight_tasks == 1 {
                0
            } else {
                item / form.items
            };
            let u = &u[task * form.weight_len()..][..form.weight_len()];
            let mut state = start[item * form.state_width()..][..form.state_width()].to_vec();
            for turn in 0..form.steps {
                let at = item * form.steps + form.step_at(turn);
                let z = &z[at * gates..][..gates];
                let product = |column: usize| -> f64 {
                    let bias = match form.cell {
                        RecurrentCell::Lstm => 0.0,
                        RecurrentCell::Gru => u[width * gates + column],
                    };
                    bias + (0..width)
                        .map(|j| state[j] * u[j * gates + column])
                        .sum::<f64>()
                };
                let p: Vec<f64> = (0..gates).map(product).collect();
                let mut next = state.clone();
                for j in 0..width {
                    let sum = |block: usize| z[block * width + j] + p[block * width + j];
                    match form.cell {
                        RecurrentCell::Lstm => {
                            let [i, f, o] = [0, 1, 2].map(|block| sigmoid(sum(block)));
                            next[width + j] = f * state[width + j] + i * sum(3).tanh();
                            next[j] = o * next[width + j].tanh();
                        }
                        RecurrentCell::Gru => {
                            let [r, s] = [0, 1].map(|block| sigmoid(sum(block)));
                            let n = (z[2 * width + j] + r * p[2 * width + j]).tanh();
                            next[j] = (1.0 - s) * n + s * state[j];
                        }
                    }
                }
                if mask.is_none_or(|mask| mask[at] != 0.0) {
                    state = next;
                }
                if let Some(slot) = form.slot(turn) {
                    let to = (item * form.slots() + slot) * width;
                    shown[to..to + width].copy_from_slice(&state[..width]);
                }
            }
            if form.shows_cell() {
                let to = (item * form.slots() + form.steps) * width;
                shown[to..to + width].copy_from_slice(&state[width..]);
            }
        }
        shown
    }

    fn check_values<T: Real>() {
        for form in forms() {
            let [z, u, start, mask] = operands::<T>(&form);
            for mask in [None, Some(&mask[..])] {
                let wide = mask.map(widen);
                let [z_wide, u_wide, start_wide] = [&z, &u, &start].map(|v| widen(v));
                let expected = naive(&form, &z_wide, &u_wide, &start_wide, wide.as_deref());
                for keep in [false, true] {
                    let (shown, kept) = recur(&form, &z, &u, &start, mask, keep);
                    assert_close(&shown, &expected, tolerance::<T>(), &format!("{form:?}"));
                    assert_eq!(kept.is_empty(), !keep);
                }
            }
        }
    }

    #[test]
    fn equals_its_definition() {
        check_values::<f32>();
        check_values::<f64>();
    }

    /// Central differences of `f` in every element of `at`.
    fn slopes(at: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
        let step = 1e-5;
        let moved = |index: usize, by: f64| {
            let mut at = at.to_vec();
            at[index] += by;
            f(&at)
        };
        (0..at.len())
            .map(|index| (moved(index, step) - moved(index, -step)) / (2.0 * step))
            .collect()
    }

    /// Errors of central differences with steps of 1e-5: 1e-10 by curvature, 1e-11 by rounding.
    const SLOPES: f64 = 1e-8;

    fn gradient(form: &Recurrence, at: [&[f64]; 4], mask: Option<&[f64]>) -> Gradient<f64> {
        let [z, u, start, g] = at;
        let (_, kept) = recur(form, z, u, start, mask, true);
        let run = Run {
            form,
            u,
            start,
            mask,
            kept: &kept,
        };
        recur_adjoint(&run, g, true, true)
    }

    /// `Σ over items and steps of xᵀ y` for each weight: `x` rows of the width, `y` rows of the gates.
    fn outer(form: &Recurrence, x: &[f64], y: &[f64]) -> Vec<f64> {
        let (width, gates) = (form.width, form.gates_width());
        let mut sum = vec![0.0; form.weight_tasks * form.weight_len()];
        let rows = form.steps * form.all_items() / form.weight_tasks;
        for (row, (x, y)) in x.chunks(width).zip(y.chunks(gates)).enumerate() {
            let u = &mut sum[row / rows * form.weight_len()..];
            for (i, x) in x.iter().enumerate() {
                for (j, y) in y.iter().enumerate() {
                    u[i * gates + j] += x * y;
                }
            }
        }
        sum
    }

    /// `Σ y` into the row of biases.
    fn biases(form: &Recurrence, y: &[f64]) -> Vec<f64> {
        let (width, gates) = (form.width, form.gates_width());
        let mut sum = vec![0.0; form.weight_tasks * form.weight_len()];
        let rows = form.steps * form.all_items() / form.weight_tasks;
        for (row, y) in y.chunks(gates).enumerate() {
            for (j, y) in y.iter().enumerate() {
                if form.cell == RecurrentCell::Gru {
                    sum[row / rows * form.weight_len() + width * gates + j] += y;
                }
            }
        }
        sum
    }

    /// The hidden states before the steps from those after them, `first` before the first.
    fn before(form: &Recurrence, hidden: &[f64], slots: usize, first: &[f64]) -> Vec<f64> {
        let width = form.width;
        let mut all = vec![0.0; form.all_items() * form.steps * width];
        for item in 0..form.all_items() {
            for turn in 0..form.steps {
                let from = match turn {
                    0 => &first[item * form.state_width()..],
                    _ => &hidden[(item * slots + form.step_at(turn - 1)) * width..],
                };
                let to = (item * form.steps + form.step_at(turn)) * width;
                all[to..to + width].copy_from_slice(&from[..width]);
            }
        }
        all
    }

    fn added(parts: &[&[f64]]) -> Vec<f64> {
        let mut sum = vec![0.0; parts[0].len()];
        for part in parts {
            sum.iter_mut()
                .zip(*part)
                .for_each(|(sum, part)| *sum += part);
        }
        sum
    }

    #[test]
    fn the_adjoint_is_the_gradient() {
        for form in forms() {
            let [z, u, start, mask] = operands::<f64>(&form);
            let g: Vec<f64> = noise(4, form.all_items() * form.slots() * form.width);
            for mask in [None, Some(&mask[..])] {
                let found = gradient(&form, [&z, &u, &start, &g], mask);
                let value = |z: &[f64], u: &[f64], start: &[f64]| {
                    dot(&recur(&form, z, u, start, mask, false).0, &g)
                };
                let close = |found: &[f64], expected: &[f64], what: &str| {
                    assert_close(found, expected, SLOPES, &format!("{form:?} {what}"));
                };
                close(&found.z, &slopes(&z, |z| value(z, &u, &start)), "z");
                close(
                    &found.start,
                    &slopes(&start, |start| value(&z, &u, start)),
                    "start",
                );
                let whole = form.whole();
                let (hidden, _) = recur(&whole, &z, &u, &start, mask, false);
                let hidden = before(&form, &hidden, whole.slots(), &start);
                let products = match form.cell {
                    RecurrentCell::Lstm => &found.z,
                    RecurrentCell::Gru => &found.products,
                };
                let along_u = added(&[&outer(&form, &hidden, products), &biases(&form, products)]);
                close(&along_u, &slopes(&u, |u| value(&z, u, &start)), "u");
            }
        }
    }

    /// The derivative of a gradient's product with a direction, as a function of `z`, `u`, `start`, `g`:
    /// what the curvature gives, and what goes through the hidden states by the adjoint.
    #[test]
    fn the_curvature_is_the_gradient_of_the_adjoint() {
        for form in forms() {
            let [z, u, start, mask] = operands::<f64>(&form);
            let g: Vec<f64> = noise(4, form.all_items() * form.slots() * form.width);
            for mask in [None, Some(&mask[..])] {
                check_curvature(&form, [&z, &u, &start, &g], mask);
            }
        }
    }

    fn check_curvature(form: &Recurrence, at: [&[f64]; 4], mask: Option<&[f64]>) {
        let [z, u, start, g] = at;
        let first = gradient(form, at, mask);
        let [dz, dp, ds] = [(5, &first.z), (6, &first.products), (7, &first.start)]
            .map(|(seed, like)| noise::<f64>(seed, like.len()));
        let direction = Direction {
            z: &dz,
            products: &dp,
            start: &ds,
        };
        let value = |at: [&[f64]; 4]| {
            let found = gradient(form, at, mask);
            dot(&found.z, &dz) + dot(&found.products, &dp) + dot(&found.start, &ds)
        };
        let (_, kept) = recur(form, z, u, start, mask, true);
        let run = Run {
            form,
            u,
            start,
            mask,
            kept: &kept,
        };
        let found = recur_curvature(&run, &first.kept, &direction);
        let lstm = form.cell == RecurrentCell::Lstm;
        let [products, gradient_products] = match lstm {
            true => [&found.z, &first.z],
            false => [&found.products, &first.products],
        };
        // Along the hidden state before every step, and from there along what it is made of.
        let (width, gates, steps, states) = (
            form.width,
            form.gates_width(),
            form.steps,
            form.state_width(),
        );
        let rows = steps * form.all_items() / form.weight_tasks;
        let mut along_hidden = vec![0.0; form.all_items() * steps * width];
        let mut along_start = vec![0.0; start.len()];
        for item in 0..form.all_items() {
            for turn in 0..steps {
                let row = item * steps + form.step_at(turn);
                let u = &u[row / rows * form.weight_len()..];
                for j in 0..width {
                    let mut sum = if lstm {
                        0.0
                    } else {
                        found.before[row * width + j]
                    };
                    for k in 0..gates {
                        sum += products[row * gates + k] * u[j * gates + k];
                    }
                    match turn {
                        0 => along_start[item * states + j] = sum,
                        _ => {
                            let to = item * steps + form.step_at(turn - 1);
                            along_hidden[to * width + j] = sum;
                        }
                    }
                }
            }
            if lstm {
                let cells = &found.cells[2 * item * width..];
                along_start[item * states + width..][..width].copy_from_slice(&cells[..width]);
            }
        }
        let hidden_form = Recurrence {
            shown: Shown::Hidden,
            ..*form
        };
        let (hidden, _) = recur(&hidden_form, z, u, start, mask, false);
        let through = gradient(&hidden_form, [z, u, start, &along_hidden], mask);
        let through_products = if lstm { &through.z } else { &through.products };

        let close = |found: &[f64], expected: &[f64], what: &str| {
            assert_close(found, expected, SLOPES, &format!("{form:?} {what}"));
        };
        let along_z = added(&[&found.z, &through.z]);
        close(&along_z, &slopes(z, |z| value([z, u, start, g])), "z");
        let along_start = added(&[&along_start, &through.start]);
        close(
            &along_start,
            &slopes(start, |start| value([z, u, start, g])),
            "start",
        );
        let before_steps = before(form, &hidden, steps, start);
        let tangents = before(form, &found.hidden, steps, &ds);
        let along_u = added(&[
            &outer(form, &before_steps, &added(&[products, through_products])),
            &outer(form, &tangents, gradient_products),
            &biases(form, products),
            &biases(form, through_products),
        ]);
        close(&along_u, &slopes(u, |u| value([z, u, start, g])), "u");
        let mut along_g = vec![0.0; g.len()];
        for item in 0..form.all_items() {
            for turn in 0..steps {
                if let Some(slot) = form.slot(turn) {
                    let from = (item * steps + form.step_at(turn)) * width;
                    along_g[(item * form.slots() + slot) * width..][..width]
                        .copy_from_slice(&found.hidden[from..from + width]);
                }
            }
            if form.shows_cell() {
                along_g[(item * form.slots() + steps) * width..][..width]
                    .copy_from_slice(&found.cells[(2 * item + 1) * width..][..width]);
            }
        }
        close(&along_g, &slopes(g, |g| value([z, u, start, g])), "g");
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        for cell in [RecurrentCell::Lstm, RecurrentCell::Gru] {
            for weight_tasks in [1, 3] {
                let form = Recurrence {
                    cell,
                    tasks: 3,
                    weight_tasks,
                    items: 50,
                    steps: 7,
                    width: 65,
                    reverse: false,
                    shown: Shown::Last,
                };
                let [z, u, start, mask] = operands::<f32>(&form);
                let g: Vec<f32> = noise(4, form.all_items() * form.slots() * form.width);
                assert_same_for_any_threads(|| {
                    let (mut all, kept) = recur(&form, &z, &u, &start, Some(&mask), true);
                    let run = Run {
                        form: &form,
                        u: &u,
                        start: &start,
                        mask: Some(&mask),
                        kept: &kept,
                    };
                    let gradient = recur_adjoint(&run, &g, true, true);
                    let direction = Direction {
                        z: &z,
                        products: &gradient.products,
                        start: &start,
                    };
                    let curvature = recur_curvature(&run, &gradient.kept, &direction);
                    for part in [
                        kept,
                        gradient.z,
                        gradient.start,
                        curvature.z,
                        curvature.hidden,
                    ] {
                        all.extend(part);
                    }
                    all
                });
            }
        }
    }

    #[test]
    #[should_panic(expected = "start has 3 elements, its shape says 2")]
    fn wrong_length_is_refused() {
        let form = Recurrence {
            cell: RecurrentCell::Lstm,
            tasks: 1,
            weight_tasks: 1,
            items: 1,
            steps: 1,
            width: 1,
            reverse: false,
            shown: Shown::Last,
        };
        let _ = recur(&form, &[0.0f32; 4], &[0.0; 4], &[0.0; 3], None, false);
    }
}
