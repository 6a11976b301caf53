//! Prior-fitted network: a transformer over the cells of a table, trained on tables from a prior.
//!
//! Müller, Hollmann, Pineda Arango, Grabocka and Hutter, *Transformers can do Bayesian inference*, ICLR
//! 2022; Hollmann, Müller, Eggensperger and Hutter, *TabPFN*, ICLR 2023; attention along both axes of the
//! table as in Hollmann et al., *Accurate predictions on small data with a tabular foundation model*,
//! Nature 637, 2025, and its small version nanoTabPFN.
//!
//! A task is a table of `s` support and `q` query rows with `f` features, and a column for the target. Each
//! cell is a vector of width `d`. With `zᵢⱼ` the feature in units of its column (mean and deviation of the
//! support; 0 where missing; as it is without `standardise`), `mᵢⱼ` whether it is missing, `yᵢ` the target,
//! likewise:
//!
//! ```text
//! uᵢⱼ = E [zᵢⱼ, mᵢⱼ],   uᵢ,target = T [yᵢ, 1] of the support,  T [0, 0] of a query        cells
//! u ← u + attention of each cell to the cells of its row                                 features
//! u ← u + attention of each cell to the cells of its column in the support                rows
//! u ← u + C ū    ū: mean of the cells of the same column over the support rows of one's class
//! u ← u + W₂ relu(W₁ u)
//! ```
//!
//! `layers` times, each part on the layer normalisation of its input. Then, with `r` the target cell:
//!
//! ```text
//! classification  p(y = n | x) = 1/H Σ_h Σ_{i: yᵢ = n} softmaxᵢ(⟨Q_h r, K_h rᵢ⟩ / √(d/H))
//! regression      masses of B bins of the standardised target = softmax(g(r)), as `predictive` says
//! ```
//!
//! Trained by the mean of `−ln p(y | x)` over the queries. No query is read by anybody. Features, support
//! rows and classes are sets: their order changes rounding alone. A column that is the same in all of the
//! support is not read. Tasks may differ in features, rows and
//! classes, up to `max_features`, `max_rows` and `max_classes`, and in training and test alike.
//!
//! Columns are the outputs of the encoder: those of the table itself with `identity`.
//!
//! # Differences from the papers
//! * Which class is called 0 is no information: TabPFN adds an embedding of the class number to the target
//!   column and has an output for each of ten classes. Here support rows exchange the mean of their class in
//!   every layer, and the head is attention to the support whose weights are summed by class.
//! * There is no embedding that tells features apart (TabPFN v2 draws random ones), so that the order of
//!   features is exactly no information; and features are not taken in groups of two.
//! * The normalisation comes before each part, and there is no dropout. Nothing is sampled at test: no
//!   ensemble over permutations, no power transforms; columns are clipped at 8 deviations.
//! * Bins lie at quantiles of a normal instead of those of a sample of the prior.

use burn::{
    module::Module,
    tensor::{Bool, Tensor, backend::Backend},
};
use meta_core::{
    Error, Result,
    data::Task,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        embed::embed_together,
        predictive::OutputDistribution,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass,
        attention::{
            MapAxis, MultiHeadAttention, MultiHeadSettings, Weighting, check_heads,
            mask::softmax_over,
        },
        distance,
        encoder::Architecture,
        feed_forward::FeedForward,
        init::Initializer,
        linear::Linear,
        norm::{Norm, Statistics},
    },
    primitives::{MatrixProduct, Primitives, attention_read, attention_scores},
    settings,
    task::{ItemBatch, TargetBatch, TaskBatch, TaskSpec},
};
use serde_json::json;

/// Deviations from the mean of the support at which a column is clipped.
const CLIP: f64 = 8.0;
/// Added to a probability before its logarithm.
const LEAST_PROBABILITY: f64 = 1e-6;
/// Variance of a column, relative to the square of its mean, below which it is constant: rounding in f32.
const CONSTANT: f64 = 1e-12;

settings! {
    /// Settings of prior-fitted networks.
    pub struct PfnSettings {
        /// Width `d` of a cell.
        width: usize = 64, size(1);
        /// Attention heads; must divide the width.
        heads: usize = 4, size(1);
        /// Layers.
        layers: usize = 4, size(1);
        /// Width of the hidden layer of the feed-forward parts and of `g`.
        hidden: usize = 128, size(1);
        /// Bins `B` of the distribution of a value; regression only.
        bins: usize = 64, size(2);
        /// What the weights of attention along both axes follow from: `softmax` of the scores, or `uniform`
        /// (mean pooling with the same parameters).
        attention: Weighting = Weighting::Softmax;
        /// Whether features and targets are put in units of the support: mean 0 and deviation 1. Without it they
        /// are read as they are, for tables in the units of the prior, whose scale then is information.
        standardise: bool = true;
        /// The most features of a task.
        max_features: usize = 128, size(1);
        /// The most support rows of a task.
        max_rows: usize = 2048, size(1);
        /// The most classes of a task.
        max_classes: usize = 64, size(1);
    }
}

impl LearnerSettings for PfnSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "pfn",
        family: Family::InContext,
        summary: "a transformer over features and rows of a table, fitted to a prior over tables",
        paper: "Müller et al., Transformers can do Bayesian inference, ICLR 2022; \
                Hollmann et al., TabPFN, ICLR 2023 and Nature 2025",
        regression: true,
        any_way: true,
    };

    const READS_MASKS: bool = true;

    const ANY_FEATURES: bool = true;

    /// The cells of a row.
    fn tokens(&self, spec: &TaskSpec) -> usize {
        spec.item.features().saturating_add(1)
    }

    fn check<A: Architecture>(&self, architecture: &A, spec: &TaskSpec) -> Result<()> {
        check_heads("learner.heads", self.heads, "learner.width", self.width)?;
        let (columns, features) = (architecture.width(), spec.item.features());
        if spec.extras.numbers && (columns, architecture.activations()) != (features, features) {
            let expected = "reads which numbers are missing from the columns of the table themselves; \
                            take the encoder `identity`";
            return Err(Error::setting("learner.name", Self::INFO.name, expected));
        }
        let shapes = [spec.train, spec.test];
        let rows = shapes.map(|shape| shape.support_items());
        let ways = shapes.map(|shape| shape.way.0);
        for (key, most, found, what) in [
            ("max_features", self.max_features, columns, "features"),
            (
                "max_rows",
                self.max_rows,
                rows[0].max(rows[1]),
                "support rows",
            ),
            (
                "max_classes",
                self.max_classes,
                ways[0].max(ways[1]),
                "classes",
            ),
        ] {
            if found > most {
                let expected = format!("must be at least {found}, the {what} of a task");
                return Err(Error::setting(format!("learner.{key}"), most, expected));
            }
        }
        Ok(())
    }

    fn gradient_of() -> GradientOf {
        let small = |attention: &str| {
            json!({
                "width": 4, "heads": 2, "layers": 1, "hidden": 3, "bins": 4, "attention": attention
            })
        };
        let mut as_they_are = small("softmax");
        as_they_are["standardise"] = json!(false);
        let settings = vec![small("softmax"), small("uniform"), as_they_are];
        GradientOf::Training("negative log-likelihood", settings)
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"width": 16, "heads": 2, "layers": 2, "hidden": 32}),
            // Nothing compares by design but the head: what it compares has to be learned first.
            iterations: 400,
            maps: 5,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = Pfn {
            predictive: matches!(new.spec.task, Task::Regression { .. })
                .then(|| OutputDistribution::binned(new.spec, self.bins)),
            architecture: new.architecture,
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// The parts of a layer.
#[derive(Module, Debug)]
pub struct PfnLayer<B: Backend> {
    feature_norm: Norm<B>,
    features: MultiHeadAttention<B>,
    row_norm: Norm<B>,
    rows: MultiHeadAttention<B>,
    /// `C`, in classification.
    class_norm: Option<Norm<B>>,
    class: Option<Linear<B>>,
    feed_forward_norm: Norm<B>,
    expand: Linear<B>,
    contract: Linear<B>,
}

/// The encoder, the embeddings of cells, the layers and the heads.
#[derive(Module, Debug)]
pub struct PfnModel<B: Backend, E> {
    encoder: E,
    /// `E`.
    cell: Linear<B>,
    /// `T`.
    target: Linear<B>,
    layers: Vec<PfnLayer<B>>,
    norm: Norm<B>,
    /// `Q` and `K`, in classification.
    query: Option<Linear<B>>,
    key: Option<Linear<B>>,
    /// `g`, in regression.
    decoder: Option<FeedForward<B>>,
}

/// How a prior-fitted network answers.
pub struct Pfn<A> {
    settings: PfnSettings,
    architecture: A,
    /// In regression.
    predictive: Option<OutputDistribution>,
}

/// The sizes of a batch of tables.
#[derive(Clone, Copy)]
struct Size {
    tasks: usize,
    /// Support rows.
    support: usize,
    /// Rows, of the support first.
    rows: usize,
    /// Features and the target.
    columns: usize,
    width: usize,
    heads: usize,
}

/// Mean and deviation of targets, `[t, 1, o]` each.
type Moments<L> = [Tensor<L, 3>; 2];

/// What a batch of tables does not have: support rows, and columns.
struct Hidden<L: Primitives> {
    /// `[t, 1, 1, s]`.
    support: Option<Tensor<L, 4, Bool>>,
    /// `[t·r, 1, 1, c]`: those that say nothing, since all of the support has the same there, or nothing.
    columns: Tensor<L, 4, Bool>,
}

/// 1 where an item is there, `[t, b, 1]`; none where all are.
fn items_there<L: Primitives>(items: &ItemBatch<L>, like: &Tensor<L, 3>) -> Option<Tensor<L, 3>> {
    let mask = items.mask.as_ref()?;
    let [t, b] = mask.items.dims();
    let there = mask.items.clone().float().cast(like.dtype());
    Some(there.reshape([t, b, 1]))
}

/// 1 where a number of an item is there, `[t, b, f]`; none where all are.
fn numbers_there<L: Primitives>(items: &ItemBatch<L>, like: &Tensor<L, 3>) -> Option<Tensor<L, 3>> {
    // Not `expand`: burn-flex 0.21 sums an expanded tensor as if all its numbers were in memory.
    let of_items = items_there(items, like)? * like.ones_like();
    let numbers = items.mask.as_ref().and_then(|mask| mask.numbers.as_ref());
    Some(match numbers {
        Some(numbers) => numbers.clone().float().cast(like.dtype()) * of_items,
        None => of_items,
    })
}

/// Mean and deviation of the columns of the support over what is there, `[t, 1, f]`, and 1 where a column
/// is not constant.
fn statistics<L: Primitives>(
    support: &Tensor<L, 3>,
    there: Option<&Tensor<L, 3>>,
) -> [Tensor<L, 3>; 3] {
    let mean_of = |x: Tensor<L, 3>| match there {
        None => x.mean_dim(1),
        Some(there) => {
            let counts = there.clone().sum_dim(1).clamp_min(1.0);
            (x * there.clone()).sum_dim(1) / counts
        }
    };
    let mean = mean_of(support.clone());
    let centred = support.clone() - mean.clone();
    let variance = mean_of(centred.clone() * centred);
    let least = (mean.clone() * mean.clone())
        .mul_scalar(CONSTANT)
        .add_scalar(1e-30);
    let varies = variance.clone().greater(least).float().cast(mean.dtype());
    // 1 where constant, so that the root has a gradient.
    let deviation = (variance * varies.clone() + varies.clone().neg().add_scalar(1.0)).sqrt();
    [mean, deviation, varies]
}

impl<A: Architecture> Pfn<A> {
    /// What columns are put in units of, `[t, 1, f]` each, and 1 where a column is not constant.
    fn units<L: Primitives>(
        &self,
        support: &Tensor<L, 3>,
        there: Option<&Tensor<L, 3>>,
    ) -> [Tensor<L, 3>; 3] {
        let [mean, deviation, varies] = statistics(support, there);
        if self.settings.standardise {
            return [mean, deviation, varies];
        }
        [mean.zeros_like(), deviation.ones_like(), varies]
    }

    /// The cells of all rows, `[t, r·c, d]`, what is not there of them, and mean and deviation of the
    /// support's targets, `[t, 1, o]`, in regression.
    fn cells<L: Primitives>(
        &self,
        model: &PfnModel<L, A::Model<L>>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> (Tensor<L, 3>, Size, Hidden<L>, Option<Moments<L>>) {
        let (support, query) = embed_together(&model.encoder, tasks, pass);
        let ([t, s, f], [_, q, _]) = (support.dims(), query.dims());
        let (r, c, d) = (s + q, f + 1, self.settings.width);
        let size = Size {
            tasks: t,
            support: s,
            rows: r,
            columns: c,
            width: d,
            heads: self.settings.heads,
        };
        let there = numbers_there(&tasks.support, &support);
        let [mean, deviation, varies] = self.units(&support, there.as_ref());
        let all = Tensor::cat(vec![support.clone(), query.clone()], 1);
        let z = ((all - mean) / deviation * varies.clone()).clamp(-CLIP, CLIP);
        let of_query = numbers_there(&tasks.query, &query);
        let known = match (&there, of_query) {
            (None, None) => None,
            (there, of_query) => {
                let or_ones = |x: Option<Tensor<L, 3>>, like: &Tensor<L, 3>| {
                    x.unwrap_or_else(|| like.ones_like())
                };
                let support = or_ones(there.clone(), &support);
                Some(Tensor::cat(vec![support, or_ones(of_query, &query)], 1))
            }
        };
        let (z, missing) = match known {
            None => (z.clone(), z.zeros_like()),
            Some(known) => (z * known.clone(), known.neg().add_scalar(1.0)),
        };
        let pairs = Tensor::stack::<4>(vec![z, missing], 3).reshape([t, r * f, 2]);
        let features = model.cell.forward(pairs).reshape([t, r, f, d]);
        let (targets, moments) = self.targets(tasks, &support, r);
        let targets = model.target.forward(targets).reshape([t, r, 1, d]);
        let cells = Tensor::cat(vec![features, targets], 2).reshape([t, r * c, d]);
        let absent = |items: &Tensor<L, 2, Bool>| items.clone().bool_not().reshape([t, 1, 1, s]);
        let hidden = Hidden {
            support: tasks.support.mask.as_ref().map(|mask| absent(&mask.items)),
            columns: {
                let of_target = varies.clone().narrow(2, 0, 1).ones_like();
                let columns = Tensor::cat(vec![varies, of_target], 2).equal_elem(0.0);
                columns.expand([t, r, c]).reshape([t * r, 1, 1, c])
            },
        };
        (cells, size, hidden, moments)
    }

    /// What the target column says of each row, `[t, r, o + 1]`: the standardised target, and whether it is
    /// known; and what its mean and deviation are taken to be.
    fn targets<L: Primitives>(
        &self,
        tasks: &TaskBatch<L>,
        support: &Tensor<L, 3>,
        rows: usize,
    ) -> (Tensor<L, 3>, Option<[Tensor<L, 3>; 2]>) {
        let [t, s, _] = support.dims();
        let known = support.clone().narrow(2, 0, 1).ones_like();
        let (values, moments) = match &tasks.support.targets {
            TargetBatch::Classes(_) => (known.zeros_like(), None),
            TargetBatch::Values(values) => {
                let there = items_there(&tasks.support, values);
                let [mean, deviation, varies] = self.units(values, there.as_ref());
                let centred = (values.clone() - mean.clone()) / deviation.clone();
                let z = if self.settings.standardise {
                    centred * varies
                } else {
                    centred
                };
                (z, Some([mean, deviation]))
            }
            TargetBatch::Sequences(_) => unreachable!("sequences are refused"),
        };
        let of_support = Tensor::cat(vec![values, known.clone()], 2);
        let unknown = of_support.clone().narrow(1, 0, 1).zeros_like();
        let width = of_support.dims()[2];
        let of_query = unknown.expand([t, rows - s, width]);
        (Tensor::cat(vec![of_support, of_query], 1), moments)
    }
}

impl<L: Primitives> PfnLayer<L> {
    fn init(
        settings: &PfnSettings,
        classes: bool,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self {
        let (d, hidden) = (settings.width, settings.hidden);
        let norm = || Norm::new(d, Statistics::Layer, "", device);
        let attention = MultiHeadSettings {
            weighting: settings.attention,
            ..MultiHeadSettings::of_width(d, settings.heads)
        };
        let mut attend =
            || MultiHeadAttention::with(attention, initializer, device).expect("checked");
        let (features, rows) = (attend(), attend());
        PfnLayer {
            feature_norm: norm(),
            features,
            row_norm: norm(),
            rows,
            class_norm: classes.then(norm),
            class: classes.then(|| Linear::glorot(d, d, initializer, device)),
            feed_forward_norm: norm(),
            expand: Linear::he(d, hidden, initializer, device),
            contract: Linear::glorot(hidden, d, initializer, device),
        }
    }

    /// Each cell reads its column in the support: `x [t, r·c, d]`, normalised, to the same shape, and the
    /// map `[t, c·heads, r, s]`. Columns are heads to the attention, so that nothing is moved.
    fn read_rows(
        &self,
        x: Tensor<L, 3>,
        size: Size,
        weighting: Weighting,
        hidden: Option<&Tensor<L, 4, Bool>>,
    ) -> (Tensor<L, 3>, Tensor<L, 4>) {
        let Size {
            tasks: t,
            support: s,
            rows: r,
            columns: c,
            width: d,
            heads,
        } = size;
        let support = x.clone().narrow(1, 0, s * c);
        let queries = self.rows.query.forward(x).reshape([t, r, c * d]);
        let keys = self
            .rows
            .key
            .forward(support.clone())
            .reshape([t, s, c * d]);
        let values = self.rows.value.forward(support).reshape([t, s, c * d]);
        let scores = weighting.scores(attention_scores(queries, keys, c * heads, [r, s]));
        let factor = (heads as f64 / d as f64).sqrt();
        let map = softmax_over(scores, hidden.cloned(), factor);
        let read = attention_read(map.clone(), values).reshape([t, r * c, d]);
        (self.rows.output.forward(read), map)
    }

    /// `C ū` of the support, 0 of the queries: `x [t, r·c, d]` to the same shape. `classes [t, s, n]` says
    /// which support rows are of which class.
    fn read_class(
        &self,
        x: &Tensor<L, 3>,
        size: Size,
        classes: &Tensor<L, 3>,
        pass: &Pass<L>,
    ) -> Option<Tensor<L, 3>> {
        let (norm, class) = (self.class_norm.as_ref()?, self.class.as_ref()?);
        let Size {
            tasks: t,
            support: s,
            rows: r,
            columns: c,
            width: d,
            ..
        } = size;
        let n = classes.dims()[2];
        let support = norm
            .forward(x.clone().narrow(1, 0, s * c), s * c, pass)
            .reshape([t, s, c * d]);
        let counts = classes.clone().sum_dim(1).clamp_min(1.0);
        let shares = (classes.clone() / counts).swap_dims(1, 2);
        let means = shares.product(support).reshape([t, n * c, d]);
        let written = class.forward(means).reshape([t, n, c * d]);
        let nothing = classes
            .clone()
            .narrow(1, 0, 1)
            .zeros_like()
            .expand([t, r - s, n]);
        let classes = Tensor::cat(vec![classes.clone(), nothing], 1);
        Some(classes.product(written).reshape([t, r * c, d]))
    }

    fn forward(
        &self,
        x: Tensor<L, 3>,
        size: Size,
        weighting: Weighting,
        hidden: &Hidden<L>,
        classes: Option<&Tensor<L, 3>>,
        (name, pass): (usize, &Pass<L>),
    ) -> Tensor<L, 3> {
        let (rows, cells) = (size.rows, size.rows * size.columns);
        let normalised = self.feature_norm.forward(x.clone(), cells, pass);
        let (read, map) = self.features.attend(
            normalised.clone(),
            normalised,
            rows,
            Some(&hidden.columns),
            pass,
        );
        let part = MapAxis::Part(1, size.columns);
        pass.record(&format!("features {}", name + 1), part.clone(), part, &map);
        let (x, map) = self.after_features(x + read, size, weighting, hidden, classes, pass);
        pass.record(
            &format!("rows {}", name + 1),
            MapAxis::Item,
            MapAxis::Support,
            &map,
        );
        x
    }

    /// The same for the target cells alone, `[t, r, d]`: nobody reads the others after the last layer.
    fn targets(
        &self,
        x: Tensor<L, 3>,
        size: Size,
        weighting: Weighting,
        hidden: &Hidden<L>,
        classes: Option<&Tensor<L, 3>>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let Size {
            tasks: t,
            rows: r,
            columns: c,
            width: d,
            ..
        } = size;
        let of_target = |x: Tensor<L, 3>| {
            let cells = x.reshape([t, r, c, d]).narrow(2, c - 1, 1);
            cells.reshape([t, r, d])
        };
        let normalised = self.feature_norm.forward(x.clone(), r * c, pass);
        let queries = of_target(normalised.clone());
        let columns = Some(&hidden.columns);
        let (read, _) = self.features.attend(queries, normalised, r, columns, pass);
        let (x, alone) = (of_target(x) + read, Size { columns: 1, ..size });
        self.after_features(x, alone, weighting, hidden, classes, pass)
            .0
    }

    /// What follows the attention between features, and the map of the rows.
    fn after_features(
        &self,
        x: Tensor<L, 3>,
        size: Size,
        weighting: Weighting,
        hidden: &Hidden<L>,
        classes: Option<&Tensor<L, 3>>,
        pass: &Pass<L>,
    ) -> (Tensor<L, 3>, Tensor<L, 4>) {
        let cells = size.rows * size.columns;
        let normalised = self.row_norm.forward(x.clone(), cells, pass);
        let (read, map) = self.read_rows(normalised, size, weighting, hidden.support.as_ref());
        let x = x + read;
        let x = match classes.and_then(|classes| self.read_class(&x, size, classes, pass)) {
            Some(read) => x + read,
            None => x,
        };
        let normalised = self.feed_forward_norm.forward(x.clone(), cells, pass);
        let written = self.contract.forward(self.expand.forward_relu(normalised));
        (x + written, map)
    }
}

/// Which support rows are of which class, `[t, s, n]`; 0 for rows that are not there, none in regression.
fn membership<L: Primitives>(tasks: &TaskBatch<L>, like: &Tensor<L, 3>) -> Option<Tensor<L, 3>> {
    let TargetBatch::Classes(labels) = &tasks.support.targets else {
        return None;
    };
    let classes = distance::membership(labels.clone(), tasks.shape.way.0, like);
    Some(match &tasks.support.mask {
        None => classes,
        Some(mask) => {
            let [t, s, _] = classes.dims();
            let there = mask.items.clone().float().cast(classes.dtype());
            classes * there.reshape([t, s, 1])
        }
    })
}

impl<A: Architecture> SinglePass for Pfn<A> {
    type Model<L: Primitives> = PfnModel<L, A::Model<L>>;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let settings = &self.settings;
        let (d, classes) = (settings.width, self.predictive.is_none());
        let encoder = self.architecture.init(initializer, device);
        let cell = Linear::glorot(2, d, initializer, device);
        let outputs = self.predictive.map_or(1, OutputDistribution::outputs);
        let target = Linear::glorot(outputs + 1, d, initializer, device);
        let layers = (0..settings.layers)
            .map(|_| PfnLayer::init(settings, classes, initializer, device))
            .collect();
        let mut of_class = || classes.then(|| Linear::glorot(d, d, initializer, device));
        let (query, key) = (of_class(), of_class());
        let decoder = self.predictive.map(|predictive| {
            FeedForward::new(
                d,
                settings.hidden,
                predictive.width(),
                2,
                initializer,
                device,
            )
        });
        PfnModel {
            encoder,
            cell,
            target,
            layers,
            norm: Norm::new(d, Statistics::Layer, "norm", device),
            query,
            key,
            decoder,
        }
    }

    /// Logarithms of the probabilities of classes, `[t, q, n]`, or masses of bins, mean and deviation of the
    /// support's targets, `[t, q, o (B + 2)]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (cells, size, hidden, moments) = self.cells(model, tasks, pass);
        let classes = membership(tasks, &cells);
        let weighting = self.settings.attention;
        let (last, layers) = model.layers.split_last().expect("a layer");
        let layers = layers.iter().enumerate();
        let cells = layers.fold(cells, |cells, (name, layer)| {
            layer.forward(
                cells,
                size,
                weighting,
                &hidden,
                classes.as_ref(),
                (name, pass),
            )
        });
        if pass.is_recording() {
            // For the maps of the other cells.
            let name = model.layers.len() - 1;
            let seen = cells.clone();
            last.forward(
                seen,
                size,
                weighting,
                &hidden,
                classes.as_ref(),
                (name, pass),
            );
        }
        let read = last.targets(cells, size, weighting, &hidden, classes.as_ref(), pass);
        let Size {
            tasks: t,
            support: s,
            rows: r,
            width: d,
            heads,
            ..
        } = size;
        let read = model.norm.forward(read, r, pass);
        let (support, query) = (read.clone().narrow(1, 0, s), read.narrow(1, s, r - s));
        match (&model.query, &model.key, &model.decoder, classes) {
            (Some(of_query), Some(of_key), _, Some(classes)) => {
                let (queries, keys) = (of_query.forward(query), of_key.forward(support));
                let scores = attention_scores(queries, keys, heads, [r - s, s]);
                let factor = (heads as f64 / d as f64).sqrt();
                let map = softmax_over(scores, hidden.support.clone(), factor);
                pass.record("classes", MapAxis::Query, MapAxis::Support, &map);
                let weights = map.mean_dim(1).reshape([t, r - s, s]);
                let shares = weights.product(classes).add_scalar(LEAST_PROBABILITY);
                tasks.of_classes_there(shares.log())
            }
            (_, _, Some(decoder), _) => {
                let masses = decoder.forward(query);
                let [mean, deviation] = moments.expect("of values");
                let each = |x: Tensor<L, 3>| {
                    let o = x.dims()[2];
                    x.expand([t, r - s, o])
                };
                Tensor::cat(vec![masses, each(mean), each(deviation)], 2)
            }
            _ => unreachable!("either classes or values are decoded"),
        }
    }

    fn predictive(&self) -> Option<OutputDistribution> {
        self.predictive
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, assert_close, refusal, spec, tasks, values};
    use burn::tensor::TensorData;
    use meta_core::{
        backend::Cpu, gradcheck::toy, nn::encoder::EncoderSpec, rng::Seed, settings::Settings,
        task::MaskBatch,
    };

    type B = Cpu;

    fn build(spec: &TaskSpec) -> Box<dyn Learner<B>> {
        build_with(spec, &json!({}))
    }

    fn build_with(spec: &TaskSpec, changes: &serde_json::Value) -> Box<dyn Learner<B>> {
        let mut settings = json!({"width": 8, "heads": 2, "layers": 2, "hidden": 16, "bins": 12});
        for (key, value) in changes.as_object().expect("an object") {
            settings[key] = value.clone();
        }
        let encoder = EncoderSpec::new("identity", &json!({}), spec.item).expect("an encoder");
        crate::build(
            "pfn",
            &settings,
            encoder,
            spec,
            Seed(2),
            &Default::default(),
        )
        .expect("built")
    }

    fn of_values(spec: TaskSpec) -> TaskSpec {
        TaskSpec {
            task: Task::Regression { outputs: 1 },
            ..spec
        }
    }

    /// Tasks of values: a number of each row that follows from its features.
    fn regression() -> (TaskSpec, TaskBatch<B>) {
        let plain = spec(1, 9);
        let mut tasks = tasks(&plain);
        for items in [&mut tasks.support, &mut tasks.query] {
            let x = items.inputs.clone();
            let values = x.clone().narrow(2, 0, 1) * x.clone().narrow(2, 1, 1) + x.narrow(2, 2, 1);
            items.targets = TargetBatch::Values(values.mul_scalar(3.0).add_scalar(20.0));
        }
        (of_values(plain), tasks)
    }

    fn answer(learner: &dyn Learner<B>, tasks: &TaskBatch<B>) -> Vec<f32> {
        values(learner.predict(tasks, PredictAt::LastStep).remove(0))
    }

    /// The target cells alone are those of all cells.
    #[test]
    fn the_last_layer_needs_no_other_cells() {
        let classification = (spec(3, 4), tasks(&spec(3, 4)));
        for (spec, tasks) in [classification, regression()] {
            let settings = json!({"width": 8, "heads": 2, "layers": 1, "hidden": 16, "bins": 12});
            let settings = PfnSettings::from_value("learner", &settings).expect("settings");
            let rule = Pfn {
                predictive: matches!(spec.task, Task::Regression { .. })
                    .then(|| OutputDistribution::binned(&spec, settings.bins)),
                architecture: EncoderSpec::new("identity", &json!({}), spec.item).expect("one"),
                settings,
            };
            let device = Default::default();
            let model = rule.init::<B>(&mut Initializer::seeded(Seed(3)), &device);
            let pass = Pass::evaluation();
            let (cells, size, hidden, _) = rule.cells(&model, &tasks, &pass);
            let classes = membership(&tasks, &cells);
            let (layer, of) = (&model.layers[0], classes.as_ref());
            let [t, _, d] = cells.dims();
            let all = layer.forward(
                cells.clone(),
                size,
                Weighting::Softmax,
                &hidden,
                of,
                (0, &pass),
            );
            let all = all.reshape([t, size.rows, size.columns, d]);
            let expected = values(
                all.narrow(2, size.columns - 1, 1)
                    .reshape([t, size.rows, d]),
            );
            let found = layer.targets(cells, size, Weighting::Softmax, &hidden, of, &pass);
            assert_close(&values(found), &expected, 1e-5);
        }
    }

    /// The order of the features is no information; sums in another order.
    #[test]
    fn features_are_a_set() {
        let classification = (spec(3, 4), tasks(&spec(3, 4)));
        for (spec, tasks) in [classification, regression()] {
            let learner = build(&spec);
            let mut turned = tasks.clone();
            for items in [&mut turned.support, &mut turned.query] {
                let x = items.inputs.clone();
                let order = [3, 0, 5, 1, 4, 2].map(|feature| x.clone().narrow(2, feature, 1));
                items.inputs = Tensor::cat(order.to_vec(), 2);
            }
            let (found, expected) = (
                answer(learner.as_ref(), &turned),
                answer(learner.as_ref(), &tasks),
            );
            assert_close(&found, &expected, 2e-4);
        }
    }

    /// A column in other units, of the inputs and of the target, changes what is said in those units alone.
    #[test]
    fn columns_have_no_units() {
        let (spec, tasks) = regression();
        let learner = build(&spec);
        let mut scaled = tasks.clone();
        for items in [&mut scaled.support, &mut scaled.query] {
            items.inputs = items.inputs.clone().mul_scalar(7.0).sub_scalar(3.0);
            if let TargetBatch::Values(values) = &items.targets {
                items.targets = TargetBatch::Values(values.clone().mul_scalar(0.5).add_scalar(4.0));
            }
        }
        let expected: Vec<f32> = answer(learner.as_ref(), &tasks)
            .iter()
            .map(|y| 0.5 * y + 4.0)
            .collect();
        assert_close(&answer(learner.as_ref(), &scaled), &expected, 2e-4);
        let likelihood = |tasks: &TaskBatch<B>| {
            let found = learner
                .log_likelihood(tasks)
                .expect("a density")
                .into_data();
            found.to_vec::<f32>().expect("numbers")
        };
        // The density of half the target is twice as high.
        let expected: Vec<f32> = likelihood(&tasks)
            .iter()
            .map(|density| density + 2.0f32.ln())
            .collect();
        assert_close(&likelihood(&scaled), &expected, 1e-3);
        let deviations =
            |tasks: &TaskBatch<B>| values(learner.deviations(tasks).expect("a density"));
        let expected: Vec<f32> = deviations(&tasks)
            .iter()
            .map(|deviation| 0.5 * deviation)
            .collect();
        assert_close(&deviations(&scaled), &expected, 2e-4);
    }

    /// Without `standardise`, targets of twice the size are not answered with twice the answers.
    #[test]
    fn the_size_of_numbers_is_read_where_it_is_asked_for() {
        let (spec, tasks) = regression();
        let learner = build_with(&spec, &json!({"standardise": false}));
        let mut scaled = tasks.clone();
        if let TargetBatch::Values(values) = &mut scaled.support.targets {
            *values = values.clone().mul_scalar(2.0);
        }
        let plain = answer(learner.as_ref(), &tasks);
        let found = answer(learner.as_ref(), &scaled);
        let gaps = plain.iter().zip(&found).map(|(a, b)| (2.0 * a - b).abs());
        // Rounding would be a millionth of targets of about 40.
        assert!(gaps.fold(0.0, f32::max) > 0.1);
    }

    /// Columns that are there in no row of the support change nothing, whatever the queries have in them; and
    /// rows that are not there change nothing of a distribution of values.
    #[test]
    fn masks_stand_for_smaller_tables() {
        let classification = (spec(3, 4), tasks(&spec(3, 4)));
        for (spec, tasks) in [classification, regression()] {
            let small = TaskSpec {
                item: toy::vectors(4, spec.train).item,
                ..spec
            };
            let mut narrow = tasks.clone();
            for items in [&mut narrow.support, &mut narrow.query] {
                items.inputs = items.inputs.clone().narrow(2, 0, 4);
            }
            let mut masked = tasks.clone();
            for (of_query, items) in [(false, &mut masked.support), (true, &mut masked.query)] {
                let [t, b, f] = items.inputs.dims();
                let there =
                    (0..t * b * f).map(|place| place % f < 4 || (of_query && place % f == 5));
                let there = TensorData::new(there.collect::<Vec<bool>>(), [t, b, f]);
                let all = TensorData::new(vec![true; t * b], [t, b]);
                items.mask = Some(MaskBatch {
                    items: Tensor::from_data(all, &Default::default()),
                    numbers: Some(Tensor::from_data(there, &Default::default())),
                });
            }
            let learner = build(&small);
            let found = answer(build(&spec).as_ref(), &masked);
            assert_close(&found, &answer(learner.as_ref(), &narrow), 2e-4);
        }
    }

    /// A distribution of values with rows that are not there is that of the others, and so is its density.
    #[test]
    fn absent_rows_have_no_say_in_a_distribution() {
        let (spec, tasks) = regression();
        let learner = build(&spec);
        let [t, s] = tasks.support.dims();
        let mut fewer = tasks.clone();
        fewer.support.inputs = tasks.support.inputs.clone().narrow(1, 0, s - 2);
        let TargetBatch::Values(targets) = &tasks.support.targets else {
            panic!("values");
        };
        fewer.support.targets = TargetBatch::Values(targets.clone().narrow(1, 0, s - 2));
        let mut masked = tasks.clone();
        let there = (0..t * s)
            .map(|place| place % s < s - 2)
            .collect::<Vec<bool>>();
        masked.support.mask = Some(MaskBatch {
            items: Tensor::from_data(TensorData::new(there, [t, s]), &Default::default()),
            numbers: None,
        });
        assert_close(
            &answer(learner.as_ref(), &masked),
            &answer(learner.as_ref(), &fewer),
            2e-4,
        );
        let likelihood = |tasks: &TaskBatch<B>| {
            let found = learner
                .log_likelihood(tasks)
                .expect("a density")
                .into_data();
            found.to_vec::<f32>().expect("numbers")
        };
        assert_close(&likelihood(&masked), &likelihood(&fewer), 2e-4);
    }

    /// A query is answered alone, in both kinds of task.
    #[test]
    fn queries_do_not_see_each_other() {
        let (spec, tasks) = regression();
        let learner = build(&spec);
        let mut first = tasks.clone();
        first.query.inputs = tasks.query.inputs.clone().narrow(1, 0, 1);
        let all = learner.predict(&tasks, PredictAt::LastStep).remove(0);
        assert_close(
            &values(all.narrow(1, 0, 1)),
            &answer(learner.as_ref(), &first),
            1e-5,
        );
    }

    /// A column that is the same in the whole support says nothing, and a single row is a support.
    #[test]
    fn constant_columns_and_single_rows_are_read() {
        let (spec, tasks) = regression();
        let learner = build(&spec);
        let mut single = tasks.clone();
        single.support.inputs = tasks.support.inputs.clone().narrow(1, 0, 1);
        let TargetBatch::Values(targets) = &tasks.support.targets else {
            panic!("values");
        };
        single.support.targets = TargetBatch::Values(targets.clone().narrow(1, 0, 1));
        let found = answer(learner.as_ref(), &single);
        assert!(found.iter().all(|y| y.is_finite()));
        let mut constant = tasks.clone();
        let [t, s, f] = tasks.support.inputs.dims();
        let fixed = tasks
            .support
            .inputs
            .clone()
            .narrow(2, 0, 1)
            .zeros_like()
            .add_scalar(1234.5);
        constant.support.inputs = Tensor::cat(
            vec![fixed, tasks.support.inputs.clone().narrow(2, 1, f - 1)],
            2,
        );
        assert_eq!(constant.support.inputs.dims(), [t, s, f]);
        let mut moved = constant.clone();
        let x = constant.query.inputs.clone();
        let far = x.clone().narrow(2, 0, 1).add_scalar(50.0);
        moved.query.inputs = Tensor::cat(vec![far, x.narrow(2, 1, f - 1)], 2);
        assert_eq!(
            answer(learner.as_ref(), &constant),
            answer(learner.as_ref(), &moved)
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let message = |settings, spec: &TaskSpec| refusal("pfn", settings, spec);
        let plain = spec(3, 2);
        let found = message(json!({"heads": 3}), &plain);
        assert!(found.starts_with("`learner.heads = 3`"), "{found}");
        // The encoder of these tests is 7 wide.
        for (key, most, least) in [
            ("max_features", 6, 7),
            ("max_rows", 5, 6),
            ("max_classes", 2, 3),
        ] {
            let found = message(json!({ key: most }), &plain);
            let expected = format!("`learner.{key} = {most}`: must be at least {least}");
            assert!(found.starts_with(&expected), "{found}");
        }
        let mut missing = plain;
        missing.extras.numbers = true;
        let found = message(json!({}), &missing);
        assert!(found.contains("`identity`"), "{found}");
    }
}
