//! Long short-term memory over the steps of an item, from both ends.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use serde::{Deserialize, Serialize};

use super::{
    Encoder, Steps,
    lstm::{LstmSettings, dropped},
};
use crate::{
    Result,
    data::ItemShape,
    nn::{
        Pass,
        init::Initializer,
        norm::Statistics,
        recurrent::{BiLstm, split},
    },
    primitives::Primitives,
};

/// Settings of [`BilstmEncoder`]: those of one direction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BilstmSettings(pub LstmSettings);

impl BilstmSettings {
    pub(super) const FAMILY: &str = "sequence";
    pub(super) const SUMMARY: &str =
        "long short-term memory over rows or features from both ends; both last states";
    pub(super) const PAPER: &str = "Graves and Schmidhuber, Neural Networks 2005, section 2";

    pub(super) fn check(&self, item: ItemShape) -> Result<()> {
        self.0.check_for("bilstm", item)
    }

    pub(super) fn width(&self, _item: ItemShape) -> usize {
        2 * self.0.hidden
    }

    pub(super) fn activations(&self, item: ItemShape) -> usize {
        2 * self.0.activations(item)
    }

    pub(super) fn statistics(&self) -> Statistics {
        self.0.statistics()
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
}

impl<B: Backend> BilstmEncoder<B> {
    pub(super) fn new(
        item: ItemShape,
        BilstmSettings(settings): &BilstmSettings,
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
        }
    }
}

impl<B: Primitives> Encoder<B> for BilstmEncoder<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let steps = split(self.steps.rows(x), self.steps.length);
        let (last, below) = self.layers.split_last().expect("at least one layer");
        let steps = below.iter().fold(steps, |steps, layer| {
            let states = layer.forward(&steps).into_iter();
            let shown = states.map(|(f, b)| Tensor::cat(vec![f.hidden, b.hidden], 2));
            dropped(shown.collect(), self.dropout, pass)
        });
        let states = last.forward(&steps);
        let (first, last) = (states.first(), states.last());
        let (first, last) = first.zip(last).expect("at least one step");
        Tensor::cat(vec![last.0.hidden.clone(), first.1.hidden.clone()], 2)
    }
}
