//! Writes the record of a run: what was run, on what, and with what.

use meta_core::{params::Params, primitives::Primitives, toolkit::Toolkit};
use serde_json::{Value, json};

use crate::experiment::Experiment;

/// The release of Burn that this binary is built on (pinned in the workspace).
pub const BURN_VERSION: &str = "0.21.0";

/// What was run, on what, and with what.
pub fn record<T: Toolkit, B: Primitives>(
    experiment: &Experiment<T>,
    hash: &str,
    parameters: &Params<B>,
    device: &B::Device,
) -> Value {
    let dtype = parameters
        .to_data()
        .first()
        .map(|(_, data)| format!("{:?}", data.dtype).to_lowercase());
    let manifest = &experiment.manifest;
    let sizes = experiment.sizes::<B>(parameters.num_elements());
    let settings = sizes.train_settings(&manifest.train);
    let data_folder = experiment
        .data_folder
        .as_ref()
        .map(|folder| std::path::absolute(folder).unwrap_or_else(|_| folder.clone()));
    json!({
        "hash": hash,
        "name": manifest.run.name,
        "seed": manifest.run.seed,
        "backend": manifest.run.backend,
        "device": format!("{device:?}"),
        "dtype": dtype,
        "threads": rayon::current_num_threads(),
        "system": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        "parameters": parameters.num_elements(),
        "task_chunk": settings.task_chunk,
        "versions": { "meta": env!("CARGO_PKG_VERSION"), "burn": BURN_VERSION },
        "commit": option_env!("META_COMMIT"),
        "protocol": experiment.protocol(),
        "data": {
            "source": experiment.source.name(),
            "content": experiment.source.content_hash(),
            "frozen": experiment.source.frozen_hash(),
            "description": experiment.source.describe(),
            "folder": data_folder,
            "train_classes": experiment.spec.train_classes,
            "test_episode_set": experiment.test_episodes().hash(),
        },
        "manifest": manifest.values(),
        "origins": manifest.origins(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_version_of_burn_is_the_pinned_one() {
        let workspace = include_str!("../../../Cargo.toml");
        let line = workspace.lines().find(|line| line.starts_with("burn = "));
        let pinned = format!("version = \"={BURN_VERSION}\"");
        assert!(line.is_some_and(|line| line.contains(&pinned)), "{line:?}");
    }
}
