//! Arguments that name a manifest.

use std::path::PathBuf;

use clap::Args;
use meta_core::toolkit::{Catalogue, Toolkit};

use super::Manifest;
use crate::failure::Result;

/// A manifest and what is changed in it.
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// The manifest, a TOML file.
    pub manifest: PathBuf,
    /// Changes: `key.path=value`, such as `train.lr=0.01` or `learner.name=maml`.
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Folder with the data sets.
    #[arg(long, env = "META_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl ManifestArgs {
    /// Resolves the manifest.
    ///
    /// # Errors
    /// As [`Manifest::resolve`].
    pub fn resolve<T: Toolkit>(&self) -> Result<Manifest> {
        Manifest::resolve(&self.manifest, &self.overrides, &Catalogue::of::<T>())
    }
}
