//! Hybrid attention over the support: which items of a class count, and which numbers of an embedding.
//!
//! Gao, Han, Liu and Sun, *Hybrid attention-based prototypical networks for noisy few-shot relation
//! classification*, AAAI 2019.
//!
//! With an encoder `φ`, embedded support `s_j` of class `n` and query `x`, an attention over instances makes a
//! prototype of each class for each query, and one over features says by which numbers the class is told apart:
//!
//! ```text
//! e_j = Σ_d tanh(g(s_j) ⊙ g(φ(x)))_d,   α = softmax over the support of class n of e     (eq. 5 and 6)
//! c_n = Σ_j α_j s_j                                                                       (eq. 4)
//! z_n = softplus(W₃ mean_j relu(W₂ relu(W₁ [s_jd, s̄_nd])))  for each number d of the embedding
//! p(y = n | x) = softmax_n(−Σ_d z_nd (φ(x) − c_n)²_d)                                     (eq. 8)
//! ```
//!
//! `g` is linear; `W₁ … W₃` are shared by all classes and all numbers, as filters are. With `attention =
//! "uniform"` all instances and all features count alike, with the same parameters: a prototypical network.
//! Shapes: support `[t, s, d]`, instance weights `[t, n, q, s]`, feature weights `[t, n, d]`, scores `[t, q, n]`.
//!
//! With `descriptions = true` the vector `v_n` of a class (the words of its name, with `data.name_vectors`) is a
//! context of both: `e_j += Σ_d tanh(g(s_j) ⊙ g'(v_n))_d`, and `W_z v_n` is added before the softplus. A class
//! that has a telling name is then looked for in what the name is about. Not in the paper.
//!
//! # Differences from the paper
//! * Feature weights there come from three convolutions over the shots at once, whose order and number they
//!   depend on; here a network reads each shot beside the mean of all, and the mean over shots follows.
//! * Softplus in place of the last ReLU, so that no number dies.
//! * The encoder there is a CNN with position embeddings: `text_cnn` and `data.entities`.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use meta_core::{
    Error, Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass,
        activation::softplus,
        attention::{MapAxis, Weighting, soft},
        distance,
        encoder::Architecture,
        init::Initializer,
        linear::Linear,
    },
    primitives::{MatrixProduct, Primitives, join, linear, scale, tanh},
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of [`Hatt`].
    pub struct HattSettings {
        /// Width of both hidden layers of the network that weighs features.
        hidden: usize = 32, size(1);
        /// What instances and features are weighted by: `softmax` (attention) or `uniform` (all alike; for
        /// comparison).
        attention: Weighting = Weighting::Softmax;
        /// Whether the vector that the source has for each class (`data.name_vectors`, `data.class_vectors`) is
        /// a context of both attentions.
        descriptions: bool = false;
    }
}

impl LearnerSettings for HattSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "hatt",
        family: Family::Attention,
        summary: "prototypes of a query's own weights over the support, and distances in weighted features",
        paper: "Gao et al., Hybrid attention-based prototypical networks, AAAI 2019",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_classification(Self::INFO.name, "prototypes are of classes")?;
        if self.descriptions && spec.extras.class_vector == 0 {
            let expected = "reads vectors of classes, and the source has none: set `data.name_vectors` or \
                            `data.class_vectors`";
            return Err(Error::setting(
                "learner.descriptions",
                self.descriptions,
                expected,
            ));
        }
        Ok(())
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({"hidden": 3}),
            json!({"hidden": 3, "attention": "uniform"}),
        ])
    }

    fn toy() -> Toy {
        Toy {
            maps: 1,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = Hatt {
            described: match self.descriptions {
                true => new.spec.extras.class_vector,
                false => 0,
            },
            architecture: new.architecture,
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// An encoder and its two attentions.
#[derive(Module, Debug)]
pub struct HattModel<B: Backend, E> {
    encoder: E,
    /// `g`.
    instance: Linear<B>,
    /// `W₁`, `W₂`, `W₃`.
    first: Linear<B>,
    second: Linear<B>,
    third: Linear<B>,
    /// `g'` and `W_z`, where classes have vectors.
    description: Option<Description<B>>,
}

/// What a class's vector says of instances and of features.
#[derive(Module, Debug)]
pub struct Description<B: Backend> {
    instance: Linear<B>,
    feature: Linear<B>,
}

/// How hybrid attention compares.
pub struct Hatt<A> {
    settings: HattSettings,
    architecture: A,
    /// Width of the vector of a class; 0 where it is not read.
    described: usize,
}

/// The sum of each row, `[t, b, d]` to `[t, b, 1]`.
fn row_sums<L: Primitives>(x: Tensor<L, 3>) -> Tensor<L, 3> {
    let ones = Tensor::ones([1, x.dims()[2], 1], &x.device());
    linear(x, ones)
}

/// `Σ_d tanh(a ⊙ b)_d` of each `a [t, m, d]` with each `b [t, s, d]`: `[t, m, s]`.
fn agreement<L: Primitives>(a: &Tensor<L, 3>, b: &Tensor<L, 3>) -> Tensor<L, 3> {
    let ([t, m, d], [_, s, _]) = (a.dims(), b.dims());
    let products = scale(distance::copies(b, m), a.clone().reshape([t * m, 1, d]));
    row_sums(tanh(products)).reshape([t, m, s])
}

impl<A: Architecture> Hatt<A> {
    /// Weights of the support of each class, `[t, n, q, s]`, by `membership [t, s, n]`.
    fn instances<L: Primitives>(
        &self,
        model: &HattModel<L, A::Model<L>>,
        [support, query]: [&Tensor<L, 3>; 2],
        membership: &Tensor<L, 3>,
        vectors: Option<&Tensor<L, 3>>,
    ) -> Tensor<L, 4> {
        let ([t, s, n], q) = (membership.dims(), query.dims()[1]);
        let own = model.instance.forward(support.clone());
        let asked = model.instance.forward(query.clone());
        let scores = agreement(&asked, &own).reshape([t, 1, q, s]);
        let scores = match (&model.description, vectors) {
            (Some(description), Some(vectors)) => {
                let named = description.instance.forward(vectors.clone());
                scores + agreement(&named, &own).reshape([t, n, 1, s])
            }
            _ => scores.expand([t, n, q, s]),
        };
        let other = membership.clone().swap_dims(1, 2).equal_elem(0.0);
        let scores = self.settings.attention.scores(scores);
        soft(scores, Some(&other.reshape([t, n, 1, s])))
    }

    /// Weights of the numbers of an embedding for each class, `z [t, n, d]`.
    fn features<L: Primitives>(
        &self,
        model: &HattModel<L, A::Model<L>>,
        support: &Tensor<L, 3>,
        tasks: &TaskBatch<L>,
    ) -> Tensor<L, 3> {
        let [t, s, d] = support.dims();
        let (n, labels) = (tasks.shape.way.0, tasks.support.targets.labels());
        let means = distance::class_means(support.clone(), labels.clone(), n);
        if self.settings.attention == Weighting::Uniform {
            return means.ones_like();
        }
        let membership = distance::membership(labels.clone(), n, support);
        let mean = membership.product(means).reshape([t, s * d, 1]);
        let seen = join(support.clone().reshape([t, s * d, 1]), mean);
        let seen = model.second.forward_relu(model.first.forward_relu(seen));
        let hidden = self.settings.hidden;
        let seen = distance::class_means(seen.reshape([t, s, d * hidden]), labels, n);
        let scores = model.third.forward(seen.reshape([t, n * d, hidden]));
        let scores = scores.reshape([t, n, d]);
        softplus(match (&model.description, &tasks.class_vectors) {
            (Some(description), Some(vectors)) => {
                scores + description.feature.forward(vectors.clone())
            }
            _ => scores,
        })
    }
}

impl<A: Architecture> SinglePass for Hatt<A> {
    type Model<L: Primitives> = HattModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let (d, h, v) = (
            self.architecture.width(),
            self.settings.hidden,
            self.described,
        );
        HattModel {
            encoder: self.architecture.init(initializer, device),
            instance: Linear::glorot(d, d, initializer, device),
            first: Linear::he(2, h, initializer, device),
            second: Linear::he(h, h, initializer, device),
            third: Linear::glorot(h, 1, initializer, device),
            description: (v > 0).then(|| Description {
                instance: Linear::glorot(v, d, initializer, device),
                feature: Linear::glorot(v, d, initializer, device),
            }),
        }
    }

    crate::embeds_items_apart!();

    /// Scores `−Σ_d z_nd (φ(x) − c_n)²_d`, `[t, q, n]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(&model.encoder, tasks, pass);
        let ([t, s, d], [_, q, _], n) = (support.dims(), query.dims(), tasks.shape.way.0);
        let membership = distance::membership(tasks.support.targets.labels(), n, &support);
        let vectors = tasks.class_vectors.as_ref();
        let map = self.instances(model, [&support, &query], &membership, vectors);
        let items = distance::copies(&support, n).reshape([t, n, s, d]);
        pass.record("instances", MapAxis::Query, MapAxis::Support, &map);
        let prototypes = map.product(items).reshape([t * n, q, d]);
        let away = distance::copies(&query, n) - prototypes;
        let weights = self.features(model, &support, tasks);
        let weighted = scale(away.clone() * away, weights.reshape([t * n, 1, d]));
        row_sums(weighted).reshape([t, n, q]).swap_dims(1, 2).neg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, assert_close, learner, refusal, spec, tasks, values};
    use meta_core::backend::Cpu;

    type B = Cpu;

    fn answer(learner: &dyn Learner<B>, tasks: &TaskBatch<B>) -> Vec<f32> {
        values(learner.predict(tasks, PredictAt::LastStep).remove(0))
    }

    /// With uniform weights it is a prototypical network.
    #[test]
    fn uniform_weights_are_a_prototypical_network() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let own = learner("hatt", json!({"attention": "uniform"}), &spec);
        let base = learner("protonet", json!({}), &spec);
        assert_close(
            &answer(own.as_ref(), &tasks),
            &answer(base.as_ref(), &tasks),
            1e-4,
        );
        let softmax = learner("hatt", json!({}), &spec);
        assert_eq!(softmax.parameters().to_data(), own.parameters().to_data());
        assert_ne!(
            answer(softmax.as_ref(), &tasks),
            answer(own.as_ref(), &tasks)
        );
    }

    /// Each class has weights over its own items alone.
    #[test]
    fn instances_are_of_their_class() {
        let spec = spec(3, 2);
        let map = learner("hatt", json!({}), &spec)
            .explain(&tasks(&spec))
            .maps;
        let weights = map[0].weights.clone();
        assert_eq!(weights.dims(), [2, 3, 6, 6]);
        for (row, weights) in values(weights).chunks_exact(6).enumerate() {
            let class = row / 6 % 3;
            for (item, weight) in weights.iter().enumerate() {
                assert_eq!(*weight > 0.0, item / 2 == class, "{row} {item}");
            }
        }
    }

    /// The names of classes are read where that is asked for, and where there are none it is refused.
    #[test]
    fn descriptions_are_read() {
        let settings = json!({"descriptions": true});
        let message = refusal("hatt", settings.clone(), &spec(3, 1));
        assert!(message.contains("`learner.descriptions"), "{message}");
        let mut spec = spec(3, 1);
        spec.extras.class_vector = 4;
        let learner = learner("hatt", settings, &spec);
        let mut tasks = tasks(&spec);
        let vectors = Tensor::<B, 1, burn::tensor::Int>::arange(0..24, &Default::default());
        let vectors = vectors.float().reshape([2, 3, 4]).mul_scalar(0.1);
        tasks.class_vectors = Some(vectors.clone());
        let before = answer(learner.as_ref(), &tasks);
        tasks.class_vectors = Some(vectors.neg());
        assert_ne!(answer(learner.as_ref(), &tasks), before);
    }
}
