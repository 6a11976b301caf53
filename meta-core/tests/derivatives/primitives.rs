//! Primitives: adjoint identities, central differences at both orders, fast = portable.

use burn::tensor::{Tensor, TensorPrimitive, ops::FloatTensor};
use burn_autodiff::Autodiff;
use meta_core::{
    gradcheck::{Errors, Function, check},
    primitives::{
        Activation, Conv2dForm, LinearForm, LinearMap, PairsForm, Pooling, Primitives, Role,
        ScaleForm, TrilinearForm, add_rows, attention_read, attention_scores, bias_relu,
        broadcast_rows, columns, conv2d, join, layer_standardize, linear, linear_add,
        masked_softmax, max_pool2d, portable, scale, scale_add, scaled_softmax, standardize,
        standardize_pool2d, sum_rows, tanh,
    },
};

use crate::support::{B, assert_close, device, normal, random, relative_error, tensor, values};

fn forms() -> Vec<TrilinearForm> {
    let mut forms = Vec::new();
    for (tasks, weight_tasks) in [(1, 1), (3, 1), (3, 3)] {
        for (items, inputs, outputs) in [(1, 1, 1), (5, 3, 4), (2, 7, 1)] {
            forms.push(TrilinearForm::Linear(LinearForm {
                tasks,
                weight_tasks,
                items,
                inputs,
                outputs,
            }));
        }
        if weight_tasks == tasks {
            for (items, heads, queries, keys, width) in
                [(1, 1, 1, 1, 1), (2, 2, 5, 3, 4), (7, 3, 16, 17, 2)]
            {
                forms.push(TrilinearForm::Pairs(PairsForm {
                    tasks,
                    sequences: tasks * items,
                    heads,
                    queries,
                    keys,
                    width,
                }));
            }
        }
        for (rows, channels) in [(1, 1), (6, 3), (5, 9)] {
            forms.push(TrilinearForm::Scale(ScaleForm {
                tasks,
                weight_tasks,
                rows,
                channels,
            }));
        }
        for (kernel, stride, padding) in [
            (3, 1, 1),
            (3, 2, 1),
            (1, 1, 0),
            (1, 2, 0),
            (3, 1, 0),
            (5, 3, 2),
            (1, 1, 2),
            (1, 12, 3),
        ] {
            for (items, height, width, in_channels, out_channels) in [
                (1, 5, 5, 1, 2),
                (2, 6, 7, 3, 4),
                (3, 9, 5, 2, 1),
                (1, 6, 9, 32, 40),
            ] {
                forms.push(TrilinearForm::Conv2d(Conv2dForm {
                    tasks,
                    weight_tasks,
                    items,
                    height,
                    width,
                    in_channels,
                    out_channels,
                    kernel,
                    stride,
                    padding,
                }));
            }
        }
    }
    forms
}

fn erase<const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

fn operand(form: &TrilinearForm, role: Role) -> FloatTensor<B> {
    let shape = form.shape(role);
    let numbers = normal(shape.iter().product(), &format!("{role:?}"));
    let flat = tensor(numbers, [shape.iter().product()]);
    match shape[..] {
        [a, b, c] => erase(flat.reshape([a, b, c])),
        [a, b, c, d] => erase(flat.reshape([a, b, c, d])),
        [a, b, c, d, e] => erase(flat.reshape([a, b, c, d, e])),
        _ => unreachable!(),
    }
}

fn flat(primitive: FloatTensor<B>) -> Vec<f64> {
    fn of<const D: usize>(primitive: FloatTensor<B>) -> Vec<f64> {
        values(Tensor::<B, D>::from_primitive(TensorPrimitive::Float(
            primitive,
        )))
    }
    use burn::tensor::TensorMetadata;
    match primitive.rank() {
        3 => of::<3>(primitive),
        4 => of::<4>(primitive),
        5 => of::<5>(primitive),
        rank => unreachable!("rank {rank}"),
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// `⟨y, F(x, w)⟩ = ⟨x, X(w, y)⟩ = ⟨w, W(x, y)⟩`: the definition of the three roles.
#[test]
fn the_three_roles_of_a_form_are_adjoint() {
    for form in forms() {
        let [x, w, y] = [Role::Input, Role::Weight, Role::Output].map(|role| operand(&form, role));
        let of = |wanted, left: &FloatTensor<B>, right: &FloatTensor<B>| {
            flat(B::contract(&form, wanted, left.clone(), right.clone()))
        };
        let output = dot(&flat(y.clone()), &of(Role::Output, &x, &w));
        let input = dot(&flat(x.clone()), &of(Role::Input, &w, &y));
        let weight = dot(&flat(w.clone()), &of(Role::Weight, &x, &y));
        let scale = output.abs().max(1.0);
        assert!((output - input).abs() < 1e-12 * scale, "{form:?}");
        assert!((output - weight).abs() < 1e-12 * scale, "{form:?}");
    }
}

/// Windows that are too large to be gathered at once are gathered task by task.
#[test]
fn a_composition_in_parts_is_the_whole() {
    let (tasks, height, width) = (3, 1500, 1000);
    let form = TrilinearForm::Conv2d(Conv2dForm {
        tasks,
        weight_tasks: tasks,
        items: 1,
        height,
        width,
        in_channels: 2,
        out_channels: 1,
        kernel: 3,
        stride: 1,
        padding: 1,
    });
    let ones = |role| {
        let shape = form.shape(role);
        let ones = vec![1.0; shape.iter().product()];
        erase(tensor(
            ones,
            [shape[0], shape[1], shape[2], shape[3], shape[4]],
        ))
    };
    let scales = (0..tasks)
        .flat_map(|task| vec![task as f64 + 1.0; 18])
        .collect();
    let weight = erase(tensor(scales, [tasks, 9, 2, 1]));
    let of = |wanted, left: &FloatTensor<B>, right: &FloatTensor<B>| {
        flat(portable::contract::<B>(
            &form,
            wanted,
            left.clone(),
            right.clone(),
        ))
    };
    let (x, y) = (ones(Role::Input), ones(Role::Output));
    let output = of(Role::Output, &x, &weight);
    let input = of(Role::Input, &weight, &y);
    let gradient = of(Role::Weight, &x, &y);
    let pixels = height * width;
    for task in 0..tasks {
        let (inside, scale) = (task * pixels + 700 * width + 500, task as f64 + 1.0);
        assert_eq!(output[inside], 18.0 * scale);
        assert_eq!(input[2 * inside], 9.0 * scale);
        assert_eq!(gradient[task * 18 + 8], pixels as f64);
    }
}

/// The backend's own kernels against the compositions of stock operations.
#[test]
fn a_form_equals_its_portable_composition() {
    for form in forms() {
        for wanted in [Role::Input, Role::Weight, Role::Output] {
            let (left, right) = wanted.others();
            let (left, right) = (operand(&form, left), operand(&form, right));
            let fast = flat(B::contract(&form, wanted, left.clone(), right.clone()));
            let reference = flat(portable::contract::<B>(&form, wanted, left, right));
            let error = relative_error(&fast, &reference);
            assert!(error < 1e-12, "{form:?} {wanted:?}: {error:e}");
        }
    }
}

/// Non-contiguous operands: a weight fanned out over tasks, transposed items.
#[test]
fn strided_operands_give_the_same() {
    let shared = random([1, 4, 3], "w");
    let fanned = shared.clone().expand([5, 4, 3]);
    let copied = tensor(values(fanned.clone()), [5, 4, 3]);
    let x = random([5, 4, 6], "x").swap_dims(1, 2);
    let x_copied = tensor(values(x.clone()), [5, 6, 4]);
    assert_close(linear(x.clone(), fanned), linear(x_copied, copied), 1e-14);
    assert_close(
        standardize(x.clone(), 1e-5),
        standardize(tensor(values(x), [5, 6, 4]), 1e-5),
        1e-14,
    );
}

/// A convolution written out as the sum of its definition.
#[test]
fn conv2d_equals_its_definition() {
    let (height, width, kernel, stride, padding) = (5, 6, 3, 2, 1);
    let x = random([2, 1, height, width, 2], "x");
    let w = random([2, kernel * kernel, 2, 3], "w");
    let y = conv2d(x.clone(), w.clone(), stride, padding);
    let [t, _, out_height, out_width, out_channels] = y.dims();
    let (x, w, y) = (values(x), values(w), values(y));
    for task in 0..t {
        for row in 0..out_height {
            for column in 0..out_width {
                for o in 0..out_channels {
                    let mut expected = 0.0;
                    for i in 0..kernel {
                        for j in 0..kernel {
                            let r = (row * stride + i).wrapping_sub(padding);
                            let s = (column * stride + j).wrapping_sub(padding);
                            if r >= height || s >= width {
                                continue;
                            }
                            for c in 0..2 {
                                expected += x[((task * height + r) * width + s) * 2 + c]
                                    * w[((task * 9 + i * kernel + j) * 2 + c) * 3 + o];
                            }
                        }
                    }
                    let found =
                        y[((task * out_height + row) * out_width + column) * out_channels + o];
                    assert!((found - expected).abs() < 1e-12);
                }
            }
        }
    }
}

#[test]
fn linear_maps_and_their_adjoints() {
    let pooling = Pooling {
        items: 2,
        height: 5,
        width: 7,
        channels: 3,
        size: 2,
    };
    let x = random([2, 5, 7, 3], "x");
    let (maxima, index) = B::max_pool(&pooling, erase(x.clone()));
    let (reference, _) = portable::max_pool::<B>(&pooling, erase(x.clone()));
    assert_eq!(flat(maxima.clone()), flat(reference));
    let select = LinearMap::Select { pooling, index };
    assert_eq!(flat(B::map_linear(&select, erase(x.clone()))), flat(maxima));
    let y = random([2, 2, 3, 3], "y");
    let scattered = flat(B::map_adjoint(&select, erase(y.clone())));
    assert_eq!(
        scattered,
        flat(portable::map_adjoint::<B>(&select, erase(y.clone())))
    );
    let left = dot(&flat(B::map_linear(&select, erase(x.clone()))), &values(y));
    assert!((left - dot(&values(x), &scattered)).abs() < 1e-12);

    for source_tasks in [1, 3] {
        let b = random([source_tasks, 1, 4], "b");
        let y = random([3, 5, 4], "y");
        let map = LinearMap::BroadcastRows {
            tasks: 3,
            source_tasks,
            rows: 5,
            channels: 4,
        };
        let forward = flat(B::map_linear(&map, erase(b.clone())));
        let back = flat(B::map_adjoint(&map, erase(y.clone())));
        assert!((dot(&forward, &values(y)) - dot(&values(b), &back)).abs() < 1e-12);
    }
}

/// Ties go to the first position in row-major order, on every implementation.
#[test]
fn max_pool_breaks_ties_by_position() {
    let pooling = Pooling {
        items: 1,
        height: 2,
        width: 2,
        channels: 1,
        size: 2,
    };
    let x = tensor(vec![0.0, 1.0, 1.0, 1.0], [1, 2, 2, 1]);
    for (_, index) in [
        B::max_pool(&pooling, erase(x.clone())),
        portable::max_pool::<B>(&pooling, erase(x)),
    ] {
        let index: Tensor<B, 4, burn::tensor::Int> = Tensor::from_primitive(index);
        assert_eq!(index.into_data().iter::<i64>().next(), Some(1));
    }
}

#[test]
fn standardize_equals_its_portable_composition() {
    for shape in [[1, 2, 1], [3, 7, 5], [2, 64, 33]] {
        let [x, g, u] = ["x", "g", "u"].map(|name| random(shape, name));
        let pairs = [
            (
                B::standardize(erase(x.clone()), 1e-3),
                portable::standardize::<B>(erase(x.clone()), 1e-3),
            ),
            (
                B::standardize_adjoint(erase(x.clone()), erase(g.clone()), 1e-3),
                portable::standardize_adjoint::<B>(erase(x.clone()), erase(g.clone()), 1e-3),
            ),
            (
                B::standardize_curvature(
                    erase(x.clone()),
                    erase(g.clone()),
                    erase(u.clone()),
                    1e-3,
                ),
                portable::standardize_curvature::<B>(erase(x), erase(g), erase(u), 1e-3),
            ),
        ];
        for (fast, reference) in pairs {
            let error = relative_error(&flat(fast), &flat(reference));
            assert!(error < 1e-12, "{shape:?}: {error:e}");
        }
    }
}

#[test]
fn standardize_pool_equals_its_portable_composition() {
    for (shape, size) in [
        ([1, 1, 2, 2, 1], 2),
        ([3, 2, 5, 7, 3], 2),
        ([2, 3, 6, 6, 33], 3),
    ] {
        let [t, b, height, width, channels] = shape;
        let pooling = Pooling {
            items: t * b,
            height,
            width,
            channels,
            size,
        };
        let [x, u] = ["x", "u"].map(|name| erase(random(shape, name)));
        let h = random([t, b, height / size, width / size, channels], "h");
        for direction_tasks in [1, t] {
            let direction = erase(random([direction_tasks, 1, channels], "direction"));
            let fast = B::standardize_pool(&pooling, x.clone(), direction.clone(), 1e-3);
            let slow = portable::standardize_pool::<B>(&pooling, x.clone(), direction, 1e-3);
            let index = |of: burn::tensor::ops::IntTensor<B>| {
                let index: Tensor<B, 4, burn::tensor::Int> = Tensor::from_primitive(of);
                index.into_data().iter::<i64>().collect::<Vec<_>>()
            };
            assert_eq!(index(fast.1.index.clone()), index(slow.1.index.clone()));
            let (p, winners, h) = (fast.0, fast.1, erase(h.clone()));
            let adjoint = B::standardize_pool_adjoint(&winners, x.clone(), p.clone(), h.clone());
            let (along_x, along_h) =
                B::standardize_pool_curvature(&winners, x.clone(), p.clone(), h.clone(), u.clone());
            // ⟨u, A h⟩ = ⟨Aᵀ u, h⟩: the second derivative along h is the adjoint in h.
            let left = dot(&flat(u.clone()), &flat(adjoint.clone()));
            let right = dot(&flat(along_h.clone()), &flat(h.clone()));
            assert!((left - right).abs() < 1e-11, "{shape:?}: {left} {right}");
            let slow_adjoint =
                portable::standardize_pool_adjoint::<B>(&slow.1, x.clone(), h.clone());
            let slow_along =
                portable::standardize_pool_curvature::<B>(&slow.1, x.clone(), h, u.clone());
            for (name, fast, slow) in [
                ("p", p, slow.0),
                ("adjoint", adjoint, slow_adjoint),
                ("along x", along_x, slow_along.0),
                ("along h", along_h, slow_along.1),
            ] {
                let error = relative_error(&flat(fast), &flat(slow));
                assert!(error < 1e-12, "{shape:?} {name}: {error:e}");
            }
        }
    }
}

/// `γ p + β` is the maximum of `γ x̂ + β`, whatever the signs of `γ`.
#[test]
fn standardize_pool_commutes_with_the_affine_map() {
    let x = random([2, 3, 5, 4, 3], "x");
    let gamma = random([2, 1, 3], "gamma");
    let p = standardize_pool2d(x.clone(), gamma.clone(), 2, 1e-3);
    let map = scale(standardize(x.reshape([2, 60, 3]), 1e-3), gamma.clone());
    let expected = max_pool2d(map.reshape([6, 5, 4, 3]), 2);
    let found = scale(p.reshape([2, 12, 3]), gamma);
    assert_close(found.reshape([6, 2, 2, 3]), expected, 1e-14);
}

#[test]
fn bias_relu_equals_its_portable_composition() {
    let map = LinearMap::BroadcastRows {
        tasks: 3,
        source_tasks: 1,
        rows: 5,
        channels: 4,
    };
    let [x, g] = ["x", "g"].map(|name| erase(random([3, 5, 4], name)));
    let b = erase(random([1, 1, 4], "b"));
    let y = B::bias_relu(&map, x.clone(), b.clone());
    assert_eq!(flat(y.clone()), flat(portable::bias_relu::<B>(&map, x, b)));
    assert_eq!(
        flat(B::gate(y.clone(), g.clone())),
        flat(portable::gate::<B>(y, g))
    );
}

/// Weights and biases shared, fanned out, and of each task.
#[test]
fn affine_equals_its_portable_composition() {
    let of_tasks = |name: &str, rows: usize, channels: usize| {
        let shared = random([1, rows, channels], name);
        let fanned = shared.clone().expand([3, rows, channels]);
        [shared, fanned, random([3, rows, channels], name)]
    };
    let x = random([4, 5, 3], "x").swap_dims(1, 2).reshape([3, 5, 4]);
    for activation in [Activation::Identity, Activation::Relu] {
        for b in of_tasks("b", 1, 4) {
            let map = LinearMap::BroadcastRows {
                tasks: 3,
                source_tasks: b.dims()[0],
                rows: 5,
                channels: 4,
            };
            for w in of_tasks("w", 4, 4) {
                let form = TrilinearForm::Linear(LinearForm {
                    tasks: 3,
                    weight_tasks: w.dims()[0],
                    items: 5,
                    inputs: 4,
                    outputs: 4,
                });
                check_affine(&form, &map, activation, &x, &w, &b);
            }
            for a in of_tasks("a", 1, 4) {
                let form = TrilinearForm::Scale(ScaleForm {
                    tasks: 3,
                    weight_tasks: a.dims()[0],
                    rows: 5,
                    channels: 4,
                });
                check_affine(&form, &map, activation, &x, &a, &b);
            }
        }
    }
}

fn check_affine(
    form: &TrilinearForm,
    map: &LinearMap<burn::tensor::ops::IntTensor<B>>,
    activation: Activation,
    x: &Tensor<B, 3>,
    w: &Tensor<B, 3>,
    b: &Tensor<B, 3>,
) {
    let [x, w, b] = [x, w, b].map(|operand| erase(operand.clone()));
    let fast = B::affine(form, map, activation, x.clone(), w.clone(), b.clone());
    let reference = portable::affine::<B>(form, map, activation, x, w, b);
    let error = relative_error(&flat(fast), &flat(reference));
    assert!(error < 1e-12, "{form:?} {activation:?}: {error:e}");
}

/// Masks of every shape that broadcasts, one of which hides whole rows.
#[test]
fn masked_softmax_equals_its_portable_composition() {
    let shape = [3, 2, 4, 16];
    let x = random(shape, "x").mul_scalar(3.0);
    for of in [
        [3, 2, 4, 16],
        [3, 1, 1, 16],
        [1, 2, 1, 16],
        [1, 1, 4, 16],
        [1, 1, 1, 16],
    ] {
        let drawn = random::<4>(of, "hidden");
        let some = drawn.clone().greater_elem(0.3);
        let rows = drawn.narrow(3, 0, 1).greater_elem(0.8).expand(of);
        let hidden = erase(some.bool_or(rows).float().cast(x.dtype()));
        let fast = B::masked_softmax(erase(x.clone()), hidden.clone(), 0.7);
        let reference = portable::masked_softmax::<B>(erase(x.clone()), hidden, 0.7);
        let error = relative_error(&flat(fast), &flat(reference));
        assert!(error < 1e-12, "{of:?}: {error:e}");
    }
}

#[test]
fn tanh_equals_its_portable_composition() {
    let [y, g, u] = ["y", "g", "u"].map(|name| erase(random([3, 7, 5], name)));
    let pairs = [
        (B::tanh(y.clone()), portable::tanh::<B>(y.clone())),
        (
            B::tanh_adjoint(y.clone(), g.clone(), 0.0),
            portable::tanh_adjoint::<B>(y.clone(), g.clone()),
        ),
        (
            B::tanh_curvature(y.clone(), g.clone(), u.clone(), 0.0),
            portable::tanh_curvature::<B>(y, g, u),
        ),
    ];
    for (fast, reference) in pairs {
        let error = relative_error(&flat(fast), &flat(reference));
        assert!(error < 1e-12, "{error:e}");
    }
}

#[test]
fn columns_and_their_adjoint_equal_their_portable_compositions() {
    for (start, count) in [(0, 2), (1, 3), (3, 2), (0, 5)] {
        let map = LinearMap::Columns {
            width: 5,
            start,
            count,
        };
        let x = erase(random([3, 7, 5], "x"));
        let y = erase(random([3, 7, count], "y"));
        assert_eq!(
            flat(B::map_linear(&map, x.clone())),
            flat(portable::map_linear::<B>(&map, x))
        );
        assert_eq!(
            flat(B::map_adjoint(&map, y.clone())),
            flat(portable::map_adjoint::<B>(&map, y))
        );
    }
}

#[test]
fn layer_standardize_equals_its_portable_composition() {
    for shape in [[1, 1, 2], [3, 7, 5], [2, 9, 64]] {
        let [x, g, u] = ["x", "g", "u"].map(|name| erase(random(shape, name)));
        let pairs = [
            (
                B::layer_standardize(x.clone(), 1e-3),
                portable::layer_standardize::<B>(x.clone(), 1e-3),
            ),
            (
                B::layer_standardize_adjoint(x.clone(), g.clone(), 1e-3),
                portable::layer_standardize_adjoint::<B>(x.clone(), g.clone(), 1e-3),
            ),
            (
                B::layer_standardize_curvature(x.clone(), g.clone(), u.clone(), 1e-3),
                portable::layer_standardize_curvature::<B>(x, g, u, 1e-3),
            ),
        ];
        for (fast, reference) in pairs {
            let error = relative_error(&flat(fast), &flat(reference));
            assert!(error < 1e-12, "{shape:?}: {error:e}");
        }
    }
}

/// Rows of which a part, or nothing, may be read included.
#[test]
fn softmax_equals_its_portable_composition() {
    for shape in [[1, 1, 1, 1], [2, 3, 5, 7], [3, 2, 4, 16]] {
        let [x, g, u] = ["x", "g", "u"].map(|name| random(shape, name).mul_scalar(3.0));
        let low = x.clone().lower_elem(-1.0);
        for x in [x.clone(), x.mask_fill(low, f64::NEG_INFINITY)] {
            let (x, g, u) = (erase(x), erase(g.clone()), erase(u.clone()));
            let p = B::scaled_softmax(x.clone(), 0.7);
            let pairs = [
                (p.clone(), portable::scaled_softmax::<B>(x, 0.7)),
                (
                    B::scaled_softmax_adjoint(p.clone(), g.clone(), 0.7),
                    portable::scaled_softmax_adjoint::<B>(p.clone(), g.clone(), 0.7),
                ),
                (
                    B::scaled_softmax_curvature(p.clone(), g.clone(), u.clone(), 0.7),
                    portable::scaled_softmax_curvature::<B>(p, g, u, 0.7),
                ),
            ];
            for (fast, reference) in pairs {
                let error = relative_error(&flat(fast), &flat(reference));
                assert!(error < 1e-12, "{shape:?}: {error:e}");
            }
        }
    }
}

/// Parameters that all tasks share, fanned out, and parameters of each task.
#[test]
fn descend_equals_its_portable_composition() {
    let g = erase(random([3, 4, 2], "g"));
    for theta in [
        random([1, 4, 2], "theta").expand([3, 4, 2]),
        random([3, 4, 2], "theta"),
    ] {
        let found = flat(B::sgd_step(erase(theta.clone()), g.clone(), 0.3));
        let expected = flat(portable::sgd_step::<B>(erase(theta), g.clone(), 0.3));
        assert!(relative_error(&found, &expected) < 1e-15);
    }
}

/// `mean = 0` and `variance = σ² / (σ² + ε)` per task and channel.
#[test]
fn standardized_rows_have_the_moments_of_the_definition() {
    let (epsilon, rows) = (0.1, 9);
    let x = random([2, rows, 3], "x").mul_scalar(2.0).add_scalar(5.0);
    let mean = |y: &Tensor<B, 3>| sum_rows(y.clone()).mul_scalar(1.0 / rows as f64);
    let variance = |y: &Tensor<B, 3>| {
        let m = mean(y).expand([2, rows, 3]);
        mean(&(y.clone() - m).powi_scalar(2))
    };
    let y = standardize(x.clone(), epsilon);
    assert!(values(mean(&y)).iter().all(|m| m.abs() < 1e-12));
    let v = variance(&x);
    assert_close(variance(&y), v.clone() / v.add_scalar(epsilon), 1e-12);
}

/// A function for the check: an operation of the inputs, read off along a fixed direction through a
/// tanh, so that its second derivative is not zero by linearity.
macro_rules! function {
    ($name:ident, |$inputs:ident| $body:expr) => {
        struct $name;
        impl Function for $name {
            fn value<L: Primitives>(&self, $inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
                let output = $body;
                let length = output.shape().num_elements();
                let output: Tensor<L, 1> = output.reshape([length]);
                let weights = normal(length, "direction");
                let weights = Tensor::<L, 1>::from_data(
                    burn::tensor::TensorData::new(weights, [length]),
                    &output.device(),
                );
                (output.tanh() * weights).sum()
            }
        }
    };
}

function!(LinearShared, |v| linear(
    v[0].clone().reshape([2, 3, 2]),
    v[1].clone().reshape([1, 2, 3])
));
function!(LinearPerTask, |v| linear(
    v[0].clone().reshape([2, 3, 2]),
    v[1].clone().reshape([2, 2, 3])
));
function!(ConvShared, |v| conv2d(
    v[0].clone().reshape([2, 1, 4, 3, 2]),
    v[1].clone().reshape([1, 9, 2, 2]),
    1,
    1
));
function!(ConvStrided, |v| conv2d(
    v[0].clone().reshape([2, 1, 4, 3, 2]),
    v[1].clone().reshape([2, 9, 2, 2]),
    2,
    1
));
function!(Scale, |v| scale(
    v[0].clone().reshape([2, 3, 2]),
    v[1].clone().reshape([2, 1, 2])
));
function!(ScaleShared, |v| scale(
    v[0].clone().reshape([2, 3, 2]),
    v[1].clone().reshape([1, 1, 2])
));
function!(Broadcast, |v| broadcast_rows(
    v[0].clone().reshape([1, 1, 3]),
    2,
    4
));
function!(AddRows, |v| add_rows(
    v[0].clone().reshape([2, 4, 3]),
    v[1].clone().reshape([2, 1, 3])
));
function!(SumRows, |v| sum_rows(v[0].clone().reshape([2, 4, 3])));
function!(Standardize, |v| standardize(
    v[0].clone().reshape([2, 5, 3]),
    1e-2
));
function!(MaxPool, |v| max_pool2d(
    v[0].clone().reshape([1, 5, 4, 2]),
    2
));

function!(StandardizePool, |v| standardize_pool2d(
    v[0].clone().reshape([2, 1, 4, 5, 2]),
    v[1].clone().reshape([1, 1, 2]),
    2,
    1e-2
));
function!(BiasRelu, |v| bias_relu(
    v[0].clone().reshape([2, 4, 3]),
    v[1].clone().reshape([2, 1, 3])
));

function!(LinearAdd, |v| linear_add(
    v[0].clone().reshape([2, 3, 2]),
    v[1].clone().reshape([2, 2, 3]),
    v[2].clone().reshape([2, 1, 3]),
    Activation::Relu
));
function!(ScaleAdd, |v| scale_add(
    v[0].clone().reshape([2, 3, 2]),
    v[1].clone().reshape([1, 1, 2]),
    v[2].clone().reshape([2, 1, 2]),
    Activation::Identity
));
function!(LayerStandardize, |v| layer_standardize(
    v[0].clone().reshape([2, 3, 5]),
    1e-2
));
function!(Softmax, |v| scaled_softmax(
    v[0].clone().reshape([2, 1, 3, 4]),
    0.7
));
function!(MaskedSoftmax, |v| {
    let hidden = [false, false, true, false, true, true, true, true].repeat(3);
    let hidden = burn::tensor::TensorData::new(hidden, [2, 1, 3, 4]);
    let hidden = Tensor::<L, 4, burn::tensor::Bool>::from_data(hidden, &v[0].device());
    masked_softmax(v[0].clone().reshape([2, 1, 3, 4]), hidden, 0.7)
});
function!(Tanh, |v| tanh(v[0].clone().reshape([2, 3, 4])));
function!(Columns, |v| columns(v[0].clone().reshape([2, 3, 4]), 1, 2));
// The square, so that something is left of the second order.
function!(Join, |v| {
    let [x, y] = [0, 1].map(|i: usize| v[i].clone().reshape([2, 3, 2 + i]));
    let both = join(x.clone() * x, y);
    both.clone() * both
});
function!(Attention, |v| {
    let [q, k] = [0, 1].map(|i: usize| v[i].clone().reshape([1, 6, 4]));
    let map = scaled_softmax(attention_scores(q, k, 2, [3, 3]), 0.7);
    attention_read(map, v[2].clone().reshape([1, 6, 4]))
});

function!(SgdStep, |v| Tensor::<L, 1>::from_primitive(
    TensorPrimitive::Float(L::sgd_step(
        v[0].clone().into_primitive().tensor(),
        v[1].clone().into_primitive().tensor(),
        0.3
    ))
));

fn errors(function: &impl Function, lengths: &[usize]) -> Errors {
    let point: Vec<Vec<f64>> = lengths
        .iter()
        .enumerate()
        .map(|(input, &length)| normal(length, &format!("input {input}")))
        .collect();
    check::<B>(function, &point, &device())
}

#[test]
fn primitives_pass_central_differences_at_both_orders() {
    let found = [
        ("linear shared", errors(&LinearShared, &[12, 6])),
        ("linear per task", errors(&LinearPerTask, &[12, 12])),
        ("conv2d shared", errors(&ConvShared, &[48, 36])),
        ("conv2d strided per task", errors(&ConvStrided, &[48, 72])),
        ("scale per task", errors(&Scale, &[12, 4])),
        ("scale shared", errors(&ScaleShared, &[12, 2])),
        ("broadcast_rows", errors(&Broadcast, &[3])),
        ("add_rows", errors(&AddRows, &[24, 6])),
        ("sum_rows", errors(&SumRows, &[24])),
        ("standardize", errors(&Standardize, &[30])),
        ("max_pool2d", errors(&MaxPool, &[40])),
        ("standardize_pool2d", errors(&StandardizePool, &[80, 2])),
        ("bias_relu", errors(&BiasRelu, &[24, 6])),
        ("sgd_step", errors(&SgdStep, &[4, 4])),
        ("linear_add", errors(&LinearAdd, &[12, 12, 6])),
        ("scale_add", errors(&ScaleAdd, &[12, 2, 4])),
        ("layer_standardize", errors(&LayerStandardize, &[30])),
        ("scaled_softmax", errors(&Softmax, &[24])),
        ("masked_softmax", errors(&MaskedSoftmax, &[24])),
        ("tanh", errors(&Tanh, &[24])),
        ("columns", errors(&Columns, &[24])),
        ("join", errors(&Join, &[12, 18])),
        ("attention", errors(&Attention, &[24, 24, 24])),
    ];
    for (name, errors) in found {
        assert!(errors.within(1e-7), "{name}: {errors:?}");
    }
}

/// `⟨v, ∇F⟩` with a fixed `v`, as a function whose second derivative is of third order.
struct Directional<F>(F);

impl<F: Function> Function for Directional<F> {
    fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
        let leaves: Vec<Tensor<Autodiff<L>, 1>> = inputs
            .iter()
            .map(|input| Tensor::from_inner(input.clone()).require_grad())
            .collect();
        let gradient = self.0.value(&leaves).backward();
        let gradient = leaves[0].grad(&gradient).expect("depends on its input");
        let length = gradient.dims()[0];
        let v = burn::tensor::TensorData::new(normal(length, "v"), [length]);
        (Tensor::from_data(v, &gradient.device()) * gradient).sum()
    }
}

/// What is composed for the levels above the second is right as well.
#[test]
fn fused_primitives_pass_central_differences_at_the_third_order() {
    for (name, errors) in [
        (
            "standardize_pool2d",
            errors(&Directional(StandardizePool), &[80, 2]),
        ),
        ("bias_relu", errors(&Directional(BiasRelu), &[24, 6])),
        ("linear_add", errors(&Directional(LinearAdd), &[12, 12, 6])),
        (
            "layer_standardize",
            errors(&Directional(LayerStandardize), &[30]),
        ),
        ("attention", errors(&Directional(Attention), &[24, 24, 24])),
    ] {
        assert!(errors.within(1e-6), "{name}: {errors:?}");
    }
}

/// The check itself notices a wrong gradient: `repeat_dim` of Burn 0.21 has one.
#[test]
fn the_check_notices_a_wrong_gradient() {
    function!(Repeat, |v| v[0].clone().reshape([3]).repeat_dim(0, 4));
    let errors = errors(&Repeat, &[3]);
    assert!(!errors.within(1e-3), "{errors:?}");
}
