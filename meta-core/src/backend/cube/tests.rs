//! Kernels against the portable compositions in `f64` on a CPU, at sizes where sums are cut.

use burn::tensor::{
    DType, Int, Tensor, TensorData, TensorMetadata, TensorPrimitive,
    backend::Backend,
    ops::{FloatTensor, FloatTensorOps, IntTensor},
};

use crate::{
    backend::Cpu,
    primitives::{
        Conv2dForm, LinearForm, LinearMap, PairsForm, Pooling, Primitives, Role, ScaleForm,
        TrilinearForm, Winners, portable,
    },
};

type Gpu = burn_wgpu::Wgpu<f32, i32>;

/// Rounding of sums of some thousand numbers of single precision, relative to the largest result.
const TOLERANCE: f64 = 2e-5;

/// Numbers without a pattern, on a backend.
fn numbers<B: Backend>(shape: &[usize], seed: u64, dtype: DType) -> FloatTensor<B> {
    let mut state = seed;
    // SplitMix64 (Steele, Lea and Flood, 2014), to [−1, 1) with the digits of single precision.
    let mut number = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 41) as f64 / 4_194_304.0 - 1.0
    };
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| number()).collect();
    let data = TensorData::new(values, shape.to_vec()).convert_dtype(dtype);
    B::float_from_data(data, &B::Device::default())
}

fn both(shape: &[usize], seed: u64) -> (FloatTensor<Gpu>, FloatTensor<Cpu>) {
    (
        numbers::<Gpu>(shape, seed, DType::F32),
        numbers::<Cpu>(shape, seed, DType::F64),
    )
}

fn values<B: Backend>(tensor: FloatTensor<B>) -> Vec<f64> {
    let count = tensor.shape().num_elements();
    let flat = B::float_reshape(tensor, [count].into());
    let flat = Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(flat));
    flat.into_data().iter::<f64>().collect()
}

fn whole<B: Backend>(tensor: IntTensor<B>) -> Vec<i64> {
    let count = tensor.shape().num_elements();
    let flat = Tensor::<B, 1, Int>::from_primitive(B::int_reshape(tensor, [count].into()));
    flat.into_data().iter::<i64>().collect()
}

fn assert_near(what: &str, found: FloatTensor<Gpu>, expected: FloatTensor<Cpu>) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let (found, expected) = (values::<Gpu>(found), values::<Cpu>(expected));
    let largest = expected.iter().fold(1e-6f64, |most, v| most.max(v.abs()));
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let off = (found - expected).abs() / largest;
        assert!(off < TOLERANCE, "{what} [{at}]: {found}, {expected}");
    }
}

/// All roles of a form.
fn check_form(what: &str, form: TrilinearForm) {
    for wanted in [Role::Output, Role::Input, Role::Weight] {
        let (first, second) = wanted.others();
        let (a, x) = both(&form.shape(first), 1);
        let (b, y) = both(&form.shape(second), 2);
        let found = Gpu::contract(&form, wanted, a, b);
        let expected = portable::contract::<Cpu>(&form, wanted, x, y);
        assert_near(&format!("{what}, {wanted:?}"), found, expected);
    }
    check_copies(what, form);
}

/// A weight that the tasks share, repeated without a copy.
fn check_copies(what: &str, form: TrilinearForm) {
    if matches!(form, TrilinearForm::Pairs(_)) {
        return;
    }
    let shape = form.shape(Role::Weight);
    let mut of_one = shape.clone();
    of_one[0] = 1;
    let (a, x) = both(&of_one, 3);
    let (a, x) = (
        Gpu::float_expand(a, shape.clone().into()),
        Cpu::float_expand(x, shape.into()),
    );
    for wanted in [Role::Output, Role::Input] {
        let other = match wanted {
            Role::Output => Role::Input,
            _ => Role::Output,
        };
        let (b, y) = both(&form.shape(other), 4);
        let (found, expected) = match wanted {
            Role::Output => (
                Gpu::contract(&form, wanted, b, a.clone()),
                portable::contract::<Cpu>(&form, wanted, y, x.clone()),
            ),
            _ => (
                Gpu::contract(&form, wanted, a.clone(), b),
                portable::contract::<Cpu>(&form, wanted, x.clone(), y),
            ),
        };
        assert_near(&format!("{what}, copies, {wanted:?}"), found, expected);
    }
}

#[test]
fn products_are_those_of_the_compositions() {
    for (tasks, weight_tasks, items, inputs, outputs) in [
        (2, 2, 3, 5, 4),
        (3, 1, 70, 65, 130),
        (2, 2, 1500, 33, 17),
        (1, 1, 4100, 3, 1),
    ] {
        let form = LinearForm {
            tasks,
            weight_tasks,
            items,
            inputs,
            outputs,
        };
        check_form(&format!("{form:?}"), TrilinearForm::Linear(form));
    }
    let form = PairsForm {
        tasks: 2,
        sequences: 6,
        heads: 3,
        queries: 19,
        keys: 70,
        width: 5,
    };
    check_form("pairs", TrilinearForm::Pairs(form));
    for weight_tasks in [1, 2] {
        let form = ScaleForm {
            tasks: 2,
            weight_tasks,
            rows: 700,
            channels: 35,
        };
        check_form("scale", TrilinearForm::Scale(form));
    }
}

#[test]
fn convolutions_are_those_of_the_compositions() {
    for (kernel, stride, padding) in [(3, 1, 1), (3, 2, 1), (1, 1, 0), (1, 2, 0), (5, 2, 0)] {
        for weight_tasks in [1, 2] {
            let form = Conv2dForm {
                tasks: 2,
                weight_tasks,
                items: 5,
                height: 12,
                width: 9,
                in_channels: 3,
                out_channels: 18,
                kernel,
                stride,
                padding,
            };
            check_form(&format!("{form:?}"), TrilinearForm::Conv2d(form));
        }
    }
}

#[test]
fn standardisations_are_those_of_the_compositions() {
    // The second has chunks of different lengths; the third is constant along some channels.
    for (shape, far) in [
        ([2, 7, 5], 0.0),
        ([2, 1500, 35], 100.0),
        ([1, 20_000, 64], 0.0),
    ] {
        let (x, x64) = both(&shape, 1);
        let (g, g64) = both(&shape, 2);
        let (u, u64) = both(&shape, 3);
        let (x, x64) = (
            Gpu::float_add_scalar(x, far.into()),
            Cpu::float_add_scalar(x64, far.into()),
        );
        let e = 1e-3;
        let what = format!("{shape:?}");
        // A mean of 100 leaves two digits fewer, in the data themselves.
        let (x, g, u) = (|| x.clone(), || g.clone(), || u.clone());
        let (y, h, v) = (|| x64.clone(), || g64.clone(), || u64.clone());
        if far == 0.0 {
            assert_near(
                &what,
                Gpu::standardize(x(), e),
                portable::standardize::<Cpu>(y(), e),
            );
            assert_near(
                &what,
                Gpu::standardize_adjoint(x(), g(), e),
                portable::standardize_adjoint::<Cpu>(y(), h(), e),
            );
            assert_near(
                &what,
                Gpu::standardize_curvature(x(), g(), u(), e),
                portable::standardize_curvature::<Cpu>(y(), h(), v(), e),
            );
        } else {
            let found = values::<Gpu>(Gpu::standardize(x(), e));
            let expected = values::<Cpu>(portable::standardize::<Cpu>(y(), e));
            let off = |(a, b): (&f64, &f64)| (a - b).abs();
            let off = found.iter().zip(&expected).map(off).fold(0.0, f64::max);
            assert!(off < 1e-4, "{what}: {off}");
        }
        let map = LinearMap::BroadcastRows {
            tasks: shape[0],
            source_tasks: 1,
            rows: shape[1],
            channels: shape[2],
        };
        let map64 = LinearMap::BroadcastRows {
            tasks: shape[0],
            source_tasks: 1,
            rows: shape[1],
            channels: shape[2],
        };
        assert_near(
            &what,
            Gpu::map_adjoint(&map, g()),
            portable::map_adjoint::<Cpu>(&map64, h()),
        );
    }
}

#[test]
fn functions_along_channels_are_those_of_the_compositions() {
    for shape in [[2, 3, 5], [1, 9, 130], [7, 1, 64]] {
        let (x, x64) = both(&shape, 1);
        let (g, g64) = both(&shape, 2);
        let (u, u64) = both(&shape, 3);
        let (e, what) = (1e-3, format!("{shape:?}"));
        assert_near(
            &what,
            Gpu::layer_standardize(x.clone(), e),
            portable::layer_standardize::<Cpu>(x64.clone(), e),
        );
        assert_near(
            &what,
            Gpu::layer_standardize_adjoint(x.clone(), g.clone(), e),
            portable::layer_standardize_adjoint::<Cpu>(x64.clone(), g64.clone(), e),
        );
        assert_near(
            &what,
            Gpu::layer_standardize_curvature(x, g, u, e),
            portable::layer_standardize_curvature::<Cpu>(x64, g64, u64, e),
        );
    }
    for shape in [[2, 3, 5, 7], [1, 1, 3, 200]] {
        let (x, x64) = both(&shape, 1);
        let (g, g64) = both(&shape, 2);
        let (u, u64) = both(&shape, 3);
        let (f, what) = (1.7, format!("{shape:?}"));
        assert_near(
            &what,
            Gpu::scaled_softmax(x.clone(), f),
            portable::scaled_softmax::<Cpu>(x64.clone(), f),
        );
        assert_near(
            &what,
            Gpu::scaled_softmax_adjoint(x.clone(), g.clone(), f),
            portable::scaled_softmax_adjoint::<Cpu>(x64.clone(), g64.clone(), f),
        );
        assert_near(
            &what,
            Gpu::scaled_softmax_curvature(x, g, u, f),
            portable::scaled_softmax_curvature::<Cpu>(x64, g64, u64, f),
        );
    }
    let nothing = Gpu::float_full(
        [1, 1, 2, 3].into(),
        f32::NEG_INFINITY.into(),
        &Default::default(),
        burn::tensor::FloatDType::F32,
    );
    assert_eq!(values::<Gpu>(Gpu::scaled_softmax(nothing, 2.0)), [0.0; 6]);
}

#[test]
fn pooled_standardisations_are_those_of_the_compositions() {
    // The last row and column of an odd size are in no window.
    for (height, width, items) in [(4, 6, 4), (7, 7, 40)] {
        let pooling = Pooling {
            items,
            height,
            width,
            channels: 35,
            size: 2,
        };
        let (tasks, e) = (2, 1e-3);
        let full = [tasks, items / tasks, height, width, 35];
        let pooled = [tasks, items / tasks, height / 2, width / 2, 35];
        let (x, x64) = both(&full, 1);
        let (u, u64) = both(&full, 2);
        let (h, h64) = both(&pooled, 3);
        for directions in [1, tasks] {
            let (direction, direction64) = both(&[directions, 1, 35], 4);
            let (p, winners) = Gpu::standardize_pool(&pooling, x.clone(), direction, e);
            let (p64, winners64) =
                portable::standardize_pool::<Cpu>(&pooling, x64.clone(), direction64, e);
            assert_near("pooled", p.clone(), p64);
            let index = whole::<Gpu>(winners.index.clone());
            assert_eq!(index, whole::<Cpu>(winners64.index.clone()));
            check_derivatives((&winners, &winners64), [&x, &u], [&x64, &u64], p, &h, &h64);
        }
    }
}

fn check_derivatives(
    winners: (&Winners<IntTensor<Gpu>>, &Winners<IntTensor<Cpu>>),
    [x, u]: [&FloatTensor<Gpu>; 2],
    [x64, u64]: [&FloatTensor<Cpu>; 2],
    p: FloatTensor<Gpu>,
    h: &FloatTensor<Gpu>,
    h64: &FloatTensor<Cpu>,
) {
    let (x, u, h) = (x.clone(), u.clone(), h.clone());
    let (x64, u64, h64) = (x64.clone(), u64.clone(), h64.clone());
    let adjoint = Gpu::standardize_pool_adjoint(winners.0, x.clone(), p.clone(), h.clone());
    let adjoint64 = portable::standardize_pool_adjoint::<Cpu>(winners.1, x64.clone(), h64.clone());
    assert_near("adjoint", adjoint, adjoint64);
    let (along_x, along_h) = Gpu::standardize_pool_curvature(winners.0, x, p, h, u);
    let (along_x64, along_h64) =
        portable::standardize_pool_curvature::<Cpu>(winners.1, x64, h64, u64);
    assert_near("curvature along x", along_x, along_x64);
    assert_near("curvature along h", along_h, along_h64);
}

#[test]
fn passes_over_numbers_are_those_of_the_compositions() {
    let (x, x64) = both(&[2, 300, 7], 1);
    let (g, g64) = both(&[2, 300, 7], 2);
    assert_near(
        "step",
        Gpu::sgd_step(x.clone(), g.clone(), 0.3),
        portable::sgd_step::<Cpu>(x64.clone(), g64.clone(), 0.3),
    );
    let shared = |x: FloatTensor<Gpu>| Gpu::float_expand(x, [2, 300, 7].into());
    let (one, one64) = both(&[1, 300, 7], 5);
    assert_near(
        "step of copies",
        Gpu::sgd_step(shared(one), g.clone(), 0.3),
        portable::sgd_step::<Cpu>(
            Cpu::float_expand(one64, [2, 300, 7].into()),
            g64.clone(),
            0.3,
        ),
    );
    assert_near(
        "gate",
        Gpu::gate(x.clone(), g),
        portable::gate::<Cpu>(x64.clone(), g64),
    );
    for biases in [1, 2] {
        let (b, b64) = both(&[biases, 1, 7], 3);
        let map = |tasks| LinearMap::BroadcastRows {
            tasks,
            source_tasks: biases,
            rows: 300,
            channels: 7,
        };
        assert_near(
            "bias",
            Gpu::bias_relu(&map(2), x.clone(), b),
            portable::bias_relu::<Cpu>(
                &LinearMap::BroadcastRows {
                    tasks: 2,
                    source_tasks: biases,
                    rows: 300,
                    channels: 7,
                },
                x64.clone(),
                b64,
            ),
        );
    }
}
