//! Encoders: from items `[t, b, f]` to embeddings `[t, b, d]`.
//!
//! An [`Architecture`] is a family of models over backends, so that one learner can hold the same
//! network on several autodiff levels. [`EncoderSpec`] is the architecture that a manifest names: one
//! of the list below, each a file with its settings ([`EncoderSettings`]) and its model.

// Models are few and do not move in hot loops; Burn derives a record enum beside them.
#![allow(clippy::large_enum_variant)]

mod masked;
mod sequence;
pub mod weights;

pub use attention_pooling::{HardChoice, PoolingKind};
pub use masked::{FeatureAttention, FeatureMask, Masked, MaskedEncoder, MaybeMasked};
pub use sequence::{StepPooling, Steps};

use burn::{
    module::{Module, ModuleDisplay},
    tensor::{Tensor, backend::Backend},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Pass, attention::MapAxis, init::Initializer, norm::Statistics};
use crate::{
    Error, Result,
    data::ItemShape,
    primitives::Primitives,
    settings::{Field, Settings},
};

/// A network from items to embeddings on the backend `B`.
pub trait Encoder<B: Primitives>: Module<B> + ModuleDisplay {
    /// `x [t, b, f]` to `[t, b, d]`.
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3>;
}

/// A family of encoders, one per backend.
///
/// Users bring their own: a Burn module with `#[derive(Module)]`, [`Encoder`] for its forward pass,
/// and this trait for its settings; or [`EncoderSettings`], which manifests can name.
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

    /// Height, width and channels of the feature map that an embedding is, flattened row by row; none where it
    /// is no map.
    fn feature_map(&self) -> Option<ItemShape> {
        None
    }

    /// What the normalisations of the network average over.
    fn statistics(&self) -> Statistics;

    /// Numbers that the forward pass of one item leaves for the backward pass, about: memory is
    /// planned with it.
    fn activations(&self) -> usize;

    /// [`Self::activations`] of a network that embeds every item by itself, so that the items of a task may be
    /// embedded in parts; none where a normalisation sees other items.
    fn activations_apart(&self) -> Option<usize> {
        let by_itself = matches!(self.statistics(), Statistics::None | Statistics::Layer);
        by_itself.then(|| self.activations())
    }
}

/// Architectures that a manifest can name: a list of encoders.
pub trait EncoderList: Architecture + std::fmt::Debug {
    /// All encoders of the list.
    fn entries() -> Vec<EncoderEntry>;

    /// The encoder called `name` with `settings` (an object) for items of shape `item`.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a name or key that does not exist, [`Error::Setting`] for a value that
    /// cannot be used.
    fn new(name: &str, settings: &Value, item: ItemShape) -> Result<Self>;

    /// Useful operations of one item's forward pass.
    fn operations(&self) -> Operations;
}

/// What an encoder's file says of itself.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EncoderInfo {
    /// Its name in manifests.
    pub name: &'static str,
    /// What it reads an item as: `vector`, `image`, `sequence`, `set`.
    pub input: &'static str,
    /// One line on what it is.
    pub summary: &'static str,
    /// Source of the architecture.
    pub paper: &'static str,
}

/// An encoder of the list.
#[derive(Clone, Copy)]
pub struct EncoderEntry {
    /// What its file says of it.
    pub info: EncoderInfo,
    /// Its settings with their documentation.
    pub fields: fn() -> Vec<Field>,
    /// Its default settings, as an object.
    pub default_settings: fn() -> Value,
    /// Its default settings at another width.
    pub of_width: fn(usize) -> Value,
    /// Settings with which it is small enough for checks of derivatives.
    pub small: fn() -> Vec<Value>,
}

impl EncoderEntry {
    /// The entry of the encoder with settings `S`.
    pub fn of<S: EncoderSettings>() -> Self {
        EncoderEntry {
            info: S::INFO,
            fields: S::fields,
            default_settings: S::defaults,
            of_width: |width| {
                let mut settings = S::default();
                settings.widen(width);
                settings.to_value()
            },
            small: S::small,
        }
    }
}

/// Useful floating-point operations of one item's forward pass: those of convolutions, linear layers
/// and attention products, a multiply-add counted as two.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Operations {
    /// Of the first layer, whose input needs no gradient.
    pub first: f64,
    /// Of all others.
    pub rest: f64,
}

/// Twice the product: the operations of as many multiply-adds.
fn products(factors: &[usize]) -> f64 {
    2.0 * factors.iter().map(|&factor| factor as f64).product::<f64>()
}

/// Settings of an encoder: how it is described, checked and built.
pub trait EncoderSettings: Settings + std::fmt::Debug {
    /// What the encoder is.
    const INFO: EncoderInfo;

    /// The model on the backend `B`.
    type Encoder<B: Primitives>: Encoder<B>;

    /// Checks the settings against each other and against the items; ranges are checked already.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the key under `encoder.`, its value and what was expected.
    fn check(&self, _item: ItemShape) -> Result<()> {
        Ok(())
    }

    /// A model for items of this shape, with parameters from `initializer`, each `[1, …]` on the task
    /// axis.
    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self::Encoder<B>;

    /// Width `d` of an embedding.
    fn width(&self, item: ItemShape) -> usize;

    /// The feature map that an embedding is, flattened row by row; none where it is no map.
    fn feature_map(&self, _item: ItemShape) -> Option<ItemShape> {
        None
    }

    /// What the normalisations of the network average over.
    fn statistics(&self) -> Statistics {
        Statistics::None
    }

    /// Numbers that the forward pass of one item leaves for the backward pass, about.
    fn activations(&self, item: ItemShape) -> usize;

    /// Useful operations of one item's forward pass.
    fn operations(&self, item: ItemShape) -> Operations;

    /// Sets what the encoder calls its width, for measurements over widths; does nothing where there is no
    /// such setting.
    fn widen(&mut self, _width: usize) {}

    /// Settings with which the encoder is small enough for checks of derivatives, for images of 4×4
    /// pixels; each an object.
    fn small() -> Vec<Value> {
        vec![json!({})]
    }

    /// The encoder for items of shape `item`.
    ///
    /// # Errors
    /// As [`EncoderSettings::check`], and for a setting out of its range.
    fn on(self, item: ItemShape) -> Result<EncoderFor<Self>> {
        self.check_ranges("encoder")?;
        self.check(item)?;
        Ok(EncoderFor {
            settings: self,
            item,
        })
    }
}

/// One encoder for items of one shape: an [`Architecture`] from typed settings, for programs that need no
/// list.
///
/// ```
/// use meta_core::{data::ItemShape, nn::encoder::{Architecture, Conv4Settings, EncoderSettings}};
///
/// let item = ItemShape { height: 28, width: 28, channels: 1 };
/// let conv4 = Conv4Settings { channels: 32, ..Conv4Settings::default() }.on(item)?;
/// assert_eq!(conv4.width(), 32);
/// # Ok::<(), meta_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct EncoderFor<S> {
    settings: S,
    item: ItemShape,
}

impl<S: EncoderSettings> Architecture for EncoderFor<S> {
    type Model<B: Primitives> = S::Encoder<B>;

    fn init<B: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> S::Encoder<B> {
        self.settings.build(self.item, initializer, device)
    }

    fn width(&self) -> usize {
        self.settings.width(self.item)
    }

    fn feature_map(&self) -> Option<ItemShape> {
        self.settings.feature_map(self.item)
    }

    fn statistics(&self) -> Statistics {
        self.settings.statistics()
    }

    fn activations(&self) -> usize {
        self.settings.activations(self.item)
    }
}

/// Declares a list of encoders, each by its variant, its module, its settings and its model: the modules,
/// the enum of settings, which is an [`Architecture`]
/// and an [`EncoderList`], and the enum of models. A list may stand on another one, whose encoders it
/// then has too (`: EncoderSpec, AnyEncoder`).
///
/// The crate that uses it depends on `burn`.
#[macro_export]
macro_rules! encoders {
    (
        $(#[$about:meta])*
        pub enum $list:ident, $model_list:ident $(: $base:ident, $base_model:ident)? {
            $($variant:ident = $module:ident::{$settings:ident, $model:ident}),+ $(,)?
        }
    ) => {
        $(
            mod $module;
            pub use $module::{$model, $settings};
        )+

        $(#[$about])*
        #[derive(Clone, Debug)]
        pub enum $list {
            $(
                #[doc = concat!("`", stringify!($variant), "`: items of this shape with these settings.")]
                $variant($crate::data::ItemShape, $settings),
            )+
            $(
                /// An encoder of the list that this one stands on.
                BuiltIn($base),
            )?
        }

        #[doc = concat!("A model of [`", stringify!($list), "`].")]
        #[derive(burn::module::Module, Debug)]
        #[allow(clippy::large_enum_variant)]
        pub enum $model_list<B: burn::tensor::backend::Backend> {
            $(
                #[doc = concat!("`", stringify!($variant), "`.")]
                $variant($model<B>),
            )+
            $(
                /// An encoder of the list that this one stands on.
                BuiltIn($base_model<B>),
            )?
        }

        impl $list {
            /// The encoder called `name` with `settings` (an object) for items of shape `item`.
            ///
            /// # Errors
            /// For a name or key that does not exist, or a value that cannot be used.
            pub fn new(
                name: &str,
                settings: &$crate::settings::Value,
                item: $crate::data::ItemShape,
            ) -> $crate::Result<Self> {
                <Self as $crate::nn::encoder::EncoderList>::new(name, settings, item)
            }
        }

        impl $crate::nn::encoder::EncoderList for $list {
            fn entries() -> Vec<$crate::nn::encoder::EncoderEntry> {
                #[allow(unused_mut)]
                let mut entries = Vec::new();
                $(entries.extend(<$base as $crate::nn::encoder::EncoderList>::entries());)?
                entries.extend([$($crate::nn::encoder::EncoderEntry::of::<$settings>()),+]);
                entries
            }

            fn new(
                name: &str,
                settings: &$crate::settings::Value,
                item: $crate::data::ItemShape,
            ) -> $crate::Result<Self> {
                $(if name == <$settings as $crate::nn::encoder::EncoderSettings>::INFO.name {
                    let settings =
                        <$settings as $crate::settings::Settings>::from_value("encoder", settings)?;
                    $crate::nn::encoder::EncoderSettings::check(&settings, item)?;
                    return Ok($list::$variant(item, settings));
                })+
                $(
                    let built_in = <$base as $crate::nn::encoder::EncoderList>::entries();
                    if built_in.iter().any(|entry| entry.info.name == name) {
                        return Ok($list::BuiltIn(
                            <$base as $crate::nn::encoder::EncoderList>::new(name, settings, item)?,
                        ));
                    }
                )?
                let entries = <Self as $crate::nn::encoder::EncoderList>::entries();
                let known = entries.iter().map(|entry| entry.info.name);
                Err($crate::Error::unknown("encoder", name, known))
            }

            fn operations(&self) -> $crate::nn::encoder::Operations {
                match self {
                    $($list::$variant(item, settings) => {
                        $crate::nn::encoder::EncoderSettings::operations(settings, *item)
                    })+
                    $($list::BuiltIn(built_in) => {
                        <$base as $crate::nn::encoder::EncoderList>::operations(built_in)
                    })?
                }
            }
        }

        impl<B: $crate::primitives::Primitives> $crate::nn::encoder::Encoder<B> for $model_list<B> {
            fn forward(
                &self,
                x: burn::tensor::Tensor<B, 3>,
                pass: &$crate::nn::Pass<B>,
            ) -> burn::tensor::Tensor<B, 3> {
                match self {
                    $($model_list::$variant(model) => {
                        $crate::nn::encoder::Encoder::forward(model, x, pass)
                    })+
                    $($model_list::BuiltIn(model) => {
                        <$base_model<B> as $crate::nn::encoder::Encoder<B>>::forward(model, x, pass)
                    })?
                }
            }
        }

        impl $crate::nn::encoder::Architecture for $list {
            type Model<B: $crate::primitives::Primitives> = $model_list<B>;

            fn init<B: $crate::primitives::Primitives>(
                &self,
                initializer: &mut $crate::nn::init::Initializer,
                device: &B::Device,
            ) -> $model_list<B> {
                match self {
                    $($list::$variant(item, settings) => $model_list::$variant(
                        $crate::nn::encoder::EncoderSettings::build(
                            settings,
                            *item,
                            initializer,
                            device,
                        ),
                    ),)+
                    $($list::BuiltIn(built_in) => $model_list::BuiltIn(
                        <$base as $crate::nn::encoder::Architecture>::init(
                            built_in,
                            initializer,
                            device,
                        ),
                    ),)?
                }
            }

            fn width(&self) -> usize {
                match self {
                    $($list::$variant(item, settings) => {
                        $crate::nn::encoder::EncoderSettings::width(settings, *item)
                    })+
                    $($list::BuiltIn(built_in) => {
                        <$base as $crate::nn::encoder::Architecture>::width(built_in)
                    })?
                }
            }

            fn feature_map(&self) -> Option<$crate::data::ItemShape> {
                match self {
                    $($list::$variant(item, settings) => {
                        $crate::nn::encoder::EncoderSettings::feature_map(settings, *item)
                    })+
                    $($list::BuiltIn(built_in) => {
                        <$base as $crate::nn::encoder::Architecture>::feature_map(built_in)
                    })?
                }
            }

            fn statistics(&self) -> $crate::nn::norm::Statistics {
                match self {
                    $($list::$variant(_, settings) => {
                        $crate::nn::encoder::EncoderSettings::statistics(settings)
                    })+
                    $($list::BuiltIn(built_in) => {
                        <$base as $crate::nn::encoder::Architecture>::statistics(built_in)
                    })?
                }
            }

            fn activations(&self) -> usize {
                match self {
                    $($list::$variant(item, settings) => {
                        $crate::nn::encoder::EncoderSettings::activations(settings, *item)
                    })+
                    $($list::BuiltIn(built_in) => {
                        <$base as $crate::nn::encoder::Architecture>::activations(built_in)
                    })?
                }
            }
        }
    };
}

encoders! {
    /// The architecture that a manifest names, with its settings.
    pub enum EncoderSpec, AnyEncoder {
        Mlp = mlp::{MlpSettings, Mlp},
        Conv4 = conv4::{Conv4Settings, Conv4},
        Conv4Attention = conv4_attention::{Conv4AttentionSettings, Conv4Attention},
        Resnet12 = resnet12::{Resnet12Settings, ResNet12},
        Attention = attention::{AttentionSettings, AttentionEncoder},
        Transformer = transformer::{TransformerSettings, Transformer},
        SetTransformer = set_transformer::{SetTransformerSettings, SetTransformer},
        Lstm = lstm::{LstmSettings, LstmEncoder},
        Bilstm = bilstm::{BilstmSettings, BilstmEncoder},
        Gru = gru::{GruSettings, GruEncoder},
        StridedConv = strided_conv::{StridedConvSettings, StridedConv},
        RelationConv = relation_conv::{RelationConvSettings, RelationConv},
        Bag = bag::{BagSettings, Bag},
        TextCnn = text_cnn::{TextCnnSettings, TextCnn},
        Conv1d = conv1d::{Conv1dSettings, Conv1d},
        Tcn = tcn::{TcnSettings, Tcn},
        AttentionPooling = attention_pooling::{AttentionPoolingSettings, AttentionPooling},
        Identity = identity::{IdentitySettings, Identity},
    }
}

/// Leaves the maps of transformer blocks, in which the parts of an item attend to each other.
fn record_blocks<B: Backend>(maps: &[Tensor<B, 4>], parts: &MapAxis, pass: &Pass<B>) {
    for (block, map) in maps.iter().enumerate() {
        let name = format!("encoder.block {}", block + 1);
        pass.record(&name, parts.clone(), parts.clone(), map);
    }
}

/// Checks that an image has at least one position left when it is halved `times` times, which the setting
/// `key` says by its `value`.
fn check_halvings(key: &str, value: &Value, times: usize, item: ItemShape) -> Result<()> {
    let times_bits = u32::try_from(times).unwrap_or(u32::MAX);
    let shrink = 1usize.checked_shl(times_bits).unwrap_or(usize::MAX);
    if item.height / shrink >= 1 && item.width / shrink >= 1 {
        Ok(())
    } else {
        Err(Error::setting(
            format!("encoder.{key}"),
            value,
            format!(
                "the image is halved {times} times, and {}×{} is too small",
                item.height, item.width
            ),
        ))
    }
}
