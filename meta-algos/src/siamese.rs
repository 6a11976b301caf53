//! Siamese networks: same or different?
//!
//! Koch, Zemel and Salakhutdinov, *Siamese neural networks for one-shot image recognition*, ICML deep
//! learning workshop 2015.
//!
//! Two items pass the same embedding `φ`; a weighted L1 distance says whether they are of one class:
//!
//! ```text
//! z(x, x') = b + Σ_j α_j |φ_j(x) − φ_j(x')|,   p = σ(z)        (section 3.1)
//! L = −1[same] log p − 1[different] log(1 − p)                  (section 3.2)
//! ```
//!
//! Which pairs are learned from is a setting ([`Pairs`]). With `cross`, every query with every support item, same
//! and different ones with equal weight; the class score is the mean of `z` over the support of the class. With
//! `balanced`, as in the paper: all pairs of one class among the items of the task, support or query, and as many
//! of two classes, drawn anew in every iteration; a query then belongs to the class of its best match,
//! `max z` over the support (section 4.2, one-shot trials). With one shot, both scores are the same.
//!
//! The paper's embedding ends in a fully connected layer of sigmoids, `φ(x) = σ(W f(x) + c)`, with 4096 units
//! (section 4.1; [`SiameseSettings::units`]); without, `φ` is the encoder's.
//!
//! # Differences from the paper
//! * Pairs come from the classes of a task; the paper draws them from all classes. Ten tasks of two classes are
//!   nearer to it than one of twenty.
//! * `b` is ours, without which distances of 0 have `p = ½`.
//! * Batch normalisation is the encoder's matter; the paper has none (`encoder.norm = "none"`), and convolutions of
//!   10×10, 7×7 and 4×4 on images of 105×105.
//! * No layer-wise learning rates, momenta and weight penalties: the outer optimiser is the
//!   manifest's.
//! * With several shots and `cross`, means over the support of a class; the paper has one shot.

use burn::{
    module::Module,
    tensor::{Int, Tensor, TensorData, backend::Backend},
};
use meta_core::{
    Error, Result,
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
    primitives::{MatrixProduct, Primitives, add_rows},
    rng::{Seed, Stream},
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Which pairs a siamese network learns from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pairs {
    /// Every query with every support item.
    #[default]
    Cross,
    /// As many of one class as of two, among all items.
    Balanced,
}

settings! {
    /// Settings of siamese networks.
    pub struct SiameseSettings {
        /// Pairs that are learned from: `cross` (every query with every support item, weighted; the class with the
        /// highest mean) or `balanced` (as in the paper: as many of one class as of two, among all items; the class
        /// of the best match).
        #[added("0.2")]
        pairs: Pairs = Pairs::Cross;
        /// Units of the fully connected sigmoid layer behind the encoder, 4096 in the paper. 0: no such layer.
        #[added("0.2")]
        units: usize = 0, size(0);
        /// How the channels of the embeddings are weighted for a task, by its support: `none`, `soft`
        /// (gates) or `hard` (a choice).
        feature_attention: FeatureAttention = FeatureAttention::None;
    }
}

impl LearnerSettings for SiameseSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "siamese",
        family: Family::Metric,
        summary: "learns whether two items are of one class, by a weighted L1 distance",
        paper: "Koch et al., Siamese neural networks for one-shot image recognition, 2015",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_classification(Self::INFO.name, "pairs are of one class or of two")?;
        if spec.train.way.0 < 2 {
            let expected = "must be at least 2: `siamese` learns from different pairs too";
            return Err(Error::setting("data.way", spec.train.way, expected));
        }
        Ok(())
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Training(
            "cross-entropy of pairs",
            vec![
                json!({}),
                json!({"feature_attention": "soft"}),
                json!({"pairs": "balanced", "units": 3}),
            ],
        )
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = Siamese {
            architecture: Masked::new(new.architecture, self.feature_attention),
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// An encoder and the weights of the distance.
#[derive(Module, Debug)]
pub struct SiameseModel<B: Backend, E> {
    encoder: E,
    /// `W`, `c`, where there are units.
    units: Option<Linear<B>>,
    /// `α`, `b`.
    distance: Linear<B>,
}

impl<B: Primitives, E> SiameseModel<B, E> {
    /// `φ`, from embeddings of the encoder.
    fn embedding(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        match &self.units {
            Some(layer) => activation::sigmoid(layer.forward(x)),
            None => x,
        }
    }

    /// `z` of every query `[t, q, d]` with every support item `[t, s, d]`: `[t, q, s]`.
    fn cross(&self, support: &Tensor<B, 3>, query: &Tensor<B, 3>) -> Tensor<B, 3> {
        let ([t, s, d], q) = (support.dims(), query.dims()[1]);
        let item = support.clone().neg().reshape([t * s, 1, d]);
        let apart = add_rows(distance::copies(query, s), item).abs();
        let cross = self.distance.forward(apart.reshape([t, s * q, d]));
        cross.reshape([t, s, q]).swap_dims(1, 2)
    }
}

/// How a siamese network compares.
pub struct Siamese<A> {
    architecture: A,
    settings: SiameseSettings,
}

impl<A: Architecture> SinglePass for Siamese<A> {
    type Model<L: Primitives> = SiameseModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let (width, units) = (self.architecture.width(), self.settings.units);
        let encoder = self.architecture.init(initializer, device);
        let layer = (units > 0).then(|| Linear::glorot(width, units, initializer, device));
        let width = if units > 0 { units } else { width };
        SiameseModel {
            encoder,
            units: layer,
            distance: Linear::glorot(width, 1, initializer, device),
        }
    }

    crate::embeds_items_apart!();

    /// `z` of every query with every support item, `[t, q, s]`; with balanced pairs as one row, behind which come
    /// those of the pairs that are learned from, `[t, 1, q·s + p]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(&model.encoder, tasks, pass);
        let (support, query) = (model.embedding(support), model.embedding(query));
        let ([t, s, d], [_, q, _]) = (support.dims(), query.dims());
        if self.settings.pairs == Pairs::Cross {
            return model.cross(&support, &query);
        }
        if !pass.mode.training {
            return model.cross(&support, &query).reshape([t, 1, q * s]);
        }
        // Of all pairs only the score of the training is told.
        let cross = model.cross(&support.clone().detach(), &query.clone().detach());
        let cross = cross.detach().reshape([t, 1, q * s]);
        let items = Tensor::cat(vec![support, query], 1).reshape([t * (s + q), d]);
        let [first, second] = drawn_pairs(tasks);
        let chosen = |rows: Vec<i32>| {
            let rows = TensorData::new(rows, [first.len()]);
            let rows = Tensor::<L, 1, Int>::from_data(rows, &items.device());
            items.clone().select(0, rows)
        };
        let p = first.len() / t;
        let difference = chosen(first.clone()) - chosen(second);
        let pairs = model.distance.forward(difference.abs().reshape([t, p, d]));
        Tensor::cat(vec![cross, pairs.reshape([t, 1, p])], 2)
    }

    fn predictions<L: Primitives>(
        &self,
        output: Tensor<L, 3>,
        tasks: &TaskBatch<L>,
    ) -> Tensor<L, 3> {
        let labels = tasks.support.targets.labels();
        let way = tasks.shape.way.0;
        if self.settings.pairs == Pairs::Cross {
            let by_item = output.swap_dims(1, 2);
            return distance::class_means(by_item, labels, way).swap_dims(1, 2);
        }
        let ([t, s], [_, q]) = (tasks.support.dims(), tasks.query.dims());
        let cross = output.narrow(2, 0, q * s).reshape([t, q, s, 1]);
        let others = labels
            .one_hot::<3>(way)
            .equal_elem(0)
            .reshape([t, 1, s, way]);
        let of_class = cross
            .expand([t, q, s, way])
            .mask_fill(others.expand([t, q, s, way]), f64::NEG_INFINITY);
        of_class.max_dim(2).reshape([t, q, way])
    }

    /// Cross-entropy of the pairs: the mean over same pairs and that over different ones, halved.
    fn losses<L: Primitives>(&self, output: Tensor<L, 3>, tasks: &TaskBatch<L>) -> Tensor<L, 1> {
        let ([t, s], [_, q]) = (tasks.support.dims(), tasks.query.dims());
        if self.settings.pairs == Pairs::Balanced {
            let half = (output.dims()[2] - q * s) / 2;
            let mean = |losses: Tensor<L, 3>| losses.mean_dim(2).reshape([t]);
            let same = output.clone().narrow(2, q * s, half);
            let different = output.narrow(2, q * s + half, half);
            let of_same = mean(activation::softplus(same.neg()));
            let of_different = mean(activation::softplus(different));
            return (of_same + of_different).mul_scalar(0.5);
        }
        let way = tasks.shape.way.0;
        let member = |labels| distance::membership(labels, way, &output);
        let of_query = member(tasks.query.targets.labels());
        let of_support = member(tasks.support.targets.labels());
        let same = of_query.product(of_support.swap_dims(1, 2));
        let mean = |losses: Tensor<L, 3>, chosen: Tensor<L, 3>| {
            let sum = |x: Tensor<L, 3>| x.reshape([t, q * s]).sum_dim(1).reshape([t]);
            sum(losses * chosen.clone()) / sum(chosen)
        };
        let different = same.clone().neg().add_scalar(1.0);
        let of_same = mean(activation::softplus(output.clone().neg()), same);
        let of_different = mean(activation::softplus(output), different);
        (of_same + of_different).mul_scalar(0.5)
    }
}

/// The pairs of each task that are learned from, one after the other, as rows of all items of all tasks (supports
/// before queries, task by task): first and second items; of each task the pairs of one class, then as many of two.
fn drawn_pairs<L: Primitives>(tasks: &TaskBatch<L>) -> [Vec<i32>; 2] {
    let labels = Tensor::cat(
        vec![tasks.support.targets.labels(), tasks.query.targets.labels()],
        1,
    );
    let [_, items] = labels.dims();
    let labels: Vec<i64> = labels.into_data().iter().collect();
    let seed = tasks.context.noise.unwrap_or(Seed(0));
    let mut pairs = [Vec::new(), Vec::new()];
    let of_tasks = labels.chunks(items).zip(tasks.episodes.iter());
    for (task, (labels, &episode)) in of_tasks.enumerate() {
        let mut stream = seed.stream("siamese", episode, "pairs");
        for (first, second) in balanced_pairs(labels, &mut stream) {
            pairs[0].push((task * items + first) as i32);
            pairs[1].push((task * items + second) as i32);
        }
    }
    pairs
}

/// All pairs of items with one label, and as many with two, drawn from `stream`.
fn balanced_pairs(labels: &[i64], stream: &mut Stream) -> Vec<(usize, usize)> {
    let items = labels.len();
    let all = (0..items).flat_map(|first| (first + 1..items).map(move |second| (first, second)));
    let same = all.filter(|&(first, second)| labels[first] == labels[second]);
    let mut pairs: Vec<_> = same.collect();
    // With two classes or more, a draw in two or more succeeds.
    let mut different = || loop {
        let (first, second) = (stream.below(items), stream.below(items));
        if labels[first] != labels[second] {
            return (first, second);
        }
    };
    for _ in 0..pairs.len() {
        pairs.push(different());
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{
        PredictAt, assert_close, encoder, learner, refusal, spec, support_as_queries, tasks, values,
    };
    use meta_core::{backend::Cpu, nn::encoder::Encoder, params::Params};

    /// An item is at distance 0 from itself: `z = b`, whatever the weights.
    #[test]
    fn an_item_with_itself_scores_the_bias() {
        let spec = spec(3, 1);
        let tasks = support_as_queries(tasks(&spec));
        let mut siamese = learner("siamese", json!({}), &spec);
        let mut bias = Params::default();
        bias.push(
            "distance.bias",
            Tensor::<Cpu, 3>::full([1, 1, 1], 0.7, &Default::default()),
        );
        siamese.set_parameters(siamese.parameters().overwrite(bias));
        let scores = values(siamese.predict(&tasks, PredictAt::EveryStep).remove(0));
        for task in scores.chunks(9) {
            assert_close(&[task[0], task[4], task[8]], &[0.7; 3], 1e-6);
        }
    }

    /// `z = 0` costs `ln 2`, whatever the numbers of same and different pairs.
    #[test]
    fn an_undecided_pair_costs_ln_2() {
        let spec = spec(3, 2);
        let rule = Siamese {
            architecture: encoder(),
            settings: SiameseSettings::default(),
        };
        let undecided = Tensor::<Cpu, 3>::zeros([2, 6, 6], &Default::default());
        let losses = values(rule.losses(undecided, &tasks(&spec)));
        assert_close(&losses, &[std::f32::consts::LN_2; 2], 1e-6);
    }

    #[test]
    fn one_class_is_refused() {
        let message = refusal("siamese", json!({}), &spec(1, 2));
        assert!(message.contains("data.way"), "{message}");
    }

    /// Of three classes of four items: all 18 pairs of one class, each once, and 18 of two; other streams draw
    /// others. No pair of two classes is preferred: each of the 48 has 375 of 18000, with a deviation of 19.2;
    /// outside of 275 to 475 with a probability below 1e-5.
    #[test]
    fn pairs_are_balanced() {
        let labels: Vec<i64> = (0..12).map(|item| item / 4).collect();
        let mut counts = [[0usize; 12]; 12];
        let mut all = Vec::new();
        for index in 0..1000 {
            let mut stream = Seed(3).stream("test", index, "pairs");
            let pairs = balanced_pairs(&labels, &mut stream);
            assert_eq!(pairs.len(), 36);
            let (same, different) = pairs.split_at(18);
            let is_same = |&(a, b): &(usize, usize)| labels[a] == labels[b] && a < b;
            assert!(same.iter().all(is_same));
            let distinct: std::collections::BTreeSet<_> = same.iter().collect();
            assert_eq!(distinct.len(), 18);
            for &(a, b) in different {
                assert_ne!(labels[a], labels[b]);
                counts[a.min(b)][a.max(b)] += 1;
            }
            all.push(pairs);
        }
        assert_ne!(all[0], all[1]);
        let drawn = counts.iter().flatten().filter(|&&count| count > 0);
        assert_eq!(drawn.clone().count(), 48);
        assert!(
            drawn.copied().all(|count| (275..475).contains(&count)),
            "{counts:?}"
        );
    }

    /// The loss of balanced pairs by hand, from what the network says of each pair alone; and the class of the
    /// best match, where the mean over the support says another.
    #[test]
    fn balanced_pairs_cost_their_cross_entropy() {
        let spec = spec(3, 2);
        let rule = Siamese {
            architecture: encoder(),
            settings: SiameseSettings {
                pairs: Pairs::Balanced,
                units: 5,
                ..SiameseSettings::default()
            },
        };
        let device = Default::default();
        let model = rule.init::<Cpu>(&mut Initializer::seeded(Seed(5)), &device);
        let tasks = tasks(&spec);
        let output = rule.forward(&model, &tasks, &Pass::training());
        assert_eq!(output.dims(), [2, 1, 36 + 36]);
        let losses = values(rule.losses(output.clone(), &tasks));
        let [first, second] = drawn_pairs(&tasks);
        let both = vec![tasks.support.inputs.clone(), tasks.query.inputs.clone()];
        let inputs = Tensor::cat(both, 1).reshape([1, 24, 6]);
        let embedded = model.embedding(model.encoder.forward(inputs, &Pass::evaluation()));
        let weight = values(model.distance.weight.val());
        let rows = values(embedded);
        let item = |row: i32| &rows[row as usize * 5..][..5];
        for (task, loss) in losses.iter().enumerate() {
            let mut expected = 0.0f64;
            for pair in 0..36 {
                let (a, b) = (first[task * 36 + pair], second[task * 36 + pair]);
                let parts = item(a).iter().zip(item(b)).zip(&weight);
                let z: f64 = parts.map(|((a, b), w)| f64::from((a - b).abs() * w)).sum();
                let p = 1.0 / (1.0 + (-z).exp());
                expected -= if pair < 18 { p.ln() } else { (1.0 - p).ln() } / 36.0;
            }
            assert!(
                (f64::from(*loss) - expected).abs() < 1e-5,
                "{loss}, {expected}"
            );
        }
        let z = Tensor::<Cpu, 3>::from_data([[[3.0, -9.0, 1.0, 1.0, 0.0, 0.0]]], &device);
        let cross = z.expand([2, 6, 6]).reshape([2, 1, 36]);
        let scores = values(rule.predictions(cross, &tasks));
        assert_close(&scores[..3], &[3.0, 1.0, 0.0], 1e-6);
    }
}
