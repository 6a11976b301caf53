//! Reads which runs a sweep has: manifests, axes and values on the command line.

use std::path::PathBuf;

use clap::Args;
use meta_core::toolkit::Toolkit;

use super::{
    expand::Point,
    plan::{Planned, Planner},
    spec::{MEMORY_FORM, Spec, bytes},
};
use crate::{
    failure::{CommandError, Result},
    manifest::base::Base,
};

/// Which runs a sweep has.
#[derive(Debug, Args)]
pub struct SweepSelection {
    /// Manifests (`experiments/*.toml`), axes (`seed=0,1,2`) and values for all runs (`train.lr=0.01`).
    #[arg(value_name = "MANIFEST|KEY=VALUE,…", required = true)]
    pub inputs: Vec<String>,
    /// Folder with the data sets.
    #[arg(long, env = "META_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// CSV file with trials: a header with keys, a row for each.
    #[arg(long, value_name = "FILE")]
    pub trials: Option<PathBuf>,
    /// Seed of random axes and searches [default: that of the manifest, or 0].
    #[arg(long, value_name = "N")]
    pub search_seed: Option<u64>,
    /// Memory that a run may use, such as `2GB`; one that needs more is stopped and recorded as
    /// failed [default: that of the manifest, or no limit].
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Plan runs even if they need more memory than this machine has, by an estimate.
    #[arg(long)]
    pub force: bool,
}

/// A manifest with its sweep.
pub struct Set {
    /// The manifest, and what it extends.
    pub base: Base,
    /// Its sweep.
    pub spec: Spec,
}

impl Set {
    /// Plans the runs of `points`, `named` by the manifest where there are several.
    ///
    /// # Errors
    /// As [`Planner::plan`].
    pub fn plan<T: Toolkit>(
        &self,
        planner: &Planner<T>,
        points: &[Point],
        named: bool,
    ) -> Result<Vec<Planned>> {
        let mut planned = planner.plan(&self.base, points)?;
        if named {
            for planned in &mut planned {
                let name = planned.manifest.run.name.clone();
                planned.label.insert(0, ("name".to_owned(), name));
            }
        }
        Ok(planned)
    }
}

/// Tells manifests from `key=value`.
fn sort_inputs(inputs: &[String]) -> (Vec<PathBuf>, Vec<String>) {
    let setting = |input: &&String| input.contains('=') && !input.ends_with(".toml");
    let (settings, manifests): (Vec<&String>, Vec<&String>) = inputs.iter().partition(setting);
    (
        manifests.into_iter().map(PathBuf::from).collect(),
        settings.into_iter().cloned().collect(),
    )
}

impl SweepSelection {
    /// Reads the manifests with their sweeps.
    ///
    /// # Errors
    /// Whatever is wrong with a manifest, an axis or a value.
    pub fn read(&self) -> Result<Vec<Set>> {
        let (manifests, settings) = sort_inputs(&self.inputs);
        if manifests.is_empty() {
            return Err(CommandError::Usage(
                "expected at least one manifest, a TOML file, besides axes and values".to_owned(),
            ));
        }
        let memory = match &self.memory {
            None => None,
            Some(text) => Some(bytes(text).ok_or_else(|| {
                CommandError::Usage(format!("`--memory {text}`: {}", MEMORY_FORM))
            })?),
        };
        manifests
            .iter()
            .map(|path| {
                let base = Base::read(path)?;
                let mut spec = Spec::read(&base.documents, &settings, self.trials.as_deref())?;
                spec.search_seed = self.search_seed.unwrap_or(spec.search_seed);
                spec.memory = memory.or(spec.memory);
                Ok(Set { base, spec })
            })
            .collect()
    }
}
