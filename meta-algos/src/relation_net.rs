//! Relation networks: a learned comparison of query and class.
//!
//! Sung, Yang, Zhang, Xiang, Torr and Hospedales, *Learning to compare: relation network for few-shot
//! learning*, CVPR 2018.
//!
//! With an embedding `φ`, a class is the sum of its embedded support, and a relation module `g` says
//! how much a query belongs to it:
//!
//! ```text
//! r_n = σ(g([Σ over the support of class n of φ(xᵢ); φ(x)]))     (section 3.2, eq. 1)
//! L = mean over queries and classes of (r_n − 1[y = n])²          (eq. 2)
//! ```
//!
//! The class scores are `g`'s outputs before `σ`, which order the classes as `r` does.
//!
//! # Differences from the paper
//! * `g` is fully connected, `W₃ relu(W₂ relu(W₁ [c; φ(x)]))`, on the embeddings of any encoder; the
//!   paper's has two convolutions on feature maps before its fully connected layers (8 and 1 wide).
//! * The evaluated loss is the cross-entropy of the scores, as for every classifier here; training
//!   uses the squared error above.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, activation::relu, backend::Backend},
};
use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass, activation, distance,
        encoder::{Architecture, FeatureAttention, Masked},
        init::Initializer,
        linear::Linear,
    },
    primitives::{self, Primitives},
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of relation networks.
    pub struct RelationNetSettings {
        /// Width of both hidden layers of the relation module.
        hidden: usize = 64, size(1);
        /// How the channels of the embeddings are weighted for a task, by its support: `none`,
        /// `soft` (gates) or `hard` (a choice).
        feature_attention: FeatureAttention = FeatureAttention::None;
    }
}

impl LearnerSettings for RelationNetSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "relation_net",
        family: Family::Metric,
        summary: "learns the comparison of a query with a class, a network on pairs of embeddings",
        paper: "Sung et al., Relation network for few-shot learning, CVPR 2018",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_classification(Self::INFO.name, "relations are to classes")
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Training(
            "squared error of sigmoids",
            vec![
                json!({"hidden": 5}),
                json!({"hidden": 5, "feature_attention": "soft"}),
            ],
        )
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = RelationNet {
            architecture: Masked::new(new.architecture, self.feature_attention),
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// `g`. The first layer is kept in two parts: `W₁ [c; x] = c W_c + x W_x`, so that each class and
/// each query passes it once, not once per pair.
#[derive(Module, Debug)]
struct Relation<B: Backend> {
    /// `W_c`, `[1|t, d, h]`.
    class: Param<Tensor<B, 3>>,
    /// `W_x`, with the bias of the layer.
    query: Linear<B>,
    /// `W₂`.
    hidden: Linear<B>,
    /// `W₃`.
    output: Linear<B>,
}

impl<B: Primitives> Relation<B> {
    /// Classes `[t, n, d]` and queries `[t, q, d]` to `[t, q, n]`.
    fn forward(&self, classes: Tensor<B, 3>, queries: Tensor<B, 3>) -> Tensor<B, 3> {
        let ([t, n, _], [_, q, _]) = (classes.dims(), queries.dims());
        let classes = primitives::linear(classes, self.class.val());
        let queries = self.query.forward(queries);
        let h = queries.dims()[2];
        let pairs = queries.reshape([t, q, 1, h]) + classes.reshape([t, 1, n, h]);
        let hidden = self.hidden.forward(relu(pairs.reshape([t, q * n, h])));
        self.output.forward(relu(hidden)).reshape([t, q, n])
    }
}

/// An encoder and its relation module.
#[derive(Module, Debug)]
pub struct RelationModel<B: Backend, E> {
    encoder: E,
    relation: Relation<B>,
}

/// How a relation network compares.
pub struct RelationNet<A> {
    settings: RelationNetSettings,
    architecture: A,
}

impl<A: Architecture> SinglePass for RelationNet<A> {
    type Model<L: Primitives> = RelationModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let (d, h) = (self.architecture.width(), self.settings.hidden);
        RelationModel {
            encoder: self.architecture.init(initializer, device),
            relation: Relation {
                class: initializer.he([1, d, h], 2 * d, device),
                query: Linear::he(d, h, initializer, device),
                hidden: Linear::he(h, h, initializer, device),
                output: Linear::glorot(h, 1, initializer, device),
            },
        }
    }

    /// `g`, before `σ`, `[t, q, n]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(&model.encoder, tasks, pass);
        let labels = tasks.support.targets.labels();
        let classes = distance::class_sums(support, labels, tasks.shape.way.0);
        model.relation.forward(classes, query)
    }

    fn losses<L: Primitives>(&self, output: Tensor<L, 3>, tasks: &TaskBatch<L>) -> Tensor<L, 1> {
        let [t, q, n] = output.dims();
        let truth = distance::membership(tasks.query.targets.labels(), n, &output);
        let error = activation::sigmoid(output) - truth;
        (error.clone() * error)
            .reshape([t, q * n])
            .mean_dim(1)
            .reshape([t])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{assert_close, encoder, spec, tasks, values};
    use meta_core::backend::Cpu;
    use meta_core::rng::Seed;

    /// The first layer in two parts is the layer on the concatenated pair.
    #[test]
    fn the_parts_are_one_layer_on_the_concatenation() {
        let device = Default::default();
        let mut initializer = Initializer::seeded(Seed(3));
        let mut draw = |i, o| Linear::<Cpu>::glorot(i, o, &mut initializer, &device);
        let class = draw(4, 5);
        let relation = Relation {
            class: class.weight.clone(),
            query: draw(4, 5),
            hidden: draw(5, 5),
            output: draw(5, 1),
        };
        let mut items = |n| {
            Linear::<Cpu>::glorot(n, 4, &mut initializer, &device)
                .weight
                .val()
        };
        let (classes, queries) = (items(2), items(3));
        let found = relation.forward(classes.clone(), queries.clone());
        let whole = Tensor::cat(vec![class.weight.val(), relation.query.weight.val()], 1);
        for (q, n) in [(0, 0), (1, 0), (2, 1)] {
            let pair = Tensor::cat(
                vec![
                    classes.clone().narrow(1, n, 1),
                    queries.clone().narrow(1, q, 1),
                ],
                2,
            );
            let first = pair.matmul(whole.clone()) + relation.query.bias.val();
            let expected = relation
                .output
                .forward(relu(relation.hidden.forward(relu(first))));
            let found = found.clone().narrow(1, q, 1).narrow(2, n, 1);
            assert_close(&values(found), &values(expected), 1e-6);
        }
    }

    /// A relation of one half everywhere has a squared error of one quarter.
    #[test]
    fn an_undecided_relation_costs_a_quarter() {
        let spec = spec(3, 2);
        let rule = RelationNet {
            settings: RelationNetSettings::default(),
            architecture: encoder(),
        };
        let tasks = tasks(&spec);
        let undecided = Tensor::<Cpu, 3>::zeros([2, 6, 3], &Default::default());
        assert_eq!(values(rule.losses(undecided, &tasks)), [0.25, 0.25]);
    }
}
