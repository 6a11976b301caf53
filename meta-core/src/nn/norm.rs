//! Normalisation, with what it averages over said in its settings.
//!
//! Which statistics normalise the query items is the most common silent difference between
//! few-shot results: statistics over the queries themselves make a method transductive.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use serde::{Deserialize, Serialize};

use super::{Pass, init::constant};
use crate::primitives::{
    Activation, Primitives, add_rows, bias_relu, layer_standardize, max_pool2d, scale, scale_add,
    standardize, standardize_pool2d, sum_rows,
};

/// What a normalisation averages over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistics {
    /// Per task and channel, over the items (and positions) of the forward pass. Transductive: the
    /// queries of a task share their statistics.
    Episode,
    /// Per task and channel, over the support items only; reused for the queries.
    Support,
    /// Training as `episode`; evaluation with moving averages over training.
    Running,
    /// No normalisation; a bias per channel.
    None,
    /// Per item, over channels and positions (Ba et al., 2016).
    Layer,
}

impl Statistics {
    /// Whether predictions for one query depend on the other queries.
    pub fn transductive(self) -> bool {
        self == Statistics::Episode
    }
}

/// `ε` of all normalisations.
pub const EPSILON: f64 = 1e-5;

/// Weight of the old value in a moving average of statistics.
pub const MOMENTUM: f64 = 0.9;

/// `y = γ (x − μ) / √(σ² + ε) + β`, `σ²` biased; `μ`, `σ²` as [`Statistics`] says (Ioffe and Szegedy,
/// ICML 2015, algorithm 1; Ba et al., 2016, eq. 3).
#[derive(Module, Debug)]
pub struct Norm<B: Backend> {
    /// `γ`, `[1|t, 1, c]`; absent where nothing is normalised.
    pub gamma: Option<Param<Tensor<B, 3>>>,
    /// `β`, `[1|t, 1, c]`.
    pub beta: Param<Tensor<B, 3>>,
    /// Moving average of `μ`, `[1|t, 1, c]`.
    pub running_mean: Option<Param<Tensor<B, 3>>>,
    /// Moving average of `σ²`, `[1|t, 1, c]`; biased, where PyTorch averages the unbiased one.
    pub running_variance: Option<Param<Tensor<B, 3>>>,
    #[module(skip)]
    statistics: Statistics,
    /// Path of this layer in its network: where its moving averages are reported.
    #[module(skip)]
    path: String,
}

impl<B: Backend> Norm<B> {
    /// `γ = 1`, `β = 0`; `path` is the path of the layer in its network (`encoder.blocks.0.norm`).
    pub fn new(channels: usize, statistics: Statistics, path: &str, device: &B::Device) -> Self {
        let normalises = statistics != Statistics::None;
        let runs = statistics == Statistics::Running;
        let filled = |value: f64| constant(value, [1, 1, channels], device);
        Norm {
            gamma: normalises.then(|| filled(1.0)),
            beta: filled(0.0),
            running_mean: runs.then(|| filled(0.0)),
            running_variance: runs.then(|| filled(1.0)),
            statistics,
            path: path.to_owned(),
        }
    }
}

/// Whether the parameter or buffer at `path` belongs to a normalisation (a [`Norm`]).
pub fn belongs_to_norm(path: &str) -> bool {
    let field = path.rsplit('.').next();
    field.is_some_and(|field| {
        matches!(
            field,
            "gamma" | "beta" | "running_mean" | "running_variance"
        )
    })
}

impl<B: Primitives> Norm<B> {
    /// Normalises `x [t, r, c]`, the rows of `items` items per task one after the other.
    ///
    /// # Panics
    /// When `items` does not divide the rows.
    pub fn forward(&self, x: Tensor<B, 3>, items: usize, pass: &Pass<B>) -> Tensor<B, 3> {
        self.affine(self.normalised(x, items, pass), Activation::Identity)
    }

    /// `max(y, 0)` of the result `y` of [`Norm::forward`].
    ///
    /// # Panics
    /// When `items` does not divide the rows.
    pub fn forward_relu(&self, x: Tensor<B, 3>, items: usize, pass: &Pass<B>) -> Tensor<B, 3> {
        self.affine(self.normalised(x, items, pass), Activation::Relu)
    }

    /// `φ(γ x̂ + β)`.
    fn affine(&self, normalised: Tensor<B, 3>, activation: Activation) -> Tensor<B, 3> {
        let beta = self.beta.val();
        match (&self.gamma, activation) {
            (Some(gamma), _) => scale_add(normalised, gamma.val(), beta, activation),
            (None, Activation::Identity) => add_rows(normalised, beta),
            (None, Activation::Relu) => bias_relu(normalised, beta),
        }
    }

    /// Normalises the images `x [t, b, h, w, c]`, takes the maximum over windows of `size × size` and
    /// cuts off what is negative: `[t, b, h/size, w/size, c]`.
    ///
    /// Shift and ReLU rise, so they come after the maximum, on the smaller map; where the statistics
    /// are those of the images themselves, the normalised map is never made.
    pub fn forward_pool_relu(&self, x: Tensor<B, 5>, size: usize, pass: &Pass<B>) -> Tensor<B, 5> {
        let [t, b, h, w, c] = x.dims();
        let pooled = [t, b, h / size, w / size, c];
        let as_rows = |pooled: Tensor<B, 5>| {
            let [t, b, h, w, c] = pooled.dims();
            pooled.reshape([t, b * h * w, c])
        };
        let output = match &self.gamma {
            Some(gamma) if self.standardizes(b, pass) => {
                self.report(&as_rows(x.clone()), pass);
                let winners = standardize_pool2d(x, gamma.val(), size, EPSILON);
                self.affine(as_rows(winners), Activation::Relu)
            }
            gamma => {
                let normalised = self.normalised(as_rows(x), b, pass);
                let scaled = match gamma {
                    Some(gamma) => scale(normalised, gamma.val()),
                    None => normalised,
                };
                let pooled = max_pool2d(scaled.reshape([t * b, h, w, c]), size).reshape(pooled);
                bias_relu(as_rows(pooled), self.beta.val())
            }
        };
        output.reshape(pooled)
    }

    /// Whether `items` items per task are normalised by their own statistics, channel by channel.
    fn standardizes(&self, items: usize, pass: &Pass<B>) -> bool {
        match self.statistics {
            Statistics::Episode => true,
            Statistics::Support => pass.reference_items.is_none_or(|n| n >= items),
            Statistics::Running => pass.mode.training,
            Statistics::Layer | Statistics::None => false,
        }
    }

    /// `x̂`: all but scale and shift.
    fn normalised(&self, x: Tensor<B, 3>, items: usize, pass: &Pass<B>) -> Tensor<B, 3> {
        let [t, rows, c] = x.dims();
        assert_eq!(rows % items, 0, "norm: {rows} rows of {items} items");
        let positions = rows / items;
        match self.statistics {
            _ if self.standardizes(items, pass) => {
                self.report(&x, pass);
                standardize(x, EPSILON)
            }
            Statistics::None => x,
            Statistics::Layer => {
                let whole = x.reshape([t, items, positions * c]);
                layer_standardize(whole, EPSILON).reshape([t, rows, c])
            }
            Statistics::Support => {
                let reference = pass.reference_items.expect("less than all items");
                let moments = Moments::of(x.clone().narrow(1, 0, reference * positions));
                moments.apply(x)
            }
            Statistics::Running => {
                let average = |param: &Option<Param<Tensor<B, 3>>>| {
                    param.as_ref().expect("kept by running statistics").val()
                };
                Moments {
                    mean: average(&self.running_mean),
                    variance: average(&self.running_variance),
                }
                .apply(x)
            }
            Statistics::Episode => unreachable!("standardises"),
        }
    }

    /// Leaves the moving averages that `x` leads to, means over its tasks, with the pass, where this
    /// layer keeps them.
    fn report(&self, x: &Tensor<B, 3>, pass: &Pass<B>) {
        if self.statistics != Statistics::Running {
            return;
        }
        let moments = Moments::of(x.clone());
        let average = |old: &Option<Param<Tensor<B, 3>>>, new: Tensor<B, 3>| {
            let old = old.as_ref().expect("kept by running statistics").val();
            old.mean_dim(0).mul_scalar(MOMENTUM) + new.mean_dim(0).mul_scalar(1.0 - MOMENTUM)
        };
        let mut statistics = pass.statistics.borrow_mut();
        statistics.push(
            format!("{}.running_mean", self.path),
            average(&self.running_mean, moments.mean),
        );
        statistics.push(
            format!("{}.running_variance", self.path),
            average(&self.running_variance, moments.variance),
        );
    }
}

/// Mean and biased variance per task and channel, `[t, 1, c]`.
struct Moments<B: Backend> {
    mean: Tensor<B, 3>,
    variance: Tensor<B, 3>,
}

impl<B: Primitives> Moments<B> {
    fn of(x: Tensor<B, 3>) -> Self {
        let rows = 1.0 / x.dims()[1] as f64;
        let mean = sum_rows(x.clone()).mul_scalar(rows);
        let centred = add_rows(x, mean.clone().neg());
        let variance = sum_rows(centred.clone() * centred).mul_scalar(rows);
        Moments { mean, variance }
    }

    fn apply(self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let inverse_deviation = self.variance.add_scalar(EPSILON).powf_scalar(-0.5);
        scale(add_rows(x, self.mean.neg()), inverse_deviation)
    }
}
