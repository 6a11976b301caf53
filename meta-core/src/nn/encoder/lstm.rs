//! Long short-term memory over the steps of an item.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use serde::{Deserialize, Serialize};

use super::{Encoder, Steps, at_least_one};
use crate::{
    Result,
    data::ItemShape,
    nn::{
        Pass,
        dropout::dropout,
        init::Initializer,
        norm::Statistics,
        recurrent::{Lstm, split},
    },
    primitives::Primitives,
    settings::in_unit,
};

/// Settings of [`LstmEncoder`] and [`BilstmEncoder`](super::BilstmEncoder).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LstmSettings {
    /// Width of the state in each direction, at least 1. The steps of an item are its rows, or, for a
    /// vector, its features.
    pub hidden: usize,
    /// Layers, one above the other, at least 1.
    pub layers: usize,
    /// Probability with which an output of a layer is dropped in training before the next one, in
    /// [0, 1) (Zaremba et al., 2014).
    pub dropout: f64,
}

impl Default for LstmSettings {
    fn default() -> Self {
        LstmSettings {
            hidden: 64,
            layers: 1,
            dropout: 0.0,
        }
    }
}

impl LstmSettings {
    pub(super) const FAMILY: &str = "sequence";
    pub(super) const SUMMARY: &str = "long short-term memory over rows or features; its last state";
    pub(super) const PAPER: &str = "Hochreiter and Schmidhuber, Neural Computation 1997; forget gate of Gers et al., Neural Computation 2000";

    pub(super) fn check(&self, item: ItemShape) -> Result<()> {
        self.check_for("lstm", item)
    }

    pub(super) fn check_for(&self, encoder: &str, item: ItemShape) -> Result<()> {
        at_least_one("hidden", self.hidden)?;
        at_least_one("layers", self.layers)?;
        in_unit("encoder.dropout", self.dropout)?;
        Steps::check(encoder, item)
    }

    /// Width of what each layer reads, from the first on, where a layer gives `outputs`.
    pub(super) fn inputs(&self, item: ItemShape, outputs: usize) -> impl Iterator<Item = usize> {
        let first = std::iter::once(Steps::of(item).features);
        first.chain(std::iter::repeat(outputs)).take(self.layers)
    }

    pub(super) fn width(&self, _item: ItemShape) -> usize {
        self.hidden
    }

    /// Gates and their shares, the proposal, the state and what is shown of it, at every step.
    pub(super) fn activations(&self, item: ItemShape) -> usize {
        item.features() + 14 * self.layers * Steps::of(item).length * self.hidden
    }

    pub(super) fn statistics(&self) -> Statistics {
        Statistics::None
    }
}

/// What the layers before the last one do with the steps between them.
pub(super) fn dropped<B: Backend>(
    steps: Vec<Tensor<B, 3>>,
    rate: f64,
    pass: &Pass<B>,
) -> Vec<Tensor<B, 3>> {
    let drop = |step: Tensor<B, 3>| {
        let tasks = step.dims()[0];
        dropout(step, rate, tasks, pass)
    };
    steps.into_iter().map(drop).collect()
}

/// Reads an item step by step; the embedding is the last state that the last layer shows.
#[derive(Module, Debug)]
pub struct LstmEncoder<B: Backend> {
    layers: Vec<Lstm<B>>,
    #[module(skip)]
    steps: Steps,
    #[module(skip)]
    dropout: f64,
}

impl<B: Backend> LstmEncoder<B> {
    pub(super) fn new(
        item: ItemShape,
        settings: &LstmSettings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        LstmEncoder {
            layers: settings
                .inputs(item, settings.hidden)
                .map(|inputs| Lstm::new(inputs, settings.hidden, initializer, device))
                .collect(),
            steps: Steps::of(item),
            dropout: settings.dropout,
        }
    }
}

impl<B: Primitives> Encoder<B> for LstmEncoder<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let steps = split(self.steps.rows(x), self.steps.length);
        let (last, below) = self.layers.split_last().expect("at least one layer");
        let steps = below.iter().fold(steps, |steps, layer| {
            let states = layer.forward(&steps).into_iter();
            dropped(
                states.map(|state| state.hidden).collect(),
                self.dropout,
                pass,
            )
        });
        let state = last.forward(&steps).pop().expect("at least one step");
        state.hidden
    }
}
