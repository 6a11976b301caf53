//! Long short-term memory over the steps of an item, from both ends.

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
    nn::{Pass, dropout::dropout, init::Initializer, norm::Statistics, recurrent::BiLstm},
    primitives::Primitives,
    settings,
};

settings! {
    /// Settings of [`BilstmEncoder`]: those of one direction.
    pub struct BilstmSettings {
        ..lstm: LstmSettings;
    }
}

impl EncoderSettings for BilstmSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "bilstm",
        input: "sequence",
        summary: "long short-term memory over rows or features from both ends; both last states",
        paper: "Graves and Schmidhuber, Neural Networks 2005, section 2",
    };

    type Encoder<B: Primitives> = BilstmEncoder<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        Steps::check(Self::INFO.name, item)
    }

    fn width(&self, _item: ItemShape) -> usize {
        2 * self.lstm.hidden
    }

    fn activations(&self, item: ItemShape) -> usize {
        2 * self.lstm.activations(item)
    }

    fn statistics(&self) -> Statistics {
        self.lstm.statistics()
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let steps = Steps::of(item);
        let gates = |inputs: usize| 2.0 * products(&[steps.length, inputs, 4 * self.lstm.hidden]);
        let recurrent = gates(self.lstm.hidden);
        let later = gates(2 * self.lstm.hidden) + recurrent;
        Operations {
            first: gates(steps.features),
            rest: recurrent + (self.lstm.layers - 1) as f64 * later,
        }
    }

    fn widen(&mut self, width: usize) {
        self.lstm.hidden = width;
    }

    fn small() -> Vec<Value> {
        vec![json!({"hidden": 2})]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> BilstmEncoder<B> {
        BilstmEncoder::new(item, self, initializer, device)
    }
}

/// Reads an item from both ends; the embedding is what each direction of the last layer shows when it
/// has read everything.
#[derive(Module, Debug)]
pub struct BilstmEncoder<B: Backend> {
    layers: Vec<BiLstm<B>>,
    #[module(skip)]
    steps: Steps,
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    padding: bool,
}

impl<B: Backend> BilstmEncoder<B> {
    pub(super) fn new(
        item: ItemShape,
        BilstmSettings { lstm: settings }: &BilstmSettings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let width = settings.hidden;
        BilstmEncoder {
            layers: settings
                .inputs(item, 2 * width)
                .map(|inputs| BiLstm::new(inputs, width, initializer, device))
                .collect(),
            steps: Steps::of(item),
            dropout: settings.dropout,
            padding: settings.padding,
        }
    }
}

impl<B: Primitives> Encoder<B> for BilstmEncoder<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let reading = self.steps.reading(&x, self.padding);
        let (last, below) = self.layers.split_last().expect("at least one layer");
        let x = below.iter().fold(self.steps.rows(x), |x, layer| {
            let (forwards, backwards) = layer.forward(x, &reading);
            let both = Tensor::cat(vec![forwards, backwards], 2);
            dropout(both, self.dropout, pass)
        });
        last.last(x, &reading)
    }
}
