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
//! The module is one of two ([`RelationModule`]): fully connected on any embedding,
//! `g = W₃ relu(W₂ relu(W₁ [c; φ(x)]))`, or the paper's on feature maps, two blocks of 3×3 convolution,
//! normalisation, ReLU and 2×2 max pooling, and two linear layers:
//!
//! ```text
//! g = w · relu(W · block₂(block₁([c; φ(x)])) + a) + b,   block(m) = pool(relu(norm(K ∗ m)))     (section 3.4)
//! ```
//!
//! `[c; φ(x)]` are the channels of both maps; its normalisations average over what the encoder's do, the pairs of
//! a task in the place of its items.
//!
//! # Differences from the paper
//! * The default module is the fully connected one; the paper's is `module = "conv"`, with the encoder
//!   `relation_conv`.
//! * Convolutions have no biases, which the normalisation behind them would take away; the authors' code has them.
//! * Linear layers start as everywhere here; the authors' with a deviation of 0.01 and biases of 1.
//! * Running statistics are moving averages; the authors' code keeps those of the last batch alone, and is tested
//!   with those of the test (`encoder.norm = "episode"`).
//! * The evaluated loss is the cross-entropy of the scores, as for every classifier here; training
//!   uses the squared error above.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, activation::relu, backend::Backend},
};
use meta_core::{
    Error, Result,
    data::ItemShape,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass, activation,
        conv::Conv2d,
        distance,
        encoder::{Architecture, FeatureAttention, Masked},
        init::Initializer,
        linear::Linear,
        norm::{Norm, Statistics},
    },
    primitives::{self, Primitives, conv2d},
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What compares a query with a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelationModule {
    /// Three linear layers on embeddings.
    #[default]
    Linear,
    /// Two blocks of convolutions on feature maps, and two linear layers.
    Conv,
}

settings! {
    /// Settings of relation networks.
    pub struct RelationNetSettings {
        /// The relation module: `linear`, or `conv`, the paper's, for encoders whose embedding is a feature map of at
        /// least 4×4.
        #[added("0.2")]
        module: RelationModule = RelationModule::Linear;
        /// Width of both hidden layers of the relation module, or channels of both of its convolutions.
        hidden: usize = 64, size(1);
        /// Width of the linear layer behind the convolutions; the paper's.
        #[added("0.2")]
        relation_width: usize = 8, size(1);
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

    fn check<A: Architecture>(&self, architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_classification(Self::INFO.name, "relations are to classes")?;
        if self.module == RelationModule::Linear {
            return Ok(());
        }
        let refuse = |expected: String| Err(Error::setting("learner.module", "conv", expected));
        if architecture.statistics() == Statistics::Support {
            let expected = "normalises pairs with queries, which have no statistics of the support; take another \
                            encoder.norm";
            return refuse(expected.to_owned());
        }
        match architecture.feature_map() {
            Some(map) if map.height >= SMALLEST && map.width >= SMALLEST => Ok(()),
            Some(map) => refuse(format!(
                "halves the feature map twice, and that of the encoder, {}×{}, is too small; take one that pools \
                 less, such as `relation_conv`",
                map.height, map.width
            )),
            None => refuse(
                "needs an encoder whose embedding is a feature map, such as `relation_conv`, `conv4` with few \
                 blocks, or `resnet12` that does not average"
                    .to_owned(),
            ),
        }
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

/// Height and width that two halvings leave something of.
const SMALLEST: usize = 4;

/// `g`, fully connected. The first layer is kept in two parts: `W₁ [c; x] = c W_c + x W_x`, so that each class and
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

/// `g`, convolutional, for feature maps.
#[derive(Module, Debug)]
struct ConvRelation<B: Backend> {
    /// Of both maps, those of the class first.
    first: Conv2d<B>,
    second: Conv2d<B>,
    norms: Vec<Norm<B>>,
    hidden: Linear<B>,
    output: Linear<B>,
    #[module(skip)]
    map: ItemShape,
}

impl<B: Backend> ConvRelation<B> {
    /// A module for these feature maps, with parameters from `initializer`.
    fn new(
        map: ItemShape,
        statistics: Statistics,
        settings: &RelationNetSettings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let channels = settings.hidden;
        let mut conv = |inputs| Conv2d::he([inputs, channels], 3, 1, 1, initializer, device);
        let (first, second) = (conv(2 * map.channels), conv(channels));
        let norm = |number| Norm::new(channels, statistics, &format!("norms.{number}"), device);
        let left = (map.height / SMALLEST) * (map.width / SMALLEST) * channels;
        ConvRelation {
            first,
            second,
            norms: (0..2).map(norm).collect(),
            hidden: Linear::he(left, settings.relation_width, initializer, device),
            output: Linear::glorot(settings.relation_width, 1, initializer, device),
            map,
        }
    }
}

impl<B: Primitives> ConvRelation<B> {
    /// Classes `[t, n, d]` and queries `[t, q, d]` to `[t, q, n]`. The first convolution of a pair is the sum of those
    /// of its two maps, so that each class and each query passes it once.
    fn forward(
        &self,
        classes: Tensor<B, 3>,
        queries: Tensor<B, 3>,
        pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let ([t, n, _], [_, q, _]) = (classes.dims(), queries.dims());
        let ItemShape {
            height,
            width,
            channels,
        } = self.map;
        let convolved = |maps: Tensor<B, 3>, part: usize| {
            let [t, b, _] = maps.dims();
            let weight = self.first.weight.val().narrow(2, part * channels, channels);
            conv2d(maps.reshape([t, b, height, width, channels]), weight, 1, 1)
        };
        let (classes, queries) = (convolved(classes, 0), convolved(queries, 1));
        let [.., c] = queries.dims();
        let pairs = queries.reshape([t, q, 1, height * width * c])
            + classes.reshape([t, 1, n, height * width * c]);
        let pairs = pairs.reshape([t, q * n, height, width, c]);
        let halved = self.norms[0].forward_pool_relu(pairs, 2, pass);
        let map = self.norms[1].forward_pool_relu(self.second.forward(halved), 2, pass);
        let [.., h, w, c] = map.dims();
        let hidden = self.hidden.forward_relu(map.reshape([t, q * n, h * w * c]));
        self.output.forward(hidden).reshape([t, q, n])
    }
}

/// `g` of either kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
enum Comparison<B: Backend> {
    Linear(Relation<B>),
    Conv(ConvRelation<B>),
}

/// An encoder and its relation module.
#[derive(Module, Debug)]
pub struct RelationModel<B: Backend, E> {
    encoder: E,
    relation: Comparison<B>,
}

/// How a relation network compares.
pub struct RelationNet<A> {
    settings: RelationNetSettings,
    architecture: A,
}

impl<A: Architecture> SinglePass for RelationNet<A> {
    type Model<L: Primitives> = RelationModel<L, A::Model<L>>;

    /// Both parts keep running statistics, and [`Self::forward`] says whose they are.
    const ENCODER: Option<&str> = None;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let (architecture, settings) = (&self.architecture, &self.settings);
        let (d, h) = (architecture.width(), settings.hidden);
        let encoder = architecture.init(initializer, device);
        let relation = match settings.module {
            RelationModule::Linear => Comparison::Linear(Relation {
                class: initializer.he([1, d, h], 2 * d, device),
                query: Linear::he(d, h, initializer, device),
                hidden: Linear::he(h, h, initializer, device),
                output: Linear::glorot(h, 1, initializer, device),
            }),
            RelationModule::Conv => {
                let map = architecture
                    .feature_map()
                    .expect("checked with the settings");
                let statistics = architecture.statistics();
                let relation = ConvRelation::new(map, statistics, settings, initializer, device);
                Comparison::Conv(relation)
            }
        };
        RelationModel { encoder, relation }
    }

    /// `g`, before `σ`, `[t, q, n]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(&model.encoder, tasks, pass);
        let of_encoder = pass.statistics.take().with_prefix("encoder");
        let labels = tasks.support.targets.labels();
        let classes = distance::class_sums(support, labels, tasks.shape.way.0);
        let scores = match &model.relation {
            Comparison::Linear(relation) => relation.forward(classes, query),
            Comparison::Conv(relation) => relation.forward(classes, query, pass),
        };
        let own = pass.statistics.take().with_prefix("relation");
        pass.statistics.replace(of_encoder.join(own));
        scores
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
    use crate::toy::{PredictAt, assert_close, encoder, refusal, spec, tasks, values};
    use meta_core::{
        backend::Cpu, gradcheck::toy::random_episode, nn::encoder::EncoderSpec, params::Params,
        rng::Seed,
    };

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

    /// Encoders without a feature map, with a small one, and with statistics that pairs do not have.
    #[test]
    fn the_convolutional_module_needs_maps() {
        let conv = json!({"module": "conv"});
        let message = refusal("relation_net", conv.clone(), &spec(3, 1));
        assert!(message.contains("`learner.module = conv`"), "{message}");
        assert!(message.contains("relation_conv"), "{message}");
        let item = ItemShape {
            height: 16,
            width: 16,
            channels: 1,
        };
        let spec = TaskSpec { item, ..spec(3, 1) };
        for (encoder, expected) in [
            (json!({"blocks": 3}), "2×2"),
            (json!({"blocks": 2, "norm": "support"}), "encoder.norm"),
        ] {
            let architecture = EncoderSpec::new("conv4", &encoder, item).unwrap();
            let built = crate::build::<_, Cpu>(
                "relation_net",
                &conv,
                architecture,
                &spec,
                Seed(1),
                &Default::default(),
            );
            let message = built.err().expect("a refusal").to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    /// Both parts keep running statistics, under the names of their buffers.
    #[test]
    fn running_statistics_are_those_of_both_parts() {
        let item = ItemShape {
            height: 5,
            width: 4,
            channels: 1,
        };
        let spec = TaskSpec { item, ..spec(3, 1) };
        let encoder = json!({"channels": 2, "blocks": 1, "pooled": 0, "norm": "running"});
        let architecture = EncoderSpec::new("relation_conv", &encoder, item).unwrap();
        let settings = json!({"module": "conv", "hidden": 3});
        let device = Default::default();
        let learner = crate::build::<_, Cpu>(
            "relation_net",
            &settings,
            architecture,
            &spec,
            Seed(1),
            &device,
        )
        .unwrap();
        let episodes = [random_episode(&spec, 0), random_episode(&spec, 1)];
        let tasks = TaskBatch::new(&episodes, &spec, &device);
        let shapes = |parameters: Params<Cpu>| parameters.shapes();
        let found = shapes(learner.meta_gradient(&tasks).buffers);
        let mut expected = shapes(learner.parameters());
        expected.retain(|(name, _)| name.contains("running"));
        assert_eq!(expected.len(), 6);
        let sorted = |mut names: Vec<(String, Vec<usize>)>| {
            names.sort();
            names
        };
        assert_eq!(sorted(found), sorted(expected));
        let answers = learner.predict(&tasks, PredictAt::LastStep).remove(0);
        assert_eq!(answers.dims(), [2, 6, 3]);
    }
}
