//! Attention: against PyTorch, central differences at both orders, exact expectations, identities.

use burn::tensor::{Bool, Int, Tensor, activation::softmax};
use burn_autodiff::Autodiff;
use meta_core::{
    gradcheck::{Errors, Function, check},
    nn::{
        Mode, Noise, Pass,
        attention::{
            AdditiveScores, AttentionPool, Block, CrossModal, GatedFusion, Hierarchical,
            HierarchicalMasks, MultiHeadAttention, MultiHeadSettings, Sample, Weighting,
            gumbel_softmax, gumbel_straight_through, leave_one_out, mask, position, sample,
            scaled_dot_product, soft, straight_through,
        },
        init::Initializer,
    },
    primitives::Primitives,
    rng::Seed,
};

use crate::support::{
    B, Oracle, assert_close, device, normal, observed, point_near, random, tensor, values,
    with_parameters,
};

type A = Autodiff<B>;

/// A pass that draws, the same numbers every time, for this number of tasks.
fn noisy<L: Primitives>(tasks: u64) -> Pass<L> {
    let noise = Noise::new(Seed(4), (0..tasks).collect(), "test", 0);
    Pass::new(Mode::training(Some(noise)))
}

/// Errors of a layer's gradients in its parameters and inputs.
macro_rules! errors_of_layer {
    ($layer:ident<L>, $lengths:expr, |$initializer:ident, $device:ident| $new:expr,
     |$built:ident, $v:ident| $forward:expr) => {{
        fn new<L: Primitives>($device: &L::Device) -> $layer<L> {
            let $initializer = &mut Initializer::seeded(Seed(1));
            $new
        }
        struct Layer;
        impl Function for Layer {
            fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
                let (parameters, $v) = inputs.split_first().unwrap();
                let $built = with_parameters(new::<L>(&parameters.device()), parameters);
                $forward
            }
        }
        let mut point = vec![point_near(&new::<B>(&device()))];
        for (number, length) in $lengths.into_iter().enumerate() {
            point.push(normal(length, &format!("input {number}")));
        }
        let errors = check::<B>(&Layer, &point, &device());
        println!("{}: {errors:?}", stringify!($layer));
        errors
    }};
}

fn at<L: Primitives, const D: usize>(v: &Tensor<L, 1>, shape: [usize; D]) -> Tensor<L, D> {
    v.clone().reshape(shape)
}

#[track_caller]
fn assert_within(errors: Errors) {
    assert!(errors.within(1e-6), "{errors:?}");
}

/// Hides the last key of the second of two queries, and everything from the first.
fn hidden<L: Primitives>(device: &L::Device) -> Tensor<L, 4, Bool> {
    Tensor::from_data([[[[true, true, true], [false, false, true]]]], device)
}

/// Uniform weights read the mean of the values that are not hidden, whatever the scores, with the same
/// parameters.
#[test]
fn uniform_weights_are_mean_pooling() {
    let layer = |weighting| {
        let settings = MultiHeadSettings {
            weighting,
            ..MultiHeadSettings::of_width(4, 2)
        };
        let seeded = &mut Initializer::seeded(Seed(1));
        MultiHeadAttention::<B>::with(settings, seeded, &device()).unwrap()
    };
    let (softmax, uniform) = (layer(Weighting::Softmax), layer(Weighting::Uniform));
    assert_eq!(point_near(&softmax).len(), point_near(&uniform).len());
    let x = tensor(normal(3 * 4, "x"), [1, 3, 4]);
    let causal = mask::causal(3, &device());
    let (read, map) = uniform.attend(x.clone(), x.clone(), 1, Some(&causal), &Pass::evaluation());
    let head = [
        1.0,
        0.0,
        0.0,
        0.5,
        0.5,
        0.0,
        1.0 / 3.0,
        1.0 / 3.0,
        1.0 / 3.0,
    ];
    assert_close(map, tensor([head, head].concat(), [1, 2, 3, 3]), 1e-12);
    let by_hand = (1..4).map(|seen| {
        let mean = uniform
            .value
            .forward(x.clone().narrow(1, 0, seen))
            .mean_dim(1);
        uniform.output.forward(mean)
    });
    assert_close(read, Tensor::cat(by_hand.collect(), 1), 1e-12);
}

/// Read, map and gradients, by `tests/oracles/multi_head.py`.
#[test]
fn multi_head_attention_equals_pytorch() {
    let oracle = Oracle::read("multi_head");
    let thirds = |name: &str, which: usize| {
        let all = oracle.get::<1>(name);
        all.narrow(0, 6 * which, 6).reshape([1, 1, 6])
    };
    let weight = |name: &str| oracle.get::<2>(name).transpose().unsqueeze::<3>();
    // Weight and bias of each projection, or their gradients.
    let expected = |kind: &str| {
        let projections = ["q", "k", "v"].into_iter().enumerate();
        let mut all: Vec<_> = projections
            .flat_map(|(which, name)| {
                let weight = weight(&format!("{name}_proj_weight{kind}"));
                [weight, thirds(&format!("in_proj_bias{kind}"), which)]
            })
            .collect();
        all.push(weight(&format!("out_proj.weight{kind}")));
        all.push(thirds(&format!("out_proj.bias{kind}"), 0));
        all
    };
    let settings = MultiHeadSettings {
        memory: 5,
        ..MultiHeadSettings::of_width(6, 2)
    };
    let leaf = |value| Tensor::<A, 3>::from_inner(value).require_grad();
    let leaves: Vec<_> = expected("").into_iter().map(leaf).collect();
    let mut layer = MultiHeadAttention::<A>::with(settings, &mut Initializer::zeros(), &device())
        .expect("two heads of three");
    let projections = [
        &mut layer.query,
        &mut layer.key,
        &mut layer.value,
        &mut layer.output,
    ];
    for (projection, pair) in projections.into_iter().zip(leaves.chunks(2)) {
        projection.weight = projection.weight.clone().map(|_| pair[0].clone());
        projection.bias = projection.bias.clone().map(|_| pair[1].clone());
    }
    let rows =
        |name: &str, rows: usize, width: usize| oracle.get::<3>(name).reshape([1, 2 * rows, width]);
    let (x, memory) = (leaf(rows("x", 3, 6)), leaf(rows("memory", 4, 5)));
    let hidden = mask::padding(Tensor::<A, 1, Int>::from_data([4, 3], &device()), 4);
    let pass = Pass::evaluation();
    let (read, map) = layer.attend(x.clone(), memory.clone(), 2, Some(&hidden), &pass);
    let close = |found: Tensor<B, 3>, expected| assert_close(found, expected, 1e-13);
    close(read.clone().inner(), rows("read", 3, 6));
    assert_close(map.inner(), oracle.get::<4>("map"), 1e-13);

    let direction = Tensor::from_inner(rows("direction", 3, 6));
    let gradients = (read.tanh() * direction).sum().backward();
    close(x.grad(&gradients).unwrap(), rows("x.grad", 3, 6));
    close(memory.grad(&gradients).unwrap(), rows("memory.grad", 4, 5));
    // The largest magnitude of all: the gradient of the key's bias is 0, up to rounding.
    for (leaf, expected) in leaves.iter().zip(expected(".grad")) {
        let difference = (leaf.grad(&gradients).unwrap() - expected).abs().max();
        assert!(values(difference)[0] < 1e-13);
    }
}

#[test]
fn attention_layers_pass_central_differences_at_both_orders() {
    assert_within(errors_of_layer!(
        MultiHeadAttention<L>,
        [40, 36],
        |initializer, device| {
            let uneven = MultiHeadSettings {
                memory: 3,
                key_width: 4,
                value_width: 6,
                dropout: 0.3,
                rotary: true,
                ..MultiHeadSettings::of_width(5, 2)
            };
            MultiHeadAttention::with(uneven, initializer, device).unwrap()
        },
        |layer, v| {
            let (queries, memory) = (at(&v[0], [2, 4, 5]), at(&v[1], [2, 6, 3]));
            let hidden = hidden(&v[0].device());
            observed(layer.attend(queries, memory, 2, Some(&hidden), &noisy(2)).0)
        }
    ));
    assert_within(errors_of_layer!(
        Block<L>,
        [48],
        |initializer, device| {
            let attention = MultiHeadSettings {
                dropout: 0.3,
                rotary: true,
                ..MultiHeadSettings::of_width(4, 2)
            };
            Block::with(attention, 5, initializer, device).unwrap()
        },
        |layer, v| {
            let causal = mask::causal(3, &v[0].device());
            let x = at(&v[0], [2, 6, 4]);
            observed(layer.forward_masked(x, 3, Some(&causal), &noisy(2)).0)
        }
    ));
    assert_within(errors_of_layer!(
        AttentionPool<L>,
        [24],
        |initializer, device| AttentionPool::new(2, 3, initializer, device),
        |layer, v| {
            let lengths = Tensor::<L, 1, Int>::from_data([3, 2, 0, 1], &v[0].device());
            let hidden = mask::padding(lengths, 3);
            observed(layer.forward(at(&v[0], [2, 6, 2]), 3, Some(&hidden)).0)
        }
    ));
    assert_within(errors_of_layer!(
        Hierarchical<L>,
        [48],
        |initializer, device| Hierarchical::new(2, 3, initializer, device),
        |layer, v| {
            let lengths = Tensor::<L, 1, Int>::from_data([2, 0, 1, 2], &v[0].device());
            let masks = HierarchicalMasks {
                over: Some(mask::padding(lengths, 2)),
                ..Default::default()
            };
            observed(layer.forward(at(&v[0], [2, 12, 2]), 2, 3, &masks).0)
        }
    ));
    assert_within(errors_of_layer!(
        GatedFusion<L>,
        [12, 18],
        |initializer, device| GatedFusion::new([2, 3], 2, initializer, device),
        |layer, v| observed(layer.forward(at(&v[0], [2, 3, 2]), at(&v[1], [2, 3, 3])).0)
    ));
    assert_within(errors_of_layer!(
        CrossModal<L>,
        [32, 36],
        |initializer, device| {
            let settings = MultiHeadSettings {
                memory: 3,
                ..MultiHeadSettings::of_width(4, 2)
            };
            CrossModal::new(settings, initializer, device).unwrap()
        },
        |layer, v| {
            let (asking, read) = (at(&v[0], [2, 4, 4]), at(&v[1], [2, 6, 3]));
            let hidden = hidden(&v[0].device());
            observed(layer.forward(asking, read, 2, Some(&hidden), &noisy(2)).0)
        }
    ));
}

/// Scores of two tasks, `[2, 1, 2, 3]`, to a map and a read that is observed.
macro_rules! errors_of_map {
    (|$scores:ident| $map:expr) => {{
        struct Map;
        impl Function for Map {
            fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
                let $scores = at(&inputs[0], [2, 1, 2, 3]);
                let map: Tensor<L, 4> = $map;
                observed(map.matmul(at(&inputs[1], [2, 1, 3, 2])))
            }
        }
        let errors = check::<B>(&Map, &[normal(12, "s"), normal(12, "v")], &device());
        println!("{}: {errors:?}", stringify!($map));
        errors
    }};
}

#[test]
fn smooth_maps_pass_central_differences_at_both_orders() {
    assert_within(errors_of_map!(|scores| soft(scores, None)));
    assert_within(errors_of_map!(|scores| {
        let hidden = hidden(&scores.device());
        gumbel_softmax(scores, Some(&hidden), 0.7, 2, &noisy(2))
    }));
}

const VALUES: [usize; 4] = [1, 1, 3, 2];

/// What is observed of a read by a map, for one query and three keys.
fn read_by<L: Primitives>(map: Tensor<L, 4>, device: &L::Device) -> Tensor<L, 1> {
    let values = Tensor::<L, 1>::from_data(normal(6, "values").as_slice(), device);
    observed(map.matmul(at(&values, VALUES)))
}

/// The gradient of a straight-through map is that of the softmax, taken at the hard map:
/// `p ⊙ (G − ⟨p, G⟩)` with `G = ∂L/∂A` at `A = onehot`.
#[test]
fn straight_through_has_the_gradient_of_the_softmax() {
    let device = device();
    let scores = random([1, 1, 1, 3], "scores");
    let leaf = |value| Tensor::<A, 4>::from_inner(value).require_grad();
    let (s, map) = (
        leaf(scores.clone()),
        leaf(straight_through(scores.clone(), None)),
    );
    let gradient = |leaf: &Tensor<A, 4>, loss: Tensor<A, 1>| leaf.grad(&loss.backward()).unwrap();
    let found = gradient(&s, read_by(straight_through(s.clone(), None), &device));
    let g = gradient(&map, read_by(map.clone(), &device));
    let p = softmax(scores, 3);
    let expected = p.clone() * (g.clone() - (p * g).sum_dim(3));
    assert_close(found, expected, 1e-14);
}

/// `⟨v, g⟩`, `g` the straight-through gradient: its derivative is that of `g` as a function.
struct OfStraightThrough;

impl Function for OfStraightThrough {
    fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
        let device = inputs[0].device();
        let leaf = Tensor::<Autodiff<L>, 1>::from_inner(inputs[0].clone()).require_grad();
        let map = straight_through(at(&leaf, [1, 1, 1, 3]), None);
        let gradient = leaf.grad(&read_by(map, &device).backward()).unwrap();
        observed(gradient)
    }
}

#[test]
fn straight_through_gradients_are_differentiated_exactly() {
    let errors = check::<B>(&OfStraightThrough, &[normal(3, "scores")], &device());
    println!("straight through: {errors:?}");
    assert_within(errors);
}

/// Hard maps are one-hot, to the last bit, never at a hidden key, and 0 where all keys are hidden.
#[test]
fn hard_maps_are_one_hot() {
    let scores = random([2, 2, 4, 3], "scores");
    let hidden = mask::padding(Tensor::<B, 1, Int>::from_data([2, 0], &device()), 3);
    let maps = |pass: &Pass<B>| {
        [
            straight_through(scores.clone(), Some(&hidden)),
            gumbel_straight_through(scores.clone(), Some(&hidden), 0.5, 2, pass),
            sample(scores.clone(), Some(&hidden), 2, pass).map,
        ]
    };
    let quiet = maps(&Pass::training());
    for map in maps(&noisy(2)).into_iter().chain(quiet.clone()) {
        for (row, map) in values(map).chunks(3).enumerate() {
            let ones = map.iter().filter(|&&v| v == 1.0).count();
            let zeros = map.iter().filter(|&&v| v == 0.0).count();
            let expected = if row < 8 { (1, 2) } else { (0, 3) };
            assert_eq!(
                (ones, zeros, map[2]),
                (expected.0, expected.1, 0.0),
                "{map:?}"
            );
        }
    }
    // Where nothing is drawn, all of them choose the highest score.
    assert_close(quiet[1].clone(), quiet[0].clone(), 0.0);
    assert_close(quiet[2].clone(), quiet[0].clone(), 0.0);
    let relaxed = gumbel_softmax(scores.clone(), Some(&hidden), 0.5, 2, &Pass::training());
    assert_close(relaxed, quiet[0].clone(), 0.0);
    assert_eq!(
        values(sample(scores, None, 2, &Pass::training()).log_probability),
        [0.0; 2]
    );
}

/// Rows that are hidden as a whole leave no gradient, and none that is not a number.
#[test]
fn nothing_read_leaves_no_gradient() {
    let hidden = mask::padding(Tensor::<A, 1, Int>::from_data([0], &device()), 3);
    let scores = Tensor::<A, 4>::from_inner(random([1, 1, 1, 3], "scores")).require_grad();
    let pass = noisy(1);
    let drawn = sample(scores.clone(), Some(&hidden), 1, &pass);
    let device = device();
    let maps = soft(scores.clone(), Some(&hidden))
        + straight_through(scores.clone(), Some(&hidden))
        + gumbel_softmax(scores.clone(), Some(&hidden), 0.5, 1, &pass)
        + drawn.map.clone();
    assert_eq!(values(maps.clone().inner()), [0.0; 3]);
    let loss = read_by(maps, &device);
    let loss = drawn.surrogate(loss, Tensor::ones([1], &device));
    let gradient = scores.grad(&loss.backward()).unwrap();
    assert_eq!(values(gradient), [0.0; 3]);
}

/// One of three keys read by one query, chosen: one-hot `[1, 1, 1, 3]`.
fn choice<L: Primitives>(key: usize, device: &L::Device) -> Tensor<L, 4> {
    let mut one_hot = [0.0; 3];
    one_hot[key] = 1.0;
    Tensor::<L, 1>::from_data(one_hot, device).reshape([1, 1, 1, 3])
}

/// `E[L]` over the draws of a key, by the sum over all keys. The loss depends on the scores directly,
/// too.
fn expectation<L: Primitives>(scores: &Tensor<L, 1>, key: usize) -> Tensor<L, 1> {
    let device = scores.device();
    read_by(choice(key, &device), &device) * (scores.clone().powi_scalar(2).sum().add_scalar(1.0))
}

/// The exact expectation as a function of the scores.
struct Expected;

impl Function for Expected {
    fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
        let probabilities = softmax(inputs[0].clone(), 0);
        (0..3)
            .map(|key| probabilities.clone().narrow(0, key, 1) * expectation(&inputs[0], key))
            .reduce(|sum, term| sum + term)
            .unwrap()
    }
}

/// What the surrogate estimates from the draw of one key.
struct Estimated {
    key: usize,
    baseline: f64,
}

impl Function for Estimated {
    fn value<L: Primitives>(&self, inputs: &[Tensor<L, 1>]) -> Tensor<L, 1> {
        let device = inputs[0].device();
        let map = choice(self.key, &device);
        let drawn = Sample::given(map, at(&inputs[0], [1, 1, 1, 3]), None, 1);
        let loss = expectation(&inputs[0], self.key);
        drawn.surrogate(loss, Tensor::full([1], self.baseline, &device))
    }
}

fn gradient_of<L: Primitives>(function: &impl Function, scores: Tensor<L, 1>) -> Tensor<L, 1> {
    let leaf = Tensor::<Autodiff<L>, 1>::from_inner(scores).require_grad();
    let value = function.value(std::slice::from_ref(&leaf));
    leaf.grad(&value.backward()).unwrap()
}

/// `∇²F v` for the vector of ones.
fn curvature_of(function: &impl Function, scores: Tensor<B, 1>) -> Tensor<B, 1> {
    let leaf = Tensor::<A, 1>::from_inner(scores).require_grad();
    let gradient = gradient_of(function, leaf.clone());
    let weights = Tensor::from_data([1.0, -2.0, 0.5], &device());
    leaf.grad(&(gradient * weights).sum().backward()).unwrap()
}

/// The estimator's expectation over the draws is the exact gradient, and its derivative the exact
/// curvature, whatever the baseline.
#[test]
fn the_score_function_estimator_is_unbiased_at_both_orders() {
    let scores = tensor(normal(3, "scores"), [3]);
    let probabilities = softmax(scores.clone(), 0);
    for baseline in [0.0, 0.7] {
        let mean = |of: &dyn Fn(&Estimated) -> Tensor<B, 1>| {
            (0..3)
                .map(|key| {
                    probabilities.clone().narrow(0, key, 1) * of(&Estimated { key, baseline })
                })
                .reduce(|sum, term| sum + term)
                .unwrap()
        };
        let value = mean(&|of| of.value(std::slice::from_ref(&scores)));
        assert_close(value, Expected.value(std::slice::from_ref(&scores)), 1e-14);
        let gradient = mean(&|of| gradient_of(of, scores.clone()));
        assert_close(gradient, gradient_of(&Expected, scores.clone()), 1e-13);
        let curvature = mean(&|of| curvature_of(of, scores.clone()));
        assert_close(curvature, curvature_of(&Expected, scores.clone()), 1e-12);
    }
}

/// Draws through the pass: the mean of the estimates of 4,000 tasks is within 4.5 standard errors of
/// the exact gradient (three components: a false alarm in 50,000), and the baseline makes the error
/// smaller.
#[test]
fn sampled_estimates_average_to_the_exact_gradient() {
    let tasks = 4_000;
    let scores = tensor(normal(3, "scores"), [3]);
    let exact = values(gradient_of(&Expected, scores.clone()));
    let deviation = |with_baseline: bool| {
        let leaf = scores
            .clone()
            .reshape([1, 1, 1, 3])
            .expand([tasks, 1, 1, 3]);
        let leaf = Tensor::<A, 4>::from_inner(leaf).require_grad();
        let drawn = sample(leaf.clone(), None, tasks, &noisy(tasks as u64));
        let values_of_keys = Tensor::cat(
            (0..3)
                .map(|key| read_by(choice::<A>(key, &device()), &device()))
                .collect(),
            0,
        );
        let read = (drawn.map.clone() * values_of_keys.reshape([1, 1, 1, 3])).sum_dim(3);
        let factor = leaf.clone().powi_scalar(2).sum_dim(3).add_scalar(1.0);
        let loss = (read * factor).reshape([tasks]);
        let baseline = if with_baseline {
            leave_one_out(loss.clone()).detach()
        } else {
            Tensor::zeros([tasks], &device())
        };
        let gradients = drawn.surrogate(loss, baseline).sum().backward();
        let estimates = values(leaf.grad(&gradients).unwrap());
        let mut total = 0.0;
        for (component, exact) in exact.iter().enumerate() {
            let of_component: Vec<f64> = estimates.chunks(3).map(|e| e[component]).collect();
            let mean = of_component.iter().sum::<f64>() / tasks as f64;
            let squares = of_component.iter().map(|e| (e - mean).powi(2)).sum::<f64>();
            let variance = squares / (tasks - 1) as f64;
            let error = (variance / tasks as f64).sqrt();
            let distance = (mean - exact).abs() / error;
            assert!(
                distance < 4.5,
                "component {component}: {distance} standard errors"
            );
            total += variance;
        }
        total
    };
    let (plain, with_baseline) = (deviation(false), deviation(true));
    println!("variance {plain:.4}, with baseline {with_baseline:.4}");
    assert!(with_baseline < plain);
}

/// The keys that are drawn have the probabilities of the softmax: each share within 4.5 standard
/// errors, by both samplers.
#[test]
fn keys_are_drawn_with_the_probabilities_of_the_softmax() {
    let draws = 6_000;
    let scores = random([1, 1, 1, 3], "scores");
    let probabilities = values(softmax(scores.clone(), 3));
    let scores = scores.expand([2, 1, draws / 2, 3]);
    let pass = noisy(2);
    let maps = [
        sample(scores.clone(), None, 2, &pass).map,
        gumbel_straight_through(scores, None, 3.0, 2, &pass),
    ];
    for map in maps {
        let shares = values(map.reshape([draws, 3]).mean_dim(0));
        for (share, p) in shares.iter().zip(&probabilities) {
            let error = (p * (1.0 - p) / draws as f64).sqrt();
            assert!((share - p).abs() < 4.5 * error, "{share} for {p}");
        }
    }
}

/// Permuting the keys permutes the map and leaves what is read, for both scores.
#[test]
fn permuting_the_keys_permutes_the_map() {
    let order = Tensor::<B, 1, Int>::from_data([2, 0, 3, 1], &device());
    let (q, k, v) = (
        random([2, 3, 5], "q"),
        random([2, 4, 3], "k"),
        random([2, 1, 4, 2], "v"),
    );
    let additive = AdditiveScores::<B>::new(5, 3, 4, &mut Initializer::seeded(Seed(1)), &device());
    let attend = |k: Tensor<B, 3>, v: Tensor<B, 4>| {
        let map = soft(additive.forward(q.clone(), k), None);
        (map.clone().matmul(v), map)
    };
    let (read, map) = attend(k.clone(), v.clone());
    let (permuted_read, permuted_map) = attend(
        k.clone().select(1, order.clone()),
        v.clone().select(2, order.clone()),
    );
    assert_close(permuted_map, map.select(3, order.clone()), 1e-14);
    assert_close(permuted_read, read, 1e-14);

    let (q, k) = (random([2, 2, 3, 5], "q"), random([2, 2, 4, 5], "k"));
    let v = random([2, 2, 4, 2], "v");
    let (read, map) = scaled_dot_product(q.clone(), k.clone(), v.clone());
    let (permuted_read, permuted_map) =
        scaled_dot_product(q, k.select(2, order.clone()), v.select(2, order.clone()));
    assert_close(permuted_map, map.select(3, order), 1e-14);
    assert_close(permuted_read, read, 1e-14);
}

/// Items of a task share their weights and nothing else.
#[test]
fn additive_scores_keep_items_apart() {
    let scores = AdditiveScores::<B>::new(5, 3, 4, &mut Initializer::seeded(Seed(1)), &device());
    let (q, k) = (random([2, 6, 5], "q"), random([2, 8, 3], "k"));
    let together = scores.forward_items(q.clone(), k.clone(), 2);
    let alone = |item: usize| {
        let (q, k) = (
            q.clone().narrow(1, 3 * item, 3),
            k.clone().narrow(1, 4 * item, 4),
        );
        scores.forward(q, k)
    };
    let expected = Tensor::cat(vec![alone(0), alone(1)], 1).reshape([4, 1, 3, 4]);
    assert_close(together, expected, 1e-15);
}

/// A sequence of one token: every layer reads that token, whatever the query.
#[test]
fn one_key_returns_its_value() {
    let initializer = &mut Initializer::seeded(Seed(1));
    let token = random([2, 3, 4], "token");
    let layer = MultiHeadAttention::<B>::new(4, 2, initializer, &device());
    let queries = random([2, 6, 4], "queries");
    let (read, map) = layer.attend(queries, token.clone(), 3, None, &Pass::evaluation());
    assert_eq!(values(map), [1.0; 24]);
    let value = layer.output.forward(layer.value.forward(token.clone()));
    let twice = value.reshape([2, 3, 1, 4]).expand([2, 3, 2, 4]);
    assert_close(read, twice.reshape([2, 6, 4]), 1e-14);

    let hierarchical = Hierarchical::<B>::new(4, 3, initializer, &device());
    let (read, maps) = hierarchical.forward(token.clone(), 1, 1, &HierarchicalMasks::default());
    assert_close(read, token, 1e-14);
    assert_eq!(
        (values(maps.within), values(maps.over)),
        (vec![1.0; 6], vec![1.0; 6])
    );
}

/// The sequences of an item are read by what is read of each: two levels are two pools.
#[test]
fn hierarchical_attention_is_a_pool_of_pools() {
    let layer = Hierarchical::<B>::new(3, 4, &mut Initializer::seeded(Seed(1)), &device());
    let x = random([2, 12, 3], "x");
    let (read, maps) = layer.forward(x.clone(), 2, 3, &HierarchicalMasks::default());
    let within = maps.within.reshape([2, 2, 2, 3, 1]);
    let weights = within * maps.over.reshape([2, 2, 2, 1, 1]);
    let summed = (x.reshape([2, 2, 2, 3, 3]) * weights).sum_dim(3).sum_dim(2);
    assert_close(read, summed.reshape([2, 2, 3]), 1e-14);
}

/// With a causal mask no token sees a later one.
#[test]
fn causal_blocks_do_not_see_the_future() {
    let attention = MultiHeadSettings {
        rotary: true,
        ..MultiHeadSettings::of_width(4, 2)
    };
    let block = Block::<B>::with(attention, 5, &mut Initializer::seeded(Seed(1)), &device());
    let block = block.expect("heads of two");
    let causal = mask::causal(4, &device());
    let run = |x| {
        block
            .forward_masked(x, 4, Some(&causal), &Pass::evaluation())
            .0
    };
    let x = random([1, 4, 4], "x");
    let other = Tensor::cat(
        vec![x.clone().narrow(1, 0, 2), random([1, 2, 4], "future")],
        1,
    );
    let (found, other) = (run(x), run(other));
    assert_close(
        found.clone().narrow(1, 0, 2),
        other.clone().narrow(1, 0, 2),
        0.0,
    );
    let future = |y: Tensor<B, 3>| values(y.narrow(1, 2, 2));
    assert_ne!(future(found), future(other));
}

/// The gate between the two is a share: `h` lies between `tanh`s, at one of them where it is shut.
#[test]
fn a_gate_mixes_the_modalities() {
    let fusion = GatedFusion::<B>::new([2, 3], 4, &mut Initializer::seeded(Seed(1)), &device());
    let (a, b) = (random([2, 3, 2], "a"), random([2, 3, 3], "b"));
    let zero = |x: &Tensor<B, 3>| x.zeros_like();
    let (first, _) = fusion.forward(a.clone(), zero(&b));
    let (second, _) = fusion.forward(zero(&a), b.clone());
    let (mixed, gate) = fusion.forward(a.clone(), b.clone());
    // Without biases, tanh(0) = 0: what each alone gives is its own gate times its own tanh.
    let own = |h: Tensor<B, 3>, z: Tensor<B, 3>| h / z;
    let alone = |x: Tensor<B, 3>, y: Tensor<B, 3>| fusion.forward(x, y).1;
    let h_a = own(first, alone(a.clone(), zero(&b)));
    let h_b = own(second, alone(zero(&a), b).neg().add_scalar(1.0));
    assert_close(
        mixed,
        gate.clone() * h_a + gate.neg().add_scalar(1.0) * h_b,
        1e-12,
    );
}

/// Turning keeps lengths, leaves the first token, and makes products depend on the distance alone.
#[test]
fn rotary_products_depend_on_the_distance() {
    let token = |name: &str| random([1, 1, 8], name).expand([1, 5, 8]);
    let turned = |name: &str| position::rotate(token(name), 2).reshape([1, 5, 2, 4]);
    let (q, k) = (turned("q").swap_dims(1, 2), turned("k").swap_dims(1, 2));
    let first = q.clone().narrow(2, 0, 1);
    assert_close(first.reshape([1, 1, 8]), random([1, 1, 8], "q"), 1e-15);
    let lengths = (q.clone() * q.clone()).sum_dim(3);
    assert_close(
        lengths.clone(),
        lengths.narrow(2, 0, 1).expand([1, 2, 5, 1]),
        1e-14,
    );
    let scores = q.matmul(k.swap_dims(2, 3));
    let inner = |from: usize| scores.clone().narrow(2, from, 4).narrow(3, from, 4);
    assert_close(inner(1), inner(0), 1e-14);
    let row = values(scores.narrow(1, 0, 1).narrow(2, 0, 1));
    assert!((row[0] - row[1]).abs() > 1e-3, "the distance matters");
}

/// Sines and cosines by their definition; the product of two positions depends on their distance.
#[test]
fn sinusoidal_positions_in_closed_form() {
    let found = position::sinusoidal::<B>(6, 4, &device()).reshape([6, 4]);
    let expected: Vec<f64> = (0..6)
        .flat_map(|p| {
            let p = f64::from(p);
            [p.sin(), p.cos(), (p / 100.0).sin(), (p / 100.0).cos()]
        })
        .collect();
    assert_close(found.clone(), tensor(expected, [6, 4]), 1e-14);
    let products = found.clone().matmul(found.transpose());
    let inner = |from: usize| products.clone().narrow(0, from, 4).narrow(1, from, 4);
    assert_close(inner(2), inner(0), 1e-14);
    let placed = position::place(
        random([2, 12, 4], "x"),
        position::sinusoidal::<B>(6, 4, &device()),
    );
    let difference = placed - random([2, 12, 4], "x");
    let own = position::sinusoidal::<B>(6, 4, &device()).reshape([1, 1, 6, 4]);
    assert_close(
        difference.reshape([2, 2, 6, 4]),
        own.expand([2, 2, 6, 4]),
        1e-12,
    );
}

#[test]
fn impossible_widths_are_refused() {
    let of = |settings: MultiHeadSettings| {
        let initializer = &mut Initializer::zeros();
        let built = MultiHeadAttention::<B>::with(settings, initializer, &device());
        built.map(|_| ()).unwrap_err().to_string()
    };
    let good = MultiHeadSettings::of_width(6, 3);
    for (settings, expected) in [
        (
            MultiHeadSettings { heads: 4, ..good },
            "`attention.heads = 4`: must divide the width of the keys = 6",
        ),
        (
            MultiHeadSettings {
                value_width: 7,
                ..good
            },
            "`attention.heads = 3`: must divide the width of the values = 7",
        ),
        (
            MultiHeadSettings { heads: 0, ..good },
            "`attention.heads = 0`: must be at least 1",
        ),
        (
            MultiHeadSettings {
                heads: 2,
                rotary: true,
                ..good
            },
            "`attention.heads = 2`: rotary positions turn pairs",
        ),
        (
            MultiHeadSettings {
                dropout: 1.0,
                ..good
            },
            "`attention.dropout = 1`: must be in [0, 1)",
        ),
    ] {
        let message = of(settings);
        assert!(message.starts_with(expected), "{message}");
    }
}
