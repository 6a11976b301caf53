//! Attentive neural processes.
//!
//! Kim, Mnih, Schwarz, Garnelo, Eslami, Rosenbaum, Vinyals and Teh, *Attentive neural processes*, ICLR
//! 2019.
//!
//! A conditional neural process whose average is replaced by attention: every query reads the support
//! items that matter to it (section 3, figure 2, the deterministic path):
//!
//! ```text
//! {rᵢ} = self-attention of {h([φ(xᵢ), yᵢ])}, a stack of blocks
//! r(x) = multi-head attention of the query φ(x) to keys φ(xᵢ) and values rᵢ
//! [m, s] = g([φ(x), r(x)]),   σ = σ₀ + (1 − σ₀) softplus(s)
//! p(y | x) = N(y; m, σ²)
//! ```
//!
//! Trained by the mean of `−ln p(y | x)` over the queries. In classification `y` is 1 for the class and
//! 0 for the others, and `g` gives class scores.
//!
//! # Differences from the paper
//! * The latent path is left out: there is no latent variable, and the loss is the likelihood itself
//!   rather than a bound on it.
//! * Inputs pass an encoder `φ` first, shared by support and queries, whose width is that of `rᵢ` and of
//!   the attention; the paper's keys and queries pass an MLP.
//! * A block of the self-attention has the normalisation before each part, and a feed-forward part.
//! * The loss is that of the queries; the paper's targets contain the context as well, and the number
//!   of context points varies from batch to batch.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use meta_core::{
    Result,
    amortize::{Amortized, AmortizedLearner, embed_together},
    learner::{Family, GradientOf, Learner, LearnerInfo, LearnerSettings},
    nn::{
        Axis, Pass,
        attention::{Block, MultiHeadAttention, MultiHeadSettings, Weighting, check_heads, stack},
        encoder::Architecture,
        feed_forward::FeedForward,
        init::Initializer,
        predictive::Predictive,
    },
    primitives::Primitives,
    rng::Seed,
    settings::{above_zero, at_least_one, in_unit},
    task::{TaskBatch, TaskSpec},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Settings of attentive neural processes; the defaults are the paper's of section 4.1.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnpSettings {
    /// Width of the hidden layers of `h` and `g` and of the feed-forward parts, at least 1.
    pub hidden: usize,
    /// Layers of `h`, at least 1.
    pub encoder_layers: usize,
    /// Layers of `g`, at least 1.
    pub decoder_layers: usize,
    /// Blocks of self-attention over the support, at least 1.
    pub layers: usize,
    /// Attention heads, at least 1; must divide the width of the embedding.
    pub heads: usize,
    /// What the weights of all attention follow from: `softmax` of the scores, or `uniform` (mean
    /// pooling with the same parameters).
    pub attention: Weighting,
    /// `σ₀`, the least standard deviation of a prediction, in (0, 1); regression only.
    pub least_deviation: f64,
}

impl Default for AnpSettings {
    fn default() -> Self {
        AnpSettings {
            hidden: 128,
            encoder_layers: 3,
            decoder_layers: 3,
            layers: 2,
            heads: 8,
            attention: Weighting::Softmax,
            least_deviation: 0.1,
        }
    }
}

impl LearnerSettings for AnpSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "anp",
        family: Family::InContext,
        summary: "every query reads the support by attention and predicts a distribution",
        paper: "Kim et al., Attentive neural processes, ICLR 2019",
        regression: true,
        any_way: false,
    };

    fn check<A: Architecture>(&self, architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_one_way(Self::INFO.name)?;
        at_least_one("learner.hidden", self.hidden)?;
        at_least_one("learner.encoder_layers", self.encoder_layers)?;
        at_least_one("learner.decoder_layers", self.decoder_layers)?;
        at_least_one("learner.layers", self.layers)?;
        let width = architecture.width();
        check_heads(
            "learner.heads",
            self.heads,
            "the width of the embedding",
            width,
        )?;
        above_zero("learner.least_deviation", self.least_deviation)?;
        in_unit("learner.least_deviation", self.least_deviation)
    }

    fn gradient_of() -> GradientOf {
        let small = |attention: &str| {
            json!({"hidden": 5, "encoder_layers": 2, "decoder_layers": 2, "layers": 1, "heads": 1,
                "attention": attention})
        };
        let settings = vec![small("softmax"), small("uniform")];
        GradientOf::Training("negative log-likelihood", settings)
    }

    fn build<A: Architecture, B: Primitives>(
        self,
        architecture: A,
        spec: &TaskSpec,
        seed: Seed,
        device: &B::Device,
    ) -> Result<Box<dyn Learner<B>>> {
        self.check(&architecture, spec)?;
        let rule = Anp {
            predictive: Predictive::new(spec, self.least_deviation),
            settings: self,
            architecture,
        };
        Ok(Box::new(AmortizedLearner::new(rule, seed, device)))
    }
}

/// `φ`, `h`, the attention over the support and to it, and `g`.
#[derive(Module, Debug)]
pub struct AnpModel<B: Backend, E> {
    encoder: E,
    reader: FeedForward<B>,
    blocks: Vec<Block<B>>,
    cross: MultiHeadAttention<B>,
    decoder: FeedForward<B>,
}

/// How an attentive neural process answers.
pub struct Anp<A> {
    settings: AnpSettings,
    architecture: A,
    predictive: Predictive,
}

impl<A: Architecture> Amortized for Anp<A> {
    type Model<L: Primitives> = AnpModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let (width, settings) = (self.architecture.width(), &self.settings);
        let hidden = settings.hidden;
        let attention = MultiHeadSettings {
            weighting: settings.attention,
            ..MultiHeadSettings::of_width(width, settings.heads)
        };
        let encoder = self.architecture.init(initializer, device);
        let reader = FeedForward::new(
            width + self.predictive.outputs(),
            hidden,
            width,
            settings.encoder_layers,
            initializer,
            device,
        );
        let blocks = (0..settings.layers)
            .map(|_| Block::with(attention, hidden, initializer, device).expect("checked"))
            .collect();
        AnpModel {
            encoder,
            reader,
            blocks,
            cross: MultiHeadAttention::with(attention, initializer, device).expect("checked"),
            decoder: FeedForward::new(
                2 * width,
                hidden,
                self.predictive.width(),
                settings.decoder_layers,
                initializer,
                device,
            ),
        }
    }

    /// `[m, s]`, `[t, q, 2·outputs]`, or class scores, `[t, q, n]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(&model.encoder, tasks, pass);
        let s = support.dims()[1];
        let outputs = self.predictive.outputs();
        let targets = tasks.support.targets.encoded(outputs, &support);
        let pairs = Tensor::cat(vec![support.clone(), targets], 2);
        let read = model.reader.forward(pairs);
        let (values, maps) = stack(&model.blocks, read, s, None, pass);
        for (layer, map) in maps.iter().enumerate() {
            let name = format!("blocks.{layer}");
            pass.record(&name, Axis::Support, Axis::Support, map);
        }
        let (known, map) = model
            .cross
            .read(query.clone(), support, values, 1, None, pass);
        pass.record("cross", Axis::Query, Axis::Support, &map);
        model.decoder.forward(Tensor::cat(vec![query, known], 2))
    }

    fn predictive(&self) -> Option<Predictive> {
        Some(self.predictive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{encoder, learner, refusal, spec, tasks, values};
    use meta_core::backend::Cpu;

    #[test]
    fn heads_must_divide_the_width_of_the_embedding() {
        let message = refusal("anp", json!({"heads": 2}), &spec(3, 1));
        assert!(message.contains("`learner.heads = 2`"), "{message}");
    }

    /// Uniform attention has the same parameters, and every weight is one over the support.
    #[test]
    fn uniform_attention_is_a_mean_with_as_many_parameters() {
        let spec = spec(3, 2);
        let build = |attention: &str| {
            let settings = json!({"heads": 1, "attention": attention});
            learner("anp", settings, &spec)
        };
        let (soft, uniform) = (build("softmax"), build("uniform"));
        assert_eq!(soft.parameters().shapes(), uniform.parameters().shapes());
        let maps = |learner: &dyn Learner<Cpu>| learner.explain(&tasks(&spec)).maps;
        let map = maps(uniform.as_ref())
            .pop()
            .expect("a map of the cross-attention");
        assert_eq!((map.rows, map.columns), (Axis::Query, Axis::Support));
        assert!(
            values(map.weights)
                .iter()
                .all(|w| (w - 1.0 / 6.0).abs() < 1e-6)
        );
        let map = maps(soft.as_ref()).pop().expect("a map");
        assert!(
            values(map.weights)
                .iter()
                .any(|w| (w - 1.0 / 6.0).abs() > 1e-3)
        );
        assert_eq!(encoder().width(), 7);
    }
}
