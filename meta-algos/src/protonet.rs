//! Prototypical networks.
//!
//! Snell, Swersky and Zemel, *Prototypical networks for few-shot learning*, NIPS 2017.
//!
//! With an embedding `φ`, the prototype of a class is the mean of its embedded support, and a query
//! belongs to the class whose prototype is nearest:
//!
//! ```text
//! c_n = mean over the support S_n of φ(x)             (eq. 1)
//! p(y = n | x) = softmax_n(−d(φ(x), c_n))             (eq. 2)
//! ```
//!
//! # Differences from the paper
//! * Distances are squared Euclidean, as in the paper; `distance = "cosine"` gives cosine similarity
//!   times `temperature` instead of the paper's plain cosine distance, which cannot be confident.
//! * Support and queries pass through the network together, so with `encoder.norm = "episode"` they
//!   share statistics, as in the authors' code.

use burn::tensor::Tensor;
use meta_core::{
    Result,
    amortize::{Amortized, AmortizedLearner, embed_together},
    learner::{Family, GradientOf, Learner, LearnerInfo, LearnerSettings},
    nn::{
        Pass,
        encoder::{Architecture, FeatureAttention, Masked},
        init::Initializer,
        metric,
    },
    primitives::Primitives,
    rng::Seed,
    settings::above_zero,
    task::{TaskBatch, TaskSpec},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How far a query is from a prototype.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// `d(a, b) = ‖a − b‖²`.
    Euclidean,
    /// `d(a, b) = −τ a·b / (‖a‖ ‖b‖)`, `τ` the temperature.
    Cosine,
}

/// Settings of a prototypical network; the defaults are the paper's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProtoNetSettings {
    /// Distance to a prototype: `euclidean` (squared) or `cosine`.
    pub distance: Distance,
    /// `τ` of the cosine distance, above 0; unused otherwise.
    pub temperature: f64,
    /// How the channels of the embeddings are weighted for a task, by its support: `none`, `soft`
    /// (gates) or `hard` (a choice).
    pub feature_attention: FeatureAttention,
}

impl Default for ProtoNetSettings {
    fn default() -> Self {
        ProtoNetSettings {
            distance: Distance::Euclidean,
            temperature: 10.0,
            feature_attention: FeatureAttention::None,
        }
    }
}

impl LearnerSettings for ProtoNetSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "protonet",
        family: Family::Metric,
        summary: "assigns a query to the class whose mean embedding is nearest",
        paper: "Snell et al., Prototypical networks, NIPS 2017",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_classification(Self::INFO.name, "prototypes are of classes")?;
        above_zero("learner.temperature", self.temperature)
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({}),
            json!({"distance": "cosine"}),
            json!({"feature_attention": "soft"}),
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
        Ok(match self.feature_attention {
            FeatureAttention::None => {
                let rule = ProtoNet {
                    settings: self,
                    architecture,
                };
                Box::new(AmortizedLearner::new(rule, seed, device))
            }
            attention => {
                let architecture = Masked::new(architecture, attention);
                let rule = ProtoNet {
                    settings: self,
                    architecture,
                };
                Box::new(AmortizedLearner::new(rule, seed, device))
            }
        })
    }
}

/// How a prototypical network compares.
pub struct ProtoNet<A> {
    settings: ProtoNetSettings,
    architecture: A,
}

impl<A: Architecture> Amortized for ProtoNet<A> {
    type Model<L: Primitives> = A::Model<L>;

    // The model is the encoder itself.
    const ENCODER: Option<&str> = None;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> A::Model<L> {
        self.architecture.init(initializer, device)
    }

    /// Scores `−d(φ(x), c_n)`, `[t, q, n]`.
    fn forward<L: Primitives>(
        &self,
        encoder: &A::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(encoder, tasks, pass);
        let labels = tasks.support.targets.labels();
        let prototypes = metric::class_means(support, labels, tasks.shape.way.0);
        match self.settings.distance {
            Distance::Euclidean => metric::squared_distances(query, prototypes).neg(),
            Distance::Cosine => {
                metric::cosines(query, prototypes).mul_scalar(self.settings.temperature)
            }
        }
    }
}
