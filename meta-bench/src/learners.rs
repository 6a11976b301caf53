//! The learners that the binary knows, as a type: a crate with learners of its own brings another.

use meta_algos::LearnerEntry;
use meta_core::{
    Result, learner::Learner, nn::encoder::EncoderSpec, primitives::Primitives, rng::Seed,
    task::TaskSpec,
};
use serde_json::Value;

/// A list of learners that manifests can name.
pub trait Learners: 'static {
    /// All of them.
    fn entries() -> Vec<LearnerEntry>;

    /// Checks the settings (an object) of the learner called `name`.
    ///
    /// # Errors
    /// For a name or key that does not exist, or a value that cannot be used.
    fn check(
        name: &str,
        settings: &Value,
        architecture: &EncoderSpec,
        spec: &TaskSpec,
    ) -> Result<()>;

    /// Builds the learner called `name`, with parameters drawn from `seed`.
    ///
    /// # Errors
    /// As [`Learners::check`].
    fn build<B: Primitives>(
        name: &str,
        settings: &Value,
        architecture: EncoderSpec,
        spec: &TaskSpec,
        seed: Seed,
        device: &B::Device,
    ) -> Result<Box<dyn Learner<B>>>;
}

/// The learners of `meta-algos`.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn;

impl Learners for BuiltIn {
    fn entries() -> Vec<LearnerEntry> {
        meta_algos::learners()
    }

    fn check(
        name: &str,
        settings: &Value,
        architecture: &EncoderSpec,
        spec: &TaskSpec,
    ) -> Result<()> {
        meta_algos::check(name, settings, architecture, spec)
    }

    fn build<B: Primitives>(
        name: &str,
        settings: &Value,
        architecture: EncoderSpec,
        spec: &TaskSpec,
        seed: Seed,
        device: &B::Device,
    ) -> Result<Box<dyn Learner<B>>> {
        meta_algos::build::<EncoderSpec, B>(name, settings, architecture, spec, seed, device)
    }
}
