//! Conditional neural processes.
//!
//! Garnelo, Rosenbaum, Maddison, Ramalho, Saxton, Shanahan, Teh, Rezende and Eslami, *Conditional neural
//! processes*, ICML 2018.
//!
//! Every support item is read alone, what was read is averaged, and a query is answered from the
//! average (section 2.2, eq. 1 to 3):
//!
//! ```text
//! rᵢ = h([φ(xᵢ), yᵢ])
//! r  = mean of rᵢ over the support
//! [m, s] = g([φ(x), r]),   σ = σ₀ + (1 − σ₀) softplus(s)
//! p(y | x) = N(y; m, σ²)
//! ```
//!
//! Trained by the mean of `−ln p(y | x)` over the queries. In classification (section 4.3) the items
//! of each class are averaged, `rᵢ = h(φ(xᵢ))`, `r = [r of class 1, …, r of class n]`, and `g` gives class
//! scores.
//!
//! # Differences from the paper
//! * Inputs pass an encoder `φ` first, shared by support and queries; with an encoder of a few layers,
//!   `h` and `g` can have fewer.
//! * The loss is that of the queries; the paper's targets contain the context as well, and the number
//!   of context points varies from batch to batch.
//! * ReLU layers of one width; the paper gives widths for some of its experiments alone.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use meta_core::{
    Result,
    data::Task,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        embed::embed_together,
        predictive::OutputDistribution,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{Pass, distance, encoder::Architecture, feed_forward::FeedForward, init::Initializer},
    primitives::{Primitives, broadcast_rows, join, mean_rows},
    settings,
    task::{TargetBatch, TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of conditional neural processes; the defaults are the paper's of section 4.1.
    pub struct CnpSettings {
        /// Width of `r` and of the layers of `h` and `g`.
        hidden: usize = 128, size(1);
        /// Layers of `h`.
        encoder_layers: usize = 3, size(1);
        /// Layers of `g`.
        decoder_layers: usize = 5, size(1);
        /// `σ₀`, the least standard deviation of a prediction, in (0, 1); regression only.
        least_deviation: f64 = 0.1, inside_unit();
    }
}

impl LearnerSettings for CnpSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "cnp",
        family: Family::InContext,
        summary: "averages what it reads of the support and predicts a distribution from the average",
        paper: "Garnelo et al., Conditional neural processes, ICML 2018",
        regression: true,
        any_way: false,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_one_way(Self::INFO.name)
    }

    fn gradient_of() -> GradientOf {
        let settings = json!({"hidden": 5, "encoder_layers": 2, "decoder_layers": 2});
        GradientOf::Training("negative log-likelihood", vec![settings])
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"hidden": 64, "encoder_layers": 2, "decoder_layers": 3}),
            // Nothing compares or adapts by design: that has to be learned first.
            iterations: 2500,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = Cnp {
            predictive: OutputDistribution::new(new.spec, self.least_deviation),
            read: match new.spec.task {
                Task::Regression { outputs } => outputs,
                _ => 0,
            },
            architecture: new.architecture,
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// `φ`, `h` and `g`.
#[derive(Module, Debug)]
pub struct CnpModel<B: Backend, E> {
    encoder: E,
    reader: FeedForward<B>,
    decoder: FeedForward<B>,
}

/// How a conditional neural process answers.
pub struct Cnp<A> {
    settings: CnpSettings,
    architecture: A,
    predictive: OutputDistribution,
    /// Numbers of a target that `h` reads beside the input.
    read: usize,
}

impl<A: Architecture> SinglePass for Cnp<A> {
    type Model<L: Primitives> = CnpModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let (width, hidden) = (self.architecture.width(), self.settings.hidden);
        let averages = match self.read {
            0 => self.predictive.outputs(),
            _ => 1,
        };
        CnpModel {
            encoder: self.architecture.init(initializer, device),
            reader: FeedForward::new(
                width + self.read,
                hidden,
                hidden,
                self.settings.encoder_layers,
                initializer,
                device,
            ),
            decoder: FeedForward::new(
                width + averages * hidden,
                hidden,
                self.predictive.width(),
                self.settings.decoder_layers,
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
        let [t, q, _] = query.dims();
        let average = match &tasks.support.targets {
            TargetBatch::Classes(labels) => {
                let items = model.reader.forward(support);
                let classes = self.predictive.outputs();
                let means = distance::class_means(items, labels.clone(), classes);
                means.reshape([t, 1, classes * self.settings.hidden])
            }
            TargetBatch::Values(values) => {
                let pairs = join(support, values.clone());
                mean_rows(model.reader.forward(pairs))
            }
            TargetBatch::Sequences(_) => unreachable!("sequences are refused"),
        };
        let known = join(query, broadcast_rows(average, t, q));
        model.decoder.forward(known)
    }

    fn predictive(&self) -> Option<OutputDistribution> {
        Some(self.predictive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, assert_close, learner, refusal, spec, tasks, values};

    /// The average of a support is that of the support twice.
    #[test]
    fn a_support_twice_is_the_support() {
        let spec = TaskSpec {
            task: Task::Regression { outputs: 1 },
            ..spec(1, 4)
        };
        let cnp = learner("cnp", json!({"hidden": 6}), &spec);
        let mut plain = tasks(&crate::toy::spec(1, 4));
        let numbers = |b: usize| {
            let inputs = plain.support.inputs.clone().narrow(1, 0, b.min(4));
            inputs.narrow(2, 0, 1)
        };
        plain.query.targets = TargetBatch::Values(numbers(2));
        plain.support.targets = TargetBatch::Values(numbers(4));
        let mut twice = plain.clone();
        let (inputs, targets) = (plain.support.inputs.clone(), numbers(4));
        twice.support.inputs = Tensor::cat(vec![inputs.clone(), inputs], 1);
        twice.support.targets = TargetBatch::Values(Tensor::cat(vec![targets.clone(), targets], 1));
        let answer =
            |tasks: &TaskBatch<_>| values(cnp.predict(tasks, PredictAt::LastStep).remove(0));
        assert_close(&answer(&twice), &answer(&plain), 1e-5);
    }

    /// Regression has a density, and minus its mean is the loss; classification has none.
    #[test]
    fn the_loss_is_the_negative_log_likelihood() {
        let spec = spec(3, 2);
        let batch = tasks(&spec);
        assert!(
            learner("cnp", json!({}), &spec)
                .log_likelihood(&batch)
                .is_none()
        );
        let spec = TaskSpec {
            task: Task::Regression { outputs: 2 },
            ..spec
        };
        let mut batch = batch;
        let numbers = |x: &Tensor<_, 3>| TargetBatch::Values(x.clone().narrow(2, 0, 2));
        batch.support.targets = numbers(&batch.support.inputs);
        batch.query.targets = numbers(&batch.query.inputs);
        let cnp = learner("cnp", json!({}), &spec);
        let density = cnp.log_likelihood(&batch).expect("a density");
        let losses = values(cnp.meta_gradient(&batch).losses);
        assert_close(&values(density.neg()), &losses, 1e-5);
    }

    #[test]
    fn the_least_deviation_is_a_share() {
        let message = refusal("cnp", json!({"least_deviation": 1.0}), &spec(2, 1));
        assert!(
            message.contains("`learner.least_deviation = 1`"),
            "{message}"
        );
    }
}
