//! No encoder: items are embeddings already.

use std::marker::PhantomData;

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use super::{Encoder, EncoderInfo, EncoderSettings, Operations};
use crate::{
    data::ItemShape,
    nn::{Pass, init::Initializer},
    primitives::Primitives,
    settings,
};

settings! {
    /// Settings of [`Identity`]: there are none.
    pub struct IdentitySettings {}
}

impl EncoderSettings for IdentitySettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "identity",
        input: "vector",
        summary: "none: an item is its embedding, for features of a frozen network",
        paper: "–",
    };

    type Encoder<B: Primitives> = Identity<B>;

    fn width(&self, item: ItemShape) -> usize {
        item.features()
    }

    fn activations(&self, item: ItemShape) -> usize {
        item.features()
    }

    fn operations(&self, _item: ItemShape) -> Operations {
        Operations::default()
    }

    fn build<B: Primitives>(
        &self,
        _item: ItemShape,
        _initializer: &mut Initializer,
        _device: &B::Device,
    ) -> Identity<B> {
        Identity {
            backend: PhantomData,
        }
    }
}

/// `x ↦ x`, without parameters.
#[derive(Module, Debug)]
pub struct Identity<B: Backend> {
    backend: PhantomData<B>,
}

impl<B: Primitives> Encoder<B> for Identity<B> {
    fn forward(&self, x: Tensor<B, 3>, _pass: &Pass<B>) -> Tensor<B, 3> {
        x
    }
}
