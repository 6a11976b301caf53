//! Attention over the rows of an item: a learned query reads what matters of it.

use burn::{
    module::{Module, Param},
    tensor::{Bool, Tensor, backend::Backend},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Encoder, EncoderInfo, EncoderSettings, Operations, Steps, products, sequence::rows_of_zeros,
};
use crate::{
    Error, Result,
    data::ItemShape,
    nn::{
        Pass,
        attention::{
            AttentionPool, Hierarchical, MapAxis, MultiHeadAttention, MultiHeadSettings, Weighting,
            check_heads, gumbel_straight_through, soft, straight_through,
        },
        dropout::dropout,
        init::Initializer,
        recurrent::BiLstm,
    },
    primitives::{MatrixProduct, Primitives, broadcast_rows, join, linear},
    settings,
};

/// How the rows of an item are scored and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolingKind {
    /// `u · tanh(W x + b)`: a small network scores each row.
    Additive,
    /// `u · x / √d`.
    Dot,
    /// Several queries, each with projections of its own.
    MultiHead,
    /// The row of the highest additive score alone.
    Hard,
    /// Additive within spans of rows, then over the spans.
    Hierarchical,
}

/// How hard attention chooses a row in training, and has its gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HardChoice {
    /// The highest score; gradient of the softmax.
    StraightThrough,
    /// Drawn with the probabilities of the softmax; gradient of the Gumbel-softmax.
    Gumbel,
}

settings! {
    /// Settings of [`AttentionPooling`].
    pub struct AttentionPoolingSettings {
        /// How rows are scored and read: `additive`, `dot`, `multi_head`, `hard`, `hierarchical`.
        kind: PoolingKind = PoolingKind::Additive;
        /// Width of the state, in each direction, of a bidirectional LSTM that reads the rows first, and whose
        /// states are then what is attended to; 0 for none: the rows themselves.
        recurrent: usize = 64, size(0);
        /// Width of the network that scores a row (`additive`, `hard`, `hierarchical`).
        hidden: usize = 64, size(1);
        /// Heads of `multi_head`; must divide the width of what is attended to, twice `recurrent` or the
        /// features of a row.
        heads: usize = 4, size(0);
        /// Rows of a span of `hierarchical`; must divide the rows of an item.
        span: usize = 5, size(1);
        /// How `hard` chooses in training: `straight_through`, `gumbel`. At test it takes the row of the
        /// highest score.
        choice: HardChoice = HardChoice::StraightThrough;
        /// Temperature `τ` of `hard`: its gradient is that of the softmax of scores divided by it.
        temperature: f64 = 1.0, above(0.0);
        /// Probability with which a number of a row, and of a state of the LSTM, is dropped in training.
        dropout: f64 = 0.0, below_one();
        /// `softmax`, or `uniform`: all rows that are there alike, with the same parameters, to compare with.
        attention: Weighting = Weighting::Softmax;
    }
}

impl AttentionPoolingSettings {
    /// Width of what is attended to.
    fn attended(&self, item: ItemShape) -> usize {
        match self.recurrent {
            0 => Steps::of(item).features,
            width => 2 * width,
        }
    }
}

impl EncoderSettings for AttentionPoolingSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "attention_pooling",
        input: "sequence",
        summary: "a learned query attends to rows, or to LSTM states of them, without rows of zeros",
        paper: "additive: Bahdanau et al., ICLR 2015; dot, multi-head: Vaswani et al., NIPS 2017; hierarchical: Yang et al., NAACL 2016; hard: Bengio et al., 2013, Jang et al., ICLR 2017",
    };

    type Encoder<B: Primitives> = AttentionPooling<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        Steps::check(Self::INFO.name, item)?;
        let length = Steps::of(item).length;
        match self.kind {
            PoolingKind::MultiHead => {
                let what = "the width of what is attended to";
                check_heads("encoder.heads", self.heads, what, self.attended(item))
            }
            PoolingKind::Hierarchical if !length.is_multiple_of(self.span) => {
                let expected = format!("must divide {length}, the rows of an item");
                Err(Error::setting("encoder.span", self.span, expected))
            }
            _ => Ok(()),
        }
    }

    fn width(&self, item: ItemShape) -> usize {
        self.attended(item)
    }

    /// Of the LSTM as of `bilstm`; then scores and values.
    fn activations(&self, item: ItemShape) -> usize {
        let length = Steps::of(item).length;
        let recurrent = 28usize.saturating_mul(self.recurrent);
        let pooled = (2 * self.hidden).saturating_add(3 * self.attended(item));
        let step = recurrent
            .saturating_add(pooled)
            .saturating_add(2 * self.heads);
        length.saturating_mul(step).saturating_add(item.features())
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let Steps {
            length, features, ..
        } = Steps::of(item);
        let d = self.attended(item);
        let gates = |inputs: usize| 2.0 * products(&[length, inputs, 4 * self.recurrent]);
        let scores = match self.kind {
            PoolingKind::Dot => products(&[length, d]),
            PoolingKind::MultiHead => 2.0 * products(&[length, d, d]) + products(&[length, d]),
            _ => products(&[length, d + 1, self.hidden]),
        };
        let pooled = scores + products(&[length, d]);
        match self.recurrent {
            0 => Operations {
                first: pooled,
                rest: 0.0,
            },
            width => Operations {
                first: gates(features),
                rest: gates(width) + pooled,
            },
        }
    }

    fn widen(&mut self, width: usize) {
        self.recurrent = width;
    }

    /// Without `hard`, whose gradient is no derivative.
    fn small() -> Vec<Value> {
        let of = |kind: &str, recurrent: usize| {
            json!({
                "kind": kind, "recurrent": recurrent, "hidden": 3, "heads": 2, "span": 2,
            })
        };
        vec![
            of("additive", 2),
            of("additive", 0),
            of("dot", 0),
            of("multi_head", 2),
            of("hierarchical", 2),
        ]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> AttentionPooling<B> {
        let steps = Steps::of(item);
        let recurrent = (self.recurrent > 0)
            .then(|| BiLstm::new(steps.features, self.recurrent, initializer, device));
        let d = self.attended(item);
        let pool = match self.kind {
            PoolingKind::Additive | PoolingKind::Hard => {
                Pool::Additive(AttentionPool::new(d, self.hidden, initializer, device))
            }
            PoolingKind::Dot => Pool::Dot(DotPool {
                query: initializer.glorot([1, d, 1], d, 1, device),
            }),
            PoolingKind::MultiHead => Pool::MultiHead(HeadsPool {
                seed: initializer.glorot([1, 1, d], 1, d, device),
                heads: MultiHeadAttention::with(
                    MultiHeadSettings {
                        weighting: self.attention,
                        ..MultiHeadSettings::of_width(d, self.heads)
                    },
                    initializer,
                    device,
                )
                .expect("checked with the settings"),
            }),
            PoolingKind::Hierarchical => {
                Pool::Hierarchical(Hierarchical::new(d, self.hidden, initializer, device))
            }
        };
        AttentionPooling {
            recurrent,
            pool,
            steps,
            settings: self.clone(),
        }
    }
}

/// Reads the rows of an item, or the states of a bidirectional LSTM over them, by a learned query:
///
/// ```text
/// α = softmax(score(h_i)) over the rows that are there,    e = Σ α_i h_i
/// ```
///
/// | kind | score, read |
/// |---|---|
/// | additive | `u · tanh(W h + b)` |
/// | dot | `u · h / √d` |
/// | multi_head | of each head: `q · (W_k h + b_k) / √d_head`, values `W_v h + b_v`, and `W_o` over all |
/// | hard | additive; `e = h_i` of the highest score |
/// | hierarchical | additive in each span of rows, then additive over what is read of the spans |
///
/// A row of zeros is not there: it is neither attended to, nor does it move the state of the LSTM.
/// Derivatives of any order are exact but for `hard`, whose gradient is that of the softmax (biased).
///
/// # Differences from the papers
/// The query is one vector that is learned, for it is no decoder that asks. Yang et al. have GRUs, and another
/// one over sentences; spans are of equal numbers of rows, not of sentences.
#[derive(Module, Debug)]
pub struct AttentionPooling<B: Backend> {
    recurrent: Option<BiLstm<B>>,
    pool: Pool<B>,
    #[module(skip)]
    steps: Steps,
    #[module(skip)]
    settings: AttentionPoolingSettings,
}

#[derive(Module, Debug)]
enum Pool<B: Backend> {
    Additive(AttentionPool<B>),
    Dot(DotPool<B>),
    MultiHead(HeadsPool<B>),
    Hierarchical(Hierarchical<B>),
}

/// `u · h / √d`.
#[derive(Module, Debug)]
struct DotPool<B: Backend> {
    /// `u`, `[1|t, d, 1]`.
    query: Param<Tensor<B, 3>>,
}

/// Heads with one query each.
#[derive(Module, Debug)]
struct HeadsPool<B: Backend> {
    /// The queries of all heads before their projection, `[1|t, 1, d]`.
    seed: Param<Tensor<B, 3>>,
    heads: MultiHeadAttention<B>,
}

impl<B: Primitives> AttentionPooling<B> {
    /// Rows of items `[t, b, f]` as they are attended to, `[t, b·l, d]`.
    fn rows(&self, x: Tensor<B, 3>, hidden: &Tensor<B, 4, Bool>, pass: &Pass<B>) -> Tensor<B, 3> {
        let rate = self.settings.dropout;
        let reading = self.steps.reading_without(hidden, &x);
        let rows = dropout(self.steps.rows(x), rate, pass);
        let Some(recurrent) = &self.recurrent else {
            return rows;
        };
        let (forwards, backwards) = recurrent.forward(rows, &reading);
        dropout(join(forwards, backwards), rate, pass)
    }

    /// Scores `[n, 1, 1, l]` to what is read of the rows `[t, n/t·l, d]`, `[t, n/t, d]`, and the map.
    fn read(
        &self,
        scores: Tensor<B, 4>,
        rows: Tensor<B, 3>,
        hidden: &Tensor<B, 4, Bool>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let AttentionPoolingSettings {
            kind,
            choice,
            temperature,
            attention,
            ..
        } = self.settings;
        let ([n, _, _, length], [t, _, d]) = (scores.dims(), rows.dims());
        let scores = attention.scores(scores);
        let map = match (kind, attention, choice) {
            (PoolingKind::Hard, Weighting::Softmax, HardChoice::StraightThrough) => {
                straight_through(scores.mul_scalar(1.0 / temperature), Some(hidden))
            }
            (PoolingKind::Hard, Weighting::Softmax, HardChoice::Gumbel) => {
                gumbel_straight_through(scores, Some(hidden), temperature, t, pass)
            }
            _ => soft(scores, Some(hidden)),
        };
        let read = map.clone().product(rows.reshape([n, 1, length, d]));
        (read.reshape([t, n / t, d]), map)
    }

    /// The embeddings `[t, b, d]` and the maps: `[t·b, heads, 1, l]`; of `hierarchical` `[t·b·s, 1, 1, l/s]`
    /// within the `s` spans, then `[t·b, 1, 1, s]` over them.
    pub fn forward_with_maps(
        &self,
        x: Tensor<B, 3>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Vec<Tensor<B, 4>>) {
        let [t, b, _] = x.dims();
        let length = self.steps.length;
        let hidden = self.steps.padding(&x);
        let (query, parts) = (MapAxis::Other("query"), self.steps.axis());
        let spans = length / self.settings.span;
        let empty = match self.pool {
            Pool::Hierarchical(_) => rows_of_zeros(x.clone(), spans),
            _ => hidden.clone(),
        };
        let rows = self.rows(x, &hidden, pass);
        let (read, map) = match &self.pool {
            Pool::Additive(pool) => {
                let scores = pool.scores(rows.clone(), length);
                self.read(scores, rows, &hidden, pass)
            }
            Pool::Dot(pool) => {
                let scale = 1.0 / (rows.dims()[2] as f64).sqrt();
                let scores = linear(rows.clone(), pool.query.val()).mul_scalar(scale);
                self.read(scores.reshape([t * b, 1, 1, length]), rows, &hidden, pass)
            }
            Pool::MultiHead(pool) => {
                let queries = broadcast_rows(pool.seed.val(), t, b);
                pool.heads.attend(queries, rows, b, Some(&hidden), pass)
            }
            Pool::Hierarchical(pool) => {
                let span = self.settings.span;
                let scores = pool.within.scores(rows.clone(), span);
                let own = hidden.reshape([t * b * spans, 1, 1, span]);
                let (read, within) = self.read(scores, rows, &own, pass);
                let scores = pool.over.scores(read.clone(), spans);
                let (read, over) = self.read(scores, read, &empty, pass);
                let shares = over.clone().reshape([t * b, 1, spans, 1])
                    * within.clone().reshape([t * b, 1, spans, span]);
                let shares = shares.reshape([t * b, 1, 1, length]);
                pass.record("encoder.pool", query, parts, &shares);
                return (read, vec![within, over]);
            }
        };
        pass.record("encoder.pool", query, parts, &map);
        (read, vec![map])
    }
}

impl<B: Primitives> Encoder<B> for AttentionPooling<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        self.forward_with_maps(x, pass).0
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::{
        backend::Cpu,
        nn::{Mode, Noise, encoder::Architecture},
        params::Params,
        rng::Seed,
    };

    const LENGTH: usize = 4;
    const WIDTH: usize = 3;

    fn model(settings: AttentionPoolingSettings) -> AttentionPooling<Cpu> {
        let item = ItemShape {
            height: LENGTH,
            width: 1,
            channels: WIDTH,
        };
        let settings = AttentionPoolingSettings {
            recurrent: 0,
            hidden: 5,
            span: 2,
            heads: 3,
            ..settings
        };
        let encoder = settings.on(item).expect("small");
        encoder.init::<Cpu>(&mut Initializer::seeded(Seed(1)), &Default::default())
    }

    fn of(kind: PoolingKind) -> AttentionPoolingSettings {
        AttentionPoolingSettings {
            kind,
            ..AttentionPoolingSettings::default()
        }
    }

    /// Three rows, and one that is not there.
    fn rows() -> Vec<f32> {
        let mut stream = Seed(2).stream("attention_pooling", 0, "x");
        let mut rows: Vec<f32> = (0..3 * WIDTH)
            .map(|_| 2.0 * stream.normal() as f32)
            .collect();
        rows.resize(LENGTH * WIDTH, 0.0);
        rows
    }

    fn run(model: &AttentionPooling<Cpu>) -> (Vec<f32>, Vec<Vec<f32>>) {
        let x = TensorData::new(rows(), [1, 1, LENGTH * WIDTH]);
        let x = Tensor::<Cpu, 3>::from_data(x, &Default::default());
        let (read, maps) = model.forward_with_maps(x, &Pass::evaluation());
        let maps = maps
            .into_iter()
            .map(|map| map.into_data().to_vec().expect("f32"));
        (read.into_data().to_vec().expect("f32"), maps.collect())
    }

    /// Numbers are dropped in training; evaluation reads all of them.
    #[test]
    fn numbers_are_dropped_in_training_alone() {
        let plain = of(PoolingKind::Additive);
        let dropping = AttentionPoolingSettings {
            dropout: 0.5,
            ..plain.clone()
        };
        let (plain, dropping) = (model(plain), model(dropping));
        assert_eq!(run(&plain), run(&dropping));
        let x = Tensor::<Cpu, 3>::ones([1, 40, LENGTH * WIDTH], &Default::default());
        let read = |model: &AttentionPooling<Cpu>| {
            let noise = Noise::new(Seed(3), [4].into(), "support", 0);
            let read = model.forward(x.clone(), &Pass::new(Mode::training(Some(noise))));
            read.into_data().to_vec::<f32>().expect("f32")
        };
        assert_ne!(read(&plain), read(&dropping));
    }

    /// The parameters by the ends of their names, in f64.
    fn parameter(model: &AttentionPooling<Cpu>, end: &str) -> Vec<f64> {
        let all = Params::of(model).to_data();
        let found = all.into_iter().find(|(name, _)| name.ends_with(end));
        let (_, data) = found.unwrap_or_else(|| panic!("no parameter {end}"));
        data.to_vec::<f32>()
            .expect("f32")
            .into_iter()
            .map(f64::from)
            .collect()
    }

    fn softmax(scores: &[f64]) -> Vec<f64> {
        let total: f64 = scores.iter().map(|score| score.exp()).sum();
        scores.iter().map(|score| score.exp() / total).collect()
    }

    fn row(place: usize) -> Vec<f64> {
        rows()[place * WIDTH..(place + 1) * WIDTH]
            .iter()
            .copied()
            .map(f64::from)
            .collect()
    }

    /// `u · tanh(W x + b)` of a row, with the parameters below `name`.
    fn additive_score(model: &AttentionPooling<Cpu>, name: &str, row: &[f64]) -> f64 {
        let weight = parameter(model, &format!("{name}hidden.weight"));
        let bias = parameter(model, &format!("{name}hidden.bias"));
        let query = parameter(model, &format!("{name}query"));
        (0..5)
            .map(|unit| {
                let sum: f64 = (0..WIDTH).map(|i| row[i] * weight[i * 5 + unit]).sum();
                query[unit] * (sum + bias[unit]).tanh()
            })
            .sum()
    }

    fn mean_by(weights: &[f64], rows: &[Vec<f64>]) -> Vec<f64> {
        let of = |i: usize| {
            weights
                .iter()
                .zip(rows)
                .map(|(weight, row)| weight * row[i])
                .sum()
        };
        (0..WIDTH).map(of).collect()
    }

    /// Rounding in single precision of numbers of about 1.
    fn assert_close(found: &[f32], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-5,
                "{found} {expected}"
            );
        }
    }

    #[test]
    fn additive_attention_by_hand() {
        let model = model(of(PoolingKind::Additive));
        let own: Vec<Vec<f64>> = (0..3).map(row).collect();
        let scores: Vec<f64> = own
            .iter()
            .map(|row| additive_score(&model, "", row))
            .collect();
        let weights = softmax(&scores);
        // They differ, so that the mean would be told apart.
        assert!((weights[0] - weights[1]).abs() > 0.01);
        let (read, maps) = run(&model);
        assert_close(&maps[0], &[&weights[..], &[0.0]].concat());
        assert_close(&read, &mean_by(&weights, &own));
    }

    #[test]
    fn dot_attention_by_hand() {
        let model = model(of(PoolingKind::Dot));
        let query = parameter(&model, "query");
        let own: Vec<Vec<f64>> = (0..3).map(row).collect();
        let score = |row: &Vec<f64>| -> f64 {
            row.iter().zip(&query).map(|(x, q)| x * q).sum::<f64>() / (WIDTH as f64).sqrt()
        };
        let weights = softmax(&own.iter().map(score).collect::<Vec<_>>());
        let (read, maps) = run(&model);
        assert_close(&maps[0], &[&weights[..], &[0.0]].concat());
        assert_close(&read, &mean_by(&weights, &own));
    }

    /// Two spans: of rows 0 and 1, and of row 2 alone.
    #[test]
    fn hierarchical_attention_by_hand() {
        let model = model(of(PoolingKind::Hierarchical));
        let own: Vec<Vec<f64>> = (0..3).map(row).collect();
        let score = |level: &str, row: &[f64]| additive_score(&model, level, row);
        let within = softmax(&[score("within.", &own[0]), score("within.", &own[1])]);
        let spans = [mean_by(&within, &own[..2]), own[2].clone()];
        let over = softmax(&spans.each_ref().map(|span| score("over.", span)));
        let (read, maps) = run(&model);
        assert_close(&maps[0], &[within[0], within[1], 1.0, 0.0]);
        assert_close(&maps[1], &over);
        assert_close(&read, &mean_by(&over, &spans));
    }

    #[test]
    fn hard_attention_takes_the_row_of_the_highest_score() {
        let model = model(of(PoolingKind::Hard));
        let scores = [0, 1, 2].map(|place| additive_score(&model, "", &row(place)));
        let best = (0..3)
            .max_by(|&a, &b| scores[a].total_cmp(&scores[b]))
            .expect("three");
        let (read, maps) = run(&model);
        assert_close(&read, &row(best));
        assert_eq!(maps[0][best], 1.0);
    }

    /// Uniform weights are the mean of the rows that are there, whatever the kind scores.
    #[test]
    fn uniform_weights_are_means() {
        let own: Vec<Vec<f64>> = (0..3).map(row).collect();
        for kind in [PoolingKind::Additive, PoolingKind::Dot, PoolingKind::Hard] {
            let settings = AttentionPoolingSettings {
                attention: Weighting::Uniform,
                ..of(kind)
            };
            let third = 1.0 / 3.0;
            assert_close(&run(&model(settings)).0, &mean_by(&[third; 3], &own));
        }
    }

    /// Of each head one map, without the row that is not there.
    #[test]
    fn heads_have_maps_of_their_own() {
        let (_, maps) = run(&model(of(PoolingKind::MultiHead)));
        assert_eq!(maps[0].len(), 3 * LENGTH);
        for head in maps[0].chunks_exact(LENGTH) {
            assert_eq!(head[3], 0.0);
            assert!((head.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        assert_ne!(maps[0][..LENGTH], maps[0][LENGTH..2 * LENGTH]);
    }
}
