//! Sentences of a batch of tasks as tokens: which symbols they are, where they stand, who may read whom.

use std::{ops::Range, sync::Arc};

use crate::{
    data::before_end,
    primitives::{MatrixProduct, Primitives},
    rng::Seed,
    task::{TargetBatch, TaskBatch},
};
use burn::tensor::{Bool, DType, Tensor, TensorData, backend::Backend};
use serde::{Deserialize, Serialize};

/// What sentences are made of.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Words that items are made of.
    pub words: usize,
    /// Symbols that targets are made of.
    pub symbols: usize,
    /// The most words of an item.
    pub features: usize,
    /// The most symbols of a target.
    pub length: usize,
    /// The most examples of a task.
    pub examples: usize,
    /// What a token is also made of.
    pub other_side: OtherSide,
}

/// What a token is told of the other side: one of an example's sentence, of its meaning; one of a meaning, of
/// its sentence; one of an answer, of the sentence that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OtherSide {
    /// Nothing.
    None,
    /// Its words or symbols: the sum of their vectors over the root of their number.
    Bag,
    /// That, and likewise which of them stands at which place.
    Placed,
}

/// The role of a token: in an example's input or output, in a query, in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Input,
    Output,
    Query,
    Answer,
}

const ROLES: usize = 4;

impl Sizes {
    /// Rows of the table of vectors: symbols and the end, the start and words, places, roles, examples, and
    /// symbols and words at their places.
    pub fn rows(&self) -> usize {
        let placed = match self.other_side {
            OtherSide::Placed => self.symbols_and_words() * self.places(),
            OtherSide::None | OtherSide::Bag => 0,
        };
        self.rows_of_one() + placed
    }

    /// Rows of symbols and words, places, roles and examples: what every token is made of.
    fn rows_of_one(&self) -> usize {
        self.symbols_and_words() + self.places() + ROLES + self.examples
    }

    /// Symbols from 0, the end, the start, words.
    fn symbols_and_words(&self) -> usize {
        self.symbols + 2 + self.words
    }

    /// What a token is told of the other side.
    fn other(&self, other: &Arc<[usize]>) -> Arc<[usize]> {
        match self.other_side {
            OtherSide::None => Arc::default(),
            OtherSide::Bag | OtherSide::Placed => other.clone(),
        }
    }

    fn places(&self) -> usize {
        self.features.max(self.length + 1)
    }

    /// The rows of the words of an item, which are numbered from 1.
    fn words_of(&self, item: &[f32]) -> Vec<usize> {
        let there = item.iter().take_while(|&&word| word >= 1.0);
        there
            .map(|&word| self.symbols + 1 + (word as usize).min(self.words))
            .collect()
    }
}

/// A token of the encoder or the decoder.
#[derive(Clone, Debug)]
struct Token {
    /// Its row among symbols and words.
    symbol: usize,
    place: usize,
    role: Role,
    /// Which example it is of; none of a query.
    example: Option<usize>,
    /// Rows of the other side of its example, where it is told them.
    other: Arc<[usize]>,
}

/// The sentences of tasks on the host.
pub struct Sentences {
    /// Tasks.
    tasks: usize,
    /// Tokens of the examples of each task.
    examples: Vec<Vec<Token>>,
    /// Tokens of what is asked, `[task][query]`.
    queries: Vec<Vec<Vec<Token>>>,
    /// What is asked in each task: queries, and examples behind them where they are reproduced.
    pub asked: usize,
    /// What is to be said, `[t·asked·places]`.
    pub targets: Vec<u32>,
    /// Hash of the words of each, for what is drawn.
    hashes: Vec<u64>,
}

/// What is asked, for what is drawn at random in answers to it.
pub struct Asked {
    hashes: Vec<u64>,
}

impl Asked {
    /// Sentences that are asked, of all tasks.
    pub fn count(&self) -> usize {
        self.hashes.len()
    }

    /// The symbol at this place of an answer: the highest score, the first of equal ones, or one drawn with
    /// its probability at this temperature; the draw belongs to the words that are asked.
    pub fn choose(&self, sequence: usize, place: usize, scores: &[f32], temperature: f64) -> u32 {
        let mut stream = Seed(self.hashes[sequence]).stream("decoding", place as u64, "symbol");
        let mut score = |score: f32| match temperature > 0.0 {
            // The highest of scores with Gumbel noise is drawn with its probability.
            true => f64::from(score) / temperature - (-(1.0 - stream.uniform()).ln()).ln(),
            false => f64::from(score),
        };
        let (mut best, mut highest) = (0, f64::NEG_INFINITY);
        for (symbol, &own) in scores.iter().enumerate() {
            let own = score(own);
            if own > highest {
                (best, highest) = (symbol, own);
            }
        }
        best as u32
    }
}

impl Sentences {
    /// Those of a batch, with its examples asked as queries too where they are to be `reproduce`d. Reads
    /// inputs and targets back to the host.
    ///
    /// # Panics
    /// When targets are no sequences, which checks of learners rule out.
    pub fn of<B: Backend>(tasks: &TaskBatch<B>, sizes: &Sizes, reproduce: bool) -> Self {
        let sequences = |targets: &TargetBatch<B>| -> Vec<u32> {
            let TargetBatch::Sequences(symbols) = targets else {
                panic!("targets that are sequences expected")
            };
            symbols.clone().into_data().iter::<u32>().collect()
        };
        let inputs =
            |items: &Tensor<B, 3>| -> Vec<f32> { items.clone().into_data().iter().collect() };
        let ([t, s], [_, q]) = (tasks.support.dims(), tasks.query.dims());
        let (support, query) = (inputs(&tasks.support.inputs), inputs(&tasks.query.inputs));
        let (shown, asked) = (
            sequences(&tasks.support.targets),
            sequences(&tasks.query.targets),
        );
        let (f, places) = (sizes.features, sizes.length + 1);
        let mut all = Sentences {
            tasks: t,
            examples: Vec::with_capacity(t),
            queries: Vec::with_capacity(t),
            asked: if reproduce { q + s } else { q },
            targets: Vec::new(),
            hashes: Vec::new(),
        };
        for task in 0..t {
            let row = |all: &[f32], item: usize| all[item * f..(item + 1) * f].to_vec();
            let mut examples = Vec::new();
            for example in 0..s {
                let item = task * s + example;
                let said = &shown[item * places..(item + 1) * places];
                examples.extend(of_example(sizes, &row(&support, item), said, example));
            }
            all.examples.push(examples);
            let own = (0..q).map(|item| row(&query, task * q + item));
            let again = (0..all.asked - q).map(|item| row(&support, task * s + item));
            let rows: Vec<Vec<f32>> = own.chain(again).collect();
            all.hashes.extend(rows.iter().map(|row| hash(row)));
            let tokens = |row: &Vec<f32>| -> Vec<Token> {
                let words = sizes.words_of(row).into_iter().enumerate();
                let asked = words.map(|(place, symbol)| Token {
                    symbol,
                    place,
                    role: Role::Query,
                    example: None,
                    other: Arc::default(),
                });
                asked.collect()
            };
            all.queries.push(rows.iter().map(tokens).collect());
            all.targets
                .extend(&asked[task * q * places..(task + 1) * q * places]);
            if reproduce {
                all.targets
                    .extend(&shown[task * s * places..(task + 1) * s * places]);
            }
        }
        all
    }

    /// What is asked.
    pub fn asked_words(&self) -> Asked {
        Asked {
            hashes: self.hashes.clone(),
        }
    }

    /// Where every token stands in the encoder: `alone`, without the examples; `joint`, an input of its own
    /// for each query; else the examples of a task, then all of its queries.
    pub fn layout(&self, alone: bool, joint: bool) -> Layout {
        let mut rows = Vec::new();
        for (examples, queries) in self.examples.iter().zip(&self.queries) {
            let examples = if alone { &[][..] } else { examples };
            let place = |token: &Token, query: Option<usize>| Placed {
                token: token.clone(),
                query,
            };
            let shown = || examples.iter().map(|token| place(token, None));
            let asked = |query: usize, number: usize| {
                let tokens = queries[query].iter();
                tokens.map(move |token| place(token, Some(number)))
            };
            if joint {
                rows.extend(
                    (0..queries.len()).map(|query| shown().chain(asked(query, 0)).collect()),
                );
            } else {
                let all = (0..queries.len()).flat_map(|query| asked(query, query));
                rows.push(shown().chain(all).collect::<Vec<Placed>>());
            }
        }
        let asked = self.queries.iter().flatten();
        let words = |query: &Vec<Token>| query.iter().map(|token| token.symbol).collect();
        Layout {
            tokens: rows.iter().map(Vec::len).max().unwrap_or(0),
            answers: self.tasks * self.asked / rows.len().max(1),
            questions: asked.map(words).collect(),
            rows,
            joint,
        }
    }
}

/// The tokens of an example: its words, then its symbols up to their end.
fn of_example(sizes: &Sizes, item: &[f32], said: &[u32], example: usize) -> Vec<Token> {
    let symbols = before_end(said, sizes.symbols as u32).iter();
    let outputs: Arc<[usize]> = symbols.map(|&symbol| symbol as usize).collect();
    let inputs: Arc<[usize]> = sizes.words_of(item).into();
    let side = |own: &Arc<[usize]>, other: &Arc<[usize]>, role| -> Vec<Token> {
        let token = |(place, &symbol): (usize, &usize)| Token {
            symbol,
            place,
            role,
            example: Some(example),
            other: sizes.other(other),
        };
        own.iter().enumerate().map(token).collect()
    };
    let mut tokens = side(&inputs, &outputs, Role::Input);
    tokens.extend(side(&outputs, &inputs, Role::Output));
    tokens
}

/// FNV-1a over the bits of the numbers.
fn hash(numbers: &[f32]) -> u64 {
    numbers
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, number| {
            (hash ^ u64::from(number.to_bits())).wrapping_mul(0x0100_0000_01b3)
        })
}

/// A token at its place in the encoder.
#[derive(Clone, Debug)]
struct Placed {
    token: Token,
    /// Which query of its row it is of; none of an example.
    query: Option<usize>,
}

/// The tokens of the encoder, a row for each input, and the answers of each row.
pub struct Layout {
    rows: Vec<Vec<Placed>>,
    /// Tokens of the longest row; nothing stands behind the last token of a shorter one.
    pub tokens: usize,
    /// Answers of a row.
    answers: usize,
    /// The words that each answer is asked, of all rows.
    questions: Vec<Arc<[usize]>>,
    joint: bool,
}

impl Layout {
    /// What the tokens are made of, `[rows, tokens, table]`: how often a vector of the table is a part.
    pub fn parts<B: Backend>(
        &self,
        sizes: &Sizes,
        device: &B::Device,
        dtype: DType,
    ) -> Tensor<B, 3> {
        let width = sizes.rows();
        let mut parts = vec![0.0f64; self.rows.len() * self.tokens * width];
        for (row, tokens) in self.rows.iter().enumerate() {
            for (column, placed) in tokens.iter().enumerate() {
                let start = (row * self.tokens + column) * width;
                mark(sizes, &placed.token, &mut parts[start..start + width]);
            }
        }
        let parts = TensorData::new(parts, [self.rows.len(), self.tokens, width]);
        Tensor::from_data(parts, (device, dtype))
    }

    /// What the decoder reads before these places of answers, made of the same parts, `[rows,
    /// answers·places, table]`: the start, or the symbol at the place before. `symbols` are those of all
    /// answers, at all places.
    pub fn before<B: Backend>(
        &self,
        sizes: &Sizes,
        symbols: &[u32],
        places: Range<usize>,
        device: &B::Device,
        dtype: DType,
    ) -> Tensor<B, 3> {
        let (width, all, count) = (sizes.rows(), sizes.length + 1, places.len());
        let sequences = self.rows.len() * self.answers;
        let mut parts = vec![0.0f64; sequences * count * width];
        for (row, part) in parts.chunks_mut(width).enumerate() {
            let (sequence, place) = (row / count, places.start + row % count);
            let symbol = match place {
                0 => sizes.symbols + 1,
                _ => symbols[sequence * all + place - 1] as usize,
            };
            let token = Token {
                symbol,
                place,
                role: Role::Answer,
                example: None,
                other: sizes.other(&self.questions[sequence]),
            };
            mark(sizes, &token, part);
        }
        let parts = TensorData::new(parts, [self.rows.len(), self.answers * count, width]);
        Tensor::from_data(parts, (device, dtype))
    }

    /// What a token of the encoder does not read, `[rows, 1, tokens, tokens]`: with `own_example`, of
    /// examples nothing but its own; with separate queries, no query but its own. A token that is not there
    /// reads itself.
    pub fn hidden_from_tokens<B: Backend>(
        &self,
        own_example: bool,
        device: &B::Device,
    ) -> Tensor<B, 4, Bool> {
        let n = self.tokens;
        let mut hidden = vec![true; self.rows.len() * n * n];
        for (row, tokens) in self.rows.iter().enumerate() {
            for reader in 0..n {
                let start = (row * n + reader) * n;
                hidden[start + reader] = false;
                let Some(own) = tokens.get(reader) else {
                    continue;
                };
                for (column, read) in tokens.iter().enumerate() {
                    let same = read.query == own.query && read.token.example == own.token.example;
                    let other = !own_example
                        && match (own.query, read.query) {
                            (_, None) => true,
                            (None, Some(_)) => self.joint,
                            (Some(own), Some(read)) => own == read,
                        };
                    hidden[start + column] &= !(same || other);
                }
            }
        }
        let hidden = TensorData::new(hidden, [self.rows.len(), 1, n, n]);
        Tensor::from_data(hidden, device)
    }

    /// What `places` places of each answer do not read of the encoder, `[rows, 1, answers·places, tokens]`:
    /// other queries, and what is not there.
    pub fn hidden_from_answers<B: Backend>(
        &self,
        places: usize,
        device: &B::Device,
    ) -> Tensor<B, 4, Bool> {
        let n = self.tokens;
        let mut hidden = Vec::with_capacity(self.rows.len() * self.answers * places * n);
        for tokens in &self.rows {
            for answer in 0..self.answers {
                let read = |column: usize| {
                    let placed = tokens.get(column);
                    placed.is_some_and(|placed| placed.query.is_none_or(|query| query == answer))
                };
                let of_place: Vec<bool> = (0..n).map(|column| !read(column)).collect();
                (0..places).for_each(|_| hidden.extend_from_slice(&of_place));
            }
        }
        let hidden = TensorData::new(hidden, [self.rows.len(), 1, self.answers * places, n]);
        Tensor::from_data(hidden, device)
    }

    /// What each of `q` answers of `t` tasks reads of each example at each of its `places`: the map `[rows, heads,
    /// answers·places, tokens]`, summed over the tokens of an example, as a share of what is read of all: `[t·q,
    /// heads, places, examples]`. None where no example is read.
    pub fn by_symbol<B: Primitives>(
        &self,
        map: Tensor<B, 4>,
        [t, q]: [usize; 2],
        places: usize,
    ) -> Option<Tensor<B, 4>> {
        let tokens = self.rows.iter().flatten();
        let examples = tokens.filter_map(|placed| placed.token.example).max()? + 1;
        let mut member = vec![0.0f32; self.rows.len() * self.tokens * examples];
        for (row, tokens) in self.rows.iter().enumerate() {
            for (column, placed) in tokens.iter().enumerate() {
                if let Some(example) = placed.token.example {
                    member[(row * self.tokens + column) * examples + example] = 1.0;
                }
            }
        }
        let [_, heads, _, _] = map.dims();
        let shape = [self.rows.len(), 1, self.tokens, examples];
        let member = Tensor::<B, 4>::from_data(TensorData::new(member, shape), &map.device());
        let member = member.cast(map.dtype()).repeat_dim(1, heads);
        let read = map.product(member);
        let shares = read.clone() / read.sum_dim(3).clamp_min(1e-12);
        let queries = self.rows.len() * self.answers / t;
        let shares = shares.reshape([
            t,
            queries / self.answers,
            heads,
            self.answers,
            places,
            examples,
        ]);
        let shares = shares.swap_dims(2, 3);
        let shares = shares.reshape([t, queries, heads * places, examples]);
        let asked = shares.narrow(1, 0, q);
        Some(asked.reshape([t * q, heads, places, examples]))
    }
}

/// Marks the vectors of the table that a token is the sum of.
fn mark(sizes: &Sizes, token: &Token, parts: &mut [f64]) {
    let (symbols, places) = (sizes.symbols_and_words(), sizes.places());
    parts[token.symbol] = 1.0;
    parts[symbols + token.place] = 1.0;
    parts[symbols + places + token.role as usize] = 1.0;
    if let Some(example) = token.example {
        parts[symbols + places + ROLES + example] = 1.0;
    }
    let share = 1.0 / (token.other.len() as f64).sqrt();
    for (place, &other) in token.other.iter().enumerate() {
        parts[other] += share;
        if sizes.other_side == OtherSide::Placed {
            parts[sizes.rows_of_one() + other * places + place] += share;
        }
    }
}
