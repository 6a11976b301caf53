//! A query belongs to the class whose support it resembles most in the median: a learner of this
//! crate alone.
//!
//! With an embedding `φ`, the score of class `n` is the middle of the cosine similarities of `φ(x)` to
//! the embedded support of `n`, times a temperature: one outlier among the shots does not move it.
//! (The lower of the two middle ones where the shots are even.)

use burn::tensor::Tensor;
use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{Pass, distance, encoder::Architecture, init::Initializer},
    primitives::Primitives,
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of the learner.
    pub struct MedianNetSettings {
        /// Factor of the similarities.
        temperature: f64 = 10.0, above(0.0);
    }
}

impl LearnerSettings for MedianNetSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "median_net",
        family: Family::Metric,
        summary: "assigns a query to the class with the highest median similarity",
        paper: "none",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_classification(Self::INFO.name, "medians are of classes")
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![json!({"temperature": 3.0})])
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = MedianNet {
            temperature: self.temperature,
            architecture: new.architecture,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

struct MedianNet<A> {
    temperature: f64,
    architecture: A,
}

impl<A: Architecture> SinglePass for MedianNet<A> {
    type Model<L: Primitives> = A::Model<L>;

    const ENCODER: Option<&str> = None;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        self.architecture.init(initializer, device)
    }

    fn forward<L: Primitives>(
        &self,
        encoder: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(encoder, tasks, pass);
        let [t, q, _] = query.dims();
        let (way, shot) = (tasks.shape.way.0, tasks.shape.shot.0);
        let similarities = distance::cosines(query, support);
        // Class by class, in whatever order the support came.
        let order = tasks
            .support
            .targets
            .labels()
            .argsort(1)
            .unsqueeze_dim::<3>(1);
        let by_class = similarities
            .gather(2, order.expand([t, q, way * shot]))
            .reshape([t, q, way, shot]);
        let ranks = by_class.clone().detach().argsort(3);
        let medians = by_class.gather(3, ranks.narrow(3, (shot - 1) / 2, 1));
        medians.reshape([t, q, way]).mul_scalar(self.temperature)
    }
}
