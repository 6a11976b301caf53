//! Fast context adaptation: a few context parameters adapt, the network does not.
//!
//! Zintgraf, Shiarlis, Kurin, Hofmann and Whiteson, *Fast context adaptation via meta-learning*
//! (CAVIA), ICML 2019.
//!
//! Context parameters `c` are an input of the network; they start at zero in every task and are the
//! only ones that adapt. All others, `θ`, are shared (section 3.1):
//!
//! ```text
//! c⁰ = 0,   cⁱ⁺¹ = cⁱ − α ∇_c L_s(cⁱ, θ)             (eq. 3)
//! meta-gradient = ∇_θ mean over tasks of L_q(cᴷ, θ)     (eq. 4)
//! ```
//!
//! The context modulates a hidden layer between encoder `φ` and head, feature by feature (FiLM,
//! section 3.3):
//!
//! ```text
//! (γ, β) = c W_c + b_c
//! y = W relu((1 + γ) ∘ (φ(x) V + v) + β) + b
//! ```
//!
//! # Differences from the paper
//! * The paper's networks concatenate `c` to the first layer's input (regression) or modulate the
//!   third of four convolutions (classification). Here the modulated layer is one of its own, after
//!   any encoder; without `γ` it is the concatenation of `c` to that layer's input. The encoder does
//!   not depend on `c`, so it runs once, whatever the number of steps.

use burn::{
    module::Module,
    tensor::{Tensor, activation::relu, backend::Backend},
};
use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Steps, Toy,
        inner_loop::{InnerLoop, InnerOptimizer, Order},
        partial::{Embeddings, Partial, PartialLearner},
    },
    nn::{Pass, encoder::Architecture, init::Initializer, linear::Linear},
    optim::OptimizerKind,
    params::Params,
    primitives::{Primitives, add_rows, scale},
    settings,
    task::TaskSpec,
};
use serde_json::json;

settings! {
    /// Settings of CAVIA; the defaults are those of the authors' code for 5-way classification, but for
    /// the width of the modulated layer, which is ours. For sine waves that code has one step and 5 context
    /// parameters.
    pub struct CaviaSettings {
        /// `α`.
        inner_lr: f64 = 1.0, above(0.0);
        /// Inner steps `K` in training.
        inner_steps: usize = 2, size(1);
        /// Inner steps at validation and test.
        test_steps: usize = 2, size(1);
        /// Number of context parameters.
        context: usize = 100, size(1);
        /// Width of the modulated layer.
        hidden: usize = 64, size(1);
        /// Rule of the inner steps: `sgd`, `adam` or `adamw`; differentiated like everything else.
        inner_optimizer: OptimizerKind = OptimizerKind::Sgd;
        /// Momentum of an inner `sgd`.
        inner_momentum: f64 = 0.0, below_one();
        /// Order of the meta-gradient: `second` (exact) or `first` (past the inner gradients).
        #[added("0.2")]
        order: Order = Order::Second;
        /// Whether the graph of only one inner step is held at a time: less memory, more time, the
        /// same gradient.
        #[added("0.2")]
        checkpoint_inner_steps: bool = false;
    }
}

impl LearnerSettings for CaviaSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "cavia",
        family: Family::Gradient,
        summary: "adapts only a few context parameters, which modulate a shared network",
        paper: "Zintgraf et al., Fast context adaptation via meta-learning, ICML 2019",
        regression: true,
        any_way: false,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        let momentum = self.inner_momentum;
        InnerOptimizer::check_momentum("learner.inner_momentum", self.inner_optimizer, momentum)?;
        spec.require_one_way(Self::INFO.name)
    }

    fn steps(&self) -> Steps {
        self.inner_loop().cost()
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({"inner_lr": 0.5, "inner_steps": 1, "test_steps": 1, "context": 3, "hidden": 4}),
            json!({"inner_lr": 0.5, "inner_steps": 3, "test_steps": 3, "context": 3, "hidden": 4}),
            json!({
                "inner_lr": 0.1, "inner_steps": 2, "test_steps": 2, "context": 3, "hidden": 4,
                "inner_momentum": 0.8
            }),
        ])
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"inner_lr": 1.0, "context": 20, "hidden": 32}),
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = Cavia {
            outputs: new.spec.outputs(),
            settings: self,
        };
        PartialLearner::boxed(rule, new)
    }
}

/// What stands after the encoder: the modulated layer and the head.
#[derive(Module, Debug)]
struct Modulated<B: Backend> {
    /// `W_c`, `b_c`: context to `γ` and `β`.
    modulation: Linear<B>,
    /// `V`, `v`.
    hidden: Linear<B>,
    /// `W`, `b`.
    head: Linear<B>,
}

impl<B: Primitives> Modulated<B> {
    /// Embeddings `[t, b, d]` and context `[t, 1, c]` to `[t, b, outputs]`.
    fn forward(&self, embeddings: Tensor<B, 3>, context: Tensor<B, 3>) -> Tensor<B, 3> {
        let hidden = self.hidden.forward(embeddings);
        let width = hidden.dims()[2];
        let film = self.modulation.forward(context);
        let gamma = film.clone().narrow(2, 0, width).add_scalar(1.0);
        let beta = film.narrow(2, width, width);
        self.head
            .forward(relu(add_rows(scale(hidden, gamma), beta)))
    }
}

/// Path of `c` among the parameters that adapt.
const CONTEXT: &str = "context";

impl CaviaSettings {
    fn inner_loop(&self) -> InnerLoop {
        InnerLoop {
            steps: self.inner_steps,
            test_steps: self.test_steps,
            checkpoint: self.checkpoint_inner_steps,
        }
    }
}

/// How CAVIA adapts.
struct Cavia {
    settings: CaviaSettings,
    outputs: usize,
}

impl Partial for Cavia {
    const PATH: &str = "modulated";

    type Readout<L: Primitives> = Modulated<L>;

    fn init<L: Primitives>(
        &self,
        width: usize,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Modulated<L> {
        let CaviaSettings {
            context, hidden, ..
        } = self.settings;
        Modulated {
            modulation: Linear::glorot(context, 2 * hidden, initializer, device),
            hidden: Linear::glorot(width, hidden, initializer, device),
            head: Linear::glorot(hidden, self.outputs, initializer, device),
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

    /// `c⁰ = 0` of every task, `[t, 1, c]`.
    fn start<L: Primitives>(
        &self,
        _shared: &Params<L>,
        tasks: usize,
        device: &L::Device,
    ) -> Params<L> {
        let mut context = Params::default();
        let zeros = Tensor::<L, 3>::zeros([tasks, 1, self.settings.context], device);
        context.push(CONTEXT, zeros);
        context
    }

    fn place<L: Primitives>(&self, shared: Params<L>, _adapted: &Params<L>) -> Params<L> {
        shared
    }

    fn forward<L: Primitives>(
        &self,
        modulated: &Modulated<L>,
        adapted: &Params<L>,
        items: Tensor<L, 3>,
        _support: Embeddings<'_, L>,
        _pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let context = adapted.get(CONTEXT).expect("the one entry");
        modulated.forward(items, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{learner, spec, tasks, values};
    use meta_core::learner::PredictAt;

    /// The context starts at zero: before the first step the support says nothing.
    #[test]
    fn without_a_step_all_tasks_share_one_network() {
        let spec = spec(3, 2);
        let (plain, mut changed) = (tasks(&spec), tasks(&spec));
        changed.support.inputs = changed.support.inputs.neg();
        let cavia = learner("cavia", json!({"context": 4, "hidden": 9}), &spec);
        let (plain, changed) = (
            cavia.predict(&plain, PredictAt::EveryStep),
            cavia.predict(&changed, PredictAt::EveryStep),
        );
        assert_eq!(values(plain[0].clone()), values(changed[0].clone()));
        assert_ne!(values(plain[2].clone()), values(changed[2].clone()));
    }

    /// A momentum has nothing to carry on at the first step, and something at the second.
    #[test]
    fn momentum_starts_with_the_second_step() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let answers = |momentum: f64| {
            let settings = json!({"context": 4, "hidden": 9, "inner_momentum": momentum});
            let answers = learner("cavia", settings, &spec).predict(&tasks, PredictAt::EveryStep);
            answers.into_iter().map(values).collect::<Vec<_>>()
        };
        let (without, with) = (answers(0.0), answers(0.9));
        assert_eq!(without[1], with[1]);
        assert_ne!(without[2], with[2]);
    }

    /// Adapting leaves the shared network as it is: it has no entry for the context.
    #[test]
    fn the_context_is_no_meta_parameter() {
        let cavia = learner("cavia", json!({"context": 4, "hidden": 9}), &spec(3, 2));
        let shapes = cavia.parameters().shapes();
        assert!(shapes.iter().all(|(name, _)| !name.contains(CONTEXT)));
        let film = ("modulated.modulation.weight".to_owned(), vec![1, 4, 18]);
        assert!(shapes.contains(&film), "{shapes:?}");
    }
}
