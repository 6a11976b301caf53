//! The kernels: a group of threads computes all steps of one item, a column of the state each, in turn
//! where there are more columns than threads. What all of them read of each other, the state or the
//! gradients along the gates, lies in the memory of the group.

use burn_cubecl::cubecl::{self, prelude::*};

/// Sizes that a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// Whether the cell is a gated recurrent unit, not an LSTM.
    pub gru: bool,
    /// Width of the state.
    pub width: usize,
    /// Whether there is a mask.
    pub masked: bool,
    /// Whether the last step is read first.
    pub reverse: bool,
    /// Whether the hidden state of every step is shown.
    pub all: bool,
    /// Whether the last cell is shown.
    pub cell: bool,
    /// Whether what the derivatives need is kept.
    pub keep: bool,
    /// Whether the state before the first step takes part in a derivative.
    pub start: bool,
}

impl Form {
    /// Width of the gates.
    fn gates(&self) -> usize {
        if self.gru {
            3 * self.width
        } else {
            4 * self.width
        }
    }

    /// Width of the state.
    fn states(&self) -> usize {
        if self.gru { self.width } else { 2 * self.width }
    }
}

/// Sizes that may differ from call to call.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub struct Sizes {
    /// Items of all tasks.
    pub items: u32,
    /// Items that share a weight.
    pub of_weight: u32,
    /// Steps of an item.
    pub steps: u32,
    /// Vectors shown of an item.
    pub slots: u32,
}

#[cube]
fn sigmoid<F: Float>(x: F) -> F {
    (x * F::new(0.5)).tanh() * F::new(0.5) + F::new(0.5)
}

/// The item of this group of threads.
#[cube]
fn item() -> usize {
    (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize
}

/// The step that is read at a turn.
#[cube]
fn step_at(turn: usize, steps: usize, #[comptime] form: Form) -> usize {
    if comptime!(form.reverse) {
        steps - 1 - turn
    } else {
        turn
    }
}

/// 1 where a step counts, 0 where it is passed.
#[cube]
fn takes_part<F: Float>(mask: &Tensor<F>, at: usize, #[comptime] form: Form) -> F {
    let mut counts = F::new(1.0);
    if comptime!(form.masked) {
        counts = mask[at];
    }
    counts
}

/// The next state of a gated recurrent unit from the products `a b d` and the state before; `z` is read at
/// `row`, `kept` written at `to`.
#[cube]
fn gru_step<F: Float>(
    z: &Tensor<F>,
    kept: &mut Tensor<F>,
    a: F,
    b: F,
    q: F,
    before: F,
    row: usize,
    to: usize,
    #[comptime] form: Form,
) -> F {
    let width = comptime!(form.width);
    let r = sigmoid::<F>(z[row] + a);
    let s = sigmoid::<F>(z[row + width] + b);
    let n = (z[row + 2 * width] + r * q).tanh();
    if comptime!(form.keep) {
        kept[to] = r;
        kept[to + width] = s;
        kept[to + 2 * width] = n;
        kept[to + 3 * width] = q;
        kept[to + 4 * width] = before;
    }
    n + s * (before - n)
}

/// The next hidden state of an LSTM from the products `a b d e`; the cell changes in place, but where the
/// step is passed. `z` is read from `row` on, `kept` written from `to` on.
#[cube]
fn lstm_step<F: Float>(
    z: &Tensor<F>,
    kept: &mut Tensor<F>,
    c: &mut SharedMemory<F>,
    a: F,
    b: F,
    d: F,
    e: F,
    j: usize,
    row: usize,
    to: usize,
    passed: bool,
    #[comptime] form: Form,
) -> F {
    let width = comptime!(form.width);
    let i = sigmoid::<F>(z[row + j] + a);
    let f = sigmoid::<F>(z[row + width + j] + b);
    let o = sigmoid::<F>(z[row + 2 * width + j] + d);
    let g = (z[row + 3 * width + j] + e).tanh();
    let mut cell = f * c[j] + i * g;
    let shown = o * cell.tanh();
    if comptime!(form.masked) {
        if passed {
            cell = c[j];
        }
    }
    if comptime!(form.keep) {
        kept[to + j] = i;
        kept[to + width + j] = f;
        kept[to + 2 * width + j] = o;
        kept[to + 3 * width + j] = g;
        kept[to + 4 * width + j] = cell;
    }
    c[j] = cell;
    shown
}

/// See `Primitives::recur`; `kept` is `[items, steps, 5, width]`, by turn.
#[cube(launch)]
pub fn recur<F: Float>(
    z: &Tensor<F>,
    u: &Tensor<F>,
    start: &Tensor<F>,
    mask: &Tensor<F>,
    shown: &mut Tensor<F>,
    kept: &mut Tensor<F>,
    sizes: Sizes,
    #[comptime] form: Form,
    #[define(F)] _dtype: StorageType,
) {
    let item = item();
    if item >= sizes.items as usize {
        terminate!();
    }
    let width = comptime!(form.width);
    let gates = comptime!(form.gates());
    let rows = comptime!(if form.gru { form.width + 1 } else { form.width });
    let states = comptime!(form.states());
    let (steps, slots) = (sizes.steps as usize, sizes.slots as usize);
    let weight = item / (sizes.of_weight as usize) * rows * gates;
    let (unit, units) = (UNIT_POS_X as usize, CUBE_DIM_X as usize);
    let mut h = SharedMemory::<F>::new(width);
    let mut next = SharedMemory::<F>::new(width);
    let mut c = SharedMemory::<F>::new(width);

    let mut j = unit;
    while j < width {
        h[j] = start[item * states + j];
        if comptime!(!form.gru) {
            c[j] = start[item * states + width + j];
        }
        j += units;
    }
    sync_cube();
    for turn in 0..steps {
        let step = step_at(turn, steps, form);
        let row = (item * steps + step) * gates;
        let to = (item * steps + turn) * 5 * width;
        let mut passed = false;
        if comptime!(form.masked) {
            passed = mask[item * steps + step] == F::new(0.0);
        }
        let mut j = unit;
        while j < width {
            let mut a = F::new(0.0);
            let mut b = F::new(0.0);
            let mut d = F::new(0.0);
            let mut e = F::new(0.0);
            for k in 0..width {
                let from = weight + k * gates + j;
                a += h[k] * u[from];
                b += h[k] * u[from + width];
                d += h[k] * u[from + 2 * width];
                if comptime!(!form.gru) {
                    e += h[k] * u[from + 3 * width];
                }
            }
            if comptime!(form.gru) {
                let bias = weight + width * gates + j;
                a += u[bias];
                b += u[bias + width];
                d += u[bias + 2 * width];
                next[j] = gru_step::<F>(z, kept, a, b, d, h[j], row + j, to + j, form);
            } else {
                next[j] = lstm_step::<F>(z, kept, &mut c, a, b, d, e, j, row, to, passed, form);
            }
            if comptime!(form.masked) {
                if passed {
                    next[j] = h[j];
                }
            }
            j += units;
        }
        sync_cube();
        let mut j = unit;
        while j < width {
            h[j] = next[j];
            if comptime!(form.all) {
                shown[(item * slots + step) * width + j] = next[j];
            }
            j += units;
        }
        sync_cube();
    }
    let mut j = unit;
    while j < width {
        if comptime!(!form.all) {
            shown[item * width + j] = h[j];
        }
        if comptime!(form.cell) {
            shown[(item * slots + steps) * width + j] = c[j];
        }
        j += units;
    }
}

/// The adjoint of a step of a gated recurrent unit, from `d`, the gradient along the state after it: into
/// `z`, `products` and `sums`; returns what goes past the products to the state before.
#[cube]
fn gru_adjoint<F: Float>(
    kept: &Tensor<F>,
    z: &mut Tensor<F>,
    products: &mut Tensor<F>,
    sums: &mut SharedMemory<F>,
    d: F,
    counts: F,
    j: usize,
    row: usize,
    from: usize,
    #[comptime] form: Form,
) -> F {
    let width = comptime!(form.width);
    let one = F::new(1.0);
    let r = kept[from + j];
    let s = kept[from + width + j];
    let n = kept[from + 2 * width + j];
    let q = kept[from + 3 * width + j];
    let h = kept[from + 4 * width + j];
    let masked = d * counts;
    let dn = masked * (one - s) * (one - n * n);
    let dr = dn * q * r * (one - r);
    let ds = masked * (h - n) * s * (one - s);
    z[row + j] = dr;
    z[row + width + j] = ds;
    z[row + 2 * width + j] = dn;
    products[row + j] = dr;
    products[row + width + j] = ds;
    products[row + 2 * width + j] = dn * r;
    sums[j] = dr;
    sums[width + j] = ds;
    sums[2 * width + j] = dn * r;
    masked * s + d * (one - counts)
}

/// The adjoint of a step of an LSTM, from `d` and `carried`, the gradients along hidden state and cell after
/// it: into `z` and `sums`; returns the gradient along the cell in all.
#[cube]
fn lstm_adjoint<F: Float>(
    kept: &Tensor<F>,
    z: &mut Tensor<F>,
    sums: &mut SharedMemory<F>,
    before: F,
    d: F,
    carried: F,
    counts: F,
    j: usize,
    row: usize,
    from: usize,
    #[comptime] form: Form,
) -> F {
    let width = comptime!(form.width);
    let one = F::new(1.0);
    let i = kept[from + j];
    let f = kept[from + width + j];
    let o = kept[from + 2 * width + j];
    let g = kept[from + 3 * width + j];
    let m = kept[from + 4 * width + j].tanh();
    let total = carried + d * o * (one - m * m);
    let (masked, of_cell) = (d * counts, total * counts);
    let di = of_cell * g * i * (one - i);
    let df = of_cell * before * f * (one - f);
    let d_o = masked * m * o * (one - o);
    let dg = of_cell * i * (one - g * g);
    z[row + j] = di;
    z[row + width + j] = df;
    z[row + 2 * width + j] = d_o;
    z[row + 3 * width + j] = dg;
    sums[j] = di;
    sums[width + j] = df;
    sums[2 * width + j] = d_o;
    sums[3 * width + j] = dg;
    total
}

/// See `Primitives::recur_adjoint`: `transposed` is the weight without biases, `[tw, gates, width]`;
/// `gradients` are those along hidden state and cell, `[items, steps, states, width]`, by turn.
#[cube(launch)]
pub fn adjoint<F: Float>(
    transposed: &Tensor<F>,
    start: &Tensor<F>,
    mask: &Tensor<F>,
    kept: &Tensor<F>,
    given: &Tensor<F>,
    z: &mut Tensor<F>,
    products: &mut Tensor<F>,
    along_start: &mut Tensor<F>,
    gradients: &mut Tensor<F>,
    sizes: Sizes,
    #[comptime] form: Form,
    #[define(F)] _dtype: StorageType,
) {
    let item = item();
    if item >= sizes.items as usize {
        terminate!();
    }
    let width = comptime!(form.width);
    let gates = comptime!(form.gates());
    let states = comptime!(form.states());
    let (steps, slots) = (sizes.steps as usize, sizes.slots as usize);
    let weight = item / (sizes.of_weight as usize) * width * gates;
    let (unit, units) = (UNIT_POS_X as usize, CUBE_DIM_X as usize);
    let one = F::new(1.0);
    // Along the hidden state and the cell, and along the products with the weight.
    let mut dh = SharedMemory::<F>::new(width);
    let mut dc = SharedMemory::<F>::new(width);
    let mut sums = SharedMemory::<F>::new(gates);

    let mut j = unit;
    while j < width {
        dh[j] = F::new(0.0);
        dc[j] = F::new(0.0);
        if comptime!(form.cell) {
            dc[j] = given[(item * slots + steps) * width + j];
        }
        j += units;
    }
    for back in 0..steps {
        let turn = steps - 1 - back;
        let step = step_at(turn, steps, form);
        let row = (item * steps + step) * gates;
        let from = (item * steps + turn) * 5 * width;
        let counts = takes_part::<F>(mask, item * steps + step, form);
        let mut j = unit;
        while j < width {
            let mut d = dh[j];
            if comptime!(form.all) {
                d += given[(item * slots + step) * width + j];
            } else if back == 0 {
                d += given[item * width + j];
            }
            if comptime!(form.keep) {
                gradients[(item * steps + turn) * states + j] = d;
            }
            if comptime!(form.gru) {
                dh[j] =
                    gru_adjoint::<F>(kept, z, products, &mut sums, d, counts, j, row, from, form);
            } else {
                let mut before = start[item * states + width + j];
                if turn > 0 {
                    before = kept[from - width + j];
                }
                let cell = dc[j];
                let total = lstm_adjoint::<F>(
                    kept, z, &mut sums, before, d, cell, counts, j, row, from, form,
                );
                if comptime!(form.keep) {
                    gradients[(item * steps + turn) * states + width + j] = total;
                }
                dc[j] = total * counts * kept[from + width + j] + cell * (one - counts);
                dh[j] = d * (one - counts);
            }
            j += units;
        }
        sync_cube();
        let mut j = unit;
        while j < width {
            let mut through = dh[j];
            for k in 0..gates {
                through += sums[k] * transposed[weight + k * width + j];
            }
            dh[j] = through;
            j += units;
        }
        sync_cube();
    }
    if comptime!(form.start) {
        let mut j = unit;
        while j < width {
            along_start[item * states + j] = dh[j];
            if comptime!(!form.gru) {
                along_start[item * states + width + j] = dc[j];
            }
            j += units;
        }
    }
}

/// What all threads computed becomes the state of the group, and is written from `to` on.
#[cube]
fn advance<F: Float>(
    next: &SharedMemory<F>,
    state: &mut SharedMemory<F>,
    hidden: &mut Tensor<F>,
    to: usize,
    #[comptime] form: Form,
) {
    sync_cube();
    let mut j = UNIT_POS_X as usize;
    while j < comptime!(form.width) {
        state[j] = next[j];
        hidden[to + j] = next[j];
        j += CUBE_DIM_X as usize;
    }
    sync_cube();
}

/// The second pass of the curvature of an LSTM: what is along the cells, from the last step to the first,
/// added to `z`. Returns what is along the cell before the first step, `first`.
#[cube]
fn through_cells<F: Float>(
    mask: &Tensor<F>,
    kept: &Tensor<F>,
    scratch: &Tensor<F>,
    z: &mut Tensor<F>,
    first: F,
    item: usize,
    j: usize,
    steps: usize,
    #[comptime] form: Form,
) -> F {
    let width = comptime!(form.width);
    let gates = comptime!(form.gates());
    let one = F::new(1.0);
    let mut carried = F::new(0.0);
    for back in 0..steps {
        let turn = steps - 1 - back;
        let step = step_at(turn, steps, form);
        let row = (item * steps + step) * gates;
        let from = (item * steps + turn) * 5 * width;
        let of_turn = (item * steps + turn) * 2 * width;
        let counts = takes_part::<F>(mask, item * steps + step, form);
        let i = kept[from + j];
        let f = kept[from + width + j];
        let g = kept[from + 3 * width + j];
        let mut c = first;
        if turn > 0 {
            c = kept[from - width + j];
        }
        let e = scratch[of_turn + width + j] + carried;
        let of_cell = e * counts;
        z[row + j] += of_cell * g * i * (one - i);
        z[row + width + j] += of_cell * c * f * (one - f);
        z[row + 3 * width + j] += of_cell * i * (one - g * g);
        carried = scratch[of_turn + j] + of_cell * f + (one - counts) * e;
    }
    carried
}

/// See `Primitives::recur_curvature` of an LSTM: the recurrence of the tangent, then the cells backwards.
/// `scratch` is `[items, steps, 2, width]`.
#[cube(launch)]
pub fn lstm_curvature<F: Float>(
    u: &Tensor<F>,
    start: &Tensor<F>,
    mask: &Tensor<F>,
    kept: &Tensor<F>,
    gradients: &Tensor<F>,
    along_z: &Tensor<F>,
    along_start: &Tensor<F>,
    z: &mut Tensor<F>,
    hidden: &mut Tensor<F>,
    cells: &mut Tensor<F>,
    scratch: &mut Tensor<F>,
    sizes: Sizes,
    #[comptime] form: Form,
    #[define(F)] _dtype: StorageType,
) {
    let item = item();
    if item >= sizes.items as usize {
        terminate!();
    }
    let width = comptime!(form.width);
    let gates = comptime!(form.gates());
    let steps = sizes.steps as usize;
    let weight = item / (sizes.of_weight as usize) * width * gates;
    let (unit, units) = (UNIT_POS_X as usize, CUBE_DIM_X as usize);
    let (zero, one, two) = (F::new(0.0), F::new(1.0), F::new(2.0));
    let mut lambda = SharedMemory::<F>::new(width);
    let mut next = SharedMemory::<F>::new(width);
    let mut mu = SharedMemory::<F>::new(width);

    let mut j = unit;
    while j < width {
        lambda[j] = zero;
        mu[j] = zero;
        if comptime!(form.start) {
            lambda[j] = along_start[item * 2 * width + j];
            mu[j] = along_start[item * 2 * width + width + j];
        }
        j += units;
    }
    sync_cube();
    for turn in 0..steps {
        let step = step_at(turn, steps, form);
        let row = (item * steps + step) * gates;
        let from = (item * steps + turn) * 5 * width;
        let of_turn = (item * steps + turn) * 2 * width;
        let counts = takes_part::<F>(mask, item * steps + step, form);
        let mut j = unit;
        while j < width {
            let mut vi = along_z[row + j];
            let mut vf = along_z[row + width + j];
            let mut vo = along_z[row + 2 * width + j];
            let mut vg = along_z[row + 3 * width + j];
            for k in 0..width {
                let at = weight + k * gates + j;
                vi += lambda[k] * u[at];
                vf += lambda[k] * u[at + width];
                vo += lambda[k] * u[at + 2 * width];
                vg += lambda[k] * u[at + 3 * width];
            }
            let i = kept[from + j];
            let f = kept[from + width + j];
            let o = kept[from + 2 * width + j];
            let g = kept[from + 3 * width + j];
            let m = kept[from + 4 * width + j].tanh();
            let mut c = start[item * 2 * width + width + j];
            if turn > 0 {
                c = kept[from - width + j];
            }
            let d = gradients[of_turn + width + j] * counts;
            let dh = gradients[of_turn + j] * counts;
            let nu = mu[j];
            let (si, sf, so) = (i * (one - i), f * (one - f), o * (one - o));
            let (sg, sm) = (one - g * g, one - m * m);
            let along = vi * g * si + vf * c * sf + vg * i * sg + nu * f;
            z[row + j] = d * (vi * g * (one - two * i) + vg * sg) * si;
            z[row + width + j] = d * (vf * c * (one - two * f) + nu) * sf;
            z[row + 2 * width + j] = dh * (vo * m * (one - two * o) + along * sm) * so;
            z[row + 3 * width + j] = d * (vi * si - two * vg * i * g) * sg;
            scratch[of_turn + j] = d * vf * sf;
            scratch[of_turn + width + j] = dh * (vo * so - two * along * o * m) * sm;
            next[j] = counts * (vo * m * so + along * o * sm) + (one - counts) * lambda[j];
            mu[j] = counts * along + (one - counts) * nu;
            j += units;
        }
        let to = (item * steps + step) * width;
        advance::<F>(&next, &mut lambda, hidden, to, form);
    }
    // From here on a thread reads only what it wrote.
    let mut j = unit;
    while j < width {
        cells[item * 2 * width + width + j] = mu[j];
        let first = start[item * 2 * width + width + j];
        cells[item * 2 * width + j] =
            through_cells::<F>(mask, kept, scratch, z, first, item, j, steps, form);
        j += units;
    }
}

/// See `Primitives::recur_curvature` of a gated recurrent unit: the recurrence of the tangent.
#[cube(launch)]
pub fn gru_curvature<F: Float>(
    u: &Tensor<F>,
    mask: &Tensor<F>,
    kept: &Tensor<F>,
    gradients: &Tensor<F>,
    along_z: &Tensor<F>,
    along_products: &Tensor<F>,
    along_start: &Tensor<F>,
    z: &mut Tensor<F>,
    products: &mut Tensor<F>,
    before: &mut Tensor<F>,
    hidden: &mut Tensor<F>,
    sizes: Sizes,
    #[comptime] form: Form,
    #[define(F)] _dtype: StorageType,
) {
    let item = item();
    if item >= sizes.items as usize {
        terminate!();
    }
    let width = comptime!(form.width);
    let gates = comptime!(form.gates());
    let steps = sizes.steps as usize;
    let weight = item / (sizes.of_weight as usize) * (width + 1) * gates;
    let (unit, units) = (UNIT_POS_X as usize, CUBE_DIM_X as usize);
    let (one, two) = (F::new(1.0), F::new(2.0));
    let mut lambda = SharedMemory::<F>::new(width);
    let mut next = SharedMemory::<F>::new(width);

    let mut j = unit;
    while j < width {
        lambda[j] = F::new(0.0);
        if comptime!(form.start) {
            lambda[j] = along_start[item * width + j];
        }
        j += units;
    }
    sync_cube();
    for turn in 0..steps {
        let step = step_at(turn, steps, form);
        let row = (item * steps + step) * gates;
        let from = (item * steps + turn) * 5 * width;
        let counts = takes_part::<F>(mask, item * steps + step, form);
        let mut j = unit;
        while j < width {
            let mut vr = along_z[row + j] + along_products[row + j];
            let mut vs = along_z[row + width + j] + along_products[row + width + j];
            let vn = along_z[row + 2 * width + j];
            let mut vq = along_products[row + 2 * width + j];
            for k in 0..width {
                let at = weight + k * gates + j;
                vr += lambda[k] * u[at];
                vs += lambda[k] * u[at + width];
                vq += lambda[k] * u[at + 2 * width];
            }
            let r = kept[from + j];
            let s = kept[from + width + j];
            let n = kept[from + 2 * width + j];
            let q = kept[from + 3 * width + j];
            let h = kept[from + 4 * width + j];
            let d = gradients[(item * steps + turn) * width + j] * counts;
            let nu = lambda[j];
            let (sr, ss, sn) = (r * (one - r), s * (one - s), one - n * n);
            let proposed = d * (one - s) * sn;
            let whole = vn + vq * r + vr * q * sr;
            let tangent = whole * (one - s) * sn + vs * (h - n) * ss + nu * s;
            let along_n = F::new(0.0) - d * (two * n * whole * (one - s) + vs * ss) * sn;
            let along_r = (proposed * (vq + vr * q * (one - two * r)) + along_n * q) * sr;
            let along_s = d * (vs * (h - n) * (one - two * s) + nu - whole * sn) * ss;
            z[row + j] = along_r;
            z[row + width + j] = along_s;
            z[row + 2 * width + j] = along_n;
            products[row + j] = along_r;
            products[row + width + j] = along_s;
            products[row + 2 * width + j] = proposed * vr * sr + along_n * r;
            before[(item * steps + step) * width + j] = d * vs * ss;
            next[j] = counts * tangent + (one - counts) * nu;
            j += units;
        }
        let to = (item * steps + step) * width;
        advance::<F>(&next, &mut lambda, hidden, to, form);
    }
}
