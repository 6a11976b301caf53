//! Multimodal prototypical networks: classes that are seen and described.
//!
//! After Xing, Rostamzadeh, Oreshkin and Pinheiro, *Adaptive cross-modal few-shot learning* (AM3),
//! NeurIPS 2019: side information of a class, for them a word vector, moves its prototype, by as much as
//! the side information itself says.
//!
//! An item is an image and a description, the last rows (or features) of it. With an encoder `φ` of
//! images and a network `g` of descriptions `d`, attention mixes the two prototypes of a class:
//!
//! ```text
//! v_n = mean over the support of class n of φ(x),    u_n = mean over the support of class n of g(d)
//! λ_n = softmax over {v, u} of (W_Q u_n) · (W_K v_n), (W_Q u_n) · (W_K u_n), over √w
//! p_n = λ_nv v_n + λ_nu u_n                                     (section 3.2, eq. 4)
//! p(y = n | x) = softmax_n(−‖φ(x) − p_n‖²)                      (eq. 6)
//! ```
//!
//! The description asks, as in the paper, and reads both modalities; with two keys the softmax is the
//! paper's `λ = σ(h(u))` with a score for each modality. Queries are seen only: their description is
//! not read, and encoders see it as zeros.
//!
//! The source must provide the second modality: `glyphs` with `side = true` describes the character of
//! each support item by its strokes. With `side = 0` it is a vector of each class instead, as the paper's word
//! vectors: `features` has such with `class_vectors`, and `u_n = g(d_n)`.
//!
//! With `attention = "uniform"` a prototype is the mean of the two.
//!
//! # Differences from the paper
//! * `λ` comes from scaled dot products instead of a network on the side information alone.
//! * The paper's word vectors are of class names and learned from text; above `side = 0` the description
//!   comes with the items.

use burn::{
    module::Module,
    tensor::{Tensor, activation::softmax, backend::Backend},
};
use meta_core::{
    Error, Result,
    data::ItemShape,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass,
        attention::{MapAxis, Weighting},
        distance,
        encoder::Architecture,
        init::Initializer,
        linear::Linear,
    },
    primitives::Primitives,
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of [`MultimodalProtoNet`].
    pub struct MultimodalProtoNetSettings {
        /// Rows at the end of an image, or features at the end of a vector, that hold the second
        /// modality; fewer than there are. 0: the second modality is the vector that the source has for
        /// each class (`data.class_vectors`).
        side: usize = 1, size(0);
        /// Hidden width of the network of descriptions.
        hidden: usize = 64, size(1);
        /// Width `w` of the attention between the modalities.
        width: usize = 32, size(1);
        /// What the modalities are mixed by: `softmax` (attention) or `uniform` (the mean; for
        /// comparison).
        attention: Weighting = Weighting::Softmax;
    }
}

impl MultimodalProtoNetSettings {
    /// Numbers of the second modality in an item, its last ones.
    fn described(&self, item: ItemShape) -> usize {
        match (item.height, item.width) {
            (1, 1) => self.side,
            (_, width) => self.side * width * item.channels,
        }
    }
}

impl LearnerSettings for MultimodalProtoNetSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "multimodal_protonet",
        family: Family::Attention,
        summary: "prototypes of images and of side information, mixed by attention between the two",
        paper: "Xing et al., Adaptive cross-modal few-shot learning, NeurIPS 2019",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_classification(Self::INFO.name, "prototypes are of classes")?;
        if self.side == 0 && spec.extras.class_vector == 0 {
            let expected = "reads vectors of classes, and the source has none: set `data.class_vectors`, \
                            or say which numbers of an item describe it";
            return Err(Error::setting("learner.side", self.side, expected));
        }
        if self.described(spec.item) >= spec.item.features() {
            let expected = format!("leaves nothing of an item of {} for the image", spec.item);
            return Err(Error::setting("learner.side", self.side, expected));
        }
        Ok(())
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![
            json!({"hidden": 3, "width": 2}),
            json!({"hidden": 3, "width": 2, "attention": "uniform"}),
        ])
    }

    fn toy() -> Toy {
        Toy {
            maps: 1,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = MultimodalProtoNet {
            described: self.described(new.spec.item),
            width: match self.side {
                0 => new.spec.extras.class_vector,
                _ => self.described(new.spec.item),
            },
            architecture: new.architecture,
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// An encoder of images, a network of descriptions, and the attention between them.
#[derive(Module, Debug)]
pub struct MultimodalModel<B: Backend, E> {
    encoder: E,
    /// `g`: two layers.
    description: Linear<B>,
    embedding: Linear<B>,
    /// `W_Q`.
    query: Linear<B>,
    /// `W_K`.
    key: Linear<B>,
}

/// How a multimodal prototypical network compares.
pub struct MultimodalProtoNet<A> {
    settings: MultimodalProtoNetSettings,
    architecture: A,
    /// Numbers of the second modality in an item.
    described: usize,
    /// Numbers of the second modality.
    width: usize,
}

/// The items `[t, b, f]` without their last `described` numbers, which become zeros.
fn seen<L: Primitives>(items: &Tensor<L, 3>, described: usize) -> Tensor<L, 3> {
    let features = items.dims()[2];
    let image = items.clone().narrow(2, 0, features - described);
    let described = items.clone().narrow(2, features - described, described);
    Tensor::cat(vec![image, described.zeros_like()], 2)
}

impl<A: Architecture> SinglePass for MultimodalProtoNet<A> {
    type Model<L: Primitives> = MultimodalModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let MultimodalProtoNetSettings { hidden, width, .. } = self.settings;
        let d = self.architecture.width();
        MultimodalModel {
            encoder: self.architecture.init(initializer, device),
            description: Linear::he(self.width, hidden, initializer, device),
            embedding: Linear::glorot(hidden, d, initializer, device),
            query: Linear::glorot(d, width, initializer, device),
            key: Linear::glorot(d, width, initializer, device),
        }
    }

    /// Scores `−‖φ(x) − p_n‖²`, `[t, q, n]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let mut images = tasks.clone();
        for items in [&mut images.support, &mut images.query] {
            if self.described == 0 {
                break;
            }
            items.inputs = seen(&items.inputs, self.described);
        }
        let (support, query) = embed_together(&model.encoder, &images, pass);
        let embed = |described: Tensor<L, 3>| {
            model
                .embedding
                .forward(model.description.forward_relu(described))
        };

        let n = tasks.shape.way.0;
        let labels = tasks.support.targets.labels();
        let visual = distance::class_means(support, labels.clone(), n);
        let side = match &tasks.class_vectors {
            Some(vectors) if self.settings.side == 0 => embed(vectors.clone()),
            _ => {
                let items = &tasks.support.inputs;
                let first = items.dims()[2] - self.described;
                let described = items.clone().narrow(2, first, self.described);
                distance::class_means(embed(described), labels, n)
            }
        };
        let ask = model.query.forward(side.clone());
        let w = ask.dims()[2] as f64;
        let score = |modality: &Tensor<L, 3>| {
            let key = model.key.forward(modality.clone());
            (ask.clone() * key).sum_dim(2).mul_scalar(1.0 / w.sqrt())
        };
        let scores = Tensor::cat(vec![score(&visual), score(&side)], 2);
        let shares = softmax(self.settings.attention.scores(scores), 2);
        let map = shares.clone().unsqueeze_dim(1);
        pass.record("fusion", MapAxis::Class, MapAxis::Other("modality"), &map);
        let [of_visual, of_side] = [0, 1].map(|modality| shares.clone().narrow(2, modality, 1));
        let prototypes = visual * of_visual + side * of_side;
        distance::squared_distances(query, prototypes).neg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, learner, refusal, spec, tasks, values};
    use meta_core::{backend::Cpu, task::ItemBatch};

    type B = Cpu;

    fn answer(settings: serde_json::Value, tasks: &TaskBatch<B>) -> Vec<f32> {
        let learner = learner("multimodal_protonet", settings, &spec(3, 2));
        values(learner.predict(tasks, PredictAt::LastStep).remove(0))
    }

    /// The items with the last two features of each negated.
    fn redescribed(items: &ItemBatch<B>) -> Tensor<B, 3> {
        let inputs = &items.inputs;
        let f = inputs.dims()[2];
        let side = inputs.clone().narrow(2, f - 2, 2).neg();
        Tensor::cat(vec![inputs.clone().narrow(2, 0, f - 2), side], 2)
    }

    /// The description of a support item enters the answer, that of a query does not.
    #[test]
    fn descriptions_of_the_support_alone_are_read() {
        let plain = tasks(&spec(3, 2));
        let before = answer(json!({"side": 2}), &plain);
        let mut changed = plain.clone();
        changed.query.inputs = redescribed(&plain.query);
        assert_eq!(answer(json!({"side": 2}), &changed), before);
        changed.support.inputs = redescribed(&plain.support);
        assert_ne!(answer(json!({"side": 2}), &changed), before);
    }

    /// What describes is no part of the image: the encoder sees zeros there.
    #[test]
    fn the_encoder_does_not_see_the_description() {
        let items = Tensor::<B, 3>::ones([1, 2, 5], &Default::default());
        let expected = [1.0, 1.0, 1.0, 0.0, 0.0].repeat(2);
        assert_eq!(values(seen(&items, 2)), expected);
        let rule = MultimodalProtoNetSettings {
            side: 2,
            ..MultimodalProtoNetSettings::default()
        };
        let image = ItemShape {
            height: 10,
            width: 8,
            channels: 3,
        };
        assert_eq!(rule.described(image), 2 * 8 * 3);
    }

    /// Shares of the two modalities for each class: all one half where they are uniform.
    #[test]
    fn shares_of_the_modalities() {
        let spec = spec(3, 2);
        let map = |attention: &str| {
            let settings = json!({"attention": attention});
            let learner = learner("multimodal_protonet", settings, &spec);
            let map = learner.explain(&tasks(&spec)).maps.remove(0).weights;
            assert_eq!(map.dims(), [2, 1, 3, 2]);
            values(map)
        };
        assert_eq!(map("uniform"), vec![0.5; 12]);
        let shares = map("softmax");
        assert!(shares.iter().any(|share| (share - 0.5).abs() > 1e-3));
        let parameters = |attention: &str| {
            let settings = json!({"attention": attention});
            let learner = learner("multimodal_protonet", settings, &spec);
            learner.parameters().to_data()
        };
        assert_eq!(parameters("softmax"), parameters("uniform"));
    }

    /// Vectors of the classes instead of items: they move the answers, and the image is whole.
    #[test]
    fn vectors_of_classes_are_read() {
        let message = refusal("multimodal_protonet", json!({"side": 0}), &spec(3, 1));
        assert!(message.contains("`data.class_vectors`"), "{message}");
        let mut spec = spec(3, 2);
        spec.extras.class_vector = 4;
        let learner = learner("multimodal_protonet", json!({"side": 0}), &spec);
        let mut tasks = tasks(&spec);
        let answer =
            |tasks: &TaskBatch<B>| values(learner.predict(tasks, PredictAt::LastStep).remove(0));
        let vectors = Tensor::<B, 1, burn::tensor::Int>::arange(0..24, &Default::default());
        let vectors = vectors.float().reshape([2, 3, 4]).mul_scalar(0.1);
        tasks.class_vectors = Some(vectors.clone());
        let before = answer(&tasks);
        tasks.class_vectors = Some(vectors.neg());
        assert_ne!(answer(&tasks), before);
        let parameters = learner.parameters().shapes();
        assert!(
            parameters
                .iter()
                .any(|(name, shape)| { name.starts_with("description.") && shape.contains(&4) })
        );
    }

    #[test]
    fn something_must_be_left_to_see() {
        let message = refusal("multimodal_protonet", json!({"side": 6}), &spec(3, 1));
        assert!(message.contains("`learner.side = 6`"), "{message}");
        assert!(message.contains("1×1×6"), "{message}");
        let fits = json!({"side": 5});
        learner("multimodal_protonet", fits, &spec(3, 1));
    }
}
