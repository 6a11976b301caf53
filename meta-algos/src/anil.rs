//! Almost no inner loop: only the head adapts.
//!
//! Raghu, Raghu, Bengio and Vinyals, *Rapid learning or feature reuse? Towards understanding the
//! effectiveness of MAML*, ICLR 2020.
//!
//! With an encoder `φ` and a linear head `w` (section 4.1):
//!
//! ```text
//! w⁰ = w,   wⁱ⁺¹ = wⁱ − α ∇_w L_s(φ, wⁱ)
//! meta-gradient = ∇_(φ, w) mean over tasks of L_q(φ, wᴷ)
//! ```
//!
//! The meta-gradient is exact: through every step of the head, and through the embeddings of the
//! support on which the steps depend. Support and queries are embedded once, whatever the number of
//! steps.
//!
//! # Differences from the paper
//! * The defaults of the inner loop are those of MAML on 5-way Omniglot, and the outer optimiser is
//!   that of the manifest.

use burn::tensor::Tensor;
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
    primitives::Primitives,
    settings,
    task::TaskSpec,
};
use serde_json::json;

settings! {
    /// Settings of ANIL.
    pub struct AnilSettings {
        /// `α`.
        inner_lr: f64 = 0.4, above(0.0);
        /// Inner steps `K` of the head in training.
        inner_steps: usize = 1, size(1);
        /// Inner steps of the head at validation and test.
        test_steps: usize = 3, size(1);
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

impl LearnerSettings for AnilSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "anil",
        family: Family::Gradient,
        summary: "MAML in which only the head adapts; the encoder is shared by all tasks",
        paper: "Raghu et al., Rapid learning or feature reuse?, ICLR 2020",
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
            json!({"inner_lr": 0.1, "inner_steps": 1, "test_steps": 1}),
            json!({"inner_lr": 0.1, "inner_steps": 3, "test_steps": 3, "inner_momentum": 0.8}),
            json!({"inner_lr": 0.01, "inner_steps": 2, "test_steps": 2, "inner_optimizer": "adam"}),
        ])
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"inner_lr": 0.1, "inner_steps": 2}),
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = Anil {
            outputs: new.spec.outputs(),
            settings: self,
        };
        PartialLearner::boxed(rule, new)
    }
}

impl AnilSettings {
    fn inner_loop(&self) -> InnerLoop {
        InnerLoop {
            steps: self.inner_steps,
            test_steps: self.test_steps,
            checkpoint: self.checkpoint_inner_steps,
        }
    }
}

/// How ANIL adapts.
struct Anil {
    settings: AnilSettings,
    /// Outputs of `w`.
    outputs: usize,
}

impl Partial for Anil {
    const PATH: &str = "head";

    type Readout<L: Primitives> = Linear<L>;

    fn init<L: Primitives>(
        &self,
        width: usize,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Linear<L> {
        Linear::glorot(width, self.outputs, initializer, device)
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

    /// `w⁰ = w` of every task.
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
        head: &Linear<L>,
        _adapted: &Params<L>,
        items: Tensor<L, 3>,
        _support: Embeddings<'_, L>,
        _pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        head.forward(items)
    }
}

#[cfg(test)]
mod tests {
    use crate::toy::{PredictAt, learner, spec, tasks, values};
    use serde_json::json;

    /// The encoder learns, though it does not adapt: through the embeddings that the steps stand on.
    #[test]
    fn the_encoder_gets_a_gradient() {
        let spec = spec(3, 2);
        let gradients = learner("anil", json!({}), &spec)
            .meta_gradient(&tasks(&spec))
            .gradients;
        for part in ["encoder", "head"] {
            assert!(
                values(gradients.under(part).squared_norm())[0] > 0.0,
                "{part}"
            );
        }
    }

    #[test]
    fn it_answers_before_the_first_step_and_after_each() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let answers =
            learner("anil", json!({"test_steps": 4}), &spec).predict(&tasks, PredictAt::EveryStep);
        assert_eq!(answers.len(), 5);
        let fewer =
            learner("anil", json!({"test_steps": 2}), &spec).predict(&tasks, PredictAt::EveryStep);
        for (fewer, more) in fewer.into_iter().zip(answers) {
            assert_eq!(values(fewer), values(more));
        }
    }
}
