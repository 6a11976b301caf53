//! Gated recurrent units over the steps of an item.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use serde_json::{Value, json};

use super::{
    Encoder, EncoderInfo, EncoderSettings, Operations, Steps, lstm::LstmSettings, products,
};
use crate::{
    Result,
    data::ItemShape,
    nn::{Pass, dropout::dropout, init::Initializer, norm::Statistics, recurrent::Gru},
    primitives::Primitives,
    settings,
};

settings! {
    /// Settings of [`GruEncoder`]: those of an LSTM.
    pub struct GruSettings {
        ..lstm: LstmSettings;
    }
}

impl EncoderSettings for GruSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "gru",
        input: "sequence",
        summary: "gated recurrent units over rows or features; their last state",
        paper: "Cho et al., Learning phrase representations using RNN encoder-decoder, EMNLP 2014",
    };

    type Encoder<B: Primitives> = GruEncoder<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        Steps::check(Self::INFO.name, item)
    }

    fn width(&self, _item: ItemShape) -> usize {
        self.lstm.hidden
    }

    /// The gates before and after their activations, what the proposal reads, and the state before and
    /// after, at every step.
    fn activations(&self, item: ItemShape) -> usize {
        item.features() + 9 * self.lstm.layers * Steps::of(item).length * self.lstm.hidden
    }

    fn statistics(&self) -> Statistics {
        self.lstm.statistics()
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let steps = Steps::of(item);
        let width = self.lstm.hidden;
        let gates = |inputs: usize| products(&[steps.length, inputs, 3 * width]);
        let recurrent = gates(width);
        Operations {
            first: gates(steps.features),
            rest: recurrent + (self.lstm.layers - 1) as f64 * (gates(width) + recurrent),
        }
    }

    fn widen(&mut self, width: usize) {
        self.lstm.hidden = width;
    }

    fn small() -> Vec<Value> {
        vec![json!({"hidden": 3, "layers": 2})]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> GruEncoder<B> {
        GruEncoder::new(item, self, initializer, device)
    }
}

/// Reads an item step by step; the embedding is the last state of the last layer.
#[derive(Module, Debug)]
pub struct GruEncoder<B: Backend> {
    layers: Vec<Gru<B>>,
    #[module(skip)]
    steps: Steps,
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    padding: bool,
}

impl<B: Backend> GruEncoder<B> {
    pub(super) fn new(
        item: ItemShape,
        GruSettings { lstm: settings }: &GruSettings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        GruEncoder {
            layers: settings
                .inputs(item, settings.hidden)
                .map(|inputs| Gru::new(inputs, settings.hidden, initializer, device))
                .collect(),
            steps: Steps::of(item),
            dropout: settings.dropout,
            padding: settings.padding,
        }
    }
}

impl<B: Primitives> Encoder<B> for GruEncoder<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let reading = self.steps.reading(&x, self.padding);
        let (last, below) = self.layers.split_last().expect("at least one layer");
        let x = below.iter().fold(self.steps.rows(x), |x, layer| {
            dropout(layer.forward(x, &reading), self.dropout, pass)
        });
        last.last(x, &reading)
    }
}
