//! `meta` with one learner more: what a crate of your own needs.

mod median_net;

use std::process::ExitCode;

use median_net::MedianNetSettings;
use meta_algos::LearnerEntry;
use meta_bench::Learners;
use meta_core::{
    Result,
    learner::{Learner, LearnerSettings},
    nn::encoder::EncoderSpec,
    primitives::Primitives,
    rng::Seed,
    settings::Settings,
    task::TaskSpec,
};
use serde_json::Value;

/// The learners of the toolkit and `median_net`.
struct Mine;

impl Learners for Mine {
    fn entries() -> Vec<LearnerEntry> {
        let mut entries = meta_algos::learners();
        entries.push(LearnerEntry::of::<MedianNetSettings>());
        entries
    }

    fn check(
        name: &str,
        settings: &Value,
        architecture: &EncoderSpec,
        spec: &TaskSpec,
    ) -> Result<()> {
        match name == MedianNetSettings::INFO.name {
            true => MedianNetSettings::from_value("learner", settings)?.check(architecture, spec),
            false => meta_algos::check(name, settings, architecture, spec),
        }
    }

    fn build<B: Primitives>(
        name: &str,
        settings: &Value,
        architecture: EncoderSpec,
        spec: &TaskSpec,
        seed: Seed,
        device: &B::Device,
    ) -> Result<Box<dyn Learner<B>>> {
        match name == MedianNetSettings::INFO.name {
            true => MedianNetSettings::from_value("learner", settings)?.build(
                architecture,
                spec,
                seed,
                device,
            ),
            false => meta_algos::build(name, settings, architecture, spec, seed, device),
        }
    }
}

fn main() -> ExitCode {
    meta_bench::main_with::<Mine>()
}
