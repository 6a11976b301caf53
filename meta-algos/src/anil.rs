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
use burn_autodiff::Autodiff;
use meta_core::{
    Result,
    adapt::{Adaptable, Embedded, predictions},
    learner::{Answers, Family, GradientOf, Learner, LearnerInfo, LearnerSettings, MetaGradient},
    nn::{encoder::Architecture, init::Initializer, linear::Linear, loss},
    optim::OptimizerKind,
    params::Params,
    primitives::Primitives,
    rng::Seed,
    settings::{above_zero, at_least_one},
    task::{ItemBatch, TaskBatch, TaskSpec},
    unroll::InnerOptimizer,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Settings of [`Anil`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnilSettings {
    /// `α`, above 0.
    pub inner_lr: f64,
    /// Inner steps `K` of the head in training, at least 1.
    pub inner_steps: usize,
    /// Inner steps of the head at validation and test, at least 1.
    pub test_steps: usize,
    /// Rule of the inner steps: `sgd`, `adam` or `adamw`; differentiated like everything else.
    pub inner_optimizer: OptimizerKind,
    /// Momentum of an inner `sgd`, in [0, 1).
    pub inner_momentum: f64,
}

impl Default for AnilSettings {
    fn default() -> Self {
        AnilSettings {
            inner_lr: 0.4,
            inner_steps: 1,
            test_steps: 3,
            inner_optimizer: OptimizerKind::Sgd,
            inner_momentum: 0.0,
        }
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
        above_zero("learner.inner_lr", self.inner_lr)?;
        at_least_one("learner.inner_steps", self.inner_steps)?;
        at_least_one("learner.test_steps", self.test_steps)?;
        let momentum = self.inner_momentum;
        InnerOptimizer::check_momentum("learner.inner_momentum", self.inner_optimizer, momentum)?;
        spec.require_one_way(Self::INFO.name)
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({"inner_lr": 0.1, "inner_steps": 1, "test_steps": 1}),
            json!({"inner_lr": 0.1, "inner_steps": 3, "test_steps": 3, "inner_momentum": 0.8}),
            json!({"inner_lr": 0.01, "inner_steps": 2, "test_steps": 2, "inner_optimizer": "adam"}),
        ])
    }

    fn build<A: Architecture, B: Primitives>(
        self,
        architecture: A,
        spec: &TaskSpec,
        seed: Seed,
        device: &B::Device,
    ) -> Result<Box<dyn Learner<B>>> {
        self.check(&architecture, spec)?;
        let (width, outputs) = (architecture.width(), spec.outputs());
        let network = Adaptable::<A, B>::new(architecture, outputs, device);
        Ok(Box::new(Anil {
            parameters: network.draw(seed),
            settings: self,
            network,
            head: [width, outputs],
            device: device.clone(),
        }))
    }
}

/// ANIL on the backend `B`.
pub struct Anil<A: Architecture, B: Primitives> {
    settings: AnilSettings,
    network: Adaptable<A, B>,
    /// Inputs and outputs of `w`.
    head: [usize; 2],
    device: B::Device,
    /// `φ` and `w`, each `[1, …]`.
    parameters: Params<B>,
}

impl<A: Architecture, B: Primitives> Anil<A, B> {
    /// The head on a level, with `parameters` in place.
    fn head<L: Primitives<Device = B::Device>>(&self, parameters: Params<L>) -> Linear<L> {
        let [inputs, outputs] = self.head;
        let skeleton = Linear::glorot(inputs, outputs, &mut Initializer::zeros(), &self.device);
        parameters.write_into(skeleton)
    }

    /// `w ← w − α ∇_w Σ_tasks L_s`, on the embedded support, or the step of the inner optimiser along
    /// that gradient.
    fn inner_step<L: Primitives<Device = B::Device>>(
        &self,
        index: usize,
        state: Params<L>,
        support: &ItemBatch<L>,
    ) -> Params<L> {
        let fast = InnerOptimizer::weights(&state).lift::<Autodiff<L>>();
        let support = support.lift();
        let predictions = self.head(fast.clone()).forward(support.inputs);
        let loss = loss::loss(predictions, &support.targets).sum();
        let gradients = fast.gradients(&loss.backward());
        let AnilSettings {
            inner_optimizer,
            inner_lr,
            inner_momentum,
            ..
        } = self.settings;
        InnerOptimizer::new(inner_optimizer, inner_lr, inner_momentum)
            .step(index, state, &gradients)
    }

    /// The tasks as the encoder in `parameters` sees them.
    fn embed<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
        tasks: &TaskBatch<L>,
        training: bool,
    ) -> Embedded<L> {
        let network = self.network.network(parameters);
        Embedded::new(&network.encoder, self.network.statistics(), tasks, training)
    }
}

impl<A: Architecture, B: Primitives> Learner<B> for Anil<A, B> {
    fn parameters(&self) -> Params<B> {
        self.parameters.clone()
    }

    fn set_parameters(&mut self, parameters: Params<B>) {
        // Through a network, which checks names and shapes.
        self.parameters = Params::of(&self.network.network(parameters));
    }

    fn meta_gradient(&self, tasks: &TaskBatch<B>) -> MetaGradient<B> {
        let lifted = tasks.lift::<Autodiff<B>>();
        let leaves = self.parameters.clone().lift::<Autodiff<B>>();
        let embedded = self.embed(leaves.clone(), &lifted, true);
        let start = leaves.under("head").fan_out(tasks.tasks());
        let state = (0..self.settings.inner_steps).fold(start, |state, index| {
            self.inner_step(index, state, &embedded.support)
        });
        let head = self.head(InnerOptimizer::weights(&state));
        let predictions = head.forward(embedded.query);
        let targets = &lifted.query.targets;
        let losses = loss::loss(predictions.clone(), targets);
        let buffers = embedded.pass.statistics.take().with_prefix("encoder");
        MetaGradient::of(&leaves, losses, predictions, targets, buffers)
    }

    fn predict(&self, tasks: &TaskBatch<B>, answers: Answers) -> Vec<Tensor<B, 3>> {
        let embedded = self.embed(self.parameters.clone(), tasks, false);
        let start = self.parameters.under("head").fan_out(tasks.tasks());
        predictions(
            answers,
            start,
            self.settings.test_steps,
            |index, state| self.inner_step(index, state, &embedded.support),
            |state| {
                let head = self.head(InnerOptimizer::weights(state));
                head.forward(embedded.query.clone())
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::toy::{Answers, learner, spec, tasks, values};
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
            learner("anil", json!({"test_steps": 4}), &spec).predict(&tasks, Answers::EveryStep);
        assert_eq!(answers.len(), 5);
        let fewer =
            learner("anil", json!({"test_steps": 2}), &spec).predict(&tasks, Answers::EveryStep);
        for (fewer, more) in fewer.into_iter().zip(answers) {
            assert_eq!(values(fewer), values(more));
        }
    }
}
