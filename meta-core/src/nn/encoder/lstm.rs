//! Long short-term memory over the steps of an item.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use serde_json::{Value, json};

use super::{Encoder, EncoderInfo, EncoderSettings, Operations, Steps, products};
use crate::{
    Result,
    data::ItemShape,
    nn::{Pass, dropout::dropout, init::Initializer, norm::Statistics, recurrent::Lstm},
    primitives::Primitives,
    settings,
};

settings! {
    /// Settings of [`LstmEncoder`], [`BilstmEncoder`](super::BilstmEncoder) and
    /// [`GruEncoder`](super::GruEncoder).
    pub struct LstmSettings {
        /// Width of the state in each direction. The steps of an item are its rows, or, for a
        /// vector, its features.
        hidden: usize = 64, size(1);
        /// Layers, one above the other.
        layers: usize = 1, size(1);
        /// Probability with which an output of a layer is dropped in training before the next one
        /// (Zaremba et al., 2014).
        dropout: f64 = 0.0, below_one();
        /// Whether rows of zeros are padding, and not read: for items of unequal lengths, such as texts and
        /// series.
        #[added("0.2")]
        padding: bool = false;
    }
}

impl LstmSettings {
    /// Width of what each layer reads, from the first on, where a layer gives `outputs`.
    pub(super) fn inputs(&self, item: ItemShape, outputs: usize) -> impl Iterator<Item = usize> {
        let first = std::iter::once(Steps::of(item).features);
        first.chain(std::iter::repeat(outputs)).take(self.layers)
    }
}

impl EncoderSettings for LstmSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "lstm",
        input: "sequence",
        summary: "long short-term memory over rows or features; its last state",
        paper: "Hochreiter and Schmidhuber, Neural Computation 1997; forget gate of Gers et al., Neural Computation 2000",
    };

    type Encoder<B: Primitives> = LstmEncoder<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        Steps::check(Self::INFO.name, item)
    }

    fn width(&self, _item: ItemShape) -> usize {
        self.hidden
    }

    /// The gates before and after their activations, the cell and what is shown of it, at every step.
    fn activations(&self, item: ItemShape) -> usize {
        item.features() + 10 * self.layers * Steps::of(item).length * self.hidden
    }

    fn statistics(&self) -> Statistics {
        Statistics::None
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let steps = Steps::of(item);
        let gates = |inputs: usize| products(&[steps.length, inputs, 4 * self.hidden]);
        let recurrent = gates(self.hidden);
        Operations {
            first: gates(steps.features),
            rest: recurrent + (self.layers - 1) as f64 * (gates(self.hidden) + recurrent),
        }
    }

    fn widen(&mut self, width: usize) {
        self.hidden = width;
    }

    fn small() -> Vec<Value> {
        vec![json!({"hidden": 3, "layers": 2, "dropout": 0.3})]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> LstmEncoder<B> {
        LstmEncoder::new(item, self, initializer, device)
    }
}

/// Reads an item step by step; the embedding is the last state that the last layer shows.
#[derive(Module, Debug)]
pub struct LstmEncoder<B: Backend> {
    layers: Vec<Lstm<B>>,
    #[module(skip)]
    steps: Steps,
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    padding: bool,
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
            padding: settings.padding,
        }
    }
}

impl<B: Primitives> Encoder<B> for LstmEncoder<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let reading = self.steps.reading(&x, self.padding);
        let (last, below) = self.layers.split_last().expect("at least one layer");
        let x = below.iter().fold(self.steps.rows(x), |x, layer| {
            dropout(layer.forward(x, &reading), self.dropout, pass)
        });
        last.last(x, &reading)
    }
}
