//! Transformer neural processes, TNP-D: each target predicted independently of the others.
//!
//! Nguyen and Grover, *Transformer neural processes: uncertainty-aware meta learning via sequence
//! modeling*, ICML 2022, section 3.2.
//!
//! Support and queries are one sequence of tokens; every token attends to the support alone, so that
//! a prediction depends on neither the order of the support nor the other queries:
//!
//! ```text
//! tokens  e([φ(xᵢ), yᵢ]) of the support,  e([φ(x), 0]) of the queries
//! layers  u ← block(u reads the tokens of the support)
//! [m, s] = g(u of the query),   σ = σ₀ + (1 − σ₀) softplus(s)
//! p(y | x) = N(y; m, σ²)
//! ```
//!
//! Trained by the mean of `−ln p(y | x)` over the queries. In classification `y` is 1 for the class and
//! 0 for the others, and `g` gives class scores.
//!
//! # Differences from the paper
//! * Inputs pass an encoder `φ` first, shared by support and queries, whose width is that of a token
//!   (the paper's is 64).
//! * A block has the normalisation before each part, with a last one after the blocks; the paper's is
//!   PyTorch's, after each part. There is no dropout.
//! * `σ` is bounded below like that of the other neural processes.
//! * The number of context points is that of the episode; the paper's varies from batch to batch.

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
        attention::{Block, MapAxis, MultiHeadSettings, Weighting, check_heads},
        encoder::Architecture,
        feed_forward::FeedForward,
        init::Initializer,
        norm::{Norm, Statistics},
    },
    primitives::{Primitives, broadcast_rows, join},
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of transformer neural processes; the defaults are the paper's for one-dimensional
    /// regression.
    pub struct TnpSettings {
        /// Width of the hidden layers of `e` and `g` and of the feed-forward parts.
        hidden: usize = 128, size(1);
        /// Layers of `e`.
        encoder_layers: usize = 4, size(1);
        /// Layers of `g`.
        decoder_layers: usize = 2, size(1);
        /// Blocks of the transformer.
        layers: usize = 6, size(1);
        /// Attention heads; must divide the width of the embedding.
        heads: usize = 4, size(1);
        /// What the weights of all attention follow from: `softmax` of the scores, or `uniform`
        /// (mean pooling with the same parameters).
        attention: Weighting = Weighting::Softmax;
        /// `σ₀`, the least standard deviation of a prediction, in (0, 1); regression only.
        least_deviation: f64 = 0.1, inside_unit();
    }
}

impl LearnerSettings for TnpSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "tnp",
        family: Family::InContext,
        summary: "a transformer over support and queries predicts a distribution (TNP-D)",
        paper: "Nguyen and Grover, Transformer neural processes, ICML 2022",
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
            json!({"hidden": 5, "encoder_layers": 2, "decoder_layers": 1, "layers": 2, "heads": 1,
                "attention": attention})
        };
        let settings = vec![small("softmax"), small("uniform")];
        GradientOf::Training("negative log-likelihood", settings)
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"hidden": 32, "encoder_layers": 2, "layers": 2}),
            // Nothing compares or adapts by design: that has to be learned first.
            iterations: 1500,
            maps: 3,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = Tnp {
            predictive: OutputDistribution::new(new.spec, self.least_deviation),
            architecture: new.architecture,
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// `φ`, `e`, the transformer and `g`.
#[derive(Module, Debug)]
pub struct TnpModel<B: Backend, E> {
    encoder: E,
    embed: FeedForward<B>,
    blocks: Vec<Block<B>>,
    norm: Norm<B>,
    decoder: FeedForward<B>,
}

/// How a transformer neural process answers.
pub struct Tnp<A> {
    settings: TnpSettings,
    architecture: A,
    predictive: OutputDistribution,
}

impl<A: Architecture> SinglePass for Tnp<A> {
    type Model<L: Primitives> = TnpModel<L, A::Model<L>>;

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
        let embed = FeedForward::new(
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
        TnpModel {
            encoder,
            embed,
            blocks,
            norm: Norm::new(width, Statistics::Layer, "norm", device),
            decoder: FeedForward::new(
                width,
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
        let ([t, s, _], [_, q, _]) = (support.dims(), query.dims());
        let outputs = self.predictive.outputs();
        let targets = tasks.support.targets.encoded(outputs, &support);
        let unknown = targets.clone().narrow(1, 0, 1).zeros_like();
        let pairs = join(support, targets);
        let targetless = join(query, broadcast_rows(unknown, t, q));
        let tokens = model.embed.forward(Tensor::cat(vec![pairs, targetless], 1));
        let mut support = tokens.clone().narrow(1, 0, s);
        let mut query = tokens.narrow(1, s, q);
        for (layer, block) in model.blocks.iter().enumerate() {
            let name = format!("blocks.{layer}");
            let (read, map) = block.attend(query, support.clone(), 1, pass);
            pass.record(&name, MapAxis::Query, MapAxis::Support, &map);
            query = read;
            // What the support becomes in the last layer is read by nobody.
            if layer + 1 < model.blocks.len() {
                let (read, map) = block.forward(support, s, pass);
                pass.record(&name, MapAxis::Support, MapAxis::Support, &map);
                support = read;
            }
        }
        model.decoder.forward(model.norm.forward(query, q, pass))
    }

    fn predictive(&self) -> Option<OutputDistribution> {
        Some(self.predictive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, assert_close, learner, spec, tasks, values};
    use meta_core::{data::Task, task::TargetBatch};

    /// A query is answered alone: others beside it change nothing.
    #[test]
    fn queries_do_not_see_each_other() {
        let spec = TaskSpec {
            task: Task::Regression { outputs: 1 },
            ..spec(1, 4)
        };
        let tnp = learner("tnp", json!({"heads": 1, "layers": 2}), &spec);
        let mut both = tasks(&crate::toy::spec(1, 4));
        let numbers = |x: &Tensor<_, 3>| TargetBatch::Values(x.clone().narrow(2, 0, 1));
        both.support.targets = numbers(&both.support.inputs);
        both.query.targets = numbers(&both.query.inputs);
        let mut first = both.clone();
        first.query.inputs = both.query.inputs.clone().narrow(1, 0, 1);
        let answer = |tasks: &TaskBatch<_>| tnp.predict(tasks, PredictAt::LastStep).remove(0);
        let alone = values(answer(&first));
        assert_close(&values(answer(&both).narrow(1, 0, 1)), &alone, 1e-5);
    }
}
