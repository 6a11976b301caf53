//! The meta-learners, one file each, and the list of them.
//!
//! A learner's file holds its equations, its settings and its implementation of
//! [`meta_core::learner::Learner`]; a line in the list below puts it into the binary, the manifests,
//! the tables of the documentation and the conformance suite.

pub mod anil;
pub mod anp;
pub mod cavia;
pub mod cnp;
pub mod feat;
pub mod imaml;
pub mod in_context;
pub mod maml;
pub mod maml_pp;
pub mod mann;
pub mod matching_net;
pub mod meta_attention;
pub mod meta_lstm;
pub mod meta_sgd;
pub mod multimodal_protonet;
pub mod protonet;
pub mod relation_net;
pub mod reptile;
pub mod ridge;
pub mod siamese;
pub mod snail;
pub mod task_attention;
pub mod task_relations;
pub mod task_transformer;
pub mod tnp;

#[cfg(test)]
mod toy;

use meta_core::{
    Error, Result,
    learner::{GradientOf, Learner, LearnerInfo, LearnerSettings},
    nn::encoder::Architecture,
    primitives::Primitives,
    rng::Seed,
    settings::Settings,
    task::TaskSpec,
};
use serde_json::Value;

/// A learner of the list.
pub struct LearnerEntry {
    /// What the learner's file says of it.
    pub info: LearnerInfo,
    /// Its default settings, as an object.
    pub default_settings: Value,
    /// What its meta-gradient is the gradient of.
    pub gradient_of: GradientOf,
}

impl LearnerEntry {
    /// The entry of the learner with settings `S`.
    pub fn of<S: LearnerSettings>() -> Self {
        LearnerEntry {
            info: S::INFO,
            default_settings: S::defaults(),
            gradient_of: S::gradient_of(),
        }
    }
}

macro_rules! learners {
    ($($settings:ty),+ $(,)?) => {
        /// All learners that a manifest can name.
        pub fn learners() -> Vec<LearnerEntry> {
            vec![$(LearnerEntry::of::<$settings>()),+]
        }

        /// Checks the settings (an object) of the learner called `name` against the network and the
        /// tasks.
        ///
        /// # Errors
        /// [`Error::Unknown`] for a name or key that does not exist, [`Error::Setting`] for a value
        /// that cannot be used.
        pub fn check<A: Architecture>(
            name: &str,
            settings: &Value,
            architecture: &A,
            spec: &TaskSpec,
        ) -> Result<()> {
            $(if name == <$settings>::INFO.name {
                return <$settings>::from_value("learner", settings)?.check(architecture, spec);
            })+
            Err(unknown(name))
        }

        /// Builds the learner called `name`, with parameters drawn from `seed`.
        ///
        /// # Errors
        /// As [`check`].
        pub fn build<A: Architecture, B: Primitives>(
            name: &str,
            settings: &Value,
            architecture: A,
            spec: &TaskSpec,
            seed: Seed,
            device: &B::Device,
        ) -> Result<Box<dyn Learner<B>>> {
            $(if name == <$settings>::INFO.name {
                return <$settings>::from_value("learner", settings)?
                    .build(architecture, spec, seed, device);
            })+
            Err(unknown(name))
        }
    };
}

learners! {
    anil::AnilSettings,
    cavia::CaviaSettings,
    imaml::ImamlSettings,
    maml::MamlSettings,
    maml_pp::MamlPpSettings,
    meta_lstm::MetaLstmSettings,
    meta_sgd::MetaSgdSettings,
    reptile::ReptileSettings,
    feat::FeatSettings,
    matching_net::MatchingNetSettings,
    protonet::ProtoNetSettings,
    relation_net::RelationNetSettings,
    ridge::RidgeSettings,
    siamese::SiameseSettings,
    mann::MannSettings,
    snail::SnailSettings,
    in_context::InContextSettings,
    cnp::CnpSettings,
    anp::AnpSettings,
    tnp::TnpSettings,
    meta_attention::MetaAttentionSettings,
    multimodal_protonet::MultimodalProtoNetSettings,
    task_attention::TaskAttentionSettings,
    task_relations::TaskRelationsSettings,
    task_transformer::TaskTransformerSettings,
}

fn unknown(name: &str) -> Error {
    Error::unknown(
        "learner",
        name,
        learners().iter().map(|entry| entry.info.name),
    )
}

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
