//! Encoders: from items `[t, b, f]` to embeddings `[t, b, d]`.
//!
//! An [`Architecture`] is a family of models over backends, so that one learner can hold the same
//! network on several autodiff levels. [`EncoderSpec`] is the architecture that a manifest names.

// Models are few and do not move in hot loops; Burn derives a record enum beside them.
#![allow(clippy::large_enum_variant)]

mod attention;
mod bilstm;
mod conv4;
mod conv4_attention;
mod lstm;
mod masked;
mod mlp;
mod resnet12;
mod sequence;
mod set_transformer;
mod transformer;

pub use attention::{AttentionEncoder, AttentionSettings};
pub use bilstm::{BilstmEncoder, BilstmSettings};
pub use conv4::{Conv4, Conv4Settings};
pub use conv4_attention::{Conv4Attention, Conv4AttentionSettings};
pub use lstm::{LstmEncoder, LstmSettings};
pub use masked::{FeatureAttention, FeatureMask, Masked, MaskedEncoder};
pub use mlp::{Mlp, MlpSettings};
pub use resnet12::{ResNet12, Resnet12Settings};
pub use sequence::Steps;
pub use set_transformer::{SetTransformer, SetTransformerSettings};
pub use transformer::{Transformer, TransformerSettings};

use burn::{
    module::{Module, ModuleDisplay},
    tensor::{Tensor, backend::Backend},
};
use serde_json::Value;

use super::{Axis, Pass, init::Initializer, norm::Statistics};
use crate::{Error, Result, data::ItemShape, primitives::Primitives, settings::Settings};

/// A network from items to embeddings on the backend `B`.
pub trait Encoder<B: Primitives>: Module<B> + ModuleDisplay {
    /// `x [t, b, f]` to `[t, b, d]`.
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3>;
}

/// A family of encoders, one per backend.
///
/// Users bring their own: a Burn module with `#[derive(Module)]`, [`Encoder`] for its forward pass,
/// and this trait for its settings.
pub trait Architecture: Clone + Send + Sync + 'static {
    /// The model on the backend `B`.
    type Model<B: Primitives>: Encoder<B>;

    /// A model with parameters from `initializer`, each `[1, …]` on the task axis.
    fn init<B: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self::Model<B>;

    /// Width `d` of an embedding.
    fn width(&self) -> usize;

    /// What the normalisations of the network average over.
    fn statistics(&self) -> Statistics;

    /// Numbers that the forward pass of one item leaves for the backward pass, about: memory is
    /// planned with it.
    fn activations(&self) -> usize;
}

/// What an encoder's file says of itself.
#[derive(Clone, Copy)]
pub struct EncoderInfo {
    /// Its name in manifests.
    pub name: &'static str,
    /// What it reads an item as: `vector`, `image`, `sequence`, `set`.
    pub family: &'static str,
    /// One line on what it is.
    pub summary: &'static str,
    /// Source of the architecture.
    pub paper: &'static str,
    /// Its default settings, as an object.
    pub default_settings: fn() -> Value,
}

/// Writes the list of encoders, the enum of their settings and the enum of their models.
macro_rules! encoders {
    ($($name:literal => $variant:ident($settings:ty, $model:ident)),+ $(,)?) => {
        /// All encoders that a manifest can name.
        pub fn encoders() -> &'static [EncoderInfo] {
            &[$(EncoderInfo {
                name: $name,
                family: <$settings>::FAMILY,
                summary: <$settings>::SUMMARY,
                paper: <$settings>::PAPER,
                default_settings: <$settings as Settings>::defaults,
            }),+]
        }

        /// The architecture that a manifest names, with its settings.
        #[derive(Clone, Debug)]
        pub enum EncoderSpec {
            $(
                #[doc = concat!("`", $name, "`: items of this shape with these settings.")]
                $variant(ItemShape, $settings),
            )+
        }

        /// A model of [`EncoderSpec`].
        #[derive(Module, Debug)]
        pub enum AnyEncoder<B: Backend> {
            $(
                #[doc = concat!("`", $name, "`.")]
                $variant($model<B>),
            )+
        }

        impl EncoderSpec {
            /// The encoder called `name` with `settings` (an object) for items of shape `item`.
            ///
            /// # Errors
            /// [`Error::Unknown`] for a name or key that does not exist, [`Error::Setting`] for a
            /// value that cannot be used.
            pub fn new(name: &str, settings: &Value, item: ItemShape) -> Result<Self> {
                match name {
                    $($name => {
                        let settings = <$settings>::from_value("encoder", settings)?;
                        settings.check(item)?;
                        Ok(EncoderSpec::$variant(item, settings))
                    })+
                    _ => Err(Error::unknown(
                        "encoder",
                        name,
                        encoders().iter().map(|info| info.name),
                    )),
                }
            }
        }

        impl<B: Primitives> Encoder<B> for AnyEncoder<B> {
            fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
                match self {
                    $(AnyEncoder::$variant(model) => model.forward(x, pass)),+
                }
            }
        }

        impl Architecture for EncoderSpec {
            type Model<B: Primitives> = AnyEncoder<B>;

            fn init<B: Primitives>(
                &self,
                initializer: &mut Initializer,
                device: &B::Device,
            ) -> AnyEncoder<B> {
                match self {
                    $(EncoderSpec::$variant(item, settings) => {
                        AnyEncoder::$variant($model::new(*item, settings, initializer, device))
                    }),+
                }
            }

            fn width(&self) -> usize {
                match self {
                    $(EncoderSpec::$variant(item, settings) => settings.width(*item)),+
                }
            }

            fn statistics(&self) -> Statistics {
                match self {
                    $(EncoderSpec::$variant(_, settings) => settings.statistics()),+
                }
            }

            fn activations(&self) -> usize {
                match self {
                    $(EncoderSpec::$variant(item, settings) => settings.activations(*item)),+
                }
            }
        }
    };
}

encoders! {
    "mlp" => Mlp(MlpSettings, Mlp),
    "conv4" => Conv4(Conv4Settings, Conv4),
    "conv4_attention" => Conv4Attention(Conv4AttentionSettings, Conv4Attention),
    "resnet12" => Resnet12(Resnet12Settings, ResNet12),
    "attention" => Attention(AttentionSettings, AttentionEncoder),
    "transformer" => Transformer(TransformerSettings, Transformer),
    "set_transformer" => SetTransformer(SetTransformerSettings, SetTransformer),
    "lstm" => Lstm(LstmSettings, LstmEncoder),
    "bilstm" => Bilstm(BilstmSettings, BilstmEncoder),
}

/// Leaves the maps of transformer blocks, in which the parts of an item attend to each other.
fn record_blocks<B: Backend>(maps: &[Tensor<B, 4>], parts: &Axis, pass: &Pass<B>) {
    for (block, map) in maps.iter().enumerate() {
        let name = format!("encoder.block {}", block + 1);
        pass.record(&name, parts.clone(), parts.clone(), map);
    }
}

fn at_least_one(key: &str, value: usize) -> Result<()> {
    match value {
        0 => Err(Error::setting(
            format!("encoder.{key}"),
            value,
            "must be at least 1",
        )),
        _ => Ok(()),
    }
}

/// Checks that an image has at least one position left when it is halved `times` times.
fn check_halvings(key: &str, times: usize, item: ItemShape) -> Result<()> {
    let times_bits = u32::try_from(times).unwrap_or(u32::MAX);
    let shrink = 1usize.checked_shl(times_bits).unwrap_or(usize::MAX);
    match item.height / shrink >= 1 && item.width / shrink >= 1 {
        true => Ok(()),
        false => Err(Error::setting(
            format!("encoder.{key}"),
            times,
            format!(
                "each block halves the image, and {}×{} is too small",
                item.height, item.width
            ),
        )),
    }
}
