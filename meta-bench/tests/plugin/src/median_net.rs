//! A query belongs to the class whose support it resembles most in the median: a learner of this
//! crate alone.
//!
//! With an embedding `φ`, the score of class `n` is the middle of the cosine similarities of `φ(x)` to
//! the embedded support of `n`, times a temperature: one outlier among the shots does not move it.
//! (The lower of the two middle ones where the shots are even.)

use burn::tensor::Tensor;
use meta_core::{
    Result,
    amortize::{Amortized, AmortizedLearner, embed_together},
    learner::{Family, GradientOf, Learner, LearnerInfo, LearnerSettings},
    nn::{Pass, encoder::Architecture, init::Initializer, metric},
    primitives::Primitives,
    rng::Seed,
    settings::above_zero,
    task::{TaskBatch, TaskSpec},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Settings of the learner.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MedianNetSettings {
    /// Factor of the similarities, above 0.
    pub temperature: f64,
}

impl Default for MedianNetSettings {
    fn default() -> Self {
        MedianNetSettings { temperature: 10.0 }
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
        spec.require_classification(Self::INFO.name, "medians are of classes")?;
        above_zero("learner.temperature", self.temperature)
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![json!({"temperature": 3.0})])
    }

    fn build<A: Architecture, B: Primitives>(
        self,
        architecture: A,
        spec: &TaskSpec,
        seed: Seed,
        device: &B::Device,
    ) -> Result<Box<dyn Learner<B>>> {
        self.check(&architecture, spec)?;
        let rule = MedianNet {
            temperature: self.temperature,
            architecture,
        };
        Ok(Box::new(AmortizedLearner::new(rule, seed, device)))
    }
}

struct MedianNet<A> {
    temperature: f64,
    architecture: A,
}

impl<A: Architecture> Amortized for MedianNet<A> {
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
        let similarities = metric::cosines(query, support).reshape([t, q, way, shot]);
        let middle = (shot - 1) / 2;
        let sorted = similarities.clone().detach().argsort(3);
        let medians = similarities.gather(3, sorted.narrow(3, middle, 1));
        medians.reshape([t, q, way]).mul_scalar(self.temperature)
    }
}
