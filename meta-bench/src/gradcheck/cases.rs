//! Defines the cases: operations, layers and encoders, each at a small size.

use burn::tensor::{Bool, Int, Tensor, TensorPrimitive};
use meta_core::{
    data::ItemShape,
    gradcheck::{Function, ModuleCase},
    nn::{
        Mode, Noise, Pass, activation,
        attention::{
            AdditiveScores, Block, BlockSettings, CrossModal, Hierarchical, HierarchicalMasks,
            MultiHeadAttention, MultiHeadSelfAttention, MultiHeadSettings, gumbel_softmax,
        },
        distance,
        encoder::{Architecture, Encoder, EncoderEntry, EncoderList},
        init::Initializer,
        linear::Linear,
        loss,
        norm::{Norm, Statistics},
        recurrent::{BiLstm, Gru, LstmCell, LstmState, Reading},
        solve::solve_positive_definite,
        temporal::{TcBlock, Timeline},
    },
    primitives::{
        Primitives, RecurrenceInputs, RecurrentCell, Shown, add_rows, bias_relu, broadcast_rows,
        conv2d, linear, masked_softmax, max_pool2d, recur, scale, standardize, standardize_pool2d,
        sum_rows,
    },
    rng::Seed,
    toolkit::Toolkit,
};
use serde_json::Value;

use super::checks::Checks;
use crate::failure::Result;

/// A weighted sum of the tanh of everything in `y`: a scalar that has all derivatives.
fn scalar<L: Primitives, const D: usize>(y: Tensor<L, D>) -> Tensor<L, 1> {
    let y = flat(y).tanh();
    let weights = meta_core::gradcheck::scatter(y.dims()[0], 5);
    let weights = Tensor::<L, 1>::from_data(weights.as_slice(), &y.device());
    (y * weights).sum()
}

fn flat<L: Primitives, const D: usize>(y: Tensor<L, D>) -> Tensor<L, 1> {
    let length = y.shape().num_elements();
    y.reshape([length])
}

/// Checks `scalar(body)` as a function of `inputs`.
macro_rules! op {
    ($checks:expr, $name:literal, $case:literal, $lengths:expr, |$v:ident| $body:expr) => {{
        struct Op;
        impl Function for Op {
            fn value<L: Primitives>(&self, $v: &[Tensor<L, 1>]) -> Tensor<L, 1> {
                scalar($body)
            }
        }
        $checks.op($name, $case, &Op, &$lengths);
    }};
}

/// Numbers as a tensor of this shape.
fn at<L: Primitives, const D: usize>(v: &Tensor<L, 1>, shape: [usize; D]) -> Tensor<L, D> {
    v.clone().reshape(shape)
}

/// Checks the operations.
pub fn operations<B: Primitives>(checks: &mut Checks<B>) {
    products(checks);
    rows_and_windows(checks);
    recurrences(checks);
    losses(checks);
}

/// Recurrences in all their operands: a weight per task, a mask, read backwards; and what a state of a
/// longer sequence carries on.
fn recurrences<B: Primitives>(checks: &mut Checks<B>) {
    macro_rules! recurrence {
        ($case:literal, $cell:expr, $gates:literal, $rows:literal, $states:literal, $shown:expr, $reverse:literal) => {
            op!(
                checks,
                "recur",
                $case,
                [
                    2 * 6 * 2 * $gates,
                    2 * $rows * 2 * $gates,
                    2 * 2 * 2 * $states
                ],
                |v| {
                    let mask = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0];
                    let mask = Tensor::<L, 1>::from_floats(mask, &v[0].device());
                    let inputs = RecurrenceInputs {
                        z: at(&v[0], [2, 6, 2 * $gates]),
                        u: at(&v[1], [2, $rows, 2 * $gates]),
                        start: at(&v[2], [2, 2, 2 * $states]),
                        mask: Some(mask.reshape([1, 6, 1]).expand([2, 6, 1])),
                    };
                    recur($cell, inputs, $shown, $reverse)
                }
            );
        };
    }
    recurrence!(
        "LSTM, all states",
        RecurrentCell::Lstm,
        4,
        2,
        2,
        Shown::Trace,
        false
    );
    recurrence!(
        "LSTM, backwards",
        RecurrentCell::Lstm,
        4,
        2,
        2,
        Shown::Hidden,
        true
    );
    recurrence!(
        "GRU, the last state",
        RecurrentCell::Gru,
        3,
        3,
        1,
        Shown::Last,
        false
    );
    recurrence!(
        "GRU, backwards",
        RecurrentCell::Gru,
        3,
        3,
        1,
        Shown::Hidden,
        true
    );
}

/// Linear maps of an input by a weight.
fn products<B: Primitives>(checks: &mut Checks<B>) {
    op!(checks, "linear", "shared weights", [12, 6], |v| linear(
        at(&v[0], [2, 3, 2]),
        at(&v[1], [1, 2, 3])
    ));
    op!(checks, "linear", "a weight per task", [12, 12], |v| linear(
        at(&v[0], [2, 3, 2]),
        at(&v[1], [2, 2, 3])
    ));
    op!(checks, "conv2d", "3×3, shared weights", [48, 36], |v| {
        let (x, w) = (at(&v[0], [2, 1, 4, 3, 2]), at(&v[1], [1, 9, 2, 2]));
        conv2d(x, w, 1, 1)
    });
    op!(
        checks,
        "conv2d",
        "3×3, stride 2, a weight per task",
        [48, 72],
        |v| {
            let (x, w) = (at(&v[0], [2, 1, 4, 3, 2]), at(&v[1], [2, 9, 2, 2]));
            conv2d(x, w, 2, 1)
        }
    );
    op!(checks, "scale", "shared", [12, 2], |v| scale(
        at(&v[0], [2, 3, 2]),
        at(&v[1], [1, 1, 2])
    ));
    op!(checks, "scale", "per task", [12, 4], |v| scale(
        at(&v[0], [2, 3, 2]),
        at(&v[1], [2, 1, 2])
    ));
}

/// Sums and statistics over rows and windows, and a step along a gradient.
fn rows_and_windows<B: Primitives>(checks: &mut Checks<B>) {
    op!(checks, "broadcast_rows", "", [3], |v| broadcast_rows(
        at(&v[0], [1, 1, 3]),
        2,
        4
    ));
    op!(checks, "sum_rows", "", [24], |v| sum_rows(at(
        &v[0],
        [2, 4, 3]
    )));
    op!(checks, "add_rows", "", [24, 6], |v| add_rows(
        at(&v[0], [2, 4, 3]),
        at(&v[1], [2, 1, 3])
    ));
    op!(checks, "bias_relu", "", [24, 6], |v| bias_relu(
        at(&v[0], [2, 4, 3]),
        at(&v[1], [2, 1, 3])
    ));
    op!(checks, "max_pool2d", "2×2 on 5×4", [40], |v| max_pool2d(
        at(&v[0], [1, 5, 4, 2]),
        2
    ));
    op!(checks, "standardize", "", [30], |v| standardize(
        at(&v[0], [2, 5, 3]),
        1e-2
    ));
    op!(checks, "standardize_pool2d", "2×2 on 4×5", [80, 2], |v| {
        let (x, gamma) = (at(&v[0], [2, 1, 4, 5, 2]), at(&v[1], [1, 1, 2]));
        standardize_pool2d(x, gamma, 2, 1e-2)
    });
    op!(checks, "sgd_step", "", [4, 4], |v| {
        let [theta, g] = [0, 1].map(|i| v[i].clone().into_primitive().tensor());
        Tensor::<L, 1>::from_primitive(TensorPrimitive::Float(L::sgd_step(theta, g, 0.3)))
    });
}

/// Solutions, losses, distances and activations.
fn losses<B: Primitives>(checks: &mut Checks<B>) {
    op!(
        checks,
        "solve_positive_definite",
        "two 3×3 systems",
        [18, 12],
        |v| {
            let root = at(&v[0], [2, 3, 3]);
            let identity = Tensor::<L, 2>::eye(3, &root.device()).reshape([1, 3, 3]);
            let a = root.clone().matmul(root.swap_dims(1, 2)) + identity;
            solve_positive_definite(a, at(&v[1], [2, 3, 2]))
        }
    );
    op!(checks, "cross_entropy", "", [18], |v| {
        let device = v[0].device();
        let labels = Tensor::<L, 2, Int>::from_data([[0, 1, 2], [2, 2, 0]], &device);
        loss::cross_entropy(at(&v[0], [2, 3, 3]), labels)
    });
    op!(checks, "squared_error", "", [12, 12], |v| {
        loss::squared_error(at(&v[0], [2, 3, 2]), at(&v[1], [2, 3, 2]))
    });
    op!(checks, "squared_distances", "", [12, 8], |v| {
        distance::squared_distances(at(&v[0], [2, 3, 2]), at(&v[1], [2, 2, 2]))
    });
    op!(checks, "cosines", "", [12, 8], |v| distance::cosines(
        at(&v[0], [2, 3, 2]),
        at(&v[1], [2, 2, 2])
    ));
    op!(checks, "gumbel_softmax", "two tasks", [12], |v| {
        let scores = at(&v[0], [2, 1, 2, 3]);
        gumbel_softmax(scores, None, 0.7, 2, &noisy())
    });
    op!(checks, "sigmoid", "", [6], |v| activation::sigmoid(
        v[0].clone()
    ));
    op!(checks, "softplus", "", [6], |v| activation::softplus(
        v[0].clone()
    ));
}

/// Checks a module in its parameters and inputs.
macro_rules! layer {
    ($checks:expr, $name:literal, $case:literal, $lengths:expr, $module:ty,
     |$initializer:ident, $device:ident| $new:expr, |$layer:ident, $v:ident| $forward:expr) => {{
        struct Layer;
        impl ModuleCase for Layer {
            type Module<L: Primitives> = $module;

            fn module<L: Primitives>(&self, $device: &L::Device) -> Self::Module<L> {
                let $initializer = &mut Initializer::seeded(Seed(3));
                $new
            }

            fn output<L: Primitives>(
                &self,
                $layer: &Self::Module<L>,
                $v: &[Tensor<L, 1>],
            ) -> Tensor<L, 1> {
                flat($forward)
            }
        }
        $checks.module("layer", $name, $case, &Layer, &$lengths);
    }};
}

/// Checks the layers.
pub fn layers<B: Primitives>(checks: &mut Checks<B>) {
    linear_and_norms(checks);
    attention_layers(checks);
    sequence_layers(checks);
    attention_blocks(checks);
}

fn linear_and_norms<B: Primitives>(checks: &mut Checks<B>) {
    layer!(
        checks,
        "Linear",
        "",
        [12],
        Linear<L>,
        |init, device| Linear::glorot(2, 3, init, device),
        |layer, v| layer.forward(at(&v[0], [2, 3, 2]))
    );
    macro_rules! norm {
        ($case:literal, $statistics:expr) => {
            layer!(
                checks,
                "Norm",
                $case,
                [36],
                Norm<L>,
                |_init, device| Norm::new(3, $statistics, "", device),
                |layer, v| layer.forward(
                    at(&v[0], [2, 6, 3]),
                    3,
                    &Pass::training().with_reference(2)
                )
            );
        };
    }
    norm!("episode", Statistics::Episode);
    norm!("support", Statistics::Support);
    norm!("running", Statistics::Running);
    norm!("layer", Statistics::Layer);
}

fn attention_layers<B: Primitives>(checks: &mut Checks<B>) {
    layer!(
        checks,
        "MultiHeadSelfAttention",
        "2 heads",
        [48],
        MultiHeadSelfAttention<L>,
        |init, device| MultiHeadSelfAttention::new(4, 2, init, device),
        |layer, v| layer.forward(at(&v[0], [2, 6, 4]), 3).0
    );
    layer!(
        checks,
        "MultiHeadAttention",
        "queries to a memory; uneven widths, rotary, dropout",
        [40, 36],
        MultiHeadAttention<L>,
        |init, device| {
            let settings = MultiHeadSettings {
                memory: 3,
                key_width: 4,
                value_width: 6,
                dropout: 0.3,
                rotary: true,
                ..MultiHeadSettings::of_width(5, 2)
            };
            MultiHeadAttention::with(settings, init, device).expect("heads of two and three")
        },
        |layer, v| {
            let (queries, memory) = (at(&v[0], [2, 4, 5]), at(&v[1], [2, 6, 3]));
            layer.attend(queries, memory, 2, None, &noisy()).0
        }
    );
    layer!(
        checks,
        "Hierarchical",
        "two sequences of three",
        [24],
        Hierarchical<L>,
        |init, device| Hierarchical::new(2, 3, init, device),
        |layer, v| layer
            .forward(at(&v[0], [2, 6, 2]), 2, 3, &HierarchicalMasks::default())
            .0
    );
    layer!(
        checks,
        "CrossModal",
        "2 heads, gated",
        [32, 36],
        CrossModal<L>,
        |init, device| {
            let settings = MultiHeadSettings {
                memory: 3,
                ..MultiHeadSettings::of_width(4, 2)
            };
            CrossModal::new(settings, init, device).expect("heads of two")
        },
        |layer, v| {
            let (asking, read) = (at(&v[0], [2, 4, 4]), at(&v[1], [2, 6, 3]));
            layer.forward(asking, read, 2, None, &noisy()).0
        }
    );
}

fn sequence_layers<B: Primitives>(checks: &mut Checks<B>) {
    layer!(
        checks,
        "BiLstm",
        "three steps",
        [36],
        BiLstm<L>,
        |init, device| BiLstm::new(3, 2, init, device),
        |layer, v| {
            let both = layer.forward(at(&v[0], [2, 6, 3]), &Reading::of(3));
            Tensor::cat(vec![both.0, both.1], 2)
        }
    );
    layer!(
        checks,
        "LstmCell",
        "one step from a state",
        [12, 16],
        LstmCell<L>,
        |init, device| LstmCell::new(3, 2, init, device),
        |layer, v| {
            let both = at(&v[1], [2, 2, 4]);
            layer.forward(at(&v[0], [2, 2, 3]), LstmState { both }).both
        }
    );
    layer!(
        checks,
        "Gru",
        "sequences of three and two steps",
        [36],
        Gru<L>,
        |init, device| Gru::new(3, 2, init, device),
        |layer, v| {
            let mask = Tensor::<L, 1>::from_floats([1.0, 1.0, 1.0, 1.0, 1.0, 0.0], &v[0].device());
            let reading = Reading {
                mask: Some(mask.reshape([1, 6, 1]).expand([2, 6, 1])),
                ..Reading::of(3)
            };
            layer.last(at(&v[0], [2, 6, 3]), &reading)
        }
    );
    layer!(
        checks,
        "TcBlock",
        "three steps, two ends",
        [20],
        TcBlock<L>,
        |init, device| TcBlock::new(2, 2, 4, init, device),
        |layer, v| layer.forward(at(&v[0], [2, 5, 2]), Timeline { length: 3, ends: 2 })
    );
}

fn attention_blocks<B: Primitives>(checks: &mut Checks<B>) {
    layer!(
        checks,
        "Block",
        "2 heads",
        [48],
        Block<L>,
        |init, device| {
            Block::new(
                BlockSettings {
                    width: 4,
                    heads: 2,
                    hidden: 5,
                },
                init,
                device,
            )
        },
        |layer, v| layer.forward(at(&v[0], [2, 6, 4]), 3, &Pass::training()).0
    );
    layer!(
        checks,
        "AdditiveScores",
        "masked, read",
        [8, 18, 12],
        AdditiveScores<L>,
        |init, device| AdditiveScores::new(2, 3, 4, init, device),
        |layer, v| {
            let scores = layer.forward(at(&v[0], [2, 2, 2]), at(&v[1], [2, 3, 3]));
            let hidden = Tensor::<L, 4, Bool>::from_data(
                [[[[true, true, true], [false, false, true]]]],
                &v[0].device(),
            );
            masked_softmax(scores, hidden, 1.0).matmul(at(&v[2], [2, 1, 3, 2]))
        }
    );
}

/// A pass of training over two tasks in which dropout draws, the same numbers every time.
fn noisy<L: Primitives>() -> Pass<L> {
    Pass::new(Mode::training(Some(Noise::new(
        Seed(4),
        [0, 1].into(),
        "check",
        0,
    ))))
}

/// Images of the encoders.
const IMAGE: ItemShape = ItemShape {
    height: 4,
    width: 4,
    channels: 1,
};

/// Every encoder, with settings that make it small.
pub fn small_encoders(entries: &[EncoderEntry]) -> Vec<(&'static str, Value)> {
    let small = |entry: &EncoderEntry| {
        let name = entry.info.name;
        (entry.small)()
            .into_iter()
            .map(move |settings| (name, settings))
    };
    entries.iter().flat_map(small).collect()
}

struct OfEncoder<A>(A);

impl<A: Architecture> ModuleCase for OfEncoder<A> {
    type Module<L: Primitives> = A::Model<L>;

    fn module<L: Primitives>(&self, device: &L::Device) -> Self::Module<L> {
        self.0.init(&mut Initializer::seeded(Seed(3)), device)
    }

    fn output<L: Primitives>(
        &self,
        module: &Self::Module<L>,
        inputs: &[Tensor<L, 1>],
    ) -> Tensor<L, 1> {
        let x = at(&inputs[0], [2, 3, IMAGE.features()]);
        flat(module.forward(x, &noisy().with_reference(2)))
    }
}

/// Checks the encoders.
///
/// # Errors
/// When the small settings of an encoder cannot be used.
pub fn encoders<T: Toolkit, B: Primitives>(checks: &mut Checks<B>) -> Result<()> {
    for (name, settings) in small_encoders(&T::Encoders::entries()) {
        let encoder = OfEncoder(T::Encoders::new(name, &settings, IMAGE)?);
        let case = settings.to_string();
        checks.module("encoder", name, &case, &encoder, &[6 * IMAGE.features()]);
    }
    Ok(())
}
