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
use burn_autodiff::Autodiff;
use meta_core::{
    Error, Result,
    data::Task,
    learner::{Family, Learner, LearnerInfo, LearnerSettings, MetaGradient},
    nn::{
        Pass,
        encoder::{Architecture, Encoder},
        init::Initializer,
        loss,
    },
    params::Params,
    primitives::Primitives,
    rng::Seed,
    task::{TargetBatch, TaskBatch, TaskSpec},
};
use serde::{Deserialize, Serialize};

/// How far a query is from a prototype.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// `d(a, b) = ‖a − b‖²`.
    Euclidean,
    /// `d(a, b) = −τ a·b / (‖a‖ ‖b‖)`, `τ` the temperature.
    Cosine,
}

/// Settings of [`ProtoNet`]; the defaults are the paper's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProtoNetSettings {
    /// Distance to a prototype: `euclidean` (squared) or `cosine`.
    pub distance: Distance,
    /// `τ` of the cosine distance, above 0; unused otherwise.
    pub temperature: f64,
}

impl Default for ProtoNetSettings {
    fn default() -> Self {
        ProtoNetSettings {
            distance: Distance::Euclidean,
            temperature: 10.0,
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
        if spec.task != Task::Classification {
            return Err(Error::setting(
                "learner.name",
                Self::INFO.name,
                "needs classification tasks; prototypes are of classes",
            ));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(Error::setting(
                "learner.temperature",
                self.temperature,
                "must be above 0",
            ));
        }
        Ok(())
    }

    fn build<A: Architecture, B: Primitives>(
        self,
        architecture: A,
        spec: &TaskSpec,
        seed: Seed,
        device: &B::Device,
    ) -> Result<Box<dyn Learner<B>>> {
        self.check(&architecture, spec)?;
        Ok(Box::new(ProtoNet::<A, B>::new(
            self,
            architecture,
            seed,
            device,
        )))
    }
}

/// A prototypical network on the backend `B`.
pub struct ProtoNet<A: Architecture, B: Primitives> {
    settings: ProtoNetSettings,
    architecture: A,
    device: B::Device,
    /// Parameters of `φ`, each `[1, …]`.
    parameters: Params<B>,
}

impl<A: Architecture, B: Primitives> ProtoNet<A, B> {
    /// A learner whose encoder is drawn from `seed`.
    pub fn new(
        settings: ProtoNetSettings,
        architecture: A,
        seed: Seed,
        device: &B::Device,
    ) -> Self {
        let encoder = architecture.init::<B>(&mut Initializer::seeded(seed), device);
        ProtoNet {
            parameters: Params::of(&encoder),
            settings,
            architecture,
            device: device.clone(),
        }
    }

    /// The encoder on any level over the backend, with `parameters` in place.
    fn encoder<L: Primitives<Device = B::Device>>(&self, parameters: Params<L>) -> A::Model<L> {
        let skeleton = self
            .architecture
            .init::<L>(&mut Initializer::zeros(), &self.device);
        parameters.write_into(skeleton)
    }

    /// Scores of the queries, `−d(φ(x), c_n)`, `[t, q, n]`.
    fn scores<L: Primitives<Device = B::Device>>(
        &self,
        parameters: Params<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let ([_, s], [_, q]) = (tasks.support.dims(), tasks.query.dims());
        let items = vec![tasks.support.inputs.clone(), tasks.query.inputs.clone()];
        let embeddings = self
            .encoder(parameters)
            .forward(Tensor::cat(items, 1), pass);
        let support = embeddings.clone().narrow(1, 0, s);
        let query = embeddings.narrow(1, s, q);
        let prototypes = prototypes(support, &tasks.support.targets, tasks.shape.way.0);
        match self.settings.distance {
            Distance::Euclidean => squared_distances(query, prototypes).neg(),
            Distance::Cosine => unit(query)
                .matmul(unit(prototypes).swap_dims(1, 2))
                .mul_scalar(self.settings.temperature),
        }
    }
}

/// Mean embedding of each class: `[t, s, d]` to `[t, n, d]`.
fn prototypes<L: Primitives>(
    support: Tensor<L, 3>,
    targets: &TargetBatch<L>,
    way: usize,
) -> Tensor<L, 3> {
    let TargetBatch::Classes(labels) = targets else {
        unreachable!("checked: classification")
    };
    // [t, s, n], 1 where item s is of class n.
    let membership = labels
        .clone()
        .one_hot::<3>(way)
        .float()
        .cast(support.dtype());
    let counts = membership.clone().sum_dim(1).swap_dims(1, 2);
    membership.swap_dims(1, 2).matmul(support) / counts
}

/// `‖a − b‖² = ‖a‖² − 2 a·b + ‖b‖²`: `a [t, q, d]`, `b [t, n, d]`, result `[t, q, n]`.
fn squared_distances<L: Primitives>(a: Tensor<L, 3>, b: Tensor<L, 3>) -> Tensor<L, 3> {
    let squares = |x: &Tensor<L, 3>| (x.clone() * x.clone()).sum_dim(2);
    let (a_squares, b_squares) = (squares(&a), squares(&b).swap_dims(1, 2));
    a.matmul(b.swap_dims(1, 2)).mul_scalar(-2.0) + a_squares + b_squares
}

/// `x / ‖x‖` along the last axis.
fn unit<L: Primitives>(x: Tensor<L, 3>) -> Tensor<L, 3> {
    // The offset keeps the gradient finite at x = 0.
    let norm = (x.clone() * x.clone()).sum_dim(2).add_scalar(1e-12).sqrt();
    x / norm
}

impl<A: Architecture, B: Primitives> Learner<B> for ProtoNet<A, B> {
    fn parameters(&self) -> Params<B> {
        self.parameters.clone()
    }

    fn set_parameters(&mut self, parameters: Params<B>) {
        // Through an encoder, which checks names and shapes.
        self.parameters = Params::of(&self.encoder(parameters));
    }

    fn meta_gradient(&self, tasks: &TaskBatch<B>) -> MetaGradient<B> {
        let leaves = self.parameters.clone().lift::<Autodiff<B>>();
        let lifted = tasks.lift::<Autodiff<B>>();
        let pass = Pass::training().with_reference(lifted.support.dims()[1]);
        let scores = self.scores(leaves.clone(), &lifted, &pass);
        let losses = loss::loss(scores.clone(), &lifted.query.targets);
        let gradients = leaves.gradients(&losses.clone().mean().backward());
        MetaGradient {
            gradients,
            buffers: pass.statistics.take().lower(),
            scores: loss::score(scores, &lifted.query.targets).inner(),
            losses: losses.inner(),
        }
    }

    fn predict(&self, tasks: &TaskBatch<B>) -> Vec<Tensor<B, 3>> {
        let pass = Pass::evaluation().with_reference(tasks.support.dims()[1]);
        vec![self.scores(self.parameters.clone(), tasks, &pass)]
    }
}
