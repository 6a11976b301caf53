//! Fully connected encoder.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use serde_json::{Value, json};

use super::{Encoder, EncoderInfo, EncoderSettings, Operations, products};
use crate::{
    Error, Result,
    data::ItemShape,
    nn::{
        Pass,
        init::Initializer,
        linear::Linear,
        norm::{Norm, Statistics},
    },
    primitives::Primitives,
    settings,
};

settings! {
    /// Settings of [`Mlp`]; the defaults are the sinusoid network of MAML (Finn et al., ICML 2017, 5.1).
    pub struct MlpSettings {
        /// Widths of the hidden layers, each at least 1; the last one is the width of the
        /// embedding.
        hidden: Vec<usize> = vec![40, 40], size(1);
        /// What each hidden layer is normalised over: `none`, `layer`, `episode`, `support`,
        /// `running`.
        norm: Statistics = Statistics::None;
    }
}

impl EncoderSettings for MlpSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "mlp",
        input: "vector",
        summary: "fully connected layers with ReLU",
        paper: "Finn et al., ICML 2017, section 5.1",
    };

    type Encoder<B: Primitives> = Mlp<B>;

    fn check(&self, _item: ItemShape) -> Result<()> {
        if self.hidden.is_empty() {
            return Err(Error::setting(
                "encoder.hidden",
                "[]",
                "needs at least one layer",
            ));
        }
        Ok(())
    }

    fn width(&self, _item: ItemShape) -> usize {
        *self.hidden.last().expect("checked: at least one layer")
    }

    /// Linear and ReLU of every layer.
    fn activations(&self, item: ItemShape) -> usize {
        item.features() + 2 * self.hidden.iter().sum::<usize>()
    }

    fn statistics(&self) -> Statistics {
        self.norm
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let first = products(&[item.features(), self.hidden[0]]);
        Operations {
            first,
            rest: self.hidden.windows(2).map(products).sum(),
        }
    }

    fn widen(&mut self, width: usize) {
        self.hidden.fill(width);
    }

    fn small() -> Vec<Value> {
        vec![json!({"hidden": [5, 4]})]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Mlp<B> {
        Mlp::new(item, self, initializer, device)
    }
}

/// `x ↦ relu(norm(W x))`, layer after layer; where nothing is normalised, `relu(W x + b)`.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    layers: Vec<Linear<B>>,
    norms: Vec<Norm<B>>,
    #[module(skip)]
    normalises: bool,
}

impl<B: Backend> Mlp<B> {
    pub(super) fn new(
        item: ItemShape,
        settings: &MlpSettings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let inputs = std::iter::once(item.features()).chain(settings.hidden.iter().copied());
        let normalises = settings.norm != Statistics::None;
        let layers = inputs
            .zip(&settings.hidden)
            .map(|(input, &output)| Linear::glorot(input, output, initializer, device))
            .collect();
        let norms = settings
            .hidden
            .iter()
            .enumerate()
            .filter(|_| normalises)
            .map(|(layer, &width)| {
                Norm::new(width, settings.norm, &format!("norms.{layer}"), device)
            })
            .collect();
        Mlp {
            layers,
            norms,
            normalises,
        }
    }
}

impl<B: Primitives> Encoder<B> for Mlp<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let items = x.dims()[1];
        let mut hidden = x;
        for (layer, linear) in self.layers.iter().enumerate() {
            hidden = if self.normalises {
                self.norms[layer].forward_relu(linear.forward(hidden), items, pass)
            } else {
                linear.forward_relu(hidden)
            };
        }
        hidden
    }
}
