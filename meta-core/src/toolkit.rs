//! A toolkit: the learners, encoders, sources and optimisers that manifests can name.
//!
//! The binary is generic over one. A crate of your own brings more of each with [`toolkit!`](crate::toolkit!)
//! and gets the whole binary: manifests, sweeps, `list`, `check`, `gradcheck`, `equivalence` and the
//! reference see them, and so does the conformance suite.

use serde_json::Value;

use crate::{
    Error, Result,
    data::{SourceEntry, sources},
    learner::{LearnerEntry, LearnerList},
    nn::encoder::{EncoderEntry, EncoderList},
    optim::{Optimizer, OptimizerEntry, optimizers},
    primitives::Primitives,
    rl,
    settings::Settings,
    train::TrainSettings,
};

/// What manifests can name.
pub trait Toolkit: Clone + Send + Sync + 'static {
    /// The learners.
    type Learners: LearnerList;

    /// The encoders.
    type Encoders: EncoderList;

    /// The data sources, in the order of help.
    fn sources() -> Vec<SourceEntry> {
        let mut entries = sources();
        entries.extend(rl::sources());
        entries
    }

    /// The optimisers of the outer loop.
    fn optimizers() -> Vec<OptimizerEntry> {
        optimizers()
    }

    /// The outer optimiser that `settings` name; `own` are the settings that only it has, an object.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a name or key that does not exist, [`Error::Setting`] for a value that
    /// cannot be used.
    fn optimizer<B: Primitives>(
        settings: &TrainSettings,
        own: &Value,
    ) -> Result<Box<dyn Optimizer<B>>> {
        match settings.built_in_optimizer() {
            Some(built_in) => {
                NoSettings::from_value("train", own)?;
                Ok(Box::new(built_in))
            }
            None => {
                let known = Self::optimizers();
                let known = known.iter().map(|entry| entry.name);
                Err(Error::unknown("optimizer", &settings.optimizer, known))
            }
        }
    }
}

/// What a toolkit has, as lists: what manifests, help and tables read.
#[derive(Clone)]
pub struct Catalogue {
    /// The learners.
    pub learners: Vec<LearnerEntry>,
    /// The encoders.
    pub encoders: Vec<EncoderEntry>,
    /// The data sources.
    pub sources: Vec<SourceEntry>,
    /// The optimisers of the outer loop.
    pub optimizers: Vec<OptimizerEntry>,
}

impl Catalogue {
    /// The lists of a toolkit.
    pub fn of<T: Toolkit>() -> Self {
        Catalogue {
            learners: T::Learners::entries(),
            encoders: T::Encoders::entries(),
            sources: T::sources(),
            optimizers: T::optimizers(),
        }
    }
}

crate::settings! {
    /// No settings.
    struct NoSettings {}
}

/// Declares a toolkit that stands on another one: its learners, encoders, sources and optimisers, and
/// those of the crate.
///
/// ```ignore
/// meta_core::toolkit! {
///     /// The toolkit and what this crate adds to it.
///     pub struct Mine: meta_algos::BuiltIn;
///     learners { median_net::MedianNetSettings }
///     encoders { Kan = kan::{KanSettings, Kan} }
///     sources { moons::MoonsSettings }
///     optimizers { lion::LionSettings }
/// }
///
/// fn main() -> std::process::ExitCode {
///     meta_bench::main_with::<Mine>()
/// }
/// ```
///
/// Each part may be absent. Encoders stand beside those of this crate; a crate that has any depends on
/// `burn`.
#[macro_export]
macro_rules! toolkit {
    (
        $(#[$about:meta])*
        pub struct $name:ident: $base:path;
        $(learners { $($learner_module:ident::$learner:ident),+ $(,)? })?
        $(encoders { $($encoders:tt)+ })?
        $(sources { $($source_module:ident::$source:ident),+ $(,)? })?
        $(optimizers { $($optimizer_module:ident::$optimizer:ident),+ $(,)? })?
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        $crate::learners! {
            /// The learners that manifests can name.
            pub enum Learners: <$base as $crate::toolkit::Toolkit>::Learners {
                $($($learner_module::$learner),+)?
            }
        }

        $crate::toolkit_encoders! { $($($encoders)+)? }

        $($(mod $source_module;)+)?
        $($(mod $optimizer_module;)+)?

        impl $crate::toolkit::Toolkit for $name {
            type Learners = Learners;
            type Encoders = Encoders;

            fn sources() -> Vec<$crate::data::SourceEntry> {
                #[allow(unused_mut)]
                let mut sources = <$base as $crate::toolkit::Toolkit>::sources();
                $($(sources.push($crate::data::SourceEntry::of::<$source_module::$source>());)+)?
                sources
            }

            fn optimizers() -> Vec<$crate::optim::OptimizerEntry> {
                #[allow(unused_mut)]
                let mut optimizers = <$base as $crate::toolkit::Toolkit>::optimizers();
                $($(optimizers.push(
                    $crate::optim::OptimizerEntry::of::<$optimizer_module::$optimizer>()
                );)+)?
                optimizers
            }

            fn optimizer<B: $crate::primitives::Primitives>(
                settings: &$crate::train::TrainSettings,
                own: &$crate::settings::Value,
            ) -> $crate::Result<Box<dyn $crate::optim::Optimizer<B>>> {
                $($(if settings.optimizer
                    == <$optimizer_module::$optimizer as $crate::optim::OptimizerRule>::NAME
                {
                    return Ok(Box::new($crate::optim::OwnOptimizer {
                        rule: <$optimizer_module::$optimizer as $crate::settings::Settings>::from_value(
                            "train", own,
                        )?,
                        update: settings.update.clone(),
                    }));
                })+)?
                <$base as $crate::toolkit::Toolkit>::optimizer(settings, own)
            }
        }
    };
}

/// The encoders of a [`toolkit!`](crate::toolkit!): those of this crate, or with others beside them.
#[doc(hidden)]
#[macro_export]
macro_rules! toolkit_encoders {
    () => {
        pub use $crate::nn::encoder::EncoderSpec as Encoders;
    };
    ($($encoders:tt)+) => {
        use $crate::nn::encoder::{AnyEncoder, EncoderSpec};

        $crate::encoders! {
            /// The encoders that manifests can name.
            pub enum Encoders, Encoder: EncoderSpec, AnyEncoder {
                $($encoders)+
            }
        }
    };
}
