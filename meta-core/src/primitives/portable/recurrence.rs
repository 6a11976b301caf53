//! Recurrences over the steps of sequences, their adjoint and its derivative, and the parts of them that
//! need no recurrence.

use burn::tensor::{Tensor, ops::FloatTensor};

use super::super::{
    Primitives, Recurrence, RecurrenceCurvature, RecurrenceGradient, RecurrenceInputs,
    RecurrenceRun, RecurrentCell, Shown, linear,
};
use crate::primitives::{primitive, tensor};

/// One vector of every item, `[t, b, c]`.
type OfStep<B> = Tensor<B, 3>;

/// One vector of every step of every item, `[t, b, l, c]`.
type OfSteps<B> = Tensor<B, 4>;

/// `σ(x) = ½ (1 + tanh(x / 2))`: Burn's own loses precision in f64.
fn sigmoid<B: Primitives, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    x.mul_scalar(0.5).tanh().add_scalar(1.0).mul_scalar(0.5)
}

/// `1 − x`.
fn rest<B: Primitives, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    x.neg().add_scalar(1.0)
}

/// The `slots` vectors of every item.
fn of_slots<B: Primitives>(form: &Recurrence, slots: usize, x: FloatTensor<B>) -> OfSteps<B> {
    let mut x = tensor::<B, 3>(x);
    let width = x.dims()[2];
    if width == 1 {
        // Burn 0.21 reshapes a strided tensor to a higher rank by its strides, and takes wrong ones where
        // the last axis is one wide (`split_strides`); to a lower rank it copies.
        let numbers = form.items * slots;
        x = x
            .reshape([form.tasks, numbers])
            .reshape([form.tasks, numbers, 1]);
    }
    x.reshape([form.tasks, form.items, slots, width])
}

fn of_steps<B: Primitives>(form: &Recurrence, x: FloatTensor<B>) -> OfSteps<B> {
    of_slots(form, form.steps, x)
}

/// The inverse of [`of_steps`].
fn flat<B: Primitives>(x: OfSteps<B>) -> FloatTensor<B> {
    let [t, b, l, c] = x.dims();
    primitive(x.reshape([t, b * l, c]))
}

/// The vectors of one slot.
fn at<B: Primitives>(x: &OfSteps<B>, slot: usize) -> OfStep<B> {
    let [t, b, _, c] = x.dims();
    x.clone().narrow(2, slot, 1).reshape([t, b, c])
}

/// Block `block` of the last axis, `width` wide.
fn block<B: Primitives, const D: usize>(
    x: &Tensor<B, D>,
    block: usize,
    width: usize,
) -> Tensor<B, D> {
    x.clone().narrow(D - 1, block * width, width)
}

/// Vectors computed turn by turn, as those of all steps.
fn stack<B: Primitives>(form: &Recurrence, mut turns: Vec<OfStep<B>>) -> OfSteps<B> {
    if form.reverse {
        turns.reverse();
    }
    Tensor::stack(turns, 2)
}

/// The weight without its row of biases.
fn weight<B: Primitives>(form: &Recurrence, u: &FloatTensor<B>) -> Tensor<B, 3> {
    let u = tensor::<B, 3>(u.clone());
    match form.cell {
        RecurrentCell::Lstm => u,
        RecurrentCell::Gru => u.narrow(1, 0, form.width),
    }
}

/// The transpose of the weight without its row of biases, `[1|t, gates·h, h]`.
pub fn transposed_weight<B: Primitives>(form: &Recurrence, u: &FloatTensor<B>) -> FloatTensor<B> {
    primitive(weight::<B>(form, u).swap_dims(1, 2))
}

/// `h U` of vectors of any layout, with the biases where the cell has some.
fn products<B: Primitives>(
    form: &Recurrence,
    u: &FloatTensor<B>,
    hidden: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let product = linear(hidden, weight::<B>(form, u));
    match form.cell {
        RecurrentCell::Lstm => product,
        RecurrentCell::Gru => product + tensor::<B, 3>(u.clone()).narrow(1, form.width, 1),
    }
}

/// `m x + (1 − m) y` by the mask of a step.
fn masked<B: Primitives>(mask: Option<OfStep<B>>, x: OfStep<B>, y: OfStep<B>) -> OfStep<B> {
    match mask {
        None => x,
        Some(mask) => x * mask.clone() + y * rest(mask),
    }
}

/// What stays of the gradient along the state before of a step that is masked: `(1 − m) y`.
fn passed<B: Primitives>(mask: Option<OfStep<B>>, x: OfStep<B>, y: OfStep<B>) -> OfStep<B> {
    match mask {
        None => x,
        Some(mask) => x + y * rest(mask),
    }
}

/// See [`Primitives::recur`].
pub fn recur<B: Primitives>(
    form: &Recurrence,
    inputs: RecurrenceInputs<FloatTensor<B>>,
) -> FloatTensor<B> {
    let width = form.width;
    let z = of_steps::<B>(form, inputs.z);
    let mask = inputs.mask.map(|mask| of_steps::<B>(form, mask));
    let start = tensor::<B, 3>(inputs.start);
    let mut hidden = block(&start, 0, width);
    let mut cell = (form.cell == RecurrentCell::Lstm).then(|| block(&start, 1, width));
    let mut turns = Vec::with_capacity(form.steps);
    for turn in 0..form.steps {
        let step = form.step_at(turn);
        let (z, p) = (at(&z, step), products(form, &inputs.u, hidden.clone()));
        let mask = mask.as_ref().map(|mask| at(mask, step));
        let next = match &mut cell {
            Some(cell) => {
                let sums = z + p;
                let gates = sigmoid(sums.clone().narrow(2, 0, 3 * width));
                let [i, f, o] = [0, 1, 2].map(|gate| block(&gates, gate, width));
                let next = f * cell.clone() + i * block(&sums, 3, width).tanh();
                *cell = masked(mask.clone(), next, cell.clone());
                o * cell.clone().tanh()
            }
            None => {
                let gates =
                    sigmoid(z.clone().narrow(2, 0, 2 * width) + p.clone().narrow(2, 0, 2 * width));
                let (r, s) = (block(&gates, 0, width), block(&gates, 1, width));
                let n = (block(&z, 2, width) + r * block(&p, 2, width)).tanh();
                n.clone() + s * (hidden.clone() - n)
            }
        };
        hidden = masked(mask, next, hidden);
        turns.push(hidden.clone());
    }
    match (form.shown, cell) {
        (Shown::Last, _) => primitive(hidden),
        (Shown::Trace, Some(cell)) => {
            let hidden = stack(form, turns);
            flat(Tensor::cat(vec![hidden, cell.unsqueeze_dim(2)], 2))
        }
        _ => flat(stack(form, turns)),
    }
}

/// The part of [`Recurrence::whole`]'s states that is shown.
pub fn shown<B: Primitives>(form: &Recurrence, states: FloatTensor<B>) -> FloatTensor<B> {
    match form.shown {
        Shown::Hidden | Shown::Trace => states,
        Shown::Last => {
            let states = of_steps::<B>(form, states);
            primitive(at(&states, form.step_at(form.steps - 1)))
        }
    }
}

/// The hidden states before the steps, `[t, b·l, h]`, from those after them (`[t, b·slots, h]`, also with
/// what follows them) and the state before the first one.
pub fn before<B: Primitives>(
    form: &Recurrence,
    states: FloatTensor<B>,
    start: FloatTensor<B>,
) -> Tensor<B, 3> {
    let [t, b, l, h] = [form.tasks, form.items, form.steps, form.width];
    let first = tensor::<B, 3>(start).narrow(2, 0, h);
    if l == 1 {
        return first;
    }
    let states = tensor::<B, 3>(states);
    let slots = states.dims()[1] / b;
    let states = states.reshape([t, b, slots, h]);
    let first = first.reshape([t, b, 1, h]);
    let parts = match form.reverse {
        false => vec![first, states.narrow(2, 0, l - 1)],
        true => vec![states.narrow(2, 1, l - 1), first],
    };
    Tensor::cat(parts, 2).reshape([t, b * l, h])
}

/// The adjoint of [`before`]: along the states of `slots` slots, and along the first hidden state,
/// `[t, b, h]`.
fn after<B: Primitives>(
    form: &Recurrence,
    slots: usize,
    along: Tensor<B, 3>,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let [t, b, l, h] = [form.tasks, form.items, form.steps, form.width];
    let along = along.reshape([t, b, l, h]);
    let first = at(&along, form.step_at(0));
    let zeros = |slots| Tensor::zeros([t, b, slots, h], (&along.device(), along.dtype()));
    let rest = |start| (l > 1).then(|| along.clone().narrow(2, start, l - 1));
    let more = |slots: usize| (slots > 0).then(|| zeros(slots));
    let parts = match form.reverse {
        false => [None, rest(1), more(slots + 1 - l)],
        true => [more(1), rest(0), more(slots - l)],
    };
    let parts = parts.into_iter().flatten().collect();
    (Tensor::cat(parts, 2).reshape([t, b * slots, h]), first)
}

/// The gradient along the weight from that along its products and the hidden states before the steps,
/// and, where it adds to the products with the weight, `biased`, that along the biases.
pub fn along_weight<B: Primitives>(
    form: &Recurrence,
    before: Tensor<B, 3>,
    products: FloatTensor<B>,
    biased: bool,
) -> FloatTensor<B> {
    use super::super::{LinearForm, LinearMap, Role, TrilinearForm};
    let outputs = form.gates_width();
    let product = TrilinearForm::Linear(LinearForm {
        tasks: form.tasks,
        weight_tasks: form.weight_tasks,
        items: form.items * form.steps,
        inputs: form.width,
        outputs,
    });
    let weight = B::contract(&product, Role::Weight, primitive(before), products.clone());
    if form.cell == RecurrentCell::Lstm {
        return weight;
    }
    let biases = if biased {
        let rows = LinearMap::BroadcastRows {
            tasks: form.tasks,
            source_tasks: form.weight_tasks,
            rows: form.items * form.steps,
            channels: outputs,
        };
        tensor::<B, 3>(B::map_adjoint(&rows, products))
    } else {
        let like = tensor::<B, 3>(products);
        Tensor::zeros(
            [form.weight_tasks, 1, outputs],
            (&like.device(), like.dtype()),
        )
    };
    primitive(Tensor::cat(vec![tensor(weight), biases], 1))
}

/// The gates of all steps after their activations, and the cells.
struct Lstm<B: Primitives> {
    i: OfSteps<B>,
    f: OfSteps<B>,
    o: OfSteps<B>,
    g: OfSteps<B>,
    /// The cells before the steps.
    c: OfSteps<B>,
    /// `tanh` of those after them.
    m: OfSteps<B>,
    mask: Option<OfSteps<B>>,
}

/// What multiplies the gradients of a step: `δi = d·i`, `δf = d·f`, `δg = d·g`, `δo = dh·o`, `d = dc +
/// dh·c`.
struct Factors<B: Primitives> {
    i: OfSteps<B>,
    f: OfSteps<B>,
    o: OfSteps<B>,
    g: OfSteps<B>,
    c: OfSteps<B>,
}

impl<B: Primitives> Lstm<B> {
    /// From the operands and the hidden states before the steps, all gates at once; the cells follow turn
    /// by turn.
    fn new(form: &Recurrence, run: &RecurrenceRun<FloatTensor<B>>) -> Self {
        let (width, inputs) = (form.width, &run.inputs);
        let before = before::<B>(form, run.states.clone(), inputs.start.clone());
        let sums = tensor::<B, 3>(inputs.z.clone()) + products(form, &inputs.u, before);
        let sums = of_steps::<B>(form, primitive(sums));
        let gates = sigmoid(sums.clone().narrow(3, 0, 3 * width));
        let [i, f, o] = [0, 1, 2].map(|gate| block(&gates, gate, width));
        let g = block(&sums, 3, width).tanh();
        let mask = inputs.mask.clone().map(|mask| of_steps::<B>(form, mask));
        let mut cell = block(&tensor::<B, 3>(inputs.start.clone()), 1, width);
        let added = i.clone() * g.clone();
        let (mut c, mut cells) = (Vec::new(), Vec::new());
        for turn in 0..form.steps {
            let step = form.step_at(turn);
            c.push(cell.clone());
            let next = at(&f, step) * cell.clone() + at(&added, step);
            cell = masked(mask.as_ref().map(|mask| at(mask, step)), next, cell);
            cells.push(cell.clone());
        }
        Lstm {
            i,
            f,
            o,
            g,
            c: stack(form, c),
            m: stack(form, cells).tanh(),
            mask,
        }
    }

    /// The derivatives of the activations of `i f o g` and of the cell's `tanh`.
    fn slopes(&self) -> [OfSteps<B>; 5] {
        let square = |x: &OfSteps<B>| rest(x.clone() * x.clone());
        let of_sigmoid = |x: &OfSteps<B>| x.clone() * rest(x.clone());
        [
            of_sigmoid(&self.i),
            of_sigmoid(&self.f),
            of_sigmoid(&self.o),
            square(&self.g),
            square(&self.m),
        ]
    }

    fn factors(&self) -> Factors<B> {
        let [si, sf, so, sg, sm] = self.slopes();
        let kept = |x: OfSteps<B>| match &self.mask {
            None => x,
            Some(mask) => x * mask.clone(),
        };
        Factors {
            i: kept(self.g.clone() * si),
            f: kept(self.c.clone() * sf),
            o: kept(self.m.clone() * so),
            g: kept(self.i.clone() * sg),
            c: kept(self.o.clone() * sm),
        }
    }

    fn mask_at(&self, step: usize) -> Option<OfStep<B>> {
        self.mask.as_ref().map(|mask| at(mask, step))
    }

    /// What passes from the gradient `d` along the cell to that along the cell before.
    fn forget(&self, step: usize, d: OfStep<B>) -> OfStep<B> {
        masked(self.mask_at(step), d.clone() * at(&self.f, step), d)
    }
}

/// The gradients along what the steps give, turn by turn backwards.
struct Backward<B: Primitives> {
    /// Along the sums of the gates.
    sums: OfSteps<B>,
    /// Along the products with the weight, where they differ.
    products: Option<OfSteps<B>>,
    /// Along the hidden state, all of it.
    dh: OfSteps<B>,
    /// Along the cell, all of it.
    d: Option<OfSteps<B>>,
    /// Along the state before the first step.
    start: OfStep<B>,
}

/// `g` at the slots of the hidden states, by turn, and along the last cell.
struct Given<B: Primitives> {
    g: OfSteps<B>,
}

impl<B: Primitives> Given<B> {
    fn new(form: &Recurrence, g: FloatTensor<B>) -> Self {
        Given {
            g: of_slots::<B>(form, form.slots(), g),
        }
    }

    fn hidden(&self, form: &Recurrence, turn: usize) -> Option<OfStep<B>> {
        match form.shown {
            Shown::Hidden | Shown::Trace => Some(at(&self.g, form.step_at(turn))),
            Shown::Last => (turn + 1 == form.steps).then(|| at(&self.g, 0)),
        }
    }

    fn cell(&self, form: &Recurrence) -> OfStep<B> {
        match form.shown {
            Shown::Trace => at(&self.g, form.steps),
            _ => at(&self.g, 0).zeros_like(),
        }
    }
}

fn plus<B: Primitives>(x: OfStep<B>, y: Option<OfStep<B>>) -> OfStep<B> {
    match y {
        None => x,
        Some(y) => x + y,
    }
}

fn lstm_backward<B: Primitives>(
    form: &Recurrence,
    of: &Lstm<B>,
    u: &FloatTensor<B>,
    given: &Given<B>,
) -> Backward<B> {
    let factors = of.factors();
    let transposed = weight::<B>(form, u).swap_dims(1, 2);
    let mut carried = given.cell(form).zeros_like();
    let mut dc = given.cell(form);
    let (mut sums, mut all_dh, mut all_d) = (Vec::new(), Vec::new(), Vec::new());
    for turn in (0..form.steps).rev() {
        let step = form.step_at(turn);
        let dh = plus(carried, given.hidden(form, turn));
        let d = dc + dh.clone() * at(&factors.c, step);
        let of_step = Tensor::cat(
            vec![
                d.clone() * at(&factors.i, step),
                d.clone() * at(&factors.f, step),
                dh.clone() * at(&factors.o, step),
                d.clone() * at(&factors.g, step),
            ],
            2,
        );
        let through = linear(of_step.clone(), transposed.clone());
        carried = passed(of.mask_at(step), through, dh.clone());
        dc = of.forget(step, d.clone());
        sums.push(of_step);
        all_dh.push(dh);
        all_d.push(d);
    }
    let in_order = |mut turns: Vec<OfStep<B>>| {
        turns.reverse();
        stack(form, turns)
    };
    Backward {
        sums: in_order(sums),
        products: None,
        dh: in_order(all_dh),
        d: Some(in_order(all_d)),
        start: Tensor::cat(vec![carried, dc], 2),
    }
}

/// The gates of all steps after their activations, and what they read.
struct Gru<B: Primitives> {
    r: OfSteps<B>,
    s: OfSteps<B>,
    n: OfSteps<B>,
    /// What the proposal reads of the state before.
    q: OfSteps<B>,
    /// The states before the steps.
    h: OfSteps<B>,
    mask: Option<OfSteps<B>>,
}

impl<B: Primitives> Gru<B> {
    fn new(form: &Recurrence, run: &RecurrenceRun<FloatTensor<B>>) -> Self {
        let (width, inputs) = (form.width, &run.inputs);
        let h = before::<B>(form, run.states.clone(), inputs.start.clone());
        let p = of_steps::<B>(form, primitive(products(form, &inputs.u, h.clone())));
        let z = of_steps::<B>(form, inputs.z.clone());
        let two = |x: &OfSteps<B>| x.clone().narrow(3, 0, 2 * width);
        let gates = sigmoid(two(&z) + two(&p));
        let (r, s) = (block(&gates, 0, width), block(&gates, 1, width));
        let q = block(&p, 2, width);
        Gru {
            n: (block(&z, 2, width) + r.clone() * q.clone()).tanh(),
            r,
            s,
            q,
            h: of_steps::<B>(form, primitive(h)),
            mask: inputs.mask.clone().map(|mask| of_steps::<B>(form, mask)),
        }
    }

    fn kept(&self, x: OfSteps<B>) -> OfSteps<B> {
        match &self.mask {
            None => x,
            Some(mask) => x * mask.clone(),
        }
    }

    /// `(1 − s)(1 − n²)`, `q r (1 − r)` and `(h − n) s (1 − s)`: what makes `δn` of `dh`, `δr` of `δn`
    /// and `δs` of `dh`.
    fn factors(&self) -> [OfSteps<B>; 3] {
        let (r, s, n) = (self.r.clone(), self.s.clone(), self.n.clone());
        [
            self.kept(rest(s.clone()) * rest(n.clone() * n.clone())),
            self.q.clone() * r.clone() * rest(r),
            self.kept((self.h.clone() - n) * s.clone() * rest(s)),
        ]
    }

    fn mask_at(&self, step: usize) -> Option<OfStep<B>> {
        self.mask.as_ref().map(|mask| at(mask, step))
    }
}

fn gru_backward<B: Primitives>(
    form: &Recurrence,
    of: &Gru<B>,
    u: &FloatTensor<B>,
    given: &Given<B>,
) -> Backward<B> {
    let [proposed, reset, update] = of.factors();
    let transposed = weight::<B>(form, u).swap_dims(1, 2);
    let mut carried = at(&given.g, 0).zeros_like();
    let (mut sums, mut products, mut all_dh) = (Vec::new(), Vec::new(), Vec::new());
    for turn in (0..form.steps).rev() {
        let step = form.step_at(turn);
        let dh = plus(carried, given.hidden(form, turn));
        let dn = dh.clone() * at(&proposed, step);
        let dr = dn.clone() * at(&reset, step);
        let ds = dh.clone() * at(&update, step);
        let dq = dn.clone() * at(&of.r, step);
        let of_products = Tensor::cat(vec![dr.clone(), ds.clone(), dq], 2);
        let through = linear(of_products.clone(), transposed.clone());
        let direct = masked(of.mask_at(step), dh.clone() * at(&of.s, step), dh.clone());
        carried = direct + through;
        sums.push(Tensor::cat(vec![dr, ds, dn], 2));
        products.push(of_products);
        all_dh.push(dh);
    }
    let in_order = |mut turns: Vec<OfStep<B>>| {
        turns.reverse();
        stack(form, turns)
    };
    Backward {
        sums: in_order(sums),
        products: Some(in_order(products)),
        dh: in_order(all_dh),
        d: None,
        start: carried,
    }
}

/// See [`Primitives::recur_adjoint`].
pub fn recur_adjoint<B: Primitives>(
    form: &Recurrence,
    run: RecurrenceRun<FloatTensor<B>>,
    g: FloatTensor<B>,
    along_start: bool,
) -> RecurrenceGradient<FloatTensor<B>> {
    let (given, u) = (Given::<B>::new(form, g), &run.inputs.u);
    let found = match form.cell {
        RecurrentCell::Lstm => lstm_backward(form, &Lstm::new(form, &run), u, &given),
        RecurrentCell::Gru => gru_backward(form, &Gru::new(form, &run), u, &given),
    };
    RecurrenceGradient {
        z: flat(found.sums),
        products: found.products.map(flat),
        start: along_start.then(|| primitive(found.start)),
        kept: None,
    }
}

/// See [`Primitives::recur_curvature`]: the recurrence of the tangent, then everything else at once.
pub fn recur_curvature<B: Primitives>(
    form: &Recurrence,
    run: RecurrenceRun<FloatTensor<B>>,
    g: FloatTensor<B>,
    direction: RecurrenceGradient<FloatTensor<B>>,
) -> RecurrenceCurvature<FloatTensor<B>> {
    let given = Given::<B>::new(form, g);
    match form.cell {
        RecurrentCell::Lstm => lstm_curvature(form, &run, &given, direction),
        RecurrentCell::Gru => gru_curvature(form, &run, &given, direction),
    }
}

/// The direction along the state before the first step, zeros where there is none.
fn first_direction<B: Primitives>(
    form: &Recurrence,
    direction: &RecurrenceGradient<FloatTensor<B>>,
    like: &OfSteps<B>,
) -> Tensor<B, 3> {
    match &direction.start {
        Some(start) => tensor(start.clone()),
        None => {
            let shape = [form.tasks, form.items, form.state_width()];
            Tensor::zeros(shape, (&like.device(), like.dtype()))
        }
    }
}

fn lstm_curvature<B: Primitives>(
    form: &Recurrence,
    run: &RecurrenceRun<FloatTensor<B>>,
    given: &Given<B>,
    direction: RecurrenceGradient<FloatTensor<B>>,
) -> RecurrenceCurvature<FloatTensor<B>> {
    let (of, width) = (Lstm::new(form, run), form.width);
    let backward = lstm_backward(form, &of, &run.inputs.u, given);
    let (dh, d) = (backward.dh, backward.d.expect("of an LSTM"));
    let factors = of.factors();
    let first = first_direction(form, &direction, &given.g);
    let along = of_steps::<B>(form, direction.z);
    let u = weight::<B>(form, &run.inputs.u);
    let (mut hidden, mut cell) = (block(&first, 0, width), block(&first, 1, width));
    let (mut ws, mut nus, mut mus, mut lambdas) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for turn in 0..form.steps {
        let step = form.step_at(turn);
        let w = at(&along, step) + linear(hidden.clone(), u.clone());
        let [wi, wf, wo, wg] = [0, 1, 2, 3].map(|gate| block(&w, gate, width));
        let mu = wi * at(&factors.i, step)
            + wf * at(&factors.f, step)
            + wg * at(&factors.g, step)
            + of.forget(step, cell.clone());
        let shown = wo * at(&factors.o, step) + mu.clone() * at(&factors.c, step);
        hidden = passed(of.mask_at(step), shown, hidden);
        nus.push(cell);
        cell = mu.clone();
        mus.push(mu);
        ws.push(w);
        lambdas.push(hidden.clone());
    }
    let [w, nu, mu] = [ws, nus, mus].map(|turns| stack(form, turns));
    let [vi, vf, vo, vg] = [0, 1, 2, 3].map(|gate| block(&w, gate, width));
    let [si, sf, so, sg, sm] = of.slopes();
    let twice = |x: &OfSteps<B>| rest(x.clone().mul_scalar(2.0));
    let (i, f, o, g, c, m) = (&of.i, &of.f, &of.o, &of.g, &of.c, &of.m);
    let kept = |x: OfSteps<B>| match &of.mask {
        None => x,
        Some(mask) => x * mask.clone(),
    };
    let (dh, d) = (kept(dh), kept(d));
    let along_i =
        d.clone() * (vi.clone() * g.clone() * twice(i) + vg.clone() * sg.clone()) * si.clone();
    let along_f = d.clone() * (vf.clone() * c.clone() * twice(f) + nu) * sf.clone();
    let along_g = d.clone() * (vi * si - (vg * i.clone() * g.clone()).mul_scalar(2.0)) * sg;
    let along_o =
        dh.clone() * (vo.clone() * m.clone() * twice(o) + mu.clone() * sm.clone()) * so.clone();
    let along_after = dh * (vo * so - (mu * o.clone() * m.clone()).mul_scalar(2.0)) * sm;
    let along_before = d * vf * sf;
    // Through the cells, backwards.
    let mut carried = cell.zeros_like();
    let mut through = Vec::new();
    for turn in (0..form.steps).rev() {
        let step = form.step_at(turn);
        let e = at(&along_after, step) + carried;
        carried = at(&along_before, step) + of.forget(step, e.clone());
        through.push(e);
    }
    through.reverse();
    let e = stack(form, through);
    let z = Tensor::cat(
        vec![
            along_i + e.clone() * factors.i,
            along_f + e.clone() * factors.f,
            along_o,
            along_g + e * factors.g,
        ],
        3,
    );
    RecurrenceCurvature {
        z: flat(z),
        products: None,
        before: None,
        hidden: flat(stack(form, lambdas)),
        cells: Some(primitive(Tensor::cat(vec![carried, cell], 2))),
    }
}

fn gru_curvature<B: Primitives>(
    form: &Recurrence,
    run: &RecurrenceRun<FloatTensor<B>>,
    given: &Given<B>,
    direction: RecurrenceGradient<FloatTensor<B>>,
) -> RecurrenceCurvature<FloatTensor<B>> {
    let (of, width) = (Gru::new(form, run), form.width);
    let dh = gru_backward(form, &of, &run.inputs.u, given).dh;
    let [proposed, reset, update] = of.factors();
    let along = of_steps::<B>(form, direction.z.clone());
    let of_products = match &direction.products {
        Some(products) => of_steps::<B>(form, products.clone()),
        None => along.zeros_like(),
    };
    let u = weight::<B>(form, &run.inputs.u);
    let mut hidden = first_direction(form, &direction, &given.g);
    let (mut ws, mut wholes, mut nus, mut lambdas) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for turn in 0..form.steps {
        let step = form.step_at(turn);
        let v = at(&along, step);
        let y = at(&of_products, step) + linear(hidden.clone(), u.clone());
        let w = v.clone().narrow(2, 0, 2 * width) + y.clone().narrow(2, 0, 2 * width);
        let (wr, ws_, wq) = (
            block(&w, 0, width),
            block(&w, 1, width),
            block(&y, 2, width),
        );
        let whole = block(&v, 2, width) + wq.clone() * at(&of.r, step) + wr * at(&reset, step);
        let next = whole.clone() * at(&proposed, step)
            + ws_ * at(&update, step)
            + masked(
                of.mask_at(step),
                hidden.clone() * at(&of.s, step),
                hidden.clone(),
            );
        nus.push(hidden);
        hidden = next;
        lambdas.push(hidden.clone());
        ws.push(Tensor::cat(vec![w, wq], 2));
        wholes.push(whole);
    }
    let [w, whole, nu] = [ws, wholes, nus].map(|turns| stack(form, turns));
    let [wr, ws, wq] = [0, 1, 2].map(|gate| block(&w, gate, width));
    let (r, s, n, q, h) = (&of.r, &of.s, &of.n, &of.q, &of.h);
    let slope = |x: &OfSteps<B>| x.clone() * rest(x.clone());
    let (sr, ss, sn) = (slope(r), slope(s), rest(n.clone() * n.clone()));
    let twice = |x: &OfSteps<B>| rest(x.clone().mul_scalar(2.0));
    let dn = dh.clone() * proposed;
    let dh = of.kept(dh);
    let along_n = dh.clone().neg()
        * (n.clone().mul_scalar(2.0) * whole.clone() * rest(s.clone()) + ws.clone() * ss.clone())
        * sn.clone();
    let along_r = (dn.clone() * (wq + wr.clone() * q.clone() * twice(r))
        + along_n.clone() * q.clone())
        * sr.clone();
    let along_q = dn * wr * sr + along_n.clone() * r.clone();
    let along_s = dh.clone()
        * (ws.clone() * (h.clone() - n.clone()) * twice(s) + nu - whole * sn)
        * ss.clone();
    RecurrenceCurvature {
        z: flat(Tensor::cat(
            vec![along_r.clone(), along_s.clone(), along_n],
            3,
        )),
        products: Some(flat(Tensor::cat(vec![along_r, along_s, along_q], 3))),
        before: Some(flat(dh * ws * ss)),
        hidden: flat(stack(form, lambdas)),
        cells: None,
    }
}

/// All derivatives of `⟨direction, gradient⟩` along the operands of the adjoint.
pub struct AdjointDerivatives<F> {
    /// Along `z`.
    pub z: F,
    /// Along the weight.
    pub u: F,
    /// Along the state before the first step.
    pub start: F,
    /// Along the states of [`Recurrence::whole`].
    pub states: F,
    /// Along `g`.
    pub g: F,
}

/// The derivatives of `⟨direction, gradient⟩` along every operand, from [`Primitives::recur_curvature`].
pub fn adjoint_derivatives<B: Primitives>(
    form: &Recurrence,
    run: &RecurrenceRun<FloatTensor<B>>,
    gradient: &RecurrenceGradient<FloatTensor<B>>,
    direction: &RecurrenceGradient<FloatTensor<B>>,
    curvature: RecurrenceCurvature<FloatTensor<B>>,
) -> AdjointDerivatives<FloatTensor<B>> {
    let like = tensor::<B, 3>(curvature.hidden.clone());
    let first = match &direction.start {
        Some(start) => start.clone(),
        None => {
            let shape = [form.tasks, form.items, form.state_width()];
            primitive(Tensor::<B, 3>::zeros(shape, (&like.device(), like.dtype())))
        }
    };
    let products = curvature.products.unwrap_or_else(|| curvature.z.clone());
    let states = before::<B>(form, run.states.clone(), run.inputs.start.clone());
    let tangents = before::<B>(form, curvature.hidden.clone(), first);
    let u = B::float_add(
        along_weight(form, states, products.clone(), true),
        along_weight(form, tangents, gradient.of_products(), false),
    );
    let transposed = weight::<B>(form, &run.inputs.u).swap_dims(1, 2);
    let mut along_before = linear(tensor::<B, 3>(products), transposed);
    if let Some(direct) = curvature.before {
        along_before = along_before + tensor::<B, 3>(direct);
    }
    let slots = form.whole().slots();
    let (along_states, along_first) = after(form, slots, along_before);
    let [first_cell, last_cell] = match curvature.cells {
        None => [None, None],
        Some(cells) => {
            let cells = tensor::<B, 3>(cells);
            [0, 1].map(|cell| Some(block(&cells, cell, form.width)))
        }
    };
    let start = match first_cell {
        None => along_first,
        Some(cell) => Tensor::cat(vec![along_first, cell], 2),
    };
    let hidden = curvature.hidden;
    let g = match (form.shown, last_cell) {
        (Shown::Trace, Some(cell)) => flat(Tensor::cat(
            vec![of_steps::<B>(form, hidden), cell.unsqueeze_dim(2)],
            2,
        )),
        _ => shown::<B>(form, hidden),
    };
    AdjointDerivatives {
        z: curvature.z,
        u,
        start: primitive(start),
        states: primitive(along_states),
        g,
    }
}
