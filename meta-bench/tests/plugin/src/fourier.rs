//! Sines and cosines of a linear map: an encoder of this crate alone.
//!
//! `φ(x) = [sin(W x + b), cos(W x + b)]`, as Rahimi and Recht, *Random features for large-scale kernel
//! machines*, NIPS 2007, with a `W` that is learned.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use meta_core::{
    data::ItemShape,
    nn::{
        Pass,
        encoder::{Encoder, EncoderInfo, EncoderSettings, Operations},
        init::Initializer,
        linear::Linear,
    },
    primitives::Primitives,
    settings,
};
use serde_json::{Value, json};

settings! {
    /// Settings of [`Fourier`].
    pub struct FourierSettings {
        /// Number of frequencies; an embedding has twice as many numbers.
        frequencies: usize = 32, at_least(1);
    }
}

impl EncoderSettings for FourierSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "fourier",
        input: "vector",
        summary: "sines and cosines of a linear map",
        paper: "Rahimi and Recht, Random features for large-scale kernel machines, NIPS 2007",
    };

    type Encoder<B: Primitives> = Fourier<B>;

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Fourier<B> {
        Fourier {
            map: Linear::glorot(item.features(), self.frequencies, initializer, device),
        }
    }

    fn width(&self, _item: ItemShape) -> usize {
        2 * self.frequencies
    }

    fn activations(&self, item: ItemShape) -> usize {
        item.features() + 3 * self.frequencies
    }

    fn operations(&self, item: ItemShape) -> Operations {
        Operations {
            first: 2.0 * (item.features() * self.frequencies) as f64,
            rest: 0.0,
        }
    }

    fn widen(&mut self, width: usize) {
        self.frequencies = width;
    }

    fn small() -> Vec<Value> {
        vec![json!({"frequencies": 3})]
    }
}

/// `x ↦ [sin(W x + b), cos(W x + b)]`.
#[derive(Module, Debug)]
pub struct Fourier<B: Backend> {
    map: Linear<B>,
}

impl<B: Primitives> Encoder<B> for Fourier<B> {
    fn forward(&self, x: Tensor<B, 3>, _pass: &Pass<B>) -> Tensor<B, 3> {
        let angles = self.map.forward(x);
        Tensor::cat(vec![angles.clone().sin(), angles.cos()], 2)
    }
}
