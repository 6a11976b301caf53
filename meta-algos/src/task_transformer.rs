//! Task transformer: a transformer reads the support and writes the task's classifier.
//!
//! After Zhmoginov, Sandler and Vladymyrov, *HyperTransformer: Model generation for supervised and
//! semi-supervised few-shot learning*, ICML 2022, section 3: tokens of the support go through an
//! encoder, and tokens that stand for weights read out what the task's weights are.
//!
//! Support items with their targets are tokens, which attend to each other in `E` blocks; then one
//! token for each class (or regression output) reads them in `D` blocks, and a linear layer writes
//! what it stands for:
//!
//! ```text
//! u = encoder(U [φ(xᵢ), yᵢ], i = 1 … s)      yᵢ: the values, or the mean embedding of the class of xᵢ
//! v_n = decoder(Q c_n reads u)               classification: c_n the mean embedding of class n
//! p_n = c_n + W v_n                          the prototype of class n
//! scores = −‖φ(x) − p_n‖², as the linear classifier w_n = 2 p_n, b_n = −‖p_n‖²
//!
//! v_o = decoder(q_o reads u),   [w_o, b_o] = [w⁰_o, b⁰_o] + W v_o       regression: q, w⁰, b⁰ learned
//! ```
//!
//! With `inner_steps = K` the weights so written adapt: `K` steps of gradient descent on the support
//! loss of the linear classifier, whose gradient has a closed form, through which the meta-gradient
//! goes exactly. `W` is zero at the start: the learner then is a prototypical network, or in regression
//! ANIL. There are no positions: the support is a set, and so are the classes.
//!
//! For contrast, FEAT (Ye et al., CVPR 2020, the learner `feat`) lets prototypes attend to each other;
//! here they attend to the support.
//!
//! With `attention = "uniform"` every token reads the mean of what it would attend to.
//!
//! # Differences from the paper
//! * The paper generates the layers of a small convolutional network one after the other; here the
//!   encoder is shared and the last layer generated, which the paper finds enough for all but the
//!   smallest networks (section 5).
//! * Its tokens carry one-hot labels and its class tokens learned positions, for a fixed number of
//!   classes; here a class is told by its mean embedding, so that way and shot may change.
//! * Its decoder is a part of the encoder's sequence, here blocks of its own.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, activation::softmax, backend::Backend},
};
use meta_core::{
    Result,
    data::Task,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Steps, Toy,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
        tokens,
    },
    nn::{
        Pass,
        attention::{Block, MapAxis, MultiHeadSettings, Weighting, check_heads, stack},
        distance,
        encoder::Architecture,
        init::{Initializer, constant},
        linear::Linear,
    },
    primitives::{Activation, MatrixProduct, Primitives, broadcast_rows, linear_add},
    settings,
    task::{TargetBatch, TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of [`TaskTransformer`].
    pub struct TaskTransformerSettings {
        /// Width of a token.
        width: usize = 64, size(1);
        /// Attention heads; must divide the width.
        heads: usize = 4, size(0);
        /// Blocks `E` in which the support attends to itself.
        layers: usize = 2, size(1);
        /// Blocks `D` in which classes or outputs read the support.
        decoder_layers: usize = 1, size(1);
        /// Hidden width of a block's feed-forward part.
        hidden: usize = 128, size(1);
        /// What a token reads others by: `softmax` (attention) or `uniform` (the mean; for
        /// comparison).
        attention: Weighting = Weighting::Softmax;
        /// Gradient steps `K` of the written weights in training and at test; 0 for none.
        inner_steps: usize = 0, size(0);
        /// `α` of these steps.
        inner_lr: f64 = 0.01, above(0.0);
    }
}

impl LearnerSettings for TaskTransformerSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "task_transformer",
        family: Family::Attention,
        summary: "a transformer reads the support and writes prototypes or a regression head",
        paper: "Zhmoginov et al., HyperTransformer, ICML 2022",
        regression: true,
        any_way: true,
    };

    // `burn-tch` seems to write into the views that `swap_dims` and `permute` make.
    const WRONG_ON: &'static [&'static str] = &["tch"];

    fn check<A: Architecture>(&self, _architecture: &A, _spec: &TaskSpec) -> Result<()> {
        check_heads("learner.heads", self.heads, "learner.width", self.width)
    }

    fn steps(&self) -> Steps {
        Steps {
            train: self.inner_steps,
            held: self.inner_steps,
            test: self.inner_steps,
            ..Steps::default()
        }
    }

    fn gradient_of() -> GradientOf {
        let small = |attention: &str, inner_steps: usize| {
            json!({
                "width": 4, "heads": 2, "layers": 1, "hidden": 3, "attention": attention,
                "inner_steps": inner_steps
            })
        };
        GradientOf::Queries(vec![
            small("softmax", 0),
            small("softmax", 2),
            small("uniform", 0),
        ])
    }

    fn toy() -> Toy {
        Toy {
            maps: 3,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = TaskTransformer {
            outputs: match new.spec.task {
                Task::Regression { outputs } => Some(outputs),
                _ => None,
            },
            architecture: new.architecture,
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// An encoder of items, and the transformer over the support.
#[derive(Module, Debug)]
pub struct TaskTransformerModel<B: Backend, E> {
    encoder: E,
    /// `U`.
    token: Linear<B>,
    blocks: Vec<Block<B>>,
    decoder: Vec<Block<B>>,
    /// `Q`, in classification.
    class: Option<Linear<B>>,
    /// `q`, `[1|t, 1, o·w]`, in regression.
    queries: Option<Param<Tensor<B, 3>>>,
    /// `w⁰`, `b⁰`, in regression.
    head: Option<Linear<B>>,
    /// `W`; starts at zero.
    output: Linear<B>,
}

/// How a task transformer answers.
pub struct TaskTransformer<A> {
    settings: TaskTransformerSettings,
    architecture: A,
    /// Regression outputs; none in classification.
    outputs: Option<usize>,
}

/// The classifier or regressor of each task.
struct Head<L: Primitives> {
    /// `[t, d, n]`.
    weight: Tensor<L, 3>,
    /// `[t, 1, n]`.
    bias: Tensor<L, 3>,
}

impl<L: Primitives> Head<L> {
    /// `[t, b, d]` to `[t, b, n]`.
    fn forward(&self, embeddings: Tensor<L, 3>) -> Tensor<L, 3> {
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        linear_add(embeddings, weight, bias, Activation::Identity)
    }

    /// One step along the gradient of the support loss, `∇_W = eᵀ g`, `∇_b = Σ g`, with `g` its gradient
    /// in the scores: `(softmax(z) − y) / s`, or `2 (z − y) / (s·o)`.
    fn step(self, support: &Tensor<L, 3>, targets: &TargetBatch<L>, rate: f64) -> Self {
        let scores = self.forward(support.clone());
        let [_, s, n] = scores.dims();
        let errors = match targets {
            TargetBatch::Classes(labels) => {
                let truth = distance::membership(labels.clone(), n, &scores);
                (softmax(scores, 2) - truth).mul_scalar(1.0 / s as f64)
            }
            TargetBatch::Values(values) => {
                (scores - values.clone()).mul_scalar(2.0 / (s * n) as f64)
            }
            TargetBatch::Sequences(_) => unreachable!("sequences are refused"),
        };
        let of_weight = support.clone().swap_dims(1, 2).product(errors.clone());
        Head {
            weight: self.weight - of_weight.mul_scalar(rate),
            bias: self.bias - errors.sum_dim(1).mul_scalar(rate),
        }
    }
}

impl<A: Architecture> TaskTransformer<A> {
    /// The head that the transformer writes from the embedded support, `[t, s, d]`.
    fn write<L: Primitives>(
        &self,
        model: &TaskTransformerModel<L, A::Model<L>>,
        support: Tensor<L, 3>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Head<L> {
        let [t, s, d] = support.dims();
        let (targets, way) = (&tasks.support.targets, tasks.shape.way.0);
        let tokens = tokens::with_targets(support.clone(), targets, way);
        let tokens = model.token.forward(tokens);
        let (read, maps) = stack(&model.blocks, tokens, s, None, pass);
        for (layer, map) in maps.iter().enumerate() {
            let name = format!("encoder {}", layer + 1);
            pass.record(&name, MapAxis::Support, MapAxis::Support, map);
        }
        let decode = |queries: Tensor<L, 3>, rows: MapAxis| {
            let mut decoded = queries;
            for (layer, block) in model.decoder.iter().enumerate() {
                let (next, map) = block.attend(decoded, read.clone(), 1, pass);
                let name = format!("decoder {}", layer + 1);
                pass.record(&name, rows.clone(), MapAxis::Support, &map);
                decoded = next;
            }
            model.output.forward(decoded)
        };
        match (&model.class, &model.queries, &model.head) {
            (_, Some(queries), Some(head)) => {
                let w = self.settings.width;
                let queries = broadcast_rows(queries.val(), t, 1);
                let o = queries.dims()[2] / w;
                let written = decode(queries.reshape([t, o, w]), MapAxis::Other("output"));
                let written = written.swap_dims(1, 2);
                Head {
                    weight: head.weight.val() + written.clone().narrow(1, 0, d),
                    bias: head.bias.val() + written.narrow(1, d, 1),
                }
            }
            (Some(class), ..) => {
                let means = distance::class_means(support, targets.labels(), way);
                let written = decode(class.forward(means.clone()), MapAxis::Class);
                let (weight, bias) = distance::classifier(means + written);
                Head { weight, bias }
            }
            _ => unreachable!("either classes or outputs are decoded"),
        }
    }
}

impl<A: Architecture> SinglePass for TaskTransformer<A> {
    type Model<L: Primitives> = TaskTransformerModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let settings = &self.settings;
        let (d, w) = (self.architecture.width(), settings.width);
        let classes = self.outputs.is_none();
        let token = tokens::width(d, classes, self.outputs.unwrap_or_default());
        let encoder = self.architecture.init(initializer, device);
        // Before the transformer, so that it is the head of ANIL with the same seed.
        let head = self
            .outputs
            .map(|outputs| Linear::glorot(d, outputs, initializer, device));
        let attention = MultiHeadSettings {
            weighting: settings.attention,
            ..MultiHeadSettings::of_width(w, settings.heads)
        };
        let mut block = |_| {
            Block::with(attention, settings.hidden, initializer, device)
                .expect("checked with the settings")
        };
        let blocks = (0..settings.layers).map(&mut block).collect();
        let decoder = (0..settings.decoder_layers).map(&mut block).collect();
        let written = d + usize::from(!classes);
        TaskTransformerModel {
            encoder,
            token: Linear::glorot(token, w, initializer, device),
            blocks,
            decoder,
            class: classes.then(|| Linear::glorot(d, w, initializer, device)),
            queries: self
                .outputs
                .map(|outputs| initializer.normal([1, 1, outputs * w], 1.0, device)),
            head,
            output: Linear {
                weight: constant(0.0, [1, w, written], device),
                bias: constant(0.0, [1, 1, written], device),
            },
        }
    }

    /// Scores or values of the queries, `[t, q, n]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(&model.encoder, tasks, pass);
        let head = self.write(model, support.clone(), tasks, pass);
        let TaskTransformerSettings {
            inner_steps,
            inner_lr,
            ..
        } = self.settings;
        let adapted = (0..inner_steps).fold(head, |head, _| {
            head.step(&support, &tasks.support.targets, inner_lr)
        });
        adapted.forward(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, assert_close, learner, refusal, regression, spec, tasks, values};
    use burn::tensor::activation::log_softmax;
    use meta_core::backend::Cpu;
    use meta_core::rng::Seed;

    type B = Cpu;

    fn answer(learner: &dyn Learner<B>, tasks: &TaskBatch<B>) -> Vec<f32> {
        values(learner.predict(tasks, PredictAt::LastStep).remove(0))
    }

    /// A learner that writes something.
    fn writing(settings: serde_json::Value, spec: &TaskSpec) -> Box<dyn Learner<B>> {
        let mut learner = learner("task_transformer", settings, spec);
        let parameters = learner.parameters();
        let output = parameters.filter(|name| name == "output.weight");
        let moved = output.constants(0.05, <[usize]>::to_vec);
        learner.set_parameters(parameters.overwrite(moved));
        learner
    }

    /// Nothing is written at the start: a prototypical network, and in regression ANIL, whose steps are
    /// those of the closed form.
    #[test]
    fn the_start_is_the_base_learner() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let own =
            learner("task_transformer", json!({}), &spec).predict(&tasks, PredictAt::LastStep);
        let base = learner("protonet", json!({}), &spec).predict(&tasks, PredictAt::LastStep);
        let probabilities = |scores: Vec<Tensor<B, 3>>| values(log_softmax(scores[0].clone(), 2));
        assert_close(&probabilities(own), &probabilities(base), 1e-4);
        let (spec, tasks) = regression();
        let own = json!({"inner_steps": 3, "inner_lr": 0.1});
        let base = json!({"inner_steps": 3, "test_steps": 3, "inner_lr": 0.1});
        assert_close(
            &answer(learner("task_transformer", own, &spec).as_ref(), &tasks),
            &answer(learner("anil", base, &spec).as_ref(), &tasks),
            1e-5,
        );
    }

    /// The closed form is the gradient of the cross-entropy.
    #[test]
    fn the_step_is_along_the_gradient_of_the_support_loss() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let device = Default::default();
        let initializer = &mut Initializer::seeded(Seed(3));
        let mut draw = |shape: [usize; 3]| {
            let param = initializer.normal::<B, 3>(shape, 1.0, &device);
            param.val()
        };
        let (weight, bias) = (draw([2, 4, 3]), draw([2, 1, 3]));
        let support = draw([2, 6, 4]);
        let head = |shift: f32| Head {
            weight: weight.clone().add_scalar(0.0).slice_assign(
                [0..1, 1..2, 2..3],
                weight.clone().slice([0..1, 1..2, 2..3]).add_scalar(shift),
            ),
            bias: bias.clone(),
        };
        let targets = &tasks.support.targets;
        let loss = |shift: f32| {
            let scores = head(shift).forward(support.clone());
            values(meta_core::nn::loss::loss(scores, targets))[0]
        };
        let numeric = (loss(0.01) - loss(-0.01)) / 0.02;
        let stepped = head(0.0).step(&support, targets, 1.0);
        let moved = values((weight.clone() - stepped.weight).slice([0..1, 1..2, 2..3]))[0];
        assert_close(&[moved], &[numeric], 1e-3);
    }

    /// What is written depends on the support as a set, and every class on all of it.
    #[test]
    fn classes_read_the_whole_support() {
        let spec = spec(3, 2);
        let (plain, mut changed) = (tasks(&spec), tasks(&spec));
        let inputs = changed.support.inputs.clone();
        let last = inputs.clone().narrow(1, 4, 2).neg();
        changed.support.inputs = Tensor::cat(vec![inputs.narrow(1, 0, 4), last], 1);
        let first = |learner: &dyn Learner<B>, tasks: &TaskBatch<B>| {
            let scores = learner.predict(tasks, PredictAt::LastStep).remove(0);
            values(scores.narrow(2, 0, 1))
        };
        let silent = learner("task_transformer", json!({}), &spec);
        assert_eq!(
            first(silent.as_ref(), &plain),
            first(silent.as_ref(), &changed)
        );
        let writing = writing(json!({}), &spec);
        assert_ne!(
            first(writing.as_ref(), &plain),
            first(writing.as_ref(), &changed)
        );
    }

    /// Maps of both parts, softmax or uniform, with the same parameters.
    #[test]
    fn maps_of_both_parts() {
        let spec = spec(3, 2);
        let uniform = writing(json!({"attention": "uniform"}), &spec);
        let maps = uniform.explain(&tasks(&spec)).maps;
        let names: Vec<&str> = maps.iter().map(|map| map.name.as_str()).collect();
        assert_eq!(names, ["encoder 1", "encoder 2", "decoder 1"]);
        assert_eq!(maps[2].weights.dims(), [2, 4, 3, 6]);
        for map in maps {
            let weights = values(map.weights);
            assert!(weights.iter().all(|w| (w - 1.0 / 6.0).abs() < 1e-6));
        }
        let softmax = writing(json!({}), &spec);
        assert_eq!(
            softmax.parameters().to_data(),
            uniform.parameters().to_data()
        );
        let tasks = tasks(&spec);
        assert_ne!(
            answer(softmax.as_ref(), &tasks),
            answer(uniform.as_ref(), &tasks)
        );
    }

    #[test]
    fn heads_must_divide_the_width() {
        let message = refusal("task_transformer", json!({"width": 6}), &spec(3, 1));
        assert!(message.contains("`learner.heads = 4`"), "{message}");
    }
}
