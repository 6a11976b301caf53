//! R2-D2: ridge regression on the support, in closed form.
//!
//! Bertinetto, Henriques, Torr and Vedaldi, *Meta-learning with differentiable closed-form solvers*,
//! ICLR 2019.
//!
//! With `X` the embedded support (a row per item, a column of ones for the bias) and `Y` its one-hot
//! labels (or its regression targets), the head of a task is the ridge regressor, written with the
//! Woodbury identity so that only an `s × s` system is solved (section 3.2):
//!
//! ```text
//! W = Xᵀ (X Xᵀ + s λ I)⁻¹ Y                 (eq. 4 and 5)
//! ŷ = α φ(x) W + β                           (eq. 6)
//! ```
//!
//! `λ`, `α` and `β` are learned with the encoder: `λ = e^l` stays positive. The system is solved by
//! Gauss–Jordan elimination, differentiably ([`ridge_regression`]), so the meta-gradient is
//! exact. For regression `ŷ = φ(x) W`, without `α` and `β`.
//!
//! # Differences from the paper
//! * `λ` is relative to the number of support items `s`, as in the authors' code, so that it means
//!   the same for every shot.
//! * `α` starts at `scale`, by default 10; the paper does not say its first value, and the authors' code starts at
//!   1e-4 and learns it with a rate of its own.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use meta_core::{
    data::Task,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass, distance,
        encoder::{Architecture, FeatureAttention, Masked},
        init::{Initializer, constant},
        solve::ridge_regression,
    },
    primitives::{MatrixProduct, Primitives},
    settings,
    task::{TargetBatch, TaskBatch},
};
use serde_json::json;

settings! {
    /// Settings of R2-D2.
    pub struct RidgeSettings {
        /// First value of `λ`.
        lambda: f64 = 1.0, above(0.0);
        /// First value of `α`.
        scale: f64 = 10.0, above(0.0);
        /// How the channels of the embeddings are weighted for a task, by its support: `none`,
        /// `soft` (gates) or `hard` (a choice).
        feature_attention: FeatureAttention = FeatureAttention::None;
    }
}

impl LearnerSettings for RidgeSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "ridge",
        family: Family::Metric,
        summary: "fits a ridge regression to the embedded support, in closed form (R2-D2)",
        paper: "Bertinetto et al., Differentiable closed-form solvers, ICLR 2019",
        regression: true,
        any_way: true,
    };

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({}),
            json!({"lambda": 0.1}),
            json!({"feature_attention": "soft"}),
        ])
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = Ridge {
            architecture: Masked::new(new.architecture, self.feature_attention),
            task: new.spec.task,
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// An encoder and the three learned numbers of the head.
#[derive(Module, Debug)]
pub struct RidgeModel<B: Backend, E> {
    encoder: E,
    /// `l = log λ`, `[1, 1, 1]`.
    log_lambda: Param<Tensor<B, 3>>,
    /// `α`, `[1, 1, 1]`; classification only.
    scale: Option<Param<Tensor<B, 3>>>,
    /// `β`, `[1, 1, 1]`; classification only.
    offset: Option<Param<Tensor<B, 3>>>,
}

/// How R2-D2 compares.
pub struct Ridge<A> {
    settings: RidgeSettings,
    architecture: A,
    task: Task,
}

impl<A: Architecture> SinglePass for Ridge<A> {
    type Model<L: Primitives> = RidgeModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let number = |value: f64| constant(value, [1, 1, 1], device);
        let classifies = self.task == Task::Classification;
        RidgeModel {
            encoder: self.architecture.init(initializer, device),
            log_lambda: number(self.settings.lambda.ln()),
            scale: classifies.then(|| number(self.settings.scale)),
            offset: classifies.then(|| number(0.0)),
        }
    }

    crate::embeds_items_apart!();

    /// `ŷ`, `[t, q, outputs]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(&model.encoder, tasks, pass);
        let targets = match &tasks.support.targets {
            TargetBatch::Classes(labels) => {
                distance::membership(labels.clone(), tasks.shape.way.0, &support)
            }
            TargetBatch::Values(values) => values.clone(),
            TargetBatch::Sequences(_) => unreachable!("sequences are refused"),
        };
        let (x, query) = (with_ones(support), with_ones(query));
        let penalty = model.log_lambda.val().exp();
        let penalty = penalty.mul_scalar(x.dims()[1] as f64);
        let fitted = query.product(ridge_regression(x, targets, penalty));
        match (&model.scale, &model.offset) {
            (Some(scale), Some(offset)) => fitted * scale.val() + offset.val(),
            _ => fitted,
        }
    }
}

/// A feature of ones after the others: the bias is regularised like a weight.
fn with_ones<L: Primitives>(x: Tensor<L, 3>) -> Tensor<L, 3> {
    let ones = x.clone().narrow(2, 0, 1).ones_like();
    Tensor::cat(vec![x, ones], 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, assert_close, learner, spec, support_as_queries, tasks, values};
    use meta_core::task::TaskSpec;

    /// With next to no penalty, the regressor goes through its support.
    #[test]
    fn a_small_penalty_interpolates_the_support() {
        let spec = spec(3, 1);
        let tasks = support_as_queries(tasks(&spec));
        let settings = json!({"lambda": 1e-5, "scale": 1.0});
        let fitted = values(
            learner("ridge", settings, &spec)
                .predict(&tasks, PredictAt::EveryStep)
                .remove(0),
        );
        for task in fitted.chunks(9) {
            assert_close(task, &[1., 0., 0., 0., 1., 0., 0., 0., 1.], 2e-2);
        }
    }

    /// A large penalty leaves nothing but the offset.
    #[test]
    fn a_large_penalty_fits_nothing() {
        let spec = spec(3, 1);
        let settings = json!({"lambda": 1e8, "scale": 1.0});
        let fitted = learner("ridge", settings, &spec)
            .predict(&tasks(&spec), PredictAt::EveryStep)
            .remove(0);
        assert_close(&values(fitted), &[0.0; 36], 1e-5);
    }

    #[test]
    fn regression_has_neither_scale_nor_offset() {
        let spec = TaskSpec {
            task: Task::Regression { outputs: 2 },
            ..spec(1, 4)
        };
        let names = learner("ridge", json!({}), &spec).parameters().shapes();
        assert_eq!(names.last().unwrap().0, "log_lambda");
    }
}
