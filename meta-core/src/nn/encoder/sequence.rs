//! Items as sequences: what their steps are.

use burn::tensor::{Bool, Int, Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    data::ItemShape,
    nn::{attention::MapAxis, recurrent::Reading},
    primitives::{MatrixProduct, Primitives},
};

/// How an item is read step by step: an item with rows has one row for each step, with all its
/// columns and channels; a vector has one feature for each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Number of steps `l`.
    pub length: usize,
    /// Numbers in one step.
    pub features: usize,
    /// Whether the steps are the features of a vector.
    of_vector: bool,
}

impl Steps {
    /// The steps of an item of this shape.
    pub fn of(item: ItemShape) -> Self {
        match (item.height, item.width) {
            (1, 1) => Steps {
                length: item.channels,
                features: 1,
                of_vector: true,
            },
            (height, width) => Steps {
                length: height,
                features: width * item.channels,
                of_vector: false,
            },
        }
    }

    /// The steps as parts of an item: one below the other, or side by side for a vector.
    pub fn axis(self) -> MapAxis {
        if self.of_vector {
            MapAxis::Part(1, self.length)
        } else {
            MapAxis::Part(self.length, 1)
        }
    }

    /// Refuses items of a single step for the encoder of this name.
    pub(super) fn check(encoder: &str, item: ItemShape) -> Result<()> {
        match Steps::of(item).length {
            0 | 1 => Err(Error::setting(
                "encoder.name",
                encoder,
                format!(
                    "needs items of at least two steps (rows, or features of a vector), and items of \
                     {}×{}×{} have one",
                    item.height, item.width, item.channels
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Which steps are not there, `[t·b, 1, 1, l]` (true: not read): the rows of zeros of items `[t, b, f]`, with
    /// which sources of texts and series fill up what is shorter. Every feature of a vector is there.
    ///
    /// What is masked so is left out exactly: more rows of zeros change nothing.
    pub fn padding<B: Backend>(self, x: &Tensor<B, 3>) -> Tensor<B, 4, Bool> {
        let hidden = rows_of_zeros(x.clone(), self.length);
        if self.of_vector {
            // No row is both of zeros and not.
            return hidden.clone().bool_and(hidden.bool_not());
        }
        hidden
    }

    /// 1 at the steps that are there, else 0, `[t, b·l, 1]`: all but those of [`Steps::padding`].
    pub fn there<B: Backend>(self, x: &Tensor<B, 3>) -> Tensor<B, 3> {
        let [t, b, _] = x.dims();
        let there = self.padding(x).bool_not().float().cast(x.dtype());
        there.reshape([t, b * self.length, 1])
    }

    /// How recurrent layers read items `[t, b, f]`: without the steps of [`Steps::padding`], where it is asked
    /// for.
    pub fn reading<B: Backend>(self, x: &Tensor<B, 3>, padding: bool) -> Reading<B> {
        match padding {
            true => self.reading_without(&self.padding(x), x),
            false => Reading::of(self.length),
        }
    }

    /// How recurrent layers read items `[t, b, f]` without the steps that are `hidden`, `[t·b, 1, 1, l]`.
    pub(super) fn reading_without<B: Backend>(
        self,
        hidden: &Tensor<B, 4, Bool>,
        x: &Tensor<B, 3>,
    ) -> Reading<B> {
        let [t, b, _] = x.dims();
        let there = hidden.clone().bool_not().float().cast(x.dtype());
        Reading {
            mask: Some(there.reshape([t, b * self.length, 1])),
            ..Reading::of(self.length)
        }
    }

    /// Items `[t, b, f]` as steps, one row each: `[t, b·l, f / l]`.
    pub fn rows<B: Backend>(self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [t, b, _] = x.dims();
        x.reshape([t, b * self.length, self.features])
    }
}

/// What of the steps is the embedding of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepPooling {
    /// The mean of the steps that are there.
    Mean,
    /// The largest number of each channel.
    Max,
    /// The last step that is there.
    Last,
    /// All of them, one after the other, for learners that read steps themselves.
    None,
}

impl StepPooling {
    /// Width of an embedding of items of `length` steps of `channels` numbers.
    pub(super) fn width(self, length: usize, channels: usize) -> usize {
        match self {
            StepPooling::None => length.saturating_mul(channels),
            _ => channels,
        }
    }

    /// Steps of items of `length`, `x [t, b·l, c]`, none below 0 and those that are not `there` ([`Steps::there`])
    /// of zeros, to `[t, b, width]`. An item without any is 0.
    pub(super) fn of<B: Primitives>(
        self,
        x: Tensor<B, 3>,
        there: &Tensor<B, 3>,
        length: usize,
    ) -> Tensor<B, 3> {
        let [t, rows, c] = x.dims();
        let b = rows / length;
        let weights = match self {
            StepPooling::None => return x.reshape([t, b, length * c]),
            StepPooling::Max => {
                let largest = x.reshape([t * b, length, c]).max_dim(1);
                return largest.reshape([t, b, c]);
            }
            StepPooling::Mean => {
                let there = there.clone().reshape([t * b, length]);
                let count = there.clone().sum_dim(1).clamp_min(1.0);
                there / count
            }
            StepPooling::Last => last_there(there.clone().reshape([t * b, length])),
        };
        let weights = weights.reshape([t * b, 1, length]);
        let read = weights.product(x.reshape([t * b, length, c]));
        read.reshape([t, b, c])
    }
}

/// 1 at the last 1 of each row, else 0: `[n, l]` to `[n, l]`.
pub(super) fn last_there<B: Backend>(there: Tensor<B, 2>) -> Tensor<B, 2> {
    let [n, length] = there.dims();
    let numbers = Tensor::<B, 1, Int>::arange(1..length as i64 + 1, &there.device());
    let numbers = numbers.float().cast(there.dtype()).reshape([1, length]);
    let numbers = there.clone() * numbers;
    let last = numbers.clone().max_dim(1).expand([n, length]);
    there.clone() * numbers.equal(last).float().cast(there.dtype())
}

/// Rows `x [t, r, c]` with zeros where `there [t, r, 1]` is 0.
pub(super) fn only_there<B: Backend>(x: Tensor<B, 3>, there: &Tensor<B, 3>) -> Tensor<B, 3> {
    let [t, rows, c] = x.dims();
    // As a matrix, since backends are fastest there with one number for each row.
    let there = there.clone().reshape([t * rows, 1]);
    (x.reshape([t * rows, c]) * there).reshape([t, rows, c])
}

/// Which of `length` equal parts of each item `[t, b, f]` are of zeros alone: `[t·b, 1, 1, length]`.
pub(super) fn rows_of_zeros<B: Backend>(x: Tensor<B, 3>, length: usize) -> Tensor<B, 4, Bool> {
    let [t, b, f] = x.dims();
    let parts = x.detach().reshape([t * b, length, f / length]);
    let largest = parts.abs().sum_dim(2);
    largest.equal_elem(0.0).reshape([t * b, 1, 1, length])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Tensor, TensorData};
    use serde_json::{Value, json};

    use crate::{
        backend::Cpu,
        data::ItemShape,
        nn::{
            Pass,
            encoder::{AnyEncoder, Architecture, Encoder, EncoderSpec},
            init::Initializer,
        },
        params::Params,
        rng::Seed,
    };

    const FEATURES: usize = 3;

    fn model(name: &str, settings: &Value, length: usize) -> AnyEncoder<Cpu> {
        let item = ItemShape {
            height: length,
            width: 1,
            channels: FEATURES,
        };
        let spec = EncoderSpec::new(name, settings, item).expect("settings that are read");
        spec.init::<Cpu>(&mut Initializer::seeded(Seed(3)), &Default::default())
    }

    fn numbers(count: usize, name: &str) -> Vec<f32> {
        let mut stream = Seed(5).stream("sequence", 0, name);
        (0..count).map(|_| stream.normal() as f32).collect()
    }

    fn run(model: &AnyEncoder<Cpu>, items: &[Vec<f32>]) -> Vec<f32> {
        let shape = [1, items.len(), items[0].len()];
        let x = Tensor::<Cpu, 3>::from_data(
            TensorData::new(items.concat(), shape),
            &Default::default(),
        );
        let found = model.forward(x, &Pass::evaluation());
        found.into_data().to_vec().expect("f32")
    }

    /// Every encoder that reads masks.
    fn readers() -> Vec<(&'static str, Value)> {
        let pooling = |settings: Value| ("attention_pooling", settings);
        let mut readers = vec![
            ("bag", json!({})),
            ("bag", json!({"hidden": [4, 2]})),
            ("text_cnn", json!({"widths": [2, 3], "filters": 3})),
            ("lstm", json!({"hidden": 3, "layers": 2, "padding": true})),
            ("bilstm", json!({"hidden": 3, "layers": 2, "padding": true})),
        ];
        for pool in ["mean", "max", "last"] {
            let of_conv = json!({"filters": [4, 3], "kernels": [3, 2], "pool": pool});
            readers.push(("conv1d", of_conv));
            let of_tcn = json!({"width": 3, "kernel": 2, "levels": 2, "pool": pool});
            readers.push(("tcn", of_tcn));
        }
        for causal in [false, true] {
            readers.push((
                "transformer",
                json!({"width": 4, "heads": 2, "hidden": 5, "padding": true, "causal": causal}),
            ));
        }
        for inducing in [0, 2] {
            readers.push((
                "set_transformer",
                json!({"width": 4, "heads": 2, "hidden": 5, "padding": true, "inducing": inducing}),
            ));
        }
        for recurrent in [0, 2] {
            for attention in ["softmax", "uniform"] {
                for kind in ["additive", "dot", "hard", "hierarchical"] {
                    readers.push(pooling(json!({
                        "kind": kind, "hidden": 4, "span": 2, "recurrent": recurrent, "attention": attention,
                    })));
                }
                readers.push(pooling(json!({
                    "kind": "multi_head", "heads": if recurrent == 0 { 3 } else { 2 }, "recurrent": recurrent,
                    "attention": attention,
                })));
            }
        }
        readers
    }

    /// Items of 6 rows with two more of zeros have the embeddings of those without: the same parameters, and
    /// only sums over other numbers of zeros, so rounding in single precision of numbers of about 1.
    #[test]
    fn padding_changes_nothing() {
        for (name, settings) in readers() {
            let short: Vec<Vec<f32>> = ["a", "b"].map(|item| numbers(6 * FEATURES, item)).into();
            let mut long = short.clone();
            long.iter_mut()
                .for_each(|item| item.resize(8 * FEATURES, 0.0));
            let (few, many) = (model(name, &settings, 6), model(name, &settings, 8));
            assert_eq!(
                Params::of(&few).to_data(),
                Params::of(&many).to_data(),
                "{name} {settings}"
            );
            let (expected, found) = (run(&few, &short), run(&many, &long));
            assert!(
                expected.iter().any(|number| number.abs() > 1e-3),
                "{name} {settings}"
            );
            for (expected, found) in expected.iter().zip(&found) {
                assert!(
                    (expected - found).abs() < 1e-5,
                    "{name} {settings}: {expected} {found}"
                );
            }
        }
    }

    /// Each item has its own length, and one without any row is a number all the same.
    #[test]
    fn items_have_lengths_of_their_own() {
        for (name, settings) in readers() {
            let model = model(name, &settings, 6);
            let items: Vec<Vec<f32>> = [6, 4, 2, 0]
                .map(|rows| {
                    let mut item = numbers(rows * FEATURES, "item");
                    item.resize(6 * FEATURES, 0.0);
                    item
                })
                .into();
            let together = run(&model, &items);
            let width = together.len() / items.len();
            for (item, together) in items.iter().zip(together.chunks_exact(width)) {
                let alone = run(&model, std::slice::from_ref(item));
                for (alone, together) in alone.iter().zip(together) {
                    assert!(alone.is_finite(), "{name} {settings}");
                    assert!(
                        (alone - together).abs() < 1e-5,
                        "{name} {settings}: {alone} {together}"
                    );
                }
            }
        }
    }

    /// Features of a vector that are zero are values.
    #[test]
    fn vectors_have_no_padding() {
        let item = ItemShape {
            height: 1,
            width: 1,
            channels: 3,
        };
        let x = Tensor::<Cpu, 3>::from_data([[[0.0, 1.0, 0.0]]], &Default::default());
        let hidden = super::Steps::of(item).padding(&x).into_data();
        assert_eq!(hidden.iter::<bool>().collect::<Vec<_>>(), [false; 3]);
        let rows = ItemShape { height: 3, ..item };
        let rows = ItemShape {
            channels: 1,
            ..rows
        };
        let hidden = super::Steps::of(rows).padding(&x).into_data();
        assert_eq!(
            hidden.iter::<bool>().collect::<Vec<_>>(),
            [true, false, true]
        );
    }
}
