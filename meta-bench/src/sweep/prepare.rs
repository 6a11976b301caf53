//! Prepares a sweep: all of its runs are planned before the first one starts.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use meta_core::toolkit::Toolkit;

use super::{
    plan::Planner,
    runs::Run,
    search,
    selection::{Set, SweepSelection},
    spec::{Method, Search},
    worker,
};
use crate::failure::Result;

/// A sweep that is planned: every run is good.
pub struct Sweep<T> {
    /// Its manifests.
    pub sets: Vec<Set>,
    /// Who plans more runs.
    pub planner: Planner<T>,
    /// Its runs.
    pub runs: Vec<Run>,
    /// Runs that are the same as others before them.
    pub same: usize,
    /// The folder of the sweep.
    pub folder: PathBuf,
    /// Folder that data sets lie in.
    pub data: Option<PathBuf>,
}

impl<T: Toolkit> Sweep<T> {
    /// Plans the sweep that is selected, for run folders in `runs_folder`.
    ///
    /// # Errors
    /// Whatever is wrong with a manifest, an axis or a run.
    pub fn new(selection: &SweepSelection, runs_folder: &Path) -> Result<Self> {
        let sets = selection.read()?;
        let planner = Planner::<T>::new(runs_folder, selection.data.as_deref());
        let many = sets.len() > 1;
        let mut runs = Vec::new();
        let mut seen = HashSet::new();
        let mut same = 0;
        let mut identity = blake3::Hasher::new();
        for set in &sets {
            let points = match set
                .spec
                .search
                .as_ref()
                .filter(|search| search.method == Method::Tpe)
            {
                Some(search) => {
                    search::check(&set.spec, many)?;
                    search
                        .corners()
                        .iter()
                        .flat_map(|corner| set.spec.trial(0, corner))
                        .collect()
                }
                None => set.spec.points(),
            };
            let planned = set.plan(&planner, &points, many)?;
            if let Some(search) = &set.spec.search {
                let text = format!("{:?} {}\n", search, set.spec.search_seed);
                identity.update(text.as_bytes());
            }
            let tpe = |search: &Search| search.method == Method::Tpe;
            if set.spec.halving.is_some() || set.spec.search.as_ref().is_some_and(tpe) {
                search::check_runs(&set.spec, &planned)?;
            }
            for planned in planned {
                identity.update(planned.hash.as_bytes());
                if seen.insert(planned.hash.clone()) {
                    runs.push(Run {
                        planned,
                        memory: set.spec.memory,
                    })
                } else {
                    same += 1
                }
            }
        }
        let name = match (sets.as_slice(), runs.first()) {
            ([_], Some(run)) => run.planned.manifest.run.name.clone(),
            _ => "sweep".to_owned(),
        };
        let identity = identity.finalize().to_hex();
        Ok(Sweep {
            folder: runs_folder
                .join("sweeps")
                .join(format!("{name}-{}", &identity[..12])),
            sets,
            planner,
            runs,
            same,
            data: selection.data.clone(),
        })
    }

    /// The search that looks at results, if this is one.
    pub fn tpe(&self) -> Option<&Set> {
        self.sets.iter().find(|set| {
            set.spec
                .search
                .as_ref()
                .is_some_and(|search| search.method == Method::Tpe)
        })
    }

    /// Writes the plan of `runs` into the folder of the sweep.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_plan(&self, runs: &[Run]) -> Result<()> {
        let lines: Vec<worker::Line> = runs
            .iter()
            .map(|run| worker::Line::new(&run.planned, self.data.as_deref(), run.memory))
            .collect();
        worker::write(&self.folder, &lines)
    }
}
