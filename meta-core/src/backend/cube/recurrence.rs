//! Recurrences on the backends of CubeCL: a whole sequence in one launch, where the portable compositions
//! take some tens of them for every step.

#[expect(
    clippy::collapsible_if,
    reason = "the outer condition is one of what is compiled, the inner one of what runs"
)]
mod kernels;

use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::{CubeRuntime, cubecl, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

use self::kernels::{Form, SizesLaunch};
use super::launch::{empty, groups, small};
use crate::primitives::{
    Recurrence, RecurrenceCurvature, RecurrenceGradient, RecurrenceInputs, RecurrenceRun,
    RecurrentCell, Shown,
};

/// Widest state whose vectors fit the memory of a group of threads on every device.
const WIDEST: usize = 512;

/// Threads of a group, at most.
const MOST_UNITS: u32 = 256;

/// Whether the kernels compute this form in this format; the others are left to the compositions.
pub fn computes(form: &Recurrence, dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64) && form.width <= WIDEST
}

/// What every launch is told.
struct Launch<R: CubeRuntime> {
    like: CubeTensor<R>,
    form: Form,
    items: u32,
    of_weight: u32,
    steps: u32,
    slots: u32,
}

impl<R: CubeRuntime> Launch<R> {
    fn new(form: &Recurrence, weight_tasks: usize, masked: bool, like: &CubeTensor<R>) -> Self {
        let gru = form.cell == RecurrentCell::Gru;
        let items = form.tasks * form.items;
        Launch {
            like: like.clone(),
            form: Form {
                gru,
                width: form.width,
                masked,
                reverse: form.reverse,
                all: form.shown != Shown::Last,
                cell: form.shown == Shown::Trace && !gru,
                keep: false,
                start: false,
            },
            items: small(items),
            of_weight: small(items / weight_tasks),
            steps: small(form.steps),
            slots: small(form.slots()),
        }
    }

    /// A new tensor of this shape; of one number where it is not wanted.
    fn empty(&self, wanted: bool, shape: [usize; 3]) -> CubeTensor<R> {
        let shape = if wanted { shape } else { [1, 1, 1] };
        empty(&self.like, shape, self.like.dtype)
    }

    /// An operand that may be absent.
    fn some(&self, operand: Option<CubeTensor<R>>) -> CubeTensor<R> {
        match operand {
            Some(operand) => into_contiguous(operand),
            None => self.empty(false, [0; 3]),
        }
    }

    fn units(&self) -> CubeDim {
        let most = self.like.client.properties().hardware.max_cube_dim.0;
        let width = u32::try_from(self.form.width).unwrap_or(MOST_UNITS);
        CubeDim::new_1d(width.min(most).min(MOST_UNITS))
    }

    fn sizes(&self) -> SizesLaunch<R> {
        SizesLaunch::new(self.items, self.of_weight, self.steps, self.slots)
    }
}

/// See [`crate::primitives::Primitives::recur`].
pub fn recur<R: CubeRuntime>(
    form: &Recurrence,
    inputs: RecurrenceInputs<CubeTensor<R>>,
    keep: bool,
) -> (CubeTensor<R>, Option<CubeTensor<R>>) {
    let [z, u, start] = [inputs.z, inputs.u, inputs.start].map(into_contiguous);
    let masked = inputs.mask.is_some();
    let mut launch = Launch::new(form, u.shape()[0], masked, &z);
    launch.form.keep = keep;
    let mask = launch.some(inputs.mask);
    let shown = launch.empty(true, [form.tasks, form.items * form.slots(), form.width]);
    let of_steps = [form.tasks, form.items * form.steps, 5 * form.width];
    let kept = launch.empty(keep, of_steps);
    let dtype = z.dtype;
    kernels::recur::launch::<R>(
        &launch.like.client,
        groups(launch.items as usize),
        launch.units(),
        z.into_tensor_arg(),
        u.into_tensor_arg(),
        start.into_tensor_arg(),
        mask.into_tensor_arg(),
        shown.clone().into_tensor_arg(),
        kept.clone().into_tensor_arg(),
        launch.sizes(),
        launch.form,
        dtype.into(),
    );
    (shown, keep.then_some(kept))
}

/// See [`crate::primitives::Primitives::recur_adjoint`]; `transposed` is the weight without biases,
/// `[tw, gates, h]`.
pub fn recur_adjoint<R: CubeRuntime>(
    form: &Recurrence,
    run: RecurrenceRun<CubeTensor<R>>,
    transposed: CubeTensor<R>,
    g: CubeTensor<R>,
    along_start: bool,
    keep: bool,
) -> RecurrenceGradient<CubeTensor<R>> {
    let kept = run.kept.expect("kept by the forward pass of this backend");
    let [transposed, start, kept, g] = [transposed, run.inputs.start, kept, g].map(into_contiguous);
    let masked = run.inputs.mask.is_some();
    let mut launch = Launch::new(form, transposed.shape()[0], masked, &g);
    (launch.form.keep, launch.form.start) = (keep, along_start);
    let gru = launch.form.gru;
    let mask = launch.some(run.inputs.mask);
    let of_steps = |width| [form.tasks, form.items * form.steps, width];
    let z = launch.empty(true, of_steps(form.gates_width()));
    let products = launch.empty(gru, of_steps(form.gates_width()));
    let of_start = launch.empty(along_start, [form.tasks, form.items, form.state_width()]);
    let gradients = launch.empty(keep, of_steps(form.state_width()));
    let dtype = g.dtype;
    kernels::adjoint::launch::<R>(
        &launch.like.client,
        groups(launch.items as usize),
        launch.units(),
        transposed.into_tensor_arg(),
        start.into_tensor_arg(),
        mask.into_tensor_arg(),
        kept.into_tensor_arg(),
        g.into_tensor_arg(),
        z.clone().into_tensor_arg(),
        products.clone().into_tensor_arg(),
        of_start.clone().into_tensor_arg(),
        gradients.clone().into_tensor_arg(),
        launch.sizes(),
        launch.form,
        dtype.into(),
    );
    RecurrenceGradient {
        z,
        products: gru.then_some(products),
        start: along_start.then_some(of_start),
        kept: keep.then_some(gradients),
    }
}

/// See [`crate::primitives::Primitives::recur_curvature`].
pub fn recur_curvature<R: CubeRuntime>(
    form: &Recurrence,
    run: RecurrenceRun<CubeTensor<R>>,
    gradient: RecurrenceGradient<CubeTensor<R>>,
    direction: RecurrenceGradient<CubeTensor<R>>,
) -> RecurrenceCurvature<CubeTensor<R>> {
    let kept = run.kept.expect("kept by the forward pass of this backend");
    let gradients = gradient.kept.expect("kept by the adjoint of this backend");
    let [u, start, kept, gradients, along_z] =
        [run.inputs.u, run.inputs.start, kept, gradients, direction.z].map(into_contiguous);
    let masked = run.inputs.mask.is_some();
    let mut launch = Launch::new(form, u.shape()[0], masked, &along_z);
    launch.form.start = direction.start.is_some();
    let mask = launch.some(run.inputs.mask);
    let along_start = launch.some(direction.start);
    let of_steps = |width| [form.tasks, form.items * form.steps, width];
    let z = launch.empty(true, of_steps(form.gates_width()));
    let hidden = launch.empty(true, of_steps(form.width));
    let dtype = z.dtype;
    let (client, groups, units) = (
        launch.like.client.clone(),
        groups(launch.items as usize),
        launch.units(),
    );
    if !launch.form.gru {
        let cells = launch.empty(true, [form.tasks, form.items, 2 * form.width]);
        let scratch = launch.empty(true, of_steps(2 * form.width));
        kernels::lstm_curvature::launch::<R>(
            &client,
            groups,
            units,
            u.into_tensor_arg(),
            start.into_tensor_arg(),
            mask.into_tensor_arg(),
            kept.into_tensor_arg(),
            gradients.into_tensor_arg(),
            along_z.into_tensor_arg(),
            along_start.into_tensor_arg(),
            z.clone().into_tensor_arg(),
            hidden.clone().into_tensor_arg(),
            cells.clone().into_tensor_arg(),
            scratch.into_tensor_arg(),
            launch.sizes(),
            launch.form,
            dtype.into(),
        );
        return RecurrenceCurvature {
            z,
            products: None,
            before: None,
            hidden,
            cells: Some(cells),
        };
    }
    let along_products = into_contiguous(direction.products.expect("of a gated unit"));
    let products = launch.empty(true, of_steps(form.gates_width()));
    let before = launch.empty(true, of_steps(form.width));
    kernels::gru_curvature::launch::<R>(
        &client,
        groups,
        units,
        u.into_tensor_arg(),
        mask.into_tensor_arg(),
        kept.into_tensor_arg(),
        gradients.into_tensor_arg(),
        along_z.into_tensor_arg(),
        along_products.into_tensor_arg(),
        along_start.into_tensor_arg(),
        z.clone().into_tensor_arg(),
        products.clone().into_tensor_arg(),
        before.clone().into_tensor_arg(),
        hidden.clone().into_tensor_arg(),
        launch.sizes(),
        launch.form,
        dtype.into(),
    );
    RecurrenceCurvature {
        z,
        products: Some(products),
        before: Some(before),
        hidden,
        cells: None,
    }
}
