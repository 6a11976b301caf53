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
    Error, Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass, distance,
        encoder::{Architecture, Encoder, FeatureAttention, Masked},
        init::Initializer,
    },
    primitives::Primitives,
    settings,
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

settings! {
    /// Settings of a prototypical network; the defaults are the paper's.
    pub struct ProtoNetSettings {
        /// Distance to a prototype: `euclidean` (squared) or `cosine`.
        distance: Distance = Distance::Euclidean;
        /// `τ` of the cosine distance; unused otherwise.
        temperature: f64 = 10.0, above(0.0);
        /// How the channels of the embeddings are weighted for a task, by its support: `none`,
        /// `soft` (gates) or `hard` (a choice).
        feature_attention: FeatureAttention = FeatureAttention::None;
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

    const READS_MASKS: bool = true;

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_classification(Self::INFO.name, "prototypes are of classes")?;
        if spec.extras.items && self.feature_attention != FeatureAttention::None {
            let expected = "reads all items of the support, also those that are not there in tasks whose \
                            shots or classes differ; take `none`";
            let key = "learner.feature_attention";
            return Err(Error::setting(
                key,
                format!("{:?}", self.feature_attention).to_lowercase(),
                expected,
            ));
        }
        Ok(())
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({}),
            json!({"distance": "cosine"}),
            json!({"feature_attention": "soft"}),
        ])
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = ProtoNet {
            architecture: Masked::new(new.architecture, self.feature_attention),
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// How a prototypical network compares.
pub struct ProtoNet<A> {
    settings: ProtoNetSettings,
    architecture: A,
}

impl<A: Architecture> SinglePass for ProtoNet<A> {
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

    fn embeds_apart(&self) -> Option<usize> {
        self.architecture.activations_apart()
    }

    fn embed<L: Primitives>(
        &self,
        encoder: &A::Model<L>,
        items: Tensor<L, 3>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        encoder.forward(items, pass)
    }

    /// Scores `−d(φ(x), c_n)`, `[t, q, n]`.
    fn forward<L: Primitives>(
        &self,
        encoder: &A::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(encoder, tasks, pass);
        let prototypes = distance::prototypes(support, &tasks.support, tasks.shape.way.0);
        let scores = match self.settings.distance {
            Distance::Euclidean => distance::squared_distances(query, prototypes).neg(),
            Distance::Cosine => {
                distance::cosines(query, prototypes).mul_scalar(self.settings.temperature)
            }
        };
        tasks.of_classes_there(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{assert_close, numbered, spec, values};
    use meta_core::{backend::Cpu, nn::encoder::EncoderSpec, rng::Seed};

    /// A large task is embedded in halves by itself, and as a whole beside another: the gradient of the mean over
    /// the same task twice is that of the task, but for the order of sums over some thousand products in f32.
    #[test]
    fn two_halves_have_the_gradient_of_the_whole() {
        let by_embeddings = [
            "protonet",
            "matching_net",
            "feat",
            "hatt",
            "induction_net",
            "ridge",
            "siamese",
        ];
        for name in by_embeddings {
            assert_halves_have_the_gradient_of_the_whole(name);
        }
    }

    fn assert_halves_have_the_gradient_of_the_whole(rule: &str) {
        let spec = spec(5, 16);
        let hidden = json!({"hidden": [4096, 7], "norm": "none"});
        let encoder = EncoderSpec::new("mlp", &hidden, spec.item).expect("valid");
        let items = spec.train.support_items() + spec.train.query_items();
        assert!(encoder.activations() * items * 4 >= 1_000_000, "large");
        let device = Default::default();
        let learner = crate::build::<_, Cpu>(rule, &json!({}), encoder, &spec, Seed(1), &device);
        let learner = learner.expect("valid");
        let [halves, whole] =
            [&[0][..], &[0, 0]].map(|numbers| learner.meta_gradient(&numbered(&spec, numbers)));
        let (loss, twice) = (values(halves.losses), values(whole.losses));
        assert_close(&[loss[0], loss[0]], &twice, 1e-5 * loss[0].abs().max(1.0));
        let (found, expected) = (halves.gradients.to_data(), whole.gradients.to_data());
        assert_eq!(found.len(), expected.len());
        let numbers = |data: &burn::tensor::TensorData| data.to_vec::<f32>().expect("f32");
        let largest = |of: &[f32]| of.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        // Some gradients are zero, but for rounding: those of a shift before a softmax.
        let all: Vec<f32> = expected.iter().flat_map(|own| numbers(&own.1)).collect();
        let least = 1e-6 * largest(&all);
        for ((name, found), (_, expected)) in found.iter().zip(&expected) {
            let (found, expected) = (numbers(found), numbers(expected));
            let largest = largest(&expected);
            assert!(largest > 0.0, "{rule} {name}");
            assert_close(&found, &expected, 1e-4 * largest.max(least));
        }
    }
}
