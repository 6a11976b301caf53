//! Attentive task-agnostic meta-learning: the attention over tokens and the head adapt, the encoder does not.
//!
//! Jiang, Havaei, Chartrand, Chouaib, Vincent, Jesson, Chapados and Matwin, *Attentive task-agnostic meta-learning
//! for few-shot text classification*, 2018 (ICLR 2019 submission).
//!
//! With an encoder `φ` of tokens that all tasks share, tokens `h = φ(x)`, an attention `u` and a head `w`
//! (section 3, algorithm 1):
//!
//! ```text
//! α_i = softmax_i(u · h_i),   z = Σ α_i h_i,   ŷ = z W + b
//! ψ = (u, W, b),   ψⁱ⁺¹ = ψⁱ − α ∇_ψ L_s(ψⁱ, φ)
//! meta-gradient = ∇_(φ, ψ) mean over tasks of L_q(ψᴷ, φ)
//! ```
//!
//! The meta-gradient is exact, and items are embedded once, whatever the number of steps. Shapes: tokens
//! `[t, b, l·c]` from the encoder, `u [t, c, 1]`, weights `[t, 1, q, l]`, scores `[t, q, n]`.
//!
//! An embedding is read as tokens: take an encoder that gives all of them, `conv1d` or `tcn` with `pool = "none"`.
//! A token of zeros is padding, and not read. With `attention = "uniform"` the tokens that are there count alike,
//! with the same parameters: ANIL on their mean.
//!
//! # Differences from the paper
//! * The meta-gradient is of second order; `order = "first"` leaves that out.
//! * The defaults of the inner loop are those of `anil`; the outer optimiser is that of the manifest.
//! * The paper's encoder is a bidirectional LSTM or a CNN; here any that gives its tokens.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use meta_core::{
    Error, Result,
    data::ItemShape,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Steps as InnerSteps, Toy,
        inner_loop::{InnerLoop, InnerOptimizer, Order},
        partial::{Embeddings, Partial, PartialLearner},
    },
    nn::{
        Pass,
        attention::{MapAxis, Weighting, soft},
        encoder::{Architecture, Steps},
        init::Initializer,
        linear::Linear,
    },
    optim::OptimizerKind,
    params::Params,
    primitives::{Primitives, linear},
    settings,
    task::TaskSpec,
};
use serde_json::json;

settings! {
    /// Settings of ATAML.
    pub struct AtamlSettings {
        /// Numbers of a token in an embedding; 0: an embedding has as many tokens as an item has rows.
        token_width: usize = 0, size(0);
        /// `α`.
        inner_lr: f64 = 0.4, above(0.0);
        /// Inner steps `K` of attention and head in training.
        inner_steps: usize = 1, size(1);
        /// Inner steps at validation and test.
        test_steps: usize = 3, size(1);
        /// Rule of the inner steps: `sgd`, `adam` or `adamw`; differentiated like everything else.
        inner_optimizer: OptimizerKind = OptimizerKind::Sgd;
        /// Momentum of an inner `sgd`.
        inner_momentum: f64 = 0.0, below_one();
        /// Order of the meta-gradient: `second` (exact) or `first` (past the inner gradients).
        order: Order = Order::Second;
        /// What tokens are weighted by: `softmax` (attention) or `uniform` (all alike; for comparison).
        attention: Weighting = Weighting::Softmax;
        /// Whether the graph of only one inner step is held at a time: less memory, more time, the
        /// same gradient.
        checkpoint_inner_steps: bool = false;
    }
}

impl AtamlSettings {
    fn inner_loop(&self) -> InnerLoop {
        InnerLoop {
            steps: self.inner_steps,
            test_steps: self.test_steps,
            checkpoint: self.checkpoint_inner_steps,
        }
    }

    /// Width of a token in an embedding of `width`, of items of this shape; 0 where there is none.
    fn width_of(&self, width: usize, item: ItemShape) -> usize {
        match self.token_width {
            0 => width / Steps::of(item).length.max(1),
            token => token,
        }
    }
}

impl LearnerSettings for AtamlSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "ataml",
        family: Family::Gradient,
        summary: "MAML in which the attention over tokens and the head adapt; the encoder is shared by all tasks",
        paper: "Jiang et al., Attentive task-agnostic meta-learning for few-shot text classification, 2018",
        regression: true,
        any_way: false,
    };

    fn check<A: Architecture>(&self, architecture: &A, spec: &TaskSpec) -> Result<()> {
        let momentum = self.inner_momentum;
        InnerOptimizer::check_momentum("learner.inner_momentum", self.inner_optimizer, momentum)?;
        let (width, rows) = (architecture.width(), Steps::of(spec.item).length);
        let token = self.width_of(width, spec.item);
        let is_whole = match self.token_width {
            0 => width.is_multiple_of(rows.max(1)),
            _ => token > 0 && width.is_multiple_of(token),
        };
        if !is_whole || token == 0 || width / token < 2 {
            let expected = format!(
                "must divide the {width} numbers of an embedding into two tokens or more, or be 0 where they \
                 are those of {rows} rows; take an encoder that gives all rows, as `conv1d` and `tcn` with \
                 `pool = \"none\"`"
            );
            return Err(Error::setting(
                "learner.token_width",
                self.token_width,
                expected,
            ));
        }
        spec.require_one_way(Self::INFO.name)
    }

    fn steps(&self) -> InnerSteps {
        self.inner_loop().cost()
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({"token_width": 1, "inner_lr": 0.1, "inner_steps": 1, "test_steps": 1}),
            json!({
                "token_width": 1, "inner_lr": 0.1, "inner_steps": 3, "test_steps": 3, "inner_momentum": 0.8
            }),
            json!({
                "token_width": 1, "inner_lr": 0.1, "inner_steps": 1, "test_steps": 1, "attention": "uniform"
            }),
        ])
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"inner_lr": 0.3, "inner_steps": 3, "token_width": 8}),
            // The head sees half as many numbers as that of `anil`.
            iterations: 600,
            accuracy: 0.8,
            maps: 1,
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let width = new.architecture.width();
        let token = self.width_of(width, new.spec.item);
        let rule = Ataml {
            outputs: new.spec.outputs(),
            tokens: Steps::of(ItemShape {
                height: width / token,
                width: 1,
                channels: token,
            }),
            settings: self,
        };
        PartialLearner::boxed(rule, new)
    }
}

/// The attention over tokens, and the head.
#[derive(Module, Debug)]
pub struct Readout<B: Backend> {
    /// `u`, `[1|t, c, 1]`.
    query: Param<Tensor<B, 3>>,
    /// `W`, `b`.
    head: Linear<B>,
}

/// How ATAML adapts.
struct Ataml {
    settings: AtamlSettings,
    /// Outputs of the head.
    outputs: usize,
    /// An embedding as tokens.
    tokens: Steps,
}

impl Partial for Ataml {
    const PATH: &str = "readout";

    type Readout<L: Primitives> = Readout<L>;

    fn init<L: Primitives>(
        &self,
        _width: usize,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Readout<L> {
        let width = self.tokens.features;
        Readout {
            query: initializer.glorot([1, width, 1], width, 1, device),
            head: Linear::glorot(width, self.outputs, initializer, device),
        }
    }

    fn inner_loop(&self) -> InnerLoop {
        self.settings.inner_loop()
    }

    fn order(&self) -> Order {
        self.settings.order
    }

    fn optimizer(&self) -> InnerOptimizer {
        let settings = &self.settings;
        InnerOptimizer::new(
            settings.inner_optimizer,
            settings.inner_lr,
            settings.inner_momentum,
        )
    }

    /// `ψ⁰ = ψ` of every task.
    fn start<L: Primitives>(
        &self,
        shared: &Params<L>,
        tasks: usize,
        _device: &L::Device,
    ) -> Params<L> {
        shared.clone().fan_out(tasks)
    }

    fn place<L: Primitives>(&self, _shared: Params<L>, adapted: &Params<L>) -> Params<L> {
        adapted.clone()
    }

    fn forward<L: Primitives>(
        &self,
        readout: &Readout<L>,
        _adapted: &Params<L>,
        items: Tensor<L, 3>,
        _support: Embeddings<'_, L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let [t, b, _] = items.dims();
        let Steps {
            length, features, ..
        } = self.tokens;
        let hidden = self.tokens.padding(&items);
        let tokens = self.tokens.rows(items);
        let scores = linear(tokens.clone(), readout.query.val()).reshape([t * b, 1, 1, length]);
        let map = soft(self.settings.attention.scores(scores), Some(&hidden));
        let shown = map.clone().reshape([t, 1, b, length]);
        pass.record("tokens", MapAxis::Query, MapAxis::Other("token"), &shown);
        let map = map.reshape([t * b, 1, length]);
        let read = linear(map, tokens.reshape([t * b, length, features]));
        readout.head.forward(read.reshape([t, b, features]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, learner, refusal, spec, tasks, values};

    /// Both parts adapt, and the encoder gets a gradient though it does not.
    #[test]
    fn attention_and_head_adapt() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let learner = learner("ataml", json!({"token_width": 1}), &spec);
        let gradients = learner.meta_gradient(&tasks).gradients;
        for part in ["encoder", "readout.query", "readout.head"] {
            let own = gradients.filter(|name| name.starts_with(part));
            assert!(values(own.squared_norm())[0] > 0.0, "{part}");
        }
        let explanation = learner.explain(&tasks);
        for (layer, steps) in &explanation.movement {
            assert!(values(steps[0].clone())[0] > 0.0, "{layer} stands still");
        }
        assert_eq!(explanation.maps[0].weights.dims(), [2, 1, 6, 7]);
        assert_eq!(learner.predict(&tasks, PredictAt::EveryStep).len(), 4);
    }

    /// Uniform weights stay so, with the same parameters.
    #[test]
    fn uniform_weights_are_means() {
        let spec = spec(3, 2);
        let make = |attention: &str| {
            let settings = json!({"token_width": 1, "attention": attention});
            learner("ataml", settings, &spec)
        };
        let (softmax, uniform) = (make("softmax"), make("uniform"));
        assert_eq!(
            softmax.parameters().to_data(),
            uniform.parameters().to_data()
        );
        let weights = values(uniform.explain(&tasks(&spec)).maps.remove(0).weights);
        for weights in weights.chunks_exact(7) {
            let largest = weights.iter().fold(0.0f32, |max, &weight| max.max(weight));
            assert!(
                weights
                    .iter()
                    .all(|&w| w == 0.0 || (w - largest).abs() < 1e-6)
            );
        }
    }

    /// The toy encoder has 7 numbers, and an item 6 rows.
    #[test]
    fn tokens_must_divide_an_embedding() {
        for width in [0, 2, 7] {
            let message = refusal("ataml", json!({"token_width": width}), &spec(3, 1));
            let expected = format!("`learner.token_width = {width}`");
            assert!(message.contains(&expected), "{message}");
        }
    }
}
