//! Meta-learning for compositionality: a transformer reads examples of an invented language, and says what a
//! new sentence of it stands for.
//!
//! Lake and Baroni, *Human-like systematic generalization through a meta-learning neural network*, Nature
//! 2023; before it Lake, *Compositional generalization through meta sequence-to-sequence learning*, NeurIPS
//! 2019. A task is a language: its support are sentences with what they stand for, and a query is a sentence
//! of the same language. All of them are one input of a standard transformer (Vaswani et al., NIPS 2017):
//!
//! ```text
//! e  = E[symbol] + P[place in its sentence] + R[study input, study output or query] + X[which example]
//! M  = norm(encoder(e of all examples and of the query))
//! hᵢ = decoder(E[start, y₁, …, yᵢ₋₁] + P[i], M)
//! p(yᵢ | y before, query, examples) = softmax(norm(hᵢ) E[symbols, end]ᵀ / √d + b)
//! L  = mean over queries of the mean of −log p(yᵢ) over i up to the end
//! ```
//!
//! What is learned is how to read a language off examples: words and symbols have other meanings in every
//! task. The loss is also that of the examples themselves, asked as queries (`reproduce`), as in the paper.
//! At test an answer is decoded a symbol at a time, the most probable one (`temperature = 0`) or one that is
//! drawn, with the keys and values of what came before kept.
//!
//! | `context` | the study examples are read |
//! |---|---|
//! | `joint` | together with each query: every token of the encoder reads every other (the paper) |
//! | `separate` | once for all queries: their tokens read each other, those of a query read them and its own |
//! | `none` | not at all: the network alone, as a baseline |
//!
//! The three have the same parameters. The encoder of a task reads about `s (a + b)` tokens of examples of `a`
//! words and `b` symbols, and with `joint` it does so for each of `q` queries again; with `separate` a query
//! costs its own words alone.
//!
//! # Differences from the paper
//! * Positions are learned, by the place in a sentence and the number of the example, where the paper's are
//!   sines along the whole input with marks between sentences.
//! * A symbol has one vector wherever it stands: in an example's output, before the decoder and in its head
//!   (Press and Wolf, EACL 2017). The paper's encoder and decoder have their own.
//! * Normalisation stands before each part (Xiong et al., ICML 2020), with a ReLU; the paper's stands behind,
//!   with a GELU.
//! * The loss of a sequence is the mean over its symbols, and that of a task the mean over its queries; the
//!   paper takes the mean over all symbols of a batch.
//! * `separate` and `none` are not in the paper, nor is `own_example`, with which the first layers of the
//!   encoder read within an example alone, nor `other_side`, with which a token of an example's sentence is told
//!   what the sentence stands for, a token of a meaning its sentence, and a token of an answer its question,
//!   as sums of vectors: the memory of the 2019 paper, whose keys are sentences and whose values are meanings,
//!   in a transformer. What answers a question then has nearly the question's own key.
//! * Items of the same task have a number of their own each: the order of the examples is known, and the
//!   answers may depend on it, as in the paper.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use meta_core::{
    Result,
    data::Task,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        sentences::{Asked, Layout, OtherSide, Sentences, Sizes},
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass,
        attention::{
            Block, DecoderBlock, DecoderMemory, MapAxis, MultiHeadSettings, ProjectedMemory,
            Weighting, check_heads,
        },
        encoder::Architecture,
        init::{Initializer, constant},
        loss,
        norm::{Norm, Statistics},
    },
    primitives::{Primitives, add_rows, linear},
    settings,
    task::{TargetBatch, TaskBatch, TaskSpec},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// With what a query is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// With all examples, as one input.
    Joint,
    /// With examples that were read before.
    Separate,
    /// Alone.
    None,
}

settings! {
    /// Settings of meta-learning for compositionality; the defaults are those of Lake and Baroni (2023), but
    /// for dropout.
    pub struct MlcSettings {
        /// How examples are read: `joint`, with each query as one input; `separate`, once for all queries; or
        /// `none`, not at all.
        context: Context = Context::Joint;
        /// Blocks of the encoder.
        layers: usize = 3, size(1);
        /// Blocks of the decoder.
        decoder_layers: usize = 3, size(1);
        /// Width of a token.
        width: usize = 128, size(1);
        /// Attention heads; must divide `width`.
        heads: usize = 8, size(1);
        /// Hidden units of the feed-forward part of a block.
        hidden: usize = 512, size(1);
        /// Probability with which what a part of a block adds is dropped in training, and what it attends to;
        /// 0.1 in the paper.
        dropout: f64 = 0.0, below_one();
        /// First blocks of the encoder in which a token of an example reads that example alone.
        own_example: usize = 0, size(0);
        /// What a token of an example is also told of the other side of its example, and one of an answer of its
        /// question: `none`, nothing; `bag`, its words or symbols; `placed`, these and where they stand.
        other_side: OtherSide = OtherSide::None;
        /// Whether the loss is also that of the examples, asked as queries.
        reproduce: bool = true;
        /// 0: an answer is made of the most probable symbols. Above: of symbols that are drawn with their
        /// probabilities to the power of its inverse.
        temperature: f64 = 0.0, at_least(0.0);
        /// Weights of what the encoder reads: `softmax` of the scores, or `uniform`.
        attention: Weighting = Weighting::Softmax;
        /// Weights of what the decoder reads of the encoder, likewise.
        cross_attention: Weighting = Weighting::Softmax;
    }
}

impl LearnerSettings for MlcSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "mlc",
        family: Family::InContext,
        summary: "a transformer reads examples of a language and interprets new sentences of it",
        paper: "Lake and Baroni, Human-like systematic generalization through a meta-learning neural network, Nature 2023",
        regression: false,
        any_way: true,
    };

    const SEQUENCES: bool = true;

    /// The words of a sentence, and the symbols of its meaning; of a query that is read together with all
    /// study examples, theirs too, spread over all items.
    fn tokens(&self, spec: &TaskSpec) -> usize {
        let symbols = match spec.task {
            Task::Sequences { length, .. } => length,
            _ => 0,
        };
        let sentence = spec.item.features().saturating_add(symbols);
        if self.context != Context::Joint {
            return sentence;
        }
        let (study, queries) = (spec.train.support_items(), spec.train.query_items());
        let read = study.saturating_mul(queries) / study.saturating_add(queries).max(1);
        sentence.saturating_mul(1 + read)
    }

    const QUERIES_ALONE: bool = true;

    fn check<A: Architecture>(&self, _architecture: &A, _spec: &TaskSpec) -> Result<()> {
        check_heads("learner.heads", self.heads, "learner.width", self.width)
    }

    fn gradient_of() -> GradientOf {
        let small = |context: &str| {
            json!({
                "context": context, "layers": 2, "decoder_layers": 1, "width": 4, "heads": 2, "hidden": 5,
                "own_example": 1, "other_side": "placed", "dropout": 0.0
            })
        };
        let mut uniform = small("joint");
        uniform["attention"] = json!("uniform");
        uniform["cross_attention"] = json!("uniform");
        uniform["reproduce"] = json!(false);
        let text = "the mean of −log p of the symbols given those before, of queries and examples";
        let all = vec![small("separate"), small("joint"), small("none"), uniform];
        GradientOf::Training(text, all)
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({
                "context": "separate", "layers": 2, "decoder_layers": 1, "width": 32, "heads": 4,
                "hidden": 64, "dropout": 0.0
            }),
            iterations: 600,
            maps: 2,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let Task::Sequences {
            words,
            symbols,
            length,
        } = new.spec.task
        else {
            unreachable!("checked tasks: of sequences")
        };
        let examples = new
            .spec
            .train
            .support_items()
            .max(new.spec.test.support_items());
        let sizes = Sizes {
            words,
            symbols,
            features: new.spec.item.features(),
            length,
            examples,
            other_side: self.other_side,
        };
        let rule = Mlc {
            settings: self,
            sizes,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// Vectors of what a token is made of, an encoder and a decoder.
#[derive(Module, Debug)]
pub struct MlcModel<B: Backend> {
    /// `E`, `P`, `R` and `X` on top of each other, `[1, rows, d]`.
    vectors: Param<Tensor<B, 3>>,
    encoder: Vec<Block<B>>,
    encoder_norm: Norm<B>,
    decoder: Vec<DecoderBlock<B>>,
    decoder_norm: Norm<B>,
    /// `b`, `[1, 1, symbols + 1]`.
    bias: Param<Tensor<B, 3>>,
}

/// How a transformer interprets a sentence.
pub struct Mlc {
    settings: MlcSettings,
    sizes: Sizes,
}

/// What the encoder made of the sentences of a batch, as the blocks of the decoder read it, and where the
/// queries stand in it.
struct Read<L: Backend> {
    blocks: Vec<DecoderMemory<L>>,
    layout: Layout,
}

impl Mlc {
    fn joint(&self) -> bool {
        self.settings.context == Context::Joint
    }

    /// The encoder on these sentences.
    fn read<L: Primitives>(
        &self,
        model: &MlcModel<L>,
        sentences: &Sentences,
        pass: &Pass<L>,
        device: &L::Device,
    ) -> Read<L> {
        let layout = sentences.layout(self.settings.context == Context::None, self.joint());
        let vectors = model.vectors.val();
        let mut tokens = linear(layout.parts(&self.sizes, device, vectors.dtype()), vectors);
        let length = layout.tokens;
        let all = layout.hidden_from_tokens::<L>(false, device);
        let own = match self.settings.own_example {
            0 => all.clone(),
            _ => layout.hidden_from_tokens(true, device),
        };
        for (number, block) in model.encoder.iter().enumerate() {
            let hidden = if number < self.settings.own_example {
                &own
            } else {
                &all
            };
            tokens = block.forward_masked(tokens, length, Some(hidden), pass).0;
        }
        let memory = model.encoder_norm.forward(tokens, length, pass);
        let blocks = model.decoder.iter();
        Read {
            blocks: blocks
                .map(|block| block.remember(memory.clone(), None))
                .collect(),
            layout,
        }
    }

    /// Scores of the symbols and the end from the last tokens of the decoder, `[t, b, d]` to
    /// `[t, b, symbols + 1]`.
    fn scores<L: Primitives>(
        &self,
        model: &MlcModel<L>,
        tokens: Tensor<L, 3>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let [_, rows, d] = tokens.dims();
        let tokens = model.decoder_norm.forward(tokens, rows, pass);
        let symbols = model.vectors.val().narrow(1, 0, self.sizes.symbols + 1);
        let head = symbols.swap_dims(1, 2).mul_scalar(1.0 / (d as f64).sqrt());
        add_rows(linear(tokens, head), model.bias.val())
    }

    /// Scores at each place of sequences of `places` symbols, given those before it, `[t, b·places, symbols +
    /// 1]`; keeps what each place reads.
    fn given<L: Primitives>(
        &self,
        model: &MlcModel<L>,
        read: &Read<L>,
        symbols: &[u32],
        pass: &Pass<L>,
    ) -> (Tensor<L, 3>, Vec<Tensor<L, 4>>) {
        let vectors = model.vectors.val();
        let places = self.sizes.length + 1;
        let device = vectors.device();
        let parts = read
            .layout
            .before(&self.sizes, symbols, 0..places, &device, vectors.dtype());
        let mut tokens = linear(parts, vectors);
        let hidden = read.layout.hidden_from_answers(places, &device);
        let mut maps = Vec::new();
        for (block, memory) in model.decoder.iter().zip(&read.blocks) {
            let memory = memory.clone().hiding(hidden.clone());
            let (next, map) = block.forward(tokens, places, &memory, pass);
            tokens = next;
            maps.push(map);
        }
        (self.scores(model, tokens, pass), maps)
    }

    /// Decodes an answer to each query a symbol at a time: the scores of every place, `[t, b, places·(symbols
    /// + 1)]` of the layout, and the symbols, `[t·b·places]`.
    fn decode<L: Primitives>(
        &self,
        model: &MlcModel<L>,
        read: &Read<L>,
        asked: &Asked,
        pass: &Pass<L>,
    ) -> (Tensor<L, 3>, Vec<u32>) {
        let vectors = model.vectors.val();
        let (places, n) = (self.sizes.length + 1, self.sizes.symbols + 1);
        let (device, sequences) = (vectors.device(), asked.count());
        let hidden = read.layout.hidden_from_answers(1, &device);
        let memories: Vec<DecoderMemory<L>> = read
            .blocks
            .iter()
            .map(|memory| memory.clone().hiding(hidden.clone()))
            .collect();
        let mut before: Vec<Option<ProjectedMemory<L>>> =
            model.decoder.iter().map(|_| None).collect();
        let mut said = vec![self.sizes.symbols as u32; sequences * places];
        let mut scores = Vec::with_capacity(places);
        for place in 0..places {
            let parts = read.layout.before(
                &self.sizes,
                &said,
                place..place + 1,
                &device,
                vectors.dtype(),
            );
            let mut tokens = linear(parts, vectors.clone());
            for ((block, memory), before) in model.decoder.iter().zip(&memories).zip(&mut before) {
                tokens = block.step(tokens, before, memory, pass).0;
            }
            let own = self.scores(model, tokens, pass);
            let numbers: Vec<f32> = own.clone().into_data().iter::<f32>().collect();
            for (sequence, scores) in numbers.chunks(n).enumerate() {
                let ended = place > 0 && said[sequence * places + place - 1] as usize == n - 1;
                said[sequence * places + place] = match ended {
                    true => n as u32 - 1,
                    false => asked.choose(sequence, place, scores, self.settings.temperature),
                };
            }
            let [t, b, _] = own.dims();
            scores.push(own.reshape([t, b, 1, n]));
        }
        let scores = Tensor::cat(scores, 2);
        let [t, b, _, _] = scores.dims();
        (scores.reshape([t, b, places * n]), said)
    }

    /// The targets of what was asked: of the queries, and behind them of the examples where they are
    /// reproduced.
    fn targets<L: Backend>(&self, tasks: &TaskBatch<L>, places: usize) -> TargetBatch<L> {
        let of = |targets: &TargetBatch<L>| match targets {
            TargetBatch::Sequences(symbols) => symbols.clone(),
            _ => unreachable!("checked tasks: of sequences"),
        };
        let queries = of(&tasks.query.targets);
        TargetBatch::Sequences(if places == queries.dims()[1] {
            queries
        } else {
            Tensor::cat(vec![queries, of(&tasks.support.targets)], 1)
        })
    }
}

impl SinglePass for Mlc {
    type Model<L: Primitives> = MlcModel<L>;

    const ENCODER: Option<&str> = None;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> MlcModel<L> {
        let MlcSettings {
            layers,
            decoder_layers,
            width,
            heads,
            hidden,
            dropout,
            attention,
            cross_attention,
            ..
        } = self.settings;
        let weighted = |weighting| MultiHeadSettings {
            dropout,
            weighting,
            ..MultiHeadSettings::of_width(width, heads)
        };
        let norm = |path: &str| Norm::new(width, Statistics::Layer, path, device);
        let vectors = initializer.normal([1, self.sizes.rows(), width], 0.5, device);
        let encoder = (0..layers)
            .map(|_| {
                Block::with(weighted(attention), hidden, initializer, device)
                    .unwrap_or_else(|error| panic!("checked settings: {error}"))
            })
            .collect();
        let (own, memory) = (weighted(Weighting::Softmax), weighted(cross_attention));
        let decoder = (0..decoder_layers)
            .map(|_| {
                DecoderBlock::new(own, memory, hidden, initializer, device)
                    .unwrap_or_else(|error| panic!("checked settings: {error}"))
            })
            .collect();
        MlcModel {
            vectors,
            encoder,
            encoder_norm: norm("encoder_norm"),
            decoder,
            decoder_norm: norm("decoder_norm"),
            bias: constant(0.0, [1, 1, self.sizes.symbols + 1], device),
        }
    }

    /// In training the scores of the targets' places given those before, `[t, q, outputs]`, with those of the
    /// examples behind them where they are reproduced; in evaluation those of the answer's places.
    fn forward<L: Primitives>(
        &self,
        model: &MlcModel<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let ([t, q], device) = (tasks.query.dims(), tasks.query.inputs.device());
        let outputs = (self.sizes.length + 1) * (self.sizes.symbols + 1);
        if pass.mode.training {
            let sentences = Sentences::of(tasks, &self.sizes, self.settings.reproduce);
            let read = self.read(model, &sentences, pass, &device);
            let (scores, _) = self.given(model, &read, &sentences.targets, pass);
            return scores.reshape([t, sentences.asked, outputs]);
        }
        let sentences = Sentences::of(tasks, &self.sizes, false);
        let read = self.read(model, &sentences, pass, &device);
        let (scores, said) = self.decode(model, &read, &sentences.asked_words(), pass);
        let maps = match pass.is_recording() {
            true => self.given(model, &read, &said, pass).1,
            false => Vec::new(),
        };
        for (number, map) in maps.into_iter().enumerate() {
            let places = self.sizes.length + 1;
            let Some(by_symbol) = read.layout.by_symbol(map, [t, q], places) else {
                continue;
            };
            let [_, heads, _, examples] = by_symbol.dims();
            let by_query = by_symbol.clone().mean_dim(2);
            let by_query = by_query.reshape([t, q, heads, examples]).swap_dims(1, 2);
            let name = format!("decoder layer {number}");
            pass.record(&name, MapAxis::Query, MapAxis::Support, &by_query);
            let name = format!("{name}, by symbol");
            let symbols = MapAxis::Other("symbol");
            pass.record(&name, symbols, MapAxis::Support, &by_symbol);
        }
        scores.reshape([t, q, outputs])
    }

    fn predictions<L: Primitives>(
        &self,
        output: Tensor<L, 3>,
        tasks: &TaskBatch<L>,
    ) -> Tensor<L, 3> {
        output.narrow(1, 0, tasks.query.dims()[1])
    }

    fn losses<L: Primitives>(&self, output: Tensor<L, 3>, tasks: &TaskBatch<L>) -> Tensor<L, 1> {
        let targets = self.targets(tasks, output.dims()[1]);
        loss::loss(output, &targets)
    }

    fn likelihood<L: Primitives>(
        &self,
        model: &MlcModel<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Option<Tensor<L, 1>> {
        let ([t, q], device) = (tasks.query.dims(), tasks.query.inputs.device());
        let sentences = Sentences::of(tasks, &self.sizes, false);
        let read = self.read(model, &sentences, pass, &device);
        let (scores, _) = self.given(model, &read, &sentences.targets, pass);
        let outputs = (self.sizes.length + 1) * (self.sizes.symbols + 1);
        let scores = scores.reshape([t, q, outputs]);
        Some(loss::loss(scores, &tasks.query.targets).neg())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::assert_close;
    use meta_core::{
        backend::Cpu,
        data::{Episode, EpisodeShape, GrammarSettings, Source, Split},
        learner::{LearnerList, PredictAt},
        nn::encoder::EncoderSpec,
        rng::Seed,
    };
    use serde_json::Value;

    type Built = (Box<dyn Learner<Cpu>>, TaskSpec, Vec<Episode>);

    /// A small learner of random languages, and two of them.
    fn built(settings: Value) -> Built {
        let source = GrammarSettings::default().build().expect("valid");
        let spec = TaskSpec::of(&source, EpisodeShape::new(1, 8, 3));
        let mut all =
            json!({"layers": 2, "decoder_layers": 2, "width": 16, "heads": 2, "hidden": 20});
        for (key, value) in settings.as_object().expect("an object") {
            all[key] = value.clone();
        }
        let architecture =
            EncoderSpec::new("identity", &json!({}), spec.item).expect("no settings");
        let learner = crate::BuiltInLearners::new("mlc", &all).expect("valid");
        learner.check(&architecture, &spec).expect("fits");
        let learner = learner.build(New {
            architecture,
            spec: &spec,
            seed: Seed(4),
            device: &Default::default(),
        });
        let draw = |index| source.episode(Seed(1), Split::Train, spec.train, index);
        let episodes = (0..2).map(|index| draw(index).expect("fits")).collect();
        (learner, spec, episodes)
    }

    fn answers(learner: &dyn Learner<Cpu>, spec: &TaskSpec, episodes: &[Episode]) -> Vec<f32> {
        let tasks = TaskBatch::new(episodes, spec, &Default::default());
        let scores = learner.predict(&tasks, PredictAt::LastStep).remove(0);
        scores.into_data().to_vec().expect("f32")
    }

    /// The symbols of scores, `places` each of `n`.
    fn said(scores: &[f32], n: usize) -> Vec<usize> {
        let best = |row: &[f32]| {
            (0..n).fold(
                0,
                |best, next| if row[next] > row[best] { next } else { best },
            )
        };
        scores.chunks(n).map(best).collect()
    }

    /// An answer is decoded with what it is itself: scores given its symbols are those it was decoded by, so
    /// its likelihood is the mean of its own log-probabilities.
    #[test]
    fn decoding_is_greedy() {
        for context in ["joint", "separate", "none"] {
            let (learner, spec, mut episodes) = built(json!({"context": context}));
            let scores = answers(learner.as_ref(), &spec, &episodes);
            let (n, places) = (7, 9);
            let symbols = said(&scores, n);
            let of_task = symbols.len() / 2;
            for (task, episode) in episodes.iter_mut().enumerate() {
                let own = &symbols[task * of_task..(task + 1) * of_task];
                let mut targets: Vec<u32> = own.iter().map(|&symbol| symbol as u32).collect();
                for row in targets.chunks_mut(places) {
                    let end = row
                        .iter()
                        .position(|&symbol| symbol == 6)
                        .unwrap_or(places - 1);
                    row[end..].fill(6);
                }
                episode.query.targets = meta_core::data::Targets::Sequences(targets);
            }
            // What was said is what is asked for now, and the loss of the scores is that of the targets.
            let tasks = TaskBatch::<Cpu>::new(&episodes, &spec, &Default::default());
            let shape = [2, 3, n * places];
            let data = burn::tensor::TensorData::new(scores, shape);
            let own = loss::loss(
                Tensor::from_data(data, &Default::default()),
                &tasks.query.targets,
            );
            let given = learner.log_likelihood(&tasks).expect("a density");
            let numbers = |x: Tensor<Cpu, 1>| x.into_data().to_vec::<f32>().expect("f32");
            // The same sums, over one token or all of them.
            assert_close(&numbers(own.neg()), &numbers(given), 1e-4);
        }
    }

    /// Neither the targets of queries nor the other queries are read, and without examples no example is.
    #[test]
    fn a_query_is_read_with_the_examples_alone() {
        for context in ["joint", "separate", "none"] {
            let (learner, spec, episodes) = built(json!({"context": context}));
            let plain = answers(learner.as_ref(), &spec, &episodes);
            let mut changed = episodes.clone();
            let features = spec.item.features();
            for episode in &mut changed {
                // The second query becomes the third, and nobody knows the targets.
                episode
                    .query
                    .inputs
                    .copy_within(2 * features..3 * features, features);
                episode.query.targets = meta_core::data::Targets::Sequences(vec![6; 27]);
            }
            let other = answers(learner.as_ref(), &spec, &changed);
            let of_first = plain.len() / 6;
            assert_close(&plain[..of_first], &other[..of_first], 1e-4);
            assert_ne!(
                &plain[of_first..2 * of_first],
                &other[of_first..2 * of_first]
            );
            let mut renamed = episodes.clone();
            for episode in &mut renamed {
                episode
                    .support
                    .inputs
                    .copy_within(features..2 * features, 0);
            }
            let other = answers(learner.as_ref(), &spec, &renamed);
            assert_eq!(plain == other, context == "none");
        }
    }

    /// With one query, `joint` reads what `separate` reads, but that examples read the query too.
    #[test]
    fn contexts_have_the_same_parameters() {
        let parameters = |context: &str| {
            let (learner, ..) = built(json!({"context": context}));
            let parameters = learner.parameters();
            parameters.shapes()
        };
        assert_eq!(parameters("joint"), parameters("separate"));
        assert_eq!(parameters("joint"), parameters("none"));
    }

    /// Draws differ from the most probable answer, and are the same every time.
    #[test]
    fn answers_are_drawn_by_their_question() {
        let (greedy, spec, episodes) = built(json!({}));
        let (drawing, ..) = built(json!({"temperature": 1.0}));
        let drawn = answers(drawing.as_ref(), &spec, &episodes);
        assert_eq!(drawn, answers(drawing.as_ref(), &spec, &episodes));
        assert_ne!(drawn, answers(greedy.as_ref(), &spec, &episodes));
    }

    #[test]
    fn other_tasks_are_refused() {
        let message = crate::toy::refusal("mlc", json!({}), &crate::toy::spec(3, 1));
        assert!(message.contains("data.source = \"grammar\""), "{message}");
    }
}
