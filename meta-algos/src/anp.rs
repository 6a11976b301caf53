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
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        embed::embed_together,
        predictive::OutputDistribution,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass,
        attention::{
            Block, MapAxis, MultiHeadAttention, MultiHeadSettings, Weighting, check_heads, stack,
        },
        encoder::Architecture,
        feed_forward::FeedForward,
        init::Initializer,
    },
    primitives::{Primitives, join},
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of attentive neural processes; the defaults are the paper's of section 4.1.
    pub struct AnpSettings {
        /// Width of the hidden layers of `h` and `g` and of the feed-forward parts.
        hidden: usize = 128, size(1);
        /// Layers of `h`.
        encoder_layers: usize = 3, size(1);
        /// Layers of `g`.
        decoder_layers: usize = 3, size(1);
        /// Blocks of self-attention over the support.
        layers: usize = 2, size(1);
        /// Attention heads; must divide the width of the embedding.
        heads: usize = 8, size(1);
        /// What the weights of all attention follow from: `softmax` of the scores, or `uniform`
        /// (mean pooling with the same parameters).
        attention: Weighting = Weighting::Softmax;
        /// `σ₀`, the least standard deviation of a prediction, in (0, 1); regression only.
        least_deviation: f64 = 0.1, inside_unit();
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
        let (width, what) = (architecture.width(), "the width of the embedding");
        check_heads("learner.heads", self.heads, what, width)
    }

    fn gradient_of() -> GradientOf {
        let small = |attention: &str| {
            json!({"hidden": 5, "encoder_layers": 2, "decoder_layers": 2, "layers": 1, "heads": 1,
                "attention": attention})
        };
        let settings = vec![small("softmax"), small("uniform")];
        GradientOf::Training("negative log-likelihood", settings)
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({
                "hidden": 32, "encoder_layers": 2, "decoder_layers": 2, "layers": 1, "heads": 2
            }),
            // Nothing compares or adapts by design: that has to be learned first.
            iterations: 1500,
            maps: 2,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = Anp {
            predictive: OutputDistribution::new(new.spec, self.least_deviation),
            architecture: new.architecture,
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
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
    predictive: OutputDistribution,
}

impl<A: Architecture> SinglePass for Anp<A> {
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
        let pairs = join(support.clone(), targets);
        let read = model.reader.forward(pairs);
        let (values, maps) = stack(&model.blocks, read, s, None, pass);
        for (layer, map) in maps.iter().enumerate() {
            let name = format!("blocks.{layer}");
            pass.record(&name, MapAxis::Support, MapAxis::Support, map);
        }
        let (known, map) = model
            .cross
            .read(query.clone(), support, values, 1, None, pass);
        pass.record("cross", MapAxis::Query, MapAxis::Support, &map);
        model.decoder.forward(join(query, known))
    }

    fn predictive(&self) -> Option<OutputDistribution> {
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
        assert_eq!((map.rows, map.columns), (MapAxis::Query, MapAxis::Support));
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
